"""The teacher's kit as pages: slides with speaker notes, a sheet to print, an answer sheet. One file each.

Slides are written in docs/teaching/slides.md: `---` between two slides, and what follows `Notes:` is for the speaker
alone (the key S opens it). The answers come from the lessons themselves.
"""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

from lesson_pages import page
from lesson_rules import ROOT, headings
from lesson_runs import SOLUTION, exercises

TEACHING = ROOT / "docs" / "teaching"
REVEAL = Path(__file__).parent / "reveal"
# Not <picture>: on a dark screen, Chromium prints the dark one.
PICTURES = """
img.dark{display:none!important}
@media screen and (prefers-color-scheme:dark){img.dark{display:block!important}img.light{display:none!important}}
"""
STYLE = """
:root{--paper:#fff;--ink:#1b2430;--soft:#5c6773;--code:#f2f4f7;--link:#0b57a4}
@media screen and (prefers-color-scheme:dark){
:root{--paper:#0d1117;--ink:#e8edf2;--soft:#98a3af;--code:#1c2530;--link:#93c7ff}}
.reveal-viewport{background:var(--paper);color:var(--ink)}
.reveal{font:30px/1.35 system-ui,sans-serif;color:var(--ink)}
.reveal .slides section{text-align:left}
.reveal h1{font-size:1.7em;margin:.2em 0}
.reveal h2{font-size:1.35em;margin:.1em 0 .5em}
.reveal img{width:100%;max-height:500px;object-fit:contain;display:block;margin:.4em auto}
.reveal code{font-family:monospace;background:var(--code);padding:0 .15em}
.reveal pre{background:var(--code);padding:.5em .8em;font-size:.66em;white-space:pre-wrap}
.reveal a{color:var(--link)}
.reveal .controls,.reveal .progress{color:var(--ink)}
.reveal aside.notes{display:none}
.reveal table{border-collapse:collapse;font-size:.8em}
.reveal td,.reveal th{border-bottom:1px solid var(--soft);padding:.25em .7em}
"""
SHEET = """
@page{size:A4;margin:12mm}
body{font-size:13.5px;line-height:1.4;max-width:186mm;margin:0 auto}
h1{font-size:20px;margin:.2em 0}
h2{font-size:15px;margin:.6em 0 .2em}
pre{font-size:11.5px;margin:.2em 0;overflow:visible;white-space:pre-wrap}
table{font-size:12px;margin:.2em 0}
td,th{padding:.1em .5em}
img{max-height:42mm;margin:.2em 0}
p{margin:.3em 0}
ul{margin:.2em 0}
"""


def html(text: str, folder: Path = TEACHING) -> str:
    """Markdown as HTML, its pictures inside; if a picture has a dark version, dark screens show that."""
    from nbconvert.filters.markdown_mistune import markdown2html_mistune

    def inside(found: re.Match[str]) -> str:
        path = folder / found[1]
        dark = path.with_name(f"{path.stem}_dark.png")
        if not dark.is_file():
            return f'<img src="{_data(path)}"{found[2]}>'
        both = ((path, "light"), (dark, "dark"))
        return "".join(f'<img src="{_data(file)}" class="{screen}"{found[2]}>' for file, screen in both)

    body = re.sub(r'<img src="([^":]+)"([^>]*)>', inside, markdown2html_mistune(text))
    return body.replace("&#182;", "")


def _data(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def slides(text: str) -> str:
    """The slides as one page, reveal.js in it."""
    parts = [part.partition("\nNotes:") for part in re.split(r"^---$", text, flags=re.M)]
    shown = "\n".join(
        f'<section>{html(slide)}<aside class="notes">{html(notes)}</aside></section>' for slide, _, notes in parts
    )
    names = ("reveal.css", "reveal.js", "notes.js")
    style, script, notes = ((REVEAL / name).read_text(encoding="utf-8") for name in names)
    start = "Reveal.initialize({hash:true,width:1280,height:720,margin:.05,center:false,plugins:[RevealNotes]})"
    title = re.search(r"^# (.*)$", text, re.M)[1]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{style}{STYLE}{PICTURES}</style></head><body>"
        f'<div class="reveal"><div class="slides">{shown}</div></div>'
        f"<script>{script}</script><script>{notes}</script><script>{start}</script></body></html>\n"
    )


def answers(lessons: list[tuple[Path, Any]]) -> str:
    """Every exercise with its solution, from the lessons."""
    parts = ["# Answer sheet", "Every exercise and one right answer. Others may be right too: `check` says which."]
    for _, nb in lessons:
        found = exercises(nb)
        parts += [f"## {headings(nb)[0][1]}"] * bool(found)
        for card, _, folded in found:
            question = re.sub(r"^#+ ", "### ", card.source, flags=re.M).partition("Difficulty:")
            solution = SOLUTION.search(folded.source)
            after = folded.source[solution.end() :].replace("</details>", "").strip()
            parts += [question[0], "Difficulty:" + question[2], f"```python\n{solution[1].strip()}\n```", after]
    return "\n\n".join(filter(None, parts))


def write(site: Path, lessons: list[tuple[Path, Any]]) -> dict[str, str]:
    """The kit's pages into `site`: each one's file name, and what it is."""
    (site / "slides.html").write_text(slides((TEACHING / "slides.md").read_text(encoding="utf-8")), encoding="utf-8")
    sheet = html((TEACHING / "sheet.md").read_text(encoding="utf-8"))
    (site / "sheet.html").write_text(page("The sheet", sheet, more=SHEET + PICTURES), encoding="utf-8")
    (site / "answers.html").write_text(page("Answer sheet", html(answers(lessons))), encoding="utf-8")
    return {"slides.html": "Slides (S opens the speaker's notes)", "sheet.html": "A sheet to print, one page",
            "answers.html": "Answer sheet"}  # fmt: skip
