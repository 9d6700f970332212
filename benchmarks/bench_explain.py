"""How often `explain` names the cause of a failed load from its text, cause by cause; and what a whole process costs.

    python benchmarks/bench_explain.py [--cases FILE] [--details] [--rounds 9]

The cases in `tests/data/failures.json` are rebuilt from what people posted in public threads: often a partial list. The
rules were written with these very cases in view, so the figures flatter; give other cases with `--cases` (a JSON list
of objects with id, error_text, cause, repairable). "right among two": the text allows two readings, and the true one is
the second. For the last twelve causes silence is as good as the right name.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from side_by_side import ROOT, Row, Run, in_turns, medians, parser, process, report

from dav2_utils.diagnosis.causes import CAUSES
from dav2_utils.diagnosis.explain import explain

CASES = ROOT / "tests" / "data" / "failures.json"
MUST = list(CAUSES)[:20]
OUTCOMES = ("right first", "right among two", "silent", "wrong")


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


def print_table(table: dict[str, Counter[str]]) -> None:
    """The table by cause, each group with its sum."""
    print(f"{'cause':24}{'cases':>6}" + "".join(f"{name:>17}" for name in OUTCOMES) + f"{'renaming':>12}")
    for title, names in {"the 20 to recognise": MUST, "the 12 others": list(CAUSES)[20:]}.items():
        for name in [name for name in names if table[name].total()]:
            _line(name, table[name])
        _line(title, together(table, names))


def together(table: dict[str, Counter[str]], names: list[str]) -> Counter[str]:
    return sum((table[name] for name in names), Counter())


def _line(title: str, counts: Counter[str]) -> None:
    cases = sum(counts[name] for name in OUTCOMES)
    shares = "".join(f"{counts[name]:>17}" for name in OUTCOMES)
    print(f"{title:24}{cases:>6}{shares}{counts['flag']:>8}/{cases}")


def long_error() -> str:
    """An error of 50,000 characters, as a model with many blocks under another wrapper gives it."""
    names = [
        f"pretrained.blocks.{i}.{part}" for i in range(40) for part in ("norm1.weight", "attn.qkv.weight", "ls1.gamma")
    ]
    missing = ", ".join(f'"{name}"' for name in names * 5)
    unexpected = ", ".join(f'"module.{name}"' for name in names * 6)
    text = (
        f"Error(s) in loading state_dict for Net:\n\tMissing key(s) in state_dict: {missing}. \n\tUnexpected key(s) in "
    )
    return (text + f"state_dict: {unexpected}. ")[:50_000].ljust(50_000, ".")


def whole_processes(rounds: int) -> dict[str, Run]:
    """Medians of an empty Python process, and of `dav2 explain` with the long error."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "error.txt"
        file.write_text(long_error(), encoding="utf-8")
        ways = {
            "pass": partial(process, sys.executable, "-c", "pass"),
            "explain": partial(process, sys.executable, "-m", "dav2_utils.cli", "explain", str(file)),
        }
        return medians(in_turns(ways, rounds))


def rows(table: dict[str, Counter[str]], found: dict[str, Run]) -> list[Row]:
    must, every = together(table, MUST), together(table, list(table))
    count, cases = (sum(counts[name] for name in OUTCOMES) for counts in (must, every))
    wrong = f"{every['wrong']} of all {cases} wrong, {every['silent']} silent"
    ours, empty = found["explain"].seconds, found["pass"].seconds
    first = 100 * must["right first"] / count if count else None
    return [
        Row("explain: right first among the 20 causes", "at least", None, "%", first,
            f"{must['right first']} of {count} cases; {wrong}"),
        Row("dav2 explain, 50,000 characters, whole process", "at most", 4, "times the time", ours / empty,
            f"python -c pass: {1000 * empty:.0f} ms (ours {1000 * ours:.0f} ms)"),
    ]  # fmt: skip


def details(cases: list[dict[str, Any]]) -> None:
    for case in cases:
        result, flag = outcome(case)
        if result != "right first" or not flag:
            names = ", ".join(cause.cause for cause in explain(case["error_text"]).causes)
            print(
                f"  {result}: {case['id']} is {case['cause']}, read as {names or 'nothing'}"
                + " (renaming)" * (not flag)
            )


def main() -> None:
    options = parser(__doc__, rounds=9)
    options.add_argument("--cases", type=Path, default=CASES)
    options.add_argument("--details", action="store_true", help="print every case that was not right first")
    o = options.parse_args()
    cases = json.loads(o.cases.read_text(encoding="utf-8"))
    found = score(cases)
    print_table(found)
    if o.details:
        details(cases)
    report(rows(found, whole_processes(o.rounds)), o.rows)


if __name__ == "__main__":
    main()
