"""The command line: `camlib PHOTO|FOLDER …` writes a heat map per class and prints a table."""

import argparse
import io
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from camlib.errors import CamError
from camlib.folder import Journal, ahead, explained, find_photos, stems

if TYPE_CHECKING:
    from camlib.explanation import Explanation
    from camlib.models import Classifier

SIDE_BY_SIDE = 6  # the most classes in a figure; more would be too small to read
Row = dict[str, Any]  # a picture, and what it shows

EXAMPLES = """examples:
  camlib cat.jpg                              the best class
  camlib cat.jpg --top 3                      the best three, on one scale
  camlib cat.jpg --target "tiger cat" --target lynx
  camlib cat.jpg --top 2 --figure             the same side by side, with the photo and the scale
  camlib cat.jpg --open                       every class, to explore in the browser
  camlib cat.jpg --top 5 --raw                the maps also as numbers, for NumPy
  camlib photos/ --out maps --json            a folder; one JSON line per picture; resumes if interrupted

exit code: 0 done; 1 some of several photos could not be used (they are listed); 2 bad usage or input
"""


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="camlib",
        description="Where did the network see that? Verified class activation maps of photos.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("photos", nargs="*", type=Path, metavar="PHOTO|FOLDER", help="picture files, or folders of them")
    p.add_argument("--target", action="append", metavar="CLASS", help="a class, by label or index; repeat for more")
    p.add_argument("--top", type=_positive, default=None, metavar="N", help="the N most probable classes (default 1)")
    p.add_argument(
        "--method", default="cam", metavar="M", help="how to explain (default cam); --method list shows them all"
    )
    p.add_argument(
        "--model",
        default="efficientnet_lite0",
        metavar="NAME",
        help="efficientnet_lite0 (default), a torchvision name, timm/NAME",
    )
    p.add_argument("--view", choices=("crop", "whole"), default="crop", help="what the network sees (default crop)")
    p.add_argument(
        "--size", type=_positive, action="append", metavar="N", help="input side in pixels; repeat to average the maps"
    )
    p.add_argument(
        "--out", type=Path, default=Path("heatmaps"), metavar="DIR", help="folder for the pictures (default heatmaps)"
    )
    p.add_argument(
        "--figure", action="store_true", help="also write a figure per photo: the photo, its classes and the scale"
    )
    p.add_argument(
        "--raw",
        action="store_true",
        help="also write the maps as numbers: per photo, a .npz file, and a .npz.json file that describes it",
    )
    p.add_argument("--html", action="store_true", help="also write a page per photo, to explore every class")
    p.add_argument("--open", action="store_true", help="like --html, and show the first photo's page in the browser")
    p.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda", "mps"),
        default="auto",
        help="auto uses CUDA or Apple's GPU (mps) if there is one",
    )
    p.add_argument("--batch", type=_positive, default=8, metavar="N", help="photos per forward pass (default 8)")
    p.add_argument(
        "--workers",
        type=_positive,
        default=min(4, os.cpu_count() or 1),
        metavar="N",
        help="reader threads, and as many writer threads (default %(default)s)",
    )
    p.add_argument(
        "--shard", type=_shard, metavar="I/N", help="only the I-th of N equal parts of the photos, 1/N to N/N"
    )
    p.add_argument("--redo", action="store_true", help="redo photos that an earlier run finished")
    p.add_argument("--json", action="store_true", help="print a JSON line per picture instead of the table")
    p.add_argument("--version", action="version", version=_version())
    return p


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    if args.method == "list":
        return _list_methods()
    if not args.photos:
        parser().error("the following arguments are required: PHOTO|FOLDER")
    args.html |= args.open
    if args.target and args.top:
        parser().error("--target and --top both choose the classes: give only one of the two")
    if args.figure and (count := len(args.target or []) or args.top or 1) > SIDE_BY_SIDE:
        parser().error(f"--figure shows up to {SIDE_BY_SIDE} classes side by side; got {count}")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names may contain unprintable characters
    try:
        return _run(args)
    except CamError as e:
        print(f"camlib: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("camlib: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the program that reads the table, such as head, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(args: argparse.Namespace) -> int:
    files = find_photos(args.photos, args.out)
    names = stems(files)
    part, parts = args.shard or (1, 1)
    mine = files[part - 1 :: parts]
    from camlib.methods import find_method  # importing torch takes seconds: report usage errors first
    from camlib.models import load_model

    find_method(args.method)
    clf = load_model(args.model, device=_device(args.device))
    for target in args.target or []:
        clf.index(_target(target))
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise CamError(f"{args.out}: cannot create this folder ({e.strerror or e}); choose another with --out.") from e
    bad: dict[Path, CamError] = {}
    for file, rows in _rows(clf, mine, names, args, resume=len(files) > 1 and not args.redo):
        if isinstance(rows, CamError):
            bad[file] = rows
        else:
            _print(file, rows, args.json)
            if args.open:
                _open(Path(rows[0]["page"]))
                args.open = False
    if len(files) == 1:
        for error in bad.values():
            raise error
    if bad:
        print(f"camlib: {len(bad)} of {len(mine)} photos could not be used:", file=sys.stderr)
        for file, error in bad.items():
            print(f"  {error if str(file) in str(error) else f'{file}: {error}'}", file=sys.stderr)
    return 1 if bad else 0


def _rows(
    clf: "Classifier", files: list[Path], names: dict[Path, str], args: argparse.Namespace, resume: bool
) -> Iterator[tuple[Path, "list[Row] | CamError"]]:
    """Write every photo's pictures. Yields each photo with the rows of its table, or with its error, in order.

    Reading, the network and writing overlap: threads decode the next photos and encode the previous pictures.
    """
    from tqdm import tqdm

    from camlib.methods import find_method
    from camlib.version import __version__

    deciding = ("method", "model", "view", "size", "target", "top", "figure", "raw", "html")
    shard = "-of-".join(map(str, args.shard or ()))
    journal = Journal(args.out, {"version": __version__} | {name: getattr(args, name) for name in deciding}, shard)
    done = {file: rows for file in files if resume and (rows := journal.rows(file)) is not None}

    def write(pair: "tuple[Path, Explanation | CamError]") -> "tuple[Path, list[Row] | CamError]":
        file, exp = pair
        if isinstance(exp, CamError):
            return file, exp
        try:
            return file, _write(exp, file, names[file], args)
        except CamError as e:
            return file, e

    todo = [file for file in files if file not in done]
    options: dict[str, Any] = {"view": args.view, "sizes": args.size, "batch": args.batch}
    quiet = len(files) < 2 or not sys.stderr.isatty()
    with (
        tqdm(total=len(files), initial=len(done), unit="photo", disable=quiet) as bar,
        ThreadPoolExecutor(args.workers) as readers,
        ThreadPoolExecutor(args.workers) as writers,
    ):
        written = ahead(
            writers, write, explained(clf, todo, readers, find_method(args.method), **options), 2 * args.workers
        )
        for file in files:
            if file in done:
                yield file, done[file]
                continue
            _, result = next(written)
            if len(names) > 1 and not isinstance(result, CamError):
                journal.add(file, result)
            yield file, result
            bar.update()


def _write(exp: "Explanation", file: Path, stem: str, args: argparse.Namespace) -> list[Row]:
    """Write one picture per class, all on one scale. Returns a row of the table for each."""
    targets = {exp.classifier.index(_target(t)) for t in args.target or []}
    chosen = [p for p in exp.top(len(exp.logits)) if p.index in targets] if targets else exp.top(args.top or 1)
    indices = [p.index for p in chosen]
    limit = exp.largest(indices)
    more = {}
    if args.figure:
        more["figure"] = str(_write_figure(exp, indices, limit, args.out / f"{stem}.figure.jpg"))
    if args.raw:
        more["raw"] = str(exp.save(args.out / f"{stem}.npz", indices))
    if args.html:
        more["page"] = str(exp.to_html(args.out / f"{stem}.html", file.name))
    rows = []
    for p in chosen:
        picture = exp.save(args.out / f"{stem}.{p.index}-{_slug(p.label)}.png", p.index, limit)
        cells = exp.map(p.index)
        probability = None if p.probability is None else round(p.probability, 6)
        row = {"photo": str(file), "index": p.index, "label": p.label, "probability": probability}
        row |= {"logit": round(p.logit, 4), "evidence": [round(float(v), 4) for v in (cells.min(), cells.max())]}
        rows.append(row | {"scale": round(limit, 4), "unit": exp.unit, "picture": str(picture)} | more)
    return rows


def _write_figure(exp: "Explanation", targets: list[int], limit: float, path: Path) -> Path:
    """Write the figure at twice the resolution, so that it is sharp on high-resolution screens."""
    from camlib.files import write_whole
    from camlib.plot import encode

    return write_whole(path, lambda file: file.write(encode(exp.plot(targets, limit), dpi=200)))


def _print(file: Path, rows: list[Row], as_json: bool) -> None:
    if as_json:
        print(*(json.dumps(row, ensure_ascii=False) for row in rows), sep="\n", flush=True)
        return
    print(f"{file}  (colour scale on the photo ±{rows[0]['scale']:.1f} {rows[0]['unit']})")
    print(f"  {'class':<32}{'probability':>12}{'logit':>9}{'evidence':>20}  picture")
    for row in rows:
        name, evidence = f"{row['label']} ({row['index']})", "{:.1f} to {:.1f}".format(*row["evidence"])
        percent = "–" if row["probability"] is None else f"{100 * row['probability']:.2f} %"
        print(f"  {name:<32}{percent:>12}{row['logit']:>9.3f}{evidence:>20}  {row['picture']}")
    if "figure" in rows[0]:
        print(f"  side by side: {rows[0]['figure']}")
    if "raw" in rows[0]:
        print(f"  numbers: {rows[0]['raw']}")
    if "page" in rows[0]:
        print(f"  every class: {rows[0]['page']}")


def _open(page: Path) -> None:
    import webbrowser

    if not webbrowser.open(page.resolve().as_uri()):
        print(f"camlib: could not start a browser; open {page} yourself", file=sys.stderr)


def _list_methods() -> int:
    from camlib.methods import METHODS

    for name, method in METHODS.items():
        print(f"{name:<20} {method.summary}")
    return 0


def _device(name: str) -> str:
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def _target(text: str) -> int | str:
    return int(text) if re.fullmatch(r"-?\d+", text) else text


def _slug(label: str) -> str:
    return re.sub(r"\W+", "-", label.lower()).strip("-")


def _positive(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return value


def _shard(text: str) -> tuple[int, int]:
    parts = re.fullmatch(r"(\d+)/(\d+)", text)
    if not parts or not 1 <= int(parts[1]) <= int(parts[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 1 to N, such as 2/8")
    return int(parts[1]), int(parts[2])


def _version() -> str:
    from camlib.version import __version__

    return f"camlib {__version__}"
