"""What a network may give, and the probabilities that its scores stand for."""

from collections import OrderedDict
from dataclasses import dataclass
from math import exp

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from camlib import CamWarning, HeadError, ModelError, explain, find_head, grad_cam, load_model
from camlib.outputs import (
    as_scores,
    check_activation,
    in_words,
    operation,
    own_activation,
    probabilities,
    resolve_activation,
    unclear,
)
from tests.networks import Wrapped, assert_same, flat, grad_cam_of, scores_of, tiny

Y = torch.tensor([[1.0, -2.0, 0.5], [0.25, 3.0, -1.0]])  # (B, K)
X = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@dataclass
class ImageOutput:
    logits: torch.Tensor
    hidden: tuple = ()


# --- scores ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "adapter"),
    [
        (Y, None),
        (Y.half().float(), None),
        (ImageOutput(Y), None),
        ({"logits": Y, "loss": torch.zeros(())}, None),
        (OrderedDict(logits=Y), None),
        ((Y, "auxiliary"), lambda y: y[0]),
        (Y[..., None, None].expand(-1, -1, 4, 4), lambda y: y.mean((2, 3))),
        (Y[:, None].expand(-1, 5, -1), lambda y: y.mean(1)),
        ({"out": Y}, lambda y: y["out"]),
    ],
)
def test_scores_in_what_a_network_gives(given, adapter):
    assert torch.equal(as_scores(given, 2, "Net", adapter), Y)


def test_one_score_for_each_picture():
    assert torch.equal(as_scores(Y[:, 1], 2, "Net"), Y[:, 1:2])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ((Y, Y), r"Net gives a tuple of 2; scores \(B, K\) .* for example output=lambda y: y\[0\]\."),
        ([None, Y], r"Net gives a list of 2.*output=lambda y: y\[1\]\."),
        ({"a": None, "b": Y}, r"a dict with the keys 'a', 'b'.*output=lambda y: y\['b'\]\."),
        ({"out": Y[..., None, None]}, r"output=lambda y: y\['out'\].mean\(\(2, 3\)\)"),
        (ImageOutput(Y[..., None, None]), r"Net gives a ImageOutput.*output=lambda y: y.logits.mean\(\(2, 3\)\)"),
        (Y[..., None, None], r"a tensor \(2, 3, 1, 1\).*segmentation, output=lambda y: y.mean\(\(2, 3\)\)"),
        (Y[None], r"a tensor \(1, 2, 3\).*output=lambda y: y.mean\(1\)"),
        (Y[0, 0], r"a tensor \(\).*lost the batch axis.*output=lambda y: y.reshape\(-1, 1\)"),
        (Y[0], r"a tensor \(3,\); scores \(B, K\) are needed"),
        (Y[:1], "gives 1 rows of scores for 2 pictures"),
        (Y[:, :0], r"gives no scores: its output is \(2, 0\). Add a classifier to it first"),
        (Y.long(), "scores of type torch.int64; real floating-point"),
        (Y * 1j, "scores of type torch.complex64"),
        (None, "gives a NoneType; .*Pass output=, a function that turns it into scores"),
        ("cat", "gives a str"),
    ],
)
def test_what_is_no_scores_is_named_with_advice(given, says):
    with pytest.raises(ModelError, match=says):
        as_scores(given, 2, "Net")


@pytest.mark.parametrize(
    "given", [(Y, Y), [None, Y], {"out": Y[..., None, None]}, ImageOutput(Y[..., None, None]), Y[..., None, None]]
)
def test_the_advice_works(given):
    with pytest.raises(ModelError) as error:
        as_scores(given, 2, "Net")
    advice = str(error.value).rpartition("output=")[2].removesuffix(".").partition(", or")[0]
    assert torch.equal(as_scores(given, 2, "Net", eval(advice)), Y)


def test_an_output_function_that_fails_or_makes_no_scores():
    with pytest.raises(ModelError, match=r"output= fails on the output of Net \(a tensor \(2, 3\)\): AttributeError"):
        as_scores(Y, 2, "Net", lambda y: y.logits)
    with pytest.raises(ModelError, match=r"output= returns a tensor \(2, 1, 3\) for Net"):
        as_scores(Y, 2, "Net", lambda y: y[:, None])


@pytest.mark.parametrize("call", [lambda net: find_head(net, X), lambda net: grad_cam(net, X, 0), load_model])
def test_the_obstacle_is_the_output_and_not_the_layers(call):
    with pytest.raises(ModelError, match=r"Wrapped gives a tuple of 2.*output=lambda y: y\[0\]"):
        call(Wrapped(tiny(), lambda y: (y, y)))


def test_grad_cam_of_an_adapted_output():
    """By autograd on the split network."""
    net = Wrapped(flat(), lambda y: {"scores": y[..., None, None].expand(-1, -1, 2, 2)})
    expected = grad_cam_of(net.net[2:], net.net[:2](X), 1)
    assert_same(grad_cam(net, X, 1, output=lambda y: y["scores"].mean((2, 3))), expected)


# --- the network's own activation ------------------------------------------------------------------------------------

OWN = {  # what a network does to its logits: the activation that it ends in
    "module": (nn.Softmax(1), "softmax"),
    "functional": (lambda y: F.softmax(y, dim=1), "softmax"),
    "sliced": (lambda y: y.softmax(1)[:, :2], "softmax"),
    "chosen": (lambda y: y.softmax(-1)[:, [2, 0]], "softmax"),
    "reshaped": (lambda y: y.softmax(1).view(-1, 3).contiguous(), "softmax"),
    "in another type": (lambda y: y.double().softmax(1).float(), "softmax"),
    "one of them": (lambda y: y.softmax(1)[:, 1], "softmax"),
    "normalised": (lambda y: y.exp() / y.exp().sum(1, keepdim=True), "softmax"),
    "sigmoid module": (nn.Sigmoid(), "sigmoid"),
    "sigmoid functional": (torch.sigmoid, "sigmoid"),
    "sigmoid sliced": (lambda y: y.sigmoid()[:, 1:], "sigmoid"),
    "hard sigmoid": (nn.Hardsigmoid(), "sigmoid"),
    "none": (lambda y: y, None),
    "scaled": (lambda y: 3 * y, None),
    "softmax inside": (lambda y: 5 * y.softmax(1), None),
    "tanh": (torch.tanh, None),
    "log_softmax": (nn.LogSoftmax(1), None),
}


@pytest.mark.parametrize("frozen", [False, True, "forward"])
@pytest.mark.parametrize("how", OWN)
def test_an_activation_at_the_end_is_noticed(how, frozen):
    """Also where no weight requires a gradient or forward cuts the graph: probabilities are never made twice."""

    class Cut(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            with torch.no_grad():
                return self.net(x)

    make, activation = OWN[how]
    net = Wrapped(tiny(), make).requires_grad_(frozen is False)
    net = Cut(net) if frozen == "forward" else net
    assert (
        load_model(net, size=64).activation
        == ({"softmax": "identity", "sigmoid": "identity", None: "auto"}[activation])
    )
    if activation is not None and how != "one of them":
        with pytest.raises(HeadError, match=f"outputs are probabilities: pass the network without the {activation}"):
            find_head(net, X)


@pytest.mark.parametrize("how", ["functional", "sliced", "sigmoid module", "log_softmax"])
def test_probabilities_are_the_networks_own(how):
    net = Wrapped(tiny(), OWN[how][0])
    explanation = explain(load_model(net, size=64), X[0], method="grad_cam")
    (own,) = scores_of(net, X)
    torch.testing.assert_close(explanation.logits, own)
    torch.testing.assert_close(explanation.probabilities, (own.exp() if how == "log_softmax" else own).double())


def test_own_activation_by_the_graph_or_by_the_values():
    y = Y.clone().requires_grad_()
    assert own_activation(y.softmax(1)[:, :1]) == "softmax"
    assert own_activation(y.softmax(1).detach()) == "softmax", "rows of probabilities that sum to one"
    assert own_activation(y.sigmoid()) == "sigmoid"
    assert own_activation(y.sigmoid().detach()) is None, "without a graph, values from 0 to 1 may be anything"
    assert own_activation(torch.ones(2, 1)) is None, "a lone score of one is no softmax"
    assert operation(y.softmax(1).grad_fn) == "Softmax"


def test_an_activation_that_contradicts_is_refused():
    assert check_activation("auto", None, "Net") == "auto"
    assert check_activation("sigmoid", None, "Net") == "sigmoid"
    assert check_activation(None, "sigmoid", "Net") is None, "the caller says that these are no probabilities"
    assert check_activation("identity", "softmax", "Net") == "identity"
    for activation in ("softmax", "sigmoid"):
        with pytest.raises(ModelError, match="Net ends in its own softmax, .*leave out activation="):
            check_activation(activation, "softmax", "Net")
    with pytest.raises(ModelError, match="activation='relu': must be 'softmax', 'sigmoid', 'identity', or None"):
        check_activation("relu", None, "Net")


# --- probabilities ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "activation", "expected"),
    [
        ([0.0, 1.0], "auto", [1 / (1 + exp(1)), exp(1) / (1 + exp(1))]),
        ([0.0, 1.0], "sigmoid", [0.5, 1 / (1 + exp(-1))]),
        ([0.0], "auto", [0.5]),
        ([-2.0], "auto", [1 / (1 + exp(2))]),
        ([30.0], "auto", [1 / (1 + exp(-30))]),
        ([31.0], "auto", None),
        ([-58.25], "auto", None),
        ([-58.25], "sigmoid", [1 / (1 + exp(58.25))]),
        ([58.25, 0.0], "auto", [1 / (1 + exp(-58.25)), 1 / (1 + exp(58.25))]),
        ([7.0], "softmax", [1.0]),
        ([0.25, 0.5], "identity", [0.25, 0.5]),
        ([0.25, 0.5], None, None),
    ],
)
def test_probabilities_by_hand(scores, activation, expected):
    p = probabilities(torch.tensor(scores), activation)
    assert (p is None) == (resolve_activation(activation, torch.tensor(scores)) is None) == (expected is None)
    if expected is not None:
        assert p.dtype == torch.float64
        assert p.tolist() == pytest.approx(expected, rel=1e-12)


def test_in_words():
    assert in_words("tiger cat", 12.5, 0.3812) == "tiger cat, 38.1 %"
    assert in_words("age", 59.567, None) == "age, 59.57"


# --- ends of networks that give probabilities ------------------------------------------------------------------------

ENDS = {
    "clamped": lambda y: y.sigmoid().clamp(1e-6, 1 - 1e-6),
    "two heads": lambda y: torch.cat([y[:, :1].sigmoid(), y[:, 1:].sigmoid()], 1),
    "two softmaxes": lambda y: torch.cat([y[:, :2].softmax(1), y[:, 2:].softmax(1)], 1),
    "an ensemble": lambda y: (y.sigmoid() + (2 * y).sigmoid()) / 2,
    "a mean over positions": lambda y: y[:, :, None, None].sigmoid().mean((2, 3)),
    "exp of a log-softmax": lambda y: F.log_softmax(y, 1).exp(),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_probabilities_in_any_form_are_taken_as_they_are(end):
    net, x = tiny(classes=4), torch.rand(3, 64, 64)
    clf = load_model(net, size=64, output=end)
    expected = end(scores_of(net, x[None]))[0].double()
    torch.testing.assert_close(explain(clf, x, method="grad_cam").probabilities, expected)


def test_logits_that_sum_to_one_on_an_empty_picture_are_logits():
    """Without a bias before it, the last layer's own bias is what an input of zeros gives."""
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
    )
    nn.init.constant_(net[4].bias, 0.5)
    nn.init.normal_(net[4].weight, std=10)
    x = torch.rand(3, 32, 32)
    exp = explain(load_model(net, size=32), x)
    torch.testing.assert_close(exp.probabilities, scores_of(net, x[None])[0].double().softmax(0))


def test_an_activation_that_came_or_went_is_noticed():
    net, x = tiny(), torch.rand(3, 64, 64)
    clf = load_model(net, size=64)
    net.append(nn.Softmax(1))
    with pytest.raises(ModelError, match="ends in its own softmax.*Call load_model again"):
        explain(clf, x, method="grad_cam")
    clf = load_model(net, size=64)
    del net[5]
    nn.init.constant_(net[4].bias, 7.0)
    for method in ("cam", "grad_cam"):
        with pytest.raises(ModelError, match=r"scores from \d.* its activation is 'identity'.*Call load_model again"):
            explain(clf, x, method=method)


BOUNDED = {  # ends that are not recognised, but never leave the range of probabilities or of their logarithms
    "maximum over cells": lambda y: y[:, :, None].sigmoid().amax(2),
    "noisy or": lambda y: 1 - (1 - y[:, :, None].sigmoid()).prod(2),
    "class times objectness": lambda y: y.sigmoid() * y[:, :1].sigmoid(),
    "one minus": lambda y: 1 - y.sigmoid(),
    "one minus, one output": lambda y: 1 - y[:, :1].sigmoid(),
    "by hand": lambda y: 1 / (1 + torch.exp(-y)),
    "grouped classes": lambda y: y.softmax(1) @ torch.tensor([[1.0, 1, 0], [0, 0, 0], [0, 0, 1], [0, 1, 0]]),
    "logsigmoid": F.logsigmoid,
    "logsigmoid, one output": lambda y: F.logsigmoid(y[:, :1]),
    "log-softmax, sliced": lambda y: y.log_softmax(1)[:, :2],
}


@pytest.mark.parametrize("how", BOUNDED)
def test_what_may_be_probabilities_has_none_until_the_caller_says_so(how):
    net, end, x = tiny(classes=4), BOUNDED[how], torch.rand(3, 64, 64)
    logs = how.startswith("log")
    advice = r"output=lambda y: y.exp\(\) with activation='identity'" if logs else "Pass activation='identity'"
    with pytest.warns(CamWarning, match=advice) as warned:
        clf = load_model(net, size=64, output=end)
    assert len(warned) == 1
    assert warned[0].filename == __file__
    assert clf.activation is None
    assert explain(clf, x, method="grad_cam").probabilities is None
    said = (lambda y: end(y).exp()) if logs else end  # as the warning says
    clf = load_model(net, size=64, output=said, activation="identity")
    torch.testing.assert_close(
        explain(clf, x, method="grad_cam").probabilities, said(scores_of(net, x[None]))[0].double()
    )


LOGITS = {
    "linear, small": lambda: tiny(classes=1),
    "linear without a bias": lambda: nn.Sequential(*tiny()[:4], nn.Linear(4, 1, bias=False)),
    "two heads, scaled": lambda: Wrapped(tiny(), lambda y: torch.cat([y[:, :1] * 2, 1 - y[:, 1:]], 1) / 100),
    "a mean of a convolution": lambda: Wrapped(nn.Conv2d(3, 2, 8, 8), lambda y: y.mean((2, 3))),
    "ReLU": lambda: nn.Sequential(tiny(), nn.ReLU()),
    "scores below zero on any input": lambda: negative(tiny(classes=4)),
    "between 0 and 1 on noise": lambda: Wrapped(tiny(classes=1), lambda y: (y / 10).abs().sqrt()),
    "log-softmax": lambda: nn.Sequential(tiny(), nn.LogSoftmax(1)),
}


def negative(net):
    """As a multi-label network that has learned that each class is rare."""
    nn.init.constant_(net[4].bias, -5.0)
    nn.init.constant_(net[4].weight, -1.0)
    return net


@pytest.mark.parametrize(
    ("how", "frozen"),  # a frozen layer without a bias is, in the graph, a product with a constant matrix
    [(how, frozen) for how in LOGITS for frozen in (False, True) if not (frozen and "without a bias" in how)],
)
def test_logits_are_never_taken_for_probabilities(how, frozen, recwarn):
    net = LOGITS[how]().requires_grad_(not frozen)
    assert load_model(net, size=64).activation == "auto"
    assert not [w for w in recwarn if w.category is CamWarning]


def test_an_affine_function_of_a_linear_layer_has_no_bounds():
    z = nn.Linear(2, 2)(torch.zeros(1, 2)) * 0
    assert unclear(z) is None
    assert unclear(3 * z - 1) is None
    assert unclear(z.relu()) == unclear(z.detach()) == "probabilities"
    assert unclear(-z.relu() - 1) == "log-probabilities"
    assert unclear((z + 1).relu() + 1) is None, "beyond 1"


def test_extreme_inputs_are_only_for_scores_that_may_be_probabilities():
    calls = []
    ordinary, bounded = tiny(), Wrapped(tiny(), lambda y: 1 - y.sigmoid())
    ordinary.register_forward_pre_hook(lambda *_: calls.append("ordinary"))
    load_model(ordinary, size=64)
    assert calls == ["ordinary"]
    bounded.register_buffer("runs", torch.zeros(()))
    bounded.register_forward_pre_hook(lambda m, _: calls.append(m.runs.add_(1)) or None)
    with pytest.warns(CamWarning):
        load_model(bounded, size=64)
    assert len(calls) > 2
    assert bounded.runs == 0, "the passes leave no trace"
