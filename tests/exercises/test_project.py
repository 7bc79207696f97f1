"""The machine-graded part of the project: the data are checked, the measure and its baseline are right."""

from tests.exercises.grading import right, wrong

READ = 'entries = json.loads((Path(folder) / "boxes.json").read_text())\n'
EACH = """
for entry in entries:
    height, width = camlib.read_image(Path(folder) / entry["photo"]).shape[:2]
    left, top, right, bottom = entry["box"]
"""

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
]
