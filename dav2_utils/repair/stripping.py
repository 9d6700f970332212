"""`rename_map` carried out on real state dicts: order, shared tensors, dtypes and `_metadata` kept."""

from __future__ import annotations

import os
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..diagnosis.diagnose import table_of
from ..errors import CheckpointError
from ..files.placeholders import extra
from ..wrappers import WRAPPER_CLASSES, exchange, rename_map
from ..writing.renaming import module_paths, moved_path

if TYPE_CHECKING:
    import torch
    from torch import nn

StateDict = OrderedDict[str, "torch.Tensor"]


def strip_wrappers(
    state_dict: Mapping[str, Any], target: Any = None, components: Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
) -> OrderedDict[str, Any]:  # fmt: skip
    """A new state dict whose names lost their wrapper components, one-to-one; the tensors are the same objects.

    `target`: the model, its state dict, its names, an encoder's name or another checkpoint's path; then the target
    decides (see `keys.rename_map`), and a wrapped target gets its components added. `components`: take off exactly
    these instead of the known wrappers. `rename`: runs of whole components to exchange first, old -> new, all at once
    and the longest first (see `wrappers.exchange`). Raises `PrefixError` if two names would become one, or a component
    asked for is not there or is the target's own; `CheckpointError` for a training checkpoint instead of the state dict
    in it.
    """
    import torch

    odd = [name for name in state_dict if not isinstance(name, str)]
    boxes = [name for name, value in state_dict.items() if isinstance(value, Mapping) and not extra(str(name))]
    if odd or (boxes and not any(isinstance(value, torch.Tensor) for value in state_dict.values())):
        raise CheckpointError(
            f"This dictionary contains {', '.join(map(repr, odd[:2] or boxes[:4]))} and is not a state dict",
            "names and tensors",
            f"Take the weights out first: checkpoint[{boxes[0]!r}]" if boxes else "",
        )
    if isinstance(target, (str, os.PathLike)):
        target = table_of(target)
    names = target.state_dict() if hasattr(target, "state_dict") else target
    first = exchange(state_dict, rename or {})
    then = rename_map(first.values(), None if names is None else set(names), components)
    return renamed(state_dict, {old: then[new] for old, new in first.items()})


def renamed(state_dict: Mapping[str, Any], mapping: Mapping[str, str]) -> OrderedDict[str, Any]:
    """The entries that `mapping` names, under their new names; `_metadata` follows the modules."""
    result = OrderedDict((new, state_dict[old]) for old, new in mapping.items())
    metadata = getattr(state_dict, "_metadata", None)
    if isinstance(metadata, Mapping):
        paths = module_paths(mapping)
        sound = {path: metadata[path] for path in metadata if isinstance(path, str)}
        moved = OrderedDict((moved_path(path, paths), of) for path, of in sound.items() if isinstance(of, Mapping))
        result._metadata = moved  # type: ignore[attr-defined]
    return result


def compact(state: StateDict) -> StateDict:
    """`state` with plain tensors, and a small tensor that is a view into a large storage with a storage of its own.

    torch.save writes whole storages; tensors that share one still do, unless most of it belonged to none of them.
    """
    needed: Counter[int] = Counter()
    kinds: dict[int, torch.dtype] = {}
    tensors = {name: value for name, value in state.items() if hasattr(value, "untyped_storage")}  # not _extra_state
    for tensor in tensors.values():
        needed[tensor.untyped_storage().data_ptr()] += tensor.nbytes
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage()
        large = storage.nbytes() > 2 * needed[storage.data_ptr()] + 4096
        other = kinds.setdefault(storage.data_ptr(), tensor.dtype) != tensor.dtype  # torch.save refuses such a pair
        state[name] = tensor.detach().clone() if large or other else tensor.detach()
    return state


def clean_state_dict(model: nn.Module) -> StateDict:
    """The model's state dict as the bare model would give it, whatever wraps the model or parts of it.

    The wrappers' classes decide, not words, so a component called `module` that belongs to the model stays.
    Knows DataParallel, DistributedDataParallel, torch.compile, AveragedModel (its counter goes), activation
    checkpointing, Fabric and, as far as torch gathers it, FSDP: call it on every process then.
    """
    sites, counters = set(), set()
    for path, module in model.named_modules():
        kind = type(module).__name__
        if kind in WRAPPER_CLASSES:
            sites.add(_join(path, WRAPPER_CLASSES[kind]))
        if kind == "AveragedModel":
            counters.add(_join(path, "n_averaged"))
    state = model.state_dict()
    mapping = {name: _without(name, sites) for name in state if name not in counters}
    if len(set(mapping.values())) < len(mapping):
        taken = Counter(mapping.values())
        twice = [name for name in mapping if taken[mapping[name]] > 1]
        raise CheckpointError(f"Two tensors would get one name: {', '.join(twice[:4])}", do="Unwrap the model first")
    result = renamed(state, mapping)
    for name, tensor in result.items():
        if hasattr(tensor, "full_tensor"):  # FSDP2 and tensor parallelism: gathered from all processes
            result[name] = tensor.full_tensor()
    return result


def _without(name: str, sites: Iterable[str]) -> str:
    path, kept = "", []
    for part in name.split("."):
        path = _join(path, part)
        if path not in sites:
            kept.append(part)
    return ".".join(kept)


def _join(path: str, part: str) -> str:
    return f"{path}.{part}" if path else part
