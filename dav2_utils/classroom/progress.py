"""Which exercises this learner has tried and solved: a table, and a small file to hand in.

Each fact is one empty file, `NAME.solved` or `NAME.tried`, so two notebooks that write at once cannot harm each other.
No names, no times, nothing sent anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..texts import say
from ..writing.replacing import replacing
from .exercises import EXERCISES
from .setup import lesson_folder

HAND_IN = "progress.json"
_SIGNS = {"solved": "✓", "tried": "✗", "not yet": "○"}


@dataclass(frozen=True)
class Progress:
    """The state (`solved`, `tried` or `not yet`) of each exercise, and where the file to hand in is."""

    exercises: dict[str, str]
    file: Path | None = None

    @property
    def solved(self) -> list[str]:
        return [name for name, state in self.exercises.items() if state == "solved"]

    def to_dict(self) -> dict[str, Any]:
        return {"solved": self.solved, "tried": [n for n, state in self.exercises.items() if state == "tried"],
                "exercises": len(self.exercises)}  # fmt: skip

    def by_lesson(self) -> dict[str, list[tuple[str, str]]]:
        """The sign and the name of each exercise, by the lesson's two digits."""
        lessons: dict[str, list[tuple[str, str]]] = {}
        for name, state in self.exercises.items():
            lessons.setdefault(name[:2], []).append((_SIGNS[state], name[3:]))
        return lessons

    def _rows(self) -> list[tuple[str, str]]:
        return [(say("progress.lesson", lesson=lesson), "  ".join(map(" ".join, each)))
                for lesson, each in self.by_lesson().items()]  # fmt: skip

    def _heading(self) -> str:
        return say("progress.heading", solved=len(self.solved), all=len(self.exercises))

    def _below(self) -> str:
        return say("progress.file", file=self.file) if self.file else ""

    def __str__(self) -> str:
        rows = (f"{left}  {right}" for left, right in self._rows())
        return "\n".join(line for line in (self._heading(), *rows, self._below()) if line)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><th scope='row'>{left}</th><td style='text-align:left'>{escape(right)}</td></tr>"
            for left, right in self._rows()
        )
        return f"<p><b>{escape(self._heading())}</b></p><table>{cells}</table><p>{escape(self._below())}</p>"


def progress(lesson: str = "") -> Progress:
    """What this learner has solved, in one `lesson` ("02") or in all; the file to hand in is written each time.

    Raises `CheckpointError` (kind `usage`) for a lesson that has no exercises.
    """
    if not any(name.startswith(lesson) for name in EXERCISES):
        raise CheckpointError(f"There are no exercises in lesson {lesson!r}", "two digits, such as '02'", kind="usage")
    kept = lesson_folder("progress")
    states = {name: next((s for s in ("solved", "tried") if (kept / f"{name}.{s}").exists()), "not yet")
              for name in EXERCISES}  # fmt: skip
    file = kept / HAND_IN
    with replacing(file, overwrite=True) as part:
        part.write_text(json.dumps(Progress(states).to_dict(), indent=1) + "\n", encoding="utf-8")
    return Progress({name: state for name, state in states.items() if name.startswith(lesson)}, file)


@dataclass(frozen=True)
class HandedIn:
    """What learners handed in: the progress that each file shows, by its path."""

    files: dict[str, Progress]

    def to_dict(self) -> dict[str, Any]:
        return {"files": [{"file": name, **each.to_dict()} for name, each in self.files.items()]}

    def __str__(self) -> str:
        width = max(map(len, self.files), default=0)
        return "\n".join(
            f"{name:{width}}  {say('progress.count', solved=f'{len(each.solved):2}', all=len(each.exercises))}  "
            + "  ".join(f"{lesson} {''.join(sign for sign, _ in of_it)}" for lesson, of_it in each.by_lesson().items())
            for name, each in self.files.items()
        )


def handed_in(files: Iterable[Path]) -> HandedIn:
    """What each of the files shows that learners handed in, by its path.

    Raises `CheckpointError` for a file that `progress()` did not write.
    """
    found = {}
    for path in files:
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            states = {name: "solved" if name in said["solved"] else "tried" if name in said["tried"] else "not yet"
                      for name in EXERCISES}  # fmt: skip
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path.name} is not what progress() writes", f"a {HAND_IN}",
                                  "Ask for the file that the last line of progress() names") from error  # fmt: skip
        found[str(path)] = Progress(states)
    return HandedIn(found)
