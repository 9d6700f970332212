"""The official weights, from the Hugging Face Hub into the cache that every tool on this machine shares.

Repositories and files as https://github.com/DepthAnything/Depth-Anything-V2 (README.md and metric_depth/README.md)
links them. There is no official file for vitg, and none for `tiny`, which is ours and comes with the package.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import re
import sys
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from ..errors import HubError
from ..texts import printable


class Official(NamedTuple):
    """One published file, and what no checkpoint records: whether it is metric, and its licence."""

    encoder: str
    repo: str
    file: str
    licence: str
    max_depth: float | None  # metres; None is a relative model

    @property
    def page(self) -> str:
        """The page where people can download it themselves."""
        return f"https://huggingface.co/{self.repo}/blob/main/{self.file}"


def _official(name: str) -> Official:
    encoder, _, place = name.partition("-metric-")
    size, licence = {
        "vits": ("Small", "Apache-2.0"),
        "vitb": ("Base", "CC-BY-NC-4.0"),
        "vitl": ("Large", "CC-BY-NC-4.0"),
    }[encoder]
    if not place:
        return Official(
            encoder, f"depth-anything/Depth-Anything-V2-{size}", f"depth_anything_v2_{encoder}.pth", licence, None
        )
    data, max_depth = {"indoor": ("Hypersim", 20.0), "outdoor": ("VKITTI", 80.0)}[place]
    repo = f"depth-anything/Depth-Anything-V2-Metric-{data}-{size}"
    return Official(encoder, repo, f"depth_anything_v2_metric_{data.lower()}_{encoder}.pth", licence, max_depth)


#: vits, vitb and vitl are relative; vits-metric-indoor (to 20 m), vits-metric-outdoor (to 80 m) and so on are metric.
OFFICIAL: dict[str, Official] = {
    name: _official(name)
    for encoder in ("vits", "vitb", "vitl")
    for name in (encoder, f"{encoder}-metric-indoor", f"{encoder}-metric-outdoor")
}


def get_official(name: str) -> Official:
    """The published file called `name`. Raises `HubError` (kind `unknown_name`) for any other name."""
    if name not in OFFICIAL:
        found = f"There are no official weights called {name!r}"
        raise HubError(found, f"one of {', '.join(OFFICIAL)}", "Give your own file by its path", kind="unknown_name")
    return OFFICIAL[name]


def find_cached(name: str) -> Path | None:
    """Where the official weights `name` are on this machine, or None. Does not use the network.

    Looks into the Hub's own cache, then into the folder for files fetched with a browser (`by_hand`).
    """
    from huggingface_hub import try_to_load_from_cache

    official = get_official(name)
    cached = try_to_load_from_cache(official.repo, official.file)
    if isinstance(cached, str) and Path(cached).is_file():
        return Path(cached)
    return by_hand(name) if by_hand(name).is_file() else None


def by_hand(name: str) -> Path:
    """Where to put the official weights `name` after fetching them with a browser."""
    from huggingface_hub import constants

    return Path(constants.HF_HOME) / "dav2_utils" / get_official(name).file


def download(name: str) -> Path:
    """The official weights `name`, from the cache or else from the Hub, with a progress bar on standard error.

    The licence is printed before the first download. The bytes are checked against the sha256 (for a small file
    git's hash) that the Hub announces; if it announces none, nothing is fetched.
    huggingface_hub does the work, so its variables apply: HF_HOME, HF_HUB_OFFLINE, HF_ENDPOINT, HF_TOKEN. Raises
    `HubError`, with the page to download the file from and the place to put it.
    """
    if (cached := find_cached(name)) is not None:
        return cached
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    official = get_official(name)
    try:
        announced = get_hf_file_metadata(hf_hub_url(official.repo, official.file))
        checksum = announced.etag or ""
        if known := re.fullmatch("[0-9a-f]{64}|[0-9a-f]{40}", checksum):
            size = f"{announced.size / 1e6:.0f} MB, " if announced.size else ""
            terms = official.licence + (" (no commercial use)" if "NC" in official.licence else "")
            print(f"{official.file}: {size}licence {terms}. {official.page}", file=sys.stderr)
            path = _fetch(official)
    except Exception as error:  # its errors change class with every other version; all mean: no file
        raise _not_to_be_had(name, f"{type(error).__name__}: {error}") from error
    if not known:
        raise _not_to_be_had(
            name, f"no checksum is announced for it (the answer calls its content {printable(checksum, 80)!r}), so "
            "nothing would show that the bytes are the official ones; a mirror (HF_ENDPOINT) or a proxy leaves it out"
        )  # fmt: skip
    _check_bytes(name, path, checksum)
    return path


#: How requests and httpx, which the client was built on in turn, call an answer that ends too early.
_CUT_OFF = ("ChunkedEncodingError", "RemoteProtocolError")


def _fetch(official: Official, tries: int = 5) -> Path:
    """The file, in the cache. Many clients give up if the connection breaks halfway; called again, they resume."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(official.repo, official.file))
    except Exception as error:
        if tries == 1 or type(error).__name__ not in _CUT_OFF:
            raise
    return _fetch(official, tries - 1)


def _check_bytes(name: str, path: Path, announced: str) -> None:
    """The Hub names a large file by its sha256, but its client, over plain HTTP, compares the size alone.

    A small file it names as git does.
    """
    by_git = len(announced) == 40
    digest = hashlib.new("sha1" if by_git else "sha256", usedforsecurity=not by_git)
    if by_git:
        digest.update(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as file:
        while block := file.read(2**22):
            digest.update(block)
    if digest.hexdigest() != announced:
        path.resolve().unlink(missing_ok=True)  # what the link in the cache points to
        path.unlink(missing_ok=True)
        found = f"{'git hash' if by_git else 'sha256'} {digest.hexdigest()}"
        raise _not_to_be_had(name, f"the bytes have {found}, the Hub announced {announced}; deleted")


def _not_to_be_had(name: str, reason: str) -> HubError:
    official, words = get_official(name), " ".join(reason.split())
    return HubError(
        f"{official.file} could not be downloaded ({words:.500})",
        "a connection to huggingface.co, or the file in the cache",
        f"Try again, or download it from {official.page} and put it at {by_hand(name)}, where it will be found",
    )


_unpacked = contextlib.ExitStack()  # from a zip, a copy that lives as long as this process
atexit.register(_unpacked.close)


@functools.cache
def default_weights() -> Path:
    """The metric `tiny` weights that come with this package, trained on rooms (safetensors, `max_depth` 20)."""
    place = resources.files("dav2_utils.depth") / "embedded" / "tiny_rooms.safetensors"
    return _unpacked.enter_context(resources.as_file(place))
