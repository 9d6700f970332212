"""Pictures: the same bytes each time, alt text with them, nearer brighter, and no metres where there are none."""

from __future__ import annotations

import base64
import io
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from PIL import Image

from dav2_utils import CheckpointError
from dav2_utils.classroom.plots import COLOUR_MAPS, Picture, compare_depths, show_depth

FAR = np.linspace(2, 16, 40 * 60, dtype=np.float32).reshape(40, 60)  # metres; the top is near
BGR = np.zeros((40, 60, 3), np.uint8)


def pixels(picture: Picture) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture.png)).convert("RGB"))


def lightness(picture: Picture) -> np.ndarray:
    """The middle column of the map, from top to bottom, by how light it is to the eye."""
    shown = pixels(picture)[..., :3].astype(float) @ [0.299, 0.587, 0.114]
    column = shown[:, shown.shape[1] // 3]
    return column[shown.shape[0] // 5 : -shown.shape[0] // 5]


@pytest.mark.elsewhere
def test_the_same_input_gives_the_same_bytes_and_the_alt_text_travels_along() -> None:
    one, two = (show_depth(FAR, max_depth=20, image=BGR, title="street") for _ in range(2))
    assert one.png == two.png
    data, metadata = one._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]) == one.png
    assert data["text/plain"] == metadata["image/png"]["alt"] == one.alt == str(one)
    assert f' alt="{one.alt}"' in data["text/html"] and data["image/png"] in data["text/html"]
    assert "2.0 to 16.0 m" in one.alt and one.alt.startswith("street")


def test_no_date_no_version_and_an_opaque_background() -> None:
    picture = show_depth(FAR, max_depth=20)
    opened = Image.open(io.BytesIO(picture.png))
    assert not {"Software", "Creation Time", "date"} & set(opened.info)
    alpha = np.asarray(opened.convert("RGBA"))[..., 3]
    assert alpha.min() == 255
    assert (pixels(picture)[0, 0, :3] == 255).all()


def test_the_readers_style_changes_nothing_and_is_not_changed() -> None:
    before = show_depth(FAR, max_depth=20).png
    with matplotlib.rc_context({"text.color": "red", "font.size": 30, "image.cmap": "jet"}):
        assert show_depth(FAR, max_depth=20).png == before
        assert matplotlib.rcParams["font.size"] == 30


@pytest.mark.elsewhere
@pytest.mark.parametrize("cmap", COLOUR_MAPS[:3])
def test_nearer_is_brighter_in_metres_and_in_relative_depth(cmap: str) -> None:
    metric = lightness(show_depth(FAR, max_depth=20, cmap=cmap))
    relative = lightness(show_depth(1 / FAR, cmap=cmap))
    for column in (metric, relative):
        assert column[0] > column[-1] + 50
        assert (np.diff(column) < 3).all(), "lightness must fall evenly from near to far"


def test_relative_depth_has_no_unit() -> None:
    relative = show_depth(1 / FAR)
    assert "no unit" in relative.alt and " m;" not in relative.alt
    assert show_depth(50 / FAR + 3).png == relative.png, "scale and shift mean nothing"


def test_a_constant_map_is_said_to_be_one() -> None:
    for depth in (np.zeros((8, 9)), np.full((8, 9), 5.0)):
        assert "same value" in show_depth(depth).alt
        assert "same value" in show_depth(depth, max_depth=20).alt


def test_compare_names_each_map_and_its_error() -> None:
    picture = compare_depths(FAR, {"half": FAR / 2, "right": FAR}, max_depth=20, image=BGR)
    assert "half 0.50" in picture.alt and "right 0.00" in picture.alt and "truth" in picture.alt
    alone = compare_depths(FAR, {"right": FAR}, max_depth=20)
    assert pixels(alone).shape[1] < pixels(picture).shape[1]


def test_a_pixel_without_a_truth_does_not_count() -> None:
    truth = FAR.copy()
    truth[0, 0] = 0
    assert "right 0.00" in compare_depths(truth, {"right": FAR}, max_depth=20).alt


def test_a_picture_keeps_its_colours_and_can_be_saved(tmp_path) -> None:
    blue = BGR.copy()
    blue[..., 0] = 255
    picture = show_depth(FAR, max_depth=20, image=blue)
    shown = pixels(picture)
    assert np.abs(shown[shown.shape[0] // 2, shown.shape[1] // 4].astype(int) - [0, 0, 255]).max() < 6
    assert picture.save(tmp_path / "blue.png").read_bytes() == picture.png


def test_a_riddle_gives_nobody_away() -> None:
    maps = {"strict=False": np.full_like(FAR, 8), "fixed": FAR}
    riddle, told = (compare_depths(FAR, maps, max_depth=20, image=BGR, names=names) for names in (False, True))
    assert "A, B" in riddle.alt and not [word for word in ("strict", "fixed", "AbsRel") if word in riddle.alt]
    mirrored = (compare_depths(FAR[:, ::-1], maps, max_depth=20, image=BGR, names=names) for names in (False, True))
    assert [a.png == b.png for a, b in zip(mirrored, (riddle, told), strict=True)] == [True, False], "no errors"
    assert pixels(riddle).shape[1] < pixels(told).shape[1], "in two rows"


def test_errors_of_another_size_look_otherwise_and_a_flat_map_is_a_level_line() -> None:
    """The old scale ended at 50 %, so 0.76 and 3.96 were the same pale field."""
    below = [
        pixels(compare_depths(FAR, {"m": FAR * times}, max_depth=200))[-180:, :, :3].astype(int) for times in (2, 8)
    ]
    assert (np.abs(below[0] - below[1]).sum(-1) > 60).sum() > 200
    flat = pixels(compare_depths(FAR, {"m": np.full_like(FAR, 8)}, max_depth=20))[..., :3].astype(int)
    lower = flat[flat.shape[0] // 2 :]
    line = (np.abs(lower - [0x08, 0x30, 0x6B]).sum(-1) < 30).any(1)
    assert 1 <= line.sum() <= 4, "the dark line is level"


@pytest.mark.parametrize(
    ("depth", "text"),
    [
        (np.zeros((4, 5, 3)), "two dimensions"),
        (np.zeros((0, 5)), "two dimensions"),
        (np.full((4, 5), np.nan), "20 of 20 depths"),
    ],
)
def test_what_is_no_depth_map_is_refused(depth: np.ndarray, text: str) -> None:
    with pytest.raises(CheckpointError, match=text):
        show_depth(depth)


def test_wrong_pictures_maps_and_colours_are_refused() -> None:
    with pytest.raises(CheckpointError, match="Read it with cv2"):
        show_depth(FAR, image=FAR)
    with pytest.raises(CheckpointError, match="cividis"):
        show_depth(FAR, cmap="jet")
    with pytest.raises(CheckpointError, match="cannot be scored"):
        compare_depths(FAR, {"smaller": FAR[:4]}, max_depth=20)


def test_pyplot_is_not_loaded_and_a_missing_matplotlib_is_said() -> None:
    code = (
        "import sys, numpy as np; from dav2_utils import show_depth; assert 'matplotlib' not in sys.modules\n"
        "show_depth(np.ones((3, 4))); assert 'matplotlib.pyplot' not in sys.modules\n"
        "sys.modules['matplotlib'] = None\n"
        "try: show_depth(np.ones((3, 4)))\n"
        "except Exception as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'dav2_utils[lessons]'" in done.stdout


def test_a_dollar_in_a_title_is_a_dollar() -> None:
    assert show_depth(np.ones((4, 4)), title=r"$\frac$ of a_b").png.startswith(b"\x89PNG")
