"""A learner's answer is read as numbers in every form that numbers come in, and in no other."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from checks.answers import array, not_a_function, tensor
from PIL import Image

NUMBERS = [
    ("a number", 2.5, 2.5),
    ("a whole number", 3, 3.0),
    ("a truth value", True, 1.0),
    ("a list", [1, 2.5], [1.0, 2.5]),
    ("a tuple of lists", ([1, 2], [3, 4]), [[1.0, 2.0], [3.0, 4.0]]),
    ("an empty list", [], []),
    ("an array", np.array([1, 2], np.uint8), [1.0, 2.0]),
    ("an array of Python's numbers", np.array([1, 2.5], object), [1.0, 2.5]),
    ("fractions", [Fraction(1, 2), Fraction(3)], [0.5, 3.0]),
    ("a NumPy number", np.float32(0.5), 0.5),
    ("an array with negative strides", np.array([[1, 2], [3, 4]])[::-1, ::-1], [[4.0, 3.0], [2.0, 1.0]]),
    ("a picture", Image.new("L", (2, 1), 7), [[7.0, 7.0]]),
    ("a tensor", torch.tensor([1, 2]), [1.0, 2.0]),
    ("a tensor in a graph", torch.ones(2, requires_grad=True) * 2, [2.0, 2.0]),
    ("a tensor of half precision", torch.tensor([0.5], dtype=torch.bfloat16), [0.5]),
    (
        "a list of tensors",
        [torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([3, 4])],
        [[1.0, 2.0], [3.0, 4.0]],
    ),
    ("numbers, arrays and tensors", [1, np.array(2.0), torch.tensor(3)], [1.0, 2.0, 3.0]),
    ("NaN", [float("nan"), 1.0], [float("nan"), 1.0]),
]
OTHERS = [
    ("nothing", None),
    ("an ellipsis", ...),
    ("text", "cat"),
    ("text that is a number", "2.5"),
    ("a number that is too large", 10**400),
    ("an array of text and numbers", np.array([1, "2"], object)),
    ("a list of text", ["1", "2"]),
    ("a gap", [1.0, None]),
    ("a ragged list", [[1, 2], [3]]),
    ("tensors of two lengths", [torch.zeros(2), torch.zeros(3)]),
    ("text beside a tensor", [torch.zeros(2), "cat"]),
    ("complex numbers", np.array([1j])),
    ("a set", {1, 2}),
    ("a dictionary", {0: 1.0}),
    ("a function", len),
]


@pytest.mark.parametrize(("answer", "right"), [v[1:] for v in NUMBERS], ids=[v[0] for v in NUMBERS])
def test_numbers_in_any_form(answer, right):
    values, copy = array(answer), tensor(answer)
    assert values.dtype == np.float64 and copy.dtype == torch.float32
    np.testing.assert_array_equal(values, right)
    np.testing.assert_array_equal(copy, np.float32(right))
    assert not copy.requires_grad


@pytest.mark.parametrize("answer", [v[1] for v in OTHERS], ids=[v[0] for v in OTHERS])
def test_what_is_no_numbers(answer):
    assert array(answer) is None and tensor(answer) is None


@pytest.mark.parametrize("answer", [np.zeros(2), torch.zeros(2, dtype=torch.float64)], ids=["array", "tensor"])
def test_the_answer_itself_is_not_shared(answer):
    values, copy = array(answer), tensor(answer)
    answer[0] = 7
    assert values[0] == 0 and copy[0] == 0


def test_what_to_tell_who_passes_no_function():
    assert not_a_function(len, "return a number") is None
    assert not_a_function(None, "return a number") == not_a_function(..., "return a number")
    assert not_a_function(None, "return a number") == "No answer yet: return a number."
    assert not_a_function(3.0, "return a number") == "Pass the function itself, without calling it."
