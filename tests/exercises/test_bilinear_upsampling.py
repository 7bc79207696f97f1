"""Every known mistake in the exercise on bilinear upsampling loses its points, and no right answer loses any."""

from tests.exercises.grading import right, wrong

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
            if p < 0 or p > view.size[axis]:
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
]
