"""Where does a cell of the feature map look, measured from where it is drawn, and does a correction help?

Three measurements, in pixels of the network's input of 224 x 224. One sign for all of them: the offset is the place
where the cell looks minus the place where it is drawn; positive means further down, or further right.

- gradients: `camlib.receptive_field_offset` of ResNet-18 and EfficientNet-Lite0 with random weights, six draws each
  (EfficientNet-Lite0 also with the statistics of its normalisations taken from the photos), and of the bundled, trained
  network, by eight seeds of the noise and with noise of two contrasts;
- windows: the same in inputs of 448 x 448, and there once more with all but 224 x 224 pixels around the cell cut away:
  does the small window move the middle of what a cell sees?
- patches: round cut-outs of the photos at known places of a gray canvas. The offset is the place of the cut-out minus
  the place of the change in the map, for four sizes of cut-outs, as drawn and corrected by the first measurement. For
  the trained network, by that of each seed, and with other draws of the patches and other grays, too;
- objects: cut-outs of the objects whose boxes are known, upright, upside down and mirrored, at nine places. Half the
  difference of two orientations turns with the object and belongs to it. An offset of the network stays in their mean.
  Does nothing else? The cup at three sizes on three grays.

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
from camlib.geometry import _centroid, _measured_offsets, _natural_noise
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
TRIES = [(seed, GRAY) for seed in range(5)] + [(0, 64), (0, 200)]  # draws of the patches, and the gray around them
WINDOWS = ("in 448", "in 448, cut to 224", "share of it")
WIDE, PROBES = 448, 8  # the side of the larger window, and the inputs that measure a network in it
HOW = ("drawn", "corrected")
OBJECT = 80  # pixels of an object's longer side
CUPS = [(side, gray) for side in (56, OBJECT, 112) for gray in (64, GRAY, 200)]
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


def wide_window(clf: camlib.Classifier, seed: int) -> np.ndarray:
    """(3, 2): a central cell's offset in a window of 448 pixels, the same without what lies outside 224 pixels around
    the cell, and the share of the squared gradient that lies inside these, twice.
    """
    rng, half, rows = torch.Generator().manual_seed(seed), SIDE // 2, []
    for probe in range(PROBES):
        x = clf.normalise(_natural_noise(1, 3, WIDE, rng)).requires_grad_()
        with camlib.capture(clf.module, clf.head.layer, live=True) as captured:
            clf.module(x)
        values = captured[clf.head.layer]
        cell = values.shape[2] // 2 - probe % 2  # above and below the middle by turns
        signs = torch.randint(0, 2, values.shape[1:2], generator=rng) * 2 - 1
        (gradient,) = torch.autograd.grad((values[0, :, cell, cell] * signs).sum(), x)
        field = gradient.double().square().sum(1)
        centre = round((cell + 0.5) * WIDE / values.shape[2])
        inside = field[:, centre - half : centre + half, centre - half : centre + half]
        share = (inside.sum() / field.sum()).expand(2)
        rows.append(torch.stack([_centroid(field)[0] - centre, _centroid(inside)[0] - half, share]))
    return torch.stack(rows).mean(0).numpy()


# Patches


def patches(
    photos: list[np.ndarray], side: int, count: int, seed: int = 0, gray: int = GRAY
) -> tuple[np.ndarray, np.ndarray]:
    """Gray canvases (N, 224, 224, 3) with a round cut-out each, and where its contrast lies: (N, 2), y and x."""
    rng = np.random.default_rng([side, seed])
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    disc = (1.2 * (1 - np.hypot(y, x) / (side / 2))).clip(0, 1)[..., None]  # with a soft edge
    pictures, places = np.full((count, SIDE, SIDE, 3), float(gray)), np.empty((count, 2))
    for n in range(count):
        photo = photos[n % len(photos)]
        top, left = rng.integers(0, np.array(photo.shape[:2]) - 2 * side)
        piece = (photo[top : top + 2 * side : 2, left : left + 2 * side : 2] - float(gray)) * disc  # at half its size
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


def patch_changes(
    clf: camlib.Classifier, photos: list[np.ndarray], count: int, seed: int = 0, gray: int = GRAY
) -> dict[int, tuple[np.ndarray, Tensor]]:
    """For each size: the places of the patches (N / 12, 12, 2), and the change of the map (N, h, w) that each makes."""
    empty = features(clf, np.full((1, SIDE, SIDE, 3), gray, np.uint8))
    changes = {}
    for side in SIDES:
        pictures, places = patches(photos, side, count, seed, gray)
        changes[side] = places.reshape(-1, len(photos), 2), (features(clf, pictures) - empty).square().sum(1)
    return changes


def patch_offsets(changes: dict[int, tuple[np.ndarray, Tensor]], offset: tuple[float, float]) -> dict[int, np.ndarray]:
    """Patch minus map, drawn with this offset, for each size: the mean of each photo, (12, 2)."""
    return {
        side: (places - hot_middle(change, offset).reshape(places.shape)).mean(0)
        for side, (places, change) in changes.items()
    }


def other_try(
    clf: camlib.Classifier, photos: list[np.ndarray], seed: int, gray: int, measured: np.ndarray
) -> dict[str, Any]:
    """The trained network with one draw of the patches on one gray: its offset as drawn, and what corrections do.

    measured (seeds of the noise, 2): the offsets by gradients.
    """
    changes = patch_changes(clf, photos, PATCHES[True], seed, gray)
    before = patch_offsets(changes, (0.0, 0.0))
    down, right = np.mean([gap.mean(0) for gap in before.values()], 0)
    after = [distance(patch_offsets(changes, (dy, dx))) for dy, dx in measured.tolist()]
    return {
        "seed": seed,
        "gray": gray,
        "down": down,
        "right": right,
        "down, by size": {str(side): gap.mean(0)[0] for side, gap in before.items()},
        "distance": distance(before),
        "corrected": list(ends(after)),
        "closer": sum(d < distance(before) for d in after),
    }


# Objects


def objects(photos: dict[str, np.ndarray], longer: int = OBJECT) -> list[tuple[str, str, np.ndarray]]:
    """Each object with a box in a photo, the largest of its kind: photo, class, pixels (h, w, 3)."""
    largest: dict[tuple[str, str], list[int]] = {}
    for entry in json.loads((DATA / "boxes.json").read_text(encoding="utf-8")):
        folder, _, name = entry["photo"].partition("/")
        key, (left, top, right, bottom) = (name, entry["label"]), entry["box"]
        area = (right - left) * (bottom - top)
        if folder == "photos" and area > largest.get(key, [0])[0]:
            largest[key] = [area, left, top, right, bottom]
    cut = []
    for (name, label), (_, left, top, right, bottom) in largest.items():
        piece = Image.fromarray(photos[name][top:bottom, left:right])
        scale = longer / max(piece.size)
        size = [max(1, round(side * scale)) for side in piece.size]
        cut.append((name, label, np.asarray(piece.resize(size, Image.Resampling.LANCZOS))))
    return cut


def object_row(clf: camlib.Classifier, name: str, label: str, piece: np.ndarray, gray: int = GRAY) -> dict[str, Any]:
    """Object minus map in three orientations; the part that turns with it and the part that stays, along each axis."""
    h, w = piece.shape[:2]
    row: dict[str, Any] = {"photo": name, "class": label}
    k = clf.index(label)
    for turn, (down, right) in TURNS.items():
        canvases, places = np.full((9, SIDE, SIDE, 3), gray, np.uint8), []
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
        wide = np.array([wide_window(clf, s) for s in seeds])
        down, right = measured.mean(0)
        found = {"drawn": patch_offsets(changes, (0.0, 0.0)), "corrected": patch_offsets(changes, (down, right))}
        networks.append({"network": kind, "seed": seed, "gradient": measured, "wide": wide, "patches": found})
        tqdm.write(f"{kind}, draw {seed}: " + "; ".join(f"{down:+.1f}, {right:+.1f}" for down, right in measured))
    noise = [
        {"down": down, "right": right, "distance": distance(patch_offsets(changes, (down, right)))}
        for down, right in measured.tolist()
    ]
    tries = [other_try(trained, pixels, seed, gray, measured) for seed, gray in tqdm(TRIES, unit="draw of patches")]
    stronger = camlib.load_model(bundled_network(), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    values = [_measured_offsets(stronger, 64, s).mean(0).tolist() for s in tqdm(range(SEEDS), unit="seed")]
    contrast = {d: spread(v) for d, v in zip(("down", "right"), np.transpose(values), strict=True)}
    rows = [object_row(trained, *cut) for cut in tqdm(objects(photos), unit="object")]
    cups = []
    for side, gray in CUPS:
        (cut,) = [cut for cut in objects(photos, side) if cut[1] == "cup"]
        cups.append({"side": side, "gray": gray} | object_row(trained, *cut, gray))
    summaries = {kind: summary([n for n in networks if n["network"] == kind]) for kind in (*EXPECTED, TRAINED)}
    ranked = [row for row in rows if max(row[f"{turn}, rank"] for turn in TURNS) <= 5]
    stays = {d: spread([row[d]["stays"] for row in ranked]) for d in ("down", "right")}
    stays["photos"] = len({row["photo"] for row in ranked})
    result = rounded(
        {
            "networks": summaries,
            "trained, by seed of the noise": noise,
            "trained, stronger contrast": contrast,
            "trained, by draw of the patches": tries,
            "stays": stays,
            "objects": rows,
            "cups": cups,
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
        wide = np.concatenate([n["wide"][:, :, axis] for n in networks]).T
        row: dict[str, Any] = {"gradient": spread(gradients)}
        row |= {key: spread(values) for key, values in zip(WINDOWS, wide, strict=True)}
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
    wide, cut, share = WINDOWS
    smaller = all(
        n[d][at]["range"][0] > part["range"][1]
        for d in ("down", "right")
        for n in (lite, normalised)
        for at, part in (("gradient", trained[d]["gradient"]), ("gradient", contrast[d]), (wide, trained[d][wide]))
    )
    sizes = [trained["down"]["drawn"][str(side)] for side in (SIDES[0], SIDES[-1])]
    drawn, left = trained["distance, drawn"][0], [seed["distance"] for seed in noise]
    closer = sum(d < drawn for d in left)
    tries = result["trained, by draw of the patches"]
    redrawn = [t for t in tries if t["gray"] == GRAY and t["seed"]]
    dark, light = (next(t for t in tries if t["gray"] == gray) for gray in (64, 200))
    most = max(t["closer"] for t in redrawn)
    larger = sum(t["down, by size"][str(SIDES[-1])] > t["down, by size"][str(SIDES[0])] for t in tries)
    cups = [cup["down"]["stays"] for cup in result["cups"]]
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
            "six draws, with and without statistics of the normalisations; noise of two contrasts, inputs of 224 and "
            f"448 pixels, {SEEDS} seeds each",
            f"{'12 of 12 draws, each seed' if smaller else 'not in all'}; {said(trained, 'gradient')} down, with "
            f"statistics only {said(normalised, 'gradient')}",
            [
                f"lowers the offset to {said(normalised, 'gradient')}",
                f"{said(trained, 'gradient')} down and {said(trained, 'gradient', 'right')} right",
                f"in the larger window {said(trained, wide)} down and {said(trained, wide, 'right')} right",
                "range from {:+.1f} to {:+.1f} down".format(*trained["down"]["gradient"]["range"]),
                "smaller than the offset of each of the twelve random draws" if smaller else "not in all draws",
            ],
        ),
        finding(
            DIVE,
            "With statistics of photos in the normalisations, random weights look further than 224 pixels, and this "
            "window moves the middle of what is left.",
            f"six draws, inputs of {WIDE} pixels; there again without what lies outside 224 pixels around the cell",
            "; ".join(
                f"{name}: {said(n, wide)} down, {said(n, cut)} of the {percent(n['down'][share])} inside"
                for name, n in networks.items()
            ),
            [
                f"In a window of {WIDE} pixels, the offset is {said(normalised, wide)}",
                f"only {percent(normalised['down'][share])} of the field",
                f"the offset of the rest is {said(normalised, cut)}",
            ],
        ),
        finding(
            DIVE,
            "Whether a correction brings the trained network's maps closer to the patches depends on the noise that "
            "measured it, on the patches and on the gray around them.",
            f"patches of four sizes from 12 photos, {len(noise)} seeds of the noise, five draws of the patches, three "
            "grays",
            f"{drawn:.1f} pixels off as drawn, {min(left):.1f} to {max(left):.1f} corrected; closer for {closer} of "
            f"{len(noise)} seeds; other draws: "
            + ", ".join(f"{t['distance']:.1f} off, closer for {t['closer']}" for t in redrawn)
            + "; darker and lighter gray: "
            + ", ".join(f"{t['distance']:.1f} off, closer for {t['closer']}" for t in (dark, light))
            + f"; further down for patches of {SIDES[-1]} pixels than of {SIDES[0]}: {larger} of {len(tries)}",
            [
                f"{said(trained, 'drawn')} down and {said(trained, 'drawn', 'right')} right",
                f"{number(sizes[0])} for {SIDES[0]} pixels, {number(sizes[1])} for {SIDES[-1]}",
                f"As drawn, the maps lie {drawn:.1f} pixels off",
                "Corrected, they lie {:.1f} to {:.1f} pixels off".format(*ends(left)),
                f"closer than before for {closer} of {len(noise)} noise seeds",
                f"with four other draws of the patches, they are closer for {f'at most {most}' if most else 'none'}",
                f"for {dark['closer']} on a darker gray, and for {light['closer']} on a lighter one",
                "lie {:.1f} to {:.1f} pixels off as drawn".format(*ends([t["distance"] for t in tries])),
            ],
        ),
        finding(
            DIVE,
            "What stays of an object's offset in swapped orientations is not the network's alone: it differs between "
            "objects, and for one with its size and the gray around it.",
            f"{stays['down']['count']} objects from {stays['photos']} photos, in three orientations, at nine places; "
            f"the cup in {len(cups)} settings, three sizes on three grays",
            f"{number(stays['down'])} down, {number(stays['right'])} right; the cup, down: "
            "{:+.1f} to {:+.1f}".format(*ends(cups)),
            [
                f"{stays['down']['count']} objects, from {WORDS[stays['photos']]} photos",
                f"what stays is {number(stays['down'])} down and {number(stays['right'])} right",
                "from {:+.1f} to {:+.1f} down".format(*stays["down"]["range"]),
                "what stays is {:+.1f} to {:+.1f} pixels".format(*ends(cups)),
            ],
        ),
    ]


def ends(values: list[float]) -> tuple[float, float]:
    """The smallest and the largest."""
    return min(values), max(values)


def number(part: dict[str, float]) -> str:
    """Mean and standard error, as the deep dive writes them."""
    return f"{part['mean']:+.1f} ± {part['error']:.1f}"


def percent(part: dict[str, float]) -> str:
    return f"{100 * part['mean']:.0f} %"


def said(network: dict[str, Any], what: str, direction: str = "down") -> str:
    part = network[direction][what]
    return number(part.get("all", part))


def main() -> None:
    out = command(__file__, __doc__)
    torch.set_num_threads(1)
    measure(out)


if __name__ == "__main__":
    main()
