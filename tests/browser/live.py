"""What the tests of the live page share: a server on the loopback, and modules of the page run in a real browser."""

import base64
import io
import struct
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tools.live import server

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "tools" / "live" / "page"
PHOTOS = sorted([*ROOT.glob("data/photos/*.*"), *ROOT.glob("data/mosaics/*.png")])
CAT = ROOT / "data" / "photos" / "cat.jpg"


@contextmanager
def served(folder):
    """The address of a folder, while it is served on the loopback."""
    with server.server(Path(folder), 0) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield server.address(running)
        running.shutdown()


def numbers(text, dtype):
    """The array in what a page's `text(array)` made of it."""
    return np.frombuffer(base64.b64decode(text), dtype)


def saved(image, kind, **options):
    """The content of a Pillow image's file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def put(folder, name, *arrays):
    """A file of arrays, one behind the other, for the page to fetch: no large data goes through the debugger."""
    (folder / name).write_bytes(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays))
    return name


# `text` makes base64 of a typed array, `bytes` fetches a file.
BLANK = """<!doctype html><meta charset="utf-8"><title>modules</title><link rel="icon" href="data:,"><script>
const bytes = async (name) => new Uint8Array(await (await fetch(name)).arrayBuffer());
const text = async (array) => new Promise((done) => {
  const reader = new FileReader();
  reader.onload = () => done(reader.result.split(",")[1] ?? "");
  reader.readAsDataURL(new Blob([array]));
});
</script>"""


def webm(pictures, seconds):
    """A WebM video of PIL images of one size, each shown for that long.

    What a lossy WebP holds is a frame of VP8, so only the frames' envelope is written here (EBML, as in Matroska).
    """

    def element(kind, *content):
        inside = b"".join(content)
        return bytes.fromhex(kind) + (len(inside) | 1 << 56).to_bytes(8) + inside

    def whole(kind, value):
        return element(kind, value.to_bytes(4))

    width, height = pictures[0].size
    head = element("1a45dfa3", element("4282", b"webm"), whole("4287", 2), whole("4285", 2))
    about = element(
        "1549a966", whole("2ad7b1", 1_000_000), element("4489", struct.pack(">f", 1000 * seconds * len(pictures)))
    )
    size = element("e0", whole("b0", width), whole("ba", height))
    track = element("ae", whole("d7", 1), whole("73c5", 1), whole("83", 1), element("86", b"V_VP8"), size)
    frames = []
    for number, picture in enumerate(pictures):
        file = io.BytesIO()
        picture.save(file, "WEBP", quality=95)
        at = file.getvalue().index(b"VP8 ")
        length = int.from_bytes(file.getvalue()[at + 4 : at + 8], "little")
        frame = file.getvalue()[at + 8 : at + 8 + length]
        time = whole("e7", round(1000 * seconds * number))
        frames.append(element("1f43b675", time, element("a3", b"\x81\0\0\x80", frame)))
    return head + element("18538067", about, element("1654ae6b", track), *frames)
