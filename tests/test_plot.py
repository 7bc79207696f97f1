"""Overlays: zero is clear, sign has its colour, one scale, and where nothing was seen it shows."""

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.patches import Rectangle
from PIL import Image

from camlib import CamError, ImageError, fonts, overlay, show
from camlib.plot import ENDS, UNIT, encode, figure, mappable, oklab

PHOTO = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
GRAY = np.asarray(Image.fromarray(PHOTO).convert("L")).astype(int)


def colourfulness(picture):
    return np.ptp(picture.astype(int), axis=2)


def on_grays(evidence, **options):
    """OKLab (256, 3) of one amount of evidence from -1 to 1 on every gray, as it is drawn."""
    grays = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    return oklab(overlay(grays, np.full((1, 256), evidence, np.float32), limit=1, **options)[0].astype(float))


def chroma(lab):
    return np.hypot(lab[..., 1], lab[..., 2])


def test_oklab():
    """The values of CSS Color 4 (W3C), Ottosson's own for white, and a gray, whose lightness is a cube root."""
    rgb = np.array([[255, 0, 0], [0, 128, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [188, 188, 188]])
    expected = [[0.62796, 0.22486, 0.12585], [0.51975, -0.1403, 0.10768], [0.45201, -0.03246, -0.31153]]
    expected += [[1, 0, 0], [0, 0, 0], [(((188 / 255 + 0.055) / 1.055) ** 2.4) ** (1 / 3), 0, 0]]
    np.testing.assert_allclose(oklab(rgb), expected, atol=1e-4)


def test_zero_evidence_is_the_photo_in_gray_with_less_contrast():
    picture = overlay(PHOTO, np.zeros((6, 8)))
    assert (colourfulness(picture) == 0).all()
    order = np.argsort(GRAY, axis=None)
    assert (np.diff(picture[..., 0].reshape(-1)[order].astype(int)) >= 0).all(), "darker stays darker"
    assert oklab(overlay(np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1)))[0, 0])[0] == pytest.approx(0.35, abs=3e-3)
    assert oklab(overlay(np.full((1, 1, 3), 255, np.uint8), np.zeros((1, 1)))[0, 0])[0] == pytest.approx(0.93, abs=3e-3)


@pytest.mark.parametrize("evidence", [-1, -0.75, -0.5, -0.25, 0.25, 0.5, 0.75, 1])
def test_equal_evidence_has_equal_colour_on_dark_and_bright_parts(evidence):
    shown = on_grays(evidence)
    assert np.ptp(chroma(shown)) < 0.08 * chroma(shown).max()
    assert np.ptp(np.unwrap(np.arctan2(shown[:, 2], shown[:, 1]))) < np.deg2rad(8), "and the same hue"
    assert (np.diff(shown[:, 0]) > -0.01).all() and np.ptp(shown[:, 0]) > 0.2, "the photo is still there"


def test_the_colour_bar_reads_the_same_on_dark_and_bright_parts():
    """Compare hue and chroma with the bar, and you read the evidence to within 10 %."""
    bar = oklab(255 * mappable(1).to_rgba(np.linspace(-1, 1, 2001))[:, :3])
    for evidence in (-1, -0.5, -0.25, 0.25, 0.5, 1):
        nearest = np.linalg.norm(on_grays(evidence)[:, None, 1:] - bar[None, :, 1:], axis=2).argmin(1)
        assert np.linspace(-1, 1, 2001)[nearest] == pytest.approx(evidence, abs=0.1 * abs(evidence) + 0.01)


def test_sign_has_its_colour():
    picture = overlay(PHOTO, np.where(np.arange(8) < 4, -2.0, 2.0) * np.ones((6, 1))).astype(int)
    assert (picture[:, 4:, 0] > picture[:, 4:, 2]).all(), "evidence for: red"
    assert (picture[:, :4, 2] > picture[:, :4, 0]).all(), "evidence against: blue"


def test_twice_the_evidence_is_twice_the_colour():
    flat = np.full((1, 3, 3), 80, np.uint8)
    zero, half, full = chroma(oklab(overlay(flat, np.array([[0.0, 5.0, 10.0]]))[0].astype(float)))
    assert zero < 1e-3 and full > 0.15 and half == pytest.approx(full / 2, rel=0.05)
    fainter = chroma(oklab(overlay(flat, np.full((1, 3), 10.0), alpha=0.85 / 2)[0].astype(float)))
    assert fainter == pytest.approx(half, rel=0.05)


def test_a_colour_map_without_hues_changes_the_lightness():
    flat = np.full((1, 3, 3), 80, np.uint8)
    picture = overlay(flat, np.array([[-1.0, 0.0, 1.0]]), cmap="gray")[0].astype(int)
    assert (colourfulness(picture[None]) == 0).all() and picture[0, 0] < picture[1, 0] - 20 < picture[2, 0] - 40


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
    pale = picture[:, :3].astype(float)
    assert (colourfulness(pale) == 0).all()
    light = oklab(np.repeat(GRAY[:, :3, None], 3, axis=2))[..., 0]
    np.testing.assert_allclose(oklab(pale)[..., 0], 0.8 + 0.17 * light, atol=3e-3)
    assert np.array_equal(picture[:, 3:], overlay(PHOTO, np.ones((6, 8)))[:, 3:])


def test_the_ends_of_the_default_colour_map_are_matplotlibs():
    """They are known by heart, because importing matplotlib would cost more than drawing."""
    from matplotlib import colormaps

    np.testing.assert_allclose(ENDS, [colormaps["coolwarm"](end)[:3] for end in (0.0, 1.0)], atol=1e-9)


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
        ({"alpha": 2}, CamError, "must be a number between"),
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


def drawn(titles, shape=(60, 80), **options):
    """A figure, drawn, with one map for each title."""
    fig = figure(np.zeros((*shape, 3), np.uint8), [np.ones(shape)] * len(titles), titles, **options)
    FigureCanvasAgg(fig).draw()
    return fig


@pytest.mark.parametrize(
    ("shape", "titles", "box"),
    [
        ((60, 80), ["tiger cat, 38.1 %", "German shepherd, 12 %"], None),
        ((80, 60), ["tiger cat, 38.1 %", "two\nlines"], None),
        ((60, 80), ["7 × 7 cells, naïve"], (5, 5, 50, 50)),
        ((60, 80), ["$5, space shuttle against foxes"], (5, 5, 50, 50)),
    ],
)
def test_ordinary_titles_are_drawn_as_matplotlib_draws_them(shape, titles, box):
    (h, w), width = shape, 3.0 if shape[0] <= shape[1] else 2.4
    photo, heat = np.zeros((h, w, 3), np.uint8), np.ones(shape)
    size = (width * (len(titles) + 1) + 0.7, width * h / w + 0.5)
    plain = Figure(figsize=size, layout="constrained", dpi=100)
    axes = plain.subplots(1, len(titles) + 1)
    first = "photo, network's view dashed" if box else "photo"
    for ax, picture, title in zip(axes, [photo] + [overlay(photo, heat)] * len(titles), [first, *titles], strict=True):
        ax.imshow(picture)
        ax.set_title(title, fontsize=11)
        ax.axis("off")
    if box:
        axes[0].add_patch(Rectangle((4.5, 4.5), 45, 45, fill=False, edgecolor="white", linestyle="--"))
    plain.colorbar(mappable(1), ax=list(axes), label=UNIT, shrink=0.9)
    assert encode(figure(photo, [heat] * len(titles), titles, box)) == encode(plain)


@pytest.mark.parametrize("title", ["$x_{$, 3 %", "$5 or $6, 4.0 %", r"a\_b $\alpha$", "tab\there", "100 %", "{", "^_^"])
def test_titles_and_unit_are_no_formulas(title):
    *panels, bar = drawn([title], unit="$x_{$").axes
    assert panels[1].get_title() == title.replace("\t", " ")
    assert bar.get_ylabel() == "$x_{$"


def test_labels_that_are_no_text_are_drawn(recwarn):
    assert drawn(["cat\udc80\x00"]).axes[1].get_title() == "cat\ufffd "
    assert not recwarn.list


LONG = [
    "German short-haired pointer from the far north, 38.1 %",
    "n02123045_tabby_cat_with_a_name_as_long_as_a_path_and_longer_than_two_lines, 100 %",
    "W" * 500 + ", 3.0 %",
    "a title without any percentage that does not end before the panel does, not even after two lines of it",
    "حيوان أليف طويل الشعر يعيش في البيت مع العائلة, 38.1 %",
]


@pytest.mark.parametrize("shape", [(60, 80), (80, 60), (20, 100)])
def test_long_titles_stay_within_their_panels_and_keep_their_percentages(shape):
    fig, plain = drawn(["a", *LONG], shape), drawn([*"abcdef"], shape)
    boxes = [ax.title.get_window_extent() for ax in fig.axes[:-1]] + [fig.axes[-1].get_window_extent()]
    assert all(a.x1 < b.x0 for a, b in zip(boxes[2:], boxes[3:], strict=False)), "no two touch, nor the colour bar"
    assert all(box.y1 <= fig.bbox.y1 for box in boxes), "none is cut off"
    for ax, title, before in zip(fig.axes[2:-1], LONG, plain.axes[2:], strict=False):
        text = ax.get_title()
        assert text.count("\n") == 1
        if "%" in title:
            assert text.endswith(title[title.rindex(",") :])
        whole = text.translate(dict.fromkeys(map(ord, "\n\u200e\u2068\u2069 ")))
        assert "…" in text or whole == title.replace(" ", "")
        assert ax.get_window_extent().height == pytest.approx(before.get_window_extent().height, rel=0.02)


def test_a_long_title_is_broken_between_words_and_not_within_a_letter():
    german, path, accents, family, fits = (
        ax.get_title()
        for ax in drawn(
            [LONG[0], LONG[1], "e\u0301" * 100, "🐱\u200d🐱" * 60, "wire-haired fox terrier, Lakeland, 38.1 %"]
        ).axes[1:6]
    )
    assert german == "German short-haired pointer from\nthe far north, 38.1 %"
    assert path.split("\n")[0][-1] == "_"
    assert all(line[0] == "e" for line in accents.split("\n"))
    assert accents[-2:] == "\u0301…"
    assert all(line[0] == "🐱" and line.rstrip("…")[-1] == "🐱" for line in family.split("\n"))
    assert fits == "wire-haired fox terrier, Lakeland,\n38.1 %", "a name that fits is not broken"


def test_labels_in_other_scripts_are_drawn_or_warned_about(monkeypatch):
    here = [face for face in fontManager.ttflist if "dejavu" in face.fname.lower() or "LastResort" in face.fname]
    monkeypatch.setattr(fontManager, "ttflist", here)
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", list)
    fonts._add_new_fonts.cache_clear()
    with pytest.warns(UserWarning) as caught:
        fig = drawn(["बिल्ली, 38.1 %", "קט, 38.1 %"], unit="猫")
    fonts._add_new_fonts.cache_clear()
    (warning,) = caught
    assert "Devanagari" in str(warning.message) and "Chinese" in str(warning.message)
    assert warning.filename == __file__
    texts = [ax.title for ax in fig.axes[1:3]] + [fig.axes[3].yaxis.label]
    assert [text.get_fontfamily() for text in texts] == [["sans-serif", fonts.LAST_RESORT]] * 3
    assert fig.axes[2].get_title() == fonts.in_order("קט", ", 38.1 %") != "קט, 38.1 %"


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


def test_a_class_is_no_limit():
    with pytest.raises(CamError, match="limit='dog'.*Pass several classes as a list"):
        figure(np.zeros((8, 8, 3), np.uint8), [np.ones((8, 8))], ["cat"], limit="dog")


def test_small_numbers_have_their_power_in_the_unit():
    fig = figure(np.zeros((8, 8, 3), np.uint8), [np.full((8, 8), 2e-5)], ["cat"], unit="gradient")
    bar = fig.axes[-1]
    assert bar.get_ylabel() == "gradient (10⁻⁵)"
    assert bar.get_ylim() == pytest.approx((-2, 2))
