"""Chapter 04's checks name the mistakes, accept right answers in any form, and the folded solutions pass."""

import numpy as np
import pytest
import torch
from checks import einsum_cam as check
from torch.nn import functional as F

from tests.checks.solutions import solutions

# --- exercise 1 ------------------------------------------------------------------------------------------------------


def one(features, weight, k):
    return torch.einsum("c,chw->hw", weight[k], features)


def products(features, weight, k):
    return weight[k][:, None, None] * features


def overwritten(features, weight, k):
    for c in range(6):
        total = weight[k, c] * features[c]
    return total


def stretched(maps):
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / (high - low)


@pytest.mark.parametrize(
    "function",
    [
        one,
        lambda f, w, k: sum(w[k, c] * f[c] for c in range(6)),
        lambda f, w, k: (w[k] @ f.flatten(1)).reshape(f.shape[1:]),
        lambda f, w, k: F.conv2d(f[None], w[k][None, :, None, None])[0, 0],
        lambda f, w, k: products(f, w, k).sum(0),
        lambda f, w, k: one(f, w, k).numpy(),
        lambda f, w, k: np.flip(one(f.flip(1), w, k).numpy(), 0),  # strides below zero
        lambda f, w, k: [row[::-1] for row in one(f.flip(2), w, k).numpy()],
        lambda f, w, k: one(f, w, k).tolist(),
        lambda f, w, k: list(one(f, w, k)),  # a list of rows
        lambda f, w, k: [list(line) for line in one(f, w, k)],  # 0-d tensors
        lambda f, w, k: one(f, w, k).double().requires_grad_(),
        lambda f, w, k: np.einsum("c,chw->hw", w[k].numpy(), f.numpy()).astype(float),
        lambda f, w, k: one(f.mul_(1), w, k),
    ],
)
def test_class_map_is_right_in_any_form(function):
    assert check.class_map(function) == "Right: features (6, 3, 5) become a map (3, 5), and every value agrees."


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda f, w, k: None, "No answer yet"),
        (lambda f, w, k: ..., "No answer yet"),
        (products, "weighted, but not yet added up"),
        (lambda f, w, k: torch.einsum("kc,chw->khw", w, f), "maps of all classes"),
        (lambda f, w, k: one(f, w, k).T, "Height and width are swapped"),
        (lambda f, w, k: w[k] @ f.flatten(1), "still one long list"),
        (lambda f, w, k: F.conv2d(f[None], w[k][None, :, None, None])[0], "one axis too many"),
        (lambda f, w, k: F.conv2d(f[None], w[k][None, :, None, None]), "two axes too many"),
        (lambda f, w, k: products(f, w, k).sum(), "The cells are added up, too"),
        (lambda f, w, k: one(f, w, k).mean(), "The cells are averaged, too"),
        (lambda f, w, k: products(f, w, k).sum((1, 2)), "not the channels"),
        (lambda f, w, k: products(f, w, k).mean(0), "do not average"),
        (lambda f, w, k: f.sum(0), "without their weights"),
        (overwritten, "does the loop overwrite the sum?"),
        (lambda f, w, k: products(f, w, k)[0], "return inside the loop?"),
        (lambda f, w, k: sum(products(f, w, k)[c] for c in range(5)), "The last channel is missing"),
        (lambda f, w, k: sum(products(f, w, k)[c] for c in range(1, 6)), "The first channel is missing"),
        (lambda f, w, k: products(f, w, k)[0] + one(f, w, k), "The first channel is in the sum twice"),
        (lambda f, w, k: f[0] + one(f, w, k), "starts with a channel that has no weight"),
        (lambda f, w, k: f[0] + products(f, w, k)[1:].sum(0), "The first channel has no weight"),
        (lambda f, w, k: one(f, w, k).T.reshape(3, 5), "a reshape hides it"),
        (lambda f, w, k: one(f, w, k).relu(), "no ReLU here"),
        (lambda f, w, k: stretched(one(f, w, k)), "stretched to 0..1"),
        (lambda f, w, k: one(f, w, 3), "This is the map of class 3; the check asked for class 2"),
        (lambda f, w, k: one(f, w, 2), "This is the map of class 2; the check asked for class 0"),
        (lambda f, w, k: 2 * one(f, w, k), "the values are not"),
        (lambda f, w, k: one(f.bfloat16(), w.bfloat16(), k), "the values are not"),
        (lambda f, w, k: torch.zeros(2, 2), "The shape is (2, 2)"),
        (lambda f, w, k: 0, "The shape is ()"),
        (lambda f, w, k: w[:, k] * f, "your function stops: RuntimeError"),
        (lambda f, w, k: torch.zeros(7, 7) + f[0], ". The check has 3 × 5 cells, not 7 × 7"),
        (lambda f, w, k: (w[k] @ f.flatten(1)).reshape(7, 7), ". The check has 3 × 5 cells, not 7 × 7"),
        (lambda f, w, k: sum(w[k, c] * f[c] for c in range(1280)), ". The check has 6 channels and 4 classes"),
        (lambda f, w: f, "your function stops: TypeError"),
        (lambda f, w, k: "a map", "this is a str"),
        (lambda f, w, k: [one(f, w, k), 1], "this is a list"),
        (lambda f, w, k: {}, "this is a dict"),
    ],
)
def test_class_map_names_the_mistake(function, says):
    assert says in check.class_map(function)


# --- exercise 2 ------------------------------------------------------------------------------------------------------


def pattern(text):
    return lambda features, weight: torch.einsum(text, features, weight)


def right(features, weight):
    return torch.einsum("bhwc,kc->bkhw", features, weight)


@pytest.mark.parametrize(
    ("cams", "says"),
    [
        (lambda features, weight: None, "No answer yet"),
        (right, "Right: features (2, 3, 5, 6)"),
        (lambda f, w: (f @ w.T).permute(0, 3, 1, 2), "Right: features (2, 3, 5, 6)"),
        (lambda f, w: right(f, w).numpy(), "Right: features (2, 3, 5, 6)"),
        (lambda f, w: right(f.double(), w.double()).tolist(), "Right: features (2, 3, 5, 6)"),
        (lambda f, w: list(right(f, w)), "Right: features (2, 3, 5, 6)"),
        (lambda f, w: [list(maps) for maps in right(f, w)], "Right: features (2, 3, 5, 6)"),
        (lambda f, w: [tuple(map(np.asarray, maps)) for maps in right(f, w)], "Right: features (2, 3, 5, 6)"),
        (lambda f, w: [[one_map, 1] for one_map in right(f, w)], "this is a list"),
        (lambda f, w: f @ w.T, "the classes come last"),
        (pattern("bhwc,kc->bkwh"), "height and width are swapped"),
        (pattern("bwhc,kc->bkhw"), "height and width are swapped"),
        (lambda f, w: torch.einsum("hwc,kc->khw", f[0], w), "the batch axis is missing"),
        (pattern("bhwc,kc->kbhw"), "batch and classes are swapped"),
        (pattern("bhwc,kc->bhw"), "the classes are missing"),
        (pattern("bhwc,kc->bk"), "the cells are summed over, too"),
        (pattern("bhwc,kc->bkh"), "w is summed over"),
        (pattern("bhwc,kc->bkw"), "h is summed over"),
        (lambda f, w: right(f, w).flatten(2), "still one list"),
        (lambda f, w: f.permute(0, 3, 1, 2), "not yet weighted"),
        (pattern("bhwc,kc->bkhwc"), "which one is extra, or missing"),
        (pattern("bhwd,kc->bkhw"), "one and the same letter"),
        (lambda f, w: right(f, w).relu(), "no ReLU here"),
        (lambda f, w: stretched(right(f, w)), "stretched to 0..1"),
        (lambda f, w: right(f, w) / 6, "do not average"),
        (
            lambda f, w: torch.einsum("bchw,kc->bkhw", f.reshape(2, 6, 3, 5), w),
            "reshape does not move an axis, it cuts",
        ),
        (lambda f, w: pattern("bhwc,kc->bkwh")(f, w).reshape(2, 4, 3, 5), "a reshape hides it"),
        (
            lambda f, w: (f @ w.T).reshape(2, 4, 3, 5),
            "The sum is right, but the classes came last, and reshape does not",
        ),
        (
            lambda f, w: pattern("bhwc,kc->kbhw")(f, w).reshape(2, 4, 3, 5),
            "in the order kbhw, and reshape does not move",
        ),
        (lambda f, w: right(f[:1].expand_as(f), w), "the map of the first"),
        (lambda f, w: 2 * right(f, w), "the values are not"),
        (pattern("bchw,kc->bkhw"), "your function stops: RuntimeError"),
        (
            pattern("bchw,kc->bkhw"),
            ". The axes are features (B, h, w, C) and weight (K, C): in both",
        ),
        (pattern("bhwc,ck->bkhw"), "weight (K, C): in both, the channels come last"),
        (lambda f, w: [], "which one is extra, or missing"),
        (lambda f, w: "maps", "this is a str"),
    ],
)
def test_channels_last(cams, says):
    assert says in check.channels_last(cams)


# --- exercise 3 ------------------------------------------------------------------------------------------------------


def logits(features, weight, bias):
    return torch.einsum("kc,bchw->bkhw", weight, features) + bias[:, None, None]


def as_layer(features, weight, bias):
    layer = torch.nn.Conv2d(6, 4, 1)
    layer.load_state_dict({"weight": weight[:, :, None, None], "bias": bias})
    return layer(features)  # with a gradient


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda f, w, b: None, "No answer yet"),
        (logits, "Right: a classifier"),
        (lambda f, w, b: F.conv2d(f, w[:, :, None, None], b), "Right: a classifier"),
        (as_layer, "Right: a classifier"),
        (lambda f, w, b: logits(f, w, b).numpy().astype(float), "Right: a classifier"),
        (lambda f, w, b: F.conv2d(f, w[:, :, None, None]), "the bias is missing"),
        (lambda f, w, b: logits(f, w, -b), "The bias is subtracted"),
        (lambda f, w, b: logits(f, w, 2 * b), "The bias is added twice"),
        (lambda f, w, b: logits(f, w, b).mean((2, 3)), "logits of the whole photo"),
        (lambda f, w, b: logits(f.mean((2, 3), keepdim=True), w, b), "already taken the mean"),
        (lambda f, w, b: logits(f, w, b).softmax(1), "no softmax"),
        (lambda f, w, b: logits(f, w, b).relu(), "no ReLU here"),
        (lambda f, w, b: logits(f, w, b)[0], "first photo only"),
        (lambda f, w, b: logits(f, w, b)[:1], "the batch has two"),
        (lambda f, w, b: logits(f, w, b).transpose(2, 3), "Height and width are swapped"),
        (lambda f, w, b: logits(f, w, b).movedim(1, -1), "The classes come last"),
        (lambda f, w, b: logits(f, w, b).flatten(2), "still one list"),
        (lambda f, w, b: logits(f, w, b)[..., :2], "The shape is (2, 4, 3, 2)"),
        (lambda f, w, b: 2 * logits(f, w, b), "the values are not"),
        (lambda f, w, b: logits(f, w, b).movedim(1, -1).reshape(2, 4, 3, 5), "the classes came last, and reshape"),
        (lambda f, w, b: logits(f, w, b).transpose(2, 3).reshape(2, 4, 3, 5), "a reshape hides it"),
        (lambda f, w, b: F.conv2d(f, w, b), ". The kernel has four axes"),
        (lambda f, w, b: F.conv2d(f, w[:, :, None], b), ". The kernel has four axes"),
        (lambda f, w, b: F.conv2d(w[:, :, None, None], f, b), "features are where the kernel belongs: they come first"),
        (lambda f, w, b: F.conv2d(f, w[:, :, None, None], None, b), ". F.conv2d takes features, kernel and bias, in"),
        (lambda f, w, b: F.conv2d(f, w.reshape(1000, 1280, 1, 1), b), ". The check has 6 channels and 4 classes"),
        (lambda f, w, b: torch.nn.Conv2d(1280, 1000, 1)(f), ". The check has 6 channels and 4 classes"),
        (lambda f, w, b: F.conv2d(f, w[:, :, None, None], b[:2]), ". The bias is one number for each class"),
        (lambda f, w, b: logits(f, w, 0 * b) + b, ". To add the bias yourself"),
        (lambda f, w, b: logits(f, w, 0 * b) + b[:, None], ". To add the bias yourself"),
    ],
)
def test_cell_logits(function, says):
    assert says in check.cell_logits(function)


def test_other_errors_have_no_hint_on_the_kernel():
    given = check.cell_logits(lambda f, w, b: F.conv(f, w, b))
    assert "AttributeError" in given and "kernel" not in given


# --- exercise 4 ------------------------------------------------------------------------------------------------------


def by_loop(features, weight):
    maps = torch.zeros(len(features), len(weight), *features.shape[2:])
    for c in range(features.shape[1]):
        maps += weight[:, c, None, None] * features[:, c, None]
    return maps


def sized(b=2, c=3, h=4, w=5, k=6, same=torch.allclose, make=torch.randn):
    """A test with an input of these sizes."""

    def passes(make_maps):
        torch.manual_seed(1)
        features, weight = make(b, c, h, w), make(k, c)
        maps = make_maps(features, weight)
        return maps.shape == (b, k, h, w) and same(maps, by_loop(features, weight))

    return passes


def close(a, b):
    return torch.allclose(a, b, atol=1e-4)


def identity(make_maps):
    features, weight = torch.randn(2, 3, 4, 5), torch.randn(6, 3)
    return close(make_maps(features, weight).mean((2, 3)), features.mean((2, 3)) @ weight.T)


def asserting(make_maps):
    assert sized(same=close)(make_maps)


def comparing(pick, tolerance=1e-4):
    """A test that compares a part of the maps."""

    def passes(make_maps):
        features, weight = torch.randn(2, 3, 4, 5), torch.randn(6, 3)
        maps, expected = make_maps(features, weight), by_loop(features, weight)
        return maps.shape == expected.shape and torch.allclose(pick(maps), pick(expected), atol=tolerance)

    return passes


def weakly_asserting(make_maps):
    assert make_maps(torch.randn(2, 3, 4, 5), torch.randn(6, 3)).shape == (2, 6, 4, 5)


def no_return(make_maps):
    sized(same=close)(make_maps)


def returns_no_false(make_maps):
    if sized(same=close)(make_maps):
        return True


def returns_no_true(make_maps):
    if not sized(same=close)(make_maps):
        return False


def stops_without_return(make_maps):
    close(make_maps(torch.randn(2, 3, 4, 5), torch.randn(6, 3)), torch.zeros(2, 6, 4, 5))


def raising(make_maps):
    if not sized(same=close)(make_maps):
        raise ValueError("wrong")


def error_of(make_maps):
    features, weight = torch.randn(2, 3, 4, 4), torch.randn(6, 3)
    return (make_maps(features, weight) - by_loop(features, weight)).abs()


def as_numpy(make_maps):
    return np.bool_(sized(same=close)(make_maps))


def as_tensor(make_maps):
    return torch.tensor(sized(same=close)(make_maps))


@pytest.mark.parametrize(
    "passes",
    [
        sized(same=close),
        sized(h=3, w=3, same=close),
        asserting,
        raising,
        as_numpy,
        as_tensor,
        lambda make_maps: int(sized(same=close)(make_maps)),
        lambda make_maps: (error_of(make_maps) < 1e-4).all(),
        lambda make_maps: [sized(same=close)(make_maps)],
    ],
)
def test_a_good_test_is_accepted(passes):
    assert check.notices(passes) == "Right: your test accepts 3 right programs and refuses 14 wrong ones."


@pytest.mark.parametrize(
    ("passes", "says"),
    [
        (lambda make_maps: None, "No answer yet"),
        (lambda make_maps: ..., "No answer yet"),
        (lambda make_maps: True, "notices 0 of 14 wrong programs. It accepts one that sums weights"),
        (lambda make_maps: False, "refuses a right program, einsum"),
        (no_return, "No answer yet"),
        (stops_without_return, "No answer yet"),
        (
            returns_no_false,
            "says nothing about a wrong program, one that sums weights and channels separately: return False",
        ),
        (returns_no_true, "says nothing about a right program, einsum: return True there"),
        (weakly_asserting, "notices 1 of 14 wrong programs"),
        (
            lambda make_maps: error_of(make_maps) < 1e-4,
            "returns 192 values; return one answer, for example with .all()",
        ),
        (lambda make_maps: (error_of(make_maps) < 1e-4).numpy(), "returns 192 values"),
        (lambda make_maps: [True, False], "returns 2 values"),
        (
            lambda make_maps: "yes" if sized(same=close)(make_maps) else "no",
            "returns 'yes', a str; return True or False",
        ),
        (lambda make_maps: {}, "returns {}, a dict"),
        (lambda make_maps: [], "returns [], a list"),
        (lambda make_maps: sized(same=close)(make_maps) or "no", "returns 'no', a str"),
        (lambda make_maps: error_of(make_maps).max() + 1, "return True or False: compare it with a tolerance"),
        (lambda make_maps: 1 if sized(same=close)(make_maps) else 2, "returns the number 2"),
        (comparing(lambda maps: maps[1, 2]), "wrong in the last class only. Compare the maps of all classes"),
        (comparing(lambda maps: maps[1, 5]), "one that fills the last map only. Compare all maps"),
        (comparing(lambda maps: maps[..., :-1, :]), "wrong in the last cell only. Compare every cell"),
        (comparing(lambda maps: maps, tolerance=0.5), "off by about 0.1 in every cell. Choose a smaller tolerance"),
        (lambda make_maps: 1 / 0, "stops at a right program, einsum: ZeroDivisionError: division by zero"),
        (lambda: True, "stops at a right program, einsum: TypeError"),
        (identity, "the mean of the map into every cell. Compare every cell"),
        (sized(b=1, same=close), "maps of the first. Try more than one photo"),
        (sized(k=1, same=close), "in reverse order. Try more than one class"),
        (sized(c=1, same=close), "sums weights and channels separately"),
        (sized(same=close, make=torch.rand), "one with a ReLU. Use features or weights of both signs"),
        (
            sized(same=close, make=torch.ones),
            "the mean of the map into every cell. Compare every cell, not only means, and",
        ),
        (sized(same=lambda a, b: True), "Compare values"),
        (sized(c=200, same=torch.equal), "such as atol=1e-4: the default of torch.allclose, 1e-8, is too small"),
        (sized(c=200), "such as atol=1e-4: the default of torch.allclose, 1e-8, is too small near zero"),
    ],
)
def test_a_weak_test_is_named(passes, says):
    torch.manual_seed(2)
    assert says in check.notices(passes)


def test_the_wrong_programs_are_wrong():
    torch.manual_seed(0)
    features, weight = torch.randn(2, 6, 3, 5), torch.randn(4, 6)
    maps = by_loop(features, weight)
    assert all(close(program(features, weight), maps) for program in check.RIGHT.values())
    for name, (program, _) in check.WRONG.items():
        given = program(features, weight)
        assert given.shape != maps.shape or not close(given, maps), name


# --- the chapter -----------------------------------------------------------------------------------------------------


def test_solutions_pass(capsys):
    one_class, channels, cells, test = solutions("04_einsum_cam")
    names = {"check": check, "torch": torch, "F": F, "by_letters": lambda weight, features: by_loop(features, weight)}
    for code in (one_class, channels, cells, test):
        exec(code, names)
        assert capsys.readouterr().out.startswith("Right: ")
