"""Lessons as web pages for reading without a kernel: pictures inside, nothing fetched from elsewhere."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import Any

from lesson_rules import headings, minutes

MAP = "00_start_here.ipynb"
STYLE = """
body{font:17px/1.55 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b;background:#fff}
body{overflow-wrap:break-word}
pre{font-size:14px;line-height:1.4;overflow:auto;max-height:28rem;padding:.6rem .8rem;margin:.4rem 0}
code{font-size:.92em;background:#f2f2f2;padding:0 .2em}pre code{background:none;padding:0}
.jp-CodeCell pre,.highlight pre{background:#f5f7f9;border-left:4px solid #7a8fa6}
.jp-OutputArea pre{background:#fff;border-left:4px solid #d5dbe1;white-space:pre-wrap;overflow-wrap:anywhere}
.error pre,[data-mime-type="application/vnd.jupyter.stderr"] pre{background:#fdf1f0;border-left-color:#b3261e}
.jp-InputPrompt,.jp-OutputPrompt,.anchor-link{display:none}img{max-width:100%;height:auto;background:#fff}
table{border-collapse:collapse;font-size:14px;margin:.6rem 0;display:block;overflow-x:auto}
th,td{border:1px solid #ccd3da;padding:.2rem .6rem;text-align:left;vertical-align:top}
caption{text-align:left;padding:.3rem 0}details{border:1px solid #ccd3da;padding:.4rem .8rem;margin:.4rem 0}
summary{cursor:pointer;font-weight:600}a{color:#0b57a4}nav{border-bottom:1px solid #ccd3da;padding-bottom:.5rem}
@media screen and (prefers-color-scheme:dark){
body,.jp-OutputArea pre{color:#e8edf2;background:#0d1117}code{background:#1c2530}a{color:#93c7ff}
.jp-CodeCell pre,.highlight pre{background:#f5f7f9;color:#1b1b1b}.highlight pre code{color:#1b1b1b}
.error pre,[data-mime-type="application/vnd.jupyter.stderr"] pre{background:#33191a}}
@media print{body{max-width:none;margin:0;font-size:11pt}nav,.jp-Cell[hidden]{display:none}
pre,.highlight pre{overflow:visible;max-height:none;white-space:pre-wrap;overflow-wrap:anywhere;font-size:9pt}
table{display:table;font-size:9pt;overflow:visible}td,th{overflow-wrap:anywhere}
img,pre,tr,details{break-inside:avoid}h1,h2,h3{break-after:avoid}
details:not([open])>summary::after{content:" (folded)"}}
"""


def page(title: str, body: str, nav: str = "", more: str = "") -> str:
    """A page that needs nothing from elsewhere; `more`: style of its own."""
    from pygments.formatters import HtmlFormatter

    style = STYLE + HtmlFormatter(style="default").get_style_defs(".highlight") + more
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{style}</style></head><body>{nav}"
        f"<main>{body}</main>{nav}</body></html>\n"
    )


def ways(stem: str, all_stems: list[str]) -> str:
    """Links from the page of the lesson `stem` to the one before, to all, and to the next."""
    at = all_stems.index(stem)
    names = [re.sub(r"^\d+_", "", each).replace("_", " ").capitalize() for each in all_stems]
    before = [f'<a href="{all_stems[at - 1]}.html">\u2190 {names[at - 1]}</a>'] if at else []
    after = [f'<a href="{all_stems[at + 1]}.html">{names[at + 1]} \u2192</a>'] if at + 1 < len(names) else []
    links = " | ".join([*before, '<a href="index.html">All lessons</a>', *after])
    return f"<nav>{links}</nav>"


def export(nb: Any, target: Path, nav: str = "") -> None:
    """The lesson as a page, its pictures in it; links to other lessons lead to their pages."""
    from nbconvert import HTMLExporter

    body, _ = HTMLExporter(template_name="lab", config={}).from_notebook_node(nb)
    body = re.search(r"<main>(.*)</main>", body, re.S)[1]
    body = re.sub(r'href="(\d\d_\w+|scratch)\.ipynb', r'href="\1.html', body)
    body = body.replace("&#182;", "")
    target.write_text(page(headings(nb)[0][1], body, nav), encoding="utf-8")


def index(done: list[tuple[Path, Any]], others: dict[str, str] | None = None) -> str:
    """The page that leads to the pages of `done` (notebooks' paths and contents) and to `others` (name: what it is)."""
    rows = "".join(
        f'<tr><td><a href="{path.stem}.html">{headings(nb)[0][1]}</a></td><td>{minutes(nb) or ""}</td>'
        f"<td>{idea(path, nb)}</td></tr>"
        for path, nb in done
    )
    head = "<h1>The lessons</h1><p>For reading without a kernel. To run them: <code>make lab</code>.</p>"
    table = '<table><tr><th scope="col">lesson</th><th scope="col">minutes</th><th scope="col">what it is</th></tr>'
    more = "".join(f'<li><a href="{name}">{what}</a></li>' for name, what in (others or {}).items())
    kit = f"<h2>For teachers, and for looking up</h2><ul>{more}</ul>" if more else ""
    return page("The lessons", f"{head}{table}{rows}</table>{kit}", nav="")


def idea(path: Path, nb: Any) -> str:
    """What the lesson is about, as the map in lesson 00 says it; else the first sentence under its title."""
    text = (path.parent / MAP).read_text(encoding="utf-8")
    found = re.search(rf"\({path.stem}\.ipynb\) \| \d+ \| (.+?) \|", text)
    return escape(found[1] if found else nb.cells[0].source.split("\n\n")[1].split(". ")[0].replace("\n", " ") + ".")
