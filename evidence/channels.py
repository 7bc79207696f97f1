"""How few channels carry a logit, do they also decide between two classes, and how right does a wrong map look?

On each of the twelve photos, for the bundled network: how many channels make up a quarter, half or three quarters of
the positive contributions to the best class, and which class is best when they are set to zero. Three controls: as many
active channels drawn at random; channels that count for the class, drawn at random until the same share of the positive
contributions is gone; and as many channels, those with the largest means. How many of the channels also count for the
runner-up (control: of all channels that count for the best class); whether the channel with the largest contribution is
also the one that favours the best class most over the runner-up; whether the channel with the largest weight
contributes most, for each of the five best classes.

Then a head with a hidden layer that shuffles the means and gives the same logits: where the strongest cell of the map
from its last layer lies, over five seeds of 1000 shuffles each, on each labelled object that has a box, is among the
network's five best classes and leaves cells outside its box (control: the share of cells in the box).

Run it from the repository: python -m evidence.channels
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

import camlib
from evidence.findings import DATA, PHOTOS, command, finding, store

CHAPTER = "notebooks/03_gap_weights.ipynb"
SHARES, CLASSES, DRAWS, SHUFFLES, SEEDS = (0.25, 0.5, 0.75), 5, 100, 1000, 5


def run(clf: camlib.Classifier, path: Path) -> tuple[Tensor, Tensor, camlib.View]:
    """features (C, h, w), logits (K,) and the view of one photo."""
    photo = camlib.read_image(path)
    view = clf.view(photo)
    features, logits = clf.head.run(clf.module, clf.preprocess(photo, view))
    return features[0], logits[0], view


def carriers(contribution: Tensor, share: float) -> Tensor:
    """The fewest channels that make up a share of the positive contributions, the largest first."""
    ranked, order = contribution.sort(descending=True)
    positive = ranked.clamp(min=0)
    return order[: int((positive.cumsum(0) < share * positive.sum()).sum()) + 1]


def any_of_the_share(contribution: Tensor, share: float, draw: torch.Generator) -> Tensor:
    """Channels that count for the class, drawn at random until they make up a share of the positive contributions."""
    active = (contribution > 0).nonzero()[:, 0]
    order = active[torch.randperm(len(active), generator=draw)]
    running = contribution[order].cumsum(0)
    return order[: int((running < share * running[-1]).sum()) + 1]


def channels(clf: camlib.Classifier, path: Path) -> dict[str, Any]:
    """What the channels of one photo do."""
    features, logits, _ = run(clf, path)
    weight, bias, means = clf.head.weight, clf.head.bias, features.mean((1, 2))
    draw, second_draw = (torch.Generator().manual_seed(seed) for seed in (0, 1))
    classes = logits.topk(CLASSES).indices.tolist()
    k, runner_up = classes[:2]
    active = means.nonzero()[:, 0]

    def best_without(chosen: Tensor) -> int:
        rest = means.clone()
        rest[chosen] = 0
        return int((weight @ rest + bias).argmax())

    row: dict[str, Any] = {"photo": path.name, "best": clf.labels[k], "runner_up": clf.labels[runner_up]}
    row["silent"] = int((means == 0).sum())
    for share in SHARES:
        chosen = carriers(weight[k] * means, share)
        same_share = [any_of_the_share(weight[k] * means, share, second_draw) for _ in range(DRAWS)]
        random = [active[torch.randperm(len(active), generator=draw)[: len(chosen)]] for _ in range(DRAWS)]
        row[f"{share:.0%}"] = {
            "channels": len(chosen),
            "without": clf.labels[best_without(chosen)],
            "also_for_runner_up": int((weight[runner_up] * means)[chosen].gt(0).sum()),
            "random_keeps_best": sum(best_without(r) == k for r in random) / DRAWS,
            "same_share_keeps_best": sum(best_without(r) == k for r in same_share) / DRAWS,
            "same_share_channels": sum(map(len, same_share)) / DRAWS,
            "largest_means_keep_best": best_without(means.topk(len(chosen)).indices) == k,
        }
    count = weight[k] * means > 0
    row["count"], row["also_count_for_runner_up"] = int(count.sum()), int((weight[runner_up][count] > 0).sum())
    loudest = int((weight[k] * means).argmax())
    row["loudest_decides"] = int(((weight[k] - weight[runner_up]) * means).argmax()) == loudest
    largest = [int(weight[j].argmax()) for j in classes]
    row["largest_weight_silent"] = sum(float(means[c]) == 0 for c in largest)
    row["largest_weight_loudest"] = sum(
        int((weight[j] * means).argmax()) == c for j, c in zip(classes, largest, strict=True)
    )
    return row


def shuffled(clf: camlib.Classifier, name: str, label: str, boxes: list[list[int]]) -> dict[str, Any] | None:
    """Maps from the last layer of a head whose hidden layer shuffles; None if the box says nothing."""
    features, logits, view = run(clf, DATA / name)
    weight, bias, k = clf.head.weight, clf.head.bias, clf.index(label)
    h, w = features.shape[1:]
    left, top, right, bottom = view.box
    ys = top + (bottom - top) * (torch.arange(h) + 0.5)[:, None] / h
    xs = left + (right - left) * (torch.arange(w) + 0.5)[None] / w
    inside = torch.zeros(h, w, dtype=torch.bool)
    for x0, y0, x1, y1 in boxes:
        inside |= (x0 <= xs) & (xs < x1) & (y0 <= ys) & (ys < y1)
    if inside.all() or int((logits > logits[k]).sum()) >= CLASSES:
        return None  # every cell is on the object, or the network does not see it
    hits, claims = [0] * SEEDS, [-torch.inf] * SEEDS
    for seed in range(SEEDS):
        draw = torch.Generator().manual_seed(seed)
        for _ in range(SHUFFLES):
            order = torch.randperm(len(features), generator=draw)
            cells = (weight[k][order] @ features.flatten(1)).reshape(h, w)
            hits[seed] += bool(inside.flatten()[cells.argmax()])
            claims[seed] = max(claims[seed], float(cells.mean() + bias[k]))
    return {
        "photo": Path(name).name,
        "label": label,
        "logit": round(float(logits[k]), 3),
        "cells_on_object": round(float(inside.float().mean()), 3),
        "peaks_on_object": [n / SHUFFLES for n in hits],
        "largest_claim": [round(claim, 3) for claim in claims],
    }


def findings(photos: list[dict[str, Any]], maps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What chapter 03 states."""
    n, total = len(photos), CLASSES * len(photos)
    half = [row["50%"] for row in photos]
    counts = [row["channels"] for row in half]
    lost = {share: sum(row[f"{share:.0%}"]["without"] != row["best"] for row in photos) for share in SHARES}
    control = [row["random_keeps_best"] for row in half]
    shared = [row["also_for_runner_up"] / row["channels"] for row in half]
    same_share = sum(row["same_share_keeps_best"] for row in half) / n
    drawn = [row["same_share_channels"] for row in half]
    by_means = sum(row["largest_means_keep_best"] for row in half)
    base = [row["also_count_for_runner_up"] / row["count"] for row in photos]
    aboves = [sum(row["peaks_on_object"][seed] > row["cells_on_object"] for row in maps) for seed in range(SEEDS)]
    objects = f"{min(aboves)} to {max(aboves)}" if min(aboves) < max(aboves) else f"{min(aboves)}"
    claims = [max(row["largest_claim"]) / row["logit"] for row in maps]
    decides = sum(row["loudest_decides"] for row in photos)
    loudest = sum(row["largest_weight_loudest"] for row in photos)
    return [
        finding(
            CHAPTER,
            "Few of the 1280 channels make up half of the positive contributions to the best class.",
            f"{n} photos",
            f"{min(counts)} to {max(counts)}",
            [f"between {min(counts)} and {max(counts)} channels"],
        ),
        finding(
            CHAPTER,
            "Without these channels, another class is best on most photos; without as many active channels drawn "
            "at random, the best class usually stays.",
            f"{n} photos, for a quarter, half and three quarters; control: {DRAWS} random draws each",
            f"{lost[0.25]}, {lost[0.5]} and {lost[0.75]} of {n}; control for half: the best class stays in "
            f"{sum(control) / n:.0%} of the draws",
            [f"on {lost[0.5]} of the {n} photos", f"hardly matter: it stays in {sum(control) / n:.0%}"],
        ),
        finding(
            CHAPTER,
            "Channels that count for the class, drawn at random until half of the positive sum is gone, change the "
            "best class about as often as the largest do.",
            f"{n} photos, {DRAWS} draws each; also as many channels as the largest, those with the largest means",
            f"the best class stays in {same_share:.0%} of the draws; without the largest, on {n - lost[0.5]} of {n} "
            f"photos; without those with the largest means, on {by_means} of {n}. Channels drawn, mean of a photo: "
            f"{min(drawn):.0f} to {max(drawn):.0f}",
            [f"in only {same_share:.0%} of the draws", f"on average {min(drawn):.0f} to {max(drawn):.0f}"],
        ),
        finding(
            CHAPTER,
            "Most of these channels raise the runner-up, too.",
            f"{n} photos; control: all channels that count for the best class",
            f"{min(shared):.0%} to {max(shared):.0%} of them; control {min(base):.0%} to {max(base):.0%}",
            [
                f"between {min(shared):.0%} and {max(shared):.0%} of these channels",
                f"it is {min(base):.0%} to {max(base):.0%}",
            ],
        ),
        finding(
            CHAPTER,
            "The channel that contributes most to the best class need not be the one that favours it most over the "
            "runner-up.",
            f"{n} photos",
            f"it is on {decides} of {n}",
            [f"on only {decides} of the {n} photos"],
        ),
        finding(
            CHAPTER,
            "The channel with a class's largest weight need not contribute most.",
            f"{n} photos, the {CLASSES} best classes of each",
            f"it does in {loudest} of {total}",
            [f"in {loudest} of {total} cases"],
        ),
        finding(
            CHAPTER,
            "A map from the last layer of a head with a hidden layer often peaks on the object, but misses the logit.",
            f"{len(maps)} labelled objects that are among the five best classes and leave cells free; {SEEDS} seeds of "
            f"{SHUFFLES} shuffles; control: the share of cells on the object",
            f"more often than chance on {objects} of {len(maps)}; the largest claim is {max(claims):.0%} of the logit",
            [
                f"for the {len(maps)} labelled objects",
                f"for {objects} of {len(maps)}",
                "as much as half of the logit" if max(claims) < 0.5 else f"more than {max(claims):.0%} of the logit",
            ],
        ),
    ]


def main() -> None:
    out = command(__file__, __doc__)
    torch.set_num_threads(1)
    clf = camlib.load_model()
    photos = [channels(clf, path) for path in tqdm(sorted(PHOTOS.iterdir()), unit="photo")]
    boxes: dict[tuple[str, str], list[list[int]]] = {}
    for box in json.loads((DATA / "boxes.json").read_text(encoding="utf-8")):
        if box["photo"].startswith("photos/"):
            boxes.setdefault((box["photo"], box["label"]), []).append(box["box"])
    maps = [shuffled(clf, *key, value) for key, value in tqdm(boxes.items(), unit="object")]
    maps = [row for row in maps if row]
    store(out, findings(photos, maps), network=clf.name, photos=photos, shuffled=maps)


if __name__ == "__main__":
    main()
