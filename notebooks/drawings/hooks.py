"""Figures of chapter 02 and its deep dive: channels and stages on the photo, a view beside a clone, memory."""

from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from torch import Tensor

import camlib
from camlib.plot import COLORMAP, mappable, overlay

TITLE = 12  # points
OUTPUT = "PuOr_r"  # orange: what a channel gives is no evidence for a class, which the course draws in red
TOP = 6.0  # of a ReLU6
LOW, HIGH = 2, 98  # percentiles of a stage that are drawn black and white


def channels(exp: camlib.Explanation, features: Tensor, count: int = 12) -> Figure:
    """The channels of a feature map (C, h, w) with the largest mean, on what the network saw of the photo."""
    photo = _seen(exp)
    strongest = features.mean((1, 2)).argsort(descending=True)[:count].tolist()
    fig = Figure(figsize=(10.4, 7.6), layout="constrained", dpi=100)
    axes = fig.subplots(3, -(-count // 3), squeeze=False)
    for ax, channel in zip(axes.flat, strongest, strict=False):
        ax.imshow(overlay(photo, _enlarged(features[channel], photo), TOP, cmap=OUTPUT))
        ax.set_title(f"channel {channel}", fontsize=TITLE)
    for ax in axes.flat:
        ax.axis("off")
    _bar(fig, list(axes.flat), TOP, "output of the channel in a cell", OUTPUT)
    fig.set_label(
        f"The {count} channels with the largest mean, as 7 by 7 squares on the gray photo, on one scale from 0 to 6. "
        "Most are orange on some part of the face, such as an eye, the forehead or the nose; the first almost "
        "everywhere."
    )
    return fig


def stages(exp: camlib.Explanation, captured: Mapping[str, Tensor], names: tuple[str, ...]) -> Figure:
    """What the network saw, then the mean of |output| over the channels of five stages, each on a scale of its own."""
    fig = Figure(figsize=(9.8, 6.2), layout="constrained", dpi=100)
    axes = list(fig.subplots(2, 3).flat)
    axes[0].imshow(_seen(exp))
    axes[0].set_title("what the network saw", fontsize=TITLE)
    for ax, name in zip(axes[1:], names, strict=True):
        size = captured[name][0].abs().mean(0)
        low, high = np.percentile(size, [LOW, HIGH])
        ax.imshow(size, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        ax.set_title(f"{name}: {size.shape[0]} × {size.shape[1]} cells", fontsize=TITLE)
    for ax in axes:
        ax.axis("off")
    scale = ScalarMappable(Normalize(LOW, HIGH), "gray")
    bar = fig.colorbar(scale, ax=axes, shrink=0.8, ticks=[LOW, HIGH])
    bar.ax.set_yticklabels([f"{LOW}nd percentile", f"{HIGH}th percentile"], fontsize=TITLE)
    bar.set_label("mean of |output|, each panel on a scale of its own", fontsize=TITLE)
    fig.set_label(
        "The cat, and five stages as grids, high values white: fine outlines of fur and eyes at 112 by 112 cells, then "
        "fewer and larger squares, bright on the eyes and the nose. In the last grid, of 7 by 7 cells, the bright "
        "cells are the left cheek and the row of the nose."
    )
    return fig


def view_or_clone(exp: camlib.Explanation, view: Tensor, clone: Tensor) -> Figure:
    """Two class maps (h, w), above each on a scale of its own, as many programs draw it, below both on one scale."""
    photo, limit = _seen(exp), float(clone.max())
    fig = Figure(figsize=(8, 8), layout="constrained", dpi=100)
    rows = fig.subplots(2, 2)
    for column, (name, cells) in enumerate((("view (as on a CPU)", view), ("clone (as on a GPU)", clone))):
        share = (cells - cells.min()) / (cells.max() - cells.min())
        for ax, values, top, scale in zip(
            rows[:, column], (share, cells), (1.0, limit), ("own scale", "common scale"), strict=True
        ):
            ax.imshow(overlay(photo, _enlarged(values, photo), top))
            ax.set_title(f"{name}, {scale}", fontsize=TITLE)
            ax.axis("off")
        _write_numbers(rows[1, column], cells, photo)
    _bar(fig, list(rows[0]), 1.0, "share of the map's own range", COLORMAP)
    _bar(fig, list(rows[1]), limit, "logit evidence per cell", COLORMAP)
    fig.set_label(
        f"Two maps of tiger cat, drawn twice. Each on a scale of its own, the view is strongest at the left cheek and "
        f"along the nose and mouth, the clone at the forehead, between the eyes and at the left cheek. On one scale, "
        f"the view, with values from {view.min():.0f} to {view.max():.0f}, is pale, and the clone, from "
        f"{clone.min():.0f} to {clone.max():.0f}, is strong in every cell."
    )
    return fig


def memory(kept: Mapping[str, tuple[float, float]]) -> Figure:
    """Megabytes that one stored output keeps in memory, stage → (detached, live), on a logarithmic scale."""
    fig = Figure(figsize=(9.2, 5), layout="constrained", dpi=100)
    ax = fig.subplots()
    rows = range(len(kept))
    alone, live = zip(*kept.values(), strict=True)
    ax.hlines(rows, alone, live, color="0.75", linewidth=2, zorder=1)
    ax.scatter(alone, rows, color="#3b6fb6", marker="o", s=60, label="detached: the output")
    ax.scatter(live, rows, color="#c8553d", marker="D", s=55, label="live: the output and its graph")
    for row, (small, large) in enumerate(kept.values()):
        times = large / small
        ax.text(large * 1.18, row, f"× {times:.{int(times < 10)}f}", va="center", fontsize=TITLE)
    ax.set(xscale="log", xlim=(0.03, 250))
    ax.set_xticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    ax.set_xlabel("megabytes kept in memory (logarithmic scale)", fontsize=TITLE)
    ax.set_yticks(rows, kept, fontsize=TITLE)
    ax.tick_params(axis="x", labelsize=TITLE)
    ax.invert_yaxis()
    ax.legend(loc="upper left", frameon=False, fontsize=TITLE)
    ax.spines[["top", "right"]].set_visible(False)
    fig.set_label(
        "Two points for each of eleven stages. The output alone takes less than two megabytes everywhere, and much "
        "less in the later stages; live, with its graph, it grows from stage to stage to about eighty megabytes."
    )
    return fig


def _seen(exp: camlib.Explanation) -> np.ndarray:
    """The part of the photo that the network saw."""
    left, top, right, bottom = (round(v) for v in exp.results[0].view.box)
    return exp.photo[top:bottom, left:right]


def _enlarged(cells: Tensor, photo: np.ndarray) -> np.ndarray:
    """Each cell as a rectangle of the photo's pixels."""
    whole = torch.nn.functional.interpolate(cells[None, None].float(), photo.shape[:2], mode="nearest")
    return whole[0, 0].numpy()


def _write_numbers(ax, cells: Tensor, photo: np.ndarray) -> None:
    height, width = (side / count for side, count in zip(photo.shape[:2], cells.shape, strict=True))
    for row, values in enumerate(cells.tolist()):
        for column, value in enumerate(values):
            x, y = (column + 0.5) * width - 0.5, (row + 0.5) * height - 0.5
            text = ax.text(x, y, f"{value:.0f}", ha="center", va="center", fontsize=TITLE)
            text.set_path_effects([withStroke(linewidth=2.5, foreground="white", alpha=0.6)])


def _bar(fig, axes: list, limit: float, unit: str, cmap: str) -> None:
    """The upper half of an overlay's scale, from 0 to limit: nothing here is negative."""
    both = mappable(limit, cmap=cmap).get_cmap()
    colours = both(np.linspace(0.5, 1, 256))
    scale = ScalarMappable(Normalize(0, limit), ListedColormap(colours))
    bar = fig.colorbar(scale, ax=axes, shrink=0.9)
    bar.set_label(unit, fontsize=TITLE)
    bar.ax.tick_params(labelsize=TITLE)
