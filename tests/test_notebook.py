"""`%load_ext dav2_utils` in a real IPython shell, and in a real kernel as a notebook drives one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from nbclient import NotebookClient

from dav2_utils import load_ipython_extension, unload_ipython_extension

SETUP = """
import torch
net = torch.nn.Linear(2, 2)
wrapped = {f"module.{name}": tensor for name, tensor in net.state_dict().items()}
"""


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[InteractiveShell]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    shell = InteractiveShell.instance(colors="nocolor")
    shell.run_cell(SETUP)
    yield shell
    shell.run_line_magic("unload_ext", "dav2_utils")
    InteractiveShell.clear_instance()


def said(shell: InteractiveShell, capsys: pytest.CaptureFixture[str], code: str) -> str:
    capsys.readouterr()
    shell.run_cell(code)
    written = capsys.readouterr()
    return written.out + written.err


def test_a_failed_load_is_explained_under_its_traceback(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    torch_before = torch.nn.Module.load_state_dict
    plain = said(shell, capsys, "net.load_state_dict(wrapped)")
    assert "RuntimeError" in plain and "wrapper_prefix" not in plain
    shell.run_line_magic("load_ext", "dav2_utils")
    explained = said(shell, capsys, "net.load_state_dict(wrapped)")
    assert 'Missing key(s) in state_dict: "weight"' in explained, "the traceback stays"
    assert explained.index("Unexpected key(s)") < explained.index("(wrapper_prefix)")
    assert torch.nn.Module.load_state_dict is torch_before, "torch is not patched"
    shell.run_line_magic("unload_ext", "dav2_utils")
    assert said(shell, capsys, "net.load_state_dict(wrapped)") == plain


@pytest.mark.parametrize(
    "code", ["1 / 0", "raise KeyError('module.weight')", "{}['model']", "1 +", "%no_such_magic", "int('x')"]
)
def test_other_exceptions_look_as_before(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str], code: str
) -> None:
    before = said(shell, capsys, code)
    shell.run_line_magic("load_ext", "dav2_utils")
    assert said(shell, capsys, code) == before


def test_loaded_twice_it_is_gone_after_one_unloading(shell: InteractiveShell) -> None:
    before = shell.custom_exceptions, shell.CustomTB
    unload_ipython_extension(shell)  # never loaded: nothing to put back
    load_ipython_extension(shell)
    load_ipython_extension(shell)
    assert (shell.custom_exceptions, shell.CustomTB) != before
    unload_ipython_extension(shell)
    assert (shell.custom_exceptions, shell.CustomTB) == before


def test_our_own_errors_are_not_explained_twice(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    shell.run_line_magic("load_ext", "dav2_utils")
    shown = said(shell, capsys, "from dav2_utils import load_model; load_model('no_such_file.pth')")
    assert "no_such_file.pth" in shown and "renaming alone" not in shown


def test_a_handler_of_somebody_else_keeps_its_exceptions(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    def theirs(self: Any, kind: Any, error: Any, tb: Any, tb_offset: Any = None) -> None:
        print("theirs:", kind.__name__)

    shell.set_custom_exc((ValueError,), theirs)
    shell.run_line_magic("load_ext", "dav2_utils")
    assert said(shell, capsys, "int('x')") == "theirs: ValueError\n"
    assert "wrapper_prefix" in said(shell, capsys, "net.load_state_dict(wrapped)")
    shell.run_line_magic("unload_ext", "dav2_utils")
    assert said(shell, capsys, "int('x')") == "theirs: ValueError\n"
    shell.set_custom_exc((), None)


def test_in_a_kernel(tmp_path: Path) -> None:
    cells = ["%load_ext dav2_utils" + SETUP, "net.load_state_dict(wrapped)", "1 / 0"]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(book, timeout=120, allow_errors=True).execute(cwd=str(tmp_path))
    error, explained = book.cells[1].outputs
    assert error.output_type == "error" and "Missing key(s)" in error.evalue
    assert "wrapper_prefix" in explained.data["text/plain"] and "wrapper_prefix" in explained.data["text/html"]
    assert [output.output_type for output in book.cells[2].outputs] == ["error"]
