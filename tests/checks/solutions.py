"""The folded solutions of a chapter's exercises, as code."""

import re
from pathlib import Path

import nbformat


def solutions(chapter: str) -> list[str]:
    """The Python blocks under `<details><summary>Solution` in notebooks/<chapter>.ipynb, in order."""
    notebook = nbformat.read(Path("notebooks") / f"{chapter}.ipynb", as_version=4)
    folded = [c.source for c in notebook.cells if c.cell_type == "markdown" and "<summary>Solution" in c.source]
    return [code for source in folded for code in re.findall(r"```python\n(.*?)```", source, re.S)]
