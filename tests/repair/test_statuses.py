"""Every status and exit code of the command: one table, walked through here, and by `dav2.pyz` in another process."""

from __future__ import annotations

import contextlib
import io
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pyz
import torch
from safetensors.torch import save_file
from torch import nn

from dav2_utils.cli import command
from dav2_utils.encoders import table_for

TINY = {name: torch.zeros(info.shape) for name, info in table_for("tiny").items()}
STEM = {"stem.weight": torch.arange(12.0).view(3, 4), "stem.bias": torch.zeros(3), "fc.weight": torch.ones(2, 3)}
RENAMED = {name.replace("stem", "trunk.first"): tensor for name, tensor in STEM.items()}


def under(prefix: str, state: dict[str, Any]) -> dict[str, Any]:
    return {prefix + name: tensor for name, tensor in state.items()}


def packed() -> dict[str, Any]:
    """As `quantize_dynamic` leaves a layer, without the packed object itself."""
    return {"fc.scale": torch.ones(()), "fc.zero_point": torch.zeros((), dtype=torch.int64),
            "fc._packed_params.dtype": torch.qint8, "fc._packed_params._packed_params": (1, None)}  # fmt: skip


def zero_3() -> dict[str, Any]:
    """One process's part of DeepSpeed's ZeRO-3: small tensors are whole, of the others there is an empty one."""
    return {name: tensor if tensor.numel() < 1000 else torch.zeros(0) for name, tensor in TINY.items()}


def nan(state: dict[str, Any]) -> dict[str, Any]:
    return state | {"stem.weight": torch.full((3, 4), math.nan)}


def in_blocks_of_nan() -> dict[str, Any]:
    return {
        name: torch.full_like(tensor, math.nan) if ".blocks.3." in name else tensor for name, tensor in TINY.items()
    }


FILES: dict[str, Any] = {
    "clean.pth": TINY,
    "training.pth": {"model": under("module.", TINY), "optimizer": {"state": {}, "param_groups": []}, "epoch": 3},
    "clean.safetensors": STEM,
    "foreign.pth": STEM,
    "wrapped.pth": under("module.", STEM),
    "boxed.pth": {"state_dict": STEM, "epoch": 1},
    "target.pth": STEM,
    "renamed.pth": {"model": under("module.", RENAMED), "epoch": 1},
    "wide.pth": STEM | {"fc.weight": torch.ones(5, 3)},
    "parts.pth": {"encoder": {"stem.weight": STEM["stem.weight"], "stem.bias": STEM["stem.bias"]},
                  "decoder": {"fc.weight": STEM["fc.weight"]}},
    "gan.pth": {"G": STEM, "D": under("module.", STEM)},
    "zero3.pth": zero_3(),
    "packed.pth": packed(),
    "slashes.pth": {"module/" + name.replace(".", "/"): tensor for name, tensor in STEM.items()},
    "nan.pth": nan(STEM),
    "nan_half.pth": {name: tensor.half() for name, tensor in under("module.", nan(STEM)).items()},
    "nan.safetensors": {name: tensor.bfloat16() for name, tensor in nan(STEM).items()},
    "nan_blocks.pth": in_blocks_of_nan(),
    "arrays.pth": {name: tensor.numpy() for name, tensor in STEM.items()},
    "pairs.pth": {"model": list(STEM.items())},
    "twice.pth": {"w": torch.ones(2), "module.w": torch.ones(2)},
    "optimizer.pth": {"state": {}, "param_groups": [{"lr": 0.1}]},
    "teachers.pth": under("student.", TINY) | under("teacher.", TINY),
    "empty.pth": b"",
    "page.pth": b"<!DOCTYPE html><html></html>",
}  # fmt: skip

# words of the command; exit status; what its JSON says (verdict, or status of each file, or kind of error)
ROWS: list[tuple[str, int, str]] = [
    ("inspect clean.pth", 0, "torch-zip"),
    ("inspect arrays.pth", 0, "torch-zip"),
    ("inspect empty.pth", 4, "empty"),
    ("inspect nowhere.pth", 2, "usage"),
    ("diagnose clean.pth", 0, "loads"),
    ("diagnose training.pth", 1, "repairable"),
    ("diagnose training.pth --encoder vits", 3, "not repairable"),
    ("diagnose foreign.pth", 3, "no target"),
    ("diagnose foreign.pth --against target.pth", 0, "loads"),
    ("diagnose wrapped.pth", 1, "wrapped"),
    ("diagnose wrapped.pth --against target.pth", 1, "repairable"),
    ("diagnose boxed.pth", 1, "wrapped"),
    ("diagnose renamed.pth", 1, "wrapped"),
    ("diagnose renamed.pth --against target.pth", 3, "not repairable"),
    ("diagnose wide.pth --against target.pth", 3, "not repairable"),
    ("diagnose parts.pth", 2, "several sets"),
    ("diagnose parts.pth --select encoder,decoder", 1, "wrapped"),
    ("diagnose parts.pth --select encoder,decoder --against target.pth", 1, "repairable"),
    ("diagnose parts.pth --select nobody", 2, "several sets"),
    ("diagnose gan.pth --select G,D", 2, "several sets"),
    ("diagnose gan.pth --select D", 1, "wrapped"),
    ("diagnose zero3.pth", 3, "not repairable"),
    ("diagnose zero3.pth --encoder tiny", 3, "not repairable"),
    ("diagnose packed.pth", 3, "not repairable"),
    ("diagnose slashes.pth", 3, "not repairable"),
    ("diagnose slashes.pth --against target.pth", 3, "not repairable"),
    ("diagnose nan.pth", 3, "not repairable"),
    ("diagnose nan.pth --against target.pth", 3, "not repairable"),
    ("diagnose nan_half.pth", 3, "not repairable"),
    ("diagnose nan.safetensors", 3, "not repairable"),
    ("diagnose nan_blocks.pth", 3, "not repairable"),
    ("diagnose arrays.pth", 4, "unreadable"),
    ("diagnose pairs.pth", 4, "unreadable"),
    ("diagnose optimizer.pth", 4, "unreadable"),
    ("diagnose twice.pth", 3, "not repairable"),
    ("diagnose teachers.pth", 3, "not repairable"),
    ("diagnose teachers.pth --select teacher", 1, "repairable"),
    ("diagnose page.pth", 4, "unreadable"),
    ("fix clean.pth", 0, "already clean"),
    ("fix clean.pth --output copy.pth", 0, "fixed"),
    ("fix clean.pth --output copy.pth", 0, "already fixed"),
    ("fix clean.pth --format safetensors", 0, "fixed"),
    ("fix training.pth --dry-run", 0, "would fix"),
    ("fix training.pth", 0, "fixed"),
    ("fix training.pth", 0, "already fixed"),
    ("fix training.pth --dry-run", 0, "already fixed"),
    ("fix training.pth --max-depth 20", 1, "refused"),
    ("fix training.pth --force --max-depth 20", 0, "fixed"),
    ("fix training.pth --max-depth 20", 0, "already fixed"),
    ("fix training.pth --keep-training-state --output kept.pth", 0, "fixed"),
    ("fix training.pth --encoder vits", 1, "refused"),
    ("fix foreign.pth", 1, "not compared"),
    ("fix foreign.pth --dry-run", 1, "not compared"),
    ("fix foreign.pth --against target.pth", 0, "already clean"),
    ("fix foreign.pth --format safetensors", 0, "fixed"),
    ("fix clean.safetensors", 1, "not compared"),
    ("fix wrapped.pth", 0, "fixed"),
    ("fix wrapped.pth --against target.pth", 0, "already fixed"),
    ("fix boxed.pth --keep-training-state", 1, "not compared"),
    ("fix renamed.pth --against target.pth", 1, "refused"),
    ("fix renamed.pth --against target.pth --rename trunk.first=stem --dry-run", 0, "would fix"),
    ("fix renamed.pth --against target.pth --rename trunk.first=stem", 0, "fixed"),
    ("fix renamed.pth --against target.pth --rename trunk.first=fc --output no.pth", 1, "refused"),
    ("fix renamed.pth --against target.pth --rename trunk=stem --output no.pth", 1, "refused"),
    ("fix renamed.pth --against target.pth --rename first.weigh=stem --output no.pth", 1, "refused"),
    ("fix renamed.pth --rename trunk.first", 2, "usage"),
    ("fix renamed.pth --rename trunk.first=", 2, "usage"),
    ("fix renamed.pth --rename fc=a --rename fc=b", 2, "usage"),
    ("fix parts.pth", 1, "refused"),
    ("fix parts.pth --select encoder,decoder", 0, "fixed"),
    ("fix parts.pth --select encoder,decoder --keep-training-state", 2, "usage"),
    ("fix gan.pth --select G", 0, "fixed"),
    ("fix gan.pth --select D", 0, "fixed"),
    ("fix gan.pth --select G,D", 1, "refused"),
    ("fix zero3.pth --output no.pth", 1, "refused"),
    ("fix packed.pth --output no.pth", 1, "refused"),
    ("fix slashes.pth --output no.pth", 1, "refused"),
    ("fix nan.pth --format safetensors", 1, "refused"),
    ("fix nan_blocks.pth", 1, "refused"),
    ("fix arrays.pth", 1, "refused"),
    ("fix pairs.pth", 1, "refused"),
    ("fix twice.pth", 1, "refused"),
    ("fix optimizer.pth", 1, "refused"),
    ("fix empty.pth", 1, "failed"),
    ("fix nowhere.pth", 2, "usage"),
    ("fix clean.pth foreign.pth --output both", 0, "fixed, fixed"),
    ("fix clean.pth foreign.pth", 1, "already clean, not compared"),
]


def made(folder: Path) -> Path:
    for name, content in FILES.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        elif name.endswith(".safetensors"):
            save_file(content, folder / name)
        else:
            torch.save(content, folder / name)
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made(tmp_path))
    return tmp_path


def said(answer: dict[str, Any]) -> str:
    """The one word that counts in what a command prints."""
    if "files" in answer:
        return ", ".join(repair["status"] for repair in answer["files"])
    if "error" in answer and "format" not in answer:
        return str(answer["error"]["kind"])
    return str(answer.get("verdict", answer.get("format")))


def walked() -> Iterator[tuple[str, int, str]]:
    """What the command says to each row, one after the other: later rows find what earlier ones wrote."""
    for words, *_ in ROWS:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            try:
                command.main([*words.split(), "--json"])
            except SystemExit as stop:
                yield words, int(stop.code or 0), said(json.loads(out.getvalue()))


def test_every_status_and_exit_code(folder: Path) -> None:
    before = {name: (folder / name).read_bytes() for name in FILES}
    assert list(walked()) == ROWS
    assert before == {name: (folder / name).read_bytes() for name in FILES}, "no source is touched"
    assert not (folder / "no.pth").exists()
    wrote = {path.name for path in folder.iterdir()} - set(FILES)
    assert {"parts.encoder,decoder.fixed.pth", "gan.G.fixed.pth", "gan.D.fixed.pth", "renamed.fixed.pth"} <= wrote
    assert torch.load(folder / "renamed.fixed.pth", weights_only=True).keys() == STEM.keys()
    joined = torch.load(folder / "parts.encoder,decoder.fixed.pth", weights_only=True)
    assert all(torch.equal(joined[name], tensor) for name, tensor in STEM.items()) and joined.keys() == STEM.keys()


def test_the_same_in_one_file_without_torch(folder: Path) -> None:
    """`dav2.pyz`, by an interpreter that finds nothing but its library, in one process for all rows."""
    archive = pyz.build(folder / "dav2.pyz")
    script = (
        "import sys; sys.path.insert(0, 'dav2.pyz'); import contextlib, io, json\n"
        "from dav2_utils.cli.command import main\n"
        "found = []\n"
        "for words in json.load(sys.stdin):\n"
        "    out = io.StringIO()\n"
        "    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):\n"
        "        try: main([*words.split(), '--json'])\n"
        "        except SystemExit as stop: found.append((words, int(stop.code or 0), json.loads(out.getvalue())))\n"
        "print(json.dumps([found, 'torch' in sys.modules]))\n"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-B", "-c", script], input=json.dumps([row[0] for row in ROWS]),
                          capture_output=True, text=True, cwd=folder, env={}, timeout=300)  # fmt: skip
    assert archive.exists() and done.returncode == 0, done.stderr
    found, torch_there = json.loads(done.stdout)
    assert not torch_there
    assert [(words, status, said(answer)) for words, status, answer in found] == ROWS


@pytest.mark.parametrize("name", ["foreign", "wrapped"])
def test_the_line_that_makes_a_target_is_said_and_true(name: str, folder: Path) -> None:
    from dav2_utils import diagnose, explain, fix_file, load_into

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.fc = nn.Linear(4, 3), nn.Linear(3, 2, bias=False)

    model, path = Net(), folder / f"{name}.pth"
    line = "torch.save(model.state_dict(), 'target.pth')"
    assert all(line in str(text) for text in (diagnose(path), fix_file(path, "copy.pth"), explain("it does not load")))
    assert line in diagnose(path)._repr_html_().replace("&#x27;", "'")
    exec(line, {"torch": torch, "model": model})
    assert diagnose(path, "target.pth").verdict in ("loads", "repairable")
    assert load_into(model, path).status == "loaded" and torch.equal(model.fc.weight, STEM["fc.weight"])


def test_a_headline_never_contradicts_its_cure(folder: Path) -> None:
    from dav2_utils import diagnose

    text = str(diagnose("teachers.pth"))
    assert "--select teacher" in text and "cannot fix" not in text.splitlines()[0]
    assert "cannot fix" in str(diagnose("wide.pth", "target.pth")).splitlines()[0]


def test_nan_is_seen_where_it_fills_a_tensor_and_only_there(tmp_path: Path) -> None:
    from dav2_utils import diagnose

    some = torch.arange(1000.0)
    some[3] = math.nan
    torch.save({"a.weight": some, "b.weight": torch.full((1,), math.nan), "c.weight": some[:4]}, tmp_path / "a.pth")
    assert diagnose(tmp_path / "a.pth").verdict == "no target"
    torch.save({"a.weight": torch.full((9, 9), math.nan), "b.weight": some}, tmp_path / "a.pth")
    [cause] = diagnose(tmp_path / "a.pth").causes
    assert cause.cause == "nan_weights" and "1 of 2 tensors" in cause.evidence and "a.weight" in cause.evidence
    (tmp_path / "a.pth").write_bytes((tmp_path / "a.pth").read_bytes()[:-400])
    assert diagnose(tmp_path / "a.pth").verdict == "unreadable"
