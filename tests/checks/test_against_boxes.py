"""Chapter 09's check names the mistake, and its folded solution passes."""

import pytest
import torch
from checks import against_boxes as check

from tests.checks.solutions import run_solution


def right(heat, box):
    left, top, right, bottom = box
    positive, seen = heat.nan_to_num(0).clamp(min=0), ~heat.isnan()
    inside = (slice(top, bottom), slice(left, right))
    return float(positive[inside].sum() / positive.sum() - seen[inside].sum() / seen.sum())


def with_box(change):
    return lambda heat, box: right(heat, change(*box))


def with_heat(change):
    """The right measure of a changed map; what was never seen stays unseen."""
    return lambda heat, box: right(torch.where(heat.isnan(), heat, change(heat)), box)


def signed(heat, box):
    left, top, right, bottom = box
    heat, seen = heat.nan_to_num(0), ~heat.isnan()
    inside = (slice(top, bottom), slice(left, right))
    return heat[inside].sum() / heat.sum() - seen[inside].sum() / seen.sum()


def energy(heat, box, empty=0.0):
    left, top, right, bottom = box
    positive = heat.nan_to_num(empty).clamp(min=0)
    return positive[top:bottom, left:right].sum() / positive.sum()


def area(box):
    return (box[2] - box[0]) * (box[3] - box[1])


def forgets_nan(heat, box):
    left, top, right, bottom = box
    positive = heat.clamp(min=0)
    return positive[top:bottom, left:right].sum() / positive.sum() - area(box) / heat.numel()


def in_place(heat, box):
    value = right(heat, box)
    heat.nan_to_num_(0).clamp_(min=0)
    return value


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda heat, box: None, "No answer yet"),
        (lambda heat, box: ..., "No answer yet"),
        (right, "Right: a map that is the same everywhere"),
        (lambda heat, box: torch.tensor(right(heat, box)), "Right: a map that is the same everywhere"),
        (with_box(lambda left, top, right, bottom: (top, left, bottom, right)), "x and y are exchanged"),
        (with_box(lambda left, top, right, bottom: (left, top, right + 1, bottom + 1)), "the edges are counted"),
        (
            with_box(lambda left, top, right, bottom: (left, top, left + right, top + bottom)),
            "left, top, width, height",
        ),
        (signed, "negative evidence is counted too"),
        (with_heat(torch.abs), "do not take abs"),
        (with_heat(lambda heat: heat - heat[~heat.isnan()].min()), "the minimum was subtracted"),
        (energy, "the share is not subtracted"),
        (lambda heat, box: energy(heat, box) / area(box) * heat.numel(), "divided by the share"),
        (lambda heat, box: -right(heat, box), "the sign is swapped"),
        (lambda heat, box: energy(heat, box) + area(box) / heat.numel(), "the share is added"),
        (lambda heat, box: area(box) / heat.numel(), "the box's share alone"),
        (
            lambda heat, box: energy(heat, box) - area(box) / heat.numel(),
            "NaN in the 4 columns at each side, pixels that the network never saw are counted in the box's share",
        ),
        (
            lambda heat, box: energy(heat, box) - area(box) / (~heat.isnan()).sum(),
            "counts box pixels that were never seen",
        ),
        (forgets_nan, "the answer is NaN"),
        (in_place, "changes the map in place"),
        (lambda heat, box: (energy(heat, box), 0.5), "a tuple of 2"),
        (lambda heat, box: heat, "a tensor (9, 14)"),
        (lambda heat, box: "much", "this is 'much'"),
        (lambda heat, box: 7.0, "the answer is 7.000, not"),
        (lambda heat, box: heat[box], "it raises IndexError"),
        (
            lambda heat, box: energy(heat, (box[1], box[0], box[3], box[2])),
            "x and y are exchanged: the first index of a map is the row, y; the share is not subtracted",
        ),
    ],
)
def test_energy_above_chance(function, says):
    assert says in check.energy_above_chance(function)


def test_solution_passes(capsys):
    assert "Right: a map that is the same everywhere" in run_solution(
        "09_against_boxes", capsys, check=check, torch=torch
    )
