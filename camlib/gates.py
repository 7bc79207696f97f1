"""Hold a network's gates at the values that they have for one photo, so that what remains is affine.

A gate decides how much of something passes: a ReLU is on or off, attention weights say which tokens are read. Let x be
an operation's input and y its output for the photo. With the gates held, the operation is:

| operation | what is held | what remains |
|---|---|---|
| pointwise, such as ReLU, GELU, sigmoid | the ratio g = (y - f(0)) / x in each element | g · x + f(0) |
| LayerNorm, GroupNorm, RMSNorm and others | the deviation | (x - mean) / deviation · weight + bias |
| softmax, norms, variances, logarithms, 1/x, operations without a gradient | its output | a constant |
| attention | queries, keys and mask, that is, the weights | weights · values |
| a product of two activations | the more gate-like factor: first sigmoid, then GELU, then others | the other |
| a product of two equally gate-like factors | each factor in turn | the mean of the two products |
| a quotient | the denominator | numerator / denominator |
| max pooling, maximum, sort and others | which element is chosen | that element |
| everything else | nothing: it must be affine already | |

`Gates` is a PyTorch mode: it sees each operation, in functions and modules alike, and passes its true result on, so the
scores are the network's own. Only the gradient is that of the held operation. A replay then computes the same affine
network for another input. We do not rely on these rules being right: `camlib.frozen` verifies the sum of each map.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from types import FunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.autograd.graph import saved_tensors_hooks

from camlib.autograd import Dependence, Mode, storage_of
from camlib.errors import LayerError
from camlib.outputs import SAME_VALUES, operation


def _names(text: str) -> set[str]:
    return set(text.split())


BOUNDED = _names("sigmoid special_expit hardsigmoid tanh hardtanh relu6 clamp erf softsign")
"""Pointwise operations whose output is limited, as a gate's is."""
POINTWISE = BOUNDED | _names(
    "relu gelu silu hardswish mish elu celu selu leaky_relu rrelu prelu softplus threshold log_sigmoid hardshrink "
    "softshrink clamp_min clamp_max clip abs absolute square pow exp exp2 expm1 special_expm1 log1p special_log1p sqrt "
    "sin cos tan sinh asinh arcsinh atan arctan erfc"
)
AT_ZERO = _names(
    "sigmoid special_expit hardsigmoid hardtanh softplus log_sigmoid exp exp2 cos erfc pow threshold clamp clamp_min "
    "clamp_max clip"
)
"""Pointwise operations that may have f(0) ≠ 0."""
CONSTANT = _names(
    "softmax _softmax _safe_softmax rsqrt reciprocal log log2 log10 norm var std linalg_vector_norm linalg_norm "
    "linalg_matrix_norm floor ceil round trunc sign sgn heaviside bernoulli poisson"
)
CHOICES = _names(
    "max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices "
    "adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d fractional_max_pool2d fractional_max_pool3d max min "
    "amax amin maximum minimum fmax fmin topk sort msort kthvalue median nanmedian cummax cummin logsumexp"
)
"""Operations that choose among their inputs; or weigh them, as logsumexp does."""
CONVOLUTIONS = [f"conv{transposed}{n}d" for transposed in ("", "_transpose") for n in (1, 2, 3)]
FACTORS = dict.fromkeys(_names("mul multiply matmul mm bmm mv dot vdot inner outer linear bilinear"), (0, 1))
FACTORS |= dict.fromkeys(_names("cross linalg_cross linalg_vecdot kron tensordot einsum") | {*CONVOLUTIONS}, (0, 1))
FACTORS |= dict.fromkeys(_names("addmm baddbmm addbmm addmv addr addcmul"), (1, 2))
"""The positions of the two factors among a product's arguments."""
HELD = dict.fromkeys(_names("div divide true_divide grid_sampler grid_sampler_2d grid_sampler_3d"), [1])
HELD |= {"addcdiv": [2], "lerp": [2], "scaled_dot_product_attention": [0, 1, 3]}
"""The positions of arguments that are gates, whatever they come from."""
NAMES = {"lerp": ("input", "end", "weight"), "scaled_dot_product_attention": ("query", "key", "value", "attn_mask")}
NAMES |= {"mv": ("input", "vec"), "addmm": ("input", "mat1", "mat2")} | dict.fromkeys(("mm", "bmm"), ("input", "mat2"))
NAMES |= dict.fromkeys(("baddbmm", "addbmm"), ("input", "batch1", "batch2"))
NAMES |= dict.fromkeys(("addcmul", "addcdiv"), ("input", "tensor1", "tensor2"))
NAMES |= dict.fromkeys(("linear", *CONVOLUTIONS), ("input", "weight"))
"""What an operation's first arguments are called if not input and other."""
AFFINE = _names(
    "add sub subtract rsub neg positive sum mean cumsum diff view view_as reshape reshape_as flatten unflatten permute "
    "transpose swapaxes swapdims movedim moveaxis t squeeze unsqueeze expand expand_as broadcast_to repeat "
    "repeat_interleave tile contiguous clone to type type_as float double half bfloat16 cpu cuda detach get getitem "
    "setitem copy fill zero masked_fill where cat concat stack hstack vstack chunk split split_with_sizes tensor_split "
    "unbind narrow select index_select gather take pad constant_pad_nd roll flip unfold im2col col2im fold "
    "pixel_shuffle pixel_unshuffle channel_shuffle avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d "
    "adaptive_avg_pool2d adaptive_avg_pool3d upsample_nearest1d upsample_nearest2d upsample_bilinear2d "
    "upsample_bicubic2d dropout feature_dropout alpha_dropout"
)
"""Operations that are affine as they are. What is in none of these tables is tested by value, see `_is_affine`."""
RANDOM = _names("rrelu bernoulli normal poisson multinomial rand_like randn_like randint_like")
"""Operations that draw random numbers. A replay draws them, too, and ignores them, so that later draws are the same."""
NUMBERS = _names("item tolist __float__ __int__ __index__ __complex__ __bool__ is_nonzero equal allclose")
"""Operations that turn tensors into numbers of Python. Those of the photo are held."""
SHIFTED = set(SAME_VALUES) | _names(
    "Add Sub Rsub Mul Div Mean Sum Repeat Neg Cat Stack Pad ConstantPadNd Roll UpsampleNearest2D UpsampleBilinear2D"
)
"""Autograd nodes behind which we look for the gate that a factor comes from."""
HARMLESS = set(SAME_VALUES) | _names("AsStrided Add Sub Rsub Neg Sum Mean Cat Stack Convolution Addmm Relu")
"""Autograd nodes that need no gate, so it does not matter whether we saw their operation."""

Affine = Callable[[Tensor], Tensor]
Replay = Callable[[Callable, tuple, dict[str, Any]], Any]


class Step(NamedTuple):
    """What to do in a replay in place of one operation. gates: what is held."""

    name: str
    gates: list[Any]
    replay: Replay


class Gates(Mode):
    """The gates of one forward pass. `with gates.recording():` finds them; `with gates.replaying():` uses them again.

    In both cases, call `start` as soon as the input exists. From then on, each operation counts that depends on it. For
    all other tensors, such as parameters, no graph is recorded. A replay must run the same operations in the same
    order. saving: how the graph saves tensors, see `camlib.autograd.constants_as_they_are`; None saves them as
    they are.

    unheld: the operations that cannot be held, each with the layer in which it ran, as far as `layer` says so. Besides
    operations without a rule, these are those that we do not see, such as those inside a script: nodes in the graph
    that none of the recorded operations made.
    """

    def __init__(self, saving: saved_tensors_hooks | None = None) -> None:
        super().__init__()
        self.steps: dict[int, Step] = {}
        self.dtype = torch.float64  # the coarsest type of what depends on the input
        self.unheld: dict[str, str] = {}
        self.layer = ""  # the one that is running
        self.aliased = False  # whether the input is used under another name, which no replay can follow
        self._calls, self._replays = 0, False
        self._depends: Dependence | None = None  # None: nothing counts yet
        self._ranks: dict[Any, int] = {}
        self._storage = 0
        self._opened: list[Callable] = []
        # Detached, because a node that holds its own result is never freed.
        self._saving = saving or saved_tensors_hooks(lambda t: t.detach(), lambda t: t)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Run the block and record the gates; then call `end`."""
        with self:
            yield

    def end(self, scores: Tensor) -> None:
        """Look for operations between the last that was recorded and the scores."""
        assert self._depends is not None
        self._depends(scores, self._met)
        self._depends, self._ranks = None, {}  # which would keep the graph alive

    @contextmanager
    def replaying(self) -> Iterator[None]:
        """Run the block, which must repeat the recorded pass with another input, with the gates that are held."""
        self._replays = True
        with saved_tensors_hooks(_nothing, _nothing), self:  # the graph shows what depends on the input, and no more
            yield
        self._depends = None

    def start(self, x: Tensor) -> None:
        """Count the operations that depend on x from here on. x: a copy, in the graph, of a layer's output."""
        self._calls, self._depends = 0, Dependence(x)
        original = getattr(x.grad_fn.next_functions[0][0], "variable", None)  # type: ignore[union-attr]
        self._storage = 0 if original is None else storage_of(original)

    def nbytes(self) -> int:
        """The memory of what is held, in bytes; some of it is shared with the graph."""
        return sum(g.nbytes for step in self.steps.values() for g in step.gates if isinstance(g, Tensor))

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if self._depends is None:
            return func(*args, **kwargs)
        func = COMPOSED.get(getattr(func, "__name__", ""), func)
        if isinstance(func, FunctionType) and func not in self._opened:
            self._opened.append(func)
            try:
                with self:
                    return _opened(func)(*args, **kwargs)
            finally:
                self._opened.pop()
        name = getattr(func, "__name__", "")
        if name == "__get__" and not isinstance(value := func(*args), Tensor):  # such as x.shape
            return value
        args, kwargs = by_position(name.strip("_"), args, kwargs)
        target = args[0] if args else None
        args, kwargs, dependent = self._only_dependent(args, kwargs)
        if not dependent:
            return func(*args, **kwargs)
        self._calls += 1
        in_place = name.endswith("_") and not name.startswith("_")
        plain = _base(func, name) if in_place else func
        # What is changed in place is the tensor itself, even if it has not depended on the input so far.
        direct = (target, *args[1:]) if in_place or name == "__setitem__" else args
        if not self._replays:
            # Inside the hooks of checkpointing, so it has nothing to save and runs no part of the network again.
            with saved_tensors_hooks(self._saving.pack_hook, self._saving.unpack_hook):
                result = self._record(func, plain, name, args, direct, kwargs)
                if in_place and result is not target:
                    result = target.copy_(result)  # type: ignore[union-attr]
                for t in _tensors((result, target, getattr(target, "_base", None))):
                    self._depends(t)  # remembers the nodes that this operation made
            return result
        elif (step := self.steps.get(self._calls)) is not None:
            if step.name != name:
                raise LayerError(f"where it runs {step.name} for the photo, it runs {name} for an empty feature map")
            if name.strip("_") in RANDOM:
                plain(*args, **kwargs)
            result = step.replay(plain, args, kwargs)
        else:
            return func(*direct, **kwargs)
        return target.copy_(result) if in_place and result is not target else result  # type: ignore[union-attr]

    def _only_dependent(self, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any], bool]:
        """The arguments, of which only those that depend on the input have a graph; whether there are any of these."""
        depends, met = self._depends, None if self._replays else self._met
        assert depends is not None
        tensors = list(_tensors((*args, *kwargs.values())))
        inside = [depends(t, met) for t in tensors if t.requires_grad]
        if self._storage and not self._replays:
            self.aliased |= any(storage_of(t) == self._storage for t in tensors)
        if not all(inside):
            # Without a dependent argument, it may make a view of what is filled later, so only parameters are detached.
            keep = depends if any(inside) else _is_computed
            args, kwargs = _detached(args, keep), _detached(kwargs, keep)
        return args, kwargs, any(inside)

    def _met(self, node: Any) -> None:
        """A node of the graph that no recorded operation has made."""
        kind = operation(node)
        known = kind in HARMLESS or kind == "CheckpointFunction"  # for which the gradient gives the reason
        if not known and not hasattr(node, OURS):
            written = isinstance(node, torch.autograd.function.BackwardCFunction)
            self.unheld.setdefault(kind if written else f"an operation that PyTorch hides ({kind})", "")

    def _record(
        self, func: Callable, plain: Callable, name: str, args: tuple, direct: tuple, kwargs: dict[str, Any]
    ) -> Any:
        kind = name.strip("_")
        held = None
        if plain is not func or not name.endswith("_") or name.startswith("_"):  # a rule must not change the input
            held = self._rule(kind, plain, args, kwargs, args[0] if args else next(iter(kwargs.values())))
        if held is not None:
            result, gates, replay = held
            self.steps[self._calls] = Step(name, gates, replay)
            return result
        if name in NUMBERS:
            number = func(*_detached(args), **_detached(kwargs))
            self.steps[self._calls] = Step(name, [], lambda *_: number)
            return number
        result = func(*direct, **kwargs)
        tensors = list(_tensors((result,)))
        if tensors and not any(t.requires_grad for t in tensors):  # x[0] = 1 returns None: a replay must do it again
            self.steps[self._calls] = Step(name, *_constant(result))
        for t in tensors:
            if t.is_floating_point() and t.itemsize < self.dtype.itemsize:
                self.dtype = t.dtype
        known = kind in AFFINE or (kind in FACTORS and kind != "einsum")  # which may have three factors
        if not known and any(t.requires_grad for t in tensors) and not _is_affine(plain, args, kwargs):
            self.unheld.setdefault(kind, self.layer)
        return result

    def _rule(
        self, kind: str, func: Callable, args: tuple, kwargs: dict[str, Any], x: Any
    ) -> tuple[Any, list[Any], Replay] | None:
        """The result of an operation, what is held, and its replay; None if there is no rule."""
        if kind in HELD or kind in FACTORS:
            return _product(kind, func, args, kwargs, self._ranks)
        if not isinstance(x, Tensor):
            return None
        if kind in CONSTANT:
            value = func(*_detached(args), **_detached(kwargs))
            return value, *_constant(value)
        if kind in ("var_mean", "std_mean"):
            spread, mean = func(*args, **kwargs)
            gates, spread_again = _constant(spread.detach())
            return (spread.detach(), mean), gates, lambda f, a, k: (spread_again(f, a, k), f(*a, **k)[1])
        if kind in CHOICES:
            return _choice(func, args, kwargs)
        if not x.requires_grad or any(_depends(a) for a in (*args[1:], *kwargs.values()) if a is not x):
            return None
        if kind in POINTWISE:
            bounded = kind in BOUNDED or _rank(x, self._ranks) == 2  # also the square of a sigmoid
            return _pointwise(kind, func, args, kwargs, x, bounded)
        affine = NORMS[kind](*args, **kwargs) if kind in NORMS else None
        if affine is None:
            return None
        y = func(*_detached(args), **_detached(kwargs))
        return _Held.apply(affine, False, [y], x), [], lambda f, a, k: affine(a[0])


# --- the rules -------------------------------------------------------------------------------------------------------


def _constant(value: Any) -> tuple[list[Any], Replay]:
    """What is held of a result that stays as it is, and its replay. Copies: the network may change it in place."""

    def copied(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.clone()
        return type(value)(map(copied, value)) if type(value) in (list, tuple) else value

    held = copied(value)
    return list(_tensors((held,))), lambda *_: copied(held)


def _pointwise(
    kind: str, func: Callable, args: tuple, kwargs: dict[str, Any], x: Tensor, bounded: bool
) -> tuple[Tensor, list[Any], Replay] | None:
    """y = gate · x + offset. Where x is so small that the ratio is lost in rounding, the gate is the slope at 0."""
    plain = x.detach()
    y = func(*_detached(args), **_detached(kwargs))
    if y.shape != x.shape or not (x.is_floating_point() and y.is_floating_point()):  # such as abs of complex numbers
        return None
    gates = [(y / plain).nan_to_num_(0, float("inf"), -float("inf"))]  # where x and y are 0, the gate does not matter
    if kind in AT_ZERO:
        wide = torch.float32 if x.device.type == "mps" else torch.float64  # which Apple's GPU does not have
        near = torch.tensor([-1e-4, 0.0, 1e-4], dtype=wide, device=x.device).view(3, *[1] * x.ndim)
        low, start, high = func(near, *args[1:], **kwargs).to(y.dtype)  # by element if the arguments are
        if not start.isfinite().all():
            return y, *_constant(y)
        if start.any():
            small = plain.abs() < 1e-3
            gate = torch.where(small, (high - low) / 2e-4, (y - start) / torch.where(small, 1, plain))
            gates = [gate, y - gate * plain]

    ratio = Ratio(gates)
    return _Held.apply(ratio, bounded, [y], x), gates, lambda f, a, k: ratio(a[0] if a else k["input"])


@dataclass(frozen=True, eq=False)
class Ratio:
    """x -> gate · x + offset. gates: the gate and, unless it is 0, the offset."""

    gates: list[Tensor]

    def __call__(self, x: Tensor) -> Tensor:
        return x * self.gates[0] if len(self.gates) == 1 else torch.addcmul(self.gates[1], x, self.gates[0])

    def back(self, gradient: Tensor) -> Tensor:
        return gradient * self.gates[0]


@dataclass(frozen=True, eq=False)
class Normalised:
    """x -> (x - mean over dims) · scale · weight + bias."""

    dims: tuple[int, ...]
    scale: Tensor
    weight: Tensor | None
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        return _scaled((x - x.mean(self.dims, keepdim=True)) * self.scale, self.weight, self.bias)

    def back(self, gradient: Tensor) -> Tensor:
        gradient = gradient if self.weight is None else gradient * self.weight
        return (gradient - gradient.mean(self.dims, keepdim=True)) * self.scale


def _layer_norm(
    x: Tensor, normalized_shape: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any
) -> Affine:
    scale = torch.native_layer_norm(x.detach(), normalized_shape, None, None, eps)[2]
    return Normalised(tuple(range(-len(normalized_shape), 0)), scale, _copy(weight), _copy(bias))


def _rms_norm(x: Tensor, normalized_shape: Sequence[int], weight: Any = None, eps: float | None = None) -> Affine:
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    scale = (x.detach().square().mean(tuple(range(-len(normalized_shape), 0)), keepdim=True) + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    return lambda x: x * scale


def _group_norm(
    x: Tensor, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any, **__: Any
) -> Affine:
    grouped = (len(x), num_groups, -1)
    normalise = _normalised(x.reshape(grouped), (2,), eps, None, None)
    weight, bias = _per_channel(weight, x), _per_channel(bias, x)
    return lambda x: _scaled(normalise(x.reshape(grouped)).reshape(x.shape), weight, bias)


def _instance_norm(
    x: Tensor,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    *_: Any,
    **__: Any,
) -> Affine | None:
    return _group_norm(x, x.shape[1], weight, bias, eps) if use_input_stats else None


def _batch_norm(
    x: Tensor,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    training: bool,
    momentum: float,
    eps: float,
    *_: Any,
    **__: Any,
) -> Affine:
    weight, bias = _per_channel(weight, x), _per_channel(bias, x)
    if training:
        return _normalised(x, (0, *range(2, x.ndim)), eps, weight, bias)
    # Affine as it is, but PyTorch's own gradient is wrong if its strides are not those of x (seen in torch 2.14.1).
    centre, scale = _per_channel(running_mean, x), _per_channel((running_var + eps).rsqrt(), x)
    return lambda x: _scaled((x - centre) * scale, weight, bias)


def _log_softmax(x: Tensor, dim: int, *_: Any, **__: Any) -> Affine:
    total = x.detach().logsumexp(dim, keepdim=True)
    return lambda x: x - total


def _glu(x: Tensor, dim: int = -1) -> Affine:
    gate = x.detach().chunk(2, dim)[1].sigmoid()
    return lambda x: x.chunk(2, dim)[0] * gate


NORMS: dict[str, Callable[..., Affine | None]] = {
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "batch_norm": _batch_norm,
    "log_softmax": _log_softmax,
    "glu": _glu,
}
"""Operations of one activation, each with a function from its arguments to the affine operation that remains."""
RULES = POINTWISE | CONSTANT | CHOICES | {*FACTORS, *HELD, *NORMS}


def _normalised(x: Tensor, dims: tuple[int, ...], eps: float, weight: Any, bias: Any) -> Normalised:
    x = x.detach()
    variance = (x - x.mean(dims, keepdim=True)).square_().mean(dims, keepdim=True)  # several times faster than x.var
    return Normalised(dims, (variance + eps).rsqrt(), weight, bias)


def _scaled(x: Tensor, weight: Any, bias: Any) -> Tensor:
    if weight is not None and bias is not None:
        return torch.addcmul(bias, x, weight)
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _per_channel(values: Any, x: Tensor) -> Any:
    return None if values is None else _copy(values).reshape(-1, *[1] * (x.ndim - 2))


def _copy(values: Any) -> Any:
    """A copy of parameters or statistics, which training may change before a map is asked for."""
    return None if values is None else values.clone()


def _cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    x1, x2 = torch.broadcast_tensors(x1, x2)
    lengths = [t.norm(dim=dim, keepdim=True).clamp(min=eps) for t in (x1, x2)]
    return (x1 / lengths[0] * (x2 / lengths[1])).sum(dim)


COMPOSED: dict[str, Callable[..., Tensor]] = {"cosine_similarity": _cosine_similarity}
"""Operations for which we run others that do the same, each with its own rule."""


def _product(
    kind: str, func: Callable, args: tuple, kwargs: dict[str, Any], ranks: dict[Any, int]
) -> tuple[Tensor, list[Any], Replay] | None:
    if kind == "einsum":  # einsum(equation, [factors])
        equation, factors = args[0], args[1] if isinstance(args[1], (list, tuple)) else args[1:]
        if len(factors) != 2:
            return None
        func, args = _einsum(func, equation), tuple(factors)
    if kind in HELD:
        kwargs = dict(kwargs)
        extra = {key: kwargs[key].detach() for key in ("attn_mask",) if isinstance(kwargs.get(key), Tensor)}
        held = {p: args[p].detach() for p in HELD[kind] if p < len(args) and isinstance(args[p], Tensor)}
        replay = _with(held, extra, kind)
        return replay(func, args, kwargs), [*held.values(), *extra.values()], replay
    places = FACTORS[kind]
    if max(places) >= len(args) or not all(_depends(args[p]) for p in places):
        return None if kind != "einsum" else (func(*args), [], lambda f, a, k: f(*a, **k))
    first_rank, second_rank = (_rank(args[p], ranks) for p in places)
    if first_rank != second_rank:
        gate = places[second_rank > first_rank]
        held = {gate: args[gate].detach()}
        replay = _with(held, {}, kind)
        return replay(func, args, kwargs), list(held.values()), replay
    both = [{p: args[p].detach()} for p in places]
    halves = [_Half.apply(a) if p in places else a for p, a in enumerate(args)]
    first, second = (_with(held, {}, kind) for held in both)
    gates = [value for held in both for value in held.values()]
    return func(*halves, **kwargs), gates, lambda f, a, k: (first(f, a, k) + second(f, a, k)) / 2


def _with(held: dict[int, Tensor], named: dict[str, Tensor], kind: str) -> Replay:
    """A replay that calls the operation with some of its arguments as they are held."""

    def replay(func: Callable, args: tuple, kwargs: dict[str, Any]) -> Tensor:
        if kind == "einsum" and isinstance(args[0], str):
            factors = args[1] if isinstance(args[1], (list, tuple)) else args[1:]
            func, args = _einsum(func, args[0]), tuple(factors)
        return func(*[held.get(p, a) for p, a in enumerate(args)], **{**kwargs, **named})

    return replay


def _einsum(func: Callable, equation: str) -> Callable:
    return lambda *factors: func(equation, factors)


def _choice(func: Callable, args: tuple, kwargs: dict[str, Any]) -> tuple[Any, list[Any], Replay]:
    """The result, and its tangent at the photo: y + J · (x - photo's x)."""
    places = [p for p, a in enumerate(args) if _depends(a)]
    at = tuple(args[p].detach().clone() for p in places)
    result = func(*args, **kwargs)
    others = [] if isinstance(result, Tensor) else [t.detach().clone() for t in result[1:]]
    y = (result if isinstance(result, Tensor) else result[0]).detach().clone()

    def replay(func: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
        def chosen(*xs: Tensor) -> Tensor:
            given = dict(zip(places, xs, strict=True))
            out = func(*[given.get(p, a) for p, a in enumerate(args)], **kwargs)
            return out if isinstance(out, Tensor) else out[0]

        moved = tuple(args[p] - x for p, x in zip(places, at, strict=True))
        with warnings.catch_warnings():  # of PyTorch itself, when it first loads these rules
            warnings.simplefilter("ignore", FutureWarning)
            value = y + torch.func.jvp(chosen, at, moved)[1]
        return value if isinstance(result, Tensor) else type(result)((value, *others))  # such as torch.return_types.max

    return result, [*at, *others], replay


def _rank(factor: Tensor, known: dict[Any, int]) -> int:
    """How much like a gate a factor is: 2 if it comes from a bounded operation such as sigmoid, 1 from another one.

    known: the ranks of nodes that were looked at before. Of several tensors, as in a sum, the least like a gate counts.
    """
    waiting: list[Any] = [factor.grad_fn]
    while waiting:
        node = waiting[-1]
        if node in known:
            waiting.pop()
            continue
        kind, bounded = operation(node), getattr(node, "bounded", None)
        behind = [n for n, _ in node.next_functions if n is not None]
        if kind in ("Copy", "CopySlices"):
            behind = behind[-1:]  # what is copied, not what it is copied to
        elif kind not in SHIFTED and not hasattr(node, OURS):
            behind = []
        if bounded is not None:
            known[node] = 1 + bounded
        elif unknown := [n for n in behind if n not in known]:
            waiting += unknown
        else:
            known[node] = min((known[n] for n in behind), default=0)
    return known[factor.grad_fn]


# --- mechanics -------------------------------------------------------------------------------------------------------


OURS = "of_camlib"  # an attribute of our nodes in the graph


class _Held(torch.autograd.Function):
    """The operation's own result, with the gradient of the affine operation that remains."""

    @staticmethod
    def forward(ctx: Any, affine: Affine, bounded: bool, result: list[Tensor], x: Tensor) -> Tensor:
        setattr(ctx, OURS, True)
        ctx.affine, ctx.bounded, ctx.kind = affine, bounded, (x.shape, x.dtype, x.device)
        return result.pop()  # in a list: PyTorch would make a view of an input, which in-place operations refuse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple:
        if isinstance(ctx.affine, (Ratio, Normalised)):
            return None, None, None, ctx.affine.back(gradient)
        shape, dtype, device = ctx.kind
        with torch.enable_grad():
            x = torch.zeros(shape, dtype=dtype, device=device, requires_grad=True)
            return None, None, None, torch.autograd.grad(ctx.affine(x), x, gradient)[0]


class _Half(torch.autograd.Function):
    """The same tensor, with half the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        setattr(ctx, OURS, True)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient / 2


def _nothing(_: Any) -> Any:
    return None


@lru_cache(maxsize=1024)
def _opened(func: FunctionType) -> FunctionType:
    """A torch function written in Python, without its `has_torch_function` check: so we see each operation in it."""
    closed = {name: lambda *_: False for name in func.__globals__ if name.startswith("has_torch_function")}
    same = FunctionType(
        func.__code__, {**func.__globals__, **closed}, func.__name__, func.__defaults__, func.__closure__
    )
    same.__kwdefaults__ = func.__kwdefaults__
    return same


def _base(func: Any, name: str) -> Callable:
    """The operation that does the same, but not in place; the operation itself if there is none."""
    homes = (getattr(func, "__objclass__", None), getattr(func, "__self__", None), torch, Tensor)
    return next((found for home in homes if (found := getattr(home, name.rstrip("_"), None))), func)


def by_position(kind: str, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """The arguments of an operation with a rule, the first ones by position: mul(input=x, other=y) is mul(x, y)."""
    if kwargs and kind in RULES:
        for name in NAMES.get(kind, ("input", "other"))[len(args) :]:
            if name not in kwargs:
                break
            args, kwargs = (*args, kwargs[name]), {key: value for key, value in kwargs.items() if key != name}
    return args, kwargs


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors among some values, and those in lists and tuples among them."""
    for value in values:
        for t in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(t, Tensor):
                yield t


def _detached(value: Any, unless: Callable[[Tensor], bool] = lambda _: False) -> Any:
    """The arguments without their graph, except those for which `unless` is true."""
    if isinstance(value, Tensor):
        return value.detach() if value.requires_grad and not unless(value) else value
    if isinstance(value, dict):
        return {key: _detached(v, unless) for key, v in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_detached(v, unless) for v in value)
    return value


def _is_computed(tensor: Tensor) -> bool:
    return not tensor.is_leaf


def _depends(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_depends(v) for v in value)
    return isinstance(value, Tensor) and value.requires_grad


def _is_affine(func: Callable, args: tuple, kwargs: dict[str, Any]) -> bool:
    """Whether an operation is affine in what requires a gradient: J (x - z) = f(x) - f(z) for random z."""
    draws = torch.Generator("cpu").manual_seed(0)  # the caller's random numbers stay as they are
    return all(_is_affine_between(func, args, kwargs, draws) for _ in range(3))  # in one draw, errors may cancel


def _is_affine_between(func: Callable, args: tuple, kwargs: dict[str, Any], draws: torch.Generator) -> bool:
    leaves: list[Tensor] = []
    moved: list[Tensor] = []

    def fresh(value: Any, move: bool) -> Any:
        if _depends(value) and isinstance(value, Tensor):
            factor = 2 * torch.rand(value.shape, generator=draws, device="cpu").to(value) - 1 if move else 1
            leaf = (value.detach() * factor).requires_grad_()
            (moved if move else leaves).append(leaf)
            return leaf * 1
        return type(value)(fresh(v, move) for v in value) if type(value) in (list, tuple) else value

    def call(move: bool) -> list[Tensor]:
        out = func(*fresh(args, move), **{key: fresh(value, move) for key, value in kwargs.items()})
        return [t for t in (out if isinstance(out, (tuple, list)) else [out]) if t.requires_grad]

    try:
        there, other = call(move=False), call(move=True)
        directions = [torch.randn(t.shape, generator=draws, device="cpu").to(t) for t in there]
        gradients = torch.autograd.grad(there, leaves, directions, allow_unused=True)
    except RuntimeError:
        return False
    pairs = [(g, (x - z).detach()) for g, x, z in zip(gradients, leaves, moved, strict=True) if g is not None]
    left = [(g.conj() * x).real.double() for g, x in pairs]
    right = [(d.conj() * (a - b).detach()).real.double() for d, a, b in zip(directions, there, other, strict=True)]
    terms = sum(float(t.abs().sum()) for t in (*left, *right))
    return abs(sum(float(t.sum()) for t in left) - sum(float(t.sum()) for t in right)) <= 1e-3 * terms
