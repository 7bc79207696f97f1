"""The figures of chapter 09."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

import camlib
from camlib import evaluate
from camlib.plot import UNIT, mappable

SIZE = 11  # points of the smallest text
RED, BLUE, OCHRE, GRAY = "#b40426", "#3b4cc0", "#a06400", "0.45"
BLIND = ("Gaussian 0.25", "edges, cells", "edges, pixels", "random cells", "whole image")
SPREADS = (0.1, 0.15, 0.2, 0.25, 0.3)


def frame(ax: Axes, box: Sequence[float], **style: Any) -> None:
    """A box (left, top, right, bottom) on a picture."""
    left, top, right, bottom = box
    ax.add_patch(
        Rectangle(
            (left - 0.5, top - 0.5), right - left, bottom - top, fill=False, **{"edgecolor": "white", "lw": 2} | style
        )
    )


def _panel(ax: Axes, picture: np.ndarray, title: str) -> None:
    ax.imshow(picture)
    ax.set_title(title, fontsize=SIZE)
    ax.set_axis_off()


def _bar(fig: Figure, limit: float, axes: Any, label: str) -> None:
    bar = fig.colorbar(mappable(limit), ax=axes, shrink=0.9, aspect=25)
    bar.set_label(label, fontsize=SIZE)
    bar.ax.tick_params(labelsize=SIZE)


def _axis(ax: Axes, title: str, label: str, grid: str = "x") -> None:
    ax.set_title(title, fontsize=SIZE + 1)
    ax.set_xlabel(label, fontsize=SIZE)
    ax.tick_params(labelsize=SIZE)
    ax.grid(axis=grid, color="0.9")
    ax.set_axisbelow(True)


def quiz(photo: np.ndarray, heats: Mapping[str, Tensor], box: Sequence[float]) -> Figure:
    """A photo with its box, and maps on it as shares of their maximum."""
    shown = {title: heat / heat.max() for title, heat in heats.items()}
    fig = Figure(figsize=(9.4, 2.45), layout="constrained", dpi=100)
    axes = fig.subplots(1, 1 + len(shown))
    _panel(axes[0], photo, "photo and box")
    for ax, (title, heat) in zip(axes[1:], shown.items(), strict=True):
        _panel(ax, camlib.overlay(photo, heat, 1), title)
    for ax in axes:
        frame(ax, box)
    _bar(fig, 1, list(axes), "share of the maximum")
    fig.set_label(
        "A cup of coffee with its box, and two heat maps, A and B. Both are red over the cup and fade towards the edge "
        "of the photo. A is a round blob, B lies higher."
    )
    return fig


def sheet(photos: Mapping[str, np.ndarray], objects: Mapping[tuple[str, str], Any], result: dict[str, Any]) -> Figure:
    """The photos with their boxes, and the rank of each class."""
    ranks = {c["class"]: rank for c, rank in zip(result["classes"], result["rank"]["224"], strict=True)}
    fig = Figure(figsize=(7, 5.1), layout="constrained", dpi=100)
    for ax, (name, photo) in zip(fig.subplots(3, 3).flat, photos.items(), strict=True):
        labels = [label for photo_name, label in objects if photo_name == name]
        for label, tint in zip(labels, ("white", "#ffd23f"), strict=False):
            for box in objects[name, label]:
                frame(ax, box, edgecolor=tint)
        _panel(ax, photo, ", ".join(f"{label}: {ranks[label]}" for label in labels))
    fig.set_label(
        "Nine photos with a box around each object; its class and the rank of the class among 1000. The cat and the "
        "crocodile fill their photos, the three domes behind the cameraman are tiny, the rocket is thin."
    )
    return fig


def free(result: dict[str, Any], named: Sequence[str]) -> Figure:
    """CAM's energy in the boxes of each class against the share of the photo that they take."""
    share = np.array([c["share"] for c in result["classes"]])
    energy = np.array(result["methods"]["CAM"]["energy"])
    fig = Figure(figsize=(4.8, 3.8), layout="constrained", dpi=100)
    ax = fig.subplots()
    ax.plot([0, 1], [0, 1], color=BLUE, lw=2)
    ax.text(0.66, 0.58, "whole image", color=BLUE, fontsize=SIZE, rotation=38)
    ax.scatter(share, energy, color=RED, s=45, zorder=3)
    for i, row in enumerate(result["classes"]):
        if row["class"] in named:
            side, shift = ("right", -0.03) if share[i] > 0.5 else ("left", 0.03)
            ax.text(share[i] + shift, energy[i], row["class"], fontsize=SIZE, ha=side, va="center")
    _axis(ax, "each class: mostly the size of its box", "share of the photo that is box", "both")
    ax.set_ylabel("energy of CAM in the box", fontsize=SIZE)
    ax.set(xlim=(0, 1.02), ylim=(0, 1.06))
    fig.set_label(
        "The energy of each class against the share of the photo that its boxes take. The points rise along the "
        "diagonal, all above it. The tiger cat, at the upper right, is just above it, the space shuttle far above."
    )
    return fig


def sharpened(photo: np.ndarray, heat: Tensor, boxes: Sequence[Sequence[float]]) -> Figure:
    """The same map to the powers 1, 2 and 4, as shares of the maximum, with the energy in the boxes."""
    fig = Figure(figsize=(8.6, 2.4), layout="constrained", dpi=100)
    axes = fig.subplots(1, 3)
    for ax, (name, power) in zip(axes, (("CAM", 1), ("CAM²", 2), ("CAM⁴", 4)), strict=True):
        sharp = heat.clamp(min=0) ** power
        energy = evaluate.energy_in_box(sharp, boxes)
        _panel(ax, camlib.overlay(photo, sharp / sharp.max(), 1), f"{name}: energy {energy:.2f}")
        for box in boxes:
            frame(ax, box)
    _bar(fig, 1, list(axes), "share of the maximum")
    fig.set_label(
        "The same map three times, to the powers one, two and four. The red spot shrinks, but much of it stays right "
        "of the box."
    )
    return fig


def spreads(result: dict[str, Any]) -> Figure:
    """From evidence/boxes.json: the centred Gaussian by its spread, and CAM and its powers as lines."""
    methods = result["methods"]
    scores = {
        "energy": lambda m: float(np.mean(m["energy"])),
        "IoU at the threshold 0.2": lambda m: float(np.mean(m["IoU"])),
        "PxAP": lambda m: m["PxAP"],
    }
    fig = Figure(figsize=(10.5, 3.9), layout="constrained", dpi=100)
    for ax, (title, score) in zip(fig.subplots(1, 3), scores.items(), strict=True):
        ax.plot(SPREADS, [score(methods[f"Gaussian {s:.2f}"]) for s in SPREADS], color=BLUE, marker="o", lw=2)
        ends = {name: score(methods[name]) for name in ("CAM", "CAM²", "CAM⁴")}
        same = max(ends.values()) - min(ends.values()) < 0.01
        for name, value in ends.items():
            ax.axhline(value, color=RED, lw=2, ls={"CAM": "-", "CAM²": "--", "CAM⁴": ":"}[name])
            if not same or name == "CAM":
                words = "CAM, CAM², CAM⁴" if same else name
                below = name == "CAM⁴" and value < ends["CAM"]  # three labels between close lines
                left = name == "CAM" and not same and ends["CAM²"] - value < 0.06
                ax.text(
                    0.1 if left else 0.305,
                    value + (-0.008 if below else 0.006),
                    words,
                    color=RED,
                    fontsize=SIZE,
                    va="top" if below else "bottom",
                    ha="left" if left else "right",
                )
        _axis(ax, title, "spread of the Gaussian", "both")
        ax.set_xticks(SPREADS, [f"{s:g}" for s in SPREADS])
        ax.set_ylim(0.1, 0.8)
    fig.axes[0].text(0.1, 0.2, "blue: centred Gaussian", color=BLUE, fontsize=SIZE)
    fig.set_label(
        "Three panels. Energy: the narrower the centred Gaussian, the higher, until it passes CAM; CAM squared and to "
        "the fourth power are higher still. IoU at a fixed threshold: the powers change it, too. PxAP: CAM and its "
        "powers have the same value, above the Gaussian at each spread."
    )
    return fig


def box_of_map(photo: np.ndarray, heat: Tensor, box: Sequence[float], thresholds: Sequence[float]) -> Figure:
    """What lies above each threshold, the map's box, and the true one."""
    fig = Figure(figsize=(8.4, 3.1), layout="constrained", dpi=100)
    for ax, threshold in zip(fig.subplots(1, len(thresholds)), thresholds, strict=True):
        above = (heat > threshold * heat.max()).numpy()
        found = evaluate.box_from_map(heat, threshold)
        title = f"threshold {threshold}: IoU {evaluate.iou(found, box):.2f}"
        _panel(ax, np.where(above[..., None], photo, photo // 4 + 150), title)
        frame(ax, box, edgecolor="black")
        frame(ax, found, edgecolor=RED, ls="--")
    fig.set_label(
        "The astronaut three times; what lies below the threshold is pale. As it rises, the map's dashed box shrinks "
        "from much too large to too small; the true box is black."
    )
    return fig


def thresholds(result: dict[str, Any]) -> Figure:
    """From evidence/boxes.json: the mean IoU at each threshold."""
    ways = {"CAM": ("#7b0a1d", "-"), "CAM²": (RED, "--"), "CAM at 448": (OCHRE, "-"), "Gaussian 0.25": (BLUE, "-")}
    fig = Figure(figsize=(7.5, 3.4), layout="constrained", dpi=100)
    ax = fig.subplots()
    for name, (ink, dash) in ways.items():
        values = result["methods"][name]["mean IoU"]
        ax.plot(np.arange(len(values)) / len(values), values, color=ink, ls=dash, lw=2, label=name)
    ax.axvline(0.2, color="0.6", ls=":")
    ax.text(0.21, 0.02, "the usual threshold", color="0.35", fontsize=SIZE)
    _axis(ax, "", "threshold, as a share of the map's maximum", "both")
    ax.set_ylabel("mean IoU of 12 classes", fontsize=SIZE)
    ax.set_ylim(0, 0.55)
    fig.legend(loc="outside right center", fontsize=SIZE, frameon=False)
    fig.set_label(
        "Mean IoU against the threshold, for four maps. Each has its peak elsewhere: CAM at a high threshold, CAM "
        "squared and the finer map at 448 pixels at a lower one. The centred Gaussian is below them."
    )
    return fig


def coverage(result: dict[str, Any]) -> Figure:
    """From evidence/coverage.json: how often each interval contains the truth."""
    fig = Figure(figsize=(10, 3.3), layout="constrained", dpi=100)
    axes = fig.subplots(1, 4, sharey=True)
    ways = {"bootstrap": (OCHRE, "o", "-"), "t": (RED, "s", "-"), "exact": (BLUE, "^", "--")}
    table = result["coverage"]
    for ax, name in zip(axes, ("normal", "uniform", "skewed", "hits"), strict=True):
        for way, (ink, mark, dash) in ways.items():
            if way in table["9"][name]:
                values = [table[n][name][way] for n in table]
                ax.plot(range(len(table)), values, color=ink, marker=mark, ls=dash, lw=2)
        ax.axhline(0.95, color="black", lw=1)
        _axis(ax, name, "how many values", "y")
        ax.set_xticks(range(len(table)), list(table))
    axes[0].set_ylabel("contains the truth", fontsize=SIZE)
    axes[0].set_ylim(0.55, 1)
    for way, (ink, mark, dash) in ways.items():
        axes[0].plot([], [], color=ink, marker=mark, ls=dash, label=way)
    fig.legend(loc="outside right center", fontsize=SIZE, frameon=False)
    fig.set_label(
        "How often a 95 % interval contains the truth, for 5, 9, 30 and 100 values. With few values, the bootstrap is "
        "far below 95 %. Student's t is at 95 % for normal and uniform values and below it for skewed ones. For hits "
        "and misses only the exact interval is high enough."
    )
    return fig


def differences(result: dict[str, Any], measures: Sequence[str] = ("pointing", "energy", "IoU")) -> Figure:
    """From evidence/boxes.json: CAM minus each map that has not seen the class, with t-intervals over the photos."""
    methods, groups = result["methods"], [c["photo"] for c in result["classes"]]
    known = np.array(result["rank"]["224"]) == 1
    rivals = ["Grad-CAM, early", "Gaussian 0.10", "Gaussian 0.15", "Gaussian 0.20", *BLIND]
    fig = Figure(figsize=(10.5, 5), layout="constrained", dpi=100)
    axes = fig.subplots(1, len(measures), sharey=True)
    for ax, measure in zip(axes, measures, strict=True):
        for row, rival in enumerate(rivals):
            gap = np.array(methods["CAM"][measure]) - np.array(methods[rival][measure])
            mean, low, high = evaluate.t_interval(gap, groups)
            ink = OCHRE if rival.startswith("Grad") else BLUE
            ax.plot([low, high], [row, row], color=ink, lw=3)
            ax.plot(mean, row, "o", color=ink, ms=9)
            for part, mark in ((known, "^"), (~known, "v")):
                of = [group for group, own in zip(groups, part, strict=True) if own]
                ax.plot(evaluate.t_interval(gap[part], of)[0], row + 0.28, mark, color=GRAY, ms=7)
        ax.axvline(0, color="black", lw=1)
        _axis(ax, measure, "CAM minus the other")
    axes[0].set_yticks(range(len(rivals)), rivals)
    axes[0].invert_yaxis()
    axes[0].plot([], [], "^", color=GRAY, label="classes of rank 1")
    axes[0].plot([], [], "v", color=GRAY, label="the other classes")
    fig.legend(loc="outside lower center", ncols=2, fontsize=SIZE, frameon=False)
    fig.set_label(
        "CAM minus each other map, with intervals, for pointing, energy and IoU. In pointing, the intervals of all "
        "Gaussians contain zero; in energy, those of spread 0.1 to 0.2; in IoU, only that of 0.2, and 0.1 lies far "
        "behind CAM. Gray marks show classes of rank one and the others apart."
    )
    return fig


def mosaic(picture: np.ndarray, heats: Mapping[str, Tensor], tiles: Sequence[Sequence[float]]) -> Figure:
    """One map for each tile's class, on one scale, with the share in the own tile."""
    limit = max(float(h.abs().max()) for h in heats.values())
    fig = Figure(figsize=(10, 2.75), layout="constrained", dpi=100)
    axes = fig.subplots(1, len(heats))
    for ax, (label, heat), tile in zip(axes, heats.items(), tiles, strict=True):
        _panel(ax, camlib.overlay(picture, heat, limit), f"{label}: {evaluate.energy_in_box(heat, [tile]):.2f}")
        frame(ax, tile)
    _bar(fig, limit, list(axes), UNIT)
    fig.set_label(
        "Four overlays on one mosaic of cat, coffee, tripod and rocket, on one scale. Each class lights up its own "
        "tile, framed in white."
    )
    return fig


def mosaics(result: dict[str, Any]) -> Figure:
    """From evidence/mosaics.json: the mean of each mosaic's four shares, a dot each."""
    fig = Figure(figsize=(9, 2.6), layout="constrained", dpi=100)
    ax = fig.subplots()
    ways = {"CAM": RED, "Grad-CAM, early": OCHRE, "edges": BLUE}
    for row, (name, ink) in enumerate(ways.items()):
        values = [np.mean(m[name]) for m in result["mosaics"]]
        ax.scatter(values, row + np.linspace(-0.22, 0.22, len(values)), color=ink, s=28, alpha=0.7, lw=0)
    ax.axvline(0.25, color="black", lw=1)
    ax.set_yticks(range(len(ways)), list(ways))
    ax.invert_yaxis()
    _axis(ax, "", "mean share of a class's evidence in its own quarter; each dot is a mosaic")
    ax.set_xlim(0, 1)
    fig.set_label(
        "A dot for each of 35 mosaics. CAM: far to the right, between 0.78 and 0.9. Grad-CAM on the early layer: "
        "around a quarter. The edge filter: exactly a quarter in each mosaic."
    )
    return fig


def holes(pictures: Mapping[str, Tensor], says: Sequence[float], columns: int = 3) -> Figure:
    """Inputs (3, H, W) with removed pixels, and what the network says to each."""
    rows = len(pictures) // columns
    fig = Figure(figsize=(6.9, 2.5 * rows), layout="constrained", dpi=100)
    for ax, (title, x), p in zip(fig.subplots(rows, columns).flat, pictures.items(), says, strict=True):
        picture = (255 * (x / 2 + 0.5).clamp(0, 1)).byte().permute(1, 2, 0).numpy()
        _panel(ax, picture, f"{title}: {p:.2f}")
    fig.set_label(
        "A photo of a panda with two fifths of its pixels removed, and the probability of giant panda. Above, the "
        "pixels where the map is strongest, so its head is gone; below, pixels at random. From left to right, the "
        "holes are filled with gray, with a blur, and from their neighbours."
    )
    return fig


def deletion(result: dict[str, Any]) -> Figure:
    """From evidence/deletion.json: the area of each other map minus that of CAM, a mark for each photo."""
    fig = Figure(figsize=(10.5, 4), layout="constrained", dpi=100)
    kinds = {"Gaussian": (BLUE, "o"), "random cells": (GRAY, "s"), "random pixels": (OCHRE, "^")}
    table = {(r["class"], r["map"], r["fill"]): r for r in result["rows"]}
    fills = list(dict.fromkeys(r["fill"] for r in result["rows"]))
    axes = fig.subplots(1, 2, sharey=True)
    for ax, (test, sign) in zip(axes, (("deletion", 1), ("insertion", -1)), strict=True):
        for row, fill in enumerate(fills):
            for shift, (kind, (ink, mark)) in zip((-0.25, 0, 0.25), kinds.items(), strict=True):
                gaps = [
                    sign * (r[test] - table[c, "CAM", f][test])
                    for (c, m, f), r in table.items()
                    if f == fill and m.startswith(kind)
                ]
                ax.scatter(gaps, [row + shift] * len(gaps), color=ink, marker=mark, s=34, alpha=0.7, lw=0)
        ax.axvline(0, color="black", lw=1)
        _axis(ax, test, "worse than CAM  →\n(difference of the areas)")
    axes[0].set_yticks(range(len(fills)), fills)
    axes[0].invert_yaxis()
    for kind, (ink, mark) in kinds.items():
        axes[0].scatter([], [], color=ink, marker=mark, label=kind)
    fig.legend(loc="outside right center", fontsize=SIZE, frameon=False)
    fig.set_label(
        "How much worse than CAM each other map is, a mark for each photo, by test and by what fills the holes. Under "
        "deletion with gray, random pixels are better than CAM on most photos; with ROAD they are far worse, but about "
        "as good as CAM under insertion."
    )
    return fig


def read(data: Path, entries: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    """The photos that have boxes, by their names in boxes.json."""
    names = dict.fromkeys(e["photo"] for e in entries if e["photo"].startswith("photos/"))
    return {name: camlib.read_image(data / name) for name in names}
