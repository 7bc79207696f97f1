"""One forward pass with the graph from a layer's output to the scores: the basis of every gradient method."""

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import NoReturn

import torch
from torch import Tensor, nn

from camlib.autograd import Unfrozen, constants_as_they_are, gradients, no_gradient
from camlib.errors import CamError, LayerError, ModelError
from camlib.frozen import holding, refuse_unheld, replayed
from camlib.gates import Gates
from camlib.hooks import Layer, capture
from camlib.layers import FeatureLayer, by_shape, check_input, locate, name_of
from camlib.network import batch_statistics, mixes_batch, quantised, scores, untouched
from camlib.outputs import Output


class CutGraph(LayerError):
    """No gradient reaches the layer: the scores do not depend on it, or the network cuts the graph after it."""


@dataclass(frozen=True, eq=False)
class ForwardPass:
    """The feature map of a layer, the scores, and the graph from the one to the other."""

    module: nn.Module
    x: Tensor  # (B, C, H, W)
    layer: FeatureLayer
    output: Output | None
    value: Tensor  # the layer's output: a leaf of the graph
    graph: Tensor  # scores (B, K), with the graph
    gates: Gates | None = None  # what was held, if the gradient is the one with gates held
    rest: Tensor | None = None  # (B, K): then, the scores for an empty feature map
    known: Tensor | None = None  # the gradient, if there is no graph, see `photo`

    @property
    def scores(self) -> Tensor:
        """(B, K) float32."""
        return self.graph.detach().float()

    @property
    def features(self) -> Tensor:
        """(B, C, h, w) float32: the feature map, A in the papers."""
        return self.cells(self.value).float()

    def cells(self, value: Tensor) -> Tensor:
        """(B, C, h, w) in float32 or wider: something like the layer's output, such as its gradient, by cells."""
        value = value.detach().to(torch.promote_types(value.dtype, torch.float32))
        return self.layer.grid.read(value, self.x)

    def gradient(self, indices: list[int]) -> Tensor:
        """∂ score / ∂ features, (B, C, h, w) float32, for one class of each picture. indices: the B class indices."""
        return self.cells(self.raw_gradient(indices)).float()

    def raw_gradient(self, indices: list[int]) -> Tensor:
        """∂ score / ∂ value, like the layer's output, for one class of each picture."""
        if self.known is not None:
            return self.known
        with torch.inference_mode(False), torch.enable_grad():  # regardless of the caller's mode
            own = self.graph.gather(1, torch.tensor(indices, device=self.graph.device)[:, None]).sum()
        with untouched(self.module, self.layer.restless):  # checkpointing may run parts of it again
            (gradient,) = gradients(own, [self.value], type(self.module).__name__)
        if gradient is None:
            raise CutGraph(
                f"According to autograd, the scores of {type(self.module).__name__} do not depend on the output of "
                f"{self.layer.layer!r}."
            )
        return gradient

    def photo(self, n: int, gradient: Tensor) -> "ForwardPass":
        """The results for one photo of the batch, without the graph. gradient: `raw_gradient` of the whole batch."""
        x, value, scores, known = (t.detach()[n : n + 1] for t in (self.x, self.value, self.graph, gradient))
        rest = None if self.rest is None else self.rest[n : n + 1]
        return replace(self, x=x, value=value, graph=scores, rest=rest, known=known)

    def __reduce__(self) -> NoReturn:
        raise CamError("A forward pass holds a graph, which cannot be copied or pickled; store its maps instead.")


def run_forward(
    module: nn.Module,
    x: Tensor,
    layer: Layer | FeatureLayer | None = None,
    output: Output | None = None,
    keep_weights: bool = False,
    hold: bool = False,
) -> ForwardPass:
    """Run x (B, C, H, W) through a network in evaluation mode; only what comes after the layer is recorded.

    layer: None finds the last feature map, see `camlib.layers.locate`. keep_weights: let the graph hold copies of the
    weights that it needs, so that you can still take gradients after the network has changed. hold: hold the gates, see
    `camlib.frozen`; the default layer then comes before any attention, see `camlib.layers.locate`.

    Raises `LayerError` if there is no such feature map, `ModelError` if the network does not accept x, mixes the
    pictures of a batch, or gives scores that are not finite.
    """
    check_input(module, x)
    # Trying it costs two passes: for a named layer, only where there is a reason.
    if len(x) > 1 and (layer is None or batch_statistics(module)) and mixes_batch(module, x, output):
        raise ModelError(
            f"In {type(module).__name__}, a picture's scores depend on the other pictures in its batch, so its map "
            "would, too. Explain one picture at a time: x[:1], then x[1:2], and so on."
        )
    with torch.inference_mode(False):
        x = x.detach().clone()
        if isinstance(layer, FeatureLayer):
            return _record(module, x, layer, output, keep_weights, hold)
        if layer is not None:
            attempt = _record_named(module, x, name_of(module, layer), output, keep_weights, hold)
            if attempt is not None:
                return attempt
        return _record(module, x, locate(module, x, layer, output, hold), output, keep_weights, hold)


def _record_named(
    module: nn.Module, x: Tensor, layer: str, output: Output | None, keep_weights: bool, hold: bool
) -> ForwardPass | None:
    """The pass for a named layer that runs once and whose shape leaves no doubt; None for any other layer."""
    gates = Gates(constants_as_they_are(module) if keep_weights else None) if hold else None
    with (
        torch.no_grad(),
        untouched(module) as changed,
        holding(module, layer, None, gates) if gates else nullcontext(),
        capture(module, layer, live=True) as captured,  # inside: its hook comes first
    ):
        graph = _scores(module, x, output, keep_weights)
    value = captured.get(layer)
    if value is None or len(value) != len(x) or captured.runs[layer] != 1 or not graph.requires_grad:
        return None
    grid = by_shape(module.get_submodule(layer), value, x)
    if grid is None:
        return None
    _check_finite(module, graph)
    place = FeatureLayer(layer, None, grid, restless=tuple(changed))
    return _with_rest(ForwardPass(module, x, place, output, value, graph, gates))


def _record(
    module: nn.Module, x: Tensor, layer: FeatureLayer, output: Output | None, keep_weights: bool, hold: bool
) -> ForwardPass:
    frozen = layer.frozen
    gates = Gates(constants_as_they_are(module) if keep_weights else None) if hold else None
    with (
        torch.enable_grad() if frozen else torch.no_grad(),
        untouched(module, layer.restless),
        holding(module, layer.layer, layer.call, gates) if gates else nullcontext(),
        capture(module, layer.layer, live=True, call=layer.call) as captured,  # inside: its hook comes first
        Unfrozen() if frozen else nullcontext(),  # the inner one: what the gates detach stays detached
    ):
        graph = _scores(module, x, output, keep_weights)
    _check_finite(module, graph)
    value, name = captured[layer.layer], layer.layer
    if layer.call is None and captured.runs[name] > 1:
        raise LayerError(f"{name!r} runs {captured.runs[name]} times on this input, but ran only once before.")
    if not graph.requires_grad and not frozen:
        # The layer runs inside the network's own enable_grad(), which ended the grad mode that capture had turned on.
        return _record(module, x, replace(layer, frozen=True), output, keep_weights, hold)
    if not graph.requires_grad and gates:
        raise LayerError(
            f"The output of {name!r} reaches the scores of {type(module).__name__} only through gates, such as a "
            "softmax at its end, so nothing is left for a map when they are held. Explain the network without that "
            "end, or use another method."
        )
    if not graph.requires_grad:
        raise no_gradient(module, quantised(module))
    if len(value) != len(x):
        raise LayerError(f"The output of {name!r} has {len(value)} rows for {len(x)} pictures.")
    features = layer.grid.read(value, x)
    if features[0, 0].numel() == 1:
        raise LayerError(f"The output of {name!r} has only one cell for this input; use a larger input.")
    return _with_rest(ForwardPass(module, x, layer, output, value, graph, gates))


def _check_finite(module: nn.Module, scores: Tensor) -> None:
    if not scores.isfinite().all():
        raise ModelError(
            f"The scores of {type(module).__name__} are not finite for this photo, so there is no map to draw."
        )


def _with_rest(ran: ForwardPass) -> ForwardPass:
    if ran.gates is None:
        return ran
    refuse_unheld(ran)
    rest = replayed(ran.module, ran.x, ran.layer, ran.output, ran.value, ran.gates)
    return replace(ran, rest=rest)


def _scores(module: nn.Module, x: Tensor, output: Output | None, keep_weights: bool) -> Tensor:
    with constants_as_they_are(module) if keep_weights else nullcontext():
        return scores(module, x, output)
