"""Checks of chapter 08's exercises: each recognises the usual mistakes by the numbers that they give."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from camlib import capture

Step = list[tuple[Callable[..., Tensor], str]]

TARGETS: Step = [
    # logits (B, K), k -> the number that is differentiated
    (lambda z, k: z[:, k].sum(), ""),
    (lambda z, k: z.softmax(1)[:, k].sum(), "the probability is differentiated; take the logit, before any softmax"),
    (lambda z, k: z.log_softmax(1)[:, k].sum(), "the logarithm of the probability is differentiated; take the logit"),
    (lambda z, k: z.sum(), "the logits of all classes are differentiated; take those of class k, logits[:, k]"),
    (lambda z, k: z.amax(1).sum(), "each picture's best class is explained, not class k"),
    (lambda z, k: z[:, k].mean(), "the mean over the batch divides each gradient by B; use logits[:, k].sum()"),
    (
        lambda z, k: z[k : k + 1].sum(),
        "all logits of picture k are differentiated; take those of class k, logits[:, k]",
    ),
    (lambda z, k: z[0, k], "only the first picture's logit is differentiated; the others get gradient zero"),
]
WEIGHTS: Step = [
    # gradient (B, C, h, w) -> what the features are multiplied by
    (lambda g: g.mean((2, 3), keepdim=True), ""),
    (
        lambda g: g.sum((2, 3), keepdim=True),
        "the maps are too large by the number of cells; take the gradient's mean over the cells, not its sum",
    ),
    (lambda g: g, "every cell keeps its own gradient: that is HiResCAM. Take the mean over the cells first"),
    (lambda g: g.clamp(min=0), "every cell keeps its own positive gradient: that is LayerCAM"),
    (lambda g: g.clamp(min=0).mean((2, 3), keepdim=True), "negative gradients are set to zero; keep their sign"),
    (lambda g: g.abs().mean((2, 3), keepdim=True), "the gradient's absolute value is taken; keep its sign"),
    (
        lambda g: g.mean(1, keepdim=True),
        "the mean runs over the channels, axis 1; take it over the cells, axes 2 and 3",
    ),
    (lambda g: g.mean((0, 2, 3), keepdim=True), "the mean runs over the pictures too; each one has its own weights"),
    (lambda g: g.amax((2, 3), keepdim=True), "the largest gradient of a channel is taken; Grad-CAM takes its mean"),
]
SUMS: Step = [
    (lambda products: products.sum(1), ""),
    (lambda products: products.mean(1), "the products are averaged over the channels; the map is their sum"),
]
ENDINGS: Step = [
    (lambda m: m, ""),
    (lambda m: m.clamp(min=0), "negative cells are set to zero (ReLU); the signed map is asked for"),
    (lambda m: m.abs(), "the absolute value is taken; the signed map is asked for"),
    (lambda m: m / m.abs().amax((1, 2), keepdim=True), "each map is divided by its maximum; leave it in its unit"),
    (lambda m: m.clamp(min=0) / m.amax((1, 2), keepdim=True), "that is max(h, 0) / max(h); give h itself, signed"),
    (
        lambda m: (m - m.amin((1, 2), keepdim=True)) / (m.amax((1, 2), keepdim=True) - m.amin((1, 2), keepdim=True)),
        "each map is stretched to 0..1; leave it in its unit, with its zero",
    ),
]


def weight_row(function: Callable[[Tensor, Tensor], Any]) -> str:
    """function(logit, A) gives the classifier's row (C,) from a logit and the live feature map A (1, C, h, w)."""
    for seed, (channels, h, w) in enumerate([(5, 3, 4), (4, 2, 5)]):
        A = _noise(seed, 1, channels, h, w).relu_().requires_grad_()
        weight = _noise(seed + 5, 3, channels)
        logits = A.mean((2, 3)) @ weight.T + 0.5
        answer, message = _called(function, logits[0, 1], A)
        message = message or _row_mistake(answer, A, weight, 1)
        if message:
            return message
        if A.grad is not None:
            return "The row is right. But `backward()` leaves a gradient in A.grad: use torch.autograd.grad."
    return "Right: two classifiers, found through the gradient alone."


def _row_mistake(answer: Any, A: Tensor, weight: Tensor, k: int) -> str:
    if answer is None or answer is ...:
        return "No answer yet: return the row, (C,)."
    if isinstance(answer, tuple) and len(answer) == 1 and isinstance(answer[0], Tensor):
        return "torch.autograd.grad returns a tuple, with one gradient for each input: take its first entry."
    row, channels = _tensor(answer), A.shape[1]
    if row is None:
        return f"The answer is one row (C,); this is {type(answer).__name__}."
    per_cell = weight[k] / A[0, 0].numel()
    if row.shape == A.shape or row.shape == A.shape[1:]:
        return f"That is the gradient itself, {tuple(row.shape)}: one number for each cell. Sum it over the cells."
    if row.numel() != channels:
        return f"A feature map {tuple(A.shape)} needs a row of {channels} numbers; this has shape {tuple(row.shape)}."
    row = row.flatten()
    if _same(row, weight[k]):
        return ""
    if _same(row, per_cell):
        n = A[0, 0].numel()
        return f"Each number is too small, by the number of cells, {n}: sum over the cells, or take n times the mean."
    if _same(row, weight[k].abs()):
        return "The sign is gone: a channel can also count against the class."
    if _same(row, (weight[k] / A[0, 0].numel()).clamp(min=0)) or _same(row, weight[k].clamp(min=0)):
        return "Negative weights are set to zero: a channel can also count against the class."
    if _same(row, weight[k] * A.detach().mean((0, 2, 3))) or _same(row, per_cell * A.detach().mean((0, 2, 3))):
        return "That is the row times the mean of A: what each channel brings to the logit. Leave A out."
    return "Not yet: differentiate the logit by A, then sum over the cells, axes 2 and 3."


def one_weight_per_channel(function: Callable[[Tensor, Tensor], Any]) -> str:
    """function(A, G) gives maps (B, h, w) with one weight per channel, and each channel's sum is that of G · A."""
    for seed, shape in enumerate([(2, 4, 3, 5), (3, 5, 4, 2)]):
        A, G = _noise(seed, *shape).relu_(), _noise(seed + 5, *shape)
        A[0, 1] = 0  # a channel that is zero everywhere
        A[:, 2, 0, 0] += 3
        A[:, 3] *= 0.1  # a weak channel, whose sum is below 1
        answer, message = _called(function, A, G)
        message = message or _weight_mistake(answer, A, G)
        if message:
            return message
    return "Right: one weight per channel, and the sum of HiResCAM."


def _weight_mistake(answer: Any, A: Tensor, G: Tensor) -> str:
    if answer is None or answer is ...:
        return "No answer yet: return the maps, a tensor (B, h, w)."
    maps, shape = _tensor(answer), (len(A), *A.shape[2:])
    if maps is None or maps.shape != shape:
        got = type(answer).__name__ if maps is None else tuple(maps.shape)
        hint = ". Sum the products over the channels, axis 1" if maps is not None and maps.shape == A.shape else ""
        hint = ". Those are the weights; multiply A by them and sum" if maps is not None and maps.ndim == 2 else hint
        return f"A and G {tuple(A.shape)} give maps {shape}; this is {got}{hint}."
    products, mean = (G * A).sum((2, 3), keepdim=True), G.mean((2, 3), keepdim=True)
    total = A.sum((2, 3), keepdim=True)
    right = products / total.clamp(min=1e-12)
    if _same(maps, (right * A).sum(1), 1e-3):
        return ""
    if not torch.isfinite(maps).all():
        return "There is a NaN, 0 / 0: one channel of the first picture is zero in all cells. Let its weight be 0."
    if _same(maps, (mean * A).sum(1)):
        return "That is Grad-CAM: its weights are mean(G), and its channels' sums are not those of G · A."
    if _same(maps, (G * A).sum(1)):
        return "That is HiResCAM: each cell has a weight of its own. Find one number for each channel."
    if _same(maps, (products * A).sum(1)):
        return "The weight is the sum of G · A. Times A, it is too large by the sum of A: divide by that."
    if _same(maps, (products / A[0, 0].numel() * A).sum(1)):
        return "The weight is the mean of G · A. Divide the sum of G · A by the sum of A, not by the number of cells."
    if _same(maps, (right.clamp(min=0) * A).sum(1), 1e-3):
        return "Negative weights are set to zero, so their channels' sums are lost."
    if _same(maps, (products / total.clamp(min=1) * A).sum(1), 1e-3):
        return "A weak channel loses a part: its sum of A, below 1, is raised to 1. Only 0 needs a guard."
    if _same(maps, (products / (total**2).clamp(min=1e-12) * A).sum(1), 1e-3):
        return "You divide by the sum of A twice."
    scale = (G * A).sum((1, 2, 3), keepdim=True) / (mean * A).sum((1, 2, 3), keepdim=True)
    if _same(maps, (scale * mean * A).sum(1), 1e-3):
        return "Grad-CAM was rescaled as a whole: the map's sum is right, but not that of each channel."
    over_all = (G * A).sum((0, 2, 3), keepdim=True) / A.sum((0, 2, 3), keepdim=True).clamp(min=1e-12)
    if _same(maps, (over_all * A).sum(1), 1e-3):
        return "The sums run over the pictures too, axis 0. Each picture has its own weights."
    return "Not yet: w · (sum of A) must be the sum of G · A, for each channel of each picture. Solve for w."


def _called(function: Callable[..., Any], *inputs: Tensor) -> tuple[Any, str]:
    """What a function returns, and what is wrong with the call itself."""
    before = [t.detach().clone() for t in inputs]
    try:
        answer = function(*inputs)
    except Exception as e:  # whatever a learner's code raises
        shapes = ", ".join(str(tuple(t.shape)) for t in inputs)
        return None, f"With inputs of the shapes {shapes} your function raises {type(e).__name__}: {e}"
    if any(not torch.equal(t, old) for t, old in zip(inputs, before, strict=True)):
        return None, "The function changes its inputs in place, and the caller may still need them. Work on copies."
    return answer, ""


def _tensor(value: Any) -> Tensor | None:
    """Tensors, arrays, lists and numbers as a float tensor; None for anything else."""
    if isinstance(value, (list, tuple)):
        value = [part.tolist() if isinstance(part, (Tensor, np.ndarray)) else part for part in value]
    if isinstance(value, np.ndarray):
        value = value.copy()  # torch takes no negative strides, as from [::-1]
    try:
        return torch.as_tensor(value).detach().float()
    except (TypeError, ValueError, RuntimeError):
        return None


def batch_of_maps(function: Callable[[nn.Module, str, Tensor, int], Any]) -> str:
    """Chapter 08: function(net, layer, x, k) gives the signed Grad-CAM of each picture, (B, h, w)."""
    for seed, (channels, side, count) in enumerate([(5, (6, 8), 3), (4, (7, 5), 2)]):
        net, x = _network(channels, side, seed), _noise(seed, count, 3, *side)
        before = {name: p.detach().clone() for name, p in net.named_parameters()}
        try:
            answer = function(net, "features", x.clone(), 2)
        except Exception as e:  # whatever a learner's code raises
            return f"With x {tuple(x.shape)} and k = 2 your function raises {type(e).__name__}: {e}"
        if answer is None:
            return "No answer yet: your function returns nothing. Return the maps, a tensor (B, h, w)."
        attached = isinstance(answer, Tensor) and answer.requires_grad
        maps = _tensor(answer)
        if maps is None:
            return f"The answer is one tensor (B, h, w); this is {type(answer).__name__}."
        if message := _shape(maps, x) or _traces(net, before) or _value(maps, net, x, 2):
            return message
        if attached:
            return "The values are right. Detach the maps: they still hold on to the whole graph behind them."
    return "Right: two networks without GAP, five pictures, and nothing left behind."


def _network(channels: int, side: tuple[int, int], seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        features = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.LeakyReLU(0.3, inplace=True))
        cells = channels * side[0] * side[1]
        net = nn.Sequential(features, nn.Flatten(), nn.Linear(cells, 9), nn.ReLU(), nn.Linear(9, 4)).eval()
    with torch.no_grad():
        net[4].weight.mul_(6)  # so that the softmax matters
    named = nn.Sequential()
    for name, module in zip(("features", "flatten", "hidden", "relu", "classifier"), net, strict=True):
        named.add_module(name, module)
    return named.eval()


def _noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + 10))


def _shape(answer: Tensor, x: Tensor) -> str:
    b, h, w = len(x), *x.shape[2:]
    if answer.shape == (b, h, w):
        return ""
    found = tuple(answer.shape)
    hint = {
        (h, w): ": one map. Give one for each picture of the batch",
        (b, 1, h, w): ": squeeze the axis of the channels, which the sum leaves when it keeps it",
        (1, h, w): ": one map. Give one for each picture of the batch",
    }.get(found, "")
    if answer.ndim == 4 and not hint:
        hint = ": the products are not summed over the channels, axis 1"
    return f"{b} pictures with a feature map of {h} × {w} cells give maps {(b, h, w)}; this is {found}{hint}."


def _traces(net: nn.Module, before: dict[str, Tensor]) -> str:
    if any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in net.modules()):
        return "A hook was left behind in the network. Use camlib.capture, or remove it through its handle."
    if any(not torch.equal(p, before[name]) for name, p in net.named_parameters()):
        return "The network's parameters have changed."
    if any(p.grad is not None for p in net.parameters()):
        return "Your function leaves gradients in the parameters (backward() does). Use torch.autograd.grad."
    if any(m.training for m in net.modules()):
        return "The network was put into training mode. Leave it as it was."
    return ""


def _value(answer: Tensor, net: nn.Module, x: Tensor, k: int) -> str:
    """What is wrong with the maps; nothing where they are right."""
    if not torch.isfinite(answer).all():
        return "The maps hold NaN or infinity. Was something divided by a maximum?"
    with capture(net, "features", live=True) as seen:
        logits = net(x)
    A = seen["features"]
    gradients = [torch.autograd.grad(target(logits, k), A, retain_graph=True)[0] for target, _ in TARGETS]
    others = [torch.autograd.grad(logits[:, j].sum(), A, retain_graph=True)[0] for j in range(logits.shape[1])]
    A = A.detach()
    ways = product(zip(gradients, (what for _, what in TARGETS), strict=True), WEIGHTS, SUMS, ENDINGS)
    for (g, a), (weigh, b), (add, c), (end, d) in sorted(ways, key=lambda way: sum(bool(w[1]) for w in way)):
        if _same(answer, end(add(weigh(g) * A))):
            mistakes = [what for what in (a, b, c, d) if what]
            return f"Not yet: {'; '.join(mistakes)}." if mistakes else ""
    for j, g in enumerate(others):
        if _same(answer, (g.mean((2, 3), keepdim=True) * A).sum(1)):
            return f"That is the Grad-CAM of class {j}; class {k} was asked for."
    if _same(answer, A.sum(1)) or _same(answer, A.mean(1)):
        return "That is the feature map itself, added up over the channels; no gradient is in it."
    return "Not yet: mean of the gradient over the cells, times the features, summed over the channels."


def _same(one: Tensor, other: Tensor, tolerance: float = 1e-4) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=tolerance, atol=tolerance / 100)
