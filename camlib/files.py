"""Read files within a limit, write them completely or not at all, and print hostile names safely."""

import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from camlib.errors import CamError, reason

BLOCK = 1 << 20  # bytes that are read at once
PART = re.compile(r"\.[0-9a-f]{32}\.camlib-part")  # the names of the temporary files of `write_whole`

# Control characters, line separators, marks that change the direction of writing, and bytes that are not UTF-8
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_NO_FILE = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a named pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}


@dataclass(frozen=True)
class State:
    """The state of a file when it was read: its size in bytes, modification time, and BLAKE2b-128 digest."""

    size: int
    mtime_ns: int
    digest: str

    def is_of(self, path: str | os.PathLike[str]) -> bool:
        """Whether the file at a path still has this size and modification time."""
        try:
            now = os.stat(path)
        except OSError:
            return False
        return (now.st_size, now.st_mtime_ns) == (self.size, self.mtime_ns)


def printable(text: str) -> str:
    r"""The text with escapes for characters that could disturb a terminal or make a name look like another one.

    These are control characters, line separators, marks that change the direction of writing, and the bytes of a file
    name that are not UTF-8. Everything else stays as it is.

    >>> print(printable("caf\u00e9 \x1b[2J \u202egnp.exe"))
    café \x1b[2J \u202egnp.exe
    """
    return _UNPRINTABLE.sub(
        lambda found: f"\\x{ord(c):02x}" if (c := found[0]) < "\u0100" else f"\\u{ord(c):04x}", text
    )


def read_whole(path: str | os.PathLike[str], limit: int) -> tuple[bytes, State]:
    """Read a file of at most `limit` bytes.

    Only ordinary files are opened, so that reading cannot block or continue forever.

    Parameters
    ----------
    path
        The file's path.
    limit
        The largest number of bytes to read.

    Returns
    -------
    content, state

    Raises
    ------
    CamError
        If there is no such file, if it is empty, larger than the limit, not an ordinary file (a folder, a device, a
        pipe), if it changes while it is read, or if it cannot be read. The message begins with the path.

    Examples
    --------
    >>> import tempfile
    >>> file = write_whole(Path(tempfile.mkdtemp()) / "a.txt", lambda file: file.write(b"text"))
    >>> content, state = read_whole(file, limit=1000)
    >>> content, state.size
    (b'text', 4)
    """
    with opened(path, limit) as (file, before):
        content = file.read(before.st_size + 1)
        _check_unchanged(file, before, len(content))
    return content, State(len(content), before.st_mtime_ns, blake2b(content, digest_size=16).hexdigest())


def state_of(path: str | os.PathLike[str], limit: int) -> State:
    """The state of a file of at most `limit` bytes, read block by block. Raises `CamError` as `read_whole` does.

    >>> state_of("data/photos/cat.jpg", limit=1 << 20).size
    93584
    """
    size, digest = 0, blake2b(digest_size=16)
    with opened(path, limit) as (file, before):
        while block := file.read(BLOCK):
            size += len(block)
            digest.update(block)
            if size > before.st_size:  # otherwise a file that is written as fast as it is read would never end
                break
        _check_unchanged(file, before, size)
    return State(size, before.st_mtime_ns, digest.hexdigest())


@contextmanager
def opened(path: str | os.PathLike[str], limit: int) -> Iterator[tuple[BinaryIO, os.stat_result]]:
    """Open an ordinary file of at most `limit` bytes for reading, and tell its status; see `read_whole`.

    The errors of the block are raised as `CamError`, or as its subclasses, with a message that begins with the path.
    """
    name = printable(os.fspath(path))
    try:
        _check_ordinary(os.stat(path), limit)  # before it is opened, which already has an effect on some devices
        # Another file may have taken its place since: opening a pipe without O_NONBLOCK would wait for a writer.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
        with open(os.open(path, flags), "rb") as file:
            status = os.fstat(file.fileno())
            _check_ordinary(status, limit)
            yield file, status
    except CamError as e:
        raise type(e)(f"{name}: {e}") from e.__cause__
    except MemoryError as e:
        raise CamError(f"{name}: there is not enough free memory to read this file.") from e
    except FileNotFoundError as e:
        raise CamError(f"{name}: no such file.") from e
    except (OSError, ValueError) as e:  # ValueError: a name with a null byte
        raise CamError(f"{name}: cannot be opened ({reason(e)}).") from e


def _check_unchanged(file: BinaryIO, before: os.stat_result, read: int) -> None:
    after = os.fstat(file.fileno())
    if read != before.st_size or (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise CamError(
            f"does not have the {before.st_size} bytes that the file system reports, or changed while it was read. Try "
            "again when no other program is writing to it."
        )


def _check_ordinary(status: os.stat_result, limit: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = next((kind for test, kind in _NO_FILE.items() if test(status.st_mode)), "something else")
        raise CamError(f"is {kind}, not a file.")
    if status.st_size == 0:
        raise CamError("the file is empty.")
    if status.st_size > limit:
        raise CamError(f"is {_amount(status.st_size)}; at most {_amount(limit)} can be read.")


def _amount(size: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def write_whole(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> Path:
    """Write a file completely or not at all: `write` fills a temporary file next to it, which is then renamed.

    Returns the path. Raises `CamError` if the file cannot be written.

    >>> import tempfile
    >>> write_whole(Path(tempfile.mkdtemp()) / "a.txt", lambda file: file.write(b"text")).read_text()
    'text'
    """
    path = Path(path)
    part = path.parent / f".{uuid4().hex}.camlib-part"  # in the same folder, so that one rename finishes the job
    try:
        with open(part, "xb") as file:
            write(file)
        os.replace(part, path)
    except (OSError, ValueError) as e:  # ValueError: a null byte in the name
        raise CamError(f"{printable(str(path))}: cannot be written ({reason(e)}).") from e
    finally:
        with suppress(OSError, ValueError):
            part.unlink()
    return path


def sweep(folder: str | os.PathLike[str], older_than_seconds: float = 3600) -> int:
    """Delete the temporary files that `write_whole` left in a folder when its process was killed.

    Only ordinary files with such a name are deleted, and only if they have not changed for `older_than_seconds`: newer
    ones may belong to a running process. Subfolders are not searched. Returns the number of deleted files.

    >>> import tempfile
    >>> sweep(tempfile.mkdtemp())
    0
    """
    deleted, before = 0, time.time() - older_than_seconds
    with suppress(OSError, ValueError), os.scandir(os.fspath(folder)) as entries:
        for entry in entries:
            with suppress(OSError):  # another process was faster, or this one may not delete it
                if not PART.fullmatch(entry.name) or not entry.is_file(follow_symlinks=False):
                    continue
                if entry.stat(follow_symlinks=False).st_mtime < before:
                    os.unlink(entry.path)
                    deleted += 1
    return deleted
