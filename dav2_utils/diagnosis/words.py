"""Words that tensor names and training files are made of, and who uses them: data for the rules in `relations`.

A word here is general knowledge about a library or a habit, not a project's own name. Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Last components of entries that count, index or measure, and hold nothing learned.
BOOKKEEPING = words("""
    num_batches_tracked total_ops total_params relative_position_index position_ids token_type_ids attn_mask
    relative_coords_table causal_mask bias_mask masked_bias inv_freq n_averaged num_updates
""")
#: Entries of a training file under which weights are kept, and entries that no model has.
CONTAINER = words("""
    model models state_dict state_dicts model_state model_state_dict model_dict state net network net_dict net_state
    net_state_dict network_state_dict weight weights params params_ema parameters generator discriminator teacher
    student depth_model ema state_dict_ema ema_state_dict model_ema ema_model module encoder decoder backbone
    state_dict_model pretrained_model policy checkpoint g g_ema d my_classifier feature_extractor
""")
TRAINING_STATE = words("""
    optimizer optimizers optimizer_state optimizer_state_dict optimizer_states optim optim_state_dict optimizerstate
    epoch epochs iter iteration iterations global_step global_steps step steps scheduler schedulers lr_scheduler
    lr_schedulers lr_scheduler_state_dict scheduler_state_dict scaler grad_scaler amp amp_scaler scaler_state_dict
    loss losses best_loss best_acc best_acc1 best_prec1 best_score best_fitness best_metric previous_best best
    metrics args arch config cfg hparams hparams_name hyper_parameters hparams_type_name callbacks loops meta
    state_meta pytorch-lightning_version pytorch_lightning_version native_amp_scaling_state rng_state
    random_rng_state training_results train_loss val_loss wandb_id updates opt date version message_hub
    param_schedulers opt_state checkpoint_callback_best datamodule_hyper_parameters task fold lr acc accuracy
""")
#: Words (also as parts of a component) of layers that a task puts at the end of a network.
HEADS = re.compile(
    r"(?:^|_)(?:heads?|projectors?|predictors?|classifiers?|cls|fc|logits?|linear_probe|online_finetuner|last_linear|"
    r"last_layer|class_embed|bbox_embed|bbox_pred|cls_score|dino_head|ibot_head|proj_head|projection_head|lm_head|neck)(?:_|\d|$)"
)
#: The same, as whole first components.
HEAD_TOPS = words("""
    neck head fc classifier bbox_head roi_head rpn_head last_linear
""")
#: First components of torchvision's and older ImageNet classifiers.
IMAGENET_TOP = words("""
    conv1 bn1 layer0 layer1 layer2 layer3 layer4 fc last_linear features classifier
""")
#: Names that are often the second name of another tensor.
TIED = re.compile(
    r"(?:^|\.)(?:lm_head\.weight|embed_tokens\.weight|(?:cls\.)?predictions\.decoder\.(?:weight|bias)|embed_out\.weight)$"
)
#: Last components that only quantised layers have.
QUANTIZED = words("""
    qweight qzeros scales g_idx _packed_params zero_point weight_scale weight_zero_point input_scale absmax quant_map
    nested_absmax nested_quant_map quant_state SCB weight_format weight_packed weight_shape weight_scale_inv
    _data _scale activation_post_process fake_quant_enabled observer_enabled min_val max_val
""")
QUANTIZED_BESIDE = frozenset({"scale", "zero_point"})  # only where the layer's weight is on the other list
#: Parts of names whose size follows from the picture's size or its number of tokens.
GEOMETRY = re.compile(
    r"pos(?:ition(?:al)?)?_?emb|rel(?:ative)?_?pos|pos_?table|position_bias_table|abs_pos|attn_mask|rel_height|rel_width|"
    r"position_index|anchors|valid_mask|freqs_c(?:is|os)|\bgrid\b|time_embed\b|temporal_embed"
)
#: Numbers of blocks at which known vision transformers end, and their token widths.
DEPTHS = frozenset({12, 24, 32, 40})
WIDTHS = frozenset({192, 384, 768, 1024, 1280, 1408, 1536, 1664})
BLOCKS = words("""
    blocks block layers layer resblocks h stages encoder_layer
""")

_DIALECTS: dict[str, tuple[str, ...]] = {
    "transformers": (
        r"attention\.(?:attention|self)\.(?:query|key|value)\b", r"layer_scale\d\.lambda1", r"attention\.output\.dense",
        r"intermediate\.dense",
        r"embeddings\.(?:patch_embeddings|cls_token|mask_token|position_embeddings|register_tokens)",
        r"fusion_stage", r"reassemble_stage", r"attention\.[qkvo]_proj", r"layernorm_(?:before|after)", r"text_model\.",
        r"vision_model\.encoder", r"self_attn\.[qkv]_proj", r"mlp\.(?:up|down|gate)_proj", r"dwconv\.dwconv",
    ),
    "OpenMMLab": (
        r"w_msa", r"ffn\.layers\.", r"\bimg_backbone", r"decode_head", r"\.ln[12]\.", r"projection\.(?:weight|bias)",
        r"rpn_head", r"roi_head",
    ),
    "timm": (
        r"conv_dw\b", r"conv_pw\b", r"conv_pwl", r"\.mlp\.fc[12]\.", r"patch_embed\.proj", r"\.conv_stem",
        r"layer_scale",
        r"attn\.qkv", r"stages\.\d+\.blocks", r"\bls[12]\.gamma", r"\.gamma_[12]\b", r"relative_position_bias_table",
        r"\bfc_norm", r"stem\.\d", r"head\.fc\.",
    ),
    "the original ConvNeXt": (r"downsample_layers\.", r"dwconv\.", r"pwconv[12]"),
    "torchvision": (r"encoder_layer_\d", r"self_attention\.in_proj", r"conv_proj\b", r"heads\.head", r"class_token"),
    "CLIP": (r"resblocks\.", r"\bln_(?:pre|post|[12])\b", r"c_fc\b", r"c_proj\b", r"visual\.proj\b"),
    "diffusers": (
        r"(?:down|up|mid)_blocks?\.", r"\bto_[qkv]\b", r"to_out\.0", r"conv_norm_out", r"time_embedding\.linear",
    ),
    "the original latent diffusion": (
        r"(?:input|output|middle)_blocks?\.", r"in_layers\.", r"emb_layers\.", r"(?:first|cond)_stage_model",
    ),
    "older weight normalisation": (r"weight_[gv]$",),
    "parametrizations": (r"parametrizations\.",),
    "fairseq": (r"sentence_encoder", r"\bdecoder\.embed_out", r"encoder_attn\.", r"self_attn\.in_proj"),
}  # fmt: skip
_COMPILED: list[tuple[str, re.Pattern[str]]] = []


#: Libraries whose names mean a foreign file or a foreign model even when only one list is shown.
TELLING_ALONE = re.compile(
    r"w_msa|ffn\.layers|conv_dw\b|pwconv\d|relative_position_bias_table|layer_scale\d\.lambda1|fusion_stage|"
    r"embeddings\.(?:patch_embeddings|cls_token|register_tokens)|encoder_layer_\d"
)


def dialects(names: Iterable[str]) -> dict[str, int]:
    """Which library's way of naming each of `names` shows: library -> number of names, most first."""
    if not _COMPILED:  # only an error with names needs these
        _COMPILED.extend((library, re.compile("|".join(parts))) for library, parts in _DIALECTS.items())
    counts: dict[str, int] = {}
    for name in names:
        library = next((library for library, pattern in _COMPILED if pattern.search(name)), "")
        if library:
            counts[library] = counts.get(library, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))
