"""What the tests of all exercises share: answers read in one tolerant way, forbidden steps refused, traces looked for.

Nothing in here is a solution; you may read it.
"""

import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn.modules import module as _module
from torch.utils._python_dispatch import TorchDispatchMode

sys.path.append(str(Path(__file__).resolve().parent.parent / "checks"))  # handed out, answers.py lies beside this file

from answers import tensor

# torch.nn.Module keeps its hooks in dictionaries of these names, and those of all modules in globals of its file
HOOKS = sorted(name for name in vars(nn.Module()) if name.endswith("_hooks"))
GLOBAL_HOOKS = sorted(name for name in vars(_module) if name.startswith("_global_") and name.endswith("_hooks"))


def numbers(answer: Any, what: str, shape: Sequence[int] | None = None) -> Tensor:
    """An answer as a float32 tensor on the CPU, whatever holds the numbers: tensor, NumPy array, list; any dtype.

    Raises AssertionError, with `what` in it, for None, for what holds no numbers, and for another shape.
    """
    assert answer is not None, f"{what} is None: a return is missing"
    values = tensor(answer)
    assert values is not None, f"{what} holds no numbers, or rows of different lengths: a {type(answer).__name__}"
    if shape is not None:
        assert tuple(values.shape) == tuple(shape), f"{what} has the shape {tuple(values.shape)}, not {tuple(shape)}"
    return values


def agrees(answer: Any, expected: Any, what: str, rtol: float = 1e-3, atol: float = 1e-5) -> None:
    """Assert that an answer has the expected shape and values; atol counts relative to the largest expected value."""
    wanted = numbers(expected, "expected")
    given = numbers(answer, what, wanted.shape)
    slack = atol * max(1.0, float(wanted.abs().max()) if wanted.numel() else 1.0)
    assert torch.isfinite(given).all() or not torch.isfinite(wanted).all(), f"{what} holds NaN or infinite values"
    if not torch.allclose(given, wanted, rtol=rtol, atol=slack, equal_nan=True):
        off = (given - wanted).abs().max().item()
        raise AssertionError(f"{what} is wrong: off by up to {off:.3g}")


class Refusing(TorchDispatchMode):
    """Inside, torch operations whose name contains one of these words raise AssertionError, whoever calls them."""

    def __init__(self, words: Sequence[str], says: str):
        super().__init__()
        self.words, self.says = tuple(words), says

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if any(word in func.name() for word in self.words):
            raise AssertionError(self.says)
        return func(*args, **(kwargs or {}))


@contextmanager
def refused(*places: str, operations: Sequence[str] = (), says: str = "write this step by hand") -> Iterator[None]:
    """Inside, these functions ("package.module.name") and torch operations ("upsample_bilinear") raise AssertionError.

    A function is refused in every module that holds it under any name, so that an earlier `from … import …` is no door.
    """

    def off(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError(says)

    with ExitStack() as stack:
        for place in places:
            original = _find(place)
            for holder in _holders(original):
                for name in [name for name, value in holder.items() if value is original]:
                    stack.enter_context(patch.dict(holder, {name: off}))
            owner, _, name = place.rpartition(".")
            stack.enter_context(patch(f"{owner}.{name}", off))
        if operations:
            stack.enter_context(Refusing(operations, says))
        yield


def _find(place: str) -> Any:
    owner, _, name = place.rpartition(".")
    return getattr(patch(place).getter(), name)


def _holders(function: Any) -> list[dict]:
    """The namespaces of modules, and other dictionaries with names as keys, that hold a function."""
    found = [d for d in gc.get_referrers(function) if type(d) is dict and all(type(key) is str for key in d)]
    return [d for d in found if d is not globals()]


@contextmanager
def no_trace(*nets: nn.Module, **tensors: Tensor) -> Iterator[None]:
    """Assert that the code inside leaves networks, tensors and PyTorch itself as they were, also when it raises.

    Looked at: hooks of every kind, of each module and of all modules; attributes put over a module's methods
    (`module.forward = …`); flags (`training`, `requires_grad`, `inplace`); parameters, buffers and gradients; the
    tensors given by name, and their flags; whether gradients are recorded; the random number generator's seed is not.
    """
    with torch.enable_grad():  # also where an earlier cell left it off, which would hide that this one does
        before = _state(nets, tensors)
        try:
            yield
        finally:
            after = _state(nets, tensors)
    for key, value in before.items():
        same = (
            torch.equal(value, after[key])
            if isinstance(value, Tensor) and isinstance(after.get(key), Tensor)
            else (
                key in after
                and type(value) is type(after[key])
                and not isinstance(value, Tensor)
                and value == after[key]
            )
        )
        assert same, f"{key} is not as it was before"
    new = sorted(set(after) - set(before))
    assert not new, f"{new[0]} was not there before"


def _state(nets: Sequence[nn.Module], tensors: dict[str, Tensor]) -> dict[str, Any]:
    state: dict[str, Any] = {
        "recording of gradients (torch.is_grad_enabled)": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
    }
    for name in GLOBAL_HOOKS:
        state[f"the hooks of all modules ({name})"] = list(getattr(_module, name))
    for number, net in enumerate(nets):
        which = "the network's" if len(nets) == 1 else f"network {number}'s"
        for name, module in net.named_modules():
            where = f"{which} module {name or type(module).__name__!r}"
            for kind in HOOKS:
                state[f"{where}: {kind}"] = list(getattr(module, kind))
            state[f"{where}: training"] = module.training
            for key in sorted(vars(module)):
                value = vars(module)[key]
                if callable(value) or type(value) in (bool, int, float, str):
                    state[f"{where}: {key}"] = id(value) if callable(value) else value
        for kind in ("parameter", "buffer"):
            for name, value in getattr(net, f"named_{kind}s")():
                state.update(_of_tensor(f"{which} {kind} {name}", value))
    for name, value in tensors.items():
        state.update(_of_tensor(name, value))
    return state


def _of_tensor(name: str, value: Tensor) -> dict[str, Any]:
    grad = value.grad if value.is_leaf else None
    return {
        f"{name}: its values": value.detach().clone(),
        f"{name}: requires_grad": value.requires_grad,
        f"{name}: its gradient": None if grad is None else grad.detach().clone(),
        f"{name}: its backward hooks": list(getattr(value, "_backward_hooks", None) or ()),
    }


def raises(kind: type[BaseException], function: Callable[..., Any], *args: Any, says: str = "") -> BaseException:
    """Assert that function(*args) raises such an exception, and return it; `says` is the message if it does not."""
    try:
        function(*args)
    except kind as error:
        return error
    raise AssertionError(says or f"no {kind.__name__} is raised where one must be")
