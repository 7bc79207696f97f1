"""Do deletion and insertion prefer a class activation map to noise, and does that depend on what fills the holes?

Seven photos whose class the network names first, in its own crop of 224 pixels. The pixels that a map ranks highest are
removed first (deletion), or put back first (insertion), in four steps. Removed pixels become gray (zero after
normalisation), a blur of the photo, or the noisy linear imputation of ROAD. The maps: the class activation map, a
centred Gaussian, random cells, and random pixels. Stored are the areas under the curves of the
class's probability: small is good for deletion, large is good for insertion.

Run it from the repository: python -m evidence.deletion
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur
from tqdm import tqdm

import camlib
from camlib import evaluate, sanity
from evidence.boxes import DATA, objects
from evidence.findings import finding, store

OUT = Path(__file__).with_suffix(".json")
CHAPTER = "notebooks/09_against_boxes.ipynb"
SIDE, STEPS = 224, 4
FILLS = ("gray", "blur", "ROAD")


def rivals(cam: Tensor) -> dict[str, Tensor]:
    """The maps whose orders are compared, (224, 224) each."""
    size = (SIDE, SIDE)
    cells = camlib.upsample(sanity.random_map(tuple(cam.shape)), size)
    pixels = sanity.random_map(size)
    maps = {"CAM": camlib.upsample(cam, size), "Gaussian": sanity.centre_map(size)}
    return maps | {"random cells": cells, "random pixels": pixels}


def filled(x: Tensor, gone: Tensor, fill: str) -> Tensor:
    """x (3, H, W) with the pixels of gone (H, W) replaced; where nothing is left, ROAD gives the mean colour."""
    if fill == "ROAD":
        return x.mean((1, 2), keepdim=True).expand_as(x) if gone.all() else evaluate.imputed(x, gone)
    other = torch.zeros_like(x) if fill == "gray" else gaussian_blur(x[None], [41, 41], [10.0, 10.0])[0]
    return torch.where(gone, other, x)


def curves(clf: camlib.Classifier, x: Tensor, orders: dict[str, Tensor], k: int, fill: str) -> dict[str, Any]:
    """Per map the probability of class k at each share removed, and at each share put back."""
    ends = [round(step / STEPS * SIDE * SIDE) for step in range(1, STEPS)]
    pictures = [x, filled(x, torch.ones(SIDE, SIDE, dtype=torch.bool), fill)]
    for heat in orders.values():
        rank = heat.flatten().argsort(descending=True, stable=True).argsort().view(heat.shape)  # 0: the strongest
        pictures += [filled(x, rank < end, fill) for end in ends] + [filled(x, rank >= end, fill) for end in ends]
    with torch.no_grad():
        p = clf.module(torch.stack(pictures)).softmax(1)[:, k]
    whole, nothing, *rest = (round(v, 4) for v in p.tolist())
    found = {}
    for kind in orders:
        removed, back, rest = rest[: STEPS - 1], rest[STEPS - 1 : 2 * STEPS - 2], rest[2 * STEPS - 2 :]
        found[kind] = [whole, *removed, nothing], [nothing, *back, whole]
    return found


def study(clf: camlib.Classifier) -> list[dict[str, Any]]:
    """One row for each photo, map and fill."""
    rows = []
    for name, label in tqdm(list(objects()), unit="class"):
        look = camlib.explain(clf, camlib.read_image(DATA / name))
        if look.top(1)[0].label != label:
            continue
        x, k = clf.preprocess(look.photo, look.view)[0], clf.index(label)
        for fill in FILLS:
            for kind, (deletion, insertion) in curves(clf, x, rivals(look.map(label)), k, fill).items():
                areas = [round(evaluate.area(torch.tensor(c)), 4) for c in (deletion, insertion)]
                row = {"class": label, "map": kind, "fill": fill, "deletion": areas[0], "insertion": areas[1]}
                rows.append(row | {"curves": [deletion, insertion]})
    return rows


def ahead(rows: list[dict[str, Any]], rival: str, test: str, fill: str) -> int:
    """On how many photos CAM has the better area: smaller under deletion, larger under insertion."""
    area = {(r["class"], r["map"], r["fill"]): r[test] for r in rows}
    sign = 1 if test == "deletion" else -1
    classes = dict.fromkeys(r["class"] for r in rows)
    return sum(sign * area[c, "CAM", fill] < sign * area[c, rival, fill] for c in classes)


def findings(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What chapter 09 states."""
    photos = len({r["class"] for r in rows})
    table = {
        (test, rival): [ahead(rows, rival, test, fill) for fill in FILLS]
        for test in ("deletion", "insertion")
        for rival in ("random pixels", "random cells", "Gaussian")
    }

    def text(test: str, rival: str) -> str:
        return ", ".join(f"{fill} {n} of {photos}" for fill, n in zip(FILLS, table[test, rival], strict=True))

    def quote(test: str, rival: str) -> str:
        gray, blur, road = table[test, rival]  # the order of FILLS
        return f"{gray}, {blur} and {road} of {photos}"

    return [
        finding(
            CHAPTER,
            f"{test.capitalize()}: CAM is better than {rival}.",
            f"{photos} photos, {len(FILLS)} fills, {STEPS} steps",
            text(test, rival),
            [quote(test, rival)],
        )
        for test, rival in table
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="where to store the result (default: beside the script)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = study(camlib.load_model())
    store(options.out, findings(rows), rows=rows)


if __name__ == "__main__":
    main()
