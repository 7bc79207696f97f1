"""Chapter 13's checks name the mistake, accept every right form, and the folded solutions pass."""

import numpy as np
import pytest
import torch
from checks import every_network as check
from torch.nn import functional as F

from tests.checks.solutions import solutions


def relu_gate(x):
    return (x > 0).float()


def constant(value):
    return lambda z: value


def changes_input(x):
    def function(z):
        z.mul_(x > 0)
        return z

    return function


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda x: None, "No answer yet"),
        (lambda x: ..., "No answer yet"),
        (lambda x: 1 / 0, "it raises: division by zero"),
        (lambda x: relu_gate(x), "Return a function of another input, such as `lambda z: ...`; this is Tensor"),
        (lambda x: lambda z: 1 / 0, "The function that it returns raises: division by zero"),
        (lambda x: lambda z: None, "gives None"),
        (lambda x: lambda z: "much", "this is str"),
        (lambda x: lambda z: (relu_gate(x) * z).sum(), "output of the same shape; this is ()"),
        (check._relu, "Right: on at the photo"),
        (lambda x: lambda z: relu_gate(x) * z, "Right: on at the photo"),
        (lambda x: lambda z: torch.where(x >= 0, z, 0), "Right: on at the photo"),
        (lambda x: lambda z: z.masked_fill(x <= 0, 0), "Right: on at the photo"),
        (lambda x: lambda z: torch.where(x == 0, 0, F.relu(x) / torch.where(x == 0, 1, x)).detach() * z, "Right: on"),
        (lambda x: F.relu, "the gates move"),
        (lambda x: constant(F.relu(x)), "it gives the photo's output for every input"),
        (lambda x: lambda z: z, "all gates are open"),
        (lambda x: lambda z: (x < 0) * z, "the wrong way round"),
        (lambda x: lambda z: F.relu(relu_gate(x) * z), "no second ReLU"),
        (lambda x: lambda z: F.relu(x) * z, "it should be 0 or 1"),
        (lambda x: constant(relu_gate(x)), "it gives the gates"),
        (lambda x: lambda z: relu_gate(x) + z, "it adds the gates"),
        (lambda x: lambda z: F.relu(x) / x * z, "0 / 0, which is NaN"),
        (lambda x: lambda z: 2 * relu_gate(x) * z, "wrong for the photo itself"),
        (changes_input, "changes its input in place"),
        (lambda x: lambda z: (relu_gate(x) * z).numpy(), "stay with tensors"),
        (lambda x: lambda z: (relu_gate(x) * z).detach(), "do not detach z"),
        (lambda x: lambda z: F.relu(x) + relu_gate(x) * (z - x) ** 3, "right for the photo, but not gate · z"),
    ],
)
def test_freeze_relu(function, says):
    assert says in check.freeze_relu(function)


def gelu_gate(x):
    return torch.special.ndtr(x.detach())


def slope(x):
    leaf = x.detach().clone().requires_grad_()
    return torch.autograd.grad(F.gelu(leaf).sum(), leaf)[0]


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda x: None, "No answer yet"),
        (lambda x: gelu_gate(x), "this is Tensor"),
        (check._gelu, "Right: also where x is 0"),
        (lambda x: lambda z: (F.gelu(x) / x).nan_to_num(0.5).detach() * z, "Right: also where x is 0"),
        (lambda x: lambda z: (F.gelu(x) / torch.where(x == 0, 1, x)).detach() * z, "Right: also where x is 0"),
        (lambda x: lambda z: (1 + torch.erf(x.detach() / 2**0.5)) / 2 * z, "Right: also where x is 0"),
        (lambda x: lambda z: (F.gelu(x) / x).detach() * z, "0 / 0, which is NaN"),
        (lambda x: lambda z: torch.special.ndtr(x) * z, "take x.detach()"),
        (lambda x: F.gelu, "the gates move"),
        (lambda x: constant(F.gelu(x)), "photo's output for every input"),
        (lambda x: lambda z: slope(x) * z, "this gate is GELU's slope"),
        (lambda x: lambda z: F.gelu(x).detach() + slope(x) * (z - x), "this is the tangent"),
        (lambda x: lambda z: (x > 0) * z, "a ReLU's gate"),
        (lambda x: lambda z: torch.sigmoid(1.702 * x) * z, "sigmoid's approximation"),
        (lambda x: lambda z: torch.sigmoid(x) * z, "SiLU's gate"),
        (lambda x: lambda z: (F.gelu(x, approximate="tanh") / x).nan_to_num(0) * z, "approximation by tanh"),
        (lambda x: lambda z: F.gelu(x) * z, "divide by x"),
        (lambda x: constant(gelu_gate(x)), "it gives the gates"),
        (lambda x: lambda z: (gelu_gate(x) * z).detach().numpy(), "stay with tensors"),
        (lambda x: lambda z: 3 * z, "wrong for the photo itself"),
    ],
)
def test_freeze_gelu(function, says):
    assert says in check.freeze_gelu(function)


def norm(mean=None, deviation=None, change=lambda t, w, b: t * w + b):
    """LayerNorm with a part of it changed. mean: of (z, x); deviation: of (x, z, eps)."""
    mean = mean or (lambda z, x: z.mean(-1, keepdim=True))
    deviation = deviation or (lambda x, z, eps: (x.detach().var(-1, unbiased=False, keepdim=True) + eps).sqrt())
    return lambda x, weight, bias, eps: (
        lambda z: change((z - mean(z, x)) / deviation(x, z, eps), weight, bias)
    )  # fmt: skip


def variance(x, **options):
    return x.detach().var(-1, keepdim=True, **options)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda x, weight, bias, eps: None, "No answer yet"),
        (lambda x, weight, bias: None, "it raises: "),
        (norm(), "Right: only the deviation"),
        (check._layer_norm, "Right: only the deviation"),
        (norm(deviation=lambda x, z, eps: x.detach().var(-1, keepdim=True, correction=0).add(eps) ** 0.5), "Right"),
        (norm(deviation=lambda x, z, eps: (x.var(-1, unbiased=False, keepdim=True) + eps).sqrt()), "take x.detach()"),
        (lambda x, w, b, eps: lambda z: F.layer_norm(z, w.shape, w, b, eps), "the gates move"),
        (lambda x, w, b, eps: constant(F.layer_norm(x, w.shape, w, b, eps)), "photo's output for every input"),
        (norm(mean=lambda z, x: x.mean(-1, keepdim=True)), "the mean is held, too"),
        (norm(mean=lambda z, x: 0), "the mean is not subtracted"),
        (norm(deviation=lambda x, z, eps: (variance(x) + eps).sqrt()), "divides by n, torch's var and std by n - 1"),
        (norm(deviation=lambda x, z, eps: variance(x, unbiased=False).sqrt()), "eps is missing"),
        (norm(deviation=lambda x, z, eps: variance(x, unbiased=False).sqrt() + eps), "eps belongs under the root"),
        (norm(deviation=lambda x, z, eps: variance(x, unbiased=False) + eps), "its root is the deviation"),
        (norm(deviation=lambda x, z, eps: (x.var(unbiased=False) + eps).sqrt()), "one deviation for all tokens"),
        (norm(change=lambda t, w, b: t), "weight and bias are missing"),
        (norm(change=lambda t, w, b: t * w), "the bias is missing"),
        (norm(change=lambda t, w, b: t + b), "the weight is missing"),
        (norm(change=lambda t, w, b: t * b + w), "swapped"),
        (lambda x, w, b, eps: lambda z: F.layer_norm(x, w.shape, w, b, eps) / x * z, "this is the ratio y / x"),
        (norm(change=lambda t, w, b: 2 * t * w + b), "wrong for the photo itself"),
    ],
)
def test_freeze_layer_norm(function, says):
    assert says in check.freeze_layer_norm(function)


def test_an_array_is_no_gradient():
    def function(x):
        return lambda z: np.where(x.detach() > 0, z.detach(), 0)

    assert "stay with tensors" in check.freeze_relu(function)


def test_rules_take_what_is_right_and_say_so(capsys):
    rules = check.rules(lambda x: check._relu(x), lambda x: None, lambda *given: check._layer_norm(*given))
    said = capsys.readouterr().out
    assert "yours: freeze_relu, freeze_layer_norm\n" in said and "the solution's: freeze_gelu\n" in said
    x, z = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    gelu = torch.nn.GELU()
    assert torch.allclose(rules[torch.nn.GELU](gelu, x)(z), torch.special.ndtr(x) * z)
    layer_norm = torch.nn.LayerNorm(4)
    assert torch.allclose(rules[torch.nn.LayerNorm](layer_norm, x)(x), layer_norm(x), atol=1e-5)


def test_solutions_pass(capsys):
    names = {"torch": torch, "check": check}
    for code in solutions("13_every_network"):
        exec(code, names)
    assert capsys.readouterr().out.count("Right: ") == 3
