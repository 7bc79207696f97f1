"""Chapter 10's check names the mistake, and its folded solution passes."""

import pytest
import torch
from checks import sanity as check
from scipy import stats

from camlib import sanity
from tests.checks.solutions import run_solution


def pearson(u, v):
    u, v = u.flatten().float(), v.flatten().float()
    u, v = u - u.mean(), v - v.mean()
    return float((u * v).sum() / (u.norm() * v.norm()))


def ranked(m):
    return torch.from_numpy(stats.rankdata(m.flatten().numpy()))


def places(m):
    return m.flatten().argsort().argsort()


def right(a, b):
    return pearson(ranked(a), ranked(b))


def in_place(a, b):
    a -= a.mean()
    return right(a, b)


def short_formula(a, b):
    n = a.numel()
    return 1 - 6 * float(((ranked(a) - ranked(b)) ** 2).sum()) / (n * (n**2 - 1))


def uneven(a, b):
    u, v = ranked(a), ranked(b)
    u, v = u - u.mean(), v - v.mean()
    return (u * v).mean() / (u.std() * v.std())


def uncentred(a, b):
    u, v = ranked(a), ranked(b)
    return float((u * v).sum() / (u.norm() * v.norm()))


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda a, b: None, "No answer yet"),
        (lambda a, b: "alike", "this is str"),
        (lambda a, b: (right(a, b), 0.0), "this is tuple"),
        (lambda a, b: ranked(a), "this is a tensor (20,)"),
        (lambda a, b: 1 / 0, "it raises: division by zero"),
        (lambda a, b: float("nan"), "NaN"),
        (right, "Right: the correlation of the ranks"),
        (sanity.rank_correlation, "Right: the correlation of the ranks"),
        (lambda a, b: torch.tensor([right(a, b)]), "Right: the correlation of the ranks"),
        (in_place, "changes the maps in place"),
        (pearson, "correlation of the values"),
        (lambda a, b: pearson(a.flatten().argsort(), b.flatten().argsort()), "argsort of the argsort"),
        (lambda a, b: pearson(a, ranked(b)), "Only one of the two maps"),
        (lambda a, b: -right(a, b), "The sign is swapped"),
        (lambda a, b: right(a, b) ** 2, "loses the sign"),
        (lambda a, b: right(a.abs(), b.abs()), "absolute values were ranked"),
        (lambda a, b: right(a.clamp(min=0), b.clamp(min=0)), "cut off before ranking"),
        (lambda a, b: pearson(places(a), places(b)), "share the mean of their ranks"),
        (lambda a, b: pearson(*(torch.from_numpy(stats.rankdata(m, "min")) for m in (a, b))), "share the mean"),
        (lambda a, b: pearson(*(torch.from_numpy(stats.rankdata(m, "dense")) for m in (a, b))), "share the mean"),
        (short_formula, "6 Σ d² does not hold"),
        (lambda a, b: float(((ranked(a) - 1) * (ranked(b) - 1)).sum()), "outside -1 to 1"),
        (uneven, "divide by different counts"),
        (uncentred, "not centred"),
        (lambda a, b: 0.123, "That is not the correlation of the ranks"),
        (lambda a, b: right(a, b) if len(a.unique()) == a.numel() else 0.5, "not with them"),
    ],
)
def test_ranks(function, says):
    assert says in check.ranks(function)


def test_solution_passes(capsys):
    assert "Right: the correlation of the ranks" in run_solution("10_sanity", capsys, torch=torch, check=check)
