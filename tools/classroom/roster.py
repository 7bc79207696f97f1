"""The list of students that a course site exports, and who of them is who in the submissions."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import pairwise
from pathlib import Path

from tools.classroom.submissions import same
from tools.classroom.table import number, read_csv, respelled, unguarded
from tools.classroom.times import moodle_date
from tools.errors import ToolError

MOODLE_TIME = re.compile(r"-|.*\d[:.h]\d\d.*", re.S)  # in any language; "-" where there is none
CANVAS_NAMES = (["Student"], ["LastName", "FirstName"])  # the latter where the course shows them apart
TEST_STUDENT = re.compile(r"(?i)\s*(student,\s*test|test student)\s*")


@dataclass(frozen=True)
class Person:
    """A student of a roster."""

    student: str  # as Canvas or Moodle begin the names of this student's files
    name: str
    ids: frozenset[str]  # whatever else identifies the student: ids, logins, e-mail addresses
    cells: tuple[str, ...]  # the row of the roster
    handed_in: datetime | None = None  # by Moodle's worksheet, which is of one exercise


@dataclass(frozen=True)
class Worksheet:
    """The columns of Moodle's grading worksheet by number; None for a missing one. Column 0 has the identifiers."""

    name: int | None  # None if marking is blind
    grade: int
    most: int
    handed_in: int | None
    comments: int | None


@dataclass(frozen=True)
class Roster:
    """A roster as it was read."""

    kind: str  # "canvas", "moodle" or "list"
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]  # all of them, also those that are no students
    people: tuple[Person, ...]
    sheet: Worksheet | None = None  # if the roster is Moodle's

    def find(self, student: str) -> Person | None:
        """Who it is: by the name of the files, by an id or login, or by a name that only one student has."""
        wanted = same(respelled(student, [p.student for p in self.people]))
        digits = r"\d+" if self.kind == "moodle" else r"\d{3,}"  # elsewhere, few of them count files or teams
        for fits in (
            [p for p in self.people if same(p.student) == wanted],
            [p for p in self.people if wanted in p.ids],
            [p for p in self.people if _words(p.name) == _words(student) != ()],
            [p for p in self.people if same(re.sub(rf".*_(?={digits}$)", "", wanted)) in p.ids],
        ):
            if len(fits) == 1:
                return fits[0]
        return None


def read_roster(path: Path) -> Roster:
    """A roster by Canvas (its exported gradebook), by Moodle (its grading worksheet), or with student, name, id."""
    if not path.is_file():
        raise ToolError(f"{path}: no such roster.")
    header, rows, _ = read_csv(path)
    header = [name.strip() for name in header]
    rows = [row + [""] * (len(header) - len(row)) for row in rows]
    sheet = None
    if "Section" in header and (header[:1] in CANVAS_NAMES or header[:2] in CANVAS_NAMES):
        kind, person = "canvas", _of_canvas
    elif "student" in [name.casefold() for name in header]:
        kind, person = "list", _of_list
    elif (sheet := worksheet(header, rows)) is not None:
        kind, person = "moodle", partial(_of_moodle, sheet)
    else:
        raise ToolError(
            f"{path}: neither a gradebook exported by Canvas (Student, ID, …), nor the grading worksheet of a Moodle "
            f"assignment with points (Identifier, Full name, …), nor a list with a column 'student'. Its columns: "
            f"{', '.join(header)}"
        )
    people = [person(dict(zip(header, row, strict=False)), row) for row in rows]
    if kind == "canvas":  # without ids: its rows for the points possible and for what is posted by hand
        people = [someone for someone in people if someone.ids and not TEST_STUDENT.fullmatch(someone.name)]
    return Roster(kind, tuple(header), tuple(map(tuple, rows)), tuple(people), sheet)


def _of_canvas(cells: dict[str, str], row: list[str]) -> Person:
    name = cells.get("Student") or f"{cells.get('LastName', '')}, {cells.get('FirstName', '')}"
    ids = [cells.get(n, "") for n in ("ID", "SIS User ID", "SIS Login ID", "Integration ID")]
    file = re.sub(r"\W", "", name.lower()) + "_" + cells.get("ID", "")
    return Person(file, name, _ids(ids), tuple(row))


def worksheet(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Worksheet | None:
    """The columns of Moodle's grading worksheet in any language; None if this is not such a worksheet.

    In this order: identifiers ("Participant 123456"), names and more about the person, the grade, its maximum, whether
    the grade can be changed, the time of the submission, its text, the time of the grade, and comments.
    """
    columns = list(zip(*rows, strict=False))
    prefixes = {re.sub(r"\d+$", "", cell) for cell in columns[0]} if columns else set()
    pairs = [n for n, pair in enumerate(pairwise(columns)) if n > 1 and _are_grades(*pair)]
    if not pairs or len(prefixes) != 1 or prefixes & {"", *columns[0]}:
        return None
    grade = pairs[-1]
    times = [n for n in range(grade + 2, len(columns)) if all(map(MOODLE_TIME.fullmatch, columns[n]))]
    if times and times[0] > grade + 4:  # further from the times than grades are: numbers about the person
        return None
    return Worksheet(
        name=1 if grade > 2 else None,
        grade=grade,
        most=grade + 1,
        handed_in=times[0] if len(times) > 1 else None,
        comments=times[-1] + 1 if times and times[-1] + 1 < len(header) else None,
    )


def _are_grades(grades: Sequence[str], most: Sequence[str]) -> bool:
    """Whether these are the columns of the grades, some of which may be empty, and of their maximum."""
    blank = ("", "-")
    return len(set(most)) == 1 and bool(number(most[0])) and all(g in blank or number(g) is not None for g in grades)


def _of_moodle(sheet: Worksheet, cells: dict[str, str], row: list[str]) -> Person:
    digits = re.sub(r"\D", "", row[0])  # "Participant 123456"
    name = row[sheet.name or 0]
    who = row[2 : sheet.grade]  # what the site shows: an e-mail address, an ID number, a login
    time = moodle_date(row[sheet.handed_in]) if sheet.handed_in is not None else None
    return Person(f"{name}_{digits}", name, _ids([digits, *who, *(w.partition("@")[0] for w in who)]), tuple(row), time)


def _of_list(cells: dict[str, str], row: list[str]) -> Person:
    lower = {name.casefold(): unguarded(value) for name, value in cells.items()}
    return Person(lower["student"], lower.get("name", ""), _ids([lower.get("id", "")]), tuple(row))


def _ids(values: Iterable[str]) -> frozenset[str]:
    return frozenset(same(value) for value in values if value.strip())


def _words(name: str) -> tuple[str, ...]:
    """The words of a name in any order: "Doe, Jane" is "Jane Doe".

    Moodle puts a number behind it, and takes out what cannot be in every file's name: "O'Neil" is "ONeil".
    """
    plain = re.sub(r"""[&<>"`|':\\/]""", "", same(re.sub(r"_\d+$", "", name)))
    return tuple(sorted(re.findall(r"[^\W_]+", plain)))
