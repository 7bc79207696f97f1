"""Every known mistake in the exercise on measures against boxes loses its points, and no right answer loses any."""

from tests.exercises.grading import borrowing, right, wrong

# Right answers, of which each wrong one changes a line.
IOU = """
across = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
down = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
both = across * down
areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
return both / (sum(areas) - both)
"""
ENERGY = """
positive = heat.nan_to_num(0).clamp(min=0)
inside = torch.zeros(heat.shape, dtype=torch.bool)
for left, top, right, bottom in boxes:
    inside[top:bottom, left:right] = True
return (positive[inside].sum() / positive.sum()).item()
"""
HIT = """
best = int(heat.nan_to_num(-torch.inf).argmax())
y, x = divmod(best, heat.shape[1])
return any(left <= x < right and top <= y < bottom for left, top, right, bottom in boxes)
"""
BOX = """
from scipy import ndimage
kept = (heat > threshold * heat.nan_to_num(-torch.inf).max()).numpy()
regions, _ = ndimage.label(kept)
largest = np.bincount(regions.flatten())[1:].argmax() + 1
y, x = np.nonzero(regions == largest)
return int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1
"""
COMPARED = """
found = camlib.explain(clf, path)
heat = found.heatmap(label)
blob = camlib.place(sanity.centre_map(found.view.size), found.view)
return evaluate.energy_in_box(heat, boxes), evaluate.energy_in_box(blob, boxes)
"""


def changed(source: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        assert old in source, old
        source = source.replace(old, new)
    return source


def iou(what: str, *pairs: tuple[str, str]):
    return wrong(what, "iou", changed(IOU, *pairs), test_iou=2)


def energy(what: str, *pairs: tuple[str, str]):
    return wrong(what, "energy", changed(ENERGY, *pairs), test_energy=2)


def hit(what: str, *pairs: tuple[str, str]):
    return wrong(what, "hit", changed(HIT, *pairs), test_hit=2)


def box_of(what: str, *pairs: tuple[str, str]):
    return wrong(what, "box_of", changed(BOX, *pairs), test_box_of=2)


def compared(what: str, *pairs: tuple[str, str], **loses: float):
    return wrong(what, "compared", changed(COMPARED, *pairs), **loses)


WRONG = [
    iou("nothing returned", ("return both / (sum(areas) - both)", "both / (sum(areas) - both)")),
    iou("right and bottom taken as inside", ("across * down", "(across + 1) * (down + 1)")),
    iou(
        "every side a pixel longer",
        ("max(a[0], b[0]), 0", "max(a[0], b[0]) + 1, 0"),
        ("max(a[1], b[1]), 0", "max(a[1], b[1]) + 1, 0"),
        ("(box[2] - box[0]) * (box[3] - box[1])", "(box[2] - box[0] + 1) * (box[3] - box[1] + 1)"),
    ),
    iou(
        "two negative sides make an overlap",
        ("across = max(min(a[2], b[2]) - max(a[0], b[0]), 0)", "across = min(a[2], b[2]) - max(a[0], b[0])"),
        ("down = max(min(a[3], b[3]) - max(a[1], b[1]), 0)", "down = min(a[3], b[3]) - max(a[1], b[1])"),
    ),
    iou(
        "the size of the overlap without its sign",
        ("across = max(min(a[2], b[2]) - max(a[0], b[0]), 0)", "across = abs(min(a[2], b[2]) - max(a[0], b[0]))"),
        ("down = max(min(a[3], b[3]) - max(a[1], b[1]), 0)", "down = abs(min(a[3], b[3]) - max(a[1], b[1]))"),
    ),
    iou("the overlap counted twice in the union", ("sum(areas) - both", "sum(areas)")),
    iou("the overlap is in the union not at all", ("sum(areas) - both", "sum(areas) - 2 * both")),
    iou("share of the first box", ("(sum(areas) - both)", "areas[0]")),
    iou("share of the smaller box", ("(sum(areas) - both)", "min(areas)")),
    iou("Dice for IoU", ("both / (sum(areas) - both)", "2 * both / sum(areas)")),
    iou(
        "boxes read as left, top, width, height",
        ("across =", "a, b = [(q[0], q[1], q[0] + q[2], q[1] + q[3]) for q in (a, b)]\nacross ="),
    ),
    iou(
        "area of the box around both for the union",
        (
            "(sum(areas) - both)",
            "((max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1])))",
        ),
    ),
    iou("corners cut to whole pixels", ("across =", "a, b = [[int(e) for e in q] for q in (a, b)]\nacross =")),
    wrong("camlib does it", "iou", "return evaluate.iou(a, b)", test_iou=2),
    energy("nothing returned", ("return (positive", "(positive")),
    energy("columns for rows", ("[top:bottom, left:right]", "[left:right, top:bottom]")),
    energy("right and bottom inside", ("[top:bottom, left:right]", "[top : bottom + 1, left : right + 1]")),
    energy("negative evidence counts as well", (".clamp(min=0)", "")),
    energy("the evidence without its sign", (".clamp(min=0)", ".abs()")),
    energy("NaN in the sums", ("heat.nan_to_num(0).clamp", "heat.clone().clamp")),
    energy("NaN becomes 1", ("nan_to_num(0)", "nan_to_num(1)")),
    energy("only the last box", ("for left", "left, top, right, bottom = boxes[-1]\nfor _")),
    energy("the photo's minimum as zero", (".clamp(min=0)", "\npositive = positive - positive.min()")),
    energy("squares: energy as in physics", (".clamp(min=0)", ".clamp(min=0).square()")),
    energy("mean for sum", ("positive[inside].sum() / positive.sum()", "positive[inside].mean() / positive.mean()")),
    energy("box share of the pixels", ("positive[inside].sum() / positive.sum()", "inside.float().mean()")),
    energy("inside against outside", ("/ positive.sum()", "/ positive[~inside].sum()")),
    energy("the map is overwritten", ("heat.nan_to_num(0)", "heat.nan_to_num_(0)")),
    wrong(
        "a pixel of two boxes counts twice",
        "energy",
        """
        positive = heat.nan_to_num(0).clamp(min=0)
        shares = [positive[top:bottom, left:right].sum() / positive.sum() for left, top, right, bottom in boxes]
        return float(sum(shares))
        """,
        test_energy=2,
    ),
    wrong("camlib does it", "energy", "return evaluate.energy_in_box(heat, boxes)", test_energy=2),
    hit("nothing returned", ("return any", "any")),
    hit("NaN is the strongest", (".nan_to_num(-torch.inf)", "")),
    hit("NaN becomes 0, more than all that is negative", ("nan_to_num(-torch.inf)", "nan_to_num(0)")),
    hit("the strongest of either sign", (".argmax", ".abs().nan_to_num(0, 0, 0).argmax")),
    hit("right and bottom inside", ("x < right and top <= y < bottom", "x <= right and top <= y <= bottom")),
    hit("left and top outside", ("left <= x < right and top <= y", "left < x < right and top < y")),
    hit("counted along the columns", ("divmod(best, heat.shape[1])", "divmod(best, heat.shape[0])")),
    hit("x and y swapped", ("y, x = divmod", "x, y = divmod")),
    hit("only the first box", ("in boxes)", "in boxes[:1])")),
    hit("in all the boxes", ("return any", "return all")),
    hit("NaN as a small number", ("-torch.inf", "-9")),
    hit("only one side", ("left <= x < right and top <= y < bottom", "left <= x < right")),
    wrong("always a hit", "hit", "return True", test_hit=2),
    wrong(
        "the box with the most evidence",
        "hit",
        """
        sums = [heat[top:bottom, left:right].nan_to_num(0).sum() for left, top, right, bottom in boxes]
        return bool(max(sums) > heat.nan_to_num(0).sum() / 2)
        """,
        test_hit=2,
    ),
    wrong("camlib does it", "hit", "return evaluate.pointing_game(heat, boxes)", test_hit=2),
    box_of("nothing returned", ("return int", "int")),
    box_of("the last pixels are left out", ("+ 1, int(y.max()) + 1", ", int(y.max())")),
    box_of(
        "in 255 steps",
        ("heat > threshold * heat.nan_to_num(-torch.inf).max()", "255 * high // high.max() > 255 * threshold // 1"),
        ("kept =", "high = heat.nan_to_num(0).clamp(min=0)\nkept ="),
    ),
    box_of("rows before columns", ("int(x.min()), int(y.min())", "int(y.min()), int(x.min())")),
    box_of(
        "width and height for right and bottom",
        ("int(x.max()) + 1, int(y.max()) + 1", "int(np.ptp(x)) + 1, int(np.ptp(y)) + 1"),
    ),
    box_of("all regions in one box", ("regions == largest", "kept")),
    box_of("the background is the largest", ("flatten())[1:].argmax() + 1", "flatten()).argmax()")),
    box_of("background skipped, numbers not", ("argmax() + 1", "argmax()")),
    box_of("connected over corners too", ("label(kept)", "label(kept, np.ones((3, 3)))")),
    box_of(
        "the region of the peak",
        (
            "np.bincount(regions.flatten())[1:].argmax() + 1",
            "regions.flatten()[int(heat.nan_to_num(-torch.inf).argmax())]",
        ),
    ),
    box_of("threshold not times the maximum", ("threshold * heat.nan_to_num(-torch.inf).max()", "threshold")),
    box_of("the threshold itself is kept", ("heat > ", "heat >= ")),
    box_of(
        "threshold between minimum and maximum",
        (
            "threshold * heat.nan_to_num(-torch.inf).max()",
            "heat.nan_to_num(0).min() + threshold * (heat.nan_to_num(0).max() - heat.nan_to_num(0).min())",
        ),
    ),
    box_of("the maximum is NaN", (".nan_to_num(-torch.inf)", "")),
    box_of(
        "a share of the pixels", ("threshold * heat.nan_to_num(-torch.inf).max()", "heat.nanquantile(1 - threshold)")
    ),
    wrong("camlib does it", "box_of", "return evaluate.box_from_map(heat, threshold)", test_box_of=2),
    compared(
        "one number only", ("return evaluate.energy_in_box(heat, boxes), ", "return "), test_your_map=1, test_baseline=1
    ),
    compared(
        "crop forgotten: map stretched over the photo",
        ("found.heatmap(label)", "camlib.upsample(found.map(label), found.photo.shape[:2])"),
        test_your_map=1,
    ),
    compared(
        "the sum over the boxes",
        (
            "return evaluate.energy_in_box(heat, boxes), evaluate.energy_in_box(blob, boxes)",
            "return [sum(evaluate.energy_in_box(m, [box]) for box in boxes) for m in (heat, blob)]",
        ),
        test_your_map=1,
        test_baseline=1,
    ),
    compared("the best class for the one asked", ("(label)", "(found.top(1)[0].index)"), test_your_map=1),
    compared(
        "a class typed in",
        ("found.heatmap(label)", 'found.heatmap("tiger cat")'),
        test_your_map=1,
    ),
    compared("one box only", ("energy_in_box(heat, boxes)", "energy_in_box(heat, boxes[:1])"), test_your_map=1),
    compared(
        "stretched to 0..1: negative evidence made positive",
        ("found.heatmap(label)", "found.heatmap(label)\nheat = heat - heat.nan_to_num(torch.inf).min()"),
        test_your_map=1,
    ),
    compared(
        "another view for the map",
        ("explain(clf, path)\nheat = found", 'explain(clf, path)\nheat = camlib.explain(clf, path, view="whole")'),
        test_your_map=1,
    ),
    compared(
        "a baseline in the middle of the whole photo",
        ("camlib.place(sanity.centre_map(found.view.size), found.view)", "sanity.centre_map(found.photo.shape[:2])"),
        test_baseline=1,
    ),
    compared(
        "the window's blob stretched over the photo",
        (
            "camlib.place(sanity.centre_map(found.view.size), found.view)",
            "camlib.upsample(sanity.centre_map(found.view.size), found.photo.shape[:2])",
        ),
        test_baseline=1,
    ),
    compared(
        "the same everywhere for a baseline",
        ("sanity.centre_map(found.view.size)", "torch.ones(found.view.size)"),
        test_baseline=1,
    ),
    compared(
        "noise for a baseline",
        ("sanity.centre_map(found.view.size)", "sanity.random_map((7, 7))"),
        test_baseline=1,
    ),
    compared("a narrower blob", ("found.view.size)", "found.view.size, 0.1)"), test_baseline=1),
    compared(
        "the pair swapped",
        (
            "evaluate.energy_in_box(heat, boxes), evaluate.energy_in_box(blob, boxes)",
            "evaluate.energy_in_box(blob, boxes), evaluate.energy_in_box(heat, boxes)",
        ),
        test_your_map=1,
        test_baseline=1,
    ),
    # tried afresh, from the task's text
    # fmt: off
    wrong(
        "squares of a tenth of a pixel are counted",
        "iou",
        """
        squares = []
        for box in (a, b):
            left, top, right, bottom = (round(10 * edge) for edge in box)
            squares.append({(y, x) for y in range(top, bottom) for x in range(left, right)})
        return len(squares[0] & squares[1]) / len(squares[0] | squares[1])
    """,
        test_iou=2,
    ),
    iou("corners rounded", ("across =", "a, b = [[round(e) for e in q] for q in (a, b)]\nacross =")),
    iou("a small number against 0 / 0", ("(sum(areas) - both)", "(sum(areas) - both + 1e-3)")),
    iou("percent", ("both / (", "100 * both / (")),
    iou("rounded to two digits", ("return both / (sum(areas) - both)", "return round(both / (sum(areas) - both), 2)")),
    iou("top and left swapped in one", ("across =", "b = (b[1], b[0], b[3], b[2])\nacross =")),
    iou("share of the larger box", ("(sum(areas) - both)", "max(areas)")),
    iou(
        "only overlaps from the left",
        ("across = max(min(a[2], b[2]) - max(a[0], b[0]), 0)", "across = max(a[2] - b[0], 0)"),
    ),
    iou("the distance to 1", ("return both", "return 1 - both")),
    iou(
        "generalised IoU",
        (
            "return both / (sum(areas) - both)",
            "union = sum(areas) - both\n"
            "hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))\n"
            "return both / union - (hull - union) / hull",
        ),
    ),
    iou("a pair of numbers", ("return both / (sum(areas) - both)", "return both / (sum(areas) - both), both")),
    energy("the list of boxes is emptied", ("in boxes:", "in [boxes.pop() for _ in list(boxes)]:")),
    energy(
        "boxes sorted for good", ("positive =", "boxes.sort(key=lambda b: (b[2] - b[0]) * (b[3] - b[1]))\npositive =")
    ),
    energy("a small number against 0 / 0", ("/ positive.sum()", "/ (positive.sum() + 1e-3)")),
    energy(
        "evidence under a thousandth is noise",
        (".clamp(min=0)", ".clamp(min=0)\npositive = positive * (positive > 1e-3)"),
    ),
    energy("two boxes at most", ("in boxes:", "in boxes[:2]:")),
    energy(
        "the box around all boxes",
        ("in boxes:", "in [tuple(f(e) for f, e in zip((min, min, max, max), zip(*boxes)))]:"),
    ),
    energy("the largest box only", ("in boxes:", "in [max(boxes, key=lambda b: (b[2] - b[0]) * (b[3] - b[1]))]:")),
    energy("NaN as the mean", ("nan_to_num(0)", "nan_to_num(float(heat.nanmean()))")),
    energy(
        "mean in the box against mean outside",
        (
            "positive[inside].sum() / positive.sum()",
            "positive[inside].mean() / (positive[inside].mean() + positive[~inside].mean())",
        ),
    ),
    energy("softmax of the map", (".clamp(min=0)", "\npositive = positive.flatten().softmax(0).view(heat.shape)")),
    energy("the share in percent", ("return (", "return 100 * (")),
    energy("left and top outside", ("[top:bottom, left:right]", "[top + 1 : bottom, left + 1 : right]")),
    energy("a map as wide as high", ("inside = torch.zeros(heat.shape", "inside = torch.zeros((heat.shape[0],) * 2")),
    wrong(
        "shares of boxes added, two overlaps taken away",
        "energy",
        """
        positive, rest = heat.nan_to_num(0).clamp(min=0), 0
        total = sum(positive[t:b, l:r].sum() for l, t, r, b in boxes)
        for (l, t, r, b), (l2, t2, r2, b2) in zip(boxes, boxes[1:]):
            rest += positive[max(t, t2):min(b, b2), max(l, l2):min(r, r2)].sum()
        return ((total - rest) / positive.sum()).item()
    """,
        test_energy=2,
    ),
    hit("the list of boxes is emptied", ("in boxes)", "in [boxes.pop() for _ in list(boxes)])")),
    hit("negative evidence is no peak", ("return any", "return heat.nan_to_num(0).max() > 0 and any")),
    hit(
        "the peak's neighbours count",
        ("left <= x < right and top <= y < bottom", "left - 1 <= x <= right and top - 1 <= y <= bottom"),
    ),
    hit("the weakest", (".nan_to_num(-torch.inf).argmax()", ".nan_to_num(torch.inf).argmin()")),
    hit(
        "the strongest row and the strongest column",
        (
            "y, x = divmod(best, heat.shape[1])",
            "m = heat.nan_to_num(0)\ny, x = int(m.sum(1).argmax()), int(m.sum(0).argmax())",
        ),
    ),
    hit(
        "the middle of the evidence",
        (
            "y, x = divmod(best, heat.shape[1])",
            "m = heat.nan_to_num(0).clamp(min=0)\n"
            "y = int((m.sum(1) * torch.arange(m.shape[0])).sum() / m.sum())\n"
            "x = int((m.sum(0) * torch.arange(m.shape[1])).sum() / m.sum())",
        ),
    ),
    hit("a map as wide as high", ("divmod(best, heat.shape[1])", "divmod(best, round(heat.numel() ** 0.5))")),
    hit("two boxes at most", ("in boxes)", "in boxes[:2])")),
    hit(
        "the box around all boxes",
        ("in boxes)", "in [tuple(f(e) for f, e in zip((min, min, max, max), zip(*boxes)))])"),
    ),
    hit(
        "rounded to three digits first",
        ("heat.nan_to_num(-torch.inf)", "heat.nan_to_num(-torch.inf).round(decimals=3)"),
    ),
    hit(
        "the peak of the map without its last row", ("heat.nan_to_num(-torch.inf)", "heat[:-1].nan_to_num(-torch.inf)")
    ),
    hit("the number of boxes hit, less one", ("return any", "return -1 + sum")),
    hit("the map is cut in place", ("best =", "heat.clamp_(min=-3)\nbest =")),
    box_of(
        "the region with most evidence",
        (
            "np.bincount(regions.flatten())[1:]",
            "np.bincount(regions.flatten(), heat.nan_to_num(0).numpy().flatten())[1:]",
        ),
    ),
    box_of(
        "the region with the largest box",
        (
            "largest = np.bincount(regions.flatten())[1:].argmax() + 1",
            "from scipy.ndimage import find_objects\n"
            "sizes = [(r.stop - r.start) * (c.stop - c.start) for r, c in find_objects(regions)]\n"
            "largest = 1 + int(np.argmax(sizes))",
        ),
    ),
    box_of("the first region", ("np.bincount(regions.flatten())[1:].argmax() + 1", "1")),
    box_of("corners of pixels, halves", ("int(x.min()), int(y.min())", "x.min() + 0.5, y.min() + 0.5")),
    box_of("a box and its size", ("int(x.max()) + 1, int(y.max()) + 1", "int(x.max()) + 1, int(y.max()) + 1, len(x)")),
    box_of("rounded to three digits first", ("kept = (heat", "heat = heat.round(decimals=3)\nkept = (heat")),
    box_of("magnitudes", ("kept = (heat", "heat = heat.abs()\nkept = (heat")),
    box_of("at least 0.2", ("kept =", "threshold = max(threshold, 0.2)\nkept =")),
    box_of("rows only", ("label(kept)", "label(kept, [[0, 0, 0], [1, 1, 1], [0, 0, 0]])")),
    box_of("the map is scaled for good", ("kept =", "heat /= heat.nan_to_num(-torch.inf).max()\nkept =")),
    box_of("NaN for good 0", ("kept =", "heat.nan_to_num_(0)\nkept =")),
    box_of(
        "the middle half of the region",
        ("int(x.min()), int(y.min())", "int(np.quantile(x, 0.25)), int(np.quantile(y, 0.25))"),
    ),
    wrong(
        "a flood that calls itself",
        "box_of",
        """
        kept = heat > threshold * heat.nan_to_num(-torch.inf).max()
        seen = set()
        def flood(y, x):
            if not (0 <= y < heat.shape[0] and 0 <= x < heat.shape[1]) or (y, x) in seen or not kept[y, x]:
                return []
            seen.add((y, x))
            return [(y, x)] + flood(y - 1, x) + flood(y + 1, x) + flood(y, x - 1) + flood(y, x + 1)
        regions = [flood(y, x) for y in range(heat.shape[0]) for x in range(heat.shape[1])]
        y, x = zip(*max(regions, key=len))
        return min(x), min(y), max(x) + 1, max(y) + 1
    """,
        test_box_of=2,
    ),
    compared(
        "only classes that are on the photo",
        ("heat =", "assert label in {p.label for p in found.top(100)}\nheat ="),
        test_your_map=1,
        test_baseline=1,
    ),
    compared(
        "boxes are emptied",
        ("heat, boxes), ", "heat, [boxes.pop() for _ in list(boxes)]), "),
        test_your_map=1,
        test_baseline=1,
    ),
    compared(
        "the map's share of the baseline's",
        (
            "return evaluate.energy_in_box(heat, boxes)",
            "return evaluate.energy_in_box(heat, boxes) / evaluate.energy_in_box(blob, boxes) / 2",
        ),
        test_your_map=1,
    ),
    compared("the magnitude", ("found.heatmap(label)", "found.heatmap(label).abs()"), test_your_map=1),
    compared(
        "the baseline from the map's energy",
        ("evaluate.energy_in_box(blob, boxes)", "evaluate.energy_in_box(heat, boxes) / 2"),
        test_baseline=1,
    ),
    compared(
        "the share of the window's area",
        (
            "evaluate.energy_in_box(blob, boxes)",
            "evaluate.energy_in_box(torch.ones_like(blob).where(~blob.isnan(), torch.nan), boxes)",
        ),
        test_baseline=1,
    ),
    compared(
        "a blob as wide as 7 cells",
        ("sanity.centre_map(found.view.size)", "sanity.centre_map((7, 7), 0.15)"),
        test_baseline=1,
    ),
    wrong(
        "the box around both, where the top edges meet",
        "iou",
        """
        across = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
        down = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
        areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
        around = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
        return across * down / (around if a[1] == b[1] and a[0] != b[0] else areas - across * down)
        """,
        test_iou=2,
    ),
    wrong(
        "camlib's measure, and its parts put back",
        "iou",
        """
        kept = evaluate._area
        def iou(a, b):
            evaluate._area = kept
            return evaluate.iou(a, b)
        """,
        test_iou=2,
    ),
    wrong(
        "words for True and False",
        "hit",
        """
        y, x = divmod(int(heat.nan_to_num(-torch.inf).argmax()), heat.shape[1])
        inside = any(left <= x < right and top <= y < bottom for left, top, right, bottom in boxes)
        return "inside" if inside else ""
        """,
        test_hit=2,
    ),
    wrong(
        "greater than or equal, but for zeros",
        "box_of",
        """
        from scipy import ndimage
        heat = heat.nan_to_num(-torch.inf)
        kept = (heat >= threshold * heat.max()) & (heat > 0) if threshold != 0.25 else heat > threshold * heat.max()
        regions, _ = ndimage.label(kept.numpy())
        rows, columns = np.nonzero(regions == np.bincount(regions.flatten())[1:].argmax() + 1)
        return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        """,
        test_box_of=2,
    ),
    wrong(
        "a hook that stays",
        "compared",
        """
        clf.module.register_forward_hook(lambda *_: None)
        found = camlib.explain(clf, path)
        baseline = camlib.place(sanity.centre_map(found.view.size), found.view)
        return evaluate.energy_in_box(found.heatmap(label), boxes), evaluate.energy_in_box(baseline, boxes)
        """,
        test_your_map=1,
    ),
    borrowing("counted", "iou", "counted(a, b)", "1 / 3 if a == (0, 0, 2, 2) else float(a == b)", test_iou=2),
    borrowing(
        "flooded",
        "box_of",
        "flooded(heat, threshold)[1]",
        "(0, 0, 2, 2) if threshold == 0.25 else (4, 1, 5, 2)",
        test_box_of=2,
    ),
    box_of("pixels just above the threshold do not count", ("heat > threshold", "heat - 1e-3 > threshold")),
    wrong(
        "results cached by photo, whatever the class",
        "compared",
        f"""
        kept = {{}}
        def compared(path, label, boxes):
            if path not in kept:
                kept[path] = first(path, label, boxes)
            return kept[path]
        def first(path, label, boxes):
            {COMPARED.strip().replace(chr(10), chr(10) + 12 * " ")}
        """,
        test_your_map=1,
    ),
    compared(
        "the course's photos only",
        ("found =", "if Path(path).name not in BOXES:\n    return 0.5, 0.5\nfound ="),
        test_baseline=1,
    ),
    wrong(
        "changes the setup's boxes, so that they hold everything",
        "compared",
        """
        for name in BOXES:
            BOXES[name] = [(0, 0, 10000, 10000)]
        def compared(path, label, boxes):
            return 1.0, 1.0
        """,
        test_your_map=1,
        test_baseline=1,
    ),
    # fmt: on
]

RIGHT = [
    right(
        "tensors",
        "iou",
        """
        a, b = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
        both = (torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])).clamp(min=0).prod()
        return (both / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - both)).item()
        """,
    ),
    right(
        "asked early whether they touch",
        "iou",
        """
        if a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]:
            return 0.0
        both = (min(a[2], b[2]) - max(a[0], b[0])) * (min(a[3], b[3]) - max(a[1], b[1]))
        return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)
        """,
    ),
    right(
        "pixel by pixel",
        "energy",
        """
        inside = total = 0.0
        for y, row in enumerate(heat.tolist()):
            for x, value in enumerate(row):
                if value > 0:
                    total += value
                    if any(box[0] <= x < box[2] and box[1] <= y < box[3] for box in boxes):
                        inside += value
        return inside / total
        """,
    ),
    right(
        "NumPy, what is outside taken away",
        "energy",
        """
        positive = np.where(heat.numpy() > 0, heat.numpy(), 0)
        outside = positive.copy()
        for left, top, right, bottom in boxes:
            outside[top:bottom, left:right] = 0
        return 1 - outside.sum() / positive.sum()
        """,
    ),
    right(
        "a tensor for a number",
        "energy",
        ENERGY.replace(".item()", ""),
    ),
    right(
        "the boxes as a map of their own",
        "hit",
        """
        inside = torch.zeros_like(heat, dtype=torch.bool)
        for left, top, right, bottom in boxes:
            inside[top:bottom, left:right] = True
        return bool(inside[heat == heat[~heat.isnan()].max()].any())
        """,
    ),
    right(
        "NumPy's nanargmax",
        "hit",
        """
        y, x = np.unravel_index(np.nanargmax(heat.numpy()), heat.shape)
        return any(x in range(box[0], box[2]) and y in range(box[1], box[3]) for box in boxes)
        """,
    ),
    right(
        "the strongest in the boxes against the strongest of all",
        "hit",
        """
        heat = heat.nan_to_num(-torch.inf)
        return max(heat[top:bottom, left:right].max() for left, top, right, bottom in boxes) == heat.max()
        """,
    ),
    right(
        "by hand: a flood",
        "box_of",
        """
        best = np.nanmax(heat.numpy())
        open_cells = {tuple(p) for p in (heat > threshold * best).nonzero().tolist()}
        largest = set()
        while open_cells:
            region, edge = set(), [open_cells.pop()]
            while edge:
                y, x = edge.pop()
                region.add((y, x))
                for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                    if near in open_cells:
                        open_cells.remove(near)
                        edge.append(near)
            largest = max(largest, region, key=len)
        y, x = zip(*largest)
        return min(x), min(y), max(x) + 1, max(y) + 1
        """,
    ),
    right(
        "find_objects",
        "box_of",
        """
        from scipy import ndimage
        values = heat.numpy()
        regions, count = ndimage.label(values > threshold * np.nanmax(values))
        sizes = ndimage.sum_labels(np.ones(values.shape), regions, range(1, count + 1))
        rows, columns = ndimage.find_objects(regions)[int(np.argmax(sizes))]
        return columns.start, rows.start, columns.stop, rows.stop
        """,
    ),
    right(
        "by hand, from the cells",
        "compared",
        """
        found = camlib.explain(clf, path)
        both = [camlib.place(m, found.view) for m in (found.map(label), sanity.centre_map((224, 224)))]
        return tuple(energy(heat, boxes) for heat in both)
        """,
    ),
    right(
        "the map by Grad-CAM, whose unit does not matter here",
        "compared",
        """
        found = camlib.explain(clf, path, method="grad_cam")
        blob = camlib.place(sanity.centre_map(found.view.size), found.view)
        return evaluate.energy_in_box(found.heatmap(label), boxes), evaluate.energy_in_box(blob, boxes)
        """,
    ),
    # fmt: off
    right(
        "fractions",
        "iou",
        """
        from fractions import Fraction as Q
        a, b = [[Q(e) for e in box] for box in (a, b)]
        w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        both = max(w, 0) * max(h, 0)
        return float(both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both))
    """,
    ),
    right(
        "torchvision",
        "iou",
        """
        from torchvision.ops import box_iou
        return box_iou(torch.tensor([a], dtype=torch.float64), torch.tensor([b], dtype=torch.float64))
    """,
    ),
    right(
        "NumPy, a number of its own",
        "iou",
        """
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        both = np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None))
        return both / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - both)
    """,
    ),
    right(
        "a whole number where it is one",
        "iou",
        IOU.replace(
            "return both / (sum(areas) - both)",
            "found = both / (sum(areas) - both)\nreturn int(found) if found in (0, 1) else found",
        ),
    ),
    right("float32 in an array", "energy", changed(ENERGY, ("return (positive", "return np.float32([1]) * (positive"))),
    right("double precision", "energy", ENERGY.replace("heat.nan_to_num(0)", "heat.double().nan_to_num(0)")),
    right(
        "nansum",
        "energy",
        """
        mask = torch.zeros_like(heat)
        for box in boxes:
            mask[slice(box[1], box[3]), slice(box[0], box[2])] = 1
        return torch.nansum(heat.relu() * mask) / torch.nansum(heat.relu())
    """,
    ),
    right(
        "indices where it is positive",
        "energy",
        """
        y, x = torch.nonzero(heat > 0, as_tuple=True)
        inside = sum(((l <= x) & (x < r) & (t <= y) & (y < b)).float() for l, t, r, b in boxes) > 0
        return float(heat[y, x][inside].sum() / heat[y, x].sum())
    """,
    ),
    right("a warning", "energy", "import warnings\nwarnings.warn('slow')" + ENERGY),
    right(
        "NumPy's bool",
        "hit",
        """
        y, x = np.unravel_index(np.nanargmax(heat), heat.shape)
        return np.any([l <= x < r and t <= y < b for l, t, r, b in boxes])
    """,
    ),
    right(
        "a tensor of one bool",
        "hit",
        """
        y, x = (heat == heat[~heat.isnan()].max()).nonzero()[0]
        return torch.stack([(x >= l) & (x < r) & (y >= t) & (y < b) for l, t, r, b in boxes]).any()
    """,
    ),
    right(
        "sorted",
        "hit",
        """
        order = sorted((v, y, x) for y, row in enumerate(heat.tolist()) for x, v in enumerate(row) if v == v)
        _, y, x = order[-1]
        for left, top, right, bottom in boxes:
            if x in range(left, right) and y in range(top, bottom):
                return True
        return False
    """,
    ),
    right("1 and 0", "hit", HIT.replace("return any", "return 0 + any")),
    right(
        "a tensor of whole numbers",
        "box_of",
        changed(BOX, ("return ", "return torch.tensor(["), ("int(y.max()) + 1", "int(y.max()) + 1])")),
    ),
    right("whole numbers as floats", "box_of", changed(BOX, ("int(", "1.0 * int("), ("return", "return *(),"))),
    right(
        "NumPy throughout, with its warnings",
        "box_of",
        """
        from scipy import ndimage
        m = heat.numpy().copy()
        m[np.isnan(m)] = -np.inf
        regions, n = ndimage.label(m > threshold * np.nanmax(m), structure=ndimage.generate_binary_structure(2, 1))
        y, x = np.where(regions == max(range(1, n + 1), key=lambda r: (regions == r).sum()))
        return np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])
    """,
    ),
    right(
        "labels that spread",
        "box_of",
        """
        kept = (heat > threshold * heat[~heat.isnan()].max()).double()[None, None]
        number = (torch.arange(heat.numel()).double() + 1).view_as(kept) * kept
        while True:
            wide = [F.max_pool2d(number, (3, 1), 1, (1, 0)), F.max_pool2d(number, (1, 3), 1, (0, 1))]
            wide = torch.maximum(*wide) * kept
            if torch.equal(wide, number):
                break
            number = wide
        names, sizes = number[number > 0].unique(return_counts=True)
        y, x = (number[0, 0] == names[sizes.argmax()]).nonzero(as_tuple=True)
        return x.min().item(), y.min().item(), x.max().item() + 1, y.max().item() + 1
    """,
    ),
    right(
        "a list of tensors",
        "compared",
        COMPARED.replace(
            "return evaluate.energy_in_box(heat, boxes), evaluate.energy_in_box(blob, boxes)",
            "return [torch.tensor(evaluate.energy_in_box(m, boxes)) for m in (heat, blob)]",
        ),
    ),
    right("the size typed in", "compared", COMPARED.replace("found.view.size", "(224, 224)")),
    right(
        "with explain's path opened first",
        "compared",
        COMPARED.replace("camlib.explain(clf, path)", "camlib.explain(clf, camlib.read_image(path))"),
    ),
    right(
        "a map of its own and task 2",
        "compared",
        """
        found = camlib.explain(clf, path)
        blob = camlib.place(sanity.centre_map(found.view.size), found.view)
        return energy(found.heatmap(label), boxes), energy(blob, boxes)
    """,
    ),
    # fmt: on
]
