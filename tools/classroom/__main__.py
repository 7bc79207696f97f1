"""Hands out exercises and grades what comes back: `python3 run.py classroom` and `python3 run.py grade FOLDER`.

nbgrader does the work. Each submission is graded in a folder and a process of its own, with limits on time and memory,
so that one that hangs, crashes or deletes files harms only itself. On Linux it has no network and cannot reach your
files, if the system allows that. If not, `grade` says so: use a container for the code of people you don't know.

Before a notebook is graded, the cells that nbgrader needs are restored from the released exercise. The `status` column
of the table says what was repaired, and what could not be graded.

Grade into the same folder as often as you like: rows are added and updated, and what you wrote into the columns
"given by hand" and "comment" stays. Of several attempts the newest counts; if it has fewer points than the last one,
the status says so, and --keep-best keeps the better one. OUT/feedback has the pages for students, OUT/course is an
nbgrader course, for its formgrader. The teachers' page on all this: notebooks/instructor/marks.md.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from tools.classroom.course import CELL_SECONDS, exercises, full_marks, hand_out
from tools.classroom.export import doubled, to_canvas, to_moodle, unknown
from tools.classroom.gradebook import alone, due_before, open_course, set_due
from tools.classroom.grading import autograde, grade_all
from tools.classroom.recording import as_before, finish, from_formgrader, record, stray_row, with_roster
from tools.classroom.room import Room
from tools.classroom.roster import read_roster
from tools.classroom.submissions import MISNAMED, find_submissions, same
from tools.classroom.table import key, number, read_table, update_table
from tools.classroom.times import FILE_DATE, due_time, percentage
from tools.errors import ToolError

SECONDS, GIGABYTES = 300, 6.0
HAND_OUT = (
    "Writes OUT/exercises.zip for your course site, OUT/student, which is the same, and OUT/instructor, with solutions."
)
GRADE = (
    "Grades notebooks. Writes OUT/grades.csv, pages for students into OUT/feedback, and an nbgrader course, OUT/course."
)
EXPORT = "Brings OUT/grades.csv up to date with what you marked by hand, and fills in files of Canvas and Moodle."


def classroom(args: argparse.Namespace) -> int:
    for path in hand_out(args.out, _chosen(args.only)):
        print(path)
    return 0


def grade(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    folder = args.folder = Path(args.submissions.removeprefix("SUBMISSIONS="))
    if not folder.is_dir():
        if folder.is_file():
            raise ToolError(f"{folder} is a file: unpack the archive, or name the folder that the notebook is in.")
        raise ToolError(f"{folder}: no such folder of submissions.")
    chosen, table = _chosen(args.only), args.out / "grades.csv"
    roster = read_roster(args.roster) if args.roster else None
    everything, strays = find_submissions(folder, exercises())
    submissions = [submission for submission in everything if submission.exercise in chosen]
    if not submissions and not strays:
        raise ToolError(
            f"{folder}: no submissions. They are STUDENT/EXERCISE.ipynb or STUDENT_EXERCISE.ipynb, with the exercises "
            f"{', '.join(exercises())}."
        )
    args.out.mkdir(parents=True, exist_ok=True)
    with alone(args.out):
        before = {key(row): row for row in read_table(table)}
        submissions = as_before(submissions, before.values())
        submissions = with_roster(submissions, roster) if roster else submissions
        names = sorted({submission.exercise for submission in submissions} | set(args.only or []))
        course = open_course(args.out, names)
        if args.due:
            set_due(course, names, args.due)
        else:
            for name, due in due_before(course, names).items():
                when = f"{due.astimezone():%Y-%m-%d %H:%M}"
                print(f"{name} was due {when} by an earlier run; without --due, nothing is late", file=sys.stderr)
        aside = [stray_row(stray, folder) for stray in strays]
        update_table(table, aside)
        told = [
            f"{submission.student}: {remark.removeprefix('note: ')}, so --only leaves it out"
            for submission in everything
            for remark in submission.remarks
            if submission.exercise not in chosen and remark.startswith(MISNAMED)
        ]
        failed = 0
        for done in tqdm(grade_all(submissions, args.out, args), total=len(submissions), unit="submission"):
            row = record(done, before.get((same(done.submission.student), done.submission.exercise, "")), course, args)
            update_table(table, [row])  # a row that is written stays, whatever comes
            failed += done.status != "graded"
            parts = [part for part in row["status"].split("; ") if part != "graded"]
            told += [f"{row['student']}, {row['exercise']}: {part}" for part in parts]
        finish(table, course, aside, names, roster, [submission.student for submission in submissions])
    print(
        f"{len(submissions) - failed} graded; {failed} failed and have no points; {len(aside)} could not be "
        f"graded\nmarks: {table}\nfeedback for students: {args.out / 'feedback'}"
    )
    told += [f"{row['file']}: {row['status']}" for row in aside]
    if args.due and any(submission.when.clock == FILE_DATE for submission in submissions):
        told.append("hand-in times by the file's date: unpacking an archive may have changed them")
        if roster and roster.sheet and not any(person.handed_in for person in roster.people):
            told.append(f"{args.roster}: no date that could be read; grade reads English dates only")
    for line in told:
        print(line, file=sys.stderr)
    return 1 if failed or aside else 0


def export(args: argparse.Namespace) -> int:
    table = args.out / "grades.csv"
    if not table.is_file():
        raise ToolError(f"{table}: no such table. Make it with: python3 run.py grade FOLDER --out {args.out}")
    with alone(args.out):
        rows = from_formgrader(table, args.out / "course")
    names = [name for name in _chosen(args.only) if any(row["exercise"] == name for row in rows)]
    told, exported = [], [row for row in rows if row["exercise"] in names]
    for site, path in (("canvas", args.canvas), ("moodle", args.moodle)):
        if path is None:
            continue
        roster = read_roster(path)
        if site == "canvas":
            told += to_canvas(rows, names, roster, args.out / "canvas.csv")
            written = [args.out / "canvas.csv", *(args.out / f"canvas-feedback-{name}.zip" for name in names)]
        elif len(names) != 1:
            raise ToolError(
                f"A Moodle worksheet is for one exercise: choose it with --only, of {', '.join(names)}."
                if names
                else f"{table} has no marks for {', '.join(args.only or exercises())}."
            )
        else:
            told += to_moodle(rows, names[0], roster, args.out)
            written = [args.out / f"moodle-{names[0]}.csv", args.out / f"moodle-feedback-{names[0]}.zip"]
        print(*(file for file in written if file.is_file()), sep="\n")
        told += [f"not in {path}, so not exported: {name}" for name in unknown(exported, roster)]
        told += doubled(exported, roster)
    told += [
        f"{row['student']} has {row['total']} of {most:g} points for {row['exercise']}"
        for row in rows
        if row["exercise"] in names and (number(row["total"]) or 0) > (most := full_marks(row["exercise"]))
    ]
    told += [
        f"{row['student']}: points given by hand in a row without an exercise do not count"
        for row in rows
        if not row["exercise"] and number(row["given by hand"])
    ]
    print(table)
    for line in told:
        print(line, file=sys.stderr)
    return 0


def _chosen(only: list[str] | None) -> list[str]:
    wrong = sorted(set(only or []) - set(exercises()))
    if wrong:
        raise ToolError(f"No exercise {wrong[0]!r}; there are {', '.join(exercises())}.")
    return only or exercises()


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        "python3 run.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = p.add_subparsers(required=True, metavar="COMMAND")
    give = commands.add_parser("classroom", help="exercises to hand out", description=HAND_OUT)
    give.add_argument("--out", type=Path, default=Path("classroom"), help="folder to write (default classroom)")
    give.set_defaults(run=classroom)
    take = commands.add_parser("grade", help="grade a folder of submissions", description=GRADE)
    take.add_argument(
        "submissions",
        metavar="[SUBMISSIONS=]FOLDER",
        help="as Canvas, Moodle or nbgrader name files, or STUDENT/EXERCISE.ipynb",
    )
    take.add_argument("--out", type=Path, default=Path("grades"), help="folder to write (default grades)")
    take.add_argument(
        "--jobs",
        type=int,
        default=max(1, (os.cpu_count() or 1) // 2),
        help="how many are graded at once (default %(default)s)",
    )
    take.add_argument("--seconds", type=float, default=SECONDS, help="for each submission (default %(default)s)")
    take.add_argument("--cell-seconds", type=int, default=CELL_SECONDS, help="for each cell (default %(default)s)")
    take.add_argument("--memory", type=float, default=GIGABYTES, help="GB for each submission (default %(default)s)")
    take.add_argument("--due", type=due_time, metavar="TIME", help="2026-12-01T18:00, in this machine's time zone")
    take.add_argument(
        "--late-penalty",
        type=percentage,
        default=0.0,
        metavar="PERCENT",
        help="of the points, for each day begun after the due time (default: none)",
    )
    take.add_argument(
        "--roster",
        type=Path,
        metavar="CSV",
        help="who should hand in: exported by Canvas or Moodle, or with the columns student,name,id",
    )
    take.add_argument("--keep-best", action="store_true", help="keep the points of an earlier attempt that has more")
    take.set_defaults(run=grade)
    send = commands.add_parser("grades-export", help="marks for Canvas and Moodle", description=EXPORT)
    send.add_argument("--out", type=Path, default=Path("grades"), help="the folder that grade wrote (default grades)")
    send.add_argument(
        "--canvas", type=Path, metavar="CSV", help="the gradebook that Canvas exported; writes a CSV and zips"
    )
    send.add_argument(
        "--moodle",
        type=Path,
        metavar="CSV",
        help="the grading worksheet of one exercise, which --only names; writes a CSV and a zip",
    )
    send.set_defaults(run=export)
    for command in (give, take, send):
        command.add_argument(
            "--only", action="append", metavar="EXERCISE", help="only this exercise; repeat for more (default: all)"
        )
    return p


def main(arguments: list[str]) -> int:
    try:
        if arguments[:1] == ["autograde"]:
            course, exercise, result, room = arguments[1:]
            autograde(Path(course), exercise, Path(result), Room(**json.loads(room)))
            return 0
        args = parser().parse_args(arguments)
        return int(args.run(args))
    except ToolError as error:
        print(f"classroom: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
