"""Posts come out the same every time, stand alone, and what must not be published is refused with its cell."""

from __future__ import annotations

import base64
import inspect
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup, Tag
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

pytest.importorskip("math_core", reason="math-core is missing: python3 run.py test installs it")
from tests.checkout import OTHER, checkout, environment_of
from tools import address, catalogue, minutes, new_post, notebooks, pages, posts, reference, website

ROOT = notebooks.ROOT
CHAPTERS = notebooks.all_notebooks()
FEW = [ROOT / "notebooks" / f"{name}.ipynb" for name in ("03_gap_weights", "05_bilinear_upsampling", "11_your_images")]


def site(folder: Path, paths: list[Path]) -> Path:
    """The folder with the posts of these notebooks; the sizes are printed."""
    assert posts.main([*map(str, paths), "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module", params=[FEW, pytest.param(CHAPTERS, marks=pytest.mark.long)], ids=["few", "all"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return site(tmp_path_factory.mktemp("site") / "posts", request.param)


def html_pages(made: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted((made / "html").glob("*.html"))}


# The pages


def test_every_page_is_valid_html(made: Path) -> None:
    """A parser of the standard has nothing to complain of. (The Nu checker was run by hand: it has nothing either.)"""
    justhtml = pytest.importorskip("justhtml", reason="justhtml is missing: python3 run.py test installs it")
    planted = "<!doctype html><html lang=en><title>t</title><p><b>text</p></b><img src=a src=b>"
    assert justhtml.JustHTML(planted, collect_errors=True).errors
    for name, text in html_pages(made).items():
        found = justhtml.JustHTML(text, collect_errors=True).errors
        assert not found, (name, found[:3])
        soup = BeautifulSoup(text, "html.parser")
        ids = [tag["id"] for tag in soup.find_all(id=True)]
        assert len(ids) == len(set(ids)), name
        outside = [tag.name for tag in soup.select("p p, p div, p pre, p ul, p table, a a, summary details")]
        assert not outside, (name, outside)


def test_every_page_has_a_title_landmarks_and_a_language(made: Path) -> None:
    for name, text in html_pages(made).items():
        soup = BeautifulSoup(text, "html.parser")
        assert soup.html["lang"] == "en" and soup.title.get_text().strip()
        assert len(soup.find_all("h1")) == len(soup.find_all("main")) == 1, name
        assert soup.select_one("body > header") and soup.select_one("nav")
        skip = soup.select_one("body > a.skip")
        assert soup.find(id=skip["href"][1:]).name == "main"
        levels = [int(tag.name[1]) for tag in soup.find_all(re.compile("^h[1-6]$"))]
        assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False)), (name, levels)


def test_nothing_is_fetched(made: Path) -> None:
    for name, text in html_pages(made).items():
        soup = BeautifulSoup(text, "html.parser")
        followed = soup.select("link:not([href^='data:'])")
        assert {link["rel"][0] for link in followed} <= {"alternate", "canonical"}, "none of these is fetched"
        assert not soup.select("script[src], object, embed, video, audio, base"), name
        for tag in soup.find_all(True):
            for attribute in ("src", "srcset", "poster", "data", "background"):
                assert str(tag.get(attribute, "data:")).startswith("data:"), (name, tag.name, attribute)
        styles = "".join(tag.get_text() for tag in soup.find_all("style"))
        assert "url(" not in styles and "@import" not in styles
        policy = soup.find("meta", attrs={"http-equiv": "Content-Security-Policy"})["content"]
        assert policy.startswith("default-src 'none'") and "http" not in policy


def test_every_picture_has_an_alt_text_and_can_be_decoded(made: Path) -> None:
    count = 0
    for name, text in html_pages(made).items():
        for picture in BeautifulSoup(text, "html.parser").find_all("img"):
            assert len(picture["alt"]) > 10, name
            image = Image.open(io.BytesIO(base64.b64decode(picture["src"].split(",")[1])))
            image.load()
            width, height = int(picture["width"]), int(picture["height"])
            assert abs(image.height * width / image.width - height) <= 0.5, "the proportion is kept"
            if picture.find_parent("figure"):
                assert width <= image.width <= 2 * width, "a figure is as sharp as its screen, or twice"
            count += 1
    assert count > 10


def links(soup: BeautifulSoup) -> Iterator[str]:
    yield from (str(tag["href"]) for tag in soup.find_all("a", href=True))


def test_every_link_and_anchor_leads_somewhere(made: Path) -> None:
    soups = {name: BeautifulSoup(text, "html.parser") for name, text in html_pages(made).items()}
    inside = 0
    for name, soup in soups.items():
        for link in links(soup):
            if link.startswith(("https://", "http://", "mailto:")):
                continue
            page, _, anchor = link.partition("#")
            assert (page or name) in soups, (name, link)
            assert not anchor or soups[page or name].find(id=anchor), (name, link)
            inside += 1
    assert inside > 10 * len(soups)


def test_formulas_are_mathml(made: Path) -> None:
    page = BeautifulSoup(html_pages(made)["03_gap_weights.html"], "html.parser")
    (aligned,) = page.select("math mtable")
    cells = nbformat.read(ROOT / "notebooks" / "03_gap_weights.ipynb", as_version=4).cells
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    written = re.findall(r"\$\$.+?\$\$|\$[^$]+\$", re.sub(r"```.*?```|`[^`]*`", "", prose, flags=re.S), re.S)
    assert len(page.find_all("math")) == len(written) > 10 and len(aligned.find_all("mtr")) == 2
    for name, text in html_pages(made).items():
        soup = BeautifulSoup(text, "html.parser")
        for code in soup.select("script, style, pre, code, math"):
            code.decompose()
        assert "$" not in soup.get_text().replace('"$"', "") and "\\" not in soup.get_text(), (
            f"{name}: a formula was left as it was"
        )


def test_no_line_begins_with_the_full_stop_after_a_formula(made: Path) -> None:
    page = BeautifulSoup(html_pages(made)["03_gap_weights.html"], "html.parser")
    followed = [one for one in page.find_all("math") if str(one.next_sibling or "")[:1] in set(".,;:!?)")]
    assert followed and all(one.parent["class"] == ["together"] for one in followed)


def test_chapters_lead_to_their_neighbours(made: Path) -> None:
    text = html_pages(made)["05_bilinear_upsampling.html"]
    soup = BeautifulSoup(text, "html.parser")
    whole = (made / "html" / "04_einsum_cam.html").exists()
    assert soup.find("a", rel="prev")["href"] == ("04_einsum_cam.html" if whole else "03_gap_weights.html")
    assert soup.find("a", rel="next")["href"] == ("06_honest_pictures.html" if whole else "11_your_images.html")
    assert soup.select_one("nav.chapters a.contents")["href"] == "index.html"


def test_the_front_page_has_three_ways_in_and_every_chapter_with_its_question(made: Path) -> None:
    soup = BeautifulSoup(html_pages(made)["index.html"], "html.parser")
    assert [way["href"] for way in soup.select(".ways a")] == ["#chapters", "teach.html", "write.html"]
    listed = {a["href"]: a.find_parent("li").get_text(" ", strip=True) for a in soup.select(".list a")}
    needed = minutes.reading(notebooks.read(ROOT / "notebooks" / "05_bilinear_upsampling.ipynb")).minutes
    assert f"Where on the photo does cell (2, 3) lie? {needed} minutes" in listed["05_bilinear_upsampling.html"]
    assert {path.stem for path in (made / "markdown").iterdir()} <= {Path(name).stem for name in listed}
    assert {"api.html", "how_do_i.html", "troubleshooting.html"} <= set(listed)


def test_every_word_can_be_searched(made: Path) -> None:
    pages_of_it = html_pages(made)
    texts = json.loads(BeautifulSoup(pages_of_it["search.html"], "html.parser").find(id="texts").get_text())
    assert {f"{page['name']}.html" for page in texts} == set(pages_of_it) - {"index.html", "search.html"}
    for word, name in (("camlib.upsample", "05_bilinear_upsampling"), ("scipy", "camlib.evaluate"),
                       ("is not part of the", "troubleshooting"), ("DataLoader", "how_do_i")):  # fmt: skip
        assert any(page["name"] == name and word.lower() in json.dumps(page).lower() for page in texts), word


def test_code_leads_to_the_reference(made: Path) -> None:
    """In the text and in cells; what has no page stays code, and no heading and no link holds another link."""
    soup = BeautifulSoup(html_pages(made)["05_bilinear_upsampling.html"], "html.parser")
    found = {(a.find_parent("pre") is not None, a.get_text()): a["href"] for a in soup.select("article a.name")}
    assert found[True, "camlib.upsample"] == "camlib.upsample.html"
    assert any(not code and text.startswith("camlib.") for code, text in found)
    links = pages.Links(ROOT, {}, reference.addresses())
    assert links.name("camlib.evaluate.iou(a, b)") == "camlib.evaluate.html#iou"
    assert links.name("camlib.View.identity") == "camlib.View.html#identity"
    assert links.name("camlib.no_such_name") == links.name("explain") == links.name("my.camlib.explain") == ""


def test_the_reference_has_every_public_name(made: Path) -> None:
    soups = {name: BeautifulSoup(text, "html.parser") for name, text in html_pages(made).items()}
    listed = {code.get_text() for code in soups["api.html"].select("td code")}
    for name, value in reference.public().items():
        page, _, anchor = reference.addresses()[name].partition("#")
        own = name.rpartition(".")[2]
        if own == "__version__":
            continue
        assert own in soups[page].get_text() and (not anchor or soups[page].find(id=anchor)), name
        assert name in listed or page.removesuffix(".html") in listed, name
        if inspect.isfunction(value):
            place = soups[page].find(id=anchor) if anchor else soups[page].h1
            assert own + "(" in place.find_next("pre").get_text(), name
    explain = soups["camlib.explain.html"]
    assert [h.contents[0].strip() for h in explain.select("article h2")] == [
        "Parameters",
        "Returns",
        "Raises",
        "Examples",
    ]
    assert explain.find("code", string="Explanation").parent["href"] == "camlib.Explanation.html"
    assert not any(
        "0x" in soup.get_text() or str(ROOT) in str(soup) for name, soup in soups.items() if "camlib" in name
    )


def test_pages_are_no_larger_than_they_need_to_be(made: Path) -> None:
    """What a reader waits for: nothing else is fetched."""
    for name, text in html_pages(made).items():
        most = 3_500_000 if (made / "markdown" / Path(name).stem).is_dir() else 120_000
        most = {"index.html": 500_000, "search.html": 1_200_000}.get(name, most)
        assert len(text.encode()) <= most, (name, len(text.encode()))


# For programs


def test_the_feed_is_the_same_wherever_the_site_is(made: Path) -> None:
    atom = "{http://www.w3.org/2005/Atom}"
    feed = ElementTree.fromstring((made / "html" / "feed.xml").read_bytes())
    entries = feed.findall(f"{atom}entry")
    assert {e.find(f"{atom}link").get("href") for e in entries} == {
        f"{p.name}.html" for p in (made / "markdown").iterdir()
    }
    assert {e.findtext(f"{atom}updated") for e in entries} == {f"{posts.citation()['date-released']}T00:00:00Z"}
    assert len({e.findtext(f"{atom}id") for e in entries} | {feed.findtext(f"{atom}id")}) == len(entries) + 1
    site = [posts.read(path) for path in FEW]
    site[1].notebook.metadata["date"] = "2031-02-03"  # as nbconvert knows it, too
    again = ElementTree.fromstring(website.feed(site, "T", "A", "2026-01-01", "https://a.org/x/"))
    first = again.findall(f"{atom}entry")[0]
    assert first.findtext(f"{atom}updated") == again.findtext(f"{atom}updated") == "2031-02-03T00:00:00Z"
    assert first.find(f"{atom}link").get("href") == f"https://a.org/x/{FEW[1].stem}.html"
    assert first.findtext(f"{atom}id") in {e.findtext(f"{atom}id") for e in entries}


@pytest.mark.parametrize(
    ("urls", "base"),
    [
        ({}, ""),
        ({"Repository": "https://example.org/a/b"}, ""),
        ({"Repository": "https://github.com/Some-One/course"}, "https://some-one.github.io/course/"),
        (
            {"Repository": "https://github.com/a/b", "Documentation": "https://cam.example.org"},
            "https://cam.example.org/",
        ),
    ],
)
def test_what_needs_the_address_of_the_site_is_there_when_it_is_known(
    monkeypatch: pytest.MonkeyPatch, urls: dict[str, str], base: str
) -> None:
    monkeypatch.setattr(address.catalogue, "project", lambda: {"name": "camlib", "version": "0", "urls": urls})
    site = [posts.read(CHAPTERS[0])]
    files = posts.for_programs(site, ["a b.html"])
    said = posts.about(site[0], "")["share"]
    assert bool(base) == ("html/sitemap.xml" in files) == ("html/card.jpg" in files) == bool(said)
    if base:
        assert f"<loc>{base}</loc>" in files["html/sitemap.xml"].decode()
        assert f"<loc>{base}a%20b.html</loc>" in files["html/sitemap.xml"].decode()
        assert said["og:url"] == f"{base}{CHAPTERS[0].stem}.html" and said["og:image"] == f"{base}card.jpg"
        assert said["og:title"] == site[0].title and said["og:description"] == site[0].question


def colophon(soup: BeautifulSoup | Tag) -> str:
    return soup.select_one(".colophon").get_text(" ", strip=True)


def test_the_colophon_says_where_a_page_comes_from(made: Path) -> None:
    said = colophon(BeautifulSoup(html_pages(made)["03_gap_weights.html"], "html.parser"))
    from camlib import __version__
    from camlib.lite0 import BUNDLED_SHA256

    assert posts.read(FEW[0]).sha256 in said and BUNDLED_SHA256 in said
    assert "coffee.png Rachel Michetti, CC0; scikit-image" in said and "rocket.jpg" not in said
    made_with, publishers = re.search(r"Made with (.+) Published with (.+?) Network", said).groups()
    assert re.sub(r" [\d.]+", "", made_with) == ", ".join(sorted(notebooks.PACKAGES))
    assert re.search(r"nbconvert \d", publishers)
    assert "Rebuild python3 run.py posts" in said and f"camlib {__version__}" in said
    eleven = colophon(BeautifulSoup(html_pages(made)["11_your_images.html"], "html.parser"))
    assert all(photo in eleven for photo in catalogue.photos()), "it goes through the whole folder"


def test_the_explorer_is_in_the_page_and_a_picture_beneath(made: Path) -> None:
    soup = BeautifulSoup(html_pages(made)["11_your_images.html"], "html.parser")
    (frame,) = soup.select("figure.explorer iframe")
    assert frame.get_attribute_list("sandbox") == ["allow-scripts"] and frame.has_attr("hidden"), "the script shows it"
    assert "china.jpg" in frame["data-page"] and "https://" not in frame["data-page"]
    assert frame.parent.img["alt"].startswith("The photo, and heat maps")


def test_an_explanation_is_an_explorer_in_both_forms(tmp_path: Path) -> None:
    """Chapter 00 ends a cell with one: a figure with a hidden frame in HTML, a picture and a link in Markdown."""
    folder = site(tmp_path / "posts", [CHAPTERS[0]])
    page = BeautifulSoup((folder / "html" / f"{CHAPTERS[0].stem}.html").read_text(encoding="utf-8"), "html.parser")
    (frame,) = page.select("figure.explorer iframe")
    assert frame.get_attribute_list("sandbox") == ["allow-scripts"] and frame.has_attr("hidden")
    assert frame["data-page"].startswith("<!doctype html>") and "postMessage" in frame["data-page"]
    assert frame.parent.img["alt"].startswith("Evidence for espresso")
    text = (folder / "markdown" / CHAPTERS[0].stem / "index.md").read_text(encoding="utf-8")
    (name,) = re.findall(r"!\[Evidence for espresso[^\n]+\n\n\[Open the explorer\]\((\w+\.html)\)", text)
    assert "postMessage" not in (folder / "markdown" / CHAPTERS[0].stem / name).read_text(encoding="utf-8")


# Markdown


def test_markdown_has_front_matter_pictures_and_formulas(made: Path) -> None:
    folder = made / "markdown" / "03_gap_weights"
    text = (folder / "index.md").read_text(encoding="utf-8")
    _, matter, body = text.split("---\n", 2)
    said = yaml.safe_load(matter)
    assert said["title"] == "03 · GAP weights" and said["description"] == "How does a feature map become one logit?"
    assert str(said["date"]) == posts.citation()["date-released"] and said["license"] == "MIT"
    assert said["author"] and said["categories"]
    assert "$$\\text{logit}_k = b_k + \\sum_c" in body and '<details markdown="1"><summary>' in body
    summaries = re.findall(r"<summary>(.*?)</summary>", body, re.S)
    first = [s for s in summaries if s.startswith("1&#46; Replace the mean")]
    assert first, "a full stop would begin a list for pandoc"
    assert "`" not in "".join(summaries), "no Markdown: it is HTML"
    pictures = re.findall(r"^!\[(.+)\]\((\S+)\)$", body, re.M)
    assert len(pictures) == 5
    for alt, name in pictures:
        assert len(alt) > 10
        digest = posts.hashlib.sha256((folder / name).read_bytes()).hexdigest()
        assert name.startswith(digest[:16])
    assert {name for _, name in pictures} | {"index.md"} == {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_kramdown_finds_no_table_and_no_emphasis_where_none_is(path: Path) -> None:
    """Jekyll's reader makes a table of a paragraph with |, and emphasis of _ in $ that stands beside no letter."""
    emphasis = re.compile(r"\W_[^\s_].*?\S_\W", re.S)
    assert emphasis.search(r"\text{softmax}(s)_c\,A_{c,i}") and not emphasis.search(r"b_k + \sum_c W_{k,c}")
    text = "\n\n".join(cell.source for cell in notebooks.read(path).cells if cell.cell_type == "markdown")
    prose = pages.FENCE.sub("", text)
    assert [line for line in prose.splitlines() if "|" in line and not line.startswith("|")] == []
    formulas = re.findall(r"(?<!\$)\$([^$]+)\$(?!\$)", prose)
    assert [formula for formula in formulas if emphasis.search(formula)] == []


def test_every_link_of_the_markdown_leads_somewhere(made: Path) -> None:
    for file in sorted((made / "markdown").glob("*/index.md")):
        prose = pages.FENCE.sub("", file.read_text(encoding="utf-8"))
        for _, _, link in pages.LINK.findall(prose):
            if not link.startswith(("https://", "http://")):
                assert (file.parent / link).is_file(), (file, link)


# The same every time


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_two_checkouts_give_the_same_bytes(made: Path, tmp_path: Path) -> None:
    """In another folder, in another process, with another number of threads and another order of sets."""
    elsewhere = checkout(tmp_path / "another folder", address=None)
    chapters = [path.stem for path in CHAPTERS if (made / "html" / f"{path.stem}.html").exists()]
    named = [f"notebooks/{name}.ipynb" for name in chapters]
    command = [sys.executable, "tools", "posts", *named, "--out", str(tmp_path / "posts")]
    environment = environment_of(elsewhere, PYTHONHASHSEED="7", OMP_NUM_THREADS="2")
    done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr + "neither a warning nor a bar where nobody looks"
    assert contents(tmp_path / "posts") == contents(made)


# What is refused


ALT = {"image/png": {"alt": "a white square, for the tests"}}


def picture() -> str:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "white").save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def small() -> NotebookNode:
    """A post that may be published: prose, a cell that prints, and one that draws."""
    text = "# A small post\n\n**Is it small?**\n\n*Time:* 1 minute.\n\n## Here\n\n$x^2$ and [data](../data/README.md)."
    cells = [
        new_markdown_cell(text),
        new_code_cell("print('hello')"),
        new_code_cell("draw()"),
        new_markdown_cell("End."),
    ]
    cells[1].outputs = [new_output("stream", name="stdout", text="hello\n")]
    cells[2].outputs = [new_output("display_data", data={"image/png": picture()}, metadata=ALT)]
    for count, cell in enumerate(cells[1:3], 1):
        cell.execution_count = count
    notebook = new_notebook(cells=cells)
    notebooks.mark_executed(notebook)
    return notebook


def save(notebook: NotebookNode, folder: Path) -> Path:
    """In a folder beside data/, as the chapters have it; the repository's own is not touched."""
    path = folder / "post.ipynb"
    nbformat.write(notebook, path)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    return tmp_path / "notebooks"


def test_a_small_post_is_published_and_replaced(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = save(small(), folder), folder.parent / "out"
    for _ in range(2):
        assert posts.main([str(path), "--out", str(out)]) == 0
    reference_pages = {f"html/{page.name}.html" for page in reference.pages()}
    assert sorted(set(contents(out)) - reference_pages) == [
        "html/feed.xml",
        "html/index.html",
        "html/post.html",
        "html/search.html",
        next(name for name in contents(out) if name.endswith(".png")),
        "markdown/post/index.md",
    ]
    said = capsys.readouterr()
    assert re.search(r"total: html \d\.\d MB, markdown 0\.\d MB, \d+ files", said.out) and not said.err
    assert sorted(p.name for p in folder.parent.iterdir()) == ["data", "notebooks", "out"], "no part is left over"


def text_of(cell: int, text: str) -> Callable[[NotebookNode], None]:
    def plant(notebook: NotebookNode) -> None:
        notebook.cells[cell].outputs[0]["text"] = text

    return plant


def prose(text: str) -> Callable[[NotebookNode], None]:
    def plant(notebook: NotebookNode) -> None:
        notebook.cells[3].source = text

    return plant


def printed(data: dict[str, str], tags: tuple[str, ...] = (), **metadata: object) -> Callable[[NotebookNode], None]:
    def plant(notebook: NotebookNode) -> None:
        notebook.cells[1].outputs = [new_output("display_data", data=data, metadata=metadata)]

    return plant


def _error(notebook: NotebookNode) -> None:
    notebook.cells[1].outputs = [new_output("error", ename="KeyError", evalue="'x'", traceback=["KeyError: 'x'"])]


def _meant_error(notebook: NotebookNode) -> None:
    _error(notebook)
    notebook.cells[1].metadata["tags"] = ["raises-exception"]


def _no_alt(notebook: NotebookNode) -> None:
    notebook.cells[2].outputs[0].metadata = {}


def _never_run(notebook: NotebookNode) -> None:
    notebook.cells[2].update(execution_count=None, outputs=[])


def _stale(notebook: NotebookNode) -> None:
    notebook.cells[2].source = "draw(2)"


def _not_its_cell(notebook: NotebookNode) -> None:
    notebook.cells[2].metadata["tags"] = [notebooks.ALONE_TAG]
    notebooks.mark_executed(notebook)
    _stale(notebook)


def source(cell: int, text: str) -> Callable[[NotebookNode], None]:
    def plant(notebook: NotebookNode) -> None:
        notebook.cells[cell].source = text
        notebooks.mark_executed(notebook)

    return plant


def _unmarked(notebook: NotebookNode) -> None:
    del notebook.metadata["camlib"]


def _cell_gone(notebook: NotebookNode) -> None:
    del notebook.cells[2]


def _alt_with_a_path(notebook: NotebookNode) -> None:
    notebook.cells[2].outputs[0].metadata["image/png"]["alt"] = "the photo /home/me/cat.jpg"


NO_SUCH_PHOTO = {"photos": ["mine.jpg"], "network": "efficientnet_lite0", "method": "cam"}


@pytest.mark.parametrize(
    ("plant", "cell", "reason"),
    [
        (_error, "Cell 0 (\"print('hello')\")", "stores the error KeyError: 'x'"),
        (_meant_error, "Cell 0", "stores the error KeyError; catch it"),
        (text_of(1, "read /home/someone/cat.jpg\n"), "Cell 0", "'/home/someone/cat.jpg', a path of one machine"),
        (text_of(1, "see (/Users/me/x)"), "Cell 0", "a path of one machine"),
        (text_of(1, r"C:\Users\me"), "Cell 0", "a path of one machine"),
        (text_of(1, "C:/Users/me"), "Cell 0", "a path of one machine"),
        (text_of(1, f"written to {os.sep}tmp"), "Cell 0", "a path of one machine"),
        (text_of(1, str(Path.home() / ".cache")), "Cell 0", "a path of one machine"),
        (text_of(1, f"File {ROOT}/camlib/cam.py"), "Cell 0", "this checkout's own path"),
        (printed({"text/html": "<td>/home/me/x</td>"}), "Cell 0", "a path of one machine"),
        (printed({"application/json": "/home/me/x"}), "Cell 0", "a path of one machine"),
        (printed({"application/json": "7"}), "Cell 0", "stores only application/json"),
        (_alt_with_a_path, "Cell 1", "a path of one machine"),
        (_no_alt, "Cell 1 ('draw()')", "has a figure without alt text"),
        (_never_run, "Cell 1", "was never executed"),
        (_stale, "Cell 1 ('draw(2)')", "is not the code that was run"),
        (_not_its_cell, "Cell 1 ('draw(2)')", "is out of date; regenerate it: python3 run.py update"),
        (source(1, "print('hello', '/home/jane/x')"), "Cell 0", "holds '/home/jane/x', a path of one machine"),
        (source(3, "See /Users/jane/notes."), "Markdown cell 1", "holds '/Users/jane/notes.', a path of one machine"),
        (source(3, f"See {ROOT}."), "Markdown cell 1", "a path of one machine"),
        (_unmarked, "Cell 0", "it may be stale"),
        (_cell_gone, "Cell 0", "was followed by another cell when it was run"),
        (printed({"text/html": "<img src='https://example.org/a.png' alt='a picture'>"}), "Cell 0", "fetches"),
        (printed({"text/html": "<script>1</script>"}), "Cell 0", "holds <script>"),
        (printed({pages.EXPLORER_TYPE: NO_SUCH_PHOTO, "text/plain": "Explorer"} | {"image/png": picture()}, **ALT),
         "Cell 0", "an explorer of mine.jpg"),
        (prose(r"$\nosuchcommand$"), "Markdown cell 1", r"a formula that cannot be shown, '\\nosuchcommand'"),
        (prose(r"$$\frac{1$$"), "Markdown cell 1", "a formula that cannot be shown"),
        (prose("[next](no_such.ipynb)"), "Markdown cell 1", "links to 'no_such.ipynb', which is not there"),
        (prose("[up](../../x)"), "Markdown cell 1", "which is not there"),
        (prose("[up](../..)"), "Markdown cell 1", "outside the repository"),
        (prose("[run](javascript:alert(1))"), "Markdown cell 1", "links to 'javascript:"),
        (prose("![](../data/photos/cat.jpg)"), "Markdown cell 1", "without alt text"),
        (prose("![a cat](https://example.org/cat.jpg)"), "Markdown cell 1", "works offline"),
        (prose("<img src='https://example.org/a.png' alt='a picture'>"), "Markdown cell 1", "fetches"),
        (prose("<a href='02_hooks.ipynb'>hooks</a>"), "Markdown cell 1", "write [text](address)"),
        (prose("# Another title"), "Markdown cell 1", "has a second title"),
    ],
)  # fmt: skip
def test_what_must_not_be_published_is_refused(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    plant: Callable[[NotebookNode], None],
    cell: str,
    reason: str,
) -> None:
    notebook = small()
    plant(notebook)
    path, out = save(notebook, folder), folder.parent / "out"
    assert posts.main([str(path), "--out", str(out)]) == 2
    said = capsys.readouterr()
    assert f"{path}::{cell}" in said.err and reason in said.err, said.err
    assert "Nothing was published." in said.err and not said.out
    assert not out.exists()


def test_the_colophon_tells_what_the_outputs_were_made_with(folder: Path) -> None:
    notebook = small()
    notebook.metadata["camlib"]["packages"] = {"torch": "1.0.0-then"}
    out = folder.parent / "out"
    assert posts.main([str(save(notebook, folder)), "--out", str(out)]) == 0
    said = colophon(BeautifulSoup((out / "html" / "post.html").read_text(encoding="utf-8"), "html.parser"))
    assert "Made with torch 1.0.0-then Published with" in said


def test_a_module_imported_from_camlib_leads_to_the_reference(folder: Path) -> None:
    notebook = small()
    code = "from camlib import evaluate, sanity  # no shapes\nprint(evaluate.iou, shapes.SHAPES, evaluate.no)"
    source(1, code)(notebook)
    notebook.cells[3].source += " `evaluate.iou(a, b)`, `shapes.network`"
    out = folder.parent / "out"
    assert posts.main([str(save(notebook, folder)), "--out", str(out)]) == 0
    soup = BeautifulSoup((out / "html" / "post.html").read_text(encoding="utf-8"), "html.parser")
    found = [(link.get_text(), link["href"]) for link in soup.select("article a.name")]
    iou = "camlib.evaluate.html#iou"
    assert found == [("evaluate.iou", iou), ("evaluate.no", "camlib.evaluate.html"), ("evaluate.iou(a, b)", iou)]


def test_a_formula_and_a_string_are_no_paths(folder: Path) -> None:
    notebook = small()
    source(1, "print('A:\\n', 'B:\\t')  # as in ../tmp/x")(notebook)
    notebook.cells[3].source += r" A map $f:\mathbb{R}\to\mathbb{R}$, see https://example.org/home/x."
    assert posts.main([str(save(notebook, folder)), "--out", str(folder.parent / "out")]) == 0


def test_photos_in_the_text_are_credited_and_unknown_ones_named(folder: Path) -> None:
    notebook = small()
    for name in ("my kettle.jpg", "my_cat.jpg"):
        Image.new("RGB", (8, 8)).save(folder / name)
    pictures = "![a palace](../data/photos/china.jpg), ![a kettle](my%20kettle.jpg), ![my cat](my_cat.jpg)"
    notebook.cells[0].source = f"# A small post\n\n{pictures}"
    out = folder.parent / "out"
    assert posts.main([str(save(notebook, folder)), "--out", str(out)]) == 0
    said = colophon(BeautifulSoup((out / "html" / "post.html").read_text(encoding="utf-8"), "html.parser"))
    assert "Photos china.jpg danielbuechele, CC BY 2.0" in said and "my kettle.jpg no source given" in said
    assert "my_cat.jpg no source given" in said and "Walt" not in said, "another cat"


def test_a_fault_of_the_front_page_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(posts, "front_page", lambda: ("Title", "Lead.\n\n![a cat](data/no_such.jpg)\n\nMade.\n\nWhy."))
    assert posts.main([str(save(small(), folder)), "--out", str(folder.parent / "out")]) == 2
    assert "README.md shows 'data/no_such.jpg', which is not there" in capsys.readouterr().err


def test_the_command_of_the_colophon_can_be_pasted(folder: Path) -> None:
    path = save(small(), folder).rename(folder / "my post.ipynb")
    assert posts.main([str(path), "--out", str(folder.parent / "out")]) == 0
    page = (folder.parent / "out" / "html" / "my post.html").read_text(encoding="utf-8")
    assert "python3 run.py posts 'my post.ipynb'" in BeautifulSoup(page, "html.parser").get_text()


def test_only_an_earlier_site_is_replaced(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder.parent / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    assert posts.main([str(save(small(), folder)), "--out", str(out)]) == 2
    assert "contains something other than posts" in capsys.readouterr().err
    assert (out / "thesis.txt").read_text() == "years of work"


def test_a_failure_leaves_the_earlier_site(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = save(small(), folder), folder.parent / "out"
    assert posts.main([str(path), "--out", str(out)]) == 0
    before = contents(out)
    monkeypatch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    assert posts.main([str(path), "--out", str(out)]) == 2
    assert "disk full" in capsys.readouterr().err
    assert contents(out) == before
    assert sorted(p.name for p in folder.parent.iterdir()) == ["data", "notebooks", "out"]


def test_markup_that_a_cell_prints_keeps_its_table_and_loses_its_style(folder: Path) -> None:
    notebook = small()
    table = '<div><style scoped>td {color: red}</style><table border="1"><tr><td>7</td></tr></table></div>'
    notebook.cells[1].outputs = [new_output("display_data", data={"text/html": table, "text/plain": "7"})]
    out = folder.parent / "out"
    assert posts.main([str(save(notebook, folder)), "--out", str(out)]) == 0
    page = (out / "html" / "post.html").read_text(encoding="utf-8")
    assert "<table><tr><td>7</td></tr></table>" in page and "scoped" not in page


def test_wrong_arguments_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        posts.main([str(tmp_path / "absent.ipynb")])
    assert "no such file" in capsys.readouterr().err
    for content in ("no notebook", "{}"):
        (tmp_path / "broken.ipynb").write_text(content)
        assert posts.main([str(tmp_path / "broken.ipynb"), "--out", str(tmp_path / "out")]) == 2
        assert "not a notebook" in capsys.readouterr().err


# A new post


def test_a_new_post_has_the_lesson_form_and_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert new_post.main(["TITLE=Where the network saw the kettle", "--out", str(tmp_path)]) == 0
    path = tmp_path / "where_the_network_saw_the_kettle.ipynb"
    assert f"python3 run.py notebooks {path}" in capsys.readouterr().out
    text = "\n\n".join(cell.source for cell in notebooks.read(path).cells)
    assert text.startswith("# Where the network saw the kettle\n\n**")
    for part in ("you can\n\n1. ", "*You need:*", "*Time:*", "*Predict, then run.*", "## By hand", "assert ",
                 "## Exercise", "<summary>Solution", "## Questions", "## Recap", "## Further reading"):  # fmt: skip
        assert part in text, part
    assert re.findall(r"<summary>(\d)\. ", text) == list("12345")
    assert "was never executed" in " ".join(notebooks.check(path))
    assert notebooks.main(["run", str(path)]) == 0
    assert notebooks.check(path) == []


def test_a_new_post_is_published_once_it_was_run(tmp_path: Path) -> None:
    """In a repository of its own: links of a post lead into the repository that it lies in."""
    elsewhere = checkout(tmp_path / "course", address=OTHER)
    environment = environment_of(elsewhere)

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments], cwd=elsewhere, env=environment, capture_output=True, text=True
        )

    path = "notebooks/posts/kettle.ipynb"
    assert call("tools", "new-post", "TITLE=Kettle").returncode == 0
    unrun = call("tools", "posts", path)
    assert unrun.returncode == 2 and f"{path}::Cell 1 ('import camlib') was never executed" in unrun.stderr
    assert call("tools", "notebooks", "run", path).returncode == 0
    done = call("tools", "posts", path)
    assert (done.returncode, done.stderr) == (0, "")
    page = (elsewhere / "posts" / "html" / "kettle.html").read_text(encoding="utf-8")
    assert "<h1>Kettle</h1>" in page and f"{OTHER}/blob/main/data/README.md" in page
    assert f'href="{address.COLAB}/a-school/cam-course/blob/main/{path}"' in page and "git clone" not in page


def test_nothing_is_overwritten_and_a_title_is_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.ipynb"
    path.write_text("mine")
    assert new_post.main(["TITLE=Kettle", "--out", str(path)]) == 2
    assert "is there already" in capsys.readouterr().err and path.read_text() == "mine"
    assert new_post.main(["TITLE= "]) == 2
    assert "has a title" in capsys.readouterr().err
