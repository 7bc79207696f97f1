"""docs/troubleshooting.md has an entry for every message that camlib raises or warns with, and for no other."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
ENTRIES = re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.S | re.M)
PATTERNS = [line for block in re.findall(r"```text\n(.*?)```", PAGE, re.S) for line in block.splitlines()]
GAP = "…"


@dataclass
class Module:
    """What is looked up in a module: its functions, and its constants that hold text."""

    tree: ast.Module
    functions: dict[str, ast.FunctionDef]
    constants: dict[str, str]


def read(path: Path) -> Module:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return Module(tree, {f.name: f for f in ast.walk(tree) if isinstance(f, ast.FunctionDef)}, constants)


def template(node: ast.expr | None, constants: dict[str, str]) -> str:
    """A message with a gap for what is computed."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Name(id=name):
            return constants.get(name, GAP)
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="format")):
            return re.sub(r"\{\w*\}", GAP, constants.get(name, GAP))
        case ast.JoinedStr(values=values):
            return "".join(template(value, constants) for value in values)
        case ast.FormattedValue(value=value):
            return template(value, constants)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return template(left, constants) + template(right, constants)
        case _:
            return GAP


def texts(node: ast.expr | None, module: Module, others: dict[str, Module]) -> list[str]:
    """The message or messages that an expression stands for: also those of a function that returns them."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        name = node.func.id
        for home in (module, *others.values()):
            if name in home.functions:
                returns = [one.value for one in ast.walk(home.functions[name]) if isinstance(one, ast.Return)]
                return [text for value in returns for text in texts(value, home, others)]
    if isinstance(node, ast.IfExp):
        return texts(node.body, module, others) + texts(node.orelse, module, others)
    known = {name: text for home in others.values() for name, text in home.constants.items()}
    return [template(node, known | module.constants)]


def messages(files: list[Path]) -> dict[str, str]:
    """Every message of an error or warning of camlib -> the file and line that make it."""
    modules = {path.name: read(path) for path in files}
    classes = [c for m in modules.values() for c in ast.walk(m.tree) if isinstance(c, ast.ClassDef)]
    errors = {"CamError"}
    for _ in range(3):
        errors |= {c.name for c in classes if errors & {base.id for base in c.bases if isinstance(base, ast.Name)}}
    found = {}
    for name, module in modules.items():
        for node in ast.walk(module.tree):
            match node:
                case ast.Call(func=ast.Name(id=kind), args=[first, *_]) if kind in errors:
                    pass
                case ast.Call(func=ast.Attribute(value=ast.Name(id="warnings"), attr="warn"), args=[first, *_]):
                    pass
                case _:
                    continue
            found |= dict.fromkeys(texts(first, module, modules), f"{name}:{node.lineno}")
    # A message of a word or less only passes another one on.
    return {text: place for text, place in found.items() if len(re.findall(r"[^\W_]{2,}", text)) > 1}


MESSAGES = messages(sorted((ROOT / "camlib").glob("*.py")))


def covers(pattern: str, message: str) -> bool:
    """Whether the words of the pattern stand in the message, in this order; the gaps may hold anything."""
    words = ".*".join(re.escape(part.strip()) for part in pattern.split(GAP) if part.strip())
    return re.search(words, message, re.S) is not None


def test_messages_are_read_from_the_source(tmp_path: Path) -> None:
    code = """
def why(x):
    if x:
        return f"{x} is too {large()}"
    return "a " + x + " is missing"

raise CamError(why(1))
NONE = "no {what} at all"
raise OSError("not one of ours")
raise HeadError(NONE.format(what="map"))
class HeadError(CamError): pass
warnings.warn(f"{x}: look out", CamWarning)
raise CamError(str(e)) from e
"""
    (tmp_path / "a.py").write_text(code)
    assert set(messages([tmp_path / "a.py"])) == {"… is too …", "a … is missing", "…: look out", "no … at all"}
    assert covers("a … missing", "a … is missing") and not covers("missing … a", "a … is missing")


def test_every_message_has_an_entry() -> None:
    assert len(MESSAGES) > 200
    missing = [f"{place}: {text}" for text, place in MESSAGES.items() if not any(covers(p, text) for p in PATTERNS)]
    assert not missing, "\n".join(missing)


def test_every_entry_is_about_a_message() -> None:
    assert not [pattern for pattern in PATTERNS if not any(covers(pattern, text) for text in MESSAGES)]


def test_an_entry_says_what_it_means_and_what_to_do() -> None:
    assert len(ENTRIES) > 20
    for title, text in ENTRIES:
        assert text.count("```") == 2, title
        assert len(text.rpartition("```")[2].split()) > 14, title
