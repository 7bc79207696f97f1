"""From a photo to verified evidence for every class: the only module that knows the whole way."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal
from uuid import uuid4

import numpy as np
import torch
from torch import Tensor

from camlib import gradcam
from camlib.cam import class_activation_maps, contrast, residual
from camlib.errors import CamError, ModelError
from camlib.geometry import View, place
from camlib.heads import Head
from camlib.hooks import Layer
from camlib.images import check_photo
from camlib.models import Classifier
from camlib.plot import UNIT, figure, overlay

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Target = int | str
METHODS = ("cam", *gradcam.METHODS)
ADDITIVE = ("cam", "grad_cam", "hires_cam")  # whose maps of two classes may be subtracted
UNITS = {"cam": UNIT, "grad_cam": "gradient × activation per cell", "hires_cam": "gradient × activation per cell"}


@dataclass(frozen=True)
class Prediction:
    """One class and what the network says of it."""

    index: int
    label: str
    probability: float
    logit: float


@dataclass(frozen=True, eq=False)
class Sight:
    """One look at a photo: the view, the feature map (1, C, h, w) and the logits (1, K)."""

    view: View
    features: Tensor
    logits: Tensor
    look: gradcam.Look | None = None  # with the graph between the two; None for the method "cam"


@dataclass(frozen=True, eq=False)
class Explanation:
    """What the network saw: logits and the map of every class, computed when asked for.

    With the method "cam" the maps are verified: mean(map) + bias == logit. The other methods have no such identity, so
    `maps`, `bias` and `residual` refuse. Tensors stay on the classifier's device until something is drawn. With several
    `sizes` the logits and maps are the means over the resolutions; the maps then have the cells of the finest.
    """

    classifier: Classifier
    photo: np.ndarray  # (H, W, 3) uint8
    method: str
    sights: tuple[Sight, ...]
    verified_head: Head | None  # None for methods other than "cam"

    @property
    def head(self) -> Head:
        """The head whose weights make the maps."""
        if self.verified_head is None:
            raise CamError(
                f"Made by {self.method!r}, whose maps do not sum to the logits: no head, bias, residual, nor maps of "
                "all classes. Ask for exp.map(CLASS), or explain with method='cam'."
            )
        return self.verified_head

    @property
    def unit(self) -> str:
        """What a map's values are, for a colour bar."""
        if self.verified_head is not None and self.verified_head.of_this_photo:
            return f"{UNIT}, by this photo's weights"
        return UNITS.get(self.method, "weighted activation per cell")

    @cached_property
    def logits(self) -> Tensor:
        """(K,) float32."""
        return torch.stack([s.logits[0] for s in self.sights]).mean(0)

    @property
    def bias(self) -> Tensor:
        """(K,) float32: the part of each logit that lies nowhere."""
        return self.head.bias.float()

    @property
    def view(self) -> View:
        """How the network saw the photo; the finest view where there are several."""
        return max(self.sights, key=lambda s: s.features.shape[-1]).view

    @cached_property
    def maps(self) -> Tensor:
        """(K, h, w) float32, signed: mean over (h, w) plus bias is the logit."""
        return self._mean_maps(slice(None))

    def map(self, target: Target) -> Tensor:
        """(h, w): the evidence for a class, by index or label, in logits per cell."""
        return self._mean_maps([self.classifier.index(target)])[0]

    def heatmap(self, target: Target, calibrated: bool = False) -> Tensor:
        """(H, W): the map on the photo, bilinear; NaN where the network never looked. calibrated: see `place`."""
        return self._place([self.classifier.index(target)], calibrated)[0]

    def contrast(self, a: Target, b: Target) -> Tensor:
        """(h, w): what speaks for a against b; its mean plus bias[a] - bias[b] is logit a - logit b."""
        i, j = self.classifier.index(a), self.classifier.index(b)
        if self.method == "cam":
            weight = self.head.weight.float()
            return _share([contrast(s.features, weight, i, j)[0] for s in self.sights])
        if self.method not in ADDITIVE:
            raise CamError(
                f"Maps of {self.method!r} are no sums over the logits; contrast takes {', '.join(ADDITIVE)}."
            )
        first, second = self._mean_maps([i, j])
        return first - second

    def residual(self) -> float:
        """max over all classes of |mean(map) + bias - logit|, in logits."""
        return residual(self.maps[None], self.bias, self.logits[None])

    def top(self, n: int = 5) -> list[Prediction]:
        """The n most probable classes."""
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
            raise CamError(f"top({n!r}): a whole number from 1 on is needed.")
        probability = self.logits.double().softmax(0)
        order = self.logits.argsort(descending=True, stable=True)[:n].tolist()
        return [Prediction(k, self.classifier.labels[k], probability[k].item(), self.logits[k].item()) for k in order]

    def overlay(
        self, target: Target | None = None, limit: float | None = None, calibrated: bool = False, **style: Any
    ) -> np.ndarray:
        """(H, W, 3) uint8: a class's evidence (by default the most probable's) on the photo, see `camlib.overlay`."""
        return overlay(self.photo, self.heatmap(self._or_best(target), calibrated).cpu(), limit, **style)

    def plot(
        self,
        targets: Target | Sequence[Target] | None = None,
        limit: float | None = None,
        calibrated: bool = False,
        **style: Any,
    ) -> "Figure":
        """A figure: the photo and the overlays of the targets (by default the best two) on one scale, with alt text."""
        indices = self._indices(targets)
        probability = self.logits.double().softmax(0)
        names = [f"{self.classifier.labels[k]}, {100 * probability[k].item():.1f} %" for k in indices]
        heats = self._place(indices, calibrated).cpu()
        fig = figure(self.photo, list(heats), names, self.view.box, limit, self.unit, **style)
        fig.set_label(self._alt(indices, names, heats))
        return fig

    def save(
        self, path: str | os.PathLike, target: Target | None = None, limit: float | None = None, **style: Any
    ) -> Path:
        """Write the overlay of a class as a picture, whole or not at all; the suffix says the format."""
        from PIL import Image

        path = Path(path)
        kind = Image.registered_extensions().get(path.suffix.lower())
        if kind not in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"):
            raise CamError(f"{path}: pictures are written as .png, .jpg, .webp, .tif, .bmp or .gif.")
        picture = Image.fromarray(self.overlay(target, limit, **style))
        options = {"PNG": {"compress_level": 1}, "JPEG": {"quality": 92}}.get(kind, {})
        return write_whole(path, lambda file: picture.save(file, kind, **options))

    def to_html(self, path: str | os.PathLike, name: str | None = None) -> Path:
        """Write a page to explore every class's map without kernel or network, see `camlib.explorer.to_html`."""
        from camlib import explorer

        return Path(explorer.to_html(self, path, names=None if name is None else [name]))

    def _repr_html_(self) -> str:
        """The same page as a notebook's output."""
        from camlib import explorer

        return explorer.framed(self)

    def largest(self, targets: Sequence[Target]) -> float:
        """The largest |evidence| of several classes on the photo: the `limit` that puts their pictures on one scale."""
        heats = self._place(self._indices(targets))
        return float(heats.abs().nan_to_num().max())

    def _mean_maps(self, rows: slice | list[int]) -> Tensor:
        return _share(self._maps(rows))

    def _maps(self, rows: slice | list[int]) -> list[Tensor]:
        """(len(rows), h, w) for each resolution."""
        if isinstance(rows, slice) or self.method == "cam":
            weight = self.head.weight[rows].float()
            return [class_activation_maps(s.features, weight)[0] for s in self.sights]
        missing = [k for k in dict.fromkeys(rows) if k not in self._known]
        if missing:
            found = [s.look.maps(self.method, missing)[0] for s in self.sights if s.look]
            self._known.update({k: [maps[n] for maps in found] for n, k in enumerate(missing)})
        return [torch.stack([self._known[k][n] for k in rows]) for n in range(len(self.sights))]

    @cached_property
    def _known(self) -> dict[int, list[Tensor]]:
        return {}

    def _place(self, rows: list[int], calibrated: bool = False) -> Tensor:
        """(len(rows), H, W): each resolution laid on the photo smoothly, then their mean."""
        looks = zip(self._maps(rows), self.sights, strict=True)
        placed = [place(maps, s.view, calibrated, self.classifier) for maps, s in looks]
        return placed[0] if len(placed) == 1 else torch.stack(placed).mean(0)

    def _or_best(self, target: Target | None) -> Target:
        return int(self.logits.argmax()) if target is None else target

    def _indices(self, targets: Target | Sequence[Target] | None) -> list[int]:
        if targets is None:
            return [p.index for p in self.top(min(2, len(self.logits)))]
        several = list(targets) if isinstance(targets, Iterable) and not isinstance(targets, str) else [targets]
        if not several:
            raise CamError("No targets: give at least one class.")
        return [self.classifier.index(t) for t in several]

    def _alt(self, indices: list[int], names: list[str], heats: Tensor) -> str:
        parts = []
        for name, heat in zip(names, heats, strict=True):
            y, x = divmod(int(heat.nan_to_num(-torch.inf).argmax()), heat.shape[1])
            where = (
                _thirds(y / heat.shape[0], ("top", "middle", "bottom"))
                + " "
                + _thirds(x / heat.shape[1], ("left", "centre", "right"))
            )
            parts.append(f"{name} strongest at the {where}")
        return f"The photo, and heat maps of {len(indices)} class{'es' * (len(indices) > 1)} on it: {'; '.join(parts)}."


def explain(
    clf: Classifier,
    photo: np.ndarray | str | os.PathLike,
    *,
    method: str = "cam",
    view: Literal["crop", "whole"] = "crop",
    sizes: int | Sequence[int] | None = None,
    device: str | torch.device | None = None,
    layer: Layer | None = None,
) -> Explanation:
    """One forward pass; every class's evidence, verified by `mean(map) + bias == logit`, computed on demand.

    photo: (H, W, 3) uint8 or a path. view: "crop" shows the network what it was trained on, "whole" the entire photo.
    sizes: the input's side in pixels, or several, whose maps are averaged. device: where to run; None is where it is.
    method: "cam", or for any network "grad_cam", "hires_cam", "layer_cam", "grad_cam_plus_plus", "score_cam" (see
    camlib.gradcam), computed for the classes that are asked for; for these, layer names the feature map, None the last.

    Raises `HeadError` where the network has no exact map, `ImageError`, `ModelError` and `CamError` for what they say.

    >>> from camlib import load_model
    >>> exp = explain(load_model(), "data/photos/coffee.png")
    >>> exp.top(1)[0].label, exp.map("espresso").shape
    ('espresso', torch.Size([7, 7]))
    """
    return explain_all(clf, [photo], method=method, view=view, sizes=sizes, device=device, layer=layer)[0]


def explain_all(
    clf: Classifier,
    photos: Iterable[np.ndarray | str | os.PathLike],
    *,
    method: str = "cam",
    view: Literal["crop", "whole"] = "crop",
    sizes: int | Sequence[int] | None = None,
    device: str | torch.device | None = None,
    layer: Layer | None = None,
) -> list[Explanation]:
    """Explain several photos with one forward pass for all whose inputs have the same size; see `explain`."""
    if isinstance(photos, (str, os.PathLike)):
        raise CamError(f"explain_all takes several photos; give [{str(photos)!r}].")
    clf = check_method(clf, method, layer) if device is None else check_method(clf, method, layer).to(device)
    return explain_prepared(clf, [prepare(clf, photo, view, sizes) for photo in photos], method, layer)


# The same in two steps, for who prepares photos in other threads: camlib.folder


@dataclass(frozen=True, eq=False)
class Prepared:
    """A photo, and for each resolution the view and the network's input (1, 3, h, w)."""

    photo: np.ndarray
    asked: tuple[tuple[View, Tensor], ...]


def check_method(clf: Classifier, method: str, layer: Layer | None = None) -> Classifier:
    """The classifier, or the error that says why it cannot be asked so."""
    if not isinstance(clf, Classifier):
        raise ModelError(f"explain takes a Classifier, not {type(clf).__name__}: camlib.load_model(…) makes one of it.")
    if method not in METHODS:
        raise CamError(f"No method {method!r}; known: {', '.join(METHODS)}.")
    if method == "cam" and layer is not None:
        raise CamError("layer is for the other methods; where method='cam' applies, the network itself says which.")
    return clf


def prepare(
    clf: Classifier,
    photo: np.ndarray | str | os.PathLike,
    view: Literal["crop", "whole"] = "crop",
    sizes: int | Sequence[int] | None = None,
) -> Prepared:
    """Read, resize, crop and normalise a photo, once for each of the sizes."""
    photo = check_photo(photo)
    sides = [clf.size] if sizes is None else list(sizes) if isinstance(sizes, Iterable) else [sizes]
    if not sides:
        raise CamError("sizes is empty: give at least one side in pixels, or None.")
    views = [clf.view(photo, view, side) for side in sides]
    return Prepared(photo, tuple((v, clf.preprocess(photo, v)) for v in views))


def explain_prepared(
    clf: Classifier, ready: Sequence[Prepared], method: str = "cam", layer: Layer | None = None
) -> list[Explanation]:
    """Explain prepared photos; inputs of the same size go through the network together."""
    asked = [sight for one in ready for sight in one.asked]
    head = clf.head if method == "cam" else None
    sights = iter(_look(clf, head, asked) if head else _look_back(clf, asked, layer))
    return [Explanation(clf, one.photo, method, tuple(next(sights) for _ in one.asked), head) for one in ready]


def _look(clf: Classifier, head: Head, asked: list[tuple[View, Tensor]]) -> list[Sight]:
    """The network's look at each input, in the same order."""
    sights: dict[int, Sight] = {}
    for size in dict.fromkeys(view.size for view, _ in asked):
        group = [n for n, (view, _) in enumerate(asked) if view.size == size]
        features, logits = head.run(clf.module, torch.cat([asked[n][1] for n in group]))
        head.verify(features, logits)
        for row, n in enumerate(group):
            sights[n] = Sight(
                asked[n][0], features[row : row + 1].clone(), logits[row : row + 1].float()
            )  # not the batch's
    return [sights[n] for n in range(len(asked))]


def _look_back(clf: Classifier, asked: list[tuple[View, Tensor]], layer: Layer | None) -> list[Sight]:
    """The same with the graph from the layer to the logits, one by one: a photo's gradient needs its own graph."""
    sights = []
    for view, x in asked:
        seen = gradcam.look(clf.module, x, _feature_layer(clf, x) if layer is None else layer)
        if not torch.isfinite(seen.logits).all():
            raise ModelError("The network's logits are not finite on this photo; no map can be drawn.")
        sights.append(Sight(view, seen.features, seen.logits.detach().float(), seen))
    return sights


def _feature_layer(clf: Classifier, x: Tensor) -> str:
    return clf._once("feature layer", lambda: gradcam.find_feature_layer(clf.module, x))


def write_whole(path: str | os.PathLike, write: Callable[[BinaryIO], object]) -> Path:
    """Make a file whole or not at all: `write` fills a neighbour that then takes its name."""
    path = Path(path)
    part = path.parent / f".{uuid4().hex}.part"  # in the same folder, so that the last step is one rename
    try:
        with open(part, "xb") as file:
            write(file)
        os.replace(part, path)
    except (OSError, ValueError) as e:  # ValueError: a null byte in the name
        raise CamError(f"{path}: cannot be written ({getattr(e, 'strerror', None) or e}).") from e
    finally:
        part.unlink(missing_ok=True)
    return path


def _share(maps: list[Tensor]) -> Tensor:
    """The mean of maps (…, h, w) of several resolutions on the finest grid, keeping each one's mean over the cells.

    A coarse cell's evidence goes to the fine cells that it overlaps, by area, so mean + bias == logit stays exact.
    """
    if len(maps) == 1:
        return maps[0]
    h, w = (max(m.shape[axis] for m in maps) for axis in (-2, -1))
    return torch.stack([_overlap(h, m.shape[-2], m) @ m @ _overlap(w, m.shape[-1], m).T for m in maps]).mean(0)


def _overlap(fine: int, coarse: int, like: Tensor) -> Tensor:
    """(fine, coarse): the share of each fine cell that lies in each coarse cell."""
    edges, cells = torch.arange(fine + 1, device=like.device) * coarse, torch.arange(coarse, device=like.device) * fine
    low = torch.maximum(edges[:-1, None], cells)
    high = torch.minimum(edges[1:, None], cells + fine)
    return (high - low).clamp(min=0).to(like.dtype) / coarse


def _thirds(fraction: float, names: tuple[str, str, str]) -> str:
    return names[min(2, int(3 * fraction))]
