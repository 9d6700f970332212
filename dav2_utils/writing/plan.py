"""A file to be written, as a plan: these bytes, then this range of the source, and so on; carried out, and proved.

A plan is only data, so a program can carry it out as it likes; here the kernel copies the ranges. The proof compares
every byte of the result with the source or with the plan, while a second thread checks that the source still has the
checksums that its writer gave it, and takes the fingerprint. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ..errors import CheckpointError, SourceChanged

CHUNK = 1 << 20  # bytes that are copied, compared or hashed at a time


class Span(NamedTuple):
    """A range of the source: where it begins, and how many bytes it has."""

    start: int
    size: int


@dataclass
class Plan:
    """What to write, in order, and what the source's writer said of its own bytes."""

    parts: list[bytes | Span] = field(default_factory=list)
    checks: list[tuple[str, Span, int]] = field(default_factory=list)  # a record's name, its bytes, their CRC-32

    @property
    def size(self) -> int:
        return sum(size for _, size, _ in self.placed())

    def placed(self) -> Iterator[tuple[int, int, bytes | Span]]:
        """For each part where in the new file it begins, how many bytes it has, and the part itself."""
        place = 0
        for part in self.parts:
            size = part.size if isinstance(part, Span) else len(part)
            yield place, size, part
            place += size


def read_spans(source: BinaryIO, spans: Iterable[Span]) -> Iterator[memoryview]:
    """The bytes of `spans`, `CHUNK` at a time, each to be used before the next is asked for.

    Raises `SourceChanged` if the source ends too early. It is read at places of its own (`os.pread`), so that
    several threads can read one file.
    """
    buffer = bytearray(CHUNK)
    view = memoryview(buffer)
    for start, size in spans:
        while size:
            count = _read_at(source, view[: min(size, CHUNK)], start)
            if not count:
                raise SourceChanged(Path(source.name))
            yield view[:count]
            start, size = start + count, size - count


def _read_at(file: BinaryIO, buffer: memoryview, place: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(file.fileno(), [buffer], place)
    with Path(file.name).open("rb", buffering=0) as own:  # Windows: a handle, and so a place, of one's own
        own.seek(place)
        return own.readinto(buffer) or 0


def carry_out(plan: Plan, source: BinaryIO, target: BinaryIO) -> None:
    """Write `plan` to `target`, an empty unbuffered file. Raises `OSError` and `SourceChanged`."""
    for part in plan.parts:
        if isinstance(part, Span):
            _copy(source, target, part)
        else:
            _write(target, part)


def _write(target: BinaryIO, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:  # one write moves at most 2,147,479,552 bytes
        view = view[target.write(view) :]


def _copy(source: BinaryIO, target: BinaryIO, span: Span) -> None:
    """By the kernel, without a way through this process, where the two file systems let it."""
    start, size = span
    if size >= 65536 and hasattr(os, "copy_file_range"):
        with contextlib.suppress(OSError):  # another file system, or one that cannot: the rest is copied here
            while size and (count := os.copy_file_range(source.fileno(), target.fileno(), min(size, 1 << 30), start)):
                start, size = start + count, size - count
    for chunk in read_spans(source, [Span(start, size)]):
        _write(target, chunk)


def check_source(plan: Plan, source: BinaryIO) -> None:
    """Whether the records that the plan copies still have the checksums that the source's own directory gives.

    Raises `CheckpointError` for one that has not: the disk, or a copy, changed bytes since they were written.
    """
    for name, span, crc in plan.checks:
        if (found := crc32(source, span)) != crc:
            raise CheckpointError(
                f"{source.name} is damaged: the checksum of its record {name[:80]!r} is {found:08x}",
                f"{crc:08x}, which was written with it",
                "Take another copy of the file, or an earlier checkpoint; torch.load looks at no checksums and would "
                "load these bytes as they are",
            )


def crc32(source: BinaryIO, span: Span) -> int:
    value = 0
    for chunk in read_spans(source, [span]):
        value = zlib.crc32(chunk, value)
    return value


def compare(plan: Plan, source: BinaryIO, target: BinaryIO) -> bool:
    """Whether `target` is, to the last byte, what `plan` says."""
    if os.fstat(target.fileno()).st_size != plan.size:
        return False
    for place, size, part in plan.placed():
        if isinstance(part, Span):
            same = _same(source, part, target, place)
        else:
            same = b"".join(map(bytes, read_spans(target, [Span(place, size)]))) == part
        if not same:
            return False
    return True


def _same(source: BinaryIO, span: Span, target: BinaryIO, place: int) -> bool:
    one, other = bytearray(CHUNK), bytearray(CHUNK)
    start, left = span
    while left:
        count = min(left, CHUNK)
        if count < CHUNK:  # whole buffers are compared as they are: views of them would be compared byte by byte
            one, other = bytearray(count), bytearray(count)
        _fill(source, one, start)
        _fill(target, other, place)
        if one != other:
            return False
        start, place, left = start + count, place + count, left - count
    return True


def _fill(file: BinaryIO, buffer: bytearray, start: int) -> None:
    view, at = memoryview(buffer), 0
    while at < len(buffer):
        if not (count := _read_at(file, view[at:], start + at)):
            raise SourceChanged(Path(file.name))
        at += count


def fingerprint(tensors: Iterable[tuple[str, str, tuple[int, ...], Callable[[], Iterable[bytes | memoryview]]]]) -> str:
    """`sha256:` and a digest of what the tensors are, whatever file, order or container they came in.

    The digest runs over the tensors (name, dtype, shape, their bytes) in the order of their names, as Python sorts
    text; for each one over the name in UTF-8, a zero byte, the dtype (`float32`), a zero byte, the sizes in decimal
    with commas between (`1024,3,14,14`; nothing for a single number), a zero byte, and then the bytes of the elements,
    in C order and little-endian.
    """
    import hashlib  # loads OpenSSL, which only what writes a file needs

    digest = hashlib.sha256()
    for name, dtype, shape, chunks in sorted(tensors, key=lambda row: row[0]):
        digest.update(f"{name}\0{dtype}\0{','.join(map(str, shape))}\0".encode("utf-8", "surrogatepass"))
        for chunk in chunks():
            digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"
