"""Hands exercises out and grades what comes back: `python3 run.py classroom` and `python3 run.py grade FOLDER`.

nbgrader does the work; around it stands what a teacher needs on the day: every submission is graded in a folder and a
process of its own, with limits on time and memory, so that one that hangs, crashes or deletes files costs only itself.
That is no sandbox: a submission runs with your rights and your network. Grade strangers' code in a container.
"""

import argparse
import contextlib
import csv
import html
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import nbformat
import psutil

if TYPE_CHECKING:
    from nbgrader.apps import NbGraderAPI  # takes a second

ROOT = Path(__file__).resolve().parent.parent
EXERCISES = ROOT / "notebooks" / "exercises"
HELPER = EXERCISES / "exercise.py"
SECONDS, CELL_SECONDS, GIGABYTES = 300, 30, 6.0
CELL_LIMIT = "CAMLIB_CELL_SECONDS"  # how the limit reaches the process that grades
COLUMNS = ("student", "exercise", "name", "status", "points", "of", "by hand", "cells")


FAILED = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>{0}: not graded</title>
<h1>{0}: no points</h1>
<p>The notebook could not be graded: {1}.</p>
<p>Restart the kernel, run all cells, and hand in what then runs from top to bottom.</p>
</html>
"""


class ClassroomError(Exception):
    """What a person can mend, said in one line."""


def exercises() -> list[str]:
    """Names of the exercises, each notebooks/exercises/NAME.ipynb."""
    return sorted(path.stem for path in EXERCISES.glob("*.ipynb"))


# ---- handing out


def make_course(folder: Path, names: Iterable[str]) -> None:
    """An nbgrader course: the instructor's sources, and student versions made of them."""
    helper = runpy.run_path(str(HELPER))
    for name in names:
        source = folder / "source" / name
        (source / "photos").mkdir(parents=True)
        shutil.copyfile(EXERCISES / f"{name}.ipynb", source / f"{name}.ipynb")
        shutil.copyfile(HELPER, source / HELPER.name)
        for photo in helper["CLASSES"]:
            shutil.copyfile(helper["photo_path"](photo), source / "photos" / photo)
        done = _api(folder).generate_assignment(name, force=True)
        if not done["success"]:
            raise ClassroomError(f"nbgrader could not make {name}:\n{done['log']}")


def _api(folder: Path) -> "NbGraderAPI":
    from nbgrader.apps import NbGraderAPI
    from traitlets.config import Config

    scripts = str(Path(sys.executable).parent)  # nbgrader calls alembic by its name
    if scripts not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = scripts + os.pathsep + os.environ.get("PATH", "")
    config = Config()
    config.CourseDirectory.root = str(folder)
    config.CourseDirectory.course_id = "camlib"
    config.ExecutePreprocessor.kernel_name = "python3"
    config.ExecutePreprocessor.timeout = int(os.environ.get(CELL_LIMIT, CELL_SECONDS))
    config.HTMLExporter.mathjax_url = config.HTMLExporter.require_js_url = config.HTMLExporter.jquery_url = ""
    return NbGraderAPI(config=config)


def hand_out(out: Path, names: list[str]) -> list[Path]:
    """Student and instructor versions, and a zip of the student versions for a course site."""
    with TemporaryDirectory() as temporary:
        course = Path(temporary)
        make_course(course, names)
        for kind, made in (("student", "release"), ("instructor", "source")):
            shutil.rmtree(out / kind, ignore_errors=True)
            shutil.copytree(course / made, out / kind)
    archive = out / "exercises.zip"
    with ZipFile(archive, "w", ZIP_DEFLATED) as bundle:
        for path in sorted((out / "student").rglob("*")):
            if path.is_file():
                entry = ZipInfo(path.relative_to(out / "student").as_posix(), date_time=(2020, 1, 1, 0, 0, 0))
                entry.compress_type, entry.external_attr = ZIP_DEFLATED, 0o644 << 16
                bundle.writestr(entry, path.read_bytes())
    return [out / "student", out / "instructor", archive]


# ---- taking in


@dataclass(frozen=True)
class Submission:
    student: str
    exercise: str
    file: Path


@dataclass
class Grade:
    """What one submission earned."""

    submission: Submission
    status: str = "graded"
    cells: dict[str, tuple[float, float]] = field(default_factory=dict)  # points and their maximum, machine-graded
    by_hand: float = 0  # points that a person still has to give
    name: str = ""  # as written in the notebook

    def row(self) -> dict[str, object]:
        points, of = (sum(pair[n] for pair in self.cells.values()) for n in (0, 1))
        cells = "; ".join(f"{cell} {got:g}/{most:g}" for cell, (got, most) in self.cells.items())
        found = (self.submission.student, self.submission.exercise, self.name, self.status)
        return dict(zip(COLUMNS, (*found, f"{points:g}", f"{of:g}", f"{self.by_hand:g}", cells), strict=True))


def find_submissions(folder: Path, known: Iterable[str]) -> tuple[list[Submission], list[Path]]:
    """Submissions below a folder, and notebooks that are none.

    Understood: STUDENT/EXERCISE.ipynb, STUDENT/…/EXERCISE.ipynb (nbgrader's own layout) and STUDENT_EXERCISE.ipynb.
    """
    known = sorted(known, key=len, reverse=True)
    found: dict[tuple[str, str], Submission] = {}
    strange = []
    for file in sorted(folder.rglob("*.ipynb")):
        inside = file.relative_to(folder)
        if any(part.startswith(".") for part in inside.parts) or not file.is_file():
            continue
        exercise = next((k for k in known if inside.stem == k or inside.stem.endswith(f"_{k}")), None)
        student = inside.parts[0] if len(inside.parts) > 1 else inside.stem.removesuffix(f"_{exercise}")
        if exercise is None or not student or (student, exercise) in found:
            strange.append(file)
        else:
            found[student, exercise] = Submission(student, exercise, file)
    return list(found.values()), strange


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
    grade = Grade(submission, name=_name(submission.file))
    target = out / "feedback" / submission.student / f"{submission.exercise}.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(submission.file, there / f"{submission.exercise}.ipynb")
        result = folder / "result.json"
        command = [sys.executable, str(Path(__file__).resolve()), "autograde", str(course), submission.exercise]
        grade.status = unreadable(submission.file) or _limited([*command, str(result)], home, limits)
        if grade.status == "graded":
            found = json.loads(result.read_text(encoding="utf-8"))
            grade.cells = {cell: (got, most) for cell, got, most in found["cells"]}
            grade.by_hand = found["by hand"]
            page = course / "feedback" / "student" / submission.exercise / f"{submission.exercise}.html"
            shutil.copyfile(page, target)
    except (OSError, ValueError, KeyError) as error:
        grade.status = f"failed: {error}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if grade.status != "graded":
        grade.cells = {cell: (0.0, most) for cell, most in machine_graded(submission.exercise).items()}
        target.write_text(
            FAILED.format(*(html.escape(v) for v in (submission.exercise, grade.status))), encoding="utf-8"
        )
    return grade


def unreadable(file: Path) -> str:
    """Why this is no notebook; empty where it is one."""
    try:
        nbformat.validate(nbformat.read(file, as_version=4))
    except Exception:  # nbformat and its readers raise many kinds
        return "failed: the file is not a whole notebook"
    return ""


def _limited(command: list[str], home: Path, limits: argparse.Namespace) -> str:
    """Run a command in a session of its own; kill all of it when it takes too long or too much. How it ended."""
    environment = os.environ | {"HOME": str(home), "OMP_NUM_THREADS": "1", "IPYTHONDIR": str(home / "ipython")}
    environment[CELL_LIMIT] = str(limits.cell_seconds)
    with open(home / "log", "wb") as log:
        process = subprocess.Popen(
            command, cwd=home, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    members: set[psutil.Process] = set()
    end = time.monotonic() + limits.seconds
    status = ""
    try:
        while process.poll() is None and not status:
            members |= _family(process.pid)
            if sum(_resident(member) for member in members) > limits.memory * 1e9:
                status = f"stopped: more than {limits.memory:g} GB of memory"
            elif time.monotonic() > end:
                status = f"stopped: longer than {limits.seconds:g} s"
            time.sleep(0.05)
    finally:  # the kernel has a session of its own, so the group alone is not enough
        members |= _family(process.pid)
        for member in members:
            with contextlib.suppress(psutil.Error):
                member.kill()
        process.wait()
    return status or ("graded" if process.returncode == 0 else f"failed: {_reason(home / 'log')}")


def _reason(log: Path) -> str:
    """Why grading failed, from what was printed."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "it deleted the grader's files"
    if "Kernel died" in text or "DeadKernelError" in text:
        return "it ended its own kernel"
    errors = re.findall(r"(?m)^\s*[\w.]*(?:Error|Exception): (?!Please see)(.+)$", text)
    return (errors or text.splitlines() or ["it ended the grader"])[-1][:200]


def _family(pid: int) -> set[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return {parent, *parent.children(recursive=True)}
    except psutil.Error:
        return set()


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def autograde(course: Path, exercise: str, result: Path) -> None:
    """The one submission in a course: nbgrader's autograder, its feedback page, and the points as JSON."""
    from nbgrader.api import Gradebook

    api = _api(course)
    for step in (api.autograde, api.generate_feedback):
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


def machine_graded(exercise: str) -> dict[str, float]:
    """The graded code cells of an exercise in their order, with their points."""
    notebook = nbformat.read(EXERCISES / f"{exercise}.ipynb", as_version=4)
    marked = [c.metadata.get("nbgrader", {}) for c in notebook.cells if c.cell_type == "code"]
    return {m["grade_id"]: float(m["points"]) for m in marked if m.get("grade")}


def _name(file: Path) -> str:
    """What the student wrote as NAME, for the teacher to see who has whose variant."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    found = re.search(r'NAME = (\\"|\')(.*?)\1', text)
    return found[2][:60] if found else ""


# ---- commands


def classroom(args: argparse.Namespace) -> int:
    for path in hand_out(args.out, _chosen(args.only)):
        print(path)
    return 0


def grade(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    folder = Path(args.submissions.removeprefix("SUBMISSIONS="))
    if not folder.is_dir():
        raise ClassroomError(f"{folder}: no such folder of submissions.")
    submissions, strange = find_submissions(folder, _chosen(args.only))
    if not submissions:
        raise ClassroomError(
            f"{folder}: no submissions. They are STUDENT/EXERCISE.ipynb or STUDENT_EXERCISE.ipynb, with the exercises "
            f"{', '.join(exercises())}."
        )
    args.out.mkdir(parents=True, exist_ok=True)
    failed = 0
    with open(args.out / "grades.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        for done in tqdm(grade_all(submissions, args.out, args), total=len(submissions), unit="submission"):
            table.writerow(done.row())
            file.flush()  # a row that is written stays, whatever comes
            failed += done.status != "graded"
    print(f"{len(submissions)} graded, {failed} of them with no points because they failed: {args.out / 'grades.csv'}")
    for path in strange:
        print(f"not graded, because its name is no exercise's, or there is another of it: {path}", file=sys.stderr)
    return 1 if failed or strange else 0


def _chosen(only: list[str] | None) -> list[str]:
    wrong = sorted(set(only or []) - set(exercises()))
    if wrong:
        raise ClassroomError(f"No exercise {wrong[0]!r}; there are {', '.join(exercises())}.")
    return only or exercises()


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = p.add_subparsers(required=True, metavar="COMMAND")
    give = commands.add_parser("classroom", help="student and instructor versions, and a zip for a course site")
    give.add_argument("--out", type=Path, default=Path("classroom"), help="folder to write (default classroom)")
    give.set_defaults(run=classroom)
    take = commands.add_parser("grade", help="grade a folder of submissions: a CSV, and a feedback page for each")
    take.add_argument("submissions", metavar="[SUBMISSIONS=]FOLDER", help="STUDENT/EXERCISE.ipynb, and other layouts")
    take.add_argument("--out", type=Path, default=Path("grades"), help="folder to write (default grades)")
    take.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1) // 2), help="at once (%(default)s)")
    take.add_argument("--seconds", type=float, default=SECONDS, help="for each submission (default %(default)s)")
    take.add_argument("--cell-seconds", type=int, default=CELL_SECONDS, help="for each cell (default %(default)s)")
    take.add_argument("--memory", type=float, default=GIGABYTES, help="GB for each submission (default %(default)s)")
    take.set_defaults(run=grade)
    for command in (give, take):
        command.add_argument("--only", action="append", metavar="EXERCISE", help="this one; repeat for more")
    return p


def main(arguments: list[str]) -> int:
    try:
        if arguments[:1] == ["autograde"]:
            autograde(Path(arguments[1]), arguments[2], Path(arguments[3]))
            return 0
        args = parser().parse_args(arguments)
        return int(args.run(args))
    except ClassroomError as error:
        print(f"classroom: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
