"""The whole way on real photographs: the identity, the places, what is refused, and what is left as it was."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
import torch
from torch.nn import functional as F

from camlib import (
    CamError,
    HeadError,
    ImageError,
    ModelError,
    TargetError,
    evaluate,
    explain,
    explain_all,
    grad_cam,
    load_model,
    place,
    score_cam,
)
from camlib.inputs import prepare
from camlib.methods import METHODS, find_method, register
from camlib.network import mixes_batch
from camlib.pipeline import explain_prepared
from tests.networks import Fickle, build, count_hooks, flat, gradients_of, scores_of, tiny


@pytest.fixture(scope="module")
def exp(clf, cat):
    return explain(clf, cat)


def test_logits_are_the_networks_own(clf, cat, exp):
    with torch.no_grad():
        logits = clf.module(clf.preprocess(cat, clf.view(cat)))[0]
    assert torch.equal(exp.logits, logits)
    probability, order = logits.softmax(0).topk(5)
    top = exp.top(5)
    assert [p.index for p in top] == order.tolist()
    assert [p.probability for p in top] == pytest.approx(probability.tolist(), abs=1e-6)
    assert top[0].label == "tiger cat"


def test_maps_are_the_pooled_features_before_pooling(clf, cat, exp):
    """Independent: the network's own forward_features and classifier, applied cell by cell."""
    with torch.no_grad():
        features = clf.module.forward_features(clf.preprocess(cat, clf.view(cat)))
        cells = clf.module.classifier(features.permute(0, 2, 3, 1))[0].permute(2, 0, 1)  # each cell classified alone
    torch.testing.assert_close(exp.maps + exp.bias[:, None, None], cells, atol=1e-4, rtol=0)
    assert exp.maps.shape == (1000, 7, 7)
    assert exp.maps.dtype == torch.float32
    assert exp.residual() < 1e-4
    torch.testing.assert_close(exp.map("tiger cat"), exp.maps[282], atol=1e-5, rtol=0)


def test_heatmap_is_the_map_placed(exp, cat):
    heat = exp.heatmap(282)
    assert heat.shape == cat.shape[:2]
    torch.testing.assert_close(heat, place(exp.map(282), exp.view), equal_nan=True, atol=1e-4, rtol=0)
    assert heat.isnan().any(), "the crop leaves a border that the network never saw"


def test_whole_view_sees_everything(clf, cat):
    exp = explain(clf, cat, view="whole")
    assert exp.maps.shape == (1000, 7, 11)
    assert not exp.heatmap(282).isnan().any()
    assert exp.residual() < 1e-4


def test_several_sizes_are_averaged_and_the_identity_holds(clf, cat):
    sizes = (224, 320, 448)
    alone = [explain(clf, cat, sizes=s) for s in sizes]
    exp = explain(clf, cat, sizes=sizes)
    assert [e.maps.shape[-1] for e in alone] == [7, 10, 14]
    assert exp.maps.shape == (1000, 14, 14)
    assert exp.residual() < 1e-4
    torch.testing.assert_close(exp.logits, torch.stack([e.logits for e in alone]).mean(0))
    mean = torch.stack([e.heatmap(282) for e in alone]).mean(0)
    torch.testing.assert_close(exp.heatmap(282), mean, equal_nan=True, atol=1e-4, rtol=0)


def test_two_photos_in_one_batch_equal_each_alone(clf):
    names = ["data/photos/cat.jpg", "data/photos/coffee.png"]
    for both, name in zip(explain_all(clf, names), names, strict=True):
        alone = explain(clf, name)
        torch.testing.assert_close(both.logits, alone.logits, atol=1e-5, rtol=0)
        torch.testing.assert_close(both.maps, alone.maps, atol=5e-5, rtol=0)
        assert both.top(1)[0].label == alone.top(1)[0].label


def test_photos_of_different_shapes_keep_their_order(clf):
    names = ["data/photos/cat.jpg", "data/photos/grace_hopper.jpg", "data/photos/coffee.png"]
    exps = explain_all(clf, names, view="whole")
    assert [e.photo.shape for e in exps] == [(300, 451, 3), (600, 512, 3), (400, 600, 3)]
    for e, name in zip(exps, names, strict=True):
        torch.testing.assert_close(e.logits, explain(clf, name, view="whole").logits, atol=1e-4, rtol=0)


def test_inputs_of_one_size_go_through_the_network_together(cat):
    net = tiny()
    clf = load_model(net, size=64)
    assert clf.head.layer == "1"
    batches = []
    net.register_forward_pre_hook(lambda _, args: batches.append(tuple(args[0].shape)))
    explain_all(clf, [cat, cat])  # with a new hook, the network is searched once more, and tried with a batch
    batches.clear()
    explain_all(clf, [cat, cat[:200], cat], sizes=(64, 96))
    assert batches == [(3, 3, 64, 64), (3, 3, 96, 96)]


def test_prepared_inputs_are_explained_as_the_images_are(cat):
    clf = load_model(flat(), size=64)
    for name in ("grad_cam", "layer_cam"):
        (ready,) = explain_prepared(clf, [prepare(clf, cat)], find_method(name))
        direct = explain(clf, cat, method=name)
        assert ready.method == name
        assert torch.equal(ready.map(1), direct.map(1))
        assert np.array_equal(ready.photo, cat)


@pytest.mark.parametrize(
    ("method", "formula"),
    [
        ("grad_cam", lambda A, G: (G.mean((2, 3), keepdim=True) * A).sum(1)),
        ("hires_cam", lambda A, G: (G * A).sum(1)),
        ("layer_cam", lambda A, G: (G.clamp(min=0) * A).sum(1)),
    ],
)
def test_methods_by_gradients_are_their_formulas(cat, method, formula):
    net = flat()
    clf = load_model(net, size=64)
    exp = explain(clf, cat, method=method)
    x = clf.preprocess(cat, clf.view(cat))
    assert torch.equal(exp.logits, scores_of(net, x)[0])
    for k in range(3):
        A, G = gradients_of(net, x, "1", lambda y, k=k: y[0, k])
        torch.testing.assert_close(exp.map(k), formula(A, G)[0], atol=1e-6, rtol=1e-5)
    assert exp.layer == "1"
    torch.testing.assert_close(
        explain(clf, cat, method=method, layer="0").map(0),
        formula(*gradients_of(net, x, "0", lambda y: y[0, 0]))[0],
        atol=1e-6,
        rtol=1e-5,
    )


def test_a_method_of_ones_own_is_one_line(cat):
    clf = load_model(flat(), size=64)
    register("input_times_gradient", lambda A, G: (A * G).sum(1).clamp(min=0), unit="our unit", summary="ours")
    try:
        exp = explain(clf, cat, method="input_times_gradient")
        assert torch.equal(exp.map(2), explain(clf, cat, method="hires_cam").map(2).clamp(min=0))
        assert (exp.method, exp.unit, exp.additive) == ("input_times_gradient", "our unit", False)
        assert _bar_labels(exp.plot())[0].startswith("our unit")
    finally:
        del METHODS["input_times_gradient"]


def _bar_labels(fig):
    return [ax.get_ylabel() for ax in fig.axes if ax.get_ylabel()]


# --- what a person can get wrong -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda c, p: explain(c, "missing.jpg"), ImageError, "no such file"),
        (lambda c, p: explain(c, p, method="magic"), CamError, "No method 'magic'"),
        (lambda c, p: explain(c, p, method="grad-cam"), CamError, "Did you mean: grad_cam"),
        (lambda c, p: explain_all(c, [p], method=None), CamError, "No method None"),
        (lambda c, p: explain(c, p, layer="conv_head"), CamError, "layer= is for the other methods"),
        (lambda c, p: explain(c.module, p), ModelError, "camlib.load_model"),
        (lambda c, p: explain("efficientnet_lite0", p), ModelError, "not str"),
        (lambda c, p: explain_all(c.module, [p]), ModelError, "camlib.load_model"),
        (lambda c, p: explain(c, p, sizes=1.5), ModelError, "whole number"),
        (lambda c, p: explain(c, p, sizes=True), ModelError, "whole number"),
        (lambda c, p: explain(c, p).plot(5.0), TargetError, "not 5.0"),
        (lambda c, p: explain(c, p).largest([]), CamError, "No targets"),
        (lambda c, p: explain(c, p, view="half"), ModelError, "view='half'"),
        (lambda c, p: explain(c, p, view="hole"), ModelError, "Did you mean: whole"),
        (lambda c, p: explain(c, p, sizes=3), ModelError, "at least 8"),
        (lambda c, p: explain(c, p, sizes=[]), CamError, "sizes is empty"),
        (lambda c, p: explain(c, p, sizes=32), HeadError, "one cell"),
        (lambda c, p: explain(c, p).map("tigr cat"), TargetError, "tiger cat"),
        (lambda c, p: explain(c, p).heatmap(1000), TargetError, "0 to 999"),
        (lambda c, p: explain(c, p).contrast(0, "dgo"), TargetError, "no class 'dgo'"),
        (lambda c, p: explain(c, p).prediction([1, 2]), TargetError, "A target is a class index or a label"),
        (lambda c, p: explain(c, p).top(0), CamError, "top"),
        (lambda c, p: explain(c, p).top(2.0), CamError, "top"),
        (lambda c, p: explain(c, p).plot([]), CamError, "No targets"),
    ],
)
def test_errors(clf, cat, call, error, says):
    with pytest.raises(error, match=says):
        call(clf, cat)
    assert count_hooks(clf.module) == 0


def test_a_photo_that_the_head_does_not_fit_is_refused(cat):
    """Found on noise, and pooled otherwise where contrast is low: the identity is checked on every photo."""
    clf = load_model(Fickle(), size=64)
    assert clf.head.layer == "conv"
    assert explain(clf, cat).residual() < 1e-4
    with pytest.raises(HeadError, match="misses the logits"):
        explain(clf, (cat // 30 + 100).astype(np.uint8))


@pytest.mark.parametrize("method", ["cam", "grad_cam", "score_cam"])
def test_a_swapped_head_is_noticed_at_every_call(cat, method):
    """The labels are those of the network as it was; the next explanation must not name the wrong classes."""
    net = tiny()
    clf = load_model(net, labels=["cat", "dog", "bee"], size=64)
    assert len(explain(clf, cat, method=method).logits) == 3
    for classes in (5, 2):
        net[4] = torch.nn.Linear(4, classes)
        for call in (lambda: explain(clf, cat, method=method), lambda: explain_all(clf, [cat, cat], method=method)):
            with pytest.raises(ModelError, match=f"now gives {classes} scores but has 3 labels.*load_model again"):
                call()
    net[4] = torch.nn.Linear(4, 3)
    exp = explain(clf, cat, method=method)
    assert torch.equal(exp.logits, scores_of(net, clf.preprocess(cat, clf.view(cat)))[0])


@pytest.mark.parametrize("change", ["data", "optimiser", "module", "buffer"])
def test_the_next_explanation_is_about_the_network_as_it_is_now(cat, change):
    """Weights changed behind autograd's back too, as by an exponential moving average."""
    net = torch.nn.Sequential(tiny()[0], torch.nn.BatchNorm2d(4), *tiny()[1:]).eval()
    clf = load_model(net, size=64)
    x = clf.preprocess(cat, clf.view(cat))
    before = explain(clf, cat)
    if change == "data":
        net[0].weight.data.mul_(0.5)
        net[5].bias.data.add_(1)
    elif change == "optimiser":
        optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
        F.cross_entropy(net(x), torch.tensor([2])).backward()
        optimiser.step()
    elif change == "module":
        net[5] = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(4, 3)).eval()
    else:
        net[1].running_mean.add_(0.3)
    after = explain(clf, cat)
    assert not torch.allclose(after.logits, before.logits, atol=1e-3)
    with torch.no_grad():
        features, last = net[2](net[1](net[0](x)))[0], net[5] if change != "module" else net[5][1]
    torch.testing.assert_close(after.logits, scores_of(net, x)[0])
    torch.testing.assert_close(after.maps, torch.einsum("kc,chw->khw", last.weight.detach(), features))
    torch.testing.assert_close(after.bias, last.bias.detach())


def test_threads_may_share_a_network_in_training_mode(cat):
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, 2),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.Dropout2d(0.5),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 3),
    )
    clf = load_model(net, size=64)
    expected, state = explain(clf, cat).maps, {k: v.clone() for k, v in net.state_dict().items()}
    with ThreadPoolExecutor(4) as pool:
        several = list(pool.map(lambda _: explain(clf, cat).maps, range(100)))
    assert all(torch.equal(maps, expected) for maps in several)
    assert all(m.training for m in net.modules())
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())


def test_an_explanation_does_not_keep_its_batch(clf):
    first, _ = explain_all(clf, ["data/photos/cat.jpg", "data/photos/coffee.png"])
    (result,) = first.results
    for tensor in (result.features, result.logits, result.maps.every):
        assert tensor.untyped_storage().nbytes() == tensor.numel() * 4


def test_a_network_without_an_exact_map_is_refused(cat):
    clf = load_model(build("mobilenet_v3_large"), size=96)
    with pytest.raises(HeadError, match="Hardswish"):
        explain(clf, cat)


class Breaks(torch.nn.Module):
    """Fails in the middle of the forward pass once it is told to."""

    broken = False

    def forward(self, x):
        if self.broken:
            raise RuntimeError("broken in the middle")
        return x


def test_200_failures_leave_no_hook_no_file_and_memory_flat(cat, tmp_path):
    def net(middle):
        pool = torch.nn.AdaptiveAvgPool2d(1)
        last = [pool, torch.nn.Flatten(), torch.nn.Linear(8, 3)]
        return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 16, 32), middle, *last)

    broken, working = load_model(net(Breaks())), load_model(net(torch.nn.ReLU()))
    assert broken.head.classifier == "4"
    broken.module[1].broken = True
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    ways = [
        lambda: explain(broken, cat),
        lambda: explain(working, cat, sizes=32),
        lambda: explain(working, tmp_path / "broken.jpg"),
        lambda: explain(working, cat, sizes=4),
    ]
    process = psutil.Process()
    for n in range(220):
        if n == 20:  # the first ones warm up
            memory, files = process.memory_info().rss, process.num_fds()
        with pytest.raises(CamError):
            ways[n % 4]()
    assert count_hooks(broken.module) == count_hooks(working.module) == 0
    assert process.num_fds() == files
    assert process.memory_info().rss - memory < 16 * 2**20


@pytest.mark.parametrize("method", ["cam", "grad_cam"])
def test_the_model_stays_as_it_was(cat, method):
    clf = load_model()
    clf.module.train()
    before = {k: v.clone() for k, v in clf.module.state_dict().items()}
    explain(clf, cat, method=method).map(282)
    assert all(m.training for m in clf.module.modules())
    assert all(torch.equal(v, before[k]) for k, v in clf.module.state_dict().items())
    assert all(p.grad is None for p in clf.module.parameters())
    assert count_hooks(clf.module) == 0


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_callers_grad_mode_does_not_matter_and_stays(cat, mode):
    plain = {m: explain(load_model(tiny(), size=64), cat, method=m).map(0) for m in ("cam", "grad_cam")}
    clf = load_model(tiny(), size=64)
    with mode():
        before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        for method, expected in plain.items():
            exp = explain(clf, cat, method=method)
            assert torch.equal(exp.map(0), expected)
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before
    for method in plain:
        assert torch.equal(explain(clf, cat, method=method).map(0), plain[method]), "with the layers found in that mode"
    assert torch.equal(exp.map(2), explain(clf, cat, method="grad_cam").map(2)), "a map that is first needed outside"


def test_grad_cam_is_the_class_activation_map_where_a_linear_layer_reads_the_mean(clf, cat, exp):
    """h · w · Grad-CAM == CAM: two ways to one map."""
    other = explain(clf, cat, method="grad_cam")
    torch.testing.assert_close(49 * other.map("tiger cat"), exp.map("tiger cat"), atol=1e-3, rtol=1e-4)
    direct = grad_cam(clf.module, clf.preprocess(cat, clf.view(cat)), 282)[0]
    torch.testing.assert_close(direct, other.map(282), atol=1e-6, rtol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_the_gpu_as_on_the_cpu(clf, cat):
    on_gpu = clf.to("cuda")
    here, there = explain(clf, cat), explain(on_gpu, cat)
    assert {there.logits.device.type, there.maps.device.type, there.heatmap(282).device.type} == {"cuda"}
    torch.testing.assert_close(there.maps.cpu(), here.maps, atol=1e-4, rtol=1e-4)
    assert there.residual() < 1e-4
    assert np.abs(there.overlay(282).astype(int) - here.overlay(282)).max() <= 1
    assert clf.device.type == "cpu", "the caller's network stays where it was"
    assert on_gpu.to("cuda") is on_gpu
    assert explain(on_gpu, cat, method="layer_cam").map(0).device.type == "cuda"


def test_the_layer_does_not_depend_on_earlier_photos():
    """For a small input, whose last map has one cell, an earlier layer is taken; for that input alone."""
    torch.manual_seed(0)
    net = build("resnet18").eval()
    photo = torch.rand(3, 224, 224)
    alone = explain(load_model(net), photo, method="grad_cam")
    clf = load_model(net)
    small = explain(clf, photo[:, :32, :32], method="grad_cam")
    after, again = (explain(clf, p, method="grad_cam") for p in (photo, photo[:, :32, :32]))
    assert (alone.layer, small.layer) == ("layer4", again.layer) and small.layer != "layer4"
    torch.testing.assert_close(after.map(3), alone.map(3))
    torch.testing.assert_close(again.map(3), small.map(3))


# Networks that look at the whole batch


class Normalised(torch.nn.Module):
    """BatchNorm without running statistics: in evaluation mode, too, it uses the mean and variance of the batch."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, 2)
        self.norm = torch.nn.BatchNorm2d(8, track_running_stats=False)
        self.last = torch.nn.Linear(8, 3)

    def before(self, x):
        return self.norm(self.conv(x))

    def forward(self, x):
        return self.last(self.before(x).relu().mean((2, 3)))


class Centred(torch.nn.Module):
    """Subtracts part of the batch's mean picture."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, 2)
        self.last = torch.nn.Linear(8, 3)

    def before(self, x):
        return self.conv(x - 0.9 * x.mean(0))

    def forward(self, x):
        return self.last(self.before(x).relu().mean((2, 3)))


@pytest.mark.parametrize("make", [Normalised, Centred])
def test_a_network_that_mixes_a_batch_explains_pictures_one_by_one(make):
    torch.manual_seed(0)
    net, x = make().eval(), torch.rand(3, 3, 64, 64)
    clf = load_model(net, size=64)
    exps = explain_all(clf, x)
    for n, exp in enumerate(exps):
        alone = torch.einsum("kc,chw->khw", net.last.weight, net.before(x[n : n + 1]).relu()[0]).detach()
        torch.testing.assert_close(exp.maps, alone)
    for n, exp in enumerate(explain_all(clf, x, method="grad_cam", layer="conv")):
        torch.testing.assert_close(exp.map(1), explain(clf, x[n], method="grad_cam", layer="conv").map(1))
    assert float((exps[0].logits - net(x)[0].detach()).abs().max()) > 0.01, "which a batch would change"
    with pytest.raises(ModelError, match="the other pictures in its batch"):
        grad_cam(net, x, 1)
    A = net.before(x[:1]).detach().requires_grad_()
    (G,) = torch.autograd.grad(net.last(A.relu().mean((2, 3)))[0, 1], A)
    torch.testing.assert_close(grad_cam(net, x[:1], 1), (G.mean((2, 3), keepdim=True) * A).sum(1).detach())


def test_curves_and_score_cam_of_a_network_that_mixes_a_batch():
    torch.manual_seed(0)
    net, x = Normalised().eval(), torch.rand(1, 3, 64, 64)
    heat = torch.rand(64, 64)
    curve = evaluate.deletion_curve(net, x, heat, 1, steps=4)
    strongest = heat.flatten().argsort(descending=True)
    for n in range(5):
        changed = x.clone()
        changed.flatten(2)[:, :, strongest[: n * 1024]] = 0
        assert float(curve[n]) == pytest.approx(float(net(changed).softmax(1)[0, 1]), abs=1e-6)
    one = score_cam(net, x, 1, batch=1, progress=False)
    torch.testing.assert_close(score_cam(net, x, 1, batch=8, progress=False), one)


def test_an_ordinary_network_is_not_said_to_mix_a_batch():
    assert not mixes_batch(build("resnet18"), torch.rand(1, 3, 64, 64))


def test_a_part_that_does_not_run_mixes_no_batch():
    """As a second classifier that is only used in training."""
    net, x = tiny(), torch.rand(2, 3, 64, 64)
    net[4].aux = torch.nn.BatchNorm1d(4, track_running_stats=False)
    both = grad_cam(net, x, 1, layer="1")
    alone = torch.cat([grad_cam(net, x[n : n + 1], 1, layer="1") for n in (0, 1)])
    torch.testing.assert_close(both, alone)


def test_a_named_layer_of_a_network_that_mixes_a_batch():
    net = Normalised().eval()
    with pytest.raises(ModelError, match="the other pictures in its batch"):
        grad_cam(net, torch.rand(2, 3, 64, 64), 1, layer="norm")
