"""Why does the network's best class lose logit when the same photo is shown larger, or more of it is shown?

Two changes, one at a time, on each of the twelve photos. Larger: the same crop with 320, 448 and 672 pixels a side
instead of 224, from the photo itself and, as a control for sharpness, from the crop of 224 pixels enlarged. More
around it: the whole photo at the scale of the crop. The class is the best one of the usual crop (224). Then, at the
double size: how sure the surest single cell is.

Run it from the repository: python -m evidence.cell_sizes
"""

import argparse
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

import camlib
from evidence.findings import finding, store

OUT = Path(__file__).with_suffix(".json")
PHOTOS = Path(__file__).parent.parent / "data" / "photos"
LARGER = (320, 448, 672)
SAME_SCALE = 256  # the crop of 224 is cut from the photo at 256 pixels on its shorter side
DIVE = "notebooks/deep_dives/every_cell_a_classifier.ipynb"
CHAPTER = "notebooks/04_einsum_cam.ipynb"


def small_crop(photo: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """What the network sees of a photo at 224, as a photo of 224 × 224 pixels."""
    cut = Image.fromarray(photo).resize((224, 224), Image.Resampling.BICUBIC, box=box)
    return np.asarray(cut)


def study(clf: camlib.Classifier, path: Path) -> dict[str, Any]:
    """The logit of one class under each change, and its probability in the surest cell at the double size."""
    photo = camlib.read_image(path)
    usual = camlib.explain(clf, photo)
    k = usual.top(1)[0].index
    blurred = small_crop(photo, usual.view.box)
    whole, double = (camlib.explain(clf, photo, view="whole", sizes=size) for size in (SAME_SCALE, 448))
    cells = (double.maps + double.bias[:, None, None]).softmax(0)[k]
    height, width = photo.shape[:2]
    row = {
        "photo": path.name,
        "class": clf.labels[k],
        "square": height == width,
        "usual": usual.logits[k].item(),
        "whole": whole.logits[k].item(),
        "double_probability": double.logits.softmax(0)[k].item(),
        "double_surest_cell": cells.max().item(),
    }
    for size in LARGER:
        row[f"larger_{size}"] = camlib.explain(clf, photo, sizes=size).logits[k].item()
        row[f"blurred_{size}"] = camlib.explain(clf, blurred, view="whole", sizes=size).logits[k].item()
    return {key: round(v, 3) if isinstance(v, float) else v for key, v in row.items()}


def findings(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What chapter 04 and its deep dive state."""
    n = len(rows)
    wide = [row for row in rows if not row["square"]]
    falls = {size: sum(row[f"larger_{size}"] < row["usual"] for row in rows) for size in LARGER}
    blurred = {size: sum(row[f"blurred_{size}"] < row["usual"] for row in rows) for size in LARGER}
    around = sum(row["whole"] < row["usual"] for row in wide)
    sure = sum(row["double_surest_cell"] > 0.9 for row in rows)
    means = [mean(row[key] for row in rows) for key in ("usual", "larger_448")]
    return [
        finding(
            CHAPTER,
            "The logit of the best class falls when the same crop is shown at twice the size.",
            f"{n} photos; also at 320 and 672 pixels, and from enlarged crops, which are no sharper",
            f"{falls[448]} of {n}; {sum(falls.values())} of {n * len(LARGER)} over the three sizes, "
            f"{sum(blurred.values())} of {n * len(LARGER)} for enlarged crops; mean {means[0]:.1f} to {means[1]:.1f}",
            [f"on {falls[448]} of the {n} photos"],
        ),
        finding(
            DIVE,
            "The same crop shown larger: the logit of the best class falls.",
            f"{n} photos, three sizes",
            f"{sum(falls.values())} of {n * len(LARGER)}",
            [f"in {sum(falls.values())} of {n * len(LARGER)} cases"],
        ),
        finding(
            DIVE,
            "More of the photo at the same scale: the logit of the best class falls.",
            f"the {len(wide)} photos that are not square",
            f"{around} of {len(wide)}",
            [f"on {around} of the {len(wide)} photos"],
        ),
        finding(
            DIVE,
            "At the double size, some single cell gives the class more than 0.9.",
            f"{n} photos",
            f"{sure} of {n}; the photo as a whole gets {min(r['double_probability'] for r in rows):.2f} "
            f"to {max(r['double_probability'] for r in rows):.2f}",
            [f"on {sure} of the {n} photos"],
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="where to store the result (default: beside the script)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    clf = camlib.load_model()
    rows = [study(clf, photo) for photo in tqdm(sorted(PHOTOS.iterdir()), unit="photo")]
    store(options.out, findings(rows), network=clf.name, photos=rows)


if __name__ == "__main__":
    main()
