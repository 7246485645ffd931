"""The idx file format of MNIST: a big-endian header, then the elements; often gzipped.

Specification: http://yann.lecun.com/exdb/mnist/
"""

import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import TypeAlias

import numpy as np

from ..errors import DataError, FileError
from ._images import Images
from ._storage import File, FileRows, Records, allocate

__all__ = ["find_idx", "open_idx_images", "read_idx"]

_File: TypeAlias = gzip.GzipFile | BufferedReader

_UINT8 = 0x08  # the only element type that these data sets use
_CHUNK = 1 << 18  # bytes unpacked at a time
_BLOCK_BYTES = 1 << 20
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
    with _opened(path, ndim) as (file, shape):
        array = np.empty(shape, np.uint8)
        _fill(file, array.reshape(-1).data)
    return array


def open_idx_images(path: Path) -> Images:
    """Open grey images, (N, 1, H, W): a gzipped file is unpacked, another read where it is.

    Raises
    ------
    FileError
        As `read_idx`, for three axes; or there is no room to unpack.
    """
    with _opened(path, 3) as (file, (samples, height, width)):
        shape, dtype = (samples, 1, height, width), np.dtype(np.uint8)
        if path.suffix != ".gz":
            records = Records(File.open(path), file.tell(), height * width, samples)
            file.seek(height * width * samples, 1)
            return FileRows([records], shape[1:], dtype)
        images = allocate(shape, dtype)
        most = max(1, _BLOCK_BYTES // (height * width))
        for start in range(0, samples, most):
            block = np.empty((min(most, samples - start), *shape[1:]), np.uint8)
            _fill(file, block.reshape(-1).data)
            images[start : start + len(block)] = block
    return images


class _Damaged(Exception):
    """What is wrong with a file, as a predicate to its name."""


@contextmanager
def _opened(path: Path, ndim: int) -> Iterator[tuple[_File, tuple[int, ...]]]:
    """Open a file of `ndim` axes, read its header, and see that the elements end where it ends."""
    zipped = path.suffix == ".gz"
    try:
        room = path.stat().st_size * (_LARGEST_RATIO if zipped else 1)
        with gzip.open(path) if zipped else open(path, "rb") as file:
            shape = _header(file, ndim, room)
            yield file, shape
            try:
                rest = file.read(1)  # makes gzip compare its checksum
            except EOFError:
                raise _Damaged("is truncated: the checksum at its end is cut") from None
            if rest:
                raise _Damaged(f"goes on after the {_text(shape)} elements of its header")
    except _Damaged as error:
        raise FileError(f"{path} {error}") from None
    except (zlib.error, gzip.BadGzipFile) as error:
        raise FileError(f"{path} is no intact gzip file: {error}") from error
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from error


def _header(file: _File, ndim: int, room: int) -> tuple[int, ...]:
    """Read the shape of an array in a file that can hold at most `room` bytes."""
    header = bytearray(4 + 4 * ndim)
    _fill(file, memoryview(header))
    expected, found = bytes([0, 0, _UINT8, ndim]), header[:4]
    if found != expected:
        raise _Damaged(f"has magic number 0x{found.hex()}, expected 0x{expected.hex()}")
    shape = tuple(int.from_bytes(header[i : i + 4], "big") for i in range(4, len(header), 4))
    if 0 in shape:
        raise _Damaged(f"holds nothing, its shape is {_text(shape)}")
    if len(header) + math.prod(shape) > room:
        raise _Damaged(f"announces {_text(shape)} bytes, but cannot hold more than {room}")
    return shape


def _fill(file: _File, view: memoryview) -> None:
    done = 0
    with suppress(EOFError):  # gzip's word for a stream that breaks off
        while done < len(view) and (count := file.readinto(view[done : done + _CHUNK])):
            done += count
    if done < len(view):
        raise _Damaged(f"is truncated: of {len(view)} bytes, {len(view) - done} are missing")


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
