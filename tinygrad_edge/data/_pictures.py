"""Pictures as the images of a data set."""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileError
from ._images import held_bytes
from ._photo import Unreadable, decode
from ._storage import allocate

__all__ = ["Pictures"]

_MOST_KEPT = 1 << 30  # bytes of decoded pictures, in a scratch file


class Pictures:
    """Images that are decoded when they are asked for, and kept on the disk after that.

    Parameters
    ----------
    root : Path
        The folder that they are in.
    paths : list of str
        Relative to it.
    size : (int, int)
        Height and width.
    """

    def __init__(self, root: Path, paths: list[str], size: tuple[int, int]) -> None:
        self._root, self._paths = root, paths
        self.shape = (len(paths), 3, *size)
        self.dtype = np.dtype(np.uint8)
        room = min(len(paths), _MOST_KEPT // (3 * size[0] * size[1]))
        self._kept = np.zeros(room, bool)
        try:
            self._store = allocate((room, *self.shape[1:]), self.dtype)
        except FileError:  # no disk to write to: it only takes longer
            self._kept = self._kept[:0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        positions = np.arange(self.shape[0])[rows]
        images = np.empty((len(positions), *self.shape[1:]), self.dtype)
        for image, row in zip(images, positions.tolist(), strict=True):
            try:
                image[...] = self.read(row)
            except Unreadable as error:
                raise FileError(
                    f"cannot read {self._root / self._paths[row]} any more: {error}"
                ) from error
        return images

    def read(self, row: int) -> np.ndarray:
        """Give one image.

        Raises
        ------
        Unreadable
            It is no picture, or a broken one.
        """
        if row < len(self._kept) and self._kept[row]:
            return self._store[row : row + 1][0]
        image = decode(self._root / self._paths[row], self.shape[2:])
        if row < len(self._kept):
            try:
                self._store[row : row + 1] = image[None]
                self._kept[row] = True
            except FileError:  # the disk is full: it only takes longer
                self._kept = self._kept[:row]
        return image

    @property
    def held_bytes(self) -> int:
        """The paths, and the images where they are few."""
        return sum(map(sys.getsizeof, self._paths)) + held_bytes(self._store) + self._kept.nbytes
