"""Clips: read frame by frame as a player shows them, and written frame by frame."""

import os
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from camlib.errors import ImageError, optional, reason
from camlib.files import opened, write_whole
from camlib.images import MAX_PIXELS

FORMATS = "mov,matroska,avi,mpegts,mpeg,asf,flv,ogg,yuv4mpegpipe"  # no playlists: they would open other files
LARGEST_FILE = 1 << 42  # bytes
USUAL_RATE = Fraction(25)  # frames per second, where the file does not say
TICK = Fraction(1, 90_000)  # seconds: all usual frame rates are multiples
GIF_TICK, GIF_STEP = Fraction(1, 100), Fraction(1, 50)  # browsers show a GIF of more than 50 frames per second slowly
BT709, FROM_16 = 1, 1  # the numbers of HDTV's colours, and of black at 16 and white at 235
CRF = "18"  # x264's constant quality: the loss is hardly visible


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame (H, W, 3) uint8 as a player shows it; in seconds, when it is shown, and how long (0: until the next)."""

    picture: np.ndarray
    time: Fraction
    duration: Fraction


def frames(path: str | os.PathLike[str]) -> Iterator[np.ndarray]:
    """The frames of a clip, one after the other, as a player shows them.

    A clip that was filmed with a turned phone is turned upright, and pixels that are not square are made square. All
    frames have the size of the first. HDR colours are not converted, so such a clip looks pale. Only the frames that
    you keep take memory. Needs the package av, which `pip install ".[video]"` installs, too.

    FFmpeg, which decodes the clip, does not report all damage: with a few wrong bytes, some frames may look different.
    An MP4 or MOV file says how many frames it holds, so one that is cut off is always refused. Of a file in another
    format, you may get only the frames before the cut.

    Parameters
    ----------
    path
        The file's path.

    Returns
    -------
    frames : iterator of (H, W, 3) uint8, RGB

    Raises
    ------
    CamError
        At the first frame, if the file cannot be opened.
    ImageError
        If it holds no frames or fewer than it says, or if FFmpeg cannot decode it or reports damage.

    Examples
    --------
    >>> for frame in frames("clip.mp4"):                                     # doctest: +SKIP
    ...     print(camlib.explain(clf, frame).top(1)[0])
    """
    return (frame.picture for frame in Clip(path).frames())


@dataclass(frozen=True)
class Clip:
    """A clip's file. Each of its methods opens it anew. max_pixels: of a frame."""

    path: str | os.PathLike[str]
    max_pixels: int = MAX_PIXELS

    @contextmanager
    def _open(self) -> Iterator[tuple[Any, Any, tuple[int, int]]]:
        """The open container, the stream with the pictures, and their (width, height) with square pixels."""
        av = optional("av", "Reading a clip", extra="video")
        with opened(self.path, LARGEST_FILE) as (file, _):
            try:
                container = av.open(file, container_options={"format_whitelist": FORMATS})
            except av.FFmpegError as e:
                raise ImageError(
                    f"is not a clip that camlib reads, or is damaged or cut off ({reason(e)}). It reads MP4, MOV, MKV, "
                    "WebM, AVI, MPEG, WMV, FLV, Ogg and Y4M; to convert others, such as GIF: ffmpeg -i FILE clip.mp4"
                ) from e
            with container:
                if not (container.streams.video or container.streams.audio):
                    raise ImageError("holds neither pictures nor sound: it is damaged or cut off.")
                streams = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
                if not streams:
                    raise ImageError("holds no moving pictures, only sound or a cover.")
                stream = streams[0]
                if stream.codec_context is None:
                    raise ImageError("is compressed in a way that FFmpeg does not know, or is damaged.")
                width, height = stream.codec_context.width, stream.codec_context.height
                wide = max(1, round(width * (stream.sample_aspect_ratio or 1)))
                if max(width, wide) * height > self.max_pixels:
                    raise ImageError(
                        f"declares frames of {wide}×{height} pixels, more than the limit of {self.max_pixels}."
                    )
                stream.codec_context.options = {"max_pixels": str(self.max_pixels)}  # the size may change later
                stream.thread_type = "AUTO"
                yield container, stream, (wide, height)

    def declared(self) -> "Declared":
        """What the file says."""
        with self._open() as (_, stream, size):
            return Declared(stream.frames or None, _rate(stream), size)

    def frames(self) -> Iterator[Frame]:
        """The frames in order. Each comes later than the one before, even where the file says otherwise."""
        with self._open() as (container, stream, size):
            from av.video.reformatter import VideoReformatter

            reformatter = VideoReformatter()  # one for all frames: each has buffers of its own
            start, last = Fraction(container.start_time or 0, 1_000_000), None
            for n, frame in enumerate(_decoded(container, stream)):
                if frame.is_corrupt:
                    raise ImageError(f"is damaged at frame {n + 1}.")
                base = frame.time_base or stream.time_base
                time = Fraction(0) if frame.pts is None else frame.pts * base - start
                if last is not None and time <= last:
                    time = last + 1 / _rate(stream)
                last = time
                picture = reformatter.reformat(frame, *size, "rgb24").to_ndarray()
                yield Frame(_upright(picture, frame), time, (frame.duration or 0) * base)
            if last is None:
                raise ImageError("holds no frames.")


class Declared(NamedTuple):
    """What a clip's file says: how many frames (None: nothing), how many a second on average, their (width, height)."""

    total: int | None
    rate: Fraction
    size: tuple[int, int]


def _rate(stream: Any) -> Fraction:
    return Fraction(stream.average_rate or USUAL_RATE)


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    from av import FFmpegError

    read, declared = 0, stream.frames if "mov" in container.format.name else 0  # other formats only estimate it
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise ImageError(f"is damaged or cut off after {read} frames.")
            read += packet.size > 0
            yield from packet.decode()
    except FFmpegError as e:
        raise ImageError(f"is damaged or cut off after about {read} frames ({reason(e)}).") from e
    if read < declared:
        raise ImageError(f"is cut off: it declares {declared} frames, but holds {read}.")


def _upright(picture: np.ndarray, frame: Any) -> np.ndarray:
    """Turn and flip a frame as its display matrix says: the point (x, y) is shown at (a·x + c·y, b·x + d·y)."""
    from av.sidedata.sidedata import SideDataContainer, Type

    # frame.side_data would refer back to the frame, which would then stay in memory until the next garbage collection
    matrix = SideDataContainer(frame).get(Type.DISPLAYMATRIX)  # type: ignore[call-arg]  # unknown to its stub
    if matrix is None:
        return picture
    a, b, _, c, d = struct.unpack("=9i", bytes(matrix))[:5]
    if abs(a) < abs(b):
        picture, a, d = picture.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def write_clip(path: Path, shown: Iterable[Frame], rate: Fraction) -> Path:
    """Write frames of one size to an MP4 file (H.264) or, if the name ends in .gif, to an animated GIF; without sound.

    Every frame keeps its time. An MP4 needs even sides, so the last row or column is doubled where they are odd. In a
    GIF, frames that come less than 1/50 s after the one before are left out. rate: frames per second on average.

    The file is written completely or not at all. Raises `CamError` if it cannot be written.
    """
    if path.suffix.lower() == ".gif":
        return write_whole(path, lambda file: _encode(file, "gif", _spaced(shown), rate))
    return write_whole(path, lambda file: _encode(file, "mp4", shown, rate))


def _encode(file: BinaryIO, form: str, shown: Iterable[Frame], rate: Fraction) -> None:
    av = optional("av", "Writing a clip", extra="video")
    tick, stream, last = GIF_TICK if form == "gif" else TICK, None, -1
    # faststart: the index comes first, so that a browser can begin to play. "file:" allows a colon in the path.
    options = {"movflags": "faststart"} if form == "mp4" else {}
    with av.open(f"file:{file.name}", "w", format=form, options=options) as out:
        for frame in shown:
            picture = _even(frame.picture) if form == "mp4" else frame.picture
            if stream is None:
                stream = (_gif_stream if form == "gif" else _h264_stream)(out, rate)
                stream.height, stream.width = picture.shape[:2]
                stream.codec_context.time_base = tick
                convert = _to_palette(picture, tick) if form == "gif" else _to_yuv
            ready = av.VideoFrame.from_ndarray(picture, format="rgb24")
            last = ready.pts = max(last + 1, round(frame.time / tick))
            ready.time_base, ready.duration = tick, round(frame.duration / tick)
            out.mux(stream.encode(convert(ready)))
        if stream is not None:
            out.mux(stream.encode(None))


def _h264_stream(out: Any, rate: Fraction) -> Any:
    stream = out.add_stream("libx264", rate=rate, options={"crf": CRF, "preset": "veryfast"})
    stream.pix_fmt, codec = "yuv420p", stream.codec_context
    codec.color_range, codec.colorspace, codec.color_primaries, codec.color_trc = FROM_16, BT709, BT709, BT709
    return stream


def _to_yuv(frame: Any) -> Any:
    return frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")


def _even(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _gif_stream(out: Any, rate: Fraction) -> Any:
    stream = out.add_stream("gif", rate=min(rate, 1 / GIF_STEP))
    stream.pix_fmt = "pal8"
    return stream


def _to_palette(picture: np.ndarray, tick: Fraction) -> Callable[[Any], Any]:
    """A function that gives a frame the 256 colours that suit it best."""
    from av import VideoFormat
    from av.filter import Graph

    graph = Graph()
    source = graph.add_buffer(
        width=picture.shape[1], height=picture.shape[0], format=VideoFormat("rgb24"), time_base=tick
    )
    split, palette = graph.add("split"), graph.add("palettegen", "stats_mode=single")
    use, sink = graph.add("paletteuse", "new=1"), graph.add("buffersink")
    source.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(palette, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()

    def convert(frame: Any) -> Any:
        graph.vpush(frame)
        return graph.vpull()

    return convert


def _spaced(shown: Iterable[Frame]) -> Iterator[Frame]:
    """The frames without those that come too soon after the one before."""
    last = None
    for frame in shown:
        if last is None or frame.time - last >= GIF_STEP - GIF_TICK / 100:
            last = frame.time
            yield frame
