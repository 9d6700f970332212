"""Does this machine run it? A verdict and a cure for Python and for each package of `pyproject.toml`.

Standard library only, since the environment that it checks may be broken.
"""

from __future__ import annotations

import importlib
import re
import sys
from dataclasses import asdict, dataclass
from typing import Any

IMPORT_NAMES = {"opencv-python": "cv2"}  # where the package and the module are called differently
STAND_INS = {"opencv-python": "opencv-python-headless"}  # the same module without the graphics library
TROUBLESHOOTING = "docs/troubleshooting.md"
CURE_GL = f"On Debian and Ubuntu: apt-get install libgl1 libglib2.0-0 (see {TROUBLESHOOTING}, 'libGL')"

#: Releases that run, but open strangers' files less safely than a later one: package -> (first safe, why).
SAFE_FROM = {
    "torch": ("2.10", "before, a checkpoint made for it can damage memory in torch.load, even with weights_only=True "
              "(CVE-2026-24747); until then, open only files from people you trust"),
}  # fmt: skip

_INSTALL = (
    "inspect, diagnose, explain and most of fix work as they are; what torch and the lessons need "
    "is known where the package is installed: pip install . in a copy of the repository"
)


@dataclass(frozen=True)
class Check:
    """One line of the report; `verdict` is `ok`, `unsafe` (it runs, a later one is safer), `absent` (for the lessons
    only), `missing`, `too old` or `broken`."""

    name: str
    found: str
    needed: str
    verdict: str
    cure: str = ""

    @property
    def ok(self) -> bool:
        return self.verdict in ("ok", "unsafe", "absent")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def check_environment() -> list[Check]:
    """A `Check` for Python and for each package that the core and the lessons need, each of them actually imported."""
    from importlib.metadata import PackageNotFoundError, requires

    rows = [Check("python", ".".join(map(str, sys.version_info[:3])), ">=3.10", "ok")]  # pip refuses an older one
    try:
        requirements = requires("dav2_utils") or []
    except PackageNotFoundError:  # dav2.pyz, or a copy of the sources
        return [*rows, Check("dav2_utils", "not installed", "for depth, lessons", "absent", _INSTALL)]
    for requirement in requirements:
        match = re.match(
            r"^([\w.-]+)\s*(?:\[[^\]]*\]\s*)?>=([\w.]+)(?:\s*;\s*extra\s*==\s*['\"](\w+)['\"])?", requirement
        )
        if match and match[3] in (None, "lessons"):
            rows.append(_check(match[1], match[2], lessons_only=match[3] is not None))
    return [*rows, *_two_processes(rows)]


def _check(name: str, lowest: str, lessons_only: bool) -> Check:
    needed = f">={lowest}"
    found = _installed(name) or _installed(STAND_INS.get(name, name))
    if found is None:
        cure = "pip install 'dav2_utils[lessons]'" if lessons_only else f"pip install '{name}{needed}'"
        return Check(name, "-", needed, "absent" if lessons_only else "missing", cure)
    if _numbers(found) < _numbers(lowest):
        return Check(name, found, needed, "too old", f"pip install --upgrade '{name}{needed}'")
    try:
        importlib.import_module(IMPORT_NAMES.get(name, name.replace("-", "_")))
    except Exception as error:  # whatever a broken installation raises is the finding
        return Check(name, found, needed, "broken", _cure_import(name, str(error)))
    safe, why = SAFE_FROM.get(name, ("0", ""))
    if _numbers(found) < _numbers(safe):
        return Check(name, found, needed, "unsafe", f"pip install --upgrade '{name}>={safe}': {why}")
    return Check(name, found, needed, "ok")


def _installed(name: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cure_import(name: str, error: str) -> str:
    if re.search(r"libGL|libgthread|libglib", error):
        return f"{error}. {CURE_GL}"
    return f"import fails with: {error}. Try: pip install --force-reinstall {name} (see {TROUBLESHOOTING})"


def _two_processes(rows: list[Check]) -> list[Check]:
    if not any(row.name == "torch" and row.verdict in ("ok", "unsafe") for row in rows):
        return []
    import torch.distributed

    if torch.distributed.is_available() and torch.distributed.is_gloo_available():
        return [Check("gloo", "in torch", "for two-process training on a CPU", "ok")]
    return [Check("gloo", "-", "for two-process training on a CPU", "absent", "Lesson 01 uses DataParallel instead")]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3])


def report(rows: list[Check]) -> str:
    """The checks as a table of text, each cure below the line that it belongs to."""
    width = max(len(row.name) for row in rows)
    lines = []
    for row in rows:
        mark = "ok  " if row.verdict == "ok" else ("note" if row.ok else "FAIL")
        verdict = "" if row.verdict == "ok" else row.verdict
        lines.append(f"{mark}  {row.name:<{width}}  {row.found:<12} {row.needed:<10} {verdict}".rstrip())
        if row.cure:
            lines.append(f"      -> {row.cure}")
    bad = sum(not row.ok for row in rows)
    lines.append(
        "This machine runs it."
        if not bad
        else f"{bad} of {len(rows)} need attention: do what the arrows say, then run `dav2 check` again."
    )
    return "\n".join(lines)
