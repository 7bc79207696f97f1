"""Which maps change when a network's weights are shuffled, and which of them predict a deletion?

In three networks and on twelve photos, for the best class: the map of each method before and after the classifier's
weights were shuffled, ten times. Maps are averaged to 7 × 7 cells and compared by Spearman's rank correlation. In Lite0,
the shuffling then goes on down to the first layer. Controls: an edge filter, noise that depends on the weights, and the
maps of different photos.

The second test on the same maps: how well does each predict the fall of the logit when one cell of the last feature map
is set to zero? (Of the class activation map that is exact.)

Run it from the repository, with the packages that evidence/lite.py names: python -m evidence.randomisation
"""

import argparse
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

import camlib
from camlib import sanity
from evidence.findings import finding, store
from evidence.lite import networks

OUT = Path(__file__).with_suffix(".json")
PHOTOS = Path(__file__).parent.parent / "data" / "photos"
SEEDS = range(10)
CASCADE_SEEDS = range(4)
EARLY, MIDDLE, LAST = "blocks.2.0.bn1", "blocks.4", "bn2"
CASCADE = ["classifier", "bn2", "conv_head", *(f"blocks.{n}" for n in range(6, -1, -1)), "bn1", "conv_stem"]
SHOWN = ["classifier", "conv_head", "blocks.6", "blocks.2", "conv_stem"]
CHAPTER = "notebooks/10_sanity.ipynb"
DIVE = "notebooks/deep_dives/randomisation.ipynb"


def maps_of(module: nn.Module, x: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Each method's maps, (B, 7, 7): CAM and the family on three layers, from one forward and one backward pass."""
    found: dict[str, list[Tensor]] = {}
    for part, k in zip(x.split(4), targets.split(4), strict=True):
        with camlib.capture(module, EARLY, MIDDLE, LAST, live=True) as seen:
            logits = module(part)
        A = [seen[layer] for layer in (EARLY, MIDDLE, LAST)]
        G = torch.autograd.grad(logits.gather(1, k[:, None]).sum(), A)
        (a, g_a), (m, g_m), (f, g_f) = ((t.detach(), g) for t, g in zip(A, G, strict=True))
        one = {
            "CAM": (g_f * f).sum(1),  # times 49: with global average pooling the gradient is the weight over 49
            "LayerCAM, last layer": (g_f.clamp(min=0) * f).sum(1),
            "Grad-CAM, middle layer": (g_m.mean((2, 3), keepdim=True) * m).sum(1),
            "HiResCAM, middle layer": (g_m * m).sum(1),
            "LayerCAM, early layer": (g_a.clamp(min=0) * a).sum(1),
            "HiResCAM, early layer": (g_a * a).sum(1),
            "activity, last layer": f.sum(1),
            "activity, early layer": a.sum(1),
        }
        for name, maps in one.items():
            found.setdefault(name, []).append(F.adaptive_avg_pool2d(maps[:, None], 7)[:, 0])
    return {name: torch.cat(parts) for name, parts in found.items()}


def noise(module: nn.Module, photos: int) -> Tensor:
    """Maps that depend on nothing but a checksum of the weights."""
    seed = int(sum(p.detach().double().sum().item() * 1e6 for p in module.parameters())) % 2**31
    return torch.stack([sanity.random_map((7, 7), seed + n) for n in range(photos)])


def alike(one: Tensor, other: Tensor) -> list[float]:
    return [round(sanity.rank_correlation(a, b), 3) for a, b in zip(one, other, strict=True)]


def study(clf: camlib.Classifier, cascade: bool) -> dict[str, Any]:
    """One network."""
    photos = [camlib.read_image(path) for path in sorted(PHOTOS.iterdir())]
    x = torch.cat([clf.preprocess(photo, clf.view(photo)) for photo in photos])
    with torch.no_grad():
        logits = torch.cat([clf.module(part) for part in x.split(4)])
    targets = logits.argmax(1)
    intact = maps_of(clf.module, x, targets)
    square = [((one * 0.5 + 0.5) * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy() for one in x]
    edges = F.adaptive_avg_pool2d(torch.stack([sanity.edge_map(picture) for picture in square])[:, None], 7)[:, 0]
    intact |= {"edge filter": edges, "noise": noise(clf.module, len(photos))}

    kept: dict[str, dict[str, list[float]]] = {name: {} for name in intact}
    guesses = []
    for seed in SEEDS:
        stages = CASCADE if cascade and seed in CASCADE_SEEDS else CASCADE[:1]
        for stage, other in sanity.randomised(clf, stages, seed):
            if stage not in SHOWN:
                continue
            maps = maps_of(other.module, x, targets) | {"edge filter": edges, "noise": noise(other.module, len(photos))}
            for name, one in maps.items():
                kept[name].setdefault(stage, []).extend(alike(intact[name], one))
            if stage == "classifier":
                with torch.no_grad():
                    p = torch.cat([other.module(part) for part in x[:4].split(4)]).softmax(1)
                guesses.append(float(p.gather(1, targets[:4, None]).max()))
    pairs = list(combinations(range(len(photos)), 2))
    truth = intact["CAM"].flatten(1)  # in proportion to the fall of the logit when the cell is set to zero
    return {
        "kept": kept,
        "unrelated": {
            name: [round(sanity.rank_correlation(maps[i], maps[j]), 3) for i, j in pairs]
            for name, maps in intact.items()
        },
        "predicts": {
            name: [round(float(torch.corrcoef(torch.stack([m, t]))[0, 1]), 3) for m, t in zip(maps.flatten(1), truth, strict=True)]
            for name, maps in intact.items()
        },
        "layercam_is_activity": alike(intact["LayerCAM, last layer"], intact["activity, last layer"]),
        "largest_guess": round(max(guesses), 4),
    }


def findings(results: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What chapter 10 and its deep dive state."""
    return []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="where to store the result (default: beside the script)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = {name: study(clf, name == "lite0") for name, clf in tqdm(networks().items(), unit="network")}
    store(options.out, findings(results), networks=results)


if __name__ == "__main__":
    main()
