"""What do maps show of four small networks, three of which learned a shortcut? Ten trainings of each.

The honest network learns shapes. Three others learn from pictures that give the class away: by a coloured square in the
corner, by the colour of the shape itself, or by a tint over everything. Each is tested on pictures with the shortcut,
without it, and with that of a random class, and its maps are counted: where do they peak, and in how many cells is
there evidence for the class? The network that learned the corner is then trained on corners of random colours; as a
control, on as many pictures without corners.

The pictures are the same each time; the seed sets the initial weights and the order of the batches.

Run it from the repository: python -m evidence.shortcuts
"""

import copy
import json
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
    right, wrong = maps[MANY, label], [maps[MANY, (label + n) % 5] for n in range(1, 5)]
    strongest = right.flatten(1).argmax(1)
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
        "wrong_class": [pointing(m, test.boxes) for m in wrong],
        "wrong_below_zero": [float((m.flatten(1)[MANY, strongest] < 0).float().mean()) for m in wrong],
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
    control = trained(data["plain"], 4, seed, cheat)
    nets = {
        "honest": (net, "corner"),
        "corner": (cheat, "corner"),
        "fixed": (fixed, "corner"),
        "trained on without corners": (control, "corner"),
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


def span(values: list[float], digits: int = 2) -> str:
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"


def findings(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What chapter 10 states."""
    n, maps = len(rows), [row["maps"] for row in rows]

    def of(name: str, key: str, kind: str = "") -> list[float]:
        return [row[name][key][kind] if kind else row[name][key] for row in rows]

    def accuracies(name: str) -> list[str]:
        return [span(of(name, "accuracy", kind)) for kind in ("class", "none", "random")]

    cam = [v for m in maps for v in m["cam"]]
    activity, wrong = [m["activity"] for m in maps], [v for m in maps for v in m["wrong_class"]]
    ruined = [v for m in maps for v in m["ruined_layercam"]]
    guesses = [v for m in maps for v in m["ruined_accuracy"]]
    corner = {key: [of(name, key) for name in ("honest", "corner", "fixed")] for key in ("corner_10", "corner_16")}
    edge = {name: [row["edge"][name] for row in rows] for name in rows[0]["edge"]}
    there, elsewhere = (
        {name: [e[key] for e in part] for name, part in edge.items()}
        for key in ("peak_outer_if_shape_is", "peak_outer_if_shape_is_not")
    )
    varied = f"{n} trainings, 500 test pictures"
    return [
        finding(
            CHAPTER,
            "On pictures with one shape, the sum of all channels, which knows no class, points at it like CAM.",
            varied,
            f"CAM {span(cam)}, sum of the channels {span(activity)}, CAM of a wrong class {span(wrong)}, mean "
            f"{mean(wrong):.2f}; classifier destroyed: LayerCAM {span(ruined)} at an accuracy of {span(guesses)}, "
            f"mean {mean(guesses):.2f}",
            [span(activity), span(wrong), f"{mean(wrong):.2f} on average", span(ruined)],
        ),
        finding(
            CHAPTER,
            "The map of a network that learned a corner peaks near it, but not on the painted pixels.",
            varied,
            f"within 16 pixels: cheat {span(corner['corner_16'][1])}, honest network {span(corner['corner_16'][0])}; "
            f"on the painted 10: cheat {span(corner['corner_10'][1])}, honest {span(corner['corner_10'][0])}; accuracy "
            "of the cheat with the corner {}, without {}, with a random one {}".format(*accuracies("corner"))
            + f", whose class it names in {span(of('corner', 'follows'))}",
            [span(corner["corner_16"][1]), span(of("corner", "accuracy", "none"))],
        ),
        finding(
            CHAPTER,
            "Four epochs with random corners repair it.",
            varied,
            "accuracy {}, {} and {}; ".format(*accuracies("fixed"))
            + f"peak within 16 pixels {span(corner['corner_16'][2])}, on the shape {span(of('fixed', 'pointing'))}",
            [span(of("fixed", "accuracy", "random"))],
        ),
        finding(
            CHAPTER,
            "Four epochs without any corner nearly repair it, too.",
            varied,
            "accuracy {}, {} and {}; ".format(*accuracies("trained on without corners"))
            + f"peak within 16 pixels {span(of('trained on without corners', 'corner_16'))}",
            [span(of("trained on without corners", "accuracy", "random"))],
        ),
        finding(
            CHAPTER,
            "Where the middle of a shape lies in an outer cell, the map often peaks further in.",
            f"{varied}; the edge may cut a shape off, and {edge['honest'][0]['shapes_in_outer_cells']} have their "
            "middle in an outer cell",
            f"the peak is in an outer cell in {span(there['honest'])} of these, after training on such pictures in "
            f"{span(there['trained on cut shapes'])}; of the others in {span(elsewhere['honest'])} and "
            f"{span(elsewhere['trained on cut shapes'])}",
            [span(there["trained on cut shapes"])],
        ),
        finding(
            CHAPTER,
            "The map of a network that learned the colour of the shape points at the shape like an honest one.",
            varied,
            f"on the shape {span(of('paint', 'pointing'))}, honest network {span(of('honest', 'pointing'))}; accuracy "
            "with the paint {}, without {}, with a random one {}".format(*accuracies("paint")),
            [span(of("paint", "pointing")), span(of("paint", "accuracy", "none"))],
        ),
        finding(
            CHAPTER,
            "The map of a network that learned a tint is positive nearly everywhere.",
            varied,
            f"positive cells {span(of('tint', 'positive'))}, honest network {span(of('honest', 'positive'))}; peak on "
            f"the shape {span(of('tint', 'pointing'))}; "
            "accuracy with the tint {}, without {}, with a random one {}".format(*accuracies("tint")),
            [span(of("tint", "pointing"))],
        ),
    ]


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
    out = command(__file__, __doc__)
    torch.set_num_threads(1)
    pictures = inputs()
    rows = [study(seed, *pictures) for seed in tqdm(SEEDS, unit="training")]
    store(out, findings(rows), trainings=rows)


if __name__ == "__main__":
    main()
