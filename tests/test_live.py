"""What `live` builds: the network's answers are camlib's, the bytes are the same each time, and nothing is replaced."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("onnxscript", reason="onnxscript is missing: python3 run.py test installs it")
pytest.importorskip("onnxruntime", reason="onnxruntime is missing: python3 run.py test installs it")
pytest.importorskip("math_core", reason="math-core is missing: python3 run.py test installs it")
import onnxruntime

from camlib import Classifier, HeadError, ModelError, load_model, read_image
from camlib.sanity import stamped
from tests.networks import build as built
from tests.networks import flat, tiny
from tools import npm
from tools.errors import ToolError
from tools.files import write_folder
from tools.live import __main__ as live
from tools.live import build, index, network, server

ROOT = build.ROOT
PHOTOS = sorted((ROOT / "data" / "photos").iterdir())
OWN = (
    "import camlib\nfrom tests.networks import tiny\nclf = camlib.load_model(tiny(), labels=['a', 'b', 'c'], size=64)\n"
)


@pytest.fixture(scope="module")
def files(clf: Classifier) -> network.Files:
    """The bundled network, exported once for all tests."""
    return network.exported(clf)


@pytest.fixture(scope="module")
def folder(files: network.Files, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is built of it."""
    out = tmp_path_factory.mktemp("live") / "live"
    write_folder(out, build.build(files))
    return out


class Stored:
    """The files as the page reads them: the network run by ONNX Runtime, the maps made of classifier.bin."""

    def __init__(self, files: network.Files, folder: Path) -> None:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        self.said = json.loads(files["network.json"])
        self.session = onnxruntime.InferenceSession(folder / "network.onnx", providers=["CPUExecutionProvider"])
        shape = len(self.said["labels"]), self.said["channels"]
        self.weights = np.frombuffer(files["classifier.bin"], "<f2").reshape(shape).astype(np.float32)

    def run(self, x: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Features (C, h, w), logits (K,) and maps (K, h, w)."""
        features, logits = self.session.run(["features", "logits"], {"x": x.numpy()})
        return features[0], logits[0], np.tensordot(self.weights, features[0], 1)

    def check(self, clf: Classifier, x: torch.Tensor, off: float = 0.05) -> None:
        """The same as camlib's within `off` logits and 1 % of a map's range, and mean(map) + bias == logit."""
        features, logits, maps = self.run(x)
        head = clf.head
        own_features, own = head.run(clf.module, x)
        with torch.no_grad():
            assert np.abs(logits - clf.module(x).numpy()[0]).max() < off
        assert features.shape == own_features.shape[1:]
        own_maps = torch.einsum("kc,chw->khw", head.weight, own_features[0]).numpy()
        ranges = own_maps.max((1, 2)) - own_maps.min((1, 2))
        top = np.argsort(-own[0].numpy())[:5]
        assert (np.abs(maps - own_maps).max((1, 2)) < 0.01 * ranges)[top].all()
        assert np.abs(maps.mean((1, 2)) + np.float32(self.said["bias"]) - logits).max() < 1e-4
        for k, found in zip(top, np.argsort(-logits)[:5], strict=True):
            assert k == found or abs(own[0, k] - own[0, found]) < 0.05


@pytest.fixture(scope="module")
def stored(files: network.Files, tmp_path_factory: pytest.TempPathFactory) -> Stored:
    return Stored(files, tmp_path_factory.mktemp("stored"))


# The network


@pytest.mark.parametrize("name", [*(f"photos/{path.name}" for path in PHOTOS), "mosaics/two.png", "mosaics/four.png"])
def test_the_answers_are_camlibs(clf: Classifier, stored: Stored, name: str) -> None:
    photo = read_image(ROOT / "data" / name)
    for kind in ("crop", "whole"):
        stored.check(clf, clf.preprocess(photo, clf.view(photo, kind)))


def test_the_network_is_described(clf: Classifier, stored: Stored) -> None:
    said = stored.said
    assert (said["name"], said["network"]) == ("efficientnet_lite0", "EfficientNet-Lite0")
    assert (said["labels"], said["mean"], said["std"]) == (list(clf.labels), [0.5] * 3, [0.5] * 3)
    assert (said["size"], said["resize"], said["interpolation"], said["multiple"]) == (224, 256, "bicubic", 32)
    assert (said["scores"], said["channels"], len(said["bias"])) == ("softmax", 1280, 1000)
    assert said["external"] == [{"path": "classifier.bin"}]
    names = [(value.name, value.shape) for value in (*stored.session.get_inputs(), *stored.session.get_outputs())]
    assert names == [("x", [1, 3, "H", "W"]), ("features", [1, 1280, "h", "w"]), ("logits", [1, 1000])]


def test_the_weights_are_small_and_there_once(files: network.Files) -> None:
    assert len(files["classifier.bin"]) == 2 * 1280 * 1000
    assert len(files["network.onnx"]) < 7e6
    assert len(files["network.json"]) < 60e3
    row = files["classifier.bin"][:2560]
    assert row not in files["network.onnx"]


def test_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    script = (
        "import sys; from tools.live import __main__ as live, network; "
        "files = network.exported(live.classifier('own.py')); sys.stdout.buffer.write(b'|'.join(files.values()))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True)
    assert ran.returncode == 0, ran.stderr.decode()
    here = network.exported(load_model(tiny(), labels=["a", "b", "c"], size=64))
    assert ran.stdout == b"|".join(here.values()) and b"Gemm" in ran.stdout


@pytest.mark.parametrize(
    "make", [tiny, lambda: torch.nn.Sequential(tiny(classes=4)[:3], torch.nn.Conv2d(4, 1, 1), torch.nn.Flatten())]
)
def test_own_networks(make, tmp_path: Path) -> None:
    clf = load_model(make().eval(), size=64)
    own = Stored(network.exported(clf), tmp_path)
    assert own.said["scores"] == ("softmax" if len(clf.labels) > 1 else "sigmoid")
    for size in (64, 64), (96, 160):
        own.check(clf, torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)))


@pytest.mark.long  # a minute, three for the last one
@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "densenet121", "convnext_tiny", "swin_t"])
def test_networks_of_torchvision(name: str, tmp_path: Path) -> None:
    clf = load_model(built(name).eval())
    own = Stored(network.exported(clf), tmp_path)
    assert own.said["multiple"] == (None if name == "swin_t" else 32), "its windows depend on the size"
    for size in [(224, 224)] if name == "swin_t" else [(224, 224), (256, 320), (64, 96)]:
        own.check(clf, torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)))


def test_what_cannot_be_shown_is_told(clf: Classifier) -> None:
    with pytest.raises(HeadError, match="No exact class activation map"):
        network.exported(load_model(flat(), size=64))
    with pytest.raises(ModelError, match="takes 1 channels; the page gives"):
        network.exported(load_model(tiny(channels=1), size=64))
    with pytest.raises(ModelError, match="'lanczos'; the page can only do bilinear and bicubic"):
        network.exported(replace(clf, interpolation="lanczos"))
    large = tiny()
    large[4].weight.data *= 1e7
    with pytest.raises(ModelError, match="half precision cannot store"):
        network.exported(load_model(large, size=64))


# The folder


def test_two_builds_have_the_same_bytes(files: network.Files, folder: Path) -> None:
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == build.build(files)
    assert sum(map(len, found.values())) < 28e6


def test_the_folder_speaks_of_no_machine_and_no_registry(folder: Path) -> None:
    private = [
        str(ROOT),
        str(Path.home()) + "/",
        sys.prefix,
        "site-packages",
        "/tmp/",
        "lite0.py",
        "registry.",
        "npmjs",
    ]
    for path in folder.rglob("*"):
        if path.is_file() and path.parent.name not in ("photos", "mosaics"):
            content = path.read_bytes()
            if path.suffix == ".wasm":
                continue  # npm's own file, pinned by its digest
            assert [word for word in private if word.encode() in content] == [], path.name


def test_everything_has_its_licence(folder: Path) -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in (folder / "licences").iterdir()}
    assert set(texts) == {"README.txt", "Apache-2.0.txt", "camlib.txt", "onnxruntime.txt"}
    assert "Microsoft" in texts["onnxruntime.txt"] and "Version 2.0, January 2004" in texts["Apache-2.0.txt"]
    assert "EfficientNet-Lite0, Apache-2.0" in texts["README.txt"]
    assert all(path.name in texts["README.txt"] for path in PHOTOS)
    other = build.licences("net", "net")
    assert "licences/Apache-2.0.txt" not in other and b"this build does not know them" in other["licences/README.txt"]


def test_pictures_are_the_courses(folder: Path) -> None:
    listed = json.loads((folder / "photos" / "photos.json").read_text(encoding="utf-8"))
    assert {p["file"] for p in listed} == {f"photos/{p.name}" for p in PHOTOS} | {"mosaics/two.png", "mosaics/four.png"}
    for picture in listed:
        assert (folder / picture["file"]).read_bytes() == (ROOT / "data" / picture["file"]).read_bytes()
        assert picture["credit"] and picture["name"]


@pytest.mark.parametrize("photo", ["cat.jpg", "grace_hopper.jpg", "panda.webp"])
def test_a_watermark_is_laid_as_its_numbers_say(folder: Path, photo: str) -> None:
    said = json.loads((folder / "watermarks" / "watermarks.json").read_text(encoding="utf-8"))
    picture = read_image(ROOT / "data" / "photos" / photo)
    high, wide = picture.shape[:2]
    side = min(high, wide)
    for mark in said["marks"]:
        strip = Image.open(folder / mark["file"])
        tall = round(side * strip.height / strip.width)
        alpha = np.asarray(strip.getchannel("A").resize((side, tall), Image.Resampling[said["filter"].upper()]))
        alpha = np.rint(alpha * said["opacity"]).astype(int)[..., None]
        left, top = (wide - side) // 2, round((high - side) / 2 + said["top"] * side)
        below = picture[top : top + tall, left : left + side].astype(int)
        sum_ = np.array(said["colour"]) * alpha + below * (255 - alpha) + 128
        found = picture.copy()
        found[top : top + tall, left : left + side] = (sum_ + (sum_ >> 8)) >> 8
        expected, _ = stamped(picture, np.asarray(strip))
        assert np.array_equal(found, expected)


def test_the_service_worker_has_every_file(files: network.Files, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (folder / "sw.js").read_text(encoding="utf-8")
    found = re.search(r'VERSION = "([0-9a-f]{16})";\s*const FILES = (\[.*\]);', text)
    assert found
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert set(json.loads(found[2])) == names - {"sw.js"}
    assert build.filled({"sw.js": b'"{version}"["{files}"]', "a": b"1"}) != build.filled(
        {"sw.js": b'"{version}"["{files}"]', "a": b"2"}
    ), "another content is another version"
    with pytest.raises(ToolError, match="once each"):
        build.filled({"sw.js": b""})
    monkeypatch.setattr(build, "page", lambda: {"network.json": b""})
    with pytest.raises(ToolError, match=r"network\.json: page/ has a file"):
        build.build(files)


def test_in_a_site_the_page_leads_back_and_to_chapters(folder: Path) -> None:
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    placed = index.in_site(files, {"04_einsum_cam"})
    text = placed["index.html"].decode()
    assert dict(re.findall(r'<a href="(\.\./[^"]+)" target="_top">([^<]+)</a>', text)) == {
        "../index.html": "All chapters of the course",
        "../04_einsum_cam.html": "chapter 04 of the course",
    }
    assert 'data-chapter="00_first_heat_map"' in text, "a chapter that this site does not have"
    assert {name for name in files if placed[name] != files[name]} == {"index.html", "sw.js"}
    assert placed == index.in_site(files, {"04_einsum_cam"})
    assert placed["sw.js"] != index.in_site(files, set())["sw.js"], "another page is another version"
    with pytest.raises(ToolError, match=r"older version.*run\.py live"):
        index.in_site(files | {"sw.js": b""}, set())


# The command


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        live.main(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert all(option in said for option in ("--out", "--model", "--serve", "--page-only", "--no-browser"))


def test_a_network_of_your_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN)
    for _ in range(2):
        assert live.main(["--model", "own.py"]) == 0, "an earlier build is replaced"
    out, err = capsys.readouterr()
    assert re.search(r"total +\d+ +\d+\.\d\d", out) and "exporting, 2 of 2" in err
    before = {path: path.read_bytes() for path in Path("live").rglob("*") if path.is_file()}
    assert live.main(["--page-only"]) == 0
    assert before == {path: path.read_bytes() for path in Path("live").rglob("*") if path.is_file()}
    assert json.loads(Path("live/network.json").read_text())["labels"] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "none.py"], "none.py: no such file."),
        (["--model", "bad.py"], "Running bad.py failed with ZeroDivisionError: division by zero"),
        (["--model", "empty.py"], "empty.py must define clf = camlib.load_model(...)"),
        (["--model", "efficientnet_lite"], "No model 'efficientnet_lite'"),
        (["--model", "exits.py"], "exits.py called sys.exit(3) before it defined clf."),
        (["--serve", "99999"], "Port 99999 does not exist; use a number from 1 to 65535."),
        (["--page-only"], "live has no network yet (No such file or directory)"),
        (
            ["--out", "mine"],
            "mine contains files that are not a live page; choose another folder with --out, or empty it.",
        ),
    ],
)
def test_errors_are_one_line_and_write_nothing(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    for name, text in {
        "bad.py": "1 / 0",
        "empty.py": "",
        "exits.py": "raise SystemExit(3)",
        "mine/network.json": "[]",
    }.items():
        (tmp_path / name).write_text(text)
    assert live.main(arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("live: ")]
    assert len(lines) == 2 and lines[0].startswith(said) and lines[1].endswith("was not written.")
    assert (tmp_path / "mine" / "network.json").read_text() == "[]" and not (tmp_path / "live").exists()


def test_without_npm_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(npm, "KEPT", tmp_path / "kept")
    monkeypatch.setenv("PATH", "")
    assert live.main(["--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "onnxruntime-web 1.30.0 is fetched once" in said and "Install Node.js" in said and "exporting" not in said


def test_without_the_exporter_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ValueError, match="pip install onnx"):
        network.exported(load_model(tiny(), size=64))


@pytest.fixture
def address(folder: Path) -> Iterator[str]:
    with server.server(folder, 0) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield server.address(running)
        running.shutdown()
        thread.join()


def test_files_are_served_with_their_types(address: str, folder: Path) -> None:
    (folder / "x.webmanifest").write_text("{}")
    for name, kind in {
        "": "text/html; charset=utf-8",
        "sw.js": "text/javascript; charset=utf-8",
        "ort.wasm.bundle.min.mjs": "text/javascript; charset=utf-8",
        "ort-wasm-simd-threaded.wasm": "application/wasm",
        "network.json": "application/json",
        "photos/panda.webp": "image/webp",
        "x.webmanifest": "application/manifest+json",
    }.items():
        with urlopen(address + name) as answer:
            assert answer.headers["Content-Type"] == kind
            assert answer.read() == (folder / (name or "index.html")).read_bytes()
    (folder / "x.webmanifest").unlink()


def test_a_port_in_use_is_told(folder: Path, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    port = int(address.rstrip("/").rpartition(":")[2])
    assert live.main(["--out", str(folder), "--page-only", "--no-browser", "--serve", str(port)]) == 2
    assert f"give another: --serve {port + 1}" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_ctrl_c_ends_it(folder: Path) -> None:
    command = [sys.executable, str(ROOT / "tools"), "live", "--page-only", "--out", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [*command, "--serve", "0", "--no-browser"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    ) as running:
        assert running.stdout
        line = next(line for line in running.stdout if line.startswith("http://127.0.0.1:"))
        with urlopen(line.split()[0] + "network.json") as answer:
            assert json.load(answer)["generator"] == build.GENERATOR
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=20)
    assert running.returncode == 0 and said.rstrip().endswith("live: stopped") and "Traceback" not in said
