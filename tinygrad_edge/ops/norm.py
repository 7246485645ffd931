"""Batch normalisation (Ioffe & Szegedy 2015) over all axes but the second.

``batch_norm`` is a composite of two ops: ``batch_norm_stats`` reduces, ``batch_norm_apply`` is one
cheap pass that can be made again from the input and two numbers a channel. One definition
everywhere: ``scale = gamma / sqrt(var + eps)`` and ``y = (x - mean) * scale + beta``, with the
biased variance.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..dtypes import DType, float16
from ..errors import DTypeError, ShapeError
from ..graph import Node, Value, emit
from ..op import (
    OWN,
    TOTAL,
    Cotangents,
    FusionRule,
    Gradients,
    Kernel,
    Op,
    RowRule,
    Rows,
    TensorType,
    register,
)
from ._rows import Axes
from .elementwise import (
    ADD,
    RELU,
    RELU6,
    RELU6_BACKWARD,
    RELU_BACKWARD,
    add,
    divide,
    multiply,
    promote,
    sqrt,
    subtract,
)
from .fill import constant
from .reduce import mean as mean_over
from .reduce import sum_
from .shape import broadcast_to, reshape


def _axes(ndim: int) -> tuple[int, ...]:
    return tuple(a for a in range(ndim) if a != 1)


def _channelwise(v: np.ndarray, ndim: int) -> np.ndarray:
    return v.reshape(-1, *(1,) * (ndim - 2))


def _per_channel(v: Value, like: Value) -> Value:
    """View a value of one number a channel so that it broadcasts against images."""
    return reshape(v, (v.size, *(1,) * (len(like.shape) - 2)))


def _check(x: Value, *channels: Value, dtype: DType | None = None) -> None:
    if len(x.shape) < 2:
        raise ShapeError("expected [N, C, ...]")
    dtype = dtype or x.dtype
    if not dtype.is_float or any(v.dtype is not dtype for v in channels):
        raise DTypeError("inputs must be floats of one dtype")
    if any(v.shape != (x.shape[1],) for v in channels):
        raise ShapeError(f"expected one number for each of {x.shape[1]} channels")


def _normed_type(x: Value, *channels: Value) -> TensorType:
    """The type of normalised images: their own, unless they are merely stored as float16."""
    dtype = channels[0].dtype if x.dtype is float16 else x.dtype
    _check(x, *channels, dtype=dtype)
    return TensorType(x.shape, dtype)


def _stats_type(x: Value) -> tuple[TensorType, ...]:
    _check(x)
    if x.size == 0:
        raise ShapeError("the statistics of an empty batch do not exist")
    return (TensorType((x.shape[1],), x.dtype),) * 2


def _correction(shape: tuple[int, ...]) -> float:
    count = math.prod(shape) // shape[1]
    return count / (count - 1)


def _unbiased_type(var: Value, x: Value, *, share: float) -> tuple[TensorType, ...]:
    _check(x, var)
    if x.size < 2 * x.shape[1]:
        raise ShapeError(f"needs two values a channel or more, got {list(x.shape)}")
    return (var.type,)


def _apply_type(
    x: Value, mean: Value, var: Value, gamma: Value, beta: Value, *, eps: float, activation: str
) -> tuple[TensorType, ...]:
    return (_normed_type(x, mean, var, gamma, beta),)


def _apply_add_type(
    x: Value,
    mean: Value,
    var: Value,
    gamma: Value,
    beta: Value,
    addend: Value,
    *,
    eps: float,
    activation: str,
) -> tuple[TensorType, ...]:
    if addend.type != _normed_type(x, mean, var, gamma, beta):
        raise ShapeError("the addend must have the input's type")
    return (addend.type,)


def _norm_type(x: Value, gamma: Value, beta: Value, *, eps: float) -> tuple[TensorType, ...]:
    _check(x, gamma, beta)
    return (x.type, *_stats_type(x))


def _backward_type(
    gy: Value, x: Value, mean: Value, var: Value, gamma: Value, *beta: Value, **_: object
) -> tuple[TensorType, ...]:
    if gy.type != _normed_type(x, mean, var, gamma, *beta):
        raise ShapeError("the output gradient must have the input's type")
    return gy.type, gamma.type, gamma.type


# ---- meaning ----


def _stats(x: np.ndarray) -> tuple[np.ndarray, ...]:
    axes = _axes(x.ndim)
    mean = x.mean(axes, dtype=np.float64)
    var = np.square(x - _channelwise(mean, x.ndim)).mean(axes)
    return mean.astype(x.dtype), var.astype(x.dtype)


def _apply(
    x: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    *,
    eps: float,
    activation: str,
) -> tuple[np.ndarray, ...]:
    x = x.astype(var.dtype, copy=False)
    scale = gamma / np.sqrt(var + x.dtype.type(eps))
    centred = x - _channelwise(mean, x.ndim)
    y = centred * _channelwise(scale, x.ndim) + _channelwise(beta, x.ndim)
    return ACTIVATIONS[activation].forward.reference(y) if activation else (y,)


def _apply_add(
    x: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    addend: np.ndarray,
    *,
    eps: float,
    activation: str,
) -> tuple[np.ndarray, ...]:
    y = _apply(x, mean, var, gamma, beta, eps=eps, activation="")[0] + addend
    return ACTIVATIONS[activation].forward.reference(y) if activation else (y,)


def _norm(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, *, eps: float
) -> tuple[np.ndarray, ...]:
    mean, var = _stats(x)
    return (*_apply(x, mean, var, gamma, beta, eps=eps, activation=""), mean, var)


def _backward(
    gy: np.ndarray,
    x: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    gamma: np.ndarray,
    *,
    eps: float,
) -> tuple[np.ndarray, ...]:
    axes, ndim, x = _axes(x.ndim), x.ndim, x.astype(var.dtype, copy=False)
    rstd = 1 / np.sqrt(var + x.dtype.type(eps))
    normal = (x - _channelwise(mean, ndim)) * _channelwise(rstd, ndim)
    grad_beta, grad_gamma = gy.sum(axes), (gy * normal).sum(axes)
    n = x.size // x.shape[1]
    pulled = _channelwise(grad_beta / n, ndim) + normal * _channelwise(grad_gamma / n, ndim)
    return (gy - pulled) * _channelwise(gamma * rstd, ndim), grad_gamma, grad_beta


def _activated_backward(
    gy: np.ndarray,
    x: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    *,
    eps: float,
    activation: str,
) -> tuple[np.ndarray, ...]:
    (y,) = _apply(x, mean, var, gamma, beta, eps=eps, activation=activation)
    (gy,) = ACTIVATIONS[activation].backward.reference(gy, y)
    return _backward(gy, x, mean, var, gamma, eps=eps)


# ---- the same from simpler ops: their derivatives ----


def _decompose_stats(x: Value) -> tuple[Value, ...]:
    axes = _axes(len(x.shape))
    mean = mean_over(x, axes)
    centred = subtract(x, _per_channel(mean, x))
    return mean, mean_over(multiply(centred, centred), axes)


def _rstd(var: Value, eps: float) -> Value:
    return divide(constant(1.0, var.dtype), sqrt(add(var, constant(eps, var.dtype))))


def _decompose_apply(
    x: Value, mean: Value, var: Value, gamma: Value, beta: Value, *, eps: float, activation: str
) -> tuple[Value, ...]:
    scale = multiply(gamma, _rstd(var, eps))
    centred = subtract(x, _per_channel(mean, x))
    y = add(multiply(centred, _per_channel(scale, x)), _per_channel(beta, x))
    return emit(ACTIVATIONS[activation].forward, y).outputs if activation else (y,)


def _decompose_apply_add(
    x: Value,
    mean: Value,
    var: Value,
    gamma: Value,
    beta: Value,
    addend: Value,
    *,
    eps: float,
    activation: str,
) -> tuple[Value, ...]:
    y = add(batch_norm_apply(x, mean, var, gamma, beta, eps), addend)
    return emit(ACTIVATIONS[activation].forward, y).outputs if activation else (y,)


def _decompose_norm(x: Value, gamma: Value, beta: Value, *, eps: float) -> tuple[Value, ...]:
    mean, var = emit(_STATS, x).outputs
    return batch_norm_apply(x, mean, var, gamma, beta, eps), mean, var


def _decompose_backward(
    gy: Value, x: Value, mean: Value, var: Value, gamma: Value, *, eps: float
) -> tuple[Value, ...]:
    axes = _axes(len(x.shape))
    rstd = _rstd(var, eps)
    normal = multiply(subtract(x, _per_channel(mean, x)), _per_channel(rstd, x))
    grad_beta, grad_gamma = sum_(gy, axes), sum_(multiply(gy, normal), axes)
    share = constant(x.shape[1] / x.size, gamma.dtype)
    pulled = add(
        _per_channel(multiply(grad_beta, share), x),
        multiply(normal, _per_channel(multiply(grad_gamma, share), x)),
    )
    scale = multiply(gamma, rstd)
    return multiply(subtract(gy, pulled), _per_channel(scale, x)), grad_gamma, grad_beta


def _decompose_activated_backward(
    gy: Value,
    x: Value,
    mean: Value,
    var: Value,
    gamma: Value,
    beta: Value,
    *,
    eps: float,
    activation: str,
) -> tuple[Value, ...]:
    (y,) = emit(BATCH_NORM_APPLY, x, mean, var, gamma, beta, eps=eps, activation=activation).outputs
    (gy,) = emit(ACTIVATIONS[activation].backward, gy, y).outputs
    return emit(_BACKWARD, gy, x, mean, var, gamma, eps=eps).outputs


def _norm_vjp(node: Node, g: Cotangents) -> Gradients:
    """One pass gives all three; gradients of the statistics, where asked for, are added."""
    x, gamma, _ = node.inputs
    _, mean, var = node.outputs
    grad_x = grad_gamma = grad_beta = None
    if g[0] is not None:
        grad_x, grad_gamma, grad_beta = emit(
            _BACKWARD, g[0], x, mean, var, gamma, **node.attrs
        ).outputs
    share = constant(x.shape[1] / x.size, x.dtype)
    if g[1] is not None:
        by_mean = broadcast_to(_per_channel(multiply(g[1], share), x), x.shape)
        grad_x = by_mean if grad_x is None else add(grad_x, by_mean)
    if g[2] is not None:
        twice = multiply(g[2], multiply(share, constant(2.0, x.dtype)))
        by_var = multiply(subtract(x, _per_channel(mean, x)), _per_channel(twice, x))
        grad_x = by_var if grad_x is None else add(grad_x, by_var)
    return grad_x, grad_gamma, grad_beta


# ---- activations that the kernels can apply on the way ----


class Activation(NamedTuple):
    """An activation whose derivative follows from its output."""

    forward: Op
    backward: Op
    code: str


ACTIVATIONS = {
    "relu": Activation(RELU, RELU_BACKWARD, "TGE_ACTIVATION_RELU"),
    "relu6": Activation(RELU6, RELU6_BACKWARD, "TGE_ACTIVATION_RELU6"),
}

# ---- records ----


def _rows(inputs: str, outputs: str, channels: str) -> RowRule:
    """The rule of an op by the roles of its operands: images x, numbers of each channel c.

    Samples that are channels of one image (as group-norm has them) are each normalised alone;
    otherwise what the op makes for each channel is of the part, or its summand (`channels`).
    """

    def rule(node: Node, axes: Axes, parts: int) -> Rows | None:
        pairs = {(role, a) for role, a in zip(inputs, axes, strict=True) if a is not None}
        if pairs == {("x", 0)}:
            each = tuple(0 if role == "x" else channels for role in outputs)
            return Rows(tuple(0 if role == "x" else None for role in inputs), each)
        if pairs <= {("x", 1), ("c", 0)}:
            place = {"x": 1, "c": 0}
            return Rows(tuple(place[r] for r in inputs), tuple(place[r] for r in outputs))
        return None

    return rule


def _kernel(which: int) -> Callable[[Node], Kernel]:
    """Bind a batch-norm kernel; `which` input is the image."""

    def bind(node: Node) -> Kernel:
        n, c, *rest = node.inputs[which].shape
        inner = math.prod(rest)
        fields: dict[str, Any] = {
            "n": n,
            "c": c,
            "inner": inner,
            "n_stride": c * inner,
            "c_stride": inner,
        }
        fields["eps"] = node.attrs.get("eps", 0.0)
        activation = node.attrs.get("activation")
        fields["activation"] = ACTIVATIONS[activation].code if activation else "TGE_NO_ACTIVATION"
        fields["half"] = int(node.inputs[which].dtype is float16)
        return Kernel(f"{node.op.name}_f32", "tge_batch_norm_params", fields)

    return bind


_STATS = register(
    Op(
        "batch_norm_stats",
        _stats_type,
        _stats,
        decompose=_decompose_stats,
        kernel=_kernel(0),
        flops=lambda node: 4 * node.inputs[0].size,
        rows=_rows("x", "cc", OWN),
    )
)
BATCH_NORM_APPLY = register(
    Op(
        "batch_norm_apply",
        _apply_type,
        _apply,
        decompose=_decompose_apply,
        kernel=_kernel(0),
        flops=lambda node: 3 * node.inputs[0].size,
        inplace=((0, 0),),
        halves=(0,),
        rows=_rows("xcccc", "x", OWN),
    )
)
BATCH_NORM_APPLY_ADD = register(
    Op(
        "batch_norm_apply_add",
        _apply_add_type,
        _apply_add,
        decompose=_decompose_apply_add,
        kernel=_kernel(0),
        flops=lambda node: 4 * node.inputs[0].size,
        inplace=((0, 0), (0, 5)),
        halves=(0,),
    )
)
#: A channel's sums are complete before its first gradient is written.
_BACKWARD_INPLACE = ((0, 0), (0, 1))
_BACKWARD = register(
    Op(
        "batch_norm_backward",
        _backward_type,
        _backward,
        decompose=_decompose_backward,
        kernel=_kernel(1),
        flops=lambda node: 10 * node.inputs[1].size,
        inplace=_BACKWARD_INPLACE,
        halves=(1,),
        rows=_rows("xxccc", "xcc", TOTAL),
    )
)
_ACTIVATED_BACKWARD = register(
    Op(
        "batch_norm_activated_backward",
        _backward_type,
        _activated_backward,
        decompose=_decompose_activated_backward,
        kernel=_kernel(1),
        flops=lambda node: 14 * node.inputs[1].size,
        inplace=_BACKWARD_INPLACE,
        halves=(1,),
    )
)
_NORM = register(
    Op(
        "batch_norm",
        _norm_type,
        _norm,
        _norm_vjp,
        decompose=_decompose_norm,
        flops=lambda node: 7 * node.inputs[0].size,
        rows=_rows("xcc", "xcc", OWN),
    )
)


_UNBIASED = register(
    Op(
        "unbiased_variance",
        _unbiased_type,
        lambda var, x, *, share: (var * var.dtype.type(share * _correction(x.shape)),),
        decompose=lambda var, x, *, share: (
            multiply(var, constant(share * _correction(x.shape), var.dtype)),
        ),
        differentiable=False,
        flops=lambda node: node.inputs[0].size,
        bytes=lambda node: 2 * node.inputs[0].nbytes,
        rows=_rows("cx", "c", OWN),
    )
)


def unbiased_variance(var: Value, x: Value, share: float) -> Value:
    """A share of the unbiased variance, from the biased one of the channels of x.

    It reads x for its shape alone, which is a smaller one where the batch is taken in parts.
    """
    return emit(_UNBIASED, var, x, share=share).outputs[0]


def batch_norm(x: Value, gamma: Value, beta: Value, eps: float) -> tuple[Value, Value, Value]:
    """Normalise by the batch's own statistics; gives y, mean and biased variance."""
    x, gamma, beta = promote(x, gamma, beta, floating=True)
    y, mean, var = emit(_NORM, x, gamma, beta, eps=eps).outputs
    return y, mean, var


def batch_norm_apply(
    x: Value, mean: Value, var: Value, gamma: Value, beta: Value, eps: float
) -> Value:
    """Normalise by given statistics."""
    inputs = promote(x, mean, var, gamma, beta, floating=True)
    return emit(BATCH_NORM_APPLY, *inputs, eps=eps, activation="").outputs[0]


# ---- fusion: equal bits in fewer passes ----


def _fuse_forward(name: str) -> FusionRule:
    """Apply the activation while normalising."""

    def fuse(inputs: tuple[Value, ...], sole: tuple[bool, ...]) -> tuple[Value, ...] | None:
        made = inputs[0].node
        if not sole[0] or made.op not in _APPLIES or made.attrs["activation"]:
            return None
        return emit(made.op, *made.inputs, eps=made.attrs["eps"], activation=name).outputs

    return fuse


def _fuse_add(inputs: tuple[Value, ...], sole: tuple[bool, ...]) -> tuple[Value, ...] | None:
    """Add what a residual block adds while normalising."""
    for normed, alone, addend in zip(inputs, sole, inputs[::-1], strict=True):
        made = normed.node
        if not alone or made.op is not BATCH_NORM_APPLY or made.attrs["activation"]:
            continue
        if addend.type == normed.type:
            return emit(BATCH_NORM_APPLY_ADD, *made.inputs, addend, **made.attrs).outputs
    return None


def _fuse_backward(inputs: tuple[Value, ...], sole: tuple[bool, ...]) -> tuple[Value, ...] | None:
    """Mask the gradient on the way instead of reading the activated output."""
    masked, *normed = inputs
    for name, activation in ACTIVATIONS.items():
        if not sole[0] or masked.node.op is not activation.backward:
            continue
        grad, y = masked.node.inputs
        applied = y.node
        if applied.op is not BATCH_NORM_APPLY or applied.attrs["activation"] != name:
            continue
        if list(applied.inputs[:4]) == normed:
            attrs = {"eps": applied.attrs["eps"], "activation": name}
            return emit(_ACTIVATED_BACKWARD, grad, *applied.inputs, **attrs).outputs
    return None


_APPLIES = (BATCH_NORM_APPLY, BATCH_NORM_APPLY_ADD)
#: For an op, a rule that gives its outputs.
FUSIONS: dict[Op, FusionRule] = {
    **{activation.forward: _fuse_forward(name) for name, activation in ACTIVATIONS.items()},
    ADD: _fuse_add,
    _BACKWARD: _fuse_backward,
}
