"""Sets of tensors that are complete by their names and good for nothing: empty, packed away, or not a number.

Shapes and names show the first two. For the last the file itself is looked at: a few numbers of each tensor, which
costs milliseconds in a file of 4 GB. Standard library only.
"""

from __future__ import annotations

import struct
import sys
from typing import BinaryIO, NamedTuple

from ..errors import ArchiveError, CheckpointError
from ..files.checkpoint import Checkpoint
from ..files.placeholders import Extra
from ..files.weightsets import WeightSet
from ..keys import BYTES_PER_ELEMENT, Table
from ..texts import say
from .source import Located, locate

_FLOATS = {"float64": "d", "float32": "f", "float16": "e", "bfloat16": "f"}
_DOTS = "torch.save({name.replace('/', '.'): tensor for name, tensor in weights.items()}, 'weights.pth')"
_LOOKED_AT = 8  # numbers at the beginning, in the middle and at the end


class Unusable(NamedTuple):
    """Why a set of weights is good for nothing as it is: a cause, what shows it, what to do, what it makes void."""

    cause: str
    detail: str
    evidence: str
    remedy: str = ""
    instead: tuple[str, ...] = ()  # causes that would be said of the names, and are wrong here


def unusable(opened: Checkpoint, weights: WeightSet, fits: bool) -> list[Unusable]:
    """What is wrong with the tensors themselves; `fits`: a model has tensors of these names and shapes."""
    rows, count, names = [], len(weights.table), ("different_model", "bookkeeping_buffers", "quantized")
    if not fits and (empty := _empty(weights.table)):
        said = say("unusable.empty", count=len(empty), total=count, name=empty[0])
        rows.append(Unusable("sharded_model", "ZeRO-3", said, say("unusable.gather"), names))
    if not fits and (slashes := [name for name in weights.table if "/" in name and "." not in name])[count // 2 :]:
        said = say("unusable.slashes", count=len(slashes), name=slashes[0])
        rows.append(Unusable("damaged_names", "/", said, say("unusable.dots", code=_DOTS), names))
    if packed := [name for name in (*weights.table, *opened.other_entries) if "_packed_params" in name.split(".")]:
        rows.append(Unusable("quantized", "", say("unusable.packed", count=len(packed), name=packed[0]), "", names))
    elif packed := [name for name, info in weights.table.items() if info.dtype.startswith(("qint", "quint"))]:
        said = say("unusable.quantised", count=len(packed), dtype=weights.table[packed[0]].dtype, name=packed[0])
        rows.append(Unusable("quantized", "", said, "", names))
    if nan := nan_tensors(opened, weights):
        rows.append(Unusable("nan_weights", "", say("unusable.nan", count=len(nan), total=count, name=nan[0])))
    return rows


def _empty(table: Table) -> list[str]:
    """The tensors of size 0 if they are a tenth of all, or more: ZeRO-3 leaves those whose parts are elsewhere."""
    empty = [name for name, info in table.items() if info.shape == (0,) and not isinstance(info, Extra)]
    return empty if len(empty) > 1 and 10 * len(empty) >= len(table) else []


def nan_tensors(opened: Checkpoint, weights: WeightSet) -> list[str]:
    """The tensors with nothing but NaN in them, as far as a few numbers of each tell, by their names in the file."""
    if sys.byteorder != "little":
        return []
    try:
        with opened.file.open("rb", buffering=0) as file:
            return [name for name, one in locate(opened, weights.table, file) if one and _nan(file, one)]
    except (CheckpointError, ArchiveError, OSError, ValueError):  # whoever reads it whole will say what is wrong
        return []


def _nan(file: BinaryIO, one: Located) -> bool:
    dtype, elements = one.info.dtype, one.info.elements
    if dtype not in _FLOATS or not one.copyable or not one.in_order or elements < 2:  # a single number may be anything
        return False
    each, count = BYTES_PER_ELEMENT[dtype], min(_LOOKED_AT, elements)
    for start in dict.fromkeys((0, (elements - count) // 2, elements - count)):
        file.seek(one.span.start + start * each)
        data = file.read(count * each)
        if len(data) < count * each:
            return False
        if dtype == "bfloat16":  # the upper half of a float32
            data = b"".join(b"\0\0" + data[at : at + 2] for at in range(0, len(data), 2))
        if not all(number != number for (number,) in struct.iter_unpack(f"<{_FLOATS[dtype]}", data)):
            return False
    return True
