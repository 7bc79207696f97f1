"""The names of the 1000 ImageNet classes, without importing torchvision."""

from functools import cache
from importlib.resources import files


@cache
def imagenet_labels() -> tuple[str, ...]:
    """The labels of the 1000 ImageNet classes by index, in torchvision's wording.

    >>> labels = imagenet_labels()
    >>> len(labels), labels[282]
    (1000, 'tiger cat')
    """
    return tuple(files("camlib").joinpath("imagenet.txt").read_text(encoding="utf-8").splitlines())
