"""The house keeps its order: wings and rooms import downwards, stay small, and looking loads nothing heavy."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import stub

import dav2_utils

PACKAGE = Path(dav2_utils.__file__).parent
# A wing imports only from wings above it in this list, a room only from rooms of its own wing that come before it.
WINGS = {
    "ground": "_version texts errors keys wrappers encoders families advice environment",
    "files": "placeholders rebuilding stack opcodes pickles archives torchzip unreadable formats weightsets facts "
    "checkpoint",
    "writing": "leftovers disk replacing plan tracing source pickled torch_zip safetensors renaming unusable",
    "diagnosis": "causes message difference names parts sizes rules signs report diagnose explain keytable",
    "repair": "writing stripping copying taking reading by_torch outcome fixing batch",
    # everything above this line needs the standard library alone to be imported
    "depth": "opencv scores dinov2 doubts model hub pictures",
    "weights": "loading saving",
    "training": "raycast scenes data loop",
    "classroom": "setup copies plots drawings judges exercises progress clinic views widgets",
    "doors": "notebook finetune cli.options cli.files cli.pictures cli.lessons cli.command",
}
LIGHT = ("ground", "files", "writing", "diagnosis", "repair")
ROOMS = {
    (room if wing in ("ground", "doors") else f"{wing}.{room}"): wing
    for wing, rooms in WINGS.items()
    for room in rooms.split()
}
MOST_LINES, MOST_IN_A_FUNCTION, MOST_ROOMS = 300, 40, 12


def source(room: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{room.replace('.', '/')}.py").read_text(encoding="utf-8"))


def imports(room: str) -> Iterator[str]:
    """The rooms that `room` imports from, anywhere in its file."""
    for node in ast.walk(source(room)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = room.split(".")[: -node.level] + (node.module.split(".") if node.module else [])
            names = [".".join([*base, alias.name]) for alias in node.names]
            yield from names if ".".join(base) not in ROOMS else [".".join(base)]


def test_every_room_has_its_place_and_no_wing_is_crowded() -> None:
    found = {".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("*.py")}
    assert {room for room in found if room.split(".")[-1] not in ("__init__", "__main__")} == set(ROOMS)
    assert {wing: len(rooms.split()) for wing, rooms in WINGS.items() if len(rooms.split()) > MOST_ROOMS} == {}


def test_no_arrow_goes_up() -> None:
    order = list(ROOMS)
    arrows = {(room, used) for room in ROOMS for used in imports(room)}
    assert len(arrows) > 100, "the arrows are seen"
    assert {(room, used) for room, used in arrows if used not in order or order.index(used) >= order.index(room)} == (
        set()
    )


def test_rooms_and_functions_stay_small() -> None:
    large = {}
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        lengths = {path.stem: (len(text.splitlines()), MOST_LINES)}
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                lengths[f"{path.stem}.{node.name}"] = (node.end_lineno - node.lineno + 1, MOST_IN_A_FUNCTION)
        large |= {name: length for name, (length, most) in lengths.items() if length > most}
    assert large == {}


def loaded(code: str, *flags: str) -> set[str]:
    """The packages from outside the standard library that a fresh interpreter has loaded after `code`."""
    script = f"import sys; before = set(sys.modules); sys.path.insert(0, {str(PACKAGE.parent)!r})\n{code}\n"
    script += "print(*{name.partition('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names))"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV_")}
    command = [sys.executable, *flags, "-c", script]
    return set(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.split())


def test_looking_diagnosing_and_repairing_are_imported_by_the_standard_library_alone() -> None:
    light = [room for room, wing in ROOMS.items() if wing in LIGHT]
    assert loaded("\n".join(f"import dav2_utils.{room}" for room in light), "-I", "-S") == {"dav2_utils"}


def test_checkpoint_work_needs_no_opencv_and_no_lessons() -> None:
    heavy = loaded("import dav2_utils.weights.saving, dav2_utils.depth.hub, dav2_utils.cli")
    assert "torch" in heavy
    assert not heavy & {"cv2", "matplotlib", "IPython", "ipywidgets", "huggingface_hub"}


def test_a_command_imports_nothing_that_takes_long_and_is_not_needed() -> None:
    """Each of these takes from 1 to 6 ms to import, of the 80 that `dav2 explain` takes."""
    text = "Missing key(s) in state_dict: 'a.weight'. Unexpected key(s) in state_dict: 'module.a.weight'."
    script = f"import sys, dav2_utils.cli as cli\ntry: cli.main(['explain', {text!r}])\nfinally: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", timeout=60)
    said, _, modules = done.stdout.rstrip().rpartition("\n")
    assert "wrapper_prefix" in said
    heavy = {"tempfile", "zipfile", "hashlib", "html", "fractions", "importlib.resources", "dav2_utils.diagnosis.signs"}
    assert not heavy & set(modules.split())


def test_every_public_name_resolves() -> None:
    for name in dav2_utils.__all__:
        assert getattr(dav2_utils, name) is not None
    assert set(dav2_utils.__all__) <= set(dir(dav2_utils)), "names that are not loaded yet can be completed"
    with pytest.raises(AttributeError, match="no attribute"):
        _ = dav2_utils.nothing_of_that_name


def test_editors_know_the_same_names() -> None:
    assert stub.STUB.read_text(encoding="utf-8") == stub.stub(), "make stub"
