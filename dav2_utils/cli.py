"""The command `dav2`: a thin face over the public functions. Reports to standard output, progress to standard error.

Every command takes `--json` and then prints exactly one JSON object, errors included. Exit status: 0 well, 1 to 3 what
the command found (its `--help` says what), 2 a usage error, 4 no checkpoint or a damaged one.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from . import __version__
from .architecture import ENCODERS
from .impostors import SUFFIXES
from .keys import CheckpointError, printable

MOST_PIXELS = 2**26  # of a picture; OpenCV itself takes sixteen times as many, and then 5 GB of memory
LONGEST_TEXT = 2**25  # bytes; a pipe can be endless
USAGE_KINDS = ("usage", "unknown_encoder", "several sets")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a report.")
encoder_option = click.option(
    "--encoder", metavar="E", help=f"{', '.join(ENCODERS)}; without it, inferred from the shapes."
)
against_option = click.option(
    "--against", type=Path, metavar="FILE", help="Take another checkpoint's names and shapes as the target."
)
select_option = click.option("--select", metavar="SET", help="Which set of weights, where a file holds several.")


def emit(value: Any, as_json: bool) -> None:
    """Print `value`: its `to_dict()` as JSON, or itself as a report."""
    # in ASCII: whatever the terminal can show, and with no control characters in it, this stays JSON
    click.echo(
        json.dumps(value if isinstance(value, dict) else value.to_dict(), allow_nan=False) if as_json else str(value)
    )


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Stuck? dav2 diagnose FILE says what is wrong, dav2 fix FILE mends it.",
)
@click.version_option(__version__, prog_name="dav2")
def dav2() -> None:
    """Look into a checkpoint, say why it does not load, and mend it.

    Made for fine-tunes of Depth Anything V2; works on any PyTorch checkpoint.
    """


@dav2.command(epilog="Example: dav2 inspect latest.pth --keys")
@click.argument("file", type=Path)
@click.option("--keys", is_flag=True, help="List every tensor, not only the families.")
@json_option
def inspect(file: Path, keys: bool, as_json: bool) -> int:
    """What FILE holds, read without running it.

    No tensor is loaded.

    Exit status: 0 a checkpoint; 4 none, or damaged.
    """
    from .checkpoint import inspect_file

    found = inspect_file(file)
    emit(found.to_dict(keys=keys) if as_json else found, as_json)
    if keys and not as_json:
        for weights in found.sets:
            for name, info in weights.table.items():
                click.echo(f"{printable(name, None)}  {tuple(info.shape)}  {info.dtype}")
    return 0


@dav2.command(epilog="Example: dav2 diagnose latest.pth --encoder vitl")
@click.argument("file", type=Path)
@encoder_option
@against_option
@select_option
@json_option
def diagnose(file: Path, encoder: str | None, against: Path | None, select: str | None, as_json: bool) -> int:
    """Why FILE does not load, and what would make it load.

    Exit status: 0 it loads as it is; 1 `dav2 fix` will mend it; 3 unwrapping and renaming cannot; 4 no checkpoint.
    """
    from .diagnosis import diagnose as run

    found = run(file, target(encoder, against), select=select)
    emit(found, as_json)
    return {"loads": 0, "repairable": 1, "unreadable": 4}.get(found.verdict, 3)


@dav2.command(epilog="Example: python train.py 2>&1 | tail -n 400 | dav2 explain")
@click.argument("textfile", type=click.File("rb"), default="-")
@json_option
def explain(textfile: Any, as_json: bool) -> int:
    """The cause of a failed load, from the words of the error alone. Reads TEXTFILE, or what is pasted (`-`).

    Exit status: 0 the cause is recognised; 1 it is not.
    """
    from .explanation import explain as run

    if textfile.isatty():
        click.echo("Paste the error, then press Ctrl-D (Windows: Ctrl-Z and Enter).", err=True)
    text = textfile.read(LONGEST_TEXT + 1)
    if len(text) > LONGEST_TEXT:
        raise CheckpointError(f"This text has more than {LONGEST_TEXT:,} bytes", "an error, and a log around it",
                              "Give its end: tail -n 400 LOG | dav2 explain", kind="usage")  # fmt: skip
    found = run(text.decode("utf-8", errors="replace"))
    emit(found, as_json)
    return 0 if found.causes else 1


@dav2.command(epilog="Examples: dav2 fix latest.pth    dav2 fix runs/ --output fixed/ --dry-run")
@click.argument("paths", type=Path, nargs=-1, required=True, metavar="PATH...")
@click.option("--output", "-o", type=Path, help="A file for one file, a folder for a folder or several paths.")
@click.option("--in-place", is_flag=True, help="Replace the source; the old file stays as NAME.bak.")
@click.option("--format", "file_format", type=click.Choice(["pth", "safetensors"]), help="Default: as the source.")
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
@click.option("--dry-run", is_flag=True, help="Say what would be done, write nothing.")
@click.option("--force", is_flag=True, help="Overwrite an existing target.")
@json_option
def fix(paths: tuple[Path, ...], file_format: str | None, as_json: bool, **options: Any) -> int:
    """Mend checkpoints: a clean file beside each source.

    Unwraps the container and takes the wrapper's prefix off; every number stays, and is compared.

    Exit status: 0 all written, or clean already; 1 some file was refused or failed.
    """
    from .repair import fix_many

    repairs = fix_many(list(paths), format=file_format, **options)
    if as_json:
        emit({"files": [repair.to_dict() for repair in repairs]}, True)
    else:
        for repair in repairs:
            click.echo(str(repair))
        click.echo(summary(repairs))
    return int(any(repair.status in ("refused", "failed") for repair in repairs))


@dav2.command(epilog="Example: dav2 depth room.jpg --weights latest.fixed.pth --max-depth 20 --output maps/")
@click.argument("images", type=Path, nargs=-1, required=True, metavar="IMAGE...")
@click.option(
    "--weights", required=True, metavar="FILE", help="A checkpoint, broken or mended; or a name: tiny, vits, ..."
)
@encoder_option
@click.option(
    "--max-depth",
    type=float,
    metavar="M",
    help="Metric weights: their range in metres. Without it: what the file says, else relative.",
)
@click.option(
    "--input-size", type=int, default=518, show_default=True, help="Shorter side that the network sees, in pixels."
)
@click.option("--output", "-o", type=Path, help="Folder for the maps; default: beside each image.")
@json_option
def depth(
    images: tuple[Path, ...], weights: str, encoder: str | None, max_depth: float | None, as_json: bool, **options: Any
) -> int:
    """Depth maps of pictures, to compute with and to look at.

    Beside each IMAGE: STEM.depth.npy (float32, metres or relative) and STEM.depth.png (bright is near).
    """
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MOST_PIXELS))
    from .pictures import write_depth_maps
    from .repair import load_model

    model = load_model(weights, encoder=encoder, max_depth=max_depth)
    results = write_depth_maps(model, images, **options)
    if as_json:
        emit({"images": results}, True)
    else:
        for result in results:
            click.echo(printable(result.get("error") or _depth_line(result), None))
            if "warning" in result:
                click.echo(f"Warning: {result['warning']}.", err=True)
    return int(any("error" in result for result in results))


def _depth_line(result: dict[str, Any]) -> str:
    span = f"{result['unit']}, {result['min']:.3g} to {result['max']:.3g}"
    return f"{result['source']} -> {result['picture']} ({span}) and {Path(result['depth']).name}"


@dav2.command(epilog="Example: dav2 download vits")
@click.argument("name")
@json_option
def download(name: str, as_json: bool) -> int:
    """Fetch official weights into the Hugging Face cache.

    Prints where they lie. NAME: vits, vitb or vitl, with -metric-indoor or -metric-outdoor behind it for metric ones.
    """
    from .hub import download as run

    path = run(name)
    emit({"name": name, "path": str(path)}, True) if as_json else click.echo(str(path))
    return 0


@dav2.command(epilog="Example: dav2 check")
@json_option
def check(as_json: bool) -> int:
    """Does this machine run it? A verdict and a cure for each package."""
    from .environment import check_environment, report

    rows = check_environment()
    emit(
        {"ok": all(row.ok for row in rows), "checks": [row.to_dict() for row in rows]}, True
    ) if as_json else click.echo(report(rows))
    return int(not all(row.ok for row in rows))


def target(encoder: str | None, against: Path | None) -> Any:
    """What `--encoder` and `--against` say, at most one of them."""
    if encoder and against:
        raise click.UsageError("--encoder and --against both name the target; give one of them")
    if encoder:
        from .architecture import get_encoder

        return get_encoder(encoder).name
    return require(against) if against else None


def require(path: Path) -> Path:
    """`path`, or a usage error when nothing is there."""
    if not path.exists():
        raise CheckpointError(
            f"There is no {printable(str(path))}", "a file", "Look at the path; `ls` lists the folder", kind="usage"
        )
    return path


def summary(repairs: Sequence[Any]) -> str:
    counts: dict[str, int] = {}
    for repair in repairs:
        counts[repair.status] = counts.get(repair.status, 0) + 1
    if not counts:
        return f"No checkpoint was found there: no file ends in {', '.join(SUFFIXES)}"
    return ", ".join(f"{count} {status}" for status, count in counts.items())


def exit_status(error: Exception) -> int:
    kind = getattr(error, "kind", "")
    return 2 if isinstance(error, click.UsageError) or kind in USAGE_KINDS else 4 if kind == "no checkpoint" else 1


def error_report(error: Exception) -> dict[str, Any]:
    """One error as JSON; for something that is no checkpoint, with its `format`."""
    kind = "usage" if isinstance(error, click.UsageError) else getattr(error, "kind", type(error).__name__)
    message = error.format_message() if isinstance(error, click.ClickException) else str(error)
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
            reconfigure(errors="backslashreplace")
    try:
        status = dav2.main(words, prog_name="dav2", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("Stopped; what was not finished was not written.", err=True)
        status = 130
    except (CheckpointError, click.ClickException, OSError, MemoryError) as error:
        status = exit_status(error)
        report = error_report(error)
        as_json = "--json" in words[: words.index("--")] if "--" in words else "--json" in words
        click.echo(json.dumps(report)) if as_json else click.echo(
            "\n".join(printable(line, None) for line in f"dav2: {report['error']['message']}".split("\n")), err=True
        )
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
