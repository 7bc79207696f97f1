"""Chapter 00's checks name the mistake, and its folded solutions pass."""

import numpy as np
import pytest
import torch
from checks import first_heat_map as check

import camlib
from tests.checks.solutions import solutions

CHAPTER = "00_first_heat_map"


@pytest.fixture(scope="module")
def astronaut(clf):
    return camlib.explain(clf, "data/photos/astronaut.png")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, "No answer yet"),
        ((1, 5), "Right: cell (1, 5)"),
        ([1.0, 5.0], "Right: cell (1, 5)"),
        (torch.tensor([1, 5]), "Right: cell (1, 5)"),
        (torch.tensor([[1, 5]]), "Right: cell (1, 5)"),
        (np.array([1, 5]), "Right: cell (1, 5)"),
        ((torch.tensor(1), torch.tensor(5)), "Right: cell (1, 5)"),
        ((torch.tensor([1]), torch.tensor([5])), "Right: cell (1, 5)"),  # as where() gives it
        ((np.array([1]), np.array([5])), "Right: cell (1, 5)"),
        ((1.2, 5.0), "pair (row, column)"),
        ((5, 1), "that is (column, row)"),
        (12, "counts along the rows"),
        (torch.tensor(12), "counts along the rows"),
        ("upper right", "pair (row, column)"),
        ((1, 5, 3), "pair (row, column)"),
        ((1, 9), "no cell (1, 9)"),
        ((0, 0), "another cell has more"),
        ((5, 3), "smallest value"),
    ],
)
def test_strongest_cell(astronaut, answer, says):
    assert says in check.strongest_cell(astronaut, "space shuttle", answer)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda cells, bias: None, "No answer yet"),
        (lambda cells, bias: ..., "No answer yet"),
        (lambda cells, bias: cells.mean() + bias, "Right"),
        (lambda cells, bias: sum(cells.flatten().tolist()) / cells.numel() + bias, "Right"),
        (lambda cells, bias: np.mean(cells.numpy()) + bias, "Right"),
        (lambda cells, bias: (cells + bias).mean(), "Right"),
        (lambda cells, bias: (cells.mean() + bias)[None], "Right"),
        (lambda cells, bias: (cells.mean() + bias).numpy()[None].repeat(2)[::-1][:1], "Right"),  # strides below zero
        (lambda cells, bias: cells.mean(), "the bias is missing"),
        (lambda cells, bias: cells.sum() + bias, "take their mean"),
        (lambda cells, bias: (cells + bias).sum(), "add the bias to each cell and then"),
        (lambda cells, bias: cells.sum() / 49 + bias, "a different number of cells"),
        (lambda cells, bias: cells.mean() - bias, "subtracted"),
        (lambda cells, bias: cells.max() + bias, "the largest cell"),
        (lambda cells, bias: cells.sum(), "the sum, and the bias is missing"),
        (lambda cells, bias: cells.mean(0) + bias, "one number; yours has the shape"),
        (lambda cells, bias: "much", "returns a str"),
        (lambda cells, bias: cells.average(), "raises AttributeError"),
        (lambda cells, bias: 1.5, "yours is 1.500"),
        (lambda cells, bias: round(float(cells.mean() + bias), 2), "Do not round"),
        (torch.tensor(3.0), "the function itself"),
    ],
)
def test_logit_from(function, says):
    assert says in check.logit_from(function)


def test_strongest_classes(astronaut):
    here = astronaut.maps[:, 1, 5]
    right = here.topk(4).indices
    names = [astronaut.classifier.labels[k] for k in right.tolist()]
    assert names == ["projectile", "missile", "reel", "space shuttle"]
    for answer in (right, right.numpy(), right.tolist(), names, tuple(right)):
        assert check.strongest_classes(astronaut, (1, 5), answer).startswith("Right: projectile, missile")
    assert "Right" in check.strongest_classes(astronaut, (1, 5), (here + astronaut.bias).topk(4).indices)
    wrong = {
        "No answer yet": None,
        "in the wrong order": names[::-1],
        "for the whole photo": astronaut.logits.topk(4).indices,
        "row comes first": astronaut.maps[:, 5, 1].topk(4).indices,
        "1 of your four classes": ["missile", "tench", "goldfish", "hen"],
        "Four classes are needed": names[:3],
        "take .indices": here.topk(4).values,
        "values and indices": here.topk(4),
        "has no order": set(names),
        "no class": ["rocketship", *names[1:]],
    }
    for says, answer in wrong.items():
        assert says in check.strongest_classes(astronaut, (1, 5), answer), says


def test_the_solutions_pass(clf, astronaut, capsys, monkeypatch):
    monkeypatch.setattr(camlib, "show", lambda fig, **_: None)
    cat = camlib.explain(clf, "data/photos/cat.jpg")
    names = {"cat": cat, "evidence": cat.map("tiger cat"), "astronaut": astronaut, "check": check, "camlib": camlib}
    codes = solutions(CHAPTER)
    assert len(codes) == 3
    for code in codes:
        exec(code, names)
        assert capsys.readouterr().out.startswith("Right"), code
