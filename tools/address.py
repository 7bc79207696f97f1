"""Where the course is on the web: links to its files, to Colab and Binder, and the cell that fetches the course.

The address is stored once, in pyproject.toml under [project.urls]; `python3 run.py address` writes it there. As long as
there is none, nothing links to the course on the web, and the first code cell of a chapter or an exercise only says
what is missing where the notebook is alone, as on Colab.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import nbformat
from nbformat import NotebookNode

from tools import catalogue, notebooks
from tools.errors import ToolError

ROOT = notebooks.ROOT
BRANCH = "main"
COLAB = "https://colab.research.google.com/github"
BINDER = "https://mybinder.org/v2/gh"
SCP = re.compile(r"(?:[^@/:]+@)?(?P<host>[^@/:]{2,}):(?P<path>[^:]+)")  # git@github.com:owner/repository.git
HOSTS = {"ssh.github.com": "github.com"}  # for SSH over port 443
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
CELL_WITHOUT_ADDRESS = """\
# When this notebook runs on its own, as on Colab, this cell says what is missing. Elsewhere it does nothing.
from pathlib import Path

if not Path("{beside}").{is_there}():
    print("Open this notebook in a copy of the whole course: alone, it does not know where to fetch the rest.")"""
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


def repository() -> str | None:
    """The repository's address, such as https://github.com/OWNER/NAME; None where it is not set yet."""
    return catalogue.project().get("urls", {}).get("Repository")


def github() -> str | None:
    """OWNER/NAME for the services that take nothing but GitHub; None for other hosts, and where no address is set."""
    parts = urlsplit(repository() or "")
    return parts.path.strip("/") if parts.netloc == "github.com" else None


def colab(path: Path) -> str | None:
    """Where Colab opens a notebook of the repository; None where it cannot."""
    return f"{COLAB}/{github()}/blob/{BRANCH}/{quote(inside(path))}" if github() else None


def site() -> str:
    """Where the site is, with a slash at its end: [project.urls] Documentation, or GitHub Pages; empty if unknown."""
    if own := catalogue.project().get("urls", {}).get("Documentation"):
        return own.rstrip("/") + "/"
    owner, _, repository_name = (github() or "").partition("/")
    return f"https://{owner.lower()}.github.io/{repository_name}/" if owner else ""


def binder(path: Path) -> str | None:
    """Where Binder opens it, in JupyterLab; None where it cannot, or where its memory does not suffice."""
    too_large = any(path.resolve() == lesson.path and not lesson.binder for lesson in catalogue.chapters())
    return (
        f"{BINDER}/{github()}/{BRANCH}?urlpath=lab/tree/{quote(inside(path))}" if github() and not too_large else None
    )


def source(path: Path) -> str | None:
    """The folder or file of the repository, as its host shows it; None where no address is set."""
    kind = "tree" if path.is_dir() else "blob"
    return f"{repository()}/{kind}/{BRANCH}/{quote(inside(path))}" if repository() else None


def inside(path: Path) -> str:
    """The path in the repository."""
    return path.resolve().relative_to(ROOT).as_posix()


def of_remote(url: str) -> str:
    """The address on the web of what git calls by this name.

    >>> of_remote("git@github.com:owner/course.git")
    'https://github.com/owner/course'
    >>> of_remote("https://token@github.com/owner/course/")
    'https://github.com/owner/course'
    """
    parts = urlsplit(url)
    if found := SCP.fullmatch(url) if "://" not in url else None:
        host, path = found["host"], found["path"]
    elif parts.scheme in ("ssh", "git"):  # a port is that of the other protocol
        host, path = parts.hostname or "", parts.path
    elif parts.scheme in ("https", "http"):
        host, path = parts.netloc.rpartition("@")[2], parts.path
    else:
        host, path = "", ""
    host, path = HOSTS.get(host, host), path.strip("/").removesuffix(".git")
    if not re.fullmatch(r"[\w-]+(\.[\w-]+)+(:\d+)?", host) or not re.fullmatch(r"[\w.~-]+(/[\w.~-]+)+", path):
        raise ToolError(
            f"{url} is no address on the web. Give the repository's, for instance: "
            "python3 run.py address https://github.com/OWNER/NAME"
        )
    return f"https://{host}/{path}"


# The cell


def cell(path: Path) -> NotebookNode:
    """The first code cell of a notebook that lies at this place of the repository; JupyterLab shows it folded."""
    folder = path.resolve().parent
    tagged: dict[str, Any] = {"tags": [notebooks.ALONE_TAG], "jupyter": {"source_hidden": True}}
    up = notebooks.from_here(ROOT, folder).as_posix()
    if folder == EXERCISES:
        tagged |= {"nbgrader": dict(LOCKED), "slideshow": {"slide_type": "skip"}}
        text, without, given = EXERCISE_CELL, ("exercise.py", "is_file"), {"id": notebooks.ALONE_TAG}
    else:
        text, without, given = CELL, (f"{up}/data/photos", "is_dir"), {}
    if repository():
        text = text.format(up=up, repository=repository(), folder=inside(folder))
    else:
        text = CELL_WITHOUT_ADDRESS.format(beside=without[0], is_there=without[1])
    return nbformat.v4.new_code_cell(text, metadata=tagged, **given)


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
