"""The API reference of the site: a page for each public name of camlib, from its docstring.

pdoc reads the package: members, signatures and the sections of docstrings. Its pages are Markdown here, which
`tools/posts.py` publishes like the text of a chapter. So they look alike and pass the same checks.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

import camlib
from camlib.methods import METHODS

INDEX = "api"
MODULES = ("evaluate", "sanity", "shapes", "transformer", "plot", "methods")  # each is a page with all of its names
ERRORS = "errors"  # a page with all of them, too
GROUPS = {
    "Explain a photo": ["load_model", "explain", "explain_all", "Explanation", "Prediction", "Classifier"],
    "Methods": [
        "grad_cam",
        "grad_cam_plus_plus",
        "hires_cam",
        "layer_cam",
        "score_cam",
        "frozen_cam",
        "gradient_map",
        "METHODS",
        "Method",
        "register",
    ],
    "The exact map by hand": [
        "find_head",
        "Head",
        "capture",
        "find_feature_layer",
        "class_activation_maps",
        "contrast",
        "residual",
    ],
    "Photos, and maps on them": [
        "read_image",
        "from_pil",
        "frames",
        "View",
        "place",
        "upsample",
        "receptive_field_offset",
        "overlay",
    ],
    "Show and share": ["show", "Explorer", "to_html"],
}
HEADING = re.compile(r"^#{6} (.+)$", re.M)
ITEM = re.compile(r"^ - \*\*(.+?)\*\*(?: \((.*)\):$|:?)(?:\n {3,}|$| )?", re.M)
EXAMPLE = re.compile(r"^>>> (?:.|\n(?!\n|\Z|#))*", re.M)
QUALIFIED = re.compile(r"\b(?:[a-z_]\w*\.)+(?=[A-Za-z_])")
ADDRESS = re.compile(r" at 0x[0-9a-f]+")


@dataclass(frozen=True)
class Page:
    """A page of the reference: its name, what it says in Markdown, and the file that holds its docstrings."""

    name: str
    title: str
    summary: str
    text: str
    path: Path


def own_names(module: ModuleType) -> list[str]:
    """The public names of a module: those of `__all__`, or its own functions and classes."""
    names = getattr(module, "__all__", None)
    if names is not None:
        return list(names)
    own = (n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__)
    return [name for name in own if not name.startswith("_") and callable(getattr(module, name))]


def public() -> dict[str, object]:
    """Every public name, as you would write it, with what it stands for."""
    found = {f"camlib.{name}": getattr(camlib, name) for name in camlib.__all__}
    for name in MODULES:
        module = importlib.import_module(f"camlib.{name}")
        found |= {f"camlib.{name}.{member}": getattr(module, member) for member in own_names(module)}
    return {name: value for name, value in found.items() if not inspect.ismodule(value)}


def exceptions() -> list[str]:
    """The names of the errors and warnings."""
    values = ((name, getattr(camlib, name)) for name in camlib.__all__)
    return [name for name, value in values if inspect.isclass(value) and issubclass(value, BaseException)]


# Where a name is


@cache
def addresses() -> dict[str, str]:
    """Every public name, module and member of a class -> the address of its page, with an anchor where it needs one."""
    found = {"camlib.__version__": f"{INDEX}.html"}
    for module in MODULES:
        names = own_names(importlib.import_module(f"camlib.{module}"))
        found |= {f"camlib.{module}": f"camlib.{module}.html"} | _anchors(f"camlib.{module}", names)
    found |= {f"camlib.{ERRORS}": f"camlib.{ERRORS}.html"} | _anchors(f"camlib.{ERRORS}", exceptions())
    found |= {f"camlib.{name}": found[f"camlib.{ERRORS}.{name}"] for name in exceptions()}
    found["camlib.METHODS"] = found["camlib.methods.METHODS"]
    for name in (f"camlib.{own}" for names in GROUPS.values() for own in names if own != "METHODS"):
        found[name] = f"{name}.html"
        value = public()[name]
        if inspect.isclass(value):
            found |= _anchors(name, own_members(value))
    return found


def _anchors(page: str, names: list[str]) -> dict[str, str]:
    """PAGE.NAME -> address, for names that are headings of a page, in their order; see `tools.pages`."""
    found, seen = {}, Counter[str]()
    for name in names:
        anchor = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        seen[anchor] += 1
        found[f"{page}.{name}"] = f"{page}.html#{anchor}" + (f"-{seen[anchor]}" if seen[anchor] > 1 else "")
    return found


def own_members(value: type) -> list[str]:
    """Public methods and properties, in the order of the source."""
    fields = getattr(value, "__dataclass_fields__", {})
    return [name for name in vars(value) if not name.startswith("_") and name not in fields]


# The pages


def pages() -> list[Page]:
    """The index, a page for each name, and a page for each module."""
    found = [
        _page(f"camlib.{name}", importlib.import_module(getattr(camlib, name).__module__))
        for names in GROUPS.values()
        for name in names
        if name != "METHODS"
    ]
    found += [_module_page(name, own_names(importlib.import_module(f"camlib.{name}"))) for name in MODULES]
    found.append(_module_page(ERRORS, exceptions()))
    return [_index({page.title: page.summary for page in found}), *found]


def _index(summaries: dict[str, str]) -> Page:
    parts = [
        f"Everything that `import camlib` gives you in version {camlib.__version__}. Each name has a page with its "
        "parameters, shapes and units, its errors, its source in the literature, and an example that runs."
    ]
    summaries["camlib.METHODS"] = "Every method, by name: what `explain` and the command line offer."
    modules = [*MODULES, ERRORS]
    for title, names in (GROUPS | {"Modules": modules}).items():
        rows = [f"| `camlib.{name}` | {summaries[f'camlib.{name}']} |" for name in names]
        parts.append(f"## {title}\n\n| name | what it does |\n|---|---|\n" + "\n".join(rows))
    return Page(INDEX, "API reference", "Every public name of camlib.", "\n\n".join(parts), _file(camlib))


def _page(name: str, module: ModuleType) -> Page:
    """The page of a function or class."""
    from pdoc.doc import Class, Module

    own = name.rpartition(".")[2]
    member = Module(module).get(own)
    assert member is not None
    parts = [_signature(name, member), _said(member.docstring, "##")]
    if isinstance(member, Class):
        value = getattr(module, own)
        found = [(each, member.get(each)) for each in own_members(value)]
        methods = [(each, one) for each, one in found if one is not None and one.kind == "function"]
        others = [(each, one) for each, one in found if one is not None and one.kind != "function"]
        if others:
            rows = [f"### {each}\n\n{_said(one.docstring, '####')}" for each, one in others]
            parts.append("## Properties\n\n" + "\n\n".join(rows))
        if methods:
            rows = [f"### {each}\n\n{_signature(each, one)}\n\n{_said(one.docstring, '####')}" for each, one in methods]
            parts.append("## Methods\n\n" + "\n\n".join(rows))
    return Page(name, name, summary(member.docstring), "\n\n".join(parts), _file(module))


def _module_page(name: str, names: list[str]) -> Page:
    """The page of a module, with all of its names."""
    from pdoc.doc import Module

    value = importlib.import_module(f"camlib.{name}")
    module = Module(value)
    parts = [_said(module.docstring, "##")]
    for own in names:
        home = getattr(getattr(camlib, own, None), "__module__", value.__name__)
        member = module.get(own) or Module(importlib.import_module(home)).get(own)
        assert member is not None
        said = f"camlib.{own}" if f"camlib.{own}" in public() else f"camlib.{name}.{own}"
        parts += [f"## {own}", "" if member.kind == "variable" else _signature(said, member)]
        parts += [_said(member.docstring, "###"), _table_of_methods() if own == "METHODS" else ""]
    title = f"camlib.{name}"
    return Page(title, title, summary(module.docstring), "\n\n".join(parts), _file(value))


def _table_of_methods() -> str:
    """What METHODS holds."""
    rows = [f"| `{m.name}` | {m.unit} | {'yes' if m.additive else 'no'} | {m.summary} |" for m in METHODS.values()]
    return "| name | unit of a cell | additive | summary |\n|---|---|---|---|\n" + "\n".join(rows)


def _file(module: ModuleType) -> Path:
    return Path(inspect.getfile(module))


def summary(docstring: str) -> str:
    """The first sentence of a docstring, in one line, for a table."""
    first = " ".join(docstring.split("\n\n")[0].split())
    return re.split(r"(?<=[.?]) (?=[A-Z])", first)[0].replace("|", r"\|")


def _signature(name: str, member: object) -> str:
    """How a function is called, or a class made, as a block of code with short types."""
    from pdoc.doc import Class, Function

    if isinstance(member, Class):
        made = member.get("__init__")
        if not isinstance(made, Function) or issubclass(member.obj, BaseException):
            return f"```python\nclass {name}({', '.join(QUALIFIED.sub('', base) for _, _, base in member.bases)})\n```"
        call, kind = str(made.signature), "class "
    else:
        assert isinstance(member, Function)
        call, kind = str(member.signature), ""
    call = re.sub(r"^\(\s*(?:self|cls),?\s*", lambda found: "(\n    " if "\n" in found[0] else "(", call)
    call = re.sub(r"^\(\n\s*\)", "()", call).removesuffix(" -> None")
    return f"```python\n{kind}{name}{ADDRESS.sub('', QUALIFIED.sub('', call))}\n```"


def _said(docstring: str, level: str) -> str:
    """A docstring as Markdown: its sections under headings, what they list by name, its examples as code."""
    from pdoc.docstrings import numpy

    text = numpy(docstring)
    text = HEADING.sub(rf"{level} \1", text)
    text = ITEM.sub(_item, text)
    return EXAMPLE.sub(lambda found: f"```pycon\n{found[0].rstrip()}\n```", text).strip()


def _item(found: re.Match[str]) -> str:
    names = ", ".join(f"`{name.strip()}`" for name in found[1].split(","))
    kind = f"`{found[2]}`" if f"camlib.{found[2]}" in addresses() else found[2]
    return f"- {names}" + (f" · {kind}" if kind else "") + "  \n   "
