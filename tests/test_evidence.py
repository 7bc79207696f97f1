"""The evidence for classes: together where it can be, computed once, untouched by what happens to the network later."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from camlib import CamError, CamWarning, ModelError, View, load_model
from camlib.evidence import ClassMaps, Evidence, evidence
from camlib.methods import METHODS, find_method
from tests.networks import Wrapped, flat, gradients_of, scores_of, tiny

X = torch.randn(5, 3, 64, 64, generator=torch.Generator().manual_seed(0))
VIEW = View.identity((64, 64))


def evidence_of(clf, rows, method="cam", layer=None):
    """The evidence for the pictures of a batch (B, C, H, W), a view each."""
    tensors = [[x[None]] for x in rows]
    return evidence(clf, [[View.identity(tuple(x.shape[-2:]))] for x in rows], tensors, find_method(method), layer)


# --- maps by class ---------------------------------------------------------------------------------------------------


def test_maps_are_computed_when_needed_and_once():
    computed = []

    def compute(k):
        computed.append(k)
        return torch.full((2, 3), float(k))

    maps = ClassMaps(compute=compute)
    assert maps.stack([4, 1, 4])[:, 0, 0].tolist() == [4, 1, 4]
    assert maps.stack(k for k in (1, 2))[:, 1, 2].tolist() == [1, 2]
    assert computed == [4, 1, 2]


def test_maps_that_are_there_need_no_computing():
    every = torch.arange(12.0).view(3, 2, 2)
    assert torch.equal(ClassMaps(every=every).stack([2, 0]), every[[2, 0]])


@pytest.mark.parametrize("copied", [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy, copy.copy])
def test_a_copy_holds_the_maps_that_are_known(copied):
    maps = ClassMaps(compute=lambda k: torch.full((2, 2), float(k)))
    maps.stack([3, 5])
    again = copied(maps)
    assert torch.equal(again.stack([5, 3]), maps.stack([5, 3]))
    with pytest.raises(CamError, match=r"holds no network, and only the maps of the classes \[3, 5\]"):
        again.stack([4])
    assert maps.stack([4])[0, 0, 0] == 4, "the original is as it was"


# --- by the exact method ---------------------------------------------------------------------------------------------


def test_exact_evidence_is_computed_cell_by_cell():
    net = tiny()
    clf = load_model(net, size=64)
    results = evidence_of(clf, X)
    with torch.no_grad():
        features, logits = net[1](net[0](X)), net(X)
    for n, result in enumerate(results):
        (r,) = result.results
        torch.testing.assert_close(r.features[0], features[n])
        torch.testing.assert_close(r.logits[0], logits[n])
        torch.testing.assert_close(
            r.maps.stack(range(3)), torch.einsum("kc,chw->khw", net[4].weight.detach(), features[n])
        )
        assert (result.method, result.layer, result.of_this_photo) == (METHODS["cam"], "1", False)
        assert torch.equal(result.bias, net[4].bias.detach())


def test_sizes_may_be_mixed():
    clf = load_model(tiny(), size=64)
    rows = [X[0], X[1, :, :32], X[2], X[3, :, :32], X[4, :, :, :48]]
    for result, x in zip(evidence_of(clf, rows), rows, strict=True):
        assert result.results[0].view.size == tuple(x.shape[1:])
        torch.testing.assert_close(result.results[0].logits, scores_of(clf.module, x[None]))
    assert evidence_of(clf, []) == []


def test_evidence_after_a_layer_norm_is_this_photos_own():
    """LayerNorm divides by the photo's own deviation, so that two photos' maps share no unit."""

    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.last = nn.Conv2d(3, 6, 4, 4), nn.LayerNorm(6), nn.Linear(6, 3)

        def forward(self, x):
            return self.last(self.norm(self.conv(x).mean((2, 3))))

    torch.manual_seed(0)
    net = Normed().eval()
    first, second = evidence_of(load_model(net, size=64), X[:2])
    assert first.of_this_photo and second.of_this_photo
    for n, result in enumerate((first, second)):
        (r,) = result.results
        with torch.no_grad():
            features = net.conv(X[n : n + 1])
            means = features.mean((2, 3))
            deviation = (means.var(correction=0) + 1e-5).sqrt()
            weight = net.last.weight * net.norm.weight
            weight = weight - weight.mean(1, keepdim=True)
            maps = torch.einsum("kc,chw->khw", weight, features[0] / deviation)
        torch.testing.assert_close(r.maps.stack(range(3)), maps)
        torch.testing.assert_close(maps.mean((1, 2)) + result.bias, scores_of(net, X[n : n + 1])[0])


# --- by gradients ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["grad_cam", "hires_cam", "layer_cam", "grad_cam_plus_plus"])
def test_evidence_by_gradients_is_the_formula(name):
    net = flat()
    for result, x in zip(evidence_of(load_model(net, size=64), X[:2], name), X[:2], strict=True):
        (r,) = result.results
        assert result.bias is None
        assert torch.equal(r.logits, scores_of(net, x[None]))
        A, G = gradients_of(net, x[None], "1", lambda y: y[0, 2])
        torch.testing.assert_close(r.features, A)
        torch.testing.assert_close(r.maps.stack([2])[0], METHODS[name].formula(A, G)[0])


def trained(net):
    optimiser = torch.optim.SGD(net.parameters(), lr=0.5)
    F.cross_entropy(net.train()(X), torch.tensor([0, 1, 2, 0, 1])).backward()
    optimiser.step()
    net.eval()


def averaged(net):
    """As an exponential moving average does it: autograd does not count these changes."""
    for p in net.parameters():
        p.data.mul_(3)


def swapped(net):
    net[-1] = nn.Linear(net[-1].in_features, 7)


def on_meta(net):
    net.to("meta")


@pytest.mark.parametrize("change", [trained, averaged, swapped, on_meta])
@pytest.mark.parametrize("name", ["cam", "grad_cam", "hires_cam", "grad_cam_plus_plus"])
def test_what_was_explained_stays_when_the_network_changes(change, name):
    """Explanations collected while training and drawn later; a map that is first needed then is the old network's."""
    make = tiny if name == "cam" else flat
    net, like = make(), make()
    (early,) = evidence_of(load_model(net, size=64), X[:1], name)
    (expected,) = evidence_of(load_model(like, size=64), X[:1], name)
    change(net)
    torch.testing.assert_close(early.results[0].logits, scores_of(like, X[:1]))
    torch.testing.assert_close(early.results[0].maps.stack(range(3)), expected.results[0].maps.stack(range(3)))
    torch.testing.assert_close(early.results[0].features, expected.results[0].features)


@pytest.mark.parametrize("change", [trained, averaged, swapped])
def test_a_method_that_runs_the_network_again_says_that_it_has_changed(change):
    net = tiny()
    (early,) = evidence_of(load_model(net, size=64), X[:1], "score_cam")
    known = early.results[0].maps.stack([0]).clone()
    change(net)
    assert torch.equal(early.results[0].maps.stack([0]), known), "what is known stays"
    with pytest.raises(CamError, match="network has changed.*'score_cam' runs it again"):
        early.results[0].maps.stack([1])


def test_a_random_network_is_explained_with_a_warning():
    net = nn.Sequential(tiny()[:2], Wrapped(nn.Identity(), lambda y: F.dropout(y)), *tiny()[2:])
    clf = load_model(net.eval(), size=64)
    with pytest.warns(CamWarning, match="answers the same input differently.*one seeded draw"):
        first = evidence_of(clf, X[:1], "grad_cam")
    with pytest.warns(CamWarning):
        second = evidence_of(clf, X[:1], "grad_cam")
    assert torch.equal(first[0].results[0].maps.stack([0]), second[0].results[0].maps.stack([0]))


@pytest.mark.parametrize("name", ["cam", "grad_cam"])
def test_scores_that_are_not_finite_are_refused(name):
    clf = load_model(tiny(), size=64)
    assert isinstance(evidence_of(clf, X[:1], name)[0], Evidence)
    with torch.no_grad():
        clf.module[4].bias[1] = torch.inf
    with pytest.raises(CamError, match="not finite"):
        evidence_of(clf, X[:1], name)


@pytest.mark.parametrize("name", ["cam", "grad_cam"])
def test_another_number_of_scores_is_noticed(name):
    clf = load_model(tiny(), size=64)
    clf.module[4] = nn.Linear(4, 2)
    with pytest.raises(ModelError, match="now gives 2 scores but has 3 labels"):
        evidence_of(clf, X[:1], name)
