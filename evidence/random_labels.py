"""Do maps depend on what a network was taught? Ten small networks learn true labels, ten learn random ones by heart.

Adebayo and others (2018) call it the data randomisation test. Both kinds see the same 300 pictures of shapes, until
they name all of them as they were told. Then the maps of the shape's class on 200 new pictures are compared between the
two, by the rank correlation of their 8 × 8 cells; as a control, between a network that learned true labels and the one
before it, which started from other weights. Where the maps peak is also counted for networks that learned nothing.

Run it from the repository: python -m evidence.random_labels
"""

from dataclasses import replace
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

import camlib
from camlib import sanity, shapes
from evidence.findings import command, finding, store

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


def trained(seed: int, data: shapes.Pictures, test: shapes.Pictures) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """One network: its accuracy, and its maps of the test pictures."""
    net = shapes.network("gap", seed)
    shapes.train(net, data, EPOCHS, seed, threads=1, progress=False)
    maps = maps_of(net, test)
    row = {"learned": round(shapes.accuracy(net, data), 3), "accuracy": round(shapes.accuracy(net, test), 3)}
    return row | {"pointing": {m: round(pointing(v, test.boxes), 3) for m, v in maps.items()}}, maps


def findings(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the deep dive states."""

    def span(values: list[float]) -> str:
        return f"{min(values):.2f} to {max(values):.2f}"

    alike_random = {m: span([row["alike_random"][m] for row in rows]) for m in rows[0]["alike_random"]}
    alike_true = {m: span([row["alike_true"][m] for row in rows if row["alike_true"]]) for m in alike_random}
    places = {
        kind: {m: span([row[kind]["pointing"][m] for row in rows]) for m in alike_random} for kind in ("true", "random")
    }
    untrained = span([row["untrained_activity"] for row in rows])
    learned, new = ([row["random"][key] for row in rows] for key in ("learned", "accuracy"))
    return [
        finding(
            DIVE,
            "After random labels, CAM has nothing in common with that after true labels; LayerCAM has.",
            f"{len(rows)} trainings each, 200 new pictures; mean rank correlation of two networks' maps",
            "; ".join(f"{m} {alike_random[m]}, two networks with true labels {alike_true[m]}" for m in alike_random),
            [alike_random["CAM"], alike_true["CAM"], alike_random["LayerCAM"], alike_true["LayerCAM"]],
        ),
        finding(
            DIVE,
            "After random labels, features are active on the shape, and no more so than before any training.",
            f"{len(rows)} trainings each, 200 new pictures; strongest point on the shape",
            f"activity {places['random']['activity']}, CAM {places['random']['CAM']}; after true labels "
            f"{places['true']['activity']} and {places['true']['CAM']}; activity before any training {untrained}; "
            f"accuracy on what it was taught {span(learned)}, on new pictures {span(new)}",
            [places["random"]["activity"], untrained],
        ),
    ]


def main() -> None:
    out = command(__file__, __doc__)
    torch.set_num_threads(1)
    data, test, rows, before = shapes.pictures(300, 1), shapes.pictures(200, 2), [], None
    for seed in tqdm(SEEDS, unit="seed"):
        draw = torch.Generator().manual_seed(seed)
        wrong = replace(data, labels=torch.randint(5, data.labels.shape, generator=draw))
        (true, maps), (random, others) = trained(seed, data, test), trained(seed, wrong, test)
        alike_random = {m: round(alike(maps[m], others[m]), 3) for m in maps}
        alike_true = before and {m: round(alike(maps[m], before[m]), 3) for m in maps}
        start = maps_of(shapes.network("gap", seed).eval(), test)["activity"]
        rows.append(
            {"seed": seed, "true": true, "random": random, "alike_random": alike_random, "alike_true": alike_true}
            | {"untrained_activity": round(pointing(start, test.boxes), 3)}
        )
        before = maps
    store(out, findings(rows), trainings=rows)


if __name__ == "__main__":
    main()
