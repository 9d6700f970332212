"""Where in its file each tensor of a table lies: the bytes of its storage, and the view of them that the tensor is.

Plain strided tensors are located, in the byte order of nearly all machines. For everything else there is torch.
Standard library only.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple

from ..errors import SourceChanged
from ..files.archives import Record, data_start
from ..files.checkpoint import Checkpoint
from ..files.formats import LARGEST_PICKLE
from ..files.placeholders import Placed
from ..files.torchzip import TorchZip
from ..keys import BYTES_PER_ELEMENT, Table, TensorInfo
from .plan import CHUNK, Span, read_spans


class Stored(NamedTuple):
    """The bytes of one storage in the source: where they begin, and what its directory says of them."""

    record: Record
    start: int
    checked: bool  # whether the source has its checksum: torch can be told to write none, or no bytes yet

    @property
    def span(self) -> Span:
        return Span(self.start, self.record.packed)


class Located(NamedTuple):
    """One tensor: shape and dtype, its storage, and which of the storage's elements are its own."""

    info: TensorInfo
    storage: Stored
    offset: int
    stride: tuple[int, ...]

    @property
    def span(self) -> Span:
        """The bytes from its first element to its last."""
        each, shape = BYTES_PER_ELEMENT[self.info.dtype], self.info.shape
        reach = 1 + sum((n - 1) * step for n, step in zip(shape, self.stride, strict=True)) if 0 not in shape else 0
        return Span(self.storage.span.start + self.offset * each, reach * each)

    @property
    def copyable(self) -> bool:
        """Whether it can be copied as it lies, and read here: not packed, in whole elements that `memoryview` knows."""
        each, record = BYTES_PER_ELEMENT[self.info.dtype], self.storage.record
        return record.method == 0 and record.size % each == 0 and (self.in_order or each < 16)

    @property
    def in_order(self) -> bool:
        """Whether its elements lie one behind the other, in C order."""
        step = 1
        for n, own in zip(reversed(self.info.shape), reversed(self.stride), strict=True):
            if n != 1 and own != step:
                return 0 in self.info.shape
            step *= n
        return True

    def read(self, source: BinaryIO) -> Iterator[bytes | memoryview]:
        """Its elements in C order."""
        if self.in_order:
            yield from read_spans(source, [self.span])
            return
        kind: Any = {1: "B", 2: "H", 4: "I", 8: "Q"}[BYTES_PER_ELEMENT[self.info.dtype]]
        data = memoryview(b"".join(bytes(chunk) for chunk in read_spans(source, [self.span]))).cast(kind)
        yield from _rows(data, 0, self.info.shape, self.stride)


def _rows(data: memoryview, place: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> Iterator[bytes]:
    if len(shape) > 1:
        for row in range(shape[0]):
            yield from _rows(data, place + row * stride[0], shape[1:], stride[1:])
    elif stride[0]:
        yield data[place : place + (shape[0] - 1) * stride[0] + 1 : stride[0]].tobytes()
    else:  # one element again and again
        one, left = data[place : place + 1].tobytes(), shape[0]
        while left:
            count = min(left, CHUNK // len(one))
            yield one * count
            left -= count


def checks(tensors: Iterable[Located]) -> list[tuple[str, Span, int]]:
    """The records that the tensors lie in, as `Plan.checks` has them."""
    storages = dict.fromkeys(one.storage for one in tensors)
    return [(one.record.name, one.span, one.record.crc) for one in storages if one.checked]


def open_archive(opened: Checkpoint, file: BinaryIO) -> tuple[TorchZip, bytes]:
    """The torch archive in `file` and its pickle. Raises `SourceChanged` unless they are those that were inspected."""
    archive = TorchZip(file, opened.bytes)
    pickle = archive.read("data.pkl", LARGEST_PICKLE) or b""
    if zlib.crc32(pickle) != opened.mark:
        raise SourceChanged(opened.file)
    return archive, pickle


def locate(opened: Checkpoint, table: Table, file: BinaryIO) -> Iterator[tuple[str, Located | None]]:
    """Each tensor of `table`, which is in `opened`: where in `file` it lies, None if only torch can say.

    Raises `SourceChanged` where `file` is not what was inspected, and `ArchiveError`.
    """
    if opened.format == "safetensors":
        return _in_safetensors(opened, table, file)
    return _in_zip(opened, table, file) if opened.format == "torch-zip" else iter([(name, None) for name in table])


def _in_zip(opened: Checkpoint, table: Table, file: BinaryIO) -> Iterator[tuple[str, Located | None]]:
    archive, _ = open_archive(opened, file)
    little = sys.byteorder == "little" and archive.byteorder in (b"", b"little")
    storages: dict[str, Stored] = {}
    for name, info in table.items():
        tensor = info.described if little and isinstance(info, Placed) else None
        if tensor is None or not tensor.plain or tensor.storage is None:
            yield name, None
            continue
        key = tensor.storage.key
        if key not in storages:
            record = archive.find(f"data/{key}")
            if record is None or record.size != tensor.storage.bytes:
                raise SourceChanged(opened.file)
            storages[key] = Stored(record, data_start(file, record), record.crc != 0)
        yield name, Located(info, storages[key], tensor.offset, tensor.stride)


def _in_safetensors(opened: Checkpoint, table: Table, file: BinaryIO) -> Iterator[tuple[str, Located | None]]:
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > opened.bytes or zlib.crc32(text := file.read(length)) != opened.mark:
        raise SourceChanged(opened.file)
    header = json.loads(text)
    for name, info in table.items():
        begin, end = header[name]["data_offsets"]
        stored = Stored(Record(name, begin, end - begin, end - begin, 0, 0, 0), 8 + length + begin, checked=False)
        yield name, Located(info, stored, 0, info.strides) if info.dtype in BYTES_PER_ELEMENT else None
