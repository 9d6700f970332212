"""Which calls and words the lessons use, and where each is explained: in the text around it, or in docs/glossary.md.

A call counts as explained if its name appears as code in the prose of its own lesson or of an earlier one, or in the
glossary. Plain Python is needed from the start (lesson 00 says so), so its built-in functions and methods are free.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from IPython.core.inputtransformer2 import TransformerManager
from lesson_runs import read

GLOSSARY = Path(__file__).resolve().parents[1] / "docs" / "glossary.md"
# Words that a reader may not know: each has a row in the glossary as soon as a lesson uses it.
WORDS = (
    "activation checkpointing", "AdamW", "cls_token", "DDP", "DeepSpeed", "DINOv2", "DPT", "EMA", "encoder", "epoch",
    "Fabric", "fine-tune", "FSDP", "git-lfs", "gloo", "head", "kernel", "Lightning", "mask_token", "optimizer",
    "pickle", "pos_embed", "qkv", "safetensors", "state dict", "SWA", "tensor", "token", "torchrun", "transformer",
    "wrapper",
)  # fmt: skip
PYTHON = {name for kind in (str, dict, list, set, tuple, bytes) for name in dir(kind)} | set(dir(builtins))


def calls(cell: Any) -> Iterator[str]:
    """The names of the functions and methods that a code cell calls, and of the arguments that it gives them by name,
    in the order of its lines."""
    tree = ast.parse(TransformerManager().transform_cell(cell.source))
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    own |= {argument.arg for node in ast.walk(tree) if isinstance(node, ast.arguments) for argument in node.args}
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for call in sorted(found, key=lambda node: (node.func.lineno, node.func.col_offset)):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if name and name not in PYTHON | own | {"get_ipython", "run_line_magic"}:
            yield name
            yield from (word.arg for word in call.keywords if word.arg)


def in_code(text: str) -> set[str]:
    """The words that appear as code in a text."""
    text = re.sub(r"<summary>Solution</summary>.*?</details>", "", text, flags=re.S)
    return {word for part in re.findall(r"`+([^`]+)`+", text) for word in re.findall(r"\w+", part)}


def table(paths: list[Path]) -> list[tuple[str, str, str, str]]:
    """Every call where it first occurs: its name, the lesson, the cell, and where it is explained (or nothing)."""
    glossary = in_code(GLOSSARY.read_text(encoding="utf-8"))
    known: dict[str, str] = {}
    rows = []
    seen: set[str] = set()
    for path in paths:
        nb = read(path)
        own = {cell.id: in_code(cell.source) for cell in nb.cells if cell.cell_type == "markdown"}
        for cell in nb.cells:
            for name in calls(cell) if cell.cell_type == "code" else ():
                if name in seen:
                    continue
                seen.add(name)
                here = next((f"{path.stem[:2]} {ident}" for ident, words in own.items() if name in words), "")
                rows.append((name, path.stem, cell.id, known.get(name) or here or "glossary" * (name in glossary)))
        known |= {
            word: f"{path.stem[:2]} {ident}" for ident, words in own.items() for word in words if word not in known
        }
    return rows


def unexplained(paths: list[Path]) -> list[str]:
    """What a lesson calls or names without an explanation, one sentence each."""
    found = [f"{lesson}: cell {cell} calls {name}, which no text and no row of docs/glossary.md explains"
             for name, lesson, cell, where in table(paths) if not where]  # fmt: skip
    rows = set(re.findall(r"^\| \*\*(.+?)\*\*", GLOSSARY.read_text(encoding="utf-8"), re.M))
    prose = "\n".join(c.source for path in paths for c in read(path).cells if c.cell_type == "markdown")
    for word in WORDS:
        if re.search(rf"(?<!\w){re.escape(word)}s?(?!\w)", prose, re.I) and word not in rows:
            found.append(f"docs/glossary.md has no row for {word}, which the lessons use")
    return found
