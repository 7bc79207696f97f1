"""The explorer live in JupyterLab: uploads, other networks and methods, and what goes wrong stays text."""

import datetime
import gc
import sys
import weakref

import numpy as np
import pytest
import torch

from camlib import CamError, Explorer, explain, load_model
from camlib.page import EXPLORER_TYPE
from tests.networks import flat, tiny

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


@pytest.fixture(scope="module")
def exp(clf, cat):
    return explain(clf, cat)


def test_explorer_is_the_page_with_widgets_around_it(exp):
    live = Explorer(exp, names=["cat.jpg"])
    assert repr(live) == "Explorer(cat.jpg by efficientnet_lite0, cam)"
    bundle, metadata = live._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "image/jpeg", "application/vnd.jupyter.widget-view+json", EXPLORER_TYPE}
    assert bundle[EXPLORER_TYPE] == {"photos": ["cat.jpg"], "network": "efficientnet_lite0", "method": "cam"}
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


# --- each photo's own network, views and layer -----------------------------------------------------------------------


def upload(live, *names, **contents):
    """Upload coffee.png under these names, and other contents under theirs, as the front end does."""
    files = {name: coffee() for name in names} | contents
    live._upload.value = tuple(
        {"name": name, "type": "image/png", "size": len(content), "content": memoryview(content), "last_modified": NOW}
        for name, content in files.items()
    )


def coffee() -> bytes:
    with open("data/photos/coffee.png", "rb") as file:
        return file.read()


def test_explorer_explains_each_photo_by_its_own_network(cat):
    before, after = (load_model(tiny(seed=seed), size=64) for seed in (1, 2))
    live = Explorer([explain(clf, cat, method="grad_cam") for clf in (before, after)], names=["before", "after"])
    live._method.value = "hires_cam"
    for exp, clf in zip(live.explanations, (before, after), strict=True):
        assert exp.method == "hires_cam"
        assert torch.equal(exp.logits, explain(clf, cat).logits)


@pytest.mark.parametrize(
    "options",
    [{"sizes": [64, 128]}, {"sizes": 96}, {"view": "whole", "sizes": 96}, {"layer": "0"}, {"view": "whole"}],
    ids=str,
)
def test_explorer_keeps_sizes_view_and_layer(cat, options):
    clf = load_model(tiny(), size=64)
    live = Explorer(explain(clf, cat, method="grad_cam", **options))
    live._method.value = "hires_cam"
    upload(live, "coffee.png")
    for exp in live.explanations:
        alone = explain(clf, exp.photo, method="hires_cam", **options)
        assert [r.view for r in exp.results] == [r.view for r in alone.results]
        assert exp.layer == alone.layer
        assert torch.equal(exp.map(1), alone.map(1))


def test_explorer_by_a_network_from_the_field_and_back(cat, monkeypatch):
    """Also a photo that was uploaded in between."""
    own, other = load_model(tiny(), size=64), load_model(tiny(seed=5), size=96)
    monkeypatch.setattr("camlib.models.load_model", lambda name: {"other": other}[name])
    live = Explorer(explain(own, cat, sizes=[64, 128]))
    live._network.value = " other "
    upload(live, "coffee.png")
    assert repr(live) == "Explorer(photo 1, coffee.png by other, cam)"
    assert [exp.classifier for exp in live.explanations] == [other, other]
    assert torch.equal(live.explanations[0].map(0), explain(other, cat).map(0))
    live._network.value = "Sequential"
    assert [exp.classifier for exp in live.explanations] == [own, own]
    for exp in live.explanations:
        assert torch.equal(exp.map(0), explain(own, exp.photo, sizes=[64, 128]).map(0))


def test_explorer_of_several_networks_offers_each_of_them(cat, clf):
    own = load_model(tiny(), size=64)
    live = Explorer([explain(clf, cat), explain(own, cat)])
    assert live._network.options[:3] == ("each photo's own", "efficientnet_lite0", "Sequential")
    live._method.value = "grad_cam"
    assert [exp.classifier for exp in live.explanations] == [clf, own]
    live._network.value = "Sequential"
    assert [exp.classifier for exp in live.explanations] == [own, own]


# --- uploads ---------------------------------------------------------------------------------------------------------


def test_a_broken_file_among_the_uploads(exp):
    live = Explorer(exp, names=["cat.jpg"])
    upload(live, "good.png", **{"broken.png": b"nope"})
    assert live.names == ["cat.jpg", "good.png"]
    assert [e.top(1)[0].label for e in live.explanations] == ["tiger cat", "espresso"]
    assert "broken.png: is not a picture" in live._status.value
    assert "good.png" in live._page.value
    assert live._upload.value == ()
    upload(live, "good.png")
    assert live.names == ["cat.jpg", "good.png", "good.png"], "the same file again, once"
    assert live._status.value == ""


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt()])
def test_any_error_ends_in_a_message(exp, error, monkeypatch):
    def fails(*_, **__):
        raise error

    live = Explorer(exp, names=["cat.jpg"])
    monkeypatch.setattr("camlib.explorer.explain", fails)
    if isinstance(error, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            upload(live, "a.png")
        assert "Stopped." in live._status.value
    else:
        upload(live, "a.png")
        assert "a.png: RuntimeError: out of memory" in live._status.value
    assert live.explanations == [exp]
    monkeypatch.undo()
    upload(live, "a.png")
    assert live.names == ["cat.jpg", "a.png"]


def test_after_an_error_the_fields_say_what_is_shown(cat):
    live = Explorer(explain(load_model(flat(), size=64), cat, method="grad_cam"), names=["cat.jpg"])
    live._network.value = "no_such_network"
    assert "no_such_network" in live._status.value
    assert live._network.value == "Sequential"
    live._method.value = "cam"  # this network has no exact map
    assert "alert" in live._status.value
    assert live._method.value == "grad_cam"
    upload(live, "coffee.png")
    assert (live.names, live._status.value) == (["cat.jpg", "coffee.png"], "")


def test_score_cam_announces_its_passes(cat):
    """Four channels for three classes in two views; a map that is known costs nothing."""
    live = Explorer(explain(load_model(tiny(), size=64), cat, sizes=[64, 96]))
    said = []
    live._status.observe(lambda change: said.append(change["new"]), "value")
    live._method.value = "score_cam"
    assert [text for text in said if "score_cam needs 24 forward passes" in text]
    assert live._status.value == ""
    upload(live, "coffee.png")
    assert sum("score_cam needs 24 forward passes" in text for text in said) == 2


# --- closing ---------------------------------------------------------------------------------------------------------


def widgets() -> int:
    from ipywidgets.widgets import widget

    return len(widget._instances)


def test_only_the_newest_explorers_hold_their_networks(cat):
    networks = []

    def run_the_cell():
        net = tiny()
        networks.append(weakref.ref(net))
        live = Explorer(explain(load_model(net, size=64), cat[::4, ::4]))
        live._method.value = "grad_cam"
        return live

    outputs = [run_the_cell() for _ in range(20)]  # as IPython's Out
    gc.collect()
    assert sum(net() is not None for net in networks) == 4
    assert "run this cell again" in outputs[0]._status.value
    assert "iframe" in outputs[0]._page.value, "the page stays"
    assert repr(outputs[0]) == "Explorer(closed)"
    assert outputs[0]._repr_mimebundle_() == ({"text/plain": "Explorer(closed)"}, {})
    with pytest.raises(CamError, match="run its cell again"):
        assert outputs[0].explanations
    outputs[-1]._method.value = "cam"
    assert outputs[-1].explanations[0].method == "cam"
    for live in outputs:
        live.close()
        live.close()
    gc.collect()
    assert not any(net() is not None for net in networks)


def test_a_closed_explorer_leaves_no_widget(exp):
    before = widgets()
    with Explorer(exp) as live:
        assert widgets() > before
        assert live.explanations == [exp]
    assert widgets() == before
