"""Check of chapter 08's exercise: it recognises each usual mistake by the maps that it gives, on random networks."""

from collections.abc import Callable
from itertools import product
from typing import Any

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
]


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
        if message := _shape(answer, x) or _traces(net, before) or _value(answer.detach(), net, x, 2):
            return message
        if answer.requires_grad:
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


def _shape(answer: Any, x: Tensor) -> str:
    if not isinstance(answer, Tensor):
        return f"The answer is one tensor (B, h, w); this is a {type(answer).__name__}."
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


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-4, atol=1e-6)
