"""An Apple GPU for tests on machines without one: a tensor subclass that refuses what an Apple GPU refuses.

Its tensors say that they are on "mps:0". They know no float64, do not turn into NumPy arrays, and do not compute with
tensors of the CPU. They hold ordinary CPU memory, so their numbers are those of the CPU.
"""

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("mps", 0)
CREATORS = ("arange", "empty", "eye", "full", "linspace", "ones", "rand", "randint", "randn", "tensor", "zeros")
ACROSS_DEVICES = {"to", "copy_", "__get__", "__set__", "__getitem__", "_has_compatible_shallow_copy_type"}
TO_NUMPY = (Tensor.numpy, Tensor.__array__)


class OnMps(Tensor):
    """A tensor that behaves as one on an Apple GPU."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        leaves = tree_leaves((args, kwargs))
        if func == Tensor.device.__get__:
            return DEVICE
        if func is Tensor.double or torch.float64 in (v for v in leaves if isinstance(v, torch.dtype)):
            raise TypeError(
                "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64."
            )
        if func in TO_NUMPY:
            raise TypeError("can't convert mps:0 device type tensor to numpy. Use Tensor.cpu() first.")
        if func is Tensor.cpu:
            return _plain(args[0])
        if func is not Tensor.to and any(v == DEVICE for v in leaves if isinstance(v, torch.device)):
            args, kwargs = tree_map(_on_cpu, (args, kwargs))
        if getattr(func, "__name__", "") not in ACROSS_DEVICES:
            strangers = [v for v in leaves if isinstance(v, Tensor) and not isinstance(v, OnMps) and v.ndim]
            if strangers and any(isinstance(v, OnMps) for v in leaves):
                raise RuntimeError(
                    f"{func.__name__}: Expected all tensors to be on the same device, but got mps and cpu."
                )
        return super().__torch_function__(func, types, args, kwargs)

    def __deepcopy__(self, memo):
        copy = self.detach().clone()
        copy = nn.Parameter(copy, self.requires_grad) if isinstance(self, nn.Parameter) else copy
        return memo.setdefault(id(self), copy)


def _plain(tensor: Tensor) -> Tensor:
    with torch._C.DisableTorchFunctionSubclass():
        return tensor.as_subclass(Tensor)


def _on_cpu(value: object) -> object:
    return torch.device("cpu") if value == DEVICE else value


def _is_mps(value: object) -> bool:
    return (isinstance(value, torch.device) and value.type == "mps") or (
        isinstance(value, str) and value.split(":")[0] == "mps"
    )


def _to(original):
    def to(self, *args, **kwargs):
        values = [*args, *kwargs.values()]
        there = any(map(_is_mps, values)) or any(isinstance(v, OnMps) for v in values)
        back = any(isinstance(v, (str, torch.device)) and not _is_mps(v) for v in values)
        back = back or any(isinstance(v, Tensor) and not isinstance(v, OnMps) for v in values)
        dtypes = [v if isinstance(v, torch.dtype) else v.dtype for v in values if isinstance(v, (torch.dtype, Tensor))]
        result = self
        if there and not isinstance(self, OnMps):
            if (dtypes or [self.dtype])[0] == torch.float64:
                raise TypeError("Cannot convert a MPS Tensor to float64 dtype.")
            result = self.as_subclass(OnMps)
        elif back and isinstance(self, OnMps):
            result = _plain(self)
        return original(result, dtypes[0]) if dtypes else result

    return to


def _created(original):
    def create(*args, device=None, **kwargs):
        if not _is_mps(device):
            return original(*args, device=device, **kwargs)
        if kwargs.get("dtype") == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype.")
        return original(*args, **kwargs).as_subclass(OnMps)

    return create


@pytest.fixture
def mps(monkeypatch):
    """Makes this machine have an Apple GPU."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(Tensor, "to", _to(Tensor.to))
    for name in CREATORS:
        monkeypatch.setattr(torch, name, _created(getattr(torch, name)))
    for name, value in {
        "get_rng_state": lambda: torch.zeros(1, dtype=torch.uint8),
        "set_rng_state": lambda _: None,
        "manual_seed": lambda _: None,
    }.items():
        monkeypatch.setattr(torch.mps, name, value)
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    yield DEVICE
    torch.__future__.set_overwrite_module_params_on_conversion(before)
