"""The fine-tune: real DDP under torchrun, the official layout, and what goes wrong said in a sentence."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lesson_runs
import pytest
import torch
from safetensors.torch import load_file

from dav2_utils.depth.hub import default_weights
from dav2_utils.depth.model import DepthAnythingV2
from dav2_utils.errors import CheckpointError
from dav2_utils.training import loop as finetune
from dav2_utils.training.data import depth_loss, evaluate
from dav2_utils.training.loop import Plan, make_checkpoint, train
from dav2_utils.training.scenes import held_out

needs_torchrun = pytest.mark.skipif(os.name == "nt", reason="torchrun does not work with torch for Windows")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
MODULE = ["-m", "dav2_utils.finetune"]


@pytest.fixture(scope="module")
def latest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two processes, two epochs: the file of the lessons."""
    return lesson_runs.with_trained(tmp_path_factory.mktemp("run") / "runs") / "streets" / "latest.pth"


def read(path: Path) -> dict[str, object]:
    return torch.load(path, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]


@pytest.mark.elsewhere
def test_the_official_layout(latest: Path) -> None:
    found = read(latest)
    assert list(found) == ["model", "optimizer", "epoch", "previous_best"]
    assert found["epoch"] == 1 and set(found["previous_best"]) == {"d1", "abs_rel", "rmse"}  # type: ignore[call-overload]
    assert 0 < found["previous_best"]["d1"] < 1  # type: ignore[index]
    model = DepthAnythingV2("tiny", max_depth=80.0)
    assert list(found["model"]) == [f"module.{name}" for name in model.state_dict()]  # type: ignore[call-overload]
    torch.optim.AdamW(model.parameters()).load_state_dict(found["optimizer"])  # type: ignore[arg-type]
    assert [path.name for path in latest.parent.iterdir()] == ["latest.pth"]


def test_it_fails_to_load_as_people_meet_it(latest: Path) -> None:
    model, found = DepthAnythingV2("tiny", max_depth=80.0), read(latest)
    with pytest.raises(
        RuntimeError, match=r'Unexpected key\(s\) in state_dict: "model", "optimizer", "epoch", "previous'
    ):
        model.load_state_dict(found)
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "pretrained.cls_token"'):
        model.load_state_dict(found["model"])  # type: ignore[arg-type]


def test_the_weights_moved(latest: Path) -> None:
    base, found = load_file(default_weights()), read(latest)["model"]
    moved = [n for n in base if not torch.equal(base[n].float(), found[f"module.{n}"])]  # type: ignore[index]
    assert len(moved) > 0.9 * len(base)


def test_made_once(latest: Path) -> None:
    before = latest.stat().st_mtime_ns
    assert make_checkpoint(latest.parent, steps=2) == latest
    assert latest.stat().st_mtime_ns == before


def test_a_class_shares_one_trained_file(
    latest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DAV2_TRAINED", str(latest))
    monkeypatch.setattr(finetune.subprocess, "Popen", None)  # nothing trains
    made = make_checkpoint(tmp_path / "streets")
    assert made.read_bytes() == latest.read_bytes() and [made] == list(made.parent.iterdir())
    assert f"copied from {latest}" in capsys.readouterr().out
    with pytest.raises(TypeError, match="NoneType"):  # another training than the lessons' is really made
        make_checkpoint(tmp_path / "rooms", domain="rooms")
    monkeypatch.setenv("DAV2_TRAINED", str(tmp_path / "nothing.pth"))
    with pytest.raises(CheckpointError, match=r"DAV2_TRAINED names .*nothing\.pth, which cannot be read"):
        make_checkpoint(tmp_path / "again")


def gradients(plan: Plan, rank: int) -> torch.Tensor:
    """What process `rank` of two finds in its own scenes in the first step, all in one row."""
    model = finetune.starting_model(plan)
    image, depth = next(iter(finetune._loader(plan, 0, rank, 2)))
    depth_loss(model(image), depth).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.elsewhere
@pytest.mark.long
@needs_torchrun
def test_two_processes_train_one_model(tmp_path: Path) -> None:
    """AdamW keeps a multiple of the first gradient: that of both processes' scenes, not of one's own."""
    command = [*TORCHRUN, *MODULE, "--output", str(tmp_path), "--epochs=1", "--steps=1", "--batch=2"]
    subprocess.run(command, check=True)
    state = read(tmp_path / "latest.pth")["optimizer"]["state"]  # type: ignore[index]
    kept = torch.cat([entry["exp_avg"].flatten() for entry in state.values()])
    plan = Plan(tmp_path, epochs=1, steps=1, batch=2)
    both = torch.stack([gradients(plan, 0), gradients(plan, 1)], dim=1)
    shares = torch.linalg.lstsq(both.double(), kept.double()[:, None]).solution.flatten()
    assert shares[0] > 0 and float(shares[1] / shares[0]) == pytest.approx(1, rel=0.01)


def test_no_two_processes_see_the_same_scene(tmp_path: Path) -> None:
    shares = []
    for rank in (0, 1):
        loader = finetune._loader(Plan(tmp_path, steps=3, batch=4), 0, rank, 2)
        shares.append({loader.dataset.seeds[i] for i in loader.sampler})  # type: ignore[attr-defined]
    assert len(shares[0]) == len(shares[1]) == 12 and not shares[0] & shares[1]
    later = finetune._loader(Plan(tmp_path, steps=3, batch=4), 1, 0, 2).dataset.seeds  # type: ignore[attr-defined]
    assert not set(later) & (shares[0] | shares[1])


@pytest.mark.elsewhere
def test_a_minute_already_helps(latest: Path, tmp_path: Path) -> None:
    """The error on streets is brought well below the base weights'."""
    base = finetune.starting_model(Plan(tmp_path))
    tuned = torch.nn.DataParallel(DepthAnythingV2("tiny", max_depth=80.0))
    tuned.load_state_dict(read(latest)["model"])  # type: ignore[arg-type]
    seeds = held_out("streets", 10)
    assert evaluate(tuned.module, "streets", seeds)["abs_rel"] < 0.7 * evaluate(base, "streets", seeds)["abs_rel"]


@pytest.mark.parametrize("lacking", ["gloo", "libuv"])
def test_without_torchrun(
    lacking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if lacking == "gloo":
        monkeypatch.setattr(finetune, "has_ddp", lambda: False)
    else:
        monkeypatch.setattr(finetune, "sys", SimpleNamespace(platform="win32"))
    found = read(make_checkpoint(tmp_path, epochs=1, steps=1))
    said = capsys.readouterr().out
    assert "one process instead" in said and ("using DataParallel instead of" in said) == (lacking == "gloo")
    assert all(name.startswith("module.") for name in found["model"])  # type: ignore[attr-defined]


def test_loss_is_zero_only_for_the_truth() -> None:
    truth = torch.rand(2, 5, 5) + 1
    assert depth_loss(truth, truth) < 1e-3 < depth_loss(truth * 1.1, truth)
    # a factor e everywhere: the log error is 1, the scale-invariant half of it sqrt(1 - 0.5)
    assert float(depth_loss(truth * torch.e, truth)) == pytest.approx(1 + 0.5**0.5, rel=1e-4)


@needs_torchrun
def test_a_training_that_fails_shows_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="invalid choice: 'forests'") as caught:
        make_checkpoint(tmp_path / "run", domain="forests", processes=1)
    assert "status" in str(caught.value) and not (tmp_path / "run" / "latest.pth").exists()


BAD = [
    ("lr", 0.0, "--lr is 0.0. Expected: a number above 0"), ("lr", float("nan"), "--lr is nan"),
    ("lr", -1, "--lr is -1"), ("lr", float("inf"), "--lr is inf"),
    ("steps", 0, "--steps is 0. Expected: a whole number, 1 or more"),
    ("batch", 0, "--batch is 0"), ("epochs", 0, "--epochs is 0"), ("epochs", 1.5, "--epochs is 1.5"),
    ("seed", -1, "--seed is -1. Expected: a whole number from 0 to 499"), ("seed", 500, "--seed is 500"),
    ("steps", 10**9, "reserved for measuring"), ("domain", "forests", "--domain is 'forests'"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "said"), BAD)
def test_a_plan_that_cannot_be_carried_out(name: str, value: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        train(Plan(tmp_path / "run", **{name: value}))
    assert said in str(caught.value) and not (tmp_path / "run").exists()


def test_an_output_in_the_way(tmp_path: Path) -> None:
    file, folder = tmp_path / "file", tmp_path / "run" / "latest.pth"
    file.write_text("mine")
    folder.mkdir(parents=True)
    for output, said in ((file, f"{file} is a file"), (file / "run", f"{file} is a file"),
                         (folder.parent, f"{folder} is a folder")):  # fmt: skip
        with pytest.raises(CheckpointError, match=re.escape(said)):
            train(Plan(output, epochs=1, steps=1))
    assert file.read_text() == "mine"


def weights(kind: str, path: Path) -> Path:
    """A file that somebody may give as --weights, from which training cannot start."""
    model = DepthAnythingV2("tiny").state_dict()
    if kind == "no checkpoint":
        path.write_text("<html>")
    elif kind == "of another size":
        torch.save(model | {"pretrained.cls_token": torch.zeros(1, 1, 9)}, path)
    elif kind == "in part":
        torch.save({name: t for name, t in model.items() if "depth_head" not in name}, path)
    else:
        path.mkdir()
    return path


@pytest.mark.parametrize("kind", ["no checkpoint", "of another size", "in part", "a folder"])
def test_weights_to_start_from_that_will_not_do(kind: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"a\.pth"):
        train(Plan(tmp_path / "run", weights=weights(kind, tmp_path / "a.pth")))
    assert not (tmp_path / "run" / "latest.pth").exists()


def test_an_error_ends_the_command_in_a_sentence(tmp_path: Path) -> None:
    bad = weights("in part", tmp_path / "a.pth")
    command = [sys.executable, *MODULE, "--output", tmp_path / "run", "--weights", bad]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr and "a.pth" in done.stderr
    assert not (tmp_path / "run" / "latest.pth").exists()


def test_a_latest_of_before_is_a_start_too(latest: Path, tmp_path: Path) -> None:
    found, kept = read(latest)["model"], finetune.starting_model(Plan(tmp_path, weights=latest)).state_dict()
    assert all(torch.equal(tensor, found[f"module.{name}"]) for name, tensor in kept.items())  # type: ignore[index]


def test_a_training_that_diverges_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"loss is (nan|inf): the training has diverged.*Lower --lr"):
        train(Plan(tmp_path, epochs=1, steps=8, batch=1, lr=1e30))


def test_missing_weights(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"No weights at .*Check --weights"):
        train(Plan(tmp_path, weights=tmp_path / "nothing.safetensors"))


def test_a_kernel_can_train_again_after_a_training_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(finetune, "_one_epoch", interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train(Plan(tmp_path))


def test_the_latest_of_another_training_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "latest.pth").write_text("a week of somebody's")
    latest = train(Plan(tmp_path, epochs=2, steps=1, batch=1))
    assert read(latest)["epoch"] == 1
    assert (tmp_path / "latest.pth.bak").read_text() == "a week of somebody's"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest.pth", "latest.pth.bak"]
    assert f"{latest} already existed; it is now {latest}.bak" in capsys.readouterr().out


@pytest.mark.long
@needs_torchrun
def test_an_interrupted_cell_ends_torchrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[subprocess.Popen[str]] = []
    workers: list[int] = []

    class Torchrun(subprocess.Popen):  # type: ignore[type-arg]
        def terminate(self) -> None:
            ended.append(self)
            workers.extend(children(self.pid))
            super().terminate()

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(finetune.subprocess, "Popen", Torchrun)
    monkeypatch.setattr("builtins.print", interrupted)  # the first line of progress
    with pytest.raises(KeyboardInterrupt):
        make_checkpoint(tmp_path, epochs=1, steps=100_000, processes=1)
    monkeypatch.undo()
    assert len(ended) == 1 and workers
    ended[0].wait(60)
    time.sleep(0.1)
    assert not set(workers) & set(children(1)), "a process was left behind"


@pytest.mark.skipif(os.name == "nt", reason="Windows lets two programs share a port")
def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        place = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        done = subprocess.run([sys.executable, *MODULE, "--output", tmp_path], capture_output=True, text=True,
                              timeout=60, env={**os.environ, **place})  # fmt: skip
    assert done.returncode == 1
    assert f"could not meet at 127.0.0.1:{port}" in done.stderr and "--master-port" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def training(tmp_path: Path, how: str) -> Iterator[subprocess.Popen[str]]:
    """A long training over an older `latest.pth`, caught in the middle of an epoch.

    Two processes under torchrun if one of them is to die. At Ctrl-C, each leaves on its own, so one shows it.
    """
    (tmp_path / "latest.pth").write_bytes(b"older")
    start = TORCHRUN if how == "a worker dies" else [sys.executable]
    command = [*start, *MODULE, "--output", str(tmp_path), "--steps=100000", "--batch=1"]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        for line in running.stderr or ():
            if "loss=" in line:
                break
        yield running
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
        running.communicate()


def children(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    return [int(child) for child, parent in map(str.split, found.splitlines()) if int(parent) == pid]


@pytest.mark.long
@needs_torchrun
@pytest.mark.parametrize("how", ["a worker dies", "ctrl-c"])
def test_an_end_before_the_end(training: subprocess.Popen[str], tmp_path: Path, how: str) -> None:
    workers = children(training.pid)
    if how == "ctrl-c":
        os.killpg(training.pid, signal.SIGINT)
    else:
        os.kill(workers[-1], signal.SIGKILL)
    words = training.communicate(timeout=30)[1]
    assert training.returncode != 0
    assert "latest.pth is from the last finished epoch" in words
    assert [path.name for path in tmp_path.iterdir()] == ["latest.pth"]
    assert (tmp_path / "latest.pth").read_bytes() == b"older"
    time.sleep(0.1)
    assert not set(workers) & set(children(1)), "a process was left behind"
