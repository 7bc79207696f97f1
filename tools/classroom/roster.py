"""The list of students that a course site exports, and who of them is who in the submissions."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tools.classroom.submissions import same
from tools.classroom.table import read_csv, unguarded
from tools.classroom.times import moodle_date
from tools.errors import ToolError

CANVAS_NAMES = (["Student"], ["LastName", "FirstName"])  # the latter where the course shows them apart
NO_STUDENT = re.compile(r"(?i)\s*(points possible|student, test\s*$|test student\s*$)")


@dataclass(frozen=True)
class Person:
    """A student of a roster."""

    student: str  # as Canvas or Moodle begin the names of this student's files
    name: str
    ids: frozenset[str]  # whatever else identifies the student: ids, logins, e-mail addresses
    cells: tuple[str, ...]  # the row of the roster
    handed_in: datetime | None = None  # by Moodle's worksheet, which is of one exercise


@dataclass(frozen=True)
class Roster:
    """A roster as it was read."""

    kind: str  # "canvas", "moodle" or "list"
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]  # all of them, also those that are no students
    people: tuple[Person, ...]

    def find(self, student: str) -> Person | None:
        """Who it is: by the name of the files, by an id or login, or by a name that only one student has."""
        wanted = same(student)
        for fits in (
            [p for p in self.people if same(p.student) == wanted],
            [p for p in self.people if wanted in p.ids],
            [p for p in self.people if _words(p.name) == _words(student) != ()],
            [p for p in self.people if same(re.sub(r".*_(?=\d+$)", "", wanted)) in p.ids],
        ):
            if len(fits) == 1:
                return fits[0]
        return None

    def column(self, *names: str) -> int:
        """The place of a column, whatever its case."""
        lower = [name.casefold() for name in self.header]
        for name in names:
            if name.casefold() in lower:
                return lower.index(name.casefold())
        raise ToolError(f"The roster has no column {names[0]!r}; it has {', '.join(self.header)}.")


def read_roster(path: Path) -> Roster:
    """A roster by Canvas (its exported gradebook), by Moodle (its grading worksheet), or with student, name, id."""
    if not path.is_file():
        raise ToolError(f"{path}: no such roster.")
    header, rows, _ = read_csv(path)
    header = [name.strip() for name in header]
    rows = [row + [""] * (len(header) - len(row)) for row in rows]
    if "Section" in header and (header[:1] in CANVAS_NAMES or header[:2] in CANVAS_NAMES):
        kind, person = "canvas", _of_canvas
    elif "Identifier" in header and "Full name" in header:
        kind, person = "moodle", _of_moodle
    elif "student" in [name.casefold() for name in header]:
        kind, person = "list", _of_list
    else:
        raise ToolError(
            f"{path}: neither a gradebook exported by Canvas (Student, ID, …), nor Moodle's grading worksheet in "
            f"English (Identifier, Full name, …), nor a list with a column 'student'. Its columns: {', '.join(header)}"
        )
    people = [person(dict(zip(header, row, strict=False)), row) for row in rows if not _no_student(kind, row)]
    return Roster(kind, tuple(header), tuple(map(tuple, rows)), tuple(people))


def _no_student(kind: str, row: list[str]) -> bool:
    """Canvas's rows for the points possible, for the test student, and for what is posted by hand."""
    return kind == "canvas" and bool(NO_STUDENT.match(row[0]) or not "".join(row[:2]).strip())


def _of_canvas(cells: dict[str, str], row: list[str]) -> Person:
    name = cells.get("Student") or f"{cells.get('LastName', '')}, {cells.get('FirstName', '')}"
    ids = [cells.get(n, "") for n in ("ID", "SIS User ID", "SIS Login ID", "Integration ID")]
    file = re.sub(r"\W", "", name.lower()) + "_" + cells.get("ID", "")
    return Person(file, name, _ids(ids), tuple(row))


def _of_moodle(cells: dict[str, str], row: list[str]) -> Person:
    number = re.sub(r"\D", "", cells["Identifier"])  # "Participant 123456"
    login = cells.get("Email address", "").partition("@")[0]
    ids = [number, cells.get("ID number", ""), cells.get("Email address", ""), cells.get("Username", ""), login]
    time = moodle_date(cells.get("Last modified (submission)", ""))
    return Person(f"{cells['Full name']}_{number}", cells["Full name"], _ids(ids), tuple(row), time)


def _of_list(cells: dict[str, str], row: list[str]) -> Person:
    lower = {name.casefold(): unguarded(value) for name, value in cells.items()}
    return Person(lower["student"], lower.get("name", ""), _ids([lower.get("id", "")]), tuple(row))


def _ids(values: Iterable[str]) -> frozenset[str]:
    return frozenset(same(value) for value in values if value.strip())


def _words(name: str) -> tuple[str, ...]:
    """The words of a name in any order: "Doe, Jane" is "Jane Doe"; Moodle puts a number behind it."""
    plain = unicodedata.normalize("NFKC", re.sub(r"_\d+$", "", name)).casefold()
    return tuple(sorted(re.findall(r"[^\W_]+", plain)))
