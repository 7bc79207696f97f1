"""The page's document: camlib's explorer, with what the live page has beside it."""

import hashlib
import re
from collections.abc import Set
from pathlib import Path

from camlib import page
from tools import address
from tools.errors import ToolError
from tools.notebooks import ROOT

PARTS = Path(__file__).parent / "parts"
POLICY = "; ".join([
    "default-src 'none'",
    "script-src 'self' 'wasm-unsafe-eval'",
    "worker-src 'self'",
    "connect-src 'self'",  # so nothing can leave the computer, whatever the scripts do
    "img-src 'self' blob: data:",
    "media-src blob:",
    "style-src 'self' 'unsafe-inline'",
    "manifest-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
])  # fmt: skip
TITLE = "Where did the network see that?"
STYLE = """\
<link rel="stylesheet" href="explorer.css">
<link rel="stylesheet" href="live.css">
<link rel="manifest" href="manifest.webmanifest">
<link rel="icon" href="icon.svg">
<link rel="apple-touch-icon" href="icon-180.png">
<meta name="theme-color" content="#f7f6f3" media="(prefers-color-scheme: light)">
<meta name="theme-color" content="#131315" media="(prefers-color-scheme: dark)">"""
LINK = re.compile(r'<a href="(?P<chapter>\d\d_\w+)\.ipynb">(?P<text>[^<]+)</a>')
MARKED = re.compile(r'<(?P<tag>a|span) data-chapter="(?P<chapter>\w+)"[^>]*>(?P<text>[^<]+)</(?P=tag)>')
HOME = '<span id="home"></span>'  # where a link to the site goes
VERSION = re.compile(rb'(?<=VERSION = ")[0-9a-f]{16}(?=";)')  # of the service worker, filled in by the build
SCRIPT = """\
<script src="explorer.js"></script>
<script type="module" src="live.js"></script>"""


def _to_chapter(found: re.Match[str]) -> str:
    """A link to a chapter on the web; only its text where the repository has no address yet."""
    target = address.source(ROOT / "notebooks" / f"{found['chapter']}.ipynb")
    mark = f'data-chapter="{found["chapter"]}"'
    return f'<a {mark} href="{target}">{found["text"]}</a>' if target else f"<span {mark}>{found['text']}</span>"


def in_site(files: dict[str, bytes], chapters: Set[str]) -> dict[str, bytes]:
    """A built page that lies in the site's folder live/: it leads back to the contents, and to these chapters."""

    def link(found: re.Match[str]) -> str:
        there = found["chapter"] in chapters
        return f'<a href="../{found["chapter"]}.html" target="_top">{found["text"]}</a>' if there else found[0]

    text, worker = files["index.html"].decode(), files["sw.js"]
    if HOME not in text or not VERSION.search(worker):
        raise ToolError("The live page is from an older version of the course; build it again: python3 run.py live")
    text = MARKED.sub(link, text).replace(HOME, '<a href="../index.html" target="_top">All chapters of the course</a>')
    version = hashlib.sha256(VERSION.findall(worker)[0] + text.encode()).hexdigest()[:16]  # browsers fetch it anew
    return files | {"index.html": text.encode(), "sw.js": VERSION.sub(version.encode(), worker)}


def files() -> dict[str, bytes]:
    """index.html, and the explorer's style and script, which camlib's own pages hold inline."""
    parts = {path.stem: path.read_text(encoding="utf-8") for path in PARTS.glob("*.html")}
    parts["more"] = LINK.sub(_to_chapter, parts["more"])
    document = page.assembled(
        title=TITLE,
        policy=POLICY,
        style=STYLE,
        main=page.markup(**parts).replace("What the network saw", TITLE),
        data=page.as_json(page.settings()),
        script=SCRIPT,
    ).replace("<body>", '<body class="empty">')
    return {"index.html": document.encode()} | {
        name: page.part(name).encode() for name in ("explorer.css", "explorer.js")
    }
