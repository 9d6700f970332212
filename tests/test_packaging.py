"""One list of dependencies: pyproject.toml, the tested pins and environment.yml say the same."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

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


def pins() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (ROOT / "tests" / "pins.txt").read_text(encoding="utf-8").splitlines():
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
