"""Chapter 01: probabilities over a shorter list of classes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

CLASSES = [7, 2, 11]


def among(answer: Callable[[Tensor, list[int]], Any]) -> str:
    """Probabilities of some classes, in the order asked, as if the network knew no others; by hand from the logits."""
    logits = 3 * torch.randn(20, generator=torch.Generator().manual_seed(1))
    try:
        found = answer(logits.clone(), list(CLASSES))
        if found is None or found is ...:
            return "No answer yet: among returns None. Let it return one probability for each class asked for."
        found = torch.as_tensor(found, dtype=torch.float32)
        large = torch.as_tensor(answer(logits + 1000, list(CLASSES)), dtype=torch.float32)
    except Exception as e:  # whatever a learner's function raises
        return f"among raised {type(e).__name__}: {e}"
    return _fault(logits, found, large) or (
        "Right: positive, summing to one, in the order asked, and safe for large logits."
    )


def _fault(logits: Tensor, found: Tensor, large: Tensor) -> str | None:
    """What is wrong with the probabilities found for CLASSES, and for logits that are all 1000 larger."""
    chosen, everything = logits[CLASSES], logits.softmax(0)
    right = chosen.softmax(0)
    if found.shape != right.shape:
        return (
            f"{len(CLASSES)} classes were asked for, the answer has the shape {tuple(found.shape)}. "
            "Choose the classes first: logits[classes]."
        )
    if _same(found, right):
        if _same(large, right):
            return None
        return (
            "Right for small logits, but with 1000 added to each the answer is "
            f"{[round(v, 3) for v in large.tolist()]}: the exponential overflows. Subtract the largest logit first."
        )
    if _same(found, everything[CLASSES]):
        return (
            f"These are the shares among all classes: they sum to {found.sum():.2f}, not to 1. "
            "The others must not be in the denominator."
        )
    if _same(found, everything[CLASSES].softmax(0)) or _same(found, right.softmax(0)):
        return "That is a softmax of probabilities: too even. The softmax takes logits, once."
    if _same(found, chosen / chosen.sum()):
        return "Logits divided by their sum can be negative or above 1. Take the exponential of each first."
    if _same(found, chosen.log_softmax(0)):
        return "These are logarithms of probabilities; probabilities are positive."
    if _same(found.sort().values, right.sort().values):
        return "Right numbers in the wrong order: give them in the order in which the classes were asked for."
    if not _same(found.sum(), torch.tensor(1.0)):
        return f"The probabilities sum to {found.sum():.3f}, not to 1."
    return "They sum to 1, but their ratios are not exp(difference of the logits)."


def _same(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, atol=1e-5)
