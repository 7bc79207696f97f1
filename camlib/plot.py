"""Honest pictures: evidence keeps its sign, zero stays transparent, and maps side by side share one scale."""

import io
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import lru_cache
from math import floor, log10
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from camlib import fonts
from camlib.errors import CamError
from camlib.images import check_photo

if TYPE_CHECKING:
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure
    from torch import Tensor

__all__ = ["encode", "figure", "mappable", "oklab", "overlay", "picture", "show", "side_by_side"]

COLORMAP = "coolwarm"  # red is evidence for the class, blue against it; perceptually uniform, safe for the colour-blind
ENDS = (0.2298057, 0.298717966, 0.753683153), (0.705673158, 0.01555616, 0.150232812)  # its colours at full evidence
ALPHA = 0.85
# In OKLab, where lightness (0 black, 1 white) and chroma (0 gray) are as the eye sees them. B. Ottosson: A perceptual
# color space for image processing, 2020, https://bottosson.github.io/posts/oklab/, which gives the two matrices.
TO_LMS = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
TO_LAB = (
    (0.2104542553, 0.793617785, -0.0040720468),
    (1.9779984951, -2.428592205, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.808675766),
)
PHOTO = (0.35, 0.93)  # the lightness of the photo's black and white below the evidence
PALE = (0.8, 0.97)  # the same where the network never looked
CHROMA, MIDDLE, PULL = 0.19, 0.55, 0.7  # of full evidence: its chroma, and the lightness to which it draws the photo
BAR = 128  # the gray of the photo on which a colour bar shows the colours
UNIT = "logit evidence per cell"
FONT_SIZE, LINE = 11, 0.19  # of titles: points, and inches from line to line
SHARP = 2  # pixels of a figure in a notebook for each pixel that is shown, so that it is sharp on any screen
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
ROWS = 256  # of a photo that are drawn at once
LARGEST_PANEL = 2000  # pixels: a figure shows larger photos scaled down
TALLEST = 30  # inches of a panel: JPEG files have at most 65 535 rows
FULL = 508  # steps of evidence from 0 to the limit
UNSEEN = 2 * FULL + 1  # in place of a step from 0 (-limit) to 2 · FULL (limit): the network never looked


def overlay(
    photo: np.ndarray,
    heat: "np.ndarray | Tensor",
    limit: float | None = None,
    alpha: float = ALPHA,
    cmap: str = COLORMAP,
) -> np.ndarray:
    """Lay signed evidence on a photo.

    The photo is shown in gray, so every colour is evidence. The hue, that of one end of a diverging colour map, shows
    the sign. The chroma shows the strength: it is proportional to |heat|, from 0 at zero to `alpha` times full colour
    at ±`limit` and beyond. Equal evidence has equal chroma on dark and bright parts of the photo, whose lightness is
    compressed to make room for it. Where heat is NaN, the network never looked, and the photo is drawn pale.

    Parameters
    ----------
    photo : (H, W, 3) uint8, RGB
    heat : (H, W)
        The map on the photo's pixels, such as from `camlib.place`.
    limit
        The |heat| at full colour; by default the largest.
    alpha
        How strong full colour is, from 0 to 1.
    cmap
        The name of a diverging colour map of matplotlib.

    Returns
    -------
    picture : (H, W, 3) uint8, RGB

    Raises
    ------
    CamError
        If the sizes differ, or a number or the colour map does not fit.
    ImageError
        If this is not a photo.

    Examples
    --------
    >>> photo = np.full((1, 3, 3), 100, np.uint8)
    >>> overlay(photo, np.array([[0., 2., np.nan]]))[0].tolist()
    [[141, 141, 141], [202, 76, 78], [217, 217, 217]]
    """
    photo = check_photo(photo)
    heat = np.asarray(heat, dtype=np.float32)
    if heat.shape != photo.shape[:2]:
        raise CamError(
            f"The heat map is {heat.shape}, but the photo is {photo.shape[:2]}; camlib.place lays a map on the photo."
        )
    table, scale, result = _table(cmap, float(alpha)), FULL / _limit(heat, limit), np.empty_like(photo)
    for start in range(0, len(photo), ROWS):  # so that a photo of 50 megapixels needs no copies of its size
        rows = slice(start, start + ROWS)
        strength = np.clip(np.rint(heat[rows] * scale), -FULL, FULL)
        step = np.nan_to_num(strength, nan=UNSEEN - FULL).astype(np.int32) + FULL
        gray = np.asarray(Image.fromarray(photo[rows]).convert("L"))
        table.take(step * 256 + gray, axis=0, out=result[rows], mode="clip")
    return result


def _limit(heat: np.ndarray, limit: float | None) -> float:
    """The value at full colour. For a map of zeros this is 1, so the map stays transparent."""
    if limit is None:
        limit = max(float(np.nanmax(heat, initial=0.0)), -float(np.nanmin(heat, initial=0.0)))
    if isinstance(limit, str | bytes) or not np.isfinite(limit) or limit < 0:
        raise CamError(
            f"limit={limit!r}: must be a finite number above 0, in the unit of the map. Pass several classes as a list."
        )
    return limit or 1.0


@lru_cache(8)
def _table(cmap: str, alpha: float) -> np.ndarray:
    """((UNSEEN + 1) · 256, 3) uint8: the colour for each step of evidence and each gray."""
    blue, red = full_colour(cmap, 0.0), full_colour(cmap, 1.0)
    if not 0 <= alpha <= 1:
        raise CamError(f"alpha={alpha}: must be a number between 0 and 1.")
    value = (np.arange(UNSEEN + 1)[:, None] - FULL) / FULL
    light = oklab(np.arange(256)[:, None].repeat(3, 1))[:, 0]
    strength = alpha * np.minimum(np.abs(value), 1)
    ends = np.where(value[..., None] < 0, blue, red)
    lightness = _between(PHOTO, light) * (1 - PULL * strength) + ends[..., 0] * PULL * strength
    chroma = (ends[..., 1:] * strength[..., None]).repeat(256, 1)
    lightness[UNSEEN], chroma[UNSEEN] = _between(PALE, light), 0
    return _from_oklab(np.concatenate([lightness[..., None], chroma], 2)).reshape(-1, 3)


def full_colour(cmap: str, end: float) -> np.ndarray:
    """(3,) OKLab: the colour of full evidence, with the hue of one end of a colour map. Black and white have no hue."""
    lightness, *ab = oklab(255 * np.array(_end(cmap, end)))
    own = float(np.hypot(*ab))
    return np.array([lightness, 0, 0] if own < 0.02 else [MIDDLE, *(CHROMA * v / own for v in ab)])


def _end(cmap: str, end: float) -> Sequence[float]:
    if cmap == COLORMAP:
        return ENDS[end > 0]  # known here, because importing matplotlib costs more than drawing
    from matplotlib import colormaps

    if cmap not in colormaps:
        raise CamError(
            f"matplotlib has no colour map {cmap!r}; use a diverging one, such as 'coolwarm', 'RdBu_r' or 'PuOr_r'."
        )
    return colormaps[cmap](end)[:3]


def oklab(rgb: np.ndarray) -> np.ndarray:
    """Colours in OKLab, where equal steps look equally large.

    Parameters
    ----------
    rgb : (..., 3)
        sRGB, from 0 to 255.

    Returns
    -------
    lab : (..., 3)
        Lightness from 0 to 1, green to red, blue to yellow.

    References
    ----------
    Björn Ottosson 2020, A perceptual color space for image processing.

    Examples
    --------
    >>> (oklab(np.array([255, 255, 255])).round(3) + 0.0).tolist()
    [1.0, 0.0, 0.0]
    """
    c = rgb / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ np.transpose(TO_LMS)) @ np.transpose(TO_LAB)


def _from_oklab(lab: np.ndarray) -> np.ndarray:
    """Colours (..., 3) uint8 in sRGB, clipped to what a screen can show."""
    to_lms, to_rgb = (np.linalg.inv(np.array(matrix)) for matrix in (TO_LAB, TO_LMS))
    c = np.clip((lab @ to_lms.T) ** 3 @ to_rgb.T, 0, 1)
    return np.rint(255 * np.where(c <= 0.0031308, 12.92 * c, 1.055 * c ** (1 / 2.4) - 0.055)).astype(np.uint8)


def _between(ends: tuple[float, float], part: np.ndarray) -> np.ndarray:
    return ends[0] + (ends[1] - ends[0]) * part


def figure(
    photo: np.ndarray,
    heats: "Sequence[np.ndarray | Tensor]",
    titles: Sequence[str],
    box: tuple[float, float, float, float] | None = None,
    limit: float | None = None,
    unit: str = UNIT,
    **style: Any,
) -> "Figure":
    """The photo, then one overlay per heat map, all on one scale with a colour bar.

    Titles and unit may be in any script (see `camlib.fonts`) and are drawn literally: a dollar sign starts no formula.
    A title that is too wide for its panel is set in two lines and, if needed, shortened. A percentage at its end is
    preserved.

    Parameters
    ----------
    photo : (H, W, 3) uint8, RGB
    heats
        Maps (H, W) on the photo's pixels.
    titles
        One for each map.
    box : (left, top, right, bottom)
        What the network saw, in pixels; drawn dashed.
    limit
        The scale goes from -limit to limit; by default, limit is the largest |value| of all the maps.
    unit
        Of the maps, for the colour bar.
    style
        alpha and cmap, as in `overlay`.

    Returns
    -------
    fig : matplotlib.figure.Figure

    Examples
    --------
    >>> fig = figure(np.full((40, 60, 3), 128, np.uint8), [np.ones((40, 60))], ["a map"])
    >>> [ax.get_title() for ax in fig.axes]
    ['photo', 'a map', '']
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    limit = max(_limit(np.asarray(heat, dtype=np.float32), limit) for heat in heats)
    h, w = photo.shape[:2]
    width = 3.0 if h <= w else 2.4
    names = ["photo, network's view dashed" if box else "photo", *(fonts.printable(str(title)) for title in titles)]
    unit = fonts.printable(unit)
    text: dict[str, Any] = {"fontfamily": fonts.families([*names, unit], stacklevel=3), "parse_math": False}
    fitted = [_fit(name, 0.9 * 72 * width, text["fontfamily"]) for name in names]
    more = max(new.count("\n") - name.count("\n") for new, name in zip(fitted, names, strict=True))
    high = min(width * h / w, TALLEST)
    size = (width * (len(heats) + 1) + 0.7, high + 0.5 + LINE * more)  # panoramas need the room for more lines
    fig = Figure(figsize=size, layout="constrained", dpi=100)
    axes = fig.subplots(1, len(heats) + 1, squeeze=False)[0]
    pictures = [photo, *(overlay(photo, heat, limit, **style) for heat in heats)]
    for ax, picture, title in zip(axes, pictures, fitted, strict=True):
        ax.imshow(picture)
        ax.set_title(title, fontsize=FONT_SIZE, **text)
        ax.axis("off")
    if box:
        left, top, right, bottom = box
        frame = Rectangle(
            (left - 0.5, top - 0.5), right - left, bottom - top, fill=False, edgecolor="white", linestyle="--"
        )
        axes[0].add_patch(frame)
    limit, unit = _readable(limit, unit)
    fig.colorbar(mappable(limit, **style), ax=list(axes), shrink=0.9).set_label(fonts.in_order(unit), **text)
    return fig


def _readable(limit: float, unit: str) -> tuple[float, str]:
    """A limit from 0.1 to 10 000 for the numbers of a colour bar; the unit then holds the power of ten, if any.

    >>> _readable(2e-5, "gradient")
    (2.0, 'gradient (10⁻⁵)')
    """
    power = floor(log10(limit))
    if -1 <= power < 4:
        return limit, unit
    return round(limit / 10.0**power, 9), f"{unit} (10{str(power).translate(RAISED)})"


def _fit(title: str, width: float, family: list[str] | None) -> str:
    """Fit a title into lines of at most `width` points: unchanged, in two lines, or shortened (not the percentage)."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family=family, size=FONT_SIZE)

    def fits(text: str) -> bool:
        return text_to_path.get_text_width_height_descent(text, font, False)[0] <= width

    return "\n".join(fitted for line in title.split("\n") for fitted in _lines(line, fits))


def _lines(line: str, fits: Callable[[str], bool]) -> list[str]:
    percentage = re.search(r", \d+(\.\d+)? %$", line)  # as Explanation.plot writes it: "tiger cat, 38.1 %"
    name, rest = (line[: percentage.start()], percentage.group()) if percentage else (line, "")
    if fits(line):
        return [fonts.in_order(name, rest)]
    if rest and fits(name):
        return [fonts.in_order(name, ","), rest.removeprefix(", ")]
    start = _end_of_word(name, _longest(name, fits))
    first, name = name[:start].rstrip(), name[start:].lstrip()
    if not fits(name + rest):
        name = name[: _longest(name, lambda part: fits(f"{part}…{rest}"))].rstrip() + "…"
    return [fonts.in_order(first), fonts.in_order(name, rest)]


def _longest(text: str, fits: Callable[[str], bool]) -> int:
    """How many characters fit, at least one. Does not separate an accent from its letter."""
    end = max(1, bisect_left(range(min(len(text), 200)), True, key=lambda n: not fits(text[: n + 1])))
    while 1 < end < len(text) and (unicodedata.category(text[end])[0] == "M" or "\u200d" in text[end - 1 : end + 1]):
        end -= 1  # "\u200d" joins several emoji to one
    return end


def _end_of_word(text: str, end: int) -> int:
    """Where to break a line: in the second half of text[:end], or at end if no word ends there, as in Chinese."""
    for n in range(end, end // 2, -1) if end < len(text) else ():
        if text[n].isspace() or text[n - 1] in " -_/,;":
            return n
    return end


def side_by_side(
    photo: np.ndarray,
    heats: "Sequence[np.ndarray | Tensor]",
    titles: Sequence[str],
    units: Sequence[str],
    box: tuple[float, float, float, float] | None = None,
    **style: Any,
) -> "Figure":
    """The photo, then one overlay per heat map, each on its own scale with its own colour bar below it.

    For maps with different units, such as those of different methods.

    Parameters
    ----------
    photo : (H, W, 3) uint8, RGB
    heats
        Maps (H, W) on the photo's pixels.
    titles, units
        One for each map.
    box : (left, top, right, bottom)
        What the network saw, in pixels; drawn dashed.
    style
        alpha and cmap, as in `overlay`.

    Returns
    -------
    fig : matplotlib.figure.Figure

    Examples
    --------
    >>> photo, heat = np.full((40, 60, 3), 128, np.uint8), np.ones((40, 60))
    >>> fig = side_by_side(photo, [heat, 2 * heat], ["one", "two"], ["logits", "logits"])
    >>> [ax.get_title() for ax in fig.axes[:3]]
    ['photo', 'one', 'two']
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import MaxNLocator

    h, w = photo.shape[:2]
    width = 3.0 if h <= w else 2.4
    names, units = ([fonts.printable(text) for text in texts] for texts in (titles, units))
    family = fonts.families([*names, *units], stacklevel=3)
    text: dict[str, Any] = {"fontfamily": family, "parse_math": False}
    fitted = [_fit(name, 0.9 * 72 * width, family) for name in names]
    more = max((title.count("\n") for title in fitted), default=0)
    columns = len(heats) + 1
    high = min(width * h / w, TALLEST)
    fig = Figure(figsize=(width * columns, high + 1.15 + LINE * more), layout="constrained", dpi=100)
    axes = fig.subplots(1, columns, squeeze=False)[0]
    axes[0].imshow(photo)
    axes[0].set_title("photo, network's view dashed" if box else "photo", fontsize=FONT_SIZE)
    if box:
        left, top, right, bottom = box
        frame = Rectangle(
            (left - 0.5, top - 0.5), right - left, bottom - top, fill=False, edgecolor="white", linestyle="--"
        )
        axes[0].add_patch(frame)
    for ax, heat, title, unit in zip(axes[1:], heats, fitted, units, strict=True):
        limit = _limit(np.asarray(heat, dtype=np.float32), None)
        ax.imshow(overlay(photo, heat, limit, **style))
        ax.set_title(title, fontsize=FONT_SIZE, **text)
        limit, unit = _readable(limit, unit)
        bar = fig.colorbar(mappable(limit, **style), ax=ax, orientation="horizontal", shrink=0.9, pad=0.04)
        bar.set_label(fonts.in_order(unit), fontsize=9, **text)
        bar.locator = MaxNLocator(5, symmetric=True)
    spacer = fig.colorbar(mappable(1.0), ax=axes[0], orientation="horizontal", shrink=0.9, pad=0.04)
    spacer.set_label(" ", fontsize=9)
    spacer.ax.set_visible(False)  # it keeps the photo level with the maps
    for ax in axes:
        ax.axis("off")
    return fig


def picture(fig: "Figure") -> Image.Image:
    """The figure as a Pillow image.

    Parameters
    ----------
    fig
        A matplotlib figure.

    Returns
    -------
    image : PIL.Image.Image
        RGB.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> picture(Figure(figsize=(2, 1), dpi=100)).size
    (200, 100)
    """
    return Image.open(io.BytesIO(encode(fig))).convert("RGB")


def mappable(limit: float, alpha: float = ALPHA, cmap: str = COLORMAP) -> "ScalarMappable":
    """The argument for `Figure.colorbar` that shows an overlay's scale: its colours on gray.

    Parameters
    ----------
    limit
        The scale goes from -limit to limit.
    alpha, cmap
        As in `overlay`.

    Returns
    -------
    mappable : matplotlib.cm.ScalarMappable

    Examples
    --------
    >>> mappable(2.0).get_clim()
    (-2.0, 2.0)
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    colours = _table(cmap, float(alpha))[BAR : UNSEEN * 256 : 256] / 255
    return ScalarMappable(Normalize(-limit, limit), ListedColormap(colours))


def encode(fig: "Figure", dpi: float | None = None, quality: int = 92) -> bytes:
    """The figure as a picture file: JPEG if it contains photos, otherwise PNG. The bytes are the same every time.

    As a PNG, a photo would be four times as large as a JPEG of quality 92, which also keeps lines and letters sharp.
    The file contains no version or date.

    Parameters
    ----------
    fig
        A matplotlib figure.
    dpi
        Pixels per inch, by default the figure's own.
    quality
        Of a JPEG, up to 95.

    Returns
    -------
    content : bytes
        Of the file.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> encode(Figure(figsize=(1, 1)))[1:4]
    b'PNG'
    """
    buffer, dpi = io.BytesIO(), dpi or fig.dpi
    if any(image.get_array().ndim == 3 for ax in fig.axes for image in ax.images):  # type: ignore[union-attr]
        fig.savefig(buffer, format="jpeg", dpi=dpi, pil_kwargs={"quality": quality, "subsampling": 0})
    else:
        fig.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def whereabouts(cell: int, shape: Sequence[int]) -> str:
    """In which ninth of a map (h, w) a cell or pixel lies, counted row by row as argmax does, in words for an alt text.

    >>> [whereabouts(cell, (3, 3)) for cell in range(5)]
    ['top left', 'top', 'top right', 'left', 'centre']
    """
    row, column = divmod(cell, shape[1])
    words = ("top", "", "bottom")[3 * row // shape[0]], ("left", "", "right")[3 * column // shape[1]]
    return " ".join(filter(None, words)) or "centre"


def show(fig: "Figure", alt: str | None = None) -> None:
    """Show a figure in a notebook with its alternative text.

    Parameters
    ----------
    fig
        A matplotlib figure.
    alt
        What a reader who cannot see it should know; by default the figure's own label, which `Explanation.plot` sets.

    Raises
    ------
    CamError
        If the figure has no alternative text.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> show(Figure(figsize=(1, 1)))
    Traceback (most recent call last):
        ...
    camlib.errors.CamError: A figure needs alt text: show(fig, alt='what a reader who cannot see it should know').
    """
    from IPython import display

    alt = alt or str(fig.get_label())
    if not alt:
        raise CamError("A figure needs alt text: show(fig, alt='what a reader who cannot see it should know').")
    picture, width = sharp(fig)
    display.display(display.Image(picture, alt=alt, width=width))


def sharp(fig: "Figure") -> tuple[bytes, int]:
    """The figure as a picture file for a notebook, and the width in pixels at which to show it."""
    picture = encode(fig, SHARP * fig.dpi, quality=82)  # at this resolution, the loss is invisible
    return picture, round(fig.get_figwidth() * fig.dpi)
