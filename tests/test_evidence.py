"""The evidence for classes: together where it can be, computed once, untouched by what happens to the network later."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map

from camlib import CamError, CamWarning, ModelError, TargetError, View, explain, explain_all, load_model
from camlib.evidence import ClassMaps, Evidence, ExactMaps, evidence
from camlib.forward_pass import ForwardPass
from camlib.methods import METHODS, find_method, register
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

    maps = ClassMaps(compute, 5)
    assert maps.stack([4, 1, 4])[:, 0, 0].tolist() == [4, 1, 4]
    assert maps.stack(k for k in (1, 2))[:, 1, 2].tolist() == [1, 2]
    assert computed == [4, 1, 2]


def test_exact_maps_are_weights_times_features():
    draw = torch.Generator().manual_seed(0)
    features, weight = (torch.randn(shape, generator=draw) for shape in ((1, 6, 2, 3), (4, 6)))
    expected = (weight[:, :, None, None].double() * features.double()).sum(1).float()
    maps = ExactMaps(features, weight)
    torch.testing.assert_close(maps.stack(k for k in (2, 0)), expected[[2, 0]])
    assert "every" not in vars(maps), "no class but those that were asked for"
    torch.testing.assert_close(maps.every, expected)
    assert maps.every.is_contiguous()
    torch.testing.assert_close(maps.stack([3, 3]), expected[[3, 3]])
    again = pickle.loads(pickle.dumps(maps))
    assert vars(again).keys() == {"every"} and torch.equal(again.stack([1]), maps.stack([1]))


@pytest.mark.parametrize("copied", [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy, copy.copy])
def test_a_copy_holds_the_maps_that_are_known(copied):
    maps = ClassMaps(lambda k: torch.full((2, 2), float(k)), 6)
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


def test_weights_are_copied_once_and_again_when_they_change():
    """Also by a change that no logit of this photo shows: orthogonal to what the classifier reads, behind autograd."""
    net = tiny()
    clf = load_model(net, size=64)
    (first,), (second,), both = evidence_of(clf, X[:1]), evidence_of(clf, X[1:2]), evidence_of(clf, X[:2])
    assert first.results[0].maps.weight is second.results[0].maps.weight
    old = net[4].weight.detach().clone()
    with torch.no_grad():
        features = net[1](net[0](X[:1]))
        mean = features.mean((2, 3))[0]
        change = torch.randn(4, generator=torch.Generator().manual_seed(1))
        net[4].weight.data[1] += change - (change @ mean) / (mean @ mean) * mean
    (later,) = evidence_of(clf, X[:1])
    torch.testing.assert_close(later.results[0].logits, first.results[0].logits)
    for result, weight in ((first, old), (both[0], old), (later, net[4].weight.detach())):
        expected = torch.einsum("kc,chw->khw", weight, features[0])
        torch.testing.assert_close(result.results[0].maps.stack(range(3)), expected)
    assert not torch.allclose(old, net[4].weight)


def test_batches_of_any_size_share_one_copy_of_the_weights():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 64, 8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 1000)).eval()
    clf = load_model(net, size=64)
    explained = [result for size in (1, 2, 3, 5, 1, 3) for result in evidence_of(clf, X[:size])]
    assert len({id(result.results[0].maps.weight) for result in explained}) == 1


@pytest.mark.parametrize("change", ["bias", "one weight", "one weight beside a large one", "order of the classes"])
def test_any_change_of_the_classifier_counts(change):
    net = tiny()
    clf = load_model(net, size=64)
    evidence_of(clf, X[:1])
    with torch.no_grad():
        if change == "bias":
            net[4].bias.data[2] += 1e-4
        elif change == "one weight":
            net[4].weight.data[2, 3] *= 1 + 1e-5
        elif change == "one weight beside a large one":  # any sum over the class's weights would absorb it
            net[4].weight.data[2, 0] = 1e7
            net[0].weight.data[0], net[0].bias.data[0] = 0, -1  # this channel is dead, so the large weight adds nothing
            evidence_of(clf, X[:1])
            net[4].weight.data[2, 3] += 1e-3
        else:
            net[4].weight.data, net[4].bias.data = net[4].weight.data.flip(0), net[4].bias.data.flip(0)
    (later,) = evidence_of(clf, X[:1])
    assert torch.equal(later.results[0].maps.weight, net[4].weight)
    assert torch.equal(later.bias, net[4].bias.detach())


@pytest.mark.parametrize("kept", ["contiguous", "transposed", "in a subclass"])
def test_weights_are_compared_however_they_are_stored(kept):
    net = tiny()
    if kept == "transposed":
        net[4].weight.data = net[4].weight.data.T.contiguous().T
    elif kept == "in a subclass":
        net[4].weight = nn.Parameter(Elsewhere(net[4].weight.detach()), requires_grad=False)
    clf = load_model(net, size=64)
    first, second = (evidence_of(clf, X[n : n + 1])[0].results[0].maps.weight for n in range(2))
    assert first is second
    old = first.clone()
    if kept == "in a subclass":
        net[4].weight = nn.Parameter(Elsewhere(old.inner * 2), requires_grad=False)
    else:
        net[4].weight.data *= 2
    (later,) = evidence_of(clf, X[:1])
    assert torch.equal(later.results[0].maps.weight * 1.0, old * 2.0)


class Elsewhere(torch.Tensor):
    """A tensor that stores its numbers in another tensor, as quantised weights do: its own memory is at address 0."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        plain = tree_map(lambda a: a.inner if isinstance(a, Elsewhere) else a, (args, kwargs or {}))
        result = func(*plain[0], **plain[1])
        keeps = func in (torch.ops.aten.detach.default, torch.ops.aten.clone.default)
        return cls(result) if keeps else result


# --- by gradients ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["grad_cam", "hires_cam", "layer_cam", "grad_cam_plus_plus"])
def test_evidence_by_gradients_is_the_formula(name):
    net = flat()
    for result, x in zip(evidence_of(load_model(net, size=64), X[:2], name), X[:2], strict=True):
        (r,) = result.results
        assert result.bias is None
        torch.testing.assert_close(r.logits, scores_of(net, x[None]))
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


GRADIENTS = [name for name, method in METHODS.items() if method.by_gradient]


@cache
def alone(name, n, k):
    """The map of one class for one photo, with a classifier of its own."""
    (result,) = evidence_of(load_model(flat(), size=64), X[n : n + 1], name)
    return result.results[0].maps.stack([k])[0]


@pytest.mark.parametrize("name", GRADIENTS)
def test_photos_of_a_batch_have_the_maps_that_each_has_alone(name):
    """Whichever classes are asked for, in whichever order: of the same rank, the same, or one for each photo."""
    net = flat()
    clf = load_model(net, size=64)
    evidence_of(clf, X, name)
    batches = []
    for wanted in ([0] * 5, [2, 0, 1, 1, 2], None, [1, 1, 0, 2, 0]):
        with net.register_forward_pre_hook(lambda _, args: batches.append(len(args[0]))):
            results = [r.results[0] for r in evidence_of(clf, X, name)]
        classes = [int(r.logits.argmax()) for r in results] if wanted is None else wanted
        for n, (r, k) in enumerate(zip(results, classes, strict=True)):
            torch.testing.assert_close(r.maps.stack([k])[0], alone(name, n, k), atol=1e-6, rtol=1e-4)
        for n, r in reversed(list(enumerate(results))):
            torch.testing.assert_close(r.maps.stack([0, 2])[1], alone(name, n, 2), atol=1e-6, rtol=1e-4)
    assert max(batches) == 5


@pytest.mark.parametrize(("name", "at_once"), [("grad_cam", 0), ("frozen", 1)])
def test_targets_take_one_backward_pass(monkeypatch, name, at_once):
    net = nn.Sequential(*flat()[:-1], nn.Linear(8, 40)).eval()
    clf = load_model(net, size=64)
    wanted, same = [7 * n for n in range(5)], torch.tensor(3)
    expected = [explain(clf, x, method=name).map([k, 3]) for x, k in zip(X, wanted, strict=True)]
    explain_all(clf, X, method=name)
    ran, passes = ForwardPass.raw_gradient, []

    def counted(self, k):
        if self.known is None:
            passes.append(k)
        return ran(self, k)

    monkeypatch.setattr(ForwardPass, "raw_gradient", counted)
    exps = explain_all(clf, X, method=name, targets=wanted)
    assert len(passes) == at_once
    torch.testing.assert_close([exp.map(k) for exp, k in zip(exps, wanted, strict=True)], [m[0] for m in expected])
    assert passes == [wanted]
    (one,) = explain_all(clf, X[:1], method=name, targets=[3])
    torch.testing.assert_close(one.map(3), expected[0][1])
    passes.clear()
    exps = explain_all(clf, X, method=name, targets=same)
    torch.testing.assert_close([exp.map(3) for exp in exps], [m[1] for m in expected])
    assert passes == [[3] * 5]
    with pytest.raises(TargetError, match="2 classes for 5 images"):
        explain_all(clf, X, method=name, targets=[3, 4])


@pytest.mark.parametrize(
    ("classes", "passes"),
    [("the best", 1), ("the best three", 3), ("the same", 2), ("three, the same", 5), ("each another", 5)],
)
def test_a_backward_pass_serves_the_whole_batch(monkeypatch, classes, passes):
    net = nn.Sequential(*flat()[:-1], nn.Linear(8, 40)).eval()
    clf = load_model(net, size=64)
    results = [r.results[0] for r in evidence_of(clf, X, "grad_cam")]
    order = torch.cat([r.logits for r in results]).argsort(dim=1, descending=True)
    wanted = {
        "the best": order[:, :1],
        "the best three": order[:, :3],
        "the same": order[:1, :1].expand(5, -1),
        "three, the same": order[:1, [0, 20, 30]].expand(5, -1),
        "each another": torch.stack([order[n, [n * 7]] for n in range(5)]),
    }[classes]
    ran, counted = ForwardPass.raw_gradient, []
    monkeypatch.setattr(ForwardPass, "raw_gradient", lambda self, k: counted.append(self.known) or ran(self, k))
    for r, indices in zip(results, wanted.tolist(), strict=True):
        r.maps.stack(indices)
    assert sum(known is None for known in counted) <= passes


def test_a_formula_sees_one_photo_and_its_error_is_that_photos_own():
    clf = load_model(flat(), size=64)
    clear = float(clf.module[:2](X[3:4]).detach().mean())

    def formula(A, G):
        assert len(A) == len(G) == 1
        if float(A.mean()) == pytest.approx(clear, rel=1e-4):
            return A  # which is no map
        return (A * G).sum(1) / (A * G).abs().max()

    register("relative", formula)
    try:
        results = evidence_of(clf, X, "relative")
        for n, result in enumerate(results):
            if n == 3:
                for _ in range(2):
                    with pytest.raises(CamError, match="must return a map"):
                        result.results[0].maps.stack([1])
            else:
                torch.testing.assert_close(result.results[0].maps.stack([1])[0], alone("relative", n, 1))
    finally:
        del METHODS["relative"]


def test_any_error_of_a_formula_is_that_photos_own():
    clf = load_model(flat(), size=64)
    clear = float(clf.module[:2](X[3:4]).detach().mean())

    def formula(A, G):
        if float(A.mean()) == pytest.approx(clear, rel=1e-4):
            raise ZeroDivisionError("this photo")
        return (A * G).sum(1)

    register("mine", formula)
    try:
        results = evidence_of(clf, X, "mine")
        for n, result in enumerate(results):
            if n != 3:
                torch.testing.assert_close(result.results[0].maps.stack([1])[0], alone("hires_cam", n, 1))
        for _ in range(2):
            with pytest.raises(ZeroDivisionError, match="this photo"):
                results[3].results[0].maps.stack([1])
    finally:
        del METHODS["mine"]


def test_how_many_photos_share_a_graph_is_limited(monkeypatch):
    net = flat()
    clf = load_model(net, size=64)
    evidence_of(clf, X, "grad_cam")
    batches = []
    net.register_forward_pre_hook(lambda _, args: batches.append(len(args[0])))
    evidence_of(clf, X, "grad_cam")  # with a new hook, the layer is searched once more
    for limit, expected in ((2, [2, 2, 1]), (16, [5])):
        monkeypatch.setattr("camlib.evidence.TOGETHER", limit)
        batches.clear()
        evidence_of(clf, X, "grad_cam")
        assert batches == expected
    monkeypatch.setattr("camlib.places.NEAR", 1)
    evidence_of(clf, X, "grad_cam", layer="0")
    batches.clear()
    evidence_of(clf, X, "grad_cam", layer="0")
    assert batches == [1] * 5, "far from the scores"


@pytest.mark.parametrize("name", GRADIENTS)
def test_threads_may_draw_the_photos_of_one_batch(name):
    clf = load_model(flat(), size=64)
    expected = [[alone(name, n, k) for k in range(3)] for n in range(5)]
    for _ in range(5):
        results = [r.results[0] for r in evidence_of(clf, X, name)]
        with ThreadPoolExecutor(5) as pool:
            drawn = list(pool.map(lambda r: r.maps.stack([1, 0, 2]), results))
        for maps, own in zip(drawn, expected, strict=True):
            torch.testing.assert_close(maps, torch.stack(own)[[1, 0, 2]], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("change", [trained, averaged, swapped])
@pytest.mark.parametrize("name", GRADIENTS)
def test_a_batch_that_was_explained_stays_when_the_network_changes(change, name):
    net = flat()
    results = evidence_of(load_model(net, size=64), X, name)
    results[0].results[0].maps.stack([1])
    change(net)
    for n, result in enumerate(results):
        torch.testing.assert_close(result.results[0].maps.stack([1])[0], alone(name, n, 1), atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(result.results[0].logits, scores_of(flat(), X[n : n + 1]))


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
