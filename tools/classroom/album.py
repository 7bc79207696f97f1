"""The folder that belongs to a notebook: what a student hands in beside the project goes along when it is graded."""

import os
import shutil
import stat
from pathlib import Path

from tools.classroom.submissions import Submission

FOLDERS = {"project": "album"}  # exercise -> the folder that its notebook reads
MEGABYTES, FILES = 90, 500


def bring(submission: Submission, there: Path) -> list[str]:
    """Copy a submission's folder beside its notebook in the place where it is graded; remarks on what stayed behind.

    Only plain files are copied. A link is not followed, wherever it leads; notebooks and hidden files stay behind.
    """
    name = FOLDERS.get(submission.exercise)
    if name is None:
        return []
    beside = submission.file.parent.iterdir()
    album = next((p for p in sorted(beside) if p.name.casefold() == name and p.is_dir()), None)
    if album is None:
        return [f"no folder {name}/ beside the notebook"]
    if album.is_symlink():
        return [f"{name}/ is a link, not followed"]
    files, strange = _files(album)
    size = sum(file.lstat().st_size for file in files) / 1e6
    if size > MEGABYTES or len(files) > FILES:
        most = f"more than {MEGABYTES} MB or {FILES} files"
        return [f"{name}/ not taken along: {size:.0f} MB in {len(files)} files, {most}"]
    for file in files:
        target = there / name / file.relative_to(album)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target, follow_symlinks=False)
    return [f"links and other special files in {name}/ not taken along: {len(strange)}"] if strange else []


def _files(album: Path) -> tuple[list[Path], list[Path]]:
    """The plain files below a folder, without entering links; and what is neither file nor folder."""
    files: list[Path] = []
    strange: list[Path] = []
    for folder, folders, names in os.walk(album, followlinks=False):
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__")))
        strange += [path for path in (Path(folder) / f for f in folders) if path.is_symlink()]
        for path in (Path(folder) / n for n in sorted(names) if not n.startswith(".")):
            plain = stat.S_ISREG(path.lstat().st_mode)
            (files if plain else strange).append(path)
    return [path for path in files if path.suffix.lower() != ".ipynb"], strange
