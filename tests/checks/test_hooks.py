"""Chapter 02's checks name the mistake, accept any right form, and the folded solutions pass."""

import copy
from contextlib import contextmanager, suppress

import numpy as np
import pytest
import torch
from checks import hooks as check
from torch import nn

import camlib
from tests.checks.solutions import solutions

RIGHT = (1, 4, 5, 7)


@pytest.fixture
def small():
    """A network, its input, and the shapes (1, 3, 7, 9) -> (1, 4, 5, 7) of its layer "conv"."""
    return check._network(lambda: nn.Conv2d(4, 2, 1)), check._noise(1, 3, 7, 9)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, "No answer yet"),
        (RIGHT, "Right: (1, 4, 5, 7)"),
        (list(RIGHT), "Right"),
        (torch.Size(RIGHT), "Right"),
        ([torch.Size(RIGHT)], "Right"),
        (np.array(RIGHT), "Right"),
        (torch.tensor(RIGHT), "Right"),
        (torch.zeros(RIGHT), "the output itself"),
        ([torch.zeros(RIGHT)], "the output itself"),
        (RIGHT[1:], "The number of photos is missing"),
        ((1, 3, 7, 9), "Is your hook on conv, and do you store its third argument"),
        ((1, 4, 62, 62), "are not those of (1, 4, 62, 62)"),
        ((1, 2, 5, 7), "Is your hook on that layer?"),
        (7, "four whole numbers"),
        (torch.tensor(7), "four whole numbers"),
        ("wide", "four whole numbers"),
        ([], "Nothing was stored"),
        (..., "four whole numbers"),
        (torch.zeros(2, 2), "four whole numbers"),
    ],
)
def test_output_shape(small, answer, says):
    net, x = small
    assert says in check.output_shape(net, "conv", x, answer)
    assert not check._hooks(net)


def test_output_shape_sees_a_hook_that_stays(small):
    net, x = small
    net.conv.register_forward_hook(lambda module, args, output: None)
    assert "a hook is still on the network" in check.output_shape(net, "conv", x, RIGHT)
    net.conv.register_forward_hook(lambda module, args: None)  # a learner's hook that fails when it runs
    assert "2 hooks are still on" in check.output_shape(net, "conv", x, RIGHT)


def stored(module, layer, x, keep, finish=lambda value: value, tidy=True):
    """A hook that stores keep(output); what an answer makes of it, by hand and without a `finally`."""
    values = []
    handle = module.get_submodule(layer).register_forward_hook(lambda m, args, output: values.append(keep(output)))
    module(x)
    if tidy:
        handle.remove()
    return finish(values[-1])


def blank(module, layer, x): ...


def dots(module, layer, x):
    return ...


def no_return(module, layer, x):
    module(x)


def never_called(module, layer, x):
    return torch.zeros(2, 4)


def hook_left(module, layer, x):
    return stored(module, layer, x, lambda t: t.detach().mean((2, 3)), tidy=False)


def all_hooks_cleared(module, layer, x):
    means = stored(module, layer, x, lambda t: t.detach().mean((2, 3)))
    for m in module.modules():
        m._forward_hooks.clear()
    return means


def live(module, layer, x):
    return stored(module, layer, x, lambda t: t.mean((2, 3)))


def overwritten(module, layer, x):
    return stored(module, layer, x, lambda t: t.detach(), lambda t: t.mean((2, 3)))


def overwritten_array(module, layer, x):
    return stored(module, layer, x, lambda t: t.detach().cpu().numpy(), lambda t: t.mean((2, 3)))


def overwritten_and_live(module, layer, x):
    return stored(module, layer, x, lambda t: t, lambda t: t.mean((2, 3)))


def summed(module, layer, x):
    return stored(module, layer, x, lambda t: t.detach().sum((2, 3)))


def whole_map(module, layer, x):
    return stored(module, layer, x, lambda t: t.detach().clone())


def wrong_axes(module, layer, x):
    return stored(module, layer, x, lambda t: t.detach().mean((0, 2)))


def a_word(module, layer, x):
    return stored(module, layer, x, lambda t: "done")


def wrong_layer(module, layer, x):
    return stored(module, "relu", x, lambda t: t.detach().mean((2, 3)) * 2)


def returns_from_the_hook(module, layer, x):
    values = {}
    target = module.get_submodule(layer)
    handle = target.register_forward_hook(lambda m, args, output: values.setdefault("map", output.detach() * 0))
    module(x)
    handle.remove()
    return values["map"].mean((2, 3))


def left_after_exception(module, layer, x):
    return stored(module, layer, x, lambda t: t.detach().mean((2, 3)))


def left_after_the_stop_button(module, layer, x):
    means = []
    handle = module.get_submodule(layer).register_forward_hook(
        lambda m, args, output: means.append(output.detach().mean((2, 3)))
    )
    try:
        module(x)
    except Exception:
        handle.remove()
        raise
    handle.remove()
    return means[0]


def swallows(module, layer, x):
    try:
        return with_camlib(module, layer, x)
    except Exception:
        return None


def turns(module, layer, x):
    try:
        return with_camlib(module, layer, x)
    except Exception as e:
        raise ValueError("no") from e


def raises(module, layer, x):
    return module.get_submodule("no such layer")


def with_camlib(module, layer, x):
    with camlib.capture(module, layer) as captured:
        module(x)
    return captured[layer].mean((2, 3))


def as_array(module, layer, x):
    return with_camlib(module, layer, x).numpy().astype(np.float64)


def as_lists(module, layer, x):
    return with_camlib(module, layer, x).tolist()


def in_a_list(module, layer, x):
    return [with_camlib(module, layer, x)]


def stacked(module, layer, x):
    return torch.stack([with_camlib(module, layer, x)])


def live_rows(module, layer, x):
    return tuple(live(module, layer, x))


def turned_twice(module, layer, x):
    return with_camlib(module, layer, x).numpy()[::-1].copy()[::-1]


def own_hooks_cleared(module, layer, x):
    values = []
    target = module.get_submodule(layer)
    target.register_forward_hook(lambda m, args, output: values.append(output.detach().mean((2, 3))))
    module(x)
    target._forward_hooks.clear()
    return values[0]


def stops_the_pass(module, layer, x):
    values = []

    def hook(m, args, output):
        values.append(output.detach().mean((2, 3)))
        raise check.Breakdown

    with module.get_submodule(layer).register_forward_hook(hook), suppress(check.Breakdown):
        module(x)
    return values[0]


def returns_the_clone(module, layer, x):
    values = {}
    with module.get_submodule(layer).register_forward_hook(
        lambda m, args, output: values.setdefault("map", output.detach().clone())
    ):
        module(x)
    return values["map"].mean((2, 3))


def returns_the_means(module, layer, x):
    values = {}
    with module.get_submodule(layer).register_forward_hook(
        lambda m, args, output: values.setdefault("map", output.detach().mean((2, 3)))
    ):
        module(x)
    return values["map"]


def with_live_capture(module, layer, x):
    """Its hook returns a clone for the network, which is no mistake."""
    with camlib.capture(module, layer, live=True) as captured:
        module(x)
    return captured[layer].mean((2, 3)).detach()


def stored_on_the_layer(module, layer, x):
    target = module.get_submodule(layer)

    def hook(m, args, output):
        m.saved = output.clone()

    with target.register_forward_hook(hook):
        module(x)
    return target.saved.detach().mean((2, 3))


def forward_replaced(module, layer, x):
    values, target = [], module.get_submodule(layer)
    original = target.forward

    def forward(inputs):
        values.append(original(inputs).detach().mean((2, 3)))
        return original(inputs)

    target.forward = forward
    module(x)
    return values[0]


def training_left_on(module, layer, x):
    module.train()
    return with_camlib(module, layer, x)


def frozen(module, layer, x):
    module.requires_grad_(False)
    return with_camlib(module, layer, x)


def other_weights(module, layer, x):
    means = with_camlib(module, layer, x)
    module.last.weight.data *= 2
    return means


def gradients_off(module, layer, x):
    torch.set_grad_enabled(False)
    return with_camlib(module, layer, x)


def global_hook(module, layer, x):
    values, target = [], module.get_submodule(layer)

    def hook(m, args, output):
        if m is target:
            values.append(output.detach().mean((2, 3)))

    nn.modules.module.register_module_forward_hook(hook)
    module(x)
    return values[0]


def off_after_an_error(module, layer, x):
    torch.set_grad_enabled(False)
    means = with_camlib(module, layer, x)
    torch.set_grad_enabled(True)
    return means


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (blank, "No answer yet"),
        (dots, "No answer yet"),
        (no_return, "does it end with a return?"),
        (never_called, "never called"),
        (hook_left, "You left a hook behind"),
        (all_hooks_cleared, "a hook that is not yours"),
        (live, "the tensor is live"),
        (live_rows, "the tensor is live"),
        (in_a_list, "one axis too many: (1, 2, 4)"),
        (stacked, "one axis too many: (1, 2, 4)"),
        (own_hooks_cleared, "a hook that is not yours"),
        (stops_the_pass, "did not reach its end"),
        (returns_the_clone, "Your hook returns what it stores"),
        (returns_the_means, "Your hook returned a value"),
        (stored_on_the_layer, "You left conv.saved on the network"),
        (forward_replaced, "You left conv.forward on the network"),
        (training_left_on, "training mode"),
        (frozen, "You have changed conv.weight.requires_grad"),
        (other_weights, "You have changed last.weight of the network"),
        (gradients_off, "Gradients are now switched off everywhere"),
        (off_after_an_error, "After an error in the network: Gradients are now switched off"),
        (global_hook, "You left a hook behind"),
        (overwritten, "was overwritten"),
        (overwritten_array, "was overwritten"),
        (overwritten_and_live, "was overwritten"),
        (summed, "sums over the cells"),
        (whole_map, "the whole feature map"),
        (wrong_axes, "axes 2 and 3"),
        (a_word, "this is a str"),
        (wrong_layer, "the values are not"),
        (returns_from_the_hook, "output has changed"),
        (left_after_exception, "in a finally block"),
        (left_after_the_stop_button, "The stop button"),
        (swallows, "swallowed it"),
        (turns, "turned it into ValueError"),
        (raises, "Your function raised AttributeError"),
        (with_camlib, "Right: (2, 4)"),
        (as_array, "Right: (2, 4)"),
        (as_lists, "Right: (2, 4)"),
        (turned_twice, "Right: (2, 4)"),
        (with_live_capture, "Right: (2, 4)"),
    ],
)
def test_channel_means(answer, says):
    assert says in check.channel_means(answer)
    assert torch.is_grad_enabled() and not any(check.GLOBAL), "the check puts back what an answer changes everywhere"


def recorder(
    keep=lambda t: t.detach().clone(),
    registered_inside=True,
    tidy="finally",
    per_name=True,
    returns=False,
    key=lambda net, name: name,
):
    """A `record` with one part of the right answer exchanged."""

    @contextmanager
    def record(net, *names):
        outputs, handles = {}, []

        def hook_for(name):
            def hook(module, args, output):
                outputs[key(net, name)] = keep(output)
                return output * 2 if returns else None

            return hook

        def register():
            for name in names:
                hook = hook_for(name) if per_name else (lambda m, a, output: outputs.update({name: keep(output)}))  # noqa: B023
                handles.append(net.get_submodule(name).register_forward_hook(hook))

        def remove():
            for handle in handles[:1] if tidy == "first" else handles:
                handle.remove()

        if not registered_inside:
            register()
        try:
            if registered_inside:
                register()
            yield outputs
            if tidy == "end":
                remove()
        except Exception:
            if tidy == "except":
                remove()
            if tidy != "swallow":
                raise
        finally:
            if tidy in ("finally", "first", "swallow"):
                remove()
        if tidy == "except":
            remove()

    return record


class Recorder:
    """The right answer as a class; it finds all layers before it registers."""

    def __init__(self, net, *names):
        self.layers = [(name, net.get_submodule(name)) for name in names]

    def __enter__(self):
        self.outputs = {}
        self.handles = [layer.register_forward_hook(self.hook_for(name)) for name, layer in self.layers]
        return self.outputs

    def hook_for(self, name):
        def hook(module, args, output):
            self.outputs[name] = output.detach().clone()

        return hook

    def __exit__(self, *error):
        for handle in self.handles:
            handle.remove()


def generator(net, *names):
    yield {}


@contextmanager
def stub(net, *names):
    yield {}


@contextmanager
def ignores_a_typo(net, *names):
    known = [name for name in names if name in dict(net.named_modules())]
    with recorder()(net, *known) as outputs:
        yield outputs


@contextmanager
def clears_all(net, *names):
    with recorder()(net, *names) as outputs:
        yield outputs
        for m in net.modules():
            m._forward_hooks.clear()


@contextmanager
def a_list(net, *names):
    with recorder()(net, *names) as outputs:
        yield list(outputs)


@contextmanager
def yields_a_copy(net, *names):
    with recorder()(net, *names) as outputs:
        yield dict(outputs)


@contextmanager
def clears_its_layers(net, *names):
    with recorder()(net, *names) as outputs:
        yield outputs
        for name in names:
            net.get_submodule(name)._forward_hooks.clear()


@contextmanager
def returns_what_it_stores(net, *names):
    outputs = {}
    with (
        net.get_submodule(names[0]).register_forward_hook(
            lambda m, args, output: outputs.setdefault(names[0], output.detach().clone())
        ),
        recorder()(net, *names[1:]) as rest,
    ):
        yield outputs
        outputs.update(rest)


@contextmanager
def turns_gradients_off(net, *names):
    with recorder()(net, *names) as outputs:
        torch.set_grad_enabled(False)
        yield outputs


@contextmanager
def turns_the_error(net, *names):
    try:
        with recorder()(net, *names) as outputs:
            yield outputs
    except Exception as e:
        raise ValueError("no") from e


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (stub, "No answer yet"),
        (lambda net, *names: None, "No answer yet"),
        (lambda net, *names: {}[names], "raised KeyError"),
        (lambda net, names: None, "raised TypeError"),
        (generator, "Write @contextmanager"),
        (lambda net, *names: {}, "returned a dict"),
        (contextmanager(lambda net, *names: iter(())), "raised"),
        (recorder(keep=lambda t: 1 / 0), "raised ZeroDivisionError"),
        (a_list, "this is a list"),
        (yields_a_copy, "Yield the dictionary that they fill, not a copy"),
        (clears_its_layers, "a hook that is not yours"),
        (returns_what_it_stores, "Your hook returns what it stores of 'conv'"),
        (turns_gradients_off, "Gradients are now switched off"),
        (recorder(keep=lambda t: [t.clone()]), "is live"),
        (recorder(keep=lambda t: t.detach().clone()[None]), "not what this layer gave"),
        (recorder(per_name=False), "Only the last name"),
        (recorder(key=lambda net, name: net.get_submodule(name)), "yours are Conv2d, Conv2d"),
        (recorder(keep=lambda t: "a map"), "is a str"),
        (recorder(keep=lambda t: t.detach()), "overwritten by the in-place ReLU"),
        (recorder(keep=lambda t: t.detach().numpy()), "overwritten by the in-place ReLU"),
        (recorder(keep=lambda t: t.detach().mean()), "not what this layer gave"),
        (recorder(keep=lambda t: t.clone()), "is live"),
        (recorder(tidy="first"), "After the with block, a hook is left"),
        (recorder(tidy="never"), "After the with block, 2 hooks are left"),
        (clears_all, "a hook that is not yours"),
        (recorder(returns=True), "output has changed"),
        (recorder(tidy="end"), "After an exception in the network, 2 hooks are left"),
        (recorder(tidy="except"), "After the stop button in the network"),
        (recorder(tidy="swallow"), "swallowed it"),
        (turns_the_error, "turned it into ValueError"),
        (recorder(registered_inside=False), "if the second is misspelt, a hook is left"),
        (ignores_a_typo, "No layer is called 'rleu'"),
        (recorder(), "Right"),
        (Recorder, "Right"),
        (camlib.capture, "Right"),
        (recorder(keep=lambda t: t.detach().clone().double()), "Right"),
        (recorder(keep=lambda t: t.detach().numpy().copy()), "Right"),
        (recorder(keep=lambda t: [t.detach().clone()]), "Right"),
        (recorder(keep=lambda t: t.detach().tolist()), "Right"),
    ],
)
def test_record(answer, says):
    assert says in check.record(answer)
    assert torch.is_grad_enabled() and not any(check.GLOBAL)


def test_the_checks_leave_the_random_numbers_alone(small):
    net, x = small
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    check.output_shape(net, "conv", x, RIGHT)
    check.channel_means(with_camlib)
    check.record(recorder())
    assert torch.equal(torch.rand(1), expected)


def test_solutions_pass(clf, capsys):
    net = copy.deepcopy(clf.module)
    names = {"check": check, "net": net, "x": torch.zeros(1, 3, 224, 224), "contextmanager": contextmanager}
    for code in solutions("02_hooks"):
        exec(code, names)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 3 and all(line.startswith("Right") for line in printed)
