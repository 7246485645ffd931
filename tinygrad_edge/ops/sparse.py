"""Convolutions whose weights are stored as their non-zeros alone, and the products of their vjps.

The non-zeros of many layers lie in one pool: ``values`` and ``columns``, and ``rows`` that says
where each row begins. A layer of weights [K, C, R, S] has its rows from ``first_row`` on, one for
each output channel and for each 65,536 of its C * R * S columns, so that a column fits in 16 bits.
Where the non-zeros are is data: no plan depends on it. ``nonzeros``, how many the layer had when it
was made, is what the cost is estimated by, and whether dense kernels are used.

As with dense weights, the three products are linear in both inputs and each one's derivatives are
the other two. The gradient of the pool has the pool's shape: what each layer adds to it goes
straight into its place (``sparse_conv2d_accumulate_weights``, which fusion makes from a sum).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..dtypes import int32, uint16
from ..errors import DTypeError, ShapeError
from ..graph import Node, Value, emit, structural
from ..op import OWN, TOTAL, Cotangents, FusionRule, Gradients, Kernel, Op, TensorType, register
from . import conv
from ._rows import first_axis
from .elementwise import ADD, add

__all__ = [
    "PRODUCTS",
    "SEGMENT",
    "SPARSE_CONV2D",
    "dense",
    "is_expanded",
    "places",
    "segments_of",
    "sparse_conv2d",
]

#: Columns of a row: what 16 bits can number.
SEGMENT = 1 << 16

#: The density above which a dense kernel is faster, for products by weights and for the gradient by
#: them: usually, and where that kernel is Winograd's. docs/kernels.md has the measurements.
DENSEST = {False: (0.5, 0.45), True: (0.25, 0.16)}
#: Of both sides, from which on 3 x 3 windows that move by one are Winograd's (csrc/kernels).
WINOGRAD_CHANNELS = 16
#: Times as many elements as a layer's dense weights must both its images have.
SMALL = 8

Shape = tuple[int, ...]


def segments_of(weight_shape: Shape) -> int:
    """Rows of the pool that one output channel has."""
    return max(-(-math.prod(weight_shape[1:]) // SEGMENT), 1)


# ---- shapes ----


def _check_index(columns: Value, rows: Value, weight_shape: Shape, first_row: int) -> None:
    if columns.dtype is not uint16 or rows.dtype is not int32:
        raise DTypeError("columns must be uint16 and rows int32")
    if len(columns.shape) != 1 or len(rows.shape) != 1:
        raise ShapeError("columns and rows must have one axis")
    last = first_row + weight_shape[0] * segments_of(weight_shape)
    if not 0 <= first_row <= last < rows.shape[0]:
        raise ShapeError(f"a layer with rows {first_row}..{last} needs as many and one more")


def _check_values(values: Value, columns: Value, x: Value) -> None:
    if values.shape != columns.shape:
        raise ShapeError(f"the values must be {list(columns.shape)}, as the columns")
    if values.dtype is not x.dtype or not x.dtype.is_float:
        raise DTypeError("inputs must be floats of one dtype; cast first")


def _image(x: Shape, weight_shape: Shape, window: dict) -> Shape:
    return conv.output_shape(x, weight_shape, **window, groups=1)


def _forward_type(
    x: Value,
    values: Value,
    columns: Value,
    rows: Value,
    *,
    weight_shape: Shape,
    first_row: int,
    nonzeros: int,
    **window: conv.Pair,
) -> tuple[TensorType, ...]:
    _check_index(columns, rows, weight_shape, first_row)
    _check_values(values, columns, x)
    return (TensorType(_image(x.shape, weight_shape, window), x.dtype),)


def _data_type(
    gy: Value,
    values: Value,
    columns: Value,
    rows: Value,
    *,
    shape: Shape,
    weight_shape: Shape,
    first_row: int,
    nonzeros: int,
    **window: conv.Pair,
) -> tuple[TensorType, ...]:
    _check_index(columns, rows, weight_shape, first_row)
    _check_values(values, columns, gy)
    conv.check_gradient(gy, _image(shape, weight_shape, window))
    return (TensorType(shape, gy.dtype),)


def _weights_type(
    x: Value,
    gy: Value,
    columns: Value,
    rows: Value,
    *,
    weight_shape: Shape,
    first_row: int,
    nonzeros: int,
    **window: conv.Pair,
) -> tuple[TensorType, ...]:
    _check_index(columns, rows, weight_shape, first_row)
    if x.dtype is not gy.dtype or not x.dtype.is_float:
        raise DTypeError("inputs must be floats of one dtype; cast first")
    conv.check_gradient(gy, _image(x.shape, weight_shape, window))
    return (TensorType(columns.shape, x.dtype),)


def _accumulate_type(total: Value, *inputs: Value, **attrs: Any) -> tuple[TensorType, ...]:
    (found,) = _weights_type(*inputs, **attrs)
    if total.type != found:
        raise ShapeError(f"the gradient of the pool must be {found.dtype}{list(found.shape)}")
    return (found,)


def _candidates_type(
    x: Value,
    gy: Value,
    columns: Value,
    rows: Value,
    *,
    weight_shape: Shape,
    first_row: int,
    count: int,
    **window: conv.Pair,
) -> tuple[TensorType, ...]:
    attrs: dict[str, Any] = {**window, "weight_shape": weight_shape, "first_row": first_row}
    _weights_type(x, gy, columns, rows, nonzeros=0, **attrs)
    if math.prod(weight_shape) >= 1 << 31:
        raise ShapeError(f"elements of {list(weight_shape)} weights have no int32 numbers")
    return (TensorType((count,), int32),)


# ---- meaning: the same products of dense weights ----


def places(
    columns: np.ndarray, rows: np.ndarray, shape: Shape, first: int
) -> tuple[slice, np.ndarray]:
    """The layer's part of the pool, and for each of its non-zeros the element of the weights."""
    segments, width = segments_of(shape), math.prod(shape[1:])
    starts = rows[first : first + shape[0] * segments + 1]
    part = slice(starts[0], starts[-1])
    row = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    return part, row // segments * width + row % segments * SEGMENT + columns[part]


def dense(
    values: np.ndarray, columns: np.ndarray, rows: np.ndarray, shape: Shape, first: int
) -> np.ndarray:
    """The dense weights of a layer."""
    part, elements = places(columns, rows, shape, first)
    weights = np.zeros(math.prod(shape), values.dtype)
    weights[elements] = values[part]
    return weights.reshape(shape)


def _forward(
    x: np.ndarray,
    values: np.ndarray,
    columns: np.ndarray,
    rows: np.ndarray,
    *,
    weight_shape: Shape,
    first_row: int,
    nonzeros: int,
    **window: conv.Pair,
) -> tuple[np.ndarray, ...]:
    w = dense(values, columns, rows, weight_shape, first_row)
    return conv.forward(x, w, **window, groups=1)


def _backward_data(
    gy: np.ndarray,
    values: np.ndarray,
    columns: np.ndarray,
    rows: np.ndarray,
    *,
    shape: Shape,
    weight_shape: Shape,
    first_row: int,
    nonzeros: int,
    **window: conv.Pair,
) -> tuple[np.ndarray, ...]:
    w = dense(values, columns, rows, weight_shape, first_row)
    return conv.backward_data(gy, w, shape=shape, **window, groups=1)


def _backward_weights(
    x: np.ndarray,
    gy: np.ndarray,
    columns: np.ndarray,
    rows: np.ndarray,
    *,
    weight_shape: Shape,
    first_row: int,
    nonzeros: int,
    **window: conv.Pair,
) -> tuple[np.ndarray, ...]:
    part, elements = places(columns, rows, weight_shape, first_row)
    (whole,) = conv.backward_weights(x, gy, shape=weight_shape, **window, groups=1)
    g = np.zeros(columns.shape, x.dtype)
    g[part] = whole.reshape(-1)[elements]
    return (g,)


def _accumulate(total: np.ndarray, *arrays: np.ndarray, **attrs: Any) -> tuple[np.ndarray, ...]:
    return (total + _backward_weights(*arrays, **attrs)[0],)


def _candidates(
    x: np.ndarray,
    gy: np.ndarray,
    columns: np.ndarray,
    rows: np.ndarray,
    *,
    weight_shape: Shape,
    first_row: int,
    count: int,
    **window: conv.Pair,
) -> tuple[np.ndarray, ...]:
    _, elements = places(columns, rows, weight_shape, first_row)
    (whole,) = conv.backward_weights(x, gy, shape=weight_shape, **window, groups=1)
    score = np.abs(whole).reshape(-1)
    score[elements] = np.nan
    found = np.argsort(-score, kind="stable")[: min(count, np.count_nonzero(score >= 0))]
    padded = np.full(count, -1, np.int32)
    padded[: len(found)] = found
    return (padded,)


# ---- derivatives: each of the three by the other two ----


def _layer(node: Node) -> dict:
    return {name: value for name, value in node.attrs.items() if name != "shape"}


def _forward_vjp(node: Node, g: Cotangents) -> Gradients:
    x, values, *index = node.inputs
    attrs = _layer(node)
    # First the gradient of the values: the images that it reads may go before their own is made.
    gw = emit(WEIGHTS, x, g[0], *index, **attrs).outputs[0]
    gx = emit(_DATA, g[0], values, *index, shape=x.shape, **attrs).outputs[0]
    return gx, gw, None, None


def _data_vjp(node: Node, g: Cotangents) -> Gradients:
    gy, values, *index = node.inputs
    attrs = _layer(node)
    ggy = emit(SPARSE_CONV2D, g[0], values, *index, **attrs).outputs[0]
    return ggy, emit(WEIGHTS, g[0], gy, *index, **attrs).outputs[0], None, None


def _weights_vjp(node: Node, g: Cotangents) -> Gradients:
    x, gy, *index = node.inputs
    attrs = _layer(node)
    gx = emit(_DATA, gy, g[0], *index, shape=x.shape, **attrs).outputs[0]
    return gx, emit(SPARSE_CONV2D, x, g[0], *index, **attrs).outputs[0], None, None


def _sum(total: Value, *inputs: Value, **attrs: Any) -> tuple[Value, ...]:
    return (add(total, emit(WEIGHTS, *inputs, **attrs).outputs[0]),)


# ---- kernels ----


def _images(node: Node) -> tuple[Shape, Shape]:
    """Shapes of x and y, whichever of the products the node is."""
    if node.op is SPARSE_CONV2D:
        return node.inputs[0].shape, node.outputs[0].shape
    if node.op is _DATA:
        return node.outputs[0].shape, node.inputs[0].shape
    x, y = node.inputs[-4:-2]
    return x.shape, y.shape


def is_expanded(node: Node) -> bool:
    """Whether a product makes weights, or their gradient, dense in workspace for the dense kernel.

    That is where the dense kernel is faster and dense weights are small beside the images. It
    depends on shapes and on how many non-zeros the layer was made with, and on nothing else.
    """
    if node.op not in PRODUCTS:
        return False
    attrs = node.attrs
    shape = attrs["weight_shape"]
    size = math.prod(shape)
    images = sum(math.prod(image) for image in _images(node))
    tiled = shape[2:] == (3, 3) and attrs["stride"] == attrs["dilation"] == (1, 1)
    by_weights = node.op in (WEIGHTS, _ACCUMULATE)
    densest = DENSEST[tiled and min(shape[:2]) >= WINOGRAD_CHANNELS][by_weights]
    return attrs["nonzeros"] > densest * size and size * SMALL <= images


def _flops(node: Node) -> int:
    _, (n, _, p, q) = _images(node)
    attrs = node.attrs
    products = math.prod(attrs["weight_shape"]) if is_expanded(node) else attrs["nonzeros"]
    return 2 * n * p * q * products


def _bytes(node: Node) -> int:
    """Of both images, and of the layer's own part of the pool."""
    elements = sum(math.prod(shape) for shape in _images(node))
    return 4 * elements + (4 + uint16.itemsize) * node.attrs["nonzeros"]


def _params(node: Node) -> dict[str, Any]:
    attrs = node.attrs
    return {
        "conv": conv.fields(*_images(node), attrs["weight_shape"], {**attrs, "groups": 1}),
        "first_row": attrs["first_row"],
        "segments": segments_of(attrs["weight_shape"]),
        "capacity": node.inputs[-2].size,
        "nonzeros": attrs.get("nonzeros", 0),
    }


def _kernel(node: Node) -> Kernel:
    way = "_expanded" if is_expanded(node) else ""
    return Kernel(f"{node.op.name}{way}_f32", "tge_sparse_conv2d_params", _params(node))


_IMAGES = first_axis((0, None, None, None), 0)
SPARSE_CONV2D = register(
    Op(
        "sparse_conv2d",
        _forward_type,
        _forward,
        _forward_vjp,
        kernel=_kernel,
        flops=_flops,
        bytes=_bytes,
        rows=_IMAGES,
    )
)
_DATA = register(
    Op(
        "sparse_conv2d_backward_data",
        _data_type,
        _backward_data,
        _data_vjp,
        kernel=_kernel,
        flops=_flops,
        bytes=_bytes,
        rows=_IMAGES,
    )
)
WEIGHTS = register(
    Op(
        "sparse_conv2d_backward_weights",
        _weights_type,
        _backward_weights,
        _weights_vjp,
        kernel=_kernel,
        flops=_flops,
        bytes=_bytes,
        rows=first_axis((0, 0, None, None), TOTAL),
    )
)
_ACCUMULATE = register(
    Op(
        "sparse_conv2d_accumulate_weights",
        _accumulate_type,
        _accumulate,
        decompose=_sum,
        kernel=_kernel,
        flops=_flops,
        bytes=_bytes,
        inplace=((0, 0),),
    )
)
#: What may be expanded.
PRODUCTS = frozenset({SPARSE_CONV2D, _DATA, WEIGHTS, _ACCUMULATE})


def _candidates_flops(node: Node) -> int:
    _, (n, _, p, q) = _images(node)
    return 2 * n * p * q * math.prod(node.attrs["weight_shape"])


def _candidates_bytes(node: Node) -> int:
    return sum(v.nbytes for v in (*node.inputs[:2], *node.outputs))


def _candidates_kernel(node: Node) -> Kernel:
    fields = {"layer": _params(node), "count": node.attrs["count"]}
    return Kernel(f"{node.op.name}_f32", "tge_sparse_candidates_params", fields)


_CANDIDATES = register(
    Op(
        "sparse_conv2d_candidates",
        _candidates_type,
        _candidates,
        differentiable=False,
        kernel=_candidates_kernel,
        flops=_candidates_flops,
        bytes=_candidates_bytes,
        rows=first_axis((0, 0, None, None), OWN),
    )
)
#: Stands for what `sparse_conv2d_candidates` gives, behind a convolution whose gradients are yet to
#: be expanded; then `policy/candidates.py` puts that into its place.
WATCH = structural(
    "sparse_conv2d_watch",
    lambda y, *, count: (TensorType((count,), int32),),
    differentiable=False,
)


def sparse_conv2d_watch(y: Value, count: int) -> Value:
    """Ask for the zeros of largest gradients, of the weights of the convolution that made y.

    Parameters
    ----------
    y : Value
        From `sparse_conv2d`.
    count : int

    Returns
    -------
    Value
        int32 [count]: elements of the flattened weights in descending order of the gradient's
        magnitude, -1 where there are no more zeros.
    """
    return emit(WATCH, y, count=count).outputs[0]


def candidates(product: Node, count: int) -> Value:
    """Give `sparse_conv2d_candidates` of what a gradient by the weights is made from."""
    attrs = {name: value for name, value in product.attrs.items() if name != "nonzeros"}
    return emit(_CANDIDATES, *product.inputs, **attrs, count=count).outputs[0]


def _fuse_add(inputs: tuple[Value, ...], sole: tuple[bool, ...]) -> tuple[Value, ...] | None:
    """Add a layer's part of the pool's gradient where the sum lies."""
    for part, alone, total in zip(inputs[::-1], sole[::-1], inputs, strict=True):
        made = part.node
        if alone and made.op is WEIGHTS and total.type == part.type:
            return emit(_ACCUMULATE, total, *made.inputs, **made.attrs).outputs
    return None


#: Rules as in ``norm``.
FUSIONS: dict[Op, FusionRule] = {ADD: _fuse_add}


def sparse_conv2d(
    x: Value,
    values: Value,
    columns: Value,
    rows: Value,
    weight_shape: Shape,
    first_row: int,
    nonzeros: int,
    stride: conv.Pair = (1, 1),
    padding: conv.Pair = (0, 0),
    dilation: conv.Pair = (1, 1),
) -> Value:
    """Cross-correlation of x [N, C, H, W] with sparse weights [K, C, R, S] to [N, K, P, Q].

    Parameters
    ----------
    x : Value
    values, columns, rows : Value
        The pool: float [capacity], uint16 [capacity], int32 [rows of all layers + 1].
    weight_shape : (int, int, int, int)
    first_row : int
        Of the layer, in the pool.
    nonzeros : int
        About how many the layer has: decides about the cost, and whether a dense kernel is used.
    stride, padding, dilation : (int, int)
        Along height and width; the padding is zeros on both sides.

    Raises
    ------
    ShapeError
        Channels do not fit, the window is larger than the padded image, or the pool is too short.
    """
    attrs = {"stride": stride, "padding": padding, "dilation": dilation}
    return emit(
        SPARSE_CONV2D,
        x,
        values,
        columns,
        rows,
        weight_shape=weight_shape,
        first_row=first_row,
        nonzeros=nonzeros,
        **attrs,
    ).outputs[0]
