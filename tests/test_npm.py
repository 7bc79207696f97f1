"""A package of npm is what is pinned, is kept whole or not at all, and what is missing is told."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from tools import npm
from tools.errors import ToolError


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setattr(npm, "KEPT", tmp_path / "kept")
    return tmp_path / "kept"


def archive(folder: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(folder / "made.tgz", "w:gz") as bundle:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            bundle.addfile(entry, io.BytesIO(data))
    return folder / "made.tgz"


def served(monkeypatch, files: dict[str, bytes]) -> list[str]:
    """npm gives this archive; the list grows with each time that it is asked."""
    asked: list[str] = []

    def fetch(name: str, version: str, folder: Path) -> Path:
        asked.append(name)
        return archive(folder, files)

    monkeypatch.setattr(npm, "_fetch", fetch)
    return asked


def test_the_digest_is_npms_own(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert npm.integrity(tmp_path / "a") == (  # the test vector of FIPS 180-2 for "abc", in base 64
        "sha512-3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/uu9RU1EI2Q86A4qmslPpUyknw=="
    )


def test_a_package_is_fetched_once(kept, tmp_path, monkeypatch):
    asked = served(monkeypatch, {"package/a.js": b"1"})
    (tmp_path / "same").mkdir()
    monkeypatch.setattr(npm, "integrity", lambda path: "pinned")
    monkeypatch.setitem(npm.PINNED, "a", ("1.0.0", "pinned"))
    for _ in range(2):
        assert (npm.package("a") / "a.js").read_bytes() == b"1"
    assert asked == ["a"]
    assert [path.name for path in kept.iterdir() if not path.name.startswith(".")] == ["a-1.0.0"]


def test_another_archive_is_refused(kept, monkeypatch):
    served(monkeypatch, {"package/a.js": b"1"})
    monkeypatch.setitem(npm.PINNED, "a", ("1.0.0", "sha512-other"))
    with pytest.raises(ToolError, match="nothing was kept"):
        npm.package("a")
    assert [path.name for path in kept.iterdir()] in ([], [".lock"])


def test_an_archive_writes_nowhere_else(kept, tmp_path, monkeypatch):
    served(monkeypatch, {"package/a.js": b"1", "../../outside": b"2"})
    monkeypatch.setattr(npm, "integrity", lambda path: "pinned")
    monkeypatch.setitem(npm.PINNED, "a", ("1.0.0", "pinned"))
    with pytest.raises(tarfile.OutsideDestinationError):
        npm.package("a")
    assert not (tmp_path / "outside").exists() and not (kept / "a-1.0.0").exists()


def test_without_npm_it_says_what_to_install(kept, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ToolError, match=r"Install Node\.js"):
        npm.package("reveal.js")


def test_without_a_network_it_says_so(kept, tmp_path, monkeypatch):
    program = tmp_path / "bin" / "npm"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'npm error network down' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    with pytest.raises(ToolError, match="needs a network this one time: npm error network down"):
        npm.package("reveal.js")


def test_what_is_pinned_can_be_fetched():
    used = {"reveal.js": ("dist/reveal.js", "LICENSE")} | npm.FILES
    assert set(used) == set(npm.PINNED)
    for name, files in used.items():
        assert all((npm.package(name) / file).is_file() for file in files)


def test_of_a_large_package_only_what_is_used_is_kept():
    folder = npm.package("onnxruntime-web")
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == set(npm.FILES["onnxruntime-web"])
    version, _ = npm.PINNED["onnxruntime-web"]
    assert json.loads((folder / "package.json").read_text())["version"] == version
