"""Maps against a hand-computed tensor, a loop and a 1×1 convolution."""

import pytest
import torch
from torch.nn import functional as F

from camlib import CamError, class_activation_maps, contrast, residual


@pytest.fixture
def random():
    g = torch.Generator().manual_seed(0)
    return torch.randn(3, 6, 4, 5, generator=g), torch.randn(7, 6, generator=g), torch.randn(7, generator=g)


def test_by_hand():
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])  # (1, 2, 1, 2)
    weight = torch.tensor([[10.0, 1.0], [-1.0, 0.5], [0.0, 0.0]])
    expected = torch.tensor([[[[13.0, 24.0]], [[0.5, 0.0]], [[0.0, 0.0]]]])
    assert torch.equal(class_activation_maps(features, weight), expected)


def test_equals_loop_and_convolution(random):
    features, weight, _ = random
    maps = class_activation_maps(features, weight)
    loop = torch.zeros(3, 7, 4, 5)
    for b in range(3):
        for k in range(7):
            for c in range(6):
                loop[b, k] += weight[k, c] * features[b, c]
    torch.testing.assert_close(maps, loop, atol=1e-5, rtol=0)
    torch.testing.assert_close(maps, F.conv2d(features, weight[:, :, None, None]), atol=1e-5, rtol=0)


def test_identity_with_pooling_and_linear(random):
    features, weight, bias = random
    logits = F.linear(F.adaptive_avg_pool2d(features, 1).flatten(1), weight, bias)
    maps = class_activation_maps(features, weight)
    assert residual(maps, bias, logits) < 1e-5
    assert residual(maps, bias, logits + torch.eye(3, 7) * 0.5) == pytest.approx(0.5, abs=1e-5)


def test_batch_equals_alone(random):
    features, weight, _ = random
    both = class_activation_maps(features, weight)
    for b in range(3):
        torch.testing.assert_close(
            both[b : b + 1], class_activation_maps(features[b : b + 1], weight), atol=1e-5, rtol=0
        )


def test_contrast_is_the_difference_of_maps(random):
    features, weight, bias = random
    maps = class_activation_maps(features, weight)
    found = contrast(features, weight, 2, 5)
    torch.testing.assert_close(found, maps[:, 2] - maps[:, 5], atol=1e-5, rtol=0)
    logits = maps.mean((2, 3)) + bias
    torch.testing.assert_close(found.mean((1, 2)) + bias[2] - bias[5], logits[:, 2] - logits[:, 5], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("features", "weight"), [((6, 4, 5), (7, 6)), ((1, 6, 4, 5), (6, 7)), ((1, 6, 4, 5), (6,))])
def test_wrong_shapes_are_named(features, weight):
    with pytest.raises(CamError, match=r"features \(B, C, h, w\) and weight \(K, C\)") as error:
        class_activation_maps(torch.zeros(features), torch.zeros(weight))
    assert str(features) in str(error.value)
