"""The table of methods: formulas by hand, and a method of one's own by one entry."""

import contextlib
import io

import pytest
import torch
from torch.nn import functional as F

from camlib import CamError, explain, load_model, score_cam
from camlib.cli import main
from camlib.forward_pass import run_forward
from camlib.gradcam import gradient_map
from camlib.methods import METHODS, find_method, one_map, register
from tests.networks import assert_same, flat, gradients_of, scores_of, tiny

GRADIENT = {name: method.formula for name, method in METHODS.items() if method.formula is not None}
X = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def table():
    """Methods that a test registers go with it."""
    before = dict(METHODS)
    yield METHODS
    METHODS.clear()
    METHODS.update(before)


# --- formulas --------------------------------------------------------------------------------------------------------


def test_formulas_by_hand():
    """Two channels of 1×2 cells: the sums are short enough for a pencil."""
    A = torch.tensor([[[[1.0, 2.0]], [[4.0, 0.0]]]])
    G = torch.tensor([[[[3.0, 1.0]], [[-1.0, 0.5]]]])
    assert GRADIENT["grad_cam"](A, G).tolist() == [[[2 * 1 - 0.25 * 4, 2 * 2]]]
    assert GRADIENT["hires_cam"](A, G).tolist() == [[[3 * 1 - 1 * 4, 1 * 2]]]
    assert GRADIENT["layer_cam"](A, G).tolist() == [[[3.0, 2.0]]]
    # ΣA = 3 and 4. α = G² / (2G² + ΣA·G³) = 1 / (2 + ΣA·G); w = Σ α·max(G, 0)
    w = 3 / (2 + 3 * 3) + 1 / (2 + 3 * 1), 0.5 / (2 + 4 * 0.5)
    expected = torch.tensor([[[w[0] * 1 + w[1] * 4, w[0] * 2]]])
    torch.testing.assert_close(GRADIENT["grad_cam_plus_plus"](A, G), expected)


def test_gradients_of_zero_give_no_nan():
    assert (GRADIENT["grad_cam_plus_plus"](torch.ones(1, 2, 2, 2), torch.zeros(1, 2, 2, 2)) == 0).all()
    opposite = GRADIENT["grad_cam_plus_plus"](torch.full((1, 1, 1, 2), 1.0), torch.full((1, 1, 1, 2), -1.0))
    assert (opposite == 0).all(), "2 G² + ΣA·G³ is zero too where ΣA·G is -2"


def test_the_table():
    assert list(METHODS) == ["cam", "frozen", "grad_cam", "hires_cam", "layer_cam", "grad_cam_plus_plus", "score_cam"]
    assert METHODS["cam"].additive and METHODS["frozen"].additive and not METHODS["score_cam"].additive
    for name, method in METHODS.items():
        assert method.name == name
        assert method.unit.endswith("per cell")
        assert 20 < len(method.summary) < 80


@pytest.mark.parametrize("name", [name for name in GRADIENT if METHODS[name].additive])
def test_maps_that_are_additive_are(name):
    """The map of a difference of scores is the difference of the maps."""
    net = flat()
    A, G = gradients_of(net, X, "1", lambda y: (y[:, 2] - y[:, 0]).sum())
    both = gradient_map(net, X, [2, 0], name)
    assert_same(both[:, 0] - both[:, 1], GRADIENT[name](A, G))


@pytest.mark.parametrize("name", [name for name in GRADIENT if not METHODS[name].additive])
def test_maps_that_are_not_additive_are_not(name):
    net = flat()
    A, G = gradients_of(net, X, "1", lambda y: (y[:, 2] - y[:, 0]).sum())
    both = gradient_map(net, X, [2, 0], name)
    difference = GRADIENT[name](A, G)
    assert (both[:, 0] - both[:, 1] - difference).abs().max() > 0.1 * difference.abs().max()


def test_score_cam_by_hand():
    """Each channel masks the photo; the weights are the softmax of the masked photos' logits."""
    net = flat()
    with torch.no_grad():
        A = net[:2](X)
        A[:, 3] = 0.7  # a channel without contrast masks everything
        net[0].weight[3], net[0].bias[3] = 0, 0.7
    expected = torch.zeros(2, 16, 16)
    for b in range(2):
        logits = []
        for channel in A[b]:
            mask = F.interpolate(channel[None, None], size=(64, 64), mode="bilinear", align_corners=False)
            spread = mask.max() - mask.min()
            mask = (mask - mask.min()) / spread if spread > 0 else torch.zeros_like(mask)
            logits.append(scores_of(net, X[b] * mask)[0, 2].item())
        expected[b] = (torch.tensor(logits).softmax(0)[:, None, None] * A[b]).sum(0)
    for batch in (3, 32):
        assert_same(score_cam(net, X, 2, layer="1", batch=batch, progress=False), expected)


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gradcam", r"No method 'gradcam'. Did you mean: grad_cam.*Known: cam, frozen, grad_cam"),
        ("GRAD_CAM", r"No method 'GRAD_CAM'. Did you mean: grad_cam"),
        ("lime", "No method 'lime'. Known: cam"),
        (None, "No method None. Known: cam"),
        (["cam"], r"No method \['cam'\]"),
    ],
)
def test_unknown_methods(name, says):
    with pytest.raises(CamError, match=says):
        find_method(name)
    with pytest.raises(CamError, match=says):
        gradient_map(flat(), X, 0, name)
    with pytest.raises(CamError, match=says):
        explain(load_model(flat(), size=64), X[0], method=name)


def test_the_exact_method_is_no_method_by_gradients():
    with pytest.raises(CamError, match="'cam' is not a gradient method; use camlib.explain"):
        gradient_map(tiny(), X, 0, "cam")


# --- one's own -------------------------------------------------------------------------------------------------------


def listed() -> str:
    """What the command line says of the methods."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(["--method", "list"]) == 0
    return out.getvalue()


def test_one_entry_makes_a_method_known_everywhere(table):
    assert "own_cam" not in listed()
    method = register(
        "own_cam",
        lambda A, G: (A * G.abs()).amax(1),
        unit="own unit per cell",
        additive=False,
        summary="a summary for the list",
    )
    assert table["own_cam"] is method is find_method("own_cam")
    assert "own_cam              a summary for the list" in listed().splitlines()
    net = flat()
    A, G = gradients_of(net, X, "1", lambda y: y[:, 1].sum())
    expected = (A * G.abs()).amax(1)
    assert_same(gradient_map(net, X, 1, "own_cam"), expected)
    exp = explain(load_model(net, size=64), X[0], method="own_cam")
    assert_same(exp.map(1), expected[0])
    assert (exp.method, exp.unit, exp.additive) == ("own_cam", "own unit per cell", False)
    with pytest.raises(CamError, match="'own_cam' are not additive; contrast works with cam, frozen, grad_cam, hires"):
        exp.contrast(0, 1)


def test_a_method_of_ones_own_may_be_additive(table):
    register("own_cam", lambda A, G: (A * G).sum(1) / 2, additive=True)
    exp = explain(load_model(flat(), size=64), X[0], method="own_cam")
    A, G = gradients_of(exp.classifier.module, X[:1], "1", lambda y: y[0, 2] - y[0, 1])
    assert_same(exp.contrast(2, 1), (A * G).sum(1)[0] / 2)


@pytest.mark.parametrize(
    ("name", "formula", "says"),
    [
        ("grad_cam", lambda A, G: A.sum(1), "There is already a method 'grad_cam'; choose another name"),
        ("cam", None, "There is already a method 'cam'"),
        ("my cam", lambda A, G: A.sum(1), "A method's name must be an identifier such as 'my_cam'; got 'my cam'"),
        ("", lambda A, G: A.sum(1), "identifier"),
        (3, lambda A, G: A.sum(1), "got 3"),
        ("my_cam", "A.sum(1)", "A formula is a function of A and G that returns the map; got str"),
    ],
)
def test_entries_that_are_refused(table, name, formula, says):
    before = dict(METHODS)
    with pytest.raises(CamError, match=says):
        register(name, formula)
    assert before == METHODS


@pytest.mark.parametrize(
    ("formula", "gave"),
    [
        (lambda A, G: A, r"\(2, 4, 16, 16\)"),
        (lambda A, G: A.sum(1, keepdim=True), r"\(2, 1, 16, 16\)"),
        (lambda A, G: A.sum((0, 1)), r"\(16, 16\)"),
        (lambda A, G: A.sum(1)[:1], r"\(1, 16, 16\)"),
        (lambda A, G: A.sum(1).numpy(), "ndarray"),
        (lambda A, G: None, "NoneType"),
    ],
)
def test_a_formula_that_gives_no_map(table, formula, gave):
    register("bad_cam", formula)
    says = rf"'bad_cam' must return a map \(B, h, w\), here \(2, 16, 16\); it returned {gave}"
    with pytest.raises(CamError, match=says):
        gradient_map(flat(), X, 0, "bad_cam")


def test_a_name_without_formula_says_so(table):
    register("named_only", None)
    with pytest.raises(CamError, match="not a gradient method; it was registered without a formula"):
        gradient_map(flat(), X, 0, "named_only")


def test_a_formula_gets_float32_features_and_gradients(table):
    """Of a network in bfloat16 too; what it gives becomes float32."""
    kinds = []

    def formula(A, G):
        kinds.append((A.dtype, A.shape, G.dtype, G.shape, A.requires_grad))
        return (A * G).sum(1).double()

    register("own_cam", formula)
    result = gradient_map(flat().bfloat16(), X.bfloat16(), 0, "own_cam")
    assert result.dtype == torch.float32
    assert kinds == [(torch.float32, (2, 4, 16, 16), torch.float32, (2, 4, 16, 16), False)]


def test_one_map_of_one_class_for_each_picture():
    net = flat()
    ran = run_forward(net, X)
    A, G = gradients_of(net, X, "1", lambda y: y[0, 2] + y[1, 0])
    for name, formula in GRADIENT.items():
        assert_same(one_map(ran, METHODS[name], [2, 0]), formula(A, G))


def test_a_formula_may_work_in_place():
    def formula(A, G):
        A *= G
        return A.sum(1)

    register("in_place", formula)
    try:
        clf, x = load_model(tiny(), size=64), torch.rand(3, 64, 64)
        exp, other = explain(clf, x, method="in_place"), explain(clf, x, method="hires_cam")
        for k in (0, 1, 2):
            torch.testing.assert_close(exp.map(k), other.map(k))
    finally:
        del METHODS["in_place"]


def test_a_formula_takes_two_arguments():
    with pytest.raises(CamError, match="formula of 'short' must take two arguments, A and G"):
        register("short", lambda A: A)
    assert "short" not in METHODS


def test_score_cam_is_float32_inside_autocast():
    clf = load_model(flat(), size=64)
    outside = explain(clf, X[0], method="score_cam").map(1)
    with torch.autocast("cpu", torch.bfloat16):
        inside = explain(clf, X[0], method="score_cam").map(1)
    assert inside.dtype == torch.float32
    assert_same(inside, outside, tolerance=2**-7)  # the network itself computed in bfloat16
