"""The tensors of one set of weights, read from the file straight into memory of their own, and nothing else of it.

One copy and no mapping: whatever becomes of the file later, the tensors stay as they are. Every record is checked
against its checksum while it is read. Tensors that share memory in the file share it here.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from ..errors import ArchiveError, CheckpointError, SourceChanged
from ..files.archives import read_from
from ..files.checkpoint import Checkpoint
from ..files.weightsets import WeightSet
from ..writing.source import Stored, locate

if TYPE_CHECKING:
    import torch

_AGAIN = "Download or copy it again"
_ROTTEN = "Take another copy of it, if there is one: something changed these bytes after they were written. "
_ROTTEN += "torch.load looks at no checksums and would load them as they are"


def can_be_taken(opened: Checkpoint) -> bool:
    """Whether tensors may be read without torch's own loader.

    Where one in the file is special, torch is asked first; unless it refuses the file anyway.
    """
    import torch

    default: Any = torch.serialization.get_default_load_endianness()
    alone = opened.plain or bool(opened.globals) or opened.beyond
    return opened.format == "safetensors" or (alone and (default is None or default.name != "BIG"))


@contextmanager
def unchanged(opened: Checkpoint) -> Iterator[BinaryIO]:
    """The file, open. Raises `CheckpointError` when it is not the one that was inspected, or changes meanwhile."""
    with opened.file.open("rb") as file:
        before = _stamp(file)
        try:
            if before[0] != opened.bytes:
                raise SourceChanged(opened.file)
            yield file
        except ArchiveError as error:
            if _stamp(file) != before:
                raise SourceChanged(opened.file) from error
            do = _ROTTEN if "checksum" in str(error) else _AGAIN
            raise CheckpointError(f"{opened.file} cannot be read: {error}", do=do) from error
        if _stamp(file) != before:
            raise SourceChanged(opened.file)


def _stamp(file: BinaryIO) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns


def take(opened: Checkpoint, weights: WeightSet, mmap: bool = False) -> OrderedDict[str, torch.Tensor] | None:
    """The tensors of `weights`, in memory of their own, or with `mmap` in the file itself.

    None if only torch can say where one of them lies. Raises `CheckpointError` for a file that changed, and for bytes
    that are not those that were written.
    """
    import torch

    storages = dict[Stored, torch.UntypedStorage]()
    found = OrderedDict[str, torch.Tensor]()
    with unchanged(opened) as file:
        places = dict(locate(opened, weights.table, file))
        if opened.format != "safetensors" and None in places.values():
            return None
        for name, one in places.items():
            kind = getattr(torch, weights.table[name].dtype, None)
            if one is None or kind is None:
                raise CheckpointError(f"{name!r} is stored as {weights.table[name].dtype}, for which torch has no "
                                      "tensors", do="Convert it with the program that wrote it")  # fmt: skip
            if one.storage not in storages:
                storages[one.storage] = _storage(opened, one.storage, file, mmap)
            empty = torch.empty(0, dtype=kind)
            found[name] = empty.set_(storages[one.storage], one.offset, one.info.shape, one.stride)
    if weights.metadata is not None:
        found._metadata = OrderedDict(weights.metadata)  # type: ignore[attr-defined]
    return found


def _storage(opened: Checkpoint, stored: Stored, file: BinaryIO, mmap: bool) -> torch.UntypedStorage:
    record = stored.record
    if mmap and record.size and record.method == 0:
        return _mapped(opened, stored.start, record.size)
    return _filled(record.size, lambda target: read_from(file, record, stored.start, target, stored.checked))


def _filled(size: int, fill: Callable[[memoryview], None]) -> torch.UntypedStorage:
    """Memory for `size` bytes, filled."""
    import torch

    room = torch.empty(size, dtype=torch.uint8)
    fill(room.numpy().data)
    return room.untyped_storage()


def _mapped(opened: Checkpoint, start: int, size: int) -> torch.UntypedStorage:
    import torch

    whole: Any = torch.UntypedStorage.from_file(str(opened.file), False, opened.bytes)
    part: torch.UntypedStorage = whole[start : start + size]
    return part
