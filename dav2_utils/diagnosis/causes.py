"""The named causes of a failed load, and a finding: one cause, what it accounts for, and what is said of it.

What is run and where more is to be read is data (`data.json`), and so are the words that rules know; what is said is
data for translators: `causes` and `findings` in `locale/en.json`. To add a cause, add a row there, its texts, and a
rule that finds it; see CONTRIBUTING.md. Standard library only.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from ..texts import find, read_data, say


@functools.cache
def data() -> dict[str, Any]:
    """The rows of `data.json`: causes, words and signs."""
    return read_data("diagnosis/data.json")


@functools.cache
def words(kind: str) -> frozenset[str]:
    """The words of one kind (`bookkeeping`, `container`), each general knowledge and no project's own name."""
    return frozenset(data()["words"][kind].split())


class Cause(NamedTuple):
    """One way in which loading weights fails."""

    name: str
    code: str = ""  # the command or the lines to run
    reference: str = ""  # where to read more
    repairable: bool = False  # can unwrapping and renaming alone be the whole repair? A single case may need more

    @property
    def title(self) -> str:
        return say(f"causes.{self.name}.title")

    @property
    def sign(self) -> str:
        """How a person recognises it."""
        return say(f"causes.{self.name}.sign")

    @property
    def explanation(self) -> str:
        """For somebody who meets it for the first time."""
        return say(f"causes.{self.name}.explanation")

    @property
    def remedy(self) -> str:
        """What to do, in one or two sentences."""
        return say(f"causes.{self.name}.remedy")


#: Every cause by its name: the first 20 must be recognised, of the others silence is as good as the right name.
CAUSES: dict[str, Cause] = {name: Cause(name, **row) for name, row in data()["causes"].items()}


@dataclass
class CauseFound:
    """A cause recognised in a file or in an error text, with what shows it, in the reader's language."""

    cause: str  # a name in CAUSES
    detail: str  # finer: which wrapper, which encoder, which container
    evidence: str  # counts and names
    remedy: str
    repairable_by_renaming: bool = False
    renaming: dict[str, str] = field(default_factory=dict)  # runs of components of the file -> of the model
    code: str = ""  # the command or the lines to run

    @property
    def title(self) -> str:
        return CAUSES[self.cause].title

    def to_dict(self) -> dict[str, Any]:
        row = asdict(self)
        del row["code"]
        return row if self.renaming else {name: value for name, value in row.items() if name != "renaming"}


@dataclass
class Finding:
    """What one rule found: a cause, the differing names that it accounts for, and what there is to say."""

    cause: str
    text: str  # of `findings` in the texts: detail, seen and perhaps do
    accounts: Collection[str] = ()
    args: Mapping[str, Any] = field(default_factory=dict)  # for the text; a tuple is shown by its first two names
    cost: float = 0.1  # of saying it, as a share of the names: what is special is cheap, what fits always is dear
    renaming: dict[str, str] = field(default_factory=dict)
    undone: bool = False  # unwrapping, renaming or leaving out undoes this very part of the difference

    def said(self, repairable: bool = False) -> CauseFound:
        """The finding in words."""
        args = {name: some(value) if isinstance(value, tuple) else value for name, value in self.args.items()}
        group = self.text if "." in self.text else f"findings.{self.text}"
        detail, seen, do, run = (find(f"{group}.{part}") for part in ("detail", "seen", "do", "run"))
        cause = CAUSES[self.cause]
        return CauseFound(
            self.cause,
            detail.format(**args) if detail else "",
            (seen or say("findings.words")).format(**args),
            do.format(**args) if do else cause.remedy,
            repairable,
            self.renaming,
            run.format(**args) if run else cause.code,
        )


def some(names: Collection[str]) -> str:
    """The first two names, and how many more."""
    shown = list(names)
    if len(shown) > 2:
        return say("findings.more", first=shown[0], second=shown[1], count=len(shown) - 2)
    return ", ".join(shown)
