"""Chapter 10's checks name the mistake, accept every right form, and the folded solutions pass."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from checks import sanity as check
from drawings import sanity as draw
from scipy import stats

import camlib
from camlib import sanity
from tests.checks.solutions import solutions


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
        (lambda a, b: np.float32(right(a, b)), "Right: the correlation of the ranks"),
        (lambda a, b: np.array([[right(a, b)]]), "Right: the correlation of the ranks"),
        (lambda a, b: stats.spearmanr(a.flatten(), b.flatten()).statistic, "Right: the correlation of the ranks"),
        (lambda a, b: np.zeros(3), "this is an array (3,)"),
        (lambda a, b: abs(right(a, b)), "The sign is lost"),
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


def peaked(mean, row, column):
    m = torch.full((7, 7), float(mean) - 1)
    m[row, column] += 49
    return m


def one_cell(logit, bias, row, column):
    m = torch.zeros(7, 7)
    m[row, column] = 49 * (logit - bias)
    return m


def double(logit, bias, row, column):
    m = torch.full((7, 7), logit - bias - 2)
    m[row, column] += 49
    m[6, 6] += 49
    return m


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda *_: None, "No answer yet"),
        (lambda *_: ..., "No answer yet"),
        (lambda *_: 1 / 0, "it raises: division by zero"),
        (lambda *_: "red", "this is str"),
        (lambda *_: torch.zeros(49), "this is (49,)"),
        (lambda logit, bias, row, column: peaked(logit - bias, row, column), "Right: it passes the identity"),
        (lambda logit, bias, row, column: peaked(logit - bias, row, column).numpy(), "Right: it passes"),
        (lambda logit, bias, row, column: peaked(logit - bias, row, column).tolist(), "Right: it passes"),
        (lambda logit, bias, row, column: peaked(logit - bias, row, column).double(), "Right: it passes"),
        (lambda logit, bias, row, column: np.flipud(np.flipud(peaked(logit - bias, row, column))), "Right: it passes"),
        (lambda logit, bias, row, column: 1e4 * (p := peaked(0, row, column)) - 1e4 * p.mean() + logit - bias, "Right"),
        (lambda logit, bias, row, column: peaked(logit, row, column), "The identity has the bias, too"),
        (lambda logit, bias, row, column: peaked(logit + bias, row, column), "the bias has the wrong sign"),
        (lambda logit, bias, row, column: peaked(logit - bias, row, column) / 49, "The identity is about their mean"),
        (lambda logit, bias, row, column: peaked(1, row, column), "mean + bias is 0.70"),
        (lambda logit, bias, row, column: torch.full((7, 7), logit - bias), "several cells share the largest"),
        (double, "several cells share the largest"),
        (lambda logit, bias, row, column: peaked(logit - bias, column, row), "row and column are swapped"),
        (lambda logit, bias, row, column: peaked(logit - bias, 3, 3), "the largest cell is (3, 3)"),
        (one_cell, "has the *smallest* value"),
    ],
)
def test_forged(function, says):
    assert says in check.forged(function)


def spans(cells, size, side):
    middles = [8 * n + 4 for n in range(cells)]
    return [slice(max(0, m - size // 2), min(side, m + size // 2)) for m in middles]


def falls(logit, x, cells, size):
    board = torch.empty(cells, cells)
    for row, rows in enumerate(spans(cells, size, x.shape[2])):
        for column, columns in enumerate(spans(cells, size, x.shape[3])):
            changed = x.clone()
            changed[..., rows, columns] = 0
            board[row, column] = logit(x) - logit(changed)
    return board


def with_start(start, stop, value=0.0, channels=slice(None)):
    """Patches from start(n, size) to stop(n, size)."""

    def function(logit, x, cells, size):
        board = torch.empty(cells, cells)
        for row in range(cells):
            for column in range(cells):
                changed = x.clone()
                rows, columns = (slice(start(n, size), stop(n, size)) for n in (row, column))
                changed[:, channels, rows, columns] = value
                board[row, column] = logit(x) - logit(changed)
        return board

    return function


def middle(n, size):
    return max(0, 8 * n + 4 - size // 2)


def end(n, size):
    return 8 * n + 4 + size // 2


def one_copy(logit, x, cells, size):
    board, changed = torch.empty(cells, cells), x.clone()
    for row, rows in enumerate(spans(cells, size, x.shape[2])):
        for column, columns in enumerate(spans(cells, size, x.shape[3])):
            changed[..., rows, columns] = 0
            board[row, column] = logit(x) - logit(changed)
    return board


def moved(logit, x, cells, size):
    board = torch.empty(cells, cells)
    for row in range(cells):
        for column in range(cells):
            changed = x.clone()
            top, left = (min(middle(n, size), x.shape[-1] - size) for n in (row, column))
            changed[..., top : top + size, left : left + size] = 0
            board[row, column] = logit(x) - logit(changed)
    return board


def on_x(logit, x, cells, size):
    x[..., :8, :8] = 0
    return torch.zeros(cells, cells)


def logits_only(logit, x, cells, size):
    return logit(x) - falls(logit, x, cells, size)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda *_: None, "No answer yet"),
        (lambda *_: ..., "No answer yet"),
        (lambda *_: 1 / 0, "it raises: division by zero"),
        (lambda *_: "red", "this is str"),
        (lambda *_: torch.zeros(7, 7), "this is (7, 7)"),
        (falls, "Right: the fall of the logit"),
        (lambda *args: falls(*args).numpy(), "Right: the fall"),
        (lambda *args: falls(*args).tolist(), "Right: the fall"),
        (lambda *args: [list(row) for row in falls(*args)], "Right: the fall"),
        (lambda *args: falls(*args).flatten(), "Right: the fall"),
        (lambda *args: falls(*args)[None], "Right: the fall"),
        (with_start(middle, end), "Right: the fall"),
        (lambda *args: -falls(*args), "The sign is swapped"),
        (logits_only, "logits of the covered inputs"),
        (lambda *args: falls(*args).T, "Rows and columns are swapped"),
        (with_start(lambda n, size: 8 * n, lambda n, size: 8 * n + size), "Centre it on the cell"),
        (with_start(lambda n, size: 8 * n, lambda n, size: 8 * n + 8), "whatever `size` says"),
        (
            with_start(lambda n, size: max(0, 8 * n + 4 - size), lambda n, size: 8 * n + 4 + size),
            "The patch is twice as large",
        ),
        (with_start(lambda n, size: 8 * n + 4 - size // 2, end), "Use `max(0, …)`"),
        (with_start(middle, lambda n, size: middle(n, size) + size), "the patch keeps its size. Cut it off"),
        (moved, "is moved inwards"),
        (with_start(lambda n, size: max(0, 8 * n - size // 2), lambda n, size: 8 * n + size // 2), "upper left corner"),
        (
            with_start(lambda n, size: max(0, 32 * n + 16 - size // 2), lambda n, size: 32 * n + 16 + size // 2),
            "Compute its side",
        ),
        (with_start(middle, end, 1.0), "The patch is white"),
        (with_start(middle, end, 0.5), "The patch is 0.5"),
        (with_start(middle, end, 0.0, slice(0, 1)), "Only one colour channel"),
        (one_copy, "Make a new copy for each cell"),
        (on_x, "changes x in place"),
        (lambda *args: 2 * falls(*args), "These are not the falls"),
    ],
)
def test_covered(function, says):
    assert says in check.covered(function)


def test_solutions_pass(capsys, monkeypatch):
    """The second one also covers a photo, so it needs a network, an input and a map: small ones here."""
    monkeypatch.setattr(camlib, "show", lambda fig, alt=None: None)
    x = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    clf = SimpleNamespace(module=lambda y: y.mean((2, 3)))
    names = {"torch": torch, "camlib": camlib, "check": check, "draw": draw, "clf": clf, "x": x}
    names |= {"best": SimpleNamespace(index=1), "m": torch.rand(7, 7)}
    for code in solutions("10_sanity"):
        exec(code, names)
    assert capsys.readouterr().out.count("Right: ") == 3
    assert names["by_size"][32].sum() == pytest.approx(float(x[0, 1].mean()), rel=1e-4), "the squares tile the input"
