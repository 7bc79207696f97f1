"""Explain any number of photos and write their pictures within a memory budget. A stopped job can be resumed."""

import errno
import math
import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from itertools import compress
from operator import not_
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from camlib.errors import CamError
from camlib.files import printable, write_whole
from camlib.folder import MEMORY, Explained, Memory, ahead, explained, failure
from camlib.journal import InTheWayError, Journal, Row

if TYPE_CHECKING:
    from camlib.explanation import Explanation, Prediction
    from camlib.models import Classifier, Kind

CHANGED = "changed while it was being explained; run this again."
LOST = "it, or a file that was written for it, changed during this run; run this again."
LONGEST_LABEL = 60  # bytes of a class's label in a file name
LONGEST_RECIPE = 60
NO_PIXELS = np.zeros((1, 1, 3), np.uint8)  # in place of a photo, for what is known without it
FIGURE_PIXELS, FIGURE_SIDE = 20e6, 65_000  # at most; a JPEG cannot have longer sides
STOPS: tuple[int, ...] = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
STOPS += (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM)


@dataclass(frozen=True)
class Settings:
    """What to write for each photo, and how. targets: class indices; if there are none, the `top` best classes."""

    out: Path
    model: str = "efficientnet_lite0"
    method: str = "cam"
    layer: str = ""  # the one that camlib finds
    view: "Kind" = "crop"
    sizes: tuple[int, ...] = ()
    targets: tuple[int, ...] = ()
    top: int = 1
    figure: bool = False
    raw: bool = False
    html: bool = False
    batch: int = 1
    workers: int = 4
    memory: int = MEMORY

    @property
    def options(self) -> dict[str, Any]:
        """Everything that decides what is written."""
        from camlib.version import __version__

        names = ("model", "method", "layer", "view", "sizes", "targets", "top", "figure", "raw", "html")
        return {"version": __version__} | {name: getattr(self, name) for name in names}

    @property
    def recipe(self) -> str:
        """The options that change a picture, in the form used in file names; empty for the defaults.

        >>> Settings(Path("maps"), view="whole", top=3).recipe
        'whole-top3'
        """
        usual = Settings(self.out)
        names = ("model", "method", "layer", "view")
        parts = [_slug(getattr(self, name)) for name in names if getattr(self, name) != getattr(usual, name)]
        parts += ["size" + "+".join(map(str, self.sizes))] if self.sizes else []
        if len(self.targets) > 1 or (self.targets and (self.figure or self.raw)):  # they share a scale or a file
            named = "+".join(map(str, sorted(self.targets)))
            digest = blake2b(named.encode(), digest_size=3).hexdigest()
            parts.append(named if len(self.targets) <= 4 else f"{len(self.targets)}classes{digest}")
        elif self.top > 1:
            parts.append(f"top{self.top}")
        recipe = "-".join(parts)
        if len(recipe.encode()) <= LONGEST_RECIPE:
            return recipe
        return f"{_cut(recipe, LONGEST_RECIPE - 9)}-{blake2b(recipe.encode(), digest_size=4).hexdigest()}"


def run(
    clf: "Classifier", photos: Sequence[Path], settings: Settings, journal: Journal, resume: bool = True
) -> Iterator[tuple[Path, list[Row] | CamError]]:
    """Write every photo's files. Yields each photo with the rows of its table, or with its error, in order.

    Reading, the network and writing overlap: threads read the next photos and draw the previous ones. resume: skip the
    photos that the journal knows to be finished.

    Raises `CamError` if the folder cannot be written to, for example because the disk is full.
    """
    from tqdm import tqdm

    from camlib.methods import find_method

    memory = Memory(settings.memory)
    done = [rows is not None for rows in journal.finished(photos)] if resume else [False] * len(photos)
    todo = list(compress(photos, map(not_, done)))
    names = journal.take_names(todo)

    def intend(seen: Explained | CamError) -> Explained | CamError:
        if isinstance(seen, CamError):
            return seen
        try:
            journal.intend(seen.file, _file_names(seen.explanation(clf, NO_PIXELS), names[seen.file], settings))
        except InTheWayError as e:
            return e
        return seen

    def write(seen: Explained | CamError) -> tuple[dict[str, Any], list[Row]] | CamError:
        if isinstance(seen, CamError):
            return seen
        try:
            with memory.photo(seen.file) as (photo, state):
                if state.digest != seen.state.digest:
                    raise CamError(f"{printable(str(seen.file))}: {CHANGED}")
                with stopping():
                    rows = _write(seen.explanation(clf, photo), seen.file, names[seen.file], settings)
                return journal.line(seen.file, state, rows), rows
        except Stop:
            raise
        except Exception as e:
            return failure(seen.file, e)

    quiet = len(photos) < 2 or not sys.stderr.isatty()
    with (
        tqdm(total=len(photos), initial=sum(done), unit="photo", disable=quiet) as bar,
        ThreadPoolExecutor(settings.workers) as readers,
        ThreadPoolExecutor(settings.workers) as writers,
    ):
        options: dict[str, Any] = {"view": settings.view, "sizes": settings.sizes or None, "batch": settings.batch}
        options["layer"] = settings.layer or None
        seen = explained(clf, todo, readers, find_method(settings.method), memory, **options)
        written = ahead(writers, write, map(intend, seen), 2 * settings.workers)
        rows_again = journal.finished(compress(photos, done))  # they are too many to be held
        for photo, finished in zip(photos, done, strict=True):
            if finished:
                yield photo, next(rows_again) or CamError(f"{printable(str(photo))}: {LOST}")
                continue
            result = next(written)
            memory.forget(photo)  # if it could not be explained
            if isinstance(result, CamError):
                yield photo, result
            else:
                line, rows = result
                journal.add(line)
                yield photo, rows
            bar.update()


class Stop(CamError):
    """The folder cannot be written to, so no later photo can be finished either."""


@contextmanager
def stopping() -> Iterator[None]:
    """Raise a `Stop` for an error that says that a file cannot be written, and that no other file can be either."""
    try:
        yield
    except CamError as e:
        if isinstance(e.__cause__, OSError) and e.__cause__.errno in STOPS:
            raise Stop(str(e)) from e.__cause__
        raise


def _write(exp: "Explanation", file: Path, name: str, settings: Settings) -> list[Row]:
    """Write one picture per class, all on one scale. Returns a row of the table for each."""
    out = settings.out
    chosen = _chosen(exp, settings)
    indices = [p.index for p in chosen]
    limit = exp.largest(indices)
    more = {}
    if settings.figure:
        more["figure"] = str(_write_figure(exp, indices, limit, out / f"{name}.figure.jpg"))
    if settings.raw:
        more["raw"] = str(exp.save(out / f"{name}.npz", indices))
    if settings.html:
        more["page"] = str(exp.to_html(out / f"{name}.html", printable(file.name)))
    rows = []
    for p in chosen:
        picture = exp.save(out / picture_name(name, p.index, p.label), p.index, limit)
        cells = exp.map(p.index)
        rest = None if exp.evidence.bias is None else exp.rest(p.index)
        rows.append(row(file, p, (float(cells.min()), float(cells.max())), rest, limit, exp.unit, picture) | more)
    return rows


def row(
    file: Path,
    says: "Prediction",
    ends: tuple[float, float],
    rest: float | None,
    limit: float,
    unit: str,
    picture: Path,
) -> Row:
    """A row of the table. ends: the least and the most evidence in a cell. limit: the value at full colour."""
    probability = None if says.probability is None else round(says.probability, 6)
    found = {"photo": str(file), "index": says.index, "label": says.label, "probability": probability}
    found |= {"logit": round(says.logit, 4), "evidence": [round(end, 4) for end in ends]}
    if rest is not None:
        found["rest"] = round(rest, 4)
    return found | {"scale": round(limit, 4), "unit": unit, "picture": str(picture)}


def _chosen(exp: "Explanation", settings: Settings) -> "list[Prediction]":
    """The classes to draw, the most probable first."""
    if settings.targets:
        return sorted((exp.prediction(k) for k in settings.targets), key=lambda p: -p.logit)
    return exp.top(settings.top)


def _file_names(exp: "Explanation", name: str, settings: Settings) -> list[str]:
    """The names of all files that `_write` writes."""
    ends = [".figure.jpg"] * settings.figure + [".npz", ".npz.json"] * settings.raw + [".html"] * settings.html
    return [picture_name(name, p.index, p.label) for p in _chosen(exp, settings)] + [name + end for end in ends]


def picture_name(name: str, k: int, label: str, suffix: str = ".png") -> str:
    """The file name of a class's picture. name: the photo's in the journal.

    >>> picture_name("cat", 282, "tiger cat")
    'cat.282-tiger-cat.png'
    """
    return f"{name}.{k}-{_slug(label)}{suffix}"


def _write_figure(exp: "Explanation", targets: list[int], limit: float, path: Path) -> Path:
    """Write the figure at twice the resolution, so that it is sharp on high-resolution screens.

    A very tall photo gets a lower resolution; otherwise, a small file could use an unlimited amount of memory.
    """
    from camlib.plot import encode

    figure = exp.plot(targets, limit)
    width, height = (float(inches) for inches in figure.get_size_inches())
    dpi = min(200, math.sqrt(FIGURE_PIXELS / (width * height)), FIGURE_SIDE / max(width, height))
    picture = encode(figure, dpi)
    figure.clear()  # its parts refer to each other, so the photo would stay in memory until the next garbage collection
    return write_whole(path, lambda file: file.write(picture))


def _slug(label: str) -> str:
    return _cut(re.sub(r"\W+", "-", label.lower()).strip("-"), LONGEST_LABEL)


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore")
