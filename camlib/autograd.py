"""Gradients through networks that were not written for them: frozen backbones, weights that change, checkpointing."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack, _pop_mode, _push_mode

from camlib.errors import LayerError, ModelError, first_line, twice
from camlib.outputs import OWN_ACTIVATION, SAME_VALUES, operation


def modes() -> list[TorchFunctionMode]:
    """The PyTorch modes that are active, from the outermost to the innermost."""
    return _get_current_function_mode_stack()


def set_modes(wanted: list[TorchFunctionMode]) -> None:
    """Make these modes the active ones: Ctrl-C may have come between two changes of PyTorch's stack of modes."""

    def restore() -> None:
        while modes():
            _pop_mode()
        for mode in wanted:
            _push_mode(mode)

    if modes() != wanted:
        twice(restore)


class Mode(TorchFunctionMode):
    """A PyTorch mode that leaves the others as they were, even if Ctrl-C comes while PyTorch has put one aside."""

    def __init__(self) -> None:
        super().__init__()
        self._outer: list[list[TorchFunctionMode]] = []

    def __enter__(self) -> "Mode":
        self._outer.append(modes())
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        set_modes(self._outer.pop())


class Unfrozen(Mode):
    """Inside this mode, `detach()` and `torch.no_grad()` do not cut the graph, as a frozen backbone otherwise would.

    For leaves, such as the weights, `detach()` works as usual: there is no graph behind them to cut.
    """

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        name = getattr(func, "__name__", "")
        if name == "_set_grad_enabled":
            return None
        cuts = name in ("detach", "detach_") or func == Tensor.data.__get__  # type: ignore[attr-defined]
        if cuts and not args[0].is_leaf:
            return args[0].view_as(args[0])
        return func(*args, **(kwargs or {}))


class Dependence:
    """Whether a tensor depends on another one, by the graph behind it."""

    def __init__(self, origin: Tensor) -> None:
        self._known: dict[Any, bool] = {None: False, origin.grad_fn: True}

    def __call__(self, tensor: Tensor, met: Callable[[Any], None] | None = None) -> bool:
        """met: called with each node behind the tensor that depends on the origin and was not met before."""
        waiting: list[Any] = [tensor.grad_fn]
        while waiting:
            node = waiting[-1]
            behind = [] if node in self._known else [n for n, _ in node.next_functions]
            if unknown := [n for n in behind if n not in self._known]:
                waiting += unknown
                continue
            waiting.pop()
            if node not in self._known:
                self._known[node] = any(self._known[n] for n in behind)
                if met and self._known[node]:
                    met(node)
        return self._known[tensor.grad_fn]


def bottlenecks(origin: Tensor, tensor: Tensor) -> set[Any]:
    """The nodes of the graph that all ways from the origin to the tensor pass through.

    We count the ways, with a random weight for each edge, modulo a prime: where all of them are, there is a bottleneck.
    """
    order: list[Any] = []  # from the origin to the tensor
    if not Dependence(origin)(tensor, order.append):
        return set()
    prime, draw = (1 << 61) - 1, random.Random(0)
    towards: dict[Any, int] = {origin.grad_fn: 1}  # the ways from the origin to a node
    edges: dict[Any, list[tuple[Any, int]]] = {}
    for node in order:
        edges[node] = [(n, draw.randrange(1, prime)) for n, _ in node.next_functions if n in towards]
        towards[node] = sum(weight * towards[n] for n, weight in edges[node]) % prime
    onwards = dict.fromkeys(towards, 0) | {tensor.grad_fn: 1}  # and from there to the tensor
    for node in reversed(order):
        for n, weight in edges[node]:
            onwards[n] = (onwards[n] + weight * onwards[node]) % prime
    return {node for node in towards if towards[node] * onwards[node] % prime == towards[tensor.grad_fn]}


def count_steps(tensor: Tensor) -> int:
    """How many operations there are in the graph behind a tensor."""
    waiting, met = [tensor.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in met:
            met.add(node)
            waiting += [behind for behind, _ in node.next_functions]
    return len(met)


def constants_as_they_are(module: nn.Module) -> saved_tensors_hooks:
    """Inside this context, graphs store copies of the weights and constants they need: training cannot change them."""
    storages = {storage_of(t) for t in [*module.parameters(), *module.buffers()]}

    def pack(tensor: Tensor) -> tuple[Tensor, int | None]:
        if tensor.grad_fn is None or storage_of(tensor) in storages:  # the latter: a view of a weight, such as weight.T
            return tensor.detach().clone(), None
        return tensor.detach(), tensor._version  # detached: a node that holds its own result is never freed

    def unpack(packed: tuple[Tensor, int | None]) -> Tensor:
        tensor, version = packed
        if version not in (None, tensor._version):  # with hooks installed, autograd does not check this itself
            raise RuntimeError("a value needed for the gradient was modified by an inplace operation")
        return tensor

    return saved_tensors_hooks(pack, unpack)


def storage_of(tensor: Tensor) -> int:
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # a sparse tensor has no storage of its own
        return id(tensor)


def cut_gates(scores: Tensor) -> bool:
    """Block the gradient at the gates in the graph behind the scores. Returns whether there are any gates.

    A gate is a sigmoid or softmax that multiplies something else, as attention weights do. Whatever reaches the
    scores only through a gate decides where the network attends; it is not the evidence itself.
    """
    gates, fused, waiting, visited = [], [], [scores.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        factors = [n for n, _ in node.next_functions]
        waiting.extend(factors)
        kind = operation(node)
        if kind in PRODUCTS and not any(n is None or n.name().endswith("AccumulateGrad") for n in factors):
            gates += [gate for gate in map(_gate, factors) if gate is not None]
        if kind.startswith("ScaledDotProduct"):
            fused.append(node)
    for gate in gates:
        gate.register_prehook(_zeros)
    for node in fused:  # queries and keys decide where it attends; the values are what it sees
        node.register_hook(lambda gradients, _: (*_zeros(gradients[:2]), *gradients[2:]))
    return bool(gates or fused)


GATES = (*OWN_ACTIVATION, "SafeSoftmax")  # the latter: in scaled_dot_product_attention
PRODUCTS = ("Mul", "Bmm", "Mm", "Mv", "Dot", "Baddbmm", "Addmm")


def _zeros(gradients: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    return tuple(g if g is None else torch.zeros_like(g) for g in gradients)


def _gate(node: Any) -> Any:
    """The sigmoid or softmax that a factor comes from, perhaps shifted, scaled or upsampled; None for other factors."""
    while node is not None:
        kind = operation(node)
        if kind in GATES:
            return node
        behind = [n for n, _ in node.next_functions if n is not None]
        same = kind in (*SAME_VALUES, "Add", "Sub", "Rsub", "Mul", "Div", "Mean") or kind.startswith("Upsample")
        node = behind[0] if same and len(behind) == 1 else None
    return None


def gradients(score: Tensor, inputs: Sequence[Tensor], name: str) -> list[Tensor | None]:
    """The gradients of a sum of scores; None for an input that the sum does not depend on. The graph is retained.

    name: the network's name in errors. Raises `ModelError`, with the reason, if autograd cannot differentiate it.
    """
    try:
        with torch.inference_mode(False), torch.enable_grad():
            return list(torch.autograd.grad(score, inputs, retain_graph=True, allow_unused=True))
    except RuntimeError as e:
        raise ModelError(_reason(e, name)) from e


def _reason(error: RuntimeError, name: str) -> str:
    text = str(error)
    if "use_reentrant" in text or "Checkpointing is not compatible with .grad()" in text:
        return (
            f"{name} uses reentrant checkpointing, which cannot give the gradient of a feature map. Use "
            "torch.utils.checkpoint.checkpoint(…, use_reentrant=False), or switch checkpointing off."
        )
    if "modified by an inplace operation" in text:
        return (
            f"{name} changes values in place that its own gradient needs, so it cannot be differentiated: "
            f"{first_line(error)}."
        )
    return f"{name} cannot be differentiated: {first_line(error)}."


def no_gradient(module: nn.Module, quantised_layer: str | None, inference: bool = False) -> LayerError:
    """The error for a network whose scores have no graph. inference: it turns on `torch.inference_mode` itself."""
    name = type(module).__name__
    if inference:
        return LayerError(
            f"{name} runs layers in torch.inference_mode(), where PyTorch records no gradient; use torch.no_grad() "
            "there instead. If the network has an exact map, you can also use cam, which needs no gradient."
        )
    if quantised_layer is not None:
        return LayerError(
            f"{name} has quantised layers ({quantised_layer}), and no gradient flows through them. Explain the network "
            "that it was quantised from."
        )
    return LayerError(
        f"The scores of {name} are not differentiable: somewhere they are rounded, compared, sorted or computed "
        "outside PyTorch. Use a method that needs no gradient: score_cam, or cam if the network has an exact map."
    )
