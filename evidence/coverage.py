"""How often does an interval from few photos contain the truth?

Samples of nine values from known distributions, 20 000 each: the percentile bootstrap of their mean (camlib's
`interval`, with 1000 resamplings), Student's t (camlib's `t_interval`), and for hits and misses the exact interval of
Clopper and Pearson. An interval that says 95 % should contain the true mean in 95 of 100 samples. Repeated for 5, 9, 30
and 100 values.

Run it from the repository: python -m evidence.coverage
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from tqdm import tqdm

from evidence.findings import finding, store

OUT = Path(__file__).with_suffix(".json")
CHAPTER = "notebooks/09_against_boxes.ipynb"
SAMPLES, DRAWS, COUNTS = 20_000, 1000, (5, 9, 30, 100)
HIT = 0.83
Truth = tuple[Callable[[np.random.Generator, tuple[int, int]], np.ndarray], float]
TRUTHS: dict[str, Truth] = {
    "normal": (lambda rng, shape: rng.normal(size=shape), 0.0),
    "uniform": (lambda rng, shape: rng.random(shape), 0.5),
    "skewed": (lambda rng, shape: rng.lognormal(size=shape), float(np.exp(0.5))),
    "hits": (lambda rng, shape: (rng.random(shape) < HIT).astype(float), HIT),
}


def bootstrap(values: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """values (samples, n) -> the ends of the percentile intervals."""
    n = values.shape[1]
    ends = [np.quantile(row[rng.integers(n, size=(DRAWS, n))].mean(1), [0.025, 0.975]) for row in values]
    return tuple(np.array(ends).T)


def student(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n = values.shape[1]
    reach = stats.t.ppf(0.975, n - 1) * values.std(1, ddof=1) / np.sqrt(n)
    return values.mean(1) - reach, values.mean(1) + reach


def exact(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Clopper and Pearson: for hits and misses only."""
    n, hits = values.shape[1], values.sum(1)
    low, high = stats.beta.ppf(0.025, hits, n - hits + 1), stats.beta.ppf(0.975, hits + 1, n - hits)
    return np.nan_to_num(low, nan=0), np.nan_to_num(high, nan=1)


def covered(ends: tuple[np.ndarray, np.ndarray], truth: float) -> float:
    return round(float(((ends[0] <= truth) & (truth <= ends[1])).mean()), 3)


def study() -> dict[str, dict[str, dict[str, float]]]:
    """number of values -> distribution -> interval -> coverage."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for n in tqdm(COUNTS, unit="count"):
        for name, (draw, truth) in TRUTHS.items():
            rng = np.random.default_rng(n)
            values = draw(rng, (SAMPLES, n))
            row = {"bootstrap": covered(bootstrap(values, rng), truth), "t": covered(student(values), truth)}
            if name == "hits":
                row["exact"] = covered(exact(values), truth)
            found.setdefault(str(n), {})[name] = row
    return found


def findings(result: dict[str, dict[str, dict[str, float]]]) -> list[dict[str, Any]]:
    """What chapter 09 states."""
    nine, many = result["9"], result["100"]

    def percent(row: dict[str, dict[str, float]], way: str) -> str:
        return ", ".join(f"{name} {100 * v[way]:.0f} %" for name, v in row.items() if way in v)

    boot = [round(100 * v["bootstrap"]) for v in nine.values()]
    return [
        finding(
            CHAPTER,
            "A 95 % bootstrap interval from nine values contains the truth too rarely.",
            f"{SAMPLES} samples of nine from {len(TRUTHS)} distributions",
            f"{percent(nine, 'bootstrap')}; with 100 values: {percent(many, 'bootstrap')}",
            [f"in {min(boot)} % to {max(boot)} %"],
        ),
        finding(
            CHAPTER,
            "Student's t covers where values are not too skewed; hits and misses may need an exact interval.",
            f"{SAMPLES} samples of nine from {len(TRUTHS)} distributions; hits with a probability of {HIT}",
            f"t: {percent(nine, 't')}; exact: {percent(nine, 'exact')}",
            [
                f"{100 * nine['normal']['t']:.0f} % for normal",
                f"{100 * nine['skewed']['t']:.0f} % for skewed",
                f"in {100 * nine['hits']['t']:.0f} %, the exact interval in {100 * nine['hits']['exact']:.0f} %",
            ],
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="where to store the result (default: beside the script)")
    options = parser.parse_args()
    result = study()
    store(options.out, findings(result), coverage=result)


if __name__ == "__main__":
    main()
