"""Which layer, which of its runs and which axes: every map here is computed again by autograd on the split network."""

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from camlib import CamError, LayerError, explain, find_head, grad_cam, hires_cam, load_model
from camlib.layers import (
    FeatureLayer,
    Grid,
    agreement,
    best_reading,
    disturbed,
    find_feature_layer,
    follows,
    locate,
    readings,
)
from tests.networks import assert_same, grad_cam_of, tiny

SIDE = 64


def photos(n: int = 2, high: int = SIDE, wide: int = SIDE, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, high, wide, generator=torch.Generator().manual_seed(seed))


X = photos()


def conv(a: int, b: int, stride=2, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(a, b, kernel, stride, kernel // 2), nn.ReLU())


def body(channels: int = 8) -> nn.Sequential:
    """64 × 64 pixels -> 16 × 16 cells."""
    return nn.Sequential(*conv(3, channels), *conv(channels, channels))


class Net(nn.Module):
    """A backbone, whatever else is given by name, and a function that puts them together."""

    def __init__(self, end: Callable, seed: int = 0, **parts: Callable[[], nn.Module]):
        super().__init__()
        torch.manual_seed(seed)
        self.body = body()
        for name, make in parts.items():
            setattr(self, name, make())
        self.end = end
        self.eval()

    def forward(self, x):
        return self.end(self, x)


class PreNorm(nn.Module):
    """A pre-norm block whose cells attend to one another: tokens (B, L, C)."""

    def __init__(self, channels: int = 8):
        super().__init__()
        self.norm, self.attn = nn.LayerNorm(channels), nn.MultiheadAttention(channels, 2, batch_first=True)

    def forward(self, tokens):
        x = self.norm(tokens)
        return tokens + self.attn(x, x, x)[0]


def attending(n, x):
    """With a convolution that is no bottleneck before, and one that is behind."""
    tokens = (n.stem(x) + n.side(x)).flatten(2).transpose(1, 2)
    tokens = n.block(n.pre(tokens))
    return n.fc(n.last(tokens.transpose(1, 2).unflatten(2, (16, 16))).mean((2, 3)))


def test_before_attention():
    parts = {
        "stem": body,
        "side": body,
        "pre": lambda: nn.LayerNorm(8),
        "block": PreNorm,
        "last": lambda: conv(8, 8, 1),
    }
    net = Net(attending, fc=lambda: nn.Linear(8, 5), **parts)
    assert locate(net, X).layer == "last"
    place = locate(net, X, before_attention=True)
    assert place.layer == "pre"  # not block.norm, which the residual goes around, nor stem, which side goes around
    assert place.grid.read(torch.zeros(2, 256, 8), X).shape == (2, 8, 16, 16)
    plain = Net(
        lambda n, x: n.fc(n.last(n.body(x)).mean((2, 3))), fc=lambda: nn.Linear(8, 5), last=lambda: conv(8, 8, 1)
    )
    assert locate(plain, X, before_attention=True) == locate(plain, X)
    assert locate(net, X, "last", before_attention=True).layer == "last"


MATRIX_PRODUCTS = {
    "@": lambda a, b: a @ b,
    "mm": lambda a, b: torch.stack([torch.mm(m, n) for m, n in zip(a, b, strict=True)]),
    "bmm keywords": lambda a, b: torch.bmm(input=a, mat2=b),
    "baddbmm": lambda a, b: torch.baddbmm(torch.zeros(1), a, b),
    "addmm": lambda a, b: torch.addmm(torch.zeros(1), a[0], b[0])[None],
    "linear": lambda a, b: nn.functional.linear(a[0], b[0].T)[None],
    "tensordot": lambda a, b: torch.tensordot(a[0], b[0], 1)[None],
    "inner": lambda a, b: torch.inner(a[0], b[0].T)[None],
    "einsum": lambda a, b: torch.einsum("bij,bjk->bik", a, b),
    "multi_dot": lambda a, b: torch.linalg.multi_dot([a[0], b[0]])[None],
}


@pytest.mark.parametrize("frozen", [False, True], ids=["", "no_grad"])
@pytest.mark.parametrize("product", [*MATRIX_PRODUCTS.values()], ids=[*MATRIX_PRODUCTS])
def test_attention_by_any_matrix_product(product, frozen):
    def attended(n, x):
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            tokens = n.body(x).flatten(2).transpose(1, 2)
            weights = product(tokens, tokens.transpose(1, 2)).softmax(-1)
            mixed = n.mix((tokens + product(weights, tokens)).transpose(1, 2).unflatten(2, (16, 16)))
        return n.fc(mixed.mean((2, 3)))

    net = Net(attended, fc=lambda: nn.Linear(8, 5), mix=lambda: conv(8, 8, 1))
    assert locate(net, X).layer == "mix"
    assert locate(net, X, before_attention=True).layer == "body"


GATES = {
    "squeeze and excite": lambda f, g: torch.einsum("bchw,bc->bchw", f, g),
    "one map": lambda f, g: torch.einsum("bchw, bc -> bhw", f, g)[:, None] * f,
    "implicit": lambda f, g: f * torch.einsum("bchw,bc", f, g)[:, :, None, None].mean(),
    "scalar": lambda f, g: f * torch.einsum("bchw,bchw->", f, f),
    "inner": lambda f, g: f * torch.inner(g[0], g[0]),
    "tensordot": lambda f, g: f * torch.tensordot(f, f, 4),
    "vector": lambda f, g: f * (f[0].flatten(1).T @ g[0]).view(1, 1, 16, 16),
}


@pytest.mark.parametrize("gate", [*GATES.values()], ids=[*GATES])
def test_a_gate_is_no_attention(gate):
    def gated(n, x):
        f = n.body(x)
        return n.fc(n.mix(gate(f, n.squeeze(f.mean((2, 3))).sigmoid())).mean((2, 3)))

    parts = {"squeeze": lambda: nn.Linear(8, 8), "mix": lambda: conv(8, 8, 1), "fc": lambda: nn.Linear(8, 5)}
    assert locate(Net(gated, **parts), X, before_attention=True).layer == "mix"


def test_a_head_of_zeros_says_so():
    net = Net(attending, stem=body, side=body, pre=lambda: nn.LayerNorm(8), block=PreNorm,
              last=lambda: conv(8, 8, 1), fc=lambda: nn.Linear(8, 5))  # fmt: skip
    nn.init.zeros_(net.fc.weight)
    with pytest.raises(LayerError, match="have no gradient on this input.*weights are all zero"):
        locate(net, X, before_attention=True)


def test_a_product_of_weights_is_no_attention():
    """As with low-rank updates: the weight matrix is a product of two parameters."""

    def low_rank(n, x):
        tokens = n.body(x).flatten(2).transpose(1, 2)
        tokens = tokens @ (n.down.weight.T @ n.up.weight.T)
        return n.fc(n.mix(tokens.transpose(1, 2).unflatten(2, (16, 16))).mean((2, 3)))

    parts = {"down": lambda: nn.Linear(8, 2), "up": lambda: nn.Linear(2, 8), "mix": lambda: conv(8, 8, 1)}
    net = Net(low_rank, fc=lambda: nn.Linear(8, 5), **parts)
    assert locate(net, X, before_attention=True).layer == "mix"


def test_a_way_around_a_layer_is_seen_where_the_scores_sum_to_a_constant():
    def end(n, x):
        tokens = n.stem(x).flatten(2).transpose(1, 2)
        score = n.fc(n.block(tokens).mean(1) + n.side(x).mean((2, 3)))[:, :1]
        return torch.cat([-score, score], 1)

    net = Net(end, stem=body, side=body, block=PreNorm, fc=lambda: nn.Linear(8, 5))
    with pytest.raises(LayerError, match="no layer before the first attention"):
        locate(net, X, before_attention=True)


def test_a_softmax_over_cells_into_one_vector_is_no_attention():
    def pooled(n, x):
        features = n.body(x)
        weights = n.score(features).flatten(2).softmax(2)  # (B, 1, L)
        context = features.flatten(2) @ weights.transpose(1, 2)  # (B, C, 1)
        return n.fc((features + context[..., None]).mean((2, 3)))

    net = Net(pooled, fc=lambda: nn.Linear(8, 5), score=lambda: nn.Conv2d(8, 1, 1))
    assert locate(net, X, before_attention=True).layer == "body"


def flattened(channels: int = 8, classes: int = 5) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * 256, classes))


def assert_explained(
    net: nn.Module, layer: str, A: Tensor, tail: Callable, x: Tensor = X, named: str | None = None
) -> FeatureLayer:
    """The map by default (and of `named`) is the one by hand; which layer, which run and how it is read comes back."""
    expected = grad_cam_of(tail, A, torch.full((len(A),), 1))
    assert_same(grad_cam(net, x, 1), expected)
    assert find_feature_layer(net, x) == layer
    assert_same(grad_cam(net, x, 1, layer=named or layer), expected)
    assert_same(grad_cam(net, x, 1, layer=net.get_submodule(layer)), expected)
    clf = load_model(net, size=x.shape[-1]) if x.shape[-1] == x.shape[-2] else None
    if clf:
        exp = explain(clf, x[1], method="grad_cam")
        assert_same(exp.map(1), expected[1])
        assert exp.layer == layer
    return locate(net, x)


# --- do cells follow the photo? --------------------------------------------------------------------------------------


def responses(h: int, w: int) -> Tensor:
    """(4, h, w): each cell responds to the halves in which it lies."""
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    halves = [rows < h / 2, rows >= h / 2, columns < w / 2, columns >= w / 2]
    return torch.stack(halves).float()


def test_agreement_of_places():
    there = responses(6, 4)
    expected = float(torch.corrcoef(torch.stack([torch.tensor([-1.0, -1, -1, 1, 1, 1]), torch.arange(6.0)]))[0, 1])
    assert agreement(there) == pytest.approx(expected)
    for wrong in (there.flip(1), there.flip(2), there[[2, 3, 0, 1]], there[[1, 0, 2, 3]]):
        assert agreement(wrong) <= 0, "one axis that is wrong is enough"
    assert agreement(torch.ones(4, 6, 4)) == 0, "cells that all respond alike"
    assert agreement(torch.zeros(4, 6, 4)) == -1, "cells that respond to nothing"


def test_an_axis_of_one_cell_is_not_tested():
    assert agreement(responses(1, 4)) == agreement(responses(4, 1)) > 0.8


def test_dead_cells_say_nothing():
    there = responses(8, 8)
    dead = torch.rand(8, 8, generator=torch.Generator().manual_seed(0)) < 0.7
    assert agreement(there * ~dead) > 0.8


def test_few_cells_must_agree_more():
    noisy = responses(4, 4) + torch.rand(4, 4, 4, generator=torch.Generator().manual_seed(2))
    large = responses(16, 16) + torch.rand(4, 16, 16, generator=torch.Generator().manual_seed(2))
    assert 0.5 < agreement(noisy) < 0.8 and not follows(noisy)
    assert 0.5 < agreement(large) < 0.8 and follows(large)


def test_disturbed_halves():
    x = photos(1, 20, 30)
    top, bottom, left, right = (picture != x for picture in disturbed(x))
    for half, rows, columns in (
        (top, slice(0, 10), slice(None)),
        (bottom, slice(10, 20), slice(None)),
        (left, slice(None), slice(0, 15)),
        (right, slice(None), slice(15, 30)),
    ):
        inside = torch.zeros_like(half)
        inside[..., rows, columns] = True
        assert torch.equal(half, inside)
    assert max(float((p - x).std()) for p in disturbed(x)) < 0.1 * float(x.std()), "a little noise, no other photo"
    assert torch.equal(torch.stack(disturbed(x)), torch.stack(disturbed(x)))


@pytest.mark.parametrize(
    ("h", "w", "high", "wide", "arrange", "grid"),
    [
        (7, 10, 224, 320, lambda r: r[:, None].expand(-1, 5, -1, -1), Grid("nchw")),
        (7, 10, 224, 320, lambda r: r[..., None].expand(-1, -1, -1, 5), Grid("nhwc")),
        (8, 8, 64, 64, lambda r: r[..., None].expand(-1, -1, -1, 8), Grid("nhwc")),  # C == h == w
        (7, 10, 224, 320, lambda r: r.flatten(1)[..., None].expand(-1, -1, 5), Grid("nlc")),
        (7, 10, 224, 320, lambda r: r.flatten(1)[:, None].expand(-1, 5, -1), Grid("ncl")),
        (14, 14, 224, 224, lambda r: F.pad(r.flatten(1)[..., None].expand(-1, -1, 5), (0, 0, 2, 0)), Grid("nlc", 2)),
        (7, 10, 224, 320, lambda r: F.pad(r.flatten(1)[..., None], (0, 0, 8, 0)), Grid("nlc", 8)),
        (4, 16, 64, 128, lambda r: r.flatten(1)[:, None], Grid("ncl", 0, 0.5)),  # strides 16 and 8
        (1, 12, 32, 384, lambda r: r[:, None], Grid("nchw")),
    ],
)
def test_an_arrangement_is_recognised_by_its_responses(h, w, high, wide, arrange, grid):
    """Also where a shape would allow others, and the cells come back where they were."""
    change = arrange(responses(h, w))
    reading = best_reading(change, torch.zeros(1, 3, high, wide))
    assert (reading.layout, reading.extra) == (grid.layout, grid.extra)
    assert reading.ratio == pytest.approx(grid.ratio, rel=0.1)
    cells = torch.arange(float(h * w)).view(1, h, w).expand(4, -1, -1)
    assert torch.equal(reading.read(arrange(cells), torch.zeros(1, 3, high, wide))[0, 0], cells[0])


@pytest.mark.parametrize("shape", [(12, 197, 64), (49, 64), (64, 64), (16, 32), (5,), (5, 300, 300), (20, 32)])
def test_what_follows_nothing_is_no_grid(shape):
    change = torch.rand(4, *shape, generator=torch.Generator().manual_seed(0))
    assert best_reading(change, torch.zeros(1, 3, 224, 224)) is None


def test_no_reading_is_finer_than_the_photo():
    assert not list(readings(torch.zeros(1, 5, 300, 300), torch.zeros(1, 3, 224, 224)))
    assert {g.layout for g in readings(torch.zeros(1, 5, 7, 70), torch.zeros(1, 3, 224, 224))} == {"nchw", "nhwc"}


# --- a layer that runs several times ---------------------------------------------------------------------------------


def test_one_relu_everywhere():
    """Also in the classifier, where it runs on no grid; and in 1×1 convolutions, where its grid has one cell."""
    net = Net(
        lambda n, x: n.fc(n.act(n.hidden(n.act(n.b(n.act(n.a(x)))).flatten(1)))),
        a=lambda: nn.Conv2d(3, 6, 5, 4, 2),
        b=lambda: nn.Conv2d(6, 9, 3, 1, 1),
        hidden=lambda: nn.Linear(9 * 256, 12),
        fc=lambda: nn.Linear(12, 4),
        act=nn.ReLU,
    )
    A = F.relu(net.b(F.relu(net.a(X))))
    place = assert_explained(net, "act", A, lambda A: net.fc(F.relu(net.hidden(A.flatten(1)))))
    assert place.call == 1
    net = Net(
        lambda n, x: n.fc(n.act(n.hidden(n.act(n.a(x)).amax((2, 3), keepdim=True)))).flatten(1),
        a=lambda: nn.Conv2d(3, 6, 5, 4, 2),
        hidden=lambda: nn.Conv2d(6, 12, 1),
        fc=lambda: nn.Conv2d(12, 4, 1),
        act=lambda: nn.SiLU(inplace=True),
    )
    A = F.silu(net.a(X))
    tail = lambda A: net.fc(F.silu(net.hidden(A.amax((2, 3), keepdim=True)))).flatten(1)  # noqa: E731
    assert assert_explained(net, "act", A, tail).call == 0


@pytest.mark.parametrize("times", [2, 3])
def test_one_block_again_and_again(times):
    """Recurrent in depth, as in ALBERT or a shared stage: the last run is the last feature map."""

    def end(n, x):
        f = n.body(x)
        for _ in range(times):
            f = f + n.block(f)
        return n.head(f)

    net = Net(end, seed=times, block=lambda: nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.Tanh()), head=flattened)
    f = net.body(X)
    for _ in range(times - 1):
        f = f + net.block(f)
    last = net.block(f)
    assert assert_explained(net, "block", last, lambda A: net.head(f.detach() + A)).call == times - 1


class Siamese(nn.Module):
    """Compares the photo with a stored reference, both through one backbone, in either order."""

    def __init__(self, reference: Tensor, first: bool):
        super().__init__()
        torch.manual_seed(7)
        self.body, self.fc, self.first = body(6), nn.Linear(6, 3), first
        self.register_buffer("reference", reference)

    def score(self, a, r):
        return self.fc((a.mean((2, 3)) - r.mean((2, 3))).abs())

    def forward(self, x):
        if self.first:
            r, a = self.body(self.reference), self.body(x)
        else:
            a, r = self.body(x), self.body(self.reference)
        return self.score(a, r.expand(len(a), -1, -1, -1))


@pytest.mark.parametrize("first", [False, True])
def test_a_siamese_network_is_explained_by_the_photos_own_run(first):
    """The photo's square is at the bottom right, the reference's at the top left."""
    reference, x = torch.zeros(1, 3, SIDE, SIDE), torch.zeros(2, 3, SIDE, SIDE)
    reference[..., 4:24, 4:24] = 3
    x[..., 40:56, 44:60] = 4
    net = Siamese(reference, first).eval()
    tail = lambda A: net.score(A, net.body(reference).detach())  # noqa: E731
    place = assert_explained(net, "body", net.body(x), tail, x)
    assert place.call == int(first)
    row, column = divmod(int(grad_cam(net, x, 1)[0].abs().argmax()), 16)
    assert row >= 9 and column >= 9


@pytest.mark.parametrize("axis", [-1, -2])
@pytest.mark.parametrize("mirror_first", [False, True])
def test_mirrored_test_time_augmentation_gives_the_direct_map(axis, mirror_first):
    def end(n, x):
        pictures = [x, x.flip(axis)]
        y = [n.head(n.body(p)) for p in (pictures[::-1] if mirror_first else pictures)]
        return (y[0] + y[1]) / 2

    net = Net(end, seed=2, head=flattened)
    mirrored = net.head(net.body(X.flip(axis))).detach()
    place = assert_explained(net, "body", net.body(X), lambda A: (net.head(A) + mirrored) / 2)
    assert place.call == int(mirror_first)
    wrong = grad_cam_of(lambda A: net.head(A) / 2, net.body(X.flip(axis)), torch.tensor([1, 1]))
    assert (wrong - grad_cam(net, X, 1)).abs().max() > 0.3 * wrong.abs().max()


@pytest.mark.parametrize("change", [lambda x: 1.1 * x, lambda x: x + 0.1, lambda x: F.avg_pool2d(x, 3, 1, 1)])
def test_two_looks_at_one_photo_are_refused(change):
    """Two runs that both follow the photo share the scores between them: neither explains them."""
    net = Net(lambda n, x: n.head(n.body(x)) + n.head(n.body(change(x))), head=flattened)
    for layer in (None, "body", "body.2"):
        with pytest.raises(LayerError, match=r"Net runs body(\.2)?(, .*)? 2 times, side by side on one photo") as error:
            grad_cam(net, X, 1, layer=layer)
        assert "Explain the network inside" in str(error.value)


def test_a_layer_behind_two_looks_explains_them():
    net = Net(
        lambda n, x: n.head(n.both(n.body(x) + n.body(1.1 * x))),
        both=lambda: nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU()),
        head=flattened,
    )
    assert_explained(net, "both", net.both(net.body(X) + net.body(1.1 * X)), net.head)


@pytest.mark.parametrize("crops", [5, 10])
def test_crops_in_the_batch_are_refused(crops):
    """The first crop's map, laid over the whole photo, would be in the wrong place."""

    def end(n, x):
        s = SIDE // 2
        parts = [x[..., :s, :s], x[..., :s, s:], x[..., s:, :s], x[..., s:, s:], x[..., 16:48, 16:48]]
        parts += [p.flip(-1) for p in parts][: crops - 5]
        y = n.fc(n.body(torch.cat(parts)).mean((2, 3)))
        return y.view(crops, len(x), -1).mean(0)

    net = Net(end, fc=lambda: nn.Linear(8, 4))
    with pytest.raises(
        LayerError, match=rf"no feature map of the photo as a whole: .*has {crops} rows for one picture"
    ):
        grad_cam(net, X, 1)
    for layer in ("body", "body.0"):
        with pytest.raises(
            LayerError, match=rf"output of '{layer}' has {crops} rows for one picture: the network cuts"
        ):
            grad_cam(net, X, 1, layer=layer)
    with pytest.raises(LayerError, match=f"{crops} rows"):
        explain(load_model(net, size=SIDE), X[0], method="grad_cam")


# --- what has the shape of a grid and is none ------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [4, 7, 9, 16])
def test_columns_of_a_recurrent_network(columns):
    """A text reader: the columns of the map, from left to right, through a linear layer and a GRU."""

    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(columns)
            self.cnn = nn.Sequential(
                *conv(3, 12), *conv(12, 12, (2, 1)), nn.AdaptiveAvgPool2d((4, columns)), *conv(12, 12, 1)
            )
            self.project, self.act = nn.Linear(12, 16), nn.ReLU()
            self.gru, self.fc = nn.GRU(16, 10, batch_first=True), nn.Linear(10, 5)

        def tail(self, f):
            steps, _ = self.gru(self.act(self.project(f.mean(2).transpose(1, 2))))
            return self.fc(steps[:, -1])

        def forward(self, x):
            return self.tail(self.cnn(x))

    net = Reader().eval()
    assert_explained(net, "cnn", net.cnn(X), net.tail)
    with pytest.raises(LayerError, match=r"The output of 'act' is no feature map of the photo: its shape is \(1, "):
        grad_cam(net, X, 1, layer="act")
    with pytest.raises(LayerError, match="'gru' gives a tuple, not one tensor; name a layer inside it"):
        grad_cam(net, X, 1, layer="gru")


@pytest.mark.parametrize("count", [9, 16, 20, 36, 64])
@pytest.mark.parametrize("seed", [0, 1])
def test_class_queries_of_a_decoder(count, seed):
    """16 queries are no 4×4 grid, 64 no 8×8 one."""

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(seed)
            self.cnn = body(16)
            self.queries = nn.Parameter(torch.randn(1, count, 16))
            self.decoder = nn.TransformerDecoderLayer(16, 2, 32, dropout=0, batch_first=True)
            self.fc = nn.Linear(16, 1)

        def tail(self, f):
            tokens = f.flatten(2).transpose(1, 2)
            return self.fc(self.decoder(self.queries.expand(len(f), -1, -1), tokens)).squeeze(2)

        def forward(self, x):
            return self.tail(self.cnn(x))

    net = Decoder().eval()
    assert_explained(net, "cnn", net.cnn(X), net.tail)
    with pytest.raises(LayerError, match=rf"no feature map of the photo: its shape is \(1, {count}, 16\)"):
        grad_cam(net, X, 1, layer="decoder")


@pytest.mark.parametrize("channels", [16, 49, 64])
def test_channels_as_positions(channels):
    """Flatten(2) and AdaptiveAvgPool1d: (B, C, 1), where the channels look like tokens; the map is the (B, C, h·w)."""
    torch.manual_seed(channels)
    net = nn.Sequential(
        *body(channels),
        nn.Flatten(2),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(channels, 4),
        nn.Tanh(),
        nn.Linear(4, 4),
    ).eval()
    expected = grad_cam_of(net[4:], net[:4](X), torch.tensor([1, 1]))
    assert_same(grad_cam(net, X, 1), expected)
    assert_same(grad_cam(net, X, 1, layer="4"), expected)
    with pytest.raises(
        LayerError, match=rf"The output of '5' is no feature map of the photo: its shape is \(1, {channels}, 1\)"
    ):
        grad_cam(net, X, 1, layer="5")


class Attention(nn.Module):
    """(B, L, C) -> attention (B, heads, L, L), before or after the softmax."""

    def __init__(self, softmax: bool):
        super().__init__()
        self.q, self.k, self.softmax = nn.Linear(8, 8), nn.Linear(8, 8), softmax

    def forward(self, tokens):
        q, k = (m(tokens).unflatten(2, (2, 4)).transpose(1, 2) for m in (self.q, self.k))
        weights = q @ k.transpose(2, 3)
        return weights.softmax(-1) if self.softmax else weights


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("every", [1, 4, 16])
def test_attention_matrices_that_are_named(softmax, every):
    """(B, 2, L, L), as square as the photo, for L = 256, 64 and 16."""

    def tail(n, f):
        tokens = f.flatten(2).transpose(1, 2)[:, ::every]
        values = tokens.unflatten(2, (2, 4)).transpose(1, 2)
        return n.head((n.attention(tokens) @ values).transpose(1, 2).flatten(1))

    net = Net(
        lambda n, x: tail(n, n.body(x)),
        attention=lambda: Attention(softmax),
        head=lambda: nn.Linear(8 * 256 // every, 4),
    )
    assert_explained(net, "body", net.body(X), lambda A: tail(net, A))
    with pytest.raises(
        LayerError, match=r"The output of 'attention' is no feature map of the photo: its shape is \(1, 2, "
    ):
        grad_cam(net, X, 1, layer="attention")


# --- axes and strides ------------------------------------------------------------------------------------------------


class Last(nn.Module):
    def forward(self, f):
        return f.permute(0, 2, 3, 1)


@pytest.mark.parametrize("channels", [8, 16, 32])
@pytest.mark.parametrize("stride", [4, (8, 4), (4, 8)])
def test_channels_last(channels, stride):
    """Also where C is h, or w, or both."""
    torch.manual_seed(channels)
    net = nn.Sequential(nn.Conv2d(3, channels, 3, stride, 1), Last(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5)).eval()
    net(X)
    place = assert_explained(net, "2", F.relu(net[0](X)), lambda A: net[4](A.permute(0, 2, 3, 1).flatten(1)))
    assert place.grid == Grid("nhwc")


@pytest.mark.parametrize(
    ("strides", "size", "channels"),
    [
        (((2, 2), (2, 1), (2, 1)), (64, 256), 12),  # a spectrogram
        (((4, 8),), (64, 64), 16),  # 16 × 8 cells and 16 channels: C is h
        (((8, 4),), (64, 64), 16),  # C is w
        (((1, 4), (1, 4)), (32, 64), 8),
        (((2, 2), (16, 1)), (32, 128), 6),  # one row: the grid before it
    ],
)
def test_uneven_strides(strides, size, channels):
    torch.manual_seed(1)
    layers = []
    for n, stride in enumerate(strides):
        kernel = tuple(max(3, s | 1) for s in stride)
        layers += [nn.Conv2d(channels if n else 3, channels, kernel, stride, tuple(k // 2 for k in kernel)), nn.ReLU()]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 4)).eval()
    x = photos(2, *size)
    last = len(layers) - 1 - 2 * (size[0] == 32 and strides[-1] == (16, 1))
    A = net[: last + 1](x)
    assert_explained(net, str(last), A, net[last + 1 :], x)
    if last == len(layers) - 1:
        weight = net[-1].weight.detach()
        cam = torch.einsum("c,bchw->bhw", weight[1], A.detach())
        assert_same(A[0, 0].numel() * grad_cam(net, x, 1), cam)
        assert find_head(net, x).layer == str(last)


@pytest.mark.parametrize("turn", [lambda x: x.flip(-1), lambda x: x.flip(-2), lambda x: x.transpose(2, 3)])
def test_a_photo_that_is_turned_inside_is_refused(turn):
    """Every shape fits, and every cell is in the wrong place."""
    net = Net(lambda n, x: n.head(n.body(turn(x))), head=flattened)
    with pytest.raises(
        LayerError, match="their cells do not follow the photo's positions: they are too few, or the net"
    ):
        grad_cam(net, X, 1)
    clf = load_model(net, size=SIDE)
    for layer in ("body", "body.0", "body.3"):
        with pytest.raises(
            LayerError, match=f"'{layer}' is no feature map.*too few cells, or they are flipped, turned or mixed"
        ):
            explain(clf, X[0], method="grad_cam", layer=layer)


def test_a_map_that_is_flipped_later_is_taken_from_before():
    net = Net(
        lambda n, x: n.head(n.last(n.body(x).flip(-1))), head=flattened, last=lambda: nn.Sequential(*conv(8, 8, 1))
    )
    assert_explained(net, "body", net.body(X), lambda A: net.head(net.last(A.flip(-1))))


# --- gates -----------------------------------------------------------------------------------------------------------

GATES = {  # the parts, and how they make features of features
    "one channel": ({"gate": lambda: masks(nn.Conv2d(8, 1, 7, padding=3), nn.Sigmoid())}, lambda n, f: f * n.gate(f)),
    "all channels": ({"gate": lambda: masks(nn.Conv2d(8, 8, 3, padding=1), nn.Sigmoid())}, lambda n, f: f * n.gate(f)),
    "hard": ({"gate": lambda: masks(nn.Conv2d(8, 8, 3, padding=1), nn.Hardsigmoid())}, lambda n, f: n.gate(f) * f),
    "functional": ({"gate": lambda: nn.Conv2d(8, 8, 3, padding=1)}, lambda n, f: f * torch.sigmoid(n.gate(f))),
    "residual": (
        {"gate": lambda: masks(*conv(8, 8, 1), *conv(8, 8, 1), nn.Conv2d(8, 8, 1), nn.Sigmoid())},
        lambda n, f: (1 + n.gate(f)) * f,
    ),
    "enlarged": (
        {"gate": lambda: masks(*conv(8, 8), nn.Conv2d(8, 8, 1), nn.Sigmoid())},
        lambda n, f: F.interpolate(n.gate(f), scale_factor=2, mode="bilinear") * f,
    ),
    "over the cells": (
        {"gate": lambda: nn.Conv2d(8, 2, 1)},
        lambda n, f: f * 256 * n.gate(f).flatten(2).softmax(2).mean(1, keepdim=True).unflatten(2, (16, 16)),
    ),
    "CBAM": (
        {
            "squeeze": lambda: nn.Conv2d(8, 4, 1),
            "excite": lambda: nn.Conv2d(4, 8, 1),
            "gate": lambda: nn.Conv2d(2, 1, 7, padding=3),
        },
        lambda n, f: cbam(n, f),
    ),
}
masks = nn.Sequential


def cbam(n, f):
    """Woo et al. 2018: channel attention, then spatial attention."""
    pools = [f.mean((2, 3), keepdim=True), f.amax((2, 3), keepdim=True)]
    f = f * torch.sigmoid(sum(n.excite(F.relu(n.squeeze(p))) for p in pools))
    return f * torch.sigmoid(n.gate(torch.cat([f.mean(1, keepdim=True), f.amax(1, keepdim=True)], 1)))


@pytest.mark.parametrize("kind", GATES)
def test_a_gate_is_no_feature_map(kind):
    """It has cells that follow the photo, and the scores depend on it; its map says where, and not what for."""
    parts, gated = GATES[kind]
    net = Net(lambda n, x: n.fc(gated(n, n.body(x)).mean((2, 3)).tanh()), seed=3, fc=lambda: nn.Linear(8, 4), **parts)
    assert_explained(net, "body", net.body(X), lambda A: net.fc(gated(net, A).mean((2, 3)).tanh()))


def test_a_gate_may_be_named():
    """Who wants to see the mask's own gradient names the layer before its sigmoid."""
    net = Net(
        lambda n, x: n.fc((n.body(x) * torch.sigmoid(n.gate(n.body(x)))).mean((2, 3)).tanh()),
        gate=lambda: nn.Conv2d(8, 8, 3, padding=1),
        fc=lambda: nn.Linear(8, 4),
    )
    f = net.body(X).detach()
    tail = lambda A: net.fc((f * torch.sigmoid(A)).mean((2, 3)).tanh())  # noqa: E731
    expected = grad_cam_of(tail, net.gate(f), torch.tensor([1, 1]))
    assert_same(grad_cam(net, X, 1, layer="gate"), expected)


def test_sigmoids_that_are_activations_are_no_gates():
    """As in LeNet: everything passes through them, and nothing is multiplied."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 5, 2, 2), nn.Sigmoid(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5, 1, 2), nn.Sigmoid(), nn.Flatten(),
        nn.Linear(16 * 256, 5),
    ).eval()  # fmt: skip
    assert_explained(net, "3", net[:4](X), net[4:])


def test_a_network_in_which_everything_passes_a_gate():
    """Nothing else being there, the layer before the gate is taken: better than a refusal."""
    net = Net(
        lambda n, x: n.fc((n.scale(x.new_ones(1)) * torch.sigmoid(n.body(x)[:, :, ::1])).mean((2, 3))),
        scale=lambda: nn.Linear(1, 1),
        fc=lambda: nn.Linear(8, 4),
    )
    tail = lambda A: net.fc((net.scale(X.new_ones(1)) * torch.sigmoid(A)).mean((2, 3)))  # noqa: E731
    assert_explained(net, "body", net.body(X), tail)


def test_swish_is_no_gate():
    """x · sigmoid(x): the direct path stays."""

    def swish(f):
        return f * torch.sigmoid(f)

    net = Net(lambda n, x: n.head(swish(n.last(n.body(x)))), head=flattened, last=lambda: nn.Conv2d(8, 8, 1))
    assert_explained(net, "last", net.last(net.body(X)), lambda A: net.head(A * torch.sigmoid(A)))


# --- frozen backbones ------------------------------------------------------------------------------------------------


def by_no_grad(n, x):
    with torch.no_grad():
        f = n.body(x)
    return n.head(f)


def by_mode(n, x):
    torch.set_grad_enabled(False)
    f = n.body(x)
    torch.set_grad_enabled(True)
    return n.head(f)


@torch.no_grad()
def features(n, x):
    return n.body(x)


FROZEN = {
    "no_grad": by_no_grad,
    "set_grad_enabled": by_mode,
    "decorator": lambda n, x: n.head(features(n, x)),
    "detach": lambda n, x: n.head(n.body(x).detach()),
    "detach_": lambda n, x: n.head(n.body(x).detach_()),
    "data": lambda n, x: n.head(n.body(x).data),
    "in the middle": lambda n, x: n.head(n.body[2:](n.body[:2](x).detach()).detach()),
}


@pytest.mark.parametrize("requires_grad", [True, False])
@pytest.mark.parametrize("how", FROZEN)
def test_a_frozen_backbone(how, requires_grad):
    """The graph ends at the backbone's output; the map is that of the head alone."""
    net = Net(
        FROZEN[how], seed=4, head=lambda: nn.Sequential(nn.Flatten(), nn.Linear(2048, 12), nn.ReLU(), nn.Linear(12, 3))
    )
    net.body.requires_grad_(requires_grad)
    layer = "body.3" if how == "in the middle" else "body"
    place = assert_explained(net, layer, net.body(X), net.head)
    assert place.frozen
    assert torch.is_grad_enabled()
    assert [p.requires_grad for p in net.body.parameters()] == [requires_grad] * 4


def test_a_frozen_backbone_before_a_head_of_convolutions():
    net = Net(by_no_grad, head=lambda: nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Conv2d(8, 5, 1), nn.Flatten()))
    assert_explained(net, "body", net.body(X), net.head)


# --- no layer --------------------------------------------------------------------------------------------------------


def test_reasons_are_true():
    torch.manual_seed(0)
    no_map = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 5))
    with pytest.raises(LayerError, match="No layer of Sequential gives a grid of cells .* on which the scores depend"):
        grad_cam(no_map, X, 0)
    one_cell = nn.Sequential(nn.Conv2d(3, 8, SIDE), nn.ReLU(), nn.Flatten(), nn.Linear(8, 5))
    with pytest.raises(
        LayerError, match=r"the scores depend on 1 \(1, 8, 1, 1\), 0 \(1, 8, 1, 1\), but their cells do not"
    ):
        grad_cam(one_cell, X, 0)
    unused = Net(lambda n, x: (n.head(n.body(x)), n.extra(x))[0], head=flattened, extra=lambda: nn.Conv2d(3, 4, 1))
    with pytest.raises(LayerError, match="The scores of Net do not depend on the output of 'extra' for this photo"):
        explain(load_model(unused, size=SIDE), X[0], method="grad_cam", layer="extra")
    shut = Net(lambda n, x: n.head(n.body(x)) + 0 * n.extra(x).mean(), head=flattened, extra=lambda: nn.Conv2d(3, 4, 1))
    assert not explain(load_model(shut, size=SIDE), X[0], method="grad_cam", layer="extra").map(0).any()
    rounded = Net(lambda n, x: n.head(n.body(x)).round(), head=flattened)
    with pytest.raises(LayerError, match="The scores of Net have no gradient on this input: they are rounded, clipped"):
        grad_cam(rounded, X, 0)  # autograd's derivative of round is zero
    counted = Net(lambda n, x: (n.head(n.body(x)) > 0).float(), head=flattened)
    with pytest.raises(
        LayerError, match="The scores of Net are not differentiable: somewhere they are rounded, compared"
    ):
        grad_cam(counted, X, 0)


def test_a_layer_that_does_not_run():
    net = Net(lambda n, x: n.head(n.body(x)), head=flattened, spare=lambda: nn.Conv2d(3, 4, 1))
    with pytest.raises(LayerError, match="Net does not run its layer 'spare' on this input"):
        grad_cam(net, X, 0, layer="spare")
    with pytest.raises(LayerError, match="has no layer 'boby'. Did you mean: body"):
        grad_cam(net, X, 0, layer="boby")
    with pytest.raises(LayerError, match="This ReLU is not part of the Net"):
        grad_cam(net, X, 0, layer=nn.ReLU())


def test_an_exact_map_needs_no_gradient():
    """cam of a network that cannot be differentiated, for which the message recommends it."""
    net = nn.Sequential(tiny(), Detached())
    with pytest.raises(CamError):
        grad_cam(nn.Sequential(tiny(), Signs()), X, 0)
    assert find_head(net, X).layer == "0.1"


class Detached(nn.Module):
    def forward(self, x):
        return x.detach()


class Signs(nn.Module):
    def forward(self, x):
        return (x > 0).float()


class Tokens(nn.Module):
    """A small vision transformer that classifies by extra tokens before, amid or behind those of the photo."""

    def __init__(self, where: str, extra: int, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        self.where, self.patches, self.head = where, nn.Conv2d(3, 16, 4, 4), nn.Linear(16, 3)
        self.extra = nn.Parameter(torch.randn(1, extra, 16))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(16, 2, 32, 0, batch_first=True, norm_first=True) for _ in range(2)
        )

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        start = self.start(tokens.shape[1])
        tokens = torch.cat([tokens[:, :start], self.extra.expand(len(x), -1, -1), tokens[:, start:]], 1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(tokens[:, start])

    def start(self, cells):
        return {"first": 0, "middle": cells // 2, "last": cells}[self.where]


@pytest.mark.parametrize("side", [4, 7, 14])
@pytest.mark.parametrize("extra", [1, 3])
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_class_tokens_lie_anywhere(where, extra, side):
    net = Tokens(where, extra, seed=side).eval()
    x = torch.randn(1, 3, 4 * side, 4 * side)
    exp = explain(load_model(net, size=4 * side), x, method="hires_cam")
    values = []

    def keep(_module, _inputs, output):
        output.retain_grad()
        values.append(output)

    handle = net.get_submodule(exp.layer).register_forward_hook(keep)
    net(x)[0, 1].backward()
    handle.remove()
    evidence = (values[0] * values[0].grad).sum(2)[0].detach()
    start = net.start(side**2)
    torch.testing.assert_close(exp.map(1), torch.cat([evidence[:start], evidence[start + extra :]]).view(side, side))


def test_inference_mode_inside_the_network():
    def forward(n, x):
        with torch.inference_mode():
            features = n.body(x)
        return n.head(features)

    for head in (flattened, lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))):
        with pytest.raises(CamError, match=r"runs layers in torch.inference_mode\(\).*use torch.no_grad\(\)"):
            grad_cam(Net(forward, head=head), X, 0)


class Attending(nn.Module):
    """Pools its cells by attention with one learned query; the keys come after the values."""

    def __init__(self, way: str):
        super().__init__()
        torch.manual_seed(0)
        self.way, self.body = way, nn.Sequential(nn.Conv2d(3, 16, 4, 4), nn.ReLU())
        self.value, self.key, self.last = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1), nn.Linear(16, 3)
        self.query = nn.Parameter(torch.randn(1, 1, 16))

    def forward(self, x):
        f = self.body(x)
        v, k = (layer(f).flatten(2).transpose(1, 2) for layer in (self.value, self.key))  # (B, L, C)
        weights = (self.query @ k.transpose(1, 2) / 4).softmax(2)
        if self.way == "times":
            return self.last((v * weights.transpose(1, 2)).sum(1))
        if self.way == "matmul":
            return self.last((weights @ v)[:, 0])
        if self.way == "einsum":
            return self.last(torch.einsum("bl,blc->bc", weights[:, 0], v))
        return self.last(F.scaled_dot_product_attention(self.query.expand(len(x), -1, -1), k, v)[:, 0])


@pytest.mark.parametrize("way", ["times", "matmul", "einsum", "fused"])
def test_attention_weights_are_gates_however_they_are_applied(way):
    """The keys decide where the network attends; the values are what it sees."""
    net, x = Attending(way).eval(), torch.rand(1, 3, 32, 32)
    assert find_feature_layer(net, x) == "value"
    v, k = (layer(net.body(x)).flatten(2) for layer in (net.value, net.key))
    weights = (net.query @ k / 4).softmax(2)
    expected = (net.last.weight[1][:, None] * v[0] * weights[0]).sum(0).reshape(8, 8).detach()
    torch.testing.assert_close(hires_cam(net, x, 1)[0], expected)


@pytest.mark.parametrize("mode", [lambda: torch.set_grad_enabled(True), torch.enable_grad])
def test_a_backbone_that_turns_gradients_on_itself(mode):
    class Tuned(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.wide = tiny(), nn.Linear(3, 5)

        def forward(self, x):
            with mode() if self.tuned else nullcontext():
                f = self.net[:2](x)
            return self.wide(F.gelu(self.net[4](f.amax((2, 3)))))

    net = Tuned().eval()
    maps = []
    for net.tuned in (False, True):
        for layer in (None, "net.1"):
            maps.append(grad_cam(net, X, 1, layer=layer))
    for other in maps[1:]:
        torch.testing.assert_close(other, maps[0])


def test_a_layer_whose_output_is_a_view_that_is_added_to_in_place():
    """As in timm's NaFlexViT, whose position embedding is added in place to the patches' transposed embedding."""

    class Patches(nn.Module):
        def __init__(self):
            super().__init__()
            self.proj = nn.Conv2d(3, 8, 4, 4)

        def forward(self, x):
            return self.proj(x).flatten(2).transpose(1, 2)

    def end(n, x):
        tokens = n.patches(x)
        tokens += n.position.weight[None]
        return n.fc(n.block(tokens).mean(1))

    parts = {"position": lambda: nn.Embedding(256, 8), "block": PreNorm, "fc": lambda: nn.Linear(8, 5)}
    net = Net(end, patches=Patches, **parts)
    assert locate(net, X, before_attention=True).layer == "patches"
    assert locate(net, X, "patches").grid.layout == "nlc"


def test_no_layer_before_attention_has_it_all():
    def end(n, x):
        tokens = (n.stem(x) + n.side(x)).flatten(2).transpose(1, 2)
        return n.fc(n.block(tokens).mean(1))

    net = Net(end, stem=body, side=body, block=PreNorm, fc=lambda: nn.Linear(8, 5))
    with pytest.raises(LayerError, match="no layer before the first attention"):
        locate(net, X, before_attention=True)
    assert locate(net, X).layer.startswith("block")
