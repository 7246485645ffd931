"""Elementwise ops: arithmetic, functions, comparisons, selection, casts.

Inputs broadcast by NumPy's rule. Arithmetic promotes: bool and small integers to int32, float16 and
integers beside floats to float32, float32 beside float64 to float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..dtypes import DType, bool_, float32, float64, int32
from ..errors import DTypeError
from ..graph import Node, Value, emit
from ..op import Cotangents, Kernel, Op, TensorType, register
from ._rows import broadcasting
from ._strides import broadcast_shapes, broadcast_strides, contiguous_strides, merge_axes, padded
from .fill import constant

Vjp = Callable[[Node, Cotangents], tuple[Value | None, ...]]
Function = Callable[..., Value]


# ---- shape and type rules ----


def _same_type(*inputs: Value) -> tuple[TensorType, ...]:
    """Floats or int32, all inputs alike."""
    dtype = inputs[0].dtype
    if any(v.dtype is not dtype for v in inputs):
        raise DTypeError("inputs must have one dtype")
    if not (dtype is int32 or dtype in (float32, float64)):
        raise DTypeError("inputs must be float32 or int32; cast first")
    return (TensorType(broadcast_shapes(*(v.shape for v in inputs)), dtype),)


def _floats(*inputs: Value) -> tuple[TensorType, ...]:
    if inputs[0].dtype is int32:
        raise DTypeError("inputs must be floats; cast first")
    return _same_type(*inputs)


def _compared(*inputs: Value) -> tuple[TensorType, ...]:
    return (TensorType(_same_type(*inputs)[0].shape, bool_),)


def _logical(*inputs: Value) -> tuple[TensorType, ...]:
    if any(v.dtype is not bool_ for v in inputs):
        raise DTypeError("inputs must be bool; compare first")
    return (TensorType(broadcast_shapes(*(v.shape for v in inputs)), bool_),)


def _selected(condition: Value, x: Value, y: Value) -> tuple[TensorType, ...]:
    if condition.dtype is not bool_:
        raise DTypeError("the condition must be bool; compare first")
    shape = broadcast_shapes(condition.shape, *(t.shape for t in _same_type(x, y)))
    return (TensorType(shape, x.dtype),)


# ---- one strided kernel for all of them ----


def _strided(name: str, code: str | int) -> Callable[[Node], Kernel]:
    """Bind a node to an elementwise kernel; names ending in `_` get the input's type as suffix."""

    def bind(node: Node) -> Kernel:
        out = node.outputs[0]
        operands = [contiguous_strides(out.shape)]
        operands += [broadcast_strides(v.shape, out.shape) for v in node.inputs]
        shape, strides = merge_axes(out.shape, *operands)
        suffix = ("i32" if node.inputs[0].dtype is int32 else "f32") if name.endswith("_") else ""
        table = [padded(s) for s in strides] + [padded(())] * (4 - len(strides))
        fields: dict[str, Any] = {
            "op": code,
            "inputs": len(node.inputs),
            "ndim": len(shape),
            "shape": padded(shape, 1),
            "strides": table,
        }
        return Kernel(name + suffix, "tge_elementwise_params", fields)

    return bind


def _define(
    name: str,
    arity: int,
    reference: Callable[..., np.ndarray],
    vjp: Vjp | None,
    *,
    infer: Callable[..., tuple[TensorType, ...]] = _floats,
    kernel: str = "elementwise_",
    code: str | None = None,
) -> Op:
    return register(
        Op(
            name,
            infer,
            lambda *arrays: (np.asarray(reference(*arrays)),),
            vjp,
            differentiable=vjp is not None,
            kernel=_strided(kernel, f"TGE_{code or name.upper()}"),
            chain=f"TGE_{code or name.upper()}" if kernel == "elementwise_" else None,
            inplace=tuple((0, i) for i in range(arity)) if infer in (_floats, _same_type) else (),
            rows=broadcasting,
        )
    )


# ---- promotion ----

_RANK: dict[DType, int] = {int32: 0, float32: 1, float64: 2}


def promote(*values: Value, floating: bool = False) -> tuple[Value, ...]:
    """Cast the values to the one type that arithmetic on them has."""
    lowest = 1 if floating or any(v.dtype.is_float for v in values) else 0
    rank = max([lowest, *(_RANK.get(v.dtype, 0) for v in values)])
    dtype = (int32, float32, float64)[rank]
    return tuple(cast(v, dtype) for v in values)


def _function(op: Op, *, floating: bool) -> Callable[..., Value]:
    def call(*inputs: Value) -> Value:
        return emit(op, *promote(*inputs, floating=floating)).outputs[0]

    call.__name__ = op.name
    call.__doc__ = f"Elementwise {op.name.replace('_', ' ')}."
    return call


# ---- arithmetic ----

ADD = _define("add", 2, np.add, lambda node, g: (g[0], g[0]), infer=_same_type)
_SUBTRACT = _define(
    "subtract", 2, np.subtract, lambda node, g: (g[0], negative(g[0])), infer=_same_type
)
_MULTIPLY = _define(
    "multiply",
    2,
    np.multiply,
    lambda node, g: (multiply(g[0], node.inputs[1]), multiply(g[0], node.inputs[0])),
    infer=_same_type,
)
_DIVIDE = _define(
    "divide",
    2,
    np.divide,
    lambda node, g: (
        divide(g[0], node.inputs[1]),
        negative(divide(multiply(g[0], node.outputs[0]), node.inputs[1])),
    ),
)
_NEGATIVE = _define("negative", 1, np.negative, lambda node, g: (negative(g[0]),), infer=_same_type)
_ABS = _define(
    "abs", 1, np.abs, lambda node, g: (multiply(g[0], sign(node.inputs[0])),), infer=_same_type
)
_SIGN = _define("sign", 1, np.sign, lambda node, g: (None,), infer=_same_type)


def _power_vjp(node: Node, g: Cotangents) -> tuple[Value | None, ...]:
    x, y = node.inputs
    one, zero = constant(1.0, x.dtype), constant(0.0, x.dtype)
    by_base = multiply(g[0], multiply(y, power(x, subtract(y, one))))
    # log is taken where it exists: elsewhere x**y does not depend smoothly on y.
    positive = greater(x, zero)
    log_x = where(positive, log(where(positive, x, one)), zero)
    return by_base, multiply(g[0], multiply(node.outputs[0], log_x))


_POWER = _define("power", 2, np.power, _power_vjp)


def _extremum_vjp(wins: Callable[[Value, Value], Value]) -> Vjp:
    """Share the gradient between equal inputs, so that the rule is symmetric."""

    def vjp(node: Node, g: Cotangents) -> tuple[Value | None, ...]:
        x, y = node.inputs
        zero = constant(0.0, x.dtype)
        half = multiply(g[0], constant(0.5, x.dtype))
        tied = where(equal(x, y), half, zero)
        return where(wins(x, y), g[0], tied), where(wins(y, x), g[0], tied)

    return vjp


_MAXIMUM = _define(
    "maximum", 2, np.maximum, _extremum_vjp(lambda x, y: greater(x, y)), infer=_same_type
)
_MINIMUM = _define(
    "minimum", 2, np.minimum, _extremum_vjp(lambda x, y: less(x, y)), infer=_same_type
)


def _clip_vjp(node: Node, g: Cotangents) -> tuple[Value | None, ...]:
    x, low, high = node.inputs
    zero = constant(0.0, x.dtype)
    below, above = less(x, low), greater(x, high)
    inside = logical_not(logical_or(below, above))
    # NumPy's clip is minimum(high, maximum(x, low)): high wins where the bounds cross.
    to_low = logical_and(below, less_equal(low, high))
    to_high = logical_or(above, logical_and(below, greater(low, high)))
    return where(inside, g[0], zero), where(to_low, g[0], zero), where(to_high, g[0], zero)


_CLIP = _define("clip", 3, lambda x, low, high: np.minimum(high, np.maximum(x, low)), _clip_vjp)

add: Function = _function(ADD, floating=False)
subtract: Function = _function(_SUBTRACT, floating=False)
multiply: Function = _function(_MULTIPLY, floating=False)
divide: Function = _function(_DIVIDE, floating=True)
negative: Function = _function(_NEGATIVE, floating=False)
absolute: Function = _function(_ABS, floating=False)
sign: Function = _function(_SIGN, floating=False)
power: Function = _function(_POWER, floating=True)
maximum: Function = _function(_MAXIMUM, floating=False)
minimum: Function = _function(_MINIMUM, floating=False)
clip: Function = _function(_CLIP, floating=True)

# ---- functions: each derivative reads the output where that is enough ----


def _silent(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """The IEEE result without NumPy's warning, as the kernels give it."""

    def quiet(*arrays: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return function(*arrays)

    return quiet


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _relu6(x: np.ndarray) -> np.ndarray:
    return np.minimum(np.maximum(x, 0), 6)


def _hardswish(x: np.ndarray) -> np.ndarray:
    return x * (np.minimum(np.maximum(x + 3, 0), 6) / 6)


def _tanh_vjp(node: Node, g: Cotangents) -> tuple[Value | None, ...]:
    y = node.outputs[0]
    return (multiply(g[0], subtract(constant(1.0, y.dtype), multiply(y, y))),)


def _sigmoid_vjp(node: Node, g: Cotangents) -> tuple[Value | None, ...]:
    y = node.outputs[0]
    return (multiply(g[0], multiply(y, subtract(constant(1.0, y.dtype), y))),)


def _sqrt_vjp(node: Node, g: Cotangents) -> tuple[Value | None, ...]:
    y = node.outputs[0]
    return (divide(multiply(g[0], constant(0.5, y.dtype)), y),)


_EXP = _define("exp", 1, _silent(np.exp), lambda node, g: (multiply(g[0], node.outputs[0]),))
_LOG = _define("log", 1, _silent(np.log), lambda node, g: (divide(g[0], node.inputs[0]),))
_SQRT = _define("sqrt", 1, _silent(np.sqrt), _sqrt_vjp)
_TANH = _define("tanh", 1, np.tanh, _tanh_vjp)
_SIGMOID = _define("sigmoid", 1, _silent(_sigmoid), _sigmoid_vjp)
_RELU = _define(
    "relu", 1, lambda x: np.maximum(x, 0), lambda node, g: (relu_backward(g[0], node.outputs[0]),)
)
_RELU6 = _define("relu6", 1, _relu6, lambda node, g: (relu6_backward(g[0], node.outputs[0]),))
_HARDSWISH = _define(
    "hardswish", 1, _hardswish, lambda node, g: (hardswish_backward(g[0], node.inputs[0]),)
)

RELU, RELU6 = _RELU, _RELU6

# Their derivatives are ops of their own (one pass, no mask value), linear in the gradient.


def _hardswish_slope(x: np.ndarray) -> np.ndarray:
    return np.where(x <= -3, 0, np.where(x >= 3, 1, (2 * x + 3) / 6)).astype(x.dtype)


def _hardswish_backward_vjp(node: Node, g: Cotangents) -> tuple[Value | None, ...]:
    grad, x = node.inputs
    inside = logical_and(greater(x, constant(-3.0, x.dtype)), less(x, constant(3.0, x.dtype)))
    curve = where(inside, constant(1.0 / 3.0, x.dtype), constant(0.0, x.dtype))
    return hardswish_backward(g[0], x), multiply(g[0], multiply(grad, curve))


_RELU_BACKWARD = _define(
    "relu_backward",
    2,
    lambda g, y: np.where(y > 0, g, np.zeros_like(g)),
    lambda node, g: (relu_backward(g[0], node.inputs[1]), None),
)
_RELU6_BACKWARD = _define(
    "relu6_backward",
    2,
    lambda g, y: np.where((y > 0) & (y < 6), g, np.zeros_like(g)),
    lambda node, g: (relu6_backward(g[0], node.inputs[1]), None),
)
_HARDSWISH_BACKWARD = _define(
    "hardswish_backward", 2, lambda g, x: g * _hardswish_slope(x), _hardswish_backward_vjp
)

RELU_BACKWARD, RELU6_BACKWARD = _RELU_BACKWARD, _RELU6_BACKWARD

exp: Function = _function(_EXP, floating=True)
log: Function = _function(_LOG, floating=True)
sqrt: Function = _function(_SQRT, floating=True)
tanh: Function = _function(_TANH, floating=True)
sigmoid: Function = _function(_SIGMOID, floating=True)
relu: Function = _function(_RELU, floating=True)
relu6: Function = _function(_RELU6, floating=True)
hardswish: Function = _function(_HARDSWISH, floating=True)
relu_backward: Function = _function(_RELU_BACKWARD, floating=True)
relu6_backward: Function = _function(_RELU6_BACKWARD, floating=True)
hardswish_backward: Function = _function(_HARDSWISH_BACKWARD, floating=True)

# ---- comparisons and logic ----


def _comparison(name: str, reference: Callable[..., np.ndarray]) -> Callable[..., Value]:
    return _function(
        _define(name, 2, reference, None, infer=_compared, kernel="compare_"), floating=False
    )


equal: Function = _comparison("equal", np.equal)
not_equal: Function = _comparison("not_equal", np.not_equal)
less: Function = _comparison("less", np.less)
less_equal: Function = _comparison("less_equal", np.less_equal)
greater: Function = _comparison("greater", np.greater)
greater_equal: Function = _comparison("greater_equal", np.greater_equal)


def _logic(
    name: str, arity: int, reference: Callable[..., np.ndarray], code: str
) -> Callable[..., Value]:
    op = _define(name, arity, reference, None, infer=_logical, kernel="logical_bool", code=code)

    def call(*inputs: Value) -> Value:
        return emit(op, *(cast(v, bool_) for v in inputs)).outputs[0]

    call.__name__ = name
    call.__doc__ = (
        f"Elementwise {name.replace('_', ' ')}; inputs that are not bool count as `x != 0`."
    )
    return call


logical_and: Function = _logic("logical_and", 2, np.logical_and, "AND")
logical_or: Function = _logic("logical_or", 2, np.logical_or, "OR")
logical_not: Function = _logic("logical_not", 1, np.logical_not, "NOT")

# ---- selection ----


def _where_vjp(node: Node, g: Cotangents) -> tuple[Value | None, ...]:
    condition, x, _ = node.inputs
    zero = constant(0.0, x.dtype)
    return None, where(condition, g[0], zero), where(condition, zero, g[0])


_WHERE = register(
    Op(
        "where",
        _selected,
        lambda condition, x, y: (np.asarray(np.where(condition, x, y)),),
        _where_vjp,
        kernel=_strided("where_b32", 0),
        inplace=((0, 1), (0, 2)),
        rows=broadcasting,
    )
)


def where(condition: Value, x: Value, y: Value) -> Value:
    """`x` where the condition holds, `y` elsewhere."""
    return emit(_WHERE, cast(condition, bool_), *promote(x, y)).outputs[0]


# ---- casts ----


def _cast_reference(x: np.ndarray, *, dtype: DType) -> tuple[np.ndarray, ...]:
    if dtype is bool_:
        return (x != 0,)
    if x.dtype.kind == "f" and dtype.numpy.kind in "iu":
        limits = np.iinfo(dtype.numpy)
        whole = np.trunc(np.nan_to_num(x.astype(np.float64), nan=0.0))
        return (np.clip(whole, limits.min, limits.max).astype(dtype.numpy),)
    with np.errstate(over="ignore"):
        return (x.astype(dtype.numpy),)


def _cast_vjp(node: Node, g: Cotangents) -> tuple[Value | None, ...]:
    x = node.inputs[0]
    return (cast(g[0], x.dtype) if x.dtype.is_float else None,)


CAST = register(
    Op(
        "cast",
        lambda x, *, dtype: (TensorType(x.shape, dtype),),
        _cast_reference,
        _cast_vjp,
        kernel=lambda node: Kernel(
            "cast",
            "tge_cast_params",
            {
                "from": node.inputs[0].dtype.code,
                "to": node.outputs[0].dtype.code,
                "count": node.outputs[0].size,
            },
        ),
        rows=broadcasting,
    )
)


def cast(x: Value, dtype: DType) -> Value:
    """The same numbers as another type; floats become integers by truncation, saturating."""
    return x if x.dtype is dtype else emit(CAST, x, dtype=dtype).outputs[0]
