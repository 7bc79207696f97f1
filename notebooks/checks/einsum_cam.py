"""Checks of the exercises: each looks at an answer and says what is right or which mistake it shows."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

B, K, C, H, W = 2, 4, 6, 3, 5  # all different: an exchanged axis shows in the shape


def channels_last(cams: Callable[[Tensor, Tensor], Any]) -> str:
    """Chapter 04: features (B, h, w, C) and weight (K, C) -> maps (B, K, h, w)."""
    generator = torch.Generator().manual_seed(4)
    features = torch.randn(B, H, W, C, generator=generator)
    weight = torch.randn(K, C, generator=generator)
    try:
        maps = cams(features.clone(), weight.clone())
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else "no message"
        return (
            f"With features {(B, H, W, C)} and weight {(K, C)} your function stops: {type(error).__name__}: {reason} "
            "Does every axis have its letter, in the order (B, h, w, C) and (K, C)?"
        )
    if maps is None:
        return "No answer yet: put your einsum in place of None, and return its result."
    if not isinstance(maps, Tensor):
        return f"The answer is a tensor (B, K, h, w); this is a {type(maps).__name__}."
    right = torch.einsum("bhwc,kc->bkhw", features, weight)
    if maps.shape != right.shape:
        return _wrong_shape(tuple(maps.shape))
    if torch.allclose(maps, right, atol=1e-5):
        return f"Right: features {(B, H, W, C)}, weight {(K, C)}, maps {(B, K, H, W)}, and every value agrees."
    return _wrong_values(maps, right, features, weight)


def _wrong_shape(shape: tuple[int, ...]) -> str:
    known = {
        (K, H, W): "the batch axis is missing: keep b behind the arrow, and use all photos, not features[0]",
        (B, H, W): "the classes are missing: keep k behind the arrow",
        (B, H, W, K): "the classes come last: that is the layout of the features; write b, k, h, w behind the arrow",
        (B, K, W, H): "height and width are exchanged: on a 7 × 7 grid nobody would notice",
        (K, B, H, W): "batch and classes are exchanged",
        (B, K): "the cells are summed too: a letter that is missing behind the arrow is summed, so keep h and w",
        (B, K, H): "w is summed: a letter that is missing behind the arrow is summed",
        (B, K, W): "h is summed: a letter that is missing behind the arrow is summed",
        (B, K, H * W): "the cells are still one list: give them back their rows and columns",
        (B, C, H, W): "these are the channels in another order: they are not yet weighted and summed",
    }
    reason = known.get(shape, "name the axes of your result one by one: which is too much, or missing?")
    return f"The shape is {shape}, not (B, K, h, w) = {(B, K, H, W)}: {reason}."


def _wrong_values(maps: Tensor, right: Tensor, features: Tensor, weight: Tensor) -> str:
    def is_(other: Tensor) -> bool:
        return torch.allclose(maps.float(), other, atol=1e-5)

    low, high = right.amin((2, 3), keepdim=True), right.amax((2, 3), keepdim=True)
    if is_(right.relu()):
        return "The evidence against the classes is gone: no ReLU here, a map keeps its sign."
    if is_((right - low) / (high - low)):
        return "Each map is stretched to 0..1: then it is no longer in logits. Leave the values as they are."
    if is_(right / C):
        return "The values are C times too small: sum over the channels, do not average."
    if is_(torch.einsum("kd,bhwc->bkhw", weight, features)):
        return "Weights and channels are summed apart: the channel axis needs one and the same letter in both."
    if is_(torch.einsum("kc,bchw->bkhw", weight, features.reshape(B, C, H, W))):
        return "reshape does not move axes, it cuts the list of numbers anew: name the axes as they lie, b, h, w, c."
    mirrored = torch.einsum("bhwc,kc->bkwh", features, weight).reshape(B, K, H, W)
    if is_(mirrored):
        return "Height and width are exchanged, and a reshape hides it: rows and columns do not lie where they should."
    if is_(right[:1].expand_as(right)):
        return "Every photo of the batch has the map of the first: use all of features, not features[0]."
    return "The shape is right, the values are not: for each cell, the sum over the channels of weight times feature."
