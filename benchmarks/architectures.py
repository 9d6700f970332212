"""Real networks and their relatives on the meta device: names and shapes, no weights. See `tests/made_failures.py`.

Every network is in half `a` (the rules may be tuned on it), `b` (never looked at one by one) or `c` (newer ones, for
the last word). Needs what `pip install dav2_utils[failures]` brings.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch

# A torchvision built for another torch lacks its compiled operators, and looks for two of them; names need none.
_missing = torch.library.Library("torchvision", "FRAGMENT")
for _name in ("nms", "qnms"):
    try:
        _missing.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    except RuntimeError:  # it is there
        break

import timm  # noqa: E402
import torchvision  # noqa: E402
from made_failures import Build, Net  # noqa: E402

warnings.filterwarnings("ignore")


def net(name: str, build: Callable[..., Any], family: str = "", **kin: Any) -> Net:
    """A network; each relative is a dictionary of other arguments for `build`, or a function without arguments."""
    built = {
        which: functools.partial(build, **how) if isinstance(how, dict) else how for which, how in kin.items() if how
    }
    return Net(name, build, built, family or name)


def _timm(name: str, width: str = "", depth: str = "", patch: str = "", image: int = 0, **kin: Any) -> Net:
    other = {
        which: functools.partial(timm.create_model, to) if to else None
        for which, to in (("width", width), ("depth", depth), ("patch", patch))
    }
    sized: Build | None = functools.partial(timm.create_model, name, img_size=image) if image else None
    return net(
        f"timm {name}", functools.partial(timm.create_model, name), name.split("_")[0], **other, image=sized,
        classes={"num_classes": 37}, channels={"in_chans": 1}, headless={"num_classes": 0}, **kin
    )  # fmt: skip


def _vision(name: str, width: str = "", depth: str = "", **kin: Any) -> Net:
    models = torchvision.models
    return net(
        f"torchvision {name}", functools.partial(getattr(models, name), weights=None), name.rstrip("0123456789_"),
        width=getattr(models, width, None), depth=getattr(models, depth, None), classes={"num_classes": 37}, **kin
    )  # fmt: skip


def nets() -> dict[str, list[Net]]:
    """Half -> its networks; none is built yet."""
    every = [
        _timm("vit_small_patch16_224", "vit_base_patch16_224", patch="vit_small_patch32_224", image=384),
        _timm("vit_base_patch16_224", "vit_large_patch16_224", patch="vit_base_patch32_224", image=384),
        _timm("swin_tiny_patch4_window7_224", "swin_base_patch4_window7_224", "swin_small_patch4_window7_224"),
        _timm("convnext_tiny", "convnext_base", "convnext_small"),
        _timm("resnet50", "resnet18", "resnet101"),
        _timm("efficientnet_b0", "efficientnet_b3"),
        _timm("mixer_b16_224", "mixer_l16_224"),
        _timm("seresnet50", depth="seresnet101"),
        _vision("resnet18", "resnet50", "resnet34"),
        _vision("vit_b_16", "vit_l_16", image={"image_size": 384}),
        _vision("densenet121", "densenet161", "densenet169"),
        _vision("mobilenet_v3_large", "mobilenet_v3_small"),
        _vision("swin_t", "swin_b", "swin_s"),
        _vision("convnext_tiny", "convnext_base", "convnext_small"),
        _timm("vit_small_patch14_dinov2", "vit_base_patch14_dinov2", image=224),
        _timm("beit_base_patch16_224", "beit_large_patch16_224", image=384),
    ]
    return {"a": every[::2], "b": every[1::2], "c": []}
