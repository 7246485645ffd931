"""What images are to a data set: something of shape (N, C, H, W) that rows are taken from."""

from typing import Any, Protocol

import numpy as np

__all__ = ["Images", "Rows", "held_bytes"]


class Images(Protocol):
    """Images of shape (N, C, H, W), uint8 or float: an array, or what can be indexed like one.

    Rows are asked for by an array of positions or by a slice, and only when a batch needs them, so
    that images may as well lie in files. Several threads may ask at once. What holds bytes in
    memory says how many in an attribute `held_bytes`.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """N, C, H and W."""

    @property
    def dtype(self) -> np.dtype:
        """The type of the arrays that indexing returns."""

    def __getitem__(self, rows: Any, /) -> np.ndarray: ...


class Rows:
    """Some of the rows of other images.

    Parameters
    ----------
    images : Images
        Where they are.
    rows : numpy.ndarray
        Which, integers of shape (N,).
    """

    def __init__(self, images: Images, rows: np.ndarray) -> None:
        self.images, self.rows = images, rows
        self.shape = (len(rows), *images.shape[1:])
        self.dtype = images.dtype

    def __getitem__(self, rows: Any) -> np.ndarray:
        return self.images[self.rows[rows]]

    @property
    def held_bytes(self) -> int:
        """The list of rows, and their share of what the images hold."""
        share = held_bytes(self.images) * len(self.rows) // self.images.shape[0]
        return self.rows.nbytes + share


def held_bytes(images: Images) -> int:
    """Return how many bytes of memory images occupy as long as they are referred to."""
    if isinstance(images, np.memmap):
        return 0  # the system may take its pages back
    return images.nbytes if isinstance(images, np.ndarray) else getattr(images, "held_bytes", 0)
