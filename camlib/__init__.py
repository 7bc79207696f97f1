"""Class activation maps that are verified: `mean(map_k) + b[k] == logit_k`, or an error that says why not.

>>> import camlib, numpy as np
>>> clf = camlib.load_model()
>>> exp = camlib.explain(clf, np.full((240, 320, 3), 128, np.uint8))        # or the path of a photo
>>> exp.residual() < 1e-4
True
"""

from importlib import import_module
from typing import TYPE_CHECKING

from camlib.version import __version__

if TYPE_CHECKING:
    from camlib import evaluate, sanity, shapes
    from camlib.cam import class_activation_maps, contrast, residual
    from camlib.errors import CamError, CamWarning, HeadError, ImageError, LayerError, ModelError, TargetError
    from camlib.explanation import Explanation, Prediction
    from camlib.explorer import Explorer
    from camlib.geometry import receptive_field_offset
    from camlib.gradcam import grad_cam, grad_cam_plus_plus, gradient_map, hires_cam, layer_cam, score_cam
    from camlib.heads import Head, find_head
    from camlib.hooks import capture
    from camlib.images import read_image
    from camlib.layers import find_feature_layer
    from camlib.methods import METHODS, Method, register
    from camlib.models import Classifier, load_model
    from camlib.page import to_html
    from camlib.pipeline import explain, explain_all
    from camlib.plot import overlay, show
    from camlib.views import View, place, upsample

_HOME = {
    "cam": ("class_activation_maps", "contrast", "residual"),
    "errors": ("CamError", "CamWarning", "HeadError", "ImageError", "LayerError", "ModelError", "TargetError"),
    "explanation": ("Explanation", "Prediction"),
    "explorer": ("Explorer",),
    "geometry": ("receptive_field_offset",),
    "gradcam": ("grad_cam", "grad_cam_plus_plus", "gradient_map", "hires_cam", "layer_cam", "score_cam"),
    "heads": ("Head", "find_head"),
    "hooks": ("capture",),
    "images": ("read_image",),
    "layers": ("find_feature_layer",),
    "methods": ("METHODS", "Method", "register"),
    "models": ("Classifier", "load_model"),
    "page": ("to_html",),
    "pipeline": ("explain", "explain_all"),
    "plot": ("overlay", "show"),
    "views": ("View", "place", "upsample"),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}
_SUBMODULES = ("evaluate", "sanity", "shapes")  # used as camlib.evaluate.iou
__all__ = sorted([*_MODULE, *_SUBMODULES, "__version__"])


def __getattr__(name: str) -> object:
    # Importing camlib stays light: torch and matplotlib come with the first name that needs them.
    if name in _MODULE:
        value = getattr(import_module(f"camlib.{_MODULE[name]}"), name)
        globals()[name] = value
        return value
    try:
        return import_module(f"camlib.{name}")  # any other submodule, as after `import camlib.plot`
    except ModuleNotFoundError as e:
        if e.name != f"camlib.{name}":
            raise  # of a package that the submodule needs
    raise AttributeError(f"module 'camlib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
