"""How well the embedded and the fine-tuned weights see, beside a depth map that never looks at the picture.

    python benchmarks/scores.py [--finetuned DIR/latest.pth]

Without --finetuned it fine-tunes first, as the lessons do. 200 held-out rooms and 200 held-out streets, each 112 x 154.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from dav2_utils.finetune import make_checkpoint
from dav2_utils.model import DepthAnythingV2
from dav2_utils.scenes import DOMAINS, default_weights, depth_scores, held_out, make_scene
from dav2_utils.training import evaluate

Scores = dict[str, float]


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--finetuned", type=Path)
    parser.add_argument("--count", type=int, default=200, help="scenes of each domain (%(default)s)")
    o = parser.parse_args()
    with safe_open(default_weights(), "pt") as file:
        print("embedded weights:", file.metadata())
    latest = o.finetuned
    if latest is None:
        start = time.monotonic()
        latest = make_checkpoint(tempfile.mkdtemp())
        print(f"fine-tuned in {time.monotonic() - start:.0f} s, start of the processes included")
    print(f"\n| {o.count} held-out | map | AbsRel | delta1 | RMSE (m) |\n|---|---|---|---|---|")
    for domain in DOMAINS:
        seeds = held_out(domain, o.count)
        rows = {"mean training depth": mean_map(domain, seeds), "base": evaluate(base(20.0), domain, seeds)}
        if domain == "streets":
            rows["base, outputs times 4 (max_depth 80)"] = evaluate(base(80.0), domain, seeds)
            rows["fine-tuned"] = evaluate(finetuned(latest), domain, seeds)
        for name, s in rows.items():
            print(f"| {domain} | {name} | {s['abs_rel']:.3f} | {s['delta1']:.3f} | {s['rmse']:.2f} |", flush=True)


if __name__ == "__main__":
    main()
