"""The one place that decides how to read a network's output: as scores (B, K), and as probabilities."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from camlib.errors import ModelError

Output = Callable[[Any], Any]
"""Turns a network's output into scores (B, K), such as `lambda y: y.logits`."""

Activation = Literal["auto", "softmax", "sigmoid", "identity"] | None
"""How scores become probabilities. "identity": they already are probabilities. None: there are none (a regression)."""

ACTIVATIONS = ("auto", "softmax", "sigmoid", "identity", None)
EXTREME = 30  # a single output beyond ±30 is hardly ever log-odds (1 in 10^13); it may be an age, price or temperature
SAME_VALUES = (  # autograd nodes that do not change values: the node before them counts as the last operation
    *("View", "ReshapeAlias", "UnsafeView", "Squeeze", "Unsqueeze", "Expand", "Permute", "T", "Transpose"),
    *("ToCopy", "Clone", "Alias", "Contiguous", "Slice", "Select", "Index", "Unbind", "Split", "Detach"),
)
OWN_ACTIVATION = {"Softmax": "softmax", "Sigmoid": "sigmoid", "Hardsigmoid": "sigmoid"}
OF_PROBABILITIES = ("Clamp", "ClampMin", "ClampMax", "Cat", "Stack", "Mean", "Add", "Div", "Mul")  # e.g. their average
LINEAR = ("Addmm", "Linear", "Convolution")
AFFINE = (
    *SAME_VALUES,
    "Cat",
    "Stack",
    "Mean",
    "Sum",
    "Add",
    "Sub",
    "Rsub",
    "Neg",
    "Mul",
    "Div",
    "IndexSelect",
    "Gather",
)

Unclear = Literal["probabilities", "log-probabilities"]
"""What scores may be besides logits, if nothing tells which."""


def as_scores(output: Any, batch: int, name: str, adapter: Output | None = None) -> Tensor:
    """The scores (B, K) in a network's output.

    output: the network's output for `batch` pictures. adapter: see `Output`. Without an adapter, a tensor (B, K) is
    used as it is, a tensor (B,) gives one score for each picture, and an object or mapping gives its
    `logits` (B, K).

    Raises `ModelError` for anything else, and suggests an `output=` if it can guess one.

    >>> import torch
    >>> as_scores({"logits": torch.zeros(2, 5)}, 2, "net").shape
    torch.Size([2, 5])
    """
    given = output
    if adapter is not None:
        try:
            output = adapter(output)
        except Exception as e:  # the caller's own function
            raise ModelError(
                f"output= fails on the output of {name} ({_kind(given)}): {type(e).__name__}: {e}. It must turn that "
                "output into scores (B, K)."
            ) from e
    elif not isinstance(output, Tensor):
        logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
        output = logits if isinstance(logits, Tensor) and logits.ndim == 2 else output
    if isinstance(output, Tensor) and output.ndim == 1 and len(output) == batch:
        output = output[:, None]
    if not isinstance(output, Tensor) or output.ndim != 2:
        what = f"output= returns {_kind(output)} for {name}" if adapter else f"{name} gives {_kind(output)}"
        raise ModelError(f"{what}; scores (B, K) are needed, one row for each picture.{_advice(output)}")
    if len(output) != batch:
        raise ModelError(f"{name} gives {len(output)} rows of scores for {batch} picture{'s' * (batch != 1)}.")
    if not output.shape[1]:
        raise ModelError(f"{name} gives no scores: its output is {tuple(output.shape)}. Add a classifier to it first.")
    if not output.is_floating_point():
        raise ModelError(f"{name} gives scores of type {output.dtype}; real floating-point numbers are needed.")
    return output


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} with the keys {', '.join(map(repr, list(value)[:6]))}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"


def _advice(value: Any) -> str:
    """The output= that would probably read this value, as text to append to a message."""
    if isinstance(value, Tensor):
        shapes = {
            0: " It has lost the batch axis, perhaps through squeeze(): output=lambda y: y.reshape(-1, 1).",
            3: " For the mean over positions, output=lambda y: y.mean(1).",
            4: " For a segmentation, output=lambda y: y.mean((2, 3)), or the mean over a mask.",
        }
        return shapes.get(value.ndim, "")
    inner = "y.logits" if isinstance(getattr(value, "logits", None), Tensor) else None
    if isinstance(value, Mapping):
        inner = next((f"y[{key!r}]" for key, v in value.items() if isinstance(v, Tensor)), None)
        value = next((v for v in value.values() if isinstance(v, Tensor)), None)
    elif isinstance(value, (tuple, list)):
        inner = next((f"y[{n}]" for n, v in enumerate(value) if isinstance(v, Tensor)), None)
        value = next((v for v in value if isinstance(v, Tensor)), None)
    elif inner:
        value = value.logits
    if inner is None:
        return " Pass output=, a function that turns it into scores."
    mean = ".mean((2, 3))" if isinstance(value, Tensor) and value.ndim == 4 else ""
    return f" Pass output=, for example output=lambda y: {inner}{mean}."


def own_activation(scores: Tensor) -> Literal["softmax", "sigmoid"] | None:
    """The activation that a network ends in, from its scores (B, K) and their graph; None if there is none.

    Probabilities that are clamped, averaged or concatenated, as with several heads or an ensemble, count too.

    >>> import torch
    >>> own_activation(torch.zeros(1, 3, requires_grad=True).softmax(1)[:, :2])
    'softmax'
    """
    values = scores.detach()
    if bool((values < 0).any() or (values > 1).any()):
        return None
    if values.shape[1] > 1 and bool(((values.sum(1) - 1).abs() < 1e-4).all()):
        return "softmax"
    ends: set[str | None] = set()
    waiting, visited = [scores.grad_fn], set()
    while waiting and None not in ends:
        node = waiting.pop()
        if node in visited:
            continue
        visited.add(node)
        kind = "" if node is None else operation(node)
        behind = [] if node is None else [n for n, _ in node.next_functions if n is not None]
        if kind in OWN_ACTIVATION:
            ends.add(OWN_ACTIVATION[kind])
        elif kind == "Exp" and behind and operation(behind[0]) in ("LogSoftmax", "LogSigmoid"):
            ends.add("softmax" if operation(behind[0]) == "LogSoftmax" else "sigmoid")
        elif behind and (kind in SAME_VALUES or (kind in OF_PROBABILITIES and (kind != "Mul" or len(behind) == 1))):
            waiting += behind
        else:
            ends.add(None)
    if None in ends:
        return None
    return "softmax" if ends == {"softmax"} else "sigmoid"


def unclear(scores: Tensor) -> Unclear | None:
    """What scores (B, K), with their graph, may be besides logits; None if there is no doubt that they are logits.

    For scores that do not end in an activation that `own_activation` knows. An affine function of a linear layer has no
    bounds, so it gives logits. For a log-softmax, softmax gives the right probabilities, just as for logits.

    >>> import torch
    >>> unclear(1 - torch.zeros(1, 3, requires_grad=True).sigmoid())
    'probabilities'
    """
    values = scores.detach().float()
    log_sums = values.logsumexp(1).abs()
    log_softmax = values.shape[1] > 1 and bool((log_sums < max(1e-3, 4 * torch.finfo(scores.dtype).eps)).all())
    if log_softmax or _ends_linear(scores.grad_fn):
        return None
    return next((kind for kind in get_args(Unclear) if within(values, kind)), None)


def within(scores: Tensor, kind: Unclear) -> bool:
    """Whether no score lies where a probability, or the logarithm of one, cannot lie."""
    low, high = (0, 1) if kind == "probabilities" else (-torch.inf, 0)
    return not bool(((scores < low - 1e-4) | (scores > high + 1e-4)).any())  # NaN, as from an overflow, tells nothing


def _ends_linear(end: Any) -> bool:
    """Whether every way back from an autograd node leads through affine operations to a linear layer."""
    waiting, visited = [end], set()
    while waiting:
        node = waiting.pop()
        if node in visited:
            continue
        visited.add(node)
        kind = "" if node is None else operation(node)
        behind = [] if node is None else [n for n, _ in node.next_functions if n is not None and not _is_weight(n)]
        if kind in LINEAR or (kind == "Mm" and any(_is_transposed_weight(n) for n in behind)):
            continue
        if kind not in AFFINE or not behind or (kind in ("Mul", "Div") and len(behind) > 1):
            return False
        waiting += behind
    return True


def _is_weight(node: Any) -> bool:
    return operation(node).endswith("AccumulateGrad")


def _is_transposed_weight(node: Any) -> bool:
    """As in a linear layer without a bias, but not in probabilities times a constant matrix."""
    return operation(node) == "T" and all(n is None or _is_weight(n) for n, _ in node.next_functions)


def unclear_warning(name: str, kind: Unclear) -> str:
    """What to tell the caller if the scores of a network called `name` are unclear."""
    if kind == "probabilities":
        own = "activation='identity' if they are probabilities"
        between = "from 0 to 1"
    else:
        own = "output=lambda y: y.exp() with activation='identity' if they are the logarithms of probabilities"
        between = "of 0 or less"
    return (
        f"Even for extreme inputs, {name} gives only scores {between}, so they may not be logits, and camlib shows no "
        f"probabilities. Pass {own}, or activation='softmax' or 'sigmoid' if they are logits, or None to show none."
    )


def operation(node: Any) -> str:
    """What an autograd node differentiates: Sigmoid for SigmoidBackward0, Copy for torch::autograd::CopyBackwards."""
    name = node.name().rpartition("::")[2].rstrip("0123456789")
    return name.removesuffix("Backwards").removesuffix("Backward")


def check_activation(activation: Any, own: str | None, name: str, count: int = 2) -> Activation:
    """The activation of a network with `count` outputs that ends in `own`, see `own_activation`.

    Raises `ModelError` if the two contradict each other.
    """
    if activation not in ACTIVATIONS:
        raise ModelError(
            f"activation={activation!r}: must be 'softmax', 'sigmoid', 'identity', or None for a regression."
        )
    if activation == "softmax" and count == 1:
        raise ModelError("activation='softmax' of one score is always 1; for one output, use 'sigmoid' or None.")
    if own is None:
        return activation
    if activation in ("softmax", "sigmoid"):
        raise ModelError(
            f"{name} ends in its own {own}, so its outputs already are probabilities; leave out "
            f"activation={activation!r}, or pass the network without that {own}."
        )
    return "identity" if activation == "auto" else activation


def resolve_activation(activation: Activation, scores: Tensor) -> Activation:
    """The activation for scores (K,): "auto" becomes softmax for two or more scores, sigmoid for one.

    A single score beyond ±30 is unlikely to be the logarithm of odds, so "auto" then gives no probability. To decide
    this yourself, pass "sigmoid" or None to load_model.
    """
    if activation != "auto":
        return activation
    if len(scores) > 1:
        return "softmax"
    return "sigmoid" if abs(float(scores[0])) <= EXTREME else None


def probabilities(scores: Tensor, activation: Activation) -> Tensor | None:
    """The probabilities (K,) float64 on the CPU for scores (K,); None if they have none.

    >>> import torch
    >>> probabilities(torch.tensor([0.0]), "sigmoid")
    tensor([0.5000], dtype=torch.float64)
    """
    scores = scores.detach().cpu().double()  # the CPU first: Apple's GPU has no float64
    activation = resolve_activation(activation, scores)
    if activation is None:
        return None
    return {"softmax": lambda: scores.softmax(0), "sigmoid": scores.sigmoid, "identity": scores.clone}[activation]()


def in_words(label: str, score: float, probability: float | None) -> str:
    """A class for titles and alternative texts: its label and its probability, or its score if it has none.

    >>> in_words("tiger cat", 12.5, 0.381), in_words("age", 59.57, None)
    ('tiger cat, 38.1 %', 'age, 59.57')
    """
    return f"{label}, {score:.2f}" if probability is None else f"{label}, {100 * probability:.1f} %"
