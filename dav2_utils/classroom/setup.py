"""Where lessons write."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def lesson_folder(name: str = "") -> Path:
    """Where the lessons write, made when it is not there.

    `name` inside the folder that the variable `DAV2_LESSONS` names; without one inside `notebooks/runs` of the
    repository, or of the system's temporary folder where the package was installed without it.
    """
    lessons = Path(__file__).resolve().parents[2] / "notebooks"
    default = lessons / "runs" if os.access(lessons, os.W_OK) else Path(tempfile.gettempdir()) / "dav2_lessons"
    folder = Path(os.environ.get("DAV2_LESSONS") or default) / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
