"""The table of goals: its verdicts follow from its figures, its limits are those that were set, and its scripts run."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from argparse import Namespace
from collections import Counter
from pathlib import Path
from typing import Any

import bench_explain
import bench_fix
import bench_hub
import bench_inspect
import bench_lessons
import bench_model
import pytest
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


# Every script's rows, from figures of ours beside the same figures of the others ----------------------------------


def explain_rows(ours: float) -> list[Row]:
    counts = Counter({"right first": round(50 / ours), "wrong": 50})
    table = {name: Counter[str]() for name in bench_explain.CAUSES} | {bench_explain.MUST[0]: counts}
    return bench_explain.rows(table, {"pass": Run(1, 9), "explain": Run(ours, 20)})


def inspect_rows(ours: float) -> list[Row]:
    runs = (Run(1, 1), Run(ours, ours), Run(ours, 1))
    names = (bench_inspect.LOAD, bench_inspect.INSPECT, bench_inspect.DIAGNOSE)
    return bench_inspect.rows(dict(zip(names, runs, strict=True)), (int(ours), 700), 4.0)


def fix_rows(ours: float) -> list[Row]:
    mine, other = Run(ours, ours), Run(1, 1)
    return bench_fix.rows({"fix": mine, "cp": other, "load_model": mine, "snippet": other}, 1000)


def model_rows(ours: float) -> list[Row]:
    mine, other = bench_model.Form(ours, ours, ours), bench_model.Form(1, 1, 1)
    names = (bench_model.NAIVE, bench_model.BFLOAT, bench_model.OFFICIAL, bench_model.TRANSFORMERS)
    forms = dict.fromkeys(names, other) | {bench_model.OURS: mine}
    return bench_model.rows(forms, bench_model.Parity(6, ours, 1), Namespace(encoder="vits", size=518))


def scores_rows(ours: float) -> list[Row]:
    mine, other = ({"abs_rel": by, "delta1": 1 / by, "rmse": 1.0} for by in (ours, 1))
    base = [("rooms", scores.BASE), ("streets", scores.TUNED)]
    rest = [("rooms", scores.MEAN), *(("streets", who) for who in (scores.MEAN, scores.BASE, scores.SCALED))]
    found = dict.fromkeys(base, mine) | dict.fromkeys(rest, other)
    return [row for row in scores.rows(found, ours) if row.goal != "embedded weights"]  # a file that is there


def lessons_rows(ours: float) -> list[Row]:
    return bench_lessons.rows([bench_lessons.Lesson("00", ours, int(ours), [int(ours)])])


@pytest.mark.parametrize("made", [explain_rows, inspect_rows, fix_rows, model_rows, scores_rows, lessons_rows])
def test_what_is_worse_looks_worse_in_every_row(made: Any) -> None:
    """No ratio is upside down, or of the wrong two figures."""
    for better, worse in zip(made(2), made(4), strict=True):
        assert (worse.measured > better.measured) == (better.bound == "at most"), better.goal
        assert worse.measured != better.measured, better.goal


# The scripts themselves -------------------------------------------------------------------------------------------


def test_every_script_with_rows_is_run() -> None:
    with_rows = {path.stem for path in FOLDER.glob("*.py") if "report(rows(" in path.read_text(encoding="utf-8")}
    assert with_rows - {"bench_hub"} == set(together.SCRIPTS), "the hub is asked for by name: it installs what it needs"


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


@pytest.mark.long
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


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_a_learner_is_weighed_by_what_carries_the_name(tmp_path: Path) -> None:
    scales = bench_hub.Scales(tmp_path)
    for name in ("one", "other"):
        code = "x = bytearray(30_000_000); print(); input()"
        environment = {**os.environ, "DAV2_LEARNER": f"{tmp_path if name == 'one' else '/elsewhere'}/{name}"}
        process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   env=environment)  # fmt: skip
        assert process.stdout and process.stdout.readline()
        scales.weigh()
        process.communicate(b"\n")
    assert list(scales.peak) == ["one"] and 0.03 < scales.peak["one"] == scales.whole < 0.3
    learners = [bench_hub.Learner(name, "", "") for name in ("one", "two")]
    learners[0].seconds, learners[1].failed = {"server": 1.0, "01": 5.0}, "no"
    found = {row.goal: row for row in bench_hub.rows(learners, 9, scales, "")}
    assert found["learners who did not get through"].verdict == "not reached"
    assert found["the slowest learner"].measured == 6


def test_the_hub_listens_on_this_machine_alone(tmp_path: Path) -> None:
    config = bench_hub.CONFIG.format(ports=[1, 2, 3], hub="/hub", folder=tmp_path, environment={"A": "b"}, token="t")
    compile(config, "config", "exec")
    assert set(re.findall(r"https?://([^:/]+)", config)) == {"127.0.0.1"}
