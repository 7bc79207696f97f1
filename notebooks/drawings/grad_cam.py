"""The figures of chapter 08."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

import camlib
from camlib.plot import UNIT, mappable
from camlib.shapes import SHAPES
from drawings.strips import strips

SIZE, WIDTH = 11, 10.5  # of the text, in points, and of a figure, in inches
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#000000")  # one per shape, told apart by all readers
LARGER = 6  # how much larger a generated picture is drawn


def window(exp: camlib.Explanation) -> np.ndarray:
    """The part of the photo that the network saw."""
    left, top, right, bottom = (round(edge) for edge in exp.view.box)
    return exp.photo[top:bottom, left:right]


def picture(image: Tensor) -> np.ndarray:
    """A generated picture (3, 64, 64), 0 to 1, as larger pixels (H, W, 3), 0 to 255."""
    pixels = (image.permute(1, 2, 0) * 255).round().byte().numpy()
    return pixels.repeat(LARGER, 0).repeat(LARGER, 1)


def _panel(ax: Any, shown: np.ndarray, title: str, heat: Tensor | None = None, limit: float | None = None) -> None:
    """A photo, or a map (h, w) over it."""
    if heat is not None:
        shown = camlib.overlay(shown, camlib.upsample(heat.detach(), shown.shape[:2]), limit)
    ax.imshow(shown)
    ax.set_title(title, fontsize=SIZE)
    ax.set_axis_off()


def _bar(fig: Figure, axes: Any, limit: float, unit: str, location: str = "bottom", **options: Any) -> None:
    bar = fig.colorbar(mappable(limit), ax=axes, location=location, **{"pad": 0.03, "aspect": 30} | options)
    bar.set_label(unit, fontsize=SIZE)
    bar.ax.tick_params(labelsize=SIZE)


def _board(fig: Figure, ax: Any, bar: Any, values: Tensor, title: str, **options: Any) -> None:
    """The cells (h, w) of a map, and their colour bar in an axis of its own."""
    drawn = ax.imshow(values.numpy(), **options)
    ax.set_title(title, fontsize=SIZE)
    ax.set_axis_off()
    fig.colorbar(drawn, cax=bar, orientation="horizontal")
    bar.tick_params(labelsize=SIZE)


def same_map(exp: camlib.Explanation, cam: Tensor, scaled: Tensor) -> Figure:
    """What the network saw, the CAM, Grad-CAM times the number of cells, and their difference, on one scale."""
    limit = float(cam.abs().max())
    fig = Figure(figsize=(WIDTH, 3.9), layout="constrained", dpi=100)
    axes = fig.subplots(1, 4)
    heats = (None, cam, scaled, scaled - cam)
    titles = ("what the network saw", "CAM,\nfrom the weights", "49 · Grad-CAM,\nfrom a gradient", "their difference")
    for ax, heat, title in zip(axes, heats, titles, strict=True):
        _panel(ax, window(exp), title, heat, limit)
    _bar(fig, list(axes), limit, UNIT, shrink=0.6)
    fig.set_label(
        "A cup of espresso, its class activation map, 49 times its Grad-CAM, and the difference of the two. The two "
        "maps are the same, red on the coffee; the difference is empty."
    )
    return fig


def one_channel(image: Tensor, channel: Tensor, gradient: Tensor, title: str) -> Figure:
    """A picture, one channel (h, w) of its feature map, the gradient of the logit by it, and the gradient's mean."""
    fig = Figure(figsize=(WIDTH, 3.5), layout="constrained", dpi=100)
    axes = fig.subplots(2, 4, height_ratios=(24, 1))
    _panel(axes[0, 0], picture(image), title)
    axes[1, 0].set_axis_off()
    limit = float(gradient.abs().max())
    signed = {"cmap": "coolwarm", "vmin": -limit, "vmax": limit}
    shown = [
        (channel, {"cmap": "cividis"}, "one channel", "activation"),
        (gradient, signed, "its gradient", "logits per unit"),
        (gradient.mean().expand(gradient.shape), signed, "the mean of its gradient", "logits per unit"),
    ]
    for (ax, bar), (values, options, name, unit) in zip(axes.T[1:], shown, strict=True):
        _board(fig, ax, bar, values, name, **options)
        bar.locator_params(nbins=3)
        bar.set_xlabel(unit, fontsize=SIZE)
    fig.set_label(
        f"A generated picture, {title}; one channel of its feature map, bright at the shape; the gradient of the logit "
        "by this channel, red in some of the 8 by 8 cells and blue in others; and its mean, one pale colour everywhere."
    )
    return fig


def sums(goal: Tensor, reached: Mapping[str, Tensor], named: Tensor) -> Figure:
    """The sum of each map against the logit minus the biases, a dot for each picture, by the class that is named."""
    fig = Figure(figsize=(WIDTH, 4.4), layout="constrained", dpi=100)
    axes = fig.subplots(1, len(reached), sharex=True, sharey=True)
    ends = [float(goal.min()), float(goal.max())]
    for ax, (title, values) in zip(axes, reached.items(), strict=True):
        ax.plot(ends, ends, color="0.6", lw=1)
        for n, (name, colour) in enumerate(zip(SHAPES, COLOURS, strict=True)):
            ax.scatter(goal[named == n], values[named == n], s=12, color=colour, label=name, alpha=0.7, lw=0)
        ax.set_title(f"{title}: off by up to {float((values - goal).abs().max()):.1f}", fontsize=SIZE + 1)
        ax.set_xlabel("logit − biases", fontsize=SIZE)
        ax.tick_params(labelsize=SIZE)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color="0.92")
        ax.set_axisbelow(True)
    axes[0].set_ylabel("sum of the map's cells", fontsize=SIZE)
    axes[-1].legend(frameon=False, fontsize=SIZE, markerscale=2)
    fig.set_label(
        f"The sum of a map's cells against the logit minus the biases, a dot for each of {len(goal)} pictures. "
        "HiResCAM's dots lie on the diagonal, Grad-CAM's scatter away from it, each class by a different amount."
    )
    return fig


def missing(result: Mapping[str, Any]) -> Figure:
    """From evidence/fc_trainings.json: which share of the logit Grad-CAM's cells sum to, by class, in each training."""
    parts = {
        name: [t["sums"][name]["grad_cam"] / t["sums"][name]["goal"] for t in result["trainings"]] for name in SHAPES
    }
    low, high = min(map(min, parts.values())), max(map(max, parts.values()))
    title = "sum of Grad-CAM, as a share of the logit − biases (mean over a class)"
    return strips({title: parts}, lines={title: (1, "HiResCAM")}, limits=(min(0, low - 0.1), max(1.1, high + 0.1)))


def deletion(image: Tensor, falls: Tensor, maps: Mapping[str, Tensor], agrees: Mapping[str, float]) -> Figure:
    """A picture, how far the logit falls when each cell is set to zero, and maps, each as a board on its own scale."""
    fig = Figure(figsize=(WIDTH, 2.9), layout="constrained", dpi=100)
    axes = fig.subplots(2, 2 + len(maps), height_ratios=(20, 1))
    _panel(axes[0, 0], picture(image), "the picture")
    axes[1, 0].set_axis_off()
    titles = ["fall of the logit", *(f"{name}\ncorrelation {agrees[name]:.2f}" for name in maps)]
    for (ax, bar), values, title in zip(axes.T[1:], (falls, *maps.values()), titles, strict=True):
        limit = float(values.abs().max())
        _board(fig, ax, bar, values, title, cmap="coolwarm", vmin=-limit, vmax=limit)
        bar.set_xticks([-limit, 0, limit], [f"{end:.2g}".replace("-", "−") for end in (-limit, 0, limit)])
    listed = ", ".join(f"{name} {agrees[name]:.2f}" for name in maps)
    fig.set_label(
        "A generated picture and boards of 8 by 8 cells, each on a scale of its own: how far the logit falls when a "
        f"cell is set to zero, and maps. Correlation of each map with the falls: {listed}."
    )
    return fig


def probability(exp: camlib.Explanation, logit: Tensor, p: Tensor, contrast: Tensor, rival: str) -> Figure:
    """The map of the logit; of the probability, on the same scale and on its own; and the contrast with a rival."""
    limit = float(logit.abs().max())
    shown = [
        (logit, limit, "target: the logit", "logits per cell"),
        (p, limit, "the probability,\nsame scale", "probability per cell"),
        (p, float(p.abs().max()), "the probability,\nown scale", "probability per cell"),
        (contrast, float(contrast.abs().max()), f"the logit, minus that\nof {rival}", "logits per cell"),
    ]
    fig = Figure(figsize=(WIDTH, 4.0), layout="constrained", dpi=100)
    for ax, (heat, scale, title, unit) in zip(fig.subplots(1, 4), shown, strict=True):
        _panel(ax, window(exp), title, heat, scale)
        _bar(fig, ax, scale, unit, aspect=14)
    fig.set_label(
        "Four maps of tiger cat on the cat's face. Of the logit: red all over the face. Of the probability on the same "
        "scale: nothing to be seen. On its own scale: red at the left eye and the nose, blue at the right eye. The "
        "contrast with Egyptian cat: also red at the nose and blue at the right eye, and blue on the left cheek, too."
    )
    return fig


def layers(photo: np.ndarray, maps: Mapping[str, Mapping[str, Tensor]], edges: Tensor) -> Figure:
    """Rows: layers; columns: methods, each on its own scale. At the left the mosaic, and what an edge filter finds."""
    methods = list(next(iter(maps.values())))
    fig = Figure(figsize=(WIDTH, 2.85 * len(maps) + 0.3), layout="constrained", dpi=100)
    axes = fig.subplots(len(maps), 1 + len(methods))
    _panel(axes[0, 0], photo, "the mosaic")
    axes[1, 0].imshow(edges, cmap="gray", vmax=2)
    axes[1, 0].set_title("an edge filter, no network", fontsize=SIZE)
    axes[1, 0].set_axis_off()
    for row, (layer, found) in zip(axes, maps.items(), strict=True):
        for ax, method in zip(row[1:], methods, strict=True):
            heat = found[method]
            limit = float(heat.abs().flatten().quantile(0.998))
            _panel(ax, photo, f"{method}, {layer}", heat, limit)
    fig.suptitle("espresso, each map on its own scale", fontsize=SIZE + 1)
    fig.set_label(
        "A mosaic of cat, espresso, photographer and rocket, with maps of espresso from two layers. From the early "
        "layer, Grad-CAM is red and blue in all four quarters; LayerCAM and HiResCAM are strongest at the rim of the "
        "cup, with faint speckles elsewhere. From the last layer, Grad-CAM and HiResCAM are red on the cup only, and "
        "LayerCAM is red in all quarters, too. An edge filter shows the outlines of all four photos."
    )
    return fig


def recipe(exp: camlib.Explanation, maps: Mapping[str, Tensor]) -> Figure:
    """Maps over the photo, each on its own scale."""
    fig = Figure(figsize=(WIDTH, 3.5), layout="constrained", dpi=100)
    for ax, (title, heat) in zip(fig.subplots(1, len(maps)), maps.items(), strict=True):
        _panel(ax, window(exp), title, heat, None if heat.isfinite().any() else 1)
    fig.suptitle("giant panda, each map on its own scale", fontsize=SIZE + 1)
    fig.set_label(
        "Four maps of giant panda on a panda. The recipe on the network as trained: red on the animal. The recipe on "
        "the surer network: no colour at all, the photo is pale. The same map with its negative cells: blue on the "
        "animal. The map of the logit: red on the animal."
    )
    return fig
