"""Optimizer updates: one op a rule, its outputs in place of its inputs.

Rates arrive as one float64 vector, which is an input and never an attribute: changing a rate never
re-plans, and it keeps its decimal value until it is rounded, once, to the parameter's type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..dtypes import float64, int32
from ..errors import DTypeError, ShapeError
from ..graph import Node, Value, emit
from ..op import Kernel, Op, TensorType, register


def _update_type(states: int, rates: int, stepped: bool) -> Callable[..., tuple[TensorType, ...]]:
    def infer(p: Value, g: Value, *rest: Value, **_: Any) -> tuple[TensorType, ...]:
        moments, hyper = rest[:states], rest[states]
        if any(v.type != p.type for v in (g, *moments)):
            raise ShapeError("parameter, gradient and moments must have one type")
        if hyper.type != TensorType((rates,), float64):
            raise DTypeError(f"the rates must be float64[{rates}]")
        if stepped and rest[states + 1].dtype is not int32:
            raise DTypeError("the step count must be int32")
        return (p.type,) * (1 + states)

    return infer


def _rates(p: np.ndarray, *values: float) -> list[np.floating]:
    return [p.dtype.type(v) for v in values]


def _sgd(p: np.ndarray, g: np.ndarray, hyper: np.ndarray) -> tuple[np.ndarray, ...]:
    lr, decay = _rates(p, *hyper)
    return (p - lr * (g + decay * p),)


def _sgd_momentum(
    p: np.ndarray, g: np.ndarray, m: np.ndarray, hyper: np.ndarray, *, nesterov: bool
) -> tuple[np.ndarray, ...]:
    lr, decay, momentum = _rates(p, *hyper)
    g = g + decay * p
    m = momentum * m + g
    return p - lr * (g + momentum * m if nesterov else m), m


def _adam(
    p: np.ndarray,
    g: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    hyper: np.ndarray,
    step: np.ndarray,
    *,
    decoupled: bool,
) -> tuple[np.ndarray, ...]:
    lr, decay, beta1, beta2, eps = (float(h) for h in hyper)
    t = int(step)
    keep1, add1, keep2, add2 = _rates(p, beta1, 1 - beta1, beta2, 1 - beta2)
    # Bias corrections (Kingma & Ba 2015, section 2) are folded into the rate and the root.
    rate, root, tiny = _rates(p, lr / (1 - beta1**t), 1 / np.sqrt(1 - beta2**t), eps)
    if decoupled:
        p = p - p.dtype.type(lr * decay) * p
    else:
        g = g + p.dtype.type(decay) * p
    m = keep1 * m + add1 * g
    v = keep2 * v + add2 * (g * g)
    return p - rate * m / (np.sqrt(v) * root + tiny), m, v


def _rmsprop(
    p: np.ndarray, g: np.ndarray, s: np.ndarray, hyper: np.ndarray
) -> tuple[np.ndarray, ...]:
    lr, decay, alpha, eps = (float(h) for h in hyper)
    rate, weight, keep, add, tiny = _rates(p, lr, decay, alpha, 1 - alpha, eps)
    g = g + weight * p
    s = keep * s + add * (g * g)
    return p - rate * g / (np.sqrt(s) + tiny), s


def _kernel(node: Node) -> Kernel:
    fields = {
        "count": node.outputs[0].size,
        "nesterov": int(node.attrs.get("nesterov", False)),
        "decoupled": int(node.attrs.get("decoupled", False)),
    }
    return Kernel(f"{node.op.name.removesuffix('_update')}_f32", "tge_update_params", fields)


def _rule(
    name: str, states: int, rates: int, reference: Callable, flops: int, stepped: bool = False
) -> Op:
    # Inputs are p, g, moments...: output 0 replaces input 0, output i replaces input i + 1.
    pairs = ((0, 0), *((i, i + 1) for i in range(1, states + 1)))
    return register(
        Op(
            f"{name}_update",
            _update_type(states, rates, stepped),
            reference,
            differentiable=False,
            kernel=_kernel,
            flops=lambda node: flops * node.outputs[0].size,
            inplace=pairs,
        )
    )


_SGD = _rule("sgd", 0, 2, _sgd, 4)
SGD_MOMENTUM = _rule("sgd_momentum", 1, 3, _sgd_momentum, 6)
_ADAM = _rule("adam", 2, 5, _adam, 12, stepped=True)
_RMSPROP = _rule("rmsprop", 1, 4, _rmsprop, 10)

# ---- SGD with momentum over several gradients that add up ----


def _accumulate_type(
    m: Value, g: Value, p: Value, hyper: Value, done: Value
) -> tuple[TensorType, ...]:
    if any(v.type != m.type for v in (g, p)):
        raise ShapeError("moment, gradient and parameter must have one type")
    if hyper.type != TensorType((3,), float64) or done.type != TensorType((), int32):
        raise DTypeError("the rates must be float64[3] and the count of what is done int32")
    return (m.type,)


def _accumulate(
    m: np.ndarray, g: np.ndarray, p: np.ndarray, hyper: np.ndarray, done: np.ndarray
) -> tuple[np.ndarray, ...]:
    if done:
        return (m + g,)
    _, decay, momentum = _rates(p, *hyper)
    return (momentum * m + (g + decay * p),)


def _step(p: np.ndarray, m: np.ndarray, hyper: np.ndarray) -> tuple[np.ndarray, ...]:
    return (p - p.dtype.type(hyper[0]) * m,)


def _step_type(p: Value, m: Value, hyper: Value) -> tuple[TensorType, ...]:
    if m.type != p.type:
        raise ShapeError("parameter and moment must have one type")
    if hyper.type != TensorType((3,), float64):
        raise DTypeError("the rates must be float64[3]")
    return (p.type,)


_ACCUMULATE = register(
    Op(
        "sgd_momentum_accumulate",
        _accumulate_type,
        _accumulate,
        differentiable=False,
        kernel=_kernel,
        flops=lambda node: 4 * node.outputs[0].size,
        inplace=((0, 0),),
    )
)
_STEP = register(
    Op(
        "sgd_momentum_step",
        _step_type,
        _step,
        differentiable=False,
        kernel=_kernel,
        flops=lambda node: 2 * node.outputs[0].size,
        inplace=((0, 0),),
    )
)

#: Ops whose first input is the parameter that they update.
UPDATES = frozenset({_SGD, SGD_MOMENTUM, _ADAM, _RMSPROP, _STEP})


def sgd_update(p: Value, g: Value, hyper: Value) -> tuple[Value, ...]:
    """Gradient descent; hyper is (lr, weight_decay)."""
    return emit(_SGD, p, g, hyper).outputs


def sgd_momentum_update(
    p: Value, g: Value, m: Value, hyper: Value, nesterov: bool
) -> tuple[Value, ...]:
    """Gradient descent with momentum; hyper is (lr, weight_decay, momentum)."""
    return emit(SGD_MOMENTUM, p, g, m, hyper, nesterov=nesterov).outputs


def sgd_momentum_accumulate(m: Value, g: Value, p: Value, hyper: Value, done: Value) -> Value:
    """Add one of several gradients to the moment; `done` is 0 for the first.

    The first also lets the moment decay, and adds the weight decay of p.
    """
    return emit(_ACCUMULATE, m, g, p, hyper, done).outputs[0]


def sgd_momentum_step(p: Value, m: Value, hyper: Value) -> Value:
    """Gradient descent with a moment that is complete."""
    return emit(_STEP, p, m, hyper).outputs[0]


def adam_update(
    p: Value, g: Value, m: Value, v: Value, hyper: Value, step: Value, decoupled: bool
) -> tuple[Value, ...]:
    """Adam (Kingma & Ba 2015) or AdamW (Loshchilov & Hutter 2019).

    hyper is (lr, weight_decay, beta1, beta2, eps); step is 1 in the first update.
    """
    return emit(_ADAM, p, g, m, v, hyper, step, decoupled=decoupled).outputs


def rmsprop_update(p: Value, g: Value, s: Value, hyper: Value) -> tuple[Value, ...]:
    """RMSprop (Tieleman & Hinton 2012); hyper is (lr, weight_decay, alpha, eps)."""
    return emit(_RMSPROP, p, g, s, hyper).outputs
