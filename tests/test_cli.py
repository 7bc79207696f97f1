"""The command line as a person uses it."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

import camlib.models
from camlib import explain, load_model
from camlib.cli import main, parser
from camlib.methods import METHODS, register


@pytest.fixture(autouse=True)
def loaded_once(clf, monkeypatch):
    """The bundled network is loaded once, and any other one as always."""
    load = camlib.models.load_model

    def loaded(name, device):
        return clf if (name, device) == ("efficientnet_lite0", "cpu") else load(name, device=device)

    monkeypatch.setattr(camlib.models, "load_model", loaded)


def run(capsys, *args):
    code = main([str(a) for a in args])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_one_photo(tmp_path, capsys):
    code, out, _ = run(capsys, "data/photos/cat.jpg", "--top", 2, "--out", tmp_path)
    assert code == 0
    names = ["cat-top2.282-tiger-cat.png", "cat-top2.285-egyptian-cat.png"]
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith((".", "camlib."))) == names
    assert iio.imread(tmp_path / names[0]).shape == (300, 451, 3)
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


def test_a_network_without_an_exact_map_gets_a_frozen_one(tmp_path, capsys, monkeypatch):
    from camlib.shapes import NORMALISATION, SHAPES, SIDE, trained_transformer

    vit = load_model(trained_transformer(), labels=SHAPES, size=SIDE, **NORMALISATION)
    monkeypatch.setattr(camlib.models, "load_model", lambda name, device: vit)
    args = ("data/photos/cat.jpg", "--model", "vit", "--top", 2, "--out", tmp_path)
    code, out, err = run(capsys, *args)
    assert code == 0
    (line,) = [line for line in err.splitlines() if "no exact class activation map" in line]
    assert "uses --method frozen" in line
    header, *rows = out.splitlines()[1:4]
    assert header.split() == ["class", "probability", "logit", "on", "the", "map", "evidence", "picture"]
    exp = explain(vit, "data/photos/cat.jpg", method="frozen")
    for row, p in zip(rows, exp.top(2), strict=True):
        logit, on_the_map = (float(value) for value in row.split("%")[1].split()[:2])
        assert logit == pytest.approx(p.logit, abs=1e-3)
        assert on_the_map == pytest.approx(float(exp.map(p.index).mean()), abs=2e-3)
    code, out, err = run(capsys, *args, "--json")
    assert json.loads(out.splitlines()[0])["rest"] == pytest.approx(exp.rest(exp.top(1)[0].index), abs=1e-3)
    code, out, err = run(capsys, *args, "--method", "cam")
    assert code == 2 and "method='frozen'" in err  # asked for by name, it is refused


def test_a_named_layer(tmp_path, capsys, monkeypatch):
    from camlib.shapes import NORMALISATION, SHAPES, SIDE, trained_transformer

    vit = load_model(trained_transformer(), labels=SHAPES, size=SIDE, **NORMALISATION)
    monkeypatch.setattr(camlib.models, "load_model", lambda name, device: vit)
    args = ("data/photos/cat.jpg", "--model", "vit", "--out", tmp_path, "--json")
    code, out, _ = run(capsys, *args, "--layer", "blocks.0")
    row = json.loads(out)
    exp = explain(vit, "data/photos/cat.jpg", method="frozen", layer="blocks.0")
    assert code == 0 and row["rest"] == pytest.approx(exp.rest(), abs=1e-3)
    assert row["rest"] != pytest.approx(explain(vit, "data/photos/cat.jpg", method="frozen").rest(), abs=1e-2)
    by_default = json.loads(run(capsys, *args)[1])
    assert by_default["picture"] != row["picture"] and "blocks-0" in row["picture"]
    code, _, err = run(capsys, *args, "--layer", "blocks.7")
    assert code == 2 and "blocks.7" in err
    code, _, err = run(capsys, *args, "--layer", "")
    assert code == 2 and "--layer is empty" in err
    code, _, err = run(capsys, *args, "--method", "cam", "--layer", "stem")
    assert code == 2 and "--layer is for other methods" in err


def test_figure_shows_the_classes_side_by_side(clf, tmp_path, capsys):
    names = ("--target", "lynx", "--target", 282)
    code, out, _ = run(capsys, "data/photos/cat.jpg", *names, "--figure", "--out", tmp_path)
    assert code == 0 and f"side by side: {tmp_path / 'cat-282+287.figure.jpg'}" in out
    exp = explain(clf, "data/photos/cat.jpg")
    figure = exp.plot([282, "lynx"])  # the more probable one first
    figure.savefig(tmp_path / "by_hand.png", dpi=200)
    drawn = iio.imread(tmp_path / "cat-282+287.figure.jpg").astype(int)
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
    assert run(capsys, photos, photos / "cat.jpg", "--json", "--out", tmp_path / "twice")[1].count("cat.282") == 1
    assert "1 of 4 photos could not be used" in err
    assert "broken.png" in err
    names = sorted(p.name for p in (tmp_path / "out").glob("*.png"))
    digest, cat, coffee = names
    assert (cat, coffee) == ("cat.282-tiger-cat.png", "coffee.967-espresso.png")
    assert re.fullmatch(r"cat-[0-9a-f]{8}\.967-espresso\.png", digest), "the second photo of this name"


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ([], "cat.282-tiger-cat.png"),
        (["--view", "whole"], "cat-whole.*.png"),
        (["--size", 320], "cat-size320.*.png"),
        (["--method", "grad_cam"], "cat-grad_cam.282-tiger-cat.png"),
        (["--target", "tiger cat"], "cat.282-tiger-cat.png"),
        (["--target", 282, "--target", 281], "cat-281+282.282-tiger-cat.png"),
        (["--target", "tiger cat", "--raw"], "cat-282.npz"),
    ],
)
def test_the_name_of_a_picture_says_how_it_was_made(tmp_path, capsys, options, name):
    assert run(capsys, "data/photos/cat.jpg", *options, "--out", tmp_path)[0] == 0
    assert list(tmp_path.glob(name))


def test_a_long_recipe_is_cut(tmp_path, capsys):
    sizes = [value for side in range(64, 224, 8) for value in ("--size", side)]
    shutil.copy("data/photos/cat.jpg", tmp_path / f"{'n' * 251}.jpg")
    code, out, _ = run(capsys, tmp_path / f"{'n' * 251}.jpg", *sizes, "--json", "--out", tmp_path / "out")
    assert code == 0 and len(Path(json.loads(out)["picture"]).name) < 200


def test_other_options_leave_earlier_files_as_they_are(tmp_path, capsys):
    """Also figures and numbers, which show the classes that were asked for."""
    seen = {}
    for options in ([], ["--target", "lynx"], ["--top", 2], ["--view", "whole"], ["--target", "lynx", "--target", 1]):
        code, _, _ = run(capsys, "data/photos/cat.jpg", *options, "--raw", "--html", "--out", tmp_path)
        assert code == 0
        now = {path.name: path.read_bytes() for path in tmp_path.iterdir() if not path.name.startswith("camlib")}
        assert seen.items() <= now.items() and len(now) > len(seen) + 3
        seen = now


def test_a_second_run_does_not_explain_the_pictures_of_the_first(tmp_path, capsys, monkeypatch):
    shutil.copy("data/photos/cat.jpg", tmp_path)
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert run(capsys, ".")[0] == 0
    assert [p.name for p in (tmp_path / "heatmaps").glob("*.png")] == ["cat.282-tiger-cat.png"]
    code, _, err = run(capsys, "heatmaps")
    assert (code, "left out: 1 picture that camlib wrote" in err) == (2, True)


def test_the_reader_of_the_table_may_leave(tmp_path):
    """Not as if everything were done: the exit code is that of a program that a closed pipe has stopped."""
    command = (
        f"{sys.executable} -m camlib data/photos/cat.jpg data/photos/coffee.png --top 5 --out {tmp_path} | head -n 1"
    )
    piped = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert (piped.returncode, piped.stderr) == (141, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_the_table_cannot_be_written(tmp_path):
    command = f"{sys.executable} -m camlib data/photos/cat.jpg --out {tmp_path} > /dev/full"
    full = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert (full.returncode, full.stderr) == (2, "camlib: cannot write the table (No space left on device)\n")


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux")
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-16"])
def test_json_in_any_encoding(tmp_path, capsys, monkeypatch, encoding):
    names = ["\u00e9\U0001f600.jpg", "new\nline.jpg", "\x1b]0;owned\x07\x1b[2J.jpg", "\u202egpj.jpg", 'quote".jpg']
    paths = [os.fsencode(tmp_path) + b"/" + name for name in [*(name.encode() for name in names), b"c\xe9t.jpg"]]
    for path in paths:
        shutil.copy("data/photos/cat.jpg", path)
    out, err = io.TextIOWrapper(io.BytesIO(), encoding), io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)
    assert main([str(tmp_path), "--out", str(tmp_path / "out"), "--json"]) == 0
    lines = out.buffer.getvalue().decode(encoding).splitlines()
    assert all(line.isascii() and line.isprintable() for line in lines)
    assert {os.fsencode(json.loads(line)["photo"]) for line in lines} == set(paths)
    out.seek(0)
    out.truncate()
    assert main([str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    out.flush()
    table = out.buffer.getvalue().decode(encoding)
    assert all(line.isprintable() for line in table.splitlines()) and table.count("colour scale") == 6


NASTY = "\x1b]0;owned\x07\x1b[31m\u202e\x9bx"


@pytest.mark.parametrize(
    "args",
    [
        [f"{NASTY}.jpg"],
        [f"--{NASTY}"],
        ["data/photos/cat.jpg", "--target", NASTY],
        ["data/photos/cat.jpg", "--model", NASTY],
        ["data/photos/cat.jpg", "--method", NASTY],
        ["data/photos/cat.jpg", "--view", NASTY],
        ["data/photos/cat.jpg", "--size", NASTY],
        ["data/photos/cat.jpg", "--memory", NASTY],
        ["data/photos/cat.jpg", "--shard", NASTY],
        ["data/photos/cat.jpg", "--out", f"pyproject.toml/{NASTY}"],
    ],
)
def test_escape_sequences_never_reach_the_terminal(tmp_path, capsys, args):
    try:
        assert main([*args, "--out", str(tmp_path)] if "--out" not in args else args) == 2
    except SystemExit as stop:
        assert stop.code == 2
    text = "".join(capsys.readouterr())
    assert "owned" in text and all(line.isprintable() for line in text.splitlines())


@pytest.mark.parametrize(
    "args",
    [
        [""],
        ["cat.jpg", ""],
        ["cat.jpg", "--out", ""],
        ["cat.jpg", "--batch", "1" + 30 * "0"],
        ["cat.jpg", "--batch", "\u00b2"],
        ["cat.jpg", "--top", 5000 * "9"],
        ["cat.jpg", "--workers", "-1"],
        ["cat.jpg", "--memory", "2"],
        ["cat.jpg", "--memory", "1M"],
        ["cat.jpg", "--memory", "nanG"],
    ],
)
def test_values_that_are_none(capsys, args):
    with pytest.raises(SystemExit, match="2"):
        main(args)
    err = capsys.readouterr().err
    assert err.splitlines()[-1].startswith("camlib: error: ") and len(err.splitlines()[-1]) < 200


@pytest.mark.parametrize(
    ("text", "size"), [("500M", 500 << 20), ("8g", 8 << 30), ("1.5GB", 3 << 29), ("64MiB", 64 << 20)]
)
def test_sizes_of_memory(text, size):
    assert parser().parse_args(["x", "--memory", text]).memory == size


def test_a_downloads_announcement_is_not_among_the_json(tmp_path, capsys, monkeypatch, clf):
    def load(*_args, **_options):
        print("Downloading: https://example.org/weights")
        return clf

    monkeypatch.setattr(camlib.models, "load_model", load)
    code, out, err = run(capsys, "data/photos/cat.jpg", "--json", "--out", tmp_path)
    assert code == 0 and json.loads(out) and "Downloading" in err


def test_a_closed_output_is_no_error(tmp_path):
    command = f"{sys.executable} -m camlib data/photos/cat.jpg --out {tmp_path} >&- 2>&-"
    assert subprocess.run(command, shell=True).returncode == 0
    assert (tmp_path / "cat.282-tiger-cat.png").is_file()


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
        (["data/photos/cat.jpg", "--target", "-1"], "o class -1"),
        (["data/photos/cat.jpg", "--target", 5000 * "9"], "no class '999"),
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
    assert {row["raw"] for row in rows} == {str(tmp_path / "cat-whole-top3.npz")}
    exp = explain(clf, "data/photos/cat.jpg", view="whole")
    best = [p.index for p in exp.top(3)]
    arrays = np.load(tmp_path / "cat-whole-top3.npz")
    assert arrays["classes"].tolist() == [row["index"] for row in rows] == best
    assert arrays["labels"].tolist() == [row["label"] for row in rows]
    np.testing.assert_allclose(arrays["maps"], exp.map(best), atol=1e-4)
    np.testing.assert_allclose(arrays["logits"], exp.logits, atol=1e-4)
    np.testing.assert_allclose(arrays["probabilities"], exp.logits.double().softmax(0), atol=1e-6)
    for row, cells in zip(rows, arrays["maps"], strict=True):
        assert row["evidence"] == pytest.approx([cells.min(), cells.max()], abs=1e-4)
        assert cells.mean() + arrays["bias"][row["index"]] == pytest.approx(row["logit"], abs=1e-3)
    manifest = json.loads((tmp_path / "cat-whole-top3.npz.json").read_text(encoding="utf-8"))
    assert [entry["index"] for entry in manifest["classes"]] == best
    assert manifest["views"][0]["cells"] == [7, 11]
    assert f"numbers: {tmp_path / 'cat-whole-top3.npz'}" in run(capsys, *args)[1]


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
    assert "PHOTO|CLIP|FOLDER" in outs[0]
    assert outs[0] == outs[1]
