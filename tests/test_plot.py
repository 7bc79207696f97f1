"""Overlays: zero is clear, sign has its colour, one scale, and where nothing was seen it shows."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from camlib import CamError, ImageError, overlay, show
from camlib.plot import encode, figure

PHOTO = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
GRAY = np.asarray(Image.fromarray(PHOTO).convert("L")).astype(int)


def colourfulness(picture):
    return np.ptp(picture.astype(int), axis=2)


def test_zero_evidence_is_the_gray_photo():
    assert np.array_equal(overlay(PHOTO, np.zeros((6, 8))), np.repeat(GRAY[..., None], 3, axis=2))


def test_sign_has_its_colour():
    picture = overlay(PHOTO, np.where(np.arange(8) < 4, -2.0, 2.0) * np.ones((6, 1))).astype(int)
    assert (picture[:, 4:, 0] > picture[:, 4:, 2]).all(), "evidence for: red"
    assert (picture[:, :4, 2] > picture[:, :4, 0]).all(), "evidence against: blue"


def test_twice_the_evidence_is_twice_the_way_to_the_colour():
    flat = np.full((1, 3, 3), 80, np.uint8)
    zero, half, full = overlay(flat, np.array([[0.0, 5.0, 10.0]]), cmap="gray", alpha=1)[0, :, 0].astype(int)
    assert (zero, full) == (80, 255)
    assert half == pytest.approx((80 + 255) / 2, abs=1)


def test_limit_is_the_shared_scale():
    heat = np.zeros((6, 8))
    heat[0, 0] = 1
    weak, strong = overlay(PHOTO, heat, limit=100), overlay(PHOTO, heat, limit=1)
    assert colourfulness(weak)[0, 0] <= 3 < colourfulness(strong)[0, 0]
    assert np.array_equal(overlay(PHOTO, 3 * heat), strong), "by default the largest value is full colour"
    assert np.array_equal(overlay(PHOTO, -9 * heat, limit=1), overlay(PHOTO, -heat, limit=1)), (
        "beyond it nothing changes"
    )


def test_nan_is_pale_and_gray_and_leaves_the_rest_alone():
    heat = np.full((6, 8), 1.0)
    heat[:, :3] = np.nan
    picture = overlay(PHOTO, heat)
    assert np.array_equal(picture[:, :3], np.repeat((GRAY[:, :3] // 2 + 128)[..., None], 3, axis=2))
    assert np.array_equal(picture[:, 3:], overlay(PHOTO, np.ones((6, 8)))[:, 3:])


def test_extreme_maps_are_drawn():
    for heat in (np.full((6, 8), np.nan), np.zeros((6, 8)), np.full((6, 8), -3.0)):
        assert overlay(PHOTO, heat).shape == PHOTO.shape


def test_tensors_are_taken_and_inputs_left_alone():
    heat, before = torch.randn(6, 8), PHOTO.copy()
    kept = heat.clone()
    overlay(PHOTO, heat)
    assert np.array_equal(PHOTO, before)
    assert torch.equal(heat, kept)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"heat": np.zeros((8, 6))}, CamError, "camlib.place"),
        ({"limit": -1.0}, CamError, "limit=-1.0"),
        ({"limit": float("nan")}, CamError, "limit=nan"),
        ({"heat": np.full((6, 8), np.inf)}, CamError, "limit=inf"),
        ({"alpha": 2}, CamError, "opacity lies between"),
        ({"cmap": "hot dog"}, CamError, "no colour map 'hot dog'"),
        ({"photo": np.zeros((6, 8))}, ImageError, "uint8"),
    ],
)
def test_wrong_arguments(options, error, says):
    with pytest.raises(error, match=says):
        overlay(**{"photo": PHOTO, "heat": np.zeros((6, 8))} | options)


def test_figure_shares_one_scale_and_names_the_unit():
    fig = figure(PHOTO, [np.full((6, 8), 2.0), np.full((6, 8), -8.0)], ["a, 60 %", "b, 40 %"], box=(1, 0, 7, 6))
    *panels, bar = fig.axes
    assert [ax.get_title() for ax in panels] == ["photo, network's view dashed", "a, 60 %", "b, 40 %"]
    assert bar.get_ylim() == (-8, 8)
    assert bar.get_ylabel() == "logit evidence per cell"
    assert np.array_equal(panels[1].images[0].get_array(), overlay(PHOTO, np.full((6, 8), 2.0), limit=8))
    frame = panels[0].patches[0]
    assert (frame.get_xy(), frame.get_width(), frame.get_height()) == ((0.5, -0.5), 6, 6)
    bottom, top = bar.collections[-1].cmap([0.0, 1.0])[:, :3]
    assert bottom[2] > bottom[0] and top[0] > top[2], "blue below, red above, as in the overlays"
    assert figure(PHOTO, [np.ones((6, 8))], ["a"], limit=5).axes[-1].get_ylim() == (-5, 5)


def test_encoded_figures_are_the_same_every_time_and_name_no_version():
    chart = Figure()
    chart.subplots().plot([1, 2])
    photos = [encode(figure(PHOTO, [np.ones((6, 8))], ["a"])) for _ in range(2)]
    charts = [encode(chart) for _ in range(2)]
    assert photos[0] == photos[1]
    assert charts[0] == charts[1]
    assert photos[0].startswith(b"\xff\xd8")
    assert charts[0].startswith(b"\x89PNG")
    assert b"Software" not in charts[0] + photos[0]


def test_show_wants_alt_text(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    fig = figure(PHOTO, [np.ones((6, 8))], ["a"])
    with pytest.raises(CamError, match="alt text"):
        show(fig)
    show(fig, alt="a map that is one everywhere")
    assert shown[0].alt == "a map that is one everywhere"
