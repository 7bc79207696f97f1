"""Chapter 04's check names the mistake, and its folded solution passes."""

import pytest
import torch
from checks import einsum_cam as check

import camlib
from tests.checks.solutions import run_solution


def pattern(text):
    return lambda features, weight: torch.einsum(text, features, weight)


def right(features, weight):
    return torch.einsum("bhwc,kc->bkhw", features, weight)


def scaled(features, weight):
    maps = right(features, weight)
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    return (maps - low) / (high - low)


@pytest.mark.parametrize(
    ("cams", "says"),
    [
        (lambda features, weight: None, "No answer yet"),
        (right, "Right: features (2, 3, 5, 6)"),
        (lambda f, w: f @ w.T, "the classes come last"),
        (pattern("bhwc,kc->bkwh"), "height and width are exchanged"),
        (pattern("bwhc,kc->bkhw"), "height and width are exchanged"),
        (lambda f, w: torch.einsum("hwc,kc->khw", f[0], w), "the batch axis is missing"),
        (pattern("bhwc,kc->kbhw"), "batch and classes are exchanged"),
        (pattern("bhwc,kc->bhw"), "the classes are missing"),
        (pattern("bhwc,kc->bk"), "the cells are summed too"),
        (pattern("bhwc,kc->bkh"), "w is summed"),
        (pattern("bhwc,kc->bkw"), "h is summed"),
        (lambda f, w: right(f, w).flatten(2), "still one list"),
        (lambda f, w: f.permute(0, 3, 1, 2), "not yet weighted"),
        (pattern("bhwc,kc->bkhwc"), "which is too much, or missing"),
        (pattern("bhwd,kc->bkhw"), "one and the same letter"),
        (lambda f, w: right(f, w).relu(), "no ReLU here"),
        (scaled, "stretched to 0..1"),
        (lambda f, w: right(f, w) / 6, "do not average"),
        (lambda f, w: torch.einsum("bchw,kc->bkhw", f.reshape(2, 6, 3, 5), w), "reshape does not move axes"),
        (lambda f, w: pattern("bhwc,kc->bkwh")(f, w).reshape(2, 4, 3, 5), "a reshape hides it"),
        (lambda f, w: right(f[:1].expand_as(f), w), "the map of the first"),
        (lambda f, w: 2 * right(f, w), "the values are not"),
        (pattern("bchw,kc->bkhw"), "your function stops: RuntimeError"),
        (lambda f, w: [], "this is a list"),
    ],
)
def test_channels_last(cams, says):
    assert says in check.channels_last(cams)


def test_solution_passes(clf, capsys):
    features, weight = torch.rand(1, 1280, 7, 7), clf.head.weight
    assert "Right: features" in run_solution(
        "04_einsum_cam", capsys, check=check, camlib=camlib, torch=torch, features=features, weight=weight
    )
