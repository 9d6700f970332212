"""Where in nested data the weights are: every set of named tensors, and what lies beside them. Standard library only.

Each training program puts weights in its own kind of container: `model` (Depth Anything V2), `state_dict` (Lightning,
timm, MMEngine), `module` (DeepSpeed), `teacher` and `student` (DINO), `params_ema` (BasicSR), `state.model`. So no list
of names decides here, only the content: a dictionary with named tensors in it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..errors import AmbiguousSets, TooMuch
from ..keys import Table, TensorInfo, totals
from ..texts import printable
from ..wrappers import bare
from .placeholders import Elsewhere, Global, Made, Ordered, Tensor, extra

DEEPEST = 6  # dictionaries within each other
MOST_ENTRIES = 1_000_000  # looked at; a ViT-L training file with AdamW state has 2,000
LONGEST_NAME = 10_000  # characters in the name of a tensor, or of what it lies in
DEEPEST_MODULE = 100  # modules within each other
_A_NAME = 200  # characters; a name of 1,000 counts as five entries more
MOST_IN_TUPLE = 100  # entries looked at in a tuple or list at the top

# Entries that hold tensors and aren't weights: what an optimizer remembers, random states, values of a loss.
_NO_WEIGHTS = re.compile(r"optim|schedul|scaler|rng|random|metric|loss|criterion|callbacks|loops|_metadata$", re.I)
_OF_A_LAYER = {"weight", "bias"}

#: Layouts in which a name says the opposite of what it holds: (entries that give them away, set, what it holds).
OPPOSITES = [
    (("message_hub", "ema_state_dict"), "state_dict", "the averaged weights: MMEngine's EMA hook exchanges the two"),
    (("message_hub", "ema_state_dict"), "ema_state_dict", "the raw weights: MMEngine's EMA hook exchanges the two"),
    (("averaging_state", "current_model_state"), "state_dict", "the averaged weights, by Lightning's weight averaging"),
    (("averaging_state", "current_model_state"), "current_model_state", "the raw weights; state_dict is the average"),
]
PICKLED_MODULE = "inside a pickled {}: loading it runs code of whoever wrote the file"
PARTITIONED = "every tensor is empty, as in a DeepSpeed ZeRO-3 run; run its zero_to_fp32.py to gather the weights"


@dataclass
class WeightSet:
    """One set of named tensors: where in the file it is, its table, and what its place does not tell."""

    path: tuple[str, ...]
    table: Table
    note: str = ""
    module: str = ""  # the class, if the weights are part of a pickled nn.Module
    metadata: Any = None  # the versions of the modules, which torch hangs on a state dict
    joined: tuple[WeightSet, ...] = ()  # the sets that this one was joined from; it has no path then

    @property
    def name(self) -> str:
        """The path with dots, as `--select` takes it; empty for weights that are not in a container."""
        return ".".join(self.path)

    @property
    def parts(self) -> list[tuple[tuple[str, ...], list[str]]]:
        """Where in the file its tensors are: each place, with the names of those that are there."""
        found: dict[tuple[str, ...], list[str]] = {}
        for one in self.joined or (self,):
            found.setdefault(one.path, []).extend(one.table)
        return list(found.items())

    @property
    def elsewhere(self) -> str:
        """The class of those tensors whose numbers are not available (see `Elsewhere`); empty if all are plain."""
        return next((info.kind for info in self.table.values() if isinstance(info, Elsewhere)), "")


def tensor_info(value: Any) -> TensorInfo | None:
    """Shape and dtype of a tensor read from a file, None for anything else."""
    return value.info if isinstance(value, Tensor) else value if isinstance(value, TensorInfo) else None


def find_sets(
    value: Any, info: Callable[[Any], TensorInfo | None] = tensor_info
) -> tuple[list[WeightSet], dict[str, Any]]:
    """All sets of weights in `value`, outermost first, and the entries beside them, by name with dots.

    `info` says of one value whether it is a tensor, and which. A tuple or list at the top counts as a container whose
    entries are called 0, 1 and so on. Raises `TooMuch`.
    """
    if isinstance(value, (tuple, list)):
        value = {str(place): entry for place, entry in enumerate(value[:MOST_IN_TUPLE]) if info(entry) is None}
    found = list(_Search(info).sets(value, ()))
    if any("." in name for weights in found for name in weights.table):
        # {"mean": ..., "std": ...} beside a model aren't a second model
        found = [weights for weights in found if _is_model(weights)]
    for weights in found:
        weights.note = weights.note or _note(weights, value)
    return found, dict(_Search(info).beside(value, found))


def choose(sets: list[WeightSet], name: str | None, file: str) -> WeightSet:
    """The one of `sets` that is called `name` (its path with dots, or the last part of that), or the only one.

    Sets can also lie in one dictionary, under two attributes (`student.`, `teacher.`): then `name` is the attribute.
    Several names with commas between them: these sets together. Raises `AmbiguousSets`, naming what there is.
    """
    if len(found := _called(sets, name)) == 1:
        return found[0]
    if name and len(names := name.split(",")) > 1:
        return _join([choose(sets, part, file) for part in names], file)
    listed = ", ".join(f"{printable(one.name)!r} ({one.note or totals(one.table)})" for one in sets[:8])
    what = "contains several sets of weights" if name is None else f"has no one set called {printable(name)!r}"
    do = "Choose one by its name: --select NAME on the command line, select=NAME in Python"
    if any(re.search(r"(^|[._])ema([._]|$)", one.name) for one in sets):
        do += "; the averaged one (EMA) is usually the one to use"
    elif 1 < len(sets) <= 8 and not _twice(sets):
        do += f"; parts of one model together: --select {printable(','.join(one.name for one in sets))}"
    raise AmbiguousSets(f"{printable(file)} {what}: {listed}", do=do)


def _called(sets: list[WeightSet], name: str | None) -> list[WeightSet]:
    if name is None:
        return sets
    found = [one for one in sets if one.name == name] or [one for one in sets if one.path[-1:] == (name,)]
    return found or [part for one in sets for part in [_under(one, f"{name}.")] if part.table]


def _under(weights: WeightSet, path: str) -> WeightSet:
    """The part of a set below an attribute, whatever wraps the attribute."""
    return replace(weights, table={name: info for name, info in weights.table.items() if bare(name).startswith(path)})


def _twice(sets: list[WeightSet]) -> list[str]:
    """The names that more than one set has."""
    counts = Counter(bare(name) for one in sets for name in one.table)
    return [name for name, count in counts.items() if count > 1]


def _join(sets: list[WeightSet], file: str) -> WeightSet:
    if twice := _twice(sets):
        one = f"{{f'{{s}}.{{n}}': t for s in {[one.name for one in sets]!r} for n, t in checkpoint[s].items()}}"
        raise AmbiguousSets(
            f"{printable(file)}: the sets have {len(twice)} names in common, such as {printable(twice[0])!r}",
            "sets whose names differ, to join them",
            f"Take one of them; or write them under separate names: torch.save({one}, 'joined.pth'), with "
            f"checkpoint = torch.load({printable(file)!r}, map_location='cpu', weights_only=True)",
        )
    table = {name: info for one in sets for name, info in one.table.items()}
    return WeightSet((), table, "", next((one.module for one in sets if one.module), ""), None, tuple(sets))


def _is_model(weights: WeightSet) -> bool:
    return any("." in name or name in _OF_A_LAYER for name in weights.table)


class _Search:
    """A walk through nested dictionaries that looks at no more than `MOST_ENTRIES` entries, however they repeat."""

    def __init__(self, info: Callable[[Any], TensorInfo | None]) -> None:
        self.info = info
        self.left = MOST_ENTRIES

    def spend(self, entries: int, path: tuple[str, ...] = (), names: Iterable[Any] = ()) -> None:
        """Pay for `entries` entries, those called `names` among them, each given out under `path` and its own name."""
        longer = sum(min(len(name), LONGEST_NAME) // _A_NAME for name in names if isinstance(name, str))
        self.left -= longer + (10 + entries * (1 + sum(map(len, path)) // _A_NAME) if entries else 0)
        if self.left < 0:
            raise TooMuch(f"it refers to itself so often that it has more than {MOST_ENTRIES:,} entries")

    def sets(self, value: Any, path: tuple[str, ...]) -> Iterator[WeightSet]:
        entries = mapping(value)
        if entries is None:
            if module := module_state(value):
                table: Table = {}
                self.gather(module, (), table)
                if table:
                    yield WeightSet(path, table, PICKLED_MODULE.format(value.kind), value.kind)
            return
        self.spend(len(entries), path)
        if len(path) > DEEPEST:
            return
        if "param_groups" in entries and "state" in entries:  # an optimizer
            return
        here = {name: info for name, entry in entries.items() if isinstance(name, str) and (info := self.info(entry))}
        self.spend(0, names=map(_checked, here))
        if here and all(info.dtype == "uint8" and len(info.shape) == 1 for info in here.values()):
            here = {}  # states of random generators
        inner = [
            found
            for name, entry in entries.items()
            if isinstance(name, str)
            and name not in here
            and len(name) <= LONGEST_NAME
            and not _NO_WEIGHTS.search(name)
            and not extra(name)
            for found in self.sets(entry, (*path, name))
        ]
        if here and (not inner or (len(here) > len(entries) / 2 and any("." in name for name in here))):
            if any(info.shape for info in here.values()) or any("." in name for name in here):
                yield WeightSet(path, _with_extra(entries, here), metadata=_metadata(entries))
        else:
            yield from inner

    def gather(self, state: dict[Any, Any], path: tuple[str, ...], table: Table) -> None:
        """The parameters and buffers of a pickled module and of all modules in it, under the names of a state dict."""
        if len(path) > DEEPEST_MODULE:
            raise TooMuch(f"its modules lie more than {DEEPEST_MODULE} deep within each other")
        parts = [mapping(state.get(part)) or {} for part in ("_parameters", "_buffers", "_modules")]
        passing = _passing(state)
        for names in (*parts, passing):
            self.spend(len(names), path, names)
        for part in parts[:2]:
            for name, value in part.items():
                if (info := self.info(value)) and name not in passing:
                    table[".".join((*path, _checked(str(name))))] = info
        for name, inner in parts[2].items():
            if (deeper := module_state(inner)) and isinstance(name, str):
                self.gather(deeper, (*path, _checked(name)), table)

    def beside(self, root: Any, sets: list[WeightSet]) -> Iterator[tuple[str, Any]]:
        """Name and description of every entry on the way to `sets` that is none of them."""
        tables = {weights.path: weights.table for weights in sets}
        on_the_way = {path[:depth] for path in tables for depth in range(len(path) + 1)}

        def below(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
            entries = mapping(value) or {}
            self.spend(len(entries), path, entries)
            for name, entry in entries.items():
                if name in tables.get(path, ()):
                    continue
                place = (*path, str(name)[:LONGEST_NAME] if isinstance(name, (str, int)) else "?")
                if place not in on_the_way:
                    yield ".".join(place), describe(entry)
                elif place not in tables:
                    yield from below(entry, place)

        return below(root, ())


def _with_extra(entries: Mapping[Any, Any], here: Table) -> Table:
    """`here`, and between its tensors what a module keeps in a state dict beside tensors."""
    more = {name: found for name in entries if isinstance(name, str) and name not in here and (found := extra(name))}
    return {name: here.get(name) or more[name] for name in entries if name in here or name in more} if more else here


def _metadata(entries: Mapping[Any, Any]) -> Any:
    """The `_metadata` of a state dict, as far as it is what torch writes: numbers by name, for each module."""
    found = entries.state.get("_metadata") if isinstance(entries, Ordered) else None
    return None if not isinstance(found, dict) else {
        module: {name: value for name, value in of.items() if type(name) is str and _plain(value)}
        for module, of in found.items()
        if type(module) is str and isinstance(of, dict)
    }  # fmt: skip


def _plain(value: Any) -> bool:
    parts = value if type(value) is tuple else (value,)
    return all(part is None or type(part) in (int, float, bool, str) for part in parts)


def _checked(name: str) -> str:
    if len(name) > LONGEST_NAME:
        raise TooMuch(f"a name in it has {len(name):,} characters; the names of tensors have at most {LONGEST_NAME:,}")
    return name


def _passing(state: dict[Any, Any]) -> set[str]:
    """The names of a module's buffers that its state dict leaves out."""
    names = state.get("_non_persistent_buffers_set")
    if isinstance(names, Made):  # set([...]), as protocols before 4 write it
        names = names.args[0] if isinstance(names.args, tuple) and names.args else []
    return {name for name in names if isinstance(name, str)} if isinstance(names, list) and len(names) < 1000 else set()


def mapping(value: Any) -> Mapping[Any, Any] | None:
    """`value` as a dictionary: one itself, or an object of somebody's own class with entries in it."""
    return value.items if isinstance(value, Made) else value if isinstance(value, Mapping) else None


def module_state(value: Any) -> dict[Any, Any] | None:
    """The attributes of a pickled nn.Module, None for anything else."""
    state = value.state if isinstance(value, Made) else None
    return state if isinstance(state, dict) and "_parameters" in state and "_modules" in state else None


def describe(value: Any) -> Any:
    """A number, a truth value, None or a text as it is; for everything else the name of its type."""
    if value is None or type(value) in (bool, int, float):
        return value if type(value) is not int or abs(value) < 2**63 else "int"
    if isinstance(value, str):
        return value if len(value) <= 200 else value[:200] + "..."
    if isinstance(value, (Made, Global)):
        name = value.kind if isinstance(value, Made) else value.dotted
        return name.removeprefix("builtins.").removeprefix("__builtin__.")
    return type(value).__name__


def _note(weights: WeightSet, root: Any) -> str:
    beside = mapping(root) or {}
    for signs, name, note in OPPOSITES:
        if weights.path == (name,) and all(sign in beside for sign in signs):
            return note
    return PARTITIONED if weights.table and all(info.shape == (0,) for info in weights.table.values()) else ""
