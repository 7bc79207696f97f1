"""A model of the project's report, made and executed: `python notebooks/instructor/project_report.py FOLDER`.

FOLDER then holds what a student would hand in: project.ipynb, filled in and run, and the folder album with ten photos
and boxes.json. Every number in the text is printed by a cell. The photos are those of data/photos, of ten classes; a
student's are their own, of one or two classes.
"""

import json
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # so that it runs as a script, too

from tools.classroom.course import make_course  # noqa: E402

FLOWER = [("flower.jpg", "daisy", [169, 84, 445, 360]), ("flower.jpg", "daisy", [290, 373, 465, 427])]  # drawn by eye
LEFT_OUT = ("espresso", "dome", "tile roof")  # second classes on a photo; and the mosaics, which are made of others

MEASURE = """
import numpy as np
from matplotlib import pyplot as plt

entries = load_album(ALBUM)
boxes = {}  # (photo, label) -> the boxes of its objects
for entry in entries:
    boxes.setdefault((entry["photo"], entry["label"]), []).append(entry["box"])
shown = {key: camlib.explain(clf, ALBUM / key[0], view="whole") for key in boxes}

print(f"{len(boxes)} photos, {len(entries)} boxes")
print(f"{'photo':17} {'class':18} rank    map   blob  edges   free")
scores = []
for (photo, label), inside in boxes.items():
    exp = shown[photo, label]
    size = exp.photo.shape[:2]
    rivals = exp.heatmap(label), sanity.centre_map(size), sanity.edge_map(exp.photo), sanity.centre_map(size) * 0 + 1
    scores.append([evaluate.energy_in_box(heat, inside) for heat in rivals])
    rank = 1 + int((exp.logits > exp.logits[clf.index(label)]).sum())
    print(f"{photo:17} {label:18} {rank:4} " + " ".join(f"{score:6.2f}" for score in scores[-1]))
"""

INTERVALS = """
ours, blob, edges, free = np.array(scores).T
compared = {"map": ours, "blob": blob, "edges": edges, "map - blob": ours - blob, "map - edges": ours - edges}
for what, values in compared.items():
    mean, low, high = evaluate.interval(values)
    _, t_low, t_high = evaluate.t_interval(values)
    print(f"{what:12} {mean:5.2f}   bootstrap {low:5.2f} to {high:5.2f}   Student {t_low:5.2f} to {t_high:5.2f}")
print("photos on which the map is ahead of the blob:", (ours > blob).sum(), "of", len(ours))
"""

FIGURE = """
exp = shown["rocket.jpg", "missile"]
classes = ("missile", "drilling platform", "space shuttle")
maps = [exp.heatmap(label) for label in classes]
limit = max(float(heat.abs().max()) for heat in maps)
figure, axes = plt.subplots(1, 3, figsize=(9, 2.6), layout="constrained", dpi=80)
for ax, heat, label in zip(axes, maps, classes):
    ax.imshow(exp.photo)
    drawn = ax.imshow(heat, cmap="RdBu_r", vmin=-limit, vmax=limit, alpha=0.6)
    ((left, top, right, bottom),) = boxes["rocket.jpg", "missile"]
    ax.add_patch(plt.Rectangle((left, top), right - left, bottom - top, fill=False, color="black"))
    ax.set_title(label, fontsize=11)
    ax.axis("off")
figure.colorbar(drawn, ax=axes, label="evidence in a cell (logit)");
"""

COVER = '''
def covered(photo, left, top, right, bottom):
    """The photo with a box filled by blending the columns beside it."""
    result, x = photo.copy(), np.linspace(0, 1, right - left)[None, :, None]
    beside = photo[top:bottom, left - 1 : left], photo[top:bottom, right : right + 1]
    result[top:bottom, left:right] = ((1 - x) * beside[0] + x * beside[1]).astype(np.uint8)
    return result


def change(left):
    """What covering the rocket's box, moved so that it begins at `left`, does to the logit of missile."""
    picture = covered(exp.photo, left - 4, 121, left + 35, 412)
    return float((camlib.explain(clf, picture, view="whole").logits - exp.logits)[clf.index("missile")])


rocket, elsewhere = change(307), {left: change(left) for left in range(20, 600, 45) if abs(left - 307) > 60}
print(f"logit of missile: {float(exp.logits[clf.index('missile')]):.2f}")
print(f"the rocket covered: {rocket:+.2f}")
print("controls, by their left edge:", ", ".join(f"{left}: {value:+.2f}" for left, value in elsewhere.items()))
values = list(elsewhere.values())
print(f"controls: mean {np.mean(values):+.2f}, lowest {min(values):+.2f}, {len(values)} places")
figure, axes = plt.subplots(1, 2, figsize=(6, 2.2), layout="constrained", dpi=80)
for ax, left, title in zip(axes, (307, 425), ("the rocket covered", "the control that costs most")):
    ax.imshow(covered(exp.photo, left - 4, 121, left + 35, 412))
    ax.set_title(title, fontsize=11)
    ax.axis("off")
'''
CODE = [MEASURE, INTERVALS, FIGURE, COVER]
TEXT = {
    "report_question": """
**Question.** Does the class activation map for the class of an object lie on that object more than two maps that
know nothing of the class: a blob in the middle of the photo, and the photo's edges?

**Why.** I want to use the map to say where the network looked. If a blob does as well, the map tells me nothing
that the photographer did not.

**What each answer would look like.** Measure: the share of the positive evidence that lies in the object's boxes.
If the map is better, the interval of the difference to each baseline lies above 0. If it is no better, the
interval holds 0.

**What I expect** (written before I measured): better than both, but not on every photo. The cells of the map are
large, so I expect it to fail on the rocket, which is 31 pixels wide. (That its map lies off I had read in
data/README.md.)

**Photos.** Ten photos that come with the course, with one class each; authors and licences are in data/README.md
(CC0, public domain, CC BY 1.0, 2.0 and 3.0). They were not chosen at random: each was put into the course because
it teaches something. I drew the boxes of the flower myself; it is a dahlia, for which the network has no class, so
its boxes are those of *daisy*.
""",
    "report_result": """
The map holds 0.66 of its positive evidence in the boxes, the blob 0.52, the edges 0.50. The difference to the blob
is 0.14, with a bootstrap interval from 0.08 to 0.20, that to the edges 0.16, from 0.06 to 0.26. With ten photos
the bootstrap is too narrow, so I also computed Student's interval: 0.07 to 0.21 and 0.04 to 0.28. All four lie
above 0. For photos like these, the map is better than both baselines on average. The interval says nothing about
photos of another kind.

The absolute numbers say little: on cat.jpg the map has 0.97, but the box covers 0.88 of the photo. The map is
ahead of the blob on 10 of 10 photos. The edges are ahead of the map on two: rocket.jpg (0.13 against 0.09) and
flower.jpg (0.83 against 0.73).

My expectation was half right. The rocket is the map's worst photo, but the blob is worse still.

The figure shows three classes on rocket.jpg on one scale, with its unit; where it is 0, the photo is pale.
With `view="whole"` the network saw the whole photo, so no part of it is left without evidence. The evidence for
*missile* is broad and
covers the towers beside the rocket.
""",
    "report_intervention": """
**Suspicion.** On rocket.jpg the evidence for *missile* covers the towers as well, and the box holds only 0.09 of
it. So perhaps the network says *missile* without needing the rocket.

**Test.** I covered the rocket, by blending the columns of pixels beside it, and looked at the logit of *missile*.
**Control:** the same cover, of the same size and height, at 11 other places. A cover does something to any photo;
only what it does beyond that is about the rocket.

**Result.** The logit was 5.14. Without the rocket it falls by 0.80. The controls change it by -0.18 on average,
and by -0.62 at most, over one of the towers.

**Conclusion.** On this photo, covering the rocket costs more than covering any of the 11 other places, but 0.80 of
5.14 is a small part, and hardly more than the worst control. Most of the logit does not depend on the rocket being
there. I cannot say what it does depend on: I covered one place at a time, and never the sky or both towers.
""",
    "report_limits": """
- Ten photos of ten classes. The class and the photo cannot be told apart: perhaps the map is good for animals and
  not for rockets.
- The photos were chosen for a course. On snapshots the objects are not in the middle, and the blob would do worse.
- The boxes are drawn by eye, and wide: the space shuttle's box holds wall as well. I drew the flower's before I
  saw its map, but I knew that the network says *daisy*.
- I chose `view="whole"`, which squeezes the photo to a square. With the network's own crop the results may differ;
  I did not measure both.
- Energy in the box can be raised without looking better: squaring a map raises it. I did not try a second measure,
  such as the pointing game, which cannot be raised that way.
- The intervention is on one photo, and blending leaves a smear that is itself unlike any photo.

**Next** I would measure: the same with thirty photos of one class, boxes drawn before any map is seen; and the
rocket's photo with both towers covered, and with the rocket pasted onto another sky.
""",
}


def album(folder: Path) -> None:
    """Ten photos with the boxes of one class each, from data/boxes.json, and boxes drawn for the flower."""
    entries = json.loads((ROOT / "data" / "boxes.json").read_text(encoding="utf-8"))
    entries = [e for e in entries if e["photo"].startswith("photos/") and e["label"] not in LEFT_OUT]
    entries = [{**e, "photo": Path(e["photo"]).name} for e in entries]
    entries += [{"photo": photo, "label": label, "box": box} for photo, label, box in FLOWER]
    folder.mkdir(parents=True)
    for photo in {entry["photo"] for entry in entries}:
        shutil.copyfile(ROOT / "data" / "photos" / photo, folder / photo)
    (folder / "boxes.json").write_text(json.dumps(entries, indent=1), encoding="utf-8")


def filled_in(released: nbformat.NotebookNode, solved: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The student version with the solutions, the report's cells and its text."""
    solutions = {c.metadata.get("nbgrader", {}).get("grade_id"): c for c in solved.cells if c.cell_type == "code"}
    cells = []
    for cell in released.cells:
        mark = cell.metadata.get("nbgrader", {})
        if mark.get("solution") and cell.cell_type == "code":
            lines = solutions[mark["grade_id"]].source.splitlines()
            cell.source = "\n".join(line for line in lines if not line.strip().startswith("### "))
        if mark.get("solution") and cell.cell_type == "markdown":
            cell.source = TEXT.get(mark["grade_id"], "").strip()
        if cell.source.startswith('NAME = ""'):
            cell.source = 'NAME = "Model Report"'
        cells.append(cell)
        if mark.get("grade_id") == "say-4":
            cells += [nbformat.v4.new_code_cell(code.strip(), id=f"report-{n}") for n, code in enumerate(CODE)]
    released.cells = cells
    return released


def make(folder: Path) -> Path:
    """Write album and notebook, executed where a student would: beside the files that are handed out."""
    with TemporaryDirectory() as temporary:
        make_course(Path(temporary), ["project"])
        there, source = (Path(temporary) / kind / "project" for kind in ("release", "source"))
        album(there / "album")
        read = (nbformat.read(place / "project.ipynb", as_version=4) for place in (there, source))
        notebook = filled_in(*read)
        NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(there)}}).execute()
        for cell in notebook.cells:  # when it ran is of no interest
            cell.metadata.pop("execution", None)
        folder.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, folder / "project.ipynb")
        shutil.copytree(there / "album", folder / "album", dirs_exist_ok=True)
    return folder / "project.ipynb"


if __name__ == "__main__":
    print(make(Path(sys.argv[1])))
