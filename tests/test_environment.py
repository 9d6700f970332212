"""Does this machine run it: a verdict and a cure for each package, whatever is wrong with the machine."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from pathlib import Path
from typing import Any

import pytest

from dav2_utils import CheckpointError, environment, lesson_folder
from dav2_utils.classroom import setup
from dav2_utils.depth.opencv import import_cv2

INSTALLED = {"old": "1.9.3", "opencv-python": "5.0", "broken": "2.0", "fine": "2.0+cpu"}
REQUIRES = ["old>=2.0", "gone>=1.0", "opencv-python>=4.8.1", "broken>=1", "fine>=2.0", 'lab>=4; extra == "lessons"',
            'pytest>=8; extra == "test"']  # fmt: skip


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One with every kind of trouble."""

    def version(name: str) -> str:
        if name not in INSTALLED:
            raise importlib.metadata.PackageNotFoundError(name)
        return INSTALLED[name]

    def import_module(name: str) -> Any:
        if name == "cv2":
            raise ImportError("libGL.so.1: cannot open shared object file")
        if name == "broken":
            raise RuntimeError("compiled for another one")
        return None

    monkeypatch.setattr(importlib.metadata, "requires", lambda name: REQUIRES)
    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(environment.importlib, "import_module", import_module)


@pytest.mark.usefixtures("machine")
def test_each_trouble_has_its_verdict_and_its_cure() -> None:
    rows = {row.name: row for row in environment.check_environment()}
    assert {name: row.verdict for name, row in rows.items()} == {
        "python": "ok", "old": "too old", "gone": "missing", "opencv-python": "broken", "broken": "broken",
        "fine": "ok", "lab": "absent",
    }  # fmt: skip
    assert rows["old"].cure == "pip install --upgrade 'old>=2.0'"
    assert rows["gone"].cure == "pip install 'gone>=1.0'" and "[lessons]" in rows["lab"].cure
    assert "apt-get install libgl1" in rows["opencv-python"].cure
    assert "compiled for another one" in rows["broken"].cure and "reinstall broken" in rows["broken"].cure
    lines = environment.report(list(rows.values())).splitlines()
    assert lines[-1].startswith("4 of 7 need attention")
    assert [line[:4] for line in lines if "lab" in line and "->" not in line] == ["note"]
    assert sum(line.startswith("FAIL") for line in lines) == 4 and sum("->" in line for line in lines) == 5


def test_without_gloo_it_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch.distributed

    monkeypatch.setattr(importlib.metadata, "requires", lambda name: ["torch>=2.6"])
    assert [row.name for row in environment.check_environment()] == ["python", "torch", "gloo"]
    monkeypatch.setattr(torch.distributed, "is_gloo_available", lambda: False)
    gloo = environment.check_environment()[-1]
    assert gloo.ok and gloo.verdict == "absent" and "DataParallel" in gloo.cure


@pytest.mark.parametrize(("version", "verdict"), [("2.6.0", "unsafe"), ("2.9.1+cpu", "unsafe"), ("2.10.0", "ok")])
def test_a_torch_that_reads_less_safely_is_advised_and_not_refused(
    version: str, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: ["torch>=2.6"])
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    rows = environment.check_environment()
    torch = next(row for row in rows if row.name == "torch")
    assert (torch.verdict, torch.ok) == (verdict, True) and any(row.name == "gloo" for row in rows)
    said = environment.report(rows)
    assert ("CVE-2026-24747" in said and "torch>=2.10" in said and "note  torch" in said) == (verdict == "unsafe")
    assert said.endswith("This machine runs it.")


@pytest.mark.parametrize(
    ("error", "cure"), [("libGL.so.1: no such file", "apt-get install"), ("no numpy", "pip install opencv-python")]
)
def test_opencv_that_does_not_load_says_what_to_install(
    error: str, cure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cv2.py").write_text(f"raise ImportError({error!r})")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    with pytest.raises(CheckpointError, match=cure) as caught:
        import_cv2()
    assert caught.value.kind == "environment" and error in str(caught.value)


def test_lessons_write_where_they_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAV2_LESSONS", str(tmp_path / "mine"))
    assert lesson_folder("03") == tmp_path / "mine" / "03" and (tmp_path / "mine" / "03").is_dir()
    monkeypatch.delenv("DAV2_LESSONS")
    monkeypatch.setattr(setup.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(setup.os, "access", lambda path, mode: False)
    assert lesson_folder("03") == tmp_path / "dav2_lessons" / "03"
