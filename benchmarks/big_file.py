"""The file that the measurements are made on: a 4.0 GB ViT-L training file, as DistributedDataParallel leaves it.

`python benchmarks/big_file.py FOLDER [ENCODER]` makes it, once, and prints its path. The layout is the official
one (`model`, `optimizer`, `epoch`, `previous_best`, every name under `module.`), with the state that AdamW keeps.
"""

from __future__ import annotations

import sys
from pathlib import Path

from side_by_side import FOLDER, process


def big_file(folder: Path, encoder: str = "vitl") -> Path:
    """The path of the file in `folder`; made when it is not there, which takes a minute and 5 GB of memory."""
    path = folder / f"{encoder}_latest.pth"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _make(path, encoder)
    return path


def made_apart(folder: Path, encoder: str = "vitl") -> Path:
    """The same by a process of its own, for scripts that must not import torch themselves."""
    return Path(process(sys.executable, __file__, folder, encoder).said.strip())


def made_small(folder: Path) -> Path:
    """A file of 36 MB: `tiny`, wrapped, with what AdamW keeps of it."""
    return made_apart(folder, "tiny")


def _make(path: Path, encoder: str) -> None:
    import torch

    from dav2_utils.encoders import table_for
    from dav2_utils.writing.disk import require_space
    from dav2_utils.writing.replacing import replacing

    torch.manual_seed(0)
    weights = {
        f"module.{name}": torch.nn.Parameter(torch.empty(info.shape).uniform_(-0.05, 0.05))
        for name, info in table_for(encoder).items()
    }
    # The weights, AdamW's two numbers for each of them, and what bench_fix writes: the weights twice.
    require_space(path.parent, 5 * sum(parameter.nbytes for parameter in weights.values()))
    optimizer = torch.optim.AdamW(weights.values(), lr=5e-6, weight_decay=0.01)
    for parameter in weights.values():
        parameter.grad = parameter.detach()  # any gradient will do; a copy would cost another 1.3 GB
    optimizer.step()
    state = {
        "model": {name: parameter.detach() for name, parameter in weights.items()},
        "optimizer": optimizer.state_dict(),
        "epoch": 39,
        "previous_best": {"d1": 0.9, "abs_rel": 0.07},
    }
    with replacing(path) as part:
        torch.save(state, part)


if __name__ == "__main__":
    print(big_file(*map(Path, sys.argv[1:2] or [FOLDER]), *sys.argv[2:]))
