"""How well the embedded and the fine-tuned weights see, next to a depth map that never looks at the picture.

    python benchmarks/scores.py [--finetuned DIR/latest.pth]

Without --finetuned it fine-tunes first, as the lessons do, and takes the time. 200 held-out rooms and 200 held-out
streets, each 112 x 154.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from side_by_side import Row, parser, report

from dav2_utils.depth.hub import default_weights
from dav2_utils.depth.model import DepthAnythingV2
from dav2_utils.depth.scores import depth_scores
from dav2_utils.training.data import evaluate
from dav2_utils.training.loop import Plan, make_checkpoint
from dav2_utils.training.scenes import DOMAINS, held_out, make_scene

Scores = dict[str, float]
MEAN, BASE, SCALED, TUNED = "mean training depth", "base", "base, outputs times 4 (max_depth 80)", "fine-tuned"


def base(max_depth: float) -> DepthAnythingV2:
    model = DepthAnythingV2("tiny", max_depth=max_depth)
    model.load_state_dict(load_file(default_weights()))
    return model


def finetuned(latest: Path) -> DepthAnythingV2:
    wrapped = torch.nn.DataParallel(DepthAnythingV2("tiny", max_depth=DOMAINS["streets"]))
    wrapped.load_state_dict(torch.load(latest, map_location="cpu", weights_only=True)["model"])
    return wrapped.module


def mean_map(domain: str, seeds: Sequence[int], train: int = 500) -> Scores:
    """The scores of one map for every picture: the mean depth of `train` training scenes, pixel by pixel."""
    average = np.mean([make_scene(domain, seed).depth for seed in range(train)], axis=0)
    scores = [depth_scores(average, make_scene(domain, seed).depth) for seed in seeds]
    return {name: float(np.mean([s[name] for s in scores])) for name in scores[0]}


def measure(latest: Path, count: int) -> dict[tuple[str, str], Scores]:
    """The scores by domain and by whose depth maps they are."""
    found = {}
    for domain in DOMAINS:
        seeds = held_out(domain, count)
        found[domain, MEAN] = mean_map(domain, seeds)
        found[domain, BASE] = evaluate(base(20.0), domain, seeds)
    streets = held_out("streets", count)
    found["streets", SCALED] = evaluate(base(80.0), "streets", streets)
    found["streets", TUNED] = evaluate(finetuned(latest), "streets", streets)
    return found


def timed_finetune(folder: Path, steps: int) -> tuple[Path, float, float]:
    """A fresh fine-tune as the lessons do it: its file, its seconds, and those of one with a single step an epoch.

    The latter are what starting two processes, measuring and saving take.
    """
    start = time.monotonic()
    make_checkpoint(folder / "short", steps=1)
    middle = time.monotonic()
    latest = make_checkpoint(folder / "whole", steps=steps)
    return latest, time.monotonic() - middle, middle - start


def rows(found: dict[tuple[str, str], Scores], whole: float | None, short: float = 0.0) -> list[Row]:
    rooms, streets = ({who: s for (where, who), s in found.items() if where == domain} for domain in DOMAINS)
    # The base weights on streets by either scale, whichever is better: nothing is won by a range left as it was.
    unfit = min(streets[BASE]["abs_rel"], streets[SCALED]["abs_rel"])
    blind, seen, tuned = (scores["abs_rel"] for scores in (rooms[MEAN], rooms[BASE], streets[TUNED]))
    return [
        Row("base weights on rooms, AbsRel", "at most", 1 / 3, "times the mean map's", seen / blind,
            f"the mean depth of 500 training scenes: {blind:.3f} (ours {seen:.3f})"),
        Row("base weights on rooms, delta1", "at least", 0.95, "", rooms[BASE]["delta1"],
            f"the mean map: {rooms[MEAN]['delta1']:.3f}"),
        Row("fine-tuned weights on streets, delta1", "at least", 0.95, "", streets[TUNED]["delta1"],
            f"the mean map: {streets[MEAN]['delta1']:.3f}; base: {streets[SCALED]['delta1']:.3f}"),
        Row("base weights on streets, AbsRel", "at least", 2, "times the fine-tuned one's", unfit / tuned,
            f"fine-tuned: {tuned:.3f} (base {unfit:.3f}); the mean map: {streets[MEAN]['abs_rel']:.3f}"),
        Row("training on two processes", "at most", 20, "s", whole and whole - short,
            f"with start and end of the processes {whole:.0f} s; these alone, around two steps, {short:.0f} s" if whole
            else "--finetuned names one that was there already"),
        Row("embedded weights", "at most", 8, "MB", default_weights().stat().st_size / 1e6, "on the disk"),
    ]  # fmt: skip


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--finetuned", type=Path, help="fine-tuned before")
    options.add_argument("--count", type=int, default=200, help="scenes of each domain (%(default)s)")
    options.add_argument("--steps", type=int, default=Plan.steps, help="of each epoch of the fine-tune (%(default)s)")
    o = options.parse_args()
    with safe_open(default_weights(), "pt") as file:
        print("embedded weights:", file.metadata())
    with tempfile.TemporaryDirectory() as folder:
        latest, *seconds = (o.finetuned, None) if o.finetuned else timed_finetune(Path(folder), o.steps)
        found = measure(latest, o.count)
    print(f"\n| {o.count} held-out | map | AbsRel | delta1 | RMSE (m) |\n|---|---|---|---|---|")
    for (domain, who), s in found.items():
        print(f"| {domain} | {who} | {s['abs_rel']:.3f} | {s['delta1']:.3f} | {s['rmse']:.2f} |")
    report(rows(found, *seconds), o.rows)


if __name__ == "__main__":
    main()
