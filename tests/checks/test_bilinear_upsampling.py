"""Chapter 05's checks name the mistake, and its folded solutions pass."""

import numpy as np
import pytest
import scipy.ndimage
import torch
from checks import bilinear_upsampling as check
from torch.nn import functional as F

import camlib
from tests.checks.solutions import solutions


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, "No answer yet"),
        ((112, 272), "Right: "),
        ([112.0, 272.0], "Right: "),
        (np.array([112, 272]), "Right: "),
        (torch.tensor([112.0, 272.0]), "Right: "),
        ((torch.tensor(112), np.float32(272)), "Right: "),
        ((111.5, 271.5), "Right: "),  # counted from the centre of pixel 0
        ((272, 112), "that is (x, y)"),
        ((96, 256), "forgot the half"),
        ((80, 240), "count from 0"),
        ((192, 384), "how wide is a cell"),
        ((80, 112), "forgot the crop"),
        ((240, 144), "wrong way round"),
        ((40, 56), "network's window"),
        ((56, 136), "One step is left"),
        ((96, 192), "order is wrong"),
        ((91.4, 192), "stretches the map"),
        ((144, 240), "swapped row and column"),
        ((87.5, 212.5), "right on the coffee photo"),
        ((1, 2), "Not yet"),
        (5, "pair of numbers"),
        ("112, 272", "pair of numbers"),
        ((1, 2, 3), "pair of numbers"),
        ({"y": 112}, "pair of numbers"),
        ((None, None), "pair of numbers"),
    ],
)
def test_cell_centre(answer, says):
    assert says in check.cell_centre(answer)


def low_share(values, position, clip=True):
    position = min(max(position, 0), len(values) - 1) if clip else position
    low = min(max(int(np.floor(position)), 0), len(values) - 2)
    return low, position - low


def line(values, position, clip=True):
    low, share = low_share(values, position, clip)
    return (1 - share) * values[low] + share * values[low + 1]


def swapped(values, position):
    low, share = low_share(values, position)
    return share * values[low] + (1 - share) * values[low + 1]


def left_only(values, position):
    return values[low_share(values, position)[0]]


def middle(values, position):
    low, _ = low_share(values, position)
    return (values[low] + values[low + 1]) / 2


def beyond(inside, values, position):
    """A mistake between the centres; right on and beyond the outermost ones."""
    if position <= 0:
        return values[0]
    return values[-1] if position >= len(values) - 1 else inside(values, position)


def wrapping(values, position):
    low = int(np.floor(position))
    return (1 - position + low) * values[low] + (position - low) * values[low + 1]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda values, position: None, "No answer yet"),
        (line, "Right: "),
        (lambda values, position: np.interp(position, range(len(values)), values), "np.interp does the work"),
        (
            lambda values, position: scipy.ndimage.map_coordinates(values, [[position]], order=1, mode="nearest"),
            "map_coordinates does the work",
        ),
        (lambda values, position: torch.tensor(line(values, position)), "Right: "),
        (lambda values, position: [line(values, position)], "Right: "),
        (
            lambda values, position: (
                values @ (1 - abs(min(max(position, 0), len(values) - 1) - np.arange(len(values)))).clip(min=0)
            ),
            "Right: ",
        ),
        (swapped, "weights are swapped"),
        (lambda values, position: beyond(swapped, values, position), "weights are swapped"),
        (lambda values, position: line(values, position, clip=False), "keeps its slope"),
        (
            lambda values, position: line(values, position) if 0 <= position <= len(values) - 1 else 0,
            "you return 0",
        ),
        (
            lambda values, position: values @ (1 - abs(position - np.arange(len(values)))).clip(min=0),
            "the value at position -0.4 is 2",
        ),
        (
            lambda values, position: values[min(max(int(np.floor(position + 0.5)), 0), len(values) - 1)],
            "takes the nearest cell",
        ),
        (
            lambda values, position: values[min(max(int(np.floor(position)), 0), len(values) - 1)],
            "cell on the left only",
        ),
        (
            lambda values, position: (
                sum(values[min(max(int(np.floor(position)) + n, 0), len(values) - 1)] for n in (0, 1)) / 2
            ),
            "mean of the two neighbours",
        ),
        (
            lambda values, position: values[min(max(round(position), 0), len(values) - 1)],
            "takes the nearest cell",
        ),
        (lambda values, position: beyond(middle, values, position), "mean of the two neighbours"),
        (lambda values, position: beyond(left_only, values, position), "cell on the left only"),
        (wrapping, "raises IndexError"),
        (wrapping, "At position 3.0 in a row of 4 cells"),
        (wrapping, "no right neighbour"),
        (lambda values, position: values[position // 1], "a position need not be"),
        (lambda values, position: list(values)[position // 1], "a position need not be"),
        (lambda values, position: None if position >= 3 else line(values, position), "At position 3.0, your function"),
        (lambda values, position: values, "one number"),
        (lambda values, position: "high", "one number"),
        (lambda values, position: 3.0, "Not yet"),
        (lambda values, position: float("nan"), "Not yet"),
    ],
)
def test_between(answer, says):
    assert says in check.between(answer)


def matrices(rule):
    """The answer that follows from where it puts pixel n of so many, counted in cells."""

    def answer(cells, height, width):
        h, w = cells.shape
        rows, columns = (
            (1 - np.abs(rule(np.arange(pixels), pixels, n)[:, None] - np.arange(n))).clip(min=0)
            for pixels, n in ((height, h), (width, w))
        )
        return rows @ cells @ columns.T

    return answer


right = matrices(lambda n, pixels, cells: ((n + 0.5) * cells / pixels - 0.5).clip(0, cells - 1))


def unclipped(limited):
    """Without weights of 0 for the cells that are further than 1 away."""

    def answer(cells, height, width):
        rows, columns = (
            1 - np.abs(limited((np.arange(pixels) + 0.5) * n / pixels - 0.5, n)[:, None] - np.arange(n))
            for pixels, n in zip((height, width), cells.shape, strict=True)
        )
        return rows @ cells @ columns.T

    return answer


def distances_as_weights(cells, height, width):
    rows, columns = (
        np.abs(((np.arange(pixels) + 0.5) * n / pixels - 0.5).clip(0, n - 1)[:, None] - np.arange(n))
        for pixels, n in zip((height, width), cells.shape, strict=True)
    )
    return np.where(rows < 1, rows, 0) @ cells @ np.where(columns < 1, columns, 0).T


def changed(cells, height, width):
    cells *= 2
    return right(cells, height, width)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda cells, height, width: None, "No answer yet"),
        (right, "Right: "),
        (lambda *given: torch.as_tensor(right(*given)), "Right: "),
        (lambda *given: right(*given).astype(np.float32), "Right: "),
        (lambda *given: right(*given).tolist(), "Right: "),
        (
            lambda cells, height, width: F.interpolate(
                torch.as_tensor(cells)[None, None], (height, width), mode="bilinear"
            ).squeeze(),
            "F.interpolate does the work",
        ),
        (lambda cells, height, width: camlib.upsample(torch.as_tensor(cells), (height, width)), "does the work"),
        (matrices(lambda n, pixels, cells: n * (cells - 1) / (pixels - 1)), "corner to corner"),
        (matrices(lambda n, pixels, cells: (n * cells / pixels).clip(0, cells - 1)), "both halves"),
        (matrices(lambda n, pixels, cells: ((n + 0.5) * cells / pixels).clip(0, cells - 1)), "second half"),
        (matrices(lambda n, pixels, cells: (n * cells / pixels - 0.5).clip(0, cells - 1)), "first half"),
        (matrices(lambda n, pixels, cells: n * cells / pixels - 0.5), "n + 0.5. And beyond the outermost centres"),
        (distances_as_weights, "The weights are swapped"),
        (matrices(lambda n, pixels, cells: (n + 0.5) * cells / pixels - 0.5), "add up to less than 1"),
        (
            matrices(lambda n, pixels, cells: np.floor((n + 0.5) * cells / pixels).clip(0, cells - 1)),
            "takes the nearest cell",
        ),
        (lambda cells, height, width: right(cells, width, height), "Which matrix belongs to the rows"),
        (matrices(lambda n, pixels, cells: n * cells / pixels), "both halves"),
        (matrices(lambda n, pixels, cells: n * cells / pixels), "And beyond the outermost"),
        (matrices(lambda n, pixels, cells: (n + 0.5) * cells / pixels), "second half"),
        (unclipped(lambda position, cells: position.clip(0, cells - 1)), "weights are below 0"),
        (
            unclipped(lambda position, cells: position),
            "below 0: a cell further than 1 away counts for nothing. And beyond",
        ),
        (lambda cells, height, width: right(cells, height, width)[:, 1:], "has the shape (17, 7)"),
        (lambda cells, height, width: np.zeros((height, width)), "off by up to"),
        (lambda cells, height, width: np.full((height, width), np.nan), "Not yet"),
        (lambda cells, height, width: cells @ cells[:3], "raises ValueError"),
        (lambda cells, height, width: right(cells.T, height, width) @ cells, "The shapes: A (height, h)"),
        (lambda cells, height, width: [][0], "your function raises IndexError: list index out of range."),
        (lambda cells, height, width: "picture", "array or a tensor"),
        (lambda cells, height, width: 3.0, "has the shape ()"),
        (changed, "changes the map"),
    ],
)
def test_by_matrices(answer, says):
    assert says in check.by_matrices(answer)


def test_solutions_pass(capsys):
    codes = solutions("05_bilinear_upsampling")
    assert len(codes) == 3
    for code in codes:
        exec(code, {"check": check, "np": np})
        assert "Right: " in capsys.readouterr().out


def test_forbidden_functions_work_again_after_a_check():
    before = np.interp, F.interpolate
    check.between(lambda values, position: np.interp(position, range(len(values)), values))
    assert (np.interp, F.interpolate) == before
    assert np.interp(0.5, [0, 1], [0, 2]) == 1
