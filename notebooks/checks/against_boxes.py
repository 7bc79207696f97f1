"""Checks of chapter 09's exercises: each looks at an answer and says what is right or which mistake it shows."""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from camlib import evaluate

# Rows, columns, the box (left, top, right, bottom), and the columns at each side that the network never saw.
CASES = ((9, 14, (3, 1, 9, 5), 0), (12, 17, (2, 4, 8, 10), 4))


def energy_above_chance(function: Callable[..., Any]) -> str:
    """Chapter 09: function(heat, box) gives the energy in the box minus the box's share of what the network saw."""
    for seed, (rows, columns, box, unseen) in enumerate(CASES):
        heat = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
        heat[:, :unseen] = heat[:, columns - unseen :] = torch.nan
        given, where = heat.clone(), f"With a map of {rows} × {columns} pixels and the box {box}"
        if unseen:
            where += f", NaN in the {unseen} columns at each side,"
        try:
            answer = function(given, box)
        except Exception as e:  # whatever a learner's code raises
            return f"{where} it raises {type(e).__name__}: {e}"
        if answer is None or answer is ...:
            return "No answer yet: return one number, the energy in the box minus the box's share of the seen pixels."
        if not torch.equal(given.nan_to_num(9), heat.nan_to_num(9)):
            return f"{where} the function changes the map in place; whoever measures it next gets something else."
        if message := _mistake(answer, heat, box, where):
            return message
    return (
        "Right: a map that is the same everywhere gets zero, whatever the box, and what was never seen counts nothing."
    )


def _mistake(answer: Any, heat: Tensor, box: tuple[int, int, int, int], where: str) -> str:
    """What is wrong with an answer; nothing where it is right."""
    if isinstance(answer, (tuple, list)):
        return f"One number is asked for; this is a {type(answer).__name__} of {len(answer)}."
    numbers = _array(answer)
    if numbers is None or numbers.size != 1:
        found = f"{answer!r}" if numbers is None else f"a tensor {numbers.shape}"
        return f"One number is asked for; this is {found}."
    value = float(numbers.reshape(()))
    for names, expected in _candidates(heat, box):
        if abs(value - expected) < 1e-4:
            return f"{where} " + "; ".join(names) + "." if names else ""
    if value != value:
        return f"{where} the answer is NaN: sums over pixels that were never seen. Count those as nothing."
    return f"{where} the answer is {value:.3f}, not the energy in the box minus the box's share of the seen pixels."


def _candidates(heat: Tensor, box: tuple[int, int, int, int]) -> Iterator[tuple[list[str], float]]:
    """(mistakes, the number that they give), the fewest mistakes first; no mistakes: the right one."""
    seen = ~heat.isnan()
    known = heat.nan_to_num(0)
    lowest = known[seen].min()
    evidence = {
        "": known.clamp(min=0),
        "negative evidence is counted too: only what is above zero is energy": known,
        "evidence against the class is counted as if it were for it: clamp, do not take abs": known.abs(),
        "the minimum was subtracted, so zero is no longer no evidence": (known - lowest) * seen,
    }
    left, top, right, bottom = box
    boxes = {
        "": (left, top, right, bottom),
        "x and y are exchanged: the first index of a map is the row, y": (top, left, bottom, right),
        "the edges are counted as inside: right and bottom lie outside": (left, top, right + 1, bottom + 1),
        "the box is read as left, top, width, height": (left, top, left + right, top + bottom),
    }
    shares = {
        "": lambda b, mask: seen[mask].sum() / seen.sum(),
        "pixels that the network never saw are counted in the box's share": lambda b, mask: mask.sum() / mask.numel(),
        "the box's share is taken of all pixels, not of the seen ones": lambda b, mask: seen[mask].sum() / seen.numel(),
        "the share counts box pixels that were never seen": lambda b, mask: mask.sum() / seen.sum(),
    }
    endings = {
        "": lambda energy, share: energy - share,
        "the share is not subtracted: this is the energy alone": lambda energy, share: energy,
        "the energy is divided by the share; the difference is asked for": lambda energy, share: energy / share,
        "the sign is swapped: energy first, then minus the share": lambda energy, share: share - energy,
        "the share is added; subtract it": lambda energy, share: energy + share,
        "this is the box's share alone": lambda energy, share: share,
    }
    found = []
    for (e, map_), (b, edges), (s, share), (end, combine) in product(
        evidence.items(), boxes.items(), shares.items(), endings.items()
    ):
        mask = torch.zeros_like(seen)
        mask[edges[1] : edges[3], edges[0] : edges[2]] = True
        energy = map_[mask].sum() / map_.sum()
        names = [name for name in (e, b, s, end) if name]
        found.append((names, float(combine(energy, share(edges, mask)))))
    return iter(sorted(found, key=lambda pair: len(pair[0])))


def _array(answer: Any) -> np.ndarray | None:
    """A number, list, array or tensor as float64; nothing where it is none of these."""
    try:
        if isinstance(answer, Tensor):
            answer = answer.detach().cpu().numpy()
        elif isinstance(answer, (tuple, list)):
            answer = [a.detach().cpu().numpy() if isinstance(a, Tensor) else a for a in answer]
        return None if isinstance(answer, (str, bytes)) else np.asarray(answer, dtype=np.float64)
    except (TypeError, ValueError):
        return None


def sharper(function: Callable[..., Any]) -> str:
    """Chapter 09: function(heat) gives a map with the same order of evidence and more energy in the box."""
    for seed, (rows, columns, box) in enumerate(((9, 14, (3, 1, 9, 5)), (12, 17, (2, 4, 8, 10)))):
        y, x = torch.arange(rows)[:, None] + 0.5, torch.arange(columns) + 0.5
        left, top, right, bottom = box
        blob = torch.exp(-(((y - (top + bottom) / 2) / 3) ** 2) - ((x - (left + right) / 2) / 3) ** 2)
        heat = 8 * blob + torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) - 0.2
        given, where = (
            heat.clone(),
            f"With a map of {rows} × {columns} pixels from {heat.min():.1f} to {heat.max():.1f}",
        )
        try:
            answer = function(given)
        except Exception as e:  # whatever a learner's code raises
            return f"{where} it raises {type(e).__name__}: {e}"
        if answer is None or answer is ...:
            return "No answer yet: return a map of the same shape."
        if not torch.equal(given, heat):
            return f"{where} the function changes the map in place; work on a copy."
        if message := _not_sharper(answer, heat, box):
            return f"{where} {message}"
    return "Right: each pixel keeps its rank and the peak its place, and yet the energy in the box has risen."


def _not_sharper(answer: Any, heat: Tensor, box: tuple[int, int, int, int]) -> str:
    """What is wrong with a sharpened map; nothing where it is right."""
    values = _array(answer)
    if values is None or values.shape != tuple(heat.shape):
        got = f"a {type(answer).__name__}" if values is None else f"{values.shape}"
        return f"the result must be a map of shape {tuple(heat.shape)}; this is {got}."
    before = heat.numpy().astype(np.float64)
    if not np.isfinite(values).all():
        return "some values of the result are NaN or infinite: a root of a negative number, or too large a power?"
    positive = before > 0
    if (values[~positive] > 0).any():
        return (
            "evidence against the class has become evidence for it. An even power loses the sign, and exp makes every "
            "value positive: clamp first, and keep zero at zero."
        )
    ranked = values[positive][np.argsort(before[positive])]
    if (values[positive] <= 0).any():
        return (
            "some pixels with evidence have none left: they lost their rank. Change the values, but cut nothing off "
            "(too high a power rounds small values to zero)."
        )
    if (np.diff(ranked) < 0).any():
        return "the order of the pixels has changed: one with less evidence now has more."
    if (np.diff(ranked) == 0).any():
        return "pixels with different evidence now have the same, so they lost their rank."
    after, energy = torch.from_numpy(values), evaluate.energy_in_box(heat, [box])
    gain = evaluate.energy_in_box(after, [box]) - energy
    if abs(gain) < 1e-4:
        return "the energy stays as it was: a factor cancels in the share. The values must be stretched unevenly."
    if gain < 0:
        return (
            f"the energy falls by {-gain:.2f}: this flattens the map. Which function makes large values larger still?"
        )
    return ""


PAIRED = (
    ([0.98, 0.4, 0.8, 0.55, 0.3], [0.7, 0.35, 0.5, 0.5, 0.28], ["a", "a", "b", "c", "d"]),
    (
        [0.62, 0.5, 0.31, 0.9, 0.77, 0.2, 0.4],
        [0.6, 0.1, 0.35, 0.7, 0.5, 0.1, 0.25],
        ["x", "y", "y", "y", "z", "x", "w"],
    ),
)


def paired(function: Callable[..., Any]) -> str:
    """Chapter 09: function(one, other, photos) gives mean, low, high of the difference, over the photos' means."""
    for one, other, photos in PAIRED:
        where = f"With {len(one)} classes on {len(set(photos))} photos"
        given = np.array(one), np.array(other), list(photos)
        try:
            answer = function(*given)
        except Exception as e:  # whatever a learner's code raises
            return f"{where} it raises {type(e).__name__}: {e}"
        if answer is None or answer is ...:
            return "No answer yet: return three numbers, the mean and both ends of the interval."
        if given[0].tolist() != one or given[1].tolist() != other or given[2] != photos:
            return f"{where} the function changes its inputs in place."
        numbers = _array(answer)
        if numbers is None or numbers.size != 3:
            got = type(answer).__name__ if numbers is None else f"{numbers.size} number{'s' * (numbers.size != 1)}"
            return f"Return three numbers: mean, low, high. This is {got}."
        if message := _not_paired(numbers.reshape(3), np.array(one), np.array(other), photos):
            return f"{where} {message}"
    return "Right: one difference per photo, and Student's interval for their mean."


def _photo_means(values: np.ndarray, photos: list[str]) -> np.ndarray:
    return np.array(
        [np.mean([v for v, p in zip(values, photos, strict=True) if p == name]) for name in sorted(set(photos))]
    )


def _not_paired(answer: np.ndarray, one: np.ndarray, other: np.ndarray, photos: list[str]) -> str:
    """What is wrong with an interval; nothing where it is right."""
    for names, expected in _intervals(one, other, photos):
        if np.allclose(answer, expected, atol=1e-4):
            return "; ".join(names) + "." if names else ""
    mean, low, high = answer
    if np.isnan(answer).any():
        return (
            "some of the three numbers are NaN: the mean of nothing? photos is a list, so photos == name is just "
            "False; compare with np.array(photos)."
        )
    if not low <= mean <= high:
        return "the three numbers must be mean, low, high, in this order."
    by_photo = _photo_means(one - other, photos).mean()
    if not np.isclose(mean, by_photo, atol=1e-4):
        return f"the mean is {mean:.3f}, not that of the photos' mean differences, {by_photo:.3f}."
    return f"the mean is right, but the ends {low:.3f} and {high:.3f} are not mean ± t · s / √n over the photos."


def _intervals(one: np.ndarray, other: np.ndarray, photos: list[str]) -> Iterator[tuple[list[str], list[float]]]:
    """(mistakes, the interval that they give), the fewest mistakes first."""
    values = {
        "": _photo_means(one - other, photos),
        "each class counts as a witness: two classes on one photo are not independent. Average per photo first": one
        - other,
        "the sign is swapped: one minus other": _photo_means(other - one, photos),
    }
    spreads = {
        "": 1,
        "the standard deviation divides by n. For a sample divide by n − 1, ddof=1 in NumPy": 0,
    }
    errors = {
        "": lambda s, n: s / np.sqrt(n),
        "the standard deviation is not divided by √n": lambda s, n: s,
        "the standard deviation is divided by n, not by √n": lambda s, n: s / n,
    }
    factors = {
        "": lambda n: stats.t.ppf(0.975, n - 1),
        "the factor is the normal distribution's 1.96, which is too small for so few photos": lambda n: 1.96,
        "the factor is the normal distribution's 1.96, which is too small for so few photos ": lambda n: stats.norm.ppf(
            0.975
        ),
        "t has n − 1 degrees of freedom, not n": lambda n: stats.t.ppf(0.975, n),
        "t.ppf(0.95) leaves 5 % on each side; for 95 % in the middle take 0.975": lambda n: stats.t.ppf(0.95, n - 1),
        "this is one standard error, without the factor t": lambda n: 1.0,
    }
    found = []
    for (v, numbers), (d, ddof), (e, error), (f, factor) in product(
        values.items(), spreads.items(), errors.items(), factors.items()
    ):
        n, mean = len(numbers), numbers.mean()
        reach = factor(n) * error(numbers.std(ddof=ddof), n)
        names = [name.strip() for name in (v, d, e, f) if name]
        found.append((names, [mean, mean - reach, mean + reach]))
    a, b = (_photo_means(part, photos) for part in (one, other))
    n, spread = len(a), np.sqrt(a.var(ddof=1) + b.var(ddof=1))
    for dof in (n - 1, 2 * n - 2):
        reach = stats.t.ppf(0.975, dof) * spread / np.sqrt(n)
        gap = a.mean() - b.mean()
        name = (
            "the two are treated as different samples; subtract photo by photo first, so that what photos share cancels"
        )
        found.append(([name], [gap, gap - reach, gap + reach]))
    return iter(sorted(found, key=lambda pair: len(pair[0])))
