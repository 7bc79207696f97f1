"""The one place that decides what counts as an image: a path, a Pillow image, an array, or a prepared tensor."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from camlib.errors import CamError, ImageError
from camlib.images import check_photo, from_pil, read_image
from camlib.models import Classifier, Kind
from camlib.network import check_network, dtype_of
from camlib.views import View

ImageLike = str | PathLike | Image.Image | np.ndarray | Tensor
"""A path, a Pillow image, an array (H, W, 3) or (H, W) uint8, or a prepared tensor (C, H, W) or (1, C, H, W)."""


@dataclass(frozen=True, eq=False)
class Input:
    """A photo, and for each resolution the view and the network's input (1, C, h, w)."""

    photo: np.ndarray  # (H, W, 3) uint8: maps are drawn on it
    views: tuple[View, ...]
    tensors: tuple[Tensor, ...]
    prepared: bool = False  # whether the input was given as a tensor

    def without_photo(self) -> "Input":
        """The same without the photo's pixels, which may need much more memory than the rest."""
        return replace(self, photo=np.empty((0, 0, 3), np.uint8))


def prepare(clf: Classifier, image: Any, view: Kind = "crop", sizes: int | Sequence[int] | None = None) -> Input:
    """The network's input for an image, once for each of the sizes.

    image: see `ImageLike`. A floating-point tensor counts as prepared: already resized and normalised. It may be on any
    device. Its view is the identity, and the picture shown is un-normalised. Everything else is a picture: it is read,
    resized, cropped and normalised by the classifier's recipe. view, sizes: see `camlib.explain`.

    Raises `ImageError` for any other image, naming its layout; `ModelError` or `CamError` for a wrong view or sizes.
    """
    if isinstance(image, Tensor) and image.is_meta:
        raise ImageError("A tensor on the meta device holds no numbers; make it on another device, such as 'cpu'.")
    if isinstance(image, Tensor) and image.is_floating_point():
        if view != "crop" or sizes is not None:
            raise CamError("A prepared tensor is explained as it is; view= and sizes= are only for photos.")
        return _prepared(clf, image)
    photo = as_photo(image)
    sides = [clf.size] if sizes is None else list(sizes) if isinstance(sizes, Iterable) else [sizes]
    if not sides:
        raise CamError("sizes is empty: give at least one side in pixels, or None.")
    views = tuple(clf.view(photo, view, side) for side in sides)
    return Input(photo, views, tuple(clf.preprocess(photo, v) for v in views))


def as_photo(image: Any) -> np.ndarray:
    """Convert any kind of picture to a new (H, W, 3) uint8 RGB array.

    image: a path; a Pillow image; an array (H, W, 3), (H, W, 4), (H, W, 1) or (H, W) uint8; a uint8 tensor (3, H, W) or
    (1, H, W) as torchvision reads it, or (H, W, 3).

    Raises `ImageError` for anything else.

    >>> as_photo(np.zeros((4, 5), np.uint8)).shape
    (4, 5, 3)
    """
    if isinstance(image, (str, PathLike)):
        return read_image(image)
    if isinstance(image, Image.Image):
        return from_pil(image)
    if isinstance(image, Tensor):
        image = _channels_last(image)
    if isinstance(image, np.ndarray) and not isinstance(image, np.ma.MaskedArray) and image.dtype == np.uint8:
        if image.ndim == 3 and image.shape[2] == 1:
            image = image[:, :, 0]
        if image.size and (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 4)):
            return from_pil(Image.fromarray(np.ascontiguousarray(image)))
    return np.array(check_photo(image), order="C")  # a copy: the caller may use the buffer again for the next frame


def _channels_last(picture: Tensor) -> np.ndarray:
    if picture.dtype != torch.uint8 or picture.ndim not in (2, 3):
        raise ImageError(
            f"A tensor {tuple(picture.shape)} of {picture.dtype} is neither a picture (uint8, (3, H, W)) nor a "
            "prepared input (floating point, (C, H, W))."
        )
    first = picture.ndim == 3 and picture.shape[0] in (1, 3)
    if first and picture.shape[2] in (1, 3):
        raise ImageError(
            f"A tensor {tuple(picture.shape)} could have its channels first or last; pass an array (H, W, 3)."
        )
    return (picture.permute(1, 2, 0) if first else picture).detach().cpu().numpy()


def _prepared(clf: Classifier, x: Tensor) -> Input:
    if x.ndim == 4 and len(x) != 1:
        raise ImageError(
            f"This is a batch of {len(x)} pictures {tuple(x.shape)}, and camlib.explain takes only one. Use "
            "camlib.explain_all for a batch."
        )
    x = x[None] if x.ndim == 3 else x
    if x.ndim != 4 or x.shape[1] != clf.channels or 0 in x.shape:
        last = " Its channels come last; move them to the front: x.permute(2, 0, 1)." if x.shape[-1] in (1, 3) else ""
        raise ImageError(
            f"{clf.name} takes a prepared tensor ({clf.channels}, H, W) or (B, {clf.channels}, H, W), normalised; this "
            f"is {tuple(x.shape[1:] if x.ndim == 4 and len(x) == 1 else x.shape)}.{last}"
        )
    with torch.inference_mode(False):
        x = x.detach().to(clf.device, dtype_of(clf.module)).clone()
    if x.is_meta:
        check_network(clf.module)  # raises, and says what to do
    if not x.isfinite().all():
        raise ImageError("The prepared tensor holds NaN or infinite values.")
    high, wide = x.shape[2:]
    return Input(picture_of(clf, x), (View.identity((high, wide)),), (x,), prepared=True)


def picture_of(clf: Classifier, x: Tensor) -> np.ndarray:
    """A prepared input (1, C, H, W) as a picture (H, W, 3) uint8: un-normalised, and clipped to 0 to 255.

    With one or two channels, the first is shown in gray; with more than three, the first three are shown in colour.
    """
    mean, std = (torch.tensor(v, device="cpu").reshape(-1, 1, 1) for v in (clf.mean, clf.std))
    pixels = (x[0].detach().cpu().float() * std + mean).clamp(0, 1)
    pixels = pixels[:3] if len(pixels) >= 3 else pixels[:1].expand(3, -1, -1)
    return (pixels * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def each(images: Any) -> Iterator[Any]:
    """The images of an iterable, such as a list of paths, a batch (B, C, H, W) or frames (B, H, W, 3).

    Raises `CamError` for a single image.
    """
    if isinstance(images, (str, PathLike)):
        raise CamError(f"explain_all takes several images; pass [{str(images)!r}].")
    if isinstance(images, (Tensor, np.ndarray)) and images.ndim != 4:
        raise CamError(
            f"explain_all takes several images, such as a batch (B, C, H, W); this is a single one, "
            f"{tuple(images.shape)}. Pass it to camlib.explain, or in a list."
        )
    if isinstance(images, Image.Image) or not isinstance(images, Iterable):
        raise CamError(f"explain_all takes several images; pass a list of them, not a {type(images).__name__}.")
    return iter(images)
