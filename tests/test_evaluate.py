"""Measures on maps whose answer is known by construction, and against independent computations."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torchvision.ops import box_iou

from camlib import CamError, explain, upsample
from camlib.evaluate import (
    area,
    box_from_map,
    deletion_curve,
    energy_in_box,
    grid_pointing_game,
    imputed,
    insertion_curve,
    interval,
    iou,
    pointing_game,
    t_interval,
)
from tests.networks import tiny

NAN = float("nan")


def bump(h, w, y, x, value=1.0):
    heat = torch.zeros(h, w)
    heat[y, x] = value
    return heat


# Pointing game


@pytest.mark.parametrize(("y", "x"), [*itertools.product([2, 3, 5, 6], [3, 4, 8, 9])])
def test_pointing_at_every_edge(y, x):
    """Box left 4, top 3, right 9, bottom 6: columns 4 to 8 and rows 3 to 5 are inside."""
    assert pointing_game(bump(10, 12, y, x), [(4, 3, 9, 6)]) == (4 <= x <= 8 and 3 <= y <= 5)


def test_pointing_takes_any_of_several_boxes_and_ignores_nan():
    heat = bump(4, 4, 3, 3)
    heat[0] = NAN
    assert pointing_game(heat, [(0, 0, 1, 1), (3, 3, 4, 4)])
    assert not pointing_game(heat, [(0, 0, 4, 1)])
    assert pointing_game(heat - 9, [(3, 3, 4, 4)])  # a map below zero has a strongest point, too


def test_pointing_against_numpy():
    rng = np.random.default_rng(0)
    for _ in range(50):
        heat = rng.normal(size=(rng.integers(2, 9), rng.integers(2, 9)))
        y, x = np.unravel_index(heat.argmax(), heat.shape)
        left, top = rng.integers(0, heat.shape[1]), rng.integers(0, heat.shape[0])
        right, bottom = rng.integers(left + 1, 10), rng.integers(top + 1, 10)
        expected = left <= x < right and top <= y < bottom
        assert pointing_game(torch.tensor(heat), [(left, top, right, bottom)]) == expected


# Energy


def test_energy_of_a_constant_map_is_the_boxs_share_of_the_area():
    assert energy_in_box(torch.ones(10, 20), [(0, 0, 5, 4)]) == pytest.approx(5 * 4 / 200)


def test_energy_counts_overlapping_boxes_once_and_leaves_out_the_negative():
    heat = torch.tensor([[1.0, 2.0, -100.0], [3.0, 4.0, NAN]])
    assert energy_in_box(heat, [(0, 0, 2, 1), (1, 0, 3, 2)]) == pytest.approx(7 / 10)


def test_energy_of_nothing_is_nan():
    assert math.isnan(energy_in_box(-torch.ones(3, 3), [(0, 0, 2, 2)]))


def test_grid_pointing_game():
    left, right = (0, 0, 4, 4), (4, 0, 8, 4)
    heats = torch.zeros(2, 4, 8)
    heats[0, :, :4] = 3
    heats[0, :, 4:] = 1
    heats[1, :, 4:] = 2
    assert grid_pointing_game(heats, [left, right]).tolist() == [0.75, 1.0]
    assert grid_pointing_game(torch.ones(2, 4, 8), [left, right]).tolist() == [0.5, 0.5]
    with pytest.raises(CamError, match="Give one heat map for each tile"):
        grid_pointing_game(heats, [left])


# Boxes


def test_box_of_the_largest_region():
    heat = torch.zeros(10, 12)
    heat[1:3, 1:3] = 5.0  # 4 pixels
    heat[5:9, 4:7] = 2.0  # 12 pixels, above 20 % of 5
    heat[0, 11] = 0.9  # below
    assert box_from_map(heat) == (4, 5, 7, 9)
    assert box_from_map(heat, 0.5) == (1, 1, 3, 3)
    heat[8, :] = NAN
    assert box_from_map(heat) == (4, 5, 7, 8)


def test_corners_do_not_connect():
    assert box_from_map(torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])) == (1, 1, 3, 2)


def test_box_needs_positive_evidence_and_a_threshold():
    with pytest.raises(CamError, match="no positive evidence"):
        box_from_map(-torch.ones(3, 3))
    with pytest.raises(CamError, match="threshold=20"):
        box_from_map(torch.ones(3, 3), 20)


def test_iou_against_torchvision():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 10, (40, 2, 2, 2))
    boxes = np.concatenate([corners.min(2), corners.max(2)], -1)  # (40, 2, 4)
    for a, b in boxes:
        expected = box_iou(torch.tensor(a)[None], torch.tensor(b)[None]).item()
        assert iou(a, b) == pytest.approx(expected)
    assert iou((0, 0, 1, 1), (5, 5, 6, 6)) == 0
    assert iou((2, 3, 7, 9), (2, 3, 7, 9)) == 1


@pytest.mark.parametrize("boxes", [[], [(3, 0, 1, 2)], [(0, 0, 1)], [(0, 0, 0, 5)]])
def test_bad_boxes(boxes):
    with pytest.raises(CamError, match="left < right"):
        pointing_game(torch.ones(3, 3), boxes)


@pytest.mark.parametrize("heat", [torch.ones(1, 3, 3), np.ones((3, 3)), torch.full((3, 3), NAN)])
def test_bad_maps(heat):
    with pytest.raises(CamError, match="heat map"):
        energy_in_box(heat, [(0, 0, 2, 2)])


# Curves


class LeftHalf(nn.Module):
    """Two logits: the mean of the left half's pixels, and zero."""

    def forward(self, x):
        return torch.stack([8 * x[:, :, :, :4].mean((1, 2, 3)), torch.zeros(len(x))], 1)


def test_curves_of_a_network_that_sees_the_left_half():
    net, x = LeftHalf(), torch.ones(1, 3, 8, 8)
    knows, opposite = torch.zeros(8, 8), torch.zeros(8, 8)
    knows[:, :4], opposite[:, 4:] = 1, 1
    good, bad = (deletion_curve(net, x, heat, 0, steps=8) for heat in (knows, opposite))
    full, none = torch.tensor(8.0).sigmoid(), 0.5
    shares = (1 - torch.arange(9) / 4).clamp(min=0)
    torch.testing.assert_close(good, (8 * shares).sigmoid())
    torch.testing.assert_close(bad[:5], full.expand(5))  # nothing that counts is taken away at first
    assert good[-1] == bad[-1] == none
    assert area(good) < area(bad)


def test_insertion_ends_at_the_input():
    net = LeftHalf()
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    curve = insertion_curve(net, x, torch.rand(8, 8), 0, steps=5)
    assert len(curve) == 6
    torch.testing.assert_close(curve[-1], net(x).softmax(1)[0, 0])
    half = torch.zeros(8, 8)
    half[:, :4] = 1
    torch.testing.assert_close(insertion_curve(net, x, half, 0, steps=2)[1], curve[-1])


def test_curves_of_a_photo(clf, cat):
    """The strongest evidence first must be better than last."""
    exp = explain(clf, cat)
    x = clf.preprocess(cat, exp.view)
    heat = upsample(exp.map("tiger cat"), x.shape[2:])
    first, last = (deletion_curve(clf.module, x, h, 282, steps=7) for h in (heat, -heat))
    assert float(first[0]) == pytest.approx(exp.top(1)[0].probability, abs=1e-4)
    assert area(first) < area(last)
    assert area(insertion_curve(clf.module, x, heat, 282, 7)) > area(insertion_curve(clf.module, x, -heat, 282, 7))


def test_curves_take_a_map_of_the_inputs_size():
    with pytest.raises(CamError, match="a map of its size"):
        deletion_curve(LeftHalf(), torch.ones(1, 3, 8, 8), torch.ones(7, 7), 0)
    with pytest.raises(CamError, match="steps=0"):
        deletion_curve(LeftHalf(), torch.ones(1, 3, 8, 8), torch.ones(8, 8), 0, steps=0)


def test_measures_on_an_apple_gpu(mps):
    """The same numbers from maps that lie there."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    draw = torch.Generator().manual_seed(0)
    x, heat = torch.randn(1, 3, 12, 12, generator=draw), torch.randn(12, 12, generator=draw)
    boxes = [(1, 2, 7, 9)]

    def measured(net, x, heat):
        yield from (pointing_game(heat, boxes), energy_in_box(heat, boxes), *box_from_map(heat))
        yield from grid_pointing_game(torch.stack([heat, -heat]), [*boxes, (0, 0, 3, 3)]).tolist()
        for curve in (deletion_curve, insertion_curve):
            yield from curve(net, x, heat, 1, steps=3).tolist()
            yield area(curve(net, x, heat, 0, steps=3))

    expected = list(measured(net, x, heat))
    assert list(measured(net.to("mps"), x.to("mps"), heat.to("mps"))) == pytest.approx(expected, abs=1e-5)


# Intervals


def test_interval_against_scipy():
    values = np.random.default_rng(1).normal(3, 2, 40)
    mean, low, high = interval(values)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=10_000, random_state=0)
    assert mean == pytest.approx(values.mean())
    assert (low, high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.03)
    assert interval(values) == (mean, low, high)  # seeded


def test_groups_are_drawn_whole():
    """Ten copies of each of four values tell no more than the four values."""
    four = [0.0, 1.0, 2.0, 5.0]
    copies, groups = [v for v in four for _ in range(10)], [k for k in range(4) for _ in range(10)]
    assert interval(copies, groups) == interval(four)
    assert interval(copies)[1] > interval(four)[1]


@pytest.mark.parametrize(("values", "groups"), [([], None), ([1.0, NAN], None), ([1.0, 2.0], ["a"])])
def test_bad_intervals(values, groups):
    with pytest.raises(CamError):
        interval(values, groups)


@pytest.mark.parametrize("end", [None, nn.Softmax(1), nn.Sigmoid()])
@pytest.mark.parametrize("classes", [1, 3])
def test_curves_begin_at_the_networks_own_probability(classes, end):
    net, x = tiny(classes=classes), torch.rand(1, 3, 64, 64)
    net = net if end is None else nn.Sequential(net, end)
    if classes == 1 and isinstance(end, nn.Softmax):
        return
    scores = net(x).detach()
    expected = scores if end else scores.softmax(1) if classes > 1 else scores.sigmoid()
    curve = deletion_curve(net, x, torch.rand(64, 64), 0, 4)
    torch.testing.assert_close(curve[0], expected[0, 0])
    if end is None:
        curve = deletion_curve(net, x, torch.rand(64, 64), 0, 4, activation="sigmoid")
        torch.testing.assert_close(curve[0], scores.sigmoid()[0, 0])
        with pytest.raises(CamError, match="A curve needs probabilities"):
            deletion_curve(net, x, torch.rand(64, 64), 0, 4, activation=None)


# Intervals for few groups, and removed pixels filled from their neighbours


def test_t_interval_against_scipy():
    values = np.random.default_rng(0).normal(size=9)
    low, high = stats.t.interval(0.95, 8, values.mean(), stats.sem(values))
    assert t_interval(values) == pytest.approx((values.mean(), low, high))
    twice = t_interval(np.repeat(values, 2), np.repeat(np.arange(9), 2))
    assert twice == pytest.approx((values.mean(), low, high)), "two classes on a photo are no two photos"
    assert t_interval(values, level=0.5)[1] > low


@pytest.mark.parametrize(
    ("values", "groups", "says"),
    [
        ([1.0], None, "two or more finite"),
        ([1.0, NAN], None, "two or more finite"),
        ([1.0, 2.0], ["a"], "1 groups and 2 values"),
        ([1.0, 2.0], ["a", "a"], "two groups or more"),
    ],
)
def test_t_interval_names_the_mistake(values, groups, says):
    with pytest.raises(CamError, match=says):
        t_interval(values, groups)


def test_imputed_pixels_are_the_weighted_means_of_their_neighbours():
    draw = torch.Generator().manual_seed(0)
    x, gone = torch.rand(3, 7, 9, generator=draw), torch.rand(7, 9, generator=draw) < 0.6
    filled = imputed(x, gone, noise=0)
    assert torch.equal(filled[:, ~gone], x[:, ~gone])
    for y, column in gone.nonzero().tolist():
        weights, total = 0.0, torch.zeros(3)
        for dy, dx in itertools.product((-1, 0, 1), repeat=2):
            at = (y + dy, column + dx)
            if (dy or dx) and 0 <= at[0] < 7 and 0 <= at[1] < 9:
                weight = 1 / 6 if 0 in (dy, dx) else 1 / 12
                weights, total = weights + weight, total + weight * filled[:, at[0], at[1]]
        assert torch.allclose(filled[:, y, column], total / weights, atol=1e-5)
    noisy = imputed(x, gone, noise=0.01)
    assert 0.005 < (noisy - filled)[:, gone].std() < 0.02
    assert torch.equal(noisy, imputed(x, gone)) and torch.equal(imputed(x, gone & False), x)


def test_imputed_names_the_mistake():
    x = torch.rand(3, 4, 5)
    with pytest.raises(CamError, match="Every pixel"):
        imputed(x, torch.ones(4, 5, dtype=torch.bool))
    with pytest.raises(CamError, match=r"got \(3, 4, 5\) and \(5, 4\)"):
        imputed(x, torch.zeros(5, 4, dtype=torch.bool))
