"""`build/dav2.pyz`: the command in one file for a machine with nothing but Python 3.10, where the 4 GB file often lies.

Standard `zipapp`, with click inside. The embedded weights stay out; what needs torch says so when it is asked for.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
import tempfile
import zipapp
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
PYZ = ROOT / "build" / "dav2.pyz"
LEFT_OUT = shutil.ignore_patterns("__pycache__", "embedded", "notebooks", "*.pyi", "py.typed")


def build(target: Path = PYZ) -> Path:
    """Write the archive, with click and its licence in it, and give its path."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        inside = Path(folder)
        shutil.copytree(ROOT / "dav2_utils", inside / "dav2_utils", ignore=LEFT_OUT)
        shutil.copytree(Path(click.__file__).parent, inside / "click", ignore=LEFT_OUT)
        for file in importlib.metadata.files("click") or []:
            if "LICENSE" in file.name:
                shutil.copy(file.locate(), inside / "click" / "LICENSE.txt")
        zipapp.create_archive(inside, target, "/usr/bin/env python3", "dav2_utils.cli:main", compressed=True)
    return target


if __name__ == "__main__":
    made = build(*map(Path, sys.argv[1:2]))
    print(f"{made} ({made.stat().st_size / 1000:.0f} kB)")
