"""Files built to harm cost little: they are refused at once, for the true reason, within bounded time and memory."""

import io
import os
import re
import socket
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from camlib import CamError, ImageError, read_image
from camlib.files import State, read_whole
from camlib.images import BYTES_PER_PIXEL, decode, from_pil, size_of
from tests.test_images import bmp_header, chunk, png, png_header, png_of, tiff, webp_header

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's files")


def saved(kind: str, image: Image.Image | None = None, **options) -> bytes:
    file = io.BytesIO()
    (image or Image.new("RGB", (6, 4), "red")).save(file, kind, **options)
    return file.getvalue()


# --- files that are none, or have no end -----------------------------------------------------------------------------


@LINUX
def test_devices_pipes_and_sockets_are_not_opened(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    monkeypatch.chdir(tmp_path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("socket.jpg")
    opened = []
    monkeypatch.setattr("camlib.files.os.open", lambda *args: opened.append(args))
    for name, kind in {"zero": "a device", "pipe": "a named pipe", "socket": "a socket"}.items():
        with pytest.raises(ImageError, match=rf"{name}\.jpg: is {kind}, not a file"):
            read_image(tmp_path / f"{name}.jpg")
    with pytest.raises(ImageError, match="is a folder"):
        read_image(tmp_path)
    with pytest.raises(ImageError, match="the file is empty"):
        read_image("/proc/self/environ")  # files in /proc have no size
    listener.close()
    assert opened == []


@LINUX
def test_a_file_swapped_for_a_pipe_does_not_block(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(b"x" * 9)
    os.mkfifo(tmp_path / "pipe")
    opened = os.open
    monkeypatch.setattr("camlib.files.os.open", lambda path, flags: opened(tmp_path / "pipe", flags))
    with pytest.raises(ImageError, match=r"a\.jpg: is a named pipe"):
        read_image(tmp_path / "a.jpg")


@LINUX
def test_a_file_of_sysfs_says_its_size_is_wrong():
    path = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not path.is_file():
        pytest.skip("no such file here")
    with pytest.raises(ImageError, match="does not have the 4096 bytes that the file system reports"):
        read_image(path)


@pytest.mark.parametrize("change", ["grows", "shrinks", "is overwritten"])
def test_a_file_that_changes_while_it_is_read(tmp_path, monkeypatch, change):
    path = tmp_path / "a.png"
    path.write_bytes(saved("PNG"))
    status, calls = os.fstat, []

    def change_after_the_first(handle):
        result = status(handle)
        if not calls:
            content = path.read_bytes()
            new = {"grows": content * 1000, "shrinks": content[:-1], "is overwritten": content[::-1]}[change]
            with open(path, "r+b") as file:  # the same file, not another one of this name
                file.write(new)
                file.truncate()
            os.utime(path, ns=(1, 1))
        calls.append(handle)
        return result

    monkeypatch.setattr("camlib.files.os.fstat", change_after_the_first)
    with pytest.raises(ImageError, match="changed while it was read"):
        read_image(path)


def test_no_more_is_read_than_the_size_and_a_byte(tmp_path, monkeypatch):
    """Otherwise a file that is written as fast as it is read would never end."""
    path = tmp_path / "a.png"
    path.write_bytes(bytes(1000))
    real, amounts = open, []

    class Spy:
        def __init__(self, handle, mode):
            self.file = real(handle, mode)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def fileno(self):
            return self.file.fileno()

        def read(self, amount=-1):
            amounts.append(amount)
            return self.file.read(amount)

    monkeypatch.setattr("camlib.files.open", Spy, raising=False)
    read_whole(path, 1000)
    assert amounts == [1001]


def test_what_was_read_is_recorded(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"abc")
    os.utime(path, ns=(5, 7_000_000_000))
    # b2sum --length 128 of "abc"
    assert read_whole(path, 3) == (b"abc", State(3, 7_000_000_000, "cf4ab791c62b8d2b2109c90275287816"))
    with pytest.raises(CamError, match=r"a\.txt: is 3 bytes; at most 2 bytes can be read"):
        read_whole(str(path), 2)


def test_a_hostile_name_is_escaped_in_the_error(tmp_path):
    path = tmp_path / "\x1b[2J\u202egnp.exe"
    with pytest.raises(ImageError) as missing:
        read_image(path)
    path.write_bytes(b"x")
    with pytest.raises(ImageError) as broken:
        read_image(path)
    with pytest.raises(ImageError) as upload:
        decode(b"x", path.name)
    for error, says in ((missing, "no such file"), (broken, "is not a picture"), (upload, "is not a picture")):
        assert rf"\x1b[2J\u202egnp.exe: {says}" in str(error.value)


# --- pictures larger than they look ----------------------------------------------------------------------------------

HEADERS = {
    "PNG": (png_header(700, 300), (700, 300)),
    "BMP": (bmp_header(700, 300), (700, 300)),
    "BMP, first row first": (bmp_header(700, -300), (700, 300)),
    "BMP of OS/2": (b"BM" + bytes(12) + struct.pack("<IHHHH", 12, 700, 300, 1, 24), (700, 300)),
    "WebP": (saved("WEBP", Image.new("RGB", (700, 300)))[:40], (700, 300)),
    "WebP, lossless": (saved("WEBP", Image.new("RGB", (700, 300)), lossless=True)[:40], (700, 300)),
    "WebP, extended": (webp_header(700, 300), (700, 300)),
    "GIF": (b"GIF89a" + struct.pack("<HHBBB", 700, 300, 0, 0, 0) + b"," + struct.pack("<4H", 0, 0, 9, 9), (700, 300)),
    "GIF, larger frame": (
        b"GIF89a"
        + struct.pack("<HHBBB", 7, 300, 0x80, 0, 0)
        + bytes(6)
        + b"!\xfe\1x\0,"
        + struct.pack("<4H", 2, 3, 698, 9),
        (700, 300),
    ),
    "JPEG": (saved("JPEG", Image.new("RGB", (700, 300)), comment=b"\xff\xc0\0\x11\x08\0\1\0\1"), (700, 300)),
    "JPEG, progressive": (saved("JPEG", Image.new("L", (700, 300)), progressive=True), (700, 300)),
    "TIFF": (tiff(np.zeros((300, 700), "u1")), (700, 300)),
    "TIFF, big endian": (tiff(np.zeros((300, 700), ">u2")), (700, 300)),
    "BigTIFF": (saved("TIFF", Image.new("RGB", (700, 300)), big_tiff=True), (700, 300)),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_the_size_is_known_without_decoding(kind, monkeypatch):
    data, size = HEADERS[kind]
    monkeypatch.setattr(Image, "open", None)
    assert size_of(data) == size
    with pytest.raises(ImageError, match="declares 700×300 pixels, more than the limit of 209999.*max_pixels=210000"):
        decode(data, "a", max_pixels=209_999)


@pytest.mark.parametrize("data", [b"", b"text", b"\xff\xd8\xff", b"GIF89a", b"BM", b"II*\0", png_header(0, 5)])
def test_a_file_without_a_size(data):
    with pytest.raises(ImageError, match="a file: is not a picture|a file: is a TIFF whose directory"):
        size_of(data, "a file")


def test_the_limit_can_be_changed(tmp_path):
    (tmp_path / "a.png").write_bytes(saved("PNG"))
    assert read_image(tmp_path / "a.png", max_pixels=24).shape == (4, 6, 3)
    assert from_pil(Image.new("L", (6, 4)), max_pixels=24).shape == (4, 6, 3)
    for read in (
        lambda n: read_image(tmp_path / "a.png", max_pixels=n),
        lambda n: from_pil(Image.new("L", (6, 4)), max_pixels=n),
    ):
        with pytest.raises(ImageError, match="declares 6×4 pixels, more than the limit of 23"):
            read(23)
        for wrong in (0, -1, 2.5, "9"):
            with pytest.raises(ImageError, match="must be a positive whole number"):
                read(wrong)


def test_thin_pictures_are_refused():
    """A row costs Pillow 8 bytes however short it is."""
    with pytest.raises(ImageError, match="no side may be longer than 1048576"):
        decode(png_header(2, 2**21), "a.png")


def test_a_second_header_does_not_enlarge_the_picture():
    """A caller that budgets memory relies on `size_of`."""
    data = png(3, 1, 8, 0, bytes(400 * 401), chunk(b"IHDR", struct.pack(">IIBBBBB", 400, 400, 8, 0, 0, 0, 0)))
    assert size_of(data) == (3, 1)
    with pytest.raises(ImageError, match="declares two different sizes"):
        decode(data, "a.png")


PEAKS = """
import re, sys
import camlib.decoding
from camlib.images import decode, size_of
camlib.decoding.BAND = 2**14  # so small a picture would be a single band
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
for path in sys.argv[1:]:
    decode(open(path + ".small", "rb").read(), "what a decoder allocates once")
    data = open(path, "rb").read()
    open("/proc/self/clear_refs", "w").write("5")
    before = peak()
    decode(data, path)
    width, height = size_of(data)
    print((peak() - before) / (width * height), path)
"""


def kinds(side: int) -> dict[str, bytes]:
    """The kinds of pictures that need the most memory, and one of each way of decoding."""
    a = np.add.outer(np.arange(side), np.arange(side)).astype(np.uint8)
    rgb, full = np.stack([a, a[::-1], 255 - a], axis=-1), np.full((side, side, 1), 65535, np.uint16)
    deep, floats = rgb.astype(np.uint16) * 257, (rgb / 255).astype("<f8")
    image, opaque = Image.fromarray(rgb), Image.fromarray(np.dstack([rgb, a]))
    return {
        "CMYK JPEG": saved("JPEG", image.convert("CMYK"), progressive=True),
        "palette": saved("PNG", image.convert("P"), transparency=bytes(range(256)), compress_level=1),
        "RGBA": saved("PNG", opaque, compress_level=1),
        "WebP": saved("WEBP", opaque, lossless=True, quality=0, method=0),
        "LAB": saved("TIFF", image.convert("LAB")),
        "deep RGBA": tiff(np.dstack([deep >> 2, full]).astype("<u2"), t338=2),
        "deep, one colour clear": png_of(deep, chunk(b"tRNS", bytes(6))),
        "deep gray and opacity": png_of(np.dstack([deep[..., :1] >> 2, full])),
        "planes": tiff(floats, strips=[plane.tobytes() for plane in floats.transpose(2, 0, 1)], t284=2, t274=6),
        "32-bit integers": tiff(a.astype("<i4") << 8),
    }


@LINUX
def test_memory_per_pixel(tmp_path):
    for side, suffix in ((700, ""), (30, ".small")):
        for name, data in kinds(side).items():
            (tmp_path / (name + suffix)).write_bytes(data)
    paths = [str(tmp_path / name) for name in kinds(30)]
    thrifty = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_TOP_PAD_": "0"}
    command = [sys.executable, "-Wignore", "-c", PEAKS, *paths]
    run = subprocess.run(command, capture_output=True, text=True, env=thrifty)
    assert run.returncode == 0, run.stderr
    peaks = {line.split(" ", 1)[1]: float(line.split(" ", 1)[0]) for line in run.stdout.splitlines()}
    assert list(peaks) == paths
    assert max(peaks.values()) < BYTES_PER_PIXEL, peaks
    assert max(peak for path, peak in peaks.items() if "deep" not in path) < 18, peaks
    assert max(peaks.values()) > 15, "freed memory was used again, so that this test measures nothing"


# --- files that take long --------------------------------------------------------------------------------------------


def progressive(scans: int) -> bytes:
    """A gray progressive JPEG of 8×8 pixels that repeats an empty scan."""

    def segment(marker: int, content: bytes) -> bytes:
        return bytes([255, marker]) + struct.pack(">H", len(content) + 2) + content

    tables = segment(0xDB, b"\0" + b"\1" * 64) + segment(0xC2, struct.pack(">BHHBBBB", 8, 8, 8, 1, 1, 0x11, 0))
    for number in (b"\0", b"\x10"):  # one code, 0: no difference; the end of the block
        tables += segment(0xC4, number + bytes([1] + [0] * 15) + b"\0")
    first = segment(0xDA, b"\1\1\0\0\0\0") + b"\x7f"
    again = segment(0xDA, b"\1\1\0\1\x3f\0") + b"\x7f"
    return b"\xff\xd8" + tables + first + again * (scans - 1) + b"\xff\xd9"


def test_a_jpeg_of_too_many_scans():
    assert decode(progressive(100), "a.jpg").tolist() == [[[128] * 3] * 8] * 8
    for read in (lambda data: decode(data, "a.jpg"), lambda data: from_pil(Image.open(io.BytesIO(data)))):
        with pytest.raises(ImageError, match="is a JPEG of 8×8 pixels with more than 100 scans"):
            read(progressive(101))


def test_a_large_jpeg_may_have_fewer_scans(monkeypatch):
    monkeypatch.setattr("camlib.decoding.SCANNED", 64 * 40)
    assert decode(progressive(39), "a.jpg").shape == (8, 8, 3)
    with pytest.raises(ImageError, match="with more than 39 scans"):
        decode(progressive(40), "a.jpg")
    monkeypatch.setattr("camlib.decoding.SCANNED", 64)
    assert decode(progressive(25), "a.jpg").shape == (8, 8, 3)


def test_scans_are_counted_only_where_they_are():
    scans = b"\xff\xda\0\x08\1\1\0\0\x3f\0" * 200
    thumbnail = b"\xff\xe2" + struct.pack(">H", len(scans) + 2) + scans
    for data in (saved("JPEG"), saved("JPEG", progressive=True)):
        inside = data[:2] + thumbnail + data[2:] + scans  # within a segment, and after the end of the picture
        assert np.array_equal(decode(inside, "a.jpg"), decode(data, "a.jpg"))


def segments(content: bytes) -> bytes:
    data = saved("JPEG")
    return data[:2] + content + data[2:]


def gif(content: bytes) -> bytes:
    return (
        b"GIF89a"
        + struct.pack("<HHBBB", 1, 1, 0, 0, 0)
        + content
        + b","
        + struct.pack("<4HB", 0, 0, 1, 1, 0)
        + b"\2\2D\1\0;"
    )


MANY = 30_000
PIECES = {
    "segments of a JPEG": segments(b"\xff\xe5\0\2" * MANY),
    "stray bytes in a JPEG": segments(b"\xff\xe5\0\2" + bytes(MANY)),
    "filling in a JPEG": segments(b"\xff" * MANY),
    "chunks of a PNG": png(1, 1, 8, 0, b"\0\0", chunk(b"abCd", b"") * MANY),
    "empty data of a PNG": png(1, 1, 8, 0, b"\0\0", chunk(b"IDAT", b"") * MANY),
    "chunks of a WebP": webp_header(9, 9) + b"abcd\0\0\0\0" * MANY,
    "blocks of a comment": gif(b"!\xfe" + b"\1x" * MANY + b"\0"),
    "empty comments": gif(b"!\xfe\0" * MANY),
    "blocks after an empty one": gif(b"!\xf9\0" + (b"," + bytes(44)) * MANY + b"\0"),
    "stray bytes in a GIF": gif(b"\1" * MANY),
}


@pytest.mark.parametrize("kind", PIECES)
def test_too_many_pieces(kind, monkeypatch):
    monkeypatch.setattr(Image, "open", None)  # Pillow reads each with lines of Python
    with pytest.raises(ImageError, match="has more than 20000 segments, chunks or stray bytes"):
        decode(PIECES[kind], "a")


def test_some_pieces_are_no_harm():
    assert decode(segments(b"\xff\xe5\0\2" * 1000), "a.jpg").shape == (4, 6, 3)
    assert decode(png(1, 1, 8, 0, b"\0\0", chunk(b"abCd", b"") * 1000), "a.png").shape == (1, 1, 3)
    assert decode(gif(b"!\xfe" + b"\1x" * 1000 + b"\0"), "a.gif").shape == (1, 1, 3)


def test_exif_of_many_megabytes():
    """One tag can hold a rational number for each 8 bytes, and Pillow makes an object of each."""
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0" + bytes(60_000)
    with pytest.raises(ImageError, match="more than 1048576 bytes of EXIF data"):
        decode(segments(b"".join(b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif for _ in range(18))), "a.jpg")
    with pytest.raises(ImageError, match="holds 2 MB of EXIF data"):
        decode(png(1, 1, 8, 0, b"\0\0", chunk(b"eXIf", exif[6:] + bytes(2 * 2**20))), "a.png")


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_a_text_or_profile_that_unpacks_to_very_much(kind):
    between = b"a\0\1\0\0\0" if kind == b"iTXt" else b"a\0\0"
    bomb = chunk(kind, between + zlib.compress(bytes(2**22)))
    with pytest.raises(ImageError, match="text or colour profile is larger than Pillow allows") as error:
        decode(png(1, 1, 8, 0, b"\0\0", bomb), "a.png")
    assert "damaged" not in str(error.value)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_an_animation_costs_no_more_than_its_first_frame(kind, monkeypatch):
    """Frames 2 to 40 are cut off or overwritten, and nobody notices."""
    frames = [Image.effect_noise((60, 60), 90 + n).convert("RGB") for n in range(40)]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(kind, frames[0], save_all=True, append_images=frames[1:], **options)
    first = decode(data, "a")
    start = {"GIF": len(data) // 20, "PNG": len(data) // 20, "WEBP": len(data) // 20}[kind]
    broken = data[:start] + bytes(v ^ 0x55 for v in data[start:-10]) + data[-10:]
    if kind != "WEBP":  # libwebp looks through all frames' headers, but decodes one
        assert np.array_equal(decode(broken, "a"), first)
    calls = []
    monkeypatch.setattr("camlib.decoding._load", lambda image: (calls.append(image.tell()), image.load()))
    started = time.process_time()
    decode(data, "a")
    assert calls == [0]
    assert time.process_time() - started < 0.2


RLE = struct.pack("<IiiHHIIiiII", 40, 3000, 3000, 1, 8, 1, 0, 0, 0, 256, 0) + bytes(1024)


def test_run_lengths_of_a_bmp():
    """Pillow decodes them in Python, a second for two million pixels."""
    with pytest.raises(ImageError, match="is a run-length encoded BMP of 3000×3000 pixels"):
        decode(b"BM" + struct.pack("<IHHI", 0, 0, 0, 1078) + RLE, "a.bmp")
    body = struct.pack("<IiiHHIIiiII", 40, 3, 2, 1, 8, 1, 0, 0, 0, 256, 0)
    palette = bytes(v for n in range(256) for v in (n, 0, 0, 0))  # blue
    head = b"BM" + struct.pack("<IHHI", 0, 0, 0, 1078) + body + palette
    small = head + b"\3\7\0\0\2\1\1\xff\0\1"
    assert decode(small, "a.bmp")[..., 2].tolist() == [[1, 1, 255], [7, 7, 7]]
    with pytest.raises(ImageError, match="run-length encoded BMP of 3×2 pixels and 1"):
        decode(head + b"\1\1" * 50_000, "a.bmp")


def tagged(tags: dict[int, tuple[int, int, bytes]], body: bytes = b"", at: int = 8) -> bytes:
    """A little-endian TIFF with these tags: type, count and the 4 bytes of the value or its place."""
    entries = b"".join(
        struct.pack("<HHI", tag, kind, n) + value.ljust(4, b"\0") for tag, (kind, n, value) in tags.items()
    )
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", at)  # the next directory: itself
    return b"II*\0" + struct.pack("<I", 8) + directory + body


def number(value: int) -> tuple[int, int, bytes]:
    return 4, 1, struct.pack("<I", value)


GRAY = {
    256: number(2),
    257: number(2),
    258: number(8),
    259: number(1),
    262: number(1),
    273: number(142),
    278: number(2),
}
GRAY |= {277: number(1), 279: number(4), 305: (2, 2, b"a\0")}
START = 8 + 2 + 12 * len(GRAY) + 4


def test_directories_in_a_circle():
    tags = GRAY | {273: number(START)}
    assert decode(tagged(tags, b"\1\2\3\4"), "a.tif")[..., 0].tolist() == [[1, 2], [3, 4]]
    tags = GRAY | {273: number(START + 12), 34665: number(8)}  # the EXIF directory is the first directory
    assert decode(tagged(dict(sorted(tags.items())), b"\1\2\3\4"), "a.tif")[..., 0].tolist() == [[1, 2], [3, 4]]


HOSTILE_TIFFS = {
    "a million strips": (
        GRAY | {273: (4, 2**20, struct.pack("<I", START)), 278: number(1)},
        "more than 1048576 numbers",
    ),
    "rational numbers": (GRAY | {282: (5, 2**16, struct.pack("<I", 0))}, "more than 1048576 numbers"),
    "rational numbers in EXIF": (GRAY | {34665: number(START + 12)}, "more than 1048576 numbers"),
    "a huge tile": (GRAY | {322: number(40_000), 323: number(40_000), 324: number(START)}, "in tiles of 40000×40000"),
    "strips on each other": (
        GRAY | {259: number(8), 278: number(1), 279: (4, 40, struct.pack("<I", START))},
        "strips lie on top of each other",
    ),
    "a directory of many tags": (GRAY, "has more than 20000 segments"),
}


@pytest.mark.parametrize("kind", HOSTILE_TIFFS)
def test_a_tiff_that_costs_more_than_its_picture(kind, monkeypatch):
    tags, says = HOSTILE_TIFFS[kind]
    body = struct.pack("<40I", *[600] * 40) + bytes(400)
    if kind == "rational numbers in EXIF":
        body = struct.pack("<HHHII", 1, 33434, 5, 2**16, 0) + bytes(400)
    data = tagged(dict(sorted(tags.items())), body)
    if kind == "a directory of many tags":
        data = data[:8] + struct.pack("<H", 30_000) + data[10:] + bytes(30_000 * 12)
    monkeypatch.setattr(Image, "open", None)
    with pytest.raises(ImageError, match=says):
        decode(data, "a.tif")


# --- too little memory -----------------------------------------------------------------------------------------------

STARVED = """
import resource, sys, warnings
from camlib.images import decode, read_image
from PIL import Image
decode(open(sys.argv[1], "rb").read(), "small")  # loads the decoder
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 10_000_000,) * 2)
for path in sys.argv[2:]:
    try: read_image(path)
    except Exception as e: print(type(e).__name__, str(e).partition(": ")[2])
"""


@LINUX
def test_no_memory_is_never_called_damage_alone(tmp_path):
    """libjpeg, libwebp and libtiff do not tell Pillow why they failed."""
    big, paths = Image.new("RGB", (3000, 2000)), []
    for kind, options in {
        "JPEG": {"progressive": True},
        "PNG": {},
        "WEBP": {"method": 0},
        "TIFF": {"compression": "tiff_lzw"},
    }.items():
        (tmp_path / f"small.{kind}").write_bytes(saved(kind))
        (tmp_path / f"big.{kind}").write_bytes(saved(kind, big, **options))
        paths.append(str(tmp_path / f"big.{kind}"))
    run = subprocess.run(
        [sys.executable, "-c", STARVED, str(tmp_path / "small.PNG"), *paths], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert len(lines) == 4, run.stdout
    for line in lines:
        assert re.match("ImageError .*there is not enough free memory", line), line
