"""Pictures in, depth maps out: what `dav2 depth` does, and how lessons read your own picture."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import AlreadyThere, CheckpointError
from ..texts import printable, say
from ..writing.replacing import Place, replacing_all
from .doubts import DepthWarning, ends, lightness
from .opencv import import_cv2

if TYPE_CHECKING:
    from .model import DepthAnythingV2


LARGEST_FILE = 2**30  # bytes
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")  # what a folder is searched for


def pictures_at(paths: Iterable[Path]) -> list[Path]:
    """The pictures that `paths` mean: files, folders (what lies right in them, without maps made here) and patterns.

    Raises `CheckpointError` (kind `usage`) for a path with nothing there.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            there = [each for each in path.iterdir() if each.suffix.lower() in SUFFIXES and each.is_file()]
            there = [each for each in there if ".depth." not in each.name]
        else:  # a shell that doesn't expand patterns passes them on as they are
            there = [path] if path.exists() else [each for each in _matching(path) if not each.is_dir()]
        if not there:
            raise CheckpointError(f"There is no picture at {printable(str(path))}", "a picture, a folder of pictures, "
                                  "or a pattern such as 'photos/*.jpg'", "Check the path", kind="usage")  # fmt: skip
        found += sorted(there)
    return found


def _matching(pattern: Path) -> Iterable[Path]:
    return Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor)))


def read_picture(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """The picture at `path` as BGR uint8, shape (H, W, 3), the form that `infer_image` takes.

    Raises `CheckpointError`: kind `usage` when nothing is there, `not a picture` when OpenCV cannot decode it.
    """
    path = Path(path)
    if not path.is_file():
        found = f"{path.name!r} is a folder" if path.is_dir() else f"There is no {path.name!r} in that folder"
        raise CheckpointError(found, "a picture (JPEG, PNG, ...)", "Check the path", kind="usage")
    # Read here and not by cv2.imread, which cannot open non-ASCII paths on Windows and only warns.
    size = path.stat().st_size
    picture = decoded(np.fromfile(path, dtype=np.uint8)) if size <= LARGEST_FILE else None
    if picture is None:
        raise CheckpointError(
            f"{path.name!r} ({size} bytes) does not decode as a picture",
            "a picture that OpenCV reads (JPEG, PNG, WebP, TIFF, BMP), of a size that it takes",
            "Open it in a viewer; convert it, make it smaller, or copy it again if it is cut off",
            kind="not a picture",
        )
    return picture


def decoded(content: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8] | None:
    """The bytes of a picture file as BGR uint8; None if OpenCV cannot, or the picture is too large."""
    cv2 = import_cv2()
    try:
        picture = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    except (cv2.error, MemoryError):  # a picture of 60,000 by 60,000 takes a hundred bytes
        return None
    return None if picture is None else np.asarray(picture, dtype=np.uint8)


def write_depth_maps(
    model: DepthAnythingV2, images: Iterable[Path], *, input_size: int | None = None, output: Path | None = None,
    force: bool = False,
) -> list[dict[str, Any]]:  # fmt: skip
    """For each image: `STEM.depth.npy` (float32, (H, W)) and `STEM.depth.png` (cividis, for the eye).

    Metric models give metres; relative ones inverse depth up to scale and shift, so larger is nearer. In the picture
    bright is always near. One image that fails does not stop the rest: its result holds `error`. So does that of an
    image whose maps already exist, unless `force` allows replacing them; a symbolic link in their place is replaced
    itself, not what it leads to. What makes a map doubtful is in its result's `warnings`.
    """
    from tqdm import tqdm

    results: list[dict[str, Any]] = []
    written: set[Path] = set()
    for image in tqdm(list(images), desc="depth", unit="image", disable=None):
        try:
            folder = image.parent if output is None else output
            stem = folder / (image.stem if folder / image.stem not in written else image.name)
            # `force` is for what was there before, not for the map of another image of this run
            results.append(_write_one(model, image, stem, input_size, force and stem not in written))
            written.add(stem)
        except (CheckpointError, OSError) as error:
            results.append({"source": str(image), "error": str(error)})
    return results


def _write_one(model: DepthAnythingV2, image: Path, stem: Path, input_size: int | None, force: bool) -> dict[str, Any]:
    cv2 = import_cv2()
    raw, picture = Path(f"{stem}.depth.npy"), Path(f"{stem}.depth.png")
    for path in (raw, picture):
        if os.path.lexists(path) and (not force or path.is_dir() or (path.exists() and path.samefile(image))):
            raise AlreadyThere(path)
    depth, doubtful = with_doubts(model, read_picture(image), input_size)
    if not np.isfinite(depth).all():
        raise CheckpointError("These weights give depths that are not numbers (NaN or infinite)", "finite weights",
                              "The training may have diverged: take an earlier checkpoint")  # fmt: skip
    if model.encoder == "tiny" and model.max_depth is not None:
        doubtful.append(say("doubts.photograph"))
    grey = (lightness(depth, model.max_depth, ends(depth, model.max_depth)) * 255).round().astype(np.uint8)
    with replacing_all([Place(raw, force), Place(picture, force)]) as temporaries:
        with temporaries[0].open("wb") as file:  # of a path, NumPy would change the name
            np.save(file, depth)
        cv2.imencode(".png", cv2.applyColorMap(grey, cv2.COLORMAP_CIVIDIS))[1].tofile(temporaries[1])
    return {
        "source": str(image),
        "depth": str(raw),
        "picture": str(picture),
        "shape": list(depth.shape),
        "unit": "metres" if model.max_depth is not None else "relative (inverse depth, larger is nearer)",
        "max_depth": model.max_depth,
        "min": float(depth.min()),
        "max": float(depth.max()),
    } | ({"warnings": doubtful} if doubtful else {})


def with_doubts(
    model: DepthAnythingV2, picture: npt.NDArray[np.uint8], input_size: int | None = None
) -> tuple[npt.NDArray[np.float32], list[str]]:
    """The depth map of a BGR picture, and what `infer_image` warned of, instead of the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", DepthWarning)
        depth = model.infer_image(picture, input_size)
    return depth, [str(each.message) for each in caught]
