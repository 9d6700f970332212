"""How long it takes to look into a 4.0 GB training file, and how much memory: `dav2 inspect` against `torch.load`.

Both are whole processes, from the start of Python to its end, in turns, after one round that counts for nothing (it
brings the file into the system's cache for both). Printed are medians and their ratios.

    python benchmarks/bench_inspect.py [FOLDER for the big file, default build/benchmarks] [rounds, default 5]
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
GOALS = {"inspect": (30, 50), "diagnose": (10, None)}


def whole_process(words: list[str]) -> tuple[float, float]:
    """Seconds and peak memory in MB of one process.

    The peak that Linux reports is never below that of the process which started it, so this one stays small: it does
    not import torch.
    """
    start = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(words[:4])} ended with status {process.returncode}")
    return seconds, usage.ru_maxrss / 1024


def measure(file: Path, rounds: int = 5) -> dict[str, tuple[float, float]]:
    """Median seconds and MB of each way, measured in turns."""
    load = f"import torch; torch.load({str(file)!r}, map_location='cpu')['model']"
    ways = {
        "torch.load": [sys.executable, "-c", load],
        "inspect": [sys.executable, "-m", "dav2_utils.cli", "inspect", str(file)],
        "diagnose": [sys.executable, "-m", "dav2_utils.cli", "diagnose", str(file)],
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, words in ways.items():
            result = whole_process(words)
            if turn:
                taken[name].append(result)
    return {name: (median(s for s, _ in runs), median(m for _, m in runs)) for name, runs in taken.items()}


def main(folder: str = "build/benchmarks", rounds: str = "5") -> int:
    made = subprocess.run(
        [sys.executable, str(HERE / "big_file.py"), folder], capture_output=True, text=True, check=True
    )
    found = measure(Path(made.stdout.strip()), int(rounds))
    print(f"{'whole process':<14}{'seconds':>9}{'peak MB':>9}{'faster':>9}{'smaller':>9}   goal")
    missed = 0
    for name, (seconds, peak) in found.items():
        faster, smaller = found["torch.load"][0] / seconds, found["torch.load"][1] / peak
        fast, small = GOALS.get(name, (None, None))
        missed += (faster < (fast or 0)) + (smaller < (small or 0))
        goal = f"{fast} times faster{f', 1/{small} of the memory' if small else ''}" if fast else "the measure"
        print(f"{name:<14}{seconds:>9.3f}{peak:>9.1f}{faster:>9.1f}{smaller:>9.1f}   {goal}")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
