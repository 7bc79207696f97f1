"""What a network sees of a photo, and how to lay its maps back onto the photo.

Positions are continuous: pixel i covers i to i + 1, and its centre is i + 0.5 (half-pixel centres, as in
`torch.nn.functional.interpolate(align_corners=False)`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from camlib.errors import CamError, ImageError

MULTIPLE = 32  # the usual total stride: a `whole` view is rounded to it, so that the cells of the map tile the input
LARGEST = 64_000_000  # the most pixels of a resized photo; only extremely long or flat photos exceed this
LARGEST_INPUT = 8_000_000  # the most pixels that go through the network


@dataclass(frozen=True)
class View:
    """What a network sees of a photo: a window of the resized photo. All sizes are (height, width) in pixels.

    Attributes
    ----------
    photo
        The size of the photo.
    resized
        The size of the resized photo.
    offset
        (top, left) of the window on the resized photo.
    size
        The size of the window, which is the network's input.

    Examples
    --------
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
    def identity(cls, size: tuple[int, int]) -> "View":
        """The view for a picture that is already the network's input, pixel for pixel.

        Parameters
        ----------
        size : (height, width)
            Of the picture.

        Returns
        -------
        view : View
        """
        return cls(size, size, (0, 0), size)

    @classmethod
    def crop(cls, photo: tuple[int, int], resize: int | tuple[int, int], size: int | tuple[int, int]) -> "View":
        """Resize the photo, then take its central `size` pixels, as torchvision's Resize and CenterCrop do.

        Parameters
        ----------
        photo : (height, width)
            Of the photo.
        resize
            Pixels of the shorter side, or (height, width) regardless of the photo's proportions.
        size
            The side of the square window, or (height, width).

        Returns
        -------
        view : View

        Raises
        ------
        ImageError
            If the photo is so long and thin that the resized one would be too large.
        """
        h, w = photo
        high, wide = (size, size) if isinstance(size, int) else size
        _check_resized(photo, (high, wide), LARGEST_INPUT)
        short = min(h, w)
        resized = (resize * h // short, resize * w // short) if isinstance(resize, int) else resize
        _check_resized(photo, resized)
        top, left = (_centred(side, window) for side, window in zip(resized, (high, wide), strict=True))
        return cls(photo, resized, (top, left), (high, wide))

    @classmethod
    def whole(cls, photo: tuple[int, int], size: int) -> "View":
        """The entire photo with its shorter side near `size`, both sides rounded to multiples of 32.

        Below a size of 64, they are not rounded to multiples of 32: a picture of 28 pixels keeps its 28 pixels.

        Parameters
        ----------
        photo : (height, width)
            Of the photo.
        size
            The shorter side of the input, in pixels.

        Returns
        -------
        view : View

        Raises
        ------
        ImageError
            If the photo is so long and thin that the resized one would be too large.
        """
        short, multiple = min(photo), MULTIPLE if size >= 2 * MULTIPLE else 1
        h, w = (max(1, round(side * size / short / multiple)) * multiple for side in photo)
        _check_resized(photo, (h, w), LARGEST_INPUT)
        return cls(photo, (h, w), (0, 0), (h, w))

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The window on the photo: left, top, right, bottom in photo pixels, beyond the photo where that is padded."""
        top, bottom = (self._to_photo(edge, 0) for edge in (0, self.size[0]))
        left, right = (self._to_photo(edge, 1) for edge in (0, self.size[1]))
        return left, top, right, bottom

    def _to_photo(self, position: float, axis: int) -> float:
        return (position + self.offset[axis]) * self.photo[axis] / self.resized[axis]

    def to_window(self, positions: Tensor, axis: int) -> Tensor:
        """Positions on the photo as fractions of the window, which covers 0 to 1.

        Parameters
        ----------
        positions
            In pixels of the photo.
        axis
            0 for y, 1 for x.

        Returns
        -------
        fractions
            Like positions.
        """
        return (positions * self.resized[axis] / self.photo[axis] - self.offset[axis]) / self.size[axis]


def upsample(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear upsampling with half-pixel centres, as in Pillow, OpenCV and Keras.

    Parameters
    ----------
    maps : (…, h, w)
        One map or several.
    size : (height, width)
        In pixels.

    Returns
    -------
    maps : (…, height, width)

    Raises
    ------
    CamError
        For anything but maps, or a size that is not two numbers above 0.

    Examples
    --------
    >>> upsample(torch.tensor([[0., 1.]]), (1, 4))
    tensor([[0.0000, 0.2500, 0.7500, 1.0000]])
    """
    _check_maps("upsample", maps)
    if not isinstance(size, Sequence) or len(size) != 2 or min(size) < 1:
        raise CamError(f"upsample's size must be (height, width) in pixels, both above 0; got {size!r}.")
    flat = maps.reshape(1, -1, *maps.shape[-2:])
    return F.interpolate(flat, size=size, mode="bilinear", align_corners=False).reshape(*maps.shape[:-2], *size)


def place(maps: Tensor, view: View, offset: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    """Lay maps back onto the photo, bilinearly.

    Resize and crop are undone in one step, from the centre of each photo pixel to the cells, so nothing is resampled
    twice. Beyond the centres of the outermost cells, the map continues with its border value.

    Parameters
    ----------
    maps : (…, h, w)
        One map or several.
    view
        How the network saw the photo.
    offset : (dy, dx)
        How far to draw each cell below and right of its place, in pixels of the network's input. Use
        `receptive_field_offset` to measure where a network's cells really look. The NaN stay where they are, because
        the window does not change; parts that move over the window's edge are cut off.

    Returns
    -------
    maps : (…, H, W)
        On the photo's pixels; NaN outside the part that the network saw.

    Raises
    ------
    CamError
        For anything but maps.

    Examples
    --------
    >>> view = View(photo=(2, 8), resized=(2, 8), offset=(0, 2), size=(2, 4))      # a crop of the middle
    >>> place(torch.tensor([[1., 3.]]), view)[0]
    tensor([   nan,    nan, 1.0000, 1.5000, 2.5000, 3.0000,    nan,    nan])
    """
    _check_maps("place", maps)
    rows, columns = (_weights(view, axis, maps.shape[axis - 2], float(offset[axis]), maps.device) for axis in (0, 1))
    with torch.autocast(maps.device.type, enabled=False):
        return rows @ maps.float() @ columns.T


@lru_cache(8)  # a few views: photos often have the same size, and a photo many maps
@torch.inference_mode(False)
def _weights(view: View, axis: int, cells: int, offset: float, device: torch.device) -> Tensor:
    """Bilinear weights (pixels of the photo, cells) along one axis, with rows of NaN for pixels outside the window."""
    pixels = torch.arange(view.photo[axis], dtype=torch.float64, device="cpu") + 0.5
    place_in_window = view.to_window(pixels, axis)
    position = ((place_in_window - offset / view.size[axis]) * cells - 0.5).clamp(0, cells - 1)
    weights = (1 - (position[:, None] - torch.arange(cells, device="cpu")).abs()).clamp(min=0)
    unseen = (place_in_window < 0) | (place_in_window > 1)
    if not unseen.all():  # otherwise the window lies within a single pixel, which the network did see
        weights[unseen] = torch.nan
    return weights.float().to(device)


def _check_maps(name: str, maps: object) -> None:
    if not isinstance(maps, Tensor) or maps.ndim < 2 or 0 in maps.shape[-2:]:
        given = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        raise CamError(f"{name} takes maps (…, h, w), a torch tensor; got {given}.")


def _centred(side: int, window: int) -> int:
    """Where a centred window starts, rounded as in torchvision; below 0 if the window is larger and is padded."""
    return round((side - window) / 2) if window <= side else -((window - side) // 2)


def _check_resized(photo: tuple[int, int], resized: tuple[int, int], largest: int = LARGEST) -> None:
    if resized[0] * resized[1] > largest:
        raise ImageError(
            f"A photo of {photo[1]}×{photo[0]} pixels would become {resized[1]}×{resized[0]} for the network, which "
            "is too large: choose a smaller size or, if the photo is long and thin, crop it to the part that matters."
        )
