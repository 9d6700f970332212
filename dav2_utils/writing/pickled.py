"""A state dict as the pickle that `torch.save` writes for it, by Python's own pickler.

`pickle._Pickler` is the pickler in Python that the one in C is checked against; here it gets names instead of torch's
functions and storages, so torch isn't needed. Standard library only.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from ..files.placeholders import STORAGES, Global
from ..keys import BYTES_PER_ELEMENT
from .plan import Span
from .source import Stored


class _Name(Global):
    """A class or a function of torch, by its name."""

    def __call__(self) -> None:
        """Never called; the pickler asks whether it could be."""


_STORAGE_OF = {dtype: _Name("torch", name) for name, dtype in STORAGES.items() if dtype}
_UNTYPED = _Name("torch.storage", "UntypedStorage")
_TENSOR = _Name("torch._utils", "_rebuild_tensor_v2")
_TENSOR_OF_A_NEW_DTYPE = _Name("torch._utils", "_rebuild_tensor_v3")
_DTYPES: dict[str, _Name] = {}
_InPython: Any = pickle._Pickler


class StorageToBe:
    """The bytes that one or several tensors lie in, as a record to be: `span`, all of `stored` or a part of it."""

    def __init__(self, dtype: str, stored: Stored, span: Span) -> None:
        self.dtype, self.stored, self.span = dtype, stored, span


class TensorToBe:
    """A tensor over a storage; `offset` and `stride` count elements."""

    def __init__(self, storage: StorageToBe, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> None:
        self.storage, self.offset, self.shape, self.stride = storage, offset, shape, stride

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Fresh tuples, as torch makes them: what is written a second time becomes a reference to the first.
        hooks: OrderedDict[str, Any] = OrderedDict()
        args = (self.storage, self.offset, (*self.shape,), (*self.stride,), False, hooks)
        dtype = self.storage.dtype
        if dtype in _STORAGE_OF:
            return _TENSOR, args
        return _TENSOR_OF_A_NEW_DTYPE, (*args, _DTYPES.setdefault(dtype, _Name("torch", dtype)))


class _Pickler(_InPython):  # type: ignore[misc]
    dispatch = _InPython.dispatch.copy()

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=2)
        self.storages: dict[StorageToBe, str] = {}

    def persistent_id(self, value: Any) -> Any:
        if not isinstance(value, StorageToBe):
            return None
        kind = _STORAGE_OF.get(value.dtype, _UNTYPED)
        key = self.storages.setdefault(value, str(len(self.storages)))
        each = 1 if kind is _UNTYPED else BYTES_PER_ELEMENT[value.dtype]
        return "storage", kind, key, "cpu", value.span.size // each

    def save_name(self, value: _Name) -> None:
        self.write(f"c{value.module}\n{value.name}\n".encode())
        self.memoize(value)

    dispatch[_Name] = save_name


def state_dict_pickle(state: Mapping[str, Any]) -> tuple[bytes, list[StorageToBe]]:
    """`data.pkl` for `state` (tensors, and plain values beside them), and the storages in the order of their keys."""
    file = io.BytesIO()
    pickler = _Pickler(file)
    pickler.dump(state)
    return file.getvalue(), list(pickler.storages)
