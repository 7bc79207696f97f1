"""Grad-CAM and its family: maps of networks that have no GAP, from the gradient of a logit by a feature map.

With A (C, h, w) the feature map and G = ∂ logit / ∂ A, each method is a sum over the channels of weights times A; they
differ in the weights. For a network that ends in GAP and a linear layer G is W[k] / (h · w) in every cell, so that
h · w · Grad-CAM is the class activation map. Elsewhere no identity holds, and a map is a tool without a proof.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from camlib.errors import CamError, LayerError, ModelError, TargetError, check_index
from camlib.geometry import upsample
from camlib.hooks import Layer, capture, check_network, eval_mode, forward, run_hooked

Target = int | Sequence[int]
EXTRA_TOKENS = 8  # at most so many class and register tokens stand before the tokens of the grid


def grad_cam(module: nn.Module, x: Tensor, target: Target, layer: Layer | None = None, relu: bool = False) -> Tensor:
    """Grad-CAM: each channel counts by the mean of its gradient. x (B, 3, H, W) -> (B, h, w), or (B, T, h, w).

    target: a class index, or T of them, explained from one forward pass. layer: a name or module whose output is a
    feature map; None finds the last one. Signed, unless relu=True drops what speaks against the class.

    The network is run in evaluation mode and left as it was, gradients included.

    Selvaraju et al. 2017, arXiv 1610.02391, equations 1 and 2: α_c = mean(G_c), map = Σ_c α_c A_c.

    Raises `LayerError` where there is no feature map, `TargetError`, `ModelError` where x is not taken.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 5))
    >>> grad_cam(net, torch.rand(2, 3, 8, 8), target=1).shape
    torch.Size([2, 6, 6])
    >>> grad_cam(net, torch.rand(2, 3, 8, 8), target=[1, 4]).shape
    torch.Size([2, 2, 6, 6])
    """
    return look(module, x, layer).maps("grad_cam", target, relu)


def hires_cam(module: nn.Module, x: Tensor, target: Target, layer: Layer | None = None, relu: bool = False) -> Tensor:
    """HiResCAM: each cell counts by its own gradient. Shapes, options and errors as in `grad_cam`.

    Where only a linear layer follows the feature map, flattened or pooled, its sum plus the bias is the logit.

    Draelos & Carin 2020, arXiv 2011.08891: map = Σ_c G_c · A_c, cell by cell.
    """
    return look(module, x, layer).maps("hires_cam", target, relu)


def layer_cam(module: nn.Module, x: Tensor, target: Target, layer: Layer | None = None, relu: bool = False) -> Tensor:
    """LayerCAM: as HiResCAM, without the cells whose gradient is negative. Shapes, options and errors as in `grad_cam`.

    Jiang et al. 2021, LayerCAM: Exploring Hierarchical Class Activation Maps for Localization, IEEE Transactions on
    Image Processing 30: map = Σ_c max(G_c, 0) · A_c, cell by cell.
    """
    return look(module, x, layer).maps("layer_cam", target, relu)


def grad_cam_plus_plus(
    module: nn.Module, x: Tensor, target: Target, layer: Layer | None = None, relu: bool = False
) -> Tensor:
    """Grad-CAM++: as Grad-CAM, with the positive gradients weighted. Shapes, options and errors as in `grad_cam`.

    Chattopadhyay et al. 2018, arXiv 1710.11063, equations 5, 10 and 19: α = G² / (2 G² + (Σ A) G³) in each cell, with
    the sum over the channel's cells; w_c = Σ α max(G_c, 0), map = Σ_c w_c A_c. The paper's score is exp(logit), which
    multiplies a whole map by one positive number; it is left out.
    """
    return look(module, x, layer).maps("grad_cam_plus_plus", target, relu)


def score_cam(
    module: nn.Module,
    x: Tensor,
    target: Target,
    layer: Layer | None = None,
    relu: bool = False,
    batch: int = 32,
    progress: bool = True,
) -> Tensor:
    """Score-CAM: each channel counts by the logit of the photo seen through it. No gradient; C forward passes a photo.

    Shapes, options and errors as in `grad_cam`. batch: masked photos per forward pass. progress: show a bar.

    Wang et al. 2020, arXiv 1910.01279, equations 5 to 7: the channel, upsampled and stretched to 0..1, masks the input;
    the weights are the softmax over the channels of the masked inputs' logits. (The paper subtracts a baseline's logit
    first, which a softmax does not notice.)
    """
    return look(module, x, layer).maps("score_cam", target, relu, batch=batch, progress=progress)


def _grad_cam(A: Tensor, G: Tensor) -> Tensor:
    return (G.mean((2, 3), keepdim=True) * A).sum(1)


def _hires_cam(A: Tensor, G: Tensor) -> Tensor:
    return (G * A).sum(1)


def _layer_cam(A: Tensor, G: Tensor) -> Tensor:
    return (G.clamp(min=0) * A).sum(1)


def _grad_cam_plus_plus(A: Tensor, G: Tensor) -> Tensor:
    below = 2 * G**2 + A.sum((2, 3), keepdim=True) * G**3
    alpha = torch.where(below == 0, 0, G**2 / torch.where(below == 0, 1, below))
    return ((alpha * G.clamp(min=0)).sum((2, 3), keepdim=True) * A).sum(1)


FORMULAS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    # A, G (B, C, h, w) -> (B, h, w)
    "grad_cam": _grad_cam,
    "hires_cam": _hires_cam,
    "layer_cam": _layer_cam,
    "grad_cam_plus_plus": _grad_cam_plus_plus,
}
METHODS = (*FORMULAS, "score_cam")


@dataclass(frozen=True, eq=False)
class Look:
    """One forward pass: the feature map of a layer, and the logits with the graph that leads to them from it."""

    module: nn.Module
    x: Tensor
    value: Tensor  # what the layer gave: a leaf of the graph
    logits: Tensor  # (B, K)

    @property
    def features(self) -> Tensor:
        """(B, C, h, w) float32."""
        return to_grid(self.value.detach().float(), self.x)

    def __reduce__(self) -> NoReturn:
        raise CamError(
            "An explanation by gradients holds a graph, which can be neither copied nor pickled; keep its maps."
        )

    def gradient(self, k: int) -> Tensor:
        """∂ logit_k / ∂ features: (B, C, h, w) float32, each photo's by its own logit."""
        with torch.inference_mode(False), torch.enable_grad():
            (found,) = torch.autograd.grad(self.logits[:, k].sum(), self.value, retain_graph=True)
        return to_grid(found.float(), self.x)

    def maps(self, method: str, target: Target, relu: bool = False, **options: Any) -> Tensor:
        """(B, h, w) for one class index, (B, T, h, w) for several."""
        one = not isinstance(target, Sequence) or isinstance(target, str)
        indices = [target] if one else list(target)  # type: ignore[arg-type]
        if not indices:
            raise TargetError("No targets: give at least one class index.")
        found = torch.stack([self._map(method, check_index(k, self.logits.shape[1]), **options) for k in indices], 1)
        found = found.clamp(min=0) if relu else found
        return found[:, 0] if one else found

    def _map(self, method: str, k: int, **options: Any) -> Tensor:
        if method == "score_cam":
            return _score_cam(self, k, **options)
        return FORMULAS[method](self.features, self.gradient(k))


def look(module: nn.Module, x: Tensor, layer: Layer | None = None) -> Look:
    """Run x (B, 3, H, W) through the network once, in evaluation mode; only what comes after the layer is recorded."""
    _check(module, x)
    if layer is None:
        layer = find_feature_layer(module, x)
    with torch.inference_mode(False):
        x = x.detach().clone()
        with torch.no_grad(), eval_mode(module), capture(module, layer, live=True) as seen:
            logits = forward(module, x)
            value = seen[layer]
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise ModelError(f"A classifier gives logits (B, K); {type(module).__name__} gives another output.")
    if not logits.requires_grad:
        raise LayerError(f"The logits do not depend on the output of {layer!r}, or are not differentiable by it.")
    if to_grid(value, x)[0, 0].numel() == 1:
        raise LayerError(f"The output of {layer!r} has one cell, which localises nothing; give a larger input.")
    return Look(module, x, value, logits)


def _check(module: nn.Module, x: Tensor) -> None:
    check_network(module)
    if not isinstance(x, Tensor) or x.ndim != 4 or not x.is_floating_point():
        found = f"{tuple(x.shape)} {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
        raise ModelError(f"The input is a float tensor (B, 3, H, W); got {found}.")
    if any(p.is_inference() for p in module.parameters()):
        raise ModelError("This network was made inside torch.inference_mode(), so it has no gradients.")


def _score_cam(seen: Look, k: int, batch: int = 32, progress: bool = True) -> Tensor:
    from tqdm import tqdm

    A = seen.features
    scores = A.new_empty(A.shape[:2])
    with torch.no_grad(), eval_mode(seen.module), tqdm(total=scores.numel(), unit="mask", disable=not progress) as bar:
        for photo, channels in enumerate(A):
            for start in range(0, len(channels), batch):
                masks = upsample(channels[start : start + batch, None], seen.x.shape[2:])  # (batch, 1, H, W)
                low, high = masks.amin((2, 3), keepdim=True), masks.amax((2, 3), keepdim=True)
                masks = (masks - low) / torch.where(high > low, high - low, 1)  # a constant channel masks everything
                scores[photo, start : start + batch] = forward(seen.module, seen.x[photo] * masks.to(seen.x))[:, k]
                bar.update(len(masks))
    return torch.einsum("bc,bchw->bhw", scores.softmax(1), A)


# --- which layer, and where its cells lie ----------------------------------------------------------------------------

PASSED_ON = (nn.Dropout, nn.Identity, nn.Softmax)  # whose output is no new feature map
POOLED = tuple(
    kind for name, kind in vars(nn).items() if "Pool2d" in name and isinstance(kind, type)
)  # VGG pools its last map to 7×7 whatever the photo's size


def find_feature_layer(module: nn.Module, x: Tensor) -> str:
    """The layer that Grad-CAM is for: the last one whose output is a grid of cells that the logits still depend on.

    Found by value, with one forward and one backward pass of one photo: in a vision transformer the last layers' patch
    tokens no longer reach the class token, so that their gradient is zero and an earlier layer is taken. Layers of
    pooling are passed over.

    Raises `LayerError` where there is none.

    >>> find_feature_layer(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)),
    ...                    torch.rand(1, 3, 8, 8))
    '1'
    """
    _check(module, x)
    order: list[str] = []
    reached: set[int] = set()

    def after(name: str, m: nn.Module, value: object) -> None:
        if not isinstance(value, Tensor) or not value.requires_grad or len(value) != 1:
            return
        if isinstance(m, PASSED_ON + POOLED) or (isinstance(m, nn.Linear) and value.ndim == 3):
            return  # inside an attention, a Linear gives queries, keys and values
        try:
            if to_grid(value, x)[0, 0].numel() < 2:
                return
        except LayerError:
            return
        n = len(order)
        order.append(name)

        def spread(gradient: Tensor) -> None:
            if (to_grid(gradient, x).abs().sum(1) > 0).sum() > 1:
                reached.add(n)

        value.register_hook(spread)

    with torch.inference_mode(False), torch.enable_grad():
        photo = x[:1].detach().clone().requires_grad_()
        logits = run_hooked(module, photo.clone(), lambda *_: None, after)
        if isinstance(logits, Tensor) and logits.requires_grad:
            signs = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0)).to(logits)
            torch.autograd.grad((logits * signs).sum(), photo, allow_unused=True)
    if not reached:
        raise LayerError(
            f"{type(module).__name__} has no layer whose output is a grid of cells (a feature map, or the tokens of "
            "one) on which the logits depend. Name a layer, if you know of one."
        )
    return order[max(reached)]


def to_grid(value: Tensor, x: Tensor) -> Tensor:
    """A layer's output as a feature map (B, C, h, w), for the input x (B, 3, H, W).

    Takes (B, C, h, w), channels-last (B, h, w, C), and tokens (B, extra + h · w, C) with class or register tokens
    before those of the grid. Which it is follows from the shape: a grid has the input's proportions.

    >>> x = torch.zeros(1, 3, 224, 224)
    >>> [tuple(to_grid(torch.zeros(shape), x).shape) for shape in [(1, 768, 7, 7), (1, 7, 7, 768), (1, 197, 768)]]
    [(1, 768, 7, 7), (1, 768, 7, 7), (1, 768, 14, 14)]
    """
    if value.ndim == 4 and value.is_floating_point():
        if _fits(value.shape[2:], x):
            return value
        if _fits(value.shape[1:3], x):
            return value.permute(0, 3, 1, 2)
    if value.ndim == 3 and value.is_floating_point():
        ratio = x.shape[2] / x.shape[3]
        for extra in range(min(EXTRA_TOKENS, value.shape[1] - 2) + 1):
            cells = value.shape[1] - extra
            h, w = round((cells * ratio) ** 0.5), round((cells / ratio) ** 0.5)
            if h * w == cells:
                return value[:, extra:].transpose(1, 2).unflatten(2, (h, w))
    raise LayerError(
        f"This layer gives {tuple(value.shape)} for an input of {tuple(x.shape)}, which is neither a feature map "
        "(B, C, h, w) or (B, h, w, C) nor the tokens of a grid; name an earlier layer."
    )


def _fits(grid: Sequence[int], x: Tensor) -> bool:
    """Whether a grid (h, w) has the proportions of the input; strides round up, which counts where cells are few."""
    h, w = grid
    high, wide = x.shape[2:]
    return h <= high and w <= wide and abs(h * wide - w * high) <= max(high, wide) * max(1, min(h, w) / 8)
