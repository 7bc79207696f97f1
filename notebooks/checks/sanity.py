"""Checks of chapter 10's exercises: each looks at an answer and says what is right or which mistake it shows."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from checks.answers import tensor

SHAPES = ((4, 5), (7, 7), (6, 3))  # rows, columns
NUMBER = (int, float, Tensor, np.number, np.ndarray)
CELLS = 7  # of a forged map
FORGERIES = ((9.4, -0.3, 0, 6), (-2.0, 0.8, 5, 1), (0.5, 0.5, 2, 3))  # logit, bias, row, column


def forged(function: Callable[..., Any]) -> str:
    """function(logit, bias, row, column) gives a map (7, 7) with mean + bias == logit and its peak in that cell."""
    for logit, bias, row, column in FORGERIES:
        try:
            answer = function(logit, bias, row, column)
        except Exception as e:  # whatever a learner's code raises
            return f"For logit {logit}, bias {bias}, cell ({row}, {column}) it raises: {e}"
        message = _forgery_mistake(answer, logit, bias, row, column)
        if message:
            return message
    return "Right: it passes the identity, and it points where you told it to."


def _forgery_mistake(answer: Any, logit: float, bias: float, row: int, column: int) -> str:
    if answer is None or answer is ...:
        return "No answer yet: return a map (7, 7)."
    m = tensor(answer)
    if m is None or m.shape != (CELLS, CELLS):
        return f"The map has 7 × 7 cells; this is {type(answer).__name__ if m is None else tuple(m.shape)}."
    case = f"For logit {logit}, bias {bias}, cell ({row}, {column}): "
    m = m.double()
    total, mean, rounding = float(m.sum()), float(m.mean()), 1e-6 * float(m.abs().max())
    if not abs(mean + bias - logit) < 1e-4 + rounding:
        if _close(mean, logit):
            return case + "the mean is the logit. The identity has the bias, too: mean + bias == logit."
        if _close(mean, logit + bias):
            return case + "the bias has the wrong sign: the mean of the map is logit - bias."
        if _close(total + bias, logit):
            return case + "the sum of the cells is logit - bias. The identity is about their mean."
        return case + f"mean + bias is {mean + bias:.2f}."
    best, here = int(m.flatten().argmax()), row * CELLS + column
    if m.min() < m.max() and int(m.flatten().argmin()) == here:
        return case + (
            "your cell has the *smallest* value. Where logit - bias is negative, one cell alone cannot be the largest: "
            "raise it above the others, and lower them."
        )
    if (m == m.max()).sum() > 1:
        return case + "several cells share the largest value, so the map does not point at one of them."
    if best == column * CELLS + row:
        return case + f"the largest cell is ({column}, {row}): row and column are swapped."
    return "" if best == here else case + f"the largest cell is ({best // CELLS}, {best % CELLS})."


COVERS = ((4, 8), (4, 12), (3, 16))  # cells on a side, pixels of the patch; a cell has 8 pixels


def covered(function: Callable[..., Any]) -> str:
    """function(logit, x, cells, size): the fall of a linear "logit" for a gray patch on each cell; three settings."""
    for seed, (cells, size) in enumerate(COVERS):
        draw = torch.Generator().manual_seed(seed)
        x = torch.randn(1, 3, 8 * cells, 8 * cells, generator=draw)
        weight = torch.randn(x.shape, generator=draw)
        kept = x.clone()

        def logit(inputs: Tensor, weight: Tensor = weight) -> Tensor:
            return (weight * torch.as_tensor(inputs)).sum() + 3

        try:
            answer = function(logit, x, cells, size)
        except Exception as e:  # whatever a learner's code raises
            return f"With x {tuple(x.shape)}, cells={cells}, size={size} it raises: {e}"
        if not torch.equal(x, kept):
            return "The function changes x in place, so the patches add up. Cover a copy each time: `x.clone()`."
        message = _cover_mistake(answer, weight * x, x, weight, cells, size)
        if message:
            return message
    return "Right: the fall of the logit for each patch, also at the edges."


def _cover_mistake(answer: Any, parts: Tensor, x: Tensor, weight: Tensor, cells: int, size: int) -> str:
    if answer is None or answer is ...:
        return f"No answer yet: return the falls, ({cells}, {cells})."
    given = tensor(answer)
    if given is None or given.numel() != cells**2 or given.ndim > 3:
        got = type(answer).__name__ if given is None else tuple(given.shape)
        return f"The falls have shape ({cells}, {cells}), one for each cell; this is {got}."
    given = given.reshape(cells, cells)

    def board(start: Callable[[int], int], stop: Callable[[int], int], values: Tensor = parts) -> Tensor:
        side = x.shape[-1]
        spans = [slice(max(0, start(n)), min(side, stop(n))) for n in range(cells)]
        return torch.stack([torch.stack([values[..., r, c].sum() for c in spans]) for r in spans])

    def centred(values: Tensor) -> Tensor:
        return board(lambda n: 8 * n + 4 - size // 2, lambda n: 8 * n + 4 + size // 2, values)

    right = centred(parts)
    if _near(given, right):
        return ""
    whole = parts.sum() + 3
    bare = torch.stack(
        [torch.stack([parts[..., _raw(r, size), _raw(c, size)].sum() for c in range(cells)]) for r in range(cells)]
    )
    mistakes = {
        "The sign is swapped: a fall is the logit before minus the logit after.": -right,
        "These are the logits of the covered inputs. The fall is the logit before minus the logit after.": whole
        - right,
        "Rows and columns are swapped.": right.T,
        "The patch begins at the cell's upper left corner. Centre it on the cell.": board(
            lambda n: 8 * n, lambda n: 8 * n + size
        ),
        "The patch has the size of a cell, whatever `size` says.": board(lambda n: 8 * n, lambda n: 8 * n + 8),
        "The patch is centred on the cell's upper left corner. Centre it on the middle of the cell.": board(
            lambda n: 8 * n - size // 2, lambda n: 8 * n + size // 2
        ),
        "At the edge the patch keeps its size. Cut it off: compute its end before you set its start to 0.": board(
            lambda n: 8 * n + 4 - size // 2, lambda n: max(0, 8 * n + 4 - size // 2) + size
        ),
        "At the edge the patch is moved inwards, so it keeps its size. Cut it off instead.": board(
            lambda n: min(8 * n + 4 - size // 2, x.shape[-1] - size),
            lambda n: max(0, 8 * n + 4 - size // 2) + size,
        ),
        "A cell has 32 pixels in the chapter, here 8. Compute its side: `x.shape[-1] // cells`.": board(
            lambda n: 32 * n + 16 - size // 2, lambda n: 32 * n + 16 + size // 2
        ),
        "The patch is twice as large: half of `size` lies on each side of the middle.": board(
            lambda n: 8 * n + 4 - size, lambda n: 8 * n + 4 + size
        ),
        "At the edge the patch begins at a negative index, which Python counts from the end. Use `max(0, …)`.": bare,
        "The copy is made once, so the patches add up. Make a new copy for each cell.": _added_up(parts, cells, size),
        "The patch is white (1). Gray is 0 here: the input is normalised.": centred(parts - weight),
        "The patch is 0.5. Gray is 0 here: the input is normalised.": centred(parts - weight / 2),
        "Only one colour channel is covered.": centred(parts[:, :1]),
    }
    return next(
        (text for text, values in mistakes.items() if _near(given, values)),
        "These are not the falls. Cover one patch at a time, centred on the cell, cut off at the edge.",
    )


def _raw(n: int, size: int) -> slice:
    return slice(8 * n + 4 - size // 2, 8 * n + 4 + size // 2)


def _added_up(parts: Tensor, cells: int, size: int) -> Tensor:
    covered, result = torch.zeros_like(parts, dtype=torch.bool), torch.empty(cells, cells)
    for r in range(cells):
        for c in range(cells):
            rows, columns = (slice(max(0, _raw(n, size).start), _raw(n, size).stop) for n in (r, c))
            covered[..., rows, columns] = True
            result[r, c] = parts[covered].sum()
    return result


def _near(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other.float(), atol=1e-3)


def ranks(function: Callable[..., Any]) -> str:
    """Chapter 10: function(a, b) is Spearman's rank correlation of two maps (h, w), equal cells sharing a mean rank."""
    for ties in (False, True):
        for seed, shape in enumerate(SHAPES):
            a, b = _maps(shape, seed, ties)
            kept = a.clone(), b.clone()
            try:
                answer = function(a, b)
            except Exception as e:  # whatever a learner's code raises
                return f"With two maps {shape} it raises: {e}"
            if not (torch.equal(a, kept[0]) and torch.equal(b, kept[1])):
                return "The function changes the maps in place, so later code would use other maps. Work on copies."
            message = _mistake(answer, *kept, ties)
            if message:
                return message
    return "Right: the correlation of the ranks, also where cells are equal."


def _maps(shape: tuple[int, int], seed: int, ties: bool) -> tuple[Tensor, Tensor]:
    """Two maps that are somewhat alike or, for an odd seed, opposed; bent so that values and ranks differ; with ties,
    both after a ReLU.
    """
    generator = torch.Generator().manual_seed(seed)
    one, other = torch.randn(2, *shape, generator=generator)
    a, b = 3 * one.exp() - 3, (-1) ** seed * (0.7 * one - other) ** 3
    return (a.clamp(min=0), b.clamp(min=0)) if ties else (a, b)


def _mistake(answer: Any, a: Tensor, b: Tensor, ties: bool) -> str:
    """What is wrong with an answer for the maps a and b; nothing where it is right."""
    if answer is None:
        return "No answer yet: return one number in place of None."
    if not isinstance(answer, NUMBER):
        return f"One number is asked for; this is {type(answer).__name__}."
    if isinstance(answer, (Tensor, np.ndarray)) and math.prod(answer.shape) != 1:
        kind = "a tensor" if isinstance(answer, Tensor) else "an array"
        return f"One number is asked for; this is {kind} {tuple(answer.shape)}."
    found = float(answer.reshape(()) if isinstance(answer, (Tensor, np.ndarray)) else answer)
    if math.isnan(found):
        return "The result is NaN: is something divided by a spread of zero, or by the integer ranks of nothing?"
    if _close(found, _correlation(_ranks(a), _ranks(b))):
        return ""
    if _close(found, _correlation(a, b)):
        return "That is the correlation of the values (Pearson's). Replace the values by their ranks first."
    if _close(found, _correlation(_order(a), _order(b))):
        return (
            "argsort says which cell comes first, second, …; the rank of a cell is its place in that order. "
            "argsort of the argsort turns it round."
        )
    if _close(found, _correlation(a, _ranks(b))) or _close(found, _correlation(_ranks(a), b)):
        return "Only one of the two maps was turned into ranks."
    if _close(found, -_correlation(_ranks(a), _ranks(b))) and found > 0:
        return "The sign is lost: where one map is high and the other low, the correlation is negative."
    if _close(found, -_correlation(_ranks(a), _ranks(b))):
        return "The sign is swapped: one of the two rankings counts from the highest cell, the other from the lowest."
    if _close(found, _correlation(_ranks(a), _ranks(b)) ** 2):
        return "That is the square: it loses the sign, and a reversed order would count as kept."
    if _close(found, _correlation(_ranks(a.abs()), _ranks(b.abs()))):
        return "The absolute values were ranked: evidence against a class then counts as evidence for it."
    if _close(found, _correlation(_ranks(a.clamp(min=0)), _ranks(b.clamp(min=0)))):
        return "Negative cells were cut off before ranking: their order is lost."
    if ties and _close(found, _short(a, b)):
        return "Right without equal cells. With them the formula with 6 Σ d² does not hold: correlate the ranks."
    if ties and any(_close(found, _correlation(f(a), f(b))) for f in (_places, _stable, _lowest, _highest, _dense)):
        return (
            "Right without equal cells. After a ReLU many cells are equal: they share the mean of their ranks, "
            "else their order is chance."
        )
    if ties:
        return "Right without equal cells, not with them: equal cells share the mean of their ranks."
    if abs(found) > 1.0001:
        return f"{found:.2f} lies outside -1 to 1: divide by both spreads, the norms of the centred ranks."
    if _close(found * len(a.flatten()) / (len(a.flatten()) - 1), _correlation(_ranks(a), _ranks(b))) or _close(
        found * (len(a.flatten()) - 1) / len(a.flatten()), _correlation(_ranks(a), _ranks(b))
    ):
        return (
            "Nearly: mean and std divide by different counts (torch's std divides by n - 1). Use norms, or one count."
        )
    if _close(found, _cosine(_ranks(a), _ranks(b))) or _close(found, _cosine(_ranks(a) + 1, _ranks(b) + 1)):
        return "The ranks were not centred: subtract their mean before multiplying."
    return "That is not the correlation of the ranks: rank each map, subtract the mean, multiply, divide by both norms."


def _ranks(m: Tensor) -> Tensor:
    """(n,): from 0, equal cells sharing the mean of their ranks."""
    m = m.flatten()
    return ((m[None] < m[:, None]).sum(1) + (m[None] <= m[:, None]).sum(1) - 1) / 2


def _order(m: Tensor) -> Tensor:
    return m.flatten().argsort().float()


def _places(m: Tensor) -> Tensor:
    return m.flatten().argsort().argsort().float()


def _stable(m: Tensor) -> Tensor:
    return m.flatten().argsort(stable=True).argsort().float()


def _lowest(m: Tensor) -> Tensor:
    return (m.flatten()[None] < m.flatten()[:, None]).sum(1).float()


def _highest(m: Tensor) -> Tensor:
    return (m.flatten()[None] <= m.flatten()[:, None]).sum(1).float()


def _dense(m: Tensor) -> Tensor:
    return m.flatten().unique(return_inverse=True)[1].float()


def _correlation(u: Tensor, v: Tensor) -> float:
    u, v = u.flatten().double(), v.flatten().double()
    return _cosine(u - u.mean(), v - v.mean())


def _cosine(u: Tensor, v: Tensor) -> float:
    u, v = u.double(), v.double()
    return float((u * v).sum() / (u.norm() * v.norm()))


def _short(a: Tensor, b: Tensor) -> float:
    n = a.numel()
    return float(1 - 6 * ((_ranks(a) - _ranks(b)).double() ** 2).sum() / (n * (n**2 - 1)))


def _close(one: float, other: float) -> bool:
    return abs(one - other) < 1e-4
