"""The file that the measurements are made on: a 4.0 GB ViT-L training file, as DistributedDataParallel leaves it.

`python benchmarks/big_file.py FOLDER` makes it, once, and prints its path. The layout is the official one (`model`,
`optimizer`, `epoch`, `previous_best`, every name under `module.`), with the state that AdamW really keeps.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

NAME = "vitl_latest.pth"


def big_file(folder: str | os.PathLike[str], encoder: str = "vitl") -> Path:
    """The path of the file in `folder`; made when it is not there, which takes a minute and 5 GB of memory."""
    path = Path(folder) / NAME.replace("vitl", encoder)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _make(path, encoder)
    return path


def _make(path: Path, encoder: str) -> None:
    import torch

    from dav2_utils.architecture import table_for

    torch.manual_seed(0)
    weights = {
        f"module.{name}": torch.nn.Parameter(torch.empty(info.shape).uniform_(-0.05, 0.05))
        for name, info in table_for(encoder).items()
    }
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
    part = path.with_name(path.name + ".part")
    torch.save(state, part)
    part.replace(path)


if __name__ == "__main__":
    print(big_file(sys.argv[1] if len(sys.argv) > 1 else "build/benchmarks"))
