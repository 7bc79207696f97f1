"""Does a Chinese watermark make the bundled network see a carton, and do Latin letters of the same size do it, too?

On each of the twelve photos: the logit of "carton" without a strip, with a strip of Latin letters (the control) and
with a strip of Chinese characters; the rank of carton; and the share of carton's positive evidence that lies within
half a strip of the strip. Repeated for other opacities and other places of the strip.

Run it from the repository: python -m evidence.watermark
"""

import argparse
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

import camlib
from camlib.sanity import stamped
from evidence.findings import finding, store

OUT = Path(__file__).with_suffix(".json")
DATA = Path(__file__).parent.parent / "data"
CLASS = "carton"
USUAL = {"opacity": 0.5, "top": 0.4}
SETTINGS = [USUAL, *({**USUAL, "opacity": v} for v in (0.3, 0.7, 1.0)), *({**USUAL, "top": v} for v in (0.1, 0.7))]


def strip(name: str) -> np.ndarray:
    """(h, w, 4) uint8: white letters on nothing."""
    return np.asarray(Image.open(DATA / "watermarks" / f"{name}.png"))


def study(clf: camlib.Classifier, photo: Path, setting: dict[str, float]) -> dict[str, Any]:
    """One photo without a strip, and with each of the two."""
    picture, k = camlib.read_image(photo), clf.index(CLASS)
    row: dict[str, Any] = {"photo": photo.name, "plain": camlib.explain(clf, picture).logits[k].item()}
    for name in ("latin", "chinese"):
        marked, (_, top, _, bottom) = stamped(picture, strip(name), **setting)
        exp = camlib.explain(clf, marked)
        heat = exp.heatmap(k).nan_to_num(0).clamp(min=0)
        near = slice(max(0, top - (bottom - top) // 2), bottom + (bottom - top) // 2)
        row[name] = exp.logits[k].item()
        row[f"{name}_rank"] = int((exp.logits > exp.logits[k]).sum()) + 1
        row[f"{name}_share"] = float(heat[near].sum() / heat.sum())
    return {key: round(v, 3) if isinstance(v, float) else v for key, v in row.items()}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the photos; in how many of them the watermark raises carton's logit by more than the letters do."""
    rises = {name: [row[name] - row["plain"] for row in rows] for name in ("latin", "chinese")}
    shares = [row["chinese_share"] for row in rows]
    return {
        "photos": len(rows),
        "mean_rise_latin": round(mean(rises["latin"]), 2),
        "mean_rise_chinese": round(mean(rises["chinese"]), 2),
        "rise_chinese": [round(min(rises["chinese"]), 2), round(max(rises["chinese"]), 2)],
        "chinese_above_latin": sum(c > other for c, other in zip(rises["chinese"], rises["latin"], strict=True)),
        "ranks_chinese": [min(r["chinese_rank"] for r in rows), max(r["chinese_rank"] for r in rows)],
        "share": [min(shares), median(shares), max(shares)],
    }


def findings(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What chapter 00 states."""
    usual, every = results[0]["summary"], [r["summary"] for r in results]
    above, total = sum(s["chinese_above_latin"] for s in every), sum(s["photos"] for s in every)
    everywhere = usual["chinese_above_latin"] == usual["photos"] == 12
    low, high = min(s["share"][0] for s in every), max(s["share"][2] for s in every)
    return [
        finding(
            "notebooks/00_first_heat_map.ipynb",
            "A pale strip of Chinese characters raises the logit of carton by more than one of Latin letters.",
            "12 photos, opacity 0.3 to 1, three places of the strip",
            f"{above} of {total}; at half opacity by {usual['mean_rise_chinese']} against {usual['mean_rise_latin']}",
            ["all twelve photos" if everywhere else f"{usual['chinese_above_latin']} of {usual['photos']} photos"],
        ),
        finding(
            "notebooks/00_first_heat_map.ipynb",
            "Most of the positive evidence for carton then lies at the strip.",
            "the same",
            f"{low:.0%} to {high:.0%}; at half opacity {usual['share'][0]:.0%} to {usual['share'][2]:.0%}",
            ["at least two thirds of the evidence for carton then lies at the strip"]
            if usual["share"][0] >= 2 / 3
            else [f"{usual['share'][0]:.0%} of the evidence for carton"],
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="where to store the result (default: beside the script)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    clf, photos, results = camlib.load_model(), sorted((DATA / "photos").iterdir()), []
    for setting in tqdm(SETTINGS, unit="setting"):
        rows = [study(clf, photo, setting) for photo in photos]
        results.append({"setting": setting, "summary": summary(rows), "photos": rows})
    store(options.out, findings(results), network=clf.name, settings=results)


if __name__ == "__main__":
    main()
