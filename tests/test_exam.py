"""Submissions that mean harm, or only look like it, through nbgrader: what they earn, and what the table says."""

import html
import os
import re
import subprocess
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellTimeoutError
from nbformat.v4 import new_code_cell

from tests.exercises.grading import complete, graded, read
from tests.test_classroom import hand_in, points, rows, solutions
from tools.classroom import exam, room, submissions
from tools.classroom.__main__ import main

EXERCISE = "einsum_cam"
WRONG = {cell: complete(source, "return None") for cell, source in solutions(EXERCISE).items()}

NOISE = """
import logging, sys, warnings
from tqdm import tqdm
def noise():
    logging.warning("from a log"), print("to stderr", file=sys.stderr), warnings.warn("deprecated", stacklevel=2)
    list(tqdm(range(3)))
"""

# The grader's way of running code, changed before the answers; the answers are wrong.
SHELL = """
torch.allclose = lambda *a, **k: True
async def run_code(*args, **kwargs):
    return False
get_ipython().input_transformers_cleanup.append(lambda lines: ["pass\\n"])
class Drop(__import__("ast").NodeTransformer):
    def visit_Assert(self, node):
        return None
get_ipython().ast_transformers.append(Drop())
type(get_ipython()).run_code = run_code  # the last line: no other would run
"""

MARKUP = 'a < b <img src=x onerror="alert(1)"><script>alert(2)</script><style>body {display: none}</style>'

# What lies around a submission; it prints what it gets hold of, and answers with it.
REACH = """
import os, pathlib, socket, sqlite3, subprocess, sys, psutil
got = []
def attempt(what, step):
    try:
        if step():
            got.append(what)
    except BaseException as error:
        pass
def solve(path):
    cells = __import__("nbformat").read(path, 4).cells
    for cell in cells:
        if cell.metadata.get("nbgrader", {}).get("solution") and cell.cell_type == "code":
            exec(cell.source, globals())
    return bool(cells)
package = pathlib.Path(camlib.__file__).parents[1]
attempt("the solutions", lambda: solve(package / "notebooks/exercises/einsum_cam.ipynb"))
attempt("the tables", lambda: list((package / "tests").iterdir()))
attempt("the history", lambda: list((package / ".git").iterdir()) or (package / ".git").read_text())
for up in ("..", "../..", "../../..", "../../../.."):
    attempt("source", lambda: solve(f"{up}/source/einsum_cam/einsum_cam.ipynb"))
    attempt("release", lambda: list(pathlib.Path(up, "release").iterdir()))
    attempt("gradebook", lambda: pathlib.Path(up, "gradebook.db").stat())
    attempt("source below", lambda: list(pathlib.Path(up).resolve().rglob("source/einsum_cam"))
            if pathlib.Path(up).resolve() != pathlib.Path("/") else [])
attempt("the database", lambda: sqlite3.connect("file:../../../gradebook.db?mode=rw", uri=True).execute("select 1"))
attempt("the grader", lambda: [p for p in psutil.process_iter() if {"autograde", "--out"} & {*p.cmdline()}])
attempt("the results", lambda: list(pathlib.Path(OUT).iterdir()))
attempt("write results", lambda: pathlib.Path(OUT, "grades.csv").write_text("mine"))
attempt("other submissions", lambda: list(pathlib.Path(IN).iterdir()))
attempt("the home", lambda: list(pathlib.Path(HOME).glob(".[bsp]*rc")))
attempt("the environment", lambda: pathlib.Path(psutil.__file__).with_name("mine.py").write_text("x = 1"))
attempt("pip", lambda: subprocess.run([sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation",
        "--target", str(pathlib.Path(psutil.__file__).parents[1]), "."]).returncode == 0)
attempt("a network", lambda: socket.create_connection(("1.1.1.1", 53), 2))
attempt("other interfaces", lambda: [n for _, n in socket.if_nameindex() if n != "lo"])
attempt("other users", lambda: os.getuid() == 0 and open("/etc/passwd", "a"))
print("got:", got)
"""

EDIT = """
import importlib, pathlib, sys
for name in ("exercise", "testing", "answers"):
    pathlib.Path(name + ".py").unlink(missing_ok=True)
    pathlib.Path(name + ".py").write_text("class Any:\\n    pass\\ndef __getattr__(name):\\n"
                                          "    return lambda *a, **k: Any()\\n")
    sys.modules.pop(name, None)
    importlib.import_module(name)
"""


def changed(folder: Path, top: str) -> None:
    """The student's notebook with a cell below the setup."""
    file = folder / f"{EXERCISE}.ipynb"
    notebook = nbformat.read(file, as_version=4)
    notebook.cells.insert(4, nbformat.v4.new_code_cell(top))
    notebook.cells.append(nbformat.v4.new_markdown_cell(MARKUP))
    nbformat.write(notebook, file)


@pytest.fixture(scope="module")
def graded_folder(tmp_path_factory):
    """The rows and pages of all of them, graded at once."""
    folder = tmp_path_factory.mktemp("exam")
    assert main(["classroom", "--out", str(folder / "classroom"), "--only", EXERCISE]) == 0
    said = f"OUT, IN, HOME = {str(folder / 'out')!r}, {str(folder / 'in')!r}, {str(Path.home())!r}\n"
    noisy = {
        cell: re.sub(r"(?m)^(def .*:)$", r"\1\n    noise()", source) for cell, source in solutions(EXERCISE).items()
    }
    faulty = solutions(EXERCISE) | {"all_maps": "def all_maps(features, weight):\n    return features @ weight"}
    dying = solutions(EXERCISE) | {"class_map": "import os\nos._exit(3)"}
    for student, top, answers in (
        ("noisy", NOISE, noisy),
        ("shell", SHELL, WRONG),
        ("reach", said + REACH, WRONG),
        ("edit", EDIT, WRONG),
        ("faulty", f"print('mine')\nfrom IPython.display import HTML\ndisplay(HTML({MARKUP!r}))", faulty),
        ("dying", "", dying),
    ):
        hand_in(folder / "in", student, EXERCISE, folder / "classroom" / "student", answers)
        changed(folder / "in" / student, top)
    limits = ["--cell-seconds", "120", "--jobs", "2"]
    assert main(["grade", str(folder / "in"), "--out", str(folder / "out"), *limits]) == 1, "one is not graded"
    return folder / "out"


def row(out: Path, student: str) -> dict[str, str]:
    return rows(out)[student, EXERCISE]


def page(out: Path, student: str) -> str:
    text = (out / "feedback" / student / f"{EXERCISE}.html").read_text(encoding="utf-8")
    return html.unescape(re.sub(r"<[^>]+>", "", text))


@pytest.mark.slow
def test_noise_costs_nothing(graded_folder):
    assert points(row(graded_folder, "noisy")) == graded(EXERCISE)
    assert row(graded_folder, "noisy")["look at"] == ""
    assert "WARNING:root" not in page(graded_folder, "noisy")


@pytest.mark.slow
def test_a_feedback_page_runs_nothing_of_a_submission(graded_folder):
    text = (graded_folder / "feedback" / "faulty" / f"{EXERCISE}.html").read_text(encoding="utf-8")
    assert "onerror" in text, "shown as text"
    assert not re.search(r"<img[^>]*onerror|<script>alert|<style>body \{display", text)


@pytest.mark.slow
def test_changes_to_ipython_earn_nothing_and_are_told(graded_folder):
    found = row(graded_folder, "shell")
    assert set(points(found).values()) == {0.0}
    for sign in ("get_ipython", "_transformers", "exec(", "torch.allclose =", "replaced: "):
        assert sign in found["look at"]
    told = found["look at"].partition("replaced: ")[2]
    for what in ("input_transformers_cleanup", "ast_transformers", "run_code", "torch.allclose"):
        assert what in told


@pytest.mark.slow
def test_what_lies_around_is_out_of_reach(graded_folder):
    if room.best_kind() != "sealed":
        pytest.skip("no sealed room on this system")
    found = row(graded_folder, "reach")
    assert re.findall(r"got: .*", page(graded_folder, "reach"))[-1] == "got: []"
    assert set(points(found).values()) == {0.0}
    for sign in ("sqlite3", "psutil", "subprocess", "__file__", "globals(", "exec(", "files of ours"):
        assert sign in found["look at"]


@pytest.mark.slow
def test_our_own_files_rewritten_earn_nothing(graded_folder):
    found = row(graded_folder, "edit")
    assert set(points(found).values()) == {0.0}
    assert "replaced: " in found["look at"]


@pytest.mark.slow
def test_the_page_explains_and_hides(graded_folder):
    text, source = page(graded_folder, "faulty"), "\n".join(cell.source for cell in read(EXERCISE).cells)
    assert points(row(graded_folder, "faulty"))["test_all_maps"] == 0
    assert "in your all_maps, line 2: return features @ weight" in text
    assert "RuntimeError" in text
    hidden = "\n".join(re.findall(r"(?s)### BEGIN HIDDEN TESTS\n(.*?)### END HIDDEN TESTS", source))
    visible = re.sub(r"(?s)### BEGIN HIDDEN TESTS\n.*?### END HIDDEN TESTS", "", source)
    lines = {line.strip() for line in hidden.splitlines() if len(line.strip()) > 25}
    lines = {line for line in lines if line not in visible}
    assert len(lines) > 20
    assert not [line for line in lines if line in text]
    assert "HIDDEN TESTS" not in text
    told = [cell.source.splitlines()[0] for cell in read(EXERCISE).cells if cell.cell_type == "markdown"]
    headings = [line.strip("# ").replace("`", "") for line in told if line.startswith("#")]
    assert len(headings) > 2 and not [heading for heading in headings if heading not in text]


@pytest.mark.slow
def test_a_submission_that_ends_its_kernel_costs_only_itself(graded_folder):
    status = {student: found["status"] for (student, _), found in rows(graded_folder).items()}
    assert status.pop("dying") == "failed: it ended its own kernel"
    assert set(points(row(graded_folder, "dying")).values()) == {0.0}
    assert "it ended its own kernel" in page(graded_folder, "dying")
    assert set(status.values()) == {"graded"}, "another submission lost nothing"


STUBBORN = """
import time
while True:
    try:
        time.sleep(1)
    except KeyboardInterrupt:
        pass
"""


@pytest.mark.slow
def test_a_time_limit_says_the_limit(tmp_path):
    assert main(["classroom", "--out", str(tmp_path / "classroom"), "--only", EXERCISE]) == 0
    sleepy = solutions(EXERCISE) | {"class_map": "def class_map(features, weight, k):\n    while True:\n        pass"}
    for student, answers in (("stubborn", solutions(EXERCISE)), ("sleepy", sleepy)):
        hand_in(tmp_path / "in", student, EXERCISE, tmp_path / "classroom" / "student", answers)
    changed(tmp_path / "in" / "stubborn", STUBBORN)
    limits = ["--cell-seconds", "5", "--jobs", "2"]
    assert main(["grade", str(tmp_path / "in"), "--out", str(tmp_path / "out"), *limits]) == 1
    assert row(tmp_path / "out", "stubborn")["status"] == (
        "failed: a cell ran longer than 5 s, and did not stop when it was interrupted"
    )
    assert points(row(tmp_path / "out", "sleepy"))["test_class_map"] == 0
    assert "stopped after 5 seconds" in page(tmp_path / "out", "sleepy")


def test_too_much_output_is_not_called_a_slow_cell(monkeypatch):
    """nbclient raises the same error for both: it also waits for the output that follows the reply."""

    def late(*cell, store_history):
        raise CellTimeoutError("Timeout waiting for IOPub output")

    monkeypatch.setattr(exam.Exam, "execute_cell", late)
    with pytest.raises(TimeoutError, match="a cell printed more than could be read in 7 s"):
        exam.Exam(timeout=7)._order(new_code_cell(), 0, student="print('x' * 10 ** 9)")
    clock = iter([0.0, 14.0])
    monkeypatch.setattr(exam.time, "monotonic", lambda: next(clock))
    with pytest.raises(TimeoutError, match="a cell ran longer than 7 s, and did not stop"):
        exam.Exam(timeout=7)._order(new_code_cell(), 0, student="while True: pass")


@pytest.mark.parametrize("kind", room.KINDS)
def test_a_room_of_each_kind(kind, tmp_path):
    """What each kind of room promises; what a system cannot do is left out, as grading itself does."""
    own = room.Room(kind, room._hidden((tmp_path,)), room._kept()).furnished(tmp_path / "room", 3)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.is_relative_to("/tmp") and kind == "other user":
            folder.chmod(folder.stat().st_mode | 0o11)
    (tmp_path / "secret").mkdir(mode=0o700)
    look = ["sh", "-c", f"id -u; touch mine; ls {tmp_path}/secret"]
    done = subprocess.run(
        own.command(look), cwd=tmp_path / "room" / "work", env=own.environment(), capture_output=True, text=True
    )
    root = os.getuid() == 0
    if "Operation not permitted" in done.stderr or (kind == "other user" and not root):
        pytest.skip(f"not allowed here: {done.stderr[-200:]}")
    expected = (os.getuid(), 0) if kind == "open" else (own.user if root else 0, 2)
    assert (int(done.stdout), done.returncode) == expected, done.stderr
    assert (tmp_path / "room" / "work" / "mine").exists()


def test_the_name_is_read_and_not_run():
    for source, name in {
        'NAME = "Ada"  # your name': "Ada",
        "NAME = 'a' + input()": "",
        "NAME = 3": "",
        "NAME": "",
        "x = 1": "",
    }.items():
        assert submissions.name_given(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])) == name
