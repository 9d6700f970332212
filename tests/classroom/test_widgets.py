"""The views as plain functions, and the widgets around them as somebody moves them."""

from __future__ import annotations

import struct
import zlib
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from dav2_utils import CheckpointError, DepthAnythingV2, TensorInfo, make_scene
from dav2_utils.classroom import views, widgets
from dav2_utils.depth.pictures import read_picture, write_depth_maps

EVIL = "<script>alert(1)</script>.weight"


def shown(html: str) -> str:
    """HTML without the places where a long name may break."""
    return html.replace("<wbr>", "")


def test_the_table_can_be_searched_folded_and_narrowed(latest: Path, tiny_model: DepthAnythingV2) -> None:
    folded = shown(views.keys_html(latest, tiny_model))
    assert "{0..7}.attn.qkv.weight" in folded and "other name" in folded
    found = shown(views.keys_html(latest, tiny_model, "blocks.3 QKV", fold=False))
    assert "Unfold the numbered names" in views.keys_html(latest, tiny_model, "blocks.3 qkv")
    assert found.count("<tr>") == 3 and "2 of 183" in found and "blocks.3.attn" in found
    same = views.keys_html(tiny_model.state_dict(), tiny_model, only_differences=True)
    assert same.count("<tr>") == 1


def test_unfolded_shows_what_only_one_side_has() -> None:
    file = {"a": TensorInfo((1,)), "b": TensorInfo((2,))}
    page = views.keys_html(file, {"b": TensorInfo((3,)), "c": TensorInfo((4,))}, fold=False)
    assert [word in page for word in ("only in the file", "other shape", "only in the model")] == [True] * 3


def test_names_that_would_become_one_stand_side_by_side() -> None:
    file = {"w": TensorInfo((1,)), "module.w": TensorInfo((1,))}
    shown = views.keys_html(file, {"w": TensorInfo((1,))}, fold=False)
    assert shown.count("<tr>") == 3 and "only in the file" in shown


def test_thousands_of_names_stay_a_page(tiny_model: DepthAnythingV2) -> None:
    many = {f"layer{number}.part.weight": TensorInfo((number,)) for number in range(20_000)}
    for fold in (True, False):
        page = views.keys_html(many, None, fold=fold)
        assert page.count("<tr>") <= views.MOST_ROWS + 2 and "20000 tensors" in page


def test_names_from_a_file_are_escaped() -> None:
    state = {EVIL: torch.ones(1)}
    page = views.keys_html(state, {"x": TensorInfo((1,))}, fold=False) + views.keys_html(state, None)
    page += views.try_switches([EVIL], [EVIL], ["x"], ()).to_html() + views.error_html(f"KeyError: '{EVIL}'")
    assert "<script>" not in page and "&lt;script&gt;" in page


@pytest.mark.parametrize(
    ("order", "loads", "unexpected"),
    [
        ((), False, ["model", "epoch"]),
        (("unwrap",), False, ["module.a"]),
        (("strip",), False, ["model", "epoch"]),
        (("strip", "unwrap"), False, ["module.a"]),
        (("unwrap", "strip"), True, []),
    ],
)
def test_the_order_of_unwrapping_and_stripping(order: tuple[str, ...], loads: bool, unexpected: list[str]) -> None:
    trial = views.try_switches(["model", "epoch"], ["module.a"], ["a"], order)
    assert trial.loads is loads and trial.unexpected == unexpected
    assert ("It loads" in trial.to_html()) is loads


def test_load_for_real_says_what_torch_says(latest: Path, tiny_model: DepthAnythingV2) -> None:
    before = {name: tensor.clone() for name, tensor in tiny_model.state_dict().items()}
    assert "All keys matched" in views.load_for_real(latest, tiny_model, ("unwrap", "strip"))
    assert "Missing key(s)" in views.load_for_real(latest, tiny_model, ())
    assert all(torch.equal(before[name], tensor) for name, tensor in tiny_model.state_dict().items())


def test_the_depth_at_a_point_is_the_depth_of_the_map(tiny_model: DepthAnythingV2) -> None:
    image = make_scene("streets", 1).image
    depth = tiny_model.infer_image(image, input_size=56)
    picture, words = views.depth_view(tiny_model, image, "cividis", 56, 1.0, 0.0)
    assert f"{depth[0, -1]:.2f} m" in words and "sees little at 56" in words and picture.png.startswith(b"\x89PNG")
    moved, _ = views.depth_view(tiny_model, image, "cividis", 56, 0.5, 0.5)
    assert moved.png != picture.png, "the point is not on the picture"


def test_uploads_of_both_ipywidgets() -> None:
    image = np.zeros((1500, 2000, 3), dtype=np.uint8)
    content = cv2.imencode(".png", image)[1].tobytes()
    assert views.uploaded({"a.png": {"content": content}}) == content  # 7
    assert views.uploaded(({"name": "a.png", "content": memoryview(content)},)) == content  # 8
    assert views.uploaded(()) is None and views.uploaded({}) is None
    assert views.decode(content).shape == (768, 1024, 3)
    for bad in (b"", b"no picture"):
        with pytest.raises(CheckpointError, match="decode"):
            views.decode(bad)


def controls(box: Any) -> dict[str, Any]:
    return {child.description: child for child in inside(box) if getattr(child, "description", "")}


def inside(box: Any) -> list[Any]:
    """Everything in `box`, rows opened."""
    return [each for child in box.children for each in (inside(child) if hasattr(child, "children") else [child])]


def choose(upload: Any, content: bytes) -> None:
    """One file chosen, as the installed ipywidgets tells it: by a dictionary in 7, a tuple in 8."""
    about = {"name": "x.png", "type": "image/png", "size": len(content)}
    if isinstance(upload.value, dict):
        value: Any = {"x.png": {"metadata": {**about, "lastModified": 0}, "content": content}}
    else:
        value = ({**about, "content": content, "last_modified": datetime.now(timezone.utc)},)
    upload.set_trait("value", value)


def test_key_explorer_follows_its_controls(latest: Path, tiny_model: DepthAnythingV2) -> None:
    box = widgets.key_explorer(latest, tiny_model)
    first = box.children[-1].value
    controls(box)["Search"].value = "qkv"
    assert box.children[-1].value != first and "qkv" in box.children[-1].value
    assert "other name" in first and "other name" not in widgets.key_explorer(latest).children[-1].value


def test_strip_playground_from_failure_to_success(latest: Path, tiny_model: DepthAnythingV2) -> None:
    box = widgets.strip_playground(latest, tiny_model)
    parts, (out, real) = controls(box), (box.children[3], box.children[-1])
    assert "does not load" in out.value and "optimizer" in out.value
    parts["Unwrap the container"].value = True
    assert "module.pretrained" in out.value
    parts["Load for real"].click()
    assert "Missing key(s)" in real.value
    parts["Strip 'module.' at the front"].value = True
    assert "It loads" in out.value and real.value == ""
    parts["Load for real"].click()
    assert "All keys matched" in real.value
    parts["Strip first, then unwrap"].value = True
    assert "does not load" in out.value


def test_depth_viewer_follows_its_controls_and_takes_an_upload(tiny_model: DepthAnythingV2) -> None:
    image = make_scene("streets", 1).image
    box = widgets.depth_viewer({"one": tiny_model}, {"a street": image})
    parts, point, picture = controls(box), box.children[-2], box.children[-1]
    before = picture.value
    assert 'alt="depth: metres from the camera' in before
    parts["Colours"].value = "magma"
    assert picture.value != before
    parts["Across, %"].value = 0
    assert "column 0" in point.value
    pictures = []
    for part in (image[:56], image[56:]):
        content = cv2.imencode(".png", part)[1].tobytes()
        choose(parts["Your own picture, below 10 MB"], content)
        assert parts["Picture"].value == "uploaded" and "one on uploaded, magma" in point.value
        pictures.append(picture.value)
    assert pictures[0] != pictures[1], "a second upload is shown, too"
    upload = parts["Your own picture, below 10 MB"]
    upload.set_trait("value", type(upload.value)())
    assert "✗" not in point.value, "an upload that was taken back is not an error"
    choose(upload, b"no picture")
    assert "✗" in point.value and "decode" in point.value


def test_a_click_on_either_panel_sets_the_point(tiny_model: DepthAnythingV2) -> None:
    image = make_scene("streets", 1).image
    box = widgets.depth_viewer({"one": tiny_model}, {"a street": image})
    parts = controls(box)
    drawn, _ = views.depth_view(tiny_model, image, "cividis", 112, 0.5, 0.5)
    assert len(drawn.panels) == 2
    for left, top, right, bottom in drawn.panels:
        assert (right - left) * 900 / ((bottom - top) * 340) == pytest.approx(image.shape[1] / image.shape[0], rel=0.02)
        parts["A click"].value = f"{left + 0.25 * (right - left)} {top + 0.8 * (bottom - top)}"
        assert (parts["Across, %"].value, parts["Down, %"].value) == (25, 80)
        parts["A click"].value = f"{left - 0.001} {top}"
        assert (parts["Across, %"].value, parts["Down, %"].value) == (25, 80), "beside the panel"
        parts["Across, %"].value = parts["Down, %"].value = 50
    for nonsense in ("", "x y", "1"):
        assert views.clicked(nonsense, drawn) is None


def test_a_switch_that_would_change_nothing_is_not_there(latest: Path, tiny_model: DepthAnythingV2) -> None:
    assert "Only what differs" not in controls(widgets.key_explorer(latest, tiny_model))
    assert "Only what differs" not in controls(widgets.key_explorer(latest))
    assert "Only what differs" in controls(widgets.key_explorer("vits", "vitl"))


def test_control_characters_are_shown_as_such() -> None:
    trial = views.try_switches(["a\x1b[31m\x07"], ["a\x1b[31m\x07"], ["b"], ())
    assert "\x1b" not in trial.to_html() and "\\x1b" in trial.to_html()


def test_error_reader_reads(tiny_model: DepthAnythingV2) -> None:
    box = widgets.error_reader()
    assert "Paste an error" in box.children[-1].value
    with pytest.raises(RuntimeError) as error:
        tiny_model.load_state_dict({f"module.{name}": t for name, t in tiny_model.state_dict().items()})
    controls(box)["Error"].value = str(error.value)
    assert "wrapper_prefix" in box.children[-1].value


def test_every_control_has_a_label(latest: Path, tiny_model: DepthAnythingV2) -> None:
    image = make_scene("streets", 1).image
    for box in (
        widgets.key_explorer(latest, tiny_model),
        widgets.strip_playground(latest, tiny_model),
        widgets.depth_viewer({"one": tiny_model}, {"a": image}),
        widgets.error_reader(),
    ):
        kinds = [type(child).__name__ for child in inside(box)]
        named = zip(inside(box), kinds, strict=True)
        assert all(child.description for child, kind in named if kind not in ("HTML", "Image"))
        assert not {"Dropdown", "Select", "RadioButtons"} & set(kinds), "JupyterLab takes the arrow keys from these"


def png(width: int, height: int) -> bytes:
    """A PNG without a single pixel that declares its size."""
    head = b"IHDR" + struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + bytes(8)


def test_pictures_that_lie_about_their_size(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(60_000, 60_000))
    with (tmp_path / "b.png").open("wb") as file:
        file.truncate(10**12)
    for name in ("a.png", "b.png"):
        with pytest.raises(CheckpointError, match="does not decode"):
            read_picture(tmp_path / name)
    with pytest.raises(CheckpointError, match="does not decode"):
        views.decode(png(60_000, 60_000))
    thin = cv2.imencode(".png", np.zeros((1, 5000, 3), dtype=np.uint8))[1].tobytes()
    assert views.decode(thin).shape == (1, 1024, 3)


def test_weights_that_give_no_depth(tmp_path: Path) -> None:
    model = DepthAnythingV2("tiny")
    torch.nn.init.constant_(model.depth_head.scratch.output_conv1.bias, float("nan"))
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((20, 20, 3), dtype=np.uint8))
    [done] = write_depth_maps(model.eval(), [tmp_path / "a.png"], input_size=14)
    assert "NaN" in done["error"] and not list(tmp_path.glob("*.npy"))
