"""Convolutions (cross-correlations) of images, and the two products that differentiate them.

``conv2d``, ``conv2d_backward_data`` and ``conv2d_backward_weights`` are each linear in both
inputs, and each one's derivatives are the other two: the family is closed. Depthwise convolutions
(one input channel a group) are the same rules over kernels of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from ..errors import DTypeError, ShapeError
from ..graph import Node, Value, emit
from ..op import TOTAL, Cotangents, Gradients, Kernel, Op, TensorType, register
from ._factors import smaller_first
from ._rows import first_axis
from .elementwise import promote

Pair = tuple[int, int]


def output_size(size: int, window: int, stride: int, padding: int, dilation: int = 1) -> int:
    """Positions of a window along an axis."""
    return (size + 2 * padding - dilation * (window - 1) - 1) // stride + 1


def _check_windows(stride: Pair, padding: Pair, dilation: Pair) -> None:
    if min(stride) < 1 or min(padding) < 0 or min(dilation) < 1:
        raise ShapeError(
            f"stride {stride} and dilation {dilation} must be >= 1, padding {padding} >= 0"
        )


def _check_channels(x: tuple[int, ...], w: tuple[int, ...], groups: int) -> None:
    if len(x) != 4 or len(w) != 4:
        raise ShapeError("expected x as [N, C, H, W] and weights as [K, C / groups, R, S]")
    if groups < 1 or x[1] != w[1] * groups or w[0] % groups:
        raise ShapeError(
            f"{x[1]} channels in {groups} groups need weights [K, {x[1] // max(groups, 1)}, R, S] "
            f"with K a multiple of {groups}, got {list(w)}"
        )


def output_shape(
    x: tuple[int, ...], w: tuple[int, ...], stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> tuple[int, ...]:
    """Shape of the image that windows make of one, or a ShapeError."""
    _check_channels(x, w, groups)
    _check_windows(stride, padding, dilation)
    p, q = (output_size(x[i + 2], w[i + 2], stride[i], padding[i], dilation[i]) for i in (0, 1))
    if p < 1 or q < 1:
        raise ShapeError(
            f"a window of {list(w[2:])} (dilation {dilation}) does not fit an image of "
            f"{list(x[2:])} with padding {padding}"
        )
    return (x[0], w[0], p, q)


def check_gradient(y: Value, expected: tuple[int, ...]) -> None:
    """Refuse an output gradient of another shape."""
    if y.shape != expected:
        raise ShapeError(f"the output gradient must be {list(expected)}")


def _one_dtype(a: Value, b: Value) -> None:
    if a.dtype is not b.dtype or not a.dtype.is_float:
        raise DTypeError("inputs must be floats of one dtype; cast first")


def _forward_type(
    x: Value, w: Value, *, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> tuple[TensorType, ...]:
    _one_dtype(x, w)
    return (TensorType(output_shape(x.shape, w.shape, stride, padding, dilation, groups), x.dtype),)


def _data_type(
    gy: Value,
    w: Value,
    *,
    shape: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> tuple[TensorType, ...]:
    _one_dtype(gy, w)
    check_gradient(gy, output_shape(shape, w.shape, stride, padding, dilation, groups))
    return (TensorType(shape, gy.dtype),)


def _weights_type(
    x: Value,
    gy: Value,
    *,
    shape: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> tuple[TensorType, ...]:
    _one_dtype(x, gy)
    check_gradient(gy, output_shape(x.shape, shape, stride, padding, dilation, groups))
    return (TensorType(shape, x.dtype),)


# ---- meaning: one product for each place in the window ----


def _windows(
    padded: np.ndarray,
    window: Sequence[int],
    out: Sequence[int],
    stride: Pair,
    dilation: Pair,
) -> Iterator[tuple[int, int, np.ndarray]]:
    """For each place r, s of the window, the view of the padded image that it sees."""
    for r in range(window[0]):
        for s in range(window[1]):
            top, left = r * dilation[0], s * dilation[1]
            bottom, right = top + (out[0] - 1) * stride[0] + 1, left + (out[1] - 1) * stride[1] + 1
            yield r, s, padded[..., top : bottom : stride[0], left : right : stride[1]]


def _grouped(array: np.ndarray, axis: int, groups: int) -> np.ndarray:
    shape = array.shape
    return array.reshape(*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :])


def _pad(x: np.ndarray, padding: Pair) -> np.ndarray:
    return np.pad(x, [(0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2])


def forward(
    x: np.ndarray, w: np.ndarray, *, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> tuple[np.ndarray, ...]:
    """What ``conv2d`` means."""
    n, k, p, q = output_shape(x.shape, w.shape, stride, padding, dilation, groups)
    xg, wg = _grouped(_pad(x, padding), 1, groups), _grouped(w, 0, groups)
    y = np.zeros((n, groups, k // groups, p, q), x.dtype)
    for r, s, seen in _windows(xg, w.shape[2:], (p, q), stride, dilation):
        y += np.einsum("ngcpq,gkc->ngkpq", seen, wg[..., r, s], optimize=True)
    return (y.reshape(n, k, p, q),)


def backward_data(
    gy: np.ndarray,
    w: np.ndarray,
    *,
    shape: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> tuple[np.ndarray, ...]:
    """What ``conv2d_backward_data`` means."""
    n, c, h, width = shape
    gyg, wg = _grouped(gy, 1, groups), _grouped(w, 0, groups)
    gx = np.zeros((n, c, h + 2 * padding[0], width + 2 * padding[1]), gy.dtype)
    for r, s, seen in _windows(
        _grouped(gx, 1, groups), w.shape[2:], gy.shape[2:], stride, dilation
    ):
        seen += np.einsum("ngkpq,gkc->ngcpq", gyg, wg[..., r, s], optimize=True)
    inside = gx[:, :, padding[0] : padding[0] + h, padding[1] : padding[1] + width]
    return (np.ascontiguousarray(inside),)


def backward_weights(
    x: np.ndarray,
    gy: np.ndarray,
    *,
    shape: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> tuple[np.ndarray, ...]:
    """What ``conv2d_backward_weights`` means."""
    xg, gyg = _grouped(_pad(x, padding), 1, groups), _grouped(gy, 1, groups)
    gw = np.zeros((groups, shape[0] // groups, *shape[1:]), x.dtype)
    for r, s, seen in _windows(xg, shape[2:], gy.shape[2:], stride, dilation):
        gw[..., r, s] = np.einsum("ngcpq,ngkpq->gkc", seen, gyg, optimize=True)
    return (gw.reshape(shape),)


# ---- derivatives: each of the three by the other two ----


def _window_attrs(node: Node) -> dict:
    return {name: node.attrs[name] for name in ("stride", "padding", "dilation", "groups")}


def _forward_vjp(node: Node, g: Cotangents) -> Gradients:
    x, w = node.inputs
    attrs = _window_attrs(node)
    return smaller_first(
        x,
        w,
        lambda: _data(g[0], w, x.shape, attrs),
        lambda: _weights(x, g[0], w.shape, attrs),
    )


def _data_vjp(node: Node, g: Cotangents) -> Gradients:
    gy, w = node.inputs
    attrs = _window_attrs(node)
    return _conv(g[0], w, attrs), _weights(g[0], gy, w.shape, attrs)


def _weights_vjp(node: Node, g: Cotangents) -> Gradients:
    x, gy = node.inputs
    attrs = _window_attrs(node)
    return _data(gy, g[0], x.shape, attrs), _conv(x, g[0], attrs)


# ---- kernels ----


def _parts(node: Node) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Shapes of image, weights and output, whichever of the three products the node is."""
    first, second, out = node.inputs[0].shape, node.inputs[1].shape, node.outputs[0].shape
    if node.op.name.endswith("backward_data"):
        return out, second, first
    if node.op.name.endswith("backward_weights"):
        return first, out, second
    return first, second, out


def _flops(node: Node) -> int:
    _, w, y = _parts(node)
    return 2 * y[0] * y[1] * y[2] * y[3] * w[1] * w[2] * w[3]


def fields(x: tuple[int, ...], y: tuple[int, ...], w: tuple[int, ...], attrs: Mapping) -> dict:
    """What ``tge_conv2d_params`` holds, from the shapes of image, output and weights."""
    (n, c, h, width), (k, _, r, s), (_, _, p, q) = x, w, y
    found = {"n": n, "c": c, "h": h, "w": width, "k": k, "r": r, "s": s, "p": p, "q": q}
    for name, short in (("stride", "stride"), ("padding", "pad"), ("dilation", "dilation")):
        found[f"{short}_h"], found[f"{short}_w"] = attrs[name]
    return found | {
        "groups": attrs["groups"],
        "x_n_stride": c * h * width,
        "x_c_stride": h * width,
        "y_n_stride": k * p * q,
        "y_c_stride": p * q,
    }


def _kernel(node: Node) -> Kernel:
    x, w, y = _parts(node)
    return Kernel(f"{node.op.name}_f32", "tge_conv2d_params", fields(x, y, w, node.attrs))


def _family(name: str, inplace: tuple[tuple[int, int], ...] = ()) -> tuple[Op, Op, Op]:
    """The three products; `inplace` tells whether the first two may be made where they read."""
    images: dict = {"rows": first_axis((0, None), 0), "inplace": inplace}
    images_too = {"rows": first_axis((0, 0), TOTAL)}
    rules: tuple[tuple[str, Callable, Callable, Callable, dict], ...] = (
        ("", _forward_type, forward, _forward_vjp, images),
        ("_backward_data", _data_type, backward_data, _data_vjp, images),
        ("_backward_weights", _weights_type, backward_weights, _weights_vjp, images_too),
    )
    y, gx, gw = (
        register(Op(name + suffix, infer, reference, vjp, kernel=_kernel, flops=_flops, **facts))
        for suffix, infer, reference, vjp, facts in rules
    )
    return y, gx, gw


_DENSE = _family("conv2d")
# Plane by plane, of which each worker can hold one.
_DEPTHWISE = _family("depthwise_conv2d", ((0, 0),))

#: The forward products.
CONVOLUTIONS = frozenset({_DENSE[0], _DEPTHWISE[0]})


def _choose(x: tuple[int, ...], w: tuple[int, ...], groups: int) -> tuple[Op, Op, Op]:
    """Depthwise where each of several channels is a group of its own, by the shapes of x and w."""
    return _DEPTHWISE if groups > 1 and (x[1:2], w[1:2]) == ((groups,), (1,)) else _DENSE


def _conv(x: Value, w: Value, attrs: dict) -> Value:
    return emit(_choose(x.shape, w.shape, attrs["groups"])[0], x, w, **attrs).outputs[0]


def _data(gy: Value, w: Value, shape: tuple[int, ...], attrs: dict) -> Value:
    return emit(_choose(shape, w.shape, attrs["groups"])[1], gy, w, shape=shape, **attrs).outputs[0]


def _weights(x: Value, gy: Value, shape: tuple[int, ...], attrs: dict) -> Value:
    return emit(_choose(x.shape, shape, attrs["groups"])[2], x, gy, shape=shape, **attrs).outputs[0]


def conv2d(
    x: Value,
    w: Value,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Value:
    """Cross-correlation of x [N, C, H, W] with w [K, C / groups, R, S] to [N, K, P, Q].

    Parameters
    ----------
    x, w : Value
    stride, padding, dilation : (int, int)
        Along height and width; the padding is zeros on both sides.
    groups : int
        Channels are cut into this many groups that do not mix.

    Raises
    ------
    ShapeError
        Channels and groups do not fit, or the window is larger than the padded image.
    """
    x, w = promote(x, w, floating=True)
    return _conv(
        x, w, {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    )
