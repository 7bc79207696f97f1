"""Turns any picture file or PIL image into an upright (H, W, 3) uint8 RGB array, or raises an `ImageError`."""

import io
import math
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from camlib.decoding import (
    FORMATS,
    Result,
    Window,
    check_effort,
    convert,
    declared_size,
    read_tiff,
    source,
    tiff_tags,
    unknown,
)
from camlib.errors import CamError, ImageError, reason
from camlib.files import printable, read_whole

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".dib")
MAX_BYTES = 2**30
BYTES_PER_PIXEL = 24
"""The most memory per pixel that decoding takes, measured for every format and mode. The file's content and up to 100
MB come on top."""
MAX_PIXELS = 100_000_000
"""The largest picture read by default: 2.4 GB while it is decoded, see `BYTES_PER_PIXEL`, and 0.3 GB as an array."""
MAX_SIDE = 2**20  # Pillow needs 8 bytes for each row, and we convert whole rows: thin pictures would cost far more


class ImageWarning(UserWarning):
    """Reading the picture required an assumption. The message says which."""


def read_image(path: str | os.PathLike, window: Window | None = None, *, max_pixels: int | None = None) -> np.ndarray:
    """Read a picture file as an upright RGB array.

    Reads JPEG, PNG, WebP, GIF (first frame), TIFF and BMP. Gray, bilevel, palette, CMYK and LAB pictures become RGB,
    transparent pixels become white, and the EXIF orientation is applied.

    Pictures with more than 8 bits per value are scaled by their type: 0 to 65535 for 16 bits, 0 to 1 for floats. Many
    16-bit files use fewer bits, such as an X-ray with values from 0 to 4095. If the file says so (`BitsPerSample` or
    `MaxSampleValue` in a TIFF, `sBIT` in a PNG), that range is used. If it does not, and every value is below 2**14,
    the largest value becomes white, with an `ImageWarning`.

    Parameters
    ----------
    path
        The file's path.
    window
        The stored values that become black and white, such as `(0, 4095)`. Values outside are clipped. This overrides
        every rule above. Only for gray pictures, 16-bit colour and float TIFFs.
    max_pixels
        Larger pictures are refused before they are decoded; `MAX_PIXELS`, 100 million, if None. Decoding takes up to 24
        bytes per pixel. Pillow has a limit of its own, 179 million, which `PIL.Image.MAX_IMAGE_PIXELS = None` removes.

    Returns
    -------
    photo : (H, W, 3) uint8, RGB

    Raises
    ------
    ImageError
        If the file is missing, empty, cut off, damaged, not in one of these formats, larger than 1 GiB or `max_pixels`,
        not an ordinary file (a device, a pipe), or built to take far more time or memory than a picture of its size. Or
        if it is not clear which of its values are black and white (NaN, floats outside 0 to 1, integers outside 0 to
        65535).

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (60, 40), "red").save(f"{folder}/red.png")
    ...     photo = read_image(f"{folder}/red.png")
    >>> photo.shape, photo[0, 0].tolist()
    ((40, 60, 3), [255, 0, 0])
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ImageError(f"read_image takes a path, not {type(path).__name__}.")
    path = Path(path)
    name = printable(str(path))
    try:
        data, _ = read_whole(path, MAX_BYTES)
    except CamError as e:
        raise ImageError(str(e)) from e.__cause__
    return _warned(name, _decode(data, name, window, max_pixels))


def decode(data: bytes, name: str, window: Window | None = None, *, max_pixels: int | None = None) -> np.ndarray:
    """Read the content of a picture file, as `read_image` does.

    Parameters
    ----------
    data
        The bytes of the file.
    name
        The picture's name in errors and warnings.
    window, max_pixels
        As in `read_image`.

    Returns
    -------
    photo : (H, W, 3) uint8, RGB

    Raises
    ------
    ImageError
        As `read_image` does.

    Examples
    --------
    >>> import io
    >>> from PIL import Image
    >>> file = io.BytesIO()
    >>> Image.new("L", (3, 2), 7).save(file, "PNG")
    >>> decode(file.getvalue(), "gray.png")[0].tolist()
    [[7, 7, 7], [7, 7, 7], [7, 7, 7]]
    """
    name = printable(name)
    return _warned(name, _decode(data, name, window, max_pixels))


def size_of(data: bytes, name: str = "the picture") -> tuple[int, int]:
    """Width and height of a picture from its header, without decoding it.

    These are the stored ones: the EXIF orientation may swap them.

    Parameters
    ----------
    data
        The bytes of the file.
    name
        The picture's name in errors.

    Returns
    -------
    width, height

    Raises
    ------
    ImageError
        If this is not a picture that camlib reads, or if its header is damaged.

    Examples
    --------
    >>> import io
    >>> from PIL import Image
    >>> file = io.BytesIO()
    >>> Image.new("L", (3, 2)).save(file, "PNG")
    >>> size_of(file.getvalue())
    (3, 2)
    """
    with _named(name):
        width, height = declared_size(data)
        if not width or not height:
            raise ImageError(unknown(data))
        return width, height


def from_pil(image: Image.Image, window: Window | None = None, *, max_pixels: int | None = None) -> np.ndarray:
    """Convert a PIL image to an upright RGB array, the same array that `read_image` makes from its file.

    Takes every mode. HSV, YCbCr, LAB and CMYK are converted to RGB, transparent pixels become white, and the EXIF
    orientation is applied. If the file has several frames, the current one is used.

    Pass the image as `Image.open` returns it. Once PIL has loaded or copied an image, some information is lost: a copy
    of a TIFF no longer says that zero means white, and 16-bit colours are cut to 8 bits.

    Parameters
    ----------
    image
        The image. It is loaded but not changed otherwise.
    window, max_pixels
        As in `read_image`.

    Returns
    -------
    photo : (H, W, 3) uint8, RGB
        A new array, which shares no memory with the image.

    Raises
    ------
    ImageError
        If this is not a PIL image, if it is closed or has no pixels, or for the same reasons as in `read_image`.

    Examples
    --------
    >>> from PIL import Image
    >>> from_pil(Image.new("HSV", (1, 1), (0, 255, 255))).tolist()
    [[[255, 0, 0]]]
    """
    if not isinstance(image, Image.Image):
        raise ImageError(f"from_pil takes a PIL image, not {type(image).__name__}.")
    name = printable(str(getattr(image, "filename", "") or "PIL image"))
    with _named(name, image.size):
        window = _check_window(window)
        _check_size(*image.size, max_pixels)
        check_effort(data := source(image))
        result = convert(image, data, window)
    return _warned(name, result)


def check_photo(photo: Any) -> np.ndarray:
    """Check that this is a photo: an (H, W, 3) uint8 RGB array with at least one pixel.

    An array with another layout is refused, not reinterpreted. The order of the colours cannot be checked: if you read
    the photo with OpenCV, first convert it from BGR to RGB with `photo[..., ::-1]`.

    Parameters
    ----------
    photo
        The array. A path is read by `read_image`, a PIL image is converted by `from_pil`.

    Returns
    -------
    photo : (H, W, 3) uint8, RGB
        The array itself, not a copy.

    Raises
    ------
    ImageError
        For everything else. The message names the layout and says how to convert it.

    Examples
    --------
    >>> import numpy as np
    >>> check_photo(np.zeros((40, 60, 3), np.uint8)).shape
    (40, 60, 3)
    >>> check_photo(np.zeros((3, 40, 60), np.uint8))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    camlib.errors.ImageError: ... The channels come first: photo.transpose(1, 2, 0) puts them last.
    """
    if isinstance(photo, (str, os.PathLike)):
        return read_image(photo)
    if isinstance(photo, Image.Image):
        return from_pil(photo)
    wanted = "A photo is an (H, W, 3) uint8 RGB array, 0 to 255; this is"
    if not isinstance(photo, np.ndarray):
        raise ImageError(
            f"{wanted} {type(photo).__name__}. camlib.read_image(path) makes such an array from a picture file."
        )
    if isinstance(photo, np.ma.MaskedArray):
        raise ImageError(f"{wanted} a masked array. Fill the masked pixels first: photo.filled(255) makes them white.")
    advice = _layout(photo.shape) or _values(photo)
    if advice:
        raise ImageError(f"{wanted} {photo.shape} {photo.dtype}. {advice}")
    return photo


# --- arrays that are not photos --------------------------------------------------------------------------------------


def _layout(shape: tuple[int, ...]) -> str:
    """What to do about an array of this shape, or nothing if it is (H, W, 3)."""
    if 0 in shape:
        return "It has no pixels."
    match shape:
        case (_, _, 3):
            return ""
        case (3, _, _):
            return "The channels come first: photo.transpose(1, 2, 0) puts them last."
        case (_, _):
            return "It is gray: np.stack([photo] * 3, axis=-1) repeats it as red, green and blue."
        case (_, _, 1):
            return "It is gray: np.repeat(photo, 3, axis=2) repeats it as red, green and blue."
        case (_, _, 2 | 4):
            return (
                "The last channel is probably opacity: "
                "camlib.images.from_pil(PIL.Image.fromarray(photo)) puts the picture on a white background."
            )
        case (1, _, _):
            return "It is gray: np.stack([photo[0]] * 3, axis=-1) repeats it as red, green and blue."
        case (4, _, _):
            return (
                "The channels come first, and the fourth is probably opacity (RGBA): "
                "camlib.images.from_pil(PIL.Image.fromarray(photo.transpose(1, 2, 0))) puts the picture on a white "
                "background."
            )
        case (batch, _, _, 3):
            return f"It is a batch of {batch}: pass its photos one at a time, photo[0] first."
        case (batch, 3, _, _):
            return f"It is a batch of {batch}, channels first: pass photo[0].transpose(1, 2, 0), then the others."
    return "camlib.read_image(path) makes such an array from a picture file."


def _values(photo: np.ndarray) -> str:
    """What to do about values of this type, or nothing if they are uint8."""
    if photo.dtype == np.uint8:
        return ""
    if photo.dtype == bool:
        return "photo.astype(np.uint8) * 255 makes False black and True white."
    if photo.dtype.kind not in "fiu":
        return "Its values are not numbers from 0 to 255."
    low, high = photo.min(), photo.max()
    if not np.isfinite([low, high]).all():
        return "It holds NaN or infinite values: replace them before you convert it."
    holds = f"It holds values from {low:g} to {high:g}: "
    if photo.dtype.kind == "f" and low >= 0 and high <= 1:
        return holds + "(photo * 255).round().astype(np.uint8) converts them if 1 means white."
    if low >= 0 and high <= 255:
        return holds + "photo.round().astype(np.uint8) converts them if 255 means white."
    if photo.dtype == np.uint16:
        return holds + "(photo / 257).round().astype(np.uint8) converts them if 65535 means white."
    return holds + "decide which become black (0) and white (255), scale and clip them, then use .astype(np.uint8)."


# --- files -----------------------------------------------------------------------------------------------------------


_NO_MEMORY = "there is not enough free memory to read it; scale the picture down."


@contextmanager
def _named(name: str, size: tuple[int, int] = (0, 0)) -> Iterator[None]:
    """Turn every exception into an `ImageError` that begins with the picture's name."""
    try:
        yield
    except ImageError as e:
        raise ImageError(f"{name}: {e}") from e.__cause__
    except Warning:  # raised if warnings are turned into errors
        raise
    except Exception as e:  # Pillow's decoders raise many kinds of exceptions for broken files
        if isinstance(e, MemoryError) or (isinstance(e, OSError) and re.search("out of memory|error -9$", str(e))):
            raise ImageError(f"{name}: {_NO_MEMORY}") from e
        if "MAX_TEXT" in str(e):  # Pillow's limit for what text and colour profiles of a PNG unpack to
            raise ImageError(f"{name}: its text or colour profile is larger than Pillow allows ({reason(e)}).") from e
        if _scarce(*size):  # libjpeg and libwebp report both in the same way
            raise ImageError(f"{name}: cannot be decoded ({reason(e)}): it is damaged, or {_NO_MEMORY}") from e
        raise ImageError(f"{name}: cannot be decoded, the file is damaged or cut off ({reason(e)}).") from e


def _scarce(width: int, height: int) -> bool:
    """Whether there is not enough memory to decode a picture of this size."""
    try:
        np.empty(width * height * BYTES_PER_PIXEL, np.uint8)
    except MemoryError:
        return True
    return False


def _warned(name: str, result: Result) -> np.ndarray:
    """The picture. Warns about assumptions, at the line that called the public function."""
    photo, note = result
    if note:
        warnings.warn(f"{name}: {note}", ImageWarning, stacklevel=3)
    return photo


def _decode(data: bytes, name: str, window: Window | None, max_pixels: int | None) -> Result:
    with _named(name):
        window = _check_window(window)
        size = declared_size(data)  # before Pillow opens the file: its WebP reader allocates the whole canvas then
        _check_size(*size, max_pixels)
        check_effort(data)
    with _named(name, size):
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except Image.DecompressionBombError as e:
            raise ImageError(
                f"declares {size[0]}×{size[1]} pixels, more than Pillow reads unless you set "
                "PIL.Image.MAX_IMAGE_PIXELS = None."
            ) from e
        except Image.UnidentifiedImageError as e:
            tags = tiff_tags(data)
            if tags is None:
                raise ImageError(unknown(data)) from e
            _check_size(tags[256], tags[257], max_pixels)
            return read_tiff(data, tags, window)
        with image:
            if image.width * image.height > size[0] * size[1]:  # a caller may have reserved memory by the header
                raise ImageError("declares two different sizes: the file is damaged.")
            return convert(image, data, window)


def _check_window(window: Window | None) -> Window | None:
    if window is None:
        return None
    try:
        low, high = (float(value) for value in window)
        valid = low < high and math.isfinite(high - low)
    except (TypeError, ValueError, OverflowError):
        valid = False
    if not valid:
        raise ImageError(
            f"window={window!r} must be two numbers, the lower one first: the stored values of black and white."
        )
    return low, high


def _check_size(width: int, height: int, max_pixels: int | None) -> None:
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    if not isinstance(limit, int) or limit < 1:
        raise ImageError(f"max_pixels={limit!r} must be a positive whole number, or None for {MAX_PIXELS}.")
    if max(width, height) > MAX_SIDE:
        raise ImageError(f"declares {width}×{height} pixels; no side may be longer than {MAX_SIDE}.")
    if width * height > limit:
        raise ImageError(
            f"declares {width}×{height} pixels, more than the limit of {limit}. Scale the picture down, or raise the "
            f"limit if you trust the file: max_pixels={width * height}."
        )
