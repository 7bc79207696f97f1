"""Grades submissions: each in a folder and a process of its own, by nbgrader's autograder, with a feedback page."""

import argparse
import html
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbformat import NotebookNode

from tools.classroom.album import bring
from tools.classroom.course import api, machine_graded, make_course
from tools.classroom.limits import limited
from tools.classroom.restoring import restore
from tools.classroom.room import Room, room_for
from tools.classroom.submissions import Submission, filed_before, name_given, read_notebook
from tools.classroom.suspicion import look_at
from tools.errors import ToolError

COLUMNS = ("student", "exercise", "name", "status", "points", "of", "by hand", "cells", "look at")

FAILED = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>{0}: not graded</title>
<h1>{0}: no points</h1>
<p>Your notebook could not be graded: {1}.</p>
<p>If your file opens in Jupyter, choose "Restart Kernel and Run All Cells…" in the menu Kernel. Fix what stops it,
save, and hand in the file again.</p>
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
    look: list[str] = field(default_factory=list)  # what a person should look at, before marks that count
    notebook: NotebookNode | None = None  # as handed in, with nbgrader's cells restored
    executed: bytes = b""  # the notebook with its outputs
    page: bytes = b""  # the feedback

    def row(self) -> dict[str, object]:
        points, of = (sum(pair[n] for pair in self.cells.values()) for n in (0, 1))
        cells = "; ".join(f"{cell} {got:g}/{most:g}" for cell, (got, most) in self.cells.items())
        found = (self.submission.student, self.submission.exercise, self.name, "; ".join([self.status, *self.remarks]))
        last = (f"{points:g}", f"{of:g}", f"{self.by_hand:g}", cells, "; ".join(self.look))
        return dict(zip(COLUMNS, (*found, *last), strict=True))


def grade_all(submissions: list[Submission], out: Path, limits: argparse.Namespace) -> Iterator[Grade]:
    """Grade each submission in a process of its own, several at a time."""
    with TemporaryDirectory() as courses, TemporaryDirectory() as rooms, ThreadPoolExecutor(limits.jobs) as pool:
        os.chmod(rooms, 0o711)  # another user may pass through, to a room of his own
        template = Path(courses) / "course"
        make_course(template, sorted({s.exercise for s in submissions}))
        room = room_for(out, *{s.file.parent for s in submissions})
        earlier = filed_before(out / "course", submissions)  # a latecomer may have copied from one of them
        look = look_at([*submissions, *earlier], {s.exercise: _released(template, s.exercise) for s in submissions})

        def one(numbered: tuple[int, Submission]) -> Grade:
            number, submission = numbered
            own = room.furnished(Path(rooms) / str(number), number)
            grade = _grade(submission, template, Path(courses) / str(number), own, limits)
            grade.look = look[submission] + grade.look
            return grade

        yield from pool.map(one, enumerate(submissions))


def _grade(submission: Submission, template: Path, folder: Path, room: Room, limits: argparse.Namespace) -> Grade:
    course, home = folder / "course", folder / "home"
    home.mkdir(parents=True)
    shutil.copytree(template, course)
    there = course / "submitted" / "student" / submission.exercise
    there.mkdir(parents=True)
    grade = Grade(submission, remarks=list(submission.remarks))
    try:
        file = f"{submission.exercise}.ipynb"
        released = _released(course, submission.exercise)
        handed_in = read_notebook(submission.file)
        grade.name = re.sub(r"[\s;]+", " ", name_given(handed_in))[:60]
        grade.notebook, repairs = restore(released, handed_in)
        grade.remarks += repairs
        nbformat.write(grade.notebook, there / file)
        grade.remarks += bring(submission, there)
        result = folder / "result.json"
        command = [sys.executable, str(Path(__file__).parents[1]), "autograde", str(course), submission.exercise]
        grade.status = limited([*command, str(result), json.dumps(asdict(room))], home, limits)
        if grade.status == "graded":
            found = json.loads(result.read_text(encoding="utf-8"))
            grade.cells = {cell: (got, most) for cell, got, most in found["cells"]}
            grade.by_hand = found["by hand"]
            grade.look += [f"replaced: {', '.join(found['replaced'])}"] if found["replaced"] else []
            grade.executed = (course / "autograded" / "student" / submission.exercise / file).read_bytes()
            page = course / "feedback" / "student" / submission.exercise / f"{submission.exercise}.html"
            grade.page = page.read_bytes()
    except (ToolError, OSError, ValueError, KeyError) as error:
        grade.status = f"failed: {error}"
    finally:
        for used in (folder, Path(room.own)):
            shutil.rmtree(used, ignore_errors=True)
    if grade.status != "graded":
        grade.cells = {cell: (0.0, most) for cell, most in machine_graded(submission.exercise).items()}
        why = grade.status.removeprefix("failed: ")
        grade.page = FAILED.format(*(html.escape(v) for v in (submission.exercise, why))).encode()
    return grade


def _released(course: Path, exercise: str) -> NotebookNode:
    return read_notebook(course / "release" / exercise / f"{exercise}.ipynb")


def autograde(course: Path, exercise: str, result: Path, room: Room) -> None:
    """The one submission in a course: nbgrader's autograder, its feedback page, and the points as JSON."""
    from nbgrader.api import Gradebook

    from tools.classroom.exam import configured

    notes = result.with_name("replaced.json")
    grader = api(course, configured(room, notes))
    for step in (grader.autograde, grader.generate_feedback):
        done = step(exercise, "student", force=True)
        if not done["success"]:
            raise ToolError(f"{done['log']}\n{done.get('error') or ''}".strip())
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        submission = book.find_submission(exercise, "student")
        grades = [grade for notebook in submission.notebooks for grade in notebook.grades]
        cells = [(g.name, g.score, g.max_score) for g in grades if g.cell.cell_type == "code"]
        by_hand = sum(g.max_score for g in grades if g.cell.cell_type != "code")
    order = list(machine_graded(exercise))
    found = {"cells": sorted(cells, key=lambda cell: order.index(cell[0])), "by hand": by_hand}
    found["replaced"] = json.loads(notes.read_text(encoding="utf-8"))
    result.write_text(json.dumps(found), encoding="utf-8")
