"""How much of a class's evidence lies in its own quarter of a mosaic of four photos?

Seven photos whose class the network names first (in its own crop) give 35 sets of four. Each set is one mosaic of 448
pixels, in a shuffled order, and is one unit: the mean of its four shares. Measured for the class activation map, for
Grad-CAM of an early layer and for an edge filter, which does not know the class and so has a mean of exactly 1/4. The
mosaics share photos, so the interval comes from leaving out each photo in turn, with all mosaics that hold it (the
jackknife, with Student's t).

Run it from the repository: python -m evidence.mosaics
"""

import argparse
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy import stats
from tqdm import tqdm

import camlib
from camlib import evaluate, sanity
from evidence.boxes import DATA, EARLY, objects
from evidence.findings import finding, store

OUT = Path(__file__).with_suffix(".json")
CHAPTER = "notebooks/09_against_boxes.ipynb"
SIDE = 224
CORNERS = [(x, y, x + SIDE, y + SIDE) for y in (0, SIDE) for x in (0, SIDE)]


def tile(photo: np.ndarray) -> np.ndarray:
    """The central square of a photo, (224, 224, 3)."""
    image = Image.fromarray(photo)
    short = min(image.size)
    x, y = (image.width - short) // 2, (image.height - short) // 2
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, (x, y, x + short, y + short)))


def study(clf: camlib.Classifier) -> dict[str, Any]:
    photos = {name: camlib.read_image(DATA / name) for name, _ in objects()}
    first = {name: camlib.explain(clf, photo).top(1)[0].label for name, photo in photos.items()}
    named = [(name, label) for name, label in objects() if first[name] == label]
    tiles = {label: tile(photos[name]) for name, label in named}
    rng, rows = np.random.default_rng(0), []
    for chosen in tqdm(list(combinations(tiles, 4)), unit="mosaic"):
        labels = [chosen[i] for i in rng.permutation(4)]
        squares = [tiles[label] for label in labels]
        picture = np.vstack([np.hstack(squares[:2]), np.hstack(squares[2:])])
        cam = camlib.explain(clf, picture, view="whole", sizes=448)
        early = camlib.explain(clf, picture, view="whole", sizes=448, method="grad_cam", layer=EARLY)
        heats = {
            "CAM": torch.stack([cam.heatmap(label) for label in labels]),
            "Grad-CAM, early": torch.stack([early.heatmap(label) for label in labels]),
            "edges": torch.stack([sanity.edge_map(picture)] * 4),
        }
        game = {method: evaluate.grid_pointing_game(h, CORNERS).tolist() for method, h in heats.items()}
        rows.append({"classes": labels} | {m: [round(v, 4) for v in values] for m, values in game.items()})
    return {"classes": list(tiles), "mosaics": rows}


def jackknife(rows: list[dict[str, Any]], method: str, classes: list[str]) -> tuple[float, float, float]:
    """The mean of the mosaics and its interval, from the means without each photo."""
    means = np.array([np.mean(row[method]) for row in rows])
    without = np.array([means[[c not in row["classes"] for row in rows]].mean() for c in classes])
    n = len(classes)
    reach = stats.t.ppf(0.975, n - 1) * np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
    return float(means.mean()), float(means.mean() - reach), float(means.mean() + reach)


def findings(result: dict[str, Any]) -> list[dict[str, Any]]:
    """What chapter 09 states."""
    rows = result["mosaics"]
    table = {m: np.array([row[m] for row in rows]) for m in ("CAM", "Grad-CAM, early", "edges")}
    over = {m: jackknife(rows, m, result["classes"]) for m in table}
    ends = {m: (v.mean(1).min(), v.mean(1).max()) for m, v in table.items()}
    ahead = int((table["CAM"].mean(1) > table["edges"].mean(1)).sum())
    cam, early, blind = (f"{over[m][0]:.2f} [{over[m][1]:.2f}, {over[m][2]:.2f}]" for m in table)
    span, poor = (f"{ends[m][0]:.2f} to {ends[m][1]:.2f}" for m in ("CAM", "Grad-CAM, early"))
    varied = f"{len(rows)} mosaics of {len(result['classes'])} photos; the interval leaves out one photo at a time"
    return [
        finding(
            CHAPTER,
            "CAM puts most of a class's evidence into its own quarter of a mosaic.",
            varied,
            f"{cam}; means of the mosaics {span}, above a quarter in {ahead} of {len(rows)}; "
            f"smallest share {table['CAM'].min():.2f}",
            [f"{ahead} of {len(rows)} mosaics", span, cam],
        ),
        finding(
            CHAPTER,
            f"Grad-CAM of {EARLY} scores no better than a map that does not know the class.",
            varied,
            f"{early}; means of the mosaics {poor}; an edge filter {blind}",
            [early, poor],
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="where to store the result (default: beside the script)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = study(camlib.load_model())
    store(options.out, findings(result), **result)


if __name__ == "__main__":
    main()
