"""What the relation between the names of both sides gives away: renamed parts, damage, another library's way of naming.

A rule gives its finding or None. What is the same under other words is found from the structure of the names alone.
Standard library only.
"""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from itertools import product

from .causes import Finding, data
from .difference import NUMBERED, Difference, Names, family, first_of

# Renamed parts ------------------------------------------------------------------------------------------------------

_MOST_NAMES = 2_000  # of each side are looked at
_MOST_PAIRS = 2_500  # hundreds of words in one place aren't a renaming, and trying all pairs would take for ever
_DEEPEST, _LONGEST_RUN, _MOST_RULES = 30, 3, 8
Runs = dict[str, str]


def renamed(diff: Difference) -> Finding | None:
    """Names of both sides that differ in a run of components, the same in many: a part that is called otherwise."""
    if not (diff.missing and diff.unexpected):
        return None
    file = dict(list(diff.unexpected.items())[:_MOST_NAMES])
    model = dict(list(diff.missing.items())[:_MOST_NAMES])
    pairs, rules = _by_runs(file, model)
    if not pairs or len(pairs) == 1 < min(len(file), len(model)):
        return None
    (old, new), count = rules.most_common(1)[0]
    runs = _runs(pairs)
    args = {"old": old, "new": new, "count": count, "pairs": len(pairs), "name": next(iter(pairs)),
            "other": next(iter(pairs.values())), "all": len(diff.missing)}  # fmt: skip
    text = "renamed" if old and new else "renamed_more" if new else "renamed_less"
    if {old, new} == {"#", ""}:
        text = "renamed_chunks"
    cost = 0.1 + 0.02 * len(rules)
    return Finding("other_naming", text, {*pairs, *pairs.values()}, args, cost, runs, undone=True)


def _by_runs(file: Names, model: Names) -> tuple[Runs, Counter[tuple[str, str]]]:
    """File's name -> model's name, and how often which run (with # for numbers) became which; one run at a time."""
    pairs: Runs = {}
    rules: Counter[tuple[str, str]] = Counter()
    left, open_ = {name: name for name in file}, dict.fromkeys(model)  # as the name is now -> as the file has it
    for _ in range(_MOST_RULES):
        if not (found := _candidates(left, open_, {now: file[first] for now, first in left.items()}, model)):
            break
        best, some = max(found.items(), key=lambda item: len(item[1]))
        matched = {now: (there, runs) for there, (now, runs) in some.items()}
        if len(matched) < min(2, len(left)) or 20 * len(matched) < len(left):
            break
        rules[best] += len(matched)
        pairs |= {left.pop(now): there for now, (there, _) in matched.items()}
        for there in pairs.values():
            open_.pop(there, None)
        runs = dict(list({runs: None for _, runs in matched.values()})[:40])
        left = {_replaced(now, runs): first for now, first in left.items()}
        for now in [name for name in left if name in open_]:
            pairs[left.pop(now)] = now
            del open_[now]
    return pairs, rules


Found = dict[tuple[str, str], dict[str, tuple[str, tuple[str, str]]]]


def _candidates(names: Collection[str], others: Collection[str], shapes: Names, other_shapes: Names) -> Found:
    """(Old run, new run), numbers as # -> the model's name, the file's, and the runs as they stand there."""
    found: Found = {}
    for depth in range(min(_DEEPEST, max((name.count(".") for name in others), default=0) + 1)):
        theirs: dict[int, list[tuple[str, str]]] = {}
        for key, run, name in _gaps(names, depth):
            theirs.setdefault(key, []).append((run, name))
        mine: dict[int, list[tuple[str, str]]] = {}
        for key, run, name in _gaps(others, depth):
            if key in theirs:
                mine.setdefault(key, []).append((run, name))
        for key, places in mine.items():
            if len(places) * len(theirs[key]) > _MOST_PAIRS:
                continue
            for (old, name), (new, other) in product(theirs[key], places):
                a, b = shapes.get(name), other_shapes.get(other)
                known = a is not None and b is not None
                if _telling(old, new) and (a == b if known else _kept(old, name) or _kept(new, other)):
                    alike = re.findall(r"\d+", old) == re.findall(r"\d+", new) or not (old and new)
                    runs = (family(old), family(new)) if alike else (old, new)
                    found.setdefault(runs, {}).setdefault(other, (name, (old, new)))
    return found


def _kept(run: str, name: str) -> bool:
    """Whether more than the last component stays the same, or no more than one changes."""
    return run.count(".") < max(1, name.count(".") - 1)


def _gaps(names: Iterable[str], depth: int) -> Iterator[tuple[int, str, str]]:
    """(What a name is without up to three components from `depth` on, those, the name)."""
    for name in names:
        parts = name.split(".")
        if len(parts) > _DEEPEST or len(parts) < depth:
            continue
        before = hash(tuple(parts[:depth]))
        for length in range(min(_LONGEST_RUN, len(parts) - depth) + 1):
            if length < len(parts):
                yield hash((before, tuple(parts[depth + length :]))), ".".join(parts[depth : depth + length]), name


def _telling(old: str, new: str) -> bool:
    """Whether two runs are another way to say one thing, as short as it can be said, and not just other numbers."""
    if family(old) == family(new):
        return False
    a, b = old.split("."), new.split(".")
    if old and new and (a[0] == b[0] or a[-1] == b[-1]):
        return False
    mine, theirs = re.findall(r"\d+", old), re.findall(r"\d+", new)
    return mine == theirs or (not (mine and theirs) and (not (old and new) or not {*mine, *theirs} & {*a, *b}))


def _middle(a: list[str], b: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Two names without the components that they begin and end with alike."""
    start = next((k for k, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    end = next((k for k, (x, y) in enumerate(zip(a[:start:-1], b[:start:-1], strict=False)) if x != y), 0)
    return tuple(a[start : len(a) - end]), tuple(b[start : len(b) - end])


def _runs(pairs: Runs) -> Runs:
    """The runs of components to exchange, each the shortest that makes the model's name of the file's."""
    runs: dict[str, str] = {}
    for name, other in pairs.items():
        a, b = name.split("."), other.split(".")
        old, new = _middle(a, b)
        if not old or not new:  # something comes, or goes: with the component in front of it
            at = next((k for k, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
            beside = a[at - 1] if at else a[0]
            old, new = ((beside, *old), (beside, *new)) if at else ((*old, beside), (*new, beside))
        runs[".".join(old)] = ".".join(new)
        if len(runs) > 40:
            return {}
    return runs


def _replaced(name: str, runs: Runs) -> str:
    """`name` with whole runs of components exchanged, each once from the left."""
    dotted = f".{name}."
    for old, new in runs.items():
        if old:
            dotted = dotted.replace(f".{old}.", f".{new}." if new else ".")
    return dotted[1:-1]


# Damage -------------------------------------------------------------------------------------------------------------


def damaged(diff: Difference) -> Finding | None:
    """Names from which a fixed number of characters was cut off, so that some begin in the middle of a word."""
    accounts = {*diff.unexpected, *diff.missing}
    inside = tuple(name for name in diff.unexpected if name.startswith("."))
    blocks = tuple(name for name in diff.unexpected if name.split(".", 1)[0].isdecimal())  # of some path, others aren't
    if diff.one_list and (inside or 1 < len(blocks) < len(diff.unexpected)):
        return Finding("damaged_names", "damaged_unseen", accounts, {"names": inside or blocks}, 0.05)
    cuts = Counter(
        len(name) - len(end) for end in list(diff.unexpected)[:12] for name in list(diff.missing)[:_MOST_NAMES]
        if name != end and name.endswith(end)
    )  # fmt: skip
    for size, _ in cuts.most_common(3):
        cut = {end: name for name in diff.missing if (end := name[size:]) and end in diff.unexpected}
        if 2 * len(cut) >= len(diff.unexpected) and any(
            name[size - 1].isalpha() and name[size].isalpha() for name in cut.values()
        ):
            return Finding("damaged_names", "damaged_names", accounts, {"names": tuple(cut), "size": size}, 0.05)
    return None


def punctuated(diff: Difference) -> Finding | None:
    """Other signs between the parts of a name than dots."""
    for sign in ("/", "_", "-", ""):
        joined = {name.replace(".", sign): name for name in diff.missing if "." in name}
        pairs = {name: joined[name] for name in diff.unexpected if name in joined}
        if 2 * len(pairs) >= min(len(joined), len(diff.unexpected)) > 0:
            args = {"sign": sign, "name": next(iter(pairs)), "other": next(iter(pairs.values())), "count": len(pairs)}
            return Finding("damaged_names", "punctuated", {*pairs, *pairs.values()}, args, 0.05)
    joint = [name for name in diff.unexpected if _JOINT.search(name)]
    if 5 * len(joint) < 4 * len(diff.unexpected) or len(joint) < 2 or any("." in name for name in diff.unexpected):
        return None
    args = {"sign": _JOINT.findall(joint[0])[0], "name": joint[0], "count": len(joint)}
    return Finding("damaged_names", "punctuated_unseen", {*diff.unexpected, *diff.missing}, args, 0.05)


_JOINT = re.compile(r"^[^.]*[^._/]([_/])(?:weight|bias|running_mean|running_var|num_batches_tracked|gamma|beta)$")


def positional(diff: Difference) -> Finding | None:
    """Single numbers on the names of tensors: names and tensors were paired by their position."""
    sizes = diff.sizes
    scalars = [name for name, (file, model) in sizes.items() if not file and math.prod(model) > 1]
    odd = [name for name, (file, model) in sizes.items() if len(file) != len(model)]
    shapes = [Counter(pair[side] for pair in sizes.values()) for side in (0, 1)]
    mixed = len(odd) > 2 and 4 * len(odd) >= len(sizes) and 2 * sum((shapes[0] & shapes[1]).values()) >= len(sizes)
    if not mixed and (not scalars or 2 * len(scalars) < len(sizes)):
        return None
    args = first_of({name: sizes[name] for name in scalars or odd})
    return Finding("damaged_names", "damaged_by_position", set(diff.names), args, 0.05)


def shifted(diff: Difference) -> Finding | None:
    """Blocks counted from one and not from zero: the first is only on one side, the last only on the other."""
    missing, unexpected = _by_block(diff.missing), _by_block(diff.unexpected)
    for one, other in ((missing, unexpected), (unexpected, missing)):
        for stem in [stem for stem in one if "0" in one[stem] and len(other.get(stem, ())) == 1]:
            low, ((last, high),) = one[stem]["0"], other[stem].items()
            if last != "0" and 2 * len(low & high) > min(len(low), len(high)):
                ours = {name for name in diff.names if name.startswith(stem)}
                args = {"stem": stem, "first": f"{stem}0", "last": f"{stem}{last}"}
                return Finding("other_naming", "renamed_shifted", ours, args, 0.06)
    return None


def _by_block(names: Iterable[str]) -> dict[str, dict[str, set[str]]]:
    """Path -> number -> what is in that block."""
    found: dict[str, dict[str, set[str]]] = {}
    for name in names:
        if match := NUMBERED.search(name):
            found.setdefault(name[: match.start()], {}).setdefault(match[1], set()).add(name[match.end() :])
    return found


@functools.cache
def _dialects() -> list[tuple[str, re.Pattern[str]]]:
    return [(library, re.compile("|".join(parts))) for library, parts in data()["words"]["dialects"].items()]


def dialects(names: Iterable[str]) -> Counter[str]:
    """Which library's way of naming each of `names` shows."""
    found = (next((library for library, pattern in _dialects() if pattern.search(name)), "") for name in names)
    return Counter(library for library in found if library)


def _example(names: Iterable[str], library: str) -> str:
    return next(name for name in names if dialects([name])[library])


def weight_norm(diff: Difference) -> Finding | None:
    """Weight normalisation on one side alone: its g is the norm of the weight, and no renaming makes it."""
    for names, others, side in ((diff.missing, diff.unexpected, "model"), (diff.unexpected, diff.missing, "file")):
        pairs = [name for name in names if _PARTED.search(name)]
        plain = [n for n in others if n.endswith(".weight") and f"{n[:-7]}.running_mean" not in others]
        if pairs and plain and {_PARTED.sub("", name) for name in pairs} & {name[:-7] for name in plain}:
            return Finding("other_naming", f"weight_norm_{side}", {*pairs, *plain}, {"names": tuple(pairs)}, 0.05)
    return None


_PARTED = re.compile(r"\.(?:weight_[gv]|parametrizations\.weight\.original[01])$")


def other_library(diff: Difference) -> Finding | None:
    """Two libraries' ways of naming, or as many numbers in all under other names."""
    if not (diff.missing and diff.unexpected):
        return None
    ours, theirs = dialects(diff.missing), dialects(diff.unexpected)
    fewer, more = sorted((len(diff.missing), len(diff.unexpected)))
    if fewer > 40 and 2 * more > 3 * fewer:
        ours.clear()  # too unlike to be one network; query, key and value apart make a third more
    names = {*diff.missing, *diff.unexpected}
    args = {"name": next(iter(diff.missing)), "other": next(iter(diff.unexpected))}
    if ours and theirs and ours.most_common(1)[0][0] != theirs.most_common(1)[0][0]:
        mine, other = ours.most_common(1)[0][0], theirs.most_common(1)[0][0]
        args = {"name": _example(diff.missing, mine), "other": _example(diff.unexpected, other)}
        shallow, deep = sorted((_deepest(diff.missing), _deepest(diff.unexpected)))
        cost = 0.2 if deep <= 2 * shallow + 1 else 0.5  # else it may be another network besides
        return Finding("other_naming", "naming_of_libraries", names, args | {"mine": mine, "theirs": other}, cost)
    counted = [sum(_elements(shape) for shape in side.values()) for side in (diff.missing, diff.unexpected)]
    several = min(len(diff.missing), len(diff.unexpected)) > 2
    if several and diff.agree is not None and counted[0] == counted[1] > 0 and not diff.sizes:
        return Finding("other_naming", "naming_of_as_many", names, args | {"count": f"{counted[0]:,}"}, 0.12)
    return None


def _deepest(names: Iterable[str]) -> int:
    return max((int(number) for name in names for number in NUMBERED.findall(name)), default=0)


def _elements(shape: tuple[int, ...] | None) -> int:
    total = 1
    for size in shape or (0,):
        total *= size
    return total
