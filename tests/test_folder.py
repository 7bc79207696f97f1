"""Many photos: resumed, sharded, read ahead, and never more than a few in memory."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import camlib.evidence
import camlib.job
import camlib.models
from camlib import CamError, HeadError, explain, load_model, read_image
from camlib.cli import main
from camlib.folder import Explained, Memory, ahead, explained, find_photos
from camlib.inputs import prepare
from camlib.job import Settings, run
from camlib.journal import Journal
from camlib.methods import METHODS
from tests.networks import Fickle, tiny

CAM = METHODS["cam"]

PHOTOS = ("cat.jpg", "coffee.png", "camera.png", "rocket.jpg", "panda.webp")


@pytest.fixture(autouse=True)
def loaded_once(clf, monkeypatch):
    monkeypatch.setattr(camlib.models, "load_model", lambda *_args, **_options: clf)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in PHOTOS:
        shrink(name, folder / name)
    return folder


def shrink(name, path):
    """A small copy of a photo, which is drawn faster."""
    with Image.open(f"data/photos/{name}") as image:
        image.thumbnail((160, 160))
        image.save(path)


@pytest.fixture
def explained_photos(monkeypatch):
    """Counts the photos that really went through the network."""
    names = []

    def counted(*args, **options):
        for seen in explained(*args, **options):
            names.append(seen.file.name)
            yield seen

    monkeypatch.setattr(camlib.job, "explained", counted)
    return names


def pictures(folder):
    return {p.name: p.read_bytes() for p in folder.glob("*.png")}


def explained_by(clf, files, method=CAM, batch=1, **options):
    """A list of (file, explanation or error)."""
    with ThreadPoolExecutor(3) as pool:
        seen = list(explained(clf, files, pool, method, Memory(), batch=batch, **options))
    return [
        (file, one.explanation(clf, read_image(file)) if isinstance(one, Explained) else one)
        for file, one in zip(files, seen, strict=True)
    ]


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
    assert pictures(tmp_path / "out") == written


@pytest.mark.parametrize(
    ("change", "again"),
    [
        (lambda photos, out: next(out.glob("coffee*.png")).unlink(), ["coffee.png"]),
        (lambda photos, out: rewrite(next(out.glob("coffee*.png"))), ["coffee.png"]),
        (lambda photos, out: (out / "coffee.npz").unlink(), ["coffee.png"]),
        (lambda photos, out: (out / "coffee.npz.json").unlink(), ["coffee.png"]),
        (lambda photos, out: shutil.copy(photos / "cat.jpg", photos / "other.jpg"), ["other.jpg"]),
        (lambda photos, out: os.utime(photos / "cat.jpg", (1, 1)), []),
        (lambda photos, out: [os.utime(path, (1, 1)) for path in out.iterdir()], []),
        (
            lambda photos, out: (out / "camlib.jsonl").write_bytes((out / "camlib.jsonl").read_bytes()[:-40]),
            ["rocket.jpg"],
        ),
        (lambda photos, out: (out / "camlib.jsonl").write_text('[]\n"x"\n{"photo": 3}\n\x00'), sorted(PHOTOS)),
    ],
    ids=["a picture is gone", "a picture has changed", "numbers are gone", "their manifest is gone", "a new photo"]
    + ["a photo has another time", "the pictures have other times", "a line is cut off", "nonsense"],
)
def test_what_is_not_finished_is_done(photos, tmp_path, capsys, explained_photos, change, again):
    out = tmp_path / "out"
    job = [str(photos), "--out", str(out), "--json", "--raw"]
    main(job)
    first, written = rows(capsys), pictures(out)
    explained_photos.clear()
    change(photos, out)
    assert main(job) == 0
    assert explained_photos == again
    assert [row for row in rows(capsys) if "other" not in row["photo"]] == first
    assert {name: data for name, data in pictures(out).items() if "other" not in name} == written
    explained_photos.clear()
    assert main(job) == 0
    assert explained_photos == []


def rewrite(path):
    """Change one byte and leave the size as it was."""
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def test_a_photo_that_has_changed_is_done_again(photos, tmp_path, capsys, explained_photos):
    job = [str(photos), "--out", str(tmp_path / "out"), "--json"]
    main(job)
    shrink("flower.jpg", photos / "cat.jpg")
    explained_photos.clear()
    assert main(job) == 0
    assert explained_photos == ["cat.jpg"]
    labels = {row["photo"]: row["label"] for row in rows(capsys)[-5:]}
    assert labels[str(photos / "cat.jpg")] != "tiger cat"


def test_other_options_are_another_job(photos, tmp_path, explained_photos):
    job = [str(photos), "--out", str(tmp_path / "out")]
    main(job)
    main([*job, "--top", "2"])
    assert len(explained_photos) == 10


def test_killed_in_the_middle_it_resumes(photos, tmp_path):
    """A real process, killed as soon as a line stands in the journal: nothing half written, and then the rest."""
    for n in range(15):
        shutil.copy("data/photos/coffee.png", photos / f"c{n}.png")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "camlib", str(photos), "--out", str(out)]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (out / "camlib.jsonl").is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    running.kill()
    running.wait()
    finished = (out / "camlib.jsonl").read_text().count("\n")
    assert 0 < finished < 20
    for picture in out.glob("*.png"):
        assert picture.read_bytes().endswith(b"IEND\xaeB`\x82")
    names = [json.loads(line) for line in (out / "camlib.names.jsonl").read_text().splitlines()]
    assert len({line["name"] for line in names[:20]}) == 20, "names are taken before anything is written"
    intended = {name for line in names for name in line.get("files", [])}
    assert intended >= {path.name for path in out.glob("*.png")}, "and files before they are"
    again = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    assert again.stdout.count(b"colour scale") == 20
    assert len(list(out.glob("*.png"))) == 20


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
    assert [path.name for path in tmp_path.glob("*.png")] == ["cat.282-tiger-cat.png"]


# Shards


def test_shards_are_the_whole(photos, tmp_path, capsys):
    main([str(photos), "--out", str(tmp_path / "one"), "--json"])
    whole = {row["photo"]: Path(row["picture"]).read_bytes() for row in rows(capsys)}
    parts = []
    for part in (1, 2, 3):
        assert main([str(photos), "--out", str(tmp_path / "all"), "--json", "--shard", f"{part}/3"]) == 0
        parts += rows(capsys)
    assert len(parts) == len(whole) == len(pictures(tmp_path / "all"))
    assert {row["photo"]: Path(row["picture"]).read_bytes() for row in parts} == whole
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
    """The commands below this word in docs/large_jobs.md."""
    text = Path("docs/large_jobs.md").read_text(encoding="utf-8")
    return re.search(rf"{name}.*?```(?:bash|sh|python)\n(.*?)```", text, re.S).group(1)


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
def test_slurm_recipe(photos, tmp_path):
    """The script of docs/large_jobs.md, as each task of a SLURM array would run it."""
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


def test_dask_recipe(photos, tmp_path, monkeypatch, capsys):
    """The script of docs/large_jobs.md; in place of Dask's, a client that runs one part after the other, in here."""
    clf, script, codes = load_model(tiny(), size=64), recipe("Dask"), []

    class Client:
        def __init__(self, n_workers):
            pass

        def map(self, function, items):
            return map(function, items)

        def gather(self, results):
            codes.extend(results)
            return codes

    monkeypatch.setattr(camlib.models, "load_model", lambda *_args, **_options: clf)
    monkeypatch.setitem(sys.modules, "dask", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "dask.distributed", SimpleNamespace(Client=Client))
    monkeypatch.setattr(subprocess, "run", lambda words: SimpleNamespace(returncode=main(words[1:])))
    monkeypatch.chdir(tmp_path)
    exec(script, {"__name__": "__main__"})
    assert codes == [0] * 4
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


def test_memory_is_flat(clf):
    """However many photos, only a few are held at a time, and without their pixels."""
    files = [Path("data/photos/cat.jpg")] * 40
    alive, most = weakref.WeakSet(), 0
    memory = Memory()
    with ThreadPoolExecutor(2) as pool:
        for seen in explained(clf, files, pool, CAM, memory, batch=4):
            alive.add(seen.evidence)
            most = max(most, len(alive))
    assert 0 < most <= 8
    memory.forget(files[0])
    assert memory._used == 0


def test_a_million_paths_wait_without_their_photos(clf, tmp_path, monkeypatch):
    """A listed photo costs its path, its name and its place in the journal: about 1 kB, however large it is."""
    count, opened, real_scan, real_photo = 10_000, [], os.scandir, Memory.photo

    class Entry(SimpleNamespace):
        def is_dir(self, follow_symlinks=True):
            return False

    def scan(folder):
        listed = (Entry(name=f"IMG_{n:07}.jpg") for n in range(count))
        return contextlib.nullcontext(listed) if folder == tmp_path else real_scan(folder)

    def photo(self, file, **options):
        opened.append(file)
        return real_photo(self, "data/photos/cat.jpg", **options)

    monkeypatch.setattr(os, "scandir", scan)
    monkeypatch.setattr(Memory, "photo", photo)
    (tmp_path / "out").mkdir()
    settings = Settings(tmp_path / "out", workers=2)
    tracemalloc.start()
    try:
        photos, _ = find_photos([tmp_path])
        journal = Journal(settings.out, settings.options)
        journal.take_names(photos)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    print(f"at most {most / count:.0f} bytes per path")
    assert len(photos) == count and most < 1500 * count
    results = run(clf, photos, settings, journal)
    written = [next(results) for _ in range(3)]
    results.close()
    assert [file for file, _ in written] == photos[:3] and all(isinstance(rows, list) for _, rows in written)
    assert len({*opened}) <= 3 + 2 * settings.workers + 2 * settings.batch


def test_same_as_explain_in_order(clf):
    files = [Path(f"data/photos/{name}") for name in PHOTOS]
    for file, exp in explained_by(clf, files, batch=2, sizes=(224, 320), view="whole"):
        alone = explain(clf, file, sizes=(224, 320), view="whole")
        assert (exp.logits - alone.logits).abs().max() < 1e-4
        assert exp.maps.shape == alone.maps.shape
        assert np.abs(exp.overlay().astype(int) - alone.overlay()).max() <= 1


def test_one_photo_at_a_time_is_the_same_to_the_last_bit(clf):
    files = [Path(f"data/photos/{name}") for name in PHOTOS]
    for file, exp in explained_by(clf, files):
        assert torch.equal(exp.maps, explain(clf, file).maps)


def test_one_bad_photo_spoils_no_batch(clf, monkeypatch, tmp_path):
    files = [Path(f"data/photos/{name}") for name in PHOTOS[:4]]
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8")
    files.insert(1, tmp_path / "broken.jpg")
    real, calls = camlib.evidence.evidence, []
    (rocket,) = prepare(clf, files[4]).tensors

    def fussy(clf, views, tensors, method, layer):
        calls.append(len(tensors))
        if any(torch.equal(x, rocket) for (x,) in tensors):
            raise HeadError("not this photo")
        return real(clf, views, tensors, method, layer)

    monkeypatch.setattr(camlib.evidence, "evidence", fussy)
    results = [exp for _, exp in explained_by(clf, files, batch=5)]
    assert calls == [4, 1, 1, 1, 1]
    assert [isinstance(exp, CamError) for exp in results] == [False, True, False, False, True]
    assert "not this photo" in str(results[4])


def test_a_photo_that_does_not_fit_spoils_no_batch(cat, tmp_path):
    """One photo of many for which the network has no exact map: the others keep theirs."""
    clf = load_model(Fickle(), size=64)
    files = [Path(f"data/photos/{name}") for name in PHOTOS[:3]]
    Image.fromarray((cat // 30 + 100).astype(np.uint8)).save(tmp_path / "pale.png")
    files.insert(1, tmp_path / "pale.png")
    results = dict(explained_by(clf, files, batch=4))
    assert list(results) == files
    assert "misses the logits" in str(results.pop(tmp_path / "pale.png"))
    for file, exp in results.items():
        torch.testing.assert_close(exp.map(1), explain(clf, file).map(1))


@pytest.mark.parametrize("method", ["grad_cam", "layer_cam"])
def test_every_method_runs_through_a_folder(method):
    clf = load_model(tiny(), size=64)
    files = [Path(f"data/photos/{name}") for name in PHOTOS[:3]]
    for file, exp in explained_by(clf, files, METHODS[method], batch=2):
        assert exp.method == method
        torch.testing.assert_close(exp.map(2), explain(clf, file, method=method).map(2))


# Memory


def test_photos_wait_for_their_share_of_the_memory(tmp_path):
    """Six threads want photos of 20 MB each, and 70 MB is what they may have."""
    Image.new("RGB", (1000, 833)).save(tmp_path / "a.png")
    memory, held, most = Memory(70_000_000), 0, []
    change, three = threading.Lock(), threading.Event()

    def hold(_):
        nonlocal held
        with memory.photo(tmp_path / "a.png") as (photo, _state):
            with change:
                held += 1
                most.append(held)
                if held == 3:
                    three.set()
            assert photo.shape == (833, 1000, 3)
            three.wait(10)
            time.sleep(0.02)  # for a fourth, if it is let in
            with change:
                held -= 1

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(hold, range(12)))
    assert max(most) == 3
    assert memory._used == 0


def test_a_photo_is_kept_until_it_is_drawn_or_others_need_the_memory(tmp_path, monkeypatch):
    """A photo of 20 MB for decoding is 2.5 MB as pixels; 30 MB is what all may have."""
    rng, paths = np.random.default_rng(0), [tmp_path / f"{n}.bmp" for n in range(4)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (833, 1000, 3), dtype=np.uint8)).save(path)
    read, real = [], camlib.images.decode
    monkeypatch.setattr("camlib.images.decode", lambda data, name, **options: read.append(name) or real(data, name))
    memory = Memory(30_000_000)

    def look(path, keep=False):
        with memory.photo(path, keep) as (photo, state):
            assert np.array_equal(photo, np.asarray(Image.open(path))) and state == camlib.files.state_of(path, 1 << 30)
        return memory._used

    kept = 3 * 1000 * 833
    assert [look(path, keep=True) for path in paths] == [kept, 2 * kept, 3 * kept, 3 * kept], "up to a quarter"
    assert look(paths[0]) == 2 * kept and len(read) == 4, "not read again"
    assert look(paths[0]) == 2 * kept and len(read) == 5, "but only once"
    Image.fromarray(rng.integers(0, 256, (833, 1000, 3), dtype=np.uint8)).save(paths[1])
    assert look(paths[1]) == kept and len(read) == 6, "it has changed"
    with memory.photo(paths[0]):
        assert memory._used > kept + 20_000_000
        memory._take(7_000_000)
    assert memory._used == 7_000_000, "others needed the memory"
    memory._give(7_000_000)
    look(paths[2], keep=True)
    memory.forget(paths[2])
    assert memory._used == 0


def test_a_photo_that_exceeds_the_memory_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    Image.new("1", (4000, 3000)).save(tmp_path / "large.png")
    monkeypatch.setattr("camlib.images.decode", lambda *_args, **_options: pytest.fail("decoded"))
    memory = Memory(100 << 20)
    with (
        pytest.raises(CamError, match=r"large.png: 4000×3000 pixels need 0.3 GB of memory, but --memory allows 0.1"),
        memory.photo(tmp_path / "large.png"),
    ):
        pass
    assert memory._used == 0


def test_the_memory_is_given_back_after_an_error(tmp_path):
    (tmp_path / "cut.jpg").write_bytes(Path("data/photos/cat.jpg").read_bytes()[:9000])
    memory = Memory()
    for _ in range(3):
        with pytest.raises(CamError, match="cut.jpg"), memory.photo(tmp_path / "cut.jpg"):
            pass
    with pytest.raises(RuntimeError), memory.photo("data/photos/cat.jpg"):
        raise RuntimeError
    assert memory._used == 0
