"""Weights written with torch, and the proof that what was written is what was read: compared byte for byte."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import WriteError
from ..keys import TensorInfo
from ..writing.plan import fingerprint as of_bytes
from ..writing.safetensors import header

if TYPE_CHECKING:
    import torch

CHUNK = 16 << 20  # bytes that are compared, hashed or written at a time

Tensors = Mapping[str, "torch.Tensor"]


def write_pth(content: Any, path: Path) -> None:
    """`torch.save`, straight from mapped memory, with checksums whatever torch was told before."""
    import torch

    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(True)
    try:
        # Through a path, its name would be in every record. Buffered, since one raw write ends after 2 GiB at most.
        with path.open("r+b") as file:
            torch.save(content, file)
    except (TypeError, ValueError, AttributeError, pickle.PicklingError) as error:  # what a file hung on its tensors
        raise WriteError(f"torch cannot write this: {error}", do="Leave out --keep-training-state") from error
    finally:
        torch.serialization.set_crc32_options(before)


def write_safetensors(tensors: Tensors, path: Path, facts: Mapping[str, Any]) -> None:
    """The tensors as the library of that name puts them; `facts` as text in the header."""
    front, order = header(
        {name: TensorInfo(tuple(getattr(t, "shape", ())), dtype_of(t)) for name, t in tensors.items()}, facts
    )
    with path.open("r+b") as file:
        file.write(front)
        for name in order:
            for chunk in raw(tensors[name]):
                file.write(chunk)


def dtype_of(tensor: torch.Tensor) -> str:
    """torch's short name for the dtype: `float32`; of what isn't a tensor (an `_extra_state`) the type's."""
    return str(getattr(tensor, "dtype", type(tensor).__name__)).removeprefix("torch.")


def raw(tensor: torch.Tensor) -> Iterator[memoryview]:
    """The bytes of a tensor in C order, little-endian, at most `CHUNK` at a time.

    Cut by shape alone, so two equal tensors give equal parts; and before copying, so a small storage that is expanded
    to a large shape costs no memory.
    """
    import torch

    plain = torch.Tensor.detach(tensor).resolve_conj().resolve_neg()
    if plain.dim() and plain.nbytes > CHUNK:
        rows = CHUNK * len(plain) // plain.nbytes
        for start in range(0, len(plain), rows or 1):
            yield from raw(plain[start : start + rows] if rows else plain[start])
    elif plain.numel():
        flat = plain.contiguous().as_strided((plain.numel(),), (1,))  # one element counts as in order with any stride
        yield flat.view(torch.uint8).numpy().data


def fingerprint(tensors: Tensors) -> str:
    """The fingerprint of tensors in memory, as `writing.plan.fingerprint` defines it; an `_extra_state` has no part."""
    plain = {name: one for name, one in tensors.items() if hasattr(one, "untyped_storage")}
    return of_bytes((name, dtype_of(one), tuple(one.shape), partial(raw, one)) for name, one in plain.items())


def identical(pairs: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> bool:
    """Whether the two tensors of each pair have the same dtype, the same shape and the same bytes.

    Bytes and not values: NaN equals itself here, and 0.0 differs from -0.0.
    """
    return all(
        one.dtype == other.dtype
        and one.shape == other.shape
        and all(_same(a, b) for a, b in zip(raw(one), raw(other), strict=True))
        for one, other in pairs
    )


def _same(one: memoryview, other: memoryview) -> bool:
    import torch

    words = len(one) // 8 * 8
    a, b = (torch.frombuffer(part, dtype=torch.uint8) for part in (one, other))
    return torch.equal(a[:words].view(torch.int64), b[:words].view(torch.int64)) and one[words:] == other[words:]


def in_parallel(*jobs: Any) -> list[Any]:
    """The results of functions that run side by side: hashing, comparing and writing leave Python's lock alone."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result() for future in [pool.submit(job) for job in jobs]]
