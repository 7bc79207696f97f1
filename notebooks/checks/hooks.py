"""Checks of chapter 02: each looks at an answer and says what is right, or which mistake it shows."""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as global_hooks

import camlib
from checks.answers import tensor

GLOBAL = (global_hooks._global_forward_hooks, global_hooks._global_forward_pre_hooks)  # these run in every network
RESTORE = "Leave it as it was."


class Breakdown(Exception):
    """Raised in the middle of a forward pass, on purpose."""


class _Stopped(KeyboardInterrupt):
    """The stop button, pressed in the middle of a forward pass."""


class _Broken(nn.Module):
    def __init__(self, error: type[BaseException] = Breakdown) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: Tensor) -> Tensor:
        raise self.error("this layer fails on purpose")


def output_shape(net: nn.Module, layer: str, x: Tensor, answer: Any) -> str:
    """The shape of what a layer gives for x, as a torch.Size, tuple, list, array or tensor; no hook left on the net."""
    if answer is None:
        return "No answer yet: put the shape in place of None."
    clean = copy.deepcopy(net)
    for module in clean.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    with torch.no_grad():
        with camlib.capture(clean, layer) as outputs:
            clean(x)
        with camlib.capture(clean, layer, inputs=True) as inputs:
            clean(x)
    right = tuple(outputs[layer].shape)
    while isinstance(answer, Sequence) and not isinstance(answer, str) and len(answer) == 1:
        answer = answer[0]  # a list of what the hook stored
    if isinstance(answer, Tensor) and tuple(answer.shape) == right:
        return "That is the output itself. Its shape is in output.shape."
    try:
        given = tuple(int(v) for v in answer)
    except (TypeError, ValueError, RuntimeError):
        return f"The shape is four whole numbers, like (1, 3, 224, 224); this is {_short(answer)}."
    if given == right:
        left = len(_hooks(net))
        if not left:
            return f"Right: {right}, that is one photo, {right[1]} channels, {right[2]} rows and {right[3]} columns."
        still = "a hook is" if left == 1 else f"{left} hooks are"
        return f"The shape is right, but {still} still on the network. Make a new copy of it, and call handle.remove()."
    if given == right[1:]:
        return f"The number of photos is missing in {given}: the first axis."
    if given == tuple(inputs[layer].shape):
        return (
            f"{given} is the shape of the layer's input, which is the previous layer's output. Is your hook on "
            f"{layer}, and do you store its third argument, the output?"
        )
    if not given:
        return "Nothing was stored: a hook runs only in forward passes after its registration. Call net(x) then."
    if len(given) == 4 and given[:2] == right[:2]:
        return f"The rows and columns of {layer}'s output for x are not those of {given}. Did you call net(x)?"
    return f"Not yet: {given} is not the shape of {layer}'s output. Is your hook on that layer?"


def channel_means(function: Callable[[nn.Module, str, Tensor], Any]) -> str:
    """function(net, layer, x) -> (B, C), the mean over the cells of what the layer gave, and nothing left behind."""
    net, x = _network(lambda: nn.Conv2d(4, 2, 1)), _noise(2, 3, 7, 9)
    with torch.no_grad():
        features, logits = net.conv(x), net(x)
    outputs: list[Tensor] = []
    net.register_forward_hook(lambda _module, _args, output: outputs.append(output.detach().clone()))
    calls, replaced = _watch(net)
    before, state = _hooks(net), _state(net)
    with _put_back():
        try:
            means = function(net, "conv", x.clone())
        except Exception as e:
            hint = " Your hook returned a value, which replaced the layer's output." if replaced else ""
            return f"Your function raised {type(e).__name__}: {e}{hint}"
        if (means is None or means is ...) and not calls:
            return "No answer yet: channel_means never called the network and returned None."
        if left := _hooks(net) - before:
            return (
                f"You left a hook behind: {len(left)} after one call, and one more with every further call. "
                "Keep the handle that the registration returns, and remove it."
            )
        if before - _hooks(net):
            return "You removed a hook that is not yours. Remove your own through its handle, and no other."
        if not calls:
            return "The network was never called: a hook runs only in the forward pass, net(x)."
        if not outputs:
            return "The forward pass did not reach its end: let the network run through."
        if not torch.allclose(outputs[-1], logits, atol=1e-5):
            return (
                "The network's own output has changed. If a hook returns a value, that value replaces the layer's "
                "output: let yours return nothing."
            )
        if fault := _wrong_means(means, features, bool(replaced)) or _left_on(net, state):
            return fault
    return _wrong_after_exception(function) or _right(features)


def _wrong_means(means: Any, features: Tensor, replaced: bool) -> str | None:
    """The mistake that the answer shows; None where the values are right and stand alone."""
    right = features.mean((2, 3))
    if means is None:
        return "channel_means returned None: does it end with a return?"
    value = tensor(means)
    if value is None:
        return f"The answer is one tensor (B, C); this is a {type(means).__name__}."
    if _near(value, right[None]):
        return (
            f"The values are right, but there is one axis too many: {tuple(value.shape)} for (B, C) = "
            f"{tuple(right.shape)}. The hook's list has one entry; return that entry."
        )
    if _near(value, right):
        if _live(means):
            return (
                "The values are right, but the tensor is live: it keeps the graph of the whole forward pass in memory. "
                "Detach it."
            )
        return None
    if _near(value, features.clamp(min=0).mean((2, 3))):
        if replaced:
            return (
                "Your hook returns what it stores. That replaces the layer's output, so the in-place ReLU that follows "
                "overwrites it: let the hook return nothing."
            )
        return (
            "The stored map was overwritten: these are the means after the in-place ReLU that follows the layer. "
            "Clone the map in the hook, or take the mean there."
        )
    if _near(value, features.sum((2, 3))):
        return "These are sums over the cells; divide by the number of cells, or take the mean."
    if value.shape == features.shape:
        return f"This is the whole feature map, {tuple(value.shape)}. Take the mean over its rows and columns."
    if value.shape != right.shape:
        return (
            f"The answer has the shape {tuple(value.shape)}. For a feature map {tuple(features.shape)} it is (B, C) = "
            f"{tuple(right.shape)}: the mean over the rows and columns, axes 2 and 3."
        )
    return "The shape is right, but the values are not. Is your hook on the layer that the function is given?"


def _wrong_after_exception(function: Callable[[nn.Module, str, Tensor], Any]) -> str | None:
    for error in (Breakdown, _Stopped):
        net = _network(partial(_Broken, error))
        before, state = _hooks(net), _state(net)
        try:
            with _put_back():
                try:
                    function(net, "conv", _noise(2, 3, 7, 9))
                except error:
                    if _hooks(net) - before:
                        return _left_after(error)
                    if what := _left_on(net, state):
                        return f"After an error in the network: {what}"
                    continue
        except Exception as e:
            return f"The network raised a Breakdown, and your function turned it into {type(e).__name__}: {e}"
        return "The network raised an exception, and your function swallowed it. Clean up, and let it pass."
    return None


def _left_after(error: type[BaseException]) -> str:
    if error is Breakdown:
        return (
            "Right for a network that runs. But if it raises an error in the middle of its forward pass, your hook "
            "stays: remove it in a finally block, or with a context manager."
        )
    return "The stop button (KeyboardInterrupt) leaves your hook behind: except Exception misses it. Use finally."


def _right(features: Tensor) -> str:
    shape = tuple(features.shape[:2])
    return f"Right: {shape}, detached, from before the ReLU; no hook left, even after an exception."


def record(function: Callable[..., Any]) -> str:
    """`with function(net, *names) as outputs:` -> {name: a detached copy of what the layer gave}, and no hook left."""
    net, x = _network(lambda: nn.Conv2d(4, 2, 1)), _noise(2, 3, 7, 9)
    with torch.no_grad():
        rights = {"conv": net.conv(x), "last": net(x)}
    _, replaced = _watch(net)
    before, state = _hooks(net), _state(net)
    with _put_back():
        return (
            _wrong_block(function, net, x, rights, replaced)
            or _wrong_hooks(_hooks(net), before)
            or _left_on(net, state)
            or _wrong_after_error(function)
            or _wrong_after_typo(function)
            or "Right: a copy from each layer, and no hook left, not even after an exception or a misspelt name."
        )


def _wrong_block(
    function: Callable[..., Any], net: Any, x: Tensor, rights: dict[str, Tensor], replaced: list[bool]
) -> str | None:
    """What is wrong with a with block in which nothing fails; None if nothing is."""
    before, names = _hooks(net), list(rights)
    try:
        manager = function(net, *names)
    except Exception as e:
        return f"record(net, 'conv', 'last') raised {type(e).__name__}: {e}"
    if manager is None or manager is ...:
        return "No answer yet: record returned None."
    if not isinstance(manager, AbstractContextManager):
        return _no_manager(manager)
    try:
        with manager as outputs:
            logits = net(x)
            registered = _hooks(net) - before
    except Exception as e:
        hint = " Your hook returned a value, which replaced the layer's output." if replaced else ""
        return f"A with block with two layers raised {type(e).__name__}: {e}{hint}"
    if not torch.allclose(logits, rights["last"], atol=1e-5):
        return "The network's own output has changed: let your hooks return nothing."
    if isinstance(outputs, dict) and not outputs and registered:
        return (
            "After the forward pass, the dictionary that you yield is empty, although your hooks ran. Yield the "
            "dictionary that they fill, not a copy of it."
        )
    return _wrong_recording(outputs, rights, bool(replaced))


def _no_manager(manager: Any) -> str:
    if isinstance(manager, Iterator):
        return "This is a generator. Write @contextmanager above the function, and it works in a with statement."
    return f"A with statement needs a context manager; record returned a {type(manager).__name__}."


def _wrong_recording(outputs: Any, rights: dict[str, Tensor], replaced: bool) -> str | None:
    if not isinstance(outputs, dict):
        return f"Yield a dictionary, name: copy; this is a {type(outputs).__name__}."
    if not outputs:
        return "No answer yet: after the forward pass, the dictionary is empty."
    *_, last = rights
    if set(outputs) == {last}:
        return (
            "Only the last name is in the dictionary. A hook that is defined in a loop reads the loop variable when it "
            "runs, and by then it holds the last name. Make each hook in a function that gets the name."
        )
    if set(outputs) != set(rights):
        keys = ", ".join(_short(key) for key in outputs)
        return f"The keys should be the names, {', '.join(map(repr, rights))}; yours are {keys}."
    for name, right in rights.items():
        value = tensor(outputs[name])
        if value is None:
            return f"The value of {name!r} is a {type(outputs[name]).__name__}; store a copy of the output."
        if value.shape == (1, *right.shape) and isinstance(outputs[name], (list, tuple)):
            value = value[0]  # a list of one output
        if name == "conv" and _near(value, right.clamp(min=0)):
            if replaced:
                return (
                    f"Your hook returns what it stores of {name!r}. That replaces the layer's output, so the in-place "
                    "ReLU that follows overwrites it: let the hook return nothing."
                )
            return f"What you stored of {name!r} was overwritten by the in-place ReLU that follows it: clone it."
        if not _near(value, right):
            return f"The value of {name!r} is not what this layer gave."
        if _live(outputs[name]):
            return f"The copy of {name!r} is live: it keeps the graph of the forward pass in memory. Detach it, too."
    return None


def _wrong_hooks(after: set, before: set) -> str | None:
    if left := after - before:
        return f"After the with block, {_count(left)} left. Remove every handle in finally."
    if before - after:
        return "You removed a hook that is not yours. Remove your own through their handles, and no other."
    return None


def _wrong_after_error(function: Callable[..., Any]) -> str | None:
    for error in (Breakdown, _Stopped):
        net = _network(partial(_Broken, error))
        before = _hooks(net)
        try:
            with function(net, "conv", "relu"):
                net(_noise(2, 3, 7, 9))
        except error:
            if left := _hooks(net) - before:
                what = "an exception" if error is Breakdown else "the stop button"
                return f"After {what} in the network, {_count(left)} left: use finally."
        except Exception as e:
            return f"The network raised a Breakdown, and record turned it into {type(e).__name__}: {e}"
        else:
            return "The network raised an exception, and record swallowed it. Clean up, and let it pass."
    return None


def _wrong_after_typo(function: Callable[..., Any]) -> str | None:
    net = _network(lambda: nn.Conv2d(4, 2, 1))
    before = _hooks(net)
    try:
        with function(net, "conv", "rleu"):
            pass
    except Exception:
        if left := _hooks(net) - before:
            return (
                f"Right for names that exist. But if the second is misspelt, {_count(left)} left from the first: "
                "register inside try, or find all layers before you register."
            )
        return None
    return "No layer is called 'rleu', but record raised no error. Let the error of get_submodule pass."


def _count(hooks: set) -> str:
    return "a hook is" if len(hooks) == 1 else f"{len(hooks)} hooks are"


def _live(answer: Any) -> bool:
    """Whether a tensor of the answer belongs to a graph."""
    if isinstance(answer, (list, tuple)):
        return any(_live(part) for part in answer)
    return isinstance(answer, Tensor) and answer.requires_grad


def _near(value: Tensor, right: Tensor) -> bool:
    return value.shape == right.shape and torch.allclose(value, right, atol=1e-4)


def _short(value: Any) -> str:
    text = type(value).__name__ if isinstance(value, (Tensor, np.ndarray, nn.Module)) else repr(value)
    return text if len(text) < 60 else f"{text[:57]}..."


def _network(last: Callable[[], nn.Module]) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = OrderedDict(conv=nn.Conv2d(3, 4, 3), relu=nn.ReLU(inplace=True), last=last())
        return nn.Sequential(layers).eval()


def _noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def _hooks(net: nn.Module) -> set[tuple[str, int]]:
    """Every hook of the network, as its module's name and its number, and the global ones."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    own = {(name, number) for name, m in net.named_modules() for kind in kinds for number in getattr(m, kind)}
    return own | {("every network", number) for table in GLOBAL for number in table}


def _watch(net: Any) -> tuple[list[bool], list[bool]]:
    """Two lists that fill: with each call of the network, and each time that a hook replaces the output of conv.

    Its own hooks on conv and relu are also somebody else's, which must stay.
    """
    calls: list[bool] = []
    replaced: list[bool] = []
    given: list[Tensor] = []

    def compare(_module: nn.Module, args: tuple) -> None:
        if args[0] is not given.pop():
            replaced.append(True)

    net.register_forward_pre_hook(lambda _module, _args: calls.append(True))
    net.conv.register_forward_hook(lambda _module, _args, output: given.append(output))
    net.relu.register_forward_pre_hook(compare)
    return calls, replaced


def _state(net: nn.Module) -> dict[str, Any]:
    """What a function must leave as it was: attributes, modes, weights."""
    state: dict[str, Any] = {"gradients": torch.is_grad_enabled()}
    for name, module in net.named_modules():
        state |= {f"{name}.{attribute}": True for attribute in vars(module)}
        state[f"{name}.training"] = module.training
    for name, weight in net.named_parameters():
        state |= {f"{name}.requires_grad": weight.requires_grad, f"{name}.values": weight.detach().clone()}
    return state


def _left_on(net: nn.Module, before: dict[str, Any]) -> str | None:
    """What a function left behind on the network or switched off, in words."""
    after = _state(net)
    if after["gradients"] != before["gradients"]:
        return "Gradients are now switched off everywhere. Write `with torch.no_grad():`, which switches them back on."
    for name in [*after, *(name for name in before if name not in after)]:
        new, old = after.get(name), before.get(name)
        if torch.equal(new, old) if isinstance(new, Tensor) and isinstance(old, Tensor) else new is old:
            continue
        where = name.lstrip(".")
        if where.endswith("training"):
            return f"The network is in training mode now. {RESTORE}"
        if where.endswith((".requires_grad", ".values")):
            return f"You have changed {where.removesuffix('.values')} of the network. {RESTORE}"
        return f"You left {where} on the network. Store what you need in a variable of your own."
    return None


@contextmanager
def _put_back() -> Iterator[None]:
    """Gradients and global hooks as they were, whatever a learner's function does to them."""
    enabled, tables = torch.is_grad_enabled(), [dict(table) for table in GLOBAL]
    try:
        yield
    finally:
        torch.set_grad_enabled(enabled)
        for table, old in zip(GLOBAL, tables, strict=True):
            table.clear()
            table.update(old)
