"""What a file is, judged by its content: formats that hold weights are read, others are named, with what to do.

Only the parts that describe the tensors are read: a torch zip's directory and pickle, a safetensors file's header.
Formats: pytorch.org/docs (serialization notes), github.com/huggingface/safetensors. Standard library only.
"""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ..errors import ArchiveError, PathError, PickleError
from ..keys import BYTES_PER_ELEMENT, Table, TensorInfo
from .archives import require_readable
from .pickles import Pickle, read_pickle
from .placeholders import MOST_DIMENSIONS
from .torchzip import TorchZip
from .unreadable import a_folder, by_content, damaged, foreign, known, other_zip, plain_pickle

LARGEST_PICKLE = 64 * 2**20  # bytes; a ViT-L training file has 0.3 MB of them
LARGEST_HEADER = 100_000_000  # bytes; the format's own limit
MOST_PARTS = 6_000_000  # of a header, each of which takes a hundred bytes when read; a tensor has about eight
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # what torch.save wrote first, before torch 1.6

#: torch's names of the dtypes of safetensors, in the order in which the library puts their tensors into a file.
SAFETENSORS = {
    "U64": "uint64", "I64": "int64", "F64": "float64", "C64": "complex64", "F32": "float32", "U32": "uint32",
    "I32": "int32", "BF16": "bfloat16", "F16": "float16", "U16": "uint16", "I16": "int16",
    "F8_E5M2FNUZ": "float8_e5m2fnuz", "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "I8": "int8", "U8": "uint8", "BOOL": "bool",
    "C128": "complex128",
}  # fmt: skip
_PACKED = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}  # bits; several numbers in a byte


class Content(NamedTuple):
    """What a readable file holds: `value` is nested data with `Tensor` (torch) or `TensorInfo` (safetensors) in it."""

    format: str
    value: Any
    names: list[str] = []
    notes: list[str] = []
    facts: dict[str, str] = {}
    mark: int = 0  # a checksum of what was read to know all this; another one means that the file has changed
    plain: bool = True  # whether every tensor is (see `placeholders.Tensor`), so that bytes and shapes are all there is
    beyond: bool = False  # whether `torch.load(weights_only=True)` refuses the pickle for its instructions


def read_content(path: Path) -> Content:
    """Read what `path` says about its tensors.

    Raises `PathError` when there is no such file, `NotACheckpoint` for everything that holds no readable weights.
    """
    if path.is_dir():
        raise known(path, "dcp") if (path / ".metadata").is_file() else a_folder(path)
    if not path.is_file():
        raise PathError(path, "is not a file" if path.exists() else "is not there", "a checkpoint file")
    try:
        with path.open("rb") as file:
            return _read(path, file, path.stat().st_size)
    except OSError as error:
        raise PathError(path, f"cannot be read ({error.strerror})", "a file that you may read") from error


def _read(path: Path, file: BinaryIO, size: int) -> Content:
    head = file.read(512)
    if head.startswith(b"PK\3\4\0\0\0\0{"):
        raise damaged(path, "It is a zip archive and a safetensors file in one, made to be read in two ways", False)
    if head.startswith(b"PK\3\4"):
        return _read_zip(path, file, size)
    header = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and header <= LARGEST_HEADER:
        return _read_safetensors(path, file, size, header)
    if head[:1] == b"\x80" and size > 2:
        return _read_bare_pickle(path, file, size)
    if text := _pickle_as_text(file, head, size):
        raise plain_pickle(path, _kind(text.value), text.names)
    raise by_content(path, head, size)


def _read_zip(path: Path, file: BinaryIO, size: int) -> Content:
    try:
        archive = TorchZip(file, size)
        if any(name.endswith("/constants.pkl") or "/code/" in name for name in archive.names):
            raise known(path, "torchscript")
        if archive.find("data.pkl") is None:
            raise other_zip(path, archive.names)
        archive.check()
        content = archive.read("data.pkl", LARGEST_PICKLE) or b""
        pickle = read_pickle(content)
        _check_storages(pickle, archive)
    except ArchiveError as error:
        raise damaged(path, f"It is a zip archive as torch.save writes it, but {error}", error.cut) from error
    except PickleError as error:
        raise damaged(path, f"The pickle in it cannot be followed: {error}", False, error.names) from error
    notes = [] if archive.checked else ["written without checksums, so damage to the numbers would go unnoticed"]
    return _of_pickle("torch-zip", pickle, notes, zlib.crc32(content))


def _of_pickle(format: str, pickle: Pickle, notes: list[str], mark: int = 0) -> Content:
    if pickle.beyond:
        notes.append("a pickle of a protocol that torch.load refuses unless told weights_only=False")
    return Content(format, pickle.value, pickle.names, notes, {}, mark, pickle.plain, bool(pickle.beyond))


def _check_storages(pickle: Pickle, archive: TorchZip) -> None:
    for storage in pickle.storages:
        record = archive.find(f"data/{storage.key}")
        there = record.size if record else 0
        if record is None or (storage.bytes is not None and there != storage.bytes):
            needed = f"{storage.bytes:,}" if storage.bytes is not None else "some"
            raise ArchiveError(f"storage {storage.key[:40]!r} should have {needed} bytes, and {there:,} are there",
                               record is None or there < (storage.bytes or 0))  # fmt: skip
        require_readable(record)


def _read_bare_pickle(path: Path, file: BinaryIO, size: int) -> Content:
    """A torch file from before 1.6 (several pickles, then the bytes of the tensors), or somebody's own pickle."""
    file.seek(0)
    data = file.read(LARGEST_PICKLE)
    try:
        first = read_pickle(data)
        if first.value != _LEGACY_MAGIC or not isinstance(first.value, int):
            raise plain_pickle(path, _kind(first.value), first.names)
        version = read_pickle(data, first.end)
        system = read_pickle(data, version.end)
        content = read_pickle(data, system.end)
        keys = read_pickle(data, content.end)
    except PickleError as error:
        cut = error.cut and size <= LARGEST_PICKLE
        raise damaged(path, f"It begins like a pickle, but cannot be followed: {error}", cut, error.names) from error
    end = keys.end + sum(8 + (storage.bytes or 0) for storage in content.storages)
    if size < end and all(storage.bytes is not None for storage in content.storages):
        raise damaged(path, f"Its tensors need {end:,} bytes, and the file has {size:,}", True)
    note = "torch's old format, from before version 1.6"
    note += "" if foreign(content.names) else "; `dav2 fix` writes a current one"
    return _of_pickle("torch-legacy", content, [note])


def _pickle_as_text(file: BinaryIO, head: bytes, size: int) -> Pickle | None:
    """Protocol 0, which looks like text; a file counts as such when it can be followed to its very end."""
    if head[:1] not in (b"(", b"c", b"]", b"}", b")", b"l", b"d") or size > LARGEST_PICKLE:
        return None
    file.seek(0)
    try:
        found = read_pickle(file.read())
    except PickleError:
        return None
    return found if found.end >= size - 2 else None


def _kind(value: Any) -> str:
    return getattr(value, "kind", None) or type(value).__name__


def _read_safetensors(path: Path, file: BinaryIO, size: int, length: int) -> Content:
    if 8 + length > size:
        raise damaged(path, f"Its header should have {length:,} bytes, and the file has {size:,}", True)
    file.seek(8)
    text = file.read(length)
    if sum(map(text.count, (b",", b"{", b"["))) > MOST_PARTS:
        raise damaged(path, "It begins like a safetensors file, but its header has too many parts", False)
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_no_twice, parse_constant=str)
        facts = header.pop("__metadata__", None) or {}
        if not all(isinstance(fact, str) for fact in facts.values()):
            raise TypeError("a fact in it is not text")
        "".join((*header, *facts, *facts.values())).encode()  # half a character, which JSON can write, is not text
        table, needed = _check_header(header)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise damaged(path, f"It begins like a safetensors file, but its header is damaged: {error}", False) from error
    if needed != size - 8 - length:
        raise damaged(path, f"Its tensors need {needed:,} bytes, and {size - 8 - length:,} are there",
                      needed > size - 8 - length)  # fmt: skip
    return Content("safetensors", table, facts={name: fact[:10_000] for name, fact in facts.items()},
                   mark=zlib.crc32(text))  # fmt: skip


def _no_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _check_header(header: dict[str, Any]) -> tuple[Table, int]:
    """The tensors in the order of their bytes, and how many bytes they need. The bytes must lie end to end."""
    places: list[tuple[int, int, str]] = []
    table: Table = {}
    for name, entry in header.items():
        shape, (begin, end) = entry["shape"], entry["data_offsets"]
        if len(shape) > MOST_DIMENSIONS:
            raise ValueError(f"{name[:80]!r} has {len(shape):,} dimensions")
        if not all(type(number) is int and 0 <= number < 2**62 for number in (*shape, begin, end)):
            raise ValueError(f"{name[:80]!r} has an impossible size")
        kind = str(entry["dtype"])[:20]
        bits = _PACKED.get(kind) or 8 * BYTES_PER_ELEMENT[SAFETENSORS[kind]]
        if math.prod(shape) * bits != 8 * (end - begin):
            raise ValueError(f"{name[:80]!r} has {end - begin:,} bytes, which does not fit its shape")
        table[name] = TensorInfo(tuple(shape), SAFETENSORS.get(kind) or kind.lower())
        places.append((begin, end, name))
    places.sort()
    needed = 0
    for begin, end, name in places:
        if begin != needed:
            raise ValueError(f"the bytes of {name[:80]!r} do not begin where those before it end")
        needed = end
    return {name: table[name] for _, _, name in places}, needed
