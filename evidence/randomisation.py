"""Which maps change when a network's weights are shuffled, and which of them predict a deletion?

In three networks and on twelve photos, for the best class: the map of each method before and after the classifier's
weights were shuffled, ten times. Maps are averaged to as many cells as the last
feature map has (7 × 7, 8 × 8 or 9 × 9) and compared by Spearman's rank correlation. In Lite0,
the shuffling then goes on down to the first layer. Controls: an edge filter, noise that depends on the weights, and the
maps of different photos.

The second test on the same maps: how well does each predict the falls of the logit when one part of its own layer after
the other is set to zero, in all channels? The parts are as large as a cell of the last feature map. (On the last layer,
HiResCAM is the class activation map over the number of cells, and predicts them exactly. For the other layers, this is
measured in Lite0 alone.)

Run it from the repository, with the packages that evidence/lite.py names: python -m evidence.randomisation
"""

from collections.abc import Mapping
from itertools import combinations, product
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

import camlib
from camlib import sanity
from evidence.findings import PHOTOS, command, finding, store
from evidence.lite import networks

SEEDS = range(10)
CASCADE_SEEDS = range(4)
LAYERS = {"early": "blocks.2.0.bn1", "middle": "blocks.4", "last": "bn2"}
CASCADE = ["classifier", "bn2", "conv_head", *(f"blocks.{n}" for n in range(6, -1, -1)), "bn1", "conv_stem"]
SHOWN = ["classifier", "conv_head", "blocks.6", "blocks.2", "conv_stem"]
CHAPTER = "notebooks/10_sanity.ipynb"
DIVE = "notebooks/deep_dives/randomisation.ipynb"


def bins(length: int, cells: int) -> list[slice]:
    """The parts that adaptive_avg_pool2d averages."""
    return [slice(n * length // cells, -(-(n + 1) * length // cells)) for n in range(cells)]


def maps_of(module: nn.Module, x: Tensor, targets: Tensor, cells: int) -> dict[str, Tensor]:
    """Each method's maps (B, cells, cells): on three layers, from one forward and one backward pass."""
    found: dict[str, list[Tensor]] = {}
    for part, k in zip(x.split(4), targets.split(4), strict=True):
        with camlib.capture(module, *LAYERS.values(), live=True) as seen:
            logits = module(part)
        A = {name: seen[layer] for name, layer in LAYERS.items()}
        G = torch.autograd.grad(logits.gather(1, k[:, None]).sum(), list(A.values()))
        for (name, a), g in zip(A.items(), G, strict=True):
            a = a.detach()
            one = {
                "HiResCAM": (g * a).sum(1),  # on the last layer, CAM over the number of cells
                "Grad-CAM": (g.mean((2, 3), keepdim=True) * a).sum(1),
                "LayerCAM": (g.clamp(min=0) * a).sum(1),
                "activity": a.sum(1),
            }
            for method, maps in one.items():
                pooled = F.adaptive_avg_pool2d(maps[:, None], cells)[:, 0]
                found.setdefault(f"{method}, {name} layer", []).append(pooled)
    return {name: torch.cat(parts) for name, parts in found.items()}


def falls(module: nn.Module, x: Tensor, targets: Tensor, layer: str, cells: int) -> Tensor:
    """How far the logit falls when one part of a layer's output is set to zero, in all channels: (B, cells, cells)."""
    result = torch.empty(cells, cells, len(x))
    where: list[int] = []

    def without(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        changed = output.clone()
        if where:
            rows, columns = (bins(side, cells) for side in output.shape[2:])
            changed[:, :, rows[where[0]], columns[where[1]]] = 0
        return changed

    def logits() -> Tensor:
        return torch.cat([module(part) for part in x.split(4)]).gather(1, targets[:, None])[:, 0]

    handle = module.get_submodule(layer).register_forward_hook(without)
    try:
        with torch.no_grad():
            before = logits()
            for row, column in product(range(cells), repeat=2):
                where[:] = row, column
                result[row, column] = before - logits()
    finally:
        handle.remove()
    return result.permute(2, 0, 1)


def noise(module: nn.Module, photos: int, cells: int) -> Tensor:
    """Maps that depend on nothing but a checksum of the classifier's weights."""
    first = module.get_submodule("classifier").weight.detach().flatten()[:100]
    seed = int(first.double().sum().abs().item() * 1e6) % 2**31
    return torch.stack([sanity.random_map((cells, cells), seed + n) for n in range(photos)])


def alike(one: Tensor, other: Tensor) -> list[float]:
    return [round(sanity.rank_correlation(a, b), 3) for a, b in zip(one, other, strict=True)]


def study(clf: camlib.Classifier, cascade: bool) -> dict[str, Any]:
    """One network."""
    photos = [camlib.read_image(path) for path in sorted(PHOTOS.iterdir())]
    x = torch.cat([clf.preprocess(photo, clf.view(photo)) for photo in photos])
    with torch.no_grad():
        logits = torch.cat([clf.module(part) for part in x.split(4)])
    targets, cells = logits.argmax(1), clf.head.run(clf.module, x[:1])[0].shape[-1]
    intact = maps_of(clf.module, x, targets, cells)
    square = [((one * 0.5 + 0.5) * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy() for one in x]
    edges = F.adaptive_avg_pool2d(torch.stack([sanity.edge_map(picture) for picture in square])[:, None], cells)[:, 0]
    intact |= {"edge filter": edges, "noise": noise(clf.module, len(photos), cells)}
    effects = {"last": intact["HiResCAM, last layer"]}  # exactly so: with global average pooling, the logit is a mean
    if cascade:
        effects |= {name: falls(clf.module, x, targets, LAYERS[name], cells) for name in ("early", "middle")}

    kept: dict[str, dict[str, list[float]]] = {name: {} for name in intact}
    guesses = []
    for seed in SEEDS:
        stages = CASCADE if cascade and seed in CASCADE_SEEDS else CASCADE[:1]
        for stage, other in sanity.randomised(clf, stages, seed):
            if stage not in SHOWN:
                continue
            maps = maps_of(other.module, x, targets, cells)
            maps |= {"edge filter": edges, "noise": noise(other.module, len(photos), cells)}
            for name, one in maps.items():
                kept[name].setdefault(stage, []).extend(alike(intact[name], one))
            if stage == "classifier":
                with torch.no_grad():
                    p = torch.cat([other.module(part) for part in x[:4].split(4)]).softmax(1)
                guesses.append(float(p.gather(1, targets[:4, None]).max()))
    pairs = list(combinations(range(len(photos)), 2))
    predicts = {}
    for name, maps in intact.items():
        layer = name.split(", ")[-1].removesuffix(" layer")
        if layer in LAYERS and layer not in effects:
            continue
        pairs_of = zip(maps, effects.get(layer, effects["last"]), strict=True)
        predicts[name] = [
            round(float(torch.corrcoef(torch.stack([m.flatten(), e.flatten()]))[0, 1]), 3) for m, e in pairs_of
        ]
    return {
        "kept": kept,
        "unrelated": {
            name: [round(sanity.rank_correlation(maps[i], maps[j]), 3) for i, j in pairs]
            for name, maps in intact.items()
        },
        "predicts": predicts,
        "layercam_is_activity": alike(intact["LayerCAM, last layer"], intact["activity, last layer"]),
        "targets": [clf.labels[k] for k in targets.tolist()],
        "largest_guess": round(max(guesses), 4),
    }


def findings(results: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What chapter 10 and its deep dive state."""
    cam, last, early, signed = (
        f"{m} layer" for m in ("HiResCAM, last", "LayerCAM, last", "LayerCAM, early", "HiResCAM, early")
    )

    def kept(method: str) -> list[float]:
        return [mean(result["kept"][method]["classifier"]) for result in results.values()]

    def predicts(method: str) -> list[float]:
        return [mean(r["predicts"][method]) for r in results.values() if method in r["predicts"]]

    def span(values: list[float]) -> str:
        low, high = (round(v, 2) + 0.0 for v in (min(values), max(values)))  # no -0.00
        return f"{low:.2f} to {high:.2f}"

    single = [v for result in results.values() for v in result["kept"][cam]["classifier"]]
    lite0 = results["lite0"]
    stages = {
        m: [f"{round(mean(lite0['kept'][m][stage]), 1) + 0.0:.1f}" for stage in SHOWN] for m in (cam, last, early)
    }
    grad, hires, both_signs = (f"{m}, middle layer" for m in ("Grad-CAM", "HiResCAM", "LayerCAM"))
    unrelated = lite0["unrelated"][cam]
    twelve = (
        f"3 networks, {len(lite0['targets'])} photos, {len(SEEDS)} shuffles of the classifier; mean of each network"
    )
    return [
        finding(
            CHAPTER,
            "CAM loses its order when the classifier is shuffled, and a single photo tells nothing.",
            twelve,
            f"mean {span(kept(cam))}, single ones {span(single)}",
            [f"from {min(single):.2f} to {max(single):.2f}"],
        ),
        finding(
            CHAPTER,
            "LayerCAM on the last layer stays alike and predicts deletions well; noise changes and predicts nothing.",
            twelve,
            f"LayerCAM keeps {span(kept(last))}, deletion {span(predicts(last))}; sum of the channels, deletion "
            f"{span(predicts('activity, last layer'))}; noise keeps {span(kept('noise'))}, "
            f"deletion {span(predicts('noise'))}",
            [span(kept(last)), span(predicts(last)), span(predicts("activity, last layer"))],
        ),
        finding(
            CHAPTER,
            "On an early layer, LayerCAM stays alike, and HiResCAM, which keeps the gradient's sign, does not.",
            twelve,
            f"LayerCAM {span(kept(early))}, HiResCAM {span(kept(signed))}",
            [span(kept(early))],
        ),
        finding(
            DIVE,
            "CAM loses its order with the classifier, LayerCAM only when blocks are destroyed.",
            f"Lite0, 12 photos, {len(CASCADE_SEEDS)} seeds; destroyed down to {', '.join(SHOWN)}",
            f"CAM {', '.join(stages[cam])}; LayerCAM, last layer {', '.join(stages[last])}; LayerCAM, early layer "
            f"{', '.join(stages[early])}; unrelated photos' CAM {mean(unrelated):.2f}, from {min(unrelated):.2f} to "
            f"{max(unrelated):.2f}",
            [f"{mean(unrelated):.2f} on average", f"from {min(unrelated):.2f} to {max(unrelated):.2f}"],
        ),
        finding(
            DIVE,
            "On a middle layer, whose features have both signs, LayerCAM changes.",
            twelve,
            f"LayerCAM {span(kept(both_signs))}",
            [span(kept(both_signs))],
        ),
        finding(
            DIVE,
            "On a middle layer, Grad-CAM passes and predicts little of its own layer's deletions; HiResCAM does both.",
            "Lite0, 12 photos, 10 shuffles; mean correlations",
            f"Grad-CAM keeps {mean(lite0['kept'][grad]['classifier']):.2f}, deletions "
            f"{mean(lite0['predicts'][grad]):.2f}; HiResCAM keeps "
            f"{mean(lite0['kept'][hires]['classifier']):.2f}, deletions "
            f"{mean(lite0['predicts'][hires]):.2f}",
            [f"{mean(lite0['predicts'][grad]):.2f}", f"{mean(lite0['predicts'][hires]):.2f}"],
        ),
    ]


def main() -> None:
    out = command(__file__, __doc__)
    torch.set_num_threads(1)
    results = {name: study(clf, name == "lite0") for name, clf in tqdm(networks().items(), unit="network")}
    store(out, findings(results), networks=results)


if __name__ == "__main__":
    main()
