"""Destroying weights, and baselines that know nothing."""

import numpy as np
import pytest
import torch
from scipy import stats

from camlib import CamError, LayerError, explain, load_model
from camlib.sanity import centre_map, edge_map, random_map, randomised, rank_correlation, stamped
from camlib.shapes import NORMALISATION, SHAPES, SIDE, network


@pytest.fixture
def small():
    return load_model(network("gap"), labels=SHAPES, size=SIDE, **NORMALISATION)


def state(clf):
    return {name: value.clone() for name, value in clf.module.state_dict().items()}


def test_randomised_destroys_layer_by_layer_and_leaves_the_original(small):
    before = state(small)
    stages = list(randomised(small, ["3", "0.11", "0.0"]))
    assert [name for name, _ in stages] == ["3", "0.11", "0.0"]
    changed = [
        {name for name, value in state(broken).items() if not torch.equal(value, before[name])} for _, broken in stages
    ]
    assert changed == [{"3.weight", "3.bias"}, {"3.weight", "3.bias", "0.11.weight"}, changed[1] | {"0.0.weight"}]
    assert all(torch.equal(value, before[name]) for name, value in state(small).items())
    last = state(stages[2][1])
    for name in ("3.weight", "0.11.weight", "0.0.weight"):
        assert torch.equal(last[name].flatten().sort().values, before[name].flatten().sort().values)
    assert torch.equal(state(stages[0][1])["3.weight"], last["3.weight"])  # destroyed once, and left so


def test_randomised_is_seeded(small):
    first, again, other = (state(next(randomised(small, ["3"], seed))[1])["3.weight"] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_map_of_a_broken_network_is_its_own(small):
    """The head is found anew: the identity holds for the broken network."""
    photo = (np.random.default_rng(0).random((64, 64, 3)) * 255).astype(np.uint8)
    plain = explain(small, photo, view="whole")
    for _, broken in randomised(small, ["3", "0.11"]):
        exp = explain(broken, photo, view="whole")
        assert exp.residual() < 1e-4
        assert not torch.allclose(exp.maps, plain.maps, atol=1e-3)


def test_randomised_works_on_an_apple_gpu(mps, small):
    on_gpu = small.to("mps")
    for (_, here), (_, there) in zip(randomised(small, ["3", "0.0"]), randomised(on_gpu, ["3", "0.0"]), strict=True):
        assert there.device == mps
        for name, value in there.module.state_dict().items():
            assert torch.equal(value.cpu(), here.module.state_dict()[name])
    maps = torch.rand(2, 3, 4).to("mps")
    assert rank_correlation(*maps) == pytest.approx(rank_correlation(*maps.cpu()))


def test_randomised_names_the_mistake(small):
    with pytest.raises(LayerError, match="has no layer 'fc'"):
        next(randomised(small, ["fc"]))
    with pytest.raises(CamError, match="no parameters"):
        next(randomised(small, ["0.2"]))


def test_rank_correlation():
    a, b = (torch.randn(7, 7, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert rank_correlation(a, b) == pytest.approx(stats.spearmanr(a.flatten(), b.flatten()).statistic)
    assert rank_correlation(a, a.exp()) == pytest.approx(1)
    assert rank_correlation(a, -a) == pytest.approx(-1)
    with pytest.raises(CamError, match="constant"):
        rank_correlation(a, torch.ones(7, 7))
    with pytest.raises(CamError, match="two maps of the same shape"):
        rank_correlation(a, b[:3])


def test_centre_map():
    blob = centre_map((5, 9))
    assert blob.shape == (5, 9)
    assert blob[2, 4] == 1 == blob.max()
    torch.testing.assert_close(blob, blob.flip(0))
    torch.testing.assert_close(blob, blob.flip(1))
    wide = centre_map((100, 200), spread=0.25)
    assert float(wide[49:51, 149:151].mean()) == pytest.approx(
        np.exp(-0.5), abs=0.01
    )  # a quarter of 200 off the middle


def test_random_map_is_seeded():
    assert torch.equal(random_map((3, 4), 1), random_map((3, 4), 1))
    assert not torch.equal(random_map((3, 4), 1), random_map((3, 4), 2))


def test_edge_map():
    photo = np.zeros((10, 10, 3), np.uint8)
    photo[:, 5:] = 255
    edges = edge_map(photo)
    assert edges.shape == (10, 10)
    assert (edges[:, 4:6] > 0).all()
    assert (edges[:, :4] == 0).all()
    assert (edges[:, 6:] == 0).all()


# --- watermarks ------------------------------------------------------------------------------------------------------


def test_a_strip_lies_across_the_central_square():
    """White letters on nothing: each pixel by the formula of alpha blending."""
    photo = np.random.default_rng(0).integers(0, 256, (90, 130, 3), np.uint8)
    strip = np.zeros((30, 90, 4), np.uint8)
    strip[..., :3], strip[5:25, 10:50, 3] = 255, 255
    before = photo.copy()
    picture, box = stamped(photo, strip, opacity=0.5, top=0.2)
    assert box == (20, 18, 110, 48), "as wide as the square, whose side is 90, and 0.2 of it down"
    expected = photo.astype(float)
    alpha = strip[..., 3:] / 255 * 0.5
    expected[18:48, 20:110] = expected[18:48, 20:110] * (1 - alpha) + 255 * alpha
    assert np.abs(picture - expected).max() <= 1
    assert np.array_equal(photo, before), "the photo is left alone"
    assert np.array_equal(stamped(photo, strip, opacity=0)[0], photo)


def test_a_strip_below_the_edge_is_cut_off():
    photo, strip = np.zeros((50, 40, 3), np.uint8), np.full((10, 40, 4), 255, np.uint8)
    picture, (_, upper, _, lower) = stamped(photo, strip, opacity=1, top=1)
    assert (upper, lower) == (45, 55)
    assert picture[45:].min() == 255 and picture[:45].max() == 0


@pytest.mark.parametrize(
    ("strip", "options", "says"),
    [
        (np.zeros((3, 9, 3), np.uint8), {}, r"\(3, 9, 3\) of uint8; it must be \(h, w, 4\)"),
        (np.zeros((3, 9, 4)), {}, "of float64"),
        (np.zeros((3, 9, 4), np.uint8), {"opacity": 50}, "opacity=50"),
        (np.zeros((3, 9, 4), np.uint8), {"top": -0.1}, "top=-0.1"),
    ],
)
def test_a_wrong_strip_is_refused(strip, options, says):
    with pytest.raises(CamError, match=says):
        stamped(np.zeros((20, 20, 3), np.uint8), strip, **options)
