"""Where the course is on the web, and everything that follows from it: `python3 run.py address`.

The address stands once, in pyproject.toml under [project.urls]. From it come the badges for Colab and Binder in the
README, the links of the posts, and the first code cell of each chapter and exercise, which fetches the course where a
notebook stands alone, as on Colab. After the address has changed, this command writes them anew; no notebook has to
run again.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nbformat
from nbformat import NotebookNode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it runs as a file, too

from tools import notebooks

ROOT = notebooks.ROOT
BRANCH = "main"
PLACEHOLDER = "https://github.com/OWNER/REPO"
TEACHERS = "notebooks/instructor"
TEXTS = (
    "README.md",
    "CITATION.cff",
    f"{TEACHERS}/servers.md",
    f"{TEACHERS}/students.md",
)  # what else names the address
COLAB = "https://colab.research.google.com/github"
BINDER = "https://mybinder.org/v2/gh"
NAME = r"[\w.-]+/[\w.-]+"
LEADS_HERE = re.compile(
    rf"({re.escape(COLAB)}/|{re.escape(BINDER)}/"
    rf"|(?:repository-code: |url += \{{|git clone (?:-q )?)https://github\.com/){NAME}"
)
# In the link by which a JupyterHub fetches the course, where it is quoted.
HUB_LINK = re.compile(r"(?<=github\.com%2F)[\w.-]+%2F([\w.-]+)(?=&)(.*?lab%2Ftree%2F)\1(?=%2F)")
# They need more than its 2 GB of memory: notebooks/instructor/servers.md has the figures.
TOO_LARGE_FOR_BINDER = {"05_bilinear_upsampling", "11_your_images"}
# Each half looks for itself whether it is needed: a first try may fail halfway, and a kernel may be started anew.
CELL = """\
# When this notebook runs on its own, as on Colab, this cell fetches the course. Elsewhere it does nothing.
from importlib.util import find_spec
from pathlib import Path

if not Path("{up}/data/photos").is_dir():
    if not Path("cam-course/camlib").is_dir():
        %env GIT_TERMINAL_PROMPT=0
        !git clone --quiet --depth 1 {repository} cam-course
    %cd cam-course/{folder}
if Path("{up}").resolve().name == "cam-course" and not find_spec("camlib"):
    %pip install --quiet '{up}[evaluate]'"""
EXERCISES = ROOT / "notebooks" / "exercises"
# An exercise is handed out with all it needs beside it. Alone, it stays in its folder, where a student's photos are.
EXERCISE_CELL = """\
# When this notebook runs on its own, as on Colab, this cell fetches the course. Beside exercise.py it does nothing.
import sys
from importlib.util import find_spec
from pathlib import Path

if not Path("exercise.py").is_file():
    if not Path("cam-course/camlib").is_dir():
        %env GIT_TERMINAL_PROMPT=0
        !git clone --quiet --depth 1 {repository} cam-course
    if Path("cam-course/camlib").is_dir() and not find_spec("camlib"):
        %pip install --quiet './cam-course[evaluate]'
    sys.path.append(str(Path("cam-course/notebooks/exercises").resolve()))"""
LOCKED = {  # nbgrader's: students cannot change the cell
    "cell_type": "code",
    "grade": False,
    "grade_id": notebooks.ALONE_TAG,
    "locked": True,
    "schema_version": 3,
    "solution": False,
    "task": False,
}


class AddressError(Exception):
    """What a person can mend, said in one line."""


@cache
def project() -> dict[str, Any]:
    """The [project] table of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def repository() -> str:
    """The repository's address."""
    return project()["urls"]["Repository"].rstrip("/").removesuffix(".git")


def name() -> str:
    """OWNER/REPOSITORY, for the services that take nothing but GitHub."""
    found = re.fullmatch(rf"https://github\.com/({NAME})", repository())
    if not found:
        raise AddressError(
            f"pyproject.toml has {repository()} as the repository's address; Colab and Binder badges need one such as "
            "https://github.com/OWNER/REPOSITORY"
        )
    return found[1]


def colab(path: Path) -> str:
    """Where Colab opens a notebook of the repository."""
    return f"{COLAB}/{name()}/blob/{BRANCH}/{quote(inside(path))}"


def binder(path: Path) -> str:
    """Where Binder opens it, in JupyterLab."""
    return f"{BINDER}/{name()}/{BRANCH}?urlpath=lab/tree/{quote(inside(path))}"


def source(path: Path) -> str:
    """The folder or file of the repository, as its host shows it."""
    return f"{repository()}/{'tree' if path.is_dir() else 'blob'}/{BRANCH}/{quote(inside(path))}"


def inside(path: Path) -> str:
    """The path in the repository."""
    return path.resolve().relative_to(ROOT).as_posix()


# The cell


def cell(path: Path) -> NotebookNode:
    """The first code cell of a notebook that lies at this place of the repository; JupyterLab shows it folded."""
    folder = path.resolve().parent
    tagged: dict[str, Any] = {"tags": [notebooks.ALONE_TAG], "jupyter": {"source_hidden": True}}
    if folder == EXERCISES:
        tagged |= {"nbgrader": dict(LOCKED), "slideshow": {"slide_type": "skip"}}
        text = EXERCISE_CELL.format(repository=repository())
        return nbformat.v4.new_code_cell(text, metadata=tagged, id=notebooks.ALONE_TAG)
    up = Path(os.path.relpath(ROOT, folder)).as_posix()
    text = CELL.format(up=up, repository=repository(), folder=inside(folder))
    return nbformat.v4.new_code_cell(text, metadata=tagged)


def with_cell(notebook: NotebookNode, path: Path) -> NotebookNode:
    """The notebook with this cell behind its title, as it must be for the address."""
    wanted = cell(path)
    if (found := its_cell(notebook)) is None:
        notebook.cells.insert(1, wanted)
    else:
        found.source = wanted.source
    return notebook


def its_cell(notebook: NotebookNode) -> NotebookNode | None:
    """This cell in a notebook, None where it has none."""
    return next((c for c in notebooks.code_cells(notebook) if notebooks.ALONE_TAG in notebooks.tags_of(c)), None)


# The command


def renewed(text: str) -> str:
    """The text with every link to Colab, Binder, a hub and the repository leading to the present address."""
    owner, _, repo = name().partition("/")
    text = HUB_LINK.sub(lambda found: f"{owner}%2F{repo}{found[2]}{repo}", text)
    return LEADS_HERE.sub(lambda found: found[1] + name(), text)


def own_notebooks() -> list[Path]:
    """The chapters, the exercises, and every other notebook here that has the cell."""
    rest = sorted(set((ROOT / "notebooks").rglob("*.ipynb")) - set(notebooks.all_notebooks()))
    here = [path for path in rest if ".ipynb_checkpoints" not in path.parts]
    return notebooks.all_notebooks() + [path for path in here if its_cell(notebooks.read(path)) is not None]


def renew() -> Iterator[Path]:
    """Write the address where it belongs, and say which files have changed; the cells work with any host."""
    for path in own_notebooks():
        notebook = with_cell(notebooks.read(path), path)
        # The cells of an exercise keep their ids: by them the grader knows what students have copied and pasted.
        if notebooks.write(path, notebook if path.parent == EXERCISES else notebooks.normalise(notebook)):
            yield path
    for path in (ROOT / text for text in TEXTS):
        before = path.read_text(encoding="utf-8")
        if (after := renewed(before)) != before:
            path.write_text(after, encoding="utf-8", newline="\n")
            yield path


def main(arguments: list[str] | None = None) -> int:
    """The command line: 0 when everything follows the address, 2 when it cannot."""
    parser = argparse.ArgumentParser(
        prog="address",
        description="Write the badges and the first code cells of chapters and exercises anew, after the repository's "
        "address in pyproject.toml has changed.",
    )
    parser.parse_args(arguments)
    try:
        for path in renew():
            print(f"{notebooks.from_here(path)}: changed")
    except (AddressError, notebooks.NotebookError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"everything leads to {repository()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
