"""Generated pictures: exact boxes, a planted shortcut and no other, networks that train alike every time."""

import numpy as np
import pytest
import torch

from camlib import CamError, HeadError, find_head
from camlib.shapes import (
    CORNER,
    CORNER_COLOURS,
    SHAPES,
    SIDE,
    Pictures,
    _picture,
    accuracy,
    centred,
    network,
    pairs,
    pictures,
    train,
    trained_fc,
    trained_transformer,
)
from camlib.transformer import DESIGNS, VisionTransformer


def test_pictures_are_seeded_and_in_range():
    a, b, c = pictures(20, 3), pictures(20, 3), pictures(20, 4)
    assert torch.equal(a.images, b.images)
    assert not torch.equal(a.images, c.images)
    assert a.images.shape == (20, 3, SIDE, SIDE)
    assert a.images.dtype == torch.float32
    assert a.images.min() >= 0
    assert a.images.max() <= 1
    assert set(pictures(200, 0).labels.tolist()) == set(range(len(SHAPES)))


@pytest.mark.parametrize("shape", SHAPES)
def test_boxes_are_exact(shape, monkeypatch):
    """The same picture with and without its shape differs inside the box, on all four of its edges, and only there."""
    with_shape, box = _picture(np.random.default_rng(5), shape)
    monkeypatch.setattr("camlib.shapes._inside", lambda name, u, v: np.hypot(u, v) < 0.2)  # a dot in its place
    dot, _ = _picture(np.random.default_rng(5), shape)
    left, top, right, bottom = box
    y, x = np.nonzero(np.abs(with_shape - dot).max(0) > 1e-6)
    assert (x.min(), y.min(), x.max() + 1, y.max() + 1) == (left, top, right, bottom)


def test_the_corner_changes_nothing_else():
    plain, told, noise = (pictures(60, 0, corner) for corner in ("none", "class", "random"))
    for other in (told, noise):
        differs = (other.images != plain.images).any(1).any(0)
        assert differs[:CORNER, :CORNER].all()
        assert differs.sum() == CORNER**2
        assert torch.equal(other.labels, plain.labels)
        assert torch.equal(other.boxes, plain.boxes)
    colour = told.images[:, :, 0, 0]
    for k in range(len(SHAPES)):
        assert len(torch.unique(colour[told.labels == k], dim=0)) == 1
        assert len(torch.unique(noise.images[noise.labels == k][:, :, 0, 0], dim=0)) > 1
    assert len(torch.unique(colour, dim=0)) == len(SHAPES)
    with pytest.raises(CamError, match="corner='left'"):
        pictures(2, 0, "left")


def test_painted_shapes():
    """A painted shape has the colour of a class, and nothing outside its box changes."""
    plain, told, noise = (pictures(60, 0, paint=paint) for paint in ("none", "class", "random"))
    colours = torch.tensor(CORNER_COLOURS)
    for other in (told, noise):
        assert torch.equal(other.labels, plain.labels)
        assert torch.equal(other.boxes, plain.boxes)
        differs = (other.images != plain.images).any(1)
        for changed, (left, top, right, bottom) in zip(differs, plain.boxes.tolist(), strict=True):
            assert changed[top:bottom, left:right].any()
            changed[top:bottom, left:right] = False
            assert not changed.any()
    shown = {}
    for name, data in (("class", told), ("random", noise)):
        painted = (data.images != plain.images).any(1)
        colour = torch.stack([image[:, m].mean(1) for image, m in zip(data.images, painted, strict=True)])
        assert torch.cdist(colour, colours).min(1).values.max() < 0.1
        shown[name] = torch.cdist(colour, colours).argmin(1)
    assert torch.equal(shown["class"], told.labels)
    assert 0 < (shown["random"] == noise.labels).float().mean() < 0.5
    with pytest.raises(CamError, match="paint='red'"):
        pictures(2, 0, paint="red")


def test_shapes_that_the_edge_cuts_off():
    whole, cut = pictures(200, 0), pictures(200, 0, cut=True)
    assert torch.equal(whole.labels, cut.labels)
    assert (whole.boxes[:, :2] > 0).all() and (whole.boxes[:, 2:] < SIDE).all()
    touching = ((cut.boxes[:, :2] == 0) | (cut.boxes[:, 2:] == SIDE)).any(1)
    assert 0.3 < touching.float().mean() < 0.9
    assert (cut.boxes[:, :2] < cut.boxes[:, 2:]).all()
    assert cut.boxes.min() >= 0 and cut.boxes.max() <= SIDE


def test_pairs_are_of_two_classes_and_do_not_touch():
    p, again = pairs(60, 3), pairs(60, 3)
    assert torch.equal(p.images, again.images)
    assert p.images.shape == (60, 3, SIDE, SIDE) and p.labels.shape == (60, 2) and p.boxes.shape == (60, 2, 4)
    assert p.images.min() >= 0 and p.images.max() <= 1
    assert (p.labels[:, 0] != p.labels[:, 1]).all() and set(p.labels.flatten().tolist()) == set(range(len(SHAPES)))
    low, high = p.boxes[..., :2], p.boxes[..., 2:]
    assert low.min() >= 0 and high.max() <= SIDE and (high - low >= 10).all()
    apart = torch.maximum(low[:, 0] - high[:, 1], low[:, 1] - high[:, 0]).amax(1)  # the gap, across or down
    assert (apart >= 0).all()


def test_networks_and_their_heads():
    x = torch.rand(1, 3, SIDE, SIDE)
    assert find_head(network("gap"), x).layer == "0"
    for head in ("flat", "fc"):
        with pytest.raises(HeadError):
            find_head(network(head), x)
    assert torch.equal(network("gap", 1)[3].weight, network("gap", 1)[3].weight)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    network("gap")
    assert torch.equal(torch.rand(1), expected)  # the caller's random numbers are left alone
    with pytest.raises(CamError, match="head='vgg'"):
        network("vgg")


def test_training_repeats_bit_by_bit_and_learns():
    data = pictures(96, 0, "class")  # the shortcut is quickly learnt
    threads, nets = torch.get_num_threads(), [network("gap"), network("gap")]
    losses = [train(net, data, epochs=4, progress=False) for net in nets]
    assert losses[0] == losses[1]
    assert losses[0][-1] < losses[0][0]
    for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(a, b)
    assert torch.get_num_threads() == threads
    assert not nets[0].training
    other = network("gap")
    train(other, data, epochs=1, seed=1, progress=False)
    assert not torch.equal(other[3].weight, nets[0][3].weight)


def test_the_trained_transformer():
    net = trained_transformer()
    assert accuracy(net, pictures(500, seed=9)) > 0.9  # pictures that it was not trained on
    assert sum(p.numel() * 4 for p in net.parameters()) < 2e6
    assert {k: v.shape for k, v in net.state_dict().items()} == {
        k: v.shape for k, v in network("vit").state_dict().items()
    }


def test_the_trained_network_without_gap():
    net = trained_fc()
    assert accuracy(net, pictures(500, seed=9)) > 0.9  # pictures that it was not trained on
    assert {k: (v.shape, v.dtype) for k, v in net.state_dict().items()} == {
        k: (v.shape, v.dtype) for k, v in network("fc").state_dict().items()
    }
    assert not net.training


@pytest.mark.long
def test_the_recipe_of_the_trained_transformer():
    net = network("vit", seed=7)
    train(net, pictures(4000, seed=107), epochs=5, rate=2e-3, seed=7, progress=False)
    assert accuracy(net, pictures(500, seed=9)) > 0.9


@pytest.mark.long
def test_the_recipe_of_the_trained_network_without_gap():
    """Another training by the recipe ends at a network that mostly says the same."""
    net, data = network("fc"), pictures(500, seed=9)
    train(net, pictures(4000, seed=100), epochs=5, threads=1, progress=False)
    assert accuracy(net, data) > 0.95
    net.eval()
    with torch.no_grad():
        ours, stored = (n(centred(data.images)).argmax(1) for n in (net, trained_fc()))
    assert (ours == stored).float().mean() > 0.95


@pytest.mark.parametrize("design", DESIGNS)
def test_designs_of_transformers(design):
    """By hand: which cells of the stem reach the logits, and, in windows, which cells one block mixes."""
    net = VisionTransformer(design).double().eval()
    x = torch.rand(2, 3, SIDE, SIDE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert net(x).shape == (2, len(SHAPES))
    assert torch.allclose(net(x)[:1], net(x[:1]))
    assert torch.equal(VisionTransformer(design).position, VisionTransformer(design).position)
    tokens = torch.rand(1, 64, net.position.shape[2], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(net.blocks[0](tokens)[0, 9 * 2].sum(), tokens)  # the cell in row 2, column 2
    reached = gradient.abs().sum(2)[0].reshape(8, 8) > 0
    assert reached.sum() == (16 if design == "windows" else 64)
    assert reached[:4, :4].all()
    with pytest.raises(CamError, match="design='swin'"):
        VisionTransformer("swin")


def test_shifted_windows_do_not_join_opposite_borders():
    net = VisionTransformer("windows").double().eval()
    tokens = torch.rand(1, 64, net.position.shape[2], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(net.blocks[1](tokens)[0, 0].sum(), tokens)  # the cell at the top left
    reached = gradient.abs().sum(2)[0].reshape(8, 8) > 0
    assert reached[:2, :2].all() and reached.sum() == 4  # a window of 4×4 cells that begins two cells outside


def test_accuracy():
    class Bright(torch.nn.Module):
        """Says class 1 where the picture is bright."""

        def forward(self, x):
            bright = (x.mean((1, 2, 3)) > 0).float()
            return torch.stack([1 - bright, bright], 1)

    images = torch.cat([torch.zeros(3, 3, 4, 4), torch.ones(1, 3, 4, 4)])
    labels = torch.tensor([0, 0, 1, 1])
    assert accuracy(Bright(), Pictures(images, labels, torch.zeros(4, 4))) == 0.75
    assert centred(torch.tensor([0.0, 0.5, 1.0])).tolist() == [-2, 0, 2]
