"""What an explanation costs, beside the bare forward pass and beside other libraries: `python3 run.py bench`.

Everything is timed in turn, A B C A B C …, in one run, on the same network and input; the tables give ratios of medians
to their first row. Seconds on a shared machine mean little, so none are promised. Peers are timed twice: at their best,
with layers given and set up once, and as a newcomer calls them, by the example of their own front page. A peer whose
maps of several classes need several calls gets several calls. ResNet-50 is left out: it takes half of the run, and
everything costs less there than on ResNet-18, as a ratio. A small vision transformer has rows of its own.

`python3 run.py bench --table` runs nothing: it writes the stored run's tables into docs/how_it_compares.md.
"""

import argparse
import contextlib
import io
import json
import os
import platform
import random
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from fractions import Fraction
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision import models
from tqdm import tqdm

from camlib import __version__, cli, explain, frozen_cam, grad_cam, load_model, read_image
from camlib.explanation import Explanation
from camlib.inputs import prepare
from camlib.methods import METHODS
from camlib.models import Classifier
from camlib.pipeline import explain_prepared
from camlib.video import Clip, Frame, write_clip
from tools import files

ROOT = Path(__file__).resolve().parent.parent
PHOTOS = sorted((ROOT / "data" / "photos").iterdir())
CAT = ROOT / "data" / "photos" / "cat.jpg"
PEERS = ROOT / "tests" / "peers"
PAGE = ROOT / "docs" / "how_it_compares.md"
BLOCK = re.compile(r"(<!-- costs: written by run\.py bench --table -->\n).*?(<!-- end of costs -->)", re.DOTALL)
PACKAGES = ("torch", "torchvision", "torchcam", "grad-cam", "captum")
# These take minutes with a batch, as five classes do in a transformer.
SLOW = ("upsampled before", "captum Grad-CAM, layer given, five", "grad-cam Grad-CAM, layer given, five")
BATCH = 8  # frames of a clip that go through the network together
FINISHED = 100_000  # photos of a job that is resumed
# A folder with a million photos that are nowhere on a disk
LIST = """
import contextlib, os, types
from pathlib import Path
from camlib.folder import find_photos
from camlib.journal import Journal
class Entry(types.SimpleNamespace):
    def is_dir(self, follow_symlinks=True):
        return False
os.scandir = lambda folder: contextlib.nullcontext(Entry(name=f"IMG_{n:07}.jpg") for n in range(1_000_000))
out = Path(sys.argv[1], "names")
out.mkdir()
photos, _ = find_photos([Path(sys.argv[1])])
assert len(Journal(out, {}).take_names(photos)) == 1_000_000
"""
Way = Callable[[], object]
Measured = dict[str, float]
T = TypeVar("T")


def networks() -> Iterator[tuple[str, Classifier, str, str]]:
    """Name, classifier, and what peers are told: the layer and the classifier's name."""
    yield "EfficientNet-Lite0", load_model(), "bn2", "classifier"
    torch.manual_seed(0)
    yield "ResNet-18", load_model(models.resnet18(weights=None).eval()), "layer4", "fc"
    vit = models.VisionTransformer(224, 16, num_layers=12, num_heads=3, hidden_dim=192, mlp_dim=768)
    torch.nn.init.normal_(vit.heads.head.weight, std=0.02)  # torchvision's are 0: no class would have any evidence
    yield "ViT-tiny", load_model(vit.eval()), "", ""


class Task:
    """The photos to explain, and what all ways share."""

    def __init__(self, clf: Classifier, layer: str, batch: int) -> None:
        self.clf, self.net = clf, clf.module
        self.ready = [prepare(clf, photo) for photo in PHOTOS[:batch]]
        self.x = torch.cat([photo.tensors[0] for photo in self.ready])
        self.layer = layer or explain(clf, PHOTOS[0], method="frozen").layer
        self.five = [p.index for p in explain(clf, PHOTOS[0], method="frozen").top(5)]
        self.one = self.five[0]
        self.each = [(self.one + 100 * n) % 1000 for n in range(batch)]  # a class for each picture

    def bare(self) -> object:
        """The forward pass without any explanation."""
        with torch.no_grad():
            return self.net(self.x)

    def up(self, maps: Tensor) -> Tensor:
        """Maps (B, h, w) or (B, T, h, w) at the size of the input."""
        size = self.x.shape[2:]
        return F.interpolate(maps if maps.ndim == 4 else maps[:, None], size=size, mode="bilinear")

    def explained(
        self, use: Callable[[int, Explanation], object], method: str = "cam", targets: list[int] | None = None
    ) -> Way:
        """By camlib's `explain`; use: what is done with the n-th picture's explanation."""
        layer = None if method == "cam" else self.layer

        def way() -> object:
            exps = explain_prepared(self.clf, self.ready, METHODS[method], layer, targets)
            return [use(n, exp) for n, exp in enumerate(exps)]

        return way

    def mapped(
        self,
        choose: Callable[[int, Explanation], list[int]],
        method: str = "cam",
        targets: list[int] | None = None,
    ) -> Way:
        """The same, with the maps of the chosen classes upsampled."""
        return self.explained(lambda n, exp: self.up(exp.map(choose(n, exp))[None]), method, targets)


def by_gradients(task: Task, method: str, low: Callable[..., Tensor]) -> dict[str, Way]:
    """A method of camlib by its low-level call, and through `explain`."""
    call = f"camlib.{low.__name__}, layer given"
    through = f"camlib explain {method}, layer given"
    return {
        f"{call}, a class per picture": lambda: task.up(low(task.net, task.x, torch.tensor(task.each), task.layer)),
        f"{call}, five classes": lambda: task.up(low(task.net, task.x, task.five, task.layer)),
        f"{through}, the top class": task.mapped(lambda _, exp: [exp.top(1)[0].index], method),
        f"{through}, a class per picture": task.mapped(lambda n, _: [task.each[n]], method, task.each),
        f"{through}, the five best classes": task.mapped(lambda _, exp: [p.index for p in exp.top(5)], method),
    }


def by_camlib(task: Task) -> dict[str, Way]:
    """The exact maps of camlib."""
    one, five = task.one, task.five
    return {
        "camlib CAM, one class upsampled": task.mapped(lambda *_: [one]),
        "camlib CAM, five classes upsampled": task.mapped(lambda *_: five),
        "camlib CAM, five maps on the photo": task.explained(lambda _, exp: exp.heatmap(five)),
        "camlib CAM, all 1000 raw maps": task.explained(lambda _, exp: exp.maps),
    }


def by_hand(task: Task) -> dict[str, Way]:
    """A hook and the sum over the channels, without any check."""
    weight = task.clf.head.weight[task.one]

    def way(draw: Callable[[Tensor], Tensor]) -> Way:
        def run() -> object:
            kept: list[Tensor] = []
            handle = task.net.get_submodule(task.layer).register_forward_hook(lambda m, i, o: kept.append(o))
            task.bare()
            handle.remove()
            return draw(kept[0])

        return run

    def total(features: Tensor) -> Tensor:
        return torch.einsum("c,bchw->bhw", weight, features)

    return {
        "by hand: hook, einsum, bilinear": way(lambda features: task.up(total(features))),
        "by hand, all channels upsampled before the sum": way(lambda features: total(task.up(features))),
    }


def by_torch_cam(task: Task, kind: Any, gradient: bool, **told: object) -> Callable[[list[int]], Way]:
    """By an extractor of torch-cam that is set up once and told its layers; a function from classes to the way."""
    extractor = kind(task.net, enable_hooks=False, **told)

    def way(classes: list[int]) -> Way:
        more = [{"retain_graph": k != classes[-1]} if gradient else {} for k in classes]

        def run() -> object:
            extractor.enable_hooks()
            try:
                with torch.set_grad_enabled(gradient):
                    scores = task.net(task.x)
                    calls = zip(classes, more, strict=True)
                    return [task.up(extractor([k] * len(task.x), scores, **o)[0]) for k, o in calls]
            finally:
                extractor.disable_hooks()

        return run

    return way


def by_peers(task: Task, fc: str) -> dict[str, Way]:
    """CAM and Grad-CAM by torch-cam, captum and grad-cam."""
    import torchcam
    from captum.attr import LayerAttribution, LayerGradCam
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    from torchcam.explain import explain as torchcam_explain
    from torchcam.methods import CAM

    net, x, one, five = task.net, task.x, task.one, task.five
    layer, size = net.get_submodule(task.layer), tuple(x.shape[2:])
    cam = by_torch_cam(task, CAM, gradient=False, target_layer=task.layer, fc_layer=fc)
    grad = by_torch_cam(task, torchcam.methods.GradCAM, gradient=True, target_layer=task.layer)
    for_captum, package = LayerGradCam(net, layer), GradCAM(model=net, target_layers=[layer])

    def torchcam_newcomer() -> object:
        with CAM(net) as extractor:
            scores = net(x)
            return [task.up(maps) for maps in extractor([one] * len(x), scores)]

    def torchcam_explained() -> object:
        (maps,) = torchcam_explain(net, x, target_layer=task.layer).cams.values()
        return task.up(maps[0][None])

    def captum(classes: list[int]) -> object:
        raw = [for_captum.attribute(x, target=k) for k in classes]
        return [LayerAttribution.interpolate(maps, size, interpolate_mode="bilinear") for maps in raw]

    def gradcam(explainer: Any, classes: list[int]) -> object:
        return [explainer(x, [ClassifierOutputTarget(k)] * len(x)) for k in classes]

    def gradcam_newcomer() -> object:
        with GradCAM(model=net, target_layers=[layer]) as explainer:
            return gradcam(explainer, [one])

    alone: dict[str, Way] = {"torch-cam explain(), layer given, the top class": torchcam_explained}
    return {
        "torch-cam CAM, layers given, one class": cam([one]),
        "torch-cam CAM, layers given, five classes": cam(five),
        "torch-cam CAM, as a newcomer": torchcam_newcomer,
        "torch-cam Grad-CAM, layer given, one class": grad([one]),
        "torch-cam Grad-CAM, layer given, five classes": grad(five),
        **(alone if len(x) == 1 else {}),
        "captum Grad-CAM, layer given, one class": lambda: captum([one]),
        "captum Grad-CAM, layer given, five classes": lambda: captum(five),
        "grad-cam Grad-CAM, layer given, one class": lambda: gradcam(package, [one]),
        "grad-cam Grad-CAM, layer given, five classes": lambda: gradcam(package, five),
        "grad-cam Grad-CAM, as a newcomer": gradcam_newcomer,
    }


def from_a_photo(task: Task, folder: Path) -> dict[str, Way]:
    """With the work around the network: resizing, placing, drawing, saving."""
    photo, exp = read_image(PHOTOS[0]), explain(task.clf, CAT)
    height, width = exp.photo.shape[:2]
    return {
        f"camlib, overlay of {width}×{height} pixels saved as PNG, alone": lambda: exp.save(
            folder / "map.png", task.one
        ),
        "camlib explain from the photo, map on the photo": lambda: explain(task.clf, photo).heatmap(task.one),
    }


def ways(clf: Classifier, layer: str, fc: str, batch: int, folder: Path) -> dict[str, Way]:
    """Every way of explaining `batch` photos; the first is the bare forward pass."""
    from torchcam.methods import LeGrad

    task = Task(clf, layer, batch)
    every: dict[str, Way] = {"bare forward pass": task.bare, "bare forward pass again (the noise)": task.bare}
    frozen = by_gradients(task, "frozen", frozen_cam)
    if not fc:  # a transformer
        blocks = [f"encoder.layers.encoder_layer_{n}" for n in range(8, 12)]
        legrad = by_torch_cam(task, LeGrad, gradient=True, target_layer=blocks)
        every |= frozen | {"torch-cam LeGrad, the last four blocks given, one class": legrad([task.one])}
    else:
        every |= by_hand(task) | by_camlib(task) | by_gradients(task, "grad_cam", grad_cam) | frozen
        every |= by_peers(task, fc)
        every |= from_a_photo(task, folder) if batch == 1 else {}
    slow = SLOW if fc else ("five",)
    return {name: way for name, way in every.items() if batch == 1 or not any(part in name for part in slow)}


def clocks() -> tuple[float, float]:
    """Seconds on the wall, and of the processor in this process and in its children that have ended."""
    times = os.times()
    return time.perf_counter(), time.process_time() + times.children_user + times.children_system


def medians(calls: dict[str, Way], rounds: int, warm: int = 1) -> tuple[Measured, Measured]:
    """Median seconds of each way on the wall, and of the processor.

    Every round times all ways, in another order: what ran before decides what the cache holds.
    """
    order, draw = list(calls), random.Random(0)
    walls: dict[str, list[float]] = {name: [] for name in calls}
    cpus: dict[str, list[float]] = {name: [] for name in calls}
    for turn in tqdm(range(rounds + warm), desc="rounds", leave=False):
        draw.shuffle(order)
        for name in order:
            wall, cpu = clocks()
            calls[name]()
            if turn >= warm:  # the first rounds warm up
                now_wall, now_cpu = clocks()
                walls[name].append(now_wall - wall)
                cpus[name].append(now_cpu - cpu)
    return _medians(walls), _medians(cpus)


def _medians(seconds: dict[str, list[float]]) -> Measured:
    return {name: statistics.median(s) for name, s in seconds.items()}


def command(*arguments: str | Path) -> Way:
    """camlib's command line, in this process."""
    words = [*map(str, arguments), "--redo"]

    def run() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            assert cli.main(words) == 0

    return run


def forward(clf: Classifier, pictures: Iterable[np.ndarray]) -> None:
    """Resize pictures and run the network on them together, without any explanation."""
    with torch.no_grad():
        clf.module(torch.cat([clf.preprocess(p, clf.view(p)) for p in pictures])).topk(1)


def together(items: Iterable[T]) -> Iterator[list[T]]:
    """Lists of up to `BATCH` items."""
    left = iter(items)
    while some := list(islice(left, BATCH)):
        yield some


def of_a_folder(folder: Path, copies: int = 4) -> dict[str, Way]:
    """A folder through the command line, and the same without any explanation."""
    photos = folder / "photos"
    photos.mkdir()
    for n in range(copies):
        for photo in PHOTOS:
            shutil.copyfile(photo, photos / f"{n}-{photo.name}")
    clf, paths = load_model(), sorted(photos.iterdir())

    def plain() -> None:
        for n, path in enumerate(paths):
            picture = read_image(path)
            forward(clf, [picture])
            Image.fromarray(picture).save(folder / f"{n}.png", compress_level=1)

    def loop() -> None:
        own = load_model()  # as the command line does
        for n, path in enumerate(paths):
            exp = explain(own, path)
            k = exp.top(1)[0].index
            exp.save(folder / f"{n}.png", k)

    return {
        "decode, resize, forward, encode": plain,
        "a loop over camlib.explain and save": loop,
        **{
            f"camlib FOLDER --workers {n}": command(photos, "--out", folder / "out", "--workers", str(n))
            for n in (1, 2)
        },
    }


def of_a_clip(folder: Path, count: int = 48) -> dict[str, Way]:
    """A clip through the command line, and the same without any explanation."""
    clip, cat, clf = folder / "clip.mp4", read_image(CAT), load_model()
    rate = Fraction(25)
    write_clip(clip, (Frame(np.roll(cat, 4 * n, 1), n / rate, 1 / rate) for n in range(count)), rate)

    def passed() -> Iterator[Frame]:
        for some in together(Clip(clip).frames()):
            forward(clf, [frame.picture for frame in some])
            yield from some

    def camlib(*more: str) -> Way:
        return command(clip, "--out", folder / "clips", "--workers", "1", "--batch", str(BATCH), *more)

    return {
        "decode, resize, forward, encode": lambda: write_clip(folder / "plain.mp4", passed(), rate),
        "camlib CLIP --target CLASS": camlib("--target", "282"),
        "camlib CLIP": camlib(),
    }


def of_a_start(folder: Path) -> dict[str, Way]:
    """A whole process from its start to its end: what it takes until the first heat map is written."""

    def python(*arguments: str) -> Way:
        return lambda: subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)

    photos, maps = finished_job(folder / "finished", FINISHED)
    return {
        "python -c 'import torch'": python("-c", "import torch"),
        "camlib PHOTO": python("-m", "camlib", str(CAT), "--out", str(folder / "start")),
        f"camlib FOLDER of {FINISHED} photos, all finished before": python(
            "-m", "camlib", str(photos), "--out", str(maps)
        ),
        "python -c 'import camlib'": python("-c", "import camlib"),
        "python -c 'pass'": python("-c", "pass"),
    }


def finished_job(folder: Path, count: int) -> tuple[Path, Path]:
    """A folder with copies of a small photo, and one with their heat maps, as a job leaves them."""
    photos, maps = folder / "photos", folder / "maps"
    photos.mkdir(parents=True)
    first = photos / "0000000.png"
    Image.linear_gradient("L").resize((32, 32)).save(first)
    command(first, "--out", maps)()
    (picture,) = maps.glob("*.png")
    for file in (first, picture):
        data, times = file.read_bytes(), (file.stat().st_atime_ns, file.stat().st_mtime_ns)
        for n in range(1, count):
            copy = file.with_name(file.name.replace("0000000", f"{n:07}"))
            copy.write_bytes(data)
            os.utime(copy, ns=times)
    for journal in maps.glob("*.jsonl"):
        text = journal.read_text(encoding="ascii")
        with open(journal, "a", encoding="ascii") as lines:
            lines.writelines(text.replace("0000000", f"{n:07}") for n in range(1, count))
    return photos, maps


def memory(folder: Path) -> Measured:
    """The largest memory of a process in bytes, from its start to its end. Empty where the system is not Linux."""
    if not Path("/proc/self/status").exists():
        return {}
    small, large = folder / "small", folder / "large.jpg"
    small.mkdir()
    for photo in PHOTOS[:3]:
        shutil.copyfile(photo, small / photo.name)
    Image.open(CAT).resize((8000, 6250)).save(large)

    def peak(code: str, *arguments: str | Path) -> float:
        code = f"import sys\n{code}\nprint(open('/proc/self/status').read())"  # getrusage would count this process, too
        words = [sys.executable, "-c", code, *map(str, arguments)]
        said = subprocess.run(words, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout
        return 1024 * int(re.findall(r"^VmHWM:\s*(\d+) kB$", said, re.MULTILINE)[-1])

    def camlib(*arguments: str | Path) -> float:
        return peak("from camlib.cli import main\nassert main(sys.argv[1:]) == 0", *arguments, "--out", folder / "peak")

    every = ("--top", "1000")
    return {
        "python -c 'import torch'": peak("import torch"),
        "camlib FOLDER, three small photos": camlib(small),
        "camlib FOLDER --html, three small photos": camlib(small, "--html"),
        "camlib PHOTO --top 1000": camlib(CAT, *every),
        "camlib PHOTO of 50 megapixels": camlib(large),
        "camlib PHOTO of 50 megapixels --html": camlib(large, "--html"),
        "a million photos are listed, and have names (no network)": peak(LIST, folder),
    }


def machine() -> str:
    """The processor's name."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def printed(title: str, wall: Measured, cpu: Measured) -> str:
    """The ratios to the first row, by the wall's clock and by the processor's."""
    base = next(iter(wall))
    lines = [f"\n{title}", f"{'':<64}{'median ms':>10}{'ratio':>8}{'by CPU':>8}"]
    for way in wall:
        ratios = f"{wall[way] / wall[base]:>8.2f}{cpu[way] / cpu[base]:>8.2f}"
        lines.append(f"{way:<64}{1000 * wall[way]:>10.1f}{ratios}")
    return "\n".join(lines)


def tables(stored: dict[str, Any]) -> str:
    """What docs/how_it_compares.md shows of the stored run: ratios to the first row of each table."""
    about, seconds = stored["about"], stored["seconds"]
    threads = f"{about['threads']} CPU thread" + "s" * (about["threads"] > 1)
    versions = ", ".join(f"{name} {about[name]}" for name in ("camlib", *PACKAGES))
    said = f"""Measured on {about["date"]} with {threads} (machine: {about["machine"]}). Medians of {about["rounds"]}
rounds at batch 1, and of {about["rounds elsewhere"]} elsewhere; every round runs all rows, in another order.
{versions}."""

    columns = {title: times for title, times in seconds.items() if ", batch " in title}
    rows = list(dict.fromkeys(way for times in columns.values() for way in list(times)[1:]))
    bare = [next(iter(times.values())) for times in columns.values()]
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for way in rows:
        cells = (
            f"{times[way] / b:.2f}" if way in times else "" for times, b in zip(columns.values(), bare, strict=True)
        )
        lines.append(f"| {way} | " + " | ".join(cells) + " |")

    for title, times in seconds.items():
        if title not in columns:
            base = next(iter(times.values()))
            lines += ["", f"| {title} | cost |", "|---|---|"]
            lines += [f"| {way} | {value / base:.2f} |" for way, value in times.items()]
    if "memory" in stored:
        lines += ["", in_gigabytes(stored["memory"])]
    return "\n".join([said, "", *lines])


def in_gigabytes(most: Measured) -> str:
    """The table of the memory."""
    return "\n".join(
        ["| a process | memory at most |", "|---|---|", *(f"| {k} | {v / 1e9:.2f} GB |" for k, v in most.items())]
    )


def with_tables(text: str, stored: dict[str, Any]) -> str:
    """A page with the tables of a run between its two marks."""
    return BLOCK.sub(lambda marks: f"{marks[1]}\n{tables(stored)}\n\n{marks[2]}", text)


def plot(results: dict[str, Measured], file: Path) -> None:
    """Ratios to the bare forward pass at batch 1, a panel for each network: bars from 1, on one logarithmic scale."""
    from matplotlib.figure import Figure

    shown = {name: found for name, found in results.items() if name.endswith("batch 1")}
    every = dict.fromkeys(w for found in shown.values() for w in found)
    rows = [w for w in every if w != "bare forward pass" and "explain from" not in w and "alone" not in w]
    rows.sort(key=lambda w: [p for p in ("torch-cam", "captum", "grad-cam") if w.startswith(p)])
    fig = Figure(figsize=(13, 8.5), layout="constrained")
    for ax, (name, found) in zip(fig.subplots(1, len(shown), sharey=True), shown.items(), strict=True):
        base = found["bare forward pass"]
        for y, way in enumerate(rows):
            if way in found:
                ratio = found[way] / base
                ax.barh(y, ratio - 1, left=1, color="#b2182b" if way.startswith("camlib") else "#7f8c9b")
                ax.text(max(ratio, 1) * 1.05, y, f"{ratio:.2f}", fontsize=8, va="center")
        ax.axvline(1, color="black", linewidth=0.8)
        ax.set_xscale("log")
        ax.set_xlim(0.8, 40)
        ax.set_xticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"])
        ax.minorticks_off()
        ax.set_yticks(range(len(rows)), rows)
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.set_title(name, fontsize=10)
        ax.set_xlabel("cost / bare forward pass", fontsize=9)
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    fig.savefig(file, dpi=120, metadata={"Software": None})


def measured(args: argparse.Namespace, few: int) -> Iterator[tuple[str, Measured, Measured]]:
    """Each title with the median seconds of its ways, by both clocks."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        for network, clf, layer, fc in networks():
            if args.only.lower() in network.lower():
                for batch in args.batches:
                    rounds, warm = (args.rounds, 3) if batch == 1 else (few, 1)
                    yield f"{network}, batch {batch}", *medians(ways(clf, layer, fc, batch, folder), rounds, warm)
        if not args.only:
            yield "a process from start to end", *medians(of_a_start(folder), few)
            yield "a folder of photos", *medians(of_a_folder(folder), few)
            yield "a clip", *medians(of_a_clip(folder), few)


def most_memory() -> Measured:
    with TemporaryDirectory() as name:
        return memory(Path(name))


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python3 run.py bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=24, help="at batch 1; a sixth of it, at least 3, elsewhere")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch (default: 1)")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8], help="photos at a time (default: 1 8)")
    parser.add_argument("--only", default="", help="a part of a network's name; leaves out all but networks")
    parser.add_argument("--out", type=Path, default=PEERS, help="folder for bench.json and bench.png")
    parser.add_argument("--table", action="store_true", help="run nothing; write the stored run into the page")
    args = parser.parse_args(arguments)
    if args.table:
        stored = json.loads((args.out / "bench.json").read_text(encoding="utf-8"))
        files.write(PAGE, with_tables(PAGE.read_text(encoding="utf-8"), stored).encode())
        return print(f"written: {PAGE}")
    torch.set_num_threads(args.threads)
    about = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": machine(), "camlib": __version__}
    about |= {name: version(name) for name in PACKAGES}
    few = max(3, args.rounds // 6)
    about |= {"threads": args.threads, "rounds": args.rounds, "rounds elsewhere": few}
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    seconds: dict[str, Measured] = {}
    of_the_processor: dict[str, Measured] = {}
    for title, wall, cpu in measured(args, few):
        print(printed(title, wall, cpu), flush=True)
        seconds[title], of_the_processor[title] = wall, cpu
    args.out.mkdir(parents=True, exist_ok=True)
    stored = {"about": about, "seconds": seconds, "CPU seconds": of_the_processor}
    if not args.only:
        stored["memory"] = most_memory()
        print(f"\n{in_gigabytes(stored['memory'])}")
    (args.out / "bench.json").write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    if not args.only:
        plot(seconds, args.out / "bench.png")
    print(f"\nwritten: {args.out / 'bench.json'}")


if __name__ == "__main__":
    main()
