"""The explorer's page as Python writes it: what it holds, how exact, how large, and that names stay text."""

import base64
import datetime
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from torch import nn

import camlib
from camlib import CamError, Explorer, explain, explain_all, explorer, load_model, to_html

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
HOSTILE = "</script><img src=x onerror=alert(1)> {{data}} & \"quoted\" 'name' \u2028 é"


@pytest.fixture(scope="module")
def exp(clf, cat):
    return explain(clf, cat)


def data(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def array(text, kind):
    return np.frombuffer(base64.b64decode(text), kind)


def maps_in(look):
    ends = array(look["ends"], "<f4").astype(float).reshape(-1, 2)
    steps = array(look["steps"], "<u2").astype(float).reshape(len(ends), *look["cells"])
    low, high = ends.T[:, :, None, None]
    return low + steps * (high - low) / 65535, (high - low)[:, 0, 0]


def picture_in(photo):
    return Image.open(io.BytesIO(base64.b64decode(photo["picture"].split(",")[1])))


def test_every_class_is_in_it_as_exactly_as_16_bits_can(exp):
    (photo,) = data(to_html(exp))["photos"]
    assert photo["classes"] == list(range(1000))
    (look,) = photo["looks"]
    found, distance = maps_in(look)
    off = np.abs(found - exp.maps.double().numpy()).max((1, 2))
    assert (off <= distance / 131070 + 1e-6).all()
    assert np.array_equal(array(photo["logits"], "<f4"), exp.logits.numpy())
    assert np.array_equal(array(photo["bias"], "<f4"), exp.bias.numpy())
    identity = found.mean((1, 2)) + array(photo["bias"], "<f4") - array(photo["logits"], "<f4")
    assert np.abs(identity).max() < 1e-3
    assert photo["total"] == pytest.approx(exp.logits.double().logsumexp(0).item())


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
    cells = int(np.prod(photo["looks"][0]["cells"]))
    assert len(page.encode()) <= 700_000
    assert len(photo["classes"]) == 270_000 // (2 * cells) < 1000
    assert set(photo["classes"]) == {p.index for p in exp.top(len(photo["classes"]))}
    assert np.array_equal(array(photo["logits"], "<f4"), exp.logits[photo["classes"]].numpy())


def test_several_resolutions_keep_their_own_maps(clf, cat):
    exp = explain(clf, cat, sizes=(224, 256))
    (photo,) = data(to_html(exp))["photos"]
    assert [look["cells"] for look in photo["looks"]] == [[7, 7], [8, 8]]
    for look, maps in zip(photo["looks"], exp._maps(photo["classes"]), strict=True):
        assert np.allclose(maps_in(look)[0], maps, atol=1e-3)


def test_other_methods_show_their_ten_best_without_an_identity(clf, cat):
    exp = explain(clf, cat, method="layer_cam")
    (photo,) = data(to_html(exp))["photos"]
    assert photo["classes"] == sorted(p.index for p in exp.top(10))
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
    network = nn.Sequential(nn.Conv2d(3, 8, 3, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    few = explain(load_model(network.eval(), labels=(HOSTILE, "b", "<b>"), size=32), cat)
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
        (([],), {}, "an Explanation or several"),
        (("cat.jpg",), {}, "an Explanation or several"),
        ((), {"names": ["a", "b"]}, "one name for each of the 1 photos"),
        ((), {"names": "cat.jpg"}, "one name for each"),
        ((), {"start": 1}, "start=1"),
        ((), {"side": 0}, "side=0"),
        ((), {"path": "cat.png"}, "written as .html"),
    ],
)
def test_wrong_arguments(exp, arguments, options, says):
    with pytest.raises(CamError, match=says):
        to_html(*(arguments or (exp,)), **options)


def test_maps_that_are_not_finite_are_refused():
    with pytest.raises(CamError, match="not finite"):
        explorer._encoded(np.array([[[0.0, np.inf]]], np.float32))


def test_a_map_without_differences_is_exact():
    look = explorer._encoded(np.full((1, 2, 2), 3.5, np.float32))
    assert np.array_equal(maps_in(look | {"cells": [2, 2]})[0], np.full((1, 2, 2), 3.5))


def test_photo_is_scaled_down_not_up(clf, exp):
    assert picture_in(data(to_html(exp))["photos"][0]).size == (451, 300)
    assert picture_in(data(to_html(exp, side=100))["photos"][0]).size == (100, 67)


# ---- live


def test_explorer_is_the_page_with_widgets_around_it(exp):
    live = Explorer(exp, names=["cat.jpg"])
    assert repr(live) == "Explorer(cat.jpg by efficientnet_lite0, cam)"
    bundle, metadata = live._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "image/jpeg", "application/vnd.jupyter.widget-view+json"}
    assert "tiger cat" in metadata["image/jpeg"]["alt"]
    assert live._page.value.startswith("<div><iframe")


def test_explorer_takes_an_upload_and_another_method(exp):
    live = Explorer(exp, names=["cat.jpg"])
    with open("data/photos/coffee.png", "rb") as file:
        live._upload.value = (
            {"name": "<b>mine", "type": "image/png", "size": 1, "content": file.read(), "last_modified": NOW},
        )
    assert [e.top(1)[0].label for e in live.explanations] == ["tiger cat", "espresso"]
    assert live.names == ["cat.jpg", "<b>mine"]
    assert "&quot;start&quot;:1" in live._page.value
    live._method.value = "grad_cam"
    assert [e.method for e in live.explanations] == ["grad_cam", "grad_cam"]


def test_explorer_keeps_the_whole_view(clf, cat):
    live = Explorer(explain(clf, cat, view="whole"))
    live._method.value = "layer_cam"
    assert live.explanations[0].view.resized == live.explanations[0].view.size


def test_explorer_says_what_is_wrong_and_stays_as_it_was(exp):
    live = Explorer(exp, names=["cat.jpg"])
    page = live._page.value
    live._upload.value = (
        {"name": "<b>.png", "type": "image/png", "size": 1, "content": b"no picture", "last_modified": NOW},
    )
    assert "&lt;b&gt;.png: is not a picture" in live._status.value
    live._network.value = "no_such_network"
    assert "no_such_network" in live._status.value
    assert live._page.value == page
    assert live.explanations == [exp]


def test_explorer_without_ipywidgets_says_what_to_do(exp, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ipywidgets", None)
    with pytest.raises(CamError, match="pip install ipywidgets"):
        Explorer(exp)
