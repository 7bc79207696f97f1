"""Does a class activation map lie on the object better than maps that have never seen the class, by which measure?

Twelve classes on nine photos with boxes (data/boxes.json), the whole photo shown with its shorter side at 224, 320 and
448. The class activation map, the same map squared and to the fourth power, Grad-CAM of an early layer, a centred
Gaussian of five spreads, edges, random cells and the whole image; measured by the pointing game, the energy in the
boxes, and the IoU of the map's box at 50 thresholds (for one map, also at 100). From these: the IoU at the conventional
threshold, at one chosen on the other photos, and at the best for all; MaxBoxAcc, the largest share of classes whose IoU
is at least one half; and PxAP, the area under the curve of precision and recall of all pixels, here with the boxes for
masks. Differences have a t-interval over the photos' means. The classes that the network recognises (rank 1 of 1000 on
the whole photo) are told apart from the others, all is repeated in the network's own crop, and each photo is left out
once.

Run it from the repository: python -m evidence.boxes
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

import camlib
from camlib import evaluate, sanity
from evidence.findings import finding, store

OUT = Path(__file__).with_suffix(".json")
DATA = Path(__file__).parent.parent / "data"
CHAPTER = "notebooks/09_against_boxes.ipynb"
SIZES, EARLY, SPREADS, NOISES = (224, 320, 448), "blocks.2", (0.1, 0.15, 0.2, 0.25, 0.3), 5
THRESHOLDS = np.arange(50) / 50
CONVENTION = 10  # the place of 0.2 among them
FINER = np.arange(100) / 100
Key = tuple[str, str]
Boxes = list[list[int]]


def objects() -> dict[Key, Boxes]:
    """(photo, class) -> its boxes."""
    found: dict[Key, Boxes] = {}
    for entry in json.loads((DATA / "boxes.json").read_text(encoding="utf-8")):
        if entry["photo"].startswith("photos/"):
            found.setdefault((entry["photo"], entry["label"]), []).append(entry["box"])
    return found


def rivals(photo: np.ndarray, cells: Sequence[int]) -> dict[str, list[Tensor]]:
    """Maps that have never seen the class, on the photo."""
    size = photo.shape[:2]
    edges = sanity.edge_map(photo)
    coarse = torch.nn.functional.adaptive_avg_pool2d(edges[None], tuple(cells))[0]
    return {
        **{f"Gaussian {spread:.2f}": [sanity.centre_map(size, spread)] for spread in SPREADS},
        "edges, pixels": [edges],
        "edges, cells": [camlib.upsample(coarse, size)],
        "random cells": [camlib.upsample(sanity.random_map(tuple(cells), seed), size) for seed in range(NOISES)],
        "whole image": [torch.ones(size)],
    }


def overlaps(heat: Tensor, boxes: Boxes, thresholds: np.ndarray = THRESHOLDS) -> list[float]:
    """The IoU of the map's box with the box that fits it best, at each threshold."""
    found = [evaluate.box_from_map(heat, float(t)) for t in thresholds]
    return [max(evaluate.iou(f, box) for box in boxes) for f in found]


def measured(heat: Tensor, boxes: Boxes) -> tuple[float, float, list[float]]:
    """Pointing, energy, and the IoU at each threshold. A flat map has no peak: the chance of a random pixel counts."""
    energy = evaluate.energy_in_box(heat, boxes)
    flat = heat.min() == heat.max()
    hit = energy if flat else float(evaluate.pointing_game(heat, boxes))
    return hit, energy, overlaps(heat, boxes)


def squared_off(heat: Tensor, boxes: Boxes, side: int = 224) -> tuple[np.ndarray, np.ndarray]:
    """The map, from 0 to 1, and the mask of its boxes, on side × side pixels."""
    mask = torch.zeros(heat.shape)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = 1
    pair = torch.stack([(heat / heat.max()).clamp(min=0), mask])[None]
    small = torch.nn.functional.interpolate(pair, size=(side, side), mode="area")[0]
    return small[0].flatten().numpy(), (small[1] >= 0.5).flatten().numpy()


def average_precision(values: np.ndarray, masks: np.ndarray) -> float:
    """The area under precision over recall of pooled pixels; equal values count together."""
    order = np.argsort(-values, kind="stable")
    last = np.append(np.diff(values[order]) != 0, True)
    hits = np.cumsum(masks[order])[last]
    precision, recall = hits / (np.flatnonzero(last) + 1), hits / hits[-1]
    return float((precision * np.diff(recall, prepend=0)).sum())


def held_out(table: np.ndarray, groups: list[str]) -> np.ndarray:
    """table (classes, thresholds) -> each class's IoU at the threshold that is best on the other photos."""
    names = np.array(groups)
    return np.array([row[table[names != name].mean(0).argmax()] for row, name in zip(table, names, strict=True)])


def summary(rows: dict[str, list[Any]], pxap: dict[str, float], groups: list[str]) -> dict[str, Any]:
    """Per method: each class's pointing, energy and IoU, and the scores over all classes."""
    found = {}
    for method, per_class in rows.items():
        point, energy = (np.array([row[i] for row in per_class]) for i in (0, 1))
        table = np.array([row[2] for row in per_class])  # classes, thresholds
        right = (table >= 0.5).mean(0)
        found[method] = {
            "pointing": np.round(point, 3).tolist(),
            "energy": np.round(energy, 4).tolist(),
            "IoU": np.round(table[:, CONVENTION], 4).tolist(),
            "held out": np.round(held_out(table, groups), 4).tolist(),
            "best": [round(float(table.mean(0).max()), 4), float(THRESHOLDS[table.mean(0).argmax()])],
            "MaxBoxAcc": [round(float(right.max()), 3), float(THRESHOLDS[right.argmax()])],
            "PxAP": round(pxap[method], 4),
            "mean IoU": np.round(table.mean(0), 4).tolist(),
        }
    return found


def study(clf: camlib.Classifier) -> dict[str, Any]:
    """Everything on the whole photos, and the crop for comparison."""
    every = objects()
    groups = [name for name, _ in every]
    rows: dict[str, list[Any]] = {}
    pooled: dict[str, list[Any]] = {}
    ranks: dict[str, list[int]] = {str(side): [] for side in SIZES}
    sure: dict[str, list[float]] = {str(side): [] for side in SIZES}
    shares, crops, finer = [], [], []
    for (name, label), boxes in tqdm(every.items(), unit="class"):
        photo = camlib.read_image(DATA / name)
        looks = [camlib.explain(clf, photo, view="whole", sizes=side) for side in SIZES]
        for side, look in zip(SIZES, looks, strict=True):
            k = clf.index(label)
            ranks[str(side)].append(int((look.logits > look.logits[k]).sum()) + 1)
            sure[str(side)].append(round(float(look.probabilities[k]), 4))
        at = [look.heatmap(label) for look in looks]
        early = camlib.explain(clf, photo, view="whole", method="grad_cam", layer=EARLY).heatmap(label)
        maps = {
            "CAM": [at[0]],
            "CAM²": [at[0].clamp(min=0) ** 2],
            "CAM⁴": [at[0].clamp(min=0) ** 4],
            "CAM at 320": [at[1]],
            "CAM at 448": [at[2]],
            "CAM, three sizes": [torch.stack(at).mean(0)],
            "Grad-CAM, early": [early],
            **rivals(photo, looks[0].map(label).shape),
        }
        for method, heats in maps.items():
            each = [measured(heat, boxes) for heat in heats]
            mean = [float(np.mean([e[i] for e in each])) for i in (0, 1)]
            rows.setdefault(method, []).append((*mean, np.mean([e[2] for e in each], axis=0).tolist()))
            pooled.setdefault(method, []).append(squared_off(heats[0], boxes))
        shares.append(round(rows["whole image"][-1][1], 4))
        crops.append(in_crop(clf, photo, label, boxes))
        finer.append(overlaps(at[2], boxes, FINER))
    pxap = {m: average_precision(*(np.concatenate(part) for part in zip(*p, strict=True))) for m, p in pooled.items()}
    return {
        "classes": [
            {"photo": name, "class": label, "share": s} for (name, label), s in zip(every, shares, strict=True)
        ],
        "rank": ranks,
        "probability": sure,
        "methods": summary(rows, pxap, groups),
        "held out of 100": np.round(held_out(np.array(finer), groups), 4).tolist(),
        "crop": {m: [c[m] for c in crops] for m in crops[0]},
    }


def in_crop(clf: camlib.Classifier, photo: np.ndarray, label: str, boxes: Boxes) -> dict[str, list[float]]:
    """Energy and IoU in the network's own crop, with the boxes cut to it, of the map and of two rivals."""
    look = camlib.explain(clf, photo)
    low, high = np.round(look.view.box[:2]), np.round(look.view.box[2:])
    inner = [[*np.maximum(b[:2], low), *np.minimum(b[2:], high)] for b in boxes]
    inner = [b for b in inner if b[0] < b[2] and b[1] < b[3]]
    cells = {"CAM": look.map(label), "Gaussian 0.25": sanity.centre_map(look.view.size), "whole image": None}
    found = {}
    for method, m in cells.items():
        heat = camlib.place(torch.ones(look.view.size) if m is None else m, look.view)
        energy, box = evaluate.energy_in_box(heat, inner), evaluate.box_from_map(heat)
        found[method] = [round(energy, 4), round(max(evaluate.iou(box, b) for b in inner), 4)]
    return found


def paired(result: dict[str, Any], one: str, other: str, measure: str, only: Sequence[bool] | None = None) -> str:
    """The difference of two methods, as '+0.12 [+0.06, +0.18]', over the photos' means."""
    mean, low, high = _paired(result, one, other, measure, only)
    return f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"


def _paired(
    result: dict[str, Any], one: str, other: str, measure: str, only: Sequence[bool] | None = None
) -> tuple[float, float, float]:
    methods, groups = result["methods"], [c["photo"] for c in result["classes"]]
    gap = np.array(methods[one][measure]) - np.array(methods[other][measure])
    keep = np.ones(len(gap), bool) if only is None else np.array(only)
    return evaluate.t_interval(gap[keep], [g for g, k in zip(groups, keep, strict=True) if k])


def means(result: dict[str, Any], measure: str) -> dict[str, float]:
    """The mean over the classes, per method."""
    return {method: float(np.mean(m[measure])) for method, m in result["methods"].items()}


def findings(result: dict[str, Any]) -> list[dict[str, Any]]:
    """What chapter 09 states."""
    methods, energy, iou, apart = (
        result["methods"],
        means(result, "energy"),
        means(result, "IoU"),
        means(result, "held out"),
    )
    classes = len(result["classes"])
    known = [rank == 1 for rank in result["rank"]["224"]]
    sharper = [e < f < g for e, f, g in zip(*(methods[m]["energy"] for m in ("CAM", "CAM²", "CAM⁴")), strict=True)]
    narrow = [f"Gaussian {spread:.2f}" for spread in SPREADS]
    by_spread = [paired(result, "CAM", name, "energy") for name in narrow]
    on_all, on_known, on_others = (
        paired(result, "CAM", "Gaussian 0.25", "energy", only) for only in (None, known, [not k for k in known])
    )
    blob, early, edge = (
        paired(result, *pair)
        for pair in (
            ("CAM", "Gaussian 0.25", "pointing"),
            ("Grad-CAM, early", "whole image", "IoU"),
            ("edges, pixels", "whole image", "IoU"),
        )
    )
    boxed = [paired(result, "CAM", name, "IoU") for name in narrow]
    free = np.corrcoef(energy_of := [c["share"] for c in result["classes"]], methods["CAM"]["energy"])[0, 1]
    at = {c["class"]: i for i, c in enumerate(result["classes"])}
    cat, shuttle = at["tiger cat"], at["space shuttle"]
    shown = [(methods["CAM"]["energy"][i], energy_of[i]) for i in (cat, shuttle)]
    shares = "; ".join(
        f"{name} {e:.2f}, its box {s:.2f}" for name, (e, s) in zip(("cat", "shuttle"), shown, strict=True)
    )
    tuned = ("CAM", "CAM²", "CAM⁴", "CAM at 448", "CAM, three sizes", "Gaussian 0.25")
    three = {m: f"{iou[m]:.2f}, {apart[m]:.2f}, {methods[m]['best'][0]:.2f}" for m in tuned}
    wsol = {m: (methods[m]["MaxBoxAcc"][0], methods[m]["PxAP"]) for m in methods}
    ranks = {size: [sum(r <= n for r in rank) for n in (1, 5)] for size, rank in result["rank"].items()}
    sure = {size: float(np.mean(p)) for size, p in result["probability"].items()}
    crop = {m: np.array(values).mean(0) for m, values in result["crop"].items()}
    gap = np.array(result["crop"]["CAM"]) - np.array(result["crop"]["Gaussian 0.25"])
    cut = evaluate.t_interval(gap[:, 0].tolist(), [c["photo"] for c in result["classes"]])
    finer = np.mean(result["held out of 100"])
    photos = f"{classes} classes on {len({c['photo'] for c in result['classes']})} photos"
    return [
        finding(
            CHAPTER,
            "Energy mostly follows the size of the boxes.",
            photos,
            f"correlation with the boxes' share of the photo {free:.2f}; {shares}",
            [f"a correlation of {free:.2f}"],
        ),
        finding(
            CHAPTER,
            "In the network's own crop, every map has more energy; CAM's lead is as large, but less certain.",
            photos,
            "; ".join(f"{method} {values[0]:.2f}" for method, values in crop.items())
            + f"; CAM minus Gaussian {cut[0]:+.2f} [{cut[1]:+.2f}, {cut[2]:+.2f}]",
            [f"{crop['CAM'][0]:.2f} instead of {energy['CAM']:.2f}"],
        ),
        finding(
            CHAPTER,
            "The same map to a power has more energy in the boxes.",
            photos,
            f"{energy['CAM']:.2f}, squared {energy['CAM²']:.2f}, to the fourth {energy['CAM⁴']:.2f}; "
            f"more each time for {sum(sharper)} of {classes}",
            [f"from {energy['CAM']:.2f} to {energy['CAM²']:.2f} and {energy['CAM⁴']:.2f}"],
        ),
        finding(
            CHAPTER,
            "A blob in the middle gains energy as it gets narrower, until it has as much as CAM.",
            f"{photos}; spread {', '.join(f'{s:g}' for s in SPREADS)}",
            ", ".join(f"{s:g}: {energy[name]:.2f}" for s, name in zip(SPREADS, narrow, strict=True)),
            [f"from {energy['Gaussian 0.30']:.2f} at a spread of 0.3 to {energy['Gaussian 0.10']:.2f} at 0.1"],
        ),
        finding(
            CHAPTER,
            "MaxBoxAcc and PxAP do not change when a map is sharpened.",
            "CAM to the powers 1, 2, 4; a Gaussian of spread 0.15 to 0.3",
            "; ".join(f"{m} {wsol[m][0]:.2f} and {wsol[m][1]:.2f}" for m in ("CAM", "CAM²", "CAM⁴", *narrow[1:])),
            [
                f"a MaxBoxAcc of {wsol['CAM'][0]:.2f} and a PxAP of {wsol['CAM'][1]:.2f}",
                f"{wsol['Gaussian 0.25'][0]:.2f} and {wsol['Gaussian 0.25'][1]:.2f}",
            ],
        ),
        finding(
            CHAPTER,
            "Mean IoU at the threshold 0.2, at one chosen on the other photos, at the best for all.",
            photos,
            "; ".join(f"{m} {text}" for m, text in three.items())
            + f"; of 100 thresholds in place of 50, chosen on the other photos: CAM at 448 {finer:.2f}",
            [
                f"{apart['CAM at 448']:.2f}, less than the {iou['CAM at 448']:.2f} of the usual threshold",
                f"from 100, {finer:.2f}",
                f"{methods['CAM at 448']['best'][0]:.2f}",
            ],
        ),
        finding(
            CHAPTER,
            "Whether CAM has more energy than a centred Gaussian depends on the Gaussian's spread.",
            f"{photos}; 95 % t-intervals over the photos; spread {', '.join(f'{s:g}' for s in SPREADS)}",
            "; ".join(f"{s:g}: {text}" for s, text in zip(SPREADS, by_spread, strict=True)),
            [f"by {by_spread[3]} for a spread of 0.25", f"by {by_spread[1]} for 0.15", by_spread[0]],
        ),
        finding(
            CHAPTER,
            "In IoU at the threshold 0.2, CAM is ahead of each spread, in the mean.",
            f"{photos}; 95 % t-intervals over the photos; spread {', '.join(f'{s:g}' for s in SPREADS)}",
            "; ".join(f"{s:g}: {text}" for s, text in zip(SPREADS, boxed, strict=True)),
            [boxed[2]],
        ),
        finding(
            CHAPTER,
            "Twelve hits or misses are too few to tell CAM from a blob.",
            photos,
            f"pointing, CAM minus Gaussian {blob}",
            [blob],
        ),
        finding(
            CHAPTER,
            "Recognised classes and the others, apart: CAM minus a Gaussian of spread 0.25, energy.",
            f"{sum(known)} classes of rank 1, {classes - sum(known)} others",
            f"all {on_all}; rank 1 {on_known}; others {on_others}",
            [f"{on_known} for the {sum(known)} recognised classes", f"{on_others} for the others"],
        ),
        finding(
            CHAPTER,
            "Boxes of Grad-CAM's early layer and of edges are not shown to be worse than the whole image.",
            photos,
            f"IoU minus that of the whole image: early layer {early}, edges {edge}",
            [early, edge],
        ),
        finding(
            CHAPTER,
            "In a larger input, the right class is less probable, but is named about as often.",
            f"{photos}; shorter side {', '.join(map(str, SIZES))}",
            "; ".join(
                f"mean probability {sure[s]:.2f}, first {a}, among the first five {b}" for s, (a, b) in ranks.items()
            ),
            [
                f"{', '.join(f'{v:.2f}' for v in list(sure.values())[:2])} and {sure['448']:.2f}",
                f"first for {ranks['224'][0]}, {ranks['320'][0]} and {ranks['448'][0]} of {classes}",
            ],
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="where to store the result (default: beside the script)")
    parser.add_argument("--again", action="store_true", help="do not measure: only state the findings anew")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.again:
        stored = json.loads(options.out.read_text(encoding="utf-8"))
        result = {k: v for k, v in stored.items() if k not in ("made", "findings")}
    else:
        result = study(camlib.load_model())
    store(options.out, findings(result), **result)


if __name__ == "__main__":
    main()
