"""Does a Chinese watermark make the bundled network see a carton, and do Latin letters of the same size do it, too?

On each of the twelve photos: the logit of "carton" without a strip, with a strip of Latin letters (the control) and
with a strip of Chinese characters, and the rank of carton. Then where the evidence lies that the characters *add*: the
map with them minus the map without. How much of its positive part lies on the strip, and how much on the strip or
within half its height? (As a control, the part of the network's view that these rows cover.) Repeated for other
opacities and other places of the strip, and for other strips: the characters upside down, mirrored and in another
order, the Latin letters as bold as the characters, and a plain band with as much white.

Run it from the repository: python -m evidence.watermark
"""

from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from tqdm import tqdm

import camlib
from camlib.sanity import stamped
from evidence.findings import DATA, PHOTOS, command, finding, store

CLASS = "carton"
USUAL = {"opacity": 0.5, "top": 0.4}
SETTINGS = [USUAL, *({**USUAL, "opacity": v} for v in (0.3, 0.7, 1.0)), *({**USUAL, "top": v} for v in (0.1, 0.7))]


def strip(name: str) -> np.ndarray:
    """(h, w, 4) uint8: white letters on nothing."""
    return np.asarray(Image.open(DATA / "watermarks" / f"{name}.png"))


def ink(mark: np.ndarray) -> float:
    """How much white a strip holds, from 0 to 1."""
    return float(mark[..., 3].mean() / 255)


def others() -> dict[str, np.ndarray]:
    """More strips, made of the two."""
    chinese, latin = strip("chinese"), strip("latin")
    sixths = np.array_split(chinese, 6, axis=1)
    bold = np.full_like(latin, 255)
    bold[..., 3] = latin[..., 3]
    while ink(bold) < ink(chinese):
        bold[..., 3] = np.asarray(Image.fromarray(bold[..., 3]).filter(ImageFilter.MaxFilter(3)))
    band = np.full_like(chinese, 255)
    band[..., 3] = round(255 * ink(chinese))
    return {
        "upside down": chinese[::-1],
        "mirrored": chinese[:, ::-1],
        "another order": np.concatenate([sixths[n] for n in (3, 0, 5, 2, 1, 4)], 1),
        "bold Latin": bold,
        "a plain band": band,
    }


def rise(clf: camlib.Classifier, photo: Path, mark: np.ndarray) -> float:
    """By how much a strip raises the logit of carton."""
    picture, k = camlib.read_image(photo), clf.index(CLASS)
    marked = stamped(picture, np.ascontiguousarray(mark), **USUAL)[0]
    return camlib.explain(clf, marked).logits[k].item() - camlib.explain(clf, picture).logits[k].item()


def study(clf: camlib.Classifier, photo: Path, setting: dict[str, float]) -> dict[str, Any]:
    """One photo without a strip, and with each of the two."""
    picture, k = camlib.read_image(photo), clf.index(CLASS)
    plain = camlib.explain(clf, picture)
    row: dict[str, Any] = {"photo": photo.name, "plain": plain.logits[k].item()}
    for name in ("latin", "chinese"):
        marked, (_, top, _, bottom) = stamped(picture, strip(name), **setting)
        exp = camlib.explain(clf, marked)
        added = exp.heatmap(k) - plain.heatmap(k)
        seen, more = ~added.isnan(), added.nan_to_num(0).clamp(min=0)
        half = (bottom - top) // 2
        for where, rows in (("on", slice(top, bottom)), ("near", slice(max(0, top - half), bottom + half))):
            row[f"{name}_{where}"] = float(more[rows].sum() / more.sum())
            row[f"{where}_area"] = float(seen[rows].sum() / seen.sum())
        row[name] = exp.logits[k].item()
        row[f"{name}_rank"] = int((exp.logits > exp.logits[k]).sum()) + 1
    return {key: round(v, 3) if isinstance(v, float) else v for key, v in row.items()}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means and ranges over the photos."""
    rises = {name: [row[name] - row["plain"] for row in rows] for name in ("latin", "chinese")}
    more = [c - other for c, other in zip(rises["chinese"], rises["latin"], strict=True)]

    def over(key: str) -> list[float]:
        values = [row[key] for row in rows]
        return [min(values), max(values)]

    return {
        "photos": len(rows),
        "mean_rise_latin": round(mean(rises["latin"]), 2),
        "mean_rise_chinese": round(mean(rises["chinese"]), 2),
        "chinese_above_latin": sum(difference > 0 for difference in more),
        "chinese_minus_latin": [round(min(more), 2), round(max(more), 2)],
        "ranks_chinese": over("chinese_rank"),
        **{key: over(key) for key in ("chinese_on", "chinese_near", "latin_near", "on_area", "near_area")},
    }


def findings(results: list[dict[str, Any]], more: dict[str, list[float]]) -> list[dict[str, Any]]:
    """What chapter 00 states."""
    usual, every = results[0]["summary"], [r["summary"] for r in results]
    above, total = sum(s["chinese_above_latin"] for s in every), sum(s["photos"] for s in every)
    low, high = usual["chinese_near"]
    area = " to ".join(sorted({f"{share:.0%}" for share in usual["near_area"]}))
    least = usual["chinese_minus_latin"][0]
    points = "at least one point more" if 1 <= least < 2 else f"at least {least} points more"
    return [
        finding(
            "notebooks/00_first_heat_map.ipynb",
            "A pale strip of Chinese characters raises the logit of carton by more than one of Latin letters.",
            "12 photos, opacity 0.3 to 1, three places of the strip",
            f"{above} of {total}; at half opacity by {usual['mean_rise_chinese']} against {usual['mean_rise_latin']}, "
            f"and by {least} or more above it on each photo",
            ["all twelve photos" if usual["chinese_above_latin"] == 12 else f"{above} of {total}", points],
        ),
        finding(
            "notebooks/00_first_heat_map.ipynb",
            "Most of the evidence that the characters add lies in the half of the view around the strip: on it or "
            "within half its height.",
            "12 photos, half opacity",
            f"{low:.0%} to {high:.0%}, in {area} of the view",
            [
                "more than four fifths of the evidence that they add" if low > 0.8 else f"{low:.0%} of the evidence",
                f"lies in {'the half' if area == '51%' else area} of the view around the strip",
            ],
        ),
        finding(
            "notebooks/00_first_heat_map.ipynb",
            "The characters need not be readable for this, and as much white without them does not do it.",
            "12 photos, half opacity; mean rise",
            ", ".join(f"{name} {mean(rises):+.2f}" for name, rises in more.items()),
            ["the Latin one hardly does"],
        ),
    ]


def main() -> None:
    out = command(__file__, __doc__)
    torch.set_num_threads(1)
    clf, photos, results = camlib.load_model(), sorted(PHOTOS.iterdir()), []
    for setting in tqdm(SETTINGS, unit="setting"):
        rows = [study(clf, photo, setting) for photo in photos]
        results.append({"setting": setting, "summary": summary(rows), "photos": rows})
    strips = tqdm(others().items(), unit="strip")
    more = {name: [round(rise(clf, photo, mark), 3) for photo in photos] for name, mark in strips}
    store(out, findings(results, more), network=clf.name, settings=results, other_strips=more)


if __name__ == "__main__":
    main()
