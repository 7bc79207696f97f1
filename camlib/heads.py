"""Find the head of a classifier by value: the feature map whose spatial mean is what the classifier reads.

No table of architectures, no names. A first forward pass notes what the classifier read; a second one looks for the
feature map whose spatial mean is just that; a third one proves `mean(map) + bias == logit`; a few more see that the
map's cells follow the photo.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from camlib.errors import HeadError
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
IN_PLACE = 0.5  # least agreement with the photo of a map whose numbers are proven: see `camlib.layers.agreement`
MOVED = 0.1  # a map that follows so much less than another with the same mean was moved, flipped or mixed
LARGEST_VECTOR = 1 << 16  # values per image: more than any classifier reads or writes after pooling

Layout = Literal["nchw", "nhwc"]
SPACE: dict[Layout, tuple[int, int]] = {"nchw": (2, 3), "nhwc": (1, 2)}
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    # functional activations that no module shows, in the order of preference
    "identity": lambda t: t,
    "relu": F.relu,
    "silu": F.silu,
    "gelu": F.gelu,
    "hardswish": F.hardswish,
    "relu6": F.relu6,
}


@dataclass(frozen=True)
class Head:
    """The end of a classifier: feature map -> global average pooling -> linear layer, verified on an input.

    weight (K, C) and bias (K,) are copies of the classifier's. Where the network pools its class scores themselves,
    as SqueezeNet does, the feature map already has a channel per class: weight is the identity matrix, bias is zero.

    Where a normalisation stands between the pooling and the classifier, weight and bias contain it. A BatchNorm is
    constant. A LayerNorm divides by the standard deviation of the photo's own channel means; the rest of it is linear.
    That one number is held: `features` divides by it, so the maps are exact, and their scale is this photo's own.
    """

    layer: str  # whose output (or input, see `inputs`) is the feature map
    inputs: bool
    layout: Layout
    activation: str  # applied to the feature map before pooling, by the network's own forward
    classifier: str | None  # None: the pooled feature map is the logits
    weight: Tensor
    bias: Tensor
    norm: str | None = None  # the normalisation between pooling and classifier
    eps: float | None = None  # of a LayerNorm; then `features` are divided by the photo's own deviation
    call: int | None = None  # which run of the layer, where it runs several times
    precision: torch.dtype = torch.float32  # the coarsest in which the network computes from map to logits
    restless: Restless = ()  # buffers that the network changes in evaluation mode
    output: Output | None = None  # how its scores are read, see `camlib.load_model`

    def __repr__(self) -> str:
        classes, channels = self.weight.shape
        return f"Head({self.layer!r} to {self.classifier!r}, {channels} channels, {classes} classes)"

    @property
    def of_this_photo(self) -> bool:
        """Whether the maps' scale holds for one photo only: maps of two photos then share no unit."""
        return self.eps is not None

    def unpooled(self, value: Tensor) -> Tensor:
        """The layer's output, as the map (B, C, h, w) that the network pools."""
        return ACTIVATIONS[self.activation](value if self.layout == "nchw" else value.permute(0, 3, 1, 2))

    def features(self, value: Tensor) -> Tensor:
        """The layer's output, as the feature map whose mean the weights take: (B, C, h, w) float32."""
        value = self.unpooled(value.float())
        if self.eps is None:
            return value
        variance = value.mean((2, 3)).var(1, correction=0)
        return value / (variance + self.eps).sqrt()[:, None, None, None]

    def run(self, module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        """One forward pass in evaluation mode: x (B, C, H, W) -> features (B, C, h, w) float32, and logits (B, K)."""
        with (
            torch.no_grad(),
            untouched(module, self.restless),
            capture(module, self.layer, inputs=self.inputs, call=self.call) as captured,
        ):
            logits = scores(module, x, self.output)
        return self.features(captured[self.layer]), logits

    def reread(self, module: nn.Module) -> "Head":
        """This head with the weights that the network has now; they are the network's own, so copy them to keep them.

        Raises `HeadError` where the layers named are gone, or no longer fit.
        """
        if self.classifier is None:
            return self
        try:
            linear = _weights(module.get_submodule(self.classifier))
            read = linear and _Read(self.classifier, linear[0].new_empty(0), *linear)
            if read and self.norm is not None:
                read = _without_norm(module.get_submodule(self.norm), self.norm, read)
        except (AttributeError, RuntimeError):  # RuntimeError: the shapes of the two no longer fit
            read = None
        if read is None:
            raise HeadError(f"The network's classifier {self.classifier!r} is no longer the one that was found.")
        return replace(self, weight=read.weight, bias=read.bias, eps=read.eps)

    def verify(self, features: Tensor, logits: Tensor, tolerance: float | None = None) -> float:
        """|mean(map) + bias - logit| / evidence; a `HeadError` where that exceeds the tolerance or is not finite.

        The evidence is the largest |logit - bias| of the picture: a large bias, as of a regression, hides no fault. The
        rounding of the logit itself is allowed for.

        tolerance: by default what the network's precision allows, 1e-4 in float32, .004 in float16, .031 in bfloat16.
        The mean of a map is the weights times the mean of the features, so this costs one small matrix product.
        """
        kinds = [logits.dtype, self.precision]
        if torch.is_autocast_enabled(logits.device.type):
            kinds.append(torch.get_autocast_dtype(logits.device.type))
        if tolerance is None:
            tolerance = max(map(_tolerance, kinds))
        rounding = 4 * max(torch.finfo(kind).eps for kind in kinds)
        logits = logits.float()
        if features.shape[2:].numel() == 1:
            raise HeadError("On this input the feature map has one cell, which localises nothing; give a larger input.")
        if not (logits.isfinite().all() and features.isfinite().all()):
            raise HeadError("The network's logits or features are not finite on this input; no map can be drawn.")
        if features.shape[1] != self.weight.shape[1] or logits.shape[1] != len(self.weight):
            raise HeadError(
                f"The classifier's weights are {tuple(self.weight.shape)}; they do not fit {features.shape[1]} "
                f"channels and {logits.shape[1]} logits."
            )
        bias = self.bias.float()
        with torch.autocast(logits.device.type, enabled=False):
            off = (features.mean((2, 3)) @ self.weight.float().T + bias - logits).abs()
        evidence = (logits - bias).abs().amax(1, keepdim=True)  # each photo's own: none hides another
        allowed = tolerance * evidence + rounding * logits.abs()
        missed = tolerance * float((off / allowed.clamp_min(1e-12)).max())
        if missed <= tolerance:  # which NaN is not
            return missed
        raise HeadError(
            f"mean(map) + bias misses the logits by {missed:.1e} of the evidence, more than {tolerance:.0e}: "
            f"the output of {self.layer!r} is not what the classifier averaged on this input."
        )


def _tolerance(dtype: torch.dtype) -> float:
    return COARSE.get(dtype, TOLERANCE)


def find_head(module: nn.Module, x: Tensor, output: Output | None = None) -> Head:
    """The verified head of a classifier.

    module: any network. x (B, C, H, W): any input that it takes, such as one photo. output: see `camlib.load_model`.

    Finds: global average pooling and a linear layer or 1×1 convolution, whatever their names, also with a LayerNorm
    (ConvNeXt) or BatchNorm between them; a convolution that is pooled afterwards (SqueezeNet); channels-last maps; an
    activation after the last layer, in place or functional, as in DenseNet.

    The identity proves the numbers, not their places, so the cells must also follow the photo (see `camlib.layers`): a
    network that mirrors or shuffles its feature map before pooling it gets the map from before that, or is refused.

    Raises `HeadError`, naming the obstacle, where no exact map exists; `ModelError` where x is not taken.

    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    >>> head = find_head(net, torch.rand(1, 3, 16, 16))
    >>> head.layer, head.classifier, head.weight.shape
    ('1', '4', torch.Size([5, 8]))
    """
    check_network(module)
    if any(p.dtype in COARSE for p in module.parameters()):
        # Search in float32: the layers are the same, and the weights' values.
        module, x = copy_of(module).float(), x.float()
    device = x.device.type if isinstance(x, Tensor) else "cpu"
    with torch.autocast(device, enabled=False), eval_mode(module):
        return _find_head(module, x, output)


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
            replace(head, precision=trace.precision, restless=restless, output=output)
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
            f"No class activation map: the output of {misplaced.layer!r} has the mean that the classifier reads, but "
            "its cells do not follow the photo's positions: they were flipped, moved or mixed, or hold one value."
        )
    raise HeadError(_obstacle(module, x, output, trace, read))


def _in_place(heads: list[Head], module: nn.Module, x: Tensor) -> set[int]:
    """Which of these heads have feature maps that follow the photo x (1, C, H, W) well; strips where no grid does.

    All have the right mean. One that was moved by a cell still follows a little, so the best of them is the measure.
    """

    def outputs(network: nn.Module, picture: Tensor) -> dict[int, Tensor]:
        values: dict[int, Tensor] = {}

        def note(name: str, call: int, value: Any, inputs: bool) -> None:
            for n, head in enumerate(heads):
                if (head.layer, head.inputs) == (name, inputs) and head.call in (None, call):
                    values[n] = head.unpooled(value).clone()

        with torch.no_grad(), untouched(network, heads[0].restless):
            run_hooked(
                network,
                picture,
                lambda name, call, _, value: note(name, call, value, False),
                lambda name, call, _, value: note(name, call, value, True),
            )
        return values

    for draws in (1, DRAWS):
        responses = {n: change.sum(1) for n, change in changes(module, x, outputs, draws).items()}
        for strips in (False, True):
            marks = {n: agreement(r) for n, r in responses.items() if (min(r.shape[1:]) == 1) == strips}
            best = max(marks.values(), default=-1.0)
            if best >= IN_PLACE:
                return {n for n, mark in marks.items() if mark >= max(IN_PLACE, best - MOVED)}
    return set()


# --- first pass: what did the classifier read? -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Step:
    """One call of a module: when, and what it is."""

    layer: str
    kind: str
    time: int
    leaf: bool
    shape: tuple[int, ...]  # of its output, () where that is not a tensor
    tokens: tuple[Tensor, Tensor] | None  # of an output (B, L, C): the first token and the mean of all, (B, C) each


@dataclass(frozen=True)
class _Linear:
    """A call of a module with a weight (K, C), or (C,) for a normalisation: what it read (B, C) and wrote."""

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
    precision = max([logits.dtype, *precisions[-2:]], key=_tolerance)  # autocast may be written into the forward
    return _Trace(steps, linears, norms, logits.float(), precision)


def _is_linear(m: nn.Module) -> bool:
    weight = getattr(m, "weight", None)
    return isinstance(weight, Tensor) and (weight.ndim == 2 or (weight.ndim == 4 and weight.shape[2:] == (1, 1)))


def _is_norm(m: nn.Module) -> bool:
    return isinstance(m, nn.LayerNorm | nn.BatchNorm1d | nn.BatchNorm2d)


class _Read(NamedTuple):
    """The classifier: its name, what it read (B, C), its weight (K, C) and bias (K,); see `Head` for norm and eps."""

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
    """The classifier with the normalisation before it contained in its weights, so that it reads the plain means."""
    readings = []
    for call in reversed(trace.norms):
        if _off(call.writes, read.vector) <= 1e-6 and call.reads.shape[1] == read.vector.shape[1]:
            without = _without_norm(module.get_submodule(call.layer), call.layer, read)
            if without:
                readings.append(without._replace(vector=call.reads))
    return readings


def _without_norm(m: nn.Module, name: str, read: _Read) -> _Read | None:
    """A classifier's reading of what a normalisation normalises.

    LayerNorm: (v - mean(v)) / deviation(v) * g + s. Without the deviation, which `Head.features` holds, the weight on v
    is W g less its mean over the channels.
    """
    like = read.weight[:1]
    gain, shift = (_or_default(getattr(m, n), d, like) for n, d in (("weight", 1.0), ("bias", 0.0)))
    if isinstance(m, nn.LayerNorm):
        weight = read.weight * gain
        weight = weight - weight.mean(1, keepdim=True)
        return read._replace(weight=weight, bias=read.bias + read.weight @ shift, norm=name, eps=m.eps)
    if not isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) or m.running_mean is None:
        return None  # the statistics of the batch itself: another map in another batch
    mean, variance = (_or_default(v, d, like) for v, d in ((m.running_mean, 0.0), (m.running_var, 1.0)))
    gain = gain / (variance + m.eps).sqrt()
    bias = read.bias + read.weight @ (shift - mean * gain)
    return read._replace(weight=read.weight * gain, bias=bias, norm=name, eps=None)


def _or_default(value: Tensor | None, default: float, like: Tensor) -> Tensor:
    """(C,): the parameter of a normalisation, or what stands for it where it has none."""
    return like.new_full(like.shape[1:], default) if value is None else value.detach().flatten().to(like)


def _off(a: Tensor, b: Tensor) -> float:
    """Largest difference relative to the largest value of b; infinite for other shapes."""
    if a.shape != b.shape:
        return float("inf")
    return float((a - b).abs().max() / b.abs().max().clamp_min(1e-12))


# --- second pass: which feature map has that mean? -------------------------------------------------------------------


def _candidates(module: nn.Module, x: Tensor, read: _Read, precision: torch.dtype, restless: Restless) -> list[Head]:
    """Heads whose pooled map is `read.vector`: grids before strips, outputs before inputs, plain before activated.

    The means are taken at the moment of the call, before a later in-place operation can change the map.
    """
    hits: list[tuple[bool, bool, int, int, Head]] = []
    runs: dict[str, int] = {}

    def test(name: str, call: int, value: Any, inputs: bool) -> None:
        if not isinstance(value, Tensor) or value.ndim != 4 or not value.is_floating_point():
            return
        tolerance = max(_tolerance(precision), _tolerance(value.dtype))
        for layout, axes in SPACE.items():
            channels = value.shape[1 if layout == "nchw" else 3]
            strip = min(value.shape[a] for a in axes) == 1  # tokens in a row have lost their places
            if channels == read.vector.shape[1] and max(value.shape[a] for a in axes) > 1:
                for rank, (act, f) in enumerate(ACTIVATIONS.items()):
                    if _off(f(value.float()).mean(axes), read.vector) < tolerance:
                        how = (name, inputs, layout, act, read.classifier, read.weight, read.bias, read.norm, read.eps)
                        hits.append((strip, inputs, rank, -len(hits), Head(*how, call=call)))

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

SILENT = {"Dropout", "Dropout1d", "Dropout2d", "Identity", "Flatten", "StochasticDepth"}  # they change no value here


def _obstacle(module: nn.Module, x: Tensor, output: Output | None, trace: _Trace, read: _Read | None) -> str:
    """The sentence that names what stands between the last feature map and the logits."""
    last = next((s for s in reversed(trace.steps) if len(s.shape) == 4 and max(s.shape[2:]) > 1), None)
    if last is None:
        return (
            "No exact class activation map: no layer of this network gives a feature map (B, C, h, w) larger than 1×1."
        )
    where = f"the last feature map ({last.layer}, {'×'.join(map(str, last.shape[1:]))})"
    if read is None:
        return (
            f"No exact class activation map: no linear layer or 1×1 convolution gives this network's output. "
            f"After {where} come: {_between(trace, last.time, len(trace.steps))}.{_cure(module, x, output)}"
        )
    for step in reversed(trace.steps):
        for n, what in enumerate(("the class token", "the mean of the tokens")):
            if step.tokens is not None and _off(step.tokens[n], read.vector) < TOLERANCE:
                return (
                    f"No class activation map: the classifier ({read.classifier}) reads {what} of {step.layer}, "
                    f"{step.shape[1]} tokens, and camlib only draws maps (B, C, h, w). {OTHERS}"
                )
    end = next(call.time for call in reversed(trace.linears) if call.layer == read.classifier)
    return (
        f"No exact class activation map: between {where} and the classifier ({read.classifier}) stand "
        f"{_between(trace, last.time, end, leave=read.classifier)}; "
        f"the classifier does not read the map's plain spatial mean. {OTHERS}"
    )


OTHERS = "Grad-CAM applies to such networks: method='grad_cam'."


def _cure(module: nn.Module, x: Tensor, output: Output | None) -> str:
    """What to do about a network whose output no linear layer gives, as the end of a sentence."""
    if layer := quantised(module):
        return f" It has quantised layers ({layer}); explain the network that it was quantised from."
    with untouched(module):
        own = own_activation(scores_in_graph(module, x, output))
    if own:
        return f" The outputs are probabilities: give the network without the {own} at its end."
    return f" {OTHERS}"


def _between(trace: _Trace, start: int, end: int, leave: str | None = None) -> str:
    steps = [s for s in trace.steps[start + 1 : end] if s.leaf and s.kind not in SILENT and s.layer != leave]
    if not steps:
        return (
            "only operations that no module shows (torch.cat, a product, another activation, a pooling that is no mean)"
        )
    named = [f"{s.kind} ({s.layer})" for s in steps]
    return ", ".join(named if len(named) <= 6 else [*named[:3], f"{len(named) - 5} more", *named[-2:]])
