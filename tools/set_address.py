"""Sets the repository's address, or removes it: `python3 run.py address [URL]`."""

from __future__ import annotations

import argparse
import re
import subprocess

from tools import address, catalogue, files, notebooks, update
from tools.errors import ToolError, reported

ROOT = notebooks.ROOT
PYPROJECT = ROOT / "pyproject.toml"


def git_remote(*arguments: str) -> str:
    """What `git remote` prints."""
    return subprocess.run(["git", "remote", *arguments], cwd=ROOT, capture_output=True, encoding="utf-8").stdout.strip()


def remote() -> str:
    """The address of the remote that this copy was cloned from."""
    try:
        names = git_remote().split()
    except OSError:  # no git
        names = []
    if "origin" not in names and len(names) != 1:
        raise ToolError(
            f"git names {'no' if not names else 'more than one'} remote here. Give the address: "
            "python3 run.py address https://github.com/OWNER/NAME"
        )
    return git_remote("get-url", "origin" if "origin" in names else names[0])


def store(url: str | None) -> None:
    """Write the repository's address into pyproject.toml; None removes it."""
    text = PYPROJECT.read_text(encoding="utf-8")
    head, section, rest = re.split(r"(?m)^(\[project\.urls\][^\n]*\n)", text)
    rest = re.sub(r"\ARepository = [^\n]*\n", "", rest)
    line = f'Repository = "{url}"\n' if url else ""
    files.write(PYPROJECT, (head + section + line + rest).encode())
    catalogue.project.cache_clear()


@reported
def main(arguments: list[str]) -> int:
    """The command line: 0 when the address is set everywhere, 2 when not."""
    parser = argparse.ArgumentParser(
        prog="python3 run.py address",
        description="Write the repository's address into links, badges and the notebooks' first code cells.",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("url", nargs="?", metavar="URL", help="default: that of the remote that git names")
    which.add_argument("--remove", action="store_true", help="take the address out again: nothing links to the web")
    options = parser.parse_args(arguments)
    store(None if options.remove else address.of_remote(options.url or remote()))
    return update.main([])
