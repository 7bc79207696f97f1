"""What students hand in: which file is whose, and how it is read."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tools.classroom.course import ClassroomError


@dataclass(frozen=True)
class Submission:
    student: str
    exercise: str
    file: Path


def find_submissions(folder: Path, known: Iterable[str]) -> tuple[list[Submission], list[Path]]:
    """Submissions below a folder, and notebooks that are none.

    Understood: STUDENT/EXERCISE.ipynb, STUDENT/…/EXERCISE.ipynb (nbgrader's own layout) and STUDENT_EXERCISE.ipynb.
    """
    known = sorted(known, key=len, reverse=True)
    found: dict[tuple[str, str], Submission] = {}
    strange = []
    for file in sorted(folder.rglob("*.ipynb")):
        inside = file.relative_to(folder)
        if any(part.startswith(".") for part in inside.parts) or not file.is_file():
            continue
        exercise = next((k for k in known if inside.stem == k or inside.stem.endswith(f"_{k}")), None)
        student = inside.parts[0] if len(inside.parts) > 1 else inside.stem.removesuffix(f"_{exercise}")
        if exercise is None or not student or (student, exercise) in found:
            strange.append(file)
        else:
            found[student, exercise] = Submission(student, exercise, file)
    return list(found.values()), strange


def read_notebook(file: Path) -> NotebookNode:
    """A notebook of any version, as version 4; also one that an editor saved with a byte-order mark."""
    try:
        notebook = nbformat.reads(file.read_text(encoding="utf-8-sig"), as_version=4)
        nbformat.validate(notebook, relax_add_props=True)
    except Exception as error:  # nbformat and its readers raise many kinds
        raise ClassroomError("the file is not a whole notebook") from error
    return notebook


def name_in(file: Path) -> str:
    """What the student wrote as NAME, for the teacher to see who has whose variant."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    found = re.search(r'NAME = (\\"|\')(.*?)\1', text)
    return found[2][:60] if found else ""
