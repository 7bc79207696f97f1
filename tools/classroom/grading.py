"""Grades submissions: each in a folder and a process of its own, by nbgrader's autograder, with a feedback page."""

import argparse
import html
import json
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat

from tools.classroom.album import bring
from tools.classroom.course import ClassroomError, api, machine_graded, make_course
from tools.classroom.limits import limited
from tools.classroom.restoring import restore, shadowed
from tools.classroom.submissions import Submission, name_in, read_notebook

COLUMNS = ("student", "exercise", "name", "status", "points", "of", "by hand", "cells")

FAILED = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>{0}: not graded</title>
<h1>{0}: no points</h1>
<p>The notebook could not be graded: {1}.</p>
<p>Restart the kernel, run all cells, and hand in what then runs from top to bottom.</p>
</html>
"""


@dataclass
class Grade:
    """What one submission earned."""

    submission: Submission
    status: str = "graded"
    cells: dict[str, tuple[float, float]] = field(default_factory=dict)  # points and their maximum, machine-graded
    by_hand: float = 0  # points that a person still has to give
    name: str = ""  # as written in the notebook
    remarks: list[str] = field(default_factory=list)  # what was repaired, and what could not be graded

    def row(self) -> dict[str, object]:
        points, of = (sum(pair[n] for pair in self.cells.values()) for n in (0, 1))
        cells = "; ".join(f"{cell} {got:g}/{most:g}" for cell, (got, most) in self.cells.items())
        found = (self.submission.student, self.submission.exercise, self.name, "; ".join([self.status, *self.remarks]))
        return dict(zip(COLUMNS, (*found, f"{points:g}", f"{of:g}", f"{self.by_hand:g}", cells), strict=True))


def grade_all(submissions: list[Submission], out: Path, limits: argparse.Namespace) -> Iterator[Grade]:
    """Grade each submission in a process of its own, several at a time; write its feedback page."""
    with TemporaryDirectory() as temporary, ThreadPoolExecutor(limits.jobs) as pool:
        template = Path(temporary) / "course"
        make_course(template, sorted({s.exercise for s in submissions}))

        def one(numbered: tuple[int, Submission]) -> Grade:
            number, submission = numbered
            return _grade(submission, template, Path(temporary) / str(number), out, limits)

        yield from pool.map(one, enumerate(submissions))


def _grade(submission: Submission, template: Path, folder: Path, out: Path, limits: argparse.Namespace) -> Grade:
    course, home = folder / "course", folder / "home"
    home.mkdir(parents=True)
    shutil.copytree(template, course)
    there = course / "submitted" / "student" / submission.exercise
    there.mkdir(parents=True)
    grade = Grade(submission, name=name_in(submission.file))
    target = out / "feedback" / submission.student / f"{submission.exercise}.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        handed_in = read_notebook(submission.file)
        file = f"{submission.exercise}.ipynb"
        released, source = (read_notebook(course / kind / submission.exercise / file) for kind in ("release", "source"))
        notebook, grade.remarks = restore(released, handed_in)
        nbformat.write(notebook, there / file)
        grade.remarks += bring(submission, there)
        result = folder / "result.json"
        command = [sys.executable, str(Path(__file__).parent), "autograde", str(course), submission.exercise]
        grade.status = limited([*command, str(result)], home, limits)
        if grade.status == "graded":
            found = json.loads(result.read_text(encoding="utf-8"))
            grade.cells = {cell: (got, most) for cell, got, most in found["cells"]}
            grade.by_hand = found["by hand"]
            page = course / "feedback" / "student" / submission.exercise / f"{submission.exercise}.html"
            shutil.copyfile(page, target)
            names = shadowed(source, handed_in)
            if names and any(got < most for got, most in grade.cells.values()):
                hidden = ", ".join(names)
                grade.remarks.append(f"note: the student's code may hide names that the tests use: {hidden}")
    except (ClassroomError, OSError, ValueError, KeyError) as error:
        grade.status = f"failed: {error}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if grade.status != "graded":
        grade.cells = {cell: (0.0, most) for cell, most in machine_graded(submission.exercise).items()}
        target.write_text(
            FAILED.format(*(html.escape(v) for v in (submission.exercise, grade.status))), encoding="utf-8"
        )
    return grade


def autograde(course: Path, exercise: str, result: Path) -> None:
    """The one submission in a course: nbgrader's autograder, its feedback page, and the points as JSON."""
    from nbgrader.api import Gradebook

    grader = api(course)
    for step in (grader.autograde, grader.generate_feedback):
        done = step(exercise, "student", force=True)
        if not done["success"]:
            raise ClassroomError(f"{done['log']}\n{done.get('error') or ''}".strip())
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        submission = book.find_submission(exercise, "student")
        grades = [grade for notebook in submission.notebooks for grade in notebook.grades]
        cells = [(g.name, g.score, g.max_score) for g in grades if g.cell.cell_type == "code"]
        by_hand = sum(g.max_score for g in grades if g.cell.cell_type != "code")
    order = list(machine_graded(exercise))
    found = {"cells": sorted(cells, key=lambda cell: order.index(cell[0])), "by hand": by_hand}
    result.write_text(json.dumps(found), encoding="utf-8")
