"""Files written so that nothing is ever lost, and the proof that what was written is what was read.

A new file is written beside its place under a name that begins with a dot, forced to the disk, read back, compared
byte for byte, and only then given its name in one step. So whoever pulls the plug finds the old state or the new one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import AlreadyThere, WriteError

if TYPE_CHECKING:
    import torch

CHUNK = 16 << 20  # bytes that are compared, hashed or written at a time

SAFETENSORS_DTYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
    "int16": "I16", "int8": "I8", "uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64", "bool": "BOOL",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "complex64": "C64",
}  # fmt: skip

Tensors = Mapping[str, "torch.Tensor"]


@contextlib.contextmanager
def replacing(target: Path, like: Path | None = None, overwrite: bool = False) -> Iterator[Path]:
    """Gives a path beside `target` to write to; at the end of the block that file becomes `target`, whole, at once.

    The permissions are those of `like`, or what a new file has by the umask. Raises `WriteError`, with nothing left
    behind, for whatever goes wrong with the disk, and `AlreadyThere` when `target` exists and `overwrite` is False.
    """
    # 40 characters: with four bytes for each it still is a name that every file system takes
    temporary = target.with_name(f".{target.name[:40]}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        if like is not None:
            shutil.copymode(like, temporary)
        yield temporary
        _flush(temporary)
        _name(temporary, target, overwrite)
        _flush(target.parent)
    except FileExistsError as error:
        raise AlreadyThere(target) from error
    except (OSError, RuntimeError) as error:  # RuntimeError: what torch makes of a full disk
        raise WriteError(
            f"{target} could not be written: {error}",
            do="Look at the free space and the permissions of the folder; the source is untouched",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _name(temporary: Path, target: Path, overwrite: bool) -> None:
    """Give `temporary` its name. Without `overwrite` this fails where another process was faster."""
    if overwrite:
        temporary.replace(target)
        return
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if target.exists():
            raise FileExistsError(target) from None
        temporary.replace(target)


def _flush(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk. Windows has no such thing for folders."""
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def keep_backup(path: Path) -> Path:
    """A second name for the file at `path`: NAME.bak, or the first free of NAME.bak1, NAME.bak2 and so on."""
    number = 0
    while True:
        backup = path.with_name(f"{path.name}.bak{number or ''}")
        try:
            os.link(path, backup)
            return backup
        except FileExistsError:
            number += 1
        except OSError:  # a file system without hard links: a copy
            with replacing(backup, like=path) as temporary:
                shutil.copyfile(path, temporary)
            return backup


def require_space(folder: Path, needed: int) -> None:
    """Raises `WriteError` when the disk under `folder` has less than `needed` bytes left."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise WriteError(
            f"The disk under {folder} has {free / 1e9:.1f} GB left, and this needs {needed / 1e9:.1f} GB",
            do="Make room, or give another place with --output",
        )


def write_pth(content: Any, path: Path) -> None:
    """`torch.save`, straight from mapped memory; the checksums are left to `seal`, as torch's own are slow."""
    import torch

    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        with path.open("r+b", buffering=0) as file:  # through a path, its name would stand in every record
            torch.save(content, file)
    except (TypeError, ValueError, AttributeError, pickle.PicklingError) as error:  # what a file hung on its tensors
        raise WriteError(f"torch cannot write this: {error}", do="Leave out --keep-training-state") from error
    finally:
        torch.serialization.set_crc32_options(before)


def seal(path: Path) -> None:
    """Put the checksum of every record into the zip archive at `path`, as `unzip -t` and others expect it."""
    with zipfile.ZipFile(path) as archive, path.open("r+b") as file:
        at = archive.start_dir
        for entry in archive.infolist():
            file.seek(entry.header_offset)
            local = file.read(30)
            start = entry.header_offset + 30 + sum(struct.unpack("<HH", local[26:30]))
            checksum = struct.pack("<I", _checksum(file, start, entry.file_size))
            flags = struct.unpack("<H", local[6:8])[0]
            after = start + entry.compress_size
            file.seek(after if flags & 8 else entry.header_offset + 14)
            if flags & 8 and file.read(4) != b"PK\x07\x08":  # a data descriptor may come without its mark
                file.seek(after)
            file.write(checksum)
            file.seek(at)
            record = file.read(46)
            file.seek(at + 16)
            file.write(checksum)
            at += 46 + sum(struct.unpack("<HHH", record[28:34]))


def _checksum(file: Any, start: int, size: int) -> int:
    file.seek(start)
    value = 0
    while size > 0 and (chunk := file.read(min(CHUNK, size))):
        value, size = zlib.crc32(chunk, value), size - len(chunk)
    return value


def write_safetensors(tensors: Tensors, path: Path, facts: Mapping[str, Any]) -> None:
    """The tensors in their order, one after the other; `facts` as text in the header.

    Tensors that share memory are written once each, as the format has no sharing
    (github.com/huggingface/safetensors).
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"} | {name: _text(fact) for name, fact in facts.items()}}
    at = 0
    for name, tensor in tensors.items():
        dtype = SAFETENSORS_DTYPES.get(dtype_of(tensor))
        if dtype is None or name == "__metadata__" or _utf8(name) != name:
            raise WriteError(f"{name!r} ({dtype_of(tensor)}) has no place in a safetensors file", do="Use --format pth")
        size = tensor.numel() * tensor.element_size()
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("r+b") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            for chunk in raw(tensor):
                file.write(chunk)


def write_text(path: Path, facts: Mapping[str, Any]) -> None:
    """`facts` as JSON, in place of whatever was at `path`."""
    with replacing(path, overwrite=True) as temporary:
        text = json.dumps(facts, ensure_ascii=False, indent=2) + "\n"
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")  # as JSON itself escapes a surrogate


def _text(fact: Any) -> str:
    return _utf8(fact if isinstance(fact, str) else json.dumps(fact, ensure_ascii=False))


def _utf8(text: str) -> str:
    """`text` with `\\udcff` for what cannot be written: half a character, as in a file's name that is no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def dtype_of(tensor: torch.Tensor) -> str:
    """torch's short name for the dtype: `float32`; of what is no tensor (an `_extra_state`) the type's."""
    return str(getattr(tensor, "dtype", type(tensor).__name__)).removeprefix("torch.")


def raw(tensor: torch.Tensor) -> Iterator[memoryview]:
    """The bytes of a tensor in C order, little-endian, at most `CHUNK` at a time.

    Cut by shape alone, so two equal tensors give equal parts; and before copying, so a small storage that is expanded
    to a large shape costs no memory.
    """
    import torch

    plain = torch.Tensor.detach(tensor).resolve_conj().resolve_neg()
    if plain.dim() and plain.nbytes > CHUNK:
        rows = CHUNK * len(plain) // plain.nbytes
        for start in range(0, len(plain), rows or 1):
            yield from raw(plain[start : start + rows] if rows else plain[start])
    elif plain.numel():
        yield plain.contiguous().view(-1).view(torch.uint8).numpy().data


def fingerprint(tensors: Tensors) -> str:
    """`sha256:` and a digest of what the tensors are, whatever file, order or container they came in.

    The digest runs over the tensors in the order of their names (as Python sorts text); for each one over the name in
    UTF-8, a zero byte, the dtype (`float32`), a zero byte, the sizes in decimal with commas between (`1024,3,14,14`;
    nothing for a single number), a zero byte, and then the bytes of the elements, in C order and little-endian.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        if not hasattr(tensor, "untyped_storage"):  # an `_extra_state`
            continue
        sizes = ",".join(map(str, tensor.shape))
        digest.update(f"{name}\0{dtype_of(tensor)}\0{sizes}\0".encode("utf-8", "surrogatepass"))
        for chunk in raw(tensor):
            digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


def identical(pairs: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> bool:
    """Whether the two tensors of each pair have the same dtype, the same shape and the same bytes.

    Bytes and not values: NaN equals itself here, and 0.0 differs from -0.0.
    """
    return all(
        one.dtype == other.dtype
        and one.shape == other.shape
        and all(_same(a, b) for a, b in zip(raw(one), raw(other), strict=True))
        for one, other in pairs
    )


def _same(one: memoryview, other: memoryview) -> bool:
    import torch

    words = len(one) // 8 * 8
    a, b = (torch.frombuffer(part, dtype=torch.uint8) for part in (one, other))
    return torch.equal(a[:words].view(torch.int64), b[:words].view(torch.int64)) and one[words:] == other[words:]


def in_parallel(*jobs: Any) -> list[Any]:
    """The results of functions that run side by side: hashing, comparing and writing leave Python's lock alone."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result() for future in [pool.submit(job) for job in jobs]]
