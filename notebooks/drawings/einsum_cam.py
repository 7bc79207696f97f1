"""Drawings of chapter 04 and its deep dive: cells as classifiers, the 1×1 convolution, einsum, label maps."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

import camlib

ORANGE, BLUE, GREEN, GRAY = "#d55e00", "#0072b2", "#00795a", "#555555"
HUE = {"c": ORANGE, "k": BLUE, "h": GREEN, "w": GREEN, "b": GRAY}  # of the letters of the pattern
# Told apart by colour-blind readers; each with the ink of the number on it.
WINNERS = [("#e69f00", "k"), ("#56b4e9", "k"), ("#009e73", "k"), ("#f0e442", "k"), ("#0072b2", "w")]
WINNERS += [("#d55e00", "k"), ("#cc79a7", "k"), ("#000000", "w"), ("#996633", "w")]
OTHERS = "#dddddd"
SIZE = 11  # points of the text


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of inches, with axes in inches."""
    fig = Figure(figsize=(width, height), dpi=100)
    ax = fig.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    ax.axis("off")
    return fig, ax


# One photo, a classifier per cell


def classifiers(exp: camlib.Explanation, target: str, cells: Iterable[tuple[int, int]]) -> Figure:
    """The photo with its grid of cells and the map of a class; a few cells, (row, column), say their own best class.

    exp: an explanation by one view that is the whole photo.
    """
    k = exp.classifier.index(target)
    (h, w), (height, width) = exp.map(k).shape, exp.results[0].view.size
    photo = np.asarray(Image.fromarray(exp.photo).resize((width, height), Image.Resampling.BICUBIC))
    heat = exp.map(k).repeat_interleave(height // h, 0).repeat_interleave(width // w, 1)
    probabilities = (exp.maps + exp.bias[:, None, None]).softmax(0)

    fig = Figure(figsize=(10.4, 5.75), dpi=100)
    ax = fig.add_axes((0.01, 0.09, 0.87, 0.82), xlim=(0, w), ylim=(h, 0))
    ax.imshow(camlib.overlay(photo, heat), extent=(0, w, h, 0), aspect="auto")
    ax.vlines(range(w + 1), 0, h, color="white", lw=0.5, alpha=0.6)
    ax.hlines(range(h + 1), 0, w, color="white", lw=0.5, alpha=0.6)
    ax.axis("off")
    for row, column in cells:
        best = int(probabilities[:, row, column].argmax())
        text = f"{exp.classifier.labels[best]}, {100 * probabilities[best, row, column]:.0f} %"
        ax.add_patch(Rectangle((column, row), 1, 1, fill=False, ec="black", lw=2))
        above = row < h / 2
        spot = (min(max(column + 0.5, 4), w - 4), -0.75 if above else h + 0.75)
        edge = (column + 0.5, row if above else row + 1)
        arrow = {"arrowstyle": "-", "color": "black", "lw": 1.5, "shrinkA": 2, "shrinkB": 0}
        ax.annotate(text, edge, spot, ha="center", va="center", fontsize=SIZE, arrowprops=arrow, annotation_clip=False)
    bar = camlib.plot.mappable(float(exp.map(k).abs().max()))
    label = f"logit evidence per cell for {target}"
    fig.colorbar(bar, cax=fig.add_axes((0.9, 0.12, 0.018, 0.76))).set_label(label, fontsize=SIZE)
    fig.axes[-1].tick_params(labelsize=SIZE)
    return fig


def sheet(photo: np.ndarray, heats: Sequence, titles: Sequence[str], columns: int = 2, width: float = 9.6) -> Figure:
    """Heat maps (H, W) on one photo, in rows, all on one scale."""
    limit = max(float(heat.abs().nan_to_num().max()) for heat in heats)
    rows = -(-len(heats) // columns)
    height = (width - 1) / columns * photo.shape[0] / photo.shape[1] + 0.3 + 0.19 * max(t.count("\n") for t in titles)
    fig = Figure(figsize=(width, rows * height), layout="constrained", dpi=100)
    axes = fig.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, heat, title in zip(axes.flat, heats, titles, strict=False):
        ax.imshow(camlib.overlay(photo, heat, limit))
        ax.set_title(title, fontsize=SIZE)
    bar = fig.colorbar(camlib.plot.mappable(limit), ax=axes, shrink=0.9)  # the overlay's own colours
    bar.set_label("logit evidence per cell", fontsize=SIZE)
    bar.ax.tick_params(labelsize=SIZE)
    return fig


def in_view(exp: camlib.Explanation, maps: Sequence[torch.Tensor], titles: Sequence[str]) -> Figure:
    """Maps (h, w) side by side on the part of the photo that the network saw, on one scale."""
    view = exp.results[0].view
    left, top, right, bottom = (round(v) for v in view.box)
    heats = [camlib.place(cells, view)[top:bottom, left:right] for cells in maps]
    return sheet(exp.photo[top:bottom, left:right], heats, titles, columns=len(maps), width=10.4)


# Drawings of tensors


def _grid(ax: Axes, left: float, top: float, rows: int, columns: int, filled, hue: str, size: float = 0.27) -> None:
    for y, x in np.ndindex(rows, columns):
        corner = (left + x * size, top - (y + 1) * size)
        face = hue if (y, x) in filled else "white"
        ax.add_patch(Rectangle(corner, size, size, facecolor=face, edgecolor="black", lw=0.7))


def _stack(ax: Axes, left: float, top: float, planes: int, filled, hue: str, shape=(4, 5)) -> None:
    """Planes, one behind the other; filled: the cells of each plane, from the front."""
    for n in reversed(range(planes)):  # the front plane last
        _grid(ax, left + 0.15 * n, top + 0.13 * n, *shape, filled[n], hue)


def one_by_one() -> Figure:
    """A 3 × 3 convolution takes nine cells of every channel, a 1 × 1 convolution takes one."""
    fig, ax = _canvas(9.6, 2.6)
    nine = [(y, x) for y in (0, 1, 2) for x in (2, 3, 4)]
    for left, name, cells in ((0.3, "3 × 3", nine), (5.2, "1 × 1", [(0, 4)])):
        _stack(ax, left, 1.95, 4, [cells] * 4, ORANGE)
        _grid(ax, left + 2.75, 2.1, 4, 5, [(1, 3) if len(cells) == 9 else (0, 4)], BLUE)
        ax.annotate("", (left + 2.65, 1.6), (left + 1.95, 1.6), arrowprops={"arrowstyle": "-|>", "lw": 1.8})
        ax.text(left + 2.3, 1.72, "sum", fontsize=SIZE, ha="center")
        count = "nine cells" if len(cells) == 9 else "one cell"
        ax.text(left + 1.95, 0.42, f"{name}: {count} of every channel,", fontsize=SIZE, ha="center")
        ax.text(left + 1.95, 0.16, "each times its weight", fontsize=SIZE, ha="center")
    fig.set_label(
        "Two convolutions on a stack of channels. On the left, a window of 3 by 3 cells is coloured in every channel "
        "and summed to one cell of the result. On the right, the window is a single cell in every channel."
    )
    return fig


def letters() -> Figure:
    """The pattern kc,bchw->bkhw: which axis each letter is, and which cell is the sum of which."""
    fig, ax = _canvas(9.6, 4.5)

    def letter(text: str, x: float, y: float, size: float = 17, family: str = "DejaVu Sans") -> None:
        style = {"fontsize": size, "weight": "bold", "family": family, "ha": "center", "va": "center"}
        ax.text(x, y, text, color=HUE.get(text, "black"), **style)

    for n, text in enumerate("kc,bchw->bkhw"):
        letter(text, 3.6 + 0.2 * n, 4.2, size=20, family="DejaVu Sans Mono")
    _grid(ax, 0.8, 2.75, 4, 6, [(0, x) for x in range(6)], ORANGE)
    _stack(ax, 3.8, 2.75, 6, [[(0, 4)]] * 6, ORANGE)
    _stack(ax, 7.2, 2.75, 4, [[(0, 4)], [], [], []], BLUE)
    arrows = [  # letter, start, end, where the letter is
        ("k", (0.62, 2.75), (0.62, 1.65), (0.42, 2.2)),
        ("c", (0.8, 2.93), (2.45, 2.93), (1.62, 3.12)),
        ("h", (3.62, 2.75), (3.62, 1.65), (3.42, 2.2)),
        ("w", (3.8, 1.49), (5.15, 1.49), (4.47, 1.31)),
        ("c", (3.72, 2.87), (4.5, 3.55), (3.98, 3.35)),
        ("h", (7.02, 2.75), (7.02, 1.65), (6.82, 2.2)),
        ("w", (7.2, 1.49), (8.55, 1.49), (7.87, 1.31)),
        ("k", (7.12, 2.87), (7.6, 3.29), (7.22, 3.15)),
    ]
    for text, start, end, spot in arrows:
        ax.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": HUE[text], "lw": 1.8})
        letter(text, *spot)
    words = [("×", 2.95, 2.2, 22), ("=", 6.42, 2.2, 22), ("weight: one row per class", 1.6, 0.97, SIZE)]
    words += [("features of one photo", 4.5, 0.97, SIZE), ("one map per class", 7.9, 0.97, SIZE)]
    for text, x, y, size in words:
        ax.text(x, y, text, fontsize=size, ha="center", va="center")
    notes = [
        ("c", "in both inputs, not after the arrow: summed over", 0.5, 0.52),
        ("k", "stays: a result for each class", 0.5, 0.2),
        ("h", "", 4.95, 0.52),
        ("w", "stay: a result for each cell", 5.15, 0.52),
        ("b", "stays: a result for each photo (one is drawn)", 5.15, 0.2),
    ]
    for text, meaning, x, y in notes:
        letter(text, x, y, size=13)
        ax.text(x + 0.17, y, meaning, fontsize=SIZE, va="center")
    fig.set_label(
        "Drawing of the pattern kc,bchw->bkhw. A weight table with axes k and c, one row coloured; a stack of "
        "feature planes with axes c, h and w, the same cell coloured in every plane; a stack of maps with axes k, h "
        "and w, one cell coloured in one map. The row times the stacked cells, summed over c, gives that one cell."
    )
    return fig


# The class with the largest logit in each cell


def label_map(exp: camlib.Explanation, shown: int = 9) -> Figure:
    """The photo; each cell's best class, the `shown` most frequent in colour and number; its lead over the second.

    exp: an explanation by one view that is the whole photo.
    """
    logits = exp.maps + exp.bias[:, None, None]
    winner = logits.argmax(0)
    first, second = logits.topk(2, dim=0).values
    (h, w), labels = winner.shape, exp.classifier.labels
    counts = torch.bincount(winner.flatten(), minlength=len(labels))
    order = counts.topk(shown).indices.tolist()
    colours = {index: to_rgb(colour) for index, (colour, _) in zip(order, WINNERS, strict=False)}
    flat = np.array([[colours.get(index, to_rgb(OTHERS)) for index in row] for row in winner.tolist()])
    gray = np.asarray(Image.fromarray(exp.photo).convert("L"))[..., None] / 255

    fig = Figure(figsize=(10.8, 5.0), dpi=100)
    panels = [fig.add_axes((left, 0.264, 0.32, 0.691)) for left in (0.005, 0.34, 0.675)]
    for ax, title in zip(
        panels, ("photo: four tiles", "best class of each cell", "its lead over the second"), strict=True
    ):
        ax.set_title(title, fontsize=SIZE)
        ax.axis("off")
    panels[0].imshow(exp.photo)
    shade = flat.repeat(gray.shape[0] // h, 0).repeat(gray.shape[1] // w, 1)
    panels[1].imshow(0.25 * gray + 0.75 * shade, extent=(0, w, h, 0))
    for (y, x), index in np.ndenumerate(winner.numpy()):
        if index in order:
            number = order.index(index)
            style = {"fontsize": SIZE, "color": WINNERS[number][1], "ha": "center", "va": "center"}
            panels[1].text(x + 0.5, y + 0.54, str(number + 1), **style)
    patches = [Rectangle((0, 0), 1, 1, color=colour) for colour, _ in WINNERS[:shown]] + [
        Rectangle((0, 0), 1, 1, color=OTHERS)
    ]
    names = [f"{n} {labels[index]}" for n, index in enumerate(order, 1)]
    names.append(f"{int((counts > 0).sum()) - shown} others")
    style = {"fontsize": SIZE, "frameon": False, "handlelength": 1, "columnspacing": 1, "labelspacing": 0.25}
    fig.legend(patches, names, loc="upper center", bbox_to_anchor=(0.5, 0.255), ncols=2, **style)
    picture = panels[2].imshow(first - second, cmap="viridis", vmin=0)
    bar = fig.colorbar(picture, cax=fig.add_axes((0.69, 0.2, 0.29, 0.03)), orientation="horizontal")
    bar.set_label("logits", fontsize=SIZE)
    bar.ax.tick_params(labelsize=SIZE)
    return fig
