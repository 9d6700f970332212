"""How the embedded weights were made: metric `tiny`, from random numbers, on rooms. About an hour on two cores.

    python benchmarks/train_tiny.py

Every scene is new (its seed is the running number of the picture), so there is nothing to overfit; the held-out seeds
begin far above. What is saved is the running average of the weights, which is good at any moment: stop when you like.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm import tqdm

import dav2_utils
from dav2_utils.depth.hub import default_weights
from dav2_utils.depth.model import DepthAnythingV2
from dav2_utils.training.data import SceneDataset, depth_loss, evaluate
from dav2_utils.training.scenes import DOMAINS, held_out


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=default_weights())
    parser.add_argument("--domain", default="rooms", choices=list(DOMAINS))
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="a second core is busy making scenes (default: 1)")
    parser.add_argument("--float32", action="store_true", help="no bfloat16 in the forward pass (a third slower)")
    return parser.parse_args()


def save(model: torch.nn.Module, o: argparse.Namespace, step: int, seconds: float) -> None:
    facts = {
        "encoder": "tiny", "kind": "metric", "max_depth": f"{DOMAINS[o.domain]:g}", "trained_on": o.domain,
        "command": f"python benchmarks/train_tiny.py --steps {o.steps} --batch {o.batch} --lr {o.lr} --seed {o.seed}",
        "steps": str(step), "pictures": str(step * o.batch), "seconds": f"{seconds:.0f}", "seed": str(o.seed),
        "dav2_utils": dav2_utils.__version__, "torch": torch.__version__, "numpy": np.__version__,
        "python": platform.python_version(),
    }  # fmt: skip
    weights = {name: tensor.detach().half().contiguous() for name, tensor in model.state_dict().items()}
    o.output.parent.mkdir(parents=True, exist_ok=True)
    beside = o.output.with_suffix(".part")
    save_file(weights, beside, metadata=facts)
    beside.replace(o.output)


def main() -> None:
    o = options()
    torch.manual_seed(o.seed)
    torch.set_num_threads(o.threads)
    model = DepthAnythingV2("tiny", max_depth=DOMAINS[o.domain])
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.998))
    first = 1 + 10_000_000 * o.seed
    scenes = SceneDataset(o.domain, range(first, first + o.steps * o.batch))
    optimizer = torch.optim.AdamW(model.parameters(), o.lr, betas=(0.9, 0.95), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, o.lr, o.steps, pct_start=0.06)
    start = saved = time.monotonic()
    bar = tqdm(DataLoader(scenes, o.batch, num_workers=1, prefetch_factor=4), mininterval=10, file=sys.stdout)
    for step, (image, depth) in enumerate(bar, 1):
        # Light and white balance differ more between cameras than between our scenes.
        image = image * (0.8 + 0.4 * torch.rand(len(image), 3, 1, 1)) + 0.4 * (torch.rand(len(image), 3, 1, 1) - 0.5)
        with torch.autocast("cpu", torch.bfloat16, enabled=not o.float32):
            prediction = model(image)
        loss = depth_loss(prediction.float(), depth)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(model)
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
        if time.monotonic() - saved > 60 or step == o.steps:
            saved = time.monotonic()
            save(average.module, o, step, saved - start)
            if step % 10 < 3 or step == o.steps:
                print(f"\nstep {step}: {evaluate(average.module, o.domain, held_out(o.domain, 40))}", flush=True)


if __name__ == "__main__":
    main()
