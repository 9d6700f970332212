"""Where in its file each tensor of a set lies: the bytes of its storage, and the view of them that the tensor is.

Only what can be copied as it is gets located: records that are not packed, in the byte order of nearly all machines,
under plain strided tensors. For everything else there is torch. Standard library only.
"""

from __future__ import annotations

import json
import sys
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple

from ..files.archives import data_start
from ..files.checkpoint import Checkpoint
from ..files.formats import LARGEST_PICKLE
from ..files.placeholders import Ordered, Placed, Tensor, extra
from ..files.torchzip import TorchZip
from ..files.weightsets import find_sets, mapping
from ..keys import BYTES_PER_ELEMENT, TensorInfo
from .plan import CHUNK, Span, read_spans
from .tracing import Trace, trace


class Stored(NamedTuple):
    """The bytes of one storage in the source, and their CRC-32 if the source has one."""

    record: str
    span: Span
    crc: int | None


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
    return [(one.record, one.span, one.crc) for one in storages if one.crc is not None]


class Followed(NamedTuple):
    """A torch archive whose pickle was followed step by step."""

    archive: TorchZip
    pickle: bytes
    trace: Trace


def follow(file: BinaryIO, size: int) -> Followed:
    """The archive in `file`, which `read_content` has read before. Raises `ArchiveError`."""
    archive = TorchZip(file, size)
    pickle = archive.read("data.pkl", LARGEST_PICKLE) or b"."
    return Followed(archive, pickle, trace(pickle))


def locate(followed: Followed, path: tuple[str, ...]) -> OrderedDict[str, Located] | None:
    """The tensors of the set under `path` in a torch archive, with its `_metadata`; None if one is not plain."""
    archive = followed.archive
    if sys.byteorder != "little" or archive.byteorder not in (b"", b"little"):
        return None
    chosen = dictionary_at(followed.trace.value, path)
    found: OrderedDict[str, Located] = OrderedDict()
    for name, tensor in _described(followed.trace.value, chosen, path).items():
        stored = _stored(archive, tensor) if isinstance(tensor, Tensor) and tensor.plain else None
        if stored is None:
            return None
        found[name] = Located(TensorInfo(*tensor.info), stored, tensor.offset, tensor.stride)
        if tensor.info.dtype == "complex128" and not found[name].in_order:  # no memoryview has such elements
            return None
    found._metadata = chosen.state.get("_metadata") if isinstance(chosen, Ordered) else None  # type: ignore[attr-defined]
    return found or None


def _described(value: Any, chosen: Any, path: tuple[str, ...]) -> dict[str, Any]:
    """The tensors under `path` as the pickle describes them: in the dictionary `chosen`, or in a pickled module.

    With them whatever else belongs to a state dict (`_extra_state`), which is not to be copied as it lies.
    """
    if isinstance(chosen, dict):
        entries = {name: one for name, one in chosen.items() if isinstance(name, str)}
        return {name: one for name, one in entries.items() if isinstance(one, Tensor) or extra(name)}
    sets, _ = find_sets(value)
    table = next((weights.table for weights in sets if weights.path == path), {})
    return {name: info.described if isinstance(info, Placed) else None for name, info in table.items()}


def _stored(archive: TorchZip, tensor: Tensor) -> Stored | None:
    dtype, storage = tensor.info.dtype, tensor.storage
    each = 0 if dtype.startswith("q") else BYTES_PER_ELEMENT.get(dtype, 0)
    record = archive.find(f"data/{storage.key}") if storage else None
    if not each or storage is None or record is None or record.method or record.flags & 1:
        return None
    if storage.dtype not in ("", dtype) or record.size % each:
        return None
    span = Span(data_start(archive.file, record), record.size)
    return Stored(record.name, span, record.crc or None)  # torch can be told to write no checksums: zeros


def dictionary_at(value: Any, path: tuple[str, ...]) -> Any:
    """What lies under `path` in nested dictionaries, lists and tuples; None if nothing does."""
    for part in path:
        entries = mapping(value) or {}
        if isinstance(value, (list, tuple)):
            entries = {str(place): one for place, one in enumerate(value)}
        value = entries.get(part)
    return value


def locate_safetensors(opened: Checkpoint, file: BinaryIO) -> OrderedDict[str, Located] | None:
    """The tensors of a safetensors file, whose header `read_content` has read before."""
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(length))
    found: OrderedDict[str, Located] = OrderedDict()
    for name, info in opened.sets[0].table.items():
        if info.dtype not in BYTES_PER_ELEMENT:
            return None
        begin, end = header[name]["data_offsets"]
        found[name] = Located(info, Stored(name, Span(8 + length + begin, end - begin), None), 0, info.strides)
    return found
