"""Labels in any script: the right font, the right order, and one clear warning where no font has the letters."""

import unicodedata
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager

from camlib import fonts

HINDI, THAI = "बिल्ली", "แมว"
PERCENTAGE = ", 38.1 %"
needs_text_engine = pytest.mark.skipif(not fonts._has_text_engine(), reason="matplotlib 3.11 has a text engine")


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    """A machine with matplotlib's own fonts only, so that the tests say the same everywhere."""
    monkeypatch.delenv("MPL_IGNORE_SYSTEM_FONTS", raising=False)
    own = matplotlib.get_data_path()
    monkeypatch.setattr(fontManager, "ttflist", [face for face in fontManager.ttflist if face.fname.startswith(own)])
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", list)
    fonts._add_new_fonts.cache_clear()
    yield
    fonts._add_new_fonts.cache_clear()


@pytest.fixture
def install(tmp_path):
    def install(family, characters, blank=False, listed=True):
        """A font whose letters are all the same black square, or empty; listed: whether matplotlib knows of it."""
        pen = TTGlyphPen(None)
        if not blank:
            for n, point in enumerate([(100, 0), (100, 700), (800, 700), (800, 0)]):
                (pen.lineTo if n else pen.moveTo)(point)
            pen.closePath()
        square = pen.glyph()
        names = {ord(c): f"u{ord(c):04X}" for c in characters}
        font = FontBuilder(1000)
        font.setupGlyphOrder([".notdef", *names.values()])
        font.setupCharacterMap(names)
        font.setupGlyf(dict.fromkeys([".notdef", *names.values()], square))
        font.setupHorizontalMetrics(dict.fromkeys([".notdef", *names.values()], (900, 100)))
        font.setupHorizontalHeader(ascent=800, descent=-200)
        font.setupNameTable({"familyName": family, "styleName": "Regular"})
        font.setupOS2(usWeightClass=400)
        font.setupPost()
        path = tmp_path / f"{family}.ttf"
        font.save(path)
        if listed:
            fontManager.addfont(path)
        return str(path)

    return install


def chosen(*texts):
    """The families after matplotlib's own."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = fonts.families(texts)
    assert found[:1] == ["sans-serif"]
    return found[1:]


def ink(text, families=None):
    """(rows, columns) bool: where a text is drawn, cut to its columns."""
    fig = Figure(figsize=(6, 1), dpi=100)
    fig.text(0.1, 0.4, text, fontsize=24, fontfamily=families, parse_math=False)
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    black = np.asarray(canvas.buffer_rgba())[..., 0] < 128
    columns = np.flatnonzero(black.any(axis=0))
    return black[:, columns[0] : columns[-1] + 1]


# Fonts


@pytest.mark.parametrize(
    "text", ["tiger cat, 38.1 %", "gradient × activation", "Ελλάδα", "кошка", "قط", "חתול", "🐱", ""]
)
def test_what_dejavu_has_needs_no_other_font(text, monkeypatch):
    def refuse(*_):
        raise AssertionError("another font was read")

    monkeypatch.setattr(fonts, "_open", refuse)
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", refuse)
    assert fonts.families([text]) is None


def test_missing_letters_come_from_an_installed_font(install):
    install("Square Han", "中文猫")
    found = fonts.families(["中文", "猫, 38.1 %"])
    assert found == ["sans-serif", "Square Han"]
    drawn = ink("猫", found)
    rows = np.flatnonzero(drawn.any(axis=1))
    assert drawn[rows[0] : rows[-1] + 1].all(), "the black square"


def test_latin_letters_stay_dejavu_beside_others(install):
    install("Square All", "猫cat")
    alone, beside = ink("cat"), ink("cat猫", fonts.families(["cat猫"]))
    assert np.array_equal(beside[:, : alone.shape[1]], alone)


def test_fonts_installed_since_matplotlib_listed_them_are_found(install, monkeypatch, tmp_path):
    paths = [install("Square Thai", THAI, listed=False), str(tmp_path / "gone.ttf")]
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    paths.append(str(tmp_path / "broken.ttf"))
    calls = []
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: calls.append(1) or paths)
    assert chosen(THAI) == ["Square Thai"]
    with pytest.warns(UserWarning, match="Devanagari"):
        fonts.families([HINDI])
    assert calls == [1], "the disk is searched once in a process"


def test_fonts_are_read_once(install, monkeypatch):
    install("Square Thai Once", THAI)
    opened = []
    real = fonts._open
    monkeypatch.setattr(fonts, "_open", lambda *font: opened.append(font) or real(*font))
    for text in (THAI, THAI[:1], THAI):
        assert chosen(text) == ["Square Thai Once"]
    read = [path for path, _ in opened if Path(path).name == "Square Thai Once.ttf"]
    assert len(read) <= 3, "its characters, and the outlines of two texts"


def test_one_font_draws_a_whole_word_where_one_can(install):
    install("A Sans", THAI[0])
    install("B Serif", THAI)
    assert chosen(THAI) == ["B Serif"]


def test_two_fonts_share_a_word_where_none_has_it_all(install):
    install("Front Sans", THAI[:1])
    install("Back Sans", THAI[1:])
    assert set(chosen(THAI)) == {"Front Sans", "Back Sans"}


def test_scripts_get_a_font_each_and_sans_comes_first(install):
    install("Thai Serif", THAI)
    install("Thai Sans", THAI)
    install("Thai Mono Sans", THAI)
    install("Noto Sans Devanagari", HINDI)
    install("A Sans for Hindi", HINDI)
    assert chosen(THAI, HINDI) == ["Noto Sans Devanagari", "Thai Sans"]


def test_fonts_of_coloured_pictures_are_passed_over(install):
    install("A Sans Colour Emoji", "🐕", blank=True)
    install("Outlines", "🐕")
    assert chosen("🐕 dog") == ["Outlines"]


@pytest.mark.parametrize(
    ("texts", "region"),
    [
        (["中文 猫"], "SC"),
        (["中文 貓"], "TC"),
        (["中文 猫", "ネコ"], "JP"),
        (["猫", "고양이"], "KR"),
        (["猫", unicodedata.normalize("NFD", "고양이")], "KR"),
    ],
)
def test_han_characters_look_as_where_the_labels_come_from(texts, region, install):
    letters = "".join(texts)
    for each in ("JP", "KR", "SC", "TC"):
        install(f"Noto Sans CJK {each}", letters)
    assert chosen(*texts) == [f"Noto Sans CJK {region}"]


@pytest.mark.parametrize("invisible", ["\ufe0f", "\u200d", "\u2068", "\u200e", "\ufeff"])
def test_invisible_characters_need_no_font(invisible, install):
    install("Square Cat", "🐱")
    with matplotlib.rc_context({"font.family": ["Square Cat"]}):
        assert fonts.families([f"🐱{invisible}"]) is None


def test_the_font_of_the_settings_stays_first(install):
    install("Square Latin", "cat")
    install("Square Han 2", "猫")
    with matplotlib.rc_context({"font.family": ["Square Latin", "not installed"]}):
        assert fonts.families(["cat猫é"]) == ["Square Latin", "Square Han 2", "DejaVu Sans"]
    with matplotlib.rc_context({"font.family": ["not installed"]}):
        assert fonts.families(["cat猫"]) == ["DejaVu Sans", "Square Han 2"]


# No font


@needs_text_engine
@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["中文 猫"], ["Chinese/Japanese/Korean (中 文 猫)", "Noto Sans CJK", "apt install fonts-noto-cjk)"]),
        (["ネコ、犬", "고양이"], ["Chinese/Japanese/Korean (、 コ ネ 犬 고 …)", "apt install fonts-noto-cjk)"]),
        ([HINDI], ["Devanagari (", "Noto Sans Devanagari", "apt install fonts-noto-core)"]),
        (
            [THAI, "🐕"],
            ["Thai (", "emoji and symbols (🐕)", "Noto Emoji", "apt install fonts-noto-core fonts-symbola)"],
        ),
        (["\ue000"], ["other characters (U+E000)"]),
    ],
)
def test_one_warning_says_what_is_missing_and_what_to_install(texts, says):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = fonts.families(texts)
        for text in texts:
            ink(text, found)
    (warning,) = caught  # matplotlib's own "Glyph missing" does not follow
    assert warning.filename == __file__
    for part in says:
        assert part in str(warning.message)
    assert found == ["sans-serif", fonts.LAST_RESORT]


# Order


@needs_text_engine
@pytest.mark.parametrize("name", ["قط", "חתול", "חתול (cat) 12"])
def test_a_right_to_left_name_stands_before_its_percentage(name):
    alone, whole = ink(name), ink(fonts.in_order(name, PERCENTAGE))
    width = alone.shape[1] - 1
    assert np.array_equal(whole[:, :width], alone[:, :width])
    percent = ink("%")
    assert np.array_equal(whole[:, 2 - percent.shape[1] :].any(axis=0), percent[:, 2:].any(axis=0)), "% is last"
    assert not np.array_equal(ink(name + PERCENTAGE)[:, :width], alone[:, :width]), "it would not without in_order"


@needs_text_engine
def test_letters_run_from_right_to_left_and_are_joined():
    assert ink("قط").any(axis=0).all(), "no gap"
    assert not np.array_equal(ink("אב"), ink("\u202dאב")), "\u202d would force left to right"
    assert np.array_equal(ink("אב"), ink("\u202dבא"))


def test_other_names_come_back_as_they_are():
    for name in ("tiger cat", "猫", HINDI, "🐱", ""):
        assert fonts.in_order(name, PERCENTAGE) == name + PERCENTAGE


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("חתול", "לותח"),
        ("קט 12.5", "12.5 טק"),
        ("12 קט", "טק 12"),
        ("cat קט, dog", "cat טק, dog"),
        ("קט (cat 2) קט", "טק (cat 2) טק"),
        ("(קט)", "(טק)"),
        ("קָט", "טקָ"),  # the vowel stays behind its letter
        ("قط", "طق"),
    ],
)
def test_without_a_text_engine_the_letters_are_put_in_order(name, drawn, monkeypatch):
    monkeypatch.setattr(fonts, "_has_text_engine", lambda: False)
    assert fonts.in_order(name, PERCENTAGE) == drawn + PERCENTAGE


def test_printable():
    assert fonts.printable("a\tb\x00c\nd\udc80é猫\u200d") == "a b c\nd\ufffdé猫\u200d"
