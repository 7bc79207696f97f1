"""Maps that sum to the logit, also for networks without a class activation map: hold the gates, then run once more.

With the gates held (see `camlib.gates`), everything behind a layer is affine in its output A. So the logit is the sum
of G · A over all cells, where G is the gradient, plus a rest: what the same affine network gives for A = 0. We compute
the rest with a second run, a replay, and not as the logit minus the sum. So the two could fail to add up to the logit,
and we check this for each map.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from threading import get_ident
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from camlib.autograd import Unfrozen
from camlib.errors import CamError, LayerError, first_line
from camlib.gates import Gates
from camlib.hooks import capture
from camlib.layers import FeatureLayer, Grid
from camlib.network import Hooks, as_written, scores, untouched
from camlib.outputs import Output

if TYPE_CHECKING:
    from camlib.forward_pass import ForwardPass

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.05}
"""How far map and rest may miss the logit, relative to the sum of all absolute terms, by the coarsest type used."""


@contextmanager
def holding(
    module: nn.Module, layer: str, call: int | None, gates: Gates, empty: Tensor | None = None
) -> Iterator[None]:
    """Run the block and record the gates behind a layer; or, given `empty`, replay them with it as the layer's output.

    call: which run of the layer; None if it runs once.
    """
    owner, runs = get_ident(), 0

    def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
        nonlocal runs
        if get_ident() != owner:
            return None
        runs += 1
        if call is not None and call != runs - 1:
            return None
        replaced = output
        if empty is not None:
            torch.set_grad_enabled(True)  # until `untouched` ends: only operations that depend on the map count
            replaced = empty.requires_grad_().clone()
            replaced = replaced if isinstance(output, Tensor) else (replaced,)
        gates.start(replaced if isinstance(replaced, Tensor) else replaced[0])
        return replaced

    with Hooks() as hooks:
        hooks.after(module.get_submodule(layer), hook, first=True)
        with as_written(), gates.recording() if empty is None else gates.replaying():
            yield


def replayed(
    module: nn.Module, x: Tensor, layer: FeatureLayer, output: Output | None, value: Tensor, gates: Gates
) -> Tensor:
    """The rest of each score: what the network with held gates gives for an empty feature map. x -> (B, K).

    value: the layer's output for x. Extra tokens, such as a class token, are left as they are.

    Raises `LayerError` if the network cannot be replayed.
    """
    empty = without_cells(value, layer.grid, x)
    try:
        with (
            torch.enable_grad() if layer.frozen else torch.no_grad(),
            untouched(module, layer.restless),
            holding(module, layer.layer, layer.call, gates, empty),
            Unfrozen() if layer.frozen else nullcontext(),
        ):
            rest = scores(module, x, output)
        return rest.detach()
    except CamError as e:
        raise LayerError(
            f"{type(module).__name__} cannot be run again with its gates held: {first_line(e)}. Use another method."
        ) from e


def without_cells(value: Tensor, grid: Grid, x: Tensor) -> Tensor:
    """A layer's output with 0 in the cells of its grid."""
    with torch.enable_grad():
        leaf = torch.zeros_like(value).requires_grad_()
        (cells,) = torch.autograd.grad(grid.read(leaf, x).sum(), leaf)
    return torch.where(cells == 0, value.detach(), 0)


def frozen_map(ran: "ForwardPass", indices: list[int]) -> Tensor:
    """The maps (B, h, w) of one class for each picture: n · Σ_c G · A for n cells, so mean(map) + rest == logit.

    In the precision of the network, but at least float32. Raises `LayerError` if the sum is wrong, and names the
    operations that camlib cannot hold.
    """
    assert ran.rest is not None and ran.gates is not None
    A, G = ran.cells(ran.value), ran.cells(ran.raw_gradient(indices))
    parts = A * G
    result = parts.sum(1) * parts[0, 0].numel()
    columns = torch.tensor(indices, device=parts.device)[:, None]
    own, rest = (t.detach().to(parts.dtype).gather(1, columns)[:, 0] for t in (ran.graph, ran.rest))
    terms = parts.abs().sum((1, 2, 3)) + rest.abs()
    off = float(((result.mean((1, 2)) + rest - own).abs() / terms.clamp_min(1e-30)).max())
    if off <= TOLERANCE[ran.gates.dtype]:
        return result
    raise LayerError(
        f"For {type(ran.module).__name__}, the frozen map and its rest miss the logit by {off:.1e} of the sum of all "
        f"absolute terms. {_culprits(ran)} Use another method, or name a layer that comes after what cannot be held."
    )


def refuse_unheld(ran: "ForwardPass") -> None:
    """Raise a `LayerError` if the pass has operations that cannot be held: without them, a sum may be right by luck."""
    assert ran.gates is not None
    ran.gates.end(ran.graph)
    name = type(ran.module).__name__
    if ran.gates.unheld:
        raise LayerError(
            f"There is no frozen map of {name}. {_culprits(ran)} Use another method, or name a layer that comes after "
            "what cannot be held."
        )
    if ran.gates.aliased:
        raise LayerError(
            f"{name} uses the output of {ran.layer.layer!r} also under another name: an attribute, or the tensor that "
            "the layer changes in place or passes on. So a map of it would not have all that it does. Name another "
            "layer."
        )


def _culprits(ran: "ForwardPass") -> str:
    """The operations that camlib cannot hold, in a sentence, with the layers in which they run."""
    gates, running = Gates(), [""]

    def enter(name: str) -> Callable:
        def hook(*_: Any) -> None:
            running.append(name)
            gates.layer = name

        return hook

    def leave(*_: Any) -> None:
        running.pop()
        gates.layer = running[-1]

    with Hooks() as hooks:
        for name, m in ran.module.named_modules():
            if name:
                hooks.before(m, enter(name))
                hooks.after(m, leave)
        with (
            torch.no_grad(),
            untouched(ran.module, ran.layer.restless),
            holding(ran.module, ran.layer.layer, ran.layer.call, gates),
            capture(ran.module, ran.layer.layer, live=True, call=ran.layer.call),
        ):
            gates.end(scores(ran.module, ran.x, ran.output))
    named = [f"{op} (in {layer})" if layer else op for op, layer in list(gates.unheld.items())[:4]]
    return f"camlib cannot hold {', '.join(named)}." if named else "camlib could not find the operation."
