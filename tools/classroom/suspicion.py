"""What a person should look at before marks count: code that an answer does not need, and answers that are alike.

None of it is a proof, and none of it costs points: it says where, of 120 notebooks, a look is worth the minute.
"""

import ast
import builtins
import io
import keyword
import re
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import combinations

from nbformat import NotebookNode

from tools.classroom.restoring import restore
from tools.classroom.submissions import Submission, read_notebook
from tools.errors import ToolError

# What is found, and how it is named in the table. An answer to an exercise needs none of it.
SIGNS = {
    "get_ipython": r"\bget_ipython\b|\bipykernel\b|\bInteractiveShell\b",
    "_transformers": r"_transformers\b|\binput_transformers",
    "globals(": r"(?<![\w.])(?:globals|vars|locals)\s*\(",
    "__main__": r"\b__main__\b|\bsys\.modules\b|\bmeta_path\b|\bpath_hooks\b",
    "sys._getframe": r"\b_getframe\b|\bf_back\b|\bcurrentframe\b|\binspect\.stack\b|\btb_frame\b|"
    r"\b(?:f|gi|cr|ag)_(?:locals|globals|code|frame)\b|__traceback__|\b_current_frames\b|"
    r"\bgetargvalues\b|\bget(?:outer|inner)frames\b|\bwalk_(?:stack|tb)\b|\bcapture_locals\b",
    "settrace": r"\bset_?(?:trace|profile)\b|\baddaudithook\b|\.monitoring\b|\bbdb\b",
    "builtins": r"\bbuiltins\b|\b__builtins__\b",
    "__code__": r"\b__(?:code|globals|closure|defaults|dict|wrapped)__",
    "gc.": r"\bgc\.get_|\bget_(?:objects|referrers|referents)\b",
    "sqlite3": r"\bsqlite3\b|gradebook",
    "psutil": r"\bpsutil\b|/proc\b",
    "subprocess": r"\bsubprocess\b|\bos\.(?:system|popen|exec|spawn|fork|kill|_exit)|\bmultiprocessing\b",
    "ctypes": r"\bctypes\b",
    "network": r"\b(?:socket|urllib|requests|httpx)\b",
    "patch(": r"\bpatch\s*[.(]|\bmonkeypatch\b|\b(?:Magic)?Mock\(|\b(?:unittest|pytest)\b",
    "setattr(": r"(?<![\w.])(?:set|del)attr\s*\((?![^(),]+,\s*([\"'])(?!__)\w+\1\s*[,)])|"
    r"__(?:set|del)attr__|\b(?:attrgetter|methodcaller)\b",
    "torch.library": r"\btorch\.library\b|\bimport library\b|\bTorch(?:Function|Dispatch)Mode\b|\btorch\._C\b",
    "torch.compile": r"\b(?:torch\.|from torch import .*\b)(?:compile|export|jit|fx|onnx)\b|\bmake_fx\b|"
    r"\.(?:decompose|py_kernels)\b",
    "other libraries": r"(?m)^\s*(?:import|from)\s.*\b(?:cv2|onnx\w*|tensorflow|jax|kornia|skimage|openvino|timm|"
    r"captum|pytorch_grad_cam|torchcam|av|imageio)\b",
    "private names": r"(?m)\b(?:torch|numpy|np|scipy|cv2|PIL|Image|camlib)(?:\.\w+)*\.(?:_[a-z]\w*|core)\b|"
    r"^\s*(?:from|import)\b.*(?<!as )\b_[a-z]\w*",
    "__eq__": r"\bdef __(?:eq|ne|lt|le|gt|ge|sub|rsub|abs|array|bool|instancecheck|torch_\w+)__|__class__\s*=[^=]",
    "threads": r"(?m)^\s*(?:import|from)\s.*\b(?:_?threading|_thread|signal|atexit|concurrent|weakref)\b",
    "exec(": r"(?<![\w.])(?:exec|eval|compile|__import__)\s*\(|\b(?:importlib|runpy|codeop)\b|\bgetsource|"
    r"\b(?:timeit|doctest|cProfile|pdb)\.|\bInteractive(?:Interpreter|Console)\b",
    "__file__": r"\.__file__\b|\b__path__\b|\b__spec__\b|\bgetsource",
    "files of ours": r"\b(?:exercise|testing|answers)\.py\b|notebooks/exercises|\bsource/|\brelease/",
    "%pip or %%bash": r"(?m)^\s*%{1,2}(?:pip|conda|mamba|uv|run|system|sx|bash|sh|script)\b",
    "!": r"(?m)^\s*!",
}
LIARS = ("float", "int", "str", "list", "tuple", "Tensor", "ndarray")  # kinds of numbers, with methods of one's own

JOINED = r"""["'][ \t]*(?:\+[ \t]*)?["']"""  # between two parts of one text

# Answers are compared as sequences of tokens without comments and without names that a student chooses.
GRAM = 4  # tokens in a row
ALIKE = 0.85  # of what two answers hold in such rows, the share that both hold
SHORTEST = 60  # tokens: shorter answers are alike anyway


def look_at(submissions: list[Submission], released: dict[str, NotebookNode]) -> dict[Submission, list[str]]:
    """For each submission what to look at, in words for the table; `released` are the exercises as handed out.

    Cells that have lost their metadata are recognised first: ours are not the student's, and answers are compared.
    """
    found: dict[Submission, list[str]] = {s: [] for s in submissions}
    written: dict[str, dict[Submission, dict[str, Counter[tuple[str, ...]]]]] = defaultdict(dict)
    for submission in submissions:
        try:
            handed_in = read_notebook(submission.file)
            notebook, _ = restore(released[submission.exercise], handed_in)
        except ToolError:
            continue
        found[submission] += ["holds cells of the teacher's version"] if _of_teachers(handed_in) else []
        found[submission] += [f"uses {', '.join(names)}"] if (names := signs(notebook)) else []
        written[submission.exercise][submission] = answers(notebook)
    for by_submission in written.values():
        for submission, others in alike(by_submission).items():
            found[submission].append("alike: " + "; ".join(f"{cell} as {who}" for cell, who in others.items()))
    return found


def _of_teachers(notebook: NotebookNode) -> bool:
    return any("### BEGIN HIDDEN TESTS" in cell.source for cell in notebook.cells)


def signs(notebook: NotebookNode) -> list[str]:
    """What the student's own code holds that an answer does not need."""
    own = [c.source for c in notebook.cells if c.cell_type == "code" and not _locked(c)]
    code = "\n".join(map(_without_comments, own))
    code += "\n" + re.sub(JOINED, "", code)  # "_get" + "frame"
    trees = [tree for source in own if (tree := _parsed(source))]
    _write_in_full(trees)
    code += "\n" + "\n".join(map(ast.unparse, trees))
    found = [name for name, pattern in SIGNS.items() if re.search(pattern, code)]
    return found + sorted(_replacing([node for tree in trees for node in ast.walk(tree)]))


def _parsed(source: str) -> ast.Module | None:
    try:
        return ast.parse(re.sub(r"(?m)^\s*[%!].*", "", source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _write_in_full(trees: list[ast.Module]) -> None:
    """Write each imported name in full: `stack` becomes `inspect.stack` after `from inspect import stack`."""
    nodes = [node for tree in trees for node in ast.walk(tree)]
    full: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            full |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            full |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.Name):
            node.id = full.get(node.id, node.id)


def _replacing(nodes: list[ast.AST]) -> set[str]:
    """Attributes of modules and of their classes that cells set, and kinds of numbers that they make up."""
    shared = {"torch", "camlib", "np", "numpy", "nn", "F", "functional", "testing", "exercise", "math"}
    for node in nodes:
        if isinstance(node, ast.Import):
            shared |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            shared.add(f"{node.module}".split(".")[0])
    assigned = [node for node in nodes if isinstance(node, ast.Assign)]
    while more := {ast.unparse(t) for a in assigned if _is_shared(a.value, shared) for t in a.targets} - shared:
        shared |= more  # t = torch.Tensor
    found = set()
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, (ast.Store, ast.Del)):
            found |= {f"{ast.unparse(node)} ="} if _is_shared(node.value, shared) else set()
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("setattr", "delattr") and len(node.args) > 1:
            whose, name = node.args[:2]
            if isinstance(name, ast.Constant) and isinstance(name.value, str) and _is_shared(whose, shared):
                found.add(f"{ast.unparse(whose)}.{name.value} =")
        elif isinstance(node, ast.ClassDef):
            bases = {ast.unparse(base).split(".")[-1] for base in node.bases}
            found |= {f"class {node.name}({base})" for base in bases & set(LIARS)}
    return found


def _is_shared(value: ast.expr, shared: set[str]) -> bool:
    """Whether an expression is a module, a class, or a part of one: torch, torch.Tensor, type(net), net.__class__."""
    while isinstance(value, ast.Attribute) and value.attr != "__class__":
        value = value.value
    kind = isinstance(value, ast.Call) and ast.unparse(value.func) == "type" and len(value.args) == 1
    return (
        kind or isinstance(value, ast.Attribute) or (isinstance(value, ast.Name) and value.id.split(".")[0] in shared)
    )


def answers(notebook: NotebookNode) -> dict[str, "Counter[tuple[str, ...]]"]:
    """The rows of tokens in each answer that is long enough to tell who wrote it."""
    cells = {c.metadata.nbgrader.grade_id: c.source for c in notebook.cells if _is_answer(c)}
    return {cell: grams(found) for cell, source in cells.items() if len(found := tokens(source)) >= SHORTEST}


def tokens(source: str) -> list[str]:
    """The tokens of code, as it would be if every name that its author chose were the same."""
    found: list[str] = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type in (tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING):
                chosen = token.type == tokenize.NAME and found[-1:] != ["."] and not _fixed(token.string)
                found.append("name" if chosen else token.string)
    except (tokenize.TokenError, SyntaxError):
        pass  # as far as it goes
    return found


def grams(found: list[str]) -> "Counter[tuple[str, ...]]":
    return Counter(tuple(found[n : n + GRAM]) for n in range(len(found) - GRAM + 1))


def likeness(one: "Counter[tuple[str, ...]]", other: "Counter[tuple[str, ...]]") -> float:
    """The share of rows that both hold, of those that either holds: 1 for the same text, whatever its names."""
    either = (one | other).total()
    return (one & other).total() / either if either else 0.0


def alike(
    written: dict[Submission, dict[str, "Counter[tuple[str, ...]]"]],
) -> dict[Submission, dict[str, str]]:
    """For each submission the answers that another student has as well, and who."""
    found: dict[Submission, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for one, other in combinations(written, 2):
        for cell in written[one].keys() & written[other].keys() if one.student != other.student else ():
            if likeness(written[one][cell], written[other][cell]) >= ALIKE:
                found[one][cell].append(other.student)
                found[other][cell].append(one.student)
    return {s: {cell: _some(who) for cell, who in sorted(cells.items())} for s, cells in found.items()}


def _some(students: Iterable[str]) -> str:
    first, *more = sorted(students)
    return ", ".join([first, *more[:4]]) + (f" and {len(more) - 4} more" if len(more) > 4 else "")


def _fixed(name: str) -> bool:
    return keyword.iskeyword(name) or hasattr(builtins, name) or name in ("torch", "np", "nn", "F", "camlib")


def _without_comments(source: str) -> str:
    """A cell without comments, as far as it is Python."""
    try:
        comments = [t for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type == tokenize.COMMENT]
    except (tokenize.TokenError, SyntaxError):
        return source
    lines = source.split("\n")
    for token in comments:
        row, column = token.start
        lines[row - 1] = lines[row - 1][:column]
    return "\n".join(lines)


def _locked(cell: NotebookNode) -> bool:
    mark = cell.metadata.get("nbgrader", {})
    return bool(mark.get("locked")) and not mark.get("solution")


def _is_answer(cell: NotebookNode) -> bool:
    return cell.cell_type == "code" and bool(cell.metadata.get("nbgrader", {}).get("solution"))
