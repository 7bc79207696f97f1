"""Compute the evidence for every class in prepared inputs, by any method, in one forward pass.

Training the network further does not change the maps.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from threading import Lock
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from camlib.errors import CamError, CamWarning
from camlib.forward_pass import ForwardPass
from camlib.hooks import Layer, layer_name
from camlib.methods import Method, one_map
from camlib.models import Classifier
from camlib.network import RANDOM, fingerprint
from camlib.views import View

TOGETHER = 16  # photos that share a graph, at most: it stays in memory as long as one of their explanations
RANKS = 10  # classes of a photo for which the classes of the same rank are computed for the others
MANY = 20  # classes whose maps take so long that a progress bar is shown


class ExactMaps:
    """The maps (h, w) of one view by class for the method "cam": weights times features, computed when needed.

    weight (K, C): shared by all explanations of a network until it changes. A pickle or copy holds the maps instead.
    """

    def __init__(self, features: Tensor, weight: Tensor) -> None:
        self.features, self.weight = features, weight

    @cached_property
    def every(self) -> Tensor:
        """(K, h, w): the maps of all classes."""
        with torch.autocast(self.features.device.type, enabled=False):
            maps = F.linear(self.features[0].flatten(1).T, self.weight.float())  # for many classes, faster than einsum
            return maps.T.contiguous().unflatten(1, self.features.shape[2:])

    def stack(self, indices: Iterable[int]) -> Tensor:
        """(n, h, w): the maps of n classes."""
        indices = list(indices)
        if "every" in vars(self):
            return self.every[indices]
        with torch.autocast(self.features.device.type, enabled=False):
            maps = self.weight[indices].float() @ self.features[0].flatten(1)  # for few classes, faster than einsum
            return maps.unflatten(1, self.features.shape[2:])

    def __getstate__(self) -> dict[str, object]:
        return {"every": self.every.cpu()}


@dataclass(eq=False)
class ClassMaps:
    """The maps (h, w) of one view by class, each computed when it is first needed.

    compute: a function from class index to map; `known` stores the results. count: how many classes there are. A pickle
    or copy holds no network, so it only has the maps in `known` at that time.
    """

    compute: Callable[[int], Tensor] | None
    count: int
    known: dict[int, Tensor] = field(default_factory=dict)

    @property
    def every(self) -> Tensor:
        """(K, h, w): the maps of all classes."""
        return self.stack(range(self.count))

    def stack(self, indices: Iterable[int]) -> Tensor:
        """(n, h, w): the maps of n classes."""
        from tqdm import tqdm

        indices = list(indices)
        missing = [k for k in dict.fromkeys(indices) if k not in self.known]
        for k in tqdm(missing, unit="class", disable=len(missing) < MANY, leave=False):
            self.known[k] = self._computed(k)
        return torch.stack([self.known[k] for k in indices])

    def _computed(self, k: int) -> Tensor:
        if self.compute is None:
            raise CamError(
                "This explanation is a copy, or was loaded from a file: it holds no network, and only the maps of the "
                f"classes {sorted(self.known)}. Explain the photo again for another class."
            )
        grad = torch.is_grad_enabled()
        try:
            return self.compute(k)
        finally:
            torch.set_grad_enabled(grad)  # an exception such as Ctrl-C may have come while torch.enable_grad() ended

    def __getstate__(self) -> dict[str, object]:
        known = {k: map_k.cpu() for k, map_k in self.known.items()}
        return {"compute": None, "count": self.count, "known": known}


@dataclass(frozen=True, eq=False)
class ViewResult:
    """The network's results for one view of a photo: the feature map (1, C, h, w), the logits (1, K), and the maps."""

    view: View
    features: Tensor
    logits: Tensor
    maps: ExactMaps | ClassMaps


@dataclass(frozen=True, eq=False)
class Evidence:
    """The results of the views of one photo by one method."""

    method: Method
    layer: str
    results: tuple[ViewResult, ...]
    bias: Tensor | None  # (K,): the rest of each logit beyond the mean of its map; None where no identity holds
    of_this_photo: bool = False  # whether the unit of the maps holds for this photo only


def evidence(
    clf: Classifier,
    views: Sequence[Sequence[View]],
    tensors: Sequence[Sequence[Tensor]],
    method: Method,
    layer: Layer | None = None,
    targets: Sequence[int] | None = None,
) -> list[Evidence]:
    """The evidence for the classes in each photo. views and tensors (1, C, h, w): one or several for each photo.

    targets: the class of each photo whose map is needed first, see `_Batch`; None for its best class.

    Raises `HeadError` if the method is "cam" and the network has no exact map, `LayerError`, `ModelError`.
    """
    inputs = [x for group in tensors for x in group]
    first = None if targets is None else [k for k, group in zip(targets, tensors, strict=True) for _ in group]
    parts: dict[int, _Part] = {}
    for members in _batches(clf, inputs, method, layer):
        x = inputs[members[0]] if len(members) == 1 else torch.cat([inputs[n] for n in members])
        wanted = None if first is None else [first[n] for n in members]
        found = _exact(clf, x) if method.name == "cam" else _by_gradients(clf, x, method, layer, wanted)
        parts.update(zip(members, found, strict=True))
    if any(part.random for part in parts.values()):
        warnings.warn(RANDOM.format(name=clf.name) + " This map is for one seeded draw.", CamWarning, stacklevel=2)
    in_order = iter(parts[n] for n in range(len(inputs)))
    return [_joined(method, group, [next(in_order) for _ in group]) for group in views]


class _Part(NamedTuple):
    """What the network gives for one input: see `ViewResult` and `Evidence`."""

    features: Tensor
    logits: Tensor
    maps: ExactMaps | ClassMaps
    rest: Tensor | None
    layer: str
    of_this_photo: bool = False
    random: bool = False


def _joined(method: Method, views: Sequence[View], parts: list[_Part]) -> Evidence:
    results = tuple(ViewResult(v, p.features, p.logits, p.maps) for v, p in zip(views, parts, strict=True))
    rests = [p.rest for p in parts if p.rest is not None]
    rest = torch.stack(rests).mean(0) if len(rests) > 1 else next(iter(rests), None)
    return Evidence(method, parts[-1].layer, results, rest, parts[-1].of_this_photo)


def _batches(clf: Classifier, inputs: list[Tensor], method: Method, layer: Layer | None) -> list[list[int]]:
    """Which inputs go through the network together: those of the same size, unless it mixes the pictures of a batch.

    For gradients, at most `TOGETHER`, because they share a graph, and only if little of the network lies behind the
    layer: a map of a class that no other photo needs takes a backward pass of the whole batch.
    """
    same = [[n for n, x in enumerate(inputs) if x.shape == size] for size in dict.fromkeys(x.shape for x in inputs)]
    x = inputs[max(same, key=len)[0]] if len(same) < len(inputs) else None
    if x is None or clf.places.one_by_one(clf.module, x, clf.output):
        return [[n] for n in range(len(inputs))]
    if method.name == "cam":
        return same
    few = method.by_gradient and clf.places.near(clf.module, x, layer, clf.output, method.frozen)
    size = TOGETHER if few else 1
    return [members[n : n + size] for members in same for n in range(0, len(members), size)]


def _rows(batch: Tensor) -> list[Tensor]:
    """Each picture's part of a batch, (1, …): copies, so that one explanation does not hold the whole batch."""
    return [batch] if len(batch) == 1 else [row.clone() for row in batch.split(1)]


def _exact(clf: Classifier, x: Tensor) -> list[_Part]:
    exact = clf.places.exact(clf.module, x, clf.probe, clf.output)
    clf.check_scores(exact.logits)
    head = exact.head
    bias = head.bias.float()
    return [
        _Part(features, logits, ExactMaps(features, head.weight), bias, head.layer, head.of_this_photo)
        for features, logits in zip(_rows(exact.features), _rows(exact.logits), strict=True)
    ]


def _by_gradients(
    clf: Classifier, x: Tensor, method: Method, layer: Layer | None, targets: list[int] | None
) -> list[_Part]:
    ran = clf.places.forward(clf.module, x, layer, clf.output, method.frozen)
    clf.check_scores(ran.graph)
    count, name = ran.graph.shape[1], layer_name(ran.layer.layer)
    targets = ran.scores.argmax(1).tolist() if targets is None else targets
    maps = [ClassMaps(compute, count) for compute in _maps_of(ran, method, targets)]
    rests = [None] * len(x) if ran.rest is None else [rest[0].float() for rest in _rows(ran.rest)]
    if ran.rest is not None:
        for own, k in zip(maps, targets, strict=True):
            own.stack([k])  # verified now, so that an error does not come later
    return [
        _Part(features, logits, own, rest, name, random=ran.layer.random)
        for features, logits, own, rest in zip(_rows(ran.features), _rows(ran.scores), maps, rests, strict=True)
    ]


def _maps_of(ran: ForwardPass, method: Method, targets: list[int]) -> list[Callable[[int], Tensor]]:
    """For each picture, a function from class index to map, for the network as it is now: the graph holds copies of the
    weights.
    """
    if method.by_gradient:
        batch = _Batch(ran, method, targets)
        return [partial(batch.map, n) for n in range(len(ran.x))]
    before = fingerprint(ran.module)  # for methods that run the network again

    def compute(k: int) -> Tensor:
        if fingerprint(ran.module) != before:
            raise CamError(
                f"The network has changed since this explanation was made, and {method.name!r} runs it again for each "
                "class; explain the photo again."
            )
        return one_map(ran, method, [k])[0]

    return [compute]


class _Batch:
    """The maps of the photos of one forward pass, by a method with gradients.

    A backward pass gives the gradient of one class for each photo. So when a photo needs a class, the others get the
    map that they will probably need: that of their own target, or of their class of the same rank, such as the second
    best, or else of the same class.
    """

    def __init__(self, ran: ForwardPass, method: Method, targets: list[int]) -> None:
        self.ran, self.method, self.lock = ran, method, Lock()
        self.ready: list[dict[int, Tensor | Exception]] = [{} for _ in ran.x]  # by class, for each photo
        self.missed: set[int] = set()  # photos that needed another class than the one that was ready
        best = ran.scores.argsort(dim=1, descending=True, stable=True)[:, :RANKS].tolist()
        self.ranked = [[k, *ranked] for k, ranked in zip(targets, best, strict=True)]

    def map(self, n: int, k: int) -> Tensor:
        """(h, w): the map of class k for photo n."""
        with self.lock:
            if k not in self.ready[n]:
                if self.ready[n]:
                    self.missed.add(n)
                self._compute(n, k)
            result = self.ready[n].pop(k)
        if isinstance(result, Exception):
            raise result
        return result

    def _compute(self, n: int, k: int) -> None:
        classes, photos = [k] * len(self.ready), range(len(self.ready))
        if n not in self.missed and k in self.ranked[n]:
            rank = self.ranked[n].index(k)
            classes = [ranked[rank] for ranked in self.ranked]
        elif self.missed - {n}:
            photos = range(n, n + 1)  # each photo needs another class
        gradient = self.ran.raw_gradient(classes)
        for m in photos:
            try:  # each photo alone: a formula may look at the whole batch, and an error is that of its photo
                maps = one_map(self.ran.photo(m, gradient), self.method, [classes[m]])
                self.ready[m][classes[m]] = maps[0].float()
            except Exception as e:
                self.ready[m][classes[m]] = e
