"""Run somebody else's network, and leave it as it was."""

import copy
import hashlib
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from camlib.autograd import Unfrozen
from camlib.errors import CamError, ModelError, first_line, twice
from camlib.outputs import Output, as_scores

Restless = tuple[str, ...]
"""The names of the tensors that a network changes when it runs in evaluation mode, such as a counter in a buffer."""


def check_network(module: object, deep: bool = True) -> None:
    """Raise a `ModelError` if module is not an nn.Module, or if its layers cannot be watched or run.

    deep: check the submodules, too.
    """
    if not isinstance(module, nn.Module):
        raise ModelError(
            f"A network is a torch.nn.Module, not {type(module).__name__}; pass clf.module instead of a Classifier."
        )
    parts = walk(module) if deep else [module]
    if any(isinstance(m, torch.jit.ScriptModule) for m in parts):
        raise ModelError(
            f"{type(module).__name__} is TorchScript, whose layers cannot be watched; explain the network that it was "
            "made from, with the same weights (load_state_dict)."
        )
    parameters = [p for m in parts for p in m._parameters.values() if p is not None]
    if any(is_lazy(p) for p in parameters):
        raise ModelError(
            f"{type(module).__name__} has lazy layers that have never run, so it has no weights yet; run it once first."
        )
    if any(p.is_meta for p in parameters):
        raise ModelError(
            f"{type(module).__name__} has parameters on the meta device, which hold no numbers; load its weights "
            "first, for example by load_state_dict(…, assign=True)."
        )


def walk(module: nn.Module) -> list[nn.Module]:
    """Every module of a network once, like `module.modules()` but in less time: every explanation calls this."""
    parts, met = [module], {module}
    for m in parts:
        if children := m._modules:  # most modules have none
            for child in children.values():
                if child is not None and child not in met:
                    met.add(child)
                    parts.append(child)
    return parts


def parameters_of(module: nn.Module) -> Iterator[nn.Parameter]:
    """Every parameter, like `module.parameters()` but in a fraction of the time, and twice if it is shared."""
    return (p for m in walk(module) for p in m._parameters.values() if p is not None)


def copy_of(module: nn.Module) -> nn.Module:
    """A deep copy of a network. Raises `ModelError` with the reason if it cannot be copied."""
    try:
        return copy.deepcopy(module)
    except Exception as e:  # its attributes may raise any exception
        raise ModelError(
            f"{type(module).__name__} cannot be copied (copy.deepcopy: {first_line(e)}). camlib needs a copy for "
            "networks with half precision or checkpointing."
        ) from e


def quantised(module: nn.Module) -> str | None:
    """The name of the first quantised layer, through which no gradient flows; None if there is none."""
    names = (name for name, m in module.named_modules() if ".quantized" in type(m).__module__)
    return next(names, None)


# --- leave it as it was ----------------------------------------------------------------------------------------------

# An exception can come between any two operations: Ctrl-C in a notebook, a timeout by a signal. So what is changed is
# noted first, and what restores it can be called twice.


@dataclass
class _Evaluated:
    """A module as it was before the first of the blocks that now run."""

    blocks: set[object]
    training: bool
    compiled: Any


_lock = threading.Lock()
_evaluated: dict[nn.Module, _Evaluated] = {}


@contextmanager
def eval_mode(module: nn.Module, parts: list[nn.Module] | None = None) -> Iterator[None]:
    """Run the block in evaluation mode; when the last block ends, each module gets its own training flag back.

    Parts that `module.compile()` has compiled run as they were written, because compiled code does not expect hooks.
    Threads may share a network, or use networks that share modules: the flags are those from before the first block.
    parts: `walk(module)`, if it is already known.
    """
    block = object()
    try:
        with _lock:
            for m in walk(module) if parts is None else parts:
                if _evaluated and m in _evaluated:
                    _evaluated[m].blocks.add(block)
                elif m.training or m._compiled_call_impl is not None:
                    _evaluated[m] = _Evaluated({block}, m.training, m._compiled_call_impl)
                    m.training = False
                    if m._compiled_call_impl is not None:
                        m._compiled_call_impl = None
        yield
    finally:
        twice(lambda: _end_evaluation(block))


_eager: list[Any] = []  # the compiler's stance, once for each `as_written` block that is running


@contextmanager
def as_written() -> Iterator[None]:
    """Run in eager mode what `torch.compile` has compiled, so that a PyTorch mode sees each of its operations."""
    if "torch._dynamo" not in sys.modules:
        yield
        return
    with _lock:
        _eager.append(_eager[0] if _eager else torch.compiler.set_stance("force_eager"))
    try:
        yield
    finally:
        with _lock:
            stance = _eager.pop()
            if not _eager:
                stance.__exit__(None, None, None)


def _end_evaluation(block: object) -> None:
    with _lock:
        for m, before in list(_evaluated.items()):
            if before.blocks == {block}:
                m.training = before.training
                if before.compiled is not None:
                    m._compiled_call_impl = before.compiled
                del _evaluated[m]
            before.blocks.discard(block)


@contextmanager
def untouched(
    module: nn.Module, restless: Restless | None = None, seed: int = 0, parts: list[nn.Module] | None = None
) -> Iterator[list[str]]:
    """Run the block in evaluation mode and leave flags, buffers, random numbers and grad mode as they were.

    Tensors that a module stores as plain attributes are restored, too, and so are weights that it replaces through
    `.data`. Weights that it changes in place are not.

    restless: what to restore, see `restless_buffers`; None restores everything. seed: for the random numbers that the
    network draws inside, if any, so that the same input gets the same answer. Yields a list that is filled when
    the block ends: the names of what was changed. Threads may share a network, as in `eval_mode`, which also explains
    parts.
    """
    grad, block, late = torch.is_grad_enabled(), object(), False
    changed: list[str] = []
    draws = restless is None or RANDOM_NUMBERS in restless
    places = _tensors(module) if restless is None else _named(module, restless)

    def restore() -> None:
        if not late:
            torch.set_grad_enabled(grad)
        moved = _release(places, block)
        if restless is None and len(now := _tensors(module)) > len(places):
            known = {(id(store), key) for _, store, key in places}
            added = [place for place in now if (id(place[1]), place[2]) not in known]  # by the network
            for _, store, key in added:
                store.pop(key)
            moved += added
        if moved:
            paths = {m: path for path, m in module.named_modules()}
            changed.extend(f"{paths[m]}.{key}" for m, _, key in moved)

    with _random_numbers(module, seed, changed) if draws else nullcontext(), eval_mode(module, parts):
        try:
            _hold(places, block)
            yield changed
        except GeneratorExit:  # Ctrl-C came just when the block ended, and others have restored the grad mode
            late = True
            raise
        finally:
            twice(restore)


RANDOM_NUMBERS = "random numbers"  # among the names of restless buffers: the network draws them
Place = tuple[nn.Module, dict[str, Any], str]  # a module, where it keeps a tensor, and the tensor's name there


OWN = frozenset(vars(nn.Module()))  # the attributes of every module, none of which is a tensor


def _tensors(module: nn.Module) -> list[Place]:
    """Every buffer, parameter and tensor in an attribute. A buffer may be None until the network first runs."""
    places: list[Place] = []
    for m in walk(module):
        attributes = vars(m)
        buffers, parameters = attributes["_buffers"], attributes["_parameters"]
        for key in buffers:
            places.append((m, buffers, key))
        for key, value in parameters.items():
            if value is not None:
                places.append((m, parameters, key))
        for key, value in attributes.items():
            if key not in OWN and (value is None or isinstance(value, Tensor)):  # None: a run may put a tensor there
                places.append((m, attributes, key))
    return places


def _named(module: nn.Module, names: Restless) -> list[Place]:
    places: list[Place] = []
    for path, _, key in (name.rpartition(".") for name in names if name != RANDOM_NUMBERS):
        m = module.get_submodule(path)
        stores = (m._buffers, m._parameters, vars(m))
        places += [(m, store, key) for store in [s for s in stores if key in s] or (m._buffers, vars(m))]
    return places


@dataclass
class _Held:
    """A tensor as it was before the first of the blocks that now run."""

    tensor: Tensor | None
    values: Tensor | None  # a copy; for a parameter, what its .data was
    requires_grad: bool
    exists: bool
    blocks: set[object]


_held: dict[tuple[int, str], _Held] = {}  # by the identity of where it is kept, and its name there


def _hold(places: Iterable[Place], block: object) -> None:
    with _lock:
        for m, store, key in places:
            held = _held.get((id(store), key))
            if held is not None:
                held.blocks.add(block)
                continue
            tensor: Tensor | None = store.get(key)
            values = None if tensor is None else tensor.data if store is m._parameters else tensor.detach().clone()
            flag = tensor is not None and tensor.requires_grad
            _held[id(store), key] = _Held(tensor, values, flag, key in store, {block})


def _release(places: Iterable[Place], block: object) -> list[Place]:
    """Restore each tensor when its last block ends. Returns those that were changed."""
    changed = []
    with _lock:
        for m, store, key in places:
            held = _held.get((id(store), key))
            if held is None or block not in held.blocks:
                continue
            last = held.blocks == {block}
            if _moved(store, key, held, weight=store is m._parameters):
                changed.append((m, store, key))
                if last:
                    _restore(store, key, held, weight=store is m._parameters)
            if last:
                del _held[id(store), key]
            held.blocks.discard(block)
    return changed


def _moved(store: dict[str, Any], key: str, held: _Held, weight: bool) -> bool:
    tensor = store.get(key)
    if tensor is not held.tensor or (key in store) != held.exists:
        return True
    if tensor is None or held.values is None:
        return False
    if weight:
        return tensor.layout == torch.strided and tensor.data_ptr() != held.values.data_ptr()
    return tensor.requires_grad != held.requires_grad or not _same(tensor, held.values)


def _restore(store: dict[str, Any], key: str, held: _Held, weight: bool) -> None:
    tensor = held.tensor
    if not held.exists:
        store.pop(key, None)
        return
    store[key] = tensor
    if tensor is None or held.values is None:
        return
    if weight:
        tensor.data = held.values
        return
    if tensor.requires_grad and not held.requires_grad:  # the network has copied part of a graph into it
        tensor.detach_()
    if not _same(tensor, held.values):
        with torch.no_grad():
            tensor.copy_(held.values)


_drawing: dict[str, tuple[set[object], Tensor]] = {}  # device type -> blocks that draw from it, and the caller's state


@contextmanager
def _random_numbers(module: nn.Module, seed: int, changed: list[str]) -> Iterator[None]:
    """Seed the random numbers of the CPU and the network's device, and restore the caller's. Notes if any were drawn.

    Other threads draw from the same generators, so this is only used if needed.
    """
    sources: dict[str, Any] = {"cpu": torch.random}
    if (kind := device_of(module).type) in ("cuda", "mps"):
        sources[kind] = torch.get_device_module(kind)
    seeded: dict[str, Tensor] = {}
    block = object()

    def restore() -> None:
        with _lock:
            for kind, source in sources.items():
                if kind not in _drawing or block not in _drawing[kind][0]:
                    continue
                blocks, state = _drawing[kind]
                if not torch.equal(source.get_rng_state(), seeded.get(kind, state)) and RANDOM_NUMBERS not in changed:
                    changed.append(RANDOM_NUMBERS)
                if blocks == {block}:
                    source.set_rng_state(state)
                    del _drawing[kind]
                blocks.discard(block)

    try:
        with _lock:
            for kind, source in sources.items():
                _drawing.setdefault(kind, (set(), source.get_rng_state()))[0].add(block)
                (torch.default_generator if kind == "cpu" else source).manual_seed(seed)
                seeded[kind] = source.get_rng_state()
        yield
    finally:
        twice(restore)


def restless_buffers(module: nn.Module, x: Tensor) -> Restless:
    """What one forward pass in evaluation mode changes, see `untouched`. It is restored afterwards."""
    with torch.no_grad(), untouched(module) as changed:
        forward(module, x)
    return tuple(changed)


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    if a.layout != torch.strided:
        a, b = a.to_dense(), b.to_dense()
    if torch.equal(a, b) or not a.is_floating_point():
        return torch.equal(a, b)
    return torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())


def device_of(module: nn.Module) -> torch.device:
    """The device of a network's first parameter or buffer; the CPU if it has none."""
    tensor = next(module.parameters(), next(module.buffers(), None))
    return torch.device("cpu") if tensor is None else tensor.device


def dtype_of(module: nn.Module) -> torch.dtype:
    """The type of a network's first floating-point parameter, which its input must have; float32 if it has none."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)


def fingerprint(module: nn.Module) -> str:
    """A digest of all parameters and buffers; any change alters it. It reads every byte: about 3 ms per 10 MB."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        digest.update(name.encode())
        tensor = tensor.detach() if tensor.layout == torch.strided else tensor.detach().to_dense()
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


# --- run -------------------------------------------------------------------------------------------------------------


def forward(module: nn.Module, x: Tensor) -> Any:
    """module(x), but if the network does not accept the input, its exception becomes a `ModelError` that says so.

    After `torch.compile`, the layers are fused: they no longer run one by one, and no hook is called. So the original
    network, which has the same parameters, runs instead. It gets a copy of x, because some networks change their input
    in place.
    """
    module = getattr(module, "_orig_mod", module)
    x = x.clone() if isinstance(x, Tensor) else x
    try:
        if type(module).__call__ is not nn.Module.__call__:  # a class with its own __call__
            return module(x)
        return module._call_impl(x)  # what module(x) calls, unless module.compile() has replaced it
    except CamError:
        raise
    except Exception as e:
        shape = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        hint = _hint(module, e)
        raise ModelError(f"{type(module).__name__} fails on an input of {shape}: {str(e).rstrip('.')}.{hint}") from e


def _hint(module: nn.Module, error: Exception) -> str:
    """Advice for a network that does not take a batch of pictures, as text to append to a message."""
    text = str(error)
    if "Inference tensors cannot be saved for backward" in text:
        return (
            " It runs layers in torch.inference_mode(), where PyTorch records no gradient; use torch.no_grad() there."
        )
    if isinstance(error, TypeError) and "required positional argument" in text:
        return (
            " camlib explains networks with one input; wrap yours in a small nn.Module that stores the other inputs "
            "and whose forward takes only the picture."
        )
    for m in module.modules():  # the first convolution shows which kind of input the network takes
        if isinstance(m, (nn.Conv1d, nn.Conv3d)):
            kind = "signals (B, C, L)" if isinstance(m, nn.Conv1d) else "volumes (B, C, D, H, W)"
            return f" Its first convolution is a {type(m).__name__}, for {kind}; camlib explains networks of pictures."
        if isinstance(m, nn.Conv2d):
            break
    return ""


def scores(module: nn.Module, x: Tensor, output: Output | None = None) -> Tensor:
    """The scores (B, K) that a network gives for x (B, C, H, W); see `camlib.outputs` for output."""
    return as_scores(forward(module, x), len(x), type(module).__name__, output)


def scores_in_graph(module: nn.Module, x: Tensor, output: Output | None = None) -> Tensor:
    """The scores (B, K) for x (B, C, H, W) with the graph from x on, even if the network cuts it."""
    with torch.inference_mode(False), torch.enable_grad():
        x = x.detach().clone().requires_grad_() * 1
        result = scores(module, x, output)
        if result.requires_grad:
            return result
        with Unfrozen():
            return scores(module, x, output)


def is_random(module: nn.Module, x: Tensor, output: Output | None = None, restless: Restless | None = None) -> bool:
    """Whether the network gives different answers to the same input in evaluation mode, as with an active dropout."""
    answers = []
    for seed in (0, 1):
        with torch.no_grad(), untouched(module, restless, seed):
            answers.append(scores(module, x, output))
    return not torch.equal(*answers)


def mixes_batch(module: nn.Module, x: Tensor, output: Output | None = None) -> bool:
    """Whether a picture's scores depend on the other pictures in its batch, or the network takes one picture only.

    An example is BatchNorm without running statistics. x (B, C, H, W): the first picture is used, beside noise.
    """
    first = x[:1]
    other = noise(first.shape, normal=False).to(first)
    with torch.no_grad(), untouched(module):
        alone = scores(module, first, output).float()
    try:
        with torch.no_grad(), untouched(module):
            beside = scores(module, torch.cat([first, other]), output)[:1].float()
    except CamError:
        return True
    exact = dtype_of(module).itemsize >= 4 and not torch.is_autocast_enabled(x.device.type)
    tolerance = 1e-3 if exact else 3e-2
    return bool((alone - beside).abs().max() > tolerance * alone.abs().max())


def batch_statistics(module: nn.Module) -> bool:
    """Whether there is a BatchNorm without running statistics, which mixes the pictures of a batch if it runs."""
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    return any(isinstance(m, kinds) and m.running_mean is None for m in walk(module))


def noise(shape: Sequence[int], draw: torch.Generator | int = 0, normal: bool = True) -> Tensor:
    """Normal or uniform random numbers, float32 on the CPU whatever PyTorch's default type and device are.

    draw: a generator, or a seed.
    """
    draw = torch.Generator().manual_seed(draw) if isinstance(draw, int) else draw
    return (torch.randn if normal else torch.rand)(tuple(shape), generator=draw, device="cpu", dtype=torch.float32)


RANDOM = (
    "{name} answers the same input differently each time: something random stays on in evaluation mode, such as "
    "F.dropout(x), whose default is training=True. Write F.dropout(x, training=self.training), or use nn.Dropout."
)


def run_hooked(
    module: nn.Module,
    x: Tensor,
    after: Callable[[str, int, nn.Module, Any], Any],
    before: Callable[[str, int, nn.Module, Tensor], None] | None = None,
) -> Any:
    """Run one forward pass and call after(name, call, module, output) whenever a submodule has run.

    If after returns something, that replaces the output. call counts the runs of a module within this forward pass,
    from 0. before(name, call, module, first input) is called when a submodule starts. Only the calling thread's passes
    are watched. Use this inside `untouched`.
    """
    owner = threading.get_ident()
    calls: dict[str, int] = {}

    def pre_hook(name: str) -> Callable:
        def hook(m: nn.Module, args: tuple, kwargs: dict | None = None) -> None:
            # kwargs is None while another thread removes this hook
            first = next(iter(args or (kwargs or {}).values()), None)
            if threading.get_ident() == owner and isinstance(first, Tensor) and first.ndim:
                before(name, calls.get(name, -1) + 1, m, first)  # type: ignore[misc]

        return hook

    def post_hook(name: str) -> Callable:
        def hook(m: nn.Module, _args: tuple, output: Any) -> Any:
            if threading.get_ident() != owner:
                return None
            call = calls[name] = calls.get(name, -1) + 1
            return after(name, call, m, output)

        return hook

    with Hooks() as hooks:
        for name, m in module.named_modules():
            if name:
                if before:
                    hooks.before(m, pre_hook(name))
                hooks.after(m, post_hook(name))
        return forward(module, x)


class Hooks:
    """Forward hooks that are removed when the block ends, even if an exception comes between any two operations."""

    def __init__(self) -> None:
        self._functions: list[tuple[nn.Module, Callable]] = []

    def __enter__(self) -> "Hooks":
        return self

    def __exit__(self, *_: object) -> None:
        twice(self.remove)

    def __del__(self) -> None:
        self.remove()  # in case that Ctrl-C came just when __exit__ was called

    def before(self, m: nn.Module, hook: Callable) -> None:
        """Call hook(module, args, kwargs) before the module runs."""
        self._functions.append((m, hook))
        m.register_forward_pre_hook(hook, with_kwargs=True)

    def after(self, m: nn.Module, hook: Callable, first: bool = False) -> None:
        """Call hook(module, args, output) after the module has run. first: before the hooks that it already has."""
        self._functions.append((m, hook))
        m.register_forward_hook(hook, prepend=first)

    def remove(self) -> None:
        for m, hook in self._functions:
            for store in (m._forward_hooks, m._forward_pre_hooks):
                for key in [k for k, function in list(store.items()) if function is hook]:
                    store.pop(key, None)
                    m._forward_pre_hooks_with_kwargs.pop(key, None)
