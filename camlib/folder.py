"""Photos in folders: find them, and read and explain them ahead of time, within a memory budget."""

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from threading import Condition, Lock
from typing import TYPE_CHECKING, TypeVar

from camlib.errors import CamError, first_line
from camlib.files import State, printable, read_whole
from camlib.journal import is_of_journal, written

if TYPE_CHECKING:
    import numpy as np

    from camlib.evidence import Evidence
    from camlib.explanation import Explanation
    from camlib.inputs import Input
    from camlib.methods import Method
    from camlib.models import Classifier, Kind

MEMORY = 2 << 30  # bytes for photos; Python and the network need about 1 GB more

CLIPS = {".mp4", ".m4v", ".mov", ".qt", ".3gp", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"}
CLIPS |= {".wmv", ".asf", ".flv", ".ogv", ".y4m"}

Item = TypeVar("Item")
Result = TypeVar("Result")


# --- find ------------------------------------------------------------------------------------------------------------


@dataclass
class LeftOut:
    """What a search did not take."""

    hidden: int = 0
    own: int = 0  # pictures that camlib wrote
    linked: list[str] = field(default_factory=list)  # folders
    unreadable: list[str] = field(default_factory=list)  # folders
    others: Counter[str] = field(default_factory=Counter)  # by suffix

    def __bool__(self) -> bool:
        return bool(str(self))

    def __str__(self) -> str:
        """One line, empty if nothing was left out."""
        parts = [f"{self.hidden} hidden" if self.hidden else ""]
        parts += [f"{self.own} picture{'s' * (self.own > 1)} that camlib wrote" if self.own else ""]
        parts += [_listed(self.linked, "linked folder"), _listed(self.unreadable, "folder that cannot be read")]
        if self.others:
            kinds = ", ".join(f"{n} {suffix or 'without a suffix'}" for suffix, n in self.others.most_common(4))
            parts.append(f"files of other kinds ({kinds}{', …' if len(self.others) > 4 else ''})")
        return "; ".join(filter(None, parts))


def _listed(paths: list[str], what: str) -> str:
    if not paths:
        return ""
    what = what if len(paths) == 1 else what.replace("folder", "folders")
    return f"{len(paths)} {what} ({', '.join(map(printable, paths[:3]))}{', …' if len(paths) > 3 else ''})"


def is_clip(path: Path) -> bool:
    """Whether a path names a clip.

    >>> is_clip(Path("cat.MP4")), is_clip(Path("cat.gif"))
    (True, False)
    """
    return path.suffix.lower() in CLIPS


def find_photos(paths: Sequence[Path]) -> tuple[list[Path], LeftOut]:
    """The given picture files and those inside the given folders, each once, in order; and what was left out.

    Hidden files and folders, and links to folders, are left out of a search. Raises `CamError` for a folder without
    pictures.
    """
    from camlib.images import SUFFIXES

    photos: dict[Path, None] = {}
    left = LeftOut()
    for path in paths:
        if not os.path.isdir(path):  # Path.is_dir raises for a name that is too long
            photos[path] = None
            continue
        found = sorted(
            (file for file in _files(path, left) if _kept(file, SUFFIXES, left)), key=lambda file: file.parts
        )
        if not found:
            others = f"; left out: {left}" if left else ""
            raise CamError(f"{printable(str(path))}: no picture files in this folder ({', '.join(SUFFIXES)}){others}.")
        photos |= dict.fromkeys(found)
    return list(photos), left


def _files(folder: Path, left: LeftOut) -> Iterator[Path]:
    """All files in a folder and its subfolders, without recursion: a folder may be a thousand levels deep."""
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as entries:
                own = written(here)
                for entry in entries:
                    path = here / entry.name
                    if entry.name in own:
                        left.own += entry.name.endswith(".png")
                    elif own and is_of_journal(entry.name):
                        pass
                    elif entry.name.startswith("."):
                        left.hidden += 1
                    elif entry.is_dir(follow_symlinks=False):
                        waiting.append(path)
                    elif os.path.isdir(path):
                        left.linked.append(str(path))
                    else:
                        yield path
        except OSError:
            left.unreadable.append(str(here))


def _kept(file: Path, suffixes: Sequence[str], left: LeftOut) -> bool:
    suffix = file.suffix.lower()
    if suffix in suffixes:
        return True
    left.others[printable(suffix)] += 1
    return False


# --- read ahead ------------------------------------------------------------------------------------------------------


def ahead(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], depth: int
) -> Iterator[Result]:
    """Apply a function to every item, in order. The pool works on up to `depth` items while you use earlier results.

    >>> with ThreadPoolExecutor(2) as pool:
    ...     list(ahead(pool, abs, [-1, 2, -3], depth=2))
    [1, 2, 3]
    """
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:  # after an error, or when the caller stops
            future.cancel()


class Memory:
    """A budget of memory for photos, shared by threads. A thread that would exceed it waits for others to finish.

    >>> with Memory(1 << 30).photo("data/photos/cat.jpg") as (photo, state):
    ...     photo.shape, state.size
    ((300, 451, 3), 93584)
    """

    def __init__(self, limit: int = MEMORY) -> None:
        self.limit = limit
        self._used = 0
        self._kept: dict[str, tuple[np.ndarray, State]] = {}  # their bytes count as used
        self._change = Condition()
        self._turn = Lock()

    @contextmanager
    def photo(self, file: str | os.PathLike[str], keep: bool = False) -> "Iterator[tuple[np.ndarray, State]]":
        """A photo (H, W, 3), and the state of its file when it was read. Its memory counts until the block ends.

        keep: keep the pixels for the next call, in up to a quarter of the budget and until others need the memory. If
        the file has changed by then, it is read again.

        Raises `ImageError` as `camlib.read_image` does, and `CamError` if the photo alone exceeds the budget.
        """
        from camlib.images import BYTES_PER_PIXEL, MAX_BYTES, decode, size_of

        name, taken = printable(os.fspath(file)), 0
        try:
            with self._turn:  # one thread at a time: two that each wait for the other's memory would wait for ever
                kept = self.forget(file)
                if kept is not None and kept[1].is_of(file):
                    data, (photo, state) = b"", kept
                    height, width = photo.shape[:2]
                else:
                    data, state = read_whole(file, min(MAX_BYTES, self.limit // 2))
                    width, height = size_of(data, name)
                    photo = None
                needed = len(data) + BYTES_PER_PIXEL * width * height
                if needed > self.limit:
                    raise CamError(
                        f"{name}: {width}×{height} pixels need {needed / 1e9:.1f} GB of memory, but --memory allows "
                        f"{self.limit / 1e9:.1f} GB. Scale the picture down, or allow more."
                    )
                self._take(needed)
                taken = needed
            if photo is None:
                photo = decode(data, name, max_pixels=self.limit // BYTES_PER_PIXEL)
            yield photo, state
            if keep:
                self._keep(file, photo, state)
        finally:
            self._give(taken)

    def forget(self, file: str | os.PathLike[str]) -> "tuple[np.ndarray, State] | None":
        """Give up what is kept of a photo. Returns it."""
        with self._change:
            kept = self._kept.pop(os.fspath(file), None)
            if kept is not None:
                self._give(kept[0].nbytes)
            return kept

    def _keep(self, file: str | os.PathLike[str], photo: "np.ndarray", state: State) -> None:
        with self._change:
            self.forget(file)
            if sum(other.nbytes for other, _ in self._kept.values()) + photo.nbytes <= self.limit // 4:
                self._kept[os.fspath(file)] = photo, state
                self._used += photo.nbytes

    def _fits(self, amount: int) -> bool:
        """Whether there is memory for this amount, if need be after giving up kept photos, the latest first."""
        while self._used + amount > self.limit and self._kept:
            self._used -= self._kept.popitem()[1][0].nbytes
        return self._used + amount <= self.limit

    def _take(self, amount: int) -> None:
        with self._change:
            self._change.wait_for(lambda: self._fits(amount))
            self._used += amount

    def _give(self, amount: int) -> None:
        with self._change:
            self._used -= amount
            self._change.notify_all()


# --- explain ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Explained:
    """A photo's evidence without its pixels, which are read again when they are drawn."""

    file: Path
    state: State
    evidence: "Evidence"

    def explanation(self, clf: "Classifier", photo: "np.ndarray") -> "Explanation":
        from camlib.explanation import Explanation

        return Explanation(clf, photo, self.evidence)


@dataclass(frozen=True, eq=False)
class _Ready:
    file: Path
    state: State
    given: "Input"  # without the photo


def explained(
    clf: "Classifier",
    files: Iterable[Path],
    pool: ThreadPoolExecutor,
    method: "Method",
    memory: Memory,
    *,
    view: "Kind" = "crop",
    sizes: int | Sequence[int] | None = None,
    batch: int = 1,
    layer: str | None = None,
) -> "Iterator[Explained | CamError]":
    """Every photo with its evidence, or its error, in order.

    The pool reads and resizes the next two batches while the network works. Only the network's inputs are held.
    """
    from camlib.inputs import prepare

    def ready(file: Path) -> "_Ready | CamError":
        try:
            with memory.photo(file, keep=True) as (photo, state):
                return _Ready(file, state, prepare(clf, photo, view, sizes).without_photo())
        except Exception as e:
            return failure(file, e)

    waiting = ahead(pool, ready, files, 2 * batch)
    while chunk := list(islice(waiting, batch)):
        results = iter(_evidence(clf, [one for one in chunk if isinstance(one, _Ready)], method, layer))
        for one in chunk:
            yield one if isinstance(one, CamError) else next(results)


def _evidence(
    clf: "Classifier", inputs: "list[_Ready]", method: "Method", layer: str | None
) -> "list[Explained | CamError]":
    """Explain the inputs together, or one by one if one of them makes the batch fail."""
    from camlib.evidence import evidence

    if not inputs:
        return []
    try:
        views, tensors = [one.given.views for one in inputs], [one.given.tensors for one in inputs]
        results = evidence(clf, views, tensors, method, layer)
    except Exception as e:
        if len(inputs) == 1:
            return [failure(inputs[0].file, e)]
        return [result for one in inputs for result in _evidence(clf, [one], method, layer)]
    return [Explained(one.file, one.state, result) for one, result in zip(inputs, results, strict=True)]


def failure(file: Path, error: Exception) -> CamError:
    """Turn any exception for one photo into a `CamError` that names the photo; return a `CamError` unchanged."""
    if isinstance(error, CamError):
        return error
    if isinstance(error, MemoryError) or "not enough memory" in str(error) or "out of memory" in str(error):
        reason = "there is not enough free memory for it; scale it down."
    else:
        reason = f"{type(error).__name__}: {first_line(error)}."
    result = CamError(f"{printable(str(file))}: {reason}")
    result.__cause__ = error
    return result
