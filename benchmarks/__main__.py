"""Every goal of this project next to what is measured here, in one table: `python benchmarks`, or `make bench`.

    python benchmarks [--small] [NAME ...]      NAME: a script of this folder, such as bench_explain

Each script runs in its own process, one after the other; a line for each goes to standard error, and the rest of what
it prints into build/benchmarks. A missed goal is a row that says so. The exit status is 1 only if a script itself
failed. All of it takes several minutes, 7 GB on the disk and 6 GB of memory; the file of 4 GB stays in build/benchmarks
for the next time, until `make clean`.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

from side_by_side import FOLDER, Row, read_rows, table

HERE = Path(__file__).resolve().parent
# Each script, and what makes it quick, for checking that it runs.
SCRIPTS = {
    "bench_inspect": "--encoder tiny --rounds 1",
    "bench_fix": "--encoder tiny --rounds 1",
    "bench_explain": "--rounds 1",
    "bench_failures": "--half a --every 1 --net resnet18 --ways 1",
    "bench_model": "--size 126 --rounds 1 --weighings 1",
    "scores": "--count 4 --steps 2",
    "bench_lessons": "00",
}


def run(script: Path, options: list[str], folder: Path) -> list[Row] | None:
    """The rows of one script; None if it fails. What it prints goes into `folder`, under its name."""
    rows, log = folder / f"{script.stem}.json", folder / f"{script.stem}.txt"
    rows.unlink(missing_ok=True)
    with log.open("w", encoding="utf-8") as out:
        words = [sys.executable, str(script), "--rows", str(rows), *options]
        status = subprocess.run(words, stdout=out, stderr=subprocess.STDOUT, check=False).returncode
        if status:
            print(f"\nThe script ended with status {status}", file=out)
    return None if status else read_rows(rows)


def failure(name: str, folder: Path) -> Row:
    said = (folder / f"{name}.txt").read_text(encoding="utf-8", errors="replace").split("\n")
    last = " ".join([line for line in said if line.strip()][-2:])
    return Row(name, "at least", None, "", None, f"it failed: {last[-200:]}")


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(SCRIPTS)} (default: all)")
    parser.add_argument(
        "--small", action="store_true", help="only to see that everything runs: the figures say nothing"
    )
    parser.add_argument("--folder", type=Path, default=FOLDER, help="for what the scripts print (%(default)s)")
    o = parser.parse_args(arguments)
    if unknown := set(o.names) - set(SCRIPTS):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(SCRIPTS)}")
    o.folder.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    broken = 0
    for number, name in enumerate(chosen := o.names or list(SCRIPTS), 1):
        print(f"[{number}/{len(chosen)}] {name} ...", end="", flush=True, file=sys.stderr)
        start = time.monotonic()
        found = run(HERE / f"{name}.py", SCRIPTS[name].split() if o.small else [], o.folder)
        broken += found is None
        rows += found or [failure(name, o.folder)]
        how = f"FAILED, {o.folder / name}.txt says why, after " if found is None else ""
        print(f" {how}{time.monotonic() - start:.0f} s", flush=True, file=sys.stderr)
    small = " Small sizes: the figures say nothing about the goals." if o.small else ""
    print(f"{cores()} cores, Python {platform.python_version()}, torch {version('torch')}.{small}\n\n{table(rows)}")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
