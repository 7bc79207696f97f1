"""Chapter 09's checks name the mistake, accept every right form, and the folded solutions pass."""

import numpy as np
import pytest
import torch
from checks import against_boxes as check
from scipy import stats

from camlib import evaluate
from tests.checks.solutions import solutions


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
        (lambda heat, box: np.float32(right(heat, box)), "Right: a map that is the same everywhere"),
        (lambda heat, box: np.array([right(heat, box)]), "Right: a map that is the same everywhere"),
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


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda heat: None, "No answer yet"),
        (lambda heat: ..., "No answer yet"),
        (lambda heat: heat.clamp(min=0) ** 2, "Right: each pixel keeps its rank"),
        (lambda heat: heat**3, "Right: each pixel keeps its rank"),
        (lambda heat: heat * heat.abs(), "Right: each pixel keeps its rank"),
        (lambda heat: torch.expm1(heat), "Right: each pixel keeps its rank"),
        (lambda heat: (heat.clamp(min=0) ** 4).numpy(), "Right: each pixel keeps its rank"),
        (lambda heat: (heat.clamp(min=0).double() ** 4).tolist(), "Right: each pixel keeps its rank"),
        (lambda heat: list(heat.clamp(min=0) ** 2), "Right: each pixel keeps its rank"),
        (lambda heat: heat**2, "An even power loses the sign"),
        (lambda heat: heat.exp(), "exp makes every value positive"),
        (lambda heat: (heat.clamp(min=0) / heat.max()) ** 60, "too high a power rounds small values to zero"),
        (lambda heat: 2 * heat, "a factor cancels"),
        (lambda heat: heat, "a factor cancels"),
        (lambda heat: heat.clamp(min=0).sqrt(), "this flattens the map"),
        (lambda heat: heat.sqrt(), "NaN or infinite"),
        (lambda heat: (heat - 1).clamp(min=0), "cut nothing off"),
        (lambda heat: -heat, "evidence against the class has become"),
        (lambda heat: heat.clamp(min=0).flip(1), "evidence against the class has become"),
        (lambda heat: torch.where(heat > 5, 10.0, heat), "lost their rank"),
        (lambda heat: torch.where(heat > 5, 1.0, heat), "the order of the pixels has changed"),
        (lambda heat: heat.pow_(3), "changes the map in place"),
        (lambda heat: heat[None] ** 3, "this is (1, 9, 14)"),
        (lambda heat: "sharp", "this is a str"),
        (lambda heat: 1 / 0, "it raises ZeroDivisionError"),
    ],
)
def test_sharper(function, says):
    assert says in check.sharper(function)


def gaps(one, other, photos, per_photo=True):
    values = np.array(one) - np.array(other)
    return (
        np.array([values[[p == name for p in photos]].mean() for name in sorted(set(photos))]) if per_photo else values
    )


def student(values, factor=None, ddof=1, root=True):
    n = len(values)
    reach = (factor or stats.t.ppf(0.975, n - 1)) * values.std(ddof=ddof) / (n**0.5 if root else 1)
    return values.mean(), values.mean() - reach, values.mean() + reach


def unpaired(one, other, photos):
    a, b = gaps(one, 0 * one, photos), gaps(other, 0 * other, photos)
    reach = stats.t.ppf(0.975, 2 * len(a) - 2) * np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / len(a))
    return a.mean() - b.mean(), a.mean() - b.mean() - reach, a.mean() - b.mean() + reach


def changes(one, other, photos):
    one -= other
    return student(gaps(one, 0 * one, photos))


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda *_: None, "No answer yet"),
        (lambda one, other, photos: student(gaps(one, other, photos)), "Right: one difference per photo"),
        (lambda one, other, photos: evaluate.t_interval(one - other, photos), "Right: one difference per photo"),
        (lambda *args: torch.tensor(student(gaps(*args))), "Right: one difference per photo"),
        (lambda *args: np.array(student(gaps(*args)), dtype=np.float32), "Right: one difference per photo"),
        (lambda *args: [torch.tensor(v) for v in student(gaps(*args))], "Right: one difference per photo"),
        (lambda one, other, photos: student(gaps(other, one, photos)), "the sign is swapped"),
        (lambda *args: student(gaps(*args, per_photo=False)), "two classes on one photo are not independent"),
        (lambda *args: student(gaps(*args), factor=1.96), "normal distribution's 1.96"),
        (lambda *args: student(gaps(*args), factor=stats.norm.ppf(0.975)), "normal distribution's 1.96"),
        (lambda *args: student(gaps(*args), factor=1), "one standard error"),
        (lambda *args: student(gaps(*args), ddof=0), "ddof=1"),
        (lambda *args: student(gaps(*args), root=False), "not divided by √n"),
        (lambda *args: student(gaps(*args), factor=stats.t.ppf(0.95, len(set(args[2])) - 1)), "take 0.975"),
        (lambda *args: student(gaps(*args), factor=stats.t.ppf(0.975, len(set(args[2])))), "n − 1 degrees of freedom"),
        (
            lambda *args: student(gaps(*args, per_photo=False), factor=1.96),
            "Average per photo first; the factor is the normal",
        ),
        (unpaired, "treated as different samples"),
        (changes, "changes its inputs in place"),
        (lambda *args: student(gaps(*args))[1:], "This is 2 numbers"),
        (lambda *args: "wide", "This is str"),
        (lambda *args: 0.1, "This is 1 number."),
        (lambda *args: (0.1, 0.2, 0.3), "in this order"),
        (lambda *args: (np.nan, np.nan, np.nan), "photos is a list, so photos == name is just False"),
        (lambda *args: (0.1, 0.0, 0.3), "the mean is 0.100"),
        (lambda *args: (gaps(*args).mean(), -1, 1), "the mean is right, but the ends"),
        (
            lambda one, other, photos: evaluate.interval(one - other, photos),
            "the mean is 0.140, not that of the photos' mean differences, 0.134",
        ),
        (lambda *args: 1 / 0, "it raises ZeroDivisionError"),
    ],
)
def test_paired(function, says):
    assert says in check.paired(function)


def test_the_given_values_tell_the_mistakes_apart():
    for one, other, photos in check.PAIRED:
        found = [values for _, values in check._intervals(np.array(one), np.array(other), photos)]
        assert not any(np.allclose(found[0], values, atol=1e-3) for values in found[1:])


def test_solutions_pass(capsys):
    names = {"check": check, "torch": torch, "np": np, "evaluate": evaluate}
    for code in solutions("09_against_boxes"):
        exec(code, names)
    assert capsys.readouterr().out.count("Right: ") == 3
