"""The page's document: camlib's explorer, with what the live page has beside it."""

import re
from pathlib import Path

from camlib import page
from tools import address
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
LINK = re.compile(r'<a href="(?P<chapter>\d\d_\w+\.ipynb)">(?P<text>[^<]+)</a>')
SCRIPT = """\
<script src="explorer.js"></script>
<script type="module" src="live.js"></script>"""


def _to_chapter(found: re.Match[str]) -> str:
    """A link to a chapter on the web; only its text where the repository has no address yet."""
    target = address.source(ROOT / "notebooks" / found["chapter"])
    return f'<a href="{target}">{found["text"]}</a>' if target else found["text"]


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
