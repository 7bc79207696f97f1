"""The machine-graded part of the project: the data are checked, the measure and its baseline are right."""

from tests.exercises.grading import right, wrong

READ = 'entries = json.loads((Path(folder) / "boxes.json").read_text(encoding="utf-8"))\n'
EACH = """
for entry in entries:
    height, width = camlib.read_image(Path(folder) / entry["photo"]).shape[:2]
    left, top, right, bottom = entry["box"]
"""

CHECK = """    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise ValueError(entry["photo"])
"""
ALBUM = READ + EACH + CHECK + "return entries"
ENERGY = """
heat = camlib.explain(clf, photo, view="whole").heatmap(label).clamp(min=0)
left, top, right, bottom = box
return (heat[top:bottom, left:right].sum() / heat.sum()).item()
"""
BLOB = """
left, top, right, bottom = box
blob = sanity.centre_map(shape)
return (blob[top:bottom, left:right].sum() / blob.sum()).item()
"""


def changed(source: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        assert old in source, old
        source = source.replace(old, new)
    return source


def album(what: str, *pairs: tuple[str, str]):
    return wrong(what, "load_album", changed(ALBUM, *pairs), test_load_album=4)


def energy(what: str, *pairs: tuple[str, str]):
    return wrong(what, "energy", changed(ENERGY, *pairs), test_energy=3)


def blob(what: str, *pairs: tuple[str, str]):
    return wrong(what, "blob_energy", changed(BLOB, *pairs), test_blob_energy=3)


WRONG = [
    wrong("nothing checked", "load_album", READ + "return entries", test_load_album=4),
    wrong(
        "width and height swapped",
        "load_album",
        READ
        + EACH.replace("height, width", "width, height")
        + "    if not (0 <= left < right <= width and 0 <= top < bottom <= height):\n"
        + '        raise ValueError(entry["photo"])\nreturn entries',
        test_load_album=4,
    ),
    wrong(
        "empty boxes accepted",
        "load_album",
        READ
        + EACH
        + "    if left < 0 or top < 0 or right > width or bottom > height:\n"
        + '        raise ValueError(entry["photo"])\nreturn entries',
        test_load_album=4,
    ),
    wrong(
        "the edge of the photo refused",
        "load_album",
        READ
        + EACH
        + "    if not (0 <= left < right < width and 0 <= top < bottom < height):\n"
        + '        raise ValueError(entry["photo"])\nreturn entries',
        test_load_album=4,
    ),
    wrong(
        "the photo not named",
        "load_album",
        READ
        + EACH
        + "    if not (0 <= left < right <= width and 0 <= top < bottom <= height):\n"
        + '        raise ValueError("wrong box")\nreturn entries',
        test_load_album=4,
    ),
    wrong(
        "negative evidence counted",
        "energy",
        """
        heat = camlib.explain(clf, photo, view="whole").heatmap(label).abs()
        left, top, right, bottom = box
        return (heat[top:bottom, left:right].sum() / heat.sum()).item()
        """,
        test_energy=3,
    ),
    wrong(
        "the crop for the whole photo",
        "energy",
        "return float(evaluate.energy_in_box(camlib.explain(clf, photo).heatmap(label), [box]))",
        test_energy=3,
    ),
    wrong(
        "rows and columns swapped",
        "energy",
        """
        heat = camlib.explain(clf, photo, view="whole").heatmap(label).clamp(min=0)
        left, top, right, bottom = box
        return (heat[left:right, top:bottom].sum() / heat.sum()).item()
        """,
        test_energy=3,
    ),
    wrong(
        "the best class for the asked one",
        "energy",
        """
        exp = camlib.explain(clf, photo, view="whole")
        return float(evaluate.energy_in_box(exp.heatmap(exp.top(1)[0].index), [box]))
        """,
        test_energy=3,
    ),
    wrong(
        "the share of the area",
        "blob_energy",
        """
        left, top, right, bottom = box
        return (right - left) * (bottom - top) / (shape[0] * shape[1])
        """,
        test_blob_energy=3,
    ),
    wrong(
        "a blob of another shape",
        "blob_energy",
        """
        left, top, right, bottom = box
        blob = sanity.centre_map((shape[1], shape[0]))
        return (blob[top:bottom, left:right].sum() / blob.sum()).item()
        """,
        test_blob_energy=3,
    ),
    # tried afresh, from the task's text
    # fmt: off
    album(
        "the photo as it is stored, not as it is seen",
        (
            'camlib.read_image(Path(folder) / entry["photo"]).shape[:2]',
            '__import__("PIL.Image").Image.open(Path(folder) / entry["photo"]).size[::-1]',
        ),
    ),
    album("nothing returned", ("return entries", "entries")),
    album("the first entry alone is checked", ("    if not", "    if entry is entries[0] and not")),
    album("the last entry alone is checked", ("    if not", "    if entry is entries[-1] and not")),
    album(
        "each photo is checked once",
        ("for entry in entries:", 'for entry in {e["photo"]: e for e in entries}.values():'),
    ),
    album(
        "bad entries are left out",
        ('raise ValueError(entry["photo"])', "entries = [e for e in entries if e is not entry]"),
    ),
    album("boxes are cut to the photo", ('raise ValueError(entry["photo"])', 'entry["box"] = [0, 0, width, height]')),
    album("an assertion", ('raise ValueError(entry["photo"])', 'raise AssertionError(entry["photo"])')),
    album("another kind of error", ('raise ValueError(entry["photo"])', 'raise IndexError(entry["photo"])')),
    album("a warning", ('raise ValueError(entry["photo"])', 'import warnings\n        warnings.warn(entry["photo"])')),
    album("all photos are named", ('ValueError(entry["photo"])', 'ValueError(str([e["photo"] for e in entries]))')),
    album("the box is named, not the photo", ('ValueError(entry["photo"])', 'ValueError(str(entry["box"]))')),
    album(
        "width and height for right and bottom",
        ('entry["box"]\n', 'entry["box"]\n    right, bottom = left + right, top + bottom\n'),
    ),
    album(
        "negative edges counted from the other side", ("0 <= left", "-width <= left"), ("0 <= top", "-height <= top")
    ),
    album("left and top at the edge refused", ("0 <= left", "0 < left"), ("0 <= top", "0 < top")),
    album(
        "only the right and bottom edges",
        ("0 <= left < right <= width and 0 <= top < bottom <= height", "right <= width and bottom <= height"),
    ),
    album("sorted by photo", ("return entries", 'return sorted(entries, key=lambda e: e["photo"])')),
    album("by photo, as a dictionary", ("return entries", 'return {e["photo"]: e for e in entries}')),
    album("boxes only", ("return entries", 'return [e["box"] for e in entries]')),
    album(
        "whole paths for names",
        ("return entries", 'return [{**e, "photo": str(Path(folder) / e["photo"])} for e in entries]'),
    ),
    album(
        "boxes as whole numbers",
        ("return entries", 'return [{**e, "box": [int(x) for x in e["box"]]} for e in entries]'),
    ),
    album("always the folder album", ('Path(folder) / "boxes.json"', 'ALBUM / "boxes.json"')),
    album(
        "a size for all photos",
        ("for entry in entries:\n", 'for entry in entries:\n    entry = {**entry, "photo": entries[0]["photo"]}\n'),
    ),
    album("the folder as a text only", ('Path(folder) / "boxes.json"', 'Path(folder + "/boxes.json")')),
    album(
        "files are left in the album",
        ("return entries", '(Path(folder) / "checked").write_text("yes")\nreturn entries'),
    ),
    album("ASCII only", ('(encoding="utf-8")', '(encoding="ascii", errors="replace")')),
    album(
        "one colour channel is no photo",
        (
            "    height, width",
            "    import PIL.Image\n"
            '    assert PIL.Image.open(Path(folder) / entry["photo"]).mode == "RGB"\n'
            "    height, width",
        ),
    ),
    energy("nothing returned", ("return", "found =")),
    energy("the photo's minimum as zero", (".clamp(min=0)", "\nheat = heat - heat.min()")),
    energy("the share of all evidence, with its sign", (".clamp(min=0)", "")),
    energy("squares", (".clamp(min=0)", ".clamp(min=0).square()")),
    energy("always the cat", ("heatmap(label)", 'heatmap("tiger cat")')),
    energy("inside against outside", ("/ heat.sum()", "/ (heat.sum() - heat[top:bottom, left:right].sum() + 1e-9)")),
    energy(
        "the share of the box",
        (
            "heat[top:bottom, left:right].sum() / heat.sum()",
            "heat[top:bottom, left:right].sum() / heat.numel() / heat.max()",
        ),
    ),
    energy("right and bottom inside", ("top:bottom, left:right", "top : bottom + 20, left : right + 20")),
    energy("percent", ("return (", "return 100 * (")),
    energy(
        "mean of the pair",
        ("heat[top:bottom, left:right].sum() / heat.sum()", "heat[top:bottom, left:right].mean() / heat.mean()"),
    ),
    energy("the photo turned gray for good", ("heat =", "photo[:] = photo.mean(2, keepdims=True)\nheat =")),
    energy(
        "only classes on the photo",
        ("return", "assert label in {p.label for p in camlib.explain(clf, photo).top(50)}\nreturn"),
    ),
    energy("a crop", ('view="whole"', 'view="crop"')),
    blob("nothing returned", ("return", "found =")),
    blob("a narrower blob", ("centre_map(shape)", "centre_map(shape, 0.1)")),
    blob("a square blob", ("centre_map(shape)", "centre_map((min(shape), min(shape)))")),
    blob("noise", ("centre_map(shape)", "random_map(shape)")),
    blob("the blob of the network's size", ("centre_map(shape)", "centre_map((224, 224))")),
    blob("half, always", ("return", "return 0.5\nreturn")),
    blob("columns for rows", ("top:bottom, left:right", "left:right, top:bottom")),
    blob("the mean", ("blob[top:bottom, left:right].sum() / blob.sum()", "blob[top:bottom, left:right].mean()")),
    blob("the share of the largest", ("/ blob.sum()", "/ blob.max() / blob.numel()")),
    # fmt: on
]

RIGHT = [
    right(
        "pairs of edges",
        "load_album",
        READ
        + EACH
        + "    inside = 0 <= left and 0 <= top and right <= width and bottom <= height\n"
        + "    if not inside or right <= left or bottom <= top:\n"
        + "        raise ValueError(f\"{entry['photo']} has a wrong box\")\n"
        + "return entries",
    ),
    right(
        "sums of slices",
        "energy",
        """
        heat = camlib.explain(clf, photo, view="whole").heatmap(label).clamp(min=0)
        left, top, right, bottom = box
        return (heat[top:bottom, left:right].sum() / heat.sum()).item()
        """,
    ),
    right(
        "sums of slices",
        "blob_energy",
        """
        left, top, right, bottom = box
        blob = sanity.centre_map(shape)
        return (blob[top:bottom, left:right].sum() / blob.sum()).item()
        """,
    ),
    # fmt: off
    right(
        "open and json.load",
        "load_album",
        """
        import os
        with open(os.path.join(folder, "boxes.json"), encoding="utf-8-sig") as file:
            entries = json.load(file)
        for entry in entries:
            photo = camlib.read_image(os.path.join(folder, entry["photo"]))
            l, t, r, b = entry["box"]
            if min(l, t) < 0 or r > photo.shape[1] or b > photo.shape[0] or r - l <= 0 or b - t <= 0:
                raise ValueError(f"box of {entry['photo']} is wrong: {entry['box']}")
        return entries
    """,
    ),
    right(
        "Pillow, turned upright",
        "load_album",
        """
        from PIL import Image, ImageOps
        folder = Path(folder)
        found = []
        for line in json.loads((folder / "boxes.json").read_bytes()):
            with Image.open(folder / line["photo"]) as picture:
                width, height = ImageOps.exif_transpose(picture).size
            x = line["box"]
            if not (0 <= x[0] < x[2] <= width) or not (0 <= x[1] < x[3] <= height):
                raise ValueError("look at " + line["photo"])
            found.append({"photo": line["photo"], "label": line["label"], "box": tuple(x)})
        return found
    """,
    ),
    right(
        "a class of its own for the error",
        "load_album",
        "class BoxError(ValueError):\n    pass\n\n\n" + changed(ALBUM, ("ValueError", "BoxError")),
    ),
    right(
        "labels are checked as well",
        "load_album",
        changed(ALBUM, ("return entries", 'assert all(clf.index(e["label"]) >= 0 for e in entries)\nreturn entries')),
    ),
    right(
        "a progress bar and a print",
        "load_album",
        changed(
            ALBUM,
            ("in entries:", 'in __import__("tqdm").tqdm(entries):'),
            ("return entries", 'print(len(entries), "boxes")\nreturn entries'),
        ),
    ),
    right("a tuple of entries", "load_album", changed(ALBUM, ("return entries", "return tuple(entries)"))),
    right(
        "all errors collected, the first raised",
        "load_album",
        changed(
            ALBUM,
            ("for entry", "errors = []\nfor entry"),
            ('raise ValueError(entry["photo"])', "errors.append(ValueError(f\"{entry['photo']}: not inside\"))"),
            ("return entries", "if errors:\n    raise errors[0]\nreturn entries"),
        ),
    ),
    right(
        "NumPy compares",
        "load_album",
        """
        import numpy as np
        entries = json.loads((Path(folder) / "boxes.json").read_text("utf-8"))
        for e in entries:
            size = np.array(camlib.read_image(Path(folder) / e["photo"]).shape[1::-1])
            corner, end = np.array(e["box"][:2]), np.array(e["box"][2:])
            if (corner < 0).any() or (end > size).any() or (end <= corner).any():
                raise ValueError(e["photo"])
        return entries
    """,
    ),
    right("a tensor", "energy", changed(ENERGY, (".item()", ""))),
    right(
        "NumPy",
        "energy",
        """
        import numpy as np
        heat = np.maximum(camlib.explain(clf, photo, view="whole").heatmap(label).numpy(), 0)
        l, t, r, b = map(int, box)
        return heat[t:b, l:r].sum() / heat.sum()
    """,
    ),
    right(
        "a mask, in double precision",
        "energy",
        """
        import torch
        heat = camlib.explain(clf, photo, view="whole").heatmap(label).double().relu()
        mask = torch.zeros_like(heat)
        mask[box[1]:box[3], box[0]:box[2]] = 1
        return (heat * mask).sum() / heat.sum()
    """,
    ),
    right(
        "a tuple for a box",
        "energy",
        "heat = camlib.explain(clf, photo, view='whole').heatmap(clf.index(label))\n"
        "return evaluate.energy_in_box(heat, (tuple(box),))",
    ),
    right(
        "from the cells",
        "energy",
        """
        found = camlib.explain(clf, photo, view="whole")
        return evaluate.energy_in_box(camlib.place(found.map(label), found.view), [box])
    """,
    ),
    right("a warning", "energy", "import warnings\nwarnings.warn('slow')" + ENERGY),
    right("by Grad-CAM, the same here", "energy", changed(ENERGY, ("view=", 'method="hires_cam", view='))),
    right(
        "two Gaussians",
        "blob_energy",
        """
        import math
        def part(low, high, side):
            f = lambda x: math.exp(-(((x + 0.5) / side - 0.5) / 0.25) ** 2 / 2)
            return sum(map(f, range(low, high))) / sum(map(f, range(side)))
        return part(box[0], box[2], shape[1]) * part(box[1], box[3], shape[0])
    """,
    ),
    right(
        "NumPy's float32 in an array",
        "blob_energy",
        """
        import numpy as np
        blob = sanity.centre_map((shape[0], shape[1])).numpy()
        return np.array([blob[box[1]:box[3], box[0]:box[2]].sum() / blob.sum()])
    """,
    ),
    right("a tensor", "blob_energy", changed(BLOB, (".item()", ""))),
    right("camlib", "blob_energy", "return evaluate.energy_in_box(sanity.centre_map(shape), [tuple(box)])"),
    right(
        "rows and columns",
        "blob_energy",
        """
        blob = sanity.centre_map(tuple(shape))
        rows, columns = blob.sum(1) / blob.sum(), blob.sum(0) / blob.sum()
        return float(rows[box[1]:box[3]].sum() * columns[box[0]:box[2]].sum())
    """,
    ),
    # fmt: on
]
