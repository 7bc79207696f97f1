"""How pytest treats the notebooks. nbval executes them and compares text; what it leaves out is here.

- One item per notebook, `stored`, fails for outputs that prove nothing: cells never executed, stored errors, figures
  without alt text, too large a file.
- Figures are compared within a tolerance; a failure says where both pictures lie.
- Cells that cannot run here, tagged `gpu` or `download`, are reported as skipped.

The rules themselves are in tools/notebooks.py and tools/figures.py, shared with the command that stores the outputs.
"""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path

import pytest
from nbval.plugin import IPyNbCell, NbCellError  # type: ignore[import-untyped]

from tools import figures, notebooks

collect_ignore_glob = ["notebooks/exercises/*.ipynb"]  # without outputs; tests/exercises runs them, answer by answer


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("nbval", default=False):
        os.environ.update(notebooks.kernel_environment())  # nbval's kernels inherit it


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if file_path.suffix == ".ipynb" and parent.config.getoption("nbval", default=False):
        return StoredNotebook.from_parent(parent, path=file_path)
    return None


class StoredNotebook(pytest.File):
    """A notebook as it stands in git, before nbval executes it."""

    def collect(self) -> Iterator[pytest.Item]:
        yield StoredOutputs.from_parent(self, name="stored")


class StoredOutputs(pytest.Item):
    """Fails where the stored outputs could not show that a new run went wrong."""

    def runtest(self) -> None:
        if found := notebooks.faults(self.path):
            pytest.fail("\n".join(found), pytrace=False)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"{self.path.name}::stored"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, IPyNbCell):
            item.parent.sanitize_patterns.update(notebooks.VOLATILE | figures.PICTURED)
            if "clear_output(" in item.cell.source:  # nbval does not know it: a progress bar would stay
                skipped = (*item.parent.skip_compare, "stderr")
                item.compare_outputs = partial(item.compare_outputs, skip_compare=skipped)
            if reason := notebooks.why_not_here(item.cell):
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish() -> None:
    """What collecting has made stays to the end, so that garbage collections need not walk through it each time."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    if not isinstance(item, IPyNbCell):
        return (yield)
    try:
        result = yield
    except NbCellError:  # about text: say beside it what became of the figures
        if found := _figure_faults(item):
            item.add_report_section("call", "figures", "\n".join(found))
        raise
    if found := _figure_faults(item):
        item.raise_cell_error("\n".join([*found, f"If the new picture is right, store it: {notebooks.RERUN}"]))
    return result


def _figure_faults(item: IPyNbCell) -> list[str]:
    never_executed = item.cell.execution_count is None  # an optional cell without outputs, or a fault of `stored`
    if never_executed or not item.options["check"]:
        return []
    name = f"{item.path.stem}-cell-{item.cell_num}"
    return figures.compare(item.cell.outputs, item.test_outputs or [], _picture_folder(item.config), name)


def _picture_folder(config: pytest.Config) -> Path:
    if getattr(config, "cache", None) is None:  # switched off with -p no:cacheprovider
        return Path(tempfile.mkdtemp(prefix="figures-"))
    return config.cache.mkdir("figures")
