"""Checks of chapter 07's exercises: each looks at an answer and says what is right or which mistake it shows."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from checks.answers import tensor

SHAPES = ((5, 3, 4, 6), (8, 2, 5, 3))  # channels, rows, columns, classes
A, B = 2, 0


def contrast_logit(function: Callable[..., Any]) -> str:
    """function(features, weight, bias, a, b) gives the contrast map (h, w) and log(p_a / p_b), on random networks."""
    for seed, (channels, h, w, classes) in enumerate(SHAPES):
        generator = torch.Generator().manual_seed(seed)
        features = torch.rand(channels, h, w, generator=generator)
        weight, bias = torch.randn(classes, channels, generator=generator), torch.arange(1.0, classes + 1) ** 2
        answer, message = _called(function, (features, weight, bias), A, B)
        message = message or _contrast_mistake(answer, features, weight, bias)
        if message:
            return message
    return "Right: the contrast map, and its mean plus the difference of the biases is log(p_a / p_b)."


def _contrast_mistake(answer: Any, features: Tensor, weight: Tensor, bias: Tensor) -> str:
    """What is wrong with an answer for class 2 against class 0; nothing if it is right."""
    if answer is None or answer is ...:
        return "No answer yet: return two results, the contrast map and the logarithm of the ratio."
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        return f"Return two results, (map, number); this is one {type(answer).__name__}."
    cells, ratio = (tensor(part) for part in answer)
    if ratio is None:
        return f"The second result should be a number, or a tensor that holds one; this is {type(answer[1]).__name__}."
    h, w = features.shape[1:]
    if cells is None or cells.shape != (h, w):
        got = type(answer[0]).__name__ if cells is None else tuple(cells.shape)
        return f"The map should have shape {(h, w)} for features of shape {tuple(features.shape)}; this is {got}."
    maps = torch.einsum("kc,chw->khw", weight, features)
    right = maps[A] - maps[B]
    return _wrong_map(cells, right, bias, maps) or _wrong_number(ratio, right, bias, maps)


def _wrong_map(cells: Tensor, right: Tensor, bias: Tensor, maps: Tensor) -> str:
    if _same(cells, right):
        return ""
    if _same(cells, right + bias[A] - bias[B]):
        return "The biases were added to every cell. They belong to no place on the photo: add them to the mean only."
    if _same(cells, -right):
        return "The sign is swapped: that is the map of b against a. Take the row of a minus the row of b."
    if _same(cells, _stretch(maps[A]) - _stretch(maps[B])):
        return "Each map was stretched to 0..1 before the subtraction, so some cells get the wrong sign."
    if _same(cells, _stretch(right)) or _same(cells, right / right.abs().max()):
        return "The contrast map was rescaled: its mean is no longer the lead in logits. Only scale the drawing."
    if _same(cells, maps[A].clamp(min=0) - maps[B].clamp(min=0)):
        return "Negative cells were cut off before the subtraction, but evidence against b is a reason for a."
    if _same(cells, right.clamp(min=0)):
        return "Negative cells of the contrast were cut off, but they are the evidence for b."
    if _same(cells, right.abs()):
        return "That is the absolute value: without its sign, a cell no longer says which class it favours."
    if _same(cells, maps[A]):
        return "That is the map of class a alone; the row of b is not subtracted."
    return "The map is not (w_a - w_b) · A. Subtract two rows, then use one einsum over the channels."


def _wrong_number(ratio: Tensor, right: Tensor, bias: Tensor, maps: Tensor) -> str:
    lead, biases = right.mean(), bias[A] - bias[B]
    probability = (maps.mean((1, 2)) + bias).softmax(0)
    if ratio.numel() != 1:
        return f"The map is right. The logarithm should be one number; this has shape {tuple(ratio.shape)}."
    if _same(ratio, lead + biases):
        return ""
    if _same(ratio, lead):
        return "The map is right; the number lacks the biases: add bias[a] - bias[b] to the mean."
    if _same(ratio, lead - biases):
        return "The map is right; the biases have the wrong sign: add bias[a] - bias[b]."
    if _same(ratio, -lead - biases):
        return "The map is right; the number has the wrong sign: it is log(p_b / p_a)."
    if _same(ratio, right.sum() + biases) or _same(ratio, right.sum()):
        return "The map is right; the cells were summed. Global average pooling takes their mean."
    if _same(ratio, (lead + biases).exp()):
        return "The map is right; the number is the ratio p_a / p_b. Take its logarithm."
    if _same(ratio, probability[A] - probability[B]):
        return "The map is right; the number is p_a - p_b. The contrast adds up to log(p_a / p_b)."
    return "The map is right; the number is not log(p_a / p_b) = logit_a - logit_b."


def against_the_rest(function: Callable[..., Any]) -> str:
    """function(maps, logits, a): the map of a minus the mean of the other maps, weighted by p_j / (1 - p_a)."""
    for seed, (classes, h, w) in enumerate(((4, 3, 5), (6, 4, 2))):
        draw = torch.Generator().manual_seed(seed)
        maps, logits = torch.randn(classes, h, w, generator=draw), torch.randn(classes, generator=draw)
        logits[A] += 1
        answer, message = _called(function, (maps, logits), A)
        message = message or _rest_mistake(answer, maps, logits)
        if message:
            return message
    return "Right: class a against the others, each weighted by how probable it is."


def _rest_mistake(answer: Any, maps: Tensor, logits: Tensor) -> str:
    if answer is None or answer is ...:
        return "No answer yet: return one map (h, w)."
    cells = tensor(answer)
    if cells is None or cells.shape != maps.shape[1:]:
        got = type(answer).__name__ if cells is None else tuple(cells.shape)
        return f"The answer should be one map of shape {tuple(maps.shape[1:])}; this is {got}."
    p = logits.softmax(0)
    q = p.clone()
    q[A] = 0
    q = q / q.sum()
    others = torch.arange(len(p)) != A
    best = int(logits.masked_fill(~others, -torch.inf).argmax())
    mean = torch.einsum("k,khw->hw", q, maps)
    raw = logits.clone()
    raw[A] = 0
    twice = q * (1 - p[A])
    mistakes = {
        "": maps[A] - mean,
        "the sign is swapped: that is the others against a": mean - maps[A],
        "a itself is among the others, so the map is 1 - p_a times as strong: set p[a] to 0, then divide by the sum": (
            maps[A] - torch.einsum("k,khw->hw", p, maps)
        ),
        "a itself is still among the others: set q[a] to 0": maps[A] - torch.einsum("k,khw->hw", p / (1 - p[A]), maps),
        "the shares do not add up to 1: divide them by their sum, 1 - p_a": (
            maps[A] - torch.einsum("k,khw->hw", q * (1 - p[A]), maps)
        ),
        "all the others count the same: weight each by its share": maps[A] - maps[others].mean(0),
        "all classes count the same, and a is among them": maps[A] - maps.mean(0),
        "only the best of the others counts": maps[A] - maps[best],
        "the logit of a was set to 0, but exp(0) is 1: set the probability of a to 0": (
            maps[A] - torch.einsum("k,khw->hw", raw.softmax(0), maps)
        ),
        "softmax was taken twice: divide the shares by their sum": (
            maps[A] - torch.einsum("k,khw->hw", twice.softmax(0), maps)
        ),
        "the weighted maps were averaged: add them up": maps[A] - mean / len(p),
        "the other maps were added up, without shares": maps[A] - maps[others].sum(0),
        "the weights are logits: take probabilities": maps[A] - torch.einsum("k,khw->hw", raw, maps),
        "that is the mean of the others alone: subtract it from the map of a": mean,
        "that is the map of a alone: subtract the mean of the others": maps[A],
        "the negative cells are gone, but they are the evidence for the others": (maps[A] - mean).clamp(min=0),
    }
    return _named(cells, mistakes, "The map is not map_a minus the sum of q_j · map_j. Are the shares q right?")


def without_shared(function: Callable[..., Any]) -> str:
    """function(weight, bias): the same answers, and nothing in them that all classes share; on random networks."""
    zeros = []
    for seed, (classes, channels) in enumerate(((4, 6), (7, 3), (2, 5))):
        draw = torch.Generator().manual_seed(seed)
        weight, bias = torch.randn(classes, channels, generator=draw) + 1, torch.randn(classes, generator=draw) + 2
        shift, constant = 3 * torch.randn(channels, generator=draw), 5.0
        answer, message = _called(function, (weight, bias))
        message = message or _pair_mistake(answer, weight, bias)
        if message:
            return message
        again, message = _called(function, (weight + shift, bias + constant))
        message = message or _pair_mistake(again, weight, bias)
        if message:
            return message
        rows, numbers = (tensor(part) for part in answer)
        other_rows, other_numbers = (tensor(part) for part in again)
        if not _same(rows, other_rows):
            if _same(rows, weight - weight.mean()):
                return "You subtract one number. The rows share a vector: take the mean over the classes, dim 0."
            return "A vector v added to every row is still in your rows: f(weight + v) is not f(weight)."
        if not _same(numbers, other_numbers):
            return "The rows are right. The biases share a number, too: f(bias + 5) is not yet f(bias)."
        zeros.append(_same(rows.sum(0), torch.zeros(channels)) and _same(numbers.sum(), torch.zeros(())))
    if all(zeros):
        return "Right: on three random networks. Your zero is the mean of all classes."
    return "Right: on three random networks. Your zero is not the mean of all classes, and that is just as good."


def _pair_mistake(answer: Any, weight: Tensor, bias: Tensor) -> str:
    """Whether an answer is a weight and a bias that give the same answers as these."""
    if answer is None or answer is ...:
        return "No answer yet: return two results, the new weight and the new bias."
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        return f"Return two results, (weight, bias); this is one {type(answer).__name__}."
    rows, numbers = (tensor(part) for part in answer)
    for name, given, right in (("weight", rows, weight), ("bias", numbers, bias)):
        if given is None or given.shape != right.shape:
            got = "no tensor" if given is None else tuple(given.shape)
            return f"The new {name} should have the shape of the old one, {tuple(right.shape)}; this is {got}."
    if not _same(rows - rows[:1], weight - weight[:1]):
        if _same(rows - rows[:1], _less_own(weight) - _less_own(weight)[:1]):
            return "You subtract a different number from each row: the answers change. Take the mean over dim 0."
        lengths = weight.norm(dim=1, keepdim=True)
        if _same(rows, weight / lengths) or _same(rows, (weight - weight.mean(0)) / (weight - weight.mean(0)).norm()):
            return "The rows were rescaled, so the probabilities change. Only subtract."
        return "The differences of the rows have changed, and with them the answers: subtract the same from every row."
    if not _same(numbers - numbers[:1], bias - bias[:1]):
        return "The differences of the biases have changed, and with them the answers."
    return ""


def _less_own(weight: Tensor) -> Tensor:
    return weight - weight.mean(1, keepdim=True)


def _called(function: Callable[..., Any], inputs: tuple[Tensor, ...], *more: int) -> tuple[Any, str]:
    """What a function returns for copies of the inputs, and what is wrong with the call itself."""
    copies = tuple(t.clone() for t in inputs)
    try:
        answer = function(*copies, *more)
    except Exception as e:  # whatever a learner's code raises
        shapes = ", ".join(str(tuple(t.shape)) for t in inputs)
        return None, f"With inputs of the shapes {shapes} it raises: {e}"
    if any(not torch.equal(t, old) for t, old in zip(copies, inputs, strict=True)):
        return None, (
            "The function changes its inputs in place, and the caller may still need them. Work on copies (`.clone()`)."
        )
    return answer, ""


def _named(given: Tensor, mistakes: dict[str, Tensor], otherwise: str) -> str:
    """The first of the mistakes that gives these values; "" is the right answer."""
    for text, values in mistakes.items():
        if _same(given, values):
            return f"Not yet: {text}." if text else ""
    return otherwise


def _same(one: Tensor, other: Tensor) -> bool:
    return one.numel() == other.numel() and torch.allclose(one.reshape(other.shape), other, atol=1e-4)


def _stretch(m: Tensor) -> Tensor:
    return (m - m.min()) / (m.max() - m.min())
