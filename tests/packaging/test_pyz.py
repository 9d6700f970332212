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


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, latest_original: Path) -> Path:
    """The clinic's patients and a few more, in a folder of their own."""
    folder = tmp_path_factory.mktemp("pyz") / "files"
    folder.mkdir()
    for name in PATIENTS:
        patient(name, folder)
    shutil.copy(latest_original, folder / "latest.pth")
    state = {"module.a.weight": torch.ones(2, 3), "module.a.bias": torch.zeros(2)}
    torch.save(state, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    large = torch.arange(100_000.0).view(100, 1000)
    torch.save({"module.a.weight": large.t()[5:7, 3:5], "module.a.bias": torch.zeros(2)}, folder / "scattered.pth")
    return folder


def bare(archive: Path, *words: Any, cwd: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    python = [sys.executable, "-I", "-S", "-B", archive]
    return subprocess.run([*python, *words], input=stdin, capture_output=True, text=True, cwd=cwd, env={}, timeout=120)


IN_ONE_PROCESS = """
import contextlib, io, json, sys
sys.path.insert(0, sys.argv[1])
from dav2_utils.cli import main
for words in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        try: main(words)
        except SystemExit as stop: code = stop.code
    print(json.dumps([code or 0, said.getvalue()]))
"""


def bare_in_turn(archive: Path, commands: list[list[str]], cwd: Path) -> list[tuple[int, Any]]:
    """Exit status and JSON of several commands, which share the second that reading the archive takes."""
    python = [sys.executable, "-I", "-S", "-B", "-c", IN_ONE_PROCESS, archive]
    done = subprocess.run(python, input=json.dumps(commands), capture_output=True, text=True, cwd=cwd, env={})
    assert done.returncode == 0, done.stderr
    return [(code, json.loads(said)) for code, said in map(json.loads, done.stdout.splitlines())]


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
    commands = [[command, path, "--json"] for path in sorted(before) for command in ("inspect", "diagnose")]
    for words, found in zip(commands, bare_in_turn(archive, commands, files), strict=True):
        assert found == installed(capsys, *words), words
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


def test_errors_are_explained_alike(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    titles = list(ERRORS)[::6]
    for number, title in enumerate(titles):
        Path(f"{number}.txt").write_text(text_of(title), encoding="utf-8")
    commands = [["explain", f"{number}.txt", "--json"] for number in range(len(titles))]
    said = [installed(capsys, *words) for words in commands]
    for title, ours, found in zip(titles, said, bare_in_turn(archive, commands, tmp_path), strict=True):
        assert ours == found, title
    done = bare(archive, "explain", "--json", cwd=tmp_path, stdin=text_of(titles[0]))
    assert (done.returncode, json.loads(done.stdout)) == said[0]


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
