"""The tensors of a checkpoint, never through an unsafe pickle."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from ..errors import CheckpointError, RefusedPickle
from ..files.archives import read_into
from ..files.checkpoint import Checkpoint
from ..files.placeholders import Extra
from ..files.torchzip import TorchZip
from .taking import can_be_taken, take, unchanged
from .writing import dtype_of

if TYPE_CHECKING:
    import torch


def read_tensors(opened: Checkpoint, mmap: bool = False) -> Any:
    """Everything that the file holds, with its tensors on the CPU, in memory of their own, or with `mmap` in the file.

    Raises `RefusedPickle`, which names them, for objects other than tensors, containers and plain numbers, and
    `CheckpointError` for bytes that torch cannot read.
    """
    if opened.format == "safetensors":
        return take(opened, opened.sets[0], mmap) if opened.sets else {}
    mmap = mmap and opened.format == "torch-zip"
    with unchanged(opened) as file:
        content = _by_torch(opened, opened.file if mmap else file, mmap)
        if opened.format == "torch-zip" and not mmap:
            _check_sums(file, opened.bytes)
        return content


def _by_torch(opened: Checkpoint, source: Any, mmap: bool) -> Any:
    import torch

    try:
        with torch.serialization.safe_globals(_numbers(opened.globals)):
            return torch.load(source, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        raise _refused(opened) from error
    except OSError:
        raise
    except UnicodeEncodeError as error:
        raise CheckpointError(f"torch cannot open {str(opened.file)!r}", "a name in UTF-8, with its folders",
                              "Rename the file or the folder that it is in") from error  # fmt: skip
    except Exception as error:  # a damaged file makes torch fail in any imaginable way
        what = str(error).partition("\n")[0] or type(error).__name__
        raise CheckpointError(f"{opened.file} cannot be read: {what}", do="Download or copy it again") from error


def _refused(opened: Checkpoint) -> RefusedPickle:
    found = f"{opened.file} also contains {', '.join(opened.globals[:5]) or 'objects'}, and opening it would run code"
    if opened.beyond and not opened.globals:
        found = f"{opened.file} has a pickle of a protocol that torch.load(weights_only=True) refuses"
    return RefusedPickle(
        found,
        "tensors, containers and plain numbers only",
        "Ask its authors to save only the state dict; or, if you trust the file, open it once yourself",
    )


def _check_sums(file: BinaryIO, size: int) -> None:
    """Raises `ArchiveError` for a record with other bytes than were written: torch itself looks at no checksum."""
    archive = TorchZip(file, size)
    room = memoryview(bytearray())
    for record in archive.records.values() if archive.checked else ():
        if len(room) < record.size:
            room = memoryview(bytearray(record.size))
        read_into(file, record, room[: record.size])


def read_set(opened: Checkpoint, path: tuple[str, ...], mmap: bool = False) -> Mapping[str, torch.Tensor]:
    """The set of weights under `path`, from files too that `weights_only=True` refuses, with nothing in them run.

    In memory of their own; or with `mmap` in the file, so that they cost none and change, or end the process, when
    somebody writes to it. Raises as `read_tensors` does, and when the tensors are not those that `inspect_file` saw.
    """
    weights = opened.at(path)
    if weights and can_be_taken(opened) and (found := take(opened, weights, mmap)) is not None:
        return found
    return as_seen(walk(read_tensors(opened, mmap), path), opened, path)


def read_parts(
    opened: Checkpoint, parts: Sequence[tuple[tuple[str, ...], list[str]]], mmap: bool = False
) -> Mapping[str, torch.Tensor]:
    """The tensors named in `parts` (see `WeightSet.parts`), of several sets together. Raises as `read_set` does."""
    if len(parts) == 1:
        return read_set(opened, parts[0][0], mmap)
    found: OrderedDict[str, torch.Tensor] = OrderedDict()
    for path, names in parts:
        one = read_set(opened, path, mmap)
        found.update((name, one[name]) for name in names)
    return found


def as_seen(found: Mapping[str, Any], opened: Checkpoint, path: tuple[str, ...]) -> Mapping[str, torch.Tensor]:
    """`found`, as far as `inspect_file` saw it under `path`, and plain: what else a file hangs on a tensor is left.

    Raises `CheckpointError` when that is no longer what is there, and for tensors that are more than their numbers.
    """
    import torch

    seen: OrderedDict[str, Any] = OrderedDict()
    weights = next(weights for weights in opened.sets if weights.path == path)
    for name, info in weights.table.items():
        value = found[name] if name in found else None  # noqa: SIM401 - what a file puts into it can hide its `get`
        if not isinstance(info, Extra):
            if not isinstance(value, torch.Tensor) or (tuple(value.shape), dtype_of(value)) != info:
                found_out = (
                    f"{opened.file} changed while it was read, or is made to mislead: {name!r} is not what it was"
                )
                raise CheckpointError(found_out, do="Download or copy it again")
            value = torch.Tensor.detach(require_dense(value, name))
        seen[name] = value
    seen._metadata = getattr(found, "_metadata", None)  # type: ignore[attr-defined]
    return seen


def require_dense(tensor: torch.Tensor, name: str) -> torch.Tensor:
    """`tensor`, whose numbers lie one by one in memory. Raises `CheckpointError` for any other."""
    import torch

    if tensor.is_meta:
        raise CheckpointError(f"{name!r} has a shape but no numbers",
                              do="Save the state dict again, from a model that is not on the meta device")  # fmt: skip
    if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_quantized:
        kind = "quantised" if tensor.is_quantized else str(tensor.layout).removeprefix("torch.")
        raise CheckpointError(f"{name!r} is a {kind} tensor", "dense ones, which every model and both formats take",
                              "Save tensor.to_dense(), or tensor.dequantize(), in its place")  # fmt: skip
    return tensor


def _numbers(names: list[str]) -> list[Any]:
    """NumPy's scalars, if the file has any (a best score, as a rule): numbers and nothing else."""
    if not any(name.startswith("numpy") for name in names):
        return []
    import numpy as np

    scalar: Any = np.float64(0).__reduce__()[0]
    kinds = [kind for kind in vars(np.dtypes).values() if isinstance(kind, type) and kind is not np.dtypes.ObjectDType]
    return [(scalar, f"{place}.multiarray.scalar") for place in ("numpy.core", "numpy._core")] + [np.dtype, *kinds]


def walk(content: Any, path: tuple[str, ...]) -> Any:
    """What lies under `path` in nested dictionaries. Raises `CheckpointError` if there is no such place."""
    if path and isinstance(content, (tuple, list)):  # (weights, optimizer): see `find_sets`
        content = {str(place): entry for place, entry in enumerate(content)}
    for part in path:
        if not isinstance(content, Mapping) or part not in content:
            raise CheckpointError(f"There is no entry {part!r} on the way to {' > '.join(path)}")
        content = content[part]
    if not isinstance(content, Mapping):
        raise CheckpointError(f"Under {' > '.join(path) or 'the top'} there are no named tensors")
    return content


def tensors_in(content: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor in nested dictionaries, lists and tuples, with a path to it; each container is entered once."""
    import torch

    entered = set[int]()
    left = [("", content)]
    while left:
        path, value = left.pop()
        if isinstance(value, torch.Tensor):
            yield path, value
        elif isinstance(value, (Mapping, list, tuple)) and id(value) not in entered:
            entered.add(id(value))
            # by index: what a file puts into an OrderedDict can hide its methods
            inner = ((name, value[name]) for name in value) if isinstance(value, Mapping) else enumerate(value)
            left += [(f"{path[-200:]}/{str(name)[:200]}", entry) for name, entry in inner]
