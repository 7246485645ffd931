"""Pictures as the images of a data set."""

import os
import sys
import threading
from collections.abc import Callable
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
        try:
            self._store = allocate((room, *self.shape[1:]), self.dtype)
        except FileError:  # no disk to write to: it only takes longer
            self._store = np.empty((0, *self.shape[1:]), np.uint8)
        self._kept = np.zeros(self._store.shape[0], bool)

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

    def read_all(self, advance: Callable[[int], object]) -> dict[int, str]:
        """Read every image once, in a thread for each processor.

        Parameters
        ----------
        advance : callable
            Is told after each image.

        Returns
        -------
        dict of int to str
            What is wrong with those that cannot be read, by row.
        """
        broken: dict[int, str] = {}
        errors: list[BaseException] = []
        stop = threading.Event()
        count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()

        def work(rows: range) -> None:
            try:
                for row in rows:
                    if stop.is_set():
                        return
                    try:
                        self.read(row)
                    except Unreadable as error:
                        broken[row] = str(error)
                    advance(1)
            except BaseException as error:
                errors.append(error)

        shares = [range(first, self.shape[0], count or 1) for first in range(count or 1)]
        threads = [threading.Thread(target=work, args=(share,), daemon=True) for share in shares]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:  # an interrupt lets each thread finish its image
            stop.set()
        if errors:
            raise errors[0]
        return dict(sorted(broken.items()))

    @property
    def held_bytes(self) -> int:
        """The paths, and the images where they are few."""
        return sum(map(sys.getsizeof, self._paths)) + held_bytes(self._store) + self._kept.nbytes
