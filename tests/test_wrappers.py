"""Renaming by rule: whole components, all at once, one-to-one or refused, and carried out on real files."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from dav2_utils import CheckpointError, diagnose, fix_file, strip_wrappers
from dav2_utils.wrappers import exchange

DISTILLED = {"backbone.blocks.0": "pretrained.blocks", "backbone": "pretrained"}


@pytest.mark.parametrize(
    ("names", "rename", "expected"),
    [
        (["net.msg_mlp.0.weight", "net.msg.w"], {"msg_mlp": "msg_fn"}, ["net.msg_fn.0.weight", "net.msg.w"]),
        (["backbone.blocks.0.3.w", "backbone.blocks.1.3.w"], DISTILLED,
         ["pretrained.blocks.3.w", "pretrained.blocks.1.3.w"]),
        (["a.w", "b.w"], {"a": "b", "b": "a"}, ["b.w", "a.w"]),
        (["a.b.c.w"], {"b.c": "x", "a": "y.z"}, ["y.z.x.w"]),
        (["a.a.a.w"], {"a.a": "b"}, ["b.a.w"]),
        (["l.parametrizations.weight.original0"], {"parametrizations.weight.original0": "weight_g"}, ["l.weight_g"]),
        (["aa.w", "a.w"], {"a": "c"}, ["aa.w", "c.w"]),
    ],
)  # fmt: skip
def test_runs_of_components(names: list[str], rename: dict[str, str], expected: list[str]) -> None:
    assert list(exchange(names, rename).values()) == expected
    state = {name: torch.tensor(place) for place, name in enumerate(names)}
    moved = strip_wrappers(state, rename=rename)
    assert list(moved) == expected and [int(tensor) for tensor in moved.values()] == list(range(len(names)))


@pytest.mark.parametrize(
    ("rename", "words"),
    [
        ({"a": "b"}, "'a.w' and 'b.w' would both become 'b.w'"),
        ({"z": "y"}, "No name has 'z'"),
        ({"a.": "b"}, "'a.' is not a run"),
        ({"a": ""}, "'' is not a run"),
        ({"": "a"}, "'' is not a run"),
        ({"a": "c..d"}, "'c..d' is not a run"),
        ({"a": "c", "a.b": "d"}, "No name has 'a.b'"),
    ],
)
def test_refused_where_it_is_not_one_to_one(rename: dict[str, str], words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        exchange(["a.w", "b.w"], rename)
    with pytest.raises(CheckpointError, match=words):
        strip_wrappers({"a.w": torch.ones(1), "b.w": torch.ones(1)}, rename=rename)


def test_one_to_one_or_an_error_and_back_again() -> None:
    chance = random.Random(0)

    def run() -> str:
        return ".".join(chance.choices("abc", k=chance.randint(1, 4)))

    done = 0
    for _ in range(3000):
        names = list({run(): None for _ in range(chance.randint(1, 6))})
        rename = {run(): run() for _ in range(chance.randint(1, 3))}
        try:
            new = exchange(names, rename)
        except CheckpointError:
            continue
        assert list(new) == names and len(set(new.values())) == len(names)
        fresh = {old: f"new{place}" for place, old in enumerate(rename)}  # names that nothing else has: to be undone
        there = exchange(names, fresh)
        back = exchange(there.values(), {new: old for old, new in fresh.items()})
        assert [back[name] for name in there.values()] == names
        done += 1
    assert done > 300


class Net(nn.Module):
    def __init__(self, called: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.ModuleDict({called: nn.Linear(4, 4), "norm": nn.BatchNorm1d(4)}) for _ in "ab")


def training_file(path: Path, model: nn.Module) -> Path:
    content: dict[str, Any] = {"model": nn.DataParallel(model).state_dict(), "epoch": 3}
    torch.save(content | {"optimizer": torch.optim.Adam(model.parameters()).state_dict()}, path)
    return path


@pytest.mark.parametrize("kind", ["pth", "safetensors", "training state", "by torch"])
def test_carried_out_on_a_file(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    old, new = Net("msg_mlp"), Net("msg_fn")
    torch.save(new.state_dict(), tmp_path / "target.pth")
    path = training_file(tmp_path / "latest.pth", old)
    if kind == "by torch":
        torch.save(nn.DataParallel(old).state_dict(), path, _use_new_zipfile_serialization=False)
    options: dict[str, Any] = {"against": tmp_path / "target.pth", "rename": {"msg_mlp": "msg_fn"}}
    options |= {"format": "safetensors"} if kind == "safetensors" else {}
    options |= {"keep_training_state": True} if kind == "training state" else {}
    assert fix_file(path, against=tmp_path / "target.pth").status == "refused"
    shown = fix_file(path, dry_run=True, **options)
    assert shown.status == "would fix" and "write 'msg_fn' for 'msg_mlp' in 4 names" in str(shown)
    done = fix_file(path, **options)
    assert done.status == "fixed" and done.identical, done.reason
    assert {"do": "rename", "token": "msg_mlp", "to": "msg_fn", "keys": 4} in done.to_dict()["steps"]
    found = load_file(done.target) if kind == "safetensors" else torch.load(str(done.target), weights_only=True)
    if kind == "training state":
        assert found["epoch"] == 3 and "param_groups" in found["optimizer"]
        found = found["model"]
    new.load_state_dict(found)
    assert all(torch.equal(a, b) for a, b in zip(new.parameters(), old.parameters(), strict=True))
    if kind != "safetensors":
        assert found._metadata["layers.0.msg_fn"] == {"version": 1} and "layers.0.msg_mlp" not in found._metadata


def test_never_a_name_that_the_model_does_not_have(tmp_path: Path) -> None:
    torch.save(Net("msg_fn").state_dict(), tmp_path / "target.pth")
    path = training_file(tmp_path / "latest.pth", Net("msg_mlp"))
    for rename in ({"msg_mlp": "msg"}, {"msg": "msg_fn"}, {"msg_mlp": "norm"}, {"layers.0.msg_mlp": "layers.0.msg_fn"}):
        done = fix_file(path, tmp_path / "no.pth", against=tmp_path / "target.pth", rename=rename)
        assert done.status == "refused" and done.reason and not (tmp_path / "no.pth").exists()


def test_the_command_that_a_diagnosis_prints(tmp_path: Path) -> None:
    """As soon as a diagnosis says which runs account for the rest, it prints the command; and the command works."""
    from dav2_utils.cli import command

    save_file(Net("msg_fn").state_dict(), tmp_path / "my target.safetensors")
    path = training_file(tmp_path / "latest.pth", Net("msg_mlp"))
    found = diagnose(path, tmp_path / "my target.safetensors")
    found.renaming = {"msg_mlp": "msg_fn"}
    assert "cannot fix" not in str(found).splitlines()[0]
    import shlex

    [line] = [line for line in str(found).splitlines() if "--rename" in line]
    words = shlex.split(line[line.index("dav2 fix") : line.index(", then again")])
    assert words[-1] == "--dry-run" and "msg_mlp=msg_fn" in words
    for arguments in (words, words[:-1]):
        with pytest.raises(SystemExit) as stop:
            command.main(arguments[1:])
        assert stop.value.code == 0
    assert torch.load(tmp_path / "latest.fixed.pth", weights_only=True).keys() == Net("msg_fn").state_dict().keys()
