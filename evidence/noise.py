"""How sure is the bundled network of pictures with nothing on them?

Nineteen kinds of noise, twenty seeds each: the probability of the best answer, beside those of the course's twelve
photos. And even gray, the input 0: how much of the feature map is zero, and how far the logits are from the biases.

Run it from the repository: python -m evidence.noise
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

import camlib
from evidence.findings import PHOTOS, command, finding, store

CHAPTER = "notebooks/01_what_the_network_says.ipynb"
SEEDS = 20
SHAPE = (1, 3, 224, 224)
USUAL = "uniform"  # the one that the chapter draws


def uniform(draw: torch.Generator) -> Tensor:
    return torch.rand(SHAPE, generator=draw) * 2 - 1


def normal(deviation: float) -> Callable[[torch.Generator], Tensor]:
    return lambda draw: (torch.randn(SHAPE, generator=draw) * deviation).clamp(-1, 1)


def black_and_white(draw: torch.Generator) -> Tensor:
    return (torch.rand(1, 1, *SHAPE[2:], generator=draw) > 0.5).float().expand(SHAPE) * 2 - 1


def squares(side: int) -> Callable[[torch.Generator], Tensor]:
    """side × side squares of one colour each."""
    return lambda draw: F.interpolate(torch.rand(1, 3, side, side, generator=draw) * 2 - 1, size=SHAPE[2:])


def clouds(side: int) -> Callable[[torch.Generator], Tensor]:
    """The same, blurred."""

    def clouds(draw: torch.Generator) -> Tensor:
        small = torch.rand(1, 3, side, side, generator=draw) * 2 - 1
        return F.interpolate(small, size=SHAPE[2:], mode="bicubic").clamp(-1, 1)

    return clouds


def pink(exponent: float, channels: int = 3) -> Callable[[torch.Generator], Tensor]:
    """Amplitudes that fall with the frequency as 1 / f ** exponent, as in many photos; one channel is gray.

    Each channel has the mean 0 and the deviation 0.5, as `normal(0.5)`.
    """
    down, right = torch.fft.fftfreq(SHAPE[2])[:, None], torch.fft.rfftfreq(SHAPE[3])
    frequency = (down**2 + right**2).sqrt()
    frequency[0, 0] = torch.inf  # no mean

    def pink(draw: torch.Generator) -> Tensor:
        spectrum = torch.fft.rfft2(torch.randn(1, channels, *SHAPE[2:], generator=draw)) / frequency**exponent
        x = torch.fft.irfft2(spectrum, s=SHAPE[2:])
        return (0.5 * x / x.std((2, 3), keepdim=True)).clamp(-1, 1).expand(SHAPE)

    return pink


def stripes(width: int, axis: int) -> Callable[[torch.Generator], Tensor]:
    """Stripes of `width` pixels and one colour each; axis: 2 stacks them from top to bottom, 3 from left to right."""

    def stripes(draw: torch.Generator) -> Tensor:
        colours = torch.rand(1, 3, SHAPE[axis] // width, 1, generator=draw) * 2 - 1
        return colours.repeat_interleave(width, 2).transpose(2, axis).expand(SHAPE)

    return stripes


KINDS = {USUAL: uniform, "black and white": black_and_white}
KINDS |= {f"normal {deviation}": normal(deviation) for deviation in (0.1, 0.25, 0.5, 1)}
KINDS |= {f"squares {side}": squares(side) for side in (14, 28, 56, 112)}
KINDS |= {f"clouds {side}": clouds(side) for side in (14, 56)}
KINDS |= {f"pink {exponent}": pink(exponent) for exponent in (1, 2)} | {"gray pink 1": pink(1, channels=1)}
KINDS |= {f"{n} {width}": stripes(width, axis) for width in (1, 16) for n, axis in (("rows", 2), ("columns", 3))}


def best(clf: camlib.Classifier, x: Tensor) -> tuple[float, str]:
    """The largest probability in %, and its class."""
    with torch.no_grad():
        p = clf.module(x)[0].softmax(0)
    return round(100 * float(p.max()), 1), clf.labels[int(p.argmax())]


def study(clf: camlib.Classifier) -> dict[str, Any]:
    """The best answers of all noise and of the photos."""
    kinds = {}
    for name, make in tqdm(KINDS.items(), unit="kind"):
        answers = [best(clf, make(torch.Generator().manual_seed(seed))) for seed in range(SEEDS)]
        percent = [p for p, _ in answers]
        names = sorted({label for _, label in answers})
        kinds[name] = {"low": min(percent), "high": max(percent), "names": names, "percent": percent}
    photos = {}
    for path in sorted(PHOTOS.iterdir()):
        first = camlib.explain(clf, path).top(1)[0]
        photos[path.name] = round(100 * first.probability, 1)
    highest = max(kind["high"] for kind in kinds.values())
    summary = {
        "kinds": len(kinds),
        "pictures": SEEDS * len(kinds),
        "low": min(kind["low"] for kind in kinds.values()),
        "high": highest,
        "photos above": sum(p > highest for p in photos.values()),
    }
    return {"summary": summary, "kinds": kinds, "photos": photos}


def findings(result: dict[str, Any]) -> list[dict[str, Any]]:
    """What chapter 01 states."""
    usual, every, photos = result["kinds"][USUAL], result["summary"], len(result["photos"])
    low, high, above = every["low"], every["high"], every["photos above"]
    return [
        finding(
            CHAPTER,
            "The best answer to uniform noise is about as probable as that to the moose, a class that is not listed.",
            f"{SEEDS} seeds",
            f"{usual['low']} to {usual['high']} %, always {' or '.join(usual['names'])}; the moose "
            f"{result['photos']['moose.webp']} %",
            [f"{SEEDS} pictures get {usual['low']} to {usual['high']} %"],
        ),
        finding(
            CHAPTER,
            "A low probability does not tell a hard photo from noise, nor does a middling one.",
            f"{len(KINDS)} kinds of noise, {SEEDS} seeds; {photos} photos",
            f"noise {low} to {high} %; {above} of {photos} photos above all noise",
            [
                f"of our {len(KINDS)} kinds of noise gets up to {high} %",
                f"only {above} of our {photos} photos get more",
            ],
        ),
    ]


def main() -> None:
    out = command(__file__, __doc__)
    torch.set_num_threads(1)
    clf = camlib.load_model()
    result = study(clf)
    store(out, findings(result), network=clf.name, **result)


if __name__ == "__main__":
    main()
