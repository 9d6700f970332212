"""The archive that `torch.save` writes, around records that stay where they are in the source.

Layout, found in files that torch 2.13 wrote and in APPNOTE.TXT: every record's bytes begin on a multiple of 64, by
padding in the extra field `FB`; sizes and checksum follow the bytes; no dates; always the records of ZIP64 at the end.
Standard library only.
"""

from __future__ import annotations

import struct
import zlib
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from typing import BinaryIO, NamedTuple

from .pickled import StorageToBe, TensorToBe, state_dict_pickle
from .plan import Plan, Span, crc32
from .source import Located, Stored, checks

ALIGNMENT = 64
_LIMIT = 0xFFFFFFFF  # what does not fit in four bytes is in the extra field 1
_LOCAL = struct.Struct("<4s5H3L2H")
_ENTRY = struct.Struct("<4s6H3L5H2L")


class Entry(NamedTuple):
    """One record to be: its name in the archive, its bytes, their CRC-32."""

    name: str
    data: bytes | Span
    crc: int

    @property
    def size(self) -> int:
        return self.data.size if isinstance(self.data, Span) else len(self.data)


def plan_torch_zip(state: Mapping[str, Located], source: BinaryIO) -> Plan | None:
    """The file that `torch.save` would write for `state`; None if it would have to copy elements one by one.

    A tensor that is a small view into a large storage gets a storage of its own, as `torch.save` writes whole storages.
    """
    needed: Counter[Stored] = Counter()
    for one in state.values():
        needed[one.storage] += one.info.bytes
    made: dict[Stored | str, StorageToBe] = {}
    tensors: OrderedDict[str, TensorToBe] = OrderedDict()
    for name, one in state.items():
        whole = one.storage.span.size <= 2 * needed[one.storage] + 4096
        if not whole and not _is_dense(one):
            return None
        to_be = StorageToBe(one.info.dtype, one.storage, one.storage.span if whole else one.span)
        to_be = made.setdefault(one.storage if whole else name, to_be)
        if to_be.dtype != one.info.dtype:  # one storage seen as numbers of two kinds
            return None
        tensors[name] = TensorToBe(to_be, one.offset if whole else 0, one.info.shape, one.stride)
    if (metadata := getattr(state, "_metadata", None)) is not None:
        tensors._metadata = metadata  # type: ignore[attr-defined]
    pickle, storages = state_dict_pickle(tensors)
    plan = lay_out([*_small("data.pkl", pickle), *_FRONT, *_data(storages, source), *_small("version", b"3\n")])
    plan.checks = checks(state.values())
    return plan


def _is_dense(one: Located) -> bool:
    """Whether its elements fill their span, in whatever order of the dimensions, so that a copy keeps the strides."""
    step = 1
    for own, n in sorted((own, n) for own, n in zip(one.stride, one.info.shape, strict=True) if n != 1):
        if own != step or n == 0:
            return False
        step *= n
    return True


def _small(name: str, data: bytes) -> list[Entry]:
    return [Entry(f"archive/{name}", data, zlib.crc32(data))]


_FRONT = [
    entry
    for name, data in ((".format_version", b"1"), (".storage_alignment", b"%d" % ALIGNMENT), ("byteorder", b"little"))
    for entry in _small(name, data)
]


def _data(storages: Iterable[StorageToBe], source: BinaryIO) -> Iterable[Entry]:
    """The records of the numbers. A checksum is carried over from the source, and made if the source has none."""
    for key, to_be in enumerate(storages):
        stored, span = to_be.stored, to_be.span
        crc = stored.record.crc if stored.checked and span == stored.span else crc32(source, span)
        yield Entry(f"archive/data/{key}", span, crc)


def lay_out(entries: Iterable[Entry]) -> Plan:
    """The plan of an archive with these records, in this order."""
    plan, directory, place, count = Plan(), b"", 0, 0
    for entry in entries:
        local = _local(entry, place)
        plan.parts += [local, entry.data, after := _descriptor(entry, place)]
        directory += _central(entry, place)
        place += len(local) + entry.size + len(after)
        count += 1
    plan.parts.append(directory + _end(count, len(directory), place))
    return plan


def _local(entry: Entry, place: int) -> bytes:
    name = entry.name.encode("utf-8")
    extra = _zip64(entry.size, 0, place)
    # as torch reckons it: with the fields that large sizes and places take
    front = place + _LOCAL.size + len(name) + 4 + len(extra)
    padding = -front % ALIGNMENT
    extra += struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    flags = _flags(entry)
    return _LOCAL.pack(b"PK\3\4", 0, flags, 0, 0, 0, 0, 0, 0, len(name), len(extra)) + name + extra


def _flags(entry: Entry) -> int:
    return 0x0808 if entry.size else 0x0800  # names in UTF-8; checksum and sizes behind the bytes


def _zip64(size: int, packed: int, place: int) -> bytes:
    """The extra field 1, with those numbers that are too large for four bytes; empty if none is."""
    large = [size, packed] if size >= _LIMIT else []
    large += [place] if place >= _LIMIT else []
    return struct.pack(f"<2H{len(large)}Q", 1, 8 * len(large), *large) if large else b""


def _descriptor(entry: Entry, place: int) -> bytes:
    if not entry.size:
        return b""
    large = entry.size >= _LIMIT or place >= _LIMIT
    return struct.pack("<4sL2Q" if large else "<4s3L", b"PK\7\x08", entry.crc, entry.size, entry.size)


def _central(entry: Entry, place: int) -> bytes:
    name, extra = entry.name.encode("utf-8"), _zip64(entry.size, entry.size, place)
    size = min(entry.size, _LIMIT)
    return (
        _ENTRY.pack(b"PK\1\2", 0, 0, _flags(entry), 0, 0, 0, entry.crc, size, size, len(name), len(extra), 0, 0, 0, 0,
                    min(place, _LIMIT)) + name + extra
    )  # fmt: skip


def _end(count: int, size: int, place: int) -> bytes:
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 0x031E, 45, 0, 0, count, count, size, place)
    where = struct.pack("<4sLQL", b"PK\6\7", 0, place + size, 1)
    few = min(count, 0xFFFF)
    return end64 + where + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, few, few, min(size, _LIMIT), min(place, _LIMIT), 0)
