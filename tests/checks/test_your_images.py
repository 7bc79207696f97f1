"""Chapter 11's checks name the mistake, accept every right form, and the folded solutions pass."""

import numpy as np
import pytest
import torch
from checks import your_images as check

from tests.checks.solutions import solutions


def stretched(values, low, high):
    return 255 * (values.astype(float) - low) / (high - low)


def changes_its_input(values, low, high):
    np.clip(values, low, high, out=values)
    return stretched(values, low, high).astype(np.uint8)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, "No answer yet"),
        (lambda v, low, high: None, "No answer yet"),
        (lambda v, low, high: ..., "No answer yet"),
        (lambda v, low: v, "it raises: "),
        (lambda v, low, high: "black", "this is str"),
        (lambda v, low, high: v[0], "this is (4,)"),
        (changes_its_input, "changes the picture that it was given"),
        (lambda v, low, high: stretched(v, low, high).clip(0, 255).round().astype(np.uint8), "around."),
        (lambda v, low, high: stretched(v, low, high).clip(0, 255).astype(np.uint8), "Right: "),
        (lambda v, low, high: stretched(v.clip(low, high), low, high).astype(np.uint8), "Right: "),
        (lambda v, low, high: torch.tensor(stretched(v, low, high)).clamp(0, 255).byte(), "Right: "),
        (lambda v, low, high: stretched(v, low, high).clip(0, 255).tolist(), "make it uint8"),
        (lambda v, low, high: ((v.clip(low, high) - low) * (255 / (high - low))).astype(np.uint8), "Right: "),
        (lambda v, low, high: (255 * ((v - np.uint16(low)) / (high - low)).clip(0, 1)).astype(np.uint8), "is 65436"),
        (lambda v, low, high: 255 * (v.clip(low, high) - low) // (high - low), "too large for uint16"),
        (lambda v, low, high: np.clip(255 * (v - low) / (high - low), 0, 255).astype(np.uint8), "large for uint16"),
        (lambda v, low, high: (255 * ((v - low) / (high - low))).astype(int).astype(np.uint8), "first, and clip"),
        (lambda v, low, high: ((v.clip(low, high) - low) // (high - low) * 255).astype(np.uint8), "leaves only 0"),
        (lambda v, low, high: stretched(v, low, high).astype(int).astype(np.uint8), "wrap around in uint8, so"),
        (stretched, "outside 0 to 255"),
        (lambda v, low, high: (stretched(v, low, high) / 255).clip(0, 1), "from 0 to 1"),
        (lambda v, low, high: stretched(v, low, high) / 255, "shares of the window, not clipped"),
        (lambda v, low, high: (stretched(v, low, high) / 255).clip(0, 1).astype(np.uint8), "nearly all is black"),
        (lambda v, low, high: (255 * (v / high).clip(0, 1)).astype(np.uint8), "`low` must become black"),
        (lambda v, low, high: 255.0 * v.clip(low, high) / high, "`low` must become black"),
        (lambda v, low, high: 255 * ((v.astype(float) - low) / high).clip(0, 1), "`high` must become white"),
        (lambda v, low, high: 255 * (v / (high - low)).clip(0, 1), "subtract `low`"),
        (lambda v, low, high: v.clip(low, high), "not yet stretched"),
        (lambda v, low, high: v / 257, "type's range"),
        (lambda v, low, high: 255.0 * v / 4095, "detector's whole range"),
        (lambda v, low, high: 255.0 * (v - v.min()) / (v.max() - v.min()), "picture's own range"),
        (lambda v, low, high: 255 - stretched(v, low, high).clip(0, 255), "exchanged"),
        (lambda v, low, high: np.full(v.shape, np.nan), "you have nan"),
        (lambda v, low, high: np.full(v.shape, 7), "should become"),
    ],
)
def test_window(answer, says):
    assert says in check.window(answer)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (0.5, "without calling it"),
        (lambda h, w: None, "No answer yet"),
        (lambda h: 1, "it raises: "),
        (lambda h, w: "half", "one number"),
        (lambda h, w: (0.5, 0.5), "one number"),
        (lambda h, w: float("nan"), "you say nan"),
        (lambda h, w: 0.765625 * min(h, w) / max(h, w), "Right: "),
        (lambda h, w: torch.tensor([0.765625 * min(h, w) / max(h, w)]), "Right: "),
        (lambda h, w: 224 * 224 / (round(h * 256 / min(h, w)) * round(w * 256 / min(h, w))), "Right: "),
        (lambda h, w: 76.5625 * min(h, w) / max(h, w), "percentages"),
        (lambda h, w: min(h, w) / max(h, w), "largest square"),
        (lambda h, w: 0.875 * min(h, w) / max(h, w), "Square the 224 / 256"),
        (lambda h, w: 224 * 224 / (h * w), "forgot the resize"),
        (lambda h, w: 0.765625 * w / h, "portraits only"),
        (lambda h, w: 0.765625 * h / w, "landscapes only"),
        (lambda h, w: 1 - 0.765625 * min(h, w) / max(h, w), "share that is lost"),
        (lambda h, w: max(h, w) / min(h, w) / 0.765625, "Upside down"),
        (lambda h, w: 0.765625, "square photo"),
        (lambda h, w: 0.4, "Not yet"),
    ],
)
def test_share_seen(answer, says):
    assert says in check.share_seen(answer)


def changes_the_weight(weight, bias):
    weight[1] -= weight[0]
    return weight[1:], bias[1:] - bias[:1]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, "No answer yet"),
        (lambda w, b: None, "No answer yet"),
        (lambda w: w, "it raises: "),
        (changes_the_weight, "changes the weights"),
        (lambda w, b: w[1] - w[0], "this is Tensor"),
        (lambda w, b: (w, b), "these are (2, 5) and (2,)"),
        (lambda w, b: ("a", b[1]), "no numbers"),
        (lambda w, b: (w[1:] - w[:1], b[1:] - b[:1]), "Right: "),
        (lambda w, b: [w[1] - w[0], b[1] - b[0]], "Right: "),
        (lambda w, b: (np.diff(w.numpy(), axis=0), float(b[1] - b[0])), "Right: "),
        (lambda w, b: ((w[1:] - w[:1]).double().tolist(), (b[1:] - b[:1]).tolist()), "Right: "),
        (lambda w, b: (w.diff(dim=0), torch.zeros(1)), "it is missing"),
        (lambda w, b: (w.diff(dim=0), b[1:]), "that of yes alone"),
        (lambda w, b: (w.diff(dim=0), b[:1]), "that of no alone"),
        (lambda w, b: (w.diff(dim=0), -b.diff()), "its sign is wrong"),
        (lambda w, b: (w.diff(dim=0), b.sum()), "you have the sum"),
        (lambda w, b: (w.diff(dim=0), b[1:] + 3), "not yes minus no"),
        (lambda w, b: (-w.diff(dim=0), -b.diff()), "probability of no"),
        (lambda w, b: (w[1:], b[1:]), "row of yes alone"),
        (lambda w, b: (w[:1], b[:1]), "row of no alone"),
        (lambda w, b: (w.sum(0), b.sum()), "added the rows"),
        (lambda w, b: (w.mean(0), b.mean()), "averaged the rows"),
        (lambda w, b: (w.diff(dim=0) / 2, b.diff() / 2), "half the difference"),
        (lambda w, b: (w.softmax(0)[1], b.softmax(0)[1]), "softmax comes after"),
        (lambda w, b: (w.sigmoid()[1], b.sigmoid()[1]), "sigmoid comes after"),
        (lambda w, b: (w[1] * w[0], b[1:]), "not the softmax's probability"),
    ],
)
def test_one_logit(answer, says):
    assert says in check.one_logit(answer)


def test_solutions_pass(capsys):
    names = {"np": np, "torch": torch, "check": check}
    for code in solutions("11_your_images"):
        exec(code, names)
    assert capsys.readouterr().out.count("Right: ") == 3
