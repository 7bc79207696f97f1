"""The figures of chapter 06, and the colours that other readers see."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

import camlib
from camlib.plot import UNIT, mappable, oklab

SIZE, WIDTH = 11, 9.6  # of the text, in points, and of a figure, in inches
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])  # Y is luminance
DEUTERANOPIA = np.array(  # Machado, Oliveira, Fernandes 2009, for linear RGB: deuteranomaly of severity 1.0
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)


def linear(rgb: np.ndarray) -> np.ndarray:
    """Undo the screen's curve: sRGB 0 to 255 -> light 0 to 1 (IEC 61966-2-1)."""
    c = np.asarray(rgb, float) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def screen(light: np.ndarray) -> np.ndarray:
    """The inverse of `linear`, clipped to what a screen can show."""
    c = np.clip(light, 0, 1)
    return 255 * np.where(c <= 0.0031308, 12.92 * c, 1.055 * c ** (1 / 2.4) - 0.055)


def cielab(rgb: np.ndarray) -> np.ndarray:
    """Colours (..., 3) from 0 to 255 -> CIE L*, a*, b* (1976), in which distances are differences for the eye.

    >>> cielab(np.array([255, 255, 255])).round().tolist()
    [100.0, 0.0, 0.0]
    """
    xyz = linear(rgb) @ TO_XYZ.T / TO_XYZ.sum(1)  # white is (1, 1, 1)
    x, y, z = np.moveaxis(np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def as_drawn(rgb: np.ndarray) -> np.ndarray:
    """Colours (..., 3) from 0 to 255, unchanged."""
    return np.asarray(rgb, float)


def deuteranopia(rgb: np.ndarray) -> np.ndarray:
    """A simulation of colours (..., 3), 0 to 255, without the cones for middle wavelengths."""
    return screen(linear(rgb) @ DEUTERANOPIA.T)


def black_and_white(rgb: np.ndarray) -> np.ndarray:
    """The grays (..., 3), 0 to 255, with the luminance of these colours."""
    return np.repeat(screen(linear(rgb) @ TO_XYZ[1])[..., None], 3, -1)


READERS = {"as drawn": as_drawn, "deuteranopia": deuteranopia, "black and white": black_and_white}


def flat(photo: np.ndarray, value: np.ndarray, cmap: str, alpha: float = 0.8) -> np.ndarray:
    """value (H, W), 0 to 1: its colour over the photo, with one opacity everywhere; NaN shows the photo."""
    mixed = (1 - alpha) * photo + alpha * 255 * colormaps[cmap](value)[..., :3]
    return np.where(np.isnan(value)[..., None], photo, mixed).astype(np.uint8)


def panels(pictures: Mapping[str, np.ndarray], height: float) -> Figure:
    """Pictures of one size in a row, with their titles."""
    fig = Figure(figsize=(WIDTH, height), layout="constrained", dpi=100)
    for ax, (title, picture) in zip(fig.subplots(1, len(pictures)), pictures.items(), strict=True):
        ax.imshow(picture)
        ax.set_title(title, fontsize=SIZE)
        ax.axis("off")
    return fig


def _bar(fig: Figure, shown: ScalarMappable, ax, label: str, ticks: Sequence[float] | None = None, **place):
    bar = fig.colorbar(shown, ax=ax, ticks=ticks, **place)
    bar.set_label(label, fontsize=SIZE)
    bar.ax.tick_params(labelsize=SIZE)
    return bar


def three_stories(exp: camlib.Explanation, target: str, first: np.ndarray, second: np.ndarray) -> Figure:
    """One map by two normalisations (H, W), 0 to 1, in jet, and by camlib.overlay."""
    heat = exp.heatmap(target)
    limit = float(heat.nan_to_num(0).abs().max())
    pictures = {
        "A. min-max, jet": flat(exp.photo, first, "jet"),
        "B. max(h, 0) / max(h), jet": flat(exp.photo, second, "jet"),
        "C. signed, gray at zero": camlib.overlay(exp.photo, heat, limit),
    }
    fig = panels(pictures, 3.2)
    for ax in fig.axes[:2]:
        shown = ScalarMappable(Normalize(0, 1), "jet")
        _bar(fig, shown, ax, "0 to 1, no unit", [0, 0.5, 1], location="bottom", shrink=0.85)
    _bar(fig, mappable(limit), fig.axes[2], UNIT, [-10, 0, 10], location="bottom", shrink=0.85)
    fig.set_label(
        f"The map of {target} on the photo of a cat, three times. A, min-max in jet: red and yellow nearly everywhere, "
        "except on the cheek, which is blue. B, in jet: one even dark blue. C, on a signed scale: a blue veil, deepest "
        "on the cheek, and no red."
    )
    return fig


def numbers(cells: np.ndarray) -> Figure:
    """The numbers of a map (h, w) in three colour scales; a line on each bar marks zero."""
    low, high, limit = cells.min(), cells.max(), np.abs(cells).max()
    drawn = [
        ("inferno from the minimum:\nzero is some purple", "inferno", low, high),
        ("coolwarm from the minimum:\nthe neutral gray is not zero", "coolwarm", low, high),
        ("coolwarm, −limit to limit:\ngray is zero, the hue the sign", "coolwarm", -limit, limit),
    ]
    fig = Figure(figsize=(WIDTH, 4.45), layout="constrained", dpi=100)
    for ax, (title, cmap, bottom, top) in zip(fig.subplots(1, 3), drawn, strict=True):
        image = ax.imshow(cells, cmap, vmin=bottom, vmax=top)
        ax.set_title(title, fontsize=SIZE)
        ax.axis("off")
        for (row, column), value in np.ndenumerate(cells.round().astype(int)):
            ink = "white" if oklab(255 * np.array(image.to_rgba(cells[row, column])[:3]))[0] < 0.6 else "black"
            text = f"{value}".replace("-", "−")
            ax.text(column, row, text, ha="center", va="center", fontsize=SIZE, color=ink)
        bar = _bar(fig, image, ax, UNIT, location="bottom")
        bar.ax.axvline(0, color="lime" if cmap == "inferno" else "black", linewidth=2.5)
    fig.set_label(
        "The 7 by 7 numbers of a map in three colour scales, zero marked on each colour bar. Inferno hides where the "
        "sign changes. Coolwarm from the minimum paints zero and small positive numbers blue. Zero-centred coolwarm "
        "paints the positive cells, at the upper right, red and the negative ones blue."
    )
    return fig


def own_and_shared_scale(exp: camlib.Explanation, names: Sequence[str]) -> Figure:
    """The part of the photo that the network saw, with the map of each class: on its own scale, and on one for all."""
    left, top, right, bottom = (round(v) for v in exp.view.box)
    shared = exp.largest(list(names))
    fig = Figure(figsize=(WIDTH, 5.3), layout="constrained", dpi=100)
    rows = fig.subplots(2, len(names))
    for name, upper, lower in zip(names, *rows, strict=True):
        own = exp.largest([name])
        upper.set_title(name, fontsize=SIZE)
        if name == names[0]:
            for ax, label in ((upper, "own scale"), (lower, "one scale")):
                ax.text(-0.05, 0.5, label, transform=ax.transAxes, rotation=90, ha="right", va="center", fontsize=SIZE)
        for ax, limit in ((upper, own), (lower, shared)):
            ax.imshow(exp.overlay(name, limit=limit)[top:bottom, left:right])
            ax.axis("off")
        bar = _bar(fig, mappable(own), upper, "", [-own, 0, own], location="bottom", shrink=0.8, pad=0.03)
        bar.ax.set_xticklabels([f"−{own:.0f}", "0", f"{own:.0f}"])
    ticks = [-40, -20, 0, 20, 40]
    _bar(fig, mappable(shared), list(rows[1]), UNIT, ticks, location="bottom", shrink=0.5, aspect=40)
    fig.set_label(
        "The maps of five classes on the panda. Upper row, each on its own scale: five maps of about equal red on the "
        "panda's face, neck or back. Lower row, all on one scale: giant panda is red, the other four are at most "
        "pink."
    )
    return fig


def lightness(names: Sequence[str]) -> Figure:
    """The lightness of colour maps along their bars."""
    scale = np.linspace(0, 1, 256)
    fig = Figure(figsize=(WIDTH, 2.9), layout="constrained", dpi=100)
    for ax, name in zip(fig.subplots(1, len(names), sharey=True), names, strict=True):
        colours = colormaps[name](scale)[:, :3]
        ax.scatter(scale, oklab(255 * colours)[:, 0], c=colours, s=30)
        ax.set_title(name, fontsize=SIZE)
        ax.set_xlabel("value on the bar", fontsize=SIZE)
        ax.tick_params(labelsize=SIZE)
        ax.set_ylim(0, 1.05)
        ax.grid(alpha=0.3)
    fig.axes[0].set_ylabel("lightness (OKLab)", fontsize=SIZE)
    fig.set_label(
        "Lightness along three colour maps. Jet rises to cyan, is flat to yellow and falls to dark red, with sharp "
        "bends. Inferno rises evenly from black to pale yellow. Coolwarm rises to light gray in the middle and falls "
        "again, symmetrically."
    )
    return fig


def readers(cells: torch.Tensor, names: Sequence[str]) -> Figure:
    """A ramp and a map (h, w) in several colour maps, as drawn and as other readers see them."""
    smooth = camlib.upsample(cells, (224, 224)).numpy()
    ramp = np.tile(np.linspace(0, 1, 224), (36, 1))
    fig = Figure(figsize=(WIDTH, 7.6), layout="constrained", dpi=100)
    grid = fig.subplots(len(READERS), len(names))
    for column, name in enumerate(names):
        low, high = smooth.min(), smooth.max()
        if name in ("coolwarm", "RdYlGn"):  # centred on zero
            low, high = -np.abs(smooth).max(), np.abs(smooth).max()
        picture = np.concatenate([ramp, np.full((8, 224), np.nan), (smooth - low) / (high - low)])
        colours = 255 * colormaps[name].with_extremes(bad="white")(picture)[..., :3]
        for row, (reader, see) in enumerate(READERS.items()):
            ax = grid[row, column]
            ax.imshow(see(colours).round().astype(np.uint8))
            ax.set(xticks=[], yticks=[])
            for spine in ax.spines.values():
                spine.set_visible(False)
            grid[row, 0].set_ylabel(reader, fontsize=SIZE)
        grid[0, column].set_title(name, fontsize=SIZE)
    fig.set_label(
        "A ramp and the space shuttle's map in jet, inferno, coolwarm and RdYlGn. With deuteranopia simulated, both "
        "halves of RdYlGn turn to similar yellows and browns; coolwarm stays blue against olive. In black and white, "
        "jet's maximum is a dark spot in a bright ring, inferno keeps the order, coolwarm and RdYlGn lose the sign."
    )
    return fig


def strips(overlays: Mapping[str, np.ndarray], values: Sequence[float], limit: float) -> Figure:
    """Pictures (rows, 256, 3), one row per value of evidence over a photo that goes from black to white."""
    fig = Figure(figsize=(WIDTH, 3.1), layout="constrained", dpi=100)
    for ax, (title, picture) in zip(fig.subplots(1, len(overlays), sharey=True), overlays.items(), strict=True):
        ax.imshow(picture, aspect="auto", interpolation="nearest")
        ax.set_title(title, fontsize=SIZE)
        ax.set_xticks([0, 128, 255], ["black", "gray", "white"], fontsize=SIZE)
        for label, side in zip(ax.get_xticklabels(), ("left", "center", "right"), strict=True):
            label.set_ha(side)
        ax.set_xlabel("photo below", fontsize=SIZE)
        ax.set_yticks(range(len(values)), [f"{value:g}".replace("-", "−") for value in values], fontsize=SIZE)
        for spine in ax.spines.values():
            spine.set_visible(False)
    fig.axes[0].set_ylabel("evidence", fontsize=SIZE)
    fig.set_label(
        f"Stripes of equal evidence, on a scale to {limit:g}, over a photo that goes from black to white. Alpha "
        "blending: each stripe goes from a deep, dark colour to a pale one. In OKLab: each stripe gets lighter, but "
        "is equally colourful everywhere."
    )
    return fig


def as_cells(exp: camlib.Explanation, target: str) -> Figure:
    """The photo, the map's cells as computed, and the same interpolated."""
    cells = exp.map(target)
    height, width = exp.photo.shape[:2]
    y = exp.view.to_window(torch.arange(height) + 0.5, 0)  # 0 to 1 inside the network's view
    x = exp.view.to_window(torch.arange(width) + 0.5, 1)
    row, column = ((v * 7).long().clamp(0, 6) for v in (y, x))
    inside = ((y >= 0) & (y <= 1))[:, None] & ((x >= 0) & (x <= 1))
    drawn = [cells[row][:, column].where(inside, torch.nan), exp.heatmap(target)]
    titles = [f"{target}: 7 × 7 cells", "the same, interpolated"]
    fig = camlib.plot.figure(exp.photo, drawn, titles, limit=float(cells.abs().max()))
    fig.set_label(
        "A rocket on its pad. As cells: the reddest squares lie to the left and to the right of the rocket, the square "
        "on the rocket is paler. Interpolated: two smooth red blobs beside the rocket, no visible sign of the cells."
    )
    return fig


def three_captions(exp: camlib.Explanation, target: str, rival: str) -> Figure:
    """One map in three pictures, each with a caption."""
    heat = exp.heatmap(target).numpy()
    positive = np.maximum(heat, 0)
    unit = (heat - np.nanmin(heat)) / (np.nanmax(heat) - np.nanmin(heat))
    pictures = {
        "A. “It sees the shuttle;\nthe astronaut plays no part.”": flat(exp.photo, unit, "jet"),
        "B. “It looks at one point,\nnear the shuttle's nose.”": flat(
            exp.photo, (positive / np.nanmax(positive)) ** 2, "inferno", 0.6
        ),
        "C. “It hardly notices\nthe shuttle.”": exp.overlay(target, limit=exp.largest([rival])),
    }
    fig = panels(pictures, 3.9)
    fig.set_label(
        "One map on the astronaut's photo, three times. A, jet over everything: red on the model of the shuttle, blue "
        "on the astronaut. B: one bright spot on the model, everything else darkened. C: a trace of red on the model."
    )
    return fig


def overlay_and_cells(exp: camlib.Explanation, target: str) -> Figure:
    """The photo, the overlay and the map's cells over the faint photo, on one scale."""
    cells = exp.map(target).numpy()
    limit = float(np.abs(cells).max())
    left, top, right, bottom = exp.view.box
    fig = panels({"the photo": exp.photo, "overlay": exp.overlay(target, limit=limit), "its cells": exp.photo}, 3.3)
    ax = fig.axes[2]
    colours = mappable(limit)
    extent = (left - 0.5, right - 0.5, bottom - 0.5, top - 0.5)
    image = ax.imshow(cells, colours.cmap, colours.norm, extent=extent)
    ax.set(xlim=fig.axes[1].get_xlim(), ylim=fig.axes[1].get_ylim())
    width, height = (right - left) / cells.shape[1], (bottom - top) / cells.shape[0]
    for (row, column), value in np.ndenumerate(cells.round().astype(int)):
        ink = "white" if oklab(255 * np.array(image.to_rgba(cells[row, column])[:3]))[0] < 0.6 else "black"
        place = (left + (column + 0.5) * width, top + (row + 0.5) * height)
        ax.text(*place, f"{value}".replace("-", "−"), ha="center", va="center", fontsize=SIZE, color=ink)
    _bar(fig, mappable(limit), list(fig.axes), UNIT, shrink=0.9)
    fig.set_label(
        f"The astronaut, the overlay of {target}, and its 49 cells with numbers, on one signed scale. Red lies on "
        "the model at the upper right. Most of the rest is slightly negative, in pale blue."
    )
    return fig
