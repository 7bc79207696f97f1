"""The drawing of the network shows the numbers of its explanation, and nothing that is cut off."""

import pytest
from drawings import network as drawing
from matplotlib.colors import to_rgba

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
