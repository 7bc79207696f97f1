"""A real browser, cut off from the network, whose every complaint is a failure."""

import io
import shutil
import tempfile
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from tools.errors import ToolError
from tools.files import write_folder

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
    "--use-fake-device-for-media-stream",  # a camera that shows a test picture, to pages that are allowed one
]
ALLOWED = ("file:", "data:", "blob:", "about:", "http://127.0.0.1:", "ws://127.0.0.1:")


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="module")  # while playwright runs, nothing else may start an event loop
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is missing: python3 run.py test-browser")
    if CHROMIUM is None:
        pytest.skip("no chromium here: python3 run.py test-browser installs it on Debian, or says how to")
    with sync_api.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def shots(request):
    """The folder for screenshots: .pytest_cache/d/screenshots."""
    cache = request.config.cache
    return Path(tempfile.mkdtemp(prefix="screenshots-")) if cache is None else cache.mkdir("screenshots")


@pytest.fixture(scope="session")
def live_folder(request, clf, tmp_path_factory):
    """What `python3 run.py live` builds, written once for all files and both workers: its export takes a while."""
    from tools.live import build, network

    own = tmp_path_factory.getbasetemp()
    shared = own.parent if hasattr(request.config, "workerinput") else own
    folder = shared / "live"
    with FileLock(shared / "live.lock"):
        if not folder.exists():
            try:
                files = build.build(network.exported(clf))
            except ToolError as error:
                pytest.skip(str(error))
            write_folder(folder, files)  # whole, or not at all
    return folder


def watched(browser, complaints, **options):
    """A new page; a request outwards, or a word on its console, goes to the list of complaints."""
    page = browser.new_context(**options).new_page()

    def route(route):
        if route.request.url.startswith(ALLOWED):
            return route.continue_()
        complaints.append(f"request: {route.request.url[:200]}")
        return route.abort()

    page.route("**/*", route)
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    page.on("console", lambda m: complaints.append(f"console: {m.text[:300]}") if m.type == "error" else None)
    return page


@contextmanager
def pages(browser):
    """pages(**options) is a browser's page; at the end, a request outwards or a word on the console is an error."""
    complaints, made = [], []

    def new(**options):
        made.append(watched(browser, complaints, **options))
        return made[-1]

    yield new
    for page in made:
        page.context.close()
    assert not complaints


@pytest.fixture
def new_page(browser):
    """new_page(**options) is a browser's page; after the test, a request outwards or a word on the console fails it."""
    with pages(browser) as new:
        yield new


def pixels(picture):
    """(H, W, 3) int of a locator's screenshot, or of a data address."""
    if isinstance(picture, str):
        import base64

        content = base64.b64decode(picture.split(",")[1])
    else:
        content = picture.screenshot()
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def barriers(page):
    """What axe finds in the page that keeps someone out, a line each; a frame in it counts as one element."""
    found = find_spec("axe_playwright_python")
    if found is None:
        pytest.skip("axe is missing: python3 run.py test-browser")
    page.evaluate((Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8"))
    result = page.evaluate("axe.run(document, { iframes: false })")
    faults = [f"{v['impact']}: {v['id']} {[n['html'][:120] for n in v['nodes']][:3]}" for v in result["violations"]]
    print(len(result["passes"]), "rules passed;", faults)
    return faults
