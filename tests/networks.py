"""Networks that several test files share, most of them so small that a test computes their numbers by itself."""

import torch
from torch import Tensor, nn
from torchvision import models


def build(name: str, **options) -> nn.Module:
    """A torchvision network with random weights, see `randomise`."""
    torch.manual_seed(0)
    return randomise(models.get_model(name, weights=None, **options))


def randomise(net: nn.Module) -> nn.Module:
    """No biases of 0, no normalisations of 1 and no head of zeros, so that a test notices if one is forgotten."""
    for path, p in net.named_parameters():
        if p.ndim == 1:
            nn.init.normal_(p, 1.0 if "weight" in path else 0.0, 0.2)
        elif not p.any():
            nn.init.normal_(p, std=0.1)
    return net


def count_hooks(module: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())


def tiny(channels: int = 3, classes: int = 3, seed: int = 0) -> nn.Sequential:
    """Convolution "0" of stride 4, ReLU "1", global average pooling, linear layer "4". In evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        last = nn.Linear(4, classes)
        return nn.Sequential(
            nn.Conv2d(channels, 4, 3, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), last
        ).eval()


def flat(classes: int = 3, seed: int = 0) -> nn.Sequential:
    """As `tiny`, for inputs of 64 pixels, but flattened in place of pooled: no exact map. The last layer is "5"."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        hidden = [nn.Linear(4 * 16 * 16, 8), nn.ReLU(), nn.Linear(8, classes)]
        return nn.Sequential(nn.Conv2d(3, 4, 3, 4, 1), nn.ReLU(), nn.Flatten(), *hidden).eval()


class Wrapped(nn.Module):
    """A network whose output is made into something else."""

    def __init__(self, net: nn.Module, make):
        super().__init__()
        self.net, self.make = net, make

    def forward(self, x: Tensor):
        return self.make(self.net(x))


def scores_of(net: nn.Module, x: Tensor) -> Tensor:
    """(B, K): what the network itself says."""
    with torch.no_grad():
        return net(x)


def gradients_of(net: nn.Module, x: Tensor, layer: str, score) -> tuple[Tensor, Tensor]:
    """A and G (B, C, h, w): a layer's output and the gradient of a score, by autograd and a hook of our own."""
    outputs = []
    handle = net.get_submodule(layer).register_forward_hook(lambda _m, _args, output: outputs.append(output))
    value = score(net(x.detach().requires_grad_()))
    handle.remove()
    (gradient,) = torch.autograd.grad(value, outputs[-1])
    return outputs[-1].detach(), gradient


def assert_same(map: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    """Maps agree within a share of the largest value: those of small gradients are not all alike."""
    assert map.shape == expected.shape
    largest = expected.abs().max()
    assert largest > 0, "a map of zeros proves nothing"
    assert (map - expected).abs().max() <= tolerance * largest


def grad_cam_of(tail, A: Tensor, k) -> Tensor:
    """Grad-CAM (B, h, w) by autograd on a network that is split at A (B, C, h, w): tail(A) are the scores (B, K)."""
    A = A.detach().clone().requires_grad_()
    scores = tail(A)
    (G,) = torch.autograd.grad(scores[torch.arange(len(A)), k].sum(), A)
    return (G.mean((2, 3), keepdim=True) * A).sum(1).detach()


class Fickle(nn.Module):
    """Pools the mean of a photo of high contrast, and the maximum of a pale one, each for itself."""

    def __init__(self):
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 8, 3, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        f = self.conv(x)
        return self.last(torch.where((x.std((1, 2, 3)) > 0.5)[:, None], f.mean((2, 3)), f.amax((2, 3))))
