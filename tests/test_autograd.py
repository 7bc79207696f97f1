"""Gradients through networks that were not written for them, against plain autograd."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

from camlib import LayerError, ModelError, explain, grad_cam, hires_cam, load_model
from camlib.autograd import (
    Dependence,
    Unfrozen,
    bottlenecks,
    constants_as_they_are,
    cut_gates,
    gradients,
    no_gradient,
)
from camlib.layers import locate
from tests.networks import assert_same, flat, grad_cam_of
from tests.test_network import state_of

X = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


# --- frozen ----------------------------------------------------------------------------------------------------------


def stack():
    return torch.overrides._get_current_function_mode_stack()


@pytest.mark.parametrize(
    "change", [torch.overrides._pop_mode, lambda: torch.overrides._push_mode(Unfrozen()), lambda: None]
)
def test_modes_leave_the_stack_as_it_was(change):
    """Ctrl-C may come while PyTorch has taken a mode off its stack, or put one on."""
    with Unfrozen():
        before = stack()
        with pytest.raises(KeyboardInterrupt), Unfrozen():
            assert len(stack()) == 2
            change()
            raise KeyboardInterrupt
        assert stack() == before
    assert stack() == []


@pytest.mark.parametrize(
    "cut",
    [
        lambda v: v.detach(),
        lambda v: v.clone().detach_(),
        lambda v: v.data,
        lambda v: torch.no_grad()(lambda: v * 1)(),
        lambda v: (torch.set_grad_enabled(False), v * 1)[1],
    ],
)
def test_nothing_cuts_the_graph_inside(cut):
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    with Unfrozen():
        y = (cut(x * 3) ** 2).sum()
    (gradient,) = torch.autograd.grad(y, x)
    assert gradient.tolist() == [18, 36]
    assert torch.is_grad_enabled()
    assert not (x * 1).detach().requires_grad, "outside, everything is as it was"


def random_graph(seed):
    """A chain with detours: the tensors in order, and which of them each was made of."""
    draw = torch.Generator().manual_seed(seed)
    tensors, sources = [torch.ones(2, requires_grad=True) * 1], [[]]
    for n in range(1, 14):
        back = torch.randint(1, 3, (1 + int(torch.rand((), generator=draw) < 0.4),), generator=draw)
        sources.append(sorted({max(n - int(b), 0) for b in back}))
        tensors.append(sum(tensors[k] * (k + 2) for k in sources[-1]) + 0)
    return tensors, sources


def reaches(sources, start, end, without):
    known = [n == start and n != without for n in range(len(sources))]
    for n in range(start + 1, end + 1):
        known[n] = n != without and any(known[k] for k in sources[n])
    return known[end]


@pytest.mark.parametrize("seed", range(20))
def test_bottlenecks(seed):
    """Against taking out one tensor after the other."""
    tensors, sources = random_graph(seed)
    last = len(tensors) - 1
    nodes = bottlenecks(tensors[0], tensors[last])
    found = [n for n, t in enumerate(tensors) if t.grad_fn in nodes]
    assert found == [n for n in range(len(tensors)) if not reaches(sources, 0, last, without=n)]
    assert {0, last} <= set(found)


def test_bottlenecks_of_what_does_not_depend():
    x, y = (torch.ones(2, requires_grad=True) * 1 for _ in range(2))
    assert bottlenecks(x, y) == set()


def test_dependence():
    x, w = torch.ones(2, requires_grad=True) * 1, torch.ones(2, requires_grad=True)
    depends, met = Dependence(x), []
    y = (x * w).sum() + (w * 2).sum()
    assert (
        depends(y, lambda node: met.append(node.name()))
        and depends(x)
        and not depends(w)
        and not depends(w * x.detach())
    )
    assert met == ["MulBackward0", "SumBackward0", "AddBackward0"]


def test_leaves_are_detached_as_ever():
    """Networks that change their own weights through .data in forward still run."""
    weight = nn.Parameter(torch.tensor([-1.0, 2.0]))
    with Unfrozen():
        weight.data.clamp_(0)
        assert not weight.detach().requires_grad
    assert weight.tolist() == [0, 2]


# --- weights that change ---------------------------------------------------------------------------------------------


def test_a_graph_keeps_the_weights_that_it_was_recorded_with():
    net = flat()
    A = net[:2](X).detach().requires_grad_()
    (expected,) = torch.autograd.grad(net[2:](A)[:, 1].sum(), A)
    with constants_as_they_are(net):
        score = net[2:](A)[:, 1].sum()
    for p in net.parameters():
        p.data.mul_(-2)
    (gradient,) = torch.autograd.grad(score, A)
    assert torch.equal(gradient, expected)


def by_optimiser(net):
    optimiser = torch.optim.SGD(net.parameters(), lr=0.5)
    F.cross_entropy(net(X), torch.tensor([0, 2])).backward()
    optimiser.step()
    optimiser.zero_grad()


def by_average(net):
    """As torch.optim.swa_utils and timm's ModelEma: values are copied through .data, which autograd does not count."""
    averaged = copy.deepcopy(net)
    for p in averaged.parameters():
        p.data.mul_(0.5).add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1)), alpha=0.05)
    net.load_state_dict(averaged.state_dict())


def by_statistics(net):
    net.train()
    with torch.no_grad():
        net(5 + 3 * X)
    net.eval()


def by_other_head(net):
    torch.manual_seed(8)
    net[-1] = nn.Linear(net[-1].in_features, 3)


CHANGES = {
    "optimiser": by_optimiser,
    "fused": lambda net: (F.cross_entropy(net(X), torch.tensor([0, 2])).backward(), fused(net)),
    "data": lambda net: [p.data.mul_(1.5) for p in net.parameters()],
    "assigned": lambda net: setattr(net[5], "weight", nn.Parameter(-net[5].weight.detach())),
    "average": by_average,
    "pruned": lambda net: prune.l1_unstructured(net[5], "weight", 0.5),
    "mask": lambda net: (prune.random_unstructured(net[3], "weight", 0.7), prune.remove(net[3], "weight")),
    "parametrized": lambda net: parametrizations.weight_norm(net[5]).parametrizations.weight.original0.data.mul_(3),
    "statistics": by_statistics,
    "head": by_other_head,
}


def fused(net):
    torch.optim.Adam(net.parameters(), lr=0.1, fused=True).step()
    net.zero_grad()


def normed():
    """As `flat`, with a BatchNorm between the two linear layers, whose statistics are buffers."""
    net = flat()
    return nn.Sequential(*net[:3], net[3], nn.BatchNorm1d(8), net[5]).eval()


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("method", [grad_cam, hires_cam])
def test_an_explanation_is_of_the_network_of_its_time(change, method):
    """Made before, drawn after: the map of then. Made after: the map of now."""
    net = normed()
    clf = load_model(net, size=64)
    before = by_hand(net, method)
    explanation = explain(clf, X[0], method=method.__name__)
    CHANGES[change](net)
    after = by_hand(net, method)
    assert (after - before).abs().max() > 0.05 * before.abs().max()
    assert_same(explanation.map(1), before)
    assert_same(explain(clf, X[0], method=method.__name__).map(1), after)
    assert_same(method(net, X[:1], 1)[0], after)


def by_hand(net, method):
    tail = lambda A: net[2:](A)  # noqa: E731
    if method is grad_cam:
        return grad_cam_of(tail, net[:2](X[:1]), 1)[0]
    A = net[:2](X[:1]).detach().requires_grad_()
    (G,) = torch.autograd.grad(tail(A)[0, 1], A)
    return (G * A).sum(1)[0].detach()


def half_pruned(m):
    prune.l1_unstructured(m, "weight", 0.5)


@pytest.mark.parametrize("prepare", [parametrizations.weight_norm, parametrizations.spectral_norm, half_pruned])
def test_weights_that_are_computed_anew_at_every_run(prepare):
    """A parametrized weight is no parameter; what it is computed from changes."""
    net = flat().train()
    prepare(net[5])
    net.eval()
    clf = load_model(net, size=64)
    before, explanation = by_hand(net, grad_cam), explain(clf, X[0], method="grad_cam")
    for p in net[5].parameters():
        p.data.mul_(torch.linspace(0.5, 2, p.numel()).view(p.shape))
    after = by_hand(net, grad_cam)
    assert (after - before).abs().max() > 0.01 * before.abs().max()
    assert_same(explanation.map(1), before)
    assert_same(explain(clf, X[0], method="grad_cam").map(1), after)


# --- checkpointing ---------------------------------------------------------------------------------------------------


class Checkpointed(nn.Module):
    """Runs a block with dropout and batch statistics again in the backward pass."""

    def __init__(self, reentrant: bool = False, on: bool = True):
        super().__init__()
        torch.manual_seed(6)
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, 4, 1), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(6, 6, 3, 1, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5))
        self.fc = nn.Sequential(nn.Flatten(), nn.Linear(6 * 256, 9), nn.Tanh(), nn.Linear(9, 3))
        self.reentrant, self.on = reentrant, on

    def forward(self, x):
        f = self.stem(x)
        f = checkpoint(self.block, f, use_reentrant=self.reentrant) if self.on else self.block(f)
        return self.fc(f)

    def by_hand(self, layer: str):
        """In evaluation mode, without checkpoints."""
        net = copy.deepcopy(self).eval()
        tail = (lambda A: net.fc(net.block(A))) if layer == "stem" else net.fc
        return grad_cam_of(tail, net.stem(X) if layer == "stem" else net.block(net.stem(X)), 1)


@pytest.mark.parametrize("layer", [None, "block", "stem"])
@pytest.mark.parametrize("as_module", [False, True])
def test_checkpointing_in_train_mode(layer, as_module):
    net = Checkpointed().train()
    net.block[1].running_mean.normal_()
    before = state_of(net)
    expected = net.by_hand(layer or "block")
    if layer and as_module:
        layer = net.get_submodule(layer)
    assert_same(grad_cam(net, X, 1, layer=layer), expected)
    clf = load_model(net, size=64)
    explanation = explain(clf, X[0], method="grad_cam", layer=layer)
    for p in net.parameters():
        p.data.mul_(1)
    assert_same(explanation.map(1), expected[0])
    assert state_of(net) == before
    assert locate(net, X).recomputes


def test_an_explanation_of_a_checkpointed_network_made_before_training():
    net = Checkpointed().train()
    clf, expected = load_model(net, size=64), net.by_hand("stem")
    explanation = explain(clf, X[0], method="grad_cam", layer="stem")
    for p in net.parameters():
        p.data.mul_(-2)
    before = state_of(net)
    assert_same(explanation.map(1), expected[0])
    assert_same(explain(clf, X[0], method="grad_cam", layer="stem").map(1), net.by_hand("stem")[0])
    assert state_of(net) == before


def test_checkpointing_that_is_switched_on_later():
    """The same classifier, between two epochs: nothing was recomputed when the layer was found."""
    net = Checkpointed(on=False).train()
    clf = load_model(net, size=64)
    assert_same(explain(clf, X[0], method="grad_cam", layer="stem").map(1), net.by_hand("stem")[0])
    net.on = True
    explanation, expected = explain(clf, X[0], method="grad_cam", layer="stem"), net.by_hand("stem")
    for p in net.parameters():
        p.data.mul_(-2)
    before = state_of(net)
    assert_same(explanation.map(1), expected[0])
    assert state_of(net) == before


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("training", [False, True])
def test_reentrant_checkpointing_is_refused_with_its_cure(training):
    net = Checkpointed(reentrant=True).train(training)
    before = state_of(net)
    for call in (
        lambda: grad_cam(net, X, 1),
        lambda: grad_cam(net, X, 1, layer="stem"),
        lambda: explain(load_model(net, size=64), X[0], method="grad_cam").map(1),
    ):
        with pytest.raises(
            ModelError, match=r"Checkpointed uses reentrant checkpointing, .*checkpoint\(…, use_reentrant"
        ):
            call()
        assert state_of(net) == before


# --- reasons ---------------------------------------------------------------------------------------------------------


def test_what_autograd_raises_is_quoted():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 4, 4), nn.Linear(4, 2)

        def forward(self, x):
            f = self.conv(x)
            y = f.exp()
            z = self.fc(y.mean((2, 3)))
            y.mul_(2)
            return z

    with pytest.raises(
        ModelError, match="InPlace changes values in place that its own gradient needs, .*: one of the variables"
    ):
        grad_cam(InPlace(), X, 0)

    class NoBackward(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            raise RuntimeError("no derivative here")

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = flat()

        def forward(self, x):
            return NoBackward.apply(self.net(x))

    with pytest.raises(ModelError, match="Own cannot be differentiated: no derivative here[.]"):
        grad_cam(Own(), X, 0)


def test_gradients_of_what_does_not_matter_are_none():
    a, b = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    score = (3 * a).sum()
    with torch.no_grad():
        for _ in range(2):  # the graph stays for the next class
            by_a, by_b = gradients(score, [a, b], "Net")
    assert by_a.tolist() == [3, 3]
    assert by_b is None


def test_no_gradient_names_the_cause():
    error = no_gradient(flat(), "3")
    assert isinstance(error, LayerError) and "quantised layers (3)" in str(error)
    assert "rounded, compared, sorted or computed" in str(no_gradient(flat(), None))


# --- gates -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "gated", "direct"),
    [
        (lambda f, g: f * g.sigmoid(), True, True),
        (lambda f, g: (1 + g.sigmoid()) * f, True, True),
        (lambda f, g: f * (2 * g.softmax(0)[:, None].squeeze(1)), True, True),
        (lambda f, g: f * (1 - F.hardsigmoid(g)), True, True),
        (lambda f, g: f * g, False, True),
        (lambda f, g: f + g.sigmoid(), False, True),
        (lambda f, g: (2 * g.sigmoid() + 1).tanh() + f, False, True),
        (lambda f, g: f.sigmoid() * g.sigmoid(), True, False),
    ],
)
def test_what_a_gate_is(make, gated, direct):
    f, g = (torch.tensor([0.5, -1.0], requires_grad=True) for _ in range(2))
    y = make(f * 1, g * 1)
    assert cut_gates(y) == gated
    by_f, by_g = torch.autograd.grad(y.sum(), [f, g])
    assert bool(by_f.any()) == direct
    assert bool(by_g.any()) != gated
