"""Where a network has its feature maps: found when needed, checked at each use, found again if a check fails."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from camlib.autograd import count_steps
from camlib.errors import HeadError, LayerError
from camlib.forward_pass import ForwardPass, run_forward
from camlib.heads import Head, find_head
from camlib.hooks import Layer
from camlib.layers import FeatureLayer, locate
from camlib.network import copy_of, mixes_batch, walk
from camlib.outputs import Output

NEAR = 30  # operations between a feature map and the scores: more may be much of the network
Structure = tuple[Any, ...]
"""Of each module: its identity, type and hooks. If its class is not one of PyTorch's, also the attributes that are
True, such as grad_checkpointing."""


@dataclass(frozen=True, eq=False)
class ExactMaps:
    """The verified results of one forward pass for the method "cam": features times weights give every class's map."""

    features: Tensor  # (B, C, h, w)
    logits: Tensor  # (B, K)
    head: Head  # with copies of the weights


@dataclass(eq=False)
class Places:
    """The head and the feature layers of one network. These are only guesses, and checked whenever they are used.

    An exact map is verified by its identity on each input, with the network's weights at that time. If the
    network's modules have changed, camlib searches for the head and the feature layer again.
    """

    head: Head | None = None
    structure: Structure | None = None  # the network's when its head was found
    layers: dict[tuple[Layer | None, bool], tuple[Structure, int, FeatureLayer]] = field(default_factory=dict)
    # by layer and whether gates are held; with the network's structure at that time, and the input's shorter side
    mixes: tuple[Structure, bool] | None = None  # whether the network mixes the pictures of a batch
    nearby: dict[tuple[Layer | None, bool], tuple[Structure, bool]] = field(default_factory=dict)  # see `near`

    def exact(self, module: nn.Module, x: Tensor, probe: Callable[[], Tensor], output: Output | None) -> ExactMaps:
        """What gives the maps of all classes for x (B, C, H, W). probe: makes an input for finding the head.

        Raises `HeadError` if the network, as it is now, has no exact map.
        """
        parts = walk(module)
        now = _structure(parts)
        if self.head is not None and self.structure in (None, now):
            try:
                return self._run(self.head, module, x, parts)
            except (HeadError, LayerError):
                pass  # the network has changed, or this input has no map: the search below says which
        try:
            self.head, self.structure = find_head(module, probe(), output), now
            return self._run(self.head, module, x)
        except HeadError as e:  # on noise, relu looks like relu6; and the probe may be too small
            try:
                head = find_head(module, x[:1], output)
            except HeadError:
                raise e from None
            self.head, self.structure = head, now
            return self._run(head, module, x)

    def _run(self, head: Head, module: nn.Module, x: Tensor, parts: list[nn.Module] | None = None) -> ExactMaps:
        features, logits = head.run(module, x, parts)
        with torch.no_grad():
            head = self.head = head.current(module, features, logits)
        return ExactMaps(features, logits.float(), head)

    def one_by_one(self, module: nn.Module, x: Tensor, output: Output | None) -> bool:
        """Whether pictures must go through the network one by one, because it mixes those of a batch."""
        now = _structure(walk(module))
        if self.mixes is None or self.mixes[0] != now:
            self.mixes = now, mixes_batch(module, x, output)
        return self.mixes[1]

    def near(
        self, module: nn.Module, x: Tensor, layer: Layer | None, output: Output | None, hold: bool = False
    ) -> bool:
        """Whether the feature map is near the scores, so that a backward pass costs little; see `forward`."""
        now = _structure(walk(module))
        known = self.nearby.get((layer, hold))
        if known is None or known[0] != now:
            ran = self.forward(module, x, layer, output, hold)
            known = self.nearby[layer, hold] = now, count_steps(ran.graph) <= NEAR
        return known[1]

    def forward(
        self, module: nn.Module, x: Tensor, layer: Layer | None, output: Output | None, hold: bool = False
    ) -> ForwardPass:
        """A forward pass with the graph from a feature map on. hold: with its gates held, see `run_forward`.

        Its gradients are those of the network as it is now, even if it changes later.
        """
        now = _structure(walk(module))
        structure, largest, place = self.layers.get((layer, hold), (None, 0, None))
        side, unchanged = min(x.shape[2:]), structure == now
        if place is not None and unchanged and side <= largest:
            try:
                return _pass(module, x, place, output, hold)
            except LayerError:
                pass
        place = locate(module, x, layer, output, before_attention=hold)
        # A small input may leave only one cell at the usual layer, so an earlier one was found: do not store that.
        if side >= largest or not unchanged:
            self.layers[layer, hold] = now, side, place
        return _pass(module, x, place, output, hold)


def _structure(parts: list[nn.Module]) -> Structure:
    structure: list[Any] = []
    for m in parts:
        kind: type = type(m)
        structure += (id(m), kind)
        if not _is_torchs_own(kind):
            for name, value in vars(m).items():
                if value is True and name != "training":
                    structure.append(name)
        if m._forward_hooks or m._forward_pre_hooks:
            structure += _hooks(m)
    return tuple(structure)


@cache
def _is_torchs_own(kind: type) -> bool:
    return kind.__module__.startswith("torch.nn.modules.")


def _hooks(m: nn.Module) -> list[int]:
    """The keys of hooks that are not camlib's own, which it adds and removes all the time, in any thread."""
    found = [*m._forward_hooks.items(), *m._forward_pre_hooks.items()]
    return [key for key, hook in found if not str(getattr(hook, "__module__", "")).startswith("camlib.")]


def _pass(module: nn.Module, x: Tensor, place: FeatureLayer, output: Output | None, hold: bool) -> ForwardPass:
    if place.recomputes:  # a backward pass would run the network again, perhaps after a change: use a copy
        module = copy_of(module).eval()
    return run_forward(module, x, place, output, keep_weights=True, hold=hold)
