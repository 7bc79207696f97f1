"""Make the mosaics in data/mosaics: tiles of known classes, so that every box is exact by construction.

`python3 run.py mosaic` writes two.png (1 × 2 tiles) and four.png (2 × 2) and their boxes in data/boxes.json
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from camlib.images import read_image

DATA = Path(__file__).resolve().parent.parent / "data"
TILE = 224  # pixels: what the bundled network sees of a photo
TILES = CAT, COFFEE, TRIPOD, ROCKET = (
    ("photos/cat.jpg", "tiger cat"),
    ("photos/coffee.png", "espresso"),
    ("photos/camera.png", "tripod"),
    ("photos/rocket.jpg", "missile"),
)
MOSAICS = {"mosaics/two.png": [[CAT, COFFEE]], "mosaics/four.png": [[CAT, COFFEE], [TRIPOD, ROCKET]]}


def tile(photo: str) -> np.ndarray:
    """The central square of a photo, TILE × TILE × 3."""
    image = Image.fromarray(read_image(DATA / photo))
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(image.resize((TILE, TILE), Image.Resampling.BICUBIC, (left, top, left + side, top + side)))


def mosaic(rows: list[list[tuple[str, str]]]) -> tuple[np.ndarray, list[dict]]:
    """The picture, and the label and box (left, top, right, bottom) of every tile."""
    picture = np.concatenate([np.concatenate([tile(photo) for photo, _ in row], axis=1) for row in rows])
    boxes = [
        {"label": label, "box": [TILE * x, TILE * y, TILE * (x + 1), TILE * (y + 1)]}
        for y, row in enumerate(rows)
        for x, (_, label) in enumerate(row)
    ]
    return picture, boxes


def main(arguments: list[str] | None = None) -> None:
    argparse.ArgumentParser(prog="python3 run.py mosaic", description=(__doc__ or "").partition("\n")[0]).parse_args(
        arguments
    )
    entries = [e for e in json.loads((DATA / "boxes.json").read_text(encoding="utf-8")) if e["photo"] not in MOSAICS]
    for name, rows in MOSAICS.items():
        picture, boxes = mosaic(rows)
        (DATA / name).parent.mkdir(exist_ok=True)
        Image.fromarray(picture).save(DATA / name, optimize=True)
        entries += [{"photo": name, **box} for box in boxes]
        print(f"data/{name}: {picture.shape[1]}×{picture.shape[0]}, {', '.join(box['label'] for box in boxes)}")
    lines = ",\n  ".join(json.dumps(entry) for entry in entries)
    (DATA / "boxes.json").write_text(f"[\n  {lines}\n]\n", encoding="utf-8")
