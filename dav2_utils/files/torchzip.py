"""A zip archive as torch's own reader takes it: its folder, and the few records that say how to read the others.

What `torch.load` refuses is refused here, so that nobody is told that such a file loads. Sources:
caffe2/serialize/inline_container.cc (the archive), torch/serialization.py (`_load`). Standard library only.
"""

from __future__ import annotations

import re
from typing import BinaryIO

from ..errors import ArchiveError
from .archives import Record, read_directory, read_record

NEWEST_VERSION = 10  # that torch 2.13 reads, as all since 1.10; torch.save itself writes version 3
_SMALL = 1_000  # bytes; these records have a handful


class TorchZip:
    """The archive in `file`, of `size` bytes. Records are found as torch finds them: in the folder that the first of
    them lies in, without regard to case. Raises `ArchiveError`."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file = file
        records = read_directory(file, size)
        self.names = list(records)
        self.folder = self.names[0].partition("/")[0] if self.names and "/" in self.names[0] else ""
        self.checked = any(record.crc for record in records.values())  # or it was written without checksums
        self.records = {name.lower(): record for name, record in records.items()}

    def find(self, name: str) -> Record | None:
        """The record called `name` within the folder."""
        return self.records.get(f"{self.folder}/{name}".lower())

    def read(self, name: str, limit: int = _SMALL) -> bytes | None:
        """The bytes of that record; None if there is none."""
        record = self.find(name)
        return record and read_record(self.file, record, limit, self.checked)

    @property
    def byteorder(self) -> bytes:
        """As the archive says; empty if it says nothing."""
        return self.read("byteorder") or b""

    def check(self) -> None:
        """Raises `ArchiveError` with the reason for which `torch.load` would refuse the archive."""
        if outside := next((name for name in self.names if not name.startswith(f"{self.folder}/")), None):
            mac = ". A Mac's own zip adds such records; zip -d FILE '__MACOSX/*' takes them out"
            raise ArchiveError(f"torch.load refuses it, as its record {outside[:80]!r} lies outside its folder "
                               f"{self.folder[:80]!r}{mac if outside.startswith('__MACOSX') else ''}")  # fmt: skip
        self.read(".data/serialization_id")
        version = self.read(".data/version" if self.find(".data/version") else "version")
        if version is None:
            raise ArchiveError("torch.load refuses it, as it has no record called 'version'")
        number = re.match(rb"\+?([0-9]{1,18})", version.lstrip())
        if not number or not 1 <= int(number[1]) <= NEWEST_VERSION:
            raise ArchiveError(f"torch.load refuses it, as its version is {version[:20]!r}; versions 1 to "
                               f"{NEWEST_VERSION} are read")  # fmt: skip
        self.read(".format_version")
        alignment = self.read(".storage_alignment")
        if self.byteorder not in (b"little", b"big") and self.find("byteorder"):
            raise ArchiveError(f"torch.load refuses it, as its byte order is {self.byteorder[:20]!r}, neither little "
                               "nor big")  # fmt: skip
        if alignment is not None and not re.fullmatch(rb"[0-9]{1,18}", alignment):
            raise ArchiveError(f"torch.load refuses it, as its alignment is {alignment[:20]!r}, not a number")
