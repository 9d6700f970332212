"""Fine-tuning in small, on several processes: the training itself, and `make_checkpoint`, which starts it."""

# Calling an nn.Module gives Any in torch's own types, hence:
# mypy: disable-error-code="no-any-return, no-untyped-call"

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler
from tqdm import tqdm

from ..depth.hub import default_weights
from ..depth.model import DepthAnythingV2
from ..errors import CheckpointError
from ..texts import printable
from ..weights.loading import load_into
from ..writing.replacing import Place, replacing_all
from .data import SceneDataset, depth_loss, evaluate
from .scenes import DOMAINS, HELD_OUT

VALIDATION = range(HELD_OUT + 500_000, HELD_OUT + 500_016)  # neither trained on nor in `held_out`


@dataclass(frozen=True)
class Plan:
    """What to train, and for how long. Sizes are for each process: two of them take twice the scenes in one step."""

    output: Path
    domain: str = "streets"
    epochs: int = 2
    steps: int = 64  # in an epoch
    batch: int = 2
    lr: float = 1.5e-3  # at its highest
    seed: int = 0
    weights: Path | None = None  # a checkpoint of `tiny` to start from; the embedded one if none is given
    select: str | None = None  # which set of weights in it, if it holds several


FIRST_SCENE, SCENES_OF_A_SEED = 500_000_000, 1_000_000


def check_plan(plan: Plan) -> None:
    """Whether `plan` can be carried out. Raises `CheckpointError` before anything is trained, started or written."""
    if plan.domain not in DOMAINS:
        raise _wrong("domain", plan.domain, f"one of {', '.join(DOMAINS)}")
    for name in ("epochs", "steps", "batch"):
        if type(value := getattr(plan, name)) is not int or value < 1:
            raise _wrong(name, value, "a whole number, 1 or more")
    if not (isinstance(plan.lr, (int, float)) and 0 < plan.lr < math.inf):  # nan is not either
        raise _wrong("lr", plan.lr, f"a number above 0, such as {Plan.lr}")
    seeds = (HELD_OUT - FIRST_SCENE) // SCENES_OF_A_SEED
    if type(plan.seed) is not int or not 0 <= plan.seed < seeds:
        raise _wrong("seed", plan.seed, f"a whole number from 0 to {seeds - 1}")
    scenes = plan.epochs * plan.steps * plan.batch * int(os.environ.get("WORLD_SIZE", 1))
    if FIRST_SCENE + plan.seed * SCENES_OF_A_SEED + scenes > HELD_OUT:
        raise CheckpointError(f"This would take {scenes:,} scenes, including some that are reserved for measuring",
                              do="Take a smaller --seed, or fewer --epochs or --steps", kind="argument")  # fmt: skip
    latest = plan.output / "latest.pth"
    blocked = next((place for place in (*plan.output.parents[::-1], plan.output) if place.is_file()), None)
    if blocked or latest.is_dir():
        found = f"{blocked} is a file" if blocked else f"{latest} is a folder"
        raise CheckpointError(found, "a folder for latest.pth to go into", "Use another --output", kind="write")
    if plan.weights is not None and not plan.weights.is_file():
        what = "is a folder" if plan.weights.is_dir() else "is not there"
        raise CheckpointError(f"No weights at {printable(str(plan.weights))}, which {what}",
                              "a checkpoint of `tiny` (safetensors or .pth)", "Check --weights")  # fmt: skip


def _wrong(name: str, value: Any, expected: str) -> CheckpointError:
    return CheckpointError(f"--{name} is {printable(repr(value), 60)}", expected, kind="argument")


def train(plan: Plan) -> Path:
    """Fine-tunes as `plan` says, in this process, one of however many, and writes `latest.pth` after each epoch.

    One that was there before is kept as latest.pth.bak, and that is said.
    Raises `CheckpointError` for a plan that cannot be carried out, for weights or a folder that are not available,
    if the processes cannot meet, and if the loss is no longer a number.
    """
    check_plan(plan)
    rank, world = _join()
    try:
        _train(plan, rank, world)
    except BaseException:
        if world == 1:  # the next training in this kernel meets anew; with others, leaving would wait for all of them
            _part()
        raise
    _part()
    return plan.output / "latest.pth"


def _train(plan: Plan, rank: int, world: int) -> None:
    torch.manual_seed(plan.seed)
    if rank == 0:
        plan.output.mkdir(parents=True, exist_ok=True)
    model = starting_model(plan).to(_device())
    wrapped = _wrap(model)
    optimizer = torch.optim.AdamW(wrapped.parameters(), plan.lr, betas=(0.9, 0.95), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, plan.lr, plan.epochs * plan.steps, pct_start=0.15)
    best = {"d1": 0.0, "abs_rel": 100.0, "rmse": 100.0}
    for epoch in range(plan.epochs):
        batches = tqdm(_loader(plan, epoch, rank, world), f"{plan.domain}, epoch {epoch}", disable=rank > 0)
        _one_epoch(wrapped, batches, optimizer, schedule)
        if rank == 0:
            scores = evaluate(model, plan.domain, VALIDATION)
            best = {"d1": max(best["d1"], scores["delta1"]), "abs_rel": min(best["abs_rel"], scores["abs_rel"]),
                    "rmse": min(best["rmse"], scores["rmse"])}  # fmt: skip
            # The very lines that lead so many people here: the names in it begin with DDP's `module.`
            checkpoint = {"model": wrapped.state_dict(), "optimizer": optimizer.state_dict()}
            # What another run left there may be a week of somebody's work, so it is kept
            latest = Place(plan.output / "latest.pth", overwrite=True, backup=epoch == 0)
            with replacing_all([latest]) as [beside]:
                torch.save(checkpoint | {"epoch": epoch, "previous_best": best}, beside)
            if latest.kept:
                print(f"{latest.target} already existed; it is now {latest.kept}")


def starting_model(plan: Plan) -> DepthAnythingV2:
    """The base weights in a model for the new domain: the same names and shapes, another `max_depth` to scale by."""
    model = DepthAnythingV2("tiny", max_depth=DOMAINS[plan.domain])
    with warnings.catch_warnings():  # that they were trained for another max_depth is what this is about
        warnings.filterwarnings("ignore", "trained as")
        load_into(model, plan.weights or default_weights(), plan.select)
    return model


def _one_epoch(
    model: nn.Module, batches: tqdm[tuple[Tensor, Tensor]], optimizer: torch.optim.Optimizer, schedule: Any
) -> None:
    model.train()
    device = _device()
    for image, depth in batches:
        loss = depth_loss(model(image.to(device)), depth.to(device))
        if not math.isfinite(loss.item()):
            raise CheckpointError(f"The loss is {loss.item()}: the training has diverged", "a number",
                                  "Lower --lr, or check --weights for NaN", kind="training")  # fmt: skip
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        batches.set_postfix(loss=f"{loss.item():.3f}", refresh=False)


def _loader(plan: Plan, epoch: int, rank: int, world: int) -> DataLoader[tuple[Tensor, Tensor]]:
    """New scenes in each epoch, dealt out so that no two processes see the same one."""
    count = plan.steps * plan.batch * world
    first = FIRST_SCENE + plan.seed * SCENES_OF_A_SEED + epoch * count
    scenes = SceneDataset(plan.domain, range(first, first + count))
    share: DistributedSampler[int] = DistributedSampler(scenes, num_replicas=world, rank=rank, seed=plan.seed)
    return DataLoader(scenes, plan.batch, sampler=share)


# Several processes --------------------------------------------------------------------------------------------------


def has_ddp() -> bool:
    """Whether DistributedDataParallel can run here. Some Windows machines lack gloo, and so does a torch without it."""
    return dist.is_available() and (dist.is_gloo_available() or torch.cuda.is_available())


def has_torchrun() -> bool:
    """Whether torchrun works here. It asks for libuv, and torch for Windows is built without (pytorch issue 148283)."""
    return has_ddp() and sys.platform != "win32"


def _device() -> torch.device:
    """This process's own GPU, or the CPU if there are fewer GPUs than processes."""
    if torch.cuda.device_count() < int(os.environ.get("LOCAL_WORLD_SIZE", 1)):
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))


def _join() -> tuple[int, int]:
    """Meets the other processes that torchrun started. Gives this one's number and how many there are."""
    if not has_ddp():
        return 0, 1
    backend = "nccl" if _device().type == "cuda" else "gloo"
    if "RANK" not in os.environ:  # no torchrun: a meeting of one, which needs no port
        alone = dist.HashStore()  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=alone, rank=0, world_size=1)
        return 0, 1
    try:
        dist.init_process_group(backend)
    except (dist.DistNetworkError, dist.DistStoreError) as error:
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise CheckpointError(f"The processes could not meet at {where}: {str(error).splitlines()[0]}",
                              "a port that nothing else uses", "Give torchrun --standalone, or another --master-port",
                              kind="port") from error  # fmt: skip
    return dist.get_rank(), dist.get_world_size()


def _part() -> None:
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def _wrap(model: nn.Module) -> nn.Module:
    if not has_ddp():
        print("No gloo in this torch: using DataParallel instead of DistributedDataParallel. The names are the same.")
        return nn.DataParallel(model)
    # Five tensors never influence the output and get no gradient; DDP has to be told, as in the official script.
    return nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)


def _copied(shared: Path, target: Path) -> Path:
    """The fine-tune that a teacher made beforehand, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        shutil.copyfile(shared, part)
    except OSError as error:
        raise CheckpointError(
            f"DAV2_TRAINED names {shared}, which cannot be read ({error.strerror})",
            "the latest.pth that lesson 01 makes",
            "Check the path, or unset DAV2_TRAINED to train here",
        ) from error
    part.replace(target)
    print(f"Trained beforehand: copied from {shared} (DAV2_TRAINED).")
    return target


def make_checkpoint(
    folder: str | os.PathLike[str], domain: str = "streets", epochs: int = 2, steps: int = 64, processes: int = 2
) -> Path:
    """`latest.pth` in `folder`, as training on several processes leaves it; trained once, if it isn't there.

    Runs torchrun beside this process and shows its progress; where torchrun does not work (no gloo, or Windows), trains
    in this one and says so. With the defaults, the variable `DAV2_TRAINED` may name a `latest.pth` to copy, so that
    nobody in a class waits. Raises `CheckpointError` with the last lines of the training if it fails.
    """
    target = Path(folder) / "latest.pth"
    if target.is_file():
        return target
    shared = os.environ.get("DAV2_TRAINED")
    if shared and (domain, epochs, steps, processes) == make_checkpoint.__defaults__:
        return _copied(Path(shared), target)
    if not has_torchrun():
        print("torchrun does not work here: using one process instead. The names come out the same.")
        return train(Plan(Path(folder), domain, epochs, steps * processes))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}",
               "-m", "dav2_utils.finetune", "--output", str(folder), "--domain", domain,
               "--epochs", str(epochs), "--steps", str(steps)]  # fmt: skip
    status, lines = _followed(command)
    print()
    if status or not target.is_file():
        words = "\n".join((f"The training ended with status {status}, and this output:", *lines))
        raise CheckpointError(words, do=f"Run it yourself to see more: {' '.join(command[1:])}", kind="training")
    return target


def _followed(command: list[str]) -> tuple[int, list[str]]:
    """Runs `command` and shows its progress bars as they grow. Gives its status and its last lines."""
    lines: list[str] = []
    over = False
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace") as training:  # fmt: skip
        try:
            for line in training.stdout or ():  # a progress bar's carriage returns count as line ends here
                over = over or "failed (exitcode" in line  # from here on torchrun speaks of itself
                if "%|" in line:
                    print("\r" + line.rstrip(), end="", flush=True)
                elif line.strip() and not over:
                    lines = [*lines[-20:], line.rstrip()]
        except BaseException:  # Ctrl-C, or an interrupted kernel: torchrun ends its processes when it is asked to end
            training.terminate()
            raise
    return training.returncode, lines
