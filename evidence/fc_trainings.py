"""Ten trainings of a network without global average pooling: which statements about Grad-CAM and its family survive?

`shapes.network("fc")` is trained ten times, with ten seeds, half of them on one thread and half on two: on another
number of threads the same seed ends at other weights, as on another processor. Chapters 08 and 10 draw the strips. For
each training and method:

- `pointing`: in how many test pictures the map's strongest point lies in the shape's box; `other_class`: the same for
  the map of another class than the one that the network names;
- `zeroed`: how well the map predicts a deletion. Each of the 64 cells of the feature map is set to zero, in all
  channels; the mean over pictures of the correlation (Pearson) of the 64 falls of the logit with the map's 64 cells;
- `pairs`: in pictures with two shapes, how often the map of a shape's class points into its box, and how often into
  that of the other shape. Both shapes are asked for;
- `sums`: for each class, over the pictures that the network names rightly: the mean of the logit less the biases, which
  is the sum of HiResCAM, the mean of Grad-CAM's sum, and in which share of the pictures that is too small, or below 0.

Maps are those of the class that the network names, at the layer "0". `xgrad_cam` is the map of Fu et al. 2020, arXiv
2008.02312: one weight per channel, as in Grad-CAM, but with the sum of HiResCAM. `activity` is the sum of the channels,
which knows no class; `centre` is a blob in the middle of the picture.

Run it from the repository: python -m evidence.fc_trainings
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

import camlib
from camlib import sanity, shapes
from evidence.findings import finding, store

OUT = Path(__file__).with_suffix(".json")
SEEDS = range(10)
RECIPE = {"pictures": 4000, "pictures_seed": 100, "epochs": 5}
METHODS = ("grad_cam", "hires_cam", "grad_cam_plus_plus", "layer_cam", "xgrad_cam")
LAYER, ZEROED = "0", 200  # pictures whose cells are set to zero, one after the other
CHAPTER = "notebooks/08_grad_cam.ipynb"


def threads(seed: int) -> int:
    return 1 + seed % 2


def trained(seed: int, data: shapes.Pictures) -> nn.Module:
    net = shapes.network("fc", seed)
    shapes.train(net, data, RECIPE["epochs"], seed, threads(seed), progress=False)
    return net


def maps(net: nn.Module, x: Tensor, k: Tensor) -> dict[str, Tensor]:
    """The map (B, 8, 8) of class k (B,) by each method, and the activity."""
    with camlib.capture(net, LAYER, live=True) as seen:
        logits = net(x)
    (gradient,) = torch.autograd.grad(logits.gather(1, k[:, None]).sum(), seen[LAYER])
    features = seen[LAYER].detach()
    formulas = {name: method.formula for name, method in camlib.METHODS.items()} | {"xgrad_cam": xgrad_cam}
    found = {name: formulas[name](features, gradient) for name in METHODS}
    return found | {"activity": features.sum(1)}


def xgrad_cam(A: Tensor, G: Tensor) -> Tensor:
    """One weight per channel, such that the channel's part of the map has the sum of G · A; the features are ≥ 0."""
    weight = (G * A).sum((2, 3), keepdim=True) / A.sum((2, 3), keepdim=True).clamp(min=1e-12)
    return (weight * A).sum(1)


def inside(heats: Tensor, boxes: Tensor) -> Tensor:
    """Whether the strongest point of each map (B, h, w), upsampled, lies in its box (B, 4)."""
    strongest = camlib.upsample(heats, (shapes.SIDE, shapes.SIDE)).flatten(1).argmax(1)
    x, y = strongest % shapes.SIDE, strongest // shapes.SIDE
    left, top, right, bottom = boxes.T
    return (left <= x) & (x < right) & (top <= y) & (y < bottom)


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's correlation of each row (B, n) of a with that of b."""
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-12)


@torch.no_grad()
def falls(net: nn.Module, features: Tensor, k: Tensor) -> Tensor:
    """How far logit k (B,) falls when one cell of the features (B, C, h, w) is set to zero: (B, h · w)."""
    whole = net[1:](features).gather(1, k[:, None])
    cells = features.shape[2] * features.shape[3]
    result = torch.empty(len(features), cells)
    for cell in range(cells):
        less = features.flatten(2).clone()
        less[:, :, cell] = 0
        result[:, cell] = (whole - net[1:](less.view_as(features)).gather(1, k[:, None]))[:, 0]
    return result


@torch.no_grad()
def biases(net: nn.Module, features: Tensor, k: Tensor) -> Tensor:
    """What the biases bring to logit k (B,): the last one, and the hidden ones behind open gates."""
    hidden, last = net[2], net[4]
    is_open = hidden(features.flatten(1)) > 0
    return last.bias[k] + (last.weight[k] * is_open) @ hidden.bias


def share(hits: Tensor) -> float:
    return round(float(hits.float().mean()), 3)


def study(net: nn.Module, test: shapes.Pictures, two: shapes.Pictures) -> dict[str, Any]:
    """What is measured on one trained network."""
    x = shapes.centred(test.images)
    with torch.no_grad():
        logits, features = net(x), net[0](x)
    k = logits.argmax(1)
    found, other = maps(net, x, k), maps(net, x, (k + 1) % len(shapes.SHAPES))
    effect = falls(net, features[:ZEROED], k[:ZEROED])
    both = shapes.centred(two.images)
    pairs = {name: [0.0, 0.0] for name in (*METHODS, "activity")}
    for i in (0, 1):
        for name, heats in maps(net, both, two.labels[:, i]).items():
            for n, boxes in enumerate((two.boxes[:, i], two.boxes[:, 1 - i])):
                pairs[name][n] += share(inside(heats, boxes)) / 2
    goal = logits.gather(1, k[:, None])[:, 0] - biases(net, features, k)
    hires, grad, xgrad = (found[name].sum((1, 2)) for name in ("hires_cam", "grad_cam", "xgrad_cam"))
    assert torch.allclose(hires, goal, atol=1e-3, rtol=1e-4), "HiResCAM sums to the logit less the biases"
    assert torch.allclose(xgrad, goal, atol=1e-3, rtol=1e-4), "and so does XGrad-CAM"
    return {
        "accuracy": share(k == test.labels),
        "pointing": {name: share(inside(heats, test.boxes)) for name, heats in found.items()},
        "other_class": {name: share(inside(heats, test.boxes)) for name, heats in other.items()},
        "zeroed": {
            name: round(float(correlation(heats[:ZEROED].flatten(1), effect).mean()), 3)
            for name, heats in found.items()
        },
        "pairs": {name: [round(value, 3) for value in values] for name, values in pairs.items()},
        "sums": {
            name: {
                "goal": round(float(goal[mine].mean()), 2),
                "grad_cam": round(float(grad[mine].mean()), 2),
                "too_small": share(grad[mine] < goal[mine]),
                "below_zero": share(grad[mine] < 0),
            }
            for n, name in enumerate(shapes.SHAPES)
            if (mine := (k == n) & (k == test.labels)).any()
        },
    }


def ends(trainings: list[dict[str, Any]], key: str, method: str) -> str:
    """The smallest and the largest value over the trainings, for example "0.70 to 0.81"."""
    values = [training[key][method] for training in trainings]
    return f"{min(values):.2f} to {max(values):.2f}"


def findings(trainings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What chapter 08 states."""
    n = len(trainings)
    varied = f"{n} trainings: {n} seeds, half of them on one thread and half on two; 500 test pictures"
    two = f"{n} trainings; 500 pictures with two shapes, both asked for"

    def count(holds: Callable[[dict[str, Any]], bool]) -> str:
        return f"{sum(map(holds, trainings))} of {n}"

    sums = [t["sums"][name] for t in trainings for name in t["sums"]]
    small = f"{sum(one['grad_cam'] < one['goal'] for one in sums)} of {len(sums)}"
    parts = [one["grad_cam"] / one["goal"] for one in sums]
    worst = [min(t["sums"], key=lambda name: t["sums"][name]["grad_cam"] / t["sums"][name]["goal"]) for t in trainings]
    listed = ", ".join(f"{name} {worst.count(name)}" for name in shapes.SHAPES if name in worst)
    first = count(lambda t: max(t["zeroed"], key=t["zeroed"].get) == "hires_cam")
    zeroed = {m: ends(trainings, "zeroed", m) for m in (*METHODS, "activity")}
    above = count(lambda t: t["pointing"]["grad_cam"] > t["pointing"]["hires_cam"])
    better = count(lambda t: t["pointing"]["grad_cam_plus_plus"] > t["pointing"]["hires_cam"])
    other = {m: ends(trainings, "other_class", m) for m in (*METHODS, "activity")}
    wrong = count(lambda t: t["pairs"]["grad_cam_plus_plus"][1] > t["pairs"]["hires_cam"][1])
    below = count(lambda t: t["pairs"]["grad_cam"][1] < t["pairs"]["hires_cam"][1])
    into = [
        f"{min(v):.2f} to {max(v):.2f}"
        for m in ("grad_cam_plus_plus", "hires_cam", "grad_cam")
        if (v := [t["pairs"][m][1] for t in trainings])
    ]
    return [
        finding(
            CHAPTER,
            "On a network without GAP, the cells of Grad-CAM mostly add up to less than the logit minus the biases.",
            f"{varied}; the mean of each class",
            f"{small} classes; from {min(parts):.2f} to {max(parts):.2f} of it; the worst class: {listed}",
            [
                f"in {small} cases",
                f"{min(parts):.2f} to {max(parts):.2f}",
                f"the worst class in {worst.count('ring')} of {n}",
            ],
        ),
        finding(
            CHAPTER,
            "HiResCAM predicts best how far the logit falls when one cell of the feature map is set to zero.",
            f"{varied}, {ZEROED} of them, 64 cells each",
            f"{first}; correlation HiResCAM {zeroed['hires_cam']}, Grad-CAM {zeroed['grad_cam']}, "
            f"Grad-CAM++ {zeroed['grad_cam_plus_plus']}, LayerCAM {zeroed['layer_cam']}, "
            f"XGrad-CAM {zeroed['xgrad_cam']}, activity {zeroed['activity']}",
            [f"first in {first}", zeroed["hires_cam"], zeroed["grad_cam"], zeroed["xgrad_cam"]],
        ),
        finding(
            CHAPTER,
            "On pictures with one shape, Grad-CAM++ points into more boxes than HiResCAM.",
            varied,
            f"{better}; Grad-CAM++ {ends(trainings, 'pointing', 'grad_cam_plus_plus')}, "
            f"HiResCAM {ends(trainings, 'pointing', 'hires_cam')}; Grad-CAM is above HiResCAM in {above}",
            [f"ahead of HiResCAM in {better}"],
        ),
        finding(
            CHAPTER,
            "There, the Grad-CAM++ of another class points at the shape, too.",
            varied,
            f"Grad-CAM++ {other['grad_cam_plus_plus']}, LayerCAM {other['layer_cam']}, "
            f"Grad-CAM {other['grad_cam']}, HiResCAM {other['hires_cam']}",
            [other["grad_cam_plus_plus"], other["hires_cam"]],
        ),
        finding(
            CHAPTER,
            "On pictures with two shapes, Grad-CAM++ points at the shape of the other class more often than HiResCAM.",
            two,
            f"{wrong}; Grad-CAM++ {into[0]}, HiResCAM {into[1]}, Grad-CAM {into[2]}; "
            f"Grad-CAM below HiResCAM in {below}",
            [f"less often in {wrong}", into[0], into[1], into[2]],
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="where to store the result (default: beside the script)")
    parser.add_argument("--weights", type=Path, help="a folder that keeps the trained networks, for another run")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = shapes.pictures(RECIPE["pictures"], RECIPE["pictures_seed"])
    test, two = shapes.pictures(500, seed=2), shapes.pairs(500, seed=3)
    trainings = []
    for seed in tqdm(SEEDS, unit="training"):
        kept = options.weights and options.weights / f"fc_{seed}.pt"
        if kept and kept.exists():
            net = shapes.network("fc").eval()
            net.load_state_dict(torch.load(kept, weights_only=True))
        else:
            net = trained(seed, data)
            if kept:
                torch.save(net.state_dict(), kept)
        trainings.append({"seed": seed, "threads": threads(seed)} | study(net, test, two))
    centre = sanity.centre_map((shapes.SIDE, shapes.SIDE)).expand(len(test.labels), -1, -1)
    store(
        options.out,
        findings(trainings),
        recipe=RECIPE,
        centre=share(inside(centre, test.boxes)),
        trainings=trainings,
    )


if __name__ == "__main__":
    main()
