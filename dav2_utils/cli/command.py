"""The command `dav2`: a thin face over the public functions. Reports to standard output, progress to standard error.

Every command takes `--json` and then prints exactly one JSON object, errors included. Exit status: 0 well, 1 to 3 what
the command found (its `--help` says what), 2 a usage error, 4 no checkpoint or a damaged one.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import click

from .._version import __version__
from ..errors import CheckpointError, MissingPackage
from ..texts import printable
from . import files, lessons, pictures
from .options import OutputLost, say

USAGE_KINDS = ("usage", "unknown_encoder", "several sets")


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Stuck? dav2 diagnose FILE tells you what is wrong, dav2 fix FILE repairs it.",
)
@click.version_option(__version__, prog_name="dav2")
def dav2() -> None:
    """Look into a checkpoint, find out why it won't load, and fix it.

    Made for fine-tunes of Depth Anything V2; works on any PyTorch checkpoint.
    """


for command in (
    files.inspect,
    files.diagnose,
    files.explain,
    files.fix,
    pictures.depth,
    pictures.download,
    pictures.check,
    lessons.lessons,
):
    dav2.add_command(command)


_PLAIN = {"\u2713": "+", "\u2717": "x", "\u26a0": "!", "\u2192": "->", "\u2260": "!=", "\u25cb": "o"}  # our own signs


def _spelt(error: UnicodeError) -> tuple[str | bytes, int]:
    """What replaces a character that the terminal's encoding, such as GBK, does not have."""
    if isinstance(error, UnicodeEncodeError) and (plain := _PLAIN.get(error.object[error.start])):
        return plain, error.start + 1
    return codecs.backslashreplace_errors(error)


codecs.register_error("dav2", _spelt)


def exit_status(error: Exception) -> int:
    kind = getattr(error, "kind", "")
    return 2 if isinstance(error, click.UsageError) or kind in USAGE_KINDS else 4 if kind == "no checkpoint" else 1


def error_report(error: Exception) -> dict[str, Any]:
    """One error as JSON; for something that isn't a checkpoint, with its `format`."""
    kind = "usage" if isinstance(error, click.UsageError) else getattr(error, "kind", type(error).__name__)
    message = error.format_message() if isinstance(error, click.ClickException) else str(error)
    if isinstance(error, click.MissingParameter):  # and what could be given
        command, option = error.ctx and error.ctx.command, error.param
        told = (getattr(option, "help", None), getattr(command, "epilog", None))
        message = " ".join([message, *filter(None, told)])
    if isinstance(error, MemoryError):
        message = "This needs more memory than there is. Use a machine with more, or a smaller file."
    report: dict[str, Any] = {"error": {"kind": kind, "message": message}}
    if hasattr(error, "format"):
        report = {"file": str(getattr(error, "path", "")), "format": error.format, **report}
    return report


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `dav2` and exit with its status; an error is one message, never a traceback."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):  # a name from a file may hold what this terminal cannot show
        reconfigure: Callable[..., None] | None = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="dav2")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            status = dav2.main(words, prog_name="dav2", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("Stopped; nothing unfinished was written.", err=True)
        status = 130
    except (CheckpointError, click.ClickException, OSError, MemoryError, ImportError) as problem:
        error = MissingPackage(problem) if isinstance(problem, ImportError) else problem
        status = exit_status(error)
        as_json = "--json" in words[: words.index("--")] if "--" in words else "--json" in words
        _tell(error, as_json)
    _let_go()
    sys.exit(status if isinstance(status, int) else 0)


def _tell(error: Exception, as_json: bool) -> None:
    """One error, as JSON if that was asked for and can be written."""
    report = error_report(error)
    if as_json and not isinstance(error, OutputLost):
        with contextlib.suppress(OutputLost, BrokenPipeError):
            return say(json.dumps(report))
    message = report["error"]["message"]  # click's answer to a bare `dav2` is its help
    lines = (message if message.startswith("Usage: ") else f"dav2: {message}").split("\n")
    with contextlib.suppress(OSError):
        click.echo("\n".join(printable(line, None) for line in lines), err=True)


def _let_go() -> None:
    """Forget what could not be printed; Python would try once more as it ends, and complain."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"Warning: {printable(str(message), None).rstrip('.')}.", err=True)
