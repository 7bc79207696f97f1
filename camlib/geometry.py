"""Where things lie: what the network sees of a photo, where on the photo a cell lies, and where it really looks.

Positions are continuous: pixel i covers i to i + 1, its centre is i + 0.5 (half-pixel centres, as in
`torch.nn.functional.interpolate(align_corners=False)`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from camlib.errors import CamError, ImageError
from camlib.hooks import capture, eval_mode, forward

if TYPE_CHECKING:
    from camlib.models import Classifier

MULTIPLE = 32  # the usual total stride: a `whole` view is rounded to it, so that the cells of the map tile the input
LARGEST = 64_000_000  # pixels of a resized photo; only an absurdly long or flat photo exceeds it
LARGEST_INPUT = 8_000_000  # pixels that go through the network
PROBES, BATCH = 64, 8  # inputs of `receptive_field_offset`, and how many go through the network together


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
        _check_resized(photo, (size, size), LARGEST_INPUT)
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
        _check_resized(photo, (h, w), LARGEST_INPUT)
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


def upsample(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear with half-pixel centres: (…, h, w) -> (…, *size). The same as Pillow, OpenCV and Keras do.

    >>> upsample(torch.tensor([[0., 1.]]), (1, 4))
    tensor([[0.0000, 0.2500, 0.7500, 1.0000]])
    """
    _check_maps("upsample", maps)
    if not isinstance(size, Sequence) or len(size) != 2 or min(size) < 1:
        raise CamError(f"upsample's size is (height, width) in pixels, both above 0; got {size!r}.")
    flat = maps.reshape(1, -1, *maps.shape[-2:])
    return F.interpolate(flat, size=size, mode="bilinear", align_corners=False).reshape(*maps.shape[:-2], *size)


def place(maps: Tensor, view: View, calibrated: bool = False, clf: "Classifier | None" = None) -> Tensor:
    """Lay maps back onto the photo: (…, h, w) -> (…, H, W), bilinear; NaN where the network never looked.

    Resize and crop are undone in one step, from the centre of a photo pixel to the cells: nothing is resampled twice.

    calibrated=True draws each cell where the classifier `clf` really looks: moved by `receptive_field_offset(clf)`. The
    NaN stay where they are, since the window is the same. Beyond the outermost cells' centres the map goes on with its
    border value, as it always does; what is moved over the window's edge is cut off.

    >>> view = View(photo=(2, 8), resized=(2, 8), offset=(0, 2), size=(2, 4))      # a crop of the middle
    >>> place(torch.tensor([[1., 3.]]), view)[0]
    tensor([   nan,    nan, 1.0000, 1.5000, 2.5000, 3.0000,    nan,    nan])
    """
    _check_maps("place", maps)
    if calibrated and clf is None:
        raise CamError("place(calibrated=True) needs the network whose map it is: give clf, as in place(…, clf=clf).")
    offset = receptive_field_offset(clf) if calibrated and clf is not None else (0.0, 0.0)
    rows, columns = (_weights(view, axis, maps.shape[axis - 2], offset[axis], maps.device) for axis in (0, 1))
    return rows @ maps.float() @ columns.T


def _weights(view: View, axis: int, cells: int, offset: float, device: torch.device) -> Tensor:
    """Bilinear weights (pixels of the photo, cells) along one axis; a row of NaN for a pixel outside the window."""
    pixels = torch.arange(view.photo[axis], dtype=torch.float64) + 0.5
    place_in_window = view.to_window(pixels, axis)
    position = ((place_in_window - offset / view.size[axis]) * cells - 0.5).clamp(0, cells - 1)
    weights = (1 - (position[:, None] - torch.arange(cells)).abs()).clamp(min=0)
    unseen = (place_in_window < 0) | (place_in_window > 1)
    if not unseen.all():  # otherwise the window lies inside one pixel, which the network did see
        weights[unseen] = torch.nan
    return weights.float().to(device)


def receptive_field_offset(clf: "Classifier") -> tuple[float, float]:
    """How far below and right of its drawn centre a cell of the feature map looks: (dy, dx) in pixels of the input.

    Cell i is drawn at (i + 0.5) · stride, but a 3×3 convolution of stride 2 and padding 1 is centred on input pixel 2i,
    and training shifts the weight inside the field. So it is measured: the centroid of the squared gradient of the
    central cells' features (random signs over the channels) with respect to the input, for noise with the spectrum of
    photographs, at the network's own size. Seeded, and measured again only when the network has changed: 7 CPU-seconds
    for the bundled network, with a standard error of about one pixel per axis.

    Raises `HeadError` where the network has no exact map, `CamError` where the gradient says nothing.
    """

    def measure() -> tuple[float, float]:
        found = _measured_offsets(clf)
        found = found[found.isfinite().all(1)]
        if not len(found):
            raise CamError(f"{clf.name}: the features do not depend on the input, so no cell looks anywhere.")
        dy, dx = found.mean(0).tolist()
        return dy, dx

    return clf._once("receptive field offset", measure)


def _measured_offsets(clf: "Classifier", probes: int = PROBES, seed: int = 0) -> Tensor:
    """(probes × cells, 2) float64: dy, dx of each single measurement; NaN where a cell's gradient is zero."""
    with torch.inference_mode(False), torch.enable_grad(), eval_mode(clf.module):
        head, draw, found = clf.head, torch.Generator().manual_seed(seed), []
        for batch in range(probes // BATCH):
            x = clf._normalise(_natural_noise(BATCH, clf.size, draw).to(clf.device)).requires_grad_()
            with capture(clf.module, head.layer, inputs=head.inputs, live=True) as seen:
                forward(clf.module, x.clone())
            features = head.features(seen[head.layer])
            h, w = features.shape[2:]
            columns = [(w - 1) // 2, w // 2]  # the central cell, or two of the central four: each diagonal in turn
            for row, column in sorted({((h - 1) // 2, columns[batch % 2]), (h // 2, columns[1 - batch % 2])}):
                signs = torch.randint(0, 2, features.shape[:2], generator=draw).to(features) * 2 - 1
                scalar = (features[:, :, row, column] * signs).sum()
                (gradient,) = torch.autograd.grad(scalar, x, retain_graph=True)
                drawn = [(row + 0.5) * x.shape[2] / h, (column + 0.5) * x.shape[3] / w]
                found.append(_centroid(gradient.double().square().sum(1)) - torch.tensor(drawn).double())
    return torch.cat(found)


def _centroid(energy: Tensor) -> Tensor:
    """The centre of mass (y, x) of each map: (B, H, W) -> (B, 2) on the CPU; NaN for a map of zeros."""
    y, x = (torch.arange(side, device=energy.device) + 0.5 for side in energy.shape[1:])
    moments = torch.stack([energy.sum(2) @ y.to(energy), energy.sum(1) @ x.to(energy)], 1)
    return (moments / energy.sum((1, 2))[:, None]).cpu()


def _natural_noise(count: int, side: int, draw: torch.Generator) -> Tensor:
    """Pictures (B, 3, side, side) from 0 to 1: mostly gray noise, amplitude 1/frequency as in photographs.

    White noise drives a network unlike any photo does, and its estimate of the offset depends on that.
    """
    white = 0.9 * torch.randn(count, 1, side, side, generator=draw)
    white = white + 0.45 * torch.randn(count, 3, side, side, generator=draw)
    frequency = torch.hypot(torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None])
    frequency[0, 0] = torch.inf  # no mean
    noise = torch.fft.irfft2(torch.fft.rfft2(white) / frequency, s=(side, side))
    return (0.5 + 0.25 * noise / noise.std((1, 2, 3), keepdim=True)).clamp(0, 1)


def _check_maps(name: str, maps: object) -> None:
    if not isinstance(maps, Tensor) or maps.ndim < 2 or 0 in maps.shape[-2:]:
        found = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        raise CamError(f"{name} takes maps (…, h, w), a torch tensor; got {found}.")


def _check_resized(photo: tuple[int, int], resized: tuple[int, int], largest: int = LARGEST) -> None:
    if resized[0] * resized[1] > largest:
        raise ImageError(
            f"A photo of {photo[1]}×{photo[0]} pixels would become {resized[1]}×{resized[0]} for the network, which "
            "is too large: choose a smaller size, or cut the part that matters out of a long and thin photo."
        )
