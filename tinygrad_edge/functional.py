"""Functions of tensors without state. Images are [N, C, H, W]."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np

from . import ops, trace
from .dtypes import as_dtype, float32
from .errors import DTypeError, ShapeError
from .generator import Generator, default_generator
from .sparse_weight import SparseWeight
from .tensor import Tensor, apply, as_tensor

__all__ = [
    "adaptive_avg_pool2d",
    "avg_pool2d",
    "batch_norm",
    "batch_norm_apply",
    "clip",
    "concatenate",
    "conv2d",
    "cross_entropy",
    "dropout",
    "exp",
    "global_avg_pool2d",
    "group_norm",
    "hardswish",
    "layer_norm",
    "linear",
    "log",
    "log_softmax",
    "max_pool2d",
    "maximum",
    "minimum",
    "mse_loss",
    "one_hot",
    "pad",
    "relu",
    "relu6",
    "scatter_add",
    "sigmoid",
    "softmax",
    "sqrt",
    "stack",
    "tanh",
    "where",
]

Size = int | tuple[int, int]


def pair(size: Size, what: str) -> tuple[int, int]:
    """One number for both axes, or one for each."""
    sizes = tuple(size) if isinstance(size, tuple | list) else (size, size)
    if len(sizes) != 2 or not all(isinstance(n, Integral) for n in sizes):
        raise ShapeError(f"{what} must be an integer or two of them, got {size!r}")
    return int(sizes[0]), int(sizes[1])


def _shaped(data: Any, shape: tuple[int, ...], what: str) -> Tensor:
    """Refuse a tensor that would be broadcast by accident."""
    tensor = as_tensor(data)
    if tensor.shape != shape:
        raise ShapeError(f"{what} must be {list(shape)}, got {list(tensor.shape)}")
    return tensor


def _integers(data: Any, what: str) -> Tensor:
    tensor = as_tensor(data)
    if tensor.dtype.is_float:
        raise DTypeError(f"{what} must be integers, got {tensor.dtype}")
    return tensor


# ---- elementwise ----


def exp(x: Any) -> Tensor:
    """Elementwise exponential."""
    return apply(ops.exp, x)


def log(x: Any) -> Tensor:
    """Elementwise natural logarithm."""
    return apply(ops.log, x)


def sqrt(x: Any) -> Tensor:
    """Elementwise square root."""
    return apply(ops.sqrt, x)


def tanh(x: Any) -> Tensor:
    """Elementwise hyperbolic tangent."""
    return apply(ops.tanh, x)


def sigmoid(x: Any) -> Tensor:
    """Elementwise logistic function."""
    return apply(ops.sigmoid, x)


def relu(x: Any) -> Tensor:
    """Elementwise max(x, 0)."""
    return apply(ops.relu, x)


def relu6(x: Any) -> Tensor:
    """Elementwise min(max(x, 0), 6)."""
    return apply(ops.relu6, x)


def hardswish(x: Any) -> Tensor:
    """Elementwise x * relu6(x + 3) / 6 (Howard et al. 2019)."""
    return apply(ops.hardswish, x)


def maximum(x: Any, y: Any) -> Tensor:
    """Elementwise larger one; equals share the gradient."""
    return apply(ops.maximum, x, y)


def minimum(x: Any, y: Any) -> Tensor:
    """Elementwise smaller one; equals share the gradient."""
    return apply(ops.minimum, x, y)


def clip(x: Any, low: Any, high: Any) -> Tensor:
    """Elementwise min(max(x, low), high)."""
    return apply(ops.clip, x, low, high)


def where(condition: Any, x: Any, y: Any) -> Tensor:
    """`x` where the condition holds, `y` elsewhere."""
    condition = as_tensor(condition)
    x = x if isinstance(x, Tensor) else _beside(x, y)
    y = y if isinstance(y, Tensor) else _beside(y, x)
    return apply(ops.where, condition, x, y)


def _beside(number: Any, other: Any) -> Tensor:
    dtype = other.dtype if isinstance(other, Tensor) and isinstance(number, int | float) else None
    return Tensor(number, dtype=dtype)


# ---- shape ----


def concatenate(tensors: Any, axis: int = 0) -> Tensor:
    """Join along an axis."""
    return apply(lambda *values: ops.concatenate(values, axis), *tensors)


def stack(tensors: Any, axis: int = 0) -> Tensor:
    """Join along a new axis."""
    tensors = [as_tensor(t) for t in tensors]
    if not tensors:
        raise ShapeError("stack: there are no tensors to join")
    axes = tensors[0].ndim + 1
    if not -axes <= axis < axes:
        raise ShapeError(f"stack: axis {axis} is out of range for {axes} axes")
    at = axis % axes
    return concatenate([t.reshape((*t.shape[:at], 1, *t.shape[at:])) for t in tensors], at)


def pad(x: Any, widths: Any) -> Tensor:
    """Zeros around a tensor.

    Parameters
    ----------
    x : Tensor
    widths : sequence of (before, after)
        One pair for each axis.
    """
    x = as_tensor(x)
    pairs = [tuple(w) for w in widths]
    if len(pairs) != x.ndim or any(len(p) != 2 for p in pairs):
        raise ShapeError(f"pad: needs (before, after) for each of {x.ndim} axes, got {widths!r}")
    low, high = tuple(p[0] for p in pairs), tuple(p[1] for p in pairs)
    return apply(ops.pad, x, low=low, high=high)


def scatter_add(updates: Any, indices: Any, length: int, axis: int = 0) -> Tensor:
    """Zeros of `length` along an axis, plus each update at its index."""
    return apply(ops.scatter_add, updates, as_tensor(indices), length=length, axis=axis)


# ---- layers ----


def linear(x: Any, weight: Any, bias: Any = None) -> Tensor:
    """Give x @ weight.T + bias, with x [..., in], weight [out, in] (or sparse), bias [out]."""
    if isinstance(weight, SparseWeight):
        x = as_tensor(x)
        columns = x.reshape(-1, x.shape[-1], 1, 1)
        y = _sparse_conv2d(columns, weight).reshape(*x.shape[:-1], weight.shape[0])
    else:
        weight = as_tensor(weight)
        y = apply(lambda a, w: ops.matmul(a, w, transpose_b=True), x, weight)
    return y if bias is None else y + _shaped(bias, weight.shape[:1], "linear: the bias")


def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlate images with windows.

    Parameters
    ----------
    x : Tensor [N, C, H, W]
    weight : Tensor or SparseWeight [K, C / groups, R, S]
        Sparse ones have no groups.
    bias : Tensor [K], optional
    stride, padding, dilation : int or (int, int)
        Along height and width; the padding is zeros on both sides.
    groups : int
        Channels are cut into this many groups that do not mix; C for a depthwise convolution.

    Returns
    -------
    Tensor [N, K, P, Q]
        ``P = (H + 2 * padding - dilation * (R - 1) - 1) // stride + 1``.
    """
    attrs = {
        "stride": pair(stride, "stride"),
        "padding": pair(padding, "padding"),
        "dilation": pair(dilation, "dilation"),
    }
    if isinstance(weight, SparseWeight):
        if groups != 1:
            raise ShapeError(f"conv2d: sparse weights have no groups, got {groups}")
        y = _sparse_conv2d(x, weight, **attrs)
    else:
        weight = as_tensor(weight)
        y = apply(ops.conv2d, x, weight, **attrs, groups=groups)
    if bias is None:
        return y
    return y + _shaped(bias, weight.shape[:1], "conv2d: the bias").reshape(-1, 1, 1)


def _sparse_conv2d(x: Any, weight: SparseWeight, **window: tuple[int, int]) -> Tensor:
    y = apply(
        ops.sparse_conv2d,
        x,
        weight.values,
        weight.columns,
        weight.rows,
        weight_shape=(*weight.shape, 1, 1)[:4],
        first_row=weight.first_row,
        nonzeros=weight.nonzeros,
        **window,
    )
    active = trace.current()
    active.depends_on(weight, "candidates")
    if weight.candidates is not None and y.requires_grad:
        (count,) = weight.candidates.type.shape
        active.assign(weight.candidates, ops.sparse_conv2d_watch(y.value, count))
    return y


def max_pool2d(x: Any, kernel_size: Size, stride: Size | None = None, padding: Size = 0) -> Tensor:
    """Largest of each window; the stride is the window's size unless given."""
    window = pair(kernel_size, "kernel_size")
    step = window if stride is None else pair(stride, "stride")
    return apply(ops.max_pool2d, x, window=window, stride=step, padding=pair(padding, "padding"))


def avg_pool2d(
    x: Any,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    count_include_pad: bool = True,
) -> Tensor:
    """Mean of each window; the stride is the window's size unless given."""
    window = pair(kernel_size, "kernel_size")
    step = window if stride is None else pair(stride, "stride")
    attrs = {"window": window, "stride": step, "padding": pair(padding, "padding")}
    return apply(ops.avg_pool2d, x, **attrs, count_include_pad=count_include_pad)


def global_avg_pool2d(x: Any) -> Tensor:
    """Mean of each channel's plane: [N, C, H, W] to [N, C]."""
    return as_tensor(x).mean((2, 3))


def adaptive_avg_pool2d(x: Any, output_size: Size) -> Tensor:
    """Mean over as many windows as the output has pixels.

    Window i of m along an axis of n is ``floor(i * n / m) .. ceil((i + 1) * n / m)``, as PyTorch
    has it: where m does not divide n, windows overlap.

    Parameters
    ----------
    x : Tensor [N, C, H, W]
    output_size : int or (int, int)

    Returns
    -------
    Tensor [N, C, *output_size]
    """
    x, out = as_tensor(x), pair(output_size, "output_size")
    if x.ndim != 4 or min(out) < 1:
        raise ShapeError(f"adaptive_avg_pool2d: cannot make {list(out)} pixels of {list(x.shape)}")
    sizes = x.shape[2:]
    if all(n and n % m == 0 for n, m in zip(sizes, out, strict=True)):
        return avg_pool2d(x, (sizes[0] // out[0], sizes[1] // out[1]))
    rows, columns = (Tensor(_bins(n, m), dtype=x.dtype) for n, m in zip(sizes, out, strict=True))
    return rows @ (x @ columns.T)


def _bins(n: int, m: int) -> np.ndarray:
    """The [m, n] matrix that averages n pixels into m windows."""
    matrix = np.zeros((m, n))
    for i in range(m):
        first, end = i * n // m, -(-(i + 1) * n // m)
        matrix[i, first:end] = 1 / (end - first)
    return matrix


def batch_norm(x: Any, weight: Any, bias: Any, eps: float = 1e-5) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise each channel by the batch's own statistics (Ioffe & Szegedy 2015).

    Parameters
    ----------
    x : Tensor [N, C, ...]
    weight, bias : Tensor [C]
        Scale and shift of what is normalised.
    eps : float
        Added to the variance.

    Returns
    -------
    y, mean, var : Tensor
        The variance is the biased one.
    """
    x, weight, bias = as_tensor(x), as_tensor(weight), as_tensor(bias)
    y, mean, var = ops.batch_norm(x.value, weight.value, bias.value, eps)
    normal = Tensor.following(y, x, weight, bias)
    return normal, Tensor.following(mean, x), Tensor.following(var, x)


def batch_norm_apply(
    x: Any, mean: Any, var: Any, weight: Any, bias: Any, eps: float = 1e-5
) -> Tensor:
    """Normalise channels by given statistics: (x - mean) / sqrt(var + eps) * weight + bias."""
    return apply(ops.batch_norm_apply, x, mean, var, weight, bias, eps=eps)


def group_norm(
    x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    """Normalise each sample over groups of channels (Wu & He 2018).

    Parameters
    ----------
    x : Tensor [N, C, ...]
    num_groups : int
        Divides C.
    weight, bias : Tensor [C], optional
    eps : float
        Added to the variance.
    """
    x = as_tensor(x)
    if x.ndim < 2 or num_groups < 1 or x.shape[1] % num_groups:
        raise ShapeError(f"group_norm: {num_groups} groups do not divide the channels of {x.shape}")
    y = _normalise_rows(x, x.shape[0] * num_groups, eps)
    each, shape = x.shape[1:2], (-1, *(1,) * (x.ndim - 2))
    if weight is not None:
        y = y * _shaped(weight, each, "group_norm: the weight").reshape(shape)
    return y if bias is None else y + _shaped(bias, each, "group_norm: the bias").reshape(shape)


def layer_norm(
    x: Any,
    normalized_shape: Sequence[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each sample over its last axes (Ba et al. 2016).

    Parameters
    ----------
    x : Tensor [..., *normalized_shape]
    normalized_shape : sequence of int
        Sizes of those axes.
    weight, bias : Tensor [*normalized_shape], optional
    eps : float
        Added to the variance.
    """
    x, last = as_tensor(x), tuple(normalized_shape)
    if not last or x.shape[-len(last) :] != last:
        raise ShapeError(f"layer_norm: expected [..., *{list(last)}], got {list(x.shape)}")
    y = _normalise_rows(x, math.prod(x.shape[: -len(last)]), eps)
    if weight is not None:
        y = y * _shaped(weight, last, "layer_norm: the weight")
    return y if bias is None else y + _shaped(bias, last, "layer_norm: the bias")


def _normalise_rows(x: Tensor, rows: int, eps: float) -> Tensor:
    """Normalise rows of equal length: to batch-norm, the channels of one sample."""
    if x.size == 0:
        return x
    one = Tensor(1.0, dtype=x.dtype).broadcast_to((rows,))
    return batch_norm(x.reshape(1, rows, -1), one, one * 0.0, eps)[0].reshape(x.shape)


def check_probability(p: float) -> None:
    """Refuse what is no probability."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout: the probability must be between 0 and 1, got {p}")


def dropout(x: Any, p: float = 0.5, generator: Generator | None = None) -> Tensor:
    """Zero each element with probability p and scale the others by 1 / (1 - p).

    Which elements depends on the generator, the place of this call in the step, and the number of
    the sample alone (Srivastava et al. 2014).
    """
    check_probability(p)
    x = as_tensor(x)
    source = generator or default_generator()
    first, probability = Tensor(0).value, Tensor(p, dtype=float32).value
    value = ops.dropout(x.value, source.read(), first, probability, source.next_site())
    return Tensor.following(value, x)


# ---- classification ----


def softmax(x: Any, axis: int = -1) -> Tensor:
    """Exponentials along an axis, divided by their sum."""
    return apply(ops.softmax, x, axis=axis)


def log_softmax(x: Any, axis: int = -1) -> Tensor:
    """Logarithm of the softmax."""
    return apply(ops.log_softmax, x, axis=axis)


def cross_entropy(
    logits: Any, labels: Any, weight: Any = None, label_smoothing: float = 0.0
) -> Tensor:
    """Mean negative log-likelihood of labels.

    Parameters
    ----------
    logits : Tensor [N, classes]
    labels : Tensor [N] of integers
    weight : Tensor [classes], optional
        Of each class; the mean is then over the labels' weights.
    label_smoothing : float
        Share of the target spread evenly over the classes (Szegedy et al. 2016).

    Raises
    ------
    DataError
        When it runs: a label is outside the classes.
    """
    logits, labels = as_tensor(logits), _integers(labels, "cross_entropy: labels")
    if logits.ndim != 2:
        raise ShapeError(f"cross_entropy: needs logits [N, classes], got {list(logits.shape)}")
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"cross_entropy: label_smoothing must be in [0, 1], got {label_smoothing}")
    if logits.shape[0] == 0:
        raise ShapeError("cross_entropy: the mean over an empty batch does not exist")
    per_class = Tensor(1.0, dtype=logits.dtype) if weight is None else as_tensor(weight)
    per_class = per_class.broadcast_to((logits.shape[1],)) if weight is None else per_class
    loss = apply(ops.cross_entropy, logits, labels, per_class, smoothing=label_smoothing)
    return loss.mean() if weight is None else loss.sum() / per_class.take(labels).sum()


def mse_loss(x: Any, y: Any) -> Tensor:
    """Mean squared difference of two tensors of one shape."""
    x = as_tensor(x)
    difference = x - _shaped(y, x.shape, "mse_loss: the second tensor")
    return (difference * difference).mean()


def one_hot(labels: Any, classes: int, dtype: str = "float32") -> Tensor:
    """Rows with a one at the label; of zeros where the label is no class."""
    labels = _integers(labels, "one_hot: labels")
    column = labels.reshape((*labels.shape, 1))
    return (column == Tensor.of_value(ops.arange(classes))).astype(as_dtype(dtype))
