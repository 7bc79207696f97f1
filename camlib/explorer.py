"""Every class of a photo under the cursor: one HTML file that needs nothing else, and the same page live in JupyterLab.

A map is a few dozen numbers, so the maps of all classes fit into the page, and the page itself does the rest: it lays a
map on the photo as `camlib.place` does and colours it as `camlib.overlay` does.
"""

import base64
import html
import io
import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from camlib.errors import CamError
from camlib.explain import ADDITIVE, METHODS, Explanation, explain, write_whole
from camlib.images import decode
from camlib.plot import ALPHA, COLORMAP

SIDE = 1024  # pixels: a larger photo is scaled down to it
PHOTO_BYTES, MAP_BYTES = 200_000, 270_000  # of a photo and its maps; base64 adds a third, all the rest is below 75 kB
FEW = 10  # classes of a method that computes each map anew
STEPS = 65535  # of a cell's value between the ends of its map
COLOURS = {
    COLORMAP: "Red for, blue against",
    "PuOr_r": "Orange for, purple against",
    "PiYG_r": "Pink for, green against",
    "viridis": "Viridis: yellow for, violet against",
    "cividis": "Cividis: yellow for, dark blue against",
    "inferno": "Inferno: pale yellow for, black against",
}
NETWORKS = ("efficientnet_lite0", "resnet50", "mobilenet_v3_large", "convnext_tiny", "timm/mobilenetv4_conv_small")


def to_html(
    exps: Explanation | Sequence[Explanation],
    path: str | os.PathLike | None = None,
    *,
    names: Sequence[str] | None = None,
    side: int = SIDE,
    start: int = 0,
) -> str | Path:
    """A page with the photos and the maps of all classes, to be explored without a kernel and without network.

    exps: one explanation or several. path: the file to write, whole or not at all; without it the page's text is
    returned. names: what the photos are called. side: pixels of a photo's longer side, at most. start: the photo that
    is shown first.

    The page's pixels are those of `camlib.overlay`, to one gray level. A page of a 1024-pixel photo has at most 700 kB:
    cells have 16 bits between the ends of their map, and where the maps have more than 135 cells, the most probable
    classes are kept. Methods other than "cam" compute each map anew, so the page has their ten most probable classes.

    Raises `CamError` for wrong arguments, for maps that are not finite, and where the file cannot be written.

    >>> from camlib import explain, load_model
    >>> page = to_html(explain(load_model(), "data/photos/cat.jpg"), names=["cat.jpg"])
    >>> "https://" in page, len(page) < 700_000
    (False, True)
    """
    page = _page([exps] if isinstance(exps, Explanation) else list(exps), names, side, start)
    if path is None:
        return page
    if Path(path).suffix.lower() not in (".html", ".htm"):
        raise CamError(f"{path}: pages are written as .html.")
    return write_whole(path, lambda file: file.write(page.encode()))


def _page(several: list[Explanation], names: Sequence[str] | None = None, side: int = SIDE, start: int = 0) -> str:
    if not several or not all(isinstance(exp, Explanation) for exp in several):
        raise CamError("An explorer shows an Explanation or several: camlib.explain(clf, photo) makes one.")
    if names is None:
        names = ["photo"] if len(several) == 1 else [f"photo {n}" for n in range(1, len(several) + 1)]
    if isinstance(names, str) or len(names) != len(several):
        raise CamError(f"names={names!r}: one name for each of the {len(several)} photos is needed.")
    if side < 1 or not 0 <= start < len(several):
        raise CamError(f"side={side}, start={start}: a number of pixels, and one of the {len(several)} photos, from 0.")
    title = ", ".join(names).encode(errors="replace").decode()  # a file name need not be text
    parts = {"title": html.escape(f"{title}: what the network saw"), "data": _json(_data(several, names, side, start))}
    template = files("camlib").joinpath("explorer.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(title|data)\}\}", lambda found: parts[found[1]], template)  # in one pass: names may look so


def framed(exp: Explanation, side: int = 640) -> str:
    """The page for a notebook's output: in a frame of its own, over a picture for where scripts are not trusted."""
    best = exp.top(1)[0]
    picture = _picture(Image.fromarray(exp.overlay(best.index)), side)[0]
    alt = html.escape(f"Evidence for {best.label} on the photo")
    image = f'<img src="{picture}" alt="{alt}" style="grid-area: 1/1">'
    return f'<div style="display: grid">{image}{_frame(_page([exp], side=side))}</div>'


def _frame(page: str, height: int = 860) -> str:
    # sandbox: the page's scripts run, but reach neither the notebook nor its server
    style = f"grid-area: 1/1; width: 100%; height: {height}px; border: 0; resize: vertical"
    return (
        f'<iframe srcdoc="{html.escape(page)}" sandbox="allow-scripts" title="Class map explorer" '
        f'style="{style}"></iframe>'
    )


def _json(data: Any) -> str:
    """JSON that a <script> element may hold: nothing in it can end the element."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _data(exps: list[Explanation], names: Sequence[str], side: int, start: int) -> dict[str, Any]:
    from matplotlib import colormaps

    labels = list(dict.fromkeys(exp.classifier.labels for exp in exps))
    ends = {name: [[round(255 * c, 4) for c in colormaps[name](end)[:3]] for end in (0.0, 1.0)] for name in COLOURS}
    return {
        "alpha": ALPHA,
        "colours": [{"name": name, "title": title, "ends": ends[name]} for name, title in COLOURS.items()],
        "labels": labels,
        "photos": [
            _photo(exp, str(name), side) | {"labels": labels.index(exp.classifier.labels)}
            for exp, name in zip(exps, names, strict=True)
        ],
        "start": start,
    }


def _photo(exp: Explanation, name: str, side: int) -> dict[str, Any]:
    """A photo, what the network says of it, and the maps of as many classes as there is room for."""
    picture, (height, width) = _picture(Image.fromarray(exp.photo), side)
    logits = exp.logits.float().cpu()
    cells = sum(s.features.shape[2] * s.features.shape[3] for s in exp.sights)
    room = max(FEW, MAP_BYTES // (2 * cells)) if exp.verified_head else FEW
    classes = sorted(logits.argsort(descending=True, stable=True)[:room].tolist())
    count = Counter(exp.classifier.labels)
    return {
        "name": name,
        "picture": picture,
        "size": [height, width],
        "network": exp.classifier.name,
        "method": exp.method,
        "unit": exp.unit,
        "additive": exp.method in ADDITIVE,
        "classes": classes,
        "several": [k for k in classes if count[exp.classifier.labels[k]] > 1],  # shown with their index
        "logits": _base64(logits[classes].numpy()),
        "total": logits.double().logsumexp(0).item(),
        "bias": _base64(exp.bias[classes].cpu().numpy()) if exp.verified_head else None,
        "looks": [
            {"resized": s.view.resized, "offset": s.view.offset, "size": s.view.size, "cells": maps.shape[1:]}
            | _encoded(maps.float().cpu().numpy())
            for s, maps in zip(exp.sights, exp._maps(classes), strict=True)
        ],
    }


def _encoded(maps: np.ndarray) -> dict[str, str]:
    """Maps (K, h, w) as 16 bits between each map's own ends: off by at most 1/131070 of the distance between these."""
    flat = maps.reshape(len(maps), -1)
    if not np.isfinite(flat).all():
        raise CamError("Some maps are not finite; the page cannot show them.")
    low, high = flat.min(1).astype(np.float64), flat.max(1).astype(np.float64)
    step = np.where(high > low, high - low, 1) / STEPS
    steps = np.rint((flat - low[:, None]) / step[:, None]).astype("<u2")
    return {"steps": _base64(steps), "ends": _base64(np.stack([low, high], 1).astype("<f4"))}


def _picture(image: Image.Image, side: int) -> tuple[str, tuple[int, int]]:
    """The image as a JPEG in an address of its own, and its (height, width); coarser where it would be too large."""
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


class Explorer:
    """The explorer live in JupyterLab: the page, and above it a photo of one's own, other networks, other methods.

    exps: one explanation or several; names: what their photos are called. Needs ipywidgets and a running kernel; a page
    that needs neither is written by `to_html`. `explanations` holds what is shown.

    >>> from camlib import explain, load_model
    >>> Explorer(explain(load_model(), "data/photos/cat.jpg"), names=["cat.jpg"])
    Explorer(cat.jpg by efficientnet_lite0, cam)
    """

    def __init__(self, exps: Explanation | Sequence[Explanation], names: Sequence[str] | None = None) -> None:
        try:
            import ipywidgets as w
        except ImportError as e:
            raise CamError("Explorer needs ipywidgets (pip install ipywidgets); exp.to_html(path) does without.") from e
        self.explanations = [exps] if isinstance(exps, Explanation) else list(exps)
        page = _page(self.explanations, names)
        self.names = list(names or (f"photo {n}" for n in range(1, len(self.explanations) + 1)))
        first = self.explanations[0]
        wide = {"style": {"description_width": "initial"}}
        self._upload = w.FileUpload(accept="image/*", multiple=True, description="Your photo")
        options = list(dict.fromkeys([first.classifier.name, *NETWORKS]))
        self._network = w.Combobox(
            value=first.classifier.name, options=options, description="Network", continuous_update=False, **wide
        )
        self._method = w.Dropdown(value=first.method, options=METHODS, description="Method", **wide)
        self._status = w.HTML()
        self._page = w.HTML(_in_div(page), layout=w.Layout(width="100%"))
        self._classifiers = {first.classifier.name: first.classifier}
        self._upload.observe(self._uploaded, "value")
        self._network.observe(self._asked_again, "value")
        self._method.observe(self._asked_again, "value")
        row = w.HBox([self._upload, self._network, self._method], layout=w.Layout(flex_flow="row wrap", grid_gap="8px"))
        self.widget = w.VBox([row, self._status, self._page])

    def __repr__(self) -> str:
        first = self.explanations[0]
        return f"Explorer({', '.join(self.names)} by {first.classifier.name}, {first.method})"

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The widget; and a figure with alt text, for where no kernel runs."""
        from camlib.plot import encode

        figure = self.explanations[0].plot()
        view = self.widget._repr_mimebundle_()["application/vnd.jupyter.widget-view+json"]
        data = {"text/plain": repr(self), "image/jpeg": encode(figure)}
        return data | {"application/vnd.jupyter.widget-view+json": view}, {"image/jpeg": {"alt": figure.get_label()}}

    def _uploaded(self, _: Any) -> None:
        def add() -> None:
            for file in self._upload.value:
                exp = self._explain(decode(bytes(file["content"]), file["name"]), self.explanations[0])
                self.explanations.append(exp)
                self.names.append(file["name"])

        self._try(add, start=-1)

    def _asked_again(self, _: Any) -> None:
        def replace() -> None:
            self.explanations = [self._explain(exp.photo, exp) for exp in self.explanations]

        self._try(replace, start=0)

    def _explain(self, photo: np.ndarray, like: Explanation) -> Explanation:
        from camlib.models import load_model

        name = self._network.value.strip()
        if name not in self._classifiers:
            self._classifiers[name] = load_model(name)
        whole = like.view.size == like.view.resized
        return explain(self._classifiers[name], photo, method=self._method.value, view="whole" if whole else "crop")

    def _try(self, work: Any, start: int) -> None:
        """Do the work and show its page, or say why not and leave the page as it is."""
        self._status.value = "Working …"
        try:
            work()
            start %= len(self.explanations)
            self._page.value = _in_div(_page(self.explanations, self.names, start=start))
            self._status.value = ""
        except CamError as e:
            self._status.value = f'<span role="alert">{html.escape(str(e))}</span>'


def _in_div(page: str) -> str:
    return f"<div>{_frame(page)}</div>"
