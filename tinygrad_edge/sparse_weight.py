"""Weights of which only the non-zeros are stored."""

from __future__ import annotations

import math

import numpy as np

from . import trace
from .graph import Cell
from .ops import segments_of
from .ops.sparse import dense, places
from .parameter import Parameter

__all__ = ["SparseWeight"]


class SparseWeight:
    """A layer's share of a pool of non-zeros, in place of a dense weight.

    Parameters
    ----------
    values, columns, rows : Parameter
        The pool: float32 [capacity], uint16 [capacity], int32 [rows of all layers + 1].
    shape : tuple of int
        Of the dense weight: [K, C, R, S] or [out, in].
    first_row : int
        Of the layer, in the pool.
    nonzeros : int
        How many the layer has when it is made: what its cost is estimated by.
    """

    __slots__ = ("values", "columns", "rows", "shape", "first_row", "nonzeros", "_candidates")

    def __init__(
        self,
        values: Parameter,
        columns: Parameter,
        rows: Parameter,
        shape: tuple[int, ...],
        first_row: int,
        nonzeros: int,
    ) -> None:
        self.values, self.columns, self.rows = values, columns, rows
        self.shape, self.first_row, self.nonzeros = shape, first_row, nonzeros
        self._candidates: Cell | None = None

    @property
    def candidates(self) -> Cell | None:
        """What training steps put the zeros of largest gradients into, while there is one."""
        return self._candidates

    @candidates.setter
    def candidates(self, cell: Cell | None) -> None:
        self._candidates = cell
        trace.setting_changed()

    @property
    def row_count(self) -> int:
        """Rows of the pool: one for each output channel and each 65,536 columns."""
        return self.shape[0] * segments_of(self.shape)

    @property
    def row_starts(self) -> np.ndarray:
        """Where each row of the layer begins in the pool, and where the last one ends."""
        return self.rows.borrow()[self.first_row : self.first_row + self.row_count + 1]

    @property
    def part(self) -> slice:
        """The layer's part of the pool, now."""
        starts = self.row_starts
        return slice(int(starts[0]), int(starts[-1]))

    @property
    def density(self) -> float:
        """Non-zeros as a share of all elements, now."""
        part = self.part
        return (part.stop - part.start) / max(math.prod(self.shape), 1)

    def elements(self) -> np.ndarray:
        """Which elements of the flattened dense weight the non-zeros are, in order."""
        return places(*self._index)[1]

    def numpy(self) -> np.ndarray:
        """The dense weight."""
        return dense(self.values.borrow(), *self._index)

    @property
    def _index(self) -> tuple[np.ndarray, np.ndarray, tuple[int, ...], int]:
        return self.columns.borrow(), self.rows.borrow(), self.shape, self.first_row

    def __repr__(self) -> str:
        return f"SparseWeight({list(self.shape)}, {self.density:.1%} of them stored)"
