"""Captured outputs are those of the moment, and no hook stays."""

import gc
import threading
import weakref

import pytest
import torch
from torch import nn

from camlib import LayerError, ModelError, capture
from camlib.hooks import find_layer, layer_name
from tests.networks import count_hooks


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


def test_records_the_moment_before_in_place_operations(net, x):
    with capture(net, "conv", "relu") as captured:
        net(x)
    before = torch.nn.functional.conv2d(x, net.conv.weight, net.conv.bias).detach()
    assert before.min() < 0
    assert torch.equal(captured["conv"], before)
    assert torch.equal(captured["relu"], before.clamp(min=0))


def test_inputs_instead_of_outputs(net, x):
    with capture(net, "relu", inputs=True) as captured:
        net(x)
    assert captured["relu"].min() < 0


def test_modules_are_layers_too(net, x):
    with capture(net, net.conv) as captured:
        net(x)
    assert captured[net.conv].shape == (2, 4, 5, 5)


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


def test_nothing_is_captured_before_the_network_ran(net):
    with capture(net, "conv") as captured, pytest.raises(LayerError, match="inside the with block"):
        captured["conv"]


@pytest.mark.parametrize("live", [False, True])
def test_holds_a_graph_alive_only_if_live(net, x, live):
    entering = x * 1  # the convolution saves its input for the backward pass, in the graph
    saved = weakref.ref(entering)
    with capture(net, "conv", live=live) as captured:
        net(entering)
    del entering
    gc.collect()
    assert captured["conv"].requires_grad == live
    assert (saved() is not None) == live


def test_live_tensor_can_be_differentiated_by(net, x):
    tail = nn.Sequential(net.conv, nn.ReLU(inplace=True))
    with capture(tail, "0", live=True) as captured:
        y = tail(x)
    (grad,) = torch.autograd.grad(y.sum(), captured["0"])
    assert captured["0"].min() < 0, "the in-place ReLU overwrote what was captured"
    assert torch.equal(grad, (captured["0"] > 0).float())


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
    with capture(net, "wrapped", live=True) as captured:
        y = net(x)
    assert torch.equal(y, net(x))
    assert torch.equal(captured["wrapped"], 2 * x)


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
    with capture(net, "two", inputs=True) as captured:
        net(x)
    assert torch.equal(captured["two"], x)


def test_a_classifier_is_no_network(clf):
    with pytest.raises(ModelError, match=r"torch.nn.Module, not Classifier; pass clf.module"), capture(clf, "bn2"):
        pass


def test_records_only_the_calling_thread(net, x):
    with capture(net, "conv") as captured:
        net(x)
        mine = captured["conv"].clone()
        other = threading.Thread(target=net, args=(2 * x,))
        other.start()
        other.join()
    assert torch.equal(captured["conv"], mine)


class Twice(nn.Module):
    """One convolution that runs on the photo and on its mirror image."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        return self.conv(x) + 2 * self.conv(x.flip(-1))


@pytest.mark.parametrize(("call", "mirrored"), [(0, False), (1, True), (None, True)])
def test_which_run_of_a_layer(x, call, mirrored):
    net = Twice()
    with capture(net, "conv", call=call) as captured, torch.no_grad():
        net(x)
    expected = torch.nn.functional.conv2d(x.flip(-1) if mirrored else x, net.conv.weight, net.conv.bias)
    torch.testing.assert_close(captured["conv"], expected.detach())
    assert captured.runs == {"conv": 2}


def test_a_live_run_is_one_of_several(x):
    """Only the run that was chosen is a leaf: the gradient is that of its own term."""
    net = Twice()
    for call, factor in ((0, 1), (1, 2)):
        with torch.no_grad(), capture(net, "conv", live=True, call=call) as captured:
            y = net(x)
        (gradient,) = torch.autograd.grad(y.sum(), captured["conv"])
        assert (gradient == factor).all()


def test_a_run_that_never_came(net, x):
    with capture(net, "conv", call=1) as captured, torch.no_grad():
        net(x)
    assert captured.runs == {"conv": 1}
    with pytest.raises(LayerError, match="Nothing was captured from 'conv'"):
        captured["conv"]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad])
def test_live_capture_in_both_grad_modes(mode):
    """Inside no_grad a graph begins at the layer; the value is the network's, and the caller's grad mode comes back."""
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(36, 2)).eval()
    x = torch.rand(1, 3, 5, 5)
    with mode():
        with capture(net, "0", live=True) as captured:
            y = net(x)
        assert torch.is_grad_enabled() == (mode is torch.enable_grad)
    assert captured["0"].is_leaf == (mode is torch.no_grad), "nothing before the layer is recorded"
    (gradient,) = torch.autograd.grad(y[0, 1], captured["0"])
    A = net[0](x).detach()
    expected = net[3].weight[1].view(1, 4, 3, 3) * (A > 0)  # a ReLU passes on what is above zero
    torch.testing.assert_close(gradient, expected.detach())


def test_live_capture_puts_the_grad_mode_back_after_an_exception(net):
    with pytest.raises(RuntimeError), torch.no_grad():
        try:
            with capture(net, "conv", live=True):
                net(torch.zeros(1, 3, 5, 5))
                net(torch.zeros(1, 99, 5, 5))
        finally:
            assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()
    assert count_hooks(net) == 0


def test_what_errors_call_a_layer(net):
    assert (layer_name("conv"), layer_name(net.conv)) == ("conv", "Conv2d")


def test_find_layer_by_path():
    net = nn.Sequential(nn.Sequential(nn.Linear(2, 2)))
    assert find_layer(net, "0.0") is net[0][0]
