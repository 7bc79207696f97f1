"""The figures of chapter 10 and of its deep dive."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

import camlib
from camlib import shapes
from camlib.plot import UNIT, mappable

SIZE = 11  # points of the smallest text
RED, BLUE, GRAY = "#b2182b", "#2166ac", "0.45"
NETWORKS = {"lite0": "o", "lite1": "s", "lite2": "^"}  # a mark for each
RANKS = ScalarMappable(Normalize(0, 1), "viridis")


def _panel(ax: Any, picture: np.ndarray, title: str = "") -> None:
    ax.imshow(picture)
    ax.set_title(title, fontsize=SIZE)
    ax.set_xticks([])
    ax.set_yticks([])


def _bar(fig: Figure, limit: float, axes: Any, label: str = UNIT, shrink: float = 0.7) -> None:
    bar = fig.colorbar(mappable(limit), ax=axes, shrink=shrink, pad=0.02)
    bar.set_label(label, fontsize=SIZE)
    bar.ax.tick_params(labelsize=SIZE)


def _plain(ax: Any, title: str = "", xlabel: str = "") -> None:
    ax.set_title(title, fontsize=SIZE + 1)
    ax.set_xlabel(xlabel, fontsize=SIZE)
    ax.tick_params(labelsize=SIZE)
    ax.grid(axis="x", color="0.9")
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def _window(exp: camlib.Explanation, picture: np.ndarray) -> np.ndarray:
    """The part of a picture that the network saw."""
    left, top, right, bottom = (round(edge) for edge in exp.view.box)
    return picture[top:bottom, left:right]


def both_pass(exp: camlib.Explanation, maps: Mapping[str, Tensor]) -> Figure:
    """What the network saw, and maps of one logit on one scale."""
    limit = max(float(m.abs().max()) for m in maps.values())
    fig = Figure(figsize=(8.6, 3.2), layout="constrained", dpi=100)
    axes = fig.subplots(1, 1 + len(maps))
    _panel(axes[0], _window(exp, exp.photo), "what the network saw")
    for ax, (name, m) in zip(axes[1:], maps.items(), strict=True):
        _panel(ax, _window(exp, camlib.overlay(exp.photo, camlib.place(m, exp.view), limit)), name)
    _bar(fig, limit, list(axes))
    fig.set_label(
        "A cup of coffee, and two maps on it on one scale. The class activation map is red on the coffee and gray "
        "elsewhere. The uniform map is the same pale red everywhere."
    )
    return fig


def covering(x: Tensor, cam: Tensor, falls: Mapping[int, Tensor]) -> Figure:
    """One covered input, and for each size of the patch a dot per cell: the map's value and the fall of the logit."""
    size = max(falls)
    fig = Figure(figsize=(10.5, 3.6), layout="constrained", dpi=100)
    axes = fig.subplots(1, 1 + len(falls))
    picture = ((x[0] * 0.5 + 0.5).clamp(0, 1).permute(1, 2, 0)).numpy().copy()
    row, column = divmod(int(cam.argmax()), cam.shape[1])
    cell = x.shape[-1] / cam.shape[-1]
    top, left = (max(0, round((n + 0.5) * cell) - size // 2) for n in (row, column))
    picture[top : top + size, left : left + size] = 0.5
    _panel(axes[0], picture, f"the strongest cell,\n{size} pixels covered")
    for ax, (pixels, fall) in zip(axes[1:], falls.items(), strict=True):
        r = float(torch.corrcoef(torch.stack([cam.flatten(), fall.flatten()]))[0, 1])
        ax.scatter(cam.flatten(), fall.flatten(), s=22, color=GRAY, alpha=0.7, lw=0)
        ax.axhline(0, color="black", lw=0.8)
        _plain(ax, f"{pixels} pixels: correlation {r:.2f}", "value of the map's cell")
    axes[1].set_ylabel("fall of the logit", fontsize=SIZE)
    fig.set_label(
        f"The photo with a gray patch of {size} pixels over the strongest cell. For each size, 49 dots: the larger the "
        "patch, the better the map's cells predict how far the logit falls, with much scatter."
    )
    return fig


COVERED = {"cam": "the map", "centre": "a blob in the middle", "activity": "sum of all channels"}


def predicted(result: Mapping[str, Any]) -> Figure:
    """From evidence/cover_patches.json: how well maps predict the falls, a dot for each photo and network."""
    settings = [(size, fill) for size in (32, 64, 96) for fill in ("gray", "blur")]
    fig = Figure(figsize=(10.5, 3.7), layout="constrained", dpi=100)
    axes = fig.subplots(1, len(COVERED), sharey=True)
    words = []
    for ax, (key, title) in zip(axes, COVERED.items(), strict=True):
        for level, (size, fill) in enumerate(settings):
            every = []
            for n, (name, mark) in enumerate(NETWORKS.items()):
                values = [r[key] for r in result["rows"][name] if (r["size"], r["fill"]) == (size, fill)]
                ax.scatter(
                    values, [level + 0.22 * (n - 1)] * len(values), marker=mark, s=22, color=GRAY, alpha=0.6, lw=0
                )
                every += values
            ax.plot([np.median(every)] * 2, [level - 0.38, level + 0.38], color=RED, lw=2.5)
            words.append(f"{title}, {size} pixels {fill} {np.median(every):.2f}")
        ax.axvline(0, color="black", lw=0.8)
        ax.set_xlim(-1, 1)
        _plain(ax, title)
    axes[0].set_yticks(range(len(settings)), [f"{size} pixels, {fill}" for size, fill in settings])
    axes[0].invert_yaxis()
    axes[1].set_xlabel("correlation over the cells with the fall of the logit (red: median)", fontsize=SIZE)
    _legend(fig, axes[0], list(NETWORKS))
    fig.set_label(
        "Dots for twelve photos in three networks: correlations scatter from below zero to 0.9. Medians: "
        + "; ".join(words).replace("-0", "−0")
        + "."
    )
    return fig


def _legend(fig: Figure, ax: Any, names: Sequence[str]) -> None:
    """Which mark is which network."""
    for name in names:
        ax.scatter([], [], marker=NETWORKS[name], color=GRAY, label=name.capitalize())
    fig.legend(loc="outside right center", fontsize=SIZE, frameon=False)


def unprepared(x: Tensor) -> np.ndarray:
    """What the network saw, as a picture: the input (1, 3, H, W) with its normalisation undone."""
    return ((x[0] * 0.5 + 0.5) * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()


def ranked(
    inputs: Sequence[Tensor],
    trained: Mapping[str, Sequence[Tensor]],
    broken: Mapping[str, Sequence[Tensor]],
    names: Sequence[str],
) -> Figure:
    """A row for each input: what the network saw, then each method's map of both networks as ranks of the cells."""
    fig = Figure(figsize=(9.6, 2 * len(inputs) + 0.5), layout="constrained", dpi=100)
    axes = fig.subplots(len(inputs), 1 + 2 * len(trained), squeeze=False)
    for n, (line, x, name) in enumerate(zip(axes, inputs, names, strict=True)):
        _panel(line[0], unprepared(x), name)
        pairs = [(title, maps[n]) for m in trained for title, maps in ((m, trained[m]), ("… destroyed", broken[m]))]
        for ax, (title, m) in zip(line[1:], pairs, strict=True):
            ax.imshow(m.flatten().argsort().argsort().view(m.shape) / (m.numel() - 1), cmap=RANKS.cmap, norm=RANKS.norm)
            ax.set_title(title.replace(", ", ",\n") if n == 0 else "", fontsize=SIZE)
            ax.set_xticks([])
            ax.set_yticks([])
    bar = fig.colorbar(RANKS, ax=axes, shrink=0.7, pad=0.02, ticks=[0, 1])
    bar.ax.set_yticklabels(["lowest", "highest"], fontsize=SIZE)
    bar.set_label("rank of the cell", fontsize=SIZE)
    fig.set_label(
        "Photos, and maps as ranks of their cells. The coarse CAM is bright on the object; with the classifier "
        "destroyed, its pattern is another. The fine LayerCAM of an early layer outlines the object, nearly as well "
        "with the classifier destroyed."
    )
    return fig


METHODS = {
    "CAM": "CAM",
    "HiResCAM, early layer": "HiResCAM, early",
    "LayerCAM, last layer": "LayerCAM, last",
    "activity, last layer": "activity, last",
    "LayerCAM, early layer": "LayerCAM, early",
    "edge filter": "edge filter",
    "noise": "noise",
}


def _stored(network: Mapping[str, Any], key: str, method: str) -> Any:
    """CAM is stored as HiResCAM of the last layer, which it is up to a factor."""
    return network[key]["HiResCAM, last layer" if method == "CAM" else method]


ALL = {
    f"{method}, {layer} layer": f"{method}, {layer}"
    for layer in ("last", "middle", "early")
    for method in ("LayerCAM", "HiResCAM", "Grad-CAM", "activity")
    if (method, layer) not in (("HiResCAM", "last"), ("Grad-CAM", "last"))
}


def two_tests(networks: Mapping[str, Any], methods: Mapping[str, str] = METHODS) -> Figure:
    """From evidence/randomisation.json: how much each map keeps of itself, and how well it predicts a deletion."""
    fig = Figure(figsize=(10.5, 0.9 + 0.5 * len(methods)), layout="constrained", dpi=100)
    axes = fig.subplots(1, 2, sharey=True)
    titles = (
        "classifier destroyed: correlation\nwith the map before (ranks)",
        "one cell deleted: correlation\nwith the fall",
    )
    words = []
    for level, (method, label) in enumerate(methods.items()):
        for ax, key in zip(axes, ("kept", "predicts"), strict=True):
            every = []
            for name, network in networks.items():
                if method not in network[key] and method != "CAM":
                    continue  # measured in one network only
                values = _stored(network, key, method)
                values = values["classifier"] if key == "kept" else values
                heights = [level + 0.22 * (list(NETWORKS).index(name) - 1)] * len(values)
                ax.scatter(values, heights, marker=NETWORKS[name], s=18, color=GRAY, alpha=0.3, lw=0)
                every += values
            ax.plot([np.mean(every)] * 2, [level - 0.38, level + 0.38], color=RED, lw=2.5)
            words.append(f"{label} {np.mean(every):.2f}")
    for ax, title in zip(axes, titles, strict=True):
        ax.axvline(0, color="black", lw=0.8)
        ax.set_xlim(-1.05, 1.05)
        ax.set_xticks([-1, -0.5, 0, 0.5, 1])
        _plain(ax, title)
    axes[0].set_yticks(range(len(methods)), list(methods.values()))
    axes[0].invert_yaxis()
    fig.supxlabel("a dot for each photo and network (left: and shuffle); red: mean", fontsize=SIZE)
    if len(networks) > 1:
        _legend(fig, axes[0], list(networks))
    fig.set_label(
        f"Left, means: {', '.join(words[::2])}. Right: {', '.join(words[1::2])}.".replace("-0", "−0")
        + " Single dots of CAM scatter from −0.9 to 1.0 on the left."
    )
    return fig


def candidates(picture: np.ndarray, maps: Mapping[str, Tensor]) -> Figure:
    """Wrong by intention: overlays that are each stretched to their own strongest cells."""
    fig = Figure(figsize=(8.4, 3.1), layout="constrained", dpi=100)
    for ax, (letter, m) in zip(fig.subplots(1, len(maps)), maps.items(), strict=True):
        heat = camlib.upsample(m / m.flatten().quantile(0.98), picture.shape[:2])
        _panel(ax, camlib.overlay(picture, heat, limit=1), letter)
    fig.set_label(
        "Wrong by intention: three overlays on the photographer with his tripod, each stretched to its own strongest "
        "cells. All three trace the camera and the legs of the tripod in red; none looks like a broken network's."
    )
    return fig


def as_picture(image: Tensor) -> np.ndarray:
    return (image.permute(1, 2, 0) * 255).round().byte().numpy()


def _frame(ax: Any, box: Sequence[int]) -> None:
    left, top, right, bottom = box
    corner, size = (left - 0.5, top - 0.5), (right - left, bottom - top)
    ax.add_patch(Rectangle(corner, *size, fill=False, edgecolor="white", lw=1.5))


def one_of_each(data: shapes.Pictures) -> list[int]:
    """The number of one picture of each shape."""
    return [int((data.labels == k).nonzero()[1]) for k in range(len(shapes.SHAPES))]


def on_pictures(rows: Mapping[str, tuple[shapes.Pictures, Tensor]], alt: str) -> Figure:
    """Two lines for each network: a picture of each shape, and the map of its best class on it, on one scale."""
    five = one_of_each(next(iter(rows.values()))[0])
    fig = Figure(figsize=(7.6, 2.8 * len(rows) + 0.2), layout="constrained", dpi=100)
    axes = fig.subplots(2 * len(rows), len(five), squeeze=False)
    for n, (name, (data, maps)) in enumerate(rows.items()):
        limit = float(maps[five].abs().max())
        above, below = axes[2 * n], axes[2 * n + 1]
        for ax, low, number in zip(above, below, five, strict=True):
            picture = as_picture(data.images[number])
            _panel(ax, picture, shapes.SHAPES[data.labels[number]] if n == 0 else "")
            heat = camlib.upsample(maps[number], picture.shape[:2])
            _panel(low, camlib.overlay(picture, heat, limit))
            _frame(low, data.boxes[number].tolist())
        above[0].set_ylabel(name, fontsize=SIZE)
        below[0].set_ylabel("map", fontsize=SIZE)
        _bar(fig, limit, list(above) + list(below), UNIT, 0.8)
    fig.set_label(alt)
    return fig


def strips(
    panels: Mapping[str, Mapping[str, Sequence[float]]], xlabel: str = "a dot for each of ten trainings"
) -> Figure:
    """A panel for each title, a row of dots for each label, from 0 (or the lowest dot) to 1."""
    most = max(len(rows) for rows in panels.values())
    fig = Figure(figsize=(10.5, 1.2 + 0.42 * most), layout="constrained", dpi=100)
    axes = np.atleast_1d(fig.subplots(1, len(panels), sharey=len({tuple(rows) for rows in panels.values()}) == 1))
    lowest = min(min(values) for rows in panels.values() for values in rows.values())
    for ax, (title, rows) in zip(axes, panels.items(), strict=True):
        for level, values in enumerate(rows.values()):
            spread = 0.18 * np.tile([-1, 0, 1], len(values))[: len(values)]
            ax.scatter(values, level + spread, s=30, color=GRAY, alpha=0.65, lw=0)
        ax.set_yticks(range(len(rows)), list(rows))
        ax.set_ylim(most - 0.5, -0.5)
        ax.set_xlim(min(0, lowest) - 0.03, 1.03)
        _plain(ax, title)
    fig.supxlabel(xlabel, fontsize=SIZE)
    fig.set_label(" ".join(_in_words(title, rows) for title, rows in panels.items()))
    return fig


def _in_words(title: str, rows: Mapping[str, Sequence[float]]) -> str:
    ranges = ", ".join(f"{label} {min(values):.2f} to {max(values):.2f}" for label, values in rows.items())
    return f"{' '.join(title.split())}: {ranges}."


def well_placed(result: Mapping[str, Any]) -> Figure:
    """From evidence/shortcuts.json: how often the strongest point of a map lies on the shape."""
    maps = [row["maps"] for row in result["trainings"]]
    rows = {
        "CAM": [v for m in maps for v in m["cam"]],
        "sum of all channels": [m["activity"] for m in maps],
        "CAM of four wrong classes": [v for m in maps for v in m["wrong_class"]],
        "LayerCAM, five destroyed classifiers": [v for m in maps for v in m["ruined_layercam"]],
        "CAM, five destroyed classifiers": [v for m in maps for v in m["ruined_cam"]],
    }
    label = "share of 500 test pictures; dots for each of ten trainings"
    return strips({"the map's strongest point lies on the shape": rows}, label)


def corner_strips(result: Mapping[str, Any]) -> Figure:
    """From evidence/shortcuts.json: where the maps peak, by two definitions of the corner."""
    names = {"honest": "honest network", "corner": "cheat", "fixed": "cheat, repaired"}
    trainings = result["trainings"]
    titles = {
        "corner_10": "on the painted 10 × 10 pixels",
        "corner_16": "within 16 pixels of the corner",
        "pointing": "on the shape",
    }
    return strips(
        {
            title: {label: [row[name][key] for row in trainings] for name, label in names.items()}
            for key, title in titles.items()
        },
        "share of 500 test pictures whose map peaks there; a dot for each of ten trainings",
    )


def three_cheats(result: Mapping[str, Any]) -> Figure:
    """From evidence/shortcuts.json: what three cheats have in common, and what their maps show."""
    names = {"corner": "corner", "paint": "colour of the shape", "tint": "tint"}
    trainings = result["trainings"]

    def over(pick: Any) -> dict[str, list[float]]:
        return {label: [pick(row[name]) for row in trainings] for name, label in names.items()}

    return strips(
        {
            "accuracy with\nthe shortcut": over(lambda r: r["accuracy"]["class"]),
            "accuracy without": over(lambda r: r["accuracy"]["none"]),
            "the map peaks\non the shape": over(lambda r: r["pointing"]),
        }
    )


def carton(result: Mapping[str, Any], classes: Sequence[str]) -> Figure:
    """From evidence/watermark_classes.json: how far the characters raise some classes above the Latin letters."""
    fig = Figure(figsize=(10.5, 1.3 + 0.42 * len(classes)), layout="constrained", dpi=100)
    axes = fig.subplots(1, len(NETWORKS), sharey=True)
    for ax, (name, mark) in zip(axes, NETWORKS.items(), strict=True):
        intervals = result["networks"][name]["intervals"]
        for level, label in enumerate(classes):
            mean, low, high = intervals[label]
            colour = RED if label == "carton" else GRAY
            ax.plot([low, high], [level, level], color=colour, lw=2.5, alpha=0.6)
            ax.scatter(mean, level, marker=mark, s=55, color=colour, zorder=3)
        ax.axvline(0, color="black", lw=0.8)
        ax.set_xlim(-0.2, 3.5)
        _plain(ax, name.capitalize())
    axes[0].set_yticks(range(len(classes)), list(classes))
    axes[0].invert_yaxis()
    axes[1].set_xlabel("rise of the logit above the Latin strip: mean of 12 photos, 95 % interval", fontsize=SIZE)
    means = {label: [result["networks"][name]["intervals"][label][0] for name in NETWORKS] for label in classes}
    fig.set_label(
        "Rises of the logit in Lite0, Lite1 and Lite2: "
        + "; ".join(f"{label} {', '.join(f'{v:.1f}' for v in values)}" for label, values in means.items())
        + ". All intervals lie above zero, and carton is first in each network."
    )
    return fig


def cascade(rows: Mapping[str, Sequence[Tensor]], names: Sequence[str]) -> Figure:
    """A row for each method, a column for each network: maps as ranks of their cells."""
    fig = Figure(figsize=(10.5, 1.75 * len(rows) + 0.6), layout="constrained", dpi=100)
    axes = fig.subplots(len(rows), len(names))
    for line, (method, maps) in zip(axes, rows.items(), strict=True):
        for ax, m in zip(line, maps, strict=True):
            ax.imshow(m.flatten().argsort().argsort().view(m.shape) / (m.numel() - 1), cmap=RANKS.cmap, norm=RANKS.norm)
            ax.set_xticks([])
            ax.set_yticks([])
        line[0].set_ylabel(method, fontsize=SIZE)
    for ax, name in zip(axes[0], names, strict=True):
        ax.set_title(name, fontsize=SIZE)
    fig.suptitle("destroyed from the classifier down to …", fontsize=SIZE)
    fig.set_label(
        "Maps of a crocodile as ranks of their cells, from the trained network and from five that were destroyed down "
        "to deeper layers. CAM and Grad-CAM change, but look more like before once conv_head is destroyed, too. The "
        "animal's outline stays visible in the LayerCAM until blocks are destroyed."
    )
    return fig


STAGES = ["classifier", "conv_head", "blocks.6", "blocks.2", "conv_stem"]
CASCADE = {
    "CAM": "CAM",
    "Grad-CAM, middle layer": "Grad-CAM,\nmiddle layer",
    "LayerCAM, last layer": "LayerCAM,\nlast layer",
    "LayerCAM, early layer": "LayerCAM,\nearly layer",
    "edge filter": "edge filter",
}


def levels(network: Mapping[str, Any]) -> Figure:
    """From evidence/randomisation.json: how much is left of each map, stage by stage."""
    fig = Figure(figsize=(10.8, 3.7), layout="constrained", dpi=100)
    words = []
    for ax, (method, title) in zip(fig.subplots(1, len(CASCADE), sharey=True), CASCADE.items(), strict=True):
        for n, stage in enumerate(STAGES):
            values = _stored(network, "kept", method)[stage]
            spread = np.linspace(-0.2, 0.2, len(values))
            ax.scatter(n + spread, values, s=10, color=GRAY, alpha=0.4, lw=0)
            ax.plot([n - 0.35, n + 0.35], [np.mean(values)] * 2, color=RED, lw=2.5)
            words.append(f"{method} {stage} {np.mean(values):.1f}")
        ax.axhline(np.mean(_stored(network, "unrelated", method)), color=BLUE, ls="--", lw=1.2)
        ax.axhline(0, color="black", lw=0.6)
        ax.set_title(title, fontsize=SIZE)
        ax.set_xticks(range(len(STAGES)), STAGES, rotation=90, fontsize=SIZE)
        ax.tick_params(axis="y", labelsize=SIZE)
        ax.set_ylim(-1.05, 1.05)
    fig.get_axes()[0].set_ylabel("rank correlation\nwith the map before", fontsize=SIZE)
    fig.set_label(f"Dots and their means, by method and stage: {'; '.join(words)}.".replace("-0", "−0"))
    return fig


def all_methods(network: Mapping[str, Any]) -> Figure:
    """From evidence/randomisation.json: both tests for each map of Lite0."""
    return two_tests({"lite0": network}, {"CAM": "CAM", **ALL, "edge filter": "edge filter", "noise": "noise"})


def random_labels(result: Mapping[str, Any]) -> Figure:
    """From evidence/random_labels.json: how alike maps are after true and after random labels."""
    trainings = result["trainings"]
    names = ["CAM", "LayerCAM", "activity"]
    alike = {
        "true and random labels": {m: [row["alike_random"][m] for row in trainings] for m in names},
        "true labels, other start": {
            m: [row["alike_true"][m] for row in trainings if row["alike_true"]] for m in names
        },
    }
    return strips(alike, "mean rank correlation of two networks' maps; a dot for each pair of trainings")
