"""What a library's own words give away: the causes that need no tables, only the right phrase.

Which library raised what is a fact that changes with versions, so it is in `data.json`: a cause, the text that says
it, the phrases of which all must be there, and perhaps a second cause that they allow. A phrase is looked for in the
text without white space and in lower case, so a terminal's line breaks do no harm. Standard library only.
"""

from __future__ import annotations

import functools
import re
from typing import Any, NamedTuple

from ..advice import resume
from ..texts import say
from .causes import CAUSES, Finding, data, words


class Sign(NamedTuple):
    """A cause, the text that says it, the phrases of which all must be there, and another cause that they allow."""

    cause: str
    text: str
    phrases: tuple[str, ...]
    other: str = ""


@functools.cache
def signs() -> tuple[Sign, ...]:
    """All signs, in order: the first that fits wins, so the more telling stand first."""
    return tuple(Sign(cause, text, tuple(phrases), *other) for cause, text, phrases, *other in data()["signs"])


@functools.cache
def _squeezed() -> list[tuple[Sign, tuple[str, ...]]]:
    return [(sign, tuple(phrase.replace(" ", "") for phrase in sign.phrases)) for sign in signs()]


def find_sign(squeezed: str) -> list[Finding]:
    """The cause that the words of an error (without white space) give away, or the two that they allow, or none."""
    lower = squeezed.lower()
    rules = (_refused, _plain, _handed_over, _code_elsewhere, _bare_end)
    return next((found for rule in rules if (found := rule(squeezed, lower))), [])


def _said(cause: str, text: str, other: str = "", **args: Any) -> list[Finding]:
    first = Finding(cause, f"signs.{text}", (), args)
    return [first, Finding(other, "signs.other", (), args)] if other else [first]


def _refused(squeezed: str, lower: str) -> list[Finding]:
    """Safe loading met an object: is it a model, or something beside the weights?"""
    refused = [name for name in dict.fromkeys(_REFUSED.findall(squeezed)) if not name.endswith(".")]
    if refused:
        args = {"refused": ", ".join(refused[:3])}
        if any(name.endswith((".ShardedTensor", ".DTensor")) for name in refused):
            return _said("sharded_model", "refused_slices", **args)
        model = next((name for name in refused if _MODEL_PATH.search(name) and not _DATA_PATH.search(name)), None)
        if model:
            return _said("whole_model", "refused_model", kind=model.rpartition(".")[2], **args)
        more = " ".join(filter(None, (CAUSES["refused_pickle"].remedy, resume(refused))))
        return _said("refused_pickle", "refused", more=more, **args)
    if "toloaddtensors" in lower:
        return _said("sharded_model", "dtensors", words="to load DTensors")
    said = _UNPICKLER.search(lower)  # what is wrong, where it is no refusal
    if not said and ("weightsunpickler" in lower or "weightsonlyloadfailed" in lower):
        if "attributeerror" in lower and "_weights_only_unpickler.py" in lower:
            return _said("version_skew", "inside_the_unpickler", words="_weights_only_unpickler.py")
        if any(word in lower for word in ("torchscriptarchive", "legacy.tarformat", "truncated")):
            return []
        return _said("refused_pickle", "refused_unnamed", words="WeightsUnpickler error")
    return []


def _plain(squeezed: str, lower: str) -> list[Finding]:
    if (tag := _TAG.search(squeezed)) and not re.fullmatch(r"(cuda|xpu|hpu)(:\d+)?|mps|meta", tag[1]):
        return _said("cuda_device", "map_location", words=tag[1], more=say("map_location", tag=repr(tag[1])))
    for sign, phrases in _squeezed():
        if all(phrase in lower for phrase in phrases):
            return _said(sign.cause, sign.text, sign.other, words=sign.phrases[-1])
    return []


def _handed_over(_squeezed: str, lower: str) -> list[Finding]:
    """A dictionary where a model was expected, or the reverse."""
    asked = [name for name in _USED_AS_MODEL.findall(lower) if name not in words("dict_attributes")]
    if asked and (asked[0] in words("model_attributes") or "load" in lower or "ordereddict" in lower):
        return _said("not_a_state_dict", "a_state_dict_used_as_a_model", words=asked[0])
    if "objecthasnoattribute'module'" in lower and (kind := _NO_MODULE_ATTRIBUTE.search(lower)):
        return _said("not_a_state_dict", "no_module_attribute", kind=kind[1], words="has no attribute 'module'")
    if _STR_AS_DICT.search(lower) and "load_state_dict" in lower:
        return _said("not_a_state_dict", "a_path_not_the_loaded_file", words="'str' object has no attribute")
    whole = [name for name in _MODEL_AS_DICT.findall(lower) if name not in words("no_model")]
    if whole and ("load_state_dict" in lower or whole[0] in ("dataparallel", "distributeddataparallel", "sequential")):
        return _said("whole_model", "loaded_a_model", kind=whole[0])
    return []


def _code_elsewhere(squeezed: str, lower: str) -> list[Finding]:
    """A pickled object whose code is not here, or is of another version."""
    if layer := _LAYER_ATTRIBUTE.search(lower):
        return _said("whole_model", "layer_of_another_version", kind=layer[1], words=layer[2])
    if gone := _NO_ATTRIBUTE.search(lower):
        return _said("whole_model", "not_in_module", kind=gone[2], words=gone[1])
    if "sourcecodeofclass" in lower and "haschanged" in lower:
        return _said("whole_model", "code_has_changed")
    if module := _NO_MODULE.search(squeezed.replace("Nomodule", "nomodule")):
        top = module[1].partition(".")[0]
        reads = any(word in lower for word in _READING) and top not in ("torch", "numpy")
        if top in words("source_folders") or reads:
            return _said("whole_model", "no_module_named", kind=top, words=module[1])
    return []


def _bare_end(squeezed: str, lower: str) -> list[Finding]:
    """Safe loading of an empty file raises EOFError without a word."""
    if "eoferror" in lower and any(word in lower for word in _READING):
        return _said("empty_file", "bare_end", "truncated_file", words="EOFError")
    return []


_UNPICKLER = re.compile(r"weightsunpicklererror:(?:\\n)*(?!unsupported(?:global|class)|trying)\w")
_TAG = re.compile(r"restoredatalocationof[\w.]{1,80}\(taggedwith([\w:]{1,40})\)")
_USED_AS_MODEL = re.compile(r"'(?:collections\.)?(?:ordereddict|dict)'objecthasnoattribute'(\w{1,60})'")
_NO_MODULE_ATTRIBUTE = re.compile(r"'(\w{1,80})'objecthasnoattribute'module'")
_STR_AS_DICT = re.compile(r"'str'objecthasnoattribute'(?:copy|keys|items|state_dict)'")
_MODEL_AS_DICT = re.compile(r"'(\w{1,80})'objecthasnoattribute'(?:copy|keys|items|values)'")
_LAYER_ATTRIBUTE = re.compile(
    r"'((?:batchnorm|conv|convtranspose|instancenorm|avgpool|maxpool|adaptiveavgpool|dropout)\d?d?|upsample|relu6?|leakyrelu|"
    r"gelu|silu|hardswish|mish|elu|prelu|sigmoid|softmax|layernorm|groupnorm|multiheadattention|transformerencoderlayer|"
    r"linear|embedding|sequential|modulelist|identity|flatten|lstm|gru|nonsynbatchnorm|syncbatchnorm)'"
    r"objecthasnoattribute'(_\w{1,60}|inplace|approximate|recompute_scale_factor|padding_mode|batch_first|total_ops)'"
)
_NO_ATTRIBUTE = re.compile(r"can'tgetattribute'([\w.]{1,80})'on<module'([\w.]{1,80})'")
_NO_MODULE = re.compile(r"nomodulenamed['\"]?([\w.]{1,80}?)(?:['\"]|$)")
_REFUSED = re.compile(
    r"(?:Unsupportedglobal:GLOBAL|Unsupportedclass|Tryingto(?:instantiateunsupported(?:class|GLOBAL|function)?"
    r"|loadunsupportedGLOBAL|callreduceforunrecognizedfunction))([A-Za-z_][\w.]{0,120}?)"
    r"(?=wasnotanallowed|\.?Pleaseuse|whose|,|$)"
)
#: Words in a class path that mean a model, not data about one.
_MODEL_PATH = re.compile(
    r"^torch\.(?:nn|fx)\.|\.nn\.|^(?:models?|nets?|networks?|modeling|archs?|backbones?|modules?)\.|\.(?:models?|networks?|modeling)\."
    r"|(?:Net|Network|Model|Module|Encoder|Decoder|Transformer|DataParallel|Detector|Classifier|Generator|Unet|UNet|ViT)(?:V?\d+)?$"
)
_DATA_PATH = re.compile(
    r"Config|^omegaconf\.|^numpy\.|^argparse\.|^pathlib\.|^collections\.|^_codecs\.|^datetime\.|callbacks"
)
_READING = (
    "torch.load(", "_legacy_load", "unpickler", "find_class", "pickle.load", "load_checkpoint", "torch/serialization",
)  # fmt: skip
