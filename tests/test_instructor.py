"""The teacher's pages keep their form, quote what the chapters print, and link to what exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tests.test_chapters import NUMBER, printed
from tools import footprint, notebooks
from tools.minutes import reading

FOLDER = notebooks.ROOT / "notebooks" / "instructor"
NOTES = sorted(FOLDER.glob("[0-9][0-9]_*.md"))
README = (FOLDER / "README.md").read_text(encoding="utf-8")
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
    assert found[""].splitlines()[0] == chapter.cells[0].source.splitlines()[0], "title"
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


def test_the_syllabus_adds_up() -> None:
    """Minutes and points are those that the exercises state; the hours are those of the chapters and exercises."""
    text = (FOLDER / "syllabus.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| \[(\w+)\]\(graded/\1\.md\) \| \d\d \| (\d*) \| (\d+) \|$", text)
    stated = {}
    for path in sorted((notebooks.ROOT / "notebooks" / "exercises").glob("*.ipynb")):
        first = notebooks.read(path).cells[0].source
        time = re.search(r"\*Time:\* (\d+) minutes", first)
        points = re.search(r"\*Points:\*\s+(\d+)", first)
        assert points
        stated[path.stem] = (time[1] if time else "", points[1])
    assert {name: (time, points) for name, time, points in rows} == stated
    hours = dict(re.findall(r"(?m)^\| (?:the )?(\w+ \w+) .*\| (\d+) \|$", text))
    in_chapters = sum(reading(notebooks.read(c)).minutes for c in notebooks.chapters()) / 60
    assert abs(int(hours["reading the"]) - in_chapters) < 1
    assert abs(int(hours["nine graded"]) - sum(int(time) for time, _ in stated.values() if time) / 60) < 1


def test_the_readme_lists_every_page_and_the_cost_of_every_chapter() -> None:
    assert set(re.findall(r"\((\d\d_\w+\.md)\)", README)) == {note.name for note in NOTES}
    assert footprint.table([]) in README
    rows = re.findall(r"(?m)^\| (\d\d) \| +\d+ \| +\d+ \| \d\.\d\d \|$", README)
    assert rows == [chapter.stem[:2] for chapter in notebooks.chapters()]


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
        row = re.search(r"\| good \| (\d+) \| (\d+) \| 0\.00 \|", capsys.readouterr().out)
        assert row and 1 <= int(row[1]) < 60 and 300 < int(row[2]) < 600
        assert footprint.main([str(tmp_path / "bad.ipynb")]) == 1
        other.communicate(b"\n")
    assert "bad.ipynb: Cell 0 raised ZeroDivisionError" in capsys.readouterr().err
    assert (tmp_path / "good.ipynb").read_bytes() == before
