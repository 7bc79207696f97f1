"""What do maps show of four small networks, three of which learned a shortcut? Ten trainings of each.

The honest network learns shapes. Three others learn from pictures that give the class away: by a coloured square in the
corner, by the colour of the shape itself, or by a tint over everything. Each is tested on pictures with the shortcut,
without it, and with that of a random class, and its maps are counted: where do they peak, and in how many cells is
there evidence for the class? The network that learned the corner is then trained on corners of random colours.

The pictures are the same each time; the seed sets the initial weights and the order of the batches.

Run it from the repository: python -m evidence.shortcuts
"""

import argparse
import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

import camlib
from camlib import sanity, shapes
from evidence.findings import store

OUT = Path(__file__).with_suffix(".json")
SEEDS = range(10)
CHAPTER = "notebooks/10_sanity.ipynb"
N = 500
MANY = torch.arange(N)


def tint(data: shapes.Pictures, shown: Tensor) -> shapes.Pictures:
    """Half of every pixel in the colour of a class."""
    colours = torch.tensor(shapes.CORNER_COLOURS)[shown]
    return replace(data, images=0.5 * data.images + 0.5 * colours[:, :, None, None])


def trained(data: shapes.Pictures, epochs: int, seed: int, net: nn.Module | None = None) -> nn.Module:
    net = shapes.network("gap", seed) if net is None else copy.deepcopy(net)
    shapes.train(net, data, epochs, seed, threads=1, progress=False)
    return net


def features_of(net: nn.Module, data: shapes.Pictures) -> Tensor:
    with torch.no_grad():
        return net[0](shapes.centred(data.images))


def maps_of(net: nn.Module, data: shapes.Pictures) -> tuple[Tensor, Tensor]:
    """The maps (500, 8, 8) of the class that the network names, and these classes."""
    features = features_of(net, data)
    weight, bias = net[-1].weight.detach(), net[-1].bias.detach()
    named = (features.mean((2, 3)) @ weight.T + bias).argmax(1)
    return torch.einsum("bc,bchw->bhw", weight[named], features), named


def peaks(maps: Tensor) -> tuple[Tensor, Tensor]:
    """The column and the row of each map's strongest pixel."""
    strongest = camlib.upsample(maps, (64, 64)).flatten(1).argmax(1)
    return strongest % 64, strongest // 64


def pointing(maps: Tensor, boxes: Tensor) -> float:
    (x, y), (left, top, right, bottom) = peaks(maps), boxes.T
    return float(((left <= x) & (x < right) & (top <= y) & (y < bottom)).float().mean())


def at_corner(maps: Tensor, side: int) -> float:
    x, y = peaks(maps)
    return float(((x < side) & (y < side)).float().mean())


def top_cell(maps: Tensor) -> tuple[list[int], float]:
    """The cell in which most maps have their largest value, and how many of them."""
    counts = torch.bincount(maps.flatten(1).argmax(1), minlength=64)
    return [int(counts.argmax()) // 8, int(counts.argmax()) % 8], float(counts.max() / len(maps))


def honest(net: nn.Module, test: shapes.Pictures) -> dict[str, Any]:
    """Which maps point at the shape, also in a network whose classifier is destroyed?"""
    features, weight, label = features_of(net, test), net[-1].weight.detach(), test.labels
    maps = camlib.class_activation_maps(features, weight)
    right, wrong = maps[MANY, label], maps[MANY, (label + 1) % 5]
    small = camlib.load_model(net, labels=shapes.SHAPES, size=64, **shapes.NORMALISATION)
    ruined = [next(sanity.randomised(small, [small.head.classifier], seed))[1].module for seed in range(5)]
    layer = {}
    for name, nets in (("", [net]), ("ruined_", ruined)):
        rows = [n[-1].weight.detach() for n in nets]
        layer |= {
            f"{name}layercam": [
                pointing(torch.einsum("bc,bchw->bhw", w[label].clamp(min=0), features), test.boxes) for w in rows
            ],
            f"{name}cam": [pointing(torch.einsum("bc,bchw->bhw", w[label], features), test.boxes) for w in rows],
        }
    return {
        "accuracy": shapes.accuracy(net, test),
        "wrong_class": pointing(wrong, test.boxes),
        "wrong_below_zero": float((wrong.flatten(1)[MANY, right.flatten(1).argmax(1)] < 0).float().mean()),
        "activity": pointing(features.sum(1), test.boxes),
        "ruined_accuracy": [shapes.accuracy(n, test) for n in ruined],
        **layer,
    }


def shortcut(net: nn.Module, tests: dict[str, shapes.Pictures], shown: Tensor) -> dict[str, Any]:
    """How well a network does with its shortcut, without it and with a random one, and where its maps peak."""
    maps, named = maps_of(net, tests["class"])
    follows = maps_of(net, tests["random"])[1] == shown
    return {
        "accuracy": {kind: shapes.accuracy(net, data) for kind, data in tests.items()},
        "follows": float(follows.float().mean()),
        "pointing": pointing(maps, tests["class"].boxes),
        "corner_10": at_corner(maps, 10),
        "corner_16": at_corner(maps, 16),
        "top_cell": top_cell(maps),
        "positive": float((maps > 0).float().mean()),
    }


def near_edge(net: nn.Module, test: shapes.Pictures) -> dict[str, float]:
    """Pictures whose shapes may lie at the edge: when the shape's middle is in an outer cell, is the peak?"""
    maps, _ = maps_of(net, test)
    cell = maps.flatten(1).argmax(1)
    row, column = cell // 8, cell % 8
    x, y = (test.boxes[:, 0] + test.boxes[:, 2]) / 16, (test.boxes[:, 1] + test.boxes[:, 3]) / 16

    def outer(r: Tensor, c: Tensor) -> Tensor:
        return (r.floor() == 0) | (r.floor() == 7) | (c.floor() == 0) | (c.floor() == 7)

    there, peak = outer(y, x), outer(row.float(), column.float())
    return {
        "accuracy": shapes.accuracy(net, test),
        "pointing": pointing(maps, test.boxes),
        "shapes_in_outer_cells": int(there.sum()),
        "peak_outer_if_shape_is": float(peak[there].float().mean()),
        "peak_outer_if_shape_is_not": float(peak[~there].float().mean()),
    }


def study(
    seed: int, data: dict[str, shapes.Pictures], tests: dict[str, Any], shown: dict[str, Tensor]
) -> dict[str, Any]:
    """All trainings with one seed."""
    net = trained(data["plain"], 6, seed)
    cheat = trained(data["corner"], 3, seed)
    fixed = trained(data["corner at random"], 4, seed, cheat)
    nets = {
        "honest": (net, "corner"),
        "corner": (cheat, "corner"),
        "fixed": (fixed, "corner"),
        "paint": (trained(data["paint"], 3, seed), "paint"),
        "tint": (trained(data["tint"], 2, seed), "tint"),
    }
    row: dict[str, Any] = {"seed": seed, "maps": honest(net, tests["corner"]["none"])}
    for name, (one, kind) in nets.items():
        row[name] = shortcut(one, tests[kind], shown[kind])
    row["edge"] = {
        "honest": near_edge(net, tests["cut"]),
        "trained on cut shapes": near_edge(trained(data["cut"], 6, seed), tests["cut"]),
    }
    return json.loads(json.dumps(row), parse_float=lambda text: round(float(text), 3))


def findings(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What chapter 10 states."""
    return []


def inputs() -> tuple[dict[str, shapes.Pictures], dict[str, Any], dict[str, Tensor]]:
    """The pictures to learn from, those to test with, and the random class that each of the latter shows."""
    plain, test = shapes.pictures(2000, 1), shapes.pictures(N, 2)
    random = torch.randint(5, (N,), generator=torch.Generator().manual_seed(1))
    data = {
        "plain": plain,
        "corner": shapes.pictures(2000, 1, "class"),
        "corner at random": shapes.pictures(2000, 1, "random"),
        "paint": shapes.pictures(2000, 1, paint="class"),
        "tint": tint(plain, plain.labels),
        "cut": shapes.pictures(2000, 1, cut=True),
    }
    colours = torch.tensor(shapes.CORNER_COLOURS)
    painted, corner = shapes.pictures(N, 2, paint="random"), shapes.pictures(N, 2, "random")
    inside = (painted.images != test.images).any(1)  # the paint's colour, read off the pictures
    paint = torch.stack([image[:, m].mean(1) for image, m in zip(painted.images, inside, strict=True)])
    shown = {
        "corner": torch.cdist(corner.images[:, :, 0, 0], colours).argmin(1),
        "paint": torch.cdist(paint, colours).argmin(1),
        "tint": random,
    }
    tests = {
        "corner": {"class": shapes.pictures(N, 2, "class"), "none": test, "random": corner},
        "paint": {"class": shapes.pictures(N, 2, paint="class"), "none": test, "random": painted},
        "tint": {"class": tint(test, test.labels), "none": test, "random": tint(test, random)},
        "cut": shapes.pictures(N, 2, cut=True),
    }
    return data, tests, shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="where to store the result (default: beside the script)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    pictures = inputs()
    rows = [study(seed, *pictures) for seed in tqdm(SEEDS, unit="training")]
    store(options.out, findings(rows), trainings=rows)


if __name__ == "__main__":
    main()
