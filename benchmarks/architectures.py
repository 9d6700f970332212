"""Real networks and their relatives on the meta device: names and shapes, no weights. See `tests/made_failures.py`.

Every network is in half `a` (the rules may be tuned on it), `b` (never looked at one by one) or `c` (newer ones, for
the last word). Needs what `pip install dav2_utils[failures]` brings.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

# A torchvision built for another torch lacks its compiled operators, and looks for two of them; names need none.
_missing = torch.library.Library("torchvision", "FRAGMENT")
for _name in ("nms", "qnms"):
    try:
        _missing.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    except RuntimeError:  # it is there
        break

import timm  # noqa: E402
import torchvision  # noqa: E402
from made_failures import Build, Net  # noqa: E402

from dav2_utils.depth.model import DepthAnythingV2  # noqa: E402

warnings.filterwarnings("ignore")


def _kin(build: Callable[..., Any], kin: dict[str, Any]) -> dict[str, Build]:
    """Each relative: a dictionary of other arguments for `build`, or a function without arguments; others are none."""
    return {
        which: functools.partial(build, **how) if isinstance(how, dict) else how for which, how in kin.items() if how
    }


# timm: name, wider, deeper, other patches, other image size

_TIMM = """
vit_small_patch16_224 vit_base_patch16_224 - vit_small_patch32_224 384
swin_tiny_patch4_window7_224 swin_base_patch4_window7_224 swin_small_patch4_window7_224 - -
convnext_tiny convnext_base convnext_small - -
resnet50 resnet18 resnet101 - -
efficientnet_b0 efficientnet_b3 - - -
mixer_b16_224 mixer_l16_224 - mixer_b32_224 -
seresnet50 - seresnet101 - -
vit_small_patch14_dinov2 vit_base_patch14_dinov2 - - 224
beit_base_patch16_224 beit_large_patch16_224 - - 384
deit_small_patch16_224 deit_base_patch16_224 - - 384
deit3_small_patch16_224 deit3_base_patch16_224 - - 384
cait_xxs24_224 cait_xs24_384 cait_xxs36_224 - -
coat_tiny coat_mini - - -
convit_small convit_base - - -
crossvit_15_240 crossvit_18_240 - - -
davit_tiny davit_base davit_small - -
densenet121 densenet161 densenet201 - -
dla34 dla60 - - -
dpn68 dpn92 - - -
edgenext_small edgenext_base - - -
efficientformer_l1 efficientformer_l3 - - -
eva02_small_patch14_224 eva02_base_patch14_224 - - 336
focalnet_tiny_srf focalnet_base_srf focalnet_small_srf - -
gcvit_tiny gcvit_base gcvit_small - -
ghostnet_100 - - - -
hrnet_w18 hrnet_w32 - - -
inception_v3 - - - -
levit_128 levit_192 levit_128s - -
maxvit_tiny_tf_224 maxvit_base_tf_224 - - -
poolformer_s12 poolformer_m36 poolformer_s24 - -
mobilenetv3_large_100 mobilenetv3_small_100 - - -
mobilevit_s mobilevit_xs - - -
mvitv2_tiny mvitv2_base mvitv2_small - -
nest_tiny nest_base nest_small - -
nfnet_f0 - nfnet_f1 - -
pit_s_224 pit_b_224 - - -
pvt_v2_b1 pvt_v2_b3 pvt_v2_b2 - -
regnety_008 regnety_032 - - -
repvgg_a0 repvgg_b0 - - -
res2net50_26w_4s - res2net101_26w_4s - -
resnest50d - resnest101e - -
resnetv2_50 - resnetv2_101 - -
rexnet_100 rexnet_150 - - -
senet154 - - - -
sequencer2d_s - sequencer2d_m - -
skresnet18 - skresnet34 - -
swinv2_tiny_window8_256 swinv2_base_window8_256 swinv2_small_window8_256 - -
tnt_s_patch16_224 tnt_b_patch16_224 - - -
tresnet_m tresnet_l - - -
twins_svt_small twins_svt_base - - -
vgg16 - vgg19 - -
visformer_small - - - -
volo_d1_224 volo_d3_224 volo_d2_224 - -
vovnet39a - vovnet57a - -
xception41 - xception65 - -
xcit_tiny_12_p16_224 xcit_small_12_p16_224 xcit_tiny_24_p16_224 xcit_tiny_12_p8_224 -
samvit_base_patch16 samvit_large_patch16 - - 512
vit_relpos_small_patch16_224 vit_relpos_base_patch16_224 - - -
cspresnet50 - - - -
tiny_vit_5m_224 tiny_vit_11m_224 - - -
""".strip().split("\n")
_NEWER = """
hiera_tiny_224 hiera_base_224 hiera_small_224 - -
mambaout_tiny mambaout_base mambaout_small - -
repvit_m1 repvit_m2 - - -
fastvit_t8 fastvit_sa12 - - -
efficientvit_b0 efficientvit_b1 - - -
vit_small_patch16_dinov3 vit_base_patch16_dinov3 - - -
vit_small_patch14_reg4_dinov2 vit_base_patch14_reg4_dinov2 - - 224
convnextv2_tiny convnextv2_base - - -
rdnet_tiny rdnet_base rdnet_small - -
starnet_s1 starnet_s2 - - -
swiftformer_xs swiftformer_s - - -
caformer_s18 caformer_m36 caformer_s36 - -
hgnetv2_b0 hgnetv2_b4 - - -
nextvit_small - nextvit_base - -
shvit_s1 shvit_s2 - - -
vitamin_small_224 vitamin_base_224 - - -
""".strip().split("\n")


def _timm(row: str) -> Net:
    name, *others, image = (None if word == "-" else word for word in row.split())
    build = functools.partial(timm.create_model, name)
    wider, deeper, patch = (other and functools.partial(timm.create_model, other) for other in others)
    kin = _kin(
        build,
        {
            "width": wider,
            "depth": deeper,
            "patch": patch,
            "image": {"img_size": int(image)} if image else None,
            "classes": {"num_classes": 37},
            "channels": {"in_chans": 1},
            "headless": {"num_classes": 0},
            "library": _LIBRARY.get(f"timm {name}"),
        },
    )
    return Net(f"timm {name}", build, kin)


# torchvision: name, wider, deeper, then what else it takes

_VISION: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("resnet18", "resnet50", "resnet34", {}),
    ("vit_b_16", "vit_l_16", "", {"image": {"image_size": 384}}),
    ("densenet121", "densenet161", "densenet169", {}),
    ("mobilenet_v3_large", "mobilenet_v3_small", "", {}),
    ("swin_t", "swin_b", "swin_s", {}),
    ("convnext_tiny", "convnext_base", "convnext_small", {}),
    ("alexnet", "", "", {}),
    ("vgg16_bn", "", "vgg19_bn", {}),
    ("googlenet", "", "", {"init_weights": False}),
    ("inception_v3", "", "", {"init_weights": False}),
    ("efficientnet_v2_s", "efficientnet_v2_m", "", {}),
    ("maxvit_t", "", "", {}),
    ("wide_resnet50_2", "", "wide_resnet101_2", {}),
    ("shufflenet_v2_x1_0", "shufflenet_v2_x2_0", "", {}),
    ("squeezenet1_1", "", "", {}),
    ("swin_v2_t", "swin_v2_b", "swin_v2_s", {}),
    ("resnext50_32x4d", "", "resnext101_32x8d", {}),
    ("video.r3d_18", "", "", {}),
    ("video.mvit_v2_s", "", "", {}),
    ("video.swin3d_t", "video.swin3d_b", "video.swin3d_s", {}),
    ("optical_flow.raft_large", "optical_flow.raft_small", "", {}),
    ("segmentation.fcn_resnet50", "", "segmentation.fcn_resnet101", {}),
    ("segmentation.deeplabv3_resnet50", "", "segmentation.deeplabv3_resnet101", {}),
    ("segmentation.lraspp_mobilenet_v3_large", "", "", {}),
    ("detection.fasterrcnn_resnet50_fpn", "", "", {}),
    ("detection.maskrcnn_resnet50_fpn_v2", "", "", {}),
    ("detection.retinanet_resnet50_fpn", "", "", {}),
    ("detection.ssd300_vgg16", "", "", {}),
    ("detection.keypointrcnn_resnet50_fpn", "", "", {}),
)
_CLASSES = {"segmentation": 21, "detection": 91}


def _vision(name: str, width: str, depth: str, more: dict[str, Any]) -> Net:
    def function(path: str) -> Callable[..., Any]:
        return functools.reduce(getattr, path.split("."), torchvision.models)  # type: ignore[arg-type]

    fixed = {"weights": None} | (
        {} if name.count(".") == 0 or "video" in name or "flow" in name else {"weights_backbone": None}
    )
    fixed |= {word: value for word, value in more.items() if word == "init_weights"}
    build = functools.partial(function(name), **fixed)
    others = {
        which: functools.partial(function(path), **fixed)
        for which, path in (("width", width), ("depth", depth))
        if path
    }
    kin: dict[str, Any] = {
        "classes": {"num_classes": 37},
        "image": more.get("image"),
        "library": _LIBRARY.get(f"torchvision {name}"),
    }
    if "segmentation" in name and "lraspp" not in name:
        kin["auxiliary"] = {"aux_loss": True}
    if name in ("googlenet", "inception_v3"):
        kin["auxiliary"], build = {"aux_logits": True}, functools.partial(build, aux_logits=False)
    return Net(f"torchvision {name}", build, others | _kin(build, kin if "flow" not in name else {}))


# transformers: class, config, arguments, then relatives' arguments

_TEXT = {
    "width": {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16},
    "depth": {"num_hidden_layers": 6},
    "vocabulary": {"vocab_size": 21128},
}
_LLM = {
    "width": {"hidden_size": 1536, "intermediate_size": 4096, "num_attention_heads": 12, "num_key_value_heads": 12},
    "depth": {"num_hidden_layers": 4},
    "vocabulary": {"vocab_size": 40000},
}
_SMALL_LLM = {
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "num_hidden_layers": 8,
    "vocab_size": 32000,
}
_IMAGES = {
    "width": {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16},
    "depth": {"num_hidden_layers": 24},
    "classes": {"num_labels": 37},
    "image": {"image_size": 384},
    "channels": {"num_channels": 1},
    "patch": {"patch_size": 32},
}
_HF: tuple[tuple[str, str, dict[str, Any], dict[str, Any]], ...] = (
    ("BertForSequenceClassification", "BertConfig", {}, _TEXT | {"classes": {"num_labels": 5}}),
    ("BertForMaskedLM", "BertConfig", {}, _TEXT),
    ("RobertaForMaskedLM", "RobertaConfig", {"vocab_size": 50265}, _TEXT),
    (
        "DistilBertForSequenceClassification",
        "DistilBertConfig",
        {},
        {
            "width": {"dim": 512, "hidden_dim": 2048, "n_heads": 8},
            "depth": {"n_layers": 3},
            "vocabulary": {"vocab_size": 28996},
            "classes": {"num_labels": 5},
        },
    ),
    (
        "GPT2LMHeadModel",
        "GPT2Config",
        {},
        {"width": {"n_embd": 1024, "n_head": 16}, "depth": {"n_layer": 24}, "vocabulary": {"vocab_size": 50300}},
    ),
    (
        "T5ForConditionalGeneration",
        "T5Config",
        {},
        {
            "width": {"d_model": 768, "d_ff": 3072, "num_heads": 12, "d_kv": 64},
            "depth": {"num_layers": 12},
            "vocabulary": {"vocab_size": 250112},
        },
    ),
    (
        "BartForConditionalGeneration",
        "BartConfig",
        {"encoder_layers": 6, "decoder_layers": 6},
        {
            "width": {
                "d_model": 768,
                "encoder_ffn_dim": 3072,
                "decoder_ffn_dim": 3072,
                "encoder_attention_heads": 12,
                "decoder_attention_heads": 12,
            },
            "depth": {"encoder_layers": 12, "decoder_layers": 12},
            "vocabulary": {"vocab_size": 50300},
        },
    ),
    ("LlamaForCausalLM", "LlamaConfig", _SMALL_LLM, _LLM),
    ("MistralForCausalLM", "MistralConfig", _SMALL_LLM, _LLM),
    ("Qwen2ForCausalLM", "Qwen2Config", _SMALL_LLM | {"tie_word_embeddings": True}, _LLM),
    ("GemmaForCausalLM", "GemmaConfig", _SMALL_LLM | {"head_dim": 64}, _LLM),
    ("PhiForCausalLM", "PhiConfig", _SMALL_LLM, _LLM),
    (
        "OPTForCausalLM",
        "OPTConfig",
        {},
        {
            "width": {"hidden_size": 1024, "ffn_dim": 4096, "num_attention_heads": 16, "word_embed_proj_dim": 1024},
            "depth": {"num_hidden_layers": 24},
            "vocabulary": {"vocab_size": 50300},
        },
    ),
    ("GPTNeoXForCausalLM", "GPTNeoXConfig", {k: v for k, v in _SMALL_LLM.items() if "key_value" not in k}, _LLM),
    (
        "BloomForCausalLM",
        "BloomConfig",
        {"hidden_size": 512, "n_layer": 8, "n_head": 8, "vocab_size": 50000},
        {"width": {"hidden_size": 1024}, "depth": {"n_layer": 4}, "vocabulary": {"vocab_size": 60000}},
    ),
    (
        "WhisperForConditionalGeneration",
        "WhisperConfig",
        {},
        {
            "width": {"d_model": 512, "encoder_attention_heads": 8, "decoder_attention_heads": 8},
            "depth": {"encoder_layers": 6, "decoder_layers": 6},
            "vocabulary": {"vocab_size": 51864},
            "channels": {"num_mel_bins": 128},
        },
    ),
    (
        "Wav2Vec2ForCTC",
        "Wav2Vec2Config",
        {"num_hidden_layers": 6},
        {
            "width": {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16},
            "depth": {"num_hidden_layers": 12},
            "vocabulary": {"vocab_size": 48},
        },
    ),
    ("ViTForImageClassification", "ViTConfig", {}, _IMAGES),
    ("DeiTForImageClassification", "DeiTConfig", {}, _IMAGES),
    ("BeitForImageClassification", "BeitConfig", {"use_relative_position_bias": True}, _IMAGES),
    ("Dinov2ForImageClassification", "Dinov2Config", {}, _IMAGES),
    ("DPTForDepthEstimation", "DPTConfig", {}, {k: v for k, v in _IMAGES.items() if k not in ("depth", "classes")}),
    (
        "SwinForImageClassification",
        "SwinConfig",
        {},
        {
            "width": {"embed_dim": 128},
            "depth": {"depths": [2, 2, 18, 2]},
            "classes": {"num_labels": 37},
            "channels": {"num_channels": 1},
        },
    ),
    (
        "ConvNextForImageClassification",
        "ConvNextConfig",
        {},
        {
            "width": {"hidden_sizes": [128, 256, 512, 1024]},
            "depth": {"depths": [3, 3, 27, 3]},
            "classes": {"num_labels": 37},
            "channels": {"num_channels": 1},
        },
    ),
    (
        "ResNetForImageClassification",
        "ResNetConfig",
        {},
        {"depth": {"depths": [3, 4, 23, 3]}, "classes": {"num_labels": 37}, "channels": {"num_channels": 1}},
    ),
    (
        "SegformerForSemanticSegmentation",
        "SegformerConfig",
        {},
        {
            "width": {"hidden_sizes": [64, 128, 320, 512]},
            "depth": {"depths": [3, 4, 6, 3]},
            "classes": {"num_labels": 19},
            "channels": {"num_channels": 1},
        },
    ),
    ("CLIPModel", "CLIPConfig", {}, {}),
    ("SamModel", "SamConfig", {}, {}),
    ("ViTMAEForPreTraining", "ViTMAEConfig", {}, {k: v for k, v in _IMAGES.items() if k != "classes"}),
    (
        "MobileNetV2ForImageClassification",
        "MobileNetV2Config",
        {},
        {"classes": {"num_labels": 37}, "width": {"depth_multiplier": 1.4}},
    ),
)
_HF_NEWER: tuple[tuple[str, str, dict[str, Any], dict[str, Any]], ...] = (
    ("ModernBertForMaskedLM", "ModernBertConfig", {}, _TEXT | {"vocabulary": {"vocab_size": 60000}}),
    ("Qwen3ForCausalLM", "Qwen3Config", _SMALL_LLM | {"head_dim": 64}, _LLM),
    ("DINOv3ViTModel", "DINOv3ViTConfig", {}, {k: v for k, v in _IMAGES.items() if k not in ("classes", "image")}),
    ("SiglipVisionModel", "SiglipVisionConfig", {}, {k: v for k, v in _IMAGES.items() if k != "classes"}),
    (
        "MambaForCausalLM",
        "MambaConfig",
        {"num_hidden_layers": 8},
        {"width": {"hidden_size": 1024}, "depth": {"num_hidden_layers": 16}, "vocabulary": {"vocab_size": 60000}},
    ),
    (
        "DeepseekV3ForCausalLM",
        "DeepseekV3Config",
        {"num_hidden_layers": 4, "n_routed_experts": 8},
        {"depth": {"num_hidden_layers": 6}, "vocabulary": {"vocab_size": 60000}},
    ),
    ("RTDetrV2ForObjectDetection", "RTDetrV2Config", {}, {"classes": {"num_labels": 7}}),
)


def _transformer(title: str, config: str, base: dict[str, Any], kin: dict[str, Any]) -> Net:
    def build(**more: Any) -> Any:
        library = importlib.import_module("transformers")
        return getattr(library, title)(getattr(library, config)(**base | more))

    more = {"library": _LIBRARY.get(f"transformers {title}")}
    return Net(f"transformers {title}", build, _kin(build, kin | more))


# segmentation_models_pytorch: class, encoder, a larger one

_SMP = (
    ("Unet", "resnet34", "resnet50"),
    ("UnetPlusPlus", "efficientnet-b0", "efficientnet-b3"),
    ("FPN", "resnet18", "resnet34"),
    ("DeepLabV3Plus", "mobilenet_v2", "resnet50"),
    ("Linknet", "resnet34", "resnet50"),
    ("PSPNet", "densenet121", "densenet169"),
    ("MAnet", "vgg16_bn", "vgg19_bn"),
    ("PAN", "resnet50", "resnet101"),
    ("UPerNet", "resnet34", "resnet50"),
    ("Unet", "timm-regnety_008", "timm-regnety_016"),
    ("DPT", "tu-vit_base_patch16_224", "tu-vit_large_patch16_224"),
)


def _segmentation(title: str, encoder: str, larger: str) -> Net:
    def build(name: str = encoder, **more: Any) -> Any:
        library = importlib.import_module("segmentation_models_pytorch")
        return getattr(library, title)(name, encoder_weights=None, **more)

    kin = {"width": {"name": larger}, "classes": {"classes": 19}, "channels": {"in_channels": 4}}
    if title not in ("Linknet", "PSPNet", "DPT"):
        kin["auxiliary"] = {"aux_params": {"classes": 4}}
    return Net(f"smp {title} {encoder}", build, _kin(build, kin))


def _depth(encoder: str, wider: str) -> Net:
    build = functools.partial(DepthAnythingV2, encoder)
    kin = {
        "width": functools.partial(DepthAnythingV2, wider),
        "library": _LIBRARY["depth"] if encoder == "vits" else None,
    }
    return Net(f"DepthAnythingV2 {encoder}", build, _kin(build, kin))


def _torch() -> Iterator[Net]:
    """torch's own, as people put them together."""
    nn = torch.nn
    yield Net(
        "torch Transformer",
        nn.Transformer,
        _kin(
            nn.Transformer,
            {
                "width": {"d_model": 256, "dim_feedforward": 1024},
                "depth": {"num_encoder_layers": 3, "num_decoder_layers": 3},
            },
        ),
    )

    def tagger(width: int = 256, words: int = 5000, tags: int = 17) -> Any:
        return nn.ModuleDict(
            {
                "embedding": nn.Embedding(words, width),
                "lstm": nn.LSTM(width, width, 3, bidirectional=True),
                "fc": nn.Linear(2 * width, tags),
            }
        )

    yield Net(
        "torch LSTM",
        tagger,
        _kin(tagger, {"width": {"width": 512}, "vocabulary": {"words": 7000}, "classes": {"tags": 9}}),
    )


def _from(library: str, title: str) -> Callable[..., Any]:
    """A class of a library, which is imported only when a network is built."""
    return lambda *args, **options: getattr(importlib.import_module(library), title)(*args, **options)


def _clip(name: str) -> Any:
    library = importlib.import_module("open_clip")
    return library.CLIP(**library.get_model_config(name))


def _others() -> Iterator[Net]:
    """Networks for making pictures, and for pictures with texts."""
    unet = functools.partial(_from("diffusers", "UNet2DConditionModel"), cross_attention_dim=768)
    yield Net(
        "diffusers UNet2DConditionModel",
        unet,
        _kin(unet, {"width": {"block_out_channels": (192, 384, 768, 768)}, "channels": {"in_channels": 9}}),
    )
    four = {
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
    }
    vae = functools.partial(_from("diffusers", "AutoencoderKL"), layers_per_block=2, **four)
    yield Net("diffusers AutoencoderKL", vae, _kin(vae, {"depth": {"layers_per_block": 3}}))
    dit = functools.partial(_from("diffusers", "DiTTransformer2DModel"), num_layers=12)
    yield Net(
        "diffusers DiT",
        dit,
        _kin(dit, {"width": {"num_attention_heads": 12}, "depth": {"num_layers": 24}, "channels": {"in_channels": 8}}),
    )
    for name, wider in (("ViT-B-32", "ViT-L-14"), ("RN50", "RN101")):
        build = functools.partial(_clip, name)
        yield Net(f"open_clip {name}", build, {"width": functools.partial(_clip, wider)})


def _hf(title: str, config: str, **more: Any) -> Build:
    return lambda: _transformer(title, config, more, {}).build()


_LIBRARY: dict[str, Build] = {
    "timm vit_base_patch16_224": _hf("ViTForImageClassification", "ViTConfig", num_labels=1000),
    "timm vit_small_patch16_224": _hf(
        "ViTForImageClassification",
        "ViTConfig",
        num_labels=1000,
        hidden_size=384,
        intermediate_size=1536,
        num_attention_heads=6,
    ),
    "timm swin_tiny_patch4_window7_224": _hf("SwinForImageClassification", "SwinConfig", num_labels=1000),
    "timm convnext_tiny": functools.partial(torchvision.models.convnext_tiny, weights=None),
    "timm beit_base_patch16_224": _hf(
        "BeitForImageClassification", "BeitConfig", num_labels=1000, use_relative_position_bias=True
    ),
    "timm deit_small_patch16_224": _hf(
        "DeiTForImageClassification",
        "DeiTConfig",
        num_labels=1000,
        hidden_size=384,
        intermediate_size=1536,
        num_attention_heads=6,
    ),
    "timm resnet50": _hf("ResNetForImageClassification", "ResNetConfig", num_labels=1000),
    "timm vit_small_patch14_dinov2": _hf(
        "Dinov2Model", "Dinov2Config", hidden_size=384, num_attention_heads=6, image_size=518, patch_size=14
    ),
    "torchvision vit_b_16": functools.partial(timm.create_model, "vit_base_patch16_224"),
    "torchvision resnet18": _hf(
        "ResNetForImageClassification",
        "ResNetConfig",
        num_labels=1000,
        embedding_size=64,
        hidden_sizes=[64, 128, 256, 512],
        depths=[2, 2, 2, 2],
        layer_type="basic",
    ),
    "torchvision convnext_tiny": _hf("ConvNextForImageClassification", "ConvNextConfig", num_labels=1000),
    "torchvision densenet121": functools.partial(timm.create_model, "densenet121"),
    "torchvision swin_t": functools.partial(timm.create_model, "swin_tiny_patch4_window7_224"),
    "transformers ViTForImageClassification": functools.partial(timm.create_model, "vit_base_patch16_224"),
    "transformers SwinForImageClassification": functools.partial(timm.create_model, "swin_tiny_patch4_window7_224"),
    "transformers ConvNextForImageClassification": functools.partial(timm.create_model, "convnext_tiny"),
    "transformers ResNetForImageClassification": functools.partial(torchvision.models.resnet50, weights=None),
    "transformers Dinov2ForImageClassification": functools.partial(
        timm.create_model, "vit_base_patch14_dinov2", img_size=224
    ),
    "depth": lambda: _depth_of_transformers(),
}


def _depth_of_transformers() -> Any:
    library = importlib.import_module("transformers")
    backbone = library.Dinov2Config(
        hidden_size=384,
        num_attention_heads=6,
        image_size=518,
        patch_size=14,
        out_indices=[3, 6, 9, 12],
        reshape_hidden_states=False,
    )
    config = library.DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=384,
        neck_hidden_sizes=[48, 96, 192, 384],
        fusion_hidden_size=64,
    )
    return library.DepthAnythingForDepthEstimation(config)


@functools.cache
def nets() -> dict[str, list[Net]]:
    """Half -> its networks; none is built yet."""
    every = [
        *map(_timm, _TIMM),
        *(_vision(*row) for row in _VISION),
        *(_transformer(*row) for row in _HF),
        *(_segmentation(*row) for row in _SMP),
        *_torch(),
        _depth("vits", "vitb"),
        _depth("vitb", "vits"),
    ]
    newer = [*map(_timm, _NEWER), *(_transformer(*row) for row in _HF_NEWER), *_others()]
    halves = {"a": every[::2], "b": every[1::2], "c": newer}
    for some in halves.values():
        for place, net in enumerate(some):
            net.kin["stranger"] = some[(place + len(some) // 2) % len(some)].build
    return halves
