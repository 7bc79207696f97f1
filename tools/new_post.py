"""A notebook in the form of a lesson, to be filled in: `python3 run.py new-post TITLE="…"`.

It runs from top to bottom as it is, and every part says what belongs there. The checks of the chapters hold for it,
too: pytest finds every notebook under notebooks/, and `run.py posts` refuses what must not be published.
"""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path

from tools import notebooks, pages, scaffold
from tools.errors import ToolError, reported

FOLDER = notebooks.ROOT / "notebooks" / "posts"
LESSON = pages.TEMPLATES / "lesson.txt"


def place(title: str, out: Path | None) -> Path:
    """The file: the one given, or one named after the title, in the folder given or in notebooks/posts/."""
    if out is not None and out.suffix == ".ipynb":
        return out
    return (out or notebooks.from_here(FOLDER)) / f"{pages.slug(title).replace('-', '_')}.ipynb"


def make(title: str, out: Path | None) -> Path:
    """Write the notebook; nothing that is there already is touched."""
    title = scaffold.value(title)
    if not title:
        raise ToolError('A post has a title: python3 run.py new-post TITLE="Where the network saw the kettle"')
    path = place(title, out)
    if path.exists():
        raise ToolError(f"{path} is there already; take another title, or another place with --out.")
    path.parent.mkdir(parents=True, exist_ok=True)
    photos = notebooks.from_here(pages.PHOTOS, path.resolve().parent).as_posix()  # holds where the notebook lies
    notebook = scaffold.lesson(LESSON, path, {"title": title, "photos": photos})
    notebook.metadata["date"] = date.today().isoformat()
    notebooks.write(path, notebook)
    return path


@reported
def main(arguments: list[str]) -> int:
    """The command line: 0 when the notebook is there, 2 when not."""
    parser = argparse.ArgumentParser(
        prog="python3 run.py new-post", description="A notebook in the form of a lesson, to be filled in."
    )
    parser.add_argument("title", metavar='TITLE="…"', help="the title; the file is named after it")
    parser.add_argument("--out", type=Path, help="a file, or a folder (default: notebooks/posts)")
    options = parser.parse_args(arguments)
    path = make(options.title, options.out)
    print(f"{path}\nWrite it:    python3 run.py lab {path}\nRun it:      python3 run.py notebooks {path}")
    print(f"Publish it:  python3 run.py posts {path}")
    return 0
