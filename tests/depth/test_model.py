"""The model beside the official code: names, shapes, values of a whole forward, and what it refuses."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import recipe
import torch
from parity import CASES, DATA, OUTPUTS, TOLERANCE, departure, run, sizes
from torch import nn

from dav2_utils.depth.model import DepthAnythingV2, InputError, _network_size, model_configs
from dav2_utils.encoders import ENCODERS, table_for
from dav2_utils.errors import CheckpointError


def on_meta(*arguments: object, **options: object) -> DepthAnythingV2:
    with torch.device("meta"):
        return DepthAnythingV2(*arguments, **options)  # type: ignore[arg-type]


def shapes(model: nn.Module) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tuple(tensor.shape)) for name, tensor in model.state_dict().items()]


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    arrays = recipe.weights({name: info.shape for name, info in table_for("vits").items()})
    assert recipe.fingerprint(arrays) == json.loads((DATA / "digests.json").read_text())["vits"]
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


@pytest.fixture(scope="module")
def vits(weights: dict[str, torch.Tensor]) -> DepthAnythingV2:
    model = on_meta("vits")
    model.load_state_dict(weights, assign=True)
    return model.eval()


@pytest.fixture(scope="module")
def tiny() -> Iterator[DepthAnythingV2]:
    torch.manual_seed(0)
    yield DepthAnythingV2("tiny", max_depth=20).eval()


# ---- Names, shapes, arguments ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_depth", [None, 80.0])
@pytest.mark.parametrize("encoder", ["vits", "vitb", "vitl", "vitg"])
def test_names_shapes_and_order_are_the_official_ones(encoder: str, max_depth: float | None) -> None:
    official = json.loads((DATA / f"keys_{encoder}.json").read_text())
    model = on_meta(**model_configs[encoder], max_depth=max_depth)
    assert shapes(model) == [(name, tuple(shape)) for name, shape in official.items()]
    assert not list(model.buffers())


@pytest.mark.parametrize("use_clstoken", [False, True])
@pytest.mark.parametrize("use_bn", [False, True])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_formula_of_the_tables_holds(encoder: str, use_bn: bool, use_clstoken: bool) -> None:
    model = on_meta(encoder, use_bn=use_bn, use_clstoken=use_clstoken)
    assert shapes(model) == [(name, info.shape) for name, info in table_for(encoder, use_bn, use_clstoken).items()]


def test_the_arguments_are_the_official_ones() -> None:
    assert on_meta().encoder == "vitl"
    given = on_meta("vits", 32, [8, 16, 24, 32], True, True, 20.0)
    assert given.max_depth == 20.0
    assert given.depth_head.scratch.refinenet1.resConfUnit1.bn1.weight.shape == (32,)
    assert [layer.out_channels for layer in given.depth_head.projects] == [8, 16, 24, 32]
    assert model_configs["vitb"] == {"encoder": "vitb", "features": 128, "out_channels": [96, 192, 384, 768]}


def test_an_unknown_encoder_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"There is no encoder 'vith'.*vits, vitb, vitl, vitg, tiny"):
        DepthAnythingV2("vith")


def test_layer_norms_have_the_official_epsilon() -> None:
    """Too small to show on the recipe's tokens, whose variance is about 1; torch's own default is 1e-5."""
    assert {m.eps for m in on_meta("vits").modules() if isinstance(m, nn.LayerNorm)} == {1e-6}


# ---- Values: the same as the official code's -------------------------------------------------------------------------


@pytest.mark.elsewhere
@pytest.mark.parametrize("name", [k for k in json.loads((DATA / "digests.json").read_text()) if k.startswith("i")])
def test_the_recipe_makes_the_same_pictures(name: str) -> None:
    kind, size, *item = name.split()
    numbers = sizes(size)
    made = (
        recipe.make_image(*numbers, int(item[0][1:]))
        if kind == "image"
        else recipe.make_input(numbers[0], *numbers[2:])
    )
    assert recipe.fingerprint({name: made}) == json.loads((DATA / "digests.json").read_text())[name]


@pytest.mark.elsewhere
@pytest.mark.parametrize(
    ("file", "max_depth", "case"),
    [pytest.param(*row, id=f"{'relative' if row[1] is None else 'metric'} {row[2]}") for row in CASES],
)
def test_parity(
    vits: DepthAnythingV2, weights: dict[str, torch.Tensor], file: str, max_depth: float | None, case: str
) -> None:
    model = vits
    if max_depth is not None:
        model = on_meta("vits", max_depth=max_depth)
        model.load_state_dict(weights, assign=True)
    limit = 1e-6 if case.startswith("image2tensor") else TOLERANCE
    assert departure(OUTPUTS[file, max_depth], case, run(model, case)) < limit


@pytest.mark.parametrize(
    "name", ["pretrained.pos_embed", "pretrained.blocks.5.attn.qkv.weight", "depth_head.projects.2.bias"]
)
def test_parity_would_see_one_tensor_off_by_one_percent(vits: DepthAnythingV2, name: str) -> None:
    tensor, case = vits.get_parameter(name), "forward 2x3x126x182"
    kept = tensor.detach().clone()
    try:
        with torch.no_grad():
            tensor.mul_(1.01)
        assert departure(OUTPUTS["out_vits_relative.npz", None], case, run(vits, case)) > TOLERANCE
    finally:
        with torch.no_grad():
            tensor.copy_(kept)


@pytest.mark.elsewhere
def test_every_stage_is_the_official_one(vits: DepthAnythingV2) -> None:
    """The same at 34 places inside, so that a departure names the module where it begins."""
    stages = json.loads((DATA / "stages_vits_252x336.json").read_text())
    seen = {"pretrained position table after interpolation": vits.pretrained.positions(18, 24).detach()}
    modules = {name: module for name, module in vits.named_modules() if name in stages}
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, out, name=name: seen.update({name: out}))
        for name, module in modules.items()
    ]
    run(vits, "forward 1x3x252x336")
    for hook in hooks:
        hook.remove()
    assert set(seen) == set(stages)
    for name, official in stages.items():
        flat = seen[name].flatten().numpy()
        ours = flat[[i * (len(flat) - 1) // 15 for i in range(16)]]
        assert np.abs(ours - official).max() < 1e-4 * max(1, np.abs(official).max()), name


@pytest.mark.elsewhere
def test_max_depth_80_is_four_times_20(tiny: DepthAnythingV2) -> None:
    streets = DepthAnythingV2("tiny", max_depth=80)
    streets.load_state_dict(tiny.state_dict())
    image = recipe.make_image(56, 70)
    indoor, outdoor = tiny.infer_image(image, 56), streets.infer_image(image, 56)
    assert np.array_equal(4 * indoor, outdoor)
    assert 0 < indoor.min() < indoor.max() < 20


def test_the_position_table_is_left_alone_at_its_own_size_only(vits: DepthAnythingV2) -> None:
    encoder = vits.pretrained
    assert encoder.positions(37, 37) is encoder.pos_embed
    resized = encoder.positions(16, 16)[:, 1:].unflatten(1, (16, 16))
    table = encoder.pos_embed[:, 1:].unflatten(1, (37, 37)).permute(0, 3, 1, 2)
    as_transformers_does = nn.functional.interpolate(table, (16, 16), mode="bicubic").permute(0, 2, 3, 1)
    assert (resized - as_transformers_does).abs().max() > 0.1


def test_five_tensors_never_change_the_output() -> None:
    model = DepthAnythingV2("tiny", max_depth=20)
    model(torch.randn(2, 3, 28, 42)).mean().backward()
    silent = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    unit = "depth_head.scratch.refinenet4.resConfUnit1"
    assert silent == {"pretrained.mask_token"} | {
        f"{unit}.conv{i}.{part}" for i in (1, 2) for part in ("weight", "bias")
    }


@pytest.mark.parametrize("batch", [1, 2])
def test_the_head_works_channels_last(tiny: DepthAnythingV2, batch: int) -> None:
    """Not a matter of taste: it is a good part of the speed, and one reshape in the wrong place loses it unseen."""
    maps: dict[str, torch.Tensor] = {}
    convolutions = [(n, m) for n, m in tiny.depth_head.named_modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    hooks = [m.register_forward_hook(lambda _m, _i, out, n=n: maps.update({n: out})) for n, m in convolutions]
    with torch.no_grad():
        tiny(torch.randn(batch, 3, 56, 70))
    for hook in hooks:
        hook.remove()
    assert not [name for name, out in maps.items() if not out.is_contiguous(memory_format=torch.channels_last)]


# ---- Training, variants, precisions ----------------------------------------------------------------------------------


@pytest.mark.elsewhere
def test_it_learns() -> None:
    torch.manual_seed(0)
    model = DepthAnythingV2("tiny", max_depth=20)
    image, truth = torch.randn(2, 3, 56, 70), torch.linspace(2, 18, 70).expand(2, 56, 70)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        loss = (model(image) - truth).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize(("use_bn", "use_clstoken"), [(True, False), (False, True), (True, True)])
def test_the_variants_run_and_each_part_counts(use_bn: bool, use_clstoken: bool) -> None:
    torch.manual_seed(0)
    model = DepthAnythingV2("tiny", use_bn=use_bn, use_clstoken=use_clstoken, max_depth=20)
    assert model(torch.randn(2, 3, 28, 42)).shape == (2, 28, 42)
    model(torch.randn(2, 3, 28, 42)).mean().backward()
    named = dict(model.named_parameters())
    for part in (["bn1", "bn2"] if use_bn else []) + (["readout_projects"] if use_clstoken else []):
        gradients = [p.grad for n, p in named.items() if part in n and "refinenet4.resConfUnit1" not in n]
        assert gradients and all(g is not None and g.abs().sum() > 0 for g in gradients)


def test_a_file_from_sync_batch_norm_loads() -> None:
    trained = nn.SyncBatchNorm.convert_sync_batchnorm(DepthAnythingV2("tiny", use_bn=True))
    assert any(isinstance(module, nn.SyncBatchNorm) for module in trained.modules())
    model = DepthAnythingV2("tiny", use_bn=True)
    model.load_state_dict(trained.state_dict(), strict=True)


def test_the_feed_forward_of_vitg() -> None:
    """The gated feed-forward, against its definition w3(silu(a) * b), a and b the halves of w12."""
    from dav2_utils.depth.dinov2 import SwiGLU

    torch.manual_seed(0)
    layer, x = SwiGLU(8, 12), torch.randn(1, 3, 8)
    a, b = layer.w12(x)[..., :12], layer.w12(x)[..., 12:]
    assert torch.allclose(layer(x), layer.w3(a * torch.sigmoid(a) * b))
    assert tuple(on_meta("vitg")(torch.zeros(1, 3, 28, 28, device="meta")).shape) == (1, 28, 28)


@pytest.mark.elsewhere
def test_bfloat16_runs_and_gives_float32(vits: DepthAnythingV2, weights: dict[str, torch.Tensor]) -> None:
    model = on_meta("vits")
    model.load_state_dict({name: tensor.bfloat16() for name, tensor in weights.items()}, assign=True)
    image = recipe.make_image(100, 60)
    exact, rough = vits.infer_image(image, 98), model.infer_image(image, 98)
    assert rough.dtype == np.float32
    assert 1e-4 < np.abs(rough - exact).mean() / exact.std() < 0.1


# ---- Pictures in -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("picture", "input_size", "seen"),
    [  # what the official preprocessing makes of each
        ((480, 640), 518, (518, 686)),
        ((480, 640), 266, (266, 350)),
        ((333, 500), 518, (518, 784)),
        ((333, 500), 266, (266, 406)),
        ((100, 60), 518, (868, 518)),
        ((100, 60), 266, (448, 266)),
        ((1, 1), 14, (14, 14)),
    ],
)
def test_the_size_in_the_network(picture: tuple[int, int], input_size: int, seen: tuple[int, int]) -> None:
    assert _network_size(np.zeros((*picture, 3), np.uint8), input_size) == seen


@pytest.mark.elsewhere
@pytest.mark.filterwarnings("ignore")  # of what the trace holds fast, and that tracing is deprecated
def test_it_can_be_traced_for_an_export(tiny: DepthAnythingV2) -> None:
    picture = torch.rand(1, 3, 56, 70)
    with torch.no_grad():
        traced = torch.jit.trace(tiny, picture, check_trace=False)
        assert torch.allclose(traced(picture), tiny(picture), atol=1e-6)


def test_a_view_of_a_picture_is_a_picture(tiny: DepthAnythingV2) -> None:
    image = recipe.make_image(60, 80)
    assert np.array_equal(tiny.infer_image(image[:, ::-1], 56), tiny.infer_image(image[:, ::-1].copy(), 56))
    assert tiny.infer_image(image, np.int64(56)).shape == (60, 80)
    assert tiny.infer_image(np.zeros((1, 1, 3), np.uint8), 14).shape == (1, 1)


PICTURE = np.zeros((20, 30, 3), np.uint8)
BAD = {
    "no file": (None, 518, "None.*cv2.imread"),
    "a path": ("photo.jpg", 518, "photo.jpg"),
    "grey": (PICTURE[..., 0], 518, r"shape \(20, 30\), uint8"),
    "alpha": (np.zeros((20, 30, 4), np.uint8), 518, r"\(20, 30, 4\)"),
    "channels first": (PICTURE.transpose(2, 0, 1), 518, r"\(3, 20, 30\)"),
    "float": (PICTURE / 255, 518, r"float64.*\(255 \* picture\)"),
    "NaN": (np.full((20, 30, 3), np.nan, np.float32), 518, "float32"),
    "16 bits": (PICTURE.astype(np.uint16), 518, "uint16"),
    "a tensor": (torch.zeros(3, 20, 30), 518, "tensor"),
    "empty": (PICTURE[:0], 518, "0 x 30 pixels"),
    "a size of 0": (PICTURE, 0, "input_size is 0.*Try 14"),
    "a negative size": (PICTURE, -14, "input_size is -14.*Try 14"),
    "a size below 14": (PICTURE, 13, "input_size is 13.*Try 14"),
    "a size between": (PICTURE, 512, "input_size is 512.*multiple of 14.*Try 518"),
    "a size in words": (PICTURE, "518", "input_size is '518'.*Try 518"),
    "a fraction": (PICTURE, 518.0, "input_size is 518.0.*Try 518"),
    "a panorama": (np.broadcast_to(np.uint8(0), (1000, 20_000, 3)), 518, "518 x 10360 in the network"),
    "a huge picture": (np.broadcast_to(np.uint8(0), (10_000, 20_000, 3)), 518, "10000 x 20000 pixels.*64,000,000"),
    "a thread": (np.zeros((1, 20_000, 3), np.uint8), 28, "28 x 560000 in the network"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_error(tiny: DepthAnythingV2, name: str) -> None:
    image, input_size, words = BAD[name]
    with pytest.raises(InputError, match=f"(?s){words}") as caught:
        tiny.infer_image(image, input_size)  # type: ignore[arg-type]
    assert caught.value.kind == "input"
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, CheckpointError)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("shape", [(3, 28, 28), (1, 1, 28, 28), (1, 3, 28, 30), (1, 3, 30, 28), (1, 28, 28, 3)])
def test_a_tensor_of_the_wrong_shape_is_refused(tiny: DepthAnythingV2, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"multiples of 14.*infer_image"):
        tiny(torch.zeros(shape))


def test_without_opencv_the_error_says_what_to_install(tiny: DepthAnythingV2, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(CheckpointError, match=r"OpenCV cannot be imported.*install"):
        tiny.infer_image(PICTURE, 14)
    assert tiny(torch.zeros(1, 3, 14, 14)).shape == (1, 14, 14)
