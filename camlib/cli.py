"""The command line: `camlib PHOTO|CLIP|FOLDER …` writes a heat map per class and prints a table."""

import argparse
import ctypes
import io
import json
import os
import re
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from camlib.errors import CamError, reason
from camlib.files import printable, sweep
from camlib.folder import MEMORY, find_photos, is_clip
from camlib.journal import Journal, Row

if TYPE_CHECKING:
    from camlib.job import Settings
    from camlib.models import Classifier

SIDE_BY_SIDE = 6  # the most classes in a figure; more would be too small to read
LARGEST = 1_000_000  # of whole numbers
MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of malloc.h

EXAMPLES = """examples:
  camlib cat.jpg                              the best class
  camlib cat.jpg --top 3                      the best three, on one scale
  camlib cat.jpg --target "tiger cat" --target lynx
  camlib cat.jpg --top 2 --figure             also a figure: the best two side by side, with the photo and the scale
  camlib cat.jpg --open                       every class, to explore in the browser
  camlib cat.jpg --top 5 --raw                the maps also as numbers, for NumPy
  camlib photos/ --out maps --json            a folder; one JSON line per picture; resumes if interrupted
  camlib film.mp4 --target lynx               a clip: a silent MP4 with the map on every frame, on one scale

exit code: 0 done; 1 some of several photos could not be used (they are listed); 2 bad usage or input, or the
results cannot be written; 130 interrupted with Ctrl-C; 141 the program that reads the table, such as head, closed it
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(printable(message))  # a photo's name that begins with dashes is taken for an option


def parser() -> argparse.ArgumentParser:
    p = _Parser(
        prog="camlib",
        description="Where did the network see that? Verified class activation maps of photos and clips.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "photos",
        nargs="*",
        type=_path,
        metavar="PHOTO|CLIP|FOLDER",
        help="picture files, clips such as film.mp4 (needs the package av), or folders of pictures",
    )
    p.add_argument("--target", action="append", metavar="CLASS", help="a class, by label or index; repeat for more")
    p.add_argument(
        "--top",
        type=_positive,
        default=None,
        metavar="N",
        help="the N most probable classes (default 1); of a clip, by their mean logits",
    )
    p.add_argument(
        "--method",
        metavar="M",
        help="how to explain (default cam, or frozen for a network without an exact map); --method list shows them all",
    )
    p.add_argument(
        "--model",
        default="efficientnet_lite0",
        metavar="NAME",
        help="efficientnet_lite0 (default), a torchvision name, timm/NAME",
    )
    p.add_argument(
        "--layer",
        metavar="NAME",
        help="the layer with the feature map, for methods other than cam (default: found by camlib)",
    )
    p.add_argument("--view", choices=("crop", "whole"), default="crop", help="what the network sees (default crop)")
    p.add_argument(
        "--size",
        type=_positive,
        action="append",
        metavar="N",
        help="input side in pixels; repeat to average the maps of several sizes",
    )
    p.add_argument(
        "--out", type=_path, default=Path("heatmaps"), metavar="DIR", help="folder for the pictures (default heatmaps)"
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
        "--gif",
        action="store_true",
        help="write clips as animated GIFs, not as MP4 files. Either way, every frame keeps its time, full colour is "
        "the largest evidence in any frame, and the sound is left out",
    )
    p.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda", "mps"),
        default="auto",
        help="auto uses CUDA or Apple's GPU (mps) if there is one",
    )
    p.add_argument(
        "--batch",
        type=_positive,
        default=None,
        metavar="N",
        help="photos per forward pass (default 8 on a GPU; 1 on a CPU, where larger batches are hardly faster)",
    )
    p.add_argument(
        "--workers",
        type=_positive,
        default=min(4, _cpus()),
        metavar="N",
        help="reader threads, and as many writer threads (default %(default)s)",
    )
    p.add_argument(
        "--memory",
        type=_bytes,
        default=MEMORY,
        metavar="SIZE",
        help="memory for photos, such as 500M or 8G (default 2G); the network needs about 1 GB more. A photo needs 24 "
        "bytes per pixel, so with 2G the largest photo has 89 million pixels",
    )
    p.add_argument("--shard", type=_shard, metavar="I/N", help="explain only part I of N of the photos, such as 2/8")
    p.add_argument("--redo", action="store_true", help="redo photos that an earlier run finished")
    p.add_argument("--json", action="store_true", help="print a JSON line per picture instead of the table")
    p.add_argument("--version", action="version", version=_version())
    return p


def main(argv: Sequence[str] | None = None) -> int:
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the program that started this one has closed it
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # file names may contain what this terminal's encoding has not
            stream.reconfigure(errors="backslashreplace")
    args = parser().parse_args(argv)
    if not args.photos and args.method != "list":
        parser().error("the following arguments are required: PHOTO|CLIP|FOLDER")
    args.html |= args.open
    if args.target and args.top:
        parser().error("--target and --top both choose the classes: give only one of the two")
    if args.figure and (count := len(args.target or []) or args.top or 1) > SIDE_BY_SIDE:
        parser().error(f"--figure shows up to {SIDE_BY_SIDE} classes side by side; got {count}")
    for option in ("figure", "raw", "html"):
        if getattr(args, option) and any(map(is_clip, args.photos)):
            parser().error(f"--{option} is for photos; explain clips without it")
    try:
        return _list_methods() if args.method == "list" else _run(args)
    except CamError as e:
        print(f"camlib: {printable(str(e))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("camlib: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the program that reads the table, such as head, has read enough
        _drop_output()
        return 141
    except OSError as e:
        _drop_output()
        where = "cannot write the table" if e.filename is None else printable(str(e.filename))
        print(f"camlib: {where} ({reason(e)})", file=sys.stderr)
        return 2


def _run(args: argparse.Namespace) -> int:
    found, left = find_photos(args.photos)
    if left:
        print(f"camlib: left out: {left}", file=sys.stderr)
    from camlib.hooks import find_layer  # importing torch takes seconds: report usage errors first
    from camlib.job import run
    from camlib.methods import find_method
    from camlib.models import load_model

    if args.method is not None:
        find_method(args.method)
    with redirect_stdout(sys.stderr):  # a download announces itself
        clf = load_model(args.model, device=_device(args.device))
    args.method = args.method or _method_for(clf)
    if args.layer is not None:
        if not args.layer:
            raise CamError("--layer is empty; give the name of a layer.")
        if args.method == "cam":
            raise CamError("--layer is for other methods; for cam, the network determines the layer.")
        find_layer(clf.module, args.layer)
    settings = _settings(args, clf)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        out = printable(str(args.out))
        raise CamError(f"{out}: cannot create this folder ({reason(e)}); choose another with --out.") from e
    sweep(args.out)
    _give_memory_back()
    part = "-of-".join(map(str, args.shard or ()))
    journal = Journal(args.out, settings.options, settings.recipe, part)
    photos = [photo for photo in found if not journal.wrote(photo)]
    if not photos:
        raise CamError(
            f"{printable(str(found[0]))}: is a picture that camlib wrote, and there are no other pictures; choose the "
            "folder with your photos."
        )
    if args.shard:
        number, parts = args.shard
        photos = [photo for photo in photos if journal.part_of(photo, parts) == number]
    for note in journal.notes:
        print(f"camlib: {note}", file=sys.stderr)
    bad: list[tuple[Path, CamError]] = []
    resume = len(found) > 1 and not args.redo
    clips = [photo for photo in photos if is_clip(photo)]
    results = run(clf, [photo for photo in photos if not is_clip(photo)], settings, journal, resume)
    if clips:
        from camlib.clips import run_clips

        options = settings.options | {"gif": args.gif}
        clip_journal = Journal(args.out, options, settings.recipe, part)
        results = chain(results, run_clips(clf, clips, settings, clip_journal, args.gif, args.redo))
    for photo, rows in results:
        if args.open and resume and not isinstance(rows, CamError):
            # If the folder comes from somebody else, its journal cannot prove that camlib wrote the page.
            [(_, rows)] = run(clf, [photo], settings, journal, resume=False)
        if isinstance(rows, CamError):
            bad.append((photo, rows))
            continue
        _print(photo, rows, args.method, args.json)
        if args.open:
            _open(Path(rows[0]["page"]))
            args.open = False
    if bad and len(found) == 1:
        raise bad[0][1]
    if bad:
        print(f"camlib: {len(bad)} of {len(photos)} photos could not be used:", file=sys.stderr)
        for photo, error in bad:
            name = printable(str(photo))
            text = printable(str(error))
            print(f"  {text if name in text else f'{name}: {text}'}", file=sys.stderr)
    return 1 if bad else 0


def _method_for(clf: "Classifier") -> str:
    """The method "cam" if the network has an exact map, otherwise "frozen", and a line that says so."""
    from camlib.errors import HeadError

    try:
        clf.head  # noqa: B018
    except HeadError:
        print(
            f"camlib: {printable(clf.name)} has no exact class activation map, so camlib uses --method frozen: the mean"
            " of each map plus a rest is the logit, and 'on the map' is the part of the logit that lies on the map",
            file=sys.stderr,
        )
        return "frozen"
    return "cam"


def _settings(args: argparse.Namespace, clf: "Classifier") -> "Settings":
    from camlib.job import Settings

    return Settings(
        out=args.out,
        model=args.model,
        method=args.method,
        layer=args.layer or "",
        view=args.view,
        sizes=tuple(sorted(args.size or ())),
        targets=tuple(sorted({clf.index(_target(target)) for target in args.target or []})),
        top=args.top or 1,
        figure=args.figure,
        raw=args.raw,
        html=args.html,
        batch=args.batch or (1 if clf.device.type == "cpu" else 8),
        workers=args.workers,
        memory=args.memory,
    )


def _print(file: Path, rows: list[Row], method: str, as_json: bool) -> None:
    if as_json:  # in ASCII, which is the same in every terminal's encoding
        print(*(json.dumps(row) for row in rows), sep="\n", flush=True)
        return
    where = "clip" if "frames" in rows[0] else "photo"
    print(f"{printable(str(file))}  (colour scale on the {where} ±{rows[0]['scale']:.1f} {printable(rows[0]['unit'])})")
    frozen = method == "frozen"  # whose rest may be most of the logit
    share = f"{'on the map':>12}" if frozen else ""
    print(f"  {'class':<32}{'probability':>12}{'logit':>9}{share}{'evidence':>20}  picture")
    for row in rows:
        name, evidence = f"{row['label']} ({row['index']})", "{:.1f} to {:.1f}".format(*row["evidence"])
        percent = "–" if row["probability"] is None else f"{100 * row['probability']:.2f} %"
        share = f"{row['logit'] - row['rest']:>12.3f}" if "rest" in row else f"{'–':>12}"
        line = f"  {name:<32}{percent:>12}{row['logit']:>9.3f}{share if frozen else ''}{evidence:>20}  {row['picture']}"
        print(printable(line))
    for kind, what in (("figure", "side by side"), ("raw", "numbers"), ("page", "every class")):
        if kind in rows[0]:
            print(f"  {what}: {printable(rows[0][kind])}")
    if "frames" in rows[0]:
        print(f"  {rows[0]['frames']} frames: probability and logit are from their mean, the evidence from all")
    print(end="", flush=True)


def _open(page: Path) -> None:
    import webbrowser

    if not webbrowser.open(page.resolve().as_uri()):
        print(f"camlib: could not start a browser; open {printable(str(page))} yourself", file=sys.stderr)


def _list_methods() -> int:
    from camlib.methods import METHODS

    for name, method in METHODS.items():
        print(f"{name:<20} {method.summary}")
    print(end="", flush=True)
    return 0


def _device(name: str) -> str:
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def _drop_output() -> None:
    """Let Python's own flush at the end go nowhere: the output is closed or full."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _give_memory_back() -> None:
    """Have glibc give large blocks back to the system once they are free: each thread would keep some of them."""
    with suppress(OSError, AttributeError, TypeError):  # not Linux, or another C library
        ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, 1 << 20)


def _cpus() -> int:
    """The CPUs that this process may use, which on a cluster may be fewer than the machine has."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        return os.cpu_count() or 1


def _target(text: str) -> int | str:
    return int(text) if re.fullmatch(r"-?\d{1,9}", text) else text


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is not a path; perhaps a shell variable is not set")
    return Path(text)


def _positive(text: str) -> int:
    value = int(text) if text.isdecimal() and len(text) < 10 else 0
    if not 1 <= value <= LARGEST:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number from 1 to {LARGEST:,}")
    return value


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)([MG])", text.upper().removesuffix("B").removesuffix("I"))
    value = float(found[1]) * {"M": 1 << 20, "G": 1 << 30}[found[2]] if found else 0
    if value < 64 << 20:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a size of at least 64M, such as 500M or 8G")
    return int(value)


def _shard(text: str) -> tuple[int, int]:
    parts = re.fullmatch(r"(\d+)/(\d+)", text)
    if not parts or not 1 <= int(parts[1]) <= int(parts[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 1 to N, such as 2/8")
    return int(parts[1]), int(parts[2])


def _version() -> str:
    from camlib.version import __version__

    return f"camlib {__version__}"
