"""Does eval() repair a network after one forward pass in training mode?

For each of the twelve photos, a fresh copy of the bundled network makes one forward pass on it in training mode and is
then switched to evaluation mode. It is compared with the untouched network on all twelve photos: the logit of the class
that was on top, and whether that class still is. Repeated with ten passes, with one pass on all twelve photos at once,
and with a smaller momentum, 0.01 in place of 0.1. Two controls: training mode without a forward pass, and a forward
pass in training mode whose batch normalisations stay in evaluation mode.

Run it from the repository: python -m evidence.batchnorm
"""

import copy
from collections.abc import Iterator
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

import camlib
from evidence.findings import PHOTOS, command, finding, store

WHERE = "notebooks/deep_dives/hooks_in_depth.ipynb"
MOMENTUM = 0.1  # that of the bundled network
SETTINGS = {
    "one pass": {"passes": 1},
    "ten passes": {"passes": 10},
    "one pass on all photos": {"passes": 1, "together": True},
    "one pass, momentum 0.01": {"passes": 1, "momentum": 0.01},
    "control: no pass": {"passes": 0},
    "control: batch normalisation in evaluation mode": {"passes": 1, "still": True},
}


def treated(net: nn.Module, x: Tensor, passes: int, still: bool, momentum: float) -> nn.Module:
    """A copy of the network after forward passes in training mode, back in evaluation mode."""
    net = copy.deepcopy(net).train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = momentum
            module.train(not still)
    for _ in range(passes):
        net(x)
    return net.eval()


def batches(inputs: list[Tensor], together: bool) -> Iterator[tuple[str, Tensor]]:
    """What the forward passes in training mode see: (the photo's number or "all", input)."""
    if together:
        yield "all", torch.cat(inputs)
    else:
        yield from ((str(n), x) for n, x in enumerate(inputs))


def study(net: nn.Module, inputs: list[Tensor], before: Tensor, setting: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each input of the forward passes: the top class and its logit on every photo, before and after."""
    rows = []
    for name, x in batches(inputs, setting.get("together", False)):
        changed = treated(net, x, setting["passes"], setting.get("still", False), setting.get("momentum", MOMENTUM))
        after = torch.cat([changed(one) for one in inputs])
        top, size = before.argmax(1), (after - before).abs().amax(1)
        rows.append(
            {
                "seen": name,
                "largest_change": round(float(size.max()), 3),
                "largest_change_by_photo": [round(v, 3) for v in size.tolist()],
                "top_logit_change": [round(v, 3) for v in (after - before).gather(1, top[:, None])[:, 0].tolist()],
                "top_after": after.argmax(1).tolist(),
            }
        )
    return rows


def summary(rows: list[dict[str, Any]], top: list[int]) -> dict[str, Any]:
    """Over all pairs of a photo seen in training mode and a photo classified afterwards."""
    changes = [abs(v) for row in rows for v in row["top_logit_change"]]
    lost = [a != b for row in rows for a, b in zip(row["top_after"], top, strict=True)]
    sizes = [v for row in rows for v in row["largest_change_by_photo"]]
    own = [row for row in rows if row["seen"].isdigit()]
    moved = [size for size, other in zip(sizes, lost, strict=True) if other]
    return {
        "pairs": len(lost),
        "other_top_class": sum(lost),
        "photos_with_other_top_class": sorted({n % len(top) for n, other in enumerate(lost) if other}),
        "largest_change_of_these": [round(v, 2) for v in (min(moved), max(moved))] if moved else None,
        "same_photo": [sum(row["top_after"][int(row["seen"])] != top[int(row["seen"])] for row in own), len(own)],
        "top_logit_change": [round(v, 3) for v in (min(changes), median(changes), max(changes))],
        "largest_change": [min(row["largest_change"] for row in rows), max(row["largest_change"] for row in rows)],
    }


def findings(summaries: dict[str, dict[str, Any]], margins: list[float]) -> list[dict[str, Any]]:
    """What the deep dive of chapter 02 states. margins: by how much the best class of each photo leads."""
    one, ten, together, slow, *controls = summaries.values()
    counts = [f"{s['other_top_class']} of {s['pairs']}" for s in (one, ten, together, slow)]
    low, high = one["largest_change"]
    least, most = one["largest_change_of_these"]
    photos = one["photos_with_other_top_class"]
    close_photos = sum(margin < 0.5 for margin in margins)
    lead = "less" if all(margins[n] < 0.5 for n in photos) else "more"
    own = "{} of {}".format(*one["same_photo"])
    slow_low, slow_high = slow["largest_change"]
    still = max(control["largest_change"][1] for control in controls)
    return [
        finding(
            WHERE,
            "After one forward pass in training mode, eval() does not bring the old logits back.",
            "a pass on each of 12 photos, then 12 photos classified; also ten passes, and one pass on all photos",
            f"largest change of a logit, per copy: {low:.2f} to {high:.2f}; another top class for {counts[0]} pairs "
            f"(with the same photo before and after, {own}). After ten passes {counts[1]} pairs; after one pass on all "
            f"photos {counts[2]} photos",
            [f"{counts[0]} pairs", f"by {low:.2f} to {high:.2f}", f"in {own}", counts[1], f"{counts[2]} photos"],
        ),
        finding(
            WHERE,
            "Another top class appears only on photos whose two best classes are close.",
            "the same 12 × 12 pairs",
            f"all {one['other_top_class']} on {len(photos)} of the {close_photos} photos with a lead of less than half "
            f"a logit; in these pairs, the largest change of a logit is {least:.2f} to {most:.2f}",
            [f"on {len(photos)} photos", f"{least:.2f} to {most:.2f}", f"{lead} than half a logit"],
        ),
        finding(
            WHERE,
            "With a momentum of 0.01, one pass changes the logits less.",
            "the same 12 × 12 pairs",
            f"another top class for {counts[3]} pairs; largest change of a logit, per copy: {slow_low:.2f} to "
            f"{slow_high:.2f}",
            [
                "no best class changes" if not slow["other_top_class"] else counts[3],
                f"{slow_low:.2f} to {slow_high:.2f}",
            ],
        ),
        finding(
            WHERE,
            "The batch normalisations are the cause: without a pass, or with them in evaluation mode, nothing changes.",
            "two controls, each on the same 12 × 12 pairs",
            f"largest change of any logit: {still}",
            ["no logit changes" if still == 0 else f"logits change by up to {still}"],
        ),
    ]


def main() -> None:
    out = command(__file__, __doc__)
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    clf, photos = camlib.load_model(), sorted(PHOTOS.iterdir())
    pictures = [camlib.read_image(path) for path in photos]
    inputs = [clf.preprocess(picture, clf.view(picture)) for picture in pictures]
    before = torch.cat([clf.module(x) for x in inputs])
    top = before.argmax(1).tolist()
    results = {}
    for name, setting in tqdm(SETTINGS.items(), unit="setting"):
        rows = study(clf.module, inputs, before, setting)
        results[name] = {"setting": setting, "summary": summary(rows, top), "rows": rows}
    table = {path.name: clf.labels[k] for path, k in zip(photos, top, strict=True)}
    summaries = {name: result["summary"] for name, result in results.items()}
    first, second = before.topk(2).values.T
    margins = [round(v, 3) for v in (first - second).tolist()]
    store(
        out,
        findings(summaries, margins),
        network=clf.name,
        photos=table,
        leads=dict(zip(table, margins, strict=True)),
        settings=results,
    )


if __name__ == "__main__":
    main()
