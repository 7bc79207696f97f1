"""The one way to call a tool: `python3 run.py NAME …`, which runs `.venv/bin/python tools NAME …`."""

import importlib
import sys
from pathlib import Path

# Where a command is more than the module of its name: the module, and what comes before the caller's arguments.
ELSEWHERE = {
    "address": ("set_address", []),
    "autograde": ("classroom.__main__", ["autograde"]),  # of one submission, in a process of its own
    "classroom": ("classroom.__main__", ["classroom"]),
    "grade": ("classroom.__main__", ["grade"]),
    "grades-export": ("classroom.__main__", ["grades-export"]),
    "live": ("live.__main__", []),
}

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the course, and not this folder or the caller's
    name, *rest = sys.argv[1:]
    module, first = ELSEWHERE.get(name, (name.replace("-", "_"), []))
    sys.exit(importlib.import_module(f"tools.{module}").main([*first, *rest]))
