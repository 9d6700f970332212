"""The idea that carries everything: a checkpoint is a table of names and shapes, and so is a model.

Loading fails when the two tables differ. This room has the table, and groups of names in it. Standard library only.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

BYTES_PER_ELEMENT: dict[str, int] = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2, "int8": 1,
    "uint8": 1, "uint16": 2, "uint32": 4, "uint64": 8, "bool": 1, "complex64": 8, "complex128": 16,
    "float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1,
    "qint8": 1, "quint8": 1, "qint32": 4,
}  # fmt: skip


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

    @property
    def strides(self) -> tuple[int, ...]:
        """The steps, in elements, of a tensor whose elements lie one after the other in C order, as torch counts."""
        sizes = [max(size, 1) for size in self.shape]
        return tuple(math.prod(sizes[place + 1 :]) for place in range(len(sizes)))


Shape = tuple[int, ...]
Pair = tuple[Shape, Shape]  # in the file, in the model

#: Tensor names in file order, each with its shape and dtype.
Table = dict[str, TensorInfo]


_NUMBER = re.compile(r"(?<![^.])([0-9]{1,9})(?![^.])")  # a whole component made of digits


@dataclass(frozen=True)
class Family:
    """Tensors whose names differ only in numbers, with one shape and dtype."""

    pattern: str  # pretrained.blocks.{0..23}.attn.qkv.weight
    count: int
    info: TensorInfo
    names: list[str]


def families(table: Table) -> list[Family]:
    """The table with the numbered names gathered, in the order in which each family first appears."""
    groups: dict[tuple[tuple[str, ...], TensorInfo], list[str]] = {}
    for name, info in table.items():
        groups.setdefault((tuple(_NUMBER.split(name)[::2]), info), []).append(name)
    return [Family(_pattern(pieces, names), len(names), info, names) for (pieces, info), names in groups.items()]


def _pattern(pieces: tuple[str, ...], names: list[str]) -> str:
    numbers = zip(*(map(int, _NUMBER.findall(name)) for name in names), strict=True)
    return "".join(piece + span for piece, span in zip(pieces, [*map(_span, numbers), ""], strict=True))


def _span(numbers: Iterable[int]) -> str:
    found = sorted(set(numbers))
    if len(found) == 1:
        return str(found[0])
    if found[-1] - found[0] == len(found) - 1:
        return f"{{{found[0]}..{found[-1]}}}"
    return "{" + ",".join(map(str, found)) + "}"


def human(count: int) -> str:
    """A number of bytes for people: 4.02 GB, with powers of 1000."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count} bytes"


def totals(table: Table) -> str:
    """How many tensors, parameters and bytes of which dtypes there are, for people."""
    dtypes = Counter(info.dtype for info in table.values())
    kinds = next(iter(dtypes)) if len(dtypes) == 1 else ", ".join(f"{kind} {n}" for kind, n in dtypes.most_common(4))
    size = human(sum(info.bytes for info in table.values()))
    return f"{len(table)} tensors, {sum(info.elements for info in table.values()):,} parameters, {size}, {kinds}"
