"""nbgrader's steps for grading a notebook here: cells run in a room of their own, and a page that keeps hidden tests.

What runs beside the submission is desk.py, where it runs is room.py. The points are nbgrader's own, of `settled`
outputs: a test cell earns its points if it proves, by a word that is made for it, that it ran to its end without an
error. Warnings, logging and progress bars on stderr cost nothing.
"""

import json
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import CellTimeoutError
from nbconvert.preprocessors import CSSHTMLHeaderPreprocessor
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_output
from nbgrader.converters import Autograde
from nbgrader.preprocessors import ClearHiddenTests, Execute, GetGrades, NbGraderPreprocessor
from nbgrader.utils import determine_grade
from traitlets import Any as AnyTrait
from traitlets import Unicode
from traitlets.config import Config

from tools.classroom.course import EXERCISES, is_for_alone
from tools.classroom.restoring import top_names
from tools.classroom.room import DESK, Room
from tools.classroom.submissions import name_given, read_notebook
from tools.errors import ToolError

LONGEST = 20_000  # characters of one output on a feedback page
Error = tuple[str, str, list[str]]  # name, message, the student's lines that led to it


def mark_of(cell: NotebookNode) -> dict[str, Any]:
    """What nbgrader knows about a cell."""
    return dict(cell.metadata.get("nbgrader", {}))


def is_test(cell: NotebookNode) -> bool:
    return bool(cell.cell_type == "code" and mark_of(cell).get("grade") and not mark_of(cell).get("solution"))


def is_given(cell: NotebookNode) -> bool:
    given = cell.cell_type == "code" and mark_of(cell).get("locked") and not mark_of(cell).get("grade")
    return bool(given and not is_for_alone(cell))


def answers_to(exercise: str) -> list[str]:
    """The names that an exercise's tasks ask for."""
    cells = read_notebook(EXERCISES / f"{exercise}.ipynb").cells
    asked = [c.source for c in cells if c.cell_type == "code" and mark_of(c).get("solution")]
    return sorted(set().union(*(top_names(source, imports=False) for source in asked)))


def settled(outputs: list[NotebookNode], error: Error | None) -> list[NotebookNode]:
    """A test cell's outputs as nbgrader reads points from them: what was printed, and the error. Nothing else counts:
    neither stderr, nor a value that the submission displays."""
    printed = "".join(o.text for o in outputs if o.output_type == "stream" and o.name == "stdout")
    made = [new_output("stream", name="stdout", text=printed)] if printed else []
    if error:
        kind, message, lines = error
        said = f"{kind}: {message}" if message else kind
        made.append(new_output("error", ename=kind, evalue=message, traceback=[*lines, said]))
    return made


def points(cell: NotebookNode) -> float:
    """What nbgrader gives for a test cell with settled outputs."""
    earned, _ = determine_grade(cell)
    return float(earned or 0)


class RoomManager(AsyncKernelManager):
    """Starts the kernel of a submission in its room."""

    room = AnyTrait().tag(config=True)  # a Room

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        command = super().format_kernel_cmd(extra_arguments)  # python -m ipykernel_launcher -f FILE …
        return self.room.command([command[0], "-Xfrozen_modules=off", str(DESK), *command[command.index("-f") :]])


class Exam(Execute):
    """nbgrader's Execute, by orders to the kernel of desk.py."""

    room = AnyTrait().tag(config=True)
    notes = Unicode(help="where to write what was found replaced").tag(config=True)

    def __init__(self, **kwargs: Any):
        super().__init__(kernel_manager_class=RoomManager, **kwargs)
        self.iopub_timeout = self.timeout  # for output, or an interrupt: nbclient's 4 s are too short on a busy machine
        self.reply: dict[str, Any] | None = None
        self.replaced: list[str] = []

    def preprocess(self, nb: NotebookNode, resources: Any, km: Any = None) -> Any:
        beside, work = Path(resources["metadata"]["path"]), Path(self.room.own) / "work"
        shutil.copytree(beside, work, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.ipynb"))
        self.answers = answers_to(resources["unique_key"])
        return super().preprocess(nb, resources, km)

    @contextmanager
    def setup_kernel(self, **kwargs: Any) -> Iterator[None]:
        cwd = str(Path(self.room.own) / "work")
        with super().setup_kernel(env=self.room.environment(), cwd=cwd, **kwargs):
            yield

    def preprocess_cell(self, cell: NotebookNode, resources: Any, index: int) -> Any:
        if index == 0:
            begin = [c.source for c in self.nb.cells if is_given(c)]
            error = self._order(new_code_cell(), index, begin=begin, name=name_given(self.nb))
            self.nb.cells[index] = cell  # where nbclient put what it ran
            if error:
                raise ToolError(f"the exercise's setup fails: {error[0]}: {error[1]}")
        if cell.cell_type != "code" or not cell.source.strip() or is_for_alone(cell):
            return cell, resources
        if is_test(cell):
            grade_id = mark_of(cell)["grade_id"]
            error = self._order(cell, index, test=cell.source, id=grade_id, answers=self.answers)
            cell.outputs = settled(cell.outputs, error)
        elif is_given(cell):
            self._order(cell, index, given=True)
        else:
            self._order(cell, index, student=cell.source)
        for output in cell.outputs:
            if output.output_type == "stream" and len(output.text) > LONGEST:
                output.text = output.text[:LONGEST] + "\n… and more, left out\n"
        return cell, resources

    def _order(self, cell: NotebookNode, index: int, **order: Any) -> Error | None:
        """Let the kernel do something in a cell's place. The error with which a test, or the setup, ended."""
        source, word = cell.source, secrets.token_hex()
        limited = "student" in order or "test" in order  # our own cells are never to blame for a busy machine
        self.timeout_func = lambda _: self.timeout if limited else None
        cell.source, self.reply = json.dumps(order | {"word": word}), None
        begun = time.monotonic()
        try:
            self.execute_cell(cell, index, store_history=True)
        except CellTimeoutError as error:
            stubborn = time.monotonic() - begun >= self.timeout + self.iopub_timeout
            why = (
                f"a cell ran longer than {self.timeout} s, and did not stop when it was interrupted"
                if stubborn
                else f"a cell printed more than could be read in {self.iopub_timeout} s"
            )
            raise TimeoutError(why) from error
        finally:
            cell.source = source
        if "student" in order:
            return None
        reply: dict[str, Any] = self.reply or {}
        found = reply.get("exam") or {}
        self.replaced += [name for name in found.get("replaced", []) if name not in self.replaced]
        Path(self.notes).write_text(json.dumps(self.replaced), encoding="utf-8")
        if found.get("word") == word:
            kind, message, lines = found["error"] or ("", "", [])
            return (kind, message, lines) if kind else None
        if reply.get("ename") == "CellTimeoutError":
            return "TimeoutError", f"stopped after {self.timeout} seconds", []
        return "RuntimeError", "the test did not run to its end", []

    def on_cell_executed(self, **kwargs: Any) -> None:
        super().on_cell_executed(**kwargs)
        self.reply = kwargs["execute_reply"]["content"]


class NoMarkup(NbGraderPreprocessor):
    """Shows HTML that a student writes into a text as text; nbgrader's page would run it."""

    def preprocess_cell(self, cell: NotebookNode, resources: Any, index: int) -> Any:
        if cell.cell_type == "markdown" and not mark_of(cell).get("locked"):
            cell.source = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", cell.source)
        return cell, resources


def configured(room: Room, notes: Path) -> Config:
    """nbgrader's configuration with these steps in it."""
    config = Config()
    config.Exam.notes, config.Exam.room, config.RoomManager.room = str(notes), room, room
    config.Exam.startup_timeout = 600  # importing PyTorch on a busy machine
    config.RoomManager.connection_file = str(Path(room.own) / "sockets" / "kernel.json")
    if room.kind != "open":
        config.RoomManager.transport = "ipc"  # reaches over the border of a network
    steps = Autograde.autograde_preprocessors.default_args[0]
    config.Autograde.autograde_preprocessors = [Exam if step is Execute else step for step in steps]
    config.HTMLExporter.sanitize_html = True  # no script of a submission runs in the reader's browser
    config.GenerateFeedback.preprocessors = [GetGrades, ClearHiddenTests, NoMarkup, CSSHTMLHeaderPreprocessor]
    return config
