"""Grad-CAM and its family: unverified maps for any network and input tensor, even without GAP.

The formulas are in `camlib.methods`. For a network that ends in GAP and a linear layer, h · w · Grad-CAM is the class
activation map.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from camlib.forward_pass import CutGraph, run_forward
from camlib.hooks import Layer
from camlib.layers import find_feature_layer, locate
from camlib.methods import find_method, one_map
from camlib.outputs import Output
from camlib.targets import Target, choose_for_batch

__all__ = [
    "find_feature_layer",
    "frozen_cam",
    "grad_cam",
    "grad_cam_plus_plus",
    "gradient_map",
    "hires_cam",
    "layer_cam",
    "score_cam",
]

BatchTarget = Target | Sequence[Target]


def gradient_map(
    module: nn.Module,
    x: Tensor,
    target: BatchTarget,
    method: str,
    layer: Layer | None = None,
    relu: bool = False,
    output: Output | None = None,
    **options: Any,
) -> Tensor:
    """The map of a class by any method but "cam", including your own.

    The network runs in evaluation mode and is left as it was: flags, gradients, buffers, random numbers.

    Parameters
    ----------
    module
        Any network.
    x : (B, C, H, W)
        Its input.
    target
        A class index; a list of T class indices, all explained from one forward pass; or a tensor (B,) with one class
        index for each picture.
    method
        A name in `METHODS`.
    layer
        A name or module whose output is a feature map; None takes the last one.
    relu
        Drop the evidence against the class; otherwise the map is signed.
    output
        How to read the network's scores, see `load_model`.
    options
        Those of `score_cam`.

    Returns
    -------
    maps : (B, h, w) float32
        (B, T, h, w) for a list of T classes. In the unit of the method, see `Method`.

    Raises
    ------
    LayerError
        If there is no feature map.
    TargetError
        If there is no such class.
    ModelError
        If the network does not accept x.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 5))
    >>> gradient_map(net, torch.rand(2, 3, 8, 8), target=[1, 4], method="layer_cam").shape
    torch.Size([2, 2, 6, 6])
    """
    chosen = find_method(method)
    ran = run_forward(module, x, layer, output, hold=chosen.frozen)
    columns, single = choose_for_batch(target, ran.scores.shape[1], len(x))
    try:
        maps = [one_map(ran, chosen, indices, **options) for indices in columns]
    except CutGraph:  # a frozen backbone, perhaps
        ran = run_forward(module, x, locate(module, x, layer, output, chosen.frozen), output, hold=chosen.frozen)
        maps = [one_map(ran, chosen, indices, **options) for indices in columns]
    result = torch.stack(maps, 1)
    result = result.clamp(min=0) if relu else result
    return result[:, 0] if single else result


def grad_cam(
    module: nn.Module,
    x: Tensor,
    target: BatchTarget,
    layer: Layer | None = None,
    relu: bool = False,
    output: Output | None = None,
) -> Tensor:
    """Grad-CAM: weights each channel by its mean gradient.

    α_c = mean(G_c), map = Σ_c α_c A_c for the feature map A and its gradient G.

    Parameters
    ----------
    module, x, target, layer, relu, output
        As in `gradient_map`.

    Returns
    -------
    maps : (B, h, w) float32
        (B, T, h, w) for a list of T classes. Signed, in gradient × activation, unless relu is set.

    Raises
    ------
    LayerError, TargetError, ModelError
        As in `gradient_map`.

    References
    ----------
    Selvaraju et al. 2017, arXiv 1610.02391, equations 1 and 2.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 5))
    >>> grad_cam(net, torch.rand(2, 3, 8, 8), target=1).shape
    torch.Size([2, 6, 6])
    >>> grad_cam(net, torch.rand(2, 3, 8, 8), target=[1, 4, 0]).shape
    torch.Size([2, 3, 6, 6])
    >>> grad_cam(net, torch.rand(2, 3, 8, 8), target=torch.tensor([1, 4])).shape
    torch.Size([2, 6, 6])
    """
    return gradient_map(module, x, target, "grad_cam", layer, relu, output)


def hires_cam(
    module: nn.Module,
    x: Tensor,
    target: BatchTarget,
    layer: Layer | None = None,
    relu: bool = False,
    output: Output | None = None,
) -> Tensor:
    """HiResCAM: weights each cell by its own gradient.

    map = Σ_c G_c · A_c, cell by cell. If only a linear layer follows the flattened or pooled feature map, the sum of
    this map plus the bias is the logit.

    Parameters
    ----------
    module, x, target, layer, relu, output
        As in `gradient_map`.

    Returns
    -------
    maps : (B, h, w) float32
        (B, T, h, w) for a list of T classes. Signed, in gradient × activation, unless relu is set.

    Raises
    ------
    LayerError, TargetError, ModelError
        As in `gradient_map`.

    References
    ----------
    Draelos & Carin 2020, arXiv 2011.08891.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 5))
    >>> x = torch.rand(1, 3, 8, 8)
    >>> torch.allclose(hires_cam(net, x, 1).sum() + net[3].bias[1], net(x)[0, 1], atol=1e-5)
    True
    """
    return gradient_map(module, x, target, "hires_cam", layer, relu, output)


def layer_cam(
    module: nn.Module,
    x: Tensor,
    target: BatchTarget,
    layer: Layer | None = None,
    relu: bool = False,
    output: Output | None = None,
) -> Tensor:
    """LayerCAM: HiResCAM with positive gradients only.

    map = Σ_c max(G_c, 0) · A_c, cell by cell.

    Parameters
    ----------
    module, x, target, layer, relu, output
        As in `gradient_map`.

    Returns
    -------
    maps : (B, h, w) float32
        (B, T, h, w) for a list of T classes. In weighted activation.

    Raises
    ------
    LayerError, TargetError, ModelError
        As in `gradient_map`.

    References
    ----------
    Jiang et al. 2021, LayerCAM: Exploring Hierarchical Class Activation Maps for Localization, IEEE Transactions on
    Image Processing 30.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 5))
    >>> layer_cam(net, torch.rand(2, 3, 8, 8), target=1).shape
    torch.Size([2, 6, 6])
    """
    return gradient_map(module, x, target, "layer_cam", layer, relu, output)


def frozen_cam(
    module: nn.Module,
    x: Tensor,
    target: BatchTarget,
    layer: Layer | None = None,
    relu: bool = False,
    output: Output | None = None,
) -> Tensor:
    """The map with the network's gates held, in logits per cell: its mean plus a rest is the logit.

    Gates are what multiplies or switches: ReLUs on or off, attention weights, LayerNorm's deviation. With these held at
    their values for this input, the network is affine, and map = n · Σ_c G_c · A_c for n cells. The rest is what this
    affine network gives for an empty feature map: `camlib.explain(clf, photo, method="frozen").rest(k)`. For a network
    that ends in GAP and a linear layer, this is the class activation map, and the rest is the bias.

    Each map is verified: map and rest may miss the logit by at most `camlib.frozen.TOLERANCE` of the sum of all
    absolute terms, for example 1e-4 in float32.

    Parameters
    ----------
    module, x, target, relu, output
        As in `gradient_map`.
    layer
        None takes the last feature map. If the network has attention, it takes the last one before the first attention
        (a matrix product of two activations), among those that all of the photo's influence passes through.

    Returns
    -------
    maps : (B, h, w) float32, or float64 for a network in float64
        (B, T, h, w) for a list of T classes. In logits per cell.

    Raises
    ------
    LayerError
        As in `gradient_map`, and for a network with an operation that camlib cannot hold, such as an LSTM. It names the
        operation, unless PyTorch hides it.
    TargetError, ModelError
        As in `gradient_map`.

    References
    ----------
    camlib's own. Related: Srinivas & Fleuret 2019, arXiv 1905.00780, whose FullGrad adds bias terms to
    gradient × input; Ali et al. 2022, arXiv 2202.07304, who hold attention weights and LayerNorm's deviation in
    transformers.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 5))
    >>> frozen_cam(net, torch.rand(2, 3, 8, 8), target=1).shape
    torch.Size([2, 6, 6])
    """
    return gradient_map(module, x, target, "frozen", layer, relu, output)


def grad_cam_plus_plus(
    module: nn.Module,
    x: Tensor,
    target: BatchTarget,
    layer: Layer | None = None,
    relu: bool = False,
    output: Output | None = None,
) -> Tensor:
    """Grad-CAM++: Grad-CAM with the positive gradients weighted.

    α = G² / (2 G² + (Σ A) G³) in each cell, with the sum over the channel's cells; w_c = Σ α max(G_c, 0), map = Σ_c w_c
    A_c. The paper's score is exp(logit), which would only multiply the whole map by one positive number, so we leave
    the exponential out.

    Parameters
    ----------
    module, x, target, layer, relu, output
        As in `gradient_map`.

    Returns
    -------
    maps : (B, h, w) float32
        (B, T, h, w) for a list of T classes. In weighted activation.

    Raises
    ------
    LayerError, TargetError, ModelError
        As in `gradient_map`.

    References
    ----------
    Chattopadhyay et al. 2018, arXiv 1710.11063, equations 5, 10 and 19.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 5))
    >>> grad_cam_plus_plus(net, torch.rand(2, 3, 8, 8), target=1).shape
    torch.Size([2, 6, 6])
    """
    return gradient_map(module, x, target, "grad_cam_plus_plus", layer, relu, output)


def score_cam(
    module: nn.Module,
    x: Tensor,
    target: BatchTarget,
    layer: Layer | None = None,
    relu: bool = False,
    output: Output | None = None,
    batch: int = 32,
    progress: bool = True,
) -> Tensor:
    """Score-CAM: weights each channel by the logit of the photo masked with it. Takes C forward passes, no gradient.

    The channel, upsampled and stretched to 0..1, masks the input. The weights are the softmax over the channels of the
    masked inputs' logits. (The paper first subtracts a baseline's logit, which does not change the softmax.)

    Parameters
    ----------
    module, x, target, layer, relu, output
        As in `gradient_map`.
    batch
        Masked photos per forward pass.
    progress
        Show a progress bar.

    Returns
    -------
    maps : (B, h, w) float32
        (B, T, h, w) for a list of T classes. In weighted activation.

    Raises
    ------
    LayerError, TargetError, ModelError
        As in `gradient_map`.

    References
    ----------
    Wang et al. 2020, arXiv 1910.01279, equations 5 to 7.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 5))
    >>> score_cam(net, torch.rand(2, 3, 8, 8), target=1, progress=False).shape
    torch.Size([2, 6, 6])
    """
    return gradient_map(module, x, target, "score_cam", layer, relu, output, batch=batch, progress=progress)
