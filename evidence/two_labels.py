"""Does a label that was learnt from whole photos have a place in a picture that is half one thing, half another?

A linear layer with two labels, *blurred* and *gray*, is trained on pooled features of photos, each in four versions
(sharp or blurred, in colour or gray). One photo is gray already and is left out. Two photos are held out. A picture has
one of them on the left and the other on the right: one half is blurred, the other gray. Measured: how many of the 49
cells of each half have evidence above zero, for each label. Ten trainings (initial weights) for each of eleven pairs of
held-out photos, each photo twice, and both ways round; and the same with a single label, blurred.

Run it from the repository: python -m evidence.two_labels
"""

from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor, nn
from tqdm import tqdm

import camlib
from evidence.findings import PHOTOS, command, finding, store

CHAPTER = "notebooks/11_your_images.ipynb"
SEEDS, TILE, CELLS = 10, 224, 7
WAYS = ("blurred left", "blurred right")
VERSIONS = [(blur, gray) for blur in (0, 1) for gray in (0, 1)]


def version(photo: np.ndarray, blur: int, gray: int) -> np.ndarray:
    image = Image.fromarray(photo)
    if blur:
        image = image.filter(ImageFilter.GaussianBlur(min(image.size) / 80))
    return np.asarray(image.convert("L").convert("RGB") if gray else image)


@torch.no_grad()
def features(clf: camlib.Classifier, photo: np.ndarray, view: Any = "crop") -> Tensor:
    """The last feature map (C, h, w)."""
    return clf.head.run(clf.module, clf.preprocess(photo, clf.view(photo, view)))[0][0]


def trained(x: Tensor, y: Tensor, seed: int) -> nn.Linear:
    """A layer with a logit for each label; x (n, C), y (n, labels)."""
    torch.manual_seed(seed)
    last = nn.Linear(x.shape[1], y.shape[1])
    optimiser = torch.optim.SGD(last.parameters(), lr=0.1, weight_decay=0.01)
    for _ in range(500):
        optimiser.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(last(x), y).backward()
        optimiser.step()
    return last


def cells(last: nn.Linear, maps: Tensor, k: int) -> list[int]:
    """Cells above zero on the left and on the right tile."""
    heat = torch.einsum("c,chw->hw", last.weight[k].detach(), maps)
    return [int((half > 0).sum()) for half in heat.split(CELLS, 1)]


def measured(rows: list[dict[str, Any]], label: str) -> dict[str, int]:
    """Pictures that every training gets right, and the mean number of cells above zero on each half."""
    right: dict[tuple[Any, ...], list[bool]] = {}
    for row in rows:
        for way in WAYS:
            right.setdefault((*row["photos"], way), []).append(row[way][label][0] > row[way][label][1])
    own, other = np.mean([row[way][label] for row in rows for way in WAYS], 0)
    return {"with all trainings": sum(map(all, right.values())), "own": round(own), "other": round(other)}


def main() -> None:
    out = command(__file__, __doc__)
    torch.set_num_threads(1)
    clf = camlib.load_model()
    photos = {path: camlib.read_image(path) for path in sorted(PHOTOS.iterdir())}
    photos = {path.name: photo for path, photo in photos.items() if photo.std(2).any()}
    pooled = {
        name: torch.stack([features(clf, version(photo, *v)).mean((1, 2)) for v in VERSIONS])
        for name, photo in tqdm(photos.items(), desc="features")
    }
    tiles = {n: np.asarray(ImageOps.fit(Image.fromarray(p), (TILE, TILE))) for n, p in photos.items()}
    names, y = list(photos), torch.tensor(VERSIONS).float()
    rows = []
    for i, left in enumerate(tqdm(names, desc="pairs")):
        right = names[(i + 1) % len(names)]
        halves = {
            way: np.hstack([version(tiles[n], *(v if way == "blurred left" else v[::-1])) for n, v in pair])
            for way in WAYS
            for pair in [((left, (1, 0)), (right, (0, 1)))]
        }
        maps = {way: features(clf, picture, "whole") for way, picture in halves.items()}
        rest = [n for n in names if n not in (left, right)]
        x, truth = torch.cat([pooled[n] for n in rest]), y.repeat(len(rest), 1)
        for seed in range(SEEDS):
            two, one = trained(x, truth, seed), trained(x, truth[:, :1], seed)
            held = torch.cat([pooled[left], pooled[right]])
            right_answers = ((two(held) > 0) == (y.repeat(2, 1) > 0)).float().mean(0)
            row: dict[str, Any] = {"photos": [left, right], "seed": seed, "right": right_answers.tolist()}
            for way, m in maps.items():
                found = {"blurred": cells(two, m, 0), "gray": cells(two, m, 1), "blurred, alone": cells(one, m, 0)}
                own = way == "blurred right", way == "blurred left", way == "blurred right"
                row[way] = {k: [v[o], v[1 - o]] for (k, v), o in zip(found.items(), own, strict=True)}  # own, other
            rows.append(row)
    parts = {label: measured(rows, label) for label in ("blurred", "gray", "blurred, alone")}
    blurred, gray = parts["blurred"], parts["gray"]
    summary = finding(
        CHAPTER,
        "Two labels that were learnt from whole photos have their evidence in the right half of a new picture.",
        f"{2 * len(names)} pictures of {len(names)} held-out pairs, {SEEDS} trainings each",
        "; ".join(
            f"{k}: more cells above zero on its own half in {v['with all trainings']} of {2 * len(names)} pictures "
            f"with all trainings, on average {v['own']} of 49 there, {v['other']} on the other half"
            for k, v in parts.items()
        ),
        [
            f"In {min(blurred['with all trainings'], gray['with all trainings'])} of {2 * len(names)} such pictures, "
            f"with each of {SEEDS} trainings",
            f"{blurred['own']} and {gray['own']} of 49 there, {max(blurred['other'], gray['other'])} on the other",
        ],
    )
    store(out, [summary], summary=parts, right=np.mean([r["right"] for r in rows], 0).round(2).tolist(), pictures=rows)


if __name__ == "__main__":
    main()
