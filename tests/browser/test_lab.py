"""JupyterLab in a real browser: a chapter runs, the explorer follows the keyboard, untrusted output keeps a picture."""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import numpy as np
import pytest

from tests.browser.conftest import pixels

ROOT = Path(__file__).resolve().parent.parent.parent
SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false"},
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},  # every output stays in the document
}
SECONDS = 120_000  # ms to wait for: two cores, and torch to import


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """(address, token, folder) of a JupyterLab on a copy of the notebooks, with settings of its own."""
    home = tmp_path_factory.mktemp("lab")
    work = home / "work"
    for name in ("notebooks", "data", "evidence"):
        shutil.copytree(ROOT / name, work / name, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    config = home / "config" / "labconfig" / "page_config.json"
    config.parent.mkdir(parents=True)
    config.write_text('{"disabledExtensions": {"@jupyter/nbgrader": true}}')  # as run.py lab does
    for plugin, value in SETTINGS.items():
        path = home / "settings" / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value), encoding="utf-8")
    own = {"CONFIG": "config", "DATA": "data", "RUNTIME": "runtime"}
    environment = os.environ | {f"JUPYTER_{name}_DIR": str(home / folder) for name, folder in own.items()}
    environment |= {"IPYTHONDIR": str(home / "ipython"), "JUPYTERLAB_SETTINGS_DIR": str(home / "settings")}
    environment |= {"JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"), "PYTHONPATH": str(ROOT)}
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    token = secrets.token_hex(8)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"]
    command += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}"]
    command += [f"--ServerApp.root_dir={work}", "--LabApp.news_url=None"]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    with open(home / "lab.log", "wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/api/status?token={token}", server, home / "lab.log")
        yield address, token, work
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def wait_for(address, server, log):
    for _ in range(300):
        try:
            return urllib.request.urlopen(address, timeout=2).read()
        except (urllib.error.URLError, OSError):
            assert server.poll() is None, log.read_text(encoding="utf-8")[-3000:]
            time.sleep(0.3)
    pytest.fail("JupyterLab did not start\n" + log.read_text(encoding="utf-8")[-3000:])


def open_notebook(lab, new_page, path, idle=True):
    address, token, _ = lab
    page = new_page(viewport={"width": 1400, "height": 1100})
    page.set_default_timeout(SECONDS)
    page.goto(f"{address}/lab/tree/{path}?token={token}&reset")
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    if idle:
        page.wait_for_selector(".jp-StatusBar-TextItem:has-text('| Idle')")  # else Run All asks for a kernel
    return page


def run_all(page):
    page.click("li.lm-MenuBar-item:has-text('Run') >> nth=0")
    page.click("li.lm-Menu-item[data-command='runmenu:run-all']")
    cells = page.locator(".jp-CodeCell:not(:has(.jp-InputPlaceholder))").count()  # a folded cell shows no number
    page.wait_for_function("() => document.querySelector('.jp-Notebook').textContent.includes('[*]')")
    page.wait_for_function(
        """() => !document.querySelector('.jp-Notebook').textContent.includes('[*]')
          && document.querySelector('.jp-Notebook-ExecutionIndicator').dataset.status === 'idle'""",
        timeout=400_000,  # a chapter takes a minute on a free machine
    )
    numbers = page.locator(".jp-CodeCell .jp-InputPrompt").all_text_contents()
    done = sum(bool(re.search(r"\[\d+\]", number)) for number in numbers)
    assert done == cells, f"stopped after {done} of {cells} cells"
    errors = page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error']")
    assert errors.count() == 0, errors.first.inner_text()


def write_notebook(lab, name, *cells, outputs=()):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.cells[-1].outputs = list(outputs)
    nbformat.write(notebook, lab[2] / "notebooks" / name)
    return f"notebooks/{name}"


def test_a_chapter_runs(lab, new_page, shots):
    page = open_notebook(lab, new_page, "notebooks/00_first_heat_map.ipynb")
    run_all(page)
    pictures = page.locator(".jp-OutputArea img")
    assert pictures.count() > 0
    assert all(pictures.nth(n).evaluate("i => i.naturalWidth") > 0 for n in range(pictures.count()))
    page.screenshot(path=shots / "lab_chapter.png")


def the_explorer_follows_the_keyboard(page):
    """Another class is typed, the slider is moved: pixels show that the picture changes each time."""
    frame = page.frame_locator(".jp-OutputArea iframe")
    frame.locator("[data-ready]").wait_for()
    page.locator(".jp-OutputArea iframe").scroll_into_view_if_needed()
    photo = frame.locator(".frame canvas").first
    before = pixels(photo)
    frame.locator("#search").focus()
    page.keyboard.type("lynx")
    assert frame.locator("figcaption b").first.inner_text() == "lynx"
    changed = pixels(photo)
    assert np.abs(changed - before).mean() > 1, "another class, another picture"
    frame.locator("#alpha").focus()
    for _ in range(40):
        page.keyboard.press("ArrowLeft")
    assert frame.locator("#strength").inner_text() == "45 %"
    assert np.abs(pixels(photo) - changed).mean() > 1, "another strength, another picture"


def test_the_live_explorer_follows_the_keyboard_and_the_kernel(lab, new_page, shots):
    path = write_notebook(
        lab,
        "live.ipynb",
        "import camlib",
        "exp = camlib.explain(camlib.load_model(), '../data/photos/cat.jpg')",
        "camlib.Explorer(exp, names=['cat.jpg'])",
    )
    page = open_notebook(lab, new_page, path)
    run_all(page)
    the_explorer_follows_the_keyboard(page)
    frame = page.frame_locator(".jp-OutputArea iframe")
    page.screenshot(path=shots / "lab_explorer.png")

    page.locator(".jp-OutputArea select").select_option("hires_cam")
    frame.locator("#about:has-text('hires_cam')").wait_for()
    assert "do not sum" in frame.locator(".identity").first.inner_text()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Your photo").click()
    chooser.value.set_files(ROOT / "data/photos/coffee.png")
    frame.locator("#about:has-text('coffee.png')").wait_for()
    assert frame.locator("figcaption b").first.inner_text() == "espresso"
    page.screenshot(path=shots / "lab_explorer_upload.png")


def test_rich_output_works_and_an_untrusted_notebook_keeps_the_picture(lab, new_page, clf, cat, shots):
    from camlib import explain

    cell = "import camlib; camlib.explain(camlib.load_model(), '../data/photos/cat.jpg')"
    page = open_notebook(lab, new_page, write_notebook(lab, "rich.ipynb", cell))
    run_all(page)
    frame = page.frame_locator(".jp-OutputArea iframe")
    frame.locator("[data-ready]").wait_for()
    assert re.match(r"mean of the cells 9\.19", frame.locator(".identity").first.inner_text())
    assert page.locator(".jp-OutputArea:has-text('Warning')").count() == 0
    page.screenshot(path=shots / "lab_rich_output.png")

    stored = nbformat.v4.new_output("execute_result", {"text/html": explain(clf, cat)._repr_html_()}, execution_count=1)
    page = open_notebook(lab, new_page, write_notebook(lab, "untrusted.ipynb", cell, outputs=[stored]))
    picture = page.locator(".jp-OutputArea img")
    picture.wait_for()
    assert picture.evaluate("i => i.naturalWidth") == 451
    assert page.locator(".jp-OutputArea iframe").count() == 0
    page.screenshot(path=shots / "lab_untrusted.png")
