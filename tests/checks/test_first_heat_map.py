"""Chapter 00's check names the mistake, and its folded solution passes."""

import pytest
from checks import first_heat_map as check

import camlib
from tests.checks.solutions import run_solution


@pytest.fixture(scope="module")
def astronaut(clf):
    return camlib.explain(clf, "data/photos/astronaut.png")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, "No answer yet"),
        ((1, 5), "Right: cell (1, 5)"),
        ((5, 1), "that is (column, row)"),
        (12, "counts along the rows"),
        ("upper right", "pair (row, column)"),
        ((1, 9), "none of its cells"),
        ((0, 0), "there is a larger one"),
        ((5, 3), "strongest evidence *against*"),
    ],
)
def test_strongest_cell(astronaut, answer, says):
    assert says in check.strongest_cell(astronaut, "space shuttle", answer)


def test_solution_passes(astronaut, capsys, monkeypatch):
    monkeypatch.setattr(camlib, "show", lambda fig: None)
    assert "Right: cell (1, 5)" in run_solution(
        "00_first_heat_map", capsys, astronaut=astronaut, check=check, camlib=camlib
    )
