"""Failures made from four small networks, in every kind and way of pasting: what `explain` and `diagnose` say of them.

The large measurement, on real networks, is `benchmarks/bench_failures.py`; this is its small fast part.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import Any

import pytest
import torch
from made_failures import KINDS, Failure, Net, failures
from pasting import WAYS
from torch import nn

from dav2_utils import CheckpointError, diagnose, explain
from dav2_utils.errors import AmbiguousSets

pytestmark = pytest.mark.xdist_group("failures")  # they share what `every`, `texts` and `tables` keep


def linear(*widths: int, names: tuple[str, ...] = ("fc1", "fc2")) -> nn.ModuleDict:
    return nn.ModuleDict({name: nn.Linear(a, b) for name, a, b in zip(names, widths, widths[1:], strict=False)})


class Vit(nn.Module):
    """A vision transformer as most libraries name it."""

    def __init__(self, width: int = 48, depth: int = 6, classes: int = 10, image: int = 96, patch: int = 16,
                 channels: int = 3) -> None:  # fmt: skip
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, (image // patch) ** 2 + 1, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(channels, width, patch, patch)})
        self.blocks = nn.ModuleList(self._block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes) if classes else nn.Identity()

    def _block(self, width: int) -> nn.ModuleDict:
        attention = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        mlp = linear(width, 4 * width, width)
        norms = {f"norm{i}": nn.LayerNorm(width) for i in (1, 2)}
        return nn.ModuleDict({"norm1": norms["norm1"], "attn": attention, "norm2": norms["norm2"], "mlp": mlp})


class Residual(nn.Module):
    """A convolutional network with stages, normalisations and a classifier."""

    def __init__(
        self, width: int = 16, depth: int = 2, classes: int = 10, channels: int = 3, aux: bool = False
    ) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 7, bias=False), nn.BatchNorm2d(width)
        for stage in range(1, 4):
            parts = [
                self._part(width * 2 ** max(0, stage - 1 - (not i)), width * 2 ** (stage - 1)) for i in range(depth)
            ]
            self.add_module(f"layer{stage}", nn.Sequential(*parts))
        self.fc = nn.Linear(4 * width, classes) if classes else nn.Identity()
        if aux:
            self.aux_classifier = nn.Sequential(
                nn.Conv2d(2 * width, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, classes, 1)
            )

    def _part(self, into: int, out: int) -> nn.ModuleDict:
        part = nn.ModuleDict({"conv1": nn.Conv2d(into, out, 3, bias=False), "bn1": nn.BatchNorm2d(out),
                              "conv2": nn.Conv2d(out, out, 3, bias=False), "bn2": nn.BatchNorm2d(out)})  # fmt: skip
        if into != out:
            part["downsample"] = nn.Sequential(nn.Conv2d(into, out, 1, bias=False), nn.BatchNorm2d(out))
        return part


class Language(nn.Module):
    """A language model whose output layer is its table of tokens."""

    def __init__(self, width: int = 32, depth: int = 4, words: int = 300) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(words, width)
        self.layers = nn.ModuleList(
            nn.ModuleDict({
                "self_attn": nn.ModuleDict({f"{part}_proj": nn.Linear(width, width, bias=False) for part in "qkvo"}),
                "mlp": linear(width, 2 * width, width, names=("up_proj", "down_proj")),
                "input_layernorm": nn.RMSNorm(width), "post_attention_layernorm": nn.RMSNorm(width),
            })
            for _ in range(depth)
        )  # fmt: skip
        self.norm = nn.RMSNorm(width)
        self.lm_head = nn.Linear(width, words, bias=False)
        self.lm_head.weight = self.embed_tokens.weight


class Segmenter(nn.Module):
    """An encoder, a decoder and a head, with squeeze-and-excitation inside."""

    def __init__(self, width: int = 16, classes: int = 5, channels: int = 3, depth: int = 3) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Module(), nn.Module()
        self.encoder.stem = nn.Conv2d(channels, width, 3)
        self.encoder.stages = nn.ModuleList(
            nn.ModuleDict({"conv": nn.Conv2d(width, width, 3), "norm": nn.BatchNorm2d(width),
                           "se_module": linear(width, width // 4, width)}) for _ in range(depth)
        )  # fmt: skip
        self.decoder.blocks = nn.ModuleList(
            nn.ModuleDict({"up": nn.ConvTranspose2d(width, width, 2), "conv1": nn.Conv2d(width, width, 3)})
            for _ in range(2)
        )
        self.segmentation_head = nn.Sequential(nn.Conv2d(width, classes, 3))


def net(build: Callable[..., nn.Module], stranger: Callable[..., nn.Module], **kin: dict[str, Any]) -> Net:
    relatives = {which: partial(build, **how) for which, how in kin.items()}
    return Net(build.__name__, build, {**relatives, "stranger": stranger})


NETS = (
    net(Vit, Residual, width={"width": 96}, depth={"depth": 12}, classes={"classes": 7}, image={"image": 192},
        channels={"channels": 1}, patch={"patch": 8, "image": 48}, headless={"classes": 0}),
    net(Residual, Segmenter, width={"width": 32}, depth={"depth": 3}, classes={"classes": 7}, channels={"channels": 1},
        headless={"classes": 0}, auxiliary={"aux": True}),
    net(Language, Vit, width={"width": 64}, depth={"depth": 8}, vocabulary={"words": 320}),
    net(Segmenter, Language, width={"width": 32}, depth={"depth": 5}, classes={"classes": 2}, channels={"channels": 4}),
)  # fmt: skip


@cache
def every(made_up: bool = False) -> tuple[Failure, ...]:
    return tuple(f for n in NETS for f in failures(n.in_made_up_words() if made_up else n))


@cache
def texts(made_up: bool = False) -> tuple[tuple[Failure, str, tuple[str, ...], bool], ...]:
    """Each failure as two people paste it: the way, the causes that `explain` names, whether it promises a repair."""
    found = []
    for failure in every(made_up):
        rng = random.Random(f"{failure.net} {failure.kind.name}")
        for way in ["whole", *rng.sample(sorted(set(WAYS) - {"whole"}), 1)]:
            if shown := WAYS[way](failure.text, rng):
                causes = explain(shown).causes
                said = tuple(cause.cause for cause in causes)
                found.append((failure, way, said, any(cause.repairable_by_renaming for cause in causes)))
    return tuple(found)


@cache
def tables(made_up: bool = False) -> tuple[tuple[Failure, tuple[str, ...], bool], ...]:
    """Each failure as two tables: the causes that `diagnose` names, whether it promises a repair."""
    found = []
    for failure in every(made_up):
        try:
            result = diagnose(failure.made.file, failure.made.model.state_dict())
            said, promised = tuple(cause.cause for cause in result.causes), result.verdict in ("loads", "repairable")
        except AmbiguousSets:  # it asks which of two complete sets is meant
            said, promised = ("training_container",) if failure.kind.name in SEVERAL else (), False
        except CheckpointError:
            said, promised = ("different_model",) if failure.kind.name == "state_of_the_optimizer" else (), False
        found.append((failure, said, promised))
    return tuple(found)


SEVERAL = ("two_in_a_container", "adversarial")


def share(answers: Iterable[tuple[Failure, tuple[str, ...]]]) -> float:
    """Of the answers, how many name a cause first that a careful expert would accept, in percent."""
    right = Counter(bool(said) and said[0] in failure.kind.causes for failure, said in answers)
    return 100 * right[True] / right.total()


def test_every_kind_is_made_and_whether_renaming_repairs_it_is_shown() -> None:
    assert {failure.kind.name for failure in every()} | LARGE_ONLY == set(KINDS)
    assert {failure.made.renaming for failure in every()} == {True, False, None}  # each shown by a strict load


LARGE_ONLY = {"from_another_library", "other_variant", "shared_inside"}  # of real networks alone


def test_texts_are_understood_as_people_paste_them() -> None:
    assert share((failure, said) for failure, _, said, _ in texts()) > 94
    assert share((failure, said) for failure, _, said, _ in texts(made_up=True)) > 90


def test_tables_are_understood() -> None:
    assert share((failure, said) for failure, said, _ in tables()) > 95
    assert share((failure, said) for failure, said, _ in tables(made_up=True)) > 90


def test_no_repair_is_promised_where_there_is_none() -> None:
    promised = [failure for failure, way, _, promise in texts() if promise and way != "few_names" and shows(failure)]
    promised += [failure for failure, _, promise in tables() if promise]
    assert {f"{failure.kind.name} of {failure.net}" for failure in promised if failure.made.renaming is False} == set()


def shows(failure: Failure) -> bool:
    """Whether the text can show that renaming is not enough; where all names differ it says nothing of sizes."""
    return "size mismatch" in failure.text or len(failure.made.table) != len(failure.made.model.state_dict())


def test_a_text_and_the_tables_behind_it_have_one_explanation() -> None:
    whole = {(f.net, f.kind.name): said for f, way, said, _ in texts() if way == "whole"}
    same = Counter(said[:1] == whole[f.net, f.kind.name][:1] for f, said, _ in tables())
    assert 100 * same[True] / same.total() > 94


ALONE = (  # way of pasting, kind, the least share of right first causes: what a list alone shows, and the end of a text
    ("begins_in_the_middle", "slashes", 75), ("begins_in_the_middle", "seven_characters_cut", 50),
    ("last_lines", "first_of_two_files", 75), ("last_lines", "student_and_teacher", 75),
    ("last_lines", "registered_twice", 75), ("last_lines", "weight_norm_spelt_anew", 75),
    ("last_lines", "into_a_trainer", 75), ("three_names_and_dots", "slashes", 75),
    ("three_names_and_dots", "underscores", 75),
)  # fmt: skip


@pytest.mark.parametrize(("way", "kind", "least"), ALONE)
def test_what_a_part_of_a_text_shows(way: str, kind: str, least: int) -> None:
    failed = [failure for failure in every() if failure.kind.name == kind]
    shown = [(f, WAYS[way](f.text, random.Random(f"{f.net} {kind} {way}"))) for f in failed]
    said = [(f, tuple(cause.cause for cause in explain(text).causes)) for f, text in shown if text]
    assert said and share(said) >= least, said
