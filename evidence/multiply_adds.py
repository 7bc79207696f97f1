"""Do the maps of all classes take as much of the network's time as of its multiply-adds, and if not, why not?

The bundled network on one photo, with inputs of 224 and 448 pixels, in one thread, timed by the processor time of this
thread, which does not run while other programs have the processor. Each process measures anew: where its memory lies,
and what else fills the caches, differs from process to process. Hooks time each layer of a pass. All shares of a run
come from one pass, the fastest of several: minima of single layers would come from different passes, and must not be
compared with the time of a whole one.

The multiply-adds are those of the convolutions and the linear layer. Two kinds of layers are timed apart: depthwise
convolutions (one filter per channel), and batch normalisations with their activations, which have no multiply-adds in
the count. The rest is then the control: for it, a multiply-add should take about as long as for the maps. And if these
are the two reasons, then the share of the time without them (depthwise convolutions as fast as the rest, and no
normalisations) should come closer to the share of the multiply-adds.

Run it from the repository: python -m evidence.multiply_adds
"""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import median
from time import thread_time
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

import camlib
from evidence.findings import PHOTOS, command, finding, store

PHOTO = PHOTOS / "crocodile.webp"
PROCESSES, PASSES = 10, 9
SIZES = (224, 448)
CHAPTER = "notebooks/04_einsum_cam.ipynb"


def kind(layer: nn.Module) -> str:
    """What a layer is timed as; empty for those that only hold others, and for adding and pooling."""
    if isinstance(layer, nn.BatchNorm2d):
        return "normalisation"  # with its activation, which is a part of it in this network
    if isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1:
        return "depthwise"
    return "other" if isinstance(layer, (nn.Conv2d, nn.Linear)) else ""


def timed_pass(module: nn.Module, x: Tensor) -> tuple[float, dict[str, float], dict[str, int]]:
    """The seconds of one forward pass, those of each kind of layer in it, and the multiply-adds of each kind."""
    starts, handles = {}, []
    times, work = (dict.fromkeys(("depthwise", "other", "normalisation"), 0) for _ in range(2))

    def before(layer: nn.Module, _inputs: Any) -> None:
        starts[layer] = thread_time()

    def after(layer: nn.Module, _inputs: Any, output: Tensor) -> None:
        times[kind(layer)] += thread_time() - starts[layer]
        if kind(layer) != "normalisation":
            work[kind(layer)] += output[0].numel() * layer.weight[0].numel()

    for layer in filter(kind, module.modules()):
        handles += [layer.register_forward_pre_hook(before), layer.register_forward_hook(after)]
    start = thread_time()
    module(x)
    total = thread_time() - start
    for handle in handles:
        handle.remove()
    return total, times, work


@torch.no_grad()
def run(clf: camlib.Classifier, size: int) -> dict[str, Any]:
    """One measurement: shares in percent, times per multiply-add in picoseconds."""
    photo = camlib.read_image(PHOTO)
    x, exp = clf.preprocess(photo, clf.view(photo, size=size)), camlib.explain(clf, photo, sizes=size)
    features, weight = exp.results[0].features, clf.head.weight
    passes, maps = [], []
    for _ in range(PASSES + 1):
        passes.append(timed_pass(clf.module, x))
        start = thread_time()
        camlib.class_activation_maps(features, weight)
        maps.append(thread_time() - start)
    total, times, work = min(passes[1:], key=lambda one: one[0])  # the first of each warms up
    fastest, map_work = min(maps[1:]), weight.numel() * features[0, 0].numel()
    counted = times["depthwise"] + times["other"]
    all_work = work["depthwise"] + work["other"]
    row = {
        "share_of_work": 100 * map_work / all_work,
        "share_of_time": 100 * fastest / total,
        "counted_share_of_time": 100 * counted / total,
        "normalisation_share_of_time": 100 * times["normalisation"] / total,
        "depthwise_share_of_work": 100 * work["depthwise"] / all_work,
        "depthwise_share_of_counted_time": 100 * times["depthwise"] / counted,
        "depthwise_ps": 1e12 * times["depthwise"] / work["depthwise"],
        "other_ps": 1e12 * times["other"] / work["other"],
        "maps_ps": 1e12 * fastest / map_work,
    }
    as_others = times["depthwise"] - times["other"] * work["depthwise"] / work["other"]  # seconds that this would save
    row["share_of_time_without_both"] = 100 * fastest / (total - times["normalisation"] - as_others)
    return {"size": size} | {key: round(value, 2) for key, value in row.items()}


def process(_number: int) -> list[dict[str, Any]]:
    """The measurements of one process: one of each size."""
    torch.set_num_threads(1)
    clf = camlib.load_model()
    return [run(clf, size) for size in SIZES]


def spread(rows: list[dict[str, Any]], key: str, digits: int = 0) -> str:
    """The smallest and the largest of a column, or one number where both are the same."""
    low, high = (f"{end(row[key] for row in rows):.{digits}f}" for end in (min, max))
    return low if low == high else f"{low} to {high}"


def findings(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What chapter 04 states."""
    less = sum(row["share_of_time"] < row["share_of_work"] for row in rows)
    times = [row["depthwise_ps"] / row["other_ps"] for row in rows]
    normal = min(row["normalisation_share_of_time"] for row in rows)
    between = [row["share_of_time"] < row["share_of_time_without_both"] < row["share_of_work"] for row in rows]
    several = "several" if min(times) > 3 else f"{median(times):.0f}"  # the chapter's words, while they hold
    tenth = "more than a tenth" if normal > 10 else f"from {normal:.0f} %"
    varied = f"{PROCESSES} processes, each at 224 and 448 pixels, in one thread, by its processor time"
    return [
        finding(
            CHAPTER,
            "All maps take a smaller share of the forward pass's time than of its multiply-adds.",
            varied,
            f"{less} of {len(rows)}; {rows[0]['share_of_work']:.1f} % of the multiply-adds, "
            f"{spread(rows, 'share_of_time', 1)} % of the time; with depthwise convolutions as fast as the rest and no "
            f"normalisations {spread(rows, 'share_of_time_without_both', 1)} %, between the two in {sum(between)} of "
            f"{len(rows)}",
            [f"in {less} of {len(rows)} runs"],
        ),
        finding(
            CHAPTER,
            f"A multiply-add of a depthwise convolution takes {several} times as long as one of the other layers.",
            "the same, each run within one pass; control: the maps",
            f"{min(times):.1f} to {max(times):.1f} times, median {median(times):.1f}; "
            f"{spread(rows, 'depthwise_share_of_work')} % of the multiply-adds, "
            f"{spread(rows, 'depthwise_share_of_counted_time')} % of the counted layers' time. "
            f"In picoseconds: {spread(rows, 'depthwise_ps')}; other layers {spread(rows, 'other_ps')}; "
            f"maps {spread(rows, 'maps_ps')}",
            [f"takes {several} times as long as one of a matrix product"],
        ),
        finding(
            CHAPTER,
            f"Batch normalisations and activations, which the count leaves out, take {tenth} of the time.",
            "the same",
            f"{spread(rows, 'normalisation_share_of_time')} %; "
            f"the counted layers {spread(rows, 'counted_share_of_time')} %",
            [f"the count leaves out batch normalisation and activations, {tenth} of the time"],
        ),
    ]


def main() -> None:
    out = command(__file__, __doc__)
    torch.set_num_threads(1)
    one_each = {"max_workers": 1, "max_tasks_per_child": 1, "mp_context": get_context("spawn")}
    with ProcessPoolExecutor(**one_each) as pool:
        rows = [row for two in tqdm(pool.map(process, range(PROCESSES)), total=PROCESSES) for row in two]
    store(out, findings(rows), network="efficientnet_lite0", photo=PHOTO.name, runs=rows)


if __name__ == "__main__":
    main()
