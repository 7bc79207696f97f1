"""Any picture file becomes an upright (H, W, 3) uint8 RGB array, or an `ImageError` that says why not."""

import io
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from camlib.errors import ImageError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".dib")
MAX_BYTES = 2**30
MAX_PIXELS = 178_956_970  # where Pillow, too, suspects a decompression bomb: 512 MiB as RGB


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Read a picture file: (H, W, 3) uint8, RGB, upright.

    Reads JPEG, PNG, WebP, GIF (first frame), TIFF and BMP; gray, 16-bit, bilevel, palette and CMYK become RGB,
    transparent pixels lie on white, the EXIF orientation is applied.

    Raises `ImageError` for anything else: missing, empty, cut off, no picture, not finite, larger than `MAX_PIXELS`.

    >>> read_image("data/photos/cat.jpg").shape
    (300, 451, 3)
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ImageError(f"A picture is read from a path, not from {type(path).__name__}.")
    path = Path(path)
    return decode(_bytes(path), str(path))


def decode(data: bytes, name: str) -> np.ndarray:
    """The same for a file's content; `name` is what an error calls it."""
    try:
        return _decode(data)
    except ImageError as e:
        raise ImageError(f"{name}: {e}") from e.__cause__
    except Exception as e:  # Pillow's decoders raise whatever a broken file leads them to
        raise ImageError(f"{name}: cannot be decoded, the file is damaged or cut off ({_reason(e)}).") from e


def check_photo(photo: Any) -> np.ndarray:
    """The photo itself if it is a (H, W, 3) uint8 array with at least one pixel; a path is read first."""
    if isinstance(photo, (str, os.PathLike)):
        return read_image(photo)
    try:
        array = np.asarray(photo)
    except ValueError:  # lists of unequal lengths
        array = np.empty(0)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or 0 in array.shape:
        raise ImageError(
            f"A photo is a (H, W, 3) uint8 RGB array, 0 to 255; this is {array.shape} {array.dtype}. "
            "camlib.read_image(path) makes one from any picture file."
        )
    return array


def _bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ImageError(f"{path}: has {size / 1e9:.1f} GB, more than any photo that camlib reads.")
        data = path.read_bytes()
    except ImageError:
        raise
    except (OSError, ValueError) as e:  # ValueError: a name with a null byte
        raise ImageError(f"{path}: {_refusal(path, e)}") from e
    if not data:
        raise ImageError(f"{path}: the file is empty.")
    return data


def _refusal(path: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file."
    if isinstance(error, IsADirectoryError) or (isinstance(error, PermissionError) and path.is_dir()):
        return "is a folder, not a picture file."
    return f"cannot be opened ({_reason(error)})."


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__).rstrip(".")


def _decode(data: bytes) -> np.ndarray:
    _check_size(*_webp_size(data))  # Pillow's WebP reader allocates the whole canvas when it opens the file
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as e:
        raise ImageError(_too_large(next(iter(re.findall(r"\d+", str(e))), "too many"))) from e
    except Image.UnidentifiedImageError as e:
        raise ImageError(_unknown(data)) from e
    with image:
        _check_size(*image.size)
        image.load()
        return np.array(_rgb(_upright(image)))


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # whatever broken metadata leads to: the pixels are whole all the same
        return image


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError(_too_large(f"{width}×{height}"))


def _too_large(declared: str) -> str:
    return f"declares {declared} pixels, more than the {MAX_PIXELS / 1e6:.0f} million that camlib reads; scale it down."


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height that a WebP's extended header declares, or (0, 0). Source: the WebP container specification."""
    if data[:4] != b"RIFF" or data[8:16] != b"WEBPVP8X" or len(data) < 30:
        return 0, 0
    return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")


def _unknown(data: bytes) -> str:
    if data[4:8] == b"ftyp":
        return "is HEIC, AVIF or a video, which camlib does not read; save it as JPEG or PNG."
    return "is not a picture that camlib reads (JPEG, PNG, WebP, GIF, TIFF, BMP), or its header is damaged."


def _rgb(image: Image.Image) -> Image.Image:
    """RGB with 8 bits; transparency on white; 16-bit and float pictures scaled by their type, not by their content."""
    if image.mode.startswith("I") or image.mode == "F":
        return _deep(np.asarray(image)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _deep(values: np.ndarray) -> Image.Image:
    """Gray values of more than 8 bits, or floats, as 8 bits."""
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise ImageError("holds NaN or infinite values; no picture can be made of them.")
        if values.min() < 0 or values.max() > 255:
            raise ImageError(
                f"holds floats from {values.min():g} to {values.max():g}; 0 to 1 or 0 to 255 is understood."
            )
        scale = 255.0 if values.max() <= 1 else 1.0
        return Image.fromarray((values * scale).round().astype(np.uint8))
    if values.min() < 0 or values.max() > 65535:
        raise ImageError(
            f"holds integers from {values.min()} to {values.max()}; at most 16 bits (0 to 65535) are understood."
        )
    return Image.fromarray((values.astype(np.float64) / 257).round().astype(np.uint8))
