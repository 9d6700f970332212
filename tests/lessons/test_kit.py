"""The kit for a teacher: plans fit their minutes, pages need nothing from elsewhere, pictures are what they were."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import causes
import lesson_reference
import lesson_rules
import lesson_runs
import lesson_slides
import lessons
import pictures
import pytest

ROOT = lesson_rules.ROOT
TEACHING = ROOT / "docs" / "teaching"
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")] + sorted(
    (ROOT / "docs").rglob("*.md")
)
WORDS_A_MINUTE, SECONDS_A_CELL = 130, 20


def words(text: str) -> int:
    """How many words a teacher reads out: no code blocks, no folded hints, no addresses."""
    text = re.sub(r"```.*?```|<details>.*|\]\([^)]*\)", "", text, flags=re.S)
    return len(re.findall(r"[A-Za-z']+", text))


def minutes(lesson: str, cells: str) -> float:
    """What a row of the plan asks for: `[5]–[7], [9]; exercise 1` of a lesson."""
    nb = lesson_runs.read(lessons.lessons([lesson])[0])
    code = [at for at, cell in enumerate(nb.cells) if cell.cell_type == "code"]
    total = 0.0
    for first, last in re.findall(r"\[(\d+)\](?:–\[(\d+)\])?", cells):
        begin, end = int(first), int(last or first)
        read = nb.cells[code[begin - 2] + 1 : code[end - 1]]
        total += sum(words(cell.source) for cell in read if cell.cell_type == "markdown") / WORDS_A_MINUTE
        total += (end - begin + 1) * SECONDS_A_CELL / 60
    for number in re.findall(r"exercise (\d)", cells):
        card = next(card for card, _, _ in lesson_runs.exercises(nb) if f"Exercise {number}" in card.source)
        total += words(card.source) / WORDS_A_MINUTE + int(re.search(r"(\d+) minutes?\b", card.source)[1])
    return total


def plan(title: str) -> list[tuple[int, int, str]]:
    text = (TEACHING / "README.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {title}\n(.*?)(?=^## )", text, re.M | re.S)[1]
    rows = re.findall(r"^\| (\d+) to (\d+) \|[^|]*\|([^|]*)\|$", section, re.M)
    return [(int(begin), int(end), cells.strip()) for begin, end, cells in rows]


@pytest.mark.parametrize(("title", "begins", "ends"), [("45 minutes", 0, 45), ("90 minutes", 37, 90)])
def test_every_part_of_a_plan_fits_its_minutes_and_five_are_left(title: str, begins: int, ends: int) -> None:
    rows = plan(title)
    assert [row[0] for row in rows] == [begins, *(row[1] for row in rows[:-1])], "one part follows the other"
    assert rows[-1] == (ends - 5, ends, "")
    for begin, end, cells in rows[:-1]:
        parts = re.findall(r"\b(0\d) (.*?)(?=; 0\d |$)", cells)
        assert sum(minutes(lesson, asked) for lesson, asked in parts) <= end - begin, cells


def test_the_slides_know_the_plans() -> None:
    notes = (TEACHING / "slides.md").read_text(encoding="utf-8")
    for title in ("45 minutes", "90 minutes"):
        for begin, end, cells in plan(title)[1:-1]:
            if "[" in cells:
                assert f"Minutes {begin} to {end}: lesson" in notes or f"minutes {begin} to {end}" in notes, (
                    begin,
                    end,
                )


@pytest.mark.parametrize("path", PAGES, ids=[str(path.relative_to(ROOT)) for path in PAGES])
def test_links_lead_somewhere_and_pictures_have_words(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.S)
    linked = re.findall(r'\]\(([^)\s]+)\)|src(?:set)?="([^"]+)"', text)
    for link in [a or b for a, b in linked if not re.match(r"https?:|#", a or b)]:
        target, _, place = link.partition("#")
        assert (path.parent / target).exists(), link
        if place:
            assert f'id="{place}"' in (path.parent / target).read_text(encoding="utf-8"), link
    alts = re.findall(r"!\[([^\]]*)\]", text) + re.findall(r'<img[^>]*alt="([^"]*)"', text)
    assert all(len(alt) > 30 for alt in alts) and len(alts) == len(re.findall(r"!\[|<img", text))


def test_the_kit_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    every = [(path, lesson_runs.read(path)) for path in lessons.lessons()]
    written = lesson_slides.write(tmp_path, every)
    for name in written:
        html = (tmp_path / name).read_text(encoding="utf-8")
        assert not re.findall(r"<(?:script|link|img|source|iframe)[^>]*(?:src|srcset|href)=.?https?:", html), name
        shown = re.findall(r'<img src="data:image/png[^>]*>', html)
        assert all(re.search(r'alt="[^"]{20,}"', image) for image in shown)
    slides = (tmp_path / "slides.html").read_text(encoding="utf-8")
    assert slides.count("<section>") == slides.count('<aside class="notes">') == 13
    for name, count in (("slides.html", 5), ("sheet.html", 1)):
        html = (tmp_path / name).read_text(encoding="utf-8")
        screens = [len(re.findall(rf'<img [^>]*class="{screen}"', html)) for screen in ("light", "dark")]
        assert screens == [count] * 2 and "img.dark{display:none" in html, "a dark picture isn't printed"
    answered = (tmp_path / "answers.html").read_text(encoding="utf-8")
    assert answered.count("<h3") == sum(len(lesson_runs.exercises(nb)) for _, nb in every) and "Hint" not in answered


def test_the_reference_has_every_public_name(tmp_path: Path) -> None:
    pytest.importorskip("pdoc")
    import dav2_utils

    (name,) = lesson_reference.write(tmp_path)
    html = (tmp_path / name).read_text(encoding="utf-8")
    assert [public for public in dav2_utils.__all__ if f'id="{public}"' not in html and public[0] != "_"] == []


def test_the_page_of_causes_says_what_the_package_says() -> None:
    assert causes.TARGET.read_text(encoding="utf-8") == causes.text(), "make reports-update"


@pytest.mark.elsewhere
def test_the_pictures_of_the_readme_are_the_drawings() -> None:
    """Those of a fine-tune are kept as they were made once: `python tools/pictures.py`."""
    for dark in (False, True):
        for name, picture in pictures.drawings(dark).items():
            kept = (pictures.FOLDER / f"{name}{'_dark' * dark}.png").read_bytes()
            assert lesson_runs.same_picture(*(base64.b64encode(png).decode() for png in (kept, picture.png))), name
    for path in pictures.FOLDER.glob("*.png"):
        assert path.stat().st_size < 100_000, path.name


def test_every_lesson_has_a_picture() -> None:
    def shown(nb: Any) -> int:
        return sum("image/png" in out.get("data", {}) for cell in nb.cells for out in cell.get("outputs", []))

    assert [path.stem for path in lessons.lessons() if not shown(lesson_runs.read(path))] == []
