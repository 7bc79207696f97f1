"""The figures of chapter 14."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from torch import Tensor

import camlib
from camlib import shapes
from camlib.plot import UNIT, mappable
from camlib.transformer import HEADS, VisionTransformer

SIZE = 11  # points of the smallest text
RED, GRAY, BLUE = "#b2182b", "0.45", "#2166ac"
ENLARGED = 4  # pictures of 64 pixels are drawn with 256
SHADES = LinearSegmentedColormap.from_list("white to red", ["white", "#fddbc7", "#d6604d", "#67001f"])
TOKENS = 8  # along each side


def _enlarged(image: Tensor) -> np.ndarray:
    """(3, 64, 64) from 0 to 1 -> (256, 256, 3) uint8."""
    large = image.repeat_interleave(ENLARGED, 1).repeat_interleave(ENLARGED, 2)
    return (large.permute(1, 2, 0) * 255).round().byte().numpy()


def _on(image: Tensor, cells: Tensor, limit: float) -> np.ndarray:
    """A map (8, 8) on a picture, as the course draws evidence."""
    photo = _enlarged(image)
    return camlib.overlay(photo, camlib.upsample(cells.detach().float()[None], photo.shape[:2])[0], limit)


def _figure(width: float, height: float) -> Figure:
    fig = Figure(figsize=(width, height), layout="constrained", dpi=100)
    fig.get_layout_engine().set(h_pad=0.1, w_pad=0.06)  # inches: titles reach above their panels
    return fig


def _panel(ax: Any, picture: np.ndarray, title: str = "") -> None:
    ax.imshow(picture)
    ax.set_title(title, fontsize=SIZE)
    ax.set_axis_off()


def _bar(fig: Figure, colours: Any, axes: Any, label: str, shrink: float = 0.9) -> None:
    bar = fig.colorbar(colours, ax=axes, orientation="horizontal", shrink=shrink, pad=0.03, aspect=20)
    bar.set_label(label, fontsize=SIZE)
    bar.ax.tick_params(labelsize=SIZE)
    bar.locator = bar.ax.xaxis.get_major_locator()
    bar.ax.locator_params(nbins=3)


def _strongest(cells: Tensor) -> str:
    """Where a map (8, 8) is strongest, in words."""
    row, column = divmod(int(cells.argmax()), cells.shape[1])
    across = ("left", "centre", "right")[3 * column // cells.shape[1]]
    place = f"{('top', 'middle', 'bottom')[3 * row // cells.shape[0]]} {across}"
    return {"middle centre": "centre", "middle left": "left", "middle right": "right"}.get(place, place)


def rollout(net: VisionTransformer, image: Tensor) -> Tensor:
    """Attention rollout on a picture (3, 64, 64) -> (8, 8). The chapter derives it, and exercise 2 writes it."""
    flow = torch.eye(1 + TOKENS**2)
    with torch.no_grad():
        x = net.stem(shapes.centred(image)[None]).flatten(2).transpose(1, 2) + net.position
        x = torch.cat([net.tokens, x], 1)
        for block in net.blocks:
            q, k, _ = block.attn.qkv(block.norm1(x))[0].view(len(flow), 3, HEADS, -1).permute(1, 2, 0, 3)
            weights = (q @ k.mT / q.shape[2] ** 0.5).softmax(2).mean(0)
            flow = (weights + torch.eye(len(flow))) / 2 @ flow
            x = block(x)
    return flow[0, 1:].view(TOKENS, TOKENS)


def asked_twice(image: Tensor, maps: Mapping[str, Sequence[Tensor]], classes: Sequence[str]) -> Figure:
    """For each method its maps of two classes, on a scale of its own. maps: method -> one map (8, 8) for each class."""
    fig = _figure(2.6 * (len(maps) + 1), 6.3)
    axes = fig.subplots(2, len(maps) + 1)
    for row, name in zip(axes, classes, strict=True):
        _panel(row[0], _enlarged(image), f"asked for: {name}")
    _bar(fig, mappable(1), list(axes[:, 0]), " ")
    fig.axes[-1].set_visible(False)  # it keeps the pictures level with the maps
    words = []
    for column, (method, both) in zip(axes.T[1:], maps.items(), strict=True):
        limit = max(float(m.abs().max()) for m in both)
        for ax, cells, name in zip(column, both, classes, strict=True):
            _panel(ax, _on(image, cells, limit), method)
            words.append(f"{method}, {name}: strongest at the {_strongest(cells)}")
        _bar(fig, mappable(limit), list(column), UNIT if method.startswith("frozen") else "no unit")
    fig.set_label(
        f"A picture of two shapes, {classes[0]} at the left and {classes[1]} at the right, and the maps of three "
        f"methods for each of the two classes. {'; '.join(words)}. The two maps of attention rollout are the same."
    )
    return fig


def tokens(image: Tensor, values: Tensor) -> Figure:
    """The picture under its grid of patches, and the tokens (65, 48) as rows."""
    fig = _figure(9.5, 4.4)
    left, right = fig.subplots(1, 2, width_ratios=(1, 1.15))
    _panel(left, _enlarged(image), "64 patches, numbered by rows")
    step = image.shape[1] * ENLARGED / TOKENS
    for k in range(TOKENS + 1):
        left.axhline(k * step - 0.5, color="white", lw=1)
        left.axvline(k * step - 0.5, color="white", lw=1)
    for number in (1, 2, 8, 9, 64):
        row, column = divmod(number - 1, TOKENS)
        place = ((column + 0.5) * step, (row + 0.5) * step)
        left.text(*place, number, ha="center", va="center", color="white", fontsize=SIZE, backgroundcolor="#0009")
    limit = float(values.abs().max())
    right.imshow(values.detach().numpy(), cmap="coolwarm", vmin=-limit, vmax=limit, aspect="auto")
    right.set_title("65 tokens, one in each row", fontsize=SIZE)
    right.set_xlabel("48 numbers", fontsize=SIZE)
    right.set_yticks([0, 8, 16, 24, 32, 40, 48, 56, 64], ["class token", 8, 16, 24, 32, 40, 48, 56, 64])
    right.tick_params(labelsize=SIZE)
    fig.set_label(
        "Left: the picture with a grid of 8 by 8 patches, numbered row by row from 1 to 64. Right: a table of 65 rows "
        "and 48 columns of numbers, drawn as colours. The first row is the class token, the others are the patches."
    )
    return fig


def attention(image: Tensor, weights: Sequence[Tensor]) -> Figure:
    """The class token's row of each block (heads, 65, 65), for each head and their mean, as shares of 1."""
    rows = [torch.cat([w[:, 0, 1:], w[:, 0, 1:].mean(0, keepdim=True)]).unflatten(1, (TOKENS, TOKENS)) for w in weights]
    limit = max(float(row.max()) for row in rows)
    fig = _figure(11, 7.3)
    axes = fig.subplots(len(rows), len(rows[0]) + 1)
    for number, (line, maps) in enumerate(zip(axes, rows, strict=True)):
        _panel(line[0], _enlarged(image), f"block {number}")
        for head, (ax, cells) in enumerate(zip(line[1:], maps, strict=True)):
            ax.imshow(cells.detach().numpy(), cmap=SHADES, vmin=0, vmax=limit)
            name = f"head {head}" if head < len(maps) - 1 else "mean of the heads"
            ax.set_title(f"{name}", fontsize=SIZE)
            ax.set_xticks([])
            ax.set_yticks([])
    _bar(fig, ScalarMappable(Normalize(0, limit), SHADES), list(axes[:, 1:].flat), "attention weight", 0.5)
    fig.set_label(
        "For each of three blocks, how much the class token attends to each of the 64 patches: three heads and their "
        f"mean. The heads differ. The mean of the last block is strongest at the {_strongest(rows[-1][-1])}."
    )
    return fig


def rolled(image: Tensor, maps: Mapping[str, Tensor]) -> Figure:
    """The picture, and shares of attention (8, 8), each on a scale of its own that begins at zero."""
    fig = _figure(3.1 * (len(maps) + 1), 4.1)
    axes = fig.subplots(1, len(maps) + 1)
    _panel(axes[0], _enlarged(image), "the picture")
    words = []
    for ax, (title, cells) in zip(axes[1:], maps.items(), strict=True):
        limit = float(cells.max())
        ax.imshow(cells.detach().numpy(), cmap=SHADES, vmin=0, vmax=limit)
        ax.set_title(title, fontsize=SIZE)
        ax.set_axis_off()
        _bar(fig, ScalarMappable(Normalize(0, limit), SHADES), ax, "attention weight")
        words.append(f"{title}: from {float(cells.min()):.3f} to {limit:.3f}, strongest at the {_strongest(cells)}")
    _bar(fig, mappable(1), axes[0], " ")
    fig.axes[-1].set_visible(False)  # it keeps the picture level with the maps
    fig.set_label(f"The picture of two shapes and two maps of attention. {'. '.join(words)}.")
    return fig


def board(image: Tensor, cells: Tensor, title: str) -> Figure:
    """A picture beside a map (8, 8) with its numbers."""
    limit = float(cells.abs().max())
    fig = _figure(9.6, 4.7)
    left, right = fig.subplots(1, 2, width_ratios=(0.8, 1))
    _panel(left, _enlarged(image), "the picture")
    right.imshow(cells.detach().numpy(), cmap="coolwarm", vmin=-limit, vmax=limit)
    for (row, column), value in np.ndenumerate(cells.detach().numpy()):
        ink = "white" if abs(value) > 0.75 * limit else "black"
        right.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=SIZE, color=ink)
    right.set_title(title, fontsize=SIZE)
    right.set_axis_off()
    _bar(fig, ScalarMappable(Normalize(-limit, limit), "coolwarm"), right, UNIT, 0.8)
    fig.set_label(
        f"A picture of one shape, and a board of 8 by 8 numbers: {title}. All are positive, from "
        f"{float(cells.min()):.1f}, at the {_strongest(-cells)}, to {float(cells.max()):.1f}, "
        f"at the {_strongest(cells)}."
    )
    return fig


# --- from evidence/transformers.json ---------------------------------------------------------------------------------


def _strip(ax: Any, level: float, values: Sequence[float], shipped: float | None, colour: str = GRAY) -> None:
    """A dot for each training, a line for their median, a diamond for the shipped network."""
    spread = np.linspace(-0.2, 0.2, len(values))
    ax.scatter(values, level + spread, s=22, color=colour, alpha=0.75, lw=0)
    ax.plot([np.median(values)] * 2, [level - 0.34, level + 0.34], color="black", lw=2)
    if shipped is not None:
        ax.scatter(shipped, level, s=60, marker="D", facecolor="none", edgecolor=RED, lw=1.6, zorder=3)


def shares(result: Mapping[str, Any]) -> Figure:
    """How much of the logit lies on the patches, by where the map is read."""
    fig = _figure(10, 3.3)
    ax = fig.subplots()
    places = {"stem": "at the patches", "blocks.0": "after the first block", "blocks.1": "after the second block"}
    names = [*places.values(), "after the last block"]
    for level, at in zip((3, 2, 1), places, strict=True):
        rows = [run["methods"][f"frozen at {at}"]["share"] for run in result["runs"]]
        _strip(ax, level, rows, result["shipped"]["methods"][f"frozen at {at}"]["share"])
    _strip(ax, 0, [0.0] * len(result["runs"]), 0.0)
    ax.set_yticks((3, 2, 1, 0), names)
    ax.set_xlim(-0.03, max(1.03, ax.get_xlim()[1]))
    ax.set_xlabel("share of the logit that lies on the patches (median over pictures)", fontsize=SIZE)
    ax.set_title(
        "dots: ten trainings, line: their median, diamond: the shipped network (trained with two threads)",
        fontsize=SIZE,
    )
    ax.tick_params(labelsize=SIZE)
    ax.grid(axis="x", color="0.9")
    ax.set_axisbelow(True)
    fig.set_label(
        "Share of the logit on the patches for ten trainings. At the patches nearly all of it, after the first block "
        "less than half, after the second block at most a quarter, after the last block nothing."
    )
    return fig


COMPARED = {
    "frozen at stem": "frozen, at the patches",
    "rollout": "attention rollout",
    "attention of the last block": "attention, last block",
    "attention x gradient": "attention × gradient",
    "layer_cam at stem": "LayerCAM, at the patches",
    "gradient x input": "gradient × input",
    "grad_cam at blocks.1": "Grad-CAM, second block",
    "blob in the middle": "a blob in the middle",
}
MEASURED = {
    "pointing": "strongest point\nin the box",
    "energy": "positive part of\nthe map in the box",
    "deletion_mean": "correlation with\ndeletion (mean colour)",
    "whose": "two shapes: more\non the right one",
}


def compared(result: Mapping[str, Any]) -> Figure:
    """Eight methods by four measures: a dot for each of ten trainings."""
    fig = _figure(12, 5)
    axes = fig.subplots(1, len(MEASURED), sharey=True)
    levels = range(len(COMPARED))[::-1]
    for ax, (measure, title) in zip(axes, MEASURED.items(), strict=True):
        for level, name in zip(levels, COMPARED, strict=True):
            rows = [run["methods"][name].get(measure, 0.5) for run in result["runs"]]
            shipped = result["shipped"]["methods"][name].get(measure, 0.5)
            _strip(ax, level, rows, shipped, BLUE if name.startswith("frozen") else GRAY)
        ax.set_title(title, fontsize=SIZE)
        ax.set_xlim(min(-0.05, ax.get_xlim()[0]), 1.05)
        ax.set_xticks((0, 0.5, 1))
        ax.axvline(0.5 if measure == "whose" else 0, color="black", lw=1, ls=":")
        ax.tick_params(labelsize=SIZE)
        ax.grid(axis="x", color="0.9")
        ax.set_axisbelow(True)
    axes[0].set_yticks(list(levels), list(COMPARED.values()))
    fig.supxlabel(
        "dots: ten trainings, line: their median, diamond: the shipped network (trained with two threads)",
        fontsize=SIZE,
    )
    fig.set_label(
        "Strips of ten trainings for eight methods and four measures. Frozen maps and attention rollout point equally "
        "well; frozen maps have by far the most of their positive part in the box; rollout agrees a little better with "
        "deleting patches; with two shapes, frozen maps are nearly always on the right one, attention alone in half of "
        "the cases."
    )
    return fig
