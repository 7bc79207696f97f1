"""Hands exercises out and grades what comes back: `python3 run.py classroom` and `python3 run.py grade FOLDER`.

nbgrader does the work; around it stands what a teacher needs on the day: every submission is graded in a folder and a
process of its own, with limits on time and memory, so that one that hangs, crashes or deletes files costs only itself.
That is no sandbox: a submission runs with your rights and your network. Grade strangers' code in a container.

Before a notebook is graded, the cells that nbgrader needs are restored from the released exercise; the `status` column
of the table says what had to be repaired, and what could not be graded.
"""

import argparse
import csv
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # so that it runs as a folder, too

from tools.classroom.course import CELL_SECONDS, ClassroomError, exercises, hand_out
from tools.classroom.grading import COLUMNS, autograde, grade_all
from tools.classroom.submissions import find_submissions

SECONDS, GIGABYTES = 300, 6.0


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
