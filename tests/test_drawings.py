"""The drawing of the network shows the numbers of its explanation, and nothing that is cut off."""

import io

import numpy as np
import pytest
from drawings import network as drawing
from drawings import your_images
from drawings.strips import rows, strips
from matplotlib.colors import to_rgba
from PIL import Image

import camlib


@pytest.fixture(scope="module")
def cat(clf):
    return camlib.explain(clf, "data/photos/cat.jpg")


def texts(fig):
    return [text.get_text() for ax in fig.axes for text in ax.texts]


def lit(fig):
    """How many boxes have the colour of a lit part."""
    return sum(patch.get_facecolor() == to_rgba(drawing.LIT) for ax in fig.axes for patch in ax.patches)


def test_the_numbers_are_those_of_the_explanation(cat):
    shown = texts(drawing.network(cat, "toaster"))
    k = cat.classifier.index("toaster")
    logit, bias = float(cat.logits[k]), float(cat.bias[k])
    sign = "− " if bias < 0 else "+ "
    mean = f"{logit - bias:.2f}".replace("-", "−")
    total = f"{logit:.2f}".replace("-", "−")
    assert f"{mean}\n{sign}{abs(bias):.2f}\n= {total}" in shown
    assert f"{mean} {sign}{abs(bias):.2f} = {total}" in shown
    cells = [text.replace("−", "-") for text in shown if text.replace("−", "").isdigit()]
    assert [int(c) for c in cells[:49]] == cat.map(k).round().int().flatten().tolist()


def test_parts_are_lit(cat):
    assert lit(drawing.network(cat, "tiger cat")) == 0
    assert lit(drawing.network(cat, "tiger cat", ["means", "map"])) == 2
    assert lit(drawing.network(cat, "tiger cat", drawing.PARTS)) == len(drawing.PARTS)
    with pytest.raises(ValueError, match="no parts \\['gap'\\]; the drawing has photo, stages"):
        drawing.network(cat, "tiger cat", ["gap"])


def test_nothing_is_cut_off_and_the_figure_has_alt_text(cat):
    fig = drawing.network(cat, "Egyptian cat", drawing.PARTS)
    renderer = fig.canvas.get_renderer() if hasattr(fig.canvas, "get_renderer") else None
    edge = fig.bbox
    for ax in fig.axes:
        for text in ax.texts:
            box = text.get_window_extent(renderer)
            assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= edge.x1 and box.y1 <= edge.y1, text.get_text()
    assert "Egyptian cat" in fig.get_label()


def test_the_strips_say_what_they_show_and_keep_clear_of_the_texts(cat):
    fig = drawing.network(cat, "tiger cat", drawing.PARTS)
    (ax,) = fig.axes
    assert [t.splitlines() for t in texts(fig) if "shown" in t] == [
        ["1280 means", f"({drawing.SHOWN} shown: the", "largest products)"],
        ["1280 weights", f"({drawing.SHOWN} shown: the", "largest products)"],
    ]
    strips = [image.get_extent() for image in ax.images if image.get_array().shape == (drawing.SHOWN, 1)]
    assert len(strips) == 2
    for text in ax.texts:
        box = text.get_window_extent().transformed(ax.transData.inverted())
        for left, right, bottom, top in strips:
            apart = box.x1 < left or box.x0 > right or box.y1 < bottom - 0.2 or box.y0 > top + 0.2
            assert apart, f"{text.get_text()!r} touches a strip"
    boxes = [p.get_window_extent() for p in ax.patches if p.get_facecolor() == to_rgba(drawing.LIT)]
    for text in ax.texts:
        if "shown" in text.get_text():
            box = text.get_window_extent()
            assert any(b.x0 + 3 < box.x0 and box.x1 < b.x1 - 3 and b.y0 < box.y0 for b in boxes), "inside its lit box"


def test_strips_have_a_dot_for_each_training():
    trainings = [{"pointing": {"grad_cam": 0.1 * n, "hires_cam": 0.5}} for n in range(10)]
    values = rows({"trainings": trainings}, "pointing", ("grad_cam", "hires_cam"))
    fig = strips({"in the box": values}, here={"in the box": {"Grad-CAM": 0.3}}, lines={"in the box": (0.2, "chance")})
    (ax,) = fig.axes
    assert [len(dots.get_offsets()) for dots in ax.collections] == [10, 1, 10]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["Grad-CAM", "HiResCAM"]
    assert "Grad-CAM 0.00 to 0.90, HiResCAM 0.50 to 0.50" in fig.get_label()


def test_an_animation_stops_has_alt_text_and_the_same_bytes_each_time(clf, monkeypatch):
    shown = []
    monkeypatch.setattr(your_images.display, "display", shown.append)
    photo = camlib.read_image("data/photos/cat.jpg")
    frames = [np.roll(photo, 20 * n, 1)[:240, :300] for n in range(3)]
    exps = camlib.explain_all(clf, frames)
    for _ in range(2):
        your_images.animation(exps, "tiger cat", 20)
    first, second = shown
    assert first.data == second.data and "tiger cat" in first.alt
    with Image.open(io.BytesIO(first.data)) as image:
        assert (image.format, image.n_frames, image.info["loop"]) == ("PNG", 3, 2)
