"""What every exercise uses: a photo and a pair of classes of one's own, chosen by one's name."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
PLACES = (HERE / "photos", HERE.parent.parent / "data" / "photos")  # handed out with the exercise; in the repository

# The photos, and classes for which the network finds something in them.
CLASSES = {
    "cat.jpg": ("tiger cat", "Egyptian cat", "tabby", "lynx"),
    "china.jpg": ("palace", "bell cote", "monastery", "boathouse"),
    "crocodile.webp": ("African crocodile", "Komodo dragon", "American alligator", "common iguana"),
    "grace_hopper.jpg": ("academic gown", "mortarboard", "military uniform", "vestment"),
    "panda.webp": ("giant panda", "lesser panda", "ice bear", "brown bear"),
    "rocket.jpg": ("missile", "projectile", "drilling platform", "space shuttle"),
}


@dataclass(frozen=True)
class Variant:
    """What one student works on: a photo's path, two labels, and a seed for random numbers."""

    photo: str
    a: str
    b: str
    seed: int


def variant(name: str) -> Variant:
    """The variant of a name. Case and outer spaces do not matter; without a name, everyone's is the same.

    >>> variant("Ada") == variant(" ada ")
    True
    """
    digest = hashlib.sha256(" ".join(name.lower().split()).encode()).digest()
    photo = sorted(CLASSES)[digest[0] % len(CLASSES)]
    labels = CLASSES[photo]
    a = digest[1] % len(labels)
    b = (a + 1 + digest[2] % (len(labels) - 1)) % len(labels)
    return Variant(photo_path(photo), labels[a], labels[b], int.from_bytes(digest[3:6], "big"))


def photo_path(name: str) -> str:
    """Where a photo lies: beside the exercise, or in the repository."""
    for place in PLACES:
        if (place / name).is_file():
            return str(place / name)
    raise FileNotFoundError(f"{name} is neither in {PLACES[0]} nor in {PLACES[1]}; unpack the exercise again, whole.")
