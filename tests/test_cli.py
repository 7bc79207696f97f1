"""The command line as a person uses it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from camlib import explain
from camlib.cli import main
from camlib.folder import stems
from camlib.methods import METHODS, register


def run(capsys, *args):
    code = main([str(a) for a in args])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_one_photo(tmp_path, capsys):
    code, out, _ = run(capsys, "data/photos/cat.jpg", "--top", 2, "--out", tmp_path)
    assert code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cat.282-tiger-cat.png", "cat.285-egyptian-cat.png"]
    assert iio.imread(tmp_path / "cat.282-tiger-cat.png").shape == (300, 451, 3)
    header, row = out.splitlines()[1:3]
    assert header.split() == ["class", "probability", "logit", "evidence", "picture"]
    assert row.split()[:5] == ["tiger", "cat", "(282)", "38.89", "%"]


def test_targets_by_label_and_index_on_one_scale_as_json(tmp_path, capsys):
    code, out, _ = run(capsys, "data/photos/cat.jpg", "--target", "lynx", "--target", 282, "--out", tmp_path, "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [(r["index"], r["label"]) for r in rows] == [(282, "tiger cat"), (287, "lynx")]
    assert rows[0]["scale"] == rows[1]["scale"] >= max(r["evidence"][1] for r in rows) - 0.2


def test_every_option_arrives(clf, tmp_path, capsys):
    args = ("data/photos/cat.jpg", "--view", "whole", "--size", 224, "--size", 320, "--top", 3, "--out", tmp_path)
    code, out, _ = run(capsys, *args, "--json", "--device", "cpu")
    exp = explain(clf, "data/photos/cat.jpg", view="whole", sizes=(224, 320))
    limit = exp.largest([p.index for p in exp.top(3)])
    assert code == 0
    for row, p in zip(map(json.loads, out.splitlines()), exp.top(3), strict=True):
        cells = exp.map(p.index)
        assert (row["index"], row["label"]) == (p.index, p.label)
        assert row["logit"] == pytest.approx(p.logit, abs=1e-3)
        assert row["evidence"] == pytest.approx([float(cells.min()), float(cells.max())], abs=1e-3)
        assert row["scale"] == pytest.approx(limit, abs=1e-3)
        assert np.abs(iio.imread(row["picture"]).astype(int) - exp.overlay(p.index, limit)).max() <= 1, "one scale"


def test_figure_shows_the_classes_side_by_side(clf, tmp_path, capsys):
    names = ("--target", "lynx", "--target", 282)
    code, out, _ = run(capsys, "data/photos/cat.jpg", *names, "--figure", "--out", tmp_path)
    assert code == 0 and f"side by side: {tmp_path / 'cat.figure.jpg'}" in out
    exp = explain(clf, "data/photos/cat.jpg")
    figure = exp.plot([282, "lynx"])  # the more probable one first
    figure.savefig(tmp_path / "by_hand.png", dpi=200)
    drawn = iio.imread(tmp_path / "cat.figure.jpg").astype(int)
    by_hand = iio.imread(tmp_path / "by_hand.png")[..., :3]
    assert drawn.shape == by_hand.shape and np.abs(drawn - by_hand).mean() < 1.5
    with pytest.raises(SystemExit, match="2"):
        main(["cat.jpg", "--top", "7", "--figure"])
    assert "up to 6 classes" in capsys.readouterr().err


def test_html_writes_a_page_for_each_photo_and_open_shows_the_first(tmp_path, capsys, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or len(opened) < 2)
    photos = ("data/photos/cat.jpg", "data/photos/coffee.png")
    code, out, _ = run(capsys, *photos, "--html", "--out", tmp_path)
    assert (code, opened) == (0, [])
    assert f"every class: {tmp_path / 'cat.html'}" in out
    assert sorted(p.name for p in tmp_path.glob("*.html")) == ["cat.html", "coffee.html"]
    assert "<title>coffee.png: what the network saw" in (tmp_path / "coffee.html").read_text(encoding="utf-8")
    (tmp_path / "cat.html").unlink()
    code, out, _ = run(capsys, *photos, "--open", "--json", "--out", tmp_path)
    assert (code, opened) == (0, [(tmp_path / "cat.html").as_uri()])
    assert [json.loads(line)["page"] for line in out.splitlines()] == [
        str(tmp_path / f"{n}.html") for n in ("cat", "coffee")
    ]
    _, _, err = run(capsys, *photos, "--open", "--out", tmp_path)
    assert "could not start a browser" in err


def test_a_bad_file_in_a_folder_does_not_stop_the_others(tmp_path, capsys):
    photos = tmp_path / "photos"
    (photos / "more").mkdir(parents=True)
    for name in ("cat.jpg", "coffee.png"):
        shutil.copy(f"data/photos/{name}", photos)
    shutil.copy("data/photos/coffee.png", photos / "more" / "cat.png")  # the same stem as cat.jpg
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (photos / "notes.txt").write_text("no picture")
    code, out, err = run(capsys, photos, "--out", tmp_path / "out", "--batch", 2)
    assert code == 1
    assert run(capsys, photos, photos / "cat.jpg", "--json", "--out", tmp_path / "twice")[1].count("cat.jpg.282") == 1
    assert "1 of 4 photos could not be used" in err
    assert "broken.png" in err
    names = sorted(p.name for p in (tmp_path / "out").glob("*.png"))
    assert names == ["cat.jpg.282-tiger-cat.png", "cat.png.967-espresso.png", "coffee.967-espresso.png"]


def test_pictures_of_different_photos_never_share_a_file(tmp_path):
    names = stems([tmp_path / "a-b" / "c.jpg", tmp_path / "a" / "b" / "c.jpg", tmp_path / f"{'n' * 240}.jpg"])
    assert len(set(names.values())) == 3
    assert max(map(len, names.values())) < 130


def test_a_second_run_does_not_explain_the_pictures_of_the_first(tmp_path, capsys, monkeypatch):
    shutil.copy("data/photos/cat.jpg", tmp_path)
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert run(capsys, ".")[0] == 0
    assert [p.name for p in (tmp_path / "heatmaps").iterdir()] == ["cat.282-tiger-cat.png"]


def test_the_reader_of_the_table_may_leave(tmp_path):
    command = (
        f"{sys.executable} -m camlib data/photos/cat.jpg data/photos/coffee.png --top 5 --out {tmp_path} | head -n 1"
    )
    piped = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert (piped.returncode, piped.stderr) == (0, "")


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux")
def test_names_that_cannot_be_printed(tmp_path):
    shutil.copy("data/photos/cat.jpg", os.fsencode(tmp_path) + b"/c\xe9t.jpg")
    env = dict(os.environ, PYTHONIOENCODING="ascii:strict")
    command = [sys.executable, "-m", "camlib", str(tmp_path), "--out", str(tmp_path / "out")]
    assert subprocess.run(command, capture_output=True, env=env).returncode == 0


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([300 * "x"], "File name too long"),
        (["missing.jpg"], "missing.jpg: no such file"),
        (["data/photos/cat.jpg", "--target", "tigre cat"], "Did you mean: tiger cat"),
        (["data/photos/cat.jpg", "--target", "-1"], "No class -1"),
        (["data/photos/cat.jpg", "--model", "resnet5"], "No model 'resnet5'"),
        (["data/photos/cat.jpg", "--method", "magic"], "No method 'magic'"),
        (["data/photos/cat.jpg", "--method", "gradcam"], "Did you mean: grad_cam"),
        (["data/photos/cat.jpg", "--size", "7"], "at least 8"),
        (["data/photos/cat.jpg", "--size", "32"], "one cell"),
        (["data/photos/cat.jpg", "--out", "pyproject.toml/x"], "cannot create this folder"),
        (["notebooks/exercises-that-do-not-exist"], "no such file"),
        (["camlib"], "no picture files in this folder"),
    ],
)
def test_bad_input_gets_one_clear_line_and_exit_code_2(tmp_path, capsys, args, says):
    args = args if "--out" in args else [*args, "--out", tmp_path]
    code, out, err = run(capsys, *args)
    assert code == 2
    assert says in err
    assert err.startswith("camlib: ")
    assert "Traceback" not in err
    assert len(err.splitlines()) == 1


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="an Apple GPU is here")
@pytest.mark.parametrize("device", ["mps", "cuda"])
def test_a_device_that_is_not_here_is_refused(tmp_path, capsys, device):
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("a CUDA device is here")
    code, out, err = run(capsys, "data/photos/cat.jpg", "--device", device, "--out", tmp_path)
    assert (code, out) == (2, "")
    assert (
        err == f"camlib: device='{device}': PyTorch finds no {'Apple GPU' if device == 'mps' else 'CUDA device'} on "
        "this machine; use device='cpu'.\n"
    )
    assert not list(tmp_path.iterdir())


def test_raw_writes_the_maps_as_numbers(clf, tmp_path, capsys):
    args = ("data/photos/cat.jpg", "--raw", "--top", 3, "--view", "whole", "--out", tmp_path)
    code, out, _ = run(capsys, *args, "--json")
    assert code == 0
    rows = [json.loads(line) for line in out.splitlines()]
    assert {row["raw"] for row in rows} == {str(tmp_path / "cat.npz")}
    exp = explain(clf, "data/photos/cat.jpg", view="whole")
    best = [p.index for p in exp.top(3)]
    arrays = np.load(tmp_path / "cat.npz")
    assert arrays["classes"].tolist() == [row["index"] for row in rows] == best
    assert arrays["labels"].tolist() == [row["label"] for row in rows]
    np.testing.assert_allclose(arrays["maps"], exp.map(best), atol=1e-4)
    np.testing.assert_allclose(arrays["logits"], exp.logits, atol=1e-4)
    np.testing.assert_allclose(arrays["probabilities"], exp.logits.double().softmax(0), atol=1e-6)
    for row, cells in zip(rows, arrays["maps"], strict=True):
        assert row["evidence"] == pytest.approx([cells.min(), cells.max()], abs=1e-4)
        assert cells.mean() + arrays["bias"][row["index"]] == pytest.approx(row["logit"], abs=1e-3)
    manifest = json.loads((tmp_path / "cat.npz.json").read_text(encoding="utf-8"))
    assert [entry["index"] for entry in manifest["classes"]] == best
    assert manifest["views"][0]["cells"] == [7, 11]
    assert f"numbers: {tmp_path / 'cat.npz'}" in run(capsys, *args)[1]


def test_the_methods_are_listed(capsys):
    """A photo is not needed, and a method of one's own is among them."""
    register("of_our_own", lambda A, G: (A * G).sum(1), summary="twice as good")
    try:
        code, out, err = run(capsys, "--method", "list")
    finally:
        del METHODS["of_our_own"]
    assert (code, err) == (0, "")
    rows = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert list(rows) == [*METHODS, "of_our_own"]
    assert rows["of_our_own"] == "twice as good"
    assert rows["cam"].startswith("exact")


def test_another_method_arrives(clf, tmp_path, capsys):
    args = ("data/photos/cat.jpg", "--method", "layer_cam", "--target", "lynx", "--out", tmp_path, "--json")
    code, out, _ = run(capsys, *args)
    (row,) = map(json.loads, out.splitlines())
    exp = explain(clf, "data/photos/cat.jpg", method="layer_cam")
    assert (code, row["unit"]) == (0, exp.unit)
    assert row["evidence"] == pytest.approx([float(exp.map("lynx").min()), float(exp.map("lynx").max())], abs=1e-3)
    assert np.abs(iio.imread(row["picture"]).astype(int) - exp.overlay("lynx")).max() <= 1


@pytest.mark.parametrize(
    "args", [[], ["--top", "0", "x"], ["--frobnicate", "x"], ["x", "--top", "2", "--target", "cat"]]
)
def test_bad_usage_exits_2(capsys, args):
    with pytest.raises(SystemExit) as stop:
        main(args)
    assert stop.value.code == 2
    assert "usage: camlib" in capsys.readouterr().err


def test_module_and_command_are_the_same():
    script = Path(sys.executable).with_name("camlib")
    outs = [
        subprocess.check_output([*command, "--help"], text=True)
        for command in ([sys.executable, "-m", "camlib"], [script])
    ]
    assert "PHOTO|FOLDER" in outs[0]
    assert outs[0] == outs[1]
