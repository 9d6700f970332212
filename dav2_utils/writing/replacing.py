"""Files that take their places whole, in one step and together, or leave everything as it was.

A new file is written beside its place under a name that begins with a dot, forced to the disk, and only then given its
name. So if the power fails, what is left is the old state or the new one.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import SourceChanged, WriteError
from . import disk
from .leftovers import clear_leftovers, unfinished


@dataclass
class Place:
    """Where a file is to go, and what may become of one that is there already: nothing, unless one of these is true."""

    target: Path
    overwrite: bool = False
    backup: bool = False  # it is kept as NAME.bak; `kept` says afterwards under which name
    kept: Path | None = None


class Seen:
    """A file as it was when somebody began to read it."""

    def __init__(self, path: Path) -> None:
        self.path, self._was = path, _identity(path)

    def check(self) -> None:
        """Raises `SourceChanged` when the file is no longer the one that it was, or its bytes are not."""
        if _identity(self.path) != self._was:
            raise SourceChanged(self.path)


def _identity(path: Path) -> tuple[int, ...] | None:
    with contextlib.suppress(OSError):
        found = path.stat()
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
    return None


@contextlib.contextmanager
def replacing(target: Path, overwrite: bool = False) -> Iterator[Path]:
    """`replacing_all` for one file: gives the path to write to, which becomes `target` at the end of the block."""
    with replacing_all([Place(target, overwrite)]) as [temporary]:
        yield temporary


@contextlib.contextmanager
def replacing_all(
    places: Sequence[Place], like: Path | None = None, source: Seen | None = None
) -> Iterator[list[Path]]:
    """Gives a path to write to for each place, all in one folder; at the end of the block all of them get their names.

    The folder is made if it isn't there. The permissions are those of `like`, or what a new file has by the umask.
    Whatever goes wrong, everything is as it was and nothing is left behind. Raises `WriteError` for what the disk does
    not take, `AlreadyThere` for a place that is taken, `SourceChanged` when `source` did not stay as it was.
    """
    folder = places[0].target.parent
    with contextlib.ExitStack() as on_failure, contextlib.ExitStack() as always:
        try:
            for missing in disk.missing_folders(folder):
                on_failure.callback(disk.remove_empty, missing)
            folder.mkdir(parents=True, exist_ok=True)
            clear_leftovers(folder)
            temporaries = []
            for place in places:
                temporaries.append(disk.create(unfinished(place.target), private=like is not None))
                always.callback(disk.remove, temporaries[-1])
            yield list(temporaries)
            for temporary in temporaries:
                disk.flush(temporary)
                if like is not None:
                    shutil.copymode(like, temporary)
            with disk.one_at_a_time(folder):
                if source is not None:
                    source.check()
                _name_all(places, temporaries)
            on_failure.pop_all()
        except (OSError, RuntimeError) as error:  # RuntimeError: what torch makes of a full disk
            raise WriteError(
                f"{places[0].target} could not be written: {error}",
                do="Check the free space and the folder's permissions; everything is as it was",
            ) from error


def _name_all(places: Sequence[Place], temporaries: Sequence[Path]) -> None:
    """Give every file its name; when one cannot have it, take back those that have."""
    hidden = []
    with contextlib.ExitStack() as undo:
        for place, temporary in zip(places, temporaries, strict=True):
            there = os.path.lexists(place.target)
            old = _keep(place) if there else None
            with contextlib.ExitStack() as not_named:
                not_named.callback(disk.remove, old)
                disk.name(temporary, place.target, place.overwrite or place.backup)
                not_named.pop_all()
            undo.callback(_put_back, place.target, old, there)
            if place.backup:
                place.kept = old
            else:
                hidden.append(old)
        disk.flush(places[0].target.parent)
        undo.pop_all()
    for path in hidden:
        disk.remove(path)


def _keep(place: Place) -> Path | None:
    """A second name for what is at a place, the backup's or a hidden one; None if none is needed or possible."""
    if place.backup:
        return disk.keep_backup(place.target)
    if place.overwrite:
        with contextlib.suppress(OSError):  # a file system without hard links
            return disk.link(place.target, unfinished(place.target))
    return None


def _put_back(target: Path, old: Path | None, there: bool) -> None:
    try:
        if old is not None:
            old.replace(target)
            return
        if not there:
            target.unlink()
            return
    except OSError as error:
        was = f"; what was there is now {old}" if old else ""
        raise WriteError(f"{target} is written, and what belongs beside it is not{was}: {error}") from error
    raise WriteError(f"{target} was replaced, and what belongs beside it could not be written",
                     do="Check the folder, and run this again with --force")  # fmt: skip


def write_text(path: Path, facts: Mapping[str, Any]) -> None:
    """`facts` as JSON into the file at `path`, which `replacing` gave."""
    text = json.dumps(facts, ensure_ascii=False, indent=2) + "\n"
    path.write_text(text, encoding="utf-8", errors="backslashreplace")  # as JSON itself escapes a surrogate
