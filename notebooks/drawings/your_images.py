"""The figures of chapter 11, its odd files and its film."""

import io
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from IPython import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor

import camlib
from camlib.plot import UNIT, mappable

SIZE = 11  # points of the smallest text
RED, BROWN, PAPER = "#b40426", "#7a4a00", "0.88"
ODD = ("phone.jpg", "scan.png", "erased.png")
FILM = (300, 240)  # width and height of a frame
PALETTE, SECONDS = 64, 0.1  # colours of an animation, and how long each frame is shown


# Files


def odd_files(folder: Path) -> None:
    """What a phone, a scanner and an eraser write, made from the cat and the coffee."""
    cat = Image.open("../data/photos/cat.jpg")
    note = Image.Exif()
    note[0x0112] = 6  # orientation: turn by 90 degrees, clockwise, to see it upright
    cat.transpose(Image.Transpose.ROTATE_90).save(folder / "phone.jpg", quality=95, exif=note)

    gray = np.asarray(cat.convert("L")).astype(np.uint16) * 257  # 0 to 65535
    Image.fromarray(gray).save(folder / "scan.png")

    pixels = np.asarray(Image.open("../data/mosaics/two.png").convert("RGBA")).copy()
    pixels[:, pixels.shape[1] // 2 :, 3] = 0  # the coffee: transparent, colours kept
    Image.fromarray(pixels).save(folder / "erased.png")


def album(folder: Path) -> None:
    """A folder of two files, one of which is damaged."""
    (folder / "album").mkdir(exist_ok=True)
    for name in ("phone.jpg", "half.jpg"):
        (folder / "album" / name).write_bytes((folder / name).read_bytes())


def photo(name: str) -> Image.Image:
    return Image.fromarray(camlib.read_image(f"../data/photos/{name}"))


def beside(*names: str, side: int = 240) -> np.ndarray:
    """The central squares of some photos, side by side: (side, n · side, 3)."""
    return np.concatenate([np.asarray(ImageOps.fit(photo(name), (side, side))) for name in names], 1)


def version(pixels: np.ndarray, blur: int, gray: int) -> np.ndarray:
    """A photo (H, W, 3), blurred or not, gray or not."""
    image = Image.fromarray(pixels)
    if blur:
        image = image.filter(ImageFilter.GaussianBlur(min(image.size) / 80))
    return np.asarray(image.convert("L").convert("RGB") if gray else image)


def halves_of(path: str) -> tuple[np.ndarray, np.ndarray]:
    """The picture with its left half blurred and its right half gray, and the other way round."""
    left, right = np.split(camlib.read_image(path), 2, 1)
    ways = ((1, 0), (0, 1)), ((0, 1), (1, 0))
    first, second = (np.concatenate([version(left, *a), version(right, *b)], 1) for a, b in ways)
    return first, second


def clip(scene: str, card: str, count: int = 24, first: int = 8, last: int = 20) -> np.ndarray:
    """Frames (count, H, W, 3): the camera pans over a photo and zooms in; the square of another passes."""
    image, (width, height) = photo(scene), FILM
    side = 190
    passing, frames = ImageOps.fit(photo(card), (side, side)), []
    for i in range(count):
        t = i / (count - 1)
        h = image.height / (1.1 + 0.5 * t)
        w = h * width / height  # the frame's shape: nothing is squashed
        left, top = (image.width - w) * (0.9 - 0.7 * t), (image.height - h) * (0.2 + 0.5 * t)
        frame = image.resize(FILM, Image.Resampling.BICUBIC, (left, top, left + w, top + h))
        if first <= i <= last:
            x = round(-side + (width + side) * (i - first + 0.5) / (last - first + 1))
            frame.paste(passing, (x, (height - side) // 2))
        frames.append(np.asarray(frame))
    return np.stack(frames)


def animation(exps: Sequence[camlib.Explanation], target: str, limit: float) -> None:
    """Show the evidence for a class in one frame after the other, twice, as an animated PNG: always the same bytes.

    It stops after that, as it is hard to read beside something that keeps moving.
    """
    pictures = [exp.overlay(target, limit) for exp in exps]
    sheet = Image.fromarray(np.concatenate(pictures)).quantize(PALETTE, dither=Image.Dither.NONE)
    first, *more = (Image.fromarray(p).quantize(palette=sheet, dither=Image.Dither.NONE) for p in pictures)
    buffer = io.BytesIO()
    first.save(buffer, "png", save_all=True, append_images=more, duration=1000 * SECONDS, loop=2)
    alt = (
        f"The film with the evidence for {target}, on one scale: red around the eye and on the cheek. A cup passes "
        "from left to right and is hardly red; the cat beside it mostly is."
    )
    display.display(display.Image(buffer.getvalue(), format="png", alt=alt, width=first.width))


# Commands


def terminal(folder: Path, *words: str) -> None:
    """Run `camlib …` in the folder, and print what a terminal would show."""
    print("$", *words)
    command = [sys.executable, "-m", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8")
    print(done.stdout + done.stderr + f"exit code {done.returncode}")


def rate(clf: camlib.Classifier, pixels: np.ndarray, count: int = 64) -> float:
    """Photos a second, with the maps of all classes."""
    for photos in ([pixels] * 8, [pixels] * count):  # the first is to warm up
        start = time.perf_counter()
        for exp in camlib.explain_all(clf, photos):
            exp.maps.sum().item()  # waits for the GPU
    return count / (time.perf_counter() - start)


# Figures


def opening(
    clf: camlib.Classifier, folder: Path, ways: Mapping[str, Callable[[Path], np.ndarray]], limit: float = 20
) -> Figure:
    """Each odd file, read in each way: the heat map of the best class, its name and its probability."""
    fig = Figure(figsize=(9.8, 4.9), layout="constrained", dpi=100)
    axes = fig.subplots(len(ways), len(ODD))
    for number, (row, (how, read)) in enumerate(zip(axes, ways.items(), strict=True)):
        for ax, name in zip(row, ODD, strict=True):
            exp = camlib.explain(clf, read(folder / name), view="whole" if name == "erased.png" else "crop")
            best = exp.top(1)[0]
            _framed(ax, exp.overlay(best.index, limit))
            title = f"{best.label}, {100 * best.probability:.0f} %"
            ax.set_title(f"{name}\n{title}" if number == 0 else title, fontsize=SIZE)
        row[0].set_ylabel(how, fontsize=SIZE)
    _bar(fig, limit, axes, UNIT)
    fig.set_label(
        "Two rows of three pictures with heat maps. Upper row, read in one line: the cat lies on its side; a white "
        "picture; the cat beside a cup of coffee, with the heat on the coffee. Lower row, read by camlib: the cat "
        "upright; the gray cat; the cat beside an empty space, with the heat on the cat."
    )
    return fig


def _framed(ax: Axes, picture: np.ndarray, shape: tuple[float, float] = (1.0, 1.5)) -> None:
    """A picture in the middle of a gray field (height, width) that is the same for all, so that white has an edge."""
    h, w = picture.shape[:2]
    scale = min(shape[0] / h, shape[1] / w) * 0.96
    ax.imshow(picture, extent=(-w * scale / 2, w * scale / 2, -h * scale / 2, h * scale / 2))
    ax.set(xlim=(-shape[1] / 2, shape[1] / 2), ylim=(-shape[0] / 2, shape[0] / 2), xticks=[], yticks=[])
    ax.set_facecolor(PAPER)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _bar(fig: Figure, limit: float, axes: object, label: str, extend: str = "neither") -> None:
    bar = fig.colorbar(mappable(limit), ax=axes, shrink=0.85, aspect=25, extend=extend)
    bar.set_label(label, fontsize=SIZE)
    bar.ax.tick_params(labelsize=SIZE)


def strip(looks: Mapping[str, camlib.Explanation], limit: float = 20) -> Figure:
    """The same photo through two views: the best class, and a dashed frame around what the network saw."""
    fig = Figure(figsize=(8.6, 5.4), layout="constrained", dpi=100)
    axes = fig.subplots(len(looks), 1)
    for ax, (kind, look) in zip(axes, looks.items(), strict=True):
        best = look.top(1)[0]
        ax.imshow(look.overlay(best.index, limit))
        left, top, right, bottom = look.view.box
        frame = Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, ls="--", lw=1.5)
        frame.set_clip_on(False)
        ax.add_patch(frame)
        ax.set_title(f'view="{kind}": {best.label}, {best.probability:.2f}', fontsize=SIZE)
        ax.set_axis_off()
    _bar(fig, limit, list(axes), UNIT)
    fig.set_label(
        "A strip of coffee, cat and rocket, twice. With the view crop, a dashed square marks the middle: only the cat "
        "is seen and bears the heat. With the view whole, the dashed frame goes round the strip; the heat is still on "
        "the cat."
    )
    return fig


def sizes(looks: Mapping[str, camlib.Explanation], target: str) -> Figure:
    """One class of one photo from one and from several sizes of the input, on one scale."""
    limit = max(look.largest(target) for look in looks.values())
    fig = Figure(figsize=(9.2, 3.1), layout="constrained", dpi=100)
    axes = fig.subplots(1, len(looks))
    for ax, (name, look) in zip(axes, looks.items(), strict=True):
        ax.imshow(look.overlay(target, limit))
        h, w = look.map(target).shape
        ax.set_title(f"{name}: {h} × {w} cells", fontsize=SIZE)
        ax.set_axis_off()
    _bar(fig, limit, list(axes), UNIT)
    fig.set_label(
        f"Evidence for {target} on the cat, on one scale. Left, from one size of the input: a few large soft spots, "
        "strongest on the cheek. Right, from three sizes: smaller, weaker spots on the cheek and beside the nose."
    )
    return fig


def film(exps: Sequence[camlib.Explanation], target: str, limit: float, chosen: Sequence[int]) -> Figure:
    """Some frames, each with the evidence for one class, all on one scale."""
    fig = Figure(figsize=(10.2, 2.1), layout="constrained", dpi=100)
    axes = fig.subplots(1, len(chosen))
    for ax, i in zip(axes.flat, chosen, strict=True):
        ax.imshow(exps[i].overlay(target, limit))
        ax.set_title(f"frame {i}: logit {exps[i].prediction(target).logit:.1f}", fontsize=SIZE)
        ax.set_axis_off()
    _bar(fig, limit, axes, UNIT)
    fig.set_label(
        f"Four frames of the film with the evidence for {target}. At first it lies around the eye and on the cheek. "
        "Then a cup of coffee hides the left half of what the network sees, and only the right half is red; when it "
        "hides most, nothing is. When it has gone, the evidence is back."
    )
    return fig


def course(exps: Sequence[camlib.Explanation], *targets: str, passing: tuple[int, int]) -> Figure:
    """The logits of two classes over the frames; each is the mean of its map plus the bias."""
    fig = Figure(figsize=(8.6, 2.9), layout="constrained", dpi=100)
    ax = fig.subplots()
    ax.axvspan(passing[0] - 0.5, passing[1] + 0.5, color="0.92")
    ax.text(sum(passing) / 2, 11.3, "the cup passes", fontsize=SIZE, ha="center", va="top")
    for target, colour in zip(targets, (RED, BROWN), strict=True):
        logits = [exp.prediction(target).logit for exp in exps]
        ax.plot(logits, color=colour, lw=2, marker="o", ms=3.5)
        ax.text(len(exps) - 0.6, logits[-1], target, color=colour, fontsize=SIZE, va="center")
    ax.set(xlim=(-0.7, len(exps) - 0.3), ylim=(-1.5, 11.5))
    ax.set_xlabel("frame", fontsize=SIZE)
    ax.set_ylabel("logit", fontsize=SIZE)
    ax.tick_params(labelsize=SIZE)
    ax.spines[["top", "right"]].set_visible(False)
    fig.set_label(
        "The logits of tiger cat and espresso over 24 frames. Tiger cat wanders a little before the cup comes, falls "
        "as it covers the face, and comes back. Espresso rises above it for a while."
    )
    return fig


def halves(looks: Sequence[camlib.Explanation], labels: Sequence[str], limit: float) -> Figure:
    """Pictures that are half one thing, half another: the picture, and each label's evidence with its zero line."""
    fig = Figure(figsize=(10.2, 3.4), layout="constrained", dpi=100)
    axes = fig.subplots(len(looks), 1 + len(labels))
    for number, (row, look) in enumerate(zip(axes, looks, strict=True)):
        row[0].imshow(look.photo)
        for ax, label in zip(row[1:], labels, strict=True):
            left, right = cells(look, label)
            ax.text(
                0.25, -0.04, f"{left} of 49 cells red", fontsize=SIZE, ha="center", va="top", transform=ax.transAxes
            )
            ax.text(0.75, -0.04, f"{right} of 49", fontsize=SIZE, ha="center", va="top", transform=ax.transAxes)
            ax.imshow(look.overlay(label, limit))
            ax.contour(look.heatmap(label).numpy(), [0], colors="black", linewidths=1.2)
        for ax, title in zip(row, ("picture", *labels), strict=True):
            if number == 0:
                ax.set_title(title, fontsize=SIZE)
            ax.axvline(look.photo.shape[1] / 2 - 0.5, color="white", lw=1.5, ls="--")
            ax.set_axis_off()
    _bar(fig, limit, axes, UNIT, extend="both")
    fig.set_label(
        "The cat beside the coffee, twice: above, the cat is blurred and the coffee gray; below, the cat is gray and "
        "the coffee blurred. The evidence for blurred is red on the blurred cat and blue on the gray cup; below, "
        "less clearly, red on the right of the blurred cup, but blue on its left. The evidence for gray is red on most "
        "of the gray half and blue on the other. A black line marks zero."
    )
    return fig


def cells(look: camlib.Explanation, label: str) -> tuple[int, int]:
    """How many cells have evidence above zero in the left and in the right half of a map (h, 2 h)."""
    heat: Tensor = look.map(label)
    left, right = (int((half > 0).sum()) for half in heat.split(heat.shape[1] // 2, 1))
    return left, right
