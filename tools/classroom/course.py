"""The exercises, and the nbgrader course that is made of them: what a teacher hands out."""

import os
import runpy
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import nbformat

from tools.errors import ToolError

if TYPE_CHECKING:
    from nbgrader.apps import NbGraderAPI  # takes a second
    from traitlets.config import Config

ROOT = Path(__file__).resolve().parents[2]
EXERCISES = ROOT / "notebooks" / "exercises"
HELPER = EXERCISES / "exercise.py"
BESIDE = (HELPER, EXERCISES / "testing.py", EXERCISES.parent / "checks" / "answers.py")  # each exercise imports these
ALONE = "alone"  # grade_id of the cell that tools/address.py writes
CELL_SECONDS = 30
CELL_LIMIT = "CAMLIB_CELL_SECONDS"  # how the limit reaches the process that grades


def is_for_alone(cell: nbformat.NotebookNode) -> bool:
    """Whether a cell is the one that fetches the course where an exercise stands alone: no part of the exercise."""
    return bool(cell.metadata.get("nbgrader", {}).get("grade_id") == ALONE)


def exercises() -> list[str]:
    """Names of the exercises, each notebooks/exercises/NAME.ipynb."""
    return sorted(path.stem for path in EXERCISES.glob("*.ipynb"))


def make_course(folder: Path, names: Iterable[str]) -> None:
    """An nbgrader course: the instructor's sources, and student versions made of them."""
    helper = runpy.run_path(str(HELPER))
    for name in names:
        source = folder / "source" / name
        (source / "photos").mkdir(parents=True)
        shutil.copyfile(EXERCISES / f"{name}.ipynb", source / f"{name}.ipynb")
        for file in BESIDE:
            shutil.copyfile(file, source / file.name)
        for photo in helper["CLASSES"]:
            shutil.copyfile(helper["photo_path"](photo), source / "photos" / photo)
        done = api(folder).generate_assignment(name, force=True)
        if not done["success"]:
            raise ToolError(f"nbgrader could not make {name}:\n{done['log']}")


def api(folder: Path, more: "Config | None" = None) -> "NbGraderAPI":
    """nbgrader for a course in a folder, with more configuration."""
    from nbgrader.apps import NbGraderAPI
    from traitlets.config import Config

    scripts = str(Path(sys.executable).parent)  # nbgrader calls alembic by its name
    if scripts not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = scripts + os.pathsep + os.environ.get("PATH", "")
    config = Config()
    config.CourseDirectory.root = str(folder)
    config.CourseDirectory.course_id = "camlib"
    config.ExecutePreprocessor.kernel_name = "python3"
    config.ExecutePreprocessor.timeout = int(os.environ.get(CELL_LIMIT, CELL_SECONDS))
    config.merge(more or {})
    config.HTMLExporter.mathjax_url = config.HTMLExporter.require_js_url = config.HTMLExporter.jquery_url = ""
    return NbGraderAPI(config=config)


def machine_graded(exercise: str) -> dict[str, float]:
    """The graded code cells of an exercise in their order, with their points."""
    notebook = nbformat.read(EXERCISES / f"{exercise}.ipynb", as_version=4)
    marked = [c.metadata.get("nbgrader", {}) for c in notebook.cells if c.cell_type == "code"]
    return {m["grade_id"]: float(m["points"]) for m in marked if m.get("grade")}


def full_marks(exercise: str) -> float:
    """All points of an exercise, the machine's and those that a person gives."""
    notebook = nbformat.read(EXERCISES / f"{exercise}.ipynb", as_version=4)
    marked = [cell.metadata.get("nbgrader", {}) for cell in notebook.cells]
    return sum(float(mark.get("points", 0)) for mark in marked if mark.get("grade") or mark.get("task"))


def hand_out(out: Path, names: list[str]) -> list[Path]:
    """Student and instructor versions, and a zip of the student versions for a course site."""
    with TemporaryDirectory() as temporary:
        course = Path(temporary)
        make_course(course, names)
        for kind, made in (("student", "release"), ("instructor", "source")):
            shutil.rmtree(out / kind, ignore_errors=True)
            shutil.copytree(course / made, out / kind)
    archive = out / "exercises.zip"
    with ZipFile(archive, "w", ZIP_DEFLATED) as bundle:
        for path in sorted((out / "student").rglob("*")):
            if path.is_file():
                entry = ZipInfo(path.relative_to(out / "student").as_posix(), date_time=(2020, 1, 1, 0, 0, 0))
                entry.compress_type, entry.external_attr = ZIP_DEFLATED, 0o644 << 16
                bundle.writestr(entry, path.read_bytes())
    return [out / "student", out / "instructor", archive]
