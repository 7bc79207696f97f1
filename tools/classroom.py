"""Hands exercises out and grades what comes back: `python3 run.py classroom` and `python3 run.py grade FOLDER`.

nbgrader does the work; around it stands what a teacher needs on the day: every submission is graded in a folder and a
process of its own, with limits on time and memory, so that one that hangs, crashes or deletes files costs only itself.
That is no sandbox: a submission runs with your rights and your network. Grade strangers' code in a container.

Before a notebook is graded, the cells that nbgrader needs are restored from the released exercise; the `status` column
of the table says what had to be repaired, and what could not be graded.
"""

import argparse
import ast
import builtins
import contextlib
import copy
import csv
import html
import json
import os
import re
import runpy
import shutil
import subprocess
import symtable
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import nbformat
import psutil
from nbformat import NotebookNode

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
    remarks: list[str] = field(default_factory=list)  # what was repaired, and what could not be graded

    def row(self) -> dict[str, object]:
        points, of = (sum(pair[n] for pair in self.cells.values()) for n in (0, 1))
        cells = "; ".join(f"{cell} {got:g}/{most:g}" for cell, (got, most) in self.cells.items())
        found = (self.submission.student, self.submission.exercise, self.name, "; ".join([self.status, *self.remarks]))
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
        handed_in = read_notebook(submission.file)
        file = f"{submission.exercise}.ipynb"
        released, source = (read_notebook(course / kind / submission.exercise / file) for kind in ("release", "source"))
        notebook, grade.remarks = restore(released, handed_in)
        nbformat.write(notebook, there / file)
        result = folder / "result.json"
        command = [sys.executable, str(Path(__file__).resolve()), "autograde", str(course), submission.exercise]
        grade.status = _limited([*command, str(result)], home, limits)
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


def read_notebook(file: Path) -> NotebookNode:
    """A notebook of any version, as version 4; also one that an editor saved with a byte-order mark."""
    try:
        notebook = nbformat.reads(file.read_text(encoding="utf-8-sig"), as_version=4)
        nbformat.validate(notebook, relax_add_props=True)
    except Exception as error:  # nbformat and its readers raise many kinds
        raise ClassroomError("the file is not a whole notebook") from error
    return notebook


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


# ---- restoring nbgrader's cells


def restore(released: NotebookNode, handed_in: NotebookNode) -> tuple[NotebookNode, list[str]]:
    """The released notebook with a student's answers and own cells in it, and remarks on what was repaired.

    nbgrader knows its cells by metadata, which students and tools copy, edit and lose. Here its cells, their order and
    their settings come from the released notebook, and the text of the answers from the student. Nothing that the
    student wrote is dropped: other copies of a cell, and what a locked cell had been changed to, become the student's
    own cells and run where they stood. Locked text is put back without a remark, because no point depends on it.

    Raises ClassroomError if no answer to the exercise is in the notebook.
    """
    ours, theirs = released.cells, handed_in.cells
    bent: dict[str, list[int]] = defaultdict(list)  # what had happened, to which released cells
    found = _recognise(ours, theirs, bent)
    if not any(_is_answer(ours[n]) and _mark(ours[n]) for n in found):
        raise ClassroomError("none of the exercise's answers is in the notebook")
    chosen = {n: _choose(n, found, ours, theirs) for n in found}
    own = _own_cells(ours, theirs, found, chosen, bent)
    restored, missing = copy.deepcopy(released), []
    for n, cell in enumerate(restored.cells):
        elsewhere = [other.source for other in theirs if _defines(other.source, _answer_name(cell))]
        if n in chosen and _is_answer(cell):
            _fill(cell, theirs[chosen[n]])
        elif n not in chosen and elsewhere:
            cell.source = elsewhere[-1]
            bent["stood in another cell, taken from there"].append(n)
        elif n not in chosen and _is_answer(cell) and _mark(cell):
            missing.append(n)
        elif n not in chosen:
            bent["had been deleted, put back"].append(n)
    restored.cells = own[-1] + [c for n, cell in enumerate(restored.cells) for c in (cell, *own[n])]

    graded = {n for n, cell in enumerate(ours) if cell.cell_type == "code" or _is_answer(cell)}
    order = [found[n][0] for n in sorted(graded & set(found))]
    repairs = ["the cells stood in another order, put back"] if order != sorted(order) else []
    repairs += [
        f"{_labels(told, ours)} {what}" for what, cells in bent.items() if (told := sorted(graded & set(cells)))
    ]
    remarks = [f"not graded, because no cell for it was found: {_labels(missing, ours)}"] if missing else []
    return restored, remarks + ([f"repaired: {'; '.join(repairs)}"] if repairs else [])


def _recognise(
    ours: list[NotebookNode], theirs: list[NotebookNode], bent: dict[str, list[int]]
) -> dict[int, list[int]]:
    """The student's cells that stand for each released cell, by the surest way that finds any."""
    texts = [cell.source for cell in ours]
    ways: dict[str, Callable[[NotebookNode, NotebookNode], bool]] = {
        "grade_id": lambda cell, other: bool(_mark(cell)) and _mark(other).get("grade_id") == _mark(cell)["grade_id"],
        "cell id": lambda cell, other: other.get("id") == cell.id,
        "function": lambda cell, other: _defines(other.source, _answer_name(cell)),
        "text": lambda cell, other: texts.count(cell.source) == 1 and _same(other.source, cell.source),
    }
    found: dict[int, list[int]] = {}
    for way, alike in ways.items():
        for n, cell in enumerate(ours):
            taken = {i for copies in found.values() for i in copies}
            copies = [i for i, other in enumerate(theirs) if i not in taken and alike(cell, other)]
            if n in found or not copies:
                continue
            found[n] = copies
            if way != "grade_id" and _mark(cell):
                bent[f"had lost the grade_id, recognised by the {way}"].append(n)
    return found


def _choose(n: int, found: dict[int, list[int]], ours: list[NotebookNode], theirs: list[NotebookNode]) -> int:
    """Of the copies of a cell the one that counts: of an answer, the last that runs before its test."""
    if not _is_answer(ours[n]):
        return found[n][0]
    test = next((found[m][0] for m in sorted(found) if m > n and _mark(ours[m]).get("grade")), len(theirs))
    usable = [i for i in found[n] if i < test] or found[n]
    return ([i for i in usable if theirs[i].cell_type == ours[n].cell_type] or usable)[-1]


def _own_cells(
    ours: list[NotebookNode],
    theirs: list[NotebookNode],
    found: dict[int, list[int]],
    chosen: dict[int, int],
    bent: dict[str, list[int]],
) -> dict[int, list[NotebookNode]]:
    """What stays of the student's other cells, by the released cell that stands above; -1 is the top."""
    own: dict[int, list[NotebookNode]] = {n: [] for n in range(-1, len(ours))}
    released_as = {i: n for n, i in chosen.items()}
    older = {i: n for n in found for i in found[n] if i < chosen[n]}  # copies, to run before the one that counts
    above = -1
    for i, cell in enumerate(theirs):
        if i not in released_as:
            own[min(above, older.get(i, len(ours)) - 1)].append(_own(cell))
            continue
        above = n = released_as[i]
        if len(found[n]) > 1:
            times = "twice" if len(found[n]) == 2 else f"{len(found[n])} times"
            last = "the last" if i == found[n][-1] else f"number {found[n].index(i) + 1} from the top"
            bent[f"stood {times}, " + (f"{last} was graded" if _is_answer(ours[n]) else "counted once")].append(n)
        if cell.cell_type != ours[n].cell_type:
            bent[f"had become a {cell.cell_type} cell, turned back"].append(n)
        if _mark(cell) and _settings(cell) != _settings(ours[n]):
            bent["had other nbgrader settings, put back"].append(n)
        if not _is_answer(ours[n]) and not _same(cell.source, ours[n].source):
            bent["had been changed, put back"].append(n)
            own[n - 1].append(_own(cell))
    return own


def _mark(cell: NotebookNode) -> dict[str, Any]:
    """nbgrader's metadata of a cell, {} where it has none."""
    mark = cell.metadata.get("nbgrader")
    return mark if isinstance(mark, dict) else {}


def _settings(cell: NotebookNode) -> dict[str, Any]:
    return {key: _mark(cell).get(key) for key in ("grade", "points", "locked", "solution", "task")}


def _is_answer(cell: NotebookNode) -> bool:
    """Whether a released cell is the student's to fill in: an answer, or the cell for the name."""
    return bool(_mark(cell).get("solution")) or not _mark(cell)


def _answer_name(cell: NotebookNode) -> str | None:
    """The function, or the variable, that a released cell for code asks for."""
    asked = re.search(r"(?m)^(?:def )?(\w+)(?:\(| = )", cell.source)
    return asked[1] if asked and _is_answer(cell) and cell.cell_type == "code" else None


def _defines(source: str, name: str | None) -> bool:
    return name is not None and bool(re.search(rf"(?m)^(?:(?:async )?def {name}\b|{name}\s*=[^=])", source))


def _same(one: str, other: str) -> bool:
    return [line.rstrip() for line in one.strip().splitlines()] == [x.rstrip() for x in other.strip().splitlines()]


def _own(cell: NotebookNode) -> NotebookNode:
    """A cell of the student's own, of which nbgrader knows nothing."""
    made: NotebookNode = getattr(nbformat.v4, f"new_{cell.cell_type}_cell")()
    _fill(made, cell)
    return made


def _fill(cell: NotebookNode, theirs: NotebookNode) -> None:
    """Put what the student wrote into a cell, with the pictures in it."""
    cell.source = theirs.source
    if cell.cell_type == "markdown" and "attachments" in theirs:
        cell.attachments = theirs.attachments


def _labels(numbers: list[int], cells: list[NotebookNode]) -> str:
    """Cells in words, the first three by name: "the answer class_map, the test cell test_class_map and 2 more"."""
    names = []
    for mark in (_mark(cells[n]) for n in numbers[:3]):
        kind = "answer" if mark.get("solution") else "test cell" if mark.get("grade") else "cell"
        names.append(f"the {kind} {mark.get('grade_id', 'for the name')}")
    return ", ".join(names) + (f" and {len(numbers) - 3} more" if len(numbers) > 3 else "")


def shadowed(source: NotebookNode, handed_in: NotebookNode) -> list[str]:
    """Names of Python or of the setup that the tests use, and that the student's own code sets."""
    code = [cell for cell in source.cells if cell.cell_type == "code" and _mark(cell).get("locked")]
    given = set(dir(builtins)).union(*(_top_names(cell.source) for cell in code if not _mark(cell).get("grade")))
    used = {node.id for cell in code for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Name)}
    others = [cell for cell in handed_in.cells if cell.cell_type == "code" and not _mark(cell).get("locked")]
    theirs = {cell.source for cell in others} - {cell.source for cell in code}
    found = sorted(given & used & set().union(*(_top_names(text, imports=False) for text in theirs)))
    return found + ["import *"] * any(re.search(r"(?m)^from .* import \*", text) for text in theirs)


def _top_names(source: str, imports: bool = True) -> set[str]:
    """Names that a cell sets, outside functions; none where it is no Python."""
    try:
        symbols = symtable.symtable(re.sub(r"(?m)^\s*[%!].*", "", source), "cell", "exec").get_symbols()
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    return {s.get_name() for s in symbols if s.is_assigned() or (imports and s.is_imported())}


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
    failed = repaired = 0
    with open(args.out / "grades.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        for done in tqdm(grade_all(submissions, args.out, args), total=len(submissions), unit="submission"):
            table.writerow(done.row())
            file.flush()  # a row that is written stays, whatever comes
            failed += done.status != "graded"
            repaired += bool(done.remarks)
    print(f"{len(submissions)} graded, {failed} of them with no points because they failed: {args.out / 'grades.csv'}")
    if repaired:
        print(f"{repaired} repaired, or not graded in full: the column 'status' says what and why")
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
