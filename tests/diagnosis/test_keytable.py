"""Names side by side: each tensor beside its partner, with a word for how they compare, and everything escaped."""

from __future__ import annotations

import pytest

from dav2_utils import TensorInfo, show_keys, table_for
from dav2_utils.diagnosis.keytable import KeyTable

TINY = table_for("tiny")
WRAPPED = {f"module.{name}": info for name, info in TINY.items()}


def verdicts(table: KeyTable) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in table.rows:
        found[row.verdict] = found.get(row.verdict, 0) + row.count
    return found


def test_every_tensor_stands_in_the_table_once() -> None:
    assert sum(row.count for row in show_keys(TINY).rows) == len(TINY)
    assert verdicts(show_keys(TINY, TINY)) == {"same": len(TINY)}
    assert verdicts(show_keys(WRAPPED, TINY)) == {"other name": len(TINY)}
    assert verdicts(show_keys(TINY, WRAPPED)) == {"other name": len(TINY)}


def test_partners_stand_on_one_line_with_the_wrapper_in_bold() -> None:
    table = show_keys(WRAPPED, TINY)
    row = next(row for row in table.rows if "qkv.weight" in row.file)
    assert (row.file, row.model) == (
        "module.pretrained.blocks.{0..7}.attn.qkv.weight", "pretrained.blocks.{0..7}.attn.qkv.weight",
    )  # fmt: skip
    assert "<b>module</b>.<wbr>pretrained.<wbr>cls_token" in table._repr_html_()
    assert ".<wbr>{0..7}.<wbr>" in table._repr_html_(), (
        "a long name breaks after a dot, and not inside a family's range"
    )
    assert "183 under another name" in table.caption


def test_missing_unexpected_and_other_shapes_are_told_apart() -> None:
    file = {"a.weight": TensorInfo((2, 2)), "b.weight": TensorInfo((3,)), "epoch": TensorInfo(())}
    model = {"a.weight": TensorInfo((2, 2)), "b.weight": TensorInfo((4,)), "c.weight": TensorInfo((1,))}
    table = show_keys(file, model)
    assert [row.verdict for row in table.rows] == ["same", "other shape", "only in the file", "only in the model"]
    assert table.rows[1].shape == "(3,) and (4,)"
    for sign in ("= same", "≠ other shape", "+ only in the file", "− only in the model"):
        assert sign in str(table) and sign in table._repr_html_()


def test_a_family_that_only_partly_fits_is_split() -> None:
    model = {name: info for name, info in TINY.items() if ".blocks.7." not in name}
    rows = [row for row in show_keys(TINY, model).rows if row.file.endswith("attn.qkv.weight")]
    assert [(row.file, row.verdict) for row in rows] == [
        ("pretrained.blocks.{0..6}.attn.qkv.weight", "same"),
        ("pretrained.blocks.7.attn.qkv.weight", "only in the file"),
    ]


def test_names_that_cannot_be_mapped_stand_as_they_are() -> None:
    clash = {"w": TensorInfo((1,)), "module.w": TensorInfo((1,))}
    assert verdicts(show_keys(clash, {"w": TensorInfo((1,))})) == {"same": 1, "only in the file": 1}


@pytest.mark.parametrize("limit", [1, 5, None])
def test_the_limit_says_what_it_leaves_out(limit: int | None) -> None:
    table = show_keys(TINY, limit=limit)
    body = str(table).splitlines()[2:]
    shown = len(table.rows) if limit is None else limit
    assert len(body) == shown + (limit is not None)
    if limit is not None:
        left = sum(row.count for row in table.rows[limit:])
        assert f"{len(table.rows) - limit} more lines" in body[-1] and f"({left} tensors)" in body[-1]


def test_everything_from_a_file_is_escaped() -> None:
    nasty = {"<img src=x onerror=alert(1)>.module.weight": TensorInfo((1,))}
    for table in (show_keys(nasty), show_keys(nasty, TINY)):
        assert "<img" not in table._repr_html_() and "&lt;img" in table._repr_html_()


def test_a_name_cannot_steer_the_terminal() -> None:
    table = show_keys({"a\x1b[2J\nb.weight": TensorInfo((1,))})
    assert len(str(table).splitlines()) == 3 and "\x1b" not in str(table)
