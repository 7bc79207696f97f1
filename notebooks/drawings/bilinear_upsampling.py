"""Drawings of chapter 05 and of its deep dive: where the cells of a map lie, and where they look."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

import camlib

CELL, SIDE = 32, 224
COLOURS = ("#1f1f1f", "#0072b2", "#d55e00")
STYLES = ("-", "--", "-.")
TEXT = 11


def stretched_and_placed(exp: camlib.Explanation, target: str) -> Figure:
    """One class's map on the photo twice: stretched over all of it, and placed where the crop was."""
    cells = exp.map(target)
    heats = [camlib.upsample(cells, exp.photo.shape[:2]), camlib.place(cells, exp.view)]
    titles = ["stretched over the photo", "placed on the crop"]
    fig = camlib.plot.figure(exp.photo, heats, titles, box=exp.view.box)
    for ax, heat in zip(fig.axes[1:], heats, strict=False):
        ax.contour(heat, levels=[float(cells.max()) / 2], colors="white", linewidths=1.5)
    fig.set_label(
        f"The photo, and two heat maps of {target}, each with a line around its hot region. Stretched over the whole "
        f"photo, the region is far too wide; placed where the crop was, it is narrower and lies on the object."
    )
    return fig


def ruler() -> Figure:
    """Seven cells side by side in 224 pixels, with their centres."""
    fig = Figure(figsize=(9, 2.1), layout="constrained", dpi=100)
    ax = fig.subplots()
    for i in range(7):
        ax.axvspan(CELL * i, CELL * (i + 1), color="#d9e3ee" if i % 2 else "#f0f3f7")
        ax.plot(CELL * (i + 0.5), 0.36, "o", color="#b40426")
        ax.annotate(f"cell {i}", (CELL * (i + 0.5), 0.68), ha="center", fontsize=TEXT)
    ax.annotate("", (CELL, 0.2), (0, 0.2), arrowprops={"arrowstyle": "<->"})
    ax.annotate("32 pixels", (CELL / 2, 0.03), ha="center", fontsize=TEXT)
    ax.set(xlim=(0, SIDE), ylim=(0, 1), yticks=[], xticks=[0, SIDE, *(CELL * (i + 0.5) for i in range(7))])
    ax.tick_params(labelsize=TEXT)
    ax.set_xlabel("position in the window (pixels)", fontsize=TEXT)
    ax.set_title("Each cell's centre lies half a cell from its edges", fontsize=12)
    fig.set_label("A ruler of 224 pixels in seven equal cells, with the centres at 16, 48, and so on to 208.")
    return fig


def curves(rows: Mapping[str, np.ndarray], cell: int) -> Figure:
    """A row with one hot cell, enlarged by several rules: a curve each, with the cell shaded."""
    fig = Figure(figsize=(9, 3.2), layout="constrained", dpi=100)
    ax = fig.subplots()
    ax.axvspan(CELL * cell, CELL * (cell + 1), color="#e8edf3", label=f"cell {cell}")
    for (rule, values), style, colour in zip(rows.items(), STYLES, COLOURS, strict=True):
        ax.plot(np.arange(SIDE) + 0.5, values, style, color=colour, label=rule, linewidth=2.2)
    ax.set(xlim=(0, 150), ylim=(0, 1.05))
    ax.set_xlabel("position in the window (pixels)", fontsize=TEXT)
    ax.set_ylabel("value", fontsize=TEXT)
    ax.tick_params(labelsize=TEXT)
    ax.set_title(f"Cell {cell} is hot. Only one rule puts the peak in its middle", fontsize=12)
    ax.legend(fontsize=TEXT)
    fig.set_label(
        f"Curves of one hot cell, enlarged by {len(rows)} rules. With half-pixel centres the peak lies in the middle "
        "of the cell; with the other rules it lies further left."
    )
    return fig


def walk(rules: Iterable[str], enlarged: Callable[[np.ndarray, str], np.ndarray]) -> list[np.ndarray]:
    """The frames of an animation, (H, W, 3) uint8: a hot cell walks along a row, enlarged by each rule."""
    inner = range(1, 6)  # in the outermost cells, a rule's peak can be a plateau
    return [_frame(list(rules), enlarged, cell) for cell in inner]


def _frame(rules: Sequence[str], enlarged: Callable[[np.ndarray, str], np.ndarray], cell: int) -> np.ndarray:
    values = np.eye(7)[cell]
    fig = Figure(figsize=(9, 2.6), layout="constrained", dpi=150)
    axes = fig.subplots(1 + len(rules), 1, sharex=True)
    strips = {"the map": np.repeat(values, CELL)} | {rule: enlarged(values, rule) for rule in rules}
    for ax, (name, strip) in zip(axes, strips.items(), strict=True):
        ax.imshow(strip[None], "Reds", vmin=0, vmax=1, aspect="auto", extent=(0, SIDE, 0, 1), interpolation="nearest")
        ax.axvspan(CELL * cell, CELL * (cell + 1), fill=False, edgecolor="black", linestyle="--", linewidth=1.4)
        ax.plot(
            np.flatnonzero(np.isclose(strip, strip.max())).mean() + 0.5, 0.5, "w|", markersize=16, markeredgewidth=2.5
        )
        ax.set(yticks=[], xlim=(0, SIDE), xticks=[CELL * i for i in range(8)])
        ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=TEXT)
        ax.tick_params(labelsize=TEXT, length=0)
    axes[-1].set_xlabel("position in the window (pixels); dashed: the hot cell; mark: the peak", fontsize=TEXT)
    return np.asarray(camlib.plot.picture(fig))


def field(energy: np.ndarray, cell: tuple[int, int], radius: float, centre: tuple[float, float]) -> Figure:
    """The part of the squared gradient of a cell that each pixel has, with the cell and the circle that holds half."""
    blocks = energy.reshape(14, 16, 14, 16).sum((1, 3))
    fig = Figure(figsize=(6.2, 4.8), layout="constrained", dpi=100)
    ax = fig.subplots()
    image = ax.imshow(100 * blocks / blocks.sum(), "cividis", extent=(0, SIDE, SIDE, 0), vmin=0)
    row, column = cell
    ax.add_patch(Rectangle((CELL * column, CELL * row), CELL, CELL, fill=False, edgecolor="white", linewidth=2.5))
    ax.add_patch(Circle(centre[::-1], radius, fill=False, edgecolor="white", linewidth=2, linestyle="--"))
    ax.set(xticks=range(0, SIDE + 1, CELL), yticks=range(0, SIDE + 1, CELL))
    ax.tick_params(labelsize=TEXT)
    ax.set_xlabel("x (pixels)", fontsize=TEXT)
    ax.set_ylabel("y (pixels)", fontsize=TEXT)
    ax.set_title(f"White: cell {cell}. The dashed circle holds half of its field", fontsize=12)
    bar = fig.colorbar(image)
    bar.set_label("share of each 16 × 16 pixels (%)", fontsize=TEXT)
    bar.ax.tick_params(labelsize=TEXT)
    fig.set_label(
        f"What cell {cell} depends on, over the window of 224 pixels: more around the middle than at the edges, and "
        f"far beyond the white square of 32 pixels. A dashed circle with a radius of {radius:.0f} pixels holds half of "
        "it."
    )
    return fig


def offsets(rows: Sequence[tuple[str, str, dict[str, Any]]], expected: Sequence[float | None]) -> Figure:
    """Measured offsets with standard errors, down and right: (network, how it was measured, summary) a row."""
    fig = Figure(figsize=(9, 0.62 * len(rows) + 1.2), layout="constrained", dpi=100)
    axes = fig.subplots(1, 2, sharex=True, sharey=True)
    for ax, direction in zip(axes, ("down", "right"), strict=True):
        ax.axvline(0, color="gray", linewidth=1)
        ax.axvspan(-CELL / 2, CELL / 2, color="#eef2f6", zorder=0)
        for n, ((_, _, summary), arithmetic) in enumerate(zip(rows, expected, strict=True)):
            if arithmetic is not None:
                ax.plot(arithmetic, n, "D", color="white", markeredgecolor="black", markersize=9)
            mean, error = summary[direction]["mean"], summary[direction]["error"]
            ax.errorbar(mean, n, xerr=2 * error, fmt="o", color="#b40426", capsize=4, markersize=6)
        ax.set(xlim=(-26, 26), xticks=range(-24, 25, 8))
        ax.tick_params(labelsize=TEXT)
        ax.set_xlabel(f"offset {direction} (pixels)", fontsize=TEXT)
    axes[0].set_yticks(range(len(rows)), [f"{name}\n{how}" for name, how, _ in rows], fontsize=TEXT)
    axes[0].invert_yaxis()
    fig.suptitle("Dots: measured, with two standard errors. Diamonds: arithmetic. Shaded: a cell", fontsize=12)
    fig.set_label(
        "Offsets down and right. For ResNet-18 with random weights the dots lie at about -15, for EfficientNet-Lite0 "
        "with random weights at +15 to +18, each close to the diamonds of the arithmetic. With normalisations from "
        "photos they lie at about +9, and for the trained network within a few pixels of zero."
    )
    return fig


def canvases(pictures: np.ndarray, places: np.ndarray) -> Figure:
    """Some gray canvases (N, 224, 224, 3) with a patch each, and a cross where it lies (N, 2)."""
    fig = Figure(figsize=(9, 2.65), layout="constrained", dpi=100)
    for ax, picture, (y, x) in zip(fig.subplots(1, len(pictures)), pictures, places, strict=True):
        ax.imshow(picture, extent=(0, SIDE, SIDE, 0))
        ax.plot(x, y, "+", color="#b40426", markersize=12, markeredgewidth=2)
        ax.set_title(f"y = {y:.0f}, x = {x:.0f}", fontsize=TEXT)
        ax.axis("off")
    fig.set_label(f"{len(pictures)} gray pictures, each with a cut-out at another place, marked by a cross.")
    return fig
