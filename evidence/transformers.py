"""Where do the maps of a small vision transformer point, and whose class are they? Ten trainings of the shipped design.

The networks, pictures and measures are those of evidence/frozen_layer.py and evidence/frozen_beside_others.py: the
design "token" of camlib.transformer, which camlib ships trained, with ten seeds. In addition:

- two shapes: pictures of two shapes, one in the left and one in the right half, and each method asked for each of
  the two. How often has its map more positive evidence in the box of that shape than in the other one's? A method that
  cannot know the class gives the same map twice, so it is right in exactly half of the questions. The control covers
  one of the two boxes with the picture's mean colour: does the logit fall further than for the other box?
- networks that average their tokens have an exact map at the last layer too. What evidence/frozen_layer.py measured
  of it is quoted here.

Run it from the repository: python -m evidence.transformers
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from camlib import shapes
from camlib.forward_pass import run_forward
from camlib.geometry import upsample
from camlib.methods import METHODS
from camlib.transformer import VisionTransformer
from evidence import frozen_layer
from evidence.findings import finding, store
from evidence.frozen_beside_others import Found, frozen, gradient_attention, gradient_x_input, opened, rollout
from evidence.frozen_layer import GRID, Referee, baselines, mean_colour, places, trained

OUT = Path(__file__).with_suffix(".json")
SEEDS = range(10)
PICTURES, PATCHES, PAIRS = 200, 40, 100
CHAPTER = "notebooks/14_transformers.ipynb"
AVERAGING = ("mean", "windows", "hybrid")
"""The designs whose head reads the mean of all tokens."""
GRADIENTS = ("grad_cam", "hires_cam", "layer_cam")
NAMES = {"attention x gradient": "attention × gradient", "gradient x input": "gradient × input", "grad_cam": "Grad-CAM"}
NAMES |= {"hires_cam": "HiResCAM", "layer_cam": "LayerCAM"}
BOUND_TO_CLASS = ("frozen", "attention x gradient", "gradient x input", "grad_cam", "hires_cam", "layer_cam")


def last_attention(net: VisionTransformer, x: Tensor, labels: Tensor) -> Found:
    """The class token's row in the last block, the mean over the heads: the same for each class."""
    net = opened(net)
    with torch.no_grad():
        net(x)
    return Found(net.blocks[-1].attn.weights[:, :, 0, 1:].mean(1).unflatten(1, (GRID, GRID)))


def by_gradient(net: VisionTransformer, x: Tensor, labels: Tensor, method: str, layer: str) -> Found:
    """Grad-CAM, HiResCAM or LayerCAM at a layer."""
    ran = run_forward(net, x, places(net)[layer])
    return Found(METHODS[method].formula(ran.features, ran.gradient(labels.tolist())).detach())


def methods(net: VisionTransformer) -> dict[str, Callable[..., Found]]:
    """All that is compared, by name. No gradient reaches the patches behind the last block but one."""
    layers = ("stem", *(f"blocks.{k}" for k in range(len(net.blocks) - 1)))
    found: dict[str, Callable[..., Found]] = {
        "rollout": rollout,
        "attention of the last block": last_attention,
        "attention x gradient": gradient_attention,
        "gradient x input": gradient_x_input,
    }
    found |= {f"frozen at {layer}": partial(frozen, place=places(net)[layer]) for layer in layers}
    return found | {f"{m} at {at}": partial(by_gradient, method=m, layer=at) for m in GRADIENTS for at in layers}


# --- two shapes in a picture -----------------------------------------------------------------------------------------


def two_shapes(n: int, seed: int) -> shapes.Pictures:
    """Pictures of two shapes of different classes: labels (n, 2) and boxes (n, 2, 4), first the left one."""
    data, half = shapes.pictures(10 * n, seed), shapes.SIDE // 2
    left, right = ((data.boxes[:, 2] <= half).nonzero()[:, 0], (data.boxes[:, 0] >= half).nonzero()[:, 0])
    pairs = [(a, b) for a, b in zip(left, right, strict=False) if data.labels[a] != data.labels[b]][:n]
    one, other = (torch.stack(part) for part in zip(*pairs, strict=True))
    images = torch.cat([data.images[one][..., :half], data.images[other][..., half:]], 3)
    labels, boxes = (torch.stack([table[one], table[other]], 1) for table in (data.labels, data.boxes))
    return shapes.Pictures(images, labels, boxes)


def inside(values: Tensor, boxes: Tensor) -> Tensor:
    """The sum of (n, 64, 64) over a box each, (n, 4) -> (n,)."""
    return torch.stack([v[t:b, le:r].sum() for v, (le, t, r, b) in zip(values, boxes.tolist(), strict=True)])


def whose(maps: Callable[[Tensor], Tensor], data: shapes.Pictures) -> float:
    """In how many of the questions the map of a class has more positive evidence in its own box than in the other."""
    right = []
    for side in (0, 1):
        heats = upsample(maps(data.labels[:, side]).float(), (shapes.SIDE, shapes.SIDE)).clamp(min=0)
        own, other = (inside(heats, data.boxes[:, k]) for k in (side, 1 - side))
        right.append((own > other).float() + (own == other).float() / 2)
    return round(float(torch.cat(right).mean()), 4)


def by_covering(net: VisionTransformer, data: shapes.Pictures) -> float:
    """In how many of the questions covering the class's own shape lowers its logit further than covering the other."""
    x, covered = shapes.centred(data.images), []
    for side in (0, 1):
        copy = x.clone()
        for picture, (left, top, right, bottom) in zip(copy, data.boxes[:, side].tolist(), strict=True):
            picture[:, top:bottom, left:right] = mean_colour(picture)
        covered.append(copy)
    with torch.no_grad():
        logits = torch.stack([net(part) for part in covered])  # (2 covered boxes, n, classes)
    right = [logits[k].gather(1, data.labels[:, [k]]) < logits[1 - k].gather(1, data.labels[:, [k]]) for k in (0, 1)]
    return round(float(torch.cat(right).float().mean()), 4)


# --- the study -------------------------------------------------------------------------------------------------------


def study(net: VisionTransformer, data: shapes.Pictures, pairs: shapes.Pictures) -> dict[str, Any]:
    """All measures of one network."""
    x, both = shapes.centred(data.images), shapes.centred(pairs.images)
    referee = Referee(net, data, PATCHES)
    with torch.no_grad():
        logits = net(x).gather(1, data.labels[:, None])[:, 0]
    rows: dict[str, Any] = {}
    for name, way in methods(net).items():
        found = way(net, x, data.labels)
        rows[name] = referee.judge(found.maps) | {"whose": whose(lambda k, way=way: way(net, both, k).maps, pairs)}
        if found.rest is not None:
            rows[name]["share"] = round(float((found.maps.sum((1, 2)) / logits).median()), 4)
    rows |= baselines(referee, data)
    return {
        "accuracy": round(shapes.accuracy(net, data), 4),
        "covering": by_covering(net, pairs),
        "methods": {name: {k: round(v, 3) for k, v in row.items()} for name, row in rows.items()},
    }


def best(run: dict[str, Any], method: str, measure: str) -> float:
    """The best value of a method over the layers at which it was read."""
    rows = [row for name, row in run["methods"].items() if name == method or name.startswith(f"{method} at ")]
    return max(row[measure] for row in rows)


def ranged(values: list[float], digits: int = 2) -> str:
    """From the smallest to the largest value."""
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"


def averaging() -> list[dict[str, Any]]:
    """What evidence/frozen_layer.py found at the last layer of the networks that average their tokens."""
    runs = json.loads(frozen_layer.OUT.read_text(encoding="utf-8"))["trainings"]
    return [run["layers"]["norm"] | {"baselines": run["baselines"]} for d in AVERAGING for run in runs[d].values()]


def findings(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What chapter 14 states."""
    n, varied = len(runs), f"{len(runs)} trainings of the shipped design, {PICTURES} pictures"
    two = f"{len(runs)} trainings of the shipped design, {PAIRS} pictures of two shapes, each asked for both"
    stem = [run["methods"]["frozen at stem"] for run in runs]
    roll = [run["methods"]["rollout"] for run in runs]
    shares = {
        at: [run["methods"][f"frozen at {at}"]["share"] for run in runs] for at in ("stem", "blocks.0", "blocks.1")
    }
    percent = {at: f"{100 * min(s):.0f} % to {100 * max(s):.0f} %" for at, s in shares.items()}
    energy = [s["energy"] / r["energy"] for s, r in zip(stem, roll, strict=True)]
    deleted = [sum(r[m] > s[m] for s, r in zip(stem, roll, strict=True)) for m in ("deletion_mean", "deletion_noise")]
    points = sum(s["pointing"] > r["pointing"] for s, r in zip(stem, roll, strict=True))
    asked = {name: [best(run, name, "whose") for run in runs] for name in BOUND_TO_CLASS}
    covering = [run["covering"] for run in runs]
    same = [f"{m} at {at}" for m in GRADIENTS[:2] for at in ("stem", "blocks.0", "blocks.1")]
    pairs = list(zip(same[:3], same[3:], strict=True))
    hires = sum(run["methods"][h]["pointing"] > run["methods"][g]["pointing"] for run in runs for g, h in pairs)
    grad = [best(run, "grad_cam", "pointing") for run in runs]
    blob = [run["methods"]["blob in the middle"]["pointing"] for run in runs]
    last = averaging()
    below = sum(row["pointing"] < row["baselines"]["uniform"]["pointing"] for row in last)
    won = {m: sum(a > b for a, b in zip(asked["frozen"], asked[m], strict=True)) for m in BOUND_TO_CLASS[1:]}
    return [
        finding(
            CHAPTER,
            "At the patches, most of the logit lies on the map; after the first block, most is in the class token.",
            varied,
            f"share at the patches {percent['stem']}, after block 0 {percent['blocks.0']}, after block 1 "
            f"{percent['blocks.1']}",
            [f"{percent['stem']} at the patches", f"{percent['blocks.0']} after the first block"],
        ),
        finding(
            CHAPTER,
            "Frozen maps at the patches and rollout point into the box about equally often.",
            varied,
            f"frozen {ranged([s['pointing'] for s in stem])}, rollout {ranged([r['pointing'] for r in roll])}; frozen "
            f"ahead in {points} of {n}; a blob in the middle {ranged(blob)}",
            [ranged([s["pointing"] for s in stem]), ranged([r["pointing"] for r in roll])],
        ),
        finding(
            CHAPTER,
            "A frozen map at the patches has a larger part of its positive evidence in the box than rollout.",
            varied,
            f"{sum(e > 1 for e in energy)} of {n}; {ranged(energy, 1)} times as much",
            [f"{ranged(energy, 1)} times"],
        ),
        finding(
            CHAPTER,
            "Rollout predicts better than the frozen map what deleting a patch does.",
            f"{varied}, {PATCHES} of them for deletion, two fills",
            f"mean colour {deleted[0]} of {n}, noise {deleted[1]} of {n}",
            [f"{deleted[0]} of {n} trainings with the mean colour", f"{deleted[1]} of {n} with noise"],
        ),
        finding(
            CHAPTER,
            "Asked for one of two shapes, a frozen map at the patches lies on the right one.",
            two,
            f"{ranged([run['methods']['frozen at stem']['whose'] for run in runs])} of the questions; covering the box "
            f"agrees in {ranged(covering)}",
            [
                f"{ranged([run['methods']['frozen at stem']['whose'] for run in runs])} of the questions",
                f"{ranged(covering)} of the questions",
            ],
        ),
        finding(
            CHAPTER,
            "Other methods that know the class are less often right about it, at the best layer of each network.",
            two,
            "; ".join(f"{NAMES[m]} {ranged(asked[m])}, frozen ahead in {won[m]} of {n}" for m in won),
            [f"{NAMES[m]} {ranged(asked[m])}" for m in won],
        ),
        finding(
            CHAPTER,
            "Without the averaging of its gradient, Grad-CAM (now HiResCAM) points better at the same layer.",
            f"{varied}, 3 layers each",
            f"{hires} of {len(pairs) * n}; Grad-CAM at the best layer of each network {ranged(grad)}",
            [f"{hires} of {len(pairs) * n}", f"{ranged(grad)} of the boxes"],
        ),
        finding(
            CHAPTER,
            "In networks that average their tokens, the exact map of the last layer points worse than a random point.",
            f"{len(last)} trainings of {len(AVERAGING)} designs, by evidence/frozen_layer.py",
            f"{below} of {len(last)}; {ranged([row['pointing'] for row in last])} of the boxes, which cover "
            f"{last[0]['baselines']['uniform']['pointing']:.2f} of a picture; share of the logit "
            f"{ranged([row['share'] for row in last])}",
            [f"{below} of {len(last)} trainings", f"{ranged([row['pointing'] for row in last])} of the boxes"],
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="where to store the result (default: beside the script)")
    parser.add_argument("--weights", type=Path, help="a folder: load trained networks from it, store new ones in it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data, pairs = shapes.pictures(PICTURES, seed=9), two_shapes(PAIRS, seed=21)
    shipped = study(shapes.trained_transformer(), data, pairs)
    runs = [study(trained("token", seed, options.weights), data, pairs) for seed in tqdm(SEEDS, unit="training")]
    names = runs[0]["methods"]
    medians = {
        name: {k: round(median(run["methods"][name][k] for run in runs), 3) for k in names[name]} for name in names
    }
    accuracy = [run["accuracy"] for run in runs]
    means = {"accuracy": round(mean(accuracy), 4), "lowest": min(accuracy)}
    store(options.out, findings(runs), trainings=means, medians=medians, shipped=shipped, runs=runs)


if __name__ == "__main__":
    main()
