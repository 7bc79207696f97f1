"""The folded solutions of a chapter's exercises, as code."""

import re
from pathlib import Path

import nbformat
import pytest

from tools import notebooks


def solutions(chapter: str) -> list[str]:
    """The Python blocks under `<details><summary>Solution` in notebooks/<chapter>.ipynb, in order."""
    notebook = nbformat.read(Path("notebooks") / f"{chapter}.ipynb", as_version=4)
    folded = [c.source for c in notebook.cells if c.cell_type == "markdown" and "<summary>Solution" in c.source]
    return [code for source in folded for code in re.findall(r"```python\n(.*?)```", source, re.S)]


def run_solution(chapter: str, capsys: pytest.CaptureFixture[str], **names: object) -> str:
    """What the chapter's one folded solution prints, run with these names as the cells before it would leave them."""
    (code,) = solutions(chapter)
    exec(code, names)
    return capsys.readouterr().out


def run_solved(chapter: str) -> list[str]:
    """Run notebooks/<chapter>.ipynb to its end with each folded solution pasted into its exercise's cell.

    Returns what these cells print. A solution shares its names with the chapter; an error in any cell is raised here.
    """
    path = Path("notebooks") / f"{chapter}.ipynb"
    notebook, stubs = nbformat.read(path, as_version=4), []
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown" and "<summary>Solution" in cell.source:
            stub = next(c for c in reversed(notebook.cells[:number]) if c.cell_type == "code")
            stub.source = "\n\n".join([stub.source, *re.findall(r"```python\n(.*?)```", cell.source, re.S)])
            stubs.append(stub)
    notebooks.execute(notebook, path.parent)
    return ["".join(output.get("text", "") for output in stub.outputs) for stub in stubs]
