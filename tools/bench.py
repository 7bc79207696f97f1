"""What an explanation costs, as a ratio to the bare forward pass: `python3 run.py bench`.

Every way is timed in turn, A B C A B C …, in one run on one machine; the table gives ratios of medians. Seconds on a
shared machine mean little, so none are promised.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tqdm import tqdm

from camlib import explain, load_model, read_image
from camlib.explain import Explanation

PHOTO = Path(__file__).resolve().parent.parent / "data" / "photos" / "cat.jpg"


def ways(photo_file: Path, threads: int, folder: str) -> dict[str, Callable[[], object]]:
    """What is compared; the first is the bare forward pass."""
    torch.set_num_threads(threads)
    clf, photo = load_model(), read_image(photo_file)
    view = clf.view(photo)
    x = clf.preprocess(photo, view)
    best = [p.index for p in explain(clf, photo).top(5)]

    def bare() -> object:
        with torch.no_grad():
            return clf.module(x)

    def prepared() -> object:
        with torch.no_grad():
            return clf.module(clf.preprocess(photo, view))

    def maps(exp: Explanation) -> object:
        return [exp.heatmap(k) for k in best]

    def overlays(exp: Explanation) -> object:
        return [exp.overlay(k) for k in best]

    return {
        "bare forward pass": bare,
        "bare forward pass again (the noise)": bare,
        "resize, crop, normalise, forward": prepared,
        "explain, no map drawn": lambda: explain(clf, photo),
        "explain, best map on the photo": lambda: explain(clf, photo).heatmap(best[0]),
        "explain, five best maps on the photo": lambda: maps(explain(clf, photo)),
        "explain, all 1000 raw maps": lambda: explain(clf, photo).maps,
        "explain, five overlays drawn": lambda: overlays(explain(clf, photo)),
        "explain, best overlay saved as PNG": lambda: explain(clf, photo).save(Path(folder) / "map.png"),
    }


def medians(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each way, all timed in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in tqdm(range(rounds + 3), desc="rounds", leave=False):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn >= 3:  # the first rounds warm up
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(s) for name, s in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", type=Path, default=PHOTO)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        found = medians(ways(args.photo, args.threads, folder), args.rounds)
    base = next(iter(found.values()))
    print(f"EfficientNet-Lite0, batch 1, {args.threads} thread(s), {args.rounds} rounds, torch {torch.__version__}")
    print(f"{'':<42}{'median ms':>10}{'ratio':>8}")
    for name, seconds in found.items():
        print(f"{name:<42}{1000 * seconds:>10.1f}{seconds / base:>8.2f}")


if __name__ == "__main__":
    main()
