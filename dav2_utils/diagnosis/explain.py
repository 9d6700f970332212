"""An error text in, its most likely cause out: what it is, what shows it, what to do.

    print(explain(text))

The names and shapes in the text go through the rules that files go through (`rules`); where there are none, or where
the last error in the text is about something else, the words of the library that raised it decide (`signs`). Standard
library only.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import pairwise
from textwrap import fill
from typing import Any

from ..texts import find, printable, say
from .causes import CAUSES, CauseFound, Finding, words
from .difference import NUMBERED, Difference, bookkeeping, family, of_message, one_part, tops
from .message import Message, parse
from .report import markup, target_line
from .rules import Found, causes_of


@dataclass
class Explanation:
    """What an error text allows to say. `causes`: most likely first; empty if nothing is recognised."""

    causes: list[CauseFound] = field(default_factory=list)
    message: Message = field(default_factory=Message, repr=False)
    either: bool = False  # the last cause is another reading of the text, and not one more cause

    @property
    def apart(self) -> str:
        """With two readings, what would tell them apart; otherwise empty."""
        if not self.either:
            return ""
        pair = "+".join(sorted(found.cause for found in self.causes[-2:]))
        return find(f"explain.apart.{pair}") or say("explain.apart.else")

    @property
    def names_differ(self) -> bool:
        """Whether a file's own names and a model's would say more than this text."""
        return any(CAUSES[found.cause].repairable and not found.repairable_by_renaming for found in self.causes)

    def to_dict(self) -> dict[str, Any]:
        causes = [found.to_dict() | {"code": found.code} for found in self.causes]
        return {"causes": causes} | ({"apart": self.apart} if self.apart else {})

    def __str__(self) -> str:
        if not self.causes:
            return f"{self._nothing()} {target_line(None)}"
        lines = [say("explain.two_readings" if self.either else "explain.together")] if len(self.causes) > 1 else []
        for number, found in enumerate(self.causes, 1):
            lines += ["", f"{number}. " * (len(self.causes) > 1) + f"{found.title} ({found.cause})", *_rows(found)]
        if self.apart:
            lines += ["", say("explain.tell_apart", what=self.apart)]
        if self.names_differ:
            lines += ["", target_line(None)]
        return "\n".join(lines).strip()

    __repr__ = __str__  # what a notebook keeps as text

    def _nothing(self) -> str:
        return say("explain.counts" if _COUNTS.search(self.message.squeezed) else "explain.nothing")

    def _repr_html_(self) -> str:
        if not self.causes:
            return f"<div><p>? {markup(self._nothing())} {markup(target_line(None))}</p></div>"
        items = "".join(
            f"<li><b>{markup(found.title)}</b> <code>{found.cause}</code><br>{_linked(found)}</li>"
            for found in self.causes
        )
        apart = f"<p>{markup(say('explain.tell_apart', what=self.apart))}</p>" if self.apart else ""
        apart += f"<p>{markup(target_line(None))}</p>" if self.names_differ else ""
        return f'<div role="note" aria-label="{markup(say("explain.label"))}"><ol>{items}</ol>{apart}</div>'


_COUNTS = re.compile(r"(?:missing|unexpected)_?keys?(?:\(s\))?[:=]\d", re.IGNORECASE)


def explain(text: str) -> Explanation:
    """The cause of a failed load, from the words of the error alone: no file, no torch.

    `text` may be the whole message or a part of it, with or without the traceback, wrapped by a terminal, coloured,
    quoted or out of a log. If it allows two readings both are given; if nothing is known the list is empty.
    `repairable_by_renaming` is True only if the text itself shows it. Time grows with the length and no faster.
    """
    message = parse(text)
    if message.last and (signs := _by_words(message.last)):
        return Explanation([found.said() for found in signs], message, len(signs) > 1)
    found = _by_names(message) if message.has_names or message.key_errors else Found()
    if not found.causes:
        signs = _by_words(message.squeezed)
        return Explanation([finding.said() for finding in signs], message, len(signs) > 1)
    causes = [finding.said(found.undone) for finding in found.causes]
    return Explanation(causes + ([found.other.said()] if found.other else []), message, found.other is not None)


def _by_words(squeezed: str) -> list[Finding]:
    from .signs import find_sign  # its regular expressions take longer to compile than most errors to explain

    return find_sign(squeezed)


def _by_names(message: Message) -> Found:
    """The causes in the lists of a message; where a heading was cut off, by the side that explains more."""
    if not message.has_names and not any("." in name for name in message.key_errors):
        return Found(_no_entry(message))
    if not message.headless:
        return causes_of(of_message(message), alone)
    begun = {"begun": False}
    as_missing = replace(message, missing=[*message.headless, *message.missing])
    readings = [causes_of(replace(of_message(as_missing), **begun), alone)]  # type: ignore[arg-type]
    if not message.unexpected:  # torch says first what is missing
        as_unexpected = replace(message, unexpected=message.headless)
        readings.append(causes_of(replace(of_message(as_unexpected), **begun), alone))  # type: ignore[arg-type]
        # its last list is that, unless nothing is unexpected; and torch never misses the counters of BatchNorm
        ends = {name.rpartition(".")[2] for name in message.headless}
        readings[1].worth += -0.3 if "running_var" in ends and "num_batches_tracked" not in ends else 0.1
    best, *rest = sorted(readings, key=lambda found: -found.worth)
    other = next((f for found in rest for f in found.causes[:1] if f.cause != best.causes[0].cause), None)
    return replace(best, other=best.other or (other if len(best.causes) == 1 else None), undone=False)


def _no_entry(message: Message) -> list[Finding]:
    """A program asked a loaded file for an entry by a name that containers have."""
    asked = [name for name in message.key_errors if _ENTRY.search(name) or name in words("container")]
    lower = message.squeezed.lower()
    if not asked or ("traceback" in lower and not any(word in lower for word in ("load", "ckpt", "checkpoint"))):
        return []
    return [Finding("no_such_entry", "no_such_entry", (), {"name": asked[-1]})]


_ENTRY = re.compile(r"(?:state|epoch|optimizer|pytorch-lightning_version|state_?dict(?:_\w{1,40})?)$")


# A list that stands alone --------------------------------------------------------------------------------------------


def alone(diff: Difference) -> list[Finding]:
    """Readings of a list whose other side may just not be shown, by how much of a network it lists."""
    names = [name for name in diff.names if not bookkeeping(name)]
    if not diff.one_list or len(names) < 2:
        return []
    families = len({family(name) for name in names})
    part = families > 1 and (one_part(names) or not any(name.endswith("weight") for name in names))
    renamed = 0.04 if _chunked(names) else 0.08 if part else 0.5 if diff.model_class or families == 1 else 0.3
    side = "model" if diff.missing else "file"
    readings = [("other_naming", f"naming_unseen_{side}", renamed)]
    path = _around(names)
    if not (part or families == 1) and _everything(names, diff.begun) and not (_inside(names) and side == "file"):
        if diff.missing and not diff.begun:  # behind such a list nothing is unexpected
            readings += [("sharded_model", "sharded_part", 0.1)]
        elif diff.missing:
            readings = [
                ("wrapper_prefix", "all_missing_wrapper", 0.15),
                ("training_container", "all_missing_container", 0.16),
            ]
        elif path:
            readings += [("outer_module_prefix", "all_unexpected_outer", 0.14)]
        else:
            readings += [("missing_outer_prefix", "all_unexpected_inner", 0.14)]
            readings += [("model_is_wrapped", "all_unexpected_wrapped", 0.15)]
    args = {"name": names[0], "names": tuple(names), "count": len(names), "path": path[:-1]}
    return [Finding(cause, text, set(diff.names), args, cost) for cause, text, cost in readings]


def _around(names: list[str]) -> str:
    """The path (with its dot) that all names begin with, if parts of a network are side by side below it."""
    top, most = Counter(name.partition(".")[0] for name in names).most_common(1)[0]
    if most < len(names) <= 1.15 * most:  # what is beside it is of the larger model
        names = [name for name in names if name.startswith(top + ".")]
    low, high = min(names), max(names)
    same = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    path = low[: low.rfind(".", 0, same) + 1]
    below = {name[len(path) :].partition(".")[0] for name in names}
    return path if sum(not part.isdecimal() for part in below) > 1 else ""


def _chunked(names: list[str]) -> bool:
    """Whether a second number goes on counting where the first one changes: blocks.0.2, then blocks.1.3."""
    runs: dict[str, dict[str, list[int]]] = {}
    for parts in (name.split(".") for name in names):
        at = next((k for k, part in enumerate(parts[:-2]) if part.isdecimal()), -1)
        if at >= 0 and parts[at + 1].isdecimal():
            numbers = runs.setdefault(".".join(parts[:at]), {}).setdefault(parts[at], [])
            numbers.append(int(parts[at + 1][:9]))
    return any(len(by) > 1 and all(min(b) == max(a) + 1 for a, b in pairwise(by.values())) for by in runs.values())


def _inside(names: list[str]) -> bool:
    """Whether a list ends within the numbered blocks that most of it is about, and not with what stands behind them."""
    stems = [path[0] for name in names if len(path := NUMBERED.split(name, maxsplit=1)) > 1]
    return 2 * stems.count(NUMBERED.split(names[-1], maxsplit=1)[0]) > len(names)


def _everything(names: list[str], begun: bool) -> bool:
    """Names from all over a network: from its first parts on, or of several layers and to its end."""
    layers = {NUMBERED.sub("#", name.rpartition(".")[0] + ".") for name in names}
    if not begun:
        return len(layers) > 3 and not _inside(names)
    first = [name for name in names if not any(part.isdecimal() and part.strip("0") for part in name.split("."))]
    spread = len(first) > 2 and (len(tops(first)) > 1 or _around(first) != "")
    number = next((int(match[0]) for name in names if (match := re.search(r"\d{1,9}", name))), 0)
    return number < 2 and len(names) > 3 and (spread or len(layers) > 3)


def _linked(found: CauseFound) -> str:
    """The same as HTML; the reference, which is the last of them, leads there."""
    rows = "<br>".join(markup(" ".join(row.split())) for row in _rows(found))
    link = markup(CAUSES[found.cause].reference)
    return f'{rows.removesuffix(link)}<a href="{link}">{link}</a>' if link else rows


def _rows(found: CauseFound) -> list[str]:
    """The lines below a cause's title."""
    cause = CAUSES[found.cause]
    renaming = "yes" if found.repairable_by_renaming else "not_shown" if cause.repairable else "no"
    rows = {"what": found.detail, "seen": found.evidence, "why": cause.explanation, "do": found.remedy,
            "run": found.code, "renaming": say(f"explain.renaming.{renaming}"), "more": cause.reference}  # fmt: skip
    lines = {label: say(f"explain.rows.{label}", value=value) for label, value in rows.items() if value}
    return [
        fill(printable(line, None), 100, initial_indent="   ", subsequent_indent="      ",
             break_long_words=label != "more", break_on_hyphens=label != "more")
        for label, line in lines.items()
    ]  # fmt: skip
