"""From an image to an explanation: the complete pipeline."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from camlib.autograd import modes, set_modes
from camlib.errors import CamError, ModelError
from camlib.evidence import evidence
from camlib.explanation import Explanation
from camlib.hooks import Layer
from camlib.inputs import ImageLike, Input, each, prepare
from camlib.methods import Method, find_method
from camlib.models import Classifier, Kind
from camlib.targets import Targets


def explain(
    clf: Classifier,
    image: ImageLike,
    *,
    method: str = "cam",
    view: Kind = "crop",
    sizes: int | Sequence[int] | None = None,
    layer: Layer | None = None,
) -> Explanation:
    """Explain an image: where is the evidence for each class, in a map that is verified by `mean(map) + rest == logit`.

    Parameters
    ----------
    clf
        The network, from `load_model`.
    image
        A path, a Pillow image, an array (H, W, 3) uint8, or a prepared tensor (C, H, W) or (1, C, H, W).
    method
        "cam" is exact and gives the maps of all classes in one forward pass; its rest is the bias. For networks without
        such a map, such as transformers, "frozen" is verified, too (see `frozen_cam`). `METHODS` lists the others. All
        but "cam" compute only the maps of the classes that you use.
    view
        "crop" shows the network what it was trained on, "whole" shows it the entire photo.
    sizes
        The input's side in pixels, or several sides, whose maps are averaged.
    layer
        For the methods other than "cam": the layer with the feature map, as a name or module. None takes the last one,
        or, with "frozen" in a network with attention, the last one before the first attention.

    Returns
    -------
    exp : Explanation

    Raises
    ------
    HeadError
        If the method is "cam" and the network has no exact map.
    LayerError
        If the network has no feature map.
    ImageError, ModelError, CamError
        For the reasons in their messages.

    Examples
    --------
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
    targets: Targets | None = None,
) -> list[Explanation]:
    """Explain several images, with one forward pass for all inputs of the same size.

    Parameters
    ----------
    clf
        The network, from `load_model`.
    images
        A list of what `explain` takes, a batch (B, C, H, W) of prepared tensors, or frames (B, H, W, 3) uint8.
    method, view, sizes, layer
        As in `explain`.
    targets
        The class whose map you will need, or a list with one class for each image. This only saves time: methods with
        gradients compute these maps together, in one backward pass. All other maps are available, too.

    Returns
    -------
    exps : list of Explanation
        In the order of the images.

    Raises
    ------
    TargetError
        If there is no such class, or not one for each image.
    CamError
        If this is a single image, and for the reasons for which `explain` raises it and its subclasses.

    Examples
    --------
    >>> import torch
    >>> from camlib import load_model
    >>> [exp.map(282).shape for exp in explain_all(load_model(), torch.zeros(2, 3, 224, 224))]
    [torch.Size([7, 7]), torch.Size([7, 7])]
    """
    chosen = check(clf, method, layer)
    return explain_prepared(clf, [prepare(clf, image, view, sizes) for image in each(images)], chosen, layer, targets)


def check(clf: Any, method: str, layer: Layer | None = None) -> Method:
    """Look up the method and check that it fits the classifier and the layer."""
    if not isinstance(clf, Classifier):
        raise ModelError(f"explain takes a Classifier, not {type(clf).__name__}; wrap it with camlib.load_model(…).")
    chosen = find_method(method)
    if chosen.name == "cam" and layer is not None:
        raise CamError("layer= is for the other methods; for method='cam', the network determines the layer.")
    return chosen


def explain_prepared(
    clf: Classifier,
    inputs: Sequence[Input],
    method: Method,
    layer: Layer | None = None,
    targets: Targets | None = None,
) -> list[Explanation]:
    """Explain prepared inputs, for callers that prepare photos in other threads, as `camlib.folder` does."""
    first = None if targets is None else clf.choose(targets).each(len(inputs))
    grad, active = torch.is_grad_enabled(), modes()
    try:
        by_photo = evidence(clf, [i.views for i in inputs], [i.tensors for i in inputs], method, layer, first)
    finally:
        torch.set_grad_enabled(grad)  # an exception such as Ctrl-C may have come while torch.no_grad() ended
        set_modes(active)
    return [
        Explanation(clf, given.photo, result, given.tensors[0] if given.prepared else None)
        for given, result in zip(inputs, by_photo, strict=True)
    ]
