"""The whole way on real photographs: the identity, the places, the files."""

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor

import imageio.v3 as iio
import numpy as np
import psutil
import pytest
import torch
from torch.nn import functional as F

from camlib import (
    CamError,
    HeadError,
    ImageError,
    ModelError,
    TargetError,
    explain,
    explain_all,
    load_model,
    overlay,
    place,
)
from tests.test_heads import build
from tests.test_hooks import count_hooks


@pytest.fixture(scope="module")
def exp(clf, cat):
    return explain(clf, cat)


def test_logits_are_the_networks_own(clf, cat, exp):
    with torch.no_grad():
        logits = clf.module(clf.preprocess(cat, clf.view(cat)))[0]
    assert torch.equal(exp.logits, logits)
    probability, order = logits.softmax(0).topk(5)
    top = exp.top(5)
    assert [p.index for p in top] == order.tolist()
    assert [p.probability for p in top] == pytest.approx(probability.tolist(), abs=1e-6)
    assert top[0].label == "tiger cat"


def test_maps_are_the_pooled_features_before_pooling(clf, cat, exp):
    """Independent: the network's own forward_features and classifier, applied cell by cell."""
    with torch.no_grad():
        features = clf.module.forward_features(clf.preprocess(cat, clf.view(cat)))
        cells = clf.module.classifier(features.permute(0, 2, 3, 1))[0].permute(2, 0, 1)  # each cell classified alone
    torch.testing.assert_close(exp.maps + exp.bias[:, None, None], cells, atol=1e-4, rtol=0)
    assert exp.maps.shape == (1000, 7, 7)
    assert exp.maps.dtype == torch.float32
    assert exp.residual() < 1e-4
    torch.testing.assert_close(exp.map("tiger cat"), exp.maps[282], atol=1e-5, rtol=0)


def test_residual_sees_a_wrong_map(exp):
    wrong = dataclasses.replace(exp)
    wrong.__dict__["maps"] = exp.maps.clamp(min=0)  # ReLU, as many tutorials do
    assert wrong.residual() > 0.1


def test_contrast_sums_to_the_difference_of_the_logits(exp):
    found = exp.contrast("tiger cat", "lynx")
    torch.testing.assert_close(found, exp.map("tiger cat") - exp.map("lynx"), atol=1e-4, rtol=0)
    a, b = 282, 287
    expected = exp.logits[a] - exp.logits[b]
    assert float(found.mean() + exp.bias[a] - exp.bias[b]) == pytest.approx(float(expected), abs=1e-4)


def test_heatmap_is_the_map_placed(exp, cat):
    heat = exp.heatmap(282)
    assert heat.shape == cat.shape[:2]
    torch.testing.assert_close(heat, place(exp.map(282), exp.view), equal_nan=True, atol=1e-4, rtol=0)
    assert heat.isnan().any(), "the crop leaves a border that the network never saw"


def test_whole_view_sees_everything(clf, cat):
    exp = explain(clf, cat, view="whole")
    assert exp.maps.shape == (1000, 7, 11)
    assert not exp.heatmap(282).isnan().any()
    assert exp.residual() < 1e-4


def test_several_sizes_are_averaged_and_the_identity_holds(clf, cat):
    sizes = (224, 320, 448)
    alone = [explain(clf, cat, sizes=s) for s in sizes]
    exp = explain(clf, cat, sizes=sizes)
    assert [e.maps.shape[-1] for e in alone] == [7, 10, 14]
    assert exp.maps.shape == (1000, 14, 14)
    assert exp.residual() < 1e-4
    torch.testing.assert_close(exp.logits, torch.stack([e.logits for e in alone]).mean(0))
    mean = torch.stack([e.heatmap(282) for e in alone]).mean(0)
    torch.testing.assert_close(exp.heatmap(282), mean, equal_nan=True, atol=1e-4, rtol=0)


def test_sharing_out_to_a_finer_grid_keeps_every_total():
    from camlib.explain import _share

    coarse, fine = torch.randn(2, 7, 7), torch.zeros(2, 10, 14)
    shared = _share([coarse, fine]) * 2
    assert shared.shape == (2, 10, 14)
    torch.testing.assert_close(shared.mean((1, 2)), coarse.mean((1, 2)), atol=1e-6, rtol=0)
    torch.testing.assert_close(F.adaptive_avg_pool2d(shared, (1, 7))[:, 0], coarse.mean(1), atol=1e-6, rtol=0)


def test_two_photos_in_one_batch_equal_each_alone(clf):
    names = ["data/photos/cat.jpg", "data/photos/coffee.png"]
    for both, name in zip(explain_all(clf, names), names, strict=True):
        alone = explain(clf, name)
        torch.testing.assert_close(both.logits, alone.logits, atol=1e-5, rtol=0)
        torch.testing.assert_close(both.maps, alone.maps, atol=5e-5, rtol=0)
        assert both.top(1)[0].label == alone.top(1)[0].label


def test_photos_of_different_shapes_keep_their_order(clf):
    names = ["data/photos/cat.jpg", "data/photos/grace_hopper.jpg", "data/photos/coffee.png"]
    found = explain_all(clf, names, view="whole")
    assert [e.photo.shape for e in found] == [(300, 451, 3), (600, 512, 3), (400, 600, 3)]
    for e, name in zip(found, names, strict=True):
        torch.testing.assert_close(e.logits, explain(clf, name, view="whole").logits, atol=1e-4, rtol=0)


def test_one_scale_for_several_classes(exp):
    limit = exp.largest(["tiger cat", "lynx"])
    assert limit == pytest.approx(max(float(exp.heatmap(k).abs().nan_to_num().max()) for k in (282, 287)))
    picture = exp.overlay("lynx", limit)
    assert np.array_equal(picture, overlay(exp.photo, exp.heatmap("lynx"), limit))


def test_plot_describes_itself(exp):
    fig = exp.plot()
    assert [ax.get_title() for ax in fig.axes[1:3]] == ["tiger cat, 38.9 %", "Egyptian cat, 35.4 %"]
    assert "tiger cat, 38.9 % strongest at the middle left" in fig.get_label()


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_saved_picture_is_the_overlay(exp, tmp_path, suffix):
    path = exp.save(tmp_path / f"map{suffix}", "lynx")
    difference = np.abs(iio.imread(path).astype(int) - exp.overlay("lynx"))
    assert difference.mean() < (0.001 if suffix == ".png" else 8)
    assert os.listdir(tmp_path) == [f"map{suffix}"], "nothing else is left in the folder"


def test_saved_whole_or_not_at_all(exp, tmp_path, monkeypatch):
    path = tmp_path / "map.png"
    path.write_bytes(b"the old picture")

    def full(self, file, *args, **kwargs):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("PIL.Image.Image.save", full)
    with pytest.raises(CamError, match="No space left"):
        exp.save(path)
    assert path.read_bytes() == b"the old picture"
    assert os.listdir(tmp_path) == ["map.png"]


def test_where_nothing_can_be_saved(exp, tmp_path):
    with pytest.raises(CamError, match="written as .png"):
        exp.save(tmp_path / "map.docx")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(CamError, match="cannot be written"):
        exp.save(tmp_path / "folder.png")
    assert os.listdir(tmp_path) == ["folder.png"], "no temporary file stays"
    with pytest.raises(CamError, match="cannot be written"):
        exp.save(tmp_path / "no such folder" / "map.png")


# --- what a person can get wrong -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda c, p: explain(c, "missing.jpg"), ImageError, "no such file"),
        (lambda c, p: explain(c, p[..., 0]), ImageError, "uint8 RGB"),
        (lambda c, p: explain(c, p, method="magic"), CamError, "No method 'magic'"),
        (lambda c, p: explain(c.module, p), ModelError, "camlib.load_model"),
        (lambda c, p: explain("efficientnet_lite0", p), ModelError, "not str"),
        (lambda c, p: explain(c, [[1], [1, 2]]), ImageError, "uint8 RGB"),
        (lambda c, p: explain(c, p, sizes=1.5), ModelError, "whole number"),
        (lambda c, p: explain_all(c, "data/photos/cat.jpg"), CamError, "several photos"),
        (lambda c, p: explain(c, p).plot(5.0), TargetError, "not 5.0"),
        (lambda c, p: explain(c, p).largest([]), CamError, "No targets"),
        (lambda c, p: explain(c, p, view="half"), ModelError, "view='half'"),
        (lambda c, p: explain(c, p, sizes=3), ModelError, "at least 32"),
        (lambda c, p: explain(c, p, sizes=[]), CamError, "sizes is empty"),
        (lambda c, p: explain(c, p, sizes=32), HeadError, "one cell"),
        (lambda c, p: explain(c, p, device="gpu"), ModelError, "No device"),
        (lambda c, p: explain(c, p).map("tigr cat"), TargetError, "tiger cat"),
        (lambda c, p: explain(c, p).heatmap(1000), TargetError, "0 to 999"),
        (lambda c, p: explain(c, p).contrast(0, "dgo"), TargetError, "no class 'dgo'"),
        (lambda c, p: explain(c, p).top(0), CamError, "top"),
        (lambda c, p: explain(c, p).plot([]), CamError, "No targets"),
    ],
)
def test_errors(clf, cat, call, error, says):
    with pytest.raises(error, match=says):
        call(clf, cat)
    assert count_hooks(clf.module) == 0


def test_a_photo_that_the_head_does_not_fit_is_refused(cat):
    """Found on noise, and pooled otherwise where contrast is low: the identity is checked on every photo."""

    class Fickle(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.last = torch.nn.Conv2d(3, 8, 3, 8), torch.nn.Linear(8, 3)

        def forward(self, x):
            f = self.conv(x)
            return self.last(f.mean((2, 3)) if x.std() > 0.5 else f.amax((2, 3)))

    clf = load_model(Fickle(), size=64)
    assert clf.head.layer == "conv"
    assert explain(clf, cat).residual() < 1e-4
    with pytest.raises(HeadError, match="misses the logits"):
        explain(clf, (cat // 30 + 100).astype(np.uint8))


def test_threads_may_share_a_network_in_training_mode(cat):
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, 2),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.Dropout2d(0.5),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 3),
    )
    clf = load_model(net, size=64)
    expected, state = explain(clf, cat).maps, {k: v.clone() for k, v in net.state_dict().items()}
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: explain(clf, cat).maps, range(100)))
    assert all(torch.equal(maps, expected) for maps in found)
    assert all(m.training for m in net.modules())
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())


def test_an_explanation_does_not_keep_its_batch(clf):
    first, _ = explain_all(clf, ["data/photos/cat.jpg", "data/photos/coffee.png"])
    features = first.sights[0].features
    assert features.untyped_storage().nbytes() == features.numel() * 4


def test_a_network_without_an_exact_map_is_refused(cat):
    clf = load_model(build("mobilenet_v3_large"), size=96)
    with pytest.raises(HeadError, match="Hardswish"):
        explain(clf, cat)


class Breaks(torch.nn.Module):
    """Fails in the middle of the forward pass from the second call on."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        if self.calls > 4:
            raise RuntimeError("broken in the middle")
        return x


def test_200_failures_leave_no_hook_no_file_and_memory_flat(cat, tmp_path):
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, 8), Breaks(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 3)
    )
    broken, working = load_model(net), load_model()
    assert broken.head.classifier == "4"
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    ways = [
        lambda: explain(broken, cat),
        lambda: explain(working, cat, sizes=32),
        lambda: explain(working, tmp_path / "broken.jpg"),
        lambda: explain(working, cat, sizes=8),
    ]
    process = psutil.Process()
    for n in range(220):
        if n == 20:  # the first ones warm up
            memory, files = process.memory_info().rss, process.num_fds()
        with pytest.raises(CamError):
            ways[n % 4]()
    assert count_hooks(broken.module) == count_hooks(working.module) == 0
    assert process.num_fds() == files
    assert process.memory_info().rss - memory < 16 * 2**20


def test_the_model_stays_as_it_was(cat):
    clf = load_model()
    clf.module.train()
    before = {k: v.clone() for k, v in clf.module.state_dict().items()}
    explain(clf, cat)
    assert all(m.training for m in clf.module.modules())
    assert all(torch.equal(v, before[k]) for k, v in clf.module.state_dict().items())
    assert all(p.grad is None for p in clf.module.parameters())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_the_gpu_as_on_the_cpu(clf, cat):
    here, there = explain(clf, cat), explain(clf, cat, device="cuda")
    assert {there.logits.device.type, there.maps.device.type, there.heatmap(282).device.type} == {"cuda"}
    torch.testing.assert_close(there.maps.cpu(), here.maps, atol=1e-4, rtol=1e-4)
    assert there.residual() < 1e-4
    assert np.abs(there.overlay(282).astype(int) - here.overlay(282)).max() <= 1
    assert clf.device.type == "cpu", "the caller's network stays where it was"
    assert clf.to("cuda") is clf.to("cuda"), "the copy is made once"
