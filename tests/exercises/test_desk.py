"""What the grader's desk gives and refuses, without nbgrader: warnings cost nothing, hacks earn nothing.

tests/test_classroom.py takes the same through nbgrader, with the hacks that need a kernel.
"""

import logging
import subprocess
import sys
import weakref

import pytest
import torch

from tests.exercises import grading
from tests.exercises.grading import Answer, concerned, graded, right, score
from tests.test_classroom import solutions
from tools.classroom.desk import Desk, Verdict

# Right answers that print to stderr: warnings, logging, progress bars, deprecations
NOISY = [
    ("hooks", right("torch.tensor of a tensor", "every_output", """
        seen = []
        handle = net.get_submodule(layer).register_forward_hook(lambda m, i, o: seen.append(torch.tensor(o)))
        try:
            net(x)
        finally:
            handle.remove()
        return seen""")),
    ("hooks", right("torch.tensor of a number", "missed", """
        k = clf.index(label)
        photo = camlib.read_image(path)
        x = clf.preprocess(photo, clf.view(photo))
        with torch.no_grad(), camlib.capture(clf.module, layer) as seen:
            logits = clf.module(x)
        class_map = torch.einsum("c,chw->hw", clf.head.weight[k], seen[layer][0])
        return abs(float(class_map.mean()) + torch.tensor(clf.head.bias[k]).item() - float(logits[0, k]))""")),
    *[("hooks", right(what, "calls", f"""
        {line}
        seen, handles = [], []
        try:
            for name in layers:
                def hook(m, i, o, name=name):
                    seen.append((name, tuple(o.shape)))
                handles.append(net.get_submodule(name).register_forward_hook(hook))
            net(x)
        finally:
            for handle in handles:
                handle.remove()
        return seen""")) for what, line in {
            "logging": "import logging; logging.warning('looking at %s', layers)",
            "printed to stderr": "import sys; print(layers, file=sys.stderr)",
        }.items()],
    ("bilinear_upsampling", right("meshgrid without indexing", "enlarge", """
        y = ((torch.arange(height) + 0.5) * m.shape[0] / height - 0.5).clamp(0, m.shape[0] - 1)
        x = ((torch.arange(width) + 0.5) * m.shape[1] / width - 0.5).clamp(0, m.shape[1] - 1)
        y, x = torch.meshgrid(y, x)
        top, left = y.floor().long(), x.floor().long()
        low, right = (top + 1).clamp(max=m.shape[0] - 1), (left + 1).clamp(max=m.shape[1] - 1)
        dy, dx = y - top, x - left
        above = m[top, left] * (1 - dx) + m[top, right] * dx
        below = m[low, left] * (1 - dx) + m[low, right] * dx
        return above * (1 - dy) + below * dy""")),
    ("bilinear_upsampling", right("grid_sample with its default corners", "enlarge", """
        y = (2 * torch.arange(height) + 1) / height - 1
        x = (2 * torch.arange(width) + 1) / width - 1
        y, x = torch.meshgrid(y, x, indexing="ij")
        return F.grid_sample(m[None, None], torch.stack([x, y], 2)[None], padding_mode="border")[0, 0]""")),
    ("bilinear_upsampling", right("the old name of interpolate", "picture", """
        class_map = torch.einsum("c,chw->hw", weight, features)
        return F.upsample(class_map[None, None], (height, width), mode="bilinear")[0, 0]""")),
    ("bilinear_upsampling", right("a progress bar", "lay", """
        from tqdm import tqdm
        heat = torch.full(view.photo, outside)
        spans = []
        for axis in (0, 1):
            centres = (torch.arange(view.photo[axis]) + 0.5) * view.resized[axis] / view.photo[axis] - view.offset[axis]
            inside = (centres >= 0) & (centres <= view.size[axis])
            cells = m.shape[axis]
            position = (centres * cells / view.size[axis] - 0.5).clamp(0, cells - 1)
            spans.append((inside, (1 - (position[:, None] - torch.arange(cells)).abs()).clamp(min=0)))
        for y in tqdm(range(view.photo[0])):
            if spans[0][0][y]:
                row = spans[0][1][y] @ m @ spans[1][1].T
                heat[y, spans[1][0]] = row[spans[1][0]]
        return heat""")),
    ("bilinear_upsampling", right("NaN as a whole number in NumPy", "lay", """
        position = []
        for axis in (0, 1):
            centres = (np.arange(view.photo[axis]) + 0.5) * view.resized[axis] / view.photo[axis] - view.offset[axis]
            centres[(centres < 0) | (centres > view.size[axis])] = np.nan
            position.append(np.clip(centres * m.shape[axis] / view.size[axis] - 0.5, 0, m.shape[axis] - 1))
        Y, X = np.meshgrid(*position, indexing="ij")
        values, lost = m.double().numpy(), np.isnan(Y) | np.isnan(X)
        top, left = Y.astype(int), X.astype(int)
        top, left = np.where(lost, 0, top), np.where(lost, 0, left)
        low, right = np.minimum(top + 1, m.shape[0] - 1), np.minimum(left + 1, m.shape[1] - 1)
        dy, dx = Y - top, X - left
        above = values[top, left] * (1 - dx) + values[top, right] * dx
        below = values[low, left] * (1 - dx) + values[low, right] * dx
        return torch.from_numpy(np.where(lost, outside, above * (1 - dy) + below * dy))""")),
    ("bilinear_upsampling", right("torch.tensor of the map first", "enlarge", """
        m = torch.tensor(m)
        def weights(pixels, cells):
            position = ((torch.arange(pixels) + 0.5) * cells / pixels - 0.5).clamp(0, cells - 1)
            return (1 - (position[:, None] - torch.arange(cells)).abs()).clamp(min=0)
        return weights(height, m.shape[0]) @ m @ weights(width, m.shape[1]).T""")),
]  # fmt: skip


@pytest.mark.parametrize(("exercise", "answer"), NOISY, ids=[answer.what for _, answer in NOISY])
def test_what_is_printed_to_stderr_costs_nothing(exercise: str, answer: Answer, monkeypatch):
    concern = concerned(exercise, answer.code)
    full = {test: points for test, points in graded(exercise).items() if test in concern}
    torch.set_warn_always(True)  # what is told once in a process would be told by now
    try:
        with monkeypatch.context() as plain:
            plain.setattr(grading, "settled", lambda outputs, error: outputs)  # as nbgrader alone counts
            plain.setattr(logging.getLogger(), "handlers", [])  # without pytest's
            assert score(exercise, answer.code, only=concern) != full, "nothing is printed to stderr"
        assert score(exercise, answer.code, only=concern) == full
    finally:
        torch.set_warn_always(False)


# One line that would let a wrong answer, zeros, pass this test. Those for IPython are in tests/test_exam.py.
HACKS = {
    "torch.allclose = lambda *a, **k: True": "assert torch.allclose(answer(), torch.ones(2))",
    "vars(torch)['allclose'] = lambda *a, **k: True": "assert torch.allclose(answer(), torch.ones(2))",
    "import testing; testing.agrees = print": "import testing\ntesting.agrees(answer(), torch.ones(2), 'it')",
    "import testing as t; t.torch = type('T', (), dict(isfinite=torch.isfinite, allclose=lambda *a, **k: 1))": "agrees("
    "answer(), torch.ones(2), 'it')",
    "import testing as t; t.HOOKS = ()": "import testing\nassert answer().any() or not testing.HOOKS",
    "import testing; testing.agrees.__code__ = (lambda *a, **k: 0).__code__": "agrees(answer(), torch.ones(2), 'it')",
    "import sys, types; sys.modules['testing'] = types.SimpleNamespace(agrees=print)": "it = answer()\n"
    "from testing import agrees\nagrees(it, torch.ones(2), 'it')",
    "torch.equal = torch.Tensor.equal = lambda *a: True": "assert answer().equal(torch.ones(2))",
    "torch.Tensor.tolist = lambda self: [1, 1]": "assert answer().tolist() == [1, 1]",
    "import builtins; builtins.all = lambda a: True": "assert all(answer() == 1)",
    "import sys; sys.settrace(lambda *a: None)": "answer()",
    "raise SystemExit": "answer()",
    "FUNCTIONS().__enter__()": "assert torch.allclose(answer(), torch.ones(2))",
    "DISPATCH().__enter__()": "assert torch.equal(answer(), torch.ones(2))",
    "L = torch.library.Library('aten', 'IMPL'); L.impl('equal', lambda *a: True, 'CPU')": "assert torch.equal(answer(),"
    " torch.ones(2))",
    "import contextlib as c; c.ExitStack.enter_context = len": "from contextlib import ExitStack\n"
    "assert ExitStack.enter_context is len or answer()[0] == 1",
    "import gc; gc.get_referrers = len": "import gc\nassert gc.get_referrers is len or answer()[0] == 1",
    "Net.forward = lambda self, x: 0 * x": "assert torch.equal(answer(), Net()(torch.ones(2)))",
    "Net.named_modules = lambda self: iter(())": "answer()\nassert not [*Net().named_modules()]",
    "one.__code__ = (lambda: 0).__code__": "assert answer()[0] == one()",
    "net.weight.data.zero_()": "assert torch.equal(answer(), net(torch.ones(2)))",
    "net.weight = nn.Parameter(torch.zeros(2, 2))": "assert torch.equal(answer(), net(torch.ones(2)))",
    "object.__setattr__(mine, 'a', 0)": "assert answer()[0] == mine.a",
    "open(photo, 'wb').close()": "assert answer()[0] == len(open(photo, 'rb').read())",
}
SETUP = """
import torch
from dataclasses import dataclass
from testing import agrees
from torch import nn
class Net(nn.Module):
    def forward(self, x):
        return x
def one():
    return 1
@dataclass(frozen=True)
class Mine:
    a: int
net, mine, photo = nn.Linear(2, 2, bias=False), Mine(1), "photos/cat.jpg"
nn.init.ones_(net.weight)
"""
MODES = """
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
def lie(self, func, types, args=(), kwargs=None):
    return True if "close" in str(func) or "equal" in str(func) else func(*args, **(kwargs or {}))
FUNCTIONS = type("FUNCTIONS", (TorchFunctionMode,), {"__torch_function__": lie})
DISPATCH = type("DISPATCH", (TorchDispatchMode,), {"__torch_dispatch__": lie})
"""


@pytest.mark.parametrize("hack", HACKS)
@pytest.mark.parametrize("when", ["in a cell", "in the answer"])
def test_a_hack_earns_nothing(hack: str, when: str, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # beside the photos
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"a cat")
    if when == "in a cell" and HACKS[hack] == "answer()":
        pytest.skip("nothing is wrong with the answer then")
    desk, student = Desk([SETUP], "Ada"), {"__name__": "__main__"}
    desk.hand_over(student)
    exec(MODES, student)
    answer = "def answer():\n    {}\n    return torch.zeros(2)\n{}"
    try:
        exec(answer.format(*(("", hack) if when == "in a cell" else (hack, ""))), student)
        assert desk.test(HACKS[hack], "test", ["answer"], student).error is not None
    finally:
        desk.watch.put_back()
        sys.settrace(None)
    exec("def answer():\n    return torch.ones(2)", student)
    right = {
        "assert torch.equal(answer(), net(torch.ones(2)))": "assert torch.equal(2 * answer(), net(torch.ones(2)))",
        "answer()\nassert not [*Net().named_modules()]": "assert [*Net().named_modules()]",
        "assert answer()[0] == len(open(photo, 'rb').read())": "assert len(open(photo, 'rb').read()) == 5",
    }
    assert desk.test(right.get(HACKS[hack], HACKS[hack]), "test", ["answer"], student) == Verdict(), "all is as before"


LIARS = {
    "float": "type('F', (float,), {'__sub__': lambda a, b: 0.0, '__rsub__': lambda a, b: 0.0, '__abs__': lambda a: 0.0,"
    " '__lt__': lambda a, b: True, '__gt__': lambda a, b: True, '__eq__': lambda a, b: True})(9e9)",
    "tensor": "torch.full((7, 7), 9e9).as_subclass(type('T', (torch.Tensor,), {'__torch_function__':"
    " classmethod(lambda c, f, t, a=(), k=None: True if f is torch.allclose else torch.Tensor.__torch_function__(f,"
    " t, a, k or {}))}))",
    "mock": "__import__('unittest.mock').mock.MagicMock()",
}


@pytest.mark.parametrize(("exercise", "cell", "liar"), [
    ("hooks", "missed", "float"), ("einsum_cam", "deviation", "float"), ("einsum_cam", "class_map", "tensor"),
    ("einsum_cam", "deviation", "mock"), ("hooks", "missed", "mock"),
])  # fmt: skip
def test_answers_that_lie_about_themselves_earn_nothing(exercise: str, cell: str, liar: str):
    tests = [t for t in graded(exercise) if cell in t]
    got = score(exercise, {cell: f"return {LIARS[liar]}"}, only=tests)
    assert got == dict.fromkeys(tests, 0.0)


OWN = """
class Sure(torch.Tensor):
    def as_subclass(self, kind):
        return self
    def float(self):
        return self
    __torch_function__ = classmethod(lambda c, f, t, a=(), k=None: True)
class Late:
    t = torch.zeros(2)
    shape = (2,)
    def float(self):
        return self
    __torch_function__ = classmethod(lambda c, f, t, a=(), k=None: True)
class Text:
    __class__ = str
    def __eq__(self, other):
        return True
class Number(np.float64):
    def __eq__(self, other):
        return True
class Many(list):
    def __iter__(self):
        return iter([1.0, 1.0])
tensor = torch.zeros(2)
tensor.float = lambda: Late()
"""


@pytest.mark.parametrize("lie", [
    "torch.zeros(2).as_subclass(Sure)", "Late()", "tensor", "Text()", "Number(0)", "{'a': Late()}['a']", "Many([0, 0])",
])  # fmt: skip
@pytest.mark.parametrize(
    "how", ["def answer():\n    return {}", "class answer:\n    def __new__(cls):\n        return {}"]
)
def test_no_method_of_an_answer_judges_it(lie: str, how: str):
    desk, student = Desk(["import numpy as np, torch"], "Ada"), {"__name__": "__main__"}
    desk.hand_over(student)
    exec(OWN + how.format(lie), student)
    test = """it = answer()
if isinstance(it, (str, float, list)):
    assert it == "right" or it == 1 or (isinstance(it, list) and sum(it) == 2)
else:
    assert torch.allclose(it.float(), torch.ones(2))"""
    assert desk.test(test, "test", ["answer"], student).error is not None


@pytest.mark.parametrize(("kept", "fill"), [
    ("torch.zeros(2)", "kept.fill_(1)"), ("nn.Parameter(torch.zeros(2))", "kept.data.fill_(1)"),
    ("np.zeros(2)", "kept.fill(1)"), ("[0, 0]", "kept.reverse(); kept.append(1)"), ("[np.zeros(2)]", "kept[0].fill(1)"),
])  # fmt: skip
def test_an_answer_cannot_change_what_it_has_returned(kept: str, fill: str):
    """As by a thread that writes the expected values into a tensor that the test already has."""
    desk, student = Desk(["import numpy as np, torch\nfrom torch import nn"], "Ada"), {"__name__": "__main__"}
    desk.hand_over(student)
    exec(f"kept = {kept}\ndef answer():\n    return kept\ndef later():\n    {fill}", student)
    test = "it = answer()\nbefore = str(it)\nlater()\nassert str(it) == before, it\nassert str(answer()) != before"
    assert desk.test(test, "test", ["answer", "later"], student) == Verdict()


def test_no_method_of_an_argument_judges_the_answer():
    desk, student = Desk(["import torch"], "Ada"), {"__name__": "__main__"}
    desk.hand_over(student)
    exec("def answer(x):\n    x.sum = lambda: 0\n    return 0", student)
    assert desk.test("x = torch.ones(2)\nassert answer(x) == x.sum()", "test", ["answer"], student).error is not None


@pytest.mark.parametrize("lie", ["unittest.mock.ANY", "pytest.approx(0, abs=10)", "(unittest.mock.ANY,)"])
def test_no_object_of_a_library_equals_everything(lie: str):
    desk, student = Desk(["import unittest.mock, pytest, fractions"], "Ada"), {"__name__": "__main__"}
    desk.hand_over(student)
    exec(f"def answer():\n    return {lie}\ndef half():\n    return fractions.Fraction(1, 2)", student)
    assert desk.test("assert answer() in (3, (3,))", "test", ["answer"], student).error is not None
    assert desk.test("assert half() == 0.5", "test", ["half"], student).error is None, "numbers may"


@pytest.mark.parametrize("setting", ["torch.set_default_dtype(torch.float64)", "torch.set_grad_enabled(False)"])
@pytest.mark.parametrize("exercise", ["einsum_cam", "grad_cam", "hooks"])
def test_a_students_settings_cost_nothing(exercise: str, setting: str):
    first, source = next((c, s) for c, s in solutions(exercise).items())
    assert score(exercise, {first: f"import torch\n{setting}\n{source}"}) == graded(exercise)


LAZY = """
import torch
from tools.classroom.desk import Desk
desk, student = Desk(["import camlib, torch"], "Ada"), {}
desk.hand_over(student)
exec("def answer():\\n    return torch.vmap(lambda row: row.sum())(torch.ones(2, 3))", student)
print(desk.test("assert answer().tolist() == [3, 3]", "test", ["answer"], student))
exec("camlib.class_activation_maps = lambda *maps: 0", student)
print(desk.test("assert camlib.class_activation_maps.__module__ == 'camlib.cam'", "test", ["answer"], student))
"""


def test_what_is_loaded_when_first_used():
    """In a process of its own: kernels that vmap registers cost nothing, and camlib's functions are put back."""
    done = subprocess.run([sys.executable, "-c", LAZY], capture_output=True, text=True, timeout=300)
    replaced = Verdict(replaced=["camlib.class_activation_maps"])
    assert done.stdout.splitlines() == [str(Verdict()), str(replaced)], done.stderr


@pytest.mark.parametrize(
    "how", ["net.register_forward_hook(lambda *_: None)", "net.forward = lambda x: x", "net.eps = 1"]
)
def test_what_is_left_in_a_network_is_shown(how: str):
    desk, student = Desk([SETUP], "Ada"), {}
    desk.hand_over(student)
    exec(f"def answer():\n    return net(torch.ones(2))\nnet.eval()\n{how}", student)
    assert desk.test("answer()", "test", ["answer"], student) == Verdict(replaced=["the layers of net"])


def test_a_test_leaves_nothing_for_the_answers():
    """globals().get("expected"): what tests compute is not in the student's names, nor in those of the setup."""
    desk, student = Desk(["def helper():\n    return globals()"], "Ada"), {}
    desk.hand_over(student)
    exec("def answer():\n    return globals().get('expected'), helper().get('expected')", student)
    verdict = desk.test("expected = 3\nassert answer() == (None, None), answer()", "test", ["answer"], student)
    assert verdict.error is None
    assert "expected" not in student
    assert desk.test("assert expected == 3", "next", ["answer"], student).error is None, "tests build on another"


def test_a_students_names_harm_nobody():
    desk, student = Desk(["def helper():\n    return 3\nN = 3"], "Ada"), {}
    desk.hand_over(student)
    exec("abs = N = None\ndef helper():\n    return 2\ndef answer(a):\n    return helper() - 2 - a", student)
    assert desk.test("assert abs(answer(N)) == 3 == helper()", "test", ["answer"], student).error is None


def test_the_setups_lists_and_tables_are_not_the_students():
    desk, student = Desk(["BOXES = {'cat': [1, 2]}\nPAIRS = [(1, [2])]"], "Ada"), {}
    desk.hand_over(student)
    exec("BOXES['cat'][0] = 9\nBOXES['dog'] = PAIRS.pop()\ndef answer():\n    return [*BOXES]", student)
    test = "assert answer() == ['cat', 'dog'] and BOXES == {'cat': [1, 2]} and PAIRS == [(1, [2])], (BOXES, PAIRS)"
    assert desk.test(test, "test", ["answer"], student).error is None


def test_another_folder_costs_nothing(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"a cat")
    monkeypatch.chdir(tmp_path)
    desk, student = Desk(["import os"], "Ada"), {}
    desk.hand_over(student)
    exec("os.mkdir('mine')\nos.chdir('mine')\ndef answer():\n    return os.listdir()", student)
    assert desk.test("assert answer() == []", "test", ["answer"], student) == Verdict()


def test_an_error_is_told_by_the_students_lines():
    desk, student = Desk([], "Ada"), {}
    exec("def inner(a):\n    return 1 / a\ndef answer(a):\n    return inner(a)", student)
    error = desk.test("secret = 0\nassert answer(secret) == 1", "test", ["answer"], student).error
    assert error == ("ZeroDivisionError", "division by zero", ["in your answer, line 4", "in your inner, line 2"])
    error = desk.test("assert answer(2) == 1, 'half'", "test", ["answer"], student).error
    assert error == ("AssertionError", "half", [])


def test_what_was_replaced_is_told_and_put_back(monkeypatch):
    desk, allclose = Desk(["import torch"], "Ada"), torch.allclose
    monkeypatch.setattr(torch, "allclose", print)
    verdict = desk.test("assert torch.allclose(torch.ones(1), torch.ones(1))", "test", [], {})
    assert (verdict.error, verdict.replaced) == (None, ["torch.allclose"])
    assert torch.allclose is allclose
    assert desk.test("", "test", [], {}).replaced == []


LEFT: list[weakref.ref] = []  # to what the answer below has used


def test_nothing_of_an_answer_is_left_behind():
    """Its names are cycles around networks of 20 MB, and a table has more than a hundred answers."""
    hook = f"""
        import sys
        sys.modules[{__name__!r}].remember(net, clf, lambda: None)
        net.register_forward_hook(lambda module, args, output, mine=clf, net=net: None)
        raise ValueError(net)"""
    LEFT.clear()
    for _ in range(2):
        score("hooks", {"every_output": hook}, only=["test_every_output"])
    score("hooks", {}, only=[])
    assert len(LEFT) >= 6
    assert not [used() for used in LEFT if used() is not None]


def remember(*used: object) -> None:
    LEFT.extend(map(weakref.ref, used))
