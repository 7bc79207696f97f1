"""Is it the rest of the cap that turns Grace Hopper's "academic gown" into a "military uniform"?

The network's crop ends in the middle of the cap. With the 32 rows above it, the network says "military uniform". These
rows also hold a flag and a blue background, and the input is larger. So two controls of the same size: the cap painted
out of these rows, and everything but the cap painted out. Both for several paints and for boxes of several widths. Two
more controls ask what about the cap it is: fills that are not smooth (the cap's own pixels or blocks of them shuffled,
its rows upside down, noise), and plain shapes on the plain background: a dome, and as controls a triangle and a
rectangle of the same heights, widths and colours; the dome's area lies between theirs. And the input's height alone:
fewer rows, above and below. What is measured is the lead: the logit of "military uniform" minus that of "academic
gown".

Run it from the repository: python -m evidence.cap
"""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

import camlib
from evidence.findings import PHOTOS, command, finding, store

PHOTO = PHOTOS / "grace_hopper.jpg"
CHAPTER = "notebooks/01_what_the_network_says.ipynb"
CLASSES = ("military uniform", "academic gown")
TOP, ROWS = 38, 32  # where the recipe's window starts on the resized photo, and how many rows are added above it
CAP = (71, 161)  # the columns of the window that the cap fills in these rows
MARGINS = (0, 4, 8, 16)  # columns more on either side
COLOURS = 10  # random ones, beside the named paints
SEEDS = 10  # of the fills that are not smooth
BLOCK = 8  # pixels, the side of a block that is shuffled
SHAPES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    # distance from the middle and height, as parts of the shape's own: whether a pixel lies inside
    "dome": lambda across, up: across**2 + up**2 <= 1,
    "triangle": lambda across, up: across + up <= 1,
    "rectangle": lambda across, up: (across <= 1) & (up <= 1),
}
SIZES = [(high, half) for high in (24, 28, 32) for half in (40, 45, 49)]  # pixels: height and half the width
PAINTS = {
    "white": (1.0, 1.0, 1.0),
    "gray": (0.0, 0.0, 0.0),
    "black": (-1.0, -1.0, -1.0),
    "red": (1.0, -1.0, -1.0),
    "yellow": (1.0, 1.0, -1.0),
    "green": (-1.0, 1.0, -1.0),
    "blue": (-1.0, -1.0, 1.0),
}
SIDES = ("above", "below")
HEIGHTS = (8, 16, 24, 32)  # rows that are added


def window(clf: camlib.Classifier, photo: Any, top: int, rows: int) -> Tensor:
    """(1, 3, rows, 224): the window of the resized photo that starts `top` pixels from its upper edge."""
    view = camlib.View(photo.shape[:2], resized=(300, 256), offset=(top, 16), size=(rows, 224))
    return clf.preprocess(photo, view)


def answer(clf: camlib.Classifier, x: Tensor) -> dict[str, Any]:
    """The lead, and the best class."""
    with torch.no_grad():
        logits = clf.module(x)[0]
    first, second = (clf.index(name) for name in CLASSES)
    return {"lead": round(float(logits[first] - logits[second]), 2), "best": clf.labels[int(logits.argmax())]}


def background(tall: Tensor) -> Tensor:
    """(1, 3, 1, 1): the mean colour of a part of the plain background."""
    return tall[:, :, :20, 190:215].mean((2, 3), keepdim=True)


def paints(tall: Tensor, box: slice) -> Iterator[tuple[str, Tensor]]:
    """Name and (1, 3, ROWS, 224) of everything that may cover the added rows."""
    shape = (1, 3, ROWS, tall.shape[3])
    yield "background", background(tall).expand(shape)
    yield "row below", tall[:, :, ROWS : ROWS + 1].expand(shape)
    for name, value in (("gray", 0.0), ("black", -1.0), ("white", 1.0)):
        yield name, torch.full(shape, value)
    draw = torch.Generator().manual_seed(0)
    for n in range(COLOURS):
        yield f"colour {n}", (2 * torch.rand(1, 3, 1, 1, generator=draw) - 1).expand(shape)
    across = tall[:, :, :ROWS].clone()  # from what is left of the box to what is right of it
    left, right = across[..., box.start - 1 : box.start], across[..., box.stop : box.stop + 1]
    part = torch.linspace(0, 1, box.stop - box.start)
    across[..., box] = left * (1 - part) + right * part
    yield "surroundings", across


def rough(cap: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Name and (1, 3, ROWS, w) of fills of the cap's box that are not smooth."""
    yield "upside down", cap.flip(2)
    wide = cap.shape[3] // BLOCK * BLOCK  # what whole blocks fill; the rest stays
    for seed in range(SEEDS):
        draw = torch.Generator().manual_seed(seed)
        yield "pixels shuffled", cap.flatten(2)[..., torch.randperm(cap[0, 0].numel(), generator=draw)].view_as(cap)
        blocks = torch.nn.functional.unfold(cap[..., :wide], BLOCK, stride=BLOCK)
        blocks = blocks[..., torch.randperm(blocks.shape[2], generator=draw)]
        fold = torch.nn.functional.fold(blocks, (ROWS, wide), BLOCK, stride=BLOCK)
        yield "blocks shuffled", torch.cat([fold, cap[..., wide:]], 3)
        yield "noise", 2 * torch.rand(cap.shape, generator=draw) - 1


def plain(tall: Tensor) -> Iterator[tuple[dict[str, Any], Tensor]]:
    """What it is, and the input: a shape of one colour where the cap was, on the plain background."""
    box = slice(CAP[0] - 4, CAP[1] + 4)
    y, x = torch.arange(ROWS)[:, None] + 0.5, torch.arange(tall.shape[3]) + 0.5
    for (shape, inside), (high, half), (name, colour) in product(SHAPES.items(), SIZES, PAINTS.items()):
        mask = inside((x - sum(CAP) / 2).abs() / half, (ROWS - y) / high)
        given = tall.clone()
        given[:, :, :ROWS, box] = background(tall)
        given[:, :, :ROWS] = torch.where(mask, torch.tensor(colour)[:, None, None], given[:, :, :ROWS])
        yield {"shape": shape, "colour": name, "high": high, "wide": 2 * half}, given


def study(clf: camlib.Classifier, photo: Any) -> dict[str, Any]:
    """The lead in all settings."""
    tall = window(clf, photo, TOP - ROWS, 224 + ROWS)
    result: dict[str, Any] = {
        "recipe": answer(clf, window(clf, photo, TOP, 224)),
        "rows above": answer(clf, tall),
        "rows below": answer(clf, window(clf, photo, TOP, 224 + ROWS)),
        "heights": {
            n: {k: answer(clf, window(clf, photo, TOP - n * (k == "above"), 224 + n)) for k in SIDES} for n in HEIGHTS
        },
        "painted": [],
        "rough": [],
        "shapes": [what | answer(clf, given) for what, given in plain(tall)],
    }
    for margin in tqdm(MARGINS, unit="box"):
        box = slice(CAP[0] - margin, CAP[1] + margin)
        for name, paint in paints(tall, box):
            without, only = tall.clone(), tall.clone()
            without[:, :, :ROWS, box] = paint[..., box]
            row = {"paint": name, "margin": margin, "without": answer(clf, without)}
            if name != "surroundings":  # which leaves the rest as it is
                only[:, :, :ROWS] = paint
                only[:, :, :ROWS, box] = tall[:, :, :ROWS, box]
                row["only"] = answer(clf, only)
            result["painted"].append(row)
        for name, fill in rough(tall[:, :, :ROWS, box]):
            given = tall.clone()
            given[:, :, :ROWS, box] = fill
            result["rough"].append({"fill": name, "margin": margin} | answer(clf, given))
    return result


def findings(result: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What chapter 01 states, and the numbers for it."""
    painted, fills = result["painted"], [row["fill"] for row in result["rough"][:4]]
    below = [sides["below"] for sides in result["heights"].values()]
    tries = {
        f"{HEIGHTS[0]} to {HEIGHTS[-1]} rows below": below,
        "only the top of the cap": [row["only"] for row in painted if "only" in row],
        "top of the cap painted out": [row["without"] for row in painted],
        "filled less smoothly": result["rough"],
        **{f"  {fill}": [row for row in result["rough"] if row["fill"] == fill] for fill in fills},
        **{
            f"a plain {shape}{' in its place' if shape == 'dome' else ''}": [
                row for row in result["shapes"] if row["shape"] == shape
            ]
            for shape in SHAPES
        },
    }
    summary = {}
    for name, rows in tries.items():
        leads, uniform = [row["lead"] for row in rows], sum(row["best"] == CLASSES[0] for row in rows)
        summary[name] = {"tries": len(rows), "low": min(leads), "high": max(leads), "uniform": uniform, "leads": leads}
    rows_below, only, without, fill, *_, dome, triangle, rectangle = summary.values()
    low, high = min(triangle["low"], rectangle["low"]), max(triangle["high"], rectangle["high"])
    leads = zip(dome["leads"], triangle["leads"], rectangle["leads"], strict=True)
    above = sum(round_one > max(others) for round_one, *others in leads)
    varied = f"{COLOURS + 5} paints and what is beside the cap, {len(MARGINS)} boxes"
    rows = [
        finding(
            CHAPTER,
            "On Hopper's portrait the top of the cap, not the flag or the background, puts uniform before gown.",
            varied,
            f"cap alone: lead {only['low']} to {only['high']}, {only['tries']} tries; cap painted over smoothly: lead "
            f"{without['low']} to {without['high']}, {without['tries']} tries",
            [
                f"{only['low']:.2f} to {only['high']:.2f} in {only['tries']} tries",
                f"{without['low']:.2f} to {without['high']:.2f} in {without['tries']} tries",
            ],
        ),
        finding(
            CHAPTER,
            "Part of it is the round outline: a plain dome in place of the cap's top nearly always puts uniform first, "
            "a plain triangle or rectangle seldom.",
            f"{len(SIZES)} sizes, {len(PAINTS)} colours; also fills that are not smooth",
            f"dome {dome['uniform']} of {dome['tries']}, lead {dome['low']} to {dome['high']}; triangle "
            f"{triangle['uniform']}, {triangle['low']} to {triangle['high']}; rectangle {rectangle['uniform']}, "
            f"{rectangle['low']} to {rectangle['high']}; the dome above both of its size and colour {above} of "
            f"{dome['tries']}; fills: {fill['low']} to {fill['high']}, {fill['tries']} tries",
            [
                f"plain dome in its place gives {dome['low']:.2f} to {dome['high']:.2f}",
                f"a triangle or rectangle {low:.2f} to {high:.2f}",
                f"shuffled, with noise or upside down: {fill['low']:.2f} to {fill['high']:.2f}",
                f"a few more rows below already give up to {rows_below['high']:.2f}",
            ],
        ),
    ]
    return rows, summary


def main() -> None:
    out = command(__file__, __doc__)
    torch.set_num_threads(1)
    clf, photo = camlib.load_model(), camlib.read_image(PHOTO)
    result = study(clf, photo)
    rows, summary = findings(result)
    store(out, rows, network=clf.name, summary=summary, **result)


if __name__ == "__main__":
    main()
