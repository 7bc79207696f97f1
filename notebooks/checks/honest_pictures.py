"""Check of chapter 06's exercise: one zero-centred colour scale for several maps."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

PLAIN = [np.array([[1.0, -2.0], [3.0, 4.0]]), np.array([[-9.0, 5.0], [0.0, 2.0]])]
UNSEEN = [np.array([[np.nan, 2.0, -1.0]]), np.array([[np.nan, np.nan], [3.0, -7.0]])]
AGAINST = [np.array([[-6.0, -2.0]]), np.array([[-3.0, -1.0]])]


def shared_limit(function: Callable[[Sequence[np.ndarray]], Any]) -> str:
    """Chapter 06: the largest |value| of all maps, leaving out NaN."""
    try:
        got = function(PLAIN)
    except Exception as e:
        return f"Two maps of 2 × 2 cells, and your function raised {type(e).__name__}: {e}"
    if got is None:
        return "No answer yet: let shared_limit return one number."
    if np.ndim(got) > 0:
        return (
            f"For two maps it returns {np.shape(got)[0]} values. A limit per map is a scale per map, and colours "
            "that cannot be compared: return one number for all."
        )
    if not np.isclose(got, 9):
        return f"The values of {_list(PLAIN)} give {got}; {_why(float(got))}"
    try:
        got = function(UNSEEN)
    except ValueError as e:
        return f"Maps of two photos have different sizes (here 1 × 3 and 2 × 2): reduce each by itself first. ({e})"
    if got is None or np.isnan(got):
        return "NaN forgotten: outside the network's view a map is NaN, and one NaN makes your limit NaN."
    if not np.isclose(got, 7):
        return f"The values of {_list(UNSEEN)} give {got}; the largest |value| that is not NaN is 7."
    if not np.isclose(got := function(AGAINST), 6):
        return f"Two maps without a positive value, {_list(AGAINST)}, give {got}; the largest |value| is 6."
    return "Right: one limit for all maps, from both signs, without the pixels that the network never saw."


def _why(got: float) -> str:
    if got == 5:
        return "that is the maximum. Evidence against counts too: take the largest |value|."
    if got == -9:
        return "that is the minimum with its sign: take the largest |value|."
    if got == 14:
        return "that is maximum − minimum, the range of min-max. From -limit to limit, max |value| is enough."
    if got == 4:
        return "that is the first map's scale alone: all maps have a say."
    if got == 6.5:
        return "that is the mean of the two maps' limits: the second map would be cut off at the ends."
    return "the largest |value| of all of them is 9."


def _list(maps: Sequence[np.ndarray]) -> str:
    return " and ".join(str(m.tolist()) for m in maps)
