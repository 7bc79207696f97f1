"""The live page's worker in a real browser: the same answers as camlib gives in the same run."""

import json
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from camlib import explain
from camlib.images import decode
from tests.browser.conftest import pages
from tests.browser.live import BLANK, CAT, PHOTOS, numbers, saved, served
from tools.live import build, network

LOGITS, MAPS, IDENTITY = 0.05, 0.01, 1e-3  # how far the page may be off; maps: of their range

# The page's side of the worker: `ask(message)` sends it and waits for what answers it.
ASK = """<script type="module">
import * as maps from "./maps.js";
import { bitmapOf } from "./pictures.js";

const start = () => {
  window.heard = [];
  window.worker?.terminate();
  window.worker = new Worker("./worker.js", { type: "module" });
  worker.onmessage = ({ data }) => { heard.push(data); window.waiting?.(data); };
  worker.onerror = (event) => heard.push({ type: "failed", reason: `error: ${event.message}` });
};
const until = (types, id) => new Promise((done) => {
  window.waiting = (data) => { if (types.includes(data.type) && data.id === id) done(data); };
});
const load = async () => {
  const answer = until(["ready", "failed"]);
  worker.postMessage({ type: "load" });
  return answer;
};
let number = 0;
const explain = async (blob, name, view) => {
  const bitmap = await bitmapOf(blob, name);
  const id = ++number;
  const answer = until(["explained", "failed"], id);
  worker.postMessage({ type: "explain", id, bitmap, view }, [bitmap]);
  return answer;
};
Object.assign(window, { start, load, explain, maps, bitmapOf });
start();
document.documentElement.dataset.ready = "";
</script>"""


@pytest.fixture(scope="module")
def built(live_folder, tmp_path_factory):
    """A copy of the folder that the build makes, with a page for these tests."""
    folder = tmp_path_factory.mktemp("live")
    shutil.copytree(live_folder, folder, dirs_exist_ok=True)
    (folder / "blank.html").write_text(BLANK + ASK, encoding="utf-8")
    return folder


@pytest.fixture
def page(new_page, built):
    with served(built) as address:
        page = new_page()
        page.set_default_timeout(120_000)
        page.goto(address + "blank.html")
        page.wait_for_selector("[data-ready]", state="attached")
        yield page


@pytest.fixture(scope="module")
def ready(browser, built):
    """A page whose worker has loaded the network, for all tests."""
    with served(built) as address, pages(browser) as new:
        page = new()
        page.set_default_timeout(120_000)
        page.goto(address + "blank.html")
        page.wait_for_selector("[data-ready]", state="attached")
        answer = page.evaluate("load()")
        assert answer["type"] == "ready", answer
        yield page


@dataclass
class Answer:
    """What the page makes of a picture: logits (K), and for the five best classes the maps and the identity's error."""

    view: dict
    photo: list
    cells: list
    logits: np.ndarray
    top: list
    maps: np.ndarray
    errors: list
    parts: list
    milliseconds: dict


def answered(page, folder, content, name, view):
    (folder / "picture.bin").write_bytes(content)
    got = page.evaluate(
        """async ([name, view]) => {
          const answer = await explain(new Blob([await bytes("picture.bin")]), name, view);
          if (answer.type === "failed") return answer;
          window.network ??= await (await fetch("network.json")).json();
          window.rows ??= maps.classifierRows((await bytes("classifier.bin")).buffer, network.channels);
          const { features, logits, cells } = answer;
          const top = [...logits.keys()].sort((a, b) => logits[b] - logits[a]).slice(0, 5);
          const all = top.map((k) => maps.classMap(rows[k], features, cells));
          const errors = top.map((k, n) => maps.identity(all[n], network.bias[k], logits[k]).error);
          const parts = maps.contributions(rows[top[0]], features, cells);
          const sum = parts.reduce((sum, part) => sum + part.value, 0) + network.bias[top[0]];
          return {
            ...answer, features: 0, top, errors, parts: [sum, parts[0], parts.at(-1)],
            logits: await text(logits), maps: await text(new Float32Array(all.flatMap((map) => [...map]))),
          };
        }""",
        [name, view],
    )
    if got["type"] == "failed":
        return got["reason"]
    top, cells = got["top"], got["cells"]
    maps = numbers(got["maps"], np.float32).reshape(len(top), *cells)
    rest = {key: got[key] for key in ("view", "photo", "cells", "errors", "parts", "milliseconds")}
    return Answer(logits=numbers(got["logits"], np.float32), top=top, maps=maps, **rest)


def check(clf, page, folder, content, name, view):
    """Compare the page's answer with camlib's for one picture; both read the file by themselves."""
    answer = answered(page, folder, content, name, view)
    assert isinstance(answer, Answer), answer
    (result,) = explain(clf, decode(content, name), view=view).results
    seen, logits = result.view, result.logits[0].numpy()
    assert answer.photo == list(seen.photo)
    assert {key: list(getattr(seen, key)) for key in ("resized", "offset", "size")}.items() <= answer.view.items()
    off = np.abs(answer.logits - logits).max()
    best = np.argsort(-logits, kind="stable")[:5]
    for page_class, class_ in zip(answer.top, best, strict=True):
        assert page_class == class_ or abs(logits[page_class] - logits[class_]) <= LOGITS, (name, view, answer.top)
    maps = result.maps.stack(answer.top).numpy()
    assert answer.maps.shape == maps.shape
    ranges = np.ptp(maps.reshape(len(maps), -1), axis=1)
    wrong = (np.abs(answer.maps - maps).reshape(len(maps), -1).max(1) / ranges).max()
    identity = max(answer.errors)
    assert answer.parts[0] == pytest.approx(float(answer.logits[answer.top[0]]), abs=IDENTITY)
    print(
        f"{name:24} {view:5} {answer.photo} top 5 {'equal' if answer.top == best.tolist() else 'swapped'}, "
        f"logits {off:.4f}, maps {wrong:.3%}, identity {identity:.1e}, "
        + ", ".join(f"{what} {ms:.0f}" for what, ms in answer.milliseconds.items())
    )
    assert off <= LOGITS and wrong <= MAPS and identity < IDENTITY, name
    return answer


@pytest.mark.slow
@pytest.mark.parametrize("view", ["crop", "whole"])
def test_the_answers_for_the_courses_photos_are_camlibs(clf, ready, built, view):
    for path in PHOTOS:
        check(clf, ready, built, path.read_bytes(), path.name, view)


@pytest.mark.slow
def test_turned_transparent_gray_and_large_pictures(clf, ready, built):
    cat = Image.open(CAT)
    exif = Image.Exif()
    exif[274] = 6  # to be turned by 90°
    rgba = cat.convert("RGBA")
    rgba.putalpha(Image.radial_gradient("L").resize(cat.size).point(lambda value: 255 - value))
    cases = {
        "turned.jpg": saved(cat.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95),
        "transparent.png": saved(rgba, "PNG"),
        "gray.png": saved(cat.convert("L"), "PNG"),
        "gray.jpg": saved(cat.convert("L"), "JPEG"),
        "12 megapixels.jpg": saved(cat.resize((4000, 3000), Image.Resampling.BICUBIC), "JPEG", quality=90),
        "tall.png": saved(cat.resize((300, 1500)), "PNG"),  # Pillow 13 starts with its columns
        "tiny.png": saved(cat.resize((5, 3)), "PNG"),
    }
    for name, content in cases.items():
        for view in ("crop", "whole"):
            check(clf, ready, built, content, name, view)


# --- the worker's manners --------------------------------------------------------------------------------------------


def test_loading_says_how_far_it_is_and_asks_for_its_own_files_only(page, built):
    asked = []
    page.on("request", lambda request: asked.append(request.url.rsplit("/", 1)[1]))
    answer = page.evaluate("load()")
    assert answer["network"] == json.loads((built / network.DESCRIPTION).read_text(encoding="utf-8"))
    progress = page.evaluate("heard.filter((message) => message.type === 'progress')")
    loaded = [message["loaded"] for message in progress]
    assert loaded == sorted(loaded) and len(loaded) > 10
    total = sum((built / name).stat().st_size for name in (*build.RUNTIME_FILES[1:], network.NETWORK, network.WEIGHTS))
    assert progress[-1]["loaded"] == progress[-1]["total"] == total
    assert set(asked) <= {
        "fetching.js",
        "resample.js",
        "views.js",
        "pictures.js",
        *build.RUNTIME_FILES,
        network.DESCRIPTION,
        network.NETWORK,
        network.WEIGHTS,
    }
    print(f"loaded in {answer['milliseconds']:.0f} ms")


def test_only_the_newest_of_many_pictures_is_worked_on(ready):
    got = ready.evaluate(
        """async () => {
          const picture = new OffscreenCanvas(300, 200);
          picture.getContext("2d").fillRect(0, 0, 300, 200);
          const before = heard.length;
          const last = 6;
          for (let id = 1; id <= last; id++) {
            const bitmap = await createImageBitmap(picture);
            worker.postMessage({ type: "explain", id: `p${id}`, bitmap, view: "crop" }, [bitmap]);
          }
          while (!heard.some(({ id }) => id === `p${last}`)) await new Promise((done) => setTimeout(done, 20));
          return heard.slice(before).map(({ type, id }) => [id, type]);
        }"""
    )
    assert sorted(id_ for id_, _ in got) == [f"p{n}" for n in range(1, 7)], "each is answered once"
    assert got[-1] == ["p6", "explained"]
    assert sum(kind == "explained" for _, kind in got) < 6


@pytest.mark.parametrize("name", [network.DESCRIPTION, network.NETWORK, network.WEIGHTS, *build.RUNTIME_FILES])
def test_a_missing_file_is_named(new_page, built, tmp_path, name):
    for path in built.iterdir():
        if path.is_file() and path.name != name:
            (tmp_path / path.name).symlink_to(path)
    with served(tmp_path) as address:
        page = new_page()
        page.goto(address + "blank.html")
        page.wait_for_selector("[data-ready]", state="attached")
        answer = page.evaluate("load()")
        assert answer["type"] == "failed" and name in answer["reason"], answer
        if name != build.RUNTIME_FILES[0]:
            assert "404" in answer["reason"]
        again = page.evaluate("load()")
        assert again["type"] == "failed", "and it may be tried again"


def test_what_this_browser_lacks_is_said(page, built):
    for name, words in (("WebAssembly", "no WebAssembly"), ("OffscreenCanvas", "too old")):
        source = f'delete globalThis.{name}; await import("./worker.js"); postMessage({{ type: "here" }});'
        (built / "without.js").write_text(source, encoding="utf-8")
        reason = page.evaluate(
            """async () => {
              const worker = new Worker("./without.js", { type: "module" });
              const bitmap = await createImageBitmap(new ImageData(9, 9));
              return new Promise((done) => {
                worker.onmessage = ({ data }) => {
                  if (data.type === "failed") done(data.reason);
                  if (data.type === "here") worker.postMessage({ type: "load" });
                  const explain = { type: "explain", id: 1, bitmap, view: "crop" };
                  if (data.type === "ready") worker.postMessage(explain, [bitmap]);
                };
              });
            }"""
        )
        assert words in reason


def test_a_picture_too_long_and_thin_is_refused(ready, built):
    content = saved(Image.new("L", (40_000, 20)), "PNG")
    for view in ("crop", "whole"):
        assert "too large" in answered(ready, built, content, "long.png", view)
    assert isinstance(answered(ready, built, saved(Image.new("L", (40, 20)), "PNG"), "short.png", "crop"), Answer)
