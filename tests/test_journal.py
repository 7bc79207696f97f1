"""A name belongs to one photo for ever, and a journal is only believed as far as the disk confirms it."""

import json
import multiprocessing
import os
import shutil
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import pytest

from camlib import CamError
from camlib.files import read_whole
from camlib.journal import InTheWayError, Journal, is_of_journal, written

linux = pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux")


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def photo(tmp_path):
    return make(tmp_path / "photos" / "cat.jpg")


def make(path: Path, data: bytes = b"a photo") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def name_of(photo: Path, out: Path, recipe: str = "", part: str = "", **options) -> str:
    return Journal(out, options, recipe, part).take_names([photo])[photo]


def row_of(picture: Path, label: str = "cat", **more) -> dict:
    row = {"photo": "x", "index": 5, "label": label, "probability": 0.5, "logit": 1.0, "evidence": [-1.0, 2.0]}
    return row | {"scale": 2.0, "unit": "evidence", "picture": str(picture)} | more


def finish(journal: Journal, photo: Path, data: bytes = b"a picture") -> Path:
    """Write a picture of a photo and record it. Returns the picture's path."""
    picture = journal.folder / f"{journal.take_names([photo])[photo]}.5-cat.png"
    journal.intend(photo, [picture.name])
    picture.write_bytes(data)
    journal.add(journal.line(photo, read_whole(photo, 1000)[1], [row_of(picture)]))
    return picture


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


# Names


def test_a_name_is_the_stem_and_the_recipe(out, photo):
    assert name_of(photo, out) == "cat"
    assert name_of(photo, out, "whole") == "cat-whole"
    assert name_of(photo, out) == "cat", "for ever"
    assert [line["name"] for line in lines(out / "camlib.names.jsonl")] == ["cat", "cat-whole"]


def test_no_two_photos_share_a_name(tmp_path, out):
    """Not within a run, and not if photos come from another folder or are added, in whatever order."""
    a, b, c = (make(tmp_path / folder / "cat.jpg") for folder in "abc")
    png = make(tmp_path / "a" / "cat.png")
    first = Journal(out, {}).take_names([b, png])
    assert first[b] == "cat" and first[png].startswith("cat-")
    second = Journal(out, {}).take_names([a, b, c, png])
    assert {photo: second[photo] for photo in first} == first
    assert len(set(second.values())) == 4
    assert Journal(out, {}).take_names([c, png, b, a]) == second


def test_recipes_and_stems_that_look_alike(tmp_path, out):
    """cat.jpg with the recipe top3, and a photo that is called cat-top3.jpg."""
    cat, top3 = make(tmp_path / "cat.jpg"), make(tmp_path / "cat-top3.jpg")
    assert name_of(cat, out, "top3") == "cat-top3"
    assert name_of(top3, out) != "cat-top3"
    assert name_of(top3, out).startswith("cat-top3-")


@pytest.mark.parametrize(
    ("some", "other"),
    [
        ("cat", "CAT"),
        ("caf\u00e9", "cafe\u0301"),
        ("CAF\u00c9", "cafe\u0301"),
        ("stra\u00dfe", "STRASSE"),
        ("\u00e9" * 60 + "1", "\u00e9" * 60 + "2"),
    ],
)
def test_names_that_are_one_file_on_some_disks(tmp_path, out, some, other):
    photos = [make(tmp_path / "a" / f"{some}.jpg"), make(tmp_path / "b" / f"{other}.jpg")]
    names = Journal(out, {}).take_names(photos)
    stems = {name.split("-")[0].casefold() for name in names.values()}
    assert len({name.casefold() for name in names.values()}) == 2
    assert len({name.rpartition("-")[2] for name in names.values()}) == 2, stems


def test_a_digest_that_is_taken(tmp_path, out):
    """By photos whose own names look like it."""
    a, b = make(tmp_path / "a" / "cat.jpg"), make(tmp_path / "b" / "cat.jpg")
    wanted = Journal(out, {}).take_names([a, b])[b]
    for path in out.iterdir():
        path.unlink()
    rivals = [make(tmp_path / "c" / f"{name}.jpg") for name in ("cat", wanted, f"{wanted}-2")]
    names = Journal(out, {}).take_names([*rivals, b])
    assert [names[rival] for rival in rivals] == ["cat", wanted, f"{wanted}-2"]
    assert names[b] == f"{wanted}-3"


ODD = [
    "new\nline", "tab\t", "\x1b]0;owned\x07\x1b[2J", "\u202egpj.exe", "a\u2028b", "c\u0085d", "\u200fx", "a" * 251,
    "\u65e5" * 83, "\U0001f600" * 62, "-dash", "--out", "...", "~", " lead", "trail ", "dot.", "con", "NUL.tar", "com1",
    "back\\slash", "*", "a:b", "what?", "<b>", "|", ".hidden", "{{data}}", "%s%n", "$x_{$", "..",
]  # fmt: skip


@linux
@pytest.mark.parametrize("recipe", ["", "whole-top3"])
def test_odd_names(tmp_path, out, recipe):
    """Each photo has a name of its own, which every system and shell takes; it is found again, and finished."""
    folder = os.fsencode(tmp_path / "photos")
    os.mkdir(folder)
    for name in [*(stem.encode() for stem in ODD), b"bad\xff\xfe"]:
        with open(folder + b"/" + name + b".jpg", "wb") as file:
            file.write(b"a photo")
    photos = sorted((tmp_path / "photos").iterdir())
    assert len(photos) == len(ODD) + 1
    journal = Journal(out, {}, recipe)
    names = journal.take_names(photos)
    assert len({name.casefold() for name in names.values()}) == len(photos)
    for name in names.values():
        assert len(name.encode()) < 140
        assert not name.startswith((" ", ".", "-", "~")) and not name.endswith((" ", "."))
        assert name.isprintable() and not set(name) & set('<>:"/\\|?*')
        assert name.split(".")[0].casefold() not in ("con", "nul", "com1")
    for photo in photos:
        finish(journal, photo)
    again = Journal(out, {}, recipe)
    assert again.take_names(photos) == names
    assert all(again.rows(photo) for photo in photos)
    assert again.notes == []
    assert json.dumps(again.rows(photos[0])).isascii()


# Files of the user's


@pytest.mark.parametrize("file", ["cat.html", "CAT.figure.jpg", "cat.npz", "cat.npz.json", "cat.5-lynx.png"])
def test_a_file_of_the_users_keeps_its_name(tmp_path, out, photo, file):
    (out / file).write_text("mine")
    name = name_of(photo, out, html=True, figure=True, raw=True)
    assert name != "cat" and name.startswith("cat-")
    assert name_of(make(tmp_path / "photos" / "dog.jpg"), out) == "dog"


@pytest.mark.parametrize("file", ["cat.txt", "cat.jpg", "cat.png", "cat", "other.html", "cat.5.png"])
def test_files_that_camlib_would_not_write_are_in_nobodys_way(out, photo, file):
    (out / file).write_text("mine")
    assert name_of(photo, out) == "cat"


def test_a_page_of_the_users_beside_pictures_of_an_earlier_run(tmp_path, out, photo):
    """The photo has its name, but now pages are to be written too, and there is one that camlib did not write."""
    other = make(tmp_path / "photos" / "dog.jpg")
    assert Journal(out, {}).take_names([photo, other]) == {photo: "cat", other: "dog"}
    (out / "cat.html").write_text("mine")
    with_pages = Journal(out, {"html": True})
    assert with_pages.take_names([photo, other]) == {photo: "cat", other: "dog"}
    with_pages.intend(other, ["dog.html"])
    with pytest.raises(InTheWayError, match=r"cat\.jpg: .*cat\.html"):
        with_pages.intend(photo, ["cat.5-cat.png", "cat.html"])
    Journal(out, {}).intend(photo, ["cat.5-cat.png"])
    (out / "cat.html").unlink()
    with_pages.intend(photo, ["cat.5-cat.png", "cat.html"])
    (out / "cat.html").write_text("camlib's own, of a run that was killed")
    Journal(out, {"html": True}).intend(photo, ["cat.5-cat.png", "cat.html"])


def test_what_camlib_wrote_is_no_photo(tmp_path, out):
    """And a photo is none of camlib's files, even in the same folder and if its name looks like it."""
    cat, strange = make(out / "cat.jpg"), make(out / "dog.jpg.png")
    journal = Journal(out, {"figure": True})
    assert journal.take_names([cat, strange]) == {cat: "cat", strange: "dog.jpg"}
    journal.intend(cat, ["cat.5-lynx.png", "cat.figure.jpg"])
    journal.intend(strange, ["dog.jpg.5-x.png"])
    for name in ("cat.5-lynx.png", "cat.figure.jpg", "dog.jpg.5-x.png"):
        assert journal.wrote(out / name)
    for name in (
        "cat.7-x.png",
        "cat.jpg",
        "dog.jpg",
        "dog.jpg.png",
        "cat.html",
        "dog.5-x.png",
        "cat.x.png",
        "cat.5-a.b.png",
    ):
        assert not journal.wrote(out / name)
    assert not journal.wrote(tmp_path / "cat.5-lynx.png")
    assert Journal(out, {}).wrote(out / "cat.figure.jpg")


# Finished


def test_finished(out, photo):
    picture = finish(Journal(out, {"top": 1}), photo)
    (row,) = Journal(out, {"top": 1}).rows(photo)
    assert row == row_of(picture) | {"photo": str(photo)}
    assert Journal(out, {"top": 2}).rows(photo) is None
    assert Journal(out, {"top": 1}).rows(photo.with_name("dog.jpg")) is None


def swap(path: Path) -> None:
    """Other content of the same length."""
    path.write_bytes(path.read_bytes()[::-1])


def linked(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


@pytest.mark.parametrize("change", [swap, linked, Path.unlink, lambda p: (p.unlink(), p.mkdir())])
def test_a_picture_that_is_no_longer_what_was_written(out, photo, change):
    change(finish(Journal(out, {}), photo))
    assert Journal(out, {}).rows(photo) is None


@pytest.mark.parametrize("change", [swap, Path.unlink, lambda p: p.write_bytes(b"longer than before")])
def test_a_photo_that_is_no_longer_what_was_read(out, photo, change):
    finish(Journal(out, {}), photo)
    change(photo)
    assert Journal(out, {}).rows(photo) is None


def test_a_copy_with_other_times_is_still_finished(tmp_path, out, photo):
    finish(Journal(out, {}), photo)
    for path in (photo, *out.iterdir()):
        os.utime(path, (1, 1))
    assert Journal(out, {}).rows(photo)


@pytest.mark.parametrize("move", [shutil.move, lambda a, b: shutil.copytree(a, b, copy_function=shutil.copy)])
def test_moved_or_copied_together_they_are_still_finished(tmp_path, out, photo, move):
    finish(Journal(out, {}), photo)
    there = tmp_path / "there" / "deep"
    there.mkdir(parents=True)
    for folder in (out, photo.parent):
        move(folder, there / folder.name)
    (row,) = Journal(there / "out", {}).rows(there / "photos" / "cat.jpg")
    assert row["picture"] == str(there / "out" / "cat.5-cat.png")


def test_another_folder_with_the_same_names_is_another_job(tmp_path, photo):
    """The same relative paths, size and times, but other working folders: nothing is mixed up."""
    there = make(tmp_path / "else" / "photos" / "cat.jpg", b"b photo")
    for path in (photo, there):
        os.utime(path, (1e9, 1e9))
    out = tmp_path / "out"
    out.mkdir()
    finish(Journal(out, {}), photo)
    journal = Journal(out, {})
    assert journal.rows(there) is None
    assert finish(journal, there).name != "cat.5-cat.png"


def test_however_a_path_is_typed(tmp_path, out, photo, monkeypatch):
    finish(Journal(out, {}), photo)
    monkeypatch.chdir(tmp_path)
    os.symlink("photos", "link")
    for folder in ("out", "./out", "photos/../out"):
        for path in ("photos/cat.jpg", "link/cat.jpg", "./photos/../link/cat.jpg", photo):
            assert Journal(Path(folder), {}).rows(Path(path))


def test_the_time_decides_and_not_the_order_of_files(out, photo):
    """Two parts' journals say something about the same photo: the later line counts, whose picture is on the disk."""
    for first, last in (("2-of-2", "1-of-2"), ("1-of-2", "2-of-2")):
        for path in out.iterdir():
            path.unlink()
        name = Journal(out, {}, part=first).take_names([photo])
        finish(Journal(out, {}, part=first), photo, b"first")
        assert Journal(out, {}, part=last).take_names([photo]) == name
        time.sleep(0.01)
        finish(Journal(out, {}, part=last), photo, b"later")
        assert Journal(out, {}).rows(photo)
        assert Journal(out, {}, part="7-of-9").rows(photo)


def test_a_clock_that_was_wrong(out, photo):
    """A line from the future does not outlive the lines that come after it."""
    finish(Journal(out, {}), photo, b"first")
    (line,) = lines(out / "camlib.jsonl")
    (out / "camlib.jsonl").write_text(json.dumps(line | {"time": time.time() + 1e7}) + "\n")
    finish(Journal(out, {}), photo, b"later")
    assert Journal(out, {}).rows(photo)


# Stopped in the middle of a line


@pytest.mark.parametrize("name", ["camlib.jsonl", "camlib.names.jsonl"])
def test_a_line_may_be_cut_off_anywhere(tmp_path, out, photo, name):
    """The lines before it count, and the next line is not glued to it. No note: a stopped job is no damage."""
    other = make(tmp_path / "photos" / "dog.jpg")
    for one in (photo, other):
        finish(Journal(out, {}), one)
    whole = (out / name).read_bytes()
    begin = whole.index(b"\n") + 1
    for length in (begin, begin + 1, begin + 40, len(whole) - 2, len(whole) - 1):
        (out / name).write_bytes(whole[:length])
        (out / "dog.5-cat.png").unlink(missing_ok=True)
        journal = Journal(out, {})
        assert (journal.notes, bool(journal.rows(photo)), journal.rows(other)) == ([], True, None)
        finish(journal, other)
        assert all(Journal(out, {}).rows(one) for one in (photo, other))
        finish(Journal(out, {}), make(tmp_path / "photos" / f"new{length}.jpg"))
        assert all(lines(out / name)), "each line is whole"
        assert not list(out.glob("*damaged*"))


def test_the_end_of_a_long_line_is_found(out, photo):
    """A line may be longer than what is read at once from the end."""
    finish(Journal(out, {}), photo)
    with open(out / "camlib.jsonl", "ab") as file:
        file.write(b"x" * 200_000)
    finish(Journal(out, {}), photo)
    assert len(lines(out / "camlib.jsonl")) == 2


# Damaged and hostile


def good(out: Path, photo: Path) -> dict:
    finish(Journal(out, {}), photo)
    return lines(out / "camlib.jsonl")[0]


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


ROW = {"label": 5, "index": "5", "scale": "x", "logit": None, "evidence": [1], "probability": "1", "picture": 5}
HOSTILE = {
    "rows: null": {"rows": None},
    "rows: []": {"rows": []},
    "rows: [1]": {"rows": [1]},
    "rows: {}": {"rows": {}},
    "rows: text": {"rows": "abc"},
    "files: list": {"files": ["cat.5-cat.png"]},
    "files: null": {"files": None},
    "files: 5": {"files": {"cat.5-cat.png": 5}},
    "files: short": {"files": {"cat.5-cat.png": [1, 2]}},
    "files: none": {"files": {}},
    "state: null": {"state": None},
    "state: short": {"state": [1]},
    "state: object": {"state": {"a": 1, "b": 2, "c": 3}},
    "options: null": {"options": None},
    "options: list": {"options": []},
    "options: deep": {"options": {"a": nested(900)}},
    "options: object": {"options": {"a": {"b": 1}}},
    "time: text": {"time": "now"},
    "time: NaN": {"time": float("nan")},
    "time: infinite": {"time": float("inf")},
    "time: far": {"time": 1e300},
    "time: long": {"time": 10**400},
    "name: number": {"name": 5},
    "name: path": {"name": "../cat"},
    "name: absolute": {"name": "/etc/passwd"},
    "name: null byte": {"name": "a\0b"},
    "photo: list": {"photo": ["x"]},
}


@pytest.mark.parametrize("change", [*HOSTILE.values()], ids=[*HOSTILE])
def test_a_line_that_camlib_does_not_write(out, photo, change):
    check_damage(out, photo, json.dumps(good(out, photo) | change))


@pytest.mark.parametrize("key", ["photo", "time", "state", "options", "name", "files", "rows"])
def test_a_line_without_a_part(out, photo, key):
    line = good(out, photo)
    del line[key]
    check_damage(out, photo, json.dumps(line))


@pytest.mark.parametrize("key", [*ROW, "unit", "photo"])
def test_a_row_that_camlib_does_not_write(out, photo, key):
    line = good(out, photo)
    without = {k: v for k, v in line["rows"][0].items() if k != key}
    for row in (without, without | {key: ROW.get(key, 5)}, without | {key: nested(100)}, without | {key: float("nan")}):
        check_damage(out, photo, json.dumps(line | {"rows": [row]}))


@pytest.mark.parametrize(
    "page",
    ["/etc/passwd", "../photos/page.html", "page.html", "cat.html/../../x.html", "cat.5-cat.png", "cat\0.html", ""],
)
def test_a_row_that_names_another_file(tmp_path, out, photo, page):
    """A hostile journal must not make `--open` open any file that is not this photo's page."""
    line = good(out, photo)
    make(tmp_path / "photos" / "page.html", b"evil")
    make(out / "page.html", b"evil")
    files = line["files"] | {page: line["files"]["cat.5-cat.png"]}
    rows = [line["rows"][0] | {"page": page}]
    check_damage(out, photo, json.dumps(line | {"files": files, "rows": rows, "options": {"html": True}}), html=True)


def test_a_row_without_the_page_that_was_asked_for(out, photo):
    check_damage(out, photo, json.dumps(good(out, photo) | {"options": {"html": True}}), html=True)


RAW = {
    "nested": b"[" * 100_000,
    "nested objects": b'{"photo":' * 100_000,
    "5000 digits": b'{"photo": ' + b"9" * 5000 + b"}",
    "binary": bytes(range(256)).replace(b"\n", b"") * 20,
    "no object": b'["photo"]',
    "half": b'{"photo": "x", "ti',
    "UTF-16": '{"photo": "x"}'.encode("utf-16"),
    "surrogate": b'{"photo": "\\ud800"}',
}


@pytest.mark.parametrize("raw", [*RAW.values()], ids=[*RAW])
@pytest.mark.parametrize("name", ["camlib.jsonl", "camlib.names.jsonl"])
def test_a_line_that_is_none(tmp_path, out, photo, raw, name):
    """In the middle of others, which still count."""
    other = make(tmp_path / "photos" / "dog.jpg")
    for one in (photo, other):
        finish(Journal(out, {}), one)
    first, *others = (out / name).read_bytes().splitlines(True)
    damaged = first + raw + b"\n" + b"".join(others)
    (out / name).write_bytes(damaged)
    journal = Journal(out, {})
    assert all(journal.rows(one) for one in (photo, other))
    assert len(journal.notes) == 1 and "A copy was kept" in journal.notes[0]
    assert (out / name).read_bytes() == first + b"".join(others)
    assert (out / name.replace(".jsonl", ".damaged-1.jsonl")).read_bytes() == damaged
    assert Journal(out, {}).notes == []


def check_damage(out: Path, photo: Path, line: str, **options) -> None:
    """The line is not believed, one note says so, and the journal works again."""
    (out / "camlib.jsonl").write_text(line + "\n")
    journal = Journal(out, options)
    assert journal.rows(photo) is None
    assert len(journal.notes) == 1 and "\n" not in journal.notes[0]
    finish(Journal(out, {}), photo)
    assert Journal(out, {}).rows(photo)


@pytest.mark.parametrize("name", ["../cat", "/tmp/cat", "a/b", "..\\cat", "", "a\0b", "\u202ecat", 5, None, ["cat"]])
def test_a_hostile_name(out, photo, name):
    line = {"name": name, "photo": "../photos/cat.jpg", "recipe": "", "kinds": ["picture"]}
    (out / "camlib.names.jsonl").write_text(json.dumps(line) + "\n")
    journal = Journal(out, {})
    assert len(journal.notes) == 1
    assert journal.take_names([photo]) == {photo: "cat"}


@pytest.mark.parametrize("change", [{"kinds": None}, {"kinds": ["all"]}, {"kinds": [["page"]]}, {"recipe": 5}])
def test_a_hostile_line_of_names(out, photo, change):
    line = {"name": "cat", "photo": "../photos/cat.jpg", "recipe": "", "kinds": ["picture"]} | change
    (out / "camlib.names.jsonl").write_text(json.dumps(line) + "\n")
    assert len(Journal(out, {}).notes) == 1


def test_two_lines_claim_a_name(tmp_path, out, photo):
    """The first one has it."""
    other = make(tmp_path / "other" / "cat.jpg")
    name_of(photo, out)
    line = {"name": "cat", "photo": "../other/cat.jpg", "recipe": "", "kinds": ["picture"]}
    (out / "camlib.names.1-of-2.jsonl").write_text(json.dumps(line) + "\n")
    names = [Journal(out, {}).take_names([p])[p] for p in (photo, other)]
    assert len(set(names)) == 2


def test_a_line_of_40_megabytes(out, photo):
    finish(Journal(out, {}), photo)
    whole = (out / "camlib.jsonl").read_bytes()
    (out / "camlib.jsonl").write_bytes(b'{"photo": "' + b"x" * 40_000_000 + b'"}\n' + whole)
    journal = Journal(out, {})
    assert journal.rows(photo) and len(journal.notes) == 1
    assert (out / "camlib.jsonl").read_bytes() == whole


@pytest.mark.parametrize("name", ["camlib.jsonl", "camlib.names.jsonl"])
@pytest.mark.parametrize("kind", ["folder", "link", "broken link", "loop", "pipe"])
def test_a_journal_that_is_no_file(tmp_path, out, photo, name, kind):
    """One line says what to do, nothing hangs, and what a link points to is untouched."""
    mine = make(tmp_path / "mine.txt", b"mine")
    path = out / name
    {
        "folder": path.mkdir,
        "link": lambda: path.symlink_to(mine),
        "broken link": lambda: path.symlink_to("nowhere"),
        "loop": lambda: path.symlink_to(name),
        "pipe": lambda: os.mkfifo(path),
    }[kind]()
    with pytest.raises(CamError, match="is not an ordinary file"):
        Journal(out, {})
    assert mine.read_bytes() == b"mine"


@pytest.mark.parametrize("kind", ["folder", "link", "broken link", "pipe"])
def test_other_parts_journals_that_are_no_files_are_left_alone(tmp_path, out, photo, kind):
    for name in ("camlib.1-of-2.jsonl", "camlib.names.1-of-2.jsonl", "camlib.bak.jsonl"):
        path = out / name
        {
            "folder": path.mkdir,
            "link": lambda path=path: path.symlink_to("/etc/passwd"),
            "broken link": lambda path=path: path.symlink_to("nowhere"),
            "pipe": lambda path=path: os.mkfifo(path),
        }[kind]()
    finish(Journal(out, {}), photo)
    assert Journal(out, {}).rows(photo)


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_a_lock_that_is_no_file(tmp_path, out, photo, kind):
    mine = make(tmp_path / "mine.txt", b"mine")
    lock = out / ".camlib.lock"
    lock.mkdir() if kind == "folder" else lock.symlink_to(mine)
    with pytest.raises(CamError, match="cannot be written"):
        Journal(out, {})
    assert mine.read_bytes() == b"mine"


def test_a_folder_that_is_not_there(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CamError, match="missing: cannot be written"):
        Journal(tmp_path / "file" / "missing", {})


def test_a_full_disk(out, photo, monkeypatch):
    journal = Journal(out, {})
    monkeypatch.setattr("builtins.open", full_disk(open))
    with pytest.raises(CamError, match=r"camlib.names.jsonl: cannot be written \(No space left on device\)"):
        journal.take_names([photo])
    monkeypatch.undo()
    assert name_of(photo, out) == "cat"


def full_disk(real):
    def opened(path, mode="r", *args, **options):
        file = real(path, mode, *args, **options)
        if "a" in mode:
            file.close()
            raise OSError(28, "No space left on device")
        return file

    return opened


def test_a_disk_without_locks(out, photo, monkeypatch):
    import filelock

    def acquire(*_args, **_options):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    finish(Journal(out, {}), photo)
    assert Journal(out, {}).rows(photo)


# Several at once


def take(folder: Path, out: Path, barrier=None) -> dict[str, str]:
    photos = sorted(folder.glob("*.jpg"))
    journal = Journal(out, {})
    names = {}
    for photo in photos:
        if barrier:
            barrier.wait()
        names |= journal.take_names([photo])
        finish(journal, photo, str(photo).encode())
    return {str(photo): name for photo, name in names.items()}


def test_two_jobs_take_names_at_once(tmp_path, out):
    """In step, photos with the same names from two folders: no name goes to two photos, and no line is lost."""
    for folder in "ab":
        for n in range(40):
            make(tmp_path / folder / f"{n}.jpg", folder.encode())
    barrier, names = threading.Barrier(2, timeout=30), {}
    threads = [
        threading.Thread(target=lambda f=f: names.update(take(tmp_path / f, out, barrier)), daemon=True) for f in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check_names(tmp_path, out, names)


def test_two_processes_take_names_at_once(tmp_path, out):
    for folder in "ab":
        for n in range(100):
            make(tmp_path / folder / f"{n}.jpg", folder.encode())
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        names = {}
        for some in pool.starmap(take, [(tmp_path / folder, out) for folder in "ab"]):
            names |= some
    check_names(tmp_path, out, names)


def check_names(tmp_path: Path, out: Path, names: dict[str, str]) -> None:
    photos = sorted(tmp_path.glob("[ab]/*.jpg"))
    assert len(names) == len({*names.values()}) == len(photos)
    journal = Journal(out, {})
    assert journal.notes == []
    for photo in photos:
        (row,) = journal.rows(photo)
        assert Path(row["picture"]).read_bytes() == str(photo).encode()


# Parts


def test_parts_cover_everything_exactly_once(tmp_path, out):
    photos = [tmp_path / "photos" / f"{n}.jpg" for n in range(1000)]
    journal = Journal(out, {}, part="1-of-7")
    parts = [journal.part_of(photo, 7) for photo in photos]
    assert set(parts) == {1, 2, 3, 4, 5, 6, 7}
    assert min(map(parts.count, range(1, 8))) > 100
    elsewhere = Journal(out, {}, part="5-of-7")
    assert [elsewhere.part_of(photo, 7) for photo in reversed(photos)] == parts[::-1], "whichever photos there are"
    assert {journal.part_of(photo, 1) for photo in photos} == {1}


def test_parts_that_do_not_see_each_other_take_different_names(tmp_path, out):
    """As on a network disk, where each machine sees the others' files late: names of both are put together."""
    photos = [make(tmp_path / folder / "cat.jpg") for folder in "abcdefgh"]
    names = []
    for photo in photos:
        names.append(name_of(photo, out, part="1-of-2"))
        (out / "camlib.names.1-of-2.jsonl").unlink()
    assert len(set(names)) == len(photos)
    assert all(name.startswith("cat-") and len(name) == 20 for name in names)


def test_a_part_keeps_names_of_runs_without_parts(out, photo):
    finish(Journal(out, {}), photo)
    part = Journal(out, {}, part="1-of-2")
    assert part.take_names([photo]) == {photo: "cat"}
    assert part.rows(photo)


# Size


@pytest.mark.parametrize("count", [4000, pytest.param(200_000, marks=pytest.mark.long)])
def test_a_long_journal_is_not_held(tmp_path, out, photo, count):
    """Memory per finished photo: a fraction of its line."""
    line = good(out, photo)
    line["rows"] *= 5
    with open(out / "camlib.jsonl", "w") as done, open(out / "camlib.names.jsonl", "w") as names:
        for n in range(count):
            name = f"IMG_{n:06}"
            files = {f"{name}.5-cat.png": next(iter(line["files"].values()))}
            rows = [row | {"picture": f"{name}.5-cat.png"} for row in line["rows"]]
            one = {"photo": f"../photos/{name}.jpg", "name": name, "files": files, "rows": rows}
            done.write(json.dumps(line | one) + "\n")
            kinds = {"name": name, "photo": one["photo"], "recipe": "", "kinds": ["picture"]}
            names.write(json.dumps(kinds) + "\n")
    tracemalloc.start()
    journal = Journal(out, {})
    size, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"{count} finished photos: {size / 1e6:.0f} MB, at most {most / 1e6:.0f} MB")
    assert most < 900 * count
    assert journal.notes == []
    assert len(journal._done) == count


@linux
def test_a_byte_that_is_not_utf8_is_not_the_text_of_its_escape(tmp_path, out):
    """Names that print alike: a name with the byte 0xFF, and one with the eight characters backslash, u, d, c, f, f."""
    os.mkdir(tmp_path / "photos")
    folder = os.fsencode(tmp_path / "photos")
    photos = [Path(os.fsdecode(folder + name)) for name in (b"/a\xff.png", b"/a\\udcff.png")]
    for photo in photos:
        photo.write_bytes(b"a photo of %d" % len(os.fsencode(photo)))
    journal = Journal(out, {})
    names = journal.take_names(photos)
    assert len({*names.values()}) == 2
    for photo in photos:
        finish(journal, photo)
    again = Journal(out, {})
    assert again.notes == [] and again.take_names(photos) == names
    assert all(again.rows(photo) for photo in photos)


def test_a_row_with_more_than_camlib_writes(out, photo):
    line = good(out, photo)
    check_damage(out, photo, json.dumps(line | {"rows": [line["rows"][0] | {"secret": "x"}]}))


# Files that are about to be written


def test_a_file_of_the_users_with_a_name_that_is_taken_but_was_not_written(out, photo):
    """The photo could not be read at first; then the user keeps a file under a name that it would get."""
    Journal(out, {}).take_names([photo])
    mine = make(out / "cat.5-cat.png", b"mine")
    journal = Journal(out, {})
    assert journal.take_names([photo]) == {photo: "cat"} and not journal.wrote(mine)
    with pytest.raises(InTheWayError, match="cat.5-cat.png"):
        journal.intend(photo, ["cat.5-cat.png", "cat.6-dog.png"])
    mine.unlink()
    journal.intend(photo, ["cat.5-cat.png", "cat.6-dog.png"])
    make(out / "cat.6-dog.png")
    for again in (journal, Journal(out, {})):
        again.intend(photo, ["cat.6-dog.png"])  # its own, perhaps of a job that was killed
        assert again.wrote(out / "cat.6-dog.png")


def test_another_process_may_write_the_same_file_of_the_same_photo(out, photo):
    first, second = Journal(out, {}), Journal(out, {})
    for journal in (first, second):
        journal.take_names([photo])
    first.intend(photo, ["cat.5-cat.png"])
    picture = make(out / "cat.5-cat.png", b"by the first")
    second.intend(photo, ["cat.5-cat.png"])
    assert second.wrote(picture) and picture.read_bytes() == b"by the first"
    recorded = [line["files"] for line in lines(out / "camlib.names.jsonl") if "files" in line]
    assert all(files == ["cat.5-cat.png"] for files in recorded) and recorded


def test_a_name_that_was_lost_is_known_from_the_finished_photos(out, photo):
    finish(Journal(out, {"figure": False}), photo)
    names = (out / "camlib.names.jsonl").read_text()
    (out / "camlib.names.jsonl").write_text(names.replace('"kinds"', '"kXnds"'))
    journal = Journal(out, {"figure": False})
    assert len(journal.notes) == 1 and journal.rows(photo)
    assert journal.take_names([photo]) == {photo: "cat"}
    journal.intend(photo, ["cat.5-cat.png"])


def test_written(tmp_path, out, photo):
    picture = finish(Journal(out, {}), photo)
    part = Journal(out, {}, part="1-of-2")
    other = finish(part, make(tmp_path / "photos" / "dog.jpg"))
    assert written(out) == {picture.name, other.name}
    assert written(photo.parent) == set()
    assert all(
        map(is_of_journal, ("camlib.jsonl", "camlib.names.1-of-2.jsonl", "camlib.damaged-1.jsonl", ".camlib.lock"))
    )
    assert not is_of_journal("camlib.csv") and not is_of_journal("my.jsonl")


def test_a_photo_is_known_by_its_way_from_the_folder_without_links(tmp_path, monkeypatch):
    """However its path is written; computed here for each path by itself."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "in")
    monkeypatch.chdir(tmp_path / "in")
    journal = Journal(tmp_path / "out", {})
    written = [
        "a.jpg",
        "./a.jpg",
        "deep/a.jpg",
        "../in/deep/a.jpg",
        "../link/a.jpg",
        "../out/a.jpg",
        "/a.jpg",
        "/tmp/a",
    ]
    for path in map(Path, written):
        real = os.path.join(os.path.realpath(path.parent), path.name)
        assert journal._key(path) == os.path.relpath(real, os.path.realpath(tmp_path / "out"))
    assert journal._key(Path("a.jpg")) == "../in/a.jpg"
