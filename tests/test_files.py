"""Files are written whole or not at all, and nothing else is left beside them."""

import errno
import os
import re
import sys
import threading
import time
from pathlib import Path

import pytest

from camlib import CamError
from camlib.files import printable, sweep, write_whole


def test_a_file_is_replaced_in_one_step(tmp_path):
    """A reader has the old file or the new one at any moment, never a part."""
    path = tmp_path / "a.txt"
    path.write_bytes(b"old" * 1000)

    def write(file):
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old" * 1000
        file.write(b"er")

    assert write_whole(str(path), write) == path
    assert path.read_bytes() == b"newer"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("a bug"), KeyboardInterrupt()])
def test_after_an_error_all_is_as_before(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")

    def write(file):
        file.write(b"half of it")
        raise error

    with pytest.raises(CamError if isinstance(error, OSError) else type(error)):
        write_whole(path, write)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no such folder/a.txt", "No such file or directory"),
        ("folder", "Is a directory|directory"),
        ("file/a.txt", "Not a directory"),
        ("nul\0byte", "null"),
        ("n" * 300, "name too long"),
        ("n" * 300 + "/a.txt", "name too long"),
        ("nul\0folder/a.txt", "null"),
        pytest.param("loop/a.txt", "symbolic links", marks=pytest.mark.skipif(os.name == "nt", reason="needs links")),
    ],
)
def test_where_nothing_can_be_written(tmp_path, name, says):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(CamError, match=f"cannot be written .*({says})"):
        write_whole(f"{tmp_path}/{name}", lambda file: file.write(b"x"))
    assert sorted(os.listdir(tmp_path)) == ["file", "folder", "loop"]
    assert os.listdir(tmp_path / "folder") == []


@pytest.mark.parametrize("step", ["camlib.files.open", "camlib.files.os.replace"])
def test_on_a_read_only_file_system_the_clean_up_hides_nothing(tmp_path, monkeypatch, step):
    def refuse(*_args, **_kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(step, refuse, raising=False)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(CamError, match=r"a.txt: cannot be written \(Read-only file system\)"):
        write_whole(tmp_path / "a.txt", lambda file: file.write(b"x"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_on_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "camlib.files.open", lambda *_: os.fdopen(os.open("/dev/full", os.O_WRONLY), "wb"), raising=False
    )
    with pytest.raises(CamError, match=r"cannot be written \(No space left on device\)"):  # found when it is closed
        write_whole(tmp_path / "a.txt", lambda file: file.write(b"x"))


def test_what_a_killed_process_left_is_swept(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "unlink", lambda self: None)  # as if the process was killed before
    with pytest.raises(RuntimeError):
        write_whole(tmp_path / "a.txt", lambda file: (_ for _ in ()).throw(RuntimeError))
    monkeypatch.undo()
    left, fresh = os.listdir(tmp_path)[0], f".{'0' * 32}.camlib-part"
    assert re.fullmatch(r"\.[0-9a-f]{32}\.camlib-part", left)
    old = time.time() - 4000
    others = [".camlib-part", f".{'g' * 32}.camlib-part", f"{'a' * 32}.camlib-part", f".{'a' * 32}.part", "a.txt"]
    for name in (*others, fresh, f"x.{'b' * 32}.camlib-part", f".{'b' * 32}.camlib-part.txt"):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (old, old))
    os.utime(tmp_path / fresh)
    os.utime(tmp_path / left, (old, old))
    folder, link, deep = (f".{c * 32}.camlib-part" for c in "cde")
    (tmp_path / folder).mkdir()
    (tmp_path / folder / deep).write_bytes(b"")
    (tmp_path / link).symlink_to(tmp_path / "a.txt")
    for path in (tmp_path / folder / deep, tmp_path / folder):
        os.utime(path, (old, old))
    if sys.platform != "win32":
        os.utime(tmp_path / link, (old, old), follow_symlinks=False)
    before = set(os.listdir(tmp_path))
    assert sweep(tmp_path, older_than_seconds=5000) == 0
    assert sweep(tmp_path) == 1
    assert before - set(os.listdir(tmp_path)) == {left}
    assert (tmp_path / folder / deep).exists()
    assert sweep(tmp_path / "no such folder") == 0
    assert sweep("nul\0") == 0


PRINTABLE = {
    "plain name.jpg": "plain name.jpg",
    "Kätzchen 猫 🐈 \u00a0é.png": "Kätzchen 猫 🐈 \u00a0é.png",
    "\x1b[31m\n\t\0\x7f\x85": r"\x1b[31m\x0a\x09\x00\x7f\x85",
    "a\u2028b\u2029c": r"a\u2028b\u2029c",
    "\u202agnp\u202e\u2066\u2069\u200e\u200f\u061c": r"\u202agnp\u202e\u2066\u2069\u200e\u200f\u061c",
    os.fsdecode(b"caf\xe9"): r"caf\udce9" if os.name != "nt" else "caf\ufffd",
    "\ud800": r"\ud800",
}


@pytest.mark.parametrize("text", PRINTABLE, ids=[ascii(text) for text in PRINTABLE])
def test_a_hostile_name_is_printable(text):
    assert printable(text) == PRINTABLE[text]
    printable(text).encode()  # every terminal in UTF-8 takes it


def test_many_may_write_and_read_the_same_file(tmp_path):
    path, contents = tmp_path / "a.txt", [bytes([n]) * 1_000_000 for n in range(4)]
    path.write_bytes(contents[0])
    finished, parts = threading.Event(), []

    def read():
        while not finished.is_set():
            if (content := path.read_bytes()) not in contents:
                parts.append(len(content))

    def write(content):
        for _ in range(25):
            write_whole(path, lambda file: file.write(content))

    reader = threading.Thread(target=read)
    reader.start()
    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    finished.set()
    reader.join()
    assert parts == []
    assert path.read_bytes() in contents
    assert [p.name for p in Path(tmp_path).iterdir()] == ["a.txt"]
