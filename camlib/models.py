"""A network and its description: the labels, how to prepare a photo for it, and how to read its output."""

import copy
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from camlib import zoo
from camlib.errors import CamWarning, ImageError, ModelError, first_line, near
from camlib.heads import Head
from camlib.network import check_network, device_of, dtype_of, noise, scores, scores_in_graph, untouched
from camlib.outputs import (
    Activation,
    Output,
    Unclear,
    check_activation,
    own_activation,
    unclear,
    unclear_warning,
    within,
)
from camlib.places import Places
from camlib.targets import Chosen, Target, choose, class_index, class_names
from camlib.views import View

Kind = Literal["crop", "whole"]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GRAY_MEAN, GRAY_STD = (0.449,), (0.226,)  # the means of ImageNet's three values
RESAMPLE = {kind.name.lower(): kind for kind in Image.Resampling}
SMALLEST = 8  # pixels: the smallest side of an input
EXTREMES = (10, -10, 1000, -1000, 0)  # factors that take an input of noise where unbounded scores leave any small range
SMALL_PICTURES = 128  # pixels: networks with smaller inputs usually see the whole picture, as for MNIST and CIFAR


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network and its recipe: resize the photo, take the central `size` × `size` pixels, (pixel / 255 - mean) / std.

    Make one with `load_model`. Use `dataclasses.replace(clf, …)` to change the recipe: it takes what `load_model`
    takes, such as `mean=0.5` or `resize=None`, and raises `ModelError` for what does not fit. Each option is changed
    alone: another size keeps resize, so change both.

    Attributes
    ----------
    module
        The network.
    labels
        One name for each class.
    name
        The network's name in titles and errors.
    size
        Side of the input in pixels, or (height, width).
    resize
        The shorter side of the resized photo, or (height, width).
    interpolation
        Pillow's name for the resize filter.
    mean, std
        One number, or one for each channel.
    activation
        How scores become probabilities, see `load_model`.
    output
        Turns the network's output into scores (B, K).
    channels
        How many the input has.

    Examples
    --------
    >>> clf = load_model()
    >>> clf
    Classifier(efficientnet_lite0, 1000 classes, cpu)
    >>> clf.index("espresso"), replace(clf, size=320, resize=366).size
    (967, 320)
    """

    module: nn.Module
    labels: tuple[str, ...]
    name: str
    size: int | tuple[int, int] = 224
    resize: int | tuple[int, int] = 256
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    activation: Activation = "auto"
    output: Output | None = None
    channels: int = 3
    places: Places = field(default_factory=Places, init=False, repr=False)

    def __post_init__(self) -> None:
        size, mean, std = as_size(self.size), _numbers("mean", self.mean), _numbers("std", self.std)
        _check_normalisation(mean, std)
        for what, values in (("mean", mean), ("std", std)):
            if len(values) not in (1, self.channels):
                raise ModelError(f"{what} has {len(values)} numbers, but {self.name} takes {self.channels} channels.")
        _check_output(self.output)
        labels = class_names(self.labels)
        recipe = {
            "labels": labels,
            "size": size,
            "resize": _resize(self.resize, size),
            "interpolation": _interpolation(self.interpolation),
            "mean": mean,
            "std": std,
            "activation": check_activation(self.activation, None, self.name, len(labels)),
        }
        for name, value in recipe.items():
            object.__setattr__(self, name, value)  # the dataclass is frozen

    def __repr__(self) -> str:
        return f"Classifier({self.name}, {len(self.labels)} class{'es' * (len(self.labels) != 1)}, {self.device})"

    @property
    def device(self) -> torch.device:
        """Where the network's weights are."""
        return device_of(self.module)

    @property
    def shape(self) -> tuple[int, int]:
        """The (height, width) of the input in pixels."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    @property
    def head(self) -> Head:
        """The verified head, with copies of the current weights. Raises `HeadError` if there is none."""
        head = self.places.exact(self.module, self.probe(), self.probe, self.output).head
        return replace(head, weight=head.weight.clone(), bias=head.bias.clone())

    def to(self, device: str | torch.device) -> "Classifier":
        """A classifier with a copy of the current network on a device. Returns itself if it is already there.

        Parameters
        ----------
        device
            Such as "cuda", "mps" or "cpu".

        Returns
        -------
        clf : Classifier

        Raises
        ------
        ModelError
            If this machine has no such device.
        """
        there = as_device(device)
        return self if there == self.device else replace(self, module=copy.deepcopy(self.module).to(there))

    def probe(self) -> Tensor:
        """An input of seeded noise, for finding layers.

        Returns
        -------
        x : (1, C, height, width)
        """
        return self.normalise(noise((1, self.channels, *self.shape), normal=False).to(self.device))

    def view(self, photo: np.ndarray, kind: Kind = "crop", size: int | tuple[int, int] | None = None) -> View:
        """How this network sees a photo: its usual crop or all of it.

        Parameters
        ----------
        photo : (H, W, 3)
            Only its size matters.
        kind
            "crop", as the network was trained, or "whole", the entire photo.
        size
            The input's shorter side in pixels; None, or the classifier's own size, takes its usual input.

        Returns
        -------
        view : View

        Raises
        ------
        ModelError
            For another kind, or a size that is too small.
        """
        own = min(self.shape)
        usual = size is None or (isinstance(size, tuple) and size == self.size)
        side = own if usual else as_side(size)
        if kind == "whole":
            return View.whole(photo.shape[:2], side)
        if kind != "crop":
            hint = near(kind, ("crop", "whole")) if isinstance(kind, str) else ""
            raise ModelError(
                f"view={kind!r}: must be 'crop', as the network was trained, or 'whole', the entire photo.{hint}"
            )

        def scaled(pixels: int) -> int:
            return round(pixels * side / own)

        high, wide = self.shape
        resize = self.resize
        resized = scaled(resize) if isinstance(resize, int) else (scaled(resize[0]), scaled(resize[1]))
        return View.crop(photo.shape[:2], resized, (scaled(high), scaled(wide)))

    def preprocess(self, photo: np.ndarray, view: View) -> Tensor:
        """Convert a photo, seen through a view, to the network's input.

        Parameters
        ----------
        photo : (H, W, 3) uint8, RGB
        view
            From `Classifier.view`.

        Returns
        -------
        x : (1, C, h, w)
            Normalised, on the network's device.

        Raises
        ------
        ImageError
            If the network takes neither one nor three channels.
        """
        if self.channels not in (1, 3):
            raise ImageError(
                f"{self.name} takes {self.channels} channels, but a photo has 3: pass a prepared tensor "
                f"({self.channels}, H, W)."
            )
        (height, width), (top, left), (h, w) = view.resized, view.offset, view.size
        image = Image.fromarray(photo) if self.channels == 3 else Image.fromarray(photo).convert("L")
        image = image.resize((width, height), RESAMPLE[self.interpolation])
        window = np.array(image.crop((left, top, left + w, top + h))).reshape(h, w, self.channels)
        x = torch.from_numpy(window).to(self.device).permute(2, 0, 1)[None]
        return self.normalise(x.float() / 255)

    def normalise(self, x: Tensor) -> Tensor:
        """(x - mean) / std, in the type of the network's weights.

        Parameters
        ----------
        x : (B, C, H, W)
            Pixels from 0 to 1.

        Returns
        -------
        x : (B, C, H, W)
        """
        mean, std = (x.new_tensor(v)[:, None, None] for v in (self.mean, self.std))
        return ((x - mean) / std).to(dtype_of(self.module))

    def index(self, target: Target) -> int:
        """The index of a class.

        Parameters
        ----------
        target
            An index, or a label; case is ignored.

        Returns
        -------
        index : int

        Raises
        ------
        TargetError
            If there is no such class; it suggests similar labels.
        """
        return class_index(target, len(self.labels), self.labels, self.name)

    def choose(self, targets: Any) -> Chosen:
        """The class indices of one target or several.

        Parameters
        ----------
        targets
            What `index` takes, or a list, tuple, 1-d tensor or array of these.

        Returns
        -------
        chosen : Chosen
            The indices, and whether this was a single target.

        Raises
        ------
        TargetError
            If there is no such class.
        """
        return choose(targets, len(self.labels), self.labels, self.name)

    def check_scores(self, x: Tensor) -> None:
        """Check that scores fit what `load_model` learned about the network.

        Parameters
        ----------
        x : (B, K)
            Scores, with or without their graph.

        Raises
        ------
        ModelError
            If the network has other outputs than when it was loaded.
        """
        if x.shape[1] != len(self.labels):
            raise ModelError(
                f"{self.name} now gives {x.shape[1]} scores but has {len(self.labels)} labels: its last layer or its "
                "labels were changed. Call load_model again, with the current network's labels."
            )
        low, high = x.detach().min().item(), x.detach().max().item()
        if self.activation == "identity" and (low < -1e-3 or high > 1.001):
            raise ModelError(
                f"{self.name} gives scores from {low:.2f} to {high:.2f}, but its activation is 'identity', which means "
                "that they are probabilities. Call load_model again, with the network as it is now."
            )
        if self.activation not in ("identity", None) and x.requires_grad and (own := own_activation(x)):
            raise ModelError(
                f"{self.name} ends in its own {own}, so its outputs already are probabilities, but its activation "
                f"{self.activation!r} takes them for logits. Call load_model again, with the network as it is now."
            )


def load_model(
    model: str | nn.Module = zoo.BUNDLED,
    *,
    labels: Sequence[str] | Mapping[int, str] | None = None,
    size: int | tuple[int, int] | None = None,
    resize: int | tuple[int, int] | Literal["auto"] | None = "auto",
    interpolation: Any = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    activation: Activation = "auto",
    output: Output | None = None,
    device: str | torch.device | None = None,
) -> Classifier:
    """Load or wrap a network, so that it can be explained.

    Parameters
    ----------
    model
        `"efficientnet_lite0"` (its weights come with the installation), any torchvision classifier such as
        `"resnet50"`, `"timm/NAME"`, or your own module. All options except device and output describe your own module;
        a named network brings its own settings.
    labels
        The class names in order, or an index → name mapping such as Hugging Face's `config.id2label`.
    size
        Side of the input in pixels, 224 by default, or (height, width) for a network with such an input.
    resize
        The shorter side of the photo before its centre is cut out, or (height, width) for a resize that ignores the
        proportions. None makes it equal to size, so that only the longer side is cut. The default is 256 / 224 of the
        size, as in torchvision's recipe, and None below 128 pixels or for a size (height, width), to which the entire
        photo is then resized.
    interpolation
        The resize filter: "bilinear" (the default), "bicubic", … or a torchvision or Pillow constant.
    mean, std
        What the normalisation subtracts and divides by, for pixels from 0 to 1; one number, or one for each channel.
        ImageNet's by default.
    activation
        "softmax" (the default for two or more scores), "sigmoid" for multi-label networks (the default for a single
        score), or None if the scores have no probabilities, as in a regression. If a network ends in its own softmax or
        sigmoid, this is detected, and its outputs are the probabilities. "identity" says that they are where this is
        not detected. If scores stay between 0 and 1 (or below 0, as log-probabilities do) for any input, and the
        network's end does not say what they are, a `CamWarning` asks you to choose, and there are no probabilities
        until you do.
    output
        A function that turns the network's output into scores (B, K), such as `lambda y: y.logits`, `lambda y:
        y["out"].mean((2, 3))` for a segmentation, or the dot products of an image embedding with the embeddings of
        prompts.
    device
        None leaves a module where it is, and puts a named network on the CPU.

    Returns
    -------
    clf : Classifier

    Raises
    ------
    ModelError
        For options that do not fit, or if the weights are not available; the error then says what works instead.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    >>> load_model(net, labels=["cat", "dog"], size=64).labels
    ('cat', 'dog')
    """
    recipe = (labels, size, interpolation, mean, std)
    if isinstance(model, nn.Module):
        clf = _own(model, labels, size, resize, interpolation, mean, std, activation, output)
    elif not isinstance(model, str):
        raise ModelError(f"A model is a name or a torch.nn.Module, not {type(model).__name__}.")
    elif (resize, activation) != ("auto", "auto") or any(option is not None for option in recipe):
        raise ModelError(
            f"{model!r} brings its own labels, size, resize, interpolation, mean, std and activation; these options "
            "are for your own module. To change one of them, use dataclasses.replace(clf, …)."
        )
    else:
        clf = Classifier(*zoo.build(model), output=output)
    return clf if device is None else clf.to(device)


def as_device(device: str | torch.device) -> torch.device:
    """A device that this machine has. For any other, a `ModelError` says what to use instead.

    >>> as_device("cpu")
    device(type='cpu')
    """
    try:
        wanted = torch.device(device)
    except (RuntimeError, TypeError) as e:
        raise ModelError(f"No device {device!r}: use 'cpu', 'cuda' or 'mps'.") from e
    if wanted.type == "cuda" and not torch.cuda.is_available():
        raise ModelError("device='cuda': PyTorch finds no CUDA device on this machine; use device='cpu'.")
    if wanted.type == "mps" and not torch.backends.mps.is_available():
        raise ModelError("device='mps': PyTorch finds no Apple GPU on this machine; use device='cpu'.")
    try:
        torch.empty(0, device=wanted)
    except Exception as e:  # each backend raises its own errors
        raise ModelError(
            f"device={str(device)!r}: PyTorch cannot use it on this machine ({first_line(e)}); use device='cpu'."
        ) from e
    if wanted.index is None and wanted.type in ("cuda", "mps"):  # add the index, as in tensor.device
        return torch.device(wanted.type, torch.cuda.current_device() if wanted.type == "cuda" else 0)
    return torch.device("cpu") if wanted.type == "cpu" else wanted


def as_side(size: Any) -> int:
    """Check a side in pixels. Raises `ModelError` for anything else."""
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < SMALLEST:
        raise ModelError(f"size={size!r}: the side of the input is a whole number of pixels, at least {SMALLEST}.")
    return int(size)


def as_size(size: Any) -> int | tuple[int, int]:
    """Check the size of an input: its side, or (height, width), in pixels. Raises `ModelError` for anything else."""
    if not isinstance(size, (tuple, list, torch.Size)):
        return as_side(size)
    if len(size) != 2:
        raise ModelError(f"size={size!r}: must be the side of the input in pixels, or (height, width).")
    height, width = (as_side(side) for side in size)
    return height if height == width else (height, width)


def _own(
    module: nn.Module,
    labels: Any,
    size: Any,
    resize: Any,
    interpolation: Any,
    mean: Any,
    std: Any,
    activation: Any,
    output: Output | None,
) -> Classifier:
    check_network(module)
    module = getattr(module, "_orig_mod", module)  # unwraps torch.compile, see camlib.network.forward
    _check_output(output)
    own_size = as_size(224 if size is None else size)
    means, stds = (None if v is None else _numbers(what, v) for what, v in (("mean", mean), ("std", std)))
    _check_normalisation(means, stds)
    name = type(module).__name__
    x, logits = _first_scores(module, own_size, size is None, means, stds, output)
    channels, count = x.shape[1], logits.shape[1]
    default_mean, default_std = _defaults(channels)
    clf = Classifier(
        module,
        class_names(labels, count),
        name,
        own_size,
        resize,
        interpolation,
        default_mean if means is None else means,
        default_std if stds is None else stds,
        check_activation(activation, own_activation(logits), name, count),
        output,
        channels,
    )
    kind = unclear(logits) if clf.activation == "auto" else None
    if kind is None or not _stays_within(kind, module, x, output):
        return clf
    warnings.warn(unclear_warning(name, kind), CamWarning, stacklevel=3)
    return replace(clf, activation=None)


def _stays_within(kind: Unclear, module: nn.Module, x: Tensor, output: Output | None) -> bool:
    """Whether the scores stay in their range for extreme inputs, too. Unbounded logits would leave it."""
    for factor in EXTREMES:
        try:
            with torch.no_grad(), untouched(module):
                if not within(scores(module, x * factor, output), kind):
                    return False
        except ModelError:
            pass  # the network may refuse such inputs
    return True


def _first_scores(
    module: nn.Module,
    size: int | tuple[int, int],
    default_size: bool,
    means: Any,
    stds: Any,
    output: Output | None,
) -> tuple[Tensor, Tensor]:
    """An input of noise (1, C, height, width) that the network takes, and its scores, with their graph."""
    given = [len(v) for v in (means, stds) if v is not None and len(v) > 1]
    first = next((m.in_channels for m in module.modules() if isinstance(m, nn.Conv2d)), 3)
    height, width = (size, size) if isinstance(size, int) else size
    failure: ModelError | None = None
    for channels in dict.fromkeys([*given, 3, first, 1]):
        x = noise((1, channels, height, width)).to(device_of(module), dtype_of(module))
        try:
            with untouched(module):
                return x, scores_in_graph(module, x, output)
        except ModelError as e:
            if e.__cause__ is None:
                raise  # the network ran: the problem is its output
            failure = failure or e
    assert failure is not None
    size_of_input = ("size", "shape", "dimension", "match", "multiplied", "smaller")
    if default_size and any(word in str(failure).lower() for word in size_of_input) and " camlib " not in str(failure):
        raise ModelError(
            f"{failure} If the network takes inputs of another size, pass size=… or size=(height, width)."
        ) from failure
    raise failure


def _check_output(output: Any) -> None:
    if output is not None and not callable(output):
        raise ModelError(f"output= must be a function from the network's output to scores (B, K), not {output!r}.")


def _numbers(what: str, values: Any) -> tuple[float, ...]:
    if isinstance(values, (Tensor, np.ndarray)):
        values = values.tolist()
    if isinstance(values, Real):
        values = (values,)
    try:
        numbers = tuple(float(v) for v in values)
    except (TypeError, ValueError) as e:
        raise ModelError(f"{what} must be a number, or one number for each channel; got {values!r}.") from e
    if not numbers or not np.isfinite(numbers).all():
        raise ModelError(f"{what} must be a finite number, or one for each channel; got {values!r}.")
    return numbers


def _check_normalisation(mean: tuple[float, ...] | None, std: tuple[float, ...] | None) -> None:
    if std is not None and min(std) <= 0:
        raise ModelError(f"std={std!r}: numbers above 0 are needed.")
    if max(map(abs, mean or (0,))) > 1.5 or max(std or (1,)) > 1.5:
        raise ModelError(
            f"mean={mean!r}, std={std!r}: must be for pixels from 0 to 1. If yours are for pixels from 0 to 255, "
            "divide them by 255."
        )


def _defaults(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if channels == 3:
        return IMAGENET_MEAN, IMAGENET_STD
    return GRAY_MEAN, GRAY_STD


def _resize(resize: Any, size: int | tuple[int, int]) -> int | tuple[int, int]:
    pair = isinstance(resize, Iterable) and not isinstance(resize, str)
    resize = tuple(resize) if pair else resize
    if resize == "auto" and isinstance(size, int) and size >= SMALL_PICTURES:
        return round(size * 256 / 224)
    if resize in (None, "auto"):
        return size
    sides: tuple[Any, ...] = resize if pair else (resize,)
    whole = all(isinstance(v, (int, np.integer)) and not isinstance(v, bool) and v >= 1 for v in sides)
    if not whole or (pair and len(sides) != 2):
        raise ModelError(f"resize={resize!r}: must be the pixels of the shorter side, (height, width), or None.")
    return (int(sides[0]), int(sides[1])) if pair else int(sides[0])


def _interpolation(kind: Any) -> str:
    if kind is None:
        return "bilinear"
    if isinstance(kind, int) and not isinstance(kind, bool) and kind in list(Image.Resampling):
        return Image.Resampling(kind).name.lower()  # Pillow's constants, as in Hugging Face's `resample`
    name = str(getattr(kind, "value", kind)).lower()
    if name not in RESAMPLE:
        raise ModelError(f"interpolation={kind!r}: must be one of {', '.join(RESAMPLE)}.{near(name, RESAMPLE)}")
    return name
