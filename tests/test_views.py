"""Views and placement against torchvision's own resize and crop, Pillow's resampling and hand computations."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from torchvision.transforms import v2

import camlib.geometry
from camlib import CamError, ImageError, View, place, upsample

SIZES = [(300, 451), (451, 300), (224, 224), (97, 1301), (1301, 97), (33, 35), (640, 427), (2000, 1999)]


def coordinates(h: int, w: int) -> torch.Tensor:
    """(2, h, w): every pixel's own centre, y and x."""
    return torch.stack(torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij"))


@pytest.mark.parametrize(("h", "w"), SIZES)
@pytest.mark.parametrize(
    ("resize", "size"),
    [(256, 224), (232, 224), (224, 224), (225, 228), (221, 224), (100, 224), (64, (96, 32)), ((224, 224), 224)],
    ids=str,
)
def test_crop_is_torchvisions(h, w, resize, size):
    """Also where the window is larger than the resized photo: that is padded with black, on both sides alike."""
    photo = torch.randint(1, 256, (3, h, w), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    view = View.crop((h, w), resize, size)
    resized = v2.Resize(resize)(photo)
    assert view.resized == tuple(resized.shape[1:])
    high, wide = (size, size) if isinstance(size, int) else size
    assert view.size == (high, wide)
    top, left = view.offset
    below, right = (max(0, o + s - r) for o, s, r in zip(view.offset, view.size, view.resized, strict=True))
    padded = F.pad(resized, (max(0, -left), right, max(0, -top), below))
    window = padded[:, max(0, top) :, max(0, left) :][:, :high, :wide]
    assert torch.equal(v2.CenterCrop(size)(resized), window)


def test_views_stay_importable_from_geometry():
    for name in ("View", "place", "upsample"):
        assert getattr(camlib.geometry, name) is getattr(camlib, name)


@pytest.mark.parametrize(("h", "w"), SIZES)
def test_every_cell_lies_where_the_network_saw_it(h, w):
    """The photo's own coordinates go through torchvision's preprocessing and are averaged per cell; `place` undoes it.

    Bilinear interpolation reproduces a plane exactly, so between the outermost cell centres each pixel must find its
    own coordinates again.
    """
    view = View.crop((h, w), resize=256, size=224)
    window = v2.CenterCrop(224)(v2.Resize(256, antialias=False)(coordinates(h, w)))
    cells = F.avg_pool2d(window[None], 32)[0]
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


@pytest.mark.parametrize(
    ("photo", "size", "expected"),
    [
        ((300, 451), 224, (224, 352)),  # 336.7, rounded to a multiple of 32
        ((451, 300), 224, (352, 224)),
        ((100, 100), 70, (64, 64)),
        ((100, 300), 64, (64, 192)),
        ((100, 300), 63, (63, 189)),  # below 64 nothing is rounded
        ((28, 28), 28, (28, 28)),
        ((32, 48), 32, (32, 48)),
        ((1, 3), 8, (8, 24)),
    ],
)
def test_whole_view_covers_everything(photo, size, expected):
    view = View.whole(photo, size)
    assert view.size == view.resized == expected
    assert view.box == (0, 0, photo[1], photo[0])
    assert not place(torch.ones(7, 11), view).isnan().any()


def test_the_identity_view_is_pixel_for_pixel():
    view = View.identity((5, 7))
    assert view == View((5, 7), (5, 7), (0, 0), (5, 7))
    assert view.box == (0, 0, 7, 5)
    pixels = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(place(pixels, view), pixels)


def test_box_of_a_padded_window_reaches_beyond_the_photo():
    """100 pixels become 50 in a window of 70: 10 of its pixels, 20 of the photo's, lie outside on each side."""
    assert View.crop((100, 100), 50, 70).box == (-20, -20, 120, 120)


def test_an_offset_shifts_by_whole_cells():
    """Cells of 8 pixels, of which each looks 8 pixels further down than it is drawn: the map moves by one row."""
    maps = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(0))
    view = View.identity((32, 32))
    moved = place(maps, view, (8.0, 0.0))
    torch.testing.assert_close(moved[:, 12:], place(maps, view)[:, 4:-8])
    torch.testing.assert_close(moved[:, :12], place(maps, view)[:, :1].expand(2, 12, 32), msg="the border continues")


def test_place_without_resize_or_crop_is_upsample():
    maps = torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(0))
    view = View((70, 45), (70, 45), (0, 0), (70, 45))
    torch.testing.assert_close(place(maps, view), upsample(maps, (70, 45)), atol=1e-5, rtol=0)


def test_upsample_is_pillows_bilinear():
    grid = torch.randn(7, 7, generator=torch.Generator().manual_seed(0))
    pillow = Image.fromarray(grid.numpy()).resize((224, 224), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(upsample(grid, (224, 224)), np.asarray(pillow), atol=1e-5)


def test_upsample_by_hand():
    maps = upsample(torch.tensor([[0.0, 8.0], [4.0, 4.0]]), (4, 4))
    across_top = torch.tensor([0.0, 2.0, 6.0, 8.0])
    expected = torch.stack([across_top * a + 4 * (1 - a) for a in (1, 0.75, 0.25, 0)])
    torch.testing.assert_close(maps, expected)


def test_absurd_proportions_are_refused():
    with pytest.raises(ImageError, match="crop it to the part that matters"):
        View.crop((1, 10_000), 256, 224)
    with pytest.raises(ImageError, match="crop it to the part that matters"):
        View.whole((100_000, 1), 224)


def test_maps_need_two_axes():
    with pytest.raises(CamError, match="upsample takes maps"):
        upsample(torch.zeros(7), (2, 2))
    with pytest.raises(CamError, match="place takes maps"):
        place(torch.zeros(7), View.whole((10, 10), 32))
    with pytest.raises(CamError, match="upsample's size must be .height, width."):
        upsample(torch.zeros(7, 7), (0, 3))
