"""Chapter 03's check names the mistake, and its folded solution passes."""

import pytest
from checks import gap_weights as check

from tests.checks.solutions import run_solution


def pooled(f):
    return f.mean((1, 2))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda f, w, b, k: None, "No answer yet"),
        (lambda f, w, b, k: w[k] @ pooled(f) + b[k], "Right"),
        (lambda f, w, b, k: float(w[k] @ pooled(f) + b[k]), "Right"),
        (lambda f, w, b, k: (w @ f.flatten(1)).mean(1)[k] + b[k], "Right"),
        (lambda f, w, b, k: w[k] @ f.sum((1, 2)) + b[k], "the cells are summed"),
        (lambda f, w, b, k: w[k] @ f.amax((1, 2)) + b[k], "the largest cell is taken"),
        (lambda f, w, b, k: w[k] @ pooled(f), "the bias is missing"),
        (lambda f, w, b, k: sum(w[k, c] * f[c].mean() + b[k] for c in range(len(f))), "once per channel"),
        (lambda f, w, b, k: (w[k] * pooled(f) + b[k]).sum(), "once per channel"),
        (lambda f, w, b, k: w[k] @ pooled(f) + b.sum(), "biases of all classes"),
        (lambda f, w, b, k: w[:, k] @ pooled(f) + b[k], "is a column"),
        (lambda f, w, b, k: (w[k] * pooled(f)).mean() + b[k], "averaged over the channels"),
        (lambda f, w, b, k: w[k] @ f.sum((1, 2)), "the cells are summed; GAP takes their mean; the bias is missing"),
        (lambda f, w, b, k: w @ pooled(f) + b, "all classes at once"),
        (lambda f, w, b, k: w[k] * pooled(f), "a value per channel"),
        (lambda f, w, b, k: (w[k, :, None, None] * f).sum(0) + b[k], "a value per cell"),
        (lambda f, w, b, k: w[k, :, None, None] * f, "nothing is pooled"),
        (lambda f, w, b, k: f[:, :2, 0], "has the shape (6, 2)"),
        (lambda f, w, b, k: w[0] @ pooled(f) + b[0], "the logit of class 0; class 2 was asked for"),
        (lambda f, w, b, k: 0.25, "your function gives 0.250"),
        (lambda f, w, b, k: float("nan"), "your function gives nan"),
        (lambda f, w, b, k: "9.188", "one number; your function returns a str"),
        (lambda f, w, b, k: w[k] @ f.mean(0) + b[k], "raises RuntimeError"),
        (lambda f, w, b, k: w[k, :6] @ pooled(f)[:6] + b[k], "Not yet"),
    ],
)
def test_rebuilt_logit(answer, says):
    assert says in check.rebuilt_logit(answer)


def test_solution_passes(capsys):
    assert "Right" in run_solution("03_gap_weights", capsys, check=check)
