"""A notebook in the form of a lesson, to be filled in: `python3 run.py new-post TITLE="…"`.

It runs from top to bottom as it is, and every part says what belongs there. The checks of the chapters hold for it,
too: pytest finds every notebook under notebooks/, and `run.py posts` refuses what must not be published.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import nbformat

from tools import address, notebooks, pages
from tools.errors import ToolError

FOLDER = notebooks.ROOT / "notebooks" / "posts"
LESSON = pages.TEMPLATES / "lesson.txt"


def lesson(title: str, path: Path) -> nbformat.NotebookNode:
    """The notebook, with paths to the photos that hold where it lies."""
    photos = notebooks.from_here(pages.PHOTOS, path.resolve().parent).as_posix()
    parts = re.split(r"^%% (text|code)\n", LESSON.read_text(encoding="utf-8"), flags=re.M)[1:]
    filled = {"{{title}}": title, "{{photos}}": photos}
    make = {"text": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
    cells = []
    for kind, text in zip(parts[::2], parts[1::2], strict=True):
        source = re.sub(r"\{\{\w+\}\}", lambda found: filled[found[0]], text.rstrip("\n"))
        cells.append(make[kind](source))
    notebook = nbformat.v4.new_notebook(cells=cells)
    if path.resolve().is_relative_to(notebooks.ROOT):
        notebook = address.with_cell(notebook, path)
    return notebooks.normalise(notebook)


def place(title: str, out: Path | None) -> Path:
    """The file: the one given, or one named after the title, in the folder given or in notebooks/posts/."""
    if out is not None and out.suffix == ".ipynb":
        return out
    return (out or notebooks.from_here(FOLDER)) / f"{pages.slug(title).replace('-', '_')}.ipynb"


def make(title: str, out: Path | None) -> Path:
    """Write the notebook; nothing that is there already is touched."""
    title = " ".join(title.removeprefix("TITLE=").split())
    if not title:
        raise ToolError('A post has a title: python3 run.py new-post TITLE="Where the network saw the kettle"')
    path = place(title, out)
    if path.exists():
        raise ToolError(f"{path} is there already; take another title, or another place with --out.")
    path.parent.mkdir(parents=True, exist_ok=True)
    notebooks.write(path, lesson(title, path))
    return path


def main(arguments: list[str] | None = None) -> int:
    """The command line: 0 when the notebook is there, 2 when not."""
    parser = argparse.ArgumentParser(
        prog="new-post", description="A notebook in the form of a lesson, to be filled in."
    )
    parser.add_argument("title", metavar='TITLE="…"', help="the title; the file is named after it")
    parser.add_argument("--out", type=Path, help="a file, or a folder (default: notebooks/posts)")
    options = parser.parse_args(arguments)
    try:
        path = make(options.title, options.out)
    except (ToolError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{path}\nWrite it:    python3 run.py lab {path}\nRun it:      python3 run.py notebooks {path}")
    print(f"Publish it:  python3 run.py posts {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
