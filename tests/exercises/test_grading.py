"""Each exercise against its table of wrong and right answers, its blank form and its solution."""

import importlib
import re

import pytest

from tests.exercises.grading import SOLUTION, Answer, blank, concerned, graded, read, score
from tools.classroom.course import exercises

NAMES = exercises()
TABLES = {name: importlib.import_module(f"tests.exercises.test_{name}") for name in NAMES}
WRONG = [pytest.param(name, a, id=f"{name}: {a.what}") for name, table in TABLES.items() for a in table.WRONG]
RIGHT = [pytest.param(name, a, id=f"{name}: {a.what}") for name, table in TABLES.items() for a in table.RIGHT]


@pytest.mark.parametrize(("name", "answer"), [*WRONG, *RIGHT])
def test_an_answer_loses_exactly_its_points(name: str, answer: Answer):
    full = graded(name)
    assert set(answer.loses) <= set(full), "no such graded cell"
    cells = concerned(name, answer.code) | set(answer.loses)
    expected = {cell: full[cell] - answer.loses.get(cell, 0) for cell in cells}
    assert score(name, answer.code, only=cells) == expected


def test_there_are_enough_wrong_answers():
    assert len(WRONG) >= 60
    assert len({(p.values[0], str(p.values[1].code)) for p in WRONG}) == len(WRONG), "each is another one"
    for name, table in TABLES.items():
        tried = {cell for answer in table.WRONG for cell in answer.loses}
        assert tried == set(graded(name)), f"{name}: no wrong answer for {set(graded(name)) - tried}"
    print(f"{len(WRONG)} wrong answers, {len(RIGHT)} other right ones, {len(TABLES)} exercises")


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("student", ["Ada", "Grace Hopper", ""])
def test_the_solution_scores_full_marks_for_every_variant(name: str, student: str):
    assert score(name, {}, student) == graded(name)


@pytest.mark.parametrize("name", TABLES)
def test_the_blank_form_scores_zero(name: str):
    assert set(score(name, blank(name)).values()) == {0.0}


@pytest.mark.parametrize("name", NAMES)
def test_form(name: str):
    cells = read(name).cells
    first = cells[0].source
    assert first.startswith(("# Exercise: ", "# Project: "))
    for part in ("*Goals:*", "*You need:*", "*Time:*", "*Difficulty:*", "*Points:*"):
        assert part in first, f"{part} is missing"
    points = sum(c.metadata.get("nbgrader", {}).get("points", 0) for c in cells)
    assert f"*Points:* {points}" in first
    ids = [c.metadata.nbgrader.grade_id for c in cells if "nbgrader" in c.metadata]
    assert len(ids) == len(set(ids)), "nbgrader knows cells by these names"
    code = [c.source for c in cells if c.cell_type == "code"]
    assert sum(source.startswith('NAME = ""') for source in code) == 1
    assert not any(c.get("outputs") for c in cells), "the source holds no outputs"
    for cell in cells:
        mark = cell.metadata.get("nbgrader", {})
        if cell.cell_type == "code" and mark.get("solution"):
            assert SOLUTION.search(cell.source), f"{mark.grade_id}: no solution to take out"
        if cell.cell_type == "code" and mark.get("grade"):
            assert "### BEGIN HIDDEN TESTS" in cell.source, f"{mark.grade_id}: nothing hidden"
            visible = re.sub(r"(?s)### BEGIN HIDDEN TESTS.*?### END HIDDEN TESTS", "", cell.source)
            assert "assert" in visible, f"{mark.grade_id}: nothing that tells a student what is wrong"
