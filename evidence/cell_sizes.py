"""Why does the network's best class lose logit when the same photo is shown larger, or more of it is shown?

Changes, one at a time, on each of the twelve photos. The class is the best one of the usual crop of 224 pixels.

- Larger: the same crop with 320, 448 and 672 pixels a side, from the photo itself and, as a control for sharpness, from
  the crop of 224 pixels enlarged. Smaller: 192, 160 and 128 pixels.
- More around it: the whole photo at the scale of the crop, which is cut from the photo at 256 pixels.
- Larger objects or more cells? Two controls take these apart. More cells, objects as large as in the usual crop: the
  crop and its mirror images as one picture of 448 pixels, or four copies of it. Larger objects, as many cells as usual:
  the four quarters of the crop of 448 pixels, each an input of 224, and the mean of their logits. Both once more at
  half the scale: the crop of 112 pixels and its mirror images; the quarters of the usual crop, each an input of 112.
- The class: the best one of a crop may lose in any other crop, just because it was chosen there. So also the best class
  of the crop of 448 pixels, in the usual one.
- The border: the convolutions put zeros around their input, so the cells at the border differ from the others. The same
  crops in a network that puts a mirror image there instead, or copies of the outermost pixels. This is another network.

Then, in single cells: how sure the surest one is, of this class and, as a control, of any other class.

Run it from the repository: python -m evidence.cell_sizes
"""

from copy import deepcopy
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

import camlib
from evidence.findings import PHOTOS, command, finding, store

LARGER, SMALLER = (320, 448, 672), (192, 160, 128)
SAME_SCALE = 256  # the crop of 224 is cut from the photo at 256 pixels on its shorter side
PADDINGS = ("reflect", "replicate")
SURE = 0.9
# Best classes that no photo shows:
ABSENT = ("football helmet", "flatworm", "American black bear", "academic gown", "daisy")
DIVE = "notebooks/deep_dives/every_cell_a_classifier.ipynb"
CHAPTER = "notebooks/04_einsum_cam.ipynb"


def small_crop(photo: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """What the network sees of a photo at 224, as a photo of 224 × 224 pixels."""
    cut = Image.fromarray(photo).resize((224, 224), Image.Resampling.BICUBIC, box=box)
    return np.asarray(cut)


def padded(layer: nn.Conv2d, mode: str, x: Tensor) -> Tensor:
    """A convolution with as much padding as usual, but of another kind."""
    amounts = []
    for n, kernel, stride in zip(x.shape[:1:-1], layer.kernel_size, layer.stride, strict=True):  # width, height
        missing = max((-(-n // stride) - 1) * stride + kernel - n, 0)
        amounts += [missing // 2, missing - missing // 2]
    return F.conv2d(F.pad(x, amounts, mode=mode), layer.weight, layer.bias, layer.stride, groups=layer.groups)


def repadded(module: nn.Module, mode: str) -> nn.Module:
    """A copy of the network whose convolutions pad in another way."""
    module = deepcopy(module)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size[0] > 1:
            layer.forward = partial(padded, layer, mode)
    return module


def surest(exp: camlib.Explanation) -> Tensor:
    """For each class, its probability in the cell that is most certain of it."""
    return (exp.maps + exp.bias[:, None, None]).softmax(0).amax((1, 2))


def mirrored(x: Tensor) -> Tensor:
    """An input beside and above its mirror images: (B, 3, H, W) -> (B, 3, 2 H, 2 W)."""
    x = torch.cat([x, x.flip(3)], 3)
    return torch.cat([x, x.flip(2)], 2)


def quarters(x: Tensor) -> Tensor:
    """The four quarters of one input: (1, 3, H, W) -> (4, 3, H / 2, W / 2)."""
    return torch.cat([part for rows in x.chunk(2, 2) for part in rows.chunk(2, 3)])


@torch.no_grad()
def study(clf: camlib.Classifier, others: dict[str, nn.Module], path: Path) -> dict[str, Any]:
    """The logit of one class under each change, and probabilities in the surest cells."""
    photo = camlib.read_image(path)
    usual = camlib.explain(clf, photo)
    k = usual.top(1)[0].index
    blurred = small_crop(photo, usual.view.box)
    whole, double = (camlib.explain(clf, photo, view="whole", sizes=size) for size in (SAME_SCALE, 448))
    height, width = photo.shape[:2]
    cells = surest(double)
    rest = cells.clone()
    rest[k] = 0
    row = {
        "photo": path.name,
        "class": clf.labels[k],
        "square": height == width,
        "usual": usual.logits[k].item(),
        "usual_surest_cell": surest(usual)[k].item(),
        "whole": whole.logits[k].item(),
        "double_probability": double.logits.softmax(0)[k].item(),
        "double_surest_cell": cells[k].item(),
        "double_other_class": clf.labels[int(rest.argmax())],
        "double_other_surest_cell": rest.max().item(),
    }
    for size in LARGER:
        row[f"larger_{size}"] = camlib.explain(clf, photo, sizes=size).logits[k].item()
        row[f"blurred_{size}"] = camlib.explain(clf, blurred, view="whole", sizes=size).logits[k].item()
    for size in SMALLER:
        row[f"smaller_{size}"] = camlib.explain(clf, photo, sizes=size).logits[k].item()

    small, x, large = (clf.preprocess(photo, clf.view(photo, size=size)) for size in (112, 224, 448))
    row["mirrored"] = clf.module(mirrored(x))[0, k].item()
    row["copies"] = clf.module(x.tile(1, 1, 2, 2))[0, k].item()
    row["quarters"] = clf.module(quarters(large))[:, k].mean().item()
    row["half"] = clf.module(small)[0, k].item()
    row["half_mirrored"] = clf.module(mirrored(small))[0, k].item()
    row["half_quarters"] = clf.module(quarters(x))[:, k].mean().item()
    best = int(clf.module(large).argmax())
    row["best_of_448"], row["best_of_448_usual"] = (clf.module(view)[0, best].item() for view in (large, x))
    cells = usual.maps[k]
    inner = cells[1:-1, 1:-1]
    row["inner_cells"] = inner.mean().item()
    row["border_cells"] = ((cells.sum() - inner.sum()) / (cells.numel() - inner.numel())).item()
    for mode, module in others.items():
        row[f"{mode}_usual"], row[f"{mode}_448"] = (module(view)[0, k].item() for view in (x, large))
    return {key: round(v, 3) if isinstance(v, float) else v for key, v in row.items()}


def lower(rows: list[dict[str, Any]], key: str, than: str = "usual") -> int:
    """On how many photos one logit is lower than another."""
    return sum(row[key] < row[than] for row in rows)


def average(rows: list[dict[str, Any]], key: str) -> str:
    """The mean of a logit over the photos."""
    return f"{mean(row[key] for row in rows):.1f}"


def findings(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What chapter 04 and its deep dive state."""
    n = len(rows)
    at = partial(average, rows)
    falls, blurred = (sum(lower(rows, f"{kind}_{size}") for size in LARGER) for kind in ("larger", "blurred"))
    sure = [row for row in rows if row["double_surest_cell"] > SURE]
    other = sum(row["double_other_surest_cell"] > SURE for row in rows)
    usual = sum(row["usual_surest_cell"] > SURE for row in rows)
    absent = sum(row["class"] in ABSENT for row in sure)
    reflect, replicate = (lower(rows, f"{mode}_448", f"{mode}_usual") for mode in PADDINGS)
    half = f"{at('half')} to {at('half_mirrored')}, {lower(rows, 'half_mirrored', 'half')} of {n}"
    other_class = lower(rows, "best_of_448", "best_of_448_usual")
    border = lower(rows, "border_cells", "inner_cells")
    smaller = ", ".join(f"{at(f'smaller_{size}')} at {size}" for size in SMALLER)
    return [
        finding(
            CHAPTER,
            "The logit of the best class falls when the same crop is shown at twice the size.",
            f"{n} photos; also at 320 and 672 pixels, and from enlarged crops, which are no sharper",
            f"{lower(rows, 'larger_448')} of {n}; {falls} of {n * len(LARGER)} over the three sizes, "
            f"{blurred} of {n * len(LARGER)} for enlarged crops; mean {at('usual')} to {at('larger_448')}",
            [f"on {lower(rows, 'larger_448')} of the {n} photos"],
        ),
        finding(
            DIVE,
            "The same crop shown larger: the logit of the best class falls.",
            f"{n} photos, three sizes; at 448 also the class that is best there",
            f"{falls} of {n * len(LARGER)}; the class that is best at 448: {other_class} of {n}; "
            f"shown smaller, its mean rises: {smaller}",
            [f"in {falls} of {n * len(LARGER)} cases"],
        ),
        finding(
            DIVE,
            "More of the photo at the same scale: the logit of the best class falls.",
            f"{n} photos",
            f"{lower(rows, 'whole')} of {n}",
            [f"on {lower(rows, 'whole')} of the {n} photos"],
        ),
        finding(
            DIVE,
            "More cells lower the logit, even where no object is larger.",
            f"{n} photos; the crop and its mirror images as one input of 448, or four copies of it; a crop of 112",
            f"mirrored {lower(rows, 'mirrored')} of {n}, mean {at('usual')} to {at('mirrored')}; "
            f"copies {lower(rows, 'copies')} of {n}, mean {at('copies')}; from 112 pixels to 224: {half}",
            [
                f"the logit falls from {at('usual')} to {at('mirrored')}, "
                f"and on {lower(rows, 'mirrored')} of {n} photos",
            ],
        ),
        finding(
            DIVE,
            "Larger objects on the usual number of cells lower the logit less than the larger input does.",
            f"{n} photos; the quarters of the crop at 448, mean of four logits",
            f"mean {at('usual')} to {at('quarters')}, lower on {lower(rows, 'quarters')} of {n}; the crop at 448 is "
            f"lower than that on {lower(rows, 'larger_448', 'quarters')} of {n}; quarters of the usual crop, each an "
            f"input of 112: {at('half_quarters')}",
            [
                f"it falls only to {at('quarters')}",
                f"Larger objects and more cells together give {at('larger_448')}",
            ],
        ),
        finding(
            DIVE,
            "In the usual crop, the cells at the border have less evidence than the others.",
            f"{n} photos, 24 cells and 25",
            f"{border} of {n}, mean {at('border_cells')} and {at('inner_cells')}",
            [f"less evidence than the others on {border} of {n} photos"],
        ),
        finding(
            DIVE,
            "With mirror images instead of zeros as padding, the same crop at twice the size mostly keeps its logit.",
            f"{n} photos; control: copies of the outermost pixels",
            f"falls on {reflect} of {n}, mean {at('reflect_usual')} to {at('reflect_448')}; with copies on "
            f"{replicate} of {n}, mean {at('replicate_usual')} to {at('replicate_448')}",
            [
                f"only {reflect} of {n} logits fall from 224 to 448 pixels",
                f"outermost pixels, {replicate} of {n} do",
                f"{at('reflect_usual')} and {at('replicate_usual')} instead of {at('usual')}",
            ],
        ),
        finding(
            DIVE,
            "At the double size, some single cell gives the class more than 0.9, but not only that class.",
            f"{n} photos; controls: any other class, and the usual crop",
            f"{len(sure)} of {n}, {absent} of them without the object; another class {other} of {n}; usual crop "
            f"{usual} of {n}; the photo as a whole gets {min(r['double_probability'] for r in rows):.2f} to "
            f"{max(r['double_probability'] for r in rows):.2f}",
            [
                f"on {len(sure)} of the {n} photos",
                f"{absent} of these {len(sure)} classes are not in the photo",
                f"another class more than 0.9 on {other} of the {n}",
                f"In the usual crop, the class has such a cell on {usual} of the {n}",
            ],
        ),
    ]


def main() -> None:
    out = command(__file__, __doc__)
    torch.set_num_threads(1)
    clf = camlib.load_model()
    others = {mode: repadded(clf.module, mode) for mode in PADDINGS}
    rows = [study(clf, others, photo) for photo in tqdm(sorted(PHOTOS.iterdir()), unit="photo")]
    store(out, findings(rows), network=clf.name, photos=rows)


if __name__ == "__main__":
    main()
