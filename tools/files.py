"""Writing files and folders completely or not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from camlib.errors import CamError
from camlib.files import write_whole
from tools.errors import ToolError


def write(path: Path, content: bytes) -> bool:
    """Replace the file, or leave the old one as it was; False when it already held these bytes."""
    path = path.resolve()  # a link stays a link
    if path.is_file() and path.read_bytes() == content:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_whole(path, lambda file: file.write(content))
    except CamError as error:
        raise ToolError(str(error)) from error
    return True


def write_folder(out: Path, files: dict[str, bytes]) -> None:
    """Replace the folder as a whole by these files, or leave the old one as it was."""
    part, old = (out.with_name(f".{out.name}.{kind}") for kind in ("part", "old"))
    for leftover in (part, old):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        for name, content in sorted(files.items()):
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            (part / name).write_bytes(content)
        if out.exists():
            os.replace(out, old)
        os.replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if not out.exists() and old.exists():
            os.replace(old, out)
        shutil.rmtree(old, ignore_errors=True)
