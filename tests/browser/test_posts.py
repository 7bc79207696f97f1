"""Posts in a real browser, from file://: they fit, they are accessible, the search finds, and the explorer works."""

import re

import numpy as np
import pytest

from tests.browser.conftest import barriers, pixels

pytest.importorskip("math_core", reason="math-core is missing: python3 run.py test-browser installs it")
from tools import notebooks, posts

NAMES = ["03_gap_weights", "11_your_images"]
PAGES = [*NAMES, "index", "camlib.View", "troubleshooting"]
SHIFTED = """() => new Promise(done => {
  let sum = 0;
  new PerformanceObserver(list => list.getEntries().forEach(entry => { sum += entry.value; }))
    .observe({ type: "layout-shift", buffered: true });
  requestAnimationFrame(() => setTimeout(() => done(sum)));
})"""
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 360, "height": 780}
VIEWPORTS = pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["1280", "360"])
LOOKS = pytest.mark.parametrize(  # the width decides the layout, the scheme the colours
    ("viewport", "scheme"), [(WIDE, "light"), (NARROW, "dark")], ids=["1280-light", "360-dark"]
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site") / "posts"
    assert posts.main([*(f"{notebooks.ROOT}/notebooks/{name}.ipynb" for name in NAMES), "--out", str(out)]) == 0
    return out / "html"


@pytest.fixture
def opened(new_page, site):
    """opened(name, **options): the page; that nothing is requested and nothing complained of is seen to by new_page."""

    def go(name, query="", **options):
        page = new_page(**({"viewport": WIDE} | options))
        page.goto((site / f"{name}.html").as_uri() + query)
        if page.locator(".explorer iframe").count() and options.get("java_script_enabled", True):
            page.frame_locator(".explorer iframe").locator("[data-ready]").wait_for()
        return page

    return go


def unfold(page):
    page.evaluate("document.querySelectorAll('main details').forEach(one => { one.open = true; })")


@LOOKS
@pytest.mark.parametrize("name", PAGES)
def test_it_fits_and_every_picture_is_there(opened, name, viewport, scheme, shots):
    page = opened(name, viewport=viewport, color_scheme=scheme)
    page.screenshot(path=shots / f"post_{name}_{viewport['width']}_{scheme}.png")
    assert page.evaluate(SHIFTED) < 0.01, "nothing jumps while the page loads"
    unfold(page)
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    undecoded = page.evaluate(
        "Promise.all([...document.images].map(one => one.decode().then(() => '', () => one.alt)))"
        ".then(all => all.filter(Boolean))"
    )
    assert not undecoded
    if name != "index":
        page.screenshot(path=shots / f"post_{name}_{viewport['width']}_{scheme}_full.png", full_page=True)


@LOOKS
@pytest.mark.parametrize("name", PAGES)
def test_accessibility(opened, name, viewport, scheme):
    page = opened(name, viewport=viewport, color_scheme=scheme)
    unfold(page)
    assert not barriers(page)  # the explorer's own page is looked at in test_explorer.py


def test_lines_of_prose_have_a_readable_length(opened):
    page = opened("03_gap_weights")
    longest = page.evaluate("""() => {
      const lines = [];
      for (const p of document.querySelectorAll("article > p")) {
        const rows = Math.round(p.clientHeight / parseFloat(getComputedStyle(p).lineHeight));
        if (p.textContent.length > 250) lines.push(p.textContent.length / rows);
      }
      return lines;
    }""")
    print(f"{np.mean(longest):.0f} characters a line")
    assert len(longest) > 3 and 55 <= np.mean(longest) <= 80


def test_the_explorer_works_in_the_page(opened, shots):
    page = opened("11_your_images")
    assert not page.locator(".explorer > img").is_visible()
    frame = page.frame_locator(".explorer iframe")
    page.locator(".explorer iframe").scroll_into_view_if_needed()  # out of sight, chromium does not draw it
    canvas = frame.locator(".frame canvas").first
    before = pixels(canvas)
    frame.locator("#search").fill("lynx")
    frame.locator("#search").press("Enter")
    assert frame.locator("figcaption b").first.inner_text() == "lynx"
    assert np.abs(pixels(canvas) - before).mean() > 1
    frame.get_by_label("astronaut.png").check(force=True)
    frame.locator("figcaption b", has_text="football helmet").wait_for()
    page.wait_for_timeout(200)
    inner = frame.locator("body").evaluate("body => body.offsetHeight")
    assert abs(page.locator(".explorer iframe").bounding_box()["height"] - inner) <= 4, "nothing to scroll inside"
    page.locator(".explorer").screenshot(path=shots / "post_explorer.png")


def test_without_scripts_the_pictures_are_left(opened):
    page = opened("11_your_images", java_script_enabled=False)
    assert page.locator(".explorer > img").is_visible() and not page.locator(".explorer iframe").is_visible()


@VIEWPORTS
def test_the_search_finds_sections(opened, shots, viewport):
    page = opened("03_gap_weights", viewport=viewport)
    page.get_by_role("searchbox").fill("flatten head")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=flatten*")
    links = page.locator("#results li a")
    assert links.count() > 2 and "sections" in page.inner_text("[role=status]")
    assert page.locator("#results mark").count() and not page.locator(".hint").is_visible()
    assert not barriers(page) and page.evaluate(SHIFTED) < 0.01
    assert links.nth(1).bounding_box()["y"] < viewport["height"] - 100, "answers stand where one looks"
    page.screenshot(path=shots / f"post_search_{viewport['width']}.png")
    snippet = page.locator("#results li p").first.inner_text()
    assert 60 < len(snippet) < 230, snippet
    page.fill("[name=q]", "zzzz")
    assert "Nothing found" in page.inner_text("[role=status]")
    page.fill("[name=q]", "Jégou resolution")
    first = links.first
    assert "Further reading" in first.inner_text()
    page.fill("[name=q]", "is TorchScript, whose layers")
    assert links.first.get_attribute("href") == "troubleshooting.html#the-network-cannot-be-used-as-it-is"
    page.fill("[name=q]", "receptive_field_offset parameters")
    assert links.first.get_attribute("href").startswith("camlib.receptive_field_offset.html")
    page.fill("[name=q]", "grad_cam")
    assert links.first.get_attribute("href") == "camlib.grad_cam.html", "not what has a longer name"
    page.fill("[name=q]", "Jégou resolution")
    first.click()
    page.wait_for_url("**/11_your_images.html#further-reading")


def test_by_keyboard_the_text_is_one_key_away_and_wide_code_scrolls(opened):
    page = opened("03_gap_weights", viewport=NARROW)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.localName") == "main"
    wide = page.locator("pre.code[tabindex]").first
    wide.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.activeElement.scrollLeft > 0")
    assert re.fullmatch("Code", wide.get_attribute("aria-label"))


def test_by_keyboard_and_on_paper_the_front_page_leads_on(opened):
    page = opened("index", viewport=NARROW)
    for way in ("#chapters", "teach.html", "write.html"):
        link = page.locator(f".ways a[href='{way}']")
        link.focus()
        assert page.evaluate("document.activeElement.matches(':focus-visible')") and link.bounding_box()["height"] > 40
    page.emulate_media(media="print")
    assert not page.locator(".site form").is_visible() and not page.locator(".menu").is_visible()
    assert page.locator("#chapters").is_visible()


def test_a_tap_enlarges_a_figure(opened):
    page = opened("03_gap_weights", viewport=NARROW)
    picture = page.locator("figure img").first
    small = picture.bounding_box()["width"]
    picture.click()
    assert picture.bounding_box()["width"] > 2 * small
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    picture.click()
    assert picture.bounding_box()["width"] == small


def test_a_button_enlarges_a_figure_by_keyboard(opened):
    page = opened("03_gap_weights", viewport=NARROW)
    figure = page.locator("figure").first
    figure.get_by_role("button", name="Enlarge the figure").press("Enter")
    assert figure.locator("img").bounding_box()["width"] == int(figure.locator("img").get_attribute("width"))
    figure.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "() => document.activeElement.matches('figure.large') && document.activeElement.scrollLeft > 0"
    )
    assert not barriers(page)
    figure.get_by_role("button", name="Fit the figure to the page").press("Enter")
    assert figure.locator("img").bounding_box()["width"] <= 360


def test_a_figure_in_its_own_size_has_no_button(opened):
    page = opened("03_gap_weights", viewport=WIDE)
    assert page.locator("figure img").count() == 5 and page.get_by_role("button").count() == 0
