"""What torch calls to make its tensors again, read as data: "a tensor of this shape over storage 7".

A few more calls are as harmless (`OrderedDict`, `torch.Size`, a NumPy number). Everything else stays what it says it
is. Source: torch/_utils.py. Standard library only.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from operator import mul
from typing import Any

from ..errors import BadTensor
from ..keys import BYTES_PER_ELEMENT, TensorInfo
from .placeholders import MOST_DIMENSIONS, Elsewhere, Global, Made, Ordered, Placed, Storage, Tensor, put_into, whole

QUANTISED = {"qint8", "quint8", "qint32"}


def _shape(size: Any) -> tuple[int, ...]:
    if len(size) > MOST_DIMENSIONS:
        raise BadTensor(f"a tensor of {len(size):,} dimensions")
    shape = tuple(map(whole, size))
    if math.prod(shape) >= 2**63:
        raise BadTensor("a tensor with more numbers in it than torch can count")
    return shape


def _dtype(dtype: Any) -> str:
    """The short name of one of torch's dtypes; it is shown to people, so it must look like one."""
    if not isinstance(dtype, Global) or dtype.module != "torch" or not _DTYPE.fullmatch(dtype.name):
        raise BadTensor("a tensor of an unknown dtype")
    return dtype.name


_DTYPE = re.compile(r"[a-z][a-z0-9_]{1,30}")


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, dtype: str, plain: bool = False) -> Tensor:
    shape = _shape(size)
    if isinstance(storage, Made) and storage.kind == "torch.storage._load_from_bytes":  # written by pickle.dump
        return _elsewhere(storage.kind, shape, dtype)
    if not isinstance(storage, Storage) or len(shape) != len(stride):
        raise BadTensor("a tensor without its storage or its strides")
    stride = tuple(map(whole, stride))
    last = whole(offset) + sum(map(mul, shape, stride)) - sum(stride)
    each = BYTES_PER_ELEMENT.get(dtype)
    if each and storage.bytes is not None and 0 not in shape and (last + 1) * each > storage.bytes:
        raise BadTensor(f"a tensor of shape {shape} is larger than the {storage.bytes:,} bytes that it lies in")
    as_usual = plain and dtype in BYTES_PER_ELEMENT and dtype not in QUANTISED
    info = Placed(shape, dtype) if as_usual else TensorInfo(shape, dtype)
    return Tensor(info, storage, offset, stride, as_usual)


def _typed(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Tensor:
    dtype = getattr(storage, "dtype", None) or ""
    plain = bool(dtype) and len(rest) in (0, 2, 3) and _as_usual(dtype, *rest)
    return _tensor(storage, offset, size, stride, dtype or "uint8", plain)


def _untyped(storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, kind: Any,
             *rest: Any) -> Tensor:  # fmt: skip
    dtype = _dtype(kind)
    return _tensor(storage, offset, size, stride, dtype, _as_usual(dtype, grad, hooks, *rest))


def _as_usual(dtype: str, grad: Any = False, hooks: Any = Ordered(), bits: Any = None, *more: Any) -> bool:  # noqa: B008
    """Whether nothing but the bytes makes the tensor: no sign to turn (`bits`), no hooks. Raises `BadTensor` for what
    torch refuses."""
    if grad is True and "float" not in dtype and "complex" not in dtype:
        raise BadTensor(f"a {dtype} tensor that requires a gradient")
    if isinstance(bits, dict) and "conj" in bits and "complex" not in dtype:
        raise BadTensor(f"a conjugated tensor of {dtype}")
    hooked = not isinstance(hooks, Ordered) or hooks
    return type(grad) is bool and not hooked and not bits and not more


def _quantised(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Tensor:
    return _tensor(storage, offset, size, stride, getattr(storage, "dtype", None) or "uint8")


def _sparse(layout: Any, data: Any) -> Tensor:
    values = [part for part in data if isinstance(part, Tensor)][-1]
    size = next((part for part in data if isinstance(part, tuple)), None)
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


def _of_device(data: Any, dtype: Any, *rest: Any) -> Any:
    return Tensor(TensorInfo(data.info.shape, _dtype(dtype))) if isinstance(data, Tensor) else data


def _parameter(data: Any, grad: Any = True, hooks: Any = None, *rest: Any) -> Any:
    if isinstance(data, Tensor):
        data.as_usual = data.as_usual and not rest and _as_usual(data.info.dtype, grad, hooks)
    return data


def _with_state(data: Any, *rest: Any) -> Any:
    """A parameter with attributes, which may be its numbers: `data` is an attribute, too."""
    if isinstance(data, Tensor):
        data.as_usual = False
    return data


def _ordered(pairs: Any = ()) -> Ordered:
    found = Ordered()
    if pairs != ():  # as in the hooks of nearly every tensor
        put_into(found, [pair[0] for pair in pairs], [pair[1] for pair in pairs])
    return found


def _counter(counts: Any = None) -> dict[Any, Any]:
    return dict(counts) if isinstance(counts, dict) else {}


def _encoded(text: Any, encoding: Any = "") -> Any:
    return text.encode("latin-1")  # the only encoding that pickle itself writes, for bytes in protocol 2


def _bytearray(content: Any = b"", encoding: Any = "") -> Any:
    if not isinstance(content, (str, bytes)):
        raise BadTensor("bytes by their number alone, which pickle never writes")
    return content


def _number(dtype: Any, data: Any = None) -> Any:
    """A NumPy scalar: its value, if it is an ordinary number."""
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
    "torch._utils._rebuild_qtensor": _quantised,
    "torch._utils._rebuild_sparse_tensor": _sparse,
    "torch._utils._rebuild_meta_tensor_no_storage": _meta,
    "torch._utils._rebuild_device_tensor_from_numpy": _from_numpy,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _of_device,
    "torch._utils._rebuild_wrapper_subclass": _subclass,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _with_state,
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
