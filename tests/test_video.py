"""Clips: read as a player shows them, and written with what camlib says of every frame alone."""

import errno
import gc
import itertools
import json
import os
import re
import struct
import sys
import weakref
from fractions import Fraction
from pathlib import Path

import av
import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image

import camlib
import camlib.clips
import camlib.models
import camlib.video
from camlib import CamError, ImageError, load_model, overlay
from camlib.cli import main
from camlib.folder import is_clip
from camlib.video import Frame, write_clip
from tests.networks import flat, scores_of, tiny


@pytest.fixture
def small(monkeypatch):
    clf = load_model(tiny(), size=64)
    monkeypatch.setattr(camlib.models, "load_model", lambda *_args, **_options: clf)
    return clf


def moving(count: int = 6, height: int = 72, width: int = 96) -> list[np.ndarray]:
    """Frames of coloured blobs that move, each unlike the others."""
    colours = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    blobs = Image.fromarray(colours).resize((width, height), Image.Resampling.BICUBIC)
    return [np.roll(np.asarray(blobs), 5 * n, 1) // (1 + n % 3) for n in range(count)]


def make(path: Path, frames: list[np.ndarray], codec: str = "ffv1", fps: int = 10, **options) -> Path:
    """A clip from another library's hand; without loss, unless another codec is wanted."""
    iio.imwrite(path, np.stack(frames), plugin="pyav", codec=codec, fps=fps, **options)
    return path


def lossless(
    path: Path, frames: list[np.ndarray], times: list[int] | None = None, ratio: Fraction | None = None
) -> Path:
    """RGB as it is, at times in milliseconds."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1" if path.suffix == ".mkv" else "png", rate=10)
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "bgr0" if path.suffix == ".mkv" else "rgb24"
        stream.codec_context.time_base = Fraction(1, 1000)
        for n, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture = picture.reformat(format=stream.pix_fmt)
            picture.pts, picture.time_base = times[n] if times else 100 * n, Fraction(1, 1000)
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    return path


def times_of(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """The mean difference of two pictures, of 255."""
    return float(np.abs(a.astype(int) - b).mean())


def job(capsys, *args: object) -> tuple[int, list[dict], str]:
    code = main([*map(str, args), "--json"])
    out, err = capsys.readouterr()
    return code, [json.loads(line) for line in out.splitlines()], err


# --- frames ----------------------------------------------------------------------------------------------------------


def test_raw_video(tmp_path):
    """Y4M: a line, and before each frame another one."""
    luma = np.arange(48, 48 + 6 * 8, dtype=np.uint8).tobytes()
    chroma = bytes([128]) * 12
    path = wrote(tmp_path / "clip.y4m", b"YUV4MPEG2 W8 H6 F10:1 C420jpeg\n" + (b"FRAME\n" + luma + 2 * chroma) * 3)
    frames = list(camlib.frames(path))
    assert len(frames) == 3 and is_clip(path)
    assert (np.ptp(frames[0].astype(int), axis=2) < 3).all() and (np.diff(frames[0][:, :, 0].astype(int)) >= 0).all()


@pytest.mark.parametrize("suffix", [".mov", ".mkv", ".avi"])
def test_frames_are_what_was_filmed(tmp_path, suffix):
    wanted = moving(height=71, width=97)
    found = list(camlib.frames(lossless(tmp_path / f"clip{suffix}", wanted)))
    assert len(found) == len(wanted)
    assert all(f.dtype == np.uint8 and np.array_equal(f, w) for f, w in zip(found, wanted, strict=True))


def test_frames_come_one_by_one(tmp_path, monkeypatch):
    """Only those that are taken are decoded, and the file is closed when the caller stops."""
    decoded = []
    real = camlib.video._upright
    monkeypatch.setattr(camlib.video, "_upright", lambda *args: decoded.append(1) or real(*args))
    clip = lossless(tmp_path / "clip.mov", moving(8))
    frames = camlib.frames(clip)
    assert decoded == []
    next(frames), next(frames)
    assert len(decoded) == 2
    frames.close()
    if Path("/proc/self/fd").is_dir():
        gc.collect()
        assert str(clip) not in {os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")}


ORIENTATIONS = [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)]
ORIENTATIONS += [(-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0)]


def turned(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Write the matrix into the header of the track."""
    a, b, c, d = matrix
    data = path.read_bytes()
    start = data.index(b"tkhd") + 44
    assert struct.unpack(">9i", data[start : start + 36]) == (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    header = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data[:start] + header + data[start + 36 :])
    return path


@pytest.mark.parametrize("matrix", ORIENTATIONS, ids=str)
def test_a_turned_phone(tmp_path, matrix):
    """Every pixel (x, y) is shown at (a x + c y, b x + d y), as ISO 14496-12 has it, moved into view."""
    (stored,) = moving(1, 24, 40)
    a, b, c, d = matrix
    path = turned(lossless(tmp_path / "clip.mov", [stored]), matrix)
    points = {(x, y): (a * x + c * y, b * x + d * y) for x in range(40) for y in range(24)}
    left, top = (min(point[axis] for point in points.values()) for axis in (0, 1))
    shown = np.zeros((40, 24, 3) if b else (24, 40, 3), np.uint8)
    for (x, y), (right, down) in points.items():
        shown[down - top, right - left] = stored[y, x]
    (found,) = camlib.frames(path)
    assert np.array_equal(found, shown)


def test_pixels_that_are_not_square(tmp_path):
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10, options={"x264-params": "sar=2/1"})
        stream.height, stream.width, stream.pix_fmt = 40, 30, "yuv420p"
        for frame in moving(2, 40, 30):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode(None))
    assert [frame.shape for frame in camlib.frames(path)] == [(40, 60, 3)] * 2


def test_a_clip_that_begins_late_begins_at_zero(tmp_path):
    """As MPEG transport streams do: what counts is when a frame comes after the first."""
    path = lossless(tmp_path / "clip.mkv", moving(3), times=[5000, 5100, 5400])
    assert [float(f.time) for f in camlib.video.Clip(path).frames()] == pytest.approx([0, 0.1, 0.4])


def sound(path: Path) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def playlist(path: Path) -> Path:
    """A file that FFmpeg takes for a list of other files to open: this is how servers were made to read /etc/passwd."""
    lossless(path.with_name("secret.mov"), moving(1))
    path.write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{path.with_name('secret.mov')}\n#EXT-X-ENDLIST\n"
    )
    return path


def cut(path: Path, part: float, suffix: str = ".mov") -> Path:
    whole = write_clip(path.with_name("whole.mp4"), shown(moving(20)), Fraction(10)).read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    return path


def gif(path: Path) -> Path:
    return write_clip(path.with_name("clip.gif"), shown(moving(2)), Fraction(10)).rename(path)


def unknown_codec(path: Path) -> Path:
    data = lossless(path.with_suffix(".mov"), moving(2)).read_bytes()
    assert data.count(b"png ") == 1
    return wrote(path, data.replace(b"png ", b"none"))


def shown(pictures: list[np.ndarray], step: Fraction = Fraction(1, 10)) -> list[Frame]:
    return [Frame(picture, n * step, step) for n, picture in enumerate(pictures)]


def wrote(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


FAULTS = {
    "missing": (lambda path: path, "no such file"),
    "empty": (lambda path: wrote(path, b""), "the file is empty"),
    "text": (lambda path: wrote(path, b"hello, world" * 99), "not a clip that camlib reads, or is damaged or cut off"),
    "a GIF": (gif, "such as GIF: ffmpeg -i"),
    "an unknown codec": (unknown_codec, "compressed in a way that FFmpeg does not know, or is damaged"),
    "a photo": (lambda path: wrote(path, Path("data/photos/cat.jpg").read_bytes()), "not a clip that camlib reads"),
    "a playlist": (playlist, "not a clip that camlib reads"),
    "only sound": (sound, "holds no moving pictures, only sound"),
    "cut in its header": (lambda path: cut(path, 0.02), "is damaged or cut off"),
    "cut in the middle": (lambda path: cut(path, 0.6), "is damaged or cut off"),
    "cut at the end": (lambda path: cut(path, 0.99), "is damaged or cut off"),
    "a folder": (lambda path: path.mkdir() or path, "is a folder, not a file"),
}


@pytest.mark.parametrize(("fault", "says"), FAULTS.values(), ids=FAULTS)
def test_what_is_no_clip(tmp_path, small, capsys, fault, says):
    path = fault(tmp_path / "clip.mp4")
    with pytest.raises(CamError, match=rf"clip\.mp4: .*{says}") as error:
        list(camlib.frames(path))
    assert not re.search(r"'\d+'|Errno|returned \d", str(error.value)), "no number of an open file or of an error"
    if path.is_dir():
        return
    code, rows, err = job(capsys, path, "--out", tmp_path / "out")
    assert (code, rows) == (2, []) and says in err and "Traceback" not in err
    assert not list((tmp_path / "out").glob("*.mp4")) and not list((tmp_path / "out").glob(".*part"))


@pytest.mark.parametrize("suffix", [".mov", ".mkv", ".avi"])
def test_a_clip_that_is_cut_off_gives_the_frames_before_the_cut(tmp_path, suffix):
    """A .mov is also refused."""
    wanted = moving(4, 24, 32)
    data = lossless(tmp_path / f"clip{suffix}", wanted).read_bytes()
    for length in np.linspace(100, len(data) - 1, 25, dtype=int):
        got, refused = [], False
        try:
            got.extend(camlib.frames(wrote(tmp_path / f"cut{suffix}", data[:length])))
        except ImageError:
            refused = True
        assert all(np.array_equal(g, w) for g, w in zip(got, wanted[: len(got)], strict=True)), length
        assert refused or suffix != ".mov", length


def test_a_clip_without_frames(tmp_path):
    """A header, and nothing behind it."""
    with av.open(str(tmp_path / "clip.mkv"), "w") as out:
        stream = out.add_stream("ffv1", rate=10)
        stream.width, stream.height = 64, 48
        out.start_encoding()
    with pytest.raises(ImageError, match="clip.mkv: (holds no frames|is not a clip)"):
        list(camlib.frames(tmp_path / "clip.mkv"))


def test_frames_that_are_too_large_are_refused_before_they_are_decoded(tmp_path, small, capsys):
    path = make(tmp_path / "clip.mkv", [np.zeros((2400, 2400, 3), np.uint8)])
    code, _, err = job(capsys, path, "--out", tmp_path / "out", "--memory", "100M")
    assert code == 2 and "frames of 2400×2400 pixels need 0.1 GB of memory, but --memory allows 0.1" in err
    code, rows, _ = job(capsys, path, "--out", tmp_path / "out", "--memory", "200M")
    assert code == 0 and rows[0]["frames"] == 1


def test_a_hostile_name(tmp_path, small, capsys, monkeypatch):
    """FFmpeg takes what comes before a colon for a protocol."""
    monkeypatch.chdir(tmp_path)
    Path("http:").mkdir()
    path = make(Path("http:") / "a:b%d\x1b.mkv", moving(2))
    code, rows, _ = job(capsys, path, "--out", "concat:out|x")
    assert code == 0 and len(list(camlib.frames(rows[0]["picture"]))) == 2


@pytest.mark.parametrize("function", [camlib.frames, camlib.video.Clip.declared])
def test_without_the_package(monkeypatch, tmp_path, function):
    path = make(tmp_path / "clip.mkv", moving(1))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(CamError, match=r'needs the package av \(camlib\'s extra "video"\). Run: pip install av'):
        list(camlib.frames(path)) if function is camlib.frames else camlib.video.Clip(path).declared()


# --- written clips ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [[], ["--target", "2"], ["--view", "whole", "--size", "64", "--size", "96"]], ids=str
)
def test_every_frame_shows_its_own_map_on_one_scale(tmp_path, small, capsys, options):
    """Beside the overlays of frames that are explained one by one, within the codec's loss."""
    pictures = moving(7, 71, 97)
    path = lossless(tmp_path / "clip.mov", pictures)
    code, (row,), _ = job(capsys, path, "--out", tmp_path / "out", *options)
    arguments = {"view": "whole", "sizes": (64, 96)} if "--view" in options else {}
    exps = [camlib.explain(small, picture, **arguments) for picture in pictures]
    mean = torch.stack([exp.logits for exp in exps]).mean(0)
    k = 2 if "--target" in options else int(mean.argmax())
    limit = max(exp.largest(k) for exp in exps)
    assert code == 0 and (row["index"], row["frames"]) == (k, 7)
    assert row["scale"] == pytest.approx(limit, abs=1e-4)
    assert row["logit"] == pytest.approx(float(mean[k]), abs=1e-4)
    assert row["probability"] == pytest.approx(float(mean.softmax(0)[k]), abs=1e-5)
    cells = torch.stack([exp.map(k) for exp in exps])
    assert row["evidence"] == pytest.approx([float(cells.min()), float(cells.max())], abs=1e-4)
    assert float(cells.mean()) + row["rest"] == pytest.approx(row["logit"], abs=1e-3)
    written = iio.imread(row["picture"], plugin="pyav")
    assert written.shape == (7, 72, 98, 3), "an odd last row and column are doubled"
    for picture, exp, frame in zip(pictures, exps, written, strict=True):
        assert apart(frame[:71, :97], overlay(picture, exp.heatmap(k), limit)) < 3.5
        assert apart(frame[71], frame[70]) < 4
    own = overlay(pictures[2], exps[2].heatmap(k))  # on the scale of this frame alone, a dark one
    assert apart(written[2, :71, :97], own) > 4


def test_the_best_class_is_the_clips_not_the_first_frames(tmp_path, small, capsys):
    """By the network's own logits."""
    pictures = [np.full((64, 64, 3), v, np.uint8) for v in (0, 255, 255, 255)]
    x = torch.cat([small.preprocess(p, small.view(p)) for p in pictures])
    logits = scores_of(small.module, x)
    small.module[4].bias.data += torch.stack([-logits[0, 0], -logits[0, 1], -logits[0, 2]]) * 0
    best = logits.mean(0).argsort(descending=True).tolist()
    path = lossless(tmp_path / "clip.mov", pictures)
    _, rows, _ = job(capsys, path, "--out", tmp_path / "out", "--top", "2")
    assert [row["index"] for row in rows] == best[:2]
    assert len({row["scale"] for row in rows}) == 1 and len({row["picture"] for row in rows}) == 2


@pytest.mark.parametrize("method", ["frozen", "grad_cam"])
def test_other_methods(tmp_path, monkeypatch, capsys, method):
    clf = load_model(flat(), size=64)
    monkeypatch.setattr(camlib.models, "load_model", lambda *_args, **_options: clf)
    pictures = moving(3, 128, 128)
    path = lossless(tmp_path / "clip.mov", pictures)
    code, (row,), _ = job(capsys, path, "--out", tmp_path / "out", "--method", method)
    exps = [camlib.explain(clf, picture, method=method) for picture in pictures]
    limit = max(exp.largest(row["index"]) for exp in exps)
    assert code == 0 and ("rest" in row) == (method == "frozen")
    for picture, exp, frame in zip(pictures, exps, camlib.frames(row["picture"]), strict=True):
        assert apart(frame, overlay(picture, exp.heatmap(row["index"]), limit)) < 3.5


TIMES = {"steady": [0, 100, 200, 300], "a phone's": [0, 33, 67, 133, 134, 500], "one frame": [0]}


@pytest.mark.parametrize("times", TIMES.values(), ids=TIMES)
def test_every_frame_keeps_its_time(tmp_path, small, capsys, times):
    path = lossless(tmp_path / "clip.mkv", moving(len(times)), times)
    _, (row,), _ = job(capsys, path, "--out", tmp_path / "out")
    assert times_of(row["picture"]) == pytest.approx([t / 1000 for t in times], abs=1e-4)


def test_the_frame_rate_is_kept(tmp_path, small, capsys):
    rate = Fraction(30000, 1001)
    path = write_clip(tmp_path / "clip.mp4", shown(moving(6), 1 / rate), rate)
    _, (row,), _ = job(capsys, path, "--out", tmp_path / "out")
    with av.open(row["picture"]) as container:
        stream = container.streams.video[0]
        assert (stream.average_rate, stream.frames) == (rate, 6)
        assert [s.type for s in container.streams] == ["video"], "the sound is left out"
        data = Path(row["picture"]).read_bytes()
        assert data.index(b"moov") < data.index(b"mdat"), "a browser can begin to play before it has everything"


def test_colours_are_kept(tmp_path):
    """Saturated ones, where the two usual ways to store colours differ by tens of steps."""
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [200, 30, 40]], np.uint8)
    picture = colours.repeat(32, 0)[None].repeat(32, 0)
    path = write_clip(tmp_path / "clip.mp4", shown([picture] * 2), Fraction(10))
    for frame in camlib.frames(path):
        assert np.abs(frame[16, 16::32].astype(int) - colours).max() <= 6
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        assert (frame.colorspace, frame.color_range) == (1, 1)  # BT.709, black at 16: what HDTV and browsers take


def test_a_gif(tmp_path, small, capsys):
    pictures = moving(5, 63, 85)
    path = lossless(tmp_path / "clip.mov", pictures)
    code, (row,), _ = job(capsys, path, "--out", tmp_path / "out", "--gif")
    assert code == 0 and row["picture"].endswith(".gif") and row["frames"] == 5
    limit = max(camlib.explain(small, picture).largest(row["index"]) for picture in pictures)
    with Image.open(row["picture"]) as image:
        assert (image.n_frames, image.size, image.info["loop"]) == (5, (85, 63), 0)
        for n, picture in enumerate(pictures):
            image.seek(n)
            assert image.info["duration"] == 100
            exp = camlib.explain(small, picture)
            assert apart(np.asarray(image.convert("RGB")), overlay(picture, exp.heatmap(row["index"]), limit)) < 6


def test_a_gif_has_at_most_50_frames_a_second(tmp_path):
    """Browsers show faster ones at 10."""
    path = write_clip(tmp_path / "a.gif", shown(moving(13), Fraction(1, 120)), Fraction(120))
    with Image.open(path) as image:
        durations = []
        for n in range(image.n_frames):
            image.seek(n)
            durations.append(image.info["duration"])
    assert min(durations) >= 20 and sum(durations[:-1]) == pytest.approx(100, abs=20)


# --- long, stopped and resumed ---------------------------------------------------------------------------------------


def test_few_frames_are_in_memory(tmp_path, small, monkeypatch, capsys):
    """Of a clip of 400 frames, no more than the threads work on."""
    made, most = [], []

    def reading(self):
        made.clear()
        for n in range(400):
            picture = np.full((64, 64, 3), n % 251, np.uint8)
            made.append(weakref.ref(picture))
            most.append(sum(ref() is not None for ref in made[-50:]))
            yield Frame(picture, Fraction(n, 10), Fraction(1, 10))

    path = make(tmp_path / "clip.mkv", moving(1))
    monkeypatch.setattr(camlib.video.Clip, "frames", reading)
    code, rows, _ = job(capsys, path, "--out", tmp_path / "out", "--workers", "2")
    assert code == 0 and rows[0]["frames"] == 400 and len(most) == 3 * 400
    assert max(most) <= 2 * 2 + 3


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_a_frame_is_freed_at_once(tmp_path, suffix):
    """Not only when Python collects garbage: hundreds of frames would wait for that, 0.7 GB of a 1080p clip."""
    path = turned(lossless(tmp_path / "clip.mov", moving(20)), (0, 1, -1, 0))

    def alive() -> int:
        return sum(isinstance(item, (av.VideoFrame, av.Packet)) for item in gc.get_objects())

    gc.collect()
    before = alive()
    gc.disable()
    try:
        write_clip(tmp_path / f"out{suffix}", camlib.video.Clip(path).frames(), Fraction(10))
        assert alive() == before
    finally:
        gc.enable()


def test_a_stopped_clip_starts_again(tmp_path, small, monkeypatch, capsys):
    """Nothing half written is left, and the second run writes what an undisturbed one writes."""
    path = lossless(tmp_path / "clip.mov", moving(8))
    _, (row,), _ = job(capsys, path, "--out", tmp_path / "whole")
    real, turns = camlib.clips.write_clip, itertools.count()

    def stopped(path, frames, rate):
        def some():
            for frame in frames:
                if next(turns) == 5:
                    raise KeyboardInterrupt
                yield frame

        return real(path, some(), rate)

    monkeypatch.setattr(camlib.clips, "write_clip", stopped)
    assert main([str(path), "--out", str(tmp_path / "out")]) == 130
    assert "stopped" in capsys.readouterr().err
    assert not [p for p in (tmp_path / "out").iterdir() if p.suffix != ".jsonl" and p.name != ".camlib.lock"]
    code, (again,), _ = job(capsys, path, "--out", tmp_path / "out")
    assert code == 0 and Path(again["picture"]).read_bytes() == Path(row["picture"]).read_bytes()


def test_a_finished_clip_is_not_done_again(tmp_path, small, monkeypatch, capsys):
    path = lossless(tmp_path / "clip.mov", moving(3))
    runs = []
    real = camlib.clips.write_clip
    monkeypatch.setattr(camlib.clips, "write_clip", lambda *args: runs.append(args[0].name) or real(*args))
    first = job(capsys, path, "--out", tmp_path / "out")
    assert job(capsys, path, "--out", tmp_path / "out") == first and len(runs) == 1
    job(capsys, path, "--out", tmp_path / "out", "--redo")
    job(capsys, path, "--out", tmp_path / "out", "--gif")
    assert len(runs) == 3 and runs[2].endswith(".gif")
    job(capsys, path, "--out", tmp_path / "out", "--gif")
    assert len(runs) == 3
    Path(first[1][0]["picture"]).unlink()
    assert job(capsys, path, "--out", tmp_path / "out") == first and len(runs) == 4


def test_clips_and_photos_in_one_folder_keep_their_files(tmp_path, small, capsys):
    (tmp_path / "in").mkdir()
    clip = lossless(tmp_path / "in" / "a.mov", moving(2))
    Image.fromarray(moving(1)[0]).save(tmp_path / "in" / "a.png")
    mine = tmp_path / "out" / "a.0-0.mp4"
    mine.parent.mkdir()
    mine.write_text("my own film")
    code, rows, _ = job(capsys, clip, tmp_path / "in" / "a.png", "--out", tmp_path / "out", "--top", "3")
    assert code == 0 and len({row["picture"] for row in rows}) == 6
    assert mine.read_text() == "my own film"
    assert [Path(row["photo"]).name for row in rows] == ["a.png"] * 3 + ["a.mov"] * 3
    code, again, _ = job(capsys, *(row["picture"] for row in rows), clip, "--out", tmp_path / "out", "--top", "3")
    assert again == rows[3:], "what camlib wrote is not explained"


def test_one_bad_clip_among_others(tmp_path, small, capsys):
    good = lossless(tmp_path / "good.mov", moving(2))
    bad = cut(tmp_path / "bad.mp4", 0.5)
    code, rows, err = job(capsys, bad, good, "--out", tmp_path / "out")
    assert code == 1 and [Path(row["photo"]).name for row in rows] == ["good.mov"] and "bad.mp4: is damaged" in err


def test_a_clip_that_changes_meanwhile(tmp_path, small, monkeypatch, capsys):
    path = lossless(tmp_path / "clip.mov", moving(2))
    real = camlib.clips.write_clip
    monkeypatch.setattr(camlib.clips, "write_clip", lambda *args: os.utime(path, (1, 1)) or real(*args))
    code, _, err = job(capsys, path, "--out", tmp_path / "out")
    assert code == 2 and "clip.mov: changed while it was being explained" in err
    assert not (tmp_path / "out" / "camlib.jsonl").exists(), "it is not finished"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs limits of a process")
def test_a_full_disk(tmp_path):
    """A process that may write 3000 bytes to a file: the error says so, and no part is left."""
    import resource
    import signal

    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    if (child := os.fork()) == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
        try:
            write_clip(tmp_path / "clip.mp4", shown([picture] * 9), Fraction(10))
        except CamError as e:
            os._exit(e.__cause__.errno if isinstance(e.__cause__, OSError) else 1)
        except BaseException:
            os._exit(2)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == errno.EFBIG
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_up_stops_the_job(tmp_path, small, monkeypatch, capsys):
    def full(path, frames, rate):
        raise CamError("clip: cannot be written") from OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(camlib.clips, "write_clip", full)
    clips = [lossless(tmp_path / f"{n}.mov", moving(1)) for n in (1, 2)]
    code, rows, err = job(capsys, *clips, "--out", tmp_path / "out")
    assert (code, rows) == (2, []) and err == "camlib: clip: cannot be written\n"


class Full:
    """A temporary file on a disk without space."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def write(self, _data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def nowhere():
    raise FileNotFoundError(errno.ENOENT, "No usable temporary directory")


@pytest.mark.parametrize(("file", "says"), [(Full, "No space left"), (nowhere, "No usable temporary directory")])
def test_no_space_for_temporary_files_stops_the_job(tmp_path, small, monkeypatch, capsys, file, says):
    clips = [make(tmp_path / f"{n}.mkv", moving(2)) for n in range(2)]
    monkeypatch.setattr(camlib.clips, "TemporaryFile", file)
    code, rows, err = job(capsys, *clips, "--out", tmp_path / "out")
    assert (code, rows, err.count("\n")) == (2, [], 1)
    assert f"0.mkv: its maps cannot be written to the system's folder for temporary files ({says}" in err


@pytest.mark.parametrize("option", ["--figure", "--raw", "--html", "--open"])
def test_options_that_are_for_photos(tmp_path, capsys, option):
    with pytest.raises(SystemExit):
        main([str(tmp_path / "clip.mp4"), option])
    assert "is for photos" in capsys.readouterr().err


def test_the_table(tmp_path, small, capsys):
    path = lossless(tmp_path / "clip.mov", moving(2))
    assert main([str(path), "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "colour scale on the clip" in out and "2 frames: probability and logit are from their mean" in out


def test_what_counts_as_a_clip():
    assert (
        is_clip(Path("a.MP4")) and is_clip(Path("b.webm")) and not is_clip(Path("c.gif")) and not is_clip(Path("mp4"))
    )
