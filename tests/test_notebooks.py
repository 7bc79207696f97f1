"""The harness around the notebooks must see each planted fault, and nothing in a good notebook."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import nbformat
import numpy as np
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from camlib import page
from tools import figures, notebooks, pages
from tools.errors import ToolError

ROOT = notebooks.ROOT
CHAPTER = ROOT / "notebooks" / "00_first_heat_map.ipynb"

SETUP = """
import io, sys, warnings
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image, display

def draw(seed, alt):
    fig, ax = plt.subplots(figsize=(3, 2))
    ax.imshow(np.random.default_rng(seed).random((7, 7)))
    file = io.BytesIO()
    fig.savefig(file, format="png")
    plt.close(fig)
    display(Image(data=file.getvalue(), alt=alt))
"""
CELLS = {  # name: (source, tags), in the order in which pytest counts them
    "setup": (SETUP.strip(), []),
    "number": ("print(f'mean {np.arange(10).mean():.3f}')", []),
    "noise": ("draw(1, 'a chequered square')", []),
    "shift": ("draw(2, 'a chequered square')", []),
    "missing": ("draw(3, 'a chequered square')", []),
    "size": ("draw(4, 'a chequered square')", []),
    "alt": ("draw(5, 'a chequered square')", []),
    "both": ("print('seed', 6); draw(6, 'a chequered square')", []),
    "gpu": ("raise RuntimeError('needs a GPU')", ["gpu"]),
    "download": ("raise RuntimeError('needs the network')", ["download"]),
    "empty": ("", []),
    "error": ("1 / 0", ["raises-exception"]),
    "warning": ("warnings.warn('careful'); print('\\x1b[31mred\\x1b[0m')", []),
    "address": ("object()", []),
    "streams": ("print('a'); print('b', file=sys.stderr); print('c'); draw(7, 'one more'); print('d')", []),
    "kernel": ("import os; print(os.environ['OMP_NUM_THREADS'], os.path.basename(os.getcwd()))", []),
    "last": ("print('end')", []),
}
NUMBER = {name: number for number, name in enumerate(CELLS)}


def small_notebook() -> NotebookNode:
    cells = [new_code_cell(source, metadata={"tags": tags} if tags else {}) for source, tags in CELLS.values()]
    return new_notebook(cells=[new_markdown_cell("# A small notebook"), *cells])


class Copy:
    """A notebook under a new name, to plant faults in."""

    def __init__(self, good: Path, name: str):
        self.path = good.with_name(f"{name}.ipynb")
        self.notebook = notebooks.read(good)
        self.cells = notebooks.code_cells(self.notebook)

    def __getitem__(self, name: str) -> NotebookNode:
        return self.cells[NUMBER[name]]

    def save(self) -> Path:
        self.path.write_bytes(notebooks.to_bytes(self.notebook))
        return self.path


def picture_type(output: NotebookNode) -> str | None:
    return next((mime for mime in output.get("data", {}) if mime in figures.FIGURE_TYPES), None)


def picture_output(cell: NotebookNode) -> NotebookNode:
    return next(output for output in cell.outputs if picture_type(output))


def change_picture(cell: NotebookNode, change: Callable[[np.ndarray], np.ndarray]) -> None:
    output = picture_output(cell)
    mime = str(picture_type(output))
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(output.data[mime]))).convert("RGB"))
    file = io.BytesIO()
    Image.fromarray(change(pixels).astype(np.uint8)).save(file, format=mime.removeprefix("image/"))
    output.data[mime] = base64.b64encode(file.getvalue()).decode()


def noise(pixels: np.ndarray) -> np.ndarray:
    step = np.random.default_rng(0).choice([-1, 1], size=pixels.shape)
    return np.clip(pixels.astype(int) + step, 0, 255)


# A pytest run of its own, on a copy of the configuration


class Report(NamedTuple):
    """What a pytest run printed."""

    returncode: int
    text: str

    def outcome(self, notebook: str, item: str) -> str:
        """PASSED or FAILED, from the summary."""
        found = re.search(rf"^(PASSED|FAILED|ERROR) \S*\b{notebook}\.ipynb::{item}\b", self.text, re.MULTILINE)
        return found[1] if found else "absent"

    def failure(self, notebook: str, item: str) -> str:
        """The text that pytest printed about one failure."""
        title = rf"^_+ \S*{notebook}\.ipynb::{item} _+$"
        parts = re.split(title, self.text, maxsplit=1, flags=re.MULTILINE)
        assert len(parts) == 2, f"no failure of {notebook}::{item} in\n{self.text}"
        return re.split(r"^(?:_{3,}|={3,}) .* (?:_{3,}|={3,})$", parts[1], maxsplit=1, flags=re.MULTILINE)[0]


def project(folder: Path) -> Path:
    """A folder with this repository's notebook policy, and nothing else of it."""
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "tools", folder / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "notebooks").mkdir()
    return folder


def environment(**settings: str) -> dict[str, str]:
    """Without a GPU and without the network, wherever the tests run."""
    own = ("CAMLIB_", "PYTEST_", "OMP_")
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(own)}
    return inherited | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)} | settings


def run_pytest(folder: Path, *arguments: str, **settings: str) -> Report:
    command = [sys.executable, "-m", "pytest", "-rA", "--color=no", "--nbval", "--nbval-current-env", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment(**settings), capture_output=True, text=True)
    return Report(done.returncode, re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr))


@pytest.fixture(scope="module", autouse=True)
def no_extras() -> Iterator[None]:
    """No GPU and no network in this process either."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notebooks, "has_cuda", lambda: False)
        for name in ("CAMLIB_DOWNLOAD", "OMP_NUM_THREADS"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small notebook, executed by the project's command; its GPU cell holds what a GPU once printed."""
    path = project(tmp_path_factory.mktemp("project")) / "notebooks" / "good.ipynb"
    notebook = small_notebook()
    gpu = notebooks.code_cells(notebook)[NUMBER["gpu"]]
    gpu.execution_count, gpu.outputs = 1, [new_output("stream", name="stdout", text="printed by a GPU\n")]
    path.write_bytes(notebooks.to_bytes(notebook))
    assert notebooks.main(["run", str(path)]) == 0
    return path


# Running the notebooks


@pytest.fixture(scope="module")
def report(good: Path) -> Report:
    """One pytest run on the good notebook and on a copy with a fault in each of several cells."""
    faulty = Copy(good, "faulty")
    faulty["number"].outputs[0].text = "mean 4.501\n"
    change_picture(faulty["noise"], noise)
    change_picture(faulty["shift"], lambda pixels: np.roll(pixels, 4, axis=1))
    faulty["missing"].source = "display({'text/plain': '<IPython.core.display.Image object>'}, raw=True)"
    change_picture(faulty["size"], lambda pixels: pixels[:-1])
    picture_output(faulty["alt"]).metadata["image/png"]["alt"] = "a round square"
    faulty["both"].outputs[0].text = "seed 7\n"
    change_picture(faulty["both"], lambda pixels: pixels[..., ::-1])
    faulty["last"].source = "raise KeyError('planted')"
    faulty.save()
    return run_pytest(good.parent.parent, "notebooks/good.ipynb", "notebooks/faulty.ipynb")


def test_a_good_notebook_passes(report: Report) -> None:
    ran = [f"Cell {number}" for name, number in NUMBER.items() if name not in ("gpu", "download")]
    outcomes = {item: report.outcome("good", item) for item in ["stored", *ran]}
    assert outcomes == dict.fromkeys(outcomes, "PASSED")


def test_cells_that_cannot_run_here_are_reported_as_skipped(report: Report) -> None:
    skipped = re.findall(r"^SKIPPED \[(\d+)\] \S*good\.ipynb\S* (.*)$", report.text, re.MULTILINE)
    assert sorted(skipped) == [
        ("1", "download cell: set CAMLIB_DOWNLOAD=1 to run it"),
        ("1", "gpu cell: no CUDA device here"),
    ]


def test_a_wrong_number_fails(report: Report) -> None:
    text = report.failure("faulty", f"Cell {NUMBER['number']}")
    assert "mean 4.501" in text and "mean 4.500" in text


def test_an_exception_fails(report: Report) -> None:
    assert "KeyError: 'planted'" in report.failure("faulty", f"Cell {NUMBER['last']}")


def test_noise_of_one_level_passes(report: Report) -> None:
    assert report.outcome("faulty", f"Cell {NUMBER['noise']}") == "PASSED"


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("shift", r"figure 1 of the cell differs: by \d+\.\d\d of 255 on average"),
        ("missing", "figure 1 of the cell is stored, but was not drawn"),
        ("size", "another size: 300 x 199 pixels stored, 300 x 200 drawn"),
        ("alt", "another alt text: 'a round square' stored, 'a chequered square' now"),
        ("both", "figure 1 of the cell differs"),
    ],
)
def test_a_wrong_figure_fails(report: Report, cell: str, message: str) -> None:
    text = report.failure("faulty", f"Cell {NUMBER[cell]}")
    assert re.search(message, text)
    assert cell == "both" or "python3 run.py notebooks" in text


def test_a_failure_says_where_both_pictures_lie(report: Report) -> None:
    paths = [Path(line) for line in re.findall(r"^ +(/.*\.png|\w:.*\.png)$", report.failure("faulty", "Cell 3"), re.M)]
    assert [path.name.rpartition("figure-1-")[2] for path in paths] == ["stored.png", "new.png", "difference-x4.png"]
    stored, new, difference = (np.asarray(Image.open(path)).astype(int) for path in paths)
    assert (np.roll(new, 4, axis=1) == stored).all()
    assert (difference == np.minimum(4 * abs(stored - new), 255)).all()


def test_text_beside_a_wrong_figure_is_reported_too(report: Report) -> None:
    text = report.failure("faulty", f"Cell {NUMBER['both']}")
    assert "seed 7" in text and "figure 1 of the cell differs" in text


def test_a_download_cell_runs_on_request(good: Path) -> None:
    assert notebooks.why_not_here(new_code_cell(metadata={"tags": ["download"]}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAMLIB_DOWNLOAD", "1")
        patch.setattr(notebooks, "has_cuda", lambda: True)
        assert notebooks.why_not_here(new_code_cell(metadata={"tags": ["download", "gpu"]})) is None


# Outputs that prove nothing


@pytest.fixture(scope="module")
def stored(good: Path) -> Report:
    """One pytest run that only looks at how notebooks are stored."""

    def plant(name: str, change: Callable[[Copy], object]) -> None:
        copy = Copy(good, name)
        change(copy)
        copy.save()

    def strip(copy: Copy) -> None:
        for cell in copy.cells:
            cell.execution_count, cell.outputs = None, []

    plant("stripped", strip)
    plant("unfinished", lambda copy: copy["number"].update(execution_count=None, outputs=[]))
    plant("optional", lambda copy: copy["gpu"].update(execution_count=None, outputs=[]))
    plant("halfway", lambda copy: copy["gpu"].update(execution_count=None))
    plant("error", lambda copy: copy["error"].metadata.update(tags=[]))
    plant("blind", lambda copy: picture_output(copy["shift"]).metadata.clear())
    plant("blank", lambda copy: picture_output(copy["shift"]).metadata["image/png"].update(alt=" "))
    plant("place", lambda copy: copy["number"].outputs[0].update(text="saved /home/ann/cam.png\n"))
    plant("large", lambda copy: copy["number"].update(source="#" * notebooks.MAX_BYTES))
    return run_pytest(good.parent.parent, "notebooks", "-k", "stored")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("stripped", "stripped.ipynb::Cell 0 ('import io, sys, warnings') was never executed"),
        ("unfinished", "unfinished.ipynb::Cell 1 (\"print(f'mean {np.arange(10).mean():.3f}')\") was never executed"),
        ("halfway", "halfway.ipynb::Cell 8 (\"raise RuntimeError('needs a GPU')\") was never executed"),
        ("error", "error.ipynb::Cell 11 ('1 / 0') stores the error ZeroDivisionError: division by zero"),
        ("blind", "blind.ipynb::Cell 3 (\"draw(2, 'a chequered square')\") has a figure without alt text"),
        ("blank", "blank.ipynb::Cell 3 (\"draw(2, 'a chequered square')\") has a figure without alt text"),
        ("place", "prints '/home/ann/cam.png', a path of one machine"),
        ("large", "kB, more than 2500 kB"),
    ],
)
def test_useless_outputs_fail(stored: Report, name: str, message: str) -> None:
    text = stored.failure(name, "stored")
    assert message in text
    assert "python3 run.py notebooks" in text


def test_optional_cells_may_be_without_outputs(stored: Report) -> None:
    assert stored.outcome("optional", "stored") == stored.outcome("good", "stored") == "PASSED"


# The command


def test_running_twice_changes_no_byte(good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where another environment has put itself forward as `python3`."""
    before = good.read_bytes()
    kernel = tmp_path / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    kernel.write_text(json.dumps({"argv": ["no-such-python"], "display_name": "Other", "language": "python"}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(tmp_path))
        assert notebooks.main(["run", str(good)]) == 0
    assert good.read_bytes() == before
    assert re.search(r"good\.ipynb: [\d.]+ s, \d+ kB, unchanged, 2 optional cells left out\n", capsys.readouterr().out)


def test_stored_outputs_are_normal(good: Path) -> None:
    cells = Copy(good, "good")
    assert [cells[name].execution_count for name in ("setup", "gpu", "download", "empty")] == [1, 9, None, None]
    assert cells["last"].execution_count == len(CELLS) - 1
    assert cells["gpu"].outputs[0].text == "printed by a GPU\n"
    assert cells["gpu"].metadata == {"tags": ["gpu"]}
    assert cells["error"].outputs[0].traceback == ["ZeroDivisionError: division by zero"]
    assert [output.text for output in cells["warning"].outputs] == [
        "red\n",
        "<cell>:1: UserWarning: careful\n  warnings.warn('careful'); print('\\x1b[31mred\\x1b[0m')\n",
    ]
    assert cells["address"].outputs[0].data["text/plain"] == "<object at 0x...>"
    texts = [output.get("text", "figure") for output in cells["streams"].outputs]
    assert texts == ["a\nc\n", "b\n", "figure", "d\n"]
    assert cells["kernel"].outputs[0].text == "2 notebooks\n"


def test_stored_pictures_keep_their_alt_text_and_no_version(good: Path) -> None:
    output = picture_output(Copy(good, "good")["shift"])
    assert output.metadata == {"image/png": {"alt": "a chequered square"}}
    picture = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
    picture.load()
    assert "Software" not in picture.info and picture.size == (300, 200)


def test_a_failing_cell_leaves_the_file_untouched(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "failing.ipynb"
    cells = [new_code_cell("word = 'planted'"), new_markdown_cell("text"), new_code_cell("raise KeyError(word)")]
    path.write_bytes(notebooks.to_bytes(new_notebook(cells=cells)))
    before = path.read_bytes()
    assert notebooks.main(["run", str(path)]) == 1
    message = capsys.readouterr().err
    assert f"{path}::Cell 1 raised KeyError: 'planted'\n    raise KeyError(word)\n" in message
    assert "\x1b" not in message
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_replaced_as_a_whole_or_not_at_all(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("disk full")

    path = tmp_path / "kept.ipynb"
    path.write_text("old")
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ToolError, match="disk full"):
        notebooks.write(path, new_notebook())
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def _renamed(copy: Copy) -> None:
    copy["number"].id = "0123abcd"


def _timed(copy: Copy) -> None:
    copy["number"].metadata["execution"] = {"iopub.status.busy": "2025-01-01T00:00:00Z"}


def _miscounted(copy: Copy) -> None:
    copy["number"].execution_count = 17


def _from_elsewhere(copy: Copy) -> None:
    copy.notebook.metadata.kernelspec.name = "conda-env-mine"


def _with_widgets(copy: Copy) -> None:
    copy.notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}}}


def _in_pieces(copy: Copy) -> None:
    texts = [("stderr", "careful\n"), ("stdout", "mean "), ("stdout", "4.500\n")]
    copy["number"].outputs = [new_output("stream", name=name, text=text) for name, text in texts]


def _with_address(copy: Copy) -> None:
    copy["number"].outputs[0].text = "<thing at 0x7f00deadbeef>\n"


def _with_site_packages(copy: Copy) -> None:
    copy["number"].outputs[0].text = f"{os.path.dirname(os.path.dirname(np.__file__))}/numpy/a.py:1: UserWarning\n"


def _with_version(copy: Copy) -> None:
    file = io.BytesIO()
    Image.new("RGB", (2, 2)).save(file, format="PNG")
    chunk = b"Software\0matplotlib 1.0"
    png = file.getvalue()
    with_note = png[:33] + len(chunk).to_bytes(4, "big") + b"tEXt" + chunk + b"crc?" + png[33:]
    picture_output(copy["shift"]).data["image/png"] = base64.b64encode(with_note).decode()


@pytest.mark.parametrize(
    "fault",
    [
        _renamed,
        _timed,
        _miscounted,
        _from_elsewhere,
        _with_widgets,
        _in_pieces,
        _with_address,
        _with_site_packages,
        _with_version,
    ],
)
def test_check_sees_what_is_not_normal_and_clean_mends_it(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: Callable[[Copy], None]
) -> None:
    copy = Copy(good, "changed")
    copy.path = tmp_path / "changed.ipynb"
    assert notebooks.main(["check", str(copy.save())]) == 0
    fault(copy)
    copy.save()
    assert notebooks.main(["check", str(copy.path)]) == 1
    message = capsys.readouterr().err
    assert re.search(r"changed\.ipynb:\d+: not in normal form", message) and f"clean {copy.path}" in message
    assert notebooks.main(["clean", str(copy.path)]) == 0
    assert notebooks.main(["check", str(copy.path)]) == 0


def test_check_sees_a_cell_that_never_ran(good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = Copy(good, "unfinished")
    copy.path = tmp_path / "unfinished.ipynb"
    copy["number"].update(execution_count=None, outputs=[])
    assert notebooks.main(["check", str(copy.save())]) == 1
    assert "was never executed" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["edited", "added", "deleted"])
def test_check_names_the_first_cell_that_changed_since_the_run(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    """`clean` brings back the normal form, but it runs nothing: the notebook stays stale."""
    copy = Copy(good, "stale")
    copy.path = tmp_path / "stale.ipynb"
    cell, at = copy["number"], copy.notebook.cells.index(copy["number"])
    if change == "edited":
        cell.source += "  # again"
    elif change == "added":
        copy.notebook.cells.insert(at, new_code_cell("0"))
    else:
        del copy.notebook.cells[at]
    copy.save()
    assert notebooks.main(["clean", str(copy.path)]) == 0
    assert notebooks.main(["check", str(copy.path)]) == 1
    assert f"{copy.path}::Cell {NUMBER['number']} is not the code that was run" in capsys.readouterr().err


def test_a_cell_that_cannot_run_here_stays_stale_until_it_is_run() -> None:
    """A GPU's outputs are kept where there is no GPU; if their code changed, a run here does not make them true."""
    cells = [new_code_cell("x = 1"), new_code_cell("x = 2", metadata={"tags": ["gpu"]})]
    cells[1].outputs = [new_output("stream", name="stdout", text="printed by a GPU")]
    notebook = new_notebook(cells=cells)
    notebooks.mark_executed(notebook)
    assert notebooks.stale_cell(notebook) is None
    notebook.cells[1].source = "x = 3"
    for _ in range(2):
        notebooks.mark_executed(notebook, notebooks.executed(notebook))
        assert notebooks.stale_cell(notebook) == 1


def test_equal_cells_get_ids_of_their_own() -> None:
    notebook = notebooks.normalise(new_notebook(cells=[new_code_cell("x = 1") for _ in range(3)]))
    assert len({cell.id for cell in notebook.cells}) == 3
    nbformat.validate(notebook)


def test_cells_of_an_exercise_keep_the_ids_by_which_the_grader_knows_them() -> None:
    mark = {"nbgrader": {"grade_id": "answer", "solution": True}}
    for metadata in ({}, mark):
        notebook = new_notebook(cells=[new_code_cell(f"x = {n}", metadata=metadata) for n in range(3)])
        notebook.cells[0].id = notebook.cells[1].id = "given"  # copied
        del notebook.cells[2]["id"]  # as in notebooks by editors that know no ids
        ids = [cell.id for cell in notebooks.normalise(notebook).cells]
        assert len(set(ids)) == 3
        assert (ids[0] == "given") == bool(metadata)
        assert ids == [cell.id for cell in notebooks.normalise(notebook).cells]


def _slides(*cells: NotebookNode) -> list[str | None]:
    """What each cell is in a slide show, in normal form; normalising again must change nothing."""
    notebook = notebooks.normalise(new_notebook(cells=list(cells)))
    before = notebooks.to_bytes(notebook)
    assert notebooks.to_bytes(notebooks.normalise(notebook)) == before
    return [cell.metadata.get("slideshow", {}).get("slide_type") for cell in notebook.cells]


def test_headings_predictions_and_answers_make_slides() -> None:
    long = "\n".join(["x = 1"] * (notebooks.LONG_CODE + 1))
    cells = [
        (new_markdown_cell("# 00 · Title"), "slide"),
        (new_code_cell("x = 1"), None),
        (new_markdown_cell("On it goes."), None),
        (new_code_cell(long), "subslide"),
        (new_markdown_cell("An end.\n\n## A section"), "slide"),
        (new_markdown_cell("*Predict, then run.* What?"), "subslide"),
        (new_code_cell(long), "fragment"),
        (new_markdown_cell("## Another\n\n*Predict, then run.* What?"), "slide"),
        (new_code_cell("x = 1"), "fragment"),
        (new_code_cell("x = 2"), None),
        (new_markdown_cell("### A part"), "subslide"),
        (new_markdown_cell("<details><summary>Solution</summary>\n\n```python\n# so\n```\n</details>"), "skip"),
        (new_markdown_cell("```python\n# no title\n```"), None),
    ]
    assert _slides(*(cell for cell, _ in cells)) == [kind for _, kind in cells]


@pytest.mark.parametrize("own", ["slide", "subslide", "fragment", "skip", "notes", "-"])
def test_a_teachers_own_slide_stays(own: str) -> None:
    cells = [new_markdown_cell("## A section"), new_code_cell("x = 1"), new_markdown_cell("Text.")]
    for cell in cells:
        cell.metadata = nbformat.from_dict({"slideshow": {"slide_type": own}})
    assert _slides(*cells) == [own] * 3


def test_a_slide_type_taken_back_follows_the_rule_again() -> None:
    """JupyterLab's "-" leaves an empty value, or none."""
    cell = new_markdown_cell("## A section", metadata={"slideshow": {"slide_type": ""}})
    assert _slides(cell, new_markdown_cell("Text.", metadata={"slideshow": {}})) == ["slide", None]


def test_a_wrong_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.ipynb"
    broken.write_text("not a notebook")
    assert notebooks.main(["check", str(broken)]) == 1
    assert f"{broken}: not a notebook" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        notebooks.main(["check", str(tmp_path / "absent.ipynb")])
    assert "no such file" in capsys.readouterr().err


# The course itself


@pytest.mark.parametrize("path", notebooks.all_notebooks(), ids=lambda path: path.stem)
def test_the_chapter_is_executed_and_in_normal_form(path: Path) -> None:
    assert notebooks.check(path) == []


def _first(cells: list[NotebookNode], fits: Callable[[NotebookNode], object]) -> tuple[int, NotebookNode]:
    """The first cell with an output that fits, by number, and that output."""
    return next((number, output) for number, cell in enumerate(cells) for output in cell.outputs if fits(output))


def _other_digit(text: str) -> str:
    return re.sub(r"(?<=\d\.)\d", lambda digit: str((int(digit[0]) + 1) % 10), text, count=1)


@pytest.mark.slow
@pytest.mark.skipif(not CHAPTER.exists(), reason="chapter 00 is not here")
def test_the_first_chapter_under_planted_faults(tmp_path: Path) -> None:
    folder = project(tmp_path)
    shutil.copytree(ROOT / "data", folder / "data")
    shutil.copytree(CHAPTER.parent, folder / "notebooks", dirs_exist_ok=True)  # with what the chapter imports

    faulty = Copy(folder / "notebooks" / CHAPTER.name, "faulty")
    number, output = _first(faulty.cells, lambda output: re.search(r"\d\.\d", output.get("text", "")))
    output.text = _other_digit(output.text)
    picture, _ = _first(faulty.cells, picture_type)
    change_picture(faulty.cells[picture], lambda pixels: pixels[..., ::-1])
    crash = max(i for i, cell in enumerate(faulty.cells) if i not in (number, picture) and cell.source.strip())
    faulty.cells[crash].source += "\nraise RuntimeError('planted')"
    faulty.save()

    report = run_pytest(folder, "notebooks/faulty.ipynb")
    outcomes = {i: report.outcome("faulty", f"Cell {i}") for i in range(len(faulty.cells))}
    failed = {i for i, outcome in outcomes.items() if outcome == "FAILED"}
    assert failed == {number, picture, crash}, report.text  # the rest is as stored, and passes
    assert "mismatch 'stdout'" in report.failure("faulty", f"Cell {number}")
    assert "figure 1 of the cell differs" in report.failure("faulty", f"Cell {picture}")
    assert "RuntimeError: planted" in report.failure("faulty", f"Cell {crash}")


def test_measurements_stay_until_their_cell_changes(tmp_path: Path) -> None:
    """A timing is another one at every run; stored, it stays, so that running twice changes no byte."""
    path = tmp_path / "timing.ipynb"
    cell = nbformat.v4.new_code_cell(
        "import time; print(time.perf_counter_ns())", metadata={"tags": ["nbval-ignore-output"]}
    )
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    assert notebooks.run(path)
    stored = path.read_bytes()
    assert not notebooks.run(path)
    assert path.read_bytes() == stored
    changed = nbformat.read(path, as_version=4)
    changed.cells[0].source += "  # changed"
    nbformat.write(changed, path)
    assert notebooks.run(path)
    assert (
        nbformat.read(path, as_version=4).cells[0].outputs
        != nbformat.reads(stored.decode(), as_version=4).cells[0].outputs
    )


def test_explorers_are_recognised_by_their_types() -> None:
    """The tools know camlib's names for them, without importing torch; other HTML of the same form is no explorer."""
    assert figures.EXPLANATION_TYPE == page.EXPLANATION_TYPE and pages.EXPLORER_TYPE == page.EXPLORER_TYPE
    markup = '<img src="data:image/png;base64,AA" alt="x"><iframe srcdoc="y"></iframe>'
    assert figures.explorer({"data": {"text/html": markup}}) is None
    assert figures.explorer({"data": {"text/html": markup, page.EXPLANATION_TYPE: {}}}) is not None
    assert pages.explorer_page(new_output("display_data", {"text/plain": "Explorer(a.jpg by b, c)"})) is None


def test_an_explorer_is_compared_by_the_picture_below_it(tmp_path: Path) -> None:
    """Its page may differ in the last digits on another CPU, so it is not compared as text; a wrong map is noticed."""

    def output(level: int, page: str, alt: str = "Evidence for cat, 40 % on the photo") -> NotebookNode:
        buffer = io.BytesIO()
        Image.fromarray(np.full((40, 40, 3), level, np.uint8)).save(buffer, "png")
        picture = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        html = f'<div><img src="{picture}" alt="{alt}" style="x"><iframe srcdoc="{page}" title="y"></iframe></div>'
        return nbformat.v4.new_output("display_data", {"text/html": html, figures.EXPLANATION_TYPE: {}})

    def text(shown: NotebookNode) -> str:
        value = shown.data["text/html"]
        for pattern, replacement in figures.PICTURED.items():
            value = pattern.sub(replacement, value)
        return value

    stored = output(100, "0.12345")
    assert text(stored) == text(output(101, "0.12346")) != text(output(100, "0.12345", "Evidence for dog"))
    assert figures.compare([stored], [output(101, "0.12346")], tmp_path, "cell") == []
    (fault,) = figures.compare([stored], [output(160, "0.12345")], tmp_path, "cell")
    assert "differs: by 60.00 of 255" in fault
    (fault,) = figures.compare([stored], [output(100, "0.12345", "Evidence for dog")], tmp_path, "cell")
    assert "another alt text: 'Evidence for cat, 40 % on the photo' stored" in fault
