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


def test_the_comparison_is_the_benchmarks():
    """The table and its date belong to the stored run; `python3 run.py bench` stores a new one."""
    from tools import bench

    stored = json.loads((ROOT / "tests" / "peers" / "bench.json").read_text(encoding="utf-8"))
    text = (ROOT / "docs" / "how_it_compares.md").read_text(encoding="utf-8")
    assert bench.summary(stored["seconds"]) in text
    for package in ("torch", "torchcam", "grad-cam", "captum"):
        assert f"{package} {stored['about'][package]}" in text
