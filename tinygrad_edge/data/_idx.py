"""The idx file format of MNIST: a big-endian header, then the elements; often gzipped.

Specification: http://yann.lecun.com/exdb/mnist/
"""

import gzip
import math
import zlib
from contextlib import suppress
from io import BufferedReader
from pathlib import Path

import numpy as np

from ..errors import DataError, FileError

__all__ = ["find_idx", "read_idx"]

_UINT8 = 0x08  # the only element type that these data sets use
_CHUNK = 1 << 18  # bytes unpacked at a time
_LARGEST_RATIO = 1032  # deflate cannot expand by more


def find_idx(folder: Path, name: str) -> Path:
    """Return ``folder/name``, or else ``folder/name.gz``.

    Raises
    ------
    DataError
        There is neither.
    """
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise DataError(f"{folder} holds neither {name} nor {name}.gz")


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """Read a uint8 array of `ndim` axes.

    The header is checked against the file's size before memory is asked for, and elements are
    unpacked straight into the array.

    Raises
    ------
    FileError
        The file cannot be read, is no idx file of `ndim` axes, or is shorter or longer than its
        header says.
    """
    zipped = path.suffix == ".gz"
    try:
        room = path.stat().st_size * (_LARGEST_RATIO if zipped else 1)
        with gzip.open(path) if zipped else open(path, "rb") as file:
            return _read(file, ndim, room)
    except FileError as error:
        raise FileError(f"{path} {error}") from None
    except (zlib.error, gzip.BadGzipFile) as error:
        raise FileError(f"{path} is no intact gzip file: {error}") from error
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from error


def _read(file: gzip.GzipFile | BufferedReader, ndim: int, room: int) -> np.ndarray:
    """Read an array from a file that can hold at most `room` bytes."""
    header = bytearray(4 + 4 * ndim)
    _fill(file, memoryview(header), "the header")
    expected, found = bytes([0, 0, _UINT8, ndim]), header[:4]
    if found != expected:
        raise FileError(f"has magic number 0x{found.hex()}, expected 0x{expected.hex()}")
    shape = tuple(int.from_bytes(header[i : i + 4], "big") for i in range(4, len(header), 4))
    size = math.prod(shape)
    text = "x".join(map(str, shape))
    if size == 0:
        raise FileError(f"holds nothing, its shape is {text}")
    if len(header) + size > room:
        raise FileError(f"announces {text} bytes, but cannot hold more than {room}")
    array = np.empty(shape, np.uint8)
    _fill(file, array.reshape(-1).data, f"{text} elements")
    try:
        rest = file.read(1)  # makes gzip compare its checksum
    except EOFError:
        raise FileError("is truncated: the checksum at the end of the gzip file is cut") from None
    if rest:
        raise FileError(f"goes on after the {text} elements that its header announces")
    return array


def _fill(file: gzip.GzipFile | BufferedReader, view: memoryview, what: str) -> None:
    done = 0
    with suppress(EOFError):  # gzip's word for a stream that breaks off
        while done < len(view) and (count := file.readinto(view[done : done + _CHUNK])):
            done += count
    if done < len(view):
        raise FileError(f"is truncated: expected {len(view)} bytes of {what}, found {done}")
