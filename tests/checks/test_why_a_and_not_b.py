"""Chapter 07's checks name the mistake, accept every right form, and the folded solutions pass."""

import numpy as np
import pytest
import torch
from checks import why_a_and_not_b as check
from drawings import why_a_and_not_b as draw

import camlib
from tests.checks.solutions import solutions


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


def biases_in_cells(features, weight, bias, a, b):
    cells = right(features, weight, bias, a, b)[0] + bias[a] - bias[b]
    return cells, cells.mean()


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
        (lambda *_: 3.0, "Return two results"),
        (lambda *_: 1 / 0, "it raises: division by zero"),
        (lambda *_: ([1.0], 0.0), "this is (1,)"),
        (right, "Right: the contrast map"),
        (lambda *args: list(right(*args)), "Right: the contrast map"),
        (lambda *args: (right(*args)[0].numpy(), float(right(*args)[1])), "Right: the contrast map"),
        (lambda *args: (np.flip(right(*args)[0].flip(0).numpy(), 0), right(*args)[1]), "Right: the contrast map"),
        (
            lambda *args: ([r[::-1] for r in right(*args)[0].flip(1).numpy()], right(*args)[1]),
            "Right: the contrast map",
        ),
        (lambda *args: (right(*args)[0].tolist(), right(*args)[1].numpy()), "Right: the contrast map"),
        (lambda *args: (list(right(*args)[0]), right(*args)[1].reshape(1)), "Right: the contrast map"),
        (lambda *_: ..., "No answer yet"),
        (lambda *_: ("much", 0.0), "this is str"),
        (swapped, "The sign is swapped"),
        (stretched_first, "stretched to 0..1 before"),
        (clipped_first, "cut off before the subtraction"),
        (only_a, "the row of b is not subtracted"),
        (in_place, "the caller may still need them"),
        (biases_in_cells, "biases were added to every cell"),
        (batched, "this is (1, 3, 4)"),
        (with_map(stretch), "was rescaled"),
        (with_map(lambda m: m / m.abs().max()), "was rescaled"),
        (with_map(lambda m: m.clamp(min=0)), "they are the evidence for b"),
        (with_map(torch.abs), "the absolute value"),
        (with_map(lambda m: 2 * m), "Subtract two rows"),
        (with_number(lambda cells, *_: cells.mean()), "lacks the biases"),
        (with_number(lambda cells, ratio, biases, _: ratio - 2 * biases), "the biases have the wrong sign"),
        (with_number(lambda cells, ratio, *_: -ratio), "the number has the wrong sign"),
        (with_number(lambda cells, ratio, biases, _: cells.sum() + biases), "cells were summed"),
        (with_number(lambda cells, ratio, *_: ratio.exp()), "is the ratio p_a / p_b"),
        (with_number(lambda cells, ratio, biases, p: p), "is p_a - p_b"),
        (with_number(lambda cells, *_: cells), "this has shape (3, 4)"),
        (with_number(lambda *_: "much"), "a tensor that holds one; this is str"),
        (with_number(lambda cells, ratio, *_: ratio + 1), "is not log(p_a / p_b)"),
    ],
)
def test_contrast_logit(function, says):
    assert says in check.contrast_logit(function)


def shares(logits, a):
    p = logits.softmax(0)
    p[a] = 0
    return p / p.sum()


def rest(maps, logits, a):
    return maps[a] - torch.einsum("k,khw->hw", shares(logits, a), maps)


def without(t, a):
    return t[torch.arange(len(t)) != a]


def weighted_by(weights):
    return lambda maps, logits, a: maps[a] - torch.einsum("k,khw->hw", weights(logits, a), maps)


def logits_but_a(logits, a):
    raw = logits.clone()
    raw[a] = 0
    return raw


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda *_: None, "No answer yet"),
        (lambda *_: ..., "No answer yet"),
        (lambda *_: 1 / 0, "it raises: division by zero"),
        (lambda *_: "red", "this is str"),
        (lambda *_: 3, "this is ()"),
        (lambda maps, logits, a: maps, "this is (4, 3, 5)"),
        (rest, "Right: class a against the others"),
        (lambda *args: rest(*args).numpy(), "Right: class a against the others"),
        (lambda *args: rest(*args).tolist(), "Right: class a against the others"),
        (lambda maps, logits, a: -rest(maps, logits, a), "the sign is swapped"),
        (weighted_by(lambda logits, a: logits.softmax(0)), "a itself is among the others"),
        (
            weighted_by(lambda logits, a: logits.softmax(0) / (1 - logits.softmax(0)[a])),
            "still among the others",
        ),
        (weighted_by(lambda logits, a: shares(logits, a) * (1 - logits.softmax(0)[a])), "do not add up to 1"),
        (lambda maps, logits, a: maps[a] - without(maps, a).mean(0), "all the others count the same"),
        (lambda maps, logits, a: maps[a] - maps.mean(0), "and a is among them"),
        (lambda maps, logits, a: maps[a] - maps[shares(logits, a).argmax()], "only the best of the others"),
        (lambda maps, logits, a: maps[a] - without(maps, a).sum(0), "were added up"),
        (weighted_by(logits_but_a), "the weights are logits"),
        (weighted_by(lambda logits, a: logits_but_a(logits, a).softmax(0)), "exp(0) is 1"),
        (weighted_by(lambda logits, a: (shares(logits, a) * (1 - logits.softmax(0)[a])).softmax(0)), "taken twice"),
        (weighted_by(lambda logits, a: shares(logits, a) / len(logits)), "were averaged: add them up"),
        (lambda maps, logits, a: maps[a] - rest(maps, logits, a), "mean of the others alone"),
        (lambda maps, logits, a: maps[a], "map of a alone"),
        (lambda *args: rest(*args).clamp(min=0), "the negative cells are gone"),
        (lambda *args: 2 * rest(*args), "Are the shares q right?"),
        (lambda maps, logits, a: logits.zero_(), "changes its inputs in place"),
    ],
)
def test_against_the_rest(function, says):
    assert says in check.against_the_rest(function)


def centred(weight, bias):
    return weight - weight.mean(0), bias - bias.mean()


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda *_: None, "No answer yet"),
        (lambda *_: 1 / 0, "it raises: division by zero"),
        (lambda weight, bias: weight, "Return two results"),
        (lambda weight, bias: (weight.mean(0), bias), "this is (6,)"),
        (lambda weight, bias: (weight, "none"), "this is no tensor"),
        (centred, "Your zero is the mean of all classes"),
        (lambda *args: [t.numpy() for t in centred(*args)], "Your zero is the mean of all classes"),
        (lambda *args: [t.tolist() for t in centred(*args)], "Your zero is the mean of all classes"),
        (
            lambda weight, bias: (weight - weight[0], bias - bias[0]),
            "zero is not the mean of all classes",
        ),
        (
            lambda weight, bias: (weight - weight.mean(0), bias - bias[0]),
            "zero is not the mean of all classes",
        ),
        (lambda weight, bias: (weight, bias), "A vector v added to every row is still in your rows"),
        (lambda weight, bias: (weight - weight.mean(), bias - bias.mean()), "You subtract one number"),
        (lambda weight, bias: (weight - weight.mean(1, keepdim=True), bias), "a different number from each row"),
        (lambda weight, bias: (weight / weight.norm(dim=1, keepdim=True), bias), "were rescaled"),
        (lambda weight, bias: (2 * weight, bias), "differences of the rows have changed"),
        (lambda weight, bias: (weight - weight.mean(0), bias), "The biases share a number, too"),
        (lambda weight, bias: (weight - weight.mean(0), bias - bias.sum()), "f(bias + 5) is not yet f(bias)"),
        (lambda weight, bias: (weight - weight.mean(0), 0 * bias), "differences of the biases have changed"),
        (lambda weight, bias: (weight.sub_(1), bias), "changes its inputs in place"),
        (lambda weight, bias: (np.float32(0), bias), "this is ()"),
    ],
)
def test_without_shared(function, says):
    assert says in check.without_shared(function)


def test_solutions_pass(clf, capsys, monkeypatch):
    monkeypatch.setattr(camlib, "show", lambda fig, alt=None: None)
    hopper, cat = (camlib.explain(clf, f"data/photos/{name}.jpg") for name in ("grace_hopper", "cat"))
    pair = ("academic gown", "military uniform")
    names = {"torch": torch, "camlib": camlib, "check": check, "draw": draw, "clf": clf, "hopper": hopper, "cat": cat}
    names |= {"a": clf.index(pair[0]), "contrast": hopper.contrast(*pair), "v": torch.ones(1280)}
    for code in solutions("07_why_a_and_not_b"):
        exec(code, names)
    assert capsys.readouterr().out.count("Right: ") == 3
    assert torch.allclose(names["repaired"], cat.map("tiger cat"), atol=0.2), "the twin's map is repaired"
