"""Every kind of picture file becomes the same upright RGB array; every broken one an ImageError, cheaply."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from camlib import ImageError, read_image
from camlib.images import check_photo

CAT = "data/photos/cat.jpg"


@pytest.fixture(scope="module")
def rgb():
    """A picture without symmetry: colours and a gradient."""
    y, x = np.mgrid[0:40, 0:60]
    return np.stack([x * 4, y * 6, (x + y) * 2], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".bmp"])
def test_lossless_formats(tmp_path, rgb, suffix):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(rgb).save(path, **({"lossless": True} if suffix == ".webp" else {}))
    found = read_image(path)
    assert found.dtype == np.uint8
    assert np.array_equal(found, rgb)


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


def test_float_tiff(tmp_path):
    Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32)).save(tmp_path / "unit.tif")
    assert read_image(tmp_path / "unit.tif")[0, :, 0].tolist() == [0, 128, 255]
    Image.fromarray(np.array([[0.0, 7.0, 255.0]], np.float32)).save(tmp_path / "bytes.tif")
    assert read_image(tmp_path / "bytes.tif")[0, :, 0].tolist() == [0, 7, 255]


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


# --- what cannot be read ---------------------------------------------------------------------------------------------


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


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
        "large.png": (png_header(60_000, 60_000), "declares 3600000000 pixels, more than"),
        "large.bmp": (bmp_header(60_000, 60_000), "declares 3600000000 pixels, more than"),
        "large.webp": (webp_header(16_000, 16_000), "declares 16000×16000 pixels"),
        "flipped.png": (png_header(40, 40)[:-30] + b"\xff" * 30, "damaged"),
    }
    for name, (data, message) in files.items():
        (folder / name).write_bytes(data)
        says[name] = message
    for name, values in {"nan.tif": [np.nan, 1], "inf.tif": [np.inf, 0], "range.tif": [-5, 1000]}.items():
        Image.fromarray(np.array([values], np.float32)).save(folder / name)
        says[name] = "0 to 1 or 0 to 255" if "range" in name else "NaN or infinite"
    (folder / "folder.jpg").mkdir()
    says |= {"folder.jpg": "is a folder", "missing.jpg": "no such file", "null\0.jpg": "cannot be opened"}
    return says


def test_malformed_files(tmp_path):
    for name, says in malformed(tmp_path).items():
        with pytest.raises(ImageError, match=says) as error:
            read_image(tmp_path / name)
        assert str(tmp_path / name) in str(error.value), name


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
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.png").touch()
    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)  # for root, no file is unreadable
    with pytest.raises(ImageError, match=r"cannot be opened \(Permission denied\)"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("path", [None, 3, b"a.jpg"])
def test_what_is_no_path(path):
    with pytest.raises(ImageError, match="read from a path"):
        read_image(path)


def test_a_file_too_large_for_any_photo_is_not_read(tmp_path):
    with open(tmp_path / "huge.jpg", "wb") as f:
        f.truncate(3 * 2**30)  # sparse: it takes no disk
    with pytest.raises(ImageError, match="3.2 GB"):
        read_image(tmp_path / "huge.jpg")


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 3)),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        None,
    ],
)
def test_arrays_that_are_no_photo(array):
    with pytest.raises(ImageError, match=r"\(H, W, 3\) uint8"):
        check_photo(array)
