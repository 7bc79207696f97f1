"""Checks of chapter 05: each looks at an answer and says what is right or which mistake it shows."""

from collections.abc import Callable
from typing import Any

from camlib import View

PHOTOS = ((400, 600), (600, 512), (300, 451))  # height, width: landscape, portrait, and the cat
CELLS = ((2, 3), (0, 0), (5, 1))


def photo_position(function: Callable[[View, int, int], Any]) -> str:
    """The exercise: the centre (y, x) of a cell of a 7×7 map on the photo, to within half a pixel."""
    views = [View.crop(photo, resize=256, size=224) for photo in PHOTOS]
    asked = [(view, row, column) for view in views for row, column in CELLS]
    answers = []
    for view, row, column in asked:
        answer = function(view, row, column)
        if answer is None:
            return "No answer yet: photo_position returns None. Return the pair (y, x)."
        try:
            y, x = (float(v) for v in answer)
        except (TypeError, ValueError):
            return f"The answer is a pair of numbers (y, x); this is {answer!r}."
        answers.append((y, x))
    if _fits(answers, [_right(*a) for a in asked]):
        y, x = _right(views[0], 2, 3)
        return f"Right: on a photo of 600 × 400 pixels cell (2, 3) lies at y = {y:.1f}, x = {x:.1f}."
    for wrong, message in MISTAKES:
        if _fits(answers, [wrong(*a) for a in asked]):
            return message
    (view, row, column), (y, x) = next(
        (a, b) for a, b in zip(asked, answers, strict=True) if not _fits([b], [_right(*a)])
    )
    expected = _right(view, row, column)
    return (
        f"Not yet: on a photo of {view.photo[1]} × {view.photo[0]} pixels cell ({row}, {column}) lies at "
        f"({expected[0]:.1f}, {expected[1]:.1f}); you say ({y:.1f}, {x:.1f})."
    )


def _fits(answers: list[tuple[float, float]], expected: list[tuple[float, float]]) -> bool:
    pairs = zip(answers, expected, strict=True)
    return all(abs(a - b) <= 0.51 for answer, right in pairs for a, b in zip(answer, right, strict=True))


def _undo(view: View, y: float, x: float, crop: bool = True) -> tuple[float, float]:
    """A position in the window, as one on the photo."""
    top, left = view.offset if crop else (0, 0)
    return (y + top) * view.photo[0] / view.resized[0], (x + left) * view.photo[1] / view.resized[1]


def _right(view: View, row: int, column: int) -> tuple[float, float]:
    return _undo(view, (row + 0.5) * 32, (column + 0.5) * 32)


def _swapped(view: View, row: int, column: int) -> tuple[float, float]:
    y, x = _right(view, row, column)
    return x, y


MISTAKES: tuple[tuple[Callable[[View, int, int], tuple[float, float]], str], ...] = (
    (_swapped, "Nearly: that is (x, y). The row gives y, the distance from the top, and y comes first."),
    (
        lambda v, r, c: _undo(v, r * 32, c * 32),
        "You forgot the half: row × 32 is the cell's upper edge. Its centre is half a cell further: (row + 0.5) × 32.",
    ),
    (
        lambda v, r, c: _undo(v, (r + 0.5) * 32, (c + 0.5) * 32, crop=False),
        "You forgot the crop: a position in the window is view.offset = (top, left) further down and right in the "
        "resized photo. Add it before you undo the resize.",
    ),
    (
        lambda v, r, c: _undo(v, r * 224 / 6, c * 224 / 6),
        "You used 224 / 6: that puts the first and last centre on the window's edges (align_corners=True). Seven cells "
        "of 224 / 7 = 32 pixels tile the window.",
    ),
    (
        lambda v, r, c: _undo(v, r * 223 / 6, c * 223 / 6),
        "You used 223 / 6: that puts the first and last centre on the corner pixels (align_corners=True). Seven cells "
        "of 224 / 7 = 32 pixels tile the window.",
    ),
    (
        lambda v, r, c: ((r + 0.5) * 32, (c + 0.5) * 32),
        "That is the position in the network's window. Undo the crop (view.offset), then the resize "
        "(view.photo / view.resized).",
    ),
    (
        lambda v, r, c: ((r + 0.5) / 7 * v.photo[0], (c + 0.5) / 7 * v.photo[1]),
        "That stretches the map over the whole photo. The network saw only a window of it: undo the crop too.",
    ),
    (
        lambda v, r, c: (
            (r + 0.5) * 32 * v.photo[0] / v.resized[0] + v.offset[0],
            (c + 0.5) * 32 * v.photo[1] / v.resized[1] + v.offset[1],
        ),
        "The order is wrong: view.offset counts pixels of the resized photo. Add it first, then undo the resize.",
    ),
)
