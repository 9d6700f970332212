"""Colab and Binder: a badge in each lesson and in README.md, from one address; without an address there are none.

The address is `Repository` under `[project.urls]` in pyproject.toml; after a change, `tools/lessons.py badges`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BADGES = re.compile(r"\[!\[Open in Colab\].*\n\n?")
CLONE = "    !git clone --quiet --depth 1 {}\n"
SETUP = """import sys
from pathlib import Path

if "google.colab" in sys.modules:
{clone}    repository = next(Path.cwd().rglob("dav2_utils/__init__.py")).parents[1]
    %pip install --quiet --no-deps {{repository}}

%load_ext dav2_utils.classroom"""


def address(pyproject: str | None = None) -> str:
    """Where the repository is published, such as https://github.com/OWNER/NAME; empty if it is not given."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8") if pyproject is None else pyproject
    found = re.search(r'^Repository = "https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?"', text, re.M)
    return f"https://github.com/{found[1]}" if found else ""


def badges(name: str, where: str) -> str:
    """The line of badges for the lesson `name`: Colab opens the stored one, Binder a cleared copy (see postBuild)."""
    if not where:
        return ""
    owner = where.removeprefix("https://github.com/")
    colab = f"https://colab.research.google.com/github/{owner}/blob/main/notebooks/{name}"
    binder = f"https://mybinder.org/v2/gh/{owner}/main?urlpath=lab/tree/my_lessons/{name}"
    return (
        f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab}) "
        f"[![Open in Binder](https://mybinder.org/badge_logo.svg)]({binder})\n\n"
    )


def with_badges(text: str, name: str, where: str) -> str:
    """A text that begins with its heading, with the right badges under it, or none."""
    heading, _, rest = BADGES.sub("", text).partition("\n\n")
    return f"{heading}\n\n{badges(name, where)}{rest}"


def dressed(nb: Any, name: str, where: str) -> Any:
    """A lesson with the badges and the first cell that go with the address."""
    nb.cells[0].source = with_badges(nb.cells[0].source, name, where)
    clone = CLONE.format(where) if where else ""
    next(cell for cell in nb.cells if cell.id == "setup").source = SETUP.format(clone=clone)
    return nb
