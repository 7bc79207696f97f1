"""Where does a cell of the feature map look, measured from where it is drawn, and does a correction help?

Three measurements, in pixels of the network's input of 224 x 224. One sign for all of them: the offset is the place
where the cell looks minus the place where it is drawn; positive means further down, or further right.

- gradients: `camlib.receptive_field_offset` of ResNet-18 and EfficientNet-Lite0 with random weights, six draws each
  (EfficientNet-Lite0 also with the statistics of its normalisations taken from the photos), and of the bundled, trained
  network, by eight seeds of the noise and with noise of two contrasts;
- patches: round cut-outs of the photos at known places of a gray canvas. The offset is the place of the cut-out minus
  the place of the change in the map, for four sizes of cut-outs, as drawn and corrected by the first measurement (for
  the trained network, by that of each seed);
- objects: cut-outs of the objects whose boxes are known, upright, upside down and mirrored, at nine places. Half the
  difference of two orientations turns with the object and belongs to it; their mean stays and belongs to the network.

Run it from the repository: python -m evidence.cell_offset
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import resnet18
from tqdm import tqdm

import camlib
from camlib.geometry import _measured_offsets
from camlib.lite0 import bundled_network, efficientnet_lite0
from evidence.findings import DATA, PHOTOS, command, finding, store

DIVE = "notebooks/deep_dives/where_a_cell_looks.ipynb"
SIDE, GRAY = 224, 128
WHOLE = camlib.View.identity((SIDE, SIDE))
WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven")
DRAWS = 6
SEEDS = 8  # of the noise that measures the trained network
SIDES = (32, 48, 64, 96)  # of the cut-outs: pixels
PATCHES = {True: 96, False: 24}  # of each size: for the trained network, and for each random one
HOW = ("drawn", "corrected")
OBJECT = 80  # pixels of an object's longer side
TURNS = {"upright": (1, 1), "upside down": (-1, 1), "mirrored": (1, -1)}  # steps along y and x
RESNET, LITE, CALIBRATED, TRAINED = "ResNet-18, random", "Lite0, random", "Lite0, random, normalised", "Lite0, trained"
EXPECTED = {RESNET: -15.5, LITE: 15.5, CALIBRATED: 15.5}  # half the stride of every layer that halves, added up


# The networks


def drawn(kind: str, seed: int, photos: Tensor) -> camlib.Classifier:
    """A network with random weights."""
    torch.manual_seed(seed)
    module = resnet18() if kind == RESNET else efficientnet_lite0()
    if kind == CALIBRATED:
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = None  # a plain mean over what it sees
        with torch.no_grad():
            module.train()(photos)
    return camlib.load_model(module.eval(), mean=(0.5,) * 3, std=(0.5,) * 3)


def features(clf: camlib.Classifier, pictures: np.ndarray) -> Tensor:
    """(N, 224, 224, 3) uint8 -> (N, C, h, w)."""
    parts = []
    with torch.no_grad():
        for start in range(0, len(pictures), 8):
            x = torch.cat([clf.preprocess(p, WHOLE) for p in pictures[start : start + 8]])
            parts.append(clf.head.run(clf.module, x)[0])
    return torch.cat(parts)


# Patches


def patches(photos: list[np.ndarray], side: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Gray canvases (N, 224, 224, 3) with a round cut-out each, and where its contrast lies: (N, 2), y and x."""
    rng = np.random.default_rng(side)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    disc = (1.2 * (1 - np.hypot(y, x) / (side / 2))).clip(0, 1)[..., None]  # with a soft edge
    pictures, places = np.full((count, SIDE, SIDE, 3), float(GRAY)), np.empty((count, 2))
    for n in range(count):
        photo = photos[n % len(photos)]
        top, left = rng.integers(0, np.array(photo.shape[:2]) - 2 * side)
        piece = (photo[top : top + 2 * side : 2, left : left + 2 * side : 2] - float(GRAY)) * disc  # at half its size
        top, left = rng.integers(72 - side // 2, 152 - side // 2, 2)
        pictures[n, top : top + side, left : left + side] += piece
        places[n] = np.array([top, left]) + middle(torch.as_tensor((piece**2).sum(2))[None])[0]
    return pictures.round().astype(np.uint8), places


def middle(maps: Tensor) -> np.ndarray:
    """The centre of mass of maps (N, H, W) without negative values: (N, 2), y and x."""
    y, x = (torch.arange(n, dtype=torch.float64) + 0.5 for n in maps.shape[1:])
    maps = maps.double()
    return (torch.stack([maps.sum(2) @ y, maps.sum(1) @ x], 1) / maps.sum((1, 2))[:, None]).numpy()


def hot_middle(maps: Tensor, offset: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """(N, 2): the middle of what exceeds half the maximum, drawn on the canvas: (N, h, w) -> y and x."""
    heat = camlib.place(maps, WHOLE, offset)
    return middle((heat - heat.amax((1, 2), keepdim=True) / 2).clamp(min=0))


def patch_changes(clf: camlib.Classifier, photos: list[np.ndarray], count: int) -> dict[int, tuple[np.ndarray, Tensor]]:
    """For each size: the places of the patches (N / 12, 12, 2), and the change of the map (N, h, w) that each makes."""
    empty = features(clf, np.full((1, SIDE, SIDE, 3), GRAY, np.uint8))
    changes = {}
    for side in SIDES:
        pictures, places = patches(photos, side, count)
        changes[side] = places.reshape(-1, len(photos), 2), (features(clf, pictures) - empty).square().sum(1)
    return changes


def patch_offsets(changes: dict[int, tuple[np.ndarray, Tensor]], offset: tuple[float, float]) -> dict[int, np.ndarray]:
    """Patch minus map, drawn with this offset, for each size: the mean of each photo, (12, 2)."""
    return {
        side: (places - hot_middle(change, offset).reshape(places.shape)).mean(0)
        for side, (places, change) in changes.items()
    }


# Objects


def objects(photos: dict[str, np.ndarray]) -> list[tuple[str, str, np.ndarray]]:
    """Each object with a box in a photo, the largest of its kind: photo, class, pixels (h, w, 3)."""
    largest: dict[tuple[str, str], list[int]] = {}
    for entry in json.loads((DATA / "boxes.json").read_text()):
        folder, _, name = entry["photo"].partition("/")
        key, (left, top, right, bottom) = (name, entry["label"]), entry["box"]
        area = (right - left) * (bottom - top)
        if folder == "photos" and area > largest.get(key, [0])[0]:
            largest[key] = [area, left, top, right, bottom]
    cut = []
    for (name, label), (_, left, top, right, bottom) in largest.items():
        piece = Image.fromarray(photos[name][top:bottom, left:right])
        scale = OBJECT / max(piece.size)
        size = [max(1, round(side * scale)) for side in piece.size]
        cut.append((name, label, np.asarray(piece.resize(size, Image.Resampling.LANCZOS))))
    return cut


def object_row(clf: camlib.Classifier, name: str, label: str, piece: np.ndarray) -> dict[str, Any]:
    """Object minus map in three orientations; the part that turns with it and the part that stays, along each axis."""
    h, w = piece.shape[:2]
    row: dict[str, Any] = {"photo": name, "class": label}
    k = clf.index(label)
    for turn, (down, right) in TURNS.items():
        canvases, places = np.full((9, SIDE, SIDE, 3), GRAY, np.uint8), []
        for n, canvas in enumerate(canvases):
            top, left = 112 - h // 2 + 42 * (n // 3 - 1), 112 - w // 2 + 42 * (n % 3 - 1)
            canvas[top : top + h, left : left + w] = piece[::down, ::right]
            places.append([top + h / 2, left + w / 2])
        values = features(clf, canvases)
        maps = torch.einsum("c,bchw->bhw", clf.head.weight[k], values)
        scores = values.mean((2, 3)) @ clf.head.weight.T + clf.head.bias
        row[turn] = (np.array(places) - hot_middle(maps)).mean(0).tolist()
        row[f"{turn}, rank"] = int((scores > scores[:, [k]]).sum(1).median()) + 1
    for axis, (direction, other) in enumerate((("down", "upside down"), ("right", "mirrored"))):
        a, b = row["upright"][axis], row[other][axis]
        row[direction] = {"turns": (a - b) / 2, "stays": (a + b) / 2}
    return row


# The result


def measure(out: Path) -> None:
    files = sorted(PHOTOS.iterdir())
    photos = {file.name: camlib.read_image(file) for file in files}
    pixels, trained = list(photos.values()), camlib.load_model()
    inputs = torch.cat([trained.preprocess(p, trained.view(p)) for p in pixels])
    networks: list[dict[str, Any]] = []
    jobs = [(kind, seed) for kind in EXPECTED for seed in range(DRAWS)] + [(TRAINED, 0)]
    for kind, seed in tqdm(jobs, unit="network"):
        clf = trained if kind == TRAINED else drawn(kind, seed, inputs)
        seeds = range(SEEDS) if kind == TRAINED else [0]
        measured = np.array([_measured_offsets(clf, 64 if kind == TRAINED else 16, s).mean(0).tolist() for s in seeds])
        changes = patch_changes(clf, pixels, PATCHES[kind == TRAINED])
        down, right = measured.mean(0)
        found = {"drawn": patch_offsets(changes, (0.0, 0.0)), "corrected": patch_offsets(changes, (down, right))}
        networks.append({"network": kind, "seed": seed, "gradient": measured, "patches": found})
        tqdm.write(f"{kind}, draw {seed}: " + "; ".join(f"{down:+.1f}, {right:+.1f}" for down, right in measured))
    noise = [
        {"down": down, "right": right, "distance": distance(patch_offsets(changes, (down, right)))}
        for down, right in measured.tolist()
    ]
    stronger = camlib.load_model(bundled_network(), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    values = [_measured_offsets(stronger, 64, s).mean(0).tolist() for s in tqdm(range(SEEDS), unit="seed")]
    contrast = {d: spread(v) for d, v in zip(("down", "right"), np.transpose(values), strict=True)}
    rows = [object_row(trained, *cut) for cut in tqdm(objects(photos), unit="object")]
    summaries = {kind: summary([n for n in networks if n["network"] == kind]) for kind in (*EXPECTED, TRAINED)}
    ranked = [row for row in rows if max(row[f"{turn}, rank"] for turn in TURNS) <= 5]
    stays = {d: spread([row[d]["stays"] for row in ranked]) for d in ("down", "right")}
    stays["photos"] = len({row["photo"] for row in ranked})
    result = rounded(
        {
            "networks": summaries,
            "trained, by seed of the noise": noise,
            "trained, stronger contrast": contrast,
            "stays": stays,
            "objects": rows,
        }
    )
    store(out, findings(result), **result)


def distance(gaps: dict[int, np.ndarray]) -> float:
    """The length of the mean offset over all sizes and photos."""
    return float(np.hypot(*np.mean([gap.mean(0) for gap in gaps.values()], 0)))


def spread(values: Any) -> dict[str, Any]:
    """Mean and standard error of independent values, and their range."""
    values = np.asarray(values, dtype=float)
    error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return {"mean": values.mean(), "error": error, "range": [values.min(), values.max()], "count": len(values)}


def summary(networks: list[dict[str, Any]]) -> dict[str, Any]:
    """One kind of network. Random ones: mean and error over the draws.

    The trained one: over the seeds of the noise, and for patches over the photos.
    """
    table: dict[str, Any] = {}
    for axis, direction in enumerate(("down", "right")):
        gradients = np.concatenate([n["gradient"][:, axis] for n in networks])
        row: dict[str, Any] = {"gradient": spread(gradients)}
        for how in HOW:
            by_size = {side: [n["patches"][how][side][:, axis] for n in networks] for side in SIDES}
            values = {side: np.mean(v, 1) if len(networks) > 1 else v[0] for side, v in by_size.items()}
            row[how] = {str(side): spread(v) for side, v in values.items()}
            row[how]["all"] = spread(np.mean(list(values.values()), 0))
        table[direction] = row
    for how in HOW:
        table[f"distance, {how}"] = [distance(n["patches"][how]) for n in networks]
    return table


def rounded(value: Any) -> Any:
    """Two digits after the point."""
    if isinstance(value, dict):
        return {key: rounded(v) for key, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return round(float(value), 2) if isinstance(value, float | np.floating) else value


def findings(result: dict[str, Any]) -> list[dict[str, Any]]:
    """What the deep dive states."""
    networks, stays = result["networks"], result["stays"]
    resnet, lite, normalised, trained = (networks[name] for name in (RESNET, LITE, CALIBRATED, TRAINED))
    contrast, noise = result["trained, stronger contrast"], result["trained, by seed of the noise"]
    smaller = all(
        n[d]["gradient"]["range"][0] > part[d]["range"][1]
        for d in ("down", "right")
        for n in (lite, normalised)
        for part in ({d: trained[d]["gradient"]}, contrast)
    )
    sizes = [trained["down"]["drawn"][str(side)] for side in (SIDES[0], SIDES[-1])]
    drawn, left = trained["distance, drawn"][0], [seed["distance"] for seed in noise]
    closer = sum(d < drawn for d in left)
    return [
        finding(
            DIVE,
            "With random weights, the offset of a cell is close to that of the strides and paddings, 15.5 pixels.",
            "six draws of ResNet-18 and of EfficientNet-Lite0; gradients, and patches of four sizes",
            f"ResNet-18, down: {said(resnet, 'gradient')} by gradients, {said(resnet, 'drawn')} by patches; "
            f"EfficientNet-Lite0: {said(lite, 'gradient')} and {said(lite, 'drawn')}",
            [
                f"{said(resnet, 'gradient')} down",
                f"EfficientNet-Lite0: {said(lite, 'gradient')}",
                f"{said(resnet, 'drawn')} down and {said(resnet, 'drawn', 'right')} right",
                f"{said(resnet, 'corrected')} and {said(resnet, 'corrected', 'right')} are left",
                "in a single draw, {:.1f} to {:.1f} pixels".format(*ends(resnet["distance, corrected"])),
                "{:.1f} pixels before, {:.1f} after".format(*(np.mean(lite[f"distance, {how}"]) for how in HOW)),
            ],
        ),
        finding(
            DIVE,
            "The offset of the trained EfficientNet-Lite0 is smaller than those of random weights.",
            f"six draws, with and without statistics of the normalisations; noise of two contrasts, {SEEDS} seeds each",
            f"{'12 of 12 draws, each seed' if smaller else 'not in all'}; {said(trained, 'gradient')} down, with "
            f"statistics only {said(normalised, 'gradient')}",
            [
                f"lowers the offset to {said(normalised, 'gradient')}",
                f"{said(trained, 'gradient')} down and {said(trained, 'gradient', 'right')} right",
                "range from {:+.1f} to {:+.1f} down".format(*trained["down"]["gradient"]["range"]),
                "smaller than the offset of each of the twelve random draws" if smaller else "not in all draws",
            ],
        ),
        finding(
            DIVE,
            "Whether a correction brings the trained network's maps closer to the patches depends on the noise that "
            "measured it."
            if 0 < closer < len(noise)
            else "Whether a correction helps does not depend on the noise that measured it.",
            f"patches of four sizes from 12 photos, {len(noise)} seeds of the noise",
            f"{drawn:.1f} pixels off as drawn, {min(left):.1f} to {max(left):.1f} corrected; closer for {closer} of "
            f"{len(noise)} seeds",
            [
                f"{said(trained, 'drawn')} down and {said(trained, 'drawn', 'right')} right",
                f"{number(sizes[0])} for {SIDES[0]} pixels, {number(sizes[1])} for {SIDES[-1]}",
                f"As drawn, the maps lie {drawn:.1f} pixels off",
                "Corrected, they lie {:.1f} to {:.1f} pixels off".format(*ends(left)),
                f"closer than before for {closer} of {len(noise)} noise seeds",
            ],
        ),
        finding(
            DIVE,
            "Over a few objects in swapped orientations, a few pixels of the offset stay on average.",
            f"{stays['down']['count']} objects from {stays['photos']} photos, in three orientations, at nine places",
            f"{number(stays['down'])} down, {number(stays['right'])} right",
            [
                f"{stays['down']['count']} objects, from {WORDS[stays['photos']]} photos",
                f"what stays is {number(stays['down'])} down and {number(stays['right'])} right",
                "from {:+.1f} to {:+.1f} down".format(*stays["down"]["range"]),
            ],
        ),
    ]


def ends(values: list[float]) -> tuple[float, float]:
    """The smallest and the largest."""
    return min(values), max(values)


def number(part: dict[str, float]) -> str:
    """Mean and standard error, as the deep dive writes them."""
    return f"{part['mean']:+.1f} ± {part['error']:.1f}"


def said(network: dict[str, Any], what: str, direction: str = "down") -> str:
    part = network[direction][what]
    return number(part.get("all", part))


def main() -> None:
    out = command(__file__, __doc__)
    torch.set_num_threads(1)
    measure(out)


if __name__ == "__main__":
    main()
