"""What an explanation costs, beside the bare forward pass and beside other libraries: `python3 run.py bench`.

Everything is timed in turn, A B C A B C …, in one run, on the same network and input; the table gives ratios of medians
to the bare forward pass. Seconds on a shared machine mean little, so none are promised. Peers are timed twice: at their
best, with layers given and set up once, and as a newcomer calls them, by the example of their own front page. A peer
whose maps of several classes need several calls gets several calls.
"""

import argparse
import contextlib
import io
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision import models
from tqdm import tqdm

from camlib import cli, explain, load_model, read_image
from camlib import grad_cam as camlib_grad_cam
from camlib.explanation import Explanation
from camlib.inputs import prepare
from camlib.methods import METHODS
from camlib.models import Classifier
from camlib.pipeline import explain_prepared

ROOT = Path(__file__).resolve().parent.parent
PHOTOS = sorted((ROOT / "data" / "photos").iterdir())
CAT = ROOT / "data" / "photos" / "cat.jpg"
PEERS = ROOT / "tests" / "peers"
Way = Callable[[], object]
Measured = dict[str, float]


def networks() -> Iterator[tuple[str, Classifier, str, str]]:
    """Name, classifier, and what peers are told: the layer and the classifier's name."""
    yield "EfficientNet-Lite0", load_model(), "bn2", "classifier"
    torch.manual_seed(0)
    for name, build in (("ResNet-18", models.resnet18), ("ResNet-50", models.resnet50)):
        yield name, load_model(build(weights=None).eval()), "layer4", "fc"


def ways(clf: Classifier, layer: str, fc: str, batch: int, folder: str) -> dict[str, Way]:
    """Every way of explaining `batch` photos; the first is the bare forward pass."""
    from captum.attr import LayerAttribution, LayerGradCam
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    from torchcam.methods import CAM
    from torchcam.methods import GradCAM as TorchGradCAM

    ready = [prepare(clf, photo) for photo in PHOTOS[:batch]]
    x = torch.cat([photo.tensors[0] for photo in ready])
    size = (x.shape[2], x.shape[3])
    net, five = clf.module, [p.index for p in explain(clf, PHOTOS[0]).top(5)]
    one = five[0]
    weight = clf.head.weight

    def bare() -> object:
        with torch.no_grad():
            return net(x)

    def camlib(use: Callable[[Explanation], object]) -> Way:
        return lambda: [use(exp) for exp in explain_prepared(clf, ready, METHODS["cam"])]

    def up(maps: Tensor) -> Tensor:
        return F.interpolate(maps if maps.ndim == 4 else maps[:, None], size=size, mode="bilinear")

    def by_hand(order: str) -> object:
        kept = []
        handle = net.get_submodule(layer).register_forward_hook(lambda m, i, o: kept.append(o))
        with torch.no_grad():
            net(x)
        handle.remove()
        if order == "upsample first":
            return torch.einsum("c,bchw->bhw", weight[one], up(kept[0]))
        return up(torch.einsum("c,bchw->bhw", weight[one], kept[0]))

    best_cam, best_grad = CAM(net, target_layer=layer, fc_layer=fc, enable_hooks=False), None
    best_grad = TorchGradCAM(net, target_layer=layer, enable_hooks=False)

    def torch_cam(extractor: object, classes: list[int], gradient: bool) -> object:
        extractor.enable_hooks()  # type: ignore[attr-defined]
        try:
            with torch.set_grad_enabled(gradient):
                scores = net(x)
                last = len(classes) - 1
                more = [{"retain_graph": n < last} if gradient else {} for n in range(len(classes))]
                found = [extractor([k] * batch, scores, **o)[0] for k, o in zip(classes, more, strict=True)]  # type: ignore[operator]
            return [up(maps) for maps in found]
        finally:
            extractor.disable_hooks()  # type: ignore[attr-defined]

    def torch_cam_newcomer(kind: type) -> object:
        with kind(net) as extractor:
            scores = net(x)
            return [up(maps) for maps in extractor([one] * batch, scores)]

    layer_grad_cam = LayerGradCam(net, net.get_submodule(layer))

    def captum(classes: list[int]) -> object:
        found = [layer_grad_cam.attribute(x, target=k) for k in classes]
        return [LayerAttribution.interpolate(maps, size, interpolate_mode="bilinear") for maps in found]

    best_package = GradCAM(model=net, target_layers=[net.get_submodule(layer)])

    def grad_cam(classes: list[int]) -> object:
        return [best_package(x, [ClassifierOutputTarget(k)] * batch) for k in classes]

    def grad_cam_newcomer() -> object:
        with GradCAM(model=net, target_layers=[net.get_submodule(layer)]) as cam:
            return cam(x, [ClassifierOutputTarget(one)] * batch)

    found: dict[str, Way] = {
        "bare forward pass": bare,
        "bare forward pass again (the noise)": bare,
        "by hand: hook, einsum, bilinear": lambda: by_hand("sum first"),
        "by hand, all channels upsampled before the sum": lambda: by_hand("upsample first"),
        "camlib CAM, one class upsampled": camlib(lambda e: up(e.map(one)[None])),
        "camlib CAM, five classes upsampled": camlib(lambda e: [up(e.map(k)[None]) for k in five]),
        "camlib CAM, all 1000 raw maps": camlib(lambda e: e.maps),
        "camlib Grad-CAM, layer given, one class": lambda: up(camlib_grad_cam(net, x, one, layer)),
        "camlib Grad-CAM, layer given, five classes": lambda: up(camlib_grad_cam(net, x, five, layer)),
        "camlib explain, Grad-CAM, photo by photo": lambda: [up(e.map(one)[None]) for e in graded()],
        "torch-cam CAM, layers given, one class": lambda: torch_cam(best_cam, [one], False),
        "torch-cam CAM, layers given, five classes": lambda: torch_cam(best_cam, five, False),
        "torch-cam CAM, as a newcomer": lambda: torch_cam_newcomer(CAM),
        "torch-cam Grad-CAM, layer given, one class": lambda: torch_cam(best_grad, [one], True),
        "torch-cam Grad-CAM, layer given, five classes": lambda: torch_cam(best_grad, five, True),
        "captum Grad-CAM, layer given, one class": lambda: captum([one]),
        "captum Grad-CAM, layer given, five classes": lambda: captum(five),
        "grad-cam Grad-CAM, layer given, one class": lambda: grad_cam([one]),
        "grad-cam Grad-CAM, layer given, five classes": lambda: grad_cam(five),
        "grad-cam Grad-CAM, as a newcomer": grad_cam_newcomer,
    }

    def graded() -> list:
        return explain_prepared(clf, ready, METHODS["grad_cam"])

    if batch > 1:  # these take minutes
        slow = ("upsampled before", "captum Grad-CAM, layer given, five", "grad-cam Grad-CAM, layer given, five")
        found = {name: way for name, way in found.items() if not any(part in name for part in slow)}
    else:
        photo = read_image(PHOTOS[0])
        exp = explain(clf, CAT)
        found["camlib, overlay of 451×300 pixels saved as PNG, alone"] = lambda: exp.save(Path(folder) / "map.png", one)
        found["camlib explain from the photo, map on the photo"] = lambda: explain(clf, photo).heatmap(one)
    return found


def medians(calls: dict[str, Way], rounds: int, warm: int = 3) -> Measured:
    """Median seconds of each way, all timed in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in tqdm(range(rounds + warm), desc="rounds", leave=False):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn >= warm:  # the first rounds warm up
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(s) for name, s in seconds.items()}


def jobs(folder: Path, batch: int = 8, copies: int = 6) -> dict[str, Way]:
    """A folder through the command line, and the same without any explanation: decode, resize, forward, encode."""
    photos = folder / "photos"
    photos.mkdir()
    for n in range(copies):
        for photo in PHOTOS:
            shutil.copyfile(photo, photos / f"{n}-{photo.name}")
    clf, files = load_model(), sorted(photos.iterdir())

    def plain() -> None:
        for start in range(0, len(files), batch):
            pictures = [read_image(file) for file in files[start : start + batch]]
            x = torch.cat([clf.preprocess(p, clf.view(p)) for p in pictures])
            with torch.no_grad():
                clf.module(x).topk(1)
            for n, picture in enumerate(pictures):
                Image.fromarray(picture).save(folder / f"{n}.png", compress_level=1)

    def camlib(workers: int) -> Way:
        command = [str(photos), "--out", str(folder / "out"), "--redo"]
        command += ["--batch", str(batch), "--workers", str(workers)]

        def run() -> None:
            with contextlib.redirect_stdout(io.StringIO()):
                assert cli.main(command) == 0

        return run

    names = {f"camlib FOLDER, --workers {w}": camlib(w) for w in (1, 2, 4)}
    return {"decode, resize, forward, encode": plain, **names}


def starts(folder: Path) -> dict[str, Way]:
    """A whole process from its start to its end: what it takes until the first heat map is written."""

    def python(*arguments: str) -> Way:
        return lambda: subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)

    return {
        "python -c 'import torch'": python("-c", "import torch"),
        "camlib PHOTO": python("-m", "camlib", str(CAT), "--out", str(folder / "start")),
        "python -c 'import camlib'": python("-c", "import camlib"),
        "python -c 'pass'": python("-c", "pass"),
    }


def table(title: str, found: Measured) -> None:
    base = next(iter(found.values()))
    print(f"\n{title}\n{'':<52}{'median ms':>10}{'ratio':>8}")
    for name, seconds in found.items():
        print(f"{name:<52}{1000 * seconds:>10.1f}{seconds / base:>8.2f}")


def summary(results: dict[str, Measured]) -> str:
    """The table of docs/how_it_compares.md: ratios to the bare forward pass, a row a way, a column a network."""
    shown = {name: found for name, found in results.items() if ", batch " in name}
    ways = list(next(iter(shown.values())))[1:]
    lines = ["| | " + " | ".join(shown) + " |", "|---" * (len(shown) + 1) + "|"]
    for way in ways:
        cells = (f"{f[way] / f['bare forward pass']:.2f}" if way in f else "" for f in shown.values())
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(results: dict[str, Measured], file: Path) -> None:
    """Ratios to the bare forward pass at batch 1, a panel for each network, on one logarithmic scale."""
    from matplotlib.figure import Figure

    shown = {name: found for name, found in results.items() if name.endswith("batch 1")}
    fig = Figure(figsize=(11, 5.6), layout="constrained")
    for ax, (name, found) in zip(fig.subplots(1, len(shown), sharey=True), shown.items(), strict=True):
        base = found["bare forward pass"]
        ways = [w for w in found if w != "bare forward pass" and "explain from" not in w][::-1]
        ratios = [found[w] / base for w in ways]
        bars = ax.barh(ways, ratios, color=["#b2182b" if w.startswith("camlib") else "#7f8c9b" for w in ways])
        ax.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
        ax.axvline(1, color="black", linewidth=0.8)
        ax.set_xscale("log")
        ax.set_xlim(0.04, 90)
        ax.set_title(name, fontsize=10)
        ax.set_xlabel("cost / bare forward pass", fontsize=9)
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    fig.savefig(file, dpi=120, metadata={"Software": None})


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--only", help="a part of a network's name")
    parser.add_argument("--out", type=Path, default=PEERS, help="folder for bench.json and bench.png")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    packages = ("torch", "torchvision", "torchcam", "grad-cam", "captum")
    about = {name: version(name) for name in packages} | {"threads": args.threads, "rounds": args.rounds}
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    results: dict[str, Measured] = {}
    with TemporaryDirectory() as folder:
        for name, clf, layer, fc in networks():
            if args.only and args.only.lower() not in name.lower():
                continue
            for batch in args.batches:
                rounds, warm = (args.rounds, 3) if batch == 1 else (max(5, args.rounds // 5), 1)
                results[f"{name}, batch {batch}"] = medians(ways(clf, layer, fc, batch, folder), rounds, warm)
                table(f"{name}, batch {batch}", results[f"{name}, batch {batch}"])
        if not args.only:
            results["a start"] = medians(starts(Path(folder)), max(3, args.rounds // 5), 1)
            table("A process from start to end (ratio to import torch)", results["a start"])
            results["a folder"] = medians(jobs(Path(folder)), max(3, args.rounds // 5), 1)
            table(
                "A folder of 72 photos, batch 8 (ratio below 1: faster than without any explanation)",
                results["a folder"],
            )
    args.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"about": about, "seconds": results}, indent=1) + "\n"
    (args.out / "bench.json").write_text(text, encoding="utf-8")
    if not args.only:
        plot(results, args.out / "bench.png")
    print(f"\nwritten: {args.out / 'bench.json'}")


if __name__ == "__main__":
    main()
