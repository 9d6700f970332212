"""Whose names they are, and what part of a network: the rules over words.

A container's entries, bookkeeping, averaged copies, another library's names, a head or a backbone alone. A rule gives
its reading, two readings where the text allows both, or None. Standard library only.
"""

from __future__ import annotations

import re
from collections import Counter

from ..wrappers import bare
from .names import Lists, Reading, bookkeeping, sample, tops
from .words import (
    BLOCKS,
    CONTAINER,
    DEPTHS,
    HEAD_TOPS,
    HEADS,
    IMAGENET_TOP,
    QUANTIZED,
    QUANTIZED_BESIDE,
    TELLING_ALONE,
    TIED,
    TRAINING_STATE,
    dialects,
)


def _special(lists: Lists) -> Reading | None:
    """Parts of names that only one kind of file has."""
    for cause, detail, pattern in _SPECIAL:
        if found := [name for name in lists.every if pattern.search(name)]:
            return Reading(cause, detail, sample(found))
    equal = [name for name, (file, model) in lists.sizes.items() if file == model]
    last = {name.rpartition(".")[2]: name for name in [*lists.missing, *lists.unexpected]}
    layers = {name.rpartition(".")[0] for name in lists.missing}
    beside = [
        n for n in lists.unexpected if n.rpartition(".")[2] in QUANTIZED_BESIDE and n.rpartition(".")[0] in layers
    ]
    quantized = equal or beside or [last[word] for word in last if word in QUANTIZED]
    if quantized:
        why = "equal shapes that still cannot be copied" if equal else "names of quantised layers"
        return Reading("quantized", why, sample(quantized))
    return None


_SPECIAL = (
    ("flat_parameters", "flattened by FullyShardedDataParallel", re.compile(r"(?:^|\.)_?flat_param")),
    ("adapter_weights", "LoRA", re.compile(r"(?:^|\.)lora_|^base_model\.model\.|\.ia3_l|adapter_model")),
)


def _container(lists: Lists) -> Reading | None:
    """Names without a dot that no model has: the entries of a training file."""
    words = [word for word in lists.key_errors if _CONTAINER_KEY.search(word)]
    if (
        words
        and not lists.every
        and ("traceback" not in lists.text or any(w in lists.text for w in ("load", "ckpt", "checkpoint")))
    ):
        return Reading("training_container", f"the program looks for {words[0]!r}", f"KeyError: {words[0]!r}")
    names = [bare(name) for name in lists.unexpected]
    if "param_groups" in names:
        return Reading("different_model", "an optimizer's state, not a model's", f"its entries are {sample(names)}")
    entries = [name for name in names if "." not in name]
    state = [name for name in entries if name in TRAINING_STATE or name.startswith("optimizer")]
    boxes = [name for name in entries if name in CONTAINER or name.endswith("state_dict")]
    branch = [name for name in names if name.split(".")[0] in ("teacher", "student")]
    there = set(branch)
    if any({f"teacher.{name}", f"student.{name}"} <= there for name in map(bare, lists.missing)):
        one = "`dav2 fix FILE --select teacher` takes the one that is usually used, `--select student` the other."
        return Reading("training_container", "teacher and student, in one dictionary", sample(branch), remedy=one)
    if branch and 2 * len(branch) > len(names):
        return Reading("training_container", "teacher and student", f"{sample(branch)} in the file")
    if len(entries) < len(names) / 2:  # a state dict with a counter or a version among its tensors
        return None
    lone = boxes and len(entries) == len(names) and "bias" not in entries and lists.missing != names
    if (state and boxes) or len(state) > 1 or lone or (state and len(state) == len(names)):
        lightning = any("lightning" in name for name in entries)
        where = next((word for word in boxes if word in ("state_dict", "model")), boxes[0] if boxes else "")
        detail = (
            "a Lightning checkpoint"
            if lightning
            else f"the weights are probably under {where!r}"
            if where
            else "training state"
        )
        known = bool(boxes) and not (branch or boxes == ["weight"] or lists.sizes)
        return Reading("training_container", detail, f"no tensors but entries: {sample(entries)}", known)
    return None


_CONTAINER_KEY = re.compile(
    r"^(?:model|models|net|network|params|params_ema|weights|net_dict|depth_model|generator|teacher|student|ema|model_ema|"
    r"ema_model|state|epoch|optimizer|pytorch-lightning_version|.*state_?dict(?:_\w{1,40})?|model_state|net_state)$"
)


def _only_bookkeeping(lists: Lists) -> Reading | None:
    if lists.missing or lists.unexpected or lists.sizes or not lists.every:
        return None
    kinds = Counter(name.rpartition(".")[2] for name in lists.every)
    return Reading("bookkeeping_buffers", ", ".join(kinds), f"all {len(lists.every)} names end in {' or '.join(kinds)}")


def _ema(lists: Lists) -> Reading | None:
    for names, where in (
        (lists.unexpected, "the file has a second, averaged set"),
        (lists.missing, "the model wants one"),
    ):
        ema = [name for name in names if _EMA.search(".".join(name.split(".")[:2]))]
        if ema and 2 * len(ema) >= len(names) and (names is lists.unexpected or not lists.unexpected):
            return Reading("ema_copy", where, sample(ema))
    return None


_EMA = re.compile(r"(?:^|[._])ema(?:[._]|$)|(?:^|\.)shadow(?:_params)?(?:\.|$)|averaged_model")


def _depth(lists: Lists) -> Reading | None:
    """Whole blocks on one side only, from the number on at which a smaller encoder ends; or vitg's feed-forward."""
    wide = (
        [_SWIGLU.search(name) is not None for name in lists.unexpected],
        [_SWIGLU.search(n) is not None for n in lists.missing],
    )
    plain = (
        [_MLP.search(name) is not None for name in lists.unexpected],
        [_MLP.search(n) is not None for n in lists.missing],
    )
    for side, mine, theirs in (("the file", wide[0], plain[1]), ("the model", wide[1], plain[0])):
        if any(mine) and any(theirs):
            return Reading("wrong_encoder", f"{side} is a vitg (SwiGLU)", "mlp.w12 and mlp.w3 on one side only")
    for names, other, side in (
        (lists.missing, lists.unexpected, "the file"),
        (lists.unexpected, lists.missing, "the model"),
    ):
        numbers = [int(match[1]) for match in map(_BLOCK.search, names) if match]
        if numbers and len(numbers) == len(names) and min(numbers) in DEPTHS and not other:
            detail = f"{side} has {min(numbers)} blocks, the other side at least {max(numbers) + 1}"
            return Reading("wrong_encoder", detail, f"on one side only, from block {min(numbers)} on: {names[0]}")
    return None


_SWIGLU, _MLP = re.compile(r"\.mlp\.w(?:12|3)\."), re.compile(r"\.mlp\.(?:fc[12]|layers\.\d|lin[12])\.")
_BLOCK = re.compile(rf"(?:^|\.)(?:{'|'.join(sorted(BLOCKS - {'stages'}))})\.(\d+)\.(?!\d)")


def _naming(lists: Lists) -> Reading | None:
    """Two libraries' ways of naming, or one that is foreign to the other side."""
    if any(_SWIN.search(name) for name in lists.every) and (lists.sizes or lists.missing) and _swin_only(lists):
        return Reading(
            "other_naming", "Swin of another timm version: downsample moved by one stage", sample(lists.every)
        )
    ours, theirs = dialects(lists.missing), dialects(lists.unexpected)
    if ours and theirs and next(iter(ours)) != next(iter(theirs)):
        mine, other = next(iter(ours)), next(iter(theirs))
        return Reading("other_naming", f"the model has the names of {mine}, the file those of {other}",
                       f"{lists.missing[0]} against {lists.unexpected[0]}")  # fmt: skip
    alone = lists.missing if not lists.unexpected else lists.unexpected if not lists.missing else []
    telling = [name for name in alone if TELLING_ALONE.search(name)]
    if telling and 4 * len(telling) >= len(alone) and not lists.sizes and not re.search(r"For[A-Z]", lists.model_class):
        library = next(iter(dialects(telling)), "another library")
        return Reading("other_naming", f"names of {library}", f"{len(telling)} of {len(alone)}: {telling[0]}")
    return None


_NORM = re.compile(r"\.(?:bn|norm)\d*\.[a-z_]+$")  # layers within others: an option of the constructor, no part
_SWIN = re.compile(r"(?:^|\.)layers\.\d+\.downsample\.")


def _swin_only(lists: Lists) -> bool:
    return all("downsample" in name or bookkeeping(name) or ".head." in f".{name}" for name in lists.every)


def _part(lists: Lists) -> Reading | None:
    """Only a head, only a backbone, or only the twin of another tensor."""
    names = [*lists.missing, *lists.unexpected]
    if lists.sizes or not names:
        return None
    if len(names) < 4 and all(TIED.search(name) for name in names):
        return Reading("tied_weights", names[0], f"only {names[0]} differs")
    heads = len(lists.tops_file) < 3 and all(HEADS.search(top) for top in lists.tops_file)
    if not lists.missing and heads and not all(_NORM.search(name) for name in lists.unexpected):
        return Reading("extra_head", ", ".join(sorted(lists.tops_file)), f"surplus are only {sample(lists.unexpected)}")
    imagenet = len(lists.tops_file) > 1 and lists.tops_file <= IMAGENET_TOP
    file_is_head = bool(lists.tops_file) and lists.tops_file <= HEAD_TOPS and not lists.tops_file & lists.tops_model
    model_is_head = all(HEADS.search(top) or top.startswith("decode") for top in lists.tops_model) and _spread(names)
    if (
        (imagenet and not lists.missing)
        or (file_is_head and lists.missing)
        or (model_is_head and not lists.unexpected and len(names) > 3)
    ):
        return Reading(
            "backbone_only", "", f"only in the model: {sample(lists.missing)}; in the file: {sample(lists.unexpected)}"
        )
    return None


_PART = ("Look for the rest: a model saved in several files (NAME-00001-of-00004) is all of them together. "
         "`dav2 diagnose FILE` says what this one holds.")  # fmt: skip


def everything_missing(lists: Lists) -> list[Reading] | None:
    """The whole model is missing, and the text does not show what the file has instead."""
    first = [name for name in lists.missing if not any(part.isdigit() and int(part) for part in name.split("."))]
    if lists.unexpected or lists.sizes or len(lists.missing) < 4 or len(first) < 3 or not _spread(first):
        return None
    begun = any(name.startswith("pretrained.") for name in first) and "pretrained.cls_token" not in lists.missing
    if begun and lists.complete:
        seen = f"missing {sample(first)}, but not pretrained.cls_token, which is the first"
        return [Reading("different_model", "only a part of Depth Anything is in the file", seen, remedy=_PART)]
    count = len(lists.missing)
    evidence = f"{count} missing names from the model's first on ({lists.missing[0]}); the file's are not shown"
    wrapper = Reading("wrapper_prefix", "or another prefix, if the file's names end in the missing ones", evidence)
    box = Reading("training_container", "if the file's own names are model, optimizer, teacher, state_dict", evidence)
    outer = Reading("outer_module_prefix", "if the file is of a network around this one (core.core.)", evidence)
    if lists.model_class == "DinoVisionTransformer":  # DINOv2 saves its backbone under teacher
        return [box, wrapper]
    if lists.model_class == "DepthAnything":  # version 1, whose metric training wraps it as core.core.
        return [outer, wrapper]
    return [wrapper, box]


def different(lists: Lists) -> Reading | list[Reading] | None:
    """No relation was found: another model, or the same in a way that these rules do not know."""
    if lists.missing and lists.unexpected:
        both = f"missing {sample(lists.missing)}; unexpected {sample(lists.unexpected)}; no common pattern"
        return Reading("different_model", lists.model_class, both)
    if lists.sizes and not lists.missing and not lists.unexpected:
        return Reading(
            "different_model", lists.model_class, f"layers here and there differ in shape: {sample(list(lists.sizes))}"
        )
    names = lists.missing or lists.unexpected
    scattered = lists.missing and not lists.sizes and len(names) < 4 and len({_path(name) for name in names}) > 3
    if not names or scattered or (not lists.missing and len(lists.every) < 3):
        return None  # too little to say
    side = "the model" if lists.missing else "the file"
    return Reading("different_model", "another version, option or class", f"only {side} has {sample(names)}")


def _spread(names: list[str]) -> bool:
    """Names from several parts of a model, not all of one numbered layer."""
    return len(tops(names)) > 1 or len({".".join(name.split(".")[:2]) for name in names}) > 1


def _path(name: str) -> str:
    return name.rpartition(".")[0]


#: Before the relations: names that speak for themselves. After them: whose vocabulary, which part.
BEFORE = (_special, _container, _only_bookkeeping, _ema)
AFTER = (_depth, _naming, _part, everything_missing, different)
