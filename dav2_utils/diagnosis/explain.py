"""An error text in, its most likely cause out: what it is, what shows it, what to do.

    print(explain(text))

First the names and shapes in the text are compared (`contents`, `relations`, `sizes`); where there are none, the words
of the library that raised the error decide (`signs`). Standard library only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from textwrap import fill
from typing import Any

from ..texts import printable
from .causes import CAUSES, CauseFound
from .message import Message, parse
from .names import RELATIONS, Lists, Reading
from .parts import AFTER, BEFORE
from .report import markup, target_line
from .signs import find_sign
from .sizes import by_sizes

RULES = (*BEFORE, *RELATIONS, by_sizes, *AFTER)
NOT_KNOWN = (
    "This text does not show a cause that is known here. Paste the last lines of the traceback and the lists of "
    "missing and unexpected names, or look at the file itself: dav2 inspect FILE, dav2 diagnose FILE."
)
#: What tells two readings apart; for every other pair, looking at the file does.
_APART = {
    frozenset({"wrapper_prefix", "training_container"}): "what the file's own names are: dav2 inspect FILE prints its "
    "containers and wrappers, print(list(torch.load(FILE, weights_only=True))[:5]) its first names",
    frozenset({"empty_file", "truncated_file"}): "the file's size: 0 bytes or more (ls -l FILE)",
    frozenset({"legacy_format", "not_a_checkpoint"}): "which program wrote the file, and when",
    frozenset(
        {"not_a_checkpoint", "truncated_file"}
    ): "the first bytes (head -c 100 FILE) and the size beside the original's",
}
_LINK = re.compile(r"^more: (https://\S+)$")  # a cause's reference
_LOOK = "the file itself: dav2 inspect FILE says what it is without running anything in it"


@dataclass
class Explanation:
    """What an error text allows to say. `causes`: most likely first; empty where nothing is recognised."""

    causes: list[CauseFound] = field(default_factory=list)
    message: Message = field(default_factory=Message, repr=False)

    @property
    def apart(self) -> str:
        """With two readings, what would tell them apart; otherwise empty."""
        return _APART.get(frozenset(found.cause for found in self.causes), _LOOK) if len(self.causes) > 1 else ""

    @property
    def names_differ(self) -> bool:
        """Whether a file's own names and a model's would say more than this text."""
        return any(CAUSES[found.cause].repairable and not found.repairable_by_renaming for found in self.causes)

    def to_dict(self) -> dict[str, Any]:
        causes = [found.to_dict() | {"code": CAUSES[found.cause].code} for found in self.causes]
        return {"causes": causes} | ({"apart": self.apart} if self.apart else {})

    def __str__(self) -> str:
        if not self.causes:
            return f"{NOT_KNOWN} {target_line(None)}"
        lines = [] if len(self.causes) == 1 else ["The text allows two readings, the likelier one first."]
        for number, found in enumerate(self.causes, 1):
            lines += ["", f"{number}. " * (len(self.causes) > 1) + f"{found.title} ({found.cause})", *_rows(found)]
        if self.apart:
            lines += ["", f"To tell them apart: {self.apart}."]
        if self.names_differ:
            lines += ["", target_line(None)]
        return "\n".join(lines).strip()

    __repr__ = __str__  # what a notebook keeps as text

    def _repr_html_(self) -> str:
        if not self.causes:
            return f"<div><p>? {markup(NOT_KNOWN)} {markup(target_line(None))}</p></div>"
        items = "".join(
            f"<li><b>{markup(found.title)}</b> <code>{found.cause}</code><br>"
            + "<br>".join(_LINK.sub(r'more: <a href="\1">\1</a>', markup(" ".join(r.split()))) for r in _rows(found))
            + "</li>"
            for found in self.causes
        )
        apart = f"<p>To tell them apart: {markup(self.apart)}.</p>" if self.apart else ""
        apart += f"<p>{markup(target_line(None))}</p>" if self.names_differ else ""
        return f'<div role="note" aria-label="Why the weights did not load"><ol>{items}</ol>{apart}</div>'


def explain(text: str) -> Explanation:
    """The cause of a failed load, from the words of the error alone: no file, no torch.

    `text` may be the whole message or a part of it, with or without the traceback, wrapped by a terminal, coloured,
    quoted or out of a log. Where it allows two readings both are given; where nothing is known the list is empty.
    `repairable_by_renaming` is True only where the text itself shows it. Time grows with the length and no faster.
    """
    message = parse(text)
    return Explanation([_found(reading) for reading in _readings(message)], message)


def _readings(message: Message) -> list[Reading]:
    """The readings of a parsed message, most likely first."""
    lists = Lists(message)
    if lists.every or lists.key_errors:
        for rule in RULES:
            if found := rule(lists):
                return found if isinstance(found, list) else [found]
    sign = find_sign(message.squeezed)
    if not sign:
        return []
    first = Reading(sign.cause, sign.detail, sign.evidence, remedy=sign.remedy)
    return [first, Reading(sign.other, "", sign.evidence)] if sign.other else [first]


def _found(reading: Reading) -> CauseFound:
    remedy = reading.remedy or CAUSES[reading.cause].remedy
    return CauseFound(reading.cause, reading.detail, reading.evidence, remedy, reading.repairable)


def _rows(found: CauseFound) -> list[str]:
    """The lines below a cause's title."""
    cause = CAUSES[found.cause]
    renaming = "yes" if found.repairable_by_renaming else "not shown by this text" if cause.repairable else "no"
    rows = [("what", found.detail), ("seen", found.evidence), ("why", cause.explanation), ("do", found.remedy),
            ("run", cause.code), ("renaming alone repairs it", renaming), ("more", cause.reference)]  # fmt: skip
    lines = [f"{label}: {value}" for label, value in rows if value]
    return [
        fill(printable(line, None), 100, initial_indent="   ", subsequent_indent="      ",
             break_long_words=not line.startswith("more:"), break_on_hyphens=not line.startswith("more:"))
        for line in lines
    ]  # fmt: skip
