"""The ground floor: a checkpoint is a table of names and shapes, and so is a model.

Loading fails when the two tables differ. This room holds the table, the names in it, and the wrapper components
(`module.` and its relatives) that make two tables differ although the weights are the same. Standard library only.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

#: Name components that a wrapper puts into every parameter name below it, and who writes each.
WRAPPERS: dict[str, str] = {
    "module": "DataParallel or DistributedDataParallel",
    "_orig_mod": "torch.compile",
    "_fsdp_wrapped_module": "FullyShardedDataParallel",
    "_fpw_module": "FullyShardedDataParallel (torch 1.11 to 1.12)",
    "_checkpoint_wrapped_module": "activation checkpointing",
    "_forward_module": "Lightning Fabric",
}

BYTES_PER_ELEMENT: dict[str, int] = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2, "int8": 1,
    "uint8": 1, "uint16": 2, "uint32": 4, "uint64": 8, "bool": 1, "complex64": 8, "complex128": 16,
    "float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1,
}  # fmt: skip


class CheckpointError(Exception):
    """Anything that this package refuses to do. Its text says what was found, what was expected and what to do.

    `kind` is a short name for programs (`dav2 ... --json` prints it as `error.kind`).
    """

    kind = "checkpoint"

    def __init__(self, found: str, expected: str = "", do: str = "", *, kind: str | None = None) -> None:
        parts = [found.rstrip(". "), expected and f"Expected: {expected.rstrip('. ')}", do.rstrip(". ")]
        super().__init__(". ".join(part for part in parts if part) + ".")
        self.found, self.expected, self.do = found, expected, do
        self.kind = kind or type(self).kind


class PrefixError(CheckpointError):
    """Wrapper components cannot be taken off one-to-one, or the one asked for is nowhere."""

    kind = "prefix"


class TensorInfo(NamedTuple):
    """What a checkpoint or a model says of one tensor: its shape and its dtype by torch's short name (`float32`)."""

    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.elements * BYTES_PER_ELEMENT.get(self.dtype, 0)


#: Tensor names in file order, each with its shape and dtype.
Table = dict[str, TensorInfo]
