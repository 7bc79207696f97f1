"""The API reference of the site: a page for each public name of camlib, from its docstring.

pdoc reads the package: members, signatures and the sections of docstrings. Its pages are Markdown here, which
`tools/posts.py` publishes like the text of a chapter, so they look alike and pass the same checks.
"""

from __future__ import annotations

import importlib
import inspect
from types import ModuleType

import camlib

MODULES = ("evaluate", "sanity", "shapes", "plot", "methods")  # each is a page with all of its names


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
