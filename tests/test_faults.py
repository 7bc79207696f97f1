"""What surrounds a network in practice must not make a map wrong: threads, precision, compilers, states, odd values."""

import contextlib
import copy
import gc
import itertools
import pickle
import signal
import threading
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models

from camlib import (
    METHODS,
    CamError,
    HeadError,
    LayerError,
    ModelError,
    TargetError,
    class_activation_maps,
    contrast,
    explain,
    explain_all,
    find_head,
    grad_cam,
    gradient_map,
    load_model,
    place,
    read_image,
    receptive_field_offset,
    upsample,
)
from tests.networks import build, count_hooks, tiny


@pytest.fixture(scope="module")
def expected(clf, cat):
    return explain(clf, cat)


def with_module(clf, module):
    """The bundled classifier around another module; nothing found before is kept."""
    return replace(clf, module=module)


def same(exp, expected, atol=1e-4):
    torch.testing.assert_close(exp.maps.to(expected.maps.device), expected.maps, atol=atol, rtol=0)
    return True


# Threads


def test_threads_share_a_model(clf):
    """200 maps by eight threads, of two photos with two methods: all are right."""
    photos = [f"data/photos/{name}" for name in ("cat.jpg", "coffee.png")]
    right = [(explain(clf, p).map(282), explain(clf, p, method="grad_cam").map(282)) for p in photos]
    shared, numbers, wrong, failed = with_module(clf, clf.module), itertools.count(), [], []

    def work():
        torch.set_num_threads(1)
        try:
            while (n := next(numbers)) < 200:
                method = ("cam", "grad_cam")[n // 2 % 10 == 0]
                found = explain(shared, photos[n % 2], method=method).map(282)
                if (found - right[n % 2][method == "grad_cam"]).abs().max() > 1e-4:
                    wrong.append(n)
        except BaseException as e:
            failed.append(e)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert not wrong
    assert count_hooks(clf.module) == 0


# Modes and precision


@contextlib.contextmanager
def double():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


MODES = {
    "another default device": lambda: torch.device("meta"),  # where a tensor has no values: any use of it is an error
    "float64 as default": double,
    "deterministic": deterministic,
    "inference mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("mode", [*MODES])
def test_the_same_maps_in_any_mode(mode, fresh):
    """Values, types and devices are those of a call outside, whether the classifier was made outside or inside."""

    def everything(clf):
        x = torch.full((1, 3, 64, 64), 0.5, device="cpu") * torch.linspace(0, 1, 64, device="cpu")
        for method in METHODS:
            exp = explain(clf, "data/photos/cat.jpg", method=method)
            yield from (
                exp.map([0, 1]),
                exp.logits,
                exp.heatmap(1),
                exp.probabilities,
                torch.from_numpy(exp.overlay(1)),
            )
            if method != "cam":
                yield gradient_map(clf.module, x.to(torch.float32), 1, method)
        yield explain(clf, "data/photos/cat.jpg", sizes=(64, 96)).maps
        yield torch.from_numpy(np.array(receptive_field_offset(clf)))

    clf = load_model(tiny(), size=64)
    expected = list(everything(clf))
    with MODES[mode]():
        found = list(everything(load_model(clf.module, size=64) if fresh else clf))
    for a, b in zip(found, expected, strict=True):
        atol = (0.03 if mode == "autocast" else 1e-5) * float(b.double().abs().nan_to_num().max())
        torch.testing.assert_close(a, b, atol=atol, rtol=0, equal_nan=True)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_gradient_modes(clf, cat, expected, mode):
    with mode():
        assert same(explain(with_module(clf, clf.module), cat), expected)
        assert explain(with_module(clf, clf.module), cat, method="grad_cam").map(282).shape == (7, 7)


def test_bfloat16_within_its_precision(clf, cat, expected):
    """The identity holds to what bfloat16 can hold: eps is 2⁻⁷, so about 3 % of the largest logit."""
    half = with_module(clf, copy.deepcopy(clf.module).bfloat16())
    largest = float(expected.logits.abs().max())
    for exp in (explain(half, cat), explain(half, "data/photos/cat.jpg")):
        assert exp.maps.dtype == exp.logits.dtype == torch.float32
        assert 1e-4 * largest < exp.residual() < 0.031 * largest
        assert same(exp, expected, atol=0.1 * float(expected.maps.abs().max()))
        assert exp.top(1)[0].label == "tiger cat"
    assert next(half.module.parameters()).dtype == torch.bfloat16
    assert explain(half, cat, method="grad_cam").map(282).dtype == torch.float32


def test_autocast(clf, cat, expected):
    """The head found before, or for the first time under autocast."""
    for found in (clf, with_module(clf, clf.module)):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            exp = explain(found, cat)
        assert exp.residual() < 0.031 * float(expected.logits.abs().max())
        assert same(exp, expected, atol=0.1 * float(expected.maps.abs().max()))


def test_a_wrong_head_is_found_out_in_bfloat16_too(clf, cat):
    half = with_module(clf, copy.deepcopy(clf.module).bfloat16())
    head = half.head
    features, logits = head.run(half.module, half.preprocess(cat, half.view(cat)))
    assert logits.dtype == torch.bfloat16
    assert head.verify(features, logits) < 0.031
    with pytest.raises(HeadError, match="misses the logits"):
        replace(head, bias=head.bias + 1).verify(features, logits)


def test_double(clf, cat, expected):
    exp = explain(with_module(clf, copy.deepcopy(clf.module).double()), cat)
    assert same(exp, expected)


def test_channels_last_and_frozen(clf, cat, expected):
    module = copy.deepcopy(clf.module).to(memory_format=torch.channels_last).requires_grad_(False)
    assert same(explain(with_module(clf, module), cat), expected)
    torch.testing.assert_close(
        49 * explain(with_module(clf, module), cat, method="grad_cam").map(282), expected.map(282), atol=1e-4, rtol=0
    )


# Wrapped networks


def test_data_parallel(clf, cat, expected):
    parallel = nn.DataParallel(copy.deepcopy(clf.module))  # where there is a GPU, it moves the network there
    assert same(explain(with_module(clf, parallel), cat), expected)


@pytest.mark.parametrize("make", [torch.jit.script, lambda net: torch.jit.trace(net, torch.rand(1, 3, 64, 64))])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_refused(make):
    net = make(models.resnet18(weights=None).eval())
    for call in (load_model, lambda m: find_head(m, X), lambda m: grad_cam(m, X, 0)):
        with pytest.raises(ModelError, match="TorchScript"):
            call(net)


X = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("warm", [False, True])
def test_compiled(clf, cat, expected, warm):
    """A compiled network runs without its layers, so hooks see nothing; the one it was made from is run instead."""
    compiled = torch.compile(copy.deepcopy(clf.module), backend="eager", dynamic=False)
    if warm:
        with torch.no_grad():
            compiled(clf.preprocess(cat, clf.view(cat)))
    wrapped = with_module(clf, compiled)
    assert same(explain(wrapped, cat), expected)
    assert explain(wrapped, "data/photos/coffee.png").top(1)[0].label == "espresso"
    assert same(explain(wrapped, cat), expected)
    assert load_model(compiled, labels=clf.labels).module is compiled._orig_mod
    x = clf.preprocess(cat, clf.view(cat))
    torch.testing.assert_close(grad_cam(compiled, x, 282), grad_cam(clf.module, x, 282))


def test_compiled_in_place(clf, cat, expected):
    module = copy.deepcopy(clf.module)
    module.compile(backend="eager", dynamic=False)
    x = clf.preprocess(cat, clf.view(cat))
    with torch.no_grad():
        module(x)
    assert same(explain(with_module(clf, module), cat), expected)


def test_pickled_and_copied(clf, cat, expected):
    for again in (pickle.loads(pickle.dumps(clf)), copy.deepcopy(clf)):
        assert same(explain(again, cat), expected)
    assert same(pickle.loads(pickle.dumps(expected)), expected)
    graded = explain(clf, cat, method="grad_cam")
    best, worst = int(expected.logits.argmax()), int(expected.logits.argmin())
    again = pickle.loads(pickle.dumps(graded))
    torch.testing.assert_close(49 * again.map(best), expected.map(best), atol=1e-4, rtol=1e-4)
    with pytest.raises(CamError, match="loaded from a file"):
        again.map(worst)


# Values


class Scaled(nn.Module):
    """The network on a multiple of its input."""

    def __init__(self, module, factor):
        super().__init__()
        self.module, self.factor = module, factor

    def forward(self, x):
        return self.module(x * self.factor)


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_an_error(clf, cat, factor):
    broken = with_module(clf, Scaled(clf.module, factor))
    with pytest.raises(HeadError, match="not finite"):
        explain(broken, cat)
    with pytest.raises(CamError):
        explain(broken, cat, method="grad_cam", layer="module.bn2")


def test_only_one_photo_is_not_finite(clf, cat):
    """Found with finite values, then a photo for which they are not: no black picture."""

    class Overflows(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, x):
            return self.module(torch.where(x.amin((1, 2, 3), keepdim=True) >= 0.99, x / 0, x))

    odd = with_module(clf, Overflows(clf.module))
    assert explain(odd, cat).residual() < 1e-4
    white = np.full((50, 50, 3), 255, np.uint8)
    with pytest.raises(HeadError, match="not finite"):
        explain(odd, white)


def test_maps_of_zeros_leave_the_photo_as_it_is(clf, cat):
    module = copy.deepcopy(clf.module)
    nn.init.zeros_(module.classifier.weight)
    exp = explain(with_module(clf, module), cat)
    assert (exp.maps == 0).all()
    gray = exp.overlay(0)
    seen = ~exp.heatmap(0).isnan().numpy()
    assert np.ptp(gray[seen].astype(int), axis=-1).max() == 0, "no colour without evidence"


def test_one_cell_localises_nothing(clf, cat):
    with pytest.raises(HeadError, match="only one cell"):
        explain(clf, cat, sizes=32)
    with pytest.raises(LayerError, match="no two of its cells both follow"):
        explain(clf, cat, sizes=32, method="grad_cam", layer="bn2")
    earlier = explain(clf, cat, sizes=32, method="grad_cam")  # the last layer that has more
    assert earlier.layer != "bn2" and earlier.map(282).numel() > 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 60), (60, 2), (33, 217)])
def test_odd_photos(clf, shape):
    photo = np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)
    for view in ("crop", "whole"):
        try:
            exp = explain(clf, photo, view=view)
        except CamError as e:
            assert "too large" in str(e)
            continue
        assert exp.overlay().shape == photo.shape
        assert exp.residual() < 1e-4


# Targets and arguments


@pytest.mark.parametrize("target", [-1, 1000, 1.0, None, True, b"cat", (282, -1), {}])
def test_targets_that_are_none(clf, expected, target):
    with pytest.raises(TargetError):
        expected.map(target)


def test_every_photo_of_a_batch_may_have_its_own_target(clf):
    exps = explain_all(clf, ["data/photos/cat.jpg", "data/photos/coffee.png", "data/photos/camera.png"])
    for exp, target in zip(exps, (282, 967, 872), strict=True):
        alone = explain(clf, exp.photo)
        torch.testing.assert_close(exp.map(target), alone.map(target), atol=1e-4, rtol=0)


def test_labels_of_the_wrong_number(clf):
    with pytest.raises(ModelError, match="999 labels for a network with 1000 outputs"):
        load_model(clf.module, labels=clf.labels[:-1])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: contrast(torch.rand(1, 3, 2, 2), torch.rand(4, 3), 0, 4), "No class 4: .* 4 classes, 0 to 3"),
        (lambda: contrast(torch.rand(1, 3, 2, 2), torch.rand(4, 3), -1, 0), "No class -1"),
        (lambda: upsample(torch.rand(2, 2), (0, 3)), "both above 0"),
        (lambda: upsample(torch.rand(2, 2), 3), "height, width"),
        (lambda: upsample(np.ones((2, 2)), (3, 3)), "a torch tensor; got ndarray"),
        (lambda: upsample(torch.rand(2, 0), (3, 3)), r"got \(2, 0\)"),
        (lambda: place(np.ones((2, 2)), None), "a torch tensor; got ndarray"),
        (lambda: class_activation_maps(np.ones((1, 2, 2, 2)), torch.ones(3, 2)), "got ndarray"),
    ],
)
def test_arguments_that_do_not_fit(call, says):
    with pytest.raises(CamError, match=says):
        call()


# What stays


class Fails(nn.Module):
    """Raises in the middle of every forward pass but the first few, which find the head."""

    def __init__(self, module):
        super().__init__()
        self.module, self.broken = module, False
        self.module.blocks[4].register_forward_hook(self.check)

    def check(self, *_):
        if self.broken:
            raise RuntimeError("in the middle")

    def forward(self, x):
        return self.module(x)


@pytest.mark.parametrize("method", ["cam", "grad_cam"])
def test_the_network_is_left_as_it_was(clf, cat, method):
    """Also after an exception in the middle: state, training flags, hooks, the caller's gradients and requires_grad."""
    net = Fails(copy.deepcopy(clf.module)).train()
    net.module.bn1.eval()
    net.module.conv_stem.weight.requires_grad_(False)
    net.module.classifier.weight.grad = torch.ones_like(net.module.classifier.weight)
    wrapped = with_module(clf, net)

    def state():
        flags = [m.training for m in net.modules()], [p.requires_grad for p in net.parameters()]
        return flags, count_hooks(net), [t.clone() for t in net.state_dict().values()]

    before = state()
    explain(wrapped, cat, method=method).map(282)
    net.broken = True
    with pytest.raises(ModelError, match="in the middle"):
        explain(wrapped, cat, method=method).map(282)
    after = state()
    assert after[:2] == before[:2]
    assert all(torch.equal(a, b) for a, b in zip(after[2], before[2], strict=True)), "bit by bit"
    assert (net.module.classifier.weight.grad == 1).all()
    assert all(p.grad is None for name, p in net.named_parameters() if name != "module.classifier.weight")
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("method", ["cam", "grad_cam"])
def test_nothing_is_kept_alive(clf, cat, method):
    """When the explanation goes, its features and graph go: no cache, hook or closure of the network holds them."""
    exp = explain(clf, cat, method=method)
    exp.map(282)
    watched = [weakref.ref(exp), weakref.ref(exp.results[0].features), weakref.ref(exp.results[0])]
    if method == "grad_cam":
        watched.append(weakref.ref(exp.results[0].maps.compute))  # which holds the graph
    del exp
    gc.collect()
    assert [w() for w in watched] == [None] * len(watched)


def test_a_graph_does_not_keep_the_results_of_its_operations():
    """A ReLU saves its own result, and hooks stay with their tensors: both are counted in C++, where gc is blind."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 8), nn.ReLU(), nn.Linear(8, 3))
    results = []
    for m in net:
        m.register_forward_hook(lambda m, inputs, output: results.append(weakref.ref(output)))
    clf = load_model(net.eval(), size=8)
    for layer in (None, "0"):
        explain(clf, torch.rand(3, 8, 8), method="grad_cam", layer=layer).map(1)
    gc.collect()
    assert len(results) > 50
    assert [w() for w in results] == [None] * len(results)


class Interrupted(Exception):
    pass


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="Windows has no timers that interrupt")
def test_an_interruption_at_any_moment_leaves_nothing_behind():
    """As by Ctrl-C in a notebook, or by a timeout: at thirty random moments, whatever is running then."""
    torch.manual_seed(0)
    net = build("resnet18", num_classes=10).train()
    photo = read_image("data/photos/coffee.png")[:64, :64].copy()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    random = np.random.default_rng(0)

    def interrupt(*_):
        raise Interrupted

    usual = signal.signal(signal.SIGALRM, interrupt)
    interrupted = 0
    try:
        for n in range(30):
            torch.manual_seed(n)
            numbers = torch.get_rng_state()
            try:
                clf = load_model(net, size=64)
                try:
                    signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0005, 0.2))
                    explain(clf, photo, method=("cam", "grad_cam")[n % 2]).map(0)
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except (Interrupted, CamError):
                interrupted += 1
            gc.collect()
            assert count_hooks(net) == 0
            assert all(m.training for m in net.modules())
            assert torch.is_grad_enabled()
            assert torch.equal(torch.get_rng_state(), numbers)
    finally:
        signal.signal(signal.SIGALRM, usual)
    assert interrupted >= 15
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name
