"""Does the contrast map of two classes say where the lead of one over the other comes from? And may one stretch first?

For each photo, the three pairs of the network's three best classes. The cells with the largest contrast (the red ones)
are covered in the network's input, with four fills and two sizes: how far does the lead fall? The control covers cells
of the same shape elsewhere: the same mask, moved round the map. The rivals choose the cells by the map of the first
class alone, or by the difference of the two maps after each was stretched to 0..1. And which step of stretching gives
wrong signs: subtracting each map's minimum, or dividing by its range?

Run it from the repository: python -m evidence.contrast_pairs
"""

from collections import Counter
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur
from tqdm import tqdm

import camlib
from evidence.findings import PHOTOS, command, finding, store

COUNTS = (6, 12)  # of the 49 cells
MOVES = 4  # controls for each mask
RIVALS = ("class a", "stretched")  # other ways to choose the cells
PORTRAIT = ("academic gown", "military uniform")  # the pair of the chapter's first picture


def fills(clf: camlib.Classifier, x: Tensor) -> dict[str, Tensor]:
    """What is put in place of covered cells: pictures like the network's input (1, 3, H, W)."""
    shift, scale = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (clf.mean, clf.std))
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
    return {
        "gray": ((0.5 - shift) / scale).expand_as(x),
        "photo mean": x.mean((2, 3), keepdim=True).expand_as(x),
        "noise": (noise - shift) / scale,
        "blur": gaussian_blur(x, [73, 73], [12.0, 12.0]),
    }


def stretch(m: Tensor) -> Tensor:
    """A map from 0 to 1, as many programs draw it."""
    return (m - m.min()) / (m.max() - m.min())


def largest(m: Tensor, count: int) -> Tensor:
    """(h, w) bool: the cells with the largest values."""
    mask = torch.zeros(m.numel(), dtype=torch.bool)
    mask[m.flatten().topk(count).indices] = True
    return mask.reshape(m.shape)


def moved(mask: Tensor, draw: torch.Generator) -> list[Tensor]:
    """The mask moved round the map by a few random steps, none of them zero."""
    h, w = mask.shape
    steps = [(y, x) for y in range(h) for x in range(w) if (y, x) != (0, 0)]
    chosen = torch.randperm(len(steps), generator=draw)[:MOVES].tolist()
    return [mask.roll(steps[i], (0, 1)) for i in chosen]


def study(clf: camlib.Classifier, photo: Path, draw: torch.Generator) -> list[dict[str, Any]]:
    """One photo: a row per pair, fill and number of cells."""
    exp = camlib.explain(clf, photo)
    x = clf.preprocess(exp.photo, exp.view)
    masks: list[Tensor] = []
    jobs: list[dict[str, Any]] = []
    for a, b in combinations([p.index for p in exp.top(3)], 2):
        one, other = exp.map(a), exp.map(b)
        for count in COUNTS:
            chosen = {
                "contrast": largest(one - other, count),
                "against": largest(other - one, count),
                "class a": largest(one, count),
                "stretched": largest(stretch(one) - stretch(other), count),
            }
            jobs.append({"a": a, "b": b, "cells": count, "first": len(masks), "names": list(chosen)})
            masks += [*chosen.values(), *moved(chosen["contrast"], draw)]
    side = x.shape[-1] // masks[0].shape[-1]
    pixels = torch.stack(masks).repeat_interleave(side, 1).repeat_interleave(side, 2)[:, None]
    rows = []
    for fill_name, fill in fills(clf, x).items():
        with torch.no_grad():
            logits = torch.cat([clf.module(torch.where(p, fill, x)) for p in pixels.split(8)])
        for job in jobs:
            lead = logits[:, job["a"]] - logits[:, job["b"]] - (exp.logits[job["a"]] - exp.logits[job["b"]])
            start, n = job["first"], len(job["names"])
            by = dict(zip(job["names"], lead[start : start + n].tolist(), strict=True))
            by["moved"] = float(lead[start + n : start + n + MOVES].mean())
            same = [k for k in RIVALS if torch.equal(masks[start], masks[start + job["names"].index(k)])]
            labels = {key: clf.labels[job[key]] for key in ("a", "b")}
            change = {key: round(value, 3) for key, value in by.items()}
            row = {"photo": photo.name, **labels, "fill": fill_name, "cells": job["cells"]}
            rows.append({**row, "same cells": same, "change": change})
    return rows


def signs(exp: camlib.Explanation) -> list[dict[str, Any]]:
    """For each pair of the three best classes: the share of cells with a wrong sign, stretched first or in part."""
    rows = []
    for a, b in combinations([p.index for p in exp.top(3)], 2):
        one, other = exp.map(a), exp.map(b)
        steps = {
            "wrong": stretch(one) - stretch(other),
            "minimum": (one - one.min()) - (other - other.min()),
            "range": one / (one.max() - one.min()) - other / (other.max() - other.min()),
        }
        wrong = {name: ((m > 0) != (one - other > 0)).float().mean() for name, m in steps.items()}
        alike = float(np.corrcoef(one.flatten(), other.flatten())[0, 1])
        names = {"a": exp.classifier.labels[a], "b": exp.classifier.labels[b]}
        shares = {name: round(float(share), 4) for name, share in wrong.items()}
        rows.append({**names, **shares, "correlation": round(alike, 3)})
    return rows


def findings(rows: list[dict[str, Any]], shares: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What chapter 07 states."""
    n, photos, where = len(rows), len(shares), "notebooks/07_why_a_and_not_b.ipynb"
    change = {name: [row["change"][name] for row in rows] for name in rows[0]["change"]}
    falls, rises = (percent([v * sign > 0 for v in change[k]]) for k, sign in (("contrast", -1), ("against", 1)))
    beside = {name: compared(rows, name) for name in change}
    further, less = ({name: parts[i] for name, parts in beside.items()} for i in (0, 2))
    ties = [k in row["same cells"] for row in rows for k in RIVALS if row["change"][k] == row["change"]["contrast"]]
    by_photo = {name: photos_won(rows, name) for name in change}
    drawn = abs(int(further["stretched"]) - int(less["stretched"])) < 10  # points
    varied = (
        f"{photos} photos, 3 pairs, {len({row['fill'] for row in rows})} fills, {COUNTS[0]} or {COUNTS[1]} cells: {n}"
    )
    wrong, minimum, ranges = (
        [100 * row[k] for pairs in shares.values() for row in pairs] for k in ("wrong", "minimum", "range")
    )
    (cup,) = [row for row in shares["coffee.png"] if (row["a"], row["b"]) == ("espresso", "cup")]
    more, fewer = (sum(s * (r - m) > 0 for r, m in zip(ranges, minimum, strict=True)) for s in (1, -1))
    portrait = [row["change"] for row in rows if (row["a"], row["b"]) == PORTRAIT]
    red, blue = (sum(c["contrast"] < 0 for c in portrait), sum(c["against"] > 0 for c in portrait))
    return [
        finding(
            where,
            "Covering the reddest cells of a contrast lowers the lead.",
            varied,
            f"{falls} %, median {median(change['contrast']):+.1f}; the bluest cells raise it: {rises} %",
            [f"lowers the lead in {falls} %", f"the bluest cells raises it in {rises} %"],
        ),
        finding(
            where,
            "Covering the reddest cells of a contrast lowers the lead further than the same shape elsewhere.",
            varied,
            f"{further['moved']} %, mostly so on {by_photo['moved'][0]} of {photos} photos",
            [f"further than the control in {further['moved']} %"],
        ),
        finding(
            where,
            "Covering a contrast's reddest cells lowers the lead further than covering the strongest of the map of a, "
            "by a small margin.",
            varied,
            result("class a", beside, by_photo),
            [
                f"in {further['class a']} % of the cases and loses in {less['class a']} %",
                "In the rest, both choose the same cells" if all(ties) else "In the rest, both lower it equally",
            ],
        ),
        finding(
            where,
            "On the portrait, covering the bluest cells of gown against uniform raises the lead; "
            "covering the reddest rarely lowers it.",
            f"4 fills, {COUNTS[0]} or {COUNTS[1]} cells: {len(portrait)}",
            f"the bluest raise it in {blue} of {len(portrait)}; the reddest lower it in {red} of {len(portrait)}",
            [f"raises the lead in {blue} of {len(portrait)} cases", f"lowers it in {red} of {len(portrait)}"],
        ),
        finding(
            where,
            "Covering by the stretched difference lowers the lead further about as often as covering by the contrast."
            if drawn
            else "Covering by the stretched difference does not lower the lead as often as covering by the contrast.",
            varied,
            result("stretched", beside, by_photo),
            [f"about equally often ({further['stretched']} % and {less['stretched']} %)" if drawn else "not as well"],
        ),
        finding(
            where,
            "Two maps that are stretched to 0..1 before they are subtracted give wrong signs.",
            f"{photos} photos, 3 pairs",
            f"{min(wrong):.0f} % to {max(wrong):.0f} % of the cells, median {median(wrong):.0f} %",
            [f"{min(wrong):.0f} % to {max(wrong):.0f} %", f"median of {median(wrong):.0f} %"],
        ),
        finding(
            where,
            "Dividing each map by its range alone gives more wrong signs than subtracting its minimum alone.",
            f"{photos} photos, 3 pairs",
            f"median {median(ranges):.0f} % against {median(minimum):.0f} %, more for {more} of {len(wrong)} pairs, "
            f"less for {fewer}; for espresso and cup {100 * cup['range']:.0f} % against {100 * cup['minimum']:.0f} %",
            [
                f"gives {100 * cup['range']:.0f} % here, the minimum alone {100 * cup['minimum']:.0f} %",
                f"{median(ranges):.0f} % and {median(minimum):.0f} %",
            ],
        ),
    ]


def percent(cases: list[bool]) -> str:
    """The share of cases, as a whole number."""
    return f"{100 * sum(cases) / len(cases):.0f}"


def compared(rows: list[dict[str, Any]], name: str) -> tuple[str, str, str]:
    """Covering the reddest cells of the contrast lowers the lead further than, as far as, or less than covering others.

    Each as a share of the cases.
    """
    pairs = [(row["change"]["contrast"], row["change"][name]) for row in rows]
    return percent([c < v for c, v in pairs]), percent([c == v for c, v in pairs]), percent([c > v for c, v in pairs])


def photos_won(rows: list[dict[str, Any]], name: str) -> tuple[int, int, int]:
    """On how many photos the contrast wins more cases than it loses, loses more, or wins as many as it loses."""
    balance: Counter[str] = Counter()
    for row in rows:
        contrast, other = row["change"]["contrast"], row["change"][name]
        balance[row["photo"]] += (contrast < other) - (contrast > other)
    values = balance.values()
    return sum(v > 0 for v in values), sum(v < 0 for v in values), sum(v == 0 for v in values)


def result(name: str, beside: dict[str, tuple[str, str, str]], by_photo: dict[str, tuple[int, int, int]]) -> str:
    """Shares of the cases and counts of the photos, as the table writes them."""
    (further, equal, less), (won, lost, even) = beside[name], by_photo[name]
    return f"further {further} %, equal {equal} %, less {less} %; by photo {won} won, {lost} lost, {even} even"


def main() -> None:
    out = command(__file__, __doc__)
    torch.set_num_threads(1)
    clf, draw = camlib.load_model(), torch.Generator().manual_seed(0)
    rows, shares = [], {}
    for photo in tqdm(sorted(PHOTOS.iterdir()), unit="photo"):
        rows += study(clf, photo, draw)
        shares[photo.name] = signs(camlib.explain(clf, photo))
    store(out, findings(rows, shares), network=clf.name, signs=shares, rows=rows)


if __name__ == "__main__":
    main()
