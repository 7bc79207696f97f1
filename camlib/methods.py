"""The table of methods: each turns a feature map A and its gradient G into a map. To add a method, add one entry.

Let A (C, h, w) be the feature map and G = ∂ score / ∂ A. Each gradient method sums weights times A over the channels;
the methods differ in their weights. For a network that ends in GAP and a linear layer, G is W[k] / (h · w) in every
cell, so h · w · Grad-CAM is the class activation map. For other networks, these methods have no such identity, but
"frozen" has one, with a rest (see `camlib.frozen`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature

import torch
from torch import Tensor

from camlib.errors import CamError, near
from camlib.forward_pass import ForwardPass
from camlib.frozen import frozen_map
from camlib.geometry import upsample
from camlib.network import mixes_batch, scores, untouched

__all__ = [
    "METHODS",
    "Formula",
    "Method",
    "find_method",
    "grad_cam_formula",
    "grad_cam_plus_plus_formula",
    "hires_cam_formula",
    "layer_cam_formula",
    "register",
]

Formula = Callable[[Tensor, Tensor], Tensor]
"""A, G (B, C, h, w) -> map (B, h, w)."""


@dataclass(frozen=True)
class Method:
    """How to compute a class's map; an entry of `METHODS`, made by `register`.

    Attributes
    ----------
    name
        By which `explain` and all others know it.
    formula
        A function of A and G, float32 (B, C, h, w) each, that returns the map (B, h, w); None for methods that need
        more than these.
    unit
        What a cell's value means, for colour bars.
    additive
        Whether the maps of two classes may be subtracted.
    summary
        One line for lists of methods.
    frozen
        Whether G is the gradient with gates held, and the map's sum is verified (see `frozen_cam`).

    Examples
    --------
    >>> METHODS["grad_cam"].unit, METHODS["grad_cam"].by_gradient
    ('gradient × activation per cell', True)
    """

    name: str
    formula: Formula | None
    unit: str
    additive: bool
    summary: str
    frozen: bool = False

    @property
    def by_gradient(self) -> bool:
        """Whether the map of another class takes one more backward pass, and no other."""
        return self.formula is not None or self.frozen


METHODS: dict[str, Method] = {}
"""Every method, by name, that `explain`, the command line, the explorer and the documentation offer."""


def register(
    name: str,
    formula: Formula | None,
    *,
    unit: str = "weighted activation per cell",
    additive: bool = False,
    summary: str = "a method of your own",
) -> Method:
    """Add a method, so that you can use it everywhere by its name.

    Parameters
    ----------
    name
        A new name, an identifier such as "my_cam".
    formula
        A function of A and G, float32 (B, C, h, w) each, that returns the map (B, h, w). A is the feature map, and G
        the gradient of the score with respect to it.
    unit
        What a cell's value means, for colour bars.
    additive
        Whether the maps of two classes may be subtracted.
    summary
        One line for lists of methods.

    Returns
    -------
    method : Method

    Raises
    ------
    CamError
        If the name is taken or not an identifier, or if the formula is not a function of two arguments.

    Examples
    --------
    >>> method = register("input_gradient", lambda A, G: (A * G).sum(1).relu(), summary="A · G, positive part")
    >>> "input_gradient" in METHODS
    True
    >>> del METHODS["input_gradient"]
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise CamError(f"A method's name must be an identifier such as 'my_cam'; got {name!r}.")
    if name in METHODS:
        raise CamError(f"There is already a method {name!r}; choose another name.")
    if formula is not None and not callable(formula):
        raise CamError(f"A formula is a function of A and G that returns the map; got {type(formula).__name__}.")
    try:
        signature(formula).bind(None, None) if formula is not None else None
    except TypeError as e:
        raise CamError(f"The formula of {name!r} must take two arguments, A and G: {e}.") from e
    except ValueError:  # a built-in function without a signature
        pass
    METHODS[name] = Method(name, formula, unit, additive, summary)
    return METHODS[name]


def find_method(name: object) -> Method:
    """The method with this name.

    Parameters
    ----------
    name
        A key of `METHODS`.

    Returns
    -------
    method : Method

    Raises
    ------
    CamError
        If there is none; it suggests similar names.

    Examples
    --------
    >>> find_method("grad_cam").additive
    True
    """
    if isinstance(name, str) and name in METHODS:
        return METHODS[name]
    hint = near(name, METHODS) if isinstance(name, str) else ""
    raise CamError(f"No method {name!r}.{hint} Known: {', '.join(METHODS)}.")


def grad_cam_formula(A: Tensor, G: Tensor) -> Tensor:
    """The formula of "grad_cam", before its ReLU: mean(G_c) weights each channel.

    Parameters
    ----------
    A, G : (B, C, h, w)
        The feature map and its gradient.

    Returns
    -------
    map : (B, h, w)

    References
    ----------
    Selvaraju et al. 2017, arXiv 1610.02391, equations 1 and 2.

    Examples
    --------
    >>> A = torch.tensor([[[[1., 2.]], [[3., 0.]]]])                                # (B, C, h, w) = (1, 2, 1, 2)
    >>> G = torch.tensor([[[[1., 1.]], [[2., -4.]]]])
    >>> grad_cam_formula(A, G)
    tensor([[[-2.,  2.]]])
    """
    return (G.mean((2, 3), keepdim=True) * A).sum(1)


def hires_cam_formula(A: Tensor, G: Tensor) -> Tensor:
    """The formula of "hires_cam": G weights each cell.

    Parameters
    ----------
    A, G : (B, C, h, w)
        The feature map and its gradient.

    Returns
    -------
    map : (B, h, w)

    References
    ----------
    Draelos & Carin 2020, arXiv 2011.08891.

    Examples
    --------
    >>> A, G = torch.tensor([[[[1., 2.]], [[3., 0.]]]]), torch.tensor([[[[1., 1.]], [[2., -4.]]]])
    >>> hires_cam_formula(A, G)
    tensor([[[7., 2.]]])
    """
    return (G * A).sum(1)


def layer_cam_formula(A: Tensor, G: Tensor) -> Tensor:
    """The formula of "layer_cam": max(G, 0) weights each cell.

    Parameters
    ----------
    A, G : (B, C, h, w)
        The feature map and its gradient.

    Returns
    -------
    map : (B, h, w)

    References
    ----------
    Jiang et al. 2021, IEEE Transactions on Image Processing 30.

    Examples
    --------
    >>> A, G = torch.tensor([[[[1., 2.]], [[3., 1.]]]]), torch.tensor([[[[1., 1.]], [[2., -4.]]]])
    >>> layer_cam_formula(A, G)
    tensor([[[7., 2.]]])
    """
    return (G.clamp(min=0) * A).sum(1)


def grad_cam_plus_plus_formula(A: Tensor, G: Tensor) -> Tensor:
    """The formula of "grad_cam_plus_plus", without the factor exp(score): positive gradients, weighted.

    Parameters
    ----------
    A, G : (B, C, h, w)
        The feature map and its gradient.

    Returns
    -------
    map : (B, h, w)

    References
    ----------
    Chattopadhyay et al. 2018, arXiv 1710.11063, equations 5, 10 and 19.

    Examples
    --------
    >>> A, G = torch.tensor([[[[1., 1.]]]]), torch.tensor([[[[1., -1.]]]])
    >>> grad_cam_plus_plus_formula(A, G)
    tensor([[[0.2500, 0.2500]]])
    """
    below = 2 * G**2 + A.sum((2, 3), keepdim=True) * G**3
    alpha = torch.where(below == 0, 0, G**2 / torch.where(below == 0, 1, below))
    return ((alpha * G.clamp(min=0)).sum((2, 3), keepdim=True) * A).sum(1)


LOGITS, ACTIVATION = "logit evidence per cell", "gradient × activation per cell"
register("cam", None, unit=LOGITS, additive=True, summary="exact: the classifier's weights times the feature map")
METHODS["frozen"] = Method(
    "frozen", None, LOGITS, True, "sums to the logit with a rest, also for transformers: gates held", True
)
register(
    "grad_cam", grad_cam_formula, unit=ACTIVATION, additive=True, summary="channels weighted by their mean gradient"
)
register("hires_cam", hires_cam_formula, unit=ACTIVATION, additive=True, summary="cells weighted by their own gradient")
register("layer_cam", layer_cam_formula, summary="like hires_cam, positive gradients only")
register("grad_cam_plus_plus", grad_cam_plus_plus_formula, summary="like grad_cam, positive gradients weighted")
register("score_cam", None, summary="channels weighted by the score of the photo masked with them; no gradient, slow")


def one_map(ran: ForwardPass, method: Method, indices: list[int], batch: int = 32, progress: bool = True) -> Tensor:
    """The maps (B, h, w) for one class per picture of a forward pass. batch, progress: see `score_cam`.

    Raises `CamError` if a formula returns something other than a map.
    """
    if method.name == "score_cam":
        return _score_cam(ran, indices, batch, progress)
    if method.frozen:
        return frozen_map(ran, indices)
    if method.formula is None:
        advice = "use camlib.explain" if method.name == "cam" else "it was registered without a formula"
        raise CamError(f"{method.name!r} is not a gradient method; {advice}.")
    features = ran.features
    result = method.formula(features.clone(), ran.gradient(indices).clone())  # a formula may work in place
    if not isinstance(result, Tensor) or result.shape != (len(features), *features.shape[2:]):
        kind = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise CamError(
            f"The formula of {method.name!r} must return a map (B, h, w), here {(len(features), *features.shape[2:])}; "
            f"it returned {kind}."
        )
    return result.detach().float()


def _score_cam(ran: ForwardPass, indices: list[int], batch: int, progress: bool) -> Tensor:
    """Wang et al. 2020, arXiv 1910.01279, equations 5 to 7."""
    from tqdm import tqdm

    A = ran.features
    weights = A.new_empty(A.shape[:2])
    batch = 1 if mixes_batch(ran.module, ran.x, ran.output) else batch
    with torch.no_grad(), tqdm(total=weights.numel(), unit="mask", disable=not progress) as bar:
        for n, channels in enumerate(A):
            for start in range(0, len(channels), batch):
                masks = upsample(channels[start : start + batch, None], ran.x.shape[2:])  # (batch, 1, H, W)
                low, high = masks.amin((2, 3), keepdim=True), masks.amax((2, 3), keepdim=True)
                masks = (masks - low) / torch.where(high > low, high - low, 1)  # a constant channel masks everything
                with untouched(ran.module, ran.layer.restless):  # each pass starts from the same state
                    masked = scores(ran.module, ran.x[n] * masks.to(ran.x), ran.output)
                weights[n, start : start + batch] = masked[:, indices[n]].float()
                bar.update(len(masks))
    with torch.autocast(A.device.type, enabled=False):  # the map is float32 in any context
        return torch.einsum("bc,bchw->bhw", weights.softmax(1), A)
