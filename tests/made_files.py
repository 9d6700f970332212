"""Checkpoints by the thousand, each unlike the last: every way in which a file can say where its numbers lie.

`made(seed)` builds one out of parts: instructions of a pickle, records of a zip archive, the header of a safetensors
file, what torch itself saved; and hurts some of them. If something beside the weights makes `torch.load` refuse it,
`oracle` is the same file without that.
"""

from __future__ import annotations

import io
import json
import random
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

import torch

KINDS = {"DoubleStorage": ("float64", 8), "FloatStorage": ("float32", 4), "HalfStorage": ("float16", 2),
         "BFloat16Storage": ("bfloat16", 2), "LongStorage": ("int64", 8), "IntStorage": ("int32", 4),
         "ShortStorage": ("int16", 2), "CharStorage": ("int8", 1), "ByteStorage": ("uint8", 1),
         "ComplexFloatStorage": ("complex64", 8), "ComplexDoubleStorage": ("complex128", 16),
         "QUInt8Storage": ("quint8", 1)}  # fmt: skip
NEW = {"uint16": 2, "uint32": 4, "uint64": 8, "float8_e4m3fn": 1, "float8_e5m2": 1, "float32": 4, "int16": 2}
WAYS = ["v1", "v1", "v3", "v3", "v3", "parameter", "parameter", "parameter", "parameter", "grad", "grad", "state",
        "type", "conj", "build", "device", "sparse", "meta", "quantised", "hooks", "odd state", "odd type"]  # fmt: skip
NAMES = ["a.weight", "a.bias", "b.running_mean", "b.0.weight", "c.gamma"]


@dataclass
class Made:
    content: bytes
    oracle: bytes | None = None  # None: the file itself is
    suffix: str = ".pth"
    how: list[str] = field(default_factory=list)


# Pickles --------------------------------------------------------------------------------------------------------------


def text(value: str, new: bool = False) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return b"\x8c" + bytes([len(data)]) + data if new else b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    return (
        b"J" + struct.pack("<i", value)
        if abs(value) < 2**31
        else b"\x8a\x09" + value.to_bytes(9, "little", signed=True)
    )


def numbers(values: Any) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def called(name: str, *args: bytes) -> bytes:
    return b"c" + name.encode() + b"\n(" + b"".join(args) + b"tR"


def entries(*pairs: tuple[bytes, bytes], ordered: bool = False) -> bytes:
    start = b"ccollections\nOrderedDict\n)R" if ordered else b"}"
    return start + b"(" + b"".join(name + value for name, value in pairs) + b"u"


HOOKS = b"ccollections\nOrderedDict\n)R"
FOREIGN = b"cargparse\nNamespace\n)\x81" + entries((text("lr"), b"K\1")) + b"b"


class Maker:
    """One file in the making. `new` writes text as pickle protocol 4 does, which `torch.load` refuses."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.how: list[str] = []
        self.storages: dict[str, tuple[str, bytes]] = {}  # key: class and bytes
        self.plain = False  # from now on, nothing but the most usual tensors

    def one(self, *choices: Any) -> Any:
        return self.random.choice(choices)

    def rarely(self, what: str, share: float = 0.03) -> bool:
        if self.random.random() < share:
            self.how.append(what)
            return True
        return False

    def storage(self) -> tuple[bytes, str, int]:
        """A reference to one, its class, and how many elements it has."""
        if self.storages and self.rarely("shared", 0.3):
            key = self.one(*self.storages)
        else:
            key = str(len(self.storages))
            kind = self.one(*(name for name in KINDS if name[0] != "Q"))
            size = KINDS[kind][1]
            self.storages[key] = (kind, self.random.randbytes(size * self.one(0, 1, 6, 24, 24, 40)))
        kind, content = self.storages[key]
        count = len(content) // KINDS[kind][1]
        shown = kind
        odd = 0.0 if self.plain else 0.01
        if self.rarely("a storage of two kinds", odd):
            shown = self.one(*(name for name in KINDS if KINDS[name][1] == KINDS[kind][1]))
        module, location = self.one("torch", "torch", "torch", "torch.cuda"), self.one("cpu", "cuda:0")
        as_key = number(int(key)) if self.rarely("a key that is a number", odd) else text(key)
        said = number(count + 1) if self.rarely("a storage that is said to be larger", odd) else number(count)
        pid = b"(" + text("storage") + f"c{module}\n{shown}\n".encode() + as_key + text(location) + said + b"tQ"
        return pid, shown, count

    def place(self, count: int) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
        """Offset, shape and stride of a tensor over a storage of `count` elements."""
        if count == 0:
            return 0, self.one((0,), (0, 3), (2, 0)), (1,) * 1 if False else ()
        way = self.one("whole", "whole", "matrix", "turned", "part", "steps", "spread", "scalar", "overlap", "empty")
        self.how.append(way)
        if way == "matrix" and count % 2 == 0:
            return 0, (2, count // 2), (count // 2, 1)
        if way == "turned" and count % 2 == 0:
            return 0, (count // 2, 2), (1, count // 2)
        if way == "part" and count > 2:
            return 2, (count - 2,), (1,)
        if way == "steps" and count > 2:
            return 1, ((count - 1) // 2,), (2,)
        if way == "spread":
            return 0, (3, count), (0, 1)
        if way == "scalar":
            return count - 1, (), ()
        if way == "overlap" and count > 3:
            return 0, (count - 2, 2), (1, 1)
        if way == "empty":
            return self.one(0, count), (0, 4), (4, 1)
        return 0, (count,), (1,)

    def tensor(self) -> bytes:
        pid, kind, count = self.storage()
        dtype, each = KINDS[kind]
        offset, shape, stride = self.place(count)
        stride = stride if len(stride) == len(shape) else (1,) * len(shape)
        if self.rarely("out of bounds", 0.0 if self.plain else 0.005):
            offset += count + 1
        way = self.one(*["v2"] * 45, *WAYS)
        way = "v2" if self.plain else way
        self.how.append(way)
        where = pid + number(offset) + numbers(shape) + numbers(stride)
        v2 = called("torch._utils\n_rebuild_tensor_v2", where, b"\x89", HOOKS)
        if way == "v1":
            return called("torch._utils\n_rebuild_tensor", where)
        if way == "v3":
            new = self.one(*(name for name, size in NEW.items() if size <= each))
            return called("torch._utils\n_rebuild_tensor_v3", where, b"\x89", HOOKS, f"ctorch\n{new}\n".encode())
        if way == "parameter":
            return called("torch._utils\n_rebuild_parameter", v2, self.one(b"\x88", b"\x89"), HOOKS)
        if way == "grad":
            return called("torch._utils\n_rebuild_tensor_v2", where, b"\x88", HOOKS)
        if way == "hooks":
            hooks = self.one(b"}", b"N", entries((number(1), number(2)), ordered=True))
            return called("torch._utils\n_rebuild_tensor_v2", where, b"\x89", hooks)
        if way == "conj":
            bits = entries(
                *((text(name), self.one(b"\x88", b"\x89")) for name in self.one(["conj"], ["neg"], ["conj", "neg"]))
            )
            return called("torch._utils\n_rebuild_tensor_v2", where, b"\x89", HOOKS, bits)
        if way in ("state", "odd state"):
            said = entries((text("note"), number(1))) if way == "state" else entries((text("data"), v2))
            return called("torch._utils\n_rebuild_parameter_with_state", v2, b"\x89", HOOKS, said)
        if way in ("type", "odd type"):
            other = (
                entries((text("note"), number(1))) if way == "type" else entries((text("data"), self.other_tensor()))
            )
            args = b"(" + where + b"\x89" + HOOKS + b"t"
            kind_of = self.one(b"ctorch\nTensor\n", b"ctorch.nn.parameter\nParameter\n")
            return called(
                "torch._tensor\n_rebuild_from_type_v2", b"ctorch._utils\n_rebuild_tensor_v2\n", kind_of, args, other
            )
        if way == "build":
            again, _, more = self.storage()
            return v2 + b"(" + again + number(0) + numbers((more,)) + numbers((1,)) + b"tb"
        if way == "device":
            new = self.one("float32", "float16", "int32")
            return called(
                "torch._utils\n_rebuild_device_tensor_from_cpu_tensor",
                v2,
                f"ctorch\n{new}\n".encode(),
                text("cpu"),
                b"\x89",
            )
        if way == "sparse":
            index = called("torch._utils\n_rebuild_tensor_v2", self.index(), b"\x89", HOOKS)
            layout = called("torch.serialization\n_get_layout", text("torch.sparse_coo"))
            return called("torch._utils\n_rebuild_sparse_tensor", layout, b"(" + index + v2 + numbers((9,)) + b"t")
        if way == "meta":
            return called(
                "torch._utils\n_rebuild_meta_tensor_no_storage",
                f"ctorch\n{dtype}\n".encode(),
                numbers(shape),
                numbers(stride),
                b"\x89",
            )
        if way == "quantised":
            scale = b"(ctorch\nper_tensor_affine\n" + b"G" + struct.pack(">d", 0.5) + number(0) + b"t"
            whole = self.quantised()
            return called("torch._utils\n_rebuild_qtensor", whole, scale, b"\x89", HOOKS)
        return v2

    def index(self) -> bytes:
        key = str(len(self.storages))
        self.storages[key] = ("LongStorage", struct.pack("<q", 1))
        pid = b"(" + text("storage") + b"ctorch\nLongStorage\n" + text(key) + text("cpu") + number(1) + b"tQ"
        return pid + number(0) + numbers((1, 1)) + numbers((1, 1))

    def quantised(self) -> bytes:
        key = str(len(self.storages))
        self.storages[key] = ("QUInt8Storage", self.random.randbytes(6))
        pid = b"(" + text("storage") + b"ctorch\nQUInt8Storage\n" + text(key) + text("cpu") + number(6) + b"tQ"
        return pid + number(0) + numbers((2, 3)) + numbers((3, 1))

    def other_tensor(self) -> bytes:
        pid, _, count = self.storage()
        return called(
            "torch._utils\n_rebuild_tensor_v2", pid, number(0), numbers((count,)), numbers((1,)), b"\x89", HOOKS
        )

    def state(self) -> bytes:
        prefix = self.one("", "module.", "module.", "_orig_mod.module.")
        names = [prefix + name for name in NAMES[: self.random.randint(1, len(NAMES))]]
        pairs = [(text(name), self.tensor()) for name in names]
        if len(pairs) > 1 and self.rarely("one tensor under two names", 0.1):
            pairs[1] = (pairs[1][0], b"h\x07")
            pairs[0] = (pairs[0][0], pairs[0][1] + b"q\x07")
        if self.rarely("a name twice"):
            pairs.append((pairs[0][0], self.tensor()))
        if self.rarely("extra state", 0.05):
            pairs.append(
                (
                    text(f"{prefix}c._extra_state"),
                    self.one(number(3), text("x"), b"N", entries((text("scale"), self.other_tensor()))),
                )
            )
        ordered = self.rarely("ordered", 0.7)
        found = entries(*pairs, ordered=ordered)
        if ordered and self.rarely("metadata", 0.5):
            versions = entries(
                *((text(module), entries((text("version"), number(2)))) for module in ("", f"{prefix}b"[:-1], "b"))
            )
            found += entries((text("_metadata"), versions)) + b"b"
        return found

    def pickle(self) -> tuple[bytes, bytes | None]:
        """The file's pickle, and the same without what `torch.load` refuses beside the weights."""
        way = self.one("alone", "model", "model", "model", "looks alike", "pair", "deep")
        self.how.append(way)
        pairs = [(text("epoch"), number(3))]
        if way == "alone":
            return b"\x80\2" + self.state() + b".", None
        if way == "pair":
            return b"\x80\2(" + self.state() + entries(*pairs) + b"t.", None
        if way == "deep":
            pairs.insert(0, (text("state"), entries((text("model"), self.state()))))
        elif way == "looks alike":
            pairs = [(text("1"), self.state())]
            self.plain = True
            pairs.insert(self.one(0, 1), (number(1), self.state()))
        else:
            pairs.insert(self.one(0, 1), (text("model"), self.state()))
        plain = b"\x80\2" + entries(*pairs) + b"."
        if self.rarely("a newer protocol", 0.05):
            return b"\x80\4" + entries((text("note", new=True), number(1)), *pairs) + b".", plain
        if self.rarely("a foreign object", 0.4):
            pairs.insert(self.random.randint(0, len(pairs)), (text("args"), FOREIGN))
            return b"\x80\2" + entries(*pairs) + b".", plain
        return plain, None


# Archives -------------------------------------------------------------------------------------------------------------


def records(maker: Maker, pickle: bytes, order: bytes | None, version: tuple[str, bytes] | None) -> list[list[Any]]:
    found: list[list[Any]] = [["data.pkl", pickle]]
    if order is not None:
        found.append(["byteorder", order])
    for key, (kind, content) in maker.storages.items():
        each = KINDS[kind][1] // (2 if "Complex" in kind else 1)
        swapped = b"".join(content[at : at + each][::-1] for at in range(0, len(content), each))
        found.append([f"data/{key}", swapped if order == b"big" else content])
    if version:
        found.append(list(version))
    return found


def archive(maker: Maker, items: list[list[Any]], seed: int) -> bytes:
    """A zip archive of `items`, with whatever `seed` does to it; the same seed does the same to another list."""
    rng = random.Random(seed)

    def rarely(what: str, share: float = 0.02) -> bool:
        hit = rng.random() < share
        if hit and what not in maker.how:
            maker.how.append(what)
        return hit

    folder = rng.choice(["archive", "latest", "runs 1"])
    items = [[f"{folder}/{name}", content] for name, content in items]
    if rarely("a folder's own record"):
        items.insert(0, [f"{folder}/", b""])
    if rarely("a record of a Mac"):
        items.insert(rng.randint(0, len(items)), ["__MACOSX/._data.pkl", b"x"])
    if rarely("two records of one name"):
        again = rng.choice(items)
        items.append([again[0].upper() if rng.random() < 0.5 else again[0], bytes(len(again[1]))])
    if rarely("names in another case"):
        items = [[name.replace("data", "DATA"), content] for name, content in items]
    if rarely("the records in another order", 0.1):
        rng.shuffle(items)
    if rarely("serialization id", 0.3):
        items.append([f"{folder}/.data/serialization_id", b"1" * 40])
    if rarely("alignment", 0.2):
        items.append([f"{folder}/.storage_alignment", rng.choice([b"64", b"64", b"x", b""])])
    out = io.BytesIO()
    directory = b""
    prefix = rarely("something before it")
    out.write(b"junk" * prefix)
    start_shift = 4 if prefix and rng.random() < 0.5 else 0
    packed_all, no_sums, zip64 = rarely("packed", 0.1), rarely("without checksums", 0.1), rarely("zip64", 0.1)
    for name, content in items:
        packed = packed_all or rarely("one packed")
        data = zlib.compress(content, 6)[2:-4] if packed else content
        method = 8 if packed else 0
        if rarely("an unknown method", 0.003):
            method = 12
        crc = 0 if no_sums else zlib.crc32(content)
        if rarely("a wrong checksum", 0.005):
            crc ^= 1
        size, flags, attributes = len(content), 0, 0
        if rarely("a size that is wrong", 0.005):
            size += rng.choice([-1, 1, 8])
            size = max(size, 0)
        descriptor = rarely("a descriptor behind the data", 0.1)
        flags |= 8 if descriptor else 0
        flags |= 1 if rarely("encrypted", 0.003) else 0
        flags |= 0x2000 if rarely("masked", 0.002) else 0
        attributes = 0x10 if rarely("said to be a folder", 0.003) else 0
        raw = name.encode()
        local_name = b"x" + raw[1:] if rarely("another name in its own header", 0.01) else raw
        padding = b"FB" + struct.pack("<H", n := rng.choice([0, 0, 5, 60])) + b"Z" * n
        if rarely("no padding", 0.3):
            padding = b""
        start = out.tell() - start_shift
        local = (0, 0, 0) if descriptor else (crc, len(data), size)
        if rarely("another size in its own header", 0.01):
            local = (1, 2, 3)
        local_method = 8 - method if rarely("another method in its own header", 0.005) and method < 9 else method
        out.write(
            struct.pack("<4s5H3L2H", b"PK\3\4", 0, flags, local_method, 0, 0, *local, len(local_name), len(padding))
        )
        out.write(local_name + padding + data)
        if descriptor:
            out.write(struct.pack("<4s3L", b"PK\7\x08", crc, len(data), size))
        extra, sizes, offset = b"", (len(data), size), start
        if zip64:
            which = rng.choice(["sizes", "all", "start"])
            large = {"sizes": [size, len(data)], "all": [size, len(data), start], "start": [start]}[which]
            extra = struct.pack("<2H", 1, 8 * len(large)) + struct.pack(f"<{len(large)}Q", *large)
            sizes = sizes if which == "start" else (0xFFFFFFFF, 0xFFFFFFFF)
            offset = start if which == "sizes" else 0xFFFFFFFF
        comment = b"hello" if rarely("a comment", 0.02) else b""
        directory += struct.pack("<4s6H3L5H2L", b"PK\1\2", 0, 0, flags, method, 0, 0, crc, *sizes, len(raw), len(extra),
                                 len(comment), 0, 0, attributes, offset) + raw + extra + comment  # fmt: skip
    place = out.tell() - start_shift
    out.write(directory)
    count = len(items) + (1 if rarely("a wrong number of records", 0.005) else 0)
    if zip64:
        end64 = out.tell() - start_shift
        out.write(struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 0, 0, 0, 0, count, count, len(directory), place))
        out.write(struct.pack("<4sLQL", b"PK\6\7", 0, end64, 1))
    note = b"a comment" if rarely("a comment at the end", 0.03) else b""
    short = (0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF) if zip64 else (count, count, len(directory), place)
    out.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, *short, len(note)) + note)
    if rarely("something behind it"):
        out.write(rng.choice([b"\0", b"junk" * 100, b"\n"]))
    return out.getvalue()


def zipped(maker: Maker) -> Made:
    pickle, oracle = maker.pickle()
    order = maker.one(b"little", b"little", b"little", b"little", None)
    if maker.rarely("another byte order", 0.06):
        order = maker.one(b"big", b"LITTLE", b"little\n", b"", b"Big", b"\0")
    version: tuple[str, bytes] | None = maker.one(("version", b"3\n"), ("version", b"3\n"), (".data/version", b"3\n"))
    if maker.rarely("another version", 0.05):
        version = maker.one(
            None, *(("version", said) for said in (b"10", b"11", b"0", b" 3", b"+3", b"-1", b"x", b"", b"3x"))
        )
    seed = maker.random.randrange(2**32)
    content = archive(maker, records(maker, pickle, order, version), seed)
    if oracle:
        return Made(content, archive(maker, records(maker, oracle, order, version), seed), ".pth", maker.how)
    hurt = bytearray(content)
    if maker.rarely("cut off", 0.02):
        del hurt[maker.random.randrange(len(hurt)) :]
    if maker.rarely("a flipped bit", 0.06) and hurt:
        hurt[maker.random.randrange(len(hurt))] ^= 1 << maker.random.randrange(8)
    return Made(bytes(hurt), None, ".pth", maker.how)


# The others -----------------------------------------------------------------------------------------------------------

SAFE = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1, "U16": 2,
        "U32": 4, "U64": 8, "F8_E4M3": 1, "F8_E5M2": 1, "C64": 8}  # fmt: skip


def safetensors(maker: Maker) -> Made:
    header: dict[str, Any] = {}
    body = b""
    for name in NAMES[: maker.random.randint(1, 5)]:
        kind = maker.one(*SAFE)
        shape = maker.one([2, 3], [4], [], [0, 3], [1, 2, 2])
        count = 1
        for size in shape:
            count *= size
        data = maker.random.randbytes(count * SAFE[kind])
        if kind == "BOOL":
            data = bytes(byte & 1 for byte in data)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    first = next(iter(header.values()))
    if maker.rarely("wrong offsets", 0.05):
        first["data_offsets"] = maker.one([1, first["data_offsets"][1] + 1], [0, 0], [first["data_offsets"][1], 0])
    if maker.rarely("a hole", 0.03):
        body += b"\0"
    if maker.rarely("an unknown dtype", 0.03):
        first["dtype"] = maker.one("F4", "f32", "X", "F8_E8M0", 3)
    if maker.rarely("more than is asked for", 0.03):
        first["more"] = 1
    if maker.rarely("something missing", 0.03):
        first.pop(maker.one("dtype", "shape", "data_offsets"))
    if maker.rarely("the names in another order", 0.3):
        pairs = list(header.items())
        maker.random.shuffle(pairs)
        header = dict(pairs)
    if maker.rarely("facts", 0.4):
        header["__metadata__"] = maker.one(
            {"format": "pt"}, {"a": 1}, {}, None, {"x": "\ud800"}, {"b": "é"}, {"n": None}
        )
    said = json.dumps(header, ensure_ascii=maker.one(True, False)).encode("utf-8", "surrogatepass")
    if maker.rarely("a name twice", 0.03):
        said = said[:-1] + b',"a.weight":' + json.dumps(header["a.weight"]).encode() + b"}"
    if maker.rarely("spaces", 0.5):
        said += b" " * (-len(said) % 8)
    if maker.rarely("junk in the header", 0.02):
        said = maker.one(
            b" " + said, said + b"\0", said + b"x", said[:-1], said.decode("utf-8", "replace").encode("utf-16-le")
        )
    content = bytearray(struct.pack("<Q", len(said)) + said + body)
    if maker.rarely("cut off", 0.02):
        del content[maker.random.randrange(len(content)) :]
    if maker.rarely("bytes behind it", 0.02):
        content += b"x"
    if maker.rarely("a flipped bit", 0.03) and content:
        content[maker.random.randrange(len(content))] ^= 1 << maker.random.randrange(8)
    return Made(bytes(content), None, ".safetensors", ["safetensors", *maker.how])


def by_torch(maker: Maker) -> Made:
    """Saved by torch itself, in its current or its oldest format."""
    state: dict[str, Any] = {}
    for name in NAMES[: maker.random.randint(1, 5)]:
        dtype = getattr(torch, maker.one("float32", "float16", "bfloat16", "int64", "bool", "complex64", "float64"))
        tensor = torch.tensor([maker.random.randrange(100) for _ in range(12)]).to(dtype).view(3, 4)
        way = maker.one("plain", "turned", "part", "conj", "neg", "parameter", "scalar", "expanded", "attributes")
        if way == "turned":
            tensor = tensor.t()
        elif way == "part":
            tensor = tensor[1:, ::2]
        elif way == "conj" and tensor.is_complex():
            tensor = tensor.conj()
        elif way == "neg" and tensor.is_complex():
            tensor = tensor.conj().imag
        elif way == "parameter" and tensor.is_floating_point():
            tensor = torch.nn.Parameter(tensor)
        elif way == "scalar":
            tensor = tensor[0, 0]
        elif way == "expanded":
            tensor = tensor[:1].expand(5, 4)
        elif way == "attributes":
            tensor.note = 1  # type: ignore[attr-defined]
        maker.how.append(way)
        state[f"module.{name}"] = tensor
    if maker.rarely("shared", 0.3):
        state["module.tied.weight"] = next(iter(state.values()))
    value: Any = {"model": state, "epoch": 1} if maker.one(0, 1) else state
    legacy = maker.rarely("legacy", 0.5)
    out = io.BytesIO()
    if maker.rarely("without checksums", 0.2):
        torch.serialization.set_crc32_options(False)
    try:
        torch.save(value, out, _use_new_zipfile_serialization=not legacy)
    finally:
        torch.serialization.set_crc32_options(True)
    content = bytearray(out.getvalue())
    if maker.rarely("cut off", 0.03):
        del content[maker.random.randrange(len(content)) :]
    if maker.rarely("bytes behind it", 0.03):
        content += b"x" * 9
    return Made(bytes(content), None, ".pth", ["by torch", *maker.how])


def made(seed: int) -> Made:
    maker = Maker(seed)
    way = maker.one(zipped, zipped, zipped, zipped, zipped, zipped, safetensors, safetensors, by_torch, by_torch)
    found: Made = way(maker)
    return found
