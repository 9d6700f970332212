"""A lesson run in a fresh kernel, cleaned of what belongs to one run, and compared with what is stored."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat

import dav2_utils

PACKAGE = Path(dav2_utils.__file__).parent
# What the trained numbers depend on besides the code: versions, and what makes one processor act as another.
VERSIONS = ("torch", "numpy", "opencv-python", "safetensors")
PROCESSOR = ("ATEN_CPU_CAPABILITY", "NPY_DISABLE_CPU_FEATURES", "OPENCV_CPU_DISABLE", "ONEDNN_MAX_CPU_ISA", "MKL_CBWR",
             "OMP_NUM_THREADS")  # fmt: skip
WIDGET = "application/vnd.jupyter.widget-view+json"
WIDGET_TEXT = "(An interactive widget appears here when the lesson runs in Jupyter.)"
SOLUTION = re.compile(r"<summary>Solution</summary>\s*```python\n(.*?)```", re.S)
NUMBER = re.compile(r"\d+\.\d+|\d+")
# What a machine says of itself: no gloo, a home that cannot be written, fonts that it has not seen yet.
NOTE = re.compile(
    r"The names come out the same\.$|^Matplotlib (created a temporary|is building)|^mkdir -p failed .*matplotlib"
)
# What training rounded to, versions of packages, and the module that numpy 2 renamed.
MACHINE = re.compile(r"sha256:[0-9a-f]+|\b\d+\.\d+\.\d+[\w.+]*|\bnumpy\._?core\b")


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def write(nb: Any, path: Path) -> None:
    path.write_text(nbformat.writes(nb, version=4).rstrip("\n") + "\n", encoding="utf-8")


def exercises(nb: Any) -> list[tuple[Any, Any, Any]]:
    """Each exercise as its three cells: the card, the stub, the folded hints and solution."""
    at = [i for i, cell in enumerate(nb.cells) if "exercise" in cell.metadata.get("tags", [])]
    return [(nb.cells[i - 1], nb.cells[i], nb.cells[i + 1]) for i in at]


def trained() -> Path:
    """The fine-tune that every lesson uses, by two real processes; trained once for this code on this processor."""
    from filelock import FileLock  # a dependency of torch's

    digest = hashlib.sha256(repr([version(name) for name in VERSIONS] + [*map(os.environ.get, PROCESSOR)]).encode())
    code = [path for wing in ("depth", "training") for path in (PACKAGE / wing).rglob("*.*") if path.suffix != ".pyc"]
    for path in sorted([*code, PACKAGE / "encoders.py", PACKAGE / "finetune.py"]):
        digest.update(path.read_bytes())
    folder = PACKAGE.parent / "build" / "trained" / digest.hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        return dav2_utils.make_checkpoint(folder)


def with_trained(runs: Path) -> Path:
    """`runs`, a folder that lessons write to, with the fine-tune in it as lesson 01 leaves it."""
    (runs / "streets").mkdir(parents=True)
    shutil.copy(trained(), runs / "streets" / "latest.pth")
    return runs


def secluded(folder: Path) -> dict[str, str]:
    """An environment in which every machine shows the same: no network, no official weights in a cache, and a folder
    `runs` of its own below `folder`, in which the fine-tune is there already."""
    with_trained(folder / "runs")
    return {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(folder / "no-cache"), "DAV2_LESSONS": "runs"}


_ENVIRON = "__import__('os').environ"
ELSEWHERE = f"{_ENVIRON}.update(KEPT={_ENVIRON}['DAV2_LESSONS'], DAV2_LESSONS='solved')"
BACK = f"{_ENVIRON}.update(DAV2_LESSONS={_ENVIRON}['KEPT'])"


def execute(
    path: Path, folder: Path, *, environment: dict[str, str] | None = None, solve: bool = False, timeout: int = 600
) -> Any:
    """The lesson, run from top to bottom in a fresh kernel with `folder` as its working directory, outputs normalised.

    `environment`: by default this process's own, with what lessons write below `folder`.
    With `solve`, each exercise's folded solution runs right after its stub, and its outputs are kept in
    `cell.metadata.solved`. Raises nbclient's `CellExecutionError` where an error is not meant.
    """
    from nbclient import NotebookClient

    nb = read(path)
    added, around = {}, []
    for _, stub, folded in exercises(nb) if solve else []:
        solution = nbformat.v4.new_code_cell(SOLUTION.search(folded.source)[1])
        added[stub.id] = solution
        # Kept elsewhere, so that `progress()` says what it says to somebody who has solved nothing yet.
        elsewhere, back = (nbformat.v4.new_code_cell(code) for code in (ELSEWHERE, BACK))
        at = nb.cells.index(stub) + 1
        nb.cells[at:at] = [elsewhere, solution, back]
        around += [elsewhere, back]
    client = NotebookClient(
        nb, timeout=timeout, kernel_name="python3", resources={"metadata": {"path": str(folder)}},
        store_widget_state=False, record_timing=False,
        extra_arguments=["--log-level=ERROR"],
    )  # fmt: skip
    client.execute(env=environment or {**os.environ, "DAV2_LESSONS": "runs"})
    nb.cells = [cell for cell in nb.cells if not any(cell is each for each in [*added.values(), *around])]
    nb = normalise(nb)
    for cell in nb.cells:
        if cell.id in added:
            cell.metadata["solved"] = "\n".join(texts(added[cell.id].outputs))
    return nb


def normalise(nb: Any) -> Any:
    """Everything that belongs to one run or one machine taken out."""
    nb.metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, 1):
        cell.metadata = {k: v for k, v in cell.metadata.items() if k in ("tags", "scrolled", "jupyter")}
        cell.execution_count = number
        cell.outputs = [out for out in map(_normal, _merged(cell.outputs)) if out is not None]
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = number
            if output.output_type == "error":
                output.traceback = [re.sub(r"Cell In\[\d+\]", f"Cell In[{number}]", t) for t in output.traceback]
    return nbformat.from_dict(nb)


def _merged(outputs: list[Any]) -> list[Any]:
    """Streams arrive cut at random places: the pieces with one name become one."""
    merged: list[Any] = []
    for output in outputs:
        same = [old for old in merged if output.output_type == "stream" == old.output_type and old.name == output.name]
        if same:
            same[0].text += output.text
        else:
            merged.append(output)
    return merged


def _below_runs(text: str) -> str:
    """`text` with every path below the folder that lessons write to as Linux writes it."""
    return re.sub(r"\bruns\\[\w.\\-]*", lambda found: found[0].replace("\\", "/"), text)


def _normal(output: Any) -> Any:
    if output.output_type == "stream":
        lines = [line.split("\r")[-1] for line in output.text.replace("\r\n", "\n").split("\n")]
        lines = [line for line in lines if not NOTE.search(line)]
        # progress bars end, and what they showed was time
        lines = [line for line in lines if not re.search(r"\d+%\||\dit/s|s/it", line)]
        output.text = _below_runs("\n".join(lines))
        return output if output.text.strip() else None
    if output.output_type == "error":
        output.traceback = [re.sub(r"\x1b\[[0-9;]*m", "", part) for part in output.traceback]
    data = output.get("data", {})
    if "image/png" in data:
        data.pop("text/html", None)  # the same picture once more, for JupyterLab; what is stored stays small
    data.update({kind: _below_runs(text) for kind, text in data.items() if kind.startswith("text/")})
    if WIDGET in data:  # ipywidgets 8 is a cell's result; 7 displays itself
        return nbformat.v4.new_output("execute_result", {"text/plain": WIDGET_TEXT})
    return output


# Compare ---------------------------------------------------------------------------------------------------------


def texts(outputs: list[Any]) -> list[str]:
    """Everything in the outputs that is text."""
    found = []
    for output in outputs:
        found += [output.text] if output.output_type == "stream" else []
        found += output.traceback[-1:] if output.output_type == "error" else []
        found += [v for k, v in sorted(output.get("data", {}).items()) if k.startswith("text/")]
    return found


def differences(stored: Any, fresh: Any) -> list[str]:
    """Where a fresh run says something else than what is stored."""
    found = []
    for old, new in zip(stored.cells, fresh.cells, strict=True):
        if old.cell_type != "code":
            continue
        kinds = [[o.output_type + str(sorted(o.get("data", {}))) for o in cell.outputs] for cell in (old, new)]
        if kinds[0] != kinds[1]:
            found.append(f"cell {old.id}: outputs {kinds[1]} in place of {kinds[0]}")
            continue
        for a, b in zip(texts(old.outputs), texts(new.outputs), strict=True):
            if not same_text(a, b):
                found.append(f"cell {old.id} says\n{b}\nand stored is\n{a}")
        for a, b in zip(old.outputs, new.outputs, strict=True):
            if "image/png" in a.get("data", {}) and not same_picture(a.data["image/png"], b.data["image/png"]):
                found.append(f"cell {old.id} shows another picture")
    return found


def same_text(a: str, b: str) -> bool:
    """Equal words, signs and whole numbers; numbers with a point, which training rounds otherwise, `close`."""
    a, b = MACHINE.sub("*", a), MACHINE.sub("*", b)
    if NUMBER.sub("#", a).split() != NUMBER.sub("#", b).split():
        return False
    return all(close(x, y) for x, y in zip(NUMBER.findall(a), NUMBER.findall(b), strict=True))


def close(x: str, y: str) -> bool:
    """Whether two printed numbers may come from two processors: by a third, and one step of the last digit printed.

    The same training left an error of 0.09 to 0.15 on one picture; 0.549 and 0.551 print as 0.5 and 0.6. What matters,
    a model that works or one that does not, is far outside. Whole numbers are counts.
    """
    if "." not in x or "." not in y:
        return x == y
    step = 10.0 ** -min(len(number.partition(".")[2]) for number in (x, y))
    return abs(float(x) - float(y)) <= 1.001 * step + max(float(x), float(y)) / 3


def same_picture(a: str, b: str) -> bool:
    """Of one size give or take what another font makes of it, and alike when looked at from a distance."""
    import numpy as np
    from PIL import Image

    one, two = (Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB") for png in (a, b))
    if any(abs(x - y) > 0.03 * x + 2 for x, y in zip(one.size, two.size, strict=True)):
        return False
    small = [np.asarray(image.resize((96, 48), Image.Resampling.BOX), dtype=float) for image in (one, two)]
    return bool(np.abs(small[0] - small[1]).mean() < 8)
