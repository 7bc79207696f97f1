"""Decodes the details of picture formats: tags, chunks, bit depths, transparency, orientation. Pillow does the rest."""

import io
import re
import struct
import sys
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

from camlib.errors import ImageError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")
DARK = 14  # bits: a 16-bit file that uses no more than this probably has a lower bit depth, as from an X-ray detector

Window = tuple[float, float]
Result = tuple[np.ndarray, str]  # a picture, and what we had to assume to read it (empty if nothing)

PHOTOMETRIC, BITS, COMPRESSION, PLANAR, SAMPLE_FORMAT, MAX_SAMPLE, ORIENTATION = 262, 258, 259, 284, 339, 281, 274
GAMUT = 0.5 / 255  # a float this far outside 0 to 1 still rounds to a value from 0 to 255
ZERO_TAIL = 64  # bytes: the data of complete WebP photos end in 6 zero bytes at most
BAND = 2**20  # pixels: pictures are converted in bands of this size, which saves memory

# Limits that no real picture reaches. They bound the time and memory that a file built for harm can cost.
SCANS = 100, 25  # of a small and a large progressive JPEG. Encoders write about 10; libtiff's limit is 100
SCANNED = 2_500_000_000  # pixels in all scans of a JPEG together, about ten seconds; 25 scans are always allowed
PARTS = 20_000  # segments, chunks and blocks of a file: Pillow reads each with a few lines of Python
EXIF_BYTES = 2**20  # a JPEG segment has 2**16
TAG_NUMBERS = (
    2**20
)  # all values of a TIFF's directory, rational numbers counted 32 times as Pillow makes objects of them
TILE_PIXELS = 2**22  # of a TIFF tile that is larger than the picture: libtiff allocates all of it
RLE_PIXELS = 2**22  # of a run-length encoded BMP, which Pillow decodes in Python


# --- from a PIL image to RGB -----------------------------------------------------------------------------------------


def source(image: Image.Image) -> bytes:
    """The content of the file that a PIL image is read from; empty if PIL has already released the file."""
    file = getattr(image, "fp", None)
    if file is None or image.format not in (*FORMATS, "MPO"):
        return b""
    try:
        position = file.tell()
        file.seek(0)
        data = file.read()
        file.seek(position)
    except (OSError, ValueError, AttributeError):  # closed, or not a real file: loading the image will report it
        return b""
    return data


def convert(image: Image.Image, data: bytes, window: Window | None) -> Result:
    """Convert a PIL image to an upright RGB array. data: its file's content, empty if not available."""
    if 0 in image.size:
        raise ImageError("has no pixels.")
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    if _first(tags, PLANAR) == 2 and _first(tags, BITS, 1) > 8 and _first(tags, COMPRESSION, 1) == 1:
        if not data:  # Pillow reads the planes as if they had 8 bits
            raise ImageError("PIL reads this TIFF's separate 16-bit planes wrongly; pass its path instead.")
        return read_tiff(data, tags, window)
    raw = _raw_mode(image)
    _check_tiles(image, tags)
    _load(image)
    doubt = _check_whole(image, data)
    if image.mode in ("1", "L", "F") or image.mode.startswith("I"):
        photo, note = _gray(image, tags, raw, data, window)
    elif data and _sixteen_needed(image, raw, window):
        photo, note = _colour16(image, raw, tags, data, window)
    elif window:
        raise ImageError(
            f"window is for gray pictures, 16-bit colour files, and float TIFFs; this picture is {image.mode}."
        )
    else:
        photo, note = _rgb(image), doubt
    return _turn(photo, _orientation(image)), note


def _load(image: Image.Image) -> None:
    try:
        image.load()
    except (ValueError, AttributeError, AssertionError) as e:
        if "closed" in str(e) or (getattr(image, "tile", None) and getattr(image, "fp", None) is None):
            raise ImageError("is closed; convert it, or call its load(), before you close its file.") from e
        raise


def _raw_mode(image: Image.Image) -> str:
    """Pillow's name for how the values are stored in the file, such as "RGB;16B"; empty once the image is loaded."""
    for tile in getattr(image, "tile", None) or []:
        args = tile[3]
        return str(args[0] if isinstance(args, tuple) and args else args)
    return ""


def _check_tiles(image: Image.Image, tags: Mapping[int, Any]) -> None:
    """Refuse a TIFF that lists too few strips or tiles: Pillow leaves the rest black."""
    tiles = getattr(image, "tile", None)
    if tags and tiles:
        planes = len(image.getbands()) if _first(tags, PLANAR) == 2 and tiles[0][0] != "libtiff" else 1
        covered = sum((right - left) * (bottom - top) for _, (left, top, right, bottom), *_ in tiles)
        if covered < planes * image.width * image.height:
            raise ImageError("is a TIFF that lists too few strips for its size: the file is damaged or cut off.")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8. If the metadata are broken, the picture counts as upright."""
    exif = image.info.get("exif", b"")
    if len(exif) > EXIF_BYTES:
        raise ImageError(f"holds {len(exif) / 1e6:.0f} MB of EXIF data, far more than a photo needs. Remove it.")
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except MemoryError:
        raise
    except Exception:
        return 1
    return value if isinstance(value, int) else 1


def _turn(photo: np.ndarray, orientation: int) -> np.ndarray:
    match orientation:
        case 2:
            photo = photo[:, ::-1]
        case 3:
            photo = photo[::-1, ::-1]
        case 4:
            photo = photo[::-1]
        case 5:
            photo = photo.transpose(1, 0, 2)
        case 6:
            photo = np.rot90(photo, -1)
        case 7:
            photo = photo[::-1, ::-1].transpose(1, 0, 2)
        case 8:
            photo = np.rot90(photo, 1)
    return np.ascontiguousarray(photo)


def _bands(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    """The image in bands of about `BAND` pixels, each with its rows."""
    rows = max(1, BAND // image.width)
    for y in range(0, image.height, rows):
        bottom = min(y + rows, image.height)
        yield slice(y, bottom), image.crop((0, y, image.width, bottom))


def _array(image: Image.Image) -> np.ndarray:
    """The stored values. `np.asarray(image)` returns the same but needs twice their memory in addition."""
    start = np.asarray(image.crop((0, 0, 1, 1)))
    values = np.empty((image.height, image.width, *start.shape[2:]), start.dtype)
    for rows, band in _bands(image):
        values[rows] = np.asarray(band)
    return values


def _rgb(image: Image.Image) -> np.ndarray:
    """8-bit RGB as Pillow converts it, with transparent pixels on white."""
    rgb, transparent = np.empty((image.height, image.width, 3), np.uint8), image.has_transparency_data
    for rows, band in _bands(image):
        if band.mode == "La":  # Pillow converts it to LA only
            band = band.convert("LA")
        rgb[rows] = np.asarray(_on_white(band.convert("RGBA")) if transparent else band.convert("RGB"))
    return rgb


def _on_white(rgba: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


# --- gray, 16 bits, floats -------------------------------------------------------------------------------------------


def _gray(image: Image.Image, tags: Mapping[int, Any], raw: str, data: bytes, window: Window | None) -> Result:
    """The RGB array of a picture with a single channel."""
    values, note = _array(image), ""
    if image.mode in ("1", "L"):
        values = values.astype(np.uint8) * np.uint8(255 if image.mode == "1" else 1)
        gray = values
        if _first(tags, SAMPLE_FORMAT, 1) == 2:  # Pillow reads -1 as 255
            gray, note = _eight(values.view(np.int8), tags, 0, window)
        elif window and _first(tags, PHOTOMETRIC) == 0:  # Pillow has inverted the values
            gray = 255 - _spread(255 - values, *window)
        elif window:
            gray = _spread(values, *window)
    else:
        gray, note = _eight(values, tags, _png_bits(data), window)
    key = image.info.get("transparency")
    if isinstance(key, int):
        key *= {"L;2": 85, "L;4": 17}.get(raw, 1)  # the key has 2 or 4 bits, as in the file; Pillow's values have 8
        gray = np.where(values == key, np.uint8(255), gray)
    return np.repeat(gray[..., None], 3, axis=2), note


def _sixteen_needed(image: Image.Image, raw: str, window: Window | None) -> bool:
    """Whether a file with 16-bit colours needs more than the upper 8 bits, which are all that Pillow reads."""
    if not re.fullmatch(r"(RGB|RGBX|RGBA);16[BLN]|LA;16B", raw) or (image.format == "PNG" and image.tell()):
        return False
    brightest = max(high for _, high in image.getextrema()[:3])  # type: ignore[misc]
    return bool(window) or "transparency" in image.info or brightest < 2 ** (DARK - 8)


def _colour16(image: Image.Image, raw: str, tags: Mapping[int, Any], data: bytes, window: Window | None) -> Result:
    """The RGB array of a file with 16-bit colours, using all bits."""
    frame = image.tell()
    if raw == "LA;16B":  # decoded as four channels of 8 bits: gray high, gray low, opacity high, opacity low
        values = _as_raw(data, frame, "RGBA").view(">u2")
        colours = np.broadcast_to(values[..., :1], (*values.shape[:2], 3))
    else:
        other = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}[raw[-1]]
        values = _as_raw(data, frame, raw).astype(np.uint16)
        values <<= 8
        values |= _as_raw(data, frame, raw[:-1] + other)  # in the other byte order, Pillow keeps the lower 8 bits
        colours = values[..., :3]
    rgb, note = _eight(colours, tags, _png_bits(data), window)
    key = image.info.get("transparency")
    if key is not None and colours.shape == values.shape:
        rgb[(values == np.asarray(key)).all(axis=2)] = 255
    elif colours.shape != values.shape:
        for rows in _rows(values):
            rgba = np.dstack([rgb[rows], _spread(values[rows, :, -1], 0, 65535)])
            rgb[rows] = np.asarray(_on_white(Image.fromarray(rgba)))
    return rgb, note


def _as_raw(data: bytes, frame: int, raw: str) -> np.ndarray:
    """The pixels of a file, decoded as if its values were stored in the layout that Pillow calls `raw`."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        image.seek(frame)
        tiles = image.tile
        image.tile = [
            tile._replace(args=(raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw) for tile in tiles
        ]
        image.load()
        return _array(image)


def _eight(values: np.ndarray, tags: Mapping[int, Any], bits: int, window: Window | None) -> Result:
    """Scale numbers to 8 bits, by the window or the range of their type. bits: what a PNG declares, or 0."""
    window, note = _range(values.min(), values.max(), values, tags, bits, window)
    return _invert(_spread(values, *window), tags), note


def _invert(eight: np.ndarray, tags: Mapping[int, Any]) -> np.ndarray:
    """Invert the picture, in place, if its TIFF says that zero means white."""
    return np.subtract(255, eight, out=eight) if _first(tags, PHOTOMETRIC) == 0 else eight


def _range(
    low: Any, high: Any, values: np.ndarray, tags: Mapping[int, Any], bits: int, window: Window | None
) -> tuple[Window, str]:
    """The values that become black and white, and what we had to assume. low, high: the smallest and the largest."""
    if not np.isfinite([low, high]).all():
        raise ImageError("holds NaN or infinite values, which cannot be shown.")
    if window is not None:
        return window, ""
    if values.dtype.kind == "f":
        if low < -GAMUT or high > 1 + GAMUT:
            raise ImageError(
                f"holds floats from {low:g} to {high:g}, but floats are read as 0 (black) to 1 (white). "
                f"Say which values become black and white: window=({min(low, 0):g}, {high:g}) shows all of them, "
                "window=(0, 1) clips."
            )
        return (0, 1), ""
    if low < 0 or high > 65535:
        raise ImageError(
            f"holds integers from {low} to {high}, but integers are read as 0 (black) to 65535 (white) at most. "
            f"Say which values become black and white: window=({low}, {high}) shows all of them."
        )
    top, note = _top(values, int(high), tags, bits)
    return (0, top), note


def _top(values: np.ndarray, high: int, tags: Mapping[int, Any], bits: int) -> tuple[int, str]:
    """The integer that means white, and what we had to assume to choose it."""
    stored, signed = _first(tags, BITS, 16), _first(tags, SAMPLE_FORMAT, 1) == 2
    full = 2**stored - 1 if stored < 16 else 65535
    if signed and stored <= 16:
        full = 2 ** (stored - 1) - 1
    if full < 65535 and not signed:  # BitsPerSample says so
        return full, ""
    declared = _first(tags, MAX_SAMPLE)
    if isinstance(declared, int) and high <= declared <= full and declared & (declared + 1) == 0:
        return declared, ""  # any other number may only be this picture's maximum, which TIFF 6.0 allows here
    if 0 < bits <= 16:  # PNG 11.3.2.4: values of fewer bits are scaled to all 16, which leaves their low bits empty
        low_bits = 2 ** (16 - bits) - 1
        unscaled = high < 2**bits and bool(((values & low_bits) > 1).any())
        return (2**bits - 1 if unscaled else full), ""
    if not 0 < high < 2**DARK <= full:
        return full, ""
    return high, (
        f"no value is above {high}, although its type allows {full}, so the picture is shown from 0 (black) to "
        f"{high} (white), its largest value. For a fixed scale, pass window=(low, high) to read_image or from_pil. "
        f"If the picture is meant to be dark, pass window=(0, {full})."
    )


def _spread(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Scale low to high to 0 to 255 and clip the rest. Works on a few rows at a time to save memory."""
    if values.dtype.kind == "u" and values.dtype.itemsize == 2 and values.size > 2**16:  # a table is ten times as fast
        table = _spread(np.arange(2**16, dtype=np.uint32), low, high)
        eight = np.empty(values.shape, np.uint8)
        for rows in _rows(values):
            eight[rows] = table[values[rows]]
        return eight
    eight = np.empty(values.shape, np.uint8)
    for rows in _rows(values):
        part = (values[rows].astype(np.float64) - low) * 255 / (high - low)
        eight[rows] = part.clip(0, 255).round()
    return eight


def _rows(values: np.ndarray) -> Iterator[slice]:
    """The rows of an array in bands of about `BAND` values."""
    height = max(1, BAND // values[0].size)
    yield from (slice(y, y + height) for y in range(0, len(values), height))


# --- truncated files, which Pillow does not notice -------------------------------------------------------------------


def _check_whole(image: Image.Image, data: bytes) -> str:
    """Refuse a truncated file. Returns a warning if doubts remain, otherwise an empty string."""
    if image.format == "PNG" and data and image.tell() == 0:
        _check_png(image, data)
    if image.format == "WEBP" and data and image.tell() == 0:
        return _check_webp(image, data)
    return ""


def _last_rows(image: Image.Image, count: int) -> np.ndarray:
    return np.asarray(image.crop((0, max(0, image.height - count), image.width, image.height)))


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and length of each chunk of a PNG or WebP."""
    png, parts = data[:4] == b"\x89PNG", 0
    position = 8 if png else 12
    while position + 8 <= len(data):
        first, second = data[position : position + 4], data[position + 4 : position + 8]
        kind = second if png else first
        length = int.from_bytes(first, "big") if png else int.from_bytes(second, "little")
        parts += length < 2**10 or kind not in (b"IDAT", b"fdAT")  # pixels may be in many chunks, but not in tiny ones
        _check_parts(parts)
        yield kind, position + 8, length
        position += 12 + length if png else 8 + length + length % 2


def _png_bits(data: bytes) -> int:
    """The significant bits that a PNG declares in its sBIT chunk, the largest of its colour channels; 0 if none."""
    if data[:4] != b"\x89PNG":
        return 0
    for kind, start, length in _chunks(data):
        if kind == b"sBIT":
            return max(data[start : start + length - (length % 2 == 0)], default=0)  # without the opacity
        if kind == b"IDAT":
            break
    return 0


def _check_png(image: Image.Image, data: bytes) -> None:
    """Refuse a PNG whose compressed data end before its last row: Pillow leaves the rest black."""
    interlaced = len(data) > 28 and data[28] == 1
    if not interlaced and _last_rows(image, 1).any():
        return
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    bits = data[24] * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(data[25], 1)
    passes = [(0, 0, 1, 1)]
    if interlaced:  # Adam7: first column and row of each pass, and the steps between them
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    missing = 0
    for x, y, across, down in passes:
        columns, rows = -(-(width - x) // across), -(-(height - y) // down)
        if columns > 0 and rows > 0:
            missing += rows * (1 + -(-columns * bits // 8))  # each row begins with a byte for its filter
    stream, block = zlib.decompressobj(), 2**13  # a block unpacks to 8 MiB at most
    for kind, start, length in _chunks(data):
        for at in range(start, start + length if kind == b"IDAT" else 0, block):
            if missing > 0 and not stream.eof:
                missing -= len(stream.decompress(data[at : min(at + block, start + length)]))
    if missing > 0:
        raise ImageError("is a PNG whose data end before its last row: the file is damaged or cut off.")


def _check_webp(image: Image.Image, data: bytes) -> str:
    """Refuse a WebP whose data end in a long run of zeros, as after an interrupted download.

    To the decoder, zeros mean "as predicted". In a complete picture that only happens in plain areas. So a picture with
    plain last rows is read: silently if each of these rows has one colour, with a note if they only repeat each other.
    """
    note = ""
    for kind, start, length in _chunks(data):
        content = data[start : start + length]
        zeros = len(content) - len(content.rstrip(b"\0"))
        if kind not in (b"VP8 ", b"VP8L") or zeros <= ZERO_TAIL:
            continue
        rows = _last_rows(image, 8).astype(int)
        repeats, plain = (np.ptp(rows, axis=axis).max() <= 2 for axis in (0, 1))
        # The first partition of a VP8 says how to predict each block. It never consists of zeros.
        first = int.from_bytes(content[:3], "little") >> 5 if kind == b"VP8 " else 0
        written = len(content) - zeros - 10
        note = f"the last {zeros} of {len(content)} bytes of this WebP are zeros: a download may have stopped early."
        if not (repeats or plain) or (first and written < first / 2):
            raise ImageError(f"{note} If the picture is complete, save it as PNG.")
        if plain and written >= first - ZERO_TAIL:
            note = ""
    return note


# --- TIFFs that Pillow cannot read -----------------------------------------------------------------------------------


def _is_tiff(data: bytes) -> bool:
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _first(tags: Mapping[int, Any], tag: int, default: Any = None) -> Any:
    """The first value of a tag; TIFFs repeat most values for each channel."""
    value = tags.get(tag, default)
    return (value[0] if value else default) if isinstance(value, tuple) else value


def tiff_tags(data: bytes) -> Mapping[int, Any] | None:
    """The tags of a TIFF's first picture, or None if there is none."""
    if not _is_tiff(data):
        return None
    try:
        big = data[2:4] in (b"+\0", b"\0+")
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if big else 8])
        start, entry = tags.next + (8 if big else 2), 20 if big else 12
        entries = int.from_bytes(data[tags.next : start], "little" if data[:2] == b"II" else "big")
        if start + entry * entries > len(data):
            return None
        file = io.BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
        return tags if isinstance(tags.get(256), int) and isinstance(tags.get(257), int) else None
    except MemoryError:
        raise
    except Exception:  # Pillow's reader of tags raises many kinds of exceptions for broken files
        return None


def read_tiff(data: bytes, tags: Mapping[int, Any], window: Window | None) -> Result:
    """Read an uncompressed gray or RGB TIFF with integers or floats as RGB. Source: TIFF 6.0."""
    width, height, samples = tags[256], tags[257], _first(tags, 277, 1)
    bits, kind = tags.get(BITS, (1,)), _first(tags, SAMPLE_FORMAT, 1)
    photometric, planar = _first(tags, PHOTOMETRIC), _first(tags, PLANAR, 1)
    types = {1: ("u", (8, 16, 32)), 2: ("i", (8, 16, 32)), 3: ("f", (16, 32, 64))}
    letter, sizes = types.get(kind, ("", ()))
    plain = _first(tags, COMPRESSION, 1) == 1 and 273 in tags and 322 not in tags and _first(tags, 266, 1) == 1
    alike = set(bits) <= set(sizes) and len(set(bits)) == 1 and len(set(tags.get(SAMPLE_FORMAT, (1,)))) == 1
    if not (plain and alike and (photometric, samples) in ((0, 1), (1, 1), (2, 3)) and planar in (1, 2)):
        raise ImageError(_tiff_kind(tags))
    dtype = np.dtype(f"{'<' if data[:2] == b'II' else '>'}{letter}{bits[0] // 8}")
    planes, channels = (samples, 1) if planar == 2 else (1, samples)
    rows = min(_first(tags, 278, height), height)
    strips = -(-height // rows)
    offsets = tags[273]
    if len(offsets) < planes * strips or width * height * samples * dtype.itemsize > len(data):
        raise ImageError("is a TIFF with less data than its size needs: the file is damaged or cut off.")
    eight = np.empty((planes, height, width, channels), np.uint8)
    parts = []  # each strip, and where it belongs
    for number in range(planes * strips):
        plane, strip = divmod(number, strips)
        place = eight[plane, strip * rows : (strip + 1) * rows]
        parts.append((place, np.frombuffer(data, dtype, place.size, offsets[number]).reshape(place.shape)))
    low, high = (edge([edge(values) for _, values in parts]) for edge in (np.min, np.max))
    window, note = _range(low, high, parts[0][1], tags, 0, window)
    for place, values in parts:
        place[...] = _spread(values, *window)
    image = _invert(eight[0] if planar == 1 else np.moveaxis(eight[..., 0], 0, 2), tags)
    return _turn(np.repeat(image, 3, axis=2) if samples == 1 else image, _first(tags, ORIENTATION, 1)), note


def _tiff_kind(tags: Mapping[int, Any]) -> str:
    """Describe a TIFF that camlib does not read."""
    samples, bits = _first(tags, 277, 1), _first(tags, BITS, 1)
    kind = {1: "integers", 2: "signed integers", 3: "floats"}.get(_first(tags, SAMPLE_FORMAT, 1), "values")
    colours = {0: "gray", 1: "gray", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "LAB", 9: "ICC LAB"}
    photometric = _first(tags, PHOTOMETRIC)
    number = _first(tags, COMPRESSION, 1)
    packed = {1: "not compressed", 5: "compressed (LZW)", 8: "compressed (Deflate)", 32946: "compressed (Deflate)"}
    return (
        f"is a TIFF with {samples} channel{'s' * (samples != 1)} of {bits}-bit {kind}, "
        f"{colours.get(photometric, f'photometric interpretation {photometric}')}, "
        f"{packed.get(number, f'compression {number}')}, in {'tiles' if 322 in tags else 'strips'}"
        f"{', each channel in its own plane' if _first(tags, PLANAR) == 2 else ''}; "
        "camlib does not read this kind. Save it as gray or RGB with 8 or 16 bits."
    )


# --- what the first bytes of a file say ------------------------------------------------------------------------------


def declared_size(data: bytes) -> tuple[int, int]:
    """Width and height as stored, from the file's header; (0, 0) if it has none.

    Raises `ImageError` if the header has too many parts.
    """
    try:
        if data[:3] == b"\xff\xd8\xff":
            return _jpeg_size(data)
        if data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR":
            return struct.unpack_from(">II", data, 16)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp_size(data)
        if data[:6] in (b"GIF87a", b"GIF89a"):
            return _gif_size(data)
        if data[:2] == b"BM":
            width, height = struct.unpack_from("<HH" if data[14:18] == b"\x0c\0\0\0" else "<Ii", data, 18)
            return width, abs(height)  # a negative height means that the top row is stored first
        if _is_tiff(data):
            tags = _directory(data)
            return int(tags[256][2][0]), int(tags[257][2][0])
    except (struct.error, IndexError, KeyError):  # the header is cut off or incomplete
        pass
    return 0, 0


def check_effort(data: bytes) -> None:
    """Refuse a file that is built to cost far more time or memory than a picture of its size."""
    if data[:3] == b"\xff\xd8\xff":
        _check_jpeg(data)
    elif data[:4] in (b"\x89PNG", b"RIFF"):
        for _ in _chunks(data):  # counts them
            pass
    elif data[:2] == b"BM" and data[14:18] != b"\x0c\0\0\0" and data[30:34] in (b"\1\0\0\0", b"\2\0\0\0"):
        width, height = declared_size(data)
        if width * height > RLE_PIXELS or len(data) > 2 * width * height + 2**16:
            raise ImageError(
                f"is a run-length encoded BMP of {width}×{height} pixels and {len(data)} bytes. Of this kind, camlib "
                f"reads at most {RLE_PIXELS} pixels and two bytes for each. Save it as PNG."
            )
    elif _is_tiff(data):
        _check_directories(data)


def _check_parts(number: int) -> None:
    if number > PARTS:
        raise ImageError(
            f"has more than {PARTS} segments, chunks or stray bytes; no real picture has so many. Save it again."
        )


_SEGMENT = re.compile(rb"\xff[\xc0-\xc7\xc9-\xcf\xd9-\xef\xfe]")  # markers that a length follows, and the end, D9


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Marker and start of each segment of a JPEG, until its picture ends. Compressed data never contain a marker."""
    position, parts, scans = 2, 0, 0
    while position < len(data):
        end = len(data) if scans else min(len(data), position + PARTS + 2)
        found = _SEGMENT.search(data, position, end)
        # Before the picture, Pillow skips stray bytes one at a time, so each of them counts.
        parts += 1 if scans else (found.start() if found else end) - position + 1
        _check_parts(parts)
        if not found:
            return
        marker, start = data[found.end() - 1], found.end()
        yield marker, start
        scans += marker == 0xDA
        if marker == 0xD9 and scans:
            return
        position = start if marker == 0xD9 else start + max(2, int.from_bytes(data[start : start + 2], "big"))


def _jpeg_size(data: bytes) -> tuple[int, int]:
    size = 0, 0
    for marker, start in _segments(data):
        if marker == 0xDA:
            break
        if marker == 0xDE or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xCC)):  # start of frame
            height, width = struct.unpack_from(">HH", data, start + 3)
            size = width, height
    return size


def _check_jpeg(data: bytes) -> None:
    scans = exif = 0
    width, height = _jpeg_size(data)
    most = min(SCANS[0], max(SCANS[1], SCANNED // (width * height + 1)))
    for marker, start in _segments(data):
        scans += marker == 0xDA
        if marker == 0xE1 and data[start + 2 : start + 8] == b"Exif\0\0":
            exif += int.from_bytes(data[start : start + 2], "big")
        if scans > most:
            raise ImageError(
                f"is a JPEG of {width}×{height} pixels with more than {most} scans, which would take a very long "
                "time to decode. Save it again."
            )
        if exif > EXIF_BYTES:
            raise ImageError(f"holds more than {EXIF_BYTES} bytes of EXIF data; no real photo has so much. Remove it.")


def _webp_size(data: bytes) -> tuple[int, int]:
    """Source: the WebP container specification, RFC 9649."""
    if data[12:16] == b"VP8X" and len(data) >= 30:
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if data[12:16] == b"VP8L" and len(data) >= 25:
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if data[12:16] == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return 0, 0


def _gif_size(data: bytes) -> tuple[int, int]:
    """The size of the screen, enlarged if the first frame does not fit into it, as in Pillow."""
    width, height = struct.unpack_from("<HH", data, 6)
    position, parts = 13 + (6 << (data[10] & 7) if data[10] & 128 else 0), 0
    while data[position] not in b",;":  # the first frame, or the end
        if data[position] == ord("!"):
            comment, position = data[position + 1] == 0xFE, position + 2
            position += data[position] == 0 and not comment  # Pillow reads on after an empty first block
            while data[position]:
                position += 1 + data[position]
                parts += 1
                _check_parts(parts)
        position += 1
        parts += 1
        _check_parts(parts)
    if data[position] == ord(","):
        left, top, wide, high = struct.unpack_from("<4H", data, position + 1)
        width, height = max(width, left + wide), max(height, top + high)
    return width, height


_TYPES = {1: "u1", 2: "u1", 3: "u2", 4: "u4", 5: "u8", 6: "i1", 7: "u1", 8: "i2", 9: "i4", 10: "u8", 11: "f4"}
_TYPES |= {12: "f8", 13: "u4", 16: "u8", 17: "i8", 18: "u8"}  # for rational numbers, only the size is right


def _directory(data: bytes, start: int | None = None) -> dict[int, tuple[int, int, np.ndarray]]:
    """Type, count and values of each tag of a TIFF directory, the first if start is None. Source: TIFF 6.0, BigTIFF."""
    order, big = "<" if data[:2] == b"II" else ">", data[2:4] in (b"+\0", b"\0+")
    number, width = ("Q", 8) if big else ("I", 4)
    if start is None:
        (start,) = struct.unpack_from(order + number, data, 8 if big else 4)
    (entries,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
    _check_parts(entries)
    tags: dict[int, tuple[int, int, np.ndarray]] = {}
    for at in range(start + (8 if big else 2), start + (8 if big else 2) + entries * (4 + 2 * width), 4 + 2 * width):
        tag, kind, count, place = struct.unpack_from(f"{order}HH{number}{number}", data, at)
        dtype = np.dtype(order + _TYPES.get(kind, "u1"))
        if count * dtype.itemsize <= width:
            place = at + 4 + width
        fits = place + count * dtype.itemsize <= len(data)
        if tag not in tags:
            tags[tag] = kind, count, np.frombuffer(data, dtype, count, place) if fits else np.empty(0, dtype)
    return tags


def _check_directories(data: bytes) -> None:
    """Refuse a TIFF whose tags or tiles cost far more than its picture."""
    try:
        first = _directory(data)
        places = [first[tag][2][:1] for tag in (34665, 34853, 40965) if tag in first]  # EXIF, GPS, interoperability
        directories = [first, *(_directory(data, int(place[0])) for place in places if len(place))]
    except (struct.error, IndexError):  # the reader of the tags reports it
        return
    for tags in directories:
        numbers = sum(n * (32 if kind in (5, 10) else 1) for kind, n, _ in tags.values() if kind not in (1, 2, 7))
        if numbers > TAG_NUMBERS:
            raise ImageError(f"is a TIFF whose tags hold more than {TAG_NUMBERS} numbers; no real picture has so many.")
    size = [int(first[tag][2][0]) if tag in first and len(first[tag][2]) else 0 for tag in (256, 257, 322, 323)]
    if size[2] * size[3] > max(TILE_PIXELS, size[0] * size[1]):
        raise ImageError(f"is a TIFF of {size[0]}×{size[1]} pixels in tiles of {size[2]}×{size[3]}. Save it in strips.")
    if 259 in first and first[259][2][:1] == 1:
        return
    counts = [first[tag][2] for tag in (279, 325) if tag in first]  # bytes in each strip or tile
    stored = sum(int(np.minimum(count, len(data)).sum(dtype=np.uint64)) for count in counts)
    if stored > 16 * len(data):
        raise ImageError("is a TIFF whose strips lie on top of each other: the file is damaged.")


def unknown(data: bytes) -> str:
    """Describe a file that neither Pillow nor camlib can open."""
    if data[4:8] == b"ftyp":
        return "is HEIC, AVIF or a video, which camlib does not read; save it as JPEG or PNG."
    if _is_tiff(data):
        return "is a TIFF whose directory of tags cannot be read: the file is damaged or cut off."
    return "is not a picture that camlib reads (JPEG, PNG, WebP, GIF, TIFF, BMP), or its header is damaged."
