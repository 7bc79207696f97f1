"""What students hand in, as odd as it comes: each file is somebody's, for an exercise, or has a row with a reason."""

import json
import os
import re
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import nbformat
import pytest

from tests import test_classroom as bent
from tests.test_classroom import at, code_cell, handed_out, points, rows, solved  # noqa: F401
from tools.classroom import course, submissions
from tools.classroom.__main__ import main
from tools.classroom.times import CANVAS, HandIn
from tools.errors import ToolError

KNOWN = [*course.exercises(), "weights"]
ADA, DOE = "ada", "doejane_12345"


def cells(*ids: str) -> str:
    """A notebook with these grade_ids."""
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell("", metadata={"nbgrader": {"grade_id": name}}) for name in ids]
    return nbformat.writes(notebook)


def put(folder: Path, *places: str, text: str = "{}", time: float = 1e9) -> None:
    for place in places:
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(text, encoding="utf-8")
        os.utime(folder / place, (time, time))


@pytest.mark.parametrize(
    ("place", "student", "exercise", "remark"),
    [
        ("ada/hooks.ipynb", ADA, "hooks", ""),
        ("ada/hooks/hooks.ipynb", ADA, "hooks", ""),
        ("submitted/ada/hooks/hooks.ipynb", ADA, "hooks", ""),
        ("ada_hooks.ipynb", ADA, "hooks", ""),
        ("ada/ada_hooks.ipynb", ADA, "hooks", ""),
        ("alan_gap_weights.ipynb", "alan", "gap_weights", ""),
        ("ada/hooks (1).ipynb", ADA, "hooks", "renamed"),
        ("ada/Hooks.ipynb", ADA, "hooks", "renamed"),
        ("ada/hooks-1.ipynb", ADA, "hooks", "renamed"),
        ("ada/hooks2.ipynb", ADA, "hooks", "renamed"),
        ("ada/hooks-final-v2.ipynb", ADA, "hooks", "renamed"),
        ("ada/hooks-Copy1.ipynb", ADA, "hooks", "renamed"),
        ("ada/Grad CAM.ipynb", ADA, "grad_cam", "renamed"),
        ("ada/my hooks.ipynb", ADA, "hooks", "renamed"),
        ("ada_hooks (1).ipynb", ADA, "hooks", "renamed"),
        ("doejane_12345_678910_hooks.ipynb", DOE, "hooks", ""),
        ("doejane_LATE_12345_678910_hooks-1.ipynb", DOE, "hooks", ""),
        ("müllerzoë_12345_678910_grad_cam.ipynb", "müllerzoë_12345", "grad_cam", ""),
        ("anon_aB3dE_678910_hooks.ipynb", "anon_aB3dE", "hooks", ""),
        ("LATE_anon_aB3dE_678910_hooks.ipynb", "anon_aB3dE", "hooks", ""),
        ("Jane Doe_123456_assignsubmission_file_/hooks.ipynb", "Jane Doe_123456", "hooks", ""),
        ("Jane Doe_123456_assignsubmission_file/hooks.ipynb", "Jane Doe_123456", "hooks", ""),
        ("Jane Doe_123456_assignsubmission_file_hooks.ipynb", "Jane Doe_123456", "hooks", ""),
        ("Jane Doe_123456_assignsubmission_file_/a/hooks (2).ipynb", "Jane Doe_123456", "hooks", "renamed"),
    ],
)
def test_whose_a_file_is_and_for_what(place, student, exercise, remark, tmp_path):
    put(tmp_path, place)
    (found,), strays = submissions.find_submissions(tmp_path, KNOWN)
    assert (found.student, found.exercise, strays) == (student, exercise, [])
    assert list(found.remarks) == ([f"note: renamed, its name is {Path(place).name!r}"] if remark else [])
    assert found.when == (HandIn(None, CANVAS, "LATE" in place) if "678910" in place else found.when)


@pytest.mark.parametrize(
    ("place", "text", "exercise", "remark"),
    [
        ("ada/homework.ipynb", cells("class_map", "test_class_map"), "einsum_cam", "recognised by its cells"),
        (
            "ada/hooks.ipynb",
            cells("class_map", "test_class_map"),
            "einsum_cam",
            "but its cells are those of einsum_cam",
        ),
        ("ada/hooks.ipynb", cells("setup", "intro"), "hooks", ""),
        ("ada/hooks.ipynb.txt", cells("calls"), "hooks", "renamed"),
        ("ada/hooks.json", cells("calls"), "hooks", "renamed"),
        ("ada/hooks", cells("calls"), "hooks", "renamed"),
        ("ada/HOOKS.IPYNB", cells("calls"), "hooks", "renamed"),
    ],
)
def test_a_notebook_is_recognised_by_its_cells(place, text, exercise, remark, tmp_path):
    put(tmp_path, place, text=text)
    (found,), strays = submissions.find_submissions(tmp_path, KNOWN)
    assert (found.student, found.exercise, strays) == (ADA, exercise, [])
    assert remark in "".join(found.remarks)
    assert bool(remark) == bool(found.remarks)


def test_functions_tell_where_every_grade_id_is_lost(tmp_path):
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [code_cell("def class_map(f, w, k):\n    pass"), code_cell("def all_maps(f, w):\n    pass")]
    put(tmp_path, "ada/work.ipynb", text=nbformat.writes(notebook))
    (found,), _ = submissions.find_submissions(tmp_path, KNOWN)
    assert found.exercise == "einsum_cam"


@pytest.mark.parametrize(
    ("place", "student", "reason"),
    [
        ("ada/notes.ipynb", ADA, "neither its name nor its cells"),
        ("notes.ipynb", "notes", "neither its name nor its cells"),
        ("hooks.ipynb", "", "rename it to STUDENT_hooks.ipynb"),
        ("ada/hooks.zip", ADA, "it is an archive: unpack it"),
        ("ada/hooks.html", ADA, "it is not a notebook"),
        ("ada/homework.ZIP", ADA, "it is an archive: unpack it"),
        ("ada_hooks.py", ADA, "it is not a notebook"),
        ("doejane_12345_678910_hooks.pdf", DOE, "it is not a notebook"),
        ("Jane Doe_123456_assignsubmission_onlinetext_/onlinetext.html", "Jane Doe_123456", "it is not a notebook"),
    ],
)
def test_what_cannot_be_graded_has_a_reason(place, student, reason, tmp_path):
    put(tmp_path, place)
    found, (stray,) = submissions.find_submissions(tmp_path, KNOWN)
    assert (found, stray.student, stray.file) == ([], student, tmp_path / place)
    assert reason in stray.reason


def test_a_link_is_not_followed(tmp_path):
    put(tmp_path, "bob/hooks.ipynb", text=cells("calls"))
    for student, target in ((ADA, tmp_path / "bob/hooks.ipynb"), ("eve", tmp_path / "nothing")):
        (tmp_path / student).mkdir()
        (tmp_path / student / "hooks.ipynb").symlink_to(target)
    found, strays = submissions.find_submissions(tmp_path, KNOWN)
    assert [s.student for s in found] == ["bob"]
    assert [s.student for s in strays] == [ADA, "eve"]
    assert all("it is a link" in stray.reason for stray in strays)


def test_files_beside_a_notebook_and_those_of_systems_are_no_submissions(tmp_path):
    put(tmp_path, "ada/hooks.ipynb")
    for place in (
        "exercise.py",
        "photos/cat.jpg",
        "__MACOSX/._hooks.ipynb",
        ".ipynb_checkpoints/hooks.ipynb",
        "hooks.py",
    ):
        put(tmp_path, f"ada/{place}")
    put(tmp_path, "README.txt", "__MACOSX/ada/hooks.ipynb")
    found, strays = submissions.find_submissions(tmp_path, KNOWN)
    assert ([(s.student, s.exercise) for s in found], strays) == ([(ADA, "hooks")], [])


@pytest.mark.parametrize(
    ("older", "newer", "how"),
    [
        ("ada/hooks.ipynb", "ada/a/hooks.ipynb", "the file's date"),
        ("ada/hooks (1).ipynb", "ada/hooks.ipynb", "the file's date"),
        ("doejane_12345_678910_hooks.ipynb", "doejane_LATE_12345_678911_hooks-1.ipynb", "Canvas's numbers"),
        ("doejane_12345_99999_hooks-1.ipynb", "doejane_12345_100000_hooks.ipynb", "Canvas's numbers"),
    ],
)
def test_the_newest_attempt_counts_and_the_other_is_listed(older, newer, how, tmp_path):
    put(tmp_path, older, time=1e9)
    put(tmp_path, newer, time=1e9 + 60)
    (found,), strays = submissions.find_submissions(tmp_path, KNOWN)
    assert (found.file, strays) == (tmp_path / newer, [])
    assert found.remarks[-1] == f"note: the newest of 2 attempts, by {how} (not graded: {older!r})"


def test_of_attempts_with_one_date_the_number_decides(tmp_path):
    put(tmp_path, "ada/hooks.ipynb", "ada/hooks (10).ipynb", "ada/hooks (9).ipynb")
    (found,), _ = submissions.find_submissions(tmp_path, KNOWN)
    assert found.file.name == "hooks (10).ipynb"
    assert "by the number in its name (not graded: 'ada/hooks (9).ipynb', 'ada/hooks.ipynb')" in found.remarks[-1]


def test_a_broken_upload_does_not_hide_a_whole_notebook(tmp_path):
    put(tmp_path, "ada/hooks.ipynb", text=cells("calls"), time=1e9)
    put(tmp_path, "ada/hooks (1).ipynb", text="", time=2e9)
    (found,), _ = submissions.find_submissions(tmp_path, KNOWN)
    assert found.file.name == "hooks.ipynb"
    assert found.remarks == (
        "note: the newest whole notebook of 2 attempts, by the file's date (not graded: 'ada/hooks (1).ipynb')",
    )


@pytest.mark.parametrize("packed", [True, False])
def test_a_zip_unpacked_beside_itself_is_still_its_students(packed, tmp_path):
    folder = "doejane_LATE_12345_678910_homework"
    put(tmp_path, f"{folder}/homework/hooks.ipynb", *([f"{folder}.zip"] if packed else []))
    (found,), strays = submissions.find_submissions(tmp_path, KNOWN)
    assert (found.student, found.exercise, strays) == (DOE if packed else folder, "hooks", [])
    assert found.when.late == packed


def test_the_page_for_teachers_unpacks_the_zips_of_a_project(tmp_path):
    """By a command that runs on every system; the album stays beside its notebook."""
    page = (course.ROOT / "notebooks/instructor/marks.md").read_text(encoding="utf-8")
    (command,) = re.findall(r'(?m)^python3 -c "(.*extractall.*)"$', page)
    moodle = tmp_path / "Jane Doe_123456_assignsubmission_file_"
    moodle.mkdir()
    for archive in (moodle / "project.zip", tmp_path / "ngal_LATE_12346_678911_my_work.zip", tmp_path / "ada.zip"):
        with ZipFile(archive, "w") as bundle:
            bundle.writestr("project/project.ipynb", cells("load_album"))
            bundle.writestr("project/album/boxes.json", "[]")
    subprocess.run([sys.executable, "-c", command.replace("FOLDER", tmp_path.as_posix())], check=True)
    found, strays = submissions.find_submissions(tmp_path, KNOWN)
    assert [s.student for s in found] == ["Jane Doe_123456", "ada", "ngal_12346"]
    assert strays == [] and all((s.file.parent / "album" / "boxes.json").is_file() for s in found)


def test_a_timestamp_is_surer_than_the_files_date(tmp_path):
    put(tmp_path, "ada/first/hooks.ipynb", time=2e9)
    put(tmp_path, "ada/first/timestamp.txt", text="2026-01-01 10:00:00 UTC")
    put(tmp_path, "ada/second/hooks.ipynb", time=1e9)
    put(tmp_path, "ada/second/timestamp.txt", text="2026-01-02 10:00:00 UTC")
    (found,), _ = submissions.find_submissions(tmp_path, KNOWN)
    assert found.file.parent.name == "second"


@pytest.mark.parametrize(
    ("one", "other"), [("Ada", "ada"), ("Zoë", unicodedata.normalize("NFD", "Zoë")), ("Jane Doe", "jane  doe")]
)
def test_names_that_look_alike_are_one_students(one, other, tmp_path):
    put(tmp_path, f"{one}/hooks.ipynb", time=1e9)
    put(tmp_path, f"{other}/hooks.ipynb", time=2e9)
    (found,), strays = submissions.find_submissions(tmp_path, KNOWN)
    assert (found.student, strays) == (other, [])
    assert f"note: taken for one student: {', '.join(map(repr, sorted([one, other])))}" in found.remarks


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_every_encoding_of_an_editor_is_read(encoding, tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[code_cell('NAME = "Zoë; =1+1"')])
    (tmp_path / "a.ipynb").write_text(nbformat.writes(notebook), encoding=encoding)
    assert submissions.read_notebook(tmp_path / "a.ipynb").cells == notebook.cells
    assert submissions.name_given(submissions.read_notebook(tmp_path / "a.ipynb")) == "Zoë; =1+1"


@pytest.mark.parametrize(("text", "says"), [("", "the file is empty"), ("{", "not a whole notebook")])
def test_what_is_no_notebook_says_so(text, says, tmp_path):
    put(tmp_path, "a.ipynb", text=text)
    with pytest.raises(ToolError, match=says):
        submissions.read_notebook(tmp_path / "a.ipynb")


# ---- thirty-five odd submissions through nbgrader, each with the right row

EX = "einsum_cam"
Notebook = nbformat.NotebookNode
FULL = course.machine_graded(EX)


def name(text: str) -> Callable[[Notebook], None]:
    def write(notebook: Notebook) -> None:
        notebook.cells[2].source = f"NAME = {text!r}"

    return write


def new_ids(notebook: Notebook) -> None:
    for n, cell in enumerate(notebook.cells):
        cell.id = f"other-{n}"


def added_cells(notebook: Notebook) -> None:
    notebook.cells.insert(3, code_cell("print(1)"))
    notebook.cells.append(code_cell("1 / 0"))


def other_kernel(notebook: Notebook) -> None:
    notebook.metadata.kernelspec = {"name": "ir", "display_name": "R", "language": "R"}


def stored_output(notebook: Notebook) -> None:
    output = nbformat.v4.new_output("stream", name="stdout", text="x" * 20_000_000)
    notebook.cells.append(code_cell("pass") | {"outputs": [output]})


def without(*ids: str) -> Callable[[Notebook], None]:
    def delete(notebook: Notebook) -> None:
        for cell in ids:
            del notebook.cells[at(notebook, cell)]

    return delete


def answer(text: str) -> Callable[[Notebook], None]:
    def write(notebook: Notebook) -> None:
        notebook.cells[at(notebook, "class_map")].source = text

    return write


def emptied(notebook: Notebook) -> None:
    notebook.cells = []


def nothing(notebook: Notebook) -> None:
    pass


def old_format(notebook: Notebook) -> None:
    notebook.nbformat_minor = 4
    for cell in notebook.cells:
        cell.pop("id")


RIGHT = sum(FULL.values())
NO_MAP = RIGHT - FULL["test_class_map"]  # of the function, no other answer needs it
ODD: dict[str, tuple[Callable[[Notebook], None], float, str]] = {  # file -> what was done to it, points, status
    "good/einsum_cam.ipynb": (nothing, RIGHT, r"graded"),
    "new ids/einsum_cam.ipynb": (new_ids, RIGHT, r"graded"),
    "old format/einsum_cam.ipynb": (old_format, RIGHT, r"graded"),
    "added/einsum_cam.ipynb": (added_cells, RIGHT, r"graded"),
    "other kernel/einsum_cam.ipynb": (other_kernel, RIGHT, r"graded"),
    "Zoë Müller/einsum_cam.ipynb": (name("Zoë"), RIGHT, r"graded"),
    "script/einsum_cam.ipynb": (name("<script>alert(1)</script>"), RIGHT, r"graded"),
    "large/einsum_cam.ipynb": (stored_output, RIGHT, r"graded"),
    "=1+1/einsum_cam.ipynb": (name("=cmd|'/C calc'!A0"), RIGHT, r"graded"),
    "edited test/einsum_cam.ipynb": (bent.edited_test, RIGHT, r"graded; repaired: .*test_class_map had been changed.*"),
    "deleted test/einsum_cam.ipynb": (
        bent.deleted_test,
        RIGHT,
        r"graded; repaired: .*test_all_maps had been deleted.*",
    ),
    "deleted/einsum_cam.ipynb": (
        without("class_map"),
        NO_MAP,
        r"graded; no points for the answer class_map, because its cell is not in the notebook: copy it .*",
    ),
    "copied/einsum_cam.ipynb": (bent.copied_answer, RIGHT, r"graded; repaired: .*class_map stood twice, the last .*"),
    "copied test/einsum_cam.ipynb": (bent.copied_test, RIGHT, r"graded; repaired: .*stood twice, counted once"),
    "no metadata/einsum_cam.ipynb": (bent.no_metadata, RIGHT, r"graded; repaired: .*recognised by the cell id"),
    "no ids/einsum_cam.ipynb": (bent.no_metadata_no_ids, RIGHT, r"graded; repaired: .*recognised by the text"),
    "other id/einsum_cam.ipynb": (bent.other_grade_id, RIGHT, r"graded; repaired: .*class_map had lost the grade_id.*"),
    "other points/einsum_cam.ipynb": (
        bent.other_points,
        RIGHT,
        r"graded; repaired: .*other nbgrader settings, put back",
    ),
    "markdown/einsum_cam.ipynb": (bent.to_markdown, RIGHT, r"graded; repaired: .*become a markdown cell, turned back"),
    "moved/einsum_cam.ipynb": (bent.moved_test, RIGHT, r"graded; repaired: the cells stood in another order, put back"),
    "merged/einsum_cam.ipynb": (bent.merged_answers, RIGHT, r"graded; repaired: .*stood in another cell, .*"),
    "BOM/einsum_cam.ipynb": (nothing, RIGHT, r"graded"),
    "UTF-16/einsum_cam.ipynb": (nothing, RIGHT, r"graded"),
    "empty/einsum_cam.ipynb": (emptied, 0, r"failed: none of the exercise's answers is in the notebook: write them .*"),
    "bytes/einsum_cam.ipynb": (nothing, 0, r"failed: the file is empty: save it in Jupyter, .*"),
    "half/einsum_cam.ipynb": (nothing, 0, r"failed: the file is not a whole notebook: save it in Jupyter, .*"),
    "input/einsum_cam.ipynb": (answer("class_map = input()"), NO_MAP, r"graded"),
    "import/einsum_cam.ipynb": (answer("import tensorflow_of_mine"), NO_MAP, r"graded"),
    "browser/einsum_cam (1).ipynb": (nothing, RIGHT, r"graded; note: renamed, its name is 'einsum_cam \(1\)\.ipynb'"),
    "case/Einsum_CAM.ipynb": (nothing, RIGHT, r"graded; note: renamed, its name is 'Einsum_CAM\.ipynb'"),
    "final/einsum_cam-final-v2.ipynb": (nothing, RIGHT, r"graded; note: renamed, .*final-v2.*"),
    "by cells/homework.ipynb": (nothing, RIGHT, r"graded; note: recognised by its cells, .*'homework\.ipynb'"),
    "doejane_LATE_12345_678910_einsum_cam-1.ipynb": (nothing, RIGHT, r"graded"),
    "Jane Doe_123456_assignsubmission_file_/einsum_cam.ipynb": (nothing, RIGHT, r"graded"),
    "two/einsum_cam.ipynb": (
        nothing,
        RIGHT,
        r"graded; note: the newest of 2 attempts, .*'two/old/einsum_cam\.ipynb'\)",
    ),
    "other/notes.ipynb": (emptied, 0, r"not graded: neither its name nor its cells are those of an exercise; .*"),
    "packed/einsum_cam.zip": (nothing, 0, r"not graded: it is an archive: unpack it .*"),
}


def write_odd(folder: Path, released: Path) -> None:
    for place, (bend, _, _) in ODD.items():
        notebook = solved(released)[1]
        bend(notebook)
        text = json.dumps(notebook)
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding={"BOM": "utf-8-sig", "UTF-16": "utf-16"}.get(target.parent.name, "utf-8"))
    (folder / "bytes/einsum_cam.ipynb").write_bytes(b"")
    half = (folder / "half/einsum_cam.ipynb").read_text(encoding="utf-8")
    (folder / "half/einsum_cam.ipynb").write_text(half[: len(half) // 2], encoding="utf-8")
    put(folder, "two/old/einsum_cam.ipynb", time=1e9)
    for place in ("good/__MACOSX/._einsum_cam.ipynb", "good/.ipynb_checkpoints/einsum_cam-checkpoint.ipynb"):
        put(folder, place)


def test_there_are_thirty_five_odd_submissions(handed_out, tmp_path):  # noqa: F811
    """The quick half of the next test: each is found, with what its row will say about the file."""
    write_odd(tmp_path, handed_out)
    found, strays = submissions.find_submissions(tmp_path, KNOWN)
    assert len(found) + len(strays) == len(ODD) >= 35
    for submission in found:
        _, _, status = ODD[str(submission.file.relative_to(tmp_path))]
        assert submission.exercise == EX
        assert all(re.search(re.escape(remark[:14]), status) for remark in submission.remarks)


@pytest.mark.long
def test_thirty_five_odd_submissions(handed_out, tmp_path):  # noqa: F811
    write_odd(tmp_path / "in", handed_out)
    assert main(["grade", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--cell-seconds", "60"]) == 1
    found = {row["file"]: row for row in rows(tmp_path / "out").values()}
    assert set(found) == {f"'{place}" if place[0] == "=" else place for place in ODD}
    wrong = {}
    for place, (_, expected, status) in ODD.items():
        row = found[f"'{place}" if place[0] == "=" else place]
        if not re.fullmatch(status, row["status"]) or float(row["points"] or 0) != expected:
            wrong[place] = (row["status"], row["points"])
        assert not any(cell.startswith(tuple("=+-@\t\r")) for cell in row.values())
    assert wrong == {}
    assert found["Jane Doe_123456_assignsubmission_file_/einsum_cam.ipynb"]["student"] == "Jane Doe_123456"
    assert found["doejane_LATE_12345_678910_einsum_cam-1.ipynb"]["late"] == "LATE"
    script = (tmp_path / "out" / "feedback" / "script" / f"{EX}.html").read_text(encoding="utf-8")
    assert "<script>alert(1)" not in script
