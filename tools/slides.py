"""Chapters as slide shows: `python3 run.py slides CHAPTER`.

Each chapter becomes one HTML file that needs no network: reveal.js (from npm, fetched once), formulas and pictures are
in it. No cell is executed, and what `posts` would refuse is refused here too. Without --code, code is in the speaker
notes, but for what an exercise or a prediction is about.

A heading starts a slide. What follows fills it until it is full, by an estimate of heights; the page itself then makes
smaller what does not fit with the fonts that are there. The answer to a prediction or a question waits for a key press.
A slide type that somebody chose in JupyterLab is obeyed; those that the chapters have by rule say nothing more.
"""

from __future__ import annotations

import argparse
import copy
import html
import math
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from bs4 import BeautifulSoup, NavigableString
from tqdm import tqdm

from tools import files, notebooks, npm, posts
from tools.errors import ToolError
from tools.pages import Links, Post
from tools.slide_blocks import HIGH, PROSE, WIDE, Block, Break, Heading, Item, Note, SlideExporter, classes, joined

DECK = Path(__file__).parent / "deck"
REVEAL, _ = npm.PINNED["reveal.js"]
GENERATOR = "camlib slides"
GAP = 18  # pixels between two blocks
COLUMNS = 40  # and between a figure and the text beside it
NARROW = 1.45  # a figure with a smaller ratio of its sides stands beside its text
REMINDER = 580  # pixels of a figure that is shown again, beside what is said about it
BRIEF = 200  # pixels: text that takes less is written larger
READING = "Further reading"  # is written smaller
GOALS = "After this chapter you can"
LABEL = re.compile(r"\A(You need|You do not need|Time|All chapters):")


# From items to slides


@dataclass
class Slide:
    """One slide; `kicker` is the section, where the heading is that of a part."""

    heading: str = ""
    kicker: str = ""
    blocks: list[Block] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    starts: bool = False  # a stack of slides: a section

    def room(self) -> float:
        """The pixels below the heading."""
        rows = math.ceil(len(BeautifulSoup(self.heading, "html.parser").get_text()) / 56)
        return HIGH - 44 * rows - GAP - (28 if self.kicker else 0)

    def beside(self, blocks: list[Block]) -> Block | None:
        """The figure that stands beside its text, where there is one."""
        shown = [block for block in blocks if block.kind == "figure"]
        if len(shown) != 1 or len(blocks) < 2 or not (shown[0].small or shown[0].wide < NARROW * shown[0].tall):
            return None
        return shown[0] if all(block.paragraphs for block in blocks if block is not shown[0]) else None

    def beside_width(self, figure: Block) -> float:
        """The pixels that a figure beside its text takes."""
        return min(figure.wide, self.room() * figure.wide / figure.tall, REMINDER if figure.small else 700)

    def prose(self) -> float:
        """The estimated pixels of a slide that has nothing but text; 0 for every other."""
        if not all(block.paragraphs for block in self.blocks):
            return 0
        return sum(block.height() for block in self.blocks) + GAP * (len(self.blocks) - 1)

    def fits(self, blocks: list[Block]) -> bool:
        """Whether all of them have room together."""
        room = self.room()
        if figure := self.beside(blocks):
            width = WIDE - COLUMNS - self.beside_width(figure)
            text = [block.height(width) for block in blocks if block is not figure]
            return sum(text) + GAP * (len(text) - 1) <= room
        if any(block.small for block in blocks[:-1]):
            return False
        others = [block.height() for block in blocks if block.kind != "figure"]
        least = [min(block.least, room) for block in blocks if block.kind == "figure"]
        limit = room
        if all(block.paragraphs for block in blocks):
            limit = 1.6 * PROSE if self.heading == READING else PROSE
        return sum(others) + sum(least) + GAP * (len(blocks) - 1) <= limit


class Arrangement:
    """Fills one slide after the other."""

    def __init__(self, post: Post) -> None:
        self.section = html.escape(short_title(post))
        self.slides = [Slide(starts=True)]  # the title's
        self.slide = Slide(self.section)

    def put(self, item: Item) -> None:
        """The next item of the chapter."""
        if isinstance(item, Block):
            self._add(item)
        elif isinstance(item, Note):
            self.slide.notes.append(item.text)
            if item.ends and self.slide.kicker:
                self.turn(self.section, "")
        elif isinstance(item, Break):
            self.turn()
        elif item.level == 2:
            self.section = item.text
            self.turn(item.text, "", starts=True)
        else:
            self.turn(item.text, self.section)

    def turn(self, heading: str | None = None, kicker: str | None = None, starts: bool = False) -> None:
        """Begin a slide; one on which nothing new stands is dropped, and its notes go to the slide before."""
        old = self.slide
        if all(block.again for block in old.blocks):
            self.slides[-1].notes += old.notes
            starts = starts or old.starts
        else:
            self.slides.append(old)
        heading = old.heading if heading is None else heading
        self.slide = Slide(heading, old.kicker if kicker is None else kicker, starts=starts)

    def _add(self, block: Block) -> None:
        blocks = self.slide.blocks
        asks = block.kind in ("predict", "question")
        if asks and any(b.kind != "text" for b in blocks):  # the answer to another one, or a figure: a slide of its own
            said_before = self._last(lambda b: b.cell == block.cell and b.kind == "text")
            self.turn()
            self.slide.blocks += said_before
        elif blocks and not self.slide.fits([*blocks, block]):
            last = blocks[-1]
            if about := self._about_a_figure(block):
                self.turn()
                self.slide.blocks += about
            elif _belongs(last, block) and Slide(self.slide.heading, self.slide.kicker).fits([last, block]):
                announced = self._last(lambda b: b is last)
                self.turn()
                self.slide.blocks += announced
            else:
                self.turn()
        self.slide.blocks.append(block)

    def _about_a_figure(self, block: Block) -> list[Block]:
        """What goes along with a text that is about the slide's figure: the figure again, and what was said already."""
        blocks = self.slide.blocks
        at = max((n for n, b in enumerate(blocks) if b.kind == "figure"), default=-1)
        said = [b for b in blocks[at + 1 :] if b.cell != blocks[at].cell]  # what its own cell printed stays with it
        if at < 0 or block.kind != "text" or block.answer:
            return []
        if any(b.cell != block.cell or not b.paragraphs for b in said):
            return []
        turned = Slide(self.slide.heading, self.slide.kicker)
        large, small = (again(blocks[at], width) for width in (WIDE, REMINDER))
        for shown in (large, small):
            if not blocks[at].again and turned.fits([shown, *said, block]):
                self.slide.blocks = [b for b in blocks if b not in said]
                return [shown, *said]
        return [small] if turned.fits([small, block]) else []

    def _last(self, goes_along: Callable[[Block], bool]) -> list[Block]:
        """Take from the slide what goes along to the next one, unless that is all."""
        blocks = self.slide.blocks
        first = len(blocks)
        while first and goes_along(blocks[first - 1]):
            first -= 1
        if not first:
            return []
        self.slide.blocks = blocks[:first]
        return blocks[first:]


def _belongs(last: Block, block: Block) -> bool:
    """Whether the last block on a slide says what the next one is."""
    return last.leads or (block.kind == "formula" and last.kind == "text" and last.cell == block.cell)


def again(figure: Block, width: float) -> Block:
    """The same figure on another slide; the page's script gives it the same picture, which is in the file once."""
    tag = copy.copy(figure.tag)
    assert tag.img is not None
    if not figure.again:
        tag.img["data-same"] = tag.img["id"]
        del tag.img["src"], tag.img["id"]
    factor = min(1, width / figure.wide)
    tall, wide = figure.tall * factor, figure.wide * factor
    if factor < 1:
        tag["style"] = f"--height: {tall:.0f}px"
    return replace(figure, tag=tag, tall=tall, wide=wide, again=True, small=width < WIDE)


def short_title(post: Post) -> str:
    """Without the chapter's number."""
    return re.sub(r"\A\d+ · ", "", post.title)


def opening(items: list[Item], post: Post) -> tuple[list[str], list[Item]]:
    """The notes to the title, and the items that are left: the title slide has the question already."""
    notes: list[str] = []
    found: list[Item] = []
    for item in items:
        said = " ".join(item.tag.get_text().split()) if isinstance(item, Block) and item.cell == 0 else ""
        if said == re.sub(r"[*`]", "", post.question) and said:
            continue
        if said == GOALS:
            found.append(Heading(said, 3))
        elif LABEL.match(said) and isinstance(item, Block):
            notes.append(str(item.tag))
        else:
            found.append(item)
    return notes, found


def finish_sentences(items: list[Item]) -> None:
    """A colon becomes a full stop where it announces nothing but code that is not shown."""
    for item, following in zip(items, [*items[1:], None], strict=True):
        if isinstance(item, Block) and item.leads and not isinstance(following, Block):
            last = [text for text in item.tag.find_all(string=True) if text.strip()][-1]
            last.replace_with(NavigableString(re.sub(r":(\s*)\Z", r".\1", last)))


def arrange(post: Post, items: list[Item]) -> list[Slide]:
    """The slides in their order, the first of which is the title's."""
    arrangement = Arrangement(post)
    arrangement.slides[0].notes, items = opening(items, post)
    finish_sentences(items)
    for item in items:
        arrangement.put(item)
    arrangement.turn()
    return arrangement.slides


# From slides to a page


def body(slide: Slide) -> str:
    """What stands below the heading; what answers something on the same slide waits for a key press."""
    asked: int | None = None
    waiting: list[int] = []
    texts = []
    blocks = joined(slide.blocks)
    for block in blocks:
        if block.answer or (asked is not None and block.cell > asked):
            if block.cell not in waiting:
                waiting.append(block.cell)
            block.tag["class"] = " ".join([*classes(block.tag), "fragment"])
            block.tag["data-fragment-index"] = str(waiting.index(block.cell))
        if block.kind in ("predict", "question"):
            asked = block.cell
        texts.append(str(block.tag))
    if figure := slide.beside(blocks):
        at = blocks.index(figure)
        column = "\n".join(texts[:at] + texts[at + 1 :])
        wide = f"--wide: {slide.beside_width(figure):.0f}px"
        return f'<div class="body side" style="{wide}">\n<div class="column">\n{column}\n</div>\n{texts[at]}\n</div>\n'
    kind = ""
    if slide.heading == READING:
        kind = " small"
    elif prose := slide.prose():
        kind = " brief" if prose < BRIEF else " prose"
    return f'<div class="body{kind}">\n' + "\n".join(texts) + "\n</div>\n"


def section(inside: str, foot: str, notes: list[str], kind: str = "slide") -> str:
    """One slide in HTML."""
    said = f'<aside class="notes">\n{"".join(notes)}\n</aside>\n' if notes else ""
    return f'<section class="{kind}"><div class="frame">\n{inside}{foot}</div>\n{said}</section>\n'


def title_slide(post: Post) -> str:
    """Course, number, title and question."""
    course, _ = posts.front_page()
    number = re.match(r"\d+", post.title)
    before = f'<span class="number">{number[0]}</span> ' if number else ""
    asks = f'<p class="asks">{_unbroken(re.sub(r"[*`]", "", post.question))}</p>\n' if post.question else ""
    return f'<p class="course">{html.escape(course)}</p>\n<h1>{before}{_unbroken(short_title(post))}</h1>\n{asks}'


def _unbroken(text: str) -> str:
    """Text in large letters, in which no line breaks at a hyphen."""
    return html.escape(text).replace("-", "\N{NON-BREAKING HYPHEN}")


def sources(post: Post, command: str) -> str:
    """The colophon of the page, and the library."""
    rows = posts.colophon(post, command)
    rows.insert(-1, posts.row("Slides", [{"text": f"reveal.js {REVEAL}, MIT, Hakim El Hattab and contributors"}]))
    entries = []
    for row in rows:
        entries.append(f"<dt>{html.escape(row['term'])}</dt>")
        for pieces in row["entries"]:
            said = "".join(
                f"<code>{html.escape(p['code'])}</code>" if "code" in p else html.escape(p["text"]) for p in pieces
            )
            entries.append(f"<dd>{said}</dd>")
    return (
        '<header><h2>Sources</h2></header>\n<div class="body">\n<dl class="sources">\n'
        + "\n".join(entries)
        + "\n</dl>\n</div>\n"
    )


def page(post: Post, slides: list[Slide], command: str) -> str:
    """The whole file."""
    total = len(slides) + 1
    sections = []
    for number, slide in enumerate(slides, 1):
        if slide.starts:
            sections.append("</section>\n<section>\n")
        if number == 1:
            sections.append(section(title_slide(post), "", slide.notes, "slide title"))
            continue
        kicker = f'<p class="kicker">{slide.kicker}</p>\n' if slide.kicker else ""
        head = f"<header>\n{kicker}<h2>{slide.heading}</h2>\n</header>\n"
        sections.append(section(head + body(slide), foot(post, number, total), slide.notes))
    sections.append("</section>\n<section>\n")
    sections.append(section(sources(post, command), foot(post, total, total), []))
    course, _ = posts.front_page()
    reveal = npm.package("reveal.js")
    parts = {
        "generator": GENERATOR,
        "author": html.escape(posts.authors()),
        "title": html.escape(f"{post.title} · {course}"),
        "version": REVEAL,
        "licence": _read(reveal / "LICENSE"),
        "reveal_css": _read(reveal / "dist" / "reveal.css"),
        "style": _read(DECK / "style.css"),
        "slides": "".join(sections).removeprefix("</section>\n") + "</section>\n",
        "reveal_js": _script(reveal / "dist" / "reveal.js"),
        "notes_js": _script(reveal / "dist" / "plugin" / "notes.js"),
        "script": _script(DECK / "page.js"),
    }
    return re.sub(r"\{(\w+)\}", lambda found: parts[found[1]], _read(DECK / "page.html"))


def foot(post: Post, number: int, total: int) -> str:
    """The line below a slide."""
    return f"<footer><span>{html.escape(post.title)}</span><span>{number} / {total}</span></footer>\n"


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def _script(file: Path) -> str:
    """A script inside a page ends at these letters, wherever they stand; JavaScript reads the same with a backslash."""
    return _read(file).replace("</script", r"<\/script").replace("<!--", r"<\!--")


def build(path: Path, code: bool) -> tuple[str, int]:
    """The page of a notebook and the number of its slides; a ToolError names whatever keeps it from being shown."""
    post = posts.read(path)
    posts.refuse_what_is_stored(post)
    exporter = SlideExporter(post, Links(path.resolve().parent, {}), code)
    slides = arrange(post, list(exporter.items()))
    if post.faults:
        raise ToolError("\n".join(dict.fromkeys(post.faults)))
    named = path.stem[:2] if path in notebooks.chapters() else posts.inside(path)
    command = shlex.join(["python3", "run.py", "slides", named, *(["--code"] if code else [])])
    return page(post, slides, command), len(slides) + 1


# The command


def find(name: str) -> list[Path]:
    """The notebooks that a name means: a number, a file's name or path, or all."""
    if name == "all":
        return notebooks.chapters()
    if Path(name).is_file() and name.endswith(".ipynb"):
        return [Path(name).resolve()]
    number = f"{int(name):02d}_" if name.isdecimal() else None
    named = Path(name).name.removesuffix(".ipynb")
    for path in notebooks.all_notebooks():
        if path.stem == named or (number and path.stem.startswith(number)):
            return [path]
    known = ", ".join(path.stem for path in notebooks.all_notebooks())
    raise ToolError(f"There is no chapter {name!r}. Give a number, a notebook's file, or all; there are {known}.")


def write(path: Path, text: str) -> None:
    """Replace nothing but earlier slides, and those only as a whole."""
    if path.exists() and f'content="{GENERATOR}"' not in path.read_text(encoding="utf-8", errors="replace")[:2000]:
        raise ToolError(f"{path} is something other than slides; give another folder with --out, or remove it.")
    files.write(path, text.encode())


def main(arguments: list[str] | None = None) -> int:
    """The command line: 0 when all is written, 2 when something is not."""
    parser = argparse.ArgumentParser(
        prog="python3 run.py slides",
        description="Chapters as slide shows: one HTML file for each, which works without a network. No cell is "
        "executed; a notebook that was changed since it was run, or that contains an error or a figure without alt "
        "text, is refused.",
        epilog="In the show: space or the arrows go on, S opens the speaker's window with the notes, Esc shows all "
        "slides, F fills the screen. To print, open the file with ?view=print at the end of its address.",
    )
    parser.add_argument("chapters", nargs="+", metavar="CHAPTER", help="a number such as 07, a notebook's file, or all")
    parser.add_argument("--out", type=Path, default=Path("slides"), help="the folder (%(default)s)")
    parser.add_argument("--code", action="store_true", help="show the code, which is otherwise in the speaker notes")
    options = parser.parse_args(arguments)
    failed = False
    try:
        paths = list(dict.fromkeys(path for name in options.chapters for path in find(name)))
    except ToolError as error:
        print(error, file=sys.stderr)
        return 2
    made = []
    for path in tqdm(paths, desc="slides", unit="chapter", disable=None, leave=False):
        out = options.out / f"{path.stem}.html"
        try:
            text, count = build(path, options.code)
            write(out, text)
        except (ToolError, OSError) as error:
            print(f"{error}\n{out} was not written.", file=sys.stderr)
            failed = True
            continue
        made.append(f"{out}  {count} slides, {len(text.encode()) / 1e6:.1f} MB")
    print("\n".join(made) if made else "No slides were written.")
    return 2 if failed else 0
