"""The README's code runs, its picture is what the code draws, and its links lead somewhere."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import yaml

from camlib import __version__, read_image
from camlib.cli import main

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_prints_and_draws_what_it_says(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(ROOT / "data")
    exec(compile(code, "README.md", "exec"), {})
    said = re.search(r"print\(.*# (.*)", code)[1]
    assert capsys.readouterr().out.strip() == said
    drawn, stored = read_image(tmp_path / "heatmap.jpg").astype(int), read_image(ROOT / "data" / "first_heat_map.jpg")
    assert drawn.shape == stored.shape
    assert np.abs(drawn - stored).mean() < 1


def test_the_picture_at_the_top_is_made_by_the_command_below_it(tmp_path):
    picture, command = re.search(r"!\[[^\]]+\]\(([^)]+)\)\n\n`python3 run\.py heatmap ([^`]+)`", TEXT).groups()
    photo, *options = shlex.split(command)
    assert main([str(ROOT / photo), *options, "--out", str(tmp_path)]) == 0
    (figure,) = tmp_path.glob(f"{Path(photo).stem}*.figure.jpg")
    drawn = read_image(figure).astype(int)
    stored = read_image(ROOT / picture)
    assert drawn.shape == stored.shape
    assert np.abs(drawn - stored).mean() < 1


def test_the_citation_is_the_one_for_machines():
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    entry = dict(re.findall(r"(\w+) += \{+([^{}]+)\}+", re.search(r"```bibtex\n(.*?)```", TEXT, re.S)[1]))
    assert entry == {
        "author": cff["authors"][0]["name"],
        "title": cff["title"],
        "year": cff["date-released"][:4],
        "version": str(cff["version"]),
    } | ({"url": cff["repository-code"]} if "repository-code" in cff else {})
    assert cff["version"] == __version__ and len(cff["authors"]) == 1


def test_links_lead_to_files_and_every_notebook_is_listed():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", TEXT)
    assert len(links) >= 4
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), (page.name, link)
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        assert f"notebooks/{notebook.name}" in links


def test_the_tables_of_costs_are_those_of_the_stored_run():
    """`python3 run.py bench` stores a run, and `python3 run.py bench --table` writes it into the page."""
    from tools import bench

    stored = json.loads((ROOT / "tests" / "peers" / "bench.json").read_text(encoding="utf-8"))
    text = bench.PAGE.read_text(encoding="utf-8")
    assert bench.with_tables(text, stored) == text
    for package in ("torch-cam", "grad-cam", "captum"):
        assert f"| {package} {stored['about'][package.replace('torch-cam', 'torchcam')]} |" in text  # the first table


def test_a_table_of_costs_holds_the_ratios_to_the_bare_network():
    from tools import bench

    seconds = {
        "Net, batch 1": {"bare": 0.5, "ours": 0.6, "theirs": 1.0},
        "Net, batch 8": {"bare": 4.0, "ours": 5.0},
        "a folder": {"loop": 2.0, "camlib": 1.5},
    }
    versions = dict.fromkeys(["camlib", *bench.PACKAGES], "1.2.3")
    about = {"date": "2030-01-02", "machine": "M", "threads": 2, "rounds": 9, "rounds elsewhere": 4, **versions}
    stored = {"about": about, "seconds": seconds, "memory": {"three photos": 734_000_000}}
    page = "before\n<!-- costs: written by run.py bench --table -->\nstale\n<!-- end of costs -->\nafter\n"
    text = bench.with_tables(page, stored)
    assert "| ours | 1.20 | 1.25 |\n| theirs | 2.00 |  |\n" in text
    assert "| a folder | cost |\n|---|---|\n| loop | 1.00 |\n| camlib | 0.75 |\n" in text
    assert "| a process | memory at most |\n|---|---|\n| three photos | 0.73 GB |\n" in text
    assert "2030-01-02 with 2 CPU threads (machine: M). Medians of 9\n" in text and "torch 1.2.3" in text
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "stale" not in text
    assert bench.with_tables(text, stored) == text
