"""Every network of the field by its own name, in any size, and no name for what is not one of them."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
import torch
from family_tables import grown, known, models, table, tensors
from torch import nn

from dav2_utils import families, texts
from dav2_utils.advice import about, advice
from dav2_utils.diagnosis.diagnose import diagnose
from dav2_utils.diagnosis.report import Diagnosis
from dav2_utils.encoders import ENCODERS, Encoder, table_for
from dav2_utils.families import recognise
from dav2_utils.files.checkpoint import inspect_file
from dav2_utils.keys import Table, TensorInfo

OURS = {"Depth Anything V1", "Depth Anything V2", "Depth Anything V2 metric", "Distill-Any-Depth small and base"}
NET = {"depth-estimation package, Depth Anything V1", "depth-estimation package, Depth Anything V2"}
TWO_IN_ONE = {  # variants that one table has, told by its maker's two names or by the name of the other family
    "da3mono-large": "da3mono-large or da3metric-large", "da3metric-large": "da3mono-large or da3metric-large",
    "mono_large": "mono_large or metric_large", "metric_large": "mono_large or metric_large",
    "small": "vits", "base": "vitb", "dpt_hybrid_384": "dpt_hybrid", "dpt_large_384": "dpt_large",
}  # fmt: skip
INSIDE = {  # family: where a whole table of which other family is in it
    "Prompt Depth Anything": ("", "Depth Anything V2"),
    "FoundationStereo": ("feature.dino.depth_anything.", "Depth Anything V2"),
    "DEFOM-Stereo": ("defomencoder.depth_anything.", "Depth Anything V2"),
    "Depth Anything V1 metric (ZoeDepth head)": ("core.core.", "Depth Anything V1"),
    "depth-estimation package, Depth Anything V1": ("net.", "Depth Anything V1"),
    "depth-estimation package, Depth Anything V2": ("net.", "Depth Anything V2"),
    "depth-estimation package, Depth Anything 3 mono and metric": ("net.", "Depth Anything 3 mono and metric"),
    "Video Depth Anything": ("pretrained.", "DINOv2 backbone"),
    "MonSter": ("mono_encoder.", "DINOv2 backbone"),
    "MoGe V1": ("backbone.", "DINOv2 backbone"),
    "MoGe V2": ("encoder.backbone.", "DINOv2 backbone"),
    "Depth Anything 3 mono and metric": ("model.backbone.pretrained.", "timm DINOv2"),
    "ZoeDepth": ("core.core.", "MiDaS v3.1 BEiT"),
    "transformers Depth Anything (V1, V2, Distill-Any-Depth)": ("backbone.", "transformers DINOv2"),
    "transformers Depth Anything V2 metric": ("backbone.", "transformers DINOv2"),
    "transformers Prompt Depth Anything": ("backbone.", "transformers DINOv2"),
    "transformers DPT DINOv2": ("backbone.", "transformers DINOv2"),
}


def test_all_of_them_are_there() -> None:
    assert len(models()) == 114 and len(known()) == 103 and len({model["family"] for model in models().values()}) == 55
    assert {model["family"] for model in models().values()} == {
        name for rule in families.rules() for name in rule.family
    }


@pytest.mark.parametrize("name", known())
def test_every_known_model_is_called_by_its_name(name: str) -> None:
    model, plain = models()[name], table(name)
    wrapped = {f"module.{key}": info for key, info in plain.items()}
    result = diagnose({"model": wrapped, "epoch": 3})
    at, other = INSIDE.get(model["family"], (None, None))
    for found in (recognise(plain), recognise(wrapped), result.known):
        assert model["family"] in found.family and set(found.family) <= {model["family"], *model["same"]}
        assert found.variant in (model["variant"], TWO_IN_ONE.get(model["variant"]))
        assert model["family"] in OURS or not OURS & set(found.family), "one of ours"
        assert (found.contains and found.contains.at) == at
        assert found.contains is None or other in found.contains.family
    judged_as_what_it_is(result, model["family"])


@pytest.mark.parametrize("name", ["depth_anything_v2_vits", "foundation_stereo_vitl", "moge_v1_vitl", "dinov2_vits14"])
@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "wrapped"])
def test_a_file_is_called_as_its_table_is(name: str, wrapped: bool, tmp_path: Path) -> None:
    """One of ours, one with ours inside, one with another inside, and one with nothing inside."""
    path, whole = tmp_path / "latest.pth", recognise(table(name))
    state = tensors(table(name), "module." if wrapped else "")
    torch.save({"model": state, "epoch": 3} if wrapped else state, path)
    found = inspect_file(path)
    assert len(found.table) == len(table(name))
    assert (found.family, found.variant, found.contains) == (whole.family, whole.variant, whole.contains)
    said = found.to_dict()
    assert said["family"] == found.family and (said["contains"] is None) == (found.contains is None)
    assert found.family[0] in str(found) and found.family[0] in found._repr_html_()
    assert diagnose(found).known == whole


def judged_as_what_it_is(result: Diagnosis, family: str) -> None:
    """Another network is unwrapped, and never turned into one of ours with something of it left over."""
    assert result.to_dict()["family"] == result.known.family and result.known.family[0] in str(result)
    assert "drop" not in [step.do for step in result.steps], "nothing of it is surplus"
    if family in OURS or family in NET:  # a whole one, under its own names or behind `net.`, and nothing besides
        assert (result.verdict, result.expected) == ("repairable", result.matched)
    else:
        assert (result.verdict, result.target) == ("wrapped", None)
        assert all(line in str(result) for line in advice(result.known, result.encoder))


@pytest.mark.parametrize(("name", "encoder"), [
    ("foundation_stereo_vitl", "vitl"), ("defom_stereo_vitl", "vitl"), ("prompt_depth_anything_vits", "vits"),
    ("depth_anything_v1_metric_zoe_vitl", "vitl"), ("distill_any_depth_large", "vitl"),
    ("video_depth_anything_vits", "vits"), ("depth_anything_3_small", "vits"), ("hf_depth_anything_small", "vits"),
])  # fmt: skip
def test_another_network_does_not_load_into_ours(name: str, encoder: str) -> None:
    result = diagnose(table(name), encoder)
    assert result.verdict == "not repairable" and "extra_head" not in [found.cause for found in result.causes]
    part = result.known.contains and result.known.contains.at.rstrip(".")
    if part and f"--select {part} " in str(result):
        assert "cannot fix" not in str(result).splitlines()[0]
        assert diagnose(table(name), encoder, select=part).verdict == "repairable", "as the advice says"


def test_a_network_around_one_of_ours_that_nobody_knows() -> None:
    stereo = {f"net.depth.{name}": info for name, info in VITS.items()}
    stereo |= {f"fnet.{i}.weight": TensorInfo((8, 8, 3, 3)) for i in range(5)}
    for around in (
        stereo,
        {f"model.{name}": info for name, info in VITS.items()} | {"model.scale.w": TensorInfo((1,))},
    ):
        result = diagnose(around)
        assert result.verdict == "no target" and result.causes == [] and "--select" in str(result)
    whole = {f"model.{name}": info for name, info in VITS.items()} | {"loss.vgg.weight": TensorInfo((1,))}
    assert diagnose(whole).verdict == "repairable", "a loss belongs to the training"


GIANTS = [
    ("depth_anything_3_giant", "depth_anything_3_large", "model.backbone.pretrained.blocks."),
    ("depth_estimation_v3_giant", "depth_estimation_v3_base", "net.backbone.pretrained.blocks."),
    ("dinov2_vitg14", "dinov2_vitl14", "blocks."),
    ("dinov2_vitg14_reg", "dinov2_vits14_reg", "blocks."),
    ("dinov3_vit7b16", "dinov3_vits16plus", "blocks."),
    ("dinov3_vith16plus", "dinov3_vits16plus", "blocks."),
    ("metric3d_v2_vit_giant2", "metric3d_v2_vit_small", "depth_model.encoder.blocks.0."),
    ("prompt_depth_anything_vitg", "prompt_depth_anything_vitl", "pretrained.blocks."),
]


@pytest.mark.parametrize(("name", "small", "prefix"), GIANTS, ids=[name for name, *_ in GIANTS])
def test_giants_follow_the_pattern_of_the_small_ones(name: str, small: str, prefix: str) -> None:
    model = models()[name]
    found = recognise(grown(small, model["width"], model["blocks"], prefix))
    assert (found.family, found.variant) == ([model["family"]], model["variant"])


def test_the_giant_of_ours_and_the_nested_one() -> None:
    for name in ("depth_anything_v2_vitg", "depth_anything_v2_metric_vitg"):
        assert models()[name]["family"] in recognise(table_for("vitg")).family
    giant = grown("depth_anything_3_large", 1536, 40, "model.backbone.pretrained.blocks.")
    parts = (("model.da3.", giant), ("model.da3_metric.", table("depth_anything_3_metric_large")))
    nested = {key.replace("model.", prefix, 1): info for prefix, part in parts for key, info in part.items()}
    found, model = recognise(nested), models()["depth_anything_3_nested_giant_large"]
    assert (found.family, found.variant) == ([model["family"]], model["variant"])
    assert found.contains is not None and found.contains == ("model.da3.", ["Depth Anything 3"])


def sizes_of(name: str) -> str:
    """The prefix of the numbered blocks in a model that comes in sizes."""
    rules = [rule for rule in families.rules() if models()[name]["family"] in rule.family]
    prefixes = [f"{at}{rule.blocks or 'net.pretrained.blocks'}." for rule in rules for at in rule.at]
    return next(p for p in prefixes if any(key.startswith(f"{p}0.") for key in table(name)))


GROWING = [name for name in known() if models()[name].get("width") and models()[name]["family"] not in OURS]


@pytest.mark.parametrize("name", GROWING)
def test_sizes_that_nobody_has_published_are_of_the_same_family(name: str) -> None:
    found = recognise(grown(name, 640, 17, sizes_of(name)))
    assert models()[name]["family"] in found.family
    assert set(found.family) <= {models()[name]["family"], *models()[name]["same"]}
    rule = next(rule for rule in families.rules() if found.family[0] in rule.family)
    if rule.ours or "{" in rule.variants[-1][0]:
        assert found.variant == "width 640, 17 blocks" or "hybrid" in found.variant


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("use_bn", [False, True])
@pytest.mark.parametrize("use_clstoken", [False, True])
def test_ours_with_every_encoder_and_option(encoder: str, use_bn: bool, use_clstoken: bool) -> None:
    of = table_for(encoder, use_bn, use_clstoken)
    found = recognise({f"module._orig_mod.{name}": info for name, info in of.items()})
    assert {"Depth Anything V2", "Depth Anything V2 metric"} <= set(found.family) <= OURS
    assert (found.variant, found.contains) == (encoder, None)


def test_ours_in_sizes_of_somebodys_own() -> None:
    for width, depth, features, swiglu, image_size in (
        (512, 10, 96, False, 518),
        (48, 2, 8, True, 28),
        (384, 14, 64, False, 224),
    ):
        made = Encoder("own", width, depth, 4, features, (16, 24, 32, 40), (0, 0, 1, 1), swiglu, image_size)
        found = recognise(table_for(made))
        assert found.family == ["Depth Anything V1", "Depth Anything V2", "Depth Anything V2 metric"]
        assert found.variant == f"width {width}, {depth} blocks"
    wide = table_for("vits") | {"pretrained.pos_embed": TensorInfo((1, 1 + 37 * 74, 384))}
    assert "Depth Anything V2" in recognise(wide).family, "pictures that are no squares"


def test_which_of_ours_there_are_in_a_size() -> None:
    assert set(recognise(table_for("vitb")).family) == OURS
    assert "Distill-Any-Depth small and base" not in recognise(table_for("vitl")).family
    assert recognise(table_for("vitg")).family == ["Depth Anything V2", "Depth Anything V2 metric"]


VITS = table_for("vits")
GPT = {"wte": nn.Embedding(99, 48), "h": nn.ModuleList(nn.TransformerEncoderLayer(48, 4) for _ in range(3))}
LAST = "depth_head.scratch.output_conv2.2.bias"


@pytest.mark.parametrize(
    ("changed", "inside"),
    [
        (VITS | {"classifier.weight": TensorInfo((10, 384))}, ""),
        (VITS | {"pretrained.blocks.0.attn.qkv.lora_A": TensorInfo((8, 384))}, ""),
        (VITS | {"pretrained.blocks.other.weight": TensorInfo((8, 384))}, None),
        ({f"net.depth.{name}": info for name, info in VITS.items()} | {"fnet.weight": TensorInfo((1,))}, "net.depth."),
        ({f"{who}.{name}": info for who in ("student", "teacher") for name, info in VITS.items()}, "student."),
        ({name: info for name, info in VITS.items() if name != LAST}, "pretrained."),
        (VITS | {LAST: TensorInfo((2,))}, "pretrained."),
        ({name: info for name, info in VITS.items() if name != "pretrained.mask_token"}, "pretrained."),
        ({name: info for name, info in VITS.items() if ".blocks.7." not in name}, None),
    ],
)
def test_what_is_not_quite_one_of_ours_is_not_called_so(changed: Table, inside: str | None) -> None:
    found = recognise(changed)
    assert found.family == [] and found.variant == ""
    assert (found.contains and found.contains.at) == inside
    if found.contains is None or inside is None:
        return
    whole = all(VITS[name] == changed.get(inside + name) for name in VITS)
    assert ("Depth Anything V2" in found.contains.family) == whole


def named(module: nn.Module) -> Table:
    return {name: TensorInfo(tuple(t.shape)) for name, t in module.state_dict().items()}


def resnet(depth: int = 3) -> Table:
    """ResNet's names: conv1, bn1, layer1..4 of bottlenecks, fc."""
    rows = {"conv1.weight": (64, 3, 7, 7), "fc.weight": (1000, 2048), "fc.bias": (1000,)}
    for stage, width in enumerate((64, 128, 256, 512), 1):
        for block in range(depth):
            for number in (1, 2, 3):
                rows[f"layer{stage}.{block}.conv{number}.weight"] = (width, width, 3, 3)
                rows |= {
                    f"layer{stage}.{block}.bn{number}.{part}": (width,) for part in ("weight", "bias", "running_mean")
                }
    return {name: TensorInfo(shape) for name, shape in rows.items()}


def vit(width: int = 384, patch: int = 16, scaled: bool = True, **more: tuple[int, ...]) -> Table:
    """timm's names for any ViT."""
    rows = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 197, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
    }
    for i in range(12):
        rows |= {f"blocks.{i}.norm1.weight": (width,), f"blocks.{i}.attn.qkv.weight": (3 * width, width)}
        rows |= {f"blocks.{i}.ls1.gamma": (width,)} if scaled else {}
    return {name: TensorInfo(shape) for name, shape in (rows | {"norm.weight": (width,)} | more).items()}


MODULES = re.compile(r"(core\.core|(?:net|model|depth_model)\.\w+|\w+)(?:\.|$)")


@pytest.mark.parametrize("name", [name for name in known() if models()[name]["family"] not in OURS])
def test_what_lacks_a_module_of_its_family_is_not_called_so(name: str) -> None:
    whole = table(name)
    rules = [rule for rule in families.rules() if models()[name]["family"] in rule.family]
    not_everywhere = {module for rule in rules for module, needed in rule.within.items() if not needed}
    for module in {MODULES.match(key)[1] for key in whole} - not_everywhere:
        part = {key: info for key, info in whole.items() if not f"{key}.".startswith(f"{module}.")}
        assert models()[name]["family"] not in recognise(part).family, module


STRANGERS = {
    "resnet": resnet(),
    "resnet under a prefix": {f"pretrained.{name}": info for name, info in resnet().items()},
    "gpt": named(nn.ModuleDict(GPT)),
    "vit": vit(scaled=False),
    "vit with layer scale": vit(),
    "vit with a head": vit(patch=14) | {"head.weight": TensorInfo((1000, 384))},
    "vit with registers of another shape": vit(patch=14, mask_token=(1, 384), register_tokens=(1, 1, 384)),
    "vit of two widths": vit(patch=14, mask_token=(1, 768), pos_embed=(1, 1370, 384)),
    "bert": {f"encoder.layer.{i}.attention.self.query.weight": TensorInfo((768, 768)) for i in range(12)}
    | {"embeddings.word_embeddings.weight": TensorInfo((30522, 768))},
    "unet": named(nn.ModuleDict({f"{way}{i}": nn.Conv2d(8, 8, 3) for way in ("down", "up") for i in range(4)})),
    "nothing": {},
    "flat": {"weight": TensorInfo((3, 3)), "bias": TensorInfo((3,))},
    "dots alone": {name: TensorInfo(()) for name in ("....", ".pretrained.pos_embed", "pretrained.pos_embed")},
    "shapes of another kind": {name: TensorInfo((1, *info.shape)) for name, info in VITS.items()},
    "names alone": {name: TensorInfo(()) for name in table("midas_dpt_large_384")},
    "empty tensors": {name: TensorInfo((0,) * len(info.shape)) for name, info in VITS.items()},
}  # fmt: skip


@pytest.mark.parametrize("name", STRANGERS)
def test_strangers_have_no_name(name: str) -> None:
    found = recognise(STRANGERS[name])
    assert (found.family, found.variant, found.contains) == ([], "", None)
    assert advice(found) == [] and str(found) == ""


def test_two_sets_of_one_model_have_its_name_and_two_models_have_none(tmp_path: Path) -> None:
    one, other = tensors(VITS), tensors(table("moge_v1_vitl"))
    for ema, expected in ((one, "Depth Anything V2"), (other, None)):
        torch.save({"model": one, "model_ema": ema}, tmp_path / "two.pth")
        assert (expected in inspect_file(tmp_path / "two.pth").family) == bool(expected)


def test_every_family_says_who_loads_it() -> None:
    for family in {model["family"] for model in models().values()}:
        told = about(family)
        assert told.package and told.cls
        assert not told.note or texts.say(f"families.notes.{told.note}")
    with pytest.raises(KeyError, match="no family 'Depth Anything V9'"):
        about("Depth Anything V9")
    assert {rule.note for rule in families.rules()} - {""} == set(texts._texts("en")["families"]["notes"])


def test_what_is_said_of_the_ones_that_mislead() -> None:
    assert any("strict=False" in line for line in advice(recognise(table("prompt_depth_anything_vits"))))
    stereo = advice(recognise(table("foundation_stereo_vitl")), "vitl")
    assert any("--select feature.dino.depth_anything --encoder vitl`" in line for line in stereo)
    assert not any("--select" in line for line in advice(recognise(table("zoedepth_n")))), "no Depth Anything"
    wrapped = recognise({f"net.depth.{name}": info for name, info in VITS.items()} | {"fnet.weight": TensorInfo((1,))})
    assert ["--select net.depth`" in line for line in advice(wrapped)] == [True], "in a network that nobody knows"


def test_the_renaming_of_distill_any_depth_is_one_to_one() -> None:
    rename = about("Distill-Any-Depth large").rename
    renamed = {}
    for name, info in table("distill_any_depth_large").items():
        old = max((old for old in rename if name.startswith(f"{old}.")), key=len, default=None)
        renamed[rename[old] + name[len(old) :] if old else name] = info
    assert renamed == {name: TensorInfo(info.shape) for name, info in table_for("vitl").items()}
    said = json.dumps(advice(recognise(table("distill_any_depth_large"))))
    assert all(f"--rename {old}={new}" in said for old, new in rename.items())


def test_prompt_depth_anything_is_v2_and_26_more() -> None:
    assert len(table("prompt_depth_anything_vits")) - len(VITS) == 26, "as the text says"


def seconds(of: Table) -> float:
    start = time.perf_counter()
    recognise(of)
    return time.perf_counter() - start


def test_it_costs_in_proportion_to_the_table() -> None:
    recognise(VITS)
    for piece in ("a.pretrained.pos_embed", "m.blocks.0.gamma_1", "x" * 200, "a." * 400 + "b"):
        small, large = ({f"{i}.{piece}": TensorInfo((1, 2, 3)) for i in range(count)} for count in (2_000, 40_000))
        least = min(seconds(small) for _ in range(3))
        assert min(seconds(large) for _ in range(3)) < 100 * least + 0.5, "20 times the entries"
