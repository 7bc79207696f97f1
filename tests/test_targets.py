"""What a target and what labels may be: one table of what is taken, one of what is refused and why."""

from collections import OrderedDict, UserDict
from types import MappingProxyType

import numpy as np
import pytest
import torch

from camlib import ModelError, TargetError, grad_cam
from camlib.targets import Chosen, choose, choose_for_batch, class_index, class_names
from tests.networks import assert_same, flat

NAMES = ("cat", "dog", "tiger cat", "Crane", "crane")


# --- one class -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        2,
        np.int64(2),
        np.int8(2),
        np.uint16(2),
        np.array(2),
        torch.tensor(2),
        torch.tensor(2, dtype=torch.int32),
        torch.tensor(2, dtype=torch.uint8),
        "tiger cat",
        " Tiger CAT ",
    ],
    ids=repr,
)
def test_ways_to_name_one_class(target):
    index = class_index(target, 5, NAMES)
    assert index == 2 and type(index) is int
    assert choose(target, 5, NAMES) == Chosen([2], True)


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (True, r"not True \(bool\)"),
        (np.True_, "not np.True_"),
        (torch.tensor(True), r"Tensor of shape \(\) and type torch.bool"),
        (np.array(True), r"ndarray of shape \(\) and type bool"),
        (2.0, r"A target is a class index or a label, not 2.0 \(float\)"),
        (np.float32(2), "float32"),
        (torch.tensor(2.0), r"Tensor of shape \(\) and type torch.float32"),
        (torch.tensor([[1]]), r"Tensor of shape \(1, 1\) and type torch.int64"),
        (None, "not None"),
        (b"cat", "not b'cat'"),
        (2j, "complex"),
        (-1, "No class -1: this network has 5 classes, 0 to 4"),
        (5, "No class 5: this network has 5 classes, 0 to 4"),
        (torch.tensor(7), "No class 7"),
        (np.int64(-1), "No class -1"),
        ("tigre cat", "no class 'tigre cat'. Did you mean: tiger cat"),
        ("qqqq", "no class 'qqqq'. Examples: cat, dog"),
        ("CRANE", r"'CRANE' is the label of the classes \[3, 4\]; give one of these indices"),
        ("", "has no class ''"),
    ],
    ids=repr,
)
def test_what_is_no_class(target, says):
    with pytest.raises(TargetError, match=says):
        class_index(target, 5, NAMES)


def test_the_exact_case_of_a_label_decides():
    assert (class_index("crane", 5, NAMES), class_index("Crane", 5, NAMES)) == (4, 3)


def test_without_labels_only_indices_are_known():
    with pytest.raises(TargetError, match="'cat' is a label, but only class indices work here"):
        class_index("cat", 5)
    with pytest.raises(TargetError, match="A target is a class index, not 1.5"):
        class_index(1.5, 5)
    with pytest.raises(TargetError, match="No class 1: the net has 1 class, 0 to 0"):
        class_index(1, 1, name="the net")


# --- several ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "targets",
    [
        [4, 0],
        (4, 0),
        ["crane", "CAT"],
        [np.int64(4), torch.tensor(0)],
        np.array([4, 0]),
        torch.tensor([4, 0]),
        range(4, -1, -4),
        (k for k in (4, 0)),
        np.array(["crane", "cat"]),
    ],
    ids=lambda targets: type(targets).__name__,
)
def test_ways_to_name_several_classes(targets):
    assert choose(targets, 5, NAMES) == Chosen([4, 0], False)


@pytest.mark.parametrize(
    ("targets", "says"),
    [
        ([], "No targets: give at least one class"),
        (torch.tensor([]), "No targets"),
        ([0, True], "not True"),
        ([0, 5], "No class 5"),
        (torch.tensor([True, False]), "torch.bool"),
        (torch.tensor([1.0, 0.0]), "torch.float32"),
        (np.array([0.0]), "float64"),
        (torch.tensor([[0, 1]]), r"Tensor of shape \(2,\)"),
        ([[0, 1]], r"not \[0, 1\] \(list\)"),
    ],
    ids=repr,
)
def test_lists_that_are_no_classes(targets, says):
    with pytest.raises(TargetError, match=says):
        choose(targets, 5, NAMES)


def test_a_single_class_has_no_axis_of_its_own():
    results = torch.arange(6).view(1, 2, 3)
    assert torch.equal(choose(1, 5).shaped(results), results[0])
    assert torch.equal(choose([1], 5).shaped(results), results)
    assert torch.equal(choose(1, 5).shaped(results.transpose(0, 1), 1), results[0])


# --- of a batch ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("targets", "indices", "single"),
    [
        (2, [[2, 2]], True),
        (torch.tensor(2), [[2, 2]], True),
        ([2, 0], [[2, 2], [0, 0]], False),
        (torch.tensor([2, 0]), [[2, 0]], True),
        (np.array([2, 0]), [[2, 0]], True),
        ([torch.tensor(2)], [[2, 2]], False),
    ],
    ids=repr,
)
def test_classes_of_a_batch(targets, indices, single):
    assert choose_for_batch(targets, 3, 2) == (indices, single)


@pytest.mark.parametrize(
    ("targets", "says"),
    [
        (torch.tensor([0, 1, 2]), "one class for each picture: got 3 for a batch of 2. To explain several classes"),
        (torch.tensor([True, False]), "torch.bool"),
        (torch.tensor([0.0, 1.0]), "torch.float32"),
        (torch.tensor([[0, 1]]), r"shape \(2,\)"),
        (torch.tensor([0, 3]), "No class 3"),
        (np.array([], dtype=int), "got 0 for a batch of 2"),
        ("cat", "only class indices work here"),
        ([], "at least one class"),
    ],
    ids=repr,
)
def test_what_is_no_target_of_a_batch(targets, says):
    with pytest.raises(TargetError, match=says):
        choose_for_batch(targets, 3, 2)


def test_a_tensor_is_one_class_for_each_picture_and_a_list_is_several_of_all():
    """By autograd: row n of the one is the map of picture n for its own class."""
    net = flat()
    x = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(4))
    A = net[:2](x).detach().requires_grad_()
    logits = net[2:](A)

    def by_hand(score):
        (G,) = torch.autograd.grad(score, A, retain_graph=True)
        return (G.mean((2, 3), keepdim=True) * A).sum(1).detach()

    own = by_hand(logits[0, 2] + logits[1, 0] + logits[2, 1])
    assert_same(grad_cam(net, x, torch.tensor([2, 0, 1])), own)
    assert_same(grad_cam(net, x, np.array([2, 0, 1])), own)
    every = torch.stack([by_hand(logits[:, k].sum()) for k in (2, 0, 1)], 1)
    assert_same(grad_cam(net, x, [2, 0, 1]), every)
    assert (own - every[:, 0]).abs().max() > 0.1 * own.abs().max()


# --- labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels",
    [
        ["cat", "dog", "eel"],
        ("cat", "dog", "eel"),
        np.array(["cat", "dog", "eel"]),
        (name for name in ("cat", "dog", "eel")),
        {0: "cat", 1: "dog", 2: "eel"},
        {2: "eel", 0: "cat", 1: "dog"},
        {"1": "dog", "0": "cat", "2": "eel"},
        {np.int64(2): "eel", np.int64(1): "dog", np.int64(0): "cat"},
        OrderedDict([(1, "dog"), (0, "cat"), (2, "eel")]),
        UserDict({1: "dog", 0: "cat", 2: "eel"}),
        MappingProxyType({1: "dog", 0: "cat", 2: "eel"}),
    ],
    ids=lambda labels: type(labels).__name__,
)
def test_labels_in_the_order_of_the_indices(labels):
    assert class_names(labels, 3) == ("cat", "dog", "eel")


def test_labels_that_are_no_strings():
    assert class_names([7, None, 1.5], 3) == ("7", "None", "1.5")
    assert class_names({0: 7, 1: 8}, 2) == ("7", "8"), "an index → name mapping, whatever the names are"
    assert class_names(None, 2) == ("class 0", "class 1")
    assert class_names(np.arange(2), 2) == ("0", "1")
    assert class_names({1: "dog", 0: "cat"}) == class_names(["cat", "dog"]) == ("cat", "dog"), "as many as there are"


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ({"eel": 2, "cat": 0, "dog": 1}, r"names to indices; .*labels=sorted\(class_to_idx, key=class_to_idx.get\)"),
        ({"eel": np.int64(2), "cat": np.int64(0), "dog": np.int64(1)}, "names to indices"),
        ({"eel", "cat", "dog"}, "labels is a set, which has no order"),
        (frozenset(["eel", "cat", "dog"]), "labels is a set, which has no order"),
        ({2: "eel", 0: "cat", 1: "dog"}.values(), "labels is dict_values, which is in the order in"),
        ({"eel": 2, "cat": 0, "dog": 1}.keys(), "labels is dict_keys, which is in the order in"),
        ({2: "eel", 0: "cat", 1: "dog"}.items(), "labels is dict_items"),
        (UserDict({2: "eel", 0: "cat", 1: "dog"}).values(), "labels is ValuesView"),
        ({1: "cat", 2: "dog", 3: "eel"}, r"needs the keys 0 to 2; got \[1, 2, 3\]"),
        ({0: "cat", "0": "dog", 1: "eel"}, "needs the keys 0 to 2"),
        ({0: "cat", 1: "dog"}, "2 labels for a network with 3 outputs"),
        (["cat", "dog", "eel", "fox"], "4 labels for a network with 3 outputs"),
        ({}, "0 labels"),
        ("cat", "list of names, one for each class; got 'cat'"),
        (b"cat", "list of names"),
        (3, "list of names, one for each class; got 3"),
        (torch.tensor(3), "list of names"),
        (torch.arange(3), r"labels has tensor\(0\) \(Tensor\) as the name of class 0: pass a list of strings"),
        (np.zeros((3, 2)), r"labels has array\(\[0., 0.\]\) \(ndarray\)"),
        (["cat", b"dog", "eel"], r"labels has b'dog' \(bytes\) as the name of class 1"),
        ([["cat"], ["dog"], ["eel"]], r"labels has \['cat'\]"),
        ({0: "cat", 1: torch.tensor(1), 2: "eel"}, r"labels has tensor\(1\)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_labels_that_would_name_wrong_classes(labels, says):
    with pytest.raises(ModelError, match=says):
        class_names(labels, 3)


def test_one_output():
    with pytest.raises(ModelError, match="2 labels for a network with 1 output[.]"):
        class_names(["a", "b"], 1)


@pytest.mark.parametrize("targets", [{"cat", "dog"}, frozenset([0]), {0: 1}.keys()])
def test_sets_have_no_order(targets):
    with pytest.raises(TargetError, match="which has no order: pass a list"):
        choose(targets, 2, ["cat", "dog"])
