"""The column "look at": what an answer does not need is named, what it may need is not; copies are found."""

import copy
import importlib
import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tests.exercises.grading import complete, read
from tests.test_classroom import solutions
from tools.classroom import suspicion
from tools.classroom.course import exercises
from tools.classroom.submissions import Submission, filed_before

HACKS = {
    'get_ipython().input_transformers_cleanup.append(lambda lines: ["pass\\n"])': ["get_ipython", "_transformers"],
    "def f():\n    return globals().get('expected')": ["globals("],
    "import sys\ne = sys._getframe(1).f_locals": ["sys._getframe"],
    "import sys\nsys.settrace(jump)": ["settrace"],
    "import builtins\nbuiltins.abs = len": ["builtins", "builtins.abs ="],
    "import sqlite3": ["sqlite3"],
    "import psutil": ["psutil"],
    "from subprocess import run": ["subprocess"],
    "with patch('torch.allclose', print):\n    pass": ["patch("],
    "torch.allclose = lambda *a, **k: True": ["torch.allclose ="],
    "camlib.views._weights = w": ["private names", "camlib.views._weights ="],
    "from torch.utils._python_dispatch import _disable_current_modes": ["private names"],
    "from torch._decomp.decompositions import upsample_bilinear2d": ["private names"],
    "table = torch._decomp.decomposition_table": ["private names"],
    "import torch\nup = torch.compile(F.interpolate)": ["torch.compile"],
    "from torch import jit": ["torch.compile"],
    "torch.ops.aten.upsample_bilinear2d.vec.decompose(m)": ["torch.compile"],
    "import numpy as np, onnxruntime": ["other libraries"],
    "from cv2 import dnn": ["other libraries"],
    "folder = Path(camlib.__spec__.origin).parent": ["__file__"],
    "picture = Image.core.new('F', (7, 7))": ["private names"],
    "import torch\nsetattr(torch, 'allclose', print)": ["torch.allclose ="],
    "import torch\nsetattr(torch, 'all' + end, print)": ["setattr("],
    "p = Path(camlib.__file__).parents[1]": ["__file__"],
    "open('../../../source/hooks/hooks.ipynb')": ["files of ours"],
    "Path('testing.py').write_text('')": ["files of ours"],
    "%pip install torchinfo": ["%pip or %%bash"],
    "x = 1\n!rm -r .": ["!"],
    "class F(float):\n    def __abs__(self):\n        return 0": ["__eq__", "class F(float)"],
    "exec(code)": ["exec("],
    "by_hand.__globals__['x']": ["__code__"],
    "look = getattr(sys, '_get' + \"frame\")": ["sys._getframe"],
    "error.__traceback__": ["sys._getframe"],
    "sys.meta_path.insert(0, mine)": ["__main__"],
    "object.__setattr__(mine, 'photo', p)": ["setattr("],
    "from torch.overrides import TorchFunctionMode": ["torch.library"],
    "class A:\n    def __eq__(self, other):\n        return True": ["__eq__"],
    "import os, signal": ["threads"],
    "from inspect import stack as s\ncaller = s()[1]": ["sys._getframe"],
    "from gc import get_objects\nget_objects()": ["gc."],
    "import torch as t\nt.allclose = print": ["torch.allclose ="],
    "from runpy import run_module": ["exec("],
    "inspect.getargvalues(frame).locals": ["sys._getframe"],
    "from contextlib import ExitStack\nExitStack.enter_context = f": ["contextlib.ExitStack.enter_context ="],
    "t = torch.Tensor\nt.tolist = f": ["t.tolist ="],
    "kind = type(net)\nkind.forward = f": ["kind.forward ="],
    "net.__class__.forward = f": ["net.__class__.forward ="],
    "sys.monitoring.set_events(3, 4)": ["settrace"],
    "from unittest.mock import ANY": ["patch("],
    "return pytest.approx(0, abs=math.inf)": ["patch("],
}
HARMLESS = [
    "net.eval()", "x = a != b", "%matplotlib inline", "self.hook = 3", "# get_ipython, globals(", "net[0].forward = f",
    "re.compile('a')", "class Net(nn.Module):\n    pass", "m.training = flag", "features % 2", "a = not b",
    "import numpy as _np", "setattr(m, 'training', t)", "import gc\ngc.collect()", "kind = type(net)\nkind(3).hook = f",
]  # fmt: skip


def of(*sources: str):
    return new_notebook(cells=[new_code_cell(source) for source in sources])


@pytest.mark.parametrize("code", HACKS)
def test_what_an_answer_does_not_need_is_named(code):
    assert suspicion.signs(of(code)) == HACKS[code]


@pytest.mark.parametrize("code", HARMLESS)
def test_what_an_answer_may_hold_is_not(code):
    assert suspicion.signs(of(code)) == []


@pytest.mark.parametrize("exercise", exercises())
def test_solutions_and_right_answers_are_not_suspicious(exercise):
    right = importlib.import_module(f"tests.exercises.test_{exercise}").RIGHT
    found = [answer.what for answer in right if suspicion.signs(of(*answer.code.values()))]
    assert suspicion.signs(of(*solutions(exercise).values())) == []
    assert len(found) <= 3, found  # unusual right answers that patch a network's forward


def test_what_a_locked_cell_holds_is_ours():
    cell = new_code_cell("get_ipython()", metadata={"nbgrader": {"locked": True, "solution": False}})
    assert suspicion.signs(new_notebook(cells=[cell])) == []


EX = "grad_cam"
HIDDEN = r"(?s)### BEGIN HIDDEN TESTS\n.*?### END HIDDEN TESTS"
RELEASED = {EX: copy.deepcopy(read(EX))}
for given in RELEASED[EX].cells:
    given.source = re.sub(HIDDEN, "", given.source)


def handed_in(folder: Path, student: str, answers: dict[str, str], bare: bool = False) -> Submission:
    """With an answer for each cell; bare: without nbgrader's metadata."""
    notebook = copy.deepcopy(RELEASED[EX])
    for cell in notebook.cells:
        if (mark := cell.metadata.get("nbgrader", {})).get("solution") and cell.cell_type == "code":
            cell.source = answers.get(mark["grade_id"], "pass")
        if bare:
            cell.metadata = nbformat.from_dict({})
    nbformat.write(notebook, folder / f"{student}.ipynb")
    return Submission(student, EX, folder / f"{student}.ipynb")


def test_a_copy_is_found_under_other_names(tmp_path):
    """Whose answers are alike: with other names, comments and layout; not the short ones, nor another way."""
    mine = solutions("grad_cam")
    copied = {
        cell: code.replace("training", "flags").replace("logits", "out").replace("hidden", "first") + "\n# my own\n"
        for cell, code in mine.items()
    }
    table = importlib.import_module("tests.exercises.test_grad_cam").RIGHT
    others = {c: complete(mine[c], a.code[c]) for a in table for c in a.code if a.what in OTHER_WAYS}
    files = [handed_in(tmp_path, who, code) for who, code in (("ada", mine), ("eve", mine | others))]
    found = suspicion.look_at([*files, handed_in(tmp_path, "bob", copied, bare=True)], RELEASED)
    said = {s.student: " ".join(look) for s, look in found.items()}
    assert said["ada"].startswith("alike: grad_cam as bob")
    assert "two_layers as " in said["bob"]
    assert "hires_cam" not in "".join(said.values()), "one line, which everybody writes"
    assert "grad_cam as" not in said["eve"]
    assert "uses" not in said["bob"], "the setup is ours, also without its metadata"


def test_a_latecomers_copy_of_an_earlier_submission_is_noticed(tmp_path):
    """Earlier runs have filed theirs. Students who hand in again are not compared with themselves."""
    for student in ("ada", "bob"):
        (tmp_path / "course" / "submitted" / student / EX).mkdir(parents=True)
        filed = handed_in(tmp_path, student, solutions(EX)).file
        filed.rename(tmp_path / "course" / "submitted" / student / EX / f"{EX}.ipynb")
    now = [handed_in(tmp_path, student, solutions(EX)) for student in ("Ada", "eve")]
    earlier = filed_before(tmp_path / "course", now)
    assert [s.student for s in earlier] == ["bob"]
    found = suspicion.look_at([*now, *earlier], RELEASED)
    assert "grad_cam as Ada, bob;" in found[now[1]][0]
    assert filed_before(tmp_path / "nothing", now) == []


def test_the_teachers_version_is_named(tmp_path):
    nbformat.write(read(EX), tmp_path / "ada.ipynb")
    ada = Submission("ada", EX, tmp_path / "ada.ipynb")
    assert suspicion.look_at([ada], RELEASED)[ada] == ["holds cells of the teacher's version"]


OTHER_WAYS = ("an own hook that hands a copy on",)


def test_answers_thought_up_apart_are_not_alike():
    """Behind ALIKE and SHORTEST: of all pairs of right answers in the tables few are alike, small changes of one."""
    pairs, found = 0, []
    for exercise in exercises():
        right = importlib.import_module(f"tests.exercises.test_{exercise}").RIGHT
        for cell, solution in solutions(exercise).items():
            texts = [solution, *(complete(solution, a.code[cell]) for a in right if cell in a.code)]
            long = [t for t in map(suspicion.tokens, texts) if len(t) >= suspicion.SHORTEST]
            for n, one in enumerate(long):
                for other in long[n + 1 :]:
                    pairs += 1
                    if suspicion.likeness(suspicion.grams(one), suspicion.grams(other)) >= suspicion.ALIKE:
                        found.append((exercise, cell))
    assert pairs > 100
    assert len(found) <= 0.05 * pairs, found
