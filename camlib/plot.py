"""Pictures that tell the truth: evidence keeps its sign, zero stays clear, one scale for what stands side by side."""

import io
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from camlib.errors import CamError
from camlib.images import check_photo

if TYPE_CHECKING:
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure
    from torch import Tensor

COLORMAP = "coolwarm"  # red speaks for the class, blue against it; perceptual, and told apart by colour-blind readers
ALPHA = 0.85
UNIT = "logit evidence per cell"
ZERO, UNSEEN = 127, 255  # steps of evidence: 0 to 254 from -limit to limit, and one for where the network never looked


def overlay(
    photo: np.ndarray,
    heat: "np.ndarray | Tensor",
    limit: float | None = None,
    alpha: float = ALPHA,
    cmap: str = COLORMAP,
) -> np.ndarray:
    """Lay signed evidence on a photo: photo (H, W, 3) uint8, heat (H, W) -> (H, W, 3) uint8.

    The photo is shown in gray, so that every colour is evidence. The ends of a diverging colour map say the sign, the
    opacity how much: in proportion to |heat|, from clear at zero to `alpha` at ±`limit` (by default the largest |heat|)
    and beyond. Where heat is NaN the network never looked: the photo is pale there.

    >>> photo = np.full((1, 3, 3), 100, np.uint8)
    >>> overlay(photo, np.array([[0., 2., np.nan]]), cmap="gray", alpha=1)[0].tolist()
    [[100, 100, 100], [255, 255, 255], [178, 178, 178]]
    """
    photo = check_photo(photo)
    heat = np.asarray(heat, dtype=np.float32)
    if heat.shape != photo.shape[:2]:
        raise CamError(
            f"The heat map is {heat.shape}, the photo {photo.shape[:2]}; camlib.place lays a map on the photo."
        )
    strength = np.rint(heat * (ZERO / _limit(heat, limit)))
    step = np.nan_to_num(np.clip(strength, -ZERO, ZERO), nan=UNSEEN - ZERO).astype(np.int32) + ZERO
    gray = np.asarray(Image.fromarray(photo).convert("L"))
    return _table(cmap, float(alpha)).take(step * 256 + gray, axis=0)


def _limit(heat: np.ndarray, limit: float | None) -> float:
    """The value at full colour; a map of zeros has none and stays clear."""
    if limit is None:
        limit = float(np.nanmax(np.abs(heat), initial=0.0))
    if not np.isfinite(limit) or limit < 0:
        raise CamError(f"limit={limit}: a finite number above 0 is needed, in logits.")
    return limit or 1.0


@cache
def _table(cmap: str, alpha: float) -> np.ndarray:
    """(256 steps of evidence × 256 grays, 3) uint8: the colour of every pixel is one look-up."""
    from matplotlib import colormaps

    if cmap not in colormaps:
        raise CamError(
            f"matplotlib has no colour map {cmap!r}; a diverging one fits, such as 'coolwarm', 'RdBu_r' or 'PuOr_r'."
        )
    if not 0 <= alpha <= 1:
        raise CamError(f"alpha={alpha}: opacity lies between 0 and 1.")
    value = (np.arange(256)[:, None, None] - ZERO) / ZERO
    gray = np.arange(256.0)[None, :, None]
    # The hue is that of the colour map's end, whatever the strength: if it paled towards zero and the opacity fell too,
    # weak evidence would fade twice and the picture show the square of the map.
    colour = np.where(value < 0, colormaps[cmap](0.0)[:3], colormaps[cmap](1.0)[:3]) * 255
    opacity = alpha * np.minimum(np.abs(value), 1)
    table = gray * (1 - opacity) + colour * opacity
    table[UNSEEN] = gray[0] // 2 + 128
    return np.rint(np.clip(table, 0, 255)).astype(np.uint8).reshape(-1, 3)


def figure(
    photo: np.ndarray,
    heats: "Sequence[np.ndarray | Tensor]",
    titles: Sequence[str],
    box: tuple[float, float, float, float] | None = None,
    limit: float | None = None,
    unit: str = UNIT,
    **style: Any,
) -> "Figure":
    """The photo, then one overlay per heat map, all on one scale with its colour bar. box: what the network saw.

    The scale reaches from -limit to limit, by default the largest |value| of all the maps.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    limit = limit or max(_limit(np.asarray(heat, dtype=np.float32), None) for heat in heats)
    h, w = photo.shape[:2]
    width = 3.0 if h <= w else 2.4
    fig = Figure(figsize=(width * (len(heats) + 1) + 0.7, width * h / w + 0.5), layout="constrained", dpi=100)
    axes = fig.subplots(1, len(heats) + 1, squeeze=False)[0]
    pictures = [photo, *(overlay(photo, heat, limit, **style) for heat in heats)]
    for ax, picture, title in zip(axes, pictures, ["photo", *titles], strict=True):
        ax.imshow(picture)
        ax.set_title(title, fontsize=10)
        ax.axis("off")
    if box:
        left, top, right, bottom = box
        frame = Rectangle(
            (left - 0.5, top - 0.5), right - left, bottom - top, fill=False, edgecolor="white", linestyle="--"
        )
        axes[0].add_patch(frame)
        axes[0].set_title("photo, network's view dashed", fontsize=10)
    fig.colorbar(mappable(limit, **style), ax=list(axes), label=unit, shrink=0.9)
    return fig


def mappable(limit: float, alpha: float = ALPHA, cmap: str = COLORMAP) -> "ScalarMappable":
    """What `Figure.colorbar` needs for the scale of an overlay: its colours on light gray, from -limit to limit."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    colours = _table(cmap, float(alpha))[200 : UNSEEN * 256 : 256] / 255
    return ScalarMappable(Normalize(-limit, limit), ListedColormap(colours))


def encode(fig: "Figure", dpi: float | None = None) -> bytes:
    """The figure as a picture file, the same every time (no version or date inside): JPEG with photos in it, else PNG.

    A photo as PNG is four times as large as a JPEG of quality 92, in which lines and letters stay sharp. dpi: pixels
    per inch, by default the figure's own.
    """
    buffer, dpi = io.BytesIO(), dpi or fig.dpi
    if any(image.get_array().ndim == 3 for ax in fig.axes for image in ax.images):  # type: ignore[union-attr]
        fig.savefig(buffer, format="jpeg", dpi=dpi, pil_kwargs={"quality": 92, "subsampling": 0})
    else:
        fig.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def show(fig: "Figure", alt: str | None = None) -> None:
    """Show a figure in a notebook with its alternative text, by default the figure's own label."""
    from IPython import display

    alt = alt or str(fig.get_label())
    if not alt:
        raise CamError("A figure is shown with alt text: show(fig, alt='what a reader who cannot see it should know').")
    display.display(display.Image(encode(fig), alt=alt))
