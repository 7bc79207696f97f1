"""Keep the notebooks executed, comparable and small.

    python3 run.py notebooks       [FILE ...]   execute again, store the outputs in normal form
    python3 run.py notebooks check [FILE ...]   fail unless each file is executed and in normal form
    python3 run.py notebooks clean [FILE ...]   normalise without executing, after editing in JupyterLab

Without files: the chapters and the deep dives. Normal form means that the same notebook gives the same bytes
on every run: cell ids come from the content, and nothing tells when, where or by which process the file was made.
The cells of a graded exercise keep their ids, by which the grader recognises a cell whose metadata a student has lost.

`run` also stores which code it ran (`metadata.camlib.executed`, a digest of each code cell), so that a notebook whose
code was changed since is known for stale, and with which packages (`metadata.camlib.packages`).

Cells tagged `nbval-ignore-output` print measurements, such as timings: they run, but what they have stored stays.
The cell tagged `alone` is written by tools/address.py, which says what it is for.
Cells tagged `gpu` run where there is a CUDA device, cells tagged `download` where CAMLIB_DOWNLOAD=1 is set. Elsewhere
they are left out and keep the outputs that they have.
"""

from __future__ import annotations

import argparse
import base64
import copy
import ctypes
import functools
import hashlib
import itertools
import os
import re
import sys
import sysconfig
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import ipykernel.kernelspec
import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from traitlets import default

from tools import files
from tools.errors import ToolError

ROOT = Path(__file__).resolve().parent.parent
RERUN = "python3 run.py notebooks"
CLEAN = "python3 run.py notebooks clean"
MAX_BYTES = 2_500_000
CELL_SECONDS = 600
MEASURED_TAG = "nbval-ignore-output"
OPTIONAL_TAGS = frozenset({"gpu", "download"})
ALONE_TAG = "alone"  # the cell that fetches the course where a notebook stands alone, see tools/address.py
KEPT_CELL_METADATA = ("jupyter", "nbgrader", "tags")  # jupyter: source_hidden, where a cell only draws
PACKAGES = ("matplotlib", "numpy", "pillow", "torch", "torchvision")  # what outputs may depend on
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
WIDGET = "application/vnd.jupyter.widget-view+json"
PREDICT = "*Predict, then run.*"
LONG_CODE = 12  # lines: with its output it fills a slide
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_NOTES = {b"tEXt", b"zTXt", b"iTXt", b"tIME"}  # matplotlib puts its version here


# Which cells are optional, and what can run here


def tags_of(cell: NotebookNode) -> set[str]:
    """The cell's tags."""
    return set(cell.metadata.get("tags", []))


@functools.cache
def has_cuda() -> bool:
    """Whether torch finds a CUDA device."""
    try:  # no driver, no device: this spares most machines the seconds that importing torch takes
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    import torch

    return torch.cuda.is_available()


def why_not_here(cell: NotebookNode) -> str | None:
    """Why an optional cell cannot run here; None where it can, and for every other cell."""
    tags = tags_of(cell)
    if "gpu" in tags and not has_cuda():
        return "gpu cell: no CUDA device here"
    if "download" in tags and os.environ.get("CAMLIB_DOWNLOAD") != "1":
        return "download cell: set CAMLIB_DOWNLOAD=1 to run it"
    return None


def kernel_environment() -> dict[str, str]:
    """What a kernel needs in its environment so that it computes alike everywhere; the caller's own setting wins.

    Threads that wait sleep instead of spinning: where other jobs share the cores, a notebook of 20 s took minutes.
    """
    defaults = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}
    return {name: os.environ.get(name, value) for name, value in defaults.items()}


# Text that differs between two runs of the same code


def _folder_patterns() -> Iterator[tuple[re.Pattern[str], str]]:
    named = {"<site-packages>": sysconfig.get_path("purelib"), "<course>": str(ROOT), "~": os.path.expanduser("~")}
    for name, folder in named.items():
        if len(Path(folder).parts) > 1:
            yield re.compile(re.escape(folder) + r"(?![\w.-])"), name


# Read by conftest.py too, which applies it to both sides of each comparison.
VOLATILE: dict[re.Pattern[str], str] = {
    re.compile(r"\x1b\[[0-9;]*m"): "",
    # The look-behind starts at the beginning of a word only: without it, time grows with the square of its length.
    re.compile(r"(?<![^\s\"'(])[^\s\"'(]*[/\\]ipykernel_\d+[/\\]\d+\.py"): "<cell>",
    re.compile(r"(?<= at )0x[0-9a-fA-F]{6,}"): "0x...",
    **dict(_folder_patterns()),
}
_FOLDERS = r"/(?:home|Users|var/folders)/|/(?:root|tmp)(?![\w.-])"
_REST = r"[^\s\"'<>]*"
MACHINE_PATH = re.compile(
    rf"(?<![\w.~-])(?<!<course>)(?<!<site-packages>)(?:{_FOLDERS}|[A-Za-z]:(?:\\|/Users/)){_REST}"
)
# In what people write, a letter, a colon and a backslash are more often a formula or a string than a drive.
WRITTEN_PATH = re.compile(rf"(?<![\w.~-])(?:{_FOLDERS}|[A-Za-z]:[\\/]+Users[\\/]){_REST}")


def steady(text: str) -> str:
    """The text without colours, process numbers, addresses and this machine's folders."""
    for pattern, replacement in VOLATILE.items():
        text = pattern.sub(replacement, text)
    return text


# Normal form


def without_notes(png: bytes) -> bytes:
    """The same picture without its text and time chunks; anything that is not a PNG comes back as it is."""
    if not png.startswith(PNG_SIGNATURE):
        return png
    kept, start = [PNG_SIGNATURE], len(PNG_SIGNATURE)
    while start < len(png):
        end = start + 12 + int.from_bytes(png[start : start + 4], "big")  # length, type, data, checksum
        if png[start + 4 : start + 8] not in PNG_NOTES:
            kept.append(png[start:end])
        start = end
    return b"".join(kept)


def _normal_data(data: NotebookNode) -> None:
    data.pop(WIDGET, None)
    for mime, value in data.items():
        if mime in ("image/png", "image/jpeg"):  # one line of base64, however it was encoded
            data[mime] = base64.b64encode(without_notes(base64.b64decode(value))).decode()
        elif isinstance(value, str) and not mime.startswith("image/"):
            data[mime] = steady(value)


def _about_pictures(output: NotebookNode) -> NotebookNode:
    """The alt text of each picture, and the width at which it is shown."""
    given = {mime: output.metadata.get(mime, {}) for mime in output.data}
    kept = {mime: {key: about[key] for key in ("alt", "width") if about.get(key)} for mime, about in given.items()}
    return nbformat.from_dict({mime: about for mime, about in kept.items() if about})


def _normal_output(output: NotebookNode, count: int | None) -> None:
    if output.output_type == "stream":
        output.text = steady(output.text)
    elif output.output_type == "error":
        output.evalue = steady(output.evalue)
        output.traceback = [f"{output.ename}: {output.evalue}"]
    else:
        _normal_data(output.data)
        output.metadata = _about_pictures(output)
        if output.output_type == "execute_result":
            output.execution_count = count


def _merged_streams(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """One stdout and one stderr between two displays: how a kernel cuts and interleaves them is chance."""
    merged: list[NotebookNode] = []
    for is_stream, group in itertools.groupby(outputs, lambda output: output.output_type == "stream"):
        if not is_stream:
            merged += group
            continue
        texts = {"stdout": "", "stderr": ""}
        for output in group:
            texts[output.name] += output.text
        merged += [nbformat.v4.new_output("stream", name=name, text=text) for name, text in texts.items() if text]
    return merged


def _normal_code(cell: NotebookNode, count: int) -> None:
    if not cell.source.strip():
        cell.execution_count, cell.outputs = None, []
        return
    if cell.execution_count is not None:
        cell.execution_count = count
    cell.outputs = _merged_streams(cell.outputs)
    for output in cell.outputs:
        _normal_output(output, cell.execution_count)


def _id_for(cell: NotebookNode, used: set[str]) -> str:
    for nth in itertools.count():
        digest = hashlib.sha256(f"{cell.cell_type}\0{cell.source}\0{nth}".encode()).hexdigest()[:8]
        if digest not in used:
            return digest
    raise AssertionError("unreachable")


def slide_type(cell: NotebookNode, before: NotebookNode | None) -> str:
    """What the cell is in a slide show: a heading starts a slide, and an answer waits for its prediction.

    Empty where it goes on with what comes before it: JupyterLab and nbconvert store and expect nothing there.
    """
    if ALONE_TAG in tags_of(cell):
        return "skip"
    if cell.cell_type == "code":
        if before is not None and PREDICT in before.source:
            return "fragment"
        return "subslide" if cell.source.count("\n") >= LONG_CODE else ""
    if re.search(r"\A# |^## ", cell.source, re.MULTILINE):
        return "slide"
    if PREDICT in cell.source or cell.source.startswith("### "):
        return "subslide"
    return "skip" if cell.source.startswith("<details><summary>Solution") else ""


def _kept_metadata(cell: NotebookNode, before: NotebookNode | None) -> NotebookNode:
    """What stays of a cell's metadata, and its place in a slide show where nobody has given it one."""
    kept = {key: cell.metadata[key] for key in KEPT_CELL_METADATA if cell.metadata.get(key)}
    own = cell.metadata.get("slideshow", {}).get("slide_type", "")
    if kind := own or slide_type(cell, before):
        kept["slideshow"] = {"slide_type": kind}
    return nbformat.from_dict(kept)


def normalise(notebook: NotebookNode) -> NotebookNode:
    """Bring the notebook into normal form, in place.

    Execution counts follow the position among the code cells that hold code, so an optional cell that never ran
    leaves a gap and running it later renumbers nothing. A cell that was never executed stays so.
    """
    kept = {"executed": executed(notebook), "packages": packages(notebook)}
    kept = {name: value for name, value in kept.items() if value}
    dated = {"date": notebook.metadata["date"]} if "date" in notebook.metadata else {}  # of a post, as nbconvert has it
    notebook.metadata = nbformat.from_dict(METADATA | dated | ({"camlib": kept} if kept else {}))
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    graded = any("nbgrader" in cell.metadata for cell in notebook.cells)
    used: set[str] = set()
    count = 0
    for before, cell in zip([None, *notebook.cells], notebook.cells, strict=False):
        cell.metadata = _kept_metadata(cell, before)
        if not graded or cell.get("id") in {None, *used}:
            cell.id = _id_for(cell, used)
        used.add(cell.id)
        if cell.cell_type == "code":
            count += bool(cell.source.strip())
            _normal_code(cell, count)
    return notebook


# Which code the outputs come from


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The code cells, in the order in which pytest counts them: from 0."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _digests(notebook: NotebookNode) -> list[str]:
    return [_digest(cell) for cell in code_cells(notebook)]


def _digest(cell: NotebookNode) -> str:
    if ALONE_TAG in tags_of(cell):
        return ALONE_TAG  # holds the repository's address, and here it does nothing
    return hashlib.sha256(cell.source.strip().encode()).hexdigest()[:16]


def executed(notebook: NotebookNode) -> list[str]:
    """The digests of the code cells that the last run left behind; empty where no run has."""
    return list(notebook.metadata.get("camlib", {}).get("executed", []))


def packages(notebook: NotebookNode) -> dict[str, str]:
    """The versions with which the last run was made; empty where none has left them."""
    return dict(notebook.metadata.get("camlib", {}).get("packages", {}))


def mark_executed(notebook: NotebookNode, before: list[str] | None = None) -> None:
    """Store which code was run, and with what.

    A cell that cannot run here and was never seen `before` has outputs of other code.
    """
    marks = _digests(notebook)
    for number, cell in enumerate(code_cells(notebook)):
        if before and marks[number] not in before and cell.outputs and why_not_here(cell):
            marks[number] = "another code"
    versions = {name: version(name) for name in PACKAGES}
    notebook.metadata["camlib"] = nbformat.from_dict({"executed": marks, "packages": versions})


def stale_cell(notebook: NotebookNode) -> int | None:
    """The first code cell that is not the one that was run; None where all are, or where no run has left a mark."""
    ran = executed(notebook)
    pairs = itertools.zip_longest(ran, _digests(notebook))
    return next((n for n, (old, new) in enumerate(pairs) if old != new), None) if ran else None


# Files


def read(path: Path) -> NotebookNode:
    """The notebook in the file; a ToolError where there is none."""
    try:
        return nbformat.reads(path.read_bytes().decode("utf-8"), as_version=4)
    except OSError as error:
        raise ToolError(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, nbformat.reader.NotJSONError, nbformat.ValidationError) as error:
        raise ToolError(f"{path}: not a notebook; take the last good one from git") from error


def to_bytes(notebook: NotebookNode) -> bytes:
    """The notebook as it stands in a file."""
    return (nbformat.writes(notebook).rstrip("\n") + "\n").encode("utf-8")


def from_here(path: Path, folder: Path | None = None) -> Path:
    """The path relative to the folder, or to the current one; as it is where it lies on another drive of Windows."""
    try:
        return Path(os.path.relpath(path, folder))
    except ValueError:
        return path


def write(path: Path, notebook: NotebookNode) -> bool:
    """Replace the file as a whole or not at all; False when it already held these bytes."""
    return files.write(path, to_bytes(notebook))


# What is wrong with a stored notebook


def texts(output: NotebookNode) -> Iterator[str]:
    """Everything in an output that a reader may see as text, alt texts included."""
    if output.output_type == "stream":
        yield output.text
    elif output.output_type == "error":
        yield output.evalue
    else:
        for mime, value in output.data.items():
            yield str(output.metadata.get(mime, {}).get("alt", ""))
            if mime == "image/svg+xml" or not mime.startswith("image/"):
                yield value if isinstance(value, str) else str(value)


def _output_faults(output: NotebookNode, tags: set[str]) -> Iterator[str]:
    if output.output_type == "error" and "raises-exception" not in tags:
        yield (
            f"stores the error {output.ename}: {output.evalue}; fix the cell, "
            f"or tag it raises-exception if the error is the lesson, then: {RERUN}"
        )
    for mime in output.get("data", {}):
        if mime.startswith("image/") and not str(output.metadata.get(mime, {}).get("alt", "")).strip():
            yield (
                "has a figure without alt text; show it with camlib.plot.show(figure, alt='what is seen'), "
                f"then: {RERUN}"
            )
    for path in itertools.chain.from_iterable(map(MACHINE_PATH.findall, texts(output))):
        yield f"prints {path!r}, a path of one machine; print a name or a relative path, then: {RERUN}"


def cell_faults(cell: NotebookNode) -> Iterator[str]:
    """What is wrong with a code cell's stored outputs, each with what to do."""
    tags = tags_of(cell)
    optional = tags & OPTIONAL_TAGS and not cell.outputs
    if cell.source.strip() and cell.execution_count is None and not optional:
        yield f"was never executed, so there is nothing to compare a new run with; execute it: {RERUN}"
    for output in cell.outputs:
        yield from _output_faults(output, tags)


def faults(path: Path) -> list[str]:
    """Everything that makes the stored outputs useless as a reference, one line each; empty for a good notebook."""
    found = []
    size = path.stat().st_size if path.exists() else 0
    if size > MAX_BYTES:
        found.append(
            f"{path}: {size / 1e3:.0f} kB, more than {MAX_BYTES / 1e3:.0f} kB; "
            f"draw fewer or smaller figures, then: {RERUN}"
        )
    notebook = read(path)
    for number, cell in enumerate(code_cells(notebook)):
        found += [f"{path}::Cell {number} ({first_line(cell)!r}) {fault}" for fault in cell_faults(cell)]
    stale = stale_cell(notebook)
    if stale is not None:
        found.append(f"{path}::Cell {stale} is not the code that was run: its outputs are stale; run it again: {RERUN}")
    return found


def first_line(cell: NotebookNode) -> str:
    """The beginning of a cell, by which a person finds it."""
    return next(iter(cell.source.strip().splitlines()), "")[:60]


def form_faults(path: Path) -> list[str]:
    """Where the file departs from the normal form: at most one line, about the first difference."""
    stored, normal = path.read_bytes(), to_bytes(normalise(read(path)))
    if stored == normal:
        return []
    for number, pair in enumerate(itertools.zip_longest(stored.split(b"\n"), normal.split(b"\n"), fillvalue=b""), 1):
        if pair[0] != pair[1]:
            found, wanted = (text.decode("utf-8", "replace").strip()[:80] for text in pair)
            return [f"{path}:{number}: not in normal form: {found!r}, not {wanted!r}; normalise it: {CLEAN} {path}"]
    raise AssertionError("unreachable")


# Execution


class _ThisPython(KernelSpecManager):
    """Knows one kernel: this interpreter. A `python3` installed for another environment must not be taken instead."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        quiet = ["--log-level=ERROR"]  # it would warn that its messages, which stay on this machine, are not encrypted
        settings = ipykernel.kernelspec.get_kernel_dict(extra_arguments=quiet)
        return KernelSpec(resource_dir=str(ipykernel.kernelspec.RESOURCES), **settings)


class _KernelManager(AsyncKernelManager):
    @default("kernel_spec_manager")
    def _kernel_spec_manager_default(self) -> KernelSpecManager:
        return _ThisPython()


class _Client(NotebookClient):
    """Leaves out what cannot run here, and says which cell failed."""

    async def async_execute_cell(
        self, cell: NotebookNode, cell_index: int, execution_count: int | None = None, store_history: bool = True
    ) -> NotebookNode:
        if why_not_here(cell):
            return cell
        try:
            return await super().async_execute_cell(cell, cell_index, execution_count, store_history)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            number = sum(before.cell_type == "code" for before in self.nb.cells[:cell_index])
            raise ToolError(_failure(f"Cell {number}", cell, error)) from None


def execute(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """Execute the notebook in the folder with this Python; cells that cannot run here keep their outputs."""
    client = _Client(
        notebook,
        kernel_manager_class=_KernelManager,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        timeout=CELL_SECONDS,
        record_timing=False,
        store_widget_state=False,
    )
    client.execute(env=os.environ | kernel_environment())
    return notebook


def _indented(source: str) -> str:
    return "\n".join(f"    {line}" for line in source.splitlines())


def _failure(where: str, cell: NotebookNode, error: Exception) -> str:
    name = getattr(error, "ename", type(error).__name__)
    value = getattr(error, "evalue", str(error).strip().splitlines()[0] if str(error) else "")
    traceback = "\n".join(line for output in cell.outputs for line in output.get("traceback", []))
    parts = [f"{where} raised {name}: {value}", _indented(cell.source), steady(traceback)]
    return "\n".join(part for part in parts if part)


# Commands


def run(path: Path) -> bool:
    """Execute the notebook and store its outputs; True when the file changed. After an error it is as it was."""
    notebook = read(path)
    kept, before = _measurements(notebook), executed(notebook)
    try:
        execute(notebook, path.resolve().parent)
    except ToolError as error:
        raise ToolError(f"{path}::{error}\nThe file is unchanged. Fix the cell, then: {RERUN}") from None
    for cell in notebook.cells:
        if cell.id in kept:
            cell.outputs = kept[cell.id]
    mark_executed(notebook, before)
    return write(path, normalise(notebook))


def _measurements(notebook: NotebookNode) -> dict[str, list[NotebookNode]]:
    """Stored outputs that differ from run to run, of cells whose source has not changed: id -> outputs."""
    ids = [cell.id for cell in normalise(copy.deepcopy(notebook)).cells]  # an id comes from the source
    return {
        cell.id: cell.outputs
        for cell, unchanged in zip(notebook.cells, ids, strict=True)
        if MEASURED_TAG in tags_of(cell) and cell.id == unchanged and cell.outputs
    }


def clean(path: Path) -> bool:
    """Bring the file into normal form without executing; True when it changed."""
    return write(path, normalise(read(path)))


def check(path: Path) -> list[str]:
    """Everything that is wrong with the file, one line each: its outputs and its form."""
    return faults(path) + form_faults(path)


def chapters() -> list[Path]:
    """The chapters, in their order."""
    return sorted((ROOT / "notebooks").glob("*.ipynb"))


def deep_dives() -> list[Path]:
    """What only the keen need, a notebook each."""
    return sorted((ROOT / "notebooks" / "deep_dives").glob("*.ipynb"))


def all_notebooks() -> list[Path]:
    """Every notebook that is stored with its outputs: the chapters, then the deep dives."""
    return chapters() + deep_dives()


def _run_and_report(path: Path) -> list[str]:
    start = time.perf_counter()
    changed = run(path)
    left_out = sum(why_not_here(cell) is not None for cell in code_cells(read(path)))
    print(
        f"{path}: {time.perf_counter() - start:.1f} s, {path.stat().st_size / 1e3:.0f} kB",
        "changed" if changed else "unchanged",
        *([f"{left_out} optional cells left out"] if left_out else []),
        sep=", ",
        flush=True,
    )
    return faults(path)


def _clean_and_report(path: Path) -> list[str]:
    print(f"{path}: {'changed' if clean(path) else 'unchanged'}")
    return []


COMMANDS = {
    "run": (_run_and_report, "execute again, store the outputs in normal form"),
    "check": (check, "fail unless each file is executed and in normal form"),
    "clean": (_clean_and_report, "normalise without executing, after editing in JupyterLab"),
}


def main(arguments: list[str] | None = None) -> int:
    """The command line: 0 when all is well, 1 when a notebook is not, 2 for bad usage."""
    arguments = sys.argv[1:] if arguments is None else arguments
    command, rest = (arguments[0], arguments[1:]) if arguments[:1] and arguments[0] in COMMANDS else ("run", arguments)
    parser = argparse.ArgumentParser(
        prog="python3 run.py notebooks",
        usage="python3 run.py notebooks [run | check | clean] [FILE ...]",
        description="; ".join(f"{name}: {text}" for name, (_, text) in COMMANDS.items()),
    )
    parser.add_argument("files", nargs="*", type=Path, help="notebooks (default: the chapters and the deep dives)")
    options = parser.parse_args(rest)
    paths = options.files or [from_here(path) for path in all_notebooks()]
    if not paths:
        parser.error(f"no notebooks in {ROOT / 'notebooks'}: name the files")
    if missing := [str(path) for path in paths if not path.is_file()]:
        parser.error(f"no such file: {', '.join(missing)}")

    bad = 0
    for path in paths:
        try:
            found = COMMANDS[command][0](path)
        except ToolError as error:
            found = [str(error)]
        bad += bool(found)
        for fault in found:
            print(fault, file=sys.stderr, flush=True)
    if command == "check" and not bad:
        print(f"{len(paths)} notebooks: executed and in normal form")
    return 1 if bad else 0
