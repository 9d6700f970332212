"""What a report says, word for word: `make reports-update` stores it again, and the diff shows what people will read.

Each file of `data/reports/` holds one report as text and, one tag a line, as HTML. `data/readings.txt` says what is
read out of each public error text: a safety net for changes, not a measure, as the rules were written with these in
view. Everything is made here from tables and small files, so that nothing depends on the machine, on a path or on a
version.
"""

from __future__ import annotations

import argparse
import collections
import decimal
import fractions
import json
import os
import re
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from dav2_utils.diagnosis.diagnose import diagnose
from dav2_utils.diagnosis.explain import explain
from dav2_utils.diagnosis.report import Step
from dav2_utils.encoders import table_for
from dav2_utils.keys import Table, TensorInfo
from dav2_utils.repair.fixing import Repair, fix_file

DATA = Path(__file__).parents[1] / "data"
FOLDER = DATA / "reports"
READINGS = DATA / "readings.txt"
VITS, VITL, TINY = table_for("vits"), table_for("vitl"), table_for("tiny")
ONE = TensorInfo((1,))


def under(prefix: str, table: Table) -> Table:
    return {prefix + name: info for name, info in table.items()}


def encoder_of(table: Table, prefix: str) -> Table:
    return {prefix + name[11:]: info for name, info in table.items() if name.startswith("pretrained.")}


def zeros(prefix: str = "") -> dict[str, torch.Tensor]:
    return {prefix + name: torch.zeros(info.shape) for name, info in TINY.items()}


def saved(name: str, content: Any, **options: Any) -> str:
    """The name of a file in the current folder, which is a fresh one for each report."""
    if isinstance(content, bytes):
        Path(name).write_bytes(content)
    elif name.endswith(".safetensors"):
        save_file(content, name, **options)
    else:
        torch.save(content, name, **options)
    return name


TRANSFORMERS = {
    f"backbone.encoder.layer.{i}.attention.attention.{part}.weight": TensorInfo((384, 384))
    for i in range(12) for part in ("query", "key", "value")
} | {"neck.fusion_stage.layers.0.projection.weight": TensorInfo((64, 64, 1, 1))}  # fmt: skip
HEAD = {f"depth_head.scratch.layer{i}_rn.weight": TensorInfo((99, 9, 3, 3)) for i in range(1, 5)}
TRAINING = {"model": under("module.", VITL), "optimizer": {}, "epoch": 39, "previous_best": {"d1": 0.9}}
EVIL = {"<script>alert(1)</script>.w": ONE, "module.\x1b[31mred": ONE, "a\nb.c": ONE, "`x`.y": ONE}
FOUR = [argparse.Namespace(lr=1), decimal.Decimal(1), fractions.Fraction(1, 2), collections.deque([1])]
FIXED = Repair(
    "latest.pth", "fixed", "latest.fixed.pth", tensors=407, bytes=1_341_322_868, identical=True,
    steps=[Step("unwrap", ("model",)), Step("strip", token="module", keys=1)],
    fingerprint="sha256:00", backup="latest.pth.bak",
)  # fmt: skip

REPORTS: dict[str, Callable[[], Any]] = {
    "loads": partial(diagnose, VITS),
    "loads, another model": partial(diagnose, {"a.w": ONE}, {"a.w": ONE}),
    "loads, with its depth": lambda: diagnose(
        saved("indoor.safetensors", zeros(), metadata={"depth": "metric", "max_depth": "20"})),
    "training file": partial(diagnose, TRAINING),
    "nested containers": partial(diagnose, {"state": {"model": under("module.", TINY), "step": 4}, "seed": 1}),
    "two wrappers": partial(diagnose, under("_orig_mod.module.", VITS), "vits"),
    "wrapper inside": partial(diagnose, {"module.a.w": ONE, "b.w": ONE}, {"a.w": ONE, "b.w": ONE}),
    "lightning": partial(
        diagnose, {"state_dict": under("model._orig_mod.", VITS) | {f"loss.{i}": ONE for i in range(5)}}),
    "averaged model": partial(diagnose, {"n_averaged": TensorInfo((), "int64")} | under("module.", VITS)),
    "wrapped model": partial(diagnose, VITS, under("module.", VITS)),
    "part of a model": partial(diagnose, VITS, under("core.core.", VITS)),
    "part of more": partial(diagnose, VITS, under("core.", VITS) | {"bins.w": ONE}),
    "wrong encoder": partial(diagnose, under("module.", VITS), "vitl"),
    "DINOv2": partial(diagnose, encoder_of(VITL, ""), "vitl"),
    "DINOv2, no target": partial(diagnose, encoder_of(VITL, "backbone.")),
    "encoder alone": partial(diagnose, encoder_of(VITL, "pretrained.")),
    "transformers": partial(diagnose, under("module.", TRANSFORMERS), "vits"),
    "another image size": partial(diagnose, VITS | {"pretrained.pos_embed": TensorInfo((1, 1025, 384))}),
    "another head": partial(diagnose, VITS | HEAD),
    "one head more": partial(diagnose, VITS | {"cls.weight": ONE, "cls.bias": ONE, "aux.weight": ONE}),
    "another model": partial(diagnose, {f"layer{i}.{k}.weight": ONE for i in range(9) for k in range(3)}, "vits"),
    "teacher and student": partial(diagnose, under("student.", VITS) | under("teacher.", VITS), "vits"),
    "two of a name": partial(diagnose, {"w": ONE, "module.w": ONE}, {"w": ONE}),
    "slices": partial(diagnose, under("_fsdp_wrapped_module.", {n: TensorInfo((9,)) for n in VITS})),
    "LoRA": partial(diagnose, {f"base_model.model.a.lora_{side}.weight": ONE for side in "AB"}, "vits"),
    "quantised": partial(diagnose, {f"a.{part}": ONE for part in ("scale", "zero_point", "weight")}, {"a.bias": ONE}),
    "EMA as an attribute": partial(diagnose, under("module.", VITS | under("ema.", VITS))),
    "wrapped": partial(diagnose, under("module.", {"a.w": ONE})),
    "no target": partial(diagnose, {"a.w": ONE}),
    "a larger network": partial(diagnose, under("net.depth.", VITS) | {"fnet.w": ONE}),
    "empty tensors": partial(diagnose, {n: TensorInfo((0,)) if "blocks" in n else info for n, info in VITS.items()}),
    "names with slashes": partial(diagnose, {"module/stem/weight": ONE, "module/stem/bias": ONE}),
    "counters too few": partial(diagnose, {"a.weight": ONE}, {"a.weight": ONE, "a.num_batches_tracked": ONE}),
    "names that would steer": partial(diagnose, EVIL, "vits"),
    "arguments inside": lambda: diagnose(
        saved("args.pth", {"model": zeros("module."), "args": argparse.Namespace(lr=1)})),
    "objects of four kinds": lambda: diagnose(saved("odd.pth", {"w.a": torch.ones(1), "odd": FOUR})),
    "arguments inside, old format": lambda: diagnose(
        saved("old.pth", {"w.a": torch.ones(1), "args": argparse.Namespace()}, _use_new_zipfile_serialization=False)),
    "whole model": lambda: diagnose(saved("whole.pth", torch.nn.Sequential(torch.nn.Linear(2, 2)))),
    "one of several files": lambda: diagnose(
        saved("model-00002-of-00015.pth", dict(list(zeros().items())[:20])), "tiny"),
    "no weights": lambda: diagnose(saved("epoch.pth", {"epoch": 3})),
    "LFS pointer": lambda: diagnose(
        saved("a.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")),
    "empty file": lambda: diagnose(saved("a.pth", b"")),
    "cut file": lambda: diagnose(saved("a.pth", b"PK\3\4" + bytes(99))),
    "explained": partial(
        explain, 'Error(s) in loading state_dict for Net:\n\tMissing key(s) in state_dict: "a.w", "b.w". \n'
        '\tUnexpected key(s) in state_dict: "module.a.w", "module.b.w". '),
    "explained, two readings": partial(explain, "torch.load('a.pth')\nEOFError"),
    "explained, nothing known": partial(explain, "It does not work"),
    "explained, sizes": partial(
        explain, "size mismatch for pos_embed: copying a param with shape torch.Size([1, 197, 8]) from checkpoint, the "
        "shape in current model is torch.Size([1, 577, 8])."),
    "would fix": lambda: fix_file(saved("latest.pth", {"model": zeros("module."), "epoch": 3}), dry_run=True),
    "not compared": lambda: fix_file(saved("clean.pth", {"a.w": torch.ones(1)})),
    "already clean": lambda: fix_file(saved("clean.pth", {"a.w": torch.ones(1)}), against="clean.pth"),
    "renamed": lambda: fix_file(saved("old.pth", {"a.x.w": torch.ones(1)}), rename={"a.x": "b"}, dry_run=True),
    "NumPy arrays": lambda: diagnose(saved("arrays.pth", {"a.w": torch.ones(1).numpy()})),
    "refused": lambda: fix_file(saved("latest.pth", {"model": zeros("module.")}), encoder="vits"),
    "fixed": lambda: FIXED,
}  # fmt: skip


def report(name: str) -> str:
    """The report called `name`, as it is stored."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            made = REPORTS[name]()
            text, page = str(made), made._repr_html_()
        finally:
            os.chdir(before)
    return (
        f"{text}\n\n---- as HTML ----\n"
        + re.sub(r"(?<=.)(?=<(?:div|p|ol|ul|li|details|summary|/div|/ol|/ul)\b)", "\n", page)
        + "\n"
    )


def place(name: str) -> Path:
    return FOLDER / f"{re.sub(r'[^a-z0-9]+', '_', name.lower())}.txt"


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_says_what_is_stored(name: str) -> None:
    stored = place(name).read_text(encoding="utf-8")
    assert report(name) == stored, "Is the new text what people should read? Then: make reports-update"


def test_no_report_is_left_over() -> None:
    assert sorted(FOLDER.iterdir()) == sorted(map(place, REPORTS))


def readings() -> str:
    """Cause, detail and evidence of every public case, and whether renaming alone repairs it."""
    lines, right = [], 0
    for case in json.loads((DATA / "failures.json").read_text(encoding="utf-8")):
        causes = explain(case["error_text"]).causes
        right += [found.cause for found in causes[:1]] == [case["cause"]]
        lines.append(f"{case['id']}, which is {case['cause']}{', repairable' * case['repairable']}")
        for found in causes:
            what = found.cause + (found.detail and f": {found.detail}")
            lines += [f"  {what}{' (repairable)' * found.repairable_by_renaming}", f"    seen: {found.evidence}"]
    lines.append(f"right first: {right}")
    return "\n".join(lines) + "\n"


def test_public_cases_are_read_as_before() -> None:
    assert readings() == READINGS.read_text(encoding="utf-8"), "Is the new reading better? Then: make reports-update"


def update() -> None:
    READINGS.write_text(readings(), encoding="utf-8", newline="\n")
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.iterdir():
        old.unlink()
    for name in REPORTS:
        place(name).write_text(report(name), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    update()
