"""Every chapter has the lesson form, its prose agrees with its outputs, and no hidden state holds it together."""

import re
from pathlib import Path

import nbformat
import pytest

from tools import notebooks

CHAPTERS = notebooks.all_notebooks()
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
    numbered = re.findall(r"<details><summary>(\d)\. [^<]+</summary>", text)
    assert numbered == list("12345"), "five questions with folded answers"
    assert "<summary>Solution" in text
    recap = text.split("## Recap")[1].split("##")[0]
    assert len(re.findall(r"(?m)^- ", recap)) == 3, "the recap has three lines"
    assert "assert " in code, "what is built by hand is asserted equal to what camlib gives"
    assert "import camlib" in code or "from camlib" in code
    assert "check." in code, "the exercise is checked"


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda p: p.stem)
def test_numbers_in_prose_are_printed_by_a_cell(chapter):
    """Measured numbers stand in **bold**, with the rounding of the output. A decimal or a percentage must be bold."""
    text, outputs = prose(chapter), printed(chapter)
    for bold in re.findall(r"\*\*([^*]+)\*\*", text):
        for number in NUMBER.findall(bold):
            assert number in outputs, f"**{bold}**: no cell prints {number}"
    plain = re.sub(r"\*\*[^*]+\*\*", " ", text)
    loose = re.findall(r"(?<![\w.])\d+\.\d+|\d+ ?%", plain)
    assert not loose, f"measured numbers are not bold: {loose}"


@pytest.mark.long
@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda p: p.stem)
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


def test_the_first_chapter_links_all_others():
    links = re.findall(r"\]\(([^)]+\.ipynb)\)", source(CHAPTERS[0], "markdown"))
    assert set(links) >= {c.name for c in CHAPTERS[1:]}
