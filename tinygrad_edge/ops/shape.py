"""Ops that move elements without changing them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DTypeError, ShapeError
from ..graph import Node, Value, emit
from ..op import Cotangents, Gradients, Kernel, Op, Rows, TensorType, register
from ._rows import Axes, broadcasting, cut, regrouped
from ._strides import (
    broadcast_shapes,
    broadcast_strides,
    contiguous_strides,
    merge_axes,
    normalise_axes,
    normalise_shape,
    padded,
)


def copy_kernel(
    value: Value,
    shape: Sequence[int],
    output: tuple[Sequence[int], int],
    source: tuple[Sequence[int], int],
    fill: int = 0,
) -> Kernel:
    """Bind a strided copy: (strides, offset) of output and source, elements to zero before."""
    merged, (to, of) = merge_axes(shape, output[0], source[0])
    fields: dict[str, Any] = {
        "itemsize": value.dtype.itemsize,
        "ndim": len(merged),
        "fill_count": fill,
        "output_offset": output[1],
        "input_offset": source[1],
        "shape": padded(merged, 1),
        "output_strides": padded(to),
        "input_strides": padded(of),
    }
    return Kernel("copy", "tge_copy_params", fields)


def contiguous_copy(value: Value) -> Kernel:
    """Bind a copy of all of a value."""
    return copy_kernel(value, (value.size,), ((1,), 0), ((1,), 0))


def _contiguous(x: np.ndarray) -> np.ndarray:
    """Row-major memory; unlike np.ascontiguousarray it leaves 0-d arrays 0-d."""
    return np.asarray(x, order="C")


# ---- reshape: the same memory ----


def _reshape_rows(node: Node, axes: Axes, parts: int) -> Rows | None:
    x, y = node.inputs[0], node.outputs[0]
    axis = None if axes[0] is None else regrouped(x.shape, axes[0], y.shape, parts)
    return None if axis is None else Rows(axes, (axis,), {"shape": cut(y.shape, axis, parts)})


_RESHAPE = register(
    Op(
        "reshape",
        lambda x, *, shape: (TensorType(normalise_shape(shape, x.size), x.dtype),),
        lambda x, *, shape: (x.reshape(shape),),
        lambda node, g: (reshape(g[0], node.inputs[0].shape),),
        flops=lambda node: 0,
        bytes=lambda node: 0,
        alias=True,
        rows=_reshape_rows,
    )
)


def reshape(x: Value, shape: Sequence[int]) -> Value:
    """The same elements in order under another shape; one size may be -1."""
    shape = tuple(shape)
    return x if shape == x.shape else emit(_RESHAPE, x, shape=shape).outputs[0]


def view(x: Value) -> Value:
    """The same memory as a value of its own, to differentiate by this use of it alone."""
    return emit(_RESHAPE, x, shape=x.shape).outputs[0]


_DETACH = register(
    Op(
        "detach",
        lambda x: (x.type,),
        lambda x: (x,),
        differentiable=False,
        flops=lambda node: 0,
        bytes=lambda node: 0,
        alias=True,
        rows=broadcasting,
    )
)


def detach(x: Value) -> Value:
    """The same memory as a constant to differentiation."""
    return emit(_DETACH, x).outputs[0]


# ---- transpose ----


def _transposed(x: Value, *, axes: tuple[int, ...]) -> tuple[TensorType, ...]:
    if sorted(axes) != list(range(len(x.shape))):
        raise ShapeError(f"axes {axes} are not a permutation of {len(x.shape)} axes")
    return (TensorType(tuple(x.shape[a] for a in axes), x.dtype),)


def _transpose_kernel(node: Node) -> Kernel:
    x, y = node.inputs[0], node.outputs[0]
    strides = contiguous_strides(x.shape)
    source = tuple(strides[a] for a in node.attrs["axes"])
    return copy_kernel(x, y.shape, (contiguous_strides(y.shape), 0), (source, 0))


_TRANSPOSE = register(
    Op(
        "transpose",
        _transposed,
        lambda x, *, axes: (_contiguous(x.transpose(axes)),),
        lambda node, g: (transpose(g[0], tuple(int(a) for a in np.argsort(node.attrs["axes"]))),),
        kernel=_transpose_kernel,
        flops=lambda node: 0,
        rows=lambda node, axes, parts: Rows(axes, (node.attrs["axes"].index(axes[0]),)),
    )
)


def transpose(x: Value, axes: Sequence[int] | None = None) -> Value:
    """Permute the axes; by default reverse them."""
    ndim = len(x.shape)
    order = (
        tuple(reversed(range(ndim)))
        if axes is None
        else tuple(a % ndim if ndim else a for a in axes)
    )
    return x if order == tuple(range(ndim)) else emit(_TRANSPOSE, x, axes=order).outputs[0]


# ---- broadcast ----


def _broadcast(x: Value, *, shape: tuple[int, ...]) -> tuple[TensorType, ...]:
    if broadcast_shapes(x.shape, shape) != shape:
        raise ShapeError(f"shape {list(x.shape)} does not broadcast to {list(shape)}")
    return (TensorType(shape, x.dtype),)


def _broadcast_kernel(node: Node) -> Kernel:
    x, y = node.inputs[0], node.outputs[0]
    return copy_kernel(
        x, y.shape, (contiguous_strides(y.shape), 0), (broadcast_strides(x.shape, y.shape), 0)
    )


def _broadcast_rows(node: Node, axes: Axes, parts: int) -> Rows | None:
    rows = broadcasting(node, axes, parts)
    if rows is None or isinstance(rows.outputs[0], str):
        return None
    return rows._replace(attrs={"shape": cut(node.attrs["shape"], rows.outputs[0], parts)})


BROADCAST_TO = register(
    Op(
        "broadcast_to",
        _broadcast,
        lambda x, *, shape: (_contiguous(np.broadcast_to(x, shape)),),
        lambda node, g: (g[0],),  # the engine sums it back
        kernel=_broadcast_kernel,
        flops=lambda node: 0,
        rows=_broadcast_rows,
    )
)


def broadcast_to(x: Value, shape: Sequence[int]) -> Value:
    """Repeat along axes of size one and new leading axes."""
    shape = tuple(shape)
    return x if shape == x.shape else emit(BROADCAST_TO, x, shape=shape).outputs[0]


# ---- slice and pad: adjoint to each other ----


def _sliced(x: Value, *, start: tuple, stop: tuple, step: tuple) -> tuple[TensorType, ...]:
    sizes = []
    for n, a, b, s in zip(x.shape, start, stop, step, strict=True):
        if s < 1 or not 0 <= a <= b <= n:
            raise ShapeError(f"slice {a}:{b}:{s} does not fit an axis of {n}")
        sizes.append(-(-(b - a) // s))
    return (TensorType(tuple(sizes), x.dtype),)


def _slice_kernel(node: Node) -> Kernel:
    x, y = node.inputs[0], node.outputs[0]
    strides = contiguous_strides(x.shape)
    offset = sum(a * s for a, s in zip(node.attrs["start"], strides, strict=True))
    steps = [s * k for s, k in zip(strides, node.attrs["step"], strict=True)]
    return copy_kernel(x, y.shape, (contiguous_strides(y.shape), 0), (steps, offset))


def _slice_vjp(node: Node, g: Cotangents) -> Gradients:
    start, step = node.attrs["start"], node.attrs["step"]
    shape, sizes = node.inputs[0].shape, node.outputs[0].shape
    high = tuple(
        n - a - (m - 1) * s - 1 if m else n - a
        for n, a, m, s in zip(shape, start, sizes, step, strict=True)
    )
    return (pad(g[0], start, high, tuple(s - 1 for s in step)),)


def _slice_rows(node: Node, axes: Axes, parts: int) -> Rows | None:
    (axis,) = axes
    x, y = node.inputs[0], node.outputs[0]
    if axis is None or x.shape[axis] != y.shape[axis]:
        return None
    return Rows(axes, (axis,), {"stop": cut(node.attrs["stop"], axis, parts)})


_SLICE = register(
    Op(
        "slice",
        _sliced,
        lambda x, *, start, stop, step: (_contiguous(x[tuple(map(slice, start, stop, step))]),),
        _slice_vjp,
        kernel=_slice_kernel,
        flops=lambda node: 0,
        rows=_slice_rows,
        bytes=lambda node: 2 * node.outputs[0].nbytes,
    )
)


def slice_(x: Value, start: tuple[int, ...], stop: tuple[int, ...], step: tuple[int, ...]) -> Value:
    """Every step-th element of start <= i < stop along each axis; steps are positive."""
    return emit(_SLICE, x, start=start, stop=stop, step=step).outputs[0]


def _pad_sizes(shape: Sequence[int], low: tuple, high: tuple, interior: tuple) -> tuple[int, ...]:
    return tuple(
        a + n + max(n - 1, 0) * i + b for n, a, b, i in zip(shape, low, high, interior, strict=True)
    )


def _padded(x: Value, *, low: tuple, high: tuple, interior: tuple) -> tuple[TensorType, ...]:
    if (
        not len(low) == len(high) == len(interior) == len(x.shape)
        or min((0, *low, *high, *interior)) < 0
    ):
        raise ShapeError(
            f"padding {low}, {high}, {interior} must be non-negative, one for each axis"
        )
    return (TensorType(_pad_sizes(x.shape, low, high, interior), x.dtype),)


def _pad_reference(
    x: np.ndarray, *, low: tuple, high: tuple, interior: tuple
) -> tuple[np.ndarray, ...]:
    y = np.zeros(_pad_sizes(x.shape, low, high, interior), x.dtype)
    place = tuple(
        slice(a, a + max(n - 1, 0) * (i + 1) + (n > 0), i + 1)
        for n, a, i in zip(x.shape, low, interior, strict=True)
    )
    y[place] = x
    return (y,)


def _pad_kernel(node: Node) -> Kernel:
    x, y = node.inputs[0], node.outputs[0]
    strides = contiguous_strides(y.shape)
    offset = sum(a * s for a, s in zip(node.attrs["low"], strides, strict=True))
    steps = [s * (i + 1) for s, i in zip(strides, node.attrs["interior"], strict=True)]
    return copy_kernel(x, x.shape, (steps, offset), (contiguous_strides(x.shape), 0), fill=y.size)


def _pad_vjp(node: Node, g: Cotangents) -> Gradients:
    low, interior = node.attrs["low"], node.attrs["interior"]
    stop = tuple(
        a + max(n - 1, 0) * (i + 1) + (n > 0)
        for n, a, i in zip(node.inputs[0].shape, low, interior, strict=True)
    )
    return (slice_(g[0], low, stop, tuple(i + 1 for i in interior)),)


def _pad_rows(node: Node, axes: Axes, parts: int) -> Rows | None:
    (axis,) = axes
    if axis is None or node.inputs[0].shape[axis] != node.outputs[0].shape[axis]:
        return None
    return Rows(axes, (axis,))


_PAD = register(
    Op(
        "pad",
        _padded,
        _pad_reference,
        _pad_vjp,
        kernel=_pad_kernel,
        flops=lambda node: 0,
        rows=_pad_rows,
    )
)


def pad(
    x: Value, low: tuple[int, ...], high: tuple[int, ...], interior: tuple[int, ...] | None = None
) -> Value:
    """Zeros before and after each axis, and between its elements."""
    return emit(_PAD, x, low=low, high=high, interior=interior or (0,) * len(low)).outputs[0]


# ---- flip ----


def _flip_kernel(node: Node) -> Kernel:
    x = node.inputs[0]
    strides = list(contiguous_strides(x.shape))
    offset = 0
    for a in node.attrs["axes"]:
        offset += max(x.shape[a] - 1, 0) * strides[a]
        strides[a] = -strides[a]
    return copy_kernel(x, x.shape, (contiguous_strides(x.shape), 0), (strides, offset))


def _flip_rows(node: Node, axes: Axes, parts: int) -> Rows | None:
    (axis,) = axes
    return None if axis is None or axis in node.attrs["axes"] else Rows(axes, (axis,))


_FLIP = register(
    Op(
        "flip",
        lambda x, *, axes: (x.type,),
        lambda x, *, axes: (_contiguous(np.flip(x, axes)),),
        lambda node, g: (flip(g[0], node.attrs["axes"]),),
        kernel=_flip_kernel,
        flops=lambda node: 0,
        rows=_flip_rows,
    )
)


def flip(x: Value, axes: int | Sequence[int] | None = None) -> Value:
    """Reverse the order along axes."""
    return emit(_FLIP, x, axes=normalise_axes(axes, len(x.shape))).outputs[0]


# ---- concatenate ----


def _concatenated(*inputs: Value, axis: int) -> tuple[TensorType, ...]:
    first = inputs[0]
    for v in inputs[1:]:
        if v.dtype is not first.dtype:
            raise DTypeError("inputs must have one dtype")
        if len(v.shape) != len(first.shape) or any(
            n != m for i, (n, m) in enumerate(zip(v.shape, first.shape, strict=True)) if i != axis
        ):
            raise ShapeError(f"shapes must agree in all axes but {axis}")
    size = sum(v.shape[axis] for v in inputs)
    return (TensorType((*first.shape[:axis], size, *first.shape[axis + 1 :]), first.dtype),)


def _concatenate_vjp(node: Node, g: Cotangents) -> Gradients:
    axis, at, parts = node.attrs["axis"], 0, []
    full_shape, ones = node.outputs[0].shape, (1,) * len(node.outputs[0].shape)
    for v in node.inputs:
        start = tuple(at if i == axis else 0 for i in range(len(full_shape)))
        stop = tuple(at + v.shape[axis] if i == axis else n for i, n in enumerate(full_shape))
        parts.append(slice_(g[0], start, stop, ones))
        at += v.shape[axis]
    return tuple(parts)


def _concatenate_kernel(node: Node) -> list[Kernel]:
    """One copy for each input, to its place."""
    axis, y, at, calls = node.attrs["axis"], node.outputs[0], 0, []
    strides = contiguous_strides(y.shape)
    for i, v in enumerate(node.inputs):
        source = (contiguous_strides(v.shape), 0)
        calls.append(
            copy_kernel(v, v.shape, (strides, at * strides[axis]), source)._replace(inputs=(i,))
        )
        at += v.shape[axis]
    return calls


def _concatenate_rows(node: Node, axes: Axes, parts: int) -> Rows | None:
    found = {a for a in axes if a is not None}
    if len(found) != 1 or node.attrs["axis"] in found:
        return None
    (axis,) = found
    return Rows((axis,) * len(axes), (axis,))


_CONCATENATE = register(
    Op(
        "concatenate",
        _concatenated,
        lambda *arrays, axis: (np.concatenate(arrays, axis),),
        _concatenate_vjp,
        kernel=_concatenate_kernel,
        flops=lambda node: 0,
        rows=_concatenate_rows,
    )
)


def concatenate(inputs: Sequence[Value], axis: int = 0) -> Value:
    """Join along an axis."""
    if not inputs:
        raise ShapeError("concatenate: needs at least one input")
    (axis,) = normalise_axes(axis, len(inputs[0].shape))
    return inputs[0] if len(inputs) == 1 else emit(_CONCATENATE, *inputs, axis=axis).outputs[0]
