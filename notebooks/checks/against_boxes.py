"""Checks of chapter 09's exercise: each looks at an answer and says what is right or which mistake it shows."""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor

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
    if not isinstance(answer, (int, float, Tensor)) or (isinstance(answer, Tensor) and answer.numel() != 1):
        found = f"a tensor {tuple(answer.shape)}" if isinstance(answer, Tensor) else f"{answer!r}"
        return f"One number is asked for; this is {found}."
    value = float(answer)
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
