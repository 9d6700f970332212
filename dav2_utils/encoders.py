"""The tables of Depth Anything V2 as a formula: five encoders in, every parameter name and shape out.

Widths, depths and head sizes are those of the official repository (github.com/DepthAnything/Depth-Anything-V2) and of
DINOv2 (arXiv:2304.07193). `tiny` is ours, made for a classroom; it is in neither paper. Standard library only.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator, Mapping
from numbers import Real
from typing import Any, NamedTuple

from .errors import CheckpointError
from .keys import Shape, Table, TensorInfo
from .wrappers import bare

OWN = re.compile(r"(?:^|\.)((?:pretrained|depth_head)\..+)", re.S)  # a name of ours, behind any prefix
PATCH = 14  # pixels on a side of one patch, in every encoder


class Encoder(NamedTuple):
    """One configuration: the DINOv2 encoder (`pretrained.*`) and the DPT head on top of it (`depth_head.*`)."""

    name: str
    width: int  # channels of a token
    depth: int  # transformer blocks
    heads: int  # attention heads in each block
    features: int  # channels in the head's fusion blocks
    out_channels: tuple[int, int, int, int]  # channels of the four maps that the head reassembles
    layers: tuple[int, int, int, int]  # the blocks whose output the head takes
    swiglu: bool = False  # vitg's feed-forward: mlp.w12 and mlp.w3 in place of mlp.fc1 and mlp.fc2
    image_size: int = 518  # pixels; the grid that the position table was made for
    only_size: int | None = None  # pixels; the shorter side throughout its training, if it copes with no other

    @property
    def input_size(self) -> int:
        """The shorter side, in pixels, at which the network sees a picture unless told otherwise."""
        return self.only_size or 518

    @property
    def hidden(self) -> int:
        """Width inside the feed-forward: 4 times the token; for SwiGLU two thirds of that, rounded up to 8 (DINOv2)."""
        return (int(4 * self.width * 2 / 3) + 7) // 8 * 8 if self.swiglu else 4 * self.width


ENCODERS: dict[str, Encoder] = {
    encoder.name: encoder
    for encoder in (
        Encoder("vits", 384, 12, 6, 64, (48, 96, 192, 384), (2, 5, 8, 11)),
        Encoder("vitb", 768, 12, 12, 128, (96, 192, 384, 768), (2, 5, 8, 11)),
        Encoder("vitl", 1024, 24, 16, 256, (256, 512, 1024, 1024), (4, 11, 17, 23)),
        Encoder("vitg", 1536, 40, 24, 384, (1536, 1536, 1536, 1536), (9, 19, 29, 39), swiglu=True),
        Encoder("tiny", 160, 8, 5, 32, (32, 48, 96, 128), (1, 3, 5, 7), image_size=154, only_size=112),
    )
}


def is_max_depth(value: Any) -> bool:
    """Whether `value` is a range that a metric model can have: a number of metres above 0."""
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and 0 < float(value) < math.inf
    except OverflowError:  # an integer of 400 digits
        return False


def check_max_depth(max_depth: Any) -> None:
    """Raises `CheckpointError` (kind `usage`) unless `max_depth` is None (relative) or a range in metres above 0."""
    if max_depth is not None and not is_max_depth(max_depth):
        raise CheckpointError(f"max_depth is {max_depth!r:.60}", "a range in metres, above 0, such as 20 or 80",
                              "Leave it out for relative weights", kind="usage")  # fmt: skip


def get_encoder(name: str) -> Encoder:
    """The configuration called `name`. Raises `CheckpointError` (kind `unknown_encoder`) for any other name."""
    if name not in ENCODERS:
        raise CheckpointError(
            f"There is no encoder {name!r}", f"one of {', '.join(ENCODERS)}",
            "Leave the encoder out to have it inferred from the file", kind="unknown_encoder",
        )  # fmt: skip
    return ENCODERS[name]


def table_for(encoder: Encoder | str, use_bn: bool = False, use_clstoken: bool = False) -> Table:
    """Every parameter (and, with `use_bn`, buffer) name with its shape, in the official order.

    Relative and metric models, and versions 1 and 2, have the same table.
    """
    chosen = get_encoder(encoder) if isinstance(encoder, str) else encoder
    rows = dict(_encoder_rows(chosen)) | dict(_head_rows(chosen, use_bn, use_clstoken))
    return {
        name: TensorInfo(shape, "int64" if name.endswith("num_batches_tracked") else "float32")
        for name, shape in rows.items()
    }


Row = tuple[str, tuple[int, ...]]


def _encoder_rows(e: Encoder) -> Iterator[Row]:
    w, hidden = e.width, e.hidden
    yield "pretrained.cls_token", (1, 1, w)
    yield "pretrained.pos_embed", (1, (e.image_size // PATCH) ** 2 + 1, w)
    yield "pretrained.mask_token", (1, w)
    yield from _pair("pretrained.patch_embed.proj", (w, 3, PATCH, PATCH))
    for i in range(e.depth):
        block = f"pretrained.blocks.{i}"
        yield from _pair(f"{block}.norm1", (w,))
        yield from _pair(f"{block}.attn.qkv", (3 * w, w))
        yield from _pair(f"{block}.attn.proj", (w, w))
        yield f"{block}.ls1.gamma", (w,)
        yield from _pair(f"{block}.norm2", (w,))
        yield from _pair(f"{block}.mlp.{'w12' if e.swiglu else 'fc1'}", (2 * hidden if e.swiglu else hidden, w))
        yield from _pair(f"{block}.mlp.{'w3' if e.swiglu else 'fc2'}", (w, hidden))
        yield f"{block}.ls2.gamma", (w,)
    yield from _pair("pretrained.norm", (w,))


def _head_rows(e: Encoder, use_bn: bool, use_clstoken: bool) -> Iterator[Row]:
    head, f, out = "depth_head", e.features, e.out_channels
    for i in range(4):
        yield from _pair(f"{head}.projects.{i}", (out[i], e.width, 1, 1))
    for i, kernel in ((0, 4), (1, 2), (3, 3)):  # resize_layers.2 is an identity
        yield from _pair(f"{head}.resize_layers.{i}", (out[i], out[i], kernel, kernel))
    if use_clstoken:
        for i in range(4):
            yield from _pair(f"{head}.readout_projects.{i}.0", (e.width, 2 * e.width))
    for i in range(4):
        yield f"{head}.scratch.layer{i + 1}_rn.weight", (f, out[i], 3, 3)
    for i in range(1, 5):
        block = f"{head}.scratch.refinenet{i}"
        yield from _pair(f"{block}.out_conv", (f, f, 1, 1))
        for unit in (f"{block}.resConfUnit1", f"{block}.resConfUnit2"):
            yield from _pair(f"{unit}.conv1", (f, f, 3, 3))
            yield from _pair(f"{unit}.conv2", (f, f, 3, 3))
            for norm in ("bn1", "bn2") if use_bn else ():
                for part in ("weight", "bias", "running_mean", "running_var"):
                    yield f"{unit}.{norm}.{part}", (f,)
                yield f"{unit}.{norm}.num_batches_tracked", ()
    yield from _pair(f"{head}.scratch.output_conv1", (f // 2, f, 3, 3))
    yield from _pair(f"{head}.scratch.output_conv2.0", (32, f // 2, 3, 3))
    yield from _pair(f"{head}.scratch.output_conv2.2", (1, 32, 1, 1))


def _pair(name: str, weight: tuple[int, ...]) -> tuple[Row, Row]:
    return (f"{name}.weight", weight), (f"{name}.bias", weight[:1])


@functools.cache
def _tables() -> dict[str, Table]:
    return {name: table_for(name) for name in ENCODERS}


def fitting(shapes: Mapping[str, Shape]) -> set[str]:
    """The encoders of which these shapes can be, by the names that are ours behind any prefix; none if none is ours.

    Position tables do not count: their size depends on the picture.
    """
    found = {own[1]: shape for name, shape in shapes.items() if (own := OWN.search(bare(name)))}
    found.pop("pretrained.pos_embed", None)
    tables = _tables().items() if found else ()
    return {name for name, table in tables if all(n in table and table[n].shape == s for n, s in found.items())}


def infer_encoder(table: Table) -> str | None:
    """Which encoder `table` belongs to, by names and shapes behind any prefix; None if it isn't a Depth Anything.

    The whole model, its encoder (`pretrained.*`) alone or its head (`depth_head.*`) alone will do: the encoder whose
    table agrees with more than half of those names wins.
    """
    found = {}
    for name, info in table.items():
        if own := OWN.search(bare(name)):
            found[own[1]] = info.shape
    best, most = None, len(found) // 2
    for encoder, table_of_it in _tables().items() if found else ():
        agree = sum(found.get(name) == info.shape for name, info in table_of_it.items())
        if agree > most:
            best, most = encoder, agree
    return best
