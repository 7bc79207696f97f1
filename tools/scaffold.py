"""What new posts, chapters and exercises have in common: templates with {{names}}, and files that must be new."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tools import address, notebooks, pages
from tools.errors import ToolError
from tools.files import write

TEMPLATES = Path(__file__).resolve().with_name("new")


def value(argument: str) -> str:
    """The text of an argument such as `TITLE=The kettle`, on one line; the part before the sign may be left out."""
    return " ".join(re.sub(r"\A[A-Z]+=", "", argument).split())


def module_name(title: str) -> str:
    """The name of the files that belong to a title: a Python module can have it."""
    name = pages.slug(title).replace("-", "_")
    if not title[:1].isalpha() or not name.isidentifier():
        raise ToolError(f"{title!r}: begin the title with a letter; Python files are named after it.")
    return name


def filled(template: Path, values: Mapping[str, str]) -> str:
    """The template with its {{names}} replaced."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], template.read_text(encoding="utf-8"))


def parts(text: str) -> Iterator[tuple[list[str], str]]:
    """The cells of a notebook's template: the words behind `%%`, and the source."""
    found = re.split(r"(?m)^%% (.+)\n", text)[1:]
    for head, source in zip(found[::2], found[1::2], strict=True):
        yield head.split(), source.rstrip("\n")


def lesson(template: Path, path: Path, values: Mapping[str, str]) -> NotebookNode:
    """A notebook of cells `%% text` and `%% code`, for this place."""
    make = {"text": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
    cells = [make[kind](source) for [kind], source in parts(filled(template, values))]
    notebook = nbformat.v4.new_notebook(cells=cells)
    if path.resolve().is_relative_to(notebooks.ROOT):
        notebook = address.with_cell(notebook, path)
    return notebooks.normalise(notebook)


def write_new(files: Mapping[Path, bytes]) -> None:
    """Write all of these files, or none if one of them is there already."""
    if there := [str(notebooks.from_here(path)) for path in files if path.exists()]:
        raise ToolError(f"{', '.join(there)}: there already. Choose another title.")
    for path, content in files.items():
        write(path, content)
