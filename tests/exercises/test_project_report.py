"""The model of the project's report: made, executed, every number of its text printed, and graded as a student's is."""

import importlib.util
import re
from pathlib import Path

import nbformat
import pytest

from tests.exercises.grading import EXERCISES, graded, read
from tests.test_classroom import points, rows
from tools.classroom.__main__ import main

SCRIPT = EXERCISES.parent / "instructor" / "project_report.py"
PAGE = (SCRIPT.parent / "project.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("project_report", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def made(script, tmp_path_factory) -> Path:
    return script.make(tmp_path_factory.mktemp("in") / "model" / "project")


@pytest.mark.slow
def test_every_number_of_the_report_is_printed(script, made):
    notebook = nbformat.read(made, as_version=4)
    outputs = [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs]
    assert not [o for o in outputs if o.output_type == "error"]
    out = "".join(o.text for o in outputs if o.output_type == "stream" and o.name == "stdout")
    for cell, text in script.TEXT.items():
        for number in re.findall(r"(?<![\w.])-?\d+\.\d\d\b", text):
            assert number.lstrip("-") in re.findall(r"\d+\.\d\d", out), f"{cell}: {number}"
    assert len(list((made.parent / "album").glob("*.*"))) == 11, "ten photos, and boxes.json"
    assert made.stat().st_size < 400_000
    assert sum("image/png" in o.get("data", {}) for o in outputs) == 2


@pytest.mark.slow
def test_the_report_is_graded_with_its_album(made, tmp_path):
    limits = ["--jobs", "1", "--cell-seconds", "120"]
    assert main(["grade", str(made.parents[2]), "--out", str(tmp_path), *limits]) == 0
    found = rows(tmp_path)["model", "project"]
    assert points(found) == graded("project"), "ten points by machine"
    assert float(found["by hand"]) == 30
    assert "album" not in found["status"]
    page = (tmp_path / "feedback" / "model" / "project.html").read_text(encoding="utf-8")
    assert "FileNotFoundError" not in page
    assert page.count("data:image/png;base64") == 2, "its figures were drawn again"


def test_students_see_the_questions_and_not_the_report(script):
    cells = {c.metadata.get("nbgrader", {}).get("grade_id"): c for c in read("project").cells}
    for part in ("question", "result", "intervention", "limits"):
        asked, answered = cells[f"ask-{part}"], cells[f"report_{part}"]
        assert asked.metadata.nbgrader.locked and not asked.metadata.nbgrader.solution
        points = re.findall(r"\b(\d): ", asked.source)
        assert sum(map(int, points)) == answered.metadata.nbgrader.points, "the rubric's points"
        assert answered.source == "*Your text here.*"
        assert script.TEXT[f"report_{part}"].strip()
    assert "0.66" not in "".join(c.source for c in read("project").cells)


def test_the_rubric_stands_once():
    """On the page of tests/test_instructor.py, which compares it with the prompts."""
    assert "](graded/project.md#rubric)" in PAGE
    assert "\n|" not in PAGE, "no second table"
