"""Ops that read or write at positions given by data."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..dtypes import float32, float64, int32
from ..errors import DataError, DTypeError, ShapeError
from ..graph import Node, Value, emit
from ..op import (
    TOTAL,
    Check,
    Cotangents,
    Gradients,
    Kernel,
    Op,
    Refusal,
    Rows,
    TensorType,
    register,
)
from ._rows import Axes
from ._strides import normalise_axes
from .check import check_range
from .elementwise import add, cast, multiply
from .fill import arange, constant
from .shape import reshape


def axis_kernel(name: str, last: bool = False) -> Callable[[Node], Kernel]:
    """Bind a kernel that works along one axis of its input (attribute `axis`, or the last)."""

    def bind(node: Node) -> Kernel:
        shape = node.inputs[0].shape
        axis = len(shape) - 1 if last else node.attrs["axis"]
        fields = {
            "outer": math.prod(shape[:axis]),
            "count": shape[axis],
            "inner": math.prod(shape[axis + 1 :]),
            "k": node.attrs.get("k", 0),
        }
        return Kernel(name, "tge_axis_params", fields)

    return bind


def _index_error(which: int, length: Callable[[Node], int]) -> Callable[..., Exception]:
    def refuse(node: Node, arrays: list[np.ndarray], position: int) -> Exception:
        n = length(node)
        index = arrays[which].reshape(-1)[position]
        return DataError(
            f"{node.op.name}: index {index} at position {position} is outside {-n}..{n - 1}"
        )

    return refuse


def _index_check(length: Callable[[Node], int]) -> Check:
    def emit_check(indices: Value, node: Node) -> Node:
        n = length(node)
        return check_range(indices, -n, n - 1, f"{node.op.name}: index")

    return Check(1, emit_check)


def _checked(indices: np.ndarray, length: int) -> np.ndarray:
    bad = np.flatnonzero((indices < -length) | (indices >= length))
    if bad.size:
        raise Refusal(int(bad[0]))
    return np.where(indices < 0, indices + length, indices)


def _indices(indices: Value) -> None:
    if indices.dtype is not int32 or len(indices.shape) != 1:
        raise DTypeError("indices must be one axis of int32")


def _taken_length(node: Node) -> int:
    return node.inputs[0].shape[node.attrs["axis"]]


def _scattered_length(node: Node) -> int:
    return node.attrs["length"]


def _taken(x: Value, indices: Value, *, axis: int) -> tuple[TensorType, ...]:
    _indices(indices)
    return (TensorType((*x.shape[:axis], indices.size, *x.shape[axis + 1 :]), x.dtype),)


def _take_fields(shape: tuple[int, ...], axis: int, count: int, itemsize: int) -> dict[str, int]:
    return {
        "outer": math.prod(shape[:axis]),
        "length": shape[axis],
        "indices": count,
        "inner": math.prod(shape[axis + 1 :]),
        "itemsize": itemsize,
    }


def _take_kernel(node: Node) -> Kernel:
    x, indices = node.inputs
    fields = _take_fields(x.shape, node.attrs["axis"], indices.size, x.dtype.itemsize)
    return Kernel("take", "tge_take_params", fields)


def _take_vjp(node: Node, g: Cotangents) -> Gradients:
    x, indices = node.inputs
    axis = node.attrs["axis"]
    return scatter_add(g[0], indices, x.shape[axis], axis), None


def _take_rows(node: Node, axes: Axes, parts: int) -> Rows | None:
    x, indices = axes
    axis = node.attrs["axis"]
    if x is None:
        return Rows((None, indices), (axis,))
    return Rows(axes, (x,)) if indices is None and x != axis else None


_TAKE = register(
    Op(
        "take",
        _taken,
        lambda x, indices, *, axis: (np.take(x, _checked(indices, x.shape[axis]), axis),),
        _take_vjp,
        kernel=_take_kernel,
        flops=lambda node: 0,
        bytes=lambda node: 2 * node.outputs[0].nbytes + node.inputs[1].nbytes,
        rows=_take_rows,
        refuse=_index_error(1, _taken_length),
        check=_index_check(_taken_length),
    )
)


def _scattered(updates: Value, indices: Value, *, length: int, axis: int) -> tuple[TensorType, ...]:
    _indices(indices)
    if updates.dtype not in (float32, float64):
        raise DTypeError("updates must be float32; cast first")
    if updates.shape[axis] != indices.size:
        raise ShapeError(
            f"axis {axis} of the updates must have {indices.size} entries, one an index"
        )
    return (TensorType((*updates.shape[:axis], length, *updates.shape[axis + 1 :]), updates.dtype),)


def _scatter_reference(
    updates: np.ndarray, indices: np.ndarray, *, length: int, axis: int
) -> tuple[np.ndarray, ...]:
    y = np.zeros((*updates.shape[:axis], length, *updates.shape[axis + 1 :]), updates.dtype)
    place: Any = (slice(None),) * axis + (_checked(indices, length),)
    np.add.at(y, place, updates)
    return (y,)


def _scatter_kernel(node: Node) -> Kernel:
    updates, indices = node.inputs
    shape = node.outputs[0].shape
    fields = _take_fields(shape, node.attrs["axis"], indices.size, updates.dtype.itemsize)
    return Kernel("scatter_add_f32", "tge_take_params", fields)


def _scatter_rows(node: Node, axes: Axes, parts: int) -> Rows | None:
    updates, indices = axes
    axis = node.attrs["axis"]
    if updates in (None, axis):
        return Rows((axis, 0), (TOTAL,))
    return Rows(axes, (updates,)) if indices is None else None


_SCATTER_ADD = register(
    Op(
        "scatter_add",
        _scattered,
        _scatter_reference,
        lambda node, g: (take(g[0], node.inputs[1], node.attrs["axis"]), None),
        kernel=_scatter_kernel,
        flops=lambda node: node.inputs[0].size,
        rows=_scatter_rows,
        refuse=_index_error(1, _scattered_length),
        check=_index_check(_scattered_length),
    )
)


def take(x: Value, indices: Value, axis: int = 0) -> Value:
    """Entries of an axis at int32 indices of any shape; negative ones count from the end."""
    (axis,) = normalise_axes(axis, len(x.shape))
    flat = reshape(cast(indices, int32), (indices.size,))
    rows = emit(_TAKE, x, flat, axis=axis).outputs[0]
    return reshape(rows, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


def scatter_add(updates: Value, indices: Value, length: int, axis: int = 0) -> Value:
    """Zeros of `length` along an axis, plus each update at its index: the adjoint of `take`."""
    (axis,) = normalise_axes(axis, len(updates.shape))
    return emit(_SCATTER_ADD, updates, cast(indices, int32), length=length, axis=axis).outputs[0]


def along_axis(x: Value, positions: Value) -> Value:
    """Entries of the last axis at positions of their own in each row."""
    n = x.shape[-1]
    rows = math.prod(x.shape[:-1])
    starts = multiply(arange(rows), constant(n, int32))
    flat = add(reshape(positions, (rows, positions.shape[-1])), reshape(starts, (rows, 1)))
    return reshape(take(reshape(x, (x.size,)), flat), positions.shape)
