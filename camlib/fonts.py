"""Labels in any script: which fonts have their characters, and in which order to write them.

matplotlib takes a list of font families and draws each character in the first one that has it. `families` finds that
list. From matplotlib 3.11 on, its text engine (libraqm) also joins Arabic letters, forms Devanagari conjuncts and
writes Arabic and Hebrew from right to left; `in_order` isolates the rest of the title from this. matplotlib 3.10 can do
none of this: `in_order` then orders the letters, but Arabic letters are not joined and Devanagari ones do not merge.
"""

import re
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.font_manager import FontEntry
    from matplotlib.ft2font import FT2Font

LAST_RESORT = "Last Resort High-Efficiency"  # comes with matplotlib 3.11: a box with a sample letter for each script
CJK, EMOJI, OTHER = "Chinese/Japanese/Korean", "emoji and symbols", "other characters"
PREFERRED = {  # the fonts to prefer if several have a character; for other scripts: "Noto Sans" + the script's name
    "JP": ("Noto Sans CJK JP", "Noto Sans JP", "Hiragino Sans", "Yu Gothic", "MS Gothic", "IPAGothic"),
    "KR": ("Noto Sans CJK KR", "Noto Sans KR", "Apple SD Gothic Neo", "Malgun Gothic", "NanumGothic"),
    "SC": ("Noto Sans CJK SC", "Noto Sans SC", "PingFang SC", "Microsoft YaHei", "WenQuanYi Zen Hei"),
    "TC": ("Noto Sans CJK TC", "Noto Sans TC", "PingFang TC", "Microsoft JhengHei"),
    EMOJI: ("Noto Emoji", "Symbola", "Segoe UI Emoji", "Noto Sans Symbols2", "Noto Sans Symbols"),
}
PACKAGES = {  # Debian package, font to download; for other scripts: fonts-noto-core, "Noto Sans" + the script's name
    CJK: ("fonts-noto-cjk", "Noto Sans CJK"),
    EMOJI: ("fonts-symbola", "Noto Emoji"),  # not fonts-noto-color-emoji: matplotlib draws outlines only
    OTHER: ("fonts-noto-core", "Noto Sans"),
}
# Fonts that come with matplotlib but hold only placeholders or parts of formulas
NO_LETTERS = re.compile("Last Resort|STIXNonUni|STIXSize|cm[a-z]+10$")
_LRM, _FSI, _PDI = "\u200e", "\u2068", "\u2069"  # left-to-right mark; first strong isolate and its end


def families(texts: Iterable[str], stacklevel: int = 2) -> list[str] | None:
    """The font families that draw these texts, for `Text.set_fontfamily`; None if matplotlib's own font is enough.

    The list starts with the font from matplotlib's settings, by default DejaVu Sans, so Latin text looks as usual. Then
    come installed fonts with the missing characters; each is read only if needed, and only once. Han characters are
    drawn as in Japan if the texts contain kana, as in Korea if they contain Hangul, otherwise as in China or Taiwan.

    Warns once about characters that no font has, and says what to install. stacklevel: as in `warnings.warn`, where 2
    means the caller. With matplotlib 3.11 the list then ends with its font of placeholders.

    >>> families(["tiger cat, 38.1 %", "Nürnberg"]) is None
    True
    """
    texts = list(texts)
    characters = sorted({c for text in texts if not text.isascii() for c in text if _is_drawn(c)})
    if not characters:
        return None
    own, missing = _without_own(characters)
    if not missing:
        return None
    region = _region("".join(texts))
    chosen, missing = _choose(missing, region)
    if missing and _add_new_fonts():
        more, missing = _choose(missing, region)
        chosen += more
    if missing:
        warnings.warn(_advice(missing), stacklevel=stacklevel)
        if _has_text_engine():
            chosen.append(LAST_RESORT)  # its boxes show the script, and matplotlib does not warn about each letter
    return list(dict.fromkeys([*own, *chosen]))


def in_order(name: str, rest: str = "") -> str:
    """A name in its own direction, then the rest of its line: "قط" then ", 38.1 %", never "% 38.1" then "قط".

    Text without right-to-left letters is returned unchanged.

    >>> in_order("tiger cat", ", 38.1 %")
    'tiger cat, 38.1 %'
    """
    if not any(unicodedata.bidirectional(c) in ("R", "AL") for c in name):
        return name + rest
    if not _has_text_engine():
        return _from_left_to_right(name) + rest
    return f"{_LRM}{_FSI}{name}{_PDI}{rest}" if rest else name


def printable(text: str) -> str:
    """Replace control characters except newlines by spaces, and surrogates (undecodable bytes) by U+FFFD.

    matplotlib draws the former as boxes and refuses the latter.

    >>> printable("tiger\\tcat")
    'tiger cat'
    """
    if text.isprintable():
        return text
    instead = {"Cc": " ", "Cs": "\N{REPLACEMENT CHARACTER}"}
    return "".join(c if c == "\n" else instead.get(unicodedata.category(c), c) for c in text)


def _is_drawn(character: str) -> bool:
    """Whether a font must have this character. Invisible ones, such as joiners and direction marks, are not drawn."""
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs") and not "\ufe00" <= character <= "\ufe0f"


def _has_text_engine() -> bool:
    from matplotlib import ft2font

    return hasattr(ft2font, "__libraqm_version__")


# --- which font has a character ---


def _without_own(characters: Sequence[str]) -> tuple[list[str], list[str]]:
    """The families that matplotlib's settings name, and the characters that they lack."""
    from matplotlib import rcParams
    from matplotlib.font_manager import FontProperties, findfont, get_font

    own, missing = [], list(characters)
    for family in rcParams["font.family"]:
        with suppress(ValueError):  # not installed
            font = get_font(findfont(FontProperties(family=[family]), fallback_to_default=False))
            own.append(family)
            missing = [c for c in missing if not font.get_char_index(ord(c))]
    return own or ["DejaVu Sans"], missing


def _choose(characters: Sequence[str], region: str) -> tuple[list[str], list[str]]:
    """Installed families that have the characters, and the characters that none has."""
    installed = _upright()
    chosen: list[str] = []
    missing: list[str] = []
    for group, members in groupby(sorted(characters, key=_group), key=_group):
        wanted = list(members)
        first = PREFERRED.get(region if group == CJK else group, (f"Noto Sans {group}",))
        order = sorted(installed, key=lambda name: _rank(name, [*chosen, "DejaVu Sans", *first]))
        while wanted:
            # If possible, use one font for a whole script, so that no word is set in two styles.
            best = next((name for name in order if _drawn_by(installed[name], wanted) == wanted), None)
            best = best or max(order, key=lambda name: len(_drawn_by(installed[name], wanted)))
            drawn = _drawn_by(installed[best], wanted)
            if not drawn:
                break
            chosen.append(best)
            wanted = [c for c in wanted if c not in drawn]
        missing += wanted
    return list(dict.fromkeys(chosen)), missing


def _upright() -> "dict[str, FontEntry]":
    """For each font family, the face that matplotlib uses for plain text."""
    from matplotlib.font_manager import fontManager

    best: dict[str, tuple[tuple[bool, bool, bool, float], FontEntry]] = {}
    for face in fontManager.ttflist:
        away = (face.style != "normal", face.variant != "normal", face.stretch != "normal", abs(int(face.weight) - 400))
        if not NO_LETTERS.match(face.name) and (face.name not in best or away < best[face.name][0]):
            best[face.name] = away, face
    return {name: face for name, (_, face) in best.items()}


def _rank(name: str, first: Sequence[str]) -> tuple[int, bool, bool, str]:
    """The order of fonts: first the preferred ones, then those without serifs (like DejaVu Sans), then by name."""
    return first.index(name) if name in first else len(first), "Sans" not in name, "Mono" in name, name


def _drawn_by(face: "FontEntry", characters: Sequence[str]) -> list[str]:
    """Those of the characters that a face can draw."""
    index = getattr(face, "index", 0)  # matplotlib 3.10 only knows the first face of a file
    codes = _codes(face.fname, index)
    has = [c for c in characters if codes[np.searchsorted(codes[:-1], ord(c))] == ord(c)]
    return has if has and _has_outlines(face.fname, index, "".join(has)) else []


@cache
def _codes(path: str, index: int) -> np.ndarray:
    """The code points that a font has, sorted; never empty."""
    try:
        charmap = _open(path, index).get_charmap()
    except (OSError, RuntimeError):  # removed since matplotlib listed it, or damaged
        charmap = {}
    return np.array(sorted(charmap) or [0], np.uint32)


@cache
def _has_outlines(path: str, index: int, characters: str) -> bool:
    """Whether there are outlines to draw. Colour emoji fonts hold pictures instead, which matplotlib cannot use."""
    font = _open(path, index)
    for character in characters:
        font.load_char(ord(character))
        if len(font.get_path()[0]):
            return True
    return characters.isspace()


def _open(path: str, index: int) -> "FT2Font":
    from matplotlib.ft2font import FT2Font

    return FT2Font(path, face_index=index) if index else FT2Font(path)


@cache
def _add_new_fonts() -> bool:
    """Tell matplotlib about fonts installed since it last listed them, which it does only once per version."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    known = {face.fname for face in fontManager.ttflist}
    before = len(known)
    for path in sorted(set(findSystemFonts()) - known):
        with suppress(Exception):  # matplotlib, too, skips fonts that it cannot read
            fontManager.addfont(path)
    return len({face.fname for face in fontManager.ttflist}) > before


# --- what a character is ---


@cache
def _group(character: str) -> str:
    """The name of a character's script, with one name for Chinese, Japanese and Korean, and one for emoji."""
    from fontTools import unicodedata as scripts  # type: ignore[import-untyped]

    code = scripts.script(character)
    if code in ("Hani", "Hira", "Kana", "Hang", "Bopo"):
        return CJK
    if code not in ("Zyyy", "Zinh", "Zzzz"):
        return scripts.script_name(code).replace("_", " ")
    if ord(character) >= 0x1F000 or unicodedata.category(character) == "So":
        return EMOJI
    return CJK if unicodedata.east_asian_width(character) in "WFH" else OTHER


def _region(text: str) -> str:
    """The region whose Han characters these texts need: JP, KR, SC (mainland China) or TC (Taiwan)."""
    if any("\u3040" <= c <= "\u30ff" for c in text):  # Hiragana and Katakana
        return "JP"
    if any("\uac00" <= c <= "\ud7a3" or "\u1100" <= c <= "\u11ff" for c in text):  # Hangul
        return "KR"
    han = "".join(c for c in text if "\u4e00" <= c <= "\u9fff")
    return "TC" if not _fits(han, "gb2312") and _fits(han, "big5") else "SC"


def _fits(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _advice(missing: Sequence[str]) -> str:
    lacking: list[str] = []
    packages: dict[str, None] = {}
    downloads: dict[str, None] = {}
    for group, members in groupby(missing, key=_group):  # missing is sorted by group
        found = [c if c.isprintable() else f"U+{ord(c):04X}" for c in members]
        lacking.append(f"{group} ({' '.join(found[:5])}{' …' * (len(found) > 5)})")
        package, download = PACKAGES.get(group, ("fonts-noto-core", f"Noto Sans {group}"))
        packages[package] = downloads[download] = None
    return (
        f"No installed font has {', '.join(lacking)}: figures show boxes instead. Install {', '.join(downloads)} from "
        f"https://fonts.google.com/noto (on Debian and Ubuntu: apt install {' '.join(packages)}), then restart Python."
    )


# --- the order of letters, for matplotlib 3.10 ---


def _from_left_to_right(text: str) -> str:
    """The letters in their visual order, left to right: a small part of the Unicode bidirectional algorithm."""
    clusters: list[str] = []
    for c in text:
        if clusters and unicodedata.combining(c):
            clusters[-1] += c  # an accent stays after its letter
        else:
            clusters.append(c)
    strong = [kind for kind in map(unicodedata.bidirectional, text) if kind in ("L", "R", "AL")]
    base = "L" if strong[0] == "L" else "R"
    kinds = [_direction(cluster[0]) for cluster in clusters]
    for n, kind in enumerate(kinds):
        if not kind:  # a space or sign takes the direction of its neighbours if they agree
            before, after = kinds[n - 1] if n else base, next(filter(None, kinds[n:]), base)
            kinds[n] = before if before == after else base
    runs = []
    for kind, run in groupby(zip(kinds, clusters, strict=True), key=lambda pair: pair[0]):
        letters = [cluster for _, cluster in run]
        runs.append("".join(letters if kind == "L" else [c.translate(_MIRRORED) for c in reversed(letters)]))
    return "".join(runs if base == "L" else reversed(runs))


_MIRRORED = str.maketrans("()[]{}<>«»", ")(][}{><»«")


def _direction(character: str) -> str:
    """L or R; digits are L, even between Arabic letters; "" for characters without a direction."""
    kind = unicodedata.bidirectional(character)
    return "R" if kind in ("R", "AL") else "L" if kind in ("L", "EN", "AN") else ""
