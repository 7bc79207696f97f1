"""Chapter 12's checks: blank, faulty and half-mended listings get their message, the folded solutions pass."""

import ast
import builtins
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import torch
from checks import bug_clinic as check
from torch.nn import functional as F

import camlib
from tests.checks.solutions import solutions
from tools.notebooks import ALONE_TAG

CHAPTER = "12_bug_clinic"


def functions():
    """What the chapter's cells define with `def`; the cell for Colab, which is no plain Python, defines nothing."""
    for cell in nbformat.read(f"notebooks/{CHAPTER}.ipynb", as_version=4).cells:
        if cell.cell_type == "code" and ALONE_TAG not in cell.metadata.get("tags", []):
            yield from (node for node in ast.parse(cell.source).body if isinstance(node, ast.FunctionDef))


@pytest.fixture(scope="module")
def listings():
    """The chapter's functions, the patients among them, without running anything else."""
    names = {"torch": torch, "np": np, "F": F, "camlib": camlib, "clf": camlib.load_model(), "kept": []}
    exec(
        "import io, time\nfrom PIL import Image\nfrom torch import nn\nfrom matplotlib.patches import Rectangle", names
    )
    names["palace"], names["BOX"] = camlib.read_image("data/photos/china.jpg"), (62, 28, 372, 405)
    names["hidden"], names["last"] = check.two_layer_head(names["clf"])
    for node in functions():
        exec(compile(ast.Module([node], []), node.name, "exec"), names)
    return SimpleNamespace(**names)


def healthy(clf, photo, layer="bn2", view=None):
    view = clf.view(photo)
    with camlib.capture(clf.module, layer) as seen, torch.no_grad():
        logits = clf.module(clf.preprocess(photo, view))[0]
    k = int(logits.argmax())
    cells = torch.einsum("c,chw->hw", clf.module.classifier.weight[k].detach(), seen[layer][0])
    return k, logits, cells, camlib.place(cells, view)


def blank(clf, photo): ...


def misspelt(clf, photo):
    return clf.modul


def cells_only(clf, photo):
    return healthy(clf, photo)[2]


def on_the_input(clf, photo):
    k, logits, cells, _ = healthy(clf, photo)
    return k, logits, cells, camlib.upsample(cells, (224, 224))


def changed(**change):
    """The healthy listing with one of the four things changed: a function of the others."""

    def function(clf, photo):
        report = dict(zip(("k", "logits", "cells", "heat"), healthy(clf, photo), strict=True))
        view = clf.view(photo)
        for name, value in change.items():
            report[name] = value(SimpleNamespace(**report, view=view, photo=photo, clf=clf))
            if name == "cells":
                report["heat"] = camlib.place(report["cells"], view)
        return tuple(report.values())

    return function


def pixels(recipe):
    def function(clf, photo):
        view = clf.view(photo)
        x = recipe(clf.preprocess(photo, view) * 0.5 + 0.5)
        with camlib.capture(clf.module, "bn2") as seen, torch.no_grad():
            logits = clf.module(x)[0]
        k = int(logits.argmax())
        cells = torch.einsum("c,chw->hw", clf.module.classifier.weight[k].detach(), seen["bn2"][0])
        return k, logits, cells, camlib.place(cells, view)

    return function


def slope_of(score, pool=lambda slope: slope.sum((1, 2)), detach=True):
    def function(clf, photo):
        view = clf.view(photo)
        with camlib.capture(clf.module, "bn2", live=True) as seen:
            logits = clf.module(clf.preprocess(photo, view))[0]
        k = int(logits.argmax())
        (slope,) = torch.autograd.grad(score(logits)[k], seen["bn2"], retain_graph=True)
        cells = torch.einsum("c,chw->hw", pool(slope[0]), seen["bn2"][0].detach())
        return k, logits.detach() if detach else logits, cells, camlib.place(cells, view)

    return function


KEPT = []


def hook_removed_list_kept(clf, photo):
    view = clf.view(photo)
    handle = clf.module.bn2.register_forward_hook(lambda module, args, out: KEPT.append(out))
    with torch.no_grad():
        logits = clf.module(clf.preprocess(photo, view))[0]
    handle.remove()
    k = int(logits.argmax())
    cells = torch.einsum("c,chw->hw", clf.module.classifier.weight[k].detach(), KEPT[-1][0])
    return k, logits, cells, camlib.place(cells, view)


def hook_kept_after_an_exception(clf, photo):
    try:
        return hook_removed_list_kept(clf, photo)
    finally:
        KEPT.clear()


def training(clf, photo):
    clf.module.train()
    return healthy(clf, photo)


def swallowed(clf, photo):
    try:
        return healthy(clf, photo)
    except Exception:
        raise RuntimeError("something went wrong") from None


def enlarged_first(clf, photo):
    view = clf.view(photo)
    k, logits, cells, _ = healthy(clf, photo)
    features, _ = clf.head.run(clf.module, clf.preprocess(photo, view))
    row = clf.module.classifier.weight[k].detach()
    return k, logits, cells, torch.einsum("c,chw->hw", row, camlib.place(features[0], view))


def corners(size):
    def heat(r):
        large = F.interpolate(r.cells[None, None], size(r), mode="bilinear", align_corners=True)[0, 0]
        return large if large.shape == r.photo.shape[:2] else camlib.place(large, r.view)

    return heat


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (1, "'tusker', choice number 3"),
        (2, "A hook was left behind: 1 after one call"),
        (3, "the map is transposed"),
        (4, "Discharged"),
        (5, "million values is made"),
        (6, "stretched over the whole photo"),
        (7, "mean and deviation of ImageNet"),
        (8, "the gradient of the probability"),
    ],
)
def test_the_patients_themselves(listings, number, says):
    found = check.repaired(getattr(listings, f"patient_{number}"))
    assert says in found, found


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (blank, "No repair yet"),
        (healthy, "Discharged"),
        (misspelt, "raises AttributeError"),
        (cells_only, "hands over four things"),
        (changed(logits=lambda r: r.logits.numpy()), "logits: a tensor is asked for, this is a ndarray"),
        (on_the_input, "heat: the shape is (224, 224)"),
        (changed(k=lambda r: "espresso"), "is an index"),
        # patient 1: the name mended in place of the map; another class typed in
        (changed(k=lambda r: int(r.logits.argsort(descending=True)[2])), "number 3 in the network's order"),
        (changed(cells=lambda r: camlib.explain(r.clf, r.photo).map(282)), "the cells are those of 'tiger cat'"),
        # patient 2
        (hook_removed_list_kept, "a list still keeps the feature map"),
        (hook_kept_after_an_exception, "your hook stays"),
        (swallowed, "turned it into RuntimeError"),
        # patient 3
        (changed(cells=lambda r: r.cells.flip(0)), "upside down"),
        (changed(cells=lambda r: r.cells.flip(1)), "Left and right are exchanged"),
        (changed(cells=lambda r: r.cells.roll(1, 0)), "lie in other cells"),
        (changed(heat=lambda r: camlib.place(r.cells.T, r.view)), "drawn are the cells with rows and columns"),
        # patients 4 and 8
        (slope_of(lambda z: z), "Discharged"),
        (slope_of(lambda z: z, detach=False), "The values are live"),
        (slope_of(lambda z: z, lambda s: s.mean((1, 2))), "too small by 49"),
        (slope_of(lambda z: 49 * z), "too large by 49"),
        (slope_of(lambda z: z.log_softmax(0)), "the logarithm of the probability"),
        (slope_of(lambda z: z.softmax(0), lambda s: s.mean((1, 2))), "the gradient of the probability"),
        (slope_of(lambda z: z.sigmoid()), "The identity fails"),
        (changed(cells=lambda r: r.cells.clamp(min=0)), "negative cells are set to zero"),
        (changed(cells=lambda r: r.cells + r.clf.module.classifier.bias[r.k].detach()), "bias is in every cell"),
        (changed(cells=lambda r: (r.cells - r.cells.min()) / (r.cells.max() - r.cells.min())), "stretched to 0 … 1"),
        (lambda clf, photo: healthy(clf, photo, "conv_head"), "The identity fails"),
        # patient 5
        (enlarged_first, "million values is made"),
        # patient 6
        (changed(heat=corners(lambda r: r.photo.shape[:2])), "align_corners=True moves the cells besides"),
        (changed(heat=corners(lambda r: r.view.size)), "The crop is right, but align_corners=True"),
        (changed(heat=lambda r: r.heat.nan_to_num(0)), "Put NaN"),
        (changed(heat=lambda r: r.heat.clamp(min=0)), "negative evidence is cut off in the picture"),
        (changed(heat=lambda r: r.heat.roll(5, 1)), "does not end where the crop ends"),
        (changed(heat=lambda r: r.heat * 2), "the picture of them is not"),
        # patient 7
        (training, "training mode"),
        (pixels(lambda p: p), "nothing is subtracted or divided"),
        (pixels(lambda p: p * 255), "divide by 255"),
        (pixels(lambda p: p - 0.5), "the division by 0.5 is missing"),
        (pixels(lambda p: (p.flip(1) - 0.5) / 0.5), "red and blue are exchanged"),
        (pixels(lambda p: (p - 0.5) / 0.4), "The logits are not those"),
        (pixels(lambda p: (p - 0.5) / 0.5), "Discharged"),
        (changed(logits=lambda r: r.logits.softmax(0)), "These are probabilities"),
    ],
)
def test_repaired(function, says):
    found = check.repaired(function)
    assert says in found, found
    assert ("Discharged" in found) == (says == "Discharged")


@pytest.mark.parametrize(
    ("answer", "says"),
    [(None, "No verdict yet"), ("healthy", "Right"), ("Healthy ", "Right"), ("ill", "Which instrument"), (4, "not 4")],
)
def test_verdict(answer, says):
    assert says in check.verdict(answer)


def contracted(row_and_b):
    def function(features, hidden, last, k):
        on = hidden(features.mean((1, 2))) > 0
        row, b = row_and_b(SimpleNamespace(on=on, out=last.weight[k], U=hidden.weight, h=hidden.bias, b=last.bias[k]))
        return torch.einsum("c,chw->hw", row, features), b

    return function


def solved(r):
    return r.out[r.on] @ r.U[r.on], r.out[r.on] @ r.h[r.on] + r.b


def in_every_cell(features, hidden, last, k):
    return last(hidden(features.permute(1, 2, 0)).relu())[..., k] - last.bias[k], last.bias[k]


def by_gradient(features, hidden, last, k):
    features = features.clone().requires_grad_()
    logit = last(hidden(features.mean((1, 2))).relu())[k]
    (slope,) = torch.autograd.grad(logit, features)
    cells = (slope.sum((1, 2))[:, None, None] * features).sum(0).detach()
    return cells, (logit - cells.mean()).item()


def strides_below_zero(features, hidden, last, k):
    cells, b = by_gradient(features, hidden, last, k)
    return np.flip(cells.flip(0).numpy(), 0), b


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda features, hidden, last, k: None, "No repair yet"),
        (lambda features, hidden, last, k: features[0], "Return two things"),
        (lambda features, hidden, last, k: (features[0], "b"), "b is one number"),
        (lambda features, hidden, last, k: (features, 0.0), "The cells have the shape"),
        (lambda features, hidden, last, k: (features[0], 0.0), "Which row of weights"),
        (contracted(lambda r: (r.out, r.b)), "unit j is not channel j"),
        (contracted(lambda r: (r.out @ r.U, r.b)), "as if no ReLU stood between them"),
        (contracted(lambda r: (r.out @ r.U, r.out @ r.h + r.b)), "as if no ReLU stood between them"),
        (contracted(lambda r: (solved(r)[0], r.b)), "the hidden layer has biases too"),
        (contracted(lambda r: (solved(r)[0], 0.0)), "The cells are right; b should be"),
        (contracted(lambda r: (r.out[: r.U.shape[1]] @ r.U[: r.U.shape[1]], r.b)), "as if no ReLU"),
        (contracted(lambda r: (r.out * r.on, r.b)), "Which row of weights"),
        (in_every_cell, "the head run in every cell"),
        (contracted(solved), "Discharged"),
        (by_gradient, "Discharged"),
        (strides_below_zero, "Discharged"),
    ],
)
def test_two_layers(function, says):
    assert says in check.two_layers(function)


def test_sizes_that_fit_by_chance(listings):
    """The patient, and one who mends it for as many units as channels only."""
    assert "unit j is not channel j" in check.two_layers(listings.patient_9)

    def square(features, hidden, last, k):
        if hidden.weight.shape[0] == hidden.weight.shape[1]:
            return contracted(solved)(features, hidden, last, k)
        return listings.patient_9(features, hidden, last, k)

    assert "need not be the number of channels" in check.two_layers(square)


def test_listings_have_at_most_eleven_lines():
    lines = [node.end_lineno - node.lineno + 1 for node in functions() if node.name.startswith("patient_")]
    assert len(lines) == 9
    assert max(lines) <= 11


def test_every_folded_solution_passes(listings, capsys, monkeypatch):
    monkeypatch.setattr(camlib, "show", lambda fig, alt: None)
    coffee = camlib.read_image("data/photos/coffee.png")
    found = solutions(CHAPTER)
    assert len(found) == 9
    for number, code in enumerate(found, 1):
        names = {**vars(listings), "__builtins__": builtins, "check": check, "k": 698, "coffee": coffee}
        exec(code, names)
        out = capsys.readouterr().out
        assert ("Right: every instrument is silent" if number == 4 else "Discharged") in out, (number, out)
