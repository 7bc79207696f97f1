"""Checks of chapter 01: each looks at an answer and says what is right, or which mistake it shows."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import camlib
from checks.answers import not_a_function, tensor

PHOTOS = Path(__file__).parent.parent.parent / "data" / "photos"
SIDE = 224
BICUBIC = Image.Resampling.BICUBIC
MEAN, STD = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
FARTHEST = 40  # pixels that smallest_move tries on either side


def _same(a: Tensor, b: Tensor, atol: float = 1e-5) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, atol=atol)


# Exercise 1


def prepare(function: Callable[[Image.Image], Any]) -> str:
    """A Pillow image as the bundled network's input (1, 3, 224, 224), on a portrait and on two wide photos."""
    if fault := not_a_function(function, "return the input, a tensor (1, 3, 224, 224)"):
        return fault
    for name in ("grace_hopper.jpg", "crocodile.webp", "moose.webp"):
        with Image.open(PHOTOS / name) as file:
            image = file.convert("RGB")
        try:
            given = function(image.copy())
        except Exception as e:  # whatever a learner's code raises
            return f"With {name}, prepare raises {type(e).__name__}: {e}"
        if given is None or given is ...:
            return "No answer yet: return the input, a tensor (1, 3, 224, 224)."
        x = None if isinstance(given, Image.Image) else tensor(given)
        if x is None:
            return f"prepare returns a {type(given).__name__}; the input is a tensor (1, 3, 224, 224)."
        if fault := _shape_fault(tuple(x.shape)) or _value_fault(x, image):
            return f"{name}: {fault}"
    return "Right: for three photos, you get exactly the network's input."


def _shape_fault(shape: tuple[int, ...]) -> str | None:
    if shape == (1, 3, SIDE, SIDE):
        return None
    if shape == (3, SIDE, SIDE):
        return "the batch axis is missing: the network takes (1, 3, 224, 224). Add it with [None]."
    if shape in ((SIDE, SIDE, 3), (1, SIDE, SIDE, 3)):
        return f"the shape is {shape}: PyTorch wants the channels before rows and columns. Move them with permute."
    if len(shape) == 4 and shape[:2] == (1, 3):
        return f"the window is {shape[2]} × {shape[3]}, not 224 × 224: is the crop missing?"
    return f"the shape is {shape}; the network takes (1, 3, 224, 224)."


def _value_fault(x: Tensor, image: Image.Image) -> str | None:
    """The two mistakes, in the picture and in the numbers, that give exactly this input."""
    pictures = dict(_pictures(image))
    for place, window in pictures.items():
        for scale, right in _numbers(window):
            if _same(x, right, 2e-3 * max(1.0, float(right.abs().max()))):
                faults = [fault for fault in (place, scale) if fault]
                return " And ".join(faults) or None
    low, high = float(x.min()), float(x.max())
    off = float((x - dict(_numbers(pictures[""]))[""]).abs().max())
    return (
        f"the shape is right, but the values are not. They go from {low:.2f} to {high:.2f} and differ from the right "
        f"ones by up to {off:.2f}. Go through the four steps again."
    )


def _pictures(image: Image.Image) -> Iterator[tuple[str, np.ndarray]]:
    """What is wrong with the window, and the window (224, 224, 3) that it gives; the right one first."""

    def window(small: Image.Image, left: int, top: int) -> np.ndarray:
        return np.asarray(small.crop((left, top, left + SIDE, top + SIDE)))

    def resized(short: int, how: Image.Resampling = BICUBIC) -> Image.Image:
        return image.resize([short * side // min(image.size) for side in image.size], how)

    def centred(small: Image.Image) -> np.ndarray:
        return window(small, *(round((side - SIDE) / 2) for side in small.size))

    small, short = resized(256), min(image.size)
    yield "", centred(small)
    wide, high = small.size
    sizes = [int(256 / short * side) for side in image.size]
    if min(sizes) == 255:
        fault = "the shorter side becomes 255: 256 / side is not exact. Multiply first: 256 * side // short."
    else:
        fault = f"the resized photo is {max(sizes)} pixels long: 256 / side is not exact. Multiply first."
    yield fault, centred(image.resize(sizes, BICUBIC))
    yield (
        "the longer side is rounded to the nearest whole number; the recipe rounds down.",
        centred(image.resize([round(256 * side / short) for side in image.size], BICUBIC)),
    )
    yield (
        "the crop starts a pixel early: round((side - 224) / 2).",
        window(small, *((side - SIDE) // 2 for side in small.size)),
    )
    for axis, name in enumerate(("width", "height")):
        sizes = [256 * side // image.size[axis] for side in image.size]
        yield f"the {name} becomes 256 pixels; the shorter side should.", centred(image.resize(sizes, BICUBIC))
    yield "the window is the top left corner; take the middle.", window(small, 0, 0)
    yield (
        "left and top of the crop are swapped.",
        window(small, round((high - SIDE) / 2), round((wide - SIDE) / 2)),
    )
    yield "the photo is not resized before the crop.", centred(image)
    yield "the shorter side becomes 224 pixels; the recipe says 256.", centred(resized(SIDE))
    yield (
        "the whole photo is squeezed into the square; resize to 256, then crop.",
        np.asarray(image.resize((SIDE, SIDE), BICUBIC)),
    )
    yield (
        "the photo is squeezed to 256 × 256; the other side must keep the proportion.",
        centred(image.resize((256, 256), BICUBIC)),
    )
    yield (
        "the resized width and height are swapped: Pillow wants (width, height).",
        centred(image.resize((high, wide), BICUBIC)),
    )
    for how in (Image.Resampling.BILINEAR, Image.Resampling.LANCZOS, Image.Resampling.NEAREST):
        yield f"you resize with {how.name.lower()} interpolation; the recipe says bicubic.", centred(resized(256, how))


def _numbers(window: np.ndarray) -> Iterator[tuple[str, Tensor]]:
    """What is wrong with the numbers, and the input (1, 3, 224, 224) that it gives; the right one first."""
    byte = torch.from_numpy(window.copy()).float()
    unit = byte.permute(2, 0, 1)[None] / 255
    right = 2 * unit - 1
    yield "", right
    yield "the values go from 0 to 255; scale them to −1 … 1.", 255 * unit
    yield "the values go from 0 to 1; scale them to −1 … 1.", unit
    yield "the values go from −1 to 0: multiply by 2 before you subtract 1.", unit - 1
    yield "that is ImageNet's mean and deviation, another network's recipe; this one wants −1 … 1.", (unit - MEAN) / STD
    yield "the channels are in the order BGR; the network wants RGB.", right[:, [2, 1, 0]]
    yield (
        "reshape does not move the channels, it mixes them up; use permute.",
        right.permute(0, 2, 3, 1).reshape(right.shape),
    )
    yield "rows and columns are swapped: permute(2, 0, 1) keeps them in order.", right.transpose(2, 3)


# Exercise 2


def softmax(function: Callable[[Tensor], Any]) -> str:
    """Logits (K,) -> probabilities (K,), which must survive large logits."""
    if fault := not_a_function(function, "return one probability for each logit"):
        return fault
    logits = 3 * torch.randn(20, generator=torch.Generator().manual_seed(1))
    large = {
        "1000 higher each": logits + 1000,
        "1000 lower each": logits - 1000,
        "100 times as large": 100 * logits,
        "300 times as large": 300 * logits,
    }
    answers = []
    for z in (logits, *large.values()):
        try:
            given = function(z.clone())
        except Exception as e:  # whatever a learner's code raises
            return f"softmax raises {type(e).__name__}: {e}"
        if given is None or given is ...:
            return "No answer yet: return one probability for each logit."
        p = tensor(given)
        if p is None:
            return f"softmax returns a {type(given).__name__}; return one probability for each logit."
        answers.append(p)
    first = answers[0]
    right = logits.softmax(0)
    if first.shape != right.shape:
        return f"20 logits give 20 probabilities; yours have the shape {tuple(first.shape)}."
    mistakes = {
        "those are logarithms of probabilities; leave out the last logarithm": logits.log_softmax(0),
        "logits divided by their sum can be negative or above 1; take the exponential of each first": logits
        / logits.sum(),
        "those are the exponentials; divide each by their sum": logits.exp(),
        "the largest logit is subtracted, but the exponentials are not divided by their sum": (
            logits - logits.max()
        ).exp(),
        "that is a sigmoid: it treats each logit separately, and the results do not sum to 1": logits.sigmoid(),
        "you took the softmax twice; it takes logits, once": right.softmax(0),
    }
    if not _same(first, right):
        for text, wrong in mistakes.items():
            if _same(first, wrong, 1e-4):
                return f"Not yet: {text}."
        total = float(first.sum())
        return f"Not yet: your probabilities sum to {total:.3f}, and they do not match the softmax."
    for (how, z), p in zip(large.items(), answers[1:], strict=True):
        if not _same(p, z.softmax(0)):
            text = [round(v, 3) for v in p.flatten()[:3].tolist()]
            return (
                f"Right for these logits, but not safe: if they are {how}, the first three become {text}. "
                "Subtract the largest logit from all of them first."
            )
    return "Right: positive, summing to one, and safe for large logits."


# Exercise 3


def top_five(exp: camlib.Explanation, answer: Any) -> str:
    """The indices or names of the five most probable classes, the best first."""
    if answer is None or answer is ...:
        return "No answer yet: put five indices in place of None, the most probable class first."
    if isinstance(answer, (set, frozenset)):
        return "A set has no order: use a list."
    if isinstance(answer, tuple) and hasattr(answer, "indices"):
        return "topk and sort give values and indices: take .indices."
    given = answer.tolist() if isinstance(answer, (Tensor, np.ndarray)) else answer
    if not isinstance(given, (list, tuple)):
        return f"Five classes are needed; this is {answer!r}."
    given = [part.index if isinstance(part, camlib.explanation.Prediction) else part for part in given]
    given = [part.item() if isinstance(part, (Tensor, np.generic)) and np.ndim(part) == 0 else part for part in given]
    if len(given) != 5:
        return f"Five classes are needed; you gave {len(given)}."
    if all(isinstance(v, float) for v in given) and not all(float(v).is_integer() for v in given):
        return "Those are values; the answer is where they are. Take the indices, as argsort and topk give them."
    try:
        indices = [exp.classifier.index(int(v) if isinstance(v, float) else v) for v in given]
    except camlib.CamError as e:
        return str(e)
    order = exp.logits.argsort(descending=True).tolist()
    names = ", ".join(exp.classifier.labels[k] for k in indices)
    if indices == order[:5]:
        return f"Right: {names}."
    if sorted(indices) == sorted(order[:5]):
        return f"The right five classes, but the most probable must come first: {names}."
    if indices in (order[-5:], order[-5:][::-1]):
        return f"Those are the five least probable classes: {names}. argsort sorts upwards; reverse the order."
    hits = len(set(indices) & set(order[:5]))
    return f"Not yet: {hits} of your five classes ({names}) {'is' if hits == 1 else 'are'} among the right ones."


# Exercise 4


def smallest_move(exp: camlib.Explanation, answer: Any) -> str:
    """By how many pixels the window of a wide photo must move for another best class; right is positive."""
    if answer is None or answer is ...:
        return "No answer yet: put a number of pixels in place of None, negative for a move to the left."
    value = tensor(answer)
    if value is None or value.numel() != 1:
        return f"The answer is one number of pixels; this is {answer!r}."
    number = float(value)
    if not number.is_integer():
        return f"The window moves by whole pixels; this is {number:g}."
    move, left = int(number), exp.view.offset[1]
    best = exp.top(1)[0]
    if move == 0:
        return f"At 0 the window has not moved, so the answer is still {best.label}."
    right = next(
        step for n in range(1, FARTHEST + 1) for step in (n, -n) if _answer(exp, step) not in (None, best.index)
    )
    if move == right:
        name = exp.classifier.labels[_answer(exp, move)]
        side = "right" if move > 0 else "left"
        return f"Right: {abs(move)} pixels to the {side}, and {best.label} becomes {name}."
    if move == left + right:
        return f"{move} is where the window then starts. The question is how far it moved from {left}."
    there = _answer(exp, move)
    if there is None:
        return f"From {left}, the window cannot move by {move} pixels: it would leave the photo."
    if move == -right:
        return f"The distance is right, but at {move} the answer is {exp.classifier.labels[there]}. Try the other side."
    if there == best.index:
        return f"With a move of {move}, the answer is still {best.label}."
    return (
        f"With a move of {move}, the answer is {exp.classifier.labels[there]}: it changes. But a smaller move is "
        "enough. Try both sides."
    )


def _answer(exp: camlib.Explanation, move: int) -> int | None:
    """The best class after a move; None where the window would leave the photo."""
    view = exp.view
    top, left = view.offset
    if not 0 <= left + move <= view.resized[1] - view.size[1]:
        return None
    moved = camlib.View(view.photo, view.resized, (top, left + move), view.size)
    with torch.no_grad():
        return int(exp.classifier.module(exp.classifier.preprocess(exp.photo, moved))[0].argmax())
