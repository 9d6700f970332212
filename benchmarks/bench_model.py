"""How fast one forward is beside the official form of it, how much memory it takes, and how far the results lie apart.

    python benchmarks/bench_model.py [--official CHECKOUT] [--encoder vits] [--size 518] [--rounds 9] [--threads 2]

All forms take turns in one process, so that a busy machine slows all of them; printed are medians. The first line is
our model written as the official code is (naive attention, channels first, the fusion blocks' convolution after their
resize), so that there is always something to compare with. Beside it the official code itself where CHECKOUT is given,
and transformers where it is installed. Peak memory is that of a process of its own for each form.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))
OURS, NAIVE, BFLOAT, OFFICIAL, TRANSFORMERS = "ours", "official form", "ours, bfloat16", "official code", "transformers"
STEPS = {  # what our form takes back, one thing at a time
    NAIVE: ("attention", "channels", "fusion"),
    "ours, naive attention": ("attention",),
    "ours, channels first": ("channels",),
    "ours, resize first": ("fusion",),
    OURS: (),
}


def as_official(*steps: str) -> ExitStack:
    """A context in which our classes work as the official ones do, as far as `steps` say."""
    from unittest.mock import patch

    from dav2_utils import dinov2, model

    def attention(self: Any, x: Any) -> Any:
        batch, tokens, width = x.shape
        query, key, value = self.qkv(x).reshape(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        weights = (query * (width // self.heads) ** -0.5 @ key.transpose(-2, -1)).softmax(dim=-1)
        return self.proj((weights @ value).transpose(1, 2).reshape(batch, tokens, width))

    def channels(self: Any, i: int, patches: Any, cls: Any, h: int, w: int) -> Any:
        batch, _, width = patches.shape
        return self.resize_layers[i](self.projects[i](patches.permute(0, 2, 1).reshape(batch, width, h, w)))

    def fusion(self: Any, coarse: Any, fine: Any, size: Any) -> Any:
        total = coarse if fine is None else coarse + self.resConfUnit1(fine)
        return self.out_conv(model.resize(self.resConfUnit2(total), size))

    ours = {
        "attention": (dinov2.Attention, "forward", attention),
        "channels": (model.DPTHead, "reassemble", channels),
        "fusion": (model.FeatureFusionBlock, "forward", fusion),
    }
    stack = ExitStack()
    for step in steps:
        stack.enter_context(patch.object(*ours[step]))
    return stack


def names(o: argparse.Namespace) -> list[str]:
    """What can be measured here."""
    others = [OFFICIAL] * bool(o.official) + [TRANSFORMERS] * bool(importlib.util.find_spec("transformers"))
    return [*(STEPS if o.steps else (NAIVE, OURS)), BFLOAT, *others]


def form(o: argparse.Namespace, name: str) -> Callable[[Any], Any]:
    """One form as a function from the input to the depth map, on the weights of `tests/recipe.py`."""
    import recipe
    import torch

    from dav2_utils.architecture import get_encoder, table_for
    from dav2_utils.model import DepthAnythingV2, model_configs

    if name == TRANSFORMERS:
        return from_transformers(get_encoder(o.encoder))
    with torch.device("meta"):
        model = DepthAnythingV2(o.encoder)
    if name == OFFICIAL:
        sys.path.insert(0, str(Path(o.official).resolve()))
        from depth_anything_v2.dpt import DepthAnythingV2 as Official

        model = Official(**model_configs[o.encoder])
    dtype = torch.bfloat16 if name == BFLOAT else torch.float32
    shapes = {name: info.shape for name, info in table_for(o.encoder).items()}
    made = ((name, torch.from_numpy(recipe.tensor(name, shape, o.encoder))) for name, shape in shapes.items())
    model.load_state_dict({name: tensor.to(dtype) for name, tensor in made}, assign=True)
    model.eval()

    def run(image: Any) -> Any:
        with as_official(*STEPS.get(name, ())):
            return model(image.to(dtype)).float()

    return run


def from_transformers(e: Any) -> Callable[[Any], Any]:
    """Its model of the same size, with random weights: good for the clock, not for the values."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    backbone = Dinov2Config(
        hidden_size=e.width, num_hidden_layers=e.depth, num_attention_heads=e.heads, image_size=e.image_size,
        patch_size=14, out_indices=[layer + 1 for layer in e.layers], reshape_hidden_states=False,
    )  # fmt: skip
    config = DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=e.width, fusion_hidden_size=e.features,
        neck_hidden_sizes=list(e.out_channels),
    )  # fmt: skip
    model = DepthAnythingForDepthEstimation(config).eval()
    return lambda image: model(image).predicted_depth


def measure(o: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """Median seconds of each form, and its largest distance to the first, in that one's standard deviations."""
    import recipe
    import torch

    torch.set_num_threads(o.threads)
    image = torch.from_numpy(recipe.make_input(1, o.size, o.size))
    every = {name: form(o, name) for name in names(o)}
    seconds: dict[str, list[float]] = {name: [] for name in every}
    away: dict[str, float] = {}
    with torch.inference_mode():
        first = every[OFFICIAL if o.official else NAIVE](image)
        for turn in range(o.rounds + 1):  # the first round warms up
            for name, run in every.items():
                start = time.perf_counter()
                out = run(image)
                if turn:
                    seconds[name].append(time.perf_counter() - start)
                away[name] = float((out - first).abs().max() / first.std())
    return {name: (median(seconds[name]), away[name]) for name in every}


def peak(o: argparse.Namespace, name: str) -> float:
    """The most megabytes that a process of its own takes for one forward, torch and the weights included."""
    options = [sys.executable, __file__, "--peak-of", name, "--encoder", o.encoder, "--size", str(o.size)]
    options += [
        "--threads",
        str(o.threads),
        *(["--official", o.official] if o.official else []),
        *(["--steps"] * o.steps),
    ]
    return float(subprocess.run(options, capture_output=True, text=True, check=True).stdout)


def print_peak(o: argparse.Namespace) -> None:
    import resource

    import recipe
    import torch

    torch.set_num_threads(o.threads)
    run = form(o, o.peak_of)
    with torch.inference_mode():
        run(torch.from_numpy(recipe.make_input(1, o.size, o.size)))
    unit = 2**20 if sys.platform == "darwin" else 2**10
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", metavar="CHECKOUT", help="folder of github.com/DepthAnything/Depth-Anything-V2")
    parser.add_argument("--encoder", default="vits")
    parser.add_argument("--size", type=int, default=518)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", action="store_true", help="each difference to the official form by itself, too")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    o = parser.parse_args()
    if o.peak_of:
        print_peak(o)
        return 0
    # A process never reports a smaller peak than the one that started it, so torch is loaded here only after this.
    peaks = {name: peak(o, name) for name in names(o)}
    taken = measure(o)
    print(f"{o.encoder}, one picture of {o.size} x {o.size}, {o.threads} threads, medians of {o.rounds} rounds\n")
    print("| form | seconds | times as fast | peak MB | largest difference / std |\n|---|---|---|---|---|")
    slow = taken[NAIVE][0]
    for name, (seconds, away) in taken.items():
        difference = "(other weights)" if name == TRANSFORMERS else f"{away:.1e}"
        print(f"| {name} | {seconds:.3f} | {slow / seconds:.2f} | {peaks[name]:.0f} | {difference} |")
    for name, how in ((OFFICIAL, "--official CHECKOUT"), (TRANSFORMERS, "pip install transformers")):
        if name not in taken:
            print(f"\nNot measured: {name} ({how}).", end="")
    print("\nGoal: ours 1.7 times as fast as the official form, within 1e-5 of it, in no more memory.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
