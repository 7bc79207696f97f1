"""Writes the explorer: one self-contained HTML file that shows the map of any class on a photo.

A map has only a few dozen numbers, so the maps of all classes fit into the page. The page itself does the rest: it lays
a map on the photo as `camlib.place` does, and colours it as `camlib.overlay` does.
"""

import base64
import html
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image
from torch import Tensor

from camlib import plot
from camlib.errors import CamError
from camlib.evidence import Evidence, ViewResult
from camlib.files import write_whole
from camlib.models import Classifier

# What a notebook's output is, for programs that read notebooks; JupyterLab shows the output's other types
EXPLANATION_TYPE = "application/vnd.camlib.explanation+json"
EXPLORER_TYPE = "application/vnd.camlib.explorer+json"
LARGEST = 250_000_000  # bytes of a page: Chromium shows nothing beyond 512 MiB, and phones have little memory
SIDE = 1024  # pixels: larger photos are scaled down to this
PHOTO_BYTES, MAP_BYTES = 200_000, 270_000  # of a photo and its maps; base64 adds a third, the rest is below 75 kB
FEW = 10  # classes on the page, for methods that compute each map separately
STEPS = 65535  # steps of a cell's value between the smallest and largest value of its map
COLOURS = {
    plot.COLORMAP: "Red for, blue against",
    "PuOr_r": "Orange for, purple against",
    "PiYG_r": "Pink for, green against",
    "viridis": "Viridis: yellow for, violet against",
    "cividis": "Cividis: yellow for, dark blue against",
    "inferno": "Inferno: pale yellow for, black against",
}


@runtime_checkable
class Explained(Protocol):
    """What a page needs from an explanation."""

    @property
    def classifier(self) -> Classifier: ...
    @property
    def photo(self) -> np.ndarray: ...
    @property
    def evidence(self) -> Evidence: ...
    @property
    def results(self) -> tuple[ViewResult, ...]: ...
    @property
    def logits(self) -> Tensor: ...
    @property
    def probabilities(self) -> Tensor | None: ...
    @property
    def unit(self) -> str: ...
    def overlay(self) -> np.ndarray: ...
    def top(self, n: int) -> list[Any]: ...


def to_html(
    exps: Explained | Sequence[Explained],
    path: str | os.PathLike | None = None,
    *,
    names: Sequence[str] | None = None,
    side: int = SIDE,
    start: int = 0,
) -> str | Path:
    """Make a page with the photos and the maps of all classes, which works without a kernel or network connection.

    The page's pixels are those of `overlay`, to within one gray level. A page with one 1024-pixel photo and 1000
    classes takes at most 700 kB: cells are stored in 16 bits between the smallest and largest value of their map, and
    if the maps have more than 135 cells, only the most probable classes are stored. Methods other than "cam" compute
    each map separately, so for these the page only has the ten most probable classes.

    Parameters
    ----------
    exps
        One `Explanation` or several.
    path
        The file to write, .html.
    names
        The names of the photos.
    side
        The most pixels of a photo's longer side.
    start
        The photo to show first, counted from 0.

    Returns
    -------
    page : str or Path
        The path, or the page's text without one.

    Raises
    ------
    CamError
        For wrong arguments, for maps that are not finite, for so many photos that browsers could not open the page, or
        if the file cannot be written.

    Examples
    --------
    >>> from camlib import explain, load_model
    >>> page = to_html(explain(load_model(), np.full((240, 320, 3), 128, np.uint8)), names=["gray"])
    >>> "https://" in page, len(page) < 700_000
    (False, True)
    """
    several = list(exps) if isinstance(exps, Iterable) else [exps]
    page = page_of(several, names, side, start)
    if path is None:
        return page
    if Path(path).suffix.lower() not in (".html", ".htm"):
        raise CamError(f"{path}: to_html writes .html files; use this suffix.")
    return write_whole(path, lambda file: file.write(page.encode()))


def page_of(several: Sequence[Explained], names: Sequence[str] | None = None, side: int = SIDE, start: int = 0) -> str:
    if not several or not all(isinstance(exp, Explained) for exp in several):
        raise CamError("An explorer shows one Explanation or several: camlib.explain(clf, photo) makes one.")
    if names is None:
        names = ["photo"] if len(several) == 1 else [f"photo {n}" for n in range(1, len(several) + 1)]
    if isinstance(names, str) or len(names) != len(several):
        raise CamError(f"names={names!r}: one name for each of the {len(several)} photos is needed.")
    whole = all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in (side, start))
    if not whole or side < 1 or not 0 <= start < len(several):
        raise CamError(
            f"side={side!r}, start={start!r}: side must be a whole number of pixels, and start one of the "
            f"{len(several)} photos, counted from 0."
        )
    title = ", ".join(names).encode(errors="replace").decode()  # a file name need not be valid text
    return assembled(
        title=html.escape(f"{title}: what the network saw"),
        policy="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'",
        style=f"<style>\n{part('explorer.css')}</style>",
        main=markup(),
        data=as_json(_data(several, names, side, start)),
        script=f"<script>\n{part('explorer.js')}\n{part('stored.js')}</script>",
    )


def part(name: str) -> str:
    """A file of the folder page_parts: the page, and the explorer's markup, style and script."""
    return files("camlib").joinpath("page_parts", name).read_text(encoding="utf-8")


def assembled(**parts: str) -> str:
    """The whole page. title, policy, style, main, data, script: HTML."""
    return _filled(part("page.html"), parts)


def markup(**more: str) -> str:
    """The explorer's elements, with more of them, as HTML: below its title (intro), in its header, in its panel, or
    below (more)."""
    return _filled(part("explorer.html"), dict.fromkeys(("intro", "header", "panel", "more"), "") | more)


def _filled(template: str, parts: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)  # one pass: names may contain these


def settings() -> dict[str, Any]:
    """How the explorer paints: the numbers of camlib.plot."""
    ends = {name: [plot.full_colour(name, end).round(7).tolist() for end in (0.0, 1.0)] for name in COLOURS}
    inverse = [np.linalg.inv(np.array(matrix)).tolist() for matrix in (plot.TO_LAB, plot.TO_LMS)]
    return {
        "alpha": plot.ALPHA,
        "paint": {"steps": plot.FULL, "photo": plot.PHOTO, "pale": plot.PALE, "pull": plot.PULL, "inverse": inverse},
        "colours": [{"name": name, "title": title, "ends": ends[name]} for name, title in COLOURS.items()],
    }


def framed(exp: Explained, side: int = 640) -> str:
    """The page as a notebook's output, in a frame on top of a picture, which shows where scripts are not trusted."""
    picture = _picture(Image.fromarray(exp.overlay()), side)[0]
    alt = html.escape(f"Evidence for {exp.top(1)[0]} on the photo")
    image = f'<img src="{picture}" alt="{alt}" style="grid-area: 1/1">'
    return f'<div style="display: grid">{image}{frame(page_of([exp], side=side))}</div>'


def frame(page: str, height: int = 860) -> str:
    # sandbox: the page's scripts run, but cannot access the notebook or its server
    style = f"grid-area: 1/1; width: 100%; height: {height}px; border: 0; resize: vertical"
    return (
        f'<iframe srcdoc="{html.escape(page)}" sandbox="allow-scripts" title="Class map explorer" '
        f'style="{style}"></iframe>'
    )


def as_json(data: Any) -> str:
    """JSON that a <script> element may hold: nothing in it can end the element."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _data(exps: Sequence[Explained], names: Sequence[str], side: int, start: int) -> dict[str, Any]:
    labels = list(dict.fromkeys(exp.classifier.labels for exp in exps))
    return settings() | {
        "labels": labels,
        "photos": [
            photo | {"labels": labels.index(exp.classifier.labels)}
            for exp, photo in zip(exps, _photos(exps, names, side), strict=True)
        ],
        "start": start,
    }


def _photos(exps: Sequence[Explained], names: Sequence[str], side: int) -> Iterator[dict[str, Any]]:
    size = 0
    for n, (exp, name) in enumerate(zip(exps, names, strict=True)):
        photo = _photo(exp, str(name), side)
        size += len(as_json(photo))
        if size > LARGEST:
            raise CamError(
                f"A page of these {len(exps)} photos would exceed {LARGEST / 1e6:.0f} MB, which not every browser "
                f"opens: make several pages of at most {n} photos, or pass a smaller side= than {side}."
            )
        yield photo


def _photo(exp: Explained, name: str, side: int) -> dict[str, Any]:
    """A photo, what the network says about it, and the maps of as many classes as there is room for."""
    picture, (height, width) = _picture(Image.fromarray(exp.photo), side)
    logits = exp.logits.float().cpu()
    cells = sum(r.features.shape[2] * r.features.shape[3] for r in exp.results)
    room = max(FEW, MAP_BYTES // (2 * cells)) if exp.evidence.method.name == "cam" else FEW
    classes = sorted(logits.argsort(descending=True, stable=True)[:room].tolist())
    count = Counter(exp.classifier.labels)
    return {
        "name": name,
        "picture": picture,
        "size": [height, width],
        "network": exp.classifier.name,
        "method": exp.evidence.method.name,
        "unit": exp.unit,
        "additive": exp.evidence.method.additive,
        "classes": classes,
        "several": [k for k in classes if count[exp.classifier.labels[k]] > 1],  # shown with their index
        "logits": _base64(logits[classes].numpy()),
        "probabilities": _base64(exp.probabilities[classes].float().numpy()) if exp.probabilities is not None else None,
        "rest": "rest" if exp.evidence.method.frozen else "bias",
        "bias": _base64(exp.evidence.bias[classes].cpu().numpy()) if exp.evidence.bias is not None else None,
        "views": [_view(r, classes) for r in exp.results],
    }


def _view(result: ViewResult, classes: list[int]) -> dict[str, Any]:
    """A view of the photo, and the maps that lie in it."""
    maps, view = result.maps.stack(classes).float().cpu().numpy(), result.view
    return {"resized": view.resized, "offset": view.offset, "size": view.size, "cells": maps.shape[1:]} | _encoded(maps)


def _encoded(maps: np.ndarray) -> dict[str, str]:
    """Encode maps (K, h, w) in 16 bits between each map's extremes; errors are at most 1/131070 of that range."""
    flat = maps.reshape(len(maps), -1)
    if not np.isfinite(flat).all():
        raise CamError("Some maps are not finite; the page cannot show them.")
    low, high = flat.min(1).astype(np.float64), flat.max(1).astype(np.float64)
    step = np.where(high > low, high - low, 1) / STEPS
    steps = np.rint((flat - low[:, None]) / step[:, None]).astype("<u2")
    return {"steps": _base64(steps), "ends": _base64(np.stack([low, high], 1).astype("<f4"))}


def _picture(image: Image.Image, side: int) -> tuple[str, tuple[int, int]]:
    """The image as a JPEG in a data URL, and its (height, width). A picture that is too large is made coarser."""
    if max(image.size) > side:
        image = image.copy()
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    for quality in (90, 80, 70, 55, 40):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        if buffer.tell() <= PHOTO_BYTES:
            break
    else:
        return _picture(image, max(image.size) * 3 // 4)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode(), (image.height, image.width)


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
