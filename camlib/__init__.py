"""Verified class activation maps: either `mean(map_k) + b[k] == logit_k`, or an error that says why not.

>>> import camlib, numpy as np
>>> clf = camlib.load_model()
>>> exp = camlib.explain(clf, np.full((240, 320, 3), 128, np.uint8))        # or the path of a photo
>>> exp.residual() < 1e-4
True
"""

from importlib import import_module
from typing import TYPE_CHECKING

from camlib.version import __version__ as __version__

if TYPE_CHECKING:  # "as" marks a name as public: strict type checkers re-export no others
    from camlib import evaluate as evaluate
    from camlib import sanity as sanity
    from camlib import shapes as shapes
    from camlib.cam import class_activation_maps as class_activation_maps
    from camlib.cam import contrast as contrast
    from camlib.cam import residual as residual
    from camlib.errors import CamError as CamError
    from camlib.errors import CamWarning as CamWarning
    from camlib.errors import HeadError as HeadError
    from camlib.errors import ImageError as ImageError
    from camlib.errors import LayerError as LayerError
    from camlib.errors import ModelError as ModelError
    from camlib.errors import TargetError as TargetError
    from camlib.explanation import Explanation as Explanation
    from camlib.explanation import Prediction as Prediction
    from camlib.explorer import Explorer as Explorer
    from camlib.geometry import receptive_field_offset as receptive_field_offset
    from camlib.gradcam import frozen_cam as frozen_cam
    from camlib.gradcam import grad_cam as grad_cam
    from camlib.gradcam import grad_cam_plus_plus as grad_cam_plus_plus
    from camlib.gradcam import gradient_map as gradient_map
    from camlib.gradcam import hires_cam as hires_cam
    from camlib.gradcam import layer_cam as layer_cam
    from camlib.gradcam import score_cam as score_cam
    from camlib.heads import Head as Head
    from camlib.heads import find_head as find_head
    from camlib.hooks import capture as capture
    from camlib.images import ImageWarning as ImageWarning
    from camlib.images import from_pil as from_pil
    from camlib.images import read_image as read_image
    from camlib.layers import find_feature_layer as find_feature_layer
    from camlib.methods import METHODS as METHODS
    from camlib.methods import Method as Method
    from camlib.methods import register as register
    from camlib.models import Classifier as Classifier
    from camlib.models import load_model as load_model
    from camlib.page import to_html as to_html
    from camlib.pipeline import explain as explain
    from camlib.pipeline import explain_all as explain_all
    from camlib.plot import overlay as overlay
    from camlib.plot import show as show
    from camlib.video import frames as frames
    from camlib.views import View as View
    from camlib.views import place as place
    from camlib.views import upsample as upsample

_HOME = {
    "cam": ("class_activation_maps", "contrast", "residual"),
    "errors": ("CamError", "CamWarning", "HeadError", "ImageError", "LayerError", "ModelError", "TargetError"),
    "explanation": ("Explanation", "Prediction"),
    "explorer": ("Explorer",),
    "geometry": ("receptive_field_offset",),
    "gradcam": ("frozen_cam", "grad_cam", "grad_cam_plus_plus", "gradient_map", "hires_cam", "layer_cam", "score_cam"),
    "heads": ("Head", "find_head"),
    "hooks": ("capture",),
    "images": ("ImageWarning", "from_pil", "read_image"),
    "layers": ("find_feature_layer",),
    "methods": ("METHODS", "Method", "register"),
    "models": ("Classifier", "load_model"),
    "page": ("to_html",),
    "pipeline": ("explain", "explain_all"),
    "plot": ("overlay", "show"),
    "video": ("frames",),
    "views": ("View", "place", "upsample"),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}
_SUBMODULES = ("evaluate", "sanity", "shapes")  # used as camlib.evaluate.iou
__all__ = sorted([*_MODULE, *_SUBMODULES, "__version__"])


if not TYPE_CHECKING:  # otherwise type checkers would accept any name

    def __getattr__(name: str) -> object:
        # Keeps `import camlib` fast: torch and matplotlib are imported only when you first use a name that needs them.
        if name in _MODULE:
            value = getattr(import_module(f"camlib.{_MODULE[name]}"), name)
            globals()[name] = value
            return value
        try:
            return import_module(f"camlib.{name}")  # any other submodule, as after `import camlib.plot`
        except ModuleNotFoundError as e:
            if e.name != f"camlib.{name}":
                raise  # a package that the submodule needs is missing
        raise AttributeError(f"module 'camlib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
