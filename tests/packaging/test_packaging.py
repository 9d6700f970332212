"""One list of dependencies: pyproject.toml, the tested pins and environment.yml say the same."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from dav2_utils.environment import check_environment

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
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


def environment_yml() -> tuple[dict[str, str], list[str]]:
    """What conda brings, each by pip's name with its bound, and the lines for pip."""
    conda, pip = ENVIRONMENT.split("- pip:\n")
    bounds = dict(re.findall(r"^  - ([\w-]+)>=([\d.]+)$", conda, re.MULTILINE))
    return {{"pytorch": "torch"}.get(name, name): bound for name, bound in bounds.items()}, re.findall("- (.+)", pip)


def test_environment_yml_has_the_bounds_of_pyproject() -> None:
    conda, (opencv, own) = environment_yml()
    extras = PROJECT["optional-dependencies"]
    assert sorted([f"{name}>={bound}" for name, bound in conda.items()] + [opencv]) == sorted(
        [*PROJECT["dependencies"], *extras["lessons"]]
    )
    assert own == "-e .[lessons]"
    python = re.search(r"python=(\d+\.\d+)", ENVIRONMENT)
    assert python and numbers(python[1]) >= (3, 10)


def test_the_workflow_begins_with_the_oldest_python() -> None:
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    oldest, newest = re.findall(r'"(3\.\d+)"', workflow)
    assert PROJECT["requires-python"] == f">={oldest}" and numbers(newest) > numbers(oldest)


def test_the_lessons_extra_is_what_the_mission_names() -> None:
    assert {"torch", "jupyterlab", "matplotlib", "ipywidgets", "opencv-python"} <= set(lower_bounds())


def with_dependencies(names: list[str]) -> set[str]:
    """These distributions and all that they need, as the environment that runs this has them."""
    found: set[tuple[str, str]] = set()
    left = [(name, "") for name in names]
    while left:
        name, extra = left.pop()
        if (name, extra) in found:
            continue
        found.add((name, extra))
        for needed in map(Requirement, importlib.metadata.distribution(name).requires or []):
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                left += [(needed.name, more) for more in ("", *needed.extras)]
    return {name for name, _ in found}


@pytest.mark.long
@pytest.mark.skipif(not os.environ.get("CI"), reason="needs a network; CI does it")
def test_environment_yml_installs_and_nothing_is_fetched_twice(tmp_path: Path) -> None:
    """With pip in conda's place: first what conda would bring, then the part for pip.

    That the first part can be resolved is known, since .venv was made of the same bounds. It is linked from there, and
    nothing else of that is seen.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    own = Path(sysconfig.get_path("purelib", vars={"base": tmp_path / "venv", "platbase": tmp_path / "venv"}))
    conda, pip = environment_yml()
    for name in with_dependencies([*conda]):
        here = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in here.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            if not (own / top).exists():
                (own / top).symlink_to(Path(str(here.locate_file(top))))
    requirements = ROOT / ".condaenv.test.txt"  # conda writes such a file, there
    requirements.write_text("\n".join(pip) + "\n")
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "-c", "tests/pins.txt"]
    try:
        subprocess.run([*install, "--report", tmp_path / "report", "-r", requirements], check=True, cwd=ROOT)
    finally:
        requirements.unlink()
    report = json.loads((tmp_path / "report").read_text(encoding="utf-8"))
    assert {row["metadata"]["name"] for row in report["install"]} == {"opencv-python", "dav2_utils"}
    code = "import dav2_utils, torch, cv2, jupyterlab; print(dav2_utils.ENCODERS['vits'].width)"
    done = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "384"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment into which the wheel was installed, made from the sdist, and nothing editable."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    wanted = shutil.ignore_patterns(".*", "build", "site", "*.egg-info", "__pycache__", "runs")
    shutil.copytree(ROOT, source, ignore=wanted)
    subprocess.run([sys.executable, "-m", "build", "--no-isolation", "-o", folder, source], check=True)
    assert len(list(folder.glob("*.tar.gz"))) == 1
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    [wheel] = folder.glob("*.whl")
    programs = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    into = [sys.executable, "-m", "pip", "--python", programs / "python", "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*into, wheel], check=True)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = subprocess.run([programs / "python", "-c", where], capture_output=True, text=True, check=True).stdout.strip()
    # What it depends on, from the environment that runs this; the finder of its editable install stays behind.
    (Path(own) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return programs


def test_the_wheel_has_every_room_and_every_file_of_data(installed: Path, tmp_path: Path) -> None:
    code = """
import importlib, importlib.resources, pkgutil, dav2_utils
rooms = [m.name for m in pkgutil.walk_packages(dav2_utils.__path__, "dav2_utils.") if not m.name.endswith("__main__")]
for room in rooms: importlib.import_module(room)
for name in dav2_utils.__all__: getattr(dav2_utils, name)
root = importlib.resources.files(dav2_utils)
assert (root / "py.typed").is_file() and (root / "__init__.pyi").is_file()
assert dav2_utils.load_model("tiny").max_depth == 20
print(len(rooms), root)
"""
    done = subprocess.run([installed / "python", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    count, root = done.stdout.split(maxsplit=1)
    assert int(count) == len([path for path in (ROOT / "dav2_utils").rglob("*.py") if path.stem != "__main__"]) - 1
    assert root.strip().startswith(str(installed.parent))


def test_the_wheels_command_runs(installed: Path, tmp_path: Path) -> None:
    error = (
        'RuntimeError: Missing key(s) in state_dict: "a.weight". Unexpected key(s) in state_dict: "module.a.weight".'
    )
    command = [installed / "dav2", "explain", "--json"]
    done = subprocess.run(command, input=error, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["causes"][0]["cause"] == "wrapper_prefix"


def test_the_wheel_brings_lessons_to_work_in(installed: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [installed / "dav2", "lessons", "--json"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    names = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
    assert sorted(json.loads(done.stdout)["copied"]) == names
    lessons = tmp_path / "my_lessons"
    assert "](docs/glossary.md)" in (lessons / "01_reproduce_the_error.ipynb").read_text(encoding="utf-8")
    assert (lessons / "docs" / "teaching" / "README.md").is_file()
    code = "import dav2_utils; print(dav2_utils.lesson_folder('01')); print(dav2_utils.__file__)"
    environment = {name: value for name, value in os.environ.items() if name != "DAV2_LESSONS"}
    said = subprocess.run(
        [installed / "python", "-c", code], cwd=lessons, env=environment, capture_output=True, text=True
    )
    assert said.stdout.startswith(str(Path("runs", "01"))) and str(installed.parent) in said.stdout, said.stderr


def test_data_are_read_from_a_zip_too(tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "package"), "zip", ROOT, "dav2_utils")
    code = "import dav2_utils as d; print(d.CAUSES['wrapper_prefix'].title, d.load_model('tiny').max_depth == 20)"
    script = f"import sys; sys.path.insert(0, {archive!r}); {code}; print(d.__file__)"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "prefix True" in done.stdout and archive in done.stdout, done.stderr


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
