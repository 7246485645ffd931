"""One picture of any kind, made small."""

import os
import threading
from contextlib import nullcontext, suppress
from types import ModuleType
from typing import Any

import numpy as np

from ..errors import DataError, FileError
from ._philox import integer

__all__ = ["Unreadable", "decode", "image_size", "read_image"]

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
_MOST_PIXELS = 1 << 26  # 200 MB of RGB
_LARGE_PIXELS = 1 << 22  # more than that are decoded one picture at a time, whatever the threads
_ORIENTATION = 0x0112  # the EXIF tag
_GAP = 2  # a picture is reduced in cheap steps to so many times its final size, then in a good one
_TRANSPARENT = ("LA", "La", "PA", "RGBA", "RGBa")
_SCALABLE = ("L", "RGB", "CMYK", "YCbCr")  # modes whose numbers may be averaged
_large = threading.Lock()


class Unreadable(Exception):
    """A file is no picture, or a broken one."""


def read_image(
    path: str | os.PathLike[str], size: int | tuple[int, int], channels: int = 3
) -> np.ndarray:
    """Read a picture, upright, scaled to fill a size and cut where it is longer.

    A JPEG is decoded at an eighth to the whole of its size, whichever is enough: one of 12
    megapixels then takes 2 MB and not 36. Grey becomes RGB, of 16 bits the upper 8 are taken, CMYK
    is converted, a palette is looked up, and what is transparent lies on white. Of several pictures
    in a file it is the first.

    Parameters
    ----------
    path : str or path
        JPEG, PNG, WebP, BMP, GIF, TIFF or PPM.
    size : int or (int, int)
        Height and width in pixels; one number for both.
    channels : {3, 1}
        RGB, or grey.

    Returns
    -------
    numpy.ndarray
        uint8 of shape (channels, H, W).

    Raises
    ------
    DataError
        Pillow is not installed, or an argument is not as above.
    FileError
        The file cannot be read, is damaged, or is no picture.
    """
    if channels not in (1, 3):
        raise DataError(f"channels is 1 or 3, not {channels!r}")
    try:
        return decode(path, image_size(size), channels)
    except Unreadable as error:
        raise FileError(f"cannot read {os.fspath(path)}: {error}") from error


def image_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """Check a size, which may be one number for both axes."""
    height, width = size if isinstance(size, tuple) else (size, size)
    return integer("size", height, 1, 1 << 14), integer("size", width, 1, 1 << 14)


def decode(path: str | os.PathLike[str], size: tuple[int, int], channels: int = 3) -> np.ndarray:
    """Do what `read_image` does, for an error that does not repeat the path."""
    pil = _pillow()
    try:
        with pil.open(path, formats=_FORMATS) as image:
            pixels = _pixels(image, size)
            with _large if pixels > _LARGE_PIXELS else nullcontext():
                fitted = _fitted(image, size, pil)
        array = np.asarray(fitted if channels == 3 else fitted.convert("L"))
        return np.ascontiguousarray(array.reshape(*size, channels).transpose(2, 0, 1))
    except pil.UnidentifiedImageError:
        raise Unreadable("no picture of a kind that is read here") from None
    except Unreadable:
        raise
    except Exception as error:  # a decoder that meets a broken file raises whatever it stumbles on
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise Unreadable(reason) from error


def _pixels(image: Any, size: tuple[int, int]) -> int:
    """Reduce a JPEG as far as it may be; give the number of pixels that decoding will hold."""
    whole = image.size
    image.draft("RGB", (_GAP * max(size), _GAP * max(size)))  # does nothing to other formats
    # A progressive JPEG is reduced only after all of it is there.
    width, height = whole if "progressive" in image.info else image.size
    if width * height > _MOST_PIXELS:
        raise Unreadable(f"{width} x {height} pixels, too many to be decoded whole")
    return width * height


def _fitted(image: Any, size: tuple[int, int], pil: ModuleType) -> Any:
    """Give a picture as RGB of (height, width)."""
    height, width = size
    image.load()
    orientation = 1
    with suppress(Exception):  # a picture is none the worse for broken EXIF data
        orientation = image.getexif().get(_ORIENTATION, 1)
    if orientation in (5, 6, 7, 8):  # stored lying on its side
        height, width = width, height
    image = _scalable(image, pil)
    scale = max(width / image.width, height / image.height)
    across, down = min(width / scale, image.width), min(height / scale, image.height)
    left, top = (image.width - across) / 2, (image.height - down) / 2
    box = (left, top, left + across, top + down)
    image = image.resize((width, height), pil.Resampling.BILINEAR, box=box, reducing_gap=_GAP)
    if image.mode == "RGBA":
        white = pil.new("RGBA", image.size, "white")
        image = pil.alpha_composite(white, image)
    turns = {
        2: pil.Transpose.FLIP_LEFT_RIGHT,
        3: pil.Transpose.ROTATE_180,
        4: pil.Transpose.FLIP_TOP_BOTTOM,
        5: pil.Transpose.TRANSPOSE,
        6: pil.Transpose.ROTATE_270,
        7: pil.Transpose.TRANSVERSE,
        8: pil.Transpose.ROTATE_90,
    }
    if orientation in turns:
        image = image.transpose(turns[orientation])
    return image.convert("RGB")


def _scalable(image: Any, pil: ModuleType) -> Any:
    """Give a picture in a mode that scaling makes sense of."""
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        return image.convert("RGBA")
    if image.mode.startswith("I"):
        pixels = np.asarray(image)
        if pixels.min() < 0 or pixels.max() > 0xFFFF:
            raise Unreadable("its pixels have 32 bits, of no known range")
        return pil.fromarray((pixels >> 8).astype(np.uint8))
    if image.mode == "F":
        raise Unreadable("its pixels are floating-point numbers, of no known range")
    return image if image.mode in _SCALABLE else image.convert("RGB")


def _pillow() -> ModuleType:
    """Import Pillow, and its readers of our formats alone: the others cost time and memory."""
    try:
        from PIL import (
            BmpImagePlugin,
            GifImagePlugin,
            Image,
            JpegImagePlugin,
            PngImagePlugin,
            PpmImagePlugin,
            TiffImagePlugin,
            WebPImagePlugin,
        )
    except ImportError as error:
        raise DataError(f"pictures need Pillow: pip install Pillow ({error})") from error
    del BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin
    del PpmImagePlugin, TiffImagePlugin, WebPImagePlugin
    return Image
