"""docs/causes.md, written from the causes and their texts: `python tools/causes.py` (part of `make reports-update`)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from dav2_utils import CAUSES

TARGET = Path(__file__).resolve().parents[1] / "docs" / "causes.md"
HEAD = """# Why a checkpoint won't load, cause by cause

`dav2 diagnose FILE` and `dav2 explain error.txt` name one or more of these. Each section says how to recognise the
cause, why it happens and what to do. (This page is written by `make reports-update`.)
"""


def text() -> str:
    """The page: a list of all causes, then a section for each in the same order."""
    os.environ["DAV2_LANG"] = "en"
    parts = [HEAD, "\n".join(f"- [{cause.title}](#{name}) (`{name}`)" for name, cause in CAUSES.items())]
    for name, cause in CAUSES.items():
        code = f"```\n{cause.code}\n```" if cause.code else ""
        more = f"[More about it]({cause.reference})" if cause.reference else ""
        said = [f'<a id="{name}"></a>\n\n## {cause.title}', f"**You see:** {cause.sign}", cause.explanation,
                f"**What to do:** {cause.remedy}", code, more]  # fmt: skip
        parts += [part for part in said if part]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
    print(f"{len(CAUSES)} causes are in {TARGET.name}")
    sys.exit(0)
