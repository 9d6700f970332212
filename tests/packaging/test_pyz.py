"""`dav2.pyz` says and writes what the installed command does, by an interpreter that finds nothing but its library."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pyz
import torch
from real_errors import ERRORS, text_of

from dav2_utils.classroom.clinic import PATIENTS, patient
from dav2_utils.cli import command

# What can be done with torch alone: it says so, and the installed command does it.
BY_TORCH = {"legacy.pth", "scattered.pth"}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pyz.build(tmp_path_factory.mktemp("pyz") / "dav2.pyz")


@pytest.fixture
def files(tmp_path: Path, latest: Path) -> Path:
    """The clinic's patients and a few more, in a folder of their own."""
    folder = tmp_path / "files"
    folder.mkdir()
    for name in PATIENTS:
        patient(name, folder)
    shutil.copy(latest, folder / "latest.pth")
    state = {"module.a.weight": torch.ones(2, 3), "module.a.bias": torch.zeros(2)}
    torch.save(state, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    large = torch.arange(100_000.0).view(100, 1000)
    torch.save({"module.a.weight": large.t()[5:7, 3:5], "module.a.bias": torch.zeros(2)}, folder / "scattered.pth")
    return folder


def bare(archive: Path, *words: Any, cwd: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    python = [sys.executable, "-I", "-S", "-B", archive]
    return subprocess.run([*python, *words], input=stdin, capture_output=True, text=True, cwd=cwd, env={}, timeout=120)


def installed(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, Any]:
    with pytest.raises(SystemExit) as stop:
        command.main([*map(str, words)])
    return int(stop.value.code or 0), json.loads(capsys.readouterr().out)


def test_it_is_small_and_has_no_weights_in_it(archive: Path) -> None:
    assert archive.stat().st_size < 1_000_000


def test_files_are_read_and_diagnosed_alike(
    archive: Path, files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(files)
    before = {path.name: path.read_bytes() for path in files.iterdir()}
    for number, path in enumerate(sorted(before)):
        for words in (["inspect", path, "--json"], ["diagnose", path, "--json"])[number % 4 > 0 :]:
            done = bare(archive, *words, cwd=files)
            assert (done.returncode, json.loads(done.stdout)) == installed(capsys, *words), (path, done.stderr)
    assert {path.name: path.read_bytes() for path in files.iterdir()} == before, "nothing is written by looking"


def test_files_are_repaired_alike(
    archive: Path, files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(files)
    words = ["fix", ".", "--json", "--output"]
    done = bare(archive, *words, "../bare", cwd=files)
    status, theirs = installed(capsys, *words, "../installed")
    ours = json.loads(done.stdout)
    assert done.returncode == status == 1, "some patients cannot be repaired"
    assert len(ours["files"]) > 10
    for one, other in zip(ours["files"], theirs["files"], strict=True):
        if one["source"] in BY_TORCH:
            assert (one["status"], other["status"]) == ("failed", "fixed")
            assert "needs torch" in one["reason"] and "pip install torch" in one["reason"]
            continue
        assert json.loads(json.dumps(one).replace("../bare", "../installed")) == other
        if one["status"] == "fixed":
            target = files / one["target"]
            assert target.read_bytes() == (files / other["target"]).read_bytes()
    assert "of " in done.stderr and "latest.pth" in done.stderr, "a line for each file, without tqdm"


@pytest.mark.parametrize("title", list(ERRORS)[::6])
def test_errors_are_explained_alike(
    archive: Path, title: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = text_of(title)
    (tmp_path / "error.txt").write_text(text, encoding="utf-8")
    done = bare(archive, "explain", "--json", cwd=tmp_path, stdin=text)
    assert (done.returncode, json.loads(done.stdout)) == installed(capsys, "explain", tmp_path / "error.txt", "--json")


@pytest.mark.parametrize(
    ("words", "install"),
    [(["depth", "x.png", "--weights", "tiny"], "torch opencv-python"), (["download", "vits"], "huggingface_hub")],
)
def test_what_needs_more_says_so_in_one_line(archive: Path, words: list[str], install: str, tmp_path: Path) -> None:
    done = bare(archive, *words, cwd=tmp_path)
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.startswith("dav2: This needs ") and done.stderr.endswith(f"pip install {install}.\n")
    assert done.stderr.count("\n") == 1
    assert json.loads(bare(archive, *words, "--json", cwd=tmp_path).stdout)["error"]["kind"] == "environment"


def test_check_says_what_it_cannot_know(archive: Path, tmp_path: Path) -> None:
    done = bare(archive, "check", cwd=tmp_path)
    assert done.returncode == 0 and "not installed" in done.stdout and "inspect, diagnose, explain" in done.stdout
