"""Do the 1000 class maps of a cell determine its 1280 features?

From the equations alone they cannot: there are more unknowns than equations. But the bundled network's features are
never negative, and most are zero. Here, nine cells of each photo are recovered from the 1000 values of their class maps
in float32, once with the smallest numbers that fit (least squares, the control), once with numbers that are not
negative (non-negative least squares), and compared with the true features.

Run it from the repository: python -m evidence.recover
"""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from tqdm import tqdm

import camlib
from evidence.findings import PHOTOS, command, finding, store

CELLS = list(product((0, 3, 6), (0, 3, 6)))  # corners, edges and the middle of the 7 × 7 cells
CLOSE = 1e-4  # of the largest feature of the cell: the error of a feature that counts as recovered


def study(clf: camlib.Classifier, path: Path) -> list[dict[str, Any]]:
    """For each cell: how many features are above zero, and the largest error of both ways, as a part of the largest."""
    exp = camlib.explain(clf, path)
    weight = clf.head.weight.double().numpy()
    inverse = np.linalg.pinv(weight)
    rows = []
    for y, x in CELLS:
        true = exp.results[0].features[0, :, y, x].double().numpy()
        maps = exp.maps[:, y, x].double().numpy()
        ways = {"least_squares": inverse @ maps, "not_negative": nnls(weight, maps, maxiter=50_000)[0]}
        errors = {name: float(f"{np.abs(way - true).max() / true.max():.2g}") for name, way in ways.items()}
        rows.append({"photo": path.name, "cell": [y, x], "above_zero": int((true > 0).sum())} | errors)
    return rows


def findings(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What chapter 04 states."""
    n = len(rows)
    counts = {way: sum(row[way] < CLOSE for row in rows) for way in ("least_squares", "not_negative")}
    above = [row["above_zero"] for row in rows]
    zero = 1 - sum(above) / (1280 * n)
    return [
        finding(
            "notebooks/04_einsum_cam.ipynb",
            "All 1280 features of a cell follow from its 1000 class maps and from knowing that none is negative.",
            f"{len(CELLS)} cells of each of {n // len(CELLS)} photos; control: least squares, which allows both signs",
            f"{counts['not_negative']} of {n}, largest error {max(r['not_negative'] for r in rows):.0e} of the largest "
            f"feature; control {counts['least_squares']} of {n}, error {min(r['least_squares'] for r in rows):.0%} or "
            f"more; {min(above)} to {max(above)} features above zero, {zero:.0%} of all are zero",
            [f"in {counts['not_negative']} of {n} cells"],
        )
    ]


def main() -> None:
    out = command(__file__, __doc__)
    torch.set_num_threads(1)
    clf = camlib.load_model()
    rows = [row for photo in tqdm(sorted(PHOTOS.iterdir()), unit="photo") for row in study(clf, photo)]
    store(out, findings(rows), network=clf.name, cells=rows)


if __name__ == "__main__":
    main()
