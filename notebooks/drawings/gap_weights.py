"""Chapter 03: a logit as an equation of pictures, its channels in order, and maps from the wrong weights."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.ticker import MaxNLocator
from torch import Tensor

import camlib

OUTPUT = "PuOr_r"  # orange, as in chapter 02: what a channel gives is no evidence for a class, which is red
RED, BLUE, INK, SOFT = "#b40426", "#3b4cc0", "#1f1f1f", "#6f6f6f"


def three_by_three(a: Tensor, b: Tensor, weights: tuple[float, float]) -> Figure:
    """Two channels of 3 × 3 numbers, times a weight each: above, the map; below, the same with their means."""
    u, v = weights
    cells = u * a + v * b
    fig, ax = _page(11, 3.1)
    panels = (12, _times(u), a, "channel a"), (40, _times(v, True), b, "channel b"), (68, "=", cells, "map")
    for x, sign, values, name in panels:
        ax.text(x + 8, 20, sign, fontsize=18, ha="right", va="center", color=INK)
        _numbers(fig, values, x + 10, 12.5, 15, camlib.plot.COLORMAP if name == "map" else OUTPUT)
        ax.text(x + 17.5, 28.4, name, fontsize=12, ha="center", va="bottom", color=INK)
        _arrow(ax, x + 17.5, 12, x + 17.5, 6.7)
        ax.text(x + 18.5, 9.3, "mean", fontsize=11, va="center", color=SOFT)
        ax.text(x + 8, 4, sign, fontsize=18, ha="right", va="center", color=INK)
        ax.text(x + 17.5, 4, _plain(float(values.mean())), fontsize=18, ha="center", va="center", color=INK)
    fig.set_label(
        f"Above: {_plain(u)} times channel a {'minus' if v < 0 else 'plus'} {_plain(abs(v))} times channel b is a map "
        f"of 3 by 3 cells. Below: the same with the means of the three pictures: {_plain(float(a.mean()))} and "
        f"{_plain(float(b.mean()))} give {_plain(float(cells.mean()))}, the mean of the map."
    )
    return fig


def equation(exp: camlib.Explanation, target: str, channels: Sequence[int]) -> Figure:
    """Weight × channel, added up, is the class map; below, the same with the means, which gives the logit."""
    k, result = exp.classifier.index(target), exp.results[0]
    features, weight = result.features[0], exp.classifier.head.weight[k]
    square, heat, bias = _square(exp), exp.map(k), float(exp.bias[k])
    limit = float(features[list(channels)].max())
    fig, ax = _page(11, 3.8)
    x = 0.0
    for n, c in enumerate(channels):
        ax.text(x + 8.6, 26.2, _times(float(weight[c]), n > 0), fontsize=12, ha="right", va="center", color=INK)
        ax.text(x + 8.6, 11.5, _times(float(weight[c]), n > 0), fontsize=12, ha="right", va="center", color=INK)
        _picture(fig, _overlay(square, features[c], limit, OUTPUT), x + 9.2, 18.7, 15)
        ax.text(x + 16.7, 34.5, f"channel {c}", fontsize=12, ha="center", va="bottom", color=INK)
        _arrow(ax, x + 16.7, 18.1, x + 16.7, 13.7)
        ax.text(x + 17.5, 15.9, "mean", fontsize=11, va="center", color=SOFT)
        ax.text(x + 16.7, 11.5, f"{float(features[c].mean()):.2f}", fontsize=12, ha="center", va="center", color=INK)
        x += 24.4
    for y in (26.2, 11.5):
        ax.text(x + 4, y, "+ … =", fontsize=14, ha="center", va="center", color=INK)
    _picture(fig, _overlay(square, heat, float(heat.abs().max())), x + 8, 18.7, 15)
    ax.text(x + 15.5, 34.5, f"map of {target}", fontsize=12, ha="center", va="bottom", color=INK)
    _arrow(ax, x + 15.5, 18.1, x + 15.5, 13.7)
    ax.text(x + 16.3, 15.9, "mean", fontsize=11, va="center", color=SOFT)
    mean = float(heat.mean())
    ax.text(x + 15.5, 11.5, f"{mean:.2f}", fontsize=12, ha="center", va="center", color=INK)
    ax.text(
        x + 20, 11.5, f"{_signed(bias)} (bias)\n= {mean + bias:.2f}", fontsize=12, ha="left", va="center", color=INK
    )
    _bar(fig, limit, (9.2, 6.5, 63.8, 1.3), "output of these channels", "horizontal", OUTPUT).set_xlim(0, limit)
    _bar(fig, float(heat.abs().max()), (x + 24, 18.7, 1.3, 15), "logits per cell", "vertical")
    terms = ", ".join(f"{float(weight[c]):.3f} times channel {c}" for c in channels)
    fig.set_label(
        f"An equation of pictures, with channels in orange and evidence in red: {terms} and so on for all channels is "
        f"the class map of {target} on the photo. Below, the same equation with the means: it gives {mean:.2f}, and "
        f"with the bias the logit {mean + bias:.2f}."
    )
    return fig


def ranked(contribution: Tensor, bias: float, half: int) -> Figure:
    """The contributions from the largest to the smallest, and what they add up to in this order."""
    values = contribution.sort(descending=True).values.numpy()
    rank, running = np.arange(1, len(values) + 1), values.cumsum() + bias
    fig = Figure(figsize=(11, 3.9), layout="constrained", dpi=100)
    left, right = fig.subplots(1, 2)
    left.fill_between(rank, values, where=values > 0, step="mid", color=RED)
    left.fill_between(rank, values, where=values < 0, step="mid", color=BLUE)
    left.axhline(0, color="gray", linewidth=0.8)
    positive, negative = int((values > 0).sum()), int((values < 0).sum())
    left.annotate(f"{positive} channels for the class", (120, 0.3 * values[0]), color=RED, fontsize=12)
    left.annotate("silent", (rank[positive] + 350, 0.03), ha="center", color=SOFT, fontsize=12)
    left.annotate(f"{negative} against it", (rank[-1], 0.03), ha="right", color=BLUE, fontsize=12)
    left.set_title("contribution of each channel", fontsize=12)
    left.set_ylabel("logits", fontsize=11)
    right.plot(rank, running, color=INK)
    right.axhline(running[-1], color="gray", linestyle="--")
    right.annotate("logit", (rank[-1], running[-1] - 0.3), ha="right", va="top", color=SOFT, fontsize=12)
    right.plot([half], [running[half - 1]], "o", color=RED)
    note = f"the first {half}: half of\nthe positive contributions"
    right.annotate(note, (half + 40, running[half - 1] - 1.6), color=RED, fontsize=12)
    right.set_ylim(0, None)
    right.set_title("bias + the contributions so far", fontsize=12)
    for ax in (left, right):
        ax.set_xlabel("channels, the largest contribution first", fontsize=11)
        ax.tick_params(labelsize=11)
        ax.spines[["top", "right"]].set_visible(False)
    fig.set_label(
        "Left: the contributions from the largest to the smallest: a steep positive start, a long stretch of zeros, a "
        f"short negative end. Right: their running sum rises fast; the first {half} channels make up half of the "
        "positive contributions; it ends at the logit."
    )
    return fig


def own_scales(exp: camlib.Explanation, target: str, maps: Sequence[Tensor], names: Sequence[str]) -> Figure:
    """Maps (h, w) of one class on the photo, each on a scale of its own, with what its mean and the bias add up to."""
    square, bias = _square(exp), float(exp.bias[exp.classifier.index(target)])
    fig, ax = _page(11, 3.9)
    for n, (heat, name) in enumerate(zip(maps, names, strict=True)):
        x, limit = 1.5 + 27.5 * n, float(heat.abs().max())
        _picture(fig, _overlay(square, heat, limit), x, 8.5, 25)
        claim = f"{float(heat.mean()) + bias:.2f}".replace("-", "−")
        ax.text(x + 12.5, 34.3, f"{name}\nmean + bias = {claim}", fontsize=12, ha="center", va="bottom", color=INK)
        _bar(fig, limit, (x + 1.5, 6.2, 22, 1.3), "own scale, logits per cell", "horizontal")
    fig.set_label(
        f"Maps of {target} on the photo, each on its own scale: {', '.join(names)}. All of them reach full colour, "
        "and the wrong ones differ from one another."
    )
    return fig


# --- helpers ---------------------------------------------------------------------------------------------------------


def _page(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure and axes that cover it, in units of a tenth of an inch."""
    fig = Figure(figsize=(width, height), dpi=100)
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, 10 * width), ylim=(0, 10 * height))
    ax.axis("off")
    return fig, ax


def _place(fig: Figure, x: float, y: float, width: float, height: float) -> Axes:
    full_width, full_height = (10 * v for v in fig.get_size_inches())
    return fig.add_axes((x / full_width, y / full_height, width / full_width, height / full_height))


def _picture(fig: Figure, values: np.ndarray, x: float, y: float, side: float) -> None:
    ax = _place(fig, x, y, side, side)
    ax.imshow(values, aspect="auto")
    ax.axis("off")


def _numbers(fig: Figure, values: Tensor, x: float, y: float, side: float, cmap: str) -> None:
    """A small grid with its numbers."""
    ax = _place(fig, x, y, side, side)
    ax.imshow(values, cmap=cmap, vmin=-15, vmax=15)
    ax.set(xticks=[], yticks=[])
    for (i, j), value in np.ndenumerate(values.numpy()):
        ax.text(j, i, _plain(float(value)), ha="center", va="center", fontsize=14, color=INK)


def _bar(
    fig: Figure,
    limit: float,
    place: tuple[float, float, float, float],
    label: str,
    orientation: str,
    cmap: str = camlib.plot.COLORMAP,
) -> Axes:
    ax = _place(fig, *place)
    bar = fig.colorbar(camlib.plot.mappable(limit, cmap=cmap), cax=ax, orientation=orientation)
    bar.set_label(label, fontsize=11)
    bar.ax.tick_params(labelsize=11)
    bar.locator = MaxNLocator(4, symmetric=True)
    return bar.ax


def _arrow(ax: Axes, x0: float, y0: float, x1: float, y1: float) -> None:
    ax.add_patch(FancyArrowPatch((x0, y0), (x1, y1), arrowstyle="-|>", mutation_scale=13, lw=1.3, color=SOFT))


def _square(exp: camlib.Explanation) -> np.ndarray:
    """The part of the photo that the network saw."""
    left, top, right, bottom = (round(edge) for edge in exp.view.box)
    return exp.photo[top:bottom, left:right]


def _overlay(square: np.ndarray, heat: Tensor, limit: float, cmap: str = camlib.plot.COLORMAP) -> np.ndarray:
    return camlib.overlay(square, camlib.upsample(heat, square.shape[:2]), limit, cmap=cmap)


def _plain(value: float) -> str:
    return f"{value:.0f}".replace("-", "−")


def _signed(value: float) -> str:
    return f"{'−' if value < 0 else '+'} {abs(value):.2f}"


def _times(weight: float, later: bool = False) -> str:
    """2 ×, or for a later term + 2 × or − 2 ×; whole numbers without a point."""
    size = f"{abs(weight):.0f}" if weight == round(weight) else f"{abs(weight):.3f}"
    sign = ("− " if weight < 0 else "+ ") if later else "−" * (weight < 0)
    return f"{sign}{size} ×"
