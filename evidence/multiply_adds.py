"""Do the maps of all classes take as much of the network's time as of its multiply-adds, and if not, why not?

The bundled network on one photo, with inputs of 224 and 448 pixels, in one thread: in two, other jobs on the machine
would be measured, too. In each run: the time of the forward pass, of the einsum of all maps, and, by hooks, of the
depthwise convolutions, each the fastest of several. From these and the counted multiply-adds follow the share of the
maps, and the time for one multiply-add of either kind.

Run it from the repository: python -m evidence.multiply_adds
"""

import argparse
from collections.abc import Callable
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

import camlib
from evidence.findings import finding, store

OUT = Path(__file__).with_suffix(".json")
PHOTO = Path(__file__).parent.parent / "data" / "photos" / "crocodile.webp"
RUNS, REPEATS = 10, 9
LAYERS = (torch.nn.Conv2d, torch.nn.Linear)


def seconds(function: Callable[[], Any]) -> float:
    """The fastest of several runs, after one that is not measured."""
    function()
    times = []
    for _ in range(REPEATS):
        start = perf_counter()
        function()
        times.append(perf_counter() - start)
    return min(times)


def is_depthwise(layer: torch.nn.Module) -> bool:
    return isinstance(layer, torch.nn.Conv2d) and layer.groups == layer.in_channels > 1


def by_layer(module: torch.nn.Module, x: Tensor) -> dict[torch.nn.Module, tuple[int, float]]:
    """The multiply-adds and the fastest time of each convolution and linear layer."""
    starts, times, counts, handles = {}, {}, {}, []

    def before(layer: torch.nn.Module, _inputs: Any) -> None:
        starts[layer] = perf_counter()

    def after(layer: torch.nn.Module, _inputs: Any, output: Tensor) -> None:
        times.setdefault(layer, []).append(perf_counter() - starts[layer])
        counts[layer] = output[0].numel() * layer.weight[0].numel()

    for layer in (m for m in module.modules() if isinstance(m, LAYERS)):
        handles += [layer.register_forward_pre_hook(before), layer.register_forward_hook(after)]
    seconds(lambda: module(x))
    for handle in handles:
        handle.remove()
    return {layer: (counts[layer], min(times[layer][1:])) for layer in times}


@torch.no_grad()
def run(clf: camlib.Classifier, size: int) -> dict[str, Any]:
    """One measurement: shares in percent, times per multiply-add in picoseconds."""
    photo = camlib.read_image(PHOTO)
    x, exp = clf.preprocess(photo, clf.view(photo, size=size)), camlib.explain(clf, photo, sizes=size)
    features, weight = exp.results[0].features, clf.head.weight
    work = weight.numel() * features[0, 0].numel()
    network, maps = seconds(lambda: clf.module(x)), seconds(lambda: camlib.class_activation_maps(features, weight))
    layers = by_layer(clf.module, x)
    all_work, convolutions = sum(count for count, _ in layers.values()), sum(time for _, time in layers.values())
    depthwise = [pair for layer, pair in layers.items() if is_depthwise(layer)]
    depth_work, depth_time = (sum(values) for values in zip(*depthwise, strict=True))
    return {
        "size": size,
        "share_of_work": round(100 * work / all_work, 2),
        "share_of_time": round(100 * maps / network, 2),
        "layers_share_of_time": round(100 * convolutions / network, 1),
        "maps_ps": round(1e12 * maps / work, 1),
        "depthwise_ps": round(1e12 * depth_time / depth_work, 1),
    }


def findings(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What chapter 04 states."""
    less = sum(row["share_of_time"] < row["share_of_work"] for row in rows)
    times = [row["share_of_time"] for row in rows]
    layers = [row["layers_share_of_time"] for row in rows]
    half = sum(share < 50 for share in layers)
    where, varied = (
        "notebooks/04_einsum_cam.ipynb",
        f"{RUNS} runs each at 224 and 448 pixels, in one thread of one processor",
    )
    return [
        finding(
            where,
            "All maps take a smaller share of the forward pass's time than of its multiply-adds.",
            varied,
            f"{less} of {len(rows)}; {rows[0]['share_of_work']:.1f} % of the multiply-adds, "
            f"{min(times):.1f} to {max(times):.1f} % of the time",
            [f"in {less} of {len(rows)} runs"],
        ),
        finding(
            where,
            "The convolutions and the linear layer, where the multiply-adds are, take less than half of the time.",
            "the same",
            f"{half} of {len(rows)}; {min(layers):.0f} to {max(layers):.0f} %",
            [f"less than half of the time in {half} of {len(rows)} runs"],
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="where to store the result (default: beside the script)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    clf = camlib.load_model()
    rows = [run(clf, size) for size, _ in tqdm(list(product((224, 448), range(RUNS))), unit="run")]
    store(options.out, findings(rows), network=clf.name, photo=PHOTO.name, runs=rows)


if __name__ == "__main__":
    main()
