"""What course.toml says: the titles and questions of the chapters, the photographs, and how to cite the course."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"


@dataclass(frozen=True)
class Lesson:
    """A chapter or a deep dive."""

    path: Path
    title: str
    question: str
    binder: bool = True  # whether its memory suffices there

    @property
    def number(self) -> str:
        """Of a chapter, two digits; empty for a deep dive."""
        return self.path.stem[:2] if self.path.parent == NOTEBOOKS else ""

    @property
    def heading(self) -> str:
        """The first line of the notebook."""
        return f"# {self.number or 'Deep dive'} · {self.title}"


@dataclass(frozen=True)
class Photo:
    """A photograph of data/photos."""

    file: str
    teaches: str
    source: str
    author: str
    licence: str
    note: str = ""  # about the licence

    @property
    def terms(self) -> str:
        """Author and licence, with the note."""
        return f"{self.author}, {self.licence}" + (f" ({self.note})" if self.note else "")

    @property
    def credit(self) -> str:
        """Author, licence and source, without Markdown."""
        return f"{self.terms}; {self.source}".replace("`", "")

    @property
    def attribution(self) -> bool:
        """Whether the licence asks for the author's name."""
        return self.licence.startswith("CC BY")


@cache
def course() -> dict[str, Any]:
    """The whole file."""
    return tomllib.loads((ROOT / "course.toml").read_text(encoding="utf-8"))


@cache
def project() -> dict[str, Any]:
    """The [project] table of pyproject.toml: version, licence and address."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def chapters() -> list[Lesson]:
    """The chapters, in their order."""
    return [_lesson(NOTEBOOKS, **entry) for entry in course()["chapters"]]


def deep_dives() -> list[Lesson]:
    """The deep dives, in the order of their chapters."""
    return [_lesson(NOTEBOOKS / "deep_dives", **entry) for entry in course()["deep_dives"]]


def _lesson(folder: Path, file: str, **rest: Any) -> Lesson:
    return Lesson(folder / file, **rest)


@cache
def photos() -> dict[str, Photo]:
    """The photographs, by the names of their files."""
    return {entry["file"]: Photo(**entry) for entry in course()["photos"]}
