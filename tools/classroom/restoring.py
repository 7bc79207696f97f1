"""Restores nbgrader's cells in what a student hands in: the answers are the student's, the rest is as released."""

import copy
import re
import symtable
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import nbformat
from nbformat import NotebookNode

from tools.classroom.course import is_for_alone
from tools.errors import ToolError


def restore(released: NotebookNode, handed_in: NotebookNode) -> tuple[NotebookNode, list[str]]:
    """The released notebook with a student's answers and own cells in it, and remarks on what was repaired.

    nbgrader knows its cells by metadata, which students and tools copy, edit and lose. Here its cells, their order and
    their settings come from the released notebook, and the text of the answers from the student. Nothing that the
    student wrote is dropped: other copies of a cell, and what a locked cell had been changed to, become the student's
    own cells and run where they stood. Locked text is put back without a remark, because no point depends on it.

    Raises ToolError if no answer to the exercise is in the notebook.
    """
    ours, theirs = released.cells, handed_in.cells
    bent: dict[str, list[int]] = defaultdict(list)  # what had happened, to which released cells
    found = _recognise(ours, theirs, bent)
    if not any(_is_answer(ours[n]) and _mark(ours[n]) for n in found):
        raise ToolError(
            "none of the exercise's answers is in the notebook: write them into the notebook that was handed out"
        )
    chosen = {n: _choose(n, found, ours, theirs) for n in found}
    own = _own_cells(ours, theirs, found, chosen, bent)
    restored, missing = copy.deepcopy(released), []
    for n, cell in enumerate(restored.cells):
        elsewhere = [other.source for other in theirs if _defines(other.source, _answer_name(cell))]
        if n in chosen and _is_answer(cell):
            _fill(cell, theirs[chosen[n]])
        elif n not in chosen and elsewhere:
            cell.source = elsewhere[-1]
            bent["stood in another cell, taken from there"].append(n)
        elif n not in chosen and _is_answer(cell) and _mark(cell):
            missing.append(n)
        elif n not in chosen:
            bent["had been deleted, put back"].append(n)
    restored.cells = own[-1] + [c for n, cell in enumerate(restored.cells) for c in (cell, *own[n])]

    code = {n for n, cell in enumerate(ours) if cell.cell_type == "code" and not is_for_alone(cell)}
    graded = code | {n for n, cell in enumerate(ours) if _is_answer(cell)}
    order = [found[n][0] for n in sorted(graded & set(found))]
    repairs = ["the cells stood in another order, put back"] if order != sorted(order) else []
    repairs += [
        f"{_labels(told, ours)} {what}" for what, cells in bent.items() if (told := sorted(graded & set(cells)))
    ]
    remarks = []
    if missing:
        cells, them = ("their cells are", "them") if len(missing) > 1 else ("its cell is", "it")
        again = f"copy {them} from the notebook that was handed out, and hand in again"
        remarks.append(f"no points for {_labels(missing, ours)}, because {cells} not in the notebook: {again}")
    return restored, remarks + ([f"repaired: {'; '.join(repairs)}"] if repairs else [])


def _recognise(
    ours: list[NotebookNode], theirs: list[NotebookNode], bent: dict[str, list[int]]
) -> dict[int, list[int]]:
    """The student's cells that stand for each released cell, by the surest way that finds any."""
    texts = [cell.source for cell in ours]
    ways: dict[str, Callable[[NotebookNode, NotebookNode], bool]] = {
        "grade_id": lambda cell, other: bool(_mark(cell)) and _mark(other).get("grade_id") == _mark(cell)["grade_id"],
        "cell id": lambda cell, other: other.get("id") == cell.id,
        "function": lambda cell, other: _defines(other.source, _answer_name(cell)),
        "text": lambda cell, other: texts.count(cell.source) == 1 and _same(other.source, cell.source),
    }
    found: dict[int, list[int]] = {}
    for way, alike in ways.items():
        for n, cell in enumerate(ours):
            taken = {i for copies in found.values() for i in copies}
            copies = [i for i, other in enumerate(theirs) if i not in taken and alike(cell, other)]
            if n in found or not copies:
                continue
            found[n] = copies
            if way != "grade_id" and _mark(cell):
                bent[f"had lost the grade_id, recognised by the {way}"].append(n)
    return found


def _choose(n: int, found: dict[int, list[int]], ours: list[NotebookNode], theirs: list[NotebookNode]) -> int:
    """Of the copies of a cell the one that counts: of an answer, the last that runs before its test."""
    if not _is_answer(ours[n]):
        return found[n][0]
    test = next((found[m][0] for m in sorted(found) if m > n and _mark(ours[m]).get("grade")), len(theirs))
    usable = [i for i in found[n] if i < test] or found[n]
    return ([i for i in usable if theirs[i].cell_type == ours[n].cell_type] or usable)[-1]


def _own_cells(
    ours: list[NotebookNode],
    theirs: list[NotebookNode],
    found: dict[int, list[int]],
    chosen: dict[int, int],
    bent: dict[str, list[int]],
) -> dict[int, list[NotebookNode]]:
    """What stays of the student's other cells, by the released cell that stands above; -1 is the top."""
    own: dict[int, list[NotebookNode]] = {n: [] for n in range(-1, len(ours))}
    released_as = {i: n for n, i in chosen.items()}
    older = {i: n for n in found for i in found[n] if i < chosen[n]}  # copies, to run before the one that counts
    above = -1
    for i, cell in enumerate(theirs):
        if i not in released_as:
            own[min(above, older.get(i, len(ours)) - 1)].append(_own(cell))
            continue
        above = n = released_as[i]
        if len(found[n]) > 1:
            times = "twice" if len(found[n]) == 2 else f"{len(found[n])} times"
            last = "the last" if i == found[n][-1] else f"number {found[n].index(i) + 1} from the top"
            bent[f"stood {times}, " + (f"{last} was graded" if _is_answer(ours[n]) else "counted once")].append(n)
        if cell.cell_type != ours[n].cell_type:
            bent[f"had become a {cell.cell_type} cell, turned back"].append(n)
        if _mark(cell) and _settings(cell) != _settings(ours[n]):
            bent["had other nbgrader settings, put back"].append(n)
        if not _is_answer(ours[n]) and not _same(cell.source, ours[n].source):
            bent["had been changed, put back"].append(n)
            own[n - 1].append(_own(cell))
    return own


def _mark(cell: NotebookNode) -> dict[str, Any]:
    """nbgrader's metadata of a cell, {} where it has none."""
    mark = cell.metadata.get("nbgrader")
    return mark if isinstance(mark, dict) else {}


def _settings(cell: NotebookNode) -> dict[str, Any]:
    return {key: _mark(cell).get(key) for key in ("grade", "points", "locked", "solution", "task")}


def _is_answer(cell: NotebookNode) -> bool:
    """Whether a released cell is the student's to fill in: an answer, or the cell for the name."""
    return bool(_mark(cell).get("solution")) or not _mark(cell)


def _answer_name(cell: NotebookNode) -> str | None:
    """The function, or the variable, that a released cell for code asks for."""
    asked = re.search(r"(?m)^(?:def )?(\w+)(?:\(| = )", cell.source)
    return asked[1] if asked and _is_answer(cell) and cell.cell_type == "code" else None


def _defines(source: str, name: str | None) -> bool:
    return name is not None and bool(re.search(rf"(?m)^(?:(?:async )?def {name}\b|{name}\s*=[^=])", source))


def _same(one: str, other: str) -> bool:
    return [line.rstrip() for line in one.strip().splitlines()] == [x.rstrip() for x in other.strip().splitlines()]


def _own(cell: NotebookNode) -> NotebookNode:
    """A cell of the student's own, of which nbgrader knows nothing."""
    made: NotebookNode = getattr(nbformat.v4, f"new_{cell.cell_type}_cell")()
    _fill(made, cell)
    return made


def _fill(cell: NotebookNode, theirs: NotebookNode) -> None:
    """Put what the student wrote into a cell, with the pictures in it; without marks for which nbgrader looks."""
    cell.source = re.sub(r"(?m)^.*### (BEGIN|END) HIDDEN TESTS.*\n?", "", theirs.source)
    if cell.cell_type == "markdown" and "attachments" in theirs:
        cell.attachments = theirs.attachments


def _labels(numbers: list[int], cells: list[NotebookNode]) -> str:
    """Cells in words, the first three by name: "the answer class_map, the test cell test_class_map and 2 more"."""
    names = []
    for mark in (_mark(cells[n]) for n in numbers[:3]):
        kind = "answer" if mark.get("solution") else "test cell" if mark.get("grade") else "cell"
        names.append(f"the {kind} {mark.get('grade_id', 'for the name')}")
    return ", ".join(names) + (f" and {len(numbers) - 3} more" if len(numbers) > 3 else "")


def top_names(source: str, imports: bool = True) -> set[str]:
    """Names that a cell sets, outside functions; none where it is no Python."""
    try:
        symbols = symtable.symtable(re.sub(r"(?m)^\s*[%!].*", "", source), "cell", "exec").get_symbols()
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    return {s.get_name() for s in symbols if s.is_assigned() or (imports and s.is_imported())}
