"""What still differs between two tables when containers and prefixes are dealt with, and why. Standard library only.

Each rule looks at the leftovers and answers with a cause or with nothing; a rule that is not sure says nothing. Where
every rule is silent, the file belongs to a different model.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from ..encoders import ENCODERS, infer_encoder
from ..files.placeholders import extra
from ..keys import Table
from .causes import CAUSES, CauseFound
from .names import bookkeeping
from .sizes import HEAD_OPTIONS
from .words import QUANTIZED, QUANTIZED_BESIDE

# fmt: off
_GEOMETRY = re.compile(r"(^|\.)(pos_embed|position_embeddings?|absolute_pos_embed|rel_pos_[hw]|patch_embed\.proj|"
                       r"patch_embeddings\.projection|relative_position_bias_table)(\.|$)")
_TRANSFORMERS = re.compile(r"(^|\.)(layer\.\d+\.attention\.(attention\.)?(query|key|value|[qkv]_proj)\.|"
                           r"layer_scale[12]\.lambda1$|embeddings\.patch_embeddings\.|neck\.fusion_stage\.)")
# fmt: on
_DINOV2 = re.compile(r"^(?:[a-z_]+\.){0,2}?((?:cls_token|mask_token|pos_embed|patch_embed|blocks|norm)(?:\..*)?)$")
_HF_PATCHES = "embeddings.patch_embeddings.projection.weight"


@dataclass
class Leftovers:
    """Two tables side by side: the file's, its names already mapped, and the model's."""

    found: Table
    target: Table
    missing: list[str] = field(init=False)
    unexpected: list[str] = field(init=False)
    size_mismatch: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.missing = [name for name in self.target if name not in self.found]
        self.unexpected = [name for name in self.found if name not in self.target]
        both = [name for name in self.target if name in self.found and not extra(name)]  # those have no shape
        self.size_mismatch = [name for name in both if self.found[name].shape != self.target[name].shape]

    @property
    def matched(self) -> int:
        """How many names of the target the file has with the same shape."""
        return len(self.target) - len(self.missing) - len(self.size_mismatch)

    @property
    def nothing(self) -> bool:
        return not (self.missing or self.unexpected or self.size_mismatch)

    def counts(self) -> str:
        return (
            f"{self.matched} of {len(self.target)} names agree; {len(self.missing)} missing, "
            f"{len(self.unexpected)} unexpected, {len(self.size_mismatch)} with another shape"
        )


def cause(name: str, detail: str, evidence: str, remedy: str = "", repairable: bool = False) -> CauseFound:
    """A `CauseFound` with the remedy of `CAUSES`, unless this case has a better one."""
    return CauseFound(name, detail, evidence, remedy or CAUSES[name].remedy, repairable)


def droppable(left: Leftovers) -> list[str]:
    """Surplus names that are bookkeeping and nothing else."""
    return [name for name in left.unexpected if bookkeeping(name)]


def causes_of(left: Leftovers) -> list[CauseFound]:
    """Why `left` is not empty, in the order in which a person would notice; at least one cause unless it is empty."""
    if left.nothing:
        return []
    whole = next((found for rule in _WHOLE for found in [rule(left)] if found), None)
    if whole:
        return [whole]
    parts = [found for rule in _PARTS for found in [rule(left)] if found]
    unexplained = any(not bookkeeping(name) for name in left.missing)
    return parts if parts and not unexplained else [*parts, _different_model(left)]


def causes_without_target(found: Table) -> list[CauseFound]:
    """What the file's own names and shapes say where there is no model to compare them with: at most one cause."""
    left = Leftovers(found, {})
    return [found for rule in _ALONE for found in [rule(left)] if found][:1]


def _slices(left: Leftovers) -> CauseFound | None:
    """A vision transformer whose first tensors contradict each other, as in one process's part of an FSDP model."""
    for name, info in left.found.items():
        path, _, last = name.rpartition("cls_token")
        patches = left.found.get(f"{path}patch_embed.proj.weight") if name.endswith("cls_token") and not last else None
        if patches and (len(patches.shape) == 1 or (info.shape[2:] and info.shape[2] != patches.shape[0])):
            seen = f"{name} is {_shape(info.shape)}, {path}patch_embed.proj.weight is {_shape(patches.shape)}"
            return cause("sharded_model", "one process's slices", f"{seen}: these two never fit each other")
    return None


def _quantized(left: Leftovers) -> CauseFound | None:
    layers = {name.rpartition(".")[0] for name in left.missing}
    names = [name for name in left.unexpected if _quantized_name(name, layers)]
    return cause("quantized", "", f"{len(names)} names like {names[0]}") if names else None


def _quantized_name(name: str, layers: set[str]) -> bool:
    layer, _, last = name.rpartition(".")
    return last in QUANTIZED or (last in QUANTIZED_BESIDE and layer in layers)


def _dinov2(left: Leftovers) -> CauseFound | None:
    """DINOv2's own names, which Depth Anything has under `pretrained.`"""
    own = {f"pretrained.{match[1]}": info for name, info in left.found.items() if (match := _DINOV2.search(name))}
    encoder = infer_encoder(own)
    if encoder is None or len(own) < 0.9 * len(left.found):
        return None
    return cause(
        "backbone_only",
        f"DINOv2, {encoder}",
        f"{len(own)} of {len(left.found)} names are those of DINOv2, the encoder of Depth Anything V2; no depth head",
        "To predict depth, take the file of the whole model: renaming makes no depth head. To train, load this one "
        "into model.pretrained.",
    )


def _flat_parameters(left: Leftovers) -> CauseFound | None:
    flat = [name for name in left.unexpected if "flat_param" in name.rpartition(".")[2]]
    return cause("flat_parameters", "FSDP shards", f"{len(flat)} names like {flat[0]}") if flat else None


def _wrong_encoder(left: Leftovers) -> CauseFound | None:
    file, model = infer_encoder(left.found), infer_encoder(left.target)
    if not file or not model or file == model:
        return None
    a, b = ENCODERS[file], ENCODERS[model]
    return cause(
        "wrong_encoder",
        f"this is a {file} file, your model is {model}",
        f"{a.width} channels and {a.depth} blocks in the file, {b.width} and {b.depth} in the model "
        f"({left.counts().partition('; ')[2]})",
        f'Build the model with encoder="{file}", or take a {model} file. No renaming can change a size.',
    )


def _transformers(left: Leftovers) -> CauseFound | None:
    names = [name for name in left.unexpected if _TRANSFORMERS.search(name)]
    if not names or any(_TRANSFORMERS.search(name) for name in left.target):
        return None
    return cause(
        "other_naming",
        "transformers",
        f"{len(names)} names like {names[0]}; query, key and value are separate tensors there and one tensor "
        f"(attn.qkv) here",
        "This needs a conversion, not a renaming: load it with transformers, or take the file of the official "
        "repository.",
    )


def _adapter(left: Leftovers) -> CauseFound | None:
    names = [name for name in left.unexpected if re.search(r"\.lora_(A|B|magnitude_vector|embedding_)", name)]
    return cause("adapter_weights", "LoRA", f"{len(names)} names like {names[0]}") if names else None


def _several_sets(left: Leftovers) -> CauseFound | None:
    """The target's names, complete, under two or more attributes: raw and EMA, student and teacher."""
    paths = _paths_in_front(left.unexpected, left.target)
    sets = [path for path, count in paths.items() if count == len(left.target)]
    if len(sets) + (not left.missing) < 2:
        return None
    listed = " and ".join(map(repr, sets)) + ("" if left.missing else " beside the plain names")
    seen = f"the model's {len(left.target)} names are there more than once: {listed}"
    take = " or ".join(f"`--select {path}`" for path in sets)
    return cause("ema_copy", ", ".join(sets), seen, f"{take} takes one of them; the averaged one (ema, teacher) is "
                 "usually the one to use.")  # fmt: skip


def _backbone_only(left: Leftovers) -> CauseFound | None:
    """The encoder of Depth Anything without its head, under the model's names or under DINOv2's own."""
    if infer_encoder(left.target) is None or any(".depth_head." in f".{name}" for name in left.found):
        return None
    encoder = [name for name in left.target if "pretrained." in name]
    there = [name for name in encoder if name in left.found or name.replace("pretrained.", "", 1) in left.found]
    if len(there) <= len(encoder) / 2:
        return None
    head = len(left.target) - len(encoder)
    own = "" if any(name in left.found for name in there) else " under DINOv2's own names, without 'pretrained.'"
    return cause(
        "backbone_only",
        "the encoder without the depth head",
        f"{len(there)} of the encoder's {len(encoder)} tensors are there{own}, none of the head's {head}",
    )


def _inner_part(left: Leftovers) -> CauseFound | None:
    """Every name of the file is in the model under one more path, and the model has more besides."""
    if not left.found or len(left.unexpected) < len(left.found):
        return None
    paths = _paths_in_front(left.target, left.found)
    path, count = paths.most_common(1)[0] if paths else ("", 0)
    if count < len(left.found):
        return None
    return cause(
        "missing_outer_prefix",
        path,
        f"all {count} names are in the model under '{path}.'; the other {len(left.target) - count} of the model are "
        f"not in the file",
        f"Load it into that part of the model (model.{path}.load_state_dict). The rest of the model is not in this "
        f"file and cannot be had by renaming.",
    )


def _paths_in_front(longer: Iterable[str], shorter: Collection[str]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for name in longer:
        parts = name.split(".", 5)
        for depth in range(1, len(parts)):
            if ".".join(parts[depth:]) in shorter:
                counts[".".join(parts[:depth])] += 1
    return counts


def _bookkeeping(left: Leftovers) -> CauseFound | None:
    surplus = droppable(left)
    absent = [name for name in left.missing if bookkeeping(name)]
    if not surplus and not absent:
        return None
    sides = [f"{len(surplus)} surplus like {surplus[0]}" if surplus else "", f"{len(absent)} absent" if absent else ""]
    kinds = sorted({name.rpartition(".")[2] for name in surplus + absent})
    return cause("bookkeeping_buffers", ", ".join(kinds), ", ".join(filter(None, sides)), "", not absent)


def _input_geometry(left: Leftovers) -> CauseFound | None:
    names = [name for name in left.size_mismatch if _GEOMETRY.search(name)]
    if not names or len(names) < len(left.size_mismatch):
        return None
    name = names[0]
    shapes = f"{name} is {_shape(left.found[name].shape)} in the file, {_shape(left.target[name].shape)} in the model"
    return cause("input_geometry", ", ".join(names[:3]), f"{shapes}; nothing else differs in size")


def _head_options(left: Leftovers) -> CauseFound | None:
    """Depth Anything's encoder agrees, its head was built with other options."""
    names = left.size_mismatch
    if not names or not infer_encoder(left.target) or not all(".depth_head." in f".{name}" for name in names):
        return None
    name = next((name for name in names if "layer1_rn" in name), names[0])
    return cause(
        "different_model",
        "the head's options (features, out_channels)",
        f"the encoder agrees; {len(names)} tensors of the head do not: {name} is {_shape(left.found[name].shape)} in "
        f"the file, {_shape(left.target[name].shape)} in the model",
        HEAD_OPTIONS,
    )


def _surplus_family(left: Leftovers) -> CauseFound | None:
    """The model is complete, and there is something on top."""
    extra = [name for name in left.unexpected if not bookkeeping(name)]
    if not extra or left.missing or left.size_mismatch:
        return None
    tops = Counter(name.partition(".")[0] for name in extra)
    listed = ", ".join(f"{top} ({count})" for top, count in tops.most_common(4))
    return cause(
        "extra_head", listed, f"all {left.matched} names of the model are there, and {len(extra)} more: {listed}"
    )


def _different_model(left: Leftovers) -> CauseFound:
    lacking, whole = (Counter(name.partition(".")[0] for name in names) for names in (left.missing, left.target))
    gone = [top for top, count in lacking.items() if count == whole[top]]
    detail = f"nothing of {', '.join(gone[:3])} is in the file" if gone and left.matched else ""
    return cause("different_model", detail, left.counts())


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single number"


Rule = Callable[[Leftovers], CauseFound | None]
#: One of these explains everything that is left.
_WHOLE: tuple[Rule, ...] = (
    _flat_parameters, _slices, _wrong_encoder, _transformers, _adapter, _quantized, _several_sets, _backbone_only,
    _inner_part,
)  # fmt: skip
#: These need no model to compare with.
_ALONE: tuple[Rule, ...] = (_flat_parameters, _slices, _transformers, _adapter, _dinov2)
#: Each of these explains its own part.
_PARTS: tuple[Rule, ...] = (_input_geometry, _head_options, _surplus_family, _bookkeeping)


def transformers_encoder(table: Table) -> str | None:
    """Which encoder a Depth Anything file with transformers' names has; None for anything else."""
    if not any(name.startswith("neck.") or ".neck." in name for name in table):
        return None
    widths = [info.shape[0] for name, info in table.items() if name.endswith(_HF_PATCHES) and info.shape]
    return next((e.name for e in ENCODERS.values() if widths and e.width == widths[0]), None)
