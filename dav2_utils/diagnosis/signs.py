"""What a library's own words give away: the causes that need no tables, only the right phrase.

Which library raised what is a fact that changes with versions, so it stands here as data. A phrase is looked for in
the text without white space and in lower case, so a terminal's line breaks do no harm. To teach a new phrase, add a
`Sign`. Standard library only.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ..advice import resume
from ..texts import say
from .causes import CAUSES
from .words import words


class Sign(NamedTuple):
    """A cause, the phrases of which all must be there, and what they say more exactly."""

    cause: str
    phrases: tuple[str, ...]
    detail: str
    other: str = ""  # a second cause that the same words allow
    remedy: str = ""  # where this case has a better one than its cause


class Found(NamedTuple):
    """A sign that was found, with the words that show it."""

    cause: str
    detail: str
    evidence: str
    other: str = ""
    remedy: str = ""


_SAFETENSORS = "error while deserializing header"
_SAFE = "weights only load failed"

_FOLDER = ("Give the file itself. `dav2 diagnose FOLDER` names the checkpoints in it, or says what to do where the "
           "folder as a whole is one (torch.distributed.checkpoint).")  # fmt: skip
_ZIP = "Unpack it first (unzip FILE), and load the checkpoint that was in it."
_PULL = "Run git lfs install and git lfs pull in the clone, or download the file itself; a pointer has some 130 bytes."
_PAGE = "Open the file in a text editor to see the page (a login, a quota), and download from the direct link again."

# In order: the first that fits wins, so the more telling stand first.
SIGNS: tuple[Sign, ...] = (
    # an optimizer, or versions
    Sign("optimizer_mismatch", ("that doesn't match the size of optimizer's group",), "optimizer state"),
    Sign("optimizer_mismatch", ("loaded state dict has a different number of parameter groups",), "optimizer state"),
    Sign("version_skew", ("is a zip archive (did you mean to use torch.jit.load()?)",), "read by a torch before 1.6"),
    Sign("version_skew", ("only one file(not dir) is allowed in the zipfile",), "read by a torch before 1.6"),
    Sign("version_skew", ("but the maximum supported version for reading is",), "the reading torch is too old"),
    Sign("version_skew", ("unsupported pickle protocol",), "the reading Python is too old"),
    Sign("version_skew", ("object has no attribute '_rebuild_",), "the reading torch is too old"),
    Sign("version_skew", ("can't get attribute '_rebuild_", "torch._utils"), "the reading torch is too old"),
    Sign("version_skew", ("no module named 'numpy._core",), "written with numpy 2, read with numpy 1"),
    Sign("version_skew", (_SAFETENSORS, "unknown variant"), "a dtype that this safetensors does not know"),
    # devices
    Sign("cuda_device", ("attempting to deserialize object on a cuda device",), "no CUDA here"),
    Sign("cuda_device", ("attempting to deserialize object on cuda device",), "saved from a GPU with a higher number"),
    Sign("cuda_device", ("attempting to deserialize object on",), "saved from a device that is not here"),
    Sign("cuda_device", ("don't know how to restore data location of",), "from a device unknown here"),
    Sign("cuda_device", ("invalid device ordinal", "load"), "saved from a GPU with a higher number"),
    # what kind of file it is
    Sign("torchscript", ("torchscript archive",), "a TorchScript archive given to torch.load"),
    Sign("torchscript", ("no module named '__torch__",), "a TorchScript archive unpickled as an ordinary file"),
    Sign("torchscript", ("recursivescriptmodule' object",), "the loaded object is a scripted model, not a state dict"),
    Sign("torchscript", ("recursivescriptmodule'>",), "the loaded object is a scripted model, not a state dict"),
    Sign("torchscript", ("recursivescriptmodule object",), "the loaded object is a scripted model, not a state dict"),
    Sign("torchscript", ("failed locating file constants.pkl",), "an ordinary checkpoint given to torch.jit.load", "",
         "This is no TorchScript archive: open it with torch.load (weights_only=True) and load it into the model."),
    Sign("legacy_format", ("legacy .tar format",), "a tar archive from before torch 0.2 (or a file of zero bytes)"),
    Sign("not_a_checkpoint", ("filename 'storages' not found",), "a tar archive of something else, or only zeros"),
    Sign("legacy_format", ("'ascii' codec can't decode byte",), "a pickle written by Python 2", "not_a_checkpoint"),
    Sign("not_a_checkpoint", ("invalid load key, 'v'",), "a Git LFS pointer, not the weights themselves", "", _PULL),
    Sign("not_a_checkpoint", ("invalid load key, '<'",), "a web page (HTML or XML)", "", _PAGE),
    Sign("not_a_checkpoint", ("invalid load key, '\\x00'",), "a file that begins with zero bytes", "truncated_file"),
    Sign("not_a_checkpoint", ("invalid load key",), "no pickle: another kind of file"),
    Sign("not_a_checkpoint", ("invalid magic number; corrupt file?",), "a pickle that torch.save did not write"),
    Sign("not_a_checkpoint", ("unsupported operand 118",), "a Git LFS pointer, not the weights themselves", "", _PULL),
    Sign("not_a_checkpoint", ("unsupported operand 60",), "a web page (HTML or XML)", "", _PAGE),
    Sign("not_a_checkpoint", ("unsupported operand 149",), "a pickle that torch.save did not write", "refused_pickle"),
    Sign("not_a_checkpoint", ("unsupported operand",), "no checkpoint: another kind of file", "refused_pickle"),
    Sign("not_a_checkpoint", ("isadirectoryerror",), "a folder in place of a file", "", _FOLDER),
    Sign("not_a_checkpoint", ("file in archive is not in a subdirectory",), "a zip archive around something", "", _ZIP),
    Sign("not_a_checkpoint", ("headertoolarge",), "no safetensors file"),
    Sign("not_a_checkpoint", (_SAFETENSORS, "header too large"), "no safetensors file"),
    Sign("not_a_checkpoint", (_SAFETENSORS, "invalidheaderstart"), "no safetensors file"),
    Sign("not_a_checkpoint", (_SAFETENSORS, "invalid start character in header"), "no safetensors file"),
    Sign("not_a_checkpoint", (_SAFETENSORS, "invalid utf-8"), "no safetensors file"),
    # how much of it is there
    Sign("empty_file", ("ran out of input",), "0 bytes, or nothing readable"),
    Sign("empty_file", (_SAFETENSORS, "header too small"), "fewer bytes than a header has"),
    Sign("empty_file", ("headertoosmall",), "fewer bytes than a header has"),
    Sign("truncated_file", ("metadataincompletebuffer",), "the header promises more bytes than the file has"),
    Sign("truncated_file", ("incomplete metadata, file not fully covered",), "the header promises more bytes"),
    Sign("truncated_file", (_SAFETENSORS, "invalidheaderlength"), "the file ends inside its header"),
    Sign("truncated_file", (_SAFETENSORS, "invalid header length"), "the file ends inside its header"),
    Sign("truncated_file", (_SAFETENSORS, "header"), "the header is damaged"),
    Sign("truncated_file", ("failed finding central directory",), "a zip file without its end"),
    Sign("truncated_file", ("pytorchfilereader(", "invalid argument"), "a small zip file without its end"),
    Sign("truncated_file", ("invalid header or archive is corrupted",), "a damaged zip file"),
    Sign("truncated_file", ("pytorchstreamreader failed reading",), "a damaged zip file"),
    Sign("truncated_file", ("pytorchstreamreader failed locating file",), "a zip file in which a part is missing"),
    Sign("truncated_file", ("unexpected eof, expected",), "the file ends before its last tensors"),
    Sign("truncated_file", ("pickle data was truncated",), "the file ends inside its pickle"),
    Sign("truncated_file", ("unpickling stack underflow",), "the pickle is damaged", "not_a_checkpoint"),
    Sign("truncated_file", ("storage has wrong size: expected",), "a tensor's bytes are not all there"),
    Sign("truncated_file", ("inline_container.cc", "unexpected pos"), "not written to its end (disk full?)"),
    Sign("truncated_file", ("unpack requires a buffer of", "load"), "the file ends inside its pickle"),
    Sign("truncated_file", ("badzipfile",), "a damaged zip file"),
    # what was handed over
    Sign("not_a_state_dict", ("state_dict to be dict-like, got <class 'str'",), "a path, not the loaded file"),
    Sign("not_a_state_dict", ("state_dict to be dict-like, got <class 'pathlib",), "a path, not the loaded file"),
    Sign("not_a_state_dict", ("state_dict to be dict-like, got <class 'nonetype",), "None in place of weights"),
    Sign("not_a_state_dict", ("state_dict to be dict-like, got <class 'method",), "state_dict without its ()"),
    Sign("not_a_state_dict", ("state_dict to be dict-like, got <class 'collections",), "a container, not a state dict"),
    Sign("not_a_state_dict", ("state_dict to be dict-like, got <class 'torch.tensor",), "one tensor, no state dict"),
    Sign("not_a_state_dict", ("state_dict to be dict-like, got <class 'list",), "a list in place of a state dict"),
    Sign("not_a_state_dict", ("state_dict to be dict-like, got <class 'tuple",), "a tuple in place of a state dict"),
    Sign("whole_model", ("state_dict to be dict-like, got <class '",), "a model in place of its state dict"),
    Sign("not_a_state_dict", ("'ordereddict' object is not callable",), "a state dict used as a model"),
    Sign("not_a_state_dict", ("'collections.ordereddict' object is not callable",), "a state dict used as a model"),
    Sign("quantized", ("not implemented for 'q",), "quantised tensors for ordinary parameters"),
    Sign("quantized", ("qint8",), "quantised tensors for ordinary parameters"),
)  # fmt: skip
_SQUEEZED = tuple((sign, tuple(phrase.replace(" ", "") for phrase in sign.phrases)) for sign in SIGNS)

_USED_AS_MODEL = re.compile(r"'(?:collections\.)?(?:ordereddict|dict)'objecthasnoattribute'(\w{1,60})'")
#: What programs ask of a model, and no dictionary has.
MODEL_ATTRIBUTES = words("""
    eval train to cuda cpu half float bfloat16 double module modules parameters named_parameters named_modules
    children state_dict load_state_dict forward zero_grad requires_grad_ apply predict infer_image encode decode
    generate register_buffer share_memory fuse compile device names stride yaml model backbone features fc
    classifier
""")
_STR_AS_DICT = re.compile(r"'str'objecthasnoattribute'(?:copy|keys|items|state_dict)'")
_MODEL_AS_DICT = re.compile(r"'(\w{1,80})'objecthasnoattribute'(?:copy|keys|items|values)'")
_NO_MODEL = words("""
    str int float list tuple nonetype dict ordereddict set bytes ndarray namespace module tensor
""")
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
    r"^torch\.nn\.|\.nn\.|^(?:models?|nets?|networks?|modeling|archs?|backbones?|modules?)\.|\.(?:models?|networks?|modeling)\."
    r"|(?:Net|Network|Model|Module|Encoder|Decoder|Transformer|DataParallel|Detector|Classifier|Generator|Unet|UNet|ViT)(?:V?\d+)?$"
)
_DATA_PATH = re.compile(
    r"Config|^omegaconf\.|^numpy\.|^argparse\.|^pathlib\.|^collections\.|^_codecs\.|^datetime\.|callbacks"
)
#: Top-level names of a project's own source folders: such a module is absent because the file holds its objects.
_SOURCE_FOLDERS = words("""
    models model modules module losses loss networks network nets net utils util lib libs src core layers archs arch
    backbone backbones modeling engine trainer train options config configs data datasets dataset common helpers ops
    yolo nn components architectures architecture losses_pytorch tools
""")
_READING = (
    "torch.load(",
    "_legacy_load",
    "unpickler",
    "find_class",
    "pickle.load",
    "load_checkpoint",
    "torch/serialization",
)


def find_sign(squeezed: str) -> Found | None:
    """The cause that the words of an error give away; `squeezed` is the text without white space."""
    lower = squeezed.lower()
    for rule in (_refused, _plain, _handed_over, _code_elsewhere, _bare_end):
        if found := rule(squeezed, lower):
            return found
    return None


_TAG = re.compile(r"restoredatalocationof[\w.]{1,80}\(taggedwith([\w:]{1,40})\)")
_SLICES = "tensors of which each process holds a slice"


def _refused(squeezed: str, lower: str) -> Found | None:
    """Safe loading met an object: is it a model, or something beside the weights?"""
    refused = [name for name in dict.fromkeys(_REFUSED.findall(squeezed)) if not name.endswith(".")]
    if refused:
        names = ", ".join(refused[:3])
        if any(name.endswith((".ShardedTensor", ".DTensor")) for name in refused):
            return Found("sharded_model", _SLICES, f"safe loading refused {names}")
        model = next((name for name in refused if _MODEL_PATH.search(name) and not _DATA_PATH.search(name)), None)
        if model:
            return Found("whole_model", f"a pickled {model.rpartition('.')[2]}", f"safe loading refused {names}")
        more = " ".join(filter(None, (CAUSES["refused_pickle"].remedy, resume(refused))))
        return Found("refused_pickle", f"refused: {names}", f"safe loading refused {names}", remedy=more)
    if "toloaddtensors" in lower:
        return Found("sharded_model", _SLICES, "the words 'to load DTensors'")
    if "unsupportedoperand" not in lower and ("weightsunpickler" in lower or "weightsonlyloadfailed" in lower):
        if any(word in lower for word in ("torchscriptarchive", "legacy.tarformat", "truncated")):
            return None
        return Found("refused_pickle", "an object that is not named in the text", "WeightsUnpickler error")
    return None


def _plain(_squeezed: str, lower: str) -> Found | None:
    if (tag := _TAG.search(_squeezed)) and not re.fullmatch(r"(cuda|xpu|hpu)(:\d+)?|mps|meta", tag[1]):
        detail = "map_location is no device that torch knows"
        return Found("cuda_device", detail, f"tagged with {tag[1]}", remedy=say("map_location", tag=repr(tag[1])))
    for sign, phrases in _SQUEEZED:
        if all(phrase in lower for phrase in phrases):
            return Found(sign.cause, sign.detail, f"the words {sign.phrases[-1]!r}", sign.other, sign.remedy)
    return None


def _handed_over(_squeezed: str, lower: str) -> Found | None:
    """A dictionary where a model was expected, or the reverse."""
    asked = [name for name in _USED_AS_MODEL.findall(lower) if name in MODEL_ATTRIBUTES]
    if asked:
        return Found("not_a_state_dict", "a state dict used as a model", f"the dictionary was asked for {asked[0]!r}")
    if _STR_AS_DICT.search(lower) and "load_state_dict" in lower:
        return Found("not_a_state_dict", "a path, not the loaded file", "a str was asked for what a dictionary has")
    whole = [name for name in _MODEL_AS_DICT.findall(lower) if name not in _NO_MODEL]
    if whole and ("load_state_dict" in lower or whole[0] in ("dataparallel", "distributeddataparallel", "sequential")):
        return Found("whole_model", f"the loaded object is a {whole[0]}", "a model was asked for what a dictionary has")
    return None


def _code_elsewhere(squeezed: str, lower: str) -> Found | None:
    """A pickled object whose code is not here, or is of another version."""
    if layer := _LAYER_ATTRIBUTE.search(lower):
        return Found("whole_model", "a model pickled with another torch version", f"{layer[1]} lacks {layer[2]!r}")
    if gone := _NO_ATTRIBUTE.search(lower):
        return Found("whole_model", f"an object of the module {gone[2]}", f"{gone[1]!r} is not in {gone[2]}")
    if "sourcecodeofclass" in lower and "haschanged" in lower:
        return Found("whole_model", "a pickled model whose code has changed", "the warning about changed source code")
    if module := _NO_MODULE.search(squeezed.replace("Nomodule", "nomodule")):
        top = module[1].partition(".")[0]
        if top in _SOURCE_FOLDERS or (any(word in lower for word in _READING) and top not in ("torch", "numpy")):
            return Found("whole_model", f"objects of the source folder {top!r}", f"no module named {module[1]!r}")
    return None


def _bare_end(squeezed: str, lower: str) -> Found | None:
    """Safe loading of an empty file raises EOFError without a word."""
    if "eoferror" in lower and any(word in lower for word in _READING):
        return Found("empty_file", "0 bytes, or the end came too early", "EOFError while reading", "truncated_file")
    return None
