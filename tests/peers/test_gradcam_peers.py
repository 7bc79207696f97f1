"""Grad-CAM's family against captum, grad-cam and torch-cam, on a network with GAP and on one without.

Where a peer computes something else, the test says what, and shows it.
"""

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM, ScoreCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from torchcam import methods as torchcam

from camlib import grad_cam, grad_cam_plus_plus, hires_cam, layer_cam, score_cam
from camlib.forward_pass import run_forward
from camlib.methods import METHODS
from tests.test_heads import build

K = 3


def fully_connected():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(12 * 144, 32), nn.ReLU(), nn.Linear(32, 6),
    ).eval()  # fmt: skip


def networks():
    """name -> network, input, layer."""
    gap = build("resnet18").eval()
    x = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(3))
    return {"resnet18": (gap, x, "layer4"), "fully connected": (fully_connected(), x[..., ::4, ::4], "4")}


@pytest.fixture(params=["resnet18", "fully connected"])
def case(request):
    return networks()[request.param]


def off(ours, theirs):
    """The largest difference of two maps, as a share of the largest value of ours; NaN where one has NaN."""
    theirs = torch.as_tensor(theirs)
    assert ours.shape == theirs.shape
    return float((ours - theirs).detach().abs().max() / ours.detach().abs().max())


def test_captum_grad_cam(case):
    net, x, layer = case
    theirs = LayerGradCam(net, net.get_submodule(layer)).attribute(x, target=K)  # signed, as ours
    assert off(grad_cam(net, x, K, layer), theirs[:, 0].detach()) < 1e-5


def package_image(method, net, x, layer, A, G):
    """grad-cam's map before it is clipped and stretched to 0..1."""
    with method(model=net, target_layers=[net.get_submodule(layer)]) as cam:
        return cam.get_cam_image(
            x, net.get_submodule(layer), [ClassifierOutputTarget(K)] * 2, A.numpy(), G.numpy(), False
        )


@pytest.mark.parametrize(("ours", "theirs"), [(grad_cam, GradCAM), (hires_cam, HiResCAM), (layer_cam, LayerCAM)])
def test_grad_cam_package(case, ours, theirs):
    net, x, layer = case
    ran = run_forward(net, x, layer)
    package = package_image(theirs, net, x, layer, ran.features, ran.gradient([K] * len(x)))
    assert off(ours(net, x, K, layer), package) < 1e-5


def test_grad_cam_package_plus_plus(case):
    """The same for large gradients. For small ones, as networks have them, grad-cam's 1e-6 in the denominator, beside
    squares of gradients, takes over and the weights are no longer those of the paper.
    """
    net, x, layer = case
    ran = run_forward(net, x, layer)
    A, G = ran.features, ran.gradient([K] * len(x))
    large = 1e3 * G
    formula = METHODS["grad_cam_plus_plus"].formula
    assert off(formula(A, large), package_image(GradCAMPlusPlus, net, x, layer, A, large)) < 1e-5
    small = 1e-3 * G  # about as large as where 1280 channels of 7 × 7 cells share a logit
    ours, theirs = formula(A, small), package_image(GradCAMPlusPlus, net, x, layer, A, small)
    assert np.abs(theirs).max() < 0.5 * float(ours.max())


def raw(extractor, net, x):
    """torch-cam's map of class K, not stretched; it drops what is negative."""
    with extractor:
        (maps,) = extractor(K, net(x.clone().requires_grad_()), normalized=False)
    return maps.detach()


@pytest.mark.parametrize(("ours", "theirs"), [(grad_cam, torchcam.GradCAM), (layer_cam, torchcam.LayerCAM)])
def test_torch_cam(case, ours, theirs):
    net, x, layer = case
    assert off(ours(net, x, K, layer, relu=True), raw(theirs(net, layer), net, x)) < 1e-5


def test_torch_cam_grad_cam_plus_plus(case):
    """torch-cam 0.5 divides in place what indexing by a mask has copied, so that its α stays G²: no Grad-CAM++.

    Equation 10 of the paper (arXiv 1710.11063) has α = G² / (2 G² + ΣA G³).
    """
    net, x, layer = case
    theirs = raw(torchcam.GradCAMpp(net, layer), net, x)
    ran = run_forward(net, x, layer)
    A, G = ran.features, ran.gradient([K] * len(x))
    undivided = (G**2 * G.clamp(min=0)).sum((2, 3), keepdim=True)
    assert off((undivided * A).sum(1).clamp(min=0), theirs) < 1e-5
    assert theirs.max() < 0.1 * grad_cam_plus_plus(net, x, K, layer).max()


def test_score_cam():
    """Both peers agree where nothing is enlarged: a layer of the input's size. Elsewhere torch-cam stretches a mask to
    0..1 before it enlarges it, where the paper's equation 5 has it after; grad-cam enlarges with align_corners=True.
    """
    net, x, _ = networks()["fully connected"]
    layer = "1"
    ours = score_cam(net, x, K, layer, progress=False)
    assert ours.shape[1:] == x.shape[2:]
    assert off(ours.clamp(min=0), raw(torchcam.ScoreCAM(net, layer), net, x)) < 1e-5
    A = run_forward(net, x, layer).features
    with ScoreCAM(model=net, target_layers=[net.get_submodule(layer)]) as cam:
        weights = cam.get_cam_weights(x, None, [ClassifierOutputTarget(K)] * 2, A.numpy(), None)
    assert off(ours, torch.einsum("bc,bchw->bhw", torch.as_tensor(np.asarray(weights)), A)) < 1e-5
