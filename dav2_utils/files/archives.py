"""The directory of a zip archive, and single records from it, with bounds on everything that the file declares.

Only the directory at the end and the records asked for are read, so a 4 GB checkpoint costs kilobytes. Every record
that is read is checked against its checksum, unless the whole archive has none: torch can be told to write none
(`torch.serialization.config.save.compute_crc32 = False`), and itself looks at none.

What torch's own reader refuses is refused here too; where that reader would guess (two records of one name, sizes that
disagree), so is that. Sources: APPNOTE.TXT, the description of the zip format; caffe2/serialize/inline_container.cc and
the miniz beneath it. Standard library only.
"""

from __future__ import annotations

import functools
import struct
import zlib
from typing import BinaryIO, NamedTuple

from ..errors import ArchiveError

MOST_RECORDS = 500_000
LARGEST_DIRECTORY = 128 * 2**20  # bytes
CHUNK = 4 << 20  # bytes that are read and summed up at a time

_ENCRYPTED, _PATCH, _STRONGLY, _MASKED = 1, 1 << 5, 1 << 6, 1 << 13  # flags of a record
_FOLDER = 0x10  # in the attributes that MS-DOS gave to files

_MOVED = "its directory is not where it says: other data come before it, or one file holds several archives"
_END = struct.Struct("<4s4H2LH")
_END64_PLACE = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s4x2H4x3L4H2x2L")
_LOCAL = struct.Struct("<4s5H3L2H")


class Record(NamedTuple):
    """One file in the archive: where its header is, how many bytes it takes there and unpacked."""

    name: str
    start: int
    packed: int
    size: int
    method: int  # 0 stored, 8 deflated
    crc: int  # of the bytes unpacked, as the directory has it; 0 if the writer computed none
    flags: int

    @property
    def shown(self) -> str:
        return repr(self.name[:80])


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
    return _records(file.read(length), count, place)


@functools.lru_cache(maxsize=1)  # a file that is looked into twice, as by `diagnose`, has one directory
def _records(data: bytes, count: int, place: int) -> dict[str, Record]:
    """The `count` entries of a directory that begins at `place`."""
    found: dict[str, Record] = {}
    names = set[str]()
    at = 0
    for _ in range(count):
        try:
            record, at = _entry(data, at)
        except (struct.error, UnicodeDecodeError) as error:
            raise ArchiveError("its directory is damaged") from error
        name = record.name.lower()  # torch looks them up without regard to case
        if name in names:
            raise ArchiveError(f"it has two records called {record.shown}")
        names.add(name)
        if (record.method == 0 and record.packed != record.size) or (record.size and not record.packed):
            raise ArchiveError(f"the record {record.shown} has two sizes that do not go together")
        if record.start + _LOCAL.size + record.packed > place:
            raise ArchiveError(f"the record {record.shown} reaches past the end of the data", cut=True)
        found[record.name] = record
    return found


def _find_directory(file: BinaryIO, size: int) -> tuple[int, int, int, int]:
    """Place, number of records and length of the directory as declared, and where it really ends."""
    tail = min(size, _END.size + 0xFFFF)
    file.seek(size - tail)
    data = file.read(tail)
    at = data.rfind(b"PK\5\6", 0, max(0, tail - _END.size + 4))
    if at < 0:
        raise ArchiveError("it is a zip archive without its directory, which comes at the end", cut=True)
    _, disk, of_directory, here, count, length, place, _ = _END.unpack_from(data, at)
    end = size - tail + at
    magic, end64, disks = b"", 0, 1
    if end >= _END64_PLACE.size + _END64.size:
        file.seek(end - _END64_PLACE.size)
        magic, _, end64, disks = _END64_PLACE.unpack(file.read(_END64_PLACE.size))
    if magic != b"PK\6\7":
        _one_file(disk, of_directory, here == count)
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
    _one_file(fields[4], fields[5], fields[6] == fields[7] and disks == 1)
    return fields[9], fields[7], fields[8], end64


def _one_file(disk: int, of_directory: int, whole: bool) -> None:
    if not whole or disk or of_directory:
        raise ArchiveError("it is one part of an archive that was split over several files")


def _entry(data: bytes, at: int) -> tuple[Record, int]:
    """The directory's entry at `at`, and where the next one begins."""
    magic, flags, method, crc, packed, size, named, more, comment, disk, kind, start = _ENTRY.unpack_from(data, at)
    if magic != b"PK\1\2":
        raise struct.error("no entry")
    extra = at + _ENTRY.size + named
    name, end = data[extra - named : extra].decode("utf-8"), extra + more + comment
    if end > len(data) or "\0" in name:
        raise struct.error("an entry reaches past the end, or its name ends before its end")
    if 0xFFFFFFFF in (size, packed, start):
        size, packed, start = _large(data[extra : extra + more], [size, packed, start])
    record = Record(name, start, packed, size, method, crc, flags)
    if flags & _MASKED or disk:
        raise ArchiveError(f"the record {record.shown} is encrypted, or in another part of a split archive")
    if size and (name.endswith("/") or kind & _FOLDER):
        raise ArchiveError(f"the record {record.shown} is a folder with bytes in it")  # torch reads none of them
    return record, end


def _large(extra: bytes, numbers: list[int]) -> list[int]:
    """ZIP64: numbers that do not fit in four bytes stand, in this order, in the extra field 1."""
    at = 0
    while 0xFFFFFFFF in numbers and at < len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        field, at = extra[at + 4 : at + 4 + length], at + 4 + length
        if at > len(extra):
            raise struct.error("an extra field reaches past the end")
        if kind == 1:
            large = iter(struct.unpack_from(f"<{numbers.count(0xFFFFFFFF)}Q", field))
            return [next(large) if number == 0xFFFFFFFF else number for number in numbers]
    return numbers


def read_record(file: BinaryIO, record: Record, limit: int, checked: bool = True) -> bytes:
    """The bytes of one record, unpacked. Raises `ArchiveError`, also for more than `limit` bytes."""
    if record.size > limit or record.packed > limit:
        raise ArchiveError(f"its record {record.shown} has {record.size:,} bytes; at most {limit:,} are read")
    content = bytearray(record.size)
    read_into(file, record, memoryview(content), checked)
    return bytes(content)


def require_readable(record: Record) -> None:
    """Raises `ArchiveError` for a record that torch does not read, whatever is in it."""
    if record.flags & (_ENCRYPTED | _PATCH | _STRONGLY):
        raise ArchiveError(f"its record {record.shown} is encrypted")
    if record.method not in (0, 8):
        raise ArchiveError(f"its record {record.shown} is packed in a way that torch does not read")


def read_into(file: BinaryIO, record: Record, target: memoryview, checked: bool = True) -> None:
    """The bytes of one record, unpacked, into `target`, which has room for exactly those.

    Raises `ArchiveError` if there are more or fewer of them than that, or, if `checked`, if they don't match the
    record's checksum.
    """
    require_readable(record)
    read_from(file, record, data_start(file, record), target, checked)


def read_from(file: BinaryIO, record: Record, start: int, target: memoryview, checked: bool) -> None:
    """The same for a record whose bytes begin at `start`."""
    file.seek(start)
    there, sum_ = _inflated(file, record, target) if record.method else _stored(file, target, checked)
    if there != record.size:
        raise ArchiveError(f"its record {record.shown} has {there:,} bytes, not {record.size:,}", cut=True)
    if checked and sum_ != record.crc:
        raise ArchiveError(f"the bytes of its record {record.shown} are not those that were written: their checksum is "
                           f"{sum_:08x}, and should be {record.crc:08x}")  # fmt: skip


def _stored(file: BinaryIO, target: memoryview, checked: bool) -> tuple[int, int]:
    """How many bytes were there, and their checksum if it is needed."""
    at = sum_ = 0
    while at < len(target):
        count = file.readinto(target[at : at + CHUNK])  # type: ignore[attr-defined]
        if not count:
            break
        sum_ = zlib.crc32(target[at : at + count], sum_) if checked else 0
        at += count
    return at, sum_


def _inflated(file: BinaryIO, record: Record, target: memoryview) -> tuple[int, int]:
    unpack = zlib.decompressobj(-15)
    at = sum_ = 0
    left = record.packed
    while not unpack.eof and at <= len(target):
        packed = unpack.unconsumed_tail
        if not packed:
            packed = file.read(min(CHUNK, left))
            left -= len(packed)
        try:
            part = unpack.decompress(packed, CHUNK)
        except zlib.error as error:
            raise ArchiveError(f"its record {record.shown} cannot be unpacked") from error
        if not packed and not part:
            break
        fits = part[: len(target) - at]
        target[at : at + len(fits)] = fits
        sum_, at = zlib.crc32(part, sum_), at + len(part)
    return at, sum_


def data_start(file: BinaryIO, record: Record) -> int:
    """Where in the file the bytes of `record` begin, after its own header."""
    file.seek(record.start)
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size or header[:4] != b"PK\3\4":
        raise ArchiveError(f"the record {record.shown} is not where the directory says", cut=True)
    fields = _LOCAL.unpack(header)
    return record.start + _LOCAL.size + int(fields[9]) + int(fields[10])
