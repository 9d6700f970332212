"""Run by test_repair.py in a process of its own: repairs that are killed, or have no room, or no permission.

It imports once and forks for each case, so that a case costs no import. Prints one JSON object: for each case how the
child ended, and what lies in the folder afterwards.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dav2_utils.repair import by_torch, copying, fixing
from dav2_utils.repair.batch import fix_many
from dav2_utils.repair.fixing import fix_file
from dav2_utils.writing import disk

torch.set_num_threads(1)
BY_TORCH = ["half written", "prove"]  # what cannot be copied as it is
STEPS = [
    "half copied",
    "compare",
    "check_source",
    *BY_TORCH,
    "write_text",
    "half facts",
    "flush",
    "keep_backup",
    "name",
    "named",
    "both named",
]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(step: str) -> None:
    """From now on the process is killed when it comes to `step`."""
    if step in BY_TORCH:
        fixing.plan_copy = lambda *args: None  # type: ignore[assignment]
    if step == "half copied":

        def half(plan: Any, source: Any, target: Any) -> None:
            target.write(b"PK" + bytes(100_000))
            die()

        copying.carry_out = half  # type: ignore[assignment]
    elif step == "half written":

        def half_saved(content: Any, file: Any) -> None:
            file.write(b"PK" + bytes(100_000))
            die()

        torch.save = half_saved  # type: ignore[assignment]
    elif step == "half facts":

        def half_facts(path: Path, facts: Any) -> None:
            path.write_text('{"encoder": ')
            die()

        fixing.write_text = half_facts  # type: ignore[assignment]
    elif step in ("named", "both named"):
        really, left = disk.name, ["first", "second"] if step == "both named" else ["first"]

        def named(*args: Any) -> None:
            really(*args)
            left.pop()
            if not left:
                die()

        disk.name = named
    elif room := next((room for room in (fixing, by_torch, copying) if hasattr(room, step)), None):
        setattr(room, step, lambda *args, **options: die())
    else:
        setattr(disk, step, lambda *args: die())


def in_child(job: Callable[[], Any]) -> dict[str, Any]:
    """How a forked process ended that does `job`: the signal that killed it, or what it returned."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, json.dumps(job()).encode())
        finally:
            os._exit(0)
    os.close(write)
    said = b""
    while part := os.read(read, 65536):
        said += part
    os.close(read)
    status = os.waitpid(child, 0)[1]
    return {"signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, "said": json.loads(said or b"null")}


def killed(source: Path, step: str, in_place: bool) -> dict[str, Any]:
    kill_at(step)
    return fix_file(source, in_place=in_place).to_dict()


def with_limit(source: Path, size: int) -> dict[str, Any]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    return fix_file(source).to_dict()


def as_nobody(source: Path, **options: Any) -> dict[str, Any]:
    fix_file(source, dry_run=True)  # imports first: the user nobody may not read Python's own folder
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    return fix_file(source, **options).to_dict()


def at_once(source: Path) -> list[dict[str, Any]]:
    """Four processes that repair one file in place at the same time."""
    ends = []
    for _ in range(4):
        read, write = os.pipe()
        if os.fork() == 0:
            os.write(write, json.dumps(fix_file(source, in_place=True).to_dict()).encode())
            os._exit(0)
        os.close(write)
        ends.append(read)
    said = [json.loads(os.read(end, 65536)) for end in ends]
    for _ in ends:
        os.wait()
    return said


def main(original: str, where: str) -> None:
    found: dict[str, Any] = {}

    def fresh(name: str) -> Path:
        folder = Path(where) / name.replace(" ", "_")
        folder.mkdir()
        return Path(shutil.copyfile(original, folder / "latest.pth"))

    fix_file(fresh("whole"))  # imports everything: a case runs as the user nobody, who may not read Python's own folder
    for step in STEPS:
        for in_place in (False, True):
            found[f"{step} {in_place}"] = in_child(partial(killed, fresh(f"{step} {in_place}"), step, in_place))
    for size in (0, 5_000, 1_000_000):
        found[f"full {size}"] = in_child(partial(with_limit, fresh(f"full {size}"), size))
    with tempfile.TemporaryDirectory(dir="/tmp") as open_to_all:
        folder = Path(open_to_all) / "locked"
        folder.mkdir()
        shutil.copyfile(original, folder / "latest.pth")
        Path(open_to_all).chmod(0o755)
        (folder / "latest.pth").chmod(0o644)
        folder.chmod(0o555)
        found["locked"] = in_child(lambda: as_nobody(folder / "latest.pth"))
        found["locked"]["files"] = sorted(path.name for path in folder.iterdir())
        folder.chmod(0o777)
        (folder / "latest.pth").chmod(0o444)
        found["read only"] = in_child(lambda: as_nobody(folder / "latest.pth"))
        found["read only"]["mode"] = (folder / "latest.fixed.pth").stat().st_mode & 0o777
    both = Path(where) / "both"
    both.mkdir()
    for number in range(3):
        shutil.copyfile(original, both / f"run{number}.pth")
    other = os.fork()
    repairs = [repair.to_dict() for repair in fix_many([both])]
    if other == 0:
        Path(where, "other.json").write_text(json.dumps(repairs))
        os._exit(0)
    os.waitpid(other, 0)
    found["both"] = [repairs, json.loads(Path(where, "other.json").read_text())]
    found["one target"] = at_once(fresh("one target"))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
