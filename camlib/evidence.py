"""Compute the evidence for every class in prepared inputs, by any method, in one forward pass.

Training the network further does not change the maps.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from camlib.errors import CamError, CamWarning
from camlib.forward_pass import ForwardPass
from camlib.hooks import Layer, layer_name
from camlib.methods import Method, one_map
from camlib.models import Classifier
from camlib.network import RANDOM, fingerprint
from camlib.views import View

MANY = 20  # classes whose maps take so long that a progress bar is shown


@dataclass(eq=False)
class ClassMaps:
    """The maps (h, w) of one view by class: either all of them, or each computed when it is first needed.

    every: (K, h, w), if the method gives all maps at once. compute: otherwise, a function from class index to map;
    `known` stores the results. A pickle or copy holds no network, so it only has the maps in `known` at that time.
    """

    every: Tensor | None = None
    compute: Callable[[int], Tensor] | None = None
    known: dict[int, Tensor] = field(default_factory=dict)

    def stack(self, indices: Iterable[int]) -> Tensor:
        """(n, h, w): the maps of n classes."""
        from tqdm import tqdm

        indices = list(indices)
        if self.every is not None:
            return self.every[indices]
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
        every = None if self.every is None else self.every.cpu()
        return {"every": every, "compute": None, "known": {k: map_k.cpu() for k, map_k in self.known.items()}}


@dataclass(frozen=True, eq=False)
class ViewResult:
    """The network's results for one view of a photo: the feature map (1, C, h, w), the logits (1, K), and the maps."""

    view: View
    features: Tensor
    logits: Tensor
    maps: ClassMaps


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
) -> list[Evidence]:
    """The evidence for the classes in each photo. views and tensors (1, C, h, w): one or several for each photo.

    Raises `HeadError` if the method is "cam" and the network has no exact map, `LayerError`, `ModelError`.
    """
    if method.name == "cam":
        return _exact(clf, views, tensors, method)
    return [_by_gradients(clf, v, t, method, layer) for v, t in zip(views, tensors, strict=True)]


def _exact(
    clf: Classifier, views: Sequence[Sequence[View]], tensors: Sequence[Sequence[Tensor]], method: Method
) -> list[Evidence]:
    """Runs all inputs of the same size through the network together, unless it mixes the pictures of a batch."""
    inputs = [x for group in tensors for x in group]
    results: list[tuple[Tensor, Tensor, Tensor]] = [(x, x, x) for x in inputs]
    groups = [[n for n, x in enumerate(inputs) if x.shape == size] for size in dict.fromkeys(x.shape for x in inputs)]
    largest = max(groups, key=len, default=[])
    if len(largest) > 1 and clf.places.one_by_one(clf.module, inputs[largest[0]], clf.output):
        groups = [[n] for n in range(len(inputs))]
    for members in groups:
        exact = clf.places.exact(clf.module, torch.cat([inputs[n] for n in members]), clf.probe, clf.output)
        clf.check_scores(exact.logits)
        for row, n in enumerate(members):  # copies, so that one explanation does not hold the whole batch
            rows = slice(row, row + 1)
            results[n] = (exact.features[rows].clone(), exact.logits[rows].clone(), exact.maps[row].clone())
    pieces = iter(results)
    return [
        Evidence(
            method,
            exact.head.layer,
            tuple(_view_result(view, *next(pieces)) for view in group),
            exact.bias,
            exact.head.of_this_photo,
        )
        for group in views
    ]


def _view_result(view: View, features: Tensor, logits: Tensor, maps: Tensor) -> ViewResult:
    return ViewResult(view, features, logits, ClassMaps(every=maps))


def _by_gradients(
    clf: Classifier, views: Sequence[View], tensors: Sequence[Tensor], method: Method, layer: Layer | None
) -> Evidence:
    """Runs one input at a time, because each photo's gradient needs its own graph."""
    results, rests, name, random = [], [], "", False
    for view, x in zip(views, tensors, strict=True):
        ran = clf.places.forward(clf.module, x, layer, clf.output, method.frozen)
        clf.check_scores(ran.graph)
        maps = ClassMaps(compute=_maps_of(ran, method))
        if ran.rest is not None:
            maps.stack([int(ran.scores.argmax())])  # verified now, so that an error does not come later
            rests.append(ran.rest[0].float())
        results.append(ViewResult(view, ran.features, ran.scores, maps))
        name, random = layer_name(ran.layer.layer), random or ran.layer.random
    if random:
        warnings.warn(RANDOM.format(name=clf.name) + " This map is for one seeded draw.", CamWarning, stacklevel=2)
    return Evidence(method, name, tuple(results), torch.stack(rests).mean(0) if rests else None)


def _maps_of(ran: ForwardPass, method: Method) -> Callable[[int], Tensor]:
    """A function from class index to map, for the network as it is now: the graph holds copies of the weights."""
    if method.by_gradient:
        return lambda k: one_map(ran, method, [k])[0].float()
    before = fingerprint(ran.module)  # for methods that run the network again

    def compute(k: int) -> Tensor:
        if fingerprint(ran.module) != before:
            raise CamError(
                f"The network has changed since this explanation was made, and {method.name!r} runs it again for each "
                "class; explain the photo again."
            )
        return one_map(ran, method, [k])[0]

    return compute
