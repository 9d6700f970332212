"""The names of files that are not finished yet, and the removal of those that a killed run left behind.

Such a file is ours by its name, which also says where its process runs or ran. It goes when that process is gone: told
by its number where we can see it (Linux, the same start of the same machine, the same container), and by the age of
the file everywhere else. A removal too early would make one write fail; nothing that has its name is ever touched.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import re
import stat
import sys
import time
import warnings
from pathlib import Path

from ..keys import human
from ..texts import printable

_UNFINISHED = re.compile(r"\..{1,40}\.dav2-([0-9a-f]{8})-([0-9]{1,10})-[0-9a-f]{8}\.tmp", re.DOTALL)
OLD = 24 * 3600  # seconds: no write pauses for a day


def unfinished(target: Path) -> Path:
    """A new name beside `target` that begins with a dot, for what is to become `target`."""
    # 40 characters: with four bytes each it is still a name that every file system takes
    return target.with_name(f".{target.name[:40]}.dav2-{_here()}-{os.getpid()}-{os.urandom(4).hex()}.tmp")


def clear_leftovers(folder: Path) -> None:
    """Remove from `folder` what killed runs of this package left there, and warn of each. Never raises `OSError`."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for name in [entry.name for entry in entries if _UNFINISHED.fullmatch(entry.name)]:
            _clear(folder / name)


def _clear(path: Path) -> None:
    with contextlib.suppress(OSError):
        found = path.lstat()
        if stat.S_ISREG(found.st_mode) and _abandoned(path.name, time.time() - found.st_mtime):
            path.unlink()
            left = f"{printable(path.name)} ({human(found.st_size)}), left behind in {printable(str(path.parent))}"
            warnings.warn(f"Removed {left} by a run that was killed", stacklevel=4)


def _abandoned(name: str, age: float) -> bool:
    match = _UNFINISHED.fullmatch(name)
    if match is None:
        return False
    where, process = match.groups()
    if sys.platform != "linux" or where != _here():
        return age > OLD
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:  # somebody else's, and alive
        return False
    return False


@functools.cache
def _here() -> str:
    """Eight digits for this machine since it started, and for the container whose processes we see."""
    marks = [platform.node()]
    with contextlib.suppress(OSError):
        marks.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
    with contextlib.suppress(OSError):
        marks.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\0".join(marks).encode("utf-8", "surrogatepass")).hexdigest()[:8]
