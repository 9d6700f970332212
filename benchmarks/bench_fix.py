"""How long the repair of a 4.0 GB training file takes, and loading it: side by side with what people do otherwise.

`dav2 fix`, the whole process from its start to its end (write, fsync, proof, fingerprint), is compared with `cp`,
`sync`, `cmp` and `sha256sum` of as many bytes. `load_model` and a first depth map are compared with the well-known
snippet (construct, load, rename, `load_state_dict`) and the same depth map, each in a fresh process, imports not
counted.

All take turns, after a warm-up round; figures are medians and their ratios. With --before, the
`dav2 fix` of another checkout takes its turns, too.

    python benchmarks/bench_fix.py [--folder FOR_THE_BIG_FILE] [--rounds 5] [--before OLDER_CHECKOUT]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from big_file import made_apart, made_small
from side_by_side import FOLDER, ROOT, Row, Run, in_turns, medians, parser, process, report

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


def fix(source: Path, target: Path, checkout: Path | None = None) -> Run:
    """The command, as a whole process; of `checkout`, another copy of the repository, if one is given."""
    words = [sys.executable, "-m", "dav2_utils.cli", "fix", source, "--output", target, "--force"]
    return process("env", f"PYTHONPATH={checkout or ROOT}", *words)


def measure(file: Path, encoder: str, rounds: int, before: Path | None) -> tuple[dict[str, Run], float]:
    """Median seconds and MB of each way, and how many MB the weights are."""

    def python(code: str, *words: object) -> Run:
        run = process(sys.executable, "-c", code, str(file), *map(str, words))
        return Run(float(run.said), run.peak)  # what the process says of itself leaves the imports out

    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        fixed, copy, old = (Path(folder) / f"{name}.pth" for name in ("fixed", "copy", "old"))
        ways = {
            "fix": lambda: fix(file, fixed),
            "cp": lambda: process("sh", "-c", SHELL, "sh", fixed, copy),
            "snippet": lambda: python(SNIPPET, encoder),
            "load_model": lambda: python(OURS),
        }
        if before:
            ways["before"] = lambda: fix(file, old, before)
        return medians(in_turns(ways, rounds)), fixed.stat().st_size / 2**20


def small(file: Path, rounds: int, before: Path | None) -> dict[str, Run]:
    """The same command on a file of 36 MB: mostly the start of the process."""
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        ways = {"small": lambda: fix(file, Path(folder) / "fixed.pth")}
        if before:
            ways["small before"] = lambda: fix(file, Path(folder) / "old.pth", before)
        return medians(in_turns(ways, rounds))


def rows(found: dict[str, Run], weights: float) -> list[Row]:
    fixed, cp, ours, snippet = (found[name] for name in ("fix", "cp", "load_model", "snippet"))
    old, little, little_old = (found.get(name) for name in ("before", "small", "small before"))
    made = [
        Row("dav2 fix to .pth, whole process, fsync and proof included", "at most", 0.5, "times the time",
            fixed.seconds / cp.seconds,
            f"cp, sync, cmp, sha256sum of {weights:.0f} MB: {cp.seconds:.2f} s (ours {fixed.seconds:.2f} s)"),
        Row("dav2 fix, peak memory", "at most", 120, "MB", fixed.peak, f"the weights: {weights:.0f} MB"),
        Row("load_model and a first depth map at 224x224", "at least", 4, "times faster",
            snippet.seconds / ours.seconds,
            f"the well-known snippet: {snippet.seconds:.2f} s (ours {ours.seconds:.2f} s)"),
        Row("load_model, peak memory", "at most", 1.4, "times the weights", ours.peak / weights,
            f"the snippet: {snippet.peak / weights:.2f} times, {snippet.peak:.0f} MB (ours {ours.peak:.0f} MB)"),
    ]  # fmt: skip
    if old:
        made.append(Row("dav2 fix, beside an older one", "at most", 0.5, "of its time", fixed.seconds / old.seconds,
                        f"its own: {old.seconds:.2f} s, {old.peak:.0f} MB (ours {fixed.peak:.0f} MB)"))  # fmt: skip
    if little and little_old:
        made.append(Row("dav2 fix of 36 MB, beside an older one", "at least", 5, "times faster",
                        little_old.seconds / little.seconds,
                        f"the older one: {little_old.seconds:.2f} s (ours {little.seconds:.2f} s)"))  # fmt: skip
    return made


def main() -> None:
    options = parser(__doc__, rounds=5)
    options.add_argument("--folder", type=Path, default=FOLDER)
    options.add_argument("--encoder", default="vitl", help="the goals are about vitl (%(default)s)")
    options.add_argument("--before", type=Path, help="another checkout, whose dav2 fix takes its turns as well")
    o = options.parse_args()
    found, weights = measure(made_apart(o.folder, o.encoder), o.encoder, o.rounds, o.before)
    found |= small(made_small(o.folder), o.rounds, o.before)
    report(rows(found, weights), o.rows)


if __name__ == "__main__":
    main()
