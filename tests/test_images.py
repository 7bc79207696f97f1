"""Every kind of picture becomes the same upright RGB array; every broken one an ImageError, cheaply."""

import io
import re
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image, ImageFile

from camlib import ImageError, read_image
from camlib.images import ImageWarning, check_photo, decode, from_pil

CAT = "data/photos/cat.jpg"


@pytest.fixture(scope="module")
def rgb():
    """A picture without symmetry: colours and a gradient."""
    y, x = np.mgrid[0:40, 0:60]
    return np.stack([x * 4, y * 6, (x + y) * 2], axis=-1).astype(np.uint8)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *chunks: bytes, interlaced: int = 0) -> bytes:
    """A PNG, byte by byte; each row begins with its filter, 0."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    data = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(chunks) + data + chunk(b"IEND", b"")


def png_of(values: np.ndarray, *chunks: bytes) -> bytes:
    """A PNG of an array (H, W) or (H, W, C) of uint8 or uint16."""
    height, width, channels = values.shape if values.ndim == 3 else (*values.shape, 1)
    rows = [b"\0" + row.astype(f">u{values.itemsize}").tobytes() for row in values]
    return png(width, height, 8 * values.itemsize, {1: 0, 2: 4, 3: 2, 4: 6}[channels], b"".join(rows), *chunks)


def tiff(
    values: np.ndarray,
    photometric: int | None = None,
    bits: int | None = None,
    strips: list[bytes] | None = None,
    rows: int | None = None,
    **tags: int,
) -> bytes:
    """A TIFF, byte by byte, in the byte order of the array; `t281=5` adds tag 281. Strips replace the array's bytes."""
    height, width, channels = values.shape if values.ndim == 3 else (*values.shape, 1)
    order = ">" if values.dtype.byteorder == ">" else "<"
    photometric = (2 if channels >= 3 else 1) if photometric is None else photometric
    strips = [values.tobytes()] if strips is None else strips
    offsets = [8 + sum(map(len, strips[:n])) for n in range(len(strips))]
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    entries = {
        256: ("H", [width]),
        257: ("H", [height]),
        258: ("H", [bits or 8 * values.itemsize] * channels),
        259: ("H", [1]),
        262: ("H", [photometric]),
        273: ("I", offsets),
        277: ("H", [channels]),
        278: ("H", [rows or height]),
        279: ("I", [len(strip) for strip in strips]),
        339: ("H", [kind] * channels),
    } | {int(tag[1:]): ("H", [value]) for tag, value in tags.items()}
    start = 8 + sum(map(len, strips))
    directory, outside = b"", b""
    for tag, (letter, numbers) in sorted(entries.items()):
        packed = struct.pack(f"{order}{len(numbers)}{letter}", *numbers)
        if len(packed) > 4:
            where = struct.pack(order + "I", start + 2 + 12 * len(entries) + 4 + len(outside))
            packed, outside = where, outside + packed
        directory += struct.pack(order + "HHI", tag, {"H": 3, "I": 4}[letter], len(numbers)) + packed.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, start)
    return head + b"".join(strips) + struct.pack(order + "H", len(entries)) + directory + b"\0" * 4 + outside


def grays(data: bytes, **options) -> list[int]:
    """The first row of a gray picture, as read."""
    photo = decode(data, "picture", **options)
    assert (photo == photo[..., :1]).all()
    return photo[0, :, 0].tolist()


@pytest.fixture
def quiet():
    """A warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".bmp"])
def test_lossless_formats(tmp_path, rgb, suffix):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(rgb).save(path, **({"lossless": True} if suffix == ".webp" else {}))
    photo = read_image(path)
    assert photo.dtype == np.uint8
    assert np.array_equal(photo, rgb)


def test_jpeg_as_another_library_reads_it():
    assert np.array_equal(read_image(CAT), iio.imread(CAT))


def test_gif_first_frame(tmp_path):
    red, blue = (Image.new("RGB", (8, 6), colour) for colour in ("red", "blue"))
    red.save(tmp_path / "a.gif", save_all=True, append_images=[blue])
    assert read_image(tmp_path / "a.gif")[0, 0].tolist() == [255, 0, 0]


def test_gray_bilevel_and_palette(tmp_path, rgb):
    image = Image.fromarray(rgb)
    for mode in ("L", "1", "P"):
        image.convert(mode).save(tmp_path / f"{mode}.png")
    gray = np.asarray(image.convert("L"))
    assert np.array_equal(read_image(tmp_path / "L.png"), np.repeat(gray[..., None], 3, axis=2))
    assert set(np.unique(read_image(tmp_path / "1.png"))) == {0, 255}
    assert np.array_equal(read_image(tmp_path / "P.png"), np.asarray(image.convert("P").convert("RGB")))


def test_16_bit_gray_is_scaled_by_its_type(tmp_path):
    deep = np.array([[0, 257 * 100, 65535], [257 * 3, 257 * 200, 255]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    Image.fromarray(deep).save(tmp_path / "a.tif")
    for name in ("a.png", "a.tif"):
        assert read_image(tmp_path / name)[..., 0].tolist() == [[0, 100, 255], [3, 200, 1]]


def test_integers_beyond_16_bits_are_refused(tmp_path):
    Image.fromarray(np.array([[0, 70_000]], np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(ImageError, match="integers from 0 to 70000"):
        read_image(tmp_path / "a.tif")


def test_size_is_checked_whatever_pillow_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    (tmp_path / "large.png").write_bytes(png_header(60_000, 60_000))
    with pytest.raises(ImageError, match="declares 60000×60000 pixels"):
        read_image(tmp_path / "large.png")


def test_transparency_lies_on_white(tmp_path):
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 51]]], np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0].tolist() == [[10, 20, 30], [255, 255, 255], [204, 204, 204]]
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putdata([0, 1])
    palette.save(tmp_path / "p.png", transparency=1)
    assert read_image(tmp_path / "p.png")[0].tolist() == [[255, 0, 0], [255, 255, 255]]


def test_cmyk(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    r, g, b = read_image(tmp_path / "a.jpg")[4, 4].tolist()
    assert r > 240
    assert g < 15
    assert b < 15


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, rgb, orientation):
    turned = {
        1: rgb,
        2: rgb[:, ::-1],
        3: rgb[::-1, ::-1],
        4: rgb[::-1],
        5: rgb.transpose(1, 0, 2),
        6: np.rot90(rgb, 1),
        7: rgb[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(rgb, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(turned)).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png"), rgb)


def test_broken_metadata_does_not_hide_the_picture(tmp_path, rgb):
    Image.fromarray(rgb).save(tmp_path / "a.png", exif=b"Exif\0\0garbage")
    assert np.array_equal(read_image(tmp_path / "a.png"), rgb)


def test_non_ascii_name_and_str_or_path(tmp_path, rgb):
    path = tmp_path / "Kätzchen 猫 🐈.png"
    Image.fromarray(rgb).save(path)
    assert np.array_equal(read_image(path), read_image(str(path)))


# --- more than 8 bits ------------------------------------------------------------------------------------------------


def tones(kind: str, white: float) -> np.ndarray:
    """Black, dark, light and white, twice, so that each type stores 0, 85, 170 and 255 of 255 exactly."""
    return (np.array([[0, 85, 170, 255]] * 2) * (white / 255)).astype(kind)


WHITE_IS_ZERO = {
    "uint8": ("u1", 255),
    "uint16": ("<u2", 65535),
    "uint16, big endian": (">u2", 65535),
    "float16": ("<f2", 1),
    "float32": ("<f4", 1),
    "float32, big endian": (">f4", 1),
    "float64": ("<f8", 1),
}


@pytest.mark.parametrize("kind", WHITE_IS_ZERO)
@pytest.mark.parametrize(("photometric", "right"), [(0, [255, 170, 85, 0]), (1, [0, 85, 170, 255])])
def test_tiff_black_or_white_is_zero(kind, photometric, right, quiet):
    values = tones(*WHITE_IS_ZERO[kind])
    assert grays(tiff(values, photometric)) == right
    rows = [row.tobytes() for row in values]
    assert grays(tiff(values, photometric, strips=rows, rows=1)) == right


@pytest.mark.parametrize("kind", ["u1", "<u2", "<f4"])
@pytest.mark.parametrize("lazy", [True, False])
def test_tiff_white_is_zero_compressed_and_through_pil(kind, lazy, quiet):
    values = tones(kind, {"u1": 255, "<u2": 65535, "<f4": 1}[kind])
    data = tiff(values, 0, strips=[zlib.compress(values.tobytes())], t259=8)
    assert grays(data) == [255, 170, 85, 0]
    image = Image.open(io.BytesIO(data))
    if not lazy:
        image.load()
    assert from_pil(image)[0, :, 0].tolist() == [255, 170, 85, 0]


def test_tiff_white_is_zero_of_1_and_4_bits(quiet):
    shape = np.zeros((2, 8), np.uint8)
    assert grays(tiff(shape, 0, bits=1, strips=[b"\x0f\x0f"])) == [255] * 4 + [0] * 4
    assert grays(tiff(shape[:, :4], 0, bits=4, strips=[b"\x05\xaf\x05\xaf"])) == [255, 170, 85, 0]


COLOURS = np.array([[[0, 85, 255], [170, 255, 0]], [[255, 0, 85], [17, 34, 51]]], np.uint8)


@pytest.mark.parametrize("kind", ["<f2", "<f4", ">f4", "<f8", ">f8", "<u2", ">u2"])
def test_rgb_tiff_with_deep_colours(kind, quiet):
    white = 1 if "f" in kind else 65535
    values = (COLOURS * (white / 255)).astype(kind)
    planes = [plane.tobytes() for plane in values.transpose(2, 0, 1)]
    half_planes = [row.tobytes() for plane in values.transpose(2, 0, 1) for row in plane]
    for data in (
        tiff(values),
        tiff(values, strips=[row.tobytes() for row in values], rows=1),
        tiff(values, strips=planes, t284=2),
        tiff(values, strips=half_planes, rows=1, t284=2),
    ):
        assert np.array_equal(decode(data, "rgb"), COLOURS)


def test_16_bit_planes_through_pil(quiet):
    values = COLOURS.astype("<u2") * 257
    data = tiff(values, strips=[plane.tobytes() for plane in values.transpose(2, 0, 1)], t284=2)
    assert np.array_equal(from_pil(Image.open(io.BytesIO(data))), COLOURS)
    loaded = Image.open(io.BytesIO(data))
    loaded.load()
    with pytest.raises(ImageError, match="planes wrongly; pass its path"):
        from_pil(loaded)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint16, np.uint8])
def test_rgb_tiff_written_by_opencv(tmp_path, kind):
    cv2 = pytest.importorskip("cv2")
    white = np.iinfo(kind).max if np.issubdtype(kind, np.integer) else 1
    cv2.imwrite(str(tmp_path / "a.tif"), (COLOURS[..., ::-1] * (white / 255)).astype(kind))  # OpenCV's order is BGR
    assert np.array_equal(read_image(tmp_path / "a.tif"), COLOURS)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("kind", ["u1", "<f4"])
def test_orientation_of_a_tiff(orientation, kind):
    right = decode(tiff(COLOURS), "upright")
    turned = np.rot90(COLOURS, {1: 0, 3: 2, 6: 1, 8: -1}[orientation])
    values = np.ascontiguousarray(turned * (1 / 255 if kind == "<f4" else 1)).astype(kind)
    assert np.array_equal(decode(tiff(values, t274=orientation), "turned"), right)


REFUSED_TIFFS = {
    "compressed floats": (
        tiff(tones("<f4", 1)[..., None].repeat(3, 2), strips=[b""], t259=5),
        "3 channels of 32-bit fl",
    ),
    "LZW": (tiff(tones("<f8", 1), strips=[b""], t259=5), r"gray, compressed \(LZW\), in strips; camlib does not read"),
    "tiles": (tiff(tones("<f8", 1), t322=16, t323=16), "1 channel of 64-bit floats, gray, not compressed, in tiles"),
    "floats with opacity": (tiff(np.zeros((2, 2, 4), "<f4")), "4 channels of 32-bit floats, RGB"),
    "10 bits": (tiff(np.zeros((2, 4), "u1"), bits=10), "1 channel of 10-bit integers"),
    "ICC LAB": (tiff(np.zeros((2, 2, 3), "u1"), 9), "8-bit integers, ICC LAB"),
    "LogLuv": (tiff(np.zeros((2, 2), "<u2"), 32845), "photometric interpretation 32845"),
    "a strip is missing": (tiff(tones("u1", 255), strips=[b"\1" * 4], rows=1), "too few strips"),
    "a float strip is missing": (tiff(tones("<f8", 1), strips=[b"\1" * 32], rows=1), "less data than its size needs"),
    "a plane is missing": (tiff(COLOURS, strips=[b"\1" * 4] * 2, t284=2), "too few strips"),
    "floats cut off": (tiff(tones("<f8", 1), t257=60_000, t278=60_000), "less data than its size needs"),
    "directory cut off": (
        tiff(tones("<f8", 1))[:-60],
        "directory of tags cannot be read: the file is damaged or cut off",
    ),
    "negative": (tiff(tones("<i2", 255) - np.int16(100)), r"integers from -100 to 155.*window=\(-100, 155\)"),
    "negative, 8 bits": (tiff(np.array([[-86, 85]], "i1")), "integers from -86 to 85"),
    "floats to 255": (tiff(tones("<f4", 255)), r"floats from 0 to 255.*window=\(0, 255\) shows all"),
}


@pytest.mark.parametrize("kind", REFUSED_TIFFS)
def test_tiffs_that_are_refused(kind):
    data, says = REFUSED_TIFFS[kind]
    with pytest.raises(ImageError, match=says):
        decode(data, "a.tif")


def test_floats_are_scaled_by_a_rule_and_not_by_their_content():
    assert grays(tiff(np.full((2, 2), 0.8, "<f4"))) == [204, 204]
    assert grays(tiff(np.array([[0, 1 + 1e-4]], "<f4"))) == [0, 255]  # rounds to white
    with pytest.raises(ImageError, match="floats from 0.8 to 1.1"):
        decode(tiff(np.array([[0.8, 1.1]], "<f4")), "a.tif")
    assert grays(tiff(np.array([[0.8, 1.1]], "<f4")), window=(0, 1)) == [204, 255]


def shown_to(white: int) -> str:
    """What the warning says of a picture whose largest value was taken for white, as a pattern."""
    return rf"is shown from 0 \(black\) to {white} \(white\), its largest value\. For a fixed scale, pass window="


@pytest.mark.parametrize("depth", [8, 10, 12, 14])
@pytest.mark.parametrize("file", ["png", "tif", "big tif", "pil", "pil, mode I"])
def test_fewer_bits_in_16_are_read_and_reported(depth, file):
    top = 2**depth - 1
    stored = [0, round(top * 0.2), white := round(top * 0.9)]  # the largest is not the largest of these bits
    right = [round(255 * v / white) for v in stored]
    values = np.array([stored], np.uint16)
    dark = r"If the picture is meant to be dark, pass window=\(0, 65535\)"
    says = rf"above {white}, although its type allows 65535, so the picture {shown_to(white)}.*{dark}"
    with pytest.warns(ImageWarning, match=says) as w:
        match file:
            case "png":
                photo = decode(png_of(values), "ct.png")
            case "tif":
                photo = decode(tiff(values), "ct.tif")
            case "big tif":
                photo = decode(tiff(values.astype(">u2")), "ct.tif")
            case "pil":
                photo = from_pil(Image.fromarray(values))
            case _:
                photo = from_pil(Image.fromarray(values.astype(np.int32)))
    assert photo[0, :, 0].tolist() == right
    assert [warning.filename for warning in w] == [__file__]


def test_an_x_ray_shows_what_its_window_shows(tmp_path):
    gray = np.asarray(Image.open(CAT).convert("L"))
    Image.fromarray(gray.astype(np.uint16) * 16).save(tmp_path / "ct.png")
    with pytest.warns(ImageWarning, match=rf"ct\.png: no value is above.*{shown_to(16 * int(gray.max()))}"):
        photo = read_image(tmp_path / "ct.png")
    white = int(gray.max())
    right = np.array([round(255 * v / white) for v in range(white + 1)])
    assert np.array_equal(photo[..., 0], right[gray])
    assert np.array_equal(read_image(tmp_path / "ct.png", window=(0, 16 * white)), photo)
    assert np.array_equal(read_image(tmp_path / "ct.png", window=(0, 4080))[..., 0], gray)
    assert read_image(tmp_path / "ct.png", window=(0, 65535)).max() == 12


@pytest.mark.parametrize("brightest", [0, 2**14, 30_000, 65535])
def test_real_16_bit_pictures_stay_as_they_are(brightest, quiet):
    values = np.array([[0, brightest // 3, brightest]], np.uint16)
    for data in (png_of(values), tiff(values)):
        assert grays(data) == [round(int(v) / 257) for v in values[0]]


@pytest.mark.parametrize("read", [lambda data: decode(data, "a"), lambda data: from_pil(Image.open(io.BytesIO(data)))])
def test_warnings_as_errors_stay_warnings(read, quiet, monkeypatch):
    with pytest.raises(ImageWarning, match=shown_to(3003)):
        read(png_of(DARK))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    with pytest.raises(Image.DecompressionBombWarning):
        read(png_of(np.zeros((2, 3), np.uint8)))


def sbit(bits: int) -> bytes:
    return chunk(b"sBIT", bytes([bits]))


DARK = np.array([[0, 1001, 3003]], np.uint16)
SCALED = np.array([[0, 16, 800]], np.uint16)  # 12 bits as a PNG should scale them: 0, 1 and 50, 16 times
DECLARED = {
    "BitsPerSample 12": (tiff(np.zeros((1, 4), "u1"), bits=12, strips=[b"\0\x05\x55\xaa\xaf\xff"]), [0, 85, 170, 255]),
    "BitsPerSample 12, dark": (tiff(np.zeros((1, 4), "u1"), bits=12, strips=[b"\0\0\x64\x0c\x81\x2c"]), [0, 6, 12, 19]),
    "MaxSampleValue 4095": (tiff(DARK, t281=4095), [0, 62, 187]),
    "MaxSampleValue 16383": (tiff(DARK, t281=16383), [0, 16, 47]),
    "MaxSampleValue 65535": (tiff(DARK, t281=65535), [0, 4, 12]),
    "sBIT 16": (png_of(DARK, sbit(16)), [0, 4, 12]),
    "sBIT 12, not scaled": (png_of(DARK, sbit(12)), [0, 62, 187]),
    "sBIT 12, scaled": (png_of(SCALED, sbit(12)), [0, 0, 3]),
    "signed": (tiff(np.array([[0, 10_000, 32767]], "<i2")), [0, 78, 255]),
}


@pytest.mark.parametrize("kind", DECLARED)
def test_a_declared_range_is_used_without_a_warning(kind, quiet):
    data, right = DECLARED[kind]
    assert grays(data) == right
    assert from_pil(Image.open(io.BytesIO(data)))[0, :, 0].tolist() == right


def test_a_maximum_that_is_only_a_statistic_declares_nothing():
    with pytest.warns(ImageWarning, match=shown_to(3003)):
        assert grays(tiff(DARK, t281=3003)) == [0, 85, 255]


WINDOWS = {
    "8 bits": (tiff(np.array([[0, 50, 100, 150, 255]], "u1")), (50, 150)),
    "8 bits, PNG": (png_of(np.array([[0, 50, 100, 150, 255]], np.uint8)), (50, 150)),
    "16 bits": (tiff(np.array([[0, 1000, 1500, 2000, 9999]], "<u2")), (1000, 2000)),
    "16 bits, PNG": (png_of(np.array([[0, 1000, 1500, 2000, 9999]], np.uint16)), (1000, 2000)),
    "signed": (tiff(np.array([[-1024, -160, 40, 240, 3000]], "<i2")), (-160, 240)),
    "signed, 8 bits": (tiff(np.array([[-128, -20, 10, 40, 127]], "i1")), (-20, 40)),
    "32 bits": (tiff(np.array([[0, 10**6, 15 * 10**5, 2 * 10**6, 10**9]], "<i4")), (10**6, 2 * 10**6)),
    "floats": (tiff(np.array([[-9, 100, 150, 200, 255]], "<f4")), (100, 200)),
    "colours of 16 bits": (
        png_of(np.array([[[v] * 3 for v in (0, 1000, 1500, 2000, 9999)]], np.uint16)),
        (1000, 2000),
    ),
    "float colours": (tiff(np.array([[[v] * 3 for v in (-9, 100, 150, 200, 255)]], "<f4")), (100, 200)),
}


@pytest.mark.parametrize("kind", WINDOWS)
def test_window(kind, quiet):
    data, window = WINDOWS[kind]
    assert grays(data, window=window) == [0, 0, 128, 255, 255]
    if kind != "float colours":
        assert from_pil(Image.open(io.BytesIO(data)), window)[0, :, 0].tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize("kind", ["u1", "<u2", "<f4", ">u2"])
def test_window_of_stored_values_where_white_is_zero(kind, quiet):
    assert grays(tiff(np.array([[0, 50, 100, 150, 255]], kind), 0), window=(50, 150)) == [255, 255, 127, 0, 0]


@pytest.mark.parametrize("window", [(5, 5), (9, 2), (0, np.inf), (np.nan, 1), 5, (1, 2, 3), "ab", (None, 1)])
def test_windows_that_are_none(window):
    with pytest.raises(ImageError, match="must be two numbers, the lower one first"):
        decode(png_of(DARK), "a.png", window)
    with pytest.raises(ImageError, match="must be two numbers, the lower one first"):
        from_pil(Image.new("L", (2, 2)), window)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK", "LA"])
def test_a_window_is_refused_where_it_means_nothing(mode):
    with pytest.raises(ImageError, match=f"window is for gray pictures.*this picture is {mode}"):
        from_pil(Image.new(mode, (2, 2)), (0, 9))


COLOUR16 = np.array([[[0, 1001, 3003], [4095, 2048, 7]]], np.uint16)


@pytest.mark.parametrize(
    "file", ["png", "<u2", ">u2", "deflate", "with opacity", "gray with opacity", "tif with opacity"]
)
@pytest.mark.parametrize("through", ["decode", "from_pil"])
def test_fewer_bits_in_16_bit_colours(file, through):
    opacity = np.array([[[65535], [0]]], np.uint16)  # the second pixel is clear
    white, right = 4095, np.array([[[0, 62, 187], [255, 128, 0]]])
    if file == "png":
        data = png_of(COLOUR16)
    elif file == "deflate":
        data = tiff(COLOUR16, strips=[zlib.compress(COLOUR16.tobytes())], t259=8)
    elif file == "gray with opacity":
        data = png_of(np.dstack([COLOUR16[..., 1:2], opacity]))
        white, right = 2048, np.array([[[125, 125, 125], [255, 255, 255]]])
    elif "opacity" in file:
        values = np.dstack([COLOUR16, opacity])
        data = png_of(values) if file == "with opacity" else tiff(values, t338=2)
        right = np.array([[[0, 62, 187], [255, 255, 255]]])
    else:
        data = tiff(COLOUR16.astype(file))
    with pytest.warns(ImageWarning, match=shown_to(white)):
        photo = decode(data, "a") if through == "decode" else from_pil(Image.open(io.BytesIO(data)))
    assert np.array_equal(photo, right)


# --- transparency of a single gray or colour -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("depth", "row", "key", "right"),
    [
        (1, b"\xa0", 0, [255, 255, 255]),
        (1, b"\xa0", 1, [255, 0, 255]),
        (2, b"\x18", 1, [0, 255, 170]),
        (4, b"\x05\xa0", 5, [0, 255, 170]),
        (8, bytes([0, 5, 170]), 5, [0, 255, 170]),
        (16, struct.pack(">3H", 257 * 90, 257 * 90 + 1, 65535), 257 * 90, [255, 90, 255]),
    ],
)
def test_a_transparent_gray(depth, row, key, right, quiet):
    data = png(3, 1, depth, 0, b"\0" + row, chunk(b"tRNS", struct.pack(">H", key)))
    assert grays(data) == right
    assert from_pil(Image.open(io.BytesIO(data)))[0, :, 0].tolist() == right


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_transparent_colour(kind, quiet):
    scale = 1 if kind == np.uint8 else 257
    values = np.array([[[10, 20, 200], [10, 20, 200], [30, 40, 250]]], kind) * kind(scale)
    values[0, 1, 0] += 1  # almost the same colour
    data = png_of(values, chunk(b"tRNS", struct.pack(">3H", *values[0, 0])))
    right = [[255, 255, 255], [11 if scale == 1 else 10, 20, 200], [30, 40, 250]]
    assert decode(data, "a.png")[0].tolist() == right
    assert from_pil(Image.open(io.BytesIO(data)))[0].tolist() == right


# --- PIL images ------------------------------------------------------------------------------------------------------

MODES = {  # mode: colour, right RGB
    "1": (255, (255, 255, 255)),
    "L": (7, (7, 7, 7)),
    "LA": ((0, 51), (204, 204, 204)),  # a fifth of black on white
    "La": ((10, 51), (214, 214, 214)),  # 10 of 51 is 50 of 255
    "P": (1, (255, 0, 0)),
    "PA": ((1, 51), (255, 204, 204)),
    "RGB": ((1, 2, 3), (1, 2, 3)),
    "RGBA": ((0, 255, 0, 51), (204, 255, 204)),
    "RGBa": ((10, 20, 30, 51), (214, 224, 234)),
    "RGBX": ((1, 2, 3, 9), (1, 2, 3)),
    "CMYK": ((0, 255, 255, 0), (255, 0, 0)),
    "YCbCr": ((76, 85, 255), (254, 0, 0)),  # JFIF: R = Y + 1.402 (Cr - 128)
    "LAB": ((136, 208, 195), (250, 3, 11)),  # L* 53, a* 80, b* 67: nearly sRGB's red, 53.2, 80.1, 67.2
    "HSV": ((85, 255, 255), (0, 255, 0)),
    "I": (257 * 100, (100, 100, 100)),
    "I;16": (257 * 100, (100, 100, 100)),
    "I;16L": (257 * 100, (100, 100, 100)),
    "I;16B": (257 * 100, (100, 100, 100)),
    "I;16N": (257 * 100, (100, 100, 100)),
    "F": (0.5, (128, 128, 128)),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_pil(mode, quiet):
    colour, right = MODES[mode]
    image = Image.new(mode, (3, 2), colour)
    if mode in ("P", "PA"):
        image.putpalette([0, 0, 255, 255, 0, 0])
    photo = from_pil(image)
    assert photo.shape == (2, 3, 3)
    assert photo.dtype == np.uint8
    assert np.abs(photo.astype(int) - right).max() <= (6 if mode == "LAB" else 1)
    assert image.mode == mode
    photo[:] = 99  # not the image's memory
    assert np.abs(from_pil(image).astype(int) - right).max() <= 6


def files(folder: Path) -> None:
    """One file of each kind."""
    y, x = np.mgrid[0:20, 0:30]
    image = Image.fromarray(np.stack([x * 8, y * 12, (x + y) * 5], axis=-1).astype(np.uint8))
    turned = Image.Exif()
    turned[0x0112] = 6
    for suffix in (".png", ".jpg", ".webp", ".tif"):
        image.save(folder / f"phone{suffix}", exif=turned)
    for mode in ("1", "L", "P", "LA", "RGBA"):
        image.convert(mode).save(folder / f"{mode}.png")
    image.convert("CMYK").save(folder / "cmyk.jpg")
    image.convert("P").save(folder / "clear.gif", transparency=image.convert("P").getpixel((0, 0)))
    image.save(folder / "a.bmp")
    for mode in ("CMYK", "LAB", "F"):
        picture = image.convert("L").convert("F").point(lambda v: v * (1 / 255) + 0) if mode == "F" else image
        picture.convert(mode).save(folder / f"{mode}.tif")
    deep = np.asarray(image).astype(np.uint16) * 257
    (folder / "deep.png").write_bytes(png_of(deep))
    (folder / "gray deep.png").write_bytes(png_of(deep[..., 0]))
    (folder / "deep.tif").write_bytes(tiff(deep.astype("<u2")))
    (folder / "white is zero.tif").write_bytes(tiff(deep[..., 0].astype("<u2"), 0))


@pytest.mark.parametrize("loaded", [False, True])
def test_a_file_opened_by_pil_gives_the_same_array(tmp_path, loaded, quiet):
    files(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 19
    for name in names:
        with Image.open(tmp_path / name) as image:
            if loaded:
                image.load()
            assert np.array_equal(from_pil(image), read_image(tmp_path / name)), name
            assert np.array_equal(from_pil(image), read_image(tmp_path / name)), f"{name}, again"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_orientation_of_a_pil_image(tmp_path, rgb, orientation, suffix):
    back = {5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE}
    back |= {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM}
    back |= {8: Image.Transpose.ROTATE_270}
    image = Image.fromarray(rgb)
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = image.transpose(back[orientation]) if orientation > 1 else image
    turned.save(tmp_path / f"a{suffix}", exif=exif, **({"lossless": True} if suffix == ".webp" else {}))
    for loaded in (False, True):
        with Image.open(tmp_path / f"a{suffix}") as opened:
            if loaded:
                opened.load()
            assert np.array_equal(from_pil(opened), rgb)
    assert np.array_equal(read_image(tmp_path / f"a{suffix}"), rgb)


def test_the_current_frame_of_several(tmp_path):
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
    for suffix in (".gif", ".tif", ".png", ".webp"):
        frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:])
        with Image.open(tmp_path / f"a{suffix}") as image:
            image.seek(1)
            r, _, b = from_pil(image)[0, 0].tolist()
            assert r < 5, suffix
            assert b > 250, suffix


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".gif", ".bmp"])
def test_closed_images(tmp_path, rgb, suffix):
    Image.fromarray(rgb).save(tmp_path / f"a{suffix}")
    with open(tmp_path / f"a{suffix}", "rb") as file:
        lazy = Image.open(file)
    with Image.open(tmp_path / f"a{suffix}") as left:
        pass
    closed, loaded = Image.open(tmp_path / f"a{suffix}"), Image.open(tmp_path / f"a{suffix}")
    closed.close()
    loaded.load()
    loaded.close()
    for image in (closed, loaded) if suffix == ".webp" else (closed, loaded, lazy, left):
        with pytest.raises(ImageError, match="is closed; convert it, or call its load"):
            from_pil(image)
    if suffix == ".webp":  # PIL has the whole file in memory
        assert np.array_equal(from_pil(lazy), from_pil(left))


@pytest.mark.parametrize("image", [None, CAT, np.zeros((2, 2, 3), np.uint8)])
def test_what_is_no_pil_image(image):
    with pytest.raises(ImageError, match="from_pil takes a PIL image, not"):
        from_pil(image)


def test_pil_images_that_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ImageError, match="has no pixels"):
        from_pil(Image.new("RGB", (0, 4)))
    (tmp_path / "cut.jpg").write_bytes(Path(CAT).read_bytes()[:9000])
    with pytest.raises(ImageError, match=r"cut\.jpg: cannot be decoded, the file is damaged or cut off"):
        from_pil(Image.open(tmp_path / "cut.jpg"))
    monkeypatch.setattr("camlib.images.MAX_PIXELS", 10)
    with pytest.raises(ImageError, match="declares 4×3 pixels"):
        from_pil(Image.new("RGB", (4, 3)))


# --- what cannot be read ---------------------------------------------------------------------------------------------


def png_header(width: int, height: int) -> bytes:
    return png(width, height, 8, 2, b"\0" * 100)


def bmp_header(width: int, height: int) -> bytes:
    return (
        b"BM"
        + struct.pack("<IHHI", 154, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 100, 0, 0, 0, 0)
    )


def webp_header(width: int, height: int) -> bytes:
    body = (
        b"WEBPVP8X"
        + struct.pack("<I", 10)
        + b"\0\0\0\0"
        + (width - 1).to_bytes(3, "little")
        + (height - 1).to_bytes(3, "little")
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def malformed(folder) -> dict[str, str]:
    """File name -> what the error must say."""
    photo = Path(CAT).read_bytes()
    Image.new("RGB", (300, 300), "red").save(folder / "whole.gif")
    noise = np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)
    says = {}
    for suffix in ("png", "tif", "webp", "bmp", "gif"):
        Image.fromarray(noise).save(folder / f"noise.{suffix}")
        data = (folder / f"noise.{suffix}").read_bytes()
        (folder / f"cut.{suffix}").write_bytes(data[: len(data) // 2])
        says[f"cut.{suffix}"] = "damaged|not a picture"
    files = {
        "empty.jpg": (b"", "empty"),
        "cut.jpg": (photo[:20_000], "damaged or cut off"),
        "header.jpg": (photo[:30], "not a picture|damaged"),
        "text.jpg": (b"this is no picture\n" * 50, "not a picture"),
        "page.png": (b"<!doctype html><html></html>", "not a picture"),
        "vector.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not a picture"),
        "phone.heic": (b"\0\0\0\x18ftypheic" + b"\0" * 40, "HEIC"),
        "large.png": (png_header(60_000, 60_000), "declares 60000×60000 pixels, more than the limit of 100000000"),
        "large.bmp": (bmp_header(60_000, 60_000), "declares 60000×60000 pixels, more than the limit of 100000000"),
        "large.webp": (webp_header(16_000, 16_000), "declares 16000×16000 pixels"),
        "flipped.png": (png_header(40, 40)[:-30] + b"\xff" * 30, "damaged"),
    }
    for name, (data, message) in files.items():
        (folder / name).write_bytes(data)
        says[name] = message
    for name, values in {"nan.tif": [np.nan, 1], "inf.tif": [np.inf, 0], "range.tif": [-5, 1000]}.items():
        Image.fromarray(np.array([values], np.float32)).save(folder / name)
        says[name] = "floats from -5 to 1000" if "range" in name else "NaN or infinite"
    (folder / "folder.jpg").mkdir()
    says |= {"folder.jpg": "is a folder", "missing.jpg": "no such file", "null\0.jpg": "cannot be opened"}
    return says


def test_malformed_files(tmp_path):
    for name, says in malformed(tmp_path).items():
        with pytest.raises(ImageError, match=says) as error:
            read_image(tmp_path / name)
        assert str(tmp_path / name).replace("\0", r"\x00") in str(error.value), name


FAILING = """
import gc, os, re, sys
from pathlib import Path
from camlib import ImageError, read_image
files = [f for f in sorted(Path(sys.argv[1]).iterdir()) if not f.name.startswith(("whole", "noise"))]
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024  # MiB
def fail(times):
    for i in range(times):
        try: read_image(files[i % len(files)])
        except ImageError: pass
        else: raise SystemExit(f"{files[i % len(files)]} was read")
fail(len(files))
gc.collect()
before, handles = peak(), len(os.listdir("/proc/self/fd"))
fail(200)
gc.collect()
print(before, peak() - before, len(os.listdir("/proc/self/fd")) - handles)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts open files and peak memory as Linux shows them")
def test_200_failures_leave_no_file_open_and_memory_flat(tmp_path):
    malformed(tmp_path)
    run = subprocess.run([sys.executable, "-c", FAILING, str(tmp_path)], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    peak, grown, handles = (float(v) for v in run.stdout.split())
    assert peak < 400, f"{peak:.0f} MiB: a declared size was allocated (the largest is 10 GiB)"
    assert grown < 8, f"memory grew by {grown:.1f} MiB"
    assert handles == 0


def test_unreadable_file(tmp_path, monkeypatch):
    def refuse(path, flags):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.png").write_bytes(b"x")
    monkeypatch.setattr("camlib.files.os.open", refuse)  # for root, no file is unreadable
    with pytest.raises(ImageError, match=r"cannot be opened \(Permission denied\)"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("path", [None, 3, b"a.jpg"])
def test_what_is_no_path(path):
    with pytest.raises(ImageError, match="read_image takes a path"):
        read_image(path)


def test_a_file_too_large_for_any_photo_is_not_read(tmp_path):
    with open(tmp_path / "huge.jpg", "wb") as f:
        f.truncate(3 * 2**30)  # sparse: it takes no disk
    with pytest.raises(ImageError, match="3.2 GB"):
        read_image(tmp_path / "huge.jpg")


# --- files that end early --------------------------------------------------------------------------------------------


def adam7(values: np.ndarray) -> bytes:
    """The rows of an interlaced PNG, by its seven passes."""
    steps = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    return b"".join(b"\0" + row.tobytes() for y, x, down, across in steps for row in values[y::down, x::across])


SHORT_PNGS = {
    "RGB": (8, 2, 3, 0),
    "gray": (8, 0, 1, 0),
    "palette": (8, 3, 1, 0),
    "opacity": (8, 6, 4, 0),
    "16 bits": (16, 0, 2, 0),
    "16-bit colours": (16, 2, 6, 0),
    "interlaced": (8, 2, 3, 1),
}


@pytest.mark.parametrize("kind", SHORT_PNGS)
@pytest.mark.parametrize("missing", ["half", "a row", "a byte"])
def test_a_png_that_ends_early(kind, missing):
    depth, colour, size, interlaced = SHORT_PNGS[kind]
    rows = np.full((51, 40 * size), 120, np.uint8)
    raw = adam7(rows.reshape(51, 40, 3)) if interlaced else b"".join(b"\0" + row.tobytes() for row in rows)
    palette = [chunk(b"PLTE", bytes(v for v in range(256) for _ in "RGB"))] if colour == 3 else []
    whole = png(40, 51, depth, colour, raw, *palette, interlaced=interlaced)
    assert decode(whole, "whole.png").min() >= 120
    end = {"half": len(raw) // 2, "a row": -40 * size - 1, "a byte": -1}[missing]
    data = png(40, 51, depth, colour, raw[:end], *palette, interlaced=interlaced)
    with pytest.raises(ImageError, match=r"cut\.png.*damaged or cut off"):
        decode(data, "cut.png")
    with pytest.raises(ImageError, match="damaged or cut off"):
        from_pil(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 8), (17, 1), (1, 17), (33, 20)])
def test_whole_black_pngs_are_read(depth, interlaced, size, quiet):
    width, height = size
    steps = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    raw = b""
    for x, y, across, down in steps if interlaced else [(0, 0, 1, 1)]:
        columns, rows = len(range(x, width, across)), len(range(y, height, down))
        if columns and rows:
            raw += bytes(rows * (1 + (columns * depth + 7) // 8))
    assert decode(png(width, height, depth, 0, raw, interlaced=interlaced), "black.png").shape == (height, width, 3)
    with pytest.raises(ImageError):
        decode(png(width, height, depth, 0, raw[:-1], interlaced=interlaced), "short.png")


def test_a_large_black_png_is_whole(quiet):
    rows = bytes(2000 * 3001)
    assert decode(png(3000, 2000, 8, 0, rows), "black.png").shape == (2000, 3000, 3)
    with pytest.raises(ImageError, match="damaged or cut off"):
        decode(png(3000, 2000, 8, 0, rows[:-3001]), "black.png")


WEBPS = {
    "lossy": {},
    "lossless": {"lossless": True},
    "fast": {"method": 0},
    "fine": {"quality": 100},
    "low": {"quality": 30},
}


@pytest.mark.parametrize("kind", WEBPS)
@pytest.mark.parametrize("opacity", [False, True])
@pytest.mark.parametrize("part", [0.1, 0.33, 0.66, 0.9])
def test_a_webp_that_ends_in_zeros(kind, opacity, part):
    file = io.BytesIO()
    Image.open(CAT).resize((225, 150)).convert("RGBA" if opacity else "RGB").save(file, "WEBP", **WEBPS[kind])
    whole = file.getvalue()
    end = int(part * len(whole))
    data = whole[:end] + bytes(len(whole) - end)
    assert decode(whole, "whole.webp").shape == (150, 225, 3)
    for read in (lambda: decode(data, "cut.webp"), lambda: from_pil(Image.open(io.BytesIO(data)))):
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # where the end might be a plain area, a warning must do
            with pytest.raises((ImageError, ImageWarning), match="bytes of this WebP are zeros: a download may have"):
                read()


def test_a_webp_of_zeros_is_refused_although_all_of_it_is_plain():
    file = io.BytesIO()
    Image.open(CAT).save(file, "WEBP")
    whole = file.getvalue()
    data = whole[:400] + bytes(len(whole) - 400)
    assert np.ptp(np.asarray(Image.open(io.BytesIO(data)))[-8:], axis=1).max() <= 2
    with pytest.raises(ImageError, match="bytes of this WebP are zeros.*If the picture is complete"):
        decode(data, "cut.webp")


@pytest.mark.parametrize("kind", [{"lossless": True, "quality": 0, "method": 0}, {"quality": 100, "method": 0}, {}])
def test_a_webp_with_a_plain_end_is_whole(kind, quiet):
    image = Image.new("RGB", (900, 900), "white")
    image.paste(Image.open(CAT), (20, 20))
    file = io.BytesIO()
    image.save(file, "WEBP", **kind)
    assert kind == {} or file.getvalue().endswith(bytes(500))  # a long run of zeros, and rightly so
    assert np.array_equal(decode(file.getvalue(), "a.webp")[-1, -1], [255, 255, 255])


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError("out of memory error"),
        OSError("decoder error -9"),  # the same, from libtiff
        np._core._exceptions._ArrayMemoryError((9,), np.dtype("u1")),
    ],
)
def test_no_memory_is_not_called_damage(tmp_path, rgb, monkeypatch, error):
    def fail(self):
        raise error

    Image.fromarray(rgb).save(tmp_path / "a.png")
    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    for read in (lambda: read_image(tmp_path / "a.png"), lambda: from_pil(Image.open(tmp_path / "a.png"))):
        with pytest.raises(ImageError, match=r"a\.png: there is not enough free memory") as caught:
            read()
        assert "damaged" not in str(caught.value)


def test_no_memory_for_the_file_or_its_metadata(tmp_path, rgb, monkeypatch):
    def fail(self):
        raise MemoryError

    Image.fromarray(rgb).save(tmp_path / "a.png")
    with monkeypatch.context() as patch:
        patch.setattr("camlib.files.os.fstat", fail)
        with pytest.raises(ImageError, match="not enough free memory"):
            read_image(tmp_path / "a.png")
    monkeypatch.setattr(Image.Image, "getexif", fail)
    with pytest.raises(ImageError, match="not enough free memory"):
        read_image(tmp_path / "a.png")


# --- arrays ----------------------------------------------------------------------------------------------------------

PHOTO = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
LAYOUTS = {  # array: what the error says
    "channels first": (PHOTO.transpose(2, 0, 1), r"channels come first: photo\.transpose\(1, 2, 0\)"),
    "gray": (PHOTO[..., 0], r"is gray: np\.stack\(\[photo\] \* 3, axis=-1\)"),
    "gray, one channel": (PHOTO[..., :1], r"is gray: np\.repeat\(photo, 3, axis=2\)"),
    "gray, channel first": (PHOTO[None, ..., 0], r"is gray: np\.stack\(\[photo\[0\]\] \* 3, axis=-1\)"),
    "RGBA": (np.zeros((4, 5, 4), np.uint8), "last channel is probably opacity"),
    "RGBA, channels first": (np.zeros((4, 5, 6), np.uint8), "channels come first, and the fourth is probably opacity"),
    "batch": (PHOTO[None].repeat(2, 0), r"batch of 2: pass its photos one at a time, photo\[0\] first"),
    "batch, channels first": (PHOTO.transpose(2, 0, 1)[None], r"channels first: pass photo\[0\]\.transpose\(1, 2, 0\)"),
    "two channels": (np.zeros((4, 5, 2), np.uint8), "last channel is probably opacity"),
    "five channels": (np.zeros((6, 7, 5), np.uint8), "read_image"),
    "empty": (np.zeros((0, 4, 3), np.uint8), "has no pixels"),
    "no dimension": (np.uint8(3) + np.zeros((), np.uint8), "read_image|not"),
    "floats to 1": (PHOTO / 255, r"from 0 to 0\.23.*\(photo \* 255\)\.round\(\)\.astype\(np\.uint8\)"),
    "floats to 255": (PHOTO.astype(np.float32), r"from 0 to 59: photo\.round\(\)\.astype\(np\.uint8\)"),
    "normalised floats": (PHOTO / 10 - 2.5, "decide which become black"),
    "NaN": (np.full((4, 5, 3), np.nan), "NaN or infinite"),
    "bool": (PHOTO > 9, r"astype\(np\.uint8\) \* 255"),
    "uint16": (PHOTO.astype(np.uint16) * 257, r"\(photo / 257\)\.round\(\)"),
    "int64": (PHOTO.astype(np.int64), r"photo\.round\(\)\.astype\(np\.uint8\)"),
    "complex": (PHOTO.astype(complex), "not numbers from 0 to 255"),
    "objects": (PHOTO.astype(object), "not numbers from 0 to 255"),
    "masked": (np.ma.masked_array(PHOTO, mask=PHOTO > 9), r"masked array.*photo\.filled\(255\)"),
    "None": (None, "NoneType"),
    "list": (PHOTO.tolist(), "list"),
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_arrays_that_are_no_photo(kind):
    array, says = LAYOUTS[kind]
    with pytest.raises(ImageError, match=r"\(H, W, 3\) uint8 RGB array") as error:
        check_photo(array)
    assert re.search(says, str(error.value)), error.value


@pytest.mark.parametrize("kind", ["channels first", "gray", "gray, one channel", "gray, channel first", "floats to 1"])
def test_the_advice_about_an_array_helps(kind):
    array, _ = LAYOUTS[kind]
    with pytest.raises(ImageError) as error:
        check_photo(array)
    advice = next(part for part in str(error.value).split(": ")[1:] if "photo" in part)
    code = advice.split(" puts")[0].split(" repeats")[0].split(" converts")[0]
    right = PHOTO if kind in ("channels first", "floats to 1") else PHOTO[..., :1].repeat(3, 2)
    assert np.array_equal(check_photo(eval(code, {"np": np, "photo": array})), right)


def test_photos_are_returned_as_they_are(tmp_path):
    assert check_photo(PHOTO) is PHOTO
    Image.fromarray(PHOTO).save(tmp_path / "a.png")
    assert np.array_equal(check_photo(tmp_path / "a.png"), PHOTO)
    assert np.array_equal(check_photo(Image.fromarray(PHOTO)), PHOTO)
