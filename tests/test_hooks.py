"""Captured outputs are those of the moment, and no hook stays."""

import gc
import threading
import weakref

import pytest
import torch
from torch import nn

from camlib import LayerError, ModelError, capture
from camlib.hooks import eval_mode, find_layer


def count_hooks(module: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.relu = nn.ReLU(inplace=True)
        self.pair = Pair()

    def forward(self, x):
        self.pair(x)
        return self.relu(self.conv(x)).mul_(0)


class Pair(nn.Module):
    def forward(self, x):
        return x, x


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def x():
    return torch.randn(2, 3, 5, 5)


def test_sees_the_moment_before_in_place_operations(net, x):
    with capture(net, "conv", "relu") as seen:
        net(x)
    before = torch.nn.functional.conv2d(x, net.conv.weight, net.conv.bias).detach()
    assert before.min() < 0
    assert torch.equal(seen["conv"], before)
    assert torch.equal(seen["relu"], before.clamp(min=0))


def test_inputs_instead_of_outputs(net, x):
    with capture(net, "relu", inputs=True) as seen:
        net(x)
    assert seen["relu"].min() < 0


def test_modules_are_layers_too(net, x):
    with capture(net, net.conv) as seen:
        net(x)
    assert seen[net.conv].shape == (2, 4, 5, 5)


def test_no_hook_left_after_the_block_and_after_an_exception(net, x):
    with capture(net, "conv"):
        assert count_hooks(net) == 1
    assert count_hooks(net) == 0
    with pytest.raises(RuntimeError), capture(net, "conv", "relu"):
        net(torch.zeros(1, 99, 5, 5))
    assert count_hooks(net) == 0
    with pytest.raises(LayerError), capture(net, "conv", "no such"):
        pass
    assert count_hooks(net) == 0


def test_nests(net, x):
    with capture(net, "conv") as outer:
        with capture(net, "conv", "relu") as inner:
            net(x)
        inner_value = inner["conv"]
        net(2 * x)
    assert torch.equal(inner["conv"], inner_value)
    assert not torch.equal(outer["conv"], inner["conv"])
    assert count_hooks(net) == 0


def test_unknown_layer_is_refused_with_near_matches(net):
    with pytest.raises(LayerError, match="no layer 'cnov'. Did you mean: conv"), capture(net, "cnov"):
        pass
    with pytest.raises(LayerError, match="not part of"), capture(net, nn.Conv2d(3, 4, 1)):
        pass


def test_layer_without_one_tensor_is_refused(net, x):
    with pytest.raises(LayerError, match="'pair' gives a tuple"), capture(net, "pair"):
        net(x)
    assert count_hooks(net) == 0


def test_asking_before_the_network_ran(net):
    with capture(net, "conv") as seen, pytest.raises(LayerError, match="inside the with block"):
        seen["conv"]


@pytest.mark.parametrize("live", [False, True])
def test_keeps_a_graph_alive_only_if_asked(net, x, live):
    entering = x * 1  # the convolution saves its input for the backward pass, in the graph
    saved = weakref.ref(entering)
    with capture(net, "conv", live=live) as seen:
        net(entering)
    del entering
    gc.collect()
    assert seen["conv"].requires_grad == live
    assert (saved() is not None) == live


def test_live_tensor_can_be_differentiated_by(net, x):
    tail = nn.Sequential(net.conv, nn.ReLU(inplace=True))
    with capture(tail, "0", live=True) as seen:
        y = tail(x)
    (grad,) = torch.autograd.grad(y.sum(), seen["0"])
    assert seen["0"].min() < 0, "the in-place ReLU overwrote what was seen"
    assert torch.equal(grad, (seen["0"] > 0).float())


def test_a_layer_of_integers_has_no_gradient(net, x):
    class Rounded(nn.Module):
        def forward(self, x):
            return x.int()

    whole = nn.Sequential(net, Rounded())
    refused = pytest.raises(LayerError, match="torch.int32, which has no gradient")
    with refused, torch.no_grad(), capture(whole, "1", live=True):
        whole(x)


def test_live_capture_keeps_the_shape_of_what_the_layer_gives(x):
    class Wrapped(nn.Module):
        def forward(self, x):
            return (x * 2,)

    class Unwraps(nn.Module):
        def __init__(self):
            super().__init__()
            self.wrapped = Wrapped()

        def forward(self, x):
            return self.wrapped(x)[0]

    net = Unwraps()
    with capture(net, "wrapped", live=True) as seen:
        y = net(x)
    assert torch.equal(y, net(x))
    assert torch.equal(seen["wrapped"], 2 * x)


def test_of_several_inputs_the_first_is_recorded(x):
    class Two(nn.Module):
        def forward(self, a, b):
            return a + b

    class Calls(nn.Module):
        def __init__(self):
            super().__init__()
            self.two = Two()

        def forward(self, x):
            return self.two(x, 1)

    net = Calls()
    with capture(net, "two", inputs=True) as seen:
        net(x)
    assert torch.equal(seen["two"], x)


def test_a_classifier_is_no_network(clf):
    with pytest.raises(ModelError, match="of a Classifier take its module"), capture(clf, "bn2"):
        pass


def test_records_only_the_calling_thread(net, x):
    with capture(net, "conv") as seen:
        net(x)
        mine = seen["conv"].clone()
        other = threading.Thread(target=net, args=(2 * x,))
        other.start()
        other.join()
    assert torch.equal(seen["conv"], mine)


def test_eval_mode_puts_every_flag_back(net):
    net.train()
    net.conv.eval()
    with pytest.raises(ZeroDivisionError), eval_mode(net):
        assert not any(m.training for m in net.modules())
        raise ZeroDivisionError
    assert net.training
    assert net.relu.training
    assert not net.conv.training


def test_find_layer_by_path():
    net = nn.Sequential(nn.Sequential(nn.Linear(2, 2)))
    assert find_layer(net, "0.0") is net[0][0]
