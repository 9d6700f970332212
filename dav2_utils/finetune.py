"""The smallest honest fine-tune on several processes; it writes the `latest.pth` that everybody asks about.

    torchrun --nproc-per-node=2 -m dav2_utils.finetune --output DIR

Real DistributedDataParallel: on CPU by gloo, on GPUs by nccl. It starts from the embedded `tiny` weights, which know
rooms, and learns streets. Without torchrun the same command runs in one process.

On several machines, start it on each with torchrun's own flags and one address that all can reach; for two machines
`torchrun --nnodes=2 --nproc-per-node=8 --rdzv-backend=c10d --rdzv-endpoint=HOST:29500 -m dav2_utils.finetune --output
DIR`. Nothing here changes: torchrun numbers the processes, each takes its share of the scenes, and process 0 alone
writes, so DIR need only exist on its machine.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from .errors import CheckpointError
from .training.loop import Plan, train
from .training.scenes import DOMAINS


def parse(arguments: Sequence[str] | None = None) -> Plan:
    """The command line as a `Plan`."""
    parser = argparse.ArgumentParser("dav2_utils.finetune", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--output", type=Path, required=True, help="the folder that latest.pth goes into")
    parser.add_argument("--domain", default="streets", choices=list(DOMAINS))
    parser.add_argument("--weights", type=Path, help="a checkpoint of `tiny` to start from (the embedded one)")
    parser.add_argument("--select", metavar="SET[,SET]", help="which set of weights, if the file holds several")
    for name, kind, text in (("epochs", int, "each ends with latest.pth"), ("steps", int, "in an epoch"),
                             ("batch", int, "scenes in one step of one process"), ("seed", int, ""),
                             ("lr", float, "learning rate at its highest")):  # fmt: skip
        parser.add_argument(f"--{name}", type=kind, default=getattr(Plan, name), help=f"{text} (%(default)s)")
    return Plan(**vars(parser.parse_args(arguments)))


def main() -> None:
    """One process from start to end. What goes wrong in all processes of a machine is reported by the first of them."""
    plan, first_here = parse(), os.environ.get("LOCAL_RANK", "0") == "0"
    # When one process dies, torchrun sends the others SIGTERM: they leave as at Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        train(plan)
    except KeyboardInterrupt:
        _leave(f"Stopped. {_kept(plan)}" if first_here else "", 130)
    except (CheckpointError, OSError) as error:
        _leave(str(error) if first_here else "", 1)
    except RuntimeError as error:
        if "by peer" not in str(error):  # gloo's words for a process that is gone
            raise
        _leave(f"Another process is gone; torchrun says below which one and why. {_kept(plan)}", 1)
    if first_here:
        print(plan.output / "latest.pth")


def _kept(plan: Plan) -> str:
    kept = plan.output / "latest.pth"
    return f"{kept} is from the last finished epoch" if kept.is_file() else "No epoch had finished: nothing was written"


def _leave(words: str, status: int) -> None:
    """Exits at once: a process group would wait for everybody, and the others may be gone."""
    if words:
        print(f"\n{words}", file=sys.stderr, flush=True)
    os._exit(status)


if __name__ == "__main__":
    main()
