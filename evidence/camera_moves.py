"""Does the answer stay when the camera moves by a few pixels?

Each of the twelve photos is seen through the network's own crop, and the crop is moved sideways, and then up and down,
in steps of two pixels of the input over one cell (32 pixels): 17 frames in each direction. Measured: in how many
frames the best class is another one than in the frame before, how far the logit of the middle frame's best class
ranges, and how far its probability does. With the bundled network, at its own size of the photo and at three others.

Run it from the repository: python -m evidence.camera_moves
"""

from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

import camlib
from camlib.models import RESAMPLE
from evidence.findings import PHOTOS, command, finding, store

CHAPTER = "notebooks/11_your_images.ipynb"
CELL, STEP = 32, 2  # pixels of the input
SIZES = (256, 288, 320, 384)  # of the photo's shorter side; 256 is the network's own and leaves room for just one cell


def frames(clf: camlib.Classifier, path: Path, short: int, across: bool) -> np.ndarray:
    """The network's crop, moved over one cell around the centre: (17, side, side, 3)."""
    photo = Image.fromarray(camlib.read_image(path))
    side, scale = clf.shape[0], short / min(photo.size)
    photo = photo.resize([round(n * scale) for n in photo.size], RESAMPLE[clf.interpolation])
    pixels, (x, y) = np.asarray(photo), ((n - side) // 2 for n in photo.size)
    moves = range(-CELL // 2, CELL // 2 + 1, STEP)
    starts = [(y, x + d) if across else (y + d, x) for d in moves]
    return np.stack([pixels[top : top + side, left : left + side] for top, left in starts])


@torch.no_grad()
def study(clf: camlib.Classifier, path: Path, short: int) -> dict[str, Any]:
    """One photo: in each direction, how often the best class changes, and the ranges of the middle frame's class."""
    row: dict[str, Any] = {"photo": path.name}
    for direction in ("sideways", "up and down"):
        x = torch.from_numpy(frames(clf, path, short, direction == "sideways")).permute(0, 3, 1, 2)
        logits = clf.module(clf.normalise(x.float() / 255))
        best = logits.argmax(1)
        k = best[len(best) // 2]
        p = logits.softmax(1)[:, k]
        row[direction] = {
            "class": clf.labels[k],
            "changes": int((best[1:] != best[:-1]).sum()),
            "logit range": round(float(logits[:, k].max() - logits[:, k].min()), 2),
            "probability": [round(float(p.min()), 3), round(float(p.max()), 3)],
        }
    return row


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    moves = [row[direction] for row in rows for direction in ("sideways", "up and down")]
    return {
        "changed": sum(any(row[d]["changes"] for d in ("sideways", "up and down")) for row in rows),
        "median logit range": round(median(m["logit range"] for m in moves), 1),
        "largest logit range": round(max(m["logit range"] for m in moves), 1),
        "smallest logit range": round(min(m["logit range"] for m in moves), 1),
    }


def main() -> None:
    out = command(__file__, __doc__)
    torch.set_num_threads(1)
    clf, photos = camlib.load_model(), sorted(PHOTOS.iterdir())
    rows = {size: [study(clf, p, size) for p in tqdm(photos, desc=f"{size} pixels")] for size in SIZES}
    short = {size: summary(some) for size, some in rows.items()}
    first = short[SIZES[0]]
    fewest, most = (end(short[size]["changed"] for size in SIZES[1:]) for end in (min, max))
    medians = [s["median logit range"] for s in short.values()]
    row = finding(
        CHAPTER,
        "While the camera moves by one cell, logits wander, and the best class often changes.",
        f"{len(photos)} photos, sideways and up and down over one cell in 16 steps, {len(SIZES)} sizes of the photo",
        "; ".join(
            f"shorter side {size}: best class changes on {s['changed']} of {len(photos)}, range of its logit in median "
            f"{s['median logit range']} ({s['smallest logit range']} to {s['largest logit range']})"
            for size, s in short.items()
        ),
        [
            f"on {first['changed']} of {len(photos)} photos ({fewest} to {most} at other sizes)",
            f"by {min(medians)} to {max(medians)} in the median",
        ],
    )
    store(out, [row], summary=short, photos=rows)


if __name__ == "__main__":
    main()
