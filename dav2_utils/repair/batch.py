"""Many files at once: every checkpoint in a folder of runs, each fixed on its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, PathError
from ..files.unreadable import SUFFIXES
from ..texts import printable
from .fixing import beside, fix_file, of_set, stem
from .outcome import Repair


def fix_many(
    paths: Iterable[str | os.PathLike[str]], output: str | os.PathLike[str] | None = None, **options: Any
) -> list[Repair]:
    """`fix_file` for every checkpoint in `paths`: files, and folders with everything below them.

    Each result lies beside its source, or in the same tree under the folder `output`. One bad file never stops the
    rest. Raises `CheckpointError` (kind `usage`) for a path that is not there, before anything is written.
    """
    given = [Path(path) for path in paths]
    for path in given:
        if not path.exists():
            raise PathError(path, "is not there", "a checkpoint file or a folder")
    if len(given) == 1 and not given[0].is_dir():
        return [fix_file(given[0], output, **options)]
    root = Path(output) if output else None
    for path in given:
        if root and path.is_dir() and _inside(path, root):
            raise CheckpointError(f"The results of {path} would end up among its own files", "a separate folder",
                                  f"Leave out --output to have each beside its source; or give {path / 'fixed'}",
                                  kind="usage")  # fmt: skip
    jobs = [(file, root and root / place) for path in given for file, place in _files(path, root, len(given) > 1)]
    repairs = []
    written = set[Path]()
    for file, place in _with_progress(jobs):
        kind, chosen = options.get("format"), options.get("select")
        name = f"{stem(place)}{of_set(chosen)}.{kind or place.suffix[1:]}" if place else ""
        target = place.with_name(name) if place and (kind or chosen) else place
        # --force is for what was there before, not for the result of another file of this run
        mine = target or beside(file, kind or ("safetensors" if file.suffix == ".safetensors" else "pth"), chosen)
        force = bool(options.get("force")) and mine not in written
        try:
            repairs.append(fix_file(file, target, **options | {"force": force}))
        except PathError as error:  # it was there when the folder was looked at
            repairs.append(Repair(str(file), "failed", reason=str(error)))
        written.add(mine)
    return repairs


def _with_progress(jobs: list[tuple[Path, Path | None]]) -> Iterator[tuple[Path, Path | None]]:
    """Each job, with a bar on standard error, or a plain line for each where tqdm is not installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        for number, job in enumerate(jobs, 1):
            print(f"{number} of {len(jobs)}: {printable(job[0].name, 60)}", file=sys.stderr)
            yield job
        return
    notebook = type(sys.stdout).__module__.startswith("ipykernel")
    to = sys.stdout if notebook else sys.stderr  # which a notebook paints red
    bar = tqdm(jobs, unit="file", file=to, disable=len(jobs) < 2)
    for job in bar:
        bar.set_postfix_str(printable(job[0].name, 30))
        yield job


def _inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _files(path: Path, output: Path | None, several: bool) -> Iterator[tuple[Path, Path]]:
    """The checkpoints at or below `path`, each with its place under the output folder."""
    if not path.is_dir():
        yield path, Path(path.name)
        return
    for file in sorted(path.rglob("*")):
        if file.name == ".metadata" and file.is_file():  # torch.distributed.checkpoint: the folder is the checkpoint
            yield file.parent, Path(file.parent.name)
        ours = ".fixed." in file.name or file.name.startswith(".")
        if file.suffix in SUFFIXES and not ours and file.is_file() and not (output and _inside(file, output)):
            yield file, (Path(path.resolve().name) if several else Path()) / file.relative_to(path)
