"""What an explanation says, draws, writes and keeps: everywhere the same numbers, and the right ones."""

import copy
import html
import json
import os
import pickle
import re
from dataclasses import replace

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import camlib
from camlib import CamError, HeadError, View, explain, load_model, overlay, place
from camlib.cli import main
from camlib.explanation import Prediction, _share
from camlib.methods import METHODS
from tests.networks import flat, scores_of, tiny
from tests.test_page import data, page_arrays

LABELS = ["ant", "bee", "cat"]


@pytest.fixture(scope="module")
def exp(clf, cat):
    return explain(clf, cat)


@pytest.fixture(scope="module")
def by_gradients(clf, cat):
    return explain(clf, cat, method="grad_cam")


def test_residual_sees_a_wrong_map(exp):
    wrong = replace(exp)
    wrong.__dict__["maps"] = exp.maps.clamp(min=0)  # ReLU, as many tutorials do
    assert wrong.residual() > 0.1


def test_contrast_sums_to_the_difference_of_the_logits(exp):
    contrast = exp.contrast("tiger cat", "lynx")
    torch.testing.assert_close(contrast, exp.map("tiger cat") - exp.map("lynx"), atol=1e-4, rtol=0)
    a, b = 282, 287
    expected = exp.logits[a] - exp.logits[b]
    assert float(contrast.mean() + exp.bias[a] - exp.bias[b]) == pytest.approx(float(expected), abs=1e-4)


def test_rest_and_share_are_the_two_parts_of_a_logit(clf, exp):
    """Independent: the rest is the classifier's bias, and the share what is left of the logit."""
    for target, k in (("tiger cat", 282), ("lynx", 287), (5, 5)):
        bias, logit = clf.module.classifier.bias[k].item(), exp.logits[k].item()
        assert exp.rest(target) == pytest.approx(bias, abs=1e-6)
        assert exp.share(target) == pytest.approx((logit - bias) / logit, abs=1e-5)
        assert exp.map(target).mean().item() + exp.rest(target) == pytest.approx(logit, abs=1e-4)


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("cam", "frozen")])
def test_methods_without_an_identity_claim_none(cat, method):
    exp = explain(load_model(tiny(), size=64), cat, method=method)
    for claim in (
        lambda: exp.maps,
        lambda: exp.bias,
        lambda: exp.rest(0),
        lambda: exp.share(0),
        lambda: exp.residual(),
    ):
        with pytest.raises(CamError, match=f"maps of '{method}' do not sum to the logits"):
            claim()
    if exp.additive:
        assert torch.equal(exp.contrast(0, 2), exp.map(0) - exp.map(2))
    else:
        with pytest.raises(CamError, match="not additive; contrast works with cam, frozen, grad_cam, hires_cam"):
            exp.contrast(0, 2)


def test_sharing_out_to_a_finer_grid_keeps_every_total():
    coarse, fine = torch.randn(2, 7, 7), torch.zeros(2, 10, 14)
    shared = _share([coarse, fine]) * 2
    assert shared.shape == (2, 10, 14)
    torch.testing.assert_close(shared.mean((1, 2)), coarse.mean((1, 2)), atol=1e-6, rtol=0)
    torch.testing.assert_close(F.adaptive_avg_pool2d(shared, (1, 7))[:, 0], coarse.mean(1), atol=1e-6, rtol=0)


def test_a_list_of_targets_gives_one_more_axis(exp):
    targets = ["lynx", 282, torch.tensor(285)]
    for several, single in ((exp.map(targets), exp.map), (exp.heatmap(targets), exp.heatmap)):
        for k, result in zip((287, 282, 285), several, strict=True):
            torch.testing.assert_close(result, single(k), equal_nan=True, rtol=0, atol=0)
    assert exp.map(["lynx"]).shape == (1, 7, 7)
    assert torch.equal(exp.map(torch.tensor([287, 282])), exp.map(["lynx", "tiger cat"]))
    limit = float(exp.heatmap(targets).abs().nan_to_num().max())
    pictures = exp.overlay(targets)
    assert pictures.shape == (3, *exp.photo.shape)
    for picture, k in zip(pictures, (287, 282, 285), strict=True):
        assert np.array_equal(picture, overlay(exp.photo, exp.heatmap(k), limit)), "on one scale"


def test_one_scale_for_several_classes(exp):
    limit = exp.largest(["tiger cat", "lynx"])
    assert limit == pytest.approx(max(float(exp.heatmap(k).abs().nan_to_num().max()) for k in (282, 287)))
    picture = exp.overlay("lynx", limit)
    assert np.array_equal(picture, overlay(exp.photo, exp.heatmap("lynx"), limit))


def test_an_offset_moves_the_map_on_the_photo(exp):
    offset = (2.5, -3.0)
    expected = place(exp.map(282), exp.view, offset)
    assert not torch.equal(expected.nan_to_num(), exp.heatmap(282).nan_to_num())
    torch.testing.assert_close(exp.heatmap(282, offset=offset), expected, equal_nan=True, rtol=0, atol=1e-5)
    assert np.array_equal(exp.overlay(282, 9.0, offset), overlay(exp.photo, expected, 9.0))
    picture = exp.plot(282, 9.0, offset=offset).axes[1].images[0].get_array()
    assert np.array_equal(picture, overlay(exp.photo, expected, 9.0))


def test_plot_describes_itself(exp):
    fig = exp.plot()
    assert [ax.get_title() for ax in fig.axes[1:3]] == ["tiger cat, 38.9 %", "Egyptian cat, 35.4 %"]
    says = "The photo, and heat maps on it: tiger cat, 38.9 %, strongest at the left; Egyptian cat, 35.4 %, strongest"
    assert fig.get_label().startswith(says)
    lynx = exp.prediction("lynx")
    assert exp.plot("lynx").get_label().startswith(f"The photo, and a heat map on it: {lynx}, strongest at the ")


def test_predictions_in_words(exp):
    (best,) = exp.top(1)
    assert best == exp.prediction("tiger cat") == exp.prediction(282)
    assert str(best) == "tiger cat, 38.9 %"
    assert str(Prediction(0, "age", None, 59.568)) == "age, 59.57"
    assert [p.index for p in exp.top(np.int64(1000))] == exp.logits.argsort(descending=True, stable=True).tolist()


@pytest.mark.parametrize("label", ["cat", "a photo of a cat " * 30, "<b>\u2028 " * 80])
def test_repr_is_short(cat, label):
    exp = explain(load_model(tiny(classes=1), size=64, labels=[label]), cat)
    assert len(repr(exp)) < 200
    assert repr(exp).startswith(f"Explanation({label[:40]}")
    assert f"{100 * exp.prediction(0).probability:.1f} %; cam by Sequential, 16×16 cells, photo 451×300)" in repr(exp)
    assert len(repr([exp, exp])) < 400


def test_repr_of_the_bundled_network(exp):
    assert repr(exp) == "Explanation(tiger cat, 38.9 %; cam by efficientnet_lite0, 7×7 cells, photo 451×300)"


# --- one number, everywhere ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "activation", "method", "right", "called"),
    [
        (None, "auto", "cam", lambda z: z.softmax(0), "softmax"),
        (None, "softmax", "cam", lambda z: z.softmax(0), "softmax"),
        (None, "sigmoid", "cam", torch.sigmoid, "sigmoid"),
        (None, None, "cam", lambda z: None, None),
        (nn.Softmax(1), "auto", "grad_cam", lambda z: z, "identity"),
        (nn.Sigmoid(), "auto", "grad_cam", lambda z: z, "identity"),
        (nn.Sigmoid(), None, "grad_cam", lambda z: None, None),
    ],
    ids=["auto", "softmax", "sigmoid", "none", "own softmax", "own sigmoid", "own sigmoid, none"],
)
def test_the_same_probability_wherever_one_is_said(
    cat, tmp_path, monkeypatch, capsys, last, activation, method, right, called
):
    """Right is what torch makes of the network's own output."""
    net = nn.Sequential(tiny(), *[last] * (last is not None))
    clf = load_model(net, size=64, labels=LABELS, activation=activation)
    scores = scores_of(net, clf.preprocess(cat, clf.view(cat)))[0]
    p = right(scores.double())
    order = scores.argsort(descending=True).tolist()
    percent = [None if p is None else f"{100 * p[k]:.1f} %" for k in range(3)]
    words = [f"{LABELS[k]}, {scores[k]:.2f}" if p is None else f"{LABELS[k]}, {percent[k]}" for k in range(3)]
    expected = [None if p is None else pytest.approx(p[k].item(), abs=1e-6) for k in range(3)]

    exp = explain(clf, cat, method=method)
    assert [t.index for t in exp.top(3)] == order
    assert [t.probability for t in exp.top(3)] == [expected[k] for k in order]
    assert [exp.prediction(name).probability for name in LABELS] == expected
    assert [str(exp.prediction(k)) for k in range(3)] == words
    assert (exp.probabilities is None) == (p is None)
    best = words[order[0]]
    assert repr(exp).startswith(f"Explanation({best};")

    fig = exp.plot(LABELS)
    assert [ax.get_title() for ax in fig.axes[1:4]] == words
    assert all(f"{word}, strongest" in fig.get_label() for word in words)
    fig = exp.compare(method, "layer_cam", target="bee")
    titles = [ax.get_title().replace("\n", " ") for ax in fig.axes[1:3]]
    assert titles == [f"{method}: {words[1]}", f"layer_cam: {words[1]}"]
    assert words[1] in fig.get_label()

    (photo,) = data(camlib.to_html(exp))["photos"]
    arrays = page_arrays(photo)
    assert photo["classes"] == [0, 1, 2]
    assert np.array_equal(arrays["logits"], exp.logits.numpy())
    assert (arrays["probabilities"] is None) == (p is None)
    if p is not None:
        assert arrays["probabilities"].tolist() == expected
    assert f'alt="Evidence for {html.escape(best)} on the photo"' in exp._repr_html_()

    exp.save(tmp_path / "maps.npz", LABELS)
    numbers = np.load(tmp_path / "maps.npz")
    assert np.array_equal(numbers["logits"], exp.logits.numpy())
    assert ("probabilities" in numbers) == (p is not None)
    if p is not None:
        assert numbers["probabilities"].tolist() == expected
    for manifest in (exp.manifest(LABELS), json.loads((tmp_path / "maps.npz.json").read_text())):
        assert [c["probability"] for c in manifest["classes"]] == expected
        assert manifest["activation"] == called

    monkeypatch.setattr("camlib.models.load_model", lambda name, device: clf)
    command = ["data/photos/cat.jpg", "--top", "3", "--method", method, "--raw", "--out", str(tmp_path)]
    assert main(command) == 0
    rows = re.findall(r"^  (\w+) \((\d)\) +(–|[\d.]+ %) +(-?[\d.]+) ", capsys.readouterr().out, re.MULTILINE)
    assert [(name, int(k)) for name, k, *_ in rows] == [(LABELS[k], k) for k in order]
    assert [said for *_, said, _ in rows] == ["–" if p is None else f"{100 * p[k]:.2f} %" for k in order]
    assert [float(score) for *_, score in rows] == pytest.approx(scores[order].tolist(), abs=6e-4)
    assert main([*command, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["probability"] for row in rows] == [expected[k] for k in order]
    written = json.loads(next(tmp_path.glob("cat*.npz.json")).read_text())
    assert [c["probability"] for c in written["classes"]] == [expected[k] for k in order]


# --- several methods -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"view": "whole"}, {"sizes": (64, 96)}, {"method": "layer_cam"}], ids=str)
def test_compare_draws_each_method_on_its_own_scale(cat, options):
    clf = load_model(tiny(), labels=LABELS, size=64)
    exp = explain(clf, cat, **options)
    names = ("cam", "grad_cam", "layer_cam")
    fig = exp.compare(*names, target="bee", cmap="PuOr_r")
    panels, bars = fig.axes[1:4], [ax for ax in fig.axes[4:] if ax.get_visible()]
    assert np.array_equal(fig.axes[0].images[0].get_array(), cat)
    for name, panel, bar in zip(names, panels, bars, strict=True):
        alone = explain(clf, cat, **{**options, "method": name})
        heat = alone.heatmap("bee")
        assert np.array_equal(panel.images[0].get_array(), overlay(cat, heat, cmap="PuOr_r"))
        assert panel.get_title().replace("\n", " ") == f"{name}: {alone.prediction('bee')}"
        unit, _, power = bar.get_xlabel().partition(" (10")  # small numbers have their power of ten in the unit
        assert unit == alone.unit == METHODS[name].unit
        factor = {"": 1, "⁻²)": 1e-2, "⁻³)": 1e-3, "⁻⁴)": 1e-4, "⁻⁵)": 1e-5}[power]
        largest = alone.largest("bee") / factor
        assert bar.get_xlim() == pytest.approx([-largest, largest], rel=1e-5)
    assert fig.get_label().startswith(
        f"The photo, and heat maps of {exp.prediction('bee')} on it, each on its own scale: cam, strongest at the "
    )
    assert all(f"{name}, strongest at the" in fig.get_label() for name in names)
    alone = exp.compare("cam", target="bee").get_label()
    assert alone.startswith(f"The photo, and a heat map of {exp.prediction('bee')} on it: cam, strongest at the ")


def test_compare_takes_a_layer_and_the_best_class(cat):
    clf = load_model(flat(), size=64)
    exp = explain(clf, cat, method="hires_cam", layer="0")
    fig = exp.compare("hires_cam", "grad_cam", layer="0")
    for panel, name in zip(fig.axes[1:3], ("hires_cam", "grad_cam"), strict=True):
        heat = explain(clf, cat, method=name, layer="0").heatmap(exp.top(1)[0].index)
        assert np.array_equal(panel.images[0].get_array(), overlay(cat, heat))
    with pytest.raises(HeadError):
        exp.compare("cam")
    with pytest.raises(CamError, match="No method 'gradcam'.*grad_cam"):
        exp.compare("gradcam")
    with pytest.raises(CamError, match="takes the names of methods"):
        exp.compare()


def test_compare_by_the_layer_that_is_asked_for(cat):
    """For the explanation's own method, too; without layer=, its own layer is kept. Titles name what was asked for."""
    clf = load_model(flat(), size=64)
    last, first = explain(clf, cat, method="grad_cam"), explain(clf, cat, method="grad_cam", layer="0")
    assert (last.layer, first.layer) == ("1", "0")
    for exp, layer, drawn in ((last, "0", "0"), (first, None, "0"), (first, "1", "1"), (last, None, "1")):
        fig = exp.compare("grad_cam", "hires_cam", target="class 0", layer=layer)
        for panel, name in zip(fig.axes[1:3], ("grad_cam", "hires_cam"), strict=True):
            heat = explain(clf, cat, method=name, layer=drawn).heatmap(0)
            assert np.array_equal(panel.images[0].get_array(), overlay(cat, heat))
            where = f" at {layer}" if layer else ""
            assert panel.get_title().replace("\n", " ") == f"{name}{where}: {exp.prediction(0)}"
            assert f"{name}{where}, strongest at" in fig.get_label()


def test_by_another_method_keeps_views_and_layer(cat):
    clf = load_model(tiny(), size=64)
    exp = explain(clf, cat, method="grad_cam", view="whole", sizes=[96, 32], layer="0")
    other = exp.by("hires_cam")
    assert exp.by("grad_cam") is exp
    assert torch.equal(
        other.map(1), explain(clf, cat, method="hires_cam", view="whole", sizes=[96, 32], layer="0").map(1)
    )
    assert torch.equal(other.by("cam").map(1), explain(clf, cat, view="whole", sizes=[96, 32]).map(1))
    assert exp.by("grad_cam", "1").layer == "1"


def test_compare_of_a_prepared_tensor_shows_the_network_that_tensor():
    """Not its picture, which is cut off at black and white."""
    clf = load_model(tiny(4), size=64, mean=0.5, std=0.1)
    x = torch.randn(4, 40, 48, generator=torch.Generator().manual_seed(0)) * 3
    exp = explain(clf, x)
    fig = exp.compare("hires_cam", target=1)
    heat = explain(clf, x, method="hires_cam").heatmap(1)
    assert np.array_equal(fig.axes[1].images[0].get_array(), overlay(exp.photo, heat))


@pytest.mark.parametrize("method", ["cam", "grad_cam"])
def test_compare_refuses_after_the_network_has_changed(cat, method):
    net = tiny()
    exp = explain(load_model(net, size=64), cat, method=method)
    before = exp.compare("cam", "grad_cam").get_label()
    with torch.no_grad():
        net[4].weight.mul_(1.1)
    with pytest.raises(CamError, match="network has changed since this explanation was made"):
        exp.compare("cam", "grad_cam")
    with torch.no_grad():
        net[4].weight.div_(1.1)
    assert exp.compare("cam", "grad_cam").get_label() == before


# --- copies ----------------------------------------------------------------------------------------------------------


def pickled(exp):
    return pickle.loads(pickle.dumps(exp))


@pytest.mark.parametrize("copied", [pickled, copy.deepcopy, copy.copy])
@pytest.mark.parametrize("method", ["cam", "grad_cam"])
def test_a_copy_says_and_draws_the_same(exp, by_gradients, tmp_path, copied, method):
    exp = exp if method == "cam" else by_gradients
    again = copied(exp)
    assert again.top(10) == exp.top(10)
    assert repr(again) == repr(exp)
    best = [p.index for p in exp.top(10)]
    assert torch.equal(again.map(best), exp.map(best))
    assert np.array_equal(again.overlay(), exp.overlay())
    assert again.plot().get_label() == exp.plot().get_label()
    assert again._repr_html_() == exp._repr_html_()
    assert json.dumps(again.manifest()) == json.dumps(exp.manifest())
    again.save(tmp_path / "again.npz", best), exp.save(tmp_path / "exp.npz", best)
    a, b = (np.load(tmp_path / f"{name}.npz") for name in ("again", "exp"))
    assert all(np.array_equal(a[key], b[key]) for key in b)
    if method == "cam":
        assert again.residual() == exp.residual()
    with pytest.raises(CamError, match="holds no network. Explain the photo again"):
        again.compare("cam", "layer_cam", "grad_cam")
    assert explain(exp.classifier, again.photo, method=method).top(1) == exp.top(1), "the original has its network"


def test_a_copy_by_gradients_says_why_it_has_no_other_class(by_gradients):
    again = pickled(by_gradients)
    worst = by_gradients.top(1000)[-1].index
    with pytest.raises(
        CamError, match="copy, or was loaded from a file: it holds no network, and only the maps of the"
    ):
        again.map(worst)
    by_gradients.map(worst)
    assert torch.equal(pickled(by_gradients).map(worst), by_gradients.map(worst)), "but one that was drawn before"


@pytest.mark.parametrize("method", ["cam", "grad_cam"])
def test_a_pickle_holds_no_network(exp, by_gradients, method):
    exp = exp if method == "cam" else by_gradients
    (result,) = exp.results
    maps = result.maps.every.numel() if method == "cam" else 10 * 49
    needed = exp.photo.nbytes + 4 * (result.features.numel() + 2 * 1000 + maps)
    size = len(pickle.dumps(exp))
    network = sum(4 * p.numel() for p in exp.classifier.module.parameters())
    print(f"{method}: {size / 1e3:.0f} kB, the network {network / 1e3:.0f} kB")
    assert size < needed + 60_000, "the rest: a thousand labels, and the names of the classes in the pickle"


def test_what_cannot_be_pickled_is_left_out(cat):
    """A network of a local class, an output= that is a lambda, a prepared tensor of four channels."""

    class Local(nn.Sequential):
        pass

    clf = load_model(Local(*tiny(4)), size=64, output=lambda y: y * 2)
    exp = explain(clf, torch.randn(4, 64, 64, generator=torch.Generator().manual_seed(0)), method="hires_cam")
    again = pickled(exp)
    assert again.top(3) == exp.top(3)
    assert torch.equal(again.map([0, 1, 2]), exp.map([0, 1, 2]))
    with pytest.raises(CamError):
        again.compare("cam")
    with pytest.raises(CamError, match="holds no network"):
        explain(again.classifier, torch.zeros(4, 64, 64))


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp"])
def test_saved_picture_is_the_overlay(exp, tmp_path, suffix):
    path = exp.save(tmp_path / f"map{suffix}", "lynx")
    difference = np.abs(iio.imread(path).astype(int) - exp.overlay("lynx"))
    assert difference.mean() < (8 if suffix in (".jpg", ".webp") else 0.001)
    assert os.listdir(tmp_path) == [f"map{suffix}"], "nothing else is left in the folder"


def test_a_list_is_saved_as_a_figure(exp, tmp_path):
    exp.save(tmp_path / "two.png", ["lynx", "tiger cat"], limit=20.0, cmap="PuOr_r")
    figure = exp.plot(["lynx", "tiger cat"], 20.0, cmap="PuOr_r")
    figure.savefig(tmp_path / "by_hand.png", dpi=figure.dpi)
    by_hand = iio.imread(tmp_path / "by_hand.png")[..., :3].astype(int)
    assert np.abs(iio.imread(tmp_path / "two.png") - by_hand).mean() < 1.5, "a JPEG in between"
    exp.save(tmp_path / "one.png", ["lynx"])
    assert iio.imread(tmp_path / "one.png").shape != exp.photo.shape


@pytest.mark.parametrize("targets", ["tench", ["tench", 282]], ids=str)
@pytest.mark.parametrize("kind", ["cam", "grad_cam", "sizes"])
def test_saved_numbers_are_the_maps(clf, cat, exp, by_gradients, tmp_path, kind, targets):
    exp = {"cam": exp, "grad_cam": by_gradients}.get(kind) or explain(clf, cat, sizes=(224, 256))
    indices = [0] if targets == "tench" else [0, 282]
    expected = exp.map(targets).numpy()
    assert expected.min() < 0 < expected.max(), "the sign counts"
    assert exp.save(tmp_path / "m.npy", targets) == tmp_path / "m.npy"
    maps = np.load(tmp_path / "m.npy")
    assert (maps.dtype, maps.shape) == (np.float32, expected.shape)
    assert np.array_equal(maps, expected)
    exp.save(tmp_path / "m.NPZ", targets)
    arrays = np.load(tmp_path / "m.NPZ")
    assert np.array_equal(arrays["maps"], expected)
    assert arrays["classes"].tolist() == indices
    assert arrays["labels"].tolist() == [exp.classifier.labels[k] for k in indices]
    assert np.array_equal(arrays["logits"], exp.logits.numpy())
    np.testing.assert_allclose(arrays["probabilities"], exp.logits.double().softmax(0), atol=1e-12)
    assert arrays["box"].tolist() == list(exp.view.box)
    assert ("bias" in arrays) == (kind != "grad_cam")
    if kind != "grad_cam":
        means = arrays["maps"].reshape(len(indices), -1).mean(1)
        np.testing.assert_allclose(means + arrays["bias"][indices], arrays["logits"][indices], atol=1e-4)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.NPZ", "m.NPZ.json", "m.npy", "m.npy.json"]


def test_the_manifest_says_what_the_numbers_are(exp, cat, tmp_path):
    exp.save(tmp_path / "m.npy", ["lynx", 282])
    manifest = json.loads((tmp_path / "m.npy.json").read_text(encoding="utf-8"))
    assert manifest == json.loads(json.dumps(exp.manifest(["lynx", 282])))
    assert {name: manifest[name] for name in ("camlib", "network", "method", "layer", "unit", "activation")} == {
        "camlib": camlib.__version__,
        "network": "efficientnet_lite0",
        "method": "cam",
        "layer": exp.classifier.head.layer,
        "unit": "logit evidence per cell",
        "activation": "softmax",
    }
    assert manifest["recipe"] == {
        "size": 224,
        "resize": 256,
        "interpolation": "bicubic",
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
    }
    assert manifest["photo"] == [300, 451]
    (view,) = manifest["views"]
    assert View((300, 451), *(tuple(view[name]) for name in ("resized", "offset", "size"))) == exp.view
    assert (view["box"], view["cells"]) == (list(exp.view.box), [7, 7])
    for entry, k in zip(manifest["classes"], (287, 282), strict=True):
        assert (entry["index"], entry["label"]) == (k, exp.classifier.labels[k])
        assert entry["logit"] == exp.logits[k].item()
        assert entry["bias"] == pytest.approx(exp.logits[k].item() - exp.map(k).mean().item(), abs=1e-4)


def test_saved_whole_or_not_at_all(exp, tmp_path, monkeypatch):
    path = tmp_path / "map.png"
    path.write_bytes(b"the old picture")

    def full(self, file, *args, **kwargs):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("PIL.Image.Image.save", full)
    with pytest.raises(CamError, match="No space left"):
        exp.save(path)
    assert path.read_bytes() == b"the old picture"
    assert os.listdir(tmp_path) == ["map.png"]


def test_where_nothing_can_be_saved(exp, tmp_path):
    with pytest.raises(CamError, match="save writes pictures .*.png.*and numbers .*.npy"):
        exp.save(tmp_path / "map.docx")
    with pytest.raises(CamError, match="save writes pictures"):
        exp.save(tmp_path / "map")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(CamError, match="cannot be written"):
        exp.save(tmp_path / "folder.png")
    assert os.listdir(tmp_path) == ["folder.png"], "no temporary file stays"
    for name in ("map.png", "map.npz", "map.npy"):
        with pytest.raises(CamError, match="cannot be written"):
            exp.save(tmp_path / "no such folder" / name)


# --- an Apple GPU ----------------------------------------------------------------------------------------------------


def test_the_stand_in_refuses_what_an_apple_gpu_refuses(mps):
    x = torch.rand(2, 3).to("mps")
    assert x.device == mps
    for refused in (
        lambda: x.double(),
        lambda: x.to(torch.float64),
        lambda: torch.zeros(2, dtype=torch.float64, device="mps"),
        lambda: torch.zeros(2).double().to("mps"),
        lambda: x.numpy(),
        lambda: np.asarray(x),
    ):
        with pytest.raises(TypeError, match="MPS|mps"):
            refused()
    for refused in (
        lambda: x + torch.rand(2, 3),
        lambda: torch.rand(2, 2) @ x,
        lambda: torch.stack([x, torch.rand(2, 3)]),
    ):
        with pytest.raises(RuntimeError, match="same device"):
            refused()
    assert torch.equal(x.cpu() + 1, (x + 1).cpu())
    assert x.to("cpu").double().dtype == torch.float64


@pytest.mark.parametrize("method", METHODS)
def test_everything_works_on_an_apple_gpu(mps, cat, tmp_path, method):
    """Which has no float64, and whose tensors do not mix with the CPU's: the same numbers from every method."""
    on_cpu = load_model(tiny(), size=64, labels=LABELS)
    on_gpu = load_model(tiny(), size=64, labels=LABELS, device="mps")
    assert (on_cpu.device.type, on_gpu.device) == ("cpu", mps)
    here, there = (explain(clf, cat[::4, ::4], method=method, sizes=(64, 96)) for clf in (on_cpu, on_gpu))
    assert there.logits.device == there.map(0).device == there.heatmap(0).device == mps

    def same(what, **options):
        for a, b in zip(*(np.atleast_1d(what(exp)) for exp in (here, there)), strict=True):
            np.testing.assert_allclose(b, a, **{"rtol": 1e-5, "atol": 1e-6} | options)

    for exp in (here, there):
        exp.to_html(tmp_path / f"{exp is here}.html")
        for name in ("map.png", "map.npy", "map.npz"):
            exp.save(tmp_path / f"{exp is here}.{name}", ["ant", "cat"] if name != "map.png" else "bee")
    same(lambda e: e.logits.cpu())
    same(lambda e: e.probabilities)
    same(lambda e: [p.probability for p in e.top(3)])
    same(lambda e: [p.index for p in e.top(3)])
    same(lambda e: e.map(["ant", "cat"]).cpu())
    same(lambda e: e.map(torch.tensor(1)).cpu())
    same(lambda e: e.heatmap("bee", offset=(1.0, 2.0)).cpu())
    same(lambda e: e.largest(LABELS))
    same(lambda e: e.overlay(), atol=1)
    same(lambda e: e.overlay(LABELS), atol=1)
    same(lambda e: e.plot().axes[1].images[0].get_array(), atol=1)
    same(lambda e: e.compare(method, "grad_cam", "score_cam", target=0).axes[3].images[0].get_array(), atol=1)
    same(lambda e: iio.imread(tmp_path / f"{e is here}.map.png"), atol=1)
    same(lambda e: np.load(tmp_path / f"{e is here}.map.npy"))
    same(lambda e: np.load(tmp_path / f"{e is here}.map.npz")["maps"])
    same(lambda e: page_arrays(data((tmp_path / f"{e is here}.html").read_text())["photos"][0])["logits"])
    same(lambda e: pickled(e).map(0))
    again = pickled(there)
    held = [again.logits, again.map(0), again.results[0].features, *([again.bias] if method == "cam" else [])]
    assert {(type(t), t.device.type) for t in held} == {(torch.Tensor, "cpu")}, "to be loaded on another machine"
    same(lambda e: copy.deepcopy(e).overlay("ant"), atol=1)
    assert json.dumps(there.manifest(0))
    assert repr(there) == repr(here)
    assert len(there._repr_html_()) == pytest.approx(len(here._repr_html_()), rel=0.01)
    if METHODS[method].additive:
        same(lambda e: e.contrast("ant", "bee").cpu())
    if method == "cam":
        same(lambda e: e.maps.cpu())
        same(lambda e: [e.rest(k) for k in LABELS])
        same(lambda e: [e.share(k) for k in LABELS])
        assert there.residual() < 1e-5


def test_a_prepared_batch_on_an_apple_gpu(mps):
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    clf = load_model(tiny(), size=64, device="mps")
    for batch in (x, x.to("mps")):
        for exp, row in zip(camlib.explain_all(clf, batch), x, strict=True):
            here = explain(load_model(tiny(), size=64), row)
            torch.testing.assert_close(exp.maps.cpu(), here.maps)
            assert np.array_equal(exp.photo, here.photo)


def test_the_command_line_on_an_apple_gpu(mps, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("camlib.models.load_model", lambda name, device: load_model(tiny(), size=64, device=device))
    rows = {}
    for device in ("cpu", "mps", "auto"):
        options = ["--device", device, "--raw", "--html", "--figure", "--top", "2", "--out", str(tmp_path / device)]
        assert main(["data/photos/cat.jpg", *options, "--json"]) == 0
        rows[device] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        written = sorted(p.name for p in (tmp_path / device).iterdir())
        assert [name.split(".", 1)[1][:5] for name in written].count("figur") == 1 and "cat-top2.npz.json" in written
    for row, other, auto in zip(*rows.values(), strict=True):
        for name in ("probability", "logit", "scale", "evidence"):
            assert other[name] == pytest.approx(row[name], abs=1e-4)
            assert auto[name] == other[name]
