"""Chapter 14's checks name the mistake, accept every right form, the solutions pass, and the optional cells run."""

import json
from pathlib import Path

import nbformat
import numpy as np
import pytest
import timm
import torch
from checks import transformers as check
from drawings import transformers as draw
from torch.nn import functional as F

import camlib
from camlib import shapes
from tests.checks.solutions import solutions
from tools import notebooks

CHAPTER = "14_transformers"


def row(w):
    return w.mean(0)[0, 1:].view(8, 8)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda w: None, "No answer yet"),
        (lambda w: ..., "No answer yet"),
        (lambda w: 1 / 0, "it raises: division by zero"),
        (lambda w: "a map", "this is str"),
        (row, "Right: the class token's row"),
        (lambda w: row(w).numpy(), "Right: the class token's row"),
        (lambda w: row(w).tolist(), "Right: the class token's row"),
        (lambda w: list(row(w)), "Right: the class token's row"),
        (lambda w: row(w).double(), "Right: the class token's row"),
        (lambda w: np.flip(np.flip(row(w).numpy(), 0), 0), "Right: the class token's row"),
        (lambda w: w[:, 0, 1:].mean(0).reshape(8, 8), "Right: the class token's row"),
        (lambda w: row(w)[None], "The numbers are right. Arrange the 64 numbers as a grid (8, 8); this is (1, 8, 8)"),
        (lambda w: w.mean(0)[0, 1:], "The numbers are right. Arrange"),
        (lambda w: w.mean(0)[1:, 0], "Arrange the 64 numbers"),
        (lambda w: w.mean(0)[0], "with the class token itself"),
        (lambda w: w[:, 0, 1:].view(-1, 8, 8), "The map has the shape (8, 8); this is (3, 8, 8)"),
        (lambda w: row(w).T, "rows and columns of the grid are swapped"),
        (lambda w: w.mean(0)[1:, 0].view(8, 8), "this is a column"),
        (lambda w: w.mean(0)[0, :-1].view(8, 8), "the last token was dropped"),
        (lambda w: w.mean(0)[-1, 1:].view(8, 8), "the row of the last patch"),
        (lambda w: w.mean(0)[1, 1:].view(8, 8), "the row of the first patch"),
        (lambda w: w.sum(0)[0, 1:].view(8, 8), "the heads were added up"),
        (lambda w: w.amax(0)[0, 1:].view(8, 8), "the largest of the heads"),
        (lambda w: w[1, 0, 1:].view(8, 8), "head 1 alone"),
        (lambda w: w.mean(0)[1:, 1:].mean(0).view(8, 8), "over all patches' rows"),
        (lambda w: w.mean((0, 1))[1:].view(8, 8), "over all rows"),
        (lambda w: row(w) / row(w).sum(), "rescaled to add up to 1"),
        (lambda w: row(w) / row(w).max(), "were rescaled"),
        (lambda w: (row(w) - row(w).min()) / (row(w).max() - row(w).min()), "stretched to 0..1"),
        (lambda w: w.zero_().mean(0)[0, 1:].view(8, 8), "changes its inputs in place"),
        (lambda w: torch.rand(8, 8), "The values are others"),
    ],
)
def test_class_row(function, says):
    assert says in check.class_row(function)


def flow(matrices, own=0.5, order=1):
    result = torch.eye(65)
    for m in matrices[::order]:
        result = ((1 - own) * m + own * torch.eye(65)) @ result
    return result


def means(attention):
    return [w.mean(0) for w in attention]


def right(attention):
    return flow(means(attention))[0, 1:].view(8, 8)


def from_the_end(attention):
    """Another way to compute the same: the row moves from the head to the patches."""
    values = F.one_hot(torch.tensor(0), 65).float()
    for w in attention[::-1]:
        values = values @ w.mean(0) / 2 + values / 2
    return values[1:].reshape(8, 8)


def normalised(attention):
    result = torch.eye(65)
    for w in attention:
        m = w.mean(0) + torch.eye(65)
        result = m / m.sum(1, keepdim=True) @ result
    return result[0, 1:].reshape(8, 8)


def without_halves(attention):
    result = torch.eye(65)
    for w in attention:
        result = (w.mean(0) + torch.eye(65)) @ result
    return result[0, 1:].view(8, 8)


def by_softmax(attention):
    return flow([(m + torch.eye(65)).softmax(1) for m in means(attention)], own=0)[0, 1:].view(8, 8)


def changed(attention):
    attention[0] += 1
    return right(attention)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda a: None, "No answer yet"),
        (lambda a: a[9], "it raises: list index out of range"),
        (right, "Right: for three and for four blocks"),
        (from_the_end, "Right: for three and for four blocks"),
        (normalised, "Right: for three and for four blocks"),
        (lambda a: right(a).numpy(), "Right: for three and for four blocks"),
        (lambda a: right(a).tolist(), "Right: for three and for four blocks"),
        (lambda a: right(a).double(), "Right: for three"),
        (lambda a: flow(means(a))[0, 1:], "The numbers are right. Arrange"),
        (lambda a: flow(means(a)), "The map has the shape (8, 8); this is (65, 65)"),
        (lambda a: flow(means(a))[0], "with the class token itself"),
        (lambda a: right(a).T, "rows and columns of the grid are swapped"),
        (lambda a: flow(means(a), order=-1)[0, 1:].view(8, 8), "order of the product is reversed"),
        (lambda a: flow(means(a), own=0)[0, 1:].view(8, 8), "the residual connection is missing"),
        (without_halves, "add up to 2"),
        (lambda a: flow(means(a))[1:, 0].view(8, 8), "this is a column of the product"),
        (lambda a: a[-1].mean(0)[0, 1:].view(8, 8), "the last block alone; multiply"),
        (lambda a: a[-1].mean(0)[0, 1:].view(8, 8) / 2, "the last block alone, with its identity"),
        (lambda a: a[0].mean(0)[0, 1:].view(8, 8), "the first block alone"),
        (lambda a: torch.stack(means(a)).mean(0)[0, 1:].view(8, 8), "averaged over the blocks"),
        (lambda a: sum(means(a))[0, 1:].view(8, 8), "were added up"),
        (
            lambda a: torch.stack([(m + torch.eye(65)) / 2 for m in means(a)]).prod(0)[0, 1:].view(8, 8),
            "multiplied cell by cell",
        ),
        (
            lambda a: torch.stack([flow([w[h] for w in a])[0, 1:] for h in range(len(a[0]))]).mean(0).view(8, 8),
            "each head was rolled out alone",
        ),
        (lambda a: flow([w.amax(0) for w in a])[0, 1:].view(8, 8), "the largest of the heads"),
        (lambda a: flow(means(a))[0, :-1].view(8, 8), "the last token was dropped"),
        (by_softmax, "a softmax changes their values"),
        (lambda a: right(a) / right(a).max(), "were rescaled"),
        (lambda a: right(a) / right(a).sum(), "rescaled to add up to 1"),
        (changed, "changes its inputs in place"),
        (lambda a: right(a) ** 2, "The values are others"),
    ],
)
def test_rollout(function, says):
    assert says in check.rollout(function)


def attended(q, k, v):
    return (q @ k.mT / q.shape[2] ** 0.5).softmax(2), v


def held(q, k, v):
    weights, v = attended(q, k, v)
    return weights.detach() @ v


def without_grad(q, k, v):
    with torch.no_grad():
        weights, _ = attended(q, k, v)
    return weights @ v


def scored(scores):
    return lambda q, k, v: scores(q.detach(), k.detach()) @ v


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda q, k, v: None, "No answer yet"),
        (lambda q, k, v: q @ k, "it raises: "),
        (held, "Right: the same values"),
        (without_grad, "Right: the same values"),
        (lambda q, k, v: F.scaled_dot_product_attention(q.detach(), k.detach(), v), "Right: the same values"),
        (lambda q, k, v: torch.einsum("hij,hjd->hid", attended(q, k, v)[0].detach(), v), "Right: the same values"),
        (lambda q, k, v: torch.stack([held(*p) for p in [(q, k, v)]])[0], "Right: the same values"),
        (lambda q, k, v: held(q, k, v).detach().numpy(), "Return a tensor"),
        (lambda q, k, v: held(q, k, v)[0], "The result has the shape of v"),
        (lambda q, k, v: attended(q, k, v)[0], "The result has the shape of v"),
        (lambda q, k, v: F.scaled_dot_product_attention(q, k, v), "the weights are not held"),
        (lambda q, k, v: F.scaled_dot_product_attention(q.detach(), k, v), "still reaches k"),
        (lambda q, k, v: F.scaled_dot_product_attention(q, k.detach(), v), "still reaches q"),
        (lambda q, k, v: held(q, k, v).detach(), "no gradient reaches v. Hold the weights, and nothing else"),
        (lambda q, k, v: attended(q, k, v)[0] @ v.detach(), "no gradient reaches v. Hold the weights, and leave v"),
        (scored(lambda q, k: (q @ k.mT).softmax(2)), "not divided by the square root"),
        (scored(lambda q, k: (q @ k.mT / q.shape[2]).softmax(2)), "divide by its square root"),
        (scored(lambda q, k: (q @ k.mT / 16**0.5).softmax(2)), "take d from the shape"),
        (scored(lambda q, k: (q @ k.mT / q.shape[2] ** 0.5).softmax(1)), "the wrong axis"),
        (scored(lambda q, k: (q @ k.mT / q.shape[2] ** 0.5).softmax(0)), "over the heads"),
        (scored(lambda q, k: q @ k.mT / q.shape[2] ** 0.5), "the softmax is missing"),
        (scored(lambda q, k: (k @ q.mT / q.shape[2] ** 0.5).softmax(2)), "q and k are swapped"),
        (scored(lambda q, k: (q @ k.mT / q.shape[2] ** 0.5).softmax(2).mT), "the weights are transposed"),
        (lambda q, k, v: v * 1, "this is v itself"),
        (lambda q, k, v: 2 * held(q, k, v), "The values are not those of"),
        (lambda q, k, v: held(q, k, v) + v - v.detach(), "The gradient of v is not that of"),
        (lambda q, k, v: v.data.zero_() + held(q, k, v), "changes its inputs in place"),
    ],
)
def test_held(function, says):
    assert says in check.held(function)


def test_solutions_pass(capsys):
    names = {"torch": torch, "check": check}
    for code in solutions(CHAPTER):
        exec(code, names)
    assert capsys.readouterr().out.count("Right: ") == 3


def test_the_drawings_rollout_is_the_solution():
    net, image = shapes.trained_transformer(), shapes.pictures(1, seed=3).images[0]
    names = {"torch": torch, "check": check}
    exec(solutions(CHAPTER)[1], names)
    attention, x = [], net.stem(shapes.centred(image)[None]).flatten(2).transpose(1, 2) + net.position
    x = torch.cat([net.tokens, x], 1)
    for block in net.blocks:
        q, k, _ = block.attn.qkv(block.norm1(x)).unflatten(2, (3, 3, 16)).permute(2, 0, 3, 1, 4)
        attention.append((q @ k.mT / 4).softmax(3)[0].detach())
        x = block(x)
    assert torch.allclose(names["rollout"](attention), draw.rollout(net, image), atol=1e-6)


def test_the_twin_is_the_one_that_is_described():
    """Exact at its last layer and pointing beside the shape there; at the patches it points into the box."""
    from camlib.evaluate import pointing_game
    from camlib.transformer import VisionTransformer

    twin, data = VisionTransformer("mean").eval(), shapes.pictures(100, seed=77)
    with np.load("data/mean_of_tokens.npz") as stored:
        twin.load_state_dict({name: torch.from_numpy(stored[name]) for name in stored.files})
    assert shapes.accuracy(twin, data) > 0.95
    x, hits = shapes.centred(data.images), {}
    for layer in ("norm", None):
        heats = camlib.upsample(camlib.frozen_cam(twin, x, data.labels, layer), (64, 64))
        hits[layer] = sum(pointing_game(h, [b]) for h, b in zip(heats, data.boxes.tolist(), strict=True))
    assert hits["norm"] < 12 < 80 < hits[None]


def test_the_figures_say_what_they_show():
    result = json.loads(Path("evidence/transformers.json").read_text(encoding="utf-8"))
    image, cells = shapes.pictures(1, seed=3).images[0], torch.rand(8, 8, generator=torch.Generator().manual_seed(0))
    cells[0, 7] = 2
    weights = torch.rand(3, 65, 65).softmax(2)
    assert "to 2.0, at the top right" in draw.board(image, cells, "a map").get_label()
    assert (
        "rollout, disc: strongest"
        in draw.asked_twice(image, {"rollout": [cells, cells]}, ("cross", "disc")).get_label()
    )
    assert "from 0." in draw.rolled(image, {"rollout": cells}).get_label()
    assert len(draw.attention(image, [weights] * 3).axes) == 3 * 5 + 1
    assert draw.tokens(image, torch.randn(65, 48)).get_label()
    fig = draw.compared(result)
    assert [ax.get_title() for ax in fig.axes] == list(draw.MEASURED.values())
    assert [t.get_text() for t in fig.axes[0].get_yticklabels()] == list(draw.COMPARED.values())
    assert draw.shares(result).get_label()


# --- the optional cells, with random weights -------------------------------------------------------------------------


def optional_cells():
    notebook = nbformat.read(f"notebooks/{CHAPTER}.ipynb", as_version=4)
    return [c.source for c in notebooks.code_cells(notebook) if "download" in notebooks.tags_of(c)]


@pytest.mark.long
@pytest.mark.parametrize("number", range(4))
def test_optional_cells_run(number, monkeypatch):
    """Each draws one figure; with weights that are not there, each says so instead."""
    if number == 2:
        open_clip = pytest.importorskip("open_clip")
        create = open_clip.create_model_and_transforms
        monkeypatch.setattr(open_clip, "create_model_and_transforms", lambda name, pretrained: create(name))
    from torchvision.models import segmentation

    created, deeplab = timm.create_model, segmentation.deeplabv3_mobilenet_v3_large
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained, **more: created(name, **more))

    def random_deeplab(weights):
        torch.manual_seed(0)
        net = deeplab(weights_backbone=None, num_classes=len(weights.meta["categories"]))
        net.classifier[-1].bias.data[weights.meta["categories"].index("cat")] += 1  # so that some pixels are a cat
        return net

    monkeypatch.setattr(segmentation, "deeplabv3_mobilenet_v3_large", random_deeplab)
    code, shown = optional_cells()[number], []
    monkeypatch.chdir("notebooks")
    monkeypatch.setattr(camlib, "show", lambda fig, alt=None: shown.append(fig))
    names = {"camlib": camlib, "torch": torch, "PHOTO": "../data/photos/panda.webp", "normalize": F.normalize}
    exec(code, names)
    assert len(shown) == 1 and shown[0].get_label()


@pytest.mark.parametrize("number", range(4))
def test_optional_cells_without_weights_say_so(number, monkeypatch, capsys):
    from torchvision.models import segmentation

    def unreachable(*args, **more):
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", unreachable)
    monkeypatch.setattr(segmentation, "deeplabv3_mobilenet_v3_large", unreachable)
    monkeypatch.setitem(__import__("sys").modules, "open_clip", None)
    exec(optional_cells()[number], {"camlib": camlib, "torch": torch, "normalize": F.normalize})
    assert capsys.readouterr().out.strip()
