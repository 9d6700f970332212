"""What pairs of shapes give away: another encoder size, another picture size, another number of classes.

A rule looks at the size lines of an error, each a shape in the file and a shape in the model, and gives its reading or
None. Standard library only.
"""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction

from ..encoders import ENCODERS, table_for
from ..wrappers import bare
from .message import Shape
from .names import Lists, Reading, bookkeeping, sample
from .words import BLOCKS, GEOMETRY, HEADS, WIDTHS

Pair = tuple[Shape, Shape]
HEAD_OPTIONS = ("Build the model with the features and out_channels of the training: layerN_rn.weight is (features, "
                "out_channels[N-1], 3, 3).")  # fmt: skip


def by_sizes(lists: Lists) -> Reading | list[Reading] | None:
    """The reading that the size lines allow, from the telling to the vague."""
    sizes = {bare(name): pair for name, pair in lists.sizes.items() if pair[0] != pair[1]}
    if not sizes:
        return None
    for rule in (_sharded, _known_encoder, _width, _geometry, _one_ratio, _one_difference, _last_layers):
        if found := rule(sizes, lists):
            return found
    return None


def _sharded(sizes: dict[str, Pair], _lists: Lists) -> Reading | None:
    empty = [name for name, (_, model) in sizes.items() if model == (0,)]
    if len(empty) == len(sizes):
        return Reading("sharded_model", "DeepSpeed ZeRO-3", f"the model's side is [0]: {sample(empty)}", remedy=_GATHER)
    pairs = list(sizes.values())  # another size of the network would change a matrix in both directions
    cut = all(file and model and file[0] < model[0] and file[1:] == model[1:] for file, model in pairs)
    if cut and any(len(model) == 2 for _, model in pairs) and len({model[0] for _, model in pairs}) > 2:
        seen = f"every tensor is shorter in its first dimension, and in no other: {_pair(sizes)}"
        return Reading("sharded_model", "one process's slices", seen)
    return None


_GATHER = "Load the weights before the model is partitioned, or around the load gather the parameters."


def _known_encoder(sizes: dict[str, Pair], _lists: Lists) -> Reading | None:
    """Depth Anything's own tables: which encoders fit the file's shapes, and which the model's?"""
    tables = {name: table_for(name) for name in ENCODERS}
    file, model, lines = set(ENCODERS), set(ENCODERS), 0
    for name, pair in sizes.items():
        own = _official(name)
        if own and own != "pretrained.pos_embed":
            lines += 1
            file &= {e for e, table in tables.items() if own in table and table[own].shape == pair[0]}
            model &= {e for e, table in tables.items() if own in table and table[own].shape == pair[1]}
    if not lines or not (file or model) or file & model:
        return None
    if not (file and model) and all(_official(name).startswith("depth_head.") for name in sizes):
        return Reading("different_model", "the head's options (features, out_channels)", f"the encoder agrees, the "
                       f"head does not: {_pair(sizes)}", remedy=HEAD_OPTIONS)  # fmt: skip
    mine, theirs = "/".join(sorted(file)) or "another size", "/".join(sorted(model)) or "another size"
    remedy = (
        f'Build the model with encoder="{mine}" and its features; no renaming can change a size.'
        if len(file) == 1
        else ""
    )
    return Reading("wrong_encoder", f"the file is {mine}, the model is {theirs}",
                   f"{lines} size lines fit the official tables: {_pair(sizes)}", remedy=remedy)  # fmt: skip


def _official(name: str) -> str:
    """`name` from `pretrained.` or `depth_head.` on, or as DINOv2 calls it without; empty where it is neither."""
    match = re.search(r"(?:^|\.)((?:pretrained|depth_head)\..+)", name, re.S)
    if match and not match[1].startswith("pretrained.model."):
        return match[1]
    dino = re.match(
        r"(?:backbone\.)?((?:blocks\.\d+\.|cls_token$|mask_token$|patch_embed\.|norm\.).*|cls_token|mask_token)", name
    )
    return f"pretrained.{dino[1]}" if dino else ""


def _geometry(sizes: dict[str, Pair], lists: Lists) -> Reading | None:
    """All size lines are position tables, the patch embedding, or the channels of a first or last convolution."""
    kinds = {name: _geometric(name, file, model) for name, (file, model) in sizes.items()}
    others = [name for name in [*lists.missing, *lists.unexpected] if not (GEOMETRY.search(name) or bookkeeping(name))]
    if not all(kinds.values()) or others:
        return None
    found = set(kinds.values())
    detail = "patch size" if "patch size" in found else "input channels" if "channels" in found else "image size"
    return Reading("input_geometry", detail, f"only {sample(sizes)} differ: {_pair(sizes)}")


def _geometric(name: str, file: Shape, model: Shape) -> str:
    """What a pair of shapes is the mark of: image size, patch size, channels; empty for none of them."""
    if len(file) != len(model):
        return ""
    differ = [i for i, (a, b) in enumerate(zip(file, model, strict=True)) if a != b]
    if GEOMETRY.search(name):
        return "image size" if len(file) < 3 or len(file) - 1 not in differ or len(differ) > 1 else ""
    if len(file) < 4:
        return ""
    if _PATCHES.search(name) and min(differ) >= 2:
        return "patch size"
    few = all(max(file[i], model[i]) <= 16 for i in differ)
    first = _PATCHES.search(name) or not re.search(r"\.[1-9]\d*\.", name)
    return "channels" if few and differ == [1] and first else ""


_PATCHES = re.compile(r"patch_?embed|conv_proj|to_patch")


def _width(sizes: dict[str, Pair], lists: Lists) -> Reading | None:
    """A token, a position table or a patch embedding whose width is that of another vision transformer."""
    for name, (file, model) in sizes.items():
        axis = 0 if _PATCHES.search(name) else -1
        if (GEOMETRY.search(name) or _PATCHES.search(name) or "cls_token" in name) and len(file) == len(model) > 2:
            rest = [pair for i, pair in enumerate(zip(file, model, strict=True)) if i != axis % len(file)]
            if file[axis] != model[axis] and {file[axis], model[axis]} <= WIDTHS and all(a == b for a, b in rest):
                widths = f"tokens of {file[axis]} channels in the file, {model[axis]} in the model"
                return Reading("wrong_encoder", widths, f"{name}: {_pair({name: (file, model)})}")
    return None


def _one_ratio(sizes: dict[str, Pair], lists: Lists) -> Reading | None:
    """Widths differ by one constant ratio in layers of several kinds, as sizes of one transformer do."""
    lines = {name: pair for name, pair in sizes.items() if not bookkeeping(name) and len(pair[0]) == len(pair[1])}
    ratios = Counter(ratio for pair in lines.values() for ratio in _ratios(*pair))
    if not ratios or len(lines) < 2:
        return None
    ratio, _ = ratios.most_common(1)[0]
    fitting = [name for name, pair in lines.items() if ratio in _ratios(*pair)]
    kinds = {re.sub(r"\d+", "#", name) for name in fitting}
    in_blocks = [name for name in fitting if BLOCKS & set(name.split(".")) or _ENCODER.search(name)]
    kernels = any(_kernel(*pair) for pair in sizes.values())
    if 5 * len(fitting) < 4 * len(sizes) or len(kinds) < 2 or 2 * len(in_blocks) < len(fitting) or kernels:
        return None
    if all("downsample" in name for name in fitting) or all("decoder" in name for name in fitting):
        return None
    side = "the file's is larger" if ratio > 1 else "the model's is larger"
    return Reading("wrong_encoder", f"widths differ by {ratio}: {side}",
                   f"{len(fitting)} of {len(sizes)} size lines have the ratio {ratio}: {_pair(sizes)}")  # fmt: skip


_ENCODER = re.compile(
    r"cls_token|patch_embed|encoder|backbone|embeddings?\.|\.attn\.|\.attention\.|\.mlp\.|projects\.|pos_embed"
)


def _ratios(file: Shape, model: Shape) -> set[Fraction]:
    return {Fraction(a, b) for a, b in zip(file, model, strict=True) if a != b and a and b}


def _kernel(file: Shape, model: Shape) -> bool:
    return len(file) == len(model) == 4 and file[2:] != model[2:]


def _one_difference(sizes: dict[str, Pair], _lists: Lists) -> Reading | None:
    """The same number of input channels more in several layers: features of a larger encoder are joined to others."""
    jumps = {abs(a.features - b.features) for a in ENCODERS.values() for b in ENCODERS.values() if a is not b}
    gaps = Counter(
        tuple(a - b for a, b in zip(file, model, strict=True))
        for file, model in sizes.values()
        if len(file) == len(model)
    )
    if len(sizes) < 2 or len(gaps) != 1:
        return None
    gap = next(iter(gaps))
    step = [abs(number) for number in gap if number]
    if len(gap) > 1 and not gap[0] and len(step) == 1 and step[0] in jumps and len(set(sizes.values())) > 1:
        return Reading("wrong_encoder", f"{step[0]} feature channels more or less, as between two encoders",
                       f"all {len(sizes)} size lines differ by {step[0]} input channels: {_pair(sizes)}")  # fmt: skip
    return None


def _last_layers(sizes: dict[str, Pair], lists: Lists) -> Reading | None:
    """Only the number of outputs differs, in layers that a task puts at the end, or in tables of tokens."""
    if lists.missing or lists.unexpected or len(sizes) > 12:
        return None
    outputs = [name for name, (file, model) in sizes.items() if file[1:] == model[1:] and file[:1] != model[:1]]
    ends = [name for name in outputs if _END.search(name) or any(HEADS.search(part) for part in name.split("."))]
    if len(outputs) == len(sizes) and 2 * len(ends) >= len(outputs):
        detail = (
            "number of tokens"
            if any("embed_tokens" in n or "lm_head" in n or "word_emb" in n for n in sizes)
            else "number of classes"
        )
        return Reading("head_size", detail, f"only the first dimension of {sample(sizes)} differs: {_pair(sizes)}")
    return None


_END = re.compile(
    r"(?i)class|logit|predict|cls|score|head|fc\b|final|output|out_conv|embed_tokens|word_embeddings|wte|maskiou|bbox|seg"
)


def _pair(sizes: dict[str, Pair]) -> str:
    file, model = next(iter(sizes.values()))
    return f"{list(file)} in the file, {list(model)} in the model"
