"""Read, explain and repair checkpoints of Depth Anything V2 (and of any PyTorch model) saved from a wrapper.

Public names are imported when they are first used, so `import dav2_utils` loads neither torch nor OpenCV nor
matplotlib, and looking at a 4 GB file costs milliseconds. Editors read `__init__.pyi`, which `make stub` writes.
"""

from __future__ import annotations

from typing import Any

from ._version import __version__ as __version__

_PUBLIC = {  # room: the public names in it
    "errors": "CheckpointError",
    "keys": "TensorInfo",
    "encoders": "ENCODERS table_for",
    "environment": "check_environment",
    "files.checkpoint": "Checkpoint inspect_file",
    "diagnosis.causes": "CAUSES",
    "diagnosis.report": "Diagnosis",
    "diagnosis.diagnose": "diagnose table_of",
    "diagnosis.explain": "explain",
    "diagnosis.keytable": "show_keys",
    "repair.stripping": "clean_state_dict strip_wrappers",
    "repair.outcome": "Repair",
    "repair.fixing": "fix_file",
    "repair.batch": "fix_many",
    "depth.model": "DepthAnythingV2 model_configs",
    "depth.hub": "default_weights find_cached",
    "depth.scores": "depth_scores",
    "depth.pictures": "read_picture",
    "weights.loading": "check_loaded load_into load_model snapshot",
    "weights.saving": "save_weights",
    "training.scenes": "DOMAINS held_out make_scene",
    "training.data": "evaluate",
    "training.loop": "make_checkpoint",
    "classroom.setup": "lesson_folder sample_photo",
    "classroom.plots": "compare_depths show_depth",
    "classroom.drawings": "draw_box draw_cuts draw_paths draw_tables",
    "classroom.exercises": "check",
    "classroom.progress": "progress",
    "classroom.clinic": "PATIENTS patient",
    "classroom.widgets": "depth_viewer error_reader key_explorer strip_playground",
    "notebook": "load_ipython_extension unload_ipython_extension",
}
_ROOMS = {name: room for room, names in _PUBLIC.items() for name in names.split()}
__all__ = [*_ROOMS, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
