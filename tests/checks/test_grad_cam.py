"""Chapter 08's checks name the mistake, accept every right form, and the folded solutions pass."""

import pytest
import torch
from checks import grad_cam as check

import camlib
from tests.checks.solutions import solutions


def variant(target=None, weigh=None, ending=None, total=None):
    """Grad-CAM with one step replaced."""

    def function(net, layer, x, k):
        with camlib.capture(net, layer, live=True) as seen:
            logits = net(x)
        A = seen[layer]
        (G,) = torch.autograd.grad(target(logits, k) if target else logits[:, k].sum(), A)
        products = (weigh(G) if weigh else G.mean((2, 3), keepdim=True)) * A
        maps = (total(products) if total else products.sum(1)).detach()
        return ending(maps) if ending else maps

    return function


def attached(net, layer, x, k):
    with camlib.capture(net, layer, live=True) as seen:
        logits = net(x)
    (G,) = torch.autograd.grad(logits[:, k].sum(), seen[layer])
    return (G.mean((2, 3), keepdim=True) * seen[layer]).sum(1)


def backward(net, layer, x, k):
    with camlib.capture(net, layer, live=True) as seen:
        logits = net(x)
    seen[layer].retain_grad()
    logits[:, k].sum().backward()
    return (seen[layer].grad.mean((2, 3), keepdim=True) * seen[layer]).sum(1).detach()


def leaves_a_hook(net, layer, x, k):
    net.get_submodule(layer).register_forward_hook(lambda *_: None)
    return variant()(net, layer, x, k)


def trains(net, layer, x, k):
    net.train()
    return variant()(net, layer, x, k)


def changes_weights(net, layer, x, k):
    with torch.no_grad():
        net.classifier.weight.mul_(2)
    return variant()(net, layer, x, k)


def features_alone(net, layer, x, k):
    with torch.no_grad(), camlib.capture(net, layer) as seen:
        net(x)
    return seen[layer].sum(1)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda *_: None, "No answer yet"),
        (lambda *_: 1 / 0, "raises ZeroDivisionError"),
        (lambda *_: "red", "this is str"),
        (lambda *_: [1.0], "this is (1,)"),
        (lambda *args: variant()(*args).numpy(), "Right: two networks"),
        (lambda *args: variant()(*args).double().tolist(), "Right: two networks"),
        (variant(), "Right: two networks without GAP"),
        (lambda net, layer, x, k: camlib.grad_cam(net, x, k, layer), "Right: two networks"),
        (variant(weigh=lambda g: g.sum((2, 3), keepdim=True)), "mean over the cells, not its sum"),
        (variant(weigh=lambda g: g), "that is HiResCAM"),
        (variant(weigh=lambda g: g.clamp(min=0)), "that is LayerCAM"),
        (variant(weigh=lambda g: g.clamp(min=0).mean((2, 3), keepdim=True)), "negative gradients are set to zero"),
        (variant(weigh=lambda g: g.abs().mean((2, 3), keepdim=True)), "absolute value is taken; keep its sign"),
        (variant(weigh=lambda g: g.mean(1, keepdim=True)), "the mean runs over the channels"),
        (variant(weigh=lambda g: g.mean((0, 2, 3), keepdim=True)), "the mean runs over the pictures too"),
        (variant(weigh=lambda g: g.amax((2, 3), keepdim=True)), "the largest gradient of a channel"),
        (variant(target=lambda z, k: z.softmax(1)[:, k].sum()), "the probability is differentiated"),
        (variant(target=lambda z, k: z.log_softmax(1)[:, k].sum()), "the logarithm of the probability"),
        (variant(target=lambda z, k: z.sum()), "the logits of all classes"),
        (variant(target=lambda z, k: z.amax(1).sum()), "each picture's best class"),
        (variant(target=lambda z, k: z[:, k].mean()), "divides each gradient by B"),
        (variant(target=lambda z, k: z[k].sum()), "all logits of picture k"),
        (variant(target=lambda z, k: z[0, k]), "only the first picture's logit"),
        (variant(target=lambda z, k: z[:, 1].sum()), "Grad-CAM of class 1; class 2 was asked for"),
        (variant(ending=lambda m: m.clamp(min=0)), "negative cells are set to zero (ReLU)"),
        (variant(ending=torch.abs), "the absolute value is taken; the signed map"),
        (variant(ending=lambda m: m / m.abs().amax((1, 2), keepdim=True)), "divided by its maximum"),
        (variant(ending=lambda m: m.clamp(min=0) / m.amax((1, 2), keepdim=True)), "max(h, 0) / max(h)"),
        (
            variant(
                ending=lambda m: (
                    (m - m.amin((1, 2), keepdim=True)) / (m - m.amin((1, 2), keepdim=True)).amax((1, 2), keepdim=True)
                )
            ),
            "stretched to 0..1",
        ),
        (variant(ending=lambda m: m * m[0].numel()), "too large by the number of cells"),
        (variant(ending=lambda m: m / 0), "NaN or infinity"),
        (variant(ending=lambda m: m + 1), "Not yet: mean of the gradient"),
        (variant(ending=lambda m: m[0]), "this is (6, 8): one map"),
        (variant(ending=lambda m: m[:, None]), "squeeze the axis of the channels"),
        (variant(total=lambda p: p), "not summed over the channels"),
        (variant(total=lambda p: p.mean(1)), "averaged over the channels"),
        (
            variant(target=lambda z, k: z.softmax(1)[:, k].sum(), ending=lambda m: m.clamp(min=0)),
            "the probability is differentiated; take the logit, before any softmax; negative cells",
        ),
        (features_alone, "no gradient is in it"),
        (attached, "Detach the maps"),
        (backward, "leaves gradients in the parameters"),
        (leaves_a_hook, "A hook was left behind"),
        (trains, "put into training mode"),
        (changes_weights, "parameters have changed"),
    ],
)
def test_batch_of_maps(function, says):
    assert says in check.batch_of_maps(function)


def gradient(logit, A):
    return torch.autograd.grad(logit, A, retain_graph=True)[0]


def summed(logit, A):
    return gradient(logit, A).sum((2, 3))[0]


def by_backward(logit, A):
    logit.backward()
    return A.grad.sum((2, 3))[0]


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda *_: None, "No answer yet"),
        (lambda *_: 1 / 0, "raises ZeroDivisionError"),
        (lambda *_: "red", "this is str"),
        (summed, "Right: two classifiers"),
        (lambda logit, A: summed(logit, A)[None], "Right: two classifiers"),
        (lambda logit, A: A[0, 0].numel() * gradient(logit, A).mean((0, 2, 3)), "Right: two classifiers"),
        (lambda logit, A: summed(logit, A).double().numpy(), "Right: two classifiers"),
        (lambda logit, A: summed(logit, A).tolist(), "Right: two classifiers"),
        (lambda logit, A: torch.autograd.grad(logit, A), "returns a tuple"),
        (gradient, "That is the gradient itself, (1, 5, 3, 4)"),
        (lambda logit, A: gradient(logit, A)[0], "That is the gradient itself, (5, 3, 4)"),
        (lambda logit, A: gradient(logit, A).sum(1), "needs a row of 5 numbers"),
        (lambda logit, A: gradient(logit, A).mean((2, 3))[0], "too small, by the number of cells, 12"),
        (lambda logit, A: gradient(logit, A)[0, :, 1, 1], "too small, by the number of cells"),
        (lambda logit, A: summed(logit, A).abs(), "The sign is gone"),
        (lambda logit, A: summed(logit, A).relu(), "Negative weights are set to zero"),
        (lambda logit, A: (gradient(logit, A) * A).sum((2, 3))[0], "what each channel brings to the logit"),
        (lambda logit, A: summed(logit, A) + 1, "Not yet: differentiate the logit by A"),
        (by_backward, "leaves a gradient in A.grad"),
        (lambda logit, A: A.detach().zero_(), "changes its inputs in place"),
    ],
)
def test_weight_row(function, says):
    assert says in check.weight_row(function)


def conserving(A, G):
    weight = (G * A).sum((2, 3), keepdim=True) / A.sum((2, 3), keepdim=True).clamp(min=1e-9)
    return (weight * A).sum(1)


def weighted(weight):
    return lambda A, G: (weight(A, G) * A).sum(1)


CELLS = {"dim": (2, 3), "keepdim": True}


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda *_: None, "No answer yet"),
        (lambda *_: 1 / 0, "raises ZeroDivisionError"),
        (lambda *_: "red", "this is str"),
        (conserving, "Right: one weight per channel"),
        (lambda A, G: conserving(A, G).double().numpy(), "Right: one weight per channel"),
        (lambda A, G: conserving(A, G).tolist(), "Right: one weight per channel"),
        (weighted(lambda A, G: (G * A).sum(**CELLS) / (A.sum(**CELLS) + 1e-7)), "Right: one weight per channel"),
        (weighted(lambda A, G: ((G * A).sum(**CELLS) / A.sum(**CELLS)).nan_to_num()), "Right: one weight per channel"),
        (weighted(lambda A, G: (G * A).sum(**CELLS) / A.sum(**CELLS)), "There is a NaN"),
        (weighted(lambda A, G: (G * A).sum(**CELLS) / A.sum(**CELLS).clamp(min=1)), "A weak channel loses a part"),
        (weighted(lambda A, G: G.mean(**CELLS)), "That is Grad-CAM"),
        (weighted(lambda A, G: G), "That is HiResCAM"),
        (weighted(lambda A, G: (G * A).sum(**CELLS)), "too large by the sum of A"),
        (weighted(lambda A, G: (G * A).mean(**CELLS)), "not by the number of cells"),
        (
            weighted(lambda A, G: ((G * A).sum(**CELLS) / A.sum(**CELLS).clamp(min=1e-9)).relu()),
            "Negative weights are set to zero",
        ),
        (weighted(lambda A, G: (G * A).sum(**CELLS) / (A.sum(**CELLS) ** 2).clamp(min=1e-9)), "sum of A twice"),
        (
            lambda A, G: (
                (G.mean(**CELLS) * A).sum(1)
                * ((G * A).sum((1, 2, 3)) / (G.mean(**CELLS) * A).sum((1, 2, 3)))[:, None, None]
            ),
            "rescaled as a whole",
        ),
        (
            weighted(lambda A, G: (G * A).sum((0, 2, 3), keepdim=True) / A.sum((0, 2, 3), keepdim=True)),
            "run over the pictures too",
        ),
        (lambda A, G: (G * A).sum((2, 3)) / A.sum((2, 3)).clamp(min=1e-9), "Those are the weights"),
        (lambda A, G: G * A, "Sum the products over the channels"),
        (lambda A, G: conserving(A, G)[0], "this is (3, 5)"),
        (lambda A, G: A.sum(1), "Solve for w"),
        (lambda A, G: A.mul_(G).sum(1), "changes its inputs in place"),
    ],
)
def test_one_weight_per_channel(function, says):
    assert says in check.one_weight_per_channel(function)


def test_the_random_numbers_of_the_caller_are_left_alone():
    before = torch.get_rng_state()
    check.batch_of_maps(variant())
    check.weight_row(summed)
    check.one_weight_per_channel(conserving)
    assert torch.equal(torch.get_rng_state(), before)


def test_solutions_pass(capsys):
    names = {"torch": torch, "camlib": camlib, "check": check}
    for code in solutions("08_grad_cam"):
        exec(code, names)
    assert capsys.readouterr().out.count("Right: ") == 3
