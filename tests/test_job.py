"""The folder job under kills, beside other jobs, short of memory and disk, and with whatever a folder holds.

Kills, jobs side by side and memory are measured in tests/soak.py, a program of its own.
"""

import itertools
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from hashlib import blake2b
from pathlib import Path

import pytest
from PIL import Image

import camlib.job
import camlib.models
from camlib import CamError, load_model
from camlib.cli import main
from camlib.job import Settings
from tests import soak
from tests.networks import tiny
from tools import bench

root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs to be root")
forks = pytest.mark.skipif(not hasattr(os, "fork") or sys.platform != "linux", reason="needs fork and /proc")


@pytest.fixture
def small(monkeypatch):
    """A network that takes no time, for all that has nothing to do with the network."""
    clf = load_model(tiny(), size=64)
    monkeypatch.setattr(camlib.models, "load_model", lambda *_args, **_options: clf)
    return clf


@pytest.fixture
def photos(tmp_path):
    return make(tmp_path / "photos", "a.jpg", "b.jpg", "c.jpg")


def make(folder: Path, *names: str) -> Path:
    for n, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.linear_gradient("L").resize((64, 48 + n)).save(folder / name)
    return folder


def job(capsys, *args: object) -> tuple[int, list[dict], str]:
    code = main([*map(str, args), "--json"])
    out, err = capsys.readouterr()
    return code, [json.loads(line) for line in out.splitlines()], err


def done(rows: list[dict]) -> list[str]:
    return [Path(row["photo"]).name for row in rows]


def measured(tmp_path: Path, *args: object) -> dict:
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.soak", str(tmp_path), *map(str, args)]
    result = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])


# Killed


@forks
@pytest.mark.slow
def test_killed_at_fifty_random_instants_and_finished(tmp_path):
    """Every file, and every row of the journals, is what a job writes that nobody has disturbed."""
    result = measured(tmp_path, "kills", 50)
    print(result)
    assert result["wrong"] == []
    at = result["finished at the kill"]
    assert len(at) == 50 and len({*at}) > 12 and min(at) < 4 and max(at) > 19, "spread over the whole run"


@forks
@pytest.mark.slow
def test_two_jobs_at_once_that_are_killed(tmp_path):
    check_soak(measured(tmp_path, "together", 100), 80)


@forks
@pytest.mark.long
def test_soak(tmp_path):
    """Two jobs on 2000 photos, a fifth of them broken, are killed ten times: the result is that of a job left alone."""
    result = measured(tmp_path, "together", 2000)
    check_soak(result, 1600)
    alone, beside = result["rss"]
    print(
        f"RSS of a job left alone: {alone[:: len(alone) // 20]} MB, of those killed: {beside[:: len(beside) // 20]} MB"
    )
    half = alone[len(alone) // 4 :]
    assert max(half) - min(half) < 60, "flat"


def check_soak(result: dict, finished: int) -> None:
    assert result["wrong"] == []
    assert result["finished"] == finished
    codes = result["codes"]
    assert codes[0] == codes[-1] == 1, "some photos are broken"
    assert codes.count(-9) > 5, "jobs that were killed"
    assert {*codes} == {1, -9}
    broken = result["photos"] - finished
    assert result["said"] == [[f"camlib: {broken} of {result['photos']} photos could not be used:"]] * 3


@forks
def test_leftovers_of_killed_jobs_are_swept(small, photos, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    for name, age in ((f".{'0' * 32}.camlib-part", 7200), (f".{'1' * 32}.camlib-part", 0), (".mine", 7200)):
        (out / name).write_bytes(b"half")
        os.utime(out / name, (time.time() - age,) * 2)
    assert job(capsys, photos, "--out", out)[0] == 0
    assert sorted(path.name for path in out.glob(".*")) == [f".{'1' * 32}.camlib-part", ".camlib.lock", ".mine"]


def test_two_folders_into_one_at_once(small, tmp_path, monkeypatch):
    """The same names in both: each photo has the picture that it has when it is alone."""
    for folder in "ab":
        soak.make_photos(tmp_path / folder, 40)
    shown, codes = {}, []

    def record(photo, rows, method, as_json):
        shown[photo] = rows

    monkeypatch.setattr(camlib.cli, "_print", record)

    def run(folder):
        codes.append(main([str(tmp_path / folder), "--out", str(tmp_path / "out")]))

    threads = [threading.Thread(target=run, args=(folder,)) for folder in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together = {photo: Path(rows[0]["picture"]) for photo, rows in shown.items()}
    assert codes == [1, 1] and len(together) == len({*together.values()}) == 64
    shown.clear()
    for folder in "ab":
        main([str(tmp_path / folder), "--out", str(tmp_path / f"alone-{folder}")])
    assert shown.keys() == together.keys()
    for photo, rows in shown.items():
        assert together[photo].read_bytes() == Path(rows[0]["picture"]).read_bytes()


# Memory


@forks
@pytest.mark.slow
@pytest.mark.parametrize("options", [[], pytest.param(["--top", 50], marks=pytest.mark.long), ["--figure", "--html"]])
def test_large_photos_stay_within_the_memory(tmp_path, options):
    """Six photos of 9 megapixels need 216 MB each, so with 300 MB one is in work at a time."""
    folder = tmp_path / "photos"
    folder.mkdir()
    with Image.open("data/photos/cat.jpg") as cat:
        cat.resize((3464, 2598)).save(folder / "0.jpg", quality=60)
    for n in range(1, 1 if "--top" in options else 4):
        shutil.copy(folder / "0.jpg", folder / f"{n}.jpg")
    args = ["peak", folder, "--out", tmp_path / "out", "--memory", "300M", "--workers", 4, *options]
    result = measured(tmp_path, *args)
    print(options, result)
    assert result["code"] == 0
    assert result["peak"] < 300 + 100


def test_a_photo_that_exceeds_the_memory_costs_itself(small, photos, tmp_path, capsys):
    Image.new("1", (3000, 2000)).save(photos / "b.png")
    code, rows, err = job(capsys, photos, "--out", tmp_path / "out", "--memory", "100M")
    assert (code, done(rows)) == (1, ["a.jpg", "b.jpg", "c.jpg"])
    assert "b.png: 3000×2000 pixels need 0.1 GB of memory, but --memory allows 0.1 GB. Scale the picture down" in err


# One photo fails


@pytest.mark.parametrize(
    ("where", "error", "says"),
    [
        ("camlib.explanation.Explanation.save", MemoryError(), "not enough free memory"),
        ("camlib.explanation.Explanation.save", RuntimeError("an odd\nerror"), "RuntimeError: an odd."),
        ("camlib.explanation.Explanation.to_html", ZeroDivisionError("x"), "ZeroDivisionError: x."),
        ("camlib.explanation.Explanation.largest", RuntimeError("can't allocate: not enough memory: 5"), "free memory"),
        ("camlib.inputs.prepare", MemoryError(), "not enough free memory"),
        ("camlib.evidence.evidence", KeyError("x"), "KeyError"),
        ("camlib.evidence.evidence", OSError(5, "Input/output error", 3), "OSError: Input/output error."),
        ("camlib.images.decode", RecursionError("deep"), "RecursionError: deep."),
    ],
)
@pytest.mark.parametrize("batch", [1, 3])
def test_a_photo_that_fails_costs_itself(small, photos, tmp_path, capsys, monkeypatch, where, error, says, batch):
    """At whichever step, for whatever reason."""
    owner, name = where.rsplit(".", 1)
    real = getattr(__import__("pkgutil").resolve_name(owner.replace(".Explanation", ":Explanation")), name)
    monkeypatch.setattr(where, fails_for_b(real, error))
    code, rows, err = job(capsys, photos, "--out", tmp_path / "out", "--html", "--batch", batch)
    assert (code, done(rows)) == (1, ["a.jpg", "c.jpg"])
    assert "camlib: 1 of 3 photos could not be used:" in err and says in err
    assert len(err.splitlines()) == 2 and err.splitlines()[1].startswith(f"  {photos / 'b.jpg'}: ")
    monkeypatch.setattr(where, real)
    code, rows, err = job(capsys, photos, "--out", tmp_path / "out", "--html", "--batch", batch)
    assert (code, done(rows), err) == (0, ["a.jpg", "b.jpg", "c.jpg"], "")


def fails_for_b(real, error):
    """The second of the three photos is 49 pixels high."""

    def height(args):
        for arg in args:
            if isinstance(arg, list) and not isinstance(arg[0], int):  # of views, a tuple for each photo of the batch
                yield from (view.box[3] for views in arg for view in views if hasattr(view, "box"))
            elif isinstance(arg, bytes):
                yield Image.open(__import__("io").BytesIO(arg)).height
            else:
                yield getattr(getattr(arg, "photo", arg), "shape", (0,))[0]

    def fails(*args, **options):
        if any(round(value) == 49 for value in height(args)):
            raise error
        return real(*args, **options)

    return fails


def test_odd_shapes_and_labels_with_figures(photos, tmp_path, capsys, monkeypatch):
    """Neither a very tall picture, whose figure could need gigabytes, nor a label that looks like a formula."""
    clf = load_model(tiny(), size=64, labels=["$x_{$", "$5 or $6", "a/b\\c: *?"])
    monkeypatch.setattr(camlib.models, "load_model", lambda *_args, **_options: clf)
    Image.new("RGB", (40, 14000)).save(photos / "tall.png")
    code, rows, err = job(capsys, photos, "--out", tmp_path / "out", "--figure", "--top", 3)
    assert (code, len(rows), err) == (0, 12, "")
    assert len(list((tmp_path / "out").glob("a-top3.*.png"))) == 3
    with Image.open(tmp_path / "out" / "tall-top3.figure.jpg") as figure:
        assert figure.height <= 65_000 and figure.width * figure.height <= 20_100_000


@pytest.mark.parametrize("name", ["missing.jpg", "nowhere.jpg", "folder.jpg/x.jpg", "loop.jpg"])
def test_a_photo_that_is_not_there_costs_itself(small, photos, tmp_path, capsys, name):
    """Although "no such file" is also what a lost output folder says."""
    (photos / "nowhere.jpg").symlink_to("nothing")
    (photos / "loop.jpg").symlink_to("loop.jpg")
    files = [photos / "a.jpg", photos / name, photos / "c.jpg"]
    code, rows, err = job(capsys, *files, "--out", tmp_path / "out")
    assert (code, done(rows)) == (1, ["a.jpg", "c.jpg"])
    assert name in err


@pytest.mark.parametrize("when", ["read", "drawn"])
def test_a_photo_that_is_lost_or_changed_on_the_way_costs_itself(small, photos, tmp_path, capsys, monkeypatch, when):
    real = camlib.job.explained

    def explained(*args, **options):
        for seen in real(*args, **options):
            if getattr(seen, "file", None) == photos / "a.jpg":  # b.jpg may be read while it is written
                (photos / "a.jpg").unlink()
                Image.new("RGB", (64, 80)).save(photos / "b.jpg")
            yield seen

    monkeypatch.setattr(camlib.job, "explained", explained)
    options = ["--batch", 3] if when == "drawn" else []
    code, rows, err = job(capsys, photos, "--out", tmp_path / "out", *options, "--workers", 1)
    assert code == 1 and "c.jpg" in done(rows) and "a.jpg: no such file" in err
    assert when == "read" or "b.jpg: changed while it was being explained" in err
    monkeypatch.undo()
    monkeypatch.setattr(camlib.models, "load_model", lambda *_args, **_options: small)
    code, rows, err = job(capsys, photos, "--out", tmp_path / "out")
    assert (code, done(rows), err) == (0, ["b.jpg", "c.jpg"], "")


def test_the_job_that_the_bench_resumes_is_finished(small, tmp_path, capsys, monkeypatch):
    photos, maps = bench.finished_job(tmp_path, 5)
    todo = []
    monkeypatch.setattr(camlib.job, "explained", lambda _clf, files, *_args, **_options: iter(todo.extend(files) or []))
    names = [f"{n:07}" for n in range(5)]
    code, rows, err = job(capsys, photos, "--out", maps)
    assert (code, err, todo) == (0, "", []) and done(rows) == [f"{name}.png" for name in names]
    assert all(Path(row["picture"]).name.startswith(f"{name}.") for row, name in zip(rows, names, strict=True))


def test_each_photo_is_decoded_once(small, photos, tmp_path, capsys, monkeypatch):
    read, real = [], camlib.images.decode
    monkeypatch.setattr("camlib.images.decode", lambda data, name, **options: read.append(name) or real(data, name))
    assert job(capsys, photos, "--out", tmp_path / "out", "--top", 2, "--html")[0] == 0
    assert sorted(read) == [str(photos / name) for name in ("a.jpg", "b.jpg", "c.jpg")]


def test_what_was_read_is_recorded(small, photos, tmp_path, capsys, monkeypatch):
    """A photo that changes after it was drawn, but before it is recorded, is not finished with its new state."""
    real = camlib.job._write

    def write(*args):
        rows = real(*args)
        make(photos, "b.jpg", "a.jpg")  # a.jpg becomes what b.jpg was
        return rows

    monkeypatch.setattr(camlib.job, "_write", write)
    code, before, _ = job(capsys, photos / "a.jpg", "--out", tmp_path / "out")
    monkeypatch.setattr(camlib.job, "_write", real)
    code, after, _ = job(capsys, photos, "--out", tmp_path / "out")
    alone = job(capsys, photos, "--out", tmp_path / "alone")[1]
    assert after[0]["logit"] == alone[0]["logit"] != before[0]["logit"]


# Nothing of the user's is overwritten


def test_photos_and_pages_beside_the_pictures(small, tmp_path, capsys):
    folder = make(tmp_path, "a.jpg", "a.figure.jpg", "a.5-x.png", "b.jpg")
    (folder / "b.html").write_text("my own page")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for _ in range(2):
        code, rows, err = job(capsys, folder, "--figure", "--html", "--raw", "--out", folder)
        assert code == 0 and sorted(done(rows)) == ["a.5-x.png", "a.figure.jpg", "a.jpg", "b.jpg"]
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_a_page_of_the_users_that_is_in_the_way_later(small, photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert job(capsys, photos, "--out", out)[0] == 0
    (out / "b.html").write_text("my own page")
    code, rows, err = job(capsys, photos, "--out", out, "--html")
    assert (code, done(rows)) == (1, ["a.jpg", "c.jpg"])
    assert "b.jpg: camlib would write b.html, but there is such a file that it did not write" in err
    assert (out / "b.html").read_text() == "my own page"


# The folder cannot be written


def one_line(err: str, says: str) -> bool:
    return err.startswith("camlib: ") and says in err and len(err.splitlines()) == 1


@root
@pytest.mark.parametrize("size", ["16k", "40k", "100k"])
def test_a_full_disk(small, tmp_path, capsys, size):
    """One line and exit code 2; what is there is whole; with more space the job goes on."""
    photos = make(tmp_path / "photos", *(f"{n:02}.jpg" for n in range(30)))
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], check=False).returncode:
        pytest.skip("mount is not allowed here")
    try:
        code, rows, err = job(capsys, photos, "--out", disk)
        assert code == 2 and one_line(err, "cannot be written (No space left on device)")
        pictures = [*disk.glob("*.png")]
        assert len(pictures) >= len(rows)
        for path in pictures:
            assert path.read_bytes().endswith(b"IEND\xaeB`\x82")
        assert not list(disk.glob(".*.camlib-part"))
        subprocess.run(["mount", "-o", "remount,size=10m", disk], check=True)
        code, again, err = job(capsys, photos, "--out", disk)
        assert (code, len(again), err) == (0, 30, "")
        assert again[: len(rows)] == rows
    finally:
        subprocess.run(["umount", disk], check=True)


@root
def test_a_read_only_disk(small, photos, tmp_path, capsys):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", disk], check=False).returncode:
        pytest.skip("mount is not allowed here")
    try:
        for out in (disk, disk / "new"):
            code, rows, err = job(capsys, photos, "--out", out)
            assert (code, rows) == (2, []) and one_line(err, "Read-only file system")
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("number", [28, 30, 5])
def test_a_disk_that_fails_later(small, photos, tmp_path, capsys, monkeypatch, number):
    """Full, read-only or broken after the first photo: no later photo is tried, and the true error is shown."""
    real, tried = camlib.explanation.write_whole, []

    def write_whole(path, write):
        tried.append(path.name[0])
        if path.name[0] > "a":
            raise CamError(f"{path}: cannot be written ({os.strerror(number)}).") from OSError(number, "x")
        return real(path, write)

    monkeypatch.setattr(camlib.explanation, "write_whole", write_whole)
    code, rows, err = job(capsys, photos, "--out", tmp_path / "out")
    assert (code, done(rows)) == (2, ["a.jpg"]) and one_line(err, os.strerror(number))
    monkeypatch.setattr(camlib.explanation, "write_whole", real)
    assert done(job(capsys, photos, "--out", tmp_path / "out")[1]) == ["a.jpg", "b.jpg", "c.jpg"]


def test_one_file_that_cannot_be_written_costs_its_photo(small, photos, tmp_path, capsys):
    """A folder has the name of a picture."""
    name = Path(job(capsys, photos, "--out", tmp_path / "out")[1][1]["picture"]).name
    shutil.rmtree(tmp_path / "out")
    journal = camlib.journal.Journal(tmp_path / "out", camlib.job.Settings(tmp_path / "out").options)
    journal.take_names(sorted(photos.iterdir()))
    (tmp_path / "out" / name / "mine").mkdir(parents=True)
    code, rows, err = job(capsys, photos, "--out", tmp_path / "out")
    assert (code, done(rows)) == (1, ["a.jpg", "c.jpg"]) and f"camlib would write {name}, but there is" in err
    assert (tmp_path / "out" / name / "mine").is_dir()


@root
@pytest.mark.skipif(not shutil.which("setpriv"), reason="no setpriv")
def test_folders_that_may_not_be_written_or_read(photos, tmp_path):
    """As an ordinary user, which the tests of a container are not."""
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]
    (photos / "locked").mkdir()
    shutil.copy(photos / "a.jpg", photos / "locked" / "d.jpg")
    (photos / "b.jpg").chmod(0)
    (photos / "locked").chmod(0)
    (tmp_path / "locked").mkdir()
    script = (
        "import sys, camlib.models; from tests.networks import tiny; from camlib.cli import main\n"
        "clf = camlib.models.load_model(tiny(), size=64); camlib.models.load_model = lambda *a, **o: clf\n"
        "for out in sys.argv[2:]: print(main([sys.argv[1], '--out', out]), file=sys.stderr, flush=True)"
    )
    outs = [tmp_path / "out", tmp_path / "locked"]
    for mode in (0o500, 0o300):
        outs[1].chmod(mode)
        found = subprocess.run([*drop, sys.executable, "-c", script, photos, *outs], capture_output=True, text=True)
        said = found.stderr.splitlines()
        assert said[0] == f"camlib: left out: 1 folder that cannot be read ({photos / 'locked'})" == said[4]
        assert said[1] == "camlib: 1 of 3 photos could not be used:"
        assert said[2] == f"  {photos / 'b.jpg'}: cannot be opened (Permission denied)." and said[3] == "1"
        assert said[5].startswith(f"camlib: {outs[1]}") and "Permission denied" in said[5] and said[6:] == ["2"]
    (photos / "locked").chmod(0o700)


# The search for photos


def test_what_is_left_out_is_said_in_one_line(small, photos, tmp_path, capsys):
    shutil.copy(photos / "a.jpg", photos / "._a.jpg")
    make(photos / ".hidden", "x.jpg")
    make(tmp_path / "else", "linked.jpg")
    (photos / "link\x1b[2J").symlink_to(tmp_path / "else")
    (photos / "file link.jpg").symlink_to(tmp_path / "else" / "linked.jpg")
    for name in ("1.HEIC", "2.heic", "notes.txt", "README", "x.tar.gz", "y.zip", "z.pdf"):
        (photos / name).write_bytes(b"x")
    code, rows, err = job(capsys, photos, "--out", tmp_path / "out")
    assert (code, done(rows)) == (0, ["a.jpg", "b.jpg", "c.jpg", "file link.jpg"])
    first, *others = err.splitlines()
    assert others == [] and first.startswith("camlib: left out: 2 hidden; 1 linked folder (")
    assert "link\\x1b[2J); files of other kinds (2 .heic, " in first and "…" in first


def test_a_folder_without_pictures_says_what_is_there(tmp_path, capsys):
    (tmp_path / "a.heic").write_bytes(b"x")
    assert main([str(tmp_path)]) == 2
    assert "no picture files in this folder (.jpg" in (err := capsys.readouterr().err)
    assert "left out: files of other kinds (1 .heic)" in err


@pytest.mark.parametrize("out", [".", "photos", "photos/../photos", "heatmaps"])
def test_the_pictures_may_lie_among_the_photos(small, photos, tmp_path, capsys, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        code, rows, _ = job(capsys, ".", "--out", out, "--figure")
        assert (code, done(rows)) == (0, ["a.jpg", "b.jpg", "c.jpg"])
    assert len([*Path(out).glob("*.png")]) == 3


def test_a_thousand_folders_deep(small, photos, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(photos)
    for _ in range(1100):
        os.mkdir("d")
        os.chdir("d")
    shutil.copy(photos / "a.jpg", "deep.jpg")
    os.chdir(tmp_path)
    try:
        code, rows, err = job(capsys, "photos", "--out", "out")
        assert (code, done(rows), err) == (0, ["a.jpg", "b.jpg", "c.jpg", "deep.jpg"], "")
    finally:
        subprocess.run(["rm", "-rf", photos], check=True)


def test_a_photo_given_twice_is_done_once(small, photos, tmp_path, capsys):
    assert done(job(capsys, photos, photos / "a.jpg", photos, "--out", tmp_path / "out")[1]) == [
        "a.jpg",
        "b.jpg",
        "c.jpg",
    ]


def test_open_shows_only_this_jobs_own_page(small, photos, tmp_path, capsys, monkeypatch):
    """Whatever a journal says that someone else may have written."""
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    out = tmp_path / "out"
    assert job(capsys, photos, "--out", out, "--html")[0] == 0
    journal = (out / "camlib.jsonl").read_text()
    for page in ("/etc/passwd", "../photos/evil.html", "c.html", "evil.html", "a.2-class-2.png"):
        (out / "evil.html").write_text("evil")
        lines = journal.replace('"page": "a.html"', json.dumps({"page": page})[1:-1])
        (out / "camlib.jsonl").write_text(lines.replace('"a.html": [', f"{json.dumps(page)}: ["))
        code, rows, _ = job(capsys, photos, "--out", out, "--open")
        assert code == 0 and done(rows) == ["a.jpg", "b.jpg", "c.jpg"]
    assert {*opened} == {(out / "a.html").as_uri()}


def test_open_does_not_show_a_page_of_somebody_else(small, photos, tmp_path, capsys, monkeypatch):
    """Even if a journal that came with the folder, and the page's digest in it, say that camlib wrote it."""
    seen = []
    out = tmp_path / "out"
    monkeypatch.setattr("webbrowser.open", lambda address: seen.append((out / "a.html").read_bytes()) or True)
    assert job(capsys, photos, "--out", out, "--html")[0] == 0
    own = (out / "a.html").read_bytes()
    evil = own.replace(b"<script", b"<script>evil()</script><script", 1)
    was, now = (blake2b(page, digest_size=16).hexdigest() for page in (own, evil))
    journal = (out / "camlib.jsonl").read_text()
    (out / "a.html").write_bytes(evil)
    (out / "camlib.jsonl").write_text(journal.replace(was, now).replace(f"[{len(own)}, ", f"[{len(evil)}, "))
    before = (out / "b.html").stat().st_mtime_ns
    assert done(job(capsys, photos, "--out", out, "--html")[1])[0] == "a.jpg"
    assert (out / "a.html").read_bytes() == evil, "the journal is believed"
    assert done(job(capsys, photos, "--out", out, "--open")[1]) == ["a.jpg", "b.jpg", "c.jpg"]
    assert seen == [own] and (out / "b.html").stat().st_mtime_ns == before


def test_options_that_give_different_pictures_give_different_names():
    """Every combination; the class stands in a picture's name, but not in that of a figure or of numbers."""
    recipes: dict[tuple, str] = {}
    chosen = [((), 1), ((), 3), ((288,), 1), ((224, 288), 1), ((1, 2, 3, 4, 5), 1)]  # targets, top
    values = (("crop", "whole"), ((), (288,), (224, 288)), chosen, (False, True), (False, True))
    for view, sizes, (targets, top), figure, raw in itertools.product(*values):
        settings = Settings(Path("out"), view=view, sizes=sizes, targets=targets, top=top, figure=figure, raw=raw)
        classes = targets if len(targets) > 1 or figure or raw else ()
        shows = (view, sizes, classes, top)
        assert recipes.setdefault(shows, settings.recipe) == settings.recipe
    assert len({*recipes.values()}) == len(recipes) == 30


def test_a_hostile_journal_prints_no_escapes(small, photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert job(capsys, photos, "--out", out)[0] == 0
    journal = (out / "camlib.jsonl").read_text()
    (out / "camlib.jsonl").write_text(journal.replace('"unit": "', '"unit": "\\u001b[31m\\u202e'))
    assert main([str(photos), "--out", str(out)]) == 0
    table = capsys.readouterr().out
    assert "\\x1b[31m" in table and "\x1b" not in table and "\u202e" not in table


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "1>&- 2>&-"])
def test_closed_streams(photos, tmp_path, closed):
    """As programs that start others in the background leave them."""
    code = (
        "import sys; import camlib.models; from tests.networks import tiny; from camlib.cli import main\n"
        "clf = camlib.models.load_model(tiny(), size=64); camlib.models.load_model = lambda *a, **o: clf\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    (photos / "d.jpg").write_bytes(b"broken")
    command = shlex.join([sys.executable, "-c", code, str(photos), "--out", str(tmp_path / "out"), "--json"])
    result = subprocess.run(f"{command} {closed}", shell=True, capture_output=True, text=True)
    assert result.returncode == 1
    assert len(list((tmp_path / "out").glob("*.png"))) == 3
    assert len([json.loads(line) for line in result.stdout.splitlines()]) == (0 if "1>" in closed else 3)


def mine(folder: Path) -> dict[Path, str]:
    """Files of the user's under every name that a picture of `a.jpg` could get."""
    files = {folder / f"a.{k}-class-{k}.png": f"mine {k}" for k in range(3)}
    for path, text in files.items():
        path.write_text(text)
    return files


def test_files_of_the_users_with_names_that_were_not_used_yet(small, photos, tmp_path, capsys):
    """The name was taken by a photo that could not be read, so that none of its pictures was written."""
    out = tmp_path / "out"
    whole = (photos / "a.jpg").read_bytes()
    (photos / "a.jpg").write_bytes(b"broken")
    assert job(capsys, photos, "--out", out)[0] == 1
    files = mine(out)
    (photos / "a.jpg").write_bytes(whole)
    code, rows, err = job(capsys, photos, "--out", out)
    assert (code, done(rows)) == (1, ["b.jpg", "c.jpg"])
    assert "camlib did not write" not in err and "did not write; move it" in err
    assert {path: path.read_text() for path in files} == files
    for path in files:
        path.unlink()
    assert done(job(capsys, photos, "--out", out)[1]) == ["a.jpg", "b.jpg", "c.jpg"]


def test_another_class_of_a_finished_photo_replaces_no_file_of_the_users(small, photos, tmp_path, capsys):
    out = tmp_path / "out"
    (picture,) = [Path(row["picture"]) for row in job(capsys, photos / "a.jpg", "--out", out)[1]]
    own = picture.read_bytes()
    files = mine(out)
    picture.write_bytes(own)
    del files[picture]
    for k in range(3):
        code, _, err = job(capsys, photos / "a.jpg", "--out", out, "--target", k)
        assert code == (0 if picture.name.startswith(f"a.{k}") else 2) and (code == 0 or "move it" in err)
    assert {path: path.read_text() for path in files} == files and picture.read_bytes() == own


def test_a_photo_that_comes_later_and_looks_like_a_picture_of_camlib(small, photos, capsys):
    assert job(capsys, photos, "--out", photos)[0] == 0
    shutil.copy(photos / "b.jpg", photos / "a.5-my-dog.jpg")
    Image.open(photos / "b.jpg").save(photos / "a.7-my-dog.png")
    code, rows, err = job(capsys, photos, "--out", photos)
    assert code == 0
    assert done(rows) == ["a.5-my-dog.jpg", "a.7-my-dog.png", "a.jpg", "b.jpg", "c.jpg"]
    assert err == "camlib: left out: 3 pictures that camlib wrote\n"


def test_pictures_of_another_job_are_no_photos(small, photos, tmp_path, capsys):
    first, second = photos / "maps", tmp_path / "second"
    assert job(capsys, photos, "--out", first, "--raw")[0] == 0
    code, rows, err = job(capsys, photos, "--out", second)
    assert (code, done(rows)) == (0, ["a.jpg", "b.jpg", "c.jpg"])
    assert err == "camlib: left out: 3 pictures that camlib wrote\n"
