"""The table of goals: its verdicts follow from its figures, its limits are those that were set, and its scripts run."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from argparse import Namespace
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
import bench_explain
import bench_fix
import bench_inspect
import bench_lessons
import bench_model
import scores
from big_file import big_file
from side_by_side import Row, Run, in_turns, process, read_rows, table

FOLDER = Path(scores.__file__).parent
spec = importlib.util.spec_from_file_location("all_benchmarks", FOLDER / "__main__.py")
together: Any = importlib.util.module_from_spec(spec)
spec.loader.exec_module(together)


@pytest.mark.parametrize(
    ("bound", "limit", "measured", "verdict"),
    [
        ("at least", 30, 30.0, "reached"),
        ("at least", 30, 29.999, "not reached"),
        ("at most", 1.2, 1.2, "reached"),
        ("at most", 1.2, 1.2001, "not reached"),
        ("at most", 0, 0, "reached"),
        ("at most", 0, 1, "not reached"),
        ("at least", 1.7, None, "not measured"),
        ("at least", None, 1.5, "no goal"),
        ("at least", 30, float("nan"), "not reached"),
    ],
)
def test_the_verdict_follows_from_the_figure(bound: str, limit: Any, measured: Any, verdict: str) -> None:
    assert Row("a goal", bound, limit, "times", measured, "beside").cells()[-1] == verdict


@pytest.mark.parametrize(
    ("limit", "measured", "shown"),
    [(1.2, 1.2, "1.2"), (1.2, 1.20004, "1.20004"), (30, 41.23, "41.2"), (300, 4112.4, "4112"),
     (1e-5, 8.147e-6, "8.15e-06"), (0.95, 0.9499, "0.9499"), (2000, 2000.04, "2000.04"), (None, 1.5, "1.5")],
)  # fmt: skip
def test_what_just_missed_its_goal_does_not_look_like_it(limit: Any, measured: float, shown: str) -> None:
    assert Row("a goal", "at most", limit, "", measured, "").cells()[2] == shown


def test_every_line_of_the_table_has_its_five_cells() -> None:
    lines = table([Row("a", "at least", 2, "s", 3, "x | y"), Row("b", "at most", None, "", None, "not here")]).split(
        "\n"
    )
    assert [line.count("|") for line in lines] == [6] * 4
    assert lines[2] == "| a | at least 2 s | 3 s | x / y | reached |"
    assert lines[3] == "| b | - | - | not here | not measured |"


def test_ways_take_turns_and_the_first_round_counts_for_nothing() -> None:
    calls: list[str] = []
    ways = {name: lambda name=name: calls.append(name) or len(calls) for name in "ab"}
    assert in_turns(ways, 2) == {"a": [3, 5], "b": [4, 6]}
    assert "".join(calls) == "ababab"


def test_a_process_is_timed_weighed_and_heard() -> None:
    run = process(sys.executable, "-c", "b = bytearray(300 << 20); print('said')")
    assert run.said == "said\n" and run.seconds > 0 and 300 < run.peak < 2000
    with pytest.raises(SystemExit, match="ended with status 3"):
        process(sys.executable, "-c", "raise SystemExit(3)")


# Every script's rows from made-up figures: `good` 1 meets each goal exactly, a little less meets none -----------------


def explain_rows(good: float) -> list[Row]:
    cause = bench_explain.MUST[0]
    counts = {cause: Counter({"right first": round(95 * good), "wrong": 100 - round(95 * good)})}
    table = {name: counts.get(name, Counter()) for name in bench_explain.CAUSES}
    return bench_explain.rows(table, {"pass": Run(0.125 * good, 9), "explain": Run(1.25, 20)})


def inspect_rows(good: float) -> list[Row]:
    names = (bench_inspect.LOAD, bench_inspect.INSPECT, bench_inspect.DIAGNOSE)
    runs = (Run(30 * good, 5000 * good), Run(1, 100), Run(3, 100))
    return bench_inspect.rows(dict(zip(names, runs, strict=True)), (int(good < 1), 700), 4.0)


def fix_rows(good: float) -> list[Row]:
    runs = {"fix": Run(1.2, 300 / good), "cp": Run(good, 1), "load_model": Run(1, 1400), "snippet": Run(4 * good, 5000)}
    return bench_fix.rows(runs, 1000 * good)


def model_rows(good: float) -> list[Row]:
    form = bench_model.Form
    forms = {
        bench_model.NAIVE: form(17 * good, 800 * good, 0),
        bench_model.OURS: form(10, 800, 1e-5 / good),
        bench_model.BFLOAT: form(5, 700, 1e-2),
        bench_model.OFFICIAL: form(17 * good, 800, 0),
    }
    return bench_model.rows(forms, bench_model.Parity(6, 2e-4 / good, 1e-2), Namespace(encoder="vits", size=518))


def scores_rows(good: float) -> list[Row]:
    def one(abs_rel: float, delta1: float) -> dict[str, float]:
        return {"abs_rel": abs_rel, "delta1": delta1, "rmse": 1.0}

    found = {
        ("rooms", scores.MEAN): one(0.375, 0.5),
        ("rooms", scores.BASE): one(0.125 / good, 0.95 * good),
        ("streets", scores.MEAN): one(0.5, 0.5),
        ("streets", scores.BASE): one(0.75, 0.1),
        ("streets", scores.SCALED): one(0.25 * good, 0.1),
        ("streets", scores.TUNED): one(0.125, 0.95 * good),
    }
    return scores.rows(found, 20 / good)


def lessons_rows(good: float) -> list[Row]:
    seconds = (60, 20, 20, 20, 20, 20, 20)
    cells = [6 if good == 1 else 7, 20 if good == 1 else 21, 5 if good == 1 else 7]
    return bench_lessons.rows(
        [bench_lessons.Lesson(f"0{i}", s / good, int(5e5 / good), cells) for i, s in enumerate(seconds)]
    )


EXPECTED = {
    explain_rows: [("at least", 95), ("at most", 10)],
    inspect_rows: [("at least", 30), ("at least", 50), ("at least", 10), ("at most", 0)],
    fix_rows: [("at most", 1.2), ("at most", 300), ("at least", 4), ("at most", 1.4)],
    model_rows: [("at least", 1.7), ("at most", 1e-5), ("at most", 1), ("at most", 2e-4), ("at least", 1.7),
                 ("at least", None)],
    scores_rows: [("at most", 1 / 3), ("at least", 0.95), ("at least", 0.95), ("at least", 2), ("at most", 20),
                  ("at most", 8)],
    lessons_rows: [("at most", 60), ("at most", 20), ("at most", 180), ("at most", 500), ("at most", 6),
                   ("at most", 20)],
}  # fmt: skip


@pytest.mark.parametrize("made", EXPECTED, ids=lambda made: made.__name__)
def test_the_limits_are_those_that_were_set(made: Any) -> None:
    assert [(row.bound, row.limit) for row in made(1)] == EXPECTED[made]


@pytest.mark.parametrize("made", EXPECTED, ids=lambda made: made.__name__)
def test_a_goal_that_is_just_met_is_reached_and_one_that_is_just_missed_is_not(made: Any) -> None:
    fixed = {"embedded weights"}  # the size of a file that is there
    assert {row.verdict for row in made(1) if row.limit is not None} == {"reached"}
    missed = {row.goal: row.verdict for row in made(0.96) if row.limit is not None and row.goal not in fixed}
    assert set(missed.values()) == {"not reached"}, missed


# The scripts themselves -------------------------------------------------------------------------------------------


def test_every_script_with_rows_is_run() -> None:
    assert {path.stem for path in FOLDER.glob("*.py") if "report(rows(" in path.read_text(encoding="utf-8")} == set(
        together.SCRIPTS
    )


def test_scripts_that_weigh_processes_do_not_load_torch() -> None:
    """A process starts with the peak of the one that started it."""
    code = "import runpy, sys; import bench_inspect, bench_fix, bench_model; runpy.run_path('__main__.py'); "
    code += "print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=FOLDER, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_the_table_of_a_small_run(tmp_path: Path) -> None:
    words = [sys.executable, str(FOLDER), "bench_explain", "--small", "--folder", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "cores" in done.stdout.splitlines()[0] and "torch 2" in done.stdout.splitlines()[0]
    assert done.stderr.startswith("[1/1] bench_explain ... ")
    rows = read_rows(tmp_path / "bench_explain.json")
    assert [row.measured is not None for row in rows] == [True, True]
    assert table(rows) in done.stdout
    assert "the 20 to recognise" in (tmp_path / "bench_explain.txt").read_text(encoding="utf-8")


def test_looking_is_measured_on_a_small_file(tmp_path: Path) -> None:
    big_file(tmp_path, "tiny")
    rows = tmp_path / "rows.json"
    words = [sys.executable, str(FOLDER / "bench_inspect.py"), "--folder", str(tmp_path), "--encoder", "tiny"]
    subprocess.run([*words, "--rounds", "1", "--rows", str(rows)], stdout=subprocess.DEVNULL, check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.json", "tiny_latest.pth"]
    faster, smaller, diagnosed, modules = read_rows(rows)
    assert min(faster.measured, smaller.measured, diagnosed.measured) > 1 and modules.measured == 0


def test_a_script_that_fails_is_a_row_and_the_exit_status(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    (tmp_path / "broken.py").write_text("raise SystemExit('the disk is full')")
    row = Row("a goal", "at least", 2, "times", 1, "beside")
    good = f"import pathlib, sys; pathlib.Path(sys.argv[2]).write_text({json.dumps([vars(row)])!r})"
    (tmp_path / "missed.py").write_text(good)
    monkeypatch.setattr(together, "HERE", tmp_path)
    monkeypatch.setattr(together, "SCRIPTS", {"broken": "", "missed": ""})
    assert together.main(["--folder", str(tmp_path / "made")]) == 1
    said, progress = capsys.readouterr()
    assert "| broken | - | - | it failed: the disk is full The script ended with status 1 | not measured |" in said
    assert "[1/2] broken ... FAILED" in progress and (tmp_path / "made" / "broken.txt").exists()
    assert "| a goal | at least 2 times | 1 times | beside | not reached |" in said
    assert together.main(["missed", "--folder", str(tmp_path / "made")]) == 0, "a goal that is missed is no failure"
