"""A class on one machine: JupyterHub with its proxy, and learners who all run lessons 01 to 04 at the same time.

    python benchmarks/bench_hub.py [--learners 10] [--lessons 01 02 03 04] [--train]

The learners do what a browser does: the hub's API starts a server for each, and the kernels are spoken to over its
websockets. Everything listens on 127.0.0.1 alone. JupyterHub (PyPI) and configurable-http-proxy (npm) are put into
build/hub at the first run; nothing else here needs them, and `make bench` leaves this out, as it takes many minutes.
A learner closes a lesson's kernel before the next, as learners are told to. Without --train the class shares one
fine-tune (DAV2_TRAINED), which is made beforehand. Memory is PSS: what processes share is counted once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from side_by_side import ROOT, Row, parser, report

sys.path.insert(0, str(ROOT / "tools"))
HUB = ROOT / "build" / "hub"
NO_MORE = 3600  # seconds for one cell; so that it ends by itself
CONFIG = """
c.JupyterHub.bind_url = "http://127.0.0.1:{ports[0]}"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{ports[1]}"
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{ports[2]}"
c.ConfigurableHTTPProxy.command = ["{hub}/node_modules/.bin/configurable-http-proxy"]
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = "{folder}/{{username}}"
c.Spawner.cmd = ["{hub}/venv/bin/jupyterhub-singleuser"]
c.Spawner.args = ["--allow-root"]
c.Spawner.start_timeout = c.Spawner.http_timeout = 600
c.Spawner.environment = {environment!r} | {{"DAV2_LEARNER": lambda spawner: "{folder}/" + spawner.user.name}}
c.JupyterHub.services = [{{"name": "class", "api_token": "{token}"}}]
c.JupyterHub.load_roles = [
    {{"name": "class", "scopes": ["admin:users", "admin:servers", "access:servers"], "services": ["class"]}}]
"""


def prepare() -> None:
    """JupyterHub, its proxy, and the kernel of this environment, in build/hub; once."""
    if not (HUB / "venv/bin/jupyterhub").exists():
        subprocess.run([sys.executable, "-m", "venv", HUB / "venv"], check=True)
        subprocess.run([HUB / "venv/bin/pip", "install", "-q", "jupyterhub", "jupyterlab"], check=True)
    if not (HUB / "node_modules/.bin/configurable-http-proxy").exists():
        subprocess.run(["npm", "install", "--silent", "configurable-http-proxy"], cwd=HUB, check=True)
    kernel = HUB / "share/jupyter/kernels/lessons/kernel.json"
    kernel.parent.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel.write_text(json.dumps({"argv": argv, "display_name": "lessons", "language": "python"}), encoding="utf-8")


@contextlib.contextmanager
def hub(folder: Path, environment: dict[str, str]) -> Iterator[tuple[str, str]]:
    """A running hub: its address and a token that may do what a class may. Ends what it started."""
    with contextlib.ExitStack() as open_:
        sockets = [open_.enter_context(socket.socket()) for _ in range(3)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in sockets]
    token = secrets.token_hex(16)
    config = CONFIG.format(ports=ports, hub=HUB, folder=folder, environment=environment, token=token)
    (folder / "config.py").write_text(config, encoding="utf-8")
    with (folder / "hub.log").open("w", encoding="utf-8") as log:
        command = [HUB / "venv/bin/jupyterhub", "-f", folder / "config.py"]
        running = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=os.environ | environment)
    try:
        yield f"http://127.0.0.1:{ports[0]}", token
    finally:
        running.send_signal(signal.SIGTERM)  # it ends its servers and its proxy
        running.wait(120)


class Learner:
    """One person in the class: a server of the hub's, and the lessons one after the other."""

    def __init__(self, name: str, address: str, token: str) -> None:
        self.name, self.address, self.headers = name, address, {"Authorization": f"token {token}"}
        self.seconds: dict[str, float] = {}
        self.failed = ""

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        from tornado.httpclient import AsyncHTTPClient

        words = None if method in ("GET", "DELETE") else json.dumps(body or {})
        answer = await AsyncHTTPClient().fetch(self.address + path, method=method, headers=self.headers, body=words,
                                               request_timeout=600)  # fmt: skip
        return json.loads(answer.body) if answer.body else None

    async def take(self, lessons: dict[str, list[tuple[str, str, bool]]]) -> None:
        """Everything, from the first click; what went wrong is in `failed`."""
        started = time.monotonic()
        try:
            await self.ask("POST", f"/hub/api/users/{self.name}")
            await self.ask("POST", f"/hub/api/users/{self.name}/server")
            while not (await self.ask("GET", f"/hub/api/users/{self.name}"))["servers"].get("", {}).get("ready"):
                await asyncio.sleep(0.5)
            self.seconds["server"] = time.monotonic() - started
            for lesson, cells in lessons.items():
                started = time.monotonic()
                await self.run(lesson, cells)
                self.seconds[lesson] = time.monotonic() - started
        except Exception as error:  # whatever stops a learner is the finding
            self.failed = f"{type(error).__name__}: {error}"

    async def run(self, lesson: str, cells: list[tuple[str, str, bool]]) -> None:
        """The cells (id, source, an error is meant) in a kernel of their own."""
        from tornado.httpclient import HTTPRequest
        from tornado.websocket import websocket_connect

        kernels = f"/user/{self.name}/api/kernels"
        kernel = (await self.ask("POST", kernels, {"name": "lessons"}))["id"]
        line = f"{self.address.replace('http', 'ws', 1)}{kernels}/{kernel}/channels"
        socket_ = await websocket_connect(HTTPRequest(line, headers=self.headers, request_timeout=600),
                                          max_message_size=2**26)  # fmt: skip
        for ident, source, meant in cells:
            header = {"msg_id": f"{lesson}-{ident}", "msg_type": "execute_request", "session": self.name,
                      "username": self.name, "version": "5.3"}  # fmt: skip
            content = {"code": source, "silent": False, "store_history": True, "user_expressions": {},
                       "allow_stdin": False, "stop_on_error": False}  # fmt: skip
            asked = {"channel": "shell", "header": header, "parent_header": {}, "metadata": {}, "content": content}
            await socket_.write_message(json.dumps(asked))
            reply = await asyncio.wait_for(self.reply(socket_, header["msg_id"]), NO_MORE)
            if (reply["status"] == "error") != meant:
                words = f"{reply.get('ename')}: {str(reply.get('evalue'))[:200]}"
                raise RuntimeError(f"lesson {lesson}, cell {ident}: {reply['status']} {words}")
        socket_.close()
        await self.ask("DELETE", f"{kernels}/{kernel}")

    @staticmethod
    async def reply(socket_: Any, ident: str) -> Any:
        while (said := await socket_.read_message()) is not None:
            message = json.loads(said)
            if message["msg_type"] == "execute_reply" and message["parent_header"].get("msg_id") == ident:
                return message["content"]
        raise ConnectionError("the kernel's line was closed")


class Scales:
    """Memory and processor time of each learner's processes, which carry the learner's name in their environment."""

    def __init__(self, folder: Path) -> None:
        self.mark = f"DAV2_LEARNER={folder}/".encode()
        self.peak: dict[str, float] = defaultdict(float)  # GB, of each learner
        self.whole = 0.0  # GB, of all of them together
        self.time: dict[tuple[str, int], float] = {}  # seconds, of each learner's process

    def weigh(self) -> None:
        now: dict[str, float] = defaultdict(float)
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                environment = (process / "environ").read_bytes().split(b"\0")
                name = next((e[len(self.mark) :].decode() for e in environment if e.startswith(self.mark)), "")
                if name:
                    pss = (process / "smaps_rollup").read_text().split("Pss:", 1)[1].split()[0]
                    now[name] += int(pss) / 1e6
                    ticks = (process / "stat").read_text().rpartition(")")[2].split()[11:13]
                    self.time[name, int(process.name)] = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
        for name, size in now.items():
            self.peak[name] = max(self.peak[name], size)
        self.whole = max(self.whole, sum(now.values()))

    def seconds(self) -> float:
        """Processor time of the average learner."""
        return sum(self.time.values()) / max(1, len({name for name, _ in self.time}))


async def class_(learners: list[Learner], lessons: dict[str, list[tuple[str, str, bool]]], scales: Scales) -> float:
    """Everybody at once. Gives the seconds until the last one is through."""
    first, started = learners[0], time.monotonic()
    while time.monotonic() < started + 120:
        with contextlib.suppress(Exception):  # the hub is not there yet
            await first.ask("GET", "/hub/api/")
            break
        await asyncio.sleep(0.5)
    started = time.monotonic()
    everybody = asyncio.gather(*(learner.take(lessons) for learner in learners))
    while not everybody.done():
        await asyncio.to_thread(scales.weigh)
        await asyncio.wait([everybody], timeout=4)
    return time.monotonic() - started


def cells_of(names: list[str]) -> dict[str, list[tuple[str, str, bool]]]:
    from lesson_runs import read
    from lessons import lessons

    return {
        path.stem[:2]: [(cell.id, cell.source, "raises-exception" in cell.metadata.get("tags", []))
                        for cell in read(path).cells if cell.cell_type == "code"]
        for path in lessons(names)
    }  # fmt: skip


def rows(learners: list[Learner], wall: float, scales: Scales, how: str) -> list[Row]:
    failed = [learner for learner in learners if learner.failed]
    times = [sum(learner.seconds.values()) for learner in learners]
    load = f"load average {os.getloadavg()[1]:.0f} on {os.cpu_count()} cores"
    return [
        Row("learners who did not get through", "at most", 0, "", len(failed), f"of {len(learners)}; {how}"),
        Row("the class, from the first click to the last cell", "at most", None, "s", wall, load),
        Row("the slowest learner", "at most", None, "s", max(times), f"the quickest: {min(times):.0f} s"),
        Row("processor time of a learner", "at most", None, "s", scales.seconds(), how),
        Row("memory of a learner at the peak (PSS)", "at most", None, "GB", max(scales.peak.values(), default=0), how),
        Row("memory of the class at its peak (PSS)", "at most", None, "GB", scales.whole, how),
    ]


def main() -> None:
    from lesson_runs import trained

    from dav2_utils.classroom.copies import copy_lessons

    options = parser(__doc__)
    options.add_argument("--learners", type=int, default=10, choices=range(1, 41), metavar="N")
    options.add_argument("--lessons", nargs="+", default=["01", "02", "03", "04"], metavar="NAME")
    options.add_argument("--train", action="store_true", help="everybody trains, in place of one shared file")
    o = options.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was started is ended then, too
    prepare()
    environment = {"JUPYTER_PATH": str(HUB / "share/jupyter"), "HF_HUB_OFFLINE": "1"}
    environment |= {} if o.train else {"DAV2_TRAINED": str(trained())}
    with tempfile.TemporaryDirectory(prefix="dav2_hub_") as place:
        folder = Path(place)
        names = [f"learner{number}" for number in range(o.learners)]
        for name in names:
            copy_lessons(folder / name)
        scales = Scales(folder)
        with hub(folder, environment) as (address, token):
            learners = [Learner(name, address, token) for name in names]
            wall = asyncio.run(class_(learners, cells_of(o.lessons), scales))
        for learner in learners:
            times = "  ".join(f"{what} {seconds:.0f} s" for what, seconds in learner.seconds.items())
            print(f"{learner.name}  {times}  {scales.peak[learner.name]:.2f} GB  {learner.failed}")
        if any(learner.failed for learner in learners):
            print((folder / "hub.log").read_text(encoding="utf-8", errors="replace")[-3000:])
    report(rows(learners, wall, scales, "everybody trains" if o.train else "one shared fine-tune"), o.rows)


if __name__ == "__main__":
    main()
