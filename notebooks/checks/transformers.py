"""Checks of chapter 14's exercises: each says what is right, or names the mistake by its values."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

SIDE = 8  # patches along each side of the grid


def class_row(function: Callable[..., Any]) -> str:
    """Exercise 1: the class token's attention to the patches, (heads, 65, 65) -> (8, 8)."""
    for heads, seed in ((3, 0), (4, 1)):
        (w,) = _weights(1, heads, seed)
        answer, message = _called(function, (w,), w)
        if message or (message := _grid_mistake(answer, w.mean(0)[0, 1:])):
            return message
        given, own = _tensor(answer), w.mean(0)[0, 1:].view(SIDE, SIDE)
        mistakes = {
            "": own,
            "rows and columns of the grid are swapped": own.T,
            "this is a column: how much the patches attend to the class token. Its own weights are a row": _cells(
                w.mean(0)[1:, 0]
            ),
            "the last token was dropped, but the class token comes first": _cells(w.mean(0)[0, :-1]),
            "this is the row of the last patch; the class token comes first": _cells(w.mean(0)[-1, 1:]),
            "this is the row of the first patch; the class token has number 0": _cells(w.mean(0)[1, 1:]),
            "the heads were added up, not averaged": heads * own,
            "this is the largest of the heads in each cell, not their mean": _cells(w[:, 0, 1:].amax(0)),
            "this is the mean over all patches' rows; take the row of the class token": _cells(
                w.mean(0)[1:, 1:].mean(0)
            ),
            "the mean over all rows was taken; take the row of the class token": _cells(w.mean((0, 1))[1:]),
            "the numbers were rescaled to add up to 1; leave them as they are": own / own.sum(),
            "the numbers were rescaled; leave them as they are": own / own.max(),
            "the numbers were stretched to 0..1; leave them as they are": (own - own.min()) / (own.max() - own.min()),
        }
        mistakes |= {f"this is head {h} alone; take the mean over the heads": _cells(w[h, 0, 1:]) for h in range(heads)}
        message = _named(given, mistakes, "The values are others than the class token's weights for the patches.")
        if message:
            return message
    return "Right: the class token's row, without its weight for itself, as a grid. It adds up to a little less than 1."


def rollout(function: Callable[..., Any]) -> str:
    """Exercise 2: attention rollout, a list of (heads, 65, 65), the first block first -> (8, 8)."""
    for blocks, heads, seed in ((3, 3, 2), (4, 2, 3)):
        ws = _weights(blocks, heads, seed)
        answer, message = _called(function, ([w.clone() for w in ws],), *ws)
        right = _product([w.mean(0) for w in ws])[0, 1:]
        if message or (message := _grid_mistake(answer, right)):
            return message
        given, own = _tensor(answer), _cells(right)
        means, n = [w.mean(0) for w in ws], ws[0].shape[1]
        bare = _product(means, halved=False, residual=False)
        each_head = torch.stack([_product([w[h] for w in ws]) for h in range(heads)]).mean(0)
        raised = [(m + torch.eye(n)).softmax(1) for m in means]
        mistakes = {
            "": own,
            "rows and columns of the grid are swapped": own.T,
            "the order of the product is reversed: the first block acts first, so it is the rightmost factor": _cells(
                _product(means[::-1])[0, 1:]
            ),
            "the residual connection is missing: average each matrix with the identity": _cells(bare[0, 1:]),
            "the rows of each factor add up to 2: halve the sum of matrix and identity": own * 2**blocks,
            "this is a column of the product; what the class token has collected is its row": _cells(
                _product(means)[1:, 0]
            ),
            "this is the last block alone; multiply all of them": _cells(means[-1][0, 1:]),
            "this is the last block alone, with its identity; multiply all of them": _cells(means[-1][0, 1:] / 2),
            "this is the first block alone": _cells(means[0][0, 1:]),
            "the matrices were averaged over the blocks; multiply them": _cells(torch.stack(means).mean(0)[0, 1:]),
            "the matrices were added up; multiply them": _cells(sum(means)[0, 1:]),
            "the matrices were multiplied cell by cell with *; the product of matrices is @": _cells(
                torch.stack([(m + torch.eye(n)) / 2 for m in means]).prod(0)[0, 1:]
            ),
            "each head was rolled out alone. Average the heads of a block first": _cells(each_head[0, 1:]),
            "this is the largest of the heads, not their mean": _cells(_product([w.amax(0) for w in ws])[0, 1:]),
            "the last token was dropped, but the class token comes first": _cells(_product(means)[0, :-1]),
            "the rows add up to 1 when you halve them; a softmax changes their values": _cells(
                _product(raised, halved=False, residual=False)[0, 1:]
            ),
            "the numbers were rescaled; leave them as they are": own / own.max(),
            "the numbers were rescaled to add up to 1; leave them as they are": own / own.sum(),
        }
        message = _named(given, mistakes, "The values are others than those of the rollout's class row.")
        if message:
            return message
    return "Right: for three and for four blocks. No class occurs in it."


def held(function: Callable[..., Any]) -> str:
    """Exercise 3: attention with its weights held, q, k, v (heads, n, d) -> (heads, n, d)."""
    for heads, n, d, seed in ((2, 5, 6, 4), (3, 7, 9, 5)):
        draw = torch.Generator().manual_seed(seed)
        q, k, v = ((1.5 * torch.randn(heads, n, d, generator=draw)).requires_grad_() for _ in range(3))
        answer, message = _called(function, (q, k, v), q.detach(), k.detach(), v.detach())
        if message or (message := _value_mistake(answer, q.detach(), k.detach(), v.detach())):
            return message
        if not answer.requires_grad:
            return "The values are right, but no gradient reaches v. Hold the weights, and nothing else."
        direction = torch.randn(heads, n, d, generator=draw)
        of_q, of_k, of_v = torch.autograd.grad(answer, (q, k, v), direction, allow_unused=True)
        moved = [name for name, g in (("q", of_q), ("k", of_k)) if g is not None and g.abs().max() > 1e-6]
        if of_v is None:
            return "The values are right, but no gradient reaches v. Hold the weights, and leave v alone."
        weights = (q.detach() @ k.detach().mT / d**0.5).softmax(2)
        if len(moved) == 2:
            return "The values are right, but the weights are not held: a gradient reaches q and k."
        if moved:
            return (
                f"The weights depend on q and on k. A gradient still reaches {moved[0]}: hold the weights themselves."
            )
        if not torch.allclose(of_v, weights.mT @ direction, atol=1e-4):
            return "The gradient of v is not that of weights @ v."
    return "Right: the same values, and a gradient for v alone. With its weights held, attention is linear."


def _value_mistake(answer: Any, q: Tensor, k: Tensor, v: Tensor) -> str:
    if answer is None or answer is ...:
        return "No answer yet: return weights @ v, a tensor with the shape of v."
    if not isinstance(answer, Tensor):
        return f"Return a tensor, which autograd can follow; this is {type(answer).__name__}."
    if answer.shape != v.shape:
        return f"The result has the shape of v, {tuple(v.shape)}; this is {tuple(answer.shape)}."
    scores, d = q @ k.mT, q.shape[2]
    mistakes = {
        "": (scores / d**0.5).softmax(2) @ v,
        "the scores are not divided by the square root of d": scores.softmax(2) @ v,
        "the scores are divided by d; divide by its square root": (scores / d).softmax(2) @ v,
        "the scores are divided by 4, right only for d = 16; take d from the shape": (scores / 4).softmax(2) @ v,
        "the softmax runs over the wrong axis: each row of weights adds up to 1": (scores / d**0.5).softmax(1) @ v,
        "the softmax runs over the heads: each row of weights adds up to 1": (scores / d**0.5).softmax(0) @ v,
        "the softmax is missing": scores / d**0.5 @ v,
        "this is v itself": v,
        "q and k are swapped": (scores.mT / d**0.5).softmax(2) @ v,
        "the weights are transposed": (scores / d**0.5).softmax(2).mT @ v,
    }
    return _named(answer.detach(), mistakes, "The values are not those of softmax(q kᵀ / √d) v.")


def _weights(blocks: int, heads: int, seed: int) -> list[Tensor]:
    """Attention weights (heads, 65, 65) for each block."""
    draw = torch.Generator().manual_seed(seed)
    return [(2 * torch.randn(heads, 1 + SIDE**2, 1 + SIDE**2, generator=draw)).softmax(2) for _ in range(blocks)]


def _product(matrices: list[Tensor], halved: bool = True, residual: bool = True) -> Tensor:
    own = torch.eye(len(matrices[0]))
    flow = own
    for m in matrices:
        m = m + own if residual else m
        flow = (m / 2 if halved else m) @ flow
    return flow


def _cells(row: Tensor) -> Tensor:
    return row.reshape(SIDE, SIDE)


def _grid_mistake(answer: Any, right: Tensor) -> str:
    """Whether an answer is a grid (8, 8) of numbers; right: its numbers in a row."""
    if answer is None or answer is ...:
        return "No answer yet: return a map, (8, 8)."
    given = _tensor(answer)
    if given is None:
        return f"Return a map (8, 8) of numbers; this is {type(answer).__name__}."
    shape = tuple(given.shape)
    if shape == (SIDE, SIDE):
        return ""
    if given.numel() == SIDE**2:
        good = _same(given.flatten(), right)
        return f"{'The numbers are right. ' if good else ''}Arrange the 64 numbers as a grid (8, 8); this is {shape}."
    if given.numel() == 1 + SIDE**2:
        return f"The map has one number for each patch; this is {shape}, with the class token itself."
    return f"The map has the shape (8, 8); this is {shape}."


def _called(function: Callable[..., Any], inputs: tuple[Any, ...], *originals: Tensor) -> tuple[Any, str]:
    """What a function returns, and what is wrong with the call itself. originals: the tensors of inputs, unchanged."""
    before = [t.clone() for t in originals]
    try:
        answer = function(*inputs)
    except Exception as e:  # whatever a learner's code raises
        return None, f"With the check's inputs it raises: {e}"
    now = [t for part in inputs for t in (part if isinstance(part, list) else [part])]
    if len(now) != len(before) or any(not torch.equal(t.detach(), old) for t, old in zip(now, before, strict=True)):
        return None, "The function changes its inputs in place, and the caller may still need them."
    return answer, ""


def _named(given: Tensor, mistakes: dict[str, Tensor], otherwise: str) -> str:
    """The first of the mistakes that gives these values; "" is the right answer."""
    for text, values in mistakes.items():
        if _same(given, values):
            return f"Not yet: {text}." if text else ""
    return otherwise


def _tensor(value: Any) -> Tensor | None:
    """Tensors, arrays and lists as a float tensor; None for anything else."""
    if isinstance(value, (list, tuple)):
        value = [part.tolist() if isinstance(part, (Tensor, np.ndarray)) else part for part in value]
    if isinstance(value, np.ndarray):
        value = value.copy()  # torch takes no negative strides, as from [::-1]
    try:
        return torch.as_tensor(value).detach().float()
    except (TypeError, ValueError, RuntimeError):
        return None


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one.float(), other.float(), rtol=1e-4, atol=1e-7)
