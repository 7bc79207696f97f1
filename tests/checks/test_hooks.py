"""Chapter 02's check names the mistake, and its folded solution passes."""

import pytest
import torch
from checks import hooks as check
from torch import nn

import camlib
from tests.checks.solutions import run_solution


def record(module, layer, x, keep, finish=lambda kept: kept, tidy=True):
    """A hook that stores keep(output); what an answer makes of it, by hand and without a `finally`."""
    kept = []
    handle = module.get_submodule(layer).register_forward_hook(lambda m, args, output: kept.append(keep(output)))
    module(x)
    if tidy:
        handle.remove()
    return finish(kept[-1])


def blank(module, layer, x): ...


def no_return(module, layer, x):
    module(x)


def never_called(module, layer, x):
    return torch.zeros(2, 4)


def hook_left(module, layer, x):
    return record(module, layer, x, lambda t: t.detach().mean((2, 3)), tidy=False)


def all_hooks_cleared(module, layer, x):
    means = record(module, layer, x, lambda t: t.detach().mean((2, 3)))
    for m in module.modules():
        m._forward_hooks.clear()
    return means


def live(module, layer, x):
    return record(module, layer, x, lambda t: t.mean((2, 3)))


def overwritten(module, layer, x):
    return record(module, layer, x, lambda t: t.detach(), lambda t: t.mean((2, 3)))


def overwritten_and_live(module, layer, x):
    return record(module, layer, x, lambda t: t, lambda t: t.mean((2, 3)))


def summed(module, layer, x):
    return record(module, layer, x, lambda t: t.detach().sum((2, 3)))


def whole_map(module, layer, x):
    return record(module, layer, x, lambda t: t.detach().clone())


def wrong_axes(module, layer, x):
    return record(module, layer, x, lambda t: t.detach().mean((0, 2)))


def a_list(module, layer, x):
    return record(module, layer, x, lambda t: t.detach().mean((2, 3)).tolist())


def wrong_layer(module, layer, x):
    return record(module, "relu", x, lambda t: t.detach().mean((2, 3)) * 2)


def returns_from_the_hook(module, layer, x):
    kept = {}
    target = module.get_submodule(layer)
    handle = target.register_forward_hook(lambda m, args, output: kept.setdefault("map", output.detach() * 0))
    module(x)
    handle.remove()
    return kept["map"].mean((2, 3))


def left_after_exception(module, layer, x):
    return record(module, layer, x, lambda t: t.detach().mean((2, 3)))


def swallows(module, layer, x):
    try:
        with camlib.capture(module, layer) as seen:
            module(x)
    except Exception:
        return None
    return seen[layer].mean((2, 3))


def raises(module, layer, x):
    return module.get_submodule("no such layer")


def with_camlib(module, layer, x):
    with camlib.capture(module, layer) as seen:
        module(x)
    return seen[layer].mean((2, 3))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (blank, "No answer yet"),
        (no_return, "does it end with a return?"),
        (never_called, "never called"),
        (hook_left, "A hook was left behind"),
        (all_hooks_cleared, "a hook that is not yours"),
        (live, "the tensor is live"),
        (overwritten, "was overwritten"),
        (overwritten_and_live, "was overwritten"),
        (summed, "sums over the cells"),
        (whole_map, "the whole feature map"),
        (wrong_axes, "axes 2 and 3"),
        (a_list, "this is a list"),
        (wrong_layer, "the values are not"),
        (returns_from_the_hook, "output has changed"),
        (left_after_exception, "in a finally block"),
        (swallows, "swallowed it"),
        (raises, "Your function raised AttributeError"),
        (with_camlib, "Right: (2, 4)"),
    ],
)
def test_channel_means(answer, says):
    assert says in check.channel_means(answer)


def test_the_check_leaves_the_random_numbers_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    check.channel_means(with_camlib)
    assert torch.equal(torch.rand(1), expected)


def test_solution_passes(capsys):
    assert "Right: (2, 4)" in run_solution("02_hooks", capsys, check=check, nn=nn, torch=torch)
