"""What a diagnosis says: the verdict, the steps, what remains; as text, JSON and HTML. Standard library only."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..advice import advice
from ..encoders import ENCODERS
from ..families import Recognised
from ..files.facts import Fact
from ..keys import Table, families
from ..texts import printable, say
from .causes import CauseFound

UNKNOWABLE = ("metric or relative", "max_depth", "V1 or V2")
_MARKS = {"loads": "✓", "repairable": "⚠", "wrapped": "⚠", "not repairable": "✗", "no target": "?", "unreadable": "✗"}


class Step(NamedTuple):
    """One thing to do: `unwrap` (path), `rename` (token, to, keys), `strip` or `add` (token, keys), `drop` (names)."""

    do: str
    path: tuple[str, ...] = ()
    token: str = ""
    keys: int = 0
    names: tuple[str, ...] = ()
    to: str = ""

    def to_dict(self) -> dict[str, Any]:
        if self.do == "unwrap":
            return {"do": self.do, "path": list(self.path)}
        if self.do == "drop":
            return {"do": self.do, "names": list(self.names), "keys": len(self.names)}
        to = {"to": self.to} if self.to else {}
        return {"do": self.do, "token": self.token, **to, "keys": self.keys}

    def __str__(self) -> str:
        if self.do == "unwrap":
            path = " > ".join(map(repr, self.path))
            return say(f"steps.unwrap.{'path' if path else 'objects'}", path=path)
        count = len(self.names) if self.do == "drop" else self.keys
        text = f"steps.{self.do}.{'one' if count == 1 else 'more'}"
        return say(text, count=count, names=_some(self.names), token=self.token, to=self.to)


@dataclass
class Diagnosis:
    """What is wrong with a set of weights, for one target. Prints as a screenful; `to_dict()` is the JSON of `dav2`."""

    verdict: str  # loads, repairable, wrapped, no target, not repairable, unreadable
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
    renaming: dict[str, str] = field(default_factory=dict)  # runs of components, old -> new, that account for the rest
    path: tuple[str, ...] = ()  # where in the file the chosen set of weights is
    parts: list[tuple[tuple[str, ...], list[str]]] = field(default_factory=list)  # each such place, and the names there
    file: str | None = None
    target: str | None = None
    format: str | None = None
    known: Recognised = field(default_factory=lambda: Recognised([]))  # whose table this is, and what is in it
    facts: dict[str, Fact] = field(default_factory=dict)  # what lies in the file and beside it says
    _found: Table = field(default_factory=dict, repr=False)
    _target: Table = field(default_factory=dict, repr=False)

    @property
    def names(self) -> Table:
        """The table under its new names."""
        return self._found

    @property
    def family(self) -> str:
        """Which model it is, in words; empty if it is none that is known."""
        return str(self.known._replace(contains=None))

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
            | self.known.to_dict()
            | {"facts": {name: fact.to_dict() for name, fact in self.facts.items()}}
            | ({"renaming": self.renaming} if self.renaming else {})
        )

    def __str__(self) -> str:
        lines = [f"{_MARKS[self.verdict]} {self.file or say('report.these')}: {self._headline()}."]
        if self.expected:
            encoder = self.encoder or say("report.no_encoder")
            lines.append(say("report.compared", fit=self._fit(), target=self.target, encoder=encoder))
        for number, found in enumerate(self.causes, 1):
            lines += ["", f"{number}. {found.title} ({found.cause}{found.detail and ': ' + found.detail})",
                      say("report.seen", evidence=found.evidence), say("report.do", remedy=found.remedy)]  # fmt: skip
        if self.steps:
            lines += ["", say("report.steps", steps="; ".join(map(str, self.steps)))]
        lines += [f"{title}: {'; '.join(rows)}" for title, rows in self._remains()]
        lines += self._known()
        return "\n".join(printable(line, None) for line in lines)

    __repr__ = __str__  # what a notebook keeps as text

    def _headline(self) -> str:
        option = self.renaming or any(word in c.remedy for c in self.causes for word in ("--select", "--rename"))
        return say("verdict.choose" if option and self.verdict == "not repairable" else f"verdict.{self.verdict}")

    def _known(self) -> list[str]:
        """What the file is, what is known of it, and what to run next where something is to be chosen."""
        lines = [say("report.family", family=self.family)] if self.family else []
        lines += advice(self.known, self.encoder, self.verdict in ("loads", "repairable"))
        if self.facts:
            short = [(name, fact) for name, fact in self.facts.items() if not isinstance(fact.value, list | dict)]
            lines.append(say("report.facts", facts=", ".join(f"{name}: {fact}" for name, fact in short[:12])))
        if self.cannot_be_known:
            lines.append(say("report.unknown", what=", ".join(self.cannot_be_known)))
        file = self.file or "FILE"
        if self.renaming:
            pairs = " ".join(f"--rename {shlex.quote(f'{old}={new}')}" for old, new in self.renaming.items())
            lines.append(say("report.rename", file=shlex.quote(file), target=_option(self.target), pairs=pairs))
        if self.verdict in ("no target", "wrapped"):
            lines.append(target_line(self.file))
        return lines

    def _fit(self) -> str:
        return say(f"report.fit{'_after' if self.steps else ''}", matched=self.matched, expected=self.expected)

    def _remains(self, most: int = 4) -> list[tuple[str, list[str]]]:
        """Missing, unexpected and mismatched names as families, `most` of each."""
        groups = []
        for title, names, table in (
            ("missing", self.missing, self._target),
            ("unexpected", self.unexpected, self._found),
            ("size_mismatch", [row["name"] for row in self.size_mismatch], self._target),
        ):
            rows = [
                row.pattern + (f" x{row.count}" if row.count > 1 else "")
                for row in families({n: table[n] for n in names if n in table})
            ]
            if names:
                more = [say("report.more", count=len(rows) - most)] if len(rows) > most else []
                groups.append((say(f"report.{title}", count=len(names)), rows[:most] + more))
        return groups

    def _repr_html_(self) -> str:
        name, words = self.file or say("report.these"), self._headline()
        head = f"<b>{_MARKS[self.verdict]} {markup(name)}</b>: {markup(words)}."
        if self.expected:
            head += f" {self._fit()}."
        causes = "".join(
            f"<li><details open><summary><b>{markup(c.title)}</b> <code>{markup(c.cause)}</code> {markup(c.detail)}"
            f"</summary><p>{markup(say('report.seen_html', evidence=c.evidence))}</p>"
            f"<p>{markup(say('report.do_html', remedy=c.remedy))}</p></details></li>"
            for c in self.causes
        )
        steps = "".join(f"<li>{markup(step)}</li>" for step in self.steps)
        steps = steps and f"<p>{markup(say('report.steps_html'))}</p><ol>{steps}</ol>"
        remains = "".join(
            f"<details><summary>{markup(title)}</summary><ul>"
            + "".join(f"<li><code>{markup(row)}</code></li>" for row in rows)
            + "</ul></details>"
            for title, rows in self._remains(most=60)
        )
        known = "".join(f"<p>{markup(line)}</p>" for line in self._known())
        return (
            f"<div><p>{head}</p>" + (f"<ol>{causes}</ol>" if causes else "")
            + steps + remains + known + "</div>"
        )  # fmt: skip


def target_line(file: str | None) -> str:
    """How one gets a model's names to compare `file` with."""
    return say("target.make", file=shlex.quote(file or "FILE"), name=repr(file or "FILE"))


def _option(target: str | None) -> str:
    """What on the command line names the target again."""
    if target in ENCODERS:
        return f"--encoder {target}"
    a_path = target and ("." in target or "/" in target)  # else the class of what was given
    return f"--against {shlex.quote(target if target and a_path else 'target.pth')}"


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def markup(value: Any) -> str:
    """`value` as HTML: escaped, without control characters, and what stands between backticks as code."""
    from html import escape

    return re.sub(r"`([^`\n]+)`", r"<code>\1</code>", escape(printable(str(value), None)))
