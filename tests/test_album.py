"""The folder beside a project's notebook goes along when it is graded: plain files, and nothing from outside."""

import os
from pathlib import Path

import pytest

from tools.classroom import album
from tools.classroom.submissions import Submission


@pytest.fixture
def handed_in(tmp_path: Path) -> Submission:
    folder = tmp_path / "in" / "ada"
    (folder / "album" / "more").mkdir(parents=True)
    for name in ("boxes.json", "a.jpg", "more/b.png"):
        (folder / "album" / name).write_text(name)
    (folder / "project.ipynb").write_text("{}")
    return Submission("ada", "project", folder / "project.ipynb")


def taken(submission: Submission, there: Path) -> tuple[list[str], list[str]]:
    """The files that come along, and the remarks."""
    there.mkdir()
    remarks = album.bring(submission, there)
    return sorted(p.relative_to(there).as_posix() for p in there.rglob("*") if p.is_file()), remarks


ALL = ["album/a.jpg", "album/boxes.json", "album/more/b.png"]


def test_photos_and_boxes_come_along(handed_in: Submission, tmp_path: Path):
    assert taken(handed_in, tmp_path / "there") == (ALL, [])
    assert (tmp_path / "there/album/a.jpg").read_text() == "a.jpg"


def test_capital_letters_do_not_matter(handed_in: Submission, tmp_path: Path):
    os.rename(handed_in.file.parent / "album", handed_in.file.parent / "Album")
    assert taken(handed_in, tmp_path / "there") == (ALL, [])


def test_links_lead_nowhere(handed_in: Submission, tmp_path: Path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "grades.csv").write_text("10")
    folder = handed_in.file.parent / "album"
    (folder / "file.jpg").symlink_to(secret / "grades.csv")
    (folder / "folder").symlink_to(secret)
    (folder / "up").symlink_to("../..")
    (folder / "broken.jpg").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.jpg")  # to read it would wait for ever
    remarks = ["links and other special files in album/ not taken along: 5"]
    assert taken(handed_in, tmp_path / "there") == (ALL, remarks)
    os.rename(folder, tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert taken(handed_in, tmp_path / "there 2") == ([], ["album/ is a link, not followed"])


def test_notebooks_and_hidden_files_stay_behind(handed_in: Submission, tmp_path: Path):
    for name in ("copy.ipynb", ".DS_Store", "__pycache__/a.pyc", ".ipynb_checkpoints/boxes.json"):
        (handed_in.file.parent / "album" / name).parent.mkdir(exist_ok=True)
        (handed_in.file.parent / "album" / name).write_text("{}")
    assert taken(handed_in, tmp_path / "there") == (ALL, [])


def test_a_folder_has_a_limit(handed_in: Submission, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with open(handed_in.file.parent / "album" / "film.mp4", "wb") as file:
        file.truncate(91_000_000)
    remark = "album/ not taken along: 91 MB in 4 files, more than 90 MB or 500 files"
    assert taken(handed_in, tmp_path / "there") == ([], [remark])
    os.remove(handed_in.file.parent / "album" / "film.mp4")
    monkeypatch.setattr(album, "FILES", 2)
    assert taken(handed_in, tmp_path / "there 2")[0] == []


def test_without_a_folder_the_notebook_is_graded_alone(handed_in: Submission, tmp_path: Path):
    os.rename(handed_in.file.parent / "album", tmp_path / "forgotten")
    assert taken(handed_in, tmp_path / "there") == ([], ["no folder album/ beside the notebook"])
    other = Submission("ada", "hooks", handed_in.file)
    assert taken(other, tmp_path / "there 2") == ([], [])
