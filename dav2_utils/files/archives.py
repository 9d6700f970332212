"""The directory of a zip archive, and single records from it, with bounds on everything that the file declares.

Only the directory at the end and the records asked for are read, so a 4 GB checkpoint costs kilobytes. Checksums are
not looked at, as torch can be told to write none (`torch.serialization.config.save.compute_crc32 = False`).
Source: APPNOTE.TXT, the description of the zip format. Standard library only.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, NamedTuple

from ..errors import ArchiveError

MOST_RECORDS = 500_000
LARGEST_DIRECTORY = 128 * 2**20  # bytes

_MOVED = "its directory is not where it says: there are other data before it, or several archives in one file"
_END = struct.Struct("<4s4H2LH")
_END64_PLACE = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s4B4HL2L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")


class Record(NamedTuple):
    """One file in the archive: where its header stands, how many bytes it takes there and unpacked."""

    name: str
    start: int
    packed: int
    size: int
    method: int  # 0 stored, 8 deflated
    crc: int  # of the bytes unpacked, as the directory has it; 0 where the writer computed none
    flags: int


def read_directory(file: BinaryIO, size: int) -> dict[str, Record]:
    """Every record of the archive in `file` of `size` bytes, by name. Raises `ArchiveError`."""
    place, count, length, end = _find_directory(file, size)
    if count > MOST_RECORDS or length > LARGEST_DIRECTORY:
        raise ArchiveError(f"its directory declares {count:,} records in {length:,} bytes")
    if place + length > end:
        raise ArchiveError("bytes are missing in the middle of it", cut=True)
    if place + length < end:
        raise ArchiveError(_MOVED)
    file.seek(place)
    data = file.read(length)
    found: dict[str, Record] = {}
    names = set[str]()
    at = 0
    for _ in range(count):
        try:
            record, at = _entry(data, at)
        except (struct.error, IndexError) as error:
            raise ArchiveError("its directory is damaged") from error
        if record.name.lower() in names:  # torch looks them up without regard to case
            raise ArchiveError(f"it has two records called {record.name[:80]!r}")
        names.add(record.name.lower())
        if record.method == 0 and record.packed != record.size:
            raise ArchiveError(f"the record {record.name[:80]!r} is not packed and has two sizes")
        if record.start + _LOCAL.size + record.packed > place:
            raise ArchiveError(f"the record {record.name[:80]!r} reaches past the end of the data", cut=True)
        found[record.name] = record
    return found


def _find_directory(file: BinaryIO, size: int) -> tuple[int, int, int, int]:
    """Place, number of records and length of the directory as declared, and where it really ends."""
    tail = min(size, _END.size + 0xFFFF)
    file.seek(size - tail)
    data = file.read(tail)
    at = data.rfind(b"PK\5\6", 0, max(0, tail - _END.size + 4))
    if at < 0:
        raise ArchiveError("it is a zip archive without its directory, which stands at the end", cut=True)
    _, _, _, _, count, length, place, _ = _END.unpack_from(data, at)
    end = size - tail + at
    if end < _END64_PLACE.size:
        return place, count, length, end
    file.seek(end - _END64_PLACE.size)
    magic, _, end64, _ = _END64_PLACE.unpack(file.read(_END64_PLACE.size))
    if magic != b"PK\6\7":
        return place, count, length, end
    if end64 + _END64.size > end:
        raise ArchiveError("bytes are missing in the middle of it", cut=True)
    file.seek(end64)
    found = file.read(_END64.size)
    if len(found) < _END64.size or found[:4] != b"PK\6\6":
        raise ArchiveError(_MOVED)
    fields = _END64.unpack(found)
    if end64 + 12 + fields[1] != end - _END64_PLACE.size:
        raise ArchiveError(_MOVED)
    return fields[9], fields[7], fields[8], end64


def _entry(data: bytes, at: int) -> tuple[Record, int]:
    """The directory's entry at `at`, and where the next one begins."""
    fields = _ENTRY.unpack_from(data, at)
    if fields[0] != b"PK\1\2":
        raise struct.error("no entry")
    flags, method, crc, packed, size, start = fields[5], fields[6], fields[9], fields[10], fields[11], fields[18]
    lengths = fields[12:15]  # of the name, the extra fields, the comment
    at += _ENTRY.size
    name = data[at : at + lengths[0]].decode("utf-8", "backslashreplace")
    extra = data[at + lengths[0] : at + lengths[0] + lengths[1]]
    if at + sum(lengths) > len(data):
        raise struct.error("an entry reaches past the end")
    size, packed, start = _large(extra, [size, packed, start])
    return Record(name, start, packed, size, method, crc, flags), at + sum(lengths)


def _large(extra: bytes, numbers: list[int]) -> list[int]:
    """ZIP64: numbers that do not fit in four bytes stand, in this order, in the extra field 1."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        at += 4
        if kind == 1:
            for index, number in enumerate(numbers):
                if number == 0xFFFFFFFF:
                    [numbers[index]] = struct.unpack_from("<Q", extra, at)
                    at += 8
            break
        at += length
    return numbers


def read_record(file: BinaryIO, record: Record, limit: int) -> bytes:
    """The bytes of one record, unpacked. Raises `ArchiveError`, also for more than `limit` bytes."""
    if record.size > limit or record.packed > limit:
        raise ArchiveError(f"its record {record.name[:80]!r} has {record.size:,} bytes; at most {limit:,} are read")
    file.seek(data_start(file, record))
    data = file.read(record.packed)
    if record.method == 8:
        import zlib

        try:
            data = zlib.decompressobj(-15).decompress(data, limit + 1)
        except zlib.error as error:
            raise ArchiveError(f"its record {record.name[:80]!r} cannot be unpacked") from error
    elif record.method != 0:
        raise ArchiveError(f"its record {record.name[:80]!r} is packed in a way that torch does not write")
    if len(data) != record.size:
        raise ArchiveError(f"its record {record.name[:80]!r} has {len(data):,} bytes, not {record.size:,}", cut=True)
    return data


def data_start(file: BinaryIO, record: Record) -> int:
    """Where in the file the bytes of `record` begin, after its own header."""
    file.seek(record.start)
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size or header[:4] != b"PK\3\4":
        raise ArchiveError(f"the record {record.name[:80]!r} is not where the directory says", cut=True)
    fields = _LOCAL.unpack(header)
    return record.start + _LOCAL.size + int(fields[9]) + int(fields[10])
