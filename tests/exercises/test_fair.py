"""No mark depends on a name: the hidden tests do not know it; every photo and class passes the visible ones."""

import copy
import re
from collections.abc import Callable

import pytest
from exercise import CLASSES, variant

from tests.exercises import grading
from tests.exercises.grading import Answer
from tests.exercises.test_grading import EACH, TABLES

EXERCISES = [name for name in TABLES if name != "project"]
HIDDEN = re.compile(r"(?s)### BEGIN HIDDEN TESTS\n(.*?)### END HIDDEN TESTS")
HANDING_IN = (
    "*Handing in:* restart the kernel, run all cells, save, and hand in this one file. "
    "Keep its name; if your browser adds a number, that is fine."
)


def visible_tests(exercise: str) -> dict[str, str]:
    sources = {c.metadata.get("nbgrader", {}).get("grade_id"): c.source for c in grading.read(exercise).cells}
    return {cell: sources[cell] for cell in grading.graded(exercise)}


def names_of_all(pairs: bool) -> dict[tuple[str, ...], str]:
    """A name for each photo and first class, or for each photo and pair of classes."""
    found: dict[tuple[str, ...], str] = {}
    for number in range(10_000):
        own = variant(f"student {number}")
        found.setdefault((own.photo, own.a, own.b) if pairs else (own.photo, own.a), f"student {number}")
    assert len(found) == sum(len(labels) * (len(labels) - 1 if pairs else 1) for labels in CLASSES.values())
    return found


@pytest.mark.parametrize("exercise", TABLES)
def test_hidden_tests_live_in_a_function_and_ask_nobody_by_name(exercise):
    for cell, source in visible_tests(exercise).items():
        (hidden,) = HIDDEN.findall(source)
        assert not re.search(r"\b(mine|my_boxes|NAME)\b", hidden), f"{cell} depends on the student"
        top = re.findall(r"(?m)^(?!def hidden|hidden|@torch.enable_grad|@by_hand|[ #\n]).+", hidden)
        assert top == [], f"{cell} leaves names that may give something away"


@pytest.mark.parametrize("exercise", EXERCISES)
def test_every_exercise_says_how_to_hand_in(exercise):
    assert HANDING_IN in grading.read(exercise).cells[0].source


def part(monkeypatch: pytest.MonkeyPatch, exercise: str, of: Callable[[str], str]) -> None:
    """Score only a part of each graded cell."""
    notebook = copy.deepcopy(grading.read(exercise))
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("grade"):
            cell.source = of(cell.source)
    monkeypatch.setattr(grading, "read", lambda name: notebook)


@pytest.mark.parametrize("exercise", EXERCISES)
@pytest.mark.parametrize("some", [slice(EACH), pytest.param(slice(EACH, None), marks=pytest.mark.long)], ids=str)
def test_every_photo_and_class_passes_the_visible_tests(exercise, some, monkeypatch):
    sources = {cell: source for cell, source in visible_tests(exercise).items() if "mine." in source}
    if not sources:
        pytest.skip("no test uses the student's photo or numbers")
    part(monkeypatch, exercise, lambda source: HIDDEN.sub("", source))
    names = names_of_all(pairs=any("mine.b" in source for source in sources.values()))
    for what in list(names)[some]:
        points = grading.score(exercise, {}, names[what], only=sources)
        assert points == {cell: grading.graded(exercise)[cell] for cell in sources}, what


@pytest.mark.long
@pytest.mark.parametrize("exercise", EXERCISES)
def test_hidden_tests_alone_take_the_points(exercise, monkeypatch):
    """Where the visible test uses the student's photo, no point may hang on it."""
    own = {cell for cell, source in visible_tests(exercise).items() if "mine." in source}
    part(monkeypatch, exercise, lambda source: HIDDEN.search(source)[1])
    for answer in TABLES[exercise].WRONG:
        if lost := own & set(answer.loses):
            assert grading.score(exercise, answer.code, only=lost) == dict.fromkeys(lost, 0.0), answer.what


def near_names(exercise: str) -> list[Answer]:
    """Answers to cells whose visible tests use the name: every fourth wrong one, every second right one."""
    near: set[str] = set()
    answer = ""
    for cell in grading.read(exercise).cells:
        mark = cell.metadata.get("nbgrader", {})
        answer = mark["grade_id"] if mark.get("solution") else answer
        near |= {answer} if mark.get("grade") and re.search(r"\b(mine|my_boxes)\b", cell.source) else set()
    table = TABLES[exercise]
    wrong, right = ([a for a in answers if set(a.code) & near] for answers in (table.WRONG, table.RIGHT))
    return wrong[::4] + right[::2]


@pytest.mark.long
@pytest.mark.parametrize(
    ("exercise", "answer"),
    [
        pytest.param(name, answer, id=f"{name}: {answer.what}")
        for name in ("contrast", "evaluation", "every_network", "project", "transformers")
        for answer in near_names(name)
    ],
)
def test_an_answer_earns_the_same_on_every_photo(exercise: str, answer: Answer):
    names = {variant(f"student {n}").photo: f"student {n}" for n in range(200)}
    assert len(names) == len(CLASSES)
    expected = {cell: points - answer.loses.get(cell, 0) for cell, points in grading.graded(exercise).items()}
    for photo, student in names.items():
        assert grading.score(exercise, answer.code, student) == expected, photo
