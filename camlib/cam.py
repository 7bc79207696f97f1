"""Class activation maps: one einsum of feature map and classifier weights, and the identity that verifies them.

For features F (C, h, w), global average pooling and a linear classifier (W, b):
`map_k = Σ_c W[k, c] · F[c]`, so `mean(map_k) + b[k] == logit_k`. Zhou et al. 2016, arXiv 1512.04150, equations 1 and 2.
"""

import torch
from torch import Tensor

from camlib.errors import CamError
from camlib.targets import class_index


def class_activation_maps(features: Tensor, weight: Tensor) -> Tensor:
    """The maps of all classes: the classifier's weights times the feature map.

    Parameters
    ----------
    features : (B, C, h, w)
        The feature map that the network averages.
    weight : (K, C)
        The weights of the linear layer that follows.

    Returns
    -------
    maps : (B, K, h, w)
        Signed, in logits: the mean over h and w, plus the bias, is the logit.

    Raises
    ------
    CamError
        If the shapes do not fit.

    References
    ----------
    Zhou et al. 2016, arXiv 1512.04150, equation 2.

    Examples
    --------
    >>> features = torch.tensor([[[[1., 0.], [0., 0.]], [[0., 0.], [0., 2.]]]])     # (B, C, h, w) = (1, 2, 2, 2)
    >>> weight = torch.tensor([[3., 0.], [1., -1.]])                                # (K, C) = (2, 2)
    >>> class_activation_maps(features, weight)
    tensor([[[[ 3.,  0.],
              [ 0.,  0.]],
    <BLANKLINE>
             [[ 1.,  0.],
              [ 0., -2.]]]])
    """
    tensors = isinstance(features, Tensor) and isinstance(weight, Tensor)
    if not tensors or features.ndim != 4 or weight.ndim != 2 or features.shape[1] != weight.shape[1]:
        kinds = [tuple(t.shape) if isinstance(t, Tensor) else type(t).__name__ for t in (features, weight)]
        raise CamError(
            f"class_activation_maps takes features (B, C, h, w) and weight (K, C) with the same C; "
            f"got {kinds[0]} and {kinds[1]}."
        )
    with torch.autocast(features.device.type, enabled=False):  # maps keep their precision inside a caller's autocast
        return torch.einsum("kc,bchw->bkhw", weight, features)


def contrast(features: Tensor, weight: Tensor, a: int, b: int) -> Tensor:
    """The evidence for class a over class b, from one map: that of the difference of the two weight rows.

    It equals `map_a - map_b`. Its mean plus `bias[a] - bias[b]` is `logit_a - logit_b`.

    Parameters
    ----------
    features : (B, C, h, w)
        The feature map that the network averages.
    weight : (K, C)
        The weights of the linear layer that follows.
    a, b
        Class indices.

    Returns
    -------
    maps : (B, h, w)
        Signed, in logits.

    Raises
    ------
    CamError
        If the shapes do not fit.
    TargetError
        If there is no such class.

    References
    ----------
    Zhou et al. 2016, arXiv 1512.04150, equation 2, for two classes.

    Examples
    --------
    >>> features = torch.tensor([[[[1., 0.]], [[0., 2.]]]])                         # (B, C, h, w) = (1, 2, 1, 2)
    >>> contrast(features, torch.tensor([[3., 0.], [1., -1.]]), 0, 1)
    tensor([[[2., 2.]]])
    """
    a, b = (class_index(k, len(weight)) for k in (a, b))
    return class_activation_maps(features, (weight[a] - weight[b])[None])[:, 0]


def residual(maps: Tensor, bias: Tensor, logits: Tensor) -> float:
    """How far the identity is off: the largest |mean(map) + bias - logit|.

    Parameters
    ----------
    maps : (B, K, h, w)
        From `class_activation_maps`.
    bias : (K,)
        The bias of the linear layer.
    logits : (B, K)
        The network's scores.

    Returns
    -------
    residual : float
        In logits; the largest over B and K.

    References
    ----------
    Zhou et al. 2016, arXiv 1512.04150, equations 1 and 2.

    Examples
    --------
    >>> maps = torch.tensor([[[[3., 0.], [0., 1.]]]])
    >>> residual(maps, torch.tensor([0.5]), torch.tensor([[1.5]]))
    0.0
    """
    return float((maps.mean((-2, -1)) + bias - logits).abs().max())
