"""A graded exercise, to be filled in: `python3 run.py new-exercise TITLE="…"`.

It writes the notebook in nbgrader's format, the table of answers that the tests score, and the teachers' page. All of
it works as it is: change one task after the other.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tools import address, notebooks, update
from tools.errors import reported
from tools.scaffold import TEMPLATES, filled, module_name, parts, value, write_new

ROOT = notebooks.ROOT
# The kinds of cells: what nbgrader is told of each.
KINDS = {
    "locked": {"cell_type": "markdown", "locked": True},
    "setup": {"cell_type": "code", "locked": True},
    "answer": {"cell_type": "code", "solution": True},
    "test": {"cell_type": "code", "locked": True, "grade": True},
}


def cell(kind: str, source: str, name: str = "", points: str = "") -> NotebookNode:
    """A cell of the exercise; the one for the student's name is nobody's but the student's."""
    if kind == "name":
        return nbformat.v4.new_code_cell(source)
    mark = {"grade": False, "locked": False, "solution": False, "task": False, "schema_version": 3, **KINDS[kind]}
    mark |= {"grade_id": name} | ({"points": int(points)} if points else {})
    make = nbformat.v4.new_markdown_cell if kind == "locked" else nbformat.v4.new_code_cell
    return make(source, metadata={"nbgrader": mark})


def exercise(path: Path, values: dict[str, str]) -> NotebookNode:
    """The notebook."""
    cells = [cell(kind, source, *rest) for (kind, *rest), source in parts(filled(TEMPLATES / "exercise.txt", values))]
    notebook = notebooks.normalise(nbformat.v4.new_notebook(cells=cells))
    return address.with_cell(notebook, path)


def make(title: str) -> list[Path]:
    """Write the exercise's files; nothing that is there already is touched."""
    title = value(title)
    module = module_name(title)
    values = {"title": title, "module": module}
    path = address.EXERCISES / f"{module}.ipynb"
    files = {
        path: notebooks.to_bytes(exercise(path, values)),
        ROOT / "tests" / "exercises" / f"test_{module}.py": filled(TEMPLATES / "exercise_test.txt", values).encode(),
        update.TEACHERS / "graded" / f"{module}.md": filled(TEMPLATES / "graded.txt", values).encode(),
    }
    write_new(files)
    return list(files)


@reported
def main(arguments: list[str]) -> int:
    """The command line: 0 when the exercise is there, 2 when not."""
    parser = argparse.ArgumentParser(
        prog="python3 run.py new-exercise", description="A graded exercise, to be filled in."
    )
    parser.add_argument("title", metavar='TITLE="…"', help="the title; the files are named after it")
    options = parser.parse_args(arguments)
    paths = make(options.title)
    if code := update.main([]):
        return code
    notebook, table, page = (notebooks.from_here(path) for path in paths)
    print(f"""
{notebook}   the exercise, with solutions and hidden tests: python3 run.py lab {notebook}
{table}   wrong answers with the points that they lose, and right ones that look odd
{page}   the teachers' page

Fill them in, one task after the other. After each change:
  python3 run.py update                tables, and the first code cell
  python3 run.py test tests/exercises/test_grading.py tests/test_instructor.py -k {notebook.stem}
At the end, see what students get:
  python3 run.py classroom --only {notebook.stem}""")
    return 0
