"""Checks of chapter 03, on random numbers, so that only the rule can pass. A mistake is recognised by what it gives."""

from collections.abc import Callable
from copy import deepcopy
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from checks.answers import tensor

# --- exercise 1 ------------------------------------------------------------------------------------------------------

ROWS: list[tuple[Callable[[Tensor, int], Tensor], str]] = [
    (lambda w, k: w[k], ""),
    (lambda w, k: w[:, k], "weight[:, k] is a column; the weights of class k are the row weight[k]"),
]
SUMS: list[tuple[Callable[[Tensor], Tensor], str]] = [
    (lambda products: products.sum(), ""),
    (lambda products: products.mean(), "you average the products; a logit is their sum"),
]
BIASES: list[tuple[Callable[[Tensor, int, int], Tensor], str]] = [
    (lambda b, k, channels: b[k], ""),
    (lambda b, k, channels: 0 * b[k], "the bias is missing; add bias[k]"),
    (lambda b, k, channels: channels * b[k], "you add the bias once per channel; add it once, after the sum"),
    (lambda b, k, channels: b.sum(), "you add the biases of all classes; only bias[k] belongs to this logit"),
    (lambda b, k, channels: -b[k], "you subtract the bias; add it"),
]


def one_logit(function: Callable[[Tensor, Tensor, Tensor, int], Any]) -> str:
    """The logit of class k from means (C,), weight (K, C) and bias (K,), on three random heads."""
    # K == C first: there a column has the length of a row, so the wrong one gives a number that can be recognised.
    for seed, (channels, classes) in enumerate([(6, 6), (9, 5), (4, 11)]):
        g = torch.Generator().manual_seed(seed)
        means = torch.randn(channels, generator=g)
        weight, bias = torch.randn(classes, channels, generator=g), torch.randn(classes, generator=g)
        k = 2 + seed
        try:
            given = function(means.clone(), weight.clone(), bias.clone(), k)
        except Exception as e:  # whatever a learner's code raises
            return (
                f"With means {tuple(means.shape)}, weight {tuple(weight.shape)}, bias {tuple(bias.shape)} and k = {k}, "
                f"your function raises {type(e).__name__}: {e}"
            )
        if fault := _fault(given, means, weight, bias, k):
            return fault
    return "Right: three random heads, three logits."


def _fault(given: Any, means: Tensor, weight: Tensor, bias: Tensor, k: int) -> str:
    """What is wrong with the value; empty if it is the logit."""
    if given is None or given is ...:
        return "No answer yet: your function returns nothing. Return one number, the logit of class k."
    value = tensor(given)
    if value is None:
        return f"A logit is one number; your function returns a {type(given).__name__}."
    logits, channels = weight @ means + bias, len(means)
    if value.numel() != 1:
        if value.shape == logits.shape and torch.allclose(value, logits, atol=1e-4):
            return "These are the logits of all classes at once. Return the logit of class k."
        if value.shape == bias.shape and torch.allclose(value, weight[k] @ means + bias, atol=1e-4):
            return "Not yet: you add the biases of all classes, so you get one number for each; add only bias[k]."
        if value.shape == means.shape:
            return "A logit is one number; yours is one value per channel. Add up the products, then add bias[k] once."
        return f"A logit is one number; this has the shape {tuple(value.shape)}."
    number = float(value)
    ways = sorted(product(ROWS, SUMS, BIASES), key=lambda way: sum(bool(what) for _, what in way))
    for (row, a), (add, b), (constant, c) in ways:
        if len(row(weight, k)) != channels:
            continue
        result = add(means * row(weight, k)) + constant(bias, k, channels)
        if abs(float(result) - number) < 1e-4:
            mistakes = [what for what in (a, b, c) if what]
            return f"Not yet: {'; '.join(mistakes)}." if mistakes else ""
    for other, logit in enumerate(logits.tolist()):
        if abs(logit - number) < 1e-4:
            return f"That is the logit of class {other}; the question is about class {k}."
    return f"Not yet: the logit is {float(logits[k]):.3f}, but your function gives {number:.3f}."


# --- exercise 2 ------------------------------------------------------------------------------------------------------


def deciding(function: Callable[[Tensor, Tensor, int, int, int], Any]) -> str:
    """The n channels that favour class a most over class b, on three random heads."""
    for seed, (channels, h, w, classes, n) in enumerate([(60, 3, 4, 5, 6), (40, 5, 2, 4, 3), (25, 2, 2, 3, 1)]):
        g = torch.Generator().manual_seed(seed)
        # Channels are active in few cells or many, so that their largest cells do not rank as their means do
        active = torch.rand(channels, h, w, generator=g) < torch.rand(channels, 1, 1, generator=g)
        features = 6 * torch.rand(channels, h, w, generator=g) * active
        weight = torch.randn(classes, channels, generator=g)
        a, b = 2, 0
        try:
            given = function(features.clone(), weight.clone(), a, b, n)
        except Exception as e:  # whatever a learner's code raises
            return (
                f"With features {tuple(features.shape)}, weight {tuple(weight.shape)} and n = {n}, "
                f"your function raises {type(e).__name__}: {e}"
            )
        if fault := _ranking_fault(given, features, weight, a, b, n):
            return fault
    return "Right: on three random heads, these are the channels that decide."


def _ranking_fault(given: Any, features: Tensor, weight: Tensor, a: int, b: int, n: int) -> str:
    """What is wrong with the channels; empty if they are right."""
    if given is None or given is ...:
        return (
            "No answer yet: your function returns nothing. Return the numbers of n channels, the most decisive first."
        )
    if isinstance(given, tuple) and hasattr(given, "indices"):  # as topk and sort give it
        return "`topk` and `sort` give values and indices. Return the indices: they are the channels' numbers."
    value = tensor(given)
    if value is None:
        return f"Return the numbers of n channels, such as [12, 3, 40]; your function returns a {type(given).__name__}."
    value, channels = value.flatten(), len(features)
    if len(value) != n:
        return f"{n} channels are needed; your function returns {len(value)}."
    means = features.mean((1, 2))
    first, second = weight[a] * means, weight[b] * means
    difference = first - second
    numbers = value.tolist()
    if any(v != round(v) for v in numbers):
        if torch.allclose(value, difference.sort(descending=True).values[:n], atol=1e-4):
            return "Those are the differences themselves. Return the numbers of their channels: `topk(n).indices`."
        return "Those are not channel numbers. `topk(n)` gives values and indices; return the indices."
    chosen = [int(v) for v in numbers]
    if any(not -channels <= c < channels for c in chosen):
        return f"There are {channels} channels, so a channel's number lies between 0 and {channels - 1}."
    chosen = [c % channels for c in chosen]
    order = difference.argsort(descending=True).tolist()
    if chosen == order[:n]:
        return ""
    if set(chosen) == set(order[:n]):
        return "Not yet: the right channels, but in the wrong order. The most decisive comes first."
    wrong = {
        f"you rank by what the channels give to class {a}; a channel may give the same to class {b}": first,
        f"you rank by what the channels give to class {b}": second,
        f"these favour class {b} over class {a}; reverse the difference": -difference,
        "you rank by the size of the difference; a negative one favours the other class": difference.abs(),
        "you rank by the difference of the weights; multiply it by the means": weight[a] - weight[b],
        "you use each channel's largest cell; use its mean": (weight[a] - weight[b]) * features.amax((1, 2)),
        "you add the two contributions; subtract them": first + second,
        "you divide the contributions; subtract them": first / second,
        "you rank by the means alone; where are the weights?": means,
    }
    for what, values in wrong.items():
        if set(chosen) == set(values.topk(n).indices.tolist()):
            return f"Not yet: {what}."
    hits = len(set(chosen) & set(order[:n]))
    return f"Not yet: {hits} of your {n} channels {'is' if hits == 1 else 'are'} among the right ones."


# --- exercise 3 ------------------------------------------------------------------------------------------------------


def fold(function: Callable[[nn.BatchNorm1d, nn.Linear], Any]) -> str:
    """weight (K, C) and bias (K,) that do what a BatchNorm and then a linear layer do, on three random heads."""
    for seed, (channels, classes) in enumerate([(6, 6), (9, 5), (4, 11)]):
        norm, linear = _head(seed, channels, classes)
        copies = deepcopy(norm), deepcopy(linear)
        try:
            given = function(*copies)
        except Exception as e:  # whatever a learner's code raises
            return f"With {channels} channels and {classes} classes, your function raises {type(e).__name__}: {e}"
        if fault := _folding_fault(given, norm, linear):
            return fault
        if any(not torch.equal(new, old) for new, old in zip(_numbers(*copies), _numbers(norm, linear), strict=True)):
            return "The numbers are right, but your function changes the layers that it is given. Make new tensors."
    return "Right: three heads folded. camlib.find_head does the same with such a network."


def _head(seed: int, channels: int, classes: int) -> tuple[nn.BatchNorm1d, nn.Linear]:
    """A BatchNorm and a linear layer with random numbers, in evaluation mode."""
    g = torch.Generator().manual_seed(seed)
    norm, linear = nn.BatchNorm1d(channels, eps=0.05).eval(), nn.Linear(channels, classes)
    with torch.no_grad():
        norm.weight.copy_(torch.rand(channels, generator=g) + 0.5)
        norm.running_var.copy_(torch.rand(channels, generator=g) * 4 + 0.2)
        for value in (norm.bias, norm.running_mean, linear.weight, linear.bias):
            value.copy_(torch.randn(value.shape, generator=g))
    return norm, linear


def _numbers(norm: nn.BatchNorm1d, linear: nn.Linear) -> list[Tensor]:
    return [t.detach() for t in (norm.weight, norm.bias, norm.running_mean, norm.running_var, *linear.parameters())]


def _folding_fault(given: Any, norm: nn.BatchNorm1d, linear: nn.Linear) -> str:
    """What is wrong with the pair; empty if it is right."""
    if given is None or given is ...:
        return "No answer yet: your function returns nothing. Return a pair: weight (K, C) and bias (K,)."
    if isinstance(given, nn.Linear):
        given = given.weight, given.bias
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        return f"Return a pair, weight (K, C) and bias (K,); your function returns a {type(given).__name__}."
    weight, bias = (tensor(part) for part in given)
    if weight is None or bias is None:
        return "Return a pair of tensors: weight (K, C) and bias (K,)."
    gamma, beta, mean, variance, w, b = _numbers(norm, linear)
    scale = gamma / (variance + norm.eps).sqrt()
    if weight.shape == w.T.shape != w.shape:
        return f"The weight has the shape (C, K) = {tuple(weight.shape)}; transpose it to (K, C) = {tuple(w.shape)}."
    if weight.shape != w.shape:
        return f"The weight has the shape {tuple(weight.shape)}; (K, C) is {tuple(w.shape)}."
    if bias.numel() != len(b):
        return f"The bias has the shape {tuple(bias.shape)}; one number per class is needed: {tuple(b.shape)}."
    bias = bias.flatten()
    weights = {
        "": w * scale,
        "the weight is still that of the linear layer; multiply each channel's column by the factor by which the norm "
        "multiplies this channel": w,
        "the norm also divides, by √(running_var + eps)": w * gamma,
        "the norm also multiplies by its own weight": w / (variance + norm.eps).sqrt(),
        "the norm divides by the square root of running_var + eps": w * gamma / (variance + norm.eps),
        "eps belongs under the root: the norm divides by √(running_var + eps)": w
        * gamma
        / (variance.sqrt() + norm.eps),
        "the norm divides by √(running_var + norm.eps); your eps is missing or has another value": w
        * gamma
        / variance.sqrt(),
        "eps is norm.eps; norm.momentum belongs to the training": w * gamma / (variance + norm.momentum).sqrt(),
        "running_var is a variance already; do not square it": w * gamma / (variance**2 + norm.eps).sqrt(),
        "you divide by the norm's factor; multiply by it": w / scale,
    }
    if len(w) == w.shape[1]:
        weights["you multiply the rows, which are classes; multiply the columns, which are channels"] = (
            scale[:, None] * w
        )
        weights["the weight is transposed"] = (w * scale).T
    what = next((text for text, values in weights.items() if torch.allclose(weight, values, atol=1e-4)), None)
    if what is None:
        return "Not yet: the weight is wrong. What does the norm multiply each channel by?"
    if what:
        return f"Not yet: {what}."
    biases = {
        "": b + w @ (beta - mean * scale),
        "the weight is right, but the norm also shifts each channel, and the bias must include that": b,
        "running_mean is missing from the bias": b + w @ beta,
        "norm.bias is missing from the bias": b - w @ (mean * scale),
        "running_mean is subtracted before the scaling, so in the bias it is scaled, too": b + w @ (beta - mean),
        "norm.bias is added after the scaling, so in the bias it is not scaled": b + w @ ((beta - mean) * scale),
        "running_mean is subtracted, not added": b + w @ (beta + mean * scale),
        "the bias of the linear layer is missing": w @ (beta - mean * scale),
        "the shift reaches the bias through the linear layer's own weight; yours is scaled a second time": b
        + (w * scale) @ (beta - mean * scale),
    }
    if len(beta) == len(b):
        biases["the norm shifts channels; this shift reaches the classes through the linear layer"] = b + beta
    what = next((text for text, values in biases.items() if torch.allclose(bias, values, atol=1e-4)), None)
    if what is None:
        return "Not yet: the weight is right, but the bias is not. What comes out if all means are zero?"
    return f"Not yet: {what}." if what else ""
