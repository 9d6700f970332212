"""What several commands share: their options, and how a result is printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from ..encoders import ENCODERS
from ..errors import CheckpointError
from ..texts import printable

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a report.")
encoder_option = click.option(
    "--encoder", metavar="E", help=f"{', '.join(ENCODERS)}; without it, inferred from the shapes."
)
against_option = click.option(
    "--against", type=Path, metavar="FILE", help="Use another checkpoint's names and shapes as the target."
)
select_option = click.option(
    "--select",
    metavar="SET[,SET]",
    help="Which set of weights, if a file holds several; with commas: these together.",
)


class OutputLost(click.ClickException):
    """Standard output takes nothing more, as when it goes into a file on a full disk."""


def say(text: str) -> None:
    """Print `text`. Raises `OutputLost` if that cannot be; a pipe without a reader is click's to notice."""
    try:
        click.echo(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputLost(f"The result could not be written to standard output: {error.strerror or error}") from error


def emit(value: Any, as_json: bool) -> None:
    """Print `value`: its `to_dict()` as JSON, or itself as a report."""
    # in ASCII: whatever the terminal can show, and with no control characters in it, this stays JSON
    say(json.dumps(value if isinstance(value, dict) else value.to_dict(), allow_nan=False) if as_json else str(value))


def target(encoder: str | None, against: Path | None) -> Any:
    """What `--encoder` and `--against` say, at most one of them."""
    if encoder and against:
        raise click.UsageError("--encoder and --against both name the target; give one of them")
    if encoder:
        from ..encoders import get_encoder

        return get_encoder(encoder).name
    return require(against) if against else None


def require(path: Path) -> Path:
    """`path`, or a usage error when nothing is there."""
    if not path.exists():
        raise CheckpointError(
            f"There is no {printable(str(path))}", "a file", "Check the path; `ls` lists the folder", kind="usage"
        )
    return path
