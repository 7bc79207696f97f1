"""Compare the figures of two runs of a notebook cell, within a tolerance that another CPU stays inside."""

from __future__ import annotations

import base64
import html
import io
import itertools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FIGURE_TYPES = ("image/png", "image/jpeg")
EXPLANATION_TYPE = "application/vnd.camlib.explanation+json"  # camlib.page's, which would import torch
# How an explanation is shown: the explorer's page in a frame, on top of a picture of the best class's map.
SHOWN = re.compile(
    r'<img src="data:(?P<mime>image/\w+);base64,(?P<picture>[^"]*)" alt="(?P<alt>[^"]*)"[^>]*>'
    r'<iframe srcdoc="(?P<page>[^"]*)"[^>]*></iframe>'
)
# What is compared as a picture and not as text: the page's numbers may differ in their last digits on another CPU.
PICTURED = {re.compile(rf'(?<={start}")[^"]*'): "..." for start in ("<img src=", "<iframe srcdoc=")}
MEAN_LIMIT = 1.0  # of 255, over all values
FAR = 32  # of 255: a value off by more is seen with the naked eye
FAR_LIMIT = 0.005  # share of the values that may be that far off


class Figure(NamedTuple):
    """One picture of a cell: pixels (H, W, 3) uint8 on white, and its alt text."""

    pixels: NDArray[np.uint8]
    alt: str


def figures(outputs: Iterable[Mapping[str, Any]]) -> list[Figure]:
    """The PNG and JPEG pictures among a cell's outputs, in their order, and those below explorers."""
    found = []
    for output in outputs:
        data = output.get("data", {})
        for mime in FIGURE_TYPES:
            if mime in data:
                alt = output.get("metadata", {}).get(mime, {}).get("alt", "")
                found.append(Figure(_pixels(data[mime]), alt))
        if shown := explorer(output):
            found.append(Figure(_pixels(shown["picture"]), html.unescape(shown["alt"])))
    return found


def explorer(output: Mapping[str, Any]) -> re.Match[str] | None:
    """The explorer of an explanation: its groups are the page, and the picture below it with mime and alt."""
    data = output.get("data", {})
    return SHOWN.search(str(data.get("text/html", ""))) if EXPLANATION_TYPE in data else None


def _pixels(encoded: str) -> NDArray[np.uint8]:
    picture = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return np.asarray(Image.alpha_composite(white, picture).convert("RGB"))


def difference(stored: Figure | None, new: Figure | None) -> str | None:
    """What a reader would see differ between the two; None within the tolerance."""
    if stored is None:
        return "was drawn, but is not stored"
    if new is None:
        return "is stored, but was not drawn"
    if stored.pixels.shape != new.pixels.shape:
        (h, w), (new_h, new_w) = stored.pixels.shape[:2], new.pixels.shape[:2]
        return f"has another size: {w} x {h} pixels stored, {new_w} x {new_h} drawn"
    off = _off(stored, new)
    mean, far = off.mean(), (off > FAR).mean()
    if mean > MEAN_LIMIT or far > FAR_LIMIT:
        return (
            f"differs: by {mean:.2f} of 255 on average (limit {MEAN_LIMIT:g}); "
            f"{far:.2%} of the values by more than {FAR} (limit {FAR_LIMIT:.1%})"
        )
    if stored.alt != new.alt:
        return f"has another alt text: {stored.alt!r} stored, {new.alt!r} now"
    return None


def _off(stored: Figure, new: Figure) -> NDArray[np.int16]:
    return np.abs(stored.pixels.astype(np.int16) - new.pixels)


def _save(stored: Figure | None, new: Figure | None, folder: Path, name: str) -> list[Path]:
    pictures = {}
    if stored is not None:
        pictures["stored"] = stored.pixels
    if new is not None:
        pictures["new"] = new.pixels
    if stored is not None and new is not None and stored.pixels.shape == new.pixels.shape:
        pictures["difference-x4"] = np.minimum(4 * _off(stored, new), 255).astype(np.uint8)
    paths = []
    for kind, pixels in pictures.items():
        paths.append(folder / f"{name}-{kind}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def compare(
    stored: Iterable[Mapping[str, Any]], new: Iterable[Mapping[str, Any]], folder: Path, name: str
) -> list[str]:
    """One message per figure that differs between two lists of outputs; its pictures are saved as folder/name-*.png."""
    found = []
    for number, pair in enumerate(itertools.zip_longest(figures(stored), figures(new)), 1):
        if text := difference(*pair):
            saved = "".join(f"\n    {path}" for path in _save(*pair, folder, f"{name}-figure-{number}"))
            found.append(f"figure {number} of the cell {text}. Look at{saved}")
    return found
