"""Every chapter has the lesson form, its prose agrees with its outputs, and no hidden state holds it together."""

import re
from pathlib import Path

import nbformat
import pytest

from tests.checks.solutions import run_solved
from tools import minutes, notebooks

CHAPTERS = notebooks.chapters()
ALL = notebooks.all_notebooks()
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?")


def source(chapter: Path, kind: str) -> str:
    return "\n\n".join(c.source for c in nbformat.read(chapter, as_version=4).cells if c.cell_type == kind)


def prose(chapter: Path) -> str:
    """The markdown without code, formulas and addresses, which say their numbers by definition."""
    text = source(chapter, "markdown").replace("−", "-").replace("\N{NO-BREAK SPACE}", " ")
    for pattern in (r"```.*?```", r"`[^`]*`", r"\$\$.*?\$\$", r"\$[^$\n]*\$", r"\]\([^)]*\)", r"arXiv[: ][\d.]+"):
        text = re.sub(pattern, " ", text, flags=re.S)
    return text


def printed(chapter: Path) -> set[str]:
    """Every number in the stored text outputs."""
    found: set[str] = set()
    for cell in nbformat.read(chapter, as_version=4).cells:
        for output in cell.get("outputs", []):
            text = output.get("text", "") + output.get("data", {}).get("text/plain", "")
            found |= set(NUMBER.findall(text.replace("−", "-")))
    return found


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda p: p.stem)
def test_lesson_form(chapter):
    text, code = source(chapter, "markdown"), source(chapter, "code")
    number = chapter.stem[:2]
    assert text.startswith(f"# {number} · ")
    question = text.split("\n\n")[1]
    assert question.startswith("**") and question.endswith("?**"), "the one question stands under the title, in bold"
    for part in ("*You need:*", "*Time:*", "*Predict, then run.*", "## Exercise", "## Recap", "## Further reading"):
        assert part in text, f"{part} is missing"
    numbered = re.findall(r"(?s)<details><summary>(\d)\. .+?</summary>", text)
    assert numbered == list("12345"), "five questions with folded answers"
    assert "<summary>Solution" in text
    titles = "".join(re.findall(r"(?s)<summary>(.+?)</summary>", text))
    assert not set("`*$") & set(titles), "Jupyter reads no Markdown there: <code>, <em>"
    recap = text.split("## Recap")[1].split("##")[0]
    assert len(re.findall(r"(?m)^- ", recap)) == 3, "the recap has three lines"
    assert "assert " in code, "what is built by hand is asserted equal to what camlib gives"
    assert "import camlib" in code or "from camlib" in code
    assert "check." in code, "the exercise is checked"


@pytest.mark.parametrize("dive", notebooks.deep_dives(), ids=lambda p: p.stem)
def test_the_form_of_a_deep_dive(dive):
    text, code = source(dive, "markdown"), source(dive, "code")
    assert text.startswith("# Deep dive · ")
    question = text.split("\n\n")[1]
    assert question.startswith("**") and question.endswith("?**"), "the one question stands under the title, in bold"
    for part in ("*You need:*", "*Time:*", "## Recap"):
        assert part in text, f"{part} is missing"
    assert len(re.findall(r"(?m)^- ", text.split("## Recap")[1].split("##")[0])) == 3, "the recap has three lines"
    assert "assert " in code


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda p: p.stem)
def test_a_chapter_is_short_in_code_and_long_in_exercises(chapter):
    """Cells of 15 lines at most, but for those that are folded; five predictions at most; three exercises or more."""
    notebook = nbformat.read(chapter, as_version=4)
    shown = [c for c in notebooks.code_cells(notebook) if not c.metadata.get("jupyter", {}).get("source_hidden")]
    long = [notebooks.first_line(c) for c in shown if len(c.source.strip().splitlines()) > 15]
    assert not long, "cells of more than 15 lines"
    text = source(chapter, "markdown")
    assert text.count(notebooks.PREDICT) <= 5
    levels = re.findall(r"(?m)^#+ Exercise.*\((easy|normal|hard), \d+ minutes?\)$", text)
    assert {"easy", "normal", "hard"} <= set(levels), "three exercises at least: easy, normal and hard"


@pytest.mark.parametrize("chapter", ALL, ids=lambda p: p.stem)
def test_numbers_in_prose_are_printed_by_a_cell(chapter):
    """Measured numbers stand in **bold**, with the rounding of the output. A decimal or a percentage must be bold."""
    text, outputs = prose(chapter), printed(chapter)
    for bold in re.findall(r"\*\*([^*]+)\*\*", text):
        for number in NUMBER.findall(bold):
            assert number in outputs, f"**{bold}**: no cell prints {number}"
    plain = re.sub(r"\*\*[^*]+\*\*", " ", text)
    loose = re.findall(r"(?<![\w.])\d+\.\d+|\d+ ?%", plain)
    assert not loose, f"measured numbers are not bold: {loose}"


@pytest.mark.parametrize("chapter", ALL, ids=lambda p: p.stem)
def test_minutes_are_honest(chapter):
    needed = minutes.reading(nbformat.read(chapter, as_version=4)).minutes
    assert f"*Time:* {needed} minutes" in source(chapter, "markdown"), "run: python3 run.py update"


def test_how_minutes_are_counted():
    cells = [
        nbformat.v4.new_markdown_cell("# Two words\n\n" + "word " * 120 + "\n\n*Predict, then run.*"),
        nbformat.v4.new_code_cell("for x in range(3):\n    print('a', x)"),
        nbformat.v4.new_code_cell("draw()", metadata={"jupyter": {"source_hidden": True}}),
        nbformat.v4.new_markdown_cell("## Exercise: more (7 minutes)"),
        nbformat.v4.new_markdown_cell("<details><summary>Solution</summary>\n\n" + "long " * 999 + "</details>"),
        nbformat.v4.new_markdown_cell("## Further reading\n\n" + "more " * 999),
    ]
    found = minutes.reading(nbformat.v4.new_notebook(cells=cells))
    assert found == (2 + 120 + 3 + 3, 8, 1, 7)  # for x in range 3 print 'a' x
    assert found.minutes == 10, "(128 + 8) / 125 + 0.5 + 7 = 8.6"
    assert minutes.Reading(625, 0, 0, 0).minutes == 5 and minutes.Reading(626, 0, 0, 0).minutes == 10


@pytest.mark.long
@pytest.mark.parametrize("chapter", ALL, ids=lambda p: p.stem)
def test_every_cell_twice(chapter):
    """A reader runs cells again: each one runs twice here, in order, in a fresh kernel and without stored outputs.

    Cells tagged `long`, such as a training, run once.
    """
    notebook = nbformat.read(chapter, as_version=4)
    notebook.cells = [
        nbformat.v4.new_code_cell(c.source, metadata=c.metadata)
        for c in notebooks.code_cells(notebook)
        for _ in range(1 if "long" in notebooks.tags_of(c) else 2)
    ]
    notebooks.execute(notebook, chapter.parent)  # an error in a cell is raised here
    assert all(c.execution_count for c in notebook.cells if not notebooks.why_not_here(c))


@pytest.mark.long
@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda p: p.stem)
def test_solutions_pasted_into_their_cells_break_nothing_after_them(chapter):
    """A learner pastes a folded solution below the stub and goes on: the check says that it is right, the rest runs."""
    said = run_solved(chapter.stem)
    assert len(said) >= 3
    assert not [text for text in said if not re.search(r"(?m)^Right", text)]


def test_the_first_chapter_links_all_others():
    links = re.findall(r"\]\(([^)]+\.ipynb)\)", source(CHAPTERS[0], "markdown"))
    assert set(links) >= {c.name for c in CHAPTERS[1:]}
