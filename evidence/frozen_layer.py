"""At which layer of a transformer should a map with gates held be read? Six designs, five trainings of each.

On generated pictures with known boxes, we read the map of the true class at each stage: inside the convolutions of
the stem, at the stem's end (where patches become tokens, camlib's default), after each block and after the last norm.
Each map sums to the logit with its rest, so the sum cannot tell which one is in the right place; these measures can:

- pointing: in how many of the pictures the largest value of the map, enlarged to 64 × 64 pixels, lies in the box
- energy: the share of the positive evidence that lies in the box
- deletion: replace one patch of 8 × 8 pixels at a time, by the picture's mean colour or by noise. The correlation, over
  the 64 patches of a picture, of the map with the fall of the logit; the median over the pictures
- share: how much of the logit lies on the map, the median over the pictures

Run it from the repository: python -m evidence.frozen_layer
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from camlib import shapes
from camlib.evaluate import energy_in_box, pointing_game
from camlib.forward_pass import run_forward
from camlib.frozen import frozen_map
from camlib.geometry import upsample
from camlib.layers import FeatureLayer, Grid, locate
from camlib.network import noise
from camlib.sanity import centre_map
from camlib.transformer import DESIGNS, GRID, VisionTransformer
from camlib.version import __version__

OUT = Path(__file__).with_suffix(".json")
SEEDS = (0, 1, 2, 3, 4)
EPOCHS = {"windows": 8}
"""Epochs of training, if not 5."""
PATCH = shapes.SIDE // GRID
MEASURES = ("pointing", "energy", "deletion_mean", "deletion_noise")
SPREADS = (0.1, 0.15, 0.2, 0.25, 0.3)
"""The widths of the blob in the middle; the best one for each measure is reported."""
CLOSE = 0.01
"""A layer is level with the best one if it points into at most this share of the boxes less (3 of 300 pictures)."""


def trained(design: str, seed: int, folder: Path | None) -> VisionTransformer:
    """A trained network, loaded from the folder if it is there, and stored there if not."""
    net = VisionTransformer(design, seed)
    stored = folder / f"{design}_{seed}.pt" if folder else None
    if stored and stored.exists():
        net.load_state_dict(torch.load(stored, weights_only=True))
        return net.eval()
    shapes.train(
        net, shapes.pictures(4000, seed=100 + seed), epochs=EPOCHS.get(design, 5), rate=2e-3, seed=seed, threads=1
    )
    if stored:
        stored.parent.mkdir(parents=True, exist_ok=True)
        torch.save(net.state_dict(), stored)
    return net


# --- measures --------------------------------------------------------------------------------------------------------


def falls(net: nn.Module, x: Tensor, labels: Tensor, filling: Callable[[Tensor], Tensor]) -> Tensor:
    """How much the logit falls when one patch is replaced: x (B, 3, 64, 64) -> (B, 8, 8)."""
    result = torch.empty(len(x), GRID, GRID)
    masks = F.one_hot(torch.arange(GRID**2)).view(-1, 1, GRID, GRID).float()
    masks = masks.repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3).bool()  # (64, 1, 64, 64)
    with torch.no_grad():
        for n, picture in enumerate(x):
            changed = torch.where(masks, filling(picture), picture)
            logits = net(torch.cat([picture[None], changed]))[:, labels[n]]
            result[n] = (logits[0] - logits[1:]).view(GRID, GRID)
    return result


def mean_colour(picture: Tensor) -> Tensor:
    """(3, 64, 64) -> its mean colour, (3, 1, 1)."""
    return picture.mean((1, 2), keepdim=True)


def noisy(picture: Tensor) -> Tensor:
    """(3, 64, 64) -> noise with the mean and deviation of the picture's channels, the same for each patch."""
    return mean_colour(picture) + picture.std((1, 2), keepdim=True) * noise(picture.shape)


class Referee:
    """The measures of maps for the same network and pictures. patches: for how many pictures patches are deleted."""

    def __init__(self, net: nn.Module, data: shapes.Pictures, patches: int) -> None:
        x, labels = shapes.centred(data.images[:patches]), data.labels[:patches]
        self.boxes = data.boxes.tolist()
        self.falls = {
            "deletion_mean": falls(net, x, labels, mean_colour),
            "deletion_noise": falls(net, x, labels, noisy),
        }

    def judge(self, maps: Tensor) -> dict[str, float]:
        """The measures of signed maps (B, h, w) of all pictures or the first ones."""
        heats = upsample(maps.float(), (shapes.SIDE, shapes.SIDE))
        pairs = [(heat, [box]) for heat, box in zip(heats, self.boxes, strict=False)]
        pointing = [float(pointing_game(*pair)) for pair in pairs]
        energies = torch.tensor([energy_in_box(*pair) for pair in pairs]).nan_to_num(0)
        found = {"pointing": mean(pointing), "energy": float(energies.mean())}
        cells = F.adaptive_avg_pool2d(maps.float()[:, None], GRID)[:, 0]
        for name, fall in self.falls.items():
            found[name] = float(correlations(cells[: len(fall)], fall).median())
        return {name: round(value, 4) for name, value in found.items()}


def correlations(a: Tensor, b: Tensor) -> Tensor:
    """The correlation of the cells of two maps, for each picture: (B, h, w) twice -> (B,). 0 for a constant map."""
    a, b = (t.flatten(1).double() - t.flatten(1).double().mean(1, keepdim=True) for t in (a, b))
    return ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp_min(1e-30)).float()


def baselines(referee: Referee, data: shapes.Pictures) -> dict[str, dict[str, float]]:
    """What maps that know nothing get. A uniform map points at random: its chance is the box's share of the picture."""
    n = len(data.boxes)
    blobs = [referee.judge(centre_map((GRID, GRID), spread).expand(n, -1, -1)) for spread in SPREADS]
    left, top, right, bottom = data.boxes.T
    area = float(((right - left) * (bottom - top)).float().mean()) / shapes.SIDE**2
    return {
        "blob in the middle": {m: max(blob[m] for blob in blobs) for m in MEASURES},
        "uniform": {"pointing": round(area, 4), "energy": round(area, 4), "deletion_mean": 0.0, "deletion_noise": 0.0},
    }


# --- maps ------------------------------------------------------------------------------------------------------------


def places(net: VisionTransformer) -> dict[str, FeatureLayer]:
    """Where to read the map, from the input to the output: "32 × 32" and "16 × 16" are the stem's last such maps."""
    relus = [f"stem.{k}" for k, m in enumerate(net.stem) if isinstance(m, nn.ReLU)]
    found = {"32 × 32": relus[0], "16 × 16": relus[2 if len(relus) > 3 else 1], "stem": "stem"}
    found |= {f"blocks.{k}": f"blocks.{k}" for k in range(len(net.blocks))} | {"norm": "norm"}
    tokens = Grid("nlc", net.extra)
    return {
        name: FeatureLayer(path, None, Grid() if path.startswith("stem") else tokens) for name, path in found.items()
    }


def read_at(net: nn.Module, x: Tensor, labels: Tensor, place: FeatureLayer, referee: Referee) -> dict[str, Any] | None:
    """The measures of the maps at one place; None if no gradient reaches the patches, so that there is no map."""
    ran = run_forward(net, x, place, hold=True)
    maps = frozen_map(ran, labels.tolist())
    if not maps.any():
        return None
    logits, rest = (t.detach().gather(1, labels[:, None])[:, 0] for t in (ran.graph, ran.rest))
    miss = (maps.mean((1, 2)) + rest - logits).abs() / logits.abs()
    return referee.judge(maps) | {
        "share": round(float((maps.mean((1, 2)) / logits).median()), 4),
        "miss_of_logit": float(f"{float(miss.median()):.1e}"),
    }


def study(net: VisionTransformer, data: shapes.Pictures, patches: int) -> dict[str, Any]:
    """All measures of one network."""
    x = shapes.centred(data.images)
    referee = Referee(net, data, patches)
    return {
        "accuracy": round(shapes.accuracy(net, data), 4),
        "default": locate(net, x[:1], before_attention=True).layer,
        "layers": {name: read_at(net, x, data.labels, place, referee) for name, place in places(net).items()},
        "baselines": baselines(referee, data),
    }


# --- summary ---------------------------------------------------------------------------------------------------------


def spread(values: list[float]) -> dict[str, float]:
    """Mean and range."""
    return {"mean": round(mean(values), 4), "min": min(values), "max": max(values)}


def summary(trainings: dict[str, Any]) -> dict[str, Any]:
    """Mean and range over the trainings of a design, for each layer and measure."""
    result: dict[str, Any] = {}
    for design, runs in trainings.items():
        rows = [run["layers"] | run["baselines"] for run in runs.values()]
        for name in rows[0]:
            got = [row[name] for row in rows if row[name]]
            cells = {m: spread([g[m] for g in got]) for m in (*MEASURES, "share") if got and m in got[0]}
            result.setdefault(design, {})[name] = cells or None
    return result


def places_won(trainings: dict[str, Any], measure: str, candidates: Callable[[str], bool]) -> dict[str, dict[str, int]]:
    """In how many trainings of each design each layer is the best one by a measure."""
    won: dict[str, dict[str, int]] = {}
    for design, runs in trainings.items():
        for run in runs.values():
            scores = {name: row[measure] for name, row in run["layers"].items() if row and candidates(name)}
            best = max(scores, key=scores.__getitem__)
            won.setdefault(design, {}).setdefault(best, 0)
            won[design][best] += 1
    return won


NAMES = {"pointing": "pointing", "energy": "energy", "deletion_mean": "deletion (mean colour)"}
NAMES["deletion_noise"] = "deletion (noise)"


def findings(trainings: dict[str, Any]) -> list[str]:
    """What the numbers say, with counts."""
    texts = []
    for design, runs in trainings.items():
        layers = [{name: row for name, row in run["layers"].items() if row} for run in runs.values()]
        parts = []
        for measure, name in NAMES.items():
            won = sum(row["stem"][measure] >= max(r[measure] for r in row.values()) for row in layers)
            parts.append(f"{name} {won} of {len(layers)}")
        lost = [max(r["pointing"] for r in row.values()) - row["stem"]["pointing"] for row in layers]
        level = sum(loss <= CLOSE + 1e-9 for loss in lost)
        best = [max(row, key=lambda name: row[name]["pointing"]) for row in layers]
        others = sorted({name for name in best if name != "stem"})
        texts.append(
            f"{design}: the stem is the best of all layers by {', '.join(parts)}; within {CLOSE} of the best pointing "
            f"in {level} of {len(layers)}, at worst {max(lost):.3f} below it"
            f"{' (better: ' + ', '.join(others) + ')' if others else ''}."
        )
    texts += on_average(trainings)
    every = [run for runs in trainings.values() for run in runs.values()]
    default = sum(run["default"] == "stem" for run in every)
    texts.append(f"camlib chooses the stem by itself in {default} of {len(every)} trainings.")
    for text, candidates in (
        ("of the layers in the stem", lambda name: not name.startswith(("blocks", "norm"))),
        ("of the layers at and after the stem", lambda name: not name.endswith(("32", "16"))),
    ):
        won = places_won(trainings, "pointing", candidates)
        count = sum(w.get("stem", 0) for w in won.values())
        texts.append(f"By pointing, the stem's end is the best {text} in {count} of {len(every)} trainings.")
    texts += after_the_stem(trainings)
    return texts


def on_average(trainings: dict[str, Any]) -> list[str]:
    """For each measure, the designs in which the stem has the best mean over the trainings, and the exceptions."""
    texts, means = [], summary(trainings)
    for measure, name in NAMES.items():
        exceptions = []
        for design, runs in trainings.items():
            layers = next(iter(runs.values()))["layers"]
            scores = {layer: means[design][layer][measure]["mean"] for layer in layers if means[design][layer]}
            best = max(scores, key=scores.__getitem__)
            if best != "stem":
                exceptions.append(f"{design}: {best} {scores[best]:.3f}, stem {scores['stem']:.3f}")
        texts.append(
            f"On average over the trainings, the stem is the best layer by {name} in {len(means) - len(exceptions)} of "
            f"{len(means)} designs{' (' + '; '.join(exceptions) + ')' if exceptions else ''}."
        )
    return texts


def after_the_stem(trainings: dict[str, Any]) -> list[str]:
    """What becomes of the map behind the stem."""
    texts = []
    for design, runs in trainings.items():
        rows = [{name: row for name, row in run["layers"].items() if row} for run in runs.values()]
        first = [row["blocks.0"] for row in rows]
        worse = sum(f["pointing"] < row["stem"]["pointing"] for f, row in zip(first, rows, strict=True))
        last = [row[list(row)[-1]] for row in rows]
        blob = [run["baselines"]["blob in the middle"]["pointing"] for run in runs.values()]
        below = sum(r["pointing"] < b for r, b in zip(last, blob, strict=True))
        texts.append(
            f"{design}: after the first block, the map points worse than at the stem in {worse} of {len(rows)}, with "
            f"{ranged(f['share'] for f in first)} of the logit on it; at the last layer that has a map "
            f"({list(rows[0])[-1]}), it points into {ranged(r['pointing'] for r in last)} of the boxes, which is less "
            f"often than a blob in the middle in {below} of {len(rows)}, with {ranged(r['share'] for r in last)} of "
            "the logit on it."
        )
    return texts


def ranged(values: Any) -> str:
    """The smallest and the largest value as text."""
    values = list(values)
    return f"{min(values):.2f} to {max(values):.2f}"


def versions() -> dict[str, str]:
    """The versions of the packages that matter."""
    found = {"torch": torch.__version__, "torchvision": torchvision.__version__, "timm": timm.__version__}
    return {name: version.split("+")[0] for name, version in found.items()} | {"camlib": __version__}


def arguments(text: str) -> argparse.ArgumentParser:
    """The arguments of both scripts on transformers."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--weights", type=Path, help="a folder: load trained networks from it, store new ones in it")
    parser.add_argument("--pictures", type=int, default=300, help="test pictures (default: %(default)s)")
    parser.add_argument("--patches", type=int, default=60, help="pictures for deletion (default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="trainings of each design (default: all)")
    parser.add_argument("--designs", nargs="+", default=DESIGNS, choices=DESIGNS, help="default: all six")
    parser.add_argument("--out", type=Path, help="where to write the result (default: beside the script)")
    return parser


def main() -> None:
    options = arguments(__doc__.splitlines()[0]).parse_args()
    torch.set_num_threads(1)
    data = shapes.pictures(options.pictures, seed=9)
    table: dict[str, Any] = {
        "versions": versions(),
        "threads": 1,
        "pictures": f"camlib.shapes.pictures({options.pictures}, seed=9), the true class of each",
        "pictures_for_deletion": options.patches,
        "trainings_of": "pictures(4000, seed=100 + seed), 5 epochs (windows: 8), rate 2e-3, one thread",
        "findings": [],
        "summary": {},
        "trainings": {design: {} for design in options.designs},
    }
    jobs = [(design, seed) for design in options.designs for seed in options.seeds]
    for design, seed in (bar := tqdm(jobs, unit="network")):
        bar.set_postfix_str(f"{design} {seed}")
        net = trained(design, seed, options.weights)
        table["trainings"][design][str(seed)] = study(net, data, options.patches)
    table["findings"], table["summary"] = findings(table["trainings"]), summary(table["trainings"])
    (options.out or OUT).write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
