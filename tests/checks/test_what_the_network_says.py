"""Chapter 01's checks name the mistake, take any right form, and its folded solutions pass."""

from functools import cache

import numpy as np
import pytest
import torch
from checks import what_the_network_says as check
from PIL import Image

import camlib
from tests.checks.solutions import solutions

BICUBIC = Image.Resampling.BICUBIC


def small(image, short=256, how=BICUBIC):
    return image.resize([short * side // min(image.size) for side in image.size], how)


def middle(image):
    left, top = (round((side - 224) / 2) for side in image.size)
    return np.asarray(image.crop((left, top, left + 224, top + 224)))


def scaled(window):
    return torch.from_numpy(window / 127.5 - 1).float().permute(2, 0, 1)[None]


def right(image):
    return scaled(middle(small(image)))


def corner(image):
    return np.asarray(small(image).crop((0, 0, 224, 224)))


def swapped(image):
    reduced = small(image)
    left, top = (round((side - 224) / 2) for side in reduced.size)
    return np.asarray(reduced.crop((top, left, top + 224, left + 224)))


def by_factor(image, rounded):
    factor = 256 / min(image.size)
    return image.resize([rounded(factor * side) for side in image.size], BICUBIC)


def one_side(image, axis):
    return image.resize([256 * side // image.size[axis] for side in image.size], BICUBIC)


def early(image):
    left, top = ((side - 224) // 2 for side in image.size)
    return np.asarray(image.crop((left, top, left + 224, top + 224)))


MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda i: None, "No answer yet"),
        (lambda i: ..., "No answer yet"),
        (right, "Right"),
        (lambda i: right(i).double(), "Right"),
        (lambda i: right(i).numpy(), "Right"),
        (lambda i: list(right(i)), "Right"),
        (lambda i: right(i).requires_grad_(), "Right"),
        (lambda i: right(i)[0], "batch axis"),
        (lambda i: right(i).permute(0, 2, 3, 1), "permute"),
        (lambda i: middle(small(i)), "permute"),
        (lambda i: scaled(np.asarray(small(i))), "is the crop missing"),
        (lambda i: torch.zeros(4), "the network takes"),
        (lambda i: "input", "returns a str"),
        (lambda i: scaled(corner(i)), "top left corner"),
        (lambda i: scaled(swapped(i)), "left and top"),
        (lambda i: scaled(middle(i)), "not resized"),
        (lambda i: scaled(middle(small(i, 224))), "the recipe says 256"),
        (lambda i: scaled(np.asarray(i.resize((224, 224), BICUBIC))), "squeezed into the square"),
        (lambda i: scaled(middle(i.resize((256, 256), BICUBIC))), "squeezed to 256"),
        (lambda i: scaled(middle(i.resize(small(i).size[::-1], BICUBIC))), "width and height are swapped"),
        (lambda i: scaled(middle(small(i, how=Image.Resampling.BILINEAR))), "bilinear"),
        (lambda i: 127.5 * (right(i) + 1), "0 to 255"),
        (lambda i: (127.5 * (right(i) + 1)).round().to(torch.uint8), "0 to 255"),
        (lambda i: (right(i) + 1) / 2, "0 to 1"),
        (lambda i: (right(i) - 1) / 2, "multiply by 2"),
        (lambda i: scaled(127.5 * ((middle(small(i)) / 255 - MEAN) / STD + 1)), "ImageNet"),
        (lambda i: right(i).flip(1), "BGR"),
        (lambda i: right(i).numpy()[:, ::-1], "BGR"),
        (lambda i: [], "the shape is (0,); the network takes"),
        (small, "returns a Image"),
        (lambda i: right(i).permute(0, 2, 3, 1).reshape(1, 3, 224, 224), "use permute"),
        (lambda i: right(i).transpose(2, 3), "rows and columns"),
        (lambda i: (scaled(corner(i)) + 1) / 2, "top left corner; take the middle. And the values go from 0 to 1"),
        (lambda i: right(i) * 0.9, "Go through the four steps"),
        (lambda i: i.thumbnale(), "prepare raises"),
        (None, "No answer yet"),
        (torch.zeros(1, 3, 224, 224), "Pass the function itself, without calling it"),
        (lambda i: scaled(middle(by_factor(i, int))), "crocodile.webp: the shorter side becomes 255"),
        (lambda i: scaled(middle(by_factor(i, round))), "moose.webp: the longer side is rounded to the nearest"),
        (lambda i: scaled(early(small(i))), "moose.webp: the crop starts a pixel early"),
        (lambda i: scaled(middle(one_side(i, 0))), "the width becomes 256"),
        (lambda i: scaled(middle(one_side(i, 1))), "the height becomes 256"),
    ],
)
def test_prepare(answer, says):
    assert says in check.prepare(answer)


def naive(z):
    return z.exp() / z.exp().sum()


def stable(z):
    return torch.softmax(z, 0)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda z: None, "No answer yet"),
        (lambda z: ..., "No answer yet"),
        (stable, "Right: positive"),
        (lambda z: stable(z).tolist(), "Right: positive"),
        (lambda z: list(stable(z)), "Right: positive"),
        (lambda z: stable(z).double().numpy(), "Right: positive"),
        (lambda z: (z - z.logsumexp(0)).exp(), "Right: positive"),
        (naive, "1000 higher"),
        (lambda z: naive(z - z.mean()), "not safe: if they are 100 times as large"),
        (lambda z: naive(z.double() - z.double().mean()), "not safe: if they are 300 times as large"),
        (lambda z: naive(z - z.min()), "100 times as large"),
        (lambda z: (z.exp() + 1e-12) / (z.exp() + 1e-12).sum() if z.max() < 500 else stable(z), "1000 lower"),
        (lambda z: z.log_softmax(0), "logarithms"),
        (lambda z: z / z.sum(), "exponential of each first"),
        (torch.exp, "divide each by their sum"),
        (lambda z: (z - z.max()).exp(), "not divided by their sum"),
        (torch.sigmoid, "sigmoid"),
        (lambda z: stable(stable(z)), "softmax twice"),
        (lambda z: torch.full_like(z, 1 / len(z)), "sum to 1.000"),
        (lambda z: stable(z)[:5], "20 logits give 20"),
        (lambda z: "half", "returns a str"),
        (lambda z: z.softmx(0), "softmax raises"),
        (torch.ones(20) / 20, "Pass the function itself"),
        (None, "No answer yet"),
    ],
)
def test_softmax(answer, says):
    assert says in check.softmax(answer)


@pytest.fixture(scope="module")
def portrait(clf):
    return camlib.explain(clf, "data/photos/grace_hopper.jpg")


@pytest.fixture(scope="module")
def crocodile(clf):
    return camlib.explain(clf, "data/photos/crocodile.webp")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda z, names: None, "No answer yet"),
        (lambda z, names: ..., "No answer yet"),
        (lambda z, names: z.argsort(descending=True)[:5], "Right: academic gown"),
        (lambda z, names: z.topk(5).indices, "Right"),
        (lambda z, names: tuple(z.topk(5).indices), "Right"),
        (lambda z, names: z.topk(5).indices.tolist(), "Right"),
        (lambda z, names: z.numpy().argsort()[::-1][:5], "Right"),
        (lambda z, names: list(z.numpy().argsort()[::-1][:5]), "Right"),
        (lambda z, names: z.topk(5).indices.double(), "Right"),
        (lambda z, names: [names[k] for k in z.topk(5).indices], "Right"),
        (lambda z, names: z.argsort()[-5:], "must come first"),
        (lambda z, names: z.argsort()[:5], "least probable"),
        (lambda z, names: z.topk(5).values, "Those are values"),
        (lambda z, names: z.topk(5), "take .indices"),
        (lambda z, names: z.sort(descending=True), "take .indices"),
        (lambda z, names: set(z.topk(5).indices.tolist()), "A set has no order"),
        (lambda z, names: z.topk(3).indices, "you gave 3"),
        (lambda z, names: z.argmax(), "Five classes"),
        (lambda z, names: 5, "Five classes are needed"),
        (lambda z, names: torch.tensor([0, 1, 2, 3, int(z.argmax())]), "1 of your five classes"),
        (lambda z, names: ["academic gow"] * 5, "Did you mean"),
        (lambda z, names: [1, 2, 3, 4, 1000], "1000"),
    ],
)
def test_top_five(portrait, answer, says):
    assert says in check.top_five(portrait, answer(portrait.logits, portrait.classifier.labels))


def test_top_five_takes_predictions(portrait):
    assert check.top_five(portrait, portrait.top(5)).startswith("Right: academic gown")
    assert "you gave 4" in check.top_five(portrait, portrait.top(4))


@pytest.fixture(scope="module", autouse=True)
def each_move_once():
    """What the network answers after a move is asked for once, and not for each answer that is checked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check, "_answer", cache(check._answer))
        yield


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, "No answer yet"),
        (..., "No answer yet"),
        (24, "Right: 24 pixels to the right, and African crocodile becomes Komodo dragon"),
        (24.0, "Right"),
        (np.int64(24), "Right"),
        (torch.tensor(24), "Right"),
        ([24], "Right"),
        (-24, "Try the other side"),
        (29, "a smaller move"),
        (171, "where the window then starts"),
        (0, "has not moved"),
        (2, "still African crocodile"),
        (2.5, "whole pixels"),
        (200, "leave the photo"),
        ("right", "one number of pixels"),
        ((1, 2), "one number of pixels"),
    ],
)
def test_smallest_move(crocodile, answer, says):
    assert says in check.smallest_move(crocodile, answer)


def test_the_folded_solutions(clf, portrait, crocodile, capsys):
    given = {"check": check, "clf": clf, "camlib": camlib, "crop": portrait, "logits": portrait.logits}
    given |= {"torch": torch, "Image": Image, "crocodile": crocodile}
    for code, says in zip(
        solutions("01_what_the_network_says"),
        ("three photos", "safe for large logits", "Right: academic gown", "Right: 24 pixels"),
        strict=True,
    ):
        exec(code, given)
        assert says in capsys.readouterr().out
