"""torch.load(weights_only=True) and safetensors are the oracles: what we read and write is theirs bit for bit.

Or it is refused with a reason. DAV2_FILES=50000 compares so many files; without it, it is 1,500.
"""

from __future__ import annotations

import io
import os
from collections import Counter
from pathlib import Path
from typing import Any

import made_files
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from dav2_utils.diagnosis.diagnose import diagnose
from dav2_utils.errors import CheckpointError
from dav2_utils.files.checkpoint import inspect_file
from dav2_utils.repair.fixing import fix_file
from dav2_utils.repair.reading import read_set
from dav2_utils.weights.loading import load_into

FILES = int(os.environ.get("DAV2_FILES", "1500"))
PARTS = 5


class Differs(AssertionError):
    pass


def by_oracle(made: made_files.Made, path: Path) -> tuple[Any, Any]:
    """What torch or safetensors read; None and the error where they refuse."""
    try:
        if made.suffix == ".safetensors":
            return load_file(path), None
        return torch.load(io.BytesIO(made.oracle or made.content), map_location="cpu", weights_only=True), None
    except Exception as error:  # torch fails in any imaginable way
        return None, error


def at(content: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        content = content[int(part)] if isinstance(content, tuple) else content[part]
    return content


def bits(tensor: torch.Tensor) -> tuple[Any, ...]:
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
        return ("no plain tensor",)
    plain = tensor.detach().resolve_conj().resolve_neg().contiguous()
    return (
        str(plain.dtype),
        tuple(plain.shape),
        bytes(plain.view(-1).view(torch.uint8).tolist()) if plain.numel() else b"",
    )


def same(ours: Any, theirs: Any) -> bool:
    """Tensors by dtype, shape and bits; what else is in a state dict by value."""
    if isinstance(theirs, torch.Tensor):
        return isinstance(ours, torch.Tensor) and bits(ours) == bits(theirs)
    if isinstance(theirs, dict):
        return isinstance(ours, dict) and list(ours) == list(theirs) and all(same(ours[k], theirs[k]) for k in theirs)
    return type(ours) is type(theirs) and bool(ours == theirs)


def versions(state: Any) -> Any:
    found = getattr(state, "_metadata", None)
    return found if found is None else {name: dict(of) for name, of in found.items()}


def compare(ours: Any, theirs: Any, what: str) -> None:
    """Every entry of a state dict, under the names that it has in the file."""
    wanted = {name: value for name, value in theirs.items() if isinstance(value, torch.Tensor) or "_extra" in name}
    if set(ours) != set(wanted):
        raise Differs(f"{what}: {sorted(ours)} for {sorted(wanted)}")
    for name, value in wanted.items():
        if not same(ours[name], value):
            raise Differs(f"{what}: {name} is {ours[name]!r} for {value!r}")
    if "read" in what and (versions(ours) or None) != (versions(theirs) or None):
        raise Differs(f"{what}: _metadata is {versions(ours)!r} for {versions(theirs)!r}")


def module_for(state: Any) -> nn.Module:
    """A module with buffers of these names, all of them zero."""
    root = nn.Module()
    for name, tensor in state.items():
        *way, last = name.split(".")
        here = root
        for part in way:
            if not hasattr(here, part):
                here.add_module(part, nn.Module())
            here = getattr(here, part)
        here.register_buffer(last, torch.zeros(tensor.shape, dtype=tensor.dtype))
    return root


def check(seed: int, folder: Path, counts: Counter[str]) -> None:
    made = made_files.made(seed)
    path = folder / f"{seed}{made.suffix}"
    path.write_bytes(made.content)
    theirs, error = by_oracle(made, path)
    try:
        opened = inspect_file(path)
        read = {weights.path: read_set(opened, weights.path) for weights in opened.sets}
    except CheckpointError as refusal:
        assert refusal.found, "a refusal has its reason"
        counts["both refuse" if error else f"ours refuses: {reason(refusal)}"] += 1
        counts["refused though torch reads it"] += error is None
        return
    if error is not None and read and opened.globals and made.oracle is None:
        counts["a flipped bit made a foreign object"] += 1  # there is no such file without it
        return
    if error is not None and read:
        raise Differs(f"ours reads what the oracle refuses: {error!r}")
    for place, state in read.items():
        compare(state, at(theirs, place), f"read {place}")
    counts["read"] += bool(read)
    if seed % 4 == 2 and len(opened.sets) == 1 and diagnose(path, opened.table).verdict == "loads":
        torch_too = path.suffix == ".safetensors" or torch.load(path, map_location="cpu", weights_only=True)
        assert torch_too, "what loads, loads in torch"
        counts["loads"] += 1
    if seed % 4 == 0 and len(read) == 1:
        fixed(path, opened.container, next(iter(read.values())), theirs, made.oracle is not None, counts)
    if seed % 8 == 1 and len(read) == 1:
        loaded(path, next(iter(read.values())), counts)


def reason(error: CheckpointError) -> str:
    words = error.found.partition(": ")[2] or error.found
    return " ".join(word for word in words.split() if not set(word) & set("0123456789'/"))[:90]


def fixed(path: Path, place: list[str], read: Any, theirs: Any, strange: bool, counts: Counter[str]) -> None:
    """`fix` with and without the training state."""
    keep = path.suffix != ".safetensors" and len(read) % 2 == 0
    target = path.with_name(f"{path.stem}.out{path.suffix}")
    done = fix_file(path, target, keep_training_state=keep)
    if done.status != "fixed":
        assert done.reason, done
        counts[f"fix {done.status}: {done.reason[-90:]}"] += 1
        return
    if target.suffix == ".safetensors":
        back = load_file(target)
    else:  # with the training state, what torch refuses in the source is in the target, too: made here, and harmless
        back = torch.load(target, map_location="cpu", weights_only=not (keep and strange))
    rename = diagnose(path).rename
    state = at(theirs, tuple(place))
    wanted = {rename[name]: value for name, value in state.items() if name in rename}
    compare(at(back, tuple(place)) if keep else back, wanted, "fix")
    if keep and place and isinstance(theirs, dict):
        others = {name: value for name, value in theirs.items() if name != place[0]}
        assert same({name: back[name] for name in others}, others), "what lies beside the weights is kept"
    counts["fixed"] += 1


def loaded(path: Path, read: Any, counts: Counter[str]) -> None:
    if not all(isinstance(value, torch.Tensor) for value in read.values()):
        return
    model = module_for(read)
    load_into(model, path)
    compare(model.state_dict(), read, "load_into")
    counts["loaded"] += 1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", range(PARTS))
def test_what_we_read_and_write_is_what_torch_reads(part: int, tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    wrong = []
    for seed in range(part, FILES, PARTS):
        try:
            check(seed, tmp_path, counts)
        except Differs as error:
            wrong.append(f"seed {seed} ({', '.join(made_files.made(seed).how)}): {error}")
        for file in tmp_path.iterdir():
            file.unlink()
    print(*sorted(counts.items(), key=lambda item: -item[1]), sep="\n")
    assert not wrong, "\n".join(wrong[:20])
    total = sum(count for name, count in counts.items() if name == "read" or "refuse" in name)
    assert counts["read"] > total / 3 and counts["fixed"] > total / 40 and counts["loaded"] > total / 100
