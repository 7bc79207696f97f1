"""What the table of docs/how_it_compares.md says of the peers, seen on them."""

import inspect

import pytest
import pytorch_grad_cam
import torch
import torchcam.methods
from captum.attr import LayerGradCam
from pytorch_grad_cam import GradCAM, base_cam
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from torchcam.methods import CAM

import camlib
from camlib.methods import METHODS
from tests.test_readme import ROOT

TEXT = (ROOT / "docs" / "how_it_compares.md").read_text(encoding="utf-8")
K = 1


def network(pool: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    features = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*features, pool, nn.Flatten(), nn.Linear(8, 3)).eval()


X = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
GAP, MAX = network(nn.AdaptiveAvgPool2d(1)), network(nn.AdaptiveMaxPool2d(1))


def torchcam_map(net: nn.Module, **options: bool) -> torch.Tensor:
    """By the layers that it finds."""
    with CAM(net, input_shape=(3, 16, 16)) as extractor:
        return extractor(K, net(X), **options)[0][0]


def missed(net: nn.Module, cells: torch.Tensor) -> float:
    """By how much a map's mean and the bias miss the logit."""
    return abs((cells.mean() + net[-1].bias[K] - net(X)[0, K]).item())


def test_who_finds_the_layers():
    assert camlib.find_head(GAP, X).layer == "3"
    with CAM(GAP, input_shape=(3, 16, 16)) as extractor:
        assert extractor.target_names == ["3"]
    for explainer, layer in ((GradCAM, "target_layers"), (LayerGradCam, "layer")):
        assert inspect.signature(explainer).parameters[layer].default is inspect.Parameter.empty


def test_whose_values_are_the_logits():
    head = camlib.find_head(GAP, X)
    features, _ = head.run(GAP, X)
    ours = camlib.class_activation_maps(features, head.weight)[0, K]
    assert missed(GAP, ours) < 1e-6 and ours.min() < 0
    torch.testing.assert_close(torchcam_map(GAP, normalized=False), ours)
    stretched = torchcam_map(GAP)
    assert (stretched.min(), stretched.max()) == (0, pytest.approx(1))
    with GradCAM(GAP, [GAP[3]]) as explainer:
        clipped = explainer(X, [ClassifierOutputTarget(K)])
    assert (clipped.min(), clipped.max()) == (0, pytest.approx(1))
    torch.testing.assert_close(LayerGradCam(GAP, GAP[3]).attribute(X, target=K)[0, 0] * ours.numel(), ours)


def test_who_refuses_a_head_that_has_no_exact_map():
    with pytest.raises(camlib.HeadError, match=r"AdaptiveMaxPool2d \(4\)"):
        camlib.find_head(MAX, X)
    assert missed(MAX, torchcam_map(MAX, normalized=False)) > 0.1
    asked_for = camlib.grad_cam(MAX, X, K)[0]
    torch.testing.assert_close(LayerGradCam(MAX, MAX[3]).attribute(X, target=K)[0, 0], asked_for)
    with GradCAM(MAX, [MAX[3]]) as explainer:
        clipped = asked_for.clamp(min=0)
        torch.testing.assert_close(torch.tensor(explainer(X, [ClassifierOutputTarget(K)]))[0], clipped / clipped.max())


def test_how_many_methods_each_has():
    """Everything that makes a map, wrappers such as FinerCAM among them."""
    torch_cam = [name for name, _ in inspect.getmembers(torchcam.methods, inspect.isclass)]
    grad_cam = [
        name
        for name, one in inspect.getmembers(pytorch_grad_cam, inspect.isclass)
        if issubclass(one, base_cam.BaseCAM) or name.endswith("CAM")
    ]
    assert "FinerCAM" in torch_cam and "LeGrad" in torch_cam and "FinerCAM" in grad_cam
    ours = f"{len(METHODS)}, and your own with `camlib.register`"
    assert f"| methods | {ours} | {len(torch_cam)}, one for transformers | {len(grad_cam)}," in TEXT
