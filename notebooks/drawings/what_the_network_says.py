"""Figures of chapter 01: what goes into the network, what comes out, and what the crop cut off."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch
from PIL import Image

import camlib
from camlib.plot import mappable

BAR, HILL, QUIET = "#3b6ea8", "#9db7d3", "#6b6b6b"
LINES = (("#0072B2", "-"), ("#D55E00", "--"), ("#009E73", "-."), ("#A0508A", ":"))
SIZE = 11


def answers(*explanations: camlib.Explanation) -> Figure:
    """For each: the photo, pale where the network gets nothing of it, and its five most probable classes."""
    fig = Figure(figsize=(9, 2.8 * len(explanations)), dpi=100, layout="constrained")
    panels = fig.subplots(len(explanations), 2, width_ratios=(1, 1.7), squeeze=False)
    for (left_panel, ax), exp in zip(panels, explanations, strict=True):
        left, top, right, bottom = (round(edge) for edge in exp.view.box)
        given = exp.photo // 3 + 170
        given[top:bottom, left:right] = exp.photo[top:bottom, left:right]
        _picture(left_panel, given, "the network's square" if exp.view.offset != (0, 0) else "the whole photo")
        best = exp.top(5)[::-1]
        bars = ax.barh([p.label for p in best], [100 * p.probability for p in best], color=BAR)
        ax.bar_label(bars, fmt="%.0f %%", padding=3, fontsize=SIZE)
        ax.tick_params(labelsize=SIZE)
        ax.set_xlim(0, 75)
        ax.set_xlabel("probability in %", fontsize=SIZE)
        ax.spines[["top", "right"]].set_visible(False)
    fig.set_label(
        "Above, a navy officer's portrait, pale outside the network's square, which cuts off the top of her white cap; "
        "the bars of academic gown, mortarboard and military uniform are of similar length. Below, the whole "
        "portrait; one long bar: military uniform."
    )
    return fig


def steps(photo: np.ndarray, view: camlib.View, x: torch.Tensor) -> Figure:
    """A photo, resized and cropped, with pixels of one size; then the three channels of the input x (1, 3, h, w)."""
    (high, wide), (top, left), (h, w) = view.resized, view.offset, view.size
    small = np.asarray(Image.fromarray(photo).resize((wide, high), Image.Resampling.BICUBIC))
    pictures = {"photo": photo, "resized": small, "cropped": small[top : top + h, left : left + w]}
    inch = 230  # pixels of the photo
    widths = [p.shape[1] / inch for p in pictures.values()] + [w / inch] * 3
    gap, bottom, right = 0.3, 0.15, 1.1
    size = (sum(widths) + gap * 6 + right, photo.shape[0] / inch + 0.75)
    fig = Figure(figsize=size, dpi=100)
    place = gap

    def panel(width: float, height: float, title: str) -> Axes:
        nonlocal place
        ax = fig.add_axes((place / size[0], bottom / size[1], width / size[0], height / size[1]))
        ax.set_title(title, fontsize=SIZE)
        ax.axis("off")
        place += width + gap
        return ax

    for name, picture in pictures.items():
        rows, columns = picture.shape[:2]
        panel(columns / inch, rows / inch, f"{name}\n{columns} × {rows}").imshow(picture)
    for channel, name in zip(x[0], ("red", "green", "blue"), strict=True):
        drawn = panel(w / inch, h / inch, f"input:\n{name}").imshow(channel, cmap="gray", vmin=-1, vmax=1)
    bar = fig.add_axes((place / size[0], bottom / size[1], 0.12 / size[0], h / inch / size[1]))
    fig.colorbar(drawn, cax=bar, ticks=(-1, 0, 1)).set_label("input value", fontsize=SIZE)
    bar.tick_params(labelsize=SIZE)
    fig.set_label(
        "A portrait; the same at half the size; the square cut out of its middle; then the square's red, green and "
        "blue channels, each a gray picture on a scale from -1 to 1. The blue background is dark in the red channel "
        "and bright in the blue one."
    )
    return fig


def histogram(logits: torch.Tensor, best: Sequence[camlib.explanation.Prediction]) -> Figure:
    """All logits, and the names of a few."""
    fig = Figure(figsize=(9, 3.2), dpi=100, layout="constrained")
    ax = fig.subplots()
    ax.hist(logits.numpy(), bins=60, color=HILL)
    for height, p in zip((56, 40, 24), best, strict=True):
        line = {"arrowstyle": "-", "color": QUIET, "relpos": (1, 0.5)}
        start = (p.logit - 0.5, height)
        ax.annotate(p.label, (p.logit, 2), start, ha="right", va="center", fontsize=SIZE, arrowprops=line)
    ax.axvline(0, color=QUIET, lw=1)
    ax.set_xlim(-4, 8.2)
    ax.set_xlabel("logit", fontsize=SIZE)
    ax.set_ylabel("classes", fontsize=SIZE)
    ax.tick_params(labelsize=SIZE)
    ax.spines[["top", "right"]].set_visible(False)
    fig.set_label(
        "Histogram of the 1000 logits: a hill around zero, a thin tail to the right, and at its end, close together, "
        + ", ".join(p.label for p in best[::-1])
        + "."
    )
    return fig


def maps(explanations: Mapping[str, camlib.Explanation], photo: np.ndarray, view: camlib.View) -> Figure:
    """For each input made of one photo: the map of its own best class on the photo, all on one scale."""
    heats = {name: camlib.place(exp.map(exp.top(1)[0].index), view) for name, exp in explanations.items()}
    limit = max(float(heat.abs().nan_to_num().max()) for heat in heats.values())
    fig = Figure(figsize=(9, 4.6), dpi=100, layout="constrained")
    panels = fig.subplots(2, -(-len(heats) // 2))
    for ax, (name, heat) in zip(panels.flat, heats.items(), strict=True):
        _picture(ax, camlib.overlay(photo, heat, limit), f"{name}: {explanations[name].top(1)[0]}")
    fig.colorbar(mappable(limit), ax=list(panels.flat), shrink=0.8).set_label("logit evidence per cell", fontsize=SIZE)
    says = "; ".join(f"{name}: {exp.top(1)[0].label}" for name, exp in explanations.items())
    fig.set_label(
        f"Heat maps of one photo on one scale, each for its own best class. {says}. With the right input, with 0 to 1 "
        "and with BGR the red lies on the animal; with reshape a faint red lies beside it."
    )
    return fig


def sliding(
    curves: torch.Tensor, tops: Sequence[int], labels: Sequence[str], windows: Mapping[int, torch.Tensor], recipe: int
) -> Figure:
    """Probabilities (n, K) of windows at n places, with the windows at some of them; four classes are drawn.

    windows: by place, inputs (1, 3, h, w); each is linked to its place.
    """
    fig = Figure(figsize=(9, 6.2), dpi=100)
    ax = fig.add_axes((0.08, 0.1, 0.9, 0.46))
    names = ("military uniform", "academic gown", "mortarboard", "Windsor tie")
    places = ((25, 47), (61.5, 30), (56, 44), (70.5, 24.5))
    for name, (colour, dash), (x, y) in zip(names, LINES, places, strict=True):
        ax.plot(tops, 100 * curves[:, labels.index(name)], color=colour, linestyle=dash, lw=2.2)
        ax.text(x, y, name, color=colour, fontsize=SIZE, ha="center")
    ax.axvline(recipe, color=QUIET, lw=1)
    ax.text(recipe + 0.6, 57, "recipe", color=QUIET, fontsize=SIZE, va="center")
    ax.set(xlim=(0, tops[-1]), ylim=(0, 60))
    ax.set_xlabel("first row of the window, in pixels of the resized photo", fontsize=SIZE)
    ax.set_ylabel("probability in %", fontsize=SIZE)
    ax.tick_params(labelsize=SIZE)
    ax.spines[["top", "right"]].set_visible(False)
    for column, (top, window) in enumerate(windows.items()):
        panel = fig.add_axes((0.08 + 0.235 * column, 0.65, 0.19, 0.276))
        _picture(panel, _as_picture(window), f"{top}: {labels[int(curves[top].argmax())]}")
        link = ConnectionPatch((0.5, 0), (top, 60), "axes fraction", "data", axesA=panel, axesB=ax, color=QUIET, lw=1)
        fig.add_artist(link)
        ax.plot([top, top], [0, 60], color=QUIET, lw=0.6, linestyle=(0, (1, 4)))
    fig.set_label(
        "Four windows on the portrait, from its top to its bottom, with their answers: "
        + ", ".join(labels[int(curves[top].argmax())] for top in windows)
        + ". Below, the probabilities of four classes against the place of the window: first military uniform leads, "
        "then mortarboard and academic gown, last Windsor tie. The recipe's window lies where three curves cross."
    )
    return fig


def cap(inputs: Mapping[str, torch.Tensor], leads: Mapping[str, float], tries: Mapping[str, Sequence[float]]) -> Figure:
    """A row for each input (1, 3, h, w): the input, and its lead; small dots for other tries of the same kind."""
    n = len(inputs)
    fig = Figure(figsize=(9, 1.3 * n + 0.6), dpi=100)
    bottom, step = 0.55 / (1.3 * n + 0.6), 1.3 / (1.3 * n + 0.6)
    ax = fig.add_axes((0.42, bottom, 0.55, n * step))
    spread, rows = np.random.default_rng(0), max(x.shape[2] for x in inputs.values())
    for row, (name, x) in enumerate(inputs.items()):
        y = n - row - 0.5
        high = 0.94 * step * x.shape[2] / rows  # one size of pixel for all
        panel = fig.add_axes((0.02, bottom + y * step - high / 2, 0.13, high))
        _picture(panel, _as_picture(x), "", anchor="C")
        fig.text(0.17, bottom + y * step, name, fontsize=SIZE, va="center")
        others, middle = tries.get(name, ()), y - 0.08
        jitter = spread.uniform(-0.25, 0.25, len(others))
        ax.plot(others, middle + jitter, "o", color=HILL, ms=4, mec="white", mew=0.3)
        ax.plot(leads[name], middle, "D", color="black", ms=8)
        ax.text(leads[name], y + 0.19, f"{leads[name]:.2f}".replace("-", "−"), fontsize=SIZE, ha="center", va="bottom")
        if name in tries and leads[name] < 0:
            ax.text(
                2.75, middle, "dots: other paints\nand other boxes", fontsize=SIZE, ha="right", va="center", color=QUIET
            )
        ax.axhline(y - 0.5, color="#dddddd", lw=0.8)
    ax.axvline(0, color=QUIET, lw=1)
    ax.set(ylim=(0, n), xlim=(-2.6, 2.8), yticks=())
    ax.text(-0.1, 0.08, "← gown leads", fontsize=SIZE, ha="right", color=QUIET)
    ax.text(0.1, 0.08, "uniform leads →", fontsize=SIZE, ha="left", color=QUIET)
    ax.set_xlabel("lead: logit of military uniform − logit of academic gown", fontsize=SIZE)
    ax.tick_params(labelsize=SIZE)
    ax.spines[["top", "right", "left"]].set_visible(False)
    fig.set_label(
        "The lead of military uniform over academic gown for five inputs: "
        + "; ".join(f"{name} {leads[name]:.2f}" for name in inputs)
        + ". Dots, for other paints and boxes, stay near 2 where the top of the cap is there, "
        "and between -2 and 0.2 where it is painted out."
    )
    return fig


def _picture(ax: Axes, picture: Any, title: str, anchor: str = "N") -> None:
    ax.imshow(picture)
    ax.set_title(title, fontsize=SIZE)
    ax.set_anchor(anchor)
    ax.axis("off")


def _as_picture(x: torch.Tensor) -> np.ndarray:
    """An input (1, 3, h, w) from -1 to 1 as a picture (h, w, 3)."""
    return ((x[0].permute(1, 2, 0) + 1) / 2).clamp(0, 1).numpy()
