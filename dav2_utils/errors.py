"""Every exception of this package, in one place. Standard library only.

What people see is a `CheckpointError`, whose text says what was found, what was expected and what to do. Below those,
the signals by which the readers of a format tell each other that bytes make no sense; they never leave the package.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .texts import printable


class CheckpointError(Exception):
    """Anything that this package refuses to do. Its text says what was found, what was expected and what to do.

    `kind` is a short name for programs (`dav2 ... --json` prints it as `error.kind`).
    """

    kind = "checkpoint"

    def __init__(self, found: str, expected: str = "", do: str = "", *, kind: str | None = None) -> None:
        parts = [found.rstrip(". "), expected and f"Expected: {expected.rstrip('. ')}", do.rstrip(". ")]
        super().__init__(". ".join(part for part in parts if part) + ".")
        self.found, self.expected, self.do = found, expected, do
        self.kind = kind or type(self).kind


class PrefixError(CheckpointError):
    """Wrapper components cannot be taken off one-to-one, or the one asked for is not there."""

    kind = "prefix"


class PathError(CheckpointError):
    """There is no file at the path, or it may not be read."""

    kind = "usage"

    def __init__(self, path: Path, what: str, expected: str, do: str = "") -> None:
        self.path = path
        super().__init__(f"{printable(str(path))} {what}", expected, do or "Check the path; `ls` lists a folder")


class NotACheckpoint(CheckpointError):
    """The file holds no weights that can be read; `format` says what it is."""

    kind = "no checkpoint"

    def __init__(self, path: Path, format: str, found: str, do: str) -> None:
        self.path, self.format = path, format
        super().__init__(f"{printable(path.name)}: {found}", "weights saved by torch.save or safetensors", do)


class AmbiguousSets(CheckpointError):
    """The file holds several sets of weights, and none, or one that is not there, was chosen."""

    kind = "several sets"


class NoWeights(CheckpointError):
    """The file could be read, and there is no set of weights in it: an optimizer's state, a list of numbers."""

    kind = "no checkpoint"

    def __init__(self, path: Path, format: str, holds: str, do: str = "") -> None:
        self.path, self.format = path, format
        found = "There are no tensors" if do else "There are no weights"
        super().__init__(
            f"{found} in {printable(path.name)}; it holds {holds}",
            "named tensors, as state_dict() gives them",
            do or "Look for the model's file beside it; optimizer state and settings are often saved separately",
        )


class WriteError(CheckpointError):
    """A file could not be written. The source and whatever was there before are as they were."""

    kind = "write"


class AlreadyThere(CheckpointError):
    """The target exists, and nothing allows overwriting it."""

    kind = "exists"

    def __init__(self, target: Path, do: str = "Use --force to overwrite it, or --output for another place") -> None:
        super().__init__(f"{target} already exists", do=do)


class SourceChanged(CheckpointError):
    """The file that is read is not what it was when the reading began, so nothing is made of it."""

    kind = "changed"

    def __init__(self, source: Path) -> None:
        found = f"{printable(str(source))} changed while it was read, as when a training run saves over it"
        super().__init__(found, "a file that nothing is writing to", "Copy it first, or wait until it is complete")


class RefusedPickle(CheckpointError):
    """The file holds objects that `weights_only=True` refuses."""

    kind = "refused pickle"


class HubError(CheckpointError):
    """An official file is not available: no such name, no network, or not what the Hub announced."""

    kind = "hub"


class DoesNotFit(CheckpointError):
    """The weights cannot be loaded into this model. `diagnosis` says why; the text is its report."""

    kind = "does not fit"

    def __init__(self, diagnosis: Any) -> None:
        self.diagnosis = diagnosis
        super().__init__(str(diagnosis))


class MissingPackage(CheckpointError):
    """A package is not installed that this one thing needs; looking, explaining and most repairs need none."""

    kind = "environment"

    def __init__(self, error: ImportError) -> None:
        name = (error.name or "a package").partition(".")[0]
        install = {"cv2": "torch opencv-python", "numpy": "torch opencv-python"}.get(name, name)
        super().__init__(f"This needs {name}, which is not installed here", do=f"pip install {install}")


# Signals within the package ------------------------------------------------------------------------------------------


class ArchiveError(Exception):
    """The archive cannot be read. `cut` when bytes are missing, as after a download or a copy that broke off."""

    def __init__(self, what: str, cut: bool = False) -> None:
        super().__init__(what)
        self.cut = cut


class PickleError(Exception):
    """The bytes aren't a pickle, not a whole one, or one too long to follow.

    `cut`: they end too early. `names`: the globals that were named until then.
    """

    def __init__(self, what: str, cut: bool = False) -> None:
        super().__init__(what)
        self.cut, self.names = cut, list[str]()


class BadTensor(ValueError):
    """A tensor is described in a way that torch never writes."""


class TooMuch(Exception):
    """The data refer to themselves so often that looking at everything would not end."""
