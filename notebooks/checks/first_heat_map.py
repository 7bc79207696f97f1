"""Checks of chapter 00: each looks at an answer and says what is right, or which mistake it shows."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import camlib
from checks.answers import tensor


def _numbers(answer: Any) -> Any:
    """Tensors and arrays as lists or numbers."""
    if isinstance(answer, (torch.Tensor, np.ndarray, np.generic)):
        return answer.tolist()
    return [_numbers(part) for part in answer] if isinstance(answer, (list, tuple)) else answer


def _whole(value: Any) -> bool:
    return isinstance(value, (int, float)) and float(value).is_integer()


def strongest_cell(exp: camlib.Explanation, target: str, answer: Any) -> str:
    """The (row, column) of the largest value of a class's map, as numbers, a list, an array or a tensor."""
    cells = exp.map(target)
    rows, columns = cells.shape
    flat = int(cells.argmax())
    right = divmod(flat, columns)
    if answer is None:
        return "No answer yet: put your row and column in place of None, like answer = (0, 0)."
    given = _numbers(answer)
    while isinstance(given, list) and len(given) == 1:  # as nonzero() gives it
        given = given[0]
    if isinstance(given, list):  # as where() gives it
        given = [part[0] if isinstance(part, list) and len(part) == 1 else part for part in given]
    if given == flat:
        return f"{flat} counts along the rows: the row is {flat} // {columns}, the column is {flat} % {columns}."
    if not isinstance(given, list) or len(given) != 2 or not all(_whole(v) for v in given):
        return f"The answer is a pair (row, column); this is {answer!r}."
    row, column = (int(v) for v in given)
    if not (0 <= row < rows and 0 <= column < columns):
        return f"The map has rows 0 to {rows - 1} and columns 0 to {columns - 1}, so it has no cell ({row}, {column})."
    if (row, column) == right:
        return f"Right: cell {right} has {cells[right]:.1f}, the most of all {rows * columns} cells."
    if (column, row) == right:
        return "Nearly: that is (column, row). Rows, counted downwards, come first."
    if cells[row, column] == cells.min():
        return "That is the smallest value. Look for the largest."
    return f"Cell ({row}, {column}) has {cells[row, column]:.1f}; another cell has more."


def logit_from(function: Callable[[torch.Tensor, float], Any]) -> str:
    """The mean of a map (h, w) plus a bias, on random maps of three sizes."""
    if not callable(function):
        return "Pass the function itself, without calling it: check.logit_from(logit_from)."
    draw = torch.Generator().manual_seed(0)
    for h, w in ((7, 7), (3, 5), (14, 2)):
        cells, bias = torch.randn(h, w, generator=draw) + 2, float(torch.randn((), generator=draw)) + 3
        try:
            given = function(cells.clone(), bias)
        except Exception as e:  # whatever a learner's code raises
            return f"With a map of {h} × {w} cells, your function raises {type(e).__name__}: {e}"
        if given is None or given is ...:
            return "No answer yet: return one number in place of None."
        value = tensor(given)
        if value is None:
            return f"A logit is one number; your function returns a {type(given).__name__}."
        if value.numel() != 1:
            return f"A logit is one number; yours has the shape {tuple(value.shape)}. Take the mean over all cells."
        mistakes = {
            "": cells.mean() + bias,
            "the bias is missing": cells.mean(),
            "you add up the cells; take their mean": cells.sum() + bias,
            "you add the bias to each cell and then add the cells up; take the mean": (cells + bias).sum(),
            "you divide by 49, but this map has a different number of cells": cells.sum() / 49 + bias,
            "the bias is subtracted; add it": cells.mean() - bias,
            "you use the largest cell; take the mean": cells.max() + bias,
            "you take the sum, and the bias is missing": cells.sum(),
        }
        found = [text for text, number in mistakes.items() if abs(float(number) - float(value)) < 1e-4]
        if not found:
            right, yours = float(mistakes[""]), float(value)
            if abs(right - yours) < 0.06:
                return f"Nearly: your function gives {yours}, the logit is {right:.6f}. Do not round."
            return f"Not yet: for a map of {h} × {w} cells, the logit is {right:.3f}; yours is {yours:.3f}."
        if found[0]:
            return f"Not yet: {found[0]}."
    return "Right: three maps, three logits."


def strongest_classes(exp: camlib.Explanation, cell: tuple[int, int], answer: Any) -> str:
    """The four classes with the most evidence in one cell, with or without the bias, as names or indices."""
    if answer is None:
        return "No answer yet: put four names or indices in place of None."
    given = _numbers(answer)
    if isinstance(given, (set, frozenset)):
        return "A set has no order: use a list, the strongest class first."
    here = exp.maps[:, cell[0], cell[1]]
    largest = here.topk(4).values.tolist()
    values = given[0] if isinstance(given, list) and len(given) == 2 and isinstance(given[0], list) else given
    floats = isinstance(values, list) and len(values) == 4 and all(isinstance(v, float) for v in values)
    if floats and all(abs(v - w) < 0.5 for v, w in zip(values, largest, strict=True)):
        return "Those are the values. topk gives values and indices: take .indices."
    if not isinstance(given, list) or len(given) != 4:
        return f"Four classes are needed; this is {answer!r}."
    try:
        indices = [exp.classifier.index(int(c) if isinstance(c, float) else c) for c in given]
    except camlib.CamError as e:
        return str(e)
    rights = [here.topk(4).indices.tolist(), (here + exp.bias).topk(4).indices.tolist()]
    names = ", ".join(exp.classifier.labels[k] for k in indices)
    if indices in rights:
        return f"Right: {names}."
    if any(sorted(indices) == sorted(right) for right in rights):
        return f"The right four classes, but in the wrong order: {names}."
    if indices == exp.logits.topk(4).indices.tolist():
        return f"Those are the best classes for the whole photo: {names}. Look only at cell {cell}."
    turned = exp.maps[:, cell[1], cell[0]].topk(4).indices.tolist()
    if indices == turned:
        return f"Those are the classes of cell {cell[::-1]}: {names}. The row comes first."
    hits = len(set(indices) & set(rights[0]))
    return f"Not yet: {hits} of your four classes ({names}) {'is' if hits == 1 else 'are'} among the right ones."
