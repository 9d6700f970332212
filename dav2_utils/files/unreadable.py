"""What only pretends to be a checkpoint: known by its content, never by its name, each with what to do about it."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import NotACheckpoint, PathError
from ..texts import printable

SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".th", ".tar", ".safetensors")  # what a folder is searched for

OTHER_FORMATS = (".onnx", ".engine", ".tflite", ".mlmodel", ".gguf", ".h5", ".msgpack", ".npy", ".npz", ".json", ".txt",
                 ".png", ".jpg", ".jpeg", ".zip", ".gz")  # fmt: skip  # what nothing here writes weights in

# The only calls in a pickle that torch itself writes, and that `weights_only=True` lets pass.
_TORCH_WRITES = re.compile(
    r"torch\.(cuda\.)?\w+(Storage|Tensor)|torch\._utils\._rebuild_\w+|torch\._tensor\._rebuild_from_type_v2"
    r"|torch\.storage\.(Untyped|Typed)Storage|torch\.Size|torch\.device|torch\.Tensor|torch\.nn\.parameter\.Parameter"
    r"|torch\.serialization\._get_layout|torch\.(q?u?int|float|bfloat|complex)\w*|torch\.bool|torch\.per_\w+"
    r"|collections\.(OrderedDict|Counter)|_codecs\.encode|builtins\.(set|bytearray|complex)"
    r"|__builtin__\.(set|bytearray|complex)"
)


def foreign(names: list[str]) -> list[str]:
    """Those of `names` that `torch.load(..., weights_only=True)` refuses."""
    return [name for name in names if not _TORCH_WRITES.fullmatch(name)]


_AGAIN = "Download or copy it again, and compare its size in bytes with the original's"
_TRUSTED = "Only if you trust its author, open it with the program that wrote it"


def damaged(path: Path, what: str, cut: bool, names: list[str] | None = None) -> NotACheckpoint:
    """A checkpoint, but not a whole one (`cut`), or not a sound one; with the strange names that its pickle names."""
    return NotACheckpoint(path, "truncated" if cut else "unknown", what + _named(names or []), _AGAIN)


def _named(names: list[str]) -> str:
    strange = [printable(name, 80) for name in foreign(names)]
    return f"; its pickle names {', '.join(strange[:5])}, none of which was run" if strange else ""


_KNOWN = {
    "empty": ("it is empty", _AGAIN),
    "git-lfs-pointer": (
        "it is a Git LFS pointer, a few lines instead of the file itself",
        "Run `git lfs install` and `git lfs pull` in the repository, or download the file itself",
    ),
    "html": (
        "it is a web page, saved instead of the file that it offers",
        "Download the file from its direct address (on Hugging Face `resolve`, not `blob`), logged in if it asks",
    ),
    "dcp": (
        "it is a folder of torch.distributed.checkpoint, which holds its weights in several files",
        "Gather them: python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER weights.pth",
    ),
    "torchscript": (
        "it is a TorchScript archive: a program with its weights",
        "Take the weights out, if you trust it: "
        "torch.save(torch.jit.load(FILE, map_location='cpu').state_dict(), 'weights.pth')",
    ),
    "torch-tar": (
        "it is a torch file from before version 0.1.11, a tar archive",
        "Save it again, if you trust it: "
        "torch.save(torch.load(FILE, map_location='cpu', weights_only=False), 'new.pth')",
    ),
}
_ZIPS = {
    "archive_format": "a program of torch.export (.pt2)",
    ".data/extern_modules": "an archive of torch.package",
    "word/document.xml": "a Word document",
    "model.weights.h5": "a Keras model",
}
_MAGICS: list[tuple[int, bytes, str]] = [
    (0, b"\xff\xd8\xff", "a JPEG picture"), (0, b"\x89PNG\r\n\x1a\n", "a PNG picture"), (0, b"GIF8", "a GIF picture"),
    (0, b"RIFF", "a RIFF file (WebP, WAV or AVI)"), (4, b"ftyp", "a video or HEIC picture"), (0, b"%PDF", "a PDF"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes"), (0, b"\x93NUMPY", "a NumPy array (.npy)"),
    (0, b"\x1f\x8b", "gzip-compressed"), (0, b"BZh", "bzip2-compressed"),
    (0, b"\xfd7zXZ\0", "xz-compressed"), (0, b"\x28\xb5\x2f\xfd", "zstd-compressed"), (0, b"Rar!", "a RAR archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"), (0, b"GGUF", "a GGUF model (llama.cpp)"),
    (4, b"TFL3", "a TFLite model"),
    (0, b"\4\0\0\0\1\0\0\0\3\0\0\0V 1", "a Lua Torch file (.t7)"), (0, b"\3\0\0\0\1\0\0\0", "a Lua Torch file (.t7)"),
    (0, b"\0\5\x16\7", "a macOS resource file (its name begins with ._ ), beside the real one"),
    (0, b"\x7fELF", "a program or library"), (0, b"PK\5\6", "an empty zip archive"),
    (0, b"<?xml", "XML, often the error message of a storage server"), (0, b"{", "JSON text"), (0, b"[", "JSON text"),
]  # fmt: skip
_UNPACK = {
    "gzip-compressed": "gunzip FILE.gz, or tar -xzf", "bzip2-compressed": "bunzip2, or tar -xjf",
    "xz-compressed": "unxz", "zstd-compressed": "unzstd", "a 7z archive": "7z x", "a RAR archive": "unrar x",
    "a tar archive": "tar -xf",
}  # fmt: skip


def known(path: Path, format: str) -> NotACheckpoint:
    """The error for a file or folder that is `format`, one of those with an answer of their own."""
    return NotACheckpoint(path, format, *_KNOWN[format])


def a_folder(path: Path) -> PathError:
    """The error for a folder, with the files in it that may have been meant."""
    names = sorted(printable(file.name, 60) for file in path.iterdir() if file.suffix in SUFFIXES)
    one = f"Give one of its files: {', '.join(names[:4])}{', ...' * (len(names) > 4)}. " if names else ""
    return PathError(path, "is a folder", "a file", f"{one}For everything in a folder: dav2 fix FOLDER --dry-run")


def other_zip(path: Path, names: list[str]) -> NotACheckpoint:
    """The error for a zip archive with the records `names`, which torch.save did not write."""
    what = next((what for name, what in _ZIPS.items() if any(name in inside for inside in names)), "")
    some = ", ".join(printable(name, 40) for name in names[:4]) or "nothing in it"
    found = f"it is a zip archive, {what or 'not written by torch.save'}, with {some}"
    return NotACheckpoint(path, "unknown", found, "If there is a checkpoint in it, unpack it first")


def plain_pickle(path: Path, holds: str, names: list[str]) -> NotACheckpoint:
    """The error for a pickle that torch.save did not write; `holds` is the type of what is in it."""
    found = f"it is a plain pickle ({printable(holds)}), not written by torch.save" + _named(names)
    return NotACheckpoint(path, "pickle", found, f"{_TRUSTED}, and save its weights with torch.save")


def by_content(path: Path, head: bytes, size: int) -> NotACheckpoint:
    """The error for a file of `size` bytes that begins with `head`, whatever that says."""
    format = _format_of(head, size)
    if format:
        return known(path, format)
    if not head[:64].strip(b"\0"):
        found = f"it begins with {len(head) - len(head.lstrip(bytes(1)))} zero bytes or more, like a file whose "
        return NotACheckpoint(path, "truncated", found + "download or copy broke off", _AGAIN)
    what = _name_of(head)
    do = f"Unpack it first ({_UNPACK[what]})" if what in _UNPACK else f"Check where it came from. {_TRUSTED}"
    return NotACheckpoint(path, "unknown", f"it is {what}", do)


def _format_of(head: bytes, size: int) -> str:
    """The format by the first bytes; empty for none of those with an answer of their own."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if size == 0:
        return "empty"
    if text.startswith((b"version https://git-lfs", b"version https://hawser")):
        return "git-lfs-pointer"
    if text.startswith((b"<!doctype", b"<html", b"<head")) or (text.startswith(b"<") and b"<html" in text):
        return "html"
    first = head.split(b"\0")[0].lstrip(b"./")
    if head[257:262] == b"ustar" and first in (b"sys_info", b"pickle", b"storages", b"tensors"):
        return "torch-tar"
    return ""


def _name_of(head: bytes) -> str:
    for at, magic, name in _MAGICS:
        if head[at:].startswith(magic):
            return name
    if head[257:262] == b"ustar":
        return "a tar archive"
    try:
        head[:-3].decode("utf-8")
    except UnicodeDecodeError:
        return f"none of the formats known here; it begins with {head[:8].hex(' ')}"
    return f"text: {printable(head[:60].decode('utf-8', 'replace'))!r}"
