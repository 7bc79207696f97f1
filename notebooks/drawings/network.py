"""One drawing of the network: from a photo to a logit, and the same sum in another order, which gives the map."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

import camlib
from camlib.hooks import capture
from camlib.plot import COLORMAP

STAGES = ("bn1", "blocks.2", "blocks.4")  # of the bundled network; the feature map is the last one
PARTS = ("photo", "stages", "features", "means", "weights", "logit", "map", "mean of the map")
INK, SOFT, LIT = "#1f1f1f", "#8a8a8a", "#ffe9a8"
SHOWN = 40  # of the 1280 channel means and weights: the largest products


def network(exp: camlib.Explanation, target: str, lit: Sequence[str] = ()) -> Figure:
    """The way from a photo to one class's logit, and below it the same sum in another order, which gives the class map.

    exp: an explanation by the bundled network. lit: which of `PARTS` to light, those that a chapter is about. Every
    picture and number is computed from exp.
    """
    if unknown := set(lit) - set(PARTS):
        raise ValueError(f"no parts {sorted(unknown)}; the drawing has {', '.join(PARTS)}")
    clf, k = exp.classifier, exp.classifier.index(target)
    result = exp.results[0]
    left, top, right, bottom = (round(v) for v in result.view.box)
    photo = exp.photo[top:bottom, left:right]
    x = camlib.inputs.prepare(clf, exp.photo).tensors[0]
    with torch.no_grad(), capture(clf.module, *STAGES) as captured:
        clf.module(x)
    features, means = result.features[0], result.features[0].mean((1, 2))
    weights, bias = clf.head.weight[k], float(exp.bias[k])
    heat, logit = exp.map(k), float(exp.logits[k])

    fig = Figure(figsize=(11, 5.2), dpi=100)
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, 110), ylim=(0, 52))
    ax.axis("off")
    draw = _Pen(ax, set(lit))

    draw.light("photo", 1, 27, 14, 23.5)
    draw.picture(photo, 2, 33, 12)
    draw.text(8, 31.5, f"photo\n3 × {x.shape[2]} × {x.shape[3]}")
    draw.light("stages", 16.5, 27, 31.5, 23.5)
    for name, start, side in zip(STAGES, (17.5, 28.5, 38.5), (9.0, 8.0, 7.0), strict=True):
        value = captured[name][0]
        draw.stack(value, start, 39 - side / 2, side)
        draw.text(start + side / 2, 31.5, f"{value.shape[0]}×{value.shape[1]}×{value.shape[2]}", size=9)
    draw.text(32.5, 48.6, "convolutions, stage by stage", size=11)
    draw.arrow(14.3, 39, 17.2, 39)
    draw.light("features", 49.5, 27, 13, 23.5)
    draw.stack(features, 51, 34.5, 9)
    draw.text(56, 31.5, " × ".join(map(str, features.shape)))
    draw.text(56, 48.6, "feature map", size=11)
    draw.arrow(47.7, 39, 50.8, 39)

    largest = (means * weights).abs().topk(SHOWN).indices.sort().values
    drawn = f"({SHOWN} shown: the\nlargest products)"
    draw.light("means", 63.5, 27, 14, 23.5)
    draw.arrow(62.2, 39, 68.7, 39)
    draw.strip(means[largest, None], 69.5, 34.4, 2.4, 9.2, "Greys", 0.0)
    draw.text(70.7, 33.4, f"{len(means)} means\n{drawn}", size=9.5)
    draw.text(70.7, 49.4, "mean of each\nchannel (GAP)", size=11)
    draw.text(77.9, 39, "×", size=18, va="center")
    draw.light("weights", 78.2, 27, 14, 23.5)
    draw.strip(weights[largest, None], 84, 34.4, 2.4, 9.2, COLORMAP)
    draw.text(85.2, 33.4, f"{len(weights)} weights\n{drawn}", size=9.5)
    draw.text(85.2, 49.4, f"weights of\n{target}", size=11)
    draw.light("logit", 93, 27, 16.5, 23.5)
    draw.arrow(87, 39, 96, 39)
    draw.text(89.6, 41.6, "sum", size=11)
    draw.text(101.3, 39, f"{_number(logit - bias)}\n{_number(bias, True)}\n= {_number(logit)}", size=13, va="center")
    draw.text(101.3, 48.6, "+ bias = logit", size=11)

    draw.arrow(56, 28.4, 56, 20.9)
    draw.text(
        54.6,
        25.2,
        "the same sum, channels first:\neach channel × its weight, added up",
        size=11,
        ha="right",
        va="center",
    )
    draw.light("map", 28, 0.5, 35, 19.8)
    draw.strip(heat, 50, 4.5, 12, 12, COLORMAP)
    for i, row in enumerate(heat.round().int().tolist()):
        for j, value in enumerate(row):
            x0, y0 = 50 + (j + 0.5) * 12 / len(row), 16.5 - (i + 0.5) * 12 / len(heat)
            draw.text(x0, y0, f"{value}".replace("-", "−"), size=7.5, va="center")
    draw.text(56, 3.6, f"class map, {len(heat)} × {len(heat[0])}")
    draw.text(48.6, 18.9, f"class map of {target}", size=11)
    draw.arrow(49.6, 10.5, 44, 10.5)
    draw.picture(exp.overlay(k)[top:bottom, left:right], 31, 4.5, 12)
    draw.text(37, 3.6, "on the photo")
    draw.light("mean of the map", 64, 0.5, 45.5, 19.8)
    draw.arrow(62.4, 10.5, 80, 10.5, "mean of its cells")
    draw.text(
        81,
        10.5,
        f"{_number(float(heat.mean()))} {_number(bias, True)} = {_number(logit)}",
        size=13,
        ha="left",
        va="center",
    )
    draw.arrow(101.3, 12.5, 101.3, 30.2)
    draw.text(100.3, 21.3, "the same logit", size=11, ha="right", va="center")
    fig.set_label(
        f"From a photo through convolutions to a feature map of 1280 channels of 7 by 7 cells. Above: the mean of each "
        f"channel times the weights of {target}, plus the bias, is the logit {logit:.2f}. Below: each channel times "
        f"its weight, added up, is the class map, and its mean plus the bias is the same logit."
    )
    return fig


def _number(value: float, signed: bool = False) -> str:
    """Two digits after the point; with a sign, as a term of a sum: + 0.31, − 0.02."""
    sign = "− " if round(value, 2) < 0 else "+ "
    return (sign if signed else "−" * (round(value, 2) < 0)) + f"{abs(value):.2f}"


class _Pen:
    """Draws on one pair of axes, in units of a tenth of an inch."""

    def __init__(self, ax, lit: set[str]) -> None:
        self.ax, self.lit = ax, lit

    def light(self, part: str, x: float, y: float, width: float, height: float) -> None:
        if part in self.lit:
            box = FancyBboxPatch((x, y), width, height, "round,pad=0,rounding_size=1", fc=LIT, ec="none", zorder=0)
            self.ax.add_patch(box)

    def text(self, x: float, y: float, text: str, size: float = 10, ha: str = "center", va: str = "top") -> None:
        self.ax.text(x, y, text, fontsize=size, color=INK, ha=ha, va=va, linespacing=1.25)

    def arrow(self, x0: float, y0: float, x1: float, y1: float, text: str = "") -> None:
        self.ax.add_patch(FancyArrowPatch((x0, y0), (x1, y1), arrowstyle="-|>", mutation_scale=13, lw=1.5, color=INK))
        if text:
            self.ax.text((x0 + x1) / 2, y0 + 0.7, text, fontsize=11, color=INK, ha="center", va="bottom")

    def picture(self, values: np.ndarray, x: float, y: float, side: float, **style) -> None:
        self.ax.imshow(values, extent=(x, x + side, y, y + side), aspect="auto", zorder=3, **style)
        self.ax.set(xlim=(0, 110), ylim=(0, 52))

    def stack(self, value: torch.Tensor, x: float, y: float, side: float, sheets: int = 4) -> None:
        """A few of the channels (C, h, w) that vary most, one behind the other."""
        chosen = value.flatten(1).std(1).topk(sheets).indices
        for n, channel in enumerate(chosen.tolist()):
            shift = 0.55 * (sheets - 1 - n)
            sheet = value[channel] - value[channel].min()
            sheet = (sheet / sheet.max().clamp(min=1e-9)).numpy()
            self.picture(sheet, x + shift, y + shift, side, cmap="Greys", vmin=-0.15, vmax=1.1, interpolation="nearest")
            frame = FancyBboxPatch(
                (x + shift, y + shift), side, side, "square,pad=0", fc="none", ec=SOFT, lw=0.7, zorder=3
            )
            self.ax.add_patch(frame)

    def strip(
        self, values: torch.Tensor, x: float, y: float, width: float, height: float, cmap: str, low: float | None = None
    ) -> None:
        limit = float(values.abs().max())
        extent = (x, x + width, y, y + height)
        colours = colormaps[cmap]
        self.ax.imshow(
            values.numpy(), extent=extent, aspect="auto", cmap=colours, zorder=3, interpolation="nearest",
            vmin=-limit if low is None else low, vmax=limit,
        )  # fmt: skip
        frame = FancyBboxPatch((x, y), width, height, "square,pad=0", fc="none", ec=SOFT, lw=0.7, zorder=3)
        self.ax.add_patch(frame)
        self.ax.set(xlim=(0, 110), ylim=(0, 52))
