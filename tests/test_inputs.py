"""What an image may be: every kind becomes the same picture and the same input, and a wrong layout is named."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

from camlib import CamError, ImageError, ModelError, View, explain, explain_all, load_model
from camlib.inputs import as_photo, picture_of, prepare
from tests.networks import scores_of, tiny

MEAN, STD = (0.3, 0.4, 0.5), (0.2, 0.25, 0.3)


@pytest.fixture(scope="module")
def rgb():
    """A small photo: (40, 60, 3)."""
    return np.asarray(Image.open("data/photos/cat.jpg").convert("RGB").resize((60, 40)))


@pytest.fixture(scope="module")
def small():
    return load_model(tiny(), labels=["a", "b", "c"], size=32, mean=MEAN, std=STD)


def normalised(pictures, mean=MEAN, std=STD):
    """(B, 3, H, W) of pictures (B, H, W, 3), in NumPy."""
    x = (np.asarray(pictures, np.float64) / 255 - mean) / std
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))).float()


# --- pictures --------------------------------------------------------------------------------------------------------

KINDS = {
    "path": lambda rgb, path: str(path),
    "Path": lambda rgb, path: path,
    "PIL": lambda rgb, path: Image.fromarray(rgb),
    "opened": lambda rgb, path: Image.open(path),
    "array": lambda rgb, path: rgb,
    "array, not contiguous": lambda rgb, path: np.asfortranarray(rgb),
    "array, read-only": lambda rgb, path: np.frombuffer(rgb.tobytes(), np.uint8).reshape(rgb.shape),
    "tensor (3, H, W)": lambda rgb, path: torch.from_numpy(rgb.transpose(2, 0, 1).copy()),
    "tensor (H, W, 3)": lambda rgb, path: torch.from_numpy(rgb.copy()),
    "opaque PIL": lambda rgb, path: Image.fromarray(rgb).convert("RGBA"),
    "opaque array": lambda rgb, path: np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_picture_is_the_same_photo(small, rgb, tmp_path, kind):
    path = tmp_path / "photo.png"
    Image.fromarray(rgb).save(path)
    recipe = v2.Compose(
        [
            v2.Resize(32),
            v2.CenterCrop(32),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    logits = scores_of(small.module, recipe(Image.fromarray(rgb))[None])[0]
    image = KINDS[kind](rgb, path)
    exp = explain(small, image)
    assert np.array_equal(exp.photo, rgb)
    assert (exp.photo.dtype, exp.photo.flags.c_contiguous) == (np.uint8, True)
    torch.testing.assert_close(exp.logits, logits)
    (other,) = explain_all(small, [image])
    assert torch.equal(other.map("b"), exp.map("b"))


def on_white(rgba):
    """By the definition of opacity."""
    colour, opacity = rgba[..., :3].astype(float), rgba[..., 3:].astype(float) / 255
    return colour * opacity + 255 * (1 - opacity)


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "YCbCr", "HSV", "RGB"])
def test_pil_images_of_several_modes(rgb, mode):
    image = Image.fromarray(rgb).convert(mode)
    expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(as_photo(image), expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_are_white(rgb, mode):
    opacity = np.linspace(0, 255, rgb.shape[0] * rgb.shape[1]).astype(np.uint8).reshape(rgb.shape[:2])
    image = Image.fromarray(rgb).convert(mode)
    image.putalpha(Image.fromarray(opacity))
    expected = on_white(np.asarray(image.convert("RGBA")))
    assert np.abs(as_photo(image) - expected).max() <= 1
    if mode == "RGBA":
        assert np.abs(as_photo(np.asarray(image)) - expected).max() <= 1, "an array (H, W, 4) likewise"
        assert np.abs(as_photo(torch.from_numpy(np.array(image))) - expected).max() <= 1


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),  # the phone was turned: stored lying, to be turned clockwise
        (7, lambda a: a[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda a: np.rot90(a)),
    ],
)
@pytest.mark.parametrize("by", ["path", "image"])
def test_a_phones_photo_is_upright(small, rgb, tmp_path, orientation, upright, by):
    note = Image.Exif()
    note[0x0112] = orientation
    path = tmp_path / "phone.png"
    Image.fromarray(rgb).save(path, exif=note)
    exp = explain(small, path if by == "path" else Image.open(path))
    expected = np.ascontiguousarray(upright(rgb))
    assert np.array_equal(exp.photo, expected)
    assert torch.equal(exp.logits, explain(small, expected).logits)


@pytest.mark.parametrize(
    "make",
    [
        lambda gray: gray,
        lambda gray: gray[:, :, None],
        lambda gray: torch.from_numpy(gray),
        lambda gray: torch.from_numpy(gray)[None],
        lambda gray: torch.from_numpy(gray)[:, :, None],
        lambda gray: Image.fromarray(gray),
    ],
    ids=["(H, W)", "(H, W, 1)", "tensor (H, W)", "tensor (1, H, W)", "tensor (H, W, 1)", "PIL L"],
)
def test_gray_pictures_have_three_equal_channels(rgb, make):
    gray = rgb[:, :, 1].copy()
    assert np.array_equal(as_photo(make(gray)), np.stack([gray] * 3, 2))


@pytest.mark.parametrize(
    "kind", ["array (H, W, 3)", "array (H, W)", "tensor (3, H, W)", "tensor (H, W, 3)", "PIL", "float"]
)
def test_the_callers_buffer_may_be_used_again(small, rgb, kind):
    """A video's frames share one buffer: what was explained must not change with the next frame."""
    frame = rgb.copy()
    if kind == "array (H, W)":
        frame = frame[:, :, 0].copy()
    if kind == "float":
        buffer = normalised(rgb[None])[0]
    elif kind.startswith("tensor"):
        buffer = torch.from_numpy(frame)
        buffer = buffer.permute(2, 0, 1) if kind == "tensor (3, H, W)" else buffer
    else:
        buffer = Image.fromarray(frame) if kind == "PIL" else frame
    exp = explain(small, buffer)
    later = explain(small, buffer, method="grad_cam")
    photo, logits, expected = exp.photo.copy(), exp.logits.clone(), later.map(0).clone()
    if kind == "PIL":
        buffer.paste(0, (0, 0, *buffer.size))
    else:
        buffer[:] = 0
    assert np.array_equal(exp.photo, photo)
    assert torch.equal(exp.logits, logits)
    assert torch.equal(later.map(0), expected)
    assert np.array_equal(exp.overlay(0), explain(small, photo).overlay(0)) or kind == "float"
    torch.testing.assert_close(later.map(1) * later.map(1).numel(), exp.map(1), atol=1e-5, rtol=1e-4)


# --- prepared tensors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 40, 60), (1, 3, 40, 60)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_a_prepared_tensor_is_explained_as_it_is(small, shape, dtype):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    exp = explain(small, x.requires_grad_())
    x = x.detach().float().reshape(1, 3, 40, 60)
    assert torch.equal(exp.logits, scores_of(small.module, x)[0])
    assert exp.view == View((40, 60), (40, 60), (0, 0), (40, 60))
    net = small.module
    with torch.no_grad():
        features = net[1](net[0](x))[0]
    torch.testing.assert_close(exp.maps, torch.einsum("kc,chw->khw", net[4].weight.detach(), features))
    assert exp.heatmap(0).shape == (40, 60)
    assert not exp.heatmap(0).isnan().any()
    with torch.no_grad():
        again = explain(small, x, method="hires_cam")
    torch.testing.assert_close(again.map(2) * features[0].numel(), exp.map(2), atol=1e-5, rtol=1e-4)


def test_its_picture_is_un_normalised(small, rgb):
    """A picture that was normalised comes back to the last bit."""
    exp = explain(small, normalised(rgb[None]))
    assert np.array_equal(exp.photo, rgb)
    extremes = torch.tensor([-100.0, 100.0, 0.0])[:, None, None].expand(3, 8, 8)
    photo = explain(small, extremes).photo
    assert photo.shape == (8, 8, 3)
    assert photo[0, 0].tolist() == [0, 255, round(255 * MEAN[2])], "clipped, never wrapped around"
    assert np.array_equal(exp.overlay("a"), explain(small, normalised(rgb[None])[0]).overlay("a"))


@pytest.mark.parametrize(
    ("channels", "mean", "std", "shown"),
    [
        (1, 0.5, 0.25, [0, 0, 0]),
        (2, (0.5, 0.4), (0.25, 0.2), [0, 0, 0]),
        (3, 0.5, 0.25, [0, 1, 2]),
        (4, (0.1, 0.2, 0.3, 0.4), (0.5, 0.6, 0.7, 0.8), [0, 1, 2]),
        (6, 0.5, 0.25, [0, 1, 2]),
    ],
)
def test_other_numbers_of_channels(channels, mean, std, shown):
    net = tiny(channels)
    clf = load_model(net, size=32, mean=mean, std=std)
    assert clf.channels == channels
    x = torch.randn(1, channels, 32, 48, generator=torch.Generator().manual_seed(0))
    exp = explain(clf, x)
    assert torch.equal(exp.logits, scores_of(net, x)[0])
    assert exp.residual() < 1e-5
    means, stds = (np.broadcast_to(v, channels)[:, None, None] for v in (mean, std))
    pixels = np.rint((x[0].numpy() * stds + means).clip(0, 1) * 255)[shown].transpose(1, 2, 0)
    assert np.abs(exp.photo - pixels).max() <= 1, "to one level: halves are rounded in another precision"
    assert np.array_equal(picture_of(clf, x), exp.photo)
    assert exp.plot().get_label().startswith("The photo")


def test_a_one_channel_network_sees_the_photo_in_gray(rgb):
    net = tiny(1)
    clf = load_model(net, size=40, mean=0.2, std=0.3)
    gray = np.asarray(Image.fromarray(rgb).convert("L"))[:, 10:50]
    expected = torch.from_numpy((gray / 255 - 0.2) / 0.3).float()[None, None]
    exp = explain(clf, rgb)
    torch.testing.assert_close(exp.logits, scores_of(net, expected)[0])
    assert np.array_equal(exp.photo, rgb), "shown in colour"
    torch.testing.assert_close(explain(clf, expected[0]).logits, exp.logits)


def test_half_precision_networks_take_what_they_need(rgb):
    net = tiny()
    expected = explain(load_model(net, size=32, mean=MEAN, std=STD), normalised(rgb[None])).logits
    clf = load_model(net.bfloat16(), size=32, mean=MEAN, std=STD)
    exp = explain(clf, normalised(rgb[None]))
    assert exp.logits.dtype == torch.float32
    torch.testing.assert_close(exp.logits, expected, atol=0.05, rtol=0.05)


# --- several ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pack",
    [
        lambda x: x,
        lambda x: list(x),
        lambda x: x.split(1),
        lambda x: (row for row in x),
        lambda x: x.double(),
        lambda x: next(iter(DataLoader(TensorDataset(x, torch.arange(len(x))), batch_size=len(x))))[0],
    ],
    ids=["batch", "list", "rows (1, C, H, W)", "generator", "float64", "DataLoader"],
)
@pytest.mark.parametrize("method", ["cam", "grad_cam"])
def test_a_batch_of_prepared_tensors(small, pack, method):
    x = torch.randn(4, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    expected = scores_of(small.module, x)
    exps = explain_all(small, pack(x), method=method)
    assert len(exps) == 4
    for exp, logits, row in zip(exps, expected, x, strict=True):
        torch.testing.assert_close(exp.logits, logits)
        torch.testing.assert_close(exp.map(0), explain(small, row, method=method).map(0), atol=1e-6, rtol=1e-5)
        assert np.array_equal(exp.photo, explain(small, row).photo)


@pytest.mark.parametrize("make", [lambda f: f, lambda f: torch.from_numpy(f), lambda f: list(f)])
def test_frames_of_a_video(small, rgb, make):
    """(B, H, W, 3) uint8, as readers of videos give them."""
    frames = np.stack([rgb, rgb[::-1], 255 - rgb])
    exps = explain_all(small, make(frames))
    assert [np.array_equal(exp.photo, frame) for exp, frame in zip(exps, frames, strict=True)] == [True] * 3
    for exp, frame in zip(exps, frames, strict=True):
        torch.testing.assert_close(exp.logits, explain(small, Image.fromarray(frame)).logits)


def test_pictures_and_prepared_tensors_together(small, rgb, tmp_path):
    Image.fromarray(rgb).save(tmp_path / "a.png")
    mixed = [tmp_path / "a.png", normalised(rgb[None, 4:36, 14:46]), rgb]
    exps = explain_all(small, mixed)
    assert [exp.photo.shape for exp in exps] == [(40, 60, 3), (32, 32, 3), (40, 60, 3)]
    for exp, image in zip(exps, mixed, strict=True):
        torch.testing.assert_close(exp.logits, explain(small, image).logits)
    assert explain_all(small, []) == []


# --- what is refused -------------------------------------------------------------------------------------------------

HWC = np.zeros((8, 9, 3), np.uint8)


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (torch.zeros(8, 9, 3), r"channels come last.*x.permute\(2, 0, 1\)"),
        (torch.zeros(1, 8, 9, 3), "channels come last"),
        (
            torch.zeros(5, 8, 9),
            r"takes a prepared tensor \(3, H, W\) or \(B, 3, H, W\), normalised; this is \(5, 8, 9\)",
        ),
        (torch.zeros(1, 1, 8, 9), r"this is \(1, 8, 9\)"),
        (torch.zeros(8, 9), r"this is \(8, 9\)"),
        (torch.zeros(1, 1, 3, 8, 9), r"this is \(1, 1, 3, 8, 9\)"),
        (torch.zeros(3, 0, 9), r"this is \(3, 0, 9\)"),
        (torch.zeros(2, 3, 8, 9), r"batch of 2 pictures \(2, 3, 8, 9\).*explain_all for a batch"),
        (torch.full((3, 8, 9), torch.nan), "NaN or infinite"),
        (torch.full((3, 8, 9), torch.inf), "NaN or infinite"),
        (torch.zeros(3, 8, 9, device="meta"), "on the meta device"),
        (torch.zeros(3, 8, 9, dtype=torch.uint8, device="meta"), "on the meta device"),
        (torch.zeros(3, 8, 3, dtype=torch.uint8), "channels first or last"),
        (torch.zeros(1, 3, 8, 9, dtype=torch.uint8), r"tensor \(1, 3, 8, 9\) of torch.uint8 is neither"),
        (torch.zeros(3, 8, 9, dtype=torch.int64), "of torch.int64 is neither a picture .uint8.*nor a prepared input"),
        (torch.zeros(3, 8, 9, dtype=torch.bool), "of torch.bool is neither"),
        (torch.zeros(3, 8, 9, dtype=torch.complex64), "of torch.complex64 is neither"),
        (torch.zeros(5, 8, 9, dtype=torch.uint8), r"\(5, 8, 9\)"),
        (HWC.transpose(2, 0, 1), r"\(3, 8, 9\)"),
        (HWC[None], r"\(1, 8, 9, 3\)"),
        (HWC[:, :, :2], r"\(8, 9, 2\)"),
        (HWC[:0], r"\(0, 9, 3\)"),
        (HWC[:, :0, 0], r"\(8, 0\)"),
        (HWC / 255, "float64"),
        (HWC.astype(np.float32), "float32"),
        (HWC.astype(np.uint16), "uint16"),
        (HWC.astype(bool), "bool"),
        (HWC.astype(int), "int64"),
        (np.ma.masked_array(HWC), "[Mm]asked"),
        (HWC.tolist(), "list"),
        ([[1], [1, 2]], "list"),
        (None, "NoneType"),
        (7, "int"),
        (b"bytes", "bytes"),
    ],
    ids=lambda value: f"{tuple(value.shape)} {value.dtype}" if hasattr(value, "dtype") else None,
)
def test_a_wrong_layout_is_named(small, image, says):
    with pytest.raises(ImageError, match=says):
        explain(small, image)
    with pytest.raises(ImageError):
        explain_all(small, [image])


@pytest.mark.parametrize("image", [HWC, torch.zeros(3, 64, 64)], ids=["picture", "prepared"])
@pytest.mark.parametrize("method", ["cam", "frozen"])
def test_a_network_that_was_moved_to_the_meta_device(image, method):
    net = tiny()
    clf = load_model(net, size=64)
    net.to("meta")
    with pytest.raises(ModelError, match="parameters on the meta device, which hold no numbers; load its weights"):
        explain(clf, image, method=method)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        ("data/photos/cat.jpg", r"several images; pass \['data/photos/cat.jpg'\]"),
        (Path("data/photos/cat.jpg"), "several images; pass"),
        (Image.new("RGB", (8, 8)), "several images; pass a list of them, not a Image"),
        (HWC, r"this is a single one, \(8, 9, 3\).*in a list"),
        (torch.zeros(3, 8, 8), r"this is a single one, \(3, 8, 8\)"),
        (torch.zeros(8, 8), r"this is a single one, \(8, 8\)"),
        (5, "several images; pass a list of them, not a int"),
        (None, "several images"),
    ],
)
def test_explain_all_takes_several(small, images, says):
    with pytest.raises(CamError, match=says):
        explain_all(small, images)


@pytest.mark.parametrize("options", [{"view": "whole"}, {"sizes": 32}, {"sizes": (32, 64)}])
def test_a_prepared_tensor_has_no_other_view(small, options):
    with pytest.raises(CamError, match="explained as it is; view= and sizes= are only for photos"):
        explain(small, torch.zeros(3, 32, 32), **options)


def test_prepare_says_what_the_network_is_given(small, rgb):
    given = prepare(small, rgb, sizes=(32, 48))
    assert [tuple(x.shape) for x in given.tensors] == [(1, 3, 32, 32), (1, 3, 48, 48)]
    assert [v.size for v in given.views] == [(32, 32), (48, 48)]
    assert not given.prepared
    x = torch.randn(3, 16, 20)
    ready = prepare(small, x)
    assert ready.prepared
    assert torch.equal(ready.tensors[0][0], x)
    assert ready.tensors[0].data_ptr() != x.data_ptr()
