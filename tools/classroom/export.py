"""Marks for Canvas and Moodle: their own files, with a column filled in."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import nbformat
from nbformat import NotebookNode

from tools.classroom.course import full_marks
from tools.classroom.roster import Person, Roster
from tools.classroom.submissions import CANVAS_FILES, same
from tools.classroom.table import NOTHING, Row, guarded, nothing, number, write_csv
from tools.errors import ToolError


def marks(rows: Iterable[Row], exercise: str, roster: Roster) -> dict[str, Row]:
    """The row of each student of a roster that has one for the exercise, by the roster's name of the student."""
    found: dict[str, Row] = {}
    for row in rows:
        person = roster.find(row["student"]) if row["exercise"] == exercise else None
        if person and (person.student not in found or nothing(found[person.student])):
            found[person.student] = row
    return found


def unknown(rows: Iterable[Row], roster: Roster) -> list[str]:
    """Students with marks in the table whom the roster does not name."""
    names = {row["student"] for row in rows if row["student"] and not nothing(row)}
    return sorted(name for name in names if roster.find(name) is None)


def doubled(rows: Iterable[Row], roster: Roster) -> list[str]:
    """What to tell where two rows for an exercise are one person's: the first is exported."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        person = roster.find(row["student"]) if row["exercise"] and not nothing(row) else None
        if person:
            found[person.student, row["exercise"]].append(row["student"])
    return [
        f"{', '.join(names[1:])}: the roster's {person}, as {names[0]} is, whose points for {exercise} were taken"
        for (person, exercise), names in found.items()
        if len(names) > 1
    ]


def to_canvas(rows: list[Row], exercises: list[str], roster: Roster, path: Path) -> list[str]:
    """Write what Canvas imports: its own columns on who it is, and one for each exercise. What a teacher should know.

    A column of the roster is used where its title is the exercise's; Canvas's number behind it says which it is.
    Students without a submission keep what Canvas has.
    """
    if roster.kind != "canvas":
        raise ToolError("For Canvas, the roster has to be a gradebook exported by Canvas (Student, ID, …).")
    who = roster.header.index("Section") + 1
    columns = {exercise: _canvas_column(exercise, roster) for exercise in exercises}
    header = [*roster.header[:who], *(roster.header[n] if n is not None else name for name, n in columns.items())]
    possible = next((row for row in roster.rows if "points possible" in row[0].casefold()), ())
    most = {
        name: (number(possible[n]) if n is not None and possible else None) or full_marks(name)
        for name, n in columns.items()
    }
    lines = [["    Points Possible", *[""] * (who - 1), *(f"{most[name]:g}" for name in exercises)]]
    given = {name: marks(rows, name, roster) for name in exercises}
    excused = []
    for person in roster.people:
        points = []
        for name, n in columns.items():
            row = given[name].get(person.student)
            old = person.cells[n] if n is not None else ""
            if row and not nothing(row) and old.strip().casefold() == "ex":
                excused.append(f"{row['student']} is excused from {name} in Canvas, so the points are not exported")
                row = None
            if number(old) is not None:  # the file that is written has points, not decimal commas
                old = old.replace(",", ".")
            points.append(_points(row, name, most[name]) if row and not nothing(row) else old)
        lines.append([*map(guarded, person.cells[:who]), *points])
    write_csv(path, header, lines)
    unzipped = [
        f"no feedback for {name} to upload to Canvas: none of its files has a name as Canvas gives them"
        for name, found in given.items()
        if not _feedback_for_canvas(found.values(), name, path.parent)
    ]
    new = [name for name, n in columns.items() if n is None]
    told = [f"Canvas has no assignment called {', '.join(new)}; it will ask whether to create it"] if new else []
    return told + unzipped + excused + _scaled(most)


def _feedback_for_canvas(rows: Iterable[Row], exercise: str, out: Path) -> bool:
    """Zip the graded notebooks under the file names of Canvas's download, by which Canvas returns each to its student.

    Feedback pages would not do: Canvas shows every file under the name of the student's own, which is a notebook.
    """
    # "x" for a letter that a spreadsheet lost; the numbers matter
    named = [(Path(row["file"]).name.replace("?", "x"), row) for row in rows]
    files = {n: nbformat.writes(_returned(r, out)) for n, r in named if any(way.fullmatch(n) for way in CANVAS_FILES)}
    return _zip(out / f"canvas-feedback-{exercise}.zip", files)


def _zip(path: Path, files: Mapping[str, str | bytes]) -> bool:
    """Write an archive of these files and return True; if there are no files, remove an older archive."""
    path.unlink(missing_ok=True)
    if files:
        with ZipFile(path, "w", ZIP_DEFLATED) as bundle:
            for name, content in files.items():
                bundle.writestr(name, content)
    return bool(files)


def _returned(row: Row, out: Path) -> NotebookNode:
    """A graded notebook as its student may see it: with points on top, and without hidden tests."""
    from nbgrader.preprocessors import ClearHiddenTests  # takes a second

    exercise = row["exercise"]
    file = out / "course" / "autograded" / row["student"] / exercise / f"{exercise}.ipynb"
    notebook = nbformat.read(file, as_version=4) if file.is_file() else nbformat.v4.new_notebook()
    notebook, _ = ClearHiddenTests().preprocess(notebook, {})
    told = [*_for_students(row), *row["cells"].split("; "), row.get("comment", "")]
    text = "\n".join(f"- {line}" for line in told if line)
    total = f"# {exercise}: {row['total']} of {full_marks(exercise):g} points"
    notebook.cells.insert(0, nbformat.v4.new_markdown_cell(f"{total}\n\n{text}"))
    return notebook


def _canvas_column(exercise: str, roster: Roster) -> int | None:
    def plain(title: str) -> str:
        return re.sub(r"[\W_]+", " ", re.sub(r"\s*\(\d+\)$", "", title)).strip().casefold()

    fits = [n for n, title in enumerate(roster.header) if plain(title) == plain(exercise)]
    if len(fits) > 1:
        titles = ", ".join(roster.header[n] for n in fits)
        raise ToolError(f"Canvas's file has {len(fits)} columns for {exercise}: {titles}. Delete all but one of them.")
    return fits[0] if fits else None


def to_moodle(rows: list[Row], exercise: str, roster: Roster, out: Path) -> list[str]:
    """Write Moodle's grading worksheet with its grades, and the zip of feedback files; return notes for the teacher."""
    sheet = roster.sheet
    if sheet is None:
        raise ToolError("For Moodle, the roster has to be the assignment's grading worksheet (Identifier, …).")
    given, found, scale = marks(rows, exercise, roster), {}, {}
    for person in roster.people:
        row, cells = given.get(person.student), list(person.cells)
        if sheet.name is not None:
            cells[sheet.name] = guarded(person.name)
        if row and not nothing(row):
            scale[exercise] = number(cells[sheet.most]) or full_marks(exercise)
            cells[sheet.grade] = _points(row, exercise, scale[exercise])
            if "," in cells[sheet.most]:  # as the worksheet's language writes numbers
                cells[sheet.grade] = cells[sheet.grade].replace(".", ",")
            told = "; ".join(filter(None, (row.get("comment", ""), *_for_students(row))))
            if told and sheet.comments is not None:
                cells[sheet.comments] = guarded(told)
        found[person.student] = cells
    write_csv(out / f"moodle-{exercise}.csv", roster.header, found.values())
    pages = {person: _page(given.get(person.student), out) for person in roster.people}
    named = {f"{_moodle_folder(p)}/feedback-{exercise}.html": page for p, page in pages.items() if page}
    zipped = _zip(out / f"moodle-feedback-{exercise}.zip", {name: page.read_bytes() for name, page in named.items()})
    empty = [] if zipped else [f"no feedback for {exercise} to upload to Moodle: {out / 'feedback'} has no page of it"]
    return empty + _scaled(scale)


def _for_students(row: Row) -> list[str]:
    """What a status tells a student; the rest is for the teacher."""
    told = [p for p in row["status"].split("; ") if p != "graded" and not p.startswith(("note: ", NOTHING))]
    percent = number(row.get("penalty %", ""))
    return told + ([f"{percent:g} % taken off, as it was {row['late']} hours late"] if percent else [])


def _moodle_folder(person: Person) -> str:
    """As Moodle names the folders of submissions, and reads those of feedback: it looks at the number."""
    return re.sub(r"[/\\_]", " ", person.name) + f"_{person.student.rpartition('_')[2]}_assignsubmission_file_"


def _page(row: Row | None, out: Path) -> Path | None:
    page = out / "feedback" / row["student"] / f"{row['exercise']}.html" if row else None
    return page if page and page.is_file() else None


def _points(row: Row, exercise: str, most: float) -> str:
    return f"{round((number(row['total']) or 0.0) * most / full_marks(exercise), 2):g}"


def _scaled(most: dict[str, float]) -> list[str]:
    here = {name: full_marks(name) for name in most}
    return [
        f"{name} has {here[name]:g} points here and {points:g} there: multiplied by {points / here[name]:.3g}"
        for name, points in most.items()
        if points != here[name]
    ]


def missing(roster: Roster, rows: Iterable[Row], exercises: Iterable[str]) -> list[tuple[str, str]]:
    """Student and exercise of everybody in a roster who has no row."""
    rows = [row for row in rows if not row["status"].startswith(NOTHING)]
    there = {(person.student, row["exercise"]) for row in rows if (person := roster.find(row["student"]))}
    return [(p.student, e) for e in exercises for p in roster.people if (p.student, e) not in there and same(p.student)]
