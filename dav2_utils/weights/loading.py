"""Weights into models: one line from any repairable file to a model that is loaded completely, or an error."""

from __future__ import annotations

import copy
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..depth.doubts import DepthWarning
from ..depth.model import DepthAnythingV2
from ..diagnosis.diagnose import diagnose
from ..diagnosis.report import Diagnosis
from ..encoders import ENCODERS, check_max_depth
from ..errors import CheckpointError, DoesNotFit
from ..files.checkpoint import Checkpoint, inspect_file
from ..files.facts import Fact, believed, no_range
from ..repair.outcome import Repair
from ..repair.reading import read_parts
from ..repair.stripping import StateDict, renamed
from ..repair.writing import fingerprint, identical
from ..texts import printable, say


def load_model(
    path: str | os.PathLike[str], encoder: str | None = None, max_depth: float | None = None,
    device: str | torch.device = "cpu", select: str | None = None, dtype: torch.dtype | None = None,
    mmap: bool = False,
) -> DepthAnythingV2:  # fmt: skip
    """A `DepthAnythingV2` in eval mode with the weights in `path`, fixed while loading, whatever wraps them.

    `path`: a file, the name of official weights (`vits`, `vitl-metric-indoor`, ... see `hub.OFFICIAL`), or `tiny`,
    the weights that come with this package (rooms to 20 m). `encoder` is inferred from the shapes, and `max_depth`
    (metres, for a metric model) taken from what is known of the file (see `files.facts`), unless given. `dtype`: of
    the parameters, float32 without one. The weights are read into memory of their own, once, so the file may be
    overwritten, moved or deleted afterwards. With `mmap` they stay in the file instead, as long as the model lives on
    the CPU in the file's own dtype: no checksum is looked at, and whoever writes to the file changes the model or
    ends the process (SIGBUS).

    Nothing is loaded in part: raises `DoesNotFit` when anything is missing, unexpected or of another shape, and
    `CheckpointError` when the file cannot be read or `max_depth` isn't a range. Warns when what is known of the file
    speaks against the arguments, when it is metric and its range is recorded nowhere, and when it was never trained.
    """
    check_max_depth(max_depth)
    file, official_depth = _official(path)
    opened = inspect_file(file)
    facts = believed(opened.facts)
    found = diagnose(opened, encoder, select)
    if found.encoder is None and encoder is None and not found.family:
        raise CheckpointError(
            f"{opened.file} does not hold Depth Anything V2: no encoder's shapes fit its names",
            do="Run dav2 inspect on it; for another model there is load_into(model, path)",
        )
    depth = max_depth if max_depth is not None else facts.get("max_depth", official_depth)
    _warn(opened.facts, found.encoder, depth)
    state = _state(found, opened, mmap)
    if _untrained(state):
        warnings.warn(say("doubts.untrained"), DepthWarning, stacklevel=2)
    model = _without_weights(found.target or "", state, depth)
    kind = dtype or torch.float32
    state.update({name: tensor.to(kind) for name, tensor in state.items() if tensor.is_floating_point()})
    model.load_state_dict(state, strict=True, assign=True)
    return model.requires_grad_(True).to(device).eval()


def _without_weights(encoder: str, state: StateDict, max_depth: float | None) -> DepthAnythingV2:
    """The model with the options that the names of `state` show."""
    with torch.device("meta"):  # shapes alone: no memory, no random numbers
        return DepthAnythingV2(
            encoder,
            use_bn=any(".bn1." in name for name in state),
            use_clstoken=any(".readout_projects." in name for name in state),
            max_depth=max_depth,
        )


def _untrained(state: StateDict) -> bool:
    """Whether every LayerNorm is as torch makes it, all ones and all zeros, which no training leaves as they are."""
    norms = [tensor for name, tensor in state.items() if ".norm" in name]
    return bool(norms) and all(bool((tensor == tensor.flatten()[0]).all()) for tensor in norms)


def _official(path: str | os.PathLike[str]) -> tuple[Path, float | None]:
    """The file, downloaded where `path` names official weights, and the range that belongs to those."""
    if isinstance(path, str) and not Path(path).is_file():
        from ..depth.hub import OFFICIAL, default_weights, download

        if path == "tiny":
            return default_weights(), None
        if path in ENCODERS or path in OFFICIAL:  # vitg is a name without a file, and is told so
            return download(path), OFFICIAL[path].max_depth
    return Path(path), None


def _state(found: Diagnosis, opened: Checkpoint, mmap: bool) -> StateDict:
    """The tensors that `found` speaks of, under their new names. Raises `DoesNotFit` unless they fit completely."""
    if found.verdict not in ("loads", "repairable") or not found.matched:
        raise DoesNotFit(found)
    return renamed(read_parts(opened, found.parts, mmap), found.rename)


def _warn(found: Mapping[str, Fact], encoder: str | None, max_depth: float | None) -> None:
    """Warn when what was recorded with the weights does not fit how they are about to be used."""
    facts = believed(found)
    if facts.get("depth") == "metric" and "max_depth" not in facts:
        if max_depth is None:
            warnings.warn(no_range(found), DepthWarning, stacklevel=3)
    elif "depth" in facts:
        trained = _kind(facts.get("max_depth") if facts["depth"] == "metric" else None)
        if trained != _kind(max_depth):
            warnings.warn(f"trained as {trained}; loading as {_kind(max_depth)}", stacklevel=3)
    if encoder and facts.get("encoder", encoder) != encoder:
        saved_as = printable(str(facts["encoder"]))
        warnings.warn(f"saved as {saved_as}, but the shapes are those of {encoder}", stacklevel=3)
    saved_by = str(facts.get("torch", ""))
    saved, here = re.match(r"([0-9]{1,8})\.([0-9]{1,8})", saved_by), torch.__version__.split(".")[:2]
    if saved and list(map(int, saved.groups())) > list(map(int, here)):
        warnings.warn(f"saved with torch {printable(saved_by)}, newer than {torch.__version__} here", stacklevel=3)


def _kind(max_depth: float | None) -> str:
    return "relative" if max_depth is None else f"metric, max_depth {max_depth:g}"


def load_into(model: nn.Module, path: str | os.PathLike[str], select: str | None = None, mmap: bool = False) -> Repair:
    """Load the weights in `path` into any `nn.Module`, wrapped or not: the model's own names are the target.

    Prefixes and containers are taken off, or put on, as the model needs them; nothing is loaded in part. Raises
    `DoesNotFit` otherwise. The result says what was done. With `mmap` the file is not read into memory first but copied
    from where it lies, which takes less memory, and ends the process if somebody cuts the file off meanwhile.
    """
    opened = inspect_file(path)
    found = diagnose(opened, model, select)
    state = _state(found, opened, mmap)
    _warn(opened.facts, None, getattr(inner_model(model), "max_depth", None))
    model.load_state_dict(state, strict=True)
    return Repair(str(path), "loaded", steps=found.steps, tensors=found.matched, fingerprint=fingerprint(state))


def inner_model(model: Any) -> Any:
    """The model inside the wrappers around it."""
    for _ in range(8):
        inner = next((getattr(model, part) for part in ("module", "_orig_mod", "_forward_module")
                      if isinstance(getattr(model, part, None), nn.Module)), None)  # fmt: skip
        if inner is None or isinstance(model, DepthAnythingV2):
            break
        model = inner
    return model


@dataclass(frozen=True)
class Loaded:
    """How much of a model actually changed."""

    expected: int  # tensors in the model
    matched: int  # of them, named in the file
    changed: int  # of them, with other bytes than before

    def __str__(self) -> str:
        return f"{self.matched} of {self.expected} tensors were in the file, {self.changed} changed"


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of the model's tensors, to compare them with after loading."""
    return copy.deepcopy(dict(model.state_dict()))


def check_loaded(
    model: nn.Module, before: Mapping[str, torch.Tensor], result: Any = None, least: float = 0.5
) -> Loaded:
    """For code that loads with `strict=False`: did anything arrive?

    `before`: a `snapshot(model)` from before the loading (`state_dict()` alone isn't a copy: its tensors change with
    the model). `result`: what `load_state_dict` gave back. Raises `CheckpointError` when no tensor changed, when the
    file had none of the model's names, and when fewer than the share `least` of the model's tensors were loaded.
    """
    now = model.state_dict()
    if now and all(name in before and before[name].data_ptr() == t.data_ptr() for name, t in now.items() if t.numel()):
        raise CheckpointError(
            "`before` shares its memory with the model, so it changed too",
            "a copy from before the loading",
            "Take it with snapshot(model)",
        )
    changed = sum(name not in before or not identical([(before[name].cpu(), t.cpu())]) for name, t in now.items())
    missing = set(getattr(result, "missing_keys", ()))
    matched = len(now) - len(missing) if result is not None else changed
    loaded = Loaded(len(now), matched, changed)
    if not changed or not matched or matched < least * len(now):
        raise CheckpointError(
            f"The weights did not arrive: {loaded}",
            f"at least {least:.0%} of them",
            "Load strictly (load_into(model, path) takes prefixes off), or look with diagnose(path, model)",
        )
    return loaded
