"""What the relation between the two partial tables of an error gives away: one list is the other, a component apart.

Here are the lists as all rules see them, and the rules that compare whole names: wrappers, outer paths, chunked blocks,
renamed parts, damaged and doubled names. A rule gives its reading or None. Standard library only.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import product
from typing import NamedTuple

from ..wrappers import WRAPPER_CLASSES, WRAPPERS, bare, wrappers_in
from .message import Message
from .words import BOOKKEEPING


class Reading(NamedTuple):
    """One reading of an error: the cause, what exactly, what shows it, and whether renaming alone repairs it."""

    cause: str
    detail: str
    evidence: str
    repairable: bool = False
    remedy: str = ""  # where this case has a better one than its cause


class Lists:
    """The lists of a message without the bookkeeping entries, and without wrappers that both sides have alike."""

    def __init__(self, message: Message) -> None:
        looked_for = [name for name in message.key_errors if "." in name]
        missing, unexpected = [*message.missing, *looked_for], message.unexpected
        self.every = [*missing, *unexpected, *message.size_mismatch]
        # the same entry under a prefix tells of the prefix, even where it is bookkeeping
        paired = _one_ends_in(missing, set(unexpected)) or _one_ends_in(unexpected, set(missing))
        self.missing = [name for name in missing if paired or not bookkeeping(name)]
        self.unexpected = [name for name in unexpected if paired or not bookkeeping(name)]
        self.sizes = message.size_mismatch
        self.key_errors, self.model_class, self.complete = message.key_errors, message.model_class, message.complete
        self.text = message.squeezed.lower()
        self.in_model, self.in_file = wrappers_in([*self.missing, *self.sizes]), wrappers_in(self.unexpected)
        if self.in_file and self.in_file == self.in_model:
            self.missing, self.unexpected = [bare(n) for n in self.missing], [bare(n) for n in self.unexpected]
            self.in_model, self.in_file = [], []
        self.tops_model, self.tops_file = tops(map(bare, self.missing)), tops(map(bare, self.unexpected))


def bookkeeping(name: str) -> bool:
    return name.rpartition(".")[2] in BOOKKEEPING


def sample(names: Iterable[str]) -> str:
    """The first two names, and how many more."""
    shown = list(names)
    more = f" and {len(shown) - 2} more" if len(shown) > 2 else ""
    return ", ".join(shown[:2]) + more


def tops(names: Iterable[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def _wrapped(lists: Lists) -> Reading | None:
    """A wrapper's component on one side, or another one on each."""
    with_file = [name for name in lists.unexpected if bare(name) != name]
    with_model = [name for name in lists.missing if bare(name) != name]
    if 2 * len(with_file) > len(lists.unexpected) and with_file and lists.model_class not in WRAPPER_CLASSES:
        if lists.missing and not lists.tops_file & lists.tops_model:
            return None
        kind = ", then ".join(f"{WRAPPERS[token]} ({token}.)" for token in lists.in_file)
        same = {bare(n) for n in lists.missing} & {bare(n) for n in with_file}
        proof = f"; {len(same)} of them are missing names with the prefix" if same else ""
        return Reading("wrapper_prefix", kind, f"{len(with_file)} of {len(lists.unexpected)} names in the file carry "
                       f"it: {with_file[0]}{proof}", _same_tables(lists))  # fmt: skip
    if 2 * len(with_model) > len(lists.missing) and with_model and not with_file:
        if lists.unexpected and not lists.tops_file & lists.tops_model:
            return None
        return _wrapped_model(lists, with_model)
    return None


def _wrapped_model(lists: Lists, names: list[str]) -> Reading:
    token = lists.in_model[0]
    evidence = f"{len(names)} of {len(lists.missing)} missing names carry {token}.: {names[0]}"
    known = lists.complete and not lists.sizes and (not lists.unexpected or _same_tables(lists))
    if token == "module" and all(name.startswith("module.") for name in names):
        detail = "DataParallel or DistributedDataParallel around the model"
        return Reading("model_is_wrapped", detail, evidence, known)
    detail = f"the model's names carry {WRAPPERS[token]} ({token}.)"
    gather = "fsdp" in token or "FullySharded" in lists.model_class
    return Reading("wrapper_prefix", detail, evidence, not gather and known)


def _nested_blocks(lists: Lists) -> Reading | None:
    """blocks.<chunk>.<index>. on one side and blocks.<index>. on the other."""
    nested, flat = [_NESTED.search(n) for n in lists.missing], [_FLAT.search(n) for n in lists.unexpected]
    side = "the model"
    if not any(nested):
        nested, flat, side = (
            [_NESTED.search(n) for n in lists.unexpected],
            [_FLAT.search(n) for n in lists.missing],
            "the file",
        )
    rests = {match[1] for match in nested if match} & {match[1] for match in flat if match}
    if not rests:
        return None
    return Reading("other_naming", "blocks in chunks (block_chunks of DINOv2)",
                   f"{side} counts chunk and block (blocks.0.5.), the other side only the block (blocks.5.)",
                   all(nested) and all(flat) and lists.complete and not lists.sizes)  # fmt: skip


_NESTED = re.compile(r"(?:^|\.)(?:blocks|layers)\.\d+\.\d+\.([A-Za-z].*)", re.S)
_FLAT = re.compile(r"(?:^|\.)(?:blocks|layers)\.\d+\.([A-Za-z].*)", re.S)


def _outer(lists: Lists) -> Reading | None:
    """One list is the other under a leading path."""
    if not (lists.missing and lists.unexpected):
        return None
    if path := _leading_path(lists.unexpected, lists.missing):
        return _outer_reading("outer_module_prefix", path, lists.unexpected, lists.missing, lists)
    if path := _leading_path(lists.missing, lists.unexpected):
        return _outer_reading("missing_outer_prefix", path, lists.missing, lists.unexpected, lists)
    short = max(name.count(".") for name in lists.missing) < 2
    if (
        short
        and len(lists.tops_file) == 1
        and all(name.count(".") > 2 for name in lists.unexpected)
        and not lists.sizes
    ):
        return Reading("outer_module_prefix", f"{lists.unexpected[0].split('.')[0]}., of a much larger model",
                       f"{lists.model_class} is a small part; the file has {sample(lists.unexpected)}")  # fmt: skip
    return None


def _outer_reading(cause: str, path: str, longer: list[str], shorter: list[str], lists: Lists) -> Reading:
    under = [name for name in longer if name.startswith(path)]
    rest = {name[len(path) :] for name in under}
    all_there = len(under) == len(longer) and tops(rest) == tops(shorter) and _agree(rest, set(shorter))
    side = "the file" if cause == "outer_module_prefix" else "the model"
    return Reading(cause, path, f"{len(under)} of {len(longer)} names in {side} begin with {path} and look like the "
                   f"other side's without it", all_there and lists.complete and not lists.sizes)  # fmt: skip


def _leading_path(longer: list[str], shorter: list[str]) -> str:
    """The path (with its dot) under which `longer` holds what `shorter` holds at the top; empty if there is none."""
    exact, alike, heads = set(shorter), {_family(name) for name in shorter}, tops(shorter)
    votes: Counter[str] = Counter()
    for name in longer:
        parts = name.split(".")
        for k in range(1, min(len(parts) - 1, 4) + 1 if parts[0] not in heads else 1):
            path, rest = ".".join(parts[:k]) + ".", ".".join(parts[k:])
            vote = 4 if rest in exact else 2 if _family(rest) in alike else parts[k] in heads
            if vote and not parts[k - 1].isdigit() and not parts[k].isdigit():
                votes[path] += vote
    best = max(votes, key=lambda path: votes[path], default="")
    under = [name for name in longer if name.startswith(best)]
    all_heads = heads <= tops(name[len(best) :] for name in under)
    return best if votes[best] and 3 * len(under) >= len(longer) and (all_heads or votes[best] >= len(under)) else ""


def _renamed(lists: Lists) -> Reading | None:
    """Most names of both lists have a twin on the other side that differs in one component."""
    if not (lists.missing and lists.unexpected) or lists.sizes:
        return None
    pairs: Counter[tuple[str, str]] = Counter()
    twins: tuple[set[str], set[str]] = set(), set()
    for depth in range(_DEEPEST):  # one depth after the other: all at once would be hundreds of times the text
        places = _gaps(lists.missing, depth, set(map(hash, _all_gaps(lists.unexpected, depth))))
        if places:
            others = _gaps(lists.unexpected, depth, set(map(hash, places)))
            _count_twins(places, others, pairs, twins)
    if not pairs or 5 * len(twins[0]) < 2 * len(lists.missing) or 5 * len(twins[1]) < 2 * len(lists.unexpected):
        return None
    (old, new), count = pairs.most_common(1)[0]
    whole = count == len(lists.missing) == len(lists.unexpected) and bool(old and new) and lists.complete
    return Reading("other_naming", f"{old or '(nothing)'} in the file is {new or '(nothing)'} in the model",
                   f"{len(twins[0])} of {len(lists.missing)} missing names have such a twin", whole)  # fmt: skip


_MOST_WORDS = 2_500
Gaps = dict[str, dict[str, list[str]]]


def _count_twins(places: Gaps, others: Gaps, pairs: Counter[tuple[str, str]], twins: tuple[set[str], set[str]]) -> None:
    """Count which words stand in the same gap of the model's `places` and of the file's `others`."""
    for gap in places.keys() & others.keys():
        if len(places[gap]) * len(others[gap]) > _MOST_WORDS:
            continue  # hundreds of words in one place are no renaming, and trying all pairs would take for ever
        for (part, theirs), (new, mine) in product(others[gap].items(), places[gap].items()):
            if not part == new == "#":
                pairs[part, new] += len(theirs) * len(mine)
                twins[0].update(mine)
                twins[1].update(theirs)


def _gaps(names: list[str], depth: int, wanted: set[int]) -> Gaps:
    """The names by what they are with a gap at `depth`, and then by the family of the component that stands there."""
    found: Gaps = {}
    for name in names:
        for gap, part in _with_gap(name, depth):
            if hash(gap) in wanted:
                found.setdefault(gap, {}).setdefault(_family(part), []).append(name)
    return found


def _all_gaps(names: list[str], depth: int) -> Iterator[str]:
    return (gap for name in names for gap, _ in _with_gap(name, depth))


def _damaged(lists: Lists) -> Reading | None:
    """Names that begin in the middle of a word of the model's own names, or scalars where a tensor is expected."""
    backwards = sorted(name[::-1] for name in lists.missing)
    cut = [name for name in lists.unexpected if _cut_off(name[::-1], backwards)]
    if cut and 2 * len(cut) >= len(lists.unexpected):
        return Reading("damaged_names", "a fixed number of characters was cut off", sample(cut))
    scalars = [name for name, (file, model) in lists.sizes.items() if not file and model]
    if scalars and 2 * len(scalars) >= len(lists.sizes):
        return Reading("damaged_names", "names and tensors were paired by position", f"scalars on {sample(scalars)}")
    return None


def _cut_off(end: str, backwards: list[str]) -> bool:
    """Whether one of the sorted `backwards` begins with `end` and goes on within the same component."""
    first, after = bisect_right(backwards, end), bisect_left(backwards, end + chr(0x10FFFF))
    return first < after and any(backwards[at][len(end)] != "." for at in (first, after - 1))  # sorted: "." or others


def _duplicates(lists: Lists) -> Reading | None:
    """For one missing name the file has two that end in it."""
    wanted = set(lists.missing)
    ends = Counter(end for name in lists.unexpected for end in _endings(name) if end in wanted)
    twice = [name for name in lists.missing if ends[name] > 1]
    if twice and 2 * len(twice) >= len(lists.missing):
        return Reading("duplicate_names", "two complete families", f"two names in the file end in {twice[0]}")
    return None


def _same_tables(lists: Lists) -> bool:
    """Do the lists show that the tables are the same but for the wrapper? Only a text that is not cut can, and not
    where FSDP wrapped it, as then each process may have written its own slices under the same names."""
    if any("fsdp" in token for token in lists.in_file):
        return False
    mine, theirs = {bare(name) for name in lists.missing}, {bare(name) for name in lists.unexpected}
    return lists.complete and not lists.sizes and _agree(theirs, mine)


def _agree(some: set[str], others: set[str]) -> bool:
    """The same top levels, and most of the shorter list in the longer: people leave names out when they paste."""
    both = len(some & others)
    return tops(some) == tops(others) and 5 * both >= 3 * max(len(some), len(others))


def _family(name: str) -> str:
    return re.sub(r"\d+", "#", name)


_DEEPEST = 30  # components of a name


def _endings(name: str) -> Iterator[str]:
    parts = name.split(".", _DEEPEST)
    return (".".join(parts[k:]) for k in range(1, len(parts)))


def _one_ends_in(names: list[str], others: set[str]) -> bool:
    return any(end in others for name in names for end in _endings(name))


def _with_gap(name: str, depth: int) -> Iterator[tuple[str, str]]:
    """(the name with a gap for the component at `depth`, that component), and (with a gap in front of it, "")."""
    parts = name.split(".", depth + 1)
    if len(parts) > depth and name.count(".") < _DEEPEST:
        before, rest = ".".join(parts[:depth]), ".".join(parts[depth:])
        if len(parts) > depth + 1:
            yield f"{before}\0{parts[-1]}", parts[depth]
        yield f"{before}\0{rest}", ""


#: In order, from the telling to the vague.
RELATIONS = (_damaged, _duplicates, _wrapped, _nested_blocks, _outer, _renamed)
