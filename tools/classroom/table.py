"""The table of marks: a CSV that a teacher opens in a spreadsheet, edits and saves, and that stays whole."""

import csv
import io
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from tools import files
from tools.classroom.grading import COLUMNS as MACHINE
from tools.classroom.submissions import same
from tools.errors import ToolError

csv.field_size_limit(2**31 - 1)  # a worksheet of Moodle holds whole texts

BY_TEACHER = ("given by hand", "comment")  # what a person writes; never overwritten, as no unknown column is
COLUMNS = (
    *(name for name in MACHINE if name != "cells"),
    "given by hand",
    "in formgrader",
    "penalty %",
    "total",
    "handed in",
    "late",
    "comment",
    "file",
    "cells",
)
NUMBERS = {"points", "of", "by hand", "given by hand", "in formgrader", "penalty %", "total", "late"}
FORMULA = "=+-@\t\r\n＝＋－＠"  # what spreadsheets take for a formula's beginning
NOTHING = "nothing handed in"

Row = dict[str, str]
Key = tuple[str, str, str]


def key(row: Row) -> Key:
    """What a row is about: a student and an exercise, or a file that belongs to none."""
    return same(row["student"]), row["exercise"], "" if row["exercise"] else row.get("file", "")


def number(text: str) -> float | None:
    """A number as a person writes it, with a point or a comma; not "nan", "inf" or "1_0", which Python reads too."""
    try:
        value = float(text.strip().replace(",", ".").replace("_", "?"))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def nothing(row: Row) -> bool:
    """Whether a row has no marks at all: nothing to grade, and no points from the teacher."""
    return row["status"].startswith(NOTHING) and number(row.get("given by hand", "")) is None


def guarded(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(tuple(FORMULA)) else text


def unguarded(text: str) -> str:
    return text[1:] if text[:1] == "'" and text[1:2] and text[1] in FORMULA else text


def read_csv(path: Path) -> tuple[list[str], list[list[str]], str]:
    """Header, rows and delimiter of a CSV as spreadsheets and course sites write it."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")  # Excel's "CSV" on Windows
    plain = re.sub(r'"[^"]*"', "", text).strip("\r\n")  # titles in quotes may hold delimiters and line ends
    first = re.split(r"[\r\n]", plain, maxsplit=1)[0]
    delimiter = max(",;\t", key=first.count)
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(row)]
    if not rows:
        raise ToolError(f"{path}: the file is empty.")
    return rows[0], rows[1:], delimiter


def write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable[str]], delimiter: str = ",") -> None:
    """Write a table that Excel opens as it should; there is always a whole file."""
    text = io.StringIO(newline="")
    table = csv.writer(text, delimiter=delimiter)
    table.writerow(header)
    table.writerows(rows)
    try:
        files.write(path, text.getvalue().encode("utf-8-sig"))  # without the mark, Excel garbles accents
    except ToolError as error:
        raise ToolError(f"{error} Close it if it is open in Excel, then run the same command.") from error


def read_table(path: Path) -> list[Row]:
    """The rows of a table; [] where there is none yet."""
    if not path.exists():
        return []
    header, rows, _ = read_csv(path)
    if not {"student", "exercise"} <= set(header):
        raise ToolError(f"{path} has no columns 'student' and 'exercise': it is not a table of this command.")
    header += [""] * (max(map(len, rows), default=0) - len(header))
    used = {n for row in rows for n, cell in enumerate(row) if cell} | {n for n, name in enumerate(header) if name}
    titles = Counter(name for n, name in enumerate(header) if n in used)
    if twice := [name for name, count in titles.items() if count > 1]:
        which = f"are called {twice[0]!r}" if twice[0] else "have no title"
        raise ToolError(
            f"{path}: {titles[twice[0]]} columns {which}, and only one would stay. Give each its own title."
        )
    blank = dict.fromkeys(COLUMNS, "")
    found = [blank | {header[n]: unguarded(cell) for n, cell in enumerate(row) if n in used} for row in rows]
    seen: set[Key] = set()
    pages = path.parent / "feedback"
    graded = [folder.name for folder in pages.iterdir()] if pages.is_dir() else []
    for row in found:
        row["student"] = respelled(row["student"], graded)
        if row.get("given by hand", "").strip() and number(row["given by hand"]) is None:
            raise ToolError(
                f"{path}: {row['given by hand']!r} is no number, given by hand to {row['student']} for "
                f"{row['exercise']}. Remarks go into the column 'comment'."
            )
        if key(row) in seen:
            raise ToolError(
                f"{path}: {row['student']} has two rows for {row['exercise'] or row['file']}. Delete one, or correct "
                "the student's name."
            )
        seen.add(key(row))
    return found


def respelled(student: str, known: Iterable[str]) -> str:
    """A student's name with the letters for which an older Excel wrote "?", if exactly one known name fits."""
    if "?" not in student:
        return student
    pattern = re.compile(re.escape(student).replace(r"\?", "."))
    fits = [name for name in known if pattern.fullmatch(unicodedata.normalize("NFC", name))]
    return fits[0] if len(fits) == 1 else student


def update_table(path: Path, new: Iterable[Row], drop: Callable[[Row], bool] = lambda row: False) -> list[Row]:
    """Add rows and replace those of the same student and exercise, but for what the teacher wrote.

    The file is read anew, so that what was written into it in the meantime is kept. A row that `drop` picks goes,
    unless a teacher wrote into it.
    """
    old = read_table(path)
    rows = {key(row): row for row in old if not drop(row) or any(row.get(name) for name in BY_TEACHER)}
    for row in new:
        kept = rows.get(key(row), {})
        rows[key(row)] = {**kept, **row, **{name: kept.get(name, "") for name in BY_TEACHER}}
    merged = sorted((totalled(row) for row in rows.values()), key=key)
    extra = dict.fromkeys(name for row in old for name in row if name not in COLUMNS)
    header = [*COLUMNS, *extra]
    delimiter = read_csv(path)[2] if path.exists() else ","
    write_csv(path, header, ([_cell(row, name, delimiter) for name in header] for row in merged), delimiter)
    return merged


def totalled(row: Row) -> Row:
    """A row with its total: the machine's points and those of people, less what being late costs."""
    points, given, graded, penalty = (
        number(row.get(name, "")) or 0.0 for name in ("points", "given by hand", "in formgrader", "penalty %")
    )
    total = max(0.0, (points + given + graded) * (1 - penalty / 100))
    left = "0" if row.get("given by hand", "").strip() else row.get("by hand", "")
    return {**row, "by hand": left, "total": f"{round(total, 2):g}" if row["exercise"] else ""}


def _cell(row: Row, name: str, delimiter: str) -> str:
    text = row.get(name, "")
    if name in NUMBERS and number(text) is not None:  # a spreadsheet that separates by semicolons has decimal commas
        return text.replace(".", ",") if delimiter == ";" else text.replace(",", ".")
    return guarded(text)
