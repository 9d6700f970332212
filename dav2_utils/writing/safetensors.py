"""A safetensors file, byte for byte as the library of that name writes it, around ranges of the source.

The library puts the tensors in the order of their dtypes, then of their names (safetensors 0.8, found by writing with
it); tensors that share memory are written once each, as the format has no sharing. Standard library only.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

from ..errors import WriteError
from ..files.formats import SAFETENSORS
from ..keys import TensorInfo
from .plan import Plan
from .source import Located, checks

DTYPES = {dtype: code for code, dtype in SAFETENSORS.items() if code != "C128"}  # which the library cannot write
_RANK = {dtype: rank for rank, dtype in enumerate(DTYPES)}


def header(table: Mapping[str, TensorInfo], facts: Mapping[str, Any]) -> tuple[bytes, list[str]]:
    """The bytes before the tensors, with `facts` as text in them, and the names in the order of their bytes.

    Raises `WriteError` for a name or a dtype that has no place in the format.
    """
    for name, info in table.items():
        if info.dtype not in DTYPES or name == "__metadata__" or utf8(name) != name:
            raise WriteError(f"{name!r} ({info.dtype}) has no place in a safetensors file", do="Use --format pth")
    order = sorted(table, key=lambda name: (_RANK[table[name].dtype], name))
    rows: dict[str, Any] = {"__metadata__": {name: as_text(facts[name]) for name in sorted(facts)} | {"format": "pt"}}
    at = 0
    for name in order:
        shape, dtype = table[name]
        rows[name] = {"dtype": DTYPES[dtype], "shape": list(shape), "data_offsets": [at, at + table[name].bytes]}
        at += table[name].bytes
    text = json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text, order


def plan_safetensors(state: Mapping[str, Located], facts: Mapping[str, Any]) -> Plan | None:
    """The file for `state`; None if elements would have to be put into order one by one."""
    if not all(one.in_order for one in state.values()):
        return None
    front, order = header({name: one.info for name, one in state.items()}, facts)
    return Plan([front, *(state[name].span for name in order)], checks(state.values()))


def as_text(fact: Any) -> str:
    """A fact as the header has it: text as it is, everything else as JSON."""
    return utf8(fact if isinstance(fact, str) else json.dumps(fact, ensure_ascii=False))


def utf8(text: str) -> str:
    """`text` with `\\udcff` for what cannot be written: half a character, as in a file's name that isn't UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
