"""`dav2_utils/__init__.pyi`, by which editors and mypy know the public names, from the one table in `__init__.py`."""

from __future__ import annotations

from pathlib import Path

import dav2_utils

STUB = Path(__file__).resolve().parents[1] / "dav2_utils" / "__init__.pyi"


def stub() -> str:
    lines = [f"from .{room} import {name} as {name}" for name, room in dav2_utils._ROOMS.items()]
    return "\n".join(["# Written by `make stub` from the table in __init__.py.", *lines, "", "__version__: str", ""])


if __name__ == "__main__":
    STUB.write_text(stub(), encoding="utf-8")
