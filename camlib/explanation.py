"""An explanation: the network's output for one photo, the maps of its classes, and all ways to show or save them."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from camlib import page
from camlib.cam import residual
from camlib.errors import CamError, LayerError
from camlib.evidence import ClassMaps, Evidence, ViewResult, evidence
from camlib.files import write_whole
from camlib.hooks import Layer
from camlib.methods import METHODS, Method, find_method
from camlib.models import Classifier
from camlib.outputs import in_words, probabilities, resolve_activation
from camlib.plot import LARGEST_PANEL, figure, overlay, picture, side_by_side, whereabouts
from camlib.targets import Target, Targets
from camlib.views import View, place

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
PICTURES |= {".bmp": "BMP", ".gif": "GIF"}
KEPT = 10  # how many classes' maps a pickle holds, for methods that compute each map separately
Offset = tuple[float, float]


@dataclass(frozen=True)
class Prediction:
    """A class and what the network says about it.

    Attributes
    ----------
    index
        The class's index.
    label
        The class's name.
    probability
        From 0 to 1; None if the scores have no probabilities.
    logit
        The network's score.

    Examples
    --------
    >>> print(Prediction(282, "tiger cat", 0.381, 8.9))
    tiger cat, 38.1 %
    """

    index: int
    label: str
    probability: float | None
    logit: float

    def __str__(self) -> str:
        return in_words(self.label, self.logit, self.probability)


class NoNetwork(nn.Module):
    """Replaces the network in the classifier of an explanation that was copied or loaded from a file."""

    def forward(self, x: Tensor) -> Tensor:
        raise CamError(
            "This explanation is a copy, or was loaded from a file: it holds no network. Explain the photo again."
        )


@dataclass(frozen=True, eq=False)
class Explanation:
    """A network's results for one photo: logits, and a map for every class. Made by `explain`.

    With the methods "cam" and "frozen" the maps are verified: mean(map) + rest == logit. With "cam", the rest is the
    classifier's bias. The other methods have no such identity, so `maps`, `bias`, `rest`, `share` and `residual` raise
    an error. Tensors stay on the classifier's device until something is drawn. With several sizes, the logits and maps
    are means over the resolutions, and the maps have as many cells as the finest one. Nothing here changes if you train
    the network further. A pickle or a copy (`copy.deepcopy`) holds arrays on the CPU, labels and the recipe, but not
    the network.

    Attributes
    ----------
    classifier
        The network, with its labels.
    photo : (H, W, 3) uint8, RGB
    evidence
        The method, its layer, and the results for each resolution.
    prepared : (1, C, h, w)
        The network's input, if it was given as a tensor.

    Examples
    --------
    >>> from camlib import explain, load_model
    >>> exp = explain(load_model(), np.full((240, 320, 3), 128, np.uint8))
    >>> exp.maps.shape, exp.heatmap("espresso").shape, exp.overlay(["espresso", "cup"]).shape
    (torch.Size([1000, 7, 7]), torch.Size([240, 320]), (2, 240, 320, 3))
    >>> bool(abs(exp.map(967).mean() + exp.rest(967) - exp.logits[967]) < 1e-4)
    True
    """

    classifier: Classifier
    photo: np.ndarray  # (H, W, 3) uint8
    evidence: Evidence
    prepared: Tensor | None = None  # the input (1, C, h, w), if it was given as a tensor

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def method(self) -> str:
        """The name of the method."""
        return self.evidence.method.name

    @property
    def layer(self) -> str:
        """The name of the layer whose output is the feature map."""
        return self.evidence.layer

    @property
    def results(self) -> tuple[ViewResult, ...]:
        """For each resolution: the view, the feature map (1, C, h, w), the logits (1, K) and the maps."""
        return self.evidence.results

    @property
    def view(self) -> View:
        """How the network saw the photo; the finest view if there are several."""
        return max(self.results, key=lambda result: result.features.shape[-1]).view

    @property
    def unit(self) -> str:
        """The unit of a map's values, as text for a colour bar."""
        return self.evidence.method.unit + ", by this photo's weights" * self.evidence.of_this_photo

    @property
    def additive(self) -> bool:
        """Whether the maps of two classes may be subtracted."""
        return self.evidence.method.additive

    def __repr__(self) -> str:
        h, w = self.photo.shape[:2]
        cells = "×".join(str(max(r.features.shape[axis] for r in self.results)) for axis in (2, 3))
        best = self.top(1)[0]
        says = in_words(_short(best.label), best.logit, best.probability)
        return f"Explanation({says}; {self.method} by {_short(self.classifier.name)}, {cells} cells, photo {w}×{h})"

    # --- what the network says ---------------------------------------------------------------------------------------

    @cached_property
    def logits(self) -> Tensor:
        """(K,) float32: the network's scores."""
        return torch.stack([r.logits[0] for r in self.results]).mean(0)

    @cached_property
    def probabilities(self) -> Tensor | None:
        """(K,) float64 on the CPU: softmax or sigmoid of the logits, see `camlib.load_model`; None for a regression."""
        return probabilities(self.logits, self.classifier.activation)

    def prediction(self, target: Target) -> Prediction:
        """What the network says about one class.

        Parameters
        ----------
        target
            A class index or a label.

        Returns
        -------
        prediction : Prediction

        Raises
        ------
        TargetError
            If there is no such class.
        """
        k = self.classifier.index(target)
        p = None if self.probabilities is None else self.probabilities[k].item()
        return Prediction(k, self.classifier.labels[k], p, self.logits[k].item())

    def top(self, n: int = 5) -> list[Prediction]:
        """The classes with the largest scores.

        Parameters
        ----------
        n
            How many, at least 1.

        Returns
        -------
        predictions : list of Prediction
            The largest first.

        Raises
        ------
        CamError
            If n is not a whole number from 1.
        """
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
            raise CamError(f"top({n!r}): n must be a whole number, at least 1.")
        order = self.logits.cpu().argsort(descending=True, stable=True)[:n].tolist()
        return [self.prediction(k) for k in order]

    # --- the maps ----------------------------------------------------------------------------------------------------

    @cached_property
    def maps(self) -> Tensor:
        """(K, h, w) float32, signed: mean over (h, w) plus bias is the logit. For "frozen", each is a backward pass."""
        self._exact()
        return _share([r.maps.every for r in self.results])

    @property
    def bias(self) -> Tensor:
        """(K,) float32: the part of each logit that lies on no cell."""
        return self._exact()

    def _exact(self) -> Tensor:
        if self.evidence.bias is None:
            raise CamError(
                f"The maps of {self.method!r} do not sum to the logits, so bias, rest, share, residual and maps (all "
                "classes at once) are not available. Use exp.map(CLASS), or explain with method='cam' or 'frozen'."
            )
        return self.evidence.bias

    def map(self, target: Targets) -> Tensor:
        """The signed evidence for a class.

        Parameters
        ----------
        target
            A class index or a label, or a list of n of them.

        Returns
        -------
        map : (h, w)
            (n, h, w) for a list of n classes. In `unit`.

        Raises
        ------
        TargetError
            If there is no such class.
        """
        chosen = self.classifier.choose(target)
        return chosen.shaped(self._mean_maps(chosen.indices))

    def heatmap(self, target: Targets, offset: Offset = (0.0, 0.0)) -> Tensor:
        """The evidence for a class on the photo, bilinear.

        Parameters
        ----------
        target
            A class index or a label, or a list of n of them.
        offset
            As in `place`.

        Returns
        -------
        heat : (H, W)
            (n, H, W) for a list of n classes. NaN outside the network's view. In `unit`.

        Raises
        ------
        TargetError
            If there is no such class.
        """
        chosen = self.classifier.choose(target)
        return chosen.shaped(self._place(chosen.indices, offset))

    def contrast(self, a: Target, b: Target) -> Tensor:
        """The evidence for class a over class b.

        Parameters
        ----------
        a, b
            Class indices or labels.

        Returns
        -------
        map : (h, w)
            Its mean plus bias[a] - bias[b] is logit a - logit b.

        Raises
        ------
        CamError
            If maps of this method may not be subtracted.
        TargetError
            If there is no such class.
        """
        i, j = self.classifier.index(a), self.classifier.index(b)
        if not self.additive:
            known = ", ".join(name for name, method in METHODS.items() if method.additive)
            raise CamError(f"The maps of {self.method!r} are not additive; contrast works with {known}.")
        first, second = self._mean_maps([i, j])
        return first - second

    def rest(self, target: Target | None = None) -> float:
        """The part of a class's logit that lies on no cell: mean(map) + rest == logit.

        Parameters
        ----------
        target
            A class index or a label; by default the best class.

        Returns
        -------
        rest : float
            In logits.

        Raises
        ------
        CamError
            If the method has no such identity.
        """
        return float(self._exact()[self._best() if target is None else self.classifier.index(target)])

    def share(self, target: Target | None = None) -> float:
        """The fraction of a class's logit that lies on the map: mean(map) / logit.

        Parameters
        ----------
        target
            A class index or a label; by default the best class.

        Returns
        -------
        share : float
            Above 1, or negative, where the rest or the map has the sign opposite to the logit's.

        Raises
        ------
        CamError
            If the method has no such identity.
        """
        self._exact()
        k = self._best() if target is None else self.classifier.index(target)
        return float(self.map(k).mean() / self.logits[k])

    def residual(self, targets: Targets | None = None) -> float:
        """How far the identity is off: the largest |mean(map) + rest - logit|.

        Parameters
        ----------
        targets
            One class or a list; by default, all classes with "cam", and only the best class with "frozen", which
            computes each map separately.

        Returns
        -------
        residual : float
            In logits.

        Raises
        ------
        CamError
            If the method has no such identity.
        """
        bias = self._exact()
        if targets is None and self.method == "cam":
            return residual(self.maps[None], bias, self.logits[None])
        k = [self._best()] if targets is None else self.classifier.choose(targets).indices
        return residual(self._mean_maps(k)[None], bias[k], self.logits[None, k])

    def largest(self, targets: Targets) -> float:
        """The largest |evidence| of several classes on the photo: the `limit` that puts their pictures on one scale.

        Parameters
        ----------
        targets
            One class or a list.

        Returns
        -------
        limit : float
            In `unit`.
        """
        return max(float(self._place([k])[0].abs().nan_to_num().max()) for k in self.classifier.choose(targets).indices)

    def _mean_maps(self, indices: list[int]) -> Tensor:
        return _share([r.maps.stack(indices) for r in self.results])

    def _place(self, indices: list[int], offset: Offset = (0.0, 0.0)) -> Tensor:
        """(n, H, W): each resolution's maps upsampled onto the photo, then averaged."""
        placed = [place(r.maps.stack(indices), r.view, offset) for r in self.results]
        return placed[0] if len(placed) == 1 else torch.stack(placed).mean(0)

    # --- pictures ----------------------------------------------------------------------------------------------------

    def overlay(
        self, target: Targets | None = None, limit: float | None = None, offset: Offset = (0.0, 0.0), **style: Any
    ) -> np.ndarray:
        """The evidence for a class on the photo, as a picture; see `camlib.overlay`.

        Parameters
        ----------
        target
            A class index or a label, by default the best class; or a list of n of them.
        limit
            The evidence at full colour, by default the largest of these maps.
        offset
            As in `place`.
        style
            alpha and cmap, as in `camlib.overlay`.

        Returns
        -------
        picture : (H, W, 3) uint8, RGB
            (n, H, W, 3) for a list of n classes, all on one scale.
        """
        target = self._best() if target is None else target
        heats = self.heatmap(target, offset).cpu()
        if heats.ndim == 2:
            return overlay(self.photo, heats, limit, **style)
        limit = float(heats.abs().nan_to_num().max()) if limit is None else limit
        return np.stack([overlay(self.photo, heat, limit, **style) for heat in heats])

    def plot(
        self,
        targets: Targets | None = None,
        limit: float | None = None,
        offset: Offset = (0.0, 0.0),
        **style: Any,
    ) -> "Figure":
        """A figure of the photo and the overlays of classes on one scale, with alt text.

        Parameters
        ----------
        targets
            One class or a list, by default the best two.
        limit
            The value at full colour, by default the largest of these maps.
        offset
            As in `place`.
        style
            alpha and cmap, as in `camlib.overlay`.

        Returns
        -------
        fig : matplotlib.figure.Figure
        """
        indices = self._indices(targets)
        names = [self._title(k) for k in indices]
        small = self._for_figures()
        heats = small._place(indices, offset).cpu()
        fig = figure(small.photo, list(heats), names, small.view.box, limit, self.unit, **style)
        fig.set_label(_alt_text("", [name.replace("\n", ", ") for name in names], heats))
        return fig

    def compare(
        self, *methods: str, target: Target | None = None, layer: Layer | None = None, **style: Any
    ) -> "Figure":
        """A figure of one class with several methods, each on its own labelled scale.

        Parameters
        ----------
        methods
            Their names in `METHODS`.
        target
            A class index or a label; by default the best class.
        layer
            As in `by`.
        style
            alpha and cmap, as in `camlib.overlay`.

        Returns
        -------
        fig : matplotlib.figure.Figure

        Raises
        ------
        CamError
            If the network has changed since this explanation was made.
        """
        if not methods:
            raise CamError("compare takes the names of methods, such as exp.compare('cam', 'grad_cam').")
        k = self._best() if target is None else self.classifier.index(target)
        others = [self.by(name, layer)._for_figures() for name in methods]
        heats = [other._place([k])[0].cpu() for other in others]
        names = [
            f"{name} at {other.layer}" if layer is not None and name != "cam" else name
            for name, other in zip(methods, others, strict=True)
        ]
        titles = [f"{name}: {other._title(k)}" for name, other in zip(names, others, strict=True)]
        first = others[0]
        fig = side_by_side(first.photo, heats, titles, [other.unit for other in others], first.view.box, **style)
        fig.set_label(_alt_text(f" of {self.prediction(k)}", names, heats, ", each on its own scale"))
        return fig

    def _for_figures(self) -> "Explanation":
        """The same with a large photo scaled down: a panel shows fewer pixels, and needs memory for each."""
        from PIL import Image

        scale = LARGEST_PANEL / max(self.photo.shape[:2])
        if scale >= 1:
            return self
        h, w = (max(1, round(scale * side)) for side in self.photo.shape[:2])
        photo = np.asarray(Image.fromarray(self.photo).resize((w, h), Image.Resampling.LANCZOS))
        results = tuple(replace(r, view=replace(r.view, photo=(h, w))) for r in self.results)
        return replace(self, photo=photo, evidence=replace(self.evidence, results=results))

    def by(self, method: str, layer: Layer | None = None) -> "Explanation":
        """The same photo and views, explained by another method, with the network as it is now.

        Parameters
        ----------
        method
            A name in `METHODS`.
        layer
            The layer with the feature map, for methods that take one (see `explain`). None keeps this explanation's
            layer if its own method takes one.

        Returns
        -------
        exp : Explanation

        Raises
        ------
        CamError
            If the network has changed since this explanation was made.
        """
        exact = method == "cam"
        if method == self.method and (exact or layer is None):
            return self
        chosen = find_method(method)
        if exact or layer is not None:
            return self._by(chosen, None if exact else layer)
        if self.method == "cam":
            return self._by(chosen, None)
        try:
            return self._by(chosen, self.layer)
        except LayerError:  # with several sizes, a small input may have had its map in an earlier layer
            return self._by(chosen, None)

    def _by(self, method: Method, layer: Layer | None) -> "Explanation":
        views = [r.view for r in self.results]
        given = self.prepared
        tensors = [self.classifier.preprocess(self.photo, v) if given is None else given for v in views]
        (other,) = evidence(self.classifier, [views], [tensors], method, layer)
        again = replace(self, evidence=other)
        if not torch.allclose(again.logits, self.logits, rtol=1e-3, atol=1e-3 * float(self.logits.abs().max())):
            raise CamError("The network has changed since this explanation was made; explain the photo again.")
        return again

    # --- files -------------------------------------------------------------------------------------------------------

    def save(
        self, path: str | os.PathLike, target: Targets | None = None, limit: float | None = None, **style: Any
    ) -> Path:
        """Save a class as a picture or as numbers, depending on the suffix. Files are written completely or not at all.

        Parameters
        ----------
        path
            .png, .jpg, .webp, .tif, .bmp, .gif: the overlay, or a figure for a list of classes. .npy: the signed map
            (h, w) float32, or (n, h, w) for a list. .npz: these maps, all logits, and where the maps lie on the photo.
            Numbers come with a manifest, `PATH.json`, which describes them.
        target
            A class index or a label, by default the best class; or a list.
        limit, style
            As in `overlay`.

        Returns
        -------
        path : Path

        Raises
        ------
        CamError
            For another suffix, or if the file cannot be written.
        """
        from PIL import Image

        path = Path(path)
        suffix = path.suffix.lower()
        target = self._best() if target is None else target
        if suffix in (".npy", ".npz"):
            return self._save_numbers(path, target)
        if suffix not in PICTURES:
            raise CamError(
                f"{path}: save writes pictures (.png, .jpg, .webp, .tif, .bmp, .gif) and numbers (.npy, .npz)."
            )
        chosen = self.classifier.choose(target)
        if not chosen.single:
            image = picture(self.plot(chosen.indices, limit, **style))
        else:
            image = Image.fromarray(self.overlay(chosen.indices[0], limit, **style))
        kind = PICTURES[suffix]
        options = {"PNG": {"compress_level": 1}, "JPEG": {"quality": 92}}.get(kind, {})
        return write_whole(path, lambda file: image.save(file, kind, **options))

    def _save_numbers(self, path: Path, target: Targets) -> Path:
        chosen = self.classifier.choose(target)
        maps = self.map(target).cpu().numpy()
        if path.suffix.lower() == ".npy":
            write_whole(path, lambda file: np.save(file, maps))
        else:
            view = self.view
            arrays: dict[str, Any] = {
                "maps": maps,
                "classes": np.array(chosen.indices),
                "labels": np.array([self.classifier.labels[k] for k in chosen.indices]),
                "logits": self.logits.cpu().numpy(),
                "box": np.array(view.box),  # left, top, right, bottom of the window on the photo, in its pixels
            }
            if self.evidence.bias is not None:
                arrays[self._rest_name()] = self.evidence.bias.cpu().numpy()
            if self.probabilities is not None:
                arrays["probabilities"] = self.probabilities.numpy()
            write_whole(path, lambda file: np.savez_compressed(file, **arrays))
        text = json.dumps(self.manifest(chosen.indices), ensure_ascii=False, indent=2) + "\n"
        write_whole(path.with_name(path.name + ".json"), lambda file: file.write(text.encode()))
        return path

    def manifest(self, targets: Targets | None = None) -> dict[str, Any]:
        """What was explained and how, for JSON: network, method, layer, unit, views, and the classes' scores.

        Parameters
        ----------
        targets
            One class or a list, by default the best two.

        Returns
        -------
        manifest : dict
        """
        from camlib.version import __version__

        classes = []
        for k in self._indices(targets):
            says = self.prediction(k)
            entry = {"index": k, "label": says.label, "probability": says.probability, "logit": says.logit}
            if self.evidence.bias is not None:
                entry[self._rest_name()] = float(self.evidence.bias[k])
            classes.append(entry)
        views = [
            {
                "resized": v.resized,
                "offset": v.offset,
                "size": v.size,
                "box": v.box,
                "cells": list(r.features.shape[2:]),
            }
            for r in self.results
            for v in [r.view]
        ]
        recipe = {name: getattr(self.classifier, name) for name in ("size", "resize", "interpolation", "mean", "std")}
        return {
            "camlib": __version__,
            "network": self.classifier.name,
            "method": self.method,
            "layer": self.layer,
            "unit": self.unit,
            "activation": resolve_activation(self.classifier.activation, self.logits),
            "recipe": recipe,
            "photo": list(self.photo.shape[:2]),
            "views": views,
            "classes": classes,
        }

    def to_html(self, path: str | os.PathLike, name: str | None = None) -> Path:
        """Write a page with every class's map that needs no kernel or network connection; see `camlib.to_html`.

        Parameters
        ----------
        path
            The file, .html.
        name
            The photo's name on the page.

        Returns
        -------
        path : Path

        Raises
        ------
        CamError
            If the file cannot be written.
        """
        return Path(page.to_html(self, path, names=None if name is None else [name]))

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """What the output is, beside the text and the page, which IPython adds."""
        return {page.EXPLANATION_TYPE: {"network": self.classifier.name, "method": self.method}}

    def _repr_html_(self) -> str:
        """The same page as a notebook's output."""
        return page.framed(self)

    def __getstate__(self) -> dict[str, Any]:
        for r in self.results:
            if isinstance(r.maps, ClassMaps) and r.maps.compute is not None and self.evidence.method.by_gradient:
                r.maps.stack([p.index for p in self.top(KEPT)])
        # On the CPU, so that the pickle also loads on machines without this device
        results = tuple(replace(r, features=r.features.cpu(), logits=r.logits.cpu()) for r in self.results)
        bias = None if self.evidence.bias is None else self.evidence.bias.cpu()
        method = replace(self.evidence.method, formula=None)
        return {
            "classifier": replace(self.classifier, module=NoNetwork(), output=None),
            "photo": self.photo,
            "evidence": replace(self.evidence, method=method, results=results, bias=bias),
            "prepared": None,
        }

    # --- helpers -----------------------------------------------------------------------------------------------------

    def _best(self) -> int:
        return int(self.logits.argmax())

    def _rest_name(self) -> str:
        return "rest" if self.evidence.method.frozen else "bias"

    def _title(self, k: int) -> str:
        """A class and what the network says about it; with "frozen", also how much of its logit lies on the map."""
        says = self.prediction(k)
        if self.method != "frozen":
            return str(says)
        return f"{says}\n{on_the_map(says.logit - self.rest(k), says.logit)}"

    def _indices(self, targets: Targets | None) -> list[int]:
        if targets is None:
            return [p.index for p in self.top(min(2, len(self.logits)))]
        return self.classifier.choose(targets).indices


def _share(maps: Sequence[Tensor]) -> Tensor:
    """The mean of maps (…, h, w) of several resolutions on the finest grid; each map's mean stays the same.

    A coarse cell's evidence is shared among the fine cells that it overlaps, by area. So mean + bias == logit still
    holds exactly.
    """
    if len(maps) == 1:
        return maps[0]
    h, w = (max(m.shape[axis] for m in maps) for axis in (-2, -1))
    with torch.autocast(maps[0].device.type, enabled=False):
        return torch.stack([_overlap(h, m.shape[-2], m) @ m @ _overlap(w, m.shape[-1], m).T for m in maps]).mean(0)


def _overlap(fine: int, coarse: int, like: Tensor) -> Tensor:
    """(fine, coarse): the share of each fine cell that lies in each coarse cell."""
    edges, cells = torch.arange(fine + 1, device=like.device) * coarse, torch.arange(coarse, device=like.device) * fine
    low = torch.maximum(edges[:-1, None], cells)
    high = torch.minimum(edges[1:, None], cells + fine)
    return (high - low).clamp(min=0).to(like.dtype) / coarse


def on_the_map(evidence: float, logit: float) -> str:
    """How much of a logit lies on the map, in words.

    The rest may have the other sign; then there is no percentage.

    >>> on_the_map(4.1, 8.2), on_the_map(3.0, 2.0)
    ('4.1 of its 8.2 on the map (50 %)', '2.0 = map 3.0, rest −1.0')
    """
    of, on, rest = (f"{round(v, 1) + 0:.1f}".replace("-", "−") for v in (logit, evidence, logit - evidence))
    if logit and 0 <= evidence / logit <= 1:
        return f"{on} of its {of} on the map ({100 * evidence / logit:.0f} %)"
    return f"{of} = map {on}, rest {rest}"


def _short(text: str, length: int = 50) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _alt_text(of: str, names: Sequence[str], heats: "Sequence[Tensor] | Tensor", scales: str = "") -> str:
    """of: what all maps show. scales: how several of them are to be compared."""
    parts = []
    for name, heat in zip(names, heats, strict=True):
        largest = int(heat.nan_to_num(-torch.inf).argmax())
        parts.append(f"{name}, strongest at the {whereabouts(largest, heat.shape)}")
    maps = f"a heat map{of} on it" if len(parts) == 1 else f"heat maps{of} on it{scales}"
    return f"The photo, and {maps}: {'; '.join(parts)}."
