"""Images that lie in files, and are read when a batch asks for them.

Reading, unlike mapping, leaves nothing in the memory of the process: what the system keeps of a
file is its own to drop.
"""

import os
import weakref
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from io import FileIO
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError, FileError
from ._folders import cache_folder

__all__ = ["File", "FileRows", "Records", "Scratch", "allocate"]

_HELD_BYTES = 1 << 23  # an unpacked array of more goes to a scratch file


class File:
    """A file that several threads may use at once, and a forked process as well where it can."""

    def __init__(self, raw: FileIO, name: str) -> None:
        self.name, self._raw, self._lock = name, raw, Lock()
        weakref.finalize(self, raw.close)

    @classmethod
    def open(cls, path: Path) -> "File":
        """Open a file for reading."""
        try:
            return cls(open(path, "rb", buffering=0), str(path))
        except OSError as error:
            raise FileError(f"cannot read {path}: {error.strerror}") from error

    def read(self, out: np.ndarray, offset: int) -> None:
        """Fill a contiguous array with the bytes from an offset on."""
        try:
            if hasattr(os, "preadv"):
                count = os.preadv(self._raw.fileno(), [out.data], offset)
            else:
                with self._lock:
                    self._raw.seek(offset)
                    count = self._raw.readinto(out.data) or 0
        except OSError as error:
            raise FileError(f"cannot read {self.name}: {error.strerror}") from error
        if count < out.nbytes:
            raise FileError(
                f"{self.name} is truncated: expected {out.nbytes} bytes from {offset} on, found "
                f"{count}"
            )

    def write(self, data: np.ndarray, offset: int) -> None:
        """Write the bytes of a contiguous array."""
        try:
            if hasattr(os, "pwritev"):
                count = os.pwritev(self._raw.fileno(), [data.data], offset)
            else:
                with self._lock:
                    self._raw.seek(offset)
                    count = self._raw.write(data.data)
        except OSError as error:
            raise FileError(f"cannot write {self.name}: {error.strerror}") from error
        if count < data.nbytes:
            raise FileError(f"cannot write {self.name}: no space left on device")


class Records(NamedTuple):
    """Where images lie in a file, one after the other."""

    file: File
    offset: int  #: of the first one's first byte
    stride: int  #: bytes from one to the next
    rows: int


class FileRows:
    """Images in files, of which nothing is held.

    Parameters
    ----------
    records : sequence of Records
        Where they are, in order.
    row_shape : tuple of int
        Of one image as stored: (C, H, W), or (H, W, C).
    dtype : numpy.dtype
        Of its elements.
    channels_last : bool
        Stored as (H, W, C); indexing gives (C, H, W) all the same.

    Raises
    ------
    FileError
        When rows are asked for: a file cannot be read, or has become shorter.
    """

    def __init__(
        self,
        records: Sequence[Records],
        row_shape: tuple[int, ...],
        dtype: np.dtype,
        channels_last: bool = False,
    ) -> None:
        self._records = records
        self._starts = list(accumulate((r.rows for r in records), initial=0))
        self._row_shape = row_shape
        self._axes = (0, 3, 1, 2) if channels_last else (0, 1, 2, 3)
        shape = (self._starts[-1], *row_shape)
        self.shape = tuple(shape[axis] for axis in self._axes)
        self.dtype = dtype

    def __getitem__(self, rows: Any) -> np.ndarray:
        positions = np.arange(self.shape[0])[rows]
        images = np.empty((len(positions), *self._row_shape), self.dtype)
        for image, row in zip(images, positions.tolist(), strict=True):
            part = bisect_right(self._starts, row) - 1
            file, offset, stride, _ = self._records[part]
            file.read(image, offset + stride * (row - self._starts[part]))
        return images.transpose(self._axes)


class Scratch(FileRows):
    """Images in a file without a name, which the system removes when the process ends.

    Parameters
    ----------
    shape : tuple of int
        N, C, H and W. Images are written by slices, ``scratch[a:b] = images``, and read like those
        of an array.
    dtype : numpy.dtype
        Of their elements.

    Raises
    ------
    FileError
        No file can be made, or the disk is full.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self._file = _scratch_file()
        self._row_bytes = int(np.prod(shape[1:])) * dtype.itemsize
        super().__init__([Records(self._file, 0, self._row_bytes, shape[0])], shape[1:], dtype)

    def __setitem__(self, rows: slice, images: np.ndarray) -> None:
        block = np.ascontiguousarray(images, self.dtype)
        self._file.write(block, rows.start * self._row_bytes)


def allocate(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray | Scratch:
    """Make room for images that a file holds packed: memory for few, else a scratch file."""
    if int(np.prod(shape)) * dtype.itemsize <= _HELD_BYTES:
        return np.empty(shape, dtype)
    return Scratch(shape, dtype)


def _scratch_file() -> File:
    """Make a file that has no name any more.

    Where TMPDIR names no folder it is in the cache, since the usual folder for temporary files is
    memory on many boards.
    """
    try:
        folder = Path(os.environ.get("TMPDIR") or cache_folder())
    except DataError:
        raise FileError("no folder for unpacked images: set TMPDIR to one on a disk") from None
    path = folder / f".{os.urandom(8).hex()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_TEMPORARY", 0)
        flags |= getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        raw = FileIO(os.open(path, flags, 0o600), "r+b")
    except OSError as error:
        raise FileError(
            f"cannot make a file for unpacked images in {folder}: {error.strerror}; set TMPDIR to "
            f"a folder on a disk"
        ) from error
    with suppress(OSError):  # Windows, which removes it when it is closed
        path.unlink()
    return File(raw, f"a scratch file in {folder}")
