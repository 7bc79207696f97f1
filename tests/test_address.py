"""Badges, links and the chapters' first cells follow one setting; and that cell does what a notebook alone needs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

from tests.checkout import checkout, environment_of
from tools import address, notebooks
from tools.classroom.course import is_for_alone

ROOT = notebooks.ROOT
CHAPTERS = notebooks.chapters()
CHAPTER = CHAPTERS[0]
EXERCISES = sorted(address.EXERCISES.glob("*.ipynb"))
THE_CELL = address.cell(CHAPTER).source
OTHER = "https://github.com/a-school/cam-course"


# One setting


def test_what_is_stored_follows_the_setting() -> None:
    for text in address.TEXTS:
        stored = (ROOT / text).read_text(encoding="utf-8")
        assert address.LEADS_HERE.search(stored), text
        assert address.renewed(stored) == stored, "run `python3 run.py address`"
    for path in notebooks.all_notebooks():
        second = notebooks.read(path).cells[1]
        assert notebooks.ALONE_TAG in notebooks.tags_of(second)
        assert second.source == address.cell(path).source, "run `python3 run.py address`"
    assert EXERCISES
    for path in EXERCISES:
        second, wanted = notebooks.read(path).cells[1], address.cell(path)
        assert (second.source, second.metadata) == (wanted.source, wanted.metadata), "run `python3 run.py address`"
        assert is_for_alone(second)


def test_the_readme_leads_to_every_chapter_on_both_services() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in CHAPTERS:
        (row,) = re.findall(rf"(?m)^\|.*\(notebooks/{path.name}\).*$", text)
        on_binder = path.stem not in address.TOO_LARGE_FOR_BINDER
        for kind, link, offered in (("c", address.colab(path), True), ("b", address.binder(path), on_binder)):
            number = f"{kind}{path.name[:2]}"
            assert (f"][{number}]" in row) == (f"\n[{number}]: {link}\n" in text) == offered, link
    for badge in re.findall(r"!\[Run [^\]]+\]\(([^)]+)\)", text):
        assert (ROOT / badge).read_text(encoding="utf-8").startswith("<svg "), badge


def set_address(folder: Path, url: str) -> None:
    path = folder / "pyproject.toml"
    text, count = re.subn(r'(?m)^Repository = "[^"]+"', f'Repository = "{url}"', path.read_text(encoding="utf-8"))
    assert count == 1
    path.write_text(text, encoding="utf-8")


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment_of(folder), capture_output=True, text=True)


def test_a_new_address_arrives_everywhere_and_no_notebook_has_to_run_again(tmp_path: Path) -> None:
    folder = checkout(tmp_path / "course")
    assert call(folder, "tools/new_post.py", "TITLE=Kettle").returncode == 0
    course = [path.relative_to(ROOT).as_posix() for path in [*notebooks.all_notebooks(), *EXERCISES]]
    own = ["notebooks/posts/kettle.ipynb", *course]
    set_address(folder, OTHER)
    done = call(folder, "tools/address.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == f"everything leads to {OTHER}"
    assert len(done.stdout.splitlines()) == len(address.TEXTS) + len(own) + 1
    before = address.name()
    for name in (*address.TEXTS, *own):
        text = (folder / name).read_text(encoding="utf-8")
        assert before not in text and before.replace("/", "%2F") not in text, name
    teachers = (folder / "notebooks" / "instructor" / "servers.md").read_text(encoding="utf-8")
    assert "github.com%2Fa-school%2Fcam-course&branch=main&urlpath=lab%2Ftree%2Fcam-course%2Fnotebooks" in teachers
    assert call(folder, "tools/notebooks.py", "check").returncode == 0, "neither stale nor out of form"
    again = call(folder, "tools/address.py")
    assert again.stdout.splitlines() == [f"everything leads to {OTHER}"]
    page = f"notebooks/{CHAPTER.name}"
    published = call(folder, "tools/posts.py", page)
    assert published.returncode == 0, published.stderr
    for kind in (f"html/{CHAPTER.stem}.html", f"markdown/{CHAPTER.stem}/index.md"):
        text = (folder / "posts" / kind).read_text(encoding="utf-8")
        assert f"{address.COLAB}/a-school/cam-course/blob/main/{page}" in text
        assert f"{address.BINDER}/a-school/cam-course/main?urlpath=lab/tree/{page}" in text
        assert before not in text and "placeholder" not in published.stdout


def test_an_address_that_the_services_do_not_know_is_refused(tmp_path: Path) -> None:
    folder = checkout(tmp_path / "course")
    set_address(folder, "https://example.org/course.git")
    before = (folder / "README.md").read_bytes()
    done = call(folder, "tools/address.py")
    assert done.returncode == 2 and "has https://example.org/course as the repository's address" in done.stderr
    assert (folder / "README.md").read_bytes() == before
    cell = notebooks.read(folder / "notebooks" / CHAPTER.name).cells[1]
    assert "git clone --quiet --depth 1 https://example.org/course cam-course" in cell.source, "git knows any host"
    assert call(folder, "tools/posts.py", f"notebooks/{CHAPTER.name}").returncode == 0
    page = (folder / "posts" / "html" / f"{CHAPTER.stem}.html").read_text(encoding="utf-8")
    assert f'href="https://example.org/course/blob/main/notebooks/{CHAPTER.name}"' in page
    assert address.COLAB not in page and address.BINDER not in page


# A notebook alone


class Alone:
    """A folder with one chapter in it and a Python without camlib, in the place of Colab's machine."""

    def __init__(self, folder: Path, index: bool) -> None:
        self.folder = folder / "content"
        self.folder.mkdir()
        self.course = self.folder / "cam-course"
        self.repository = self.published(folder / "repository")
        self.python = folder / "python" / sysconfig.get_path("scripts", vars={"base": ""}).strip("/\\") / "python"
        subprocess.run([sys.executable, "-m", "venv", str(folder / "python"), *(() if index else ("--without-pip",))])
        self.settings = {"MPLCONFIGDIR": str(folder), "IPYTHONDIR": str(folder)}
        if index:  # what Colab has, as far as running a notebook goes
            self.call("-m", "pip", "install", "--quiet", "nbconvert", "ipykernel", "imageio", "ipywidgets")
        else:  # all that is installed here; an editable camlib is not found in this way
            site = self.call("-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip()
            (Path(site) / "installed.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
            self.settings |= {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}

    @staticmethod
    def published(folder: Path) -> Path:
        """The course as it is now, as a repository to clone."""
        checkout(folder)
        git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
        for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message=the course"]):
            subprocess.run([*git, *command], cwd=folder, check=True)
        return folder

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """This Python with git taking the course from the repository here, whatever its address."""
        inherited = {
            k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "JUPYTER", "GIT"))
        }
        instead = {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.{self.repository.as_uri()}.insteadOf",
            "GIT_CONFIG_VALUE_0": address.repository(),
        }
        environment = inherited | instead | self.settings
        command = [str(self.python), *arguments]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)

    def run(self, notebook: str) -> NotebookNode:
        """Execute the notebook in the folder, in place."""
        done = self.call("-m", "nbconvert", "--to", "notebook", "--execute", "--inplace", notebook)
        assert done.returncode == 0, done.stderr
        return notebooks.read(self.folder / notebook)

    def run_cells(self, *sources: str) -> list[str]:
        """What cells with these sources print."""
        cells = [new_code_cell(source) for source in sources]
        notebooks.write(self.folder / "cells.ipynb", new_notebook(cells=cells))
        ran = self.run("cells.ipynb").cells
        return ["".join(o.get("text", "") for o in cell.outputs if o.get("name") == "stdout") for cell in ran]


def texts(notebook: NotebookNode) -> list[list[str]]:
    """What each cell after the first printed; pictures are compared elsewhere."""
    normal = notebooks.normalise(notebook)
    outputs = [cell.outputs for cell in notebooks.code_cells(normal)[1:]]
    return [[o.get("text") or o.data.get("text/plain", "") for o in shown] for shown in outputs]


@pytest.mark.slow
@pytest.mark.parametrize(
    "index", [False, pytest.param(True, marks=[pytest.mark.long, pytest.mark.download])], ids=["installed", "index"]
)
def test_a_chapter_alone_fetches_the_course_and_runs(index: bool, tmp_path: Path) -> None:
    """With the cell's own commands. `index`: from the package index, in a Python that has no torch either."""
    if index and os.environ.get("CAMLIB_DOWNLOAD") != "1":
        pytest.skip("set CAMLIB_DOWNLOAD=1: needs the network")
    alone = Alone(tmp_path, index)
    shutil.copy(CHAPTER, alone.folder)
    assert "No module named 'camlib'" in alone.call("-c", "import camlib").stderr
    ran = alone.run(CHAPTER.name)
    where = Path(alone.call("-c", "import camlib; print(camlib.__file__)").stdout.strip())
    assert where.is_relative_to(alone.python.parent.parent), "installed, not taken from this checkout"
    assert (alone.course / "notebooks" / "checks").is_dir()
    if not index:  # other versions may print other digits
        assert texts(ran) == texts(notebooks.read(CHAPTER))
    # Another chapter, or the same one after a restart: neither fetched again nor in the way.
    shutil.rmtree(alone.repository)
    assert alone.run_cells(THE_CELL, "print(Path.cwd().parts[-2:])")[1] == "('cam-course', 'notebooks')\n"


@pytest.mark.slow
def test_an_exercise_alone_fetches_what_it_needs_and_stays_where_it_is(tmp_path: Path) -> None:
    """After a restart, too; and in a folder as it is handed out, without a network, nothing happens."""
    alone = Alone(tmp_path, index=False)
    cell, setup = address.cell(EXERCISES[0]).source, "from exercise import variant; from testing import numbers"
    told = "import camlib; print(Path(variant('Ada').photo).is_file(), Path.cwd().name)"
    assert alone.run_cells(cell, setup, told)[-1] == "True content\n"
    shutil.rmtree(alone.repository)
    assert alone.run_cells(cell, setup, told)[-1] == "True content\n"
    shutil.rmtree(alone.course)
    (alone.folder / "exercise.py").touch()
    before = sorted(alone.folder.iterdir())
    assert alone.run_cells(cell, "print(find_spec('exercise').origin, len(sys.path) == len(set(sys.path)))")[0] == ""
    assert set(alone.folder.iterdir()) - set(before) == set()


@pytest.mark.slow
def test_what_failed_once_can_be_tried_again(tmp_path: Path) -> None:
    """In the same kernel: first without a way to the course, then without a way to install it, then with both."""
    alone = Alone(tmp_path, index=False)
    found = "from importlib.util import find_spec; print(Path.cwd().name, bool(find_spec('camlib')))"
    no_way, way = "%env GIT_CONFIG_COUNT=0", "%env GIT_CONFIG_COUNT=1"  # to the repository here; outside is no network
    no_pip, pip = "%env PIP_NO_BUILD_ISOLATION=", "%env PIP_NO_BUILD_ISOLATION=0"
    proxy = "%env HTTPS_PROXY=http://127.0.0.1:9"
    cells = [proxy, no_way, no_pip, THE_CELL, found, way, THE_CELL, found, pip, THE_CELL, found]
    printed = alone.run_cells(*cells)
    assert [printed[n] for n, cell in enumerate(cells) if cell is found] == [
        "content False\n",
        "notebooks False\n",
        "notebooks True\n",
    ]
