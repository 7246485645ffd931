"""Pooling of images. Each op is linear (given where the maxima are); its vjp is its adjoint."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import int32, uint8
from ..errors import DTypeError, ShapeError
from ..graph import Node, Value, emit
from ..op import Cotangents, Gradients, Kernel, Op, RowRule, TensorType, register
from ._rows import first_axis
from .conv import Pair, _pad, _windows, output_size
from .elementwise import promote


def _pooled_shape(x: tuple[int, ...], window: Pair, stride: Pair, padding: Pair) -> tuple[int, ...]:
    if len(x) != 4:
        raise ShapeError("expected an image batch [N, C, H, W]")
    if min(window) < 1 or min(stride) < 1 or min(padding) < 0:
        raise ShapeError(
            f"window {window} and stride {stride} must be >= 1, padding {padding} >= 0"
        )
    if any(2 * pad > n for pad, n in zip(padding, window, strict=True)):
        raise ShapeError(f"padding {padding} must be at most half the window {window}")
    p, q = (output_size(x[i + 2], window[i], stride[i], padding[i]) for i in (0, 1))
    if p < 1 or q < 1:
        raise ShapeError(
            f"a window of {window} does not fit an image of {list(x[2:])} with padding {padding}"
        )
    return (*x[:2], p, q)


def _float_image(x: Value) -> None:
    if not x.dtype.is_float:
        raise DTypeError("the input must be a float; cast first")


def _max_type(x: Value, *, window: Pair, stride: Pair, padding: Pair) -> tuple[TensorType, ...]:
    _float_image(x)
    shape = _pooled_shape(x.shape, window, stride, padding)
    position = uint8 if window[0] * window[1] <= 256 else int32
    return TensorType(shape, x.dtype), TensorType(shape, position)


def _gather_type(x: Value, argmax: Value, **attrs: Any) -> tuple[TensorType, ...]:
    _float_image(x)
    if argmax.shape != _pooled_shape(x.shape, **attrs):
        raise ShapeError("the positions must have the shape of the output")
    return (TensorType(argmax.shape, x.dtype),)


def _max_backward_type(
    gy: Value, argmax: Value, *, shape: tuple, **attrs: Any
) -> tuple[TensorType, ...]:
    if not gy.shape == argmax.shape == _pooled_shape(shape, **attrs):
        raise ShapeError(f"gradient and positions must be {list(_pooled_shape(shape, **attrs))}")
    return (TensorType(shape, gy.dtype),)


def _average_type(x: Value, *, count_include_pad: bool, **attrs: Any) -> tuple[TensorType, ...]:
    _float_image(x)
    return (TensorType(_pooled_shape(x.shape, **attrs), x.dtype),)


def _average_backward_type(
    gy: Value, *, shape: tuple, count_include_pad: bool, **attrs: Any
) -> tuple[TensorType, ...]:
    if gy.shape != _pooled_shape(shape, **attrs):
        raise ShapeError(f"the gradient must be {list(_pooled_shape(shape, **attrs))}")
    return (TensorType(shape, gy.dtype),)


# ---- meaning ----


def _max(x: np.ndarray, *, window: Pair, stride: Pair, padding: Pair) -> tuple[np.ndarray, ...]:
    shape = _pooled_shape(x.shape, window, stride, padding)
    outside = np.full((1, 1, *x.shape[2:]), False)
    seen = np.stack(
        [v for _, _, v in _windows(_pad(x, padding), window, shape[2:], stride, (1, 1))]
    )
    out = ~np.pad(~outside, [(0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2])
    hidden = np.stack([v for _, _, v in _windows(out, window, shape[2:], stride, (1, 1))])
    # Padding never wins, not even against -inf: rank real entries above it.
    rank = np.where(np.broadcast_to(hidden, seen.shape), -np.inf, seen)
    best = np.argmax(rank, axis=0)
    first_real = np.argmin(np.broadcast_to(hidden, seen.shape), axis=0)
    best = np.where(np.take_along_axis(rank, best[None], 0)[0] == -np.inf, first_real, best)
    y = np.take_along_axis(seen, best[None], 0)[0]
    return np.ascontiguousarray(y), best.astype(
        np.uint8 if window[0] * window[1] <= 256 else np.int32
    )


def _gather(
    x: np.ndarray, argmax: np.ndarray, *, window: Pair, stride: Pair, padding: Pair
) -> tuple[np.ndarray, ...]:
    y = np.zeros(argmax.shape, x.dtype)
    for r, s, seen in _windows(_pad(x, padding), window, argmax.shape[2:], stride, (1, 1)):
        y = np.where(argmax == r * window[1] + s, seen, y)
    return (y,)


def _inside(padded: np.ndarray, shape: tuple[int, ...], padding: Pair) -> np.ndarray:
    (h, w), (top, left) = shape[2:], padding
    return np.ascontiguousarray(padded[:, :, top : top + h, left : left + w])


def _empty_padded(shape: tuple[int, ...], padding: Pair, dtype: np.dtype) -> np.ndarray:
    return np.zeros((*shape[:2], shape[2] + 2 * padding[0], shape[3] + 2 * padding[1]), dtype)


def _max_backward(
    gy: np.ndarray, argmax: np.ndarray, *, shape: tuple, window: Pair, stride: Pair, padding: Pair
) -> tuple[np.ndarray, ...]:
    gx = _empty_padded(shape, padding, gy.dtype)
    for r, s, seen in _windows(gx, window, gy.shape[2:], stride, (1, 1)):
        seen += np.where(argmax == r * window[1] + s, gy, np.zeros_like(gy))
    return (_inside(gx, shape, padding),)


def _divisors(
    shape: tuple[int, ...],
    out: tuple[int, ...],
    window: Pair,
    stride: Pair,
    padding: Pair,
    count_include_pad: bool,
) -> np.ndarray:
    """Elements that each window averages."""
    if count_include_pad:
        return np.full(out, window[0] * window[1])
    ones = np.pad(np.ones(shape[2:], int), [(padding[0],) * 2, (padding[1],) * 2])
    seen = [v for _, _, v in _windows(ones, window, out, stride, (1, 1))]
    return np.sum(seen, axis=0)


def _average(
    x: np.ndarray, *, window: Pair, stride: Pair, padding: Pair, count_include_pad: bool
) -> tuple[np.ndarray, ...]:
    shape = _pooled_shape(x.shape, window, stride, padding)
    seen = [v for _, _, v in _windows(_pad(x, padding), window, shape[2:], stride, (1, 1))]
    total = np.sum(seen, axis=0, dtype=x.dtype)
    n = _divisors(x.shape, shape[2:], window, stride, padding, count_include_pad)
    return ((total / n).astype(x.dtype),)


def _average_backward(
    gy: np.ndarray,
    *,
    shape: tuple,
    window: Pair,
    stride: Pair,
    padding: Pair,
    count_include_pad: bool,
) -> tuple[np.ndarray, ...]:
    n = _divisors(shape, gy.shape[2:], window, stride, padding, count_include_pad)
    gx = _empty_padded(shape, padding, gy.dtype)
    for _, _, seen in _windows(gx, window, gy.shape[2:], stride, (1, 1)):
        seen += (gy / n).astype(gy.dtype)
    return (_inside(gx, shape, padding),)


# ---- records ----


def _window_attrs(node: Node) -> dict[str, Any]:
    return {name: value for name, value in node.attrs.items() if name != "shape"}


def _kernel(node: Node) -> Kernel:
    attrs = node.attrs
    small, large = node.outputs[0].shape, attrs.get("shape", node.inputs[0].shape)
    if "shape" in attrs:
        small = node.inputs[0].shape
    n, c, h, w = large
    (r, s), (stride_h, stride_w), (pad_h, pad_w) = (
        attrs["window"],
        attrs["stride"],
        attrs["padding"],
    )
    fields = {"planes": n * c, "h": h, "w": w, "p": small[2], "q": small[3], "r": r, "s": s}
    fields |= {"stride_h": stride_h, "stride_w": stride_w, "pad_h": pad_h, "pad_w": pad_w}
    fields["argmax_bytes"] = 1 if r * s <= 256 else 4
    fields["count_include_pad"] = int(attrs.get("count_include_pad", True))
    return Kernel(f"{node.op.name}_f32", "tge_pool2d_params", fields)


def _flops(node: Node) -> int:
    window = node.attrs["window"]
    small = node.inputs[0] if "shape" in node.attrs else node.outputs[0]
    return small.size * window[0] * window[1]


def _max_vjp(node: Node, g: Cotangents) -> Gradients:
    if g[0] is None:
        return (None,)
    shape = node.inputs[0].shape
    return (emit(_MAX_BACKWARD, g[0], node.outputs[1], shape=shape, **node.attrs).outputs[0],)


def _gather_vjp(node: Node, g: Cotangents) -> Gradients:
    x, argmax = node.inputs
    return emit(_MAX_BACKWARD, g[0], argmax, shape=x.shape, **node.attrs).outputs[0], None


def _max_backward_vjp(node: Node, g: Cotangents) -> Gradients:
    return emit(_GATHER, g[0], node.inputs[1], **_window_attrs(node)).outputs[0], None


def _average_vjp(node: Node, g: Cotangents) -> Gradients:
    return (emit(_AVERAGE_BACKWARD, g[0], shape=node.inputs[0].shape, **node.attrs).outputs[0],)


def _average_backward_vjp(node: Node, g: Cotangents) -> Gradients:
    return (emit(_AVERAGE, g[0], **_window_attrs(node)).outputs[0],)


def _op(name: str, infer: Any, reference: Any, vjp: Any, rows: RowRule) -> Op:
    return register(Op(name, infer, reference, vjp, kernel=_kernel, flops=_flops, rows=rows))


_ONE, _BOTH = first_axis((0,), 0), first_axis((0, 0), 0)
MAX_POOL2D = _op("max_pool2d", _max_type, _max, _max_vjp, first_axis((0,), 0, 0))
_GATHER = _op("max_pool2d_gather", _gather_type, _gather, _gather_vjp, _BOTH)
_MAX_BACKWARD = _op(
    "max_pool2d_backward", _max_backward_type, _max_backward, _max_backward_vjp, _BOTH
)
_AVERAGE = _op("avg_pool2d", _average_type, _average, _average_vjp, _ONE)
_AVERAGE_BACKWARD = _op(
    "avg_pool2d_backward", _average_backward_type, _average_backward, _average_backward_vjp, _ONE
)


def max_pool2d(x: Value, window: Pair, stride: Pair, padding: Pair = (0, 0)) -> Value:
    """Largest of each window; the first of equals, NaN if there is one."""
    (x,) = promote(x, floating=True)
    return emit(MAX_POOL2D, x, window=window, stride=stride, padding=padding).outputs[0]


def avg_pool2d(
    x: Value, window: Pair, stride: Pair, padding: Pair = (0, 0), count_include_pad: bool = True
) -> Value:
    """Mean of each window, over the padding too unless told otherwise."""
    (x,) = promote(x, floating=True)
    attrs = {"window": window, "stride": stride, "padding": padding}
    return emit(_AVERAGE, x, **attrs, count_include_pad=count_include_pad).outputs[0]
