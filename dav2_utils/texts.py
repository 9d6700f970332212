"""What people read: templates by name, in the reader's language, from data that a translator edits.

`locale/en.json` has every text, in groups; `locale/zh.json` and the like have what is translated so far. What programs
read (`--json`, names of causes) is the same in every language. Standard library only.
"""

from __future__ import annotations

import functools
import json
import os
import pkgutil
import re
from typing import Any


def say(name: str, /, **arguments: Any) -> str:
    """The text called `name` (`verdict.loads`) with its named `arguments` put in, in the language of the reader.

    Without a translation it is English. Raises `KeyError` for a name, or an argument, that the English text lacks.
    """
    template = find(name)
    if template is None:
        raise KeyError(f"there is no text called {name!r} in locale/en.json")
    return template.format(**arguments)


def find(name: str) -> str | None:
    """The template called `name` in the language of the reader, else in English; None if there is none."""
    spoken = language()
    return next((text for code in (spoken, spoken.partition("_")[0], "en") if (text := _look_up(code, name))), None)


def language() -> str:
    """The reader's language as `zh_CN` or `zh`: the variable `DAV2_LANG`, else the system's, else `en`."""
    variables = ("DAV2_LANG", "LC_ALL", "LC_MESSAGES", "LANG")
    chosen = next((value for name in variables if (value := os.environ.get(name))), "en")
    code = re.match(r"[A-Za-z]{2,3}([_-][A-Za-z]{2,4})?(?![A-Za-z])", chosen)  # not C, and not POSIX
    return code[0].replace("-", "_") if code else "en"


def _look_up(code: str, name: str) -> str | None:
    found: Any = _texts(code)
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found if isinstance(found, str) else None


@functools.cache
def _texts(code: str) -> dict[str, Any]:
    """All texts in one language; none if there is no translation."""
    try:
        return read_data(f"locale/{code}.json")
    except OSError:
        return {}


def read_data(place: str) -> dict[str, Any]:
    """The object in one of this package's JSON files, by its place in the package. Raises `OSError`."""
    # importlib.resources would import tempfile and zipfile, which takes a twentieth of the time of `dav2 explain`
    return dict(json.loads(pkgutil.get_data("dav2_utils", place) or b"{}"))


def printable(text: str, most: int | None = 200) -> str:
    """`text` as one line of at most `most` characters, so that what is in a file cannot steer a terminal."""
    safe = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text[: most and most + 1])
    return safe if most is None or len(text) <= most else safe[:most] + "..."
