"""The live explorer in JupyterLab: the page of `camlib.page`, plus your own photos, other networks and methods."""

import html
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from camlib.errors import CamError
from camlib.explanation import Explanation
from camlib.images import decode
from camlib.methods import METHODS
from camlib.page import frame, page_of
from camlib.pipeline import explain

NETWORKS = ("efficientnet_lite0", "resnet50", "mobilenet_v3_large", "convnext_tiny", "timm/mobilenetv4_conv_small")


class Explorer:
    """The live explorer in JupyterLab: the page, with controls above it for your own photos, networks and methods.

    exps: one explanation or several. names: the names of their photos. Needs ipywidgets and a running kernel; `to_html`
    writes a page that needs neither. `explanations` holds what is shown.

    >>> from camlib import explain, load_model
    >>> Explorer(explain(load_model(), np.full((240, 320, 3), 128, np.uint8)), names=["gray.png"])
    Explorer(gray.png by efficientnet_lite0, cam)
    """

    def __init__(self, exps: Explanation | Sequence[Explanation], names: Sequence[str] | None = None) -> None:
        try:
            import ipywidgets as w
        except ImportError as e:
            raise CamError("Explorer needs ipywidgets (pip install ipywidgets); exp.to_html(path) does not.") from e
        self.explanations = [exps] if isinstance(exps, Explanation) else list(exps)
        page = page_of(self.explanations, names)
        self.names = list(names or (f"photo {n}" for n in range(1, len(self.explanations) + 1)))
        first = self.explanations[0]
        wide = {"style": {"description_width": "initial"}}
        self._upload = w.FileUpload(accept="image/*", multiple=True, description="Your photo")
        options = list(dict.fromkeys([first.classifier.name, *NETWORKS]))
        self._network = w.Combobox(
            value=first.classifier.name, options=options, description="Network", continuous_update=False, **wide
        )
        self._method = w.Dropdown(value=first.method, options=list(METHODS), description="Method", **wide)
        self._status = w.HTML()
        self._page = w.HTML(_in_div(page), layout=w.Layout(width="100%"))
        self._classifiers = {first.classifier.name: first.classifier}
        self._upload.observe(self._uploaded, "value")
        self._network.observe(self._changed, "value")
        self._method.observe(self._changed, "value")
        row = w.HBox([self._upload, self._network, self._method], layout=w.Layout(flex_flow="row wrap", grid_gap="8px"))
        self.widget = w.VBox([row, self._status, self._page])

    def __repr__(self) -> str:
        first = self.explanations[0]
        return f"Explorer({', '.join(self.names)} by {first.classifier.name}, {first.method})"

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The widget, and a figure with alt text for places where no kernel runs."""
        from camlib.plot import encode

        figure = self.explanations[0].plot()
        view = self.widget._repr_mimebundle_()["application/vnd.jupyter.widget-view+json"]
        data = {"text/plain": repr(self), "image/jpeg": encode(figure)}
        return data | {"application/vnd.jupyter.widget-view+json": view}, {"image/jpeg": {"alt": figure.get_label()}}

    def _uploaded(self, _: Any) -> None:
        def add() -> None:
            for file in self._upload.value:
                exp = self._explain(decode(bytes(file["content"]), file["name"]), self.explanations[0])
                self.explanations.append(exp)
                self.names.append(file["name"])

        self._try(add, start=-1)

    def _changed(self, _: Any) -> None:
        def replace() -> None:
            self.explanations = [self._explain(exp.photo, exp) for exp in self.explanations]

        self._try(replace, start=0)

    def _explain(self, photo: np.ndarray, like: Explanation) -> Explanation:
        from camlib.models import load_model

        name = self._network.value.strip()
        if name not in self._classifiers:
            self._classifiers[name] = load_model(name)
        clf, method = self._classifiers[name], self._method.value
        if like.prepared is not None and photo is like.photo and clf is like.classifier:
            return explain(clf, like.prepared, method=method)
        whole = like.view.size == like.view.resized and like.view != like.classifier.view(like.photo)
        return explain(clf, photo, method=method, view="whole" if whole and like.prepared is None else "crop")

    def _try(self, work: Callable[[], None], start: int) -> None:
        """Do the work and update the page; on an error, show its message and leave the page as it is."""
        self._status.value = "Working …"
        try:
            work()
            start %= len(self.explanations)
            self._page.value = _in_div(page_of(self.explanations, self.names, start=start))
            self._status.value = ""
        except CamError as e:
            self._status.value = f'<span role="alert">{html.escape(str(e))}</span>'


def _in_div(page: str) -> str:
    return f"<div>{frame(page)}</div>"
