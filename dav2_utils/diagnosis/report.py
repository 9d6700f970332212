"""What a diagnosis says: the verdict, the steps, what remains; as text, JSON and HTML. Standard library only."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import escape
from typing import Any

from ..keys import Table, families
from ..texts import printable, say
from .causes import CauseFound

UNKNOWABLE = ("metric or relative", "max_depth", "V1 or V2")
_MARKS = {"loads": "✓", "repairable": "⚠", "not repairable": "✗", "no target": "?", "unreadable": "✗"}


@dataclass(frozen=True)
class Step:
    """One thing to do: `unwrap` (path), `strip` or `add` (token, keys), `drop` (names)."""

    do: str
    path: tuple[str, ...] = ()
    token: str = ""
    keys: int = 0
    names: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        if self.do == "unwrap":
            return {"do": self.do, "path": list(self.path)}
        if self.do == "drop":
            return {"do": self.do, "names": list(self.names), "keys": len(self.names)}
        return {"do": self.do, "token": self.token, "keys": self.keys}

    def __str__(self) -> str:
        if self.do == "unwrap":
            return f"take the weights out of {' > '.join(map(repr, self.path)) or 'the pickled objects'}"
        if self.do == "drop":
            count = len(self.names)
            return f"leave out {count} surplus {'entry' if count == 1 else 'entries'} ({_some(self.names)})"
        words = ("put", "into") if self.do == "add" else ("take", "off")
        return f"{words[0]} '{self.token}.' {words[1]} {self.keys} name{'s' if self.keys != 1 else ''}"


@dataclass
class Diagnosis:
    """What is wrong with a set of weights, for one target. Prints as a screenful; `to_dict()` is the JSON of `dav2`."""

    verdict: str  # loads, repairable, not repairable, no target, unreadable
    encoder: str | None = None  # of the file, where its shapes tell
    causes: list[CauseFound] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    expected: int = 0  # names that the target has
    matched: int = 0  # of them, there with the same shape after the steps
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    size_mismatch: list[dict[str, Any]] = field(default_factory=list)  # name, file, model
    cannot_be_known: list[str] = field(default_factory=list)
    rename: dict[str, str] = field(default_factory=dict)  # every kept name of the file -> its new name
    renaming: dict[str, str] = field(default_factory=dict)  # runs of components that alone make it fit: old -> new
    path: tuple[str, ...] = ()  # where in the file the chosen set of weights is
    file: str | None = None
    target: str | None = None
    format: str | None = None
    _found: Table = field(default_factory=dict, repr=False)
    _target: Table = field(default_factory=dict, repr=False)

    @property
    def loads(self) -> bool:
        return self.verdict == "loads"

    @property
    def repairable(self) -> bool:
        return self.verdict == "repairable"

    def to_dict(self) -> dict[str, Any]:
        names = ("file", "format", "verdict", "encoder", "target")
        rest = ("expected", "matched", "missing", "unexpected", "size_mismatch", "cannot_be_known")
        return (
            {name: getattr(self, name) for name in names}
            | {"causes": [found.to_dict() for found in self.causes], "steps": [step.to_dict() for step in self.steps]}
            | {name: getattr(self, name) for name in rest}
        )

    def __str__(self) -> str:
        lines = [f"{_MARKS[self.verdict]} {self.file or 'These weights'}: {say(f'verdict.{self.verdict}')}."]
        if self.expected:
            lines.append(f"{self._fit()} (target: {self.target}; encoder of the file: {self.encoder or 'unknown'}).")
        for number, found in enumerate(self.causes, 1):
            lines += ["", f"{number}. {found.title} ({found.cause}{found.detail and ': ' + found.detail})",
                      f"   seen: {found.evidence}", f"   do:   {found.remedy}"]  # fmt: skip
        if self.steps:
            lines += ["", "Steps: " + "; ".join(map(str, self.steps)) + "."]
        lines += [f"{title}: {'; '.join(rows)}" for title, rows in self._remains()]
        if self.cannot_be_known:
            lines.append(f"Not in the file, so ask whoever trained it: {', '.join(self.cannot_be_known)}.")
        return "\n".join(printable(line, None) for line in lines)

    __repr__ = __str__  # what a notebook keeps as text

    def _fit(self) -> str:
        return f"{self.matched} of {self.expected} names fit{' after the steps' if self.steps else ''}"

    def _remains(self, most: int = 4) -> list[tuple[str, list[str]]]:
        """Missing, unexpected and mismatched names as families, `most` of each."""
        groups = []
        for title, names, table in (
            (f"Missing ({len(self.missing)})", self.missing, self._target),
            (f"Unexpected ({len(self.unexpected)})", self.unexpected, self._found),
            (f"Of another size ({len(self.size_mismatch)})", [row["name"] for row in self.size_mismatch], self._target),
        ):
            rows = [
                row.pattern + (f" x{row.count}" if row.count > 1 else "")
                for row in families({n: table[n] for n in names if n in table})
            ]
            if names:
                more = [f"and {len(rows) - most} more families"] if len(rows) > most else []
                groups.append((title, rows[:most] + more))
        return groups

    def _repr_html_(self) -> str:
        name, words = self.file or "These weights", say(f"verdict.{self.verdict}")
        head = f"<b>{_MARKS[self.verdict]} {markup(name)}</b>: {markup(words)}."
        if self.expected:
            head += f" {self._fit()}."
        causes = "".join(
            f"<li><details open><summary><b>{markup(c.title)}</b> <code>{markup(c.cause)}</code> {markup(c.detail)}"
            f"</summary><p>Seen: {markup(c.evidence)}</p><p>Do: {markup(c.remedy)}</p></details></li>"
            for c in self.causes
        )
        steps = "".join(f"<li>{markup(step)}</li>" for step in self.steps)
        remains = "".join(
            f"<details><summary>{markup(title)}</summary><ul>"
            + "".join(f"<li><code>{markup(row)}</code></li>" for row in rows)
            + "</ul></details>"
            for title, rows in self._remains(most=60)
        )
        unknown = markup(", ".join(self.cannot_be_known))
        return (
            f"<div><p>{head}</p>" + (f"<ol>{causes}</ol>" if causes else "")
            + (f"<p>Steps:</p><ol>{steps}</ol>" if steps else "") + remains
            + (f"<p>Not in the file, so ask whoever trained it: {unknown}.</p>" if unknown else "") + "</div>"
        )  # fmt: skip


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def markup(value: Any) -> str:
    """`value` as HTML: escaped, without control characters, and what stands between backticks as code."""
    return re.sub(r"`([^`\n]+)`", r"<code>\1</code>", escape(printable(str(value), None)))
