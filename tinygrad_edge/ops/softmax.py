"""Softmax along an axis, and cross-entropy of logits against labels."""

from __future__ import annotations

import numpy as np

from ..dtypes import int32
from ..errors import DataError, DTypeError, ShapeError
from ..graph import Node, Value, emit
from ..op import Check, Cotangents, Gradients, Kernel, Op, Refusal, TensorType, register
from ._rows import first_axis, untouched
from ._strides import normalise_axes
from .check import check_range
from .elementwise import add, cast, equal, exp, multiply, negative, promote, subtract, where
from .fill import arange, constant
from .indexing import axis_kernel, take
from .reduce import sum_, unreduce
from .shape import reshape


def _same(x: Value, *, axis: int) -> tuple[TensorType, ...]:
    if not x.dtype.is_float:
        raise DTypeError("the input must be a float; cast first")
    if x.shape[axis] == 0:
        raise ShapeError(f"axis {axis} of {list(x.shape)} is empty")
    return (x.type,)


def _log_softmax(x: np.ndarray, *, axis: int) -> tuple[np.ndarray, ...]:
    shifted = x - x.max(axis, keepdims=True)
    return (shifted - np.log(np.exp(shifted).sum(axis, keepdims=True)),)


def _softmax(x: np.ndarray, *, axis: int) -> tuple[np.ndarray, ...]:
    powers = np.exp(x - x.max(axis, keepdims=True))
    return (powers / powers.sum(axis, keepdims=True),)


def _softmax_vjp(node: Node, g: Cotangents) -> Gradients:
    y, axis = node.outputs[0], node.attrs["axis"]
    return (multiply(y, subtract(g[0], sum_(multiply(g[0], y), axis, keepdims=True))),)


def _log_softmax_vjp(node: Node, g: Cotangents) -> Gradients:
    y, axis = node.outputs[0], node.attrs["axis"]
    return (subtract(g[0], multiply(exp(y), sum_(g[0], axis, keepdims=True))),)


def _cost(node: Node) -> int:
    return 5 * node.inputs[0].size


_SOFTMAX = register(
    Op(
        "softmax",
        _same,
        _softmax,
        _softmax_vjp,
        kernel=axis_kernel("softmax_f32"),
        flops=_cost,
        rows=untouched,
    )
)
_LOG_SOFTMAX = register(
    Op(
        "log_softmax",
        _same,
        _log_softmax,
        _log_softmax_vjp,
        kernel=axis_kernel("log_softmax_f32"),
        flops=_cost,
        rows=untouched,
    )
)


def softmax(x: Value, axis: int = -1) -> Value:
    """Exponentials along an axis, divided by their sum."""
    (x,) = promote(x, floating=True)
    return emit(_SOFTMAX, x, axis=normalise_axes(axis, len(x.shape))[0]).outputs[0]


def log_softmax(x: Value, axis: int = -1) -> Value:
    """Logarithm of the softmax, without its overflow."""
    (x,) = promote(x, floating=True)
    return emit(_LOG_SOFTMAX, x, axis=normalise_axes(axis, len(x.shape))[0]).outputs[0]


# ---- cross-entropy ----


def _loss_type(
    logits: Value, labels: Value, weight: Value, *, smoothing: float
) -> tuple[TensorType, ...]:
    if len(logits.shape) != 2 or labels.shape != logits.shape[:1]:
        raise ShapeError("expected logits [N, classes] and labels [N]")
    if labels.dtype is not int32:
        raise DTypeError("labels must be integers")
    if logits.shape[1] == 0 or weight.shape != logits.shape[1:]:
        raise ShapeError(f"expected one weight for each of {logits.shape[1]} classes, at least one")
    if not 0.0 <= smoothing <= 1.0:
        raise ShapeError(f"label smoothing must be between 0 and 1, got {smoothing}")
    return (TensorType(labels.shape, logits.dtype),)


def _loss_backward_type(
    g: Value, logits: Value, labels: Value, weight: Value, *, smoothing: float
) -> tuple[TensorType, ...]:
    if g.shape != _loss_type(logits, labels, weight, smoothing=smoothing)[0].shape:
        raise ShapeError(f"the output gradient must be {list(labels.shape)}")
    return (logits.type,)


def _targets(
    logits: np.ndarray, labels: np.ndarray, weight: np.ndarray, smoothing: float
) -> np.ndarray:
    """What -log p of each class is multiplied by; refuses labels outside the classes."""
    rows, classes = logits.shape
    bad = np.flatnonzero((labels < 0) | (labels >= classes))
    if bad.size:
        raise Refusal(int(bad[0]))
    hot = (labels[:, None] == np.arange(classes)).astype(logits.dtype)
    target = (1 - logits.dtype.type(smoothing)) * hot * weight[labels][:, None]
    return target + logits.dtype.type(smoothing / classes) * weight


def _loss(
    logits: np.ndarray, labels: np.ndarray, weight: np.ndarray, *, smoothing: float
) -> tuple[np.ndarray, ...]:
    target = _targets(logits, labels, weight, smoothing)
    terms = target * _log_softmax(logits, axis=1)[0]
    if not smoothing:  # a logit of -inf takes its class out, and 0 times infinity would be NaN
        terms = np.where(labels[:, None] == np.arange(logits.shape[1]), terms, 0)
    return (-terms.sum(1),)


def _loss_backward(
    g: np.ndarray, logits: np.ndarray, labels: np.ndarray, weight: np.ndarray, *, smoothing: float
) -> tuple[np.ndarray, ...]:
    target = _targets(logits, labels, weight, smoothing)
    p = _softmax(logits, axis=1)[0]
    return (g[:, None] * (p * target.sum(1, keepdims=True) - target),)


def _decompose_hot(logits: Value, labels: Value) -> Value:
    """Whether a class is the label of its row."""
    return equal(reshape(labels, (labels.size, 1)), arange(logits.shape[1]))


def _decompose_targets(logits: Value, labels: Value, weight: Value, smoothing: float) -> Value:
    classes, dtype = logits.shape[1], logits.dtype
    hot = cast(_decompose_hot(logits, labels), dtype)
    own = reshape(take(weight, labels), (labels.size, 1))
    target = multiply(multiply(hot, constant(1.0 - smoothing, dtype)), own)
    return add(target, multiply(weight, constant(smoothing / classes, dtype)))


def _decompose_terms(logits: Value, labels: Value, smoothing: float) -> Value:
    """What the loss adds up of each class at a weight of one, as log-probabilities."""
    classes, dtype = logits.shape[1], logits.dtype
    log_p = log_softmax(logits, 1)
    own = multiply(log_p, constant(1.0 - smoothing, dtype))
    terms = where(_decompose_hot(logits, labels), own, constant(0.0, dtype))
    return add(terms, multiply(log_p, constant(smoothing / classes, dtype))) if smoothing else terms


def _decompose_loss(
    logits: Value, labels: Value, weight: Value, *, smoothing: float
) -> tuple[Value, ...]:
    return (negative(sum_(multiply(weight, _decompose_terms(logits, labels, smoothing)), 1)),)


def _decompose_loss_backward(
    g: Value, logits: Value, labels: Value, weight: Value, *, smoothing: float
) -> tuple[Value, ...]:
    target = _decompose_targets(logits, labels, weight, smoothing)
    total = sum_(target, 1, keepdims=True)
    pull = subtract(multiply(softmax(logits, 1), total), target)
    return (multiply(unreduce(g, logits.shape, (1,)), pull),)


def _loss_vjp(node: Node, g: Cotangents) -> Gradients:
    logits, labels, weight = node.inputs
    by_logits = emit(_CROSS_ENTROPY_BACKWARD, g[0], logits, labels, weight, **node.attrs).outputs[0]
    terms = _decompose_terms(logits, labels, node.attrs["smoothing"])
    by_weight = negative(sum_(multiply(terms, unreduce(g[0], logits.shape, (1,))), 0))
    return by_logits, None, by_weight


def _loss_kernel(node: Node) -> Kernel:
    logits = node.inputs[-3]
    rows, classes = logits.shape
    fields = {"rows": rows, "classes": classes, "smoothing": node.attrs["smoothing"]}
    return Kernel(f"{node.op.name}_f32", "tge_cross_entropy_params", fields)


def _label_error(node: Node, arrays: list[np.ndarray], position: int) -> Exception:
    classes = node.inputs[-3].shape[1]
    return DataError(
        f"{node.op.name}: label {arrays[-2][position]} at position {position} of the batch "
        f"is outside 0..{classes - 1}"
    )


def _check_labels(labels: Value, node: Node) -> Node:
    return check_range(labels, 0, node.inputs[0].shape[1] - 1, f"{node.op.name}: label")


_CROSS_ENTROPY = register(
    Op(
        "cross_entropy",
        _loss_type,
        _loss,
        _loss_vjp,
        decompose=_decompose_loss,
        kernel=_loss_kernel,
        flops=_cost,
        rows=first_axis((0, 0, None), 0),
        refuse=_label_error,
        check=Check(1, _check_labels),
    )
)
_CROSS_ENTROPY_BACKWARD = register(
    Op(
        "cross_entropy_backward",
        _loss_backward_type,
        _loss_backward,
        decompose=_decompose_loss_backward,
        kernel=_loss_kernel,
        flops=lambda node: 6 * node.inputs[1].size,
        rows=first_axis((0, 0, 0, None), 0),
    )
)


def cross_entropy(logits: Value, labels: Value, weight: Value, smoothing: float = 0.0) -> Value:
    """Weighted negative log-likelihood of each row [N]; the labels may be smoothed."""
    logits, weight = promote(logits, weight, floating=True)
    return emit(
        _CROSS_ENTROPY, logits, cast(labels, int32), weight, smoothing=float(smoothing)
    ).outputs[0]
