"""A copy of the course in another folder, for tests of what the tools write there."""

import os
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def checkout(folder: Path) -> Path:
    """The folder, with all that makes the package, the notebooks and the posts."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("camlib", "tools", "notebooks", "data", "docs", "evidence"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("README.md", "LICENSE", "pyproject.toml", "CITATION.cff"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def environment_of(folder: Path, **settings: str) -> dict[str, str]:
    """In which Python finds the checkout's own modules first."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])} | settings
