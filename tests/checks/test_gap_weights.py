"""Chapter 03's checks name the mistake, and its folded solutions pass."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from checks import gap_weights as check
from torch import nn

import camlib
from tests.checks.solutions import solutions


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda m, w, b, k: None, "No answer yet"),
        (lambda m, w, b, k: ..., "No answer yet"),
        (lambda m, w, b, k: w[k] @ m + b[k], "Right"),
        (lambda m, w, b, k: float(w[k] @ m + b[k]), "Right"),
        (lambda m, w, b, k: (w[k] @ m + b[k]).numpy(), "Right"),
        (lambda m, w, b, k: [w[k] @ m + b[k]], "Right"),
        (lambda m, w, b, k: w[k].double() @ m.double() + b[k], "Right"),
        (lambda m, w, b, k: sum((w[k, c] * m[c] for c in range(len(m))), b[k]), "Right"),
        (lambda m, w, b, k: nn.functional.linear(m, w, b)[k], "Right"),
        (lambda m, w, b, k: w[k] @ m, "the bias is missing"),
        (lambda m, w, b, k: w[k] @ m - b[k], "you subtract the bias"),
        (lambda m, w, b, k: sum(w[k, c] * m[c] + b[k] for c in range(len(m))), "once per channel"),
        (lambda m, w, b, k: (w[k] * m + b[k]).sum(), "once per channel"),
        (lambda m, w, b, k: w[k] @ m + b.sum(), "biases of all classes"),
        (lambda m, w, b, k: w[:, k] @ m + b[k], "is a column"),
        (lambda m, w, b, k: (w[k] * m).mean() + b[k], "you average the products"),
        (lambda m, w, b, k: (w[k] * m).mean(), "you average the products; a logit is their sum; the bias is missing"),
        (lambda m, w, b, k: w @ m + b, "all classes at once"),
        (lambda m, w, b, k: w[k] @ m + b, "biases of all classes, so you get one number for each"),
        (lambda m, w, b, k: w[k] * m, "one value per channel"),
        (lambda m, w, b, k: w * m, "has the shape (6, 6)"),
        (lambda m, w, b, k: w[0] @ m + b[0], "the logit of class 0; the question is about class 2"),
        (lambda m, w, b, k: 0.25, "your function gives 0.250"),
        (lambda m, w, b, k: float("nan"), "your function gives nan"),
        (lambda m, w, b, k: "9.188", "one number; your function returns a str"),
        (lambda m, w, b, k: {}, "one number; your function returns a dict"),
        (lambda m, w, b, k: w[k] @ m[:3] + b[k], "raises RuntimeError"),
        (lambda m, w, b, k: w[k, :6] @ m[:6] + b[k], "Not yet"),
    ],
)
def test_one_logit(answer, says):
    assert says in check.one_logit(answer)


def difference(f, w, a, b):
    return (w[a] - w[b]) * f.mean((1, 2))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda f, w, a, b, n: None, "No answer yet"),
        (lambda f, w, a, b, n: difference(f, w, a, b).topk(n).indices, "Right"),
        (lambda f, w, a, b, n: difference(f, w, a, b).topk(n).indices.tolist(), "Right"),
        (lambda f, w, a, b, n: tuple(difference(f, w, a, b).topk(n).indices), "Right"),
        (lambda f, w, a, b, n: (-difference(f, w, a, b)).argsort()[:n].numpy(), "Right"),
        (lambda f, w, a, b, n: np.argsort(difference(f, w, a, b).numpy())[::-1][:n], "Right"),
        (lambda f, w, a, b, n: list(np.argsort(difference(f, w, a, b).numpy())[::-1][:n]), "Right"),
        (
            lambda f, w, a, b, n: difference(f, w, a, b).argmax() if n == 1 else difference(f, w, a, b).topk(n)[1],
            "Right",
        ),
        (lambda f, w, a, b, n: ((w[a] - w[b]) * f.sum((1, 2))).topk(n).indices, "Right"),
        (lambda f, w, a, b, n: difference(f, w, a, b).topk(n).values, "the differences themselves"),
        (lambda f, w, a, b, n: difference(f, w, a, b).topk(n).values + 0.1, "not channel numbers"),
        (lambda f, w, a, b, n: difference(f, w, a, b).topk(n), "give values and indices"),
        (lambda f, w, a, b, n: difference(f, w, a, b).argsort(), "6 channels are needed; your function returns 60"),
        (lambda f, w, a, b, n: difference(f, w, a, b).argsort()[-n:], "in the wrong order"),
        (lambda f, w, a, b, n: difference(f, w, b, a).topk(n).indices, "reverse the difference"),
        (lambda f, w, a, b, n: difference(f, w, a, b).abs().topk(n).indices, "the size of the difference"),
        (lambda f, w, a, b, n: (w[a] * f.mean((1, 2))).topk(n).indices, "what the channels give to class 2"),
        (lambda f, w, a, b, n: (w[b] * f.mean((1, 2))).topk(n).indices, "what the channels give to class 0"),
        (lambda f, w, a, b, n: (w[a] - w[b]).topk(n).indices, "multiply it by the means"),
        (lambda f, w, a, b, n: ((w[a] - w[b]) * f.amax((1, 2))).topk(n).indices, "largest cell"),
        (lambda f, w, a, b, n: ((w[a] + w[b]) * f.mean((1, 2))).topk(n).indices, "subtract them"),
        (lambda f, w, a, b, n: f.mean((1, 2)).topk(n).indices, "the means alone"),
        (lambda f, w, a, b, n: list(range(n)), "among the right ones"),
        (lambda f, w, a, b, n: [1000] * n, "between 0 and 59"),
        (lambda f, w, a, b, n: "1213", "returns a str"),
        (lambda f, w, a, b, n: f.mean(0) * w, "raises RuntimeError"),
    ],
)
def test_deciding(answer, says):
    assert says in check.deciding(answer)


def scale(norm):
    return norm.weight / (norm.running_var + norm.eps).sqrt()


def shift(norm):
    return norm.bias - norm.running_mean * scale(norm)


def right(norm, linear):
    return linear.weight * scale(norm), linear.bias + linear.weight @ shift(norm)


def by_running_it(norm, linear):
    channels = norm.num_features
    bias = linear(norm(torch.zeros(1, channels)))[0]
    return (linear(norm(torch.eye(channels))) - bias).T, bias


def in_a_layer(norm, linear):
    folded = nn.Linear(linear.in_features, linear.out_features)
    folded.weight.data, folded.bias.data = (t.detach() for t in right(norm, linear))
    return folded


def in_place(norm, linear):
    weight, bias = (t.detach() for t in right(norm, linear))
    linear.weight.data, linear.bias.data = weight, bias
    return linear


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda n, li: None, "No answer yet"),
        (right, "Right"),
        (lambda n, li: list(right(n, li)), "Right"),
        (lambda n, li: tuple(t.detach().numpy() for t in right(n, li)), "Right"),
        (lambda n, li: tuple(t.tolist() for t in right(n, li)), "Right"),
        (lambda n, li: tuple(t.double() for t in right(n, li)), "Right"),
        (lambda n, li: tuple(np.flip(t.detach().numpy()[::-1].copy(), 0) for t in right(n, li)), "Right"),
        (by_running_it, "Right"),
        (in_a_layer, "Right"),
        (in_place, "changes the layers"),
        (lambda n, li: right(n, li)[0], "Return a pair"),
        (lambda n, li: ("a", "b"), "Return a pair of tensors"),
        (lambda n, li: (li.weight, li.bias), "still that of the linear layer"),
        (lambda n, li: (li.weight * n.weight, li.bias), "the norm also divides"),
        (lambda n, li: (li.weight / (n.running_var + n.eps).sqrt(), li.bias), "multiplies by its own weight"),
        (lambda n, li: (li.weight * n.weight / (n.running_var + n.eps), li.bias), "square root"),
        (lambda n, li: (li.weight * n.weight / n.running_var.sqrt(), li.bias), "eps is missing"),
        (lambda n, li: (li.weight * n.weight / (n.running_var + 1e-5).sqrt(), li.bias), "or has another value"),
        (lambda n, li: (li.weight * n.weight / (n.running_var + n.momentum).sqrt(), li.bias), "norm.momentum"),
        (lambda n, li: (li.weight * n.weight / (n.running_var.sqrt() + n.eps), li.bias), "under the root"),
        (lambda n, li: (li.weight * n.weight / (n.running_var**2 + n.eps).sqrt(), li.bias), "do not square it"),
        (lambda n, li: (li.weight / scale(n), li.bias), "multiply by it"),
        (lambda n, li: (li.weight * scale(n)[:, None], li.bias), "multiply the columns"),
        (lambda n, li: ((li.weight * scale(n)).T, li.bias), "transposed"),
        (lambda n, li: (li.weight[:2], li.bias), "(K, C) is (6, 6)"),
        (lambda n, li: (li.weight * 2, li.bias), "the weight is wrong"),
        (lambda n, li: (right(n, li)[0], li.bias[:2]), "one number per class"),
        (lambda n, li: (right(n, li)[0], li.bias), "the bias must include that"),
        (lambda n, li: (right(n, li)[0], li.bias + li.weight @ n.bias), "running_mean is missing"),
        (lambda n, li: (right(n, li)[0], li.bias - li.weight @ (n.running_mean * scale(n))), "norm.bias is missing"),
        (lambda n, li: (right(n, li)[0], li.bias + li.weight @ (n.bias - n.running_mean)), "it is scaled, too"),
        (
            lambda n, li: (right(n, li)[0], li.bias + li.weight @ ((n.bias - n.running_mean) * scale(n))),
            "it is not scaled",
        ),
        (
            lambda n, li: (right(n, li)[0], li.bias + li.weight @ (n.bias + n.running_mean * scale(n))),
            "subtracted, not added",
        ),
        (lambda n, li: (right(n, li)[0], li.weight @ shift(n)), "linear layer is missing"),
        (lambda n, li: (right(n, li)[0], li.bias + right(n, li)[0] @ shift(n)), "a second time"),
        (lambda n, li: (right(n, li)[0], li.bias + n.bias), "reaches the classes through"),
        (lambda n, li: (right(n, li)[0], li.bias + 1), "the bias is not"),
        (lambda n, li: li.weight @ n, "raises TypeError"),
    ],
)
def test_fold(answer, says):
    assert says in check.fold(answer)


def test_a_transposed_weight_of_another_shape_is_named():
    norm, linear = check._head(1, 9, 5)
    assert "transpose it" in check._folding_fault((linear.weight.T, linear.bias), norm, linear)


def test_solutions_pass_and_fold_as_camlib_does(capsys):
    first, second, third = solutions("03_gap_weights")
    exec(first, {"check": check})
    features, weight = torch.rand(8, 2, 2), torch.randn(3, 8)
    exec(second, {"check": check, "features": features, "weight": weight, "k": 0, "other": 1})
    names = {"check": check}
    exec(third, names)
    assert capsys.readouterr().out.count("Right") == 3
    norm, linear = check._head(0, 6, 4)
    body = nn.Sequential(nn.Conv2d(3, 6, 3, stride=4), nn.ReLU())
    net = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), deepcopy(norm), linear).eval()
    head = camlib.find_head(net, torch.rand(1, 3, 32, 32))
    weight, bias = names["fold"](norm, linear)
    assert torch.allclose(head.weight, weight, atol=1e-5) and torch.allclose(head.bias, bias, atol=1e-5)
