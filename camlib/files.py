"""Write files completely or not at all."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from camlib.errors import CamError


def write_whole(path: str | os.PathLike, write: Callable[[BinaryIO], object]) -> Path:
    """Write a file completely or not at all: `write` fills a temporary file next to it, which is then renamed.

    Returns the path. Raises `CamError` if the file cannot be written.

    >>> import tempfile
    >>> write_whole(Path(tempfile.mkdtemp()) / "a.txt", lambda file: file.write(b"text")).read_text()
    'text'
    """
    path = Path(path)
    part = path.parent / f".{uuid4().hex}.part"  # in the same folder, so that one rename finishes the job
    try:
        with open(part, "xb") as file:
            write(file)
        os.replace(part, path)
    except (OSError, ValueError) as e:  # ValueError: a null byte in the name
        raise CamError(f"{path}: cannot be written ({getattr(e, 'strerror', None) or e}).") from e
    finally:
        with suppress(OSError, ValueError):
            part.unlink()
    return path
