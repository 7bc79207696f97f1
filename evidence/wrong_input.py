"""Does the bundled network's answer give away that its input was prepared wrongly?

Five common mistakes, on each of the twelve photos: does the best class stay the same, and how much does the map of the
best class resemble the right one (the correlation over the 49 cells)? BGR is tried only on photos that have colours.

Run it from the repository: python -m evidence.wrong_input
"""

from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

import camlib
from evidence.findings import PHOTOS, command, finding, store

CHAPTER = "notebooks/01_what_the_network_says.ipynb"
MEAN, STD = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def mistakes(right: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The right input (1, 3, H, W), from -1 to 1, made wrong."""
    yield "0 to 1", (right + 1) / 2
    yield "BGR", right[:, [2, 1, 0]]
    yield "reshape", right.permute(0, 2, 3, 1).reshape(right.shape)
    yield "ImageNet mean and deviation", ((right + 1) / 2 - MEAN) / STD
    yield "0 to 255", 255 * (right + 1) / 2


def study(clf: camlib.Classifier, path: Path) -> dict[str, Any]:
    """One photo: the best class for the right input and for each wrong one, and the correlation of their maps."""
    right = camlib.explain(clf, path)
    best = right.top(1)[0].index
    gray = bool((right.photo == right.photo[..., :1]).all())
    row: dict[str, Any] = {"photo": path.name, "gray": gray, "right": clf.labels[best]}
    for name, given in mistakes(clf.preprocess(right.photo, right.view)):
        wrong = camlib.explain(clf, given)
        answer = wrong.top(1)[0].index
        pair = torch.stack([right.map(best).flatten(), wrong.map(answer).flatten()])
        row[name] = {"best": clf.labels[answer], "correlation": round(float(torch.corrcoef(pair)[0, 1]), 3)}
    return row


def main() -> None:
    out = command(__file__, __doc__)
    torch.set_num_threads(1)
    clf, photos = camlib.load_model(), sorted(PHOTOS.iterdir())
    rows = [study(clf, photo) for photo in tqdm(photos, unit="photo")]
    summary = {}
    for name in (key for key in rows[0] if key not in ("photo", "gray", "right")):
        tried = [row for row in rows if not (name == "BGR" and row["gray"])]  # swapping equal channels changes nothing
        same = sum(row[name]["best"] == row["right"] for row in tried)
        correlation = round(median(row[name]["correlation"] for row in tried), 2)
        summary[name] = {"same": same, "photos": len(tried), "correlation": correlation}
    scaled, bgr = (summary[name] for name in ("0 to 1", "BGR"))
    row = finding(
        CHAPTER,
        "An input that is scaled wrongly, or has blue first, often leaves the best class as it was.",
        f"{len(rows)} photos, {len(summary)} mistakes",
        "; ".join(
            f"{name}: {s['same']} of {s['photos']}, maps' correlation {s['correlation']}" for name, s in summary.items()
        ),
        [
            f"on {scaled['same']} of our {scaled['photos']} photos",
            f"with BGR, on {bgr['same']} of the {bgr['photos']} that have colours",
        ],
    )
    store(out, [row], network=clf.name, summary=summary, photos=rows)


if __name__ == "__main__":
    main()
