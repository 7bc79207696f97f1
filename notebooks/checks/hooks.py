"""Checks of the exercises: each looks at an answer and says what is right or which mistake it shows."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Breakdown(Exception):
    """Raised in the middle of a forward pass, on purpose."""


class _Broken(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise Breakdown("this layer fails on purpose")


def channel_means(function: Callable[[nn.Module, str, Tensor], Any]) -> str:
    """Chapter 02: function(module, layer, x) -> (B, C), the mean over the cells of what the layer gave."""
    net, x = _network(lambda: nn.Conv2d(4, 2, 1)), _noise(2, 3, 7, 9)
    with torch.no_grad():
        features, logits = net.conv(x), net(x)
    outputs: list[Tensor] = []
    net.register_forward_hook(lambda _module, _args, output: outputs.append(output.detach().clone()))
    net.relu.register_forward_hook(lambda _module, _args, _output: None)  # somebody else's
    before = _hooks(net)
    try:
        means = function(net, "conv", x)
    except Exception as e:
        return f"Your function raised {type(e).__name__}: {e}"
    if means is None and not outputs:
        return "No answer yet: channel_means never called the network and returned None."
    if left := _hooks(net) - before:
        return (
            f"A hook was left behind: {len(left)} after one call, one more with every further call. "
            "Keep the handle that register_forward_hook returns, and remove it."
        )
    if before - _hooks(net):
        return "You removed a hook that is not yours. Remove your own through its handle, and no other."
    if not outputs:
        return "The network was never called: a hook runs only in the forward pass of module(x)."
    if not torch.allclose(outputs[-1], logits, atol=1e-5):
        return (
            "The network's own output has changed. A hook that returns a value puts it in the place of the layer's "
            "output: let yours return nothing."
        )
    return _wrong_value(means, features) or _wrong_after_exception(function) or _right(means)


def _wrong_value(means: Any, features: Tensor) -> str | None:
    """The mistake that the answer shows; None where the values are right and stand alone."""
    right = features.mean((2, 3))
    if means is None:
        return "channel_means returned None: does it end with a return?"
    if not isinstance(means, Tensor):
        return f"The answer is one tensor (B, C); this is a {type(means).__name__}."
    value = means.detach()
    if value.shape == right.shape and torch.allclose(value, right, atol=1e-5):
        if means.requires_grad:
            return (
                "The values are right, but the tensor is live: it keeps the graph of the whole forward pass in memory. "
                "Detach it."
            )
        return None
    if value.shape == right.shape and torch.allclose(value, features.clamp(min=0).mean((2, 3)), atol=1e-5):
        return (
            "The stored map was overwritten: these are the means after the in-place ReLU that follows the layer. "
            "Clone the map in the hook, or take the mean there."
        )
    if value.shape == right.shape and torch.allclose(value, features.sum((2, 3)), atol=1e-4):
        return "These are sums over the cells; divide by their number, or take the mean."
    if value.shape == features.shape:
        return f"This is the whole feature map, {tuple(value.shape)}. Take the mean over its rows and columns."
    if value.shape != right.shape:
        return (
            f"The answer has the shape {tuple(value.shape)}. For a feature map {tuple(features.shape)} it is (B, C) = "
            f"{tuple(right.shape)}: the mean over the rows and columns, axes 2 and 3."
        )
    return "The shape is right, the values are not: is the hook on the layer that was asked for?"


def _wrong_after_exception(function: Callable[[nn.Module, str, Tensor], Any]) -> str | None:
    net = _network(_Broken)
    try:
        function(net, "conv", _noise(2, 3, 7, 9))
    except Breakdown:
        if _hooks(net):
            return (
                "Right for a network that runs. One that raises in the middle of its forward pass keeps your hook: "
                "remove it in a finally block, or with a context manager."
            )
        return None
    except Exception as e:
        return f"The network raised a Breakdown, and your function turned it into {type(e).__name__}: {e}"
    return "The network raised an exception, and your function swallowed it. Clean up, and let the exception pass."


def _right(means: Tensor) -> str:
    return f"Right: {tuple(means.shape)}, detached, as it was at that moment; no hook left, even after an exception."


def _network(last: Callable[[], nn.Module]) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = OrderedDict(conv=nn.Conv2d(3, 4, 3), relu=nn.ReLU(inplace=True), last=last())
        return nn.Sequential(layers)


def _noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def _hooks(net: nn.Module) -> set[tuple[str, int]]:
    """Every hook of the network: its module's name and its number."""
    kinds = ("_forward_hooks", "_forward_pre_hooks")
    return {(name, number) for name, m in net.named_modules() for kind in kinds for number in getattr(m, kind)}
