"""Folder jobs that are killed, run beside each other or watched, for tests/test_job.py.

    python -m tests.soak FOLDER kills 50        kill a job of 30 photos at 50 random instants, and finish it
    python -m tests.soak FOLDER together 2000   two jobs at once on 2000 photos, which are killed five times each
    python -m tests.soak FOLDER peak ARGUMENT … peak memory of one job, with the bundled network

Prints JSON. The jobs are forked, which takes milliseconds where a new Python takes seconds. As a fork must not happen
in a process whose threads have worked, this is a program of its own.
"""

import json
import os
import random
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import camlib.models
from camlib.cli import main
from tests.networks import tiny

OPTIONS = ("--top", "2", "--raw", "--json")


def make_photos(folder: Path, count: int, size: tuple[int, int] = (64, 48)) -> None:
    """Small photos in two subfolders with the same names, a fifth of them broken in different ways."""
    random = np.random.default_rng(0)
    with Image.open("data/photos/cat.jpg") as cat:
        for n in range(count):
            path = folder / "ab"[n % 2] / f"IMG_{n // 2:04}.{('jpg', 'png', 'webp')[n % 3]}"
            path.parent.mkdir(parents=True, exist_ok=True)
            left, top = (int(v) for v in random.integers(0, 200, 2))
            cat.crop((left, top, left + 4 * size[0], top + 2 * size[1])).resize(size).save(path)
            if n % 5 == 0:
                BROKEN[n // 5 % len(BROKEN)](path)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _replace(put: Callable[[Path], object]) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        path.unlink()
        put(path)

    return replace


BROKEN = (
    _cut,
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(b"no picture"),
    lambda path: path.write_bytes(bytes(1000)),
    lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes([255] * 100)),
    _replace(lambda path: path.symlink_to(path.name)),
    _replace(lambda path: path.symlink_to("nowhere")),
    _replace(lambda path: os.mkfifo(path)),
)


def start(args: Sequence[object], log: Path) -> int:
    """Start a job in a process of its own. Returns its number."""
    if pid := os.fork():
        return pid
    torch.set_num_threads(1)  # makes PyTorch's threads anew; several threads that do so at once may fail
    code = 99
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        code = main([str(arg) for arg in args])
        sys.stdout.flush()
    finally:
        os._exit(code)


def finish(pid: int) -> int:
    """The exit code; -9 if the job was killed."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def stop(pid: int) -> int:
    os.kill(pid, signal.SIGKILL)
    return finish(pid)


def finished(out: Path) -> int:
    """How many photos a job has finished by now."""
    try:
        return (out / "camlib.jsonl").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def content(out: Path) -> dict[str, object]:
    """Everything in a folder, without the times in its journal."""
    found: dict[str, object] = {}
    for path in out.iterdir():
        data = path.read_bytes()
        if path.suffix == ".jsonl":
            lines = [json.loads(line) for line in data.split(b"\n") if line]
            found[path.name] = [without_times(line) for line in lines]
        else:
            found[path.name] = data
    return found


def without_times(line: dict) -> dict:
    line.pop("time", None)
    if "state" in line:  # of a finished photo
        for wrote in line["files"].values():
            wrote[1] = 0
    return line


def last_lines(found: dict[str, object]) -> dict[str, object]:
    """As `content`, but for each photo only the last line: two jobs at once both do a photo that neither has done."""
    found = dict(found)
    for name, key in (("camlib.jsonl", "photo"), ("camlib.names.jsonl", "name")):
        found[name] = {line[key]: line for line in found[name]}
    return found


def age(out: Path) -> int:
    """Make what killed jobs left look as if an hour had passed. Returns how much that is."""
    parts = list(out.glob(".*.camlib-part"))
    for path in parts:
        os.utime(path, (1, 1))
    return len(parts)


def differences(some: dict[str, object], other: dict[str, object]) -> list[str]:
    return sorted(name for name in some.keys() | other.keys() if some.get(name) != other.get(name))


def kills(folder: Path, rounds: int) -> dict[str, object]:
    make_photos(folder / "photos", 30)
    begin = time.monotonic()
    code = finish(start([folder / "photos", "--out", folder / "whole", *OPTIONS], folder / "log"))
    seconds = time.monotonic() - begin
    whole, total = content(folder / "whole"), finished(folder / "whole")
    assert code == 1 and total == 24, (folder / "log").read_text()
    moment, at, left, wrong = random.Random(0), [], 0, []
    for n in range(rounds):
        out = folder / f"killed-{n}"
        job = [folder / "photos", "--out", out, *OPTIONS]
        pid = start(job, folder / "log")
        while finished(out) < n * total // rounds:  # spread over the whole run, on slow machines, too
            time.sleep(0.001)
        time.sleep(moment.random() * seconds / (total / 2))
        stop(pid)
        at.append(finished(out))
        left += age(out) if out.exists() else 0
        code = finish(start(job, folder / "log"))
        if code != 1 or (found := differences(content(out), whole)):
            wrong.append([n, code, found])
    return {"seconds": seconds, "finished at the kill": at, "leftovers": left, "wrong": wrong}


def together(folder: Path, count: int) -> dict[str, object]:
    """Two jobs at once into one folder, each killed five times, compared with a job that was left alone."""
    make_photos(folder / "photos", count)
    rss: list[list[int]] = [[], []]
    whole, out = folder / "whole", folder / "out"
    job = [folder / "photos", *OPTIONS, "--out"]
    pid = start([*job, whole], folder / "log")
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        rss[0].append(memory(pid))
        time.sleep(0.1)
    codes = [finish(pid)]
    total = finished(whole)
    pids = [start([*job, out], folder / f"log{n}") for n in (0, 1)]
    for kill in range(10):
        while finished(out) < total * (kill + 1) // 12:
            rss[1].append(memory(pids[kill % 2]))
            time.sleep(0.05)
        codes.append(stop(pids[kill % 2]))
        pids[kill % 2] = start([*job, out], folder / f"log{kill % 2}")
    codes += [finish(pid) for pid in pids]
    age(out)
    codes.append(finish(start([*job, out], folder / "log")))
    said = [(folder / name).read_text() for name in ("log", "log0", "log1")]
    wrong = differences(last_lines(content(out)), last_lines(content(whole)))
    return {"photos": count, "finished": total, "codes": codes, "rss": rss, "wrong": wrong, "said": [
        [line for line in text.splitlines() if not line.startswith(("{", "  "))] for text in said
    ]}  # fmt: skip


def memory(pid: int) -> int:
    """MB that a process holds."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) // 1024 if found else 0


def peak(args: Sequence[str]) -> dict[str, object]:
    """How much memory one job takes at most beyond Python, the network and a first photo, in MB."""
    clf = camlib.models.load_model()
    camlib.models.load_model = lambda *_args, **_options: clf
    out = args[args.index("--out") + 1]
    main(["data/photos/cat.jpg", "--out", f"{out}-first", "--figure", "--html", "--json"])
    before = memory(os.getpid())
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins again
    code = main(list(args))
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return {"code": code, "before": before, "peak": int(found[1]) // 1024 - before}


if __name__ == "__main__":
    where, task = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    if task == "peak":
        result = peak(sys.argv[3:])
    else:
        network = camlib.models.load_model(tiny(), size=64)
        camlib.models.load_model = lambda *_args, **_options: network
        main(["data/photos/cat.jpg", "--out", str(where / "first"), *OPTIONS])  # import everything
        result = {"kills": kills, "together": together}[task](where, int(sys.argv[3]))
    print(json.dumps(result))
