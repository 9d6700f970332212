"""How fast one forward pass is compared with its official form, its memory, and how far apart the results are.

    python benchmarks/bench_model.py [--official CHECKOUT] [--encoder vits] [--size 518] [--rounds 9] [--threads 2]

All forms take turns in one process, so that a busy machine slows all of them; printed are medians. The first line is
our model written as the official code is (naive attention, channels first, the fusion blocks' convolution after their
resize), so that there is always something to compare with. Next to it come the official code itself if CHECKOUT is
given (or the variable DAV2_OFFICIAL names it), and transformers if it is installed. Peak memory is measured in a
separate process for each form. The outputs that the official code gave once, in `tests/data`, are compared with
everywhere.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from side_by_side import ROOT, Row, in_turns, parser, process, report

sys.path.insert(0, str(ROOT / "tests"))
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

    from dav2_utils.depth import dinov2, model

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


def weights(encoder: str) -> dict[str, Any]:
    import recipe
    import torch

    from dav2_utils.encoders import table_for

    return {
        name: torch.from_numpy(recipe.tensor(name, info.shape, encoder)) for name, info in table_for(encoder).items()
    }


def form(o: argparse.Namespace, name: str) -> Callable[[Any], Any]:
    """One form as a function from the input to the depth map, on the weights that `tests/recipe.py` makes."""
    import torch

    from dav2_utils.depth.model import DepthAnythingV2, model_configs
    from dav2_utils.encoders import get_encoder

    if name == TRANSFORMERS:
        return from_transformers(get_encoder(o.encoder))
    with torch.device("meta"):
        model = DepthAnythingV2(o.encoder)
    if name == OFFICIAL:
        sys.path.insert(0, str(Path(o.official).resolve()))
        from depth_anything_v2.dpt import DepthAnythingV2 as Official

        model = Official(**model_configs[o.encoder])
    dtype = torch.bfloat16 if name == BFLOAT else torch.float32
    model.load_state_dict({name: tensor.to(dtype) for name, tensor in weights(o.encoder).items()}, assign=True)
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


class Form(NamedTuple):
    """What was measured of one form: medians, and the largest distance to the first form."""

    seconds: float
    peak: float  # MB
    away: float  # in the first one's standard deviations


def measure(o: argparse.Namespace) -> dict[str, Form]:
    """Every form that can be measured here. Peaks come first: this process must not have imported torch before."""
    peaks = {name: median(peak(o, name) for _ in range(o.weighings)) for name in names(o)}

    import recipe
    import torch

    torch.set_num_threads(o.threads)
    image = torch.from_numpy(recipe.make_input(1, o.size, o.size))
    every = {name: form(o, name) for name in names(o)}

    def once(run: Callable[[Any], Any]) -> tuple[float, float]:
        start = time.perf_counter()
        out = run(image)
        return time.perf_counter() - start, float((out - first).abs().max() / first.std())

    with torch.inference_mode():
        first = every[OFFICIAL if o.official else NAIVE](image)
        taken = in_turns({name: partial(once, run) for name, run in every.items()}, o.rounds)
    return {
        name: Form(median(seconds for seconds, _ in runs), peaks[name], max(away for _, away in runs))
        for name, runs in taken.items()
    }


def peak(o: argparse.Namespace, name: str) -> float:
    """The most megabytes that a process of its own takes for one forward, torch and the weights included."""
    words = ["--peak-of", name, "--encoder", o.encoder, "--size", str(o.size), "--threads", str(o.threads)]
    return process(sys.executable, __file__, *words, *(["--official", o.official] if o.official else [])).peak


def one_forward(o: argparse.Namespace) -> None:
    import recipe
    import torch

    torch.set_num_threads(o.threads)
    run = form(o, o.peak_of)
    with torch.inference_mode():
        run(torch.from_numpy(recipe.make_input(1, o.size, o.size)))


class Parity(NamedTuple):
    """Our outputs beside the stored official ones."""

    cases: int
    worst: float  # in standard deviations of the official output
    spoilt: float  # the same for one case, with one tensor off by 1 %: what the measure would see


def parity() -> Parity:
    """For ViT-S, relative and metric, every stored case."""
    import parity as stored
    import torch

    from dav2_utils.depth.model import DepthAnythingV2

    def vits(max_depth: float | None, **other: Any) -> DepthAnythingV2:
        with torch.device("meta"):
            model = DepthAnythingV2("vits", max_depth=max_depth)
        model.load_state_dict(state | other, assign=True)
        return model.eval()

    def away(model: DepthAnythingV2, file: str, max_depth: float | None, case: str) -> float:
        return stored.departure(stored.OUTPUTS[file, max_depth], case, stored.run(model, case))

    state = weights("vits")
    models = {max_depth: vits(max_depth) for _, max_depth in stored.OUTPUTS}
    cases = [case for case in stored.CASES if not case[2].startswith("image2tensor")]
    spoilt = vits(None, **{"pretrained.pos_embed": 1.01 * state["pretrained.pos_embed"]})
    worst = max(away(models[case[1]], *case) for case in cases)
    return Parity(len(cases), worst, away(spoilt, "out_vits_relative.npz", None, "forward 2x3x126x182"))


def rows(found: dict[str, Form], same: Parity, o: argparse.Namespace) -> list[Row]:
    ours, naive = found[OURS], found[NAIVE]
    what = f"forward of {o.encoder} at {o.size}x{o.size}"
    first = OFFICIAL if OFFICIAL in found else NAIVE
    made = [
        Row(f"{what} against the {NAIVE}", "at least", 1.7, "times faster", naive.seconds / ours.seconds,
            f"our model in the official form: {naive.seconds:.3f} s (ours {ours.seconds:.3f} s)"),
        Row(f"{what}, largest difference to the {first}", "at most", 1e-5, "of its standard deviation", ours.away,
            f"ours in bfloat16: {found[BFLOAT].away:.1e}"),
        Row(f"{what}, peak memory", "at most", 1, "times as much", ours.peak / naive.peak,
            f"our model in the official form: {naive.peak:.0f} MB (ours {ours.peak:.0f} MB)"),
        Row("outputs beside the official code's, stored", "at most", 2e-4, "of their standard deviation", same.worst,
            f"{same.cases} cases; with one tensor off by 1 %: {same.spoilt:.1e}"),
    ]  # fmt: skip
    for name, limit, how in (
        (OFFICIAL, 1.7, "no checkout was given: DAV2_OFFICIAL=CHECKOUT make bench"),
        (TRANSFORMERS, None, "it is not installed: pip install transformers"),
    ):
        other = found.get(name)
        beside = f"{name}: {other.seconds:.3f} s (ours {ours.seconds:.3f} s)" if other else how
        faster = other.seconds / ours.seconds if other else None
        made.append(
            Row(
                f"{what} against {'the ' * (name == OFFICIAL)}{name} itself",
                "at least",
                limit,
                "times faster",
                faster,
                beside,
            )
        )
    return made


def details(found: dict[str, Form], o: argparse.Namespace) -> None:
    print(f"{o.encoder}, one picture of {o.size} x {o.size}, {o.threads} threads, medians of {o.rounds} rounds\n")
    print("| form | seconds | times as fast | peak MB | largest difference / std |\n|---|---|---|---|---|")
    for name, one in found.items():
        difference = "(other weights)" if name == TRANSFORMERS else f"{one.away:.1e}"
        times = found[NAIVE].seconds / one.seconds
        print(f"| {name} | {one.seconds:.3f} | {times:.2f} | {one.peak:.0f} | {difference} |")


def main() -> None:
    options = parser(__doc__, rounds=9)
    options.add_argument("--official", metavar="CHECKOUT", default=os.environ.get("DAV2_OFFICIAL"),
                         help="folder of github.com/DepthAnything/Depth-Anything-V2")  # fmt: skip
    options.add_argument("--encoder", default="vits")
    options.add_argument("--size", type=int, default=518)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--weighings", type=int, default=3, help="processes for each form's peak memory (%(default)s)")
    options.add_argument("--steps", action="store_true", help="each difference to the official form by itself, too")
    options.add_argument("--peak-of", help=argparse.SUPPRESS)
    o = options.parse_args()
    if o.peak_of:
        one_forward(o)
        return
    found = measure(o)
    details(found, o)
    report(rows(found, parity(), o), o.rows)


if __name__ == "__main__":
    main()
