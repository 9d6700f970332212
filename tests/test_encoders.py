"""The formula behind the tables, and the encoder that a table belongs to."""

from __future__ import annotations

import pytest

from dav2_utils.encoders import ENCODERS, get_encoder, infer_encoder, table_for
from dav2_utils.errors import CheckpointError
from dav2_utils.keys import Table, TensorInfo

# Names and parameters of the official models, counted on the official code.
OFFICIAL = {
    "vits": (239, 24_785_089),
    "vitb": (239, 97_470_785),
    "vitl": (407, 335_315_649),
    "vitg": (631, 1_258_132_225),
}


@pytest.mark.parametrize("encoder", OFFICIAL)
def test_official_totals(encoder: str) -> None:
    table = table_for(encoder)
    assert (len(table), sum(info.elements for info in table.values())) == OFFICIAL[encoder]


def part(table: Table, beginning: str) -> Table:
    return {name: info for name, info in table.items() if name.startswith(beginning)}


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module.", "model.net."])
def test_infer_encoder(encoder: str, prefix: str) -> None:
    table = table_for(encoder)
    for some in (table, part(table, "pretrained."), part(table, "depth_head."), dict(list(table.items())[:40])):
        assert infer_encoder({prefix + name: info for name, info in some.items()}) == encoder
    odd = dict(table) | {"pretrained.pos_embed": TensorInfo((1, 5, 7)), "n_averaged": TensorInfo((), "int64")}
    assert infer_encoder(odd) == encoder
    assert infer_encoder(table_for(encoder, use_bn=True, use_clstoken=True)) == encoder


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"layer1.conv.weight": TensorInfo((384, 3, 14, 14))},
        {"pretrained.model.blocks.0.attn.qkv.weight": TensorInfo((2304, 768))},  # MiDaS
        {"blocks.0.attn.qkv.weight": TensorInfo((1152, 384)), "patch_embed.proj.weight": TensorInfo((384, 3, 14, 14))},
    ],
)
def test_no_depth_anything(table: Table) -> None:
    assert infer_encoder(table) is None


def test_unknown_encoder_names_the_known() -> None:
    with pytest.raises(CheckpointError, match="vits, vitb, vitl, vitg, tiny") as error:
        get_encoder("vitx")
    assert error.value.kind == "unknown_encoder"
