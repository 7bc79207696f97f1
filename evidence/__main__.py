"""Measure again what the chapters state: python3 run.py evidence [NAME ...]

Without names, every script of this folder runs, one after the other; that takes hours on two cores. Each result is
stored beside its script, and the table of README.md follows.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from evidence import findings

HERE = Path(__file__).parent
NOT_SCRIPTS = {"__init__", "__main__", "findings", "lite"}
SHARED_NETWORKS = {"frozen_layer", "frozen_beside_others", "held_gates"}  # trained once: --weights keeps them
KEEP_ROWS = {"frozen_breadth", "frozen_beside_others"}  # unless they are told to measure all of them again


def scripts() -> list[str]:
    """The names of the scripts."""
    return sorted(path.stem for path in HERE.glob("*.py") if path.stem not in NOT_SCRIPTS)


def main(arguments: list[str] | None = None) -> int:
    """The command line: 0 when all scripts ran, 1 when one failed."""
    parser = argparse.ArgumentParser(prog="python3 run.py evidence", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"scripts (default: all): {', '.join(scripts())}")
    parser.add_argument("--table", action="store_true", help="run nothing; only write the README's table anew")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.names) - set(scripts())):
        parser.error(f"no script named {', '.join(unknown)}; there are {', '.join(scripts())}")
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        for name in [] if options.table else options.names or scripts():
            start = time.perf_counter()
            print(f"{name} ...", file=sys.stderr, flush=True)
            weights = ["--weights", folder] if name in SHARED_NETWORKS else []
            again = ["--again"] if name in KEEP_ROWS else []
            command = [sys.executable, "-m", f"evidence.{name}", *weights, *again]
            if subprocess.run(command, cwd=findings.ROOT, env=os.environ, check=False).returncode:
                failed.append(name)
            took = (time.perf_counter() - start) / 60
            print(f"{name}: {'FAILED' if name in failed else 'done'}, {took:.1f} minutes", file=sys.stderr, flush=True)
    findings.write_table()
    for sentence in findings.missing_quotes():
        print(f"write or correct it: {sentence}", file=sys.stderr)
    return 1 if failed or findings.missing_quotes() else 0


if __name__ == "__main__":
    sys.exit(main())
