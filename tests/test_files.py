"""Files are written whole or not at all, and nothing else is left beside them."""

import os
import threading
from pathlib import Path

import pytest

from camlib import CamError
from camlib.files import write_whole


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
    ],
)
def test_where_nothing_can_be_written(tmp_path, name, says):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CamError, match=f"cannot be written .*({says})"):
        write_whole(f"{tmp_path}/{name}", lambda file: file.write(b"x"))
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]
    assert os.listdir(tmp_path / "folder") == []


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
