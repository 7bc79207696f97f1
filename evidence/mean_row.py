"""How large is the part that all maps of a network share, and is it small in every network?

The mean of a classifier's weight rows gives a map that every class shares. Its length, relative to the mean length of a
row, is measured in the bundled network and in ten small networks trained on shapes with AdamW, as chapter 10 does it;
and so is the largest cell of the shared map, relative to the largest cell of the class's own map: for the three best
classes of each photo, and for the best class of each test picture of shapes.

Run it from the repository: python -m evidence.mean_row
"""

from typing import Any

import torch
from tqdm import tqdm

import camlib
from camlib import shapes
from evidence.findings import PHOTOS, command, finding, store

SEEDS = range(10)
CHAPTER = "notebooks/07_why_a_and_not_b.ipynb"


def share(weight: torch.Tensor) -> float:
    """The length of the mean row, as a part of the mean length of a row."""
    return float(weight.mean(0).norm() / weight.norm(dim=1).mean())


def study(seed: int, data: shapes.Pictures, test: shapes.Pictures) -> dict[str, float]:
    """One seed: the share before and after training, and what it does to the maps of the test pictures."""
    net = shapes.network("gap", seed)
    start = share(net[-1].weight.detach())
    shapes.train(net, data, seed=seed, threads=1, progress=False)
    weight = net[-1].weight.detach()
    with torch.no_grad():
        maps = camlib.class_activation_maps(net[0](shapes.centred(test.images)), weight)
        best = net(shapes.centred(test.images)).argmax(1)
    own = maps[torch.arange(len(best)), best].abs().amax((1, 2))
    common = maps.mean(1).abs().amax((1, 2))
    return {
        "start": round(start, 3),
        "row": round(share(weight), 3),
        "map": round(float((common / own).median()), 3),
        "accuracy": round(shapes.accuracy(net, test), 3),
    }


def on_photos(clf: camlib.Classifier) -> list[float]:
    """The largest cell of the shared map, as a part of the class map's: the three best classes of each photo."""
    parts = []
    for photo in sorted(PHOTOS.iterdir()):
        exp = camlib.explain(clf, photo)
        common = exp.maps.mean(0).abs().max()
        parts += [round(float(common / exp.map(p.index).abs().max()), 4) for p in exp.top(3)]
    return parts


def findings(bundled: float, maps: list[float], seeds: list[dict[str, float]]) -> list[dict[str, Any]]:
    """What chapter 07 states."""
    rows = [s["row"] for s in seeds]
    ends = f"{100 * min(maps):.1f} % to {100 * max(maps):.1f} %"
    return [
        finding(
            CHAPTER,
            "The mean row is next to nothing in the bundled network, but not in small networks.",
            f"{len(seeds)} trainings with AdamW of chapter 10's network with global average pooling, five classes",
            f"{bundled:.3f} of a row's length; {len(seeds)} small networks: {min(rows):.2f} to {max(rows):.2f}",
            [f"{min(rows):.2f} to {max(rows):.2f} of a row's length"],
        ),
        finding(
            CHAPTER,
            "In the bundled network, the largest cell of the shared map is a small part of a class map's.",
            f"the three best classes of {len(maps) // 3} photos: {len(maps)}",
            ends,
            [ends],
        ),
    ]


def main() -> None:
    out = command(__file__, __doc__)
    torch.set_num_threads(1)
    clf = camlib.load_model()
    data, test = shapes.pictures(2000, 0), shapes.pictures(200, 1)
    seeds = [study(seed, data, test) for seed in tqdm(SEEDS, unit="seed")]
    bundled, maps = share(clf.head.weight), on_photos(clf)
    rows = findings(bundled, maps, seeds)
    store(out, rows, network=clf.name, bundled=round(bundled, 4), maps=maps, seeds=seeds)


if __name__ == "__main__":
    main()
