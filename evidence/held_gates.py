"""Which gates does a transformer's map need, and how much of a logit does a map leave to its rest?

First part: the small vision transformer with a class token (`camlib.shapes`), trained ten times on generated pictures.
At the end of its stem, we multiply the feature map by a gradient and sum: with nothing held, and with each choice of
its GELUs, LayerNorms and attention weights held. For each choice:

- share: the sum as a part of the logit, the median over the test pictures
- spread: the values between which eight of ten pictures lie
- miss: |sum + rest - logit| as a part of the logit, the median; the rest is a run with the same gates on an empty map
- pointing: in how many pictures the largest value of the map, enlarged to 64 × 64 pixels, lies in the box

Second part: the bundled network on twelve photos. At each of five layers, the share of the best class's logit that
lies on the map with all gates held.

Run it from the repository: python -m evidence.held_gates --weights FOLDER
"""

import argparse
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

import camlib
from camlib import shapes
from camlib.evaluate import pointing_game
from camlib.geometry import upsample
from camlib.transformer import HEADS, Attention
from evidence.findings import finding, store
from evidence.frozen_layer import trained

OUT = Path(__file__).with_suffix(".json")
PHOTOS = Path(__file__).parent.parent / "data" / "photos"
CHAPTER = "notebooks/13_every_network.ipynb"
SEEDS = range(10)
LAYERS = ("blocks.2", "blocks.4", "blocks.5", "blocks.6", "bn2")
Held = Callable[[Tensor], Tensor]


# --- the operations that remain --------------------------------------------------------------------------------------


def hold_gelu(module: Any, x: Tensor) -> Held:
    """GELU is x · Φ(x), with the standard normal distribution's Φ, which is the gate."""
    gate = torch.special.ndtr(x.detach())
    return lambda z: gate * z


def hold_norm(module: Any, x: Tensor) -> Held:
    """The deviation is held; the mean is not."""
    scale = (x.detach().var(-1, unbiased=False, keepdim=True) + module.eps).rsqrt()
    return lambda z: (z - z.mean(-1, keepdim=True)) * scale * module.weight + module.bias


def hold_attention(module: Any, x: Tensor) -> Held:
    """The weights with which each token reads the others are held; the values are not."""

    def split(t: Tensor) -> Tensor:
        return t.unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)

    q, k, _ = split(module.qkv(x.detach()))
    weights = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(-1).detach()
    return lambda z: module.proj((weights @ split(module.qkv(z))[2]).transpose(1, 2).flatten(2))


GATES: dict[str, tuple[type, Callable[[Any, Tensor], Held]]] = {
    "GELU": (nn.GELU, hold_gelu),
    "LayerNorm": (nn.LayerNorm, hold_norm),
    "attention": (Attention, hold_attention),
}
CHOICES = [names for n in range(len(GATES) + 1) for names in combinations(GATES, n)]


def split_logits(net: nn.Module, x: Tensor, labels: Tensor, names: tuple[str, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """The maps (B, 8, 8), rests (B,) and logits (B,) at the end of the stem, with these kinds of gates held."""
    rules, held = {GATES[name][0]: GATES[name][1] for name in names}, {}

    def hook(module: Any, args: tuple, _: Any) -> Tensor:
        if module not in held:
            held[module] = rules[type(module)](module, args[0])
        return held[module](args[0])

    hooks = [m.register_forward_hook(hook) for m in net.modules() if type(m) in rules]
    try:
        with camlib.capture(net, "stem", live=True) as seen:
            logits = net(x).gather(1, labels[:, None])[:, 0]
        A = seen["stem"]
        (G,) = torch.autograd.grad(logits.sum(), A)
        hooks.append(net.get_submodule("stem").register_forward_hook(lambda m, a, out: torch.zeros_like(out)))
        with torch.no_grad():
            rest = net(x).gather(1, labels[:, None])[:, 0]
    finally:
        for handle in hooks:
            handle.remove()
    return (G * A).sum(1).detach() * A[0, 0].numel(), rest, logits.detach()


def points(maps: Tensor, data: shapes.Pictures) -> float:
    """In how many of the pictures the largest value of the map lies in the box."""
    heats = upsample(maps.float(), (shapes.SIDE, shapes.SIDE))
    hits = [pointing_game(heat, [box]) for heat, box in zip(heats, data.boxes.tolist(), strict=True)]
    return sum(hits) / len(hits)


def study(net: nn.Module, data: shapes.Pictures) -> dict[str, Any]:
    """All choices of one network."""
    found: dict[str, Any] = {"accuracy": round(shapes.accuracy(net, data), 3)}
    x = shapes.centred(data.images)
    for names in CHOICES:
        maps, rest, logits = split_logits(net, x, data.labels, names)
        sums = maps.mean((1, 2))
        found[" + ".join(names) or "nothing"] = {
            "share": round(float((sums / logits).median()), 4),
            "spread": [round(float(q), 4) for q in (sums / logits).quantile(torch.tensor([0.1, 0.9]))],
            "miss": float(f"{float(((sums + rest - logits) / logits).abs().median()):.1e}"),
            "pointing": round(points(maps, data), 3),
        }
    return found


def on_photos() -> dict[str, list[float]]:
    """For each layer of the bundled network, the share of the best class's logit on the map: one for each photo."""
    clf = camlib.load_model()
    photos = sorted(PHOTOS.iterdir())
    return {
        layer: [round(camlib.explain(clf, photo, method="frozen", layer=layer).share(), 3) for photo in photos]
        for layer in tqdm(LAYERS, unit="layer")
    }


# --- what follows ----------------------------------------------------------------------------------------------------


def ends(values: list[float], digits: int = 2) -> str:
    """The smallest and the largest value as text."""
    low, high = (round(v, digits) + 0.0 for v in (min(values), max(values)))
    return f"{low:.{digits}f} to {high:.{digits}f}"


def findings(trainings: list[dict[str, Any]], photos: dict[str, list[float]]) -> list[dict[str, Any]]:
    """What chapter 13 states."""
    n, everything = len(trainings), "GELU + LayerNorm + attention"

    def column(choice: str, measure: str) -> list[float]:
        return [t[choice][measure] for t in trainings]

    plain, norm, full = (column(c, "share") for c in ("nothing", "LayerNorm", everything))
    spread = [end for t in trainings for end in t["nothing"]["spread"]]
    unheld = [c for c in trainings[0] if c != "accuracy" and "LayerNorm" not in c]
    without = [t[c]["share"] for t in trainings for c in unheld]
    pointing = {c: column(c, "pointing") for c in ("nothing", "LayerNorm", everything)}
    won = sum(a > b for a, b in zip(pointing[everything], pointing["nothing"], strict=True))
    helped = sum(a > b for a, b in zip(pointing["LayerNorm"], pointing["nothing"], strict=True))
    missing = [t[c]["miss"] for t in trainings for c in t if c not in ("accuracy", everything)]
    last, before = photos["bn2"], photos["blocks.6"]
    early = [s for layer in LAYERS[:3] for s in photos[layer]]
    return [
        finding(
            CHAPTER,
            "In a small vision transformer, gradient times feature map sums to almost nothing, unless its LayerNorms "
            "are held.",
            f"{n} trainings, 300 pictures; every choice of gates",
            f"share of the logit: nothing held {ends(plain)}, eight of ten pictures {ends(spread)}; "
            f"no LayerNorm held {ends(without)}; LayerNorm alone "
            f"{ends(norm)}; all gates {ends(full)}",
            [
                f"{ends(plain)} of the logit",
                f"eight of ten pictures, {ends(spread)}",
                f"{ends(norm)} of it",
                f"{ends(full)} of the logit",
            ],
        ),
        finding(
            CHAPTER,
            "Only with all gates held do map and rest add up to the logit.",
            f"{n} trainings, the 7 other choices",
            f"miss {100 * min(missing):.0f} % or more of the logit; all gates {max(column(everything, 'miss')):.0e}",
            [f"{100 * min(missing):.0f} % of the logit or more"],
        ),
        finding(
            CHAPTER,
            "With all gates held, the map points into the box more often than the plain gradient's.",
            f"{n} trainings, 300 pictures",
            f"{won} of {n}: {ends(pointing[everything])} against {ends(pointing['nothing'])}; with LayerNorm alone "
            f"{helped} of {n}: {ends(pointing['LayerNorm'])}",
            [
                f"{ends(pointing['nothing'])} of the boxes",
                f"better in {helped} of {n}",
                f"{ends(pointing[everything])}, more in {won} of {n}",
            ],
        ),
        finding(
            CHAPTER,
            "In the bundled network, the share of the logit on the map is near 1 for every photo at the last layer "
            "only.",
            f"{len(last)} photos, five layers",
            f"bn2 {ends(last)}; blocks.6 {ends(before)}, median {median(before):.1f}; earlier layers {ends(early)}",
            [
                f"{ends(last)} at the last layer",
                f"{ends(before)} one layer before",
                f"{ends(early)} at the earlier ones",
            ],
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, help="a folder: load trained networks from it, store new ones in it")
    parser.add_argument("--out", type=Path, default=OUT, help="where to store the result (default: beside the script)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    photos = on_photos()
    data = shapes.pictures(300, seed=9)
    trainings = [study(trained("token", seed, options.weights), data) for seed in tqdm(SEEDS, unit="training")]
    store(options.out, findings(trainings, photos), trainings=trainings, photos=photos)


if __name__ == "__main__":
    main()
