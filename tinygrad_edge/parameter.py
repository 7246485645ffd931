"""Tensors that live in cells."""

from __future__ import annotations

import weakref
from copy import deepcopy
from typing import Any

import numpy as np

from . import trace
from .dtypes import DType
from .errors import ShapeError
from .graph import Cell, Value
from .tensor import Tensor, entering

__all__ = ["Parameter"]


class Parameter(Tensor):
    """A tensor that lives in a cell: training updates it in place.

    Parameters
    ----------
    cell : Cell
    requires_grad : bool
    """

    __slots__ = ("cell",)

    def __init__(self, cell: Cell, requires_grad: bool = True) -> None:
        self.cell = cell
        self._requires_grad = requires_grad
        self._grad = None
        self._grad_handle = None

    @property
    def value(self) -> Value:
        """A read of the newest version."""
        active = trace.current()
        value = active.read(self.cell)
        if value.handle is None:
            value.handle = weakref.ref(self)
            active.depends_on(self, "requires_grad")
            active.depends_on(self.cell, "kind")
        return value

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self.cell.type.shape

    @property
    def dtype(self) -> DType:
        """Element type."""
        return self.cell.type.dtype

    def realize(self) -> Parameter:
        """Run what is pending for the cell."""
        active = trace.current()
        if active.newest.get(self.cell) is not active.base.get(self.cell):
            active.run()
        return self

    def borrow(self) -> np.ndarray:
        """The cell's array itself, not to be written to."""
        self.realize()
        return self.cell.array

    def assign(self, data: Any) -> None:
        """Replace the contents, at once.

        Parameters
        ----------
        data : array_like of the same shape
        """
        array = entering(data.numpy() if isinstance(data, Tensor) else data, self.dtype)
        if array.shape != self.shape:
            raise ShapeError(f"{self.cell.name!r} is {list(self.shape)}, got {list(array.shape)}")
        active = trace.current()
        active.run()
        self.cell.fill(array)
        active.overwritten(self.cell)

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        # Of its own cell; a gradient is not copied.
        self.realize()
        twin = type(self).__new__(type(self))
        Parameter.__init__(twin, deepcopy(self.cell, memo), self.requires_grad)
        return twin

    def cut(self) -> None:
        """Nothing: a cell has no history."""
