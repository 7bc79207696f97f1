"""What the live page computes before and after the network, in a real browser: Pillow's and camlib's numbers."""

import random
import shutil
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL import __version__ as pillow

from camlib import read_image
from camlib.errors import ImageError
from camlib.images import decode
from camlib.views import View
from tests.browser.conftest import pages
from tests.browser.live import BLANK, CAT, PAGE, PHOTOS, numbers, put, saved, served

FILTERS = {name: Image.Resampling[name.upper()] for name in ("bicubic", "bilinear", "lanczos")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("modules")
    for module in PAGE.glob("*.js"):
        shutil.copy(module, folder)
    (folder / "index.html").write_text(BLANK, encoding="utf-8")  # instead of the real page
    return folder


@pytest.fixture(scope="module")
def page(browser, folder):
    with served(folder) as address, pages(browser) as new:
        page = new()
        page.goto(address)
        yield page


def noise(rng, height, width):
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def differing(page, folder, photo, resized, name, window=None):
    """How many bytes of the page's resized photo, or of a window of it, are not Pillow's."""
    height, width = photo.shape[:2]
    if int(pillow.split(".")[0]) < 13 and height - resized[0] > max(0, 2 * (width - resized[1])):
        return 0  # older versions never start with the columns; the page does as the pinned one
    offset, size = window or ((0, 0), resized)
    expected = Image.fromarray(photo).resize(resized[::-1], FILTERS[name])
    expected = expected.crop((offset[1], offset[0], offset[1] + size[1], offset[0] + size[0]))
    put(folder, "case.bin", photo, np.array(expected))
    return page.evaluate(
        """async ([size, resized, name, window]) => {
          const { resize } = await import("./resample.js");
          const all = await bytes("case.bin");
          const length = 3 * size[0] * size[1];
          const got = resize(all.subarray(0, length), size, resized, name, window);
          const wanted = all.subarray(length);
          return got.length === wanted.length ? got.filter((byte, i) => byte !== wanted[i]).length : -1;
        }""",
        [photo.shape[:2], resized, name, {"offset": offset, "size": size}],
    )


@pytest.mark.parametrize("name", FILTERS)
def test_resizing_noise_is_pillows_to_the_byte(page, folder, name):
    rng = np.random.default_rng(0)
    sides = [1, 2, 3, 5, 7, 31, 32, 33, 100, 255, 256, 257, 400]
    chosen = random.Random(0)
    for _ in range(120):
        height, width, high, wide = (chosen.choice(sides) for _ in range(4))
        photo = noise(rng, height, width)
        if chosen.random() < 0.3:
            photo = np.where(photo < 128, 0, 255).astype(np.uint8)  # the sums leave 0 to 255
        assert differing(page, folder, photo, (high, wide), name) == 0, (photo.shape, high, wide)
    for shape, resized in (((1, 5000), (700, 3)), ((5000, 1), (2, 900)), ((1, 1), (300, 200)), ((3000, 2), (1, 1))):
        assert differing(page, folder, noise(rng, *shape), resized, name) == 0, (shape, resized)


@pytest.mark.parametrize("name", FILTERS)
def test_resizing_a_photo_is_pillows_to_the_byte(page, folder, name):
    for path in PHOTOS:
        photo = read_image(path)
        for view in (View.crop(photo.shape[:2], 256, 224), View.whole(photo.shape[:2], 224)):
            found = differing(page, folder, photo, view.resized, name, (view.offset, view.size))
            assert found == 0, (path.name, view)


def test_a_window_beyond_the_photo_is_black_there_as_in_pillow(page, folder):
    photo = noise(np.random.default_rng(1), 50, 40)
    for resize, size in ((30, 64), (30, (90, 20)), ((20, 200), 64)):
        view = View.crop((50, 40), resize, size)
        assert differing(page, folder, photo, view.resized, "bicubic", (view.offset, view.size)) == 0, view


def test_a_view_is_camlibs(page):
    chosen = random.Random(0)
    sides = [*range(1, 70), 100, 224, 225, 333, 480, 640, 641, 1000, 3000, 4000, 4032, 12345]
    cases = [((chosen.choice(sides), chosen.choice(sides)), *PLANS[n % len(PLANS)]) for n in range(600)]
    got = page.evaluate(
        """async (cases) => {
          const views = await import("./views.js");
          const one = ([photo, kind, ...recipe]) => {
            try { return views[kind](photo, ...recipe); } catch (error) { return error.name; }
          };
          return cases.map(one);
        }""",
        cases,
    )
    refused = 0
    for (photo, kind, *recipe), found in zip(cases, got, strict=True):
        try:
            view = getattr(View, kind)(photo, *recipe)
        except ImageError:
            refused += 1
            assert found == "RangeError", (photo, kind, recipe, found)
            continue
        names = ("photo", "resized", "offset", "size")
        assert found == {name: list(getattr(view, name)) for name in names}, (photo, kind, recipe)
    assert 0 < refused < 100, "some are too long and thin, most are not"


PLANS = [
    ("crop", 256, 224),
    ("crop", 255, 224),
    ("crop", 32, 32),
    ("crop", 100, 224),  # padded
    ("crop", (256, 300), (224, 288)),
    ("whole", 224),
    ("whole", 240),
    ("whole", 28),
    ("whole", 448),
]


def test_half_precision_is_decoded_exactly(page, folder):
    every = np.arange(2**16, dtype=np.uint16)
    put(folder, "classifier.bin", every)
    got = page.evaluate(
        """async () => {
          const { classifierRows } = await import("./maps.js");
          const rows = classifierRows((await bytes("classifier.bin")).buffer, 256);
          return [rows.length, await text(new Float32Array(rows.flatMap((row) => [...row])))];
        }"""
    )
    assert got[0] == 256
    np.testing.assert_array_equal(numbers(got[1], np.float32), every.view(np.float16).astype(np.float32))


def test_a_map_its_identity_and_its_channels(page, folder):
    rng = np.random.default_rng(2)
    features = rng.random((1280, 7, 10), dtype=np.float32) * 3
    weights = rng.normal(size=1280).astype(np.float32) / 10
    put(folder, "case.bin", weights, features)
    got = page.evaluate(
        """async () => {
          const maps = await import("./maps.js");
          const all = new Float32Array((await bytes("case.bin")).buffer);
          const [weights, features] = [all.subarray(0, 1280), all.subarray(1280)];
          const map = maps.classMap(weights, features, [7, 10]);
          const parts = maps.contributions(weights, features, [7, 10]);
          return [await text(map), maps.identity(map, 0.5, 2), parts];
        }"""
    )
    exact = np.einsum("c,chw->hw", weights.astype(float), features.astype(float))
    np.testing.assert_allclose(numbers(got[0], np.float32).reshape(7, 10), exact, atol=1e-5)
    assert got[1]["mean"] == pytest.approx(exact.mean(), abs=1e-5)
    assert got[1]["error"] == pytest.approx(abs(exact.mean() + 0.5 - 2), abs=1e-5)
    values = weights.astype(float) * features.astype(float).mean((1, 2))
    assert [part["channel"] for part in got[2]] == np.argsort(-values).tolist()
    np.testing.assert_allclose([part["value"] for part in got[2]], np.sort(values)[::-1], atol=1e-5)


# --- picture files ---------------------------------------------------------------------------------------------------


def read_by_the_page(page, folder, content, name):
    """(H, W, 3) uint8 as the page reads a file, or the words with which it refuses it."""
    (folder / "file.bin").write_bytes(content)
    got = page.evaluate(
        """async (name) => {
          const { bitmapOf, bands } = await import("./pictures.js");
          let bitmap;
          try {
            bitmap = await bitmapOf(new File([await bytes("file.bin")], name));
          } catch (error) {
            return error.message;
          }
          const rgb = new Uint8Array(bitmap.width * bitmap.height * 3);
          let out = 0;
          for (const { bytes: band } of bands(bitmap)) {
            for (let i = 0; i < band.length; i += 4) {
              rgb[out++] = band[i];
              rgb[out++] = band[i + 1];
              rgb[out++] = band[i + 2];
            }
          }
          return [bitmap.height, bitmap.width, await text(rgb)];
        }""",
        name,
    )
    return got if isinstance(got, str) else numbers(got[2], np.uint8).reshape(got[0], got[1], 3)


def same(page, folder, content, name, most=0):
    """Check that the page reads a file as camlib does, each value within `most`."""
    got, expected = read_by_the_page(page, folder, content, name), decode(content, name)
    assert not isinstance(got, str), got
    assert got.shape == expected.shape, name
    off = np.abs(got.astype(int) - expected).max()
    print(f"{name}: at most {off} off, {(got != expected).mean():.2%} of the values differ")
    assert off <= most, name


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.name)
def test_the_courses_photos_are_read_as_camlib_reads_them(page, folder, path):
    same(page, folder, path.read_bytes(), path.name)


def test_every_orientation_is_turned_upright(page, folder):
    photo = Image.open(CAT).resize((61, 40))
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[274] = orientation
        same(page, folder, saved(photo, "JPEG", exif=exif, quality=95), f"orientation {orientation}.jpg")


def test_transparent_pixels_lie_on_white(page, folder):
    rng = np.random.default_rng(3)
    every = np.stack([*np.meshgrid(np.arange(256), np.arange(256)), np.zeros((256, 256))], -1).astype(np.uint8)
    rgba = np.dstack([every[..., 0], every[..., 0], every[..., 0], every[..., 1]])  # each gray with each opacity
    same(page, folder, saved(Image.fromarray(rgba), "PNG"), "gray and opacity.png")
    rgba = rng.integers(0, 256, (50, 60, 4), dtype=np.uint8)
    same(page, folder, saved(Image.fromarray(rgba), "PNG"), "noise.png")
    same(page, folder, saved(Image.fromarray(rgba), "WEBP", lossless=True, exact=True), "noise.webp")
    same(page, folder, saved(Image.fromarray(rgba[..., 0]), "PNG", transparency=7), "a transparent gray.png")


def test_gray_palette_and_animated_pictures(page, folder):
    photo = Image.open(CAT)
    for mode in ("L", "1", "P", "LA"):
        same(page, folder, saved(photo.convert(mode), "PNG"), f"{mode}.png")
    same(page, folder, saved(photo.convert("L"), "JPEG"), "gray.jpg")
    same(page, folder, saved(photo, "BMP"), "cat.bmp")
    frames = [photo.convert("P"), photo.transpose(Image.Transpose.ROTATE_180).convert("P")]
    same(page, folder, saved(frames[0], "GIF", save_all=True, append_images=frames[1:]), "two.gif")


def test_a_colour_profile_is_ignored_as_in_camlib(page, folder):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    wide = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    swapped = wide.replace(b"rXYZ", b"tmpX").replace(b"bXYZ", b"rXYZ").replace(b"tmpX", b"bXYZ")  # red shows as blue
    photo = Image.open(CAT)
    same(page, folder, saved(photo, "PNG", icc_profile=bytes(swapped)), "swapped.png")
    same(page, folder, saved(photo, "JPEG", icc_profile=bytes(swapped)), "swapped.jpg")
    same(page, folder, saved(photo, "PNG", icc_profile=profile), "lab.png")


def test_a_gamma_is_ignored_and_cmyk_and_16_bits_become_rgb(page, folder):
    photo = Image.open(CAT)
    gamma = b"gAMA" + (100_000).to_bytes(4, "big")
    chunk = (4).to_bytes(4, "big") + gamma + zlib.crc32(gamma).to_bytes(4, "big")
    png = saved(photo, "PNG")
    same(page, folder, png[:33] + chunk + png[33:], "gamma.png")
    same(page, folder, saved(photo.convert("CMYK"), "JPEG", quality=95), "cmyk.jpg")
    deep = np.asarray(photo.convert("L")).astype(np.uint16) * 257
    same(page, folder, saved(Image.fromarray(deep | 3), "PNG"), "16 bits.png", most=1)  # rounded or cut


def test_what_is_no_picture_is_refused_in_words(page, folder):
    photo = Image.open(CAT)
    bomb = bytearray(saved(Image.new("L", (8, 8)), "PNG"))
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    png = saved(photo, "PNG")
    cases = {
        b"": "a is empty.",
        b"hello": "a is not a picture that this browser reads. Try a JPEG, PNG, WebP or GIF.",
        b"%PDF-1.7 ...": "a is a PDF, which this browser does not read as a picture. Save it as JPEG or PNG.",
        saved(photo, "TIFF"): "a is a TIFF, which this browser does not read as a picture. Save it as JPEG or PNG.",
        b"\0\0\0 ftypheic"
        + bytes(99): "a is a HEIC picture or a video, which this browser does not read as a picture.",
        png[:100]: "a cannot be decoded: it is damaged or cut off, or too large for this browser.",
        bytes(bomb): "a has 60000×60000 pixels, more than this page reads (100 million). Scale it down.",
    }
    for content, words in cases.items():
        found = read_by_the_page(page, folder, content, "a")
        assert isinstance(found, str) and found.startswith(words), found


def test_the_size_is_read_from_each_header(page, folder):
    photo = Image.new("RGB", (123, 45))
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP"):
        for options in ({}, {"lossless": True}, {"lossless": True, "exif": b"Exif\0\0x"}) if kind == "WEBP" else ({},):
            (folder / "file.bin").write_bytes(saved(photo, kind, **options))
            script = 'async () => (await import("./pictures.js")).declaredSize(await bytes("file.bin"))'
            assert page.evaluate(script) == [123, 45], kind
