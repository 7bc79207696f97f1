"""How long a chapter takes: the rule for the minutes that it states.

    python3 run.py minutes [FILE ...]   print the minutes of each chapter, and what they consist of

Minutes = (words + code tokens) / 125 + ½ for each prediction + those of the exercises, rounded up to 5. Solutions and
code that only draws (cells with their source hidden) are not counted; answers to the questions are.
"""

from __future__ import annotations

import argparse
import io
import math
import re
import tokenize
from pathlib import Path
from typing import NamedTuple

from nbformat import NotebookNode

from tools import notebooks

PER_MINUTE = 125
COUNTED = (tokenize.NAME, tokenize.NUMBER, tokenize.STRING)


class Reading(NamedTuple):
    """What takes time in a chapter."""

    words: int
    tokens: int
    predictions: int
    exercises: int  # minutes

    @property
    def minutes(self) -> int:
        """Rounded up to 5.

        >>> Reading(words=1000, tokens=125, predictions=3, exercises=4).minutes
        15
        """
        exact = (self.words + self.tokens) / PER_MINUTE + self.predictions / 2 + self.exercises
        return 5 * math.ceil(exact / 5)


def reading(notebook: NotebookNode) -> Reading:
    """Count a chapter's words, code tokens, predictions and the minutes of its exercises."""
    prose = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    code = [
        cell for cell in notebooks.code_cells(notebook) if not cell.metadata.get("jupyter", {}).get("source_hidden")
    ]
    exercises = re.findall(r"\((?:[a-z]+, )?(\d+) minutes?\)", "\n".join(re.findall(r"(?m)^#+ .*$", prose)))
    return Reading(
        len(_words(prose)),
        sum(_tokens(cell.source) for cell in code),
        prose.count(notebooks.PREDICT),
        sum(map(int, exercises)),
    )


def _words(prose: str) -> list[str]:
    """The words that are read: no solutions, no addresses, no formulas, no tables' lines, no list of the chapters."""
    text = re.sub(r"<details><summary>Solution.*?</details>", " ", prose, flags=re.S)
    text = re.sub(r"\*All chapters:\*.*?(?:\n\n|\Z)", " ", text, flags=re.S)
    text = text.split("## Further reading")[0]
    text = re.sub(r"\]\([^)]*\)|<[^>]+>|\$\$.*?\$\$", " ", text, flags=re.S)
    return re.findall(r"[^\W\d_][\w'’-]*", text)


def _tokens(source: str) -> int:
    """Names, numbers and strings in Python; lines for the shell count by their words."""
    plain = re.sub(r"(?m)^\s*[%!].*$", "", source)
    try:
        return sum(t.type in COUNTED for t in tokenize.generate_tokens(io.StringIO(plain).readline))
    except (tokenize.TokenError, IndentationError):
        return len(re.findall(r"\w+", plain))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python3 run.py minutes", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, help="notebooks (default: the chapters and the deep dives)")
    for path in parser.parse_args(arguments).files or notebooks.all_notebooks():
        found = reading(notebooks.read(path))
        print(f"{path.stem:<28}{found.minutes:>4} minutes: {found.words} words, {found.tokens} tokens of code, "
              f"{found.predictions} predictions, {found.exercises} minutes of exercises")  # fmt: skip
