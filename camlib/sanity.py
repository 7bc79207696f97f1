"""Would the map look the same for a broken network? And would a baseline that knows nothing do just as well?

A map that stays the same when you destroy the weights does not show what the network has learnt (Adebayo et al. 2018,
arXiv 1810.03292). If a blob in the middle scores just as well on a measure, that score says nothing about the map.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from camlib.errors import CamError, optional
from camlib.hooks import find_layer
from camlib.images import check_photo
from camlib.models import Classifier
from camlib.network import noise

LANCZOS = Image.Resampling.LANCZOS


def randomised(clf: Classifier, layers: Sequence[str], seed: int = 0) -> Iterator[tuple[str, Classifier]]:
    """The classifier with the first of the layers destroyed, then the first two, and so on.

    Each parameter's values are shuffled: their mean and spread stay the same, so that the signal neither dies out nor
    explodes. `clf` is not changed.

    Parameters
    ----------
    clf
        The network, from `camlib.load_model`.
    layers
        Names, from the output down to the input.
    seed
        Of the shuffling.

    Returns
    -------
    pairs : iterator of (name, Classifier)
        The layer that was destroyed last, and the network.

    Raises
    ------
    CamError
        If a layer has no parameters.
    LayerError
        If there is no such layer.

    References
    ----------
    The cascade of Adebayo et al. 2018, arXiv 1810.03292, section 3.1.

    Examples
    --------
    >>> from camlib import load_model
    >>> from camlib.shapes import SHAPES, network
    >>> clf = load_model(network("gap"), labels=SHAPES, size=64)
    >>> [name for name, broken in randomised(clf, ["3", "0.11", "0.7"])]
    ['3', '0.11', '0.7']
    """
    for layer in layers:
        if not any(True for _ in find_layer(clf.module, layer).parameters()):
            raise CamError(f"Layer {layer!r} has no parameters to destroy.")
    draw, module = torch.Generator().manual_seed(seed), clf.module
    for layer in layers:
        module = copy.deepcopy(module)
        with torch.no_grad():
            for parameter in find_layer(module, layer).parameters():
                shuffled = torch.randperm(parameter.numel(), generator=draw, device="cpu").to(parameter.device)
                parameter.copy_(parameter.flatten()[shuffled].view_as(parameter))
        yield layer, replace(clf, module=module)


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's rank correlation of two maps. Needs SciPy.

    Parameters
    ----------
    a, b : (h, w)
        Maps of the same shape.

    Returns
    -------
    correlation : float
        From -1 to 1: 1 if both order the cells in the same way.

    Raises
    ------
    CamError
        If the shapes differ, or if one of the maps is constant.

    Examples
    --------
    >>> rank_correlation(torch.tensor([[1., 2.], [3., 4.]]), torch.tensor([[1., 4.], [9., 16.]]))
    1.0
    """
    stats = optional("scipy.stats", "rank_correlation")
    if a.shape != b.shape or a.numel() < 2:
        raise CamError(
            "rank_correlation takes two maps of the same shape with at least two cells; "
            f"got {tuple(a.shape)} and {tuple(b.shape)}."
        )
    if a.min() == a.max() or b.min() == b.max():
        raise CamError("One of the maps is constant. It does not rank its cells, so there is no rank correlation.")
    return float(stats.spearmanr(a.detach().flatten().cpu(), b.detach().flatten().cpu()).statistic)


def centre_map(size: tuple[int, int], spread: float = 0.25) -> Tensor:
    """A baseline: a Gaussian blob in the middle.

    Photographers put their subject in the middle, so this baseline does well on many data sets.

    Parameters
    ----------
    size : (h, w)
        Of the map.
    spread
        The standard deviation of the blob, as a share of each side.

    Returns
    -------
    map : (h, w)
        From 0 to 1.

    Examples
    --------
    >>> centre_map((3, 3)).argmax()
    tensor(4)
    """
    y, x = (torch.linspace(-0.5 + 0.5 / side, 0.5 - 0.5 / side, side, device="cpu") / spread for side in size)
    return torch.exp(-(y[:, None] ** 2 + x**2) / 2)


def random_map(size: tuple[int, int], seed: int = 0) -> Tensor:
    """A baseline: uniform noise.

    Parameters
    ----------
    size : (h, w)
        Of the map.
    seed
        The same seed gives the same map.

    Returns
    -------
    map : (h, w)
        From 0 to 1.

    Examples
    --------
    >>> torch.equal(random_map((2, 2), seed=3), random_map((2, 2), seed=3))
    True
    """
    return noise(size, seed, normal=False)


def edge_map(photo: np.ndarray) -> Tensor:
    """A baseline that ignores the class: the strength of the photo's edges. Needs SciPy.

    A map that resembles it may show what the photo looks like, not what the network uses.

    Parameters
    ----------
    photo : (H, W, 3) uint8, RGB

    Returns
    -------
    map : (H, W)
        The length of the gradient of the gray photo, by a Sobel filter.

    Raises
    ------
    ImageError
        If this is not a photo.

    Examples
    --------
    >>> photo = np.zeros((4, 6, 3), np.uint8)
    >>> photo[:, 3:] = 255
    >>> edge_map(photo)[0] > 0
    tensor([False, False,  True,  True, False, False])
    """
    from PIL import Image

    ndimage = optional("scipy.ndimage", "edge_map")
    gray = np.asarray(Image.fromarray(check_photo(photo)).convert("L"), dtype=np.float32) / 255
    return torch.from_numpy(np.hypot(ndimage.sobel(gray, 0), ndimage.sobel(gray, 1)))


def stamped(
    photo: np.ndarray, strip: np.ndarray, opacity: float = 0.5, top: float = 0.4
) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """A photo with a strip across its central square.

    A strip that a network's training pictures carry can be a shortcut to a class: see whether its logit rises, and
    where its evidence lies. The strip is as wide as the square.

    Parameters
    ----------
    photo : (H, W, 3) uint8, RGB
    strip : (h, w, 4) uint8, RGBA
    opacity
        Of the strip, from 0 to 1.
    top
        Where its upper edge is, as a part of the square's height.

    Returns
    -------
    picture : (H, W, 3) uint8, RGB
    box : (left, top, right, bottom)
        Of the strip, in pixels.

    Raises
    ------
    CamError
        If the strip or the numbers do not fit.
    ImageError
        If this is not a photo.

    References
    ----------
    The defaults follow ImageNet-W: Z. Li and others, A Whac-A-Mole Dilemma, CVPR 2023.

    Examples
    --------
    >>> gray, strip = np.full((100, 140, 3), 100, np.uint8), np.full((20, 100, 4), 255, np.uint8)
    >>> picture, box = stamped(gray, strip)
    >>> box, picture[45, 70].tolist(), picture[70, 70].tolist()
    ((20, 40, 120, 60), [178, 178, 178], [100, 100, 100])
    """
    image = Image.fromarray(check_photo(photo))
    if strip.ndim != 3 or strip.shape[2] != 4 or strip.dtype != np.uint8:
        raise CamError(
            f"The strip is an array {strip.shape} of {strip.dtype}; it must be (h, w, 4), uint8, as Pillow's RGBA."
        )
    if not (0 <= opacity <= 1 and 0 <= top <= 1):
        raise CamError(f"opacity={opacity}, top={top}: both must be numbers from 0 to 1.")
    side = min(image.size)
    mark = Image.fromarray(strip, "RGBA").resize((side, round(side * strip.shape[0] / strip.shape[1])), LANCZOS)
    left, upper = (image.width - side) // 2, round((image.height - side) / 2 + top * side)
    image.paste(mark.convert("RGB"), (left, upper), mark.getchannel("A").point(lambda a: round(a * opacity)))
    return np.asarray(image), (left, upper, left + side, upper + mark.height)
