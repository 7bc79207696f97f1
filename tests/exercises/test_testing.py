"""The tools of the exercises' tests (notebooks/exercises/testing.py): what they refuse, and what they let pass."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import PIL.Image
import pytest
import testing
import torch
from scipy.ndimage import zoom
from torch import nn
from torch.nn.functional import interpolate
from torch.nn.modules.module import register_module_forward_hook
from torch.utils._python_dispatch import _disable_current_modes
from torchvision.transforms.functional import resize

FOUR = [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    "answer",
    [
        torch.tensor(FOUR),
        torch.tensor(FOUR).double().requires_grad_(),
        np.array(FOUR),
        FOUR,
        [np.array(r) for r in FOUR],
        torch.tensor(FOUR).half(),
        torch.tensor(FOUR).bfloat16(),
        np.array(FOUR, int),
        torch.tensor(FOUR).t().contiguous().t(),
    ],
)
def test_right_numbers_agree_whatever_holds_them(answer):
    testing.agrees(answer, FOUR, "the map")


@pytest.mark.parametrize(
    ("answer", "says"),
    [(None, "return is missing"), ("1 2", "no numbers"), ([[1.0], [2.0, 3.0]], "no numbers"), ([1.0, 2.0], "shape"),
     ([[1, 2], [3, 4.1]], "off by up to 0.1"), ([[1, 2], [3, float("nan")]], "NaN"), ([FOUR], "shape")],
)  # fmt: skip
def test_other_numbers_do_not_agree(answer, says):
    with pytest.raises(AssertionError, match=says):
        testing.agrees(answer, FOUR, "the map")


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())


TRACES = {
    "training": lambda n, x: n[1].eval(),
    "statistics": lambda n, x: n(x),
    "hook": lambda n, x: n[2].register_forward_hook(lambda *a: None),
    "backward pre-hook": lambda n, x: n[0].register_full_backward_pre_hook(lambda *a: None),
    "state dict hook": lambda n, x: n.register_state_dict_post_hook(lambda *a: None),
    "forward": lambda n, x: setattr(n[0], "forward", n[0].forward),
    "inplace": lambda n, x: setattr(n[2], "inplace", True),
    "requires_grad": lambda n, x: n[0].weight.requires_grad_(False),
    "gradient": lambda n, x: setattr(n[0].bias, "grad", torch.ones(4)),
    "weights": lambda n, x: n[0].weight.data.add_(1),
    "replaced layer": lambda n, x: setattr(n, "0", nn.Conv2d(3, 4, 3)),
    "new layer": lambda n, x: n.append(nn.ReLU()),
    "input": lambda n, x: x.mul_(2),
    "input's flag": lambda n, x: x.requires_grad_(),
    "input's hook": lambda n, x: x.requires_grad_().register_hook(lambda g: g),
    "gradient between": lambda n, x: (x.requires_grad_() * 1).retain_grad(),
    "weight's hook": lambda n, x: n[0].weight.register_post_accumulate_grad_hook(lambda p: None),
    "grad mode": lambda n, x: torch.set_grad_enabled(False),
    "number type": lambda n, x: torch.set_default_dtype(torch.float64),
    "anomalies": lambda n, x: torch.autograd.set_detect_anomaly(True),
    "deterministic": lambda n, x: torch.use_deterministic_algorithms(True),
    "autocast": lambda n, x: torch.set_autocast_enabled("cpu", True),
    "threads": lambda n, x: torch.set_num_threads(torch.get_num_threads() + 1),
    "doubled": lambda n, x: n.double(),
    "class": lambda n, x: setattr(n[2], "__class__", nn.ReLU6),
    "method of a class": lambda n, x: setattr(nn.Conv2d, "forward", nn.ReLU.forward),
    "tensor in a module": lambda n, x: setattr(n[0], "last", x),
    "list in a module": lambda n, x: setattr(n[0], "seen", []),
    "copied layer": lambda n, x: setattr(n, "2", nn.ReLU()),
}


@pytest.mark.parametrize("trace", TRACES)
def test_every_kind_of_trace_is_found(trace):
    n, x = net(), torch.ones(2, 3, 4, 4)
    with pytest.raises(AssertionError, match="before"), testing.no_trace(n, x=x):
        TRACES[trace](n, x)
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32
    assert not torch.is_anomaly_enabled() and not torch.are_deterministic_algorithms_enabled()
    net()(x)


def test_gradients_that_were_left_off_before_hide_nothing():
    with torch.no_grad():
        with pytest.raises(AssertionError, match="before"), testing.no_trace(net()):
            torch.set_grad_enabled(False)
        assert not torch.is_grad_enabled()


def test_a_hook_on_all_modules_is_found_once():
    seen = []
    with pytest.raises(AssertionError, match="all modules"), testing.no_trace(net()):
        register_module_forward_hook(lambda *a: seen.append(a))
    net()(torch.ones(2, 3, 4, 4))
    assert not seen


def test_what_is_put_back_leaves_no_trace():
    n, x = net(), torch.ones(2, 3, 4, 4)
    n[0].weight.grad = torch.zeros_like(n[0].weight)
    with testing.no_trace(n, x=x):
        n.eval()
        handle = n[0].register_forward_hook(lambda *a: None)
        with torch.no_grad():
            n(x)
        handle.remove()
        n.train()
        testing.raises(ValueError, int, "a")


def test_settings_that_refused_code_changes_are_put_back():
    with testing.refused("scipy.ndimage.zoom"):
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
    assert torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32


def test_an_operation_is_refused_by_every_door():
    def within_no_mode(function, *args, **kwargs):
        with _disable_current_modes():
            return function(*args, **kwargs)

    picture, early, pool = torch.ones(1, 3, 4, 4), PIL.Image.Image.resize, ThreadPoolExecutor(1)
    kept = [partial(early, PIL.Image.new("L", (4, 4))), zoom]
    with testing.refused("PIL.Image.Image.resize", "scipy.ndimage.zoom", operations=["upsample"], says="by hand"):
        for door in (
            lambda: interpolate(picture, scale_factor=2, mode="bilinear"),
            lambda: resize(picture, [8, 8]),
            lambda: torch.ops.aten.upsample_bilinear2d(picture, [8, 8], False),
            lambda: torch._C._nn.upsample_bilinear2d(picture, [8, 8], False),
            lambda: torch.vmap(lambda one: interpolate(one, scale_factor=2))(picture[None]),
            lambda: interpolate(picture.clone().requires_grad_(), scale_factor=2),
            lambda: within_no_mode(interpolate, picture, scale_factor=2),
            lambda: pool.submit(interpolate, picture, scale_factor=2).result(),
            lambda: interpolate(torch.quantize_per_tensor(picture, 0.1, 0, torch.qint32), scale_factor=2),
            lambda: PIL.Image.new("L", (4, 4)).resize((8, 8)),
            lambda: kept[0]((8, 8)),
            lambda: kept[1](np.ones((4, 4)), 2),
            lambda: zoom(np.ones((4, 4)), 2),
        ):
            with pytest.raises(AssertionError, match="by hand"):
                door()
        torch.nn.functional.conv2d(picture, torch.ones(1, 3, 1, 1))  # anything else is allowed
    assert interpolate(picture, scale_factor=2).shape[-1] == 8
    assert PIL.Image.Image.resize is early
    assert zoom(np.ones((4, 4)), 2).shape == kept[0]((8, 8)).size == (8, 8)


def test_an_exception_that_must_come():
    assert testing.raises(ZeroDivisionError, lambda a: 1 / a, 0).args
    with pytest.raises(AssertionError, match="no ValueError"):
        testing.raises(ValueError, int, "1")
