"""TODO texts."""

from __future__ import annotations


def printable(text: str, most: int | None = 200) -> str:
    """`text` as one line of at most `most` characters, so that what stands in a file cannot steer a terminal."""
    safe = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text[: most and most + 1])
    return safe if most is None or len(text) <= most else safe[:most] + "..."
