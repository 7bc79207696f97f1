"""The errors and warnings of camlib. Each says what is wrong, where, and what to do about it."""

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from importlib import import_module
from typing import Any

LONGEST = 200  # the most characters of another library's message that we quote


class CamError(ValueError):
    """Base class of every error that camlib raises for bad input."""


class ImageError(CamError):
    """The picture or prepared input cannot be read or used."""


class ModelError(CamError):
    """The network cannot be loaded or run, or does not fit its description."""


class HeadError(CamError):
    """The network has no exact class activation map."""


class TargetError(CamError):
    """There is no such class."""


class LayerError(CamError):
    """There is no such layer, or its output is not a feature map of the photo."""


class CamWarning(UserWarning):
    """The result is right, but rests on an assumption that you should know about."""


def near(word: str, words: Iterable[str]) -> str:
    """A hint with the closest known words, or an empty string.

    >>> near("conv_haed", ["conv_stem", "conv_head"])
    ' Did you mean: conv_head, conv_stem?'
    >>> near("zebra", ["conv_head"])
    ''
    """
    known = {w.lower(): w for w in words}
    word = word.lower()
    as_word = [w for w in known if word in w.split()]
    close = get_close_matches(word, known, n=4, cutoff=0.5)
    inside = [w for w in known if len(word) > 2 and word in w]
    hits = list(dict.fromkeys(known[w] for w in [*as_word[:5], *close, *inside]))[:5]
    return f" Did you mean: {', '.join(hits)}?" if hits else ""


def optional(module: str, what: str, extra: str = "") -> Any:
    """Import a module of an optional package. If it is not installed, a `CamError` says how to install it.

    extra: the extra of camlib that brings the package, if there is one.

    >>> optional("no_such.module", "camlib.draw")
    Traceback (most recent call last):
        ...
    camlib.errors.CamError: camlib.draw needs the package no_such. Run: pip install no_such
    >>> optional("no_such", "camlib.draw", extra="draw")
    Traceback (most recent call last):
        ...
    camlib.errors.CamError: camlib.draw needs the package no_such (camlib's extra "draw"). Run: pip install no_such
    """
    try:
        return import_module(module)
    except ImportError as e:
        package = module.partition(".")[0]
        of = f' (camlib\'s extra "{extra}")' if extra else ""
        raise CamError(f"{what} needs the package {package}{of}. Run: pip install {package}") from e


def reason(error: BaseException) -> str:
    """Why something failed: the system's own words for an OSError, otherwise the error's text or type.

    >>> reason(FileNotFoundError(2, "No such file or directory", "a.txt"))
    'No such file or directory'
    """
    return str(getattr(error, "strerror", None) or error or type(error).__name__).rstrip(".")


def first_line(error: BaseException) -> str:
    """The first line of why something failed, see `reason`, cut if it is long.

    >>> first_line(RuntimeError("broken\\nin many ways"))
    'broken'
    """
    lines = reason(error).partition(" Hint:")[0].splitlines()
    line = lines[0].rstrip(".") if lines else type(error).__name__
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def twice(restore: Callable[[], None]) -> None:
    """Call a function that restores something, and once more if an exception, such as Ctrl-C, comes in between."""
    try:
        restore()
    except BaseException:
        restore()
        raise
