"""Tables of 114 models of 55 families, as built from their own sources (`data/families.json.xz`), and more of them.

Eleven giants have no table there; those, and sizes that nobody has published, are small ones with more, wider blocks.
"""

from __future__ import annotations

import functools
import json
import lzma
import re
from pathlib import Path
from typing import Any

import torch

from dav2_utils.keys import Table, TensorInfo


@functools.cache
def models() -> dict[str, dict[str, Any]]:
    """By name: `family`, `variant`, `same` (families with the same table), `width`, `blocks`, a table in some form."""
    return dict(json.loads(lzma.decompress((Path(__file__).parent / "data" / "families.json.xz").read_bytes())))


def known() -> list[str]:
    """Those with a table."""
    return [name for name, model in models().items() if "table" in model or "same_table_as" in model]


def table(name: str) -> Table:
    model = models()[name]
    if "table" in model:
        shapes: Table = {key: TensorInfo(tuple(map(int, text.split()))) for key, text in model["table"].items()}
        return shapes
    start = len(model.get("instead_of", ""))
    found = {model.get("with_prefix", "") + key[start:]: info for key, info in table(model["same_table_as"]).items()}
    return found | {key: TensorInfo(tuple(shape)) for key, shape in model.get("except", {}).items()}


def grown(name: str, width: int, blocks: int, prefix: str) -> Table:
    """The model `name` in another size: `blocks` of them under `prefix`, multiples of its width wider."""
    model, made = models()[name], Table()
    old, last = model["width"], model["blocks"] - 1
    block = re.compile(rf"{re.escape(prefix)}(\d+)\.(.*)")
    for key, info in table(name).items():
        wider = TensorInfo(tuple(size // old * width if size % old == 0 else size for size in info.shape))
        found = block.fullmatch(key)
        if not found or int(found[1]) < blocks:
            made[key] = wider
        if found and int(found[1]) == last:
            made |= {f"{prefix}{number}.{found[2]}": wider for number in range(last + 1, blocks)}
    return made


def tensors(of: Table, prefix: str = "") -> dict[str, torch.Tensor]:
    """Real tensors for `of` that share one number, so that a file of them is small."""
    number = torch.zeros(())
    return {prefix + key: number.expand(info.shape) for key, info in of.items()}
