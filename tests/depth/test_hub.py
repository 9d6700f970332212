"""Official weights by the real huggingface_hub client, from a small local server that speaks its protocol."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dav2_utils.depth.hub import OFFICIAL, get_official
from dav2_utils.errors import HubError

CONTENT = bytes(range(256)) * 60_000  # 15 MB; the client writes down 10 MB at a time, and can only resume after that
SHA256 = hashlib.sha256(CONTENT).hexdigest()
GIT = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest()  # what git calls a file of these bytes
VITS = OFFICIAL["vits"]


class Hub(ThreadingHTTPServer):
    """Answers as the Hub does: HEAD says size, sha256 and commit, and where a GET has the bytes."""

    def __init__(self, mode: str = "normal") -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.mode = mode
        self.etag = SHA256
        self.asked: list[str] = []  # method, path and range of every request

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nothing on the screen."""

    def do_HEAD(self) -> None:
        self.server.asked.append(f"HEAD {self.path}")
        if self.server.mode == "404" or self.path != f"/{VITS.repo}/resolve/main/{VITS.file}":
            return self.say(404, {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"})
        # A host of another name, as the real Hub sends large files to its CDN.
        elsewhere = self.server.url.replace("127.0.0.1", "localhost") + "/cdn/file"
        announced = {
            "X-Repo-Commit": "c" * 40,
            "X-Linked-Etag": f'"{self.server.etag}"',
            "X-Linked-Size": str(len(CONTENT)),
        }
        self.say(302, {"Location": elsewhere, "ETag": '"git"', **announced})

    def do_GET(self) -> None:
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.server.asked.append(f"GET {self.path} from {start}")
        body = {"changed": CONTENT[:-1] + b"!", "short": CONTENT[:-100]}.get(self.server.mode, CONTENT)[start:]
        ranges = {"Content-Range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"} if start else {}
        cut = self.server.mode in ("cut once", "cut and gone") and not start
        self.say(206 if start else 200, {**ranges, "Content-Length": str(len(body))})
        self.wfile.write(body[: len(body) * 4 // 5] if cut else body)
        if cut:
            self.close_connection = True
            self.wfile.flush()
            if self.server.mode == "cut and gone":
                self.server.socket.close()

    def say(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()


@contextmanager
def hub(mode: str = "normal") -> Iterator[Hub]:
    server = Hub(mode)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def client(code: str, home: Path, endpoint: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter whose Hub is at `endpoint` and whose cache is in `home`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    kept |= {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "NO_PROXY": "*", "HF_HUB_DISABLE_TELEMETRY": "1"}
    script = (
        f"from dav2_utils.depth.hub import *\ntry:\n    {code}\nexcept HubError as e:\n    print('HubError', e.kind, e)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=kept | environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done


DOWNLOAD = "print(download('vits'))"
TERMINAL = "import sys; sys.stderr.isatty = lambda: True"  # elsewhere no client before 0.28 draws a bar


def refused(done: subprocess.CompletedProcess[str], home: Path) -> str:
    """The one clear message: what happened, the page, the place; nothing left that looks like the file."""
    words = done.stdout.strip()
    assert words.startswith("HubError hub depth_anything_v2_vits.pth could not be downloaded")
    assert VITS.page in words
    assert str(home / "dav2_utils" / VITS.file) in words
    assert "Traceback" not in done.stderr
    whole = [path for path in home.rglob("*") if path.is_file() and path.suffix != ".incomplete"]
    assert not [path for path in whole if path.stat().st_size > 100_000]
    return words


def test_the_names_are_the_published_ones() -> None:
    assert len(OFFICIAL) == 9
    assert OFFICIAL["vits"].page == (
        "https://huggingface.co/depth-anything/Depth-Anything-V2-Small/blob/main/depth_anything_v2_vits.pth"
    )
    assert OFFICIAL["vitl"].licence == OFFICIAL["vitb-metric-indoor"].licence == "CC-BY-NC-4.0"
    assert OFFICIAL["vits"].licence == OFFICIAL["vits-metric-outdoor"].licence == "Apache-2.0"
    indoor, outdoor = OFFICIAL["vitb-metric-indoor"], OFFICIAL["vitl-metric-outdoor"]
    assert indoor[:3] == (
        "vitb", "depth-anything/Depth-Anything-V2-Metric-Hypersim-Base", "depth_anything_v2_metric_hypersim_vitb.pth"
    )  # fmt: skip
    assert outdoor[:3] == (
        "vitl", "depth-anything/Depth-Anything-V2-Metric-VKITTI-Large", "depth_anything_v2_metric_vkitti_vitl.pth"
    )  # fmt: skip
    assert (OFFICIAL["vits"].max_depth, indoor.max_depth, outdoor.max_depth) == (None, 20.0, 80.0)


def test_an_unknown_name_is_told_the_known_ones() -> None:
    with pytest.raises(HubError, match=r"'vitg'.*vits, vits-metric-indoor") as caught:
        get_official("vitg")
    assert caught.value.kind == "unknown_name"


def test_a_download_says_the_licence_and_the_second_asks_nobody(tmp_path: Path) -> None:
    with hub() as server:
        first = client(f"{TERMINAL}; {DOWNLOAD}", tmp_path, server.url)
        path = Path(first.stdout.strip())
        assert path.read_bytes() == CONTENT
        assert path.name == VITS.file
        assert tmp_path / "hub" in path.parents
        assert "licence Apache-2.0" in first.stderr
        assert "15 MB" in first.stderr
        assert "100%" in first.stderr, "no progress bar"
        requests = len(server.asked)
        second = client(DOWNLOAD, tmp_path, server.url)
        assert second.stdout == first.stdout
        assert second.stderr == ""
        assert len(server.asked) == requests
    offline = client("print(download('vits'), find_cached('vitb'))", tmp_path, server.url, HF_HUB_OFFLINE="1")
    assert offline.stdout == f"{path} None\n"


def test_a_download_cut_off_in_the_middle_goes_on(tmp_path: Path) -> None:
    with hub("cut once") as server:
        done = client(DOWNLOAD, tmp_path, server.url)
        assert Path(done.stdout.strip()).read_bytes() == CONTENT
        starts = [int(request.split()[-1]) for request in server.asked if request.startswith("GET")]
    assert starts[0] == 0
    assert starts[1] >= 10_000_000, "it began again instead of resuming"


def test_a_server_that_goes_away_in_the_middle(tmp_path: Path) -> None:
    with hub("cut and gone") as server:
        refused(client(DOWNLOAD, tmp_path, server.url), tmp_path)


def test_wrong_bytes_of_the_right_size_are_deleted(tmp_path: Path) -> None:
    with hub("changed") as server:
        words = refused(client(DOWNLOAD, tmp_path, server.url), tmp_path)
        assert f"the Hub announced {SHA256}" in words
        server.mode = "normal"
        again = client(DOWNLOAD, tmp_path, server.url)
        assert Path(again.stdout.strip()).read_bytes() == CONTENT


def test_what_git_calls_it_is_a_checksum_too(tmp_path: Path) -> None:
    with hub("changed") as server:
        server.etag = GIT
        assert f"the Hub announced {GIT}" in refused(client(DOWNLOAD, tmp_path, server.url), tmp_path)
        server.mode = "normal"
        assert Path(client(DOWNLOAD, tmp_path, server.url).stdout.strip()).read_bytes() == CONTENT


@pytest.mark.parametrize("etag", ["5f3c-18d2", "W/abc", SHA256[:-1]])
def test_without_a_checksum_nothing_is_fetched(etag: str, tmp_path: Path) -> None:
    with hub() as server:
        server.etag = etag
        words = refused(client(DOWNLOAD, tmp_path, server.url), tmp_path)
        assert "no checksum is announced" in words and etag[-9:] in words
        assert not [request for request in server.asked if request.startswith("GET")]


def test_a_file_of_the_wrong_size(tmp_path: Path) -> None:
    with hub("short") as server:
        assert str(len(CONTENT)) in refused(client(DOWNLOAD, tmp_path, server.url), tmp_path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with hub("404") as server:
        assert "404" in refused(client(DOWNLOAD, tmp_path, server.url), tmp_path)


def test_no_server_and_no_network_asked_for(tmp_path: Path) -> None:
    with hub() as server:
        gone = server.url
    refused(client(DOWNLOAD, tmp_path, gone), tmp_path)
    assert "HF_HUB_OFFLINE" in refused(client(DOWNLOAD, tmp_path, gone, HF_HUB_OFFLINE="1"), tmp_path)


def test_a_file_fetched_by_hand_is_found(tmp_path: Path) -> None:
    place = tmp_path / "dav2_utils" / VITS.file
    place.parent.mkdir()
    place.write_bytes(b"weights")
    done = client("print(find_cached('vits'), download('vits'), sep='|')", tmp_path, "http://127.0.0.1:9")
    assert done.stdout.strip() == f"{place}|{place}"


def test_names_are_known_without_the_client() -> None:
    script = "import sys, dav2_utils.depth.hub; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "huggingface_hub"} & set(loaded)
