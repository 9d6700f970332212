"""Names side by side: the table of a checkpoint, or of a checkpoint and a model, to look at. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from ..errors import PrefixError
from ..keys import Family, Table, families
from ..texts import printable, say
from ..wrappers import WRAPPERS, rename_map
from .diagnose import table_of


@dataclass(frozen=True)
class KeyRow:
    """A family of tensors: what the file calls it, what the model calls it, and how the two compare."""

    file: str
    verdict: str  # same, other name, other shape, only in the file, only in the model
    model: str
    count: int
    shape: str


@dataclass(frozen=True)
class KeyTable:
    """Names side by side, a family to a line; shows as HTML in a notebook and as text elsewhere."""

    caption: str
    rows: list[KeyRow]
    limit: int | None = None
    alone: bool = False  # one table, nothing to compare with

    def _cells(self) -> list[list[str]]:
        rows = [
            [printable(r.file), r.verdict and compared(r.verdict), printable(r.model), str(r.count), r.shape]
            for r in self.rows[: self.limit]
        ]
        head = [say(f"keys.{each}") for each in ("file", "compared", "model", "tensors", "shape")]
        if self.alone:
            return [[say("keys.name"), *head[3:]], *([row[0], *row[3:]] for row in rows)]
        return [head, *rows]

    def _rest(self) -> str:
        left = [] if self.limit is None else self.rows[self.limit :]
        return say("keys.rest", lines=len(left), tensors=sum(r.count for r in left)) if left else ""

    def __str__(self) -> str:
        cells = self._cells()
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in cells]
        return "\n".join([self.caption, *lines, *filter(None, [self._rest()])])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head, *body = self._cells()
        lines = ["".join(f'<th scope="col" style="{_CELL}">{cell}</th>' for cell in head)]
        lines += ["".join(map(_marked, row)) for row in body]
        rest = f"<p>{self._rest()}</p>" if self._rest() else ""
        table = "".join(f"<tr>{line}</tr>" for line in lines)
        return f"<table><caption>{escape(self.caption)}</caption>{table}</table>{rest}"


SIGNS = {"same": "=", "other name": "≠", "other shape": "≠", "only in the file": "+", "only in the model": "−"}


def compared(verdict: str) -> str:
    """A verdict as people read it, behind its sign."""
    return f"{SIGNS[verdict]} {say(f'keys.verdicts.{verdict}')}"


def show_keys(file: Any, model: Any = None, *, limit: int | None = 12, fold: bool = True) -> KeyTable:
    """The names of a checkpoint as a table, or those of a checkpoint and a model side by side.

    Both may be whatever `table_of` takes: a path, a state dict, a module, an encoder's name, a table. Tensors that
    differ in wrapper components alone stand on one line. `limit` is the number of lines shown, None for all; without
    `fold` every name has a line of its own.
    """
    left, gather = table_of(file), families if fold else _each
    if model is None:
        rows = [KeyRow(f.pattern, "", "", f.count, str(f.info.shape)) for f in gather(left)]
        return KeyTable(say("keys.alone", tensors=len(left), families=len(families(left))), rows, limit, alone=True)
    right = table_of(model)
    rows = list(_side_by_side(left, right, gather))
    found = {verdict: sum(r.count for r in rows if r.verdict == verdict) for verdict in SIGNS}
    counts = ", ".join(say(f"keys.counts.{verdict}", count=count) for verdict, count in found.items() if count)
    return KeyTable(say("keys.beside", file=len(left), model=len(right), counts=counts), rows, limit)


def _each(table: Table) -> list[Family]:
    return [Family(name, 1, info, [name]) for name, info in table.items()]


def _side_by_side(left: Table, right: Table, gather: Callable[[Table], list[Family]]) -> Iterator[KeyRow]:
    try:
        names = rename_map(left, right)
    except PrefixError:
        names = {name: name for name in left}
    for family in gather(left):
        for verdict, members in _by_verdict(family.names, names, left, right).items():
            file = gather({name: left[name] for name in members})[0].pattern
            there = {names[name]: right[names[name]] for name in members if names[name] in right}
            model = gather(there)[0] if there else None
            shape = str(family.info.shape)
            if model and verdict == "other shape":
                shape = say("keys.shapes", file=shape, model=model.info.shape)
            yield KeyRow(file, verdict, model.pattern if model else "", len(members), shape)
    taken = set(names.values())
    for family in gather({name: info for name, info in right.items() if name not in taken}):
        yield KeyRow("", "only in the model", family.pattern, family.count, str(family.info.shape))


_CELL = "text-align:left;padding:.2em .4em"  # a widget brings no style of its own
_ONE_DOT = re.compile(r"(?<!\.)\.(?!\.)")  # between two components; `{0..7}` has two dots and is one


def _by_verdict(members: list[str], names: Mapping[str, str], left: Table, right: Table) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in members:
        there = right.get(names[name])
        if there is None:
            verdict = "only in the file"
        elif there.shape != left[name].shape:
            verdict = "other shape"
        else:
            verdict = "same" if names[name] == name else "other name"
        groups.setdefault(verdict, []).append(name)
    return groups


def _marked(text: str) -> str:
    """A cell of HTML, escaped, its wrapper components in bold; names break after a dot, two shapes between words."""
    parts = [f"<b>{part}</b>" if part in WRAPPERS else part for part in _ONE_DOT.split(escape(text))]
    wrap = "" if len(parts) > 1 or ") " in text else ";white-space:nowrap"
    return f'<td style="{_CELL}{wrap}">{".<wbr>".join(parts)}</td>'
