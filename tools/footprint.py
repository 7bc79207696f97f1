"""What a chapter costs the machine that runs it, for a teacher who has to size a server.

    python3 run.py footprint [FILE ...]

Each notebook runs in a fresh kernel, all its cells in a row, and is not written. The table, in Markdown on stdout, says
what was measured; notebooks/instructor/servers.md says what follows from it for a class.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import psutil

from tools import notebooks
from tools.errors import ToolError

STEP = 0.02  # seconds between two looks at a kernel's memory: a peak that is shorter may be missed
PACKAGES = ("torch", "jupyterlab", "ipykernel")


class Footprint(NamedTuple):
    """What one run took: the kernel and whatever it started, together."""

    cpu: float  # seconds, user and system, of all cores
    peak: float  # MB resident; pages that several students share count for each of them


class _Watch(threading.Thread):
    """Looks at the processes that are started below this one from now on, until it is told to stop."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.cpu, self.peak, self.done = 0.0, 0, threading.Event()
        self.own = psutil.Process()
        self.others = set(self.own.children())

    def run(self) -> None:
        while not self.done.wait(STEP):
            try:
                kernels = [process for process in self.own.children() if process not in self.others]
                # For a moment, a process that is just being started is still a copy of this one, with all its memory.
                kernels = [process for process in kernels if process.cmdline() != self.own.cmdline()]
                below = [process for kernel in kernels for process in (kernel, *kernel.children(recursive=True))]
                self.peak = max(self.peak, sum(process.memory_info().rss for process in below))
                # The last two of the four times are those of finished subprocesses.
                self.cpu = max(self.cpu, sum(sum(kernel.cpu_times()[:4]) for kernel in kernels))
            except psutil.Error:  # one of them has just ended
                continue


def measure(path: Path) -> Footprint:
    """Run a notebook in a fresh kernel; the file stays as it is."""
    watch = _Watch()
    watch.start()
    try:
        notebooks.execute(notebooks.read(path), path.resolve().parent)
    finally:
        watch.done.set()
        watch.join()
    return Footprint(watch.cpu, watch.peak / 1e6)


def table(found: Iterable[tuple[str, Footprint]]) -> str:
    """Markdown: a row for each notebook."""
    rows = [f"| {name} | {f.cpu:.0f} | {f.peak:.0f} |" for name, f in found]
    return "\n".join(["| chapter | CPU seconds | peak MB |", "|---|--:|--:|", *rows])


def main(arguments: list[str] | None = None) -> int:
    """The command line: 0 when every notebook ran, 1 when one failed, 2 for bad usage."""
    parser = argparse.ArgumentParser(
        prog="python3 run.py footprint", description="CPU seconds and peak memory of each chapter, as a Markdown table."
    )
    parser.add_argument("files", nargs="*", type=Path, help="notebooks (default: the chapters)")
    parser.add_argument("--threads", type=int, default=2, help="of a kernel (default %(default)s)")
    options = parser.parse_args(arguments)
    if missing := [str(path) for path in options.files if not path.is_file()]:
        parser.error(f"no such file: {', '.join(missing)}")
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    files, found, failed = options.files or notebooks.chapters(), [], 0
    for number, path in enumerate(files, 1):
        print(f"{number} of {len(files)}: {path.name}", file=sys.stderr, flush=True)
        try:
            found.append((path.stem[:2] if path.stem[:2].isdigit() else path.stem, measure(path)))
        except ToolError as error:
            print(f"{path}: {error}", file=sys.stderr)
            failed += 1
    print(table(found))
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    print(f"\nPython {sys.version.split()[0]}, {versions}; {options.threads} threads, {os.cpu_count()} cores.")
    return 1 if failed else 0
