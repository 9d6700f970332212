"""How long the repair of a 4.0 GB training file takes, and loading it: side by side with what people do otherwise.

`dav2 fix` (write, fsync, proof, fingerprint; the import of torch not counted) stands beside `cp`, `sync`, `cmp` and
`sha256sum` of as many bytes. `load_model` and a first depth map stand beside the well-known snippet (construct, load,
rename, `load_state_dict`) and the same depth map, each in a fresh process, imports not counted. All in turns, after
one round that counts for nothing; printed are medians and their ratios.

    python benchmarks/bench_fix.py [FOLDER for the big file, default build/benchmarks] [rounds, default 5]
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent

FIX = """
import sys, time, resource
from dav2_utils.fixing import fix_file
def status(field):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(field)) / 1024
import threading
peak, over = [0.0], threading.Event()
def watch():
    while not over.wait(0.02):
        peak[0] = max(peak[0], status("RssAnon"))
threading.Thread(target=watch, daemon=True).start()
start = time.perf_counter()
done = fix_file(sys.argv[1], output=sys.argv[2], force=True)
seconds = time.perf_counter() - start
over.set()
assert done.status == "fixed" and done.identical, done.reason
print(seconds, peak[0])
"""
SHELL = 'cp "$1" "$2" && sync "$2" && cmp "$1" "$2" && sha256sum "$2"'
PICTURE = "import numpy as np; image = np.random.default_rng(0).integers(0, 255, (224, 224, 3), dtype=np.uint8)\n"
SNIPPET = (
    PICTURE
    + """
import sys, time, torch
from dav2_utils.model import DepthAnythingV2
start = time.perf_counter()
model = DepthAnythingV2(encoder="vitl", features=256, out_channels=[256, 512, 1024, 1024], max_depth=80)
state = torch.load(sys.argv[1], map_location="cpu")["model"]
model.load_state_dict({name.replace("module.", ""): tensor for name, tensor in state.items()})
model.eval().infer_image(image, 224)
print(time.perf_counter() - start)
"""
)
OURS = (
    PICTURE
    + """
import sys, time
from dav2_utils.repair import load_model
start = time.perf_counter()
load_model(sys.argv[1], max_depth=80).infer_image(image, 224)
print(time.perf_counter() - start)
"""
)


def process(words: list[str]) -> tuple[float, float, str]:
    """Seconds, peak memory in MB (mapped files included) and output of one process."""
    start = time.perf_counter()
    running = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    said = running.stdout.read()
    _, status, usage = os.wait4(running.pid, 0)
    seconds = time.perf_counter() - start
    running.returncode = os.waitstatus_to_exitcode(status)
    if running.returncode:
        raise SystemExit(f"{' '.join(words)[:200]} ended with status {running.returncode}")
    return seconds, usage.ru_maxrss / 1024, said


def measure(file: Path, rounds: int) -> dict[str, list[tuple[float, float]]]:
    fixed, copy = file.with_name("bench.fixed.pth"), file.with_name("bench.copy.pth")
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ("cp", "fix", "snippet", "load_model")}
    for turn in range(rounds + 1):
        seconds, anonymous = map(float, process([sys.executable, "-c", FIX, str(file), str(fixed)])[2].split())
        copied = process(["sh", "-c", SHELL, "sh", str(fixed), str(copy)])
        snippet = process([sys.executable, "-c", SNIPPET, str(file)])
        ours = process([sys.executable, "-c", OURS, str(file)])
        if turn:
            taken["fix"].append((seconds, anonymous))
            taken["cp"].append(copied[:2])
            for name, run in (("snippet", snippet), ("load_model", ours)):
                taken[name].append((float(run[2]), run[1]))
    weights = fixed.stat().st_size / 2**20
    for path in (fixed, copy, Path(f"{fixed}.json")):
        path.unlink()
    return taken | {"weights": [(0.0, weights)]}


def main(folder: str = "build/benchmarks", rounds: str = "5") -> int:
    made = subprocess.run(
        [sys.executable, str(HERE / "big_file.py"), folder], stdout=subprocess.PIPE, text=True, check=True
    )
    runs = measure(Path(made.stdout.strip()), int(rounds))
    (cp, _), (fix, anonymous), (snippet, much), (ours, peak), (_, weights) = (
        (median(s for s, _ in runs[name]), median(m for _, m in runs[name]))
        for name in ("cp", "fix", "snippet", "load_model", "weights")
    )
    print(f"cp, sync, cmp, sha256sum   {cp:6.2f} s")
    print(f"dav2 fix                   {fix:6.2f} s   {fix / cp:.2f} times (goal: at most 1.2)   "
          f"{anonymous:.0f} MB anonymous memory (goal: under 300)")  # fmt: skip
    print(f"the snippet, first map     {snippet:6.2f} s   {much:6.0f} MB")
    print(f"load_model, first map      {ours:6.2f} s   {peak:6.0f} MB   {snippet / ours:.1f} times faster (goal: 4), "
          f"peak {peak / weights:.2f} times the weights (goal: at most 1.4)")  # fmt: skip
    return int(fix > 1.2 * cp or anonymous >= 300 or snippet < 4 * ours or peak > 1.4 * weights)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
