"""A folder with any number of photos: finds the files, names the results, reads ahead, and skips finished photos."""

import json
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from camlib.errors import CamError

if TYPE_CHECKING:
    from camlib.explanation import Explanation
    from camlib.inputs import Input
    from camlib.methods import Method
    from camlib.models import Classifier, Kind

LONGEST_STEM = 120  # characters: file names have at most 255 bytes, and the class follows the stem

Item = TypeVar("Item")
Result = TypeVar("Result")


def find_photos(paths: Sequence[Path], out: Path) -> list[Path]:
    """The given picture files and those inside the given folders, except in `out`, each listed once, in order."""
    from camlib.images import SUFFIXES

    photos: dict[Path, None] = {}
    for path in paths:
        inside = [path]
        if os.path.isdir(path):  # Path.is_dir raises for a name that is too long
            pictures = (f for f in path.rglob("*") if f.suffix.lower() in SUFFIXES and os.path.isfile(f))
            inside = sorted(f for f in pictures if out.resolve() not in f.resolve().parents)
            if not inside:
                raise CamError(f"{path}: no picture files in this folder ({', '.join(SUFFIXES)}).")
        photos |= dict.fromkeys(inside)
    return list(photos)


def stems(files: Sequence[Path]) -> dict[Path, str]:
    """A unique name for each photo's pictures: its stem or, if taken, its file name, path, or a numbered name."""
    names = {f: f.stem for f in files}
    for longer in (lambda f: f.name, lambda f: "-".join(part for part in f.parts if part != f.anchor)):
        taken = Counter(names.values())
        names = {f: longer(f) if taken[name] > 1 else name for f, name in names.items()}
    used: Counter[str] = Counter()
    for f, name in names.items():
        short = name[:LONGEST_STEM]
        used[short] += 1
        names[f] = short if used[short] == 1 else f"{short}~{used[short]}"
    return names


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


def explained(
    clf: "Classifier",
    files: Iterable[Path],
    pool: ThreadPoolExecutor,
    method: "Method",
    *,
    view: "Kind" = "crop",
    sizes: int | Sequence[int] | None = None,
    batch: int = 8,
) -> "Iterator[tuple[Path, Explanation | CamError]]":
    """Every photo with its explanation, or with its error, in order.

    The pool decodes and resizes the next two batches while the network works; no more than that is held in memory.
    """
    from camlib.inputs import prepare

    def ready(file: Path) -> "tuple[Path, Input | CamError]":
        try:
            return file, prepare(clf, file, view, sizes)
        except CamError as e:
            return file, e

    waiting = ahead(pool, ready, files, 2 * batch)
    while chunk := list(islice(waiting, batch)):
        explanations = iter(_explained(clf, [given for _, given in chunk if not isinstance(given, CamError)], method))
        for file, given in chunk:
            yield file, given if isinstance(given, CamError) else next(explanations)


def _explained(clf: "Classifier", inputs: "list[Input]", method: "Method") -> "list[Explanation | CamError]":
    """Explain the inputs together, or one by one if one of them makes the batch fail."""
    from camlib.pipeline import explain_prepared

    try:
        return list(explain_prepared(clf, inputs, method))
    except CamError as e:
        return [e] if len(inputs) == 1 else [result for given in inputs for result in _explained(clf, [given], method)]


class Journal:
    """Records finished photos, with a line of JSON for each, so that an interrupted job can resume.

    A photo counts as finished if its line is complete, the options are the same, the photo's file has not changed, and
    every picture and page named in the line still exists. Each shard writes its own journal, and reads all of them.
    """

    def __init__(self, folder: Path, options: dict[str, Any], shard: str = "") -> None:
        self.path = folder / (f"camlib.{shard}.jsonl" if shard else "camlib.jsonl")
        self.options = json.loads(json.dumps(options))
        self._done: dict[str, dict[str, Any]] = {}
        for file in sorted(folder.glob("camlib*.jsonl")):
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    entry = json.loads(line)
                    self._done[entry["photo"]] = entry
                except (ValueError, KeyError, TypeError):
                    continue  # a line cut off when the job was stopped

    def rows(self, photo: Path) -> list[dict[str, Any]] | None:
        """The rows of a finished photo; None if it is not finished."""
        entry = self._done.get(str(photo))
        if not entry or entry.get("options") != self.options or entry.get("state") != _state(photo):
            return None
        rows = entry.get("rows", [])
        written = [row[kind] for row in rows for kind in ("picture", "figure", "raw", "page") if kind in row]
        return rows if all(Path(path).is_file() for path in written) else None

    def add(self, photo: Path, rows: list[dict[str, Any]]) -> None:
        """Record a photo as finished. Call this after its pictures are written."""
        entry = {"photo": str(photo), "state": _state(photo), "options": self.options, "rows": rows}
        line = json.dumps(entry, ensure_ascii=False) + "\n"
        try:
            with open(self.path, "ab") as file:
                file.write(line.encode("utf-8", errors="backslashreplace"))
        except OSError as e:
            raise CamError(f"{self.path}: cannot be written ({e.strerror or e}).") from e


def _state(photo: Path) -> list[int]:
    try:
        state = photo.stat()
    except (OSError, ValueError):
        return []
    return [state.st_size, state.st_mtime_ns]
