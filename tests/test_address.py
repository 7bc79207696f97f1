"""Badges, links and the chapters' first cells follow one setting; and that cell does what a notebook alone needs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from urllib.parse import unquote

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

from tests.checkout import OTHER, checkout, environment_of
from tools import address, notebooks, update
from tools.errors import ToolError

ROOT = notebooks.ROOT
CHAPTERS = notebooks.chapters()
CHAPTER = CHAPTERS[0]
EXERCISES = sorted(address.EXERCISES.glob("*.ipynb"))


# One setting


def test_everything_that_follows_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    """course.toml, pyproject.toml and the notebooks decide; after a change: `python3 run.py update`."""
    assert update.main(["--check"]) == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("remote", "web"),
    [
        ("https://github.com/owner/course", "https://github.com/owner/course"),
        ("https://github.com/owner/course.git", "https://github.com/owner/course"),
        ("https://name:secret@github.com/owner/course.git/", "https://github.com/owner/course"),
        ("git@github.com:owner/course.git", "https://github.com/owner/course"),
        ("ssh://git@github.com/owner/course.git", "https://github.com/owner/course"),
        ("ssh://git@ssh.github.com:443/owner/course.git", "https://github.com/owner/course"),
        ("ssh://git@git.example.org:2222/group/part/course", "https://git.example.org/group/part/course"),
        ("https://git.example.org:8443/owner/course.git", "https://git.example.org:8443/owner/course"),
        ("git@gitlab.com:group/part/my.course.git", "https://gitlab.com/group/part/my.course"),
    ],
)
def test_the_address_of_a_remote(remote: str, web: str) -> None:
    assert address.of_remote(remote) == web


@pytest.mark.parametrize(
    "remote",
    ["", "/srv/git/course.git", "../course", "C:\\course", "file:///srv/course", "github-work:owner/course.git",
     "https://github.com/", "https://github.com/owner", "git@github.com:", "https://github.com/owner/<course>"],
)  # fmt: skip
def test_what_is_no_address_on_the_web(remote: str) -> None:
    with pytest.raises(ToolError, match="no address on the web.*python3 run.py address https://github.com/OWNER/NAME"):
        address.of_remote(remote)


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment_of(folder), capture_output=True, text=True)


def everything(folder: Path) -> dict[str, str]:
    """What a reader sees: every text in the folder, but for the tools."""
    kinds = {".md", ".ipynb", ".cff", ".toml", ".html"}
    paths = [p for p in folder.rglob("*") if p.suffix in kinds and ".git" not in p.parts and "tools" not in p.parts]
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in paths}


NOWHERE = re.compile(r"OWNER/REPO|colab\.research|mybinder\.org/v2|github\.com/None|\]\(None|href=\"None")


def test_without_an_address_nothing_leads_to_one(tmp_path: Path) -> None:
    folder = checkout(tmp_path / "course", address=None)
    page = f"notebooks/{CHAPTER.name}"
    published = call(folder, "tools", "posts", page)
    assert published.returncode == 0, published.stderr
    assert "whose address is not set" in published.stdout
    texts = everything(folder)
    assert {"README.md", page, f"posts/html/{CHAPTER.stem}.html", f"posts/markdown/{CHAPTER.stem}/index.md"} <= set(
        texts
    )
    assert [(name, found[0]) for name, text in texts.items() if (found := NOWHERE.search(text))] == []
    assert "print(" in notebooks.read(folder / page).cells[1].source


def test_an_address_arrives_everywhere_and_no_notebook_has_to_run_again(tmp_path: Path) -> None:
    folder = checkout(tmp_path / "course", address=None)
    before = everything(folder)
    for command in (["init", "-q"], ["remote", "add", "origin", f"git@github.com:{OTHER.partition('.com/')[2]}.git"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    assert call(folder, "tools", "new-post", "TITLE=Kettle").returncode == 0
    assert call(folder, "tools", "update", "--check").returncode == 0
    done = call(folder, "tools", "address")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == f"now all up to date; {OTHER}"
    after = everything(folder)
    lessons = [path.relative_to(ROOT).as_posix() for path in [*notebooks.all_notebooks(), *EXERCISES]]
    teachers = [f"notebooks/instructor/{name}.md" for name in ("servers", "students")]
    wanted = [*lessons, "README.md", "CITATION.cff", "pyproject.toml", *teachers]
    assert {name for name in before if after[name] != before[name]} == set(wanted)
    assert {name for name in wanted if "a-school" not in after[name]} == set()
    assert (
        "github.com%2Fa-school%2Fcam-course&branch=main&urlpath=lab%2Ftree%2Fcam-course%2Fnotebooks"
        in after[teachers[0]]
    )
    assert "a-school" in (folder / "notebooks" / "posts" / "kettle.ipynb").read_text(encoding="utf-8")
    assert call(folder, "tools", "notebooks", "check").returncode == 0, "neither stale nor out of form"
    assert call(folder, "tools", "update", "--check").returncode == 0
    page = f"notebooks/{CHAPTER.name}"
    assert call(folder, "tools", "posts", page).returncode == 0
    for kind in (f"html/{CHAPTER.stem}.html", f"markdown/{CHAPTER.stem}/index.md"):
        text = (folder / "posts" / kind).read_text(encoding="utf-8")
        assert f"{address.COLAB}/a-school/cam-course/blob/main/{page}" in text
        assert f"{address.BINDER}/a-school/cam-course/main?urlpath=lab/tree/{page}" in text
        links = re.findall(rf"{OTHER}/(?:blob|tree)/main/([^\s\"#)]+)", text)
        assert links and [link for link in links if not (ROOT / unquote(link)).exists()] == []
    readme = after["README.md"]
    for path in CHAPTERS:
        (row,) = re.findall(rf"(?m)^\|.*\(notebooks/{path.name}\).*$", readme)
        small = path.stem not in ("05_bilinear_upsampling", "11_your_images")
        for kind, host, offered in (("c", address.COLAB, True), ("b", address.BINDER, small)):
            number = f"{kind}{path.name[:2]}"
            assert (f"][{number}]" in row) == (f"\n[{number}]: {host}/a-school/" in readme) == offered, row
    for badge in re.findall(r"!\[Run [^\]]+\]\(([^)]+)\)", readme):
        assert (ROOT / badge).read_text(encoding="utf-8").startswith("<svg "), badge


def test_a_host_that_colab_and_binder_do_not_know(tmp_path: Path) -> None:
    """git and links go there; there are no badges. Another address replaces it."""
    folder = checkout(tmp_path / "course", address="https://example.org/some/course")
    cell = notebooks.read(folder / "notebooks" / CHAPTER.name).cells[1]
    assert "git clone --quiet --depth 1 https://example.org/some/course cam-course" in cell.source
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert "colab.research" not in readme and "mybinder.org/v2" not in readme and "example.org/some/course" in readme
    done = call(folder, "tools", "address", "https://example.org/another/course.git")
    assert done.returncode == 0 and "some/course" not in "".join(everything(folder).values())
    assert call(folder, "tools", "address", "--remove").returncode == 0
    assert everything(folder) == everything(checkout(tmp_path / "other", address=None)), "as if it had never had one"


def test_an_address_has_to_come_from_somewhere(tmp_path: Path) -> None:
    folder = checkout(tmp_path / "course", address=None)
    before = everything(folder)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    none = call(folder, "tools", "address")
    assert none.returncode == 2 and "git names no remote here. Give the address: python3 run.py address" in none.stderr
    for name in ("one", "two"):
        subprocess.run(["git", "remote", "add", name, "https://github.com/owner/course"], cwd=folder, check=True)
    assert "more than one remote" in call(folder, "tools", "address").stderr
    assert everything(folder) == before


def test_help_is_about_the_address() -> None:
    said = call(ROOT, "tools", "address", "--help").stdout
    assert said.startswith("usage: python3 run.py address [-h] [--remove] [URL]")


def test_what_a_page_holds_is_decided_in_one_place(tmp_path: Path) -> None:
    """A title, a question and a photo of course.toml arrive in every file that names them; other text stays."""
    folder = checkout(tmp_path / "course", address=None)
    before, course = everything(folder), folder / "course.toml"
    text = course.read_text(encoding="utf-8")
    for old, new in {
        "GAP weights": "The weights",
        "How does a feature map become one logit?": "How? Really?",
        "Rachel Michetti": "R. | Michetti",
        '"The camlib authors"': '{ given-names = "A.", family-names = "B" }, "C"',
    }.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    course.write_text(text, encoding="utf-8")
    told = call(folder, "tools", "update", "--check")
    assert told.returncode == 1 and "python3 run.py update" in told.stdout
    assert call(folder, "tools", "update").returncode == 0
    after = everything(folder)
    assert {name for name in before if after[name] != before[name]} == {
        "course.toml",
        "CITATION.cff",
        "README.md",
        "data/README.md",
        "notebooks/00_first_heat_map.ipynb",
        "notebooks/03_gap_weights.ipynb",
        "notebooks/instructor/03_gap_weights.md",
    }
    assert "| 03 | [The weights](notebooks/03_gap_weights.ipynb) | How? Really? |" in after["README.md"]
    first = notebooks.read(folder / "notebooks" / "03_gap_weights.ipynb").cells[0].source
    assert first.startswith("# 03 · The weights\n\n**How? Really?**\n\n")
    assert r"| R. \| Michetti, CC0 |" in after["data/README.md"], "a cell of its own, not two"
    assert "- given-names: A.\n  family-names: B\n- name: C\n" in after["CITATION.cff"]
    assert "author  = {B, A. and {C}}," in after["README.md"]
    assert (
        "[03](03_gap_weights.ipynb) The weights" in notebooks.read(folder / "notebooks" / CHAPTER.name).cells[0].source
    )
    shutil.copy(folder / "notebooks" / CHAPTER.name, folder / "notebooks" / "15_new.ipynb")
    assert "15_new.ipynb: not in course.toml" in call(folder, "tools", "update").stderr
    (folder / "notebooks" / "15_new.ipynb").unlink()
    photo = folder / "data" / "photos" / "kettle.jpg"
    shutil.copy(photo.with_name("cat.jpg"), photo)
    assert "kettle.jpg: not in course.toml; add source," in call(folder, "tools", "update").stderr
    photo.unlink()
    readme = folder / "README.md"
    readme.write_text(
        after["README.md"]
        .replace("chapters: written", "chaptres: written")
        .replace("end of chapters", "end of chaptres")
    )
    assert "nothing is called 'chaptres'; there are: try it, chapters," in call(folder, "tools", "update").stderr


# A notebook alone


@pytest.mark.parametrize(("notebook", "beside"), [(CHAPTER, "data/photos/"), (EXERCISES[0], "notebooks/exercise.py")])
def test_without_an_address_the_cell_says_what_is_missing(
    notebook: Path, beside: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(address, "repository", lambda: None)
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    code = compile(address.cell(notebook).source, "cell", "exec")
    exec(code, {})
    assert re.fullmatch(r"Open this notebook in a copy of the whole course: .*\n", capsys.readouterr().out)
    there = tmp_path / beside
    there.parent.mkdir(parents=True, exist_ok=True)
    there.mkdir() if beside.endswith("/") else there.touch()
    exec(code, {})
    assert capsys.readouterr().out == ""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The course as it is now, as a repository to clone."""
    folder = checkout(tmp_path_factory.mktemp("published"), address=OTHER)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message=the course"]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    return folder


class Alone:
    """A folder with one chapter in it and a Python without camlib, in the place of Colab's machine."""

    def __init__(self, folder: Path, published: Path, index: bool = False) -> None:
        self.folder = folder / "content"
        self.folder.mkdir()
        self.course = self.folder / "cam-course"
        self.repository = shutil.copytree(published, folder / "repository")
        self.python = folder / "python" / sysconfig.get_path("scripts", vars={"base": ""}).strip("/\\") / "python"
        subprocess.run([sys.executable, "-m", "venv", str(folder / "python"), *(() if index else ("--without-pip",))])
        self.settings = {"MPLCONFIGDIR": str(folder), "IPYTHONDIR": str(folder)}
        if index:  # what Colab has, as far as running a notebook goes
            self.call("-m", "pip", "install", "--quiet", "nbconvert", "ipykernel", "imageio", "ipywidgets")
        else:  # all that is installed here; an editable camlib is not found in this way
            site = self.call("-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip()
            (Path(site) / "installed.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
            self.settings |= {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}

    def cell(self, path: Path) -> str:
        """The code that fetches the course, as this notebook has it in the repository."""
        return notebooks.read(self.repository / path.relative_to(ROOT)).cells[1].source

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """This Python with git taking the course from the repository here, whatever its address."""
        inherited = {
            k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "JUPYTER", "GIT"))
        }
        instead = {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.{self.repository.as_uri()}.insteadOf",
            "GIT_CONFIG_VALUE_0": OTHER,
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
def test_a_chapter_alone_fetches_the_course_and_runs(index: bool, published: Path, tmp_path: Path) -> None:
    """With the cell's own commands. `index`: from the package index, in a Python that has no torch either."""
    if index and os.environ.get("CAMLIB_DOWNLOAD") != "1":
        pytest.skip("set CAMLIB_DOWNLOAD=1: needs the network")
    alone = Alone(tmp_path, published, index)
    shutil.copy(alone.repository / "notebooks" / CHAPTER.name, alone.folder)
    the_cell = alone.cell(CHAPTER)
    assert "No module named 'camlib'" in alone.call("-c", "import camlib").stderr
    ran = alone.run(CHAPTER.name)
    where = Path(alone.call("-c", "import camlib; print(camlib.__file__)").stdout.strip())
    assert where.is_relative_to(alone.python.parent.parent), "installed, not taken from this checkout"
    assert (alone.course / "notebooks" / "checks").is_dir()
    if not index:  # other versions may print other digits
        assert texts(ran) == texts(notebooks.read(CHAPTER))
    # Another chapter, or the same one after a restart: neither fetched again nor in the way.
    shutil.rmtree(alone.repository)
    assert alone.run_cells(the_cell, "print(Path.cwd().parts[-2:])")[1] == "('cam-course', 'notebooks')\n"


@pytest.mark.slow
def test_an_exercise_alone_fetches_what_it_needs_and_stays_where_it_is(published: Path, tmp_path: Path) -> None:
    """After a restart, too; and in a folder as it is handed out, without a network, nothing happens."""
    alone = Alone(tmp_path, published)
    cell, setup = alone.cell(EXERCISES[0]), "from exercise import variant; from testing import numbers"
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
def test_what_failed_once_can_be_tried_again(published: Path, tmp_path: Path) -> None:
    """In the same kernel: first without a way to the course, then without a way to install it, then with both."""
    alone = Alone(tmp_path, published)
    found = "from importlib.util import find_spec; print(Path.cwd().name, bool(find_spec('camlib')))"
    no_way, way = "%env GIT_CONFIG_COUNT=0", "%env GIT_CONFIG_COUNT=1"  # to the repository here; outside is no network
    no_pip, pip = "%env PIP_NO_BUILD_ISOLATION=", "%env PIP_NO_BUILD_ISOLATION=0"
    proxy = "%env HTTPS_PROXY=http://127.0.0.1:9"
    cell = alone.cell(CHAPTER)
    cells = [proxy, no_way, no_pip, cell, found, way, cell, found, pip, cell, found]
    printed = alone.run_cells(*cells)
    assert [printed[n] for n, source in enumerate(cells) if source is found] == [
        "content False\n",
        "notebooks False\n",
        "notebooks True\n",
    ]
