"""The tensors of a checkpoint, mapped from the file and never through an unsafe pickle."""

from __future__ import annotations

import pickle
import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import ArchiveError, CheckpointError, RefusedPickle
from ..files.archives import data_start, read_directory, read_record
from ..files.checkpoint import Checkpoint
from ..files.formats import read_content
from ..files.placeholders import Tensor as Described
from ..files.weightsets import find_sets
from ..keys import BYTES_PER_ELEMENT, TensorInfo

if TYPE_CHECKING:
    import torch

# Windows lets nobody replace a file that is mapped, and --in-place replaces what it has just read: there, memory it is.
_MAPPED = sys.platform != "win32"


def read_tensors(opened: Checkpoint) -> Any:
    """What the file holds, with its tensors on the CPU and mapped from the file, so that they cost no memory.

    Raises `RefusedPickle`, which names them, for objects other than tensors, containers and plain numbers, and
    `CheckpointError` for bytes that torch cannot read.
    """
    import torch

    try:
        if opened.format == "safetensors":
            from safetensors import safe_open

            with safe_open(opened.file, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in opened.sets[0].table}
                return tensors if _MAPPED else {name: tensor.clone() for name, tensor in tensors.items()}
        with torch.serialization.safe_globals(_numbers(opened.globals)):
            mmap = _MAPPED and opened.format == "torch-zip"
            return torch.load(opened.file, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        raise RefusedPickle(
            f"{opened.file} also holds {', '.join(opened.globals[:5]) or 'objects'}, and opening it would run code",
            "tensors, containers and plain numbers only",
            "Have its makers save the state dict alone; or, if you trust the file, open it once yourself",
        ) from error
    except OSError:
        raise
    except UnicodeEncodeError as error:
        raise CheckpointError(f"torch cannot open {str(opened.file)!r}", "a name in UTF-8, with its folders",
                              "Rename the file or the folder that it is in") from error  # fmt: skip
    except Exception as error:  # a damaged file makes torch fail in any way one can think of
        what = str(error).partition("\n")[0] or type(error).__name__
        raise CheckpointError(f"{opened.file} cannot be read: {what}", do="Download or copy it again") from error


def read_set(opened: Checkpoint, path: tuple[str, ...]) -> Mapping[str, torch.Tensor]:
    """The set of weights under `path`, from files too that `weights_only=True` refuses, with nothing in them run.

    Raises as `read_tensors` does, and when the tensors are not those that `inspect_file` saw.
    """
    try:
        found: Mapping[str, Any] = walk(read_tensors(opened), path)
    except RefusedPickle:
        found = _read_beside_the_pickle(opened, path) if opened.format == "torch-zip" else {}
        if not found:
            raise
    return as_seen(found, opened, path)


def as_seen(found: Mapping[str, Any], opened: Checkpoint, path: tuple[str, ...]) -> Mapping[str, torch.Tensor]:
    """`found`, as far as `inspect_file` saw it under `path`, and plain: what else a file hangs on a tensor is left.

    Raises `CheckpointError` when that is no longer what is there.
    """
    import torch

    seen: OrderedDict[str, torch.Tensor] = OrderedDict()
    for name, info in next(weights.table for weights in opened.sets if weights.path == path).items():
        tensor = found[name] if name in found else None  # noqa: SIM401 - what a file puts into it can hide its `get`
        if not isinstance(tensor, torch.Tensor) or tuple(tensor.shape) != info.shape:
            raise CheckpointError(f"{opened.file} changed while it was read, or is made to mislead: {name!r} is not "
                                  f"what it was", do="Download or copy it again")  # fmt: skip
        if tensor.is_meta:
            raise CheckpointError(f"{opened.file} has the shape of {name!r} and no numbers for it",
                                  do="Save the state dict anew, from a model that is on no meta device")  # fmt: skip
        seen[name] = torch.Tensor.detach(tensor)
    seen._metadata = getattr(found, "_metadata", None)  # type: ignore[attr-defined]
    return seen


class _Located(TensorInfo):
    """A shape and dtype that remembers the description it came from."""

    described: Described


def _located(value: Any) -> TensorInfo | None:
    if not isinstance(value, Described):
        return None
    info = _Located(*value.info)
    info.described = value
    return info


def _read_beside_the_pickle(opened: Checkpoint, path: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """The tensors, mapped from the places that the pickle describes; empty where one of them has no such place."""
    import torch

    sets, _ = find_sets(read_content(opened.file).value, _located)
    table = next((weights.table for weights in sets if weights.path == path), {})
    tensors, storages = {}, dict[str, torch.UntypedStorage]()
    try:
        with opened.file.open("rb") as file:
            records = {name.partition("/")[2]: record for name, record in read_directory(file, opened.bytes).items()}
            if "byteorder" in records and read_record(file, records["byteorder"], 100) != b"little":
                return {}
            mapped = torch.UntypedStorage.from_file(str(opened.file), False, opened.bytes)
            for name, info in table.items():
                one = info.described if isinstance(info, _Located) else None
                if one is None or one.storage is None or info.dtype not in BYTES_PER_ELEMENT or "complex" in info.dtype:
                    return {}
                key = one.storage.key
                if key not in storages:
                    record = records[f"data/{key}"]
                    start = data_start(file, record)
                    if record.method != 0:
                        return {}
                    part = mapped[start : start + record.size]
                    storages[key] = part if _MAPPED else part.clone()
                empty = torch.empty(0, dtype=getattr(torch, info.dtype))
                tensors[name] = empty.set_(storages[key], one.offset, info.shape, one.stride)
    except (ArchiveError, KeyError, RuntimeError):
        return {}
    return tensors


def _numbers(names: list[str]) -> list[Any]:
    """NumPy's scalars, where the file has any (a best score, as a rule): numbers and nothing else."""
    if not any(name.startswith("numpy") for name in names):
        return []
    import numpy as np

    scalar: Any = np.float64(0).__reduce__()[0]
    kinds = [kind for kind in vars(np.dtypes).values() if isinstance(kind, type) and kind is not np.dtypes.ObjectDType]
    return [(scalar, f"{place}.multiarray.scalar") for place in ("numpy.core", "numpy._core")] + [np.dtype, *kinds]


def walk(content: Any, path: tuple[str, ...]) -> Any:
    """What lies under `path` in nested dictionaries. Raises `CheckpointError` where there is no such place."""
    if path and isinstance(content, (tuple, list)):  # (weights, optimizer): see `find_sets`
        content = {str(place): entry for place, entry in enumerate(content)}
    for part in path:
        name = next((name for name in content if str(name) == part), None) if isinstance(content, Mapping) else None
        if name is None:
            raise CheckpointError(f"There is no entry {part!r} on the way to {' > '.join(path)}")
        content = content[name]
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
