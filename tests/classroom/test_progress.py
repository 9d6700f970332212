"""What a learner has solved: kept by `check`, shown by `progress`, handed in as a small file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dav2_utils import CheckpointError, check, progress
from dav2_utils.classroom.exercises import EXERCISES
from dav2_utils.classroom.progress import handed_in


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAV2_LESSONS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def test_from_nothing_to_solved_and_never_back() -> None:
    assert set(progress().exercises.values()) == {"not yet"}
    check("00-names", ...)
    assert progress().exercises["00-names"] == "not yet", "three dots are not a try"
    check("00-names", 2)
    assert progress().exercises["00-names"] == "tried"
    check("00-names", 3)
    check("00-names", 2)
    assert progress().solved == ["00-names"]
    assert list(progress("02").exercises) == [name for name in EXERCISES if name.startswith("02")]
    assert "1 of 1 solved" in str(progress("00")) and "✓ names" in progress("00")._repr_html_()
    with pytest.raises(CheckpointError, match="'99'"):
        progress("99")


def test_the_file_to_hand_in_holds_no_name_and_is_read_again(folder: Path) -> None:
    check("02-encoder", "vitb")
    check("02-order", "ddp")
    file = progress("02").file
    assert file is not None
    assert json.loads(file.read_text(encoding="utf-8")) == {
        "solved": ["02-encoder"], "tried": ["02-order"], "exercises": len(EXERCISES)}  # fmt: skip
    found = handed_in([file])
    assert found.files[str(file)].solved == ["02-encoder"] and "02 ○✓✗" in str(found)
    assert found.to_dict()["files"][0]["solved"] == ["02-encoder"]


def test_two_notebooks_that_write_at_once_lose_nothing(folder: Path) -> None:
    code = (
        "import sys; from dav2_utils import check, progress\nfor _ in range(200): check(*eval(sys.argv[1])); progress()"
    )
    answers = [("00-names", 3), ("02-encoder", "vitb"), ("05-trap", 0)]
    running = [subprocess.Popen([sys.executable, "-c", code, repr(answer)]) for answer in answers]
    assert [each.wait(60) for each in running] == [0, 0, 0]
    assert progress().solved == [name for name, _ in answers]
    assert [path.name for path in (folder / "progress").glob("*.part")] == []


def test_a_folder_that_cannot_be_written_is_no_reason_to_refuse_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DAV2_LESSONS", str(tmp_path / "file"))
    assert check("00-names", 3).state == "right"
