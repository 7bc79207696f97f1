"""Checks of chapter 04: each looks at an answer and says what is right, or which mistake it shows."""

import re
from collections.abc import Callable
from itertools import permutations
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from checks.answers import array, tensor

B, K, C, H, W = 2, 4, 6, 3, 5  # all different: a swapped axis shows in the shape

Maps = Callable[[Tensor, Tensor], Any]


def _draw(*shape: int, seed: int = 4) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _answer(function: Callable[..., Any], *inputs: Any) -> Tensor | str:
    """What a learner's function returns, as a float tensor; in words where that is not possible."""
    shapes = " and ".join(str(tuple(value.shape)) for value in inputs if isinstance(value, Tensor))
    try:
        given = function(*(value.clone() if isinstance(value, Tensor) else value for value in inputs))
    except Exception as error:  # whatever a learner's code raises
        reason = str(error).splitlines()[0] if str(error) else "no message"
        return f"With inputs of shapes {shapes}, your function stops: {type(error).__name__}: {reason}"
    if given is None or given is ...:
        return "No answer yet: your function returns nothing."
    value = tensor(given)
    return f"The answer should be a tensor of numbers; this is a {type(given).__name__}." if value is None else value


def _same(given: Tensor, other: Tensor) -> bool:
    return given.shape == other.shape and torch.allclose(given, other, atol=1e-4)


def _named(given: Tensor, mistakes: dict[str, Tensor]) -> str:
    """The first mistake that gives these values; empty if none does."""
    return next((text for text, other in mistakes.items() if _same(given, other)), "")


def _reshaped(given: Tensor, right: Tensor) -> str:
    """Whether these are the right values (B, K, h, w), in another order of the axes, and then reshaped; or empty."""
    for order in permutations(range(4)):
        if order != (0, 1, 2, 3) and _same(given, right.permute(order).reshape(right.shape)):
            letters = "".join("bkhw"[axis] for axis in order)
            if letters == "bkwh":
                return "Height and width are swapped, and a reshape hides it: rows and columns are mixed up."
            came = "the classes came last" if letters == "bhwk" else f"its axes came in the order {letters}"
            return (
                f"The sum is right, but {came}, and reshape does not move an axis: use permute, or name the axes of "
                "the result in einsum."
            )
    return ""


def _stretched(maps: Tensor) -> Tensor:
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / (high - low)


# Exercise 1


def class_map(function: Callable[[Tensor, Tensor, int], Any]) -> str:
    """features (C, h, w), weight (K, C) and a class -> its map (h, w)."""
    features, weight = _draw(C, H, W), _draw(K, C, seed=5)
    for k in (2, 0):
        given = _answer(function, features, weight, k)
        if isinstance(given, str):
            return given + _fixed_size(given)
        right = torch.einsum("c,chw->hw", weight[k], features)
        products = weight[k][:, None, None] * features
        if _same(given, right):
            continue
        mistakes = {
            "The channels are weighted, but not yet added up": products,
            "These are the maps of all classes; return that of class k": torch.einsum("kc,chw->khw", weight, features),
            "Height and width are swapped": right.T,
            "The map is still one long list; give it back its rows and columns": right.flatten(),
            "There is one axis too many, of size 1; return (h, w)": right[None],
            "There are two axes too many, of size 1; return (h, w)": right[None, None],
            "The cells are added up, too; sum over the channels only": products.sum(),
            "The cells are averaged, too; sum over the channels only": right.mean(),
            "One number per channel is left: you added up the cells, not the channels": products.sum((1, 2)),
            "The values are C times too small: add up the channels, do not average them": right / C,
            "The channels are added up without their weights": features.sum(0),
            "Only the last channel is left: does the loop overwrite the sum?": products[-1],
            "Only the first channel is left: does the function return inside the loop?": products[0],
            "The first channel is in the sum twice: start the sum with 0": right + products[0],
            "The sum starts with a channel that has no weight: start it with 0": right + features[0],
            "The first channel has no weight: start the sum with 0, and weight every channel": (
                right - products[0] + features[0]
            ),
            "Height and width are swapped, and a reshape hides it": right.T.reshape(H, W),
            "The last channel is missing": products[:-1].sum(0),
            "The first channel is missing": products[1:].sum(0),
            "The evidence against the class is gone: no ReLU here, because a map has both signs": right.relu(),
            "The map is stretched to 0..1, so it is no longer in logits": _stretched(right),
        }
        others = {
            f"This is the map of class {j}; the check asked for class {k}": torch.einsum(
                "c,chw->hw", weight[j], features
            )
            for j in range(K)
            if j != k
        }
        if reason := _named(given, others | mistakes):
            return f"Not yet. {reason}{'' if reason.endswith('?') else '.'}"
        if given.shape != right.shape:
            return f"Not yet. The shape is {tuple(given.shape)}; a map of {(H, W)} cells has the shape {(H, W)}."
        return "Not yet. The shape is right, but the values are not: each cell is the sum of weight times feature."
    return f"Right: features {(C, H, W)} become a map {(H, W)}, and every value agrees."


def _fixed_size(stopped: str) -> str:
    """A hint where the sizes of the chapter are written into the function, and the check has others."""
    if "stops" not in stopped:
        return ""
    if re.search(r"\b(7|49)\b", stopped):
        return f". The check has {H} × {W} cells, not 7 × 7: take the sizes from features.shape."
    if "out of bounds" in stopped or "out of range" in stopped or "1280" in stopped:
        return f". The check has {C} channels and {K} classes: take the sizes from the shapes."
    return ""


# Exercise 2


def channels_last(cams: Maps) -> str:
    """features (B, h, w, C) and weight (K, C) -> maps (B, K, h, w)."""
    features, weight = _draw(B, H, W, C), _draw(K, C, seed=5)
    given = _answer(cams, features, weight)
    if isinstance(given, str):
        wanted = ". The axes are features (B, h, w, C) and weight (K, C): in both, the channels come last."
        return given + wanted if "subscript" in given else given
    right = torch.einsum("bhwc,kc->bkhw", features, weight)
    if _same(given, right):
        return f"Right: features {(B, H, W, C)}, weight {(K, C)}, maps {(B, K, H, W)}, and every value agrees."
    if given.shape != right.shape:
        return _wrong_shape(tuple(given.shape))
    mistakes = {
        "The evidence against the classes is gone: no ReLU here, because a map has both signs.": right.relu(),
        "Each map is stretched to 0..1: then it is no longer in logits. Leave the values as they are.": _stretched(
            right
        ),
        "The values are C times too small: sum over the channels, do not average.": right / C,
        "Weights and channels are summed separately: the channel axis needs one and the same letter in both.": (
            torch.einsum("kd,bhwc->bkhw", weight, features)
        ),
        "reshape does not move an axis, it cuts the list into other rows: name the axes in their order, b, h, w, c.": (
            torch.einsum("kc,bchw->bkhw", weight, features.reshape(B, C, H, W))
        ),
        "Every photo in the batch gets the map of the first: use all of features, not features[0].": (
            right[:1].expand_as(right)
        ),
    }
    return (
        _named(given, mistakes)
        or _reshaped(given, right)
        or ("The shape is right, but the values are not: for each cell, sum weight times feature over the channels.")
    )


def _wrong_shape(shape: tuple[int, ...]) -> str:
    known = {
        (K, H, W): "the batch axis is missing: put b after the arrow, and use all photos, not features[0]",
        (B, H, W): "the classes are missing: put k after the arrow",
        (B, H, W, K): "the classes come last: that is the layout of the features; write b, k, h, w after the arrow",
        (B, K, W, H): "height and width are swapped: on a 7 × 7 grid nobody would notice",
        (K, B, H, W): "batch and classes are swapped",
        (B, K): "the cells are summed over, too: every letter that is missing after the arrow is; write h and w",
        (B, K, H): "w is summed over: a letter that is missing after the arrow is",
        (B, K, W): "h is summed over: a letter that is missing after the arrow is",
        (B, K, H * W): "the cells are still one list: give them back their rows and columns",
        (B, C, H, W): "these are the channels in another order: they are not yet weighted and summed",
    }
    reason = known.get(shape, "name the axes of your result one by one: which one is extra, or missing?")
    end = "" if reason.endswith("?") else "."
    return f"The shape is {shape}, not (B, K, h, w) = {(B, K, H, W)}: {reason}{end}"


# Exercise 3


def cell_logits(function: Callable[[Tensor, Tensor, Tensor], Any]) -> str:
    """features (B, C, h, w), weight (K, C) and bias (K,) -> the logits of every cell (B, K, h, w)."""
    features, weight, bias = _draw(B, C, H, W), _draw(K, C, seed=5), _draw(K, seed=6) + 3
    given = _answer(function, features, weight, bias)
    if isinstance(given, str):
        return given + _conv_hint(given)
    maps = torch.einsum("kc,bchw->bkhw", weight, features)
    right = maps + bias[:, None, None]
    if _same(given, right):
        return f"Right: a classifier with {K} logits in each of the {H} × {W} cells of {B} photos."
    mistakes = {
        "These are the maps: the bias is missing": maps,
        "The bias is subtracted; add it": maps - bias[:, None, None],
        "The bias is added twice": maps + 2 * bias[:, None, None],
        "These are the logits of the whole photo: you took the mean over the cells": right.mean((2, 3)),
        "You have already taken the mean over the cells": right.mean((2, 3), keepdim=True),
        "These are probabilities: return the logits, with no softmax": right.softmax(1),
        "The evidence against the classes is gone: no ReLU here": right.relu(),
        "These are the logits of the first photo only; use all of features": right[0],
        "The first photo only: the batch has two": right[:1],
        "Height and width are swapped": right.transpose(2, 3),
        "The classes come last; write (B, K, h, w)": right.movedim(1, -1),
        "The cells are still one list": right.flatten(2),
    }
    if reason := _named(given, mistakes):
        return f"Not yet. {reason}."
    if reason := _reshaped(given, right):
        return f"Not yet. {reason}"
    if given.shape != right.shape:
        return f"Not yet. The shape is {tuple(given.shape)}, not (B, K, h, w) = {(B, K, H, W)}."
    return (
        "Not yet. The shape is right, but the values are not: sum weight times feature over the channels, add the bias."
    )


def _conv_hint(stopped: str) -> str:
    """A hint for what F.conv2d, or the addition of the bias, does not accept."""
    if f"weight of size [{B}, {C}, {H}, {W}]" in stopped:
        return ". The features are where the kernel belongs: they come first, then the kernel, then the bias."
    if re.search(r"\b(1280|1000)\b", stopped):
        return f". The check has {C} channels and {K} classes: take the sizes from the shapes."
    if "invalid combination" in stopped:
        return ". F.conv2d takes features, kernel and bias, in this order."
    if "bias" in stopped:
        return ". The bias is one number for each class, (K,); pass it after the kernel."
    if re.search(r"conv2d|convolution|kernel|weight|channels", stopped):
        return ". The kernel has four axes: (out, in, height, width)."
    if re.search(rf"\(({H}|{W})\) must match the size of tensor b \({K}\)", stopped):
        return ". To add the bias yourself, give it the axes of the maps: bias[:, None, None]."
    return ""


# Exercise 4


def _einsum(features: Tensor, weight: Tensor) -> Tensor:
    return torch.einsum("kc,bchw->bkhw", weight, features)


def _last_channel_first(features: Tensor, weight: Tensor) -> Tensor:
    return sum(weight[:, c, None, None] * features[:, c, None] for c in reversed(range(features.shape[1])))


RIGHT: dict[str, Maps] = {
    "einsum": _einsum,
    "a 1×1 convolution": lambda f, w: F.conv2d(f, w[:, :, None, None]),
    "a loop that starts with the last channel": _last_channel_first,
}
WRONG: dict[str, tuple[Maps, str]] = {
    "one that sums weights and channels separately": (
        lambda f, w: torch.einsum("kc,bdhw->bkhw", w, f),
        "Compare values, not only shapes, and use more than one channel.",
    ),
    "one that averages the channels": (
        lambda f, w: _einsum(f, w) / f.shape[1],
        "Compare values, not only shapes, and use more than one channel.",
    ),
    "one that puts the mean of the map into every cell": (
        lambda f, w: _einsum(f, w).mean((2, 3), keepdim=True).expand(-1, -1, *f.shape[2:]).clone(),
        "Compare every cell, not only means, and use features that differ from cell to cell.",
    ),
    "one that moves each cell to the next place": (
        lambda f, w: _einsum(f, w).flatten(2).roll(1, 2).reshape(len(f), len(w), *f.shape[2:]),
        "Compare every cell, not only means, and use features that differ from cell to cell.",
    ),
    "one that mirrors the maps": (
        lambda f, w: _einsum(f, w).flip(3),
        "Compare every cell, and use features that are not symmetric.",
    ),
    "one that swaps height and width": (
        lambda f, w: torch.einsum("kc,bchw->bkwh", w, f),
        "Try a height and a width that differ, or values that do.",
    ),
    "one that swaps height and width and hides it with a reshape": (
        lambda f, w: torch.einsum("kc,bchw->bkwh", w, f).reshape(len(f), len(w), *f.shape[2:]),
        "Compare every cell, not only the shape.",
    ),
    "one with a ReLU": (
        lambda f, w: _einsum(f, w).relu(),
        "Use features or weights of both signs, so that some evidence is negative.",
    ),
    "one that gives every photo the maps of the first": (
        lambda f, w: _einsum(f, w)[:1].expand(len(f), -1, -1, -1).clone(),
        "Try more than one photo.",
    ),
    "one that gives the classes in reverse order": (
        lambda f, w: _einsum(f, w).flip(1),
        "Try more than one class, and compare each.",
    ),
    "one that is off by about 0.1 in every cell": (
        lambda f, w: _einsum(f, w) + 0.1 * _draw(len(f), len(w), *f.shape[2:]),
        "Choose a smaller tolerance: 1e-4 is enough for rounding.",
    ),
    "one that is wrong in the last class only": (
        lambda f, w: _einsum(f, w) + (torch.arange(len(w)) == len(w) - 1)[:, None, None],
        "Compare the maps of all classes.",
    ),
    "one that fills the last map only": (
        lambda f, w: F.pad(_einsum(f, w)[-1:, -1:], (0, 0, 0, 0, len(w) - 1, 0, len(f) - 1, 0)),
        "Compare all maps, not only the last one.",
    ),
    "one that is wrong in the last cell only": (
        lambda f, w: _einsum(f, w) + F.pad(torch.ones(1, 1), (f.shape[3] - 1, 0, f.shape[2] - 1, 0)),
        "Compare every cell.",
    ),
}


TRIES = 3  # of each right program: rounding differs from input to input


def _verdict(passes: Callable[[Maps], Any], program: Maps) -> tuple[bool | str | None, Exception | None]:
    """What a learner's test says of a program: True, False (also by an exception), None, or why it is none of them."""
    try:
        given = passes(program)
    except Exception as error:  # an assert of the test, or shapes that do not fit
        return False, error
    if given is None or given is ...:
        return None, None
    values = array(given)
    if values is None or values.size == 0:
        return f"Your test returns {_short(given)}, a {type(given).__name__}; return True or False.", None
    if values.size > 1:
        return f"Your test returns {values.size} values; return one answer, for example with .all().", None
    value = values.item()
    if value in (0, 1):  # False and True, too
        return bool(value), None
    return f"Your test returns the number {value:.4g}; return True or False: compare it with a tolerance.", None


def _short(given: Any) -> str:
    text = repr(given)
    return text if len(text) <= 20 else text[:20] + "…"


def notices(passes: Callable[[Maps], Any]) -> str:
    """A test of programs (features, weight) -> maps: it must accept the right ones and refuse the wrong ones."""
    answers = {name: _verdict(passes, program) for name, (program, _) in WRONG.items()}
    wrong = {name: answer for name, (answer, _) in answers.items()}
    errors = [error for _, error in answers.values() if error is not None]
    # A test of bare asserts returns None for a right program. One that forgets its return does so, too, and may still
    # stop where shapes do not fit.
    asserts = any(isinstance(error, AssertionError) for error in errors) or len(errors) > len(WRONG) / 2
    for name, program in RIGHT.items():
        for _ in range(TRIES):
            answer, error = _verdict(passes, program)
            if error is not None:
                reason = str(error).splitlines()[0] if str(error) else "no message"
                return f"Your test stops at a right program, {name}: {type(error).__name__}: {reason}{_refused(error)}"
            if isinstance(answer, str):
                return answer
            if answer is False:
                return f"Your test refuses a right program, {name}. {TOLERANCE}"
            if answer is None and not asserts:
                if all(value is None or answers[key][1] for key, value in wrong.items()):
                    return "No answer yet: return True where the maps are right, otherwise False."
                return f"Your test says nothing about a right program, {name}: return True there, not None."
    if odd := [answer for answer in wrong.values() if isinstance(answer, str)]:
        return odd[0]
    missed = [name for name, answer in wrong.items() if answer is not False]
    if not missed:
        return f"Right: your test accepts {len(RIGHT)} right programs and refuses {len(WRONG)} wrong ones."
    if not asserts and (silent := [name for name in missed if wrong[name] is None]):
        return f"Your test says nothing about a wrong program, {silent[0]}: return False there, not None."
    return (
        f"Your test notices {len(WRONG) - len(missed)} of {len(WRONG)} wrong programs. It accepts {missed[0]}. "
        f"{WRONG[missed[0]][1]}"
    )


TOLERANCE = (
    "Programs add in different orders, so compare with a tolerance, such as atol=1e-4: the default of "
    "torch.allclose, 1e-8, is too small near zero. If you already do, look for a mistake in the maps that you expect."
)


def _refused(error: Exception) -> str:
    """What to add where an assert refuses a right program."""
    return f". {TOLERANCE}" if isinstance(error, AssertionError) else ""
