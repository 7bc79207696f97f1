"""Checks of chapter 06: each looks at an answer and says what is right, or which mistake it shows."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from camlib.plot import oklab
from checks.answers import array, not_a_function


def one_limit(maps: Sequence[Any], answer: Any) -> str:
    """One number for several maps with NaN: their largest |value|. A symmetric pair (-limit, limit) is as good."""
    if answer is None or answer is ...:
        return "No answer yet: compute one number in place of None."
    given = array(answer)
    if given is None:
        return f"A limit is one number; this is {answer!r}."
    shape, given = given.shape, given.ravel()
    values = [np.asarray(heat, dtype=float) for heat in maps]
    limits = [float(np.nanmax(np.abs(v))) for v in values]
    right, low, high = max(limits), min(map(np.nanmin, values)), max(map(np.nanmax, values))
    if np.isnan(given).any():
        return "NaN: outside the network's view a map is NaN, and one NaN makes the result NaN. Leave them out."
    if len(given) == 2 and given[0] == -given[1]:
        given = np.abs(given[1:])
    if len(given) == len(values):
        return "One limit per map means one scale per map, and you cannot compare the colours. Use one for all."
    if len(given) == 2:
        return f"From {given[0]:.1f} to {given[1]:.1f}, zero is not in the middle. Give one number, limit."
    if len(given) != 1:
        return f"A limit is one number; yours has the shape {shape}."
    value = float(given[0])
    mistakes = {
        "that is the maximum. Evidence against counts too: take the largest |value|": high,
        "that is the minimum with its sign: take the largest |value|": low,
        "that is maximum − minimum, the range of min-max. Take the largest |value|": high - low,
        "that is the mean of the three limits, and the largest map would be cut off": float(np.mean(limits)),
        "that is the sum of the limits: full colour would never occur": sum(limits),
        "that is the smallest of the limits, and the other maps would be cut off": min(limits),
    }
    if abs(value - right) < 0.05:
        return f"Right: from {-right:.1f} to {right:.1f}, all three maps fit, and zero is in the middle."
    for text, wrong in mistakes.items():
        if abs(value - wrong) < 0.05:
            return f"{value:.1f}: {text}."
    if value > right:
        return f"{value:.1f} works, but is more than you need: the largest |value| is smaller, so all colours get pale."
    return f"{value:.1f} is too small: a map has a larger |value|, which would be cut off."


GRAY, RED, BLUE = np.array([0.87, 0.87, 0.87]), np.array([0.71, 0.02, 0.15]), np.array([0.23, 0.30, 0.75])


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-9))


def signed_rgb(function: Callable[[np.ndarray, float], Any]) -> str:
    """Values (h, w) and a limit -> colours (h, w, 3), 0 to 1: gray at zero, red above, blue below, clipped, even."""
    task = "let signed_rgb return an array (h, w, 3)"
    if fault := not_a_function(function, task):
        return fault
    values, limit = np.array([[-6.0, -3.0, -1.5, 0.0, 1.5, 3.0, 9.0, -0.75, 0.75]]), 3.0
    count = values.size
    try:
        answer = function(values.copy(), limit)
        again = function(10 * values, 10 * limit)
    except Exception as e:  # whatever a learner's code raises
        return f"With values of the shape {values.shape}, your function raises {type(e).__name__}: {e}"
    if answer is None or answer is ...:
        return f"No answer yet: {task}."
    rgb, scaled = array(answer), array(again)
    if rgb is None or scaled is None:
        return f"The answer is an array of colours; yours is a {type(answer).__name__}."
    if rgb.shape == (1, count, 4):
        return "Four numbers per pixel: that is RGB and an opacity. Keep the first three, [..., :3]."
    if rgb.shape == (3, 1, count):
        return "The shape is (3, h, w): in pictures, the colours come last, (h, w, 3)."
    if rgb.shape != (1, count, 3):
        return (
            f"For values of the shape (1, {count}), the colours have the shape (1, {count}, 3); yours have {rgb.shape}."
        )
    if not np.isfinite(rgb).all():
        return "Some colours are NaN or infinite."
    if rgb.max() > 10:  # written from 0 to 255
        rgb, scaled = rgb / 255, scaled / 255
    if _cosine(rgb[0, 7] - rgb[0, 3], BLUE - GRAY) < -0.8 and _cosine(rgb[0, 8] - rgb[0, 3], RED - GRAY) > 0.8:
        return "The colours for evidence against overshoot: take np.abs of the strength before you mix."
    if rgb.min() < -0.01 or rgb.max() > 1.01:
        inside = rgb[0, [1, 2, 3, 4, 5, 7, 8]]
        if inside.min() < -0.01 or inside.max() > 1.01:
            return f"Even within the limit, your colours go from {inside.min():.2f} to {inside.max():.2f}, not 0 to 1."
        return f"Colours from {rgb.min():.2f} to {rgb.max():.2f}: 9 is beyond the limit 3. Clip values / limit to ±1."
    return _colour_fault(rgb[0], scaled[0]) or "Right: gray at zero, red for, blue against, and the limit is respected."


def _colour_fault(rgb: np.ndarray, scaled: np.ndarray) -> str | None:
    """What is wrong with the nine colours of `signed_rgb`; scaled: those of ten times the values and the limit."""
    lab = oklab(255 * np.clip(rgb, 0, 1))
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    if chroma[3] > 0.02:
        text = rgb[3].round(2).tolist()
        return f"Zero has the colour {text}, not gray. Does min-max move zero? Or do you mix red with blue?"
    if not 0.6 < lab[3, 0] < 0.97:
        return f"Zero is nearly {'black' if lab[3, 0] < 0.6 else 'white'}: start from GRAY."
    if np.abs(rgb[1] - rgb[5]).max() < 0.02:
        return "−3 and 3 have the same colour: the sign is lost."
    red, blue = (oklab(255 * end)[1:] for end in (RED, BLUE))
    if _cosine(lab[1, 1:], red) > 0.8 and _cosine(lab[5, 1:], blue) > 0.8:
        return "The sides are swapped: red for, blue against."
    if min(_cosine(lab[5, 1:], red), _cosine(lab[1, 1:], blue)) < 0.8:
        return "Red for, blue against: −3 should be blue, 3 red."
    if max(np.abs(rgb[5] - rgb[6]).max(), np.abs(rgb[0] - rgb[1]).max()) > 0.02:
        return "3 is the limit, so 3 and 9 get the same colour. Did you use the maximum in place of limit, or not clip?"
    if np.abs(rgb - scaled).max() > 0.02:
        return "Ten times the values with ten times the limit give other colours: use the limit that you are given."
    parts = np.array([[2, 1, 50], [4, 5, 50], [7, 1, 25], [8, 5, 25]])  # a colour, that of its limit, its share in %
    shares = [_shares(colours, parts) for colours in (rgb, lab)]  # mixed in RGB, or in OKLab
    off = [np.abs(share - parts[:, 2]).max() for share in shares]
    if min(off) > 9:
        share = shares[int(np.argmin(off))]
        k = int(np.abs(share - parts[:, 2]).argmax())
        part = "Half" if parts[k, 2] == 50 else "A quarter of"
        return f"{part} the evidence is {share[k]:.0f} % as far from gray as all of it; it should be {parts[k, 2]} %."
    if min(_cosine(lab[a, 1:], lab[b, 1:]) for a, b, _ in parts) < 0.8:
        return "The hue changes with the strength: mix gray with red alone, and gray with blue alone."
    return None


def _shares(colours: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """How far colours are from that of zero, in % of the distance of others."""
    distance = np.linalg.norm(colours - colours[3], axis=-1)
    return 100 * distance[parts[:, 0]] / (distance[parts[:, 1]] + 1e-9)


GRAYS = [0, 64, 128, 192, 255]
EVIDENCE = [0.0, 5.0, 10.0, 20.0, -5.0, -10.0]  # on a scale to 10
SMALLER = np.array([0, 1, 2, 4, 5])  # the rows within the scale


def sparing_overlay(function: Callable[[np.ndarray, np.ndarray, float], Any]) -> str:
    """An overlay with equal chroma for equal evidence, and the photo's lightness the same with and without evidence."""
    task = "let my_overlay return a picture (H, W, 3)"
    if fault := not_a_function(function, task):
        return fault
    columns = [[g, g, g] for g in GRAYS] + [[200, 30, 30]]
    photo = np.array([columns] * len(EVIDENCE), np.uint8)
    heat = np.array(EVIDENCE)[:, None].repeat(len(columns), 1)
    try:
        answer = function(photo.copy(), heat.copy(), 10.0)
        others = function(photo.copy(), heat.clip(-10, 10), 10.0), function(photo.copy(), 10 * heat, 100.0)
    except Exception as e:  # whatever a learner's code raises
        return f"With a photo {photo.shape} and a map {heat.shape}, your function raises {type(e).__name__}: {e}"
    if answer is None or answer is ...:
        return f"No answer yet: {task}."
    rgb = array(answer)
    if rgb is None or rgb.shape != photo.shape:
        shape = type(answer).__name__ if rgb is None else rgb.shape
        return f"The picture has the shape of the photo, {photo.shape}; yours is {shape}."
    if not np.isfinite(rgb).all():
        return "Some colours are NaN or infinite."
    gray = rgb[0, :5]
    if np.abs(gray[:, 1:]).max() < 0.02 and 0.1 < gray[:, 0].max() <= 1.01:
        return "That is still OKLab: end with to_rgb."
    scale = 255.0 if rgb.max() <= 1.01 else 1.0
    if any(np.abs(scale * (rgb - array(other)))[SMALLER].max() > 3 for other in others):
        return "Other values change the scale: use the limit that you are given."
    return _overlay_fault(oklab(np.clip(scale * rgb, 0, 255)))


def _overlay_fault(lab: np.ndarray) -> str:
    """What is right or wrong with the test picture (6, 6, 3) of `sparing_overlay`, in OKLab."""
    light, chroma = lab[:, :5, 0], np.hypot(lab[..., 1], lab[..., 2])
    full, half = chroma[[2, 5]], chroma[[1, 4]]
    contrast = light[:, -1] - light[:, 0]
    if chroma[0, :5].max() > 0.02:
        return "Without evidence, a gray photo should be gray."
    if chroma[0, 5] > 0.02:
        return "Without evidence, the photo still has colours of its own: show its lightness only."
    if contrast[0] < 0.195:  # 0.2, rounded to 255 steps
        return f"Black and white differ in lightness by only {contrast[0]:.2f}; make it at least 0.2."
    if full[:, :5].max() < 0.02:
        return "Full evidence has no colour."
    spread = 1 - np.array([chroma[row, :5].min() / (chroma[row, :5].max() + 1e-9) for row in (1, 2, 4, 5)])
    if (spread > 0.1).any():
        row = [1, 2, 4, 5][int(spread.argmax())]
        low, high = chroma[row, :5].min(), chroma[row, :5].max()
        values = f"Over black to white, evidence {EVIDENCE[row]:g} of 10 has a chroma from {low:.2f} to {high:.2f}"
        middle = half[:, 1:4]  # where a screen has most colours
        if (middle.min(1) > 0.9 * middle.max(1)).all():
            return f"{values}: not every colour exists on a screen. Use less chroma, or keep lightness near the middle."
        return f"{values}. Do you mix in RGB? Mix in OKLab. Or is it too much chroma for a screen?"
    if full[:, :5].mean(1).min() < 0.075:  # 0.08, rounded to 255 steps
        side = "for" if full[0, :5].mean() < full[1, :5].mean() else "against"
        return f"Full evidence {side} has a chroma of {full[:, :5].mean(1).min():.2f}; it needs 0.08."
    shares = half.mean(1) / full.mean(1)
    if np.abs(shares - 0.5).max() > 0.07:
        squared = " Did you square the strength?" if np.abs(shares - 0.25).max() < 0.05 else ""
        return f"Half the evidence has {shares.mean():.0%} of the chroma; it should have half.{squared}"
    if np.abs(chroma[3] / chroma[2] - 1).max() > 0.1:
        return "Evidence 20 on a scale to 10 should look like 10: clip it."
    for row in (1, 2, 4, 5):
        mean = lab[row, :5, 1:].mean(0)
        if np.linalg.norm(lab[row, 5, 1:] - mean) > 0.15 * np.linalg.norm(mean):
            return "Under evidence, the photo's own colours shine through: use its lightness only."
    a, b = lab[2, :5, 1:].mean(0), lab[5, :5, 1:].mean(0)
    if _cosine(a, b) > 0.5:
        return "Evidence for and against have nearly the same tint: the sign is lost."
    red, blue = (oklab(255 * end)[1:] for end in (RED, BLUE))
    if _cosine(a - b, red - blue) < -0.5:
        return "The sides are swapped: red for, blue against."
    worst = int(contrast.argmin())
    if contrast[worst] < 0.9 * contrast[0]:
        return (
            f"Black and white differ in lightness by {contrast[0]:.2f} without evidence, but only by "
            f"{contrast[worst]:.2f} under evidence {EVIDENCE[worst]:g} of 10. Let lightness depend on the photo only."
        )
    if np.abs(light[1:] - light[0]).max() > 0.03:
        return "Evidence changes the lightness. Let it depend on the photo only."
    return f"Right: equal chroma for equal evidence, and {contrast[0]:.2f} of the photo's lightness everywhere."
