"""The explorer live in JupyterLab: uploads, other networks and methods, and what goes wrong stays text."""

import datetime
import sys

import numpy as np
import pytest
import torch

from camlib import CamError, Explorer, explain, load_model
from tests.networks import tiny

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


@pytest.fixture(scope="module")
def exp(clf, cat):
    return explain(clf, cat)


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


def test_explorer_keeps_the_crop_of_a_square_photo(cat):
    """A network that sees a square photo whole: its crop has the resized photo's size, but is no "whole" view."""
    clf = load_model(tiny(), size=100)
    live = Explorer(explain(clf, cat[:300, :300]))
    view = live.explanations[0].view
    assert view.size == view.resized == (100, 100)
    live._method.value = "hires_cam"
    assert live.explanations[0].view == view


def test_explorer_shows_a_prepared_tensor_by_other_methods_as_it_is():
    """Not its picture, which is cut off at black and white."""
    clf = load_model(tiny(4), size=64, mean=0.5, std=0.1)
    x = 3 * torch.randn(4, 48, 64, generator=torch.Generator().manual_seed(0))
    live = Explorer(explain(clf, x), names=["sensor"])
    logits = live.explanations[0].logits
    live._method.value = "grad_cam"
    assert live._status.value == ""
    assert live.explanations[0].method == "grad_cam"
    assert torch.equal(live.explanations[0].logits, logits)
    assert torch.equal(live.explanations[0].map(1), explain(clf, x, method="grad_cam").map(1))


def test_explorer_offers_every_method(exp, monkeypatch):
    from camlib.methods import METHODS, register

    register("of_our_own", lambda A, G: (A * G).sum(1))
    try:
        live = Explorer(exp)
        assert list(live._method.options) == list(METHODS)
        live._method.value = "of_our_own"
        assert live.explanations[0].method == "of_our_own"
        assert np.array_equal(
            live.explanations[0].overlay(), explain(exp.classifier, exp.photo, method="hires_cam").overlay()
        )
    finally:
        del METHODS["of_our_own"]


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
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(CamError, match="pip install ipywidgets"):
        Explorer(exp)
