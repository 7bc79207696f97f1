"""A program of somebody else who uses camlib with a strict type checker; tests/test_package.py checks it."""

from contextlib import suppress
from pathlib import Path
from typing import assert_type

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

import camlib
from camlib import (
    METHODS,
    Classifier,
    Explanation,
    Explorer,
    Head,
    Method,
    Prediction,
    View,
    explain,
    explain_all,
    load_model,
    place,
    receptive_field_offset,
    register,
    to_html,
)
from camlib.evidence import ViewResult
from camlib.images import from_pil


def formula(A: Tensor, G: Tensor) -> Tensor:
    return (A * G).sum(1)


def networks(net: nn.Module) -> Classifier:
    assert_type(load_model(), Classifier)
    assert_type(load_model("resnet50", device="cuda"), Classifier)
    id2label: dict[int, str] = {0: "cat", 1: "dog"}
    load_model(net, labels=id2label, resize=(224, 224), interpolation=2, mean=0.5, std=[0.5, 0.5, 0.5])
    load_model(net, labels=["cat", "dog"], size=32, activation="sigmoid", output=lambda y: y.logits)
    clf = load_model(net, activation=None, device=torch.device("cpu"))
    assert_type(clf.to("cpu"), Classifier)
    assert_type(clf.head, Head)
    assert_type(clf.index("cat"), int)
    return clf


def images(clf: Classifier, path: Path, frame: np.ndarray, batch: Tensor) -> list[Explanation]:
    assert_type(explain(clf, str(path)), Explanation)
    explain(clf, path, method="grad_cam", layer="conv_head")
    explain(clf, Image.open(path), view="whole")
    explain(clf, from_pil(Image.open(path)), sizes=(224, 320))
    explain(clf, frame, sizes=224)
    explain(clf, batch[0])
    explain_all(clf, [path, frame, batch[0]])
    explain_all(clf, frame[None])
    explain_all(clf, batch, targets=torch.tensor([1, 2]))
    explain_all(clf, batch, targets=["cat", 3])
    return explain_all(clf, batch)


def results(exp: Explanation) -> float:
    assert_type(exp.logits, Tensor)
    assert_type(exp.probabilities, Tensor | None)
    assert_type(exp.top(3), list[Prediction])
    assert_type(exp.prediction("cat").probability, float | None)
    assert_type(exp.map(282), Tensor)
    assert_type(exp.map(["cat", torch.tensor(3), np.int64(5)]), Tensor)
    assert_type(exp.heatmap("cat", offset=receptive_field_offset(exp.classifier)), Tensor)
    assert_type(exp.contrast("cat", 3), Tensor)
    assert_type(exp.maps, Tensor)
    assert_type(exp.bias, Tensor)
    assert_type(exp.view, View)
    assert_type(exp.results, tuple[ViewResult, ...])
    place(exp.map(0), exp.view, (0.5, 0.5))
    return exp.rest("cat") + exp.share("cat") + exp.residual() + exp.largest(["cat", 3])


def pictures(exp: Explanation, net: nn.Module, x: Tensor) -> None:
    exp.overlay("cat", limit=5.0, cmap="PuOr_r")
    assert_type(exp.plot(["cat", 3]), Figure)
    assert_type(exp.compare("cam", "grad_cam", target="cat"), Figure)
    assert_type(exp.save("cat.npz", ["cat", "dog"]), Path)
    assert_type(exp.to_html(Path("cat.html")), Path)
    to_html([exp, exp], names=["a", "b"])
    Explorer(exp)
    assert_type(register("of_our_own", formula, unit="evidence"), Method)
    assert_type(METHODS["cam"].additive, bool)
    assert_type(camlib.grad_cam(net, x, [1, 2], layer="layer4"), Tensor)
    assert_type(camlib.find_feature_layer(net, x), str)
    with camlib.capture(net, "layer4") as captured:
        net(x)
    assert_type(captured["layer4"], Tensor)
    assert_type(camlib.evaluate.iou((0, 0, 1, 1), (0, 0, 2, 2)), float)
    assert_type(camlib.sanity.centre_map((7, 7)), Tensor)
    camlib.shapes.pictures(2, seed=0)
    assert_type(camlib.__version__, str)
    with suppress(camlib.ImageError):
        camlib.read_image("missing.jpg")


def what_a_type_checker_refuses(clf: Classifier, exp: Explanation, net: nn.Module) -> None:
    explain(clf, 5)  # type: ignore[arg-type]
    explain(net, "cat.jpg")  # type: ignore[arg-type]
    explain(clf, "cat.jpg", view="hole")  # type: ignore[arg-type]
    explain(clf, "cat.jpg", device="cuda")  # type: ignore[call-arg]
    load_model(net, activation="relu")  # type: ignore[arg-type]
    exp.map(1.5)  # type: ignore[arg-type]
    exp.top("3")  # type: ignore[arg-type]
    exp.sights  # type: ignore[attr-defined]  # noqa: B018
    camlib.nonsense  # type: ignore[attr-defined]  # noqa: B018
