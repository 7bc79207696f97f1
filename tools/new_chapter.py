"""A chapter, to be filled in: `python3 run.py new-chapter TITLE="…" QUESTION="…?"`.

It writes the notebook in the form of a lesson, the module that checks its exercises, a test of the checks, and the page
for teachers, and enters the chapter in course.toml and in the teachers' list. All of it works as it is: change one part
after the other.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tools import catalogue, notebooks, update
from tools.errors import ToolError, reported
from tools.files import write
from tools.scaffold import TEMPLATES, filled, lesson, module_name, value, write_new

ROOT = notebooks.ROOT


def add_line(path: Path, after: str, line: str) -> None:
    """Put a line behind the last one that holds a text."""
    lines = path.read_text(encoding="utf-8").splitlines()
    last = max((n for n, text in enumerate(lines) if after in text), default=None)
    if last is None:
        raise ToolError(f"{path.relative_to(ROOT)}: no line with {after!r}, behind which the new one belongs.")
    lines.insert(last + 1, line)
    write(path, ("\n".join(lines) + "\n").encode())


def make(title: str, question: str) -> list[Path]:
    """Write the chapter's files; nothing that is there already is touched."""
    title, question = value(title), value(question)
    module = module_name(title)
    if not question.endswith("?"):
        raise ToolError(f"{question!r}: a chapter answers one question; end it with a question mark.")
    number = f"{len(catalogue.chapters()):02d}"
    before = catalogue.chapters()[-1].path
    values = {"number": number, "title": title, "question": question, "module": module, "stem": f"{number}_{module}"}
    chapter = ROOT / "notebooks" / f"{values['stem']}.ipynb"
    files = {
        chapter: notebooks.to_bytes(lesson(TEMPLATES / "chapter.txt", chapter, values)),
        ROOT / "notebooks" / "checks" / f"{module}.py": filled(TEMPLATES / "check.txt", values).encode(),
        ROOT / "tests" / "checks" / f"test_{module}.py": filled(TEMPLATES / "check_test.txt", values).encode(),
        update.TEACHERS / f"{chapter.stem}.md": filled(TEMPLATES / "instructor.txt", values).encode(),
    }
    write_new(files)
    entry = f"\n[[chapters]]\nfile = {json.dumps(chapter.name)}\n"
    entry += f"title = {json.dumps(title, ensure_ascii=False)}\nquestion = {json.dumps(question, ensure_ascii=False)}\n"
    course = ROOT / "course.toml"
    write(course, (course.read_text(encoding="utf-8") + entry).encode())
    add_line(update.TEACHERS / "README.md", f"({before.stem}.md)", f"| more | [{number}]({chapter.stem}.md): {title} |")
    catalogue.course.cache_clear()
    return list(files)


@reported
def main(arguments: list[str]) -> int:
    """The command line: 0 when the chapter is there, 2 when not."""
    parser = argparse.ArgumentParser(prog="python3 run.py new-chapter", description="A chapter, to be filled in.")
    parser.add_argument("title", metavar='TITLE="…"', help="the title; the files are named after it")
    parser.add_argument("question", metavar='QUESTION="…?"', help="the one question that it answers")
    options = parser.parse_args(arguments)
    paths = make(options.title, options.question)
    if code := update.main([]):
        return code
    chapter, check, test, page = (notebooks.from_here(path) for path in paths)
    print(f"""
{chapter}   the lesson: python3 run.py lab {chapter}
{check}   what its exercises' checks say
{test}   right answers, and the mistakes that the checks name
{page}   the teachers' page

Fill them in, one part after the other. After each change:
  python3 run.py notebooks {chapter}   runs the notebook and stores its outputs
  python3 run.py update                minutes, tables and links
  python3 run.py test {chapter} {test} tests/test_chapters.py tests/test_instructor.py
At the end, measure what the chapter costs (until then, tests/test_instructor.py asks for it):
  python3 run.py footprint {chapter}   prints a row for the table in notebooks/instructor/servers.md""")
    return 0
