"""Runs a command with limits on time and memory, and kills all of it at the end."""

import argparse
import contextlib
import os
import re
import subprocess
import time
from pathlib import Path

import psutil

from tools.classroom.course import CELL_LIMIT


def limited(command: list[str], home: Path, limits: argparse.Namespace) -> str:
    """Run a command in a session of its own; kill all of it when it takes too long or too much. How it ended."""
    environment = os.environ | {"HOME": str(home), "OMP_NUM_THREADS": "1", "IPYTHONDIR": str(home / "ipython")}
    environment[CELL_LIMIT] = str(limits.cell_seconds)
    with open(home / "log", "wb") as log:
        process = subprocess.Popen(
            command, cwd=home, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    members: set[psutil.Process] = set()
    end = time.monotonic() + limits.seconds
    status = ""
    try:
        while process.poll() is None and not status:
            members |= _family(process.pid)
            if sum(_resident(member) for member in members) > limits.memory * 1e9:
                status = f"stopped: more than {limits.memory:g} GB of memory"
            elif time.monotonic() > end:
                status = f"stopped: longer than {limits.seconds:g} s"
            time.sleep(0.05)
    finally:  # the kernel has a session of its own, so the group alone is not enough
        members |= _family(process.pid)
        for member in members:
            with contextlib.suppress(psutil.Error):
                member.kill()
        process.wait()
    return status or ("graded" if process.returncode == 0 else f"failed: {_reason(home / 'log')}")


def _reason(log: Path) -> str:
    """Why grading failed, from what was printed."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "it deleted the grader's files"
    if "Kernel died" in text or "DeadKernelError" in text:
        return "it ended its own kernel"
    errors = re.findall(r"(?m)^\s*[\w.]*(?:Error|Exception): (?!Please see)(.+)$", text)
    return (errors or text.splitlines() or ["it ended the grader"])[-1][:200]


def _family(pid: int) -> set[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return {parent, *parent.children(recursive=True)}
    except psutil.Error:
        return set()


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
