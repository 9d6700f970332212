"""What stands for the things that a pickle names: classes, calls, tensors and their bytes, all of them inert.

The calls that torch writes for its tensors are data in disguise ("a tensor over storage 7, shaped so"), and a few more
are as harmless (`OrderedDict`, `torch.Size`, a NumPy number); `REBUILD` reads those. Everything else stays what it
says it is. Sources: torch/_utils.py and torch/serialization.py. Standard library only.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from typing import Any

from ..errors import BadTensor
from ..keys import BYTES_PER_ELEMENT, TensorInfo

MOST_DIMENSIONS = 64

#: torch.FloatStorage and so on: the name of the class says the dtype.
STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool", "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128", "QInt8Storage": "qint8", "QInt32Storage": "qint32",
    "QUInt8Storage": "quint8", "QUInt4x2Storage": "quint4x2", "QUInt2x4Storage": "quint2x4",
    "UntypedStorage": "",
}  # fmt: skip


class Global:
    """A name that the pickle asks for: a class or a function. Never imported."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    @property
    def dotted(self) -> str:
        return f"{self.module}.{self.name}"


class Made:
    """What a call would have given: what was called, with what, and what was put into the result afterwards."""

    __slots__ = ("args", "items", "maker", "state")

    def __init__(self, maker: Any, args: Any = ()) -> None:
        self.maker, self.args = maker, args
        self.state: Any = None
        self.items: dict[Any, Any] | None = None  # what was put into it, where it is a dictionary of somebody's own

    def mapping(self) -> dict[Any, Any]:
        if self.items is None:
            self.items = {}
        return self.items

    @property
    def kind(self) -> str:
        """The dotted name of its class, or of the function that would have made it."""
        return self.maker.dotted if isinstance(self.maker, Global) else "object"


class Storage:
    """The bytes that tensors lie in: `key` names the record with them. `bytes` is None where the dtype is packed."""

    __slots__ = ("bytes", "dtype", "key")

    def __init__(self, dtype: str, key: str, elements: int) -> None:
        each = BYTES_PER_ELEMENT.get(dtype or "uint8")
        self.dtype, self.key, self.bytes = dtype, key, each and elements * each


class Tensor:
    """One tensor as its pickle describes it: shape, dtype, and where its numbers lie, never the numbers themselves.

    `storage` is None where no bytes in the file belong to it (meta, sparse); `offset` and `stride` count elements.
    """

    __slots__ = ("info", "offset", "storage", "stride")

    def __init__(
        self, info: TensorInfo, storage: Storage | None = None, offset: int = 0, stride: tuple[int, ...] = ()
    ) -> None:
        self.info, self.storage, self.offset, self.stride = info, storage, offset, stride


class Elsewhere(TensorInfo):
    """Of an object that only looks like a tensor (DTensor, ShardedTensor, a quantised one): its numbers are in other
    tensors within it, so the shape is a promise. `kind` is the dotted name of its class."""

    kind: str


class OtherKey:
    """Stands for a dictionary key that is not plain text or a number, as hashing what a stranger wrote can take
    for ever (nested tuples, numbers that collide)."""

    __slots__ = ()


def put_into(target: dict[Any, Any], names: list[Any], values: list[Any]) -> None:
    for name, value in zip(names, values, strict=True):
        plain = type(name) in (str, bool) or name is None or (type(name) is int and abs(name) < 2**32)
        if not plain and _costly(name):
            raise BadTensor("a dictionary with a key that would take for ever to look up")
        target[name if plain else OtherKey()] = value


def _costly(key: Any) -> bool:
    """Whether a dictionary of Python's own, as torch makes one, would hash or compare for ever with this key."""
    left, parts = 1_000, [key]
    while parts and left:
        part, left = parts.pop(), left - 1
        if type(part) is int and abs(part) >= 2**60:  # from 2**61 - 1 on, whole numbers have hashes in common
            return True
        parts += part[:left] if isinstance(part, tuple) else ()
    return not left


def as_dict(names: list[Any], values: list[Any]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    put_into(found, names, values)
    return found


def referred(to: Any) -> Any:
    """What torch refers to from outside the pickle: a storage; in its oldest files also a class with its source."""
    if isinstance(to, tuple) and len(to) >= 5 and to[0] == "storage":
        if to[1].name not in STORAGES or not isinstance(to[2], (str, int)):
            raise BadTensor("a storage of an unknown kind")
        return Storage(STORAGES[to[1].name], str(to[2]), _whole(to[4]))
    if isinstance(to, tuple) and len(to) >= 2 and to[0] == "module":
        return to[1]
    return Made("persistent id", to)


def _whole(number: Any) -> int:
    if type(number) is not int or not 0 <= number < 2**62:
        raise BadTensor("a size that is no size")
    return number


# What torch calls to make its tensors again, read as data.


def _shape(size: Any) -> tuple[int, ...]:
    if len(size) > MOST_DIMENSIONS:
        raise BadTensor(f"a tensor of {len(size):,} dimensions")
    shape = tuple(map(_whole, size))
    if math.prod(shape) >= 2**63:
        raise BadTensor("a tensor with more numbers in it than torch can count")
    return shape


def _dtype(dtype: Any) -> str:
    """The short name of one of torch's dtypes; it is shown to people, so it must look like one."""
    if not isinstance(dtype, Global) or dtype.module != "torch" or not _DTYPE.fullmatch(dtype.name):
        raise BadTensor("a tensor of an unknown dtype")
    return dtype.name


_DTYPE = re.compile(r"[a-z][a-z0-9_]{1,30}")


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, dtype: str) -> Tensor:
    shape = _shape(size)
    if isinstance(storage, Made) and storage.kind == "torch.storage._load_from_bytes":  # written by pickle.dump
        return _elsewhere(storage.kind, shape, dtype)
    if not isinstance(storage, Storage) or len(shape) != len(stride):
        raise BadTensor("a tensor without its storage or its strides")
    last = _whole(offset) + sum((n - 1) * _whole(step) for n, step in zip(shape, stride, strict=True))
    each = BYTES_PER_ELEMENT.get(dtype)
    if each and storage.bytes is not None and 0 not in shape and (last + 1) * each > storage.bytes:
        raise BadTensor(f"a tensor of shape {shape} is larger than the {storage.bytes:,} bytes that it lies in")
    return Tensor(TensorInfo(shape, dtype), storage, offset, tuple(stride))


def _typed(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Tensor:
    return _tensor(storage, offset, size, stride, getattr(storage, "dtype", None) or "uint8")


def _untyped(storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any,
             *rest: Any) -> Tensor:  # fmt: skip
    return _tensor(storage, offset, size, stride, _dtype(dtype))


def _sparse(layout: Any, data: Any) -> Tensor:
    values = [part for part in data if isinstance(part, Tensor)][-1]
    size = next(part for part in data if isinstance(part, tuple))
    return Tensor(TensorInfo(_shape(size), values.info.dtype))


def _meta(dtype: Any, size: Any, *rest: Any) -> Tensor:
    return Tensor(TensorInfo(_shape(size), _dtype(dtype)))


def _elsewhere(kind: str, shape: tuple[int, ...], dtype: str) -> Tensor:
    info = Elsewhere(shape, dtype)
    info.kind = kind
    return Tensor(info)


def _subclass(kind: Any, dtype: Any, size: Any, *rest: Any) -> Tensor:
    return _elsewhere(kind.dotted, _shape(size), _dtype(dtype))


def _from_numpy(array: Any, dtype: Any, *rest: Any) -> Tensor:
    return Tensor(TensorInfo(_shape(array.state[1]), _dtype(dtype)))


def _same(data: Any, *rest: Any) -> Any:
    return data


def _ordered(pairs: Any = ()) -> dict[Any, Any]:
    return as_dict([pair[0] for pair in pairs], [pair[1] for pair in pairs])


def _counter(counts: Any = None) -> dict[Any, Any]:
    return dict(counts) if isinstance(counts, dict) else {}


def _encoded(text: Any, encoding: Any = "") -> Any:
    return text.encode("latin-1")  # the only encoding that pickle itself writes, for bytes in protocol 2


def _bytearray(content: Any = b"", encoding: Any = "") -> Any:
    if not isinstance(content, (str, bytes)):
        raise BadTensor("bytes by their number alone, which pickle never writes")
    return content


def _number(dtype: Any, data: Any = None) -> Any:
    """A NumPy scalar: its value, where it is an ordinary number."""
    code = {"f8": "d", "f4": "f", "f2": "e", "i8": "q", "i4": "i", "i2": "h", "i1": "b", "u8": "Q", "u4": "I",
            "u2": "H", "u1": "B", "b1": "?"}.get(("" + dtype.args[0])[:4].lstrip("<|="))  # fmt: skip
    order = ">" if isinstance(dtype.state, tuple) and dtype.state[1] == ">" else "<"
    if code and isinstance(data, bytes) and len(data) == struct.calcsize(code):
        return struct.unpack(order + code, data)[0]
    return Made(Global("numpy", "generic"), (dtype, data))


REBUILD: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _typed,
    "torch._utils._rebuild_tensor_v2": _typed,
    "torch._utils._rebuild_tensor_v3": _untyped,
    "torch._utils._rebuild_qtensor": _typed,
    "torch._utils._rebuild_sparse_tensor": _sparse,
    "torch._utils._rebuild_meta_tensor_no_storage": _meta,
    "torch._utils._rebuild_device_tensor_from_numpy": _from_numpy,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _same,
    "torch._utils._rebuild_wrapper_subclass": _subclass,
    "torch._utils._rebuild_parameter": _same,
    "torch._utils._rebuild_parameter_with_state": _same,
    "torch.Size": lambda size=(): tuple(size),
    "collections.OrderedDict": _ordered,
    "collections.defaultdict": lambda *rest: {},
    "collections.Counter": _counter,
    "_codecs.encode": _encoded,
    "builtins.bytearray": _bytearray,
    "__builtin__.bytearray": _bytearray,
    "numpy.core.multiarray.scalar": _number,
    "numpy._core.multiarray.scalar": _number,
}
