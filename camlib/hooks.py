"""See what a layer produced, exactly as it was at that moment, and leave no trace."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from camlib.errors import CamError, LayerError, ModelError, near

Layer = str | nn.Module


class Seen(dict[Layer, Tensor]):
    """What `capture` saw: layer → tensor, by the name or module asked for. A layer that runs twice keeps its last."""

    def __missing__(self, layer: Layer) -> Tensor:
        name = layer if isinstance(layer, str) else type(layer).__name__
        raise LayerError(
            f"Nothing was captured of {name!r}: it was not asked for, or the network has not run it. "
            "Call the network inside the with block."
        )


@contextmanager
def capture(module: nn.Module, *layers: Layer, inputs: bool = False, live: bool = False) -> Iterator[Seen]:
    """Record the outputs (or `inputs`) of layers during the forward passes of the block.

    module: any network. layers: names as in `module.named_modules()`, or the modules themselves.
    live=False gives detached copies, so no graph is kept. live=True gives tensors to differentiate by: those of the
    graph or, inside `torch.no_grad()`, a leaf with which a graph begins: only what comes after the layer is recorded.

    Either way a later in-place operation, such as `ReLU(inplace=True)`, does not change what was seen. Only the forward
    passes of the calling thread are recorded. The hooks are removed when the block ends, also by an exception.

    Raises `LayerError` for an unknown layer and for one that does not give a single tensor.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.ReLU(inplace=True))
    >>> with capture(net, "0") as seen:
    ...     y = net(torch.zeros(1, 3, 5, 5))
    >>> seen["0"].shape
    torch.Size([1, 4, 5, 5])
    """
    seen, owner, handles = Seen(), threading.get_ident(), []

    def keep(layer: Layer, found: object) -> Tensor | tuple | None:
        if threading.get_ident() != owner:
            return None
        value, rest = found, None
        if isinstance(found, tuple) and found and (inputs or len(found) == 1):
            value, *rest = found  # of several inputs the first is the map
        if not isinstance(value, Tensor):
            verb = "receives" if inputs else "gives"
            raise LayerError(
                f"Layer {layer!r} {verb} a {type(value).__name__}, not one tensor; name a layer inside it."
            )
        if not live:
            seen[layer] = value.detach().clone()
            return None
        if not value.is_floating_point():
            raise LayerError(f"Layer {layer!r} gives {value.dtype}, which has no gradient; name a layer before it.")
        if not torch.is_grad_enabled():
            value = value.detach().requires_grad_()
            torch.set_grad_enabled(True)  # until the caller's no_grad block ends
        seen[layer] = value
        copy = value.clone()  # the network goes on with a copy: in-place operations then spare what was seen
        return copy if rest is None else (copy, *rest)

    def pre_hook(layer: Layer) -> Callable:
        return lambda _module, args: keep(layer, args)

    def hook(layer: Layer) -> Callable:
        return lambda _module, _args, output: keep(layer, output)

    found = [(layer, find_layer(module, layer)) for layer in layers]
    try:
        for layer, target in found:
            if inputs:
                handles.append(target.register_forward_pre_hook(pre_hook(layer)))
            else:
                handles.append(target.register_forward_hook(hook(layer)))
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def walk(module: nn.Module) -> Iterator[nn.Module]:
    """Every module of a network once: `module.modules()` in a fifth of the time, since every explanation needs it."""
    seen: set[int] = set()
    waiting: list[nn.Module | None] = [module]
    while waiting:
        m = waiting.pop()
        if m is not None and id(m) not in seen:
            seen.add(id(m))
            waiting.extend(m._modules.values())
            yield m


def check_network(module: object, deep: bool = True) -> None:
    """A `ModelError` for what is no network, or one whose layers cannot be watched; deep: whose parts can't either."""
    if not isinstance(module, nn.Module):
        raise ModelError(
            f"A network is a torch.nn.Module, not {type(module).__name__}; of a Classifier take its module."
        )
    if any(isinstance(m, torch.jit.ScriptModule) for m in (walk(module) if deep else [module])):
        raise ModelError(
            f"{type(module).__name__} is TorchScript, whose layers cannot be watched; explain the network that it was "
            "made from, with the same weights (load_state_dict)."
        )


def find_layer(module: nn.Module, layer: Layer) -> nn.Module:
    """The submodule with that name, or the module itself if it belongs to the network; else a `LayerError`."""
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


_lock = threading.Lock()
_evaluated: WeakKeyDictionary[nn.Module, tuple[int, list[nn.Module]]] = WeakKeyDictionary()


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Run the block in evaluation mode; every module's own training flag is put back by the last block that ends.

    Threads may share a network: the flags are those from before the first of them.
    """
    with _lock:
        depth, training = _evaluated.get(module, (0, []))
        if depth == 0:
            training = [m for m in walk(module) if m.training]
            for m in training:
                m.training = False
        _evaluated[module] = depth + 1, training
    try:
        yield
    finally:
        with _lock:
            depth, training = _evaluated.pop(module)
            if depth > 1:
                _evaluated[module] = depth - 1, training
            else:
                for m in training:
                    m.training = True


def run_hooked(module: nn.Module, x: Tensor, before: Callable, after: Callable) -> Any:
    """One forward pass in evaluation mode, watched.

    before(name, module, first input) and after(name, module, output) are called for every submodule that runs.
    """
    owner = threading.get_ident()

    def pre_hook(name: str) -> Callable:
        def hook(m: nn.Module, args: tuple) -> None:
            if threading.get_ident() == owner and args and isinstance(args[0], Tensor) and args[0].ndim:
                before(name, m, args[0])

        return hook

    def post_hook(name: str) -> Callable:
        def hook(m: nn.Module, _args: tuple, output: Any) -> None:
            if threading.get_ident() == owner:
                after(name, m, output)

        return hook

    handles = []
    try:
        for name, m in module.named_modules():
            if name:
                handles += [m.register_forward_pre_hook(pre_hook(name)), m.register_forward_hook(post_hook(name))]
        with eval_mode(module):
            return forward(module, x)
    finally:
        for handle in handles:
            handle.remove()


def forward(module: nn.Module, x: Tensor) -> Any:
    """module(x); what a network raises for an input that it does not take becomes a `ModelError` that says so.

    Of a network that `torch.compile` has fused, the layers no longer run one by one and no hook is called; the network
    that it was made from has the same parameters, and is run instead.
    """
    module = getattr(module, "_orig_mod", module)
    try:
        return module._call_impl(x)  # what module(x) calls, unless module.compile() has put something in its place
    except CamError:
        raise
    except Exception as e:
        shape = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise ModelError(f"{type(module).__name__} fails on an input of {shape}: {e}") from e
