"""The errors that a person can cause. Each says what was found and what to do."""

from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Integral


class CamError(ValueError):
    """Base of every error that camlib raises for bad input."""


class ImageError(CamError):
    """The picture cannot be read or used."""


class ModelError(CamError):
    """The network cannot be loaded, or does not fit what was said about it."""


class HeadError(CamError):
    """The network has no exact class activation map."""


class TargetError(CamError):
    """No such class."""


class LayerError(CamError):
    """No such layer, or one whose output is not a tensor."""


def check_index(k: object, classes: int) -> int:
    """k, if it is the index of one of so many classes; else a `TargetError`.

    >>> check_index(2, 3)
    2
    """
    if isinstance(k, bool) or not isinstance(k, Integral) or not 0 <= int(k) < classes:
        raise TargetError(f"A target is a class index from 0 to {classes - 1}; got {k!r}.")
    return int(k)


def near(word: str, words: Iterable[str]) -> str:
    """A hint with the closest known words, or nothing.

    >>> near("conv_haed", ["conv_stem", "conv_head"])
    ' Did you mean: conv_head, conv_stem?'
    >>> near("zebra", ["conv_head"])
    ''
    """
    lower = {w.lower(): w for w in words}
    word = word.lower()
    whole = [w for w in lower if word in w.split()]
    close = get_close_matches(word, lower, n=4, cutoff=0.5)
    inside = [w for w in lower if len(word) > 2 and word in w]
    found = list(dict.fromkeys(lower[w] for w in [*whole[:5], *close, *inside]))[:5]
    return f" Did you mean: {', '.join(found)}?" if found else ""
