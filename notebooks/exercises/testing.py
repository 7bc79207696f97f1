"""What the tests of all exercises share: answers read in one tolerant way, forbidden steps refused, traces looked for.

Nothing in here is a solution; you may read it.
"""

import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FunctionType
from typing import Any
from unittest.mock import patch

import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.library import _scoped_library
from torch.nn.modules import module as _module

sys.path.append(str(Path(__file__).resolve().parent.parent / "checks"))  # handed out, answers.py lies beside this file

from answers import tensor

# torch.nn.Module keeps its hooks in dictionaries of these names, and those of all modules in globals of its file
HOOKS = tuple(name for name in vars(nn.Module()) if name.endswith("_hooks"))
GLOBAL_HOOKS = tuple(name for name in vars(_module) if name.startswith("_global_") and name.endswith("_hooks"))


# what holds for all of PyTorch: how it is read, and how it is set
SETTINGS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "whether PyTorch records gradients (torch.is_grad_enabled)": (torch.is_grad_enabled, torch.set_grad_enabled),
    "the default type of numbers (torch.get_default_dtype)": (torch.get_default_dtype, torch.set_default_dtype),
    "whether PyTorch detects anomalies (torch.is_anomaly_enabled)": (
        torch.is_anomaly_enabled,
        torch.autograd.set_detect_anomaly,
    ),
    "whether PyTorch is deterministic (torch.are_deterministic_algorithms_enabled)": (
        torch.are_deterministic_algorithms_enabled,
        torch.use_deterministic_algorithms,
    ),
    "whether PyTorch chooses the type of numbers (torch.is_autocast_enabled)": (
        lambda: torch.is_autocast_enabled("cpu"),
        lambda on: torch.set_autocast_enabled("cpu", on),
    ),
    "the number of threads (torch.get_num_threads)": (torch.get_num_threads, torch.set_num_threads),
}


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


def number(answer: Any, what: str) -> float:
    """An answer that is one number, whatever holds it."""
    values = numbers(answer, what).flatten().tolist()
    assert len(values) == 1, f"{what}: one number is asked for, yours are {len(values)}"
    return float(values[0])


def agrees(answer: Any, expected: Any, what: str, rtol: float = 1e-3, atol: float = 1e-5) -> None:
    """Assert that an answer has the expected shape and values; atol counts relative to the largest expected value."""
    wanted = numbers(expected, "expected")
    given = numbers(answer, what, wanted.shape)
    slack = atol * max(1.0, float(wanted.abs().max()) if wanted.numel() else 1.0)
    assert torch.isfinite(given).all() or not torch.isfinite(wanted).all(), f"{what} holds NaN or infinite values"
    if not torch.allclose(given, wanted, rtol=rtol, atol=slack, equal_nan=True):
        off = (given - wanted).abs().max().item()
        raise AssertionError(f"{what} is wrong: off by up to {off:.3g}")


@contextmanager
def refused(*places: str, operations: Sequence[str] = (), says: str = "write this step by hand") -> Iterator[None]:
    """Inside, these functions ("package.module.name") and torch operations ("upsample_bilinear") raise AssertionError.

    A function is refused under any name and wherever it is kept, so that an earlier `from … import …` is no door.
    Operations are refused by a part of their name, in PyTorch's table of operations on the CPU: within a library,
    a script or another thread, too.
    As with `no_trace`, settings of PyTorch that the code inside changes are put back afterwards.
    """
    room: dict[str, Any] = {}
    exec(f"def off(*args, **kwargs): raise AssertionError({says!r})", room)
    off = room["off"]
    with ExitStack() as stack:
        stack.enter_context(own_settings())
        for place in places:
            owner, _, name = place.rpartition(".")
            function = getattr(patch(place).getter(), name)
            if isinstance(function, FunctionType) and not function.__code__.co_freevars:
                stack.callback(setattr, function, "__code__", function.__code__)
                function.__code__ = off.__code__
                continue
            for holder in _holders(function):
                for key in [key for key, value in holder.items() if value is function]:
                    stack.enter_context(patch.dict(holder, {key: off}))
            stack.enter_context(patch(place, off))
        for key in ("CPU", "QuantizedCPU") if operations else ():
            for name in torch._C._dispatch_get_registrations_for_dispatch_key(key):
                if any(word in name for word in operations):
                    space, _, operation = name.partition("::")
                    library = stack.enter_context(_scoped_library(space, "IMPL"))
                    library.impl(operation, off, key, allow_override=True)
        yield


def _holders(function: Any) -> list[dict]:
    """The namespaces of modules, and other dictionaries with names as keys, that hold a function."""
    found = [d for d in gc.get_referrers(function) if type(d) is dict and all(type(key) is str for key in d)]
    return [d for d in found if d is not globals()]


@contextmanager
def no_trace(*nets: nn.Module, **tensors: Tensor) -> Iterator[None]:
    """Assert that the code inside leaves networks, tensors and PyTorch itself as they were.

    Looked at: hooks of every kind, of each module and of all modules; what is put into a module or its class, over
    their methods too (`module.forward = …`); flags (`training`, `requires_grad`, `inplace`); parameters, buffers and
    gradients; the tensors given by name, and their flags; the SETTINGS of PyTorch. Not looked at: the random number
    generator.
    For a network that raises, put `raises` inside. What was changed in PyTorch itself is put back, so that it costs
    its points once.
    """
    classes = {kind for net in nets for module in net.modules() for kind in type(module).mro()[:-1]}
    with own_settings(*classes):
        _set(STANDARD)  # what an earlier cell left changed would hide that this one does
        before = _state(nets, tensors)
        yield
        after = _state(nets, tensors)
    for key, value in before.items():
        assert key in after and _same(value, after[key]), f"{key} not as before"
    new = sorted(set(after) - set(before))
    assert not new, f"{new[0]}: this was not there before"


@contextmanager
def own_settings(*classes: type) -> Iterator[None]:
    """What is changed in PyTorch itself is put back: hooks of all modules, SETTINGS, and methods of these classes."""
    methods = {kind: _methods(kind) for kind in classes}
    hooks = {name: dict(getattr(_module, name)) for name in GLOBAL_HOOKS}
    settings = _settings()
    try:
        yield
    finally:
        for name, old in hooks.items():
            getattr(_module, name).clear()
            getattr(_module, name).update(old)
        _set(settings)
        for kind, old in methods.items():
            for name, method in _methods(kind).items():
                if old.get(name) is not method:
                    setattr(kind, name, old[name]) if name in old else delattr(kind, name)


def _settings() -> dict[str, Any]:
    return {what: read() for what, (read, _) in SETTINGS.items()}


def _set(wanted: dict[str, Any]) -> None:
    for what, (read, put) in SETTINGS.items():
        if read() != wanted[what]:
            put(wanted[what])


STANDARD = _settings()  # as the setup finds them


def _methods(kind: type) -> dict[str, Any]:
    return {name: method for name, method in vars(kind).items() if callable(method)}


def _same(before: Any, after: Any) -> bool:
    if isinstance(before, Tensor) and isinstance(after, Tensor):
        alike = before.dtype == after.dtype and before.shape == after.shape
        return alike and torch.allclose(before, after, rtol=0, atol=0, equal_nan=True)
    return type(before) is type(after) and before == after


def _state(nets: Sequence[nn.Module], tensors: dict[str, Tensor]) -> dict[str, Any]:
    state: dict[str, Any] = {f"{what} is": value for what, value in _settings().items()}
    state["whether PyTorch is in inference mode is"] = torch.is_inference_mode_enabled()
    for name in GLOBAL_HOOKS:
        state[f"the hooks of all modules ({name}) are"] = list(getattr(_module, name))
    for kind in {kind for net in nets for module in net.modules() for kind in type(module).mro()[:-1]}:
        state[f"the methods of {kind.__name__} are"] = _methods(kind)
    for number, net in enumerate(nets):
        which = "the network's" if len(nets) == 1 else f"network {number}'s"
        for name, module in net.named_modules():
            where = f"{which} module {name or type(module).__name__!r}"
            state[f"{where} is"] = id(module), type(module)
            for kind in HOOKS:
                state[f"{where}: its hooks ({kind}) are"] = list(getattr(module, kind))
            for key in sorted(vars(module)):
                value = vars(module)[key]
                if key not in HOOKS and key not in ("_parameters", "_buffers", "_modules"):
                    simple = type(value) in (bool, int, float, str)
                    state[f"{where}: its {key} is"] = value if simple else id(value)
        for kind in ("parameter", "buffer"):
            for name, value in getattr(net, f"named_{kind}s")():
                state.update(_of_tensor(f"{which} {kind} {name}", value))
    for name, value in tensors.items():
        state.update(_of_tensor(name, value))
    return state


def _of_tensor(name: str, value: Tensor) -> dict[str, Any]:
    grad = value.grad if value.is_leaf or value.retains_grad else None
    return {
        f"{name}: its values are": value.detach().clone(),
        f"{name}: its requires_grad is": value.requires_grad,
        f"{name}: its gradient is": None if grad is None else grad.detach().clone(),
        f"{name}: its hooks are": [
            list(getattr(value, kind, None) or ()) for kind in ("_backward_hooks", "_post_accumulate_grad_hooks")
        ],
        f"{name}: its own attributes are": sorted(vars(value)),
    }


def clean(net: nn.Module) -> None:
    """Remove the hooks and methods that an answer has left in a network, before the test computes what it expects."""
    for module in net.modules():
        for kind in HOOKS:
            getattr(module, kind).clear()
        for name in [name for name in vars(module) if callable(getattr(type(module), name, None))]:
            delattr(module, name)


@contextmanager
def mirrored(path: str, size: tuple[int, int] | None = None) -> Iterator[str]:
    """A file with a photo's mirror image, deleted when the block ends: no answer can recognise it by its name.

    size: (width, height) to resize it to. The file must not change, because the expected answer is read from it, too.
    """
    with TemporaryDirectory() as folder, Image.open(path) as photo:
        copy = str(Path(folder) / "photo.png")
        mirror = ImageOps.mirror(photo.convert("RGB"))
        mirror.resize(size or mirror.size).save(copy, compress_level=1)
        before = Path(copy).read_bytes()
        yield copy
        assert Path(copy).read_bytes() == before, "the photo's file was changed"


def raises(kind: type[BaseException], function: Callable[..., Any], *args: Any, says: str = "") -> BaseException:
    """Assert that function(*args) raises such an exception, and return it; `says` is the message if it does not."""
    try:
        function(*args)
    except kind as error:
        return error
    raise AssertionError(says or f"no {kind.__name__} is raised where one must be")
