"""Every public name says what it takes, what it returns, what it raises, and shows it in an example."""

import ast
import inspect
import re
import textwrap

import pytest

import camlib
from camlib import CamError
from tools.reference import MODULES, public

SECTION = re.compile(r"^(\w+)\n-+\n", re.M)
OBJECTS = {name: value for name, value in public().items() if inspect.isroutine(value) or inspect.isclass(value)}
METHODS = {
    f"{name}.{member}": inspect.unwrap(getattr(value, member))
    for name, value in OBJECTS.items()
    if inspect.isclass(value)
    for member, own in vars(value).items()
    if not member.startswith("_") and (inspect.isfunction(own) or isinstance(own, classmethod))
}


def sections(value: object) -> dict[str, str]:
    """What stands under each heading of the docstring; before the first, under ""."""
    parts = SECTION.split(inspect.getdoc(value) or "")
    return {"": parts[0]} | dict(zip(parts[1::2], parts[2::2], strict=True))


def entries(section: str) -> set[str]:
    """The names that a section explains: `a, b : (h, w)` explains a and b."""
    heads = re.findall(r"^(\S[^:\n]*)", section, re.M)
    return {name.strip() for head in heads for name in head.split(",")}


def faults(value: object) -> list[str]:
    """What a reader would miss in the docstring of a function."""
    said = sections(value)
    signature = inspect.signature(value)
    takes = set(signature.parameters) - {"self", "cls"}
    found = [] if re.match(r".+[.?]( |$)", said[""].split("\n\n")[0].replace("\n", " ")) else ["no first sentence"]
    found += [f"{name} is not explained" for name in sorted(takes - entries(said.get("Parameters", "")))]
    found += [f"there is no {name}" for name in sorted(entries(said.get("Parameters", "")) - takes)]
    if signature.return_annotation not in (None, "None") and "Returns" not in said:
        found.append("what it returns is not said")
    body = ast.parse(textwrap.dedent(inspect.getsource(value)))
    raised = {str(getattr(node.exc.func, "id", "")) for node in ast.walk(body)
              if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)}  # fmt: skip
    raised = {name for name in raised if issubclass(getattr(camlib, name, int), Exception)}
    found += [f"{name} is not in Raises" for name in sorted(raised - entries(said.get("Raises", "")))]
    return found


def test_faults_are_seen() -> None:
    def bad(a: int, b: int) -> int:
        """Adds

        Parameters
        ----------
        a
            One.
        c
            Two.
        """
        raise CamError("always")

    assert faults(bad) == [
        "no first sentence",
        "b is not explained",
        "there is no c",
        "what it returns is not said",
        "CamError is not in Raises",
    ]


@pytest.mark.parametrize("name", [name for name, value in OBJECTS.items() if inspect.isroutine(value)])
def test_a_function_says_what_it_takes_and_returns(name: str) -> None:
    assert not faults(OBJECTS[name])
    assert ">>> " in sections(OBJECTS[name])["Examples"]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_what_it_takes_and_returns(name: str) -> None:
    assert not faults(METHODS[name])


@pytest.mark.parametrize("name", [name for name, value in OBJECTS.items() if inspect.isclass(value)])
def test_a_class_explains_its_fields(name: str) -> None:
    value = OBJECTS[name]
    said = sections(value)
    assert said[""].strip().endswith((".", "?"))
    if issubclass(value, BaseException):
        return
    assert ">>> " in said["Examples"]
    fields = {field for field in getattr(value, "__dataclass_fields__", {}) if value.__dataclass_fields__[field].init}
    fields = fields or set(inspect.signature(value).parameters)
    assert fields == entries(said.get("Attributes", said.get("Parameters", "")))
    unsaid = [member for member, own in vars(value).items()
              if not member.startswith("_") and hasattr(own, "fget") and not inspect.getdoc(own.fget)]  # fmt: skip
    assert not unsaid


def test_every_public_name_is_looked_at() -> None:
    assert {f"camlib.{name}" for name in camlib.__all__} <= set(public()) | {f"camlib.{name}" for name in MODULES}
    assert "camlib.evaluate.iou" in OBJECTS and "camlib.shapes.SHAPES" not in OBJECTS and len(OBJECTS) > 80
