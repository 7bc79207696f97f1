"""A new chapter and a new exercise have the right form and work before anybody has filled them in."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest

from tests import test_chapters, test_instructor
from tests.checkout import checkout, environment_of
from tests.exercises import grading
from tools import new_chapter, notebooks, scaffold
from tools.classroom import course, exam
from tools.errors import ToolError

STEM = f"{len(notebooks.chapters()):02d}_brass_kettles"
CHAPTER, EXERCISE = f"notebooks/{STEM}.ipynb", "notebooks/exercises/tea_pots.ipynb"


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A course with a new chapter and a new exercise, and what both commands said."""
    folder = checkout(tmp_path_factory.mktemp("course"), None)
    said = {}
    for command in (
        ["new-chapter", "TITLE=Brass kettles", "QUESTION=Where is the kettle?"],
        ["new-exercise", "Tea pots"],
    ):
        done = call(folder, *command)
        assert done.returncode == 0, done.stderr
        said[command[0]] = done.stdout
    return folder, said


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "tools", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment_of(folder, PYTHONUTF8="1"), capture_output=True, encoding="utf-8"
    )


def module(path: Path, name: str):
    spec = importlib.util.spec_from_file_location(name, path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


# --- a chapter -------------------------------------------------------------------------------------------------------


def test_a_new_chapter_passes_what_is_asked_of_chapters(filled, monkeypatch):
    folder, _ = filled
    monkeypatch.chdir(folder)
    test_chapters.test_lesson_form(folder / CHAPTER)
    test_chapters.test_a_chapter_is_short_in_code_and_long_in_exercises(folder / CHAPTER)
    monkeypatch.setattr(test_chapters, "CHAPTERS", [*test_chapters.CHAPTERS, folder / CHAPTER])
    test_chapters.test_minutes_are_honest(folder / CHAPTER)
    page = folder / "notebooks" / "instructor" / f"{STEM}.md"
    test_instructor.test_the_form_of_a_page(page)
    test_instructor.test_links_lead_somewhere(page)


def test_a_new_chapter_is_entered_everywhere(filled):
    folder, said = filled
    entry = tomllib.loads((folder / "course.toml").read_text(encoding="utf-8"))["chapters"][-1]
    assert entry == {"file": Path(CHAPTER).name, "title": "Brass kettles", "question": "Where is the kettle?"}
    for name in ("README.md", "notebooks/00_first_heat_map.ipynb", "notebooks/instructor/README.md"):
        assert f"{STEM}." in (folder / name).read_text(encoding="utf-8"), name
    done = call(folder, "update", "--check")
    assert done.returncode == 0, done.stdout
    assert [
        name for name in re.findall(r"(?m)^(\S+/\S+)   ", said["new-chapter"]) if not (folder / name).is_file()
    ] == []


def test_a_new_chapters_checks_and_their_test_agree(filled, monkeypatch, capsys):
    folder, _ = filled
    monkeypatch.chdir(folder)
    check = module(folder / "notebooks" / "checks" / "brass_kettles.py", "checks.brass_kettles")
    monkeypatch.setitem(sys.modules, "checks.brass_kettles", check)
    monkeypatch.setattr("checks.brass_kettles", check, raising=False)
    tests = module(folder / "tests" / "checks" / "test_brass_kettles.py", "test_brass_kettles")
    assert len(tests.ANSWERS) == 3
    for exercise, answers in tests.ANSWERS.items():
        for function, says in answers:
            tests.test_a_check_names_the_mistake(exercise, function, says)
    tests.test_the_folded_solutions_are_right(capsys)


@pytest.mark.slow
def test_a_new_chapter_runs(filled):
    folder, _ = filled
    notebook = nbformat.read(folder / CHAPTER, as_version=4)
    notebooks.execute(notebook, folder / "notebooks")
    printed = "".join(o.get("text", "") for cell in notebooks.code_cells(notebook) for o in cell.outputs)
    assert printed.count("No answer yet") == 3, "an untouched exercise says what to do"


@pytest.mark.parametrize(
    ("title", "question", "says"),
    [
        ("Brass kettles", "Where is it", "end it with a question mark"),
        ("7 kettles", "Where are they?", "begin the title with a letter"),
        ("", "Where are they?", "begin the title with a letter"),
    ],
)
def test_what_cannot_be_a_chapter(title, question, says, monkeypatch):
    monkeypatch.setattr(new_chapter, "write_new", lambda files: pytest.fail(f"would write {[*files]}"))
    with pytest.raises(ToolError, match=says):
        new_chapter.make(title, question)


def test_a_chapter_that_is_there_stays_as_it_is(filled):
    folder, _ = filled
    before = (folder / "course.toml").read_bytes()
    done = call(folder, "new-chapter", "Brass kettles", "Where is it again?")
    assert done.returncode == 2 and "brass_kettles.py" in done.stderr and "Traceback" not in done.stderr
    assert (folder / "course.toml").read_bytes() == before


# --- an exercise -----------------------------------------------------------------------------------------------------


def test_a_new_exercise_loses_the_points_that_its_table_says(filled, monkeypatch):
    folder, _ = filled
    for owner in (course, exam, grading):
        monkeypatch.setattr(owner, "EXERCISES", folder / "notebooks" / "exercises")
    table = module(folder / "tests" / "exercises" / "test_tea_pots.py", "test_tea_pots")
    full = grading.graded("tea_pots")
    assert full == {"test_positive_part": 3, "test_logit_of": 2}
    assert grading.score("tea_pots", {}, "") == full
    assert set(grading.score("tea_pots", grading.blank("tea_pots")).values()) == {0.0}
    for answer in [*table.WRONG, *table.RIGHT]:
        expected = {cell: points - answer.loses.get(cell, 0) for cell, points in full.items()}
        assert grading.score("tea_pots", answer.code) == expected, answer.what
    assert {cell for answer in table.WRONG for cell in answer.loses} == set(full)


def test_a_new_exercise_passes_what_is_asked_of_exercises(filled, monkeypatch):
    from tests.exercises.test_grading import test_form

    folder, _ = filled
    for owner in (course, exam, grading):
        monkeypatch.setattr(owner, "EXERCISES", folder / "notebooks" / "exercises")
    monkeypatch.setattr(test_instructor, "EXERCISES", folder / "notebooks" / "exercises")
    test_form("tea_pots")
    test_instructor.test_a_page_on_a_graded_exercise(folder / "notebooks" / "instructor" / "graded" / "tea_pots.md")
    for name in ("marks.md", "syllabus.md"):
        assert "graded/tea_pots.md" in (folder / "notebooks" / "instructor" / name).read_text(encoding="utf-8")


# --- what both have in common ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_what_is_written_has_the_style_of_the_rest(filled, command):
    folder, said = filled
    written = re.findall(r"(?m)^(\S+\.(?:py|ipynb))   ", "".join(said.values()))
    assert {CHAPTER, EXERCISE, "tests/checks/test_brass_kettles.py", "tests/exercises/test_tea_pots.py"} <= {*written}
    for package in ("tests", "tests/checks"):  # by these, imports of the tests' own modules are told from others
        (folder / package / "__init__.py").touch()
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, *written], cwd=folder, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_argument_may_name_itself():
    assert scaffold.value("TITLE=A  = B") == scaffold.value("A = B") == "A = B"


def test_all_or_nothing_is_written(tmp_path):
    (tmp_path / "b").write_text("mine", encoding="utf-8")
    with pytest.raises(ToolError, match="b: there already"):
        scaffold.write_new({tmp_path / "a": b"new", tmp_path / "b": b"new"})
    assert not (tmp_path / "a").exists() and (tmp_path / "b").read_text(encoding="utf-8") == "mine"
