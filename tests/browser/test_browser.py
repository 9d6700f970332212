"""Lessons in a real browser: opened in JupyterLab, run by its menu, every widget moved, one by keyboard alone."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lesson_runs
import nbformat
import pytest

from dav2_utils.classroom.copies import copy_lessons

ROOT = Path(__file__).resolve().parents[2]
SCREENS = ROOT / "build" / "screens"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM and not os.environ.get("CI"), reason="chromium is not installed"),
]


# One page and one kernel for all of them: this lesson, and at its end what is looked at of the others, which run whole
# in tests/lessons.
NAME = "03_strip_the_prefix"
WIDGETS = ["key_explorer(latest, model)", "error_reader()"]  # of lessons 02 and 06, of which they need nothing else
CELLS = {
    "01_reproduce_the_error": ["model", "wrap", "save", "fresh", "first-face", "first-ends",
                               "second-face", "second-ends"],
    "04_see_the_depth": ["scene", "models", "careless", "viewer"],
}  # fmt: skip


def with_more(folder: Path) -> None:
    book = lesson_runs.read(folder / f"{NAME}.ipynb")
    book.cells += [nbformat.v4.new_code_cell(f"import dav2_utils\ndav2_utils.{call}") for call in WIDGETS]
    for name, wanted in CELLS.items():
        book.cells += [cell for cell in lesson_runs.read(folder / f"{name}.ipynb").cells if cell.id in wanted]
    lesson_runs.write(book, folder / f"{NAME}.ipynb")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a JupyterLab as `make lab` starts it, over copies of the lessons, with settings of its own."""
    home = tmp_path_factory.mktemp("lab")
    copy_lessons(home / "my_lessons")
    with_more(home / "my_lessons")
    lesson_runs.with_trained(home / "my_lessons" / "runs")
    settings = home / "settings" / "@jupyterlab"
    (settings / "notebook-extension").mkdir(parents=True)
    (settings / "apputils-extension").mkdir()
    whole_page = {"windowingMode": "none"}  # cells outside the window are in the page, too
    (settings / "notebook-extension" / "tracker.jupyterlab-settings").write_text(json.dumps(whole_page))
    quiet = {"fetchNews": "false", "checkForUpdates": False}
    (settings / "apputils-extension" / "notification.jupyterlab-settings").write_text(json.dumps(quiet))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    places = {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "work", "JUPYTER_RUNTIME_DIR": "run"}
    environment = os.environ | {name: str(home / folder) for name, folder in places.items()} | {"SHELL": "/bin/sh"}
    environment.pop("DAV2_LESSONS", None)
    more = f"--allow-root --no-browser --port={port} --IdentityProvider.token=lessons --ServerApp.root_dir={home}"
    said = subprocess.run(["make", "-n", "lab", f"ARGS={more}"], cwd=ROOT, capture_output=True, text=True, check=True)
    start = next(line for line in said.stdout.splitlines() if "jupyter lab" in line)
    command = ["sh", "-c", "exec env " + start.replace("$PWD/.venv/bin", shlex.quote(str(Path(sys.executable).parent)))]
    with (home / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=home)
    try:
        yield _answering(f"http://127.0.0.1:{port}", server, home / "log")
    finally:
        server.terminate()
        server.wait(20)


def _answering(address: str, server: subprocess.Popen[bytes], log: Path) -> str:
    for _ in range(240):
        if server.poll() is not None:
            break
        try:
            urllib.request.urlopen(f"{address}/api?token=lessons", timeout=5).close()
            return address
        except OSError:
            time.sleep(0.25)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    assert CHROMIUM, "chromium must be there in CI"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


CUT = "element => element.scrollWidth > element.clientWidth + 1"


class Lesson:
    """The lesson, opened and run to its end; the page's uncaught errors are kept."""

    def __init__(self, browser: Any, lab: str) -> None:
        from playwright.sync_api import TimeoutError

        self.errors: list[str] = []
        self.page = browser.new_page()
        self.page.set_default_timeout(60_000)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(f"{lab}/lab/tree/my_lessons/{NAME}.ipynb?token=lessons&reset")
        self.page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
        self.page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
        # The notebook may hear of its kernel a moment after the page says so; a run before that is lost. Copies are
        # cleared, so any output is the sign that this kernel is at work.
        box = self.page.locator(".jp-Notebook .jp-OutputArea-output").first
        for _ in range(4):
            self.page.get_by_role("menuitem", name="Run", exact=True).click()
            self.page.get_by_text("Run All Cells", exact=True).click()
            try:
                box.wait_for(timeout=30_000)
                break
            except TimeoutError:
                self.page.keyboard.press("Escape")
        box.wait_for()
        # Twice a second, and of the text alone: asking for the layout at every frame costs a whole core.
        self.page.wait_for_function(
            "![...document.querySelectorAll('.jp-InputPrompt')].some(prompt => prompt.textContent.includes('*'))",
            timeout=240_000, polling=500,
        )  # fmt: skip

    def resize(self, width: int, height: int) -> None:
        self.page.set_viewport_size({"width": width, "height": height})

    def widget(self, call: str) -> Any:
        """What the cell shows that calls `call`."""
        cell = self.page.locator(".jp-CodeCell").filter(has_text=f"{call}(").last
        box = cell.locator(".jp-OutputArea-output .widget-vbox").last
        box.scroll_into_view_if_needed()
        return box

    def close(self) -> None:
        """Keep what was seen, and check that nothing went wrong on the page."""
        SCREENS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENS / f"{NAME}.png")
        text = self.page.locator(".jp-Notebook").inner_text()
        assert not re.search(r"Error displaying widget|Loading widget|Error creating widget|VBox\(children", text)
        assert self.errors == []
        self.page.close()


@pytest.fixture(scope="module")
def lesson(browser: Any, lab: str) -> Iterator[Lesson]:
    opened = Lesson(browser, lab)
    yield opened
    opened.close()


VISIBLE = """([output, words]) => {
    const walker = document.createTreeWalker(output, NodeFilter.SHOW_TEXT), range = document.createRange();
    const text = output.textContent, at = text.indexOf(words);
    if (at < 0) return 'not there';
    const find = offset => {
        const w = document.createTreeWalker(output, NodeFilter.SHOW_TEXT);
        for (let left = offset, node = w.nextNode(); node; left -= node.length, node = w.nextNode())
            if (left <= node.length) return [node, left];
    };
    range.setStart(...find(at)); range.setEnd(...find(at + words.length));
    for (const box of range.getClientRects()) {
        const seen = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
        if (!seen || !output.contains(seen)) return 'covered, or outside the window, at ' + box.top;
    }
    return 'visible';
}"""


def test_the_famous_error_is_seen_without_scrolling(lesson: Lesson) -> None:
    lesson.resize(1280, 720)
    cells = lesson.page.locator(".jp-CodeCell")
    for source, end in (
        ("fresh.load_state_dict(checkpoint)", '"model", "optimizer", "epoch", "previous_best"'),
        ('fresh.load_state_dict(checkpoint["model"])', '"module.depth_head.scratch.output_conv2.2.bias"'),
    ):
        number = next(n for n in range(cells.count()) if cells.nth(n).locator(".cm-content").inner_text() == source)
        cells.nth(number).evaluate("cell => cell.scrollIntoView()")
        for cell, words in (
            (number, "RuntimeError: Error(s) in loading"),
            (number, "Missing key(s)"),
            (number + 1, end),
        ):
            output = cells.nth(cell).locator(".jp-OutputArea-output").first.element_handle()
            assert lesson.page.evaluate(VISIBLE, [output, words]) == "visible", words
        assert "module.py" not in cells.nth(number).inner_text(), "torch's own code is left out"


def test_the_labs_terminal_knows_the_programs(lab: str) -> None:
    import websocket  # what jupyter_server itself depends on

    request = urllib.request.Request(f"{lab}/api/terminals?token=lessons", method="POST")
    name = json.load(urllib.request.urlopen(request, timeout=20))["name"]
    link = f"{lab}/terminals/websocket/{name}?token=lessons".replace("http", "ws", 1)
    terminal = websocket.create_connection(link, timeout=20)
    terminal.send(json.dumps(["stdin", "command -v dav2; command -v torchrun; echo do''ne\r"]))
    said = ""
    while "done" not in said:
        kind, *words = json.loads(terminal.recv())
        said += "".join(words) if kind == "stdout" else ""
    terminal.close()
    for program in ("dav2", "torchrun"):
        assert str(Path(sys.executable).parent / program) in said


def explore(lesson: Lesson) -> None:
    box = lesson.widget("key_explorer")
    table = box.locator("table").last
    assert "{0..7}" in table.inner_text()
    assert not box.evaluate(CUT), "the table is wider than its place"
    box.get_by_role("textbox").fill("blocks.3 qkv")
    box.get_by_text("Fold numbered names").click()
    lesson.page.wait_for_function(
        "[...document.querySelectorAll('.widget-vbox caption')].some(c => c.innerText.includes('2 of'))"
    )
    assert "blocks.3.attn.qkv.bias" in box.locator("table").last.inner_text()


def read_errors(lesson: Lesson) -> None:
    box = lesson.widget("error_reader")
    field = box.get_by_role("textbox")
    field.fill("")
    box.get_by_text("Paste an error into the field").wait_for()
    field.fill("PytorchStreamReader failed reading zip archive: failed finding central directory")
    box.get_by_text("truncated_file").first.wait_for()


def test_key_explorer_error_reader_and_by_keyboard_alone_the_playground(lesson: Lesson) -> None:
    lesson.resize(1024, 768)
    explore(lesson)
    read_errors(lesson)
    box = lesson.widget("strip_playground")
    assert "does not load" in box.inner_text()
    box.get_by_role("checkbox").first.focus()
    lesson.page.keyboard.press("Space")
    box.get_by_text("module.pretrained.cls_token").first.wait_for()
    lesson.page.keyboard.press("Tab")
    lesson.page.keyboard.press("Space")
    box.get_by_text("It loads.").wait_for()
    lesson.page.keyboard.press("Tab")
    lesson.page.keyboard.press("Space")  # in the other order
    box.get_by_text("It does not load.").wait_for()
    lesson.page.keyboard.press("Space")
    box.get_by_text("It loads.").wait_for()
    lesson.page.keyboard.press("Tab")
    lesson.page.keyboard.press("Enter")
    box.get_by_text("All keys matched successfully").wait_for()


def test_depth_viewer(lesson: Lesson) -> None:
    lesson.resize(1024, 576)  # 1280 by 720 at 125 % zoom
    box = lesson.widget("depth_viewer")
    for shown in lesson.page.locator(".jp-OutputArea-output img").all():
        assert (shown.get_attribute("alt") or "").count(" ") > 3, "a picture without alt text"
    assert not box.locator("button.widget-upload").evaluate(CUT), "the button's label is cut off"
    picture = box.locator("img")
    before, point = picture.get_attribute("src"), box.get_by_text("At column").inner_text()
    box.get_by_role("button", name="magma").focus()
    lesson.page.keyboard.press("Space")
    lesson.page.wait_for_function(
        "before => [...document.querySelectorAll('.widget-vbox img')].at(-1).src !== before", arg=before
    )
    changed = "p => ![...document.querySelectorAll('.widget-vbox p')].some(e => e.innerText === p)"
    slider = box.get_by_role("slider").last
    slider.focus()
    lesson.page.keyboard.press("ArrowUp")
    lesson.page.wait_for_function(changed, arg=point)
    lesson.page.keyboard.press("Control+b")  # hide the list of files, as the teaching page says
    box.evaluate("box => box.scrollIntoView({block: 'start'})")
    lesson.page.wait_for_function("innerWidth - document.querySelector('.jp-Notebook').clientWidth < 100")
    seen = lesson.page.locator(".jp-WindowedPanel-outer").first.bounding_box()["height"]
    assert box.bounding_box()["height"] <= seen + 24, "all switches and the map on one screen at 125 % zoom"
    point = box.get_by_text("At column").inner_text()
    frame = picture.bounding_box()
    lesson.page.mouse.click(frame["x"] + 0.6 * frame["width"], frame["y"] + 0.5 * frame["height"])
    lesson.page.wait_for_function(changed, arg=point)
