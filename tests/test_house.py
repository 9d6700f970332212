"""The house keeps its order: rooms import downwards, stay small, and looking loads nothing heavy."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import dav2_utils

PACKAGE = Path(dav2_utils.__file__).parent
# Each room imports only from rooms above it in this list; those down to `explanation` need the standard library alone.
ROOMS = [
    "keys", "environment", "architecture", "placeholders", "pickles", "archives", "impostors",
    "formats", "weightsets", "checkpoint", "messages", "vocabulary", "relations", "sizes",
    "contents", "signs", "causes", "leftovers", "verdict", "diagnosis",
    "keytable", "explanation", "dinov2", "model", "pictures", "hub", "raycast", "scenes", "writing",
    "stripping", "reading", "fixing", "batch", "repair",
    "training", "finetune", "plots", "exercises", "clinic", "views", "widgets", "notebook", "cli",
]  # fmt: skip
LIGHT = ROOMS[: ROOMS.index("explanation") + 1]
HEAVY = ("torch", "numpy", "cv2", "matplotlib", "IPython", "ipywidgets", "safetensors", "tqdm", "huggingface_hub")
present = [room for room in ROOMS if (PACKAGE / f"{room}.py").exists()]


def imports(room: str) -> set[str]:
    """The rooms that `room` imports, anywhere in its file, and the packages that it imports at the top."""
    tree = ast.parse((PACKAGE / f"{room}.py").read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            found |= {node.module} if node.module else {alias.name for alias in node.names}
    return found


def test_every_room_is_in_the_list() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"} == set(present)
    assert present == ROOMS, "the list names rooms that are not there"


@pytest.mark.parametrize("room", present)
def test_a_room_imports_only_from_below(room: str) -> None:
    assert imports(room) - {"__version__"} <= set(ROOMS[: ROOMS.index(room)])


@pytest.mark.parametrize("room", present)
def test_a_room_stays_small(room: str) -> None:
    source = (PACKAGE / f"{room}.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 350
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    long = {f.name: f.end_lineno - f.lineno + 1 for f in functions if f.end_lineno - f.lineno + 1 > 40}
    assert not long


def loaded(code: str) -> set[str]:
    """Which heavy packages a fresh interpreter has loaded after `code`."""
    script = f"{code}\nimport sys; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV_")}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    return set(done.stdout.split())


def test_import_and_the_lower_floors_need_the_standard_library_alone() -> None:
    code = "import dav2_utils\n" + "\n".join(f"import dav2_utils.{room}" for room in LIGHT if room in present)
    assert loaded(code) == set()


def test_checkpoint_work_needs_no_opencv_and_no_lessons() -> None:
    allowed = {"torch", "numpy", "safetensors", "tqdm"}
    assert loaded("import dav2_utils.repair, dav2_utils.model, dav2_utils.cli") <= allowed


def test_every_public_name_resolves() -> None:
    for name in dav2_utils.__all__:
        assert getattr(dav2_utils, name) is not None
    assert set(dav2_utils.__all__) <= set(dir(dav2_utils)), "names that are not loaded yet can be completed"
    with pytest.raises(AttributeError, match="no attribute"):
        _ = dav2_utils.nothing_of_that_name
