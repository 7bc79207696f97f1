"""The folded solutions of a chapter's exercises, as code."""

import re
from pathlib import Path

import nbformat
import pytest


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
