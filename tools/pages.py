"""Executed notebooks as pages that need nothing else, and as Markdown for a site generator; `tools/posts.py` calls it.

nbconvert does the conversion, with the templates in tools/post/. Here stands what it does not do: formulas as MathML,
links that hold outside the notebook's folder, pictures named by their content, and the explorer working in the page.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import os
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import nbformat
from bs4 import BeautifulSoup
from jinja2 import BytecodeCache, Environment, pass_context
from jinja2.bccache import Bucket
from nbconvert.exporters.templateexporter import TemplateExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from PIL import Image
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

from tools import address as web
from tools import figures, notebooks

if TYPE_CHECKING:
    from math_core import LatexToMathML

ROOT = notebooks.ROOT
TEMPLATES = Path(__file__).parent / "post"
PHOTOS = ROOT / "data" / "photos"
SIDE = 640  # pixels of a photo in the explorer, which is drawn on about 530
EXPLORER_TYPE = "application/vnd.camlib.explorer+json"  # camlib.page's, which would import torch
FENCE = re.compile(r"(^(?:```|~~~).*?^(?:```|~~~)[^\n]*$|`+[^`\n]+`+)", re.S | re.M)  # code, which is no prose
SUMMARY = re.compile(r"(?<=<summary>).*?(?=</summary>)", re.S)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
FORMULA_END = re.compile(r"(<math(?:(?!</math>).)*</math>)([.,;:!?)]+)", re.S)  # where a line could break
HEADING = re.compile(r'<h2 id="([^"]+)">(.*?) <a class="anchor"')
NAME = re.compile(r"(camlib(?:\.\w+)+)(?:\(.*\))?")  # of something that the API reference explains
NAME_IN_CODE = re.compile(  # names with dots, as pygments writes them
    r'(?<!\.</span>)<span class="n">\w+</span>(?:<span class="o">\.</span><span class="\w+">\w+</span>)+'
)
CLASS_IN_CODE = re.compile(r'(?<!\.</span>)<span class="n[ce]?">[A-Z]\w+</span>')
NAME_LINK = re.compile(r'<a class="name"[^>]*>(.*?)</a>')
CONTENTS = "<!-- headings -->\n"  # where the template wants the list of them
SHOWN = {"text/html", "text/markdown", "text/latex", "text/plain", "image/svg+xml", "image/png", "image/jpeg"}
SCHEMES = ("http", "https", "mailto")
# Tells the page around it how high it is; nothing else gets out of its sandbox.
SAYS_ITS_HEIGHT = """<script>
new ResizeObserver(() => parent.postMessage({ height: document.body.offsetHeight }, "*")).observe(document.body);
</script>
"""


class Fault(Exception):
    """What keeps a cell from being published; the message says what and what to do."""


@dataclass(eq=False)
class Post:
    """A notebook on its way to being published, and what is said about it elsewhere."""

    path: Path
    notebook: NotebookNode
    sha256: str
    title: str
    question: str = ""
    minutes: str = ""
    faults: list[str] = field(default_factory=list)
    name: str = ""  # how its page is called; by default as the file

    def __post_init__(self) -> None:
        self.name = self.name or self.path.stem

    def refuse(self, cell: NotebookNode, reason: object) -> None:
        """Note a fault, with the cell in which it is: counted as pytest does, prose among prose."""
        same = [c.id for c in self.notebook.cells if c.cell_type == cell.cell_type]
        kind = "Cell" if cell.cell_type == "code" else "Markdown cell"
        first = notebooks.first_line(cell)
        self.faults.append(f"{self.path}::{kind} {same.index(cell.id)} ({first!r}) {reason}")


# Formulas


def formulas() -> LatexToMathML:
    """The converter; made once for a page."""
    try:
        from math_core import LatexToMathML
    except ImportError:
        raise Fault("has a formula, and math-core, which converts it, is missing: run `python3 run.py posts`") from None
    return LatexToMathML(fancy_error=False, annotation=True)


def mathml(converter: LatexToMathML, latex: str, display: bool) -> str:
    """A formula as MathML, with its LaTeX, for readers who copy it; a Fault where it cannot be converted."""
    from math_core import LatexError

    try:
        return converter.convert_with_local_state(latex.strip(), displaystyle=display)
    except LatexError as error:
        raise Fault(f"has a formula that cannot be shown, {latex.strip()!r}: {error}; write it otherwise") from None


# Links and pictures


def slug(text: str) -> str:
    """The anchor of a heading: lower case, words joined by hyphens."""
    plain = unicodedata.normalize("NFKD", re.sub(r"<[^>]+>", "", html.unescape(text)))
    return re.sub(r"[^a-z0-9]+", "-", plain.encode("ascii", "ignore").decode().lower()).strip("-") or "section"


@dataclass(frozen=True)
class Links:
    """Where the links of one notebook lead once it is a page."""

    folder: Path  # the notebook's own
    pages: dict[Path, str]  # what is published together: notebook -> address
    names: Mapping[str, str] = field(default_factory=dict)  # what the API reference explains: camlib.NAME -> address
    of: tuple[str, ...] = ()  # in the reference itself, where names without a prefix may be: camlib.View, camlib
    imported: frozenset[str] = frozenset()  # modules of camlib that the notebook imports: evaluate for evaluate.iou

    def __call__(self, address: str) -> str | None:
        """The address in the page: another page, an anchor, or a file of the repository on the web.

        None for a file as long as the repository's own address is not set: there is nothing to lead to.
        """
        parts = urlsplit(address)
        if parts.scheme or parts.netloc:
            if parts.scheme not in SCHEMES:
                raise Fault(f"links to {address!r}; a page can lead to {', '.join(SCHEMES)} and to files here")
            return address
        anchor = f"#{slug(unquote(parts.fragment))}" if parts.fragment else ""
        if not parts.path:
            return anchor
        target = self.file(parts.path, f"links to {address!r}")
        if target in self.pages:
            return self.pages[target] + anchor
        on_the_web = web.source(target)
        return on_the_web and on_the_web + (f"#{parts.fragment}" if parts.fragment else "")

    def name(self, code: str) -> str:
        """Where the API reference explains what this code names; empty for all other code."""
        if code.partition(".")[0] in self.imported:
            code = f"camlib.{code}"
        if found := NAME.fullmatch(code):
            parts = found[1].split(".")
            names = [".".join(parts[:count]) for count in range(len(parts), 1, -1)]
        else:
            names = [f"{home}.{code.partition('(')[0]}" for home in self.of]
        name = next((name for name in names if name in self.names), "")
        return self.names[name] if name and name not in self.of else ""

    def file(self, path: str, what: str) -> Path:
        """The file or folder of the repository, or a page that is published along; a Fault where there is none."""
        target = Path(os.path.normpath(self.folder / unquote(path)))
        if not target.exists():
            raise Fault(f"{what}, which is not there; fix the link")
        if target not in self.pages and not target.is_relative_to(ROOT):
            raise Fault(f"{what}, which lies outside the repository and would lead nowhere on a page")
        return target

    def picture(self, address: str, alt: str, attachments: dict[str, Any]) -> tuple[str, bytes]:
        """The (type, content) of a picture in the text."""
        if not alt.strip():
            raise Fault(f"shows {address!r} without alt text; write what is seen between the brackets")
        if address.startswith("attachment:"):
            bundle = attachments.get(unquote(address.removeprefix("attachment:")), {})
            for mime, content in bundle.items():
                return mime, base64.b64decode(content)
            raise Fault(f"shows {address!r}, and the cell has no such attachment")
        if urlsplit(address).scheme or address.startswith("//"):
            raise Fault(f"fetches {address!r}; put the picture into the repository, so that the page works offline")
        content = self.file(address, f"shows {address!r}").read_bytes()
        return picture_type(content, address), content


def picture_type(content: bytes, name: str) -> str:
    """The media type of a picture file."""
    if name.lower().endswith(".svg"):
        return "image/svg+xml"
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.get_format_mimetype() or "image/png"
    except OSError:
        raise Fault(f"shows {name!r}, which is no picture") from None


def decoded(output: NotebookNode, mime: str) -> bytes:
    """A picture output's bytes."""
    value = output.data[mime]
    return value.encode() if mime == "image/svg+xml" else base64.b64decode(value)


RUNS = ("base", "embed", "form", "iframe", "link", "meta", "object", "script")
FETCHES = ("background", "data", "poster", "src", "srcset")


def checked_markup(markup: str) -> str:
    """HTML that a cell holds or printed; a Fault where it would run something, fetch something or lead nowhere."""
    soup = BeautifulSoup(markup, "html.parser")
    for tag in soup.find_all(True):
        if tag.name in RUNS:
            raise Fault(f"holds <{tag.name}>, which a page that stands alone cannot have; leave it out")
        for name in FETCHES:
            if not str(tag.get(name, "data:")).startswith("data:"):
                raise Fault(f"fetches {tag[name]!r}; a page that works offline holds what it shows")
        if "url(" in str(tag.get("style", "")):
            raise Fault("fetches something in a style; a page that works offline holds what it shows")
        if tag.name == "img" and not str(tag.get("alt", "")).strip():
            raise Fault('has a figure without alt text; write alt="what is seen"')
        if tag.name == "a" and tag.has_attr("href") and urlsplit(str(tag["href"])).scheme not in SCHEMES:
            raise Fault(f"links to {tag['href']!r} in HTML; write [text](address), which is kept up to date")
    return markup


# Prose


class _Prose(IPythonRenderer):
    """Markdown as HTML for the page."""

    def __init__(self, links: Links, math: Callable[[str, bool], str], attachments: dict, taken: set[str]) -> None:
        super().__init__(escape=False)
        self.links, self.math, self.attachments, self.taken = links, math, attachments, taken

    def heading(self, text: str, level: int, **_: Any) -> str:
        if level == 1:
            if "h1" in self.taken:
                raise Fault("has a second title; a page has one: use ## for a section")
            self.taken.add("h1")
            return ""  # the template prints it
        anchor = base = slug(text)
        count = 1
        while anchor in self.taken:
            count += 1
            anchor = f"{base}-{count}"
        self.taken.add(anchor)
        text = NAME_LINK.sub(r"\1", text)
        mark = f'<a class="anchor" href="#{anchor}" aria-label="Link to this section">#</a>'
        return f'<h{level} id="{anchor}">{text} {mark}</h{level}>\n'

    def link(self, text: str, url: str, title: str | None = None) -> str:
        text, target = NAME_LINK.sub(r"\1", text), self.links(url)
        return text if target is None else super().link(text, target, title)

    def codespan(self, text: str) -> str:
        code, address = super().codespan(text), self.links.name(html.unescape(text))
        return f'<a class="name" href="{address}">{code}</a>' if address else code

    def image(self, text: str, url: str, title: str | None = None) -> str:
        mime, content = self.links.picture(url, text, self.attachments)
        source = f"data:{mime};base64,{base64.b64encode(content).decode()}"
        return f'<img src="{source}" alt="{html.escape(text)}"{size_of(mime, content)}>'

    def block_html(self, html: str) -> str:
        return super().block_html(checked_markup(SUMMARY.sub(coded, html)))

    def inline_html(self, html: str) -> str:
        return super().inline_html(checked_markup(html))

    def block_code(self, code: str, info: str | None = None) -> str:
        return code_box(code, (info or "text").split()[0], self.links)

    def table(self, text: str) -> str:
        return f'<div class="table scrolls"><table>\n{text}</table></div>\n'

    def paragraph(self, text: str) -> str:
        if re.fullmatch(r'<span class="formula scrolls">.*</span>', text.strip(), re.S):
            return text.strip().replace("<span", "<div", 1).removesuffix("</span>") + "</div>\n"
        return super().paragraph(text)

    def block_math(self, body: str) -> str:
        return f'<span class="formula scrolls">{self.math(body, True)}</span>'

    def inline_math(self, body: str) -> str:
        return self.math(body, False)

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(f"\\begin{{{name}}}{body}\\end{{{name}}}")


def coded(summary: re.Match[str]) -> str:
    """A summary is HTML, where Markdown's backticks would be shown as they are."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", summary[0])


def size_of(mime: str, content: bytes, width: int | None = None) -> str:
    """width and height, so that nothing jumps when the picture is there. width: of a picture sharper than shown."""
    if mime == "image/svg+xml":
        found = re.search(rb'<svg[^>]*?\bviewBox="[\d.]+ [\d.]+ ([\d.]+) ([\d.]+)"', content)
        return f' width="{float(found[1]):.0f}" height="{float(found[2]):.0f}"' if found else ""
    with Image.open(io.BytesIO(content)) as image:
        shown = width or image.width
        return f' width="{shown}" height="{round(image.height * shown / image.width)}"'


def code_box(source: str, language: str = "python", links: Links | None = None) -> str:
    """Highlighted code in a box of its own, inside which long lines scroll; names lead to the API reference."""
    try:
        lexer = get_lexer_by_name(language)
    except ClassNotFound:
        lexer = get_lexer_by_name("text")
    text = highlight(source.rstrip("\n"), lexer, HtmlFormatter(nowrap=True)).rstrip("\n")
    if links:
        if links.of:
            text = CLASS_IN_CODE.sub(lambda found: _named(found[0], links), text)
        text = NAME_IN_CODE.sub(lambda found: _named(found[0], links), text)
    return f'<pre class="code scrolls"><code>{text}</code></pre>\n'


def _named(code: str, links: Links) -> str:
    address = links.name(re.sub(r"<[^>]+>", "", code))
    return f'<a class="name" href="{address}">{code}</a>' if address else code


# The explorer


def explorer_page(output: NotebookNode) -> str | None:
    """The page of a live explorer, computed anew; None for every other output."""
    said = output.data.get(EXPLORER_TYPE)
    return _explorer_page(tuple(said["photos"]), said["network"], said["method"]) if said else None


@cache
def _explorer_page(names: tuple[str, ...], network: str, method: str) -> str:
    import torch

    from camlib import CamError, explain, load_model, to_html

    if missing := [name for name in names if not (PHOTOS / name).is_file()]:
        raise Fault(
            f"shows an explorer of {', '.join(missing)}; a page can show photos of data/photos only, under their names"
        )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the sums, and so the bytes, do not depend on how many the machine has
    try:
        classifier = load_model(network)
        explanations = [explain(classifier, PHOTOS / name, method=method) for name in names]
        page = str(to_html(explanations, names=names, side=SIDE))
    except CamError as error:
        raise Fault(f"shows an explorer that cannot be made again: {error}") from None
    finally:
        torch.set_num_threads(threads)
    return with_height(page)


def with_height(page: str) -> str:
    """The explorer's page, which tells the page around it how high it is."""
    return page.replace("</body>", SAYS_ITS_HEIGHT + "</body>")


def frame(page: str) -> str:
    """The explorer's page in a frame that the script of a post shows."""
    start = '<iframe hidden title="Class map explorer" sandbox="allow-scripts"'
    return f'{start} data-page="{html.escape(page)}"></iframe>'


# The exporters


class _Compiled(BytecodeCache):
    """The templates, compiled once for all exporters instead of once for each page."""

    def __init__(self) -> None:
        self.codes: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if code := self.codes.get(bucket.key):
            bucket.bytecode_from_string(code)

    def dump_bytecode(self, bucket: Bucket) -> None:
        self.codes[bucket.key] = bucket.bytecode_to_string()


COMPILED = _Compiled()


class _Exporter(TemplateExporter):
    """What both kinds of output share: the post, its links, and faults that name their cell."""

    def __init__(self, post: Post, links: Links, about: dict[str, Any]) -> None:
        super().__init__(extra_template_basedirs=[str(TEMPLATES)])
        self.post, self.links, self.about = post, links, about

    def _create_environment(self) -> Environment:
        environment = super()._create_environment()
        environment.bytecode_cache = COMPILED
        return environment

    def default_filters(self) -> Iterable[tuple[str, Any]]:
        yield from super().default_filters()
        for name in ("prose", "code", "picture", "markup", "explorer", "framed"):
            yield name, pass_context(self._guarded(getattr(self, name)))

    def _guarded(self, convert: Callable[[NotebookNode, Any], str]) -> Callable[[Any, Any], str]:
        def guarded(context: Any, value: Any, *more: Any) -> str:
            cell = context["cell"]
            try:
                return convert(cell, value, *more)
            except Fault as fault:
                self.post.refuse(cell, fault)
                return ""

        return guarded

    def markup(self, cell: NotebookNode, text: str) -> str:
        """HTML that a cell printed, without its styles: a table looks like the page's other tables."""
        soup = BeautifulSoup(checked_markup(text), "html.parser")
        for style in soup.find_all("style"):
            style.decompose()
        for table in soup.find_all("table"):
            del table["border"]
        return str(soup)

    def export(self) -> str:
        """The text of the page; its faults are added to those of the post."""
        alone = notebooks.ALONE_TAG  # what Colab needs is no part of the lesson
        shown = NotebookNode(self.post.notebook)
        shown.cells = [cell for cell in self.post.notebook.cells if alone not in notebooks.tags_of(cell)]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Your element with mimetype")  # such an output is refused
            return str(self.from_notebook_node(shown, {"about": self.about, "post": self.post})[0])


class PageExporter(_Exporter):
    """One HTML page, self-contained."""

    template_name = "page"
    file_extension = ".html"

    def __init__(self, post: Post, links: Links, about: dict[str, Any]) -> None:
        self.taken: set[str] = set(about["anchors"])
        self.converter: LatexToMathML | None = None
        super().__init__(post, links, about)

    def export(self) -> str:
        page = super().export()
        entries = [f'<li><a href="#{anchor}">{title}</a></li>\n' for anchor, title in HEADING.findall(page)]
        return page.replace(CONTENTS, "".join(entries), 1)

    def math(self, latex: str, display: bool) -> str:
        self.converter = self.converter or formulas()
        return mathml(self.converter, latex, display)

    def prose(self, cell: NotebookNode, source: str) -> str:
        renderer = _Prose(self.links, self.math, cell.get("attachments", {}), self.taken)
        text: str = MarkdownWithMath(renderer=renderer).render(source)
        return FORMULA_END.sub(r'<span class="together">\1\2</span>', text)

    def code(self, cell: NotebookNode, source: str) -> str:
        return code_box(source, "python", self.links)

    def framed(self, cell: NotebookNode, output: NotebookNode) -> str:
        """An explanation as a cell's last line: its explorer, on top of the picture."""
        if not (shown := figures.explorer(output)):
            return ""
        content = base64.b64decode(shown["picture"])
        source = f"data:{shown['mime']};base64,{shown['picture']}"
        picture = f'<img src="{source}" alt="{shown["alt"]}"{size_of(shown["mime"], content)}>'
        return f'<figure class="explorer">{picture}{frame(with_height(html.unescape(shown["page"])))}</figure>'

    def picture(self, cell: NotebookNode, output: NotebookNode, mime: str) -> str:
        content = decoded(output, mime)
        source = f"data:{mime};base64,{base64.b64encode(content).decode()}"
        said = output.metadata.get(mime, {})
        alt = html.escape(str(said.get("alt", "")))
        return f'<img src="{source}" alt="{alt}"{size_of(mime, content, said.get("width"))}>'

    def explorer(self, cell: NotebookNode, output: NotebookNode) -> str:
        page = explorer_page(output)
        return "" if page is None else frame(page)


class TextExporter(_Exporter):
    """Markdown beside its pictures, which are named by their content; `files` holds them: name -> bytes."""

    template_name = "text"
    file_extension = ".md"

    def __init__(self, post: Post, links: Links, about: dict[str, Any]) -> None:
        self.files: dict[str, bytes] = {}
        super().__init__(post, links, about)

    def store(self, content: bytes, ending: str) -> str:
        name = f"{hashlib.sha256(content).hexdigest()[:16]}.{ending}"
        self.files[name] = content
        return name

    def prose(self, cell: NotebookNode, source: str) -> str:
        """The Markdown itself, with links that hold here; code stays as it is."""
        # pandoc, and so Quarto, makes a list of a summary that begins with a number and a full stop.
        source = SUMMARY.sub(lambda found: re.sub(r"\A(\s*\d+)\.", r"\1&#46;", coded(found)), source)
        parts = FENCE.split(source)
        parts[::2] = [LINK.sub(lambda found: self._link(cell, found), part) for part in parts[::2]]
        text = re.sub(r"\A# [^\n]*\n+", "", "".join(parts))  # the title is in the front matter
        return re.sub(r"<details>", '<details markdown="1">', text)  # Jekyll reads what is inside only if told so

    def _link(self, cell: NotebookNode, found: re.Match[str]) -> str:
        picture, text, address = found.groups()
        if not picture:
            target = self.links(address)
            return text if target is None else f"[{text}]({target})"
        mime, content = self.links.picture(address, text, cell.get("attachments", {}))
        return f"![{text}]({self.store(content, ending(mime))})"

    def code(self, cell: NotebookNode, source: str, language: str = "python") -> str:
        longest = max((len(run) for run in re.findall(r"`{3,}", source)), default=2)
        fence = "`" * (longest + 1)
        return f"{fence}{language}\n{source.rstrip()}\n{fence}"

    def picture(self, cell: NotebookNode, output: NotebookNode, mime: str) -> str:
        alt = str(output.metadata.get(mime, {}).get("alt", ""))
        return f"![{escaped(alt)}]({self.store(decoded(output, mime), ending(mime))})"

    def framed(self, cell: NotebookNode, output: NotebookNode) -> str:
        """An explanation as a cell's last line: the picture, and a link to its explorer."""
        if not (shown := figures.explorer(output)):
            return ""
        name = self.store(base64.b64decode(shown["picture"]), ending(shown["mime"]))
        page = self.store(html.unescape(shown["page"]).encode(), "html")
        return f"![{escaped(html.unescape(shown['alt']))}]({name})\n\n[Open the explorer]({page})"

    def explorer(self, cell: NotebookNode, output: NotebookNode) -> str:
        page = explorer_page(output)
        return "" if page is None else f"[Open the explorer]({self.store(page.encode(), 'html')})"


def escaped(alt: str) -> str:
    """A picture's alt text in Markdown."""
    return re.sub(r"([\[\]\\`*_<>])", r"\\\1", " ".join(alt.split()))


def ending(mime: str) -> str:
    """The file name's ending of a media type."""
    return {"image/jpeg": "jpg", "image/svg+xml": "svg"}.get(mime, mime.rpartition("/")[2])


def with_ids(notebook: NotebookNode) -> NotebookNode:
    """The notebook with a different id in each cell, by which faults find theirs."""
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    return nbformat.from_dict(notebook)
