"""What the scripts of this folder have in common: their command line, how a result is stored, the README's table.

A finding is a sentence that a chapter states, with what was varied and what came out. Its `quotes` are passages that
must stand in the chapter, written by the script from its numbers: when the numbers change, a test fails until the
chapter says the new ones. tests/test_findings.py holds chapters, results and the README's table together.
"""

import argparse
import json
import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import nbformat
import torch

from camlib.version import __version__

HERE = Path(__file__).parent
ROOT = HERE.parent
DATA = ROOT / "data"
PHOTOS = DATA / "photos"
README = HERE / "README.md"
START, END = "<!-- findings -->", "<!-- end of findings -->"
HEAD = "| where | finding | varied | result | script, date |\n|---|---|---|---|---|\n"


def command(file: str, doc: str | None) -> Path:
    """Read a script's command line: where to store the result, by default the .json beside the script.

    file, doc: the script's `__file__` and `__doc__`, whose first line is the description in --help.
    """
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    beside = Path(file).with_suffix(".json")
    parser.add_argument(
        "--out", type=Path, default=beside, help="where to store the result (default: beside the script)"
    )
    return parser.parse_args().out


def finding(where: str, says: str, varied: str, result: str, quotes: Sequence[str]) -> dict[str, Any]:
    """One row of the table.

    where: the chapter or page that states it, as a path in the repository. says: the finding, as a sentence. varied:
    over what it was held. result: the count or the interval. quotes: passages of `where` that state it, with the
    numbers of this run and without the asterisks of bold type; at least one.

    >>> row = finding("README.md", "The sky is blue.", "7 days", f"{7} of 7", [f"on {7} of 7 days"])
    >>> row["result"], row["quotes"]
    ('7 of 7', ['on 7 of 7 days'])
    """
    if not quotes:
        raise ValueError(f"{says!r} needs a quote: the words of {where} that state it")
    return {"where": where, "says": says, "varied": varied, "result": result, "quotes": list(quotes)}


def store(path: Path, findings: Sequence[dict[str, Any]], **results: Any) -> None:
    """Write a result: the findings, the numbers they follow from, and the day, versions and threads."""
    made = {"date": date.today().isoformat(), "torch": torch.__version__.split("+")[0], "camlib": __version__}
    table = {"made": made | {"threads": torch.get_num_threads()}, "findings": list(findings)} | results
    path.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def results() -> dict[str, dict[str, Any]]:
    """Each stored result that has findings for the table, by the name of its script."""
    stored = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(HERE.glob("*.json"))}
    return {name: result for name, result in stored.items() if "made" in result}


def table() -> str:
    """The README's table: the findings of all stored results, in the order of the chapters."""
    rows = [(row, name, result["made"]["date"]) for name, result in results().items() for row in result["findings"]]
    rows.sort(key=lambda row: (row[0]["where"], row[1]))
    return HEAD + "".join(
        f"| [{Path(row['where']).stem}](../{row['where']}) | {row['says']} | {row['varied']} | {row['result']} "
        f"| [{name}]({name}.py), {day} |\n"
        for row, name, day in rows
    )


def write_table() -> None:
    """Put the table into the README."""
    text = README.read_text(encoding="utf-8")
    before, after = text.split(START)[0], text.split(END)[1]
    README.write_text(f"{before}{START}\n\n{table()}\n{END}{after}", encoding="utf-8")


def plain(where: str) -> str:
    """The words of a chapter or page: no bold type, no line breaks, and − as -."""
    path = ROOT / where
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = nbformat.reads(text, as_version=4).cells
        text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return simplified(text)


def simplified(text: str) -> str:
    """Text as quotes are compared.

    >>> simplified("a rise of **−1.7**\\npoints")
    'a rise of -1.7 points'
    """
    return re.sub(r"\s+", " ", text.replace("*", "").replace("−", "-").replace("\N{NO-BREAK SPACE}", " "))


def missing_quotes() -> list[str]:
    """Each quote that its chapter does not hold, with where it comes from; empty where prose and results agree."""
    return [
        f"{row['where']} does not say {quote!r}, which follows from evidence/{name}.json"
        for name, result in results().items()
        for row in result["findings"]
        for quote in row["quotes"]
        if simplified(quote) not in plain(row["where"])
    ]
