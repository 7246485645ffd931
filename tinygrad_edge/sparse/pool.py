"""The pool: all non-zeros of a network, in three arrays of fixed capacity."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from ..dtypes import DType, float32, int32, uint16
from ..graph import Cell
from ..nn import Buffer, Module
from ..nn.initial import Initial
from ..nn.module import parameter
from ..ops import segments_of
from ..ops.sparse import SEGMENT
from ..parameter import Parameter
from ..sparse_weight import SparseWeight

__all__ = ["Pool", "Topology"]


class Topology(NamedTuple):
    """Where the non-zeros of a network are.

    Attributes
    ----------
    rows : array of int32
    columns : array of uint16
    """

    rows: np.ndarray
    columns: np.ndarray


class _Index(Buffer):
    """Where non-zeros are: a buffer that has a row of its own in the ledger."""

    __slots__ = ()

    def __init__(self, array: np.ndarray, dtype: DType, check: Callable) -> None:
        cell = Cell("", array.shape, dtype, "index")
        cell.fill(array)
        cell.check = check
        Parameter.__init__(self, cell, requires_grad=False)


class Pool(Module):
    """The non-zeros of all sparse layers of a network: what training changes, moves and saves.

    To an optimizer it is one parameter, ``values``, whose moments are as long as it is. Where the
    non-zeros are is data, so that no plan changes when they move; what is beyond the last one is 0.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        Shape of each sparse weight, by its dotted name.
    topology : Topology
    initial : callable
        Makes the first values.

    Attributes
    ----------
    values : Parameter [capacity]
    columns : Buffer of uint16 [capacity]
        Position in a row of the weight seen as [K, C * R * S], ascending within each row.
    rows : Buffer of int32
        Where each row begins, and where the last one ends.
    layers : dict of str to SparseWeight
    """

    def __init__(
        self, shapes: Mapping[str, tuple[int, ...]], topology: Topology, initial: Initial
    ) -> None:
        super().__init__()
        self.values = parameter(topology.columns.shape, initial)
        self.columns = _Index(topology.columns, uint16, self._misfit)
        self.rows = _Index(topology.rows, int32, self._misfit)
        self.layers: dict[str, SparseWeight] = {}
        first = 0
        for name, shape in shapes.items():
            last = first + shape[0] * segments_of(shape)
            nonzeros = int(topology.rows[last] - topology.rows[first])
            index = self.values, self.columns, self.rows
            self.layers[name] = SparseWeight(*index, shape, first, nonzeros)
            first = last

    @property
    def capacity(self) -> int:
        """How many non-zeros there is room for."""
        return self.values.shape[0]

    @property
    def nonzeros(self) -> int:
        """How many there are now."""
        return int(self.rows.borrow()[-1])

    @property
    def nbytes(self) -> int:
        """Bytes of values and index."""
        return sum(p.cell.type.nbytes for p in (self.values, self.columns, self.rows))

    @property
    def dense_nbytes(self) -> int:
        """Bytes that the same weights would have as dense arrays."""
        sizes = (math.prod(layer.shape) for layer in self.layers.values())
        return sum(sizes) * float32.itemsize

    def _misfit(self, contents: Mapping[Cell, np.ndarray]) -> str | None:
        """What is wrong with an index that is to be loaded, which kernels would believe."""
        rows, columns = (
            contents.get(p.cell, p.cell.array).astype(np.int64) for p in (self.rows, self.columns)
        )
        name = self.rows.cell.name
        if rows[0] or (np.diff(rows) < 0).any() or rows[-1] > self.capacity:
            return f"{name} must ascend from 0 to at most {self.capacity}"
        for layer_name, layer in self.layers.items():
            segments, width = segments_of(layer.shape), math.prod(layer.shape[1:])
            starts = rows[layer.first_row : layer.first_row + layer.row_count + 1]
            own = columns[starts[0] : starts[-1]]
            segment = np.repeat(np.arange(layer.row_count) % segments, np.diff(starts))
            if (segment * SEGMENT + own >= width).any():
                return f"{self.columns.cell.name}: {layer_name} has only {width} columns"
            inner = np.ones(len(own), bool)
            inner[starts[:-1][starts[:-1] < starts[-1]] - starts[0]] = False
            if len(own) and (np.diff(own, prepend=-1)[inner] <= 0).any():
                return f"{self.columns.cell.name}: the columns of a row of {layer_name} must ascend"
        return None

    def _describe(self) -> str:
        return (
            f"{self.nonzeros:,} non-zeros in {len(self.layers)} layers, "
            f"{self.nbytes / max(self.dense_nbytes, 1):.2f} of their dense bytes"
        )
