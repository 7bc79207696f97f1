"""Find a network's feature map (which layer, which of its runs, which axes) by how its cells follow the photo.

A feature map is a grid of cells, each at the position of its part of the photo. The shape alone does not identify one:
49 tokens may be a 7×7 grid or 49 words, and (1, 64, 7, 7) may be attention. So we disturb the photo in its upper,
lower, left and right half; each cell must respond more to its own half than to the other.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import combinations
from math import log
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from camlib.autograd import Dependence, Mode, Unfrozen, bottlenecks, cut_gates, gradients, no_gradient
from camlib.errors import CamError, LayerError, ModelError
from camlib.gates import by_position
from camlib.hooks import Layer, find_layer
from camlib.network import (
    Hooks,
    Restless,
    check_network,
    copy_of,
    is_random,
    noise,
    parameters_of,
    quantised,
    restless_buffers,
    run_hooked,
    untouched,
    walk,
)
from camlib.outputs import SAME_VALUES, Output, as_scores, operation

Layout = Literal["nchw", "nhwc", "nlc", "ncl"]
Outputs = Callable[[nn.Module, Tensor], dict[Any, Tensor]]
EXTRA_TOKENS = 8  # the most class and register tokens that may precede the tokens of the grid
DISTURBANCE = 0.03  # relative to the photo's standard deviation: more would hide what a trained network responds to
AT_ONCE = 6  # layers that are tested together, from the last to the first
# The least correlation between the cells' places and the half of the photo that they respond to. First: the usual case.
# Second: few cells, or tokens with proportions unlike the photo's, where chance reaches higher values. Third: both.
AGREEMENT, FEW = (0.5, 0.8, 0.95), 16
DRAWS = 12  # how many disturbances to average if one is not conclusive
SQUASHED = (nn.Sigmoid, nn.Softmax, nn.Softmax2d, nn.Hardsigmoid)  # gates and attention weights are not feature maps
PASSED_ON = (nn.Dropout, nn.Identity)  # their output is not a new feature map
POOLED = tuple(  # VGG pools its last map to 7×7 for photos of any size
    kind for name, kind in vars(nn).items() if "Pool2d" in name and isinstance(kind, type)
)
OF_MAPS = (nn.Conv2d, nn.BatchNorm2d, *POOLED)  # layers that take maps (B, C, h, w) and nothing else


# --- how to read an output -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Grid:
    """How to read a layer's output as a feature map (B, C, h, w).

    layout: "nchw" (B, C, h, w); "nhwc" (B, h, w, C); "nlc" tokens (B, extra + h · w, C); "ncl" (B, C, h · w).
    extra: the number of class and register tokens besides those of the grid. where: their position, first, last or, as
    in Vision Mamba, in the middle. ratio: h / w of tokens, relative to that of the input.
    """

    layout: Layout = "nchw"
    extra: int = 0
    ratio: float = 1.0
    where: Literal["first", "middle", "last"] = "first"

    def read(self, value: Tensor, x: Tensor) -> Tensor:
        """A layer's output as a feature map (B, C, h, w), for the input x (B, C, H, W)."""
        if self.layout == "nchw":
            return value
        if self.layout == "nhwc":
            return value.permute(0, 3, 1, 2)
        tokens = self._without_extra(value).transpose(1, 2) if self.layout == "nlc" else value
        return tokens.unflatten(2, self._cells(tokens.shape[2], x))

    def _without_extra(self, tokens: Tensor) -> Tensor:
        """The tokens (B, L, C) of the grid."""
        cells = tokens.shape[1] - self.extra
        start = {"first": 0, "middle": cells // 2, "last": cells}[self.where]
        if start in (0, cells) or not self.extra:
            return tokens[:, self.extra :] if start == 0 else tokens[:, :cells]
        return torch.cat([tokens[:, :start], tokens[:, start + self.extra :]], 1)

    def _cells(self, count: int, x: Tensor) -> tuple[int, int]:
        """(h, w) with h · w == count, closest to the proportions that were measured."""
        wanted = self.ratio * x.shape[2] / x.shape[3]
        pairs = [(h, count // h) for h in range(1, count + 1) if count % h == 0]
        return min(pairs, key=lambda pair: abs(log(pair[0] / pair[1] / wanted)))


def readings(value: Tensor, x: Tensor) -> Iterator[Grid]:
    """The ways in which an output might be a grid of at least two cells, no finer than the input x (B, C, H, W)."""
    high, wide = x.shape[2:]
    if value.ndim == 4:
        layouts: tuple[tuple[Layout, tuple[int, ...]], ...] = (
            ("nchw", tuple(value.shape[2:])),
            ("nhwc", tuple(value.shape[1:3])),
        )
        yield from (Grid(layout) for layout, (h, w) in layouts if h * w > 1 and h <= high and w <= wide)
    if value.ndim == 3:
        for extra in range(min(EXTRA_TOKENS, value.shape[1] // 5 + 1) + 1):  # most tokens belong to the grid
            for ratio in _proportions(value.shape[1] - extra, high, wide):
                yield Grid("nlc", extra, ratio)
                if extra:
                    yield from (Grid("nlc", extra, ratio, "middle"), Grid("nlc", extra, ratio, "last"))
        yield from (Grid("ncl", 0, r) for r in _proportions(value.shape[2], high, wide))


def _proportions(cells: int, high: int, wide: int) -> Iterator[float]:
    """h / w, relative to the input's, for every h · w == cells with sides of at least 2; between 0.5 and 2."""
    for h in range(2, cells // 2 + 1):
        w = cells // h
        ratio = h / w * wide / high
        if h * w == cells and h <= high and w <= wide and 0.5 <= ratio <= 2:
            yield ratio


def by_shape(m: nn.Module, value: Tensor, x: Tensor) -> Grid | None:
    """The grid (B, C, h, w), if only this reading has the input's proportions and m cannot hold attention weights.

    For a layer that you name and that runs once, this saves the passes that `locate` needs: a call of `grad_cam` with
    layer= then costs little more than the forward pass. Returns None if the shape is ambiguous, or if m is not built
    of convolutions and its output could be attention (B, heads, L, L) or a channels-last map.
    """
    if value.ndim != 4 or len(value) != len(x) or not any(isinstance(part, OF_MAPS) for part in walk(m)):
        return None
    fitting = [grid for grid in readings(value, x) if _fits(grid.read(value, x).shape[2:], x)]
    return fitting[0] if len(fitting) == 1 and fitting[0].layout == "nchw" else None


def _fits(grid: torch.Size, x: Tensor) -> bool:
    """Whether (h, w) has the input's proportions. Strides round up, which matters if there are few cells."""
    (h, w), (high, wide) = grid, x.shape[2:]
    return abs(h * wide - w * high) <= max(high, wide) * max(1, min(h, w) / 8)


# --- does it follow the photo? ---------------------------------------------------------------------------------------


def disturbed(x: Tensor, seed: int = 0) -> list[Tensor]:
    """The photo x (1, C, H, W) with a little noise in its upper, lower, left and right half."""
    draw = torch.Generator().manual_seed(seed)
    h, w = x.shape[2:]
    coarse = noise((1, x.shape[1], (h + 7) // 8, (w + 7) // 8), draw)
    added = coarse.repeat_interleave(8, 2).repeat_interleave(8, 3)[..., :h, :w]
    added = (added + noise((1, x.shape[1], h, w), draw)).to(x)
    added = added * DISTURBANCE * max(float(x.float().std()), 0.1)
    halves = [(slice(0, h // 2), slice(None)), (slice(h // 2, h), slice(None))]
    halves += [(slice(None), slice(0, w // 2)), (slice(None), slice(w // 2, w))]
    pictures = []
    for rows, columns in halves:
        picture = x.detach().clone()
        picture[..., rows, columns] += added[..., rows, columns]
        pictures.append(picture)
    return pictures


def changes(module: nn.Module, x: Tensor, outputs: Outputs, draws: int = 1) -> dict[Any, Tensor]:
    """How much each element of some outputs changes with the upper, lower, left and right half of x: (4, …) by key.

    outputs: a function from a network and an input to tensors (1, …) by key. draws: how many disturbances to sum the
    changes over. If the changes are lost in rounding errors, as in a network whose random weights hardly let the photo
    through, they are measured again in float64.
    """
    measured, drowned = _differences(module, x, outputs, 0)
    if drowned:
        try:
            module, x = copy_of(module).cpu().double(), x.cpu().double()
            measured |= _differences(module, x, outputs, 0)[0]
        except CamError:  # a network that cannot be copied, or only computes in one type
            return measured
    for seed in range(1, draws):
        more, _ = _differences(module, x, outputs, seed)
        measured = {key: measured[key] + more[key] for key in measured if key in more}
    return measured


def _differences(module: nn.Module, x: Tensor, outputs: Outputs, seed: int) -> tuple[dict[Any, Tensor], list[Any]]:
    """The changes, see `changes`, and the keys of those that are lost in rounding errors."""
    plain = outputs(module, x)
    pictures = [outputs(module, picture) for picture in disturbed(x, seed)]
    measured, drowned = {}, []
    for key, value in plain.items():
        if all(key in picture and picture[key].shape == value.shape for picture in pictures):
            wide = torch.promote_types(value.dtype, torch.float32)
            parts = [(picture[key].detach().to(wide) - value.detach().to(wide)).abs()[0] for picture in pictures]
            measured[key] = torch.stack(parts)
            largest, rounding = max(float(part.sum()) for part in parts), torch.finfo(value.dtype).eps
            if 0 < largest < 100 * rounding * float(value.abs().sum()):
                drowned.append(key)
    return measured, drowned


def agreement(responses: Tensor) -> float:
    """How well the cells of a grid follow the photo, -1 to 1, from their responses (4, h, w) to the four halves.

    From row to row, the response must shift from the upper to the lower half; from column to column, from the left to
    the right half. The result is the smaller of the two correlations. An axis with one cell is not tested; a single
    cell gets 0.

    >>> upper_left = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    >>> halves = torch.tensor([[[1., 1.], [0., 0.]], [[0., 0.], [1., 1.]], [[1., 0.], [1., 0.]], [[0., 1.], [0., 1.]]])
    >>> agreement(halves), agreement(halves.flip(2))
    (1.0, -1.0)
    """
    top, bottom, left, right = responses.cpu().double()  # the CPU first: Apple's GPU has no float64
    h, w = top.shape
    rows, columns = (torch.ones_like(top).cumsum(axis) for axis in (0, 1))
    pairs = [(bottom - top, bottom + top, rows)] if h > 1 else []
    pairs += [(right - left, right + left, columns)] if w > 1 else []
    results = []
    for difference, total, position in pairs:
        alive = total > 0  # cells that do not respond tell us nothing
        if alive.sum() < 2:
            return -1.0
        results.append(_correlation(difference[alive] / total[alive], position[alive]))
    return min(results, default=0.0)


def follows(responses: Tensor, strict: bool = False) -> bool:
    """Whether the cells of a grid follow the photo, from their responses (4, h, w) to its halves; see `agreement`."""
    few = responses[0].numel() <= FEW
    return agreement(responses) >= AGREEMENT[few + strict]


def _correlation(a: Tensor, b: Tensor) -> float:
    a, b = a - a.mean(), b - b.mean()
    size = float(a.norm() * b.norm())
    return float(a @ b) / size if size > 1e-12 else 0.0


def best_reading(change: Tensor, x: Tensor) -> Grid | None:
    """The reading in which an output follows the photo best; None if it follows in none of them.

    change (4, …): how much each element of the output changed with the upper, lower, left and right half.
    """
    fitting = []
    for grid in readings(change[:1], x):
        responses = torch.stack([grid.read(c[None], x).sum((0, 1)) for c in change])
        stretched = abs(log(grid.ratio)) > 0.1  # rare for tokens, so we ask for stronger evidence
        if follows(responses, strict=stretched):
            fitting.append((stretched, -agreement(responses), grid))
    return min(fitting, key=lambda fit: fit[:2])[2] if fitting else None


# --- which layer -----------------------------------------------------------------------------------------------------


class Run(NamedTuple):
    """One run of a layer within a forward pass, counted from 0."""

    layer: str
    call: int


@dataclass(frozen=True)
class FeatureLayer:
    """A run of a layer whose output is a feature map of the photo, and what to take into account when running it.

    call: None if the layer runs once. frozen: the network cuts the graph after the layer (`torch.no_grad()`,
    `detach()`). recomputes: it runs parts again for the gradient (checkpointing). random: it gives different answers to
    the same input. restless: the buffers that it changes in evaluation mode; None if this is not known.
    """

    layer: str
    call: int | None
    grid: Grid
    frozen: bool = False
    recomputes: bool = False
    random: bool = False
    restless: Restless | None = ()


def find_feature_layer(module: nn.Module, x: Tensor, output: Output | None = None) -> str:
    """The name of the layer to use for Grad-CAM: the last one whose output is a feature map that the scores depend on.

    The layer is found by value, without a table of architectures. In a vision transformer, the last layers' patch
    tokens no longer reach the class token. Their gradient is zero, so an earlier layer is used.

    Parameters
    ----------
    module
        Any network.
    x : (B, C, H, W)
        An input; its first picture is used.
    output
        How to read the network's scores, see `load_model`.

    Returns
    -------
    layer : str

    Raises
    ------
    LayerError
        If there is no such layer.
    ModelError
        If the network does not accept x.

    Examples
    --------
    >>> find_feature_layer(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)),
    ...                    torch.rand(1, 3, 8, 8))
    '1'
    """
    return locate(module, x, output=output).layer


def locate(
    module: nn.Module,
    x: Tensor,
    layer: Layer | None = None,
    output: Output | None = None,
    before_attention: bool = False,
) -> FeatureLayer:
    """Find the run of a layer whose output is a feature map of the photo, and how to read it.

    layer: None takes the last layer that qualifies: the scores depend on two or more of its cells, the cells follow the
    photo, and it is neither a pooling layer nor part of a gate. A map with one channel, row or column, or a map behind
    a gate, is only taken if there is no other. If a layer runs several times, its last qualifying run is taken. If two
    runs qualify and neither feeds the other, the network sees two versions of the photo side by side, so no single run
    explains the scores: this is an error.

    before_attention: if cells attend to one another somewhere, take the last layer before that, among those that all of
    the photo's influence passes through. Attention mixes information between cells, so the cells of a later map may
    describe other parts of the photo. evidence/frozen_layer.json has measurements.

    This costs about a dozen forward passes of one picture, so store the result.

    Raises `LayerError`, with the reason, if there is no such run; `ModelError` if the network cannot be run.
    """
    check_input(module, x)
    with torch.inference_mode(False):
        x = x[:1].detach().clone()
        restless = restless_buffers(module, x)
        name = None if layer is None else name_of(module, layer)
        trace = _trace(module, x, name, output, restless)
        before_attention = before_attention and name is None
        try:
            run, grid = _choose(module, x, trace, restless, name, before_attention)
        except LayerError:
            if not trace.gated:
                raise
            trace = _trace(module, x, name, output, restless, through_gates=True)
            run, grid = _choose(module, x, trace, restless, name, before_attention)
        return FeatureLayer(
            run.layer,
            run.call if trace.runs[run.layer] > 1 else None,
            grid,
            trace.frozen,
            trace.recomputes,
            is_random(module, x, output, restless),
            restless,
        )


def check_input(module: nn.Module, x: Tensor) -> None:
    """Raise a `ModelError` unless module is a network with gradients and x a float tensor (B, C, H, W)."""
    check_network(module)
    if not isinstance(x, Tensor) or x.ndim != 4 or not x.is_floating_point() or not len(x):
        kind = f"{tuple(x.shape)} {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
        raise ModelError(f"The input must be a float tensor (B, C, H, W); got {kind}.")
    if any(p.is_inference() for p in parameters_of(module)):
        raise ModelError(
            "This network was made inside torch.inference_mode(), so it has no gradients; create or load it outside."
        )


def name_of(module: nn.Module, layer: Layer) -> str:
    """The name of a layer given by name or as a module. Raises `LayerError` if the network has no such layer."""
    target = find_layer(module, layer)
    return next(name for name, m in module.named_modules() if m is target)


@dataclass
class _Trace:
    """The findings of one forward and backward pass."""

    runs: dict[str, int]  # how often each layer ran
    reached: dict[Run, Tensor]  # (1, …) bool: which elements of the output the scores depend on, in order
    values: dict[Run, Tensor]  # those outputs, in the graph
    reasons: dict[Run, str]  # why a run's output cannot be a feature map
    frozen: bool = False
    recomputes: bool = False
    gated: bool = False  # no gradient passed through its gates
    before_attention: list[Run] | None = None  # where cells attend to one another: the runs before, see `locate`
    inference: bool = False  # layers ran in torch.inference_mode

    def feeds(self, a: Run, b: Run, name: str) -> bool:
        """Whether the later of two runs of a layer depends on the output of the earlier one."""
        first, second = sorted((a, b))
        return gradients(self.values[second].sum(), [self.values[first]], name)[0] is not None


def _trace(
    module: nn.Module,
    x: Tensor,
    only: str | None,
    output: Output | None,
    restless: Restless,
    through_gates: bool = False,
) -> _Trace:
    through_gates = through_gates or only is not None
    trace = _differentiate(module, x, only, output, restless, through_gates, frozen=False)
    if not trace.reached:  # a frozen backbone in the network's own forward cuts the graph
        trace = _differentiate(module, x, only, output, restless, through_gates, frozen=True)
    return trace


def _differentiate(
    module: nn.Module,
    x: Tensor,
    only: str | None,
    output: Output | None,
    restless: Restless,
    through_gates: bool,
    frozen: bool,
) -> _Trace:
    trace = _Trace({}, {}, {}, {}, frozen)
    reached = trace.reached  # hooks that held the trace, and with it the graph, would never be freed

    earlier: dict[Run, Any] = {}

    def after(name: str, call: int, m: nn.Module, value: Any) -> Tensor | None:
        trace.runs[name] = call + 1
        trace.inference |= isinstance(value, Tensor) and value.is_inference()
        if only in (None, name):
            run = Run(name, call)
            if reason := _unfit(m, value, by_name=only is not None):
                trace.reasons[run] = reason
            elif value.requires_grad:
                trace.values[run] = value
                if not attention.found:
                    earlier[run] = value.grad_fn
                value.register_hook(lambda gradient: _note(reached, run, gradient))
                if operation(value.grad_fn) in SAME_VALUES:  # adding to a view in place would drop its hook
                    return value.clone()
        return None

    with untouched(module, restless), torch.enable_grad(), Unfrozen() if frozen else nullcontext():
        photo = x.clone().requires_grad_()
        shown = photo * 1
        attention = Attention(shown)
        with attention:
            scores = as_scores(run_hooked(module, shown, after), 1, type(module).__name__, output)
        if not scores.requires_grad:
            if frozen:
                raise no_gradient(module, quantised(module), trace.inference)
            return trace
        if attention.found:
            passed = bottlenecks(shown, scores)
            trace.before_attention = [run for run, node in earlier.items() if node in passed]
        trace.gated = not through_gates and cut_gates(scores)
        signs = noise(scores.shape).to(scores)
        again: list[nn.Module] = []
        with Hooks() as hooks:
            for part in module.modules():
                hooks.before(part, lambda m, *_: again.append(m))
            gradients((scores * signs).sum(), [photo], type(module).__name__)
    trace.recomputes = bool(again)
    trace.reached = {run: reached[run] for run in trace.values if run in reached}
    return trace


class Attention(Mode):
    """Detects attention between cells of a photo x: PyTorch's own functions, or a matrix product of two activations.

    Activations are tensors that depend on x. A product with a single row or column does not count.
    """

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.found = False
        self._depends = Dependence(x)

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "").strip("_")
        if not self.found and name in ATTENTION:
            args, _ = by_position(name, args, kwargs or {})
            args = args[1:] if name in ADDED else args
            factors = [a for arg in args for a in (arg if isinstance(arg, (list, tuple)) else (arg,))]
            activations = [a for a in factors if isinstance(a, Tensor) and a.requires_grad and self._depends(a)]
            if len(activations) > 1:
                product = name not in PRODUCTS or (min(a.ndim for a in activations) > 1 and _is_matrix(result))
                self.found = product and (name != "einsum" or _mixes(factors[0]))
        return result


def _is_matrix(value: Tensor) -> bool:
    return value.ndim > 1 and min(value.shape[-2:]) > 1


def _mixes(equation: Any) -> bool:
    """Whether an einsum sums over an axis that two factors share, and keeps an axis of its own of each of them.

    >>> _mixes("bid,bjd->bij"), _mixes("bchw,bc->bchw"), _mixes("bchw,bc->bhw")
    (True, False, False)
    """
    if not isinstance(equation, str):
        return True
    given, arrow, kept = equation.replace(" ", "").replace("...", "").partition("->")
    axes = [set(factor) for factor in given.split(",")]
    result = set(kept) if arrow else {axis for axis in given if given.count(axis) == 1}
    return any((a & b) - result and (a - b) & result and (b - a) & result for a, b in combinations(axes, 2))


ADDED = ("addmm", "baddbmm", "addbmm")  # their first argument is not a factor
PRODUCTS = ("matmul", "mm", "bmm", *ADDED, "linear", "inner", "tensordot", "einsum", "chain_matmul", "linalg_multi_dot")
ATTENTION = (*PRODUCTS, "scaled_dot_product_attention", "multi_head_attention_forward")


def _note(reached: dict[Run, Tensor], run: Run, gradient: Tensor | None) -> None:
    if gradient is not None:  # None: the later operations pass no gradient back
        reached[run] = gradient != 0


def _unfit(m: nn.Module, value: Any, by_name: bool) -> str | None:
    """Why an output cannot be a feature map, as the rest of a sentence "its output …"; None if it can be one."""
    if not isinstance(value, Tensor):
        return f"is a {type(value).__name__}, not one tensor"
    if value.ndim not in (3, 4) or not value.is_floating_point():
        return f"has the shape {tuple(value.shape)} and type {value.dtype}, which is not a grid of cells"
    if len(value) != 1:
        return f"has {len(value)} rows for one picture: the network cuts it up, repeats it or adds other rows"
    if by_name:
        return None
    node = value.grad_fn.name() if value.grad_fn is not None else ""
    if isinstance(m, SQUASHED + PASSED_ON + POOLED) or node.startswith(("Sigmoid", "Softmax", "Hardsigmoid")):
        return "is a gate, a pooling or passed on"
    if isinstance(m, nn.Linear) and value.ndim == 3:
        return "holds queries, keys or values"
    return None


def _choose(
    module: nn.Module,
    x: Tensor,
    trace: _Trace,
    restless: Restless,
    only: str | None,
    before_attention: bool,
) -> tuple[Run, Grid]:
    """The last run that qualifies, see `locate`."""
    before = trace.before_attention if before_attention else None
    order = [run for run in reversed(trace.reached) if before is None or run in before]
    grids: dict[Run, Grid | None] = {}
    doubtful: set[Run] = set()
    second_choice: tuple[Run, Grid] | None = None
    side_by_side: list[str] = []
    for run in order:
        if run not in grids:
            waiting = [r for r in order if r not in grids][:AT_ONCE]
            grids |= _grids(module, x, waiting, restless, doubtful)
        if run in doubtful:
            grids |= _grids(module, x, [run], restless, set(), DRAWS)
        grid = grids[run]
        reached = trace.reached[run]
        shut = only is not None and not reached.any()  # all ReLUs after a named layer are shut: its gradient is zero
        if grid is None or (int(grid.read(reached, x).any(1).sum()) < 2 and not shut):
            continue
        others = [r for r in order if r.layer == run.layer and r != run]
        grids |= _grids(module, x, [r for r in others if r not in grids], restless, doubtful)
        name = type(module).__name__
        if any(grids[r] and not trace.feeds(r, run, name) for r in others):
            side_by_side.append(run.layer)
            continue
        _, channels, h, w = grid.read(trace.reached[run], x).shape
        if only is not None or (channels > 1 and min(h, w) > 1):
            return run, grid
        second_choice = second_choice or (run, grid)
    if second_choice:
        return second_choice
    if before is not None and any(bool(t.any()) for t in trace.reached.values()):
        raise LayerError(
            f"In {type(module).__name__}, no layer before the first attention gives a feature map that all of the "
            "photo's influence passes through. Name a layer."
        )
    layer = quantised(module)
    if not trace.reached and (layer or trace.inference):
        raise no_gradient(module, layer, trace.inference)
    raise LayerError(_why_not(module, x, trace, only, side_by_side))


def _grids(
    module: nn.Module, x: Tensor, runs: list[Run], restless: Restless | None, doubtful: set[Run], draws: int = 1
) -> dict[Run, Grid | None]:
    """The grid in which the output of each run follows the photo; None if it does not.

    Maps that follow the photo too weakly are added to doubtful. More draws may show that they do follow it.
    """
    if not runs:
        return {}
    measured = changes(module, x, lambda network, picture: _outputs(network, picture, runs, restless), draws)
    grids = {run: best_reading(measured[run], x) if run in measured else None for run in runs}
    maps = (run for run, grid in grids.items() if grid is None and run in measured and measured[run].ndim == 4)
    doubtful.update(run for run in maps if agreement(measured[run].sum(1)) > 0)
    return grids


def _outputs(module: nn.Module, x: Tensor, runs: list[Run], restless: Restless | None) -> dict[Run, Tensor]:
    values: dict[Run, Tensor] = {}

    def after(name: str, call: int, _: nn.Module, value: Any) -> None:
        if (run := Run(name, call)) in wanted:
            values[run] = value.clone()

    wanted = set(runs)
    with torch.no_grad(), untouched(module, restless):
        run_hooked(module, x, after)
    return values


def _why_not(module: nn.Module, x: Tensor, trace: _Trace, only: str | None, side_by_side: list[str]) -> str:
    """A message that says why no layer, or not the named one, gives a feature map."""
    name = type(module).__name__
    if side_by_side:
        layers = ", ".join(dict.fromkeys(side_by_side[:3]))
        return (
            f"{name} runs {layers} {trace.runs[side_by_side[0]]} times, side by side on one photo (as in test-time "
            "augmentation, a Siamese network or several crops), so no single run explains the scores. Explain the "
            "network inside, or name a layer after the point where the runs are combined."
        )
    if only is None:
        return _none_at_all(name, x, trace)
    if only not in trace.runs:
        return f"{name} does not run its layer {only!r} on this input."
    reason = next((text for run, text in trace.reasons.items() if run.layer == only), None)
    runs = f", which runs {trace.runs[only]} times," if trace.runs[only] > 1 else ""
    if trace.reached:
        shapes = " and ".join(str(tuple(t.shape)) for t in trace.reached.values())
        return (
            f"The output of {only!r}{runs} is no feature map of the photo: its shape is {shapes} for an input of "
            f"{tuple(x.shape)}, and no two of its cells both follow the photo's positions and affect the scores: there "
            "are too few cells, or they are flipped, turned or mixed. Name an earlier layer, or give a larger input."
        )
    if reason:
        return f"The output of {only!r}{runs} {reason}. Name another layer."
    return f"The scores of {name} do not depend on the output of {only!r}{runs} for this photo."


def _none_at_all(name: str, x: Tensor, trace: _Trace) -> str:
    rows = [text for text in trace.reasons.values() if "rows for one picture" in text]
    if not trace.reached and rows:
        return (
            f"{name} has no feature map of the photo as a whole: the output of its layers {rows[-1]}. Explain the "
            "inner network instead, with one piece of the photo at a time."
        )
    if not trace.reached:
        return f"No layer of {name} gives a grid of cells (B, C, h, w) or tokens on which the scores depend."
    if not any(bool(t.any()) for t in trace.reached.values()):
        return (
            f"The scores of {name} have no gradient on this input: they are rounded, clipped or saturated somewhere, "
            "or the last layer's weights are all zero, as before any training. "
            "Use a method that needs no gradient: score_cam, or cam if the network has an exact map."
        )
    layers = ", ".join(f"{run.layer} {tuple(t.shape)}" for run, t in list(trace.reached.items())[:-4:-1])
    return (
        f"No layer of {name} gives a feature map of the photo (input {tuple(x.shape)}): the scores depend on {layers}"
        f"{' and others' if len(trace.reached) > 3 else ''}, but their cells do not follow the photo's positions: they "
        "are too few, or the network flips, turns or mixes them. Give a larger input, or explain only the part of the "
        "network after that step."
    )
