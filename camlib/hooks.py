"""Record a layer's output exactly as it was when the layer ran, and leave no trace in the network."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from camlib.errors import LayerError, near, twice
from camlib.network import Hooks, check_network

Layer = str | nn.Module
"""A layer by its name, as in `module.named_modules()`, or the module itself."""


class Captured(dict[Layer, Tensor]):
    """What `capture` recorded: layer → tensor, by the name or module that you passed. `runs` counts a layer's runs."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: dict[Layer, int] = {}

    def __missing__(self, layer: Layer) -> Tensor:
        raise LayerError(
            f"Nothing was captured from {layer_name(layer)!r}: it is not among the layers given to capture, or the "
            "network has not run it. Call the network inside the with block."
        )


@contextmanager
def capture(
    module: nn.Module, *layers: Layer, inputs: bool = False, live: bool = False, call: int | None = None
) -> Iterator[Captured]:
    """Record the outputs of layers during the forward passes inside a `with` block, and leave no trace in the network.

    A later in-place operation, such as `ReLU(inplace=True)`, does not change what was recorded. Only the forward passes
    of the calling thread are recorded. The hooks are removed when the block ends, even by an exception.

    Parameters
    ----------
    module
        Any network.
    layers
        Names as in `module.named_modules()`, or the modules themselves.
    inputs
        Record the layers' inputs instead.
    live
        False gives detached copies, so no graph stays in memory. True gives the tensors of the graph itself, so you can
        differentiate with respect to them. Inside `torch.no_grad()`, each is a leaf that starts a new graph, so
        autograd only records what comes after the layer; the grad mode is restored when the block ends.
    call
        Which run to record if a layer runs several times, counted from 0; None records the last.

    Returns
    -------
    captured : dict
        Layer → tensor, by the name or module that you passed. `captured.runs` counts how often each layer ran.

    Raises
    ------
    LayerError
        For an unknown layer, or a layer whose output is not a single tensor.

    Examples
    --------
    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.ReLU(inplace=True))
    >>> with capture(net, "0") as captured:
    ...     y = net(torch.zeros(1, 3, 5, 5))
    >>> captured["0"].shape
    torch.Size([1, 4, 5, 5])
    """
    captured, owner = Captured(), threading.get_ident()

    def record(layer: Layer, data: object) -> Tensor | tuple | None:
        if threading.get_ident() != owner:
            return None
        run = captured.runs.get(layer, 0)
        captured.runs[layer] = run + 1
        if call not in (None, run):
            return None
        value, rest = data, None
        if isinstance(data, tuple) and data and (inputs or len(data) == 1):
            value, *rest = data  # of several inputs, the first is the map
        if not isinstance(value, Tensor):
            verb = "receives" if inputs else "gives"
            raise LayerError(
                f"Layer {layer_name(layer)!r} {verb} a {type(value).__name__}, not one tensor; name a layer inside it."
            )
        if not live:
            captured[layer] = value.detach().clone()
            return None
        if not value.is_floating_point():
            raise LayerError(
                f"Layer {layer_name(layer)!r} gives {value.dtype}, which has no gradient; name a layer before it."
            )
        if not value.requires_grad or not torch.is_grad_enabled():
            value = value.detach().requires_grad_()
            torch.set_grad_enabled(True)  # until the block ends
        captured[layer] = value
        with torch.enable_grad():
            copy = value.clone()  # so that in-place operations in later layers do not change what was recorded
        return copy if rest is None else (copy, *rest)

    def pre_hook(layer: Layer) -> Callable:
        return lambda _module, args, kwargs: _with(record(layer, args), kwargs)

    def hook(layer: Layer) -> Callable:
        return lambda _module, _args, output: record(layer, output)

    targets = [(layer, find_layer(module, layer)) for layer in layers]
    grad, hooks = torch.is_grad_enabled(), Hooks()
    try:
        for layer, target in targets:
            if inputs:
                hooks.before(target, pre_hook(layer))
            else:
                hooks.after(target, hook(layer), first=live)  # so that other hooks see the tensor in the graph
        yield captured
    except GeneratorExit:  # see `camlib.network.untouched`
        live = False
        raise
    finally:
        twice(hooks.remove)
        if live:
            torch.set_grad_enabled(grad)


def _with(args: object, kwargs: dict) -> tuple | None:
    return None if args is None else (args if isinstance(args, tuple) else (args,), kwargs)


def find_layer(module: nn.Module, layer: Layer) -> nn.Module:
    """The submodule with this name, or the given module if it belongs to the network; otherwise a `LayerError`."""
    check_network(module, deep=False)
    if isinstance(layer, str):
        try:
            return module.get_submodule(layer)
        except AttributeError:
            pass
    elif any(layer is m for m in module.modules()):
        return layer
    if not isinstance(layer, str):
        raise LayerError(f"This {type(layer).__name__} is not part of the {type(module).__name__}.")
    names = [name for name, _ in module.named_modules() if name]
    hint = near(layer, names) or f" Its top layers: {', '.join(n for n, _ in module.named_children())}."
    raise LayerError(f"{type(module).__name__} has no layer {layer!r}.{hint}")


def layer_name(layer: Layer) -> str:
    """How error messages refer to a layer: by its name, or by its type if it is given as a module."""
    return layer if isinstance(layer, str) else type(layer).__name__
