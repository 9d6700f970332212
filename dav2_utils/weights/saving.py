"""Weights out of a model: one line to a clean file, whatever wraps the model."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .._version import __version__
from ..depth.model import DepthAnythingV2
from ..encoders import check_max_depth
from ..files.facts import facts_path, is_ours
from ..repair.by_torch import prove
from ..repair.stripping import clean_state_dict, strip_wrappers
from ..repair.writing import write_pth, write_safetensors
from ..writing.disk import require_space
from ..writing.replacing import Place, replacing_all, write_text
from .loading import inner_model


def save_weights(model: nn.Module | Mapping[str, torch.Tensor], path: str | os.PathLike[str], **facts: Any) -> Path:
    """Write the model's weights as a clean state dict, under the bare model's names, and prove it; `path` is replaced.

    Whatever wraps the model (DataParallel, DistributedDataParallel, torch.compile, AveragedModel, FSDP as far as torch
    gathers it) leaves no trace in the names. `facts` (encoder, max_depth, whatever is worth knowing) are recorded with
    the weights: in the header of a `.safetensors`, else in NAME.json beside the file. Those of a `DepthAnythingV2` are
    filled in. A NAME.json that somebody else wrote is kept as NAME.json.bak, with a warning. Raises `CheckpointError`
    (kind `usage`) for a `max_depth` that isn't a range in metres, `WriteError` when the disk does not take the file;
    then everything is as it was.

    Call it on rank 0 (with FSDP on all ranks, each with its own path).
    """
    target = Path(path)
    state = clean_state_dict(model) if isinstance(model, nn.Module) else strip_wrappers(model)
    tensors = {name: value.detach().cpu() for name, value in state.items() if isinstance(value, torch.Tensor)}
    state.update(tensors)  # what else there is, an `_extra_state`, stays as it is
    known = _known_facts(inner_model(model)) | facts
    check_max_depth(facts.get("max_depth"))
    if facts.get("max_depth") is not None:
        known |= {"depth": "metric", "max_depth": float(facts["max_depth"])}
    require_space(target.parent, sum(tensor.nbytes for tensor in tensors.values()))
    notes = facts_path(target)
    places = [Place(target, overwrite=True)]
    if target.suffix != ".safetensors":
        places.append(Place(notes, overwrite=True, backup=os.path.lexists(notes) and not is_ours(notes)))
    with replacing_all(places, like=target if target.exists() else None) as (temporary, *beside):
        if target.suffix == ".safetensors":
            write_safetensors(state, temporary, known)
        else:
            write_pth(state, temporary)
        digest = prove(temporary, state, state)
        for path in beside:
            write_text(path, known | {"fingerprint": digest, "bytes": temporary.stat().st_size})
    if kept := places[-1].kept:
        warnings.warn(f"{notes} was there and is not from this package: it is now {kept}", stacklevel=2)
    return target


def _known_facts(model: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if isinstance(model, DepthAnythingV2):
        facts = {"encoder": model.encoder, "depth": "relative" if model.max_depth is None else "metric"}
        facts |= {} if model.max_depth is None else {"max_depth": model.max_depth}
    return facts | {"torch": torch.__version__, "dav2_utils": __version__}
