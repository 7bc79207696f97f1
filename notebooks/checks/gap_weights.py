"""Chapter 03: from random numbers, so that only the rule can pass. Each mistake is recognised by the value it gives."""

from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from torch import Tensor

POOLS: list[tuple[Callable[[Tensor], Tensor], str]] = [
    (lambda f: f.mean((1, 2)), ""),
    (lambda f: f.sum((1, 2)), "the cells are summed; GAP takes their mean"),
    (lambda f: f.amax((1, 2)), "the largest cell is taken; GAP takes the mean of all cells"),
]
ROWS: list[tuple[Callable[[Tensor, int], Tensor], str]] = [
    (lambda w, k: w[k], ""),
    (lambda w, k: w[:, k], "weight[:, k] is a column; the weights of class k are the row weight[k]"),
]
SUMS: list[tuple[Callable[[Tensor], Tensor], str]] = [
    (lambda products: products.sum(), ""),
    (lambda products: products.mean(), "the products are averaged over the channels; a logit is their sum"),
]
BIASES: list[tuple[Callable[[Tensor, int, int], Tensor], str]] = [
    (lambda b, k, channels: b[k], ""),
    (lambda b, k, channels: 0 * b[k], "the bias is missing; add bias[k]"),
    (lambda b, k, channels: channels * b[k], "the bias is added once per channel; add it once, after the sum"),
    (lambda b, k, channels: b.sum(), "the biases of all classes are added; only bias[k] belongs to this logit"),
]


def rebuilt_logit(function: Callable[[Tensor, Tensor, Tensor, int], Any]) -> str:
    """Runs the function on random feature maps (C, h, w), weights (K, C) and biases (K,); says what its value shows."""
    # K == C first: there a column has the length of a row, so the wrong one gives a number that can be recognised.
    for seed, (channels, h, w, classes) in enumerate([(6, 4, 7, 6), (9, 3, 8, 5), (4, 5, 2, 11)]):
        g = torch.Generator().manual_seed(seed)
        features = torch.randn(channels, h, w, generator=g)
        weight, bias = torch.randn(classes, channels, generator=g), torch.randn(classes, generator=g)
        k = 2 + seed
        try:
            given = function(features.clone(), weight.clone(), bias.clone(), k)
        except Exception as e:  # whatever a learner's code raises
            return (
                f"With features {tuple(features.shape)}, weight {tuple(weight.shape)}, bias {tuple(bias.shape)} and "
                f"k = {k} your function raises {type(e).__name__}: {e}"
            )
        if fault := _fault(given, features, weight, bias, k):
            return fault
    return "Right: three random networks, three logits rebuilt."


def _fault(given: Any, features: Tensor, weight: Tensor, bias: Tensor, k: int) -> str:
    """What is wrong with the value; empty where it is the logit."""
    if given is None:
        return "No answer yet: your function returns nothing. Return one number, the logit of class k."
    try:
        value = torch.as_tensor(given, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        return f"A logit is one number; your function returns a {type(given).__name__}."
    channels, h, w = features.shape
    logits = weight @ features.mean((1, 2)) + bias
    if value.shape == logits.shape and torch.allclose(value, logits, atol=1e-4):
        return "These are the logits of all classes at once. Return that of class k."
    if value.numel() != 1:
        return f"A logit is one number; this has the shape {tuple(value.shape)}" + {
            (h, w): ": a value per cell. The mean over the cells is missing.",
            (channels,): ": a value per channel. Add the products up, then add bias[k] once.",
            (channels, h, w): ": nothing is pooled. Take the mean over the cells, axes 1 and 2.",
        }.get(tuple(value.shape), ". Mean over the cells, times the weights, sum over the channels.")
    number = float(value)
    ways = sorted(product(POOLS, ROWS, SUMS, BIASES), key=lambda way: sum(bool(what) for _, what in way))
    for (pool, a), (row, b), (add, c), (constant, d) in ways:
        if len(row(weight, k)) != channels:
            continue
        result = add(pool(features) * row(weight, k)) + constant(bias, k, channels)
        if abs(float(result) - number) < 1e-4:
            mistakes = [what for what in (a, b, c, d) if what]
            return f"Not yet: {'; '.join(mistakes)}." if mistakes else ""
    for other, logit in enumerate(logits.tolist()):
        if abs(logit - number) < 1e-4:
            return f"That is the logit of class {other}; class {k} was asked for."
    return f"Not yet: the logit is {float(logits[k]):.3f}, your function gives {number:.3f}."
