"""Matrix products."""

from __future__ import annotations

import math

import numpy as np

from ..errors import ShapeError
from ..graph import Node, Value, emit
from ..op import TOTAL, Cotangents, Gradients, Kernel, Op, Rows, TensorType, register
from ._factors import smaller_first
from ._rows import Axes
from ._strides import broadcast_shapes
from .elementwise import promote
from .shape import broadcast_to, reshape


def _sizes(a: Value, b: Value, transpose_a: bool, transpose_b: bool) -> tuple[int, int, int]:
    """M, N, K of the product."""
    m, k = a.shape[:0:-1] if transpose_a else a.shape[1:]
    k_b, n = b.shape[:0:-1] if transpose_b else b.shape[1:]
    if k != k_b:
        raise ShapeError(f"inner sizes {k} and {k_b} differ")
    return m, n, k


def _product(a: Value, b: Value, *, transpose_a: bool, transpose_b: bool) -> tuple[TensorType, ...]:
    m, n, _ = _sizes(a, b, transpose_a, transpose_b)
    batch = {a.shape[0], b.shape[0]} - {1}
    if len(batch) > 1:
        raise ShapeError(f"batch sizes {a.shape[0]} and {b.shape[0]} differ")
    return (TensorType((max(batch, default=1) if 0 not in batch else 0, m, n), a.dtype),)


def _reference(
    a: np.ndarray, b: np.ndarray, *, transpose_a: bool, transpose_b: bool
) -> tuple[np.ndarray, ...]:
    return (
        np.matmul(a.swapaxes(1, 2) if transpose_a else a, b.swapaxes(1, 2) if transpose_b else b),
    )


def _flops(node: Node) -> int:
    a, b = node.inputs
    _, _, k = _sizes(a, b, **node.attrs)
    return 2 * k * node.outputs[0].size


def _vjp(node: Node, g: Cotangents) -> Gradients:
    a, b = node.inputs
    ta, tb = node.attrs["transpose_a"], node.attrs["transpose_b"]

    def grad_a() -> Value:
        return _emit(b, g[0], tb, True) if ta else _emit(g[0], b, False, not tb)

    def grad_b() -> Value:
        return _emit(g[0], a, True, ta) if tb else _emit(a, g[0], not ta, False)

    return smaller_first(a, b, grad_a, grad_b)


def _kernel(node: Node) -> Kernel:
    a, b = node.inputs
    m, n, k = _sizes(a, b, **node.attrs)
    fields = {
        "batch": node.outputs[0].shape[0],
        "m": m,
        "n": n,
        "k": k,
        "a_batch_stride": 0 if a.shape[0] == 1 else m * k,
        "b_batch_stride": 0 if b.shape[0] == 1 else k * n,
        "transpose_a": int(node.attrs["transpose_a"]),
        "transpose_b": int(node.attrs["transpose_b"]),
    }
    return Kernel("matmul_f32", "tge_matmul_params", fields)


def _rows(node: Node, axes: Axes, parts: int) -> Rows | None:
    a, b = node.inputs
    ta, tb = node.attrs["transpose_a"], node.attrs["transpose_b"]
    roles = (("batch", *("kr" if ta else "rk")), ("batch", *("ck" if tb else "kc")))
    found = {of[axis] for of, axis in zip(roles, axes, strict=True) if axis is not None}
    if len(found) != 1:
        return None
    (role,) = found
    inputs = tuple(
        of.index(role) if role in of and v.shape[of.index(role)] > 1 else None
        for of, v in zip(roles, (a, b), strict=True)
    )
    outputs: dict[str, int | str] = {"batch": 0, "r": 1, "c": 2, "k": TOTAL}
    return Rows(inputs, (outputs[role],))


_MATMUL = register(
    Op("matmul", _product, _reference, _vjp, kernel=_kernel, flops=_flops, rows=_rows)
)


def _emit(a: Value, b: Value, transpose_a: bool, transpose_b: bool) -> Value:
    return emit(_MATMUL, a, b, transpose_a=transpose_a, transpose_b=transpose_b).outputs[0]


def matmul(a: Value, b: Value, transpose_a: bool = False, transpose_b: bool = False) -> Value:
    """Matrix product of the last two axes; leading axes broadcast, 1-d inputs as NumPy's matmul.

    The flags read the last two axes of an input in the other order, at no cost.
    """
    a, b = promote(a, b, floating=True)
    if not a.shape or not b.shape:
        raise ShapeError(
            f"matmul: inputs need at least one axis, got {list(a.shape)} and {list(b.shape)}"
        )
    a_2d = reshape(a, (1, a.size)) if len(a.shape) == 1 else a
    b_2d = reshape(b, (b.size, 1)) if len(b.shape) == 1 else b
    batch = broadcast_shapes(a_2d.shape[:-2], b_2d.shape[:-2])
    if len(b_2d.shape) == 2 and not transpose_a:
        # One matrix on the right serves all rows: a single tall product.
        rows = reshape(a_2d, (1, math.prod(a_2d.shape[:-1]), a_2d.shape[-1]))
        out = _emit(rows, reshape(b_2d, (1, *b_2d.shape)), False, transpose_b)
    else:
        out = _emit(_flat(a_2d, batch), _flat(b_2d, batch), transpose_a, transpose_b)
    m = () if len(a.shape) == 1 else (a_2d.shape[-1 if transpose_a else -2],)
    n = () if len(b.shape) == 1 else (b_2d.shape[-2 if transpose_b else -1],)
    return reshape(out, (*batch, *m, *n))


def _flat(x: Value, batch: tuple[int, ...]) -> Value:
    """One batch axis: of size one where the input is the same for all, else the whole batch."""
    matrix = x.shape[-2:]
    if all(n == 1 for n in x.shape[:-2]):
        return reshape(x, (1, *matrix))
    return reshape(broadcast_to(x, (*batch, *matrix)), (math.prod(batch), *matrix))
