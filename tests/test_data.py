"""Every photograph has its source and licence, and every box is where the network looks, or the exception is named."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from camlib import explain, read_image
from tools import catalogue
from tools.mosaic import MOSAICS, mosaic

DATA = Path("data")
PHOTOS = sorted(DATA.glob("photos/*"))
BOXES = json.loads((DATA / "boxes.json").read_text())
PEAK_OUTSIDE = {
    ("photos/rocket.jpg", "missile"): "the cells beside the rocket have more evidence than the one that holds it",
    ("photos/camera.png", "dome"): "far domes 14 to 40 pixels high, a cell 64: the peak lies in the sky above",
    ("photos/china.jpg", "tile roof"): "four roofs, of which the lowest is missed by two pixels",
}


def test_every_photo_is_documented():
    """In course.toml, from which data/README.md follows with the photos' digests."""
    assert set(catalogue.photos()) == {photo.name for photo in PHOTOS}
    for photo in PHOTOS:
        assert re.match("CC0|public domain|CC BY", catalogue.photos()[photo.name].licence)
        assert max(read_image(photo).shape) <= 1200


@pytest.mark.parametrize("photo", PHOTOS, ids=lambda p: p.name)
def test_identity_on_every_photo(clf, photo):
    for view in ("crop", "whole"):
        assert explain(clf, photo, view=view).residual() < 1e-4


@pytest.mark.parametrize("photo", sorted({b["photo"] for b in BOXES}))
def test_true_classes_peak_in_their_boxes(clf, photo):
    """A mosaic is shown whole; a photo through the network's own crop."""
    exp = explain(clf, DATA / photo, view="whole" if photo in MOSAICS else "crop")
    for label in {b["label"] for b in BOXES if b["photo"] == photo}:
        heat = exp.heatmap(label).nan_to_num(-np.inf).numpy()
        y, x = np.unravel_index(heat.argmax(), heat.shape)
        boxes = [b["box"] for b in BOXES if b["photo"] == photo and b["label"] == label]
        inside = any(left <= x < right and top <= y < bottom for left, top, right, bottom in boxes)
        assert inside == ((photo, label) not in PEAK_OUTSIDE), f"{label} peaks at ({x}, {y}), its boxes are {boxes}"


def test_boxes_lie_on_their_photos_and_name_known_classes(clf):
    for entry in BOXES:
        h, w, _ = read_image(DATA / entry["photo"]).shape
        left, top, right, bottom = entry["box"]
        assert 0 <= left < right <= w
        assert 0 <= top < bottom <= h
        clf.index(entry["label"])


@pytest.mark.parametrize("name", MOSAICS)
def test_mosaics_are_what_the_command_makes(name):
    picture, boxes = mosaic(MOSAICS[name])
    stored = read_image(DATA / name)
    assert np.abs(stored.astype(int) - picture).mean() < 1, "another Pillow may round otherwise, but not more"
    assert [{"photo": name, **b} for b in boxes] == [b for b in BOXES if b["photo"] == name]
