"""The command line: `camlib PHOTO|FOLDER …` writes a heat map per class and prints a table."""

import argparse
import io
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from camlib.errors import CamError

if TYPE_CHECKING:
    from camlib.explain import Explanation
    from camlib.models import Classifier

LONGEST_STEM = 120  # characters: file names end at 255 bytes, and the class comes behind

EXAMPLES = """examples:
  camlib cat.jpg                              the best class
  camlib cat.jpg --top 3                      the best three, on one scale
  camlib cat.jpg --target "tiger cat" --target lynx
  camlib photos/ --out maps --json            a folder; a JSON line per picture

exit code: 0 done; 1 some of several photos could not be used (they are listed); 2 bad usage or input
"""


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="camlib",
        description="Where did the network see that? Verified class activation maps of photos.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("photos", nargs="+", type=Path, metavar="PHOTO|FOLDER", help="picture files, or folders of them")
    p.add_argument("--target", action="append", metavar="CLASS", help="a class, by label or index; repeat for more")
    p.add_argument("--top", type=_positive, default=None, metavar="N", help="the N most probable classes (default 1)")
    p.add_argument(
        "--method",
        default="cam",
        metavar="M",
        help="how to explain: cam (default, exact), grad_cam, hires_cam, layer_cam, grad_cam_plus_plus, score_cam",
    )
    p.add_argument(
        "--model",
        default="efficientnet_lite0",
        metavar="NAME",
        help="efficientnet_lite0 (default), a torchvision name, timm/NAME",
    )
    p.add_argument("--view", choices=("crop", "whole"), default="crop", help="what the network is shown (default crop)")
    p.add_argument(
        "--size", type=_positive, action="append", metavar="N", help="input side in pixels; repeated: mean of the maps"
    )
    p.add_argument(
        "--out", type=Path, default=Path("heatmaps"), metavar="DIR", help="folder for the pictures (default heatmaps)"
    )
    p.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto takes CUDA where there is one"
    )
    p.add_argument("--batch", type=_positive, default=8, metavar="N", help="photos per forward pass (default 8)")
    p.add_argument("--json", action="store_true", help="print a JSON line per picture instead of the table")
    p.add_argument("--version", action="version", version=_version())
    return p


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    if args.target and args.top:
        parser().error("--target names the classes, --top counts them: give one of the two")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name need not be printable
    try:
        return _run(args)
    except CamError as e:
        print(f"camlib: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("camlib: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of the table, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(args: argparse.Namespace) -> int:
    files = list(_files(args.photos, args.out))
    from camlib.models import load_model  # torch takes seconds: usage errors come first

    clf = load_model(args.model, device=_device(args.device))
    for target in args.target or []:
        clf.index(_target(target))
    bad: dict[Path, str] = {}
    names = _stems(files)
    for exp, file in _explained(clf, files, args, bad):
        try:
            _write(exp, file, names[file], args)
        except CamError as e:
            bad[file] = str(e)
    if len(files) == 1:
        for reason in bad.values():
            raise CamError(reason)
    if bad:
        print(f"camlib: {len(bad)} of {len(files)} photos could not be used:", file=sys.stderr)
        print(
            *(f"  {why if str(file) in why else f'{file}: {why}'}" for file, why in bad.items()),
            sep="\n",
            file=sys.stderr,
        )
    return 1 if bad else 0


def _explained(
    clf: "Classifier", files: list[Path], args: argparse.Namespace, bad: dict[Path, str]
) -> "Iterator[tuple[Explanation, Path]]":
    """Every usable photo with its explanation, in order, a batch at a time; what fails is put into `bad`."""
    from tqdm import tqdm

    from camlib.errors import ImageError
    from camlib.explain import METHODS, explain_all
    from camlib.images import read_image

    if args.method not in METHODS:
        raise CamError(f"No method {args.method!r}; known: {', '.join(METHODS)}.")
    options: dict[str, Any] = {"method": args.method, "view": args.view, "sizes": args.size}
    with tqdm(total=len(files), unit="photo", disable=len(files) < 2 or not sys.stderr.isatty()) as bar:
        for start in range(0, len(files), args.batch):
            batch = []
            for file in files[start : start + args.batch]:
                try:
                    photo = read_image(file)
                    for size in args.size or [None]:
                        clf.view(photo, args.view, size)
                    batch.append((photo, file))
                except ImageError as e:
                    bad[file] = str(e)
                    bar.update()
            for exp, (_, file) in zip(explain_all(clf, [p for p, _ in batch], **options), batch, strict=True):
                yield exp, file
                bar.update()


def _write(exp: "Explanation", file: Path, stem: str, args: argparse.Namespace) -> None:
    """One picture per class, all of a photo on one scale, and its lines of the table."""
    targets = [exp.classifier.index(_target(t)) for t in args.target] if args.target else None
    order = list(exp.top(len(exp.logits)))
    chosen = [p for p in order if p.index in targets] if targets else order[: args.top or 1]
    limit = exp.largest([p.index for p in chosen])
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise CamError(f"{args.out}: cannot be made a folder ({e.strerror or e}); --out names one.") from e
    if not args.json:
        print(f"{file}  (colour scale ±{limit:.1f} {exp.unit})")
        print(f"  {'class':<32}{'probability':>12}{'logit':>9}{'evidence':>20}  picture")
    for p in chosen:
        picture = exp.save(args.out / f"{stem}.{p.index}-{_slug(p.label)}.png", p.index, limit)
        cells = exp.map(p.index)
        low, high = float(cells.min()), float(cells.max())
        if args.json:
            row = {"photo": str(file), "index": p.index, "label": p.label, "probability": round(p.probability, 6)}
            row |= {"logit": round(p.logit, 4), "evidence": [round(low, 4), round(high, 4)], "scale": round(limit, 4)}
            print(json.dumps(row | {"picture": str(picture)}, ensure_ascii=False))
        else:
            name, evidence = f"{p.label} ({p.index})", f"{low:.1f} to {high:.1f}"
            print(f"  {name:<32}{100 * p.probability:>10.2f} %{p.logit:>9.3f}{evidence:>20}  {picture}")


def _files(paths: Sequence[Path], out: Path) -> Iterator[Path]:
    """The picture files named, and those in the folders named but not in `out`, each once and in order."""
    from camlib.images import SUFFIXES

    seen = set()
    for path in paths:
        inside = [path]
        if os.path.isdir(path):  # Path.is_dir raises for a name that is too long
            found = (f for f in path.rglob("*") if f.suffix.lower() in SUFFIXES and os.path.isfile(f))
            inside = sorted(f for f in found if out.resolve() not in f.resolve().parents)
            if not inside:
                raise CamError(f"{path}: no picture files in this folder ({', '.join(SUFFIXES)}).")
        for file in inside:
            if file not in seen:
                seen.add(file)
                yield file


def _stems(files: list[Path]) -> dict[Path, str]:
    """A name for each photo's pictures: its stem, else its name, else with folders, else numbered; no two alike."""
    names = {f: f.stem for f in files}
    for longer in (lambda f: f.name, lambda f: "-".join(part for part in f.parts if part != f.anchor)):
        taken = Counter(names.values())
        names = {f: longer(f) if taken[name] > 1 else name for f, name in names.items()}
    used: Counter[str] = Counter()
    for f, name in names.items():
        short = name[:LONGEST_STEM]
        used[short] += 1
        names[f] = short if used[short] == 1 else f"{short}~{used[short]}"
    return names


def _device(name: str) -> str:
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _target(text: str) -> int | str:
    return int(text) if re.fullmatch(r"-?\d+", text) else text


def _slug(label: str) -> str:
    return re.sub(r"\W+", "-", label.lower()).strip("-")


def _positive(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return value


def _version() -> str:
    from camlib import __version__

    return f"camlib {__version__}"
