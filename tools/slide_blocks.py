"""What can stand on a slide, made of a notebook's cells; `tools/slides.py` lays it out.

Formulas, pictures, links and faults are those of the pages. Heights are estimates: the page itself makes smaller what
does not fit.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from bs4 import BeautifulSoup, Tag
from nbformat import NotebookNode

from tools import figures, notebooks, pages
from tools.pages import Links, PageExporter, Post

WIDE, HIGH = 1160, 636  # pixels that a slide has for its heading and what stands below
PROSE = 440  # the height that a slide without a figure takes: what is more cannot be read while somebody talks
LINE, CHARACTER = 38, 13.2  # pixels of a line of prose, and of a character in it
MONO = 0.602  # a fixed-width character's width, in parts of its size
CODE_SIZES = (17.0, 20.0)  # pixels: below the first, long lines wrap
LONGEST = 110  # characters of a printed line: longer ones are a report, which the speaker tells
TABLE_ROWS = 10
NOT_ANSWERED = re.compile(r"\ANo (answer|repair) yet")
PREDICTION = re.compile(r"\APredict, then run")


@dataclass(eq=False)
class Block:
    """What stands on a slide as a whole: a paragraph, a list, a figure, an output."""

    tag: Tag
    kind: str  # text, predict, question, figure, formula, fixed
    cell: int
    answer: bool = False  # waits for a key press
    paragraphs: list[int] = field(default_factory=list)  # of a text: their lengths in characters
    tall: float = 0  # pixels of everything else, at full size
    wide: float = WIDE  # of a figure at that height
    least: float = 0  # pixels below which a figure says nothing
    again: bool = False  # a figure that was on the slide before
    small: bool = False  # a figure that stands beside what is said about it, whatever its shape

    @property
    def leads(self) -> bool:
        """Whether it announces what comes next."""
        return self.kind == "text" and self.tag.get_text().rstrip().endswith(":")

    def height(self, width: float = WIDE) -> float:
        """The estimated pixels on a column of this width."""
        if not self.paragraphs:
            return self.tall
        line = LINE * (1.15 if self.kind == "question" else 1)
        per_line = min(width, 1090) / (CHARACTER * line / LINE)
        rows = sum(math.ceil(max(length, 1) / per_line) for length in self.paragraphs)
        return rows * line + 9 * (len(self.paragraphs) - 1) + (38 if self.kind == "predict" else 0)


@dataclass
class Heading:
    """Starts a slide: a section, or a part of one."""

    text: str  # HTML
    level: int


@dataclass
class Note:
    """For the speaker only: HTML."""

    text: str
    ends: bool = False  # the solution of an exercise: what follows is the section's again


class Break:
    """Ends a slide."""


Item = Block | Heading | Note | Break


# From cells to what can stand on a slide


class SlideExporter(PageExporter):
    """Turns a post's cells into items, with the pages' own formulas, pictures and faults."""

    def __init__(self, post: Post, links: Links, code: bool) -> None:
        super().__init__(post, links, {"anchors": ()})
        self.shows_code = code
        self.figures = 0

    def items(self) -> Iterator[Item]:
        """Everything of the notebook, in its order."""
        before = None
        cells = self.post.notebook.cells
        for number, (cell, following) in enumerate(zip(cells, [*cells[1:], None], strict=True)):
            chosen = _chosen_type(cell, before)
            before = cell
            if notebooks.ALONE_TAG in notebooks.tags_of(cell) or chosen == "skip":
                continue
            try:
                yield from self._chosen(list(self._cell(number, cell, following)), chosen)
            except pages.Fault as fault:
                self.post.refuse(cell, fault)

    def _chosen(self, found: list[Item], chosen: str) -> Iterator[Item]:
        """The items of a cell, after a slide type that somebody gave it."""
        if chosen == "notes":
            yield from (Note(str(item.tag)) for item in found if isinstance(item, Block))
            return
        if chosen == "slide":
            yield Break()
        for item in found:
            if isinstance(item, Block) and chosen == "fragment":
                item.answer = True
            yield item

    def _cell(self, number: int, cell: NotebookNode, following: NotebookNode | None) -> Iterator[Item]:
        if cell.cell_type == "markdown":
            yield from self._markup(number, self.prose(cell, cell.source))
        elif cell.cell_type == "code" and cell.source.strip():
            shows_code = self.shows_code or _asks(cell, following)
            if shows_code:
                yield from self._lines(number, cell.source if self.shows_code else _task(cell.source), "python")
            for output in cell.outputs:
                yield from self._output(number, cell, output)
            if not shows_code:
                yield Note(f"<pre><code>{html.escape(cell.source.strip())}</code></pre>")

    def _markup(self, number: int, text: str, answer: bool = False) -> Iterator[Item]:
        """The blocks of a piece of HTML; a folded solution goes to the speaker, every other fold is a question."""
        soup = BeautifulSoup(text, "html.parser")
        for mark in soup.select(".anchor"):
            mark.decompose()
        for link in soup.select("a[href]"):
            target = str(link["href"])
            if target.startswith("#"):
                link.unwrap()
            else:
                link["target"], link["rel"] = "_blank", "noopener"
        for tag in soup.find_all(True, recursive=False):
            yield from self._tag(number, tag, answer)

    def _tag(self, number: int, tag: Tag, answer: bool) -> Iterator[Item]:
        if re.fullmatch("h[2-6]", tag.name):
            yield Heading(tag.decode_contents().strip(), int(tag.name[1]))
        elif tag.name == "details":
            summary = tag.summary.extract() if tag.summary else None
            said = summary.decode_contents() if summary else ""
            if said.startswith("Solution"):
                yield Note(f"<p><b>{said}</b></p>{tag.decode_contents()}", ends=True)
                return
            yield Break()
            asked = _only(f'<p class="question">{said}</p>')
            yield Block(asked, "question", number, paragraphs=[len(asked.get_text())])
            yield from self._markup(number, tag.decode_contents(), answer=True)
            yield Break()
        elif tag.name == "pre":
            yield from self._lines(number, tag.get_text(), "", tag, answer)
        elif tag.name in ("ul", "ol"):
            yield from (Block(part, "text", number, answer, _lengths(part)) for part in _parts_of_list(tag))
        elif "table" in classes(tag):
            yield from (Block(part, "fixed", number, answer, tall=_table_height(part)) for part in _parts_of_table(tag))
        elif "formula" in classes(tag):
            rows = max(len(tag.select("mtr")), 1)
            yield Block(tag, "formula", number, answer, tall=78 * rows)
        elif (picture := tag if tag.name == "img" else tag.img) and not tag.get_text().strip():
            yield self._figure(number, str(picture), answer)
        else:
            predicts = any(PREDICTION.match(em.get_text()) for em in tag.find_all("em"))
            if predicts:
                tag["class"] = "predict"
            yield Block(tag, "predict" if predicts else "text", number, answer, _lengths(tag))

    def _figure(self, number: int, picture: str, answer: bool = False) -> Block:
        """An <img> as a figure that takes the room it is given."""
        found = [re.search(rf' {side}="(\d+)"', picture) for side in ("width", "height")]
        sizes = [int(side[1]) for side in found if side]
        width, height = sizes if len(sizes) == 2 else (1100, 500)
        factor = min(1.25, WIDE / width)
        tall = height * factor
        least = max(0.7 * tall, min(tall, 220))
        self.figures += 1
        picture = picture.replace("<img", f'<img id="figure-{self.figures}"', 1)
        style = f"--height: {tall:.0f}px; --least: {min(least, HIGH - 100):.0f}px"
        figure = _only(f'<figure style="{style}">{picture}</figure>')
        return Block(figure, "figure", number, answer, tall=tall, wide=width * factor, least=least)

    def _lines(
        self, number: int, text: str, language: str, tag: Tag | None = None, answer: bool = False
    ) -> Iterator[Block]:
        """Code or printed text, at the size at which its lines fit, in as many parts as it takes."""
        text = text.rstrip("\n")
        smallest, largest = CODE_SIZES
        longest = max(map(len, text.splitlines()), default=1)
        size = min(largest, max(smallest, (WIDE - 40) / (MONO * max(longest, 1))))
        per_line = (WIDE - 40) / (MONO * size)
        for part in _parts_of_lines(text, int(0.75 * HIGH / (1.35 * size)), per_line):
            if language:
                source = pages.code_box(part, language)
            elif tag is not None and part == text:
                source = str(tag)
            else:
                source = f'<pre class="output"><samp>{html.escape(part)}</samp></pre>'
            shown = _only(source)
            shown["style"] = f"--size: {size:.1f}px"
            rows = sum(math.ceil(max(len(line), 1) / per_line) for line in part.splitlines())
            yield Block(shown, "fixed", number, answer, tall=rows * 1.35 * size + (0 if "samp" in source else 28))

    def _output(self, number: int, cell: NotebookNode, output: NotebookNode) -> Iterator[Item]:
        if output.output_type == "stream":
            if output.name == "stdout" and not NOT_ANSWERED.match(output.text):
                printed, told = _told(notebooks.steady(output.text))
                if printed:
                    yield from self._lines(number, printed, "")
                if told:
                    yield Note(f"<p>{html.escape(told)}</p>")
        elif output.output_type in ("display_data", "execute_result"):
            if shown := figures.explorer(output):
                picture = pages.decoded(NotebookNode(data={shown["mime"]: shown["picture"]}), shown["mime"])
                size = pages.size_of(shown["mime"], picture)
                source = f"data:{shown['mime']};base64,{shown['picture']}"
                yield self._figure(number, f'<img src="{source}" alt="{shown["alt"]}"{size}>')
                return
            for mime in ("image/svg+xml", "image/png", "image/jpeg"):
                if mime in output.data:
                    yield self._figure(number, self.picture(cell, output, mime))
                    return
            if "text/html" in output.data:
                yield from self._markup(
                    number, f'<div class="table">{self.markup(cell, output.data["text/html"])}</div>'
                )
            elif said := output.data.get("text/markdown") or output.data.get("text/latex"):
                yield from self._markup(number, self.prose(cell, said))
            elif "text/plain" in output.data:
                yield from self._lines(number, notebooks.steady(output.data["text/plain"]), "")


def _chosen_type(cell: NotebookNode, before: NotebookNode | None) -> str:
    """The slide type that somebody gave the cell; empty where it may be the rule's, of this text or an earlier one."""
    stored = str(cell.metadata.get("slideshow", {}).get("slide_type", ""))
    by_rule = {notebooks.slide_type(cell, before), "subslide", "fragment" if cell.cell_type == "code" else ""}
    return "" if stored in by_rule else stored


def _asks(cell: NotebookNode, following: NotebookNode | None) -> bool:
    """Whether the code is itself the task: what an exercise begins with, or a function that a prediction is about."""
    if any(NOT_ANSWERED.match(text) for output in cell.outputs for text in notebooks.texts(output)):
        return "\n" in _task(cell.source)
    predicts = following is not None and notebooks.PREDICT in following.source
    return predicts and cell.source.startswith("def ") and not cell.outputs


def _told(text: str) -> tuple[str, str]:
    """What of a printed text is shown, and what is a report for the speaker: long lines, or all if most are long."""
    lines = text.strip("\n").splitlines()
    long = [line for line in lines if len(line) > LONGEST]
    if 2 * len(long) > len(lines):
        return "", text
    return "\n".join(line for line in lines if len(line) <= LONGEST), "\n".join(long)


def _task(source: str) -> str:
    """What an exercise asks to complete, without the lines that check it."""
    lines = [line for line in source.splitlines() if not re.match(r"from checks import|print\(check\.", line)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")


def classes(tag: Tag) -> list[str]:
    """Of an element, however they were set."""
    return " ".join(tag.get_attribute_list("class") or []).split() if tag.has_attr("class") else []


def _lengths(tag: Tag) -> list[int]:
    """The characters of each paragraph in it, or of each entry; a formula counts by what is seen of it."""
    inside = tag.find_all("li") if tag.name in ("ul", "ol") else tag.find_all("p") or [tag]
    return [len(re.sub(r"\s+", " ", _seen(part)).strip()) for part in inside]


def _seen(tag: Tag) -> str:
    hidden = sum(len(note.get_text()) for note in tag.find_all("annotation"))
    text = tag.get_text()
    return text[: len(text) - hidden] if hidden else text


def _parts_of_list(tag: Tag) -> Iterator[Tag]:
    """A list for each entry, so that a slide may end between any two; `joined` puts those on one slide together."""
    start = int(str(tag.get("start", "1")))
    for number, entry in enumerate(tag.find_all("li", recursive=False), start):
        begins = f' start="{number}"' if tag.name == "ol" else ""
        yield _only(f"<{tag.name}{begins}>{entry}</{tag.name}>")


def joined(blocks: list[Block]) -> list[Block]:
    """The blocks, with the entries of a list in one list."""
    found: list[Block] = []
    for block in blocks:
        last = found[-1] if found else None
        lists = last and last.tag.name == block.tag.name and block.tag.name in ("ul", "ol")
        if last and lists and last.cell == block.cell and last.answer == block.answer:
            last.tag.extend(block.tag.find_all("li", recursive=False))
        else:
            found.append(block)
    return found


def _only(source: str) -> Tag:
    """The element that this HTML is."""
    tag = BeautifulSoup(source, "html.parser").find()
    assert isinstance(tag, Tag)
    return tag


def _parts_of_table(tag: Tag) -> Iterator[Tag]:
    """The table, cut between its rows where it has many, each part with the head."""
    rows = tag.select("tbody > tr")
    head = str(tag.thead) if tag.thead else ""
    parts = math.ceil(len(rows) / TABLE_ROWS)
    if parts < 2:
        yield tag
        return
    each = math.ceil(len(rows) / parts)
    for first in range(0, len(rows), each):
        body = "".join(str(row) for row in rows[first : first + each])
        yield _only(f'<div class="table"><table>{head}<tbody>{body}</tbody></table></div>')


def _table_height(tag: Tag) -> float:
    """By the longest cell of each row, as wide as its column may be."""
    rows = [row.find_all(["td", "th"]) for row in tag.find_all("tr")]
    columns = max(map(len, rows), default=1)
    longest = [max((len(_seen(row[c])) for row in rows if c < len(row)), default=1) for c in range(columns)]
    total = sum(longest) * 11.5 + 24 * columns
    wraps = max(1.0, total / WIDE)
    return len(rows) * (16 + 33 * math.ceil(wraps - 0.05))


def _parts_of_lines(text: str, most: int, per_line: float) -> Iterator[str]:
    """The text in parts of at most so many lines, cut after an empty line where there is one."""
    lines = text.splitlines()
    while lines:
        taken, used = 0, 0
        while taken < len(lines) and used + math.ceil(max(len(lines[taken]), 1) / per_line) <= max(most, 1):
            used += math.ceil(max(len(lines[taken]), 1) / per_line)
            taken += 1
        taken = max(taken, 1)
        if taken < len(lines):
            empty = [n for n in range(1, taken) if not lines[n].strip()]
            taken = empty[-1] + 1 if empty else taken
        if part := "\n".join(lines[:taken]).strip("\n"):
            yield part
        lines = lines[taken:]
