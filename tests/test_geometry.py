"""Where a cell really looks: the measured offset against arithmetic, and what it does to a map on the photo."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision import models

from camlib import CamError, geometry, load_model, place, receptive_field_offset
from camlib.models import Classifier
from tests.networks import count_hooks, tiny
from tests.test_views import coordinates


class PadAfter(nn.Module):
    """One row and column of zeros below and right, as TensorFlow's "same" padding does for even sides."""

    def forward(self, x):
        return F.pad(x, (0, 1, 0, 1))


def stack(*layers: nn.Module, size: int = 64) -> Classifier:
    """A classifier of hand-made layers with all weights alike: its fields are symmetric about their known centres."""
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    for parameter in net.parameters():
        nn.init.constant_(parameter, 0.1)
    return load_model(net.eval(), size=size)


def strided(channels: int, padding: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, 4, 3, stride=2, padding=padding)


def half_left() -> Classifier:
    """Three 3×3 convolutions with stride 2, padding 1. Output pixel i of each is centred on input pixel 2i, at 2i + ½,
    and drawn at the centre of its two pixels, 2i + 1: half a pixel of that layer too far right, and the layers' pixels
    are 1, 2 and 4 pixels of the photo wide. Offset: -(1 + 2 + 4) / 2 = -3.5, and a cell has 8 pixels.
    """
    return stack(strided(3), strided(4), strided(4))


def half_right() -> Classifier:
    """Padded below and right only, output pixel i is centred on pixel 2i + 1, at 2i + 1.5: +0.5 per layer, so +3.5."""
    return stack(PadAfter(), strided(3, 0), PadAfter(), strided(4, 0), PadAfter(), strided(4, 0))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (half_left, -3.5),
        (half_right, 3.5),
        (lambda: stack(nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(4, 4, 2, stride=2)), 0.0),
        (lambda: stack(nn.Conv2d(3, 4, 8, stride=8)), 0.0),  # patches, as in ViT, Swin and ConvNeXt
    ],
    ids=["padding 1", "padding below and right", "pooled", "patches"],
)
def test_offset_known_by_arithmetic(make, expected):
    tolerance = 0.35 if expected == 0 else 0.01  # max pooling picks one of two pixels at random
    assert receptive_field_offset(make()) == pytest.approx((expected, expected), abs=tolerance)


def test_offset_has_an_axis_each():
    """Stride 2 down the rows only: dy = -0.5, dx = 0."""
    clf = stack(nn.Conv2d(3, 4, 3, stride=(2, 1), padding=1))
    assert receptive_field_offset(clf) == pytest.approx((-0.5, 0.0), abs=0.01)


def test_offset_is_repeatable_and_leaves_no_trace():
    clf = half_left()
    clf.module.train()
    clf.module.requires_grad_(False)
    before = {name: value.clone() for name, value in clf.module.state_dict().items()}
    random_state = torch.get_rng_state()
    with torch.inference_mode():
        first = receptive_field_offset(clf)
    with torch.no_grad():
        assert receptive_field_offset(clf) == first, "seeded: it may be measured again"
    assert all(m.training for m in clf.module.modules())
    assert not any(p.requires_grad or p.grad is not None for p in clf.module.parameters())
    assert count_hooks(clf.module) == 0
    assert all(torch.equal(before[name], value) for name, value in clf.module.state_dict().items())
    assert torch.equal(random_state, torch.get_rng_state())


def test_offset_is_of_the_network_as_it_is_now():
    clf = half_left()
    before = receptive_field_offset(clf)
    clf.module[0].weight.data[:, :, :, :2] = 0  # only the right column is left: one pixel further right
    assert receptive_field_offset(clf) == pytest.approx((before[0], before[1] + 1), abs=0.01)


def test_offset_on_an_apple_gpu(mps):
    on_gpu = half_left().to("mps")
    assert on_gpu.device == mps
    assert receptive_field_offset(on_gpu) == pytest.approx(receptive_field_offset(half_left()), abs=1e-3)


def test_offset_of_a_network_with_one_channel():
    """Stride 4, padded by 2 above and left only: output pixel i is centred on input pixel 4i - 1, at 4i - 0.5."""
    net = nn.Sequential(nn.ZeroPad2d((2, 0, 2, 0)), nn.Conv2d(1, 4, 3, stride=4))
    clf = stack(*net)
    assert clf.channels == 1
    assert receptive_field_offset(clf) == pytest.approx((-2.5, -2.5), abs=0.01)


def test_offset_is_the_same_in_every_grad_mode():
    plain = receptive_field_offset(half_left())
    for mode in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        clf = half_left()
        with mode():
            assert receptive_field_offset(clf) == plain


def test_a_network_that_ignores_its_input_has_no_offset():
    clf = half_left()
    assert clf.head.layer == "2", "the network still works"
    nn.init.zeros_(clf.module[0].weight)
    with pytest.raises(CamError, match="do not depend on the input"):
        receptive_field_offset(clf)


@pytest.mark.parametrize(("h", "w"), [(300, 451), (640, 427), (64, 64)])
@pytest.mark.parametrize(("make", "offset"), [(half_left, -3.5), (half_right, 3.5)])
def test_an_offset_moves_a_peak_to_where_the_cell_looks(h, w, make, offset):
    clf = make()
    view = clf.view(np.zeros((h, w, 3), np.uint8))
    hot = torch.zeros(8, 8)
    hot[4, 3] = 1
    y, x = coordinates(h, w)
    centres = []
    for measured in ((0.0, 0.0), receptive_field_offset(clf)):
        heat = place(hot, view, measured).nan_to_num(0)
        centres.append([float((heat * axis).sum() / heat.sum()) for axis in (y, x)])
    for drawn, looked, side, resized in zip(*centres, (h, w), view.resized, strict=True):
        assert looked - drawn == pytest.approx(offset * side / resized, abs=0.5)


def test_an_offset_leaves_nan_where_the_network_never_looked():
    clf = half_left()
    view = clf.view(np.zeros((300, 451, 3), np.uint8))
    maps = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(0))
    plain, moved = place(maps, view), place(maps, view, receptive_field_offset(clf))
    assert torch.equal(plain.isnan(), moved.isnan())
    inside = ~plain[0].isnan()
    assert torch.isfinite(moved[:, inside]).all()
    assert not torch.allclose(moved[:, inside], plain[:, inside], atol=0.1)
    assert moved[:, inside].max() <= maps.max()
    assert moved[:, inside].min() >= maps.min()


def test_offset_of_half_precision_and_of_a_compiled_network():
    """Whatever the classifier takes: its precision, and the layers that torch.compile would fuse."""
    clf = half_left()
    expected = receptive_field_offset(clf)
    half = replace(clf, module=copy.deepcopy(clf.module).bfloat16())
    assert receptive_field_offset(half) == pytest.approx(expected, abs=0.2)
    fused = torch.compile(copy.deepcopy(clf.module), backend="eager")
    fused(torch.rand(geometry.BATCH, 3, clf.size, clf.size).requires_grad_().clone())
    assert receptive_field_offset(replace(clf, module=fused)) == pytest.approx(expected, abs=1e-3)


@pytest.mark.slow
def test_offset_of_the_bundled_network(clf):
    """A few pixels down, by the gradient here; patches pasted at known places (chapter 05) say about two."""
    single = geometry._measured_offsets(clf)
    standard_error = single.std(0) / len(single) ** 0.5
    assert standard_error.max() < 1.5
    dy, dx = single.mean(0).tolist()
    assert 0 < dy < 8
    assert -2 < dx < 6


@pytest.mark.slow
def test_offset_of_resnet18_is_half_a_cell():
    """Five strides of 2, each centred on the left pixel of a pair: -(1 + 2 + 4 + 8 + 16) / 2 = -15.5. The window's edge
    cuts off a little of the field.
    """
    torch.manual_seed(0)
    clf = load_model(models.resnet18(weights=None).eval())
    assert receptive_field_offset(clf) == pytest.approx((-15, -15), abs=2)


def test_a_frozen_backbone():
    class Frozen(nn.Module):
        def __init__(self, net, frozen):
            super().__init__()
            self.net, self.frozen = net, frozen

        def forward(self, x):
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
                f = self.net[:2](x)
            return self.net[4](f.mean((2, 3)))

    frozen, free = (receptive_field_offset(load_model(Frozen(tiny(), way).eval(), size=64)) for way in (True, False))
    assert frozen == free
