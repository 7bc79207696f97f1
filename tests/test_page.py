"""The explorer's page as Python writes it: what it holds, how exact, how large, and that names stay text."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

import camlib
from camlib import CamError, explain, explain_all, load_model, to_html
from camlib.page import _encoded
from tests.networks import tiny

HOSTILE = "</script><img src=x onerror=alert(1)> {{data}} & \"quoted\" 'name' \u2028 é"


@pytest.fixture(scope="module")
def exp(clf, cat):
    return explain(clf, cat)


def data(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def array(text, kind):
    return np.frombuffer(base64.b64decode(text), kind)


def page_arrays(photo):
    """The numbers of a photo's classes; None for what its method or network has not."""
    names = ("logits", "probabilities", "bias")
    return {name: photo[name] if photo[name] is None else array(photo[name], "<f4") for name in names}


def maps_in(view):
    ends = array(view["ends"], "<f4").astype(float).reshape(-1, 2)
    steps = array(view["steps"], "<u2").astype(float).reshape(len(ends), *view["cells"])
    low, high = ends.T[:, :, None, None]
    return low + steps * (high - low) / 65535, (high - low)[:, 0, 0]


def picture_in(photo):
    return Image.open(io.BytesIO(base64.b64decode(photo["picture"].split(",")[1])))


def test_every_class_is_in_it_as_exactly_as_16_bits_can(exp):
    (photo,) = data(to_html(exp))["photos"]
    assert photo["classes"] == list(range(1000))
    (view,) = photo["views"]
    maps, distance = maps_in(view)
    off = np.abs(maps - exp.maps.double().numpy()).max((1, 2))
    assert (off <= distance / 131070 + 1e-6).all()
    numbers = page_arrays(photo)
    assert np.array_equal(numbers["logits"], exp.logits.numpy())
    assert np.array_equal(numbers["bias"], exp.bias.numpy())
    identity = maps.mean((1, 2)) + numbers["bias"] - numbers["logits"]
    assert np.abs(identity).max() < 1e-3
    np.testing.assert_allclose(numbers["probabilities"], exp.logits.double().softmax(0), atol=1e-7)
    assert [tuple(view[name]) for name in ("resized", "offset", "size")] == [
        exp.view.resized,
        exp.view.offset,
        exp.view.size,
    ]
    assert (photo["size"], photo["network"], photo["method"]) == ([300, 451], "efficientnet_lite0", "cam")


@pytest.mark.parametrize(
    ("activation", "right"),
    [("softmax", lambda z: z.softmax(0)), ("sigmoid", lambda z: z.sigmoid()), (None, lambda z: None)],
)
def test_probabilities_are_the_networks_or_absent(cat, activation, right):
    exp = explain(load_model(tiny(), size=64, activation=activation), cat)
    (photo,) = data(to_html(exp))["photos"]
    expected = right(exp.logits.double())
    numbers = page_arrays(photo)
    if expected is None:
        assert photo["probabilities"] is None
    else:
        np.testing.assert_allclose(numbers["probabilities"], expected, atol=1e-7)
    assert np.array_equal(numbers["logits"], exp.logits.numpy())


def test_labels_of_several_classes_are_told_apart(exp):
    page = data(to_html(exp))
    (photo,) = page["photos"]
    labels = page["labels"][photo["labels"]]
    assert labels == list(exp.classifier.labels)
    assert photo["several"] == [k for k, label in enumerate(labels) if labels.count(label) > 1]


@pytest.mark.parametrize("kind", ["photograph", "noise"])
def test_a_page_of_1024_pixels_has_at_most_700_kB(clf, kind):
    photo = camlib.read_image("data/photos/hubble_deep_field.jpg")
    side = (1600, 1200)
    photo = np.asarray(Image.fromarray(photo).resize(side))
    if kind == "noise":
        photo = np.random.default_rng(0).integers(0, 256, photo.shape, np.uint8)
    page = to_html(explain(clf, photo))
    picture = picture_in(data(page)["photos"][0])
    print(f"{kind}: {len(page.encode()) / 1e3:.0f} kB, {picture.size}")
    assert len(page.encode()) <= 700_000
    if kind == "photograph":
        assert picture.size == (1024, 768)


def test_too_many_cells_leave_the_most_probable_classes(clf, cat):
    exp = explain(clf, cat, view="whole", sizes=512)
    page = to_html(exp)
    (photo,) = data(page)["photos"]
    cells = int(np.prod(photo["views"][0]["cells"]))
    assert len(page.encode()) <= 700_000
    assert len(photo["classes"]) == 270_000 // (2 * cells) < 1000
    assert set(photo["classes"]) == {p.index for p in exp.top(len(photo["classes"]))}
    assert np.array_equal(array(photo["logits"], "<f4"), exp.logits[photo["classes"]].numpy())


def test_several_resolutions_keep_their_own_maps(clf, cat):
    exp = explain(clf, cat, sizes=(224, 256))
    (photo,) = data(to_html(exp))["photos"]
    assert [view["cells"] for view in photo["views"]] == [[7, 7], [8, 8]]
    for view, side in zip(photo["views"], (224, 256), strict=True):
        alone = explain(clf, cat, sizes=side)
        assert np.allclose(maps_in(view)[0], alone.maps[photo["classes"]], atol=1e-3)


def test_other_methods_show_their_ten_best_without_an_identity(clf, cat):
    exp = explain(clf, cat, method="layer_cam")
    (photo,) = data(to_html(exp))["photos"]
    assert photo["classes"] == sorted(p.index for p in exp.top(10))
    probabilities = [exp.probabilities[k].item() for k in photo["classes"]]
    np.testing.assert_allclose(page_arrays(photo)["probabilities"], probabilities, atol=1e-7)
    assert np.allclose(maps_in(photo["views"][0])[0], exp.map(photo["classes"]), atol=1e-3)
    assert photo["bias"] is None
    assert photo["additive"] is False
    assert data(to_html(explain(clf, cat, method="grad_cam")))["photos"][0]["additive"] is True


def test_several_photos_share_their_labels(clf):
    exps = explain_all(clf, ["data/photos/cat.jpg", "data/photos/coffee.png"])
    page = data(to_html(exps, names=["cat", "coffee"], start=1))
    assert [p["name"] for p in page["photos"]] == ["cat", "coffee"]
    assert len(page["labels"]) == 1
    assert page["start"] == 1
    assert [p["name"] for p in data(to_html(exps))["photos"]] == ["photo 1", "photo 2"]


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)


def tags(page):
    parser = Tags()
    parser.feed(page)
    return parser.tags


def test_hostile_names_stay_text(exp, cat):
    few = explain(load_model(tiny(), labels=(HOSTILE, "b", "<b>"), size=32), cat)
    page = to_html(few, names=[HOSTILE])
    assert tags(page) == tags(to_html(exp, names=["x"]))
    assert data(page)["photos"][0]["name"] == HOSTILE
    assert data(page)["labels"][0][0] == HOSTILE
    assert to_html(exp, names=["\udcff.jpg"]).encode(), "a file name need not be text"
    frame = few._repr_html_()
    assert tags(frame) == ["div", "img", "iframe"]


def test_nothing_is_fetched(exp):
    page = to_html(exp)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", page.replace(data_text(page), ""))
    assert "default-src 'none'" in page


def data_text(page):
    return re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1]


def test_the_page_is_the_same_every_time(exp):
    assert to_html(exp) == to_html(exp)


def test_written_whole_or_not_at_all(exp, tmp_path, monkeypatch):
    path = exp.to_html(tmp_path / "cat.html", "cat.jpg")
    assert path.read_text(encoding="utf-8") == to_html(exp, names=["cat.jpg"])
    with pytest.raises(CamError, match="cannot be written"):
        exp.to_html(tmp_path / "missing" / "cat.html")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(CamError, match="No space left"):
        exp.to_html(tmp_path / "new.html")
    assert [p.name for p in tmp_path.iterdir()] == ["cat.html"]


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        (([],), {}, "one Explanation or several"),
        (("cat.jpg",), {}, "one Explanation or several"),
        ((7,), {}, "one Explanation or several"),
        ((None,), {}, "one Explanation or several"),
        ((), {"names": ["a", "b"]}, "one name for each of the 1 photos"),
        ((), {"names": "cat.jpg"}, "one name for each"),
        ((), {"start": 1}, "start=1"),
        ((), {"side": 0}, "side=0"),
        ((), {"side": float("nan")}, "side=nan"),
        ((), {"start": 0.5}, "start=0.5"),
        ((), {"path": "cat.png"}, "writes .html files"),
    ],
)
def test_wrong_arguments(exp, arguments, options, says):
    with pytest.raises(CamError, match=says):
        to_html(*(arguments or (exp,)), **options)


def test_maps_that_are_not_finite_are_refused():
    with pytest.raises(CamError, match="not finite"):
        _encoded(np.array([[[0.0, np.inf]]], np.float32))


def test_a_map_without_differences_is_exact():
    view = _encoded(np.full((1, 2, 2), 3.5, np.float32))
    assert np.array_equal(maps_in(view | {"cells": [2, 2]})[0], np.full((1, 2, 2), 3.5))


def test_photo_is_scaled_down_not_up(clf, exp):
    assert picture_in(data(to_html(exp))["photos"][0]).size == (451, 300)
    assert picture_in(data(to_html(exp, side=100))["photos"][0]).size == (100, 67)


def test_a_page_that_browsers_could_not_open_is_not_written(exp, tmp_path, monkeypatch):
    one = len(to_html(exp))
    monkeypatch.setattr("camlib.page.LARGEST", 2 * one)
    path = tmp_path / "page.html"
    assert len(to_html([exp, exp])) < 2 * one
    with pytest.raises(CamError, match="several pages of at most 2 photos"):
        to_html([exp, exp, exp], path)
    assert not path.exists()
