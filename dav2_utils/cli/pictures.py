"""The commands that need the model, its weights or its packages: depth, download, check."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from ..texts import printable
from .options import emit, encoder_option, json_option, say, select_option

MOST_PIXELS = 2**26  # of a picture; OpenCV itself takes sixteen times as many, and then 5 GB of memory


@click.command(epilog="Example: dav2 depth room.jpg --weights latest.fixed.pth --max-depth 20 --output maps/")
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
@select_option
@click.option("--output", "-o", type=Path, help="Folder for the maps; default: beside each image.")
@click.option("--force", is_flag=True, help="Overwrite maps that are there already.")
@json_option
def depth(
    images: tuple[Path, ...], weights: str, encoder: str | None, max_depth: float | None, select: str | None,
    as_json: bool, **options: Any
) -> int:  # fmt: skip
    """Depth maps of pictures, to compute with and to look at.

    Beside each IMAGE: STEM.depth.npy (float32, metres or relative) and STEM.depth.png (bright is near).
    """
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MOST_PIXELS))
    from ..depth.pictures import write_depth_maps
    from ..weights.loading import load_model

    model = load_model(weights, encoder=encoder, max_depth=max_depth, select=select)
    results = write_depth_maps(model, images, **options)
    if as_json:
        emit({"images": results}, True)
    else:
        for result in results:
            say(printable(result.get("error") or _depth_line(result), None))
            if "warning" in result:
                click.echo(f"Warning: {result['warning']}.", err=True)
    return int(any("error" in result for result in results))


def _depth_line(result: dict[str, Any]) -> str:
    span = f"{result['unit']}, {result['min']:.3g} to {result['max']:.3g}"
    return f"{result['source']} -> {result['picture']} ({span}) and {Path(result['depth']).name}"


@click.command(epilog="Example: dav2 download vits")
@click.argument("name")
@json_option
def download(name: str, as_json: bool) -> int:
    """Fetch official weights into the Hugging Face cache.

    Prints where they lie. NAME: vits, vitb or vitl, with -metric-indoor or -metric-outdoor behind it for metric ones.
    """
    from ..depth.hub import download as run

    path = run(name)
    emit({"name": name, "path": str(path)}, True) if as_json else say(str(path))
    return 0


@click.command(epilog="Example: dav2 check")
@json_option
def check(as_json: bool) -> int:
    """Does this machine run it? A verdict and a cure for each package."""
    from ..environment import check_environment, report

    rows = check_environment()
    emit({"ok": all(row.ok for row in rows), "checks": [row.to_dict() for row in rows]}, True) if as_json else say(
        report(rows)
    )
    return int(not all(row.ok for row in rows))
