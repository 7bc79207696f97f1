"""The gradebook that stays: an nbgrader course beside the table, in which a teacher marks by hand.

The graded process never sees it. What it made is filed here afterwards: the notebook with its outputs, and the points.
"""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
from filelock import FileLock, Timeout
from nbformat import NotebookNode

from tools.classroom.course import EXERCISES, make_course
from tools.classroom.grading import Grade
from tools.classroom.times import STAMP
from tools.errors import ToolError

if TYPE_CHECKING:
    from nbgrader.api import Gradebook  # takes a second

CONFIG = """import os

c = get_config()
c.CourseDirectory.course_id = "camlib"
c.CourseDirectory.root = os.path.dirname(os.path.abspath(__file__))
c.ExecutePreprocessor.kernel_name = "python3"
"""


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Keep other runs out of a folder of marks. On a disk that does not support locks, do nothing."""
    lock = FileLock(out / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ToolError(
            f"Another `grade` or `grades-export` is at work in {out}. Start this when it has ended."
        ) from None
    except (NotImplementedError, OSError):
        pass
    try:
        yield
    finally:
        lock.release()


def open_course(out: Path, exercises: Iterable[str]) -> Path:
    """The nbgrader course in a folder of marks, made or completed so that it holds these exercises as they are now."""
    course = (out / "course").resolve()
    for name in exercises:
        source = course / "source" / name
        file = source / f"{name}.ipynb"
        if file.is_file() and file.read_bytes() == (EXERCISES / file.name).read_bytes():
            continue
        shutil.rmtree(source, ignore_errors=True)
        try:
            make_course(course, [name])
        except ToolError as error:
            shutil.rmtree(source, ignore_errors=True)
            if "Cannot add or remove cells" not in str(error):
                raise
            raise ToolError(
                f"The exercise {name} has other cells than when it was graded into {out}, and nbgrader cannot change "
                "them once there are marks. Grade into another folder (--out)."
            ) from None
    course.mkdir(parents=True, exist_ok=True)
    (course / "nbgrader_config.py").write_text(CONFIG, encoding="utf-8")
    return course


def _open(course: Path) -> "Gradebook":
    from nbgrader.api import Gradebook

    return Gradebook(f"sqlite:///{course / 'gradebook.db'}", "camlib")


def set_due(course: Path, exercises: Iterable[str], due: datetime) -> None:
    with _open(course) as book:
        for name in exercises:
            book.update_or_create_assignment(name, duedate=due.astimezone(UTC).replace(tzinfo=None))


def due_before(course: Path, exercises: Iterable[str]) -> dict[str, datetime]:
    """When the exercises were due by earlier runs."""
    with _open(course) as book:
        return {a.name: a.duedate.replace(tzinfo=UTC) for a in book.assignments if a.duedate and a.name in exercises}


def file_grade(course: Path, grade: Grade, penalty: float) -> tuple[bool, bool]:
    """File a submission and its points. Whether it is another notebook than before, and whether points that were given
    in the formgrader are for that one.

    Points that a person gave stay. Where the notebook is another one than before, they are marked for another look.
    """
    submission, name = grade.submission, f"{grade.submission.exercise}.ipynb"
    submitted, autograded = (course / kind / submission.student / submission.exercise for kind in STEPS)
    before = nbformat.read(submitted / name, as_version=4) if (submitted / name).is_file() else None
    handed_in = nbformat.writes(grade.notebook).encode() if grade.notebook else b""
    time = submission.when.time and submission.when.time.astimezone(UTC).replace(microsecond=0)
    for folder, data in ((submitted, handed_in), (autograded, grade.executed or handed_in)):
        shutil.rmtree(folder, ignore_errors=True)
        if data:
            folder.mkdir(parents=True)
            (folder / name).write_bytes(data)
            if time:
                (folder / STAMP).write_text(
                    f"{time:%Y-%m-%d %H:%M:%S} UTC", encoding="utf-8"
                )  # the formgrader compares
    changed = _written(before) != _written(grade.notebook)
    answered = _answered(grade)
    with _open(course) as book:
        book.update_or_create_student(submission.student)
        stamp = time.replace(tzinfo=None) if time else None
        with book.db.no_autoflush:  # nbgrader's own code warns otherwise
            filed = book.update_or_create_submission(submission.exercise, submission.student, timestamp=stamp)
        again = False
        for notebook in filed.notebooks:
            for entry in notebook.grades:
                points, _ = grade.cells.get(entry.name, (None if entry.name in answered else 0.0, 0.0))
                given = entry.manual_score is not None or bool(entry.extra_credit)
                again |= given and changed
                entry.auto_score = points
                entry.needs_manual_grade = changed if given else points is None
            earned = sum(entry.score or 0.0 for entry in notebook.grades)
            notebook.late_submission_penalty = earned * penalty / 100
        book.db.commit()
    return changed, again


STEPS = ("submitted", "autograded")


def _written(notebook: NotebookNode | None) -> list[tuple[str, str, object]]:
    """What the student wrote, in answers and in cells of their own. The exercise's cells may have changed since."""
    own = [c for c in (notebook.cells if notebook else []) if not c.metadata.get("nbgrader", {}).get("locked")]
    return [(cell.cell_type, cell.source, cell.get("attachments")) for cell in own]


def _answered(grade: Grade) -> set[str]:
    """The cells for a person to mark in which the student wrote something."""
    from nbgrader.utils import determine_grade, is_grade

    cells = [cell for cell in (grade.notebook.cells if grade.notebook else []) if is_grade(cell)]
    return {c.metadata.nbgrader.grade_id for c in cells if c.cell_type != "code" and determine_grade(c)[0] is None}


def by_people(course: Path) -> dict[tuple[str, str], tuple[float, float]]:
    """What people did in the formgrader, by student and exercise: the points that they gave, or took from the
    machine's, and the points that are left to give."""
    if not (course / "gradebook.db").is_file():
        return {}
    found = {}
    with _open(course) as book:
        for assignment in book.assignments:
            for submission in assignment.submissions:
                grades = [grade for notebook in submission.notebooks for grade in notebook.grades]
                given = sum(
                    (grade.manual_score - (grade.auto_score or 0.0) if grade.manual_score is not None else 0.0)
                    + (grade.extra_credit or 0.0)
                    for grade in grades
                )
                left = sum(g.max_score for g in grades if g.auto_score is None and g.manual_score is None)
                found[submission.student.id, assignment.name] = (given, left)
    return found
