"""The checks of chapter 12 and its deep dive: faulty and half-repaired listings get their message, solutions pass."""

import ast
import builtins
import difflib
import inspect
import re
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import patients
import pytest
import torch
from checks import bug_clinic as check
from torch.nn import functional as F

import camlib
from tests.checks.solutions import solutions
from tools.notebooks import ALONE_TAG

CHAPTER = "12_bug_clinic"
DIVE = "deep_dives/two_more_patients"


def functions():
    """What the chapter's cells define with `def`; the cell for Colab, which is no plain Python, defines nothing."""
    for cell in nbformat.read(f"notebooks/{CHAPTER}.ipynb", as_version=4).cells:
        if cell.cell_type == "code" and ALONE_TAG not in cell.metadata.get("tags", []):
            yield from (node for node in ast.parse(cell.source).body if isinstance(node, ast.FunctionDef))


@pytest.fixture(scope="module")
def listings():
    """The chapter's functions, its patients among them, and those of patients.py, without running anything else."""
    names = {"torch": torch, "np": np, "F": F, "camlib": camlib, "clf": camlib.load_model(), "kept": []}
    names |= {name: function for name, function in vars(patients).items() if name.startswith("patient_")}
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


def by_camlib(clf, photo):
    exp = camlib.explain(clf, photo)
    k = exp.top(1)[0].index
    return k, exp.logits, exp.map(k), exp.heatmap(k)


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
        (4, "Right, discharged"),
        (5, "stretched over the whole photo"),
        (6, "mean and deviation of ImageNet"),
        (7, "the gradient of the probability"),
        (8, "million values is made"),
    ],
)
def test_the_patients_themselves(listings, number, says):
    found = check.repaired(getattr(listings, f"patient_{number}"))
    assert says in found, found


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (blank, "No repair yet"),
        (healthy, "Right, discharged"),
        (by_camlib, "Right, discharged"),  # its ModelError has the network's exception as its cause
        (lambda clf, photo: list(healthy(clf, photo)), "Right, discharged"),
        (misspelt, "raises AttributeError"),
        (cells_only, "hands over four things"),
        (changed(logits=lambda r: r.logits.numpy()), "logits: a tensor is asked for, this is a ndarray"),
        (on_the_input, "heat: the shape is (224, 224)"),
        (changed(k=lambda r: "espresso"), "is an index"),
        # patient 1: the name mended in place of the map; another class typed in
        (changed(k=lambda r: int(r.logits.argsort(descending=True)[2])), "number 3 in the network's order"),
        (changed(cells=lambda r: camlib.explain(r.clf, r.photo).map(282)), "the cells are those of 'tiger cat'"),
        # patient 2
        (hook_removed_list_kept, "a list still keeps the feature map when"),
        (hook_kept_after_an_exception, "your hook stays"),
        (swallowed, "turned it into RuntimeError"),
        # patient 3
        (changed(cells=lambda r: r.cells.flip(0)), "upside down"),
        (changed(cells=lambda r: r.cells.flip(1)), "Left and right are exchanged"),
        (changed(cells=lambda r: r.cells.roll(1, 0)), "lie in other cells"),
        (changed(heat=lambda r: camlib.place(r.cells.T, r.view)), "drawn are the cells with rows and columns"),
        # patients 4 and 7
        (slope_of(lambda z: z), "Right, discharged"),
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
        # patient 8
        (enlarged_first, "million values is made"),
        # patient 5
        (changed(heat=corners(lambda r: r.photo.shape[:2])), "align_corners=True moves the cells besides"),
        (changed(heat=corners(lambda r: r.view.size)), "The crop is right, but align_corners=True"),
        (changed(heat=lambda r: r.heat.nan_to_num(0)), "Put NaN"),
        (changed(heat=lambda r: r.heat.clamp(min=0)), "negative evidence is cut off in the picture"),
        (changed(heat=lambda r: r.heat.roll(5, 1)), "does not end where the crop ends"),
        (changed(heat=lambda r: r.heat * 2), "the picture of them is not"),
        # patient 6
        (training, "training mode"),
        (pixels(lambda p: p), "nothing is subtracted or divided"),
        (pixels(lambda p: p * 255), "divide by 255"),
        (pixels(lambda p: p - 0.5), "the division by 0.5 is missing"),
        (pixels(lambda p: (p.flip(1) - 0.5) / 0.5), "red and blue are exchanged"),
        (pixels(lambda p: (p - 0.5) / 0.4), "The logits are not those"),
        (pixels(lambda p: (p - 0.5) / 0.5), "Right, discharged"),
        (changed(logits=lambda r: r.logits.softmax(0)), "These are probabilities"),
    ],
)
def test_repaired(function, says):
    found = check.repaired(function)
    assert says in found, found
    assert ("Right, discharged" in found) == (says == "Right, discharged")


RIGHT = {4: "healthy", 5: "box", 6: "none", 7: "identity"}


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({4: None, 5: None, 6: None, 7: None}, "No verdicts yet"),
        ({}, "No verdicts yet"),
        (["healthy"], "are a dictionary"),
        (RIGHT, "Right, all four"),
        ({n: f" {word.title()}" for n, word in RIGHT.items()}, "Right, all four"),
        (RIGHT | {7: None}, "Patient 7: no verdict yet"),
        (RIGHT | {5: "crop"}, "the words are healthy, identity, hooks, box, none; not 'crop'"),
        (RIGHT | {5: 1}, "not '1'"),
        (RIGHT | {7: "hooks"}, "camlib.capture removes its own"),
        (RIGHT | {4: "identity"}, "Add it up"),
        (RIGHT | {6: "healthy"}, "a recipe for its pixels"),
        (RIGHT | {6: "box"}, "less than a tenth"),
        (RIGHT | {5: "identity"}, "after them"),
    ],
)
def test_verdicts(answer, says):
    assert says in check.verdicts(answer)


def test_every_wrong_verdict_has_its_reason():
    for number, right in check.VERDICTS.items():
        for word in check.WORDS:
            found = check.verdicts(RIGHT | {number: word})
            assert found.startswith("Right" if word == right else f"Patient {number}: "), found


# The phantom


def phantom_off(place, view, row, column, half_pixel=0.5, half_cell=0.5, start=(0, 0), nan=0.0):
    cells = torch.zeros(7, 7)
    cells[row, column] = 1
    heat = place(cells, view).nan_to_num(nan).double()
    x, y = (heat.sum(axis) @ (torch.arange(heat.shape[1 - axis]) + half_pixel).double() for axis in (0, 1))
    left, top, right, bottom = view.box
    x_right = left + start[0] + (column + half_cell) * (right - left) / 7
    y_right = top + start[1] + (row + half_cell) * (bottom - top) / 7
    return x / heat.sum() - x_right, y / heat.sum() - y_right


def changed_phantom(change):
    return lambda place, view, row, column: change(phantom_off(place, view, row, column))


def from_the_photos_edge(place, view, row, column):
    return phantom_off(place, view, row, column, start=(-view.box[0], -view.box[1]))


def only_the_centre(place, view, row, column):
    x, y = phantom_off(place, view, row, column)
    return x + check.middle(view, row, column)[0], y + check.middle(view, row, column)[1]


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (None, "No answer yet"),
        (lambda *given: None, "No answer yet"),
        ((0, 0), "without calling it"),
        (lambda *given: 0, "Return two numbers"),
        (lambda *given: "left", "Return two numbers"),
        (lambda place, view: (0, 0), "raises TypeError"),
        (lambda *given: (float("nan"), 0), "NaN: outside the window"),
        (lambda *given: phantom_off(*given, half_pixel=0), "pixel 0 has its middle at 0.5"),
        (lambda *given: phantom_off(*given, half_cell=0), "By half a cell"),
        (lambda *given: phantom_off(*given, half_cell=0, half_pixel=0), "+ 0.5, twice"),
        (from_the_photos_edge, "does not begin at the photo's edge"),
        (only_the_centre, "Return the difference"),
        (lambda place, view, row, column: check.middle(view, row, column), "Return the difference"),
        (lambda place, view, row, column: check.middle(view, row, column)[::-1], "x and y are exchanged"),
        (lambda place, view, row, column: [a - b for a, b in zip(
            only_the_centre(place, view, row, column), check.middle(view, column, row), strict=True
        )], "Row and column are exchanged"),
        (lambda *given: (30, 3), "off by 0 and 0; you return 30.0 and 3.0"),
        (lambda *given: (0, 0), "With align_corners=True, the centre is off by (-17.3"),
        (changed_phantom(lambda off: (-off[0], -off[1])), "The sign is the other way round"),
        (changed_phantom(lambda off: (abs(off[0]), abs(off[1]))), "the centre is off by (-17.3"),
        (phantom_off, "Right: your phantom"),
        (changed_phantom(list), "Right: your phantom"),
        (changed_phantom(torch.stack), "Right: your phantom"),
        (changed_phantom(lambda off: np.array([float(v) for v in off], dtype=np.float32)), "Right: your phantom"),
    ],
)  # fmt: skip
def test_phantom(function, says):
    found = check.phantom(function)
    assert says in found, found


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
        (contracted(solved), "Right, discharged"),
        (by_gradient, "Right, discharged"),
        (strides_below_zero, "Right, discharged"),
    ],
)
def test_two_layers(function, says):
    assert says in check.two_layers(function)


def last_row(features, hidden, last, k):
    """What patient 9 does."""
    return torch.einsum("c,chw->hw", last.weight[k], features), last.bias[k]


def test_sizes_that_fit_by_chance():
    """The patient, and one who repairs it for as many units as channels only."""
    assert "unit j is not channel j" in check.two_layers(last_row)

    def square(features, hidden, last, k):
        if hidden.weight.shape[0] == hidden.weight.shape[1]:
            return contracted(solved)(features, hidden, last, k)
        return last_row(features, hidden, last, k)

    assert "need not be the number of channels" in check.two_layers(square)


# The listings


def body(function):
    """The lines of a function below its first, without comments."""
    return re.sub(r"(?m)  # .*$", "", inspect.getsource(function)).splitlines()[1:]


def code(chapter):
    return [c.source for c in nbformat.read(f"notebooks/{chapter}.ipynb", as_version=4).cells if c.cell_type == "code"]


def test_the_healthy_listing_is_the_one_that_the_chapter_shows():
    (shown,) = (text for text in code(CHAPTER) if text.startswith("def right_map"))
    assert re.sub(r"(?m)  # .*$", "", shown).splitlines()[1:] == body(patients.right_map)


@pytest.mark.parametrize(("chapter", "numbers"), [(CHAPTER, (4, 5, 6, 7)), (DIVE, (8, 9))])
def test_the_diffs_are_those_of_the_listings(chapter, numbers):
    cells = nbformat.read(f"notebooks/{chapter}.ipynb", as_version=4).cells
    shown = re.findall(r"```diff\n(.*?)\n```", "\n".join(c.source for c in cells if c.cell_type == "markdown"), re.S)
    for diff, number in zip(shown, numbers, strict=True):
        lines = difflib.unified_diff(
            body(patients.right_map), body(getattr(patients, f"patient_{number}")), n=1, lineterm=""
        )
        assert diff.splitlines() == [line for line in list(lines)[2:] if not line.startswith("@@")]


def test_listings_have_at_most_ten_lines(listings):
    lines = [node.end_lineno - node.lineno + 1 for node in functions() if node.name.startswith("patient_")]
    lines += [len(inspect.getsource(getattr(patients, f"patient_{n}")).splitlines()) for n in range(4, 10)]
    assert len(lines) == 9
    assert max(lines) <= 10


def test_the_opening_figure_shows_what_the_listings_draw(listings):
    """On a small photo; check.ward does not run them."""
    photo = np.ascontiguousarray(camlib.read_image("data/photos/coffee.png")[::4, ::4])
    for number, staged in check.ward(listings.clf, photo).items():
        clf = camlib.load_model()
        if number == 9:
            hidden, last = check.two_layer_head(clf)
            clf.module.classifier = torch.nn.Sequential(hidden, torch.nn.ReLU(), last)
        drawn = check.silent(lambda function: function(clf, photo), getattr(listings, f"patient_{number}"))[3]  # noqa: B023
        assert torch.allclose(drawn, staged, atol=1e-2, equal_nan=True), number


def test_every_folded_solution_passes(listings, capsys):
    for chapter, count in ((CHAPTER, 4), (DIVE, 2)):
        found = solutions(chapter)
        assert len(found) == count
        for text in found:
            exec(text, {**vars(listings), "__builtins__": builtins, "check": check})
            assert capsys.readouterr().out.startswith("Right"), text


def test_the_page_has_the_sentences_that_the_chapter_quotes():
    page = Path("docs/what_you_may_claim.md")
    text, cells = page.read_text(encoding="utf-8"), nbformat.read(f"notebooks/{CHAPTER}.ipynb", as_version=4).cells
    (section,) = (c.source for c in cells if "## What you may claim" in c.source)
    quoted = re.findall(r'\| ("[^"]+") \|', section.split("## What you may claim")[1])
    assert len(quoted) == 3 and all(sentence in text for sentence in quoted)
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        assert (page.parent / link).is_file(), link
