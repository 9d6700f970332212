"""The named causes of a failed load: what to run, where to read more, and whether renaming can be the whole repair.

What is said about each (title, sign, explanation for a beginner, remedy) is data for translators: `causes` in
`locale/en.json`. To add a cause, add a row here, its texts there, and a rule that finds it; see CONTRIBUTING.md.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..texts import say


@dataclass(frozen=True)
class Cause:
    """One way in which loading weights fails."""

    name: str
    code: str = ""  # the command or the lines to run
    reference: str = ""  # where to read more
    repairable: bool = False  # can unwrapping and renaming alone be the whole repair? A single case may need more

    @property
    def title(self) -> str:
        return say(f"causes.{self.name}.title")

    @property
    def sign(self) -> str:
        """How a person recognises it."""
        return say(f"causes.{self.name}.sign")

    @property
    def explanation(self) -> str:
        """For somebody who meets it for the first time."""
        return say(f"causes.{self.name}.explanation")

    @property
    def remedy(self) -> str:
        """What to do, in one or two sentences."""
        return say(f"causes.{self.name}.remedy")


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
    # names differ: unwrapping and renaming may be enough
    Cause("wrapper_prefix", code=_FIX, reference=_DAV2 + "/issues/100", repairable=True),
    Cause(
        "model_is_wrapped",
        code="model.module.load_state_dict(state_dict)",
        reference=_TORCH + "generated/torch.nn.DataParallel.html",
        repairable=True,
    ),
    Cause(
        "outer_module_prefix",
        code=_FIX,
        reference="https://lightning.ai/docs/pytorch/stable/common/checkpointing_basic.html",
        repairable=True,
    ),
    Cause(
        "missing_outer_prefix",
        code="model.PATH.load_state_dict(state_dict)    # PATH: what stands in front of the names",
        reference=_LOAD_STATE_DICT,
        repairable=True,
    ),
    Cause("training_container", code=_FIX, reference=_DAV2 + "/issues/8", repairable=True),
    Cause(
        "ema_copy",
        code='weights = {name: t for name, t in weights.items() if "ema" not in name.split(".")[0]}',
        reference=_TORCH + "optim.html#weight-averaging-swa-and-ema",
    ),
    Cause("other_naming", code="dav2 diagnose weights.pth", reference=_LOAD_STATE_DICT, repairable=True),
    # shapes differ, or parts are absent
    Cause("wrong_encoder", code="dav2 inspect weights.pth    # says which encoder it is", reference=_DAV2 + "#usage"),
    Cause("input_geometry", reference="https://arxiv.org/abs/2010.11929"),
    Cause(
        "different_model",
        code="dav2 inspect weights.pth --keys    # what the file really holds",
        reference=_LOAD_STATE_DICT,
    ),
    Cause(
        "bookkeeping_buffers",
        code="model.load_state_dict(weights, strict=False)    # then check that only these names are reported",
        reference=_TORCH + "generated/torch.nn.Module.html#torch.nn.Module.register_buffer",
    ),
    # the file cannot be read
    Cause("truncated_file", code="ls -l weights.pth", reference=_SERIALIZATION),
    Cause("empty_file", code="ls -l weights.pth", reference=_SERIALIZATION),
    Cause("not_a_checkpoint", code="head -c 200 weights.pth", reference="https://git-lfs.com"),
    Cause("refused_pickle", code=_FIX, reference=_TORCH + "notes/serialization.html#weights-only"),
    Cause("whole_model", code=_FIX, reference="https://docs.pytorch.org/tutorials/beginner/saving_loading_models.html"),
    Cause(
        "torchscript",
        code='torch.jit.load("model.pt", map_location="cpu").state_dict()',
        reference=_TORCH + "generated/torch.jit.load.html",
    ),
    Cause(
        "legacy_format",
        code='torch.load("old.pth", encoding="latin1", weights_only=False)    # only if you trust it',
        reference=_TORCH_LOAD,
    ),
    Cause("cuda_device", code='torch.load("latest.pth", map_location="cpu", weights_only=True)', reference=_TORCH_LOAD),
    Cause(
        "not_a_state_dict",
        code='model.load_state_dict(torch.load("weights.pth", map_location="cpu", weights_only=True))',
        reference="https://docs.pytorch.org/tutorials/beginner/saving_loading_models.html",
    ),
    # seen now and then
    Cause("adapter_weights", reference="https://huggingface.co/docs/peft"),
    Cause("flat_parameters", reference=_TORCH + "fsdp.html"),
    Cause("head_size"),
    Cause("tied_weights", reference="https://huggingface.co/docs/safetensors/torch_shared_tensors"),
    Cause("extra_head"),
    Cause("backbone_only"),
    Cause("quantized", reference=_TORCH + "quantization.html"),
    Cause(
        "sharded_model",
        code="torch.distributed.checkpoint.state_dict.get_model_state_dict(model, "
        "options=StateDictOptions(full_state_dict=True, cpu_offload=True))",
        reference=_TORCH + "distributed.checkpoint.html#torch.distributed.checkpoint.state_dict.get_model_state_dict",
    ),
    Cause("damaged_names"),
    Cause("duplicate_names"),
    Cause("version_skew"),
    Cause("optimizer_mismatch"),
    Cause("nan_weights"),
)

#: Every cause by its name: the first 20 must be recognised, of the others silence is as good as the right name.
CAUSES: dict[str, Cause] = {cause.name: cause for cause in _ALL}
