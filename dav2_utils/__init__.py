"""Read, explain and repair checkpoints of Depth Anything V2 (and of any PyTorch model) saved under a wrapper.

The public names are handed on when they are first used, so `import dav2_utils` loads neither torch nor OpenCV nor
matplotlib, and looking at a 4 GB file costs milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# name -> the room where it lives
_ROOMS = {
    "CheckpointError": "keys",
    "TensorInfo": "keys",
    "lesson_folder": "environment",
    "ENCODERS": "architecture",
    "table_for": "architecture",
    "Checkpoint": "checkpoint",
    "inspect_file": "checkpoint",
    "CAUSES": "causes",
    "Diagnosis": "diagnosis",
    "diagnose": "diagnosis",
    "table_of": "diagnosis",
    "explain": "explanation",
    "DepthAnythingV2": "model",
    "model_configs": "model",
    "Repair": "repair",
    "check_loaded": "repair",
    "clean_state_dict": "repair",
    "fix_file": "repair",
    "fix_many": "repair",
    "load_into": "repair",
    "load_model": "repair",
    "save_weights": "repair",
    "snapshot": "repair",
    "strip_wrappers": "repair",
    "DOMAINS": "scenes",
    "depth_scores": "scenes",
    "make_scene": "scenes",
    "make_checkpoint": "finetune",
    "compare_depths": "plots",
    "show_depth": "plots",
    "show_keys": "keytable",
    "read_picture": "pictures",
    "check": "exercises",
    "patient": "clinic",
    "depth_viewer": "widgets",
    "error_reader": "widgets",
    "key_explorer": "widgets",
    "strip_playground": "widgets",
    "load_ipython_extension": "notebook",
    "unload_ipython_extension": "notebook",
}
__all__ = [*_ROOMS, "__version__"]

if TYPE_CHECKING:
    from .architecture import ENCODERS as ENCODERS
    from .architecture import table_for as table_for
    from .causes import CAUSES as CAUSES
    from .checkpoint import Checkpoint as Checkpoint
    from .checkpoint import inspect_file as inspect_file
    from .clinic import patient as patient
    from .diagnosis import Diagnosis as Diagnosis
    from .diagnosis import diagnose as diagnose
    from .diagnosis import table_of as table_of
    from .environment import lesson_folder as lesson_folder
    from .exercises import check as check
    from .explanation import explain as explain
    from .finetune import make_checkpoint as make_checkpoint
    from .keys import CheckpointError as CheckpointError
    from .keys import TensorInfo as TensorInfo
    from .keytable import show_keys as show_keys
    from .model import DepthAnythingV2 as DepthAnythingV2
    from .model import model_configs as model_configs
    from .pictures import read_picture as read_picture
    from .plots import compare_depths as compare_depths
    from .plots import show_depth as show_depth
    from .repair import Repair as Repair
    from .repair import check_loaded as check_loaded
    from .repair import clean_state_dict as clean_state_dict
    from .repair import fix_file as fix_file
    from .repair import fix_many as fix_many
    from .repair import load_into as load_into
    from .repair import load_model as load_model
    from .repair import save_weights as save_weights
    from .repair import snapshot as snapshot
    from .repair import strip_wrappers as strip_wrappers
    from .scenes import DOMAINS as DOMAINS
    from .scenes import depth_scores as depth_scores
    from .scenes import make_scene as make_scene
    from .widgets import depth_viewer as depth_viewer
    from .widgets import error_reader as error_reader
    from .widgets import key_explorer as key_explorer
    from .widgets import strip_playground as strip_playground


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
