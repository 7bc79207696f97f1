"""Which of the 1000 classes does a Chinese watermark raise, in three networks, and where does that evidence lie?

Twelve photos, each plain, with a strip of Latin letters (the control) and with one of Chinese characters. For each
class: the mean rise of its logit above the plain photo, and above the photo with the Latin strip. Carton was named
before we looked (by Li and others, CVPR 2023). The other classes are chosen in Lite0 and then measured in Lite1 and
Lite2. Carton is also followed over six settings of opacity and place, and over the other strips of
evidence/watermark.py.

Run it from the repository, with the packages that evidence/lite.py names: python -m evidence.watermark_classes
"""

from statistics import stdev
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

import camlib
from camlib.sanity import stamped
from evidence.findings import command, finding, store
from evidence.lite import networks
from evidence.watermark import CLASS, DATA, SETTINGS, USUAL, others, strip

PHOTOS = sorted((DATA / "photos").iterdir())
CHAPTER = "notebooks/10_sanity.ipynb"
STUDENT = 2.201  # the 97.5 % quantile of Student's t for 12 photos
RESAMPLES = 2000
CHOSEN = 9  # classes that are chosen in Lite0, beside carton


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


def study(clf: camlib.Classifier, chosen: list[str]) -> dict[str, Any]:
    """One network. chosen: the classes to follow; if there are none yet, the highest of this one."""
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
    chosen = chosen or [clf.labels[n] for n in rows.mean(0).topk(1 + CHOSEN).indices.tolist()]
    order = rows.mean(0).argsort(descending=True).argsort() + 1
    draw = torch.Generator().manual_seed(0)  # other samples of twelve, drawn from these photos
    samples = rows[torch.randint(len(rows), (RESAMPLES, len(rows)), generator=draw)].mean(1)
    resampled = 1 + (samples > samples[:, k, None]).sum(1)
    places = [place(clf, camlib.read_image(path)) for path in PHOTOS]
    strips = {name: _logits(clf, mark, USUAL)[:, k] - plain[:, k] for name, mark in others().items()}
    return {
        "settings": settings,
        "places": [{key: round(v, 3) for key, v in p.items()} for p in places],
        "same_best": {name: int((y.argmax(1) == best).sum()) for name, y in usual.items()},
        "ranks": [sorted((1 + (y > y[:, k, None]).sum(1)).tolist()) for y in (plain, latin, chinese)],
        "strips": {name: interval(rise) for name, rise in strips.items()},
        "order": {label: int(order[clf.index(label)]) for label in chosen},
        "photos_above_latin": {label: int((rows[:, clf.index(label)] > 0).sum()) for label in chosen},
        "on_each_photo": [1 + int((row > row[k]).sum()) for row in rows],
        "resampled": {f"first {n}": round(float((resampled <= n).float().mean()), 3) for n in (1, 3, 5, 10)},
        "intervals": {label: interval(rows[:, clf.index(label)]) for label in chosen},
    }


def findings(results: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What chapter 10 states."""
    settings = [setting for result in results.values() for setting in result["settings"]]
    first = sum(setting["order_latin"] == 1 for setting in settings)
    second = max(setting["order_plain"] for setting in settings)
    usual = {name: result["settings"][0]["above_latin"] for name, result in results.items()}
    photos = sum(setting["photos_above_latin"] for setting in settings)
    near = [p["near"] for result in results.values() for p in result["places"]]
    area = results["lite0"]["places"][0]["area"]
    others = [name for name in results if name != "lite0"]
    orders = [results[name]["order"][label] for name in others for label in results["lite0"]["order"] if label != CLASS]
    within = sum(n <= 25 for n in orders)
    same = {kind: [result["same_best"][kind] for result in results.values()] for kind in ("latin", "chinese")}
    strips = {name: [r["strips"][name][0] for r in results.values()] for name in results["lite0"]["strips"]}
    single = [n for result in results.values() for n in result["on_each_photo"]]
    ten = sum(n <= 10 for n in single)
    again = {n: [r["resampled"][n] for r in results.values()] for n in ("first 1", "first 3")}
    rises = [setting["above_latin"][0] for setting in settings]
    return [
        finding(
            CHAPTER,
            "Of all 1000 classes, on average, the characters raise carton most above the Latin letters.",
            "3 networks, 6 settings of opacity and place; the mean over 12 photos",
            f"first in {first} of {len(settings)}, by {min(rises):.1f} to {max(rises):.1f}; above the plain photo "
            f"among the first {second} in all of them; "
            + "at half opacity, in the middle, by "
            + ", ".join(f"{m:.1f} [{a:.1f}, {b:.1f}] in {name.capitalize()}" for name, (m, a, b) in usual.items())
            + f" (95 % interval); higher on {photos} of {12 * len(settings)} photos; on single photos among the first "
            f"ten in {ten} of {len(single)}; with the photos drawn anew, first in "
            f"{100 * min(again['first 1']):.0f} % to {100 * max(again['first 1']):.0f} %, among the first three in "
            f"{100 * min(again['first 3']):.0f} % or more",
            [f"in {first} of {len(settings)}", f"{min(rises):.1f} to {max(rises):.1f}", f"in {ten} of {len(single)}"],
        ),
        finding(
            CHAPTER,
            "The classes that follow in Lite0 also rise in Lite1 and Lite2.",
            f"the next {CHOSEN} classes of Lite0, in two other networks",
            f"{within} of {len(orders)} are among the first 25 of 1000, the last is number {max(orders)}",
            [f"{within} of {len(orders)}"],
        ),
        finding(
            CHAPTER,
            "Most of the evidence for carton that the characters add lies on the strip or within half its height.",
            "12 photos, 3 networks, half opacity",
            f"{100 * min(near):.0f} % to {100 * max(near):.0f} %, in {100 * area:.0f} % of the view",
            [f"{100 * min(near):.0f} % to {100 * max(near):.0f} %"],
        ),
        finding(
            CHAPTER,
            "The characters need not be readable, and as much white without them does not do it.",
            "12 photos, 3 networks, half opacity; mean rise of carton above the plain photo",
            "; ".join(f"{name} {min(v):+.2f} to {max(v):+.2f}" for name, v in strips.items()),
            ["upside down or mirrored"],
        ),
        finding(
            CHAPTER,
            "The best answer often stays the same, and carton never becomes it.",
            "12 photos, 3 networks, half opacity",
            f"the same on {sum(same['chinese'])} of {12 * len(results)}, with Latin letters on {sum(same['latin'])}; "
            f"carton is first on {sum(r['ranks'][2].count(1) for r in results.values())}",
            [f"in {sum(same['chinese'])} of {12 * len(results)} cases"],
        ),
    ]


def main() -> None:
    out = command(__file__, __doc__)
    torch.set_num_threads(1)
    results: dict[str, dict[str, Any]] = {}
    for name, clf in tqdm(networks().items(), unit="network"):
        results[name] = study(clf, list(results["lite0"]["intervals"]) if results else [])
    store(out, findings(results), shown=list(results["lite0"]["intervals"]), networks=results)


if __name__ == "__main__":
    main()
