"""The command `dav2` as a person or a program uses it: a real process, its output, its exit status."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from dav2_utils import ENCODERS, environment
from dav2_utils.cli import command as cli

needs_unicode_names = pytest.mark.skipif(
    sys.getfilesystemencoding() != "utf-8", reason="in this locale, files cannot have every name"
)


def dav2(*words: Any, stdin: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dav2_utils.cli", *map(str, words)]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}  # whatever the locale of this machine
    return subprocess.run(
        command, input=stdin, capture_output=True, encoding="utf-8", env=environment, cwd=cwd, timeout=120
    )


def in_process(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, Any]:
    """Exit status and JSON of one command, without the cost of a process."""
    with pytest.raises(SystemExit) as stop:
        cli.main([*map(str, words), "--json"])
    out = capsys.readouterr().out
    assert out.count("\n") == 1, "exactly one JSON object on standard output"
    return int(stop.value.code or 0), json.loads(out)


def test_inspect(latest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = in_process(capsys, "inspect", latest, "--keys")
    assert status == 0
    assert found["format"] == "torch-zip" and found["container"] == ["model"] and found["encoder"] == "tiny"
    assert found["sets"] == [{"path": ["model"], "tensors": 183}] and found["wrappers"] == ["module"]
    assert found["other_entries"]["optimizer"] == "dict" and found["other_entries"]["epoch"] == 39
    assert found["parameters"] == sum(math.prod(key["shape"]) for key in found["keys"]) > 1_000_000
    assert found["keys"][0] == {
        "name": "module.pretrained.cls_token",
        "shape": [1, 1, ENCODERS["tiny"].width],
        "dtype": "float32",
    }


def test_the_whole_way_in_real_processes(latest: Path) -> None:
    before = latest.read_bytes()
    assert dav2("diagnose", latest).returncode == 1
    fixed = dav2("fix", latest, "--json", "--max-depth", 80)
    assert fixed.returncode == 0, fixed.stderr
    [done] = json.loads(fixed.stdout)["files"]
    assert done["status"] == "fixed" and done["identical"] is True and done["fingerprint"].startswith("sha256:")
    assert [step["do"] for step in done["steps"]] == ["unwrap", "strip"]
    assert latest.read_bytes() == before
    target = latest.with_name("latest.fixed.pth")
    assert Path(done["target"]) == target
    assert next(iter(torch.load(target, weights_only=True))) == "pretrained.cls_token"
    assert dav2("diagnose", target).returncode == 0
    again = dav2("fix", latest)
    assert again.returncode == 0 and "already fixed" in again.stdout and "latest.fixed.pth" in again.stdout
    assert dav2("fix", latest, "--force").returncode == 0


def test_diagnose_json(latest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = in_process(capsys, "diagnose", latest)
    assert status == 1 and found["verdict"] == "repairable"
    assert [cause["cause"] for cause in found["causes"]] == ["training_container", "wrapper_prefix"]
    assert found["steps"][0] == {"do": "unwrap", "path": ["model"]}
    assert found["steps"][1] == {"do": "strip", "token": "module", "keys": 183}
    assert found["expected"] == found["matched"] == 183
    assert found["missing"] == found["unexpected"] == found["size_mismatch"] == []
    assert set(found["cannot_be_known"]) == {"metric or relative", "max_depth", "V1 or V2"}
    status, found = in_process(capsys, "diagnose", latest, "--encoder", "vits")
    assert status == 3 and found["verdict"] == "not repairable" and "wrong_encoder" in str(found["causes"])


BAD = {
    "empty.pth": (b"", "empty"),
    "text.pth": (b"these are not the weights\n" * 9, "unknown"),
    "page.pth": (b"<!DOCTYPE html><html><head></head></html>", "html"),
    "pointer.pth": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 99\n",
        "git-lfs-pointer",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_no_checkpoint_is_exit_status_4_with_its_format(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, file_format = BAD[name]
    path = tmp_path / name
    path.write_bytes(content)
    status, found = in_process(capsys, "inspect", path)
    assert status == 4 and found["format"] == file_format and found["error"]["kind"] == "no checkpoint"
    status, found = in_process(capsys, "diagnose", path)
    assert status == 4 and found["format"] == file_format
    status, found = in_process(capsys, "fix", path)
    assert status == 1 and found["files"][0]["status"] == "failed" and found["files"][0]["reason"]
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_folder_is_answered_with_the_files_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("model.safetensors", "optimizer.bin", "config.json"):
        (tmp_path / name).write_bytes(b"{}")
    status, found = in_process(capsys, "diagnose", tmp_path)
    assert status == 2 and "model.safetensors, optimizer.bin" in found["error"]["message"]
    assert "config.json" not in found["error"]["message"] and "dav2 fix FOLDER" in found["error"]["message"]


def test_truncated(latest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    latest.write_bytes(latest.read_bytes()[:-3000])
    status, found = in_process(capsys, "inspect", latest)
    assert status == 4 and found["format"] == "truncated"


@pytest.mark.parametrize(
    "words",
    [
        ["inspect", "nowhere.pth"],
        ["diagnose", "nowhere.pth"],
        ["fix", "nowhere.pth"],
        ["depth", "nowhere.jpg", "--weights", "tiny"],
        ["depth", "{latest}", "--weights", "{latest}", "--output", "maps.png"],
        ["fix", "{latest}", "--output", "model.onnx"],
        ["diagnose", "{latest}", "--encoder", "vitx"],
        ["diagnose", "{latest}", "--encoder", "vits", "--against", "{latest}"],
        ["diagnose", "{latest}", "--against", "nowhere.pth"],
        ["explain", "nowhere.txt"],
        ["fix"],
        ["unheard-of"],
        ["inspect"],
    ],
)
def test_usage_errors_are_exit_status_2(words: list[str], latest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = in_process(capsys, *[word.format(latest=latest) for word in words])
    assert status == 2 and found["error"]["kind"] in cli.USAGE_KINDS and len(found["error"]["message"]) > 10


def test_several_sets_stop_and_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ema.pth"
    weights = {"a.weight": torch.ones(2, 2), "a.bias": torch.ones(2)}
    torch.save({"model": weights, "model_ema": {name: tensor * 2 for name, tensor in weights.items()}}, path)
    status, found = in_process(capsys, "inspect", path)
    assert status == 0 and len(found["sets"]) == 2
    status, found = in_process(capsys, "diagnose", path)
    assert status == 2 and "model_ema" in found["error"]["message"] and "--select" in found["error"]["message"]
    status, found = in_process(capsys, "fix", path)
    assert status == 1 and "model_ema" in found["files"][0]["reason"]
    status, found = in_process(capsys, "fix", path, "--select", "model_ema")
    assert status == 0
    assert torch.equal(torch.load(found["files"][0]["target"], weights_only=True)["a.bias"], torch.full((2,), 2.0))


def test_explain_from_standard_input(tiny_model: Any) -> None:
    wrapped = {f"module.{name}": tensor for name, tensor in tiny_model.state_dict().items()}
    with pytest.raises(RuntimeError) as error:
        tiny_model.load_state_dict(wrapped)
    done = dav2("explain", "--json", stdin=str(error.value))
    assert done.returncode == 0 and json.loads(done.stdout)["causes"][0]["cause"] == "wrapper_prefix"
    nothing = dav2("explain", "--json", stdin="ValueError: too many values to unpack")
    assert nothing.returncode == 1 and json.loads(nothing.stdout) == {"causes": []}


def test_explain_takes_the_text_itself(capsys: pytest.CaptureFixture[str]) -> None:
    status, found = in_process(capsys, "explain", "KeyError: 'state_dict'")
    assert status == 0 and [one["cause"] for one in found["causes"]] == ["no_such_entry"]


def test_fix_a_folder_goes_on_past_a_bad_file(latest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "runs"
    (runs / "one").mkdir(parents=True)
    (runs / "one" / "latest.pth").write_bytes(latest.read_bytes())
    (runs / "broken.pth").write_bytes(latest.read_bytes()[:5000])
    status, found = in_process(capsys, "fix", runs, "--output", tmp_path / "out", "--dry-run")
    assert status == 1 and not (tmp_path / "out").exists()
    status, found = in_process(capsys, "fix", runs, "--output", tmp_path / "out")
    assert status == 1 and sorted(file["status"] for file in found["files"]) == ["failed", "fixed"]
    written = [path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.pth")]
    assert written == ["one/latest.pth"], "a tree of its own, so under the same names"


@needs_unicode_names
def test_depth_writes_maps_and_goes_on_past_a_bad_image(latest: Path, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    (tmp_path / "päge.png").write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    (tmp_path / "bad.png").write_bytes(b"no picture")
    done = dav2("depth", tmp_path / "päge.png", tmp_path / "bad.png", "--weights", latest, "--max-depth", 80,
                "--input-size", 56, "--output", tmp_path / "maps", "--json")  # fmt: skip
    assert done.returncode == 1, done.stderr
    good, bad = json.loads(done.stdout)["files"]
    depth = np.load(good["depth"])
    assert depth.shape == (60, 80) and depth.dtype == np.float32 and depth.min() >= 0 and depth.max() <= 80
    assert good["unit"] == "metres" and Path(good["picture"]).stat().st_size > 100
    assert "bad.png" in bad["error"]


def test_metric_weights_in_the_relative_model_are_met_with_a_question(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They load without a word and give zero everywhere: only the map shows it."""
    from dav2_utils import load_model, make_scene

    tiny = load_model("tiny")
    assert tiny.max_depth == 20
    torch.save(tiny.state_dict(), tmp_path / "metric.pth")
    cv2.imwrite(str(tmp_path / "room.png"), make_scene("rooms", 3).image)
    words = ("depth", tmp_path / "room.png", "--input-size", 112, "--weights")
    status, out, said = for_people(capsys, *words, tmp_path / "metric.pth")
    assert (status, "room.depth.npy" in out) == (0, True) and "metric weights in the relative model" in said
    status, found = in_process(capsys, *words, "tiny", "--force")
    assert status == 0 and found["files"][0]["max"] > 2
    assert ["its metres mean nothing" in words for words in found["files"][0]["warnings"]] == [True]


def test_help_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("inspect", "diagnose", "explain", "fix", "depth", "download", "check"):
        status, text, _ = for_people(capsys, command, "--help")
        assert status == 0 and "Example" in text and "--json" in text
    assert "..." not in dav2("--help").stdout.partition("Commands:")[2], "a line that is cut off"


def test_control_characters_in_names_do_not_reach_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    torch.save({"a\x1b[31m.weight": torch.ones(1), "b\n.weight": torch.ones(1)}, path)
    for words in (["inspect", path, "--keys"], ["diagnose", path], ["inspect", path]):
        assert "\x1b" not in dav2(*words).stdout


@needs_unicode_names
def test_json_is_json_on_a_terminal_that_shows_no_such_character(tmp_path: Path) -> None:
    """Windows writes pipes in the code page of the country; what that lacks must not become an escape of Python's."""
    path = tmp_path / "\U0001f600.pth"
    torch.save({"\U0001f600.weight": torch.ones(1)}, path)
    for words in (["inspect", path, "--keys"], ["inspect", tmp_path / "\U0001f600"]):
        command = [sys.executable, "-m", "dav2_utils.cli", *map(str, words), "--json"]
        done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "cp1252"})
        found = json.loads(done.stdout.decode("cp1252"))
        assert "\U0001f600" in found.get("file", "") + found.get("error", {}).get("message", "")


@pytest.mark.parametrize("encoding", ["gbk", "cp1252"])
def test_our_signs_are_spelt_where_the_terminal_has_none(latest: Path, encoding: str) -> None:
    command = [sys.executable, "-m", "dav2_utils.cli", "fix", str(latest), str(latest.with_name("none.pth"))]
    latest.with_name("none.pth").write_bytes(b"")
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding})
    assert re.findall(r"^\S+ (?=fixed:|failed:)", done.stdout.decode(encoding), re.M) == ["+ ", "x "], done


def test_what_to_give_is_said_where_it_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert "tiny, vits, ... Example: dav2 depth room.jpg" in for_people(capsys, "depth", "a.jpg")[2]
    assert "Example: dav2 inspect latest.pth" in for_people(capsys, "inspect")[2]
    assert (for_people(capsys)[1] + for_people(capsys)[2]).startswith("Usage: dav2")


def for_people(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of one command without --json."""
    with pytest.raises(SystemExit) as stop:
        cli.main([*map(str, words)])
    said = capsys.readouterr()
    return int(stop.value.code or 0), said.out, said.err


def test_depth_for_people(latest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = np.zeros((30, 40, 3), dtype=np.uint8)
    (tmp_path / "a.png").write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    words = ["--weights", latest, "--max-depth", 80, "--input-size", 28]
    (tmp_path / "notes.txt").write_text("no picture")
    status, out, err = for_people(capsys, "depth", tmp_path / "a.png", tmp_path / "notes.txt", *words)
    good, bad, count = out.splitlines()
    assert status == 1 and "a.depth.png (metres, " in good and "does not decode" in bad
    assert count == "1 done, 1 failed (notes.txt)" and err.count("Warning: ") == 3, err
    assert for_people(capsys, "depth", tmp_path, "--force", *words)[1].startswith(f"{tmp_path / 'a.png'} -> ")
    again = for_people(capsys, "depth", tmp_path / "a.png", *words)
    assert again[0] == 1 and "a.depth.npy already exists. Use --force" in again[1]
    assert for_people(capsys, "depth", tmp_path / "a.png", "--force", *words)[0] == 0


def test_download_and_check_for_people(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dav2_utils.depth.hub.download", lambda name: tmp_path / name)
    assert for_people(capsys, "download", "vits")[:2] == (0, f"{tmp_path / 'vits'}\n")
    assert in_process(capsys, "download", "vits") == (0, {"name": "vits", "path": str(tmp_path / "vits")})
    assert "This machine runs it." in for_people(capsys, "check")[1]
    row = environment.Check("torch", "-", ">=2.6", "missing", "pip install torch")
    monkeypatch.setattr(environment, "check_environment", lambda: [row])
    assert for_people(capsys, "check")[0] == in_process(capsys, "check")[0] == 1


def test_ctrl_c_is_one_line(latest: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(file: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dav2_utils.files.checkpoint.inspect_file", interrupted)
    status, out, err = for_people(capsys, "inspect", latest)
    assert (status, out) == (130, "") and err.strip() == "Stopped; nothing unfinished was written."


@pytest.mark.skipif(os.name == "nt", reason="a terminal as Unix has it")
def test_explain_at_a_terminal_says_how_to_end() -> None:
    ours, theirs = os.openpty()
    os.write(ours, b"KeyError: 'module.weight'\n\x04")
    command = [sys.executable, "-m", "dav2_utils.cli", "explain"]
    done = subprocess.run(command, stdin=theirs, capture_output=True, text=True, timeout=120)
    assert "press Ctrl-D" in done.stderr and done.stdout


def test_fix_for_people_ends_with_a_count(latest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs").mkdir()
    assert for_people(capsys, "fix", tmp_path / "runs")[1].startswith("No checkpoint was found there")
    (tmp_path / "runs" / "a.pth").write_bytes(latest.read_bytes())
    (tmp_path / "runs" / "b.pth").write_bytes(latest.read_bytes()[:4000])
    status, out, _ = for_people(capsys, "fix", tmp_path / "runs")
    assert status == 1 and out.splitlines()[-1] == "1 fixed, 1 failed"


def test_maps_that_are_there_stay(latest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.png").write_bytes(cv2.imencode(".png", np.zeros((30, 40, 3), np.uint8))[1].tobytes())
    for name in ("theirs", "a.depth.png", "a.depth.npy"):
        (tmp_path / name).write_text(name)
    (tmp_path / "b.depth.npy").symlink_to(tmp_path / "theirs")
    images = [tmp_path / f"{name}.png" for name in ("a", "b", "c")]
    words = ["depth", *images, "--weights", latest, "--max-depth", 80, "--input-size", 28]
    status, found = in_process(capsys, *words)
    first, second, third = found["files"]
    assert status == 1 and "a.depth.npy already exists" in first["error"] and "--force" in second["error"]
    assert Path(third["depth"]).is_file() and not (tmp_path / "b.depth.png").exists()
    assert (tmp_path / "a.depth.npy").read_text() == "a.depth.npy" and (tmp_path / "theirs").read_text() == "theirs"
    assert in_process(capsys, *words, "--force")[0] == 0
    assert np.load(tmp_path / "b.depth.npy").shape == (30, 40) and (tmp_path / "theirs").read_text() == "theirs"
    assert not list(tmp_path.glob(".*"))
    (tmp_path / "c.depth.png").unlink()
    (tmp_path / "c.depth.png").mkdir()
    before = (tmp_path / "c.depth.npy").read_bytes()
    assert in_process(capsys, *words, "--force")[0] == 1 and (tmp_path / "c.depth.npy").read_bytes() == before


def test_an_image_is_not_its_own_map(latest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = cv2.imencode(".png", np.zeros((30, 40, 3), np.uint8))[1].tobytes()
    (tmp_path / "a.depth.png").write_bytes(picture)
    (tmp_path / "a.jpg").symlink_to(tmp_path / "a.depth.png")
    words = ["depth", tmp_path / "a.jpg", "--weights", latest, "--max-depth", 80, "--input-size", 28, "--force"]
    assert in_process(capsys, *words)[0] == 1
    assert (tmp_path / "a.depth.png").read_bytes() == picture


@pytest.mark.parametrize("wrong", ["0", "-1", "nan", "inf"])
def test_a_range_that_is_none(wrong: str, latest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.png").write_bytes(cv2.imencode(".png", np.zeros((30, 40, 3), np.uint8))[1].tobytes())
    for words in (["fix", latest], ["depth", tmp_path / "a.png", "--weights", latest]):
        status, found = in_process(capsys, *words, "--max-depth", wrong)
        assert status == 2 and "above 0" in found["error"]["message"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", ["inspect {} --json", "inspect {} --keys", "inspect nowhere --json", "--help"])
def test_a_full_disk_behind_standard_output(latest: Path, words: str, unbuffered: str) -> None:
    command = [sys.executable, "-m", "dav2_utils.cli", *words.format(latest).split()]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, timeout=120)
    assert done.returncode == (2 if "nowhere" in words else 1)
    assert done.stderr.startswith("dav2: ") and done.stderr.count("\n") == 1, done.stderr
    assert ("nowhere is not there" if "nowhere" in words else "No space left") in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="pipes as Unix has them")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", ["inspect {} --keys", "inspect {} --json", "fix {}", "inspect nowhere --json"])
def test_a_pipe_that_nobody_reads(latest: Path, words: str, unbuffered: str) -> None:
    command = [sys.executable, "-m", "dav2_utils.cli", *words.format(latest).split()]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, env=environment, timeout=120)
    os.close(write)
    assert done.returncode and "Traceback" not in done.stderr and "Exception" not in done.stderr
    assert latest.with_name("latest.fixed.pth").exists() == ("fix" in words)


def test_warnings_are_one_line(latest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left = latest.with_name(".latest.pth.dav2-00000000-1-0123abcd.tmp")
    left.write_text("half")
    os.utime(left, (1, 1))
    status, _, said = for_people(capsys, "fix", latest)
    assert status == 0 and not left.exists()
    assert said.startswith(f"Warning: Removed {left.name} (4 bytes), left behind in ") and "warnings.warn" not in said
