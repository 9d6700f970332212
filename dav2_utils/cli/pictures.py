"""The commands that need the model, its weights or its packages: depth, download, check."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import click

from .. import texts
from ..texts import printable
from .options import emit, encoder_option, json_option, say, select_option

MOST_PIXELS = 2**26  # of a picture; OpenCV itself takes sixteen times as many, and then 5 GB of memory


@click.command(epilog="Example: dav2 depth room.jpg --weights latest.fixed.pth --max-depth 20 --output maps/")
@click.argument("images", type=Path, nargs=-1, required=True, metavar="IMAGE|FOLDER|GLOB...")
@click.option(
    "--weights", required=True, metavar="FILE", help="A checkpoint, broken or fixed; or a name: tiny, vits, ..."
)
@encoder_option
@click.option(
    "--max-depth",
    type=float,
    metavar="M",
    help="Metric weights: their range in metres. Without it: what the file says, else relative.",
)
@click.option(
    "--input-size", type=int, metavar="N", help="Shorter side as the network sees it, in pixels. (518; tiny: 112)"
)
@select_option
@click.option("--output", "-o", type=Path, help="Folder for the maps; default: beside each image.")
@click.option("--force", is_flag=True, help="Overwrite existing maps.")
@json_option
def depth(
    images: tuple[Path, ...], weights: str, encoder: str | None, max_depth: float | None, select: str | None,
    as_json: bool, **options: Any
) -> int:  # fmt: skip
    """Make depth maps of pictures, to compute with and to look at.

    Writes, beside each IMAGE or each picture in FOLDER, STEM.depth.npy (float32, metres or relative) and STEM.depth.png
    (bright is near).
    """
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MOST_PIXELS))
    from ..depth.pictures import SUFFIXES, pictures_at, write_depth_maps
    from ..weights.loading import load_model

    folder = options["output"]
    if folder and not folder.is_dir() and folder.suffix.lower() in (*SUFFIXES, ".npy"):
        raise click.UsageError(
            f"--output {folder}: expected the folder for the maps, whose names come from the images'"
        )
    pictures = pictures_at(images)
    model = load_model(weights, encoder=encoder, max_depth=max_depth, select=select)
    results = write_depth_maps(model, pictures, **options)
    if as_json:
        emit({"files": results}, True)
    else:
        _report(results)
    return int(any("error" in result for result in results))


def _report(results: list[dict[str, Any]]) -> None:
    """A line for each picture, each doubt once, and at the end a count, so that no failure is far up."""
    for result in results:
        say(printable(result.get("error") or _depth_line(result), None))
    for text, count in Counter(doubt for result in results for doubt in result.get("warnings", ())).items():
        click.echo(f"Warning: {texts.say('doubts.several', count=count, text=text) if count > 1 else text}.", err=True)
    failed = [Path(result["source"]).name for result in results if "error" in result]
    if len(results) > 1:
        names = printable(f" ({', '.join(failed)})" if failed else "")
        say(f"{len(results) - len(failed)} done, {len(failed)} failed{names}")


def _depth_line(result: dict[str, Any]) -> str:
    span = f"{result['unit']}, {result['min']:.3g} to {result['max']:.3g}"
    return f"{result['source']} -> {result['picture']} ({span}) and {Path(result['depth']).name}"


@click.command(epilog="Example: dav2 download vits")
@click.argument("name")
@json_option
def download(name: str, as_json: bool) -> int:
    """Download official weights into the Hugging Face cache.

    Prints where they are. NAME: vits, vitb or vitl, with -metric-indoor or -metric-outdoor after it for metric ones.
    """
    from ..depth.hub import download as run

    path = run(name)
    emit({"name": name, "path": str(path)}, True) if as_json else say(str(path))
    return 0


@click.command(epilog="Example: dav2 check")
@json_option
def check(as_json: bool) -> int:
    """Can this machine run it? A verdict and a fix for each package."""
    from ..environment import check_environment, report

    rows = check_environment()
    emit({"ok": all(row.ok for row in rows), "checks": [row.to_dict() for row in rows]}, True) if as_json else say(
        report(rows)
    )
    return int(not all(row.ok for row in rows))
