"""Why do the cells beside the rocket have more evidence for "missile" than the cells that hold it?

On rocket.jpg, the rocket lies wholly in the middle column of the 7 × 7 cells. The mean evidence of the rows 2 to 4 in
the middle column and in its two neighbours: as it is; with the two towers beside the rocket painted out, in six ways;
with the rocket painted out, in the same ways; and, as a control, with two strips of sky painted over. The *dip* is the
lower neighbour minus the middle. Then the place of the largest cell for larger inputs, and the dip in shifted views.

Run it from the repository: python -m evidence.rocket
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from tqdm import tqdm

import camlib
from evidence.findings import PHOTOS, command, finding, store

PHOTO = PHOTOS / "rocket.jpg"
ROCKET, TOWERS, SKY = ((302, 343),), ((172, 210), (434, 472)), ((240, 270), (376, 406))  # columns of the photo
TOP, BOTTOM = 60, 412  # the rows that are painted
SIZES = (224, 320, 448, 640)
Paint = Callable[[np.ndarray, int, int], np.ndarray]


def beside(step: int) -> Paint:
    """The sky so many pixels to the side, towards the middle between rocket and tower."""

    def paint(photo: np.ndarray, left: int, right: int) -> np.ndarray:
        towards = step if (left + right) / 2 < photo.shape[1] / 2 else -step
        return photo[TOP:BOTTOM, left + towards : right + towards]

    return paint


def rows_of_sky(photo: np.ndarray, left: int, right: int) -> np.ndarray:
    """The median colour of each row's sky."""
    columns = np.concatenate([photo[TOP:BOTTOM, a:b] for a, b in SKY], 1)
    return np.median(columns, 1, keepdims=True).repeat(right - left, 1)


def plain(value: int) -> Paint:
    return lambda photo, left, right: np.full((BOTTOM - TOP, right - left, 3), value)


def blurred(photo: np.ndarray, left: int, right: int) -> np.ndarray:
    blur = Image.fromarray(photo).filter(ImageFilter.GaussianBlur(25))
    return np.asarray(blur)[TOP:BOTTOM, left:right]


# The copied sky must be sky: for the towers it comes from the side of the rocket, for the strips from the other side.
PAINTS: dict[str, Paint] = {
    "sky beside it": beside(50),
    "sky further away": beside(60),
    "the rows' sky": rows_of_sky,
    "blur": blurred,
    "dark": plain(60),
    "gray": plain(128),
}


def columns(exp: camlib.Explanation) -> list[float]:
    """Mean evidence for missile in the rows 2 to 4 of the columns 2, 3 and 4."""
    return [round(v, 2) for v in exp.map("missile")[2:5, 2:5].mean(0).tolist()]


def painted(photo: np.ndarray, strips: tuple[tuple[int, int], ...], paint: Paint) -> np.ndarray:
    """The photo with these strips painted over."""
    changed = photo.copy()
    for left, right in strips:
        changed[TOP:BOTTOM, left:right] = paint(photo, left, right)
    return changed


def dip(values: list[float]) -> float:
    """By how much the middle column has less than the lower one of its neighbours."""
    return round(min(values[0], values[2]) - values[1], 2)


def ranged(values: dict[str, list[float]]) -> str:
    """The smallest and the largest dip."""
    dips = [dip(v) for v in values.values()]
    return f"{min(dips):.1f} to {max(dips):.1f}"


def span(values: list[float]) -> str:
    """The smallest and the largest value, or one number where both are the same."""
    low, high = f"{min(values):.1f}", f"{max(values):.1f}"
    return low if low == high else f"{low} to {high}"


def findings(rows: dict[str, dict[str, list[float]]], largest: dict[str, bool], views: list[float]) -> list[dict]:
    """What the chapters state."""
    as_it_is = dip(rows["as it is"]["nothing"])
    gone = max(dip(v) for v in rows["towers"].values()) < as_it_is / 4
    stays = min(dip(v) for part in ("rocket", "sky") for v in rows[part].values()) > as_it_is / 4
    middle = {part: span([v[1] for v in ways.values()]) for part, ways in rows.items()}
    sides = {part: span([side for v in ways.values() for side in (v[0], v[2])]) for part, ways in rows.items()}
    most = max(v[1] for part in ("as it is", "sky") for v in rows[part].values())
    lowered = min(v[1] for v in rows["towers"].values()) > most
    on_rocket = sum(largest[str(size)] for size in SIZES[1:])
    return [
        finding(
            "notebooks/00_first_heat_map.ipynb",
            "The cells on the rocket have less evidence than those beside it because of the two towers beside it.",
            f"{len(PAINTS)} paints over the towers, the rocket, and two strips of sky; the dip, in logits",
            f"{as_it_is:.1f} as it is; {ranged(rows['towers'])} without the towers; {ranged(rows['rocket'])} without "
            f"the rocket; {ranged(rows['sky'])} with sky painted over; {min(views)} to {max(views)} in shifted views",
            ["paint the towers over, and the dip is gone"] if gone and stays else ["the dip changes"],
        ),
        finding(
            "notebooks/04_einsum_cam.ipynb",
            "The towers lower the evidence in the rocket's cells; they do not raise it in those beside it.",
            f"{len(PAINTS)} paints over the towers; control: over two strips of sky",
            f"on the rocket {middle['as it is']} as it is, {middle['towers']} without the towers, {middle['sky']} with "
            f"sky painted over; beside it {sides['as it is']}, {sides['towers']} and {sides['sky']}",
            ["they lower the evidence on it"] if lowered and gone else ["the evidence on it stays"],
        ),
        finding(
            "notebooks/06_honest_pictures.ipynb",
            "With a larger input, the largest cell for missile overlaps the rocket.",
            "inputs of 320, 448 and 640 pixels",
            f"{on_rocket} of {len(SIZES) - 1}",
            ["overlaps the rocket"] if on_rocket == len(SIZES) - 1 else [f"in {on_rocket} of {len(SIZES) - 1}"],
        ),
    ]


def main() -> None:
    out = command(__file__, __doc__)
    torch.set_num_threads(1)
    clf, photo = camlib.load_model(), camlib.read_image(PHOTO)
    rows: dict[str, dict[str, list[float]]] = {"as it is": {"nothing": columns(camlib.explain(clf, photo))}}
    parts = {"towers": TOWERS, "rocket": ROCKET, "sky": SKY}
    for part, strips in tqdm(parts.items(), unit="part"):
        own = {"sky beside it": beside(-15), "sky further away": beside(-25)} if part == "sky" else {}
        rows[part] = {
            name: columns(camlib.explain(clf, painted(photo, strips, paint))) for name, paint in (PAINTS | own).items()
        }
    largest = {}
    for size in SIZES:
        exp = camlib.explain(clf, photo, sizes=size)
        x = int(exp.map("missile").max(0).values.argmax() + 0.5) + 0.5
        left, _, right, _ = exp.view.box
        place = left + (right - left) * x / exp.map("missile").shape[1]
        largest[str(size)] = bool(ROCKET[0][0] <= place <= ROCKET[0][1])
    view, shifts = clf.view(photo), []
    for step in (-8, -4, 0, 4, 8):
        moved = camlib.View(view.photo, view.resized, (view.offset[0], view.offset[1] + step), view.size)
        shifts.append(dip(columns(camlib.explain(clf, clf.preprocess(photo, moved)))))
    results: dict[str, Any] = {"columns": rows, "largest on the rocket": largest, "dip in shifted views": shifts}
    store(out, findings(rows, largest, shifts), network=clf.name, **results)


if __name__ == "__main__":
    main()
