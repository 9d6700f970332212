"""The lessons' workshop: `python tools/lessons.py lint | run | update | badges | table [NAME ...]`.

lint    the skeleton, the cells, the exercises and what is stored, without running anything (part of `make check`)
run     every lesson in a fresh kernel, a line each, written as pages for reading without a kernel (`make lessons`)
update  every lesson in a fresh kernel, stored with its new outputs (`make lessons-update`)
badges  in README and in each lesson, from the address in pyproject.toml; none as long as there is none
table   cells, lines, minutes, pictures, sizes: the figures that the lessons are measured by
"""

from __future__ import annotations

import argparse
import base64
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import lesson_reference
import lesson_slides
from lesson_badges import address, dressed, with_badges
from lesson_pages import export, index, ways
from lesson_rules import ROOT, code_lines, lint, minutes
from lesson_runs import execute, exercises, read, secluded, write
from lesson_words import unexplained

NOTEBOOKS = ROOT / "notebooks"
SITE = ROOT / "site"


def lessons(names: list[str] | None = None) -> list[Path]:
    """The notebooks in reading order; with `names`, those whose file name begins like one of them."""
    return [path for path in sorted(NOTEBOOKS.glob("*.ipynb")) if not names or path.name.startswith(tuple(names))]


def command_lint(paths: list[Path]) -> int:
    problems = [f"{path.name}: {problem}" for path in paths for problem in lint(path)] + unexplained(lessons())
    print("\n".join(problems) or f"{len(paths)} lessons keep the rules.")
    return int(bool(problems))


def command_run(paths: list[Path], *, store: bool) -> int:
    from nbclient.exceptions import CellExecutionError

    SITE.mkdir(exist_ok=True)
    failed = 0
    for path in paths:
        started = time.perf_counter()
        try:
            with tempfile.TemporaryDirectory() as elsewhere:
                nb = execute(path, Path(elsewhere), environment=secluded(Path(elsewhere)) if store else None)
        except CellExecutionError as error:
            failed += 1
            print(
                f"FAIL  {path.stem:<26} {time.perf_counter() - started:6.1f} s  {str(error).strip().splitlines()[-1]}"
            )
            continue
        if store:
            write(nb, path)
            keep_four_maps(nb)
        export(nb, SITE / f"{path.stem}.html", ways(path.stem, [each.stem for each in lessons()]))
        print(f"ok    {path.stem:<26} {time.perf_counter() - started:6.1f} s", flush=True)
    site()
    print(f"Written: {os.path.relpath(SITE / 'index.html')}" + (", and the notebooks themselves" if store else ""))
    return int(failed > 0)


def site() -> None:
    """What goes with the lessons' pages: the list of them, the teacher's kit, the reference for the package."""
    pages = [(path, read(path)) for path in lessons() if (SITE / f"{path.stem}.html").exists()]
    others = lesson_slides.write(SITE, [(path, read(path)) for path in lessons()]) | lesson_reference.write(SITE)
    (SITE / "index.html").write_text(index(pages, others), encoding="utf-8")


def keep_four_maps(nb: Any) -> None:
    """The picture of the README is the one that lesson 04 shows."""
    for cell in nb.cells:
        if cell.id == "four-maps":
            (ROOT / "docs" / "four_maps.png").write_bytes(base64.b64decode(cell.outputs[0].data["image/png"]))


def command_badges(paths: list[Path]) -> int:
    for path in paths:
        write(dressed(read(path), path.name, address()), path)
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    readme.write_text(with_badges(text, lessons()[0].name, address()), encoding="utf-8")
    print(f"Badges lead to {address()}." if address() else "No Repository in pyproject.toml: no badges.")
    return 0


def command_table(paths: list[Path]) -> int:
    print(f"{'lesson':<26} minutes  prose  code  median  longest  exercises  pictures  KB")
    for path in paths:
        nb = read(path)
        code = [cell for cell in nb.cells if cell.cell_type == "code"]
        lines = [code_lines(cell) for cell in code]
        pictures = sum("image/png" in out.get("data", {}) for cell in code for out in cell.outputs)
        print(
            f"{path.stem:<26} {minutes(nb):7}  {len(nb.cells) - len(code):5}  {len(code):4}"
            f"  {statistics.median(lines):6g}  {max(lines):7}  {len(exercises(nb)):9}  {pictures:8}"
            f"  {path.stat().st_size / 1000:.0f}"
        )
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["lint", "run", "update", "badges", "table"])
    parser.add_argument(
        "names", nargs="*", help="lessons by the beginning of their names: 03 04_see scratch (default: all)"
    )
    given = parser.parse_args()
    paths = lessons(given.names)
    if not paths:
        parser.error(f"no lesson begins with {', '.join(given.names) or 'a number'}")
    if given.command in ("run", "update"):
        return command_run(paths, store=given.command == "update")
    return {"lint": command_lint, "badges": command_badges, "table": command_table}[given.command](paths)


if __name__ == "__main__":
    sys.exit(main())
