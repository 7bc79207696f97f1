"""Placement against torchvision's own resize and crop, Pillow's resampling and hand computations."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torchvision import models
from torchvision.transforms import v2

from camlib import CamError, ImageError, View, geometry, load_model, place, upsample
from camlib.geometry import receptive_field_offset
from camlib.models import Classifier

SIZES = [(300, 451), (451, 300), (224, 224), (97, 1301), (1301, 97), (33, 35), (640, 427), (2000, 1999)]


def coordinates(h: int, w: int) -> torch.Tensor:
    """(2, h, w): every pixel's own centre, y and x."""
    return torch.stack(torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij"))


@pytest.mark.parametrize(("h", "w"), SIZES)
def test_crop_is_torchvisions(h, w):
    photo = torch.randint(0, 256, (3, h, w), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    view = View.crop((h, w), resize=256, size=224)
    resized = v2.Resize(256)(photo)
    assert view.resized == tuple(resized.shape[1:])
    cropped = v2.CenterCrop(224)(resized)
    top, left = view.offset
    assert torch.equal(cropped, resized[:, top : top + 224, left : left + 224])


@pytest.mark.parametrize(("h", "w"), SIZES)
def test_every_cell_lies_where_the_network_saw_it(h, w):
    """The photo's own coordinates go through torchvision's preprocessing and are averaged per cell; `place` undoes it.

    Bilinear interpolation reproduces a plane exactly, so between the outermost cell centres each pixel must find its
    own coordinates again.
    """
    view = View.crop((h, w), resize=256, size=224)
    seen = v2.CenterCrop(224)(v2.Resize(256, antialias=False)(coordinates(h, w)))
    cells = F.avg_pool2d(seen[None], 32)[0]
    back = place(cells, view)
    left, top, right, bottom = view.box
    half_y, half_x = (bottom - top) / 14, (right - left) / 14  # half a cell on the photo
    y, x = coordinates(h, w)
    inner = (y > top + half_y) & (y < bottom - half_y) & (x > left + half_x) & (x < right - half_x)
    assert inner.any()
    error = (back - coordinates(h, w)).abs()[:, inner]
    assert error.max() < 0.5


@pytest.mark.parametrize(("h", "w"), SIZES)
@pytest.mark.parametrize("kind", ["crop", "whole"])
def test_peak_lies_where_it_was_put(h, w, kind):
    """One hot cell: its centre of mass on the photo is the centre of the cell, from the view's definition alone."""
    view = View.crop((h, w), 256, 224) if kind == "crop" else View.whole((h, w), 224)
    rows, columns = view.size[0] // 32, view.size[1] // 32
    row, column = rows // 2, columns // 3
    hot = torch.zeros(rows, columns)
    hot[row, column] = 1
    heat = place(hot, view).nan_to_num(0)
    y, x = coordinates(h, w)
    expected_y = ((row + 0.5) * view.size[0] / rows + view.offset[0]) * h / view.resized[0]
    expected_x = ((column + 0.5) * view.size[1] / columns + view.offset[1]) * w / view.resized[1]
    if 0 < row < rows - 1:
        assert abs(float((heat * y).sum() / heat.sum()) - expected_y) < 0.5
    if 0 < column < columns - 1:
        assert abs(float((heat * x).sum() / heat.sum()) - expected_x) < 0.5


@pytest.mark.parametrize(("h", "w"), SIZES)
def test_nan_exactly_where_the_network_never_looked(h, w):
    view = View.crop((h, w), 256, 224)
    heat = place(torch.ones(7, 7), view)
    assert heat.shape == (h, w)
    scale_y, scale_x = h / view.resized[0], w / view.resized[1]
    for y, x in np.random.default_rng(0).integers(0, (h, w), (200, 2)):
        inside_y = view.offset[0] <= (y + 0.5) / scale_y <= view.offset[0] + 224
        inside_x = view.offset[1] <= (x + 0.5) / scale_x <= view.offset[1] + 224
        assert bool(heat[y, x].isnan()) != (inside_y and inside_x)
    assert torch.all((heat == 1) | heat.isnan())


def test_whole_view_covers_everything_in_multiples_of_32():
    view = View.whole((300, 451), 224)
    assert view.size == (224, 352)
    assert not place(torch.ones(7, 11), view).isnan().any()


def test_place_without_resize_or_crop_is_upsample():
    maps = torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(0))
    view = View((70, 45), (70, 45), (0, 0), (70, 45))
    torch.testing.assert_close(place(maps, view), upsample(maps, (70, 45)), atol=1e-5, rtol=0)


def test_upsample_is_pillows_bilinear():
    grid = torch.randn(7, 7, generator=torch.Generator().manual_seed(0))
    pillow = Image.fromarray(grid.numpy()).resize((224, 224), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(upsample(grid, (224, 224)), np.asarray(pillow), atol=1e-5)


def test_upsample_by_hand():
    found = upsample(torch.tensor([[0.0, 8.0], [4.0, 4.0]]), (4, 4))
    across_top = torch.tensor([0.0, 2.0, 6.0, 8.0])
    expected = torch.stack([across_top * a + 4 * (1 - a) for a in (1, 0.75, 0.25, 0)])
    torch.testing.assert_close(found, expected)


def test_absurd_proportions_are_refused():
    with pytest.raises(ImageError, match="cut the part that matters"):
        View.crop((1, 10_000), 256, 224)
    with pytest.raises(ImageError, match="cut the part that matters"):
        View.whole((100_000, 1), 224)


def test_maps_need_two_axes():
    with pytest.raises(CamError, match="upsample takes maps"):
        upsample(torch.zeros(7), (2, 2))
    with pytest.raises(CamError, match="place takes maps"):
        place(torch.zeros(7), View.whole((10, 10), 32))


# --- where a cell really looks ---------------------------------------------------------------------------------------


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


def test_offset_is_measured_once_and_leaves_no_trace(monkeypatch):
    clf = half_left()
    clf.module.train()
    clf.module.requires_grad_(False)
    before = {name: value.clone() for name, value in clf.module.state_dict().items()}
    random_state = torch.get_rng_state()
    with torch.inference_mode():
        first = receptive_field_offset(clf)
    monkeypatch.setattr(geometry, "_measured_offsets", lambda clf: pytest.fail("measured again"))
    with torch.no_grad():
        assert receptive_field_offset(clf) == first
    assert all(m.training for m in clf.module.modules())
    assert not any(p.requires_grad or p.grad is not None for p in clf.module.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in clf.module.modules())
    assert all(torch.equal(before[name], value) for name, value in clf.module.state_dict().items())
    assert torch.equal(random_state, torch.get_rng_state())


def test_offset_is_measured_again_when_the_network_has_changed():
    clf = half_left()
    before = receptive_field_offset(clf)
    with torch.no_grad():
        clf.module[0].weight[:, :, :, :2] = 0  # only the right column is left: one pixel further right
    assert receptive_field_offset(clf) == pytest.approx((before[0], before[1] + 1), abs=0.01)


def test_offset_is_the_same_in_every_grad_mode():
    plain = receptive_field_offset(half_left())
    for mode in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        clf = half_left()
        with mode():
            assert receptive_field_offset(clf) == plain


def test_a_network_that_ignores_its_input_has_no_offset():
    clf = half_left()
    assert clf.head  # found while the network still works
    nn.init.zeros_(clf.module[0].weight)
    with pytest.raises(CamError, match="do not depend on the input"):
        receptive_field_offset(clf)


@pytest.mark.parametrize(("h", "w"), [(300, 451), (640, 427), (64, 64)])
@pytest.mark.parametrize(("make", "offset"), [(half_left, -3.5), (half_right, 3.5)])
def test_calibrated_moves_a_peak_by_the_offset(h, w, make, offset):
    clf = make()
    view = clf.view(np.zeros((h, w, 3), np.uint8))
    hot = torch.zeros(8, 8)
    hot[4, 3] = 1
    y, x = coordinates(h, w)
    centres = []
    for calibrated in (False, True):
        heat = place(hot, view, calibrated=calibrated, clf=clf).nan_to_num(0)
        centres.append([float((heat * axis).sum() / heat.sum()) for axis in (y, x)])
    for drawn, looked, side, resized in zip(*centres, (h, w), view.resized, strict=True):
        assert looked - drawn == pytest.approx(offset * side / resized, abs=0.5)


def test_calibrated_leaves_nan_where_nothing_was_looked_at():
    clf = half_left()
    view = clf.view(np.zeros((300, 451, 3), np.uint8))
    maps = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(0))
    plain, calibrated = place(maps, view), place(maps, view, calibrated=True, clf=clf)
    assert torch.equal(plain.isnan(), calibrated.isnan())
    seen = ~plain[0].isnan()
    assert torch.isfinite(calibrated[:, seen]).all()
    assert calibrated[:, seen].max() <= maps.max()
    assert calibrated[:, seen].min() >= maps.min()
    with pytest.raises(CamError, match="give clf"):
        place(maps, view, calibrated=True)


def test_offset_of_half_precision_and_of_a_compiled_network():
    """Whatever the classifier takes: its precision, and the layers that torch.compile would fuse."""
    clf = half_left()
    expected = receptive_field_offset(clf)
    half = replace(clf, module=copy.deepcopy(clf.module).bfloat16(), _cache={})
    assert receptive_field_offset(half) == pytest.approx(expected, abs=0.2)
    fused = torch.compile(copy.deepcopy(clf.module), backend="eager")
    fused(torch.rand(geometry.BATCH, 3, clf.size, clf.size).requires_grad_().clone())
    assert receptive_field_offset(replace(clf, module=fused, _cache={})) == pytest.approx(expected, abs=1e-3)


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
