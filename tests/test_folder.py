"""Many photos: resumed, sharded, read ahead, and never more than a few in memory."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import camlib.cli
import camlib.pipeline
from camlib import CamError, HeadError, explain, load_model
from camlib.cli import main
from camlib.folder import Journal, ahead, explained
from camlib.methods import METHODS
from tests.networks import Fickle, tiny

CAM = METHODS["cam"]

PHOTOS = ("cat.jpg", "coffee.png", "camera.png", "rocket.jpg", "panda.webp")


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in PHOTOS:
        shutil.copy(f"data/photos/{name}", folder)
    return folder


@pytest.fixture
def explained_photos(monkeypatch):
    """Counts the photos that really went through the network."""
    names = []

    def counted(clf, files, pool, method, **options):
        for file, exp in explained(clf, files, pool, method, **options):
            names.append(file.name)
            yield file, exp

    monkeypatch.setattr(camlib.cli, "explained", counted)
    return names


def pictures(folder):
    return {p.name: p.read_bytes() for p in folder.glob("*.png")}


def same_pictures(some, other):
    """The same files, to one gray level: a photo's numbers move in the last bits with the batch that it is in."""
    assert some.keys() == other.keys()
    for name, content in some.items():
        a, b = (np.asarray(Image.open(io.BytesIO(c))).astype(int) for c in (content, other[name]))
        assert np.abs(a - b).max() <= 1
    return True


def same_rows(some, other):
    for a, b in zip(some, other, strict=True):
        numbers = ("probability", "logit", "evidence", "scale")
        assert {k: v for k, v in a.items() if k not in numbers} == {k: v for k, v in b.items() if k not in numbers}
        for k in numbers:
            assert a[k] == pytest.approx(b[k], abs=1e-3)
    return True


def rows(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


# Resuming


def test_a_finished_job_is_not_done_again_but_its_table_is_printed(photos, tmp_path, capsys, explained_photos):
    job = [str(photos), "--out", str(tmp_path / "out"), "--json"]
    assert main(job) == 0
    first, written = rows(capsys), pictures(tmp_path / "out")
    assert len(explained_photos) == len(first) == len(written) == 5
    assert main(job) == 0
    assert rows(capsys) == first
    assert len(explained_photos) == 5
    assert main([*job, "--redo"]) == 0
    assert len(explained_photos) == 10
    assert same_pictures(pictures(tmp_path / "out"), written)


@pytest.mark.parametrize(
    ("change", "again"),
    [
        (lambda photos, out: next(out.glob("coffee*.png")).unlink(), ["coffee.png"]),
        (lambda photos, out: os.utime(photos / "cat.jpg", (1, 1)), ["cat.jpg"]),
        (
            lambda photos, out: (out / "camlib.jsonl").write_bytes((out / "camlib.jsonl").read_bytes()[:-40]),
            ["rocket.jpg"],
        ),
        (lambda photos, out: (out / "camlib.jsonl").write_text('[]\n"x"\n{"photo": 3}\n\x00'), sorted(PHOTOS)),
    ],
    ids=["a picture is gone", "a photo has changed", "a line is cut off", "nonsense"],
)
def test_what_is_not_finished_is_done(photos, tmp_path, capsys, explained_photos, change, again):
    out = tmp_path / "out"
    job = [str(photos), "--out", str(out), "--json"]
    main(job)
    first, written = rows(capsys), pictures(out)
    explained_photos.clear()
    change(photos, out)
    assert main(job) == 0
    assert explained_photos == again
    assert same_rows(rows(capsys), first)
    assert same_pictures(pictures(out), written)


def test_other_options_are_another_job(photos, tmp_path, explained_photos):
    job = [str(photos), "--out", str(tmp_path / "out")]
    main(job)
    main([*job, "--top", "2"])
    assert len(explained_photos) == 10


def test_killed_in_the_middle_it_resumes(photos, tmp_path):
    """A real process, killed as soon as a line stands in the journal: nothing half written, and then the rest."""
    for n in range(30):
        shutil.copy("data/photos/coffee.png", photos / f"c{n}.png")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "camlib", str(photos), "--out", str(out), "--batch", "1"]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (out / "camlib.jsonl").is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    running.kill()
    running.wait()
    finished = (out / "camlib.jsonl").read_text().count("\n")
    assert 0 < finished < 35
    for picture in out.glob("*.png"):
        assert picture.read_bytes().endswith(b"IEND\xaeB`\x82")
    again = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    assert again.stdout.count(b"colour scale") == 35
    assert len(list(out.glob("*.png"))) == 35


@pytest.mark.parametrize(
    ("option", "file"), [("--html", "cat.html"), ("--figure", "cat.figure.jpg"), ("--raw", "cat.npz")]
)
def test_what_is_gone_or_newly_wanted_is_written(photos, tmp_path, explained_photos, option, file):
    job = [str(photos), "--out", str(tmp_path / "out")]
    main(job)
    explained_photos.clear()
    main([*job, option])
    assert len(explained_photos) == 5
    (tmp_path / "out" / file).unlink()
    explained_photos.clear()
    main([*job, option])
    assert explained_photos == ["cat.jpg"]
    assert (tmp_path / "out" / file).is_file()


def test_one_photo_is_always_done(tmp_path, explained_photos):
    for _ in range(2):
        main(["data/photos/cat.jpg", "--out", str(tmp_path)])
    assert len(explained_photos) == 2
    assert not (tmp_path / "camlib.jsonl").exists()


def test_journal_that_cannot_be_written(tmp_path):
    with pytest.raises(CamError, match="cannot be written"):
        Journal(tmp_path / "missing", {}).add(Path("data/photos/cat.jpg"), [])


# Shards


def test_shards_are_the_whole(photos, tmp_path, capsys):
    main([str(photos), "--out", str(tmp_path / "one"), "--json"])
    whole = {row["photo"] for row in rows(capsys)}
    parts = []
    for part in (1, 2, 3):
        assert main([str(photos), "--out", str(tmp_path / "all"), "--json", "--shard", f"{part}/3"]) == 0
        parts.append({row["photo"] for row in rows(capsys)})
    assert set.union(*parts) == whole
    assert sum(map(len, parts)) == len(whole)
    assert same_pictures(pictures(tmp_path / "all"), pictures(tmp_path / "one"))
    assert main([str(photos), "--out", str(tmp_path / "all"), "--shard", "9/9"]) == 0  # more parts than photos


def test_the_parts_of_a_job_are_its_journal(photos, tmp_path, explained_photos):
    for part in (1, 2):
        main([str(photos), "--out", str(tmp_path / "out"), "--shard", f"{part}/2"])
    explained_photos.clear()
    main([str(photos), "--out", str(tmp_path / "out")])
    assert explained_photos == []


@pytest.mark.parametrize("shard", ["0/2", "3/2", "2", "a/b", "1/0"])
def test_bad_shards(shard, capsys):
    with pytest.raises(SystemExit):
        main(["x", "--shard", shard])
    assert "is not I/N" in capsys.readouterr().err


def recipe(name):
    """The commands under a heading of the README's section on large jobs."""
    text = Path("README.md").read_text(encoding="utf-8")
    return re.search(rf"{name}.*?```(?:bash|sh)\n(.*?)```", text, re.S).group(1)


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
def test_slurm_recipe(photos, tmp_path):
    """The script of the README, as each task of a SLURM array would run it."""
    script = recipe("SLURM")
    tasks = int(re.search(r"--array=1-(\d+)", script).group(1))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    running = []
    for task in range(1, tasks + 1):
        env = os.environ | {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_COUNT": str(tasks), "PATH": path}
        running.append(subprocess.Popen(["bash", "-c", script], cwd=tmp_path, env=env, stdout=subprocess.DEVNULL))
    assert [task.wait() for task in running] == [0] * tasks
    assert len(pictures(tmp_path / "maps")) == 5


@pytest.mark.skipif(not shutil.which("parallel"), reason="GNU parallel is not installed")
def test_gnu_parallel_recipe(photos, tmp_path):
    env = os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    subprocess.run(["bash", "-c", recipe("GNU parallel")], cwd=tmp_path, env=env, check=True, stdout=subprocess.DEVNULL)
    assert len(pictures(tmp_path / "maps")) == 5


# Reading ahead


def test_ahead_overlaps_keeps_the_order_and_its_depth():
    running, most, done = set(), 0, []
    both = threading.Barrier(2, timeout=20)

    def slow(n):
        nonlocal most
        running.add(n)
        most = max(most, len(running))
        if n < 2:
            both.wait()  # only two at once get past here
        running.discard(n)
        return n

    def items():
        for n in range(20):
            assert n - len(done) < 4, "too far ahead"
            yield n

    with ThreadPoolExecutor(2) as pool:
        for n in ahead(pool, slow, items(), depth=4):
            done.append(n)
    assert done == list(range(20))
    assert most == 2


def test_memory_is_flat(tmp_path):
    """However many photos, only a few explanations live at a time."""
    clf = load_model()
    files = [Path("data/photos/cat.jpg")] * 40
    alive, most = weakref.WeakSet(), 0
    with ThreadPoolExecutor(2) as pool:
        for _, exp in explained(clf, files, pool, CAM, batch=4):
            alive.add(exp)
            most = max(most, len(alive))
    assert 0 < most <= 8


def test_same_as_explain_in_order(clf):
    files = [Path(f"data/photos/{name}") for name in PHOTOS]
    with ThreadPoolExecutor(3) as pool:
        pairs = list(explained(clf, files, pool, CAM, batch=2, sizes=(224, 320), view="whole"))
    assert [file for file, _ in pairs] == files
    for file, exp in pairs:
        alone = explain(clf, file, sizes=(224, 320), view="whole")
        assert (exp.logits - alone.logits).abs().max() < 1e-4
        assert exp.maps.shape == alone.maps.shape


def test_one_bad_photo_spoils_no_batch(clf, monkeypatch, tmp_path):
    files = [Path(f"data/photos/{name}") for name in PHOTOS[:4]]
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8")
    files.insert(1, tmp_path / "broken.jpg")
    real, calls = camlib.pipeline.explain_prepared, []

    def fussy(clf, inputs, method):
        calls.append(len(inputs))
        if any(given.photo.shape == (427, 640, 3) for given in inputs):  # the rocket
            raise HeadError("not this photo")
        return real(clf, inputs, method)

    monkeypatch.setattr(camlib.pipeline, "explain_prepared", fussy)
    with ThreadPoolExecutor(2) as pool:
        results = [exp for _, exp in explained(clf, files, pool, CAM, batch=5)]
    assert calls == [4, 1, 1, 1, 1]
    assert [isinstance(exp, CamError) for exp in results] == [False, True, False, False, True]
    assert "not this photo" in str(results[4])


def test_a_photo_that_does_not_fit_spoils_no_batch(cat, tmp_path):
    """One photo of many for which the network has no exact map: the others keep theirs."""
    clf = load_model(Fickle(), size=64)
    files = [Path(f"data/photos/{name}") for name in PHOTOS[:3]]
    Image.fromarray((cat // 30 + 100).astype(np.uint8)).save(tmp_path / "pale.png")
    files.insert(1, tmp_path / "pale.png")
    with ThreadPoolExecutor(2) as pool:
        results = dict(explained(clf, files, pool, CAM, batch=4))
    assert list(results) == files
    assert "misses the logits" in str(results.pop(tmp_path / "pale.png"))
    for file, exp in results.items():
        torch.testing.assert_close(exp.map(1), explain(clf, file).map(1))


@pytest.mark.parametrize("method", ["grad_cam", "layer_cam"])
def test_every_method_runs_through_a_folder(method):
    clf = load_model(tiny(), size=64)
    files = [Path(f"data/photos/{name}") for name in PHOTOS[:3]]
    with ThreadPoolExecutor(2) as pool:
        for file, exp in explained(clf, files, pool, METHODS[method], batch=2):
            assert exp.method == method
            torch.testing.assert_close(exp.map(2), explain(clf, file, method=method).map(2))
