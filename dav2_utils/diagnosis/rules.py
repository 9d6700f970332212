"""Which causes stand: those that together account for what differs, the most specific first.

Every rule is one function from a `Difference` to a finding, or to nothing; the order in which they stand here decides
nothing. A finding is worth the share of the differing names that it accounts for, less the cost of saying it. To add a
cause, write its rule in the room where it belongs and put it into `RULES`. Standard library only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from ..encoders import ENCODERS, infer_encoder
from ..errors import CheckpointError
from ..keys import Table, TensorInfo
from ..wrappers import exchange
from . import names, parts, sizes
from .causes import CAUSES, Finding
from .difference import Difference, bookkeeping, of_tables, peel, shown, tops

Readings = Callable[[Difference], list[Finding]]
_NEAR = 0.25  # how much less another reading may be worth and still be told
_ENOUGH = 0.1  # the share of names below which what is left is not a cause of its own


@dataclass
class Found:
    """The causes that stand together, another reading of the same names, and whether renaming undoes all of it."""

    causes: list[Finding] = field(default_factory=list)
    other: Finding | None = None
    worth: float = 0.0
    undone: bool = False


def causes_of(diff: Difference, more: Readings | None = None) -> Found:
    """Why `diff` is not empty; no cause only if it is, or if it shows too little. `more`: readings besides `RULES`'."""
    if harmless := _harmless(diff):
        return Found(harmless, worth=1.0)
    for rule in FIRST:
        finding = rule(diff)
        if finding and 10 * len(set(finding.accounts)) >= 9 * len(diff.names):
            return Found([finding], worth=1 - finding.cost)
    peeled, below = peel(diff)
    found = _cover(below, more)
    every = [*peeled, *found.causes]
    accounted = {name for finding in found.causes for name in finding.accounts}
    found.undone = (
        diff.whole and bool(every) and not below.sizes and not set(below.names) - accounted
        and all(finding.undone and CAUSES[finding.cause].repairable for finding in every)
    )  # fmt: skip
    if peeled and not diff.whole and not below.sizes and not (below.missing and below.unexpected):  # cannot be compared
        return Found(peeled, found.causes[0] if found.causes and diff.one_list else None, 0.9)
    stranger = (
        peeled and diff.missing and diff.unexpected and found.causes[:1] and found.causes[0].cause == "different_model"
    )
    if stranger and len(below.names) >= len(diff.names) - 2:  # below the prefix nothing agrees either
        every = [*found.causes, *peeled]
    return Found(every, found.other, found.worth, found.undone)


def _cover(diff: Difference, more: Readings | None) -> Found:
    """The findings that account for most of `diff` at the least cost; the rest, where it is more than a few names."""
    total = len(diff.names)
    if not total:
        return Found(worth=1.0)
    found = [finding for rule in RULES for finding in [rule(diff)] if finding]
    found += more(diff) if more else []
    for finding in found:
        finding.accounts = _with_partners(finding.accounts, diff)
    chosen: list[Finding] = []
    left, worth = set(diff.names), 0.0
    while left and found:
        best = max(found, key=lambda finding: len(left.intersection(finding.accounts)) / total - finding.cost)
        gain = len(left.intersection(best.accounts)) / total - best.cost
        if gain <= 0:
            break
        chosen.append(best)
        left -= set(best.accounts)
        worth += gain
    general = _different(diff)
    assert general
    if worth < 1 - general.cost:
        other = chosen[0] if chosen else None
        return Found([general], other if other and worth > 1 - general.cost - _NEAR else None, 1 - general.cost)
    counts = all(finding.cause == "bookkeeping_buffers" for finding in chosen)  # and one learned name is no count
    if len(left) > (0 if counts else _ENOUGH * total) and (rest := _different(diff.without(set(diff.names) - left))):
        chosen.append(rest)
    chosen.sort(key=lambda finding: finding.cause == "bookkeeping_buffers")  # beside a real cause it is the least
    return Found(chosen, _second([*found, general], chosen, diff), worth)


def _with_partners(accounts: Collection[str], diff: Difference) -> Collection[str]:
    """With the names of one list whose partners in the other are not shown, if all that are shown have theirs."""
    shorter, longer = sorted((diff.missing, diff.unexpected), key=len)
    paired = not diff.whole and 10 * len(shorter.keys() & accounts) >= 8 * len(shorter) > 0 and longer.keys() & accounts
    return {*accounts, *longer} if paired else accounts


def _second(found: list[Finding], chosen: list[Finding], diff: Difference) -> Finding | None:
    """The best other cause for the names of the first finding, also one that is less likely if not all is shown."""
    total = len(diff.names)
    said = {finding.cause for finding in chosen}
    first = set(chosen[0].accounts)
    others = [finding for finding in found if finding.cause not in said and len(chosen) == 1]
    best = max(others, key=lambda f: len(first.intersection(f.accounts)) / total - f.cost, default=None)
    if best is None:
        return None
    near = len(first) / total - chosen[0].cost - len(first.intersection(best.accounts)) / total + best.cost
    return best if near < (_NEAR if diff.whole or best is found[-1] else 2 * _NEAR) else None


def _harmless(diff: Difference) -> list[Finding]:
    """What a library announces, and what is as it should be: a new part, and one that is not used."""
    new, unused = ([name for name in side if not bookkeeping(name)] for side in (diff.missing, diff.unexpected))
    if not diff.warning or diff.sizes or _a_network(new) or _a_network(unused):
        return []
    if parts.special(diff) or parts.quantized(diff):
        return []
    if diff.warning == "source" and (new or not all(parts.HEADS.search(top) for top in tops(unused))):
        return []
    same = names.renamed(diff) if new and unused else None
    if same and 10 * len(set(same.accounts)) >= 9 * len(diff.names):
        return []  # the same part under another name
    texts = {"harmless_new": new, "harmless_source" if diff.warning == "source" else "harmless_unused": unused}
    args = {text: {"names": tuple(some), "count": len(some)} for text, some in texts.items() if some}
    return [Finding("harmless", text, (), each) for text, each in args.items()]


def _a_network(found: list[str]) -> bool:
    """Whether these are a network itself, and no part of one."""
    first = [name for name in found if ".0." in name]
    return len(tops(found)) > 3 or (len(found) > 12 and len(first) > 3 and parts.in_every_layer(first))


def _tied(diff: Difference) -> Finding | None:
    """The second name of a tensor that is saved once."""
    names = [*diff.missing] or [*diff.unexpected]
    if diff.sizes or not names or len(names) > 2 or (diff.missing and diff.unexpected):
        return None
    if not all(_twin(name, diff) for name in names):
        return None
    return Finding("tied_weights", "tied_weights", set(names), {"name": names[0]}, 0.04)


def _twin(name: str, diff: Difference) -> bool:
    path, _, last = name.rpartition(".")
    shape = diff.missing.get(name) or diff.unexpected.get(name)
    if diff.agree is not None and shape is not None:
        return len(shape) == 2 and shape[0] > shape[1] and shape in diff.agree.values() and last == "weight" and (
            f"{path}.bias" not in diff.agree or bool(_TIED.search(name)))  # fmt: skip
    return bool(_TIED.search(name)) or (last == "weight" and diff.whole and len(diff.names) == 1 and bool(diff.missing))


_TIED = re.compile(
    r"(?:^|\.)(?:lm_head\.weight|embed_tokens\.weight|(?:cls\.)?predictions\.decoder\.(?:weight|bias)|embed_out\.weight)$"
)


def _different(diff: Difference) -> Finding | None:
    """Another model, another version of its code, or an option of its constructor."""
    names = diff.names
    if not names:
        return None
    args = {"missing": tuple(diff.missing), "unexpected": tuple(diff.unexpected), "sizes": tuple(diff.sizes),
            "agree": len(diff.agree or ()), "lacking": len(diff.missing), "extra": len(diff.unexpected),
            "other": len(diff.sizes), "cls": diff.model_class}  # fmt: skip
    if diff.agree is not None:
        text = "different_tables"
    elif diff.missing and diff.unexpected:
        text = "different_names"
    elif diff.sizes and not diff.missing and not diff.unexpected:
        text = "different_sizes"
    else:
        text = "different_options_model" if diff.missing else "different_options_file"
    return Finding("different_model", text, set(names), args, 0.45)


def _several_sets(diff: Difference) -> Finding | None:
    """The model's names, complete, under two or more attributes: raw and averaged, student and teacher."""
    lacking = diff.missing if not diff.one_list else _ends([n for n in diff.unexpected if not bookkeeping(n)])
    if not (diff.whole or diff.one_list) or not lacking or len(diff.unexpected) < 2 * len(lacking):
        return None
    counts: Counter[str] = Counter()
    for name in diff.unexpected:
        parts = name.split(".", 5)
        counts.update(".".join(parts[:k]) for k in range(1, len(parts)) if ".".join(parts[k:]) in lacking)
    sets = [path for path, count in counts.items() if count == len(lacking)]
    if len(sets) < 2:
        return None
    known = {"teacher", "student", "ema", "model_ema", "online", "target"} & {s.rpartition(".")[2] for s in sets}
    cause = "ema_copy" if known or any("ema" in path for path in sets) else "duplicate_names"
    args = {"paths": tuple(map(repr, sets)), "first": sets[0], "second": sets[1], "count": len(lacking)}
    return Finding(cause, f"{cause}_sets", set(diff.names), args, 0.02)


def _ends(names: list[str]) -> set[str]:
    """What half of the names are below one path, and the other half below another."""
    below: dict[str, set[str]] = {}
    for name in names:
        parts = name.split(".", 3)
        for k in (k for k in range(1, len(parts)) if not re.search(r"\d", ".".join(parts[:k]))):
            below.setdefault(".".join(parts[:k]), set()).add(".".join(parts[k:]))
    halves = [ends for ends in below.values() if 2 * len(ends) <= len(names) < 3 * len(ends)]
    return next((ends for ends in halves if len(ends) > 3 and halves.count(ends) > 1), set())


#: These look at the names as they are: below a prefix the other copy would be gone.
FIRST = (
    parts.special, parts.averaged, names.punctuated, parts.container, _several_sets, names.damaged,
)  # fmt: skip
#: These look at what is left below wrappers and an outer path.
RULES = (
    parts.quantized, parts.only_bookkeeping, parts.surplus, parts.lacking,
    parts.one_of_several, _tied, names.weight_norm, names.other_library, names.renamed, names.shifted, sizes.packed,
    sizes.reshaped, names.positional, sizes.sliced, sizes.geometry, sizes.outputs, sizes.adapter_sizes,
    sizes.head_options, sizes.encoder, *FIRST,
)  # fmt: skip


def carried_out(finding: Finding, found: Table, target: Table) -> dict[str, str]:
    """The runs to exchange, if exchanging them makes the model's very table of the file's."""
    try:
        names = exchange(found, finding.renaming)
    except CheckpointError:
        return {}
    made = {new: found[old].shape for old, new in names.items()}
    return finding.renaming if made == {name: info.shape for name, info in target.items()} else {}


# Without a model ----------------------------------------------------------------------------------------------------


def without_target(table: Table) -> list[Finding]:
    """What a file's own names and shapes say where there is no model to compare them with: at most one cause."""
    diff = of_tables(table, {})
    return [found for rule in (parts.special, _slices, _transformers, _dinov2) for found in [rule(diff)] if found][:1]


def _slices(diff: Difference) -> Finding | None:
    """A vision transformer whose first tensors contradict each other, as in one process's part of an FSDP model."""
    for name, shape in diff.unexpected.items():
        path, _, last = name.rpartition("cls_token")
        other = f"{path}patch_embed.proj.weight"
        patches = diff.unexpected.get(other) if name.endswith("cls_token") and not last else None
        if patches and shape is not None and (len(patches) == 1 or (shape[2:] and shape[2] != patches[0])):
            args = {"name": name, "file": shown(shape), "other": other, "model": shown(patches)}
            return Finding("sharded_model", "sharded_alone", set(diff.names), args)
    return None


def _transformers(diff: Difference) -> Finding | None:
    names = [name for name in diff.unexpected if _HUGGING.search(name)]
    args = {"count": len(names), "names": tuple(names)}
    return Finding("other_naming", "naming_of_transformers", set(names), args) if names else None


def _dinov2(diff: Difference) -> Finding | None:
    """DINOv2's own names, which Depth Anything has under `pretrained.`"""
    own = {
        f"pretrained.{m[1]}": TensorInfo(shape or ())
        for n, shape in diff.unexpected.items()
        if (m := _DINOV2.search(n))
    }
    encoder = infer_encoder(own)
    if encoder is None or len(own) < 0.9 * len(diff.unexpected):
        return None
    args = {"encoder": encoder, "count": len(own), "all": len(diff.unexpected)}
    return Finding("backbone_only", "backbone_dinov2", set(diff.names), args)


# fmt: off
_HUGGING = re.compile(r"(^|\.)(layer\.\d+\.attention\.(attention\.)?(query|key|value|[qkv]_proj)\.|"
                      r"layer_scale[12]\.lambda1$|embeddings\.patch_embeddings\.|neck\.fusion_stage\.)")
# fmt: on
_DINOV2 = re.compile(r"^(?:[a-z_]+\.){0,2}?((?:cls_token|mask_token|pos_embed|patch_embed|blocks|norm)(?:\..*)?)$")
_HF_PATCHES = "embeddings.patch_embeddings.projection.weight"


def transformers_encoder(table: Table) -> str | None:
    """Which encoder a Depth Anything file with transformers' names has; None for anything else."""
    if not any(name.startswith("neck.") or ".neck." in name for name in table):
        return None
    widths = [info.shape[0] for name, info in table.items() if name.endswith(_HF_PATCHES) and info.shape]
    return next((e.name for e in ENCODERS.values() if widths and e.width == widths[0]), None)
