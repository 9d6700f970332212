"""The lessons: their rules, every one run in a fresh kernel and compared with what is stored, every solution
checked."""

from __future__ import annotations

import base64
import copy
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lesson_badges
import lesson_pages
import lesson_rules
import lesson_runs
import lesson_words
import lessons
import nbformat
import pytest

ALL = lessons.lessons()
IDS = [path.stem for path in ALL]
LESSONS = [path for path in ALL if path.stem != lesson_rules.SCRATCH]
# The errors that are meant: lesson, cell, exception, and what torch or this package says in it.
MEANT = {
    ("01_reproduce_the_error", "first-face"): (
        "RuntimeError",
        'Missing key(s) in state_dict: "pretrained.cls_token"',
        'Unexpected key(s) in state_dict: "model", "optimizer", "epoch", "previous_best"',
    ),
    ("01_reproduce_the_error", "second-face"): (
        "RuntimeError",
        'Missing key(s) in state_dict: "pretrained.cls_token"',
        'Unexpected key(s) in state_dict: "module.pretrained.cls_token"',
    ),
    ("05_save_it_right", "guard"): ("CheckpointError", "The weights did not arrive: 0 of 183 tensors"),
    ("06_checkpoint_clinic", "p13"): ("AmbiguousSets", "state_dict", "state_dict_ema"),
}


@pytest.mark.elsewhere
@pytest.mark.long
@pytest.mark.parametrize("path", ALL, ids=IDS)
def test_a_fresh_run_says_what_is_stored(path: Path, tmp_path: Path) -> None:
    stored = lesson_runs.read(path)
    fresh = lesson_runs.execute(path, tmp_path, environment=lesson_runs.secluded(tmp_path), solve=True)
    assert lesson_runs.differences(stored, fresh) == []
    for cell in fresh.cells:
        for output in cell.get("outputs", []):
            assert output.get("name") != "stderr", f"{cell.id} warns: {output.text}"
            if output.output_type == "error":
                name, *words = MEANT[path.stem, cell.id]
                assert output.ename == name
                for word in words:
                    assert word in output.evalue
    for _, stub, _ in lesson_runs.exercises(fresh):
        assert "Not attempted." in "".join(lesson_runs.texts(stub.outputs)), stub.id
        assert "Right." in stub.metadata["solved"], f"the solution of {stub.id} is not right any more"


def test_every_meant_error_is_stored() -> None:
    stored = {
        (path.stem, cell.id)
        for path in ALL
        for cell in lesson_runs.read(path).cells
        if any(output.output_type == "error" for output in cell.get("outputs", []))
    }
    assert stored == set(MEANT)


# The rules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ALL, ids=IDS)
def test_a_lesson_keeps_the_rules(path: Path) -> None:
    assert lesson_rules.lint(path) == []


def spoil(nb: Any, cell: str, **changes: Any) -> None:
    next(c for c in nb.cells if c.id == cell).update(changes)


def without(nb: Any, text: str) -> None:
    for cell in nb.cells:
        cell.source = cell.source.replace(text, "")


def first_output(nb: Any, kind: str) -> Any:
    return next(o for c in nb.cells for o in c.get("outputs", []) if o.output_type == kind)


def forget_alt(nb: Any) -> None:
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.metadata = {}


SPOILED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "two H1": (lambda nb: spoil(nb, "recap", source="# Recap"), "one H1"),
    "a level skipped": (lambda nb: spoil(nb, "scene-why", source="#### A street"), "skips a level"),
    "no recap": (lambda nb: without(nb, "## Recap"), "H2 sections must be"),
    "no minutes": (lambda nb: without(nb, "20 minutes"), "N minutes"),
    "no link onwards": (lambda nb: spoil(nb, "next", source="## What next\n\nNothing."), "must hold links"),
    "a dead link": (lambda nb: spoil(nb, "recap", source="## Recap\n\n[x](nowhere.ipynb)"), "leads nowhere"),
    "a long cell": (lambda nb: spoil(nb, "scene", source="\n".join(["1"] * 21)), "21 lines"),
    "long cells": (lambda nb: [c.update(source="1\n" * 7) for c in nb.cells if c.cell_type == "code"], "median"),
    "a wide line": (lambda nb: spoil(nb, "scene", source="x" * 111), "more than 104 characters"),
    "no prose before": (lambda nb: spoil(nb, "models-why", cell_type="raw"), "no prose before"),
    "a random id": (lambda nb: spoil(nb, "scene", id="3f2a9b10"), "readable id"),
    "one id twice": (lambda nb: spoil(nb, "scene", id="models"), "readable id of its own"),
    "no difficulty": (lambda nb: without(nb, "Difficulty: easy"), "Difficulty"),
    "one hint": (lambda nb: without(nb, "<summary>Hint 2</summary>"), "three folded"),
    "no solution": (lambda nb: without(nb, "```python"), "the solution must be"),
    "not executed": (lambda nb: spoil(nb, "scene", execution_count=None), "not those of one run"),
    "timing": (lambda nb: spoil(nb, "scene", metadata={"execution": {}}), "metadata of a run"),
    "a version": (lambda nb: nb.metadata.language_info.update(version="3.11"), "metadata must be"),
    "a silent error": (
        lambda nb: spoil(nb, "scene", outputs=[nbformat.v4.new_output("error", ename="E", evalue="")]),
        "raises-exception",
    ),
    "a warning": (
        lambda nb: spoil(nb, "scene", outputs=[nbformat.v4.new_output("stream", name="stderr", text="Warning")]),
        "a warning",
    ),
    "no alt text": (forget_alt, "no alt text"),
    "an address": (lambda nb: first_output(nb, "stream").update(text="<at 0x7f3a2b4c5d>"), "one machine"),
    "a path": (lambda nb: first_output(nb, "stream").update(text="/home/ada/latest.pth"), "one machine"),
    "torch's own frames": (
        lambda nb: first_output(nb, "stream").update(output_type="error", traceback=["File torch/module.py:1"]),
        "frames outside the notebook",
    ),
    "another first cell": (lambda nb: spoil(nb, "setup", source="import sys"), "first cell do not go with"),
    "a widget": (
        lambda nb: first_output(nb, "execute_result").data.update({lesson_runs.WIDGET: "{}"}),
        "state of a widget",
    ),
}


@pytest.mark.filterwarnings("ignore::nbformat.warnings.DuplicateCellId")
@pytest.mark.parametrize("name", SPOILED)
def test_each_rule_sees_what_it_forbids(name: str, tmp_path: Path) -> None:
    (tmp_path / "notebooks").mkdir()
    for path in [*lessons.NOTEBOOKS.glob("*.ipynb")]:
        (tmp_path / "notebooks" / path.name).touch()
    change, problem = SPOILED[name]
    nb = lesson_runs.read(lessons.NOTEBOOKS / "04_see_the_depth.ipynb")
    change(nb)
    target = tmp_path / "notebooks" / "04_see_the_depth.ipynb"
    target.write_text(nbformat.writes(nb), encoding="utf-8")
    assert any(problem in found for found in lesson_rules.lint(target)), lesson_rules.lint(target)


def test_a_large_file_is_seen(tmp_path: Path) -> None:
    nb = lesson_runs.read(ALL[0])
    first_output(nb, "stream").text = "x" * lesson_rules.LARGEST_FILE
    lesson_runs.write(nb, tmp_path / ALL[0].name)
    assert any("are more than" in found for found in lesson_rules.lint(tmp_path / ALL[0].name))


# The comparison ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "fresh", "same"),
    [
        ("AbsRel 0.13", "AbsRel 0.14", True),
        ("AbsRel 0.13", "AbsRel 0.31", False),
        ("fixed 0.09", "fixed 0.15", True),
        ("fixed 0.15", "fixed 0.09", True),
        ("delta1 0.83", "delta1 0.54", False),
        ("0.1 to 20.0 m", "0.2 to 20.0 m", True),  # one step of the last digit, twice as much
        ("0.0 to 20.0 m", "0.1 to 20.0 m", True),
        ("0.2 to 20.0 m", "0.5 to 20.0 m", False),
        ("9.9 m", "10.0 m", True),
        ("0.05 m", "0.50 m", False),  # ten times off, up and down
        ("20.0 m", "2.0 m", False),
        ("0.003", "0.030", False),
        ("bias -0.53", "bias 0.53", False),
        ("bias -0.01", "bias 0.01", False),  # a step apart, and still another sign
        ("nearer 2.5", "farther 2.5", False),
        ("183 tensors", "183  tensors\n", True),
        ("183 tensors", "182 tensors", False),
        ("fixed 3.66", "broken 3.66", False),
        ("one 1.0", "one 1.0 1.0", False),
        ("sha256:ab12 torch 2.13.0+cpu", "sha256:0f9e torch 2.6.0", True),
        ("numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar", True),
        ("numpy._core.multiarray.scalar", "numpy.core.multiarray.array", False),
    ],
)
def test_text_is_compared_after_rounding(stored: str, fresh: str, same: bool) -> None:
    assert lesson_runs.same_text(stored, fresh) is same


def spoiled_lines(line: str) -> Iterator[str]:
    """`line` with a count off by one, a number ten times larger or with a sign, or a word gone."""
    for found in lesson_runs.NUMBER.finditer(line):
        before, number, after = line[: found.start()], found[0], line[found.end() :]
        if "." not in number:
            yield f"{before}{int(number) + 1}{after}"
        if float(number):
            digits = len(number.partition(".")[2])
            yield f"{before}{10 * float(number):.{digits}f}{after}"
            yield f"{before}-{number}{after}"
    for found in re.finditer(r"[a-z]{2,}", line):
        yield line[: found.start()] + line[found.end() :]


@pytest.mark.parametrize("path", ALL, ids=IDS)
def test_no_number_sign_or_word_of_a_lesson_may_change(path: Path) -> None:
    outputs = [output for cell in lesson_runs.read(path).cells for output in cell.get("outputs", [])]
    lines = {line for text in lesson_runs.texts(outputs) for line in text.splitlines() if len(line) < 200}
    spoiled = [(line, other) for line in lines for other in spoiled_lines(lesson_runs.MACHINE.sub("*", line))]
    assert len(spoiled) > 50
    assert [pair for pair in spoiled if lesson_runs.same_text(*pair)] == []


def test_pictures_are_compared_by_what_they_show() -> None:
    import numpy as np

    from dav2_utils import show_depth

    depth = np.linspace(2, 16, 40 * 60, dtype=np.float32).reshape(40, 60)

    def png(values: Any) -> str:
        return base64.b64encode(show_depth(values, max_depth=20).png).decode()

    assert lesson_runs.same_picture(png(depth), png(depth * 1.02))
    assert not lesson_runs.same_picture(png(depth), png(depth[::-1]))


def test_a_changed_output_is_a_difference() -> None:
    stored = lesson_runs.read(lessons.NOTEBOOKS / "04_see_the_depth.ipynb")
    for spoiled in (
        lambda nb: first_output(nb, "stream").update(text="AbsRel 9.99"),
        lambda nb: spoil(nb, "scene", outputs=[]),
    ):
        fresh = copy.deepcopy(stored)
        assert lesson_runs.differences(stored, fresh) == []
        spoiled(fresh)
        assert lesson_runs.differences(stored, fresh) != []


def test_what_belongs_to_one_run_is_taken_out() -> None:
    output = nbformat.v4.new_output
    cell = nbformat.v4.new_code_cell("x", id="x", execution_count=7, metadata={"execution": {"a": "1"}, "tags": ["t"]})
    cell.outputs = [
        output("stream", name="stderr", text="\rdepth:   0%|   | 0/3\rdepth: 100%|###| 3/3 [00:01<00:00,  2.1it/s]\n"),
        output("stream", name="stdout", text="wrote runs\\05\\a"),
        output("stream", name="stdout", text=".pth\n"),
        output("display_data", data={lesson_runs.WIDGET: {"model_id": "0a1b"}, "text/plain": "VBox()"}),
        output(
            "error",
            ename="E",
            evalue="no",
            traceback=["\x1b[31mCell In[7], line 1\x1b[0m", "E: no"],
        ),
    ]
    nb = lesson_runs.normalise(nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {}}))
    clean = nb.cells[0]
    assert (clean.execution_count, clean.metadata) == (1, {"tags": ["t"]})
    assert [out.output_type for out in clean.outputs] == ["stream", "execute_result", "error"]
    assert clean.outputs[0].text == "wrote runs/05/a.pth\n"
    assert clean.outputs[1].data == {"text/plain": lesson_runs.WIDGET_TEXT}
    assert clean.outputs[2].traceback == ["Cell In[1], line 1", "E: no"]
    assert "widgets" not in nb.metadata


# The parts that hang together --------------------------------------------------------------------------------------


def test_the_map_and_the_readme_say_what_the_lessons_say() -> None:
    table = lesson_rules.section(lesson_runs.read(ALL[0]), "The map")
    rows = dict(re.findall(r"\((\d\d_\w+)\.ipynb\) \| (\d+) \|", table))
    said = {path.stem: str(lesson_rules.minutes(lesson_runs.read(path))) for path in LESSONS}
    assert rows == {name: minutes for name, minutes in said.items() if name != ALL[0].stem}
    readme = (lesson_rules.ROOT / "README.md").read_text(encoding="utf-8")
    assert dict(re.findall(r"^\| \[\d\d\]\(notebooks/(\w+)\.ipynb\) \|.*\| (\d+) \|$", readme, re.M)) == said


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make")
def test_make_lab_serves_the_folder_that_the_links_lead_to() -> None:
    """A Jupyter started in my_lessons/ cannot open ../docs, to which lesson 00 links."""
    said = subprocess.run(["make", "-n", "lab"], cwd=lesson_rules.ROOT, capture_output=True, text=True, check=True)
    words = next(line for line in said.stdout.splitlines() if "jupyter lab" in line).split()
    assert not [word for word in words if word.startswith(("notebooks", "my_lessons"))], (
        "a path makes its folder the root"
    )
    assert "--LabApp.default_url=/lab/tree/my_lessons/00_start_here.ipynb" in words
    assert any(line.endswith("dav2 lessons") for line in said.stdout.splitlines())


def test_what_a_class_writes_git_does_not_see() -> None:
    names = ["my_lessons/02_inspect_the_keys.ipynb", "my_lessons/runs/streets/latest.pth", "wheelhouse/a.whl"]
    asked = subprocess.run(["git", "check-ignore", *names], cwd=lesson_rules.ROOT, capture_output=True, text=True)
    if asked.returncode == 128:
        pytest.skip("this is not a clone")
    assert asked.stdout.split() == names
    makefile = (lesson_rules.ROOT / "Makefile").read_text(encoding="utf-8")
    assert "my_lessons" not in makefile.rpartition("\nclean:")[2].partition("\t")[2], "make clean spares them"


def test_a_kernel_as_the_lessons_have_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors end in the cells, programs are found, and the processor is the one that `make test-elsewhere` imitates."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    cell = nbformat.v4.new_code_cell
    cells = [
        cell("%load_ext dav2_utils.classroom", id="on"),
        cell("import sys, torch\nprogram = !command -v dav2\nprint(program)", id="program"),
        cell("torch.backends.cpu.get_cpu_capability()", id="processor"),
        cell("def load(state):\n    torch.nn.Linear(1, 1).load_state_dict(state)", id="define"),
        cell("load({})", id="fails", metadata={"tags": ["raises-exception"]}),
        cell("print(len(str(sys.last_value)))", id="whole"),
        cell("1 +", id="syntax", metadata={"tags": ["raises-exception"]}),
    ]
    lesson_runs.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "x.ipynb")
    done = {each.id: each for each in lesson_runs.execute(tmp_path / "x.ipynb", tmp_path).cells}
    assert str(Path(sys.executable).parent) in done["program"].outputs[0].text
    assert lesson_runs.texts(done["processor"].outputs) == ["'DEFAULT'"]
    shown = "\n".join(done["fails"].outputs[0].traceback)
    assert re.findall(r"^(Cell|File) ", shown, re.M) == ["Cell", "Cell"] and "in load(state)" in shown
    assert "load({})" in shown and shown.endswith('Missing key(s) in state_dict: "weight", "bias". ')
    assert done["whole"].outputs[0].text.strip() == str(len(done["fails"].outputs[0].evalue))
    assert "SyntaxError" in "\n".join(done["syntax"].outputs[0].traceback)


def test_every_call_and_word_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert lesson_words.unexplained(ALL) == []
    spoiled = lesson_words.GLOSSARY.read_text(encoding="utf-8").replace("HashStore", "Store").replace("**EMA**", "EMA")
    (tmp_path / "glossary.md").write_text(spoiled, encoding="utf-8")
    monkeypatch.setattr(lesson_words, "GLOSSARY", tmp_path / "glossary.md")
    assert [problem.split()[-1] for problem in lesson_words.unexplained(ALL)] == ["use"]
    nb = lesson_runs.read(ALL[2])
    without(nb, "`HashStore`")
    spoil(nb, "families", source="import torch\ntorch.rot90(x, dims=2)")
    lesson_runs.write(nb, tmp_path / ALL[2].name)
    problems = lesson_words.unexplained([*ALL[:2], tmp_path / ALL[2].name])
    assert any("calls rot90" in problem for problem in problems) and any("calls HashStore" in p for p in problems)
    assert any("calls dims" in problem for problem in problems), "what is given by name is seen, too"


def test_lessons_run_in_an_old_locale_too() -> None:
    """torch.compile's own backend reads a template in the locale's encoding, and fails in GBK or ASCII."""
    code = "".join(cell.source for path in ALL for cell in lesson_runs.read(path).cells if cell.cell_type == "code")
    assert len(re.findall(r"torch\.compile\(", code)) == code.count('backend="eager")') > 2


def test_badges_come_from_one_address_and_are_left_out_without() -> None:
    table = '[project.urls]\nRepository = "https://github.com/some/where"\n'
    where = lesson_badges.address(table)
    assert where == "https://github.com/some/where" and lesson_badges.address("[project]\n") == ""
    for path in ALL:
        nb = lesson_runs.read(path)
        plain = copy.deepcopy(nb)
        lesson_badges.dressed(nb, path.name, where)
        title, setup = nb.cells[0].source, next(c for c in nb.cells if c.id == "setup").source
        assert f"colab.research.google.com/github/some/where/blob/main/notebooks/{path.name}" in title
        assert f"mybinder.org/v2/gh/some/where/main?urlpath=lab/tree/my_lessons/{path.name}" in title
        assert "git clone --quiet --depth 1 https://github.com/some/where" in setup
        assert lesson_badges.dressed(nb, path.name, where) == nb, "twice is once"
        assert lesson_badges.dressed(nb, path.name, lesson_badges.address()) == plain


def test_the_readmes_picture_is_the_one_in_lesson_04() -> None:
    cell = next(c for c in lesson_runs.read(lessons.NOTEBOOKS / "04_see_the_depth.ipynb").cells if c.id == "four-maps")
    kept = lesson_rules.ROOT / "docs" / "four_maps.png"
    assert base64.b64decode(cell.outputs[0].data["image/png"]) == kept.read_bytes()
    assert kept.stat().st_size < 150_000


def test_the_first_cell_installs_on_colab_and_does_nothing_at_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from IPython.core.inputtransformer2 import TransformerManager

    sources = {next(c.source for c in lesson_runs.read(path).cells if c.cell_type == "code") for path in ALL}
    assert len(sources) == 1, "every lesson begins with the same cell"
    code = TransformerManager().transform_cell(sources.pop())
    (tmp_path / "clone" / "dav2_utils").mkdir(parents=True)
    (tmp_path / "clone" / "dav2_utils" / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    ran: list[str] = []

    class Shell:
        def run_line_magic(self, name: str, line: str) -> None:
            ran.append(f"{name} {line}")

    exec(code, {"get_ipython": Shell})
    assert ran == ["load_ext dav2_utils.classroom"]
    ran.clear()
    monkeypatch.setitem(sys.modules, "google.colab", sys)
    names: dict[str, Any] = {"get_ipython": Shell}
    exec(code, names)
    assert ran == ["pip install --quiet --no-deps {repository}", "load_ext dav2_utils.classroom"]
    assert names["repository"] == tmp_path / "clone"


def test_pages_need_nothing_from_elsewhere(tmp_path: Path) -> None:
    path = lessons.NOTEBOOKS / "04_see_the_depth.ipynb"
    nb = lesson_runs.read(path)
    names = ["03_strip_the_prefix", "04_see_the_depth", "scratch"]
    lesson_pages.export(nb, tmp_path / "04.html", lesson_pages.ways(names[1], names))
    html = (tmp_path / "04.html").read_text(encoding="utf-8")
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=.?https?:", html)
    pictures = re.findall(r"<img[^>]*>", html)
    assert len(pictures) >= 6 and all(re.search(r'alt="[^"]{20,}"', picture) for picture in pictures)
    assert 'href="05_save_it_right.html"' in html and "<details>" in html
    assert html.count('href="03_strip_the_prefix.html">\u2190 Strip the prefix') == 2, "above and below"
    assert html.count('href="scratch.html">Scratch \u2192') == 2
    index = lesson_pages.index([(path, nb)])
    assert "04_see_the_depth.html" in index and "noise or depth, relative or metric" in index


def test_the_commands(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert lessons.command_table(ALL[:1]) == 0
    assert "00_start_here" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [lessons.__file__, "lint", "99"])
    with pytest.raises(SystemExit, match="2"):
        lessons.main()
    assert "no lesson begins with 99" in capsys.readouterr().err
