"""A copy of the course in another folder, for tests of what the tools write there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

OTHER = "https://github.com/a-school/cam-course"  # an address
ROOT = Path(__file__).resolve().parent.parent


def checkout(folder: Path, address: str | None) -> Path:
    """The folder, with all that makes the package, the notebooks and the posts, and with this address on the web."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("camlib", "tools", "notebooks", "data", "docs", "evidence", "tests/peers"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    documents = [path.name for path in ROOT.glob("*.md")]
    for name in (*documents, "LICENSE", "pyproject.toml", "course.toml", "CITATION.cff"):
        shutil.copy(ROOT / name, folder / name)
    project = folder / "pyproject.toml"
    before = project.read_text(encoding="utf-8")
    without = re.sub(r'(?m)^Repository = ".*\n', "", before)
    project.write_text(without, encoding="utf-8", newline="\n")
    if address is not None or without != before:  # otherwise, all files already match the settings
        command = ["update"] if address is None else ["address", address]
        subprocess.run([sys.executable, "tools", *command], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return folder


def environment_of(folder: Path, **settings: str) -> dict[str, str]:
    """The environment in which Python finds the checkout's own modules first."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])} | settings
