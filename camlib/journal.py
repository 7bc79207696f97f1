"""What an output folder holds: which photo each name belongs to, and which photos are finished.

There are two files of JSON lines. A photo takes its name in `camlib.names.jsonl`, and then, before they are written,
its files. A line in `camlib.jsonl` says that it is finished: what was read, with which options, and which files. So
whenever a job is stopped, the next one knows which files belong to which photo. A line counts only if the files
on the disk still match it.

These are lines of text, not a database, so that each part of a job (`--shard`) can have its own files: locks are not
reliable on the network disks that the machines of a cluster share. The parts need no common file, because the names of
their pictures contain a digest of the photo's path.
"""

import errno
import json
import math
import os
import re
import stat
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from shutil import copyfileobj
from typing import Any, BinaryIO

from camlib.errors import CamError, reason
from camlib.files import State, printable, state_of, write_whole

Row = dict[str, Any]  # a picture, and what it shows
Check = Callable[[dict[str, Any]], bool]  # whether a line is as camlib writes it

WRITTEN = ("picture", "figure", "raw", "page")  # the kinds of files, as rows call them
ROW = {"photo", "index", "label", "probability", "logit", "rest", "evidence", "scale", "unit", "frames", *WRITTEN}
ASKED = {"figure": "figure", "raw": "raw", "html": "page"}  # options that ask for files, and the kinds
LONGEST_NAME = 100  # bytes: file systems allow 255, and the class follows
LONGEST_LINE = 1 << 25
BLOCK = 1 << 16
LATEST = 1e11  # seconds since 1970: a line with a later time is not valid
RESERVED = {"con", "prn", "aux", "nul", "conin$", "conout$"}  # on Windows
RESERVED |= {f"{device}{n}" for device in ("com", "lpt") for n in "123456789¹²³"}
ENDINGS = re.compile(  # of what camlib writes, by kind
    r"\.(?:(?P<picture>\d+-[^.]*\.(?:png|mp4|gif))|(?P<figure>figure\.jpg)|(?P<raw>npz|npz\.json)|(?P<page>html))\Z",
    re.IGNORECASE,
)
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # errors of disks that do not support locks
JOURNAL = re.compile(r"(?P<kind>camlib(?:\.names)?)(?:\.\d+-of-\d+)?(?P<damaged>\.damaged-\d+)?\.jsonl")
IN_THE_WAY = "camlib would write {}, but there is such a file that it did not write; move it, or choose another --out."
LOCK = ".camlib.lock"
WAIT = 60  # seconds for another process that is taking names or adding a line


class Journal:
    """The names and the finished photos of a folder.

    options: everything that decides what is written. recipe: the form of the options in file names, such as "whole".
    part: such as "2-of-8", if the job is one shard of several. `notes` holds messages for the user.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any], recipe: str = "", part: str = "") -> None:
        self.folder, self.recipe, self.part = folder, recipe, part
        self.options = json.loads(json.dumps(options))
        self._options_text = json.dumps(self.options, sort_keys=True)
        self.kinds = frozenset(kind for option, kind in ASKED.items() if self.options.get(option)) | {"picture"}
        self.notes: list[str] = []
        self._start = str(folder / "_")[:-1]  # of the paths of its files
        self._path = folder / f"camlib{part and '.' + part}.jsonl"
        self._names_path = folder / f"camlib.names{part and '.' + part}.jsonl"
        self._files: list[Path] = []  # the journals
        self._done: dict[bytes, tuple[float, int, int, int]] = {}  # job -> time, journal, place and hash of its line
        self._intents: dict[bytes, tuple[int, int]] = {}  # owner -> journal, and where its files' line begins
        self._read_to: dict[Path, int] = {}  # how far journals of names have been read
        self._owners: dict[str, tuple[bytes, frozenset[str]]] = {}  # folded name -> owner, and kinds of files
        self._names: dict[bytes, str] = {}  # owner -> name
        self._from_here: dict[str, str] = {}  # folder -> the way to it from this one
        with self._lock():
            for path in self._journals("camlib.names"):
                if self._read_names(path) and path == self._names_path:
                    self._set_aside(path, _is_name)
                    self._read_names(path)  # its lines have moved
            for path in self._journals("camlib"):
                if self._read_done(path) and path == self._path:
                    self._set_aside(path, _is_done)
                    self._read_done(path)

    # --- names -------------------------------------------------------------------------------------------------------

    def take_names(self, photos: Sequence[Path]) -> dict[Path, str]:
        """A name for each photo with this recipe, which no other photo, recipe or file in the folder has as yet.

        It stays the photo's for good: `intend` refuses the files that the user has put in its way since.
        Raises `CamError` if the names cannot be recorded.
        """
        taken: dict[Path, str] = {}
        if not photos:
            return taken
        with self._lock():
            self._read_new_names()
            foreign, new = self._foreign(), []
            for photo in photos:
                owner = self._owner(photo)
                name = self._names.get(owner)
                if name is None:
                    taken_by = (self._owners, foreign)
                    name = next(n for n in self._candidates(photo) if not any(_fold(n) in by for by in taken_by))
                if not self.kinds <= self._owners.get(_fold(name), (owner, frozenset()))[1]:
                    self._own(name, owner, self.kinds)
                    new.append(photo)
                taken[photo] = name
            if new:
                self._append(self._names_path, (self._name_line(photo, taken[photo]) for photo in new))
        return taken

    def intend(self, photo: Path, files: Iterable[str]) -> None:
        """Record the names of the files that will be written for a photo with this recipe.

        Raises `InTheWayError` if one of them is there, and no line says that it is the photo's own; `CamError` if this
        cannot be recorded.
        """
        owner, new = self._owner(photo), {*files}
        if new <= self._own_files(owner):
            return
        with self._lock():
            self._read_new_names()  # another process may have written it for the same photo
            own = self._own_files(owner)
            for name in sorted(new - own):
                if os.path.lexists(self.folder / name):
                    raise InTheWayError(f"{printable(str(photo))}: {IN_THE_WAY.format(printable(name))}")
            line = self._name_line(photo, self._names[owner]) | {"files": sorted(own | new)}
            self._intents[owner] = self._number(self._names_path), self._append(self._names_path, [line])

    def part_of(self, photo: Path, parts: int) -> int:
        """Which part of a job a photo belongs to, from 1. Its path alone decides, so other photos may come and go."""
        return int.from_bytes(_digest(self._key(photo)), "big") % parts + 1

    def wrote(self, path: Path) -> bool:
        """Whether a file is in this folder, and was written for a photo."""
        if self._key(path) != path.name:
            return False
        owner = self._owners.get(_fold(_split(path.name)[0]))
        return owner is not None and path.name in self._own_files(owner[0])

    def _candidates(self, photo: Path) -> Iterator[str]:
        end = f"-{self.recipe}" if self.recipe else ""
        stem, unchanged = _safe(photo.stem)
        if unchanged and not self.part:
            yield stem + end
        size = 8 if self.part else 4  # parts do not see each other's names, so no two digests may be the same
        stem += "-" + blake2b(self._key(photo).encode("utf-8", "surrogatepass"), digest_size=size).hexdigest()
        yield stem + end
        for n in range(2, 1000):
            yield f"{stem}-{n}{end}"
        raise CamError(
            f"{printable(str(photo))}: all names for its pictures are taken; choose another folder with --out."
        )

    def _foreign(self) -> dict[str, frozenset[str]]:
        """The names and kinds of files in the folder that look like camlib's but belong to no photo."""
        found: dict[str, frozenset[str]] = {}
        for entry in self._entries():
            name, kind = _split(entry)
            name = _fold(name)
            if kind and kind not in self._owners.get(name, (b"", frozenset()))[1]:
                found[name] = found.get(name, frozenset()) | {kind}
        return found

    def _own(self, name: str, owner: bytes, kinds: frozenset[str]) -> bytes:
        """Note whose name this is. Returns the owner."""
        folded = _fold(name)
        known = self._owners.get(folded)
        if known is None and owner not in self._names:
            self._owners[folded], self._names[owner] = (owner, kinds), name
        elif known is not None and known[0] == owner and not kinds <= known[1]:
            self._owners[folded] = owner, known[1] | kinds
        return owner

    def _key(self, photo: Path) -> str:
        """A photo's path relative to the folder, so that both may be moved together."""
        parent, name = os.path.split(photo)
        if parent not in self._from_here:
            self._from_here[parent] = self._relative(parent)
        return self._from_here[parent] + name

    def _relative(self, folder: str) -> str:
        """The path to a folder from this one without links, with a slash at its end; empty for this one."""
        path = os.path.realpath(folder)
        with suppress(ValueError):  # another drive of Windows
            path = os.path.relpath(path, os.path.realpath(self.folder))
        path = path.replace(os.sep, "/")
        return "" if path == "." else path.rstrip("/") + "/"

    def _owner(self, photo: Path) -> bytes:
        return _digest(self._key(photo), self.recipe)

    def _name_line(self, photo: Path, name: str) -> dict[str, Any]:
        kinds = self.kinds | self._owners[_fold(name)][1]
        return {"name": name, "photo": self._key(photo), "recipe": self.recipe, "kinds": sorted(kinds)}

    def _own_files(self, owner: bytes) -> set[str]:
        """The names of all files that were, or were about to be, written for a photo with a recipe."""
        number, start = self._intents.get(owner, (-1, 0))
        line = None if number < 0 else self._line(number, start, lambda line: "files" in line)
        return set() if line is None else {*line["files"]}

    def _read_new_names(self) -> None:
        """Read the names that other processes have taken."""
        for path in self._journals("camlib.names"):
            self._read_names(path, self._read_to.get(path, 0))

    def _read_names(self, path: Path, start: int = 0) -> bool:
        """Read names from a position on. Returns whether the file is damaged."""
        number = self._number(path)
        same: dict[frozenset[str], frozenset[str]] = {}  # one object for all names, to save memory

        def use(begin: int, raw: bytes, line: dict[str, Any]) -> None:
            kinds = frozenset(line["kinds"])
            owner = self._own(line["name"], _digest(line["photo"], line["recipe"]), same.setdefault(kinds, kinds))
            if line.get("files"):
                self._intents[owner] = number, begin
            self._read_to[path] = begin + len(raw)

        return _read(path, _is_name, use, start)

    # --- finished photos ---------------------------------------------------------------------------------------------

    def rows(self, photo: Path) -> list[Row] | None:
        """The rows of a finished photo; None if it is not finished."""
        [rows] = self.finished([photo])
        return rows

    def finished(self, photos: Iterable[Path]) -> Iterator[list[Row] | None]:
        """The rows of each photo, or None if it is not finished.

        It is finished if a line says so, for the same options, and if neither the photo nor anything that was written
        has changed since. A different modification time, as on a copy, does not matter if the content is the same.
        """
        with ExitStack() as stack:
            journals: dict[int, BinaryIO] = {}
            for number, path in enumerate(self._files):
                with suppress(OSError):
                    journals[number] = stack.enter_context(open(path, "rb"))
            for photo in photos:
                yield self._rows(photo, journals)

    def _rows(self, photo: Path, journals: Mapping[int, BinaryIO]) -> list[Row] | None:
        key = self._key(photo)
        _, number, start, known = self._done.get(self._job(key, self.options), (0, -1, 0, 0))
        if number not in journals:
            return None
        try:
            journals[number].seek(start)
            raw = journals[number].readline(LONGEST_LINE)
        except OSError:
            return None
        if hash(raw) != known:  # not the line that was checked when the journal was read
            return None
        line = json.loads(raw)
        if line["name"] != self._names.get(_digest(key, self.recipe)) or not _still(photo, line["state"]):
            return None
        if not all(_still(self._start + name, wrote, follow=False) for name, wrote in line["files"].items()):
            return None
        return [self._shown(row, photo) for row in line["rows"]]

    def line(self, photo: Path, state: State, rows: list[Row]) -> dict[str, Any]:
        """The line that `add` records for a photo whose files are written. state: the photo's when it was read.

        Raises `CamError` if a file is not there.
        """
        rows = [row | {kind: Path(row[kind]).name for kind in WRITTEN if kind in row} for row in rows]
        names = dict.fromkeys(row[kind] for row in rows for kind in WRITTEN if kind in row)
        names |= {f"{name}.json": None for name in names if name.endswith(".npz")}
        return {
            "photo": self._key(photo),
            "time": max(time.time(), self._done.get(self._job(self._key(photo), self.options), (0,))[0] + 0.001),
            "state": [state.size, state.mtime_ns, state.digest],
            "options": self.options,
            "name": self._names[self._owner(photo)],
            "recipe": self.recipe,
            "files": {name: _written(self.folder / name) for name in names},
            "rows": rows,
        }

    def add(self, line: Mapping[str, Any]) -> None:
        """Record a photo as finished. Raises `CamError` if this cannot be written."""
        with self._lock():
            self._append(self._path, [line])

    def _read_done(self, path: Path) -> bool:
        """Remember where the newest line of each photo is. Returns whether the file is damaged."""
        number = self._number(path)

        def use(start: int, raw: bytes, line: dict[str, Any]) -> None:
            kinds = frozenset(_split(file)[1] for file in line["files"])
            owner = self._own(line["name"], _digest(line["photo"], line["recipe"]), kinds)  # if its name was lost
            self._intents.setdefault(owner, (number, start))
            job = self._job(line["photo"], line["options"])
            if job not in self._done or self._done[job][0] <= line["time"]:
                self._done[job] = line["time"], number, start, hash(raw)

        return _read(path, _is_done, use)

    def _job(self, key: str, options: Any) -> bytes:
        text = self._options_text if options == self.options else json.dumps(options, sort_keys=True)
        return _digest(key, text)

    def _shown(self, row: Row, photo: Path) -> Row:
        return row | {"photo": str(photo)} | {kind: self._start + row[kind] for kind in WRITTEN if kind in row}

    # --- files of lines ----------------------------------------------------------------------------------------------

    def _journals(self, kind: str) -> list[Path]:
        """This job's own journal and those of other parts. Raises `CamError` if its own is not an ordinary file."""
        own = self._names_path if kind == "camlib.names" else self._path
        if os.path.lexists(own) and not _is_file(own):
            raise CamError(
                f"{printable(str(own))}: is not an ordinary file. Remove it, or choose another folder with --out."
            )
        return _journals_in(self.folder, self._entries(), kind)

    def _entries(self) -> list[str]:
        try:
            return os.listdir(self.folder)
        except OSError as e:
            raise CamError(f"{printable(str(self.folder))}: cannot be read ({reason(e)}).") from e

    def _set_aside(self, path: Path, check: Check) -> None:
        """Keep a copy of a damaged journal, and continue with the lines that can be used."""
        for n in range(1, 1000):
            aside = path.with_name(f"{path.name.removesuffix('.jsonl')}.damaged-{n}.jsonl")
            if not os.path.lexists(aside):
                break
        with open(path, "rb") as damaged:
            write_whole(aside, lambda file: copyfileobj(damaged, file))  # a copy, so that the journal never disappears
        with open(aside, "rb") as damaged:  # of the copy, because Windows does not replace a file that is open
            good = (raw for _, raw in _raw_lines(damaged) if _parsed(raw, check) is not None)
            write_whole(path, lambda file: file.writelines(good))
        self.notes.append(
            f"{printable(str(path))}: has damaged lines. A copy was kept as {printable(aside.name)}, and the photos "
            "of those lines are explained again."
        )

    def _number(self, path: Path) -> int:
        if path not in self._files:
            self._files.append(path)
        return self._files.index(path)

    def _line(self, number: int, start: int, check: Check) -> dict[str, Any] | None:
        """The line of a journal that begins at a position; None if it is not there any more."""
        try:
            with open(self._files[number], "rb") as file:
                file.seek(start)
                return _parsed(file.readline(LONGEST_LINE), check)
        except OSError:
            return None

    def _append(self, path: Path, lines: Iterable[Mapping[str, Any]]) -> int:
        """Add lines. Returns where the first of them begins."""
        data = b"".join(json.dumps(line).encode("ascii") + b"\n" for line in lines)
        try:
            with open(path, "ab+") as file:
                start = _end_of_lines(file)
                file.truncate(start)  # a line without an end was cut off when a job was stopped
                file.write(data)
                return start
        except OSError as e:
            raise CamError(f"{printable(str(path))}: cannot be written ({reason(e)}).") from e

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Keep other processes from taking names or adding lines. On a disk that does not support locks, do nothing."""
        from filelock import FileLock, Timeout

        lock = FileLock(self.folder / LOCK)
        try:
            lock.acquire(timeout=WAIT)
        except Timeout as e:
            raise CamError(f"{printable(str(self.folder))}: another job has locked its journal for {WAIT} s.") from e
        except NotImplementedError:
            yield
            return
        except OSError as e:
            if e.errno in NO_LOCKS:
                yield
                return
            raise CamError(f"{printable(str(self.folder))}: cannot be written ({reason(e)}).") from e
        try:
            yield
        finally:
            lock.release()


class InTheWayError(CamError):
    """A file that camlib did not write has the name of one that it would write."""


def written(folder: Path) -> set[str]:
    """The names of the files that jobs have written, or were about to write, into a folder.

    >>> written(Path("data/photos"))
    set()
    """
    names: set[str] = set()
    with suppress(OSError, CamError):
        for path in _journals_in(folder, os.listdir(folder), "camlib.names"):
            _read(path, _is_name, lambda _begin, _raw, line: names.update(line.get("files", [])))
    return names


def is_of_journal(name: str) -> bool:
    """Whether a file of this name belongs to a journal."""
    return name == LOCK or bool(JOURNAL.fullmatch(name))


def _journals_in(folder: Path, names: Iterable[str], kind: str) -> list[Path]:
    """The paths of a kind's journals among the names of a folder's files."""
    forms = [form for name in names if (form := JOURNAL.fullmatch(name))]
    own = [folder / form[0] for form in forms if form["kind"] == kind and not form["damaged"]]
    return sorted(path for path in own if _is_file(path))


def _read(path: Path, check: Check, use: Callable[[int, bytes, dict[str, Any]], None], start: int = 0) -> bool:
    """Call use(begin, raw, line) for each line from a position on. Returns whether some lines cannot be used."""
    damaged = False
    try:
        with open(path, "rb") as file:
            file.seek(start if start <= os.fstat(file.fileno()).st_size else 0)
            for begin, raw in _raw_lines(file):
                line = _parsed(raw, check)
                if line is not None:
                    use(begin, raw, line)
                elif raw.strip():
                    damaged = True
    except OSError as e:
        raise CamError(f"{printable(str(path))}: cannot be read ({reason(e)}).") from e
    return damaged


def _raw_lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Each line that has an end, with its position. Of a line that is too long, only the beginning."""
    start = file.tell()
    while raw := file.readline(LONGEST_LINE):
        length = len(raw)
        while not raw.endswith(b"\n") and (more := file.readline(LONGEST_LINE)):
            length += len(more)
            raw = raw[:1] + b"\n" if more.endswith(b"\n") else raw  # too long to be used, but it has an end
        if raw.endswith(b"\n"):
            yield start, raw
        start += length


def _end_of_lines(file: BinaryIO) -> int:
    """Where the last line that has an end ends."""
    start = file.seek(0, os.SEEK_END)
    while start:
        start, end = max(0, start - BLOCK), start
        file.seek(start)
        if (found := file.read(end - start).rfind(b"\n")) >= 0:
            return start + found + 1
    return 0


def _parsed(raw: bytes, check: Check) -> dict[str, Any] | None:
    """The line, or None if it is not as camlib writes it."""
    try:
        line = json.loads(raw)
        return line if isinstance(line, dict) and check(line) else None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError):
        return None


def _is_name(line: dict[str, Any]) -> bool:
    texts = all(isinstance(line[key], str) for key in ("name", "photo", "recipe"))
    files = all(_belongs(file, line["name"]) for file in line.get("files", []))
    return texts and files and _is_safe(line["name"]) and set(line["kinds"]) <= set(WRITTEN)


def _is_done(line: dict[str, Any]) -> bool:
    texts = all(isinstance(line[key], str) for key in ("photo", "name", "recipe")) and _is_state(*line["state"])
    options = _are_options(line["options"].values()) and 0 < line["time"] < LATEST
    files = all(_is_state(*wrote) and _belongs(name, line["name"]) for name, wrote in line["files"].items())
    return texts and options and files and bool(line["rows"]) and all(_is_row(row, line) for row in line["rows"])


def _are_options(values: Iterable[Any]) -> bool:
    inner = chain.from_iterable(value if isinstance(value, list) else (value,) for value in values)
    return {*map(type, inner)} <= {str, int, bool}


def _is_state(size: Any, changed: Any, digest: Any) -> bool:
    return isinstance(size, int) and isinstance(changed, int) and isinstance(digest, str)


def _is_row(row: dict[str, Any], line: dict[str, Any]) -> bool:
    low, high = row["evidence"]
    numbers = [row["logit"], row.get("rest", 0), row["scale"], low, high, row["probability"] or 0]
    return (
        row.keys() <= ROW
        and all(isinstance(row[key], str) for key in ("photo", "label", "unit", "picture"))
        and isinstance(row["index"], int)
        and isinstance(row.get("frames", 1), int)
        and all(isinstance(v, int | float) and math.isfinite(v) for v in numbers)
        and all(row[kind] in line["files"] and _split(row[kind])[1] == kind for kind in WRITTEN if kind in row)
        and all((kind in row) == bool(line["options"].get(option)) for option, kind in ASKED.items())
    )


def _belongs(file: str, name: str) -> bool:
    return bool(name) and _is_safe(file) and _split(file)[0] == name


def _is_safe(name: str) -> bool:
    return bool(name) and not _FORBIDDEN.search(name)


_FORBIDDEN = re.compile('[\x00-\x1f\x7f-\x9f<>:"/\\\\|?*\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]')


def _safe(stem: str) -> tuple[str, bool]:
    """A stem that every system takes as a file name, neither hidden nor too long; and whether it is unchanged."""
    safe = _FORBIDDEN.sub("_", stem)
    safe = re.sub(r"^[-.~ ]", "_", safe).rstrip(". ") or "_"
    if safe.split(".")[0].rstrip().casefold() in RESERVED:
        safe = "_" + safe
    while len(safe.encode()) > LONGEST_NAME:
        safe = safe[:-1]
    return safe, safe == stem


def _split(file: str) -> tuple[str, str]:
    """The name and the kind of a file that camlib may have written; the kind is empty for other files."""
    found = ENDINGS.search(file)
    return (file[: found.start()], found.lastgroup or "") if found else (file, "")


def _fold(name: str) -> str:
    """One text for all names that are the same file on disks that ignore case or how accents are encoded."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _digest(*parts: str) -> bytes:
    return blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=12).digest()


def _written(path: str | Path) -> list[Any]:
    """Size, time and digest of a file that was written."""
    state = state_of(path, 1 << 42)
    return [state.size, state.mtime_ns, state.digest]


def _still(path: str | Path, was: Sequence[Any], follow: bool = True) -> bool:
    """Whether a file is what it was. Its content is only read if its time has changed, as in a copy.

    follow: accept a link to such a file.
    """
    try:
        now = os.stat(path, follow_symlinks=follow)
        same = stat.S_ISREG(now.st_mode) and now.st_size == was[0]
        return same and (now.st_mtime_ns == was[1] or _written(path)[2] == was[2])
    except (OSError, CamError):
        return False


def _is_file(path: Path) -> bool:
    """Whether this is an ordinary file. A link is not: it could point to any file of the user's."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False
