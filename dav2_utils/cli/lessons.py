"""`dav2 lessons`: cleared copies to work in, and who solved what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import emit, json_option, require


@click.command()
@click.argument("words", nargs=-1, metavar="[LESSON|FILE]...")
@click.option("--fresh", is_flag=True, help="Make clean copies again, of all lessons or those that begin with LESSON.")
@click.option(
    "--progress",
    "asked",
    is_flag=True,
    help="Show which exercises are solved: yours, or those in each FILE, one row each.",
)
@click.option("--folder", type=Path, default=None, metavar="DIR", help="Where the copies go (my_lessons).")
@json_option
def lessons(words: tuple[str, ...], fresh: bool, asked: bool, folder: Path | None, as_json: bool) -> None:
    """Copy the lessons, without their answers, for you to work in.

    The copies go into my_lessons and are never overwritten.

    \b
    dav2 lessons                        # then: jupyter lab my_lessons/00_start_here.ipynb
    dav2 lessons --fresh 02             # lesson 02 clean again; your old copy stays beside it
    dav2 lessons --progress             # what you have solved
    dav2 lessons --progress class/*.json
    """
    if asked and fresh:
        raise click.UsageError("--fresh and --progress don't go together: give one")
    if words and not (asked or fresh):
        raise click.UsageError(f"What should be done with {words[0]}? --fresh takes lessons, --progress takes files")
    emit(_progress(words) if asked else _copies(words if fresh else None, folder), as_json)


def _copies(fresh: tuple[str, ...] | None, folder: Path | None) -> Any:
    from ..classroom.copies import copy_lessons

    return copy_lessons(folder, fresh)


def _progress(files: tuple[str, ...]) -> Any:
    from ..classroom.progress import handed_in, progress

    return handed_in(require(Path(file)) for file in files) if files else progress()
