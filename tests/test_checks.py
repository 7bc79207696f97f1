"""The checks of the exercises name the mistake, and the folded solutions pass."""

import importlib.util
import re
from pathlib import Path

import nbformat
import pytest

import camlib

NOTEBOOKS = Path("notebooks")


@pytest.fixture(scope="module")
def checks():
    spec = importlib.util.spec_from_file_location("checks", NOTEBOOKS / "checks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
def test_strongest_cell(checks, astronaut, answer, says):
    assert says in checks.strongest_cell(astronaut, "space shuttle", answer)


def test_solution_of_chapter_00_passes(checks, astronaut, clf, capsys, monkeypatch):
    notebook = nbformat.read(NOTEBOOKS / "00_first_heat_map.ipynb", as_version=4)
    (solution,) = (c.source for c in notebook.cells if "<summary>Solution" in c.source)
    (code,) = re.findall(r"```python\n(.*?)```", solution, re.S)
    monkeypatch.setattr(camlib, "show", lambda fig: None)
    exec(code, {"astronaut": astronaut, "checks": checks, "camlib": camlib})
    assert "Right: cell (1, 5)" in capsys.readouterr().out
