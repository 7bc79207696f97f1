"""What breaks on Windows or macOS and would pass unnoticed on Linux, emulated here."""

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
import types
import unicodedata
from pathlib import Path

import pytest

import run
from camlib.files import write_whole
from camlib.journal import RESERVED, Journal
from tools import notebooks

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("camlib", "tools", "evidence", "notebooks", "run.py", "conftest.py")
SHIPPED = [
    p for name in PACKAGES for p in ([ROOT / name] if name.endswith(".py") else sorted((ROOT / name).rglob("*.py")))
]
NO_TEXT = ("Image", "av", "os", "tarfile", "webbrowser")  # whose `open` reads bytes, or nothing
LONGEST_PATH = 100  # characters; Windows allows 260 for all of a path, and people clone into deep folders


def in_git(*options: str) -> list[str]:
    """What `git ls-files` says, a line for each file."""
    try:
        done = subprocess.run(["git", "ls-files", "-z", *options], cwd=ROOT, capture_output=True, encoding="utf-8")
    except FileNotFoundError:
        pytest.skip("no git here")
    if done.returncode:
        pytest.skip("not a checkout of git")
    return done.stdout.split("\0")[:-1]


# --- text ------------------------------------------------------------------------------------------------------------


def without_encoding(source: str) -> list[str]:
    """The calls that read or write text in whatever encoding the system has, which on Windows is seldom UTF-8."""
    found = []
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        keywords = {keyword.arg: keyword.value for keyword in call.keywords}
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        owner = getattr(getattr(call.func, "value", None), "id", "")
        if name in ("read_text", "write_text"):
            text = True
        elif name in ("open", "fdopen") and owner not in NO_TEXT:
            place = 0 if isinstance(call.func, ast.Attribute) and name == "open" else 1
            mode = keywords.get("mode") or (call.args[place] if len(call.args) > place else ast.Constant("r"))
            text = not (isinstance(mode, ast.Constant) and "b" in str(mode.value))
        else:
            text = any(ast.unparse(keywords[k]) == "True" for k in ("text", "universal_newlines") if k in keywords)
        if text and "encoding" not in keywords:
            found.append(ast.unparse(call))
    return found


def test_how_a_missing_encoding_is_noticed():
    wrong = 'open("a")\nopen("a", "w")\npath.open()\npath.read_text()\npath.write_text("é")\nrun(x, text=True)'
    assert without_encoding(wrong) == [line.replace('"', "'") for line in wrong.splitlines()]
    assert without_encoding('open("a", "rb")\npath.open("wb")\npath.read_text(encoding="utf-8")\nImage.open(x)') == []


def test_all_text_is_read_and_written_as_utf8():
    found = {str(path.relative_to(ROOT)): without_encoding(path.read_text(encoding="utf-8")) for path in SHIPPED}
    assert len(found) > 100
    assert {name: calls for name, calls in found.items() if calls} == {}


def test_what_notebooks_read_is_the_same_in_every_encoding():
    """Their cells leave the encoding out, as people do. So the JSON files are ASCII."""
    files = [name for name in in_git() if name.endswith(".json")]
    assert len(files) > 20
    assert [name for name in files if not (ROOT / name).read_bytes().isascii()] == []


def test_a_command_gets_utf8_and_its_exit_code_comes_back(monkeypatch, capfd):
    """As on Windows, where the command does not take the place of run.py."""
    monkeypatch.delenv("PYTHONUTF8", raising=False)
    module = load_run(monkeypatch, types.SimpleNamespace())
    assert module.start(["-c", "import sys; print('▲', sys.flags.utf8_mode); sys.exit(7)"]) == 7
    assert capfd.readouterr().out.split() == ["▲", "1"]


def test_ctrl_c_is_the_command_s_own(monkeypatch):
    ends = iter([KeyboardInterrupt, KeyboardInterrupt, 3])

    def wait():
        if isinstance(end := next(ends), int):
            return end
        raise end

    module = load_run(monkeypatch, types.SimpleNamespace())
    monkeypatch.setattr(module.subprocess, "Popen", lambda *_, **__: types.SimpleNamespace(wait=wait))
    assert module.start(["-c", "pass"]) == 3


def load_run(monkeypatch, windows):
    """run.py as a module of its own, for which this is Windows."""
    spec = importlib.util.spec_from_file_location("run_on_windows", ROOT / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    windows.__dict__.update(vars(os))
    windows.name = "nt"
    monkeypatch.setattr(module, "os", windows)
    monkeypatch.setattr(module, "PYTHON", Path(sys.executable))
    return module


def test_what_run_py_says_can_be_printed_on_windows():
    """Before it starts a command, its output has the system's encoding."""
    strings = [n.value for n in ast.walk(ast.parse((ROOT / "run.py").read_text(encoding="utf-8"))) if is_text(n)]
    assert len(strings) > 100
    "\n".join([*strings, run.usage()]).encode("cp1252")


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


# --- names -----------------------------------------------------------------------------------------------------------


def test_the_names_of_all_files_are_possible_everywhere():
    names = in_git()
    assert len(names) > 300
    folded = [unicodedata.normalize("NFC", name).casefold() for name in names]
    assert len(set(folded)) == len(names), "two names are the same file where case does not count"
    for name in names:
        assert len(name) <= LONGEST_PATH
        assert not re.search(r'[<>:"|?*\\\x00-\x1f]', name), f"{name}: Windows has no such names"
        for part in name.split("/"):
            assert part == part.rstrip(". "), f"{name}: Windows drops what it ends with"
            assert part.split(".")[0].casefold() not in RESERVED, f"{name}: a device of Windows"


def test_modules_differ_by_more_than_case_from_folders():
    """`Tools/` and `tools/` are one folder on macOS."""
    folders = {str(Path(name).parent) for name in in_git()}
    assert len({folder.casefold() for folder in folders}) == len(folders)


def test_no_file_is_a_link():
    """Git for Windows checks a link out as a text file that holds its target."""
    assert [line for line in in_git("--stage") if not line.startswith("100")] == []


def test_lines_end_alike_on_every_system():
    """Git for Windows would turn every line end into two characters, and tests and pages compare bytes."""
    for line in in_git("--eol"):
        (in_index, _, attributes), name = line.split("\t")[0].split(maxsplit=2), line.split("\t")[1]
        assert in_index in ("i/lf", "i/none", "i/-text"), name
        assert attributes.strip() in ("attr/text=auto eol=lf", "attr/-text"), name


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_open_files_are_replaced(monkeypatch):
    """os.replace and os.unlink as on Windows: they refuse files that a program has open."""
    if sys.platform == "win32":
        return
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs Linux's list of open files")

    def refusing(function):
        def called(*paths, **options):
            opened = set()
            for link in Path("/proc/self/fd").iterdir():
                try:
                    opened.add(os.readlink(link))
                except OSError:  # closed since
                    continue
            for path in paths:
                if os.path.realpath(path) in opened:
                    raise PermissionError(13, "The process cannot access the file", os.fspath(path))
            return function(*paths, **options)

        return called

    for name in ("replace", "rename", "unlink", "remove"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))


def test_an_open_file_is_not_replaced_here(tmp_path, no_open_files_are_replaced):
    write_whole(tmp_path / "a", lambda file: file.write(b"1"))
    with open(tmp_path / "a", "rb"), pytest.raises(PermissionError):
        os.replace(write_whole(tmp_path / "b", lambda file: file.write(b"2")), tmp_path / "a")


def test_a_damaged_journal_is_set_aside(tmp_path, no_open_files_are_replaced):
    line = {"name": "cat", "photo": "cat.jpg", "recipe": "", "kinds": ["picture"]}
    names = tmp_path / "camlib.names.jsonl"
    names.write_bytes(json.dumps(line).encode() + b"\n" + b"damaged\n")
    (note,) = Journal(tmp_path, {}).notes
    assert "damaged lines" in note
    assert [json.loads(text) for text in names.read_text(encoding="utf-8").splitlines()] == [line]
    assert (tmp_path / "camlib.names.damaged-1.jsonl").read_bytes().endswith(b"damaged\n")


def test_a_notebook_is_replaced(tmp_path, no_open_files_are_replaced):
    import nbformat

    notebook = nbformat.v4.new_notebook()
    for text in ("1 + 1", "1 + 2"):
        notebook.cells = [nbformat.v4.new_code_cell(text)]
        assert notebooks.write(tmp_path / "a.ipynb", notebook)


def test_a_folder_on_another_drive(monkeypatch, tmp_path):
    """There is no relative path from drive C: to drive D:."""

    def no_way(path, start=None):
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr(os.path, "relpath", no_way)
    assert notebooks.from_here(tmp_path) == tmp_path
    monkeypatch.setattr(run, "no_news_question", lambda: None)
    monkeypatch.setattr(run, "no_teachers_tools", lambda: None)
    with pytest.raises(run.Stop, match="is not in this folder"):
        run.lab([str(tmp_path / "a.ipynb")])
