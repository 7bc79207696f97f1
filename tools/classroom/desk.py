"""What lies beside a submission in its kernel: the setup's names, a list of what must not change, and the test cells.

A kernel that runs this file takes orders instead of code. What a student wrote runs as in any notebook. The setup runs
once, before the student's first cell. A test cell runs without IPython, whose steps a submission can replace, in a
namespace of its own: the names of the cells that are given, and the answers, and nothing else of the student's. Answers
are handed over as plain numbers, lists and tensors; a list of functions is put back before, and must be whole after.

All of it shares a process with the submission, so that a submission that is written against this file can beat it. It
makes the easy ways fail; tools/classroom/suspicion.py shows the others to a person.
"""

import builtins
import contextlib
import copy
import dataclasses
import dis
import functools
import gc
import io
import linecache
import sys
import traceback
from dataclasses import dataclass, field
from numbers import Number
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, ModuleType, TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _pop_mode

HELPERS = ("answers", "camlib", "exercise", "testing")  # the course's own: also their tables are looked at
LIBRARIES = (
    *("IPython", "PIL", "builtins", "contextlib", "copy", "gc", "ipykernel", "math", "numpy", "operator", "pathlib"),
    *("tempfile", "torch", "unittest"),
)
METHODS = (*HELPERS, "IPython", "contextlib", "ipykernel", "unittest")  # also the methods of their classes
STEPS = ("input_transformers_cleanup", "input_transformers_post", "ast_transformers")  # IPython's way of changing code
PLAIN = (bool, int, float, complex, str, type(None))
MISSING = object()


@dataclass
class Verdict:
    """How a test cell ended: an error and the student's lines that led to it, or none; what was found replaced."""

    error: tuple[str, str, list[str]] | None = None
    replaced: list[str] = field(default_factory=list)


class Desk:
    def __init__(self, given: list[str], name: str):
        """The setup, run before anything of the student's; its functions keep these names whatever happens later."""
        setup: dict[str, Any] = {"__name__": "__main__", "NAME": name}
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            for source in given:
                exec(compile(source, "<setup>", "exec"), setup)
        self.printed = printed.getvalue()
        self.given = {k: v for k, v in setup.items() if k != "__builtins__"}  # a test's names never get into `setup`
        self.watch = Watch(self.given)
        self.settings = _settings()

    def hand_over(self, names: dict[str, Any]) -> None:
        """Give the student the setup's names, when the setup's turn comes in the notebook; lists and dictionaries as
        copies, so that the tests read the originals."""
        given = {k: v for k, v in self.given.items() if k not in ("NAME", "__name__")}
        names.update({k: copy.deepcopy(v) if type(v) in (list, dict) else v for k, v in given.items()})

    def test(self, source: str, cell: str, answers: list[str], student: dict[str, Any]) -> Verdict:
        """Run a test cell; what it sets is there for the tests below it."""
        theirs = _settings(self.settings)  # a student may work in float64, or without gradients
        verdict = Verdict(replaced=self.watch.put_back() + self.watch.touched())
        sys.settrace(None)
        names = self.given | {name: _honest(student[name]) for name in answers if name in student}
        before = names | {"__builtins__": vars(builtins)}
        code = compile(source, f"<{cell}>", "exec")
        own = {step.argval for step in dis.get_instructions(code) if step.opname == "STORE_NAME"}
        try:
            exec(code, names)
        except BaseException as error:  # also SystemExit, and the interrupt at the time limit
            verdict.error = type(error).__name__, _message(error), _students_lines(error.__traceback__, student)
        traced = ["sys.settrace"] * (sys.gettrace() is not None)
        sys.settrace(None)
        same = own | {"__warningregistry__"}  # set by the test, and by Python
        others = [f"the test's {k}" for k, v in names.items() if k not in same and before.get(k, MISSING) is not v]
        if found := self.watch.put_back() + traced + others:
            verdict.replaced += [name for name in found if name not in verdict.replaced]
            says = f"the answer replaces {', '.join(found)} and does not put it back"
            verdict.error = verdict.error or ("AssertionError", says, [])
        self.given |= {k: names[k] for k in own & names.keys()}
        _settings(theirs)
        return verdict


class Watch:
    """What tests and answers share, and a way to put it back: the functions and classes of the libraries and of the
    setup, the weights of the setup's networks, and the photos."""

    def __init__(self, given: dict[str, Any]) -> None:
        for module in [sys.modules[name] for name in HELPERS if name in sys.modules]:
            for key in getattr(module, "__all__", ()):
                getattr(module, key)  # camlib loads many of them on first use
        modules = {
            n: m
            for n, m in sys.modules.items()
            if n.split(".")[0] in (*HELPERS, *LIBRARIES) and isinstance(m, ModuleType)
        }
        self.modules = modules
        owners: dict[str, Any] = {**modules, "torch.Tensor": Tensor, "torch.nn.Module": nn.Module}
        for name, module in modules.items():
            if name.split(".")[0] in METHODS or name.startswith("torch.nn.modules."):
                found = {f"{name}.{k}": v for k, v in vars(module).items() if isinstance(v, type)}
                owners |= {k: v for k, v in found.items() if v.__module__ == name}
        owners |= {k: v for k, v in given.items() if isinstance(v, type) and v.__module__ == "__main__"}
        self.kept = [(name, owner, _functions(vars(owner))) for name, owner in owners.items()]
        self.kept += [(n, m, _constants(vars(m))) for n, m in modules.items() if n.split(".")[0] in HELPERS]
        self.own = {id(owner): set(vars(owner)) for owner in owners.values() if isinstance(owner, type)}
        every = [f for _, _, content in self.kept for f in content.values()] + list(given.values())
        functions = {id(f): f for f in every if isinstance(f, FunctionType)}
        self.inner = [(f, f.__code__, f.__defaults__, f.__kwdefaults__) for f in functions.values()]
        self.tables = [
            (f"{name}.{key}", table, dict(table))
            for name, module in modules.items()
            if name.split(".")[0] in HELPERS
            for key, table in vars(module).items()
            if type(table) is dict and not key.startswith("__")
        ]
        self.layers: list[tuple[str, nn.Module, dict[str, Any]]] = []
        for name, value in given.items():
            net = getattr(value, "module", value)
            for layer in net.modules() if isinstance(net, nn.Module) else ():
                parts = [vars(layer)[what] for what in ("_modules", "_parameters", "_buffers")]
                self.tables += [(f"the parts of {name}", table, dict(table)) for table in parts]
                self.layers.append((name, layer, _inside(layer)))
        self.frozen = [(k, v, dict(vars(v))) for k, v in given.items() if _is_frozen(v)]
        self.weights = [(k, t, t.detach().clone()) for k, v in given.items() for t in _weights(v)]
        self.photos = {p: p.read_bytes() for p in Path("photos").resolve().glob("*") if p.is_file()}
        self.modes = _modes()
        self.kernels = _kernels()
        shell = _shell()
        self.steps = [(f"IPython's {step}", getattr(shell, step), [*getattr(shell, step)]) for step in STEPS if shell]
        self.shell = set(vars(shell)) if shell else set()

    def touched(self) -> list[str]:
        """The setup's networks with a layer whose hooks, settings or methods have changed. The changes stay and cost
        no points, because a hook may be harmless; a person should look at them."""
        return sorted({f"the layers of {name}" for name, layer, inside in self.layers if _inside(layer) != inside})

    def put_back(self) -> list[str]:
        """What was replaced since the last time, now put back."""
        found = _end_modes(self.modes)
        if new := _kernels() - self.kernels:
            for library in [o for o in gc.get_objects() if type(o) is torch.library.Library and new & o._op_impls]:
                library._destroy()  # forgets its kernels
            found += ["PyTorch's " + kernel.split("/")[1] for kernel in new]
        for name, module in self.modules.items():
            if sys.modules.get(name) is not module:
                sys.modules[name] = module
                found.append(name)
        for name, owner, kept in self.kept:
            there = vars(owner)
            for key, value in kept.items():
                if there.get(key, MISSING) is not value and not _by_a_library(there.get(key)):
                    setattr(owner, key, value)
                    found.append(f"{name}.{key}")
            for key in vars(owner).keys() - self.own[id(owner)] if id(owner) in self.own else ():
                covered = any(callable(vars(base).get(key)) for base in owner.__mro__[1:])
                if covered and not _by_a_library(vars(owner)[key]):
                    delattr(owner, key)  # a method of a base, covered in this class
                    found.append(f"{name}.{key}")
        for function, code, defaults, named in self.inner:
            if (function.__code__, function.__defaults__, function.__kwdefaults__) != (code, defaults, named):
                function.__code__, function.__defaults__, function.__kwdefaults__ = code, defaults, named
                found.append(f"the inside of {function.__module__}.{function.__qualname__}")
        for name, table, content in self.tables:
            if any(table.get(key, MISSING) is not value for key, value in content.items()):
                table.update(content)
                found.append(name)
        for name, thing, fields in self.frozen:
            if any(vars(thing).get(key, MISSING) is not value for key, value in fields.items()):
                vars(thing).update(fields)
                found.append(name)
        for name, tensor, values in self.weights:
            as_it_was = tensor.dtype == values.dtype and tensor.shape == values.shape
            if not as_it_was or not torch.equal(tensor.detach(), values):
                tensor.data = values.clone()
                found.append(f"the weights of {name}")
        for path, picture in self.photos.items():
            if not path.is_file() or path.read_bytes() != picture:
                path.parent.mkdir(exist_ok=True)
                path.unlink(missing_ok=True)
                path.write_bytes(picture)
                found.append(f"photos/{path.name}")
        for name, steps, kept_steps in self.steps:
            if steps != kept_steps:
                steps[:] = kept_steps
                found.append(name)
        shell = _shell()
        for key in set(vars(shell)) - self.shell if shell else ():
            if isinstance(getattr(type(shell), key, None), FunctionType):  # a method, covered in this one shell
                delattr(shell, key)
                found.append(f"IPython's {key}")
        return sorted(set(found))


def _functions(names: Any) -> dict[str, Any]:
    """What has code in it, and stays the same for good."""
    kinds = (FunctionType, BuiltinFunctionType, type, staticmethod, classmethod, property, type(Tensor.add))
    return {k: v for k, v in names.items() if issubclass(type(v), kinds) and k not in ("__class__", "__builtins__")}


def _constants(names: Any) -> dict[str, Any]:
    """What never changes in a module of the course: its constants, and the modules that it imports."""
    return {k: v for k, v in names.items() if k.isupper() or isinstance(v, ModuleType)}


def _inside(layer: nn.Module) -> dict[str, Any]:
    """The identities of a layer's attributes (not of its mode) and of its hooks, and its class."""
    own = {k: v for k, v in vars(layer).items() if k not in ("training", "_is_full_backward_hook")}
    return {k: [*map(id, v.values())] if k.endswith("_hooks") else id(v) for k, v in own.items()} | {"": type(layer)}


def _is_frozen(value: Any) -> bool:
    options = getattr(value, "__dataclass_params__", None)
    return options is not None and options.frozen and not isinstance(value, type)


def _weights(value: Any) -> list[Tensor]:
    """The tensors of a network, of a tensor, and of what holds such."""
    if isinstance(value, nn.Module):
        return [*value.parameters(), *value.buffers()]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [tensor for part in vars(value).values() for tensor in _weights(part)]
    return [value] if isinstance(value, Tensor) else []


def _settings(new: tuple[bool, torch.dtype] | None = None) -> tuple[bool, torch.dtype]:
    """Whether PyTorch records gradients, and its type of numbers; `new` is set."""
    before = torch.is_grad_enabled(), torch.get_default_dtype()
    if new is not None and new != before:
        torch.set_grad_enabled(new[0])
        torch.set_default_dtype(new[1])
    return before


def _modes() -> tuple[int, int]:
    """How many modes of PyTorch, which see each operation first, are entered."""
    return torch._C._len_torch_function_stack(), torch._C._len_torch_dispatch_stack()


def _kernels() -> set[str]:
    """The operations on the CPU that Python code has put over PyTorch's own, as "aten/equal/CPU"."""
    others = ("Meta", "CUDA", "XPU", "MPS", "FuncTorchBatched")  # PyTorch does it, too, for these; the last for vmap
    return {key for key in torch.library._impls if key.startswith("aten/") and not key.endswith(others)}


def _end_modes(before: tuple[int, int]) -> list[str]:
    """The modes that a submission has entered for good, now left; PyTorch's own are, such as for its default device."""
    found = []
    for number, leave in enumerate((torch._C._pop_torch_function_stack, _pop_mode)):
        while _modes()[number] > before[number]:
            mode = leave()
            if not _of_a_library(type(mode)):
                found.append(f"PyTorch's operations, by {type(mode).__name__}")
    return found


def _by_a_library(value: Any) -> bool:
    """Whether code that was put over other code comes from an installed package, such as PyTorch's over its own."""
    code = getattr(getattr(value, "__func__", value), "__code__", None)
    return code is not None and "site-packages" in code.co_filename


def _shell() -> Any:
    interactive = sys.modules.get("IPython")
    return interactive.get_ipython() if interactive else None


def _honest(answer: Any) -> Any:
    """The answer to a task; where it is a function, one whose results are plain."""
    if not callable(answer):
        return _plain(answer)

    @functools.wraps(answer, updated=())
    def function(*args: Any, **kwargs: Any) -> Any:
        result = answer(*args, **kwargs)
        for tensor in _tensors([*args, *kwargs.values()]):
            vars(tensor).clear()  # methods that the answer has set on its arguments
        return _plain(result)

    return function


def _tensors(value: Any) -> list[Tensor]:
    """The tensors among arguments, and in lists of them."""
    if isinstance(value, (list, tuple)):
        return [tensor for part in value for tensor in _tensors(part)]
    return [value] if isinstance(value, Tensor) else []


def _plain(value: Any) -> Any:
    """Numbers, lists and tensors without a student's methods on them, which could lie; anything else as it is.

    Lists, arrays and tensors are copied, so that the answer cannot change them later.
    """
    kind: Any = type(value)
    if kind in (list, tuple):
        return kind(_plain(part) for part in value)
    if kind is dict:
        return {_plain(key): _plain(part) for key, part in value.items()}
    if kind in PLAIN:
        return value
    for base, method in OWN_WAY.items():  # by the methods of the kind itself, not by the student's
        if issubclass(kind, base):
            plain = method(value)
            return _plain(plain) if type(plain) in (list, tuple, dict) else plain
    if callable(value) and (kind is FunctionType or not _of_a_library(kind)):
        return _honest(value)  # where a function is asked for: its results are looked at in turn
    ours = issubclass(kind, Number) or kind.__module__.split(".")[0] in HELPERS
    if not _of_a_library(kind):
        what = "a class of your own"
    elif isinstance(kind.__eq__, FunctionType) and not ours:  # such as that of unittest.mock.ANY
        what = "a class with its own rule for =="
    else:
        return value
    raise AssertionError(f"a {kind.__name__}, {what}, where numbers, texts, lists or tensors are asked for")


def _tensor(value: Tensor) -> Tensor:
    with torch._C.DisableTorchFunctionSubclass():
        return Tensor.as_subclass(value, Tensor).clone()


OWN_WAY: dict[type, Any] = {
    int: int.__pos__,
    float: float.__pos__,
    str: str.__str__,
    np.generic: np.generic.item,
    np.ndarray: lambda value: np.ndarray.view(value, np.ndarray).copy(),
    Tensor: _tensor,
    list: lambda value: [*list.__iter__(value)],
    tuple: lambda value: (*tuple.__iter__(value),),
    dict: lambda value: dict(dict.items(value)),
}


def _of_a_library(kind: type) -> bool:
    """Whether a class is written in C, or found where it says that it is."""
    if not kind.__flags__ & 1 << 9:  # Py_TPFLAGS_HEAPTYPE, which all classes written in Python have
        return True
    place: Any = sys.modules.get(kind.__module__) if kind.__module__ != "__main__" else None
    for name in kind.__qualname__.split("."):
        place = getattr(place, name, None)
    return place is kind


def _message(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "stopped at the time limit"
    try:
        return str(error)[:2000]
    except Exception:  # a student's exception may be strange, too
        return ""


def _students_lines(trace: TracebackType | None, student: dict[str, Any]) -> list[str]:
    """The lines of the student's own code that led to an error, innermost last; no line of a test."""
    lines = []
    for frame, number in traceback.walk_tb(trace):
        if frame.f_globals is student:
            text = linecache.getline(frame.f_code.co_filename, number).strip()
            lines.append(f"in your {frame.f_code.co_name}, line {number}" + (f": {text}" if text else ""))
    return lines[:3] + ["…"] * (len(lines) > 6) + lines[3:][-3:]


def main() -> None:
    """A kernel that takes orders: what tools/classroom/exam.py sends."""
    import json

    from ipykernel.ipkernel import IPythonKernel
    from ipykernel.kernelapp import IPKernelApp

    class Kernel(IPythonKernel):
        desk: Desk | None = None

        async def do_execute(self, code: str, silent: bool, *args: Any, **kwargs: Any) -> Any:
            order = json.loads(code)
            if "student" in order:
                return await super().do_execute(order["student"], silent, *args, **kwargs)
            assert self.shell is not None
            verdict, names = Verdict(), self.shell.user_ns
            if "begin" in order:
                sys.path.insert(0, "")  # what is handed out beside the notebook
                try:
                    self.desk = Desk(order["begin"], order["name"])
                except Exception as error:
                    verdict.error = type(error).__name__, _message(error), traceback.format_tb(error.__traceback__)
            elif self.desk and "given" in order:
                self.desk.hand_over(names)
                print(self.desk.printed, end="")
            elif self.desk:
                try:
                    verdict = self.desk.test(order["test"], order["id"], order["answers"], names)
                except Exception as error:  # such as no folder to put photos back into; it needs a reply
                    verdict.error = type(error).__name__, _message(error), []
            reply = {"execution_count": self.shell.execution_count, "payload": [], "user_expressions": {}}
            reply["exam"] = {"error": verdict.error, "replaced": verdict.replaced, "word": order.get("word")}
            return {"status": "ok", **reply}

    IPKernelApp.launch_instance(kernel_class=Kernel)


if __name__ == "__main__":
    sys.path.pop(0)  # this file's folder: submissions import nothing from there
    main()
