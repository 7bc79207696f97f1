"""The figures of chapter 12 and its deep dive."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

import camlib
from camlib.evaluate import energy_in_box
from camlib.plot import UNIT, mappable

SIZE = 11  # points of the smallest text
ALARM, CALM = "#f4a582", "#eef1f4"
HEADS = ("identity\nmissed by", "hooks\nleft", "red in\nthe box", "your pipeline\noff by")
LOOKS = {
    "patient 3": "The right map is an upright red region on the palace. The patient's map is transposed, and its red "
    "region reaches out of the box to the right.",
    "patient 5": "The right map ends where the crop ends and lies in the box. The patient's map is stretched over the "
    "whole photo and reaches out of the box to the left.",
}


def _panel(ax, picture: np.ndarray, title: str) -> None:
    ax.imshow(picture)
    ax.set_title(title, fontsize=SIZE + 1)
    ax.set_axis_off()


def _bar(fig: Figure, limit: float, axes, label: str) -> None:
    bar = fig.colorbar(mappable(limit), ax=axes, aspect=25, shrink=0.9)
    bar.set_label(label, fontsize=SIZE)
    bar.ax.tick_params(labelsize=SIZE)


def _frame(ax, box: Sequence[float]) -> None:
    left, top, right, bottom = box
    ax.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor="yellow", lw=2.5))


def ward(photo: np.ndarray, right: Tensor, patients: Sequence[Tensor]) -> Figure:
    """The right map and those of seven patients, each on a scale of its own."""
    fig = Figure(figsize=(11.2, 4.4), layout="constrained", dpi=100)
    names = ["the right map", *(f"patient {n}" for n in range(1, 1 + len(patients)))]
    for ax, heat, name in zip(fig.subplots(2, 4).flat, [right, *patients], names, strict=True):
        _panel(ax, camlib.overlay(photo, heat), name)
    fig.set_label(
        "Eight heat maps of a cup of espresso, the right one and those of seven patients. Patient 3 is reddest at the "
        "left of the cup; patient 5 is wider and colours the whole photo. The other five look like the right one."
    )
    return fig


def boxed(photo: np.ndarray, box: Sequence[float], right: Tensor, heat: Tensor, name: str) -> Figure:
    """The right map and a patient's on a photo with its box, on one scale, with the share of the red in the box."""
    maps = {"right": right, name: heat}
    limit = max(float(values.nan_to_num().abs().max()) for values in maps.values())
    fig = Figure(figsize=(9.7, 3.3), layout="constrained", dpi=100)
    axes = fig.subplots(1, 2)
    for ax, (title, values) in zip(axes, maps.items(), strict=True):
        _panel(ax, camlib.overlay(photo, values, limit), f"{title}: {energy_in_box(values, [box]):.2f} in the box")
        _frame(ax, box)
    _bar(fig, limit, list(axes), UNIT)
    fig.set_label(f"The palace with its box. {LOOKS[name]}")
    return fig


def chart(rows: Mapping[str, Sequence[float]], alarms: Mapping[str, Sequence[bool]]) -> Figure:
    """The readings as a table; alarms in colour and bold."""
    fig = Figure(figsize=(10, 5.4), layout="constrained", dpi=100)
    ax = fig.subplots()
    for i, (name, row) in enumerate(rows.items()):
        for j, (value, alarm) in enumerate(zip(row, alarms[name], strict=True)):
            ax.add_patch(Rectangle((j - 0.48, i - 0.46), 0.96, 0.92, color=ALARM if alarm else CALM))
            text = f"{value:.0f}" if HEADS[j].startswith("hooks") else f"{value:.2f}"
            ax.text(j, i, text, ha="center", va="center", fontsize=SIZE + 1, weight="bold" if alarm else "normal")
    ax.set_xticks(range(len(HEADS)), HEADS, fontsize=SIZE + 1)
    ax.set_yticks(range(len(rows)), list(rows), fontsize=SIZE + 1)
    ax.xaxis.tick_top()
    ax.set(xlim=(-0.5, len(HEADS) - 0.5), ylim=(len(rows) - 0.5, -0.5))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    tools = ("the identity", "the hook counter", "the box", "your own pipeline")
    named = {name: " ".join(name.split()) for name in rows}
    found = [", ".join(named[name] for name in rows if alarms[name][j]) for j in range(len(tools))]
    said = "; ".join(f"{tool} finds {names}" for tool, names in zip(tools, found, strict=True))
    silent = ", ".join(named[name] for name in rows if not any(alarms[name]))
    fig.set_label(f"A table of {len(rows)} listings and {len(tools)} instruments: {said}. No alarm: {silent}.")
    return fig


def phantom(photo: np.ndarray, heats: Mapping[str, Tensor], place: tuple[float, float]) -> Figure:
    """Two maps with one hot cell, and a cross where the middle of that cell lies."""
    fig = Figure(figsize=(4.4 * len(heats), 3.2), layout="constrained", dpi=100)
    for ax, (title, heat) in zip(np.atleast_1d(fig.subplots(1, len(heats))), heats.items(), strict=True):
        _panel(ax, camlib.overlay(photo, heat, 1), title)
        ax.plot(*place, "+", color="black", ms=16, mew=3)
    fig.set_label(
        "A red spot on the palace, twice, and a cross where the middle of the hot cell lies. On the left, the spot is "
        "centred on the cross; on the right, it lies a little to the left of it."
    )
    return fig


def beside(photos: Sequence[np.ndarray], heats: Sequence[Tensor], titles: Sequence[str]) -> Figure:
    """Patient 9 on two photos, each on its own scale."""
    fig = Figure(figsize=(10.6, 3.2), layout="constrained", dpi=100)
    for ax, photo, heat, title in zip(fig.subplots(1, len(photos)), photos, heats, titles, strict=True):
        limit = float(heat.nan_to_num().abs().max())
        _panel(ax, camlib.overlay(photo, heat, limit), title)
        _bar(fig, limit, ax, "own scale, per cell")
    fig.set_label(
        "Patient 9 on two photos. On the coffee it is red on the cup, with a little blue under it. On the palace, "
        "large patches of red and blue have little to do with the building."
    )
    return fig
