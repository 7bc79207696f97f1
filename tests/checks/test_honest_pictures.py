"""Chapter 06's checks name the mistake, and the folded solutions pass."""

import numpy as np
import pytest
import torch
from checks import honest_pictures as check
from matplotlib import colormaps

import camlib
from camlib.plot import _from_oklab, full_colour, oklab
from tests.checks.solutions import solutions

MAPS = [np.array([[np.nan, -11.0, -2.0]]), np.array([[-1.5, 2.0], [np.nan, 0.0]]), np.array([[5.0, -3.0]])]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, "No answer yet"),
        (..., "No answer yet"),
        (11.0, "Right"),
        (11, "Right"),
        (np.float32(11), "Right"),
        (np.array(11.0), "Right"),
        (torch.tensor(11.0), "Right"),
        ([11.0], "Right"),
        ((-11, 11), "Right"),
        (max(np.nanmax(np.abs(m)) for m in MAPS), "Right"),
        (max(torch.from_numpy(m).nan_to_num(0).abs().max() for m in MAPS), "Right"),
        (5.0, "that is the maximum. Evidence against counts too"),
        (-11.0, "the minimum with its sign"),
        (16.0, "maximum − minimum"),
        (6.0, "mean of the three limits"),
        (18.0, "sum of the limits"),
        (2.0, "smallest of the limits"),
        (float("nan"), "NaN"),
        (max(np.abs(m).max() for m in MAPS), "NaN"),
        ([11.0, 2.0, 5.0], "One limit per map means one scale per map"),
        (np.array([11.0, 2.0, 5.0]), "One limit per map means one scale per map"),
        ((-11.0, 5.0), "zero is not in the middle"),
        (20.0, "works, but is more than you need"),
        (7.0, "too small"),
        ("eleven", "A limit is one number"),
        (np.zeros((2, 2)), "A limit is one number"),
        ([], "A limit is one number"),
        ([MAPS, 1], "A limit is one number"),
        ([torch.ones(2, requires_grad=True)] * 2, "A limit is one number"),
        (lambda maps: 11, "A limit is one number"),
    ],
)
def test_one_limit(answer, says):
    assert says in check.one_limit(MAPS, answer)
    assert says in check.one_limit([torch.from_numpy(m) for m in MAPS], answer)


GRAY, RED, BLUE = np.array([0.87, 0.87, 0.87]), np.array([0.71, 0.02, 0.15]), np.array([0.23, 0.30, 0.75])


def mixed(strength, red=RED, blue=BLUE, gray=GRAY):
    strength = np.asarray(strength)[..., None]
    return gray + np.abs(strength) * (np.where(strength < 0, blue, red) - gray)


def curved(strength, exponent):
    return mixed(np.sign(strength) * np.abs(strength) ** exponent)


def in_oklab(strength):
    gray, red, blue = (oklab(255 * end) for end in (GRAY, RED, BLUE))
    return mixed(strength, red, blue, gray)


def overshooting(values, limit):
    strength = np.clip(values / limit, -1, 1)[..., None]
    return GRAY + strength * (np.where(strength < 0, BLUE, RED) - GRAY)


def purple_on_the_way(values, limit):
    """Half red on the way to blue, and half blue on the way to red."""
    strength = np.clip(values / limit, -1, 1)
    part = np.abs(strength)[..., None]
    return mixed(strength) + part * (1 - part) * np.where(strength[..., None] < 0, RED - BLUE, BLUE - RED)


def right(values, limit):
    return mixed(np.clip(values / limit, -1, 1))


def pixel_by_pixel(values, limit):
    picture = []
    for row in values:
        picture.append([])
        for value in row:
            part = min(abs(value) / limit, 1)
            end = RED if value > 0 else BLUE
            picture[-1].append([float(g + part * (e - g)) for g, e in zip(GRAY, end, strict=True)])
    return picture


def in_torch(values, limit):
    part = (torch.from_numpy(values) / limit).clamp(-1, 1)[..., None]
    gray, red, blue = (torch.from_numpy(c) for c in (GRAY, RED, BLUE))
    return gray + part.abs() * (torch.where(part < 0, blue, red) - gray)


def primaries(values, limit):
    part = np.clip(values / limit, -1, 1)
    white = 1 - np.abs(part)
    return np.stack([white + np.maximum(part, 0), white, white + np.maximum(-part, 0)], -1)


def by_range(values, limit):
    part = 2 * (values - values.min()) / (values.max() - values.min()) - 1
    return mixed(part)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda values, limit: None, "No answer yet"),
        (right, "Right"),
        (pixel_by_pixel, "Right"),
        (in_torch, "Right"),
        (primaries, "Zero is nearly white"),
        (lambda values, limit: mixed(np.clip(values / limit, -1, 1), gray=np.zeros(3)), "Zero is nearly black"),
        (lambda values, limit: _from_oklab(in_oklab(np.clip(values / limit, -1, 1))), "Right"),
        (lambda values, limit: curved(np.clip(values / limit, -1, 1), 0.4), "A quarter of the evidence is 57 % as far"),
        (lambda values, limit: curved(np.clip(values / limit, -1, 1), 0.7), "should be"),
        (lambda values, limit: curved(np.clip(values / limit, -1, 1), 1.6), "should be"),
        (lambda values, limit: mixed(np.tanh(np.clip(values / limit, -1, 1)) / np.tanh(1)), "it should be"),
        (lambda values, limit: mixed(np.round(3 * np.clip(values / limit, -1, 1)) / 3), "should be"),
        (
            lambda values, limit: RED + (1 - np.clip(values / limit, -1, 1)[..., None]) / 2 * (BLUE - RED),
            "do you mix red",
        ),
        (overshooting, "np.abs of the strength before you mix"),
        (lambda values, limit: np.clip(overshooting(values, limit), 0, 1), "np.abs of the strength before you mix"),
        (purple_on_the_way, "The hue changes"),
        (lambda values, limit: mixed(np.clip(values / limit, -1, 1), red=0.5 * RED + 0.5 * BLUE), "Red for, blue"),
        (lambda values, limit: np.rint(255 * right(values, limit)).astype(np.uint8), "Right"),
        (lambda values, limit: colormaps["coolwarm"](values / limit / 2 + 0.5)[..., :3], "Right"),
        (lambda values, limit: colormaps["RdBu_r"](values / limit / 2 + 0.5)[..., :3], "Zero is nearly white"),
        (lambda values, limit: colormaps["coolwarm"](values / limit / 2 + 0.5), "Keep the first three"),
        (lambda values, limit: np.moveaxis(right(values, limit), -1, 0), "the colours come last"),
        (lambda values, limit: values / limit, "have the shape (1, 9, 3)"),
        (lambda values, limit: mixed(values / limit), "beyond the limit 3"),
        (by_range, "Does min-max move zero"),
        (lambda values, limit: mixed(np.clip(np.abs(values) / limit, 0, 1)), "the sign is lost"),
        (lambda values, limit: right(-values, limit), "swapped"),
        (lambda values, limit: mixed(np.clip(values / limit, -1, 1), red=np.array([0.1, 0.6, 0.1])), "Red for, blue"),
        (lambda values, limit: mixed(values / np.abs(values).max()), "Did you use the maximum in place of limit"),
        (
            lambda values, limit: mixed(np.clip(values / limit, -1, 1) * np.abs(np.clip(values / limit, -1, 1))),
            "should be",
        ),
        (lambda values, limit: mixed(np.sign(values)), "is 100 % as far from gray"),
        (lambda values, limit: right(values, 3), "use the limit that you are given"),
        (lambda values, limit: right(values, limit) * np.nan, "NaN"),
        (lambda values, limit: "red", "an array of colours"),
        (lambda values, limit: [[1], [2, 3]], "an array of colours"),
        (lambda values, limit: values @ RED, "raises ValueError"),
        (lambda values: values, "raises TypeError"),
        (right(np.zeros((1, 2)), 1), "Pass the function itself"),
        (None, "No answer yet"),
    ],
)
def test_signed_rgb(function, says):
    assert says in check.signed_rgb(function)


def sparing(
    photo,
    heat,
    limit,
    low=0.45,
    span=0.3,
    chroma=0.1,
    signed=True,
    power=1.0,
    clip=True,
    against=1.0,
    shine=0.0,
    dip=0.0,
    darker=0.0,
    raw=False,
):
    """against: the chroma of that side. shine: of the photo's own colours, where there is evidence. dip: contrast lost
    at half evidence. darker: under full evidence. power: of the strength. raw: as OKLab."""
    gray = np.rint(photo @ [0.299, 0.587, 0.114])[..., None].repeat(3, -1)
    part = np.clip(heat / limit, -1, 1) if clip else heat / limit
    part = (np.sign(part) * np.abs(part) ** power)[..., None]
    blue, red = (full_colour("coolwarm", end)[1:] / np.hypot(*full_colour("coolwarm", end)[1:]) for end in (0.0, 1.0))
    size = np.abs(part)
    ab = chroma * size * (np.where(part < 0, against * blue, red) if signed else red)
    ab = ab + shine * size * oklab(photo)[..., 1:]
    light = low + span * oklab(gray)[..., :1]
    light = light + dip * 4 * size * (1 - size) * (low + span / 2 - light) - darker * size
    lab = np.concatenate([light, ab], -1)
    return lab if raw else _from_oklab(lab)


def blend(photo, heat, limit, red=RED, blue=BLUE):
    gray = np.rint(photo @ [0.299, 0.587, 0.114])[..., None]
    part = np.clip(heat / limit, -1, 1)[..., None]
    return gray * (1 - 0.85 * np.abs(part)) + 255 * np.where(part < 0, blue, red) * 0.85 * np.abs(part)


def opposite(photo, heat, limit):
    """One direction of tint, with the sign: red against blue-green."""
    light = oklab(np.rint(photo @ [0.299, 0.587, 0.114])[..., None].repeat(3, -1))[..., 0]
    part = np.clip(heat / limit, -1, 1)
    return _from_oklab(np.stack([0.5 + 0.25 * light, 0.085 * part, 0.03 * part], -1))


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda photo, heat, limit: None, "No answer yet"),
        (sparing, "Right"),
        (opposite, "Right"),
        (lambda *a: torch.from_numpy(sparing(*a)), "Right"),
        (lambda *a: sparing(*a).tolist(), "Right"),
        (lambda *a: sparing(*a) / 255, "Right"),
        (lambda *a: sparing(*a, low=0.2, span=0.6, chroma=0.08), "Right"),
        (lambda *a: sparing(*a, span=0.2), "Right"),
        (lambda *a: sparing(*a, chroma=0.08), "Right"),
        (lambda *a: sparing(*a)[..., :0], "The picture has the shape of the photo"),
        (camlib.overlay, "Let lightness depend on the photo only"),
        (lambda photo, heat, limit: sparing(photo, -heat, limit), "swapped"),
        (lambda *a: sparing(*a, against=0.5), "Full evidence against has a chroma of 0.05"),
        (lambda *a: sparing(*a, shine=1.0), "shine through"),
        (lambda *a: sparing(*a, dip=0.5), "under evidence -5 of 10"),
        (lambda *a: sparing(*a, darker=0.1), "Evidence changes the lightness"),
        (lambda *a: sparing(*a, raw=True), "end with to_rgb"),
        (lambda *a: sparing(a[0], a[1], np.abs(a[1]).max()), "use the limit that you are given"),
        (lambda *a: sparing(a[0], a[1], 10), "use the limit that you are given"),
        (lambda *a: sparing(*a, low=0.05, span=0.9, chroma=0.08), "not every colour exists on a screen"),
        (lambda *a: sparing(*a, chroma=0.0), "no colour"),
        (blend, "Do you mix in RGB"),
        (lambda *a: blend(*a, red=np.array([1, 0, 0]), blue=np.array([0, 0, 1])), "it should have half"),
        (lambda *a: sparing(*a, low=0.35, span=0.58, chroma=0.19), "not every colour exists on a screen"),
        (lambda photo, heat, limit: photo, "colours of its own"),
        (lambda photo, heat, limit: np.clip(photo + 0.0 + [30, 0, 0], 0, 255), "a gray photo should be gray"),
        (lambda *a: sparing(*a, span=0.1), "at least 0.2"),
        (lambda *a: sparing(*a, chroma=0.05), "it needs 0.08"),
        (lambda *a: sparing(*a, low=0.3, span=0.65, chroma=0.11), "not every colour exists on a screen"),
        (lambda *a: sparing(*a, power=2), "it should have half. Did you square the strength?"),
        (lambda *a: sparing(*a, power=0.5), "has 71% of the chroma; it should have half"),
        (lambda *a: sparing(*a, clip=False, chroma=0.08), "clip it"),
        (lambda *a: sparing(*a, signed=False), "the sign is lost"),
        (lambda photo, heat, limit: heat, "The picture has the shape of the photo"),
        (lambda photo, heat, limit: "red", "The picture has the shape of the photo"),
        (lambda *a: sparing(*a) * np.nan, "NaN"),
        (lambda photo, heat, limit: photo @ heat, "raises ValueError"),
        (np.zeros((6, 6, 3)), "Pass the function itself"),
        (None, "No answer yet"),
    ],
)
def test_sparing_overlay(function, says):
    assert says in check.sparing_overlay(function)


def test_solutions_pass(capsys):
    one, signed, sparing = solutions("06_honest_pictures")
    exec(one, {"np": np, "check": check, "maps": MAPS})
    exec(signed, {"np": np, "check": check, "GRAY": GRAY, "RED": RED, "BLUE": BLUE})
    blue, red = (full_colour("coolwarm", end)[1:] / np.hypot(*full_colour("coolwarm", end)[1:]) for end in (0.0, 1.0))
    names = {
        "lightness": lambda photo: oklab(np.rint(photo @ [0.299, 0.587, 0.114])[..., None].repeat(3, -1))[..., :1],
        "to_rgb": _from_oklab,
    }
    exec(sparing, {"np": np, "check": check, "blue": blue, "red": red, **names})
    out = capsys.readouterr().out
    assert out.count("Right:") == 3 and len(out.splitlines()) == 3, out
