"""How long the lessons take, each alone in a fresh kernel, and how large they are.

    python benchmarks/bench_lessons.py [NAME ...]

They share a folder that is empty at the start, as on a fresh clone: the first lesson that needs `latest.pth` trains it.
What is stored is read by the rules of `tools/lesson_rules.py`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from side_by_side import ROOT, Row, parser, report

sys.path.insert(0, str(ROOT / "tools"))


class Lesson(NamedTuple):
    name: str
    seconds: float
    size: int  # bytes, as stored
    lines: list[int]  # of each code cell


def measure(path: Path, runs: Path) -> Lesson:
    from lesson_rules import code_lines
    from lesson_runs import execute, read, secluded

    with tempfile.TemporaryDirectory() as folder:
        environment = secluded(Path(folder)) | {"DAV2_LESSONS": str(runs)}
        start = time.perf_counter()
        execute(path, Path(folder), environment=environment)
        seconds = time.perf_counter() - start
    lines = [code_lines(cell) for cell in read(path).cells if cell.cell_type == "code"]
    return Lesson(path.stem, seconds, path.stat().st_size, lines)


def rows(found: list[Lesson]) -> list[Row]:
    every = f"{len(found)} lessons, one after the other; the first that needs latest.pth trains it"
    slow, large = max(found, key=lambda lesson: lesson.seconds), max(found, key=lambda lesson: lesson.size)
    dense, long = max(found, key=lambda one: median(one.lines)), max(found, key=lambda one: max(one.lines))
    total, middle = sum(lesson.seconds for lesson in found), median(lesson.seconds for lesson in found)
    return [
        Row("the slowest lesson, alone in a fresh kernel", "at most", 60, "s", slow.seconds, slow.name),
        Row("most lessons: the median of their times", "at most", 20, "s", middle, every),
        Row("all lessons, one after the other", "at most", 180, "s", total, every),
        Row("the largest lesson as stored", "at most", 500, "KB", large.size / 1000, large.name),
        Row("the median code cell, where it is longest", "at most", 6, "lines", median(dense.lines), dense.name),
        Row("the longest code cell", "at most", 20, "lines", max(long.lines), long.name),
    ]  # fmt: skip


def main() -> None:
    from lessons import lessons

    options = parser(__doc__)
    options.add_argument("names", nargs="*", help="lessons by the beginning of their names (default: all)")
    o = options.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as runs:
        for path in lessons(o.names):
            found.append(measure(path, Path(runs)))
            print(f"{found[-1].name:<26} {found[-1].seconds:6.1f} s", flush=True)
    report(rows(found), o.rows)


if __name__ == "__main__":
    main()
