"""The method "frozen" from the outside: shapes, the sum, what is left behind, and explanations that keep their maps."""

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import camlib
from camlib import LayerError, ModelError, explain, frozen_cam, load_model
from camlib.forward_pass import run_forward
from camlib.frozen import TOLERANCE, without_cells
from camlib.layers import Grid
from tests.networks import assert_same, count_hooks, tiny

SIZE = 64


def photos(n=1, seed=0):
    return torch.randn(n, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


class Small(nn.Module):
    """A GELU, a gate, attention of cells and a normalisation: nothing has an exact map."""

    def __init__(self, seed=0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.conv, self.norm = nn.Conv2d(3, 6, 8, 8), nn.BatchNorm2d(6)
            self.gate, self.attention = nn.Conv2d(6, 6, 1), nn.MultiheadAttention(6, 2, batch_first=True)
            self.last, self.drop = nn.Linear(6, 3), nn.Dropout(0.5)
            nn.init.normal_(self.norm.bias)
        self.eval()

    def forward(self, x):
        f = F.gelu(self.norm(self.conv(x)))
        f = f * self.gate(f.mean((2, 3), keepdim=True)).sigmoid()
        t = f.flatten(2).transpose(1, 2)
        t = F.layer_norm(t + self.attention(t, t, t)[0], (6,))
        return self.last(self.drop(t.mean(1)))


class Unheld(Small):
    """Fails only when its map is verified."""

    def forward(self, x):
        return self.last(self.conv(x).cumprod(2).mean((2, 3)))


class Breaks(Small):
    """Fails in every second run, that is, in the replay."""

    runs = 0

    def forward(self, x):
        f = self.conv(x)
        type(self).runs += 1
        if type(self).runs % 2 == 0:
            raise ValueError("broken on purpose")
        return self.last(f.relu().mean((2, 3)))


def classifier(net, **options):
    options = {"size": SIZE, "mean": 0.5, "std": 0.5} | options
    return load_model(net, labels=["a", "b", "c"], **options)


@pytest.fixture(scope="module")
def small():
    return classifier(Small())


@pytest.fixture(scope="module")
def picture():
    rows = np.random.default_rng(0)
    return np.kron(rows.integers(0, 255, (10, 12, 3)), np.ones((10, 10, 1))).astype(np.uint8)


# --- tensors ---------------------------------------------------------------------------------------------------------


def test_shapes_for_one_target_a_list_and_a_tensor():
    net, x = Small(), photos(3)
    one, several = frozen_cam(net, x, 1), frozen_cam(net, x, [2, 1])
    each = frozen_cam(net, x, torch.tensor([2, 1, 0]))
    assert one.shape == each.shape == (3, 8, 8) and several.shape == (3, 2, 8, 8)
    assert torch.equal(several[:, 1], one)
    assert_same(each[0], several[0, 0], 1e-5)
    assert_same(each[1], one[1], 1e-5)
    assert one.dtype == torch.float32 and frozen_cam(net.double(), x.double(), 1).dtype == torch.float64


def test_relu_drops_what_speaks_against():
    net, x = Small(), photos(2)
    signed = frozen_cam(net, x, 0)
    assert signed.min() < 0 < signed.max()
    assert torch.equal(frozen_cam(net, x, 0, relu=True), signed.clamp(min=0))


def test_layer_as_name_and_module():
    net, x = Small(), photos(2)
    named = frozen_cam(net, x, 0, layer="norm")
    assert torch.equal(frozen_cam(net, x, 0, layer=net.norm), named)
    assert not torch.equal(frozen_cam(net, x, 0, layer="conv"), named)
    with pytest.raises(LayerError, match="no layer 'nor'"):
        frozen_cam(net, x, 0, layer="nor")


@pytest.mark.parametrize("layer", [None, "conv"])
def test_a_batch_is_its_photos_one_by_one(layer):
    net, x = Small().double(), photos(3).double()
    together = frozen_cam(net, x, [0, 2], layer)
    alone = torch.cat([frozen_cam(net, row[None], [0, 2], layer) for row in x])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("layer", [None, "conv", "norm", "gate"])
def test_the_sum(layer):
    net, x = Small().double(), photos(2).double()
    if layer == "gate":  # (B, 6, 1, 1): one cell, not a map
        with pytest.raises(LayerError):
            frozen_cam(net, x, 0, layer)
        return
    ran = run_forward(net, x, layer, hold=True)
    maps = frozen_cam(net, x, [0, 1, 2], layer)
    torch.testing.assert_close(maps.mean((2, 3)) + ran.rest, net(x).detach(), rtol=1e-10, atol=1e-12)
    assert (maps.mean((2, 3)).abs() > 1e-4).all() and ran.rest.abs().max() > 1e-3


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_whatever_the_callers_gradient_mode(mode):
    net, x = Small(), photos()
    expected = frozen_cam(net, x, 1)
    with mode():
        enabled = torch.is_grad_enabled()
        assert torch.equal(frozen_cam(net, x.clone(), 1), expected)
        assert torch.is_grad_enabled() == enabled
    for p in net.parameters():
        p.requires_grad_(False)
    assert torch.equal(frozen_cam(net, x, 1), expected)


def test_training_mode_is_left_out():
    """Dropout and batch statistics belong to training: the map is that of the network in evaluation mode."""
    net, x = Small(), photos(2)
    expected = frozen_cam(net, x, 1)
    net.train()
    assert torch.equal(frozen_cam(net, x, 1), expected)
    assert net.training and net.drop.training


@pytest.mark.parametrize("where, kept", [("first", 0), ("last", 16)])
def test_without_cells_keeps_tokens_beside_the_grid(where, kept):
    """A class token stays; the cells become 0."""
    value, x = torch.randn(2, 17, 5, generator=torch.Generator().manual_seed(0)), torch.zeros(2, 3, 32, 32)
    empty = without_cells(value, Grid("nlc", extra=1, where=where), x)
    assert torch.equal(empty[:, kept], value[:, kept]) and value[:, kept].all()
    assert int((empty != 0).sum()) == 2 * 5


def test_tolerances_follow_the_precision():
    """Wide enough for what a type rounds, narrow enough that one per cent is noticed in float32."""
    for dtype, tolerance in TOLERANCE.items():
        assert torch.finfo(dtype).eps < tolerance
    assert TOLERANCE[torch.float32] < 1e-3 and TOLERANCE[torch.float64] < 1e-6


# --- equal to the class activation map -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_cam_of_a_small_network(seed, picture):
    clf = classifier(tiny(seed=seed))
    exact, frozen = explain(clf, picture), explain(clf, picture, method="frozen")
    assert frozen.layer == exact.layer == "1"
    assert_same(frozen.maps, exact.maps, 1e-5)
    torch.testing.assert_close(frozen.bias, clf.module[4].bias.detach())
    assert frozen.rest(0) == pytest.approx(exact.rest(0), abs=1e-6)
    assert frozen.share(0) == pytest.approx(exact.share(0), rel=1e-4)


def test_equals_the_cam_of_the_bundled_network(clf, cat):
    exact, frozen = explain(clf, cat), explain(clf, cat, method="frozen")
    best = [p.index for p in exact.top(3)]
    assert_same(frozen.map(best), exact.map(best), 1e-4)
    torch.testing.assert_close(frozen.bias, exact.bias, atol=1e-4, rtol=1e-4)
    assert torch.equal(frozen.logits.argmax(), exact.logits.argmax())


# --- explanations ----------------------------------------------------------------------------------------------------


def test_explanation(small, picture):
    exp = explain(small, picture, method="frozen")
    assert exp.method == "frozen" and exp.additive and exp.maps.shape == (3, 8, 8)
    torch.testing.assert_close(exp.maps.mean((1, 2)) + exp.bias, exp.logits, atol=1e-5, rtol=1e-4)
    best = int(exp.logits.argmax())
    assert exp.rest(best) == pytest.approx(float(exp.bias[best])) and exp.rest(best) != 0
    on_the_map = float(exp.map(best).mean())
    assert exp.share(best) == pytest.approx(on_the_map / float(exp.logits[best]), rel=1e-3)
    assert float(exp.residual()) < 1e-5 and float(exp.residual([0, 1, 2])) < 1e-5 and float(exp.residual(["b"])) < 1e-5
    assert torch.equal(exp.map("b"), exp.map(1)) and torch.equal(exp.map([2, 0])[1], exp.map(0))
    assert "frozen" in repr(exp)


def test_contrast(small, picture):
    exp = explain(small, picture, method="frozen")
    torch.testing.assert_close(exp.contrast(0, 1), exp.map(0) - exp.map(1))


def test_several_sizes(picture):
    clf = classifier(Small(), resize=96)
    exp = explain(clf, picture, method="frozen", sizes=[64, 96])
    assert [r.features.shape[2:] for r in exp.results] == [(8, 8), (12, 12)]
    torch.testing.assert_close(exp.maps.mean((1, 2)) + exp.bias, exp.logits, atol=1e-5, rtol=1e-4)
    assert float(exp.residual([0, 1])) < 1e-5
    alone = [explain(clf, picture, method="frozen", sizes=[size]) for size in (64, 96)]
    torch.testing.assert_close(exp.bias, (alone[0].bias + alone[1].bias) / 2)


def test_save_pickle_and_copy(small, picture, tmp_path):
    exp = explain(small, picture, method="frozen")
    with np.load(exp.save(tmp_path / "m.npz", [0, 2])) as stored:
        np.testing.assert_array_equal(stored["maps"], exp.map([0, 2]).numpy())
        sums = stored["maps"].mean((1, 2)) + stored["rest"][[0, 2]]
        np.testing.assert_allclose(sums, stored["logits"][[0, 2]], atol=1e-5)
    assert exp.manifest([0])["method"] == "frozen"
    assert exp.manifest([0])["classes"][0]["rest"] == pytest.approx(exp.rest(0))
    for again in (pickle.loads(pickle.dumps(exp)), copy.deepcopy(exp)):
        assert torch.equal(again.map([0, 1, 2]), exp.map([0, 1, 2]))
        assert again.rest(1) == exp.rest(1) and float(again.residual()) < 1e-5
    assert exp.save(tmp_path / "m.png").exists()


def test_by_and_compare(clf, cat, picture):
    exact = explain(classifier(tiny()), picture)
    frozen = exact.by("frozen")
    assert frozen.method == "frozen" and frozen.by("frozen") is frozen and frozen.by("cam").method == "cam"
    assert_same(frozen.map(0), exact.map(0), 1e-5)
    assert frozen.by("grad_cam").layer == frozen.layer
    figure = exact.compare("cam", "frozen", "grad_cam")
    assert all(f"{name}, strongest at" in figure.get_label() for name in ("cam", "frozen", "grad_cam"))


def test_other_methods_still_have_no_rest(small, picture):
    with pytest.raises(camlib.CamError, match="frozen"):
        explain(small, picture, method="grad_cam").rest(0)


def test_the_named_layer_is_taken(small, picture):
    exp = explain(small, picture, method="frozen", layer="conv")
    assert exp.layer == "conv" and float(exp.residual()) < 1e-5
    assert not torch.equal(exp.map(0), explain(small, picture, method="frozen", layer="norm").map(0))


@pytest.mark.parametrize("method", ["frozen"])
def test_later_maps_are_those_of_the_network_as_it_was(picture, method):
    net = Small()
    clf = classifier(net)
    expected = explain(clf, picture, method=method).map([0, 1, 2]).clone()
    exp = explain(clf, picture, method=method)
    optimiser = torch.optim.SGD(net.parameters(), lr=1.0)
    net.train()
    F.cross_entropy(net(photos(4)), torch.tensor([0, 1, 2, 0])).backward()
    optimiser.step()
    for p in net.parameters():
        p.data.mul_(1.3)
    net.norm.running_var.mul_(3)
    net.eval()
    assert torch.equal(exp.map([0, 1, 2]), expected)
    changed = explain(clf, picture, method=method).map([0, 1, 2])
    assert (changed - expected).abs().max() > 0.01 * expected.abs().max()


class Normalises(nn.Module):
    def __init__(self, part):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.conv, self.part, self.last = nn.Conv2d(3, 6, 8, 8), part, nn.Linear(6, 3)
        self.eval()

    def forward(self, x):
        tokens = F.gelu(self.conv(x)).flatten(2).transpose(1, 2)
        if isinstance(self.part, (nn.LayerNorm, nn.RMSNorm)):
            return self.last(self.part(tokens).mean(1))
        return self.last(self.part(tokens.transpose(1, 2)).square().mean(2))


@pytest.mark.parametrize("statistics", [False, True])
@pytest.mark.parametrize(
    "part",
    [
        lambda: nn.LayerNorm(6),
        lambda: nn.RMSNorm(6),
        lambda: nn.GroupNorm(2, 6),
        lambda: nn.InstanceNorm1d(6, affine=True),
        lambda: nn.BatchNorm1d(6),
        lambda: nn.PReLU(6),
        lambda: nn.Conv1d(6, 6, 1),
    ],
    ids=["layer", "rms", "group", "instance", "batch", "prelu", "conv"],
)
def test_the_gates_hold_copies_of_each_parameter(picture, part, statistics):
    """A map that is asked for after a training step is the one that it would have been before."""
    net = Normalises(part())
    clf = classifier(net)
    expected = explain(clf, picture, method="frozen", layer="conv").map([0, 1, 2]).clone()
    exp = explain(clf, picture, method="frozen", layer="conv")
    with torch.no_grad():
        for t in net.buffers() if statistics else net.parameters():
            t.mul_(2).add_(1)
    assert torch.equal(exp.map([0, 1, 2]), expected) and float(exp.residual([0, 1, 2])) < 1e-4


@pytest.mark.parametrize("method", ["frozen", "grad_cam"])
def test_scores_that_are_not_finite(picture, method):
    class Log(Small):
        def forward(self, x):
            return self.last(self.conv(x).mean((2, 3))).log()

    with pytest.raises(ModelError, match="The scores of Log are not finite"):
        explain(classifier(Log()), picture, method=method, layer="conv")


# --- errors ----------------------------------------------------------------------------------------------------------


def test_explain_verifies_at_once(picture):
    with pytest.raises(LayerError, match=r"Unheld.*cumprod"):
        explain(classifier(Unheld()), picture, method="frozen", layer="conv")


def test_an_error_in_the_replay_says_so():
    Breaks.runs = 0
    with pytest.raises(LayerError, match=r"cannot be run again with its gates held: .*broken on purpose"):
        frozen_cam(Breaks(), photos(), 0, layer="conv")


# --- leaves no trace -------------------------------------------------------------------------------------------------


def state(net):
    return (
        [m.training for m in net.modules()],
        [p.requires_grad for p in net.parameters()],
        [(id(t), t.clone()) for t in [*net.parameters(), *net.buffers()]],
        [p.grad for p in net.parameters()],
        count_hooks(net),
        sorted(key for m in net.modules() for key in vars(m)),
        torch.is_grad_enabled(),
        torch.get_rng_state(),
        torch._C._len_torch_function_stack(),
        torch._C._len_torch_dispatch_stack(),
        torch._C._autograd._top_saved_tensors_default_hooks(False),
    )


def assert_same_state(net, before):
    for now, then in zip(state(net), before, strict=True):
        if isinstance(then, torch.Tensor):
            assert torch.equal(now, then)
        elif isinstance(then, list) and then and isinstance(then[0], tuple):
            assert all(a == b and torch.equal(v, w) for (a, v), (b, w) in zip(now, then, strict=True))
        else:
            assert now == then


@pytest.mark.parametrize("layer", [None, "conv"])
@pytest.mark.parametrize("kind", [Small, Unheld, Breaks])
def test_nothing_is_left_behind(kind, layer):
    Breaks.runs = 0 if layer else 1
    net = kind().train()
    net.norm.eval()
    net.conv.weight.requires_grad_(False)
    x = photos(1)
    before = state(net)
    if kind is Small:
        frozen_cam(net, x, 1, layer)
    else:
        with pytest.raises(camlib.CamError):
            frozen_cam(net, x, 1, layer)
    assert_same_state(net, before)
    assert x.grad is None and not x.requires_grad


def test_the_network_still_trains():
    net, x = Small(), photos(2)
    net(x).sum().backward()
    expected = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    frozen_cam(net, x, 1)
    net(x).sum().backward()
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), expected, strict=True))


def test_threads_share_a_network():
    net, inputs = Small().train(), [photos(seed=s) for s in range(8)]
    with ThreadPoolExecutor(1) as one:  # a new thread as well: the main one may compute with another number of threads
        alone = list(one.map(lambda x: frozen_cam(net, x, 1), inputs))
    results, errors = {}, []

    def work(numbers):
        try:
            for n in numbers:
                results[n] = frozen_cam(net, inputs[n], 1)
        except Exception as e:
            errors.append(e)

    threads = [threading.Thread(target=work, args=(range(start, 8, 2),)) for start in (0, 1)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not errors
    assert all(torch.equal(results[n], alone[n]) for n in range(8))
    assert net.training and count_hooks(net) == 0
