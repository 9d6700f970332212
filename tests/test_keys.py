"""Names and tables: prefixes off and on, one-to-one, by what the target has; refused where that cannot be."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dav2_utils.encoders import table_for
from dav2_utils.errors import PrefixError
from dav2_utils.keys import TensorInfo, families
from dav2_utils.wrappers import WRAPPERS, bare, rename_map, wrappers_in

# names in the file, names of the target (or None), new names
TABLE = [
    (["module.x"], None, ["x"]),
    (["module._orig_mod.x"], None, ["x"]),
    (["_orig_mod.module.x"], None, ["x"]),
    (["module.module.x"], None, ["x"]),
    (["model._orig_mod.x"], None, ["model.x"]),
    (["model._orig_mod.x"], ["x"], ["x"]),
    (["_fsdp_wrapped_module.a._fsdp_wrapped_module._fpw_module.x"], None, ["a.x"]),
    (["a._checkpoint_wrapped_module.x", "_forward_module.b"], None, ["a.x", "b"]),
    (["encoder.module.0.weight"], None, ["encoder.0.weight"]),
    (["encoder.module.0.weight"], ["encoder.0.weight"], ["encoder.0.weight"]),
    (["encoder.module.0.weight"], ["encoder.module.0.weight"], ["encoder.module.0.weight"]),
    # words that only end like a wrapper
    (["se_module.fc1.weight"], None, ["se_module.fc1.weight"]),
    (["reg_module.0.weight"], None, ["reg_module.0.weight"]),
    (["submodule.x", "module_list.0.x"], None, ["submodule.x", "module_list.0.x"]),
    (["module.se_module.fc1.weight"], None, ["se_module.fc1.weight"]),
    # a tensor that is itself called like a wrapper
    (["module", "x.module"], None, ["module", "x.module"]),
    # the target's own component stays, the wrapper around it goes
    (["lstm2.module.weight_hh_l0"], ["lstm2.module.weight_hh_l0"], ["lstm2.module.weight_hh_l0"]),
    (["module.lstm2.module.w", "module.lstm2.b"], ["lstm2.module.w", "lstm2.b"], ["lstm2.module.w", "lstm2.b"]),
    (["module.lstm2.module.extra", "module.a"], ["lstm2.module.w", "a"], ["lstm2.module.extra", "a"]),
    # half-prefixed, and entries beside
    (["module.a", "b"], ["a", "b"], ["a", "b"]),
    (["n_averaged", "module.a"], None, ["n_averaged", "a"]),
    (["n_averaged", "module.a"], ["n_averaged", "module.a"], ["n_averaged", "module.a"]),
    # one-to-one in one way only
    (["w", "module.w"], ["w", "module.w"], ["w", "module.w"]),
    (["module.x", "module.module.x"], ["x", "module.x"], ["x", "module.x"]),
    (["module.module.l.w", "module.module.l.module.w"], ["l.w", "l.module.w"], ["l.w", "l.module.w"]),
    (["module.l.w", "module.l.module.w", "n"], ["l.w", "l.module.w"], ["l.w", "l.module.w", "n"]),
    # the model is wrapped
    (["x", "y.z"], ["module.x", "module.y.z"], ["module.x", "module.y.z"]),
    (["_orig_mod.y.z"], ["module.y.z"], ["module.y.z"]),
    (["a.0.x"], ["a._checkpoint_wrapped_module.0.x"], ["a._checkpoint_wrapped_module.0.x"]),
    # attribute prefixes need proof
    (["net.a.x", "net.b.x"], None, ["net.a.x", "net.b.x"]),
    (["net.a.x", "net.b.x", "loss.w"], ["a.x", "b.x"], ["a.x", "b.x", "loss.w"]),
    (["core.core.a.x"], ["a.x"], ["a.x"]),
    (["net.a.x"], ["a.x", "b.x", "c.x"], ["net.a.x"]),
    (["net.a.x"], ["a.x", "b.x"], ["net.a.x"]),  # half is not more than half
    (["net.a.x", "net.c.x"], ["a.x", "b.x", "d.x"], ["net.a.x", "net.c.x"]),
    (["student.a", "teacher.a"], ["a"], ["student.a", "teacher.a"]),
    (["a.x", "b.x"], ["net.a.x", "net.b.x"], ["net.a.x", "net.b.x"]),
    (["a.x"], ["net.a.x", "net.b.x"], ["a.x"]),
    # nothing in common
    (["a", "b"], ["c"], ["a", "b"]),
    ([], None, []),
    ([], ["a"], []),
]


@pytest.mark.parametrize(("names", "target", "expected"), TABLE)
def test_rename_map(names: list[str], target: list[str] | None, expected: list[str]) -> None:
    assert rename_map(names, target) == dict(zip(names, expected, strict=True))
    assert list(rename_map(names, target)) == names


@pytest.mark.parametrize(
    ("names", "target", "components", "named"),
    [
        (["w", "module.w"], None, None, ["'w'", "'module.w'"]),
        (["module.x", "module.module.x"], None, None, ["'module.x'", "'module.module.x'"]),  # x, module.x would be it
        (["w", "module.w"], ["w"], None, ["'w'", "'module.w'"]),
        (["a.w", "a.module.w", "b"], ["a.w", "b"], None, ["'a.w'", "'a.module.w'"]),
        (["a.w"], None, ["module"], ["'module'", "'a.w'"]),
        (["se_module.w", "x.module"], None, ["module"], ["'module'"]),
        (["l.module.w"], ["l.module.w"], ["module"], ["'l.module.w'"]),
    ],
)
def test_refused_with_the_names(
    names: list[str], target: list[str] | None, components: list[str] | None, named: list[str]
) -> None:
    with pytest.raises(PrefixError) as error:
        rename_map(names, target, components)
    assert all(name in str(error.value) for name in named)


def test_components_asked_for() -> None:
    names = ["ddp.module.a", "ddp.module.b"]
    assert list(rename_map(names, components=["ddp"]).values()) == ["module.a", "module.b"]
    assert list(rename_map(names, components=["ddp", "module"]).values()) == ["a", "b"]
    wrapped = {"module.l.module.w": "l.module.w"}
    assert rename_map(wrapped, ["l.module.w"], ["module"]) == wrapped


def wrap(name: str, sites: dict[str, list[str]]) -> str:
    """`name` as a model would have it whose modules at `sites` are wrapped."""
    parts, path = list(sites.get("", [])), ""
    for part in name.split(".")[:-1]:
        path = f"{path}.{part}" if path else part
        parts += [part, *sites.get(path, [])]
    return ".".join([*parts, name.split(".")[-1]])


PARTS = st.sampled_from(["a", "b", "0", "1", "blocks", "se_module", "net"])
NAMES = st.lists(st.lists(PARTS, min_size=1, max_size=4).map(".".join), min_size=1, max_size=12, unique=True)
SITES = st.dictionaries(
    st.sampled_from(["", "a", "blocks", "blocks.0", "a.b"]),
    st.lists(st.sampled_from(list(WRAPPERS)), min_size=1, max_size=3),
    max_size=3,
)


@settings(max_examples=300, deadline=None)
@given(NAMES, SITES)
def test_whatever_wraps_a_model_comes_off_and_on_again(names: list[str], sites: dict[str, list[str]]) -> None:
    wrapped = [wrap(name, sites) for name in names]
    assert list(rename_map(wrapped).values()) == names
    assert list(rename_map(wrapped, names).values()) == names
    assert list(rename_map(names, wrapped).values()) == wrapped


@settings(max_examples=300, deadline=None)
@example(["extra", "net.w"], ["w", "net.w"])  # a name that the target has is not moved onto another that it has
@given(
    st.lists(st.lists(st.sampled_from(["module", "a", "_orig_mod", ""]), max_size=5).map(".".join), unique=True),
    st.none() | st.lists(st.lists(st.sampled_from(["module", "a", "b"]), max_size=4).map(".".join), unique=True),
)
def test_one_to_one_or_an_error(names: list[str], target: list[str] | None) -> None:
    try:
        mapping = rename_map(names, target)
    except PrefixError:
        return
    assert list(mapping) == names and len(set(mapping.values())) == len(names)
    for old, new in mapping.items():
        assert bare(old).endswith(bare(new)) or (target is not None and new in target)
        assert old not in (target or ()) or new == old or set(mapping.values()) <= set(target or ())


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["module._orig_mod.x"], ["module", "_orig_mod"]),
        (["_orig_mod.module.x", "n_averaged"], ["_orig_mod", "module"]),
        (["module.module.x", "module.module.y"], ["module", "module"]),
        (["_fsdp_wrapped_module.a._fsdp_wrapped_module.x", "e.module.y"], ["_fsdp_wrapped_module", "module"]),
        (["a", "se_module.x", "module"], []),
        ([], []),
    ],
)
def test_wrappers_in(names: list[str], expected: list[str]) -> None:
    assert wrappers_in(names) == expected


def test_families_gather_numbers_and_nothing_else() -> None:
    found = {family.pattern: family for family in families(table_for("vitl"))}
    qkv = found["pretrained.blocks.{0..23}.attn.qkv.weight"]
    assert (qkv.count, qkv.info.shape, len(qkv.names)) == (24, (3072, 1024), 24)
    assert "depth_head.scratch.layer1_rn.weight" in found
    assert sum(family.count for family in found.values()) == 407
    table = {f"a.{i}.w": TensorInfo((1,)) for i in (0, 1, 3)} | {"a.2.w": TensorInfo((2,)), "x1.w": TensorInfo((1,))}
    assert [family.pattern for family in families(table)] == ["a.{0,1,3}.w", "a.2.w", "x1.w"]
    assert [f.pattern for f in families({f"{i}.{j}": TensorInfo(()) for i in range(2) for j in range(3)})] == [
        "{0..1}.{0..2}"
    ]


def test_names_from_a_fuzzer() -> None:
    deep = ["module." * 50_000 + "w", "a." * 50_000 + "w", "." * 1000, "", "9" * 5000 + ".w", "²." + "w"]
    assert rename_map(deep)[deep[0]] == "w"
    rename_map(deep, ["w"])
    rename_map(deep, list(reversed(deep)))
    assert wrappers_in(deep[:1])[0] == "module" and families(dict.fromkeys(deep, TensorInfo(())))
    many = [f"module.blocks.{i}.module.w" for i in range(100_000)]
    assert not re.search("module", "".join(rename_map(many).values()))
    assert list(rename_map(many, {bare(name) for name in many}).values())[-1] == "blocks.99999.w"
