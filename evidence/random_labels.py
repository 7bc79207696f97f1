"""Do maps depend on what a network was taught? Ten small networks learn true labels, ten learn random ones by heart.

Adebayo and others (2018) call it the data randomisation test. Both kinds see the same 300 pictures of shapes, until
they name all of them as they were told. Then the maps of the shape's class on 200 new pictures are compared between the two,
by the rank correlation of their 8 × 8 cells; as a control, between two networks that learned true labels from other
initial weights.

Run it from the repository: python -m evidence.random_labels
"""

import argparse
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

import camlib
from camlib import sanity, shapes
from evidence.findings import store

OUT = Path(__file__).with_suffix(".json")
SEEDS = range(10)
EPOCHS = 40
DIVE = "notebooks/deep_dives/randomisation.ipynb"


def maps_of(net: nn.Module, data: shapes.Pictures) -> dict[str, Tensor]:
    """The maps (B, 8, 8) of each picture's own class, and the activity."""
    with torch.no_grad():
        features = net[0](shapes.centred(data.images))
    weight = net[-1].weight.detach()[data.labels]
    return {
        "CAM": torch.einsum("bc,bchw->bhw", weight, features),
        "LayerCAM": torch.einsum("bc,bchw->bhw", weight.clamp(min=0), features),
        "activity": features.sum(1),
    }


def pointing(maps: Tensor, boxes: Tensor) -> float:
    strongest = camlib.upsample(maps, (64, 64)).flatten(1).argmax(1)
    x, y, (left, top, right, bottom) = strongest % 64, strongest // 64, boxes.T
    return float(((left <= x) & (x < right) & (top <= y) & (y < bottom)).float().mean())


def alike(one: Tensor, other: Tensor) -> float:
    """The mean rank correlation of two sets of maps; a constant map counts as 0."""
    pairs = zip(one, other, strict=True)
    return mean(sanity.rank_correlation(a, b) if a.min() < a.max() and b.min() < b.max() else 0.0 for a, b in pairs)


def study(seed: int, data: shapes.Pictures, test: shapes.Pictures) -> dict[str, Any]:
    """One seed: a network with true labels, one with another seed, and one with random labels."""
    draw = torch.Generator().manual_seed(seed)
    wrong = replace(data, labels=torch.randint(5, data.labels.shape, generator=draw))
    nets = {}
    for name, (pictures, start) in {"true": (data, seed), "again": (data, seed + 100), "random": (wrong, seed)}.items():
        nets[name] = shapes.network("gap", start)
        shapes.train(nets[name], pictures, EPOCHS, start, threads=1, progress=False)
    maps = {name: maps_of(net, test) for name, net in nets.items()}
    return {
        "seed": seed,
        "learned": {
            name: round(shapes.accuracy(net, wrong if name == "random" else data), 3) for name, net in nets.items()
        },
        "accuracy": {name: round(shapes.accuracy(net, test), 3) for name, net in nets.items()},
        "pointing": {n: {m: round(pointing(v, test.boxes), 3) for m, v in maps[n].items()} for n in maps},
        "alike_random": {m: round(alike(maps["true"][m], maps["random"][m]), 3) for m in maps["true"]},
        "alike_again": {m: round(alike(maps["true"][m], maps["again"][m]), 3) for m in maps["true"]},
    }


def findings(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the deep dive states."""
    return []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="where to store the result (default: beside the script)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data, test = shapes.pictures(300, 1), shapes.pictures(200, 2)
    rows = [study(seed, data, test) for seed in tqdm(SEEDS, unit="seed")]
    store(options.out, findings(rows), trainings=rows)


if __name__ == "__main__":
    main()
