"""Chapter 01's check names the mistake, and its folded solution passes."""

import pytest
import torch
from checks import what_the_network_says as check

import camlib
from tests.checks.solutions import run_solution


def naive(z):
    return z.exp() / z.exp().sum()


def stable(z):
    return torch.softmax(z, 0)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda z, c: None, "No answer yet"),
        (lambda z, c: ..., "No answer yet"),
        (lambda z, c: stable(z[c]), "Right: positive"),
        (lambda z, c: stable(z[c]).tolist(), "Right: positive"),
        (lambda z, c: stable(z)[c] / stable(z)[c].sum(), "Right: positive"),
        (lambda z, c: naive(z[c]), "Subtract the largest"),
        (lambda z, c: naive(z)[c] / naive(z)[c].sum(), "Subtract the largest"),
        (lambda z, c: stable(z), "Choose the classes first"),
        (lambda z, c: stable(z)[c], "among all classes"),
        (lambda z, c: stable(stable(z)[c]), "softmax of probabilities"),
        (lambda z, c: stable(stable(z[c])), "softmax of probabilities"),
        (lambda z, c: z[c] / z[c].sum(), "Take the exponential"),
        (lambda z, c: z[c].log_softmax(0), "logarithms"),
        (lambda z, c: stable(z[c]).sort(descending=True).values, "wrong order"),
        (lambda z, c: z[c].sigmoid(), "not to 1"),
        (lambda z, c: torch.full((len(c),), 1 / len(c)), "their ratios"),
        (lambda z, c: z.softmx(0), "among raised"),
    ],
)
def test_among(answer, says):
    assert says in check.among(answer)


def test_solution_passes(clf, capsys):
    logits = camlib.explain(clf, "data/photos/grace_hopper.jpg").logits
    printed = run_solution("01_what_the_network_says", capsys, clf=clf, check=check, logits=logits, softmax=stable)
    assert "Right: positive" in printed
    assert "military uniform" in printed
