"""What differs between a file and a model: from two tables whole, from an error's text as far as it shows.

All rules look at a `Difference` and at nothing else, so that a file and the text of its error get the same answer.
`peel` takes prefixes off it, so that they see what is below. Standard library only.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ..files.placeholders import extra
from ..keys import Pair, Shape, Table
from ..wrappers import WRAPPER_CLASSES, WRAPPERS, bare, wrappers_in
from .causes import Finding, words

if TYPE_CHECKING:  # a file's two tables need no grammar of error texts
    from .message import Message

Names = dict[str, Shape | None]  # with the shape, if it is known


@dataclass
class Difference:
    """What only one side has, and what both have in another shape; empty if the tables agree."""

    missing: Names = field(default_factory=dict)  # only the model has them
    unexpected: Names = field(default_factory=dict)  # only the file has them
    sizes: dict[str, Pair] = field(default_factory=dict)  # shape in the file, in the model
    agree: Mapping[str, Any] | None = None  # what both have in one shape; None if that is not known
    whole: bool = False  # nothing was cut off: what is not here does not differ
    begun: bool = True  # the lists are shown from their first name on
    model_class: str = ""  # as an error's text names it
    warning: str = ""  # a library announced this and loaded all the same
    key_errors: tuple[str, ...] = ()  # entries that a program looked for and did not find

    @property
    def names(self) -> list[str]:
        """Every name that differs, in the order in which torch reports them."""
        return [*self.missing, *self.unexpected, *self.sizes]

    @property
    def one_list(self) -> bool:
        """Names of one side are all that is there, and the other side's may just not be shown."""
        return not self.whole and not self.sizes and bool(self.missing) != bool(self.unexpected)

    def mapped(self, model: Callable[[str], str], file: Callable[[str], str]) -> Difference:
        """The same under other names: what then is on both sides agrees, or differs in size."""
        missing = {model(name): shape for name, shape in self.missing.items()}
        unexpected = {file(name): shape for name, shape in self.unexpected.items()}
        if len(missing) < len(self.missing) or len(unexpected) < len(self.unexpected):
            return self  # two became one
        both = {name: (unexpected[name], missing[name]) for name in missing if name in unexpected}
        sizes = {name: (a, b) for name, (a, b) in both.items() if a is not None and b is not None and a != b}
        agree = self.agree
        if agree is not None:
            agree = {**agree, **{name: pair[1] for name, pair in both.items() if name not in sizes}}
        return replace(
            self,
            missing={name: shape for name, shape in missing.items() if name not in both},
            unexpected={name: shape for name, shape in unexpected.items() if name not in both},
            sizes=self.sizes | sizes,
            agree=agree,
        )

    def without(self, names: Iterable[str]) -> Difference:
        """The same without `names`, which are accounted for."""
        gone = set(names)
        return replace(
            self,
            missing={name: shape for name, shape in self.missing.items() if name not in gone},
            unexpected={name: shape for name, shape in self.unexpected.items() if name not in gone},
            sizes={name: pair for name, pair in self.sizes.items() if name not in gone},
        )


def of_tables(file: Table, model: Table) -> Difference:
    """The difference of two whole tables."""
    agree, sizes = {}, {}
    for name in file.keys() & model.keys() if len(file) < len(model) else model.keys() & file.keys():
        if file[name].shape == model[name].shape or extra(name):  # entries that aren't tensors have no shape
            agree[name] = model[name].shape
        else:
            sizes[name] = (file[name].shape, model[name].shape)
    return Difference(
        {name: info.shape for name, info in model.items() if name not in file},
        {name: info.shape for name, info in file.items() if name not in model},
        {name: sizes[name] for name in model if name in sizes},
        agree,
        True,
    )


def of_message(message: Message) -> Difference:
    """As much of the difference as the text of an error shows."""
    looked_for = [name for name in message.key_errors if "." in name]
    trimmed = not message.unexpected and not message.size_mismatch and _shortened(message.missing)
    return Difference(
        dict.fromkeys([*message.missing, *looked_for]),
        dict.fromkeys(message.unexpected),
        message.size_mismatch,
        whole=message.complete and not trimmed,
        model_class=message.model_class,
        warning=message.warning,
        key_errors=tuple(name for name in message.key_errors if "." not in name),
    )


def _shortened(names: list[str]) -> bool:
    """Whether these are a few names from all over a network, of which people have left out the rest."""
    places = {family(".".join(bare(name).split(".")[:2])) for name in names}
    return 3 < len(names) < _A_NETWORK and len(places) > 3 and any(".0." in name for name in names)


_A_NETWORK = 40  # names, as even small ones have more


def bookkeeping(name: str) -> bool:
    """Whether an entry counts, indexes or measures, and holds nothing learned."""
    return name.rpartition(".")[2] in words("bookkeeping")


def is_mask(name: str, diff: Difference) -> bool:
    """GPT-2's attn.bias, a triangle of ones, where attn.masked_bias is beside it or its shape shows it."""
    path, _, last = name.rpartition(".")
    if last != "bias" or not path.endswith("attn"):
        return False
    shape = diff.unexpected.get(name) or diff.missing.get(name)
    square = shape is not None and len(shape) == 4 and shape[:2] == (1, 1) and shape[2] == shape[3]
    beside = {f"{path}.masked_bias", f"{path}.mask"} & {*diff.unexpected, *diff.missing}
    return square or bool(beside)


def tops(names: Iterable[str]) -> set[str]:
    """The first components of names."""
    return {name.partition(".")[0] for name in names}


_NUMBER = re.compile(r"\d+")
NUMBERED = re.compile(r"(?<![^.])(\d{1,4})(?=\.)")  # a component that is a number, and not the last


def family(name: str) -> str:
    """`name` with # for each number in it."""
    return _NUMBER.sub("#", name)


def one_part(names: Iterable[str]) -> bool:
    """Whether all names share a component behind their first number: one part of every block, or of every layer."""
    paths = [NUMBERED.split(name, maxsplit=1) for name in names]
    behind = [path[-1].strip(".").split(".") for path in paths]
    shared = set.intersection(*(set(path[:-1] or path) for path in behind))
    return bool(shared) and len({path[1] for path in paths if len(path) > 1}) > 1


def shown(shape: Shape) -> str:
    return str(list(shape))


def first_of(sizes: Mapping[str, Pair], **more: object) -> dict[str, object]:
    """The arguments that every text about sizes may use: the names, and the first pair of shapes."""
    name, (file, model) = next(iter(sizes.items()))
    return {"name": name, "names": tuple(sizes), "count": len(sizes), "file": shown(file), "model": shown(model)} | more


# Prefixes -----------------------------------------------------------------------------------------------------------


def reduced(a: int, b: int) -> tuple[int, int]:
    """`a` to `b` in lowest terms."""  # `fractions` takes as long to import as a hundred sizes to compare
    common = math.gcd(a, b)
    return a // common, b // common


def peel(diff: Difference) -> tuple[list[Finding], Difference]:
    """The wrappers and the outer path that make names differ, and what differs below them."""
    found = []
    for step in (_wrappers, _outer):
        finding, diff = step(diff)
        found += [finding] if finding else []
    return found, diff


def _wrappers(diff: Difference) -> tuple[Finding | None, Difference]:
    """A wrapper's component on one side, or another one on each."""
    in_model, in_file = wrappers_in([*diff.missing, *diff.sizes]), wrappers_in(diff.unexpected)
    if not (in_model or in_file):
        return None, diff
    below = diff.mapped(bare, bare)
    below.sizes = {bare(name): pair for name, pair in below.sizes.items()}
    # of a whole text with one list: whatever else both have, they call it the same; but the model's class may tell
    front = all(name.partition(".")[0] in WRAPPERS for name in diff.unexpected) and diff.agree is None
    fits = diff.whole and not (diff.missing and (diff.unexpected or diff.sizes))
    if diff.agree is None and len({name.rpartition(".")[0] for name in diff.missing}) > 2:
        fits = False  # of so many parts, the rest of the text was left out
    if diff.unexpected and front and diff.model_class and diff.model_class not in WRAPPER_CLASSES:
        fits = False
    if in_model == in_file or fits or below is diff:
        return None, below
    file = [name for name in diff.unexpected if bare(name) != name]
    model = [name for name in diff.missing if bare(name) != name]
    if 2 * len(file) > len(diff.unexpected) and (diff.missing or diff.model_class not in WRAPPER_CLASSES):
        around = " > ".join(f"{WRAPPERS[token]} ({token}.)" for token in in_file)
        args = {"around": around, "count": len(file), "all": len(diff.unexpected), "name": file[0]}
        twins = {bare(name) for name in file} & {bare(name) for name in diff.missing}
        accounts = {*file, *(name for name in diff.missing if bare(name) in twins)}
        return Finding("wrapper_prefix", "wrapper_prefix", accounts, args, undone="fsdp" not in around), below
    if 2 * len(model) > len(diff.missing) and not file:
        return _wrapped_model(diff, model, in_model[0]), below
    return None, below


def _wrapped_model(diff: Difference, names: list[str], token: str) -> Finding:
    args = {"token": token, "around": WRAPPERS[token], "count": len(names), "all": len(diff.missing), "name": names[0]}
    gather = "fsdp" in token or "FullySharded" in diff.model_class
    outside = all(name.startswith(token + ".") for name in names)
    cause, text = ("model_is_wrapped",) * 2 if outside else ("wrapper_prefix", "wrapper_of_the_model")
    return Finding(cause, text, {*names, *diff.unexpected}, args, undone=not gather)


def _outer(diff: Difference) -> tuple[Finding | None, Difference]:
    """One list is the other under a leading path; what is beside that path is of the larger model."""
    missing, unexpected = list(diff.missing), list(diff.unexpected)
    if not (missing and unexpected):
        return None, diff
    for cause, longer, shorter in (
        ("outer_module_prefix", unexpected, missing), ("missing_outer_prefix", missing, unexpected)):  # fmt: skip
        path = _leading_path(longer, shorter, diff.whole)
        if not path:
            continue
        under = [name for name in longer if name.startswith(path)]
        beside = [name for name in longer if not name.startswith(path)]
        cut = diff.without(beside)
        off, keep = partial(_without, path), partial(_without, "")
        below = cut.mapped(off, keep) if cause == "missing_outer_prefix" else cut.mapped(keep, off)
        args = {"path": path[:-1], "count": len(under), "all": len(longer), "name": under[0], "rest": len(beside)}
        text = cause + (".more" if beside else ".all")
        return Finding(cause, text.replace(".", "_"), longer, args, undone=not beside), below
    return None, diff


def _without(path: str, name: str) -> str:
    return name.removeprefix(path)


def _leading_path(longer: list[str], shorter: list[str], whole: bool) -> str:
    """The path (with its dot) under which `longer` holds what `shorter` holds at the top; empty if there is none."""
    exact, alike, heads = set(shorter), {family(name) for name in shorter}, tops(shorter)
    votes: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    for name in longer:
        parts = name.split(".", 5)
        for k in range(1, min(len(parts) - 1, 4) + 1 if parts[0] not in heads else 1):
            path, rest = ".".join(parts[:k]) + ".", ".".join(parts[k:])
            vote = 4 if rest in exact else 2 if family(rest) in alike else parts[k] in heads
            if vote and not parts[k - 1].isdecimal() and not parts[k].isdecimal():
                votes[path] += vote
                hits[path] += rest in exact
    best = max(votes, key=lambda path: votes[path], default="")
    under = [name for name in longer if name.startswith(best)]
    if whole and 2 * hits[best] < len(shorter):
        return ""
    all_heads = heads <= tops(name[len(best) :] for name in under)
    return best if votes[best] and 3 * len(under) >= len(longer) and (all_heads or votes[best] >= len(under)) else ""
