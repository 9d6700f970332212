"""The reference for the public names, from their docstrings, by pdoc: pages that need no network."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def write(site: Path) -> dict[str, str]:
    """`site/reference/`, if pdoc is installed (it comes with `.[test]`): its first page, and what it is."""
    if importlib.util.find_spec("pdoc") is None:
        return {}
    import pdoc

    pdoc.render.configure(docformat="markdown", show_source=False, footer_text="dav2_utils", search=False)
    pdoc.pdoc("dav2_utils", r"!dav2_utils\..+", output_directory=site / "reference")
    return {"reference/dav2_utils.html": "Reference for the package: every public name"}
