"""Find the head of a classifier by value: the feature map whose spatial mean is what the classifier reads.

This needs no table of architectures and no layer names. A first forward pass records what the classifier reads. A
second one looks for the feature map with exactly this spatial mean. A third one verifies `mean(map) + bias == logit`. A
few more check that the map's cells follow the photo.
"""

import ctypes
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from camlib.errors import CamError, HeadError, ModelError
from camlib.hooks import capture
from camlib.layers import DRAWS, agreement, changes
from camlib.network import (
    RANDOM,
    Restless,
    check_network,
    copy_of,
    eval_mode,
    is_random,
    quantised,
    restless_buffers,
    run_hooked,
    scores,
    scores_in_graph,
    untouched,
)
from camlib.outputs import Output, as_scores, own_activation

TOLERANCE = 1e-4  # relative to the largest logit, at float32
COARSE = {dtype: 4 * torch.finfo(dtype).eps for dtype in (torch.float16, torch.bfloat16)}  # .004 and .031
IN_PLACE = 0.5  # the least agreement with the photo, for a map whose numbers are right: see `camlib.layers.agreement`
CLEAR, STAGES = 0.6, 24  # where the last map follows too weakly: the least agreement of an earlier one, and how many
MOVED = 0.1  # a map whose agreement is this much below that of another with the same mean was moved, flipped or mixed
SMALL = 64  # pixels: the last map of many networks has a single cell for such inputs
LARGEST_VECTOR = 1 << 16  # values per image: more than any classifier reads or writes after pooling

Layout = Literal["nchw", "nhwc"]
SPACE: dict[Layout, tuple[int, int]] = {"nchw": (2, 3), "nhwc": (1, 2)}
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    # functional activations, which do not show up as modules, in order of preference
    "identity": lambda t: t,
    "relu": F.relu,
    "silu": F.silu,
    "gelu": F.gelu,
    "hardswish": F.hardswish,
    "relu6": F.relu6,
}


@dataclass(frozen=True)
class Head:
    """The end of a classifier: feature map → global average pooling → linear layer, verified on an input.

    If the network pools the class scores themselves, as SqueezeNet does, the feature map already has one channel per
    class: weight is the identity matrix and bias is zero.

    If there is a normalisation between the pooling and the classifier, weight and bias include it. A BatchNorm is
    constant. A LayerNorm divides by the standard deviation of the photo's own channel means; the rest of it is linear.
    We treat this one number as a constant and let `features` divide by it. So the maps are exact, but their scale is
    specific to this photo.

    Attributes
    ----------
    layer
        The layer whose output is the feature map.
    inputs
        Whether it is the layer's input instead.
    layout
        "nchw", or "nhwc" for channels-last maps.
    activation
        What the network's own forward applies to the feature map before pooling, such as "relu", or "identity".
    classifier
        The name of the linear layer; None if the logits are the pooled feature map itself.
    weight : (K, C)
        A copy of the classifier's.
    bias : (K,)
        A copy of the classifier's.
    norm
        The name of the normalisation between pooling and classifier, if there is one.
    eps
        That of a LayerNorm, otherwise None.
    call
        Which run of the layer, if it runs several times.
    precision
        The coarsest type that the network uses between map and logits.
    restless
        The buffers that the network changes in evaluation mode.
    output
        How to read the network's scores, see `load_model`.
    copied
        Whether weight and bias are copies, not the network's own tensors.

    Examples
    --------
    >>> from camlib import load_model
    >>> load_model().head
    Head('bn2' to 'classifier', 1280 channels, 1000 classes)
    """

    layer: str  # the layer whose output (or input, see `inputs`) is the feature map
    inputs: bool
    layout: Layout
    activation: str  # what the network's own forward applies to the feature map before pooling
    classifier: str | None  # None: the logits are the pooled feature map itself
    weight: Tensor
    bias: Tensor
    norm: str | None = None  # the normalisation between pooling and classifier
    eps: float | None = None  # of a LayerNorm; then `features` are divided by the photo's own standard deviation
    call: int | None = None  # which run of the layer, if it runs several times
    precision: torch.dtype = torch.float32  # the coarsest type that the network uses between map and logits
    restless: Restless = ()  # buffers that the network changes in evaluation mode
    output: Output | None = None  # how to read its scores, see `camlib.load_model`
    copied: bool = False  # whether weight and bias are copies, not the network's own tensors

    def __repr__(self) -> str:
        classes, channels = self.weight.shape
        return f"Head({self.layer!r} to {self.classifier!r}, {channels} channels, {classes} classes)"

    @property
    def of_this_photo(self) -> bool:
        """Whether the maps' scale holds for one photo only. If so, maps of two photos have different units."""
        return self.eps is not None

    def unpooled(self, value: Tensor) -> Tensor:
        """Convert the layer's output to the map that the network pools.

        Parameters
        ----------
        value
            The output of the layer, or its input if `inputs` says so.

        Returns
        -------
        map : (B, C, h, w)
        """
        return ACTIVATIONS[self.activation](value if self.layout == "nchw" else value.permute(0, 3, 1, 2))

    def features(self, value: Tensor) -> Tensor:
        """Convert the layer's output to the feature map whose mean the weights multiply.

        Parameters
        ----------
        value
            The output of the layer, or its input if `inputs` says so.

        Returns
        -------
        features : (B, C, h, w) float32
        """
        value = self.unpooled(value.float())
        if self.eps is None:
            return value
        variance = value.mean((2, 3)).var(1, correction=0)
        return value / (variance + self.eps).sqrt()[:, None, None, None]

    def run(self, module: nn.Module, x: Tensor, parts: list[nn.Module] | None = None) -> tuple[Tensor, Tensor]:
        """One forward pass in evaluation mode.

        Parameters
        ----------
        module
            The network in which this head was found.
        x : (B, C, H, W)
            Its input.
        parts
            All modules of the network, if they are already known; this only saves time.

        Returns
        -------
        features : (B, C, h, w) float32
        logits : (B, K)
        """
        with (
            torch.no_grad(),
            untouched(module, self.restless, parts=parts),
            capture(module, self.layer, inputs=self.inputs, call=self.call) as captured,
        ):
            logits = scores(module, x, self.output)
        return self.features(captured[self.layer]), logits

    def current(self, module: nn.Module, features: Tensor, logits: Tensor) -> "Head":
        """This head with the network's current weights, verified on the results of `run`.

        The weights are copies, so you can store them: this head's own copies if the network still has these weights,
        otherwise new ones.

        Parameters
        ----------
        module
            The network in which this head was found.
        features, logits
            What `run` returned.

        Returns
        -------
        head : Head

        Raises
        ------
        HeadError
            If the head's layers no longer exist or no longer fit, or if the identity does not hold.
        """
        now = self._reread(module)
        now.verify(features, logits)
        if self.copied and _same(now.weight, self.weight) and _same(now.bias, self.bias) and now.eps == self.eps:
            return self
        return replace(now, weight=now.weight.clone(), bias=now.bias.clone(), copied=True)

    def _reread(self, module: nn.Module) -> "Head":
        """This head with the network's own tensors."""
        if self.classifier is None:
            return self
        try:
            classifier = module.get_submodule(self.classifier)
            with eval_mode(classifier):  # in training, reading a weight under spectral_norm changes its buffers
                linear = _weights(classifier)
            read = linear and _Read(self.classifier, linear[0].new_empty(0), *linear)
            if read and self.norm is not None:
                read = _without_norm(module.get_submodule(self.norm), self.norm, read)
        except (AttributeError, RuntimeError):  # RuntimeError: the shapes of the two no longer fit
            read = None
        if read is None:
            raise HeadError(f"The network's classifier {self.classifier!r} has changed since it was found.")
        return replace(self, weight=read.weight, bias=read.bias, eps=read.eps)

    def verify(self, features: Tensor, logits: Tensor, tolerance: float | None = None) -> float:
        """Check that the means of the maps plus the bias are the logits.

        The error is measured against what is summed for that class, Σ_c |weight[k, c]| · mean |F[c]|. So neither a
        large bias, as in a regression, nor another class with large scores hides a fault. The rounding of the logit is
        allowed for.

        Parameters
        ----------
        features : (B, C, h, w)
            From `Head.run`.
        logits : (B, K)
            The network's scores for the same input.
        tolerance
            The default depends on the network's precision: 1e-4 in float32, .004 in float16, .031 in bfloat16.

        Returns
        -------
        error : float
            An upper bound of |mean(map) + bias - logit|, as a share of what is summed.

        Raises
        ------
        HeadError
            If the error exceeds the tolerance or is not finite.
        """
        kinds = [logits.dtype, self.precision]
        if torch.is_autocast_enabled(logits.device.type):
            kinds.append(torch.get_autocast_dtype(logits.device.type))
        if tolerance is None:
            tolerance = max(map(_tolerance, kinds))
        rounding = 2 * max(torch.finfo(kind).eps for kind in kinds)
        logits = logits.float()
        if features.shape[2:].numel() == 1:
            raise HeadError("On this input the feature map has only one cell; give a larger input.")
        if features.shape[1] != self.weight.shape[1] or logits.shape[1] != len(self.weight):
            raise HeadError(
                f"The classifier's weights have the shape {tuple(self.weight.shape)}, which does not fit "
                f"{features.shape[1]} channels and {logits.shape[1]} logits."
            )
        bias = self.bias.float()
        with torch.autocast(logits.device.type, enabled=False):
            means = F.linear(features.mean((2, 3)), self.weight.float(), bias)
        off = (means - logits).abs()
        missed = off / (tolerance * (logits - bias).abs() + rounding * logits.abs()).clamp_min(1e-12)
        if not missed.max() <= 1:  # for few classes, whose terms cancel out; or NaN
            doubtful = (~(missed <= 1)).any(0).nonzero()[:, 0]
            with torch.autocast(logits.device.type, enabled=False):
                terms = features.abs().mean((2, 3)) @ self.weight[doubtful].float().abs().T
            allowed = tolerance * terms + rounding * logits[:, doubtful].abs()
            missed[:, doubtful] = off[:, doubtful] / allowed.clamp_min(1e-12)
        worst = tolerance * float(missed.max())
        if worst <= tolerance:  # False for NaN
            return worst
        if not (logits.isfinite().all() and features.isfinite().all()):
            raise HeadError("The network's logits or features are not finite on this input: there is no map to draw.")
        raise HeadError(
            f"mean(map) + bias misses the logits by {worst:.1e} of what is summed, more than {tolerance:.0e}: "
            f"the output of {self.layer!r} is not what the classifier averaged on this input."
        )


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have the same bits."""
    if (a.device, a.dtype, a.shape) != (b.device, b.dtype, b.shape):
        return False
    plain = type(a) is type(b) is Tensor and a.device.type == "cpu"  # a subclass may keep its numbers elsewhere
    if plain and a.is_contiguous() and b.is_contiguous():
        return _compare_memory()(a.data_ptr(), b.data_ptr(), a.nbytes) == 0
    return torch.equal(a, b)


@cache
def _compare_memory() -> Callable[[int, int, int], int]:
    """C's memcmp, which takes about half the time of torch.equal."""
    library = ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)
    library.memcmp.argtypes = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t
    return library.memcmp


def _tolerance(dtype: torch.dtype) -> float:
    return COARSE.get(dtype, TOLERANCE)


def find_head(module: nn.Module, x: Tensor, output: Output | None = None) -> Head:
    """Find the head of a classifier and verify it.

    It finds global average pooling and a linear layer or 1×1 convolution, whatever their names, even with a LayerNorm
    (ConvNeXt) or BatchNorm between them; a convolution that is pooled afterwards (SqueezeNet); channels-last maps; and
    an activation after the last layer, in place or functional, as in DenseNet.

    The identity verifies the numbers, but not their places. So the cells must also follow the photo (see
    `camlib.layers`). If a network mirrors or shuffles its feature map before pooling, you get the map from before that
    step, or an error.

    Parameters
    ----------
    module
        Any network.
    x : (B, C, H, W)
        Any input that it takes, such as one photo.
    output
        How to read the network's scores, see `load_model`.

    Returns
    -------
    head : Head

    Raises
    ------
    HeadError
        If there is no exact map; it names the obstacle.
    ModelError
        If the network does not accept x.

    References
    ----------
    Zhou et al. 2016, arXiv 1512.04150, equations 1 and 2, for the identity; the search is camlib's own.

    Examples
    --------
    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    >>> head = find_head(net, torch.rand(1, 3, 16, 16))
    >>> head.layer, head.classifier, head.weight.shape
    ('1', '4', torch.Size([5, 8]))
    """
    check_network(module)
    coarsest = max((p.dtype for p in module.parameters()), key=_tolerance, default=torch.float32)
    device = x.device.type if isinstance(x, Tensor) else "cpu"
    with torch.autocast(device, enabled=False), eval_mode(module):
        if coarsest in COARSE:
            try:  # in float32, where the layers and the weights' values are the same
                return replace(_search(copy_of(module).float(), x.float(), output), precision=coarsest)
            except ModelError:  # its forward casts its input to half precision
                pass
        head = _search(module, x, output)
    return replace(head, precision=max(head.precision, coarsest, key=_tolerance))


def _search(module: nn.Module, x: Tensor, output: Output | None) -> Head:
    try:
        return _find_head(module, x, output)
    except HeadError as e:
        raise _too_small(module, x, output) or e from None


def _too_small(module: nn.Module, x: Tensor, output: Output | None) -> HeadError | None:
    """The error for a network whose map has a single cell for this input, but more for a larger one."""
    h, w = x.shape[2:]
    if min(h, w) > SMALL:
        return None
    try:
        head = _find_head(module, F.interpolate(x, scale_factor=4, mode="bilinear"), output)
    except CamError:
        return None
    return HeadError(
        f"An input of {h}×{w} pixels is too small: the feature map ({head.layer}) has a single cell, so there is "
        "nothing to localise. Give a larger input: size= in load_model, or sizes= in explain."
    )


def _find_head(module: nn.Module, x: Tensor, output: Output | None) -> Head:
    restless = restless_buffers(module, x)
    trace = _watch(module, x, output, restless)
    read = _classifier(module, trace)
    classes = trace.logits.shape[1]
    one_each = torch.eye(classes, device=trace.logits.device)
    pooled_last = _Read(None, trace.logits, one_each, one_each.new_zeros(classes))  # a channel for each class
    before_norm = _before_norms(module, trace, read) if read else []
    misplaced: Head | None = None
    for reading in filter(None, (read, *before_norm, pooled_last)):
        candidates = [
            replace(head, restless=restless, output=output)
            for head in _candidates(module, x, reading, trace.precision, restless)
        ]
        placed = _in_place(candidates, module, x[:1]) if candidates else set()
        for n in sorted(range(len(candidates)), key=lambda n: n not in placed):
            try:
                candidates[n].verify(*candidates[n].run(module, x))
            except HeadError:
                continue
            if n in placed:
                return candidates[n]
            misplaced = misplaced or candidates[n]
    if is_random(module, x, output, restless):
        raise HeadError("No class activation map: " + RANDOM.format(name=type(module).__name__))
    if misplaced:
        raise HeadError(
            f"No class activation map: the output of {misplaced.layer!r} has the mean that the classifier reads, "
            "but its cells do not follow the photo's positions: they are flipped, moved or mixed, or all have the same "
            "value."
        )
    raise HeadError(_obstacle(module, x, output, trace, read))


def _in_place(heads: list[Head], module: nn.Module, x: Tensor) -> set[int]:
    """Which of these heads have maps that follow the photo x (1, C, H, W) well. Strips only count if no grid follows.

    All of them have the right mean. A map that was moved by one cell still follows the photo a little, so each is
    compared with the best one.
    """

    for draws in (1, DRAWS):
        measured = changes(module, x, lambda network, picture: _maps(heads, network, picture), draws)
        if placed := _best_placed(measured):
            return placed
    return _in_place_by_stages(heads, module, x)


def _best_placed(measured: dict[Any, Tensor]) -> set[int]:
    """The heads whose maps follow best, from how their maps change (4, C, h, w); see `_in_place`."""
    responses = {n: change.sum(1) for n, change in measured.items() if isinstance(n, int)}
    for strips in (False, True):
        marks = {n: agreement(r) for n, r in responses.items() if (min(r.shape[1:]) == 1) == strips}
        best = max(marks.values(), default=-1.0)
        if best >= IN_PLACE:
            return {n for n, mark in marks.items() if mark >= max(IN_PLACE, best - MOVED)}
    return set()


def _in_place_by_stages(heads: list[Head], module: nn.Module, x: Tensor) -> set[int]:
    """Like `_in_place`, but measured from one feature map to the next.

    In a deep network with random weights, the last map hardly depends on where something is in the photo. So we disturb
    the photo, find the last map that clearly follows it, disturb the halves of that map, and so on.
    """
    maps: dict[Any, Tensor] = _maps(heads, module, x, everywhere=True)
    stages = [key for key in maps if not isinstance(key, int)]
    stages = stages[:: len(stages) // STAGES + 1]  # in the order in which they run
    start, value = None, x
    while True:

        def outputs(network: nn.Module, disturbed: Tensor, start: Any = start, stages: Any = stages) -> dict:
            if start is None:
                found = _maps(heads, network, disturbed, everywhere=True)
            else:
                found = _maps(heads, network, x.to(disturbed), {start: disturbed}, everywhere=True)
            return {key: a for key, a in found.items() if isinstance(key, int) or key in stages}

        measured = changes(module, value, outputs, draws=2)
        if placed := _best_placed(measured):
            return placed
        stages = stages if start is None else stages[stages.index(start) + 1 :]
        clear = [s for s in stages if s in measured and agreement(measured[s].sum(1)) >= CLEAR]
        if not clear:
            return set()
        start, value = clear[-1], maps[clear[-1]]


def _maps(
    heads: list[Head],
    module: nn.Module,
    x: Tensor,
    instead: Mapping[tuple[str, int], Tensor] | None = None,
    everywhere: bool = False,
) -> dict[Any, Tensor]:
    """The heads' maps (1, C, h, w) by their position in the list. everywhere: also every other map, by (layer, call).

    instead: values that replace the outputs of some runs.
    """
    maps: dict[Any, Tensor] = {}

    def note(name: str, call: int, value: Any, inputs: bool) -> None:
        for n, head in enumerate(heads):
            if (head.layer, head.inputs) == (name, inputs) and head.call in (None, call):
                maps[n] = head.unpooled(value).clone()

    def after(name: str, call: int, _: nn.Module, value: Any) -> Tensor | None:
        note(name, call, value, False)
        if everywhere and isinstance(value, Tensor) and value.ndim == 4 and min(value.shape[2:]) > 1:
            maps[name, call] = value.clone()
        return (instead or {}).get((name, call))

    with torch.no_grad(), untouched(module, heads[0].restless):
        run_hooked(module, x, after, lambda name, call, _, value: note(name, call, value, True))
    return maps


# --- first pass: what does the classifier read? ----------------------------------------------------------------------


@dataclass(frozen=True)
class _Step:
    """One call of a module: its name and type, and when it ran."""

    layer: str
    kind: str
    time: int
    leaf: bool
    shape: tuple[int, ...]  # of its output; () if that is not a tensor
    tokens: tuple[Tensor, Tensor] | None  # for an output (B, L, C): the first token and the mean of all, (B, C) each


@dataclass(frozen=True)
class _Linear:
    """A call of a module with a weight (K, C), or (C,) for a normalisation: its input (B, C) and output."""

    layer: str
    reads: Tensor
    writes: Tensor
    time: int


@dataclass(frozen=True)
class _Trace:
    steps: list[_Step]
    linears: list[_Linear]
    norms: list[_Linear]
    logits: Tensor
    precision: torch.dtype


def _watch(module: nn.Module, x: Tensor, output: Output | None, restless: Restless) -> _Trace:
    steps: list[_Step] = []
    linears: list[_Linear] = []
    norms: list[_Linear] = []
    reads: dict[str, Tensor] = {}
    precisions: list[torch.dtype] = []

    def before(name: str, _call: int, m: nn.Module, value: Tensor) -> None:
        if (_is_linear(m) or _is_norm(m)) and value[0].numel() <= LARGEST_VECTOR:
            reads[name] = value.flatten(1).float().clone()

    def after(name: str, _call: int, m: nn.Module, value: Any) -> None:
        shape = tuple(value.shape) if isinstance(value, Tensor) else ()
        tokens = (value[:, 0].float().clone(), value.float().mean(1)) if len(shape) == 3 else None
        steps.append(_Step(name, type(m).__name__, len(steps), not any(m.children()), shape, tokens))
        if name in reads and shape and value[0].numel() <= LARGEST_VECTOR:
            calls = norms if _is_norm(m) else linears
            calls.append(_Linear(name, reads.pop(name), value.flatten(1).float().clone(), len(steps)))
            precisions.append(value.dtype)

    with torch.no_grad(), untouched(module, restless):
        logits = as_scores(run_hooked(module, x, after, before), len(x), type(module).__name__, output)
    if not torch.isfinite(logits).all():
        raise HeadError("The network's logits are not finite on this input.")
    precision = max([logits.dtype, *precisions[-2:]], key=_tolerance)  # the network's own forward may use autocast
    return _Trace(steps, linears, norms, logits.float(), precision)


def _is_linear(m: nn.Module) -> bool:
    weight = getattr(m, "weight", None)
    return isinstance(weight, Tensor) and (weight.ndim == 2 or (weight.ndim == 4 and weight.shape[2:] == (1, 1)))


def _is_norm(m: nn.Module) -> bool:
    return isinstance(m, nn.LayerNorm | nn.BatchNorm1d | nn.BatchNorm2d)


class _Read(NamedTuple):
    """The classifier: its name, its input (B, C), its weight (K, C) and bias (K,); see `Head` for norm and eps."""

    classifier: str | None
    vector: Tensor
    weight: Tensor
    bias: Tensor
    norm: str | None = None
    eps: float | None = None


def _classifier(module: nn.Module, trace: _Trace) -> _Read | None:
    """The last linear layer or 1×1 convolution whose output is the logits."""
    for call in reversed(trace.linears):
        if _off(call.writes, trace.logits) < 1e-6:
            weights = _weights(module.get_submodule(call.layer))
            if weights and weights[0].shape == (trace.logits.shape[1], call.reads.shape[1]):
                return _Read(call.layer, call.reads, weights[0].clone(), weights[1].clone())
    return None


def _weights(m: nn.Module) -> tuple[Tensor, Tensor] | None:
    """The weight (K, C) and bias (K,) of a linear layer or 1×1 convolution, as they are now."""
    if not _is_linear(m):
        return None
    weight = m.weight.detach()  # type: ignore[operator]
    weight = (weight if weight.layout == torch.strided else weight.to_dense()).flatten(1)
    bias = getattr(m, "bias", None)
    return weight, weight.new_zeros(len(weight)) if bias is None else bias.detach()


def _before_norms(module: nn.Module, trace: _Trace, read: _Read) -> list[_Read]:
    """The classifier with the normalisation before it included in its weights, so that it reads the plain means."""
    readings = []
    for call in reversed(trace.norms):
        if _off(call.writes, read.vector) <= 1e-6 and call.reads.shape[1] == read.vector.shape[1]:
            without = _without_norm(module.get_submodule(call.layer), call.layer, read)
            if without:
                readings.append(without._replace(vector=call.reads))
    return readings


def _without_norm(m: nn.Module, name: str, read: _Read) -> _Read | None:
    """The classifier as a function of the normalisation's input.

    LayerNorm: (v - mean(v)) / deviation(v) * g + s. `Head.features` divides by the deviation. Without it, the weight on
    v is W g minus its mean over the channels.
    """
    like = read.weight[:1]
    gain, shift = (_or_default(getattr(m, n), d, like) for n, d in (("weight", 1.0), ("bias", 0.0)))
    if isinstance(m, nn.LayerNorm):
        weight = read.weight * gain
        weight = weight - weight.mean(1, keepdim=True)
        return read._replace(weight=weight, bias=read.bias + read.weight @ shift, norm=name, eps=m.eps)
    if not isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) or m.running_mean is None:
        return None  # it uses the batch's own statistics, so the map would depend on the batch
    mean, variance = (_or_default(v, d, like) for v, d in ((m.running_mean, 0.0), (m.running_var, 1.0)))
    gain = gain / (variance + m.eps).sqrt()
    bias = read.bias + read.weight @ (shift - mean * gain)
    return read._replace(weight=read.weight * gain, bias=bias, norm=name, eps=None)


def _or_default(value: Tensor | None, default: float, like: Tensor) -> Tensor:
    """(C,): the parameter of a normalisation, or its default if it has none."""
    return like.new_full(like.shape[1:], default) if value is None else value.detach().flatten().to(like)


def _off(a: Tensor, b: Tensor) -> float:
    """The largest difference, relative to the largest value of b; infinite if the shapes differ."""
    if a.shape != b.shape:
        return float("inf")
    return float((a - b).abs().max() / b.abs().max().clamp_min(1e-12))


# --- second pass: which feature map has that mean? -------------------------------------------------------------------


def _candidates(module: nn.Module, x: Tensor, read: _Read, precision: torch.dtype, restless: Restless) -> list[Head]:
    """Heads whose pooled map is `read.vector`: grids before strips, outputs before inputs, plain before activated.

    The means are computed when the layer runs, before a later in-place operation can change the map.
    """
    hits: list[tuple[bool, bool, int, int, Head]] = []
    runs: dict[str, int] = {}

    def test(name: str, call: int, value: Any, inputs: bool) -> None:
        if not isinstance(value, Tensor) or value.ndim != 4 or not value.is_floating_point():
            return
        tolerance = max(_tolerance(precision), _tolerance(value.dtype))
        for layout, axes in SPACE.items():
            channels = value.shape[1 if layout == "nchw" else 3]
            strip = min(value.shape[a] for a in axes) == 1  # tokens in a row, without their places in the grid
            if channels == read.vector.shape[1] and max(value.shape[a] for a in axes) > 1:
                for rank, (act, f) in enumerate(ACTIVATIONS.items()):
                    if _off(f(value.float()).mean(axes), read.vector) < tolerance:
                        how = (name, inputs, layout, act, read.classifier, read.weight, read.bias, read.norm, read.eps)
                        coarser = max(precision, value.dtype, key=_tolerance)
                        hits.append((strip, inputs, rank, -len(hits), Head(*how, call=call, precision=coarser)))

    def before(name: str, call: int, _: nn.Module, value: Tensor) -> None:
        test(name, call, value, True)

    def after(name: str, call: int, _: nn.Module, value: Any) -> None:
        runs[name] = call + 1
        test(name, call, value, False)

    with torch.no_grad(), untouched(module, restless):
        run_hooked(module, x, after, before)
    heads = [head for *_, head in sorted(hits, key=lambda hit: hit[:4])]
    return [head if runs[head.layer] > 1 else replace(head, call=None) for head in heads]


# --- why not ---------------------------------------------------------------------------------------------------------

SILENT = {"Dropout", "Dropout1d", "Dropout2d", "Identity", "Flatten", "StochasticDepth"}  # no effect in eval mode


def _obstacle(module: nn.Module, x: Tensor, output: Output | None, trace: _Trace, read: _Read | None) -> str:
    """A sentence that names the obstacle between the last feature map and the logits."""
    last = next((s for s in reversed(trace.steps) if len(s.shape) == 4 and max(s.shape[2:]) > 1), None)
    if last is None:
        return "No exact class activation map: no layer of this network has a feature map (B, C, h, w) larger than 1×1."
    where = f"the last feature map ({last.layer}, {'×'.join(map(str, last.shape[1:]))})"
    if read is None:
        return (
            f"No exact class activation map: no linear layer or 1×1 convolution gives this network's output. These "
            f"come after {where}: {_between(trace, last.time, len(trace.steps))}.{_cure(module, x, output)}"
        )
    for step in reversed(trace.steps):
        for n, what in enumerate(("the class token", "the mean of the tokens")):
            if step.tokens is not None and _off(step.tokens[n], read.vector) < TOLERANCE:
                return (
                    f"No class activation map: the classifier ({read.classifier}) reads {what} of {step.layer}, which "
                    f"has {step.shape[1]} tokens, but camlib only draws maps (B, C, h, w). {OTHERS}"
                )
    call = next(call for call in reversed(trace.linears) if call.layer == read.classifier)
    if read.norm is None and _off(call.reads @ read.weight.float().T + read.bias.float(), call.writes) > 0.001:
        return (
            f"No exact class activation map: the output of the classifier ({read.classifier}) is not its weight times "
            "its input plus its bias, as with LoRA or fake quantisation. Merge the difference into the weight, or use "
            "method='frozen'."
        )
    return (
        f"No exact class activation map: the classifier ({read.classifier}) does not read the map's plain spatial "
        f"mean. These come between {where} and the classifier: "
        f"{_between(trace, last.time, call.time, leave=read.classifier)}. {OTHERS}"
    )


OTHERS = "For such networks, use method='frozen': the mean of its map plus a rest is the logit."


def _cure(module: nn.Module, x: Tensor, output: Output | None) -> str:
    """Advice for a network whose output does not come from a linear layer, as text to append to a message."""
    if layer := quantised(module):
        return f" It has quantised layers ({layer}); explain the network that it was quantised from."
    with untouched(module):
        own = own_activation(scores_in_graph(module, x, output))
    if own:
        return f" The outputs are probabilities: pass the network without the {own} at its end."
    return f" {OTHERS}"


def _between(trace: _Trace, start: int, end: int, leave: str | None = None) -> str:
    steps = [s for s in trace.steps[start + 1 : end] if s.leaf and s.kind not in SILENT and s.layer != leave]
    if not steps:
        return "only operations that are not modules (torch.cat, a product, another activation or pooling)"
    named = [f"{s.kind} ({s.layer})" for s in steps]
    return ", ".join(named if len(named) <= 6 else [*named[:3], f"{len(named) - 5} more", *named[-2:]])
