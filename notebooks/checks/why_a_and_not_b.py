"""Checks of chapter 07's exercise: each looks at an answer and says what is right or which mistake it shows."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

SHAPES = ((5, 3, 4, 6), (8, 2, 5, 3))  # channels, rows, columns, classes


def contrast_logit(function: Callable[..., Any]) -> str:
    """Chapter 07: function(features, weight, bias, a, b) gives the contrast map (h, w) and log(p_a / p_b)."""
    for seed, (channels, h, w, classes) in enumerate(SHAPES):
        generator = torch.Generator().manual_seed(seed)
        features = torch.rand(channels, h, w, generator=generator)
        weight, bias = torch.randn(classes, channels, generator=generator), torch.arange(1.0, classes + 1) ** 2
        inputs = tuple(t.clone() for t in (features, weight, bias))
        try:
            answer = function(*inputs, 2, 0)
        except Exception as e:  # whatever a learner's code raises
            return f"With features {tuple(features.shape)} and weight {tuple(weight.shape)} it raises: {e}"
        if any(not torch.equal(t, old) for t, old in zip(inputs, (features, weight, bias), strict=True)):
            return "The function changes its inputs in place; whoever calls it again gets something else. Use copies."
        message = _mistake(answer, features, weight, bias)
        if message:
            return message
    return "Right: the contrast map, and a mean plus bias difference that is log(p_a / p_b)."


def _mistake(answer: Any, features: Tensor, weight: Tensor, bias: Tensor) -> str:
    """What is wrong with an answer for class 2 against class 0; nothing where it is right."""
    if answer is None:
        return "No answer yet: return two things, the contrast map and the logarithm of the ratio."
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        return f"Two things are asked for, (map, number); this is one {type(answer).__name__}."
    cells, ratio = answer
    if not isinstance(ratio, (int, float, Tensor)):
        return f"The second thing is a number, or a tensor with one; this is {type(ratio).__name__}."
    h, w = features.shape[1:]
    if not isinstance(cells, Tensor) or cells.shape != (h, w):
        found = tuple(cells.shape) if isinstance(cells, Tensor) else type(cells).__name__
        return f"The map of features {tuple(features.shape)} has shape {(h, w)}; this is {found}."
    maps = torch.einsum("kc,chw->khw", weight, features)
    right = maps[2] - maps[0]
    message = _wrong_map(cells.detach().float(), right, maps)
    return message or _wrong_number(torch.as_tensor(ratio).detach().float(), right, bias, maps)


def _wrong_map(cells: Tensor, right: Tensor, maps: Tensor) -> str:
    if _same(cells, right):
        return ""
    if _same(cells, -right):
        return "The sign is swapped: that map speaks for b against a. Take the row of a minus the row of b."
    if _same(cells, _stretch(maps[2]) - _stretch(maps[0])):
        return "Each map was stretched to 0..1 before the subtraction: its scale, and so the sign of cells, is lost."
    if _same(cells, _stretch(right)) or _same(cells, right / right.abs().max()):
        return "The contrast map was rescaled: its mean is no longer the lead in logits. Scale when you draw."
    if _same(cells, maps[2].clamp(min=0) - maps[0].clamp(min=0)):
        return "Negative cells were cut off before the subtraction: evidence against b is a reason for a."
    if _same(cells, right.clamp(min=0)):
        return "Negative cells of the contrast were cut off: they are what speaks for b."
    if _same(cells, maps[2]):
        return "That is the map of class a alone; the row of b is not subtracted."
    return "The map is not (w_a - w_b) · F. Subtract two rows, then one einsum over the channels."


def _wrong_number(ratio: Tensor, right: Tensor, bias: Tensor, maps: Tensor) -> str:
    lead, biases = right.mean(), bias[2] - bias[0]
    probability = (maps.mean((1, 2)) + bias).softmax(0)
    if ratio.numel() != 1:
        return f"The map is right. The logarithm of the ratio is one number; this has shape {tuple(ratio.shape)}."
    if _same(ratio, lead + biases):
        return ""
    if _same(ratio, lead):
        return "The map is right; the number lacks the biases: add bias[a] - bias[b] to the mean."
    if _same(ratio, lead - biases):
        return "The map is right; the biases have the wrong sign: add bias[a] - bias[b]."
    if _same(ratio, -lead - biases):
        return "The map is right; the number has its sign swapped: it is log(p_b / p_a)."
    if _same(ratio, right.sum() + biases) or _same(ratio, right.sum()):
        return "The map is right; the cells were summed. Global average pooling takes their mean."
    if _same(ratio, (lead + biases).exp()):
        return "The map is right; the number is the ratio p_a / p_b. Its logarithm is asked for."
    if _same(ratio, probability[2] - probability[0]):
        return "The map is right; the number is p_a - p_b. The contrast adds up to log(p_a / p_b)."
    return "The map is right; the number is not log(p_a / p_b) = logit_a - logit_b."


def _same(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one.reshape(other.shape), other, atol=1e-4)


def _stretch(m: Tensor) -> Tensor:
    return (m - m.min()) / (m.max() - m.min())
