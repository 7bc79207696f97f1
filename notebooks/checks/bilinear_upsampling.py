"""Checks of chapter 05: each looks at an answer and says what is right or which mistake it shows."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import scipy.ndimage
import torch
from PIL import Image
from torch.nn import functional as F

from camlib import View
from checks.answers import array

VIEW = View(photo=(512, 768), resized=(256, 384), offset=(16, 80), size=(224, 224))  # of exercise 1
GRID, CELL = 14, (2, 3)
VALUES = (2.0, 10.0, 4.0, 6.0)  # of exercise 2
POSITIONS = (0.0, 1.0, 0.75, 1.25, 2.75, 3.0, -0.4, 3.4)
INNER = slice(2, 5)  # those between two centres
SIZES = ((3, 5, 17, 8), (7, 7, 224, 224), (4, 2, 6, 31), (1, 6, 9, 6), (6, 4, 3, 4))  # of exercise 3
READY = (  # what does the work of exercises 2 and 3 already
    (np, "interp", "np.interp"),
    (F, "interpolate", "F.interpolate"),
    (F, "grid_sample", "F.grid_sample"),
    (scipy.ndimage, "zoom", "scipy.ndimage.zoom"),
    (scipy.ndimage, "map_coordinates", "scipy.ndimage.map_coordinates"),
    (Image.Image, "resize", "PIL's resize"),
)


# Exercise 1: where is that?


def cell_centre(answer: Any) -> str:
    """The centre (y, x) of cell (2, 3) of a 14 × 14 map on a photo, to within half a pixel."""
    if answer is None:
        return "No answer yet: put your (y, x) in place of None, in pixels of the photo."
    numbers = array(answer)
    if numbers is None or numbers.size != 2:
        return f"The answer should be a pair of numbers (y, x); this is {answer!r}."
    y, x = numbers.flatten()
    if _close((y, x), _on_photo(*_in_window())):
        return "Right: y = 112, x = 272. You undid the crop first, then the resize."
    for wrong, message in CENTRE_MISTAKES:
        if _close((y, x), wrong):
            return message
    return (
        f"Not yet: y = {y:.1f}, x = {x:.1f}. Go step by step: the size of a cell, its centre in the window, then add "
        "the crop's offset, then undo the resize."
    )


def _in_window(grid: int = GRID, half: float = 0.5, first: int = 0) -> tuple[float, float]:
    side = VIEW.size[0] / grid
    return (CELL[0] - first + half) * side, (CELL[1] - first + half) * side


def _on_photo(y: float, x: float, offset: tuple[float, float] = VIEW.offset) -> tuple[float, float]:
    scale = VIEW.photo[0] / VIEW.resized[0]
    return (y + offset[0]) * scale, (x + offset[1]) * scale


def _close(given: Any, expected: tuple[float, float]) -> bool:
    return all(abs(a - b) <= 0.51 for a, b in zip(given, expected, strict=True))


CENTRE_MISTAKES: tuple[tuple[tuple[float, float], str], ...] = (
    (
        _on_photo(*_in_window())[::-1],
        "Nearly: that is (x, y). The row gives y, the distance from the top, and y comes first.",
    ),
    (
        _on_photo(*_in_window(half=0)),
        "You forgot the half: row × 16 is the cell's upper edge. Its centre is half a cell further on.",
    ),
    (
        _on_photo(*_in_window(first=1)),
        "That is the second row and the third column. Rows and columns count from 0, so cell (2, 3) is one further on.",
    ),
    (_on_photo(*_in_window(7)), "That is for 7 × 7 cells of 32 pixels. This map has 14 × 14: how wide is a cell?"),
    (
        _on_photo(*_in_window(), (0, 0)),
        "You forgot the crop: a position in the window is (top, left) = (16, 80) further down and right in the resized "
        "photo. Add it before you undo the resize.",
    ),
    (
        _on_photo(*_in_window(), VIEW.offset[::-1]),
        "You added the offset the wrong way round: (16, 80) is (top, left), so 16 belongs to y.",
    ),
    (
        _on_photo(*_in_window()[::-1]),
        "You swapped row and column: cell (2, 3) is row 2, which gives y, and column 3, which gives x.",
    ),
    (
        tuple(n * 400 / VIEW.photo[0] for n in _on_photo(*_in_window())),
        "That is right on the coffee photo of 400 × 600 pixels, but this photo has 512 × 768.",
    ),
    (_in_window(), "That is the position in the network's window. Undo the crop, then the resize."),
    (
        (_in_window()[0] + VIEW.offset[0], _in_window()[1] + VIEW.offset[1]),
        "That is the position in the resized photo. One step is left: undo the resize.",
    ),
    (
        (_on_photo(*_in_window(), (0, 0))[0] + VIEW.offset[0], _on_photo(*_in_window(), (0, 0))[1] + VIEW.offset[1]),
        "The order is wrong: the offset counts pixels of the resized photo. Add it first, then undo the resize.",
    ),
    (
        ((CELL[0] + 0.5) / GRID * VIEW.photo[0], (CELL[1] + 0.5) / GRID * VIEW.photo[1]),
        "That stretches the map over the whole photo. The network saw only a window of it: undo the crop too.",
    ),
)


# Exercise 2: between the cells


def between(function: Callable[[Any, float], Any]) -> str:
    """Linear interpolation in a row of four values at eight positions, some beyond the outermost centres."""
    given = []
    for position in POSITIONS:
        try:
            with _by_yourself():
                given.append(function(np.array(VALUES), position))
        except _ReadyMade as e:
            return f"{e} does the work of this exercise. Write it yourself, with arithmetic."
        except Exception as e:  # whatever a learner's code raises
            raises = f"At position {position} in a row of {len(VALUES)} cells, your function raises {_said(e)}."
            return raises + _reason(e, position)
    if all(answer is None or answer is ... for answer in given):
        return "No answer yet: between returns None. Return the value at the position."
    answers = []
    for position, answer in zip(POSITIONS, given, strict=True):
        number = array(answer)
        if answer is None:
            return f"At position {position}, your function returns None."
        if number is None or number.size != 1:
            return f"Return one number; at position {position}, your function returns {answer!r}."
        answers.append(float(number.item()))
    expected = [_line(p) for p in POSITIONS]
    if np.allclose(answers, expected, atol=1e-3):
        return "Right: linear between the centres, and beyond the outermost centres the value stays the same."
    for mistakes, part in ((END_MISTAKES, slice(None)), (LINE_MISTAKES, INNER)):
        for wrong, message in mistakes:
            if np.allclose(answers[part], [wrong(p) for p in POSITIONS[part]], atol=1e-3):
                return message
    n = next(n for n, pair in enumerate(zip(answers, expected, strict=True)) if not np.isclose(*pair, atol=1e-3))
    return (
        f"Not yet: in the row {', '.join(f'{v:g}' for v in VALUES)}, the value at position {POSITIONS[n]} is "
        f"{expected[n]:g}; yours is {answers[n]:g}."
    )


def _reason(error: Exception, position: float) -> str:
    """Why an index went wrong, where that is clear."""
    if not isinstance(error, (IndexError, TypeError)):
        return ""
    if "integer" in str(error) or "slice" in str(error):
        return " An index must be a whole number; a position need not be."
    if isinstance(error, IndexError) and position >= len(VALUES) - 1:
        return " Beyond the last centre, and on it, there is no right neighbour."
    return ""


def _line(position: float) -> float:
    return float(np.interp(position, range(len(VALUES)), VALUES))


def _share(position: float, left: float, right: float, beyond: float | None = None) -> float:
    """Between the two cells round a position: left and right say how much each takes of the distance."""
    if beyond is not None and not 0 <= position <= len(VALUES) - 1:
        return beyond
    low = int(np.clip(np.floor(position), 0, len(VALUES) - 2))
    share = position - low
    return VALUES[low] * (left + (1 - 2 * left) * share) + VALUES[low + 1] * (right + (1 - 2 * right) * share)


def _nearest(position: float) -> float:
    return VALUES[int(np.clip(np.floor(position + 0.5), 0, len(VALUES) - 1))]


END_MISTAKES: tuple[tuple[Callable[[float], float], str], ...] = (  # right between the centres
    (
        lambda p: _share(p, 1, 0),
        "Between the cells it is right, but beyond the outermost centres your line keeps its slope. There the "
        "value stays the same: limit the position to 0 … len(values) - 1 first.",
    ),
    (
        lambda p: _share(p, 1, 0, beyond=0.0),
        "Between the cells it is right. Beyond the outermost centres you return 0, but there the value stays the same.",
    ),
)
LINE_MISTAKES: tuple[tuple[Callable[[float], float], str], ...] = (  # whatever happens at the ends
    (
        lambda p: _share(p, 0, 1),
        "The weights are swapped: close to the left cell, the left cell should count more. Its weight is 1 minus the "
        "distance from it.",
    ),
    (_nearest, "That takes the nearest cell. Between two cells, mix both: the weight of each is 1 minus its distance."),
    (
        lambda p: VALUES[int(p)],
        "That takes the cell on the left only. Mix it with the one on its right.",
    ),
    (
        lambda p: (VALUES[int(p)] + VALUES[int(p) + 1]) / 2,
        "That is the mean of the two neighbours wherever you are between them. The nearer one counts more.",
    ),
)


# Exercise 3: two products


def by_matrices(function: Callable[[np.ndarray, int, int], Any]) -> str:
    """Bilinear upsampling of maps of five shapes, beside F.interpolate(align_corners=False)."""
    for h, w, height, width in SIZES:
        cells = torch.randn(h, w, generator=torch.Generator().manual_seed(h * w))
        case = f"from {h} × {w} cells to {height} × {width} pixels"
        before = cells.clone()
        try:
            with _by_yourself():
                answer = function(cells.numpy(), height, width)
        except _ReadyMade as e:
            return f"{e} does the work of this exercise. Write the two matrices yourself, with arithmetic."
        except Exception as e:  # whatever a learner's code raises
            shapes = " The shapes: A (height, h), cells (h, w), B.T (w, width)." if "mat" in str(e) else ""
            return f"{case[0].upper()}{case[1:]}, your function raises {_said(e)}.{shapes}"
        if answer is None or answer is ...:
            return "No answer yet: by_matrices returns None. Return the picture, (height, width)."
        given = array(answer)
        if given is None:
            return f"The picture should be an array or a tensor of numbers; yours is a {type(answer).__name__}."
        if not torch.equal(cells, before):
            return "Your function changes the map that it was given. Make a new array."
        if given.shape != (height, width):
            turned = " Which matrix belongs to the rows?" if given.shape == (width, height) else ""
            return f"{case[0].upper()}{case[1:]}, the picture has the shape {given.shape}.{turned}"
        right = F.interpolate(cells[None, None], (height, width), mode="bilinear", align_corners=False)[0, 0].numpy()
        if not np.allclose(given, right, atol=1e-3):
            for wrong, message in MATRIX_MISTAKES:
                if np.allclose(given, wrong(height, h) @ cells.numpy() @ wrong(width, w).T, atol=1e-3):
                    return message
            off = np.nanmax(np.abs(given - right)) if not np.isnan(given).all() else np.nan
            return f"Not yet: {case}, you are off by up to {off:.2f}."
    return "Right: the same picture as F.interpolate, for five sizes. Two matrix products are all there is to it."


def _weights(position: np.ndarray, cells: int) -> np.ndarray:
    """(pixels, cells): what each pixel takes from each cell, when it lies at this position, counted in cells."""
    return (1 - np.abs(position[:, None] - np.arange(cells))).clip(min=0)


def _swapped(position: np.ndarray, cells: int) -> np.ndarray:
    """The same with the distance itself as weight."""
    distance = np.abs(position[:, None] - np.arange(cells))
    return np.where(distance < 1, distance, 0)


def _half_pixel(pixels: int, cells: int) -> np.ndarray:
    return (np.arange(pixels) + 0.5) * cells / pixels - 0.5


BOTH_HALVES = (
    "You forgot both halves, as TensorFlow 1 did: pixel n has its centre at n + 0.5, and cell n at n + 0.5 cells."
)
SECOND_HALF = "You forgot the second half: the centre of cell 0 lies half a cell from the edge, so subtract 0.5."
FIRST_HALF = "You forgot the first half: pixel n has its centre at n + 0.5."
BELOW_ZERO = "Some weights are below 0: a cell further than 1 away counts for nothing."
MATRIX_MISTAKES: tuple[tuple[Callable[[int, int], np.ndarray], str], ...] = (
    (
        lambda p, c: _weights(np.arange(p) * (c - 1) / max(p - 1, 1), c),
        "That goes from corner to corner (align_corners=True). Use half-pixel centres: pixel n lies at "
        "(n + 0.5) × cells / pixels - 0.5.",
    ),
    (
        lambda p, c: _weights((np.arange(p) * c / p).clip(0, c - 1), c),
        BOTH_HALVES,
    ),
    (
        lambda p, c: _weights(np.arange(p) * c / p, c),
        f"{BOTH_HALVES} And beyond the outermost centres the value stays the same.",
    ),
    (
        lambda p, c: _weights(((np.arange(p) + 0.5) * c / p).clip(0, c - 1), c),
        SECOND_HALF,
    ),
    (
        lambda p, c: _weights((np.arange(p) + 0.5) * c / p, c),
        f"{SECOND_HALF} And beyond the outermost centres the value stays the same.",
    ),
    (
        lambda p, c: _weights((np.arange(p) * c / p - 0.5).clip(0, c - 1), c),
        FIRST_HALF,
    ),
    (
        lambda p, c: _weights(np.arange(p) * c / p - 0.5, c),
        f"{FIRST_HALF} And beyond the outermost centres the value stays the same.",
    ),
    (
        lambda p, c: _swapped(_half_pixel(p, c).clip(0, c - 1), c),
        "The weights are swapped: a pixel at distance d takes 1 - d of a cell, not d.",
    ),
    (
        lambda p, c: 1 - np.abs(_half_pixel(p, c).clip(0, c - 1)[:, None] - np.arange(c)),
        BELOW_ZERO,
    ),
    (
        lambda p, c: 1 - np.abs(_half_pixel(p, c)[:, None] - np.arange(c)),
        f"{BELOW_ZERO} And beyond the outermost centres the value stays the same.",
    ),
    (
        lambda p, c: _weights(_half_pixel(p, c), c),
        "At the edges, the rows of your matrix add up to less than 1. Beyond the outermost centres the value stays the "
        "same: limit the position to 0 … cells - 1 first.",
    ),
    (
        lambda p, c: _weights(np.floor(_half_pixel(p, c) + 0.5).clip(0, c - 1), c),
        "That takes the nearest cell for each pixel. Between two cells, mix both: the weight of each is 1 minus its "
        "distance.",
    ),
)


# What they share


class _ReadyMade(Exception):
    """A function that the exercise forbids was called."""


@contextmanager
def _by_yourself() -> Iterator[None]:
    """Within this block, the functions that do an exercise's work raise instead."""
    with ExitStack() as stack:
        for owner, name, shown in READY:
            stack.enter_context(patch.object(owner, name, side_effect=_ReadyMade(shown)))
        yield


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().rstrip('.')}"
