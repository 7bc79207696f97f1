"""What the checks have in common: a learner's answer, in whatever form, as numbers."""

from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor


def array(answer: Any) -> np.ndarray | None:
    """Numbers, arrays, pictures, tensors and lists of them as a new float64 array; None for anything else."""
    try:
        if isinstance(answer, Tensor):
            answer = answer.detach().cpu().double().numpy()
        elif isinstance(answer, (list, tuple)):
            answer = [array(part) if isinstance(part, (list, tuple, Tensor)) else part for part in answer]
        values = np.asarray(answer)
        if values.dtype.kind == "O" and all(isinstance(value, Real) for value in values.flat):
            values = values.astype(float)  # Python's own numbers, such as fractions
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None
    if values.dtype.kind not in "biuf":  # numpy would read text as a number, and None as NaN
        return None
    return values.astype(float, order="C")


def tensor(answer: Any) -> Tensor | None:
    """The same as a float32 tensor on the CPU, outside any graph."""
    values = array(answer)
    return None if values is None else torch.from_numpy(values).float()


def not_a_function(function: Any, task: str) -> str | None:
    """What to tell a learner who passes no function; task: what the function should return. None for a function."""
    if function is None or function is ...:
        return f"No answer yet: {task}."
    return None if callable(function) else "Pass the function itself, without calling it."
