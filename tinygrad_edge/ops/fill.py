"""Values made from nothing: constants of a rule, and counting."""

from __future__ import annotations

import numpy as np

from ..dtypes import DType, int32
from ..graph import Value, emit
from ..op import Kernel, Op, TensorType, register

FULL = register(
    Op(
        "full",
        lambda *, shape, value, dtype: (TensorType(shape, dtype),),
        lambda *, shape, value, dtype: (np.full(shape, value, dtype.numpy),),
        vjp=lambda node, g: (),
        kernel=lambda node: Kernel(
            "full",
            "tge_full_params",
            {
                "dtype": node.outputs[0].dtype.code,
                "count": node.outputs[0].size,
                "value": float(node.attrs["value"]),
            },
        ),
    )
)

_ARANGE = register(
    Op(
        "arange",
        lambda *, count: (TensorType((count,), int32),),
        lambda *, count: (np.arange(count, dtype=np.int32),),
        differentiable=False,
        kernel=lambda node: Kernel(
            "arange_i32", "tge_full_params", {"dtype": "TGE_INT32", "count": node.attrs["count"]}
        ),
    )
)


def full(shape: tuple[int, ...], value: float, dtype: DType) -> Value:
    """One number everywhere. The number is structure: it is part of the plan."""
    return emit(FULL, shape=tuple(shape), value=value, dtype=dtype).outputs[0]


def constant(value: float, dtype: DType) -> Value:
    """A 0-d number that a rule needs."""
    return full((), value, dtype)


def arange(count: int) -> Value:
    """0, 1, 2, ... as int32."""
    return emit(_ARANGE, count=count).outputs[0]
