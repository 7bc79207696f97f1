"""Puts together the folder that `python3 run.py live` writes: everything that the page needs, and nothing else.

What is written by hand lies in page/ and is copied; the service worker sw.js gets the list of files and a digest of
them, so that a browser fetches a new version as a whole. Two builds have the same bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
from pathlib import Path

from PIL import Image, ImageDraw

from tools import catalogue, npm
from tools.errors import ToolError
from tools.live import index
from tools.live.network import DESCRIPTION, NETWORK, WEIGHTS, Files
from tools.notebooks import ROOT

GENERATOR = "camlib live"
PAGE = Path(__file__).parent / "page"
LICENCES = Path(__file__).parent / "licences"
PICTURES = ROOT / "data"
RUNTIME = "onnxruntime-web"
RUNTIME_FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
WORKER = "sw.js"
VERSION, LIST = '"{version}"', '["{files}"]'  # what build fills in, in sw.js
GROUPS = {  # the rows of the table of sizes: what a file's path starts with
    "network": (NETWORK, WEIGHTS, DESCRIPTION),
    "runtime": RUNTIME_FILES,
    "pictures": ("photos/", "mosaics/", "watermarks/"),
    "licences": ("licences/",),
    "page": ("",),
}
ICONS = (180, 192, 512)  # pixels
APACHE = {"efficientnet_lite0"}  # the networks whose weights are known to be under Apache-2.0
WATERMARKS = {"chinese": "Chinese", "latin": "Latin letters, the control"}


def build(network: Files) -> Files:
    """Every file of the folder by its path, from those of the network.

    Raises `ToolError` if the runtime cannot be fetched, and `ToolError` if a file of page/ is not as it must be.
    """
    said = json.loads(network[DESCRIPTION])
    ort = runtime()
    # What a server says while it compresses is not what arrives, so the page needs the sizes to show its progress.
    fetched = {n: len(content) for n, content in (network | ort).items() if n.endswith((".onnx", ".bin", ".wasm"))}
    network = network | {DESCRIPTION: _json({"generator": GENERATOR, **said, "bytes": fetched}, compact=True)}
    parts = [network, ort, pictures(), licences(said["name"], said["network"]), page(), icons(), index.files()]
    files: Files = {}
    for part in parts:
        if both := set(files) & set(part):
            raise ToolError(f"{', '.join(sorted(both))}: page/ has a file that the build makes; rename it.")
        files |= part
    files[WORKER] = filled(files)
    return dict(sorted(files.items()))


def runtime() -> Files:
    """ONNX Runtime Web: the smallest of its bundles that runs WebAssembly, and the WebAssembly itself."""
    folder = npm.package(RUNTIME) / "dist"
    return {name: (folder / name).read_bytes() for name in RUNTIME_FILES}


def pictures() -> Files:
    """Photos, mosaics and watermarks byte for byte, and lists that credit each picture and say how it is used.

    A watermark is laid on a picture as `camlib.sanity.stamped` does it; watermarks.json has its numbers. The strip is
    white everywhere, so only its alpha counts: resized to the side of the picture's central square with Pillow's
    Lanczos filter, then times the opacity and rounded half to even, it is how much of each pixel becomes white:
    (t + (t >> 8)) >> 8 with t = 255 · alpha + pixel · (255 - alpha) + 128, as Pillow pastes.
    """
    files: Files = {}
    for folder in ("photos", "mosaics", "watermarks"):
        for path in sorted((PICTURES / folder).iterdir()):
            files[f"{folder}/{path.name}"] = path.read_bytes()
    photos = [
        {"file": f"photos/{name}", "name": _name(name), "credit": photo.credit}
        for name, photo in catalogue.photos().items()
    ]
    mosaics = [
        {"file": file, "name": f"{_name(file)} photos", "credit": "made from the course's photos"}
        for file in files
        if file.startswith("mosaics/")
    ]
    if missing := {photo["file"] for photo in photos} ^ {file for file in files if file.startswith("photos/")}:
        raise ToolError(f"{', '.join(sorted(missing))}: course.toml and data/photos do not name the same photos.")
    marks = [{"file": f"watermarks/{name}.png", "name": said} for name, said in WATERMARKS.items()]
    files["photos/photos.json"] = _json(photos + mosaics)
    files["watermarks/watermarks.json"] = _json(
        {"opacity": 0.5, "top": 0.4, "filter": "lanczos", "colour": [255, 255, 255], "marks": marks}
    )
    return files


def _name(file: str) -> str:
    """
    >>> _name("photos/grace_hopper.jpg")
    'Grace Hopper'
    """
    words = Path(file).stem.replace("_", " ")
    return "Grace Hopper" if words == "grace hopper" else words.capitalize()


def licences(name: str, human_name: str) -> Files:
    """README.txt says what is under which licence; the other files are the texts."""
    version, _ = npm.PINNED[RUNTIME]
    weights = "Apache-2.0 (Apache-2.0.txt); the weights were rounded to half precision and stored as ONNX"
    if name not in APACHE:
        weights = "see the author's terms; this build does not know them"
    rows = "\n".join(f"photos/{file}: {photo.credit}" for file, photo in catalogue.photos().items())
    text = f"""What this folder holds, and under which licence

network.onnx, classifier.bin, network.json: {human_name}, {weights}.
ort*: ONNX Runtime Web {version}, MIT (onnxruntime.txt).
Everything else, except the pictures: the camlib authors, MIT (camlib.txt).

Pictures
{rows}
mosaics/: made from the cat, the coffee, the camera and the rocket above.
watermarks/: drawn for this course, CC0.
"""
    files = {"README.txt": text.encode(), "camlib.txt": (ROOT / "LICENSE").read_bytes()}
    files["onnxruntime.txt"] = (LICENCES / "onnxruntime.txt").read_bytes()
    if name in APACHE:
        files["Apache-2.0.txt"] = (LICENCES / "Apache-2.0.txt").read_bytes()
    return {f"licences/{file}": content for file, content in files.items()}


def page() -> Files:
    """Every file of page/, hidden ones left out."""
    found = {path.relative_to(PAGE): path for path in sorted(PAGE.rglob("*")) if path.is_file()}
    return {
        relative.as_posix(): path.read_bytes()
        for relative, path in found.items()
        if not any(part.startswith((".", "__")) for part in relative.parts)
    }


def icons() -> Files:
    """icon.svg, rectangles on a field of 512 × 512, as the PNGs that phones want for an installed app."""
    drawing = (PAGE / "icon.svg").read_text(encoding="utf-8")
    scale = 4
    image = Image.new("RGB", (512 * scale, 512 * scale))
    draw = ImageDraw.Draw(image)
    for tag in re.findall(r"<rect [^>]*>", drawing):
        said = dict(re.findall(r'(\w+)="([^"]*)"', tag))
        left, top, width, height, radius = (
            scale * int(said.get(name, 0)) for name in ("x", "y", "width", "height", "rx")
        )
        draw.rounded_rectangle((left, top, left + width - 1, top + height - 1), radius, fill=said["fill"])
    files: Files = {}
    for side in ICONS:
        packed = io.BytesIO()
        image.resize((side, side), Image.Resampling.BOX).save(packed, "PNG", optimize=True)
        files[f"icon-{side}.png"] = packed.getvalue()
    return files


def filled(files: Files) -> bytes:
    """The service worker with the paths of all other files, and a digest of everything."""
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    text = files.get(WORKER, b"").decode()
    if text.count(VERSION) != 1 or text.count(LIST) != 1:
        raise ToolError(f"page/{WORKER} must contain {VERSION} and {LIST}, once each; the build fills them in.")
    names = sorted(set(files) - {WORKER})
    return text.replace(VERSION, json.dumps(digest.hexdigest()[:16])).replace(LIST, json.dumps(names)).encode()


def check_folder(out: Path) -> None:
    """Nothing but an earlier build is ever replaced."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        if json.loads((out / DESCRIPTION).read_bytes())["generator"] == GENERATOR:
            return
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise ToolError(f"{out} contains files that are not a live page; choose another folder with --out, or empty it.")


def network_in(out: Path) -> Files:
    """The network's files of an earlier build."""
    check_folder(out)
    try:
        return {name: (out / name).read_bytes() for name in (NETWORK, WEIGHTS, DESCRIPTION)}
    except OSError as error:
        raise ToolError(f"{out} has no network yet ({error.strerror}); build it once without --page-only.") from error


def sizes(files: Files) -> str:
    """A table: what each part of the folder takes, and what a server sends that compresses."""
    totals: dict[str, list[int]] = {group: [0, 0, 0] for group in GROUPS}
    for name, content in files.items():
        group = next(group for group, starts in GROUPS.items() if name.startswith(starts))
        for n, value in enumerate((1, len(content), len(gzip.compress(content, 6)))):
            totals[group][n] += value
    totals["total"] = [sum(column) for column in zip(*totals.values(), strict=True)]
    rows = [f"{'':<10}files       MB  MB gzip"]
    rows += [f"{group:<10}{n:5d} {size / 1e6:8.2f} {packed / 1e6:8.2f}" for group, (n, size, packed) in totals.items()]
    return "\n".join(rows)


def _json(value: object, compact: bool = False) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=None if compact else 1) + "\n").encode()
