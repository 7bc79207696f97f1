"""Check of chapter 10's exercise: it looks at an answer and says what is right or which mistake it shows."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

SHAPES = ((4, 5), (7, 7), (6, 3))  # rows, columns
NUMBER = (int, float, Tensor)


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
                return "The function changes the maps in place; whoever draws them afterwards draws something else."
            message = _mistake(answer, *kept, ties)
            if message:
                return message
    return "Right: the correlation of the ranks, also where cells are equal."


def _maps(shape: tuple[int, int], seed: int, ties: bool) -> tuple[Tensor, Tensor]:
    """Two maps that are somewhat alike, bent so that values and ranks differ; with ties, both after a ReLU."""
    generator = torch.Generator().manual_seed(seed)
    one, other = torch.randn(2, *shape, generator=generator)
    a, b = 3 * one.exp() - 3, (0.7 * one - other) ** 3
    return (a.clamp(min=0), b.clamp(min=0)) if ties else (a, b)


def _mistake(answer: Any, a: Tensor, b: Tensor, ties: bool) -> str:
    """What is wrong with an answer for the maps a and b; nothing where it is right."""
    if answer is None:
        return "No answer yet: return one number in place of None."
    if not isinstance(answer, NUMBER):
        return f"One number is asked for; this is {type(answer).__name__}."
    if isinstance(answer, Tensor) and answer.numel() != 1:
        return f"One number is asked for; this is a tensor {tuple(answer.shape)}."
    found = float(answer)
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
