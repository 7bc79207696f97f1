"""Which of the 1000 classes does a Chinese watermark raise, in three networks, and where does that evidence lie?

Twelve photos, each plain, with a strip of Latin letters (the control) and with one of Chinese characters. For each
class: the mean rise of its logit above the plain photo, and above the photo with the Latin strip. Carton was named before we
looked (by Li and others, CVPR 2023). The other classes are chosen in Lite0 and then measured in Lite1 and Lite2. Carton
is also followed over six settings of opacity and place, and over the other strips of evidence/watermark.py.

Run it from the repository, with the packages that evidence/lite.py names: python -m evidence.watermark_classes
"""

import argparse
from pathlib import Path
from statistics import stdev
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

import camlib
from camlib.sanity import stamped
from evidence.findings import store
from evidence.lite import networks
from evidence.watermark import CLASS, DATA, SETTINGS, USUAL, others, strip

OUT = Path(__file__).with_suffix(".json")
PHOTOS = sorted((DATA / "photos").iterdir())
CHAPTER = "notebooks/10_sanity.ipynb"
STUDENT = 2.201  # the 97.5 % quantile of Student's t for 12 photos
CHOSEN = 10  # classes that are chosen in Lite0, beside carton


def marked(photo: np.ndarray, mark: np.ndarray, setting: dict[str, float]) -> tuple[np.ndarray, tuple[int, ...]]:
    return stamped(photo, np.ascontiguousarray(mark), **setting)


def place(clf: camlib.Classifier, photo: np.ndarray) -> dict[str, float]:
    """Where the evidence for carton lies that the characters add: its share near the strip, and what is near it."""
    picture, (_, top, _, bottom) = marked(photo, strip("chinese"), USUAL)
    added = camlib.explain(clf, picture).heatmap(CLASS) - camlib.explain(clf, photo).heatmap(CLASS)
    seen, more = ~added.isnan(), added.nan_to_num(0).clamp(min=0)
    half = (bottom - top) // 2
    rows = slice(max(0, top - half), bottom + half)
    return {"near": float(more[rows].sum() / more.sum()), "area": float(seen[rows].sum() / seen.sum())}


def scores(clf: camlib.Classifier, setting: dict[str, float]) -> dict[str, Tensor]:
    """The logits (12, 1000) of the photos with each of the two strips."""
    return {name: _logits(clf, strip(name), setting) for name in ("latin", "chinese")}


def _logits(clf: camlib.Classifier, mark: np.ndarray | None, setting: dict[str, float]) -> Tensor:
    pictures = [camlib.read_image(path) for path in PHOTOS]
    if mark is not None:
        pictures = [marked(picture, mark, setting)[0] for picture in pictures]
    return torch.stack([camlib.explain(clf, picture).logits for picture in pictures])


def interval(values: Tensor) -> list[float]:
    """The mean over the photos and its 95 % interval, by Student's t."""
    half = STUDENT * stdev(values.tolist()) / len(values) ** 0.5
    return [round(float(values.mean()) + d, 2) for d in (0, -half, half)]


def study(clf: camlib.Classifier) -> dict[str, Any]:
    """One network."""
    k, plain = clf.index(CLASS), _logits(clf, None, USUAL)
    settings, usual = [], {}
    for setting in SETTINGS:
        logits = scores(clf, setting)
        usual = usual or logits
        above = {"plain": logits["chinese"] - plain, "latin": logits["chinese"] - logits["latin"]}
        settings.append(
            {
                "setting": setting,
                **{f"above_{name}": interval(rise[:, k]) for name, rise in above.items()},
                "photos_above_latin": int((above["latin"][:, k] > 0).sum()),
                **{f"order_{name}": 1 + int((r.mean(0) > r.mean(0)[k]).sum()) for name, r in above.items()},
            }
        )
    latin, chinese = usual["latin"], usual["chinese"]
    best = plain.argmax(1)
    rows = chinese - latin
    places = [place(clf, camlib.read_image(path)) for path in PHOTOS]
    strips = {name: _logits(clf, mark, USUAL)[:, k] - plain[:, k] for name, mark in others().items()}
    return {
        "settings": settings,
        "places": [{key: round(v, 3) for key, v in p.items()} for p in places],
        "same_best": {name: int((y.argmax(1) == best).sum()) for name, y in usual.items()},
        "ranks": [sorted((1 + (y > y[:, k, None]).sum(1)).tolist()) for y in (plain, latin, chinese)],
        "strips": {name: interval(rise) for name, rise in strips.items()},
        "rise": [round(float(v), 3) for v in rows.mean(0)],
        "photos": [int(v) for v in (rows > 0).sum(0)],
        "highest": [clf.labels[n] for n in rows.mean(0).topk(25).indices.tolist()],
        "highest_above_plain": [clf.labels[n] for n in (chinese - plain).mean(0).topk(25).indices.tolist()],
        "intervals": {clf.labels[n]: interval(rows[:, n]) for n in rows.mean(0).topk(25).indices.tolist()},
    }


def findings(results: dict[str, dict[str, Any]], labels: list[str]) -> list[dict[str, Any]]:
    """What chapter 10 states."""
    return []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="where to store the result (default: beside the script)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    nets = networks()
    results = {name: study(clf) for name, clf in tqdm(nets.items(), unit="network")}
    store(options.out, findings(results, list(nets["lite0"].labels)), networks=results)


if __name__ == "__main__":
    main()
