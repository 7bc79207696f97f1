"""Networks by their names, each with its own recipe; what cannot be had is said so."""

import sys
import urllib.error

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torchvision import models
from torchvision.transforms import v2

from camlib import ModelError, explain, load_model
from tests.networks import build


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


def test_unknown_names_get_near_matches():
    with pytest.raises(ModelError, match="No model 'resnet5'.*Did you mean: .*resnet50"):
        load_model("resnet5")
    with pytest.raises(ModelError, match="timm has no model 'resnet5'.*resnet50"):
        load_model("timm/resnet5")
    with pytest.raises(ModelError, match="name or a torch.nn.Module, not int"):
        load_model(50)


@pytest.mark.parametrize(
    "option",
    [
        {"labels": ["a"]},
        {"size": 100},
        {"resize": 100},
        {"resize": None},
        {"interpolation": "bicubic"},
        {"mean": 0.5},
        {"std": (1, 1, 1)},
        {"activation": "sigmoid"},
        {"activation": None},
    ],
    ids=str,
)
def test_a_named_network_brings_its_own_recipe(option):
    with pytest.raises(ModelError, match="brings its own labels.*dataclasses.replace"):
        load_model(**option)


def test_weights_that_are_not_here_say_how_to_get_them_and_what_works(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def offline(*args, **kwargs):
        raise urllib.error.URLError("no network in this test")

    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    with pytest.raises(ModelError, match="resnet50.*no network in this test") as error:
        load_model("resnet50")
    assert models.ResNet50_Weights.DEFAULT.url in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert "load_model(), which loads efficientnet_lite0, works offline" in str(error.value)

    def hub(*args, **kwargs):
        raise OSError("hub not reached\nsecond line")

    monkeypatch.setattr(timm, "create_model", hub)
    with pytest.raises(ModelError, match=r"timm/resnet18.*\(hub not reached\).*efficientnet_lite0"):
        load_model("timm/resnet18.a1_in1k")


@pytest.mark.parametrize("name", ["resnet18", "googlenet"])
def test_cached_torchvision_weights_are_used_with_their_recipe(tmp_path, monkeypatch, name):
    """A file under the cache's name stands for the weights; only the hash check in its name must be left out."""
    weights = models.get_model_weights(name).DEFAULT
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
    exp = explain(clf, photo)
    assert exp.residual() < 1e-4 * exp.logits.abs().max()


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
    with pytest.raises(ModelError, match="only supports a square from the centre"):
        load_model("timm/resnet18")


def test_without_timm_its_models_say_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModelError, match="timm/resnet18 needs the package timm.*pip install timm"):
        load_model("timm/resnet18")


def test_damaged_cached_weights_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    file = tmp_path / "checkpoints" / models.ResNet18_Weights.DEFAULT.url.rsplit("/", 1)[1]
    file.parent.mkdir()
    for content in (b"", b"<!doctype html>"):
        file.write_bytes(content)
        with pytest.raises(ModelError, match="cached weights of resnet18 are damaged.*Delete"):
            load_model("resnet18")


def test_building_a_network_leaves_the_callers_random_numbers_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    load_model()
    assert torch.equal(torch.rand(3), expected)
