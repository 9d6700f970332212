"""The commands that look into files and error texts, and repair: inspect, diagnose, explain, fix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ..errors import CheckpointError
from ..files.unreadable import SUFFIXES
from ..texts import printable
from .options import against_option, emit, encoder_option, json_option, say, select_option, target

LONGEST_TEXT = 2**24  # bytes; a pipe can be endless, and what hostile names cost is some 30 times this in memory


@click.command(epilog="Example: dav2 inspect latest.pth --keys")
@click.argument("file", type=Path)
@click.option("--keys", is_flag=True, help="List every tensor, not only the families.")
@json_option
def inspect(file: Path, keys: bool, as_json: bool) -> int:
    """Show what FILE holds, without running it.

    No tensor is loaded.

    Exit status: 0 it is a checkpoint; 4 it is not one, or damaged.
    """
    from ..files.checkpoint import inspect_file

    found = inspect_file(file)
    emit(found.to_dict(keys=keys) if as_json else found, as_json)
    if keys and not as_json:
        for weights in found.sets:
            for name, info in weights.table.items():
                say(f"{printable(name, None)}  {tuple(info.shape)}  {info.dtype}")
    return 0


@click.command(epilog="Example: dav2 diagnose latest.pth --encoder vitl")
@click.argument("file", type=Path)
@encoder_option
@against_option
@select_option
@json_option
def diagnose(file: Path, encoder: str | None, against: Path | None, select: str | None, as_json: bool) -> int:
    """Say why FILE won't load, and what would make it load.

    Exit status: 0 it loads as it is; 1 `dav2 fix` will fix or unwrap it; 3 it cannot, or there is no model to compare
    with; 4 it is not a checkpoint.
    """
    from ..diagnosis.diagnose import diagnose as run

    found = run(file, target(encoder, against), select=select)
    emit(found, as_json)
    return {"loads": 0, "repairable": 1, "wrapped": 1, "unreadable": 4}.get(found.verdict, 3)


@click.command(epilog="Example: python train.py 2>&1 | tail -n 400 | dav2 explain")
@click.argument("textfile", default="-", metavar="[TEXTFILE|-|TEXT]")
@json_option
def explain(textfile: str, as_json: bool) -> int:
    """Name the cause of a failed load, from the error text alone.

    Reads TEXTFILE, or what you paste (`-`), or the error itself in quotation marks.

    Exit status: 0 the cause was recognised; 1 it was not.
    """
    from ..diagnosis.explain import explain as run

    text = textfile.encode() if _is_text(textfile) else _read(click.File("rb").convert(textfile, None, None))
    if len(text) > LONGEST_TEXT:
        raise CheckpointError(f"This text has more than {LONGEST_TEXT:,} bytes", "an error, perhaps with its log",
                              "Give its end: tail -n 400 LOG | dav2 explain", kind="usage")  # fmt: skip
    found = run(text.decode("utf-8", errors="replace"))
    emit(found, as_json)
    return 0 if found.causes else 1


def _is_text(given: str) -> bool:
    """Whether the error itself was given, and not the name of a file with it."""
    return any(char in given for char in " \n\"'") and not Path(given[:4_000].partition("\n")[0]).exists()


def _read(file: Any) -> bytes:
    if file.isatty():
        click.echo("Paste the error, then press Ctrl-D (Windows: Ctrl-Z and Enter).", err=True)
    return bytes(file.read(LONGEST_TEXT + 1))


def _pairs(_context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """OLD=NEW, as often as it is given."""
    found: dict[str, str] = {}
    for value in values:
        old, sign, new = value.partition("=")
        if not sign or found.setdefault(old, new) != new:
            what = "gives one name two new ones" if sign else "is not of the form OLD=NEW"
            raise click.BadParameter(f"{value!r} {what}", param=option)
    return found


@click.command(epilog="Examples: dav2 fix latest.pth    dav2 fix runs/ --output fixed/ --dry-run")
@click.argument("paths", type=Path, nargs=-1, required=True, metavar="PATH...")
@click.option("--output", "-o", type=Path, help="A file for a single file, a folder for a folder or several paths.")
@click.option("--in-place", is_flag=True, help="Replace the source; the old file is kept as NAME.bak.")
@click.option(
    "--format", "file_format", type=click.Choice(["pth", "safetensors"]), help="Default: the same as the source."
)
@click.option(
    "--keep-training-state",
    is_flag=True,
    help="Keep the container (optimizer, epoch), change only the names; pth only.",
)
@encoder_option
@against_option
@select_option
@click.option(
    "--max-depth", type=float, metavar="M", help="Write down that the weights are metric, with this range in metres."
)
@click.option(
    "--rename", multiple=True, callback=_pairs, metavar="OLD=NEW",
    help="Replace whole components of the names, one-to-one, the longest OLD first; may be repeated.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what would be done, write nothing.")
@click.option("--force", is_flag=True, help="Overwrite an existing target.")
@json_option
def fix(paths: tuple[Path, ...], file_format: str | None, as_json: bool, **options: Any) -> int:
    """Write a clean file beside each broken checkpoint.

    Takes the weights out of the container and the wrapper's prefix off the names; no number changes, and that is
    checked.

    Exit status: 0 everything was written, or was already clean or fixed; 1 a file was refused or failed, or there was
    nothing to do and no model to compare it with.
    """
    from ..repair.batch import fix_many
    from ..repair.outcome import DONE

    repairs = fix_many(list(paths), format=file_format, **options)
    if as_json:
        emit({"files": [repair.to_dict() for repair in repairs]}, True)
    else:
        for repair in repairs:
            say(str(repair))
        say(summary(repairs))
    return int(any(repair.status not in DONE for repair in repairs))


def summary(repairs: Sequence[Any]) -> str:
    counts: dict[str, int] = {}
    for repair in repairs:
        counts[repair.status] = counts.get(repair.status, 0) + 1
    if not counts:
        return f"No checkpoint was found there: no file ends in {', '.join(SUFFIXES)}"
    return ", ".join(f"{count} {status}" for status, count in counts.items())
