"""What part of a network, or of a training file, only one side has: the rules over lists of names.

A rule gives its finding or None. What a word means is used only where the structure cannot tell. Standard library only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from ..wrappers import bare
from .causes import Finding, words
from .difference import NUMBERED, Difference, bookkeeping, family, is_mask, tops

# Numbered blocks ----------------------------------------------------------------------------------------------------


def continued(names: Iterable[str], begun: bool = True, all_: bool = True) -> tuple[list[str], int, int] | None:
    """Whole blocks that go on where another network of the kind ends: their names, the first number and the last.

    None if a name is in no such block, or if the first blocks may just not be shown (`begun` is False). Without `all_`,
    for lists beside another width, names may be elsewhere and one block is enough.
    """
    listed = list(names)
    groups: dict[str, dict[int, set[str]]] = {}
    places = [list(NUMBERED.finditer(name)) for name in listed]
    for name, found in zip(listed, places, strict=True):
        for match in found:
            stem, rest = name[: match.start(1)], family(name[match.end(1) :])
            groups.setdefault(stem, {}).setdefault(int(match[1]), set()).add(rest)
    good = {stem for stem, blocks in groups.items() if _goes_on(blocks, begun, all_)}
    inside = [
        name for name, found in zip(listed, places, strict=True) if any(name[: m.start(1)] in good for m in found)
    ]
    if not good or (all_ and not all(map(bookkeeping, set(listed).difference(inside)))):
        return None
    blocks = groups[max(good, key=lambda stem: sum(map(len, groups[stem].values())))]
    return inside, min(blocks), max(blocks)


def _goes_on(blocks: dict[int, set[str]], begun: bool, several: bool) -> bool:
    first, last = min(blocks), max(blocks)
    rests = list(blocks.values())
    alike = all(len(rest & rests[0]) * 2 > min(len(rest), len(rests[0])) for rest in rests)
    layers = any(rest.endswith(".weight") for rest in rests[0])  # a block holds layers
    enough = len(blocks) > 1 or not several
    return begun and first > 0 and last - first == len(blocks) - 1 and layers and alike and enough


def in_every_layer(names: Iterable[str]) -> bool:
    """Whether names come again in three layers or more, one after the other: an option of the model, and no part."""
    groups: dict[str, list[tuple[int, ...]]] = {}
    for name in names:
        groups.setdefault(family(name), []).append(tuple(int(number[:9]) for number in re.findall(r"\d+", name)))
    return (
        bool(groups) and len(groups) <= 6 and all(len(found) > 2 and _consecutive(found) for found in groups.values())
    )


def _consecutive(found: list[tuple[int, ...]]) -> bool:
    places = [set(numbers) for numbers in zip(*found, strict=True)]
    return any(len(at) > 1 and max(at) - min(at) == len(at) - 1 for at in places)


# Entries that only some files have ----------------------------------------------------------------------------------


def special(diff: Difference) -> Finding | None:
    """Parts of names that only one kind of file has."""
    for cause, pattern in _SPECIAL:
        if found := tuple(name for name in (*diff.missing, *diff.unexpected) if pattern.search(name)):
            return Finding(cause, cause, set(diff.names), {"names": found, "count": len(found)}, 0.03)
    return None


_SPECIAL = (
    ("flat_parameters", re.compile(r"(?:^|\.)_?flat_param")),
    ("adapter_weights", re.compile(r"(?:^|\.)lora_|^base_model\.model\.|\.ia3_l|adapter_model")),
)


def quantized(diff: Difference) -> Finding | None:
    """Layers that hold small integers and scales in place of a weight."""
    lacking = {name.rpartition(".")[0] for name in diff.missing}
    found = [
        n for n in diff.names if not words("quantized").isdisjoint(n.split("."))
        or (n.endswith(".scale") and n in diff.unexpected and _layer(n) in lacking)
    ]  # fmt: skip
    if not found:
        return None
    layers = {_layer(name) for name in found}
    accounts = {n for n in diff.names if _layer(n) in layers}
    return Finding("quantized", "quantized", accounts, {"names": tuple(found), "count": len(found)}, 0.04)


def _layer(name: str) -> str:
    """The path of the layer that an entry belongs to, also if what is beside its weight is named below it."""
    parts = name.split(".")
    end = next((i for i, part in enumerate(parts) if part in words("quantized")), len(parts) - 1)
    return ".".join(parts[:end]).removesuffix(".weight")


def container(diff: Difference) -> Finding | None:
    """Names without a dot that no model has: the entries of a training file, perhaps below one prefix."""
    names = [bare(name) for name in diff.unexpected]
    if not names:
        return None
    if "param_groups" in names:
        return Finding("different_model", "optimizer_state", set(diff.names), {"names": tuple(names)}, 0.02)
    branch = [name for name in names if name.split(".")[0] in ("teacher", "student")]
    if 2 * len(branch) > len(names) and tops(branch) == {"teacher", "student"} and diff.missing:
        return Finding("training_container", "container_branches", set(diff.names), {"names": tuple(branch)}, 0.04)
    path = names[0].rpartition(".")[0] if len({name.rpartition(".")[0] for name in names}) == 1 else ""
    entries = [name.removeprefix(path + ".") for name in names if "." not in name.removeprefix(path + ".")]
    state = [name for name in entries if _stem(name) in words("training_state")]
    boxes = [name for name in entries if _stem(name) in words("container") and name not in state]
    copies = [name for name in entries if name.count("_") > 2 and _EMA.search(name)]
    told = (state and boxes) or len(state) > 1 or (entries and len(state) == len(entries))
    lone = boxes and len(boxes) == len(names) and set(diff.missing) != set(names) and "bias" not in names
    dotted = sum("." in name for name in diff.missing)
    unlike = not diff.warning and len(entries) == len(names) and not path and 1 < len(names) < 20 and (
        5 * dotted > 4 * len(diff.missing) > 4 * max(len(names) if diff.whole else 1, 2))  # fmt: skip
    if copies or 2 * len(entries) < len(names) or not (told or (lone and not path) or unlike):
        return None
    where = next((word for word in boxes if word in ("state_dict", "model")), boxes[0] if boxes else "")
    text = "container_lightning" if any("lightning" in n for n in entries) else "container_at" if where else "container"
    args = {"where": where, "names": tuple(entries)}
    return Finding("training_container", text, set(diff.names) - set(diff.sizes), args, 0.03)


def _stem(entry: str) -> str:
    """The word that an entry begins with, where all of it is none that is known: `model` for model_G."""
    known = words("container") | words("training_state")
    if entry in known or entry.endswith("state_dict"):
        return entry if entry in known else "state_dict"
    return entry.partition("_")[0]


def only_bookkeeping(diff: Difference) -> Finding | None:
    """Counters, indices and masks: nothing learned."""
    found = [name for name in diff.names if bookkeeping(name) or is_mask(name, diff)]
    if not found:
        return None
    kinds = sorted({name.rpartition(".")[2] for name in found})
    undone = not any(name in diff.missing for name in found)
    args = {"kinds": ", ".join(kinds), "count": len(found), "names": tuple(found)}
    return Finding("bookkeeping_buffers", "bookkeeping_buffers", set(found), args, 0.01, undone=undone)


def averaged(diff: Difference) -> Finding | None:
    """A second, averaged copy of the weights; of a whole table it is known to be one."""
    for names, other, side in ((diff.unexpected, diff.missing, "file"), (diff.missing, diff.unexpected, "model")):
        copies = _copies(names, diff)
        ema = [name for name in names if _EMA.search(".".join(name.split(".")[:2]))]
        found = max(copies, ema, key=len)
        if found and (copies or (2 * len(found) >= len(names) and not other and len(names) > 1)):
            args = {"names": tuple(found), "count": len(found), "path": found[0].partition(".")[0]}
            text = f"ema_copy_{side}" if not copies or side == "model" else "ema_copies"
            return Finding("ema_copy", text, set(found), args, 0.05)
    return None


_EMA = re.compile(r"(?:^|[._])(?:ema|teacher)(?:[._]|$)|(?:^|\.)shadow(?:_params)?(?:\.|$)|averaged_model")


def _copies(names: Iterable[str], diff: Difference) -> list[str]:
    """The names that repeat what both sides have under one more path, or with underscores for dots."""
    if not diff.agree:
        return []
    flat = {name.replace(".", "_") for name in diff.agree}
    under: dict[str, list[str]] = {}
    for name in names:
        parts = name.split(".", 4)
        for k in range(1, len(parts)):
            if ".".join(parts[k:]) in diff.agree:
                under.setdefault(".".join(parts[:k]), []).append(name)
        if "." not in name:
            for cut in (m.end() for m in re.finditer("_", name[:40])):
                if name[cut:] in flat:
                    under.setdefault(name[:cut], []).append(name)
    best = max(under.values(), key=len, default=[])
    return best if 10 * len(best) >= 8 * len(diff.agree) and len(best) > 1 else []


# Heads, backbones, shards -------------------------------------------------------------------------------------------

HEADS = re.compile(
    r"(?:^|_)(?:heads?|projectors?|predictors?|classifiers?|cls|fc|logits?|linear_probe|online_finetuner|last_linear|"
    r"last_layer|class_embed|bbox_embed|bbox_pred|cls_score|dino_head|ibot_head|proj_head|projection_head|lm_head|neck)(?:_|\d|$)"
)


def surplus(diff: Difference) -> Finding | None:
    """One module of its own that only the file has: a head."""
    names = [name for name in diff.unexpected if not bookkeeping(name)]
    roots = tops(names)
    new = diff.agree is not None and not roots & tops(diff.agree)  # modules that the model has nothing of
    if not names or not all(map(bookkeeping, diff.missing)) or len(roots) > 3:
        return None
    if not new and (in_every_layer(names) or continued(names)):
        return None
    if (diff.one_list and len(names) > 20) or roots & tops(diff.sizes):
        return None  # the network itself, or a part that the model has as well
    own = diff.agree is None or new or _last_layer(names)
    blocks = roots & words("blocks") or not all("." in name or HEADS.search(name) for name in names)
    inside = {name.split(".")[1] for name in names if name.count(".") > 1}  # several: of a part that the model has
    if diff.agree is None and len(roots) == 1 < len({*filter(str.isidentifier, inside)}):
        own = own and all(HEADS.search(top) for top in roots)
    if not own or (blocks and not _last_layer(names)) or any(_NORM.search(name) for name in names):
        return None
    known = all(HEADS.search(top) for top in roots)
    if not (known or new or any(name.endswith("weight") for name in names)):
        return None  # a learned addition to layers
    args = {"tops": ", ".join(sorted(roots)), "names": tuple(names), "count": len(names)}
    return Finding("extra_head", "extra_head", set(names), args, 0.08 if known or diff.agree is not None else 0.35)


_NORM = re.compile(r"\.(?:bn|norm)\d*\.[a-z_]+$")  # layers within others: an option of the constructor, no part


def _last_layer(names: list[str]) -> bool:
    return len({name.rpartition(".")[0] for name in names}) == 1 and bool(HEADS.search(names[0].split(".")[-2:][0]))


def lacking(diff: Difference) -> Finding | None:
    """Whole modules that only the model has: the file is the backbone without them, with at most a head of its own."""
    names = [name for name in diff.missing if not bookkeeping(name)]
    roots, theirs = tops(names), tops(name for name in diff.unexpected if not bookkeeping(name))
    head = len(theirs) < 3 and all(HEADS.search(top) for top in theirs)
    if not names or not head or in_every_layer(names) or continued(names) or _next_block(names):
        return None
    if diff.agree is None:
        known = len(roots) < 5 and all(HEADS.search(top) or top.startswith(("decode", "fpn")) for top in roots)
        first = any(bare(name) != name or _FIRST.search(name) for name in names)  # what a backbone begins with
        if not known or first or (diff.whole and _stems(names) and len(roots) > 2):
            return None
    elif not (roots.isdisjoint(tops(diff.agree)) or _below(names, diff)) or len(diff.agree) < max(
        len(diff.unexpected), len(names) if _stems(names) else 0):  # fmt: skip
        return None
    cost = 0.1 if diff.agree is None else 0.07
    args = {"names": tuple(names), "count": len(names), "tops": ", ".join(sorted(roots)), "own": tuple(diff.unexpected)}
    text = "backbone_only_head" if diff.unexpected else "backbone_only"
    return Finding("backbone_only", text, {*names, *diff.unexpected}, args, cost)


_FIRST = re.compile(
    r"cls_token|pos_?emb|patch_?embed|tok(?:en)?_?emb|embed_tokens|word_embeddings|(?:^|\.)stem\b|^conv1\."
)


def _next_block(names: list[str]) -> bool:
    """Whether all names are of one numbered part that is not the first."""
    blocks = {_block(name) for name in names}
    return len(blocks) == 1 and all(number not in ("", "0") for _, number in blocks)


def _block(name: str) -> tuple[str, str]:
    """The path and the number of the first numbered part in a name, both empty if there is none."""
    match = NUMBERED.search(name)
    return (name[: match.start()], match[1]) if match else ("", "")


def _below(names: list[str], diff: Difference) -> bool:
    """Whether whole modules of the second level are what lacks (under `model.` or `net.` everything is one top)."""
    second = {".".join(name.split(".")[:2]) for name in names}
    there = {".".join(name.split(".")[:2]) for name in diff.agree or ()}
    return not second & there and not any(part.rpartition(".")[2].isdecimal() for part in second)


def one_of_several(diff: Difference) -> Finding | None:
    """The file has a part of the model and nothing else, cut somewhere among its blocks."""
    names = [name for name in diff.missing if not bookkeeping(name)]
    shown = diff.whole or (diff.one_list and diff.begun)
    if not shown or not names or diff.unexpected or diff.sizes or in_every_layer(names) or continued(names):
        return None
    blocks = {_block(name) for name in names}
    there = _stems(diff.agree or ())
    if not any(stem in there if diff.agree else (stem, "0") not in blocks for stem in _stems(names)):
        return None
    return Finding("sharded_model", "sharded_part", set(names), {"names": tuple(names), "count": len(names)}, 0.09)


def _stems(names: Iterable[str]) -> set[str]:
    """The paths below which two numbered blocks or more are."""
    counts = Counter(stem for stem, _ in {_block(name) for name in names})
    return {stem for stem, count in counts.items() if stem and count > 1}
