"""Strips of dots, one for each training: what chapters 08 and 10 draw from evidence/fc_trainings.json."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

SIZE = 11  # points of the smallest text
DOT, HERE = "0.45", "#b2182b"
NAMES = {
    "grad_cam": "Grad-CAM",
    "hires_cam": "HiResCAM",
    "grad_cam_plus_plus": "Grad-CAM++",
    "layer_cam": "LayerCAM",
    "xgrad_cam": "XGrad-CAM",
    "activity": "activity (no class)",
}


def rows(
    result: Mapping[str, Any], key: str, methods: Sequence[str] = tuple(NAMES), part: int | None = None
) -> dict[str, list[float]]:
    """From evidence/fc_trainings.json: for each method's name, the number of each training.

    key: "pointing", "other_class", "zeroed" or, with a part, "pairs": 0 for the right shape's box, 1 for the other's.
    """
    found = {method: [training[key][method] for training in result["trainings"]] for method in methods}
    return {NAMES[m]: values if part is None else [value[part] for value in values] for m, values in found.items()}


def strips(
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    here: Mapping[str, Mapping[str, float]] | None = None,
    lines: Mapping[str, tuple[float, str]] | None = None,
    limits: tuple[float, float] = (0, 1.04),
) -> Figure:
    """A panel for each title: a row of gray dots for each label, one dot for each training.

    here: the value of the network at hand, a red diamond, by title and label. lines: a dashed line in a panel, by
    title, with its name. limits: of all panels.
    """
    here, lines = here or {}, lines or {}
    most = max(len(strip) for strip in panels.values())
    fig = Figure(figsize=(10.5, 1.3 + 0.42 * most), layout="constrained", dpi=100)
    axes = np.atleast_1d(fig.subplots(1, len(panels), sharey=len({tuple(strip) for strip in panels.values()}) == 1))
    for ax, (title, strip) in zip(axes, panels.items(), strict=True):
        for level, (label, values) in enumerate(strip.items()):
            spread = 0.16 * np.tile([-1, 0, 1], len(values))[: len(values)]  # so that equal dots can be told apart
            ax.scatter(values, level + spread, s=30, color=DOT, alpha=0.65, lw=0)
            if label in here.get(title, {}):
                ax.scatter(here[title][label], level, marker="D", s=48, color=HERE, edgecolor="white", lw=0.8, zorder=3)
        if title in lines:
            ax.axvline(lines[title][0], color="0.3", ls="--", lw=1)
            ax.text(lines[title][0], -0.62, f" {lines[title][1]}", fontsize=SIZE, va="bottom")
        ax.set_yticks(range(len(strip)), list(strip))
        ax.set_ylim(len(strip) - 0.5, -0.95 if title in lines else -0.5)
        ax.set_xlim(*limits)
        if len(panels) > 2:
            ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        ax.set_title(title, fontsize=SIZE + 1)
        ax.tick_params(labelsize=SIZE)
        ax.grid(axis="x", color="0.9")
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    fig.set_label(" ".join(_in_words(title, strip) for title, strip in panels.items()))
    return fig


def _in_words(title: str, strip: Mapping[str, Sequence[float]]) -> str:
    count = len(next(iter(strip.values())))
    ranges = ", ".join(f"{label} {min(values):.2f} to {max(values):.2f}" for label, values in strip.items())
    return f"{title.replace(chr(10), ' ')}, a dot for each of {count} trainings: {ranges}.".replace("-0", "−0")
