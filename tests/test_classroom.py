"""From the instructor's source to marks: handing out, handing in, nbgrader's autograder, the table and the feedback.

How many points an answer gets is tested in tests/exercises/, without nbgrader; here nbgrader itself must agree.
"""

import argparse
import contextlib
import copy
import csv
import importlib
import io
import json
import re
import zipfile
from pathlib import Path

import nbformat
import pytest

from tests.exercises.grading import SOLUTION, blank, complete, graded, read
from tools import address
from tools.classroom import course, restoring
from tools.classroom.__main__ import main
from tools.errors import ToolError

NAMES = course.exercises()
ROUND_TRIP = ("gap_weights",)  # in every run, like einsum_cam in test_exam.py; the others with pytest -m long
LIMITS = argparse.Namespace(jobs=2, seconds=180, cell_seconds=60, memory=6.0)


@pytest.fixture(scope="module")
def handed_out(tmp_path_factory):
    out = tmp_path_factory.mktemp("classroom")
    assert main(["classroom", "--out", str(out)]) == 0
    return out


def hand_in(folder: Path, student: str, exercise: str, released: Path, code: dict[str, str]) -> None:
    """What a student would send: the released notebook with this code in its cells."""
    notebook = copy.deepcopy(nbformat.read(released / exercise / f"{exercise}.ipynb", as_version=4))
    for cell in notebook.cells:
        mark = cell.metadata.get("nbgrader", {})
        if cell.cell_type == "code" and mark.get("solution") and mark["grade_id"] in code:
            cell.source = code[mark["grade_id"]]
        if cell.source.startswith("NAME = "):
            cell.source = f'NAME = "{student}"'
    (folder / student).mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / student / f"{exercise}.ipynb")


def solutions(exercise: str) -> dict[str, str]:
    return {
        c.metadata.nbgrader.grade_id: c.source
        for c in read(exercise).cells
        if c.cell_type == "code" and c.metadata.get("nbgrader", {}).get("solution")
    }


def rows(out: Path) -> dict[tuple[str, str], dict[str, str]]:
    with open(out / "grades.csv", newline="", encoding="utf-8-sig") as file:
        return {(row["student"], row["exercise"]): row for row in csv.DictReader(file)}


def points(row: dict[str, str]) -> dict[str, float]:
    return {cell: float(got) for cell, got in re.findall(r"(\w+) ([\d.]+)/", row["cells"])}


@pytest.mark.slow
@pytest.mark.parametrize("exercise", [n if n in ROUND_TRIP else pytest.param(n, marks=pytest.mark.long) for n in NAMES])
def test_generate_submit_autograde_feedback(exercise, handed_out, tmp_path):
    """Solution, blank form and a wrong answer: nbgrader gives what tests/exercises expects."""
    mistake = importlib.import_module(f"tests.exercises.test_{exercise}").WRONG[1]
    (cell, code), right = *mistake.code.items(), solutions(exercise)
    answers = {"right": right, "blank": {}, "mistaken": right | {cell: complete(right[cell], code)}}
    for student, answer in answers.items():
        hand_in(tmp_path / "in", student, exercise, handed_out / "student", answer)
    out = tmp_path / "out"
    assert main(["grade", f"SUBMISSIONS={tmp_path / 'in'}", "--out", str(out), "--jobs", "2"]) == 0
    found, full = rows(out), graded(exercise)
    assert {row["status"].split(";")[0] for row in found.values()} == {"graded"}
    assert points(found["right", exercise]) == full
    assert set(points(found["blank", exercise]).values()) == {0.0}
    assert points(found["mistaken", exercise]) == {k: v - mistake.loses.get(k, 0) for k, v in full.items()}
    assert found["mistaken", exercise]["name"] == "mistaken"
    for student in answers:
        page = (out / "feedback" / student / f"{exercise}.html").read_text(encoding="utf-8")
        assert re.search(rf"Score: {float(found[student, exercise]['points'])}", page)


HIDDEN = re.compile(r"(?m)^### BEGIN HIDDEN TESTS\n(?s:.*?)### END HIDDEN TESTS")


def lines_of(text: str) -> set[str]:
    return {line.strip() for line in text.splitlines() if line.strip()}


@pytest.mark.parametrize("exercise", NAMES)
def test_a_student_version_holds_no_solution(exercise, handed_out):
    released = nbformat.read(handed_out / "student" / exercise / f"{exercise}.ipynb", as_version=4)
    text = "\n".join(cell.source for cell in released.cells)
    assert not re.search(r"BEGIN|END SOLUTION|HIDDEN", text)
    source = "\n".join(cell.source for cell in read(exercise).cells)
    parts = SOLUTION.findall(source) + HIDDEN.findall(source)
    public = lines_of(HIDDEN.sub("", SOLUTION.sub("", source)))
    secret = lines_of("\n".join(found[0] for r in (SOLUTION, HIDDEN) for found in r.finditer(source))) - public
    assert len(parts) >= 6
    assert len(secret) > 20
    assert secret & lines_of(text) == set(), "lines of a solution or a hidden test"
    assert not any(cell.get("outputs") for cell in released.cells)


def test_what_is_handed_out(handed_out, tmp_path):
    with zipfile.ZipFile(handed_out / "exercises.zip") as bundle:
        names = set(bundle.namelist())
        assert not any(re.search(b"### (BEGIN|END)", bundle.read(name)) for name in names if name.endswith(".ipynb"))
    for name in NAMES:
        assert {f"{name}/{name}.ipynb", f"{name}/exercise.py", f"{name}/testing.py", f"{name}/photos/cat.jpg"} <= names
        released = nbformat.read(handed_out / "student" / name / f"{name}.ipynb", as_version=4)
        first = next(cell for cell in released.cells if cell.cell_type == "code")
        assert first.source == address.cell(course.EXERCISES / f"{name}.ipynb").source
        assert first.metadata.editable is first.metadata.deletable is False
        instructor = (handed_out / "instructor" / name / f"{name}.ipynb").read_bytes()
        assert instructor == (course.EXERCISES / f"{name}.ipynb").read_bytes()
    assert main(["classroom", "--only", "einsum_cam", "--out", str(tmp_path)]) == 0
    assert [path.name for path in (tmp_path / "student").iterdir()] == ["einsum_cam"]


HARM = {
    "hangs": "while True:\n    pass",
    "greedy": "hog = []\nwhile True:\n    hog.append(b'x' * 100_000_000)",
    "deletes": "import os, shutil\nfor place in ('.', '../../..', os.path.expanduser('~')):\n"
    "    shutil.rmtree(place, ignore_errors=True)",
}


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("hangs", "graded"),
        ("greedy", "stopped: more than 2.5 GB"),
        ("deletes", ("graded", "failed: it deleted")),  # its own files, in a sealed room; otherwise the grader's, too
    ],
)
def test_harm_costs_only_itself(kind, status, handed_out, tmp_path):
    """The test of a submission that ends its kernel is in test_exam.py."""
    right = solutions("einsum_cam")
    for student, answers in {"later": right, kind: right | {"class_map": HARM[kind]}}.items():
        hand_in(tmp_path / "in", student, "einsum_cam", handed_out / "student", answers)
    limits = ["--seconds", "120", "--cell-seconds", "20", "--memory", "2.5", "--jobs", "1"]
    ended = main(["grade", str(tmp_path / "in"), "--out", str(tmp_path / "out"), *limits])
    found = {student: row for (student, _), row in rows(tmp_path / "out").items()}
    assert ended == any(row["status"] != "graded" for row in found.values())
    assert points(found["later"]) == graded("einsum_cam"), "another submission lost nothing"
    assert (tmp_path / "out" / "feedback" / kind / "einsum_cam.html").stat().st_size > 200
    assert found[kind]["status"].startswith(status)
    lost = {"test_class_map"} if kind == "hangs" else set(graded("einsum_cam"))
    assert {cell for cell, got in points(found[kind]).items() if got == 0} == lost


# ---- notebooks that students or tools have bent; each holds the right solution


def at(notebook, cell: str) -> int:
    marks = [c.metadata.get("nbgrader", {}).get("grade_id") for c in notebook.cells]
    return marks.index(cell)


def code_cell(source: str):
    return nbformat.v4.new_code_cell(source)


def copied(cell, source: str):
    """What Copy and Paste make of a cell, with other code in it."""
    return nbformat.v4.new_code_cell(source, metadata=copy.deepcopy(cell.metadata))


def untouched(notebook):
    pass


def copied_answer(notebook):  # an old attempt above
    n = at(notebook, "class_map")
    notebook.cells.insert(n, copied(notebook.cells[n], "def class_map(features, weight, k):\n    return features[0]"))


def parked_below(notebook):  # an old attempt that the student put away at the end
    notebook.cells.append(copied(notebook.cells[at(notebook, "class_map")], "class_map = 0"))


def copied_test(notebook):
    n = at(notebook, "test_class_map")
    notebook.cells.insert(n, copied(notebook.cells[n], notebook.cells[n].source))


def no_metadata(notebook):
    for cell in notebook.cells:
        cell.metadata.pop("nbgrader", None)


def no_metadata_no_ids(notebook):
    no_metadata(notebook)
    for n, cell in enumerate(notebook.cells):
        cell.id = f"new-{n}"


def to_markdown(notebook):
    n = at(notebook, "all_maps")
    cell = notebook.cells[n]
    notebook.cells[n] = nbformat.v4.new_markdown_cell(cell.source, metadata=cell.metadata)


def deleted_test(notebook):
    del notebook.cells[at(notebook, "test_all_maps")]


def moved_test(notebook):
    notebook.cells.insert(3, notebook.cells.pop(at(notebook, "test_class_map")))


def answers_below_the_test(notebook):  # the one that counts moves up; the old attempt must not overrule it from below
    n = at(notebook, "class_map")
    cell = notebook.cells.pop(n)
    notebook.cells[n + 1 : n + 1] = [copied(cell, "class_map = 0"), cell]


def other_grade_id(notebook):
    notebook.cells[at(notebook, "class_map")].metadata.nbgrader.grade_id = "my_map"


def other_points(notebook):
    notebook.cells[at(notebook, "test_class_map")].metadata.nbgrader.points = 100
    notebook.cells[at(notebook, "setup")].metadata.nbgrader.locked = False


def edited_test(notebook):
    notebook.cells[at(notebook, "test_class_map")].source = "pass"


def no_cell_for_colab(notebook):
    del notebook.cells[at(notebook, "alone")]


def run_on_colab(notebook):
    cell = notebook.cells[at(notebook, "alone")]
    cell.source, cell.execution_count = cell.source.replace("cam-course", "course"), 1
    cell.outputs = [nbformat.v4.new_output("stream", text="env: GIT_TERMINAL_PROMPT=0\n")]


def merged_answers(notebook):
    n, m = at(notebook, "class_map"), at(notebook, "all_maps")
    notebook.cells[m].source = f"{notebook.cells[n].source}\n\n\n{notebook.cells[m].source}"
    del notebook.cells[n]


def no_name(notebook):
    notebook.cells = [cell for cell in notebook.cells if not cell.source.startswith("NAME = ")]


NO_CELL = (
    "no points for the answer {}, because its cell is not in the notebook: copy it from the notebook that was handed "
    "out, and hand in again"
)
LOST = "the cell setup, the answer class_map, the test cell test_class_map and 7 more had lost the grade_id, "
BENT = {
    untouched: "",
    no_cell_for_colab: "",
    run_on_colab: "",
    copied_answer: "the answer class_map stood twice, the last was graded",
    parked_below: "the answer class_map stood twice, number 1 from the top was graded",
    copied_test: "the test cell test_class_map stood twice, counted once",
    no_metadata: f"{LOST}recognised by the cell id",
    no_metadata_no_ids: "the answer class_map, the answer all_maps, the answer deviation and 1 more had lost the "
    "grade_id, recognised by the function; the cell setup, the test cell test_class_map, the test cell test_all_maps "
    "and 3 more had lost the grade_id, recognised by the text",
    to_markdown: "the answer all_maps had become a markdown cell, turned back",
    deleted_test: "the test cell test_all_maps had been deleted, put back",
    moved_test: "the cells stood in another order, put back",
    answers_below_the_test: "the cells stood in another order, put back; "
    "the answer class_map stood twice, the last was graded",
    other_grade_id: "the answer class_map had lost the grade_id, recognised by the cell id",
    other_points: "the cell setup, the test cell test_class_map had other nbgrader settings, put back",
    edited_test: "the test cell test_class_map had been changed, put back",
    merged_answers: "the answer class_map stood in another cell, taken from there",
    no_name: "the cell for the name had been deleted, put back",
}


def solved(handed_out, exercise: str = "einsum_cam") -> tuple[nbformat.NotebookNode, nbformat.NotebookNode]:
    """The released notebook, and the same with the solutions in it."""
    path = handed_out / "student" / exercise / f"{exercise}.ipynb"
    released, notebook = (nbformat.read(path, as_version=4) for _ in range(2))
    for cell, source in solutions(exercise).items():
        notebook.cells[at(notebook, cell)].source = source
    return released, notebook


def passed(notebook) -> set[str]:
    """The graded cells that raise nothing, when all cells run in order and errors do not stop the rest."""
    names: dict[str, object] = {"__name__": "__main__"}
    good = set()
    for cell in notebook.cells:
        mark = cell.metadata.get("nbgrader", {})
        if cell.cell_type == "code":
            with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):
                exec(cell.source, names)
                good |= {mark["grade_id"]} if mark.get("grade") else set()
    return good


@pytest.mark.parametrize(("bend", "remark"), BENT.items(), ids=[bend.__name__ for bend in BENT])
def test_a_bent_notebook_is_restored(bend, remark, handed_out):
    released, notebook = solved(handed_out)
    bend(notebook)
    restored, remarks = restoring.restore(released, notebook)
    nbformat.validate(restored)
    assert remarks == ([f"repaired: {remark}"] if remark else [])
    nbgraders = [cell for cell in restored.cells if cell.metadata.get("nbgrader")]
    expected = [cell for cell in released.cells if cell.metadata.get("nbgrader")]
    assert [(c.cell_type, c.metadata) for c in nbgraders] == [(c.cell_type, c.metadata) for c in expected]
    locked = [(c.source, e.source) for c, e in zip(nbgraders, expected, strict=True) if e.metadata.nbgrader.locked]
    assert all(restored == released for restored, released in locked)
    assert passed(restored) == set(graded("einsum_cam"))


@pytest.mark.parametrize("exercise", NAMES)
def test_answers_are_recognised_without_any_metadata(exercise, handed_out):
    released, notebook = solved(handed_out, exercise)
    right = [cell.source for cell in notebook.cells]
    no_metadata_no_ids(notebook)
    restored, _ = restoring.restore(released, notebook)
    assert [c.source for c in restored.cells if c.metadata.get("nbgrader") or c.source.startswith("NAME = ")] == right


def test_what_a_student_wrote_into_a_locked_cell_still_runs(handed_out):
    released, notebook = solved(handed_out)
    notebook.cells[at(notebook, "setup")].source += "\nimport numpy as np"
    notebook.cells[
        at(notebook, "class_map")
    ].source = (
        "def class_map(features, weight, k):\n    return torch.from_numpy(np.einsum('chw,c->hw', features, weight[k]))"
    )
    restored, remarks = restoring.restore(released, notebook)
    assert remarks == ["repaired: the cell setup had been changed, put back"]
    assert passed(restored) == set(graded("einsum_cam"))


def test_a_report_keeps_its_pictures_and_cells(handed_out):
    released, notebook = solved(handed_out, "project")
    pictures = {"a.png": {"image/png": "AAAA"}}
    notebook.cells[at(notebook, "report_result")] |= {"source": "![](attachment:a.png)", "attachments": pictures}
    notebook.cells.insert(at(notebook, "report_question"), code_cell("my = 'figure'"))
    del notebook.cells[at(notebook, "report_limits")]
    restored, remarks = restoring.restore(released, notebook)
    assert restored.cells[at(restored, "report_result")].attachments == pictures
    assert restored.cells[at(restored, "report_question") - 1].source == "my = 'figure'"
    assert remarks == [NO_CELL.format("report_limits")]
    del notebook.cells[at(notebook, "report_question")]
    two = "the answer report_question, the answer report_limits, because their cells are not in the notebook: copy them"
    assert two in restoring.restore(released, notebook)[1][0]


def test_a_notebook_without_an_answer_is_not_graded(handed_out):
    released, _ = solved(handed_out)
    for notebook in (nbformat.v4.new_notebook(), solved(handed_out, "hooks")[1]):
        with pytest.raises(ToolError, match="none of the exercise's answers"):
            restoring.restore(released, notebook)


@pytest.mark.slow
def test_bent_notebooks_are_graded(handed_out, tmp_path):
    """nbgrader takes what restore makes, also where all is bent at once; what is lost has a reason in the status."""
    bent, lacking, empty = (solved(handed_out)[1] for _ in range(3))
    for bend in (copied_answer, copied_test, to_markdown, deleted_test, other_points, no_name):
        bend(bent)
    del lacking.cells[at(lacking, "class_map")]
    lacking.cells.insert(2, code_cell("abs = None"))
    empty.cells = empty.cells[:4]
    for student, notebook in {"bent": bent, "lacking": lacking, "empty": empty}.items():
        (tmp_path / "in" / student).mkdir(parents=True)
        nbformat.write(notebook, tmp_path / "in" / student / "einsum_cam.ipynb")
    limits = ["--cell-seconds", "120", "--jobs", "2"]
    assert main(["grade", str(tmp_path / "in"), "--out", str(tmp_path / "out"), *limits]) == 1
    found = {student: row for (student, _), row in rows(tmp_path / "out").items()}
    assert points(found["bent"]) == graded("einsum_cam")
    assert found["bent"]["status"].startswith("graded; repaired: ")
    lost = {"test_class_map"}  # and not the test that uses abs, which the student has overwritten
    assert points(found["lacking"]) == {k: 0.0 if k in lost else v for k, v in graded("einsum_cam").items()}
    assert found["lacking"]["status"] == f"graded; {NO_CELL.format('class_map')}"
    assert found["empty"]["status"].startswith("failed: none of the exercise's answers is in the notebook: ")


def test_a_file_that_is_no_notebook_gets_a_row_and_a_page(tmp_path):
    (tmp_path / "in" / "ada").mkdir(parents=True)
    (tmp_path / "in" / "ada" / "einsum_cam.ipynb").write_text("{")
    assert main(["grade", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 1
    (row,) = rows(tmp_path / "out").values()
    assert row["status"].startswith("failed: the file is not a whole notebook: ")
    assert (row["points"], row["of"]) == ("0", "10")
    assert "not a whole notebook" in (tmp_path / "out" / "feedback" / "ada" / "einsum_cam.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["grade", "nowhere"], "nowhere: no such folder"),
        (["grade", __file__], "is a file: unpack the archive"),
        (["grade", "."], "no submissions"),
        (["classroom", "--only", "nothing"], "No exercise 'nothing'"),
    ],
)
def test_errors_say_what_to_do(arguments, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert says in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_variants_differ_between_neighbours():
    import exercise

    found = [exercise.variant(f"student {n}") for n in range(60)]
    assert len({(v.photo, v.a, v.b) for v in found}) > 25
    assert {Path(v.photo).name for v in found} == set(exercise.CLASSES)
    assert all(v.a != v.b for v in found)
    assert len({v.seed for v in found}) == 60


def test_every_class_of_a_variant_is_known(clf):
    import exercise

    for labels in exercise.CLASSES.values():
        assert len({clf.index(label) for label in labels}) == len(labels)


def test_the_blank_form_is_what_nbgrader_makes(handed_out):
    """tests/exercises scores the blank form without nbgrader: it must be the same one."""
    for name in NAMES:
        released = nbformat.read(handed_out / "student" / name / f"{name}.ipynb", as_version=4)
        cells = {c.metadata.get("nbgrader", {}).get("grade_id"): c.source for c in released.cells}
        for cell, code in blank(name).items():
            assert cells[cell] == code, json.dumps([cells[cell], code])
