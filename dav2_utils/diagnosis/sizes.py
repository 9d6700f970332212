"""What pairs of shapes give away: another width or depth, another picture size, another number of classes, slices.

A rule accounts for the size lines whose shapes it explains, whatever the names are. Standard library only.
"""

from __future__ import annotations

import math
import re
from collections import Counter

from ..encoders import ENCODERS, PATCH, fitting
from ..keys import Pair, Shape
from ..texts import say
from .causes import Finding, words
from .difference import NUMBERED, Difference, bookkeeping, family, first_of, one_part, reduced
from .parts import HEADS, continued

Sizes = dict[str, Pair]
_POSITIONS = re.compile(
    r"pos(?:ition(?:al)?)?_?emb|rel(?:ative)?_?pos|pos_?table|position_bias_table|abs_pos|attn_mask|rel_height|rel_width|"
    r"position_index|anchors|valid_mask|freqs_c(?:is|os)|\bgrid\b|time_embed\b|temporal_embed"
)


def differing(pair: Pair) -> list[int]:
    """The dimensions in which two shapes of one length differ."""
    return [i for i, (a, b) in enumerate(zip(*pair, strict=False)) if a != b]


def packed(diff: Difference) -> Finding | None:
    """Shapes of quantised layers: with scales beside them, packed into one column, or equal but not to be copied."""
    sizes = diff.sizes
    equal = {name: pair for name, pair in sizes.items() if pair[0] == pair[1]}
    if equal:
        return Finding("quantized", "quantized_equal", set(sizes), first_of(equal), 0.02)
    scales = {name for name in sizes if name.rpartition(".")[2] in words("quantized") or "scales" in name}
    columns = {name for name, pair in sizes.items() if any(_is_column(a, b) for a, b in (pair, pair[::-1]))}
    layers = {name.rpartition(".")[0] for name in scales | columns}
    accounts = {name: pair for name, pair in sizes.items() if name.rpartition(".")[0] in layers or name in columns}
    return Finding("quantized", "quantized_sizes", set(accounts), first_of(accounts), 0.03) if accounts else None


def _is_column(a: Shape, b: Shape) -> bool:
    """Whether `a` is [N, 1] (or [N]) and packs the numbers of the matrix `b`."""
    return len(a) == len(b) == 2 and a[1] == 1 < b[1] and a[0] > 0 and b[0] * b[1] in (a[0], 2 * a[0], 8 * a[0])


def reshaped(diff: Difference) -> Finding | None:
    """The same numbers with a dimension of one more or less, or with the dimensions in another order."""
    same = {
        name: pair for name, pair in diff.sizes.items()
        if pair[0] != pair[1] and sorted(_squeezed(pair[0])) == sorted(_squeezed(pair[1]))
    }  # fmt: skip
    if not same:
        return None
    turned = any(_squeezed(file) != _squeezed(model) for file, model in same.values())
    return Finding("different_model", "permuted" if turned else "reshaped", set(same), first_of(same), 0.05)


def _squeezed(shape: Shape) -> Shape:
    return tuple(n for n in shape if n != 1)


def sliced(diff: Difference) -> Finding | None:
    """One process's slices: each tensor is shorter in one dimension, by one factor for all, or flat, or empty."""
    sizes = {name: pair for name, pair in diff.sizes.items() if not bookkeeping(name)}
    if not sizes:
        return None
    for which, side in (("file", 0), ("model", 1)):
        held, others = ({pair[k] for pair in sizes.values()} for k in (side, 1 - side))
        if held == {(0,)} or (held == {(1,)} and len(others) > 1):  # a place, and nothing in it
            return Finding("sharded_model", f"sharded_zero3_{which}", set(sizes), first_of(sizes), 0.02)
    flat = {name for name, (file, model) in sizes.items() if len(file) == 1 and (len(model) > 1 or file < model)}
    if len(flat) == len(sizes) and any(_squeezed(model) != file and len(model) > 1 for file, model in sizes.values()):
        return Finding("sharded_model", "sharded_flat", set(sizes), first_of(sizes), 0.04)
    if any(len(file) != len(model) or len(differing((file, model))) != 1 for file, model in sizes.values()):
        return None
    pairs = {(file[i], model[i]) for file, model in sizes.values() for i in differing((file, model))}
    parts = next((n for n in range(2, 65) if all(-(-b // n) == a or a == b // n for a, b in pairs)), 0)
    alone = diff.whole and len({name.rpartition(".")[0] for name in sizes}) == 1  # and nothing else was cut
    if not parts or alone or (len({reduced(a, b) for a, b in pairs}) > 1 and not all(
            differing(pair) == [0] for pair in sizes.values())):  # fmt: skip
        return None
    args = first_of(sizes, parts=parts)
    return Finding("sharded_model", "sharded_slices", set(sizes), args, _doubt(diff, pairs, parts))


def _doubt(diff: Difference, cut: set[tuple[int, int]], parts: int) -> float:
    """The cost of calling it slices: low if one and the same width is cut in one place and whole in another."""
    kept = {n for file, model in diff.sizes.values() for n, size in zip(model, file, strict=False) if n == size}
    matrices = [name for name, (file, _) in diff.sizes.items() if len(file) > 1]
    if not kept.isdisjoint(b for _, b in cut) or (len(cut) > 1 and len(matrices) > 1):
        return 0.06
    both = {i for pair in diff.sizes.values() for i in differing(pair)} == {0, 1}
    layers = {name.rpartition(".")[0] for name in diff.sizes}
    return 0.07 if parts > 3 and len(layers) > 1 and not diff.whole else 0.09 if both else 0.2


# Pictures -----------------------------------------------------------------------------------------------------------


def geometry(diff: Difference) -> Finding | None:
    """Position tables, the patch embedding, or the channels of a first convolution."""
    kinds = {name: kind for name, pair in diff.sizes.items() if (kind := _kind(name, pair, len(diff.sizes)))}
    if not kinds:
        return None
    kind = min(kinds.values(), key=("patch", "channels", "image").index)
    chosen = {name: diff.sizes[name] for name in kinds if kinds[name] == kind}
    file, model = next(iter(chosen.values()))
    numbers = _pixels(chosen, diff)
    if kind != "image":
        numbers = {side: shape[1] if kind == "channels" else "x".join(map(str, shape[2:]))
                   for side, shape in (("here", file), ("there", model))}  # fmt: skip
    text = f"input_geometry_{kind}" if numbers else "input_geometry"
    return Finding("input_geometry", text, set(kinds), first_of(chosen) | numbers, 0.06)


def _kind(name: str, pair: Pair, lines: int) -> str:
    """What a pair of shapes is the mark of: image, patch, channels; empty for none of them."""
    file, model = pair
    if len(file) != len(model) or not file:
        return ""
    differ = differing(pair)
    width = len(file) - 1
    if _POSITIONS.search(name) and (len(file) < 3 or width not in differ or len(differ) > 1):
        return "image"
    if (len(file) == 3 and file[0] == 1 and differ == [1]) or (len(file) == 2 and differ == [0] and _grids(pair)):
        return "image" if _grids(pair) or len(file) == 3 else ""
    if len(file) in (4, 5) and differ and min(differ) >= 2:
        first = 1 < file[1] <= 4 or re.search(r"patch|embed|stem", name)
        return "patch" if lines <= 4 and first and min(*file[2:], *model[2:]) > 1 else ""
    few = len(file) in (4, 5) and differ == [1] and max(file[1], model[1]) <= 64
    return "channels" if few and lines <= 4 and not re.search(r"\.[1-9]\d*\.[^.]+\.[^.]+\.", name) else ""


def _grids(pair: Pair) -> tuple[int, int] | None:
    """The sides of the two square grids of patches, whatever single tokens are beside them."""
    file, model = pair
    a, b = (file[1], model[1]) if len(file) == 3 else (file[0], model[0])
    for single in (1, 0, 2, 5):
        x, y = math.isqrt(max(a - single, 0)), math.isqrt(max(b - single, 0))
        if x * x == a - single and y * y == b - single and min(x, y) > 1 and max(x, y) < 150:
            return x, y
    return None


def _pixels(sizes: Sizes, diff: Difference) -> dict[str, object]:
    pair = next(iter(sizes.values()))
    grids = _grids(pair) if len(pair[0]) > 1 else None
    if not grids:
        return {}
    kernels = [s for s in (diff.agree or {}).values() if len(s) == 4 and s[2] == s[3] > 3 and s[0] == pair[0][-1]]
    patch = kernels[0][2] if kernels else PATCH if _ours(diff) else 16
    return {"here": grids[0], "there": grids[1], "patch": patch, "pixels": grids[0] * patch, "wanted": grids[1] * patch}


# Heads and adapters -------------------------------------------------------------------------------------------------


def outputs(diff: Difference) -> Finding | None:
    """Only the number of outputs differs, in layers that a task puts at the end, or in tables of tokens."""
    sizes = {
        name: pair for name, pair in diff.sizes.items() if differing(pair)[:1] == [0] and pair[0][1:] == pair[1][1:]
    }
    layers = {name.rpartition(".")[0] for name in sizes}
    pairs = Counter((file[0], model[0]) for file, model in sizes.values())
    flat = [name for name, (file, _) in sizes.items() if len(file) == 1]
    norms = [n for n in flat if n.endswith((".weight", ".running_mean")) and f"{n[:-7]}.bias" in diff.sizes]
    if not sizes or len(layers) > 6 or len(sizes) > 12 or len(pairs) > 3 or norms:
        return None
    (file, model), _ = pairs.most_common(1)[0]
    tokens = max(file, model) >= 5_000 or any("emb" in name for name in sizes)
    gaps = [abs(a - b) for a, b in pairs]
    inner = not tokens and all(n % 16 == 0 for pair in pairs for n in pair) and not any(map(HEADS.search, layers))
    if inner or max(gaps) > 12 * math.gcd(*gaps):  # a width; or two numbers, neither a few times the other
        return None
    text = "head_size_tokens" if tokens else "head_size"
    cost = 0.08 if len(layers) < 3 else 0.12
    return Finding("head_size", text, set(sizes), first_of(sizes, here=file, there=model), cost)


def adapter_sizes(diff: Difference) -> Finding | None:
    """An adapter of another rank, or of another base model."""
    sizes = {name: pair for name, pair in diff.sizes.items() if "lora_" in name and differing(pair)}
    if not sizes:
        return None
    ranks = Counter((file[i], model[i]) for file, model in sizes.values() for i in differing((file, model)))
    (rank, wanted), count = ranks.most_common(1)[0]
    inner = [0 if "lora_A" in name else -1 for name in sizes]
    one = count == len(sizes) and all(p[0][i] != p[1][i] for i, p in zip(inner, sizes.values(), strict=True))
    text = "adapter_rank" if one else "adapter_base"
    return Finding("adapter_weights", text, set(sizes), first_of(sizes, here=rank, there=wanted), 0.04)


# Encoders -----------------------------------------------------------------------------------------------------------


def head_options(diff: Difference) -> Finding | None:
    """Depth Anything's head, built with other options."""
    sizes = {name: pair for name, pair in diff.sizes.items() if ".depth_head." in f".{name}"}
    if not sizes or len(sizes) < len(diff.sizes) or diff.missing or diff.unexpected:
        return None
    name = next((name for name in sizes if "layer1_rn" in name), next(iter(sizes)))
    return Finding("different_model", "head_options", set(sizes), first_of({name: sizes[name]}, count=len(sizes)), 0.06)


def encoder(diff: Difference) -> Finding | None:
    """Another size of the same network: widths in layers of several kinds, or blocks that only one side has."""
    sizes = {name: pair for name, pair in diff.sizes.items() if _by_width(pair) and not bookkeeping(name)}
    begins = NUMBERED.search(next(iter(sizes), ""))
    late = begins and int(begins[1]) > 0 and (diff.whole or diff.model_class)  # a width shows from the first layer on
    ratio = _ratio(sizes) if sizes and not late and not one_part(sizes) else None
    blocks = [(side, found) for side, names in (("file", diff.missing), ("model", diff.unexpected))
              if (found := continued(names, diff.begun, all_=not ratio))]  # fmt: skip
    extra = {name for _, (names, _, _) in blocks for name in names}
    known = _known(diff)
    if not (ratio or blocks or known) or (sizes and not (ratio or known) and len(extra) < len(sizes)):
        return None
    accounts = {*extra, *(sizes if ratio else ())}
    args: dict[str, object] = {"names": tuple(n for n in diff.names if n in accounts), "count": len(sizes)}
    if sizes and (ratio or known):
        args |= first_of(sizes, here=(ratio or (0, 0))[0], there=(ratio or (0, 0))[1])
    text = "encoder_width"
    if blocks:
        side, (names, first, last) = blocks[0]
        args |= {"side": side, "first": first, "last": last + 1, "name": names[0], "extra": len(names)}
        text = f"encoder_blocks_{side}" if not ratio else f"encoder_both_{side}"
    if known:
        text = "encoder_known" if "depth" in known else "encoder_one"
        return Finding("wrong_encoder", text, set(diff.names), args | known, 0.05 if "depth" in known else 0.07)
    return Finding("wrong_encoder", text, accounts, args, 0.1 if blocks else 0.25)


def _by_width(pair: Pair) -> bool:
    """Whether another width can make these two shapes: it changes no kernel."""
    differ = differing(pair)
    return bool(differ) and (len(pair[0]) < 4 or max(differ) < 2) and min(side[i] for side in pair for i in differ) > 1


def _ratio(sizes: Sizes) -> tuple[int, int] | None:
    """The commonest pair of widths, if the lines are those of another width: many layers, or one ratio in several."""
    lines = [pair for pair in sizes.values() if len(pair[0]) == len(pair[1])]
    tokens = [pair for pair in lines if len(pair[0]) == 3 and pair[0][0] == pair[1][0] == 1 and differing(pair) == [2]]
    widths = Counter((file[i], model[i]) for file, model in lines for i in differing((file, model))[:2] if i < 2 or
                     len(file) == 3)  # fmt: skip
    if not widths:
        return None
    common = max(widths, key=lambda pair: widths[pair])
    layers = {name.rpartition(".")[0] for name in sizes}
    ratios = Counter(r for pair in lines for r in {reduced(pair[0][i], pair[1][i]) for i in differing(pair)})
    several = len(layers) > 1 and len({family(name) for name in sizes}) > 1
    one = several and (5 * max(ratios.values()) >= 4 * len(sizes) or len(layers) >= 8)
    flat = all(differing(pair) == [0] for pair in lines) and len(widths) == 1 and all(
        len(pair[0]) > 1 or not name.endswith(".weight") for name, pair in sizes.items())  # fmt: skip
    return (tokens and (tokens[0][0][2], tokens[0][1][2])) or (common if one and not flat else None)


def _ours(diff: Difference) -> bool:
    """Whether this is a Depth Anything, whose class takes encoder="vits"."""
    return diff.model_class.startswith("DepthAnything") or any(
        (".pretrained." in f".{name}" and ".pretrained.model." not in f".{name}") or ".depth_head." in f".{name}"
        for name in [*diff.sizes, *diff.missing]
    )


def _known(diff: Difference) -> dict[str, object] | None:
    """Which of Depth Anything's sizes fit the file's shapes, and which the model's."""
    if not _ours(diff):
        return None
    file, model = (fitting({name: pair[side] for name, pair in diff.sizes.items()}) for side in (0, 1))
    if not (file or model) or file & model:
        return None
    if not (file and model) and all(".depth_head." in f".{name}" for name in diff.sizes):
        return None  # the head's options
    found: dict[str, object] = {side: "/".join(sorted(some)) or say("findings.another_size")
                                for side, some in (("mine", file), ("theirs", model))}  # fmt: skip
    if len(file) == len(model) == 1:
        a, b = ENCODERS[file.pop()], ENCODERS[model.pop()]
        found |= {"here": a.width, "there": b.width, "depth": a.depth, "wanted": b.depth}
    return found
