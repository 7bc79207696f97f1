"""Chapter 05's check names the mistake, and its folded solution passes."""

import pytest
from checks import bilinear_upsampling as check

from tests.checks.solutions import run_solution


def undo(view, y, x):
    (top, left), (h, w), (rh, rw) = view.offset, view.photo, view.resized
    return (y + top) * h / rh, (x + left) * w / rw


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda view, row, column: None, "No answer yet"),
        (lambda view, row, column: "middle", "pair of numbers"),
        (lambda view, row, column: 5.0, "pair of numbers"),
        (lambda view, row, column: undo(view, 32 * row + 16, 32 * column + 16), "Right: "),
        (lambda view, row, column: undo(view, 32 * row + 16, 32 * column + 16)[::-1], "that is (x, y)"),
        (lambda view, row, column: undo(view, 32 * row, 32 * column), "forgot the half"),
        (
            lambda view, row, column: (
                (32 * row + 16) * view.photo[0] / view.resized[0],
                (32 * column + 16) * view.photo[1] / view.resized[1],
            ),
            "forgot the crop",
        ),
        (lambda view, row, column: undo(view, row * 224 / 6, column * 224 / 6), "used 224 / 6"),
        (lambda view, row, column: undo(view, row * 223 / 6, column * 223 / 6), "used 223 / 6"),
        (lambda view, row, column: (32 * row + 16, 32 * column + 16), "network's window"),
        (
            lambda view, row, column: ((row + 0.5) * view.photo[0] / 7, (column + 0.5) * view.photo[1] / 7),
            "stretches the map",
        ),
        (
            lambda view, row, column: (
                (32 * row + 16) * view.photo[0] / view.resized[0] + view.offset[0],
                (32 * column + 16) * view.photo[1] / view.resized[1] + view.offset[1],
            ),
            "order is wrong",
        ),
        (lambda view, row, column: (100, 100), "Not yet"),
    ],
)
def test_photo_position(answer, says):
    assert says in check.photo_position(answer)


def test_solution_passes(capsys):
    assert "Right: " in run_solution("05_bilinear_upsampling", capsys, check=check)
