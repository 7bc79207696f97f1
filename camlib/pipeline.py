"""From an image to an explanation: the whole way, in order."""

from collections.abc import Iterable, Sequence
from typing import Any

from camlib.errors import CamError, ModelError
from camlib.evidence import evidence
from camlib.explanation import Explanation
from camlib.hooks import Layer
from camlib.inputs import ImageLike, Input, each, prepare
from camlib.methods import Method, find_method
from camlib.models import Classifier, Kind


def explain(
    clf: Classifier,
    image: ImageLike,
    *,
    method: str = "cam",
    view: Kind = "crop",
    sizes: int | Sequence[int] | None = None,
    layer: Layer | None = None,
) -> Explanation:
    """One forward pass, and the evidence for every class, verified by `mean(map) + bias == logit`.

    clf: from `load_model`. image: a path, a Pillow image, an array (H, W, 3) uint8, or a prepared tensor (C, H, W) or
    (1, C, H, W), see `camlib.inputs`.

    method: "cam", which is exact, or for any network one of the others in `camlib.methods.METHODS`, whose maps are
    computed for the classes that you use. layer: the feature map of these, a name or module; None takes the last.

    view: "crop" shows the network what it was trained on, "whole" the entire photo. sizes: the input's side in pixels,
    or several, whose maps are averaged.

    Raises `HeadError` where the network has no exact map, `LayerError` where it has no feature map, `ImageError`,
    `ModelError` and `CamError` for what they say.

    >>> import numpy as np
    >>> from camlib import load_model
    >>> exp = explain(load_model(), np.full((240, 320, 3), 128, np.uint8))
    >>> exp.map("espresso").shape, exp.residual() < 1e-4
    (torch.Size([7, 7]), True)
    """
    chosen = check(clf, method, layer)
    return explain_prepared(clf, [prepare(clf, image, view, sizes)], chosen, layer)[0]


def explain_all(
    clf: Classifier,
    images: Iterable[ImageLike],
    *,
    method: str = "cam",
    view: Kind = "crop",
    sizes: int | Sequence[int] | None = None,
    layer: Layer | None = None,
) -> list[Explanation]:
    """Explain several images, with one forward pass for all whose inputs have the same size; see `explain`.

    images: a list of what `explain` takes, a batch (B, C, H, W) of prepared tensors, or frames (B, H, W, 3) uint8.

    >>> import torch
    >>> from camlib import load_model
    >>> [exp.map(282).shape for exp in explain_all(load_model(), torch.zeros(2, 3, 224, 224))]
    [torch.Size([7, 7]), torch.Size([7, 7])]
    """
    chosen = check(clf, method, layer)
    return explain_prepared(clf, [prepare(clf, image, view, sizes) for image in each(images)], chosen, layer)


def check(clf: Any, method: str, layer: Layer | None = None) -> Method:
    """The method of that name; an error where this classifier cannot be explained so."""
    if not isinstance(clf, Classifier):
        raise ModelError(f"explain takes a Classifier, not {type(clf).__name__}; wrap it with camlib.load_model(…).")
    chosen = find_method(method)
    if chosen.name == "cam" and layer is not None:
        raise CamError("layer= is for the other methods; where method='cam' applies, the network itself says which.")
    return chosen


def explain_prepared(
    clf: Classifier, inputs: Sequence[Input], method: Method, layer: Layer | None = None
) -> list[Explanation]:
    """Explain prepared inputs, for callers that prepare photos in other threads, as `camlib.folder` does."""
    by_photo = evidence(clf, [i.views for i in inputs], [i.tensors for i in inputs], method, layer)
    return [
        Explanation(clf, given.photo, result, given.tensors[0] if given.prepared else None)
        for given, result in zip(inputs, by_photo, strict=True)
    ]
