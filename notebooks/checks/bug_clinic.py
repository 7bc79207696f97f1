"""Checks of chapter 12 and its deep dive: repairs, verdicts and a phantom; what is wrong is recognised by its value."""

import copy
import gc
import io
import math
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import camlib
from camlib.models import IMAGENET_MEAN, IMAGENET_STD
from checks.answers import array, not_a_function, tensor

# Every fourth pixel of a portrait, half a photo, whose best class has negative cells, and of a landscape.
PHOTOS = {"moose.webp": np.s_[::4, :568:4], "panda.webp": np.s_[::4, ::4]}
LARGEST = 4_000_000  # values in one tensor: the network alone makes 1.2 million
FEATURES = 1280 * 7 * 7
RECIPES: tuple[tuple[str, Callable[[Tensor], Tensor]], ...] = (
    ("mean and deviation of ImageNet are another network's recipe", lambda p: _normal(p, *_IMAGENET)),
    ("the pixels lie between 0 and 1, nothing is subtracted or divided", lambda p: p),
    ("the pixels lie between 0 and 255, divide by 255 first", lambda p: p * 255),
    ("red and blue are exchanged", lambda p: _normal(p.flip(1), 0.5, 0.5)),
    ("0.5 is subtracted, and the division by 0.5 is missing", lambda p: _normal(p, 0.5, 1.0)),
)
_IMAGENET = (
    torch.tensor(IMAGENET_MEAN)[:, None, None],
    torch.tensor(IMAGENET_STD)[:, None, None],
)


class Tape(TorchDispatchMode):
    """Measures the largest tensor made while it is on (`largest`, in values), and knows which feature maps live."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0
        self.features: list[weakref.ref[Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            self.largest = max(self.largest, out.numel())
            if out.numel() == FEATURES:
                self.features.append(weakref.ref(out))
        return out

    def alive(self) -> bool:
        """Whether something still holds a feature map."""
        if any(ref() is not None for ref in self.features):
            gc.collect()
        return any(ref() is not None for ref in self.features)


class Breakdown(Exception):
    """Raised in the middle of a forward pass, on purpose."""


class _Broken(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        raise Breakdown("this layer fails on purpose")


class Reference(NamedTuple):
    """What is right for a photo."""

    exp: camlib.Explanation
    pixels: Tensor  # (1, 3, 224, 224), from 0 to 1
    k: int

    @property
    def cells(self) -> Tensor:
        return self.exp.map(self.k)


@cache
def _clf() -> camlib.Classifier:
    return camlib.load_model()


@cache
def _reference(name: str) -> Reference:
    photo = camlib.read_image(Path(__file__).resolve().parents[2] / "data/photos" / name)
    return _refer(_clf(), np.ascontiguousarray(photo[PHOTOS[name]]))


def _refer(clf: camlib.Classifier, photo: np.ndarray) -> Reference:
    exp = camlib.explain(clf, photo)
    pixels = clf.preprocess(photo, exp.view) * 0.5 + 0.5
    return Reference(exp, pixels, int(exp.logits.argmax()))


def _normal(pixels: Tensor, mean: Any, std: Any) -> Tensor:
    return (pixels - mean) / std


# The opening figure


def ward(clf: camlib.Classifier, photo: np.ndarray) -> dict[int, Tensor]:
    """The nine patients' heat maps (H, W) of a photo, by number: what the listings draw, without running them."""
    ref = _refer(clf, photo)
    view, right, third = ref.exp.view, ref.cells, ref.exp.top(3)[2].index
    with torch.no_grad():
        features, logits = clf.head.run(clf.module, _normal(ref.pixels, *_IMAGENET))
        borrowed = clf.head.weight[int(logits.argmax())]
        other = torch.einsum("c,chw->hw", borrowed, features[0])
        features, _ = clf.head.run(clf.module, clf.preprocess(photo, view))
        hidden, last = two_layer_head(clf)
        k = int(last(hidden(features.mean((2, 3))).relu()).argmax())
        wrong = torch.einsum("c,chw->hw", last.weight[k], features[0])
    cells = {
        1: ref.exp.map(third),
        2: right,
        3: right.T,
        4: right,
        6: other,
        7: _softmax_slope(ref),
        8: right,
        9: wrong,
    }
    placed = {number: camlib.place(values, view) for number, values in cells.items()}
    return dict(sorted((placed | {5: camlib.upsample(right, photo.shape[:2])}).items()))


def silent(examine: Callable, function: Callable) -> Any:
    """What examine(function) returns; what it prints is left out."""
    with redirect_stdout(io.StringIO()):
        return examine(function)


@cache
def two_layer_head(clf: camlib.Classifier) -> tuple[nn.Linear, nn.Linear]:
    """Two layers for the place of the classifier's one, hidden (C -> C) and last (C -> K), with a ReLU between them.

    The hidden layer turns the channel means by a random rotation R. Of R·m, ReLU keeps about half; twice the transposed
    rotation gives m back on average. So the logits are near the original's, and every hidden unit mixes all channels.
    """
    weight, bias = clf.head.weight, clf.head.bias
    classes, channels = weight.shape
    rotation = torch.linalg.qr(torch.randn(channels, channels, generator=torch.Generator().manual_seed(0)))[0]
    hidden = nn.utils.skip_init(nn.Linear, channels, channels)
    last = nn.utils.skip_init(nn.Linear, channels, classes)
    with torch.no_grad():
        hidden.weight.copy_(rotation)
        hidden.bias.fill_(0.01)
        last.weight.copy_(2 * weight @ rotation.T)
        last.bias.copy_(bias)
    return hidden.requires_grad_(False), last.requires_grad_(False)


def _softmax_slope(ref: Reference) -> Tensor:
    """The gradient of the probability in place of the logit's: p · (map - mean of all maps, weighted by p)."""
    p = ref.exp.logits.softmax(0)
    return p[ref.k] * _log_softmax_slope(ref)


def _log_softmax_slope(ref: Reference) -> Tensor:
    return ref.cells - torch.einsum("k,khw->hw", ref.exp.logits.softmax(0), ref.exp.maps)


# Repairs: patients 1, 2 and 8, and any other that hands over the same four things


def repaired(function: Callable[[camlib.Classifier, np.ndarray], Any]) -> str:
    """The patients' function (clf, photo) -> class, logits (K,), cells (h, w), heat (H, W): fit to be discharged?"""
    net = copy.deepcopy(_clf().module)
    clf = replace(_clf(), module=net)
    for ref in map(_reference, PHOTOS):
        found = _call(function, clf, ref)
        if isinstance(found, str):
            return found
        given, tape = found
        fault = (
            _left_behind(net, ref, given)
            or _wrong_logits(net, ref, given[1].detach())
            or _wrong_class(ref, given[0])
            or _wrong_cells(ref, given[2].detach())
            or _wrong_heat(ref, given[3].detach())
        )
        if fault:
            return fault
        if tape.largest > LARGEST:
            return (
                f"The values are right, but on the way a tensor of {tape.largest / 1e6:.0f} million values is made for "
                f"a photo of {ref.exp.photo.shape[1]} × {ref.exp.photo.shape[0]}. Sum over the channels first, then "
                "enlarge the one map."
            )
        del given, found
        if tape.alive():
            return (
                "No hook is left, but somewhere a list still keeps the feature map when your function has ended. Use a "
                "list of the function's own."
            )
    return _after_breakdown(function) or (
        "Right, discharged: on two photos the class, the logits, the cells and the picture are right, no tensor is too "
        "large, and nothing is left behind."
    )


def _call(function: Callable, clf: camlib.Classifier, ref: Reference) -> str | tuple[tuple, Tape]:
    try:
        with redirect_stdout(io.StringIO()), Tape() as tape:
            given = function(clf, ref.exp.photo.copy())
    except Exception as e:  # whatever a learner's code raises
        return f"Your function raises {type(e).__name__}: {e}"
    if given is None:
        return (
            "No repair yet: the function returns nothing. Copy the patient's listing into it and change what is wrong."
        )
    if not isinstance(given, (tuple, list)) or len(given) != 4:
        return "A patient hands over four things: the class, the logits, the cells and the heat map."
    shapes = {"logits": (1000,), "cells": (7, 7), "heat": ref.exp.photo.shape[:2]}
    for (what, shape), value in zip(shapes.items(), given[1:], strict=True):
        if not isinstance(value, Tensor):
            return f"{what}: a tensor is asked for, this is a {type(value).__name__}."
        if tuple(value.shape) != shape:
            return f"{what}: the shape is {tuple(value.shape)}; for this photo it should be {shape}."
    return tuple(given), tape


def _left_behind(net: nn.Module, ref: Reference, given: tuple) -> str | None:
    if hooks := _hooks(net):
        return (
            f"A hook was left behind: {hooks} after one call, one more with every further call. Remove it through the "
            "handle that register_forward_hook returns, or let camlib.capture do it."
        )
    if net.training:
        return "The network is in training mode: each photo is judged by its own statistics. Call clf.module.eval()."
    if any(value.requires_grad for value in given[1:]):
        return "The values are live: each keeps the graph of the whole forward pass in memory. Detach what you return."
    return None


def _wrong_logits(net: nn.Module, ref: Reference, logits: Tensor) -> str | None:
    if _same(logits, ref.exp.logits):
        return None
    for what, prepare in RECIPES:
        with torch.no_grad():
            if _same(logits, net(prepare(ref.pixels))[0], 0.05):
                return f"Still the wrong pixels: {what}. This network was trained on (p - 0.5) / 0.5, p from 0 to 1."
    if _same(logits, ref.exp.logits.softmax(0)):
        return "These are probabilities; hand over the logits."
    off = float((logits - ref.exp.logits).abs().max())
    return (
        f"The logits are not those of the network's own pipeline; they are off by up to {off:.2f}. "
        "The network was given other pixels: look at the lines before it is called."
    )


def _wrong_class(ref: Reference, k: Any) -> str | None:
    try:
        k = int(k)
    except (TypeError, ValueError):
        return f"The class is an index, not {k!r}."
    if k == ref.k:
        return None
    rank = ref.exp.logits.argsort(descending=True).tolist().index(k) + 1
    return f"The class handed over is number {rank} in the network's order; the best one is asked for."


def _wrong_cells(ref: Reference, cells: Tensor) -> str | None:
    right, maps = ref.cells, ref.exp.maps
    if _same(cells, right):
        return None
    for other in (maps - cells).abs().amax((1, 2)).argsort()[:1].tolist():
        if _same(cells, maps[other]):
            rank = ref.exp.logits.argsort(descending=True).tolist().index(other) + 1
            best, drawn = (ref.exp.classifier.labels[j] for j in (ref.k, other))
            return (
                f"The class and its map do not belong together: the best class is {best!r}, the cells are those of "
                f"{drawn!r}, choice number {rank}."
            )
    slopes = {
        "the probability, the softmax's": _softmax_slope(ref),
        "the logarithm of the probability": _log_softmax_slope(ref),
    }
    for what, slope in slopes.items():
        if _same(cells, slope, 1e-4) or _same(cells, slope / 49, 1e-5):
            return f"That is the gradient of {what}; differentiate the logit: other classes have no part in it."
    for wrong, message in _mistaken(right, float(ref.exp.bias[ref.k])):
        if _same(cells, wrong, 1e-4 * max(1.0, float(wrong.abs().max()))):
            return message
    claimed, logit = float(cells.mean() + ref.exp.bias[ref.k]), float(ref.exp.logits[ref.k])
    if abs(claimed - logit) < 1e-3:
        return "The identity holds, but the numbers lie in other cells than they should."
    return f"The identity fails: mean + bias is {claimed:.3f}, the logit is {logit:.3f}."


def _mistaken(right: Tensor, bias: float) -> Iterator[tuple[Tensor, str]]:
    yield right.T, "Rows and columns are still exchanged: the map is transposed. The identity cannot see that."
    yield right / 49, "All values are too small by 49, the number of cells: add the gradients of the cells up."
    yield (
        right * 49,
        "All values are too large by 49, the number of cells: the identity is about the mean, not the sum.",
    )
    yield (
        right.clamp(min=0),
        "The negative cells are set to zero: evidence against the class is lost, and the identity.",
    )
    yield right + bias, "The bias is in every cell already; the instruments add it once more. Leave it out."
    low, high = right.min(), right.max()
    yield (
        (right - low) / (high - low),
        "The cells are stretched to 0 … 1: their unit, their zero and their sign are lost.",
    )
    yield right.flip(0), "The map is upside down."
    yield right.flip(1), "Left and right are exchanged."


def _wrong_heat(ref: Reference, heat: Tensor) -> str | None:
    cells, view = ref.cells, ref.exp.view
    right, size = ref.exp.heatmap(ref.k), ref.exp.photo.shape[:2]
    if _same(heat, right):
        return None
    unseen = right.isnan()

    def inside(window: Tensor) -> Tensor:
        return camlib.place(window, view)

    corners = F.interpolate(cells[None, None], view.size, mode="bilinear", align_corners=True)[0, 0]
    corners_wide = F.interpolate(cells[None, None], size, mode="bilinear", align_corners=True)[0, 0]
    known = (
        (camlib.upsample(cells, size), "The crop is still forgotten: the map is stretched over the whole photo."),
        (corners_wide, "The crop is still forgotten, and align_corners=True moves the cells besides."),
        (inside(corners), "The crop is right, but align_corners=True moves the cells towards the border."),
        (inside(cells.T), "The cells are right; drawn are the cells with rows and columns exchanged."),
        (right.nan_to_num(0.0), "Outside the crop you put 0: that claims that the network looked there. Put NaN."),
        (right.clamp(min=0), "The negative evidence is cut off in the picture."),
    )
    for wrong, message in known:
        if _same(heat, wrong, 0.05):
            return message
    if bool((heat.isnan() != unseen).any()):
        return "The picture does not end where the crop ends: NaN belongs exactly where the network never looked."
    off = float((heat - right).abs().nan_to_num(0).max())
    return f"The cells are right, the picture of them is not: values on the photo are off by up to {off:.2f}."


def _after_breakdown(function: Callable) -> str | None:
    net = copy.deepcopy(_clf().module)
    broken = _Broken(1280, 1000)
    net.classifier = broken
    try:
        with redirect_stdout(io.StringIO()):
            function(replace(_clf(), module=net), _reference("panda.webp").exp.photo.copy())
    except Exception as e:  # whatever a learner's code raises
        if not isinstance(e, Breakdown) and not isinstance(e.__cause__, Breakdown):
            return f"The network raised a Breakdown, and your function turned it into {type(e).__name__}: {e}"
        if _hooks(net):
            return (
                "Nearly: all is right as long as the network runs. When it raises an exception in the middle of its "
                "forward pass, your hook stays: remove it in a finally block, or use camlib.capture."
            )
    return None


def _hooks(net: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())


def _same(a: Tensor, b: Tensor, atol: float = 1e-3) -> bool:
    return a.shape == b.shape and torch.allclose(a.float(), b.float(), rtol=0, atol=atol, equal_nan=True)


# Verdicts on patients 4 to 7

WORDS = ("healthy", "identity", "hooks", "box", "none")
VERDICTS = {4: "healthy", 5: "box", 6: "none", 7: "identity"}
WHY = {
    (4, "identity"): "Add it up: when one cell of channel c grows by 1, by how much does the logit grow? And how many "
    "cells are there? No slope is the weight, but their sum may be.",
    (4, "box"): "The box needs cells that moved. Which line of the diff moves a cell?",
    (
        4,
        "none",
    ): 'That verdict means: ill, but no alarm. What would be wrong with its numbers? If nothing is, say "healthy".',
    (5, "healthy"): "Where does the network look: at the whole photo, or at a square in its middle?",
    (5, "identity"): "The identity reads the cells. The diff changes what happens after them.",
    (5, "none"): "The palace is not square, and its box is known. Where does the changed line put the cells?",
    (6, "healthy"): "Each network has a recipe for its pixels. This one was trained on (p - 0.5) / 0.5.",
    (
        6,
        "identity",
    ): "The identity compares the map with the logits of the same forward pass. Wrong pixels went into both.",
    (
        6,
        "box",
    ): "A good guess, but the cells stay in their places, and the share falls by 0.05 only, less than a tenth.",
    (7, "healthy"): "Of which number is this the slope? Do the cells still add up to the logit?",
    (7, "box"): "The red lies on the palace, even more of it than before. What do its numbers add up to?",
    (
        7,
        "none",
    ): "Of which number is this the slope? Then the mean of the cells can hardly be the logit minus the bias.",
}


def verdicts(answer: Any) -> str:
    """Patients 4 to 7: {number: "healthy" or the instrument that raises an alarm or "none"}."""
    if not isinstance(answer, Mapping):
        return "Your verdicts are a dictionary: the number of each patient, and a word."
    given = {number: str(answer.get(number) or "").strip().lower() for number in VERDICTS}
    if not any(given.values()):
        return "No verdicts yet: put a word in place of each None."
    for number, word in given.items():
        if not word:
            return f"Patient {number}: no verdict yet."
        if word not in WORDS:
            return f"Patient {number}: the words are {', '.join(WORDS)}; not {word!r}."
        if word == "hooks":
            return (
                f"Patient {number}: does the changed line register a hook that stays? camlib.capture removes its own."
            )
        if word != VERDICTS[number]:
            return f"Patient {number}: not {word!r}. {WHY[number, word]}"
    return "Right, all four. Now see what the instruments say."


# The phantom


def phantom(function: Callable[[Callable[[Tensor, camlib.View], Tensor], camlib.View, int, int], Any]) -> str:
    """(place, view, row, column) -> by how many pixels, right and down, a hot cell is drawn beside its place."""
    if fault := not_a_function(function, "return two numbers, the pixels to the right and down"):
        return fault
    view = camlib.View.crop((427, 640), 256, 224)
    for row, column in ((3, 1), (2, 5)):
        given = _phantom_answer(function, camlib.place, view, row, column)
        if isinstance(given, str):
            return given
        if fault := _phantom_fault(given, view, row, column):
            return fault
    portrait = camlib.View.crop((400, 300), 256, 224)
    for what, place in _places().items():
        for seen in (view, portrait):
            given = _phantom_answer(function, place, seen, 3, 1)
            if isinstance(given, str):
                return given
            right = centre_off(place, seen, 3, 1)
            if not _near(given, right):
                told = "({:.1f}, {:.1f})".format(*right)
                hint = (
                    " The sign is the other way round: drawn minus right." if _near(given, [-v for v in right]) else ""
                )
                return f"With {what}, the centre is off by {told}; you return ({given[0]:.1f}, {given[1]:.1f}).{hint}"
    return "Right: your phantom finds moved corners, a forgotten crop, exchanged axes, and a shift by a single pixel."


def _places() -> dict[str, Callable[[Tensor, camlib.View], Tensor]]:
    return {
        "align_corners=True": _by_corners,
        "the crop forgotten": lambda cells, view: camlib.upsample(cells, view.photo),
        "rows and columns exchanged": lambda cells, view: camlib.place(cells.T, view),
        "a shift by a pixel to the right": lambda cells, view: camlib.place(cells, view).roll(1, 1),
    }


def _by_corners(cells: Tensor, view: camlib.View) -> Tensor:
    large = F.interpolate(cells[None, None], view.size, mode="bilinear", align_corners=True)
    return camlib.place(large[0, 0], view)


def _centre(heat: Tensor) -> tuple[float, float]:
    """The centre of mass of a heat map (H, W), x and y, in pixels."""
    values = heat.nan_to_num(0).double()
    x, y = (values.sum(axis) @ (torch.arange(values.shape[1 - axis]) + 0.5).double() for axis in (0, 1))
    return float(x / values.sum()), float(y / values.sum())


def middle(view: camlib.View, row: float, column: float) -> tuple[float, float]:
    """Where the middle of a cell lies on the photo, x and y; row and column count from 0."""
    left, top, right, bottom = view.box
    return left + (column + 0.5) * (right - left) / 7, top + (row + 0.5) * (bottom - top) / 7


def centre_off(place: Callable[[Tensor, camlib.View], Tensor], view: camlib.View, row: int, column: int) -> list[float]:
    """By how many pixels, right and down, a hot cell is drawn beside its place."""
    cells = torch.zeros(7, 7)
    cells[row, column] = 1
    return [a - b for a, b in zip(_centre(place(cells, view)), middle(view, row, column), strict=True)]


def _near(given: Any, right: Any, within: float = 0.2) -> bool:
    return all(abs(a - b) < within for a, b in zip(given, right, strict=True))


def _phantom_answer(function: Callable, place: Callable, view: camlib.View, row: int, column: int) -> str | list[float]:
    try:
        given = function(place, view, row, column)
    except Exception as e:  # whatever a learner's code raises
        return f"Your function raises {type(e).__name__}: {e}"
    if given is None:
        return "No answer yet: return two numbers, the pixels to the right and down."
    values = array(given)
    if values is None or values.size != 2:
        return f"Return two numbers, the pixels to the right and down; not {given!r}."
    x, y = values.ravel().tolist()
    if math.isnan(x) or math.isnan(y):
        return "NaN: outside the window the heat map has no value. Put 0 there, by nan_to_num(0), before you sum."
    return [x, y]


def _phantom_fault(given: list[float], view: camlib.View, row: int, column: int) -> str | None:
    """What is wrong with an answer for `camlib.place`, which is off by nothing."""
    if _near(given, (0, 0)):
        return None
    cells = torch.zeros(7, 7)
    cells[row, column] = 1
    drawn, (left, top, *_) = _centre(camlib.place(cells, view)), view.box
    side = (view.box[2] - left) / 7
    known: tuple[tuple[tuple[float, float], str], ...] = (
        ((-0.5, -0.5), "Nearly: pixel 0 has its middle at 0.5, so the positions are arange(...) + 0.5."),
        ((side / 2, side / 2), "By half a cell: the middle of cell i is at (i + 0.5) cells, not at i."),
        (
            (side / 2 - 0.5, side / 2 - 0.5),
            "The middle of a pixel and of a cell lies half of it beyond its edge: + 0.5, twice.",
        ),
        (
            (left, top),
            "The window does not begin at the photo's edge: add left and top of view.box to the cell's place.",
        ),
        (drawn, "That is where the centre is. Return the difference: where it is drawn, minus where it should be."),
    )
    for wrong, message in known:
        if _near(given, wrong):
            return message
        if _near(given, wrong[::-1]) and wrong[0] != wrong[1]:
            return f"x and y are exchanged: columns go to the right, rows down. And then: {message}"
    swapped = middle(view, column, row)
    if _near(given, [a - b for a, b in zip(drawn, swapped, strict=True)]):
        return "Row and column are exchanged: the column says how far to the right the cell is."
    return (
        f"camlib.place draws cell ({row}, {column}) where it belongs: off by 0 and 0; you return "
        f"{given[0]:.1f} and {given[1]:.1f}."
    )


# Patient 9


def two_layers(function: Callable[[Tensor, nn.Linear, nn.Linear, int], Any]) -> str:
    """Patient 9: (features (C, h, w), hidden, last, k) -> cells (h, w), b, exact for mean -> hidden -> ReLU -> last."""
    for seed, (channels, units, classes) in enumerate([(6, 6, 4), (5, 9, 3), (8, 3, 7), (6, 6, 4)]):
        g = torch.Generator().manual_seed(seed)
        features = torch.rand(channels, 3 + seed, 5, generator=g) * 3
        hidden, last = (_linear(*shape, g) for shape in ((channels, units), (units, classes)))
        k = 1 + seed % 2
        try:
            given = function(features.clone(), hidden, last, k)
        except Exception as e:  # whatever a learner's code raises
            hint = "" if channels == units else " The number of hidden units need not be the number of channels."
            return f"With {channels} channels and {units} hidden units: {type(e).__name__}: {e}.{hint}"
        if fault := _two_layer_fault(given, features, hidden, last, k):
            return fault
    return "Right, discharged: with four random heads of different sizes, mean + b is the logit."


def _two_layer_fault(given: Any, features: Tensor, hidden: nn.Linear, last: nn.Linear, k: int) -> str | None:
    if given is None:
        return "No repair yet: return two things, the cells (h, w) and the constant b."
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        return "Return two things: the cells (h, w) and the constant b."
    cells, constants = (tensor(part) for part in given)
    if cells is None or constants is None or constants.numel() != 1:
        return f"The cells are a tensor (h, w), b is one number; you return {given[0]!r} and {given[1]!r}."
    b = float(constants)
    if cells.shape != features.shape[1:]:
        return f"The cells have the shape {tuple(cells.shape)}; the feature map has {tuple(features.shape[1:])}."
    with torch.no_grad():
        z = hidden(features.mean((1, 2)))
        on, out = (z > 0).float(), last.weight[k]
        logit = float(last(z.relu())[k])
        row, constant = (out * on) @ hidden.weight, float((out * on) @ hidden.bias + last.bias[k])
        per_cell = last(hidden(features.permute(1, 2, 0)).relu())[..., k]

        def layout(weights: Tensor) -> Tensor:
            return torch.einsum("c,chw->hw", weights, features)

        if _same(cells, layout(row), 1e-4):
            if abs(b - constant) < 1e-4:
                return None
            if abs(b - float(last.bias[k])) < 1e-4:
                return (
                    "The cells are right, b is not: the hidden layer has biases too, and those of the units that are "
                    "on reach the logit through the last layer."
                )
            return f"The cells are right; b should be {constant:.3f}, you return {b:.3f}."
        if len(out) == len(features) and _same(cells, layout(out), 1e-4):
            return (
                "Still the last layer's row, put on the channels. It belongs to the hidden units, and unit j is not "
                f"channel j: mean + b is {float(cells.mean()) + b:.3f}, the logit {logit:.3f}."
            )
        if _same(cells, layout(out @ hidden.weight), 1e-4):
            return (
                "The two layers are multiplied as if no ReLU stood between them: a unit that is off passes nothing on."
            )
        if _same(cells, per_cell, 1e-4) or _same(cells, per_cell - last.bias[k], 1e-4):
            return "That is the head run in every cell. ReLU of a mean is not the mean of ReLUs: one mask, of the mean."
        sizes = cells.mean(), layout(row).mean()
    return (
        f"mean + b is {float(sizes[0]) + b:.3f}, the logit is {logit:.3f}. Which row of weights do the *channels* "
        "have, when only the units that are on count?"
        if abs(float(sizes[0]) + b - logit) > 1e-4
        else "The identity holds, but the cells are not the channels' contributions in their places."
    )


def _linear(inputs: int, outputs: int, g: torch.Generator) -> nn.Linear:
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(outputs, inputs, generator=g))
        layer.bias.copy_(torch.randn(outputs, generator=g))
    return layer
