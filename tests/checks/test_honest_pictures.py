"""Chapter 06's check names the mistake, and its folded solution passes."""

import numpy as np
import pytest
from checks import honest_pictures as check

from tests.checks.solutions import run_solution


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda heats: None, "No answer yet"),
        (lambda heats: max(np.nanmax(h) for h in heats), "that is the maximum. Evidence against counts too"),
        (lambda heats: [np.nanmax(np.abs(h)) for h in heats], "A limit per map is a scale per map"),
        (lambda heats: np.array([np.nanmax(np.abs(h)) for h in heats]), "A limit per map is a scale per map"),
        (lambda heats: max(np.abs(h).max() for h in heats), "NaN forgotten"),
        (lambda heats: np.nanmax(np.abs(heats)), "reduce each by itself first"),
        (lambda heats: max(np.nanmax(h) for h in heats) - min(np.nanmin(h) for h in heats), "maximum − minimum"),
        (lambda heats: min(np.nanmin(h) for h in heats), "minimum with its sign"),
        (lambda heats: np.nanmax(np.abs(heats[0])), "first map's scale alone"),
        (lambda heats: np.mean([np.nanmax(np.abs(h)) for h in heats]), "mean of the two maps' limits"),
        (lambda heats: 1.0, "the largest |value| of all of them is 9"),
        (lambda heats: heats.max(), "raised AttributeError"),
        (lambda heats: max(np.nanmax(np.abs(h)) for h in heats), "Right"),
        (lambda heats: max(float(np.nan_to_num(np.abs(h)).max()) for h in heats), "Right"),
    ],
)
def test_shared_limit(answer, says):
    assert says in check.shared_limit(answer)


def test_only_positive_values_are_not_enough():
    def answer(heats):
        values = np.concatenate([h[~np.isnan(h)] for h in heats])
        return max(np.abs(values)) if (values > 0).any() else 1.0

    assert "without a positive value" in check.shared_limit(answer)


def test_solution_passes(capsys):
    assert "Right: one limit for all maps" in run_solution("06_honest_pictures", capsys, np=np, check=check)
