"""How often `explain` names the cause of a failed load from its text, cause by cause; and what a whole process costs.

    python benchmarks/bench_explain.py [--cases FILE] [--details] [--rounds 9]

The cases in `tests/data/failures.json` are rebuilt from what people posted in public threads: often a partial list.
The rules were made looking at these very cases, so the figures flatter; give other cases with `--cases` (a JSON list
of objects with id, error_text, cause, repairable). "right among two": the text allows two readings, and the true one
is the second. For the last twelve causes silence is as good as the right name.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

from dav2_utils.causes import CAUSES
from dav2_utils.explanation import explain

CASES = Path(__file__).resolve().parent.parent / "tests" / "data" / "failures.json"
MUST = list(CAUSES)[:20]
OUTCOMES = ("right first", "right among two", "silent", "wrong")
GOAL_FIRST, GOAL_TIMES = 95, 10  # per cent of the 20; times an empty Python process


def outcome(case: dict[str, Any]) -> tuple[str, bool]:
    """How a case came out, and whether the answer to "does renaming alone repair it?" was right."""
    found = explain(case["error_text"]).causes
    names = [cause.cause for cause in found]
    flag = bool(found) and found[0].repairable_by_renaming
    truth = case.get("repairable", case.get("repairable_by_renaming"))
    if not names:
        result = "silent"
    elif names[0] == case["cause"]:
        result = "right first"
    else:
        result = "right among two" if case["cause"] in names else "wrong"
    return result, flag == truth


def score(cases: list[dict[str, Any]]) -> dict[str, Counter[str]]:
    """Cause -> how many cases came out how; `flag` counts the right answers about renaming."""
    table: dict[str, Counter[str]] = {name: Counter() for name in CAUSES}
    for case in cases:
        result, flag = outcome(case)
        table[case["cause"]].update([result] + ["flag"] * flag)
    return table


def print_table(table: dict[str, Counter[str]]) -> float:
    """The table by cause, and under it the two sums; gives the share of the 20 that were right first, in per cent."""
    print(f"{'cause':24}{'cases':>6}" + "".join(f"{name:>17}" for name in OUTCOMES) + f"{'renaming':>12}")
    groups = {"the 20 to recognise": MUST, "the 12 others": [name for name in CAUSES if name not in MUST]}
    share = 0.0
    for title, names in groups.items():
        for name in [name for name in names if table[name].total()]:
            _line(name, table[name])
        total = sum((table[name] for name in names), Counter())
        count = sum(total[name] for name in OUTCOMES)
        _line(title, total)
        if names is MUST and count:
            share = 100 * total["right first"] / count
    return share


def _line(title: str, counts: Counter[str]) -> None:
    cases = sum(counts[name] for name in OUTCOMES)
    shares = "".join(f"{counts[name]:>17}" for name in OUTCOMES)
    print(f"{title:24}{cases:>6}{shares}{counts['flag']:>8}/{cases}")


def process_ratio(rounds: int = 9) -> tuple[float, float]:
    """Medians in milliseconds, in turns: `python -c pass`, and `dav2 explain` with an error of 50,000 characters."""
    names = [
        f"pretrained.blocks.{i}.{part}" for i in range(40) for part in ("norm1.weight", "attn.qkv.weight", "ls1.gamma")
    ]
    missing = ", ".join(f'"{name}"' for name in names * 5)
    unexpected = ", ".join(f'"module.{name}"' for name in names * 6)
    text = (
        f"Error(s) in loading state_dict for Net:\n\tMissing key(s) in state_dict: {missing}. \n\tUnexpected key(s) in "
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "error.txt"
        file.write_text((text + f"state_dict: {unexpected}. ")[:50_000].ljust(50_000, "."), encoding="utf-8")
        ways = ([sys.executable, "-c", "pass"], [sys.executable, "-m", "dav2_utils.cli", "explain", str(file)])
        seconds: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds + 1):
            for words, taken in zip(ways, seconds, strict=True):
                start = time.perf_counter()
                subprocess.run(words, stdout=subprocess.DEVNULL, check=False)
                taken.append(time.perf_counter() - start)
    return 1000 * median(seconds[0][1:]), 1000 * median(seconds[1][1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=Path, default=CASES)
    parser.add_argument("--details", action="store_true", help="print every case that was not right first")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    cases = json.loads(options.cases.read_text(encoding="utf-8"))
    share = print_table(score(cases))
    for case in cases if options.details else []:
        result, flag = outcome(case)
        if result != "right first" or not flag:
            names = ", ".join(cause.cause for cause in explain(case["error_text"]).causes)
            print(
                f"  {result}: {case['id']} is {case['cause']}, read as {names or 'nothing'}"
                + " (renaming)" * (not flag)
            )
    print(f"right first among the 20: {share:.1f} % (goal: {GOAL_FIRST} %)")
    empty, whole = process_ratio(options.rounds)
    print(f"whole process, 50,000 characters: {whole:.0f} ms, {whole / empty:.1f} x `python -c pass` ({empty:.0f} ms; "
          f"goal: at most {GOAL_TIMES} x)")  # fmt: skip


if __name__ == "__main__":
    main()
