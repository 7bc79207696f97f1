"""What the site has besides its posts: documents, the API reference, a feed, a sitemap, and tags for links to it."""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

from nbformat.v4 import new_markdown_cell, new_notebook

from tools import pages, reference
from tools.pages import Post, with_ids

DOCUMENTS = {  # the Markdown files that are pages, too, and how these are called
    "docs/*.md": "{}",
    "evidence/README.md": "findings",
    "CHANGELOG.md": "changelog",
    "tools/post/README.md": "write",
    "notebooks/instructor/README.md": "teach",
    "notebooks/instructor/*.md": "teach_{}",
}
CARD = "card.jpg"  # what is shown where somebody links to the site
LISTS = {"notebooks": "Chapters", "deep_dives": "Deep dives"}  # folder -> what its notebooks are


def documents() -> list[Post]:
    """The documents, each as a post of one cell."""
    found: dict[Path, str] = {}
    for pattern, name in DOCUMENTS.items():
        for path in sorted(pages.ROOT.glob(pattern)):
            found.setdefault(path, name.format(path.stem))
    return [_document(name, path) for path, name in found.items()]


def reference_pages() -> list[Post]:
    """The API reference, each page as a post of one cell."""
    return [_post(page.name, page.path, page.title, page.summary, page.text) for page in reference.pages()]


def _document(name: str, path: Path) -> Post:
    text = path.read_text(encoding="utf-8")
    title, _, text = text.partition("\n")
    first = re.search(r"^[^#<|`\n][^\n]*(?:\n[^\n]+)*", text, re.M)
    return _post(name, path, title.removeprefix("# "), first[0] if first else "", text)


def _post(name: str, path: Path, title: str, said: str, text: str) -> Post:
    notebook = with_ids(new_notebook(cells=[new_markdown_cell(text)]))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Post(path, notebook, digest, title, plain(said), name=name)


def plain(markdown: str) -> str:
    """Markdown in one line without its marks, for the description of a page."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", markdown)
    return " ".join(text.split())


def lists(site: Sequence[Post]) -> dict[str, list[Post]]:
    """The notebooks by kind, for the front page."""
    found: dict[str, list[Post]] = {}
    for post in site:
        found.setdefault(LISTS.get(post.path.resolve().parent.name, "Posts"), []).append(post)
    return found


# For programs that read the site


def published(post: Post, release: str) -> date:
    """The date of a post: that in its notebook's metadata, or that of the release. Neither changes with the day."""
    return date.fromisoformat(str(post.notebook.metadata.get("date", release)))


def feed(site: Sequence[Post], title: str, author: str, release: str, base: str) -> str:
    """feed.xml (Atom): the posts, the newest first. Without the site's address (base), its links are relative."""
    dated = sorted(((published(post, release), post) for post in site), key=lambda entry: entry[0], reverse=True)
    entries = [
        f"<entry>\n<title>{_e(post.title)}</title>\n<id>{_id(post.name)}</id>\n"
        f'<link href="{base}{quote(post.name)}.html"/>\n<updated>{day}T00:00:00Z</updated>\n'
        f"<summary>{_e(post.question)}</summary>\n</entry>\n"
        for day, post in dated
    ]
    newest = max((day for day, _ in dated), default=release)
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<feed xmlns="http://www.w3.org/2005/Atom" xml:lang="en">\n'
        f"<title>{_e(title)}</title>\n<id>{_id('')}</id>\n<updated>{newest}T00:00:00Z</updated>\n"
        f'<author><name>{_e(author)}</name></author>\n<link rel="self" href="{base}feed.xml"/>\n'
        f'<link href="{base}index.html"/>\n{"".join(entries)}</feed>\n'
    )


def _id(name: str) -> str:
    """The same for a post for ever, wherever the site is."""
    return f"urn:uuid:{uuid5(NAMESPACE_URL, f'camlib posts {name}')}"


def _e(text: str) -> str:
    return html.escape(text, quote=False)


def sitemap(names: Sequence[str], base: str) -> str:
    """sitemap.xml: the address of every page."""
    rows = "".join(f"<url><loc>{base}{quote(name)}</loc></url>\n" for name in names)
    start = '<?xml version="1.0" encoding="utf-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n'
    return f"{start}{rows}</urlset>\n"


def share(post: Post | None, about: Mapping[str, str], base: str) -> dict[str, str]:
    """The tags by which other sites show a link to a page (Open Graph); none without the site's address."""
    if not base:
        return {}
    name = "" if post is None else f"{quote(post.name)}.html"
    return {
        "og:type": "article" if post else "website",
        "og:title": post.title if post else about["site"],
        "og:description": about["description"],
        "og:url": base + name,
        "og:site_name": about["site"],
        "og:image": base + CARD,
        "og:image:alt": about["picture_alt"],
    }
