"""An array in an .npz file, read a piece at a time."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, FileError
from ._images import Images
from ._storage import File, FileRows, Records, allocate

__all__ = ["ZipArray"]

_BLOCK_BYTES = 1 << 20
_STORED = 0  # how the format says that a member is not packed
_LOCAL_HEADER = 30  # bytes before a member's name, the last four of which say what follows


class ZipArray:
    """An array of which only the header has been read.

    Parameters
    ----------
    path : Path
        Of the .npz file.
    archive : zipfile.ZipFile
        The same, open.
    member : zipfile.ZipInfo
        The array's.

    Raises
    ------
    FileError
        It is no array of numbers in C order, or has not the size that it announces.
    """

    def __init__(self, path: Path, archive: Any, member: Any) -> None:
        self._path, self._archive, self._member = path, archive, member
        self.key = member.filename.removesuffix(".npy")
        with archive.open(member) as file:
            try:
                version = np.lib.format.read_magic(file)
                read = {
                    (1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0,
                }[version]
                self.shape, fortran_order, self.dtype = read(file)
            except Exception as error:  # a header is Python's text: its parser may raise anything
                raise FileError(f"{path}: {self.key} is no array file: {error}") from error
            self._start = file.tell()
        if self.dtype.hasobject or fortran_order:
            what = "holds Python objects" if self.dtype.hasobject else "is in Fortran order"
            raise FileError(f"{path}: {self.key} {what}: save an array of numbers, in C order")
        self.nbytes = math.prod(self.shape) * self.dtype.itemsize
        size = member.file_size - self._start
        if min(self.shape, default=1) < 0 or self.nbytes != size:
            raise FileError(
                f"{path}: {self.key} announces {self.dtype} of shape {self.shape}, and {size} "
                f"bytes follow"
            )

    def read(self) -> np.ndarray:
        """Read the whole array."""
        array = np.empty(self.shape, self.dtype)
        self._blocks(array.__setitem__)
        return array

    def images(self) -> Images:
        """Open the array as images (N, C, H, W), each read when it is asked for.

        Raises
        ------
        DataError
            It does not have three or four axes.
        """
        if len(self.shape) not in (3, 4):
            raise DataError(
                f"{self._path}: {self.key} has shape {self.shape}; expected (N, H, W), "
                f"(N, H, W, C) or (N, C, H, W)"
            )
        row = self.shape[1:] if len(self.shape) == 4 else (*self.shape[1:], 1)
        channels_last = row[-1] in (1, 3, 4)
        if self._member.compress_type == _STORED:
            self._blocks(lambda rows, block: None)  # compares the checksum
            stride = math.prod(row) * self.dtype.itemsize
            records = Records(File.open(self._path), self._offset(), stride, self.shape[0])
            return FileRows([records], row, self.dtype, channels_last)
        shape = (row[2], row[0], row[1]) if channels_last else row
        images = allocate((self.shape[0], *shape), self.dtype)

        def keep(rows: slice, block: np.ndarray) -> None:
            block = block.reshape(-1, *row)
            images[rows] = block.transpose(0, 3, 1, 2) if channels_last else block

        self._blocks(keep)
        return images

    def _blocks(self, keep: Callable[[slice, np.ndarray], object]) -> None:
        """Read all, block by block; the last byte makes zipfile compare the checksum."""
        row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        most = max(1, _BLOCK_BYTES // max(1, row_bytes))
        with self._archive.open(self._member) as file:
            file.read(self._start)
            for first in range(0, self.shape[0], most):
                count = min(most, self.shape[0] - first)
                data = file.read(count * row_bytes)
                if len(data) < count * row_bytes:
                    raise FileError(f"{self._path}: {self.key} is truncated")
                block = np.frombuffer(data, self.dtype).reshape(count, *self.shape[1:])
                keep(slice(first, first + count), block)

    def _offset(self) -> int:
        """Find the first element of a member that is not packed."""
        start = self._member.header_offset
        with open(self._path, "rb") as file:
            file.seek(start)
            header = file.read(_LOCAL_HEADER)
        lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:], "little")
        return start + _LOCAL_HEADER + lengths + self._start
