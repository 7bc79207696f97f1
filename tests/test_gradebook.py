"""The table of marks that stays, nbgrader's gradebook beside it, late work, rosters, files for Canvas and Moodle."""

import csv
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nbformat
import pytest

from tests.test_classroom import rows
from tools.classroom import __main__ as command
from tools.classroom import course, recording, roster, table, times
from tools.classroom.gradebook import alone
from tools.classroom.grading import Grade
from tools.classroom.restoring import restore
from tools.errors import ToolError

EXERCISE = "einsum_cam"
FULL = course.machine_graded(EXERCISE)
DUE = datetime(2026, 12, 1, 18, tzinfo=UTC)


# ---- the table


def row(student: str, exercise: str = "hooks", **cells: str) -> table.Row:
    return {"student": student, "exercise": exercise, "status": "graded", "points": "7", **cells}


def edit(path: Path, student: str, /, **cells: str) -> None:
    """What a teacher does in a spreadsheet."""
    header, lines, delimiter = table.read_csv(path)
    for name in cells.keys() - set(header):
        header.append(name)
        lines = [[*line, ""] for line in lines]
    for line in lines:
        if line[0] == student:
            for name, value in cells.items():
                line[header.index(name)] = value
    table.write_csv(path, header, lines, delimiter)


def read(path: Path) -> dict[str, dict[str, str]]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        return {found["student"]: found for found in csv.DictReader(file)}


def test_rows_are_added_and_updated_and_what_the_teacher_wrote_stays(tmp_path):
    path = tmp_path / "grades.csv"
    table.update_table(path, [row("ada"), row("bob")])
    edit(path, "ada", comment="well argued", group="B", **{"given by hand": "2,5"})
    table.update_table(path, [row("ADA", points="8", comment="ours"), row("eve")])
    found = read(path)
    assert list(found) == ["ADA", "bob", "eve"]
    ada = found["ADA"]
    assert (ada["given by hand"], ada["comment"], ada["group"]) == ("2.5", "well argued", "B")
    assert (ada["points"], ada["total"], ada["by hand"]) == ("8", "10.5", "0")
    assert found["bob"]["total"] == "7"


def test_an_interrupted_write_leaves_the_old_table(tmp_path, monkeypatch):
    path = tmp_path / "grades.csv"
    table.update_table(path, [row("ada")])
    before = path.read_bytes()

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ToolError, match="disk full"):
        table.update_table(path, [row("bob")])
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", ["=1+1", "+1", "-a", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1+1"])
def test_no_cell_is_a_formula_and_numbers_stay_numbers(text, tmp_path):
    path = tmp_path / "grades.csv"
    cells = {"name": text, "file": text, "comment": text, "in formgrader": "-1.5", "points": "7.5"}
    for _ in range(2):  # also not after it was read and written again
        table.update_table(path, [row(text, **cells)])
        edit(path, read(path).popitem()[0], comment=text)
    table.update_table(path, [])
    (cells,) = read(path).values()
    assert not [cell for cell in cells.values() if cell.startswith(tuple("=+@\t\r\n＝"))]
    assert (cells["in formgrader"], cells["points"], cells["total"]) == ("-1.5", "7.5", "6")
    assert cells["student"].count("'") == 1


def test_a_table_saved_by_a_german_excel_is_read_and_stays_one(tmp_path):
    path = tmp_path / "grades.csv"
    table.update_table(path, [row("Zoë", points="7.5")])
    text = path.read_text(encoding="utf-8-sig").replace(",", ";").replace("7.5", "7,5")
    path.write_bytes(text.encode("cp1252"))
    (found,) = table.update_table(path, [row("Zoë", points="8.5")])
    assert found["student"] == "Zoë"
    assert "Zoë;hooks;;graded;8,5;" in path.read_text(encoding="utf-8-sig")


def test_zeros_that_a_spreadsheet_drops_do_not_make_another_student(tmp_path):
    path = tmp_path / "grades.csv"
    table.update_table(path, [row("00123")])
    edit(path, "00123", student="123", comment="late bus")
    (found,) = table.update_table(path, [row("00123", points="8")])
    assert (found["student"], found["comment"], found["points"]) == ("00123", "late bus", "8")


def test_a_deleted_column_comes_back(tmp_path):
    path = tmp_path / "grades.csv"
    path.write_text("student,exercise,comment\nada,hooks,good\n")
    table.update_table(path, [])
    assert read(path)["ada"]["comment"] == "good"
    assert tuple(read(path)["ada"]) == table.COLUMNS


def test_a_wrong_number_is_told_before_anything_is_graded(tmp_path):
    path = tmp_path / "grades.csv"
    table.update_table(path, [row("ada")])
    edit(path, "ada", **{"given by hand": "good"})
    with pytest.raises(ToolError, match="'good' is no number, given by hand to ada for hooks"):
        table.read_table(path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ToolError, match="no columns 'student' and 'exercise'"):
        table.read_table(path)


@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity", "1_0"])
def test_what_only_python_takes_for_a_number_is_none(text, tmp_path):
    path = tmp_path / "grades.csv"
    table.update_table(path, [row("ada")])
    edit(path, "ada", **{"given by hand": text})
    with pytest.raises(ToolError, match=f"'{text}' is no number"):
        table.read_table(path)


@pytest.mark.parametrize(("title", "says"), [("", "have no title"), ("group", "are called 'group'")])
def test_two_columns_of_one_title_are_told_before_one_is_lost(title, says, tmp_path):
    path = tmp_path / "grades.csv"
    path.write_text("student,exercise,x\nada,hooks,1,,\n")  # a spreadsheet's empty columns are none
    assert table.read_table(path)[0]["x"] == "1"
    path.write_text(f"student,exercise,{title},{title}\nada,hooks,mine,too\n")
    with pytest.raises(ToolError, match=says):
        table.read_table(path)
    path.write_text("student,exercise\nada,hooks,beside the table\n")
    assert table.update_table(path, [])[0][""] == "beside the table"


# ---- late work


def test_the_hand_in_time_and_how_we_know(tmp_path):
    file = tmp_path / "hooks.ipynb"
    file.write_text("{}")
    os.utime(file, (DUE.timestamp(), DUE.timestamp()))
    assert times.handed_in(file) == times.HandIn(DUE, "the file's date")
    (tmp_path / "timestamp.txt").write_text("2026-12-01 20:00:00 Europe/Berlin")
    assert times.handed_in(file) == times.HandIn(DUE + timedelta(hours=1), "timestamp.txt")
    (tmp_path / "timestamp.txt").write_text("yesterday evening")
    assert times.handed_in(file).clock == "the file's date"


@pytest.mark.parametrize(
    ("when", "hours", "percent"),
    [
        (times.HandIn(DUE), 0, 0),
        (times.HandIn(DUE + timedelta(minutes=90)), 1.5, 10),
        (times.HandIn(DUE + timedelta(hours=24)), 24, 10),
        (times.HandIn(DUE + timedelta(hours=24.1)), 24.1, 20),
        (times.HandIn(DUE + timedelta(days=30)), 720, 100),
        (times.HandIn(clock=times.CANVAS), 0, 0),
        (times.HandIn(clock=times.CANVAS, late=True), None, 0),
    ],
)
def test_hours_late_and_their_price(when, hours, percent):
    assert times.hours_late(when, DUE) == (hours if hours is None else pytest.approx(hours))
    assert times.penalty(times.hours_late(when, DUE), 10) == percent


def test_due_times_have_the_zone_of_the_machine_unless_they_say_theirs():
    assert times.due_time("2026-12-01T18:00") == datetime(2026, 12, 1, 18).astimezone()
    assert times.due_time("2026-12-01T18:00+00:00") == DUE
    assert times.moodle_date("Tuesday, 1 December 2026, 6:00 PM") == datetime(2026, 12, 1, 18).astimezone()
    assert times.moodle_date("Tuesday, December 1, 2026, 6:00 PM") == datetime(2026, 12, 1, 18).astimezone()
    assert times.moodle_date("-") is None


@pytest.mark.parametrize("option", [["--due", "tomorrow"], ["--late-penalty", "110"], ["--late-penalty", "x"]])
def test_wrong_options_are_refused(option, capsys):
    with pytest.raises(SystemExit):
        command.main(["grade", "folder", *option])
    assert option[1] in capsys.readouterr().err


# ---- rosters, and files for course sites

CANVAS = """Student,ID,SIS User ID,SIS Login ID,Section,einsum_cam (4711),Essay (12),Current Score
    Points Possible,,,,,10,5,(read only)
"Doe, Jane",12345,S1,jdoe,A,,4,80
"Ng, Al",12346,S2,ang,A,3,5,90
"Student, Test",99,,abc,A,,,
"""
MOODLE = (
    "Identifier,Full name,Email address,Status,Grade,Maximum grade,Grade can be changed,"
    "Last modified (submission),Last modified (grade),Feedback comments\n"
    'Participant 123456,Jane Doe,jane@uni.example,Submitted,,100.00,Yes,"Tuesday, 1 December 2026, 8:00 PM",-,\n'
    "Participant 123457,Al Ng,al@uni.example,No submission,,100.00,Yes,-,-,\n"
)
LIST = "Student;Name;ID\njdoe;Jane Doe;12345\nang;Al Ng;12346\n"


@pytest.fixture
def rosters(tmp_path):
    for name, text in {"canvas": CANVAS, "moodle": MOODLE, "list": LIST}.items():
        (tmp_path / f"{name}.csv").write_text(text)
    return {name: tmp_path / f"{name}.csv" for name in ("canvas", "moodle", "list")}


@pytest.mark.parametrize(
    ("kind", "students"),
    [
        ("canvas", ["doejane_12345", "jdoe", "S1", "Jane Doe", "Doe, Jane", "jane doe"]),
        ("moodle", ["Jane Doe_123456", "jane@uni.example", "jane", "Doe Jane"]),
        ("list", ["jdoe", "JDOE", "Jane Doe", "12345", "doejane_12345"]),
    ],
)
def test_who_is_who(kind, students, rosters):
    found = roster.read_roster(rosters[kind])
    assert (found.kind, len(found.people)) == (kind, 2)
    assert [found.find(student) for student in students] == [found.people[0]] * len(students)
    assert found.find("Eve") is None


@pytest.mark.parametrize(
    ("text", "students"),
    [
        ('Student,ID,Section,Essay\r"Doe, Jane",5,A,a;b;c;d;e;f;g;h;i;j\r', ["Doe, Jane"]),  # with Mac line ends
        ('\nstudent;name\n"jd";"Doe, Jane, Dr, MA"\n', ["jd"]),
        ('"student","a;;\nb"\njd,x\n', ["jd"]),
        (f"student,name\njd,{'x' * 200_000}\n", ["jd"]),
        ("student\n\u200fجين\u200f\n", ["جين"]),  # with marks of its direction, which nobody sees
        ("Identifier,Name,S,G,M,C,T\nP 1,Siobhan O'Neil,,,9,Yes,-\nP 2,Al Ng,,,9,Yes,-\n", ["Siobhan ONeil_2", "_2"]),
    ],
    ids=["Mac", "semicolons", "quoted title", "long", "right to left", "apostrophe"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_rosters_as_programs_write_them(text, students, encoding, tmp_path):
    (tmp_path / "roster.csv").write_bytes(text.encode(encoding))
    found = roster.read_roster(tmp_path / "roster.csv")
    assert list(map(found.find, students)) == [*found.people]


def test_a_number_behind_a_name_is_not_the_id_of_someone_else(tmp_path):
    (tmp_path / "list.csv").write_text("student,name,id\njane,Jane Doe,2\nal,Al Ng,0345\n")
    found = roster.read_roster(tmp_path / "list.csv")
    assert (found.find("bob_2"), found.find("ngal_345")) == (None, found.people[1])


@pytest.mark.parametrize("names", ["Student", "LastName,FirstName"])
def test_rows_of_canvas_that_are_no_students(names, tmp_path):
    lines = [
        f"{names},ID,Section,hooks (1)",
        ",,,Manual Posting",
        "    Punkte möglich,,,10",
        '"Doe, Jane",12345,A and B,',
        '"Student, Test",99,A,',
    ]
    if names != "Student":
        lines[1:] = [line.replace('"', "").replace(", ", ",") if '"' in line else f",{line}" for line in lines[1:]]
    (tmp_path / "canvas.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    assert [person.student for person in roster.read_roster(tmp_path / "canvas.csv").people] == ["doejane_12345"]


def test_a_roster_knows_names_whose_letters_a_spreadsheet_lost(tmp_path):
    (tmp_path / "list.csv").write_text("student\nnguyễn\nnguyển\n", encoding="utf-8")
    assert roster.read_roster(tmp_path / "list.csv").find("nguy?n") is None
    (tmp_path / "list.csv").write_text("student\nngọc\nbob\n", encoding="utf-8")
    found = roster.read_roster(tmp_path / "list.csv")
    assert found.find("ng?c") is found.people[0]
    path = tmp_path / "grades.csv"
    for _ in range(2):
        recording.finish(path, tmp_path, [], ["hooks"], found, [])
        for student in ("ngọc", "ng?c"):
            edit(path, student, **{"given by hand": "2"})
        path.write_bytes(path.read_text(encoding="utf-8-sig").encode("cp1252", errors="replace"))
    assert [(line["student"], line["total"]) for line in table.read_table(path)] == [("bob", "0"), ("ng?c", "2")]


def test_two_of_the_same_name_are_not_guessed(tmp_path):
    (tmp_path / "list.csv").write_text("student,name\na1,Jane Doe\na2,Jane Doe\n")
    found = roster.read_roster(tmp_path / "list.csv")
    assert found.find("Jane Doe") is None
    assert found.find("a2") is found.people[1]


GERMAN = (  # with a team, a marker, a workflow, an online text and an outcome
    "ID,Vollständiger Name,E-Mail-Adresse,Status,Gruppe,Bewerter/in,Bewertung,Bestwertung,Bewertungsstatus,"
    "Bewertung kann geändert werden,Zuletzt geändert (Abgabe),Texteingabe online,Zuletzt geändert (Bewertung),"
    "Feedback als Kommentar,Lernziele\n"
    'Teilnehmer/in123456,Jane Doe,jane@uni.example,Zur Bewertung abgegeben,A,,,"10,00",Nicht bewertet,Ja,'
    '"Dienstag, 1. Dezember 2026, 20:00",um 12:30,-,,\n'
    'Teilnehmer/in123457,Al Ng,al@uni.example,Keine Abgabe,,,,"10,00",Nicht bewertet,Ja,-,,-,gut,\n'
)
BLIND = (
    "Identifier,Status,Grade,Maximum grade,Grade can be changed,Last modified (submission),Last modified (grade)\n"
    "Participant 7,Submitted,-,10.00,Yes,-,-\n"
)


def test_a_worksheet_in_any_language_is_filled_in(tmp_path, capsys):
    (tmp_path / "de.csv").write_text(GERMAN, encoding="utf-8-sig")
    marked = [row("Jane Doe_123456", EXERCISE, points="9.5", status="graded; repaired: setup")]
    table.update_table(tmp_path / "grades.csv", [*marked, row("Al Ng_123457", EXERCISE, points="7")])
    assert export(tmp_path, "--moodle", tmp_path / "de.csv") == 0
    header, (jane, al), _ = table.read_csv(tmp_path / f"moodle-{EXERCISE}.csv")
    assert header == GERMAN.splitlines()[0].split(",")
    assert (jane[0], jane[6:8], jane[13:]) == ("Teilnehmer/in123456", ["9,5", "10,00"], ["repaired: setup", ""])
    assert (al[6], al[13]) == ("7", "gut")  # a comment in the worksheet stays if we have none
    assert "not exported" not in capsys.readouterr().err


def test_a_worksheet_of_blind_marking_has_no_names(tmp_path):
    (tmp_path / "blind.csv").write_text(BLIND)
    table.update_table(tmp_path / "grades.csv", [row("Participant_7", EXERCISE, points="9.5")])
    assert export(tmp_path, "--moodle", tmp_path / "blind.csv") == 0
    assert table.read_csv(tmp_path / f"moodle-{EXERCISE}.csv")[1][0][2] == "9.5"


def test_the_graded_worksheet_has_two_columns_of_equal_numbers():
    """All have full marks: the maximum is the second of the two."""
    lines = [["P 1", "Al", "Done", "", "10.00", "10.00", "Yes", "-", "-"], ["P 2", "Jo", "Done", "", "10.00", "10.00"]]
    assert roster.worksheet(["x"] * 9, [line + ["Yes", "-", "-"] * (len(line) == 6) for line in lines]) == (
        roster.Worksheet(name=1, grade=4, most=5, handed_in=7, comments=None)
    )


def test_a_scale_has_no_points_whatever_numbers_stand_before_it(tmp_path):
    head = "Identifier,Full name,ID number,Year,Status,Grade,Scale,Grade can be changed,Submitted,Graded,Comments\n"
    lines = [f'Participant {n},Al,17,2026,Submitted,,"Bad, good",Yes,-,-,\n' for n in (1, 2)]
    (tmp_path / "scale.csv").write_text(head + "".join(lines))
    with pytest.raises(ToolError, match="a Moodle assignment with points"):
        roster.read_roster(tmp_path / "scale.csv")


def test_a_name_in_moodles_worksheet_is_no_formula(tmp_path):
    (tmp_path / "moodle.csv").write_text(MOODLE.replace("Jane Doe", "=Jane Doe"))
    table.update_table(tmp_path / "grades.csv", [row("=Jane Doe_123456", EXERCISE)])
    assert export(tmp_path, "--moodle", tmp_path / "moodle.csv") == 0
    cells = table.read_csv(tmp_path / f"moodle-{EXERCISE}.csv")[1][0]
    assert (cells[1], cells[4], cells[7]) == ("'=Jane Doe", "70", MOODLE.split('"')[1])


def test_two_columns_of_canvas_for_one_exercise_are_told(rosters, tmp_path, capsys):
    rosters["canvas"].write_text(CANVAS.replace("Essay (12)", "Einsum CAM (12)"))
    table.update_table(tmp_path / "grades.csv", [row("doejane_12345", EXERCISE)])
    assert export(tmp_path, "--canvas", rosters["canvas"]) == 2
    assert "2 columns for einsum_cam: einsum_cam (4711), Einsum CAM (12)" in capsys.readouterr().err


def test_points_that_canvas_has_are_written_with_a_point(rosters, tmp_path):
    lines = CANVAS.replace("A,3,5", "A,3.5,5").replace(", ", "|").replace(",", ";").replace("3.5", "3,5")
    rosters["canvas"].write_text(lines.replace("|", ", "))
    table.update_table(tmp_path / "grades.csv", [row("doejane_12345", EXERCISE, points="9.5")])
    assert export(tmp_path, "--canvas", rosters["canvas"]) == 0
    text = (tmp_path / "canvas.csv").read_text(encoding="utf-8-sig")
    assert text.splitlines()[2:] == ['"Doe, Jane",12345,S1,jdoe,A,9.5', '"Ng, Al",12346,S2,ang,A,3.5']


@pytest.mark.parametrize(("site", "student"), [("canvas", "jdoe"), ("moodle", "Jane Doe_123456")])
def test_there_is_no_empty_zip_and_none_of_an_earlier_export(site, student, rosters, tmp_path, capsys):
    table.update_table(tmp_path / "grades.csv", [row(student, EXERCISE, file=f"jdoe/{EXERCISE}.ipynb")])
    bundle = tmp_path / f"{site}-feedback-{EXERCISE}.zip"
    bundle.write_bytes(b"of an earlier export")
    assert export(tmp_path, f"--{site}", rosters[site]) == 0
    said = capsys.readouterr()
    assert not bundle.exists() and bundle.name not in said.out
    assert f"no feedback for {EXERCISE} to upload to {site.title()}" in said.err


def test_who_is_excused_in_canvas_stays_excused(rosters, tmp_path, capsys):
    rosters["canvas"].write_text(CANVAS.replace("S1,jdoe,A,,", "S1,jdoe,A,EX,"))
    table.update_table(tmp_path / "grades.csv", [row("doejane_12345", EXERCISE, points="9.5")])
    assert export(tmp_path, "--canvas", rosters["canvas"]) == 0
    assert '"Doe, Jane",12345,S1,jdoe,A,EX\n' in (tmp_path / "canvas.csv").read_text(encoding="utf-8-sig")
    assert "doejane_12345 is excused from einsum_cam in Canvas" in capsys.readouterr().err


def test_a_roster_that_is_none_is_told(tmp_path):
    (tmp_path / "x.csv").write_text("Teilnehmer,Note\n1,2\n")
    with pytest.raises(ToolError, match="neither a gradebook exported by Canvas"):
        roster.read_roster(tmp_path / "x.csv")
    with pytest.raises(ToolError, match="no such roster"):
        roster.read_roster(tmp_path / "y.csv")


def export(out: Path, *options: str | Path) -> int:
    return command.main(["grades-export", "--out", str(out), *map(str, options)])


def test_a_file_for_canvas(rosters, tmp_path, capsys):
    marked = [row("doejane_12345", EXERCISE, points="9.5"), row("eve", EXERCISE), row("doejane_12345", "hooks")]
    table.update_table(tmp_path / "grades.csv", [*marked, row("ngal_12346", EXERCISE, status=table.NOTHING)])
    assert export(tmp_path, "--canvas", rosters["canvas"]) == 0
    assert (tmp_path / "canvas.csv").read_text(encoding="utf-8-sig").splitlines() == [
        "Student,ID,SIS User ID,SIS Login ID,Section,einsum_cam (4711),hooks",
        "    Points Possible,,,,,10,10",
        '"Doe, Jane",12345,S1,jdoe,A,9.5,7',
        '"Ng, Al",12346,S2,ang,A,3,',
    ]
    told = capsys.readouterr().err
    assert "not exported: eve" in told
    assert "no assignment called hooks" in told


def test_canvas_gives_graded_notebooks_back_without_hidden_tests(rosters, tmp_path):
    """Canvas knows them by the names of its download: the first two numbers are the student's and the file's."""
    told = {"status": "graded; repaired: setup; note: late", "cells": "test_a 1/2; test_b 3/8"}
    there = row("doejane_12345", EXERCISE, file="x/doejane_LATE_12345_678910_einsum_cam-1.ipynb", **told)
    failed = row("ngal_12346", EXERCISE, file="ng?l_12346_678911_Einsum (1).ipynb", status="failed: the file is empty")
    table.update_table(tmp_path / "grades.csv", [there, failed])
    edit(tmp_path / "grades.csv", "doejane_12345", comment="Well argued.")
    graded = tmp_path / "course" / "autograded" / "doejane_12345" / EXERCISE / f"{EXERCISE}.ipynb"
    graded.parent.mkdir(parents=True)
    nbformat.write(nbformat.read(course.EXERCISES / f"{EXERCISE}.ipynb", as_version=4), graded)
    assert export(tmp_path, "--canvas", rosters["canvas"]) == 0
    with zipfile.ZipFile(tmp_path / f"canvas-feedback-{EXERCISE}.zip") as bundle:
        jane, al = (nbformat.reads(bundle.read(name).decode(), as_version=4) for name in bundle.namelist())
        assert bundle.namelist() == [
            "doejane_LATE_12345_678910_einsum_cam-1.ipynb",
            "ngxl_12346_678911_Einsum (1).ipynb",
        ]
    head = f"# {EXERCISE}: 7 of 10 points\n\n- repaired: setup\n- test_a 1/2\n- test_b 3/8\n- Well argued."
    assert jane.cells[0].source == head
    assert len(jane.cells) > 10 and "HIDDEN" in graded.read_text() and "HIDDEN" not in nbformat.writes(jane)
    assert [cell.source for cell in al.cells] == [f"# {EXERCISE}: 7 of 10 points\n\n- failed: the file is empty"]


def test_a_name_whose_letters_a_spreadsheet_lost_is_still_its_students(tmp_path):
    """An older Excel saves in the encoding of Windows, with "?" for every letter that it lacks."""
    path = tmp_path / "grades.csv"
    table.update_table(path, [row("Łukasz Nguyễn"), row("Why?")])
    (tmp_path / "feedback" / "Łukasz Nguyễn").mkdir(parents=True)
    edit(path, "Łukasz Nguyễn", **{"given by hand": "2"})
    path.write_bytes(path.read_text(encoding="utf-8-sig").encode("cp1252", errors="replace"))
    table.update_table(path, [row("Łukasz Nguyễn", points="8")])
    assert {line["student"]: line["total"] for line in table.read_table(path)} == {"Łukasz Nguyễn": "10", "Why?": "7"}
    table.update_table(path, [row("Ła"), row("Ńa")])
    path.write_bytes(path.read_text(encoding="utf-8-sig").encode("cp1252", errors="replace"))
    with pytest.raises(ToolError, match=r"\?a has two rows for hooks\. Delete one, or correct the student's name"):
        table.read_table(path)


def test_points_by_hand_count_where_nothing_could_be_graded(rosters, tmp_path, capsys):
    """A teacher reads the .txt file that a student handed in, and gives points for it."""
    empty = row("doejane_12345", EXERCISE, status=f"{table.NOTHING} that can be graded: 'x.txt'", points="0")
    table.update_table(tmp_path / "grades.csv", [empty, row("ngal_12346", "", points="", file="y.txt")])
    canvas = tmp_path / "canvas.csv"
    assert export(tmp_path, "--canvas", rosters["canvas"]) == 0
    assert '"Doe, Jane",12345,S1,jdoe,A,\n' in canvas.read_text(encoding="utf-8-sig")
    for student in ("doejane_12345", "ngal_12346"):
        edit(tmp_path / "grades.csv", student, **{"given by hand": "3"})
    assert export(tmp_path, "--canvas", rosters["canvas"]) == 0
    assert '"Doe, Jane",12345,S1,jdoe,A,3\n' in canvas.read_text(encoding="utf-8-sig")
    assert "ngal_12346: points given by hand in a row without an exercise" in capsys.readouterr().err


def test_two_rows_of_one_person_are_told(rosters, tmp_path, capsys):
    marked = [row("doejane_12345", EXERCISE, points="9.5"), row("Jane Doe", EXERCISE, points="3")]
    table.update_table(tmp_path / "grades.csv", marked)
    assert export(tmp_path, "--canvas", rosters["canvas"]) == 0
    assert '"Doe, Jane",12345,S1,jdoe,A,9.5' in (tmp_path / "canvas.csv").read_text(encoding="utf-8-sig")
    assert "Jane Doe: the roster's doejane_12345, as doejane_12345 is" in capsys.readouterr().err


def test_files_for_moodle(rosters, tmp_path, capsys):
    status = "graded; repaired: setup; note: renamed, its name is 'x'"  # a note is for the teacher
    marked = [row("Jane Doe_123456", EXERCISE, points="9.5", status=status), row("eve", "hooks")]
    table.update_table(tmp_path / "grades.csv", marked)
    page = tmp_path / "feedback" / "Jane Doe_123456" / f"{EXERCISE}.html"
    page.parent.mkdir(parents=True)
    page.write_text("page")
    edit(tmp_path / "grades.csv", "Jane Doe_123456", comment="=nice")
    assert export(tmp_path, "--moodle", rosters["moodle"], "--only", EXERCISE) == 0
    header, (jane, al), _ = table.read_csv(tmp_path / f"moodle-{EXERCISE}.csv")
    expected = list(csv.reader(MOODLE.splitlines()))
    assert header == expected[0]
    assert al == expected[2]
    assert jane[:4] + jane[5:9] == expected[1][:4] + expected[1][5:9]
    assert (jane[4], jane[9]) == ("95", "'=nice; repaired: setup")
    with zipfile.ZipFile(tmp_path / f"moodle-feedback-{EXERCISE}.zip") as bundle:
        assert bundle.namelist() == [f"Jane Doe_123456_assignsubmission_file_/feedback-{EXERCISE}.html"]
    told = capsys.readouterr().err
    assert "multiplied by 10" in told and "not exported" not in told  # eve has only marks for another exercise
    table.update_table(tmp_path / "grades.csv", [row("Al Ng_123457", EXERCISE, late="30", **{"penalty %": "20"})])
    assert export(tmp_path, "--moodle", rosters["moodle"], "--only", EXERCISE) == 0
    al = table.read_csv(tmp_path / f"moodle-{EXERCISE}.csv")[1][1]
    assert (al[4], al[9]) == ("56", "20 % taken off, as it was 30 hours late")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--canvas", "moodle"], "has to be a gradebook exported by Canvas"),
        (["--moodle", "canvas", "--only", EXERCISE], "has to be the assignment's grading worksheet"),
        (["--moodle", "moodle"], "for one exercise: choose it with --only, of einsum_cam, hooks"),
        (["--moodle", "moodle", "--only", "contrast"], "has no marks for contrast"),
    ],
)
def test_the_wrong_roster_is_told(options, says, rosters, tmp_path, capsys):
    table.update_table(tmp_path / "grades.csv", [row("a", EXERCISE), row("a", "hooks")])
    assert export(tmp_path, options[0], rosters[options[1]], *options[2:]) == 2
    assert says in capsys.readouterr().err


def test_there_is_nothing_to_export(tmp_path, capsys):
    assert export(tmp_path) == 2
    assert "no such table" in capsys.readouterr().err


# ---- several runs into one folder, with nbgrader's gradebook; the machine's part is played


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course")
    course.make_course(folder, ["project", EXERCISE])
    return folder / "release"


@pytest.fixture
def graded(tmp_path, monkeypatch, released):
    """Grade students with these points into one folder: graded({"ada": 8}, "--keep-best")."""
    scores: dict[str, float] = {}

    def machine(submissions, out, limits):
        for submission in submissions:
            left = scores[submission.student]
            cells = {}
            for cell, most in course.machine_graded(submission.exercise).items():
                cells[cell] = (min(left, most), most)
                left -= cells[cell][0]
            handed_out = nbformat.read(released / submission.exercise / f"{submission.exercise}.ipynb", as_version=4)
            notebook, _ = restore(handed_out, nbformat.read(submission.file, as_version=4))
            done = Grade(submission, cells=cells, remarks=list(submission.remarks), notebook=notebook)
            done.page = f"{scores[submission.student]}".encode()
            done.executed = nbformat.writes(notebook).encode()
            yield done

    monkeypatch.setattr(command, "grade_all", machine)

    def grade(
        points: dict[str, float],
        *options: str,
        exercise: str = EXERCISE,
        text: str = "",
        late: float = 0,
        canvas: str = "",
    ):
        folder = tmp_path / f"in-{len(list(tmp_path.iterdir()))}"
        for student in points:
            notebook = nbformat.read(released / exercise / f"{exercise}.ipynb", as_version=4)
            for cell in notebook.cells:
                if text and cell.metadata.get("nbgrader", {}).get("solution"):
                    cell.source = text
            notebook.cells.append(nbformat.v4.new_code_cell("print('a cell of my own')"))
            (folder / student).mkdir(parents=True)
            nbformat.write(notebook, folder / student / f"{canvas}{exercise}.ipynb")
            handed = DUE + timedelta(hours=late)
            (folder / student / "timestamp.txt").write_text(f"{handed:%Y-%m-%d %H:%M:%S.%f} UTC")
        scores.update(points)
        assert command.main(["grade", str(folder), "--out", str(tmp_path / "out"), *options]) == 0
        return rows(tmp_path / "out")

    return grade


def gradebook(out: Path):
    from nbgrader.api import Gradebook

    return Gradebook(f"sqlite:///{out / 'course' / 'gradebook.db'}")


def test_the_newest_attempt_counts_and_a_loss_is_told(graded, tmp_path, capsys):
    graded({"ada": 8, "bob": 5})
    found = graded({"ada": 6})
    assert found["ada", EXERCISE]["status"] == "graded; lower than before: 6 points instead of 8"
    assert found["ada", EXERCISE]["total"] == "6"
    assert found["bob", EXERCISE]["points"] == "5"
    assert "ada, einsum_cam: lower than before: 6 points instead of 8" in capsys.readouterr().err
    with gradebook(tmp_path / "out") as book:
        assert book.find_submission(EXERCISE, "ada").score == 6
    assert graded({"ada": 9})["ada", EXERCISE]["status"] == "graded"


def test_the_best_attempt_is_kept_if_wanted(graded, tmp_path, capsys):
    graded({"ada": 8})
    for _ in range(2):
        ada = graded({"ada": 6}, "--keep-best")["ada", EXERCISE]
        kept = "kept: 8 points of an earlier attempt, as 'einsum_cam.ipynb' has 6"
        assert (ada["points"], ada["status"]) == ("8", f"graded; {kept}")
    assert kept in capsys.readouterr().err
    assert (tmp_path / "out" / "feedback" / "ada" / f"{EXERCISE}.html").read_text() == "8"
    with gradebook(tmp_path / "out") as book:
        assert book.find_submission(EXERCISE, "ada").score == 8


def test_points_given_by_hand_to_an_earlier_attempt_are_told(graded, tmp_path, capsys):
    graded({"ada": 5, "bob": 5}, text="My answer.")
    edit(tmp_path / "out" / "grades.csv", "ada", **{"given by hand": "1.5"})
    assert graded({"ada": 5}, text="My answer.")["ada", EXERCISE]["status"] == "graded"
    for _ in range(2):  # also when the same file is graded once more
        ada = graded({"ada": 10, "bob": 10}, text="My other answer.")["ada", EXERCISE]
        assert (ada["status"], ada["total"]) == (f"graded; {recording.BY_HAND}", "11.5")
    edit(tmp_path / "out" / "grades.csv", "ada", status="graded")
    assert graded({"ada": 10}, text="My other answer.")["ada", EXERCISE]["status"] == "graded"
    capsys.readouterr()
    assert export(tmp_path / "out") == 0
    assert capsys.readouterr().err == "ada has 11.5 of 10 points for einsum_cam\n"


def test_points_given_in_the_formgrader_stay_and_appear_in_the_table(graded, tmp_path):
    out = tmp_path / "out"
    answered = graded({"ada": 20}, exercise="project", text="My answer.")
    assert answered["ada", "project"]["by hand"] == "30"
    with gradebook(out) as book:
        submission = book.find_submission("project", "ada")
        assert submission.needs_manual_grade
        for grade in submission.notebooks[0].grades:
            if grade.auto_score is None:
                grade.manual_score, grade.needs_manual_grade = 4, False
        book.find_grade("test_energy", "project", "project", "ada").extra_credit = 1
        book.db.commit()
    assert export(out) == 0
    ada = rows(out)["ada", "project"]
    assert (ada["points"], ada["in formgrader"], ada["by hand"], ada["total"]) == ("10", "17", "0", "27")
    again = graded({"ada": 9, "bob": 3}, exercise="project", text="My answer.")
    ada = again["ada", "project"]
    assert (ada["in formgrader"], ada["total"]) == ("17", "26")
    assert ada["status"] == "graded; lower than before: 9 points instead of 10"
    other = graded({"ada": 9}, exercise="project", text="My other answer.")["ada", "project"]
    assert other["total"] == "26"
    assert other["status"] == "graded; note: points given in the formgrader are for an earlier attempt, look again"
    with gradebook(out) as book:
        assert book.find_submission("project", "ada").needs_manual_grade


def test_what_is_left_blank_needs_nobody(graded):
    assert graded({"ada": 20}, exercise="project")["ada", "project"]["by hand"] == "0"


def test_the_formgrader_takes_every_submission_for_graded(graded, tmp_path):
    """By nbgrader's API, which the formgrader shows: it compares the times in its files and in its database."""
    graded({"ada": 8, "Jane Doe_123456": 9}, late=0.0001)
    graded({"doejane_12345": 7}, canvas="doejane_LATE_12345_678910_")
    shown = {row["student"]: row for row in course.api(tmp_path / "out" / "course").get_submissions(EXERCISE)}
    assert {student: row["score"] for student, row in shown.items()} == {
        "ada": 8,
        "Jane Doe_123456": 9,
        "doejane_12345": 7,
    }
    assert all(row["autograded"] and row["submitted"] for row in shown.values())


@pytest.mark.slow
def test_the_formgrader_shows_answers_and_takes_points(graded, tmp_path):
    """nbgrader's pages and what they send, from a server that is started as the teacher's page says."""
    graded({"ada": 10}, exercise="project", text="The cat lies there.")
    with formgrader(tmp_path) as ask:
        (submission,) = json.loads(ask("api/submitted_notebooks/project/project"))
        page = ask(f"submissions/{submission['id']}/")
        for text in ("Project: is the network right", "The question", "The cat lies there."):
            assert text in page
        cells = json.loads(ask(f"api/grades?submission_id={submission['id']}"))
        question = next(cell for cell in cells if cell["name"] == "report_question")
        ask(f"api/grade/{question['id']}", {"manual_score": 4, "extra_credit": None})
    ada = graded({"ada": 9}, exercise="project", text="The cat lies there.")["ada", "project"]
    assert (ada["points"], ada["in formgrader"], ada["by hand"], ada["total"]) == ("9", "4", "25", "13")


@contextmanager
def formgrader(folder: Path):
    """A server in the course below a folder: a function that asks its formgrader for something, or sends it."""
    own = {f"JUPYTER_{name}_DIR": str(folder / "jupyter" / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", "--IdentityProvider.token=abc"]
    command += ["--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    with open(folder / "server.log", "wb") as log:
        server = subprocess.Popen(
            command, cwd=folder / "out" / "course", env=os.environ | own, stdout=log, stderr=subprocess.STDOUT
        )

    def ask(what: str, data: object = None) -> str:
        body = None if data is None else json.dumps(data).encode()
        address, headers = f"http://127.0.0.1:{port}/formgrader/{what}", {"Authorization": "token abc"}
        request = urllib.request.Request(address, body, headers, method="GET" if body is None else "PUT")
        for _ in range(300):
            try:
                return urllib.request.urlopen(request, timeout=60).read().decode()
            except urllib.error.HTTPError:
                raise
            except OSError:
                assert server.poll() is None, (folder / "server.log").read_text(encoding="utf-8")
                time.sleep(0.3)
        pytest.fail("the server does not answer")

    try:
        yield ask
    finally:
        server.terminate()
        server.wait()


@pytest.mark.slow
def test_nbgraders_own_commands_accept_the_course(graded, tmp_path):
    graded({"ada": 8, "Jane Doe_123456": 9}, "--due", DUE.isoformat(), "--late-penalty", "10", late=2)
    place = tmp_path / "out" / "course"
    for arguments in (["export", "--to", "all.csv"], ["generate_feedback", EXERCISE]):
        called = subprocess.run(
            [sys.executable, "-m", "nbgrader", *arguments], cwd=place, capture_output=True, text=True
        )
        assert called.returncode == 0, called.stderr
    found = {line["student_id"]: line for line in csv.DictReader((place / "all.csv").open())}
    assert {student: float(line["score"]) for student, line in found.items()} == {"ada": 7.2, "Jane Doe_123456": 8.1}
    assert found["ada"]["duedate"].startswith("2026-12-01 18:00")
    for student in found:
        assert (place / "feedback" / student / EXERCISE / f"{EXERCISE}.html").is_file()


def test_late_work_has_a_column_and_a_price_only_if_wanted(graded):
    due = ["--due", DUE.isoformat()]
    ada = graded({"ada": 8}, *due, late=30)["ada", EXERCISE]
    assert (ada["late"], ada["penalty %"], ada["total"]) == ("30", "", "8")
    assert ada["handed in"].endswith("(timestamp.txt)")
    ada = graded({"ada": 8}, *due, "--late-penalty", "10", late=30)["ada", EXERCISE]
    assert (ada["late"], ada["penalty %"], ada["total"]) == ("30", "20", "6.4")
    assert graded({"ada": 8}, *due)["ada", EXERCISE]["late"] == "0"
    assert graded({"ada": 8})["ada", EXERCISE]["late"] == ""


def test_lateness_that_a_run_without_its_options_drops_is_told(graded, capsys):
    due = ["--due", DUE.isoformat()]
    full = [*due, "--late-penalty", "10"]
    graded({"ada": 8}, *full, late=30)
    capsys.readouterr()
    for _ in range(2):  # also when it is graded so once more
        ada = graded({"ada": 8}, late=30)["ada", EXERCISE]
        told = "note: graded without --due: before, it was 30 hours late, and 20 % were taken off"
        assert (ada["status"], ada["total"]) == (f"graded; {told}", "8")
        said = capsys.readouterr().err
        assert f"ada, einsum_cam: {told}" in said
        assert f"einsum_cam was due {DUE.astimezone():%Y-%m-%d %H:%M} by an earlier run" in said
    ada = graded({"ada": 8}, *full, late=30)["ada", EXERCISE]
    assert (ada["status"], ada["total"]) == ("graded", "6.4")
    ada = graded({"ada": 8}, *due, late=30)["ada", EXERCISE]
    assert "without --late-penalty: before" in ada["status"] and ada["late"] == "30"
    assert "due" not in capsys.readouterr().err.replace("--due", "")


def test_a_second_run_into_the_same_folder_has_to_wait(graded, tmp_path, capsys):
    graded({"ada": 8})
    capsys.readouterr()
    with alone(tmp_path / "out"):
        assert export(tmp_path / "out") == 2
        (folder,) = tmp_path.glob("in-*")
        assert command.main(["grade", str(folder), "--out", str(tmp_path / "out")]) == 2
    said = (
        f"classroom: Another `grade` or `grades-export` is at work in {tmp_path / 'out'}. Start this when it has ended."
    )
    assert capsys.readouterr().err.splitlines() == [said] * 2
    assert export(tmp_path / "out") == 0


def test_a_roster_tells_who_is_missing_and_who_is_unknown(graded, rosters, tmp_path, capsys):
    options = ["--roster", str(rosters["list"])]
    found = graded({"jdoe": 8, "eve": 7}, *options)
    assert found["ang", EXERCISE]["status"] == "nothing handed in"
    assert (found["ang", EXERCISE]["points"], found["ang", EXERCISE]["of"]) == ("0", "10")
    assert found["eve", EXERCISE]["status"] == "graded; note: not in the roster, or more than one there fits"
    assert "eve, einsum_cam: note: not in the roster" in capsys.readouterr().err
    (tmp_path / "more" / "ang").mkdir(parents=True)
    (tmp_path / "more" / "ang" / f"{EXERCISE}.txt").write_text("print()")
    where = [str(tmp_path / "more"), "--out", str(tmp_path / "out"), "--only", EXERCISE]
    assert command.main(["grade", *where, *options]) == 1
    assert "0 graded; 0 failed and have no points; 1 could not be graded" in capsys.readouterr().out
    for _ in range(2):  # also when others are graded, from another folder
        status = rows(tmp_path / "out")["ang", EXERCISE]["status"]
        assert status == "nothing handed in that can be graded: 'ang/einsum_cam.txt'"
        graded({"eve": 7}, *options)
    found = graded({"Al Ng": 5}, *options)
    assert set(found) == {(student, EXERCISE) for student in ("jdoe", "eve", "Al Ng")}


def test_only_tells_what_it_leaves_out_of_files_named_like_the_exercise(graded, tmp_path, capsys):
    graded({"ada": 8}, "--only", EXERCISE)
    folder = tmp_path / "in-0"
    (folder / "bob").mkdir()
    (folder / "bob" / f"{EXERCISE}.ipynb").write_bytes((course.EXERCISES / "hooks.ipynb").read_bytes())
    (folder / "ada" / "hooks.ipynb").write_bytes((course.EXERCISES / "hooks.ipynb").read_bytes())
    capsys.readouterr()
    assert command.main(["grade", str(folder), "--out", str(tmp_path / "out"), "--only", EXERCISE]) == 0
    told = f"bob: its name is '{EXERCISE}.ipynb', but its cells are those of hooks, so --only leaves it out\n"
    assert capsys.readouterr().err.endswith(told)


def test_moodles_worksheet_knows_the_time(graded, rosters):
    due = datetime(2026, 12, 1, 18).astimezone().isoformat()
    found = graded({"Jane Doe": 8}, "--roster", str(rosters["moodle"]), "--due", due)
    jane = found["Jane Doe", EXERCISE]
    assert (jane["late"], jane["handed in"]) == ("2", "2026-12-01 20:00 (Moodle's worksheet)")


def test_an_exercise_with_other_cells_needs_another_folder(graded, tmp_path, monkeypatch, capsys):
    graded({"ada": 8})
    notebook = nbformat.read(course.EXERCISES / f"{EXERCISE}.ipynb", as_version=4)
    notebook.cells = [c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") != "test_deviation"]
    for file in course.EXERCISES.glob("*.ipynb"):
        (tmp_path / "exercises").mkdir(exist_ok=True)
        (tmp_path / "exercises" / file.name).write_bytes(file.read_bytes())
    nbformat.write(notebook, tmp_path / "exercises" / f"{EXERCISE}.ipynb")
    for module in ("course", "gradebook"):
        monkeypatch.setattr(f"tools.classroom.{module}.EXERCISES", tmp_path / "exercises")
    assert command.main(["grade", str(tmp_path / "in-0"), "--out", str(tmp_path / "out")]) == 2
    assert "has other cells than when it was graded" in capsys.readouterr().err
