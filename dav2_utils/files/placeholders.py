"""Stand-ins for the things that a pickle names: classes, calls, tensors and their bytes, all of them inert.

A tensor here is a description: this shape, over storage 7, beginning there. Source: torch/serialization.py. Standard
library only.
"""

from __future__ import annotations

import re
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
    """The bytes that tensors lie in: `key` names the record with them. `bytes` is None if the dtype is packed.

    `plain` where torch names the record in this very way, so that no two storages can be mistaken for one.
    """

    __slots__ = ("bytes", "dtype", "key", "plain")

    def __init__(self, dtype: str, key: str, elements: int, plain: bool = True) -> None:
        each = BYTES_PER_ELEMENT.get(dtype or "uint8")
        self.dtype, self.key, self.bytes, self.plain = dtype, key, each and elements * each, plain


class Placed(TensorInfo):
    """A shape and dtype that knows the description it comes from."""

    described: Tensor


class Tensor:
    """One tensor as its pickle describes it: shape, dtype, and where its numbers lie, never the numbers themselves.

    `storage` is None if no bytes in the file belong to it (meta, sparse); `offset` and `stride` count elements.
    `plain` where that is all there is to know: the numbers are those bytes. Not so for a tensor with a sign to turn
    (conj, neg), with scales (quantised), or one that the pickle changed after it was made: there only torch knows.
    """

    __slots__ = ("as_usual", "info", "offset", "storage", "stride")

    def __init__(
        self, info: TensorInfo, storage: Storage | None = None, offset: int = 0, stride: tuple[int, ...] = (),
        as_usual: bool = False,
    ) -> None:  # fmt: skip
        self.info, self.storage, self.offset, self.stride, self.as_usual = info, storage, offset, stride, as_usual
        if isinstance(info, Placed):
            info.described = self

    @property
    def plain(self) -> bool:
        return self.as_usual and self.storage is not None and self.storage.plain


class Elsewhere(TensorInfo):
    """Of an object that only looks like a tensor (DTensor, ShardedTensor, a quantised one): its numbers are in other
    tensors within it, so the shape is a promise. `kind` is the dotted name of its class."""

    kind: str


class Extra(TensorInfo):
    """Of an entry that torch itself puts into a state dict and that isn't a tensor: `NAME._extra_state`."""


def extra(name: str) -> TensorInfo | None:
    """What is in a table for an entry called `name` that isn't a tensor; None if it belongs to no state dict."""
    return Extra((0,), "extra state") if name.rpartition(".")[2] == "_extra_state" else None


class Ordered(dict[Any, Any]):
    """An `OrderedDict`, which torch gives attributes: `_metadata`, with the versions of a model's modules."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state: dict[Any, Any] = {}


class OtherKey:
    """Stands for a dictionary key that is not plain text or a number, as hashing what a stranger wrote can take
    for ever (nested tuples, numbers that collide)."""

    __slots__ = ()


def put_into(target: dict[Any, Any], names: list[Any], values: list[Any]) -> None:
    for name, value in zip(names, values, strict=True):
        plain = type(name) in (str, bool) or name is None or (type(name) is int and abs(name) < 2**32)
        if not plain and _costly(name):
            raise BadTensor("a dictionary with a key that would take forever to look up")
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


_KEY = re.compile(r"[0-9]{1,18}")


def referred(to: Any) -> Any:
    """What torch refers to from outside the pickle: a storage; in its oldest files also a class with its source."""
    if isinstance(to, tuple) and len(to) >= 5 and to[0] == "storage":
        kind, key = to[1], to[2]
        if kind.name not in STORAGES or not isinstance(key, (str, int)):
            raise BadTensor("a storage of an unknown kind")
        plain = isinstance(key, str) and _KEY.fullmatch(key) and kind.module in ("torch", "torch.storage", "torch.cuda")
        return Storage(STORAGES[kind.name], str(key), whole(to[4]), bool(plain) and len(to) == 5)
    if isinstance(to, tuple) and len(to) >= 2 and to[0] == "module":
        return to[1]
    return Made("persistent id", to)


def whole(number: Any) -> int:
    if type(number) is not int or not 0 <= number < 2**62:
        raise BadTensor("an impossible size")
    return number
