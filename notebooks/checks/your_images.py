"""Checks of chapter 11: each looks at an answer and says what is right or which mistake it shows."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from checks import answers

# Exercise 1: the window


def window(function: Callable[[np.ndarray, int, int], Any]) -> str:
    """values (H, W) uint16 and a window -> (H, W) uint8: black at low and below, white at high and above."""
    if message := answers.not_a_function(function, "return a picture with values from 0 to 255"):
        return message
    values = np.array([[100, 400, 500, 501], [1000, 1499, 2000, 2300], [2499, 2500, 2600, 4000]], np.uint16)
    low, high = 500, 2500
    given = values.copy()
    try:
        with np.errstate(all="ignore"):
            answer = function(given, low, high)
    except Exception as e:  # whatever a learner's code raises
        return f"With values (3, 4) uint16 and the window 500 to 2500 it raises: {e}"
    if answer is None or answer is ...:
        return "No answer yet: return a picture with values from 0 to 255."
    if not np.array_equal(given, values):
        return "It changes the picture that it was given. Make a new array."
    found = answers.array(answer)
    if found is None or found.shape != values.shape:
        got = type(answer).__name__ if found is None else found.shape
        return f"The picture is (3, 4), and so is the answer; this is {got}."
    v = values.astype(float)
    share = (v - low) / (high - low)
    right = 255 * share.clip(0, 1)
    if _near(found, right, 1):
        wrapped = "" if _dtype(answer) == "uint8" else " (For Pillow, make it uint8.)"
        return f"Right: black below 500, white above 2500, and nothing wraps around.{wrapped}"
    around = ((values - np.uint16(low)).astype(float) / (high - low)).clip(0, 1) * 255
    large = (values.clip(low, high) - np.uint16(low)) * np.uint16(255) / (high - low)
    unclipped = values - np.uint16(low)
    too_large = "255 times a value is too large for uint16, so it wraps around. Convert to float first"
    mistakes = (
        (large, too_large),
        ((unclipped * np.uint16(255) / (high - low)).clip(0, 255), too_large),
        (255 * (unclipped.astype(float) / (high - low)) % 256, "in uint16, 400 - 500 is 65436, and large values wrap "
         "around in uint8. Convert to float first, and clip"),
        (255 * ((v.clip(low, high) - low) // (high - low)), "`//` leaves only 0 and 1. Divide with `/`"),
        (around, "below `low` the picture is white: in uint16, 400 - 500 is 65436. Convert to float first"),
        (((255 * share).astype(int) % 256), "values outside the window wrap around in uint8, so black becomes white. "
         "Clip before you convert"),
        (255 * share, "some values lie outside 0 to 255. Clip them"),
        (share.clip(0, 1), "these are values from 0 to 1. A picture in uint8 goes to 255"),
        (share, "these are shares of the window, not clipped, and not yet multiplied by 255"),
        ((share.clip(0, 1)).astype(int), "nearly all is black: multiply by 255 before you convert to uint8"),
        (255 * (v / high).clip(0, 1), "`low` must become black. Subtract it, and divide by the width of the window"),
        (255 * ((v - low) / high).clip(0, 1), "`high` must become white: divide by high - low"),
        (255 * (v / (high - low)).clip(0, 1), "subtract `low` before you divide"),
        (v.clip(low, high), "the values are clipped, but not yet stretched to 0 to 255"),
        (v.clip(low, high) / high * 255, "`low` must become black. Subtract it, and divide by the width of the window"),
        (255 * v / 65535, "this is the type's range. The window is another one"),
        (255 * v / 4095, "this is the detector's whole range. The window is narrower"),
        (255 * (v - v.min()) / (v.max() - v.min()), "this is the picture's own range, so each picture would have its "
         "own scale"),
        (255 - right, "black and white are exchanged"),
    )  # fmt: skip
    for wrong, message in mistakes:
        if _near(found, wrong, 1 if np.abs(wrong).max() > 2 else 0.01):
            return f"Not yet: {message}."
    at = np.unravel_index(np.abs(found - right).argmax(), right.shape)
    return f"Not yet: {values[at]} should become {right[at]:.0f}; you have {found[at]:g}."


# Exercise 2: the share that is seen

SHAPES = ((300, 451), (451, 300), (500, 500), (240, 720))  # height, width: landscape, portrait, square, a strip
TOLERANCE = 0.01  # rounding to whole pixels is no mistake


def share_seen(function: Callable[[int, int], Any]) -> str:
    """The share of a photo's area inside the centre crop, between 0 and 1."""
    if message := answers.not_a_function(function, "return a number between 0 and 1"):
        return message
    found = []
    for height, width in SHAPES:
        try:
            answer = function(height, width)
        except Exception as e:
            return f"For a photo {width} wide and {height} high it raises: {e}"
        if answer is None or answer is ...:
            return "No answer yet: share_seen returns None. Return a number between 0 and 1."
        value = answers.array(answer)
        if value is None or value.size != 1:
            return f"The answer is one number; this is {answer!r}."
        found.append(float(value.reshape(())))
    if _fits(found, _right):
        cat, strip = (round(100 * _right(*shape)) for shape in (SHAPES[0], SHAPES[3]))
        return f"Right: of the cat's photo the network sees {cat} %, of a strip of 3 to 1 {strip} %."
    for wrong, message in MISTAKES:
        if _fits(found, wrong):
            return message
    n = next(n for n, shape in enumerate(SHAPES) if not abs(found[n] - _right(*shape)) <= TOLERANCE)
    height, width = SHAPES[n]
    expected = _right(height, width)
    return f"Not yet: of a photo {width} wide and {height} high it sees {expected:.3f}; you say {found[n]:.3f}."


def _right(height: int, width: int) -> float:
    return (224 / 256) ** 2 * min(height, width) / max(height, width)


def _fits(found: list[float], expected: Callable[[int, int], float]) -> bool:
    return all(abs(a - expected(*shape)) <= TOLERANCE * max(1, a) for a, shape in zip(found, SHAPES, strict=True))


MISTAKES: tuple[tuple[Callable[[int, int], float], str], ...] = (
    (lambda h, w: 100 * _right(h, w), "Those are percentages. Return the share, between 0 and 1."),
    (
        lambda h, w: min(h, w) / max(h, w),
        "That is the largest square of the photo. The crop is smaller still: of 256 pixels, 224 are kept, in both "
        "directions.",
    ),
    (
        lambda h, w: 224 / 256 * min(h, w) / max(h, w),
        "Nearly: 224 of 256 pixels are kept in both directions, and an area has two. Square the 224 / 256.",
    ),
    (
        lambda h, w: 224 * 224 / (h * w),
        "You forgot the resize: 224 × 224 counts pixels of the resized photo. Divide by the area of the photo after "
        "its shorter side has become 256.",
    ),
    (lambda h, w: (224 / 256) ** 2 * w / h, "That is right for portraits only: divide the shorter side by the longer."),
    (
        lambda h, w: (224 / 256) ** 2 * h / w,
        "That is right for landscapes only: divide the shorter side by the longer.",
    ),
    (lambda h, w: 1 - _right(h, w), "That is the share that is lost. Return the share that is seen."),
    (lambda h, w: 1 / _right(h, w), "Upside down: that is how many times larger the photo is than what is seen."),
    (lambda h, w: (224 / 256) ** 2, "That holds for a square photo. Of others, the longer side loses more."),
)


# Exercise 3: one logit from two


def one_logit(function: Callable[[torch.Tensor, torch.Tensor], Any]) -> str:
    """weight (2, C), bias (2,) of [no, yes] -> weight (1, C), bias (1,), whose sigmoid is the probability of yes."""
    if message := answers.not_a_function(function, "return a weight (1, C) and a bias (1,)"):
        return message
    random = torch.Generator().manual_seed(11)
    weight, bias = torch.randn(2, 5, generator=random), torch.randn(2, generator=random)
    given = weight.clone(), bias.clone()
    try:
        answer = function(*given)
    except Exception as e:
        return f"With a weight (2, 5) and a bias (2,) it raises: {e}"
    if answer is None or answer is ...:
        return "No answer yet: return a weight (1, C) and a bias (1,)."
    if not (torch.equal(given[0], weight) and torch.equal(given[1], bias)):
        return "It changes the weights that it was given. Make new tensors."
    if not isinstance(answer, Sequence) or len(answer) != 2:
        return f"Return two tensors, the weight (1, C) and the bias (1,); this is {type(answer).__name__}."
    w, b = (answers.tensor(part) for part in answer)
    if w is None or b is None or w.numel() != weight.shape[1] or b.numel() != 1:
        got = ["no numbers" if part is None else str(tuple(part.shape)) for part in (w, b)]
        return f"One logit has a weight (1, 5) and a bias (1,); these are {got[0]} and {got[1]}."
    w, b = w.flatten(), b.flatten()
    right = {"weight": (weight[1] - weight[0], w), "bias": (bias[1:] - bias[:1], b)}
    if all(_near(mine, yours, 1e-4) for mine, yours in right.values()):
        return "Right: softmax of two logits is the sigmoid of their difference, bias included."
    if _near(w, weight[1] - weight[0], 1e-4):
        part = {
            "it is missing": torch.zeros(1),
            "you have that of yes alone": bias[1:],
            "you have that of no alone": bias[:1],
            "its sign is wrong": bias[:1] - bias[1:],
            "you have the sum": bias.sum()[None],
        }
        why = next((text for text, wrong in part.items() if _near(b, wrong, 1e-4)), "it is not yes minus no")
        return f"Not yet: the weight is right. The bias is a difference, too: {why}."
    rows = (
        (weight[0] - weight[1], "this is the probability of no: subtract the first row from the second"),
        (weight[1], "this is the row of yes alone. What counts is how far yes is ahead of no"),
        (weight[0], "this is the row of no alone. What counts is how far yes is ahead of no"),
        (weight.sum(0), "you added the rows. What both have in common must cancel"),
        (weight.mean(0), "you averaged the rows. What both have in common must cancel"),
        ((weight[1] - weight[0]) / 2, "half the difference gives a probability nearer to one half. Do not divide"),
        (weight.softmax(0)[1], "softmax comes after the sum over the features. Weights are subtracted as they are"),
        (weight.sigmoid()[1], "sigmoid comes after the sum over the features. Weights are subtracted as they are"),
    )
    for wrong, message in rows:
        if _near(w, wrong, 1e-4):
            return f"Not yet: {message}."
    return "Not yet: for some photos, your sigmoid is not the softmax's probability of yes."


# What the checks share


def _near(one: Any, other: Any, tolerance: float) -> bool:
    difference = np.abs(np.asarray(one, float) - np.asarray(other, float))
    return bool((difference <= tolerance).all())  # NaN is never near


def _dtype(answer: Any) -> str:
    return str(getattr(answer, "dtype", "")).removeprefix("torch.")
