"""Does a picture show that a map was stored before the ReLU?

A hook on the last module before the in-place ReLU of the bundled network stores its output as a view, which the ReLU
overwrites, and as a clone. On each of the twelve photos, the class map of the best class is computed from both: how
the cells of the two maps correlate, whether the strongest cell is the same, and what mean + bias is, which must be the
logit.

Run it from the repository: python -m evidence.view_or_clone
"""

from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import camlib
from evidence.findings import PHOTOS, command, finding, store

CHAPTER = "notebooks/02_hooks.ipynb"
ALIKE = 0.8  # a correlation above which two maps look alike


def compare(clf: camlib.Classifier, path: Path) -> dict[str, Any]:
    """One photo's row: the best class, both maps' mean + bias, and how far the maps agree."""
    photo = camlib.read_image(path)
    stored: dict[str, torch.Tensor] = {}

    def hook(module: torch.nn.Module, args: tuple, output: torch.Tensor) -> None:
        stored["view"], stored["clone"] = output.detach(), output.detach().clone()

    with clf.module.bn2.drop.register_forward_hook(hook), torch.no_grad():
        logits = clf.module(clf.preprocess(photo, clf.view(photo)))[0]
    k = int(logits.argmax())
    view, clone = (
        camlib.class_activation_maps(stored[name], clf.head.weight[[k]])[0, 0].flatten() for name in ("view", "clone")
    )
    return {
        "photo": path.name,
        "best": clf.labels[k],
        "logit": round(float(logits[k]), 3),
        "view": round(float(view.mean() + clf.head.bias[k]), 3),
        "clone": round(float(clone.mean() + clf.head.bias[k]), 3),
        "correlation": round(float(torch.corrcoef(torch.stack([view, clone]))[0, 1]), 3),
        "same_strongest_cell": int(view.argmax()) == int(clone.argmax()),
    }


def findings(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What chapter 02 states."""
    n = len(rows)
    correlations = sorted(row["correlation"] for row in rows)
    alike = sum(c > ALIKE for c in correlations)
    same = sum(row["same_strongest_cell"] for row in rows)
    wrong = sum(abs(row["clone"] - row["logit"]) > 1 for row in rows)
    low, high = min(row["clone"] for row in rows), max(row["clone"] for row in rows)
    least, most = min(row["logit"] for row in rows), max(row["logit"] for row in rows)
    return [
        finding(
            CHAPTER,
            "Stored before the ReLU, the best class's map looks like the right one on most photos; its sum is wrong on "
            "all.",
            f"{n} photos",
            f"the cells' correlation is above {ALIKE} on {alike} of {n} ({correlations[0]:.2f} to "
            f"{correlations[-1]:.2f}), the strongest cell is the same on {same}; mean + bias is {low:.0f} to "
            f"{high:.0f} for logits of {least:.1f} to {most:.1f}, and wrong on {wrong} of {n}",
            [f"on {alike} of the {n} photos", f"above {ALIKE}"],
        )
    ]


def main() -> None:
    out = command(__file__, __doc__)
    torch.set_num_threads(1)
    clf = camlib.load_model()
    rows = [compare(clf, path) for path in tqdm(sorted(PHOTOS.iterdir()), unit="photo")]
    store(out, findings(rows), network=clf.name, photos=rows)


if __name__ == "__main__":
    main()
