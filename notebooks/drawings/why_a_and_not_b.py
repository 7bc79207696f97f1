"""The figures of chapter 07."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

import camlib
from camlib.plot import UNIT, mappable, whereabouts

SIZE = 11  # points of the smallest text
RED, GRAY = "#b2182b", "0.45"
FILLS = {"gray": "o", "photo mean": "s", "noise": "^", "blur": "D", "black": "v", "white": "P"}


def _window(exp: camlib.Explanation, picture: np.ndarray) -> np.ndarray:
    """The part of a picture that the network saw."""
    left, top, right, bottom = (round(edge) for edge in exp.view.box)
    return picture[top:bottom, left:right]


def _panel(ax: Any, picture: np.ndarray, title: str) -> None:
    ax.imshow(picture)
    ax.set_title(title, fontsize=SIZE)
    ax.set_axis_off()


def _bar(fig: Figure, limit: float, axes: Any, label: str, shrink: float = 0.9) -> None:
    bar = fig.colorbar(mappable(limit), ax=axes, orientation="horizontal", shrink=shrink, pad=0.03, aspect=30)
    bar.set_label(label, fontsize=SIZE)
    bar.ax.tick_params(labelsize=SIZE)


def maps_and_contrast(exp: camlib.Explanation, a: str, b: str) -> Figure:
    """What the network saw, the maps of two classes on one scale, and their difference on a scale of its own."""
    heats = [exp.heatmap(a), exp.heatmap(b), camlib.place(exp.contrast(a, b), exp.view)]
    both, own = exp.largest([a, b]), float(heats[2].nan_to_num().abs().max())
    fig = Figure(figsize=(11, 4), layout="constrained", dpi=100)
    axes = fig.subplots(1, 4)
    _panel(axes[0], _window(exp, exp.photo), "what the network saw")
    for ax, heat, limit, title in zip(axes[1:], heats, (both, both, own), (a, b, f"{a}\nagainst {b}"), strict=True):
        _panel(ax, _window(exp, camlib.overlay(exp.photo, heat, limit)), title)
    _bar(fig, both, list(axes[:3]), f"{UNIT}, both maps", 0.6)
    _bar(fig, own, axes[3], "difference, own scale")
    fig.set_label(
        f"A portrait of Grace Hopper in uniform. The maps of {a} and {b} look alike: red at the hat and on the jacket. "
        f"Their difference is red, for {a}, at the upper edge, beside the hat and at the collar; it is blue, for {b}, "
        "at both lower corners of the jacket."
    )
    return fig


def contrast(exp: camlib.Explanation, a: str, b: str) -> Figure:
    """The photo, and the contrast of a against b on it."""
    cells = exp.contrast(a, b)
    fig = camlib.plot.figure(exp.photo, [camlib.place(cells, exp.view)], [f"{a}\nagainst {b}"], exp.view.box)
    most, least = (whereabouts(int(at), cells.shape) for at in (cells.argmax(), cells.argmin()))
    fig.set_label(f"The photo, and the contrast of {a} against {b} on it: red at the {most}, blue at the {least}.")
    return fig


def boards(maps: Sequence[Tensor], titles: Sequence[str]) -> Figure:
    """Maps as grids of cells with their numbers, on one scale."""
    limit = max(float(m.abs().max()) for m in maps)
    fig = Figure(figsize=(3.6 * len(maps), 4.8), layout="constrained", dpi=100)
    axes = np.atleast_1d(fig.subplots(1, len(maps)))
    for ax, values, title in zip(axes, maps, titles, strict=True):
        _board(ax, values, limit, title, 0)
    _plain_bar(fig, limit, list(axes), UNIT)
    fig.set_label(f"Grids of cells with their numbers, on one scale to ±{limit:.0f}: {'; '.join(titles)}.")
    return fig


def _board(ax: Any, values: Tensor, limit: float, title: str, digits: int) -> None:
    ax.imshow(values.numpy(), cmap="coolwarm", vmin=-limit, vmax=limit)
    for (row, column), value in np.ndenumerate(values.numpy()):
        text = f"{round(float(value), digits) + 0.0:.{digits}f}".replace("-", "−")
        text = text.replace("0.", ".")  # −.03 fits into a cell
        ink = "white" if abs(value) > 0.75 * limit else "black"
        ax.text(column, row, text, ha="center", va="center", fontsize=SIZE, color=ink)
    ax.set_title(title, fontsize=SIZE + 1)
    ax.set_axis_off()


def _plain_bar(fig: Figure, limit: float, axes: Any, label: str) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    colours = ScalarMappable(Normalize(-limit, limit), "coolwarm")
    bar = fig.colorbar(colours, ax=axes, orientation="horizontal", shrink=0.7, pad=0.03, aspect=30)
    bar.set_label(label, fontsize=SIZE)
    bar.ax.tick_params(labelsize=SIZE)


def shuttle(result: dict[str, Any]) -> Figure:
    """From evidence/shuttle.json: what covering each part of the photo changes, a mark per fill."""
    fig = Figure(figsize=(10.5, 3.9), layout="constrained", dpi=100)
    axes = fig.subplots(1, 2, sharey=True)
    names = list(result["parts"])[::-1]
    titles = {"shuttle": "logit of space shuttle", "lead": "lead over football helmet"}
    for ax, (key, title) in zip(axes, titles.items(), strict=True):
        for level, name in enumerate(names):
            for i, (fill, mark) in enumerate(FILLS.items()):
                value = result["parts"][name][fill][key]
                ax.scatter(value, level + 0.09 * (i - 2.5), marker=mark, s=45, color=GRAY, alpha=0.8)
        ax.axvline(0, color="black", lw=1)
        ax.set_title(f"change of the {title}", fontsize=SIZE + 1)
        ax.set_xlabel("logits", fontsize=SIZE)
        ax.tick_params(labelsize=SIZE)
        ax.grid(axis="x", color="0.9")
        ax.set_axisbelow(True)
    axes[0].set_yticks(range(len(names)), names)
    for fill, mark in FILLS.items():
        axes[1].scatter([], [], marker=mark, color=GRAY, label=fill)
    fig.legend(loc="outside right center", fontsize=SIZE, title="covered with", title_fontsize=SIZE, frameon=False)
    fig.set_label(
        "Six marks, one for each fill, for each quarter of the photo and for the model alone. Left: covering the upper "
        "right quarter, or the model in it, lowers the logit of space shuttle with every fill, and more than any other "
        "quarter. Right: it lowers the lead over football helmet; covering the lower right quarter raises the lead."
    )
    return fig


def covered(result: dict[str, Any]) -> Figure:
    """From evidence/contrast_pairs.json: how far the lead changes, a dot for each case, by what was covered."""
    kinds = {
        "contrast": "reddest cells\nof the contrast",
        "moved": "control: the same\nshape elsewhere",
        "against": "bluest cells\nof the contrast",
    }
    fig = Figure(figsize=(10.5, 3.6), layout="constrained", dpi=100)
    ax = fig.subplots()
    for level, kind in enumerate(reversed(kinds)):
        values = [row["change"][kind] for row in result["rows"]]
        spread = np.linspace(-0.3, 0.3, len(values))
        ax.scatter(values, level + spread, s=14, alpha=0.6, color=GRAY, lw=0)
        ax.plot([np.median(values)] * 2, [level - 0.38, level + 0.38], color="black", lw=2.5)
    ax.axvline(0, color="black", lw=1)
    ax.set_yticks(range(len(kinds)), list(kinds.values())[::-1])
    ax.set_xlabel("change of the lead of a over b, in logits (black line: median)", fontsize=SIZE)
    ax.tick_params(labelsize=SIZE)
    ax.grid(axis="x", color="0.9")
    ax.set_axisbelow(True)
    fig.set_label(
        "A dot for each photo, pair, fill and size. Covering the reddest cells of the contrast mostly lowers the lead; "
        "covering the same shape elsewhere changes it in both directions; covering the bluest cells mostly raises it."
    )
    return fig


def forged(true: camlib.Explanation, twin: camlib.Explanation, target: str) -> Figure:
    """The map of one class from two networks that give the same answers, on one scale."""
    limit = max(true.largest([target]), twin.largest([target]))
    fig = Figure(figsize=(9, 4), layout="constrained", dpi=100)
    axes = fig.subplots(1, 3)
    _panel(axes[0], _window(true, true.photo), "what both networks saw")
    for ax, exp, name in zip(axes[1:], (true, twin), ("the network", "its twin"), strict=True):
        says = exp.prediction(target)
        _panel(ax, _window(exp, camlib.overlay(exp.photo, exp.heatmap(target), limit)), f"{name}: {says}")
    _bar(fig, limit, list(axes), UNIT, 0.6)
    fig.set_label(
        f"The cat's face, and the map of {target} from two networks, on one scale. The true map is red on the face. "
        "The twin's map is a cross from corner to corner. Both networks give the class the same probability."
    )
    return fig


def stretched(exp: camlib.Explanation, a: str, b: str) -> Figure:
    """Wrong on purpose: the two maps each stretched to 0..1 and subtracted, beside the true contrast."""
    one, other = exp.map(a), exp.map(b)
    low, high = (m - m.min() for m in (one, other))
    wrong, true = low / low.max() - high / high.max(), one - other
    fig = Figure(figsize=(10.5, 4.5), layout="constrained", dpi=100)
    axes = fig.subplots(1, 3)
    _panel(axes[0], _window(exp, exp.photo), "what the network saw")
    axes[0].set_title("what the network saw", fontsize=SIZE + 1)
    _board(axes[1], wrong, float(wrong.abs().max()), "wrong: stretched, then subtracted", 2)
    _board(axes[2], true, float(true.abs().max()), f"right: {a} against {b}", 0)
    for row, column in ((wrong > 0) != (true > 0)).nonzero().tolist():
        axes[1].add_patch(Rectangle((column - 0.45, row - 0.45), 0.9, 0.9, fill=False, edgecolor="black", lw=1.5))
    _plain_bar(fig, float(wrong.abs().max()), axes[1], "no unit")
    _plain_bar(fig, float(true.abs().max()), axes[2], UNIT)
    _plain_bar(fig, 1, axes[0], " ")
    fig.axes[-1].set_visible(False)  # it keeps the photo level with the grids
    fig.set_label(
        f"A cup of coffee and two grids of numbers. The difference of the stretched maps is negative in most cells, "
        f"for {b}, often by less than 0.05. Frames mark the cells with the wrong sign. The true contrast is mostly "
        f"red, and strongest on the coffee, for {a}."
    )
    return fig


def coat(exp: camlib.Explanation, result: dict[str, Any]) -> Figure:
    """From evidence/coat.json: the four regions on the cat, and what each says on the photo and on its variants."""
    original = result["variants"]["original"][0]
    others = [row for kind, rows in result["variants"].items() if kind != "original" for row in rows]
    fig = Figure(figsize=(11, 3.9), layout="constrained", dpi=100)
    left, right = fig.subplots(1, 2, width_ratios=(1, 1.25))
    _panel(left, exp.photo, "")
    left.set_title("coat (forehead and cheek) minus both eyes", fontsize=SIZE + 1)
    for name, (x0, y0, x1, y1) in result["regions"].items():
        left.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor="white", lw=2))
        beside = {"left eye": (x0 - 14, y0 - 5, "bottom"), "right eye": (x0, y1 + 6, "top")}  # not on the pupils
        x, y, side = beside.get(name, (x0 + 5, y0 + 5, "top"))
        left.text(x, y, name, color="white", fontsize=SIZE, va=side, backgroundcolor="#0009")
    names = [name for name in original if name != "lead"][::-1]
    for level, name in enumerate(names):
        spread = np.linspace(-0.28, 0.28, len(others))
        right.scatter([row[name] for row in others], level + spread, s=18, color=GRAY, alpha=0.7, lw=0)
        right.scatter(original[name], level, s=90, marker="D", color=RED, zorder=3)
    right.axvline(0, color="black", lw=1)
    right.set_yticks(range(len(names)), names)
    right.set_xlabel("for tiger cat  ←  logits per cell  →  for Egyptian cat", fontsize=SIZE)
    right.set_title("red: the photo; gray: its variants", fontsize=SIZE + 1)
    right.tick_params(labelsize=SIZE)
    fig.set_label(
        "Left: the cat with four boxes: each eye, the striped forehead, the left cheek. Right: a diamond for the photo "
        "and a dot for each variant. Coat minus eyes and the forehead lie on both sides of zero. The right eye lies on "
        "the side of Egyptian cat, the left eye nearly always on that of tiger cat."
    )
    return fig
