"""The figures of chapter 13."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor

import camlib
from camlib.plot import UNIT, mappable

SIZE = 11  # points of the smallest text
BLUE, ORANGE, GRAY = "#0072b2", "#d55e00", "0.45"


def _number(value: float, digits: int = 1) -> str:
    return f"{round(float(value), digits) + 0:.{digits}f}".replace("-", "−")


def _sum(exp: camlib.Explanation) -> str:
    """A logit as its two parts, for a title."""
    logit, rest = float(exp.logits.max()), exp.rest()
    sign = "−" if round(rest, 2) < 0 else "+"
    return f"{_number(logit, 2)} = {_number(logit - rest, 2)} {sign} {_number(abs(rest), 2)}"


def _frame(ax: Axes, box: Sequence[int]) -> None:
    left, top, right, bottom = box
    edge = (left - 0.5, top - 0.5)
    ax.add_patch(Rectangle(edge, right - left, bottom - top, fill=False, edgecolor="black", lw=2.5))
    ax.add_patch(Rectangle(edge, right - left, bottom - top, fill=False, edgecolor="white", lw=1))


def _bar(fig: Figure, axes: Any, limit: float, label: str = UNIT) -> None:
    bar = fig.colorbar(mappable(limit), ax=axes, shrink=0.9, aspect=12)
    bar.set_label(label, fontsize=SIZE)
    bar.ax.tick_params(labelsize=SIZE)


def opening(exps: Sequence[camlib.Explanation], boxes: Sequence[Sequence[int]]) -> Figure:
    """Pictures in the upper row, their frozen maps on one scale in the lower one, with the sum of each logit."""
    limit = max(exp.largest([int(exp.logits.argmax())]) for exp in exps)
    fig = Figure(figsize=(10.4, 4.45), layout="constrained", dpi=100)
    axes = fig.subplots(2, len(exps))
    for column, exp, box in zip(axes.T, exps, boxes, strict=True):
        column[0].imshow(exp.photo)
        column[0].set_title(exp.top(1)[0].label, fontsize=SIZE)
        column[1].imshow(exp.overlay(limit=limit))
        column[1].set_title(_sum(exp), fontsize=SIZE)
        _frame(column[1], box)
    for ax in axes.flat:
        ax.set_axis_off()
    _bar(fig, list(axes.flat), limit, "logit evidence per cell")
    fig.set_label(
        "Five generated pictures, each with one shape, two stray lines and a cloudy ground. Below, their maps: red on "
        "the shape, mostly inside the white box around it, and only faint colours elsewhere. Each title splits the "
        "logit into the map's mean and a small rest."
    )
    return fig


def regions(logit: Callable, held: Callable, x: Tensor, weight: Tensor, bias: Tensor) -> Figure:
    """The logit of the three neurons over all photos of two cells, and that of the held network: (N, 2) -> (N,)."""
    side = torch.linspace(-1, 5, 241)
    b, a = torch.meshgrid(side, side, indexing="ij")
    photos = torch.stack([a.flatten(), b.flatten()], 1)
    same = (((photos @ weight.T + bias > 0) == (x @ weight.T + bias > 0)).all(1)).view(a.shape)
    fig = Figure(figsize=(9.6, 4.6), layout="constrained", dpi=100)
    axes = fig.subplots(1, 2, sharey=True)
    levels = np.arange(-18, 25, 3)
    for ax, function, title in zip(axes, (logit, held), ("the network", "its gates held at ●"), strict=True):
        values = function(photos).view(a.shape)
        ax.imshow(np.where(same, 0.87, 1.0), extent=(-1, 5, -1, 5), origin="lower", cmap="gray", vmin=0, vmax=1)
        lines = ax.contour(a, b, values, levels, colors=BLUE, linewidths=1.2, linestyles="solid")
        for text in ax.clabel(lines, levels[::2], fontsize=SIZE, fmt=lambda v: _number(v, 0)):
            text.set(path_effects=[withStroke(linewidth=3, foreground="white")], zorder=3)  # above the dashed lines
        ax.plot(*x, "o", ms=9, color=ORANGE, mec="black")
        for (p, q), r in zip(weight.tolist(), bias.tolist(), strict=True):
            ax.plot(side, -(p * side + r) / q, "--", color="black", lw=1)
        ax.set(xlim=(-1, 5), ylim=(-1, 5), aspect="equal")
        ax.set_title(title, fontsize=SIZE + 1)
        ax.set_xlabel("cell 1", fontsize=SIZE)
        ax.tick_params(labelsize=SIZE)
    axes[0].set_ylabel("cell 2", fontsize=SIZE)
    fig.set_label(
        "Contour lines of the logit over the two cells. Left, the network: straight lines that bend wherever they "
        "cross one of three dashed lines, where a neuron switches. Right, the gates held: the same parallel lines "
        "everywhere. In the gray region around the photo, both panels are equal."
    )
    return fig


def lines(x: float = -1.0) -> Figure:
    """ReLU and GELU with the line that remains when they are held at a few inputs."""
    t = torch.linspace(-3, 3, 301)
    fig = Figure(figsize=(9.6, 3.6), layout="constrained", dpi=100)
    axes = fig.subplots(1, 2, sharey=True)
    for ax, name, f in zip(axes, ("ReLU", "GELU"), (torch.relu, torch.nn.functional.gelu), strict=True):
        ax.plot(t, f(t), color="black", lw=2)
        for at, colour in ((1.0, ORANGE), (x, BLUE)):
            here = torch.tensor(at)
            gate = float(f(here) / here)
            ax.plot(t, gate * t, "--", color=colour, lw=1.5)
            ax.plot(at, f(here), "o", ms=9, color=colour)
            ax.text(*((0.1, 1.7) if at > 0 else (-2.8, 0.3)), f"gate {_number(gate, 2)}", fontsize=SIZE, color=colour)
        ax.set(xlim=(-3, 3), ylim=(-1, 3), xticks=range(-3, 4))
        ax.set_title(f"{name}, held at 1 and at {_number(x, 0)}", fontsize=SIZE + 1)
        ax.tick_params(labelsize=SIZE)
        ax.axhline(0, color=GRAY, lw=0.5)
    fig.set_label(
        "ReLU and GELU as curves, each with two dashed lines through the origin that meet the curve at the inputs 1 "
        "and -1. The slope of a line is the gate: 1 and 0 for ReLU; 0.84 and 0.16 for GELU."
    )
    return fig


def choices(trainings: Sequence[dict[str, Any]]) -> Figure:
    """A dot for each training and choice of gates: the share of the logit on the map, what is missing, pointing."""
    names = [name for name in trainings[0] if name != "accuracy"]
    fig = Figure(figsize=(10.4, 4.2), layout="constrained", dpi=100)
    axes = fig.subplots(1, 3, sharey=True)
    panels = {
        "share": "mean of the map / logit",
        "miss": "|map + rest − logit| / logit",
        "pointing": "points into the box",
    }
    for ax, (measure, title) in zip(axes, panels.items(), strict=True):
        for row, name in enumerate(names):
            colour = ORANGE if name.count("+") == 2 else BLUE if "LayerNorm" in name else GRAY
            ax.plot([t[name][measure] for t in trainings], [row] * len(trainings), "o", ms=7, alpha=0.5, color=colour)
        ax.axvline(0, color="black", lw=0.8)
        ax.set_title(title, fontsize=SIZE)
        ax.tick_params(labelsize=SIZE)
        ax.grid(axis="y", color="0.9")
        ax.set_axisbelow(True)
    axes[0].axvline(1, color="black", lw=0.8, ls="--")
    axes[2].set(xlim=(-0.05, 1.05), xticks=(0, 0.5, 1))
    axes[0].set_yticks(range(len(names)), ["all three" if n.count("+") == 2 else n for n in names])
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    fig.set_label(
        f"Eight choices of what is held, {len(trainings)} dots each. Without LayerNorm, the maps sum to nothing and "
        "point into 0.5 to 0.8 of the boxes. With LayerNorm they sum to 0.9 to 1.4 of the logit and point better. Only "
        "with all three is nothing missing between map plus rest and the logit."
    )
    return fig


def panels(exps: Sequence[camlib.Explanation], name: str) -> Figure:
    """The maps of one class at several layers, each on its own scale, with the sum of the logit."""
    fig = Figure(figsize=(10.8, 3.9), layout="constrained", dpi=100)
    axes = fig.subplots(1, len(exps))
    left, top, right, bottom = (round(edge) for edge in exps[0].view.box)
    for ax, exp in zip(axes, exps, strict=True):
        ax.imshow(exp.overlay(name)[top:bottom, left:right])
        ax.set_axis_off()
        ax.set_title(f"{exp.layer}\n{_sum(exp)}", fontsize=SIZE)
        bar = fig.colorbar(mappable(exp.largest([name])), ax=ax, orientation="horizontal", shrink=0.9, pad=0.03)
        bar.ax.tick_params(labelsize=SIZE)
        bar.ax.locator_params(nbins=3)
        bar.set_label("logit evidence, own scale", fontsize=SIZE)
    fig.set_label(
        f"One photo with the maps of {name} at {len(exps)} layers, from fine speckles at an early one to red nearly "
        "everywhere at the last two. All are about equally colourful. The titles show that the mean of the map is "
        "very different from the logit, except at the last layer."
    )
    return fig


def shuffled(exp: camlib.Explanation, cells: Tensor) -> Figure:
    """A map, and another one of the same mean, on one scale."""
    limit = exp.largest([int(exp.logits.argmax())])
    fig = Figure(figsize=(7.4, 3.1), layout="constrained", dpi=100)
    axes = fig.subplots(1, 3)
    heats = (None, exp.map(int(exp.logits.argmax())), cells)
    for ax, heat, title in zip(axes, heats, ("picture", "its map", "the same cells, shuffled"), strict=True):
        size = exp.photo.shape[:2]
        ax.imshow(exp.photo if heat is None else camlib.overlay(exp.photo, camlib.upsample(heat, size), limit))
        ax.set_title(title, fontsize=SIZE)
        ax.set_axis_off()
    _bar(fig, list(axes), limit, "logit evidence per cell")
    fig.set_label(
        "A picture with its map, red on the shape, and the same cells in another order: red spots away from the shape."
    )
    return fig


def depth(runs: dict[str, Any], blob: float) -> Figure:
    """Pointing and the share of the logit on the map, at each layer of the trainings of one design."""
    rows = list(runs.values())
    layers = list(rows[0]["layers"])
    fig = Figure(figsize=(10.4, 3.6), layout="constrained", dpi=100)
    axes = fig.subplots(1, 2)
    titles = {"pointing": "points into the box", "share": "mean of the map / logit"}
    for ax, (measure, title) in zip(axes, titles.items(), strict=True):
        for n, layer in enumerate(layers):
            ax.plot([n] * len(rows), [row["layers"][layer][measure] for row in rows], "o", ms=8, alpha=0.5, color=BLUE)
        ax.set_xticks(range(len(layers)), [name.replace("blocks.", "block ") for name in layers], rotation=25)
        ax.set(xlim=(-0.6, len(layers) - 0.4), ylim=(-0.05, 1.25))
        ax.set_title(title, fontsize=SIZE + 1)
        ax.tick_params(labelsize=SIZE)
    axes[0].axhline(blob, color=ORANGE, ls="--")
    axes[0].text(-0.4, blob + 0.03, "a blob in the middle", color=ORANGE, fontsize=SIZE)
    axes[1].axhline(1, color="black", lw=0.8, ls="--")
    fig.set_label(
        f"{len(layers)} layers from the input to the output, a dot for each of {len(rows)} trainings. Left: the maps "
        "point into 0.8 to 1.0 of the boxes up to the first block, and into hardly any at the last two layers, far "
        "below a blob in the middle. Right: the share of the logit on the map is close to one from the stem on."
    )
    return fig
