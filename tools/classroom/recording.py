"""What a run adds to the table of marks and to the gradebook, and what it leaves as it was."""

import argparse
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from tools import files
from tools.classroom.course import machine_graded
from tools.classroom.export import missing
from tools.classroom.gradebook import by_people, file_grade
from tools.classroom.grading import Grade
from tools.classroom.roster import Roster
from tools.classroom.submissions import Stray, Submission, same
from tools.classroom.table import NOTHING, Row, key, number, update_table
from tools.classroom.times import WORKSHEET, HandIn, hours_late, penalty

LOWER, KEPT = "lower than before", "kept"
WITHOUT = "note: graded without"
BY_HAND = "note: points given by hand are for an earlier attempt, look again, then delete this note"


def as_before(submissions: Iterable[Submission], rows: Iterable[Row]) -> list[Submission]:
    """The submissions, with students spelled as they are in the table."""
    spelled = {same(row["student"]): row["student"] for row in rows if not row["student"].isdigit()}
    return [replace(s, student=spelled.get(same(s.student), s.student)) for s in submissions]


def with_roster(submissions: list[Submission], roster: Roster) -> list[Submission]:
    """The submissions, with Moodle's hand-in times, and a remark where the roster does not know the student."""
    single = len({s.exercise for s in submissions}) == 1  # the worksheet is of one exercise
    known = []
    for submission in submissions:
        person = roster.find(submission.student)
        if person and person.handed_in and single:
            submission = replace(submission, when=HandIn(person.handed_in, WORKSHEET))
        if person is None:
            remark = "note: not in the roster, or more than one there fits"
            submission = replace(submission, remarks=(*submission.remarks, remark))
        known.append(submission)
    return known


def record(done: Grade, before: Row | None, course: Path, args: argparse.Namespace) -> Row:
    """File a graded submission: its feedback page, its points in the gradebook, its row."""
    submission = done.submission
    hours = hours_late(submission.when, args.due)
    percent = penalty(hours, args.late_penalty)
    if hours is None and args.late_penalty:
        done.remarks.append("note: late, but nobody knows how much, so nothing was taken off")
    points, old = sum(got for got, _ in done.cells.values()), _points(before)
    if old is not None and points < old and before:
        if args.keep_best:
            first, *parts = before["status"].split("; ")
            parts = [part for part in parts if not part.startswith(KEPT)]
            kept = f"{KEPT}: {old:g} points of an earlier attempt, as {submission.file.name!r} has {points:g}"
            return {**before, "status": "; ".join([first, kept, *parts])}
        done.remarks.append(f"{LOWER}: {points:g} points instead of {old:g}")
    done.remarks += _without(before, args)
    files.write(args.out / "feedback" / submission.student / f"{submission.exercise}.html", done.page)
    another, marked = file_grade(course, done, percent)
    if before and number(before["given by hand"]) and (another or BY_HAND in before["status"]):
        done.remarks.append(BY_HAND)
    if marked:
        done.remarks.append("note: points given in the formgrader are for an earlier attempt, look again")
    return {
        **{name: str(value) for name, value in done.row().items()},
        "penalty %": f"{percent:g}" if percent else "",
        "handed in": str(submission.when),
        "late": _late(hours, args),
        "file": str(submission.file.relative_to(args.folder)),
    }


def _without(before: Row | None, args: argparse.Namespace) -> list[str]:
    """What to tell of a row that was late by an earlier run, when this one was not asked for that."""
    options = [name for name, given in (("--due", args.due), ("--late-penalty", args.late_penalty)) if not given]
    if before is None or not options:
        return []
    hours, percent = number(before["late"]), number(before["penalty %"])
    if percent or (hours and not args.due):
        price = f", and {percent:g} % were taken off" if percent else ""
        return [f"{WITHOUT} {options[0]}: before, it was {before['late']} hours late{price}"]
    return [part for part in before["status"].split("; ") if part.startswith(f"{WITHOUT} {options[0]}:")]


def _points(row: Row | None) -> float | None:
    return None if row is None or row["status"].startswith(NOTHING) else number(row["points"])


def _late(hours: float | None, args: argparse.Namespace) -> str:
    if hours is None:
        return "LATE"
    return f"{max(0.1, round(hours, 1)):g}" if hours else "0" if args.due else ""


def stray_row(stray: Stray, folder: Path) -> Row:
    status = f"not graded: {stray.reason}"
    return {"student": stray.student, "exercise": "", "status": status, "file": str(stray.file.relative_to(folder))}


def finish(
    table: Path,
    course: Path,
    strays: list[Row],
    exercises: list[str],
    roster: Roster | None,
    students: Iterable[str],
) -> list[Row]:
    """Update the rows that are not about a submission of this run; students: those with a submission in it.

    A file that could not be graded keeps its row until its student hands in another, perhaps in another folder.
    """

    def who(student: str) -> str:
        person = roster.find(student) if roster else None
        return same(person.student if person else student)

    now, again = {key(row) for row in strays}, {who(student) for student in students} | {""}
    rows = update_table(table, [], lambda r: not r["exercise"] and key(r) not in now and who(r["student"]) in again)
    if roster:
        most = {exercise: sum(machine_graded(exercise).values()) for exercise in exercises}
        files = {p.student: row["file"] for row in rows if not row["exercise"] and (p := roster.find(row["student"]))}
        spelled = {(p.student, row["exercise"]): row["student"] for row in rows if (p := roster.find(row["student"]))}
        out = [
            {
                "student": spelled.get((student, exercise), student),
                "exercise": exercise,
                "status": NOTHING + (f" that can be graded: {files[student]!r}" if student in files else ""),
                "points": "0",
                "of": f"{most[exercise]:g}",
            }
            for student, exercise in missing(roster, rows, exercises)
        ]
        names = {key(row) for row in out}
        update_table(table, out, lambda row: _is_missing(row, exercises) and key(row) not in names)
    return from_formgrader(table, course)


def _is_missing(row: Row, exercises: list[str]) -> bool:
    return row["status"].startswith(NOTHING) and row["exercise"] in exercises


def from_formgrader(table: Path, course: Path) -> list[Row]:
    """Put into the table what people gave in the formgrader since."""
    given = {(same(student), exercise): found for (student, exercise), found in by_people(course).items()}
    rows = update_table(table, [])
    fresh = []
    for row in rows:
        if found := given.get((same(row["student"]), row["exercise"])):
            points, left = found
            fresh.append({**row, "in formgrader": f"{points:g}" if points else "", "by hand": f"{left:g}"})
    return update_table(table, fresh)
