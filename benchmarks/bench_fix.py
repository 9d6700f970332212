"""How long the repair of a 4.0 GB training file takes, and loading it: side by side with what people do otherwise.

`dav2 fix` (write, fsync, proof, fingerprint; the import of torch not counted) stands beside `cp`, `sync`, `cmp` and
`sha256sum` of as many bytes. `load_model` and a first depth map stand beside the well-known snippet (construct, load,
rename, `load_state_dict`) and the same depth map, each in a fresh process, imports not counted. All in turns, after
one round that counts for nothing. Figures are medians and their ratios. Linux alone says how much memory is anonymous.

    python benchmarks/bench_fix.py [--folder FOR_THE_BIG_FILE] [--rounds 5]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from big_file import made_apart
from side_by_side import FOLDER, Row, Run, in_turns, medians, parser, process, report

FIX = """
import sys, threading, time
from dav2_utils.fixing import fix_file
def status(field):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(field)) / 1024
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
PICTURE = "import cv2, numpy as np; image = np.random.default_rng(0).integers(0, 255, (224, 224, 3), dtype=np.uint8)\n"
SNIPPET = (
    PICTURE
    + """
import sys, time, torch
from dav2_utils import DepthAnythingV2, model_configs
start = time.perf_counter()
model = DepthAnythingV2(**model_configs[sys.argv[2]], max_depth=80)
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
from dav2_utils import load_model
start = time.perf_counter()
load_model(sys.argv[1], max_depth=80).infer_image(image, 224)
print(time.perf_counter() - start)
"""
)


def measure(file: Path, encoder: str, rounds: int) -> tuple[dict[str, Run], float]:
    """Median seconds and MB of each way, and how many MB the weights are. The peak of `fix` is of anonymous memory."""

    def python(code: str, *words: object) -> Run:
        run = process(sys.executable, "-c", code, str(file), *map(str, words))
        seconds, *peak = map(float, run.said.split())  # what the process says of itself leaves the imports out
        return Run(seconds, *(peak or [run.peak]))

    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        fixed, copy = Path(folder) / "fixed.pth", Path(folder) / "copy.pth"
        ways = {
            "fix": lambda: python(FIX, fixed),
            "cp": lambda: process("sh", "-c", SHELL, "sh", fixed, copy),
            "snippet": lambda: python(SNIPPET, encoder),
            "load_model": lambda: python(OURS),
        }
        return medians(in_turns(ways, rounds)), fixed.stat().st_size / 2**20


def rows(found: dict[str, Run], weights: float) -> list[Row]:
    fix, cp, ours, snippet = (found[name] for name in ("fix", "cp", "load_model", "snippet"))
    return [
        Row("dav2 fix to .pth, fsync, proof and fingerprint included", "at most", 1.2, "times the time",
            fix.seconds / cp.seconds,
            f"cp, sync, cmp, sha256sum of {weights:.0f} MB: {cp.seconds:.2f} s (ours {fix.seconds:.2f} s)"),
        Row("dav2 fix, anonymous memory", "at most", 300, "MB", fix.peak, f"the weights: {weights:.0f} MB"),
        Row("load_model and a first depth map at 224x224", "at least", 4, "times faster",
            snippet.seconds / ours.seconds,
            f"the well-known snippet: {snippet.seconds:.2f} s (ours {ours.seconds:.2f} s)"),
        Row("load_model, peak memory, mapped file included", "at most", 1.4, "times the weights", ours.peak / weights,
            f"the snippet: {snippet.peak / weights:.2f} times, {snippet.peak:.0f} MB (ours {ours.peak:.0f} MB)"),
    ]  # fmt: skip


def main() -> None:
    options = parser(__doc__, rounds=5)
    options.add_argument("--folder", type=Path, default=FOLDER)
    options.add_argument("--encoder", default="vitl", help="vitl is what the goals speak of (%(default)s)")
    o = options.parse_args()
    report(rows(*measure(made_apart(o.folder, o.encoder), o.encoder, o.rounds)), o.rows)


if __name__ == "__main__":
    main()
