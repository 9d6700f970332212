"""Failed loads made from networks that load: each cause as a transformation, each error raised by torch itself.

A kind of failure is a function from a `Net` to a model and a file that does not load into it, decorated with the causes
that a careful expert would accept, the very one first. Whether renaming alone repairs it is never claimed: `Made.back`
says which name of the file is which of the model, and the answer is whether that loads strictly. How people paste such
an error is in `pasting`. Torch alone; no weights, as everything lies on the meta device.
"""

from __future__ import annotations

import copy
import random
import re
import traceback
import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

State = Mapping[str, torch.Tensor]
Build = Callable[[], nn.Module]


@dataclass
class Net:
    """A network, and its relatives: the same one in another size, with other classes, from another library."""

    name: str
    build: Build
    kin: dict[str, Build] = field(default_factory=dict)  # see KIN
    family: str = ""  # two nets of one family are too alike to be "another network"
    words: dict[str, str] | None = None  # component -> invented one, where the names are made up
    _relatives: dict[str, nn.Module] = field(default_factory=dict, repr=False)

    def relative(self, which: str) -> nn.Module | None:
        if which not in self._relatives and which in self.kin:
            self._relatives[which] = self._built(self.kin[which])
        return self._relatives.get(which)

    @cached_property
    def model(self) -> nn.Module:
        return self._built(self.build)

    @cached_property
    def state(self) -> State:
        return self.model.state_dict()

    def _built(self, build: Build) -> nn.Module:
        with torch.device("meta"), Uninitialised(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = build()
        if self.words is None:
            return model
        state = model.state_dict()
        return Named({made_up(name, self.words): tensor for name, tensor in state.items()}, "Zorvex")

    def in_made_up_words(self) -> Net:
        """The same network and relatives, every component of every name replaced one-to-one by an invented one."""
        return Net(self.name, self.build, self.kin, self.family, words={})


class Uninitialised(TorchFunctionMode):
    """Leaves out filling tensors with numbers, which takes most of the time that building a network takes."""

    FILLS = re.compile(
        r"(.*_)?(normal|uniform|erfinv|mul|add|sub|div|clamp|fill|zero|zeros|ones|copy|constant|orthogonal)_"
    )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if args and getattr(args[0], "is_meta", False) and self.FILLS.fullmatch(getattr(func, "__name__", "")):
            return args[0]
        return func(*args, **(kwargs or {}))


class Named(nn.Module):
    """A module with exactly these names and shapes, in this order."""

    def __init__(self, table: State, title: str) -> None:
        super().__init__()
        self.__class__ = type(title, (Named,), {})
        for name, tensor in table.items():
            *path, last = name.split(".")
            place: nn.Module = self
            for part in path:
                if part not in place._modules:
                    place._modules[part] = nn.Module()
                place = place._modules[part]  # type: ignore[assignment]
            place._buffers[last] = tensor


def made_up(name: str, words: dict[str, str]) -> str:
    """`name` in invented words; numbers stay. `words` keeps what has been invented."""
    return ".".join(part if part.isdigit() else _invented(part, words) for part in name.split("."))


def _invented(part: str, words: dict[str, str]) -> str:
    if part not in words:
        rng, taken = random.Random(part), set(words.values())
        while (word := "".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(3))) in taken:
            pass
        words[part] = word
    return words[part]


@dataclass
class Made:
    """A model, and a file that does not load into it."""

    model: nn.Module
    file: Any  # what torch.load would give
    back: dict[str, str] | None = None  # name in the file -> name in the model, where renaming is the repair
    weights: State | None = None  # the weights inside the file, where it is a container

    @property
    def table(self) -> State:
        return self.file if self.weights is None else self.weights

    @cached_property
    def renaming(self) -> bool | None:
        """Whether renaming alone repairs it: a strict load shows it, shapes refute it; None: some entries must go."""
        model = self.model.state_dict()
        if self.back is not None:
            self.model.load_state_dict({self.back[name]: t for name, t in self.table.items() if name in self.back})
            return True if len(self.back) == len(self.table) else None
        shapes = [Counter(tuple(t.shape) for t in s.values() if hasattr(t, "shape")) for s in (model, self.table)]
        return False if shapes[0] != shapes[1] else None


@dataclass(frozen=True)
class Kind:
    """One way of failing."""

    name: str
    causes: tuple[str, ...]  # the very cause, then those that a careful expert would accept as well
    make: Callable[[Net, random.Random], Made | None]
    structural: bool  # whether structure alone shows it, in a network with invented names


KINDS: dict[str, Kind] = {}
Maker = Callable[[Net, random.Random], "Made | None"]


def kind(*causes: str, structural: bool = True) -> Callable[[Maker], Maker]:
    def enter(make: Maker) -> Maker:
        name = make.__name__.strip("_")
        KINDS[name] = Kind(name, causes, make, structural)
        return make

    return enter


@dataclass
class Failure:
    """A made failure with the error that torch raised."""

    net: str
    kind: Kind
    made: Made
    text: str  # the last lines that a person sees
    trace: str  # all of them


def failures(net: Net, kinds: Mapping[str, Kind] | None = None) -> Iterator[Failure]:
    """Every kind that this network can fail in; what loads after all, or does not apply, is left out."""
    for each in (kinds or KINDS).values():
        if net.words is not None and not each.structural:
            continue
        made = each.make(net, random.Random(f"{net.name} {each.name}"))
        error = None if made is None else error_of(made)
        if made is not None and error is not None:
            said = "".join(traceback.format_exception_only(error))
            yield Failure(net.name, each, made, said, "".join(traceback.format_exception(error)))


def error_of(made: Made) -> Exception | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made.model.load_state_dict(copy.copy(made.file))  # some rename within their argument
    except Exception as error:
        return error
    return None


# what the transformations are made of


def like(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def renamed(state: State, rule: Callable[[str], str]) -> tuple[State, dict[str, str]]:
    """The state under other names, and the way back. A rule that makes two names one gives nothing new."""
    back = {rule(name): name for name in state}
    return ({new: state[old] for new, old in back.items()}, back) if len(back) == len(state) else (state, {})


def under(prefix: str, state: State) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def moved(net: Net, rule: Callable[[str], str]) -> Made | None:
    """A file under other names, with the way back; nothing where the rule changes nothing."""
    file, back = renamed(net.state, rule)
    return None if all(new == old for new, old in back.items()) else Made(net.model, file, back)


def title(net: Net) -> str:
    return type(net.model).__name__


def learned(state: State) -> dict[str, torch.Tensor]:
    return {name: t for name, t in state.items() if t.is_floating_point() and t.dim()}


def matrices(state: State) -> dict[str, torch.Tensor]:
    return {name: t for name, t in learned(state).items() if t.dim() == 2 and min(t.shape) > 1}


def numbered(state: State) -> list[str]:
    """Paths below which parts are numbered (`blocks` for blocks.0., blocks.1., ...), the one with most names first."""
    below: dict[str, Counter[str]] = {}
    for name in state:
        path = name.split(".")
        for place in range(1, len(path) - 1):
            if path[place].isdigit():
                below.setdefault(".".join(path[:place]), Counter())[path[place]] += 1
    many = {path: sum(found.values()) for path, found in below.items() if len(found) > 1 and min(found.values()) > 2}
    return sorted(many, key=lambda path: -many[path])


def blocks(state: State) -> list[str]:
    """Paths of single blocks (`blocks.0`, `layers.1.blocks.0`), those that hold no blocks themselves."""
    lists = numbered(state)
    inner = [path for path in lists if not any(other.startswith(path + ".") for other in lists)]
    found = {}
    for name in state:
        path = next((path for path in inner if name.startswith(path + ".")), None)
        if path is not None and (number := name[len(path) + 1 :].split(".")[0]).isdigit():
            found[f"{path}.{number}"] = None
    return list(found)


def parts(state: State) -> Counter[str]:
    """First components, each with how many names it has."""
    return Counter(name.split(".")[0] for name in state)


def inner_components(state: State) -> Counter[str]:
    """Components that are neither numbers nor last, each with how many names have it."""
    return Counter(part for name in state for part in set(name.split(".")[:-1]) if not part.isdigit())


def head_of(net: Net) -> list[str]:
    """The names of the last layer, where a relative without it shows them."""
    bare = net.relative("headless")
    there = net.state if bare is None else bare.state_dict()
    return [name for name in net.state if name not in there]


def loads(model: nn.Module, state: Any) -> bool:
    return error_of(Made(model, state)) is None


# wrappers


@kind("wrapper_prefix")
def data_parallel(net: Net, rng: random.Random) -> Made:
    file = nn.DataParallel(net.model).state_dict()
    return Made(net.model, file, {name: name[7:] for name in file})


@kind("wrapper_prefix")
def compiled(net: Net, rng: random.Random) -> Made | None:
    return moved(net, lambda name: "_orig_mod." + name)


@kind("wrapper_prefix")
def compiled_and_parallel(net: Net, rng: random.Random) -> Made | None:
    front = rng.choice(["module._orig_mod.", "_orig_mod.module.", "module.module."])
    return moved(net, lambda name: front + name)


@kind("wrapper_prefix")
def wrapped_inside(net: Net, rng: random.Random) -> Made | None:
    part, _ = parts(net.state).most_common(1)[0]
    return moved(net, lambda name: re.sub(rf"^{re.escape(part)}\.", f"{part}.module.", name))


@kind("wrapper_prefix")
def fsdp_wrapped(net: Net, rng: random.Random) -> Made | None:
    return moved(net, lambda name: "_fsdp_wrapped_module." + _after_blocks(net, name, "_fsdp_wrapped_module"))


@kind("wrapper_prefix")
def checkpoint_wrapped(net: Net, rng: random.Random) -> Made | None:
    return moved(net, lambda name: _after_blocks(net, name, "_checkpoint_wrapped_module"))


def _after_blocks(net: Net, name: str, component: str) -> str:
    for block in blocks(net.state):
        if name.startswith(block + "."):
            return f"{block}.{component}{name[len(block) :]}"
    return name


@kind("wrapper_prefix")
def averaged(net: Net, rng: random.Random) -> Made:
    file = OrderedDict(n_averaged=torch.zeros(()), **under("module.", net.state))
    return Made(net.model, file, {name: name[7:] for name in file if name != "n_averaged"})


@kind("model_is_wrapped")
def model_parallel(net: Net, rng: random.Random) -> Made:
    return Made(nn.DataParallel(net.model), net.state, {name: "module." + name for name in net.state})


@kind("model_is_wrapped")
def model_compiled(net: Net, rng: random.Random) -> Made:
    model = Named(under("_orig_mod.", net.state), "OptimizedModule")  # torch.compile's own takes seconds to import
    return Made(model, net.state, {name: "_orig_mod." + name for name in net.state})


@kind("wrapper_prefix", "model_is_wrapped")
def wrapped_differently(net: Net, rng: random.Random) -> Made:
    file = under("_orig_mod.", net.state)
    back = {name: "module." + name[10:] for name in file}
    return Made(nn.DataParallel(net.model), file, back)


@kind("wrapper_prefix", "model_is_wrapped")
def file_wrapped_twice_model_once(net: Net, rng: random.Random) -> Made:
    file = under("module.module.", net.state)
    return Made(nn.DataParallel(net.model), file, {name: name[7:] for name in file})


# paths in front


OUTER = ("model.", "net.", "network.", "encoder.", "backbone.", "model.model.", "core.pretrained.", "policy.net.")


def _outer(net: Net, rng: random.Random) -> str:
    mine = parts(net.state)
    return rng.choice([front for front in OUTER if front.split(".")[0] not in mine])


@kind("outer_module_prefix")
def from_a_trainer(net: Net, rng: random.Random) -> Made | None:
    front = _outer(net, rng)
    return moved(net, lambda name: front + name)


@kind("outer_module_prefix", "wrapper_prefix")
def from_a_wrapped_trainer(net: Net, rng: random.Random) -> Made | None:
    front = rng.choice(["module.", "_orig_mod."]) + _outer(net, rng)
    front = rng.choice([front, ".".join([*reversed(front[:-1].split(".")), ""])])
    return moved(net, lambda name: front + name)


@kind("outer_module_prefix")
def from_a_larger_model(net: Net, rng: random.Random) -> Made:
    front = _outer(net, rng)
    file = under(front, net.state) | {"criterion.weight": like(7), "projector.0.weight": like(64, 32)}
    return Made(net.model, file, {front + name: name for name in net.state})


@kind("missing_outer_prefix")
def into_a_trainer(net: Net, rng: random.Random) -> Made:
    front = _outer(net, rng)
    back = {name: front + name for name in net.state}
    return Made(Named(under(front, net.state), "LitModel"), net.state, back)


@kind("missing_outer_prefix", "backbone_only")
def into_a_larger_model(net: Net, rng: random.Random) -> Made:
    front = _outer(net, rng)
    more = {"neck.conv.weight": like(64, 32, 3, 3), "neck.conv.bias": like(64), "bbox.weight": like(4, 64)}
    return Made(Named(under(front, net.state) | more, "Detector"), net.state)


# containers


def optimizer_state(state: State) -> dict[str, Any]:
    """As AdamW saves it: tensors with numbers for names."""
    state = learned(state)
    each = {i: {"step": torch.zeros(()), "exp_avg": t, "exp_avg_sq": t} for i, t in enumerate(state.values())}
    return {"state": each, "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.999), "params": list(each)}]}


def container(net: Net, rng: random.Random, inner: State) -> dict[str, Any]:
    """What trainers save, each in its own way."""
    optimizer = optimizer_state(inner)
    return rng.choice([
        {"model": inner, "optimizer": optimizer, "epoch": 3, "previous_best": {"d1": 0.9}},
        {"state_dict": inner, "optimizer": optimizer, "epoch": 90, "arch": "net", "best_acc1": torch.zeros(())},
        {"epoch": 1, "global_step": 100, "pytorch-lightning_version": "2.1.0", "state_dict": inner, "loops": {},
         "callbacks": {}, "optimizer_states": [optimizer], "lr_schedulers": [], "hyper_parameters": {}},
        {"module": inner, "buffer_names": [], "optimizer": None, "param_shapes": [], "lr_scheduler": None,
         "ds_config": {}, "ds_version": "0.14.0", "global_steps": 5, "dp_world_size": 8},
        {"model_state_dict": inner, "optimizer_state_dict": optimizer, "loss": 0.3},
        {"meta": {"epoch": 12}, "state_dict": inner, "optimizer": optimizer},
        {"params": inner},
        {"net": inner, "acc": 93.1, "epoch": 199},
    ])  # fmt: skip


def same(state: State) -> dict[str, str]:
    return {name: name for name in state}


@kind("training_container")
def latest(net: Net, rng: random.Random) -> Made:
    return Made(net.model, container(net, rng, net.state), same(net.state), net.state)


@kind("training_container", "wrapper_prefix")
def latest_parallel(net: Net, rng: random.Random) -> Made:
    inner = under("module.", net.state)
    return Made(net.model, container(net, rng, inner), {name: name[7:] for name in inner}, inner)


@kind("training_container", "outer_module_prefix")
def latest_of_a_trainer(net: Net, rng: random.Random) -> Made:
    front = _outer(net, rng)
    inner = under(front, net.state)
    return Made(net.model, container(net, rng, inner), {name: name[len(front) :] for name in inner}, inner)


@kind("training_container", "ema_copy")
def two_in_a_container(net: Net, rng: random.Random) -> Made:
    names = rng.choice([("student", "teacher"), ("model", "model_ema"), ("state_dict", "state_dict_ema")])
    file = dict.fromkeys(names, net.state) | {"epoch": 3, "optimizer": optimizer_state(net.state)}
    return Made(net.model, file, same(net.state), net.state)


@kind("training_container")
def adversarial(net: Net, rng: random.Random) -> Made:
    critic = {f"layers.{i}.weight": like(64, 64) for i in range(4)}
    file = {"model_G": net.state, "model_D": critic, "opt_G": optimizer_state(net.state), "opt_D": {}, "iteration": 9}
    return Made(net.model, file, same(net.state), net.state)


@kind("training_container", "wrong_encoder", structural=False)
def latest_of_another_size(net: Net, rng: random.Random) -> Made | None:
    other = net.relative("width")
    return None if other is None else Made(net.model, container(net, rng, other.state_dict()), None, other.state_dict())


# copies


@kind("ema_copy")
def ema_beside(net: Net, rng: random.Random) -> Made:
    front = rng.choice(["ema.", "model_ema.", "ema_model.", "teacher.", "ema.module."])
    return Made(net.model, {**net.state, **under(front, net.state)}, same(net.state))


@kind("ema_copy")
def ema_flattened(net: Net, rng: random.Random) -> Made:
    dot = rng.choice(["", "_"])
    flat = {"model_ema." + name.replace(".", dot): t for name, t in net.state.items()}
    return Made(net.model, {**net.state, **flat, "model_ema.decay": torch.zeros(())}, same(net.state))


@kind("duplicate_names", "wrapper_prefix", "ema_copy")
def registered_twice(net: Net, rng: random.Random) -> Made:
    file = under("_forward_module.module.", net.state) | under("_original_module.", net.state)
    return Made(net.model, file, {"_original_module." + name: name for name in net.state})


@kind("ema_copy", "outer_module_prefix", "training_container")
def student_and_teacher(net: Net, rng: random.Random) -> Made:
    file = under("student.", net.state) | under("teacher.", net.state)
    return Made(net.model, file, {"teacher." + name: name for name in net.state})


# other names for the same tensors


@kind("other_naming")
def component_renamed(net: Net, rng: random.Random) -> Made | None:
    """One component in the middle of many names: `attn` is `attention` in another version."""
    many = [part for part, count in inner_components(net.state).items() if 2 < count < len(net.state)]
    return _part_renamed(net, rng, sorted(many))


@kind("other_naming")
def part_renamed(net: Net, rng: random.Random) -> Made | None:
    """One first component: `head` is `classifier` in another version."""
    few = [part for part, count in parts(net.state).items() if 1 < count < len(net.state) and not part.isdigit()]
    return _part_renamed(net, rng, sorted(few), first=True)


PART_WORDS = ("stem", "trunk", "classifier", "embeddings", "out_layer", "tokens", "body", "final", "main", "features")
WORDS = (
    "proj", "attention", "mixing", "inner", "body", "core_block", "ffn", "layer_norm", "embed_in", "decode", "fuse",
    "out_layer", "unit", "stage",
)  # fmt: skip


def _part_renamed(net: Net, rng: random.Random, candidates: list[str], first: bool = False) -> Made | None:
    if not candidates:
        return None
    new = rng.choice([word for word in (PART_WORDS if first else WORDS) if word not in inner_components(net.state)])
    old = rng.choice(candidates)

    def rule(name: str) -> str:
        parts = name.split(".")
        for place in range(1 if first else len(parts) - 1):
            parts[place] = new if parts[place] == old else parts[place]
        return ".".join(parts)

    return moved(net, rule)


@kind("other_naming")
def gamma_and_beta(net: Net, rng: random.Random) -> Made | None:
    """The last component: a normalisation's weight and bias are gamma and beta in the file."""
    state, ends = net.state, {}
    for name, tensor in state.items():
        path, _, last = name.rpartition(".")
        ends.setdefault(path, []).append((last, tuple(tensor.shape)))
    norms = {
        path for path, has in ends.items() if len(has) > 1 and len({s for _, s in has[:2]}) == 1 and len(has[0][1]) == 1
    }

    def rule(name: str) -> str:
        path, _, last = name.rpartition(".")
        names = [end for end, _ in ends[path]][:2] if path in norms else []
        return f"{path}.{('gamma', 'beta')[names.index(last)]}" if last in names else name

    return moved(net, rule) if norms else None


@kind("other_naming")
def written_together(net: Net, rng: random.Random) -> Made | None:
    """Two components made one: `se_module.fc1` is `se_fc1`, `norm.1` is `norm1`."""
    return moved(net, _joined(net, rng, "."))


def _joined(net: Net, rng: random.Random, dot: str) -> Callable[[str], str]:
    pairs = Counter(
        pair for name in net.state for pair in zip(name.split("."), name.split(".")[1:-1], strict=False)
        if not pair[0].isdigit() and not pair[1].isdigit()
    )  # fmt: skip
    some = sorted(pair for pair, count in pairs.items() if 1 < count < len(net.state) / 2)
    one, two = rng.choice(some) if some else ("", "")
    return lambda name: f".{name}".replace(f".{one}.{two}.", f".{one}_{two}.")[1:] if one else name


@kind("other_naming")
def number_apart(net: Net, rng: random.Random) -> Made | None:
    """Inside one component: `norm1` is `norm.1` in the file, or `fc1` is `fc_1`."""
    ends = [part for part in inner_components(net.state) if re.fullmatch(r"[a-z]+\d", part)]
    if not ends:
        return None
    stem, between = rng.choice(sorted(ends))[:-1], rng.choice("._")
    return moved(net, lambda name: re.sub(rf"(^|\.){stem}(\d)(?=\.)", rf"\1{stem}{between}\2", name))


@kind("other_naming")
def blocks_in_chunks(net: Net, rng: random.Random) -> Made | None:
    paths = numbered(net.state)
    if not paths:
        return None
    each, path = rng.choice([2, 3, 6]), re.escape(paths[0])
    return moved(
        net, lambda name: re.sub(rf"^({path})\.(\d+)\.", lambda m: f"{m[1]}.{int(m[2]) // each}.{m[2]}.", name)
    )


@kind("other_naming", "different_model")
def numbers_shifted(net: Net, rng: random.Random) -> Made | None:
    """Counted from one instead of from zero."""
    paths = numbered(net.state)
    path = re.escape(paths[0]) if paths else ""
    return (
        moved(net, lambda name: re.sub(rf"^({path})\.(\d+)\.", lambda m: f"{m[1]}.{int(m[2]) + 1}.", name))
        if path
        else None
    )


@kind("other_naming", "missing_outer_prefix", "outer_module_prefix")
def part_moved(net: Net, rng: random.Random) -> Made | None:
    """One part was below another path."""
    mine = parts(net.state)
    some = sorted(part for part, count in mine.items() if 1 < count < len(net.state) / 2)
    if not some:
        return None
    part, path = rng.choice(some), rng.choice(["decoder.", "neck.", "encoder.", "body."])
    return moved(net, lambda name: path + name if name.startswith(part + ".") else name)


@kind("other_naming")
def weight_norm_spelt_anew(net: Net, rng: random.Random) -> Made | None:
    """A file written with torch's newer weight_norm, for a model with the older one: g and v under other names."""
    old, new = (_weight_normed(net, spelling) for spelling in OLD_AND_NEW)
    if old is None or new is None:
        return None
    turned = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    file = new.state_dict()
    back = {name: re.sub("|".join(map(re.escape, turned)), lambda m: turned[m[0]], name) for name in file}
    return Made(old, file, back)


OLD_AND_NEW = (torch.nn.utils.weight_norm, torch.nn.utils.parametrizations.weight_norm)


def _weight_normed(net: Net, spelling: Callable[[nn.Module], nn.Module]) -> nn.Module | None:
    if net.words is not None:
        return None
    model = copy.deepcopy(net.model)
    layers = [m for m in model.modules() if type(m) in (nn.Linear, nn.Conv1d, nn.Conv2d)][::2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for layer in layers:
            spelling(layer)
    return model if layers else None


@kind("different_model", "other_naming", structural=False)
def weight_norm_in_the_model_alone(net: Net, rng: random.Random) -> Made | None:
    model = _weight_normed(net, rng.choice(OLD_AND_NEW))
    return None if model is None else Made(model, net.state)


@kind("other_naming", structural=False)
def from_another_library(net: Net, rng: random.Random) -> Made | None:
    """The same network as another library names it; some of them split or merge query, key and value."""
    other = net.relative("library")
    return None if other is None else Made(net.model, other.state_dict())


@kind("damaged_names", structural=False)
def seven_characters_cut(net: Net, rng: random.Random) -> Made | None:
    """Cut off every name, whether `module.` was there or not."""
    return moved(net, lambda name: name[7:])


@kind("damaged_names", "other_naming")
def slashes(net: Net, rng: random.Random) -> Made | None:
    return moved(net, lambda name: name.replace(".", "/"))


@kind("damaged_names", "other_naming")
def underscores(net: Net, rng: random.Random) -> Made | None:
    return moved(net, lambda name: name.replace(".", "_"))


@kind("damaged_names", structural=False)
def paired_by_position(net: Net, rng: random.Random) -> Made | None:
    """Values put under the model's names one after the other, where one side has counters and the other has none."""
    values = [t for name, t in net.state.items() if not name.endswith("num_batches_tracked")]
    if len(values) == len(net.state):
        return None
    values += [like()] * (len(net.state) - len(values))
    return Made(net.model, dict(zip(net.state, values, strict=True)))


# other sizes


def relative(net: Net, which: str, names: bool | None = None) -> Made | None:
    """A relative's file; `names`: only where the names are the same, or only where they differ."""
    other = net.relative(which)
    if other is None:
        return None
    state = other.state_dict()
    return None if names is not None and names != (set(state) == set(net.state)) else Made(net.model, state)


def larger(net: Net, which: str) -> tuple[Made | None, bool]:
    """A relative's file, and whether it is the same network but for numbers: all names of one in the other, the same
    kernels."""
    made = relative(net, which)
    if made is None:
        return None, False
    names, own = set(made.file), set(net.state)
    kernels = all(made.file[n].shape[2:] == net.state[n].shape[2:] for n in names & own if net.state[n].dim() > 3)
    return made, kernels and (names <= own or names >= own)


@kind("wrong_encoder")
def other_width(net: Net, rng: random.Random) -> Made | None:
    made, same_kind = larger(net, "width")
    if made is None or all(made.file[n].shape == t.shape for n, t in net.state.items() if n in made.file):
        return None
    return made if same_kind else None


@kind("wrong_encoder", "different_model")
def other_depth(net: Net, rng: random.Random) -> Made | None:
    made, same_kind = larger(net, "depth")
    return made if same_kind else None


@kind("wrong_encoder", "different_model")
def other_variant(net: Net, rng: random.Random) -> Made | None:
    """One of the same family that is built in part in another way: resnet50's bottlenecks for resnet18's blocks."""
    made, same_kind = larger(net, "width" if "width" in net.kin else "depth")
    return None if same_kind else made


@kind("head_size")
def other_classes(net: Net, rng: random.Random) -> Made | None:
    return relative(net, "classes", names=True)


@kind("head_size")
def other_vocabulary(net: Net, rng: random.Random) -> Made | None:
    return relative(net, "vocabulary", names=True)


@kind("input_geometry")
def other_image_size(net: Net, rng: random.Random) -> Made | None:
    return relative(net, "image", names=True)


@kind("input_geometry")
def other_channels(net: Net, rng: random.Random) -> Made | None:
    return relative(net, "channels", names=True)


@kind("input_geometry")
def other_patches(net: Net, rng: random.Random) -> Made | None:
    return relative(net, "patch", names=True)


# sharded and packed


@kind("sharded_model")
def one_rank_of_two(net: Net, rng: random.Random) -> Made | None:
    """Every tensor's first dimension cut, as a sharded model's own state dict has it on one rank."""
    ranks = rng.choice([2, 4, 8])
    file = {name: t[: -(-len(t) // ranks)] if t.dim() else t for name, t in net.state.items()}
    return Made(net.model, file)


@kind("sharded_model")
def tensor_parallel(net: Net, rng: random.Random) -> Made | None:
    """The matrices of the blocks cut along one dimension, every second one along the other; the rest whole."""
    inside = [name for name in matrices(net.state) if any(name.startswith(b + ".") for b in blocks(net.state))]
    ranks, file = rng.choice([2, 4]), dict(net.state)
    for place, name in enumerate(inside):
        path, dim = name.rpartition(".")[0], place % 2
        if file[name].shape[dim] % ranks:
            return None
        file[name] = file[name].narrow(dim, 0, file[name].shape[dim] // ranks)
        bias = next((n for n in net.state if n.startswith(path + ".") and net.state[n].dim() == 1), "")
        if bias and not dim:
            file[bias] = file[bias][: len(file[bias]) // ranks]
    return Made(net.model, file) if inside else None


@kind("sharded_model", "flat_parameters")
def flat_slices(net: Net, rng: random.Random) -> Made:
    """FSDP's own slices under ordinary names: one-dimensional, some of them empty."""
    file = {
        name: (t.flatten()[: rng.choice([0, t.numel() // 2, t.numel()])] if t.dim() > 1 else t)
        for name, t in net.state.items()
    }
    return Made(net.model, file)


@kind("flat_parameters", "sharded_model")
def flat_parameters(net: Net, rng: random.Random) -> Made:
    front = "_fsdp_wrapped_module."
    names = [f"{front}{block}.{front}_flat_param" for block in blocks(net.state)]
    return Made(net.model, {name: like(9999) for name in [front + "_flat_param", *names]})


@kind("sharded_model")
def zero_3(net: Net, rng: random.Random) -> Made:
    """The model's parameters are gathered only while they are used: [0] each."""
    empty = {name: like(0) if t.is_floating_point() and t.dim() else t for name, t in net.state.items()}
    return Made(Named(empty, title(net)), net.state)


@kind("sharded_model")
def zero_3_saved(net: Net, rng: random.Random) -> Made:
    """The file has a place for each parameter and nothing in it: [0] each, or [1] from older versions of DeepSpeed."""
    size = rng.choice([0, 1])
    return Made(net.model, {n: like(size) if t.is_floating_point() and t.dim() else t for n, t in net.state.items()})


@kind("sharded_model", "different_model", "backbone_only")
def first_of_two_files(net: Net, rng: random.Random) -> Made:
    """model-00001-of-00002.safetensors alone."""
    names = list(net.state)
    return Made(net.model, {name: net.state[name] for name in names[: len(names) // 2 + 1]})


def _packed(net: Net, pack: Callable[[str, torch.Tensor], dict[str, torch.Tensor]]) -> Made | None:
    """The matrices inside the blocks replaced by what a quantising library stores in their place."""
    inside = [name for name in matrices(net.state) if any(name.startswith(b + ".") for b in blocks(net.state))]
    file: dict[str, torch.Tensor] = {}
    for name, tensor in net.state.items():
        file |= pack(name, tensor) if name in inside else {name: tensor}
    return Made(net.model, file) if inside else None


@kind("quantized", structural=False)
def bitsandbytes(net: Net, rng: random.Random) -> Made | None:
    def pack(name: str, t: torch.Tensor) -> dict[str, torch.Tensor]:
        n = t.numel()
        return {name: like(n // 2, 1, dtype=torch.uint8), f"{name}.absmax": like(n // 64, dtype=torch.uint8),
                f"{name}.quant_map": like(16), f"{name}.nested_absmax": like(-(-n // 16384)),
                f"{name}.nested_quant_map": like(256),
                f"{name}.quant_state.bitsandbytes__nf4": like(85, dtype=torch.uint8)}  # fmt: skip

    return _packed(net, pack)


@kind("quantized", structural=False)
def bitsandbytes_8(net: Net, rng: random.Random) -> Made | None:
    def pack(name: str, t: torch.Tensor) -> dict[str, torch.Tensor]:
        path = name.rpartition(".")[0]
        return {name: t.to(torch.int8), f"{path}.SCB": like(len(t)), f"{path}.weight_format": like(dtype=torch.uint8)}

    return _packed(net, pack)


@kind("quantized", structural=False)
def gptq(net: Net, rng: random.Random) -> Made | None:
    def pack(name: str, t: torch.Tensor) -> dict[str, torch.Tensor]:
        path, (out, into) = name.rpartition(".")[0], t.shape
        groups = -(-into // 128)
        return {f"{path}.qweight": like(into // 8, out, dtype=torch.int32), f"{path}.scales": like(groups, out),
                f"{path}.qzeros": like(groups, out // 8, dtype=torch.int32),
                f"{path}.g_idx": like(into, dtype=torch.int32)}  # fmt: skip

    return _packed(net, pack)


@kind("quantized", structural=False)
def float8(net: Net, rng: random.Random) -> Made | None:
    scale = rng.choice(["weight_scale", "weight_scale_inv"])

    def pack(name: str, t: torch.Tensor) -> dict[str, torch.Tensor]:
        return {name: t.to(torch.float8_e4m3fn), f"{name.rpartition('.')[0]}.{scale}": like(1)}

    return _packed(net, pack)


@kind("quantized", structural=False)
def torch_quantised(net: Net, rng: random.Random) -> Made | None:
    def pack(name: str, t: torch.Tensor) -> dict[str, Any]:
        path = name.rpartition(".")[0]
        packed = f"{path}._packed_params"
        return {f"{path}.scale": like(), f"{path}.zero_point": like(dtype=torch.int64),
                f"{packed}.dtype": torch.qint8, f"{packed}._packed_params": (t, None)}  # fmt: skip

    return _packed(net, pack)


# adapters


def lora(state: State, rank: int, adapter: str = ".default") -> dict[str, torch.Tensor]:
    """Low-rank matrices beside the matrices of the blocks, as peft names them."""
    inside = [name for name in matrices(state) if any(name.startswith(block + ".") for block in blocks(state))]
    pairs: dict[str, torch.Tensor] = {}
    for name in inside:
        path, (out, into) = name.rpartition(".")[0], state[name].shape
        pairs |= {f"{path}.lora_A{adapter}.weight": like(rank, into), f"{path}.lora_B{adapter}.weight": like(out, rank)}
    return pairs


def with_lora(state: State, rank: int) -> dict[str, torch.Tensor]:
    """A whole network inside peft."""
    pairs = lora(state, rank)
    layers = {name.partition(".lora_")[0] for name in pairs}
    inner = {
        (
            f"{name.rpartition('.')[0]}.base_layer.{name.rpartition('.')[2]}"
            if name.rpartition(".")[0] in layers
            else name
        ): t
        for name, t in state.items()
    }
    return under("base_model.model.", inner | pairs)


@kind("adapter_weights", structural=False)
def adapter_alone(net: Net, rng: random.Random) -> Made | None:
    pairs = lora(net.state, 16, adapter=rng.choice(["", ".default"]))
    return Made(net.model, under(rng.choice(["base_model.model.", ""]), pairs)) if pairs else None


@kind("adapter_weights", structural=False)
def network_with_adapter(net: Net, rng: random.Random) -> Made | None:
    return Made(net.model, with_lora(net.state, 8)) if lora(net.state, 8) else None


@kind("adapter_weights", "model_is_wrapped", "missing_outer_prefix", structural=False)
def into_a_network_with_adapter(net: Net, rng: random.Random) -> Made | None:
    return Made(Named(with_lora(net.state, 8), "PeftModel"), net.state) if lora(net.state, 8) else None


@kind("adapter_weights", structural=False)
def other_rank(net: Net, rng: random.Random) -> Made | None:
    if not lora(net.state, 8):
        return None
    return Made(Named(with_lora(net.state, 16), "PeftModel"), with_lora(net.state, 32))


# parts


NEW_PARTS = ("projector", "seg_head", "predictor", "aux_head", "decode_head", "classifier2", "depth_net", "lm_bias")


def _new_part(net: Net, rng: random.Random) -> dict[str, torch.Tensor]:
    name = rng.choice([part for part in NEW_PARTS if part not in parts(net.state)])
    width = max(Counter(t.shape[0] for t in learned(net.state).values() if t.dim() == 1).items(), key=lambda x: x[1])[0]
    return rng.choice([
        {f"{name}.weight": like(128, width), f"{name}.bias": like(128)},
        {f"{name}.0.weight": like(256, width), f"{name}.0.bias": like(256), f"{name}.2.weight": like(64, 256),
         f"{name}.2.bias": like(64)},
        {f"{name}.mlp.{i}.{end}": like(*(width,) * (2 if end == "weight" else 1)) for i in (0, 2, 4)
         for end in ("weight", "bias")},
    ])  # fmt: skip


@kind("extra_head")
def head_more(net: Net, rng: random.Random) -> Made:
    return Made(net.model, {**net.state, **_new_part(net, rng)}, same(net.state))


@kind("backbone_only", "different_model")
def head_lacking(net: Net, rng: random.Random) -> Made:
    """The model has a whole part more than the file."""
    return Made(Named({**net.state, **_new_part(net, rng)}, title(net)), net.state)


@kind("extra_head")
def last_layer_more(net: Net, rng: random.Random) -> Made | None:
    """A classifier's file for the same network without its last layer."""
    bare = net.relative("headless")
    return None if bare is None or not head_of(net) else Made(bare, net.state, same(bare.state_dict()))


@kind("backbone_only")
def last_layer_lacking(net: Net, rng: random.Random) -> Made | None:
    bare = net.relative("headless")
    return None if bare is None or not head_of(net) else Made(net.model, bare.state_dict())


@kind("extra_head")
def auxiliary_more(net: Net, rng: random.Random) -> Made | None:
    """Saved while an auxiliary classifier was there, for training alone."""
    other = net.relative("auxiliary")
    return None if other is None else Made(net.model, other.state_dict(), same(net.state))


@kind("backbone_only", "different_model")
def auxiliary_lacking(net: Net, rng: random.Random) -> Made | None:
    other = net.relative("auxiliary")
    return None if other is None else Made(other, net.state)


@kind("backbone_only", "missing_outer_prefix")
def backbone_into_detector(net: Net, rng: random.Random) -> Made | None:
    """ImageNet's file for a network that holds it below `backbone.`, with a head of its own."""
    head = set(head_of(net))
    if not head:
        return None
    body = {name: t for name, t in net.state.items() if name not in head}
    more = {
        f"decode_head.convs.{i}.{end}": like(*(64,) * (4 if end == "weight" else 1))
        for i in range(4)
        for end in ("weight", "bias")
    }
    front = rng.choice(["backbone.", "encoder."])
    model = Named(under(front, body) | more | {"decode_head.cls.weight": like(19, 64, 1, 1)}, "EncoderDecoder")
    return Made(model, net.state if rng.random() < 0.5 else under(front, body))


@kind("different_model", "sharded_model")
def head_alone(net: Net, rng: random.Random) -> Made | None:
    """Only the last part was saved."""
    head = head_of(net) or [name for name in net.state if name.startswith(list(parts(net.state))[-1] + ".")]
    return Made(net.model, {name: net.state[name] for name in head}) if len(head) < len(net.state) / 2 else None


# options and versions


def _in_every_block(net: Net, rng: random.Random) -> dict[str, torch.Tensor]:
    """One learned vector more in every block: a scale, a bias, a gate."""
    width = next((t.shape[0] for t in net.state.values() if t.dim() == 1), 64)
    name = rng.choice(["ls1.gamma", "res_scale", "attn.q_bias", "gate.weight", "norm3.weight"])
    return {f"{block}.{name}": like(width) for block in blocks(net.state)}


@kind("different_model")
def option_in_the_file(net: Net, rng: random.Random) -> Made | None:
    more = _in_every_block(net, rng)
    return Made(net.model, {**net.state, **more}) if more else None


@kind("different_model")
def option_in_the_model(net: Net, rng: random.Random) -> Made | None:
    more = _in_every_block(net, rng)
    return Made(Named({**net.state, **more}, title(net)), net.state) if more else None


@kind("different_model")
def token_in_the_file(net: Net, rng: random.Random) -> Made | None:
    name = rng.choice(["register_tokens", "dist_token", "reg_token", "query_embed"])
    tokens = [t for n, t in net.state.items() if t.dim() == 3 and t.shape[0] == 1]
    return Made(net.model, {**net.state, name: like(1, 4, tokens[0].shape[-1])}) if tokens else None


@kind("different_model")
def without_biases(net: Net, rng: random.Random) -> Made | None:
    """A model whose blocks were built with biases, a file without those of one kind."""
    some = {
        re.sub(r"\.\d+\.", ".N.", name) for name in net.state if name.endswith(".bias") and re.search(r"\.\d+\.", name)
    }
    if not some:
        return None
    which = rng.choice(sorted(some))
    return Made(net.model, {n: t for n, t in net.state.items() if re.sub(r"\.\d+\.", ".N.", n) != which})


@kind("different_model", "extra_head", "backbone_only", "head_size")
def another_head(net: Net, rng: random.Random) -> Made | None:
    """The last part under another name and of another size."""
    last = list(parts(net.state))[-1]
    if parts(net.state)[last] > len(net.state) / 4:
        return None
    body = {name: t for name, t in net.state.items() if not name.startswith(last + ".")}
    new = _new_part(net, rng)
    return None if len(new) == parts(net.state)[last] else Made(net.model, {**body, **new})


@kind("different_model")
def one_dimension_more(net: Net, rng: random.Random) -> Made | None:
    """The same numbers in another form: a vector as a matrix with one row, a matrix as a convolution of width one."""
    which = rng.choice([1, 2])
    file = {
        name: (t[None] if which == 1 else t[..., None, None]) if t.dim() == which else t
        for name, t in net.state.items()
    }  # fmt: skip
    return Made(net.model, file)


@kind("different_model")
def another_network(net: Net, rng: random.Random) -> Made | None:
    return relative(net, "stranger")


@kind("different_model", "training_container", "optimizer_mismatch", "not_a_state_dict", structural=False)
def state_of_the_optimizer(net: Net, rng: random.Random) -> Made:
    return Made(net.model, optimizer_state(net.state))


# bookkeeping


@kind("bookkeeping_buffers", structural=False)
def no_counters(net: Net, rng: random.Random) -> Made | None:
    """As an older library saved it: no counters of BatchNorm, and saying that nothing is lacking."""
    file = net.model.state_dict()
    for name in [name for name in file if name.endswith("num_batches_tracked")]:
        del file[name]
    return Made(net.model, file)


@kind("bookkeeping_buffers", structural=False)
def counted_by_a_profiler(net: Net, rng: random.Random) -> Made:
    paths = dict.fromkeys(name.rpartition(".")[0] for name in net.state)
    ends = ("total_ops", "total_params")
    more = {f"{path}.{end}".lstrip("."): like(1, dtype=torch.float64) for path in ["", *paths] for end in ends}
    return Made(net.model, {**net.state, **more}, same(net.state))


@kind("bookkeeping_buffers", structural=False)
def buffer_of_an_old_version(net: Net, rng: random.Random) -> Made | None:
    """Buffers that a newer version works out by itself."""
    ends = [{"attn.masked_bias": like(), "attn.bias": like(1, 1, 1024, 1024, dtype=torch.bool)},
            {"attn.relative_position_index": like(49, 49, dtype=torch.int64)},
            {"self_attn.rotary_emb.inv_freq": like(64)},
            {"attn_mask": like(64, 49, 49)}]  # fmt: skip
    if not blocks(net.state):
        return None
    each = rng.choice(ends)
    more = {f"{block}.{end}": t for block in blocks(net.state) for end, t in each.items()}
    if rng.random() < 0.3:
        more = {"embeddings.position_ids": like(1, 512, dtype=torch.int64)}
    return None if set(more) & set(net.state) else Made(net.model, {**net.state, **more}, same(net.state))


@kind("bookkeeping_buffers", structural=False)
def buffer_that_the_model_wants(net: Net, rng: random.Random) -> Made | None:
    """Saved by a version that did not store what can be worked out."""
    end = rng.choice(["attn.relative_position_index", "self_attn.rotary_emb.inv_freq", "attn.attn_mask"])
    more = {f"{block}.{end}": like(49, 49, dtype=torch.int64) for block in blocks(net.state)}
    if rng.random() < 0.3:
        more = {"embeddings.position_ids": like(1, 512, dtype=torch.int64)}
    if not more or set(more) & set(net.state):
        return None
    return Made(Named({**net.state, **more}, title(net)), net.state)


def _without_twins(net: Net, table: bool) -> Made | None:
    """The file without the second names of tensors that have two, as the module's own sharing says; `table`: a table of
    tokens is among them."""
    seen: dict[int, str] = {}
    twice = {n: t for n, t in net.model.state_dict(keep_vars=True).items() if seen.setdefault(id(t), n) != n}
    if not twice or table != any(t.dim() == 2 and len(t) > 256 for t in twice.values()):
        return None
    return Made(net.model, {name: t for name, t in net.state.items() if name not in twice})


@kind("tied_weights", structural=False)
def tied(net: Net, rng: random.Random) -> Made | None:
    """safetensors keeps one name of a tensor that has two: a table of tokens that is the output layer as well."""
    return _without_twins(net, table=True)


@kind("tied_weights", "different_model", "sharded_model", structural=False)
def shared_inside(net: Net, rng: random.Random) -> Made | None:
    """The same of layers that are used twice, which their names do not show."""
    return _without_twins(net, table=False)


# two faults in one file


@kind("wrapper_prefix", "head_size")
def wrapped_with_other_classes(net: Net, rng: random.Random) -> Made | None:
    made = relative(net, "classes", names=True)
    return made and Made(net.model, under("module.", made.file))


@kind("wrapper_prefix", "wrong_encoder")
def wrapped_with_other_width(net: Net, rng: random.Random) -> Made | None:
    made = relative(net, "width", names=True)
    return made and Made(net.model, under("module.", made.file))


@kind("outer_module_prefix", "input_geometry")
def from_a_trainer_with_other_images(net: Net, rng: random.Random) -> Made | None:
    made, front = relative(net, "image", names=True), _outer(net, rng)
    return made and Made(net.model, under(front, made.file))


@kind("extra_head", "head_size")
def head_more_and_other_classes(net: Net, rng: random.Random) -> Made | None:
    made = relative(net, "classes", names=True)
    return made and Made(net.model, {**made.file, **_new_part(net, rng)})
