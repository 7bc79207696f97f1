"""The files of a release: `python3 run.py release`, or, for a tag, `python3 run.py release --tag v1.2.0`.

It checks that every file names the same version, and builds the source archive and the wheel into dist/.
.github/workflows/release.yml publishes them.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

from tools.errors import ToolError, reported

ROOT = Path(__file__).resolve().parent.parent


def versions(root: Path) -> dict[str, str]:
    """The version that each file names."""
    texts = {
        name: (root / name).read_text(encoding="utf-8")
        for name in ("pyproject.toml", "camlib/version.py", "CITATION.cff", "CHANGELOG.md", "README.md")
    }
    found = {
        "camlib/version.py": re.search(r'(?m)^__version__ = "(.+)"$', texts["camlib/version.py"]),
        "CHANGELOG.md": re.search(r"(?m)^## \[(.+)\] - \d{4}-\d\d-\d\d$", texts["CHANGELOG.md"]),
        "README.md": re.search(r"(?m)^  version = \{(.+)\},$", texts["README.md"]),
    }
    return {
        "pyproject.toml": tomllib.loads(texts["pyproject.toml"])["project"]["version"],
        "CITATION.cff": str(yaml.safe_load(texts["CITATION.cff"])["version"]),
        **{name: match[1] if match else "none" for name, match in found.items()},
    }


def check(root: Path, tag: str | None) -> str:
    """The version; a ToolError if the files disagree about it, or if the tag or a date does."""
    named = versions(root)
    version = named["pyproject.toml"]
    if len(set(named.values())) > 1:
        raise ToolError("These files name different versions: " + ", ".join(f"{f} {v}" for f, v in named.items()))
    if tag not in (None, f"v{version}"):
        raise ToolError(f"The tag is {tag}, but the version is {version}; the tag must be v{version}.")
    changes = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    if re.search(r"(?m)^## \[Unreleased\]", changes):
        raise ToolError("CHANGELOG.md has a part [Unreleased]; give it the version and the date.")
    dated = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))["date-released"]
    if f"## [{version}] - {dated}" not in changes:
        raise ToolError(f"CITATION.cff is dated {dated}, and CHANGELOG.md has another date for {version}.")
    return version


def build(root: Path) -> list[Path]:
    """Build the source archive and the wheel into dist/, which may hold nothing else."""
    out = root / "dist"
    if out.exists() and any(out.iterdir()):
        raise ToolError(f"{out} is not empty; remove what is in it.")
    command = [sys.executable, "-m", "uv", "build", "--no-build-isolation", "--python", sys.executable]
    if subprocess.run([*command, "--quiet", "--out-dir", str(out), str(root)]).returncode:
        raise ToolError("uv could not build the package; its message is above.")
    return sorted(path for path in out.iterdir() if path.name.endswith((".tar.gz", ".whl")))


@reported
def main(arguments: list[str]) -> int:
    """The command line: 0 when the files are built, 2 when something has to be changed first."""
    parser = argparse.ArgumentParser(
        prog="python3 run.py release", description="Check the version and build the package into dist/."
    )
    parser.add_argument("--tag", help="the tag of the release, which must be v and the version")
    options = parser.parse_args(arguments)
    version = check(ROOT, options.tag)
    built = build(ROOT)
    print(f"version {version}")
    for path in built:
        print(f"{path.relative_to(ROOT)}  {path.stat().st_size / 1e6:.1f} MB")
    return 0
