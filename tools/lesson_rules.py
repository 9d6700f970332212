"""The rules for every lesson, checked in the stored notebook without running it."""

from __future__ import annotations

import copy
import itertools
import json
import re
import statistics
from pathlib import Path
from typing import Any

from lesson_badges import address, dressed
from lesson_runs import SOLUTION, WIDGET, exercises, read

ROOT = Path(__file__).resolve().parents[1]
LONGEST_CELL, MEDIAN_CELL, LARGEST_FILE = 20, 6, 500_000
WIDEST_LINE = 104  # characters; more is cut off in JupyterLab at 1280 pixels, beside its list of files
# `scratch` is a tool, not a lesson: exempt from the sections, the minutes and the median, but from no other rule.
SCRATCH = "scratch"
SECTIONS = ("What you will learn", "Before you start", "Recap", "What next", "References")
# What must not be stored: a memory address, a path of the machine that ran it, an escape code.
PRIVATE = re.compile(r"\b0x[0-9a-f]{6,}|/(?:home|root|Users|tmp|private|var|mnt|content)/|\b[A-Z]:\\\\?\w|\x1b")


def headings(nb: Any) -> list[tuple[int, str]]:
    text = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    text = re.sub(r"```.*?```", "", text, flags=re.S)
    return [(len(m[1]), m[2].strip()) for m in re.finditer(r"^(#+)\s+(.*)$", text, re.M)]


def code_lines(cell: Any) -> int:
    return sum(bool(line.strip()) for line in cell.source.splitlines())


def section(nb: Any, title: str) -> str:
    """The prose under the heading `## title`, to the next heading of that level or above."""
    text = "\n\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    found = re.search(rf"^## {re.escape(title)}\s*$(.*?)(?=^##? |\Z)", text, re.M | re.S)
    return found[1] if found else ""


def minutes(nb: Any) -> int:
    found = re.search(r"\b(\d+) minutes\b", section(nb, "Before you start"))
    return int(found[1]) if found else 0


def lint(path: Path) -> list[str]:
    """What is wrong with the lesson as it is stored, one sentence each."""
    nb = read(path)
    sections = [] if path.stem == SCRATCH else _sections(nb)
    return [*_skeleton(nb, path.parent), *sections, *_cells(nb), *_exercises(nb), *_dress(nb, path), *_stored(nb, path)]


def _dress(nb: Any, path: Path) -> list[str]:
    """Badges and the first cell, which go with the repository's address."""
    if dressed(copy.deepcopy(nb), path.name, address()) == nb:
        return []
    return ["its badges or its first cell do not go with pyproject.toml: python tools/lessons.py badges"]


def _skeleton(nb: Any, folder: Path) -> list[str]:
    found = []
    levels = headings(nb)
    if [title for level, title in levels if level == 1] != [title for _, title in levels[:1]]:
        found.append("there must be one H1, and it comes first")
    for (above, _), (below, title) in itertools.pairwise(levels):
        if below > above + 1:
            found.append(f"the heading {title!r} skips a level")
    text = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"https?://|#", link) and not (folder / link.split("#")[0]).exists():
            found.append(f"the link {link} leads nowhere")
    return found


def _sections(nb: Any) -> list[str]:
    found = []
    order = [title for level, title in headings(nb) if level == 2 and title in SECTIONS]
    if order != list(SECTIONS):
        found.append(f"the H2 sections must be {', '.join(SECTIONS)} in this order; found {', '.join(order)}")
    if len(re.findall(r"^\d+\. ", section(nb, SECTIONS[0]), re.M)) < 2:
        found.append("'What you will learn' must be a numbered list")
    before = section(nb, SECTIONS[1])
    if not re.search(r"^\|.*\|\s*(needed|helpful)\s*\|", before, re.M) or not minutes(nb):
        found.append("'Before you start' must say 'N minutes' and hold a table of concepts, each needed or helpful")
    if "](" not in section(nb, "What next") or "](" not in section(nb, "References"):
        found.append("'What next' and 'References' must hold links")
    return found


def _cells(nb: Any) -> list[str]:
    found = []
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    prose = [cell for cell in nb.cells if cell.cell_type == "markdown"]
    lines = [code_lines(cell) for cell in code]
    if statistics.median(lines) > MEDIAN_CELL:
        found.append(f"the median code cell has {statistics.median(lines):g} lines, more than {MEDIAN_CELL}")
    found += [f"cell {cell.id} has {n} lines" for cell, n in zip(code, lines, strict=True) if not 0 < n <= LONGEST_CELL]
    wide = [cell.id for cell in code if max(map(len, cell.source.splitlines()), default=0) > WIDEST_LINE]
    found += [f"cell {ident} has a line of more than {WIDEST_LINE} characters" for ident in wide]
    if len(prose) < len(code):
        found.append(f"{len(prose)} prose cells are fewer than {len(code)} code cells")
    for above, cell in zip([None, *nb.cells], nb.cells, strict=False):
        if cell.cell_type == "code" and (above is None or above.cell_type != "markdown"):
            found.append(f"cell {cell.id} has no prose before it")
        if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", cell.id) or re.fullmatch(r"[0-9a-f]{8,}", cell.id):
            found.append(f"cell {cell.id} needs a readable id of its own, such as strip-by-hand")
    return found


def _exercises(nb: Any) -> list[str]:
    found = []
    for card, stub, folded in exercises(nb):
        if not re.search(r"^#{2,3} Exercise\b", card.source, re.M):
            found.append(f"{stub.id}: the card before it needs a heading that begins with Exercise")
        if not re.search(r"Difficulty: (easy|medium|hard)\b.*\b\d+ minutes?\b", card.source):
            found.append(f"{stub.id}: the card must say 'Difficulty: easy|medium|hard' and 'N minutes' on one line")
        if "check(" not in stub.source or "..." not in stub.source:
            found.append(f"{stub.id}: the stub must hold ... and check(...)")
        summaries = re.findall(r"<summary>(.*?)</summary>", folded.source)
        if summaries != ["Hint 1", "Hint 2", "Solution"] or folded.source.count("<details>") != 3:
            found.append(f"{stub.id}: after it come three folded <details>: Hint 1, Hint 2, Solution")
        if not SOLUTION.search(folded.source) or "check(" not in SOLUTION.search(folded.source)[1]:
            found.append(f"{stub.id}: the solution must be a python block that ends with check(...)")
    return found


def _stored(nb: Any, path: Path) -> list[str]:
    found = []
    if path.stat().st_size > LARGEST_FILE:
        found.append(f"{path.stat().st_size} bytes are more than {LARGEST_FILE}")
    if set(nb.metadata) != {"kernelspec", "language_info"} or set(nb.metadata.language_info) != {"name"}:
        found.append("the notebook's metadata must be kernelspec and the language's name alone")
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        found.append("stored outputs are not those of one run from top to bottom: make lessons-update")
    for cell in code:
        if set(cell.metadata) - {"tags", "scrolled", "jupyter"}:
            found.append(f"cell {cell.id} holds metadata of a run")
        raises = "raises-exception" in cell.metadata.get("tags", [])
        if raises != any(output.output_type == "error" for output in cell.outputs):
            found.append(f"cell {cell.id}: an error and the tag raises-exception must go together")
        for output in cell.outputs:
            found += [f"cell {cell.id}: {problem}" for problem in _output(output)]
    return found


def _output(output: Any) -> list[str]:
    found = []
    data = output.get("data", {})
    if output.output_type == "stream" and output.name == "stderr":
        found.append(f"a warning or worse: {output.text[:80]!r}")
    if WIDGET in data or any("widget" in name for name in data):
        found.append("the state of a widget is stored")
    if "image/png" in data:
        alt = output.metadata.get("image/png", {}).get("alt") or output.metadata.get("alt")
        if not alt or data.get("text/plain") != alt:
            found.append("the picture has no alt text in its metadata, or another one as text/plain")
    text = json.dumps({k: v for k, v in data.items() if not k.startswith("image/")}) + str(output.get("text", ""))
    text += "\n".join(output.get("traceback", []))
    if any(part.startswith("File ") for part in output.get("traceback", [])):
        found.append("the error shows frames outside the notebook: its first cell must load dav2_utils.classroom")
    private = PRIVATE.search(text) or re.search(re.escape(str(ROOT)), text)
    if private:
        found.append(
            f"this belongs to one machine or one run: {text[max(0, private.start() - 30) : private.end() + 30]!r}"
        )
    return found
