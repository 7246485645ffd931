"""Reductions along axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..dtypes import bool_, int8, int32, uint8
from ..errors import DTypeError, ShapeError
from ..graph import Node, Value, emit
from ..op import TOTAL, Cotangents, Gradients, Kernel, Op, Rows, TensorType, register
from ._rows import Axes, untouched
from ._strides import contiguous_strides, merge_axes, normalise_axes, padded
from .elementwise import cast, divide, equal, multiply, promote
from .fill import constant
from .indexing import along_axis, axis_kernel
from .shape import broadcast_to, reshape, transpose


def _reduced(x: Value, *, axes: tuple[int, ...]) -> tuple[TensorType, ...]:
    if x.dtype in (bool_, int8, uint8):
        raise DTypeError("the input must be a float or int32; cast first")
    return (TensorType(tuple(n for a, n in enumerate(x.shape) if a not in axes), x.dtype),)


def _maximised(x: Value, *, axes: tuple[int, ...]) -> tuple[TensorType, ...]:
    if not x.dtype.is_float:
        raise DTypeError("the input must be a float; cast first")
    if any(x.shape[a] == 0 for a in axes):
        raise ShapeError(f"the maximum over an empty axis of {list(x.shape)} does not exist")
    return _reduced(x, axes=axes)


def _reduce_kernel(name: str) -> Callable[[Node], Kernel]:
    def bind(node: Node) -> Kernel:
        x, axes = node.inputs[0], node.attrs["axes"]
        strides = contiguous_strides(x.shape)
        kept = [a for a in range(len(x.shape)) if a not in axes]
        kept_shape, (kept_strides,) = merge_axes(
            [x.shape[a] for a in kept], [strides[a] for a in kept]
        )
        shape, (steps,) = merge_axes([x.shape[a] for a in axes], [strides[a] for a in axes])
        suffix = "i32" if x.dtype is int32 else "f32"
        return Kernel(
            f"{name}_{suffix}",
            "tge_reduce_params",
            {
                "kept": len(kept_shape),
                "reduced": len(shape),
                "kept_shape": padded(kept_shape, 1),
                "kept_strides": padded(kept_strides),
                "reduced_shape": padded(shape, 1),
                "reduced_strides": padded(steps),
            },
        )

    return bind


def unreduce(x: Value, shape: tuple[int, ...], axes: tuple[int, ...]) -> Value:
    """View a reduced value with its axes back as ones, so that it broadcasts against `shape`."""
    return reshape(x, tuple(1 if a in axes else n for a, n in enumerate(shape)))


def _sum_vjp(node: Node, g: Cotangents) -> Gradients:
    x = node.inputs[0]
    return (broadcast_to(unreduce(g[0], x.shape, node.attrs["axes"]), x.shape),)


def _rest_rows(node: Node, axes: Axes, parts: int) -> Rows | None:
    (axis,) = axes
    gone = node.attrs["axes"]
    if axis is None or axis in gone:
        return None
    return Rows(axes, (axis - sum(a < axis for a in gone),))


def _sum_rows(node: Node, axes: Axes, parts: int) -> Rows | None:
    over = axes[0] in node.attrs["axes"]
    return Rows(axes, (TOTAL,)) if over else _rest_rows(node, axes, parts)


_SUM = register(
    Op(
        "sum",
        _reduced,
        lambda x, *, axes: (np.asarray(np.sum(x, axis=axes, dtype=x.dtype)),),
        _sum_vjp,
        kernel=_reduce_kernel("sum"),
        rows=_sum_rows,
    )
)


def _max_vjp(node: Node, g: Cotangents) -> Gradients:
    """Share the gradient between equal maxima, so that the rule is symmetric."""
    x, axes = node.inputs[0], node.attrs["axes"]
    wins = cast(equal(x, unreduce(node.outputs[0], x.shape, axes)), x.dtype)
    share = divide(g[0], emit(_SUM, wins, axes=axes).outputs[0])
    return (multiply(wins, unreduce(share, x.shape, axes)),)


_MAX = register(
    Op(
        "max",
        _maximised,
        lambda x, *, axes: (np.asarray(np.max(x, axis=axes)),),
        _max_vjp,
        kernel=_reduce_kernel("max"),
        rows=_rest_rows,
    )
)


def _keep(y: Value, x: Value, axes: tuple[int, ...], keepdims: bool) -> Value:
    return unreduce(y, x.shape, axes) if keepdims else y


def sum_(x: Value, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Value:
    """Sum along axes; bool and small integers count as int32."""
    (x,) = promote(x)
    axes = normalise_axes(axis, len(x.shape))
    return _keep(emit(_SUM, x, axes=axes).outputs[0] if axes else x, x, axes, keepdims)


def mean(x: Value, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Value:
    """Arithmetic mean along axes."""
    (x,) = promote(x, floating=True)
    axes = normalise_axes(axis, len(x.shape))
    count = 1
    for a in axes:
        count *= x.shape[a]
    if count == 0:
        raise ShapeError(f"mean: the mean over an empty axis of {list(x.shape)} does not exist")
    return multiply(sum_(x, axes, keepdims), constant(1.0 / count, x.dtype))


def max_(x: Value, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Value:
    """Maximum along axes; NaN if there is one. Equal maxima share the gradient."""
    (x,) = promote(x, floating=True)
    axes = normalise_axes(axis, len(x.shape))
    return _keep(emit(_MAX, x, axes=axes).outputs[0] if axes else x, x, axes, keepdims)


def sum_to(x: Value, shape: tuple[int, ...]) -> Value:
    """Sum over the axes along which `shape` was broadcast to the shape of `x`."""
    if x.shape == shape:
        return x
    lead = len(x.shape) - len(shape)
    axes = tuple(a for a, n in enumerate(x.shape) if a < lead or (shape[a - lead] == 1 and n != 1))
    return reshape(sum_(x, axes), shape) if axes else reshape(x, shape)


# ---- positions ----


def _argmax_type(x: Value, *, axis: int) -> tuple[TensorType, ...]:
    if not x.dtype.is_float:
        raise DTypeError("the input must be a float; cast first")
    if x.shape[axis] == 0:
        raise ShapeError(f"axis {axis} of {list(x.shape)} is empty")
    return (TensorType(x.shape[:axis] + x.shape[axis + 1 :], int32),)


_ARGMAX = register(
    Op(
        "argmax",
        _argmax_type,
        lambda x, *, axis: (np.asarray(np.argmax(x, axis)).astype(np.int32),),
        differentiable=False,
        kernel=axis_kernel("argmax_f32"),
        rows=untouched,
    )
)


def argmax(x: Value, axis: int | None = None, keepdims: bool = False) -> Value:
    """Position of the maximum, the first of equals, as int32; None means of the flattened input."""
    (x,) = promote(x, floating=True)
    flat = reshape(x, (x.size,)) if axis is None else x
    (a,) = normalise_axes(0 if axis is None else axis, len(flat.shape))
    found = emit(_ARGMAX, flat, axis=a).outputs[0]
    if not keepdims:
        return found
    return reshape(found, (1,) * len(x.shape)) if axis is None else unreduce(found, x.shape, (a,))


def _topk_type(x: Value, *, k: int) -> tuple[TensorType, ...]:
    if not x.dtype.is_float:
        raise DTypeError("the input must be a float; cast first")
    if not 0 <= k <= x.shape[-1]:
        raise ShapeError(f"k = {k} is outside 0..{x.shape[-1]}")
    return (TensorType((*x.shape[:-1], k), int32),)


def _topk_reference(x: np.ndarray, *, k: int) -> tuple[np.ndarray, ...]:
    """NaN first, then the largest; among equals the lower index, because the sort is stable."""
    nan = np.isnan(x)
    order = np.lexsort((np.where(nan, 0, -x), ~nan), axis=-1)
    return (order[..., :k].astype(np.int32),)


_TOPK = register(
    Op(
        "topk",
        _topk_type,
        _topk_reference,
        differentiable=False,
        kernel=axis_kernel("topk_f32", last=True),
        rows=untouched,
    )
)


def topk(x: Value, k: int, axis: int = -1) -> tuple[Value, Value]:
    """The k largest along an axis, largest first, and their positions (int32)."""
    (x,) = promote(x, floating=True)
    ndim = len(x.shape)
    (a,) = normalise_axes(axis, ndim)
    order = tuple(i for i in range(ndim) if i != a) + (a,)
    last = transpose(x, order)
    positions = emit(_TOPK, last, k=k).outputs[0]
    back = tuple(int(i) for i in np.argsort(order))
    return transpose(along_axis(last, positions), back), transpose(positions, back)
