"""Does a map predict what happens when you cover a part of the photo?

In three networks and on twelve photos: cover one patch of the network's input, centred on each cell in turn, and see by
how much the logit of the best class falls. Then correlate these falls, cell by cell, with the class activation map.
Patches of 32, 64 and 96 pixels, gray or blurred. Beside the map stand three rivals that know no class: a blob in the
middle, the sum of all channels, and how much the cover changes the pixels.

A second question is where the map changes: the fall of the logit is the mean change of the map's cells, exactly. How
much of the absolute change lies in the cells that the patch touches, and in the one cell under its centre? And does the
map predict the part of the fall that comes from the touched cells better than the part from the others?

A control for the method: the same with one cell of the feature map set to zero. There the map predicts each fall.

Run it from the repository, with the packages that evidence/lite.py names: python -m evidence.cover_patches
"""

import json
from itertools import product
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur
from tqdm import tqdm

import camlib
from camlib.sanity import centre_map, rank_correlation
from evidence.findings import PHOTOS, command, finding, store
from evidence.lite import networks

SIZES, FILLS = (32, 64, 96), ("gray", "blur")
PARTS = 64  # the size of patch for which the fall is split into the touched cells' part and the others'
BATCH = 27
CHAPTER = "notebooks/10_sanity.ipynb"


def slices(row: int, column: int, size: int, cells: int, pixels: int) -> tuple[slice, slice]:
    """Where the patch lies that is centred on a cell; the part of it that is inside the input."""
    middle = [round((n + 0.5) * pixels / cells) for n in (row, column)]
    top, left = (max(0, m - size // 2) for m in middle)
    bottom, right = (min(pixels, m + size // 2) for m in middle)
    return slice(top, bottom), slice(left, right)


def shares(part: slice, cells: int, pixels: int) -> Tensor:
    """How much of each cell's side lies in a slice of the pixels, from 0 to 1."""
    edges = torch.arange(cells + 1) * pixels / cells
    return (edges[1:].clamp(max=part.stop) - edges[:-1].clamp(min=part.start)).clamp(min=0) * cells / pixels


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]).double())[0, 1])


def covered(x: Tensor, size: int, fill: str, cells: int) -> tuple[Tensor, Tensor, Tensor]:
    """The inputs with each patch covered, how much that changes the pixels, and the part of each cell (n, h, w) that
    it covers.
    """
    other = torch.zeros_like(x) if fill == "gray" else gaussian_blur(x, [61, 61], [12.0, 12.0])
    inputs, touched, pixels = [], [], x.shape[-1]
    for row, column in product(range(cells), repeat=2):
        rows, columns = slices(row, column, size, cells, pixels)
        one = x.clone()
        one[..., rows, columns] = other[..., rows, columns]
        inputs.append(one)
        touched.append(torch.outer(*(shares(part, cells, pixels) for part in (rows, columns))))
    batch = torch.cat(inputs)
    return batch, (batch - x).abs().sum((1, 2, 3)).view(cells, cells), torch.stack(touched)


def study(clf: camlib.Classifier, photo: Path) -> list[dict[str, Any]]:
    """One network and photo: a row for each size and fill."""
    picture = camlib.read_image(photo)
    x = clf.preprocess(picture, clf.view(picture)).contiguous(memory_format=torch.channels_last)
    features, logits = clf.head.run(clf.module, x)
    k = int(logits.argmax())
    weight = clf.head.weight[k]
    cam, cells = torch.einsum("c,chw->hw", weight, features[0]), features.shape[-1]

    zeroed = features.repeat(cells**2, 1, 1, 1)  # the control: one cell of the feature map at a time
    for n, (row, column) in enumerate(product(range(cells), repeat=2)):
        zeroed[n, :, row, column] = 0
    falls = logits[0, k] - (zeroed.mean((2, 3)) @ weight + clf.head.bias[k])
    off = (falls.view(cells, cells) - cam / cells**2).abs().max()

    rows = []
    for size, fill in product(SIZES, FILLS):
        batch, pixels, touched = covered(x, size, fill, cells)
        parts = [clf.head.run(clf.module, part) for part in batch.split(BATCH)]
        after = torch.cat([torch.einsum("c,bchw->bhw", weight, f) for f, _ in parts])
        fall = logits[0, k] - torch.cat([y[:, k] for _, y in parts])
        change, inside = (cam - after).abs(), touched > 0
        own = change.flatten(1)[torch.arange(cells**2), torch.arange(cells**2)]
        fall = fall.view(cells, cells)
        area = (touched * cam).sum((1, 2)) / cells**2  # what the map's cells under the patch add to the logit
        rows.append(
            {
                "photo": photo.name,
                "class": clf.labels[k],
                "size": size,
                "fill": fill,
                "cam": correlation(fall, cam),
                "cam_rank": rank_correlation(fall, cam),
                "cam_under_patch": correlation(fall, area.view(cells, cells)),
                "centre": correlation(fall, centre_map((cells, cells))),
                "activity": correlation(fall, features[0].sum(0)),
                "pixels": correlation(fall, pixels),
                "own_cell": float((own / change.sum((1, 2))).mean()),
                "touched_cells": float(((inside * change).sum((1, 2)) / change.sum((1, 2))).mean()),
                "touched_area": float(inside.float().mean()),
                "largest_fall": float(fall.max()),
                "zeroed_off": float(off),
            }
        )
        if size == PARTS:
            for name, where in (("inside", inside), ("outside", ~inside)):
                rows[-1][f"cam_{name}"] = correlation(((cam - after) * where).sum((1, 2)), cam)
    return [
        {key: round(v, 4) if isinstance(v, float) and key != "zeroed_off" else v for key, v in row.items()}
        for row in rows
    ]


def findings(rows: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What chapter 10 states."""
    every = [row for part in rows.values() for row in part]
    assert max(row["zeroed_off"] for row in every) < 1e-4, "zeroing a cell lowers the logit by its part of the map"

    def of(key: str, size: int, fill: str = "") -> list[float]:
        return [row[key] for row in every if row["size"] == size and fill in row["fill"]]

    by_network = [f"{median(row['cam'] for row in part):.2f} in {name.capitalize()}" for name, part in rows.items()]
    by_fill = {fill: [f"{median(of('cam', size, fill)):.2f}" for size in SIZES] for fill in FILLS}
    cases = f"{len(rows['lite0']) // len(SIZES) // len(FILLS)} photos, {len(rows)} networks, gray and blurred"
    low, high = min(row["cam"] for row in every), max(row["cam"] for row in every)
    pairs = [
        [row for row in part if row["photo"] == photo]
        for part in rows.values()
        for photo in dict.fromkeys(row["photo"] for row in part)
    ]  # the rows of each photo and network

    def wins(rival: str) -> int:
        return sum(mean(row["cam"] for row in pair) > mean(row[rival] for row in pair) for pair in pairs)

    blob, activity = wins("centre"), wins("activity")
    outside, others = (
        [100 - 100 * median(of(key, size)) for size in SIZES] for key in ("touched_cells", "touched_area")
    )
    inner, outer = (median(of(key, PARTS)) for key in ("cam_inside", "cam_outside"))
    return [
        finding(
            CHAPTER,
            "The map predicts only loosely how far the logit falls when a patch of the photo is covered.",
            f"{cases}, 32, 64 and 96 pixels: {len(every)} cases",
            f"median correlation over the cells {', '.join(by_network)}; at 32, 64 and 96 pixels "
            + ", ".join(f"{fill} {', '.join(by_fill[fill])}" for fill in FILLS)
            + f"; single cases {low:.2f} to {high:.2f}",
            [
                ", ".join(by_network[:-1]) + " and " + by_network[-1],
                f"from {low:.2f} to {high:.2f}",
                "from {} to {} in gray".format(by_fill["gray"][0], by_fill["gray"][2]),
                "from {} to {} blurred".format(by_fill["blur"][0], by_fill["blur"][2]),
            ],
        ),
        finding(
            CHAPTER,
            "It predicts this somewhat better than a blob in the middle, or than the sum of all channels.",
            f"{len(pairs)} photos and networks, mean of 6 kinds of cover",
            f"better than the blob on {blob} of {len(pairs)}, than the sum on {activity}",
            [f"on {blob} of {len(pairs)}"],
        ),
        finding(
            CHAPTER,
            "A covered patch changes the map mostly in cells that it does not touch, and this part the map does not "
            "predict.",
            f"{cases}; medians: the share of the absolute change, and the map's correlation with each part of the fall",
            f"{outside[1]:.0f} % at 64 pixels, in {others[1]:.0f} % of the cells, {outside[2]:.0f} % at 96, in "
            f"{others[2]:.0f} %; at 64 pixels, correlation with the change of the touched cells {inner:.2f}, of the "
            f"others {outer:.2f}",
            [f"{outside[1]:.0f} % of the change", f"{inner:.2f}", f"at {outer:.2f}"],
        ),
    ]


def main() -> None:
    out = command(__file__, __doc__)
    torch.set_num_threads(1)
    rows = {}
    for name, clf in networks().items():
        clf.module.to(memory_format=torch.channels_last)  # faster on a CPU
        photos = tqdm(sorted(PHOTOS.iterdir()), desc=name, unit="photo")
        rows[name] = [row for photo in photos for row in study(clf, photo)]
        print(json.dumps(rows[name]), flush=True)
    store(out, findings(rows), rows=rows)


if __name__ == "__main__":
    main()
