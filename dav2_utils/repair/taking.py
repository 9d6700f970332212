"""The tensors of one set of weights, read from the file straight into memory of their own, and nothing else of it.

One copy and no mapping: whatever becomes of the file later, the tensors stay as they are. Every record is checked
against its checksum while it is read. Tensors that share memory in the file share it here.
"""

from __future__ import annotations

import os
import sys
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from ..errors import ArchiveError, CheckpointError
from ..files.archives import CHUNK, Record, data_start, read_into
from ..files.checkpoint import Checkpoint
from ..files.formats import LARGEST_PICKLE
from ..files.placeholders import Placed
from ..files.torchzip import TorchZip
from ..files.weightsets import WeightSet

if TYPE_CHECKING:
    import torch

_AGAIN = "Download or copy it again"
_ROTTEN = "Take another copy of it, if there is one: something changed these bytes after they were written. "
_ROTTEN += "torch.load looks at no checksums and would load them as they are"


def can_be_taken(opened: Checkpoint, weights: WeightSet, refused: bool) -> bool:
    """Whether the file describes these tensors completely, so that they can be read without torch's own loader.

    Where another tensor in it is special, torch is asked first; unless it refuses the file anyway.
    """
    if opened.format == "safetensors":
        return not weights.extra
    plain = all(isinstance(info, Placed) and info.described.plain for info in weights.table.values())
    return opened.format == "torch-zip" and plain and (opened.plain or refused) and not weights.extra and _little()


def _little() -> bool:
    import torch

    default: Any = torch.serialization.get_default_load_endianness()
    return sys.byteorder == "little" and (default is None or default.name != "BIG")


@contextmanager
def unchanged(opened: Checkpoint) -> Iterator[BinaryIO]:
    """The file, open. Raises `CheckpointError` when it is not the one that was inspected, or changes meanwhile."""
    with opened.file.open("rb") as file:
        before = _stamp(file)
        try:
            if before[0] != opened.bytes:
                raise _changed(opened)
            yield file
        except (ArchiveError, EOFError) as error:
            if _stamp(file) != before:
                raise _changed(opened) from error
            do = _ROTTEN if "checksum" in str(error) else _AGAIN
            raise CheckpointError(f"{opened.file} cannot be read: {error}", do=do) from error
        if _stamp(file) != before:
            raise _changed(opened)


def _stamp(file: BinaryIO) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns


def _changed(opened: Checkpoint) -> CheckpointError:
    return CheckpointError(f"{opened.file} changed while it was read", do="Wait until nothing writes to it, and retry")


def take(opened: Checkpoint, weights: WeightSet, mmap: bool = False) -> OrderedDict[str, torch.Tensor] | None:
    """The tensors of `weights`, in memory of their own, or with `mmap` in the file itself.

    None if the file must be read by torch after all. Raises `CheckpointError` for a file that changed, and for bytes
    that are not those that were written.
    """
    with unchanged(opened) as file:
        found = (_from_safetensors if opened.format == "safetensors" else _from_zip)(opened, weights, file, mmap)
    if found is not None and weights.metadata is not None:
        found._metadata = OrderedDict(weights.metadata)  # type: ignore[attr-defined]
    return found


def _from_zip(
    opened: Checkpoint, weights: WeightSet, file: BinaryIO, mmap: bool
) -> OrderedDict[str, torch.Tensor] | None:
    import torch

    archive = TorchZip(file, opened.bytes)
    if zlib.crc32(archive.read("data.pkl", LARGEST_PICKLE) or b"") != opened.mark:
        raise _changed(opened)
    if archive.byteorder == b"big":
        return None
    storages = dict[str, torch.UntypedStorage]()
    found = OrderedDict[str, torch.Tensor]()
    for name, info in weights.table.items():
        assert isinstance(info, Placed)
        described = info.described
        key = described.storage.key if described.storage else ""
        if key not in storages:
            record = archive.find(f"data/{key}")
            if record is None or record.size != (described.storage and described.storage.bytes):
                raise _changed(opened)
            storages[key] = _record(file, opened, record, archive.checked, mmap)
        empty = torch.empty(0, dtype=getattr(torch, info.dtype))
        found[name] = empty.set_(storages[key], described.offset, info.shape, described.stride)
    return found


def _record(file: BinaryIO, opened: Checkpoint, record: Record, checked: bool, mmap: bool) -> torch.UntypedStorage:
    if mmap and record.method == 0:
        return _mapped(opened, data_start(file, record), record.size)
    return _filled(record.size, lambda target: read_into(file, record, target, checked))


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


def _from_safetensors(
    opened: Checkpoint, weights: WeightSet, file: BinaryIO, mmap: bool
) -> OrderedDict[str, torch.Tensor]:
    """The format's tensors lie one after the other behind the header, in the order of the table."""
    import torch

    length = int.from_bytes(file.read(8), "little")
    if length > opened.bytes or zlib.crc32(file.read(length)) != opened.mark:
        raise _changed(opened)
    at = 8 + length
    found = OrderedDict[str, torch.Tensor]()
    for name, info in weights.table.items():
        kind = getattr(torch, info.dtype, None)
        if kind is None or (info.elements and not info.bytes):
            raise CheckpointError(f"{name!r} is stored as {info.dtype}, for which torch has no tensors",
                                  do="Convert it with the program that wrote it")  # fmt: skip
        storage = _mapped(opened, at, info.bytes) if mmap and info.bytes else _filled(info.bytes, _reader(file, at))
        found[name] = torch.empty(0, dtype=kind).set_(storage, 0, info.shape, info.strides)
        at += info.bytes
    return found


def _reader(file: BinaryIO, start: int) -> Callable[[memoryview], None]:
    def fill(target: memoryview) -> None:
        file.seek(start)
        at = 0
        while at < len(target):
            count = file.readinto(target[at : at + CHUNK])  # type: ignore[attr-defined]
            if not count:
                raise EOFError("bytes are missing at its end")
            at += count

    return fill
