"""Cleared copies of the lessons to work in: the stored ones, with their answers, stay as they are.

A copy is made once and never overwritten. It remembers, in its own metadata, which lesson it was made from, so a newer
lesson is offered; `fresh` installs it and keeps the old copy beside it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..errors import AlreadyThere, CheckpointError
from ..texts import say
from ..writing.replacing import replacing
from .setup import COPIES, folder_of_copies

_LINK = re.compile(r"\]\(\.\./((?:\.\./)*docs/)")


@dataclass
class Copied:
    """What `copy_lessons` did, by file name. `newer`: lessons that changed since their copy was made."""

    folder: Path
    made: list[str] = field(default_factory=list)
    renewed: dict[str, str] = field(default_factory=dict)  # lesson -> the name under which the old copy was kept
    newer: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {"folder": str(self.folder), "copied": self.made, "renewed": self.renewed, "newer": self.newer}

    def __str__(self) -> str:
        lines = [say("copies.made", count=len(self.made), folder=self.folder)] if self.made else []
        lines += [say("copies.fresh", name=name, old=old) for name, old in self.renewed.items()]
        lines += [say("copies.newer", name=name, number=name[:2]) for name in self.newer]
        return "\n".join(lines) or say("copies.folder", folder=self.folder)


def copy_lessons(folder: str | os.PathLike[str] | None = None, fresh: Iterable[str] | None = None) -> Copied:
    """Cleared copies of all lessons in `folder`, unless they are already there.

    Without `folder`, the copies that are being worked in (a terminal in the lab is inside them), or `my_lessons`.
    `fresh`: beginnings of the names of lessons to make clean again; empty for all. A copy that was worked in is kept
    beside it as `NAME.old.ipynb` (then `.old1`, ...). Raises `CheckpointError` (kind `usage`) for a beginning that no
    lesson has.
    """
    target = Path(folder or folder_of_copies() or COPIES)
    done = Copied(target)
    lessons = dict(stored())
    wanted = None if fresh is None else tuple(fresh) or ("",)
    for word in wanted or ():
        if not any(Path(name).name.startswith(word) for name in lessons):
            raise CheckpointError(f"No lesson begins with {word!r}", "the beginning of a name, such as 02",
                                  f"One of {', '.join(lessons)}", kind="usage")  # fmt: skip
    beside = (target.absolute().parent / "docs" / "troubleshooting.md").is_file()
    for name, text in lessons.items():
        clean, path = cleared(text, beside), target / name
        if not path.exists():
            _write(path, clean)
            done.made.append(name)
        elif wanted and path.name.startswith(wanted):
            if path.read_text(encoding="utf-8") != clean:
                done.renewed[name] = _keep(path).name
                _write(path, clean)
        elif _origin(path.read_text(encoding="utf-8")) != _origin(clean):
            done.newer.append(name)
    if not beside:
        for name, text in _texts("docs", ".md"):
            if not (target / "docs" / name).exists():
                _write(target / "docs" / name, text)
    return done


def stored() -> Iterator[tuple[str, str]]:
    """The lessons as they are stored: each one's path below their folder, and its text."""
    found = list(_texts("notebooks", ".ipynb"))
    if not found:
        raise CheckpointError("This installation has no lessons", "the wheel or the repository",
                              "Reinstall the package, or work in a clone of the repository")  # fmt: skip
    yield from found


def cleared(text: str, docs_beside: bool = True) -> str:
    """A lesson without outputs and counts, with its own checksum in its metadata.

    Without `docs_beside`, its links to `../docs/` lead to a `docs/` beside the lessons.
    """
    nb = json.loads(text)
    for cell in nb["cells"]:
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
            cell["metadata"] = {k: v for k, v in cell["metadata"].items() if k in ("tags", "scrolled")}
        elif not docs_beside:
            cell["source"] = [_LINK.sub(r"](\1", line) for line in cell["source"]]
    digest = hashlib.sha256(json.dumps(nb["cells"]).encode()).hexdigest()[:16]
    nb["metadata"]["dav2"] = {"lesson": digest}
    return json.dumps(nb, indent=1, ensure_ascii=False) + "\n"


def _origin(text: str) -> str | None:
    """Which lesson a copy was made from; None if that can't be told."""
    try:
        return str(json.loads(text)["metadata"]["dav2"]["lesson"])
    except (ValueError, KeyError, TypeError):
        return None


def _texts(name: str, ending: str) -> Iterator[tuple[str, str]]:
    """The files below the folder `name`: in the package, as a wheel has it, or in the repository around it."""
    package = files(__package__.partition(".")[0])
    folder = package / name
    if not folder.is_dir():
        folder = Path(str(package)).parent / name
    yield from _below(folder, ending) if folder.is_dir() else ()


def _below(folder: Any, ending: str, path: str = "") -> Iterator[tuple[str, str]]:
    for each in sorted(folder.iterdir(), key=lambda entry: str(entry.name)):
        if each.is_dir() and each.name not in ("runs", "__pycache__") and not each.name.startswith("."):
            yield from _below(each, ending, f"{path}{each.name}/")
        elif each.name.endswith(ending):
            yield path + each.name, each.read_text(encoding="utf-8")


def _write(path: Path, text: str) -> None:
    """Whole or not at all, and never over a file that has appeared in the meantime."""
    with contextlib.suppress(AlreadyThere), replacing(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def _keep(path: Path) -> Path:
    """`path` moved aside, under the first name that is free."""
    number = 0
    while (kept := path.with_name(f"{path.stem}.old{number or ''}.ipynb")).exists():
        number += 1
    return path.rename(kept)
