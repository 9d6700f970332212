"""What every measurement shares: ways that take turns, processes on the scales, and a goal as a row of the table."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple, TypeVar

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "benchmarks"  # where the big file lies, so that the next run finds it
T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One goal and its figure. Whether it is reached is worked out from these, so no table can say otherwise."""

    goal: str
    bound: str  # "at least" or "at most"
    limit: float | None  # None: measured for comparison, without a goal
    unit: str
    measured: float | None  # None: it cannot be measured here, and `anchor` says why
    anchor: str  # what the figure was measured beside, in the same run

    @property
    def verdict(self) -> str:
        if self.measured is None:
            return "not measured"
        if self.limit is None:
            return "no goal"
        reached = self.measured >= self.limit if self.bound == "at least" else self.measured <= self.limit
        return "reached" if reached else "not reached"

    def cells(self) -> list[str]:
        target = f"{self.bound} {figure(self.limit)} {self.unit}".rstrip() if self.limit is not None else "-"
        measured = f"{figure(self.measured, self.limit)} {self.unit}".rstrip() if self.measured is not None else "-"
        return [self.goal, target, measured, self.anchor, self.verdict]


def figure(value: float, limit: float | None = None) -> str:
    """Three significant digits; more if a figure that just missed `limit` would look like it."""
    texts = (
        f"{value:.{digits}g}" if abs(value) < 1000 else f"{value:.{max(0, digits - 3)}f}" for digits in range(3, 18)
    )
    return next((text for text in texts if value == limit or float(text) != limit), str(value))


def table(rows: Iterable[Row]) -> str:
    head = ["goal", "target", "measured", "beside it, in the same run", "verdict"]
    lines = [head, ["---"] * len(head), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def read_rows(path: Path) -> list[Row]:
    return [Row(**fields) for fields in json.loads(path.read_text(encoding="utf-8"))]


def report(rows: list[Row], path: Path | None) -> None:
    """The rows as a table; and into `path`, for putting the tables of several scripts together."""
    print(f"\n{table(rows)}")
    if path:
        path.write_text(json.dumps([asdict(row) for row in rows]), encoding="utf-8")


def parser(text: str | None, rounds: int | None = None) -> argparse.ArgumentParser:
    """What every script takes; `rounds` for those that measure in turns."""
    made = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rows", type=Path, metavar="FILE", help="write the rows of the table there as JSON")
    if rounds:
        made.add_argument("--rounds", type=int, default=rounds, help="after a warm-up round (%(default)s)")
    return made


def in_turns(ways: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """What each way gave in each round, taken in turns, so that a busy machine slows all of them.

    A warm-up round before does not count: it brings files into the system's cache, for all ways alike.
    """
    taken: dict[str, list[T]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            result = way()
            if turn:
                taken[name].append(result)
    return taken


class Run(NamedTuple):
    """One whole process, from its start to its end."""

    seconds: float
    peak: float  # MB, mapped files included
    said: str = ""


def medians(taken: Mapping[str, list[Run]]) -> dict[str, Run]:
    return {
        name: Run(median(run.seconds for run in runs), median(run.peak for run in runs)) for name, runs in taken.items()
    }


def process(*words: str | os.PathLike[str], well: tuple[int, ...] = (0,)) -> Run:
    """Runs one process. Raises `SystemExit` where it ends with a status that is not in `well`.

    No process ever reports a smaller peak than the one that started it: weigh processes from a script that has not
    imported torch.
    """
    # An installed package has its byte code beside it; where that is forbidden, ours alone would be compiled each time.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    running = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)
    assert running.stdout is not None
    said = running.stdout.read()
    _, status, usage = os.wait4(running.pid, 0)
    seconds = time.perf_counter() - start
    running.returncode = os.waitstatus_to_exitcode(status)
    if running.returncode not in well:
        raise SystemExit(f"{' '.join(map(str, words))[:200]} ended with status {running.returncode}")
    return Run(seconds, usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10), said)
