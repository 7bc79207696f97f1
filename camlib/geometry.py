"""Where things lie: what the network sees of a photo, and where on the photo a cell of a map lies.

Positions are continuous: pixel i covers i to i + 1, its centre is i + 0.5 (half-pixel centres, as in
`torch.nn.functional.interpolate(align_corners=False)`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from camlib.errors import CamError, ImageError

MULTIPLE = 32  # the usual total stride: a `whole` view is rounded to it, so that the cells of the map tile the input
LARGEST = 64_000_000  # pixels of a resized photo; only an absurdly long or flat photo exceeds it


@dataclass(frozen=True)
class View:
    """What a network sees of a photo: the photo resized, then a window of it. All in pixels, (height, width).

    >>> view = View.crop((480, 640), resize=256, size=224)
    >>> view.resized, view.offset, view.size
    ((256, 341), (16, 58), (224, 224))
    >>> [round(edge) for edge in view.box]      # left, top, right, bottom of the window on the photo
    [109, 30, 529, 450]
    """

    photo: tuple[int, int]
    resized: tuple[int, int]
    offset: tuple[int, int]  # (top, left) of the window in the resized photo
    size: tuple[int, int]  # of the window: the network's input

    @classmethod
    def crop(cls, photo: tuple[int, int], resize: int, size: int) -> "View":
        """Shorter side to `resize`, then the central `size` × `size`: torchvision's Resize and CenterCrop."""
        h, w = photo
        short = min(h, w)
        resized = (resize * h // short, resize * w // short)
        _check_resized(photo, resized)
        top, left = (round((side - size) / 2) for side in resized)
        return cls(photo, resized, (top, left), (size, size))

    @classmethod
    def whole(cls, photo: tuple[int, int], size: int) -> "View":
        """The entire photo with its shorter side near `size`, both sides rounded to multiples of 32."""
        short = min(photo)
        h, w = (max(1, round(side * size / short / MULTIPLE)) * MULTIPLE for side in photo)
        _check_resized(photo, (h, w))
        return cls(photo, (h, w), (0, 0), (h, w))

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The window on the photo: left, top, right, bottom in photo pixels; beyond the photo where it was padded."""
        top, bottom = (self._to_photo(edge, 0) for edge in (0, self.size[0]))
        left, right = (self._to_photo(edge, 1) for edge in (0, self.size[1]))
        return left, top, right, bottom

    def _to_photo(self, position: float, axis: int) -> float:
        return (position + self.offset[axis]) * self.photo[axis] / self.resized[axis]

    def to_window(self, positions: Tensor, axis: int) -> Tensor:
        """Positions on the photo along an axis (0: y, 1: x) as fractions of the window: the network saw 0 to 1."""
        return (positions * self.resized[axis] / self.photo[axis] - self.offset[axis]) / self.size[axis]


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear with half-pixel centres: (…, h, w) -> (…, *size). The same as Pillow, OpenCV and Keras do.

    >>> upsample(torch.tensor([[0., 1.]]), (1, 4))
    tensor([[0.0000, 0.2500, 0.7500, 1.0000]])
    """
    if maps.ndim < 2:
        raise CamError(f"upsample takes maps (…, h, w); got {tuple(maps.shape)}.")
    flat = maps.reshape(1, -1, *maps.shape[-2:])
    return F.interpolate(flat, size=size, mode="bilinear", align_corners=False).reshape(*maps.shape[:-2], *size)


def place(maps: Tensor, view: View) -> Tensor:
    """Lay maps back onto the photo: (…, h, w) -> (…, H, W), bilinear; NaN where the network never looked.

    Resize and crop are undone in one step, from the centre of a photo pixel to the cells: nothing is resampled twice.

    >>> view = View(photo=(2, 8), resized=(2, 8), offset=(0, 2), size=(2, 4))      # a crop of the middle
    >>> place(torch.tensor([[1., 3.]]), view)[0]
    tensor([   nan,    nan, 1.0000, 1.5000, 2.5000, 3.0000,    nan,    nan])
    """
    if maps.ndim < 2:
        raise CamError(f"place takes maps (…, h, w); got {tuple(maps.shape)}.")
    rows, columns = (_weights(view, axis, maps.shape[axis - 2], maps.device) for axis in (0, 1))
    return rows @ maps.float() @ columns.T


def _weights(view: View, axis: int, cells: int, device: torch.device) -> Tensor:
    """Bilinear weights (pixels of the photo, cells) along one axis; a row of NaN for a pixel outside the window."""
    pixels = torch.arange(view.photo[axis], dtype=torch.float64) + 0.5
    place_in_window = view.to_window(pixels, axis)
    position = (place_in_window * cells - 0.5).clamp(0, cells - 1)
    weights = (1 - (position[:, None] - torch.arange(cells)).abs()).clamp(min=0)
    weights[(place_in_window < 0) | (place_in_window > 1)] = torch.nan
    return weights.float().to(device)


def _check_resized(photo: tuple[int, int], resized: tuple[int, int]) -> None:
    if resized[0] * resized[1] > LARGEST:
        raise ImageError(
            f"A photo of {photo[1]}×{photo[0]} pixels is too long and thin: resized for the network it would be "
            f"{resized[1]}×{resized[0]}. Cut out the part that matters."
        )
