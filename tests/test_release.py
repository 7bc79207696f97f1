"""A release names one version and one date everywhere, and its files are built from what is checked."""

import re
import shutil
from pathlib import Path

import pytest

from tools import release
from tools.errors import ToolError

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("pyproject.toml", "camlib/version.py", "CITATION.cff", "CHANGELOG.md", "README.md", "LICENSE")


@pytest.fixture
def course(tmp_path, monkeypatch):
    """The files that name a version, in a folder of their own; the changelog's newest part is a release."""
    (tmp_path / "camlib").mkdir()
    for name in NAMES:
        shutil.copy(ROOT / name, tmp_path / name)
    changelog = tmp_path / "CHANGELOG.md"
    text = re.sub(r"(?ms)^## \[Unreleased\].*?(?=^## )", "", changelog.read_text(encoding="utf-8"))
    changelog.write_text(text, encoding="utf-8")
    monkeypatch.setattr(release, "ROOT", tmp_path)
    return tmp_path


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert re.search(old, text)
    file.write_text(re.sub(old, new, text, count=1), encoding="utf-8")


def test_all_files_name_one_version(course):
    versions = set(release.versions(course).values())
    assert len(versions) == 1 and re.fullmatch(r"\d+\.\d+\.\d+", versions.pop())


@pytest.mark.parametrize("name", NAMES[:-1])
def test_a_file_that_was_forgotten_is_named(course, name):
    version = release.versions(course)["pyproject.toml"]
    change(course / name, re.escape(version), "9.9.9")
    with pytest.raises(ToolError, match=rf"different versions: .*{re.escape(name)} 9\.9\.9"):
        release.check(course, None)


def test_the_tag_is_the_version(course):
    version = release.versions(course)["pyproject.toml"]
    assert release.check(course, f"v{version}") == release.check(course, None) == version
    with pytest.raises(ToolError, match=f"The tag is {version}, .* must be v{version}"):
        release.check(course, version)


def test_what_is_not_dated_is_not_released(course):
    change(course / "CITATION.cff", r"date-released: .*", 'date-released: "2001-01-01"')
    with pytest.raises(ToolError, match="dated 2001-01-01"):
        release.check(course, None)
    change(course / "CHANGELOG.md", r"(?m)^(?=## \[)", "## [Unreleased]\n\n")
    with pytest.raises(ToolError, match="Unreleased"):
        release.check(course, None)


def test_it_builds_the_archive_and_the_wheel(course, capsys):
    """Without a network, from what is there, and only into an empty folder."""
    pytest.importorskip("uv")
    shutil.copy(ROOT / "camlib" / "errors.py", course / "camlib")
    (course / "camlib" / "__init__.py").touch()
    assert release.main([]) == 0
    version = release.check(course, None)
    built = capsys.readouterr().out
    assert f"camlib-{version}-py3-none-any.whl" in built and f"camlib-{version}.tar.gz" in built
    assert release.main([]) == 2
    assert "is not empty" in capsys.readouterr().err
