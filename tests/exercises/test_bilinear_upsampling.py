"""Every known mistake in the exercise on bilinear upsampling loses its points, and no right answer loses any."""

import textwrap

from tests.exercises.grading import peeking, right, wrong

WEIGHTS = """
def weights(pixels, cells):
    position = ((torch.arange(pixels) + 0.5) * cells / pixels - 0.5).clamp(0, cells - 1)
    return (1 - (position[:, None] - torch.arange(cells)).abs()).clamp(min=0)
"""
LAY = """
def axis_weights(axis):
    cells, (start, size) = m.shape[axis], (view.offset[axis], view.size[axis])
    window = CENTRES
    position = (window * cells / size - 0.5).clamp(0, cells - 1)
    unseen = (window < 0) | (window > size)
    return (1 - (position[:, None] - torch.arange(cells)).abs()).clamp(min=0), unseen
(rows, no_y), (columns, no_x) = axis_weights(0), axis_weights(1)
heat = rows @ m @ columns.T
"""
CENTRES = "(torch.arange(view.photo[axis]) + 0.5) * view.resized[axis] / view.photo[axis] - start"
OUTSIDE = "heat[no_y[:, None] | no_x] = outside\nreturn heat"


def laid(centres: str = CENTRES, end: str = OUTSIDE) -> str:
    return LAY.replace("CENTRES", centres) + end


POSITION = "((torch.arange(pixels) + 0.5) * cells / pixels - 0.5).clamp(0, cells - 1)"
RESULT = "weights(height, m.shape[0]) @ m @ weights(width, m.shape[1]).T"


def enlarged(position: str = POSITION, share: str = "1 - away", result: str = RESULT, before: str = "") -> str:
    """A right enlarge, of which each wrong one changes a step."""
    return f"""
{before}
def weights(pixels, cells):
    position = {position}
    away = (position[:, None] - torch.arange(cells)).abs()
    return ({share}).clamp(min=0)
return {result}
"""


def enlarges(what: str, code: str = "", above: str = "", **changed: str):
    code = code or enlarged(**changed)
    return wrong(what, "enlarge", cell("def enlarge(m, height, width):", code, above), test_enlarge=2)


def cell(first: str, body: str, above: str) -> str:
    """The body of a function, or a whole cell if something stands above the function."""
    return f"{above}\n\n{first}\n{textwrap.indent(textwrap.dedent(body).strip(), '    ')}" if above else body


MAP = 'torch.einsum("c,chw->hw", weight, features)'


def pictures(what: str, code: str, once: float = 0, values: float = 0, above: str = ""):
    lost = {"test_picture": values, "test_once": once}
    code = cell("def picture(features, weight, height, width):", f"m = {MAP}\n{textwrap.dedent(code).strip()}", above)
    return wrong(what, "picture", code, **{name: points for name, points in lost.items() if points})


def lays(what: str, inside: float = 2, outside: float = 0, code: str = "", above: str = "", **changed: str):
    lost = {"test_lay": inside, "test_outside": outside}
    code = cell('def lay(m, view, outside=float("nan")):', code or laid(**changed), above)
    return wrong(what, "lay", code, **{name: points for name, points in lost.items() if points})


CELL = """
y = y * view.resized[0] / view.photo[0] - view.offset[0]
x = x * view.resized[1] / view.photo[1] - view.offset[1]
if not (0 <= y < view.size[0] and 0 <= x < view.size[1]):
    return None
return int(y * rows / view.size[0]), int(x * columns / view.size[1])
"""


def finds(what: str, old: str, new: str):
    assert old in CELL
    return wrong(what, "cell_at", CELL.replace(old, new), test_cell_at=1)


STRONGEST = """
found = camlib.explain(clf, path)
m, (left, top, right, bottom) = found.map(label), found.view.box
row, column = divmod(int(m.argmax()), 7)
return top + (bottom - top) * (row + 0.5) / 7, left + (right - left) * (column + 0.5) / 7
"""


def peaks(what: str, old: str, new: str):
    assert old in STRONGEST
    return wrong(what, "strongest", STRONGEST.replace(old, new), test_strongest=1)


WRONG = [
    wrong("nothing returned", "enlarge", WEIGHTS + "weights(height, len(m)) @ m", test_enlarge=2),
    wrong(
        "the library does it",
        "enlarge",
        'return F.interpolate(m[None, None], (height, width), mode="bilinear", align_corners=False)[0, 0]',
        test_enlarge=2,
    ),
    wrong("camlib does it", "enlarge", "return camlib.upsample(m, (height, width))", test_enlarge=2),
    wrong(
        "corners aligned",
        "enlarge",
        """
        def weights(pixels, cells):
            position = torch.linspace(0, cells - 1, pixels)
            return (1 - (position[:, None] - torch.arange(cells)).abs()).clamp(min=0)
        return weights(height, m.shape[0]) @ m @ weights(width, m.shape[1]).T
        """,
        test_enlarge=2,
    ),
    wrong(
        "the half forgotten",
        "enlarge",
        """
        def weights(pixels, cells):
            position = (torch.arange(pixels) * cells / pixels).clamp(0, cells - 1)
            return (1 - (position[:, None] - torch.arange(cells)).abs()).clamp(min=0)
        return weights(height, m.shape[0]) @ m @ weights(width, m.shape[1]).T
        """,
        test_enlarge=2,
    ),
    wrong(
        "fades at the border",
        "enlarge",
        """
        def weights(pixels, cells):
            position = (torch.arange(pixels) + 0.5) * cells / pixels - 0.5
            return (1 - (position[:, None] - torch.arange(cells)).abs()).clamp(min=0)
        return weights(height, m.shape[0]) @ m @ weights(width, m.shape[1]).T
        """,
        test_enlarge=2,
    ),
    wrong(
        "nearest cell",
        "enlarge",
        """
        rows = (torch.arange(height) + 0.5) * m.shape[0] / height
        columns = (torch.arange(width) + 0.5) * m.shape[1] / width
        return m[rows.long()][:, columns.long()]
        """,
        test_enlarge=2,
    ),
    wrong(
        "whole factors only",
        "enlarge",
        WEIGHTS
        + """
h, w = m.shape
big = weights(height // h * h, h) @ m @ weights(width // w * w, w).T
out = torch.zeros(height, width)
out[: big.shape[0], : big.shape[1]] = big
return out
""",
        test_enlarge=2,
    ),
    wrong(
        "one factor for both axes",
        "enlarge",
        """
        factor = height / m.shape[0]
        def weights(pixels, cells):
            position = ((torch.arange(pixels) + 0.5) / factor - 0.5).clamp(0, cells - 1)
            return (1 - (position[:, None] - torch.arange(cells)).abs()).clamp(min=0)
        return weights(height, m.shape[0]) @ m @ weights(width, m.shape[1]).T
        """,
        test_enlarge=2,
    ),
    wrong(
        "rows and columns swapped",
        "enlarge",
        WEIGHTS + "return (weights(height, m.shape[0]) @ m @ weights(width, m.shape[1]).T).T",
        test_enlarge=2,
    ),
    wrong(
        "only along x",
        "enlarge",
        WEIGHTS + "return (m @ weights(width, m.shape[1]).T).repeat_interleave(-(-height // len(m)), 0)[:height]",
        test_enlarge=2,
    ),
    wrong(
        "the map is stretched to 0..1 in place",
        "enlarge",
        WEIGHTS + "m -= m.min()\nreturn weights(height, m.shape[0]) @ m @ weights(width, m.shape[1]).T",
        test_enlarge=2,
    ),
    wrong(
        "all channels enlarged first",
        "picture",
        'return torch.einsum("c,chw->hw", weight, camlib.upsample(features, (height, width)))',
        test_once=1,
    ),
    wrong(
        "each channel enlarged by itself",
        "picture",
        "return sum(w * camlib.upsample(f, (height, width)) for w, f in zip(weight, features))",
        test_once=1,
    ),
    wrong(
        "mean over the channels",
        "picture",
        "return camlib.upsample((weight[:, None, None] * features).mean(0), (height, width))",
        test_picture=1,
    ),
    wrong(
        "no weights", "picture", "return camlib.upsample(features.sum(0), (height, width))", test_picture=1, test_once=1
    ),
    wrong(
        "negative evidence cut",
        "picture",
        'return camlib.upsample(torch.einsum("c,chw->hw", weight, features), (height, width)).clamp(min=0)',
        test_picture=1,
    ),
    wrong(
        "corners aligned",
        "picture",
        """
        m = torch.einsum("c,chw->hw", weight, features)[None, None]
        return F.interpolate(m, (height, width), mode="bilinear", align_corners=True)[0, 0]
        """,
        test_picture=1,
    ),
    wrong(
        "splines from corner to corner",
        "picture",
        """
        from scipy.ndimage import zoom
        m = torch.einsum("c,chw->hw", weight, features).numpy()
        return torch.from_numpy(zoom(m, (height / m.shape[0], width / m.shape[1]), order=2))
        """,
        test_picture=1,
        test_once=1,
    ),
    wrong(
        "cut to 256 steps before it is enlarged",
        "picture",
        """
        m = torch.einsum("c,chw->hw", weight, features)
        steps = (255 * (m - m.min()) / (m.max() - m.min())).byte().float()
        return camlib.upsample(steps / 255 * (m.max() - m.min()) + m.min(), (height, width))
        """,
        test_picture=1,
    ),
    wrong(
        "width before height",
        "picture",
        'return camlib.upsample(torch.einsum("c,chw->hw", weight, features), (width, height))',
        test_picture=1,
        test_once=1,
    ),
    wrong("no work at all", "picture", "return torch.zeros(height, width)", test_picture=1, test_once=1),
    wrong("a map without negative cells", "proof", "return torch.tensor([[1.0, 0.0]]), 1, 4", test_proof=1),
    wrong("a map that is not enlarged", "proof", "return torch.tensor([[1.0, -1.0]]), 1, 2", test_proof=1),
    wrong("values too large", "proof", "return torch.tensor([[9.0, -9.0]]), 1, 4", test_proof=1),
    wrong("zero on one side", "proof", "return torch.tensor([[0.0, -1.0]]), 1, 7", test_proof=1),
    wrong("only the map", "proof", "return torch.tensor([[1.0, -1.0]])", test_proof=1),
    wrong(
        "crop forgotten: stretched over the photo",
        "lay",
        laid("(torch.arange(view.photo[axis]) + 0.5) / view.photo[axis] * size"),
        test_lay=2,
        test_outside=1,
    ),
    wrong(
        "crop before scale",
        "lay",
        laid("(torch.arange(view.photo[axis]) + 0.5 - start) * view.resized[axis] / view.photo[axis]"),
        test_lay=2,
        test_outside=1,
    ),
    wrong(
        "scale forgotten",
        "lay",
        laid("torch.arange(view.photo[axis]) + 0.5 - start"),
        test_lay=2,
        test_outside=1,
    ),
    wrong(
        "the crop's offset with the wrong sign",
        "lay",
        laid(CENTRES.replace("- start", "+ start")),
        test_lay=2,
        test_outside=1,
    ),
    wrong(
        "vertical and horizontal offset swapped",
        "lay",
        laid(CENTRES.replace("- start", "- view.offset[1 - axis]")),
        test_lay=2,
        test_outside=1,
    ),
    wrong(
        "pixels' edges for their centres",
        "lay",
        laid(CENTRES.replace(" + 0.5", "")),
        test_lay=2,
        test_outside=1,
    ),
    wrong(
        "a half forgotten in the cells",
        "lay",
        laid().replace("cells / size - 0.5", "cells / size"),
        test_lay=2,
    ),
    wrong(
        "nearest cell",
        "lay",
        laid().replace("- 0.5).clamp(0, cells - 1)", ").floor().clamp(0, cells - 1)"),
        test_lay=2,
    ),
    wrong(
        "zero where nothing was seen", "lay", laid(end="heat[no_y[:, None] | no_x] = 0\nreturn heat"), test_outside=1
    ),
    wrong("the border goes on outside", "lay", laid(end="return heat"), test_outside=1),
    wrong("always NaN", "lay", laid(end="heat[no_y[:, None] | no_x] = torch.nan\nreturn heat"), test_outside=1),
    wrong("only the columns", "lay", laid(end="heat[:, no_x] = outside\nreturn heat"), test_outside=1),
    wrong("only the corners", "lay", laid(end="heat[no_y[:, None] & no_x] = outside\nreturn heat"), test_outside=1),
    wrong(
        "zero taken for unseen",
        "lay",
        laid(end="heat[no_y[:, None] | no_x] = 0\nheat[heat == 0] = outside\nreturn heat"),
        test_lay=2,
        test_outside=1,
    ),
    wrong("camlib does it", "lay", "return camlib.place(m, view)", test_lay=2, test_outside=1),
    wrong(
        "x before y",
        "cell_at",
        """
        y = (y * view.resized[0] / view.photo[0] - view.offset[0]) * rows / view.size[0]
        x = (x * view.resized[1] / view.photo[1] - view.offset[1]) * columns / view.size[1]
        return (int(x), int(y)) if 0 <= y < rows and 0 <= x < columns else None
        """,
        test_cell_at=1,
    ),
    wrong(
        "rounded, not cut",
        "cell_at",
        """
        y = (y * view.resized[0] / view.photo[0] - view.offset[0]) * rows / view.size[0]
        x = (x * view.resized[1] / view.photo[1] - view.offset[1]) * columns / view.size[1]
        return (round(y), round(x)) if 0 <= y < rows and 0 <= x < columns else None
        """,
        test_cell_at=1,
    ),
    wrong(
        "crop forgotten",
        "cell_at",
        "return int(y / view.photo[0] * rows), int(x / view.photo[1] * columns)",
        test_cell_at=1,
    ),
    wrong(
        "the nearest cell for what was not seen",
        "cell_at",
        """
        y = (y * view.resized[0] / view.photo[0] - view.offset[0]) * rows / view.size[0]
        x = (x * view.resized[1] / view.photo[1] - view.offset[1]) * columns / view.size[1]
        return min(max(int(y), 0), rows - 1), min(max(int(x), 0), columns - 1)
        """,
        test_cell_at=1,
    ),
    wrong(
        "a row -1 above the window",
        "cell_at",
        """
        y = (y * view.resized[0] / view.photo[0] - view.offset[0]) * rows / view.size[0]
        x = (x * view.resized[1] / view.photo[1] - view.offset[1]) * columns / view.size[1]
        return (int(y), int(x)) if 0 <= int(y) < rows and 0 <= int(x) < columns else None
        """,
        test_cell_at=1,
    ),
    wrong(
        "cells of 32 pixels",
        "cell_at",
        """
        y = y * view.resized[0] / view.photo[0] - view.offset[0]
        x = x * view.resized[1] / view.photo[1] - view.offset[1]
        return (int(y / 32), int(x / 32)) if 0 <= y < 224 and 0 <= x < 224 else None
        """,
        test_cell_at=1,
    ),
    wrong(
        "in the window, not on the photo",
        "strongest",
        """
        m = camlib.explain(clf, path).map(label)
        row, column = divmod(int(m.argmax()), 7)
        return (row + 0.5) * 32, (column + 0.5) * 32
        """,
        test_strongest=1,
    ),
    wrong(
        "crop forgotten",
        "strongest",
        """
        found = camlib.explain(clf, path)
        row, column = divmod(int(found.map(label).argmax()), 7)
        return (row + 0.5) / 7 * found.view.photo[0], (column + 0.5) / 7 * found.view.photo[1]
        """,
        test_strongest=1,
    ),
    wrong(
        "x before y",
        "strongest",
        """
        found = camlib.explain(clf, path)
        row, column = divmod(int(found.map(label).argmax()), 7)
        left, top, right, bottom = found.view.box
        return left + (column + 0.5) / 7 * (right - left), top + (row + 0.5) / 7 * (bottom - top)
        """,
        test_strongest=1,
    ),
    wrong(
        "the cell's corner",
        "strongest",
        """
        found = camlib.explain(clf, path)
        row, column = divmod(int(found.map(label).argmax()), 7)
        left, top, right, bottom = found.view.box
        return top + row / 7 * (bottom - top), left + column / 7 * (right - left)
        """,
        test_strongest=1,
    ),
    wrong(
        "the network's first choice, not the class asked for",
        "strongest",
        """
        found = camlib.explain(clf, path)
        row, column = divmod(int(found.map(found.top(1)[0].index).argmax()), 7)
        left, top, right, bottom = found.view.box
        return top + (row + 0.5) / 7 * (bottom - top), left + (column + 0.5) / 7 * (right - left)
        """,
        test_strongest=1,
    ),
    wrong(
        "the whole photo squeezed into the window",
        "strongest",
        """
        found = camlib.explain(clf, path, view="whole")
        m = found.map(label)
        row, column = divmod(int(m.argmax()), m.shape[1])
        left, top, right, bottom = found.view.box
        return (row + 0.5) / m.shape[0] * bottom, (column + 0.5) / m.shape[1] * right
        """,
        test_strongest=1,
    ),
    # forbidden functions by other doors
    *[
        enlarges(what, code, above)
        for what, above, code in [
            (
                "interpolate, imported by its name",
                "from torch.nn.functional import interpolate",
                'return interpolate(m[None, None], (height, width), mode="bilinear", align_corners=False)[0, 0]',
            ),
            (
                "interpolate, as a default",
                "import functools\nown = functools.partial(F.interpolate, mode='bilinear')",
                "return own(m[None, None], (height, width))[0, 0]",
            ),
            (
                "interpolate in a list",
                "kept = [F.interpolate]",
                "return kept[0](m[None, None], (height, width), mode='bilinear')[0, 0]",
            ),
            (
                "torchvision",
                "",
                "import torchvision.transforms.functional as TF\nreturn TF.resize(m[None], [height, width])[0]",
            ),
            (
                "torchvision's newer functions",
                "from torchvision.transforms.v2 import functional as TF2",
                "return TF2.resize_image(m[None], [height, width], antialias=False)[0]",
            ),
            (
                "a layer",
                "",
                "return nn.Upsample((height, width), mode='bilinear')(m[None, None])[0, 0]".replace("nn", "torch.nn"),
            ),
            (
                "upsample, the older name",
                "",
                "return F.upsample(m[None, None], (height, width), mode='bilinear')[0, 0]",
            ),
            (
                "an operation of ATen",
                "",
                "return torch.ops.aten.upsample_bilinear2d(m[None, None], [height, width], False)[0, 0]",
            ),
            (
                "an operation of ATen, its overload",
                "up = torch.ops.aten.upsample_bilinear2d.default",
                "return up(m[None, None], [height, width], False)[0, 0]",
            ),
            (
                "a function of C",
                "",
                "return torch._C._nn.upsample_bilinear2d(m[None, None], [height, width], False)[0, 0]",
            ),
            (
                "compiled before",
                "@torch.jit.script\ndef up(m, h: int, w: int):\n"
                "    return torch.nn.functional.interpolate(m, [h, w], mode='bilinear', align_corners=False)",
                "return up(m[None, None], height, width)[0, 0]",
            ),
            (
                "twice in one axis",
                "",
                "rows = F.interpolate(m[None], width, mode='linear')[0]\n"
                "return F.interpolate(rows.T[None], height, mode='linear')[0].T",
            ),
            (
                "PIL, saved before",
                "from PIL import Image\nown = Image.Image.resize",
                "picture = Image.fromarray(m.numpy())\n"
                "return np.array(own(picture, (width, height), Image.Resampling.BILINEAR))",
            ),
            (
                "PIL's own core",
                "from PIL import Image",
                "core = Image.fromarray(m.numpy()).im.resize((width, height), Image.Resampling.BILINEAR)\n"
                "return torch.tensor(list(core)).reshape(height, width)",
            ),
            (
                "PIL's ImageOps",
                "from PIL import Image, ImageOps",
                "return np.array(ImageOps.fit(Image.fromarray(m.numpy()), (width, height), Image.Resampling.BILINEAR))",
            ),
            ("OpenCV", "import cv2\nfrom cv2 import resize", "return resize(m.numpy(), (width, height))"),
            (
                "SciPy",
                "from scipy.ndimage import zoom",
                "times = height / len(m), width / m.shape[1]\n"
                "return zoom(m.numpy(), times, order=1, mode='nearest', grid_mode=True)",
            ),
            ("camlib's place", "from camlib import place", "return place(m, View.identity((height, width)))"),
            (
                "camlib's weights, saved before",
                "from camlib.views import _weights as own",
                """
            v = View.identity((height, width))
            return own(v, 0, len(m), 0, m.device) @ m @ own(v, 1, m.shape[1], 0, m.device).T""",
            ),
            (
                "inside DisableTorchFunction",
                "",
                "with torch._C.DisableTorchFunctionSubclass():\n"
                "    return F.interpolate(m[None, None], (height, width), mode='bilinear')[0, 0]",
            ),
            (
                "in a gradient",
                "",
                "m = m.clone().requires_grad_()\nreturn torch.func.vjp(lambda m: F.interpolate(m[None, None], "
                "(height, width), mode='bilinear')[0, 0], m)[0].detach()",
            ),
        ]
    ],
    enlarges("nothing larger than 64 pixels", before="assert height <= 64"),
    enlarges(
        "whole factors only",
        before="assert height % len(m) == 0 or len(m) > 1"
        "\nheight, width = height // len(m) * len(m), width // m.shape[1] * m.shape[1]",
    ),
    enlarges("bicubic-like weights", share="1 - 2.5 * away ** 2 + 1.5 * away ** 3"),
    enlarges("smooth steps", share="1 - 3 * away ** 2 + 2 * away ** 3"),
    enlarges("nearest", position=POSITION + ".round()"),
    enlarges(
        "one factor for both axes",
        result="weights(height, m.shape[0]) @ m @ weights(height, m.shape[1]).T[:, :1].expand(-1, width)",
    ),
    enlarges("height and width swapped", result="weights(width, m.shape[0]) @ m @ weights(height, m.shape[1]).T"),
    enlarges(
        "repeated",
        result="m.repeat_interleave(-(-height // len(m)), 0)[:height].repeat_interleave("
        "-(-width // m.shape[1]), 1)[:, :width]",
    ),
    enlarges("mirrored at the border", position=POSITION.replace(".clamp(0, cells - 1)", ".abs()")),
    enlarges(
        "goes on in a line beyond the centres", position=POSITION.replace(".clamp(0, cells - 1)", ""), share="1 - away"
    ),
    enlarges(
        "cell centres by whole pixels", position="((torch.arange(pixels) + 0.5) * cells // pixels).clamp(0, cells - 1)"
    ),
    enlarges("weights that do not sum to one", share="0.9 - away"),
    enlarges("stretched to 0 to 1", result=f"(lambda y: (y - y.min()) / (y.max() - y.min()))({RESULT})"),
    enlarges("m is changed", before="m -= 0", result="(m.mul_(2), " + RESULT + ")[1] / 2"),
    enlarges("one cell too far", position=POSITION.replace("- 0.5).clamp", "+ 0.5).clamp")),
    enlarges("with a batch axis", result=f"({RESULT})[None]"),
    enlarges("flipped", result=f"({RESULT}).flip(0)"),
    enlarges("rounded to halves", result=f"(2 * {RESULT}).round() / 2"),
    # picture
    pictures(
        "PIL for each channel",
        """
        from PIL import Image
        size, how = (width, height), Image.Resampling.BILINEAR
        big = [np.array(Image.fromarray(f.numpy()).resize(size, how)) for f in features]
        return sum(w * torch.from_numpy(b) for w, b in zip(weight, big))""",
        once=1,
    ),
    pictures(
        "NumPy, not counted",
        "return camlib.upsample(torch.from_numpy(np.tensordot(weight.numpy(), features.numpy(), 1)), (height, width))",
        once=1,
    ),
    pictures(
        "lists, not counted",
        "return camlib.upsample(torch.tensor([[sum(w * f[i][j] for w, f in zip(weight.tolist(), features."
        "tolist())) for j in range(m.shape[1])] for i in range(len(m))]), (height, width))",
        once=1,
    ),
    pictures(
        "every channel, out of sight of torch functions",
        "with torch._C.DisableTorchFunctionSubclass():\n    "
        "big = F.interpolate(features[None], (height, width), mode='bilinear')[0]\n"
        "return torch.einsum('c,chw->hw', weight, big)",
        once=1,
    ),
    pictures(
        "two enlargements",
        "up = lambda m: camlib.upsample(m, (height, width))\nreturn up(m.clamp(min=0)) + up(m.clamp(max=0))",
        once=1,
    ),
    pictures(
        "a hundred enlargements", "return sum(camlib.upsample(m, (height, width)) for _ in range(100)) / 100", once=1
    ),
    pictures(
        "every channel, if they are few",
        "if len(weight) < 50:\n    return (weight[:, None, None] * camlib.upsample(features, "
        "(height, width))).sum(0)\nreturn camlib.upsample(m, (height, width))",
        once=1,
    ),
    pictures(
        "the mean, if they are many",
        "return camlib.upsample(m / (len(weight) if len(weight) > 50 else 1), (height, width))",
        values=1,
    ),
    pictures(
        "enlarged in two steps",
        "return camlib.upsample(camlib.upsample(m, (2 * height, 2 * width)), (height, width))",
        values=1,
        once=1,
    ),
    pictures(
        "the ATen operation for every channel",
        "big = torch.ops.aten.upsample_bilinear2d(features[None], [height, width], False)[0]\n"
        "return torch.tensordot(weight, big, 1)",
        once=1,
    ),
    pictures(
        "sampled for every channel",
        """
        y, x = (torch.arange(n) * 2 / n + 1 / n - 1 for n in (height, width))
        where = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], 2)[None]
        big = F.grid_sample(features[None], where, padding_mode="border", align_corners=False)[0]
        return torch.tensordot(weight, big, 1)""",
        once=1,
    ),
    pictures("nearest", "return F.interpolate(m[None, None], (height, width))[0, 0]", values=1),
    pictures("bicubic", "return F.interpolate(m[None, None], (height, width), mode='bicubic')[0, 0]", values=1),
    pictures("the sum's sign lost", "return camlib.upsample(m.abs(), (height, width))", values=1, once=1),
    pictures(
        "weights without sign",
        "m = torch.einsum('c,chw->hw', weight.abs(), features)\nreturn camlib.upsample(m, (height, width))",
        values=1,
        once=1,
    ),
    pictures(
        "softmax of the weights",
        "m = torch.einsum('c,chw->hw', weight.softmax(0), features)\nreturn camlib.upsample(m, (height, width))",
        values=1,
        once=1,
    ),
    pictures("scaled to its maximum", "y = camlib.upsample(m, (height, width))\nreturn y / y.abs().max()", values=1),
    pictures(
        "the loudest channel",
        "c = weight.abs().argmax()\nreturn camlib.upsample(weight[c] * features[c], (height, width))",
        values=1,
        once=1,
    ),
    pictures(
        "the features are overwritten",
        "return camlib.upsample(features.mul_(weight[:, None, None]).sum(0), (height, width))",
        values=1,
        once=1,
    ),
    pictures(
        "with axes for batch and channel",
        "return F.interpolate(m[None, None], (height, width), mode='bilinear')",
        values=1,
        once=1,
    ),
    pictures("the small map", "return m", values=1, once=1),
    # proof
    *[
        wrong(what, "proof", f"return {code}", test_proof=1)
        for what, code in {
            "cells of one sign only": "torch.tensor([[1.0, 0.1]]), 1, 9",
            "a small difference": "torch.tensor([[0.2, -0.2]]), 1, 4",
            "NaN": "torch.tensor([[1.0, float('nan')]]), 1, 4",
            "a picture of half a pixel": "torch.tensor([[1.0, -1.0]]), 1, 3.5",
            "a smaller picture": "torch.tensor([[1.0, -1.0, 1.0, -1.0]]), 1, 2",
            "with batch and channel": "torch.tensor([[[[1.0, -1.0]]]]), 1, 4",
            "the two pictures": "torch.tensor([[1.0, 0.75]]), torch.tensor([[1.0, 0.5]])",
            "words": "'ReLU is not linear', 1, 2",
        }.items()
    ],
    # lay
    lays(
        "place with saved weights",
        outside=1,
        above="from unittest.mock import patch\nfrom camlib.views import _weights as own\nput = camlib.place",
        code="with patch('camlib.views._weights', own):\n    return torch.nan_to_num(put(m, view), nan=outside)",
    ),
    lays("place, kept in a list", outside=1, above="kept = [camlib.place]", code="return kept[0](m, view)"),
    lays(
        "to_window of the swapped axis",
        outside=1,
        centres="view.to_window(torch.arange(view.photo[axis]) + 0.5, 1 - axis) * size",
    ),
    lays(
        "two steps: to the window, then to the photo",
        above="own = None",
        code="""
        window = camlib.upsample(m, view.size)
        return F.interpolate(window[None, None], view.photo, mode="bilinear")[0, 0]""",
        outside=1,
    ),
    lays(
        "one scale for both axes",
        outside=1,
        centres=CENTRES.replace("view.resized[axis] / view.photo[axis]", "view.resized[0] / view.photo[0]"),
    ),
    lays("positions cut to whole pixels", inside=2, outside=0, centres=f"(({CENTRES}).floor() + 0.5)"),
    lays(
        "outside by a pixel",
        inside=2,
        outside=1,
        end="heat[(no_y[:, None] | no_x)] = outside\nheat[0] = outside\nreturn heat",
    ),
    lays(
        "only above and left is outside",
        inside=0,
        outside=1,
        end=OUTSIDE.replace("heat[", "no_y[view.photo[0] // 2:] = False\nheat[", 1),
    ),
    lays("the mean outside", inside=0, outside=1, end="heat[no_y[:, None] | no_x] = m.mean()\nreturn heat"),
    lays(
        "outside only where given",
        inside=0,
        outside=1,
        end="heat[no_y[:, None] | no_x] = outside if outside == outside else 0\nreturn heat",
    ),
    lays(
        "zero outside counts as not given",
        inside=0,
        outside=1,
        end="heat[no_y[:, None] | no_x] = outside or float('nan')\nreturn heat",
    ),
    lays("m is changed", inside=2, outside=0, end="m *= 2\n" + OUTSIDE),
    lays("the window starts at 0", outside=1, centres=CENTRES.replace("- start", "- 0")),
    lays(
        "the offset in photo pixels",
        outside=1,
        centres=CENTRES.replace("- start", "- start * view.resized[axis] / view.photo[axis]"),
    ),
    lays("an offset is never negative", outside=1, centres=CENTRES.replace("- start", "- max(start, 0)")),
    lays(
        "a window no larger than the photo",
        inside=2,
        outside=1,
        centres=CENTRES,
        end="assert all(s <= r for s, r in zip(view.size, view.resized))\n" + OUTSIDE,
    ),
    lays(
        "square maps only", inside=2, outside=1, end="heat = heat if m.shape[0] == m.shape[1] else heat.T\n" + OUTSIDE
    ),
    lays("the size of the window", outside=1, code="return camlib.upsample(m, view.size)"),
    lays("flipped", inside=2, outside=0, end=OUTSIDE.replace("heat[no", "heat = heat.flip(0)\nheat[no")),
    lays(
        "corners of the window aligned",
        inside=2,
        outside=0,
        centres=CENTRES,
        end="""
grid = [view.to_window(torch.arange(view.photo[a]) + 0.5, a) * 2 - 1 for a in (0, 1)]
where = torch.stack(torch.meshgrid(*grid, indexing="ij")[::-1], 2)[None].float()
heat = F.grid_sample(m[None, None], where, padding_mode="border", align_corners=True)[0, 0]
"""
        + OUTSIDE,
    ),
    # cell_at
    finds("one row too many at the edge", "0 <= y < view.size[0]", "0 <= y <= view.size[0]"),
    finds("one column too many at the edge", "0 <= x < view.size[1]", "0 <= x <= view.size[1]"),
    finds("the upper edge is outside", "0 <= y <", "0 < y <"),
    finds("the left edge is outside", "0 <= x <", "0 < x <"),
    finds(
        "floats",
        "return int(y * rows / view.size[0]), int(x * columns / view.size[1])",
        "return y * rows / view.size[0], x * columns / view.size[1]",
    ),
    finds(
        "texts",
        "return int(y * rows / view.size[0]), int(x * columns / view.size[1])",
        "return str(int(y * rows / view.size[0])), str(int(x * columns / view.size[1]))",
    ),
    finds(
        "from 1",
        "return int(y * rows / view.size[0]), int(x * columns / view.size[1])",
        "return 1 + int(y * rows / view.size[0]), 1 + int(x * columns / view.size[1])",
    ),
    finds(
        "a number for the cell",
        "return int(y * rows / view.size[0]), int(x * columns / view.size[1])",
        "return int(y * rows / view.size[0]) * columns + int(x * columns / view.size[1])",
    ),
    finds("as many columns as rows", "int(x * columns", "int(x * rows"),
    finds("a square window", "columns / view.size[1]", "columns / view.size[0]"),
    finds("scaled by the other axis", "view.resized[1] / view.photo[1]", "view.resized[0] / view.photo[0]"),
    finds(
        "the offset before the scale",
        "y * view.resized[0] / view.photo[0] - view.offset[0]",
        "(y - view.offset[0]) * view.resized[0] / view.photo[0]",
    ),
    finds("the offset added", "- view.offset[1]", "+ view.offset[1]"),
    finds("no vertical offset", " - view.offset[0]", ""),
    finds("whole pixels first", "y = y *", "y = round(y) *"),
    finds("the pixel's centre", "x = x *", "x = (x + 0.5) *"),
    finds("the photo, not the window, ends it", "0 <= x < view.size[1]", "0 <= x < view.resized[1]"),
    finds("(-1, -1) for None", "return None", "return -1, -1"),
    finds("False for None", "return None", "return False"),
    finds("an exception for None", "return None", "raise ValueError"),
    # strongest
    peaks("the strongest without its sign", "m.argmax()", "m.abs().argmax()"),
    peaks("the weakest", "m.argmax()", "m.argmin()"),
    peaks("seven rows of the photo", "top + (bottom - top) * (row + 0.5) / 7", "found.view.photo[0] * (row + 0.5) / 7"),
    peaks("row and column swapped", "row, column = divmod", "column, row = divmod"),
    peaks("cells from 1", "(row + 0.5)", "(row + 1.5)"),
    peaks("the lower right corner", "(column + 0.5)", "(column + 1)"),
    peaks(
        "the strongest row and the strongest column",
        "divmod(int(m.argmax()), 7)",
        "int(m.sum(1).argmax()), int(m.sum(0).argmax())",
    ),
    peaks(
        "the centre of mass",
        "divmod(int(m.argmax()), 7)",
        "[((m.relu().sum(1 - a) * torch.arange(7)).sum() / m.relu().sum()).item() for a in (0, 1)]",
    ),
    peaks(
        "the peak after enlarging",
        "divmod(int(m.argmax()), 7)",
        "[i / 32 - 0.5 for i in divmod(int(F.interpolate(m[None, None], (224, 224), mode='bicubic').argmax()), 224)]",
    ),
    peaks("the middle of the window", "(row + 0.5)", "3.5"),
    peaks("one's own photo", "path)", "mine.photo)"),
    peaks("one's own class", "found.map(label)", "found.map(mine.a)"),
    peaks("the class's probability", "found.map(label)", "found.map(label).softmax(0)"),
    peaks("against the second class", "found.map(label)", "found.map(label) - found.map(found.top(2)[1].index)"),
    peaks("as a share of the photo", "return top", "return 0 * top"),
    peaks(
        "rounded to ten pixels",
        "top + (bottom - top) * (row + 0.5) / 7,",
        "10 * round((top + (bottom - top) * (row + 0.5) / 7) / 10),",
    ),
    peaks(
        "one scale for both axes",
        "left, top, right, bottom) = found.map(label), found.view.box",
        "left, top, right, bottom) = found.map(label), found.view.box\n"
        "scale = found.view.photo[0] / found.view.resized[0]\n"
        "left, right = (scale * (found.view.offset[1] + edge) for edge in (0, found.view.size[1]))",
    ),
    peaks("the vertical offset forgotten", "return top +", "return"),
    peaks(
        "Grad-CAM by another layer",
        "m, (left, top, right, bottom) = found.map(label)",
        "x, k = clf.preprocess(found.photo, found.view), clf.index(label)\n"
        "m, (left, top, right, bottom) = F.adaptive_avg_pool2d(camlib.grad_cam(clf.module, x, k, 'blocks.4'), 7)[0]",
    ),
    enlarges(
        "the first map of each size, cached",
        f"""
size = (*m.shape, height, width)
if size not in KEPT:
    KEPT[size] = {RESULT}
return KEPT[size]""",
        above="KEPT = {}\n" + WEIGHTS,
    ),
    enlarges(
        "the library's weights for 4000 sizes, computed in advance",
        "return SAVED[m.shape[0], height] @ m @ SAVED[m.shape[1], width].T",
        above="""
def column(cells, pixels):
    return F.interpolate(torch.eye(cells)[None, None], (pixels, cells), mode="bilinear")[0, 0]
SAVED = {(cells, pixels): column(cells, pixels) for cells in range(1, 11) for pixels in range(cells, 400)}""",
    ),
    enlarges(
        "PIL's own resize, of a picture that is drawn",
        """
        picture = Image.linear_gradient("L").convert("F").crop((0, 0, m.shape[1], m.shape[0]))
        picture.putdata(m.flatten().tolist())
        large = picture.im.resize((width, height), Image.Resampling.BILINEAR, (0, 0, m.shape[1], m.shape[0]))
        return [[large.getpixel((x, y)) for x in range(width)] for y in range(height)]
        """,
        above="from PIL import Image",
    ),
    enlarges(
        "interpolate, in a thread",
        """
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(F.interpolate, m[None, None], (height, width), mode="bilinear").result()[0, 0]
        """,
        above="from concurrent.futures import ThreadPoolExecutor",
    ),
    enlarges(
        "interpolate, with PyTorch's modes off",
        """
        with _disable_current_modes():
            return F.interpolate(m[None, None], (height, width), mode="bilinear")[0, 0]
        """,
        above="from torch.utils._python_dispatch import _disable_current_modes",
    ),
    enlarges(
        "PIL's transform to another size",
        """
        picture = Image.new("F", (m.shape[1], m.shape[0]))
        picture.putdata(m.flatten().tolist())
        box = (0, 0, m.shape[1], m.shape[0])
        return np.array(picture.transform((width, height), Image.Transform.EXTENT, box, Image.Resampling.BILINEAR))
        """,
        above="from PIL import Image",
    ),
    enlarges(
        "torchvision's roi_align of the whole map",
        """
        box = torch.tensor([[0.0, 0.0, m.shape[1], m.shape[0]]])
        return roi_align(m[None, None], [box], (height, width), sampling_ratio=1, aligned=True)[0, 0]
        """,
        above="from torchvision.ops import roi_align",
    ),
    pictures(
        "all channels, in a thread",
        """
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(1) as pool:
            large = pool.submit(F.interpolate, features[None], (height, width), mode="bilinear").result()[0]
        return torch.einsum("c,chw->hw", weight, large)
        """,
        once=1,
    ),
    enlarges(
        "interpolate, of numbers that are stored as integers",
        """
        integers = torch.quantize_per_tensor(m[None, None], 1e-8, 0, torch.qint32)
        return F.interpolate(integers, (height, width), mode="bilinear").dequantize()[0, 0]
        """,
    ),
    pictures(
        "all channels, along one of the axes",
        """
        cells = torch.arange(features.shape[2])
        place = ((torch.arange(width) + 0.5) * len(cells) / width - 0.5).clamp(0, len(cells) - 1)
        wide = features @ (1 - (place[:, None] - cells).abs()).clamp(min=0).T
        m = torch.einsum("c,chw->hw", weight, wide)
        return F.interpolate(m[None, None], (height, width), mode="bilinear")[0, 0]
        """,
        once=1,
    ),
    peeking("enlarge", "(height, width)", "torch.tensor([0.0, 1, 3, 4]).expand(2, 4)", test_enlarge=2),
    peeking(
        "picture",
        "(height, width)",
        "camlib.upsample(features.sum(0), (height, width)) * -2 / 3",
        test_picture=1,
        test_once=1,
    ),
]

RIGHT = [
    right(
        "pixel by pixel",
        "enlarge",
        """
        h, w = m.shape
        out = torch.zeros(height, width)
        for i in range(height):
            for j in range(width):
                y = min(max((i + 0.5) * h / height - 0.5, 0), h - 1)
                x = min(max((j + 0.5) * w / width - 0.5, 0), w - 1)
                top, left = int(y), int(x)
                bottom, right = min(top + 1, h - 1), min(left + 1, w - 1)
                upper = m[top, left] * (left + 1 - x) + m[top, right] * (x - left)
                lower = m[bottom, left] * (left + 1 - x) + m[bottom, right] * (x - left)
                out[i, j] = upper * (top + 1 - y) + lower * (y - top)
        return out
        """,
    ),
    right(
        "NumPy's interpolation, one axis after the other",
        "enlarge",
        """
        def along(values, pixels):
            centres = (np.arange(len(values)) + 0.5) / len(values)
            return np.interp((np.arange(pixels) + 0.5) / pixels, centres, values)
        rows = np.stack([along(row, width) for row in m.numpy()])
        return torch.from_numpy(np.stack([along(column, height) for column in rows.T]).T.copy())
        """,
    ),
    right(
        "four neighbours at once",
        "enlarge",
        """
        y = ((torch.arange(height) + 0.5) * m.shape[0] / height - 0.5).clamp(0, m.shape[0] - 1)
        x = ((torch.arange(width) + 0.5) * m.shape[1] / width - 0.5).clamp(0, m.shape[1] - 1)
        y0, x0 = y.long(), x.long()
        y1, x1 = (y0 + 1).clamp(max=m.shape[0] - 1), (x0 + 1).clamp(max=m.shape[1] - 1)
        fy, fx = (y - y0)[:, None], x - x0
        upper = m[y0][:, x0] * (1 - fx) + m[y0][:, x1] * fx
        lower = m[y1][:, x0] * (1 - fx) + m[y1][:, x1] * fx
        return upper * (1 - fy) + lower * fy
        """,
    ),
    right(
        "the grid sampled",
        "enlarge",
        """
        y, x = (torch.arange(n) * 2 / n + 1 / n - 1 for n in (height, width))
        where = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], 2)[None]
        return F.grid_sample(m[None, None], where, padding_mode="border", align_corners=False)[0, 0]
        """,
    ),
    right(
        "a loop for the sum, the own function for the rest",
        "picture",
        """
        m = torch.zeros(features.shape[1:])
        for w, channel in zip(weight, features):
            m += w * channel
        return enlarge(m, height, width)
        """,
    ),
    right(
        "a 1×1 convolution",
        "picture",
        """
        m = F.conv2d(features[None], weight[None, :, None, None])
        return F.interpolate(m, (height, width), mode="bilinear", align_corners=False)[0, 0]
        """,
    ),
    right(
        "a broadcast product",
        "picture",
        "return camlib.upsample((weight[:, None, None] * features).sum(0), (height, width))",
    ),
    right("another map", "proof", "return torch.tensor([[-1.0, 0.5], [0.5, -1.0]]), 20, 30"),
    right("the most that is possible", "proof", "return torch.tensor([[1.0], [-1.0]]), 3, 1"),
    right(
        "pixel by pixel",
        "lay",
        """
        (H, W), (h, w) = view.photo, m.shape
        heat = torch.full((H, W), float(outside))
        for i in range(H):
            for j in range(W):
                y = (i + 0.5) * view.resized[0] / H - view.offset[0]
                x = (j + 0.5) * view.resized[1] / W - view.offset[1]
                if 0 <= y <= view.size[0] and 0 <= x <= view.size[1]:
                    y = min(max(y * h / view.size[0] - 0.5, 0), h - 1)
                    x = min(max(x * w / view.size[1] - 0.5, 0), w - 1)
                    top, left = int(y), int(x)
                    bottom, right = min(top + 1, h - 1), min(left + 1, w - 1)
                    upper = m[top, left] * (left + 1 - x) + m[top, right] * (x - left)
                    lower = m[bottom, left] * (left + 1 - x) + m[bottom, right] * (x - left)
                    heat[i, j] = upper * (top + 1 - y) + lower * (y - top)
        return heat
        """,
    ),
    right(
        "NaN in the weights, replaced at the end",
        "lay",
        """
        def weights(axis):
            cells = m.shape[axis]
            centre = np.arange(view.photo[axis]) + 0.5
            window = centre * view.resized[axis] / view.photo[axis] - view.offset[axis]
            position = (window * cells / view.size[axis] - 0.5).clip(0, cells - 1)
            w = (1 - np.abs(position[:, None] - np.arange(cells))).clip(min=0)
            w[(window < 0) | (window > view.size[axis])] = np.nan
            return w
        heat = weights(0) @ m.double().numpy() @ weights(1).T
        return torch.from_numpy(np.where(np.isnan(heat), outside, heat))
        """,
    ),
    right(
        "by the window's box",
        "cell_at",
        """
        left, top, right, bottom = view.box
        row, column = (y - top) / (bottom - top) * rows, (x - left) / (right - left) * columns
        seen = 0 <= row < rows and 0 <= column < columns
        return (int(row), int(column)) if seen else None
        """,
    ),
    right(
        "the nearest centre",
        "cell_at",
        """
        place = []
        for axis, (p, cells) in enumerate(((y, rows), (x, columns))):
            p = p * view.resized[axis] / view.photo[axis] - view.offset[axis]
            if p < 0 or p >= view.size[axis]:
                return None
            centres = (torch.arange(cells) + 0.5) * view.size[axis] / cells
            place.append((centres - p).abs().argmin().item())
        return tuple(place)
        """,
    ),
    right(
        "by the window's box",
        "strongest",
        """
        found = camlib.explain(clf, path)
        m, (left, top, right, bottom) = found.map(label), found.view.box
        row, column = (m == m.max()).nonzero()[0].tolist()
        return top + (bottom - top) * (row + 0.5) / 7, left + (right - left) * (column + 0.5) / 7
        """,
    ),
    right(
        "a grid that warns",
        "enlarge",
        """
        y, x = (torch.arange(n) * 2 / n + 1 / n - 1 for n in (height, width))
        yy, xx = torch.meshgrid(y, x)
        return F.grid_sample(m[None, None], torch.stack([xx, yy], 2)[None], padding_mode="border")[0, 0]
        """,
    ),
    right("a copy that warns", "enlarge", enlarged(before="m = torch.tensor(m)")),
    right("in double precision", "enlarge", enlarged(result=f"({RESULT}).double()")),
    right("a NumPy array", "enlarge", enlarged(result=f"({RESULT}).numpy()")),
    right("a list", "enlarge", enlarged(result=f"({RESULT}).tolist()")),
    right(
        "one einsum",
        "enlarge",
        enlarged(result="torch.einsum('yi,xj,ij->yx', weights(height, m.shape[0]), weights(width, m.shape[1]), m)"),
    ),
    right(
        "a Kronecker product",
        "enlarge",
        enlarged(
            result="(torch.kron(weights(height, m.shape[0]), weights(width, m.shape[1])) "
            "@ m.reshape(-1)).reshape(height, width)"
        ),
    ),
    right(
        "lerp",
        "enlarge",
        """
        def along(values, pixels):
            p = ((torch.arange(pixels) + 0.5) * len(values) / pixels - 0.5).clamp(0, len(values) - 1)
            low = p.long()
            high = (low + 1).clamp(max=len(values) - 1)
            return torch.lerp(values[low], values[high], (p - low)[:, None])
        return along(along(m, height).T, width).T
        """,
    ),
    right(
        "SciPy's map_coordinates",
        "enlarge",
        """
        from scipy.ndimage import map_coordinates
        y, x = ((np.arange(n) + 0.5) * c / n - 0.5 for n, c in zip((height, width), m.shape))
        return map_coordinates(m.double().numpy(), np.meshgrid(y, x, indexing="ij"), order=1, mode="nearest")
        """,
    ),
    right(
        "vmap",
        "enlarge",
        enlarged(
            result="torch.vmap(lambda r: weights(height, m.shape[0]) @ r, in_dims=1, out_dims=1)"
            "(m @ weights(width, m.shape[1]).T)"
        ),
    ),
    right(
        "affine_grid",
        "enlarge",
        """
        grid = F.affine_grid(torch.eye(2, 3)[None], (1, 1, height, width), align_corners=False)
        return F.grid_sample(m[None, None], grid, padding_mode="border", align_corners=False)[0, 0]
        """,
    ),
    right(
        "upsample, the older name",
        "picture",
        f"return F.upsample(({MAP})[None, None], (height, width), mode='bilinear')[0, 0]",
    ),
    right(
        "in double precision",
        "picture",
        "return camlib.upsample(torch.tensordot(weight.double(), features.double(), 1), (height, width))",
    ),
    right(
        "a layer", "picture", f"return torch.nn.Upsample((height, width), mode='bilinear')(({MAP})[None, None])[0, 0]"
    ),
    right(
        "torchvision",
        "picture",
        f"import torchvision.transforms.functional as TF\n"
        f"return TF.resize(({MAP})[None], [height, width], antialias=False)[0]",
    ),
    right(
        "sampled",
        "picture",
        f"""
        y, x = (torch.arange(n) * 2 / n + 1 / n - 1 for n in (height, width))
        where = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], 2)[None]
        return F.grid_sample(({MAP})[None, None], where, padding_mode="border", align_corners=False)[0, 0]
        """,
    ),
    right("NumPy and whole floats", "proof", "return np.array([[1.0, -1.0]]), np.int64(1), 4.0"),
    right("a list of lists", "proof", "return [[1, -1]], 1, 8"),
    right(
        "in one progress bar, row by row",
        "lay",
        """
        from tqdm.auto import tqdm
        (H, W), (h, w) = view.photo, m.shape
        x = ((torch.arange(W) + 0.5) * view.resized[1] / W - view.offset[1]).double()
        columns = (1 - ((x * w / view.size[1] - 0.5).clamp(0, w - 1)[:, None] - torch.arange(w)).abs()).clamp(min=0)
        heat = torch.full((H, W), float(outside), dtype=torch.float64)
        for i in tqdm(range(H)):
            y = (i + 0.5) * view.resized[0] / H - view.offset[0]
            if 0 <= y <= view.size[0]:
                cell = min(max(y * h / view.size[0] - 0.5, 0), h - 1)
                low, high = int(cell), min(int(cell) + 1, h - 1)
                row = m[low].double() * (1 - cell + low) + m[high].double() * (cell - low)
                seen = (x >= 0) & (x <= view.size[1])
                heat[i, seen] = (columns @ row)[seen]
        return heat
        """,
    ),
    right(
        "NumPy, with NaN cast to whole numbers",
        "lay",
        """
        share = [(np.arange(p) + 0.5) * r / p - o for p, r, o in zip(view.photo, view.resized, view.offset)]
        Y, X = np.meshgrid(*[np.where((s >= 0) & (s <= n), s * c / n - 0.5, np.nan)
                             for s, n, c in zip(share, view.size, m.shape)], indexing="ij")
        gone = np.isnan(Y) | np.isnan(X)
        Y, X = np.clip(Y, 0, m.shape[0] - 1), np.clip(X, 0, m.shape[1] - 1)
        Y.astype(int)
        Y, X = np.nan_to_num(Y), np.nan_to_num(X)
        t, l = Y.astype(int), X.astype(int)
        b, r, a = np.minimum(t + 1, m.shape[0] - 1), np.minimum(l + 1, m.shape[1] - 1), m.numpy()
        up, down = a[t, l] * (1 - X + l) + a[t, r] * (X - l), a[b, l] * (1 - X + l) + a[b, r] * (X - l)
        return np.where(gone, outside, up * (1 - Y + t) + down * (Y - t))
        """,
    ),
    right(
        "sampled",
        "lay",
        """
        window = [view.to_window(torch.arange(view.photo[a]).double() + 0.5, a) for a in (0, 1)]
        y, x = torch.meshgrid(*window, indexing="ij")
        where = torch.stack([2 * x - 1, 2 * y - 1], 2)[None]
        heat = F.grid_sample(m[None, None].double(), where, padding_mode="border", align_corners=False)[0, 0]
        return heat.masked_fill((y < 0) | (y > 1) | (x < 0) | (x > 1), outside)
        """,
    ),
    right(
        "whole floats, by //",
        "cell_at",
        CELL.replace("int(y * rows / ", "(y * rows // ").replace("int(x", "(x").replace("columns /", "columns //"),
    ),
    right(
        "NumPy's whole numbers in an array",
        "cell_at",
        """
        p = (np.array([y, x]) * view.resized / view.photo - view.offset) / view.size
        return np.floor(p * [rows, columns]).astype(int) if (p >= 0).all() and (p < 1).all() else None
        """,
    ),
    right(
        "a list of tensors",
        "cell_at",
        """
        p = [view.to_window(torch.tensor(v, dtype=torch.float64), a) for a, v in enumerate((y, x))]
        return [(v * n).long() for v, n in zip(p, (rows, columns))] if all(0 <= v < 1 for v in p) else None
        """,
    ),
    right(
        "a tensor, with a warning",
        "strongest",
        "import warnings\nwarnings.warn('slow')\n"
        + STRONGEST.replace("return ", "return torch.tensor([").rstrip()
        + "])\n",
    ),
    right(
        "NumPy, unravelled",
        "strongest",
        """
        found = camlib.explain(clf, path)
        cell = np.array(np.unravel_index(found.map(label).numpy().argmax(), (7, 7)))
        return ((cell + 0.5) * 32 + found.view.offset) * found.view.photo / found.view.resized
        """,
    ),
    right(
        "an affine transform whose places are computed here",
        "enlarge",
        """
        from scipy.ndimage import affine_transform
        steps = np.array(m.shape) / (height, width)
        return affine_transform(m.numpy(), steps, steps / 2 - 0.5, (height, width), order=1, mode="nearest")
        """,
    ),
    right("float sizes, whole numbers", "proof", "return torch.tensor([[1, -1]], dtype=torch.int8), 1.0, 4.0"),
]
