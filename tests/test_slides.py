"""Slides come out the same every time, stand alone, keep their answers back, and show what belongs on a slide."""

from __future__ import annotations

import base64
import io
import json
import re
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from bs4 import BeautifulSoup, Tag
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

pytest.importorskip("math_core", reason="math-core is missing: python3 run.py test installs it")
from tests.checkout import checkout, environment_of
from tools import notebooks, npm, pages, slide_blocks, slides
from tools.errors import ToolError

ROOT = notebooks.ROOT
FEW = ["00", "03", "08"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, BeautifulSoup]:
    """The slides of a few chapters; making them opens no connection."""
    out = tmp_path_factory.mktemp("slides")
    npm.package("reveal.js")  # fetched, if it is the first time
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "socket", lambda *_: pytest.fail("no network is needed"))
        assert slides.main([*FEW, "--out", str(out)]) == 0
    found = {path.stem[:2]: path.read_text(encoding="utf-8") for path in sorted(out.iterdir())}
    assert list(found) == FEW
    return {name: BeautifulSoup(text, "html.parser") for name, text in found.items()}


def shown(page: BeautifulSoup) -> list[Tag]:
    """The slides, without what only the speaker sees."""
    found = []
    for slide in page.select("section.slide"):
        copy = BeautifulSoup(str(slide), "html.parser")
        for notes in copy.select("aside"):
            notes.decompose()
        found.append(copy)
    return found


# What is made of the chapters


def test_everything_is_in_the_file_with_its_licence(made: dict[str, BeautifulSoup]) -> None:
    licence = (npm.package("reveal.js") / "LICENSE").read_text(encoding="utf-8")
    for page in made.values():
        text = str(page)
        assert licence.strip() in text and "reveal.js 6.0.2, MIT" in page.get_text()
        assert not page.select("script[src], link:not([href^='data:']), iframe, object, embed, video, audio, base")
        assert all(str(img["src"]).startswith("data:") for img in page.select("img[src]"))
        policy = page.select_one("meta[http-equiv]")
        assert policy and str(policy["content"]).startswith("default-src 'none'")
        assert all(urlsplit(str(link["href"])).scheme in ("http", "https") for link in page.select("a[href]"))
        assert len(page.find_all("script")) == 3, "no script ends early"


def test_the_same_bytes_again_and_progress_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("one", "two"):
        assert slides.main(["3", "--out", str(tmp_path / folder)]) == 0
    name = "03_gap_weights.html"
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert slides.main(["03", "--out", str(tmp_path / "two")]) == 0, "earlier slides are replaced"
    assert re.search(r"03_gap_weights\.html  \d\d slides, \d\.\d MB", capsys.readouterr().out)
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == [name]


def test_every_picture_has_its_description(made: dict[str, BeautifulSoup]) -> None:
    for number, page in made.items():
        named = [str(img["id"]) for img in page.select("img[id]")]
        assert len(named) == len(set(named)) > 4
        for img in page.select("img"):
            assert str(img["alt"]).strip()
            assert img.has_attr("src") or img["data-same"] in named
        (path,) = slides.find(number)
        cells = notebooks.code_cells(notebooks.read(path))
        alts = [
            about["alt"] for cell in cells for o in cell.outputs for about in o.get("metadata", {}).values() if about
        ]
        assert alts and {*alts} <= {str(img["alt"]) for img in page.select("img")}


@pytest.mark.parametrize("path", notebooks.chapters(), ids=lambda path: path.stem)
def test_everything_is_on_the_slides_once_and_in_its_order(path: Path) -> None:
    post = slides.posts.read(path)
    exporter = slides.SlideExporter(post, pages.Links(path.parent, {}), code=False)
    items = list(exporter.items())
    found = [block for slide in slides.arrange(post, items) for block in slide.blocks if not block.again]
    there = {id(block): at for at, block in enumerate(items)}
    order = [there[id(block)] for block in found]
    assert order == sorted(set(order))
    left = [item for item in items if isinstance(item, slide_blocks.Block) and item not in found]
    assert len(left) < 8 and all(block.cell == 0 for block in left), "only what the title and its notes say"


def test_titles_are_clean_and_no_slide_is_empty(made: dict[str, BeautifulSoup]) -> None:
    for page in made.values():
        title, *others = shown(page)
        assert title.h1 and [p["class"] for p in title.find_all("p")] == [["course"], ["asks"]]
        for slide in others:
            assert slide.h2 and slide.h2.get_text().strip()
            body = slide.select_one(".body")
            assert body and (body.get_text().strip() or body.img)
            assert any("data-same" not in img.attrs for img in body.select("img")) or body.get_text().strip()
            for verbatim in body.select("code, pre"):
                verbatim.decompose()
            assert "$" not in body.get_text()
        assert "Sources" in others[-1].get_text() and "CC0" in others[-1].get_text()
    assert made["03"].select("math") and not made["03"].select("details")


def test_answers_come_after_their_predictions(made: dict[str, BeautifulSoup]) -> None:
    for page in made.values():
        predictions = page.select(".predict")
        questions = page.select(".question")
        assert len(predictions) >= 2 and len(questions) == 5
        for asked in [*predictions, *questions]:
            assert "fragment" not in asked["class"]
        for asked in questions:
            answers = asked.find_next_siblings()
            assert answers and all("fragment" in answer["class"] for answer in answers)
        for asked in predictions:
            for output in asked.find_next_siblings(["pre", "figure"]):
                assert "fragment" in output["class"] or "code" in output["class"]


def test_code_and_solutions_are_for_the_speaker(made: dict[str, BeautifulSoup], tmp_path: Path) -> None:
    text = " ".join(str(slide) for slide in shown(made["03"]))
    assert "camlib.explain" not in text and "Solution" not in text and "No answer yet" not in text
    tasks = [pre.get_text() for slide in shown(made["03"]) for pre in slide.select("pre.code")]
    assert len(tasks) == 3 and all(task.startswith("def ") and "check" not in task for task in tasks)
    notes = " ".join(note.get_text() for note in made["03"].select("aside.notes"))
    assert "camlib.explain" in notes and "(weight[k] * means).sum() + bias[k]" in notes and "You need" in notes
    assert slides.main(["03", "--code", "--out", str(tmp_path)]) == 0
    page = BeautifulSoup((tmp_path / "03_gap_weights.html").read_text(encoding="utf-8"), "html.parser")
    code = [pre.get_text() for slide in shown(page) for pre in slide.select("pre.code")]
    assert len(code) > 15 and any("camlib.explain" in source for source in code)
    assert "Solution" not in " ".join(slide.get_text() for slide in shown(page))
    assert "slides 03 --code" in page.get_text()


# The rules, one by one


def arranged(*cells: NotebookNode, code: bool = False) -> list[slides.Slide]:
    """The slides of a notebook with these cells after a title."""
    notebook = pages.with_ids(new_notebook(cells=[new_markdown_cell("# 99 · A title\n\n**What for?**"), *cells]))
    post = pages.Post(ROOT / "notebooks" / "x.ipynb", notebook, "", "99 · A title", "What for?")
    exporter = slides.SlideExporter(post, pages.Links(ROOT / "notebooks", {}), code)
    found = slides.arrange(post, list(exporter.items()))
    assert not post.faults
    return found


def texts(found: list[slides.Slide]) -> list[list[str]]:
    return [[" ".join(block.tag.get_text().split()) for block in slide.blocks] for slide in found[1:]]


def printing(text: str, source: str = "print()") -> NotebookNode:
    return new_code_cell(source, outputs=[new_output("stream", text=text)])


def drawing(width: int, height: int) -> NotebookNode:
    picture = io.BytesIO()
    Image.new("RGB", (2 * width, 2 * height), "white").save(picture, "PNG")
    data = {"image/png": base64.b64encode(picture.getvalue()).decode()}
    output = new_output("display_data", data, metadata={"image/png": {"alt": "A figure", "width": width}})
    return new_code_cell("draw()", outputs=[output])


def test_headings_and_parts_start_slides() -> None:
    found = arranged(
        new_markdown_cell("Before.\n\nAfter this chapter you can\n\n1. see"),
        new_markdown_cell("## One\n\nText.\n\n### A part\n\nMore."),
        new_markdown_cell("## Two\n\n## Three\n\nEnd."),
    )
    assert [(slide.heading, slide.kicker, slide.starts) for slide in found] == [
        ("", "", True),
        ("A title", "", False),
        ("One", "", True),
        ("A part", "One", False),
        ("Three", "", True),
    ]


def test_after_an_exercise_the_section_goes_on() -> None:
    task = printing("No answer yet: return it.\n", "def f(x):\n    return None\n\n\nprint(check.f(f))")
    solution = new_markdown_cell("<details><summary>Solution</summary>\n\nx\n</details>")
    found = arranged(new_markdown_cell("## One\n\n### Exercise 1\n\nDo."), task, solution, new_markdown_cell("On."))
    assert [(slide.heading, slide.kicker) for slide in found[1:]] == [("Exercise 1", "One"), ("One", "")]
    assert texts(found) == [["Do.", "def f(x): return None"], ["On."]]


def test_long_text_lists_outputs_and_tables_continue_on_further_slides() -> None:
    paragraph = "A sentence of some length, as they are. " * 10
    found = texts(arranged(new_markdown_cell("## One\n\n" + "\n\n".join([paragraph] * 6))))
    assert len(found) > 1 and sum(map(len, found)) == 6
    items = "\n".join(f"{n}. {paragraph}" for n in range(1, 5))
    found = arranged(new_markdown_cell(f"## One\n\nSee:\n\n{items}"))
    assert len(found) > 2
    last = slide_blocks.joined(found[-1].blocks)[0].tag
    assert (last.name, last["start"]) == ("ol", str(5 - len(last.find_all("li"))))
    found = texts(arranged(new_markdown_cell("## One"), printing("\n".join(map(str, range(100))))))
    assert len(found) > 2 and " ".join(text for slide in found for text in slide).split() == [*map(str, range(100))]
    rows = "\n".join(f"| {n} | b |" for n in range(25))
    found = arranged(new_markdown_cell(f"## One\n\n| head | b |\n|---|---|\n{rows}"))
    assert len(found) == 4 and all("head" in slide.blocks[0].tag.get_text() for slide in found[1:])


def test_reports_are_told_and_results_are_shown() -> None:
    report = "x" * 130
    (shown,) = arranged(new_markdown_cell("## One\n\nA."), printing(f"12\n{report}\n"))[1:]
    assert texts([shown, shown]) == [["A.", "12"]] and report in "".join(shown.notes)
    (shown,) = arranged(new_markdown_cell("## One\n\nSee:"), printing(f"{report}\n{report}\n12"))[1:]
    assert texts([shown, shown]) == [["See."]] and "12" in "".join(shown.notes)


def test_a_colon_that_leads_to_hidden_code_becomes_a_full_stop() -> None:
    text, code = new_markdown_cell("## One\n\nLike this:"), new_code_cell("x = 1")
    assert texts(arranged(text, code)) == [["Like this."]]
    assert texts(arranged(text, code, code=True)) == [["Like this:", "x = 1"]]
    assert texts(arranged(text, printing("1"))) == [["Like this:", "1"]]


def test_a_text_that_does_not_fit_gets_its_figure_again() -> None:
    paragraph = new_markdown_cell("The left one shows it. " * 24)
    found = arranged(new_markdown_cell("## One"), drawing(1000, 400), paragraph)
    assert [[block.kind for block in slide.blocks] for slide in found[1:]] == [["figure"], ["figure", "text"]]
    first, second = (slide.blocks[0].tag.img for slide in found[1:])
    assert first and second and second["data-same"] == first["id"] and second["alt"] == first["alt"] == "A figure"
    assert "src" not in second.attrs and 'class="body side"' in slides.body(found[2])


def test_a_narrow_figure_stands_beside_its_text() -> None:
    found = arranged(new_markdown_cell("## One\n\nText."), drawing(420, 400))
    assert len(found) == 2 and 'class="body side"' in slides.body(found[1])


def test_what_a_prediction_is_about_is_shown() -> None:
    listing, asks = new_code_cell("def f(x):\n    return x"), new_markdown_cell("*Predict, then run.* What is wrong?")
    found = arranged(new_markdown_cell("## One"), listing, asks, printing("1"))
    assert texts(found) == [["def f(x): return x"], ["Predict, then run. What is wrong?", "1"]]
    assert slides.body(found[2]).count('fragment"') == 1


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("slide", [["A."], ["B."], ["C."]]),
        ("skip", [["A.", "C."]]),
        ("notes", [["A.", "C."]]),
        ("fragment", [["A.", "B.", "C."]]),
        ("subslide", [["A.", "B.", "C."]]),  # may be left from a heading that is gone
    ],
)
def test_a_chosen_slide_type_is_obeyed(chosen: str, expected: list[list[str]]) -> None:
    found = arranged(
        new_markdown_cell("## One\n\nA."),
        new_markdown_cell("B.", metadata={"slideshow": {"slide_type": chosen}}),
        new_markdown_cell("C.", metadata={"slideshow": {"slide_type": "slide" if chosen == "slide" else ""}}),
    )
    assert texts(found) == expected
    assert ("B." in "".join(found[1].notes)) == (chosen == "notes")
    assert ("fragment" in slides.body(found[1])) == (chosen == "fragment")


# The command


def test_chapters_are_found_by_number_name_and_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (chapter,) = slides.find("7")
    assert chapter.stem == "07_why_a_and_not_b"
    assert slides.find("07") == slides.find(chapter.stem) == slides.find(str(chapter)) == [chapter]
    assert slides.find("hooks_in_depth")[0].parent.name == "deep_dives"
    assert slides.find("all") == notebooks.chapters()
    with pytest.raises(ToolError, match=r"no chapter '77'.*00_first_heat_map"):
        slides.find("77")


def test_what_must_not_be_shown_is_refused_and_nothing_foreign_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (chapter,) = slides.find("03")
    notebook = json.loads(chapter.read_text(encoding="utf-8"))
    code = next(c for c in notebook["cells"] if c["cell_type"] == "code" and "tags" not in c["metadata"])
    code["source"] = ["1 + 1"]
    stale = tmp_path / "stale.ipynb"
    stale.write_text(json.dumps(notebook), encoding="utf-8")
    out = tmp_path / "out"
    assert slides.main([str(stale), "--out", str(out)]) == 2
    captured = capsys.readouterr()
    assert "is not the code that was run" in captured.err and "was not written" in captured.err
    assert "No slides" in captured.out and not out.exists()
    out.mkdir()
    (out / "03_gap_weights.html").write_text("mine")
    assert slides.main(["03", "00", "--out", str(out)]) == 2
    assert "something other than slides" in capsys.readouterr().err
    assert (out / "03_gap_weights.html").read_text() == "mine" and (out / "00_first_heat_map.html").is_file()
    assert slides.main(["nothing"]) == 2 and "no chapter 'nothing'" in capsys.readouterr().err


def test_a_copy_in_another_folder_makes_the_same_slides(tmp_path: Path) -> None:
    """In a checkout of its own, without npm or anything else on the path."""
    folder = checkout(tmp_path / "course", address=None)
    command = [sys.executable, str(folder / "tools"), "slides", "00", "--out"]
    there = environment_of(folder, PATH="")
    called = subprocess.run([*command, str(tmp_path / "there")], cwd=folder, env=there, capture_output=True, text=True)
    assert called.returncode == 0, called.stderr
    assert slides.main(["00", "--out", str(tmp_path / "here")]) == 0
    name = "00_first_heat_map.html"
    assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
