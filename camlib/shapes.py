"""Generated pictures with exact boxes, with or without a planted shortcut, and networks small enough to train live.

They answer questions that photographs cannot. Here we know the right place to the pixel: is the map there? With a
shortcut, we also know what the network really uses: does the map show it?
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from camlib.errors import CamError
from camlib.network import eval_mode
from camlib.transformer import VisionTransformer
from camlib.views import upsample

SHAPES = ("disc", "ring", "square", "triangle", "cross")
SIDE = 64  # pixels of a picture
BATCH = 32
MEAN, STD = 0.5, 0.25
NORMALISATION = {"mean": (MEAN,) * 3, "std": (STD,) * 3}  # options of load_model
CORNER = 10  # pixels of the shortcut
CORNER_COLOURS = ((0.9, 0.1, 0.1), (0.1, 0.8, 0.1), (0.15, 0.2, 0.9), (0.9, 0.8, 0.1), (0.8, 0.1, 0.8))  # one per class


@dataclass(frozen=True, eq=False)
class Pictures:
    """n pictures with one shape each, or two; from `pictures` or `pairs`.

    Attributes
    ----------
    images : (n, 3, 64, 64)
        From 0 to 1.
    labels : (n,), or (n, 2)
        Class indices; `SHAPES` names them.
    boxes : (n, 4), or (n, 2, 4)
        (left, top, right, bottom) of each shape in pixels, with right and bottom just outside.

    Examples
    --------
    >>> [SHAPES[label] for label in pictures(3, seed=0).labels]
    ['cross', 'triangle', 'square']
    """

    images: Tensor  # (n, 3, 64, 64) float32, 0 to 1
    labels: Tensor  # (n,) int64, index into SHAPES; (n, 2) for `pairs`, as are its boxes (n, 2, 4)
    boxes: Tensor  # (n, 4) int64: left, top, right, bottom in pixels; right and bottom are just outside


def pictures(n: int, seed: int, corner: str = "none", paint: str = "none", cut: bool = False) -> Pictures:
    """Generate n pictures: one shape each, in a random place and random colours, on a cloudy ground with stray lines.

    Parameters
    ----------
    n
        How many.
    seed
        The same seed gives the same pictures.
    corner
        What the top left corner shows. "none": nothing special. "class": the colour of the class, which gives the
        answer away. "random": the colour of a random class. The rest of each picture is the same in all three cases.
    paint
        The same for the shape itself. "none": any colour. "class": the colour of the class, a shortcut that lies on the
        object. "random": the colour of a random class.
    cut
        Whether the edge may cut a shape off. Its centre then lies anywhere, and its box is that of the visible part.
        Otherwise every shape is whole, so no centre lies within 9 pixels of the edge.

    Returns
    -------
    pictures : Pictures

    Raises
    ------
    CamError
        For another corner or paint.

    Examples
    --------
    >>> p = pictures(4, seed=0)
    >>> p.images.shape, p.labels.tolist(), p.boxes[0].tolist()
    (torch.Size([4, 3, 64, 64]), [4, 3, 2, 1], [15, 20, 39, 44])
    """
    for name, value in (("corner", corner), ("paint", paint)):
        if value not in ("none", "class", "random"):
            raise CamError(f"{name}={value!r}: must be 'none', 'class' or 'random'.")
    rng, painter = np.random.default_rng(seed), np.random.default_rng((seed, 1))
    images = np.empty((n, 3, SIDE, SIDE), np.float32)
    labels, boxes = rng.integers(len(SHAPES), size=n), np.empty((n, 4), np.int64)
    colours = np.array(CORNER_COLOURS, np.float32)
    paints = colours[labels if paint == "class" else painter.integers(len(SHAPES), size=n)]
    for k in range(n):
        images[k], boxes[k] = _picture(rng, SHAPES[labels[k]], None if paint == "none" else paints[k], cut)
    if corner != "none":
        shown = labels if corner == "class" else rng.integers(len(SHAPES), size=n)
        images[:, :, :CORNER, :CORNER] = colours[shown][:, :, None, None]
    return Pictures(torch.from_numpy(images), torch.from_numpy(labels), torch.from_numpy(boxes))


def _picture(
    rng: np.random.Generator, shape: str, paint: np.ndarray | None = None, cut: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    ground = rng.uniform(0.2, 0.8, 3)
    clouds = upsample(torch.from_numpy(rng.uniform(-0.15, 0.15, (3, 5, 5))), (SIDE, SIDE)).numpy()
    image = ground[:, None, None] + clouds + rng.normal(0, 0.04, (3, SIDE, SIDE))
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    for _ in range(2):  # stray lines, so that edges alone do not give the place away
        angle, distance = rng.uniform(0, np.pi), rng.uniform(-20, 20)
        across = (x - SIDE / 2) * np.cos(angle) + (y - SIDE / 2) * np.sin(angle) - distance
        image[:, np.abs(across) < 0.8] = rng.uniform(0, 1, 3)[:, None]
    radius = rng.uniform(8, 13)
    inset = 0 if cut else radius + 1
    cx, cy = rng.uniform(inset, SIDE - inset, 2)
    mask = _inside(shape, (x - cx) / radius, (y - cy) / radius)
    colour = (ground + rng.choice([-1, 1]) * rng.uniform(0.35, 0.5, 3)) % 1.0
    image[:, mask] = (colour if paint is None else paint)[:, None] + rng.normal(0, 0.04, (3, mask.sum()))
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return image.clip(0, 1), np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def _inside(shape: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The shape's mask, in coordinates from -1 to 1 across the shape."""
    if shape == "square":
        return (np.abs(u) < 0.85) & (np.abs(v) < 0.85)
    if shape == "triangle":
        return (v < 0.9) & (np.abs(u) < (v + 0.95) * 0.55)
    if shape == "cross":
        return ((np.abs(u) < 0.3) & (np.abs(v) < 1)) | ((np.abs(v) < 0.3) & (np.abs(u) < 1))
    r = np.hypot(u, v)
    return (r < 1) & (r > 0.6) if shape == "ring" else r < 0.95


def pairs(n: int, seed: int) -> Pictures:
    """Generate n pictures with two shapes of different classes each, whose boxes do not touch.

    Such a picture asks a map a question that a picture with one shape cannot ask: does it point at the shape of its own
    class?

    Parameters
    ----------
    n
        How many.
    seed
        The same seed gives the same pictures.

    Returns
    -------
    pictures : Pictures
        Its labels (n, 2) and boxes (n, 2, 4) hold both shapes, in the same order.

    Examples
    --------
    >>> p = pairs(4, seed=0)
    >>> p.images.shape, p.labels.shape, p.boxes.shape
    (torch.Size([4, 3, 64, 64]), torch.Size([4, 2]), torch.Size([4, 2, 4]))
    """
    rng = np.random.default_rng(seed)
    images, boxes = np.empty((n, 3, SIDE, SIDE), np.float32), np.empty((n, 2, 4), np.int64)
    labels = np.array([rng.permutation(len(SHAPES))[:2] for _ in range(n)]).reshape(n, 2)
    for k, (one, other) in enumerate(labels):
        images[k], boxes[k, 0] = _picture(rng, SHAPES[one])
        boxes[k, 1] = _add(rng, images[k], SHAPES[other], boxes[k, 0])
    return Pictures(torch.from_numpy(images.clip(0, 1)), torch.from_numpy(labels), torch.from_numpy(boxes))


def _add(rng: np.random.Generator, image: np.ndarray, shape: str, box: np.ndarray) -> np.ndarray:
    """Draw one more shape into the picture, clear of the box. Returns the new shape's box."""
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    apart = False
    while not apart:
        radius = rng.uniform(8, 13)
        centre = rng.uniform(radius + 1, SIDE - radius - 1, 2)  # x, y
        apart = bool(((centre + radius + 1 < box[:2]) | (centre - radius - 1 > box[2:])).any())
    mask = _inside(shape, (x - centre[0]) / radius, (y - centre[1]) / radius)
    ground = np.median(image, axis=(1, 2))
    colour = (ground + rng.choice([-1, 1]) * rng.uniform(0.35, 0.5, 3)) % 1.0
    image[:, mask] = colour[:, None] + rng.normal(0, 0.04, (3, mask.sum()))
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def network(head: str, seed: int = 0) -> nn.Module:
    """An untrained network with five logits. The caller's random numbers are not affected.

    Parameters
    ----------
    head
        What follows the layer "0", four convolutions (B, 3, 64, 64) -> (B, 64, 8, 8). "gap": global average pooling and
        a linear layer; "flat": flattened into a linear layer; "fc": flattened into two linear layers with a ReLU
        between them, as in VGG. Or "vit": a small vision transformer whose 8 × 8 grid of tokens comes from the layer
        "stem", see `camlib.transformer`.
    seed
        Of the weights.

    Returns
    -------
    net : torch.nn.Module

    Raises
    ------
    CamError
        For another head.

    Examples
    --------
    >>> network("gap")(torch.zeros(1, 3, 64, 64)).shape
    torch.Size([1, 5])
    """

    def block(inside: int, outside: int, size: int, stride: int = 1) -> list[nn.Module]:
        conv = nn.Conv2d(inside, outside, size, stride, padding=size // 2, bias=False)
        return [conv, nn.BatchNorm2d(outside), nn.ReLU()]

    if head == "vit":
        return VisionTransformer(seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        halve = nn.MaxPool2d(2)
        features = [*block(3, 16, 5, 2), *block(16, 32, 3), halve, *block(32, 64, 3), halve, *block(64, 64, 3)]
        heads = {
            "gap": lambda: [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, len(SHAPES))],
            "flat": lambda: [nn.Flatten(), nn.Linear(64 * 64, len(SHAPES))],
            "fc": lambda: [nn.Flatten(), nn.Linear(64 * 64, 64), nn.ReLU(), nn.Linear(64, len(SHAPES))],
        }
        if head not in heads:
            raise CamError(f"head={head!r}: must be one of {', '.join(map(repr, [*heads, 'vit']))}.")
        return nn.Sequential(nn.Sequential(*features), *heads[head]())


def trained_fc() -> nn.Module:
    """The network "fc" after training on 4000 pictures: 98 % accuracy, the same stored weights on every machine.

    For `explain`, use `load_model(net, labels=SHAPES, size=SIDE, **NORMALISATION)`. It was trained by
    `train(network("fc"), pictures(4000, seed=100), epochs=5, threads=1)`, and its weights rounded to half precision.

    Returns
    -------
    net : torch.nn.Module

    Examples
    --------
    >>> accuracy(trained_fc(), pictures(50, seed=1)) > 0.9
    True
    """
    return _trained("fc", "shapes_fc.npz")


def trained_transformer() -> nn.Module:
    """The network "vit" after training on 4000 pictures: 98 % accuracy, the same stored weights on every machine.

    For `explain`, use `load_model(net, labels=SHAPES, size=SIDE, **NORMALISATION)`. It was trained by
    `train(network("vit"), pictures(4000, seed=100), epochs=5, rate=2e-3)`.

    Returns
    -------
    net : torch.nn.Module

    Examples
    --------
    >>> accuracy(trained_transformer(), pictures(50, seed=1)) > 0.9
    True
    """
    return _trained("vit", "shapes_vit.npz")


def _trained(head: str, file: str) -> nn.Module:
    net = network(head)
    with np.load(Path(__file__).with_name(file)) as weights:
        net.load_state_dict({name: torch.from_numpy(weights[name]) for name in weights.files})
    return net.eval()


def train(
    net: nn.Module,
    data: Pictures,
    epochs: int = 6,
    seed: int = 0,
    threads: int = 2,
    progress: bool = True,
    rate: float = 4e-3,
) -> list[float]:
    """Train the network in place, and leave it in evaluation mode.

    On the same kind of processor, the same seed and number of threads give the same weights to the last bit. A
    different number of threads does not, so we set it here and restore it afterwards. Training takes about 10 s on two
    cores for 2000 pictures; the transformer takes about 30 s.

    Parameters
    ----------
    net
        From `network`.
    data
        From `pictures`; 64 or more.
    epochs
        How often each picture is seen.
    seed
        Of the order of the pictures.
    threads
        How many PyTorch uses.
    progress
        Show a progress bar.
    rate
        The highest learning rate. For the transformer, 2e-3, 5 epochs and 4000 pictures give 97 to 99 % accuracy.

    Returns
    -------
    losses : list of float
        The mean loss of each epoch.

    Examples
    --------
    >>> len(train(network("gap"), pictures(64, seed=0), epochs=2, progress=False))
    2
    """
    from tqdm import tqdm

    order = torch.Generator().manual_seed(seed)
    before = torch.get_num_threads()
    losses: list[float] = []
    torch.set_num_threads(threads)
    try:
        net.train()
        images = data.images.to(memory_format=torch.channels_last)  # a third faster on a CPU
        batches = len(data.labels) // BATCH
        optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=max(2, epochs * batches))
        with torch.enable_grad(), tqdm(total=epochs * batches, unit="batch", disable=not progress, leave=False) as bar:
            for _ in range(epochs):
                total = 0.0
                shuffled = torch.randperm(len(data.labels), generator=order, device="cpu")[: batches * BATCH]
                for rows in shuffled.split(BATCH):
                    loss = F.cross_entropy(net(centred(images[rows])), data.labels[rows])
                    optimiser.zero_grad()
                    loss.backward()
                    optimiser.step()
                    schedule.step()
                    total += loss.item()
                    bar.update()
                losses.append(total / batches)
    finally:
        torch.set_num_threads(before)
        net.eval()
    return losses


def centred(images: Tensor) -> Tensor:
    """The input that these networks take: 0..1 becomes -2..2. `load_model(net, …, **NORMALISATION)` does the same.

    Parameters
    ----------
    images : (n, 3, 64, 64)
        From 0 to 1.

    Returns
    -------
    x : (n, 3, 64, 64)

    Examples
    --------
    >>> centred(torch.tensor([0.0, 0.5, 1.0]))
    tensor([-2.,  0.,  2.])
    """
    return (images - MEAN) / STD


def accuracy(net: nn.Module, data: Pictures) -> float:
    """The share of pictures that the network classifies correctly, in evaluation mode.

    Parameters
    ----------
    net
        From `network`, trained or not.
    data
        From `pictures`.

    Returns
    -------
    share : float
        From 0 to 1; a guess is right 0.2 of the time.

    Examples
    --------
    >>> 0 <= accuracy(network("gap"), pictures(5, seed=0)) <= 1
    True
    """
    with torch.no_grad(), eval_mode(net):
        found = torch.cat([net(centred(part)).argmax(1) for part in data.images.split(200)])
    return float((found == data.labels).float().mean())
