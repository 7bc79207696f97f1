"""Checks of the exercises: each looks at an answer and says what is right or which mistake it shows."""

from typing import Any

import camlib


def strongest_cell(exp: camlib.Explanation, target: str, answer: Any) -> str:
    """Chapter 00: the (row, column) of the largest value of a class's map."""
    cells = exp.map(target)
    rows, columns = cells.shape
    flat = int(cells.argmax())
    right = divmod(flat, columns)
    if answer is None:
        return "No answer yet: put your row and column in place of None, like answer = (0, 0)."
    if answer == flat:
        return f"{flat} counts along the rows: the row is {flat} // {columns}, the column is {flat} % {columns}."
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        return f"The answer is a pair (row, column); this is {answer!r}."
    row, column = (int(v) for v in answer)
    if not (0 <= row < rows and 0 <= column < columns):
        return (
            f"The map has rows 0 to {rows - 1} and columns 0 to {columns - 1}; ({row}, {column}) is none of its cells."
        )
    if (row, column) == right:
        return f"Right: cell {right} holds {cells[right]:.1f}, the most of all {rows * columns} cells."
    if (column, row) == right:
        return "Nearly: that is (column, row). Rows, counted downwards, come first."
    if cells[row, column] == cells.min():
        return "That is the smallest value, the strongest evidence *against*. Look for the largest."
    return f"Cell ({row}, {column}) holds {cells[row, column]:.1f}; there is a larger one."
