"""Grad-CAM's family: by hand on small tensors, as identities, and on one network of each of torchvision's families."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from camlib import (
    LayerError,
    ModelError,
    TargetError,
    class_activation_maps,
    explain,
    find_head,
    grad_cam,
    grad_cam_plus_plus,
    hires_cam,
    layer_cam,
    load_model,
    score_cam,
)
from camlib.forward_pass import run_forward
from camlib.layers import Grid, by_shape, find_feature_layer, readings
from camlib.methods import METHODS
from tests.networks import build

FORMULAS = {name: method.formula for name, method in METHODS.items() if method.formula}
GRADIENT = (grad_cam, hires_cam, layer_cam, grad_cam_plus_plus)


def flat_net(seed=0):
    """A network whose head flattens: no class activation map."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(6 * 64, 5)
    ).eval()


def batch(n=2, side=8, seed=1):
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


# By hand


def test_formulas_by_hand():
    """Two channels of 1×2 cells: the sums are short enough for a pencil."""
    A = torch.tensor([[[[1.0, 2.0]], [[4.0, 0.0]]]])
    G = torch.tensor([[[[3.0, 1.0]], [[-1.0, 0.5]]]])
    assert FORMULAS["grad_cam"](A, G).tolist() == [[[2 * 1 - 0.25 * 4, 2 * 2]]]
    assert FORMULAS["hires_cam"](A, G).tolist() == [[[3 * 1 - 1 * 4, 1 * 2]]]
    assert FORMULAS["layer_cam"](A, G).tolist() == [[[3.0, 2.0]]]
    # ΣA = 3 and 4. α = G² / (2G² + ΣA·G³) = 1 / (2 + ΣA·G); w = Σ α·max(G, 0)
    w = 3 / (2 + 3 * 3) + 1 / (2 + 3 * 1), 0.5 / (2 + 4 * 0.5)
    expected = torch.tensor([[[w[0] * 1 + w[1] * 4, w[0] * 2]]])
    torch.testing.assert_close(FORMULAS["grad_cam_plus_plus"](A, G), expected)


def test_gradient_is_the_linear_layers_weight():
    net, x = flat_net(), batch()
    ran = run_forward(net, x)
    torch.testing.assert_close(ran.gradient([3, 3]), net[3].weight[3].view(1, 6, 8, 8).expand(2, -1, -1, -1))


def test_gradients_of_zero_give_no_nan():
    result = FORMULAS["grad_cam_plus_plus"](torch.ones(1, 2, 2, 2), torch.zeros(1, 2, 2, 2))
    assert (result == 0).all()


def test_score_cam_by_hand():
    """Each channel masks the photo; the weights are the softmax of the masked photos' logits."""
    net, x = small_net(), batch(2, 32)
    A = run_forward(net, x).features
    expected = torch.zeros(2, 8, 8)
    for b in range(2):
        logits = []
        for channel in A[b]:
            mask = F.interpolate(channel[None, None], size=(32, 32), mode="bilinear", align_corners=False)
            mask = (mask - mask.min()) / (mask.max() - mask.min())
            logits.append(net(x[b] * mask)[0, 2].item())
        expected[b] = (torch.tensor(logits).softmax(0)[:, None, None] * A[b]).sum(0)
    torch.testing.assert_close(score_cam(net, x, 2, batch=3, progress=False), expected)


# Identities


def test_on_a_gap_network_it_is_the_cam(clf, cat):
    exp = explain(clf, cat)
    x = clf.preprocess(cat, exp.view)
    targets = [p.index for p in exp.top(5)]
    for method in (grad_cam, hires_cam):
        maps = method(clf.module, x, targets)[0]
        torch.testing.assert_close(49 * maps, exp.maps[targets], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "swin_t", "shufflenet_v2_x0_5"])
def test_on_other_gap_networks_too(name):
    net, x = build(name).eval(), batch(1, 128)
    head = find_head(net, x)
    features, _ = head.run(net, x)
    cam = class_activation_maps(features, head.weight[:3])[0]
    torch.testing.assert_close(grad_cam(net, x, [0, 1, 2])[0] * cam[0].numel(), cam, atol=1e-5, rtol=1e-4)


def test_hires_cam_sums_to_the_logit_of_a_flatten_head_and_grad_cam_does_not():
    net, x = flat_net(), batch()
    logits = net(x)[:, 2] - net[3].bias[2]
    torch.testing.assert_close(hires_cam(net, x, 2).sum((1, 2)), logits, atol=1e-5, rtol=1e-5)
    assert (grad_cam(net, x, 2).sum((1, 2)) - logits).abs().max() > 0.005


def test_the_map_belongs_to_its_photo():
    net, x = flat_net(), batch(3)
    for method in (*GRADIENT, score_cam):
        options = {"progress": False} if method is score_cam else {}
        together = method(net, x, 1, **options)
        alone = torch.cat([method(net, row[None], 1, **options) for row in x])
        torch.testing.assert_close(together, alone)


# Options


@pytest.mark.parametrize("method", GRADIENT)
def test_several_targets_sign_and_relu(method):
    net, x = flat_net(), batch()
    both = method(net, x, [1, 4])
    assert both.shape == (2, 2, 8, 8)
    torch.testing.assert_close(both[:, 1], method(net, x, 4))
    assert torch.equal(method(net, x, 4, relu=True), method(net, x, 4).clamp(min=0))
    if method in (grad_cam, hires_cam):
        assert both.min() < 0


def test_layer_by_name_or_module():
    net, x = flat_net(), batch()
    assert torch.equal(grad_cam(net, x, 0, layer="1"), grad_cam(net, x, 0))
    assert torch.equal(grad_cam(net, x, 0, layer=net[0]), grad_cam(net, x, 0, layer="0"))
    assert not torch.equal(grad_cam(net, x, 0, layer="0"), grad_cam(net, x, 0))  # before the ReLU, which is in place


# The caller's state


def test_nothing_is_left_behind():
    net, x = flat_net().train(), batch()
    net[1].eval()
    net[0].weight.requires_grad_(False)
    net[3].weight.grad = torch.ones_like(net[3].weight)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    grad_cam(net, x, 1)
    score_cam(net, x, 1, progress=False)
    assert [m.training for m in net.modules()] == [True, True, False, True, True]
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in net.modules())
    assert (net[3].weight.grad == 1).all()
    assert net[0].weight.grad is None
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())
    assert x.grad is None and not x.requires_grad
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_whatever_the_callers_gradient_mode(mode):
    net, x = flat_net(), batch()
    expected = grad_cam(net, x, 1)
    with mode():
        enabled = torch.is_grad_enabled()
        assert torch.equal(grad_cam(net, x.clone(), 1), expected)
        assert torch.is_grad_enabled() == enabled
    for p in net.parameters():
        p.requires_grad_(False)
    assert torch.equal(grad_cam(net, x, 1), expected)


def test_only_what_follows_the_layer_is_recorded():
    """The graph begins at the layer, so that a map costs about as much as the forward pass."""
    net, x = flat_net(), batch()
    ran = run_forward(net, x, "1")
    assert ran.value.is_leaf
    with pytest.raises(RuntimeError):
        torch.autograd.grad(ran.graph.sum(), net[0].weight)


# The layer


FAMILIES = {  # torchvision's families of classifiers, one model of each: the layer and its grid for 224 pixels
    "alexnet": ("features", 6),
    "convnext_tiny": ("features", 7),
    "densenet121": ("features", 7),
    "efficientnet_b0": ("features", 7),
    "efficientnet_v2_s": ("features", 7),
    "googlenet": ("inception5b", 7),
    "inception_v3": ("Mixed_7c", 5),
    "maxvit_t": ("blocks.3", 7),
    "mnasnet0_5": ("layers", 7),
    "mobilenet_v2": ("features", 7),
    "mobilenet_v3_small": ("features", 7),
    "regnet_y_400mf": ("trunk_output", 7),
    "resnet18": ("layer4", 7),
    "resnext50_32x4d": ("layer4", 7),
    "shufflenet_v2_x0_5": ("conv5", 7),
    "squeezenet1_1": ("classifier.2", 13),
    "swin_t": ("permute", 7),
    "swin_v2_t": ("permute", 7),
    "vgg11": ("features", 7),
    "vit_b_16": ("encoder.layers.encoder_layer_11.ln_1", 14),
    "wide_resnet50_2": ("layer4", 7),
}


QUICK = ("alexnet", "googlenet", "mnasnet0_5", "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "swin_t")
SLOW = [pytest.param(name, marks=pytest.mark.long) for name in FAMILIES if name not in QUICK]


@pytest.mark.parametrize("name", [*QUICK, *SLOW])
def test_every_family_of_torchvision(name):
    """explain finds the layer and works with every gradient method; the maps differ by class."""
    clf = load_model(build(name).eval())
    layer, side = FAMILIES[name]
    photo = (torch.rand(224, 224, 3, generator=torch.Generator().manual_seed(0)) * 255).byte().numpy()
    for method in FORMULAS:
        exp = explain(clf, photo, method=method, layer=None if method == "grad_cam" else layer)
        maps = torch.stack([exp.map(3), exp.map(7)])
        assert maps.shape == (2, side, side)
        assert torch.isfinite(maps).all()
        assert maps[0].std() > 0
        assert not torch.allclose(maps[0], maps[1], rtol=1e-3, atol=0)
    assert find_feature_layer(clf.module, clf.preprocess(photo, clf.view(photo))) == layer


def test_every_family_is_listed():
    from torchvision import models

    modules = {models.get_model_builder(name).__module__ for name in models.list_models(module=models)}
    assert modules == {models.get_model_builder(name).__module__ for name in FAMILIES}


def test_no_layer():
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
    with pytest.raises(LayerError, match="No layer of Sequential gives a grid of cells"):
        grad_cam(net, batch(), 0)


def test_patch_tokens_that_reach_nothing():
    """After a vision transformer's last attention the logits depend on the class token alone."""
    net = build("vit_b_16").eval()
    with pytest.raises(LayerError, match="follow the photo's positions and affect the scores"):
        grad_cam(net, batch(1, 224), 0, layer="encoder.ln")


@pytest.mark.parametrize(
    ("shape", "size", "grid", "cells"),
    [
        ((1, 5, 7, 10), (224, 320), Grid("nchw"), (7, 10)),
        ((1, 7, 10, 5), (224, 320), Grid("nhwc"), (7, 10)),
        ((1, 96, 8, 7), (225, 224), Grid("nchw"), (8, 7)),
        ((1, 71, 5), (224, 320), Grid("nlc", 1), (7, 10)),  # a class token and 7 × 10
        ((1, 198, 5), (224, 224), Grid("nlc", 2), (14, 14)),  # two extra tokens
        ((1, 49, 5), (224, 224), Grid("nlc"), (7, 7)),
        ((1, 5, 49), (224, 224), Grid("ncl"), (7, 7)),
        ((1, 5, 1, 2), (32, 64), Grid("nchw"), (1, 2)),
    ],
)
def test_a_grid_is_among_the_readings_of_its_shape(shape, size, grid, cells):
    x = torch.zeros(1, 3, *size)
    near = [g for g in readings(torch.zeros(shape), x) if (g.layout, g.extra) == (grid.layout, grid.extra)]
    assert cells in [tuple(g.read(torch.zeros(shape), x).shape[2:]) for g in near]


def test_tokens_keep_their_places():
    tokens = torch.cat([torch.full((1, 1, 1), -1.0), torch.arange(12.0).reshape(1, 12, 1)], 1)
    cells = Grid("nlc", extra=1).read(tokens, torch.zeros(1, 3, 96, 128))
    assert cells[0, 0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_tokens_of_another_input_size():
    tokens = torch.zeros(1, 2 * 3 * 4 + 1, 5)
    assert Grid("nlc", extra=1).read(tokens, torch.zeros(1, 3, 96, 64)).shape == (1, 5, 6, 4)


@pytest.mark.parametrize("shape", [(1, 12, 197, 64), (1, 5), (1, 5, 7, 70), (1, 197, 64), (2, 5, 7, 7), (1, 7, 7, 7)])
def test_shapes_that_leave_a_doubt(shape):
    """These are tested by how their cells respond; see test_layers."""
    assert by_shape(nn.ReLU(), torch.zeros(shape), torch.zeros(1, 3, 224, 224)) is None


# Errors


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"target": 5}, TargetError, "No class 5: this network has 5 classes, 0 to 4"),
        ({"target": "cat"}, TargetError, "'cat' is a label"),
        ({"target": [0, -1]}, TargetError, "No class -1"),
        ({"target": True}, TargetError, "not True"),
        ({"target": []}, TargetError, "at least one class"),
        ({"target": None}, TargetError, "not None"),
        ({"layer": "conv1"}, LayerError, "has no layer 'conv1'"),
        ({"layer": "3"}, LayerError, "not a grid of cells"),
        ({"layer": nn.ReLU()}, LayerError, "not part of"),
        ({"x": torch.zeros(3, 8, 8)}, ModelError, r"float tensor \(B, C, H, W\)"),
        ({"x": torch.zeros(1, 3, 8, 8, dtype=torch.uint8)}, ModelError, "uint8"),
        ({"x": torch.zeros(1, 3, 9, 9)}, ModelError, "fails on an input"),
        ({"x": "cat.jpg"}, ModelError, "got str"),
        ({"module": "resnet18"}, ModelError, "not str"),
    ],
)
def test_errors_say_what_to_do(change, error, says):
    options = {"module": flat_net(), "x": batch(), "target": 0} | change
    for method in GRADIENT:
        with pytest.raises(error, match=says):
            method(**options)


def test_layer_after_which_nothing_is_differentiable():
    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 1), nn.Linear(4, 2)

        def forward(self, x):
            return self.fc((self.conv(x) > 0).float().mean((2, 3)).detach()).detach()

    with pytest.raises(LayerError, match="not differentiable|do not depend"):
        grad_cam(Cut(), batch(), 0, layer="conv")


def test_network_made_in_inference_mode():
    with torch.inference_mode():
        net = flat_net()
    with pytest.raises(ModelError, match="inference_mode"):
        grad_cam(net, batch(), 0)


# Through explain


def test_explain_by_every_method(clf, cat):
    plain = explain(clf, cat)
    for method in FORMULAS:
        exp = explain(clf, cat, method=method)
        assert exp.top(2)[0].label == "tiger cat"
        torch.testing.assert_close(exp.logits, plain.logits, atol=1e-5, rtol=0)
        assert exp.map("tiger cat").shape == (7, 7)
        assert exp.heatmap("tiger cat").shape == cat.shape[:2]
        assert exp.overlay("tiger cat").shape == cat.shape
        assert exp.unit in exp.plot(["tiger cat", "lynx"]).axes[-1].get_ylabel()
        with pytest.raises(ValueError, match=method):
            exp.residual()


def test_explain_by_score_cam():
    clf = load_model(small_net(), size=32)
    photo = (torch.rand(40, 40, 3, generator=torch.Generator().manual_seed(0)) * 255).byte().numpy()
    exp = explain(clf, photo, method="score_cam")
    expected = score_cam(clf.module, clf.preprocess(photo, exp.view), 1, progress=False)[0]
    torch.testing.assert_close(exp.map(1), expected)


def small_net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, 3)
    ).eval()


def test_contrast_of_gradient_methods(clf, cat):
    exact = explain(clf, cat).contrast("tiger cat", "lynx")
    for method in ("grad_cam", "hires_cam"):
        gradient = explain(clf, cat, method=method).contrast("tiger cat", "lynx")
        torch.testing.assert_close(49 * gradient, exact, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="not additive"):
        explain(clf, cat, method="layer_cam").contrast("tiger cat", "lynx")


def test_several_sizes(clf, cat):
    exp = explain(clf, cat, method="grad_cam", sizes=(224, 320))
    assert exp.map("tiger cat").shape == (10, 10)
    single = [explain(clf, cat, method="grad_cam", sizes=s).heatmap("tiger cat") for s in (224, 320)]
    torch.testing.assert_close(exp.heatmap("tiger cat"), (single[0] + single[1]) / 2, equal_nan=True)


def test_a_named_layer(clf, cat):
    exp = explain(clf, cat, method="layer_cam", layer="blocks.2")
    assert exp.map("tiger cat").shape == (28, 28)
    with pytest.raises(ValueError, match="layer= is for the other methods"):
        explain(clf, cat, layer="blocks.2")
