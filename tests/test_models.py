"""Recipes against torchvision, timm and Pillow; labels, outputs and activations of networks of all kinds; devices."""

import copy
import math
from collections import OrderedDict
from dataclasses import dataclass, fields, replace
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification

from camlib import CamError, HeadError, ModelError, TargetError, explain, load_model, to_html
from camlib.models import as_device
from tests.networks import Wrapped, gradients_of, scores_of, tiny

PHOTOS = ["cat.jpg", "grace_hopper.jpg"]  # wide and tall
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def by_hand(image, mean, std):
    """(1, C, H, W): what the network is given, of an image of its size."""
    pixels = torch.from_numpy(np.array(image)).reshape(image.height, image.width, -1).permute(2, 0, 1) / 255
    return ((pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None])[None]


# --- recipes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize(
    ("options", "theirs"),
    [
        ({}, {"crop_size": 224}),
        ({"resize": 232}, {"crop_size": 224, "resize_size": 232}),  # the weights that torchvision calls V2
        (
            {"resize": 232, "interpolation": InterpolationMode.BICUBIC},
            {"crop_size": 224, "resize_size": 232, "interpolation": InterpolationMode.BICUBIC},
        ),
        (
            {"size": 384, "resize": 384, "interpolation": "bicubic", "mean": 0.5, "std": 0.5},
            {
                "crop_size": 384,
                "resize_size": 384,
                "interpolation": InterpolationMode.BICUBIC,
                "mean": (0.5,) * 3,
                "std": (0.5,) * 3,
            },
        ),
        ({"size": 64, "resize": 72}, {"crop_size": 64, "resize_size": 72}),
        ({"size": 64}, {"crop_size": 64, "resize_size": 64}),  # small inputs: nothing cut off but what is not square
        ({"size": 224, "resize": None}, {"crop_size": 224, "resize_size": 224}),
        ({"size": 228, "resize": 225}, {"crop_size": 228, "resize_size": 225}),  # padded with black
    ],
    ids=str,
)
def test_torchvisions_recipe(name, options, theirs):
    clf = load_model(tiny(), **options)
    image = Image.open(f"data/photos/{name}").convert("RGB")
    photo = np.asarray(image)
    x = clf.preprocess(photo, clf.view(photo))
    torch.testing.assert_close(x, ImageClassification(**theirs)(image)[None], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("model", ["resnet18.a1_in1k", "convnext_tiny.fb_in22k_ft_in1k", "tf_efficientnet_lite1"])
def test_timms_recipe(name, model):
    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(model).to_dict())
    side = config["input_size"][1]
    clf = load_model(
        tiny(),
        size=side,
        resize=math.floor(side / config["crop_pct"]),
        interpolation=config["interpolation"],
        mean=config["mean"],
        std=config["std"],
    )
    image = Image.open(f"data/photos/{name}").convert("RGB")
    photo = np.asarray(image)
    theirs = timm.data.create_transform(**config)(image)[None]
    torch.testing.assert_close(clf.preprocess(photo, clf.view(photo)), theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("resample", [0, 1, 2, 3, 4, 5])
def test_hugging_faces_recipe_squashes(name, resample):
    """`ViTImageProcessor`: resized to the input whatever the proportions; `resample` is Pillow's number."""
    clf = load_model(tiny(), size=224, resize=(224, 224), interpolation=resample, mean=[0.5, 0.4, 0.3], std=[0.5] * 3)
    image = Image.open(f"data/photos/{name}").convert("RGB")
    photo = np.asarray(image)
    expected = by_hand(image.resize((224, 224), resample), (0.5, 0.4, 0.3), (0.5,) * 3)
    torch.testing.assert_close(clf.preprocess(photo, clf.view(photo)), expected, atol=1e-6, rtol=0)
    assert clf.view(photo).box == (0, 0, image.width, image.height), "nothing of the photo is cut off"
    exp = explain(clf, photo)
    assert not exp.heatmap(0).isnan().any()
    torch.testing.assert_close(exp.logits, scores_of(clf.module, expected)[0])


def test_a_squashed_map_lies_on_the_unsquashed_photo():
    """A tall photo, half red and half blue: the network's two halves lie on the photo's."""
    net = nn.Sequential(nn.Conv2d(3, 2, 8, 8, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].weight[0, 0] = net[0].weight[1, 2] = 1 / 64  # how red, how blue
        net[3].weight.copy_(torch.eye(2))
    photo = np.zeros((400, 100, 3), np.uint8)
    photo[:200, :, 0] = photo[200:, :, 2] = 255
    clf = load_model(net, labels=["red", "blue"], size=64, resize=(64, 64), mean=0, std=1)
    heat = explain(clf, photo).heatmap(["red", "blue"])
    torch.testing.assert_close(heat[0, :125], torch.ones(125, 100), atol=1e-5, rtol=0)
    torch.testing.assert_close(heat[0, 275:], torch.zeros(125, 100), atol=1e-5, rtol=0)
    torch.testing.assert_close(heat[1], heat[0].flip(0), atol=1e-5, rtol=0)


def test_cifar_sees_its_pictures_whole_and_unchanged():
    mean, std = (0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261)
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    net = tiny(classes=10)
    clf = load_model(net, size=32, mean=mean, std=std)
    expected = by_hand(Image.fromarray(picture), mean, std)
    torch.testing.assert_close(clf.preprocess(picture, clf.view(picture)), expected, atol=1e-6, rtol=0)
    for view in ("crop", "whole"):
        exp = explain(clf, picture, view=view)
        assert exp.view.box == (0, 0, 32, 32)
        torch.testing.assert_close(exp.logits, scores_of(net, expected)[0])
        assert not exp.heatmap(3).isnan().any()


def test_mnist_is_seen_whole_in_one_channel():
    picture = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    net = tiny(channels=1, classes=10)
    clf = load_model(net, size=28, mean=0.1307, std=0.3081)
    assert (clf.channels, clf.mean, clf.std, clf.resize) == (1, (0.1307,), (0.3081,), 28)
    expected = (torch.from_numpy(picture)[None, None] / 255 - 0.1307) / 0.3081
    for view in ("crop", "whole"):
        exp = explain(clf, picture, view=view)
        torch.testing.assert_close(exp.logits, scores_of(net, expected)[0])
        assert exp.residual() < 1e-5
        assert np.array_equal(exp.photo, np.stack([picture] * 3, 2))


@pytest.mark.parametrize("size", [8, 28, 32, 64, 127, 128, 224])
def test_which_networks_see_the_whole_square(size):
    net = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    assert load_model(net, size=size).resize == (size if size < 128 else round(size * 256 / 224))


def test_another_size_keeps_the_share_that_the_crop_leaves(clf, cat):
    view = clf.view(cat, size=448)
    assert (view.size, min(view.resized)) == ((448, 448), 512)
    assert clf.view(cat).box == pytest.approx(view.box, abs=1)
    squash = load_model(tiny(), size=224, resize=(224, 256))
    assert squash.view(cat, size=448).resized == (448, 512)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (None, "bilinear"),
        ("BICUBIC", "bicubic"),
        (InterpolationMode.NEAREST, "nearest"),
        (Image.Resampling.LANCZOS, "lanczos"),
        (Image.BICUBIC, "bicubic"),
        (2, "bilinear"),
    ],
)
def test_interpolations(kind, name):
    assert load_model(tiny(), size=64, interpolation=kind).interpolation == name


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"interpolation": "bicubc"}, "interpolation='bicubc'.*Did you mean: bicubic"),
        ({"interpolation": 99}, "interpolation=99"),
        ({"interpolation": True}, "interpolation=True"),
        ({"interpolation": InterpolationMode.NEAREST_EXACT}, "interpolation="),
        ({"resize": 0}, "resize=0"),
        ({"resize": (224,)}, "shorter side, .height, width., or None"),
        ({"resize": "224"}, "resize='224'"),
        ({"resize": (224, 224.5)}, "resize="),
        ({"mean": (0.5,) * 2}, "mean has 2 numbers.*3 channels"),
        ({"std": (0.5,) * 4}, "std has 4 numbers.*3 channels"),
        ({"std": (1, 1, "x")}, "one number for each channel"),
        ({"mean": "grey"}, "one number for each channel"),
        ({"mean": ()}, "finite number"),
        ({"mean": (float("nan"), 0, 0)}, "finite number"),
        ({"std": (0, 1, 1)}, "numbers above 0"),
        ({"std": -1.0}, "numbers above 0"),
        ({"mean": (123.7, 116.3, 103.5)}, "pixels from 0 to 1.*divide them by 255"),
        ({"std": 58.4}, "divide them by 255"),
        ({"size": 0}, "at least 8"),
        ({"size": -5}, "at least 8"),
        ({"size": "224"}, "at least 8"),
        ({"size": 33.5}, "at least 8"),
        ({"size": True}, "at least 8"),
        ({"labels": "abc"}, "list of names"),
        ({"labels": 3}, "list of names"),
        ({"labels": torch.arange(3)}, "pass a list of strings"),
        ({"labels": ["cat", "dog"]}, "2 labels for a network with 3 outputs"),
        ({"activation": "relu"}, "activation='relu'"),
        ({"activation": 0}, "activation=0"),
        ({"device": "gpu"}, "No device 'gpu'"),
    ],
    ids=str,
)
def test_options_that_do_not_fit(options, says):
    with pytest.raises(ModelError, match=says):
        load_model(tiny(), **{"size": 64} | options)


@pytest.mark.parametrize(
    "mean", [0.1, np.float32(0.1), np.full(3, 0.1), torch.full((3,), 0.1), torch.tensor(0.1), [0.1]]
)
def test_means_of_many_types(mean):
    photo = np.full((64, 64, 3), 255, np.uint8)
    clf = load_model(tiny(), size=64, mean=mean, std=1)
    torch.testing.assert_close(clf.preprocess(photo, clf.view(photo)), torch.full((1, 3, 64, 64), 0.9))


def test_ones_own_network():
    net = tiny().train()
    clf = load_model(net, labels=["cat", "dog", "bee"], size=64, mean=(0.1, 0.2, 0.3), std=(1, 1, 1))
    assert (clf.module is net, clf.labels, clf.size, clf.resize) == (True, ("cat", "dog", "bee"), 64, 64)
    photo = np.full((100, 100, 3), 255, np.uint8)
    x = clf.preprocess(photo, clf.view(photo))
    assert x.shape == (1, 3, 64, 64)
    torch.testing.assert_close(x[0, :, 0, 0], torch.tensor([0.9, 0.8, 0.7]))
    assert load_model(net).labels == ("class 0", "class 1", "class 2")
    assert net.training


def test_ones_own_network_that_cannot_run():
    with pytest.raises(ModelError, match=r"fails on an input of \(1, 3, 64, 64\)") as error:
        load_model(nn.Sequential(nn.Flatten(), nn.Linear(7, 2)), size=64)
    assert "size=" not in str(error.value), "the size was given"
    with pytest.raises(ModelError, match=r"fails on an input of \(1, 3, 224, 224\).*pass size="):
        load_model(nn.Sequential(nn.Flatten(), nn.Linear(7, 2)))
    with pytest.raises(ModelError, match="scores .B, K. are needed.*segmentation"):
        load_model(nn.Conv2d(3, 4, 1))


@pytest.mark.parametrize(("options", "says"), [({"size": 4}, "at least 8"), ({"kind": "half"}, "must be 'crop'")])
def test_wrong_views(clf, cat, options, says):
    with pytest.raises(ModelError, match=says):
        clf.view(cat, **options)


# --- labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [["cat", "dog", "eel"], {2: "eel", 0: "cat", 1: "dog"}])
def test_labels_in_order(labels):
    assert load_model(tiny(), size=64, labels=labels).labels == ("cat", "dog", "eel")


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ({"eel", "cat", "dog"}, "a set, which has no order"),
        ({"eel": 2, "cat": 0, "dog": 1}, r"names to indices.*sorted\(class_to_idx, key=class_to_idx.get\)"),
        ({1: "cat", 2: "dog", 3: "eel"}, "keys 0 to 2"),
        ({0: "cat", 1: "dog"}, "2 labels for a network with 3 outputs"),
        ({}, "0 labels"),
    ],
)
def test_labels_that_would_name_wrong_classes(labels, says):
    with pytest.raises(ModelError, match=says):
        load_model(tiny(), size=64, labels=labels)


def test_the_advice_for_a_mapping_of_names_works():
    class_to_idx = {"eel": 2, "cat": 0, "dog": 1}
    labels = sorted(class_to_idx, key=class_to_idx.get)
    assert load_model(tiny(), size=64, labels=labels).labels == ("cat", "dog", "eel")


def test_targets(clf):
    assert clf.index(282) == clf.index("tiger cat") == clf.index(" Tiger Cat ") == 282
    assert clf.index(np.int64(5)) == clf.index(torch.tensor(5)) == 5
    for wrong, says in {
        "tigre cat": "Did you mean: tiger cat",
        "cat": r"Did you mean: (\w+ )?cat\b.*(tiger|Persian|Siamese) cat|Did you mean: tiger cat",
        "qqqqq": "Examples: tench",
        -1: "No class -1.*0 to 999",
        1000: "No class 1000",
        2.5: "not 2.5",
        True: "not True",
        None: "not None",
    }.items():
        with pytest.raises(TargetError, match=says):
            clf.index(wrong)


def test_a_label_of_two_classes_is_refused():
    clf = load_model(tiny(), size=64, labels=["crane", "dog", "Crane"])
    with pytest.raises(TargetError, match=r"label of the classes \[0, 2\]"):
        clf.index("CRANE")
    assert (clf.index("crane"), clf.index("Crane")) == (0, 2), "the exact case decides"


# --- outputs ---------------------------------------------------------------------------------------------------------


@dataclass
class ImageOutput:
    logits: torch.Tensor
    hidden_states: tuple = ()


class KeyedOutput(OrderedDict):
    """As Hugging Face's ModelOutput: a mapping whose keys are attributes, too."""

    def __getattr__(self, name):
        return self[name]


@pytest.mark.parametrize(
    ("make", "output"),
    [
        (lambda y: ImageOutput(y), None),
        (lambda y: KeyedOutput(logits=y), None),
        (lambda y: {"logits": y, "aux": y * 2}, None),
        (lambda y: SimpleNamespace(scores=y), lambda o: o.scores),
        (lambda y: (y, y * 2), lambda o: o[0]),
        (lambda y: [y * 2, y], lambda o: o[1]),
        (lambda y: {"out": y, "aux": y * 2}, lambda o: o["out"]),
        (lambda y: y[:, :, None, None], lambda o: o.flatten(1)),
    ],
    ids=["object", "model output", "dict with logits", "namespace", "tuple", "list", "dict", "1×1"],
)
def test_whatever_a_network_gives_becomes_scores(cat, make, output):
    net = tiny()
    clf = load_model(Wrapped(net, make), labels=["a", "b", "c"], size=64, output=output)
    x = clf.preprocess(cat, clf.view(cat))
    logits = scores_of(net, x)[0]
    with torch.no_grad():
        features = net[1](net[0](x))[0]
    exp = explain(clf, cat)
    assert torch.equal(exp.logits, logits)
    torch.testing.assert_close(exp.maps, torch.einsum("kc,chw->khw", net[4].weight.detach(), features))
    torch.testing.assert_close(exp.bias, net[4].bias.detach())
    by_gradient = explain(clf, cat, method="hires_cam")
    torch.testing.assert_close(features[0].numel() * by_gradient.map("b"), exp.map("b"), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "advice"),
    [
        (lambda y: (y, y), "output=lambda y: y[0]"),
        (lambda y: {"out": y}, "output=lambda y: y['out']"),
        (lambda y: {"out": y[:, :, None, None].expand(-1, -1, 8, 8)}, "output=lambda y: y['out'].mean((2, 3))"),
        (lambda y: y[:, :, None, None].expand(-1, -1, 8, 8), "output=lambda y: y.mean((2, 3))"),
        (lambda y: y[:, None].expand(-1, 5, -1), "output=lambda y: y.mean(1)"),
    ],
    ids=["tuple", "dict", "dict of maps", "maps", "tokens"],
)
def test_the_advice_for_an_output_works(cat, make, advice):
    """The error names an output= that reads what the network gives."""
    net = Wrapped(tiny(), make)
    with pytest.raises(ModelError, match="scores .B, K. are needed") as error:
        load_model(net, size=64)
    assert f"{advice}" in str(error.value)
    output = eval(advice.removeprefix("output="))
    clf = load_model(net, size=64, output=output)
    torch.testing.assert_close(
        explain(clf, cat, method="grad_cam").logits, output(net(clf.preprocess(cat, clf.view(cat))))[0]
    )


@pytest.mark.parametrize(
    ("output", "says"),
    [
        (lambda y: y.logits, r"output= fails on the output of Sequential \(a tensor \(1, 3\)\): AttributeError"),
        (lambda y: y[0], "output= returns a tensor .3,. for Sequential"),
        (lambda y: y.argmax(1, keepdim=True), "real floating-point numbers"),
        (lambda y: None, "output= returns a NoneType"),
        (lambda y: torch.cat([y, y]), "2 rows of scores for 1 picture"),
        (lambda y: y[:, :0], "no scores"),
    ],
)
def test_outputs_that_are_no_scores(output, says):
    with pytest.raises(ModelError, match=says):
        load_model(tiny(), size=64, output=output)


def test_one_score_for_each_picture(cat):
    net = tiny(classes=1)
    clf = load_model(Wrapped(net, lambda y: y[:, 0]), labels=["pneumonia"], size=64)
    x = clf.preprocess(cat, clf.view(cat))
    (score,) = scores_of(net, x)[0]
    exp = explain(clf, cat)
    assert exp.logits.tolist() == [score.item()]
    assert exp.top(1)[0].probability == pytest.approx(score.double().sigmoid().item())
    assert exp.map("pneumonia").mean() + exp.bias[0] == pytest.approx(score.item(), abs=1e-5)


def test_an_image_embedding_against_prompts(cat):
    """As CLIP: the score is the similarity of the image's embedding with that of a text."""
    net, prompts = tiny(classes=6), ["a photo of a cat", "a photo of a dog"]
    text = F.normalize(torch.randn(2, 6, generator=torch.Generator().manual_seed(1)))
    clf = load_model(net, size=64, labels=prompts, output=lambda e: 100 * F.normalize(e) @ text.T)
    x = clf.preprocess(cat, clf.view(cat))
    embedding = scores_of(net, x)[0]
    expected = 100 * torch.stack([embedding @ t / embedding.norm() for t in text])
    exp = explain(clf, cat, method="grad_cam")
    torch.testing.assert_close(exp.logits, expected)
    torch.testing.assert_close(exp.probabilities, expected.double().softmax(0), atol=1e-4, rtol=0)
    assert exp.top(1)[0].label == prompts[int(expected.argmax())]
    for k in range(2):
        A, G = gradients_of(net, x, exp.layer, lambda e, k=k: 100 * (F.normalize(e) @ text[k])[0])
        torch.testing.assert_close(
            exp.map(prompts[k]), (G.mean((2, 3), keepdim=True) * A).sum(1)[0], rtol=1e-4, atol=1e-5
        )
    with pytest.raises(HeadError, match="frozen"):
        explain(clf, cat)


def segmenter():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU(), nn.Conv2d(8, 3, 1)).eval()


def test_a_segmentation_averaged_over_everything_has_an_exact_map(cat):
    net = segmenter()
    clf = load_model(net, size=64, labels=["sky", "road", "cat"], output=lambda y: y.mean((2, 3)))
    pixels = scores_of(net, clf.preprocess(cat, clf.view(cat)))[0]
    exp = explain(clf, cat)
    torch.testing.assert_close(exp.maps, pixels)
    torch.testing.assert_close(exp.logits, pixels.mean((1, 2)))
    assert torch.equal(exp.bias, torch.zeros(3))


def test_a_segmentation_averaged_over_a_mask(cat):
    net, mask = segmenter(), torch.zeros(16, 16)
    mask[3:9, 5:12] = 1
    clf = load_model(net, size=64, output=lambda y: (y * mask).sum((2, 3)) / mask.sum())
    x = clf.preprocess(cat, clf.view(cat))
    pixels = scores_of(net, x)[0]
    exp = explain(clf, cat, method="hires_cam", layer="2")
    torch.testing.assert_close(exp.logits, pixels[:, 3:9, 5:12].mean((1, 2)))
    torch.testing.assert_close(exp.map(1), pixels[1] * mask / mask.sum())
    assert exp.map(1).sum() == pytest.approx(exp.logits[1].item(), abs=1e-5)
    with pytest.raises(HeadError):
        explain(clf, cat)


def test_the_score_of_a_box(cat):
    """A detector: five numbers for each cell, the last one how sure it is of a box there. The surest is explained."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU(), nn.Conv2d(8, 5, 3, padding=1)).eval()
    detector = Wrapped(net, lambda y: {"boxes": y[:, :4].flatten(2).mT, "scores": y[:, 4].flatten(1)})
    clf = load_model(
        detector,
        size=64,
        labels=["box"],
        activation="sigmoid",
        output=lambda o: o["scores"].amax(1, keepdim=True),
    )
    x = clf.preprocess(cat, clf.view(cat))
    sure = scores_of(net, x)[0, 4]
    exp = explain(clf, cat, method="hires_cam", layer="net.1")
    assert exp.logits.tolist() == [sure.max().item()]
    assert exp.prediction("box").probability == pytest.approx(sure.max().double().sigmoid().item())
    row, column = divmod(int(sure.argmax()), 16)
    with torch.no_grad():
        features = F.pad(net[1](net[0](x))[0], (1, 1, 1, 1))
        around = features[:, row : row + 3, column : column + 3]  # the nine cells that the box's score is made of
        expected = torch.zeros(18, 18)
        expected[row : row + 3, column : column + 3] = (net[2].weight[4] * around).sum(0)
    torch.testing.assert_close(exp.map("box"), expected[1:-1, 1:-1])


# --- activations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "classes", "activation", "expected"),
    [
        (None, 3, "auto", lambda z: z.softmax(0)),
        (None, 3, "softmax", lambda z: z.softmax(0)),
        (None, 3, "sigmoid", torch.sigmoid),
        (None, 3, None, lambda z: None),
        (None, 1, "auto", torch.sigmoid),
        (None, 1, None, lambda z: None),
        (nn.Softmax(1), 3, "auto", lambda z: z),
        (nn.Sigmoid(), 3, "auto", lambda z: z),
        (nn.Sigmoid(), 1, "auto", lambda z: z),
        (nn.Sigmoid(), 3, None, lambda z: None),
        (nn.LogSoftmax(1), 3, "auto", torch.exp),
        (nn.LogSoftmax(1), 3, "softmax", torch.exp),
    ],
)
def test_probabilities_are_right_or_absent(cat, last, classes, activation, expected):
    """Whatever the network's last layer and the caller say; right is what torch makes of the network's own output."""
    net = nn.Sequential(tiny(classes=classes), *[last] * (last is not None))
    clf = load_model(net, size=64, activation=activation)
    exp = explain(clf, cat, method="grad_cam")
    right = expected(scores_of(net, clf.preprocess(cat, clf.view(cat)))[0].double())
    if right is None:
        assert exp.probabilities is None
        assert {p.probability for p in exp.top(classes)} == {None}
    else:
        torch.testing.assert_close(exp.probabilities, right, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("own", "classes"), [(nn.Softmax(1), 3), (nn.Sigmoid(), 3), (nn.Sigmoid(), 1)])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_an_activation_twice_is_refused(own, classes, activation):
    net = nn.Sequential(tiny(classes=classes), own)
    says = (
        "ends in its own {}.*leave out activation=" if classes > 1 or activation == "sigmoid" else "one score is always"
    )
    with pytest.raises(ModelError, match=says.format(type(own).__name__.lower())):
        load_model(net, size=64, activation=activation)


def test_a_lone_score_that_is_no_log_odds_has_no_probability(cat):
    net = tiny(classes=1)
    with torch.no_grad():
        net[4].bias.fill_(58.0)
    exp = explain(load_model(net, labels=["age"], size=64), cat)
    (age,) = exp.logits.tolist()
    assert age > 50
    assert exp.probabilities is None
    assert exp.plot().axes[1].get_title() == f"age, {age:.2f}"


# --- one classifier, many networks -----------------------------------------------------------------------------------


def test_a_changed_network_is_looked_at_again(cat):
    net = tiny()
    clf = load_model(net, size=64)
    before, elsewhere = explain(clf, cat), clf.to("meta")
    first = before.map(0).clone()
    with torch.no_grad():
        net[4].weight.mul_(-1)
    assert torch.equal(before.map(0), first), "an explanation stays what it was"
    assert torch.equal(explain(clf, cat).map(0), -first)
    assert clf.to("meta") is not elsewhere
    net[4] = nn.Linear(4, 3)
    assert explain(clf, cat).residual() < 1e-4


def test_the_head_holds_copies_of_the_weights_as_they_are_now():
    net = tiny()
    clf = load_model(net, size=64)
    head = clf.head
    assert (head.layer, head.classifier) == ("1", "4")
    assert torch.equal(head.weight, net[4].weight)
    before = net[4].weight.detach().clone()
    with torch.no_grad():
        net[4].weight.mul_(3)
    assert torch.equal(head.weight, before)
    assert torch.equal(clf.head.weight, 3 * before)
    head.weight.zero_()
    assert net[4].weight.abs().max() > 0, "the network's own weights are out of reach"


def test_finding_the_head_again_is_one_forward_pass():
    net = tiny()
    calls = []
    net.register_forward_hook(lambda *_: calls.append(1))
    clf = load_model(net, size=64)
    assert clf.head.classifier == "4"
    assert len(calls) > 3
    calls.clear()
    assert clf.head.classifier == "4"
    assert len(calls) == 1


def test_devices(clf):
    assert clf.to("cpu") is clf
    assert clf.to(torch.device("cpu")) is clf
    elsewhere = clf.to("meta")  # a device without values, for the want of another one
    assert (elsewhere.device.type, clf.device.type, elsewhere.labels) == ("meta", "cpu", clf.labels)
    assert clf.to("meta") is not elsewhere, "a classifier holds no copies of itself"
    with pytest.raises(ModelError, match="No device 'gpu'"):
        load_model(device="gpu")
    with pytest.raises(ModelError, match="No device None"):
        clf.to(None)
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="no CUDA device"):
            clf.to("cuda")
    if not torch.backends.mps.is_available():
        with pytest.raises(ModelError, match="no Apple GPU on this machine; use device='cpu'"):
            clf.to("mps")


def test_another_device_keeps_every_field():
    """A field that `to` forgot would change the recipe in silence."""
    clf = load_model(tiny(channels=4), size=64, mean=(0.1, 0.2, 0.3, 0.4), std=2**-0.5)
    for changed in (
        clf,
        replace(
            clf,
            labels=("x", "y", "z"),
            name="other",
            size=96,
            resize=(96, 128),
            interpolation="lanczos",
            mean=(0.7,),
            std=(0.3,),
            activation=None,
            output=lambda y: -y,
        ),
    ):
        elsewhere = changed.to("meta")
        for field in fields(clf):
            if field.name not in ("module", "places"):
                assert getattr(elsewhere, field.name) == getattr(changed, field.name), field.name
        assert elsewhere.places is not changed.places
        assert {p.device.type for p in elsewhere.module.parameters()} == {"meta"}
        assert {p.device.type for p in changed.module.parameters()} == {"cpu"}


def test_another_device_gets_the_weights_of_now():
    net = tiny()
    clf = load_model(net, size=64)
    half = replace(clf, module=copy.deepcopy(net).double())
    with torch.no_grad():
        half.module[4].bias.fill_(5)
    elsewhere = replace(half, module=copy.deepcopy(half.module).to("cpu"))
    assert torch.equal(elsewhere.module[4].bias, torch.full((3,), 5.0).double())


def test_an_apple_gpu_is_where_its_tensors_say(mps):
    """Tensors on "mps" say "mps:0": a classifier that is there already is not copied."""
    assert as_device("mps") == as_device(torch.device("mps")) == mps == torch.device("mps:0")
    clf = load_model(tiny(), size=64, device="mps")
    assert clf.to("mps") is clf.to("mps:0") is clf
    assert clf.to("cpu").device.type == "cpu"


@pytest.mark.parametrize("device", ["vulkan", "hpu"])
def test_a_device_that_pytorch_cannot_use_here(device):
    with pytest.raises(
        ModelError, match=f"device='{device}': PyTorch cannot use it on this machine .*; use device='cpu'"
    ):
        load_model(tiny(), size=64, device=device)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_channels_are_those_of_the_first_convolution_or_of_the_means(channels):
    """A network without a convolution says nothing of its channels; one number for each does."""
    assert load_model(tiny(channels), size=64).channels == channels
    assert load_model(nn.Sequential(nn.BatchNorm2d(channels), *tiny(channels)), size=64).channels == channels
    linear = nn.Sequential(nn.Flatten(), nn.Linear(channels * 64, 3))
    assert load_model(linear, size=8, mean=[0.5] * channels, std=0.25).channels == channels
    if channels > 1:
        any_number = Wrapped(nn.Identity(), lambda x: x.mean((2, 3)))
        assert load_model(any_number, size=8, mean=[0.5] * channels, std=0.25).channels == channels


# --- dataclasses.replace ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "becomes"),
    [
        ({"mean": 0.5}, (0.5,)),
        ({"std": [0.5, 1, 1]}, (0.5, 1.0, 1.0)),
        ({"mean": torch.tensor([0.5, 0.25, 0])}, (0.5, 0.25, 0.0)),
        ({"interpolation": Image.BICUBIC}, "bicubic"),
        ({"interpolation": InterpolationMode.NEAREST}, "nearest"),
        ({"resize": None}, 224),
        ({"resize": "auto"}, 256),
        ({"resize": [224, 240]}, (224, 240)),
        ({"size": np.int64(96)}, 96),
        ({"size": [96, 64]}, (96, 64)),
        ({"labels": ["cat", "dog", "eel"]}, ("cat", "dog", "eel")),
        ({"labels": {2: "eel", 0: "cat", 1: "dog"}}, ("cat", "dog", "eel")),
    ],
    ids=str,
)
def test_a_replaced_option_is_read_as_by_load_model(cat, changes, becomes):
    clf = replace(load_model(tiny()), **changes)
    (name,) = changes
    assert getattr(clf, name) == becomes
    assert to_html(explain(clf, cat))
    if name != "size":  # another size alone keeps resize
        again = load_model(clf.module, **changes)
        assert all(getattr(again, f.name) == getattr(clf, f.name) for f in fields(clf) if f.name != "places")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"mean": (0.5, 0.5)}, "mean has 2 numbers, but Sequential takes 3 channels"),
        ({"std": 0}, "numbers above 0"),
        ({"mean": 123.7}, "divide them by 255"),
        ({"mean": None}, "one number for each channel"),
        ({"interpolation": "bicubc"}, "Did you mean: bicubic"),
        ({"resize": 0}, "resize=0"),
        ({"size": 224.0}, "size=224.0"),
        ({"size": (96, 4)}, "size=4"),
        ({"size": (96, 96, 3)}, r"size=\(96, 96, 3\): must be the side .* or \(height, width\)"),
        ({"labels": "abc"}, "list of names"),
        ({"labels": None}, "list of names"),
        ({"activation": "softmx"}, "activation='softmx'"),
        ({"output": "logits"}, "output= must be a function"),
    ],
    ids=str,
)
def test_a_replaced_option_that_does_not_fit(changes, says):
    with pytest.raises(ModelError, match=says):
        replace(load_model(tiny()), **changes)


# --- an input that is not square -------------------------------------------------------------------------------------


def upright():
    """Takes inputs of 64 × 32 pixels and no others."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 8 * 4, 3)).eval()


@pytest.mark.parametrize("resize", ["auto", None, (64, 32)])
def test_a_photo_for_an_input_that_is_not_square_is_resized_to_it(cat, resize):
    net = upright()
    clf = load_model(net, size=(64, 32), resize=resize)
    image = Image.fromarray(cat)
    expected = by_hand(image.resize((32, 64), Image.BILINEAR), **IMAGENET)
    exp = explain(clf, cat, method="grad_cam")
    torch.testing.assert_close(clf.preprocess(cat, exp.view), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(exp.logits, scores_of(net, expected)[0])
    assert exp.map(0).shape == (8, 4)
    assert exp.view.box == (0, 0, image.width, image.height)
    assert not exp.heatmap(0).isnan().any()
    prepared = explain(clf, expected, method="grad_cam")
    assert torch.equal(prepared.logits, exp.logits)


def test_a_crop_that_is_not_square(cat):
    """As torchvision's Resize(72) and CenterCrop((64, 32))."""
    clf = load_model(upright(), size=(64, 32), resize=72)
    image = Image.fromarray(cat)
    resized = image.resize((72 * image.width // image.height, 72), Image.BILINEAR)
    left = round((resized.width - 32) / 2)
    expected = by_hand(resized.crop((left, 4, left + 32, 68)), **IMAGENET)
    torch.testing.assert_close(clf.preprocess(cat, clf.view(cat)), expected, atol=1e-6, rtol=0)
    assert clf.view(cat, size=64).size == (128, 64), "another size is that of the shorter side"
    assert clf.view(cat, size=64).resized[0] == 144


def test_a_square_given_as_two_sides_is_a_square():
    clf = load_model(tiny(), size=(64, 64))
    assert (clf.size, clf.resize, clf.shape) == (64, 64, (64, 64))


def test_an_input_that_is_not_square_has_an_exact_map(cat):
    net = tiny()
    clf = load_model(net, size=(64, 32))
    assert clf.head.classifier == "4"
    exp = explain(clf, cat)
    assert exp.map(0).shape == (16, 8)
    torch.testing.assert_close(exp.logits, scores_of(net, clf.preprocess(cat, exp.view))[0])


def test_repr_is_short(clf):
    assert repr(clf) == "Classifier(efficientnet_lite0, 1000 classes, cpu)"
    assert repr(load_model(tiny(classes=1), size=64)) == "Classifier(Sequential, 1 class, cpu)"


def test_a_photo_has_no_four_channels(cat):
    clf = load_model(tiny(channels=4), size=64)
    assert (clf.channels, len(clf.mean)) == (4, 1)
    with pytest.raises(CamError, match=r"takes 4 channels, but a photo has 3: pass a prepared tensor \(4, H, W\)"):
        explain(clf, cat)
