"""One list of dependencies: pyproject.toml, the tested pins and environment.yml say the same."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dav2_utils.environment import check_environment

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ENVIRONMENT = (ROOT / "environment.yml").read_text(encoding="utf-8")


def lower_bounds() -> dict[str, str]:
    extras = PROJECT["optional-dependencies"]
    listed = [*PROJECT["dependencies"], *extras["lessons"], *extras["test"]]
    return dict(re.fullmatch(r"([\w-]+)>=([\w.]+)", line).groups() for line in listed)


def pins(file: str = "pins.txt") -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (ROOT / "tests" / file).read_text(encoding="utf-8").splitlines():
        match = re.match(r"([\w-]+)==([\w.]+)", line)
        if match:
            found.setdefault(match[1], []).append(match[2])
    return found


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))


def test_every_dependency_is_pinned_at_or_above_its_lower_bound() -> None:
    for name, lowest in lower_bounds().items():
        assert name in pins(), f"{name} has no tested version in tests/pins.txt"
        assert all(numbers(pin) >= numbers(lowest) for pin in pins()[name])


def test_the_floors_are_the_lower_bounds() -> None:
    bounds = {name: (*numbers(bound), 0, 0)[:3] for name, bound in lower_bounds().items()}
    tools = {line.split(">=")[0] for line in PROJECT["optional-dependencies"]["test"]}
    floors = pins("floors.txt")
    assert set(floors) >= set(bounds) - tools - {"torch"}
    for name, found in floors.items():
        assert [numbers(floor)[:3] for floor in found] == [bounds[name]], name  # a fourth number is a mere build


def test_every_dependency_says_what_it_is_for() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for name in lower_bounds():
        assert re.search(rf'^    "{re.escape(name)}>=[\d.]+", +# \w', text, re.MULTILINE), name


def pip_part() -> list[str]:
    return re.findall(r"^      - (.+)$", ENVIRONMENT.split("- pip:\n")[1], re.MULTILINE)


def test_environment_yml_has_no_list_of_its_own() -> None:
    assert pip_part() == ["-c tests/pins.txt", "-e .[lessons]"]
    python = re.search(r"python=(\d+\.\d+)", ENVIRONMENT)
    assert python and numbers(python[1]) >= (3, 10)


def test_the_workflow_begins_with_the_oldest_python() -> None:
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    oldest, newest = re.findall(r'"(3\.\d+)"', workflow)
    assert PROJECT["requires-python"] == f">={oldest}" and numbers(newest) > numbers(oldest)


def test_the_lessons_extra_is_what_the_mission_names() -> None:
    assert {"torch", "jupyterlab", "matplotlib", "ipywidgets", "opencv-python"} <= set(lower_bounds())


@pytest.mark.skipif(not os.environ.get("CI"), reason="takes minutes and a network; CI does it")
def test_the_pip_part_of_environment_yml_installs(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    (ROOT / ".condaenv.test.txt").write_text("\n".join(pip_part()) + "\n")  # conda writes such a file, there
    try:
        command = [python, "-m", "pip", "install", "--quiet", "-r", ".condaenv.test.txt"]
        subprocess.run(command, check=True, cwd=ROOT)
    finally:
        (ROOT / ".condaenv.test.txt").unlink()
    code = "import dav2_utils, torch, cv2, jupyterlab; print(dav2_utils.ENCODERS['vits'].width)"
    done = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "384"


def test_check_takes_opencv_without_graphics_for_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version

    def headless(name: str) -> str:
        if name == "opencv-python":
            raise importlib.metadata.PackageNotFoundError(name)
        return "5.0.0" if name == "opencv-python-headless" else version(name)

    monkeypatch.setattr(importlib.metadata, "version", headless)
    row = next(row for row in check_environment() if row.name == "opencv-python")
    assert (row.verdict, row.found) == ("ok", "5.0.0")


@pytest.fixture
def set_up(tmp_path: Path) -> Callable[[], str]:
    """What `make lab` would do in a copy of the repository's set-up files."""
    if shutil.which("make") is None:
        pytest.skip("needs make")
    for name in ("Makefile", "pyproject.toml", "tests/pins.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "MAKE"))}

    def plan() -> str:
        words = ["make", "-n", "lab"]
        return subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout

    return plan


def test_a_set_up_that_was_interrupted_begins_again(set_up: Callable[[], str], tmp_path: Path) -> None:
    (tmp_path / ".venv" / "bin" / "python").touch()  # venv makes it first, and pip last
    assert "-m venv .venv" in set_up()


def test_a_set_up_that_is_done_is_not_done_again(set_up: Callable[[], str], tmp_path: Path) -> None:
    for name in ("bin/python", "bin/pip", "lessons.stamp"):
        (tmp_path / ".venv" / name).touch()
    assert "venv .venv" not in set_up() and "pip install" not in set_up()
