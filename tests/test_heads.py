"""Heads are found by value, whatever the names, and refused with the obstacle's name."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from camlib import (
    HeadError,
    ModelError,
    capture,
    class_activation_maps,
    explain,
    find_head,
    load_model,
    residual,
)
from tests.networks import Wrapped, build, count_hooks, randomise, tiny

X = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))


def check(net: nn.Module, x: torch.Tensor = X):
    """The identity, computed here from the head's parts and the network's own output."""
    head = find_head(net, x)
    features, logits = head.run(net, x)
    with torch.no_grad():
        expected = net.eval()(x)
    assert torch.equal(logits, expected)
    maps = class_activation_maps(features, head.weight)
    assert maps.shape[:2] == logits.shape
    assert maps.shape[-1] > 1
    assert residual(maps, head.bias, expected) < 1e-4 * expected.abs().max()
    assert maps.std((2, 3)).max() > 0, "a constant map says nothing"
    assert count_hooks(net) == 0
    return head


@pytest.mark.parametrize(
    ("name", "layer", "activation", "classifier"),
    [
        ("resnet18", "layer4", "identity", "fc"),
        ("densenet121", "features", "relu", "classifier"),  # a functional in-place ReLU follows
        ("squeezenet1_1", "classifier.2", "identity", None),  # the class scores themselves are pooled
        ("swin_t", "permute", "identity", "head"),
        ("mobilenet_v2", "features", "identity", "classifier.1"),
        ("efficientnet_b0", "features", "identity", "classifier.1"),
    ],
)
def test_finds(name, layer, activation, classifier):
    head = check(build(name))
    assert (head.layer, head.activation, head.classifier) == (layer, activation, classifier)


def test_finds_googlenet():
    head = check(build("googlenet", init_weights=False, aux_logits=False))
    assert (head.layer, head.classifier) == ("inception5b", "fc")


@pytest.mark.parametrize(
    ("name", "size", "obstacle"),
    [
        ("vgg16", 64, r"Linear \(classifier.0\), ReLU \(classifier.1\), Linear \(classifier.3\)"),
        ("vit_b_16", 224, "reads the class token of encoder"),
        ("mobilenet_v3_large", 64, r"Linear \(classifier.0\), Hardswish \(classifier.1\)"),
        ("maxvit_t", 224, r"Linear \(classifier.3\), Tanh \(classifier.4\)"),
    ],
)
def test_refuses_and_names_the_obstacle(name, size, obstacle):
    net = build(name)
    with pytest.raises(HeadError, match=obstacle):
        find_head(net, torch.randn(1, 3, size, size))
    assert count_hooks(net) == 0


class Net(nn.Module):
    """A backbone of two convolutions, and whatever end is given."""

    def __init__(self, end, channels=8, classes=5):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(3, channels, 3, 2), nn.Conv2d(channels, channels, 3, 2)
        self.last = nn.Linear(channels, classes)
        self.point = nn.Conv2d(channels, classes, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.end = end

    def forward(self, x):
        return self.end(self, self.b(F.relu(self.a(x))))


def test_finds_functional_pooling_and_a_1x1_convolution_as_classifier():
    head = check(Net(lambda n, f: n.point(f.relu().mean((2, 3), keepdim=True)).flatten(1)))
    assert (head.layer, head.activation, head.classifier) == ("b", "relu", "point")
    assert head.weight.shape == (5, 8)


def test_finds_a_layernorm_before_the_classifier():
    """The normalisation's own derivation, photo by photo: hold mean and deviation, and the rest is linear."""
    net = build("convnext_tiny")
    head = check(net)
    assert (head.layer, head.classifier, head.norm) == ("features", "classifier.2", "classifier.0")
    assert head.of_this_photo
    features, logits = head.run(net, X)
    maps = class_activation_maps(features, head.weight)
    with capture(net, "features") as captured, torch.no_grad():
        net(X)
    norm, linear = net.classifier[0], net.classifier[2]
    for photo in range(2):
        F_, v = captured["features"][photo], captured["features"][photo].mean((1, 2))
        deviation = (v.var(correction=0) + norm.eps).sqrt()
        weight = (linear.weight * norm.weight / deviation).detach()  # this photo's weights, its mean not yet held
        held = -weight @ v.mean().expand_as(v) + linear.weight @ norm.bias + linear.bias
        by_hand = torch.einsum("kc,chw->khw", weight, F_)
        assert (by_hand.mean((1, 2)) + held - logits[photo]).abs().max() < 1e-4
        # camlib holds the deviation alone: the mean over the channels is linear, and is taken off each cell's own
        centred = torch.einsum("kc,chw->khw", weight, F_ - F_.mean(0))
        torch.testing.assert_close(maps[photo], centred, atol=1e-4, rtol=1e-4)


def test_each_photo_has_its_own_deviation():
    net = build("convnext_tiny")
    head = find_head(net, X)
    both, _ = head.run(net, X)
    alone, _ = head.run(net, X[1:])
    torch.testing.assert_close(both[1:], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("kind", [nn.LayerNorm, nn.BatchNorm1d])
def test_finds_normalised_means(kind, affine):
    options = {"affine": affine} if kind is nn.BatchNorm1d else {"elementwise_affine": affine}
    norm = randomise(kind(8, **options))
    if kind is nn.BatchNorm1d:
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    net = Net(lambda n, f: n.last(n.norm(f.relu().mean((2, 3)))))
    net.norm = norm
    head = check(net)
    assert (head.layer, head.activation, head.norm) == ("b", "relu", "norm")
    assert head.of_this_photo == (kind is nn.LayerNorm)


def test_a_norm_that_normalises_something_else_is_no_excuse():
    """A nonlinear step between the norm and the classifier: still refused."""
    net = Net(lambda n, f: n.last(n.norm(f.mean((2, 3))).tanh()))
    net.norm = nn.LayerNorm(8)
    with pytest.raises(HeadError, match="LayerNorm"):
        find_head(net, X)


@pytest.mark.parametrize("act", [F.silu, F.gelu, F.hardswish, F.relu6])
def test_finds_other_functional_activations(act):
    assert check(Net(lambda n, f: n.last(act(f).mean((2, 3)))), 30 * X).activation == act.__name__


def test_finds_a_map_that_only_enters_a_module():
    head = check(Net(lambda n, f: n.last(n.pool(f + f.roll(1, 1)).flatten(1))))
    assert (head.layer, head.inputs) == ("pool", True)


def test_finds_a_channels_last_map():
    class Last(nn.Module):
        def forward(self, f):
            return f.permute(0, 2, 3, 1)

    net = Net(lambda n, f: n.last(n.turn(f.tanh()).mean((1, 2))))
    net.turn = Last()
    head = check(net)
    assert (head.layer, head.layout) == ("turn", "nhwc")


def test_finds_the_convolution_that_is_pooled():
    assert check(Net(lambda n, f: F.relu(n.point(f)).mean((2, 3)))).activation == "relu"
    assert check(Net(lambda n, f: n.point(f).mean((2, 3)))).activation == "identity"


def test_finds_a_head_without_bias():
    net = Net(lambda n, f: n.last(f.mean((2, 3))))
    net.last = nn.Linear(8, 5, bias=False)
    assert torch.equal(check(net).bias, torch.zeros(5))


@pytest.mark.parametrize(
    ("end", "says"),
    [
        (lambda n, f: n.last(f.amax((2, 3))), "does not read the map's plain spatial mean"),
        (lambda n, f: n.last(f.mean((2, 3))).softmax(1), "pass the network without the softmax at its end"),
        (lambda n, f: n.last(f.mean((2, 3)).relu()), "only operations that are not modules"),
        (lambda n, f: n.last(f.mean((2, 3))) * 2, "no linear layer or 1×1 convolution gives"),
        (lambda n, f: n.last(f.mean((2, 3))) * torch.nan, "not finite"),
    ],
)
def test_refuses_what_breaks_the_identity(end, says):
    with pytest.raises(HeadError, match=says):
        find_head(Net(end), X)


@pytest.mark.parametrize(
    ("end", "says"),
    [
        (lambda n, f: {"out": n.last(f.mean((2, 3)))}, r"gives a dict with the key.*output=lambda y: y\['out'\]"),
        (lambda n, f: n.point(f), r"gives a tensor \(2, 5, 23, 23\).*output=lambda y: y.mean\(\(2, 3\)\)"),
    ],
)
def test_an_output_that_is_no_scores_is_not_the_heads_fault(end, says):
    with pytest.raises(ModelError, match=says):
        find_head(Net(end), X)


@pytest.mark.parametrize("pooled", [0, 1])
def test_finds_the_run_that_is_pooled(pooled):
    """A layer runs twice; the mean of one run is what the classifier reads, before or after the other."""

    def end(n, f):
        maps = [n.extra(f), n.extra(2 * f + 1)]
        return n.last(maps[pooled].mean((2, 3)))

    net = Net(end)
    net.extra = nn.Conv2d(8, 8, 3, padding=1)
    head = check(net)
    assert (head.layer, head.call) == ("extra", pooled)
    with torch.no_grad():
        f = net.b(F.relu(net.a(X)))
        torch.testing.assert_close(head.run(net, X)[0], net.extra(f if pooled == 0 else 2 * f + 1))


# The places


class Turn(nn.Module):
    """A module that does something to a map and keeps its mean."""

    def __init__(self, turn):
        super().__init__()
        self.turn = turn

    def forward(self, f):
        return self.turn(f)


SHUFFLED = torch.randperm(23 * 23, generator=torch.Generator().manual_seed(2))
TURNS = {
    "mirrored": lambda f: f.flip(3),
    "upside down": lambda f: f.flip(2),
    "turned": lambda f: f.rot90(1, (2, 3)),
    "transposed": lambda f: f.transpose(2, 3),
    "rolled": lambda f: f.roll((7, 7), (2, 3)),
    "rolled by two": lambda f: f.roll(2, 3),
    "shuffled": lambda f: f.flatten(2)[..., SHUFFLED].view_as(f),
    "made symmetric": lambda f: (f + f.flip(2) + f.flip(3) + f.flip(2, 3)) / 4,
    "constant": lambda f: f.mean((2, 3), keepdim=True).expand_as(f),
    "in blocks": lambda f: F.interpolate(F.adaptive_avg_pool2d(f, 1), size=f.shape[2:]),
}


@pytest.mark.parametrize("how", TURNS)
def test_the_map_before_a_turn_is_taken(how):
    """Every one of them has the mean that the classifier reads; only one has its cells where the photo has them."""
    net = Net(lambda n, f: n.last(n.turn(n.here(f.tanh())).mean((2, 3))))
    net.here, net.turn = nn.Identity(), Turn(TURNS[how])
    head = check(net)
    assert head.layer == "here"
    with torch.no_grad():
        torch.testing.assert_close(head.run(net, X)[0], net.b(F.relu(net.a(X))).tanh())


class Turned(nn.Module):
    """Only the turned map shows in a module: what is before it is no output, and no activation that camlib tries."""

    def __init__(self, turn):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.last = nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 8, 3, 2), nn.Linear(8, 5)
        self.turn, self.shown = turn, nn.Identity()

    def forward(self, x):
        f = self.b(F.relu(self.a(x)))
        return self.last(self.shown(self.turn(f * f.abs())).mean((2, 3)))


@pytest.mark.parametrize("how", [how for how in TURNS if how != "rolled by two"])
def test_a_turned_map_is_refused_where_no_other_has_the_mean(how):
    net = Turned(TURNS[how])
    with pytest.raises(HeadError, match="'shown' has the mean that the classifier reads, but its cells do not follow"):
        find_head(net, X)
    assert count_hooks(net) == 0


def test_a_map_that_is_not_turned_is_found_there():
    assert check(Turned(lambda f: f)).layer == "shown"


def test_a_global_context_branch_is_no_map():
    """Pooled features, enlarged and added: their mean is that of the real map, and so is the mean of both."""

    class Context(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(1)
            self.body = nn.Sequential(nn.Conv2d(3, 12, 5, 6), nn.ReLU())
            self.pool, self.up, self.fc = nn.AdaptiveAvgPool2d(1), nn.Upsample(size=(16, 16)), nn.Linear(12, 5)

        def forward(self, x):
            f = self.body(x)
            return self.fc(((f + self.up(self.pool(f))) / 2).mean((2, 3)))

    net = Context()
    head = check(net)
    assert head.layer == "body"
    assert head.run(net, X)[0].std((2, 3)).min() > 0


def test_a_head_where_the_photo_hardly_matters():
    """Large random biases: the maps respond in their last digits only, which float64 resolves."""
    net = Net(lambda n, f: n.last(f.mean((2, 3))))
    with torch.no_grad():
        net.b.weight *= 1e-6
        net.b.bias += 3
    head = check(net)
    assert head.layer == "b"
    turned = Net(lambda n, f: n.last(n.turn(f).mean((2, 3))))
    turned.turn, turned.b = Turn(TURNS["mirrored"]), net.b
    assert find_head(turned, X).layer == "b"


# Kinds of networks


def test_autocast_inside_forward():
    """The identity holds within bfloat16's precision; by a hook of our own."""

    class Amp(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = Net(lambda n, f: n.last(f.relu().mean((2, 3))))

        def forward(self, x):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return self.net(x)

    net = Amp()
    head = find_head(net, X)
    assert (head.layer, head.precision) == ("net.b", torch.bfloat16)
    outputs = []
    handle = net.net.b.register_forward_hook(lambda _m, _args, output: outputs.append(output.float().relu()))
    with torch.no_grad():
        logits = net(X).float()
    handle.remove()
    features, own = head.run(net, X)
    torch.testing.assert_close(features, outputs[0], rtol=0, atol=0)
    torch.testing.assert_close(own.float(), logits, rtol=0, atol=0)
    bias = net.net.last.bias.detach()
    missed = (features.mean((2, 3)) @ net.net.last.weight.detach().T + bias - logits).abs()
    terms = features.abs().mean((2, 3)) @ net.net.last.weight.detach().abs().T
    rounding = 2 * torch.finfo(torch.bfloat16).eps / 0.031  # of the logits themselves
    least = float((missed / (terms + rounding * logits.abs())).max())
    most = float((missed / ((logits - bias).abs() + rounding * logits.abs())).max())
    assert 1e-4 < 0.98 * least <= head.verify(features, own) <= 1.02 * most < 0.031
    assert maps_point(features, head.weight)


def maps_point(features, weight):
    return bool(class_activation_maps(features, weight).std((2, 3)).min() > 0)


def test_a_layernorm_over_c_1_1():
    """On pooled maps (B, C, 1, 1), as some networks have it: the same as over C."""
    net = Net(lambda n, f: n.last(n.norm(F.adaptive_avg_pool2d(f, 1)).flatten(1)))
    net.norm = randomise(nn.LayerNorm([8, 1, 1]))
    head = check(net)
    assert (head.layer, head.norm, head.of_this_photo) == ("b", "norm", True)


def test_a_sparse_classifier():
    net = Net(lambda n, f: n.last(f.mean((2, 3))))
    dense = net.last.weight.detach().clone()
    net.last.weight = nn.Parameter(dense.to_sparse_csr(), requires_grad=False)
    head = find_head(net, X)
    assert torch.equal(head.weight, dense)
    with torch.no_grad():
        f = net.b(F.relu(net.a(X)))
    torch.testing.assert_close(head.run(net, X)[1], F.linear(f.mean((2, 3)), dense, net.last.bias.detach()))


# The tolerance


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_tolerance_is_relative_to_the_logits(scale):
    net = Net(lambda n, f: n.last(f.mean((2, 3))))
    with torch.no_grad():
        net.last.weight *= scale
        net.last.bias *= scale
    head = check(net)
    features, logits = head.run(net, X)
    largest = logits.abs().max()
    assert head.verify(features, logits + 0.5e-4 * largest) < 1e-4
    with pytest.raises(HeadError, match="misses the logits by"):
        head.verify(features, logits + 2e-4 * largest)


def test_values_that_are_not_finite_are_refused():
    head = find_head(Net(lambda n, f: n.last(f.mean((2, 3)))), X)
    features, logits = torch.ones(1, 8, 3, 3), torch.ones(1, 5)
    for broken in ((features * torch.nan, logits), (features, logits * torch.inf)):
        with pytest.raises(HeadError, match="not finite"):
            head.verify(*broken)


def test_one_photo_does_not_hide_another():
    head = find_head(Net(lambda n, f: n.last(f.mean((2, 3)))), X)
    features, logits = head.run(Net(lambda n, f: n.last(f.mean((2, 3)))), X)
    scale = torch.tensor([1.0, 1e6])
    off = logits.clone()
    off[0] += 0.1 * logits[0].abs().max()
    with pytest.raises(HeadError, match="misses the logits"):
        head.verify(features * scale[:, None, None, None], off * scale[:, None] + head.bias * (1 - scale[:, None]))


def test_a_grid_is_preferred_to_a_strip():
    """Tokens in a row have the same mean; the grid from which they were made keeps the places."""
    net = Net(lambda n, f: n.last(n.strip(n.grid(f)).mean((2, 3))))
    net.grid, net.strip = nn.Identity(), nn.Sequential(nn.Flatten(2), nn.Unflatten(2, (23 * 23, 1)))
    assert check(net).layer == "grid"


@pytest.mark.parametrize("wrong", [None, torch.zeros(3, 96, 96), torch.zeros(1, 4, 96, 96)])
def test_inputs_that_the_network_does_not_take(wrong):
    with pytest.raises(ModelError, match="fails on an input of"):
        find_head(Net(lambda n, f: n.last(f.mean((2, 3)))), wrong)


def test_the_head_of_a_half_precision_network_is_found_with_exact_arithmetic():
    net = Net(lambda n, f: n.last(f.relu().mean((2, 3)))).bfloat16()
    head = find_head(net, X.bfloat16())
    assert (head.layer, head.activation, head.weight.dtype) == ("b", "relu", torch.float32)
    assert torch.equal(head.weight, net.last.weight.float())
    assert next(net.parameters()).dtype == torch.bfloat16


def test_the_mean_of_tokens_is_named():
    class Tokens(nn.Module):
        def forward(self, f):
            return f.flatten(2).transpose(1, 2)

    net = Net(lambda n, f: n.last(n.norm(n.tokens(f)).mean(1)))
    net.tokens, net.norm = Tokens(), nn.LayerNorm(8)
    with pytest.raises(HeadError, match="reads the mean of the tokens of norm, which has 529 tokens"):
        find_head(net, X)


def test_a_map_of_one_cell_localises_nothing():
    with pytest.raises(HeadError, match="larger than 1×1"):
        find_head(nn.Sequential(nn.Conv2d(3, 8, 96), nn.Flatten(), nn.Linear(8, 5)), X)


def test_verify_fails_on_another_input_where_the_network_differs():
    """A network that treats bright inputs otherwise is found on the dark one and refused on the bright one."""
    net = Net(lambda n, f: n.last(f.mean((2, 3)) if f.abs().mean() < 10 else f.amax((2, 3))))
    head = find_head(net, X)
    assert head.verify(*head.run(net, X)) < 1e-4
    with pytest.raises(HeadError, match="misses the logits by"):
        head.verify(*head.run(net, 1000 * X))


def test_training_flags_and_state_stay():
    net = build("resnet18").train()
    net.layer1.eval()
    flags = {n: m.training for n, m in net.named_modules()}
    before = {k: v.clone() for k, v in net.state_dict().items()}
    find_head(net, X)
    assert {n: m.training for n, m in net.named_modules()} == flags
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


class Flipped(nn.Module):
    def forward(self, x):
        return x.flip(3)


def test_a_module_that_comes_later_is_noticed():
    """The identity proves the mean alone: a mirrored map would pass."""
    net, x = tiny(), torch.rand(3, 64, 64)
    clf = load_model(net, size=64)
    explain(clf, x)
    expected = torch.einsum("kc,chw->khw", net[4].weight, net[:2](x[None])[0]).detach()
    net.insert(2, Flipped())
    torch.testing.assert_close(explain(clf, x).maps, expected)


class Gated(nn.Module):
    gate = False

    def __init__(self):
        super().__init__()
        self.net = tiny(classes=1)

    def forward(self, x):
        f = self.net[:2](x)
        f = f * torch.linspace(0, 1, f.shape[3]) if self.gate else f
        return self.net[4](f.mean((2, 3)))


@pytest.mark.parametrize("bias", [0.0, 250_000.0])
def test_a_large_bias_hides_no_fault(bias):
    """A price of 250 000 with evidence of 0.4: a ten-thousandth of the price would be fifty times the evidence."""
    net, x = Gated(), torch.rand(3, 64, 64)
    nn.init.constant_(net.net[4].weight, 2.0)
    nn.init.constant_(net.net[4].bias, bias)
    clf = load_model(net, size=64, activation=None)
    explain(clf, x)
    net.gate = True
    with pytest.raises(HeadError):
        explain(clf, x)


def test_a_classifier_that_is_called_by_keyword():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = tiny()

        def forward(self, x):
            return self.net[4](input=self.net[:2](x).mean((2, 3)))

    assert find_head(Net().eval(), torch.rand(1, 3, 64, 64)).classifier == "net.4"


@pytest.mark.parametrize("wide", [False, True])
def test_within_autocast(wide):
    """What the caller's autocast rounds is allowed for, whatever type the scores have in the end."""
    net = Wrapped(tiny(), torch.Tensor.float if wide else lambda y: y)
    clf = load_model(net, size=64)
    with torch.autocast("cpu", torch.bfloat16):
        exp = explain(clf, torch.rand(3, 64, 64))
    assert exp.residual() < 0.05


class Lora(nn.Linear):
    """A linear layer with a second, small weight beside its own."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.a, self.b = nn.Parameter(torch.randn(1, sizes[0])), nn.Parameter(torch.randn(sizes[1], 1))

    def forward(self, x):
        return super().forward(x) + x @ self.a.T @ self.b.T


def test_a_classifier_with_a_second_weight():
    net = tiny()
    net[4] = Lora(4, 3)
    with pytest.raises(HeadError, match=r"classifier \(4\) is not its weight times its input.*LoRA.*Merge"):
        find_head(net, torch.rand(1, 3, 64, 64))
    with torch.no_grad():
        net[4].weight += net[4].b @ net[4].a
        net[4].b.zero_()
    assert find_head(net, torch.rand(1, 3, 64, 64)).classifier == "4"


class Switched(nn.Module):
    """Mirrors its feature map before or after the activation if told to, which the map's mean does not show."""

    def __init__(self):
        super().__init__()
        self.net = tiny()
        self.before = self.after = False

    def forward(self, x):
        f = self.net[0](x)
        f = self.net[1](f.flip(3) if self.before else f)
        return self.net[2:](f.flip(3) if self.after else f)


@pytest.mark.parametrize("by", ["before", "after", "a hook"])
def test_a_network_that_begins_to_mirror_its_map_is_looked_at_again(by):
    net, x = Switched(), torch.rand(3, 64, 64)
    clf = load_model(net, size=64)
    expected = explain(clf, x).maps
    if by == "a hook":
        net.net[1].register_forward_hook(lambda m, args, output: output.flip(3))
    else:
        setattr(net, by, True)
    try:
        maps = explain(clf, x).maps
    except HeadError:
        return  # no layer holds the upright map
    torch.testing.assert_close(maps, expected)


def test_an_input_that_leaves_one_cell():
    net = build("resnet18").eval()
    with pytest.raises(HeadError, match=r"32×32 pixels is too small: the feature map \(layer4\) has a single cell"):
        find_head(net, torch.rand(1, 3, 32, 32))
    clf = load_model(net, size=32)
    assert explain(clf, torch.rand(3, 224, 224)).maps.shape[1:] == (7, 7)


def test_an_activation_that_noise_does_not_tell_from_another():
    """Values above 6, which ReLU6 clips, come with the photo only."""
    net = tiny()
    net[1] = nn.Sequential()  # the activation is functional, so it does not show up as a module
    clipped = Wrapped(nn.Sequential(net[0]), lambda f: net[4](F.relu6(f).mean((2, 3))))
    clipped.last = net[4]
    clf = load_model(clipped.eval(), size=64)
    x = 40 * torch.rand(3, 64, 64)
    features = F.relu6(net[0](x[None])).detach()
    assert (features == 6).any()
    torch.testing.assert_close(explain(clf, x).maps, torch.einsum("kc,chw->khw", net[4].weight, features[0]).detach())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_backbone_in_half_precision(dtype):
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = tiny()
            self.net[0].to(dtype)

        def forward(self, x):
            return self.net[4](self.net[1](self.net[0](x.to(dtype))).mean((2, 3)).float())

    exp = explain(load_model(Mixed(), size=64), torch.rand(3, 64, 64))
    assert exp.residual() < 0.02


class Adjusted(nn.Module):
    """Adds a prior behind the classifier. A second classifier of the same size runs for nothing."""

    def __init__(self):
        super().__init__()
        self.net, self.aux = tiny(), nn.Linear(4, 3)
        self.register_buffer("prior", torch.zeros(3))

    def forward(self, x):
        pooled = self.net[:4](x)
        self.aux(pooled)
        return self.net[4](pooled) + self.prior


@pytest.mark.parametrize("mask", [0.0, -1e4, -1e9])
def test_a_masked_class_hides_neither_a_prior_nor_another_head(mask):
    net, x = Adjusted().eval(), torch.rand(3, 64, 64)
    with torch.no_grad():
        for layer in (net.net[4], net.aux):
            layer.bias[0] = mask
    clf = load_model(net, size=64)
    expected = torch.einsum("kc,chw->khw", net.net[4].weight, net.net[:2](x[None])[0]).detach()
    torch.testing.assert_close(explain(clf, x).maps, expected)
    net.prior[1] = 0.4
    for adjusted in (clf, load_model(net, size=64)):
        with pytest.raises(HeadError):
            explain(adjusted, x)


def test_a_class_with_large_scores_hides_no_fault_of_another():
    """As in a regression of a price and a number of rooms: a ten-thousandth of the price is more than all rooms."""
    net, x = Adjusted().eval(), torch.rand(3, 64, 64)
    with torch.no_grad():
        net.net[4].weight[0] *= 1e6
    clf = load_model(net, size=64, activation=None)
    assert explain(clf, x).residual() < 1
    net.prior[1] = 0.4
    with pytest.raises(HeadError):
        explain(clf, x)


def test_a_class_whose_terms_cancel_out_is_no_fault():
    """Its logit is 0 up to rounding, which is large beside 0 and small beside what is summed."""
    net, x = Adjusted().eval(), torch.rand(3, 64, 64)
    with torch.no_grad():
        pooled = net.net[:4](x[None])[0]
        row = 1e3 * torch.randn(4)
        net.net[4].weight[2] = row - pooled * (row @ pooled) / (pooled @ pooled)
        net.net[4].bias[2] = 0
    exp = explain(load_model(net, size=64), x)
    assert abs(float(exp.logits[2])) < 1e-2 < float(exp.map(2).abs().max())
