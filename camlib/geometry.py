"""Where do the cells of a map really look? This module measures it for a network.

The geometry of views and maps is in `camlib.views`: which part of a photo the network sees, and where a map lies on it.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from camlib.autograd import Unfrozen
from camlib.errors import CamError
from camlib.hooks import capture
from camlib.network import forward, noise, untouched
from camlib.views import View, place, upsample

if TYPE_CHECKING:
    from camlib.models import Classifier

__all__ = ["View", "place", "receptive_field_offset", "upsample"]

PROBES, BATCH = 64, 8  # inputs of `receptive_field_offset`, and how many go through the network together


def receptive_field_offset(clf: "Classifier") -> tuple[float, float]:
    """How far below and right of its drawn centre a cell of the feature map looks.

    Cell i is drawn at (i + 0.5) · stride. But a 3×3 convolution of stride 2 and padding 1 is centred on input pixel 2i,
    and training shifts the weight inside the receptive field. So we measure the offset: we take the gradient of the
    central cells' features (with random signs over the channels) with respect to the input, and the centroid of its
    square. The inputs are noise with the spectrum of photographs, at the network's own size. The noise is seeded. For
    the bundled network the standard error is about one pixel per axis, and each call takes about 7 CPU-seconds, so
    store the result.

    Parameters
    ----------
    clf
        A classifier with an exact map.

    Returns
    -------
    dy, dx : float
        In pixels of the input. Pass them as `offset` to `place`, or to the `heatmap`, `overlay` and `plot` of an
        explanation.

    Raises
    ------
    HeadError
        If the network has no exact map.
    CamError
        If the features do not depend on the input.

    References
    ----------
    Luo et al. 2016, arXiv 1701.04128, for the gradient as a picture of the receptive field; the offset is camlib's own.

    Examples
    --------
    >>> from camlib import load_model
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 2, 1), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
    ...                           torch.nn.Linear(4, 2))
    >>> dy, dx = receptive_field_offset(load_model(net, size=32))
    >>> abs(dy + 0.5) < 0.4, abs(dx + 0.5) < 0.4        # half a pixel up and left
    (True, True)
    """
    offsets = _measured_offsets(clf)
    offsets = offsets[offsets.isfinite().all(1)]
    if not len(offsets):
        raise CamError(f"{clf.name}: the features do not depend on the input, so there is no offset to measure.")
    dy, dx = offsets.mean(0).tolist()
    return dy, dx


def _measured_offsets(clf: "Classifier", probes: int = PROBES, seed: int = 0) -> Tensor:
    """(probes × cells, 2) float64: dy and dx of each measurement; NaN where a cell's gradient is zero."""
    head, draw, offsets = clf.head, torch.Generator().manual_seed(seed), []
    with torch.inference_mode(False), torch.enable_grad(), untouched(clf.module, head.restless), Unfrozen():
        for batch in range(probes // BATCH):
            height, width = clf.shape
            noise = _natural_noise(BATCH, clf.channels, max(clf.shape), draw)[..., :height, :width]
            x = clf.normalise(noise.to(clf.device)).requires_grad_()
            with capture(clf.module, head.layer, inputs=head.inputs, live=True, call=head.call) as captured:
                forward(clf.module, x.clone())
            features = head.features(captured[head.layer])
            h, w = features.shape[2:]
            columns = [(w - 1) // 2, w // 2]  # the central cell, or two of the central four, by alternating diagonals
            for row, column in sorted({((h - 1) // 2, columns[batch % 2]), (h // 2, columns[1 - batch % 2])}):
                signs = torch.randint(0, 2, features.shape[:2], generator=draw, device="cpu").to(features) * 2 - 1
                scalar = (features[:, :, row, column] * signs).sum()
                (gradient,) = torch.autograd.grad(scalar, x, retain_graph=True)
                drawn = [(row + 0.5) * x.shape[2] / h, (column + 0.5) * x.shape[3] / w]
                centre = torch.tensor(drawn, dtype=torch.float64, device="cpu")
                offsets.append(_centroid(gradient.cpu().double().square().sum(1)) - centre)
    return torch.cat(offsets)


def _centroid(energy: Tensor) -> Tensor:
    """The centre of mass (y, x) of each map: (B, H, W) -> (B, 2); NaN for a map of zeros."""
    y, x = (torch.arange(side, device=energy.device) + 0.5 for side in energy.shape[1:])
    moments = torch.stack([energy.sum(2) @ y.to(energy), energy.sum(1) @ x.to(energy)], 1)
    return moments / energy.sum((1, 2))[:, None]


def _natural_noise(count: int, channels: int, side: int, draw: torch.Generator) -> Tensor:
    """Pictures (B, C, side, side) from 0 to 1: mostly gray noise, with amplitude 1/frequency as in photographs.

    White noise would not do: networks respond to it differently than to photos, and this would affect the offset.
    """
    white = 0.9 * noise((count, 1, side, side), draw)
    white = white + 0.45 * noise((count, channels, side, side), draw)
    down, across = torch.fft.fftfreq(side, device="cpu"), torch.fft.rfftfreq(side, device="cpu")
    frequency = torch.hypot(down[:, None], across[None])
    frequency[0, 0] = torch.inf  # removes the mean
    natural = torch.fft.irfft2(torch.fft.rfft2(white) / frequency, s=(side, side))
    return (0.5 + 0.25 * natural / natural.std((1, 2, 3), keepdim=True)).clamp(0, 1)
