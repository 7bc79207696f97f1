"""A network that belongs to somebody else: what is refused and why, and that nothing of it changes."""

import copy
import re
import threading

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from camlib import CamError, HeadError, ModelError, explain, find_head, grad_cam, load_model
from camlib.gradcam import gradient_map
from camlib.network import (
    RANDOM_NUMBERS,
    check_network,
    copy_of,
    device_of,
    dtype_of,
    eval_mode,
    fingerprint,
    forward,
    is_random,
    quantised,
    restless_buffers,
    run_hooked,
    scores,
    untouched,
    walk,
)
from tests.networks import assert_same, count_hooks, flat, grad_cam_of, tiny

X = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def state_of(net: nn.Module) -> list:
    """Everything that must stay, to the bit: tensors, whose they are, gradients, flags, hooks and the global state."""
    tensors = [*net.named_parameters(), *net.named_buffers()]
    return [
        [(name, id(t), t.requires_grad, t.detach().clone().numpy().tobytes()) for name, t in tensors],
        [None if p.grad is None else p.grad.clone().numpy().tobytes() for p in net.parameters()],
        [m.training for m in net.modules()],
        count_hooks(net),
        torch.get_rng_state().numpy().tobytes(),
        torch.is_grad_enabled(),
    ]


def in_training(net: nn.Module) -> nn.Module:
    """A network as it is in the middle of training, with flags and gradients that are not all alike."""
    net.train()
    parts = [m for m in net.modules() if not list(m.children())]
    parts[1].eval()
    parameters = list(net.parameters())
    parameters[0].requires_grad_(False)
    parameters[-1].grad = torch.ones_like(parameters[-1])
    return net


# --- what is refused -------------------------------------------------------------------------------------------------


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x, age):
        return self.conv(x).mean((2, 3)) + age


def made_in_inference_mode():
    with torch.inference_mode():
        return flat()


def on_meta():
    return flat().to("meta")


ODD = {
    "TorchScript": (lambda: torch.jit.trace(tiny(), X), r"is TorchScript, whose layers cannot be watched; explain the"),
    "lazy": (lambda: nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(2)), "run it once first"),
    "meta": (on_meta, "parameters on the meta device, which hold no numbers; load its weights first"),
    "no network": (lambda: "resnet18", "A network is a torch.nn.Module, not str"),
    "two inputs": (TwoInputs, "missing 1 required positional argument: 'age'. camlib explains networks with one input"),
    "1D": (
        lambda: nn.Sequential(nn.Conv1d(3, 4, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 2)),
        r"Its first convolution is a Conv1d, for signals \(B, C, L\); camlib explains networks of pictures",
    ),
    "3D": (
        lambda: nn.Sequential(nn.Conv3d(1, 4, 3), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2)),
        r"Its first convolution is a Conv3d, for volumes \(B, C, D, H, W\); camlib explains networks of pictures",
    ),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("call", [lambda net: find_head(net, X), lambda net: grad_cam(net, X, 0)])
def test_each_odd_network_has_its_own_sentence(kind, call):
    make, says = ODD[kind]
    with pytest.raises(ModelError, match=says) as error:
        call(make())
    others = [text for other, (_, text) in ODD.items() if other != kind]
    assert not any(re.search(text, str(error.value)) for text in others)


@pytest.mark.parametrize("kind", [k for k in ODD if k not in ("no network", "3D")])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_load_model_says_the_same(kind):
    make, says = ODD[kind]
    with pytest.raises(ModelError, match=says) as error:
        load_model(make())
    assert "size=" not in str(error.value), "the size is not the reason"


def test_a_network_made_in_inference_mode():
    with pytest.raises(ModelError, match=r"made inside torch.inference_mode\(\), so it has no gradients"):
        grad_cam(made_in_inference_mode(), X, 0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_quantised_network():
    net = torch.ao.quantization.quantize_dynamic(flat(), {nn.Linear})
    assert (quantised(net), quantised(flat())) == ("3", None)
    with pytest.raises(CamError, match=r"quantised layers \(3\), and no gradient flows through them. Explain the"):
        grad_cam(net, X, 0)
    pooled = torch.ao.quantization.quantize_dynamic(tiny(), {nn.Linear})
    with pytest.raises(HeadError, match=r"It has quantised layers \(4\); explain the network that it was quant"):
        find_head(pooled, X)


def test_a_network_that_cannot_be_copied():
    """In half precision, the head is searched in a float32 copy; without one, in the network itself."""
    net = tiny().bfloat16()
    net.lock = threading.Lock()
    with pytest.raises(ModelError, match=r"cannot be copied \(copy.deepcopy: cannot pickle '_thread.lock' object\)"):
        copy_of(net)
    head = find_head(net, X.bfloat16())
    assert (head.layer, head.precision) == ("1", torch.bfloat16)


def test_what_a_network_raises_is_quoted():
    with pytest.raises(ModelError, match=r"fails on an input of \(2, 3, 60, 60\): mat1 and mat2 shapes") as error:
        forward(flat(), X[..., :60, :60])
    assert isinstance(error.value.__cause__, RuntimeError)
    with pytest.raises(ModelError, match="fails on an input of NoneType"):
        forward(flat(), None)


def test_an_error_of_camlib_passes_through():
    class Raises(nn.Module):
        def forward(self, x):
            raise HeadError("as it is")

    with pytest.raises(HeadError, match="^as it is$"):
        forward(Raises(), X)


def test_walk_is_modules():
    inner = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    net = nn.Sequential(inner, inner, inner[0])
    assert {id(m) for m in walk(net)} == {id(m) for m in net.modules()}
    assert len(list(walk(net))) == 4
    check_network(net)


def test_device_and_type():
    assert device_of(nn.ReLU()) == torch.device("cpu")
    assert dtype_of(nn.ReLU()) == torch.float32
    assert dtype_of(tiny().bfloat16()) == torch.bfloat16


# --- evaluation mode -------------------------------------------------------------------------------------------------


def test_eval_mode_puts_every_flag_back():
    net = flat().train()
    net[0].eval()
    with pytest.raises(ZeroDivisionError), eval_mode(net):
        assert not any(m.training for m in net.modules())
        raise ZeroDivisionError
    assert [m.training for m in net] == [False, True, True, True, True, True]
    assert net.training


def test_the_last_block_puts_the_flags_back():
    net = flat().train()
    outer, inner = eval_mode(net), eval_mode(net)
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    assert not any(m.training for m in net.modules()), "the inner block still runs"
    inner.__exit__(None, None, None)
    assert all(m.training for m in net.modules())


def test_two_networks_may_share_a_backbone():
    """Both wrap one backbone: the block that ends first must not switch it back under the other's feet."""
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    a, b = nn.Sequential(body, nn.Flatten()).train(), nn.Sequential(body, nn.ReLU()).train()
    first, second = eval_mode(a), eval_mode(b)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert a.training and not b.training
    assert not body.training and not body[1].training
    second.__exit__(None, None, None)
    assert all(m.training for m in [*a.modules(), *b.modules()])


# --- as it was -------------------------------------------------------------------------------------------------------


class Counting(nn.Module):
    """Changes its buffers whenever it runs, in one of several ways."""

    def __init__(self, how: str):
        super().__init__()
        self.net, self.how = flat(), how
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.register_buffer("memory", torch.full((4,), float("nan")), persistent=False)

    def forward(self, x):
        if self.how == "+=":
            self.steps += 1
        elif self.how == "reassigned":
            self.steps = self.steps + 1
        elif self.how == "first time" and self.memory.isnan().any():  # as ActNorm, or observers of quantisation
            self.memory.copy_(x.std((2, 3)).mean() + torch.arange(4.0))
        return self.net(x) * (1 if self.how == "first time" else 1 + 0.5 * self.steps)


@pytest.mark.parametrize(
    ("how", "restless"), [("+=", (".steps",)), ("reassigned", (".steps",)), ("first time", (".memory",)), ("", ())]
)
def test_buffers_that_change_in_evaluation_mode_are_put_back(how, restless):
    """Each of many forward passes starts from the same buffers: the map is that of the first run."""
    net = Counting(how).eval()
    assert restless_buffers(net, X) == restless
    before = state_of(net)
    once = copy.deepcopy(net)
    factor = {"+=": 1.5, "reassigned": 1.5}.get(how, 1)
    expected = grad_cam_of(lambda A: factor * once.net[2:](A), once.net[:2](X), 1)
    assert_same(grad_cam(net, X, 1), expected)
    assert_same(grad_cam(net, X, 1, layer="net.1"), expected)
    clf = load_model(net, size=64)
    for _ in range(2):
        exp = explain(clf, X[0], method="grad_cam")
        assert_same(exp.map(1), expected[0])
    assert state_of(net) == before


def test_a_head_of_a_network_that_counts():
    net = nn.Sequential(tiny()[:4], Counted(4, 3)).eval()
    before = state_of(net)
    head = find_head(net, X)
    assert head.restless == ("1.steps",)
    features, logits = head.run(net, X)
    torch.testing.assert_close(logits, F.linear(net[0](X), net[1].weight, net[1].bias))
    torch.testing.assert_close(head.run(net, X)[1], logits, rtol=0, atol=0)
    assert state_of(net) == before


class Counted(nn.Linear):
    """A linear layer that counts its runs and answers differently from the third on."""

    def __init__(self, *size):
        super().__init__(*size)
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x):
        self.steps += 1
        return super().forward(x) * (2 if self.steps > 2 else 1)


class Fails(nn.Module):
    """Raises in the middle of a forward pass when told to, after it has changed what it can."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))
        self.pool, self.last = nn.AdaptiveAvgPool2d(1), nn.Linear(4, 3)
        self.register_buffer("steps", torch.zeros(1))
        self.broken = False

    def forward(self, x):
        self.steps += torch.rand(1)
        y = self.pool(self.body(x)).flatten(1)
        if self.broken:
            torch.set_grad_enabled(not torch.is_grad_enabled())
            raise RuntimeError("in the middle")
        return self.last(y)


CALLS = {
    "find_head": lambda net: find_head(net, X),
    "grad_cam": lambda net: grad_cam(net, X, [0, 2]),
    "named": lambda net: grad_cam(net, X, 1, layer="body"),
    "cam": lambda net: explain(load_model(net, size=64), X[0]).map(1),
    "explain": lambda net: explain(load_model(net, size=64), X[0], method="hires_cam").map(1),
    "score_cam": lambda net: explain(load_model(net, size=64), X[0], method="score_cam").map(1),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad])
def test_everything_is_left_bit_for_bit(name, mode):
    """After success, and after an exception inside forward, which itself leaves the grad mode wrong."""
    torch.manual_seed(5)
    net = in_training(Fails())
    torch.manual_seed(17)
    torch.rand(3)
    x = X.clone()
    with mode():
        before = state_of(net)
        CALLS[name](net)
        assert state_of(net) == before
        net.broken = True
        with pytest.raises(ModelError, match="in the middle"):
            CALLS[name](net)
        assert state_of(net) == before
    assert torch.equal(X, x)
    assert X.grad is None and not X.requires_grad


def test_a_failure_after_a_success_of_the_same_classifier():
    net = in_training(Fails())
    clf = load_model(net, size=64)
    for method in ("cam", "grad_cam"):
        net.broken = False
        explain(clf, X[0], method=method).map(1)
        before = state_of(net)
        net.broken = True
        with pytest.raises(ModelError, match="in the middle"):
            explain(clf, X[0], method=method).map(1)
        assert state_of(net) == before


def test_only_the_buffers_that_are_named_are_put_back():
    """A network is not copied at every forward pass; which buffers change is known from the first."""
    net = Counting("+=").eval()
    with untouched(net, ("no other",)):
        forward(net, X)
    assert net.steps == 1
    with untouched(net, (".steps",)):
        forward(net, X)
        assert net.steps == 2
    assert net.steps == 1
    with untouched(net):
        net.memory.zero_()
    assert net.memory.isnan().all()


# --- random numbers --------------------------------------------------------------------------------------------------


class Dropping(nn.Module):
    """F.dropout(x), whose default is training=True: it never stops."""

    def __init__(self, net):
        super().__init__()
        self.front, self.back = net[:2], net[2:]

    def forward(self, x):
        return self.back(F.dropout(self.front(x), 0.5))


def test_a_random_network_is_noticed():
    assert is_random(Dropping(flat()), X)
    assert not is_random(flat().train(), X)
    net = nn.Sequential(*flat()[:2], nn.Dropout(0.5), *flat()[2:]).train()
    assert not is_random(net, X), "nn.Dropout stops in evaluation mode"


@pytest.mark.parametrize("net", [Dropping(flat()), flat()])
def test_the_callers_random_numbers_continue(net):
    """Every draw after an explanation is what it would have been without."""
    torch.manual_seed(11)
    torch.rand(5)
    state = torch.get_rng_state()
    expected = torch.rand(3)
    torch.set_rng_state(state)
    grad_cam(net, X, 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(torch.rand(3), expected)


def test_the_callers_random_numbers_continue_when_threads_explain():
    """The blocks of two threads may begin and end in any order."""
    net = flat()
    before = torch.get_rng_state()
    first, second = untouched(net), untouched(net, seed=1)
    first.__enter__()
    second.__enter__()
    torch.rand(2)
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_seed_gives_the_same_draw():
    net = Dropping(flat()).eval()
    answers = []
    for seed in (3, 3, 4):
        torch.rand(7)
        with torch.no_grad(), untouched(net, (RANDOM_NUMBERS,), seed):
            answers.append(scores(net, X))
    assert torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[0], answers[2])
    torch.manual_seed(3)
    with torch.no_grad():
        torch.testing.assert_close(net(X), answers[0])


def test_dropout_that_never_stops_gives_the_same_map_twice_and_a_warning():
    """The map is that of one seeded draw, computed here by the same draw."""
    net = Dropping(flat()).eval()
    torch.manual_seed(0)
    expected = grad_cam_of(lambda A: net.back(F.dropout(A, 0.5)), net.front(X[:1]), 1)[0]
    clf = load_model(net, size=64)
    for _ in range(2):
        torch.rand(9)
        with pytest.warns(UserWarning, match=r"something random stays on in evaluation mode, such as F.dropout\(x\)"):
            exp = explain(clf, X[0], method="grad_cam")
        assert_same(exp.map(1), expected)
        assert torch.equal(grad_cam(net, X[:1], 1)[0], exp.map(1))


def test_a_random_network_has_no_exact_map():
    net = Dropping(nn.Sequential(nn.Conv2d(3, 4, 3, 4), nn.ReLU(), *tiny()[2:]))
    net.back = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), RandomScale(), nn.Linear(4, 3))
    with pytest.raises(HeadError, match="answers the same input differently each time"):
        find_head(net.eval(), X)


class RandomScale(nn.Module):
    def forward(self, x):
        return x * torch.rand(x.shape[-1])


# --- fingerprints, watching ------------------------------------------------------------------------------------------


def by_optimiser(net):
    net[5].weight.grad = torch.ones_like(net[5].weight)
    torch.optim.Adam(net.parameters(), fused=True).step()


CHANGES = {
    "optimiser": by_optimiser,
    "data": lambda net: net[0].weight.data.mul_(1.001),
    "numpy view": lambda net: net[0].weight.detach().numpy().__imul__(2),
    "buffer": lambda net: net.get_buffer("statistics").add_(1),
    "one bit": lambda net: net[5].bias.data.view(torch.int32)[0].bitwise_xor_(1),
    "renamed": lambda net: net.add_module("6", net._modules.pop("5")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_fingerprint_notices_every_change(change):
    net = flat()
    net.register_buffer("statistics", torch.zeros(3))
    before = fingerprint(net)
    assert fingerprint(net.train()) == before == fingerprint(copy.deepcopy(net))
    CHANGES[change](net)
    assert fingerprint(net) != before


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_fingerprint_of_any_type(dtype):
    net = flat().to(dtype)
    assert fingerprint(net) == fingerprint(copy.deepcopy(net)) != fingerprint(flat())


def test_every_run_is_watched():
    """Each run of a shared module has its number, in the order in which they come."""
    relu = nn.ReLU()
    net = nn.Sequential(nn.Conv2d(3, 2, 1), relu, nn.Conv2d(2, 2, 1), relu)
    starts, ends = [], []
    y = run_hooked(
        net,
        X,
        lambda name, call, m, value: ends.append((name, call, m, value)),
        lambda name, call, m, value: starts.append((name, call, m, value)),
    )
    assert [end[:2] for end in ends] == [("0", 0), ("1", 0), ("2", 0), ("1", 1)]
    assert [start[:2] for start in starts] == [end[:2] for end in ends]
    assert ends[-1][2] is relu and ends[-1][3] is y
    assert torch.equal(starts[0][3], X) and starts[2][3] is ends[1][3]
    assert count_hooks(net) == 0


def test_other_threads_are_not_watched():
    net, names = tiny(), []

    def after(name, *_):
        if not names:
            names.append(name)
            other = threading.Thread(target=net, args=(X,))
            other.start()
            other.join()
        else:
            names.append(name)

    run_hooked(net, X, after)
    assert names == ["0", "1", "2", "3", "4"]


def test_no_hook_stays_after_an_exception():
    net = flat()
    with pytest.raises(ModelError, match="fails on an input"):
        run_hooked(net, X[..., :50], lambda *_: None, lambda *_: None)
    with pytest.raises(HeadError, match="from a hook"):
        run_hooked(net, X, lambda *_: raise_(HeadError("from a hook")))
    assert count_hooks(net) == 0


def raise_(error):
    raise error


# --- what a forward pass leaves behind -------------------------------------------------------------------------------


class Grown(nn.Module):
    """Fills a buffer when it first runs, for the size that it sees then."""

    def __init__(self):
        super().__init__()
        self.net = tiny()
        self.register_buffer("grid", None)

    def forward(self, x):
        if self.grid is None:
            self.grid = torch.ones(1, 1, *x.shape[2:])
        return self.net(x * self.grid)


def test_a_buffer_that_the_network_fills_is_empty_again():
    net = Grown().eval()
    clf = load_model(net, size=64)
    explain(clf, X[0])
    grad_cam(net, X, 0)
    assert net.grid is None and "grid" not in net.state_dict()
    net(torch.rand(1, 3, 32, 32))  # of the size that its owner wants


class Normalising(nn.Module):
    def __init__(self, in_place):
        super().__init__()
        self.net, self.in_place = tiny(), in_place

    def forward(self, x):
        return self.net(x.sub_(0.5).div_(0.25) if self.in_place else (x - 0.5) / 0.25)


@pytest.mark.parametrize("method", ["cam", "grad_cam"])
def test_a_network_that_changes_its_input_gets_a_copy(method):
    x = X[0].clone()
    by_copy, plain = (explain(load_model(Normalising(way).eval(), size=64), x, method=method) for way in (True, False))
    torch.testing.assert_close(by_copy.map([0, 1, 2]), plain.map([0, 1, 2]))
    assert torch.equal(x, X[0])


class Graph(nn.Module):
    """Scores mixed by a sparse matrix of labels."""

    def __init__(self):
        super().__init__()
        self.net = tiny()
        self.register_buffer("labels", torch.eye(3).to_sparse())

    def forward(self, x):
        return torch.sparse.mm(self.labels, self.net(x).T).T


def test_sparse_buffers():
    net = Graph().eval()
    exp = explain(load_model(net, size=64), X[0])
    assert_same(exp.logits, net(X)[0].detach())
    assert fingerprint(net) == fingerprint(copy.deepcopy(net))
    assert grad_cam(net, X, 1).std() > 0


class Negative(nn.Sequential):
    def __call__(self, x):
        return -super().__call__(x)


def test_a_class_with_a_call_of_its_own_is_called():
    net = Negative(*tiny())
    torch.testing.assert_close(forward(net, X), net(X))
    with pytest.raises(HeadError):
        find_head(net, X)


@pytest.mark.parametrize("method", ["cam", "grad_cam"])
def test_spectral_norm_in_training_is_left_alone(method):
    """In training, each use of its weight is a step of the power iteration, which moves two buffers."""
    net = tiny()
    net[4] = nn.utils.parametrizations.spectral_norm(net[4])
    net.train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    clf = load_model(net, size=64)
    exp = explain(clf, X[0], method=method)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert_same(exp.logits, copy.deepcopy(net).eval()(X)[0].detach())


def test_a_nan_that_becomes_a_number_is_a_change():
    net = nn.Sequential(nn.Conv2d(3, 2, 1))
    net.register_buffer("memory", torch.tensor(float("nan")))
    net.register_forward_hook(lambda m, *_: m.memory.zero_())
    assert restless_buffers(net, X) == (".memory",)
    assert net.memory.isnan()


class Storing(nn.Module):
    """Counts its runs in a buffer, stores its features, and limits its own weight as EEGNet's layers do."""

    def __init__(self):
        super().__init__()
        self.net = flat()
        self.register_buffer("runs", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        self.net[0].weight.data = torch.renorm(self.net[0].weight.data, 2, 0, 0.1)
        self.features = self.net[:2](x)
        return self.net[2:](self.features)


def test_what_a_network_stores_and_replaces_itself_is_restored():
    net = Storing().eval()
    before, names = net.net[0].weight.detach().clone(), set(vars(net))
    restless = restless_buffers(net, X)
    assert set(restless) == {".runs", ".features", "net.0.weight"}
    for known in (None, restless):
        with torch.enable_grad(), untouched(net, known):
            net(X)
        assert torch.equal(net.net[0].weight, before)
        assert set(vars(net)) == names
        assert net.runs.item() == 0
    copy.deepcopy(net)  # which fails for a module that stores part of a graph


def test_four_threads_and_a_counter():
    net = Storing().eval()
    restless = restless_buffers(net, X)

    def work() -> None:
        for _ in range(20):
            with torch.no_grad(), untouched(net, restless):
                net(X)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert net.runs.item() == 0


def test_random_numbers_are_left_alone_if_the_network_draws_none():
    """Other threads draw from the same generator."""
    torch.manual_seed(0)
    expected = torch.rand(4)
    torch.manual_seed(0)
    with torch.no_grad(), untouched(flat(), ()):
        drawn = torch.rand(2)
    assert torch.equal(torch.cat([drawn, torch.rand(2)]), expected)
    assert restless_buffers(Dropping(flat()).eval(), X) == (RANDOM_NUMBERS,)


def test_a_compiled_part_is_compiled_no_more_than_once():
    net, graphs = flat(), []

    def backend(graph, _):
        graphs.append(graph)
        return graph

    net[0].compile(backend=backend)
    with torch.no_grad():
        net(X)
        before = len(graphs)
        for _ in range(3):
            restless_buffers(net, X)
        net(X)
    assert len(graphs) == before


def test_an_attribute_that_is_none_until_the_network_runs():
    class Lazy(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc, self.position = nn.Conv2d(3, 4, 3, 2), nn.Linear(4, 3), None

        def forward(self, x):
            if self.position is None:
                self.position = torch.ones(4, 1, 1)
            return self.fc((self.conv(x) + self.position).mean((2, 3)))

    net, x = Lazy().eval(), torch.rand(1, 3, 16, 16)
    for method in ("grad_cam", "frozen"):
        gradient_map(net, x, 0, method, "conv")
        assert net.position is None
    assert net(x).shape == (1, 3)
    assert net.position is not None
    gradient_map(net, x, 0, "grad_cam", "conv")
    assert torch.equal(net.position, torch.ones(4, 1, 1))
