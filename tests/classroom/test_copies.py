"""Copies to work in: cleared, made once, never overwritten; fresh ones on demand, with the old ones beside them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dav2_utils import CheckpointError, lesson_folder
from dav2_utils.classroom import copies
from dav2_utils.classroom.copies import cleared, copy_lessons, stored

ROOT = Path(__file__).resolve().parents[2]
LESSON = "02_inspect_the_keys.ipynb"


def test_a_copy_has_every_cell_and_no_answer(tmp_path: Path) -> None:
    done = copy_lessons(tmp_path / "mine")
    names = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
    assert sorted(done.made) == names == sorted(path.name for path in (tmp_path / "mine").glob("*.ipynb"))
    for name in names:
        before = json.loads((ROOT / "notebooks" / name).read_text(encoding="utf-8"))["cells"]
        after = json.loads((tmp_path / "mine" / name).read_text(encoding="utf-8"))["cells"]
        assert [cell["id"] for cell in after] == [cell["id"] for cell in before]
        assert any(cell.get("outputs") for cell in before), "the stored one keeps its outputs"
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in after)
        code = [[c["source"] for c in cells if c["cell_type"] == "code"] for cells in (before, after)]
        assert code[0] == code[1]


def test_a_copy_is_never_overwritten(tmp_path: Path) -> None:
    copy_lessons(tmp_path)
    (tmp_path / LESSON).write_text("my work", encoding="utf-8")
    assert copy_lessons(tmp_path).made == []
    assert (tmp_path / LESSON).read_text(encoding="utf-8") == "my work"


def test_fresh_keeps_every_old_copy_beside_the_clean_one(tmp_path: Path) -> None:
    copy_lessons(tmp_path)
    clean = (tmp_path / LESSON).read_bytes()
    for number, kept in enumerate(("02_inspect_the_keys.old.ipynb", "02_inspect_the_keys.old1.ipynb")):
        (tmp_path / LESSON).write_text(f"work {number}", encoding="utf-8")
        assert copy_lessons(tmp_path, fresh=["02"]).renewed == {LESSON: kept}
        assert (tmp_path / kept).read_text(encoding="utf-8") == f"work {number}"
        assert (tmp_path / LESSON).read_bytes() == clean
    assert copy_lessons(tmp_path, fresh=[]).renewed == {}, "what is clean is left alone"
    with pytest.raises(CheckpointError, match="'99'"):
        copy_lessons(tmp_path, fresh=["99"])


def test_inside_the_copies_they_are_made_fresh_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lesson says `dav2 lessons --fresh`, and the lab's terminal and cells are in the folder of copies."""
    copies_there = tmp_path / "my_lessons"
    copy_lessons(copies_there)
    (copies_there / LESSON).write_text("my work", encoding="utf-8")
    monkeypatch.chdir(copies_there)
    assert copy_lessons(fresh=["02"]).renewed and not (copies_there / "my_lessons").exists()
    monkeypatch.chdir(tmp_path)
    assert copy_lessons().folder == Path("my_lessons")


def test_a_newer_lesson_is_offered_and_not_forced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy_lessons(tmp_path)
    mine = json.loads((tmp_path / LESSON).read_text(encoding="utf-8"))
    mine["cells"][0]["source"] = ["my notes"]
    (tmp_path / LESSON).write_text(json.dumps(mine), encoding="utf-8")
    assert copy_lessons(tmp_path).newer == [], "the learner's own changes are not a new version"
    changed = [(name, text.replace("# 02 Inspect the keys", "# 02 Inspect all keys")) for name, text in stored()]
    monkeypatch.setattr(copies, "stored", lambda: iter(changed))
    done = copy_lessons(tmp_path)
    assert done.newer == [LESSON] and "dav2 lessons --fresh 02" in str(done)
    assert "my notes" in (tmp_path / LESSON).read_text(encoding="utf-8")


def test_links_lead_somewhere_wherever_the_copies_are(tmp_path: Path) -> None:
    copy_lessons(tmp_path / "mine")
    text = (tmp_path / "mine" / "00_start_here.ipynb").read_text(encoding="utf-8")
    assert "](docs/troubleshooting.md)" in text and "](../docs/" not in text
    assert (tmp_path / "mine" / "docs" / "troubleshooting.md").is_file()
    assert (tmp_path / "mine" / "docs" / "glossary.md").is_file()
    (tmp_path / "repo" / "docs").mkdir(parents=True)
    (tmp_path / "repo" / "docs" / "troubleshooting.md").touch()
    copy_lessons(tmp_path / "repo" / "mine")
    assert "](../docs/troubleshooting.md)" in (tmp_path / "repo" / "mine" / "00_start_here.ipynb").read_text("utf-8")
    assert not (tmp_path / "repo" / "mine" / "docs").exists()


def test_a_translations_links_lead_up_one_step_less() -> None:
    cells = [{"cell_type": "markdown", "source": ["[x](../../docs/zh/a.md) [y](../01_a.ipynb)"]}]
    text = cleared(json.dumps({"cells": cells, "metadata": {}}), docs_beside=False)
    assert "(../docs/zh/a.md)" in text and "(../01_a.ipynb)" in text


def test_lessons_write_beside_the_copy_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAV2_LESSONS")
    copy_lessons(tmp_path / "my_lessons")
    for folder, expected in ((tmp_path / "my_lessons", "runs/01"), (tmp_path, "my_lessons/runs/01")):
        monkeypatch.chdir(folder)
        assert lesson_folder("01") == Path(expected), "a short path, as it is stored"
    (tmp_path / "my_lessons" / "zh").mkdir()
    monkeypatch.chdir(tmp_path / "my_lessons" / "zh")
    assert lesson_folder("01") == Path("../runs/01")
    monkeypatch.chdir(ROOT / "notebooks")
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: None)
    assert lesson_folder("01") == ROOT / "my_lessons" / "runs" / "01", "stored lessons do not write beside themselves"


def dav2(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dav2_utils.cli", "lessons", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", timeout=60)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAV2_LESSONS", str(tmp_path / "runs"))
    made = json.loads(dav2(tmp_path, "--json").stdout)
    assert LESSON in made["copied"] and (tmp_path / "my_lessons" / LESSON).is_file()
    (tmp_path / "my_lessons" / LESSON).write_text("mine", encoding="utf-8")
    said = dav2(tmp_path, "--fresh", "02")
    assert said.returncode == 0 and "02_inspect_the_keys.old.ipynb" in said.stdout
    assert "0 of " in dav2(tmp_path, "--progress").stdout
    for wrong in (["02"], ["--fresh", "99"], ["--fresh", "--progress"], ["--progress", "nothing.json"]):
        assert dav2(tmp_path, *wrong).returncode == 2, wrong
    (tmp_path / "x.json").write_text("[]", encoding="utf-8")
    refused = dav2(tmp_path, "--progress", "x.json")
    assert refused.returncode == 1 and "not what progress() writes" in refused.stderr
