"""The teacher's pages keep their form, quote what the chapters print, and link to what exists."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

import run
from tests.test_chapters import NUMBER, printed
from tools import catalogue, footprint, notebooks, update, website
from tools.minutes import reading

FOLDER = notebooks.ROOT / "notebooks" / "instructor"
NOTES = sorted(FOLDER.glob("[0-9][0-9]_*.md"))
GRADED = sorted((FOLDER / "graded").glob("*.md"))
EXERCISES = notebooks.ROOT / "notebooks" / "exercises"
README, MARKS, SERVERS = ((FOLDER / f"{n}.md").read_text(encoding="utf-8") for n in ("README", "marks", "servers"))
SECTIONS = [
    "50 minutes",
    "90 minutes",
    "What students get wrong, and why",
    "Questions to ask",
    "The exercise",
    "If something fails",  # where there is something
]


def sections(text: str) -> dict[str, str]:
    """Heading -> what stands below it."""
    title, *parts = re.split(r"(?m)^## ", text)
    return {"": title} | {heading: body for heading, _, body in (part.partition("\n") for part in parts)}


def minutes(table: str) -> list[int]:
    return [int(n) for n in re.findall(r"(?m)^\| (\d+) \|", table)]


def test_every_chapter_has_its_page_and_no_other() -> None:
    assert [note.stem for note in NOTES] == [chapter.stem for chapter in notebooks.chapters()]


@pytest.mark.parametrize("note", NOTES, ids=lambda note: note.stem)
def test_the_form_of_a_page(note: Path) -> None:
    found = sections(note.read_text(encoding="utf-8"))
    chapter = notebooks.read(note.parents[1] / f"{note.stem}.ipynb")
    assert found[""].splitlines()[0] == chapter.cells[0].source.splitlines()[0] + update.FOR_TEACHERS, "title"
    assert list(found)[1:] in (SECTIONS, SECTIONS[:-1])
    for total in (50, 90):
        assert sum(minutes(found[f"{total} minutes"])) == total
    assert 3 <= len(re.findall(r"(?m)^- ", found["What students get wrong, and why"])) <= 6
    asked = re.findall(r"(?m)^\d\. (?:(?!^\d\. ).)*?[.?] → ", found["Questions to ask"], re.S | re.M)
    assert 4 <= len(asked) <= 6, "questions with their answers"


@pytest.mark.parametrize("note", NOTES, ids=lambda note: note.stem)
def test_numbers_are_printed_by_the_chapter(note: Path) -> None:
    """As in the chapters: a measured number stands in **bold**, with the rounding of the output."""
    outputs = printed(note.parents[1] / f"{note.stem}.ipynb")
    text = re.sub(r"`[^`]*`|\]\([^)]*\)", " ", note.read_text(encoding="utf-8").replace("−", "-"))
    wrong = [n for bold in re.findall(r"\*\*([^*]+)\*\*", text) for n in NUMBER.findall(bold) if n not in outputs]
    assert not wrong, "no cell prints these"
    loose = re.findall(r"(?<![\w.])\d+\.\d+|\d+ ?%", re.sub(r"\*\*[^*]+\*\*", " ", text))
    assert not loose, "measured numbers are not bold"


@pytest.mark.parametrize("page", sorted(FOLDER.rglob("*.md")), ids=lambda page: str(page.relative_to(FOLDER)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.is_file(), link
        headings = re.findall(r"(?m)^#+ (.+)$", target.read_text(encoding="utf-8")) if anchor else []
        assert not anchor or anchor in [re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings], link


GRADED_SECTIONS = [
    "Rubric",  # where people mark
    "What students get wrong, and why",
    "To help",
    "Right answers that look odd",
    "Before you hand it out",
]


def is_part(cell: NotebookNode) -> bool:
    return bool(cell.cell_type == "code" and notebooks.ALONE_TAG not in notebooks.tags_of(cell))


def texts(sources: list[str]) -> str:
    """All string constants of some code, line ends as spaces; an f-string's parts stand apart."""
    found = [node.value for s in sources for node in ast.walk(ast.parse(s)) if isinstance(node, ast.Constant)]
    return "\n".join(" ".join(value.split()) for value in found if isinstance(value, str))


def test_every_exercise_has_its_page_and_no_other() -> None:
    assert [page.stem for page in GRADED] == sorted(path.stem for path in EXERCISES.glob("*.ipynb"))
    listed = set(re.findall(r"\]\(graded/(\w+)\.md\)", MARKS))
    assert listed == {page.stem for page in GRADED}


@pytest.mark.parametrize("page", GRADED, ids=lambda page: page.stem)
def test_a_page_on_a_graded_exercise(page: Path) -> None:
    """Title, cells and points are the notebook's, quoted feedback is what its tests say, and the form is the same."""
    text = page.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60
    found = sections(text)
    exercise = notebooks.read(EXERCISES / f"{page.stem}.ipynb")
    first = exercise.cells[0].source
    assert text.splitlines()[0] == first.splitlines()[0] + update.FOR_TEACHERS, "title"
    marks = [cell.metadata.get("nbgrader", {}) for cell in exercise.cells]
    points = [(mark["grade_id"], str(mark["points"])) for mark in marks if mark.get("grade")]
    assert re.findall(r"(?m)^\| `(\w+)` \| (\d+) \|", found[""]) == points, "cells and points"
    by_hand = any(name.startswith("report_") for name, _ in points)
    assert list(found)[1:] == (GRADED_SECTIONS if by_hand else GRADED_SECTIONS[1:])
    mistakes = re.findall(r"(?ms)^- .*?(?=^- |\Z)", found["What students get wrong, and why"])
    assert 3 <= len(mistakes) <= 6
    assert len(re.findall(r"(?m)^- [^\n]*", found["To help"])) >= len(mistakes), "a question for each mistake"
    assert all("?" in hint for hint in re.findall(r"(?ms)^- .*?(?=^- |\Z)", found["To help"]))
    assert 2 <= found["Right answers that look odd"].count("\n- ") <= 3
    assert set(re.findall(r"`(test_\w+)`", text)) == {name for name, _ in points if name.startswith("test_")}
    (time,) = re.findall(r"\*Time:\* ([\w ]+)", first)
    assert found["Before you hand it out"].strip().startswith(time), "the minutes"
    said = texts([cell.source for cell in exercise.cells if is_part(cell)])
    quotes = [" ".join(quote.split()) for quote in re.findall(r'\*"([^"]+)"\*', text)]
    assert not [quote for quote in quotes if quote not in said], "no test says this"


def test_the_rubric_is_that_of_the_project() -> None:
    """The parts of a cell's points are those that its students read, and they add up."""
    rubric = sections((FOLDER / "graded" / "project.md").read_text(encoding="utf-8"))["Rubric"]
    rows = re.findall(r"(?m)^\| (\w+): [^|]+ \| (\d) \|[^|]+\|[^|]+\|[^|]+\|$", rubric)
    cells = notebooks.read(EXERCISES / "project.ipynb").cells
    prompts = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert [points for _, points in rows] == re.findall(r"(?:\(|\. )(\d): ", prompts)
    total = {name: sum(int(points) for part, points in rows if part == name) for name, _ in rows}
    marks = [cell.metadata.get("nbgrader", {}) for cell in cells]
    by_hand = {m["grade_id"]: m["points"] for m in marks if m.get("grade") and m["grade_id"].startswith("report_")}
    assert {f"report_{name}": points for name, points in total.items()} == by_hand


def test_the_syllabus_adds_up() -> None:
    """Times and points are those that the exercises state; the hours are those of the chapters and exercises."""
    text = (FOLDER / "syllabus.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| \[(\w+)\]\(graded/\1\.md\) \| \d\d \| ([\w ]+) \| (\d+) \|$", text)
    stated = {}
    for path in sorted(EXERCISES.glob("*.ipynb")):
        first = notebooks.read(path).cells[0].source
        time, points = re.search(r"\*Time:\* ([\w ]+)", first), re.search(r"\*Points:\*\s+(\d+)", first)
        assert time and points
        stated[path.stem] = (time[1], points[1])
    assert {name: (time, points) for name, time, points in rows} == stated
    hours = dict(re.findall(r"(?m)^\| (?:the )?(\w+ \w+)\b.*\| (\d+) \|$", text))
    in_chapters = sum(reading(notebooks.read(c)).minutes for c in notebooks.chapters()) / 60
    assert abs(int(hours["reading the"]) - in_chapters) < 1
    minutes = [int(time.split()[0]) for time, _ in stated.values() if time.endswith(" minutes")]
    assert abs(int(hours["graded exercises"]) - sum(minutes) / 60) < 1, "hours in the table of syllabus.md"


def test_the_readme_lists_every_page_and_its_first_commands_are_known() -> None:
    assert set(re.findall(r"\((\d\d_\w+\.md)\)", README)) == {note.name for note in NOTES}
    others = {page.name for page in FOLDER.glob("[a-z]*.md")}
    assert set(re.findall(r"\(([a-z]\w+\.md)[#)]", README)) == others
    commands = re.findall(r"(?m)^python3 run\.py (\S+)", README + MARKS)
    assert commands[:3] == ["slides", "classroom", "grade"]
    assert set(commands) <= set(run.COMMANDS)


def test_no_two_pages_of_the_site_have_one_title() -> None:
    """In the site's search, a chapter, the page for its teachers and a document can be told apart."""
    posts = [lesson.heading.removeprefix("# ") for lesson in [*catalogue.chapters(), *catalogue.deep_dives()]]
    titles = Counter(posts + [page.title for page in [*website.documents(), *website.reference_pages()]])
    assert titles["02 · Hooks"] == titles["02 · Hooks (for teachers)"] == 1
    assert not [title for title, pages in titles.items() if pages > 1]


def test_the_cost_of_every_chapter_is_listed() -> None:
    assert footprint.table([]) in SERVERS
    rows = re.findall(r"(?m)^\| (\d\d) \| +\d+ \| +\d+ \|$", SERVERS)
    chapters = [chapter.stem[:2] for chapter in notebooks.chapters()]
    assert rows == chapters, "put the row that `python3 run.py footprint NOTEBOOK` prints into the table of servers.md"


def test_a_footprint_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A kernel with 300 MB and a second of work is seen, also beside larger processes; a failing one is named."""
    source = "import time\nkept = bytearray(300_000_000)\nend = time.process_time() + 1"
    source += "\nwhile time.process_time() < end:\n    pass"
    for name, last in (("good", ""), ("bad", "\n1 / 0")):
        cell = new_code_cell(source + last)
        notebooks.write(tmp_path / f"{name}.ipynb", new_notebook(cells=[cell]))
    before = (tmp_path / "good.ipynb").read_bytes()
    large = [sys.executable, "-c", "kept = b'x' * 700_000_000; print(flush=True); input()"]
    with (
        pytest.MonkeyPatch.context() as patch,
        subprocess.Popen(large, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other,
    ):
        assert other.stdout and other.stdout.readline()  # it is as large as it will be
        patch.setenv("OMP_NUM_THREADS", "1")  # put back afterwards
        assert footprint.main([str(tmp_path / "good.ipynb"), "--threads", "1"]) == 0
        row = re.search(r"\| good \| (\d+) \| (\d+) \|", capsys.readouterr().out)
        assert row and 1 <= int(row[1]) < 60 and 300 < int(row[2]) < 600
        assert footprint.main([str(tmp_path / "bad.ipynb")]) == 1
        other.communicate(b"\n")
    assert "bad.ipynb: Cell 0 raised ZeroDivisionError" in capsys.readouterr().err
    assert (tmp_path / "good.ipynb").read_bytes() == before
