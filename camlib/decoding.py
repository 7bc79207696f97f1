"""Decodes the details of picture formats: tags, chunks, bit depths, transparency, orientation. Pillow does the rest."""

import io
import re
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


# --- from a PIL image to RGB -----------------------------------------------------------------------------------------


def source(image: Image.Image) -> bytes:
    """The content of the file that a PIL image is read from; empty if PIL has already released the file."""
    file = getattr(image, "fp", None)
    if file is None or image.format not in ("PNG", "WEBP", "TIFF"):
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
        photo, note = np.array(_rgb(image)), doubt
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


def _rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB as Pillow converts it, with transparent pixels on white."""
    if image.mode == "La":  # Pillow converts it to LA only
        image = image.convert("LA")
    return _on_white(image.convert("RGBA")) if image.has_transparency_data else image.convert("RGB")


def _on_white(rgba: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


# --- gray, 16 bits, floats -------------------------------------------------------------------------------------------


def _gray(image: Image.Image, tags: Mapping[int, Any], raw: str, data: bytes, window: Window | None) -> Result:
    """The RGB array of a picture with a single channel."""
    values, note = np.asarray(image), ""
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
        colours = np.repeat(values[..., :1], 3, axis=2)
    else:
        other = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}[raw[-1]]
        low = _as_raw(data, frame, raw[:-1] + other)  # in the other byte order, Pillow keeps the lower 8 bits
        values = (_as_raw(data, frame, raw).astype(np.uint16) << 8) | low
        colours = values[..., :3]
    rgb, note = _eight(colours, tags, _png_bits(data), window)
    key = image.info.get("transparency")
    if key is not None and colours.shape == values.shape:
        rgb[(values == np.asarray(key)).all(axis=2)] = 255
    elif colours.shape != values.shape:
        rgba = np.dstack([rgb, _spread(values[..., -1], 0, 65535)])
        rgb = np.array(_on_white(Image.fromarray(rgba)))
    return rgb, note


def _as_raw(data: bytes, frame: int, raw: str) -> np.ndarray:
    """The pixels of a file, decoded as if its values were stored in the layout that Pillow calls `raw`."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        image.seek(frame)
        tiles = image.tile
        image.tile = [
            tile._replace(args=(raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw) for tile in tiles
        ]
        return np.array(image)


def _eight(values: np.ndarray, tags: Mapping[int, Any], bits: int, window: Window | None) -> Result:
    """Scale numbers to 8 bits, by the window or the range of their type. bits: what a PNG declares, or 0."""
    low, high, note = values.min(), values.max(), ""
    if not np.isfinite([low, high]).all():
        raise ImageError("holds NaN or infinite values, which cannot be shown.")
    if window is None and values.dtype.kind == "f":
        if low < -GAMUT or high > 1 + GAMUT:
            raise ImageError(
                f"holds floats from {low:g} to {high:g}, but floats are read as 0 (black) to 1 (white). "
                f"Say which values become black and white: window=({min(low, 0):g}, {high:g}) shows all of them, "
                "window=(0, 1) clips."
            )
        window = 0, 1
    elif window is None:
        if low < 0 or high > 65535:
            raise ImageError(
                f"holds integers from {low} to {high}, but integers are read as 0 (black) to 65535 (white) at most. "
                f"Say which values become black and white: window=({low}, {high}) shows all of them."
            )
        top, note = _top(values, int(high), tags, bits)
        window = 0, top
    eight = _spread(values, *window)
    return (255 - eight if _first(tags, PHOTOMETRIC) == 0 else eight), note


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
    eight = np.empty(values.shape, np.uint8)
    rows = max(1, 2**20 // values[0].size)
    for y in range(0, len(values), rows):
        part = (values[y : y + rows].astype(np.float64) - low) * 255 / (high - low)
        eight[y : y + rows] = part.clip(0, 255).round()
    return eight


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


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each chunk of a PNG."""
    position = 8
    while position + 8 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        yield data[position + 4 : position + 8], data[position + 8 : position + 8 + length]
        position += 12 + length


def _png_bits(data: bytes) -> int:
    """The significant bits that a PNG declares in its sBIT chunk, the largest of its colour channels; 0 if none."""
    if data[:4] != b"\x89PNG":
        return 0
    for kind, content in _png_chunks(data):
        if kind == b"sBIT":
            return max(content[: len(content) - (len(content) % 2 == 0)], default=0)  # without the opacity
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
    for kind, content in _png_chunks(data):
        for start in range(0, len(content) if kind == b"IDAT" else 0, block):
            if missing > 0 and not stream.eof:
                missing -= len(stream.decompress(content[start : start + block]))
    if missing > 0:
        raise ImageError("is a PNG whose data end before its last row: the file is damaged or cut off.")


def _check_webp(image: Image.Image, data: bytes) -> str:
    """Refuse a WebP whose data end in a long run of zeros, as after an interrupted download.

    To the decoder, zeros mean "as predicted". In a complete picture that only happens in plain areas. So a picture with
    plain last rows is read: silently if each of these rows has one colour, with a note if they only repeat each other.
    """
    position, note = 12, ""
    while position + 8 <= len(data):
        kind, length = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], "little")
        content = data[position + 8 : position + 8 + length]
        position += 8 + length + length % 2
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
    values = np.empty((planes, height, width, channels), dtype)
    for number in range(planes * strips):
        plane, strip = divmod(number, strips)
        part = values[plane, strip * rows : (strip + 1) * rows]
        part[...] = np.frombuffer(data, dtype, part.size, offsets[number]).reshape(part.shape)
    image = values[0] if planar == 1 else np.moveaxis(values[..., 0], 0, 2)
    eight, note = _eight(image, tags, 0, window)
    rgb = np.repeat(eight, 3, axis=2) if samples == 1 else eight
    return _turn(rgb, _first(tags, ORIENTATION, 1)), note


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


def webp_size(data: bytes) -> tuple[int, int]:
    """Width and height that a WebP's extended header declares, or (0, 0). Source: the WebP container specification."""
    if data[:4] != b"RIFF" or data[8:16] != b"WEBPVP8X" or len(data) < 30:
        return 0, 0
    return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")


def unknown(data: bytes) -> str:
    """Describe a file that neither Pillow nor camlib can open."""
    if data[4:8] == b"ftyp":
        return "is HEIC, AVIF or a video, which camlib does not read; save it as JPEG or PNG."
    if _is_tiff(data):
        return "is a TIFF whose directory of tags cannot be read: the file is damaged or cut off."
    return "is not a picture that camlib reads (JPEG, PNG, WebP, GIF, TIFF, BMP), or its header is damaged."
