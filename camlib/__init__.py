"""Class activation maps that are verified: `mean(map_k) + b[k] == logit_k`, or an error that says why not.

>>> import camlib
>>> clf = camlib.load_model()
>>> exp = camlib.explain(clf, camlib.read_image("data/photos/cat.jpg"))
>>> exp.top(1)[0].label
'tiger cat'
>>> exp.residual() < 1e-4
True
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from camlib.cam import class_activation_maps, contrast, residual
    from camlib.errors import CamError, HeadError, ImageError, LayerError, ModelError, TargetError
    from camlib.explain import Explanation, Prediction, explain, explain_all
    from camlib.explorer import Explorer, to_html
    from camlib.geometry import View, place, upsample
    from camlib.gradcam import grad_cam, grad_cam_plus_plus, hires_cam, layer_cam, score_cam
    from camlib.heads import Head, find_head
    from camlib.hooks import capture
    from camlib.images import read_image
    from camlib.models import Classifier, load_model
    from camlib.plot import overlay, show

_HOME = {
    "cam": ("class_activation_maps", "contrast", "residual"),
    "errors": ("CamError", "HeadError", "ImageError", "LayerError", "ModelError", "TargetError"),
    "explain": ("Explanation", "Prediction", "explain", "explain_all"),
    "explorer": ("Explorer", "to_html"),
    "geometry": ("View", "place", "upsample"),
    "gradcam": ("grad_cam", "grad_cam_plus_plus", "hires_cam", "layer_cam", "score_cam"),
    "heads": ("Head", "find_head"),
    "hooks": ("capture",),
    "images": ("read_image",),
    "models": ("Classifier", "load_model"),
    "plot": ("overlay", "show"),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}
__all__ = sorted(_MODULE)


def __getattr__(name: str) -> object:
    # Importing camlib stays light: torch, timm and matplotlib come with the first name that needs them.
    if name not in _MODULE:
        raise AttributeError(f"module 'camlib' has no attribute {name!r}")
    value = getattr(import_module(f"camlib.{_MODULE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


class _Package(ModuleType):
    def __setattr__(self, name: str, value: object) -> None:
        # `explain` is a function and a submodule; importing the submodule would put it in the function's place.
        super().__setattr__(name, value.explain if name == "explain" and isinstance(value, ModuleType) else value)


sys.modules[__name__].__class__ = _Package
