"""The named causes of a failed load, as data: what one sees, what it means, what to do.

To add a cause, add an entry here and a rule in `explanation.py` (or in `signs.py`, when a library's words alone tell
it). `sign` is how a person recognises it, `explanation` is for somebody who meets it for the first time, `code` is
what to run. `repairable` says whether unwrapping and renaming alone *can* be the whole repair; a single case may still
need more, so `CauseFound.repairable_by_renaming` is decided case by case. Standard library only.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Cause:
    """One way in which loading weights fails."""

    name: str
    title: str
    sign: str  # how to recognise it
    explanation: str  # for a beginner
    remedy: str  # one or two sentences
    code: str = ""  # the command or the lines to run
    reference: str = ""  # where to read more
    repairable: bool = False  # can unwrapping and renaming alone be the whole repair?


@dataclass
class CauseFound:
    """A cause recognised in a file or in an error text, with what shows it."""

    cause: str  # a name in CAUSES
    detail: str  # finer: which wrapper, which encoder, which container
    evidence: str  # counts and names
    remedy: str
    repairable_by_renaming: bool = False

    @property
    def title(self) -> str:
        return CAUSES[self.cause].title

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


_TORCH = "https://docs.pytorch.org/docs/stable/"
_LOAD_STATE_DICT = _TORCH + "generated/torch.nn.Module.html#torch.nn.Module.load_state_dict"
_TORCH_LOAD = _TORCH + "generated/torch.load.html"
_SERIALIZATION = _TORCH + "notes/serialization.html"
_DAV2 = "https://github.com/DepthAnything/Depth-Anything-V2"
_FIX = "dav2 fix latest.pth"

_ALL = (
    # ---- names differ: unwrapping and renaming may be enough -------------------------------------------------------
    Cause(
        "wrapper_prefix", "The names carry a wrapper's prefix",
        "The same names on both sides, except for a component such as module. or _orig_mod. on one of them.",
        "DistributedDataParallel, torch.compile and their like hold the real model as an attribute, so every name that "
        "is saved through them gets that attribute in front. The weights are the same; only the labels are longer.",
        "Take the wrapper's component off every name, as a whole component and nowhere else; no number changes.",
        _FIX, _DAV2 + "/issues/100", True,
    ),
    Cause(
        "model_is_wrapped", "The model is wrapped, the file is not",
        "Every missing name starts with module., the file's own names do not, and the class is often DataParallel.",
        "Here the file is plain, and the model in memory is the one that was wrapped before its weights were loaded.",
        "Load into the model inside the wrapper, or load before wrapping; the file is fine as it is.",
        "model.module.load_state_dict(state_dict)", _TORCH + "generated/torch.nn.DataParallel.html", True,
    ),
    Cause(
        "outer_module_prefix", "The file comes from a larger model around this one",
        "Every name in the file has one leading path more (model., core.core.) than the model's names.",
        "The weights were saved from an object that holds your model as one of its attributes, such as a Lightning "
        "module or a larger network; that attribute's name stands in front of every name.",
        "Take that one leading path off; where the file holds further modules, keep only those below the path.",
        _FIX, "https://lightning.ai/docs/pytorch/stable/common/checkpointing_basic.html", True,
    ),
    Cause(
        "missing_outer_prefix", "The file is a part of the model it is loaded into",
        "Every name in the file exists in the model under one more leading path, and often the model needs more still.",
        "The file belongs to an inner part, such as the relative depth network, and is loaded into a larger model "
        "that holds this part and more.",
        "Load it into the inner module itself. The modules around it are not in this file: renaming cannot make them.",
        "model.PATH.load_state_dict(state_dict)    # PATH: what stands in front of the names", _LOAD_STATE_DICT, True,
    ),
    Cause(
        "training_container", "The weights are one entry of a training checkpoint",
        "The unexpected names are few and are no tensors: model, optimizer, epoch, state_dict, previous_best.",
        "A training script saves more than the weights: optimizer, epoch and scores, in one dictionary. The weights "
        "are one level down in it.",
        "Take the weights out of the dictionary first, then look at the names again: they often carry module. as well.",
        _FIX, _DAV2 + "/issues/8", True,
    ),
    Cause(
        "ema_copy", "The file also holds a moving average of the weights",
        "Surplus names with ema in them (ema_backbone_..., generator_ema., model_ema.) beside the ordinary ones.",
        "Many trainings keep a smoothed copy of the weights (an exponential moving average) next to the raw ones. The "
        "model that you built has no place for the second copy.",
        "Decide which of the two sets you want, then keep that one and leave the other out; the averaged set is "
        "usually the one to use for inference.",
        'weights = {name: t for name, t in weights.items() if "ema" not in name.split(".")[0]}',
        "https://docs.pytorch.org/docs/stable/optim.html#weight-averaging-swa-and-ema",
    ),
    Cause(
        "other_naming", "The same network under other names",
        "Both sides look like the same architecture, but a part is called differently (query, key, value for qkv).",
        "Each library names the parts in its own way, and so do its versions. Some also split or merge tensors.",
        "Take the file made for this library and version, or convert with the script that its makers provide.",
        "dav2 diagnose weights.pth", _LOAD_STATE_DICT, True,
    ),
    # ---- shapes differ, or parts are absent ------------------------------------------------------------------------
    Cause(
        "wrong_encoder", "The file and the model have different encoder sizes",
        "Sizes differ by one constant ratio in every layer (384, 768, 1024, 1536), or whole blocks lack from 12 on.",
        "The network comes in several sizes. The file was made with one, and the model is built with another.",
        "Build the model with the encoder that the file was made with; no renaming can change a size.",
        "dav2 inspect weights.pth    # says which encoder it is", _DAV2 + "#usage",
    ),
    Cause(
        "input_geometry", "Image size, patch size or channels differ",
        "Only the position tables, the patch embedding or the first convolution differ in size.",
        "A vision transformer keeps one position entry per patch, so its table depends on image size and patch size; "
        "a first convolution depends on the number of input channels.",
        "Build the model with the image size, patch size and channels of the training.",
        "", "https://arxiv.org/abs/2010.11929",
    ),
    Cause(
        "different_model", "The file belongs to a different model",
        "Few or no names agree, or scattered layers differ in shape, even without any prefix.",
        "The weights were made for another class, another version of the code, or other constructor options.",
        "Find the class, the version and the options with which the file was trained, and build exactly that.",
        "dav2 inspect weights.pth --keys    # what the file really holds", _LOAD_STATE_DICT,
    ),
    Cause(
        "bookkeeping_buffers", "Only bookkeeping entries differ",
        "All names end in num_batches_tracked, relative_position_index, position_ids, total_ops or total_params.",
        "These entries are counters, index tables and profiler notes, not learned weights. Library versions differ in "
        "whether they are saved.",
        "Leave the surplus entries out (or let the model keep its own); nothing that was learned is lost.",
        "model.load_state_dict(weights, strict=False)    # then check that only these names are reported",
        _TORCH + "generated/torch.nn.Module.html#torch.nn.Module.register_buffer",
    ),
    # ---- the file cannot be read -----------------------------------------------------------------------------------
    Cause(
        "truncated_file", "The file is cut off or damaged",
        "failed finding central directory; unexpected EOF, expected N more bytes; MetadataIncompleteBuffer.",
        "The download or the copy stopped early, or the disk was full when the file was written.",
        "Compare the file's size with the original's, and download or copy it again; what is cut off is lost.",
        "ls -l weights.pth", _SERIALIZATION,
    ),
    Cause(
        "empty_file", "The file is empty",
        "EOFError: Ran out of input, and a size of 0 bytes.",
        "Saving or downloading was interrupted before the first byte arrived.",
        "Download it again, or go back to the checkpoint before; there is nothing in this one.",
        "ls -l weights.pth", _SERIALIZATION,
    ),
    Cause(
        "not_a_checkpoint", "The file is something else",
        "invalid load key, '<' or 'v'; Invalid magic number; HeaderTooLarge.",
        "In place of the weights there is a web page (a login or quota notice), a Git LFS pointer of 130 bytes, or a "
        "file of another program under a familiar name.",
        "Look at the first bytes. A pointer: run git lfs pull. A page: download again from the direct link. Another "
        "format: open it with the program that wrote it.",
        "head -c 200 weights.pth", "https://git-lfs.com",
    ),
    Cause(
        "refused_pickle", "The file holds objects that safe loading refuses",
        "Weights only load failed ... Unsupported global: GLOBAL ...",
        "A .pth file is a pickle, and a pickle can run code. Safe loading (the default since torch 2.6) takes tensors "
        "and plain containers only; this file also holds other objects.",
        "`dav2 fix` takes the weights out and runs nothing in the file. Where it refuses: if the refused type is "
        "harmless data, allow exactly that one (torch.serialization.safe_globals). Never load a file that you do not "
        "trust without the check.",
        _FIX, _SERIALIZATION + "#weights-only",
    ),
    Cause(
        "whole_model", "The file holds a pickled model, not its weights",
        "No module named 'models'; Can't get attribute 'X' on <module '__main__'>; refused globals of model classes.",
        "torch.save(model) stores a reference to the class, not the class itself; it opens only where the same code "
        "can be imported under the same path, and opening it runs code.",
        "`dav2 fix` takes the weights out and runs nothing in the file. Where it refuses: in the project that wrote "
        "it, load it once if you trust it, and save model.state_dict() alone.",
        _FIX,
        "https://docs.pytorch.org/tutorials/beginner/saving_loading_models.html",
    ),
    Cause(
        "torchscript", "A TorchScript archive and a state dict were mistaken for each other",
        "Cannot use weights_only=True with TorchScript archives; RecursiveScriptModule; No module named '__torch__'.",
        "A TorchScript file holds a compiled program together with its weights, and torch.jit.load is its door; a "
        "state dict goes through torch.load.",
        "Open it with torch.jit.load and take its state_dict() from there.",
        'torch.jit.load("model.pt", map_location="cpu").state_dict()', _TORCH + "generated/torch.jit.load.html",
    ),
    Cause(
        "legacy_format", "The file was written by a very old version",
        "legacy .tar format; UnicodeDecodeError: 'ascii' codec can't decode byte ... while unpickling.",
        "Before torch 0.2 checkpoints were tar archives, and Python 2 wrote its strings in another way. Safe loading "
        "reads neither.",
        "If you trust the file, load it once with the unsafe reader (Python 2 files with encoding='latin1') on a "
        "machine without secrets and save it anew.",
        'torch.load("old.pth", encoding="latin1", weights_only=False)    # only if you trust it', _TORCH_LOAD,
    ),
    Cause(
        "cuda_device", "The file's tensors belong to a device that is not here",
        "Attempting to deserialize object on a CUDA device but torch.cuda.is_available() is False.",
        "Each tensor remembers the device it was saved from, and torch.load puts it back there unless told otherwise.",
        "Say where the tensors should go when you load; the file itself is fine.",
        'torch.load("latest.pth", map_location="cpu", weights_only=True)', _TORCH_LOAD,
    ),
    Cause(
        "not_a_state_dict", "A state dict and a model, or a path, were mixed up",
        "'collections.OrderedDict' object has no attribute 'eval'; Expected state_dict to be dict-like, got ...'str'",
        "The file holds weights only: a dictionary of names and tensors. A model is built by code, and the weights are "
        "then loaded into it.",
        "Build the model, load the file into a dictionary, and hand this dictionary to the model.",
        'model.load_state_dict(torch.load("weights.pth", map_location="cpu", weights_only=True))',
        "https://docs.pytorch.org/tutorials/beginner/saving_loading_models.html",
    ),
    # ---- seen now and then ------------------------------------------------------------------------------------------
    Cause(
        "adapter_weights", "The names belong to an adapter (LoRA)",
        "lora_A, lora_B, lora_magnitude_vector or base_model.model. in the names.",
        "An adapter is a small addition to a model, saved alone or merged under its own names.",
        "Load the base model first and the adapter with the library that made it.",
        "", "https://huggingface.co/docs/peft",
    ),
    Cause(
        "flat_parameters", "The file holds flattened FSDP shards",
        "Names end in _flat_param.",
        "FullyShardedDataParallel glues many tensors into one and gives every process a slice of it.",
        "Gather a full state dict in the training program (FULL_STATE_DICT) and save that; names alone cannot undo it.",
        "", _TORCH + "fsdp.html",
    ),
    Cause(
        "head_size", "Only the last layers differ in size",
        "Classifier or embedding differ in the first dimension alone: 80, 81, 91, 1000, 1001.",
        "The file was trained for another number of classes or tokens than the model is built for.",
        "Build the model with the number of the file, or leave these layers out and train them anew.",
    ),
    Cause(
        "tied_weights", "A shared tensor was saved once",
        "A safetensors file, and the missing names are twins of present ones (lm_head.weight).",
        "Two names can stand for one tensor in memory; some formats keep only one of them.",
        "Let the model tie the two again after loading, or fill the missing one from its twin.",
        "", "https://huggingface.co/docs/safetensors/torch_shared_tensors",
    ),
    Cause(
        "extra_head", "The file has one more head, used in training only",
        "All surplus names belong to one head or projector.",
        "Self-supervised training puts a head on the network that is thrown away afterwards.",
        "Leave that family of names out; the rest is complete.",
    ),
    Cause(
        "backbone_only", "The file holds the backbone, not the whole model",
        "The whole head or neck is missing, and the file looks like ImageNet or DINOv2 weights.",
        "Such a file is where a training starts from, not its result.",
        "To train, load it into the backbone alone. To predict, get the weights of the whole model.",
    ),
    Cause(
        "quantized", "One side is quantised",
        "qweight, scales, zero_point, _packed_params in the names; or equal shapes in a copying error.",
        "Quantised layers store small integers with scales under names of their own.",
        "Prepare the model in the same quantised way before loading, or use the file in full precision.",
        "", _TORCH + "quantization.html",
    ),
    Cause(
        "sharded_model", "Only a part is here: the model is split over processes or files",
        "DTensor or ShardedTensor; NAME-00001-of-00004; one side of the size lines is [0], or a fraction of the other.",
        "With FSDP, tensor parallelism and DeepSpeed ZeRO-3 each process holds a slice of every tensor, and large "
        "models are saved in several files. One slice, or one file, is not the model.",
        "Gather the weights in the training program (get_model_state_dict with full_state_dict=True, on every "
        "process), and save them on one of them.",
        "torch.distributed.checkpoint.state_dict.get_model_state_dict(model, "
        "options=StateDictOptions(full_state_dict=True, cpu_offload=True))",
        _TORCH + "distributed.checkpoint.html#torch.distributed.checkpoint.state_dict.get_model_state_dict",
    ),
    Cause(
        "damaged_names", "An earlier renaming damaged the names",
        "Names that begin in the middle of a word, or scalars on the names of weights.",
        "A script cut a fixed number of characters off, or paired names by position.",
        "Go back to the file before that renaming and strip whole components instead.",
    ),
    Cause(
        "duplicate_names", "Every tensor is there twice",
        "Two complete families with the same endings (_forward_module.module. and _original_module.).",
        "The saved object holds the model under two attributes, so both appear.",
        "Keep one of the two families.",
    ),
    Cause(
        "version_skew", "The file is newer than the library that reads it",
        "is a zip archive (did you mean to use torch.jit.load()?); No module named 'numpy._core'.",
        "File formats grow, and an older library does not know what a newer one wrote.",
        "Update torch (numpy, safetensors), or have the file saved again with the older version.",
    ),
    Cause(
        "optimizer_mismatch", "The optimizer's state does not fit",
        "loaded state dict contains a parameter group that doesn't match the size of optimizer's group.",
        "The weights are fine; the optimizer was saved for another set of trainable parameters.",
        "Load the weights alone and start the optimizer fresh, or freeze the same parameters as in the training.",
    ),
)  # fmt: skip

#: Every cause by its name: the first 20 must be recognised, of the other 12 silence is as good as the right name.
CAUSES: dict[str, Cause] = {cause.name: cause for cause in _ALL}
