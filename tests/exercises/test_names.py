"""No mark depends on a student's name: hidden tests do not know it, and answers earn the same on every photo."""

import importlib
import re

import exercise
import pytest

from tests.exercises.grading import Answer, graded, read, score

FAIR = ("contrast", "evaluation", "every_network", "project", "transformers")
HIDDEN = re.compile(r"(?ms)^### BEGIN HIDDEN TESTS\n(.*?)### END HIDDEN TESTS")


def names() -> dict[str, str]:
    """One name for each photo."""
    found = {exercise.variant(f"student {n}").photo: f"student {n}" for n in range(200)}
    assert len(found) == len(exercise.CLASSES)
    return found


@pytest.mark.parametrize("name", FAIR)
def test_hidden_tests_do_not_know_the_name(name: str):
    hidden = [part for cell in read(name).cells for part in HIDDEN.findall(cell.source)]
    assert len(hidden) == len(graded(name))
    for part in hidden:
        assert not re.search(r"\b(mine|my_boxes|NAME)\b", part), part
        loose = re.findall(r"(?m)^(?!def |class |hidden\(\)|#|$| )(.+)", part)
        assert not loose, f"outside a function, where an answer could read it: {loose}"


def chosen(name: str) -> list[Answer]:
    """Answers to cells whose visible tests use the name: every fourth wrong one, every second right one."""
    table = importlib.import_module(f"tests.exercises.test_{name}")
    near: set[str] = set()
    answer = ""
    for cell in read(name).cells:
        mark = cell.metadata.get("nbgrader", {})
        answer = mark["grade_id"] if mark.get("solution") else answer
        near |= {answer} if mark.get("grade") and re.search(r"\b(mine|my_boxes)\b", cell.source) else set()
    wrong, right = ([a for a in answers if set(a.code) & near] for answers in (table.WRONG, table.RIGHT))
    return wrong[::4] + right[::2]


@pytest.mark.long
@pytest.mark.parametrize(("name", "answer"), [pytest.param(n, a, id=f"{n}: {a.what}") for n in FAIR for a in chosen(n)])
def test_an_answer_earns_the_same_under_every_name(name: str, answer: Answer):
    expected = {cell: points - answer.loses.get(cell, 0) for cell, points in graded(name).items()}
    for photo, student in names().items():
        assert score(name, answer.code, student) == expected, photo
