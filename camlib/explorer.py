"""The live explorer in JupyterLab: the page of `camlib.page`, plus your own photos, other networks and methods."""

import html
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import RLock
from typing import Any

import numpy as np

from camlib.errors import CamError, first_line
from camlib.evidence import ClassMaps
from camlib.explanation import Explanation
from camlib.images import decode
from camlib.methods import METHODS
from camlib.models import Classifier
from camlib.page import EXPLORER_TYPE, FEW, frame, page_of
from camlib.pipeline import explain

NETWORKS = ("efficientnet_lite0", "resnet50", "mobilenet_v3_large", "convnext_tiny", "timm/mobilenetv4_conv_small")
EACH_ITS_OWN = "each photo's own"
LIVE = (
    4  # ipywidgets keeps every widget for ever; so that their networks are freed, only the newest explorers stay live
)


class Explorer:
    """The live explorer in JupyterLab: the page, with controls above it for your own photos, networks and methods.

    Needs ipywidgets and a running kernel; `to_html` writes a page that needs neither.

    If you change the method, each photo keeps its network, views and layer. If you change the network, each photo keeps
    only its kind of view, crop or whole. The four newest explorers are live. An older one keeps its page, but releases
    its networks and loses its controls: run its cell again. `close`, or the end of a `with` block, removes an explorer.

    Parameters
    ----------
    exps
        One `Explanation` or several.
    names
        The names of their photos.

    Raises
    ------
    CamError
        For wrong arguments, as in `to_html`, or if ipywidgets is not installed.

    Examples
    --------
    >>> from camlib import explain, load_model
    >>> Explorer(explain(load_model(), np.full((240, 320, 3), 128, np.uint8)), names=["gray.png"])
    Explorer(gray.png by efficientnet_lite0, cam)
    """

    def __init__(self, exps: Explanation | Sequence[Explanation], names: Sequence[str] | None = None) -> None:
        try:
            import ipywidgets as w
        except ImportError as e:
            raise CamError("Explorer needs ipywidgets (pip install ipywidgets); exp.to_html(path) does not.") from e
        self._shown = [exps] if isinstance(exps, Explanation) else list(exps)
        page = page_of(self._shown, names)
        self.names = list(names or (f"photo {n}" for n in range(1, len(self._shown) + 1)))
        self._sources: list[Explanation | np.ndarray] = [*self._shown]  # an upload is only a photo
        networks = {id(exp.classifier): exp.classifier for exp in self._shown}.values()
        by_name = {clf.name: clf for clf in networks}
        self._own = next(iter(by_name)) if len(by_name) == 1 else EACH_ITS_OWN
        called = [clf.name for clf in networks]
        self._classifiers = {name: clf for name, clf in by_name.items() if called.count(name) == 1}
        options = list(dict.fromkeys([self._own, *self._classifiers, *NETWORKS]))
        self._now = (self._own, self._shown[0].method)
        self._lock = RLock()

        wide = {"style": {"description_width": "initial"}}
        self._upload = w.FileUpload(accept="image/*", multiple=True, description="Your photo")
        self._network = w.Combobox(
            value=self._own, options=options, description="Network", continuous_update=False, **wide
        )
        self._method = w.Dropdown(value=self._now[1], options=list(METHODS), description="Method", **wide)
        self._status = w.HTML()
        self._page = w.HTML(_in_div(page), layout=w.Layout(width="100%"))
        self._upload.observe(self._uploaded, "value")
        self._network.observe(self._changed, "value")
        self._method.observe(self._changed, "value")
        row = w.HBox([self._upload, self._network, self._method], layout=w.Layout(flex_flow="row wrap", grid_gap="8px"))
        self.widget = w.VBox([row, self._status, self._page])
        while len(_live) >= LIVE:
            _live[0]._retire()
        _live.append(self)

    @property
    def explanations(self) -> list[Explanation]:
        """What is shown. Raises `CamError` if the explorer is no longer live."""
        if self not in _live:
            raise CamError(f"This explorer was closed, or {LIVE} newer ones have taken its place: run its cell again.")
        return self._shown

    def __repr__(self) -> str:
        if self not in _live:
            return "Explorer(closed)"
        network, method = self._now
        return f"Explorer({', '.join(self.names)} by {network}, {method})"

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The widget, and a figure with alt text for places where no kernel runs."""
        from camlib.plot import sharp

        if self not in _live:
            return {"text/plain": repr(self)}, {}
        figure = self._shown[0].plot()
        view = self.widget._repr_mimebundle_()["application/vnd.jupyter.widget-view+json"]
        picture, width = sharp(figure)
        network, method = self._now
        data = {
            "text/plain": repr(self),
            "image/jpeg": picture,
            "application/vnd.jupyter.widget-view+json": view,
            EXPLORER_TYPE: {"photos": self.names, "network": network, "method": method},
        }
        return data, {"image/jpeg": {"alt": figure.get_label(), "width": width}}

    # --- close -------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Remove the explorer from the notebook, and release its photos and networks."""
        self._let_go()
        _close(self.widget, *self.widget.children, self._upload, self._network, self._method)

    def __enter__(self) -> "Explorer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _retire(self) -> None:
        """Keep the page, which works without a kernel, but release the photos and networks."""
        self._let_go()
        row, *rest = self.widget.children
        self.widget.children = rest
        _close(row, self._upload, self._network, self._method)
        self._status.value = (
            f"Only the {LIVE} newest explorers are live. For other photos, networks and methods, run this cell again."
        )

    def _let_go(self) -> None:
        for control in (self._upload, self._network, self._method):
            control.unobserve_all()
        self._shown, self._sources, self._classifiers = [], [], {}
        if self in _live:
            _live.remove(self)

    # --- work --------------------------------------------------------------------------------------------------------

    def _uploaded(self, change: Any) -> None:
        files = change["new"]
        if not files:
            return
        self._upload.value = ()  # so that each upload is new, and the same file can be uploaded again
        with self._working() as problems:
            photos, exps, names = [], [], []
            for file in files:
                try:
                    photo = decode(bytes(file["content"]), file["name"])
                    exps.append(self._explain(photo))
                except Exception as e:
                    problems.append(_told(e, file["name"]))
                else:
                    photos.append(photo)
                    names.append(file["name"])
            if exps:
                self._show([*self._shown, *exps], [*self.names, *names], start=len(self._shown))
                self._sources += photos

    def _changed(self, _: Any) -> None:
        wanted = self._network.value.strip(), self._method.value
        if wanted == self._now:
            return
        try:
            with self._working():
                self._show([self._explain(source) for source in self._sources], self.names)
                self._now = wanted
        finally:  # after an error, the fields say again what is shown, and the next upload works
            self._network.value, self._method.value = self._now

    def _explain(self, source: Explanation | np.ndarray) -> Explanation:
        """The explanation by the network and method in the fields. An array gets the first photo's view."""
        name, method = self._network.value.strip(), self._method.value
        like = source if isinstance(source, Explanation) else self._sources[0]
        assert isinstance(like, Explanation)
        clf = like.classifier if name == self._own else self._classifier(name)
        if clf is like.classifier and source is like:
            return like.by(method)
        photo = source.photo if isinstance(source, Explanation) else source
        view, sizes = _view_of(like)
        if clf is not like.classifier:
            return explain(clf, photo, method=method, view=view)
        layer = None if "cam" in (method, like.method) else like.layer
        return explain(clf, photo, method=method, view=view, sizes=sizes, layer=layer)

    def _classifier(self, name: str) -> Classifier:
        from camlib.models import load_model

        if name not in self._classifiers:
            self._classifiers[name] = load_model(name)
        return self._classifiers[name]

    def _show(self, exps: list[Explanation], names: list[str], start: int = 0) -> None:
        if self._method.value == "score_cam" and (passes := sum(map(_passes, exps))):
            self._status.value = (
                f"score_cam needs {passes} forward passes, which can take minutes. To stop it, interrupt the kernel."
            )
        self._page.value = _in_div(page_of(exps, names, start=start))
        self._shown, self.names = exps, names

    @contextmanager
    def _working(self) -> Iterator[list[str]]:
        """Show in the status line that work is in progress, and at the end, the problems, if there were any."""
        problems: list[str] = []
        with self._lock:
            self._status.value = "Working …"
            try:
                yield problems
            except Exception as e:
                problems.append(_told(e))
            except BaseException:
                problems.append("Stopped.")
                raise
            finally:
                self._status.value = "<br>".join(f'<span role="alert">{html.escape(text)}</span>' for text in problems)


_live: deque[Explorer] = deque()  # the oldest first


def _view_of(exp: Explanation) -> tuple[Any, list[int] | None]:
    """How the photo was seen, as the options view= and sizes= of `explain`."""
    if exp.prepared is not None:
        return "crop", None
    sides, clf = [min(r.view.size) for r in exp.results], exp.classifier
    crop = all(r.view == clf.view(exp.photo, "crop", side) for r, side in zip(exp.results, sides, strict=True))
    return "crop" if crop else "whole", None if sides == [min(clf.shape)] else sides


def _passes(exp: Explanation) -> int:
    """How many forward passes score_cam needs for the classes that the page shows."""
    classes = min(FEW, len(exp.logits))
    maps = [(r.maps, r.features.shape[1]) for r in exp.results]
    return sum(n * max(0, classes - len(own.known)) for own, n in maps if isinstance(own, ClassMaps))


def _told(error: Exception, name: str = "") -> str:
    text = str(error) if isinstance(error, CamError) else f"{type(error).__name__}: {first_line(error)}"
    return text if name in text else f"{name}: {text}"


def _close(*widgets: Any) -> None:
    for widget in widgets:
        for part in (getattr(widget, "style", None), widget.layout, widget):
            if part is not None:
                part.close()


def _in_div(page: str) -> str:
    return f"<div>{frame(page)}</div>"
