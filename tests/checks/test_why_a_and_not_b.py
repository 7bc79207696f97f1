"""Chapter 07's check names the mistake, and its folded solution passes."""

import pytest
import torch
from checks import why_a_and_not_b as check

from tests.checks.solutions import run_solution


def maps(features, weight, a, b):
    return torch.einsum("c,chw->hw", weight[a], features), torch.einsum("c,chw->hw", weight[b], features)


def right(features, weight, bias, a, b):
    one, other = maps(features, weight, a, b)
    return one - other, (one - other).mean() + bias[a] - bias[b]


def stretch(m):
    return (m - m.min()) / (m.max() - m.min())


def swapped(features, weight, bias, a, b):
    return right(features, weight, bias, b, a)


def stretched_first(features, weight, bias, a, b):
    one, other = maps(features, weight, a, b)
    return stretch(one) - stretch(other), right(features, weight, bias, a, b)[1]


def clipped_first(features, weight, bias, a, b):
    one, other = maps(features, weight, a, b)
    return one.clamp(min=0) - other.clamp(min=0), 0.0


def only_a(features, weight, bias, a, b):
    return maps(features, weight, a, b)[0], 0.0


def in_place(features, weight, bias, a, b):
    weight[a] -= weight[b]
    return torch.einsum("c,chw->hw", weight[a], features), 0.0


def batched(features, weight, bias, a, b):
    return right(features, weight, bias, a, b)[0][None], 0.0


def with_map(change):
    """A right number with a map changed afterwards."""

    def function(features, weight, bias, a, b):
        cells, ratio = right(features, weight, bias, a, b)
        return change(cells), ratio

    return function


def with_number(number):
    """A right map with another number."""

    def function(features, weight, bias, a, b):
        cells, ratio = right(features, weight, bias, a, b)
        probability = (torch.einsum("kc,chw->khw", weight, features).mean((1, 2)) + bias).softmax(0)
        return cells, number(cells, ratio, bias[a] - bias[b], probability[a] - probability[b])

    return function


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda *_: None, "No answer yet"),
        (lambda *_: 3.0, "Two things are asked for"),
        (lambda *_: 1 / 0, "it raises: division by zero"),
        (lambda *_: ([1.0], 0.0), "this is list"),
        (right, "Right: the contrast map"),
        (swapped, "The sign is swapped"),
        (stretched_first, "stretched to 0..1 before"),
        (clipped_first, "cut off before the subtraction"),
        (only_a, "the row of b is not subtracted"),
        (in_place, "changes its inputs in place"),
        (batched, "this is (1, 3, 4)"),
        (with_map(stretch), "was rescaled"),
        (with_map(lambda m: m / m.abs().max()), "was rescaled"),
        (with_map(lambda m: m.clamp(min=0)), "they are what speaks for b"),
        (with_map(lambda m: 2 * m), "Subtract two rows"),
        (with_number(lambda cells, *_: cells.mean()), "lacks the biases"),
        (with_number(lambda cells, ratio, biases, _: ratio - 2 * biases), "the biases have the wrong sign"),
        (with_number(lambda cells, ratio, *_: -ratio), "its sign swapped"),
        (with_number(lambda cells, ratio, biases, _: cells.sum() + biases), "cells were summed"),
        (with_number(lambda cells, ratio, *_: ratio.exp()), "is the ratio p_a / p_b"),
        (with_number(lambda cells, ratio, biases, p: p), "is p_a - p_b"),
        (with_number(lambda cells, *_: cells), "this has shape (3, 4)"),
        (with_number(lambda *_: "much"), "a number, or a tensor with one; this is str"),
        (with_number(lambda cells, ratio, *_: ratio + 1), "is not log(p_a / p_b)"),
    ],
)
def test_contrast_logit(function, says):
    assert says in check.contrast_logit(function)


def test_solution_passes(capsys):
    assert "Right: the contrast map" in run_solution("07_why_a_and_not_b", capsys, torch=torch, check=check)
