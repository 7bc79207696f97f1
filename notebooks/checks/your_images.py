"""Checks of chapter 11: each looks at an answer and says what is right or which mistake it shows."""

from collections.abc import Callable
from typing import Any

SHAPES = ((300, 451), (451, 300), (500, 500), (240, 720))  # height, width: landscape, portrait, square, a strip
TOLERANCE = 0.01  # rounding to whole pixels is no mistake


def share_seen(function: Callable[[int, int], Any]) -> str:
    """The exercise: the share of a photo's area inside the centre crop, between 0 and 1."""
    answers = []
    for height, width in SHAPES:
        answer = function(height, width)
        if answer is None:
            return "No answer yet: share_seen returns None. Return a number between 0 and 1."
        try:
            answers.append(float(answer))
        except (TypeError, ValueError):
            return f"The answer is one number; this is {answer!r}."
    if _fits(answers, _right):
        cat, strip = (round(100 * _right(*shape)) for shape in (SHAPES[0], SHAPES[3]))
        return f"Right: of the cat's photo the network sees {cat} %, of a strip of 3 to 1 {strip} %."
    for wrong, message in MISTAKES:
        if _fits(answers, wrong):
            return message
    n = next(n for n, shape in enumerate(SHAPES) if abs(answers[n] - _right(*shape)) > TOLERANCE)
    height, width = SHAPES[n]
    expected = _right(height, width)
    return f"Not yet: of a photo {width} wide and {height} high it sees {expected:.3f}; you say {answers[n]:.3f}."


def _right(height: int, width: int) -> float:
    return (224 / 256) ** 2 * min(height, width) / max(height, width)


def _fits(answers: list[float], expected: Callable[[int, int], float]) -> bool:
    return all(abs(a - expected(*shape)) <= TOLERANCE * max(1, a) for a, shape in zip(answers, SHAPES, strict=True))


MISTAKES: tuple[tuple[Callable[[int, int], float], str], ...] = (
    (lambda h, w: 100 * _right(h, w), "Those are percentages. The share is asked for, between 0 and 1."),
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
    (lambda h, w: 1 - _right(h, w), "That is the share that is lost. Asked for is the share that is seen."),
    (lambda h, w: 1 / _right(h, w), "Upside down: that is how many times larger the photo is than what is seen."),
    (lambda h, w: (224 / 256) ** 2, "That holds for a square photo. Of others the longer side loses more."),
)
