"""What became of one file: `Repair`, as text, HTML and JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import Any

from ..diagnosis.report import Step
from ..keys import human
from ..texts import printable

_MARKS = {"fixed": "✓", "already clean": "✓", "already fixed": "✓", "would fix": "→", "loaded": "✓",
          "not compared": "?", "refused": "✗", "failed": "✗"}  # fmt: skip
DONE = ("fixed", "already clean", "already fixed", "would fix", "loaded")  # there is nothing more to be done


@dataclass
class Repair:
    """What became of one file. `to_dict()` is its entry in `dav2 fix --json`."""

    source: str
    status: str  # one of `_MARKS`; loaded by load_into
    target: str | None = None
    reason: str | None = None  # why refused or failed; what the status does not vouch for
    steps: list[Step] = field(default_factory=list)
    tensors: int = 0
    bytes: int = 0  # of the file written
    identical: bool | None = None  # every tensor's bytes, dtype and shape in the target equal the source's
    fingerprint: str | None = None  # see writing.fingerprint
    backup: str | None = None  # with in_place: where the old file is now
    facts: str | None = None  # NAME.json, with what is known about the weights, if the file itself has no place for it
    facts_backup: str | None = None  # where a NAME.json is now that was there before

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "steps"} | {
            "steps": [step.to_dict() for step in self.steps]
        }

    def __str__(self) -> str:
        lines = [f"{_MARKS[self.status]} {self.status}: {self.source}"]
        if self.target and self.target != self.source and self.status in ("fixed", "already fixed", "would fix"):
            lines[0] += f" -> {self.target}"
        lines += [f"  all {self.tensors} tensors of the model"] if self.status == "loaded" else []
        lines += [f"  {self.reason}"] if self.reason else []
        lines += [f"  {'; '.join(map(str, self.steps))}"] if self.steps else []
        if self.identical:
            lines.append(
                f"  {self.tensors} tensors, {human(self.bytes)}, every byte as in the source; {self.fingerprint:.19}..."
            )
        lines += [f"  the old file is now {self.backup}"] if self.backup else []
        lines += [f"  what was in {self.facts} is now in {self.facts_backup}"] if self.facts_backup else []
        return "\n".join(printable(line, 2000) for line in lines)

    __repr__ = __str__  # what a notebook keeps as text

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"
