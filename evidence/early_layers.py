"""Which method survives at an early layer? Mosaics of four photos, three trained networks.

Six mosaics of four photos each. For each photo, the class is the one that the network names for it alone, and its
evidence belongs in its quarter: the number is the share of a map's positive cells' sum in the quarter. A map that says
nothing gets 0.25. Measured for Grad-CAM, LayerCAM and HiResCAM at six layers of EfficientNet-Lite0, Lite1 and Lite2.

`spread` is the standard deviation of a channel's gradient over the cells, as a part of the size of its mean, both
averaged over the channels.

Run it from the repository, with the packages that evidence/lite.py names: python -m evidence.early_layers
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

import camlib
from evidence.findings import finding, store
from evidence.lite import networks

OUT = Path(__file__).with_suffix(".json")
PHOTOS = Path(__file__).parent.parent / "data" / "photos"
LAYERS = ("blocks.1", "blocks.2", "blocks.4", "blocks.5", "blocks.6", "bn2")
METHODS = ("grad_cam", "layer_cam", "hires_cam")
NAMES = ("cat", "coffee", "camera", "rocket", "china", "panda", "crocodile", "flower")  # named well enough to ask where
MOSAICS = 6
CHAPTER = "notebooks/08_grad_cam.ipynb"


def tile(photo: np.ndarray, side: int) -> np.ndarray:
    """The central square of a photo, side × side × 3."""
    image = Image.fromarray(photo)
    short = min(image.size)
    left, top = (image.width - short) // 2, (image.height - short) // 2
    return np.asarray(
        image.resize((side, side), Image.Resampling.BICUBIC, (left, top, left + short, top + short)), np.float32
    )


def own_quarter(maps: Tensor) -> list[float]:
    """maps (4, h, w), row by row -> the share of each map's positive sum in its quarter."""
    maps, h, w = maps.clamp(min=0), maps.shape[1] // 2, maps.shape[2] // 2
    tiles = [maps[n, n // 2 * h :][:h, n % 2 * w :][:, :w] for n in range(4)]
    return [float(t.sum() / m.sum()) for t, m in zip(tiles, maps, strict=True)]


def study(clf: camlib.Classifier, photos: list[np.ndarray], size: int) -> dict[str, Any]:
    """One network: for each layer, the shares by method and mosaic, and the spread of the gradient."""
    tiles = [tile(photo, size) for photo in photos]
    alone = torch.stack([_input(t) for t in tiles])
    with torch.no_grad():
        named = clf.module(alone).argmax(1).tolist()
    shares: dict[str, dict[str, list[float]]] = {layer: {method: [] for method in METHODS} for layer in LAYERS}
    spreads: dict[str, list[float]] = {layer: [] for layer in LAYERS}
    rng = np.random.default_rng(0)
    for _ in tqdm(range(MOSAICS), desc=clf.name, unit="mosaic"):
        four = [int(n) for n in rng.permutation(len(tiles))[:4]]
        rows = [np.concatenate([tiles[n] for n in pair], 1) for pair in (four[:2], four[2:])]
        for layer, (maps, spread) in _maps(clf, _input(np.concatenate(rows)), [named[n] for n in four]).items():
            for method, found in maps.items():
                shares[layer][method] += [round(share, 3) for share in own_quarter(found)]
            spreads[layer].append(round(spread, 2))
    mean = {layer: {m: round(float(np.mean(v)), 3) for m, v in by.items()} for layer, by in shares.items()}
    return {
        "named": [clf.labels[k] for k in named],
        "mean": mean,
        "spread": {layer: round(float(np.mean(v)), 1) for layer, v in spreads.items()},
        "shares": shares,
    }


def _input(picture: np.ndarray) -> Tensor:
    """A picture (H, W, 3) as an input (3, H, W) of these networks: 0 to 255 becomes -1 to 1."""
    return torch.from_numpy(picture).permute(2, 0, 1) / 127.5 - 1


def _maps(clf: camlib.Classifier, x: Tensor, classes: list[int]) -> dict[str, tuple[dict[str, Tensor], float]]:
    """For each layer: the four classes' maps by each method, and the mean spread."""
    with camlib.capture(clf.module, *LAYERS, live=True) as seen:
        logits = clf.module(x[None])
    features = [seen[layer] for layer in LAYERS]
    maps: dict[str, dict[str, list[Tensor]]] = {layer: {m: [] for m in METHODS} for layer in LAYERS}
    spreads: dict[str, list[float]] = {layer: [] for layer in LAYERS}
    for k in classes:
        for layer, A, G in zip(
            LAYERS, features, torch.autograd.grad(logits[0, k], features, retain_graph=True), strict=True
        ):
            for m in METHODS:
                maps[layer][m].append(camlib.METHODS[m].formula(A.detach(), G)[0])
            spreads[layer].append(float(G.std((2, 3)).mean() / G.mean((2, 3)).abs().mean()))
    return {
        layer: ({m: torch.stack(found) for m, found in by.items()}, float(np.mean(spreads[layer])))
        for layer, by in maps.items()
    }


def findings(found: dict[str, Any]) -> list[dict[str, Any]]:
    """What chapter 08 states."""

    def ends(method: str, layers: Sequence[str]) -> str:
        values = [network["mean"][layer][method] for network in found.values() for layer in layers]
        return f"{min(values):.2f} to {max(values):.2f}"

    def wins(better: str, worse: str, layers: Sequence[str]) -> str:
        pairs = [
            (np.mean(network["shares"][layer][better][i : i + 4]), np.mean(network["shares"][layer][worse][i : i + 4]))
            for network in found.values()
            for layer in layers
            for i in range(0, 4 * MOSAICS, 4)
        ]
        return f"{sum(one > other for one, other in pairs)} of {len(pairs)}"

    early, last = LAYERS[:3], LAYERS[-1:]
    varied = f"mean over {MOSAICS} mosaics of 4 out of {len(NAMES)} photos, {len(found)} networks"
    return [
        finding(
            CHAPTER,
            "At early layers, a gradient for each cell keeps more of the evidence in the class's quarter.",
            f"{varied}, layers {', '.join(early)}",
            f"HiResCAM {ends('hires_cam', early)}, LayerCAM {ends('layer_cam', early)}, Grad-CAM "
            f"{ends('grad_cam', early)}; LayerCAM above Grad-CAM on {wins('layer_cam', 'grad_cam', early)}",
            [ends("hires_cam", early), ends("layer_cam", early), ends("grad_cam", early)],
        ),
        finding(
            CHAPTER,
            "At the last layer, LayerCAM keeps less of the evidence in the class's quarter than Grad-CAM.",
            f"{varied}, layer {last[0]}",
            f"LayerCAM {ends('layer_cam', last)}, Grad-CAM {ends('grad_cam', last)}; Grad-CAM above LayerCAM on "
            f"{wins('grad_cam', 'layer_cam', last)}",
            [ends("layer_cam", last), ends("grad_cam", last)],
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="where to store the result (default: beside the script)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    photos = [camlib.read_image(next(PHOTOS.glob(f"{name}.*"))) for name in NAMES]
    sizes = {"lite0": 224, "lite1": 240, "lite2": 260}
    found = {name: study(clf, photos, sizes[name]) for name, clf in networks().items()}
    store(options.out, findings(found), photos=NAMES, networks=found)


if __name__ == "__main__":
    main()
