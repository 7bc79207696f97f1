"""The one place that decides what can be a target: class indices, labels, tensors of indices; and the class names."""

from collections.abc import Iterable, Mapping, MappingView, Sequence, Set
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from camlib.errors import ModelError, TargetError, near

Target = int | str | Tensor | np.integer
"""One class: an index, a label, or a 0-d tensor or NumPy integer with an index."""

Targets = Target | Sequence[Target]
"""One class or several."""


class Chosen(NamedTuple):
    """Class indices, and whether the caller asked for a single class or a list."""

    indices: list[int]
    single: bool

    def shaped(self, results: Tensor, axis: int = 0) -> Tensor:
        """The results of the classes along an axis; without this axis if the caller asked for a single class."""
        return results.select(axis, 0) if self.single else results

    def each(self, count: int) -> list[int]:
        """One class for each of `count` pictures: a single class for all of them, or a list in their order."""
        if not self.single and len(self.indices) != count:
            raise TargetError(
                f"targets= has {len(self.indices)} classes for {count} images: give one for each, or a single class."
            )
        return self.indices * count if self.single else self.indices


def class_names(labels: Any, count: int | None = None) -> tuple[str, ...]:
    """The names of the classes 0 to count - 1, as strings. count: None takes as many as there are names.

    labels: None (then "class 0", "class 1", …), an ordered collection of names, or a mapping from index to name such as
    Hugging Face's `config.id2label`. These are refused: sets, which have no order; the keys or values of a mapping,
    which come in the order in which it was filled; mappings from name to index, which are the wrong way round; and
    names that are tensors, bytes or collections, such as `torch.arange(5)`.

    Raises `ModelError` if labels does not give one name for each class.

    >>> class_names({1: "dog", 0: "cat"}, 2)
    ('cat', 'dog')
    """
    if labels is None and count is not None:
        return tuple(f"class {k}" for k in range(count))
    if isinstance(labels, Mapping):
        labels = _in_order(labels)
    elif isinstance(labels, MappingView):
        raise ModelError(
            f"labels is {type(labels).__name__}, which is in the order in which a mapping was filled: pass the mapping "
            "itself if it maps indices to names, or a list with the name of class 0 first."
        )
    elif isinstance(labels, Set):
        raise ModelError("labels is a set, which has no order: pass a list with the name of class 0 first.")
    elif isinstance(labels, (str, bytes)) or not isinstance(labels, Iterable) or getattr(labels, "ndim", 1) == 0:
        raise ModelError(f"labels must be a list of names, one for each class; got {labels!r}.")
    labels = list(labels)
    for k, label in enumerate(labels):
        if isinstance(label, (Tensor, np.ndarray, bytes, tuple, list, Mapping, Set)):
            raise ModelError(
                f"labels has {label!r} ({type(label).__name__}) as the name of class {k}: pass a list of strings."
            )
    names = tuple(str(label) for label in labels)
    if count is not None and len(names) != count:
        raise ModelError(f"{len(names)} labels for a network with {count} output{'s' * (count != 1)}.")
    return names


def _in_order(labels: Mapping[Any, Any]) -> list[Any]:
    """The names of an index → name mapping, by index."""
    try:
        names = {int(key): name for key, name in labels.items()}  # JSON turns the keys into strings
    except (TypeError, ValueError):
        names = {}
    if sorted(names) == list(range(len(labels))):
        return [names[k] for k in range(len(names))]
    if all(isinstance(value, Integral) for value in labels.values()):
        raise ModelError(
            "labels maps names to indices; pass the names in the order of the indices: "
            "labels=sorted(class_to_idx, key=class_to_idx.get)."
        )
    raise ModelError(f"labels as a mapping needs the keys 0 to {len(labels) - 1}; got {list(labels)[:5]}.")


def class_index(target: Any, count: int, labels: Sequence[str] = (), name: str = "this network") -> int:
    """The index of one class, from 0 to count - 1.

    target: an index (int, NumPy integer, 0-d tensor or array) or, if there are labels, a label in upper or lower case.
    name: the network's name in errors.

    Raises `TargetError` for anything else, and suggests similar labels.

    >>> class_index("DOG", 2, ["cat", "dog"])
    1
    """
    if isinstance(target, str):
        return _labelled(target, labels, name)
    if isinstance(target, (Tensor, np.ndarray)):
        if target.ndim or str(target.dtype).split(".")[-1].rstrip("0123456789") not in ("int", "uint"):
            what = f"{type(target).__name__} of shape {tuple(target.shape)} and type {target.dtype}"
            raise TargetError(f"A target is one class index, or a list of them; got a {what}.")
        target = int(target)
    if isinstance(target, (bool, np.bool_)) or not isinstance(target, Integral):
        kinds = "a class index or a label" if labels else "a class index"
        raise TargetError(f"A target is {kinds}, not {target!r} ({type(target).__name__}).")
    if not 0 <= int(target) < count:
        raise TargetError(f"No class {target}: {name} has {count} class{'es' * (count != 1)}, 0 to {count - 1}.")
    return int(target)


def _labelled(label: str, labels: Sequence[str], name: str) -> int:
    if not labels:
        raise TargetError(f"{label!r} is a label, but only class indices work here; only a Classifier knows labels.")
    exact = [k for k, known in enumerate(labels) if known == label]
    hits = exact or [k for k, known in enumerate(labels) if known.lower() == label.strip().lower()]
    if len(hits) == 1:
        return hits[0]
    if hits:
        raise TargetError(f"{label!r} is the label of the classes {hits}; give one of these indices.")
    hint = near(label.strip(), labels) or f" Examples: {', '.join(labels[:5])}."
    raise TargetError(f"{name} has no class {label!r}.{hint}")


def choose(targets: Any, count: int, labels: Sequence[str] = (), name: str = "this network") -> Chosen:
    """Convert one or several targets to class indices.

    targets: what `class_index` takes, or a list, tuple, 1-d tensor or array of these.

    >>> choose(["dog", 0], 2, ["cat", "dog"])
    Chosen(indices=[1, 0], single=False)
    """
    if isinstance(targets, Set):
        raise TargetError(f"The targets are a {type(targets).__name__}, which has no order: pass a list.")
    several = isinstance(targets, Iterable) and not isinstance(targets, (str, bytes, Mapping))
    if not several or getattr(targets, "ndim", 1) == 0:
        return Chosen([class_index(targets, count, labels, name)], True)
    indices = [class_index(target, count, labels, name) for target in targets]
    if not indices:
        raise TargetError("No targets: give at least one class.")
    return Chosen(indices, False)


def choose_for_batch(targets: Any, count: int, batch: int) -> tuple[list[list[int]], bool]:
    """Class indices for each picture of a batch: (T lists of B indices, whether to leave out the T axis).

    targets: one class for all pictures, a list of T classes for all pictures, or a tensor or array (B,) with one class
    for each picture.

    >>> import torch
    >>> choose_for_batch([4, 1], 5, batch=3)
    ([[4, 4, 4], [1, 1, 1]], False)
    >>> choose_for_batch(torch.tensor([4, 1, 0]), 5, batch=3)
    ([[4, 1, 0]], True)
    """
    if isinstance(targets, (Tensor, np.ndarray)) and targets.ndim == 1:
        if len(targets) != batch:
            raise TargetError(
                f"A tensor of targets has one class for each picture: got {len(targets)} for a batch of {batch}. "
                "To explain several classes for every picture, pass a list."
            )
        return [[class_index(target, count) for target in targets]], True
    indices, single = choose(targets, count)
    return [[k] * batch for k in indices], single
