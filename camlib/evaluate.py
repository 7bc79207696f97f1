"""Is the map in the right place? Measures that use boxes, tiles of known content, or the network itself.

A heat map (H, W) lies on the photo. NaN marks where the network never looked and counts as no evidence. A box is (left,
top, right, bottom) in pixels, with right and bottom just outside, as in data/boxes.json. A number means little without
an interval and the same number for a baseline (see camlib.sanity).
"""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from camlib.errors import CamError, optional
from camlib.network import mixes_batch, scores, scores_in_graph, untouched
from camlib.outputs import Activation, check_activation, own_activation, resolve_activation
from camlib.targets import class_index

Box = Sequence[float]


def pointing_game(heat: Tensor, boxes: Sequence[Box]) -> bool:
    """Whether the strongest point of the heat map lies in one of the boxes.

    Parameters
    ----------
    heat : (H, W)
        The map on the photo, such as `exp.heatmap(k)`; NaN counts as no evidence.
    boxes
        (left, top, right, bottom) in pixels, with right and bottom just outside.

    Returns
    -------
    hit : bool

    Raises
    ------
    CamError
        If heat is not a map, or is NaN everywhere, or if these are not boxes.

    References
    ----------
    Zhang et al. 2016, arXiv 1608.00507.

    Examples
    --------
    >>> heat = torch.tensor([[0., 1.], [3., 0.]])
    >>> pointing_game(heat, [(0, 1, 1, 2)]), pointing_game(heat, [(1, 0, 2, 1)])
    (True, False)
    """
    heat = _checked(heat)
    return bool(_mask(heat, boxes).flatten()[heat.flatten().argmax()])


def energy_in_box(heat: Tensor, boxes: Sequence[Box]) -> float:
    """The share of a heat map's positive evidence that lies in the boxes.

    Parameters
    ----------
    heat, boxes
        As in `pointing_game`.

    Returns
    -------
    share : float
        From 0 to 1; NaN if the map has no positive evidence.

    Raises
    ------
    CamError
        As in `pointing_game`.

    References
    ----------
    Wang et al. 2020, arXiv 1910.01279, section 4.3.

    Examples
    --------
    >>> energy_in_box(torch.tensor([[-5., 1.], [3., 0.]]), [(0, 0, 1, 2)])
    0.75
    """
    positive = _checked(heat).clamp(min=0)
    return float(positive[_mask(heat, boxes)].sum() / positive.sum())


def box_from_map(heat: Tensor, threshold: float = 0.2) -> tuple[int, int, int, int]:
    """The box around the largest connected region above threshold · maximum. Needs SciPy.

    Parameters
    ----------
    heat : (H, W)
        The map on the photo; NaN counts as no evidence.
    threshold
        A share of the map's maximum, from 0 to below 1.

    Returns
    -------
    box : (left, top, right, bottom)
        In pixels, with right and bottom just outside.

    Raises
    ------
    CamError
        If the map has no positive evidence, the threshold does not fit, or SciPy is not installed.

    References
    ----------
    Zhou et al. 2016, arXiv 1512.04150, section 3.2, with 20 % of the maximum.

    Examples
    --------
    >>> box_from_map(torch.tensor([[0., 9., 9.], [0., 1., 0.], [5., 0., 0.]]))
    (1, 0, 3, 1)
    """
    ndimage = optional("scipy.ndimage", "box_from_map")
    heat = _checked(heat)
    if not 0 <= threshold < 1:
        raise CamError(f"threshold={threshold}: must be a share of the maximum, from 0 to below 1.")
    if heat.max() <= 0:
        raise CamError("This map has no positive evidence, so there is no region to draw a box around.")
    regions, _ = ndimage.label((heat > threshold * heat.max()).cpu().numpy())
    largest = int(np.bincount(regions.ravel())[1:].argmax())  # region 0 is what lies below the threshold
    rows, columns = ndimage.find_objects(regions)[largest]
    return columns.start, rows.start, columns.stop, rows.stop


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes.

    Parameters
    ----------
    a, b : (left, top, right, bottom)
        In pixels, with right and bottom just outside.

    Returns
    -------
    iou : float
        From 0, where they do not touch, to 1, where they are the same.

    Examples
    --------
    >>> round(iou((0, 0, 2, 2), (1, 0, 3, 2)), 3)
    0.333
    """
    across = min(a[2], b[2]) - max(a[0], b[0])
    down = min(a[3], b[3]) - max(a[1], b[1])
    both = max(across, 0) * max(down, 0)
    union = _area(a) + _area(b) - both
    return both / union


def grid_pointing_game(heats: Tensor, tiles: Sequence[Box]) -> Tensor:
    """For a mosaic of n photos of different classes: the share of each class's positive evidence in its own tile.

    No annotation is needed: the evidence for a class belongs in its tile. An uninformative map gets 1 / n.

    Parameters
    ----------
    heats : (n, H, W)
        heats[i] is the map for the class of tiles[i].
    tiles
        n boxes (left, top, right, bottom) in pixels.

    Returns
    -------
    shares : (n,)
        From 0 to 1; NaN for a map without positive evidence.

    Raises
    ------
    CamError
        If the numbers of maps and tiles differ, and as in `pointing_game`.

    References
    ----------
    Böhle et al. 2021, arXiv 2104.00032.

    Examples
    --------
    >>> heats = torch.tensor([[[3., 1.]], [[0., 2.]]])                              # (n, H, W) = (2, 1, 2)
    >>> grid_pointing_game(heats, [(0, 0, 1, 1), (1, 0, 2, 1)])
    tensor([0.7500, 1.0000])
    """
    if len(heats) != len(tiles):
        raise CamError(f"Give one heat map for each tile; got {len(heats)} heat maps and {len(tiles)} tiles.")
    return torch.tensor([energy_in_box(heat, [tile]) for heat, tile in zip(heats, tiles, strict=True)], device="cpu")


def deletion_curve(
    module: nn.Module, x: Tensor, heat: Tensor, target: int, steps: int = 28, activation: Activation = "auto"
) -> Tensor:
    """The class's probability while the input's pixels are removed, the strongest evidence first.

    Removed pixels become 0, which after normalisation is a middle gray. A good map makes the curve fall early: compare
    `area(curve)`, but only with other maps of the same photo.

    Parameters
    ----------
    module
        Any network.
    x : (1, 3, H, W)
        Its input.
    heat : (H, W)
        A map of the same size, from `camlib.upsample`.
    target
        A class index.
    steps
        How many equal parts of the pixels are removed, one after the other.
    activation
        How scores become probabilities, see `camlib.load_model`.

    Returns
    -------
    curve : (steps + 1,)
        From the whole input to none of it.

    Raises
    ------
    CamError
        If the shapes do not fit, or these scores have no probabilities.
    TargetError
        If there is no such class.

    References
    ----------
    Petsiuk et al. 2018, arXiv 1806.07421.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    >>> deletion_curve(net, torch.rand(1, 3, 8, 8), torch.rand(8, 8), target=1, steps=4).shape
    torch.Size([5])
    """
    return _curve(module, x, torch.zeros_like(x), heat, target, steps, activation)  # from the input to nothing


def insertion_curve(
    module: nn.Module, x: Tensor, heat: Tensor, target: int, steps: int = 28, activation: Activation = "auto"
) -> Tensor:
    """The class's probability while pixels are added to a blurred input, the strongest evidence first.

    A good map makes the curve rise early. The blur has a standard deviation of 10 pixels.

    Parameters
    ----------
    module, x, heat, target, steps, activation
        As in `deletion_curve`.

    Returns
    -------
    curve : (steps + 1,)
        From the blurred input to the whole one.

    Raises
    ------
    CamError, TargetError
        As in `deletion_curve`.

    References
    ----------
    Petsiuk et al. 2018, arXiv 1806.07421.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    >>> insertion_curve(net, torch.rand(1, 3, 8, 8), torch.rand(8, 8), target=1, steps=4).shape
    torch.Size([5])
    """
    from torchvision.transforms.functional import gaussian_blur

    side = min(41, 2 * min((s - 1) // 2 for s in x.shape[2:]) + 1)
    return _curve(module, gaussian_blur(x, [side, side], [10.0, 10.0]), x, heat, target, steps, activation)


def area(curve: Tensor) -> float:
    """The area under a curve: its mean height over the share of changed pixels, which runs from 0 to 1.

    Parameters
    ----------
    curve : (steps + 1,)
        From `deletion_curve` or `insertion_curve`.

    Returns
    -------
    area : float
        From 0 to 1.

    Examples
    --------
    >>> area(torch.tensor([1.0, 0.5, 0.0]))
    0.5
    """
    return float(torch.trapezoid(curve, dx=1 / (len(curve) - 1)))


def interval(
    values: Sequence[float], groups: Sequence[object] | None = None, level: float = 0.95, seed: int = 0
) -> tuple[float, float, float]:
    """The mean of the values and its bootstrap interval: percentiles of 10 000 resamplings.

    The interval says nothing about photos unlike those measured. With few groups it is too narrow
    (evidence/coverage.py): below about 30, take `t_interval`.

    Parameters
    ----------
    values
        Finite numbers, one or more.
    groups
        What each value belongs to, such as its photo. Whole groups are then resampled, because two objects on one photo
        are not two independent observations.
    level
        How often such an interval holds the true mean.
    seed
        Of the resamplings.

    Returns
    -------
    mean, low, high : float
        In the unit of the values.

    Raises
    ------
    CamError
        If the values are not finite, or there is not one group for each.

    References
    ----------
    Efron 1979, Bootstrap methods: another look at the jackknife, Annals of Statistics 7.

    Examples
    --------
    >>> interval([1.0, 1.0, 1.0])
    (1.0, 1.0, 1.0)
    """
    numbers = np.asarray(values, dtype=float)
    if numbers.ndim != 1 or not len(numbers) or not np.isfinite(numbers).all():
        raise CamError("interval takes one or more finite numbers.")
    names = (
        np.unique([str(g) for g in groups], return_inverse=True)[1] if groups is not None else np.arange(len(numbers))
    )
    if len(names) != len(numbers):
        raise CamError(f"Give one group for each value; got {len(names)} groups and {len(numbers)} values.")
    sums, counts = np.bincount(names, numbers), np.bincount(names)
    drawn = np.random.default_rng(seed).integers(len(counts), size=(10_000, len(counts)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(numbers.mean()), float(low), float(high)


def t_interval(
    values: Sequence[float], groups: Sequence[object] | None = None, level: float = 0.95
) -> tuple[float, float, float]:
    """The mean of the groups' means and Student's interval for it. For few groups; see `interval`. Needs SciPy.

    The interval trusts that the groups' means are not too skewed.

    Parameters
    ----------
    values
        Finite numbers, two or more.
    groups
        What each value belongs to, such as its photo: its values are averaged first, so that each group counts the
        same. Without groups, each value is one.
    level
        How often such an interval holds the true mean.

    Returns
    -------
    mean, low, high : float
        In the unit of the values.

    Raises
    ------
    CamError
        If the values are not finite, there is not one group for each, or only one group.

    Examples
    --------
    >>> [round(v, 2) for v in t_interval([1.0, 2.0, 3.0, 4.0], ["a", "a", "b", "b"])]
    [2.5, -10.21, 15.21]
    """
    stats = optional("scipy.stats", "t_interval")
    numbers = np.asarray(values, dtype=float)
    if numbers.ndim != 1 or len(numbers) < 2 or not np.isfinite(numbers).all():
        raise CamError("t_interval takes two or more finite numbers.")
    if groups is not None and len(groups) != len(numbers):
        raise CamError(f"Give one group for each value; got {len(groups)} groups and {len(numbers)} values.")
    if groups is not None:
        names = np.unique([str(g) for g in groups], return_inverse=True)[1]
        numbers = np.bincount(names, numbers) / np.bincount(names)
    if len(numbers) < 2:
        raise CamError("t_interval needs two groups or more: one says nothing about how much groups differ.")
    error = numbers.std(ddof=1) / len(numbers) ** 0.5
    reach = float(stats.t.ppf((1 + level) / 2, len(numbers) - 1)) * error
    return float(numbers.mean()), float(numbers.mean() - reach), float(numbers.mean() + reach)


def imputed(x: Tensor, gone: Tensor, noise: float = 0.01, seed: int = 0) -> Tensor:
    """Fill removed pixels from what is left: noisy linear imputation, from ROAD. Needs SciPy.

    Each removed pixel becomes the weighted mean of its neighbours (1/6 for the four beside it, 1/12 for the four at its
    corners), plus normal noise. All of them are computed together, by one sparse system of equations. A network can
    hardly tell such a pixel from a real one, so the shape of the hole gives less away than with a gray fill.

    Parameters
    ----------
    x : (C, H, W)
        An input.
    gone : (H, W) bool
        Which pixels are removed, all but one at most.
    noise
        Standard deviation of the noise, in the unit of x.
    seed
        Of the noise.

    Returns
    -------
    filled : (C, H, W)
        Like x.

    Raises
    ------
    CamError
        If the shapes do not fit, or if no pixel is left.

    References
    ----------
    Rong et al. 2022, arXiv 2202.00449.

    Examples
    --------
    >>> x, gone = torch.tensor([[[0.0, 0.0, 2.0]]]), torch.tensor([[False, True, False]])
    >>> imputed(x, gone, noise=0)
    tensor([[[0., 1., 2.]]])
    """
    sparse, linalg = optional("scipy.sparse", "imputed"), optional("scipy.sparse.linalg", "imputed")
    if x.ndim != 3 or gone.shape != x.shape[1:] or gone.dtype != torch.bool:
        raise CamError(
            f"imputed takes an input (C, H, W) and a mask (H, W) of bool; got {tuple(x.shape)} and {tuple(gone.shape)}."
        )
    if not gone.any():
        return x.clone()
    if gone.all():
        raise CamError("Every pixel is removed, so nothing is left to fill them from.")
    height, width = gone.shape
    known, mask = x.detach().cpu().double().flatten(1).numpy(), gone.cpu().numpy()
    where = np.flatnonzero(mask)
    index = np.full(mask.size, -1)  # pixel -> its number among the unknown ones
    index[where] = np.arange(len(where))
    (rows, columns), diagonal, right = np.divmod(where, width), np.zeros(len(where)), np.zeros((len(where), len(x)))
    entries = []
    for dy, dx in itertools.product((-1, 0, 1), repeat=2):
        if dy == dx == 0:
            continue
        weight = 1 / 6 if 0 in (dy, dx) else 1 / 12
        me = np.flatnonzero((rows >= -dy) & (rows < height - dy) & (columns >= -dx) & (columns < width - dx))
        other = (rows[me] + dy) * width + columns[me] + dx
        unknown = index[other] >= 0
        diagonal[me] += weight
        right[me[~unknown]] += weight * known[:, other[~unknown]].T
        entries.append((np.full(unknown.sum(), -weight), me[unknown], index[other[unknown]]))
    entries.append((diagonal, np.arange(len(where)), np.arange(len(where))))
    numbers, i, j = (np.concatenate(part) for part in zip(*entries, strict=True))
    solved = linalg.splu(sparse.csc_matrix((numbers, (i, j)))).solve(right)
    filled = x.detach().cpu().flatten(1).clone()
    drawn = torch.randn(len(x), len(where), generator=torch.Generator().manual_seed(seed), device="cpu")
    filled[:, torch.from_numpy(where)] = (torch.from_numpy(solved.T) + noise * drawn).to(filled)
    return filled.view_as(x).to(x.device)


def _curve(
    module: nn.Module, start: Tensor, end: Tensor, heat: Tensor, target: int, steps: int, activation: Activation
) -> Tensor:
    """The target's probability while the pixels of `start` turn into those of `end`, the strongest evidence first."""
    heat = _checked(heat)
    if start.ndim != 4 or len(start) != 1 or start.shape[2:] != heat.shape:
        raise CamError(
            f"A curve takes an input (1, 3, H, W) and a map of its size; got {tuple(start.shape)}, {tuple(heat.shape)}."
        )
    if steps < 1:
        raise CamError(f"steps={steps}: at least one step is needed.")
    order = heat.flatten().argsort(descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device)).view(heat.shape)
    with untouched(module):
        graph = scores_in_graph(module, start)
    kind = check_activation(activation, own_activation(graph), type(module).__name__, graph.shape[1])
    kind = resolve_activation(kind, graph[0].detach())
    if kind is None:
        raise CamError(
            "A curve needs probabilities, but camlib knows none for these scores; if a sigmoid turns them into "
            "probabilities, pass activation='sigmoid'."
        )
    curve = []
    with torch.no_grad(), untouched(module):
        for shares in torch.linspace(0, 1, steps + 1, device="cpu").split(1 if mixes_batch(module, start) else 16):
            changed = [torch.where(rank < round(float(share) * rank.numel()), end[0], start[0]) for share in shares]
            z = scores(module, torch.stack(changed))
            p = {"softmax": z.softmax(1), "sigmoid": z.sigmoid(), "identity": z}[kind]
            curve.append(p[:, class_index(target, z.shape[1])])
    return torch.cat(curve).cpu()


def _checked(heat: Tensor) -> Tensor:
    """The map with every NaN replaced by -inf: never the peak, and 0 in the sums of positive evidence."""
    if not isinstance(heat, Tensor) or heat.ndim != 2:
        raise CamError("A heat map is a tensor (H, W).")
    if heat.isnan().all():
        raise CamError("The heat map is NaN everywhere: no part of the photo was shown to the network.")
    return heat.nan_to_num(nan=-torch.inf)


def _mask(heat: Tensor, boxes: Sequence[Box]) -> Tensor:
    """(H, W) bool: the pixels whose centre lies in one of the boxes."""
    if not len(boxes) or any(len(box) != 4 or _area(box) <= 0 for box in boxes):
        raise CamError(f"Boxes are (left, top, right, bottom) with left < right and top < bottom; got {boxes!r}.")
    y, x = (torch.arange(side, device=heat.device) + 0.5 for side in heat.shape)
    inside = [((y > top) & (y < bottom))[:, None] & ((x > left) & (x < right)) for left, top, right, bottom in boxes]
    return torch.stack(inside).any(0)


def _area(box: Box) -> float:
    left, top, right, bottom = box
    return max(right - left, 0) * max(bottom - top, 0)
