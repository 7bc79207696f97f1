"""Every block of docs/how_do_i.md runs as it stands, and gives what is computed here without camlib."""

import re
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import imageio.v3 as iio
import matplotlib
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import camlib

PAGE = (Path(__file__).parents[1] / "docs" / "how_do_i.md").read_text(encoding="utf-8")
SECTIONS = {
    title: re.findall(r"```python\n(.*?)```", body, re.S)
    for title, body in re.findall(r"## … (.*?)\n(.*?)(?=\n## |\Z)", PAGE, re.S)
}
TASKS = 10  # of them stand in the review that asked for this page; the others came with the contracts


class Net(nn.Module):
    def __init__(self, classes: int = 3, channels: int = 8):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, channels, 3, 2, 1), nn.ReLU(), nn.Conv2d(channels, channels, 3, 2, 1), nn.ReLU()
        )
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        return self.fc(self.body(x).mean((2, 3)))


@pytest.fixture
def names(tmp_path, monkeypatch):
    """What the blocks use."""
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    torch.manual_seed(0)
    net = Net().eval()
    photo = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    classes = ["cat", "dog", "eel"]
    loader = [(torch.randn(4, 3, 64, 64), torch.tensor([2, 0, 1, 1]))]
    clf = camlib.load_model(net, labels=classes, size=64)
    return {
        "camlib": camlib,
        "torch": torch,
        "net": net,
        "photo": photo,
        "classes": classes,
        "loader": loader,
        "clf": clf,
    }


def run(title: str, names: dict, block: int = 0) -> dict:
    exec(SECTIONS[title][block], names)
    return names


def cams(net: Net, x: torch.Tensor) -> torch.Tensor:
    """(B, K, h, w): each cell classified by itself, less the bias."""
    with torch.no_grad():
        cells = F.linear(net.body(x).permute(0, 2, 3, 1), net.fc.weight)
    return cells.permute(0, 3, 1, 2)


def test_every_answer_is_six_lines_at_most_and_has_a_test():
    tested = re.findall(r'run\("(.*?)"', Path(__file__).read_text(encoding="utf-8"))
    assert len(SECTIONS) >= TASKS
    assert set(tested) - {"(.*?)"} == set(SECTIONS)
    assert all(len(block.strip().splitlines()) <= 6 for blocks in SECTIONS.values() for block in blocks)


def test_batch(names):
    net = names["net"]
    run("explain a batch from a DataLoader?", names)
    x, y = names["loader"][0]
    expected = cams(net, x)[torch.arange(4), y]
    torch.testing.assert_close(names["maps"], expected, atol=1e-5, rtol=0)
    run("explain a batch from a DataLoader?", names, 1)
    h, w = expected.shape[1:]
    torch.testing.assert_close(names["maps"] * h * w, expected, atol=1e-5, rtol=0)  # Grad-CAM of a GAP network


def test_own_network(names, tmp_path):
    run("use my own network, with its own recipe?", names)
    clf = names["clf"]
    assert (clf.resize, clf.size, clf.interpolation, clf.mean) == (232, 224, "bicubic", (0.5, 0.5, 0.5))
    assert (tmp_path / "heatmap.png").stat().st_size > 10_000


def test_lightning(names):
    run("use it inside a Lightning module?", names)
    net = names["net"].train()
    x, y = names["loader"][0]
    with torch.inference_mode():
        names["validation_step"](net, (x, y), 0)
    expected = cams(net, x)[torch.arange(4), y]
    assert net.training
    torch.testing.assert_close(net.maps * expected[0].numel(), expected, atol=1e-5, rtol=0)


def test_hugging_face(names):
    @dataclass
    class Output:
        logits: torch.Tensor

    class Model(Net):
        config = SimpleNamespace(id2label={0: "cat", 1: "dog", 2: "eel"})

        def forward(self, x):
            return Output(super().forward(x))

    names["model"] = model = Model().eval()
    run("explain a Hugging Face model?", names)
    clf, exp = names["clf"], names["exp"]
    assert clf.labels == ("cat", "dog", "eel")
    x = F.interpolate(torch.zeros(1, 3, 1, 1), (224, 224))
    assert exp.view.box == (0, 0, 90, 70)  # the whole photo, squashed
    assert exp.logits.shape == model(x).logits[0].shape
    torch.testing.assert_close(exp.logits, model(clf.preprocess(exp.photo, exp.view)).logits[0].detach())


def test_tensor(names):
    names["x"] = x = torch.randn(3, 64, 48)
    run("start from a tensor instead of a photo?", names)
    exp = names["exp"]
    torch.testing.assert_close(exp.maps, cams(names["net"], x[None])[0], atol=1e-5, rtol=0)
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected = ((x * std + mean).clamp(0, 1) * 255).round().permute(1, 2, 0)
    np.testing.assert_array_equal(exp.photo, expected.numpy().astype(np.uint8))


def test_numbers(names, tmp_path):
    run("get the numbers?", names)
    exp = names["exp"]
    array = np.load(tmp_path / "cat.npy")
    np.testing.assert_array_equal(array, names["array"])
    assert array.mean() + exp.rest("cat") == pytest.approx(float(exp.logits[0]), abs=1e-5)
    assert (tmp_path / "cat.npy.json").is_file()
    with np.load(tmp_path / "all.npz") as data:
        np.testing.assert_array_equal(data["maps"], exp.maps.numpy())
        np.testing.assert_allclose(data["probabilities"].sum(), 1)


def test_several_classes(names):
    run("explain several classes?", names)
    exp = names["exp"]
    assert torch.equal(names["maps"], exp.maps[:2])
    assert torch.equal(names["best"], exp.maps[int(exp.logits.argmax())])


def test_gpu(names):
    names["device"] = "cuda" if torch.cuda.is_available() else "cpu"
    run("run it on a GPU?", names)
    assert names["maps"].device.type == "cpu"
    assert torch.equal(names["maps"][0], names["maps"][1])


def test_compare(names, tmp_path):
    run("compare methods?", names)
    assert (tmp_path / "methods.png").stat().st_size > 10_000
    run("compare methods?", names, 1)
    try:
        exp = camlib.explain(names["clf"], names["photo"], method="positive_cam")
        cells = exp.map("cat").numel()
        expected = names["exp"].map("cat").clamp(min=0) / cells
        torch.testing.assert_close(exp.map("cat"), expected, atol=1e-6, rtol=0)
    finally:
        del camlib.METHODS["positive_cam"]


def test_segmentation(names):
    class Segmenter(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 6, 3, 4, 1), nn.ReLU())
            self.out = nn.Conv2d(6, 3, 1)

        def forward(self, x):
            return {"out": F.interpolate(self.out(self.body(x)), x.shape[2:])}

    names["segmenter"] = net = Segmenter().eval()
    names["mask"] = mask = torch.zeros(64, 64, dtype=torch.bool)
    mask[8:24, 16:48] = True
    run("explain a segmentation?", names)
    exp = names["exp"]
    x = names["clf"].preprocess(exp.photo, exp.view)
    with torch.no_grad():
        expected = net(x)["out"][:, :, mask].mean(2)[0]
        cells = net.out(net.body(x))[0, 0]  # the last feature map is that of the class scores
    torch.testing.assert_close(exp.logits, expected)
    assert exp.residual(["cat", "dog", "eel"]) < 1e-5
    inside = torch.zeros(16, 16)
    inside[2:6, 4:12] = 1  # each cell is 4×4 pixels, by nearest-neighbour upsampling
    torch.testing.assert_close(exp.map("cat"), cells * inside * 256 / inside.sum(), atol=1e-5, rtol=0)
    assert exp.rest("cat") == pytest.approx(0, abs=1e-6)


def test_embedding(names):
    names["encoder"], names["prompts"] = Net(8).eval(), ["a cat", "a dog"]
    names["text"] = text = F.normalize(torch.randn(2, 8))
    run("explain an embedding such as CLIP's?", names)
    exp = names["exp"]
    x = names["clf"].preprocess(exp.photo, exp.view)
    with torch.no_grad():
        cosine = F.cosine_similarity(names["encoder"](x), text)
    torch.testing.assert_close(exp.logits, 100 * cosine, atol=1e-4, rtol=0)
    assert exp.top(1)[0].label == names["prompts"][int(cosine.argmax())]
    # A cosine's numerator is linear in the embedding; its norm is held. So the map is that of the numerator.
    net, norm = names["encoder"], names["encoder"](x).norm().detach()
    cells = 100 / norm * torch.einsum("kd,dc,chw->khw", text, net.fc.weight, net.body(x)[0]).detach()
    torch.testing.assert_close(exp.map([0, 1]), cells, atol=1e-4, rtol=1e-4)
    assert exp.rest(0) == pytest.approx(float(100 / norm * text[0] @ net.fc.bias), abs=1e-4)

    names["other"] = other = torch.randn(1, 8)
    run("explain an embedding such as CLIP's?", names, 1)
    exp = names["exp"]
    with torch.no_grad():
        cosine = F.cosine_similarity(net(x), other)
    torch.testing.assert_close(exp.logits, cosine)
    assert exp.top(1)[0].probability is None and exp.residual() < 1e-5


def test_a_box(names):
    class Detector(nn.Module):
        """A box in each cell of a grid, with a score; each picture's are sorted by score."""

        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 6, 3, 8, 1), nn.ReLU())
            self.score, self.size = nn.Conv2d(6, 1, 3, padding=1), nn.Conv2d(6, 4, 1)

        def forward(self, x):
            features = self.body(x)
            scores, order = self.score(features).flatten(1).sigmoid().sort(descending=True)
            boxes = self.size(features).flatten(2).transpose(1, 2)
            return [{"scores": s, "boxes": b[o]} for s, b, o in zip(scores, boxes, order, strict=True)]

    names["detector"], names["layer"] = net, _ = Detector().eval(), "body"
    run("explain a box of a detector?", names)
    exp = names["exp"]
    x = names["clf"].preprocess(exp.photo, exp.view)
    with torch.no_grad():
        logits = net.score(net.body(x)).flatten()
    best = int(logits.argmax())
    assert exp.top(1)[0].probability == pytest.approx(float(logits[best].sigmoid()), abs=1e-5)
    reached = torch.zeros(28, 28, dtype=torch.bool)
    row, column = divmod(best, 28)
    reached[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2] = True
    assert exp.map("box").any() and not exp.map("box")[~reached].any()  # only these cells reach the score of its box
    assert exp.residual() < 1e-6


def test_a_transformer(names, capsys):
    attention = nn.TransformerEncoderLayer(64, 2, 16, batch_first=True)
    end = (nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(8, 3))
    net = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.Flatten(2), attention, *end)
    names["clf"] = camlib.load_model(net, labels=["cat", "dog", "eel"], size=64)
    run("explain a transformer, or any network without an exact map?", names)
    exp = names["exp"]
    assert float(capsys.readouterr().out) == pytest.approx(1 - exp.rest("cat") / float(exp.logits[0]), abs=1e-5)


def test_activations(names):
    names["regressor"] = Net(1).eval()
    run("explain many labels at once, a single output, or a regression?", names)
    many, ages = (camlib.explain(names[n], names["photo"]) for n in ("many", "ages"))
    assert many.top(1)[0].probability == pytest.approx(float(many.logits.max().double().sigmoid()))
    assert ages.top(1)[0].probability is None
    assert "%" not in ages.plot().axes[1].get_title()


def test_video(names, tmp_path):
    pictures = [names["photo"], 255 - names["photo"], names["photo"]]
    names["film"] = tmp_path / "film.mkv"
    iio.imwrite(names["film"], np.stack(pictures), plugin="pyav", codec="ffv1", out_pixel_format="bgr0", fps=10)
    run("explain a video?", names)
    clf, net = names["clf"], names["net"]
    with torch.no_grad():
        logits = net(torch.cat([clf.preprocess(picture, clf.view(picture)) for picture in pictures]))
    assert names["course"] == pytest.approx(logits[:, 0].tolist(), abs=1e-4)
    run("explain a video?", names, 1)
    first, inverse, last = names["pictures"]
    assert np.array_equal(first, last) and not np.array_equal(first, inverse)


def test_receptive_field(names):
    names["exp"] = camlib.explain(names["clf"], names["photo"])
    run("place a map where its cells really look?", names)
    dy, dx = names["offset"]
    assert (
        abs(dy + 1.5) < 1 and abs(dx + 1.5) < 1
    )  # two 3×3 convolutions of stride 2 and padding 1: 1.5 pixels up, left
