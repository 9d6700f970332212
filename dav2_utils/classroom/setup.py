"""Where lessons write, and what their first cell switches on."""

from __future__ import annotations

import contextlib
import os
import sysconfig
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

FIRST = "00_start_here.ipynb"
COPIES = "my_lessons"  # where copies to work in are, below the current folder
_REPOSITORY = Path(__file__).resolve().parents[2]


def lesson_folder(name: str = "") -> Path:
    """Where the lessons write, made if it isn't there; relative to the current folder if it lies below it.

    `name` inside the folder that the variable `DAV2_LESSONS` names. Without one, inside `runs` of the folder of lessons
    that this kernel works in; of `my_lessons` in the repository if it works elsewhere; or of the system's temporary
    folder if the package was installed without the repository.
    """
    folder = Path(os.environ.get("DAV2_LESSONS") or _runs()) / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def folder_of_copies() -> Path | None:
    """The copies that this is the folder of, or that lie in or just above it; None if there are none yet."""
    stored = _REPOSITORY / "notebooks"
    for folder in (Path(), Path(".."), Path(COPIES)):  # a translation's lessons are one folder further down
        if (folder / FIRST).is_file() and stored not in (folder.resolve(), folder.resolve().parent):
            return folder
    return None


def _runs() -> Path:
    stored = _REPOSITORY / "notebooks"
    if copies := folder_of_copies():
        return copies / "runs"
    if (stored / FIRST).is_file() and os.access(_REPOSITORY, os.W_OK):
        return _REPOSITORY / COPIES / "runs"
    return Path(tempfile.gettempdir()) / "dav2_lessons"


def sample_photo() -> Path:
    """A real photograph that comes with the package: a cup of coffee, CC0 (embedded/README.txt says by whom)."""
    return Path(__file__).parent / "embedded" / "coffee.jpg"


def record(exercise: str, solved: bool) -> None:
    """Record that `exercise` was tried, or solved. If the folder cannot be written to, the answer still gets its
    reply."""
    with contextlib.suppress(OSError):
        (lesson_folder("progress") / f"{exercise}.{'solved' if solved else 'tried'}").touch()


def load_ipython_extension(shell: Any) -> None:
    """What `%load_ext dav2_utils.classroom` does: errors stop at the notebook's cells, and `!dav2` finds the
    command."""
    programs = sysconfig.get_path("scripts")
    if programs not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([programs, os.environ.get("PATH", "")])

    def show(
        self: Any, kind: type[BaseException], error: BaseException, tb: TracebackType, tb_offset: int | None = None
    ) -> None:
        short = cells_only(tb)
        self.showtraceback((kind, error, short), tb_offset=0 if short is not tb else tb_offset)

    shell.set_custom_exc((Exception,), show)


def cells_only(tb: TracebackType) -> TracebackType:
    """The frames of `tb` that are cells of the notebook; all of it if none is. The error itself stays whole."""
    frames: list[TracebackType] = []
    each: TracebackType | None = tb
    while each:
        if "__file__" not in each.tb_frame.f_globals and each.tb_frame.f_globals.get("__name__") == "__main__":
            frames.append(each)
        each = each.tb_next
    last: TracebackType | None = None
    for each in reversed(frames):
        last = TracebackType(last, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return last or tb
