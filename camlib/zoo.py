"""Networks by name, each with its own recipe: the bundled one, torchvision's and timm's."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from camlib.errors import ModelError, first_line, near

BUNDLED = "efficientnet_lite0"
HALF = (0.5, 0.5, 0.5)

Recipe = tuple[nn.Module, tuple[str, ...], str, int, int, str, tuple[float, ...], tuple[float, ...]]
"""Module, labels, name, size, resize, interpolation, mean and std: the first fields of a `Classifier`."""


def build(name: str) -> Recipe:
    """Load a network by name. Raises `ModelError` if there is none, or if its weights are not available."""
    with torch.random.fork_rng(devices=[]):  # building draws random weights; do not disturb the caller's random numbers
        if name == BUNDLED:
            return _bundled()
        return _timm(name.removeprefix("timm/")) if name.startswith("timm/") else _torchvision(name)


def _bundled() -> Recipe:
    from camlib.imagenet import imagenet_labels
    from camlib.lite0 import bundled_network

    return bundled_network(), imagenet_labels(), BUNDLED, 224, 256, "bicubic", HALF, HALF


def _torchvision(name: str) -> Recipe:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        hint = near(name, [BUNDLED, *known])
        raise ModelError(f"No model {name!r}: use {BUNDLED}, a torchvision classifier, or timm/NAME.{hint}")
    weights = models.get_model_weights(name).DEFAULT
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    there = file.is_file()
    module = models.get_model(name, weights=None, **_builder_options(name))
    try:
        module.load_state_dict(weights.get_state_dict(progress=True, check_hash=True))
    except Exception as e:  # for a broken file, torch.load and load_state_dict raise all kinds of errors
        if there:
            raise ModelError(f"The cached weights of {name} are damaged ({first_line(e)}). Delete {file}.") from e
        raise _no_weights(name, e, f"{weights.url} into {file.parent}") from e
    t = weights.transforms()
    recipe = (t.crop_size[0], t.resize_size[0], t.interpolation.value, tuple(t.mean), tuple(t.std))
    return module.eval(), tuple(weights.meta["categories"]), name, *recipe


def _builder_options(name: str) -> dict[str, Any]:
    """Options that let the two networks with an auxiliary classifier load weights without a slow initialisation."""
    if name in ("googlenet", "inception_v3"):
        return {"init_weights": False, "transform_input": True}
    return {}


def _timm(name: str) -> Recipe:
    try:
        import timm
    except ImportError as e:
        raise ModelError(f"timm/{name} needs the package timm. Run: pip install timm") from e
    base = name.split(".")[0]
    if not timm.is_model(base):
        raise ModelError(f"timm has no model {name!r}.{near(base, timm.list_models())}")
    try:
        module = timm.create_model(name, pretrained=True)
    except Exception as e:  # the hub's client raises many errors of its own
        raise _no_weights(f"timm/{name}", e, f"the weights of {name} into the Hugging Face cache") from e
    config = timm.data.resolve_model_data_config(module)
    _, height, width = config["input_size"]
    if height != width or config["crop_mode"] != "center":
        mode = config["crop_mode"]
        raise ModelError(
            f"timm/{name} takes inputs of {height}×{width} with crop mode {mode!r}; camlib only supports a square from "
            "the centre."
        )
    resize = math.floor(height / config["crop_pct"])
    recipe = (height, resize, config["interpolation"], tuple(config["mean"]), tuple(config["std"]))
    return module.eval(), _timm_labels(module), f"timm/{name}", *recipe


def _timm_labels(module: Any) -> tuple[str, ...]:
    import timm

    from camlib.imagenet import imagenet_labels

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
        f"The weights of {name} are not on this machine and cannot be downloaded ({first_line(error)}). On a machine "
        f"with a network connection, load it once and copy {what}. load_model(), which loads {BUNDLED}, works offline."
    )
