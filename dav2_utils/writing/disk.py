"""The single steps of a write: a file made, named, kept under a second name, forced to the disk. See `replacing`."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import AlreadyThere, WriteError
from ..keys import human
from .leftovers import clear_leftovers, unfinished

# Windows does not know the word, and Linux without it does what it says
_NOT_FOLLOWED: dict[str, Any] = {"follow_symlinks": False} if os.link in os.supports_follow_symlinks else {}


def require_space(folder: Path, needed: int) -> None:
    """Raises `WriteError` when the disk under `folder`, which need not be there yet, has less than `needed` bytes."""
    clear_leftovers(folder)
    there = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    free = shutil.disk_usage(there).free
    if free < needed:
        raise WriteError(
            f"The disk under {there} has {human(free)} left, and this needs {human(needed)}",
            do="Free some space, or give another place with --output",
        )


def missing_folders(folder: Path) -> list[Path]:
    """`folder` and those above it, as far as they are not there, the outermost first."""
    return [path for path in (folder, *folder.parents) if not path.exists()][::-1]


def remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def remove(path: Path | None) -> None:
    with contextlib.suppress(OSError):
        if path is not None:
            path.unlink()


def create(path: Path, private: bool) -> Path:
    """An empty new file; a private one is nobody else's to read until it gets the permissions of another."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600 if private else 0o666))
    return path


def link(path: Path, other: Path) -> Path:
    """`other` as a second name for the file at `path`; of a symbolic link for the link itself."""
    os.link(path, other, **_NOT_FOLLOWED)
    return other


def name(temporary: Path, target: Path, overwrite: bool) -> None:
    """Give `temporary` its name. Without `overwrite`, `AlreadyThere` where another process was faster."""
    if overwrite:
        temporary.replace(target)
        return
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise AlreadyThere(target) from None
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            raise AlreadyThere(target) from None
        temporary.replace(target)


def flush(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk, as far as the system does that for folders."""
    is_folder = path.is_dir()
    if is_folder and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        if not is_folder or error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


@contextlib.contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Of all processes that give names in `folder`, one: so two files belong together. Where there are such locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def keep_backup(path: Path) -> Path:
    """A second name for the file at `path`: NAME.bak, or the first free of NAME.bak1, NAME.bak2 and so on."""
    number = 0
    while True:
        backup = path.with_name(f"{path.name}.bak{number or ''}")
        if not os.path.lexists(backup):
            with contextlib.suppress(FileExistsError, AlreadyThere):  # another process was faster
                return _link_or_copy(path, backup)
        number += 1


def _link_or_copy(path: Path, other: Path) -> Path:
    try:
        return link(path, other)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        temporary = unfinished(other)
        try:
            shutil.copyfile(path, create(temporary, private=True))
            flush(temporary)
            shutil.copymode(path, temporary)
            name(temporary, other, overwrite=False)
        finally:
            remove(temporary)
        return other
