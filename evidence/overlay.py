"""How exactly can evidence be read from an overlay: by alpha blending, and with chroma in OKLab (camlib.overlay)?

On each of the twelve photos, for the first choice and for the fifth, both drawn on the first choice's scale: each pixel
of the overlay is read by the colour of the bar that is nearest to it, and the error is the mean distance from the true
evidence, as a share of the limit. Two readers: one compares whole colours (distance in CIE L*a*b*), one only how
colourful they are and in which hue (a and b of OKLab), not how dark. Repeated for another opacity of the blend and
another gray below the bar. The blend gives each pixel the colour of coolwarm's end, with an opacity that grows with the
evidence.

Controls: the same blend over the photo with its lightness compressed as in camlib.overlay, and coolwarm's colours with
one opacity everywhere, which hides the photo. For each, how much lightness is left between black and white where the
evidence is zero.

Run it from the repository: python -m evidence.overlay
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image
from tqdm import tqdm

import camlib
from camlib.plot import ALPHA, BAR, oklab
from evidence.findings import PHOTOS, command, finding, store
from notebooks.drawings.honest_pictures import cielab

CHAPTER = "notebooks/06_honest_pictures.ipynb"
USUAL = {"alpha": ALPHA, "bar": BAR}  # the opacity of full evidence, and the gray below the bar
SETTINGS = [USUAL, {**USUAL, "alpha": 0.5}, {**USUAL, "bar": 200}]
FLATS = (0.6, 0.7, ALPHA)  # opacities of the blend that has one everywhere
PALE, FLAT = "blend over the compressed photo", f"one opacity, {ALPHA}"  # the controls that chapter 06 prints
CHOICES = {"first": 0, "fifth": 4}  # of the network's answers
READERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "colour": cielab,
    "tint and chroma": lambda rgb: oklab(rgb)[..., 1:],
}
VALUES = np.linspace(-1, 1, 201)  # evidence, as a share of the limit
GRAYS = np.arange(256, dtype=np.uint8)[:, None, None]


def blended(alpha: float, grays: np.ndarray = GRAYS) -> np.ndarray:
    """(256, 201, 3) uint8: each evidence over each gray, with an opacity that grows with the evidence."""
    opacity = alpha * np.abs(VALUES)[:, None]
    colour = 255 * np.where(VALUES[:, None] < 0, *colormaps["coolwarm"]([0.0, 1.0])[:, None, :3])
    return np.rint(grays * (1 - opacity) + colour * opacity).astype(np.uint8)


def compressed() -> np.ndarray:
    """(256, 1, 1) uint8: the grays as camlib.overlay draws them where the evidence is zero."""
    return camlib.overlay(GRAYS.repeat(3, 2), np.zeros((256, 1)), 1.0)[..., :1]


def flat(alpha: float) -> np.ndarray:
    """(256, 201, 3) uint8: coolwarm's colours over each gray, with one opacity everywhere."""
    return np.rint(GRAYS * (1 - alpha) + 255 * colormaps["coolwarm"](VALUES / 2 + 0.5)[:, :3] * alpha).astype(np.uint8)


def in_chroma(alpha: float) -> np.ndarray:
    """(256, 201, 3) uint8: the same by camlib.overlay."""
    photo = GRAYS.repeat(len(VALUES), 1).repeat(3, 2)
    return camlib.overlay(photo, np.tile(VALUES, (256, 1)), 1.0, alpha)


def contrast(colours: np.ndarray) -> float:
    """How much lightness is left between black and white where the evidence is zero, of 1."""
    light = oklab(colours[:, len(VALUES) // 2].astype(float))[:, 0]
    return round(float(light[-1] - light[0]), 2)


def readings(colours: np.ndarray, bar: int, reader: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """(256, 201): what is read from each colour, by the nearest one of the bar."""
    drawn = reader(colours.astype(float))
    return np.stack([VALUES[np.linalg.norm(row[:, None] - drawn[bar], axis=-1).argmin(1)] for row in drawn])


def pixels(exp: camlib.Explanation, rank: int) -> np.ndarray:
    """(256, 201): how many pixels of the network's view have each gray and evidence."""
    heat = exp.heatmap(exp.top(5)[rank].index).numpy() / exp.largest([exp.top(1)[0].index])
    gray, seen = np.asarray(Image.fromarray(exp.photo).convert("L")), ~np.isnan(heat)
    step = np.rint(100 * (np.clip(heat[seen], -1, 1) + 1)).astype(int)
    count = np.zeros((256, len(VALUES)))
    np.add.at(count, (gray[seen], step), 1)
    return count


def summary(rows: list[dict[str, Any]], reader: str, other: str = "blend") -> dict[str, Any]:
    """Over photos and classes: the mean errors, and how often the overlay in OKLab has the smaller one."""
    old, new = ([row[reader][kind] for row in rows] for kind in (other, "OKLab"))
    better = sum(n < o for o, n in zip(old, new, strict=True))
    means = {other: round(float(np.mean(old)), 4), "OKLab": round(float(np.mean(new)), 4)}
    return {**means, "worst": [round(max(old), 3), round(max(new), 3)], "better": better, "of": len(rows)}


def means(rows: list[dict[str, Any]], reader: str) -> dict[str, float]:
    """The mean error of each kind, as a share of the limit."""
    return {kind: round(float(np.mean([row[reader][kind] for row in rows])), 4) for kind in rows[0][reader]}


def findings(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What chapter 06 states."""
    rows = []
    for reader, how in (("colour", "by its whole colour"), ("tint and chroma", "by tint and chroma")):
        usual, every = results[0][reader], [result[reader] for result in results]
        better, total = sum(s["better"] for s in every), sum(s["of"] for s in every)
        old, new = (100 * usual[kind] for kind in ("blend", "OKLab"))
        rows.append(
            finding(
                CHAPTER,
                f"Read {how}, evidence is more exact as chroma in OKLab than blended with growing opacity.",
                "12 photos, first and fifth choice, opacity 0.5 and 0.85, two grays below the bar",
                f"{better} of {total}; mean error {new:.1f} % of the limit against {old:.1f} %",
                [f"from {old:.1f} % to {new:.1f} %"],
            )
        )
    usual, errors = results[0], results[0]["means"].values()
    parts = [(100 * m[PALE], 100 * (m["blend"] - m[PALE]) / (m["blend"] - m["OKLab"])) for m in errors]
    (colour, half), (tint, also) = parts
    rows.append(
        finding(
            CHAPTER,
            "About half of the gain comes from compressing the photo.",
            "12 photos, first and fifth choice; the same blend over the compressed photo",
            f"by colour {colour:.1f} %, {half:.0f} % of the gain; by tint and chroma {tint:.1f} %, {also:.0f} %",
            ["about half of the gain comes from compressing the photo", f"to {colour:.1f} % and {tint:.1f} %"],
        )
    )
    solid, left, colour_errors = usual["controls"][FLAT]["colour"], usual["contrast"], usual["means"]["colour"]
    flat_error, lower = 100 * colour_errors[FLAT], [f"one opacity, {alpha}" for alpha in FLATS if alpha != ALPHA]
    rows.append(
        finding(
            CHAPTER,
            "Blended with one high opacity everywhere, whole colours are read more exactly still, but the photo is "
            "hidden.",
            f"12 photos, first and fifth choice, opacity {ALPHA}",
            f"{solid['of'] - solid['better']} of {solid['of']}; mean error {flat_error:.1f} %; {left[FLAT]} of the "
            f"lightness between black and white is left, in OKLab {left['OKLab']}. "
            + "; ".join(f"{kind}: {100 * colour_errors[kind]:.1f} % and {left[kind]}" for kind in lower),
            [f"{flat_error:.1f} %, but leaves only {left[FLAT]} of the photo's lightness"],
        )
    )
    return rows


def main() -> None:
    out = command(__file__, __doc__)
    torch.set_num_threads(1)
    clf = camlib.load_model()
    explained = {file.name: camlib.explain(clf, file) for file in tqdm(sorted(PHOTOS.iterdir()), unit="photo")}
    counts = {(name, c): pixels(exp, rank) for name, exp in explained.items() for c, rank in CHOICES.items()}
    results = []
    for setting in tqdm(SETTINGS, unit="setting"):
        drawn = {"blend": blended(setting["alpha"]), "OKLab": in_chroma(setting["alpha"])}
        drawn[PALE] = blended(setting["alpha"], compressed())
        drawn |= {f"one opacity, {alpha}": flat(alpha) for alpha in FLATS}
        rows: list[dict[str, Any]] = [{"photo": name, "choice": choice} for name, choice in counts]
        for reader, function in READERS.items():
            errors = {k: np.abs(readings(v, int(setting["bar"]), function) - VALUES) for k, v in drawn.items()}
            for row, count in zip(rows, counts.values(), strict=True):
                row[reader] = {k: round(float((e * count).sum() / count.sum()), 4) for k, e in errors.items()}
        result = {"setting": setting, **{reader: summary(rows, reader) for reader in READERS}}
        result["means"] = {reader: means(rows, reader) for reader in READERS}
        result["contrast"] = {kind: contrast(colours) for kind, colours in drawn.items()}
        controls = [kind for kind in drawn if kind not in ("blend", "OKLab")]
        result["controls"] = {kind: {reader: summary(rows, reader, kind) for reader in READERS} for kind in controls}
        results.append(result | {"photos": rows})
    store(out, findings(results), network=clf.name, settings=results)


if __name__ == "__main__":
    main()
