"""Held gates, operation by operation: the recorded scores are the network's own, and the affine network is exact."""

import gc
import warnings
import weakref
from dataclasses import replace

import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.nn import functional as F

from camlib.errors import LayerError, ModelError
from camlib.forward_pass import ForwardPass, run_forward
from camlib.frozen import frozen_map, replayed

C, SIDE = 6, 4


class Net(nn.Module):
    """A convolution "conv"; body, a function of the feature map and of the modules in parts; a linear layer "last"."""

    def __init__(self, body, /, dtype=torch.float64, seed=0, **parts):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.conv = nn.Conv2d(3, C, 3, padding=1)
            self.parts = nn.ModuleDict({name: make() for name, make in parts.items()})
            for path, p in self.parts.named_parameters():
                if p.ndim == 1:
                    nn.init.normal_(p, 1.0 if "weight" in path else 0.0, 0.2)
            self.body = body
            self.to(dtype).eval()
            with torch.no_grad():
                size = self.before_last(photo(dtype=dtype)).shape[1]
            self.last = nn.Linear(size, 3).to(dtype)

    def before_last(self, x: Tensor) -> Tensor:
        return self.body(self.conv(x), **self.parts).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.before_last(x))


def photo(n=1, dtype=torch.float64, seed=1):
    return torch.randn(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def miss(ran: ForwardPass) -> float:
    """By how much mean(map) + rest misses the logits, relative to the terms of the sum. Asserts that maps are not 0."""
    worst = 0.0
    for k in range(ran.graph.shape[1]):
        A, G = ran.cells(ran.value), ran.cells(ran.raw_gradient([k] * len(ran.x)))
        assert float((A * G).abs().sum()) > 0, "a map of zeros proves nothing"
        off = (A * G).sum((1, 2, 3)) + ran.rest[:, k] - ran.graph.detach()[:, k]
        terms = (A * G).abs().sum((1, 2, 3)) + ran.rest[:, k].abs()
        worst = max(worst, float((off.abs() / terms).max()))
    return worst


def own(net: nn.Module, x: Tensor) -> Tensor:
    """The network's own scores. Not without gradients: there, PyTorch's transformer layers take a shortcut."""
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        return net(x).detach()


def assert_held(net: nn.Module, x: Tensor | None = None, layer="conv", tolerance=1e-10, ulps=0) -> ForwardPass:
    """The recorded pass, after the checks that hold for every network.

    ulps: how far the scores may be from the network's own. PyTorch chooses another order of summation for some products
    if a factor requires no gradient, just as it does inside `torch.no_grad()`.
    """
    x = photo(2) if x is None else x
    ran = run_forward(net, x, layer, hold=True)
    off = (ran.graph.detach() - own(net, x)).abs().max() / own(net, x).abs().max()
    assert off <= ulps * torch.finfo(x.dtype).eps, "the scores must be the network's own"
    assert ran.rest.shape == ran.graph.shape and not ran.rest.requires_grad
    assert miss(ran) <= tolerance
    frozen_map(ran, [0] * len(x))  # raises an error if its own check does not hold
    return ran


# --- pointwise -------------------------------------------------------------------------------------------------------


def aliased(x):
    y = x * 1
    z = y.relu_()
    return y + 2 * z  # both names are of the same tensor


POINTWISE = {
    "relu": F.relu,
    "torch.relu": torch.relu,
    "Tensor.relu": lambda x: x.relu(),
    "relu_": aliased,
    "relu inplace, input used again": lambda x: F.relu(x, inplace=True) + x,
    "relu_ of a view": lambda x: (x[:, :3].relu_(), x)[1],
    "relu_ of a view of a view": lambda x: (x.flatten(2)[:, 1:4, 2:9].relu_(), x)[1],
    "gelu": F.gelu,
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "silu inplace": lambda x: F.silu(x * 1, inplace=True),
    "mish": F.mish,
    "mish inplace": lambda x: F.mish(x * 1, inplace=True),
    "hardswish": F.hardswish,
    "hardswish inplace": lambda x: F.hardswish(4 * x, inplace=True),
    "elu": F.elu,
    "elu inplace": lambda x: F.elu(x * 1, alpha=0.7, inplace=True),
    "celu": lambda x: F.celu(x, 0.5),
    "selu": F.selu,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "leaky_relu inplace": lambda x: F.leaky_relu(x * 1, 0.2, inplace=True),
    "rrelu": F.rrelu,
    "threshold": lambda x: F.threshold(x, 0.1, -0.3),
    "softplus": lambda x: F.softplus(x, 2),
    "relu6": lambda x: F.relu6(9 * x),
    "hardtanh": lambda x: F.hardtanh(x, -0.2, 0.3),
    "hardtanh above 0": lambda x: F.hardtanh(x, 0.1, 0.3),
    "hardtanh above 0, at 0": lambda x: F.hardtanh(x.relu(), 0.1, 0.3),
    "expit": torch.special.expit,
    "tanh": torch.tanh,
    "F.tanh": F.tanh,
    "sigmoid": torch.sigmoid,
    "F.sigmoid": F.sigmoid,
    "sigmoid_": lambda x: (x * 1).sigmoid_(),
    "hardsigmoid": lambda x: F.hardsigmoid(4 * x),
    "logsigmoid": F.logsigmoid,
    "softsign": F.softsign,
    "tanhshrink": F.tanhshrink,
    "softshrink": lambda x: F.softshrink(x, 0.1),
    "hardshrink": lambda x: F.hardshrink(x, 0.2),
    "clamp": lambda x: x.clamp(-0.1, 0.3),
    "clamp min": lambda x: x.clamp(min=0.2),
    "clamp_ min": lambda x: (x * 1).clamp_(min=0.2),
    "clamp max": lambda x: torch.clamp(x, max=-0.1),
    "clamp_min": lambda x: torch.clamp_min(x, 0.1),
    "clip": lambda x: x.clip(0.1, 0.4),
    "clamp per channel": lambda x: torch.clamp(x, torch.linspace(-0.2, 0.3, C).to(x)[:, None, None]),
    "clamp max per channel": lambda x: x.relu().clamp(max=torch.linspace(-0.1, 0.3, C).to(x)[:, None, None]),
    "pow per channel": lambda x: x.abs() ** torch.linspace(0, 3, C).to(x)[:, None, None],
    "clip keywords": lambda x: torch.clip(input=x, min=0.1, max=0.4),
    "abs": torch.abs,
    "abs()": abs,
    "square": torch.square,
    "**2": lambda x: x**2,
    "pow 3": lambda x: x.pow(3),
    "pow_": lambda x: (x * 1).pow_(2),
    "sqrt": lambda x: x.abs().sqrt(),
    "**0.5": lambda x: x.abs() ** 0.5,
    "rsqrt": lambda x: x * (x.square().mean((1, 2, 3), keepdim=True) + 0.1).rsqrt(),
    "exp": torch.exp,
    "exp2": torch.exp2,
    "expm1": torch.expm1,
    "log1p": lambda x: x.abs().log1p(),
    "log": lambda x: (x.abs() + 2).log() + x,
    "sin": torch.sin,
    "cos": torch.cos,
    "erf": torch.erf,
    "atan": torch.atan,
    "functional, input by keyword": lambda x: F.gelu(input=x),
    "relu of exact zeros": lambda x: F.sigmoid(F.relu(x)) + F.silu(F.relu(x)),
    "hswish by hand": lambda x: x * F.relu6(3 * x + 3) / 6,
    "swish by hand": lambda x: x * torch.sigmoid(1.7 * x),
    "gelu by hand": lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5)),
    "quick gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "squared relu": lambda x: F.relu(x) ** 2,
    "star relu": lambda x: 0.9 * F.relu(x) ** 2 - 0.4,
}
MODULES = {
    name: getattr(nn, name)
    for name in [
        "ReLU",
        "GELU",
        "SiLU",
        "Mish",
        "Hardswish",
        "ELU",
        "CELU",
        "SELU",
        "LeakyReLU",
        "PReLU",
        "Softplus",
        "ReLU6",
        "Hardtanh",
        "Tanh",
        "Sigmoid",
        "Hardsigmoid",
        "LogSigmoid",
        "Softsign",
        "Tanhshrink",
        "Softshrink",
        "Hardshrink",
        "RReLU",
    ]
}
MODULES |= {
    f"{name} inplace": lambda make=MODULES[name]: make(inplace=True) for name in ("ReLU", "SiLU", "Mish", "ELU")
}
MODULES |= {
    "PReLU per channel": lambda: nn.PReLU(C),
    "BatchNorm": lambda: nn.BatchNorm2d(C),
    "BatchNorm as a module without affine": lambda: nn.BatchNorm2d(C, affine=False),
    "LayerNorm of everything": lambda: nn.LayerNorm([C, SIDE, SIDE]),
    "LayerNorm without affine": lambda: nn.LayerNorm([SIDE, SIDE], elementwise_affine=False),
    "LayerNorm without bias": lambda: nn.LayerNorm([SIDE, SIDE], bias=False),
    "GroupNorm": lambda: nn.GroupNorm(3, C),
    "GroupNorm without affine": lambda: nn.GroupNorm(2, C, affine=False),
    "RMSNorm": lambda: nn.RMSNorm([SIDE, SIDE]),
    "RMSNorm with eps": lambda: nn.RMSNorm(SIDE, eps=0.1, elementwise_affine=False),
    "InstanceNorm": lambda: nn.InstanceNorm2d(C),
    "InstanceNorm affine": lambda: nn.InstanceNorm2d(C, affine=True),
    "InstanceNorm with running statistics": lambda: nn.InstanceNorm2d(C, affine=True, track_running_stats=True),
    "LocalResponseNorm": lambda: nn.LocalResponseNorm(3, alpha=0.5),
    "LPPool": lambda: nn.LPPool2d(2, 2),
    "MaxPool": lambda: nn.MaxPool2d(3, 2, 1),
    "AvgPool": lambda: nn.AvgPool2d(2),
    "Upsample": lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
    "Dropout": nn.Dropout,
    "PixelShuffle": lambda: nn.Sequential(nn.Conv2d(C, 8, 1), nn.PixelShuffle(2), nn.GELU()),
}


def last_axis(f):
    """Apply f to tokens (B, h · w, C)."""
    return lambda x, **parts: f(x.flatten(2).transpose(1, 2), **parts)


def rms(t):
    return t / (t.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()


NORMS = {
    "softmax over cells": lambda x: x * x.flatten(2).softmax(-1).view_as(x),
    "softmax of values": lambda x: x.softmax(1) + x,
    "log_softmax": lambda x: x.log_softmax(1),
    "F.log_softmax": lambda x: F.log_softmax(x, dim=2),
    "softmin": lambda x: x * F.softmin(x, dim=1),
    "layer_norm": last_axis(lambda t: F.layer_norm(t, (C,))),
    "layer_norm keywords": last_axis(
        lambda t: F.layer_norm(t, normalized_shape=(C,), weight=torch.full((C,), 2.0).to(t), eps=0.1)
    ),
    "torch.layer_norm": last_axis(lambda t: torch.layer_norm(t, (C,), eps=0.1)),
    "group_norm": lambda x: F.group_norm(x, 2, eps=0.1),
    "torch.layer_norm keywords": last_axis(lambda t: torch.layer_norm(t, normalized_shape=(C,), eps=0.1)),
    "torch.group_norm keywords": lambda x: torch.group_norm(x, num_groups=2, eps=0.1),
    "torch.rms_norm keywords": last_axis(lambda t: torch.rms_norm(t, normalized_shape=(C,), eps=0.1)),
    "torch.instance_norm keywords": lambda x: torch.instance_norm(
        x, None, None, None, None, use_input_stats=True, momentum=0.1, eps=0.1, cudnn_enabled=False
    ),
    "rms_norm": last_axis(lambda t: F.rms_norm(t, (C,))),
    "instance_norm": F.instance_norm,
    "normalize": F.normalize,
    "normalize tokens": last_axis(lambda t: F.normalize(t, dim=-1)),
    "normalize p=1": lambda x: F.normalize(x, p=1, dim=2),
    "local_response_norm": lambda x: F.local_response_norm(x, 3, alpha=0.3),
    "by hand: rms": last_axis(rms),
    "by hand: layer norm": last_axis(lambda t: (t - t.mean(-1, keepdim=True)) / (t.std(-1, keepdim=True) + 1e-6)),
    "by hand: variance": last_axis(
        lambda t: (t - t.mean(-1, keepdim=True)) * (t.var(-1, keepdim=True, unbiased=False) + 1e-5).rsqrt()
    ),
    "by hand: pow(2)": lambda x: (x - x.mean(1, True)) / torch.sqrt((x - x.mean(1, True)).pow(2).mean(1, True) + 1e-6),
    "by hand: var_mean": last_axis(
        lambda t: (t - torch.var_mean(t, -1, keepdim=True)[1]) / (torch.var_mean(t, -1, keepdim=True)[0] + 1).sqrt()
    ),
    "by hand: std_mean": last_axis(
        lambda t: (t - torch.std_mean(t, -1, keepdim=True)[1]) / (torch.std_mean(t, -1, keepdim=True)[0] + 1)
    ),
    "by hand: vector norm": lambda x: x / torch.linalg.vector_norm(x, dim=1, keepdim=True),
    "by hand: norm": lambda x: x / x.norm(p=2, dim=1, keepdim=True),
    "global response norm": lambda x: (
        x + x * (g := x.norm(dim=(2, 3), keepdim=True)) / (g.mean(1, keepdim=True) + 1e-6)
    ),
    "signed square root": lambda x: x.sign() * x.abs().sqrt(),
    "divisive": lambda x: x / (1 + x.abs().mean((2, 3), keepdim=True)),
    "div_": lambda x: (x * 1).div_(1 + x.abs().mean()),
    "reciprocal": lambda x: x * (1 + x.abs().mean((2, 3), keepdim=True)).reciprocal(),
    "1 / x": lambda x: x * (1 / (1 + x.abs().mean((2, 3), keepdim=True))),
    "min-max": lambda x: (x - x.amin((2, 3), True)) / (x.amax((2, 3), True) - x.amin((2, 3), True)),
    "standard deviation as a channel": lambda x: torch.cat([x, x.std(1, keepdim=True)], 1),
}
POOLING = {
    "max_pool1d": lambda x: F.max_pool1d(x.flatten(2), 3),
    "max_pool2d": lambda x: F.max_pool2d(x, 2),
    "max_pool2d padded": lambda x: F.max_pool2d(x, 3, 2, 1),
    "max_pool2d with indices": lambda x: F.max_pool2d(x, 2, return_indices=True)[0],
    "max_pool2d keywords": lambda x: F.max_pool2d(input=x, kernel_size=2, ceil_mode=True),
    "max_pool3d": lambda x: F.max_pool3d(x, 2),
    "max_unpool2d": lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2),
    "adaptive_max_pool1d": lambda x: F.adaptive_max_pool1d(x.flatten(2), 3),
    "adaptive_max_pool2d": lambda x: F.adaptive_max_pool2d(x, 1),
    "adaptive_max_pool3d": lambda x: F.adaptive_max_pool3d(x[:, None], 2),
    "fractional_max_pool2d": lambda x: F.fractional_max_pool2d(
        x, 2, output_size=2, _random_samples=torch.full((len(x), C, 2), 0.3).to(x)
    ),
    "amax": lambda x: x.amax((2, 3)),
    "amax negative": lambda x: -(-x).amin((2, 3)),
    "max(dim)": lambda x: x.flatten(2).max(2).values,
    "max(dim)[0]": lambda x: x.flatten(2).max(dim=2)[0],
    "torch.max(dim)": lambda x: torch.max(x.flatten(2), 2)[0],
    "min(dim)": lambda x: x.flatten(2).min(-1).values,
    "max of everything": lambda x: torch.stack([row.max() for row in x])[:, None],
    "topk": lambda x: x.flatten(2).topk(3, -1).values.mean(-1),
    "topk, mask by indices": lambda x: x.flatten(2).gather(2, x.flatten(2).topk(3, -1).indices),
    "sort": lambda x: x.flatten(2).sort(-1, descending=True)[0][..., :5],
    "sort by argsort": lambda x: x.flatten(2).gather(2, x.flatten(2).argsort(-1)),
    "kthvalue": lambda x: x.flatten(2).kthvalue(4, -1).values,
    "median": lambda x: x.flatten(2).median(-1).values,
    "cummax": lambda x: x.cummax(2).values,
    "maximum": lambda x: torch.maximum(x[:, :3], 2 * x[:, 3:]),
    "torch.max of two": lambda x: torch.max(x[:, :3], x[:, 3:]),
    "max with number": lambda x: torch.maximum(x, torch.tensor(0.1).to(x)),
    "minimum": lambda x: torch.minimum(x[:, :3], x[:, 3:]),
    "logsumexp": lambda x: x.logsumexp((2, 3)),
    "GeM": lambda x: F.avg_pool2d(x.clamp(min=1e-6).pow(3), SIDE).pow(1 / 3),
    "lp_pool": lambda x: F.lp_pool2d(x, 2, 2),
    "log mean exp": lambda x: torch.log1p(x.exp().mean((2, 3))),
    "attention pooling": lambda x: (x * x.mean(1, True).flatten(2).softmax(-1).view(len(x), 1, SIDE, SIDE)).sum((2, 3)),
    "mean and max": lambda x: torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1),
    "covariance": lambda x: torch.bmm(x.flatten(2), x.flatten(2).transpose(1, 2)) / 16,
    "std": lambda x: torch.cat([x.std((2, 3)), x.mean((2, 3))], 1),
}


@pytest.mark.parametrize("body", [*POINTWISE.values()], ids=[*POINTWISE])
def test_pointwise(body):
    assert_held(Net(body))


@pytest.mark.parametrize("make", [*MODULES.values()], ids=[*MODULES])
def test_module(make):
    assert_held(Net(lambda x, part: part(x), part=make))


@pytest.mark.parametrize("body", [*NORMS.values()], ids=[*NORMS])
def test_norm(body):
    assert_held(Net(body))


@pytest.mark.parametrize("body", [*POOLING.values()], ids=[*POOLING])
def test_pooling(body):
    assert_held(Net(body))


# --- attention -------------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    """Self-attention of the tokens (B, n, C). weigh(q, k, v) of (B, heads, n, d) does the rest."""

    def __init__(self, weigh, heads=2, own=None):
        super().__init__()
        self.qkv, self.out, self.weigh, self.heads = nn.Linear(C, 3 * C), nn.Linear(C, C), weigh, heads
        self.own = own() if own else None

    def forward(self, x: Tensor) -> Tensor:
        t = x.flatten(2).transpose(1, 2) if x.ndim == 4 else x
        q, k, v = self.qkv(t).unflatten(-1, (3, self.heads, C // self.heads)).permute(2, 0, 3, 1, 4)
        options = {"own": self.own} if self.own is not None else {}
        return self.out(self.weigh(q, k, v, **options).transpose(1, 2).flatten(2))


def by_hand(q, k, v):
    return ((q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5).softmax(-1) @ v


def bmm(q, k, v):
    q, k, v = (t.flatten(0, 1) for t in (q, k, v))
    weights = F.softmax(torch.baddbmm(torch.zeros(1, 1, 1).to(q), q, k.mT, beta=0, alpha=0.5), dim=-1)
    return F.dropout(weights, 0.1, training=False).bmm(v).unflatten(0, (-1, 2))


def swin(q, k, v, own):
    scale = own["scale"].clamp(max=4.6).exp()
    scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1) * scale + own["bias"][own["index"]].sum(
        -1
    )
    return scores.softmax(-1) @ v


class Parameters(nn.Module):
    """Tensors that a function reads by name, such as a table of relative positions."""

    def __init__(self, **tensors):
        super().__init__()
        for name, t in tensors.items():
            self.register_parameter(name, nn.Parameter(t, requires_grad=t.is_floating_point()))

    def __getitem__(self, name):
        return getattr(self, name)


def positions():
    n = SIDE * SIDE
    index = (torch.arange(n)[:, None] - torch.arange(n)).abs()
    return Parameters(scale=torch.full((2, 1, 1), 1.5), bias=torch.randn(n, 1), index=index)


def relative(q, k, v, own):
    bias = own["bias"][own["index"].view(-1)].view(1, 1, 16, 16)
    return ((q * 0.5) @ k.mT + bias).softmax(-1) @ v


def linear_attention(q, k, v):
    q, k = F.elu(q) + 1, F.elu(k) + 1
    return torch.einsum("bhnd,bhde->bhne", q, torch.einsum("bhnd,bhne->bhde", k, v)) / (
        torch.einsum("bhnd,bhd->bhn", q, k.sum(2))[..., None] + 1e-6
    )


def sdpa(**options):
    made = {name: value() if callable(value) else value for name, value in options.items()}
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, **made)


def bool_mask():
    return torch.rand(16, 16, generator=torch.Generator().manual_seed(3)) > 0.3


def float_mask():
    return torch.randn(16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


ATTENTION = {
    "by hand": by_hand,
    "bmm": bmm,
    "einsum": lambda q, k, v: torch.einsum("bhij,bhjd->bhid", torch.einsum("bhid,bhjd->bhij", q, k).softmax(-1), v),
    "einsum with a list": lambda q, k, v: torch.einsum("bhij,bhjd->bhid", [(q @ k.mT).softmax(-1), v]),
    "einsum of sublists": lambda q, k, v: torch.einsum(
        (q @ k.mT).softmax(-1), [0, 1, 2, 3], v, [0, 1, 3, 4], [0, 1, 2, 4]
    ),
    "masked_fill": lambda q, k, v: (
        (q @ k.mT).masked_fill(torch.ones(16, 16).triu(1).bool(), -torch.inf).softmax(-1) @ v
    ),
    "masked_fill_": lambda q, k, v: (q @ k.mT).masked_fill_(torch.ones(16, 16).triu(1).bool(), -1e9).softmax(-1) @ v,
    "float32 softmax": lambda q, k, v: (q @ k.mT).softmax(-1, dtype=torch.float32).to(v) @ v,
    "relu attention": lambda q, k, v: (q @ k.mT).relu() / 16 @ v,
    "sigmoid attention": lambda q, k, v: (q @ k.mT).sigmoid() @ v,
    "linear attention": linear_attention,
    "channel attention": lambda q, k, v: ((q.mT @ k).softmax(-1) @ v.mT).mT,
    "talking heads": lambda q, k, v: (
        torch.einsum("bhij,hg->bgij", q @ k.mT, torch.tensor([[0.3, 1.0], [0.5, -1.0]]).to(q)).softmax(-1) @ v
    ),
    "sdpa": sdpa(),
    "sdpa keywords": lambda q, k, v: F.scaled_dot_product_attention(query=q, key=k, value=v),
    "sdpa some keywords": lambda q, k, v: F.scaled_dot_product_attention(q, key=k, value=v, dropout_p=0.0),
    "sdpa bool mask": sdpa(attn_mask=bool_mask),
    "sdpa float mask": sdpa(attn_mask=float_mask),
    "sdpa positional mask": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, float_mask(), 0.0, False),
    "sdpa mask of the photo": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=(q @ k.mT).tanh()),
    "sdpa is_causal": sdpa(is_causal=True),
    "sdpa scale": sdpa(scale=0.3),
    "sdpa gqa": lambda q, k, v: F.scaled_dot_product_attention(torch.cat([q, q.flip(1)], 1), k, v, enable_gqa=True)[
        :, 1:3
    ],
    "sdpa, cells as batch of 3 dims": lambda q, k, v: F.scaled_dot_product_attention(
        q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)
    ).unflatten(0, (-1, 2)),
}
ATTENTION_WITH_OWN = {"swin v2": swin, "relative positions": relative}


@pytest.mark.parametrize("weigh", [*ATTENTION.values()], ids=[*ATTENTION])
def test_attention(weigh):
    assert_held(Net(lambda x, a: a(x), a=lambda: Attention(weigh)), ulps=8)


@pytest.mark.parametrize("weigh", [*ATTENTION_WITH_OWN.values()], ids=[*ATTENTION_WITH_OWN])
def test_attention_with_parameters(weigh):
    assert_held(Net(lambda x, a: a(x), a=lambda: Attention(weigh, own=positions)), ulps=8)


def padding(n):
    mask = torch.zeros(n, 16, dtype=torch.bool)
    mask[:, 12:] = True
    return mask


MULTIHEAD = {
    "batch_first": ({"batch_first": True}, {}),
    "sequence first": ({}, {}),
    "without weights": ({"batch_first": True}, {"need_weights": False}),
    "each head's weights": ({"batch_first": True}, {"average_attn_weights": False}),
    "key_padding_mask": ({"batch_first": True}, {"key_padding_mask": padding}),
    "attn_mask": ({"batch_first": True}, {"attn_mask": lambda n: float_mask()}),
    "bool attn_mask": (
        {"batch_first": True},
        {"attn_mask": lambda n: bool_mask() & ~torch.eye(16).bool(), "need_weights": False},
    ),
    "both masks": ({}, {"attn_mask": lambda n: float_mask(), "key_padding_mask": lambda n: padding(n).double() * -3}),
    "is_causal": (
        {"batch_first": True},
        {
            "is_causal": True,
            "attn_mask": lambda n: nn.Transformer.generate_square_subsequent_mask(16).double(),
            "need_weights": False,
        },
    ),
    "add_bias_kv": ({"batch_first": True, "add_bias_kv": True}, {}),
    "add_zero_attn": ({"batch_first": True, "add_zero_attn": True}, {"need_weights": False}),
    "without bias": ({"batch_first": True, "bias": False}, {}),
    "kdim, vdim": ({"batch_first": True, "kdim": 4, "vdim": 5}, {}),
}


@pytest.mark.parametrize("made, called", [*MULTIHEAD.values()], ids=[*MULTIHEAD])
def test_multihead_attention(made, called):
    def body(x, mha):
        t = x.flatten(2).transpose(1, 2)
        t = t if made.get("batch_first") else t.transpose(0, 1)
        k, v = t[..., : made.get("kdim", C)], t[..., -made.get("vdim", C) :]
        out = mha(t, k, v, **{name: a(len(x)) if callable(a) else a for name, a in called.items()})[0]
        return out if made.get("batch_first") else out.transpose(0, 1)

    assert_held(Net(body, mha=lambda: nn.MultiheadAttention(C, 2, **made)), ulps=8)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_encoder_layer(norm_first, activation):
    def make():
        return nn.TransformerEncoderLayer(C, 2, 8, 0.1, activation, batch_first=True, norm_first=norm_first)

    assert_held(Net(last_axis(lambda t, layer: layer(t)), layer=make), ulps=8)


@pytest.mark.filterwarnings("ignore:.*nested.*")
@pytest.mark.parametrize("masked", [False, True])
def test_encoder(masked):
    def make():
        return nn.TransformerEncoder(nn.TransformerEncoderLayer(C, 2, 8, batch_first=True), 2, nn.LayerNorm(C))

    options = (lambda n: {"src_key_padding_mask": padding(n)}) if masked else (lambda n: {})
    assert_held(Net(last_axis(lambda t, encoder: encoder(t, **options(len(t)))), encoder=make), ulps=8)


def test_decoder():
    """Cross-attention from learned queries, as in DETR."""
    net = Net(
        last_axis(lambda t, layer, queries: layer(queries["q"].expand(len(t), -1, -1), t)),
        layer=lambda: nn.TransformerDecoderLayer(C, 2, 8, batch_first=True),
        queries=lambda: Parameters(q=torch.randn(1, 3, C)),
    )
    assert_held(net, ulps=8)


# --- products --------------------------------------------------------------------------------------------------------


def conv1():
    return nn.Conv2d(C, C, 1)


def condconv(x, c, routing):
    """A convolution whose weight depends on the photo (CondConv), as a grouped one."""
    r = torch.sigmoid(routing(x.mean((2, 3))))
    weight = torch.einsum("bn,noihw->boihw", r, torch.stack([c.weight, c.weight.flip(0)])).flatten(0, 1)
    return F.conv2d(x.reshape(1, -1, *x.shape[2:]), weight, groups=len(x)).view_as(x)


def transformed(x, theta):
    """A spatial transformer."""
    grid = F.affine_grid(
        0.1 * theta(x.mean((2, 3))).view(-1, 2, 3) + torch.eye(2, 3).to(x), list(x.shape), align_corners=False
    )
    return F.grid_sample(x, grid, align_corners=False)


PRODUCTS = {
    "x * sigmoid": lambda x, c, d: c(x) * d(x).sigmoid(),
    "sigmoid * x": lambda x, c, d: d(x).sigmoid() * c(x),
    "torch.mul keywords": lambda x, c, d: torch.mul(input=c(x), other=d(x).sigmoid()),
    "squeeze and excite": lambda x, c, d: x * d(c(x.mean((2, 3), keepdim=True)).relu()).sigmoid(),
    "squeeze and excite, hard": lambda x, c, d: F.hardsigmoid(d(c(x.mean((2, 3), keepdim=True)).relu())).mul(x),
    "x + x * gate": lambda x, c, d: x + x * (1 + c(x).tanh()),
    "glu": lambda x, c, d: F.glu(torch.cat([c(x), d(x)], 1), 1),
    "glu last": lambda x, c, d: F.glu(x),
    "SwiGLU": lambda x, c, d: F.silu(c(x)) * d(x),
    "GEGLU": lambda x, c, d: c(x) * F.gelu(d(x)),
    "ReGLU": lambda x, c, d: c(x) * F.relu(d(x)),
    "gate and gate": lambda x, c, d: c(x).sigmoid() * d(x).tanh(),
    "relu and relu": lambda x, c, d: c(x).relu() * d(x).relu(),
    "x * x": lambda x, c, d: x * x,
    "two plain": lambda x, c, d: c(x) * d(x),
    "three plain": lambda x, c, d: c(x) * d(x) * x,
    "mean and cells": lambda x, c, d: c(x) * d(x).mean((2, 3), keepdim=True),
    "matmul": lambda x, c, d: c(x) @ d(x).mT,
    "torch.matmul": lambda x, c, d: torch.matmul(c(x), d(x)),
    "einsum": lambda x, c, d: torch.einsum("bchw,bdhw->bcd", c(x), d(x)),
    "einsum of one": lambda x, c, d: torch.einsum("bchw->bcw", x).relu(),
    "einsum of one and weights": lambda x, c, d: torch.einsum("oc,bchw->bohw", c.weight[:, :, 0, 0], x),
    "outer": lambda x, c, d: torch.stack([torch.outer(row[0, 0], row[1, 1]) for row in x]),
    "dot": lambda x, c, d: torch.stack([torch.dot(row[0].flatten(), row[1].flatten()) for row in x])[:, None],
    "mv": lambda x, c, d: torch.stack([row[0] @ row[1, 0] for row in x]),
    "tensordot": lambda x, c, d: torch.stack([torch.tensordot(r[:3], r[3:], dims=([1, 2], [1, 2])) for r in x]),
    "mul_": lambda x, c, d: c(x).mul_(d(x).sigmoid()),
    "*=": lambda x, c, d: _times(c(x), d(x)),
    "div_": lambda x, c, d: c(x).div_(2 + d(x).tanh()),
    "true_divide": lambda x, c, d: torch.true_divide(c(x), 2 + d(x).tanh()),
    "/": lambda x, c, d: c(x) / (2 + d(x).tanh()),
    "number / x": lambda x, c, d: x * (2 / (2 + d(x).tanh())),
    "addcmul": lambda x, c, d: torch.addcmul(x, c(x), d(x).sigmoid(), value=0.5),
    "addcmul_": lambda x, c, d: (x * 1).addcmul_(c(x), d(x)),
    "addcdiv": lambda x, c, d: torch.addcdiv(x, c(x), 2 + d(x).tanh()),
    "lerp": lambda x, c, d: torch.lerp(x, c(x), d(x).sigmoid()),
    "lerp number": lambda x, c, d: x.lerp(c(x), 0.3),
    "lerp keyword": lambda x, c, d: torch.lerp(x, c(x), weight=d(x).sigmoid()),
    "addmm": lambda x, c, d: torch.stack([torch.addmm(r[0], r[1], r[2].sigmoid()) for r in x]),
    "baddbmm": lambda x, c, d: torch.baddbmm(x[:, 0], c(x)[:, 1], d(x)[:, 2]),
    "dynamic convolution": lambda x, c, d: torch.cat(
        [F.conv2d(r[None], c(r[None]).mean((2, 3)).view(C, 1, 1, 1), groups=C) for r in x]
    ),
    "highway": lambda x, c, d: (t := d(x).sigmoid()) * c(x).relu() + (1 - t) * x,
    "selective kernel": lambda x, c, d: (
        torch.stack([c(x), d(x)], 1) * torch.stack([c(x), d(x)], 1).mean((3, 4), keepdim=True).softmax(1)
    ).sum(1),
    "cross": lambda x, c, d: torch.linalg.cross(c(x)[:, :3], d(x)[:, :3].sigmoid(), dim=1),
    "kron": lambda x, c, d: torch.stack([torch.kron(r[0], r[1]) for r in x]),
    "sub and square": lambda x, c, d: (c(x) - d(x)) ** 2,
    "distance": lambda x, c, d: (c(x) - d(x)).norm(dim=1, keepdim=True) * x,
    "star": lambda x, c, d: F.relu6(c(x)) * d(x),
    "mish by hand": lambda x, c, d: x * torch.tanh(F.softplus(c(x))),
    "rope": lambda x, c, d: torch.cat(
        [c(x)[:, :3] * 0.6 - c(x)[:, 3:] * 0.8, c(x)[:, 3:] * 0.6 + c(x)[:, :3] * 0.8], 1
    ),
}


def _times(a, b):
    a *= b.tanh()
    return a


@pytest.mark.parametrize("body", [*PRODUCTS.values()], ids=[*PRODUCTS])
def test_product(body):
    assert_held(Net(body, c=conv1, d=conv1))


def test_bilinear():
    assert_held(Net(lambda x, b: b(x[:, :3].flatten(1), x[:, 3:].flatten(1)), b=lambda: nn.Bilinear(48, 48, 4)))


def test_condconv():
    assert_held(Net(condconv, c=conv1, routing=lambda: nn.Linear(C, 2)))


def test_spatial_transformer():
    assert_held(Net(transformed, theta=lambda: nn.Linear(C, 6)))


# --- what moves values -----------------------------------------------------------------------------------------------


def set_item(x):
    y = torch.zeros_like(x)
    y[:, ::2] = x[:, 1::2].relu()
    y[:, 1] = x[:, 0] * x[:, 1].sigmoid()
    return y


def set_item_in_place(x):
    x[:, 0] = x[:, 1].sigmoid()
    x[:, 2, 1:3] *= 2
    x[:, 3:] += x[:, :3].relu()
    return x


def filled(x):
    y = x.new_empty(x.shape)
    y[:, :3].copy_(x[:, 3:])
    torch.mul(x[:, :3], 2, out=None)
    y[:, 3:] = 1
    return F.gelu(y)


def loop(x, c):
    hidden = torch.zeros_like(x)
    for _ in range(3):
        hidden = torch.tanh(c(x) + c(hidden))
    return hidden


MOVES = {
    "setitem": set_item,
    "setitem in place": set_item_in_place,
    "new_empty": filled,
    "masked_fill": lambda x: x.masked_fill(x > 0.5, 0.7).relu(),
    "boolean setitem": lambda x: (y := x * 1, y.__setitem__(y < 0, 0.1), y)[2],
    "where": lambda x: torch.where(x > 0, x, 0.2 * x),
    "where of 0-d": lambda x: torch.where(x.mean() > 5, x.relu(), x.sigmoid()),
    "where method": lambda x: x.where(x > 0, -x),
    "x * (x > 0)": lambda x: x * (x > 0),
    "heaviside": lambda x: x * torch.heaviside(x, torch.zeros(1).to(x)),
    "cat": lambda x: torch.cat([x, x.relu(), torch.ones_like(x)], 1),
    "stack": lambda x: torch.stack([x, x.sigmoid()]).transpose(0, 1),
    "if mean": lambda x: x.relu() if x.mean() > -9 else x,
    "argmax index": lambda x: x[:, x.detach().mean((0, 2, 3)).argmax()].relu(),
    "argmax item": lambda x: x[:, int(x.mean((0, 2, 3)).argmax().item())].relu(),
    "item as number": lambda x: x / (1 + x.abs().mean().item()),
    "item as a term": lambda x: x.relu() + 3 * x.abs().mean().item(),
    "float as a term": lambda x: x.relu() + 3 * float(x.abs().mean()),
    "tolist as terms": lambda x: x.relu() + torch.tensor(x[0, :, 0, 0].tolist()).to(x)[:, None, None],
    "if item": lambda x: x.relu() if x.abs().mean().item() > 1e-9 else x + 1,
    "tolist": lambda x: x * sum(abs(v) for v in x[:, 0, 0, 0].tolist()),
    "gather argmax": lambda x: x.flatten(2).gather(2, x.flatten(2).argmax(2, keepdim=True)),
    "nonzero": lambda x: x.new_zeros(len(x), 1).index_add(0, (x > 0).nonzero()[:, 0], x[x > 0].relu()[:, None]),
    "index_add": lambda x: x.new_zeros(len(x), 3).index_add(1, torch.tensor([0, 1, 2, 0, 1, 2]), x.mean((2, 3))).relu(),
    "scatter": lambda x: torch.zeros_like(x).flatten(2).scatter(2, x.flatten(2).argsort(2), x.flatten(2)).relu(),
    "scatter_add_": lambda x: torch.zeros(len(x), C, 2).to(x).scatter_add_(2, (x > 0).long().flatten(2), x.flatten(2)),
    "index_select": lambda x: x.index_select(1, torch.tensor([2, 2, 0])).relu(),
    "masked_select": lambda x: x.masked_select(torch.ones_like(x).bool()).view_as(x).relu(),
    "roll": lambda x: x.roll((1, 2), (2, 3)).relu(),
    "expand": lambda x: x.mean((2, 3), keepdim=True).expand_as(x) * x.sigmoid(),
    "as_strided": lambda x: x.contiguous().as_strided((len(x), C, 2, 2), (96, 16, 8, 2)).relu(),
    "unfold": lambda x: F.unfold(x, 2).relu(),
    "Tensor.unfold": lambda x: x.unfold(2, 2, 2).relu(),
    "fold": lambda x: F.fold(F.unfold(x, 2, stride=2).sigmoid(), SIDE, 2, stride=2),
    "channels_last": lambda x: F.relu(x.to(memory_format=torch.channels_last)).sigmoid(),
    "fft, real part": lambda x: torch.fft.rfft2(x).real.relu(),
    "fft filter": lambda x: torch.fft.irfft2(torch.fft.rfft2(x) * (0.3 + 0.4j), s=(SIDE, SIDE)).relu(),
    "fft mixing": lambda x: torch.fft.fft2(x, dim=(1, 2)).real,
    "view_as_complex": lambda x: torch.view_as_real(torch.view_as_complex(x.unflatten(3, (2, 2)).contiguous()) * 1j),
    "split": lambda x: torch.cat([a.relu() for a in x.split(2, 1)], 1),
    "narrow, in place": lambda x: torch.cat([(x * 1).narrow(1, 0, 3).sigmoid_(), x[:, 3:]], 1),
    "unbind": lambda x: sum(a.relu() for a in x.unbind(1)),
    "iterate": lambda x: torch.stack([row.relu() for row in x]),
    "pad reflect": lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect").relu(),
    "pad value": lambda x: F.pad(x, (1, 1), value=0.5).relu(),
    "interpolate": lambda x: F.interpolate(x, scale_factor=2, mode="bicubic").relu(),
    "cumsum": lambda x: x.cumsum(2).relu(),
    "diff": lambda x: x.diff(dim=2).relu(),
    "detach": lambda x: x * x.detach().sigmoid(),
    "stop gradient": lambda x: x + (x.round() - x).detach(),
    "no_grad": lambda x: x * _no_grad(x),
    "flip": lambda x: x.flip(3).relu() + x,
    "nan_to_num": lambda x: x.nan_to_num().relu(),
    "float and back": lambda x: x.type(torch.float64).relu().to(torch.float64),
    "numpy of a shape": lambda x: x.reshape(int(torch.tensor(x.shape[0])), -1).relu(),
    "window attention": lambda x: (
        x.view(len(x), C, 2, 2, 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(-1, C, 2, 2).relu().reshape(len(x), -1)
    ),
    "vmap": lambda x: torch.vmap(lambda r: r.relu())(x),
    "pixel_unshuffle": lambda x: F.pixel_unshuffle(x, 2).relu(),
    "native dropout": lambda x: F.dropout(x, 0.5, training=True),
    "feature dropout": lambda x: F.dropout2d(x, 0.5, training=True).relu(),
    "alpha dropout": lambda x: F.alpha_dropout(x, 0.3, training=True),
    "noise": lambda x: (x + torch.randn_like(x)).relu(),
    "noise, then dropout": lambda x: F.dropout((x + torch.randn_like(x)).relu(), 0.5, training=True),
    "rrelu, then dropout": lambda x: F.dropout(F.rrelu(x, training=True), 0.5, training=True),
    "a random mask, then dropout": lambda x: F.dropout(x * torch.bernoulli(x.sigmoid()), 0.5, training=True),
    "drop path": lambda x: x + x.relu() * x.new_empty(len(x), 1, 1, 1).bernoulli_(0.8).div_(0.8),
    "out=": lambda x: torch.cat([x, x], 1)[:, :C].relu(),
    "baddbmm with weights": lambda x: torch.baddbmm(x[:, 0], x[:, 1], torch.ones(len(x), 4, 4).to(x)).relu(),
    "linalg.inv of a constant": lambda x: torch.linalg.inv(torch.eye(4).to(x) * 2) @ x,
    "trace": lambda x: torch.einsum("bcii->bc", x).relu(),
    "block diagonal": lambda x: torch.stack([torch.block_diag(*r[:2]) for r in x]),
    "rot90": lambda x: x.rot90(1, (2, 3)).relu(),
    "tril": lambda x: x.tril().relu(),
    "einops-like": lambda x: x.reshape(len(x), 2, 3, 16).transpose(1, 2).reshape(x.shape).relu(),
    "channel shuffle": lambda x: F.channel_shuffle(x, 2).relu(),
    "embedding by argmax": lambda x: F.embedding(x.argmax(1), torch.eye(C).to(x)).permute(0, 3, 1, 2) * x,
    "one_hot": lambda x: F.one_hot(x.argmax(1), C).permute(0, 3, 1, 2) * x,
    "straight-through gumbel": lambda x: (
        x * (F.one_hot(x.argmax(1), C).permute(0, 3, 1, 2) - x.softmax(1).detach() + x.softmax(1))
    ),
}


def _no_grad(x):
    with torch.no_grad():
        return x.sigmoid()


IN_PLACE = ["sigmoid", "tanh", "exp", "square", "sin", "erf", "exp2", "expm1", "celu", "selu", "abs", "relu"]


@pytest.mark.parametrize("name", IN_PLACE)
def test_torch_functions_in_place(name):
    """As torch.sigmoid_: the gate comes from the input as it was before."""
    net, same = (Net(lambda x, f=f: f(x + 2)) for f in (getattr(torch, f"{name}_"), getattr(torch, name)))
    ran, expected = assert_held(net), assert_held(same)
    assert torch.equal(ran.rest, expected.rest) and torch.equal(ran.raw_gradient([0, 0]), expected.raw_gradient([0, 0]))


def counted(x):
    weights = x.softmax(1)
    weights *= C
    return x * weights


def spread(x):
    variance, mean = torch.var_mean(x, 1, keepdim=True)
    variance.add_(0.3)
    return (x - mean) * variance.rsqrt()


CHANGED = {
    "softmax *= n": counted,
    "var_mean += eps": spread,
    "var.add_": lambda x: x * x.var(1, keepdim=True).add_(0.3).rsqrt(),
    "sign.mul_": lambda x: x.relu() + x.sign().mul_(0.5).add_(0.1),
}


@pytest.mark.parametrize("body", [*CHANGED.values()], ids=[*CHANGED])
def test_constants_that_the_network_changes_in_place(body):
    assert_held(Net(body))


@pytest.mark.parametrize("body", [*MOVES.values()], ids=[*MOVES])
def test_moves(body):
    assert_held(Net(body))


SAME_GATES = {
    "sigmoid_": (lambda x: (x + 3).sigmoid_(), lambda x: (x + 3).sigmoid()),
    "relu6 in place / 6": (lambda x: F.relu6(x + 3, inplace=True) / 6, lambda x: F.relu6(x + 3) / 6),
    "hardsigmoid in place": (lambda x: F.hardsigmoid(x * 1, inplace=True), F.hardsigmoid),
    "clamp_": (lambda x: (x * 1).clamp_(0, 1), lambda x: x.clamp(0, 1)),
    "written into another": (lambda x: torch.zeros_like(x).copy_(x.sigmoid()), torch.sigmoid),
}


@pytest.mark.parametrize("in_place, plain", [*SAME_GATES.values()], ids=[*SAME_GATES])
def test_a_gate_in_place_is_the_same_gate(in_place, plain):
    """MobileNetV3's squeeze-and-excite often has one. The features are ReLUs, which are gates, too, but less so."""
    rans = [assert_held(Net(lambda x, f=f: x.relu() * f(x.roll(1, 1)))) for f in (in_place, plain)]
    torch.testing.assert_close(rans[0].rest, rans[1].rest)
    torch.testing.assert_close(rans[0].raw_gradient([0, 0]), rans[1].raw_gradient([0, 0]))


BOUNDED_GATES = {
    "product": lambda x: x.sigmoid() * (2 * x).sigmoid(),
    "sum": lambda x: x.sigmoid() + (2 * x).sigmoid(),
    "mean": lambda x: torch.stack([x.sigmoid(), x.tanh()]).mean(0),
    "square": lambda x: x.sigmoid().square(),
    "relu": lambda x: x.tanh().relu(),
}


@pytest.mark.parametrize("gate", [*BOUNDED_GATES.values()], ids=[*BOUNDED_GATES])
def test_what_bounded_gates_make_is_held_rather_than_a_relu(gate):
    """By hand: with the gate as a constant, a product of it and a ReLU is the map of the ReLU, times the gate."""
    net = Net(lambda x: x.relu() * gate(x.roll(1, 1)))
    ran = assert_held(net)
    torch.testing.assert_close(ran.rest, net.last(torch.zeros_like(net.before_last(photo(2)))))
    fixed = gate(net.conv(photo(2)).roll(1, 1)).detach()
    held = assert_held(Net(lambda x: x.relu() * fixed[: len(x)]))
    torch.testing.assert_close(ran.raw_gradient([0, 0]), held.raw_gradient([0, 0]))


def test_a_tensor_with_a_graph_of_its_own_is_a_constant():
    """As an embedding of another picture, made without `torch.no_grad`: this photo's map leaves it out."""
    other = torch.linspace(0.5, 2, C, dtype=torch.float64).requires_grad_() * 1
    foreign, plain = (Net(lambda x, o=o: x.relu().mean((2, 3)) * o) for o in (other, other.detach()))
    ran, expected = assert_held(foreign), assert_held(plain)
    assert torch.equal(ran.rest, expected.rest) and torch.equal(ran.raw_gradient([1, 1]), expected.raw_gradient([1, 1]))
    torch.testing.assert_close(ran.rest, plain.last.bias.expand(2, 3))  # a GAP network: the map has all but the bias
    assert_held(Net(lambda x: F.linear(x.relu().mean((2, 3)), other.outer(other))))


class TwoStreams(nn.Module):
    """The product of two convolutions of one photo; frozen: as a backbone whose graph is cut."""

    def __init__(self, frozen):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.a, self.b = (nn.Conv2d(3, C, 3, padding=1).double() for _ in range(2))
            self.last = nn.Linear(C, 3).double()
        self.frozen = frozen
        self.eval()

    def forward(self, x):
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            other = self.b(x)
            product = other * self.a(x)
        return self.last(product.mean((2, 3)))


def prepared(net, x, fill):
    """As a class token with room for the patches, made from a parameter and filled in place."""
    room = (net.token * 1).expand(len(x), C, 2 * SIDE, SIDE).clone()
    fill(room, net.a(x))
    return net.last((room.relu() * room.sigmoid()).mean((2, 3)))


FILLS = {
    "setitem": lambda room, f: room.__setitem__((slice(None), slice(None), slice(0, SIDE)), f),
    "add_": lambda room, f: room[:, :, :SIDE].add_(f),
    "copy_": lambda room, f: room[:, :, SIDE:].copy_(f),
    "mul_": lambda room, f: room.mul_(torch.cat([f, f], 2)),
}


@pytest.mark.parametrize("fill", [*FILLS.values()], ids=[*FILLS])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_tensor_of_parameters_that_the_network_fills(fill, frozen):
    class Filled(TwoStreams):
        def __init__(self):
            super().__init__(frozen)
            self.token = nn.Parameter(torch.linspace(-1, 1, C, dtype=torch.float64)[None, :, None, None])

        def forward(self, x):
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
                return prepared(self, x, fill)

    assert_held(Filled(), layer="a", ulps=4)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_stream_beside_the_layer_is_a_constant(frozen):
    """The product is linear in a's output, so all but the bias lies on its map, also if camlib restores the graph."""
    net = TwoStreams(frozen)
    ran = assert_held(net, layer="a")
    torch.testing.assert_close(ran.rest, net.last.bias.expand(2, 3))


@pytest.mark.parametrize("swapped", [False, True])
def test_cosine_similarity(swapped):
    prototypes = torch.randn(3, C, dtype=torch.float64, generator=torch.Generator().manual_seed(3))

    def similarity(x):
        pair = (x.mean((2, 3))[:, None], prototypes)
        return F.cosine_similarity(*(pair[::-1] if swapped else pair), dim=-1)

    net = Net(similarity)
    ran = assert_held(net, ulps=8)
    torch.testing.assert_close(ran.rest, net.last.bias.expand(2, 3))  # with its length held, the feature is linear
    assert_held(Net(lambda x: F.cosine_similarity(x1=x[:, :3], x2=x[:, 3:].relu())), ulps=8)
    assert_held(Net(lambda x: F.cosine_similarity(x, x.mean(1, keepdim=True), dim=1)), ulps=8)
    rows = torch.linspace(-1, 1, C * SIDE * SIDE, dtype=torch.float64).view(C, SIDE, SIDE)
    assert_held(Net(lambda x: F.cosine_similarity(x, rows, dim=1)), ulps=8)


def test_shared_layers_run_twice():
    assert_held(Net(lambda x, c, act: act(c(act(c(x)))), c=conv1, act=lambda: nn.ReLU(inplace=True)))


def test_loop():
    assert_held(Net(loop, c=conv1))


# --- by hand: the held network in plain algebra ----------------------------------------------------------------------


def by_cells(h, A):
    """The map (B, K, h, w) and the rest (B, K) of an affine function of A, without gradients: each cell alone."""
    B, _, rows, columns = A.shape
    rest = h(torch.zeros_like(A))
    result = torch.zeros(B, rest.shape[1], rows, columns, dtype=A.dtype)
    for i in range(rows):
        for j in range(columns):
            alone = torch.zeros_like(A)
            alone[:, :, i, j] = A[:, :, i, j]
            result[:, :, i, j] = h(alone) - rest
    return rows * columns * result, rest


def check_by_hand(net, hold, x=None, tolerance=1e-11):
    """hold(A, **parts): the body with gates held at A, as a function of another A."""
    x = photo(2) if x is None else x
    with torch.no_grad():
        A = net.conv(x)
        remains = hold(A, **net.parts)
        torch.testing.assert_close(net.last(remains(A).flatten(1)), net(x))  # the formula itself is right at the photo
        maps, rest = by_cells(lambda other: net.last(remains(other).flatten(1)), A)
    ran = run_forward(net, x, "conv", hold=True)
    scale = maps.abs().max()
    for k in range(3):
        assert (frozen_map(ran, [k] * len(x)) - maps[:, k]).abs().max() <= tolerance * scale
    assert (ran.rest - rest).abs().max() <= tolerance * rest.abs().max()
    assert float((maps - maps.mean((2, 3), keepdim=True)).abs().max()) > 1e-3 * float(scale)


def ratio(f):
    """f(x) = gate · x + f(0), with the gate from the photo."""

    def hold(A):
        start = f(torch.zeros(1, dtype=A.dtype))
        return lambda x: (f(A) - start) / A * x + start

    return hold


@pytest.mark.parametrize(
    "f",
    [F.relu, F.gelu, F.silu, F.hardswish, torch.sigmoid, F.softplus, torch.tanh, torch.cos, F.logsigmoid, torch.exp]
    + [F.hardsigmoid, F.elu, torch.square, lambda x: x.clamp(0.1, 0.3), lambda x: F.threshold(x, 0.1, -0.3)],
)
def test_pointwise_by_hand(f):
    check_by_hand(Net(f), ratio(f), tolerance=1e-7 if f in (torch.exp, torch.cos) else 1e-9)


def test_relu_network_by_hand():
    """Two layers: a weight is cut where its ReLU is off. Everything as one matrix."""
    net, x = Net(lambda x, c: c(x.relu()).relu(), c=conv1), photo(1)
    with torch.no_grad():
        A = net.conv(x)
        first, second = (A > 0).double(), (net.parts["c"](A.relu()) > 0).double()
        w, b = net.parts["c"].weight[:, :, 0, 0], net.parts["c"].bias
        last = net.last.weight.view(3, C, SIDE, SIDE)
        G = torch.einsum("kohw,ohw,oc,chw->kchw", last, second[0], w, first[0])
        rest = torch.einsum("kohw,ohw,o->k", last, second[0], b) + net.last.bias
    ran = run_forward(net, x, "conv", hold=True)
    for k in range(3):
        torch.testing.assert_close(ran.cells(ran.raw_gradient([k]))[0], G[k])
        torch.testing.assert_close(frozen_map(ran, [k]), 16 * (G[k] * A).sum(1))
    torch.testing.assert_close(ran.rest[0], rest)


def held_norm(dims, eps=1e-5, centred=True):
    def hold(A):
        spread = (A.var(dims, correction=0, keepdim=True) if centred else A.square().mean(dims, keepdim=True)) + eps
        return lambda x: (x - x.mean(dims, keepdim=True) if centred else x) / spread.sqrt()

    return hold


def tokens(x):
    return x.flatten(2).transpose(1, 2)


def test_norms_by_hand():
    check_by_hand(Net(last_axis(lambda t: F.layer_norm(t, (C,)))), lambda A: _on_tokens(held_norm((-1,)), A))
    check_by_hand(Net(last_axis(rms)), lambda A: _on_tokens(held_norm((-1,), 1e-6, False), A))
    check_by_hand(Net(F.instance_norm), held_norm((2, 3)))
    check_by_hand(Net(lambda x: F.group_norm(x, 1)), held_norm((1, 2, 3)))
    check_by_hand(Net(lambda x: F.normalize(x, dim=1)), lambda A: lambda x: x / A.norm(dim=1, keepdim=True))


def _on_tokens(hold, A):
    remains = hold(tokens(A))
    return lambda x: remains(tokens(x))


def test_layer_norm_weight_and_bias_by_hand():
    net = Net(last_axis(lambda t, norm: norm(t)), norm=lambda: nn.LayerNorm(C))
    plain = held_norm((-1,))
    check_by_hand(net, lambda A, norm: lambda x: plain(tokens(A))(tokens(x)) * norm.weight + norm.bias)


@pytest.mark.parametrize("weigh", [by_hand, sdpa(), ATTENTION["einsum"]], ids=["by hand", "sdpa", "einsum"])
def test_attention_by_hand(weigh):
    def split(a, x):
        return a.qkv(tokens(x)).unflatten(-1, (3, 2, 3)).permute(2, 0, 3, 1, 4)

    def hold(A, a):
        q, k, _ = split(a, A)
        weights = (q @ k.transpose(-2, -1) * (1 if weigh is ATTENTION["einsum"] else 3**-0.5)).softmax(-1)
        return lambda x: a.out((weights @ split(a, x)[2]).transpose(1, 2).flatten(2))

    check_by_hand(Net(lambda x, a: a(x), a=lambda: Attention(weigh)), hold)


def test_multihead_attention_by_hand():
    def hold(A, mha):
        q, k, _ = mha.in_proj_weight.chunk(3)
        bq, bk, bv = mha.in_proj_bias.chunk(3)
        heads = [t.unflatten(-1, (2, 3)).transpose(1, 2) for t in (tokens(A) @ q.T + bq, tokens(A) @ k.T + bk)]
        weights = (heads[0] @ heads[1].mT / 3**0.5).softmax(-1)

        def remains(x):
            v = (tokens(x) @ mha.in_proj_weight[2 * C :].T + bv).unflatten(-1, (2, 3)).transpose(1, 2)
            return mha.out_proj((weights @ v).transpose(1, 2).flatten(2))

        return remains

    def body(x, mha):
        return mha(tokens(x), tokens(x), tokens(x))[0]

    check_by_hand(Net(body, mha=lambda: nn.MultiheadAttention(C, 2, batch_first=True)), hold)


HALVES = {
    "x * x": (lambda x, c, d: x * x, lambda A, c, d: lambda x: A * x),
    "two plain": (lambda x, c, d: c(x) * d(x), lambda A, c, d: lambda x: (c(A) * d(x) + c(x) * d(A)) / 2),
    "matmul": (lambda x, c, d: c(x) @ d(x).mT, lambda A, c, d: lambda x: (c(A) @ d(x).mT + c(x) @ d(A).mT) / 2),
    "sigmoid first": (lambda x, c, d: c(x).sigmoid() * d(x), lambda A, c, d: lambda x: c(A).sigmoid() * d(x)),
    "sigmoid last": (lambda x, c, d: d(x) * c(x).sigmoid(), lambda A, c, d: lambda x: c(A).sigmoid() * d(x)),
    "sigmoid beats gelu": (
        lambda x, c, d: F.gelu(d(x)) * c(x).sigmoid(),
        lambda A, c, d: lambda x: c(A).sigmoid() * (F.gelu(d(A)) / d(A)) * d(x),
    ),
    "SwiGLU": (lambda x, c, d: F.silu(c(x)) * d(x), lambda A, c, d: lambda x: F.silu(c(A)) * d(x)),
    "GEGLU": (lambda x, c, d: d(x) * F.gelu(c(x)), lambda A, c, d: lambda x: F.gelu(c(A)) * d(x)),
    "glu": (lambda x, c, d: F.glu(torch.cat([c(x), d(x)], 1), 1), lambda A, c, d: lambda x: c(x) * d(A).sigmoid()),
    "squeeze and excite": (
        lambda x, c, d: x * d(c(x.mean((2, 3), keepdim=True)).relu()).sigmoid(),
        lambda A, c, d: lambda x: x * d(c(A.mean((2, 3), keepdim=True)).relu()).sigmoid(),
    ),
    "quotient": (lambda x, c, d: c(x) / (2 + d(x).tanh()), lambda A, c, d: lambda x: c(x) / (2 + d(A).tanh())),
    "lerp": (
        lambda x, c, d: torch.lerp(x, c(x), d(x).sigmoid()),
        lambda A, c, d: lambda x: x + d(A).sigmoid() * (c(x) - x),
    ),
}


@pytest.mark.parametrize("body, hold", [*HALVES.values()], ids=[*HALVES])
def test_product_by_hand(body, hold):
    check_by_hand(Net(body, c=conv1, d=conv1), hold)


def test_max_pooling_by_hand():
    def hold(A):
        _, chosen = F.max_pool2d(A, 2, return_indices=True)
        return lambda x: x.flatten(2).gather(2, chosen.flatten(2))

    check_by_hand(Net(lambda x: F.max_pool2d(x, 2)), hold)
    check_by_hand(
        Net(lambda x: torch.maximum(x[:, :3], x[:, 3:])),
        lambda A: lambda x: torch.where(A[:, :3] > A[:, 3:], x[:, :3], x[:, 3:]),
    )


def test_logsumexp_by_hand():
    """The tangent: softmax weights, and what is left at 0."""

    def hold(A):
        w = A.flatten(2).softmax(-1)
        entropy = A.logsumexp((2, 3)) - (w * A.flatten(2)).sum(-1)
        return lambda x: (w * x.flatten(2)).sum(-1) + entropy

    check_by_hand(Net(lambda x: x.logsumexp((2, 3))), hold)


def test_transformer_block_by_hand():
    """LayerNorm, attention and a GELU network with their shortcuts, all held at once."""

    def body(x, norm, a, c):
        t = tokens(x) + a(norm(tokens(x)))
        return t + F.gelu(c(t))

    def hold(A, norm, a, c):
        def normal(t, at):
            scale = (at.var(-1, correction=0, keepdim=True) + 1e-5).rsqrt()
            return (t - t.mean(-1, keepdim=True)) * scale * norm.weight + norm.bias

        def heads(t, n):
            return a.qkv(t)[..., n * C : (n + 1) * C].unflatten(-1, (2, 3)).transpose(1, 2)

        at = tokens(A)
        n = normal(at, at)
        weights = (heads(n, 0) @ heads(n, 1).mT * 3**-0.5).softmax(-1)

        def attended(t):
            return t + a.out((weights @ heads(normal(t, at), 2)).transpose(1, 2).flatten(2))

        hidden = c(attended(at))
        return lambda x: attended(tokens(x)) + F.gelu(hidden) / hidden * c(attended(tokens(x)))

    net = Net(body, norm=lambda: nn.LayerNorm(C), a=lambda: Attention(by_hand), c=lambda: nn.Linear(C, C))
    check_by_hand(net, hold, tolerance=1e-10)


# --- random networks -------------------------------------------------------------------------------------------------


class Block(nn.Module):
    """x (B, C, 4, 4) -> the same shape."""

    def __init__(self, f, *parts):
        super().__init__()
        self.f, self.parts = f, nn.ModuleList(parts)

    def forward(self, x):
        return self.f(x, *self.parts)


BLOCKS = [
    lambda: nn.Sequential(nn.Conv2d(C, C, 3, padding=1), nn.ReLU(inplace=True)),
    lambda: nn.Sequential(nn.BatchNorm2d(C), nn.GELU(), conv1()),
    lambda: Block(lambda x, c: x + F.silu(c(x)), conv1()),
    lambda: Block(lambda x, c, d: x * d(c(x.mean((2, 3), keepdim=True)).relu()).sigmoid(), conv1(), conv1()),
    lambda: Block(lambda x, c, d: F.gelu(c(x)) * d(x), conv1(), conv1()),
    lambda: Block(lambda x, c, d: x + c(x) * d(x), conv1(), conv1()),
    lambda: nn.GroupNorm(2, C),
    lambda: Block(lambda x, norm: norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), nn.LayerNorm(C)),
    lambda: Block(lambda x, a: x + a(x).transpose(1, 2).view_as(x), Attention(by_hand)),
    lambda: Block(lambda x, a: x + a(x).transpose(1, 2).reshape(x.shape), Attention(sdpa())),
    lambda: nn.MaxPool2d(3, 1, 1),
    lambda: Block(lambda x, c: torch.maximum(x, c(x)), conv1()),
    lambda: Block(lambda x: x / (1 + x.abs().mean((1, 2, 3), keepdim=True))),
    lambda: Block(lambda x, c: torch.cat([F.hardsigmoid(c(x)[:, :3]) * x[:, 3:], x[:, :3]], 1), conv1()),
    lambda: Block(lambda x: F.normalize(x, dim=1) + 0.1 * x),
    lambda: Block(lambda x: F.interpolate(F.avg_pool2d(x.exp().clamp(max=5), 2).log1p(), scale_factor=2)),
]


def random_network(seed):
    draw = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        chosen = [BLOCKS[n]() for n in torch.randint(len(BLOCKS), (5,), generator=draw)]
    return Net(lambda x, blocks: blocks(x), seed=seed, blocks=lambda: nn.Sequential(*chosen))


@pytest.mark.parametrize("seed", range(40))
def test_random_network(seed):
    assert_held(random_network(seed), photo(2, seed=seed), ulps=512)


def test_the_random_networks_have_every_block():
    drawn = torch.cat([torch.randint(len(BLOCKS), (5,), generator=torch.Generator().manual_seed(s)) for s in range(40)])
    assert set(drawn.tolist()) == set(range(len(BLOCKS)))


# --- types -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 0.03), (torch.float16, 0.005)], ids=str
)
def test_types(dtype, tolerance):
    net = Net(
        lambda x, a, c, d: a(F.silu(c(x)) * d(x).sigmoid()), a=lambda: Attention(by_hand), c=conv1, d=conv1, dtype=dtype
    )
    ran = assert_held(net, photo(2, dtype), tolerance=tolerance, ulps=8)
    assert ran.gates.dtype == dtype


def half(f):
    def body(x, **parts):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return f(x, **parts).float()

    return body


@pytest.mark.parametrize("body", [F.softplus, torch.square, F.gelu, F.softmax, F.silu], ids=lambda f: f.__name__)
def test_autocast_inside(body):
    def mixed(x, c):
        return c(x) * (body(c(x), dim=1) if body is F.softmax else body(c(x)))

    ran = assert_held(Net(half(mixed), c=conv1, dtype=torch.float32), photo(2, torch.float32), tolerance=0.03)
    assert ran.gates.dtype == torch.bfloat16  # so the map is verified within what that type can do


def test_channels_last():
    net = Net(lambda x, c, norm: F.gelu(norm(c(x))), c=conv1, norm=lambda: nn.BatchNorm2d(C))
    net = net.to(memory_format=torch.channels_last)
    assert_held(net, photo(2).contiguous(memory_format=torch.channels_last))


# --- layers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["parts.a.0", "parts.a.1", "parts.a.2", "parts.a"])
def test_any_layer(layer):
    """Also one before or after an operation in place."""
    make = lambda: nn.Sequential(conv1(), nn.ReLU(inplace=True), nn.Hardswish())  # noqa: E731
    assert_held(Net(lambda x, a: F.sigmoid(a(x)) * a(x).mean((2, 3), keepdim=True), a=make), layer="conv")
    assert_held(Net(lambda x, a: a(x).sigmoid(), a=make), layer=layer)


class Pair(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.c, self.n = conv1(), n

    def forward(self, x):
        return (self.c(x).relu(), x)[: self.n]


def test_a_tuple_of_one():
    assert_held(Net(lambda x, a: a(x)[0].sigmoid(), a=lambda: Pair(1)), layer="parts.a")
    with pytest.raises(LayerError, match="gives a tuple, not one tensor"):
        run_forward(Net(lambda x, a: a(x)[0].sigmoid(), a=lambda: Pair(2)), photo(), "parts.a", hold=True)


class Kept(nn.Module):
    """Keeps a result in an attribute, and yields several from a generator."""

    def __init__(self):
        super().__init__()
        self.c, self.latest = conv1(), None

    def steps(self, x):
        for _ in range(3):
            x = self.c(x).relu()
            yield x

    def forward(self, x):
        self.latest = list(self.steps(x))
        return self.latest[0] + self.latest[-1].sigmoid() * x


def test_results_in_attributes():
    assert_held(Net(lambda x, a: a(x), a=Kept))


# --- checkpointing and compilation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_checkpointing(rate):
    def inner(c, d):
        return lambda y: F.dropout(c(y).relu() * d(y).sigmoid(), rate, training=True).tanh()

    def body(x, c, d):
        return torch.utils.checkpoint.checkpoint(inner(c, d), x, use_reentrant=False)

    assert_held(Net(body, c=conv1, d=conv1))


@pytest.mark.filterwarnings("ignore:None of the inputs")
def test_reentrant_checkpointing_is_refused():
    net = Net(lambda x, c: torch.utils.checkpoint.checkpoint(lambda y: c(y).relu(), x, use_reentrant=True), c=conv1)
    ran = run_forward(net, photo(), "conv", hold=True)
    with pytest.raises(ModelError, match="reentrant checkpointing"):
        frozen_map(ran, [0])


def test_a_compiled_network():
    """Its parts run as they were written."""
    net = Net(lambda x, c: c(x).sigmoid() * x, c=conv1)
    expected = assert_held(net).rest
    net.parts["c"].compile(backend="eager")
    torch.testing.assert_close(assert_held(net).rest, expected)
    assert net.parts["c"]._compiled_call_impl is not None


def test_a_compiled_part_inside():
    """Not even traced: the backend would say so. Afterwards, it is compiled again when it runs."""
    traced = []

    def backend(graph, inputs):
        traced.append(graph)
        return graph

    net = Net(lambda x, c: c(x).sigmoid() * x, c=conv1)
    expected = assert_held(net).rest
    net.parts["c"] = torch.compile(net.parts["c"], backend=backend)
    torch.testing.assert_close(run_forward(net, photo(2), "conv", hold=True).rest, expected)
    assert not traced
    with torch.no_grad():
        net(photo())
    assert traced


# --- it is noticed ---------------------------------------------------------------------------------------------------

SCALED = {
    "relu": (F.relu, "relu"),
    "gelu": (F.gelu, "gelu"),
    "sigmoid": (lambda x: x.sigmoid(), "sigmoid"),
    "softmax": (lambda x: (x + 1) * x.softmax(1), "softmax"),
    "norm": (lambda x: torch.cat([x, x.norm(dim=1, keepdim=True)], 1), "linalg_vector_norm"),
    "factor": (lambda x: x[:, :3].sigmoid() * x[:, 3:], "mul"),
    "half of a product": (lambda x: x[:, :3] * x[:, 3:], "mul"),
    "attention": (
        lambda x: F.scaled_dot_product_attention(tokens(x), 3 * tokens(x), tokens(x) + torch.arange(16)[:, None].to(x)),
        "scaled_dot_product_attention",
    ),
    "max pooling": (lambda x: F.max_pool2d(x, 2), "max_pool2d"),
    "maximum": (lambda x: torch.maximum(x, 1 - x), "maximum"),
    "comparison": (lambda x: x.clamp(min=0.1), "clamp"),
}


@pytest.mark.parametrize("body, name", [*SCALED.values()], ids=[*SCALED])
def test_a_wrong_gate_is_noticed(body, name):
    ran = assert_held(Net(body), ulps=8)
    (step,) = [s for s in ran.gates.steps.values() if s.name.strip("_") == name and s.gates]
    step.gates[0].data.mul_(1.01)  # .data: autograd would refuse a change that it knows of
    rest = replayed(ran.module, ran.x, ran.layer, ran.output, ran.value, ran.gates)
    with pytest.raises(LayerError, match="miss the logit by"):
        frozen_map(replace(ran, rest=rest), [0, 0])


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, gradient):
        return 3 * ctx.saved_tensors[0] ** 2 * gradient


def weighed(x: Tensor) -> Tensor:
    """Homogeneous: the ordinary gradient times x is this, so a map would have the right sum in the wrong places."""
    x = x.relu()
    return (x * x).sum(-1) / (x.sum(-1) + 1e-12)


with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # scripts are deprecated, but networks still have them
    scripted = torch.jit.script(weighed)


class Weighed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return scripted(x)

    @staticmethod
    def backward(ctx, gradient):
        with torch.enable_grad():
            x = ctx.saved_tensors[0].detach().requires_grad_()
            return torch.autograd.grad(scripted(x), x, gradient)[0]


class Recurrent(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.inner = make(C, 4, batch_first=True)

    def forward(self, x):
        return self.inner(tokens(x))[0]


UNHELD = {
    "cumprod": (lambda: Block(lambda x: x.cumprod(2)), "cumprod (in parts.deep.1)"),
    "inv": (lambda: Block(lambda x: torch.linalg.inv(x + 5 * torch.eye(4).to(x))), "linalg_inv (in parts.deep.1)"),
    "prod": (lambda: Block(lambda x: x.prod(3)), "prod (in parts.deep.1)"),
    "custom function": (lambda: Block(lambda x: Cube.apply(x)), "cannot hold Cube"),
    "LSTM": (lambda: Recurrent(nn.LSTM), "lstm (in parts.deep.1.inner)"),
    "GRU": (lambda: Recurrent(nn.GRU), "gru (in parts.deep.1.inner)"),
    "three factors": (lambda: Block(lambda x: torch.einsum("bchw,bchw,bchw->bc", x, x, x)), "einsum (in parts.deep.1)"),
    "2**x": (lambda: Block(lambda x: 2**x), "pow (in parts.deep.1)"),
    "x**y": (lambda: Block(lambda x: (x.abs() + 1) ** x), "pow (in parts.deep.1)"),
    "pairwise distance": (
        lambda: Block(lambda x: F.pairwise_distance(x[:, :3], x[:, 3:])),
        "pairwise_distance (in parts.d",
    ),
    "adaptive instance_norm": (
        lambda: Block(lambda x: F.instance_norm(x, weight=x.abs().mean((0, 2, 3)), eps=1e-14)),
        "instance_norm (in parts.d",
    ),
    "eval-mode batch_norm with such a weight": (
        lambda: Block(lambda x: F.batch_norm(x, torch.zeros(C).to(x), torch.ones(C).to(x), x.abs().mean((0, 2, 3)))),
        "batch_norm (in parts.d",
    ),
    "script": (lambda: Block(lambda x: scripted(x)), "an operation that PyTorch hides (Mul)"),
    "vmap": (lambda: Block(torch.vmap(weighed)), "an operation that PyTorch hides"),
    "script in a custom function": (lambda: Block(lambda x: Weighed.apply(x)), "cannot hold Weighed"),
    "odd kernel": (lambda: Block(lambda x: torch.heaviside(x, x) + torch.fmod(x, 0.3)), "fmod"),
    "cdist": (lambda: Block(lambda x: torch.cdist(tokens(x), tokens(x).flip(1) + 1)), "cdist"),
}


@pytest.mark.parametrize("make, named", [*UNHELD.values()], ids=[*UNHELD])
def test_an_operation_that_is_not_held_is_named(make, named, recwarn):
    net = Net(lambda x, deep: deep(x), deep=lambda: nn.Sequential(nn.LeakyReLU(), make()))
    with pytest.raises(LayerError, match="There is no frozen map of Net") as error:
        run_forward(net, photo(2), "conv", hold=True)
    assert named in str(error.value) and "relu" not in str(error.value)
    assert not [w for w in recwarn if "scalar" in str(w.message)]


@pytest.mark.parametrize("body", [lambda x: x.cumprod(2), lambda x: torch.logit(x.sigmoid())])
def test_nothing_stays_in_memory_after_a_refusal(body):
    net, outputs = Net(body), []
    net.conv.register_forward_hook(lambda m, args, output: outputs.append(weakref.ref(output)))
    with pytest.raises(LayerError, match="cannot hold") as error:
        run_forward(net, photo(2), "conv", hold=True)
    del error
    gc.collect()
    assert len(outputs) > 1 and not any(output() is not None for output in outputs)


@pytest.mark.parametrize("seed", range(5))
def test_an_operation_that_is_not_held_is_refused_even_if_it_hardly_matters(seed):
    """Also for the classes whose sum would be within the tolerance, as for this network with weights close to 0."""
    net = Net(lambda x, deep: 1e-6 * deep(x).mean((1, 2))[:, None, None, None] + x, deep=lambda: Recurrent(nn.RNN))
    with pytest.raises(LayerError, match="rnn_tanh"):
        run_forward(net, photo(2, seed=seed), "conv", hold=True)


class Counts(nn.Module):
    """Changes with every run, in a number that camlib does not restore."""

    def __init__(self, *functions):
        super().__init__()
        self.functions, self.runs = functions, 0

    def forward(self, x):
        self.runs += 1
        return self.functions[self.runs % len(self.functions)](x)


def test_control_flow_that_changes_is_noticed():
    net = Net(lambda x, c: c(x), c=lambda: Counts(torch.sigmoid, torch.tanh))
    with pytest.raises(
        LayerError, match="where it runs (sigmoid|tanh) for the photo, it runs (sigmoid|tanh) for an empty"
    ):
        run_forward(net, photo(), "conv", hold=True)
    net = Net(lambda x, c: c(x), c=lambda: Counts(lambda x: x + 1, lambda x: x + 2))
    with pytest.raises(LayerError, match="miss the logit"):
        frozen_map(run_forward(net, photo(), "conv", hold=True), [0])
    net = Net(lambda x, c: c(x), c=lambda: Counts(torch.relu, lambda x: x))
    with pytest.raises(LayerError, match="for the photo, it runs|miss the logit"):
        frozen_map(run_forward(net, photo(), "conv", hold=True), [0])


class Memory(nn.Module):
    """Computes its gate for the first photo only."""

    def __init__(self):
        super().__init__()
        self.c, self.memory = conv1(), {}

    def forward(self, x):
        if "gate" not in self.memory:
            self.memory["gate"] = self.c(x).sigmoid()
        return x * self.memory["gate"]


def test_a_cache_that_the_photo_fills_is_noticed():
    net = Net(lambda x, a: a(x), a=Memory)
    net.parts["a"].memory.clear()
    with pytest.raises(LayerError, match="where it runs .* for the photo, it runs"):
        run_forward(net, photo(2), "conv", hold=True)


# --- a network that cuts its own graph -------------------------------------------------------------------------------


class Backbone(nn.Module):
    """A frozen backbone: no graph reaches the layer, unless camlib restores it."""

    def __init__(self, act, cut):
        super().__init__()
        self.net, self.cut = Net(lambda x, act: act(x), act=act), cut

    def forward(self, x):
        if self.cut == "detach":
            return self.net.last(self.net.before_last(x).detach())
        with torch.no_grad():
            features = self.net.before_last(x)
        return self.net.last(features)


@pytest.mark.parametrize("cut", ["no_grad", "detach"])
@pytest.mark.parametrize(
    "act",
    [
        nn.GELU,
        lambda: Attention(by_hand),
        lambda: Attention(sdpa()),
        lambda: Block(lambda x, c: x * c(x).sigmoid(), conv1()),
        lambda: nn.LayerNorm(SIDE),
    ],
    ids=["gelu", "attention", "sdpa", "gate", "norm"],
)
def test_frozen_backbone(act, cut):
    net = Backbone(act, cut)
    ran = assert_held(net, layer="net.conv", ulps=8)
    torch.testing.assert_close(ran.rest, assert_held(net.net, ulps=8).rest)


class Stores(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = conv1()

    def forward(self, x):
        self.out = self.inner(x)
        return self.out


def test_an_output_that_is_used_under_another_name():
    """A map of the layer would have only a part of what the layer does."""
    net = Net(lambda x, s: s(x).relu() + s.out, s=Stores)
    with pytest.raises(LayerError, match=r"uses the output of 'parts.s' also under another name"):
        run_forward(net, photo(), "parts.s", hold=True)
    assert_held(net, layer="parts.s.inner")
    net = Net(lambda x, act: act(x) * x, act=lambda: nn.ReLU(inplace=True))
    with pytest.raises(LayerError, match=r"uses the output of 'parts.act' also under another name"):
        run_forward(net, photo(), "parts.act", hold=True)
    assert_held(net)


def test_hooks_of_the_network_see_the_tensor_in_the_graph():
    seen = {}
    net = Net(lambda x: x.relu() + seen.get("x", x))
    net.conv.register_forward_hook(lambda m, args, output: seen.update(x=output))
    plain = Net(lambda x: x.relu() + x)
    torch.testing.assert_close(assert_held(net).raw_gradient([1, 1]), assert_held(plain).raw_gradient([1, 1]))


class Ends(nn.Module):
    def __init__(self, end):
        super().__init__()
        self.net, self.end = Net(F.relu), end

    def forward(self, x):
        return self.end(self.net(x))


@pytest.mark.parametrize("end", [lambda y: y.log_softmax(1), torch.sigmoid, torch.tanh, F.logsigmoid])
def test_a_network_that_ends_in_an_activation(end):
    assert_held(Ends(end), layer="net.conv")


@pytest.mark.parametrize(
    "end", [lambda y: y.softmax(1), lambda y: (y.exp().sum(1, keepdim=True)).log() * torch.ones(3)]
)
def test_a_network_that_ends_in_a_gate(end):
    with pytest.raises(LayerError, match="only through gates"):
        frozen_map(run_forward(Ends(end), photo(), "net.conv", hold=True), [0])
