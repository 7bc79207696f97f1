"""Write clips with the evidence for a class on every frame: on one scale, in little memory, whole or not at all."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from camlib.errors import CamError, reason
from camlib.files import printable, state_of
from camlib.folder import ahead, failure
from camlib.images import BYTES_PER_PIXEL
from camlib.job import CHANGED, NO_PIXELS, Settings, Stop, picture_name, row, stopping
from camlib.journal import Journal, Row
from camlib.video import LARGEST_FILE, Clip, Frame, write_clip

if TYPE_CHECKING:
    from camlib.explanation import Explanation
    from camlib.inputs import Input
    from camlib.models import Classifier
    from camlib.views import View


def run_clips(
    clf: "Classifier",
    clips: Sequence[Path],
    settings: Settings,
    journal: Journal,
    gif: bool = False,
    redo: bool = False,
) -> Iterator[tuple[Path, list[Row] | CamError]]:
    """Write each clip with the evidence for its classes. Yields each with the rows of its table, or with its error.

    The classes are `settings.targets` or, without them, those with the largest mean logit over all frames. Full colour
    is the largest evidence for any of them in any frame, so there is one scale. The clip is read once to find the best
    classes, unless they are given; once for the maps and the scale; and once to draw each class. The maps wait in a
    temporary file, so memory does not grow with the length of the clip.

    redo: do not skip the clips that the journal knows to be finished. Raises `CamError` if the folder cannot be written
    to.
    """
    names, suffix = journal.take_names(clips), ".gif" if gif else ".mp4"
    for file in clips:
        rows = None if redo else journal.rows(file)
        if rows is not None:
            yield file, rows
            continue
        try:
            state = state_of(file, LARGEST_FILE)
            work = _Work(clf, file, settings)
            paths = {k: settings.out / picture_name(names[file], k, clf.labels[k], suffix) for k in work.classes()}
            journal.intend(file, [path.name for path in paths.values()])
            with stopping():
                rows = work.write(paths)
            if not state.is_of(file):
                raise CamError(f"{printable(str(file))}: {CHANGED}")
            line = journal.line(file, state, rows)
        except Stop:
            raise
        except Exception as e:
            yield file, failure(file, e)
        else:
            journal.add(line)
            yield file, rows


@dataclass(eq=False)
class _Totals:
    """What is known of the frames so far, for n classes."""

    views: "tuple[View, ...]" = ()
    shapes: tuple[tuple[int, ...], ...] = ()  # of each view's maps (n, h, w)
    unit: str = ""
    count: int = 0
    limit: float = 0.0  # the largest evidence on a frame
    logits: np.ndarray = field(default_factory=lambda: np.zeros(1))  # (K,): their sum
    rests: np.ndarray | None = field(default_factory=lambda: np.zeros(1))  # (n,): their sum, if the method has any
    low: np.ndarray = field(default_factory=lambda: np.array(np.inf))  # (n,): the least evidence in a cell
    high: np.ndarray = field(default_factory=lambda: np.array(-np.inf))  # (n,): the most

    def add(self, exp: "Explanation", classes: list[int]) -> bytes:
        """Take a frame into account. Returns the maps of its classes."""
        maps = [r.maps.stack(classes).float().cpu().numpy() for r in exp.results]
        cells, bias = exp.map(classes).cpu().numpy(), exp.evidence.bias
        self.views, self.shapes = tuple(r.view for r in exp.results), tuple(m.shape for m in maps)
        self.unit, self.count, self.limit = exp.unit, self.count + 1, max(self.limit, exp.largest(classes))
        self.logits = self.logits + exp.logits.cpu().numpy()
        self.rests = None if bias is None or self.rests is None else self.rests + bias[classes].cpu().numpy()
        self.low, self.high = np.minimum(self.low, cells.min((1, 2))), np.maximum(self.high, cells.max((1, 2)))
        return b"".join(m.tobytes() for m in maps)


@dataclass(eq=False)
class _Work:
    """What is done for one clip."""

    clf: "Classifier"
    file: Path
    settings: Settings

    def __post_init__(self) -> None:
        self.clip = Clip(self.file)
        self.declared = self.clip.declared()
        width, height = self.declared.size
        needed, allowed = BYTES_PER_PIXEL * width * height, self.settings.memory
        self.most = allowed // needed  # frames in memory
        if not self.most:
            raise CamError(
                f"{printable(str(self.file))}: frames of {width}×{height} pixels need {needed / 1e9:.1f} GB of memory, "
                f"but --memory allows {allowed / 1e9:.1f} GB. Scale the clip down, or allow more."
            )

    def classes(self) -> list[int]:
        """The classes to draw."""
        if self.settings.targets:
            return list(self.settings.targets)
        total = reduce(np.add, (exp.logits.cpu().numpy() for exp in self._explained("best class")))
        return np.argsort(-total, kind="stable")[: self.settings.top].tolist()

    def write(self, paths: Mapping[int, Path]) -> list[Row]:
        """Write the clip of each class. Returns a row of the table for each, the best first."""
        import torch

        from camlib.explanation import Prediction
        from camlib.outputs import probabilities

        classes, totals = list(paths), _Totals()
        try:
            with TemporaryFile() as store:
                for exp in self._explained("maps"):
                    store.write(totals.add(exp, classes))
                for n, path in enumerate(paths.values()):
                    self._draw(path, store, totals, n)
        except OSError as e:
            raise CamError(
                f"{printable(str(self.file))}: its maps cannot be written to the system's folder for temporary files "
                f"({reason(e)}). Set TMPDIR to another folder."
            ) from e
        logits = totals.logits / totals.count
        all_probabilities = probabilities(torch.from_numpy(logits), self.clf.activation)
        rows = []
        for n in sorted(range(len(classes)), key=lambda n: -logits[classes[n]]):
            k = classes[n]
            p = None if all_probabilities is None else float(all_probabilities[k])
            rest = None if totals.rests is None else float(totals.rests[n]) / totals.count
            ends = float(totals.low[n]), float(totals.high[n])
            says = Prediction(k, self.clf.labels[k], p, float(logits[k]))
            rows.append(
                row(self.file, says, ends, rest, totals.limit, totals.unit, paths[k]) | {"frames": totals.count}
            )
        return rows

    def _draw(self, path: Path, store: BinaryIO, totals: _Totals, n: int) -> None:
        """Write the clip of the n-th class."""
        import torch

        from camlib.plot import overlay
        from camlib.views import place

        def drawn(frame_and_maps: tuple[Frame, bytes]) -> Frame:
            frame, maps = frame_and_maps
            values, placed = np.frombuffer(maps, np.float32), []
            for view, shape in zip(totals.views, totals.shapes, strict=True):
                own, values = np.split(values, [int(np.prod(shape))])
                placed.append(place(torch.from_numpy(own.reshape(shape)[n].copy()), view))
            return replace(frame, picture=overlay(frame.picture, torch.stack(placed).mean(0), totals.limit))

        size = sum(4 * int(np.prod(shape)) for shape in totals.shapes)
        store.seek(0)
        maps = iter(lambda: store.read(size), b"")
        with ThreadPoolExecutor(self.settings.workers) as pool:
            pairs = zip(self._frames("drawing"), maps, strict=True)
            write_clip(path, ahead(pool, drawn, pairs, self._depth(2 * self.settings.workers)), self.declared.rate)

    def _explained(self, what: str) -> "Iterator[Explanation]":
        """The explanation of each frame, without its picture."""
        from camlib.evidence import evidence
        from camlib.explanation import Explanation
        from camlib.inputs import prepare
        from camlib.methods import find_method

        settings, method = self.settings, find_method(self.settings.method)

        def ready(frame: Frame) -> "Input":
            return prepare(self.clf, frame.picture, settings.view, settings.sizes or None).without_photo()

        with ThreadPoolExecutor(settings.workers) as pool:
            inputs = ahead(pool, ready, self._frames(what), self._depth(2 * settings.batch))
            while chunk := list(islice(inputs, settings.batch)):
                views, tensors = [one.views for one in chunk], [one.tensors for one in chunk]
                for result in evidence(self.clf, views, tensors, method, settings.layer or None):
                    yield Explanation(self.clf, NO_PIXELS, result)

    def _frames(self, what: str) -> Iterator[Frame]:
        """The frames, with a progress bar."""
        from tqdm import tqdm

        total, quiet = self.declared.total, not sys.stderr.isatty()
        return iter(tqdm(self.clip.frames(), what, total, leave=False, unit="frame", disable=quiet))

    def _depth(self, wanted: int) -> int:
        """How many frames to work on at once, within the memory."""
        return min(wanted, self.most)
