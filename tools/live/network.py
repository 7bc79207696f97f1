"""A classifier with an exact head, as the files that a page needs to draw its maps without Python.

    network.onnx     x (1, 3, H, W) float32 -> features (1, C, h, w) and logits (1, K)
    classifier.bin   the classifier's weights (K, C) as little-endian float16, row by row
    network.json     labels, recipe and bias; it says which files network.onnx reads beside itself

Weights are stored in half precision and computed with in single precision: a Cast stands behind each. The logits are
mean(features) · weights + bias with the numbers of classifier.bin, which network.onnx reads from that same file. So the
page's maps are made of what the logits are made of, and nothing is stored twice.

torch.onnx.export traces the network for one size. Tracing it for another one as well shows whether the size is anywhere
in the graph. Where it is, as in a Swin transformer with its windows, the network is stored for its own size only. (To
trace with symbolic sizes instead takes minutes, twenty times as long, and also fails for some networks.)
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from camlib.errors import ModelError, first_line, optional
from camlib.heads import Head
from camlib.hooks import capture
from camlib.models import Classifier
from camlib.network import noise
from camlib.outputs import as_scores

Files = dict[str, bytes]
"""The content of each file, by its name."""

MULTIPLE = 32  # the sides of a network that takes any size: what camlib.views.MULTIPLE makes of a photo seen as a whole
LARGE = 4096  # numbers: smaller tensors gain nothing from half precision
FILTERS = ("bilinear", "bicubic")  # those that the page can compute as Pillow does
NETWORK, WEIGHTS, DESCRIPTION = "network.onnx", "classifier.bin", "network.json"
NAMES = {"efficientnet_lite0": "EfficientNet-Lite0"}


def exported(clf: Classifier, step: Callable[[str], object] = lambda what: None) -> Files:
    """The three files of a classifier; the same bytes for the same classifier and packages.

    step: is called before each part of the work, which takes about ten seconds in all, with what it is.

    Raises `HeadError` if the network has no exact class activation map, and `ModelError` if the page could not prepare
    its pictures, or PyTorch cannot export it.
    """
    _check_recipe(clf)
    step("finding the head")
    clf = clf.to("cpu")
    head = clf.head
    weights = _half(head.weight.float().numpy())
    if weights is None:
        raise ModelError(f"The classifier of {clf.name} has weights beyond 65504, which half precision cannot store.")
    features = _Features(clf, head)
    height, width = clf.shape
    sizes = [(height, width)]
    if height % MULTIPLE == width % MULTIPLE == 0:
        sizes.append((height + MULTIPLE, width + 2 * MULTIPLE))
    graphs = []
    for number, size in enumerate(sizes, 1):
        step(f"exporting, {number} of {len(sizes)}")
        graphs.append(_traced(features, size))
    any_size = len(graphs) > 1 and graphs[0].graph.SerializeToString() == graphs[1].graph.SerializeToString()
    step("storing in half precision")
    bias = head.bias.float().numpy()
    return {
        NETWORK: _finished(graphs[0], weights, bias, sizes[0], any_size),
        WEIGHTS: weights.tobytes(),
        DESCRIPTION: description(clf, head, MULTIPLE if any_size else None),
    }


def description(clf: Classifier, head: Head, multiple: int | None) -> bytes:
    """The text of network.json. multiple: of the sides that the network takes; None if it only takes its own size."""
    every = {"mean": clf.mean, "std": clf.std}
    said = {
        "name": clf.name,
        "by_name": clf.name != type(clf.module).__name__,  # whether camlib.load_model(name) makes it
        "network": NAMES.get(clf.name, clf.name),
        "labels": list(clf.labels),
        **{what: list(values * 3 if len(values) == 1 else values) for what, values in every.items()},
        "size": clf.size,
        "resize": clf.resize,
        "interpolation": clf.interpolation,
        "antialias": True,  # Pillow's resize always is
        "multiple": multiple,
        "scores": _scores(clf),
        "channels": head.weight.shape[1],
        "of_this_photo": head.of_this_photo,  # then maps of two photos have different units
        "bias": [float(value) for value in head.bias.float()],
        "files": {"network": NETWORK, "weights": WEIGHTS},
        "external": [{"path": WEIGHTS}],  # what ONNX Runtime Web has to be given beside the network, as `externalData`
    }
    return (json.dumps(said, ensure_ascii=False, indent=1) + "\n").encode()


def _scores(clf: Classifier) -> str | None:
    """How the page turns logits into probabilities: softmax, sigmoid, or not at all."""
    if clf.activation == "auto":
        return "softmax" if len(clf.labels) > 1 else "sigmoid"
    return None if clf.activation == "identity" else clf.activation


def _check_recipe(clf: Classifier) -> None:
    if clf.channels != 3:
        raise ModelError(f"{clf.name} takes {clf.channels} channels; the page gives a network the three of a photo.")
    if clf.interpolation not in FILTERS:
        raise ModelError(
            f"{clf.name} wants photos resized with {clf.interpolation!r}; the page can only do {' and '.join(FILTERS)}."
        )


class _Features(nn.Module):
    """The network as far as its head reads it: x (1, 3, H, W) -> features (1, C, h, w)."""

    def __init__(self, clf: Classifier, head: Head) -> None:
        super().__init__()
        self.net = copy.deepcopy(clf.module).float().eval().requires_grad_(False)
        self.clf, self.head = clf, head

    def forward(self, x: Tensor) -> Tensor:
        return self.both(x)[0]

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The features, and the network's own logits (1, K)."""
        head = self.head
        with capture(self.net, head.layer, inputs=head.inputs, call=head.call) as captured:
            logits = as_scores(self.net(x), len(x), self.clf.name, self.clf.output)
        return head.features(captured[head.layer]), logits

    def check(self, x: Tensor) -> None:
        """Raise `HeadError` if on this input the head does not give the network's own logits."""
        with torch.no_grad():
            self.head.verify(*self.both(x))


def _traced(features: _Features, size: tuple[int, int]) -> Any:
    """The ONNX model of the features for one size, without anything that speaks of this machine or this size."""
    for package in ("onnx", "onnxscript"):
        optional(package, "python3 run.py live")
    x = features.clf.normalise(noise((1, 3, *size), normal=False)).float()
    features.check(x)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what the exporter does inside itself
            program = torch.export.export(features, (x,), strict=False)
            found = torch.onnx.export(program, (), input_names=["x"], output_names=["features"], verbose=False)
    except Exception as e:  # a network may do anything, and the exporter has many errors of its own
        raise ModelError(f"PyTorch cannot export {features.clf.name} to ONNX: {first_line(e)}") from e
    assert found is not None  # as no file was named
    model = found.model_proto
    del model.graph.value_info[:]
    _clean(model)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.ClearField("shape")
    return model


def _clean(message: Any) -> None:
    """Remove notes from a protobuf message and all that is in it: stack traces, names of files, the exporter's logs."""
    for name in ("doc_string", "metadata_props"):
        if name in message.DESCRIPTOR.fields_by_name:
            message.ClearField(name)
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if field.is_repeated else [value]:
                _clean(part)


def _finished(model: Any, weights: np.ndarray, bias: np.ndarray, size: tuple[int, int], any_size: bool) -> bytes:
    """The file: the features' graph in half precision, and what makes logits of them."""
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        full = numpy_helper.to_array(tensor)
        half = _half(full) if full.size >= LARGE else None
        if half is not None:
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
            casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))

    classes, channels = weights.shape
    external = TensorProto(name="head.weight.half", dims=weights.shape, data_type=TensorProto.FLOAT16)
    external.data_location = TensorProto.EXTERNAL
    for key, value in {"location": WEIGHTS, "offset": 0, "length": weights.nbytes}.items():
        external.external_data.add(key=key, value=str(value))
    axes = numpy_helper.from_array(np.array([2, 3], np.int64), "head.axes")
    graph.initializer.extend([external, numpy_helper.from_array(bias, "head.bias"), axes])
    casts.append(helper.make_node("Cast", ["head.weight.half"], ["head.weight"], to=TensorProto.FLOAT))
    end = [
        helper.make_node("ReduceMean", ["features", "head.axes"], ["means"], keepdims=0),
        helper.make_node("Gemm", ["means", "head.weight", "head.bias"], ["logits"], transB=1),
    ]
    nodes = [*casts, *graph.node, *end]
    for number, node in enumerate(nodes):
        node.name = f"{node.op_type}_{number}"
    del graph.node[:]
    graph.node.extend(nodes)

    high, wide = ("H", "W") if any_size else size
    shapes = {"x": [1, 3, high, wide], "features": [1, channels, "h", "w"], "logits": [1, classes]}
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()}
    del graph.input[:], graph.output[:]
    graph.input.append(values["x"])
    graph.output.extend([values["features"], values["logits"]])
    graph.name = "camlib"
    return model.SerializeToString(deterministic=True)


def _half(values: np.ndarray) -> np.ndarray | None:
    """Little-endian float16, or None where the numbers do not fit in."""
    largest = np.finfo(np.float16).max
    return values.astype("<f2") if np.isfinite(values).all() and np.abs(values).max(initial=0) <= largest else None
