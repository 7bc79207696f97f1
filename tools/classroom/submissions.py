"""What students hand in: which file is whose and for which exercise, and how it is read."""

import ast
import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tools.classroom.course import EXERCISES
from tools.classroom.times import CANVAS, HandIn, handed_in
from tools.errors import ToolError

MOODLE_FILE = re.compile(r"(?P<student>.+_\d+)_assignsubmission_[a-z]+_?(?P<name>.*)")
CANVAS_FILES = (  # Canvas takes all but letters, digits and underscores from the name; `anon` where grading is blind
    re.compile(r"(?P<late>LATE_)?(?P<student>anon_[^_\W]+)_(?P<number>\d{3,})_(?P<name>.+)"),
    re.compile(r"(?P<who>\w+?)(?P<late>_LATE)?_(?P<id>\d+)_(?P<number>\d{3,})_(?P<name>.+)"),
)

MISNAMED = "note: its name is"
PACKED = "it is an archive: unpack it into a folder beside it and grade again, or ask for the .ipynb file itself"
SYSTEM = ("__MACOSX", "__pycache__")  # folders that no student made


@dataclass(frozen=True)
class Submission:
    """A notebook that a student handed in for an exercise."""

    student: str
    exercise: str
    file: Path
    when: HandIn = HandIn()
    remarks: tuple[str, ...] = ()  # what a teacher should know about how the file was found


@dataclass(frozen=True)
class Stray:
    """A file that cannot be graded, with the reason."""

    student: str
    file: Path
    reason: str


@dataclass(frozen=True)
class _Found:
    """A file, and what its name and its cells say."""

    file: Path
    student: str
    name: str  # without what Canvas and Moodle put before it, and without .ipynb
    late: bool | None = None  # Canvas's mark; None where the file is not from Canvas
    number: int = 0  # Canvas's number of the file: higher is newer
    cells: list[tuple[str, str]] = field(default_factory=list)  # grade_id and text; [] where it is no notebook


def find_submissions(folder: Path, known: Iterable[str]) -> tuple[list[Submission], list[Stray]]:
    """The newest submission of each student for each exercise below a folder, and what belongs to no exercise.

    Understood: STUDENT/EXERCISE.ipynb, STUDENT/…/EXERCISE.ipynb (nbgrader's own layout), STUDENT_EXERCISE.ipynb,
    and what Canvas and Moodle make of them. Renamed notebooks are recognised by the exercise in their name or their
    cells; names that differ only in case or in how accents are encoded are one student's.
    """
    known = sorted(known, key=len, reverse=True)
    attempts: dict[tuple[str, str], list[tuple[_Found, str, list[str]]]] = defaultdict(list)
    strays, others = [], []
    for found in _files(folder):
        if not found.cells and found.file.suffix.lower() != ".ipynb":
            others.append(found)
            continue
        exercise, student, remarks = _recognise(found, known)
        if found.file.is_symlink():  # it may lead to another student's work, or to the solutions
            reason = "it is a link, which is not followed; hand in the file itself"
            strays.append(Stray(found.student or student, found.file, reason))
            continue
        if exercise and student:
            attempts[same(student), exercise].append((found, student, remarks))
        elif exercise:
            reason = f"no student's name is in its name; rename it to STUDENT_{exercise}.ipynb"
            strays.append(Stray(found.student, found.file, reason))
        else:
            reason = "neither its name nor its cells are those of an exercise; hand it in as EXERCISE.ipynb"
            strays.append(Stray(found.student or student, found.file, reason))
    submissions = [_newest(folder, exercise, tries) for (_, exercise), tries in attempts.items()]
    strays += _without_notebook(others, known, submissions, strays)
    return sorted(submissions, key=lambda s: (s.student, s.exercise)), strays


def filed_before(course: Path, now: Iterable[Submission]) -> list[Submission]:
    """What other students handed in for the same exercises in earlier runs; nbgrader's course keeps it."""
    again = {(same(submission.student), submission.exercise) for submission in now}
    exercises = {exercise for _, exercise in again}
    files = sorted((course / "submitted").glob("*/*/*.ipynb"))
    found = [Submission(file.parts[-3], file.stem, file) for file in files if file.stem in exercises]
    return [submission for submission in found if (same(submission.student), submission.exercise) not in again]


def same(student: str) -> str:
    """One spelling for names that look alike: case, encoding of accents, spaces, zeros that a spreadsheet drops,
    characters that nobody sees, such as the marks of writing from right to left.
    """
    seen = "".join(c for c in unicodedata.normalize("NFKC", student) if unicodedata.category(c) != "Cf")
    alike = " ".join(seen.casefold().split())
    return alike.lstrip("0") if alike.isdigit() else alike


def _files(folder: Path) -> Iterator[_Found]:
    for file in sorted(folder.rglob("*")):
        inside = file.relative_to(folder).parts
        if any(part.startswith(".") or part in SYSTEM for part in inside) or not (file.is_file() or file.is_symlink()):
            continue
        stem = re.sub(r"(?i)(\.ipynb(\.\w+)?|\.\w+)$", "", file.name)
        student = next(iter(inside[1:-1] if inside[0] == "submitted" else inside[:-1]), "")
        late, number = None, 0
        for part in inside:  # Moodle's folder, or in older versions the beginning of the file's name
            if moodle := MOODLE_FILE.fullmatch(part):
                student = moodle["student"]
                stem = stem.removeprefix(moodle[0][: moodle.start("name")]) or stem
        # the file's own name, or that of a student's zip, which was unpacked into a folder beside it
        named = [file.name, *(part for part in inside[:1] if (folder / f"{part}.zip").is_file())]
        if canvas := next(filter(None, (way.fullmatch(part) for part in named for way in CANVAS_FILES)), None):
            parts = canvas.groupdict()
            student = parts.get("student") or f"{parts['who']}_{parts['id']}"
            if canvas.string == file.name:
                stem = re.sub(r"-\d+$", "", stem.removeprefix(file.name[: canvas.start("name")]))  # it counts attempts
            late, number = bool(parts["late"]), int(parts["number"])
        readable = ".ipynb" in file.name.lower() or file.suffix.lower() in ("", ".json", ".txt")
        cells = _cells(file) if readable and not file.is_symlink() else []
        yield _Found(file, student, stem, late, number, cells)


def _recognise(found: _Found, known: list[str]) -> tuple[str | None, str, list[str]]:
    """Exercise and student, and what is unusual about the file."""
    named = _named(found.name, known)
    by_name, before = (named[0], found.name[: named[1]].rstrip("_ -")) if named else (None, "")
    by_cells = _by_cells(found.cells, known)
    exercise = by_cells or by_name
    student = found.student or before or ("" if by_name else found.name)
    if exercise is None:
        return None, student, []
    shown = found.file.name
    if by_name and by_name != exercise:
        return exercise, student, [f"{MISNAMED} {shown!r}, but its cells are those of {exercise}"]
    if by_name is None:
        return exercise, student, [f"note: recognised by its cells, its name is {shown!r}"]
    whole = {exercise} if found.student else {f"{before}_{exercise}"}
    renamed = found.name not in whole | {f"{found.student}_{exercise}"} or found.file.suffix != ".ipynb"
    return exercise, student, [f"note: renamed, its name is {shown!r}"] if renamed else []


def _named(name: str, known: list[str]) -> tuple[str, int] | None:
    """The exercise in a file's name and where it begins; the longest, as one may be the end of another."""
    name = unicodedata.normalize("NFC", name)
    for exercise in known:
        words = r"[\s_-]+".join(map(re.escape, exercise.split("_")))
        if places := list(re.finditer(rf"(?i)(?:^|(?<=[\W_])){words}(?=$|[\W_\d])", name)):
            return exercise, places[-1].start()
    return None


def _by_cells(cells: list[tuple[str, str]], known: list[str]) -> str | None:
    """The exercise with most of its answers and tests in a notebook; by its functions where no grade_id is left."""
    ids = {grade_id for grade_id, _ in cells if grade_id}
    functions = set(re.findall(r"(?m)^def (\w+)\(", "\n".join(text for _, text in cells)))
    for names in (ids, functions):
        scores = {exercise: len(names & _own_cells(exercise)) for exercise in known}
        best = [exercise for exercise, score in scores.items() if score == max(scores.values()) > 0]
        if best:
            return best[0] if len(best) == 1 else None
    return None


@cache
def _own_cells(exercise: str) -> frozenset[str]:
    """Names of an exercise's answers and tests."""
    file = EXERCISES / f"{exercise}.ipynb"
    marks = [c.metadata.get("nbgrader", {}) for c in nbformat.read(file, as_version=4).cells] if file.is_file() else []
    return frozenset(mark["grade_id"] for mark in marks if mark.get("solution") or mark.get("grade"))


def _newest(folder: Path, exercise: str, tries: list[tuple[_Found, str, list[str]]]) -> Submission:
    """Of a student's attempts at an exercise the one handed in last; the others in its remarks."""

    def when(found: _Found) -> HandIn:
        return handed_in(found.file) if found.late is None else HandIn(None, CANVAS, found.late)

    def order(attempt: tuple[_Found, str, list[str]]) -> tuple[bool, float, int, int, str]:
        found = attempt[0]
        time = when(found).time
        copy = re.search(r"(\d+)\)?$", found.name)  # browsers and Canvas count: hooks (1), hooks-1
        counted = int(copy[1]) if copy else 0
        return bool(found.cells), time.timestamp() if time else 0.0, found.number, counted, str(found.file)

    *older, newest = sorted(tries, key=order)
    found, student, remarks = newest
    moment = when(found)
    remarks = list(remarks)
    spellings = sorted({name for _, name, _ in tries})
    if len(spellings) > 1:
        remarks.append(f"note: taken for one student: {', '.join(map(repr, spellings))}")
    if older:
        tied = moment == when(older[-1][0])
        how = "Canvas's numbers" if found.number else "the number in its name" if tied else moment.clock
        told = ", ".join(repr(str(other.file.relative_to(folder))) for other, _, _ in reversed(older))
        broken = any(order(other)[1:] > order(newest)[1:] for other in older)  # handed in later, and not whole
        what = "the newest whole notebook" if broken else "the newest"
        remarks.append(f"note: {what} of {len(tries)} attempts, by {how} (not graded: {told})")
    return Submission(student, exercise, found.file, moment, tuple(remarks))


def _without_notebook(
    others: list[_Found], known: list[str], submissions: list[Submission], strays: list[Stray]
) -> list[Stray]:
    """For files that are no notebooks: those named like an exercise, and one of each student who has nothing else."""
    handed = {(same(s.student), s.exercise) for s in submissions}
    students = {student for student, _ in handed} | {same(stray.student) for stray in strays}
    found = []
    for other in others:
        named = _named(other.name, known)
        student = other.student or (other.name[: named[1]].rstrip("_ -") if named else "")
        exercise = named[0] if named else ""
        alone = bool(other.student) and same(student) not in students
        if alone or (exercise and (same(student), exercise) not in handed):
            packed = other.file.suffix.lower() in (".zip", ".7z", ".rar", ".gz", ".tgz", ".tar")
            reason = PACKED if packed else "it is not a notebook; hand in the .ipynb file itself, not an export"
            found.append(Stray(student, other.file, reason))
            students.add(same(student))
    return found


def _text(file: Path) -> str:
    """A file's text, also as editors on Windows save it."""
    data = file.read_bytes()
    return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")


def _cells(file: Path) -> list[tuple[str, str]]:
    """grade_id and text of each cell; [] where the file is not a whole notebook."""
    try:
        notebook = nbformat.from_dict(json.loads(_text(file)))
        cells = notebook.get("cells") or [c for sheet in notebook.get("worksheets", []) for c in sheet["cells"]]
        marks = [cell.get("metadata", {}).get("nbgrader") for cell in cells]
        ids = [str(mark.get("grade_id", "")) if isinstance(mark, dict) else "" for mark in marks]
        return list(zip(ids, ("".join(cell.get("source", "")) for cell in cells), strict=True))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return []


def read_notebook(file: Path) -> NotebookNode:
    """A notebook of any version, as version 4; also one that an editor saved with a byte-order mark."""
    try:
        notebook = nbformat.reads(_text(file), as_version=4)
        nbformat.validate(notebook, relax_add_props=True)
    except Exception as error:  # nbformat and its readers raise many kinds
        size = file.stat().st_size if file.is_file() else 0
        what = "the file is not a whole notebook" if size else "the file is empty"
        raise ToolError(f"{what}: save it in Jupyter, open it once more, and hand it in again") from error
    return notebook


def name_given(notebook: NotebookNode) -> str:
    """What the student wrote as NAME, if it is a plain text."""
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.source.lstrip().startswith("NAME"):
            try:
                value = ast.literal_eval(cell.source.partition("=")[2].strip())
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                return ""
            return value if isinstance(value, str) else ""
    return ""
