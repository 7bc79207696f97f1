"""The command line as a person uses it."""

import json
import shutil
import subprocess
import sys

import imageio.v3 as iio
import pytest

from camlib.cli import main


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


def test_whole_view_and_sizes(tmp_path, capsys):
    args = ("data/photos/cat.jpg", "--view", "whole", "--size", 224, "--size", 320, "--out", tmp_path)
    assert run(capsys, *args)[0] == 0


def test_folder_goes_on_past_a_bad_file(tmp_path, capsys):
    photos = tmp_path / "photos"
    (photos / "more").mkdir(parents=True)
    for name in ("cat.jpg", "coffee.png"):
        shutil.copy(f"data/photos/{name}", photos)
    shutil.copy("data/photos/coffee.png", photos / "more" / "cat.png")  # the same stem as cat.jpg
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (photos / "notes.txt").write_text("no picture")
    code, out, err = run(capsys, photos, "--out", tmp_path / "out", "--batch", 2)
    assert code == 1
    assert "1 of 4 photos could not be used" in err
    assert "broken.png" in err
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == ["cat.jpg.282-tiger-cat.png", "cat.png.967-espresso.png", "coffee.967-espresso.png"]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["missing.jpg"], "missing.jpg: no such file"),
        (["data/photos/cat.jpg", "--target", "tigre cat"], "Did you mean: tiger cat"),
        (["data/photos/cat.jpg", "--target", "-1"], "No class -1"),
        (["data/photos/cat.jpg", "--model", "resnet5"], "No model 'resnet5'"),
        (["data/photos/cat.jpg", "--method", "magic"], "No method 'magic'"),
        (["data/photos/cat.jpg", "--size", "8"], "at least 32"),
        (["data/photos/cat.jpg", "--out", "pyproject.toml/x"], "cannot be made a folder"),
        (["notebooks/exercises-that-do-not-exist"], "no such file"),
        (["tests"], "no picture files in this folder"),
    ],
)
def test_bad_input_gets_one_clear_line_and_exit_code_2(tmp_path, capsys, args, says):
    args = args if "--out" in args else [*args, "--out", tmp_path]
    code, out, err = run(capsys, *args)
    assert code == 2
    assert says in err
    assert err.startswith("camlib: ")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "args", [[], ["--top", "0", "x"], ["--frobnicate", "x"], ["x", "--top", "2", "--target", "cat"]]
)
def test_bad_usage_exits_2(capsys, args):
    with pytest.raises(SystemExit) as stop:
        main(args)
    assert stop.value.code == 2
    assert "usage: camlib" in capsys.readouterr().err


def loaded(script: str) -> set[str]:
    """Which heavy modules a fresh interpreter has loaded after the script."""
    show = "import sys; print(*({'torch', 'timm', 'matplotlib', 'IPython', 'numpy'} & set(sys.modules)))"
    return set(subprocess.check_output([sys.executable, "-c", f"{script}; {show}"], text=True).split())


def test_help_and_import_are_light():
    assert loaded("import camlib, camlib.cli; camlib.cli.parser().format_help()") == set()
    assert loaded("from camlib import read_image, find_head, place") == {"torch", "numpy"}
    assert "matplotlib" in loaded("from camlib.plot import _table; _table('coolwarm', 1.0)"), "the probe sees nothing"


def test_module_and_command_are_the_same():
    for command in ([sys.executable, "-m", "camlib"],):
        out = subprocess.check_output([*command, "--help"], text=True)
        assert "PHOTO|FOLDER" in out


def test_the_function_explain_wins_over_its_module():
    script = "from camlib.explain import Prediction; import camlib; assert callable(camlib.explain); camlib.nonsense"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "module 'camlib' has no attribute 'nonsense'" in run.stderr
