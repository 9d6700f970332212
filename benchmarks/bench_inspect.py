"""How long it takes to look into a 4.0 GB training file, and how much memory: `dav2 inspect` against `torch.load`.

Both are whole processes, from the start of Python to its end, in turns, after a warm-up round.
Figures are medians and their ratios.

    python benchmarks/bench_inspect.py [--folder FOR_THE_BIG_FILE] [--rounds 5]
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from big_file import made_apart
from side_by_side import FOLDER, Row, Run, in_turns, medians, parser, process, report

LOAD, INSPECT, DIAGNOSE = "torch.load", "dav2 inspect", "dav2 diagnose"
MODULES = "import sys; print(sum(name.partition('.')[0] == 'torch' for name in sys.modules))"


def ways(file: Path) -> dict[str, list[str]]:
    """Each way as the words of a command."""
    load = f"import torch; torch.load({str(file)!r}, map_location='cpu')['model']"
    return {
        LOAD: [sys.executable, "-c", load],
        INSPECT: [sys.executable, "-m", "dav2_utils.cli", "inspect", str(file)],
        DIAGNOSE: [sys.executable, "-m", "dav2_utils.cli", "diagnose", str(file)],
    }


def measure(file: Path, rounds: int) -> dict[str, Run]:
    """Median seconds and MB of each way. `dav2 diagnose` ends with 1: the file can be fixed."""
    every = {name: partial(process, *words, well=(int(name == DIAGNOSE),)) for name, words in ways(file).items()}
    return medians(in_turns(every, rounds))


def torch_modules(file: Path) -> tuple[int, int]:
    """How many modules of torch are loaded at the end of `dav2 diagnose`, and at the end of `import torch`."""
    quietly = (
        "import contextlib, io\nwith contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
    )
    diagnose = f"{quietly}    from dav2_utils.cli import main; main(['diagnose', {str(file)!r}])\n{MODULES}"
    ours, theirs = (int(process(sys.executable, "-c", code).said) for code in (diagnose, f"import torch; {MODULES}"))
    return ours, theirs


def rows(found: dict[str, Run], modules: tuple[int, int], gigabytes: float) -> list[Row]:
    load, inspect, diagnose = found[LOAD], found[INSPECT], found[DIAGNOSE]
    return [
        Row(f"dav2 inspect of a training file of {gigabytes:.3g} GB, whole process", "at least", 30, "times faster",
            load.seconds / inspect.seconds, f"torch.load: {load.seconds:.2f} s (ours {inspect.seconds:.3f} s)"),
        Row("dav2 inspect, peak memory", "at least", 50, "times smaller",
            load.peak / inspect.peak, f"torch.load: {load.peak:.0f} MB (ours {inspect.peak:.0f} MB)"),
        Row("dav2 diagnose of the same file, whole process", "at least", 30, "times faster",
            load.seconds / diagnose.seconds, f"torch.load: {load.seconds:.2f} s (ours {diagnose.seconds:.3f} s)"),
        Row("dav2 diagnose, modules of torch that it imports", "at most", 0, "", modules[0],
            f"import torch: {modules[1]}"),
    ]  # fmt: skip


def main() -> None:
    options = parser(__doc__, rounds=5)
    options.add_argument("--folder", type=Path, default=FOLDER)
    options.add_argument("--encoder", default="vitl", help="the goals are about vitl (%(default)s)")
    o = options.parse_args()
    file = made_apart(o.folder, o.encoder)
    report(rows(measure(file, o.rounds), torch_modules(file), file.stat().st_size / 1e9), o.rows)


if __name__ == "__main__":
    main()
