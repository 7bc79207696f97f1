"""What the tests of the live page share: a server on the loopback, and modules of the page run in a real browser."""

import base64
import io
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
