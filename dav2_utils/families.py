"""Which network a table is: the depth models and backbones of others, each known by a few telling entries.

The data is `families.json`, one rule for each table that can be told apart: entries that are there (`has`, with their
shapes) or not (`lacks`), the modules that it is made of (`within`; with `?` those that not every variant has), and how
its variants are called. In a shape `w` is the width of the network, `3w` three times that, `_` any number. What a
Depth Anything V2 is, in any size, `encoders` knows to the last entry (`ours`: under which prefix). Standard library
only.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

from .encoders import ENCODERS, Encoder, table_for
from .keys import Table, TensorInfo
from .texts import read_data, say
from .wrappers import bare

_MOST_PLACES = 8  # prefixes looked below for a network inside a larger one
_POSITIONS = "pretrained.pos_embed"  # as long as the pictures of the training were large


class Contained(NamedTuple):
    """A whole known table inside a larger one: its prefix, with the dot, and the families that have this table."""

    at: str
    family: list[str]


class Recognised(NamedTuple):
    """What `recognise` found: families with exactly such a table, which size, and what lies inside; or nothing."""

    family: list[str]
    variant: str = ""
    contains: Contained | None = None

    def to_dict(self) -> dict[str, Any]:
        contains = self.contains and self.contains._asdict()
        return {"family": self.family, "variant": self.variant, "contains": contains}

    def __str__(self) -> str:
        said = [say("families.named", family=" / ".join(self.family), variant=self.variant)] if self.family else []
        if self.contains:
            text = "families.contains" if self.contains.at else "families.contains_all"
            said.append(say(text, family=" / ".join(self.contains.family), at=self.contains.at))
        return "; ".join(said)


def recognise(table: Table) -> Recognised:
    """The families that `table`, without its wrapper components, is the table of.

    Several where names and shapes are the same, none if no known table fits. Inside one of ours nothing is looked
    for.
    """
    bared = {bare(name): info for name, info in table.items()}
    table = bared if len(bared) == len(table) else table
    own = next((found for found in _matches(table) if found.entries == len(table)), _Match(_NOTHING, ""))
    return Recognised(own.family, own.variant, None if own.rule.ours == "" else _inside(table, own.family))


# Matching -----------------------------------------------------------------------------------------------------------


class Rule(NamedTuple):
    """How one table is told from others, and what to do with such a network."""

    family: list[str]
    package: str = ""  # where its class is: a repository, or a name for pip
    cls: str = ""
    variants: list[tuple[str, dict[str, str]]] = []  # the first whose entries are there
    has: dict[str, str] = {}
    lacks: tuple[str, ...] = ()
    within: dict[str, bool] = {}  # its modules; whether every variant has it
    blocks: str = ""
    at: tuple[str, ...] = ("",)
    ours: str | None = None
    never: dict[str, list[str]] = {}  # how variants begin that a family does not have
    rename: dict[str, str] = {}  # runs of components to exchange for our names; mostly empty
    note: str = ""  # of the texts `families.notes`; empty if there is nothing more to say


_NOTHING = Rule([])


class _Match(NamedTuple):
    rule: Rule
    variant: str
    entries: int = 0

    @property
    def family(self) -> list[str]:
        return [name for name in self.rule.family if not self.variant.startswith(tuple(self.rule.never.get(name, ())))]


@functools.cache
def _data() -> dict[str, Any]:
    return read_data("families.json")


@functools.cache
def rules() -> tuple[Rule, ...]:
    return tuple(_rule(dict(row)) for row in _data()["rules"])


def _rule(row: dict[str, Any]) -> Rule:
    within = {name.rstrip("?"): not name.endswith("?") for name in row.pop("within", "").split()}
    family = row.pop("family")
    row = {"cls": row.pop("class"), "variants": row.pop("variant", []), "never": row.pop("not", {})} | row
    row |= {name: tuple(row[name]) for name in ("at", "lacks") if name in row}
    return Rule([family] if isinstance(family, str) else family, within=within, **row)


def _matches(table: Table) -> Iterator[_Match]:
    """The rules that `table` follows. Those of ours may leave entries over: `entries` says how many they speak of."""
    for rule in rules():
        if rule.ours is not None:
            if found := _depth_anything(table, rule.ours):
                yield _Match(rule, *found)
            continue
        for at in rule.at:
            if (width := _fits(rule, table, at)) is not None:
                yield _Match(rule, _variant(rule, table, at, width), len(table))
                break


def _fits(rule: Rule, table: Table, at: str) -> int | None:
    """The width of the network, 0 if it has none, if `table` follows the rule; None if it does not."""
    width = 0
    for name, shape in rule.has.items():
        info = table.get(at + name)
        if info is None or (width := _agrees(info, shape, width)) < 0:
            return None
    if any(at + name in table for name in rule.lacks):
        return None
    if rule.blocks and not _blocks(table, f"{at}{rule.blocks}."):
        return None
    return width if _made_of(rule, table, at) else None


def _made_of(rule: Rule, table: Table, at: str) -> bool:
    """Whether all of the table is in modules (or entries at the top) of the rule, and all of those are there."""
    found = set()
    for name in table:
        first, _, rest = name[len(at) :].partition(".")
        module = first if first in rule.within else f"{first}.{rest.partition('.')[0]}"
        if module not in rule.within or not name.startswith(at):
            return False
        found.add(module)
    return all(module in found for module, needed in rule.within.items() if needed)


def _agrees(info: TensorInfo, shape: str, width: int = 0) -> int:
    """The width of the network if the shape is as described (and of that width, where it is known); else -1."""
    wanted = shape.split()
    if len(wanted) != len(info.shape):
        return -1
    for size, want in zip(info.shape, wanted, strict=True):
        if want.endswith("w"):
            times = int(want[:-1] or 1)
            width = width or size // times
            if size != times * width:
                return -1
        elif want != "_" and size != int(want):
            return -1
    return width


def _variant(rule: Rule, table: Table, at: str, width: int) -> str:
    """What the maker calls this size of the network; for a size that nobody has published, the numbers."""
    for label, entries in rule.variants:
        if all(_there(table.get(at + name), shape, width) for name, shape in entries.items()):
            return _sized(label, width, _blocks(table, f"{at}{rule.blocks}.") if rule.blocks else 0)
    return ""


def _there(info: TensorInfo | None, shape: str, width: int) -> bool:
    return info is not None and _agrees(info, shape, width) >= 0


def _blocks(table: Table, prefix: str) -> int:
    """How many numbered blocks there are; 0 if one is missing."""
    found = {name[len(prefix) :].partition(".")[0] for name in table if name.startswith(prefix)}
    return len(found) if found == {str(number) for number in range(len(found))} else 0


def _sized(label: str, width: int, blocks: int) -> str:
    if "{" not in label:
        return label
    for letter, (its_width, its_blocks, word) in _data()["sizes"].items():
        if (its_width, its_blocks) == (width, blocks):
            return label.format(s=letter, S=letter.upper(), size=word)
    return f"width {width}, {blocks} blocks"


def _depth_anything(table: Table, at: str) -> tuple[str, int] | None:
    """Size and number of entries of a whole Depth Anything V2, whatever its options, under the prefix `at`."""
    found = _configuration(table, at)
    if found is None:
        return None
    wanted = table_for(found, f"{at}depth_head.scratch.refinenet1.resConfUnit1.bn1.weight" in table,
                       f"{at}depth_head.readout_projects.0.0.weight" in table)  # fmt: skip
    for name, info in wanted.items():
        there = table.get(at + name)
        if there is None or (there.shape != info.shape and name != _POSITIONS):
            return None
    for name, encoder in ENCODERS.items():
        if (encoder.width, encoder.depth) == (found.width, found.depth):
            return name, len(wanted)
    return f"width {found.width}, {found.depth} blocks", len(wanted)


def _configuration(table: Table, at: str) -> Encoder | None:
    """The sizes that the table would be made with, read from a few of its shapes."""
    names = (_POSITIONS, *(f"depth_head.scratch.layer{i}_rn.weight" for i in (1, 2, 3, 4)))
    shapes = [info.shape for name in names if (info := table.get(at + name))]
    depth = _blocks(table, f"{at}pretrained.blocks.")
    if [len(shape) for shape in shapes] != [3, 4, 4, 4, 4] or shapes[0][0] != 1 or not depth:
        return None
    a, b, c, d = (shape[1] for shape in shapes[1:])
    swiglu = f"{at}pretrained.blocks.0.mlp.w12.weight" in table
    return Encoder("", shapes[0][2], depth, 0, shapes[1][0], (a, b, c, d), (0, 0, 0, 0), swiglu)


# A network inside a larger one ---------------------------------------------------------------------------------------


def _inside(table: Table, own: list[str]) -> Contained | None:
    """The largest known network of another family below one prefix, or among the entries themselves."""
    best, most = None, 0
    for place in _places(table):
        part = {name[len(place) :]: info for name, info in table.items() if name.startswith(place)}
        for found in _matches(part):
            if found.family != own and found.entries > most:
                best, most = Contained(place, found.family), found.entries
    return best


@functools.cache
def _anchors() -> tuple[str, ...]:
    """For each rule the end of a name by which one sees that the network may be there."""
    return tuple({_POSITIONS, *(next(iter(rule.has)) for rule in rules() if rule.has)})


def _places(table: Table) -> list[str]:
    """The prefixes below which the first entry of a rule is: the first few of them."""
    anchors = _anchors()
    found: dict[str, None] = {}
    for name in table:
        if name.endswith(anchors):
            ends = (anchor for anchor in anchors if name.endswith(anchor))
            found.update({name[: -len(end)]: None for end in ends if name == end or name[-len(end) - 1] == "."})
            if len(found) >= _MOST_PLACES:
                break
    return list(found)[:_MOST_PLACES]
