"""Writes what follows from course.toml, pyproject.toml and the notebooks: `python3 run.py update`.

- In a Markdown file, what stands between `<!-- NAME: written by run.py update -->` and `<!-- end of NAME -->`.
- In the first cell of a chapter or a deep dive: title, question, minutes and the list of chapters. In the first code
  cell, which fetches the course where a notebook stands alone: the address.
- The first line of each teachers' page, and CITATION.cff.

No notebook has to run again. `python3 run.py address` sets the repository's address, then does the same.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import yaml
from nbformat import NotebookNode

from tools import address, catalogue, files, notebooks
from tools.catalogue import Lesson
from tools.errors import ToolError, reported
from tools.minutes import reading

ROOT = notebooks.ROOT
TEACHERS = ROOT / "notebooks" / "instructor"
FOR_TEACHERS = " (for teachers)"  # ends the title of a page about a chapter or an exercise, which has the same
BLOCK = re.compile(
    r"(<!-- (?P<name>[a-z ]+): written by run\.py update -->\n).*?(<!-- end of (?P=name) -->)", re.DOTALL
)
LIST = re.compile(r"\*All chapters:\*.*?(?=\n\n|\Z)", re.DOTALL)
STATED = re.compile(r"\*You need:\*(?P<need>.*?)\*Time:\*\s(?P<time>[\w ]+).*?\*Points:\*\s(?P<points>\d+)", re.DOTALL)
TIME = re.compile(r"\*Time:\* \d+ minutes")


# The parts of Markdown files


def minutes_of(lesson: Lesson) -> int:
    """By the rule of tools/minutes.py."""
    return reading(notebooks.read(lesson.path)).minutes


def table(columns: str, rows: Iterable[Iterable[object]], align: str = "---") -> str:
    """Markdown: the columns, `a | b | c`, and the cells of each row. align: of every column but the first."""
    line = "|".join(["---", *[align] * columns.count("|")])
    cells = (" | ".join(str(cell).replace("|", r"\|") for cell in row) for row in rows)
    return "\n".join([f"| {columns} |", f"|{line}|", *(f"| {row} |" for row in cells)])


def try_it() -> str:
    """The badges at the top of the README, and what they offer."""
    first = catalogue.chapters()[0].path
    if not address.github():
        return ""
    return f"""To try it without installing anything:
[![Run chapter 00 on Colab](data/run_on_colab.svg)]({address.colab(first)})
[![Run chapter 00 on Binder](data/run_on_binder.svg)]({address.binder(first)})
On Colab, the first code cell of a chapter (folded in JupyterLab) fetches the course and installs what is missing.
Public Binder gives you 2 GB of memory, which is too little for chapters {_too_large()}."""


def _too_large() -> str:
    return " and ".join(lesson.number for lesson in catalogue.chapters() if not lesson.binder)


def chapter_table() -> str:
    """The README's table of the chapters, with links to Colab and Binder where there is an address for them."""
    columns, rows, links = " | chapter | the question | minutes", [], []
    for lesson in catalogue.chapters():
        path = address.inside(lesson.path)
        row = [lesson.number, f"[{lesson.title}]({path})", lesson.question, minutes_of(lesson)]
        services = {"Colab": address.colab(lesson.path), "Binder": address.binder(lesson.path)}
        there = {f"{name[0].lower()}{lesson.number}": (name, link) for name, link in services.items() if link}
        if address.github():
            row.append(" · ".join(f"[{name}][{short}]" for short, (name, _) in there.items()))
        rows.append(row)
        links += [f"[{short}]: {link}" for short, (_, link) in there.items()]
    text = table(columns + (" | on the web" if address.github() else ""), rows)
    return "\n".join([text, *(["", *links] if links else [])])


def deep_dive_table() -> str:
    """The README's table of the deep dives."""
    return table("deep dive | the question | minutes", [
        (f"[{lesson.title}]({address.inside(lesson.path)})", lesson.question, minutes_of(lesson))
        for lesson in catalogue.deep_dives()
    ])  # fmt: skip


def photo_table() -> str:
    """The table of data/README.md."""
    return table("file | what it teaches; top 1 | source | author, licence | attribution owed", [
        (f"`{p.file}`", p.teaches, p.source, p.terms, "yes" if p.attribution else "no")
        for p in catalogue.photos().values()
    ])  # fmt: skip


def photo_digests() -> str:
    """The photographs' sha256, as `sha256sum --check` reads it in the folder data/."""
    photos = [ROOT / "data" / "photos" / name for name in sorted(catalogue.photos())]
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  photos/{path.name}" for path in photos]
    return "\n".join(["```", *lines, "```"])


def _in_bibtex(author: str | dict[str, str]) -> str:
    return f"{{{author}}}" if isinstance(author, str) else f"{author['family-names']}, {author['given-names']}"


def bibtex() -> str:
    """The README's entry for a bibliography."""
    said, project = catalogue.course()["course"], catalogue.project()
    fields = {
        "author": " and ".join(_in_bibtex(author) for author in said["authors"]),
        "title": said["title"],
        "version": project["version"],
        "year": str(said["released"].year),
    }
    if repository := address.repository():
        fields["url"] = repository
    lines = ",\n".join(f"  {name:<7} = {{{value}}}" for name, value in fields.items())
    return f"```bibtex\n@software{{{project['name']},\n{lines}\n}}\n```"


class Exercise(NamedTuple):
    """What a graded exercise says of itself in its first cell."""

    name: str
    heading: str
    after: str  # the last chapter that it needs
    time: str
    points: str


def exercises() -> list[Exercise]:
    """The graded exercises in the order of their chapters, the project last."""
    found = []
    for path in address.EXERCISES.glob("*.ipynb"):
        first = notebooks.read(path).cells[0].source
        said = STATED.search(first)
        if not said:
            raise ToolError(f"{path}: the first cell must have *You need:*, *Time:* and *Points:*, in this order")
        after = max(re.findall(r"\b\d\d\b", said["need"]))
        found.append(Exercise(path.stem, first.splitlines()[0], after, said["time"], said["points"]))
    return sorted(found, key=lambda exercise: (int(exercise.points), exercise.after))


def exercise_table() -> str:
    """The table of the syllabus."""
    rows = ((f"[{e.name}](graded/{e.name}.md)", e.after, e.time, e.points) for e in exercises())
    return table("exercise | after chapter | time | points", rows, align="--:")


def exercise_links() -> str:
    """Their names in a row, for marks.md."""
    return " · ".join(f"[{e.name}](graded/{e.name}.md)" for e in exercises())


def clone() -> str:
    """How an administrator gets the course, for students.md."""
    where = address.repository() or "ADDRESS"
    note = "" if address.repository() else "      # the address of your copy of the course"
    return f"""```
git clone {where} /srv/course{note}
cd /srv/course && python3 run.py set-up --cpu      # makes /srv/course/.venv; on Windows: py -3 run.py …
```"""


def hub_link() -> str:
    """A link with which nbgitpuller brings the course into a student's home, for servers.md."""
    repository = address.repository() or "https://ADDRESS-OF-YOUR-COPY"
    folder = repository.rpartition("/")[2] if address.repository() else "FOLDER"
    first = f"lab/tree/{folder}/{address.inside(catalogue.chapters()[0].path)}"
    where = f"git-pull?repo={quote(repository, safe='')}&branch={address.BRANCH}&urlpath={quote(first, safe='')}"
    put = "Replace `HUB` with your hub's address."
    if not address.repository():
        put += " `python3 run.py address` fills in the rest."
    return f"```\nhttps://HUB/hub/user-redirect/{where}\n```\n\n{put}"


def binder_link() -> str:
    """The link to Binder, for servers.md."""
    link = address.binder(catalogue.chapters()[0].path)
    return f"The link: `{link}`" if link else ""


BLOCKS: dict[str, Callable[[], str]] = {
    "try it": try_it,
    "chapters": chapter_table,
    "deep dives": deep_dive_table,
    "citation": bibtex,
    "photos": photo_table,
    "digests": photo_digests,
    "exercises": exercise_table,
    "exercise links": exercise_links,
    "clone": clone,
    "hub link": hub_link,
    "binder": binder_link,
}


def markdown_files() -> list[Path]:
    """Where such parts may stand."""
    return [ROOT / "README.md", ROOT / "data" / "README.md", *sorted((ROOT / "docs").glob("*.md")),
            *sorted(TEACHERS.rglob("*.md"))]  # fmt: skip


def with_blocks(path: Path) -> str:
    """The text of a Markdown file with its parts up to date."""

    def block(found: re.Match[str]) -> str:
        if found["name"] not in BLOCKS:
            raise ToolError(f"{path}: nothing is called {found['name']!r}; there are: {', '.join(BLOCKS)}")
        text = BLOCKS[found["name"]]()
        return f"{found[1]}\n{text}\n\n{found[3]}" if text else f"{found[1]}{found[3]}"

    return BLOCK.sub(block, path.read_text(encoding="utf-8"))


# Notebooks, teachers' pages and the citation


def with_first_cell(notebook: NotebookNode, lesson: Lesson) -> NotebookNode:
    """A chapter or a deep dive with title, question, minutes and the list of chapters as they should be."""
    first = notebook.cells[0]
    _, question, *rest = first.source.split("\n\n")
    if not question.startswith("**") or not TIME.search(first.source):
        raise ToolError(f"{lesson.path}: the first cell must have the question in bold and *Time:* N minutes")
    text = "\n\n".join([lesson.heading, f"**{lesson.question}**", *rest])
    first.source = LIST.sub(lambda _: chapter_list(lesson), text)
    needed = reading(notebook).minutes
    first.source = TIME.sub(f"*Time:* {needed} minutes", first.source)
    return notebook


def chapter_list(here: Lesson) -> str:
    """The list of all chapters in the first one."""
    links = [
        f"{lesson.number} {lesson.title}"
        if lesson == here
        else f"[{lesson.number}]({os.path.relpath(lesson.path, here.path.parent)}) {lesson.title}"
        for lesson in catalogue.chapters()
    ]
    text = " ·\n".join(links)
    return f"*All chapters:* {text}"


def citation() -> str:
    """The text of CITATION.cff. An author is a name, or given-names, family-names and what else the format knows."""
    said, project = catalogue.course()["course"], catalogue.project()
    content = {
        "cff-version": "1.2.0",
        "message": "If you use this course or its package camlib, please cite it as below.",
        "type": "software",
        "title": said["title"],
        "abstract": " ".join(said["abstract"].split()),
        "authors": [{"name": author} if isinstance(author, str) else author for author in said["authors"]],
        "version": project["version"],
        "date-released": str(said["released"]),
        "license": project["license"],
        "keywords": said["keywords"],
    }
    if repository := address.repository():
        content["repository-code"] = repository
    head = "# Written by `python3 run.py update` from course.toml and pyproject.toml.\n"
    return head + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110)


def wanted_texts() -> dict[Path, str]:
    """Every text file that follows, and what it should hold."""
    texts = {path: with_blocks(path) for path in markdown_files()}
    headings = {TEACHERS / f"{lesson.path.stem}.md": lesson.heading for lesson in catalogue.chapters()}
    headings |= {TEACHERS / "graded" / f"{e.name}.md": e.heading for e in exercises()}
    for path, heading in headings.items():
        if path in texts:  # a chapter may still lack its page
            texts[path] = f"{heading}{FOR_TEACHERS}\n" + texts[path].partition("\n")[2]
    return texts | {ROOT / "CITATION.cff": citation()}


def wanted_notebooks() -> dict[Path, bytes]:
    """Every notebook that follows, and what it should hold: those of the course, and others that have the cell."""
    lessons = {lesson.path: lesson for lesson in [*catalogue.chapters(), *catalogue.deep_dives()]}
    wanted = {}
    for path in sorted((ROOT / "notebooks").rglob("*.ipynb")):
        notebook = notebooks.read(path)
        if ".ipynb_checkpoints" in path.parts or (path not in lessons and address.its_cell(notebook) is None):
            continue
        if path in lessons:
            notebook = with_first_cell(notebook, lessons[path])
        notebook = address.with_cell(notebook, path)
        # The cells of an exercise keep their ids: by them the grader knows what students have copied and pasted.
        wanted[path] = notebooks.to_bytes(
            notebook if path.parent == address.EXERCISES else notebooks.normalise(notebook)
        )
    return wanted


def out_of_date() -> Iterator[tuple[Path, bytes]]:
    """Every file that does not follow, and what it should hold. Notebooks come first: tables name their minutes."""
    lessons = {x.path for x in [*catalogue.chapters(), *catalogue.deep_dives()]}
    photos = {path.name for path in (ROOT / "data" / "photos").iterdir() if not path.name.startswith(".")}
    unlisted = {"title and question": {path.name for path in set(notebooks.all_notebooks()) - lessons},
                "source, author and licence": photos - catalogue.photos().keys()}  # fmt: skip
    for needed, names in unlisted.items():
        if names:
            raise ToolError(f"{', '.join(sorted(names))}: not in course.toml; add {needed}")
    for path, content in wanted_notebooks().items():
        if path.read_bytes() != content:
            yield path, content
    for path, text in wanted_texts().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            yield path, text.encode()


# The command


@reported
def main(arguments: list[str]) -> int:
    """The command line: 0 when everything is up to date, 1 when `--check` finds that it is not, 2 when it cannot be."""
    parser = argparse.ArgumentParser(prog="python3 run.py update", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; say what is out of date")
    options = parser.parse_args(arguments)
    changed = 0
    for path, content in out_of_date():
        changed += 1
        print(f"{notebooks.from_here(path)}: {'out of date' if options.check else 'changed'}")
        if not options.check:
            files.write(path, content)
    if options.check and changed:
        print("Run: python3 run.py update")
        return 1
    where = address.repository() or "no address on the web yet: python3 run.py address"
    print(f"{'all' if not changed else 'now all'} up to date; {where}")
    return 0
