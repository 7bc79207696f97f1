"""Checks of the exercises of chapter 13: operations with their gates held."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

Operation = Callable[[Tensor], Tensor]
MOVES = "right for the photo, but for another input the gates move: compute them before you return the function"
CONSTANT = "it gives the photo's output for every input: hold the gates, not the output"


def freeze_relu(function: Callable[..., Any]) -> str:
    """Whether function(x) is the ReLU with its gates held at x, or what is wrong with it."""
    for seed, shape in enumerate(((7,), (3, 5), (2, 4, 3))):
        x, z = _draw(seed, *shape), _draw(10 + seed, *shape)
        x.view(-1)[0] = z.view(-1)[0] = 0  # any gate will do there
        gate = (x > 0).float()
        mistakes = {
            "": gate * z,
            MOVES: z.relu(),
            CONSTANT: x.relu(),
            "all gates are open: those of negative inputs are closed": z,
            "the gates are the wrong way round": (x < 0) * z,
            "a gate that is held open lets negative numbers through, too: no second ReLU": (gate * z).relu(),
            "the gate is the ReLU's output; it should be 0 or 1": x.relu() * z,
            "it gives the gates; multiply them by the function's input": gate,
            "it adds the gates; multiply by them": gate + z,
        }
        if message := _checked(function, (x,), z, mistakes, torch.relu, gate, "gate · z"):
            return message
    return "Right: on at the photo means on for every input, and off means off."


def freeze_gelu(function: Callable[..., Any]) -> str:
    """Whether function(x) is GELU with its gates held at x, or what is wrong with it."""
    for seed, shape in enumerate(((9,), (3, 5), (2, 4, 3))):
        x, z = 1.5 * _draw(seed, *shape), _draw(10 + seed, *shape)
        x.view(-1)[:2], z.view(-1)[0] = torch.tensor([0.0, -12.0]), 0  # where x is 0, any gate will do
        gate, slope = torch.special.ndtr(x), _slope(F.gelu, x)
        mistakes = {
            "": gate * z,
            MOVES: F.gelu(z),
            CONSTANT: F.gelu(x),
            "this gate is GELU's slope at x. Slope · x is not GELU(x): take the ratio GELU(x) / x": slope * z,
            "this is the tangent. It fits the photo, too, but gives something for an input of 0, so it would move "
            "evidence from the map into the rest. Take the ratio": F.gelu(x) + slope * (z - x),
            "this is a ReLU's gate; GELU's lies between 0 and 1": (x > 0) * z,
            "this is the sigmoid's approximation of GELU; nn.GELU() is x · Φ(x)": torch.sigmoid(1.702 * x) * z,
            "this is SiLU's gate": torch.sigmoid(x) * z,
            "this is the approximation by tanh; nn.GELU() is x · Φ(x)": F.gelu(x, approximate="tanh")
            / torch.where(x == 0, 1.0, x)
            * z,
            "the gate is GELU's output; divide by x": F.gelu(x) * z,
            "it gives the gates; multiply them by the function's input": gate,
        }
        if message := _checked(function, (x,), z, mistakes, F.gelu, gate, "Φ(x) · z"):
            return message
    return "Right: also where x is 0. The line goes through 0 and through the photo's point."


def freeze_layer_norm(function: Callable[..., Any]) -> str:
    """Whether function(x, weight, bias, eps) is LayerNorm with its deviation held at x, or what is wrong with it."""
    for seed, shape in enumerate(((3, 6), (2, 4, 5))):
        x, z = 0.02 * _draw(seed, *shape) + 0.1, _draw(10 + seed, *shape)
        weight, bias = _draw(20 + seed, shape[-1]) + 1, _draw(30 + seed, shape[-1])
        eps = 1e-4

        def norm(t: Tensor, w: Tensor = weight, b: Tensor = bias, eps: float = eps) -> Tensor:
            return F.layer_norm(t, w.shape, w, b, eps)

        centred = z - z.mean(-1, keepdim=True)
        variance, whole = x.var(-1, unbiased=False, keepdim=True), x.var(unbiased=False)
        deviation = (variance + eps).sqrt()
        mistakes = {
            "": centred / deviation * weight + bias,
            MOVES: norm(z),
            CONSTANT: norm(x),
            "the mean is held, too. It is a sum, and so affine already: take the mean of the function's input": (
                (z - x.mean(-1, keepdim=True)) / deviation * weight + bias
            ),
            "the mean is not subtracted": z / deviation * weight + bias,
            "LayerNorm divides by n, torch's var and std by n - 1: unbiased=False": (
                centred / (x.var(-1, keepdim=True) + eps).sqrt() * weight + bias
            ),
            "eps is missing: the deviation is the root of variance + eps": centred / variance.sqrt() * weight + bias,
            "eps belongs under the root": centred / (variance.sqrt() + eps) * weight + bias,
            "eps belongs under the root, and torch's std divides by n - 1: unbiased=False": (
                centred / (x.std(-1, keepdim=True) + eps) * weight + bias
            ),
            "eps is missing, and torch's std divides by n - 1: unbiased=False": (
                centred / x.std(-1, keepdim=True) * weight + bias
            ),
            "it divides by the variance; its root is the deviation": centred / (variance + eps) * weight + bias,
            "weight and bias are missing": centred / deviation,
            "the bias is missing": centred / deviation * weight,
            "the weight is missing": centred / deviation + bias,
            "weight and bias are swapped": centred / deviation * bias + weight,
            "one deviation for all tokens: LayerNorm takes each token's own, over the last axis": (
                centred / (whole + eps).sqrt() * weight + bias
            ),
            "this is the ratio y / x. It fits the photo, but has lost the bias: 0 must give the bias": (
                norm(x) / x * z
            ),
        }
        gate = _slope(lambda t, d=deviation, w=weight: (t - t.mean(-1, keepdim=True)) / d * w, x)
        if message := _checked(function, (x, weight, bias, eps), z, mistakes, norm, gate, "the affine function"):
            return message
    return "Right: only the deviation is held. The mean moves, and 0 gives the bias."


# The solutions, for readers who skip an exercise


def _relu(x: Tensor) -> Operation:
    gate = x > 0
    return lambda z: gate * z


def _gelu(x: Tensor) -> Operation:
    gate = torch.special.ndtr(x.detach())
    return lambda z: gate * z


def _layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Operation:
    deviation = (x.detach().var(-1, unbiased=False, keepdim=True) + eps).sqrt()
    return lambda z: (z - z.mean(-1, keepdim=True)) / deviation * weight + bias


def rules(relu: Callable, gelu: Callable, layer_norm: Callable) -> dict[type, Callable[[Any, Tensor], Operation]]:
    """Module and its input -> the held operation, by a module's type. Wrong functions are replaced by the solutions."""
    yours = {"freeze_relu": relu, "freeze_gelu": gelu, "freeze_layer_norm": layer_norm}
    ours = {"freeze_relu": _relu, "freeze_gelu": _gelu, "freeze_layer_norm": _layer_norm}
    used = {name: f if globals()[name](f).startswith("Right") else ours[name] for name, f in yours.items()}
    for kind, table in (("yours", yours), ("the solution's", ours)):
        if names := [name for name in used if used[name] is table[name]]:
            print(f"{kind}: {', '.join(names)}")
    return {
        nn.ReLU: lambda m, x: used["freeze_relu"](x),
        nn.GELU: lambda m, x: used["freeze_gelu"](x),
        nn.LayerNorm: lambda m, x: used["freeze_layer_norm"](x, m.weight, m.bias, m.eps),
    }


# What the checks share


def _checked(
    function: Callable[..., Any],
    inputs: tuple,
    z: Tensor,
    mistakes: dict[str, Tensor],
    true: Operation,
    gate: Tensor,
    formula: str,
) -> str:
    """What is wrong with one answer, by its values at the photo's input, at z, and by its gradient; "" if nothing."""
    x = inputs[0]
    given = tuple(t.clone() if isinstance(t, Tensor) else t for t in inputs)
    shapes = ", ".join(str(tuple(t.shape)) for t in inputs if isinstance(t, Tensor))
    try:
        held = function(*given)
    except Exception as e:  # whatever a learner's code raises
        return f"With inputs of the shapes {shapes} it raises: {e}"
    if held is None or held is ...:
        return "No answer yet: return a function."
    if not callable(held):
        return f"Return a function of another input, such as `lambda z: ...`; this is {type(held).__name__}."
    at = {}
    for name, t in (("photo", x), ("other", z)):
        copy = t.clone()
        try:
            answer = held(copy)
        except Exception as e:
            return f"The function that it returns raises: {e}"
        if not torch.equal(copy, t) or any(
            isinstance(a, Tensor) and not torch.equal(a, b) for a, b in zip(given, inputs, strict=True)
        ):
            return "The function changes its input in place. Make a new tensor."
        if answer is None:
            return "The function that you return gives None: it needs a return."
        at[name] = _tensor(answer)
        if at[name] is None or at[name].shape != t.shape:
            got = type(answer).__name__ if at[name] is None else tuple(at[name].shape)
            return f"An input of the shape {tuple(t.shape)} gives an output of the same shape; this is {got}."
    if not at["photo"].isfinite().all() or not at["other"].isfinite().all():
        return "Not yet: where x is 0, the ratio is 0 / 0, which is NaN. Any finite gate will do there."
    for text, values in mistakes.items():
        if _same(at["other"], values):
            if text:
                return f"Not yet: {text}."
            break
    else:
        right = _same(at["photo"], true(x))
        why = f"right for the photo, but not {formula} for another input" if right else "wrong for the photo itself"
        return f"Not yet: {why}."
    return _gradient_mistake(function, inputs, gate)


def _gradient_mistake(function: Callable[..., Any], inputs: tuple, gate: Tensor) -> str:
    """Whether the gradient is that of the held operation, when the gates come from the same tensor."""
    leaf = inputs[0].clone().requires_grad_()
    shared = leaf * 1  # as in a network, where the gates and their input come from the same computation
    try:
        (found,) = torch.autograd.grad(function(shared, *inputs[1:])(shared).sum(), leaf)
    except (RuntimeError, AttributeError, TypeError):
        return "The values are right, but PyTorch cannot differentiate them: stay with tensors, do not detach z."
    counts = inputs[0] != 0
    if _same(found[counts], gate[counts]):
        return ""
    return "The values are right, but the gates still depend on x, so a gradient moves them: take x.detach()."


def _slope(function: Operation, x: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(function(leaf).sum(), leaf)
    return slope


def _draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _tensor(value: Any) -> Tensor | None:
    if isinstance(value, np.ndarray):
        value = value.copy()
    try:
        return torch.as_tensor(value).detach().float()
    except (TypeError, ValueError, RuntimeError):
        return None


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-4, atol=1e-5)
