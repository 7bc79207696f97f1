"""Does the model in the astronaut's photo raise the score of "space shuttle", and of that class only?

Each quarter of the photo and the box of the model are covered with six fills, and each quarter is shown alone, with
five cuts. Then a box of the model's size, and squares of two sizes, slide over the whole photo, in steps of 24 to 64
pixels. Where does covering lower the logit of "space shuttle" the most, and where does it lower it more than the
logits of most other classes?

Run it from the repository: python -m evidence.shuttle
"""

from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from tqdm import tqdm

import camlib
from evidence.findings import PHOTOS, command, finding, store

PHOTO = PHOTOS / "astronaut.png"
SHUTTLE, HELMET = "space shuttle", "football helmet"
PARTS = {
    "upper left": (0, 0, 256, 256),
    "upper right": (256, 0, 512, 256),
    "lower left": (0, 256, 256, 512),
    "lower right": (256, 256, 512, 512),
    "the model": (355, 0, 459, 285),  # its box in data/boxes.json
}
MODEL = PARTS["the model"]
SIDES = ((104, 285), (96, 96), (192, 192))  # width and height of what slides
STEPS = (24, 32, 48, 64)  # pixels between neighbouring boxes
CUTS = (-40, -20, 0, 20, 40)  # how far the edges between the quarters are moved, for the quarters alone
CHAPTER = "notebooks/07_why_a_and_not_b.ipynb"
Box = tuple[int, int, int, int]


def fills(photo: np.ndarray) -> dict[str, np.ndarray]:
    """What a part of the photo is covered with: six pictures of its size."""
    mean = photo.reshape(-1, 3).mean(0).round().astype(np.uint8)
    return {
        "gray": np.full_like(photo, 128),
        "photo mean": np.broadcast_to(mean, photo.shape),
        "noise": np.random.default_rng(0).integers(0, 256, photo.shape, dtype=np.uint8),
        "blur": np.asarray(Image.fromarray(photo).filter(ImageFilter.GaussianBlur(24))),
        "black": np.zeros_like(photo),
        "white": np.full_like(photo, 255),
    }


def covered(photo: np.ndarray, fill: np.ndarray, box: Box) -> np.ndarray:
    """The photo with a box taken from the fill."""
    left, top, right, bottom = box
    picture = photo.copy()
    picture[top:bottom, left:right] = fill[top:bottom, left:right]
    return picture


def places(width: int, height: int, side: int, step: int) -> list[Box]:
    """The boxes of one size, all over a square photo."""
    lefts, tops = (sorted({*range(0, side - size, step), side - size}) for size in (width, height))
    return [(left, top, left + width, top + height) for top in tops for left in lefts]


def on_model(box: Box) -> float:
    """How much of the smaller of a box and the model's box lies in the other, 0 to 1."""
    wide, high = (max(0, min(box[i + 2], MODEL[i + 2]) - max(box[i], MODEL[i])) for i in (0, 1))
    areas = ((b[2] - b[0]) * (b[3] - b[1]) for b in (box, MODEL))
    return wide * high / min(areas)


def falls(clf: camlib.Classifier, plain: torch.Tensor, pictures: list[np.ndarray]) -> torch.Tensor:
    """How far each logit changes on each picture: (pictures, classes)."""
    x = torch.cat([clf.preprocess(p, clf.view(p)) for p in pictures])
    with torch.no_grad():
        return torch.cat([clf.module(part) for part in x.split(8)]) - plain


def main() -> None:
    out = command(__file__, __doc__)
    torch.set_num_threads(1)
    clf = camlib.load_model()
    photo = camlib.read_image(PHOTO)
    exp = camlib.explain(clf, photo)
    s, h = clf.index(SHUTTLE), clf.index(HELMET)

    parts: dict[str, dict[str, Any]] = {name: {} for name in PARTS}
    slides = []
    with tqdm(total=len(fills(photo)) * (1 + len(SIDES)), unit="set") as bar:
        for fill_name, fill in fills(photo).items():
            change = falls(clf, exp.logits, [covered(photo, fill, box) for box in PARTS.values()])
            for name, row in zip(PARTS, change, strict=True):
                parts[name][fill_name] = {
                    "shuttle": round(float(row[s]), 2),
                    "helmet": round(float(row[h]), 2),
                    "lead": round(float(row[s] - row[h]), 2),
                    "rank": int((exp.logits + row > exp.logits[s] + row[s]).sum()) + 1,
                    "rank_of_fall": int((row < row[s]).sum()) + 1,
                    "fall_most": [clf.labels[k] for k in row.argsort()[:5].tolist()],
                }
            bar.update()
            for width, height in SIDES:
                grids = {step: places(width, height, len(photo), step) for step in STEPS}
                every = sorted({box for boxes in grids.values() for box in boxes})
                rows = falls(clf, exp.logits, [covered(photo, fill, box) for box in every])
                for step, boxes in grids.items():
                    change = rows[[every.index(box) for box in boxes]]
                    ranks = (change < change[:, s : s + 1]).sum(1) + 1
                    touching = sum(on_model(box) > 0 for box in boxes) / len(boxes)
                    slide: dict[str, Any] = {"fill": fill_name, "size": [width, height], "step": step}
                    slide |= {"places": len(boxes), "touching": round(touching, 3)}
                    for name, best in (("largest_fall", change[:, s].argmin()), ("best_rank", ranks.argmin())):
                        slide[name] = {
                            "box": boxes[int(best)],
                            "on_model": round(on_model(boxes[int(best)]), 2),
                            "shuttle": round(float(change[best, s]), 2),
                            "rank_of_fall": int(ranks[best]),
                        }
                    slides.append(slide)
                bar.update()
    alone: dict[str, dict[str, Any]] = {name: {} for name in list(PARTS)[:4]}
    for cut in CUTS:
        for name in alone:
            left, top, right, bottom = (256 + cut if edge == 256 else edge for edge in PARTS[name])
            piece = camlib.explain(clf, photo[top:bottom, left:right])
            alone[name][str(cut)] = {
                "lead": round(float(piece.logits[s] - piece.logits[h]), 2),
                "shuttle": round(float(piece.logits[s]), 2),
                "rank": int((piece.logits > piece.logits[s]).sum()) + 1,
                "best": piece.top(1)[0].label,
            }
    store(
        out,
        findings(parts, slides, alone),
        network=clf.name,
        plain={"shuttle": round(float(exp.logits[s]), 2), "rank": int((exp.logits > exp.logits[s]).sum()) + 1},
        parts=parts,
        alone=alone,
        sliding=slides,
    )


def findings(parts: dict[str, Any], slides: list[dict[str, Any]], alone: dict[str, Any]) -> list[dict[str, Any]]:
    """What chapter 07 states."""
    upper, model, helmet = (parts[name] for name in ("upper right", "the model", "lower right"))
    quarters = list(parts)[:4]
    most = [min(quarters, key=lambda q: parts[q][fill]["shuttle"]) for fill in upper].count("upper right")
    lead = [min(quarters, key=lambda q: parts[q][fill]["lead"]) for fill in upper].count("upper right")
    up = sum(row["lead"] > 0 for row in helmet.values())
    n, kin = len(upper), sum({"missile", "projectile"} <= set(row["fall_most"]) for row in upper.values())
    steps = {step: [row for row in slides if row["step"] == step] for step in STEPS}
    settings = len(steps[STEPS[0]])
    hits = span([sum(row["largest_fall"]["on_model"] > 0 for row in rows) for rows in steps.values()])
    chance = span([round(sum(row["touching"] for row in rows)) for rows in steps.values()])
    lower = sum(row["shuttle"] < 0 for row in model.values())
    varied, best = f"{n} fills", min(row["rank"] for row in helmet.values())
    pieces = {name: f"{row['0']['lead']:+.1f}" for name, row in alone.items()}
    cuts = {name: [row[str(cut)]["lead"] for cut in CUTS] for name, row in alone.items()}
    own, others = cuts["upper right"], max(max(leads) for name, leads in cuts.items() if name != "upper right")
    return [
        finding(
            CHAPTER,
            "Covering the upper right quarter lowers the logit of space shuttle, more than any other quarter.",
            varied,
            f"{most} of {n}; by {ranged(upper, 'shuttle')}",
            [f"with {most} of {n} fills, and no other quarter", f"The fall is {ranged(upper, 'shuttle')}"],
        ),
        finding(
            CHAPTER,
            "Covering the box of the model alone lowers it, too.",
            varied,
            f"{lower} of {n}; by {ranged(model, 'shuttle')}",
            [
                f"Covering the model alone gives {ranged(model, 'shuttle')}"
                if lower == n
                else f"in {lower} of {n} fills"
            ],
        ),
        finding(
            CHAPTER,
            "With the upper right quarter covered, few of the 1000 classes fall further than space shuttle.",
            varied,
            f"{ranged(upper, 'rank_of_fall', less=1)}; missile and projectile are among the five that fall most: "
            f"{kin} of {n}",
            [f"With {kin} of {n} fills over the upper right, missile and projectile are among the five"],
        ),
        finding(
            CHAPTER,
            "A box that moves over the photo lowers space shuttle most where it touches the model.",
            f"{settings} settings: {n} fills, {len(SIDES)} sizes; in steps of {STEPS[0]} to {STEPS[-1]} pixels",
            f"{hits} of {settings}; a box at a random place would do so in {chance}",
            [
                f"in steps of {STEPS[0]} to {STEPS[-1]} pixels",
                f"in {hits} of {settings} settings",
                f"would touch it in {chance}",
            ],
        ),
        finding(
            CHAPTER,
            "Covering the upper right quarter lowers the lead over football helmet most; the lower right raises it.",
            varied,
            f"{lead} of {n}; {up} of {n}",
            ["raises the lead each time" if up == n else f"raises the lead {up} times of {n}"],
        ),
        finding(
            CHAPTER,
            "Even with the helmet's quarter covered, space shuttle is far from the best answers.",
            varied,
            f"rank {best} at best",
            [f"at best number {best}"],
        ),
        finding(
            CHAPTER,
            "Given to the network alone, only the upper right quarter prefers space shuttle to football helmet.",
            f"the 4 quarters, with {len(CUTS)} cuts up to {CUTS[-1]} pixels off",
            f"lead {', '.join(f'{name} {lead}' for name, lead in pieces.items())}; with the cut moved, upper right "
            f"{min(own):+.1f} to {max(own):+.1f}, the others {others:+.1f} or less",
            [
                f"only the upper right quarter prefers space shuttle, by {pieces['upper right']}"
                if min(own) > 0 > others
                else "not only the upper right quarter",
                f"by up to {CUTS[-1]} pixels, and it is {min(own):+.1f} to {max(own):+.1f}",
            ],
        ),
    ]


def ranged(rows: dict[str, Any], key: str, less: int = 0) -> str:
    """The range of a number over the fills, without its sign."""
    return span([abs(row[key]) - less for row in rows.values()])


def span(values: list[float]) -> str:
    """The smallest and the largest of some numbers, which are all whole or all not."""
    return " to ".join(f"{v:.2f}" if isinstance(v, float) else f"{v}" for v in (min(values), max(values)))


if __name__ == "__main__":
    main()
