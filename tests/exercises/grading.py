"""Scores an answer to an exercise as the grader does, in this process: cells run in order, errors do not stop the rest,
and test cells run at the grader's own desk; what they print and raise becomes points by the grader's own functions.
tests/test_classroom.py shows that nbgrader itself agrees.
"""

import contextlib
import gc
import io
import re
import symtable
import sys
import textwrap
import warnings
from collections.abc import Collection, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cache
from unittest.mock import patch

import nbformat
import testing
import torch
from nbformat.v4 import new_output
from nbgrader.preprocessors import ClearSolutions

import camlib
from camlib.heads import Head
from camlib.models import load_model as load_any
from camlib.zoo import BUNDLED
from tools.classroom.course import EXERCISES, is_for_alone, machine_graded
from tools.classroom.desk import Desk
from tools.classroom.exam import answers_to, is_given, is_test, points, settled

asked = cache(answers_to)  # the names that an exercise asks for
graded = cache(machine_graded)  # the graded code cells of an exercise, with their points
STUB = ClearSolutions().code_stub["python"]  # what nbgrader leaves for the student
SOLUTION = re.compile(r"(?m)^([ \t]*)### BEGIN SOLUTION\n.*?### END SOLUTION", re.S)


@dataclass(frozen=True)
class Answer:
    """What a student may hand in: code for some cells (the others hold the solution), and the points that it loses."""

    what: str  # the mistake, or what is different about a right answer
    code: dict[str, str]  # cell -> its source, or the body of its function
    loses: dict[str, float] = field(default_factory=dict)  # graded cell -> points lost


def peeking(cell: str, shape: str, else_: str, before: str = "", **loses: float) -> Answer:
    """An answer that looks for the expected one among the variables of the test that called it.

    else_: what it returns where it finds none of this shape, so that it passes the visible test.
    """
    code = f"""
import sys
{before}
frame = sys._getframe()
while frame:
    found = frame.f_locals.get("expected")
    if isinstance(found, torch.Tensor) and found.shape == {shape}:
        return found
    frame = frame.f_back
return {else_}
"""
    return wrong("reads the test's variables", cell, code, **loses)


def borrowing(helper: str, cell: str, call: str, else_: str, **loses: float) -> Answer:
    """An answer that looks for the test's own function among its callers' variables, and returns `call`, which uses it.

    else_: what it returns if there is no such function, so that it passes the visible test.
    """
    code = f"""
import sys
frame = sys._getframe()
while frame:
    {helper} = frame.f_locals.get("{helper}")
    if callable({helper}):
        return {call}
    frame = frame.f_back
return {else_}
"""
    return wrong(f"calls the test's {helper}", cell, code, **loses)


def wrong(what: str, cell: str, code: str, **loses: float) -> Answer:
    """A wrong answer in one cell, given as the body of its function, or whole."""
    assert loses, f"{what}: a wrong answer loses points"
    return Answer(what, {cell: code}, loses)


def right(what: str, cell: str, code: str) -> Answer:
    """Another right answer in one cell."""
    return Answer(what, {cell: code})


@cache
def read(exercise: str) -> nbformat.NotebookNode:
    """The exercise without the cell for Colab, which is never run here."""
    notebook = nbformat.read(EXERCISES / f"{exercise}.ipynb", as_version=4)
    notebook.cells = [cell for cell in notebook.cells if not is_for_alone(cell)]
    return notebook


def blank(exercise: str) -> dict[str, str]:
    """Every cell for answers as nbgrader leaves it for the student."""
    cells = [
        c for c in read(exercise).cells if c.cell_type == "code" and c.metadata.get("nbgrader", {}).get("solution")
    ]
    return {c.metadata.nbgrader.grade_id: SOLUTION.sub(indented, c.source) for c in cells}


def complete(cell: str, code: str) -> str:
    """The code, under the signature of the cell's function where it is only a body."""
    code = textwrap.dedent(code).strip("\n")
    signature = re.match(r"def (\w+)\(.*\):$", cell, re.M)
    if signature is None or re.search(rf"(?m)^(def {signature[1]}\(|{signature[1]} = )", code):
        return code
    return signature[0] + "\n" + textwrap.indent(code, "    ")


def indented(found: re.Match) -> str:
    return "\n".join(found[1] + line for line in STUB.splitlines())


@cache
def bundled() -> camlib.Classifier:
    return camlib.load_model()


@cache
def bundled_head() -> Head:
    return bundled().head


def concerned(exercise: str, code: dict[str, str]) -> set[str]:
    """The graded cells that can come out otherwise with this code, and those whose names they need.

    All others run the exercise's solution alone, of which a test of its own says that it earns their points.
    """
    cells = {c.metadata.get("nbgrader", {}).get("grade_id"): c.source for c in read(exercise).cells if _is_code(c)}
    cells |= {cell: complete(cells[cell], source) for cell, source in code.items()}
    try:
        loads, stores = ({cell: _names(source, kind) for cell, source in cells.items()} for kind in ("loads", "stores"))
    except SyntaxError:
        return set(graded(exercise))
    tests, touched = set(graded(exercise)), set(code)
    while more := {c for c in set(cells) - touched for t in touched - tests if loads[c] & stores[t]}:
        touched |= more
    while more := {c for c in tests - touched for t in touched & tests if (loads[t] - stores[t]) & stores[c]}:
        touched |= more
    return touched & tests


def _is_code(cell: nbformat.NotebookNode) -> bool:
    return cell.cell_type == "code"


@cache
def _names(source: str, kind: str) -> frozenset[str]:
    """The global names that a cell "loads", in a function too, or "stores"."""

    def inside(table: symtable.SymbolTable) -> Iterator[str]:
        top = table.get_type() == "module"
        for symbol in table.get_symbols():
            if kind == "loads" and symbol.is_referenced() and (top or symbol.is_global()):
                yield symbol.get_name()
            if kind == "stores" and (symbol.is_assigned() or symbol.is_imported()):
                yield from [symbol.get_name()] if top or symbol.is_declared_global() else []
        for child in table.get_children():
            yield from inside(child)

    return frozenset(inside(symtable.symtable(source, "cell", "exec")))


def _modules(kind: type) -> set[type]:
    return {kind}.union(*map(_modules, kind.__subclasses__()))


def score(
    exercise: str, code: dict[str, str], name: str = "Ada", only: Collection[str] | None = None
) -> dict[str, float]:
    """Points for each graded cell of the exercise, or only for these, with this code in its cells."""
    gc.collect()  # the names of the last answer: large networks, but few objects, so Python is in no hurry to do it
    known = {c.metadata.get("nbgrader", {}).get("grade_id") for c in read(exercise).cells}
    assert set(code) <= known, f"no such cell: {set(code) - known}"
    names: dict[str, object] = {"__name__": "__main__"}
    earned = {cell: 0.0 for cell in graded(exercise) if only is None or cell in only}
    own = replace(bundled(), module=deepcopy(bundled().module))  # what an answer leaves in it goes with it
    own.places.head = bundled_head()  # camlib checks it whenever it is used

    def load_model(model: object = BUNDLED, **options: object) -> camlib.Classifier:
        return load_any(model, **options) if model != BUNDLED or options else own

    torch.manual_seed(0)
    cells = [cell for cell in read(exercise).cells if cell.cell_type == "code"]
    quiet = contextlib.redirect_stdout(io.StringIO())
    with patch("camlib.load_model", load_model), quiet, testing.own_settings(*_modules(torch.nn.Module)):
        desk = Desk([cell.source for cell in cells if is_given(cell)], name)
        for cell in cells:
            mark = cell.metadata.get("nbgrader", {})
            if is_given(cell):
                desk.hand_over(names)
            elif is_test(cell) and mark["grade_id"] in earned:
                earned[mark["grade_id"]] = points(tested(cell, desk, asked(exercise), names))
            elif not is_test(cell):
                given = code.get(mark.get("grade_id"))
                source = cell.source if given is None else complete(cell.source, given)
                source = f"NAME = {name!r}" if source.startswith("NAME = ") else source
                with contextlib.suppress(Exception, SystemExit):  # nbgrader goes on as well
                    exec(compile(source, f"{exercise}:{mark.get('grade_id')}", "exec"), names)
        desk.watch.put_back()  # for the next answer
    return earned


def tested(cell: nbformat.NotebookNode, desk: Desk, answers: list[str], names: dict[str, object]) -> object:
    """A copy of a test cell with the outputs that nbgrader would see."""
    streams = {"stdout": io.StringIO(), "stderr": io.StringIO()}
    with (
        contextlib.redirect_stdout(streams["stdout"]),
        contextlib.redirect_stderr(streams["stderr"]),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("default")
        warnings.showwarning = lambda *told, **more: print(told[0], file=sys.stderr)  # as outside pytest
        verdict = desk.test(cell.source, cell.metadata.nbgrader.grade_id, answers, names)
    cell = deepcopy(cell)
    outputs = [new_output("stream", name=kind, text=s.getvalue()) for kind, s in streams.items() if s.getvalue()]
    cell.outputs = settled(outputs, verdict.error)
    return cell
