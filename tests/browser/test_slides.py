"""Slides in a real browser, from file://, on a projector of 1280 × 720: every slide of every chapter fits."""

import pytest

from tests.browser.conftest import barriers

pytest.importorskip("math_core", reason="math-core is missing: python3 run.py test-browser installs it")
from tools import notebooks, slides

PROJECTOR = {"width": 1280, "height": 720}
CHAPTERS = [path.stem for path in notebooks.chapters()]
LEAST = 0.6  # of their size, to which letters may shrink; the sources on the last slide may more
# What is wrong with the slide that is shown: a list of words.
FAULTS = """() => {
  const slide = Reveal.getCurrentSlide(), found = [];
  const frame = slide.querySelector(".frame").getBoundingClientRect();
  const foot = slide.querySelector("footer")?.getBoundingClientRect().top + 8 || frame.bottom;
  const say = (what, one) => found.push(`${what}: ${one.outerHTML.replace(/src="[^"]*"/, "").slice(0, 160)}`);
  if (frame.width !== innerWidth || frame.height !== innerHeight) say("not the whole screen", slide);
  for (const one of slide.querySelectorAll(".frame *")) {
    if (one.closest("math") && one.localName !== "math" || one.closest("footer")) continue;
    const { left, right, top, bottom, width, height } = one.getBoundingClientRect();
    if (!width && !height) continue;
    if (left < 59 || right > 1221 || top < 39 || bottom > foot + 1) say("out of the frame", one);
    const wide = one.clientWidth && one.scrollWidth > one.clientWidth + 1;
    if (wide || one.matches("pre, .table, .column") && one.scrollHeight > one.clientHeight + 8) say("cut off", one);
  }
  for (const one of slide.querySelectorAll("img")) {
    if (!one.alt.trim()) say("no alt text", one);
    if (!one.naturalWidth) say("no picture", one);
    if (one.clientWidth < 100 || one.clientHeight < 60) say("too small", one);
  }
  const body = slide.querySelector(".body"), copy = (body ?? slide).cloneNode(true);
  copy.querySelectorAll("code, pre, annotation").forEach((one) => one.remove());
  if (copy.textContent.includes("$")) say("a formula that is not shown", copy);
  if (!slide.innerText.trim() && !slide.querySelector("img")) say("empty", slide);
  if (body && !slide.querySelector(".sources") && parseFloat(body.style.getPropertyValue("--scale")) < LEAST)
    say("tiny", body);
  return found;
}""".replace("LEAST", str(LEAST))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("slides")
    assert slides.main(["all", "--out", str(out / "plain")]) == 0
    assert slides.main(["03", "--code", "--out", str(out / "code")]) == 0
    return out


@pytest.fixture
def opened(new_page, folder):
    """opened(name): the page at its first slide, and the addresses it requested but for those in the file itself."""

    def go(name, kind="plain"):
        page = new_page(viewport=PROJECTOR)
        requests = []
        page.on("request", lambda request: request.url.startswith("data:") or requests.append(request.url))
        page.goto((folder / kind / f"{name}.html").as_uri())
        page.evaluate("new Promise((done) => Reveal.isReady() ? done() : Reveal.on('ready', done))")
        page.evaluate("Promise.all([...document.images].map((one) => one.decode()))")
        return page, requests

    return go


def walk(page):
    """Go through all slides and answers, as space does; yields the number of each slide when all of it is shown."""
    for number in range(1, page.evaluate("Reveal.getTotalSlides()") + 1):
        while page.evaluate("Reveal.availableFragments().next"):
            page.evaluate("Reveal.next()")
        yield number
        page.evaluate("Reveal.next()")


@pytest.mark.parametrize(("name", "kind"), [*((name, "plain") for name in CHAPTERS), ("03_gap_weights", "code")])
def test_every_slide_fits(opened, shots, name, kind):
    page, requests = opened(name, kind)
    faults = {}
    for number in walk(page):
        if found := page.evaluate(FAULTS):
            faults[number] = found
            page.screenshot(path=shots / f"slides_{name}_{kind}_{number}.png")
    assert not faults
    assert len(requests) == 1, "nothing but the file itself"
    page.screenshot(path=shots / f"slides_{name}_{kind}_last.png")


def test_the_check_sees_what_does_not_fit(opened):
    page, _ = opened("03_gap_weights")
    page.evaluate("Reveal.next()")
    assert page.evaluate(FAULTS) == []
    page.evaluate("Reveal.getCurrentSlide().querySelector('.body').innerHTML += '<p>line $x$</p>'.repeat(20)")
    found = " ".join(page.evaluate(FAULTS))
    assert "out of the frame" in found and "a formula" in found


def test_by_keyboard_answers_wait_and_all_slides_are_reached(opened):
    page, _ = opened("03_gap_weights")
    total = page.evaluate("Reveal.getTotalSlides()")
    hidden, seen = 0, {1}
    for _ in range(4 * total):
        page.keyboard.press("Space")
        seen.add(page.evaluate("Reveal.getSlidePastCount() + 1"))
        asked = page.locator("section.present .predict")
        if asked.count() and asked.first.is_visible():
            hidden += page.evaluate("Reveal.getCurrentSlide().querySelectorAll('.fragment:not(.visible)').length")
        if page.evaluate("Reveal.isLastSlide()"):
            break
    assert seen == set(range(1, total + 1)) and hidden > 4
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("Reveal.getSlidePastCount()") == total - 2, "the arrows pass no slide by"
    page.keyboard.press("Escape")
    assert page.evaluate("Reveal.isOverview()")


def test_the_speaker_has_the_notes(opened):
    page, _ = opened("03_gap_weights")
    with page.expect_popup() as popup:
        page.keyboard.press("s")
    speaker = popup.value
    speaker.locator(".speaker-controls-notes .value", has_text="You need").wait_for()
    assert "camlib.load_model()" not in speaker.inner_text(".speaker-controls-notes .value")
    page.keyboard.press("Space")
    page.keyboard.press("Space")
    page.keyboard.press("Space")
    speaker.locator(".speaker-controls-notes .value", has_text="camlib.load_model()").wait_for()


def test_accessibility(opened):
    page, _ = opened("03_gap_weights")
    for _ in range(3):
        page.evaluate("Reveal.next()")
    assert not barriers(page)


def test_it_prints_a_slide_on_each_page(new_page, folder):
    page = new_page(viewport=PROJECTOR)
    page.goto((folder / "plain" / "03_gap_weights.html").as_uri() + "?view=print")
    sheets = page.locator(".pdf-page")
    sheets.first.wait_for()
    assert sheets.count() == page.evaluate("Reveal.getTotalSlides()")
    assert page.evaluate("""[...document.querySelectorAll(".pdf-page")].every((sheet) => {
      const frame = sheet.querySelector(".frame").getBoundingClientRect(), paper = sheet.getBoundingClientRect();
      return frame.top >= paper.top - 1 && frame.bottom <= paper.bottom + 1 && frame.height > 700;
    })""")
